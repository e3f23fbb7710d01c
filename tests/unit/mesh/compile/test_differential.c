/* SPDX-License-Identifier: Apache-2.0 */
/* Random VirtualServices and random requests: what is compiled, sent over the wire and matched
 * chooses the route that a naive reading of the reference chooses. Texts are drawn from few, so
 * that they often meet. */
#include <stdio.h>
#include <strings.h>

#include "lib/base/rand.h"
#include "mesh/match/route.h"
#include "tests/unit/mesh/compile/picture.h"
#include "tests/unit/tcase.h"

enum { PROGRAMS = 250, REQUESTS = 30, ROUTES = 4, MATCHES = 3, SEEDS = 2 };

/* --- texts and expressions whose meaning is written out
 * ------------------------------------------- */
static bool re_a(const char *s)
{
    return strncmp(s, "/a", 2) == 0;
}
static bool re_v(const char *s)
{
    return strlen(s) == 3 && strncmp(s, "/v", 2) == 0 && s[2] >= '0' && s[2] <= '9';
}
static bool re_some(const char *s)
{
    return *s != '\0';
}
static bool re_bc(const char *s)
{
    return strcmp(s, "b") == 0 || strcmp(s, "c") == 0;
}
static const struct {
    const char *text;
    bool (*holds)(const char *);
} regexes[] = {{"/a.*", re_a}, {"/v[0-9]", re_v}, {".+", re_some}, {"b|c", re_bc}};

static const char *const paths[] = {"/", "/a", "/A", "/a/b", "/ab", "/v1", "/v1/x", "/b", "/B/c"};
static const char *const uri_texts[] = {"/", "/a", "/a/", "/A", "/v1", "/b", "/B", "/v"};
static const char *const queries[] = {"", "?q=b", "?q=c&q=b", "?q", "?r=b", "?xq=b&q=bc"};
static const char *const values[] = {"b", "bc", "c", "b,c", "B"};
static const char *const methods[] = {"GET", "POST", "GETX"};
static const char *const authorities[] = {"web", "web:80", "web.shop", "other"};

#define PICK(r, list) (list)[rnd_below(r, N_OF(list))]

/* --- the object as it is meant
 * ---------------------------------------------------------------------- */
enum how { UNSET, PRESENT, EXACT, PREFIX, REGEX };
struct text {
    enum how how;
    const char *value;
    int regex;
};
struct cond {
    struct text uri, method, authority, x, no_y, q;
    bool any_case;
    int port;    /* 0: none */
    int label;   /* 0: none, 1: the client's, 2: another */
    int ns;      /* the same */
    int gateway; /* the same */
};
struct route {
    struct cond m[MATCHES];
    unsigned n;
};

static struct text draw(struct rnd *r, const char *const *texts, size_t n, bool present,
                        unsigned rare)
{
    struct text t = {UNSET, "", 0};

    if (rnd_below(r, rare))
        return t;
    t.how = (enum how)(present ? PRESENT + rnd_below(r, 4) : EXACT + rnd_below(r, 3));
    if (t.how == REGEX)
        t.regex = (int)rnd_below(r, N_OF(regexes));
    else if (t.how != PRESENT)
        t.value = texts[rnd_below(r, (uint32_t)n)];
    return t;
}

static int third(struct rnd *r)
{
    uint32_t d = rnd_below(r, 12);

    return d < 2 ? (int)d + 1 : 0;
}

static void draw_cond(struct rnd *r, struct cond *c)
{
    c->uri = draw(r, uri_texts, N_OF(uri_texts), false, 2);
    c->method = draw(r, methods, N_OF(methods), false, 5);
    c->authority = draw(r, authorities, N_OF(authorities), false, 6);
    c->x = draw(r, values, N_OF(values), true, 3);
    c->no_y = draw(r, values, N_OF(values), true, 4);
    c->q = draw(r, values, N_OF(values), true, 4);
    c->any_case = rnd_below(r, 3) == 0;
    c->port = third(r) * 80;
    c->label = third(r);
    c->ns = third(r);
    c->gateway = third(r);
}

static void write_text(struct buf *out, const char *key, const struct text *t)
{
    static const char *const names[] = {"", "", "exact", "prefix", "regex"};

    if (t->how == UNSET)
        return;
    buf_addf(out, "%s: {", key);
    if (t->how != PRESENT)
        buf_addf(out, "%s: '%s'", names[t->how],
                 t->how == REGEX ? regexes[t->regex].text : t->value);
    buf_add_str(out, "}, ");
}

