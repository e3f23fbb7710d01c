/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters: made from what is known, hosts that follow the endpoints, the choice of a host,
 * ejection, whether a connection is to be mTLS, and the end of all of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/hash.h"
#include "proxy/control.h"
#include "proxy/upstream/choose.h"
#include "proxy/upstream/upstream.h"
#include "proxy/worker.h"
#include "tests/unit/tcase.h"

static struct clock clk;
static struct loop *control_loop;
static struct control control;
static struct worker *w;

static void setup(void)
{
    struct err err = {0};

    log_threshold = LOG_ERROR;
    clock_init_virtual(&clk, 0);
    ck_assert_int_eq(loop_new(&clk, &control_loop, &err), 0);
    ck_assert_int_eq(control_init(&control, control_loop, &err), 0);
    ck_assert_int_eq(worker_new(0, &clk, &limits_default, &control, NULL, NULL, 0, &w, &err), 0);
    loop_seed(w->loop, 7);
    ck_assert_int_eq(control_add_worker(&control, w, &err), 0);
}

static void teardown(void)
{
    worker_free(w);
    control_fini(&control);
    loop_free(control_loop);
}

static void learn(enum prog_kind kind, const char *key, struct prog *prog)
{
    struct know_batch *b = mem_zalloc(sizeof *b);

    ck_assert_int_eq(know_batch_add(b, kind, prog ? PROG_VALUE : PROG_ABSENT, slice_str(key), prog),
                     0);
    control_learn(&control, b);
    loop_turn(w->loop, 0, NULL);
}

/* A service with one cluster "c" of the endpoints "e"; `tweak` changes the cluster. */
static struct prog_service *service(const char *key, void (*tweak)(struct prog_cluster *))
{
    struct prog_service *s = prog_new(PROG_SERVICE, sizeof *s, slice_str(key), SLICE_NULL);

    s->clusters = ARENA_ARRAY(&s->prog.arena, struct prog_cluster, 1);
    s->n_clusters = 1;
    s->clusters[0].name = SL("c");
    s->clusters[0].endpoints.p = ARENA_ARRAY(&s->prog.arena, struct slice, 1);
    s->clusters[0].endpoints.p[0] = SL("e");
    s->clusters[0].endpoints.n = 1;
    if (tweak)
        tweak(&s->clusters[0]);
    return s;
}

/* Endpoints 127.0.0.<digit>:80 for each digit; a capital letter in front changes the next one: W
 * weight 3, D draining, M mTLS, S subset 1. */
static struct prog *endpoints(const char *what)
{
    struct prog_endpoints *e = prog_new(PROG_ENDPOINTS, sizeof *e, SL("e"), SLICE_NULL);
    struct prog_endpoint next = {
        .weight = 1, .identity = UINT16_MAX, .port = 80, .address_len = 4, .address = {127}};

    e->p = ARENA_ARRAY(&e->prog.arena, struct prog_endpoint, strlen(what));
    e->selectors = ARENA_ARRAY(&e->prog.arena, uint64_t, 1);
    e->selectors[0] = 11;
    e->n_selectors = 1;
    struct prog_endpoint now = next;
    for (; *what; what++) {
        switch (*what) {
        case 'W':
            now.weight = 3;
            break;
        case 'D':
            now.draining = true;
            break;
        case 'M':
            now.mtls = true;
            break;
        case 'S':
            now.subsets = 1;
            break;
        default:
            now.address[3] = (unsigned char)(*what - '0');
            e->p[e->n++] = now;
            now = next;
        }
    }
    return &e->prog;
}

static struct up_cluster *cluster(const char *eps, void (*tweak)(struct prog_cluster *))
{
    struct prog_service *s = NULL;

    learn(PROG_ENDPOINTS, "e", endpoints(eps));
    learn(PROG_SERVICE, "s", &service("s", tweak)->prog);
    ck_assert_int_eq(know_service(&w->know, SL("s"), &s), KNOW_VALUE);
    return up_cluster_get(w, s, 0);
}

