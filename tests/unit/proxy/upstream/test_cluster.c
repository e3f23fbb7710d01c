/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters: made from what is known, hosts that follow the endpoints, the choice of a host,
 * ejection, whether a connection is to be mTLS, and the end of all of it. */
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/control.h"
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
        if (up_pick(c, NULL, 0, &h) == ERR_OK)
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

START_TEST(tried_hosts_are_avoided)
{
    struct up_cluster *c = cluster("12", NULL);
    struct up_host *first, *h;

    ck_assert_int_eq(up_pick(c, NULL, 0, &first), ERR_OK);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(up_pick(c, &first, 1, &h), ERR_OK);
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
        ck_assert_int_eq(up_pick(c, NULL, 0, &h), ERR_OK);
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

static void ejects(struct prog_cluster *c)
{
    c->outlier.consecutive_5xx = 3;
    c->outlier.base_ejection_ms = 10000;
    c->outlier.max_ejection_percent = 100;
}
static void ejects_gateway(struct prog_cluster *c)
{
    ejects(c);
    c->outlier.consecutive_5xx = 0;
    c->outlier.consecutive_gateway = 3;
}
static void ejects_few(struct prog_cluster *c)
{
    ejects(c);
    c->outlier.max_ejection_percent = 10;
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
    advance(2);
    ck_assert_str_eq(picks(c), "1:150 2:150");
    eject(c, 1); /* the second time it is twice as long */
    advance(19);
    ck_assert_str_eq(picks(c), "2:300");
    advance(2);
    ck_assert_str_eq(picks(c), "1:150 2:150");
    eject(c, 1);
    eject(c, 2); /* all of them: all are used, a guess beats a certain refusal */
    ck_assert_uint_eq(c->ejected, 2);
    ck_assert_str_eq(picks(c), "1:150 2:150");
    learn(PROG_ENDPOINTS, "e", endpoints("1"));
    ck_assert_uint_eq(c->ejected, 1);
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

    ck_assert_int_eq(c->cfg.tls, PROG_TLS_AUTO);
    learn(PROG_SERVICE, "s", &service("s", tls_mutual)->prog);
    ck_assert_int_eq(c->cfg.tls, PROG_TLS_MUTUAL_MESH);
    ck_assert_int_eq(know_service(&w->know, SL("s"), &s), KNOW_VALUE);
    same = up_cluster_get(w, s, 0);
    ck_assert_ptr_eq(same, c);
    up_cluster_unref(same);
    /* Another service that names it has it then: the first one's end does not touch it. */
    learn(PROG_SERVICE, "t", &service("t", NULL)->prog);
    ck_assert_int_eq(c->cfg.tls, PROG_TLS_AUTO);
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
    ck_assert_int_eq(up_pick(c, NULL, 0, &h), ERR_OK);
    ck_assert_int_eq(up_host_tls(h, &tls), ERR_OK);
    ck_assert(!tls);
    ck_assert_uint_eq(w->clusters.len, 1);
    up_cluster_unref(c);
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
        if (c && up_pick(c, NULL, 0, &h) == ERR_OK)
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
    tcase_add_test(tc, tried_hosts_are_avoided);
    tcase_add_test(tc, endpoints_change);
    tcase_add_loop_test(tc, ejection, 0, N_OF(health));
    tcase_add_test(tc, ejection_ends);
    tcase_add_loop_test(tc, mutual_tls, 0, N_OF(security));
    tcase_add_test(tc, service_changes);
    tcase_add_test(tc, direct);
    tcase_add_test(tc, out_of_memory);
}