static void write_cond(struct buf *out, const struct cond *c)
{
    buf_add_str(out, "{");
    write_text(out, "uri", &c->uri);
    write_text(out, "method", &c->method);
    write_text(out, "authority", &c->authority);
    if (c->x.how) {
        buf_add_str(out, "headers: {");
        write_text(out, "X-X", &c->x);
        buf_add_str(out, "}, ");
    }
    if (c->no_y.how) {
        buf_add_str(out, "withoutHeaders: {");
        write_text(out, "x-y", &c->no_y);
        buf_add_str(out, "}, ");
    }
    if (c->q.how) {
        buf_add_str(out, "queryParams: {");
        write_text(out, "q", &c->q);
        buf_add_str(out, "}, ");
    }
    if (c->any_case)
        buf_add_str(out, "ignoreUriCase: true, ");
    if (c->port)
        buf_addf(out, "port: %d, ", c->port);
    if (c->label)
        buf_addf(out, "sourceLabels: {app: %s}, ", c->label == 1 ? "client" : "other");
    if (c->ns)
        buf_addf(out, "sourceNamespace: %s, ", c->ns == 1 ? "shop" : "bank");
    if (c->gateway)
        buf_addf(out, "gateways: [%s], ", c->gateway == 1 ? "elsewhere/g, mesh" : "elsewhere/g");
    buf_add_str(out, "name: m}, ");
}