static int digit(const struct up_host *h)
{
    return ((const unsigned char *)sock_addr_bytes(&h->addr).p)[3];
}

/* Which hosts are chosen in 300 tries: "1:100 2:200" in order. */
static const char *picks(struct up_cluster *c)
{
    static char text[128];
    int n[10] = {0};
    size_t at = 0;
    struct up_host *h;

    for (int i = 0; i < 300; i++)
        if (up_pick(c, NULL, &h) == ERR_OK)
            n[digit(h)]++;
    text[0] = '\0';
    for (int i = 0; i < 10; i++)
        if (n[i])
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%d:%d", at ? " " : "", i, n[i]);
    return text;
}

static void subset(struct prog_cluster *c)
{
    c->subset_selector = 11;
}
static void unknown_subset(struct prog_cluster *c)
{
    c->subset_selector = 12;
}

static const struct {
    const char *name, *endpoints, *want;
    void (*tweak)(struct prog_cluster *);
} choices[] = {
    {"in turn", "123", "1:100 2:100 3:100", NULL},
    {"by weight", "1W2", "1:75 2:225", NULL},
    {"draining ones only when there is no other", "D12", "2:300", NULL},
    {"draining ones when there is no other", "D1D2", "1:150 2:150", NULL},
    {"subset", "1S23", "2:300", subset},
    {"no endpoint in the subset", "12", "", subset},
    {"a subset that the endpoints do not know", "1S2", "", unknown_subset},
    {"no endpoints", "", "", NULL},
};

START_TEST(choice)
{
    struct up_cluster *c = cluster(choices[_i].endpoints, choices[_i].tweak);

    ck_assert_msg(strcmp(picks(c), choices[_i].want) == 0, "%s: %s", choices[_i].name, picks(c));
    up_cluster_unref(c);
}
END_TEST

static void looked_up(struct prog_cluster *c)
{
    static struct slice name = {"127.0.0.9:80", 12}; /* known without a question */

    c->dns = (struct prog_strings){&name, 1};
}

static void looked_up_first(struct prog_cluster *c)
{
    looked_up(c);
    c->endpoints.n = 0;
    c->dns_first = true;
}

/* Endpoints with addresses, endpoints with names and their traits, and the cluster's own name. */
START_TEST(names_give_hosts)
{
    static struct slice name = {"127.0.0.8:81", 12};
    struct prog_endpoints *e = (struct prog_endpoints *)endpoints("1W5");
    struct prog_service *s = NULL;
    struct up_cluster *c;

    e->n = e->n_named = 1; /* the second one's place is taken by the name */
    e->names = (struct prog_strings){&name, 1};
    learn(PROG_ENDPOINTS, "e", &e->prog);
    learn(PROG_SERVICE, "s", &service("s", looked_up)->prog);
    ck_assert_int_eq(know_service(&w->know, SL("s"), &s), KNOW_VALUE);
    c = up_cluster_get(w, s, 0);
    ck_assert_str_eq(picks(c), "1:60 8:180 9:60");
    /* Wanted no more, and after a while forgotten. */
    learn(PROG_ENDPOINTS, "e", endpoints("1"));
    ck_assert_str_eq(picks(c), "1:150 9:150");
    ck_assert_uint_eq(control.hostnames.hosts.len, 2);
    clock_advance(&clk, (HOSTNAMES_LINGER_S + 1) * NS_PER_S);
    loop_turn(control_loop, 0, NULL);
    ck_assert_uint_eq(control.hostnames.hosts.len, 1);
    up_cluster_unref(c);
}
END_TEST

/* The one host of a cluster that goes to a name's first address moves with it, and is the same. */
START_TEST(first_address_moves)
{
    struct prog_endpoints *e = (struct prog_endpoints *)endpoints("67");
    struct up_cluster *c = cluster("1", looked_up_first);
    struct up_host *before, *after;

    ck_assert_int_eq(up_pick(c, NULL, &before), ERR_OK);
    ck_assert_int_eq(digit(before), 9);
    e->first = 1;
    control.hostnames.changed(control.hostnames.user, SL("127.0.0.9:80"), e, false);
    loop_turn(w->loop, 0, NULL);
    ck_assert_int_eq(up_pick(c, NULL, &after), ERR_OK);
    ck_assert_ptr_eq(before, after);
    ck_assert_int_eq(digit(after), 7);
    ck_assert(!after->gone);
    /* No address any more. */
    control.hostnames.changed(control.hostnames.user, SL("127.0.0.9:80"), NULL, false);
    loop_turn(w->loop, 0, NULL);
    ck_assert_int_eq(up_pick(c, NULL, &after), ERR_NOT_FOUND);
    up_cluster_unref(c);
}
END_TEST

START_TEST(tried_hosts_are_avoided)
{
    struct up_cluster *c = cluster("12", NULL);
    struct up_host *first, *h;

    ck_assert_int_eq(up_pick(c, NULL, &first), ERR_OK);
    struct up_choice how = {.tried = &first, .n_tried = 1};
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(up_pick(c, &how, &h), ERR_OK);
        ck_assert_ptr_ne(h, first);
    }
    up_cluster_unref(c);
}
END_TEST

/* Hosts that stay keep what they are; who is gone takes nothing new and lives while it is in use.
 */
START_TEST(endpoints_change)
{
    struct up_cluster *c = cluster("12", NULL);
    struct up_host *one = NULL, *two = NULL;

    for (int i = 0; i < 2; i++) {
        struct up_host *h;
        ck_assert_int_eq(up_pick(c, NULL, &h), ERR_OK);
        *(digit(h) == 1 ? &one : &two) = up_host_ref(h);
    }
    up_host_begin(one);
    up_host_begin(two);
    learn(PROG_ENDPOINTS, "e", endpoints("32"));
    ck_assert(one->gone);
    ck_assert(!two->gone);
    ck_assert_uint_eq(two->active, 1);
    ck_assert_str_eq(picks(c), "2:150 3:150");
    up_host_end(one);
    up_host_end(two);
    up_host_unref(one); /* frees it; ASan watches */
    up_host_unref(two);
    learn(PROG_ENDPOINTS, "e", NULL);
    ck_assert_str_eq(picks(c), "");
    up_cluster_unref(c);
}
END_TEST

/* The policy of a test's cluster: these live as long as the test. */
static struct prog_policy policy;
static struct prog_outlier outlier;
static struct prog_hash hashing;
static struct prog_locality places;

static void ejects(struct prog_cluster *c)
{
    outlier = (struct prog_outlier){.consecutive_5xx = 3,
                                    .base_ejection_ms = 10000,
                                    .interval_ms = 1000,
                                    .max_ejection_percent = 100};
    policy = (struct prog_policy){.outlier = &outlier};
    c->policy = &policy;
}
static void ejects_gateway(struct prog_cluster *c)
{
    ejects(c);
    outlier.consecutive_5xx = 0;
    outlier.consecutive_gateway = 3;
}
static void ejects_few(struct prog_cluster *c)
{
    ejects(c);
    outlier.max_ejection_percent = 10;
}
static void ejects_local(struct prog_cluster *c)
{
    ejects(c);
    outlier.split_local = true;
    outlier.consecutive_local = 2;
}
static void panics(struct prog_cluster *c)
{
    ejects(c);
    outlier.min_health_percent = 50;
}

static struct up_host *host(struct up_cluster *c, int which)
{
    for (uint32_t i = 0; i < c->n_hosts; i++)
        if (digit(c->hosts[i]) == which)
            return c->hosts[i];
    ck_abort_msg("no such host");
    return NULL;
}