static void write_vs(struct buf *out, const struct route *all, unsigned n)
{
    buf_add_str(out, "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                     "metadata: {name: web, namespace: shop}\nspec: {hosts: [web], http: [");
    for (unsigned i = 0; i < n; i++) {
        buf_addf(out, "{name: r%u, directResponse: {status: 200}", i);
        if (all[i].n) {
            buf_add_str(out, ", match: [");
            for (unsigned k = 0; k < all[i].n; k++)
                write_cond(out, &all[i].m[k]);
            buf_add_str(out, "]");
        }
        buf_add_str(out, "}, ");
    }
    buf_add_str(out, "]}\n");
}

/* --- the naive reading
 * ------------------------------------------------------------------------------ */
struct req {
    const char *method, *authority, *path, *query;
    const char *x[2], *y[2]; /* lines of the two fields */
    unsigned n_x, n_y;
};

static bool naive_text(const struct text *t, const char *s, bool any_case)
{
    size_t n = strlen(t->value);

    switch (t->how) {
    case EXACT:
        return any_case ? strcasecmp(s, t->value) == 0 : strcmp(s, t->value) == 0;
    case PREFIX:
        return any_case ? strncasecmp(s, t->value, n) == 0 : strncmp(s, t->value, n) == 0;
    case REGEX:
        return regexes[t->regex].holds(s);
    default:
        return true;
    }
}

static const char *lines(const char *const *l, unsigned n, char *to)
{
    if (n == 0)
        return NULL;
    sprintf(to, n == 1 ? "%s" : "%s,%s", l[0], n == 1 ? "" : l[1]);
    return to;
}

/* The first value of q; NULL: there is none. */
static const char *query_of(const char *query, char *to)
{
    const char *p = query;

    while (*p) {
        const char *key = p + 1, *end = key + strcspn(key, "&");

        if (*key == 'q' && (key + 1 == end || key[1] == '=')) {
            const char *value = key + 1 == end ? end : key + 2;

            sprintf(to, "%.*s", (int)(end - value), value);
            return to;
        }
        p = end;
    }
    return NULL;
}

static bool naive_authority(const struct text *t, const char *s)
{
    char host[64];

    if (naive_text(t, s, true))
        return true;
    sprintf(host, "%.*s", (int)strcspn(s, ":"), s); /* a name without port takes the port in */
    return t->how == EXACT && !strchr(t->value, ':') && naive_text(t, host, true);
}

static bool naive_cond(const struct cond *c, const struct req *r)
{
    char x[64], y[64], q[64];
    const char *vx = lines(r->x, r->n_x, x), *vy = lines(r->y, r->n_y, y),
               *vq = query_of(r->query, q);

    if (c->port == 160 || c->label == 2 || c->ns == 2 || c->gateway == 2)
        return false; /* of another port, client, namespace, gateway */
    if (!naive_text(&c->uri, r->path, c->any_case) || !naive_text(&c->method, r->method, false) ||
        !naive_authority(&c->authority, r->authority))
        return false;
    if (c->x.how && (!vx || !naive_text(&c->x, vx, false)))
        return false;
    if (c->q.how && (!vq || !naive_text(&c->q, vq, false)))
        return false;
    if (c->no_y.how == PRESENT)
        return !vy;
    return !c->no_y.how || !naive_text(&c->no_y, vy ? vy : "", false);
}

static int naive(const struct route *all, unsigned n, const struct req *r)
{
    for (unsigned i = 0; i < n; i++) {
        if (all[i].n == 0)
            return (int)i;
        for (unsigned k = 0; k < all[i].n; k++)
            if (naive_cond(&all[i].m[k], r))
                return (int)i;
    }
    return -1;
}

/* --- both
 * ------------------------------------------------------------------------------------------- */
static int compiled_choice(const struct prog_service *s, const struct req *r, struct arena *a)
{
    struct match_field f[4];
    char path[64];
    struct match_request view = {.method = slice_str(r->method),
                                 .scheme = SL("http"),
                                 .authority = slice_str(r->authority),
                                 .fields = f,
                                 .arena = a};
    struct match_http m;
    enum err_code rc;

    sprintf(path, "%s%s", r->path, r->query);
    view.path = slice_str(path);
    for (unsigned i = 0; i < r->n_x; i++)
        f[view.n_fields++] = (struct match_field){SL("x-x"), slice_str(r->x[i])};
    for (unsigned i = 0; i < r->n_y; i++)
        f[view.n_fields++] = (struct match_field){SL("x-y"), slice_str(r->y[i])};
    rc = match_http(s, &view, 0, &m);
    if (rc == ERR_NOT_FOUND)
        return -1;
    ck_assert_int_eq(rc, ERR_OK);
    return m.route->name.p[1] - '0';
}

static void draw_req(struct rnd *r, struct req *q)
{
    q->method = PICK(r, methods);
    q->authority = PICK(r, authorities);
    q->path = PICK(r, paths);
    q->query = PICK(r, queries);
    q->n_x = rnd_below(r, 3);
    q->n_y = rnd_below(r, 3);
    for (int i = 0; i < 2; i++) {
        q->x[i] = rnd_below(r, 6) ? PICK(r, values) : "";
        q->y[i] = rnd_below(r, 6) ? PICK(r, values) : "";
    }
}

static const char around[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
    "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{name: http, port: 80}]}\n---\n"
    "apiVersion: v1\nkind: Pod\nmetadata: {name: c, namespace: shop, labels: {app: client}}\n"
    "spec: {containers: [{name: a}]}\nstatus: {phase: Running, podIP: 10.244.0.5}\n---\n";

static struct prog *program(const struct route *all, unsigned n, struct arena *a, struct buf *text)
{
    struct compile_client client = {0};
    struct compiled c;
    struct err err = {0};
    struct prog *p;
    struct index *x;
    struct slice key = SL("web.shop.svc.cluster.local:80");

    buf_reset(text);
    buf_add_str(text, around);
    write_vs(text, all, n);
    x = picture(buf_cstr(text));
    compile_client_of_pod(index_pod(x, SL("shop"), SL("c")), &client);
    ck_assert_int_eq(
        compile_resource(&(struct compile_input){.index = x}, &client, PROG_SERVICE, key, a, &c),
        ERR_OK);
    ck_assert_msg(c.state == PROG_VALUE, "%s", buf_cstr(text));
    ck_assert_msg(compile_value(&c, key, &p, &err) == 0, "%s", err.msg);
    index_free(x);
    return p;
}

START_TEST(fast_agrees_with_naive)
{
    struct buf text;
    struct rnd r;
    unsigned taken = 0;

    rnd_init_seed(&r, 1000 + (uint64_t)_i);
    buf_init(&text, 1 << 20);
    for (int i = 0; i < PROGRAMS; i++) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        struct route all[ROUTES] = {0};
        unsigned n = 1 + rnd_below(&r, ROUTES);
        struct prog *p;

        for (unsigned k = 0; k < n; k++) {
            all[k].n = rnd_below(&r, 8) ? 1 + rnd_below(&r, MATCHES) : 0;
            for (unsigned m = 0; m < all[k].n; m++)
                draw_cond(&r, &all[k].m[m]);
        }
        p = program(all, n, &a, &text);
        for (int k = 0; k < REQUESTS; k++) {
            struct req q;
            int want, got;

            draw_req(&r, &q);
            want = naive(all, n, &q);
            got = compiled_choice((const struct prog_service *)p, &q, &a);
            ck_assert_msg(
                want == got,
                "seed %d, program %d: %s %s%s of %s, %u x (%s %s), %u y (%s %s): route %d, "
                "not %d of\n%s",
                1000 + _i, i, q.method, q.path, q.query, q.authority, q.n_x, q.x[0], q.x[1], q.n_y,
                q.y[0], q.y[1], got, want, strstr(buf_cstr(&text), "spec: {hosts"));
            taken += want >= 0;
        }
        prog_unref(p);
    }
    /* Both outcomes were seen often enough to mean something. */
    ck_assert_uint_gt(taken, PROGRAMS * REQUESTS / 10);
    ck_assert_uint_lt(taken, PROGRAMS * REQUESTS * 9 / 10);
    buf_fini(&text);
}
END_TEST

TESTS(differential)
{
    tcase_add_loop_test(tc, fast_agrees_with_naive, 0, SEEDS);
}