/* Statuses of host 1, 0 for a connection that failed; then which hosts are chosen. */
static const struct {
    const char *name;
    void (*tweak)(struct prog_cluster *);
    int status[4];
    bool ejected;
} health[] = {
    {"three in a row", ejects, {500, 503, 500, -1}, true},
    {"two are not enough", ejects, {500, 503, -1}, false},
    {"a good one begins anew", ejects, {500, 500, 200, 500}, false},
    {"failed connections count", ejects, {0, 0, 0, -1}, true},
    {"no detection", NULL, {500, 500, 500, 500}, false},
    {"only gateway errors count", ejects_gateway, {500, 500, 500, 500}, false},
    {"gateway errors", ejects_gateway, {502, 503, 504, -1}, true},
    {"at least one may be ejected", ejects_few, {500, 500, 500, -1}, true},
    {"own failures apart", ejects_local, {0, 0, -1}, true},
    {"an answer shows that it can be reached", ejects_local, {0, 500, 0, -1}, false},
};

START_TEST(ejection)
{
    struct up_cluster *c = cluster("12", health[_i].tweak);

    for (int i = 0; i < 4 && health[_i].status[i] >= 0; i++)
        up_host_result(host(c, 1), (unsigned)health[_i].status[i], health[_i].status[i] == 0);
    ck_assert_msg(strcmp(picks(c), health[_i].ejected ? "2:300" : "1:150 2:150") == 0, "%s: %s",
                  health[_i].name, picks(c));
    up_cluster_unref(c);
}
END_TEST

static void eject(struct up_cluster *c, int which)
{
    for (int i = 0; i < 3; i++)
        up_host_result(host(c, which), 500, false);
}

static void advance(int64_t s)
{
    clock_advance(&clk, s * NS_PER_S);
    loop_turn(w->loop, 0, NULL);
}

START_TEST(ejection_ends)
{
    struct up_cluster *c = cluster("12", ejects);

    eject(c, 1);
    advance(9);
    ck_assert_str_eq(picks(c), "2:300");
    advance(1);
    ck_assert_str_eq(picks(c), "1:150 2:150");
    eject(c, 1); /* the second time it is twice as long */
    advance(19);
    ck_assert_str_eq(picks(c), "2:300");
    advance(1);
    ck_assert_str_eq(picks(c), "1:150 2:150");
    eject(c, 1);
    eject(c, 2); /* all of them: nobody is left, as with Istio's minHealthPercent of 0 */
    ck_assert_uint_eq(c->ejected, 2);
    ck_assert_str_eq(picks(c), "");
    learn(PROG_ENDPOINTS, "e", endpoints("1"));
    ck_assert_uint_eq(c->ejected, 1);
    up_cluster_unref(c);
}
END_TEST

/* Fewer healthy ones than minHealthPercent: all are used. */
START_TEST(panic_uses_all)
{
    struct up_cluster *c = cluster("1234", panics);

    eject(c, 1);
    eject(c, 2);
    ck_assert_str_eq(picks(c), "3:150 4:150");
    eject(c, 3);
    ck_assert_str_eq(picks(c), "1:75 2:75 3:75 4:75");
    eject(c, 4);
    ck_assert_str_eq(picks(c), "1:75 2:75 3:75 4:75");
    up_cluster_unref(c);
}
END_TEST

static void hashes(struct prog_cluster *c)
{
    ejects(c);
    hashing = (struct prog_hash){.size = 1024};
    policy.hash = &hashing;
    c->balancer = PROG_HASH;
}
static void hashes_maglev(struct prog_cluster *c)
{
    hashes(c);
    hashing.maglev = true;
    hashing.size = 1009;
}

static void owners(struct up_cluster *c, char ret[200])
{
    for (uint64_t k = 0; k < 200; k++) {
        struct up_host *h;
        struct up_choice how = {.hashed = true, .hash = hash64(slice_of(&k, sizeof k), 7)};
        ck_assert_int_eq(up_pick(c, &how, &h), ERR_OK);
        ret[k] = (char)('0' + digit(h));
    }
}

/* Keys of an ejected host alone go elsewhere, and come back with it; a table serves all that hash the
 * same hosts. */
START_TEST(consistent_hash)
{
    struct up_cluster *c = cluster("12345", _i ? hashes_maglev : hashes);
    char before[200], out[200], again[200];
    size_t bytes;

    ck_assert_uint_eq(up_tables(&bytes), 0); /* made when it is needed */
    owners(c, before);
    ck_assert_uint_eq(up_tables(&bytes), 1);
    eject(c, 3);
    owners(c, out);
    for (int i = 0; i < 200; i++) {
        ck_assert(out[i] != '3');
        ck_assert(before[i] == '3' || before[i] == out[i]);
    }
    for (uint64_t k = 0; k < 50; k++) { /* a retry goes elsewhere */
        struct up_host *first, *h;
        struct up_choice how = {.hashed = true, .hash = k * 77777777777};
        ck_assert_int_eq(up_pick(c, &how, &first), ERR_OK);
        how.tried = &first;
        how.n_tried = 1;
        ck_assert_int_eq(up_pick(c, &how, &h), ERR_OK);
        ck_assert_ptr_ne(h, first);
    }
    advance(20);
    owners(c, again);
    ck_assert_mem_eq(before, again, sizeof again);
    ck_assert_uint_eq(up_tables(&bytes), 1);
    /* Without a key any healthy host. */
    eject(c, 1);
    ck_assert_ptr_null(strchr(picks(c), '1') == picks(c) ? picks(c) : NULL);
    up_cluster_unref(c);
    learn(PROG_SERVICE, "s", NULL);
    ck_assert_uint_eq(up_tables(&bytes), 0);
}
END_TEST

static struct prog_inbound *self_in(const char *place)
{
    struct prog_inbound *in = prog_new(PROG_INBOUND, sizeof *in, SL(""), SLICE_NULL);

    in->self.locality = arena_slice(&in->prog.arena, slice_str(place));
    return in;
}

static void near_first(struct prog_cluster *c)
{
    ejects(c);
    places = (struct prog_locality){0};
    policy.locality = &places;
}
static void to_both(struct prog_cluster *c)
{
    static struct prog_share to[] = {{SL("r/a"), 70}, {SL("r/b"), 30}};
    static struct prog_distribute d[] = {{SL("r/*"), to, 2}};

    near_first(c);
    places.distribute = d;
    places.n_distribute = 1;
}

/* Endpoints 1 to 4 in r/a, r/a, r/b and s/a. */
static void learn_places(void)
{
    static const uint16_t at[] = {0, 0, 1, 2};
    struct prog_endpoints *e = (struct prog_endpoints *)endpoints("1234");

    e->localities.p = ARENA_ARRAY(&e->prog.arena, struct slice, 3);
    e->localities.p[0] = SL("r/a");
    e->localities.p[1] = SL("r/b");
    e->localities.p[2] = SL("s/a");
    e->localities.n = 3;
    for (int i = 0; i < 4; i++)
        e->p[i].locality = at[i];
    learn(PROG_ENDPOINTS, "e", &e->prog);
}

START_TEST(places_in_order)
{
    struct up_cluster *c = cluster("1", near_first);
    struct up_host *first, *h;

    learn_places();
    learn(PROG_INBOUND, "", &self_in("r/a")->prog);
    ck_assert_str_eq(picks(c), "1:150 2:150");
    eject(c, 1); /* half of the zone carries 70 %, its region the rest */
    const char *got = picks(c);
    ck_assert_msg(strncmp(got, "2:", 2) == 0 && strstr(got, " 3:") && !strstr(got, "4:"), "%s", got);
    eject(c, 2);
    ck_assert_str_eq(picks(c), "3:300");
    eject(c, 3);
    ck_assert_str_eq(picks(c), "4:300");
    advance(20);
    ck_assert_str_eq(picks(c), "1:150 2:150");
    ck_assert_int_eq(up_pick(c, NULL, &first), ERR_OK);
    struct up_choice how = {.tried = &first, .n_tried = 1, .elsewhere = true};
    ck_assert_int_eq(up_pick(c, &how, &h), ERR_OK);
    ck_assert_int_eq(digit(h), 3);
    learn(PROG_INBOUND, "", &self_in("s/a")->prog); /* the proxy is elsewhere */
    ck_assert_str_eq(picks(c), "4:300");
    up_cluster_unref(c);
}
END_TEST

START_TEST(places_by_share)
{
    struct up_cluster *c = cluster("1", to_both);
    int n[5] = {0};

    learn_places();
    learn(PROG_INBOUND, "", &self_in("r/a")->prog);
    for (int i = 0; i < 10000; i++) {
        struct up_host *h;
        ck_assert_int_eq(up_pick(c, NULL, &h), ERR_OK);
        n[digit(h)]++;
    }
    ck_assert_int_eq(n[4], 0);
    ck_assert_int_ge(n[1] + n[2], 6700);
    ck_assert_int_le(n[1] + n[2], 7300);
    ck_assert_int_le(abs(n[1] - n[2]), 300);
    learn(PROG_INBOUND, "", &self_in("s/a")->prog); /* the distribution is not for it */
    ck_assert_str_eq(picks(c), "1:75 2:75 3:75 4:75");
    up_cluster_unref(c);
}
END_TEST

static void tls_disable(struct prog_cluster *c)
{
    c->tls = PROG_TLS_DISABLE;
}
static void tls_mutual(struct prog_cluster *c)
{
    c->tls = PROG_TLS_MUTUAL_MESH;
}

static void tls_simple(struct prog_cluster *c)
{
    c->tls = PROG_TLS_SIMPLE;
    c->original_dst = true;
}

static const struct {
    const char *name, *endpoints;
    void (*tweak)(struct prog_cluster *);
    enum err_code want;
    bool tls;
} security[] = {
    {"auto, no sidecar there", "1", NULL, ERR_OK, false},
    {"auto, sidecar there", "M1", NULL, ERR_OK, true},
    {"disabled", "M1", tls_disable, ERR_OK, false},
    {"demanded", "M1", tls_mutual, ERR_OK, true},
    {"demanded, no sidecar there: never plaintext", "1", tls_mutual, ERR_DENIED, false},
    {"the cluster's own, whatever is there", "1", tls_simple, ERR_OK, true},
};

START_TEST(mutual_tls)
{
    struct up_cluster *c = cluster(security[_i].endpoints, security[_i].tweak);
    bool tls = security[_i].want != ERR_OK && security[_i].tls;

    ck_assert_msg(up_host_tls(host(c, 1), &tls) == security[_i].want, "%s", security[_i].name);
    ck_assert_msg(tls == security[_i].tls, "%s", security[_i].name);
    up_cluster_unref(c);
}
END_TEST

/* A newer description replaces the old one in place; a service that is gone takes its cluster
 * along. */
START_TEST(service_changes)
{
    struct up_cluster *c = cluster("1M2", NULL), *same;
    struct prog_service *s = NULL;

    ck_assert_int_eq(c->cfg->tls, PROG_TLS_AUTO);
    learn(PROG_SERVICE, "s", &service("s", tls_mutual)->prog);
    ck_assert_int_eq(c->cfg->tls, PROG_TLS_MUTUAL_MESH);
    ck_assert_int_eq(know_service(&w->know, SL("s"), &s), KNOW_VALUE);
    same = up_cluster_get(w, s, 0);
    ck_assert_ptr_eq(same, c);
    up_cluster_unref(same);
    /* Another service that names it has it then: the first one's end does not touch it. */
    learn(PROG_SERVICE, "t", &service("t", NULL)->prog);
    ck_assert_int_eq(c->cfg->tls, PROG_TLS_AUTO);
    learn(PROG_SERVICE, "s", NULL);
    ck_assert_uint_eq(w->clusters.len, 1);
    ck_assert_uint_eq(c->n_hosts, 2);
    learn(PROG_SERVICE, "t", NULL);
    ck_assert_uint_eq(w->clusters.len, 0);
    ck_assert_uint_eq(c->n_hosts, 0);
    ck_assert_str_eq(picks(c), "");
    up_cluster_unref(c);
}
END_TEST

/* Pass-through and the application: one host, plaintext, gone with its last user. */
START_TEST(direct)
{
    struct sock_addr addr;
    struct up_host *h;
    bool tls = true;

    ck_assert_int_eq(sock_addr_parse(SL("127.0.0.9"), 80, &addr), 0);
    struct up_cluster *c = up_cluster_direct(w, "PassthroughCluster", &addr);
    struct up_cluster *same = up_cluster_direct(w, "PassthroughCluster", &addr);
    ck_assert_ptr_eq(c, same);
    up_cluster_unref(same);
    ck_assert_int_eq(up_pick(c, NULL, &h), ERR_OK);
    ck_assert_int_eq(up_host_tls(h, &tls), ERR_OK);
    ck_assert(!tls);
    ck_assert_uint_eq(w->clusters.len, 1);
    up_cluster_unref(c);
    ck_assert_uint_eq(w->clusters.len, 0);
}
END_TEST

/* What a client dialled, with the TLS that its service asks for: a cluster of its own for each address,
 * gone with its last user. */
START_TEST(dialled_with_tls)
{
    struct sock_addr one, two;
    struct prog_service *s = NULL;

    ck_assert_int_eq(sock_addr_parse(SL("127.0.0.8"), 443, &one), 0);
    ck_assert_int_eq(sock_addr_parse(SL("127.0.0.9"), 443, &two), 0);
    learn(PROG_ENDPOINTS, "e", endpoints("1"));
    learn(PROG_SERVICE, "s", &service("s", tls_simple)->prog);
    ck_assert_int_eq(know_service(&w->know, SL("s"), &s), KNOW_VALUE);
    struct up_cluster *a = up_cluster_dialled(w, s, 0, &one), *b = up_cluster_dialled(w, s, 0, &two),
                      *again = up_cluster_dialled(w, s, 0, &one);
    ck_assert_ptr_eq(a, again);
    ck_assert_ptr_ne(a, b);
    ck_assert_int_eq(a->cfg->tls, PROG_TLS_SIMPLE);
    up_cluster_unref(again);
    learn(PROG_ENDPOINTS, "e", endpoints("23")); /* not its endpoints */
    ck_assert_uint_eq(a->n_hosts, 1);
    ck_assert_str_eq(picks(a), "8:300");
    learn(PROG_SERVICE, "s", NULL); /* those under way keep what they have */
    ck_assert_str_eq(picks(b), "9:300");
    up_cluster_unref(a);
    up_cluster_unref(b);
    ck_assert_uint_eq(w->clusters.len, 0);
}
END_TEST

START_TEST(out_of_memory)
{
    struct prog_service *s = NULL;

    learn(PROG_ENDPOINTS, "e", endpoints("123"));
    learn(PROG_SERVICE, "s", &service("s", NULL)->prog);
    ck_assert_int_eq(know_service(&w->know, SL("s"), &s), KNOW_VALUE);
    OOM_SWEEP (n) {
        struct up_cluster *c = up_cluster_get(w, s, 0);
        struct up_host *h;
        if (c && up_pick(c, NULL, &h) == ERR_OK)
            ck_assert(!h->gone);
        up_cluster_unref(c);
        up_fini(w); /* allocates nothing */
    }
}
END_TEST

TESTS(cluster)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, choice, 0, N_OF(choices));
    tcase_add_test(tc, names_give_hosts);
    tcase_add_test(tc, first_address_moves);
    tcase_add_test(tc, tried_hosts_are_avoided);
    tcase_add_test(tc, endpoints_change);
    tcase_add_loop_test(tc, ejection, 0, N_OF(health));
    tcase_add_test(tc, ejection_ends);
    tcase_add_test(tc, panic_uses_all);
    tcase_add_loop_test(tc, consistent_hash, 0, 2);
    tcase_add_test(tc, places_in_order);
    tcase_add_test(tc, places_by_share);
    tcase_add_loop_test(tc, mutual_tls, 0, N_OF(security));
    tcase_add_test(tc, service_changes);
    tcase_add_test(tc, direct);
    tcase_add_test(tc, dialled_with_tls);
    tcase_add_test(tc, out_of_memory);
}
