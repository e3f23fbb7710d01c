/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "lib/base/rand.h"
#include "lib/base/re.h"
#include "mesh/match/route.h"
#include "tests/unit/tcase.h"

/* --- one condition at a time ------------------------------------------------------------------ */
#define E PROG_MATCH_EXACT
#define P PROG_MATCH_PREFIX
#define R PROG_MATCH_REGEX
#define HERE PROG_MATCH_PRESENT
#define NEVER PROG_MATCH_NEVER

static const struct {
    const char *name;
    int kind;
    const char *value, *path;
    bool any_case, want;
} uris[] = {
    {"exact", E, "/a", "/a", false, true},
    {"exact ignores the query", E, "/a", "/a?x=/a", false, true},
    {"exact ignores a fragment", E, "/a", "/a#x", false, true},
    {"exact is no prefix", E, "/a", "/a/", false, false},
    {"exact has case", E, "/a", "/A", false, false},
    {"exact, any case", E, "/a", "/A", true, true},
    {"prefix is bytewise", P, "/foo", "/foobar", false, true},
    {"prefix of the path only", P, "/a?x", "/a?x=1", false, false},
    {"prefix, any case", P, "/FOO", "/foobar", true, true},
    {"longer than the path", P, "/foo", "/fo", false, false},
    {"regex is whole", R, "/v[0-9]", "/v1", false, true},
    {"regex is not a part", R, "/v[0-9]", "/v1/x", false, false},
    {"regex ignores the query", R, "/v[0-9]", "/v1?a", false, true},
    {"regex has case", R, "/v", "/V", true, false},
    {"never", NEVER, "", "/", false, false},
    {"none", PROG_MATCH_NONE, "", "/anything", false, true},
};

static struct prog_string_match condition(int kind, const char *value)
{
    struct prog_string_match m = {.kind = (enum prog_match_kind)kind, .value = slice_str(value)};
    struct err err = {0};

    if (kind == PROG_MATCH_REGEX)
        ck_assert_msg(re_compile(m.value, &m.re, &err) == 0, "%s", err.msg);
    return m;
}

START_TEST(uri)
{
    struct prog_http_match m = {.uri = condition(uris[_i].kind, uris[_i].value),
                                .ignore_uri_case = uris[_i].any_case};
    struct match_request r = {.method = SL("GET"), .path = slice_str(uris[_i].path)};
    bool holds;

    ck_assert_int_eq(match_http_one(&m, &r, &holds, NULL), ERR_OK);
    ck_assert_msg(holds == uris[_i].want, "%s", uris[_i].name);
    re_free(m.uri.re);
}
END_TEST

static const struct {
    const char *name;
    int kind;
    const char *value;
    bool absent;
    const char *lines[3]; /* of x-user */
    bool want;
} headers[] = {
    {"exact", E, "jason", false, {"jason"}, true},
    {"exact, other", E, "jason", false, {"json"}, false},
    {"exact has case", E, "jason", false, {"Jason"}, false},
    {"missing", E, "jason", false, {0}, false},
    {"missing is not empty", E, "", false, {0}, false},
    {"empty", E, "", false, {""}, true},
    {"presence", HERE, "", false, {""}, true},
    {"presence, missing", HERE, "", false, {0}, false},
    {"lines are joined", E, "a,b", false, {"a", "b"}, true},
    {"one of two lines is not enough", E, "a", false, {"a", "b"}, false},
    {"an empty first line counts", E, ",b", false, {"", "b"}, true},
    {"prefix of the joined", P, "a,", false, {"a", "b"}, true},
    {"regex on the joined", R, "a,.", false, {"a", "b"}, true},
    {"without: other value", E, "jason", true, {"mary"}, true},
    {"without: that value", E, "jason", true, {"jason"}, false},
    {"without: missing", E, "jason", true, {0}, true},
    {"without presence: missing", HERE, "", true, {0}, true},
    {"without presence: there", HERE, "", true, {"x"}, false},
    {"without: missing counts as empty", E, "", true, {0}, false},
    {"never", NEVER, "", false, {"x"}, false},
    {"never, inverted", NEVER, "", true, {"x"}, false},
};

START_TEST(header)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct prog_field_match f = {.name = SL("x-user"), .absent = headers[_i].absent};
    struct prog_http_match m = {.headers = &f, .n_headers = 1};
    struct match_field fields[4] = {{SL("other"), SL("jason")}};
    struct match_request r = {.path = SL("/"), .fields = fields, .n_fields = 1, .arena = &a};
    bool holds;

    f.match = condition(headers[_i].kind, headers[_i].value);
    for (int i = 0; i < 3 && headers[_i].lines[i]; i++)
        fields[r.n_fields++] = (struct match_field){SL("x-user"), slice_str(headers[_i].lines[i])};
    ck_assert_int_eq(match_http_one(&m, &r, &holds, NULL), ERR_OK);
    ck_assert_msg(holds == headers[_i].want, "%s", headers[_i].name);
    re_free(f.match.re);
}
END_TEST

START_TEST(header_without_memory)
{
    struct prog_field_match f = {.name = SL("x"), .match = {.kind = E, .value = SL("a,b")}};
    struct prog_http_match m = {.headers = &f, .n_headers = 1};
    struct match_field fields[] = {{SL("x"), SL("a")}, {SL("x"), SL("b")}};
    struct match_request r = {.path = SL("/"), .fields = fields, .n_fields = 2};
    bool holds;

    ck_assert_int_eq(match_http_one(&m, &r, &holds, NULL), ERR_NOMEM);
}
END_TEST

static const struct {
    const char *name;
    int kind;
    const char *value, *path;
    bool want;
} queries[] = {
    {"exact", E, "1", "/?v=1", true},
    {"among others", E, "1", "/?a=2&v=1&b", true},
    {"first of two", E, "1", "/?v=2&v=1", false},
    {"name is whole", E, "1", "/?xv=1", false},
    {"bare key is empty", E, "", "/?v", true},
    {"presence", HERE, "", "/?v=", true},
    {"no query", HERE, "", "/v", false},
    {"not in the path", E, "1", "/v=1", false},
    {"fragment is cut", E, "1", "/?v=1#2", true},
    {"as written", E, "a b", "/?v=a%20b", false},
    {"regex", R, "[0-9]+", "/?v=42", true},
};

START_TEST(query)
{
    struct prog_field_match f = {.name = SL("v")};
    struct prog_http_match m = {.queries = &f, .n_queries = 1};
    struct match_request r = {.path = slice_str(queries[_i].path)};
    bool holds;

    f.match = condition(queries[_i].kind, queries[_i].value);
    ck_assert_int_eq(match_http_one(&m, &r, &holds, NULL), ERR_OK);
    ck_assert_msg(holds == queries[_i].want, "%s", queries[_i].name);
    re_free(f.match.re);
}
END_TEST

static const struct {
    int kind;
    const char *value, *authority;
    bool want;
} authorities[] = {
    {E, "shop.example", "SHOP.example", true},  {E, "shop.example", "shop.example:80", true},
    {E, "shop.example:80", "shop.example", false}, {P, "shop", "shop.example", true},
    {E, "shop.example", "xshop.example", false}, {E, "shop.exampl", "shop.example", false},
};

START_TEST(authority)
{
    struct prog_http_match m = {
        .authority = condition(authorities[_i].kind, authorities[_i].value)};
    struct match_request r = {.path = SL("/"), .authority = slice_str(authorities[_i].authority)};
    struct match_why why;
    bool holds;

    ck_assert_int_eq(match_http_one(&m, &r, &holds, &why), ERR_OK);
    ck_assert_msg(holds == authorities[_i].want, "%s", authorities[_i].authority);
    if (!holds)
        ck_assert_str_eq(why.what, "authority");
}
END_TEST

/* --- routes ----------------------------------------------------------------------------------- */
START_TEST(first_match_wins)
{
    struct prog_http_match never = {.uri = {.kind = NEVER}},
                           a[] = {{.uri = {.kind = E, .value = SL("/no")}},
                                  {.uri = {.kind = P, .value = SL("/a")}}};
    struct prog_cluster clusters[2] = {0};
    struct prog_destination d0 = {.cluster = 0, .weight = 1}, d1 = {.cluster = 1, .weight = 1};
    struct prog_http_route routes[] = {
        {.matches = &never, .n_matches = 1, .destinations = &d0, .n_destinations = 1,
         .total_weight = 1},
        {.matches = a, .n_matches = 2, .destinations = &d1, .n_destinations = 1, .total_weight = 1},
        {.destinations = &d0, .n_destinations = 1, .total_weight = 1},
    };
    struct prog_service s = {.http = routes, .n_http = 3, .clusters = clusters, .n_clusters = 2};
    struct match_request r = {.path = SL("/a/b")};
    struct match_http m;

    ck_assert_int_eq(match_http(&s, &r, 0, &m), ERR_OK);
    ck_assert_ptr_eq(m.route, &routes[1]);
    ck_assert_ptr_eq(m.match, &a[1]); /* alternatives: the one that held */
    ck_assert_ptr_eq(m.cluster, &clusters[1]);
    r.path = SL("/b");
    ck_assert_int_eq(match_http(&s, &r, 0, &m), ERR_OK);
    ck_assert_ptr_eq(m.route, &routes[2]);
    ck_assert_ptr_null(m.match);
    s.n_http = 2;
    ck_assert_int_eq(match_http(&s, &r, 0, &m), ERR_NOT_FOUND);
    routes[1].n_destinations = 0;
    r.path = SL("/a");
    ck_assert_int_eq(match_http(&s, &r, 0, &m), ERR_OK);
    ck_assert_ptr_null(m.destination);
}
END_TEST

static const uint32_t splits[][4] = {{90, 10, 0, 0}, {0, 1, 0, 0}, {1, 1, 1, 1},
                                     {0, 0, 5, 0},   {99, 1, 0, 0}, {1, 2, 3, 4}};

START_TEST(weights_converge)
{
    struct prog_destination d[4];
    uint32_t total = 0, hits[4] = {0};
    const uint32_t n = 100000;
    struct rnd r;

    rnd_init_seed(&r, 42);
    for (int i = 0; i < 4; i++) {
        d[i] = (struct prog_destination){.weight = splits[_i][i]};
        total += d[i].weight;
    }
    for (uint32_t i = 0; i < n; i++)
        hits[match_weighted(d, 4, total, rnd_u32(&r))]++;
    for (int i = 0; i < 4; i++) {
        double want = (double)n * d[i].weight / total, off = hits[i] - want;

        ck_assert_msg(off * off <= 25 * want + 1e-9, "destination %d: %u, not %.0f", i, hits[i],
                      want);
    }
    ck_assert_uint_eq(d[match_weighted(d, 4, total, UINT32_MAX)].weight > 0, 1);
    ck_assert_uint_eq(d[match_weighted(d, 4, total, 0)].weight > 0, 1);
}
END_TEST

static const uint32_t mirror_shares[] = {0, 1, 50, 100, 2500, 5000, 9999, 10000};

START_TEST(mirrors_converge)
{
    const struct prog_mirror m = {.permyriad = mirror_shares[_i]};
    const uint32_t n = 200000;
    uint32_t hits = 0;
    struct rnd r;
    double want = n / 10000.0 * m.permyriad, off;

    rnd_init_seed(&r, 43);
    for (uint32_t i = 0; i < n; i++)
        hits += match_mirror_wanted(&m, rnd_u32(&r));
    off = hits - want;
    ck_assert_msg(off * off <= 25 * want * (1 - m.permyriad / 10000.0) + 1e-9, "%u, not %.0f", hits,
                  want);
    ck_assert(match_mirror_wanted(&m, 0) == (m.permyriad > 0));
    ck_assert(match_mirror_wanted(&m, UINT32_MAX) == (m.permyriad == 10000));
}
END_TEST

/* --- rewrite and redirect --------------------------------------------------------------------- */
static const struct {
    const char *name;
    int kind; /* of the uri condition; -1: the route has no match */
    const char *value, *rewrite, *path, *want;
} rewrites[] = {
    {"prefix", P, "/api", "/v1", "/api/x?q=1", "/v1/x?q=1"},
    {"prefix and slash", P, "/api/", "/", "/api/x", "/x"},
    {"prefix without slash doubles it, as in Istio", P, "/api", "/", "/api/x", "//x"},
    {"whole path of an exact match", E, "/a/b", "/c", "/a/b?q", "/c?q"},
    {"whole path of a regex match", R, "/a/.*", "/c", "/a/b/d?q", "/c?q"},
    {"no uri condition: the leading slash", -1, "", "/v1", "/x", "/v1x"},
    {"query that looks like the prefix", P, "/a", "/b", "/a?/a", "/b?/a"},
    {"no rewrite", P, "/a", "", "/a/b", "/a/b"},
    {"result is no path", P, "/a", "b", "/a/b", NULL},
};

START_TEST(rewrite)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct prog_rewrite w = {.uri = slice_str(rewrites[_i].rewrite)};
    struct prog_http_route route = {.rewrite = &w};
    struct prog_http_match hm = {0};
    struct match_http m = {.route = &route, .match = rewrites[_i].kind < 0 ? NULL : &hm};
    struct slice got;

    if (m.match)
        hm.uri = condition(rewrites[_i].kind, rewrites[_i].value);
    enum err_code rc = match_rewrite_path(&m, slice_str(rewrites[_i].path), &a, &got);
    ck_assert_msg((rc == ERR_OK) == (rewrites[_i].want != NULL), "%s", rewrites[_i].name);
    if (rewrites[_i].want)
        ck_assert_msg(slice_is(got, rewrites[_i].want), "%s: %.*s", rewrites[_i].name, SL_FMT(got));
    re_free(hm.uri.re);
}
END_TEST

START_TEST(rewrite_by_regex)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct prog_rewrite w = {.regex_text = SL("^/service/([^/]+)(/.*)$"),
                             .substitution = SL("\\2/instance/\\1")};
    struct prog_http_route route = {.rewrite = &w};
    struct match_http m = {.route = &route};
    struct err err = {0};
    struct slice got;

    ck_assert_msg(re_compile(w.regex_text, &w.regex, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(match_rewrite_path(&m, SL("/service/foo/v1/api?q=/service/"), &a, &got), ERR_OK);
    ck_assert_msg(slice_is(got, "/v1/api/instance/foo?q=/service/"), "%.*s", SL_FMT(got));
    re_free(w.regex);
}
END_TEST

#define S(text) {text, sizeof(text) - 1}
static const struct {
    struct prog_redirect r;
    const char *scheme, *authority, *path, *want;
} redirects[] = {
    {{.uri = S("/new")}, "http", "a.example", "/old?q=1", "http://a.example/new?q=1"},
    {{.uri = S("/new?x")}, "http", "a.example", "/old?q=1", "http://a.example/new?x"},
    {{.authority = S("b.example")}, "http", "a.example:8080", "/p", "http://b.example/p"},
    {{.scheme = S("https")}, "http", "a.example", "/p", "https://a.example/p"},
    {{.scheme = S("https")}, "http", "a.example:80", "/p", "https://a.example/p"},
    {{.scheme = S("https")}, "http", "a.example:8080", "/p", "https://a.example:8080/p"},
    {{.port = 8443, .scheme = S("https")}, "http", "a.example:80", "/", "https://a.example:8443/"},
    {{.port = 443, .scheme = S("https")}, "http", "a.example:80", "/", "https://a.example/"},
    {{.port_from_request = true, .authority = S("b")}, "http", "a", "/", "http://b:9080/"},
    {{.prefix_rewrite = S("/n")}, "http", "a", "/pre/x?q", "http://a/n/x?q"},
    {{.port = 81}, "http", "[::1]:80", "/", "http://[::1]:81/"},
    {{.port = 81}, "http", "[::1]", "/", "http://[::1]:81/"},
};

START_TEST(redirect)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct prog_redirect r = redirects[_i].r;
    struct prog_http_route route = {.action = PROG_REDIRECT, .redirect = &r};
    struct prog_service s = {.port = 9080};
    struct prog_http_match hm = {.uri = {.kind = P, .value = SL("/pre")}};
    struct match_http m = {.route = &route, .service = &s, .match = &hm};
    struct match_request req = {.scheme = slice_str(redirects[_i].scheme),
                                .authority = slice_str(redirects[_i].authority),
                                .path = slice_str(redirects[_i].path),
                                .arena = &a};
    struct slice got;

    ck_assert_int_eq(match_redirect_location(&m, &req, &got), ERR_OK);
    ck_assert_msg(slice_is(got, redirects[_i].want), "%.*s, not %s", SL_FMT(got),
                  redirects[_i].want);
}
END_TEST

START_TEST(header_operations)
{
    struct prog_field set = {SL("a"), SL("1")};
    struct prog_http_route route = {.headers.request = {.set = &set, .n_set = 1}};
    struct prog_destination d = {.headers.request = {.add = &set, .n_add = 1},
                                 .headers.response = {.add = &set, .n_add = 1}};
    struct match_http m = {.route = &route, .destination = &d};
    const struct prog_header_ops *ops[2];

    ck_assert_int_eq(match_request_ops(&m, ops), 2);
    ck_assert_ptr_eq(ops[0], &d.headers.request);
    ck_assert_ptr_eq(ops[1], &route.headers.request);
    ck_assert_int_eq(match_response_ops(&m, ops), 1);
    m.destination = NULL;
    ck_assert_int_eq(match_request_ops(&m, ops), 1);
    ck_assert_int_eq(match_response_ops(&m, ops), 0);
}
END_TEST

START_TEST(faults)
{
    struct prog_fault f = {.delay_ms = 70, .delay_permyriad = 2500, .abort_status = 503,
                           .abort_permyriad = 10000, .abort_grpc = -1};
    uint32_t delayed = 0;
    int32_t grpc;
    struct rnd r;

    rnd_init_seed(&r, 1);
    for (int i = 0; i < 40000; i++)
        delayed += match_fault_delay_ms(&f, rnd_u32(&r)) == 70;
    ck_assert_msg(delayed > 9600 && delayed < 10400, "%u of 40000", delayed);
    ck_assert_uint_eq(match_fault_abort(&f, UINT32_MAX, &grpc), 503); /* 100 % is always */
    f.abort_permyriad = 0;
    ck_assert_uint_eq(match_fault_abort(&f, 0, &grpc), 0); /* 0 % is never */
    f.abort_permyriad = 10000;
    f.abort_status = 0;
    f.abort_grpc = 14;
    ck_assert_uint_eq(match_fault_abort(&f, 5, &grpc), 200);
    ck_assert_int_eq(grpc, 14);
    ck_assert_uint_eq(match_fault_delay_ms(NULL, 0), 0);
}
END_TEST

/* --- connections ------------------------------------------------------------------------------ */
static const struct {
    const char *pattern, *sni;
    bool want;
} snis[] = {
    {"a.example", "A.Example", true}, {"a.example", "b.example", false},
    {"*.example", "a.b.example", true}, {"*.example", "example", false},
    {"*.example", "aexample", false}, {"*", "anything", true},
};

START_TEST(sni)
{
    ck_assert_int_eq(match_sni(slice_str(snis[_i].pattern), slice_str(snis[_i].sni)), snis[_i].want);
}
END_TEST

START_TEST(tcp)
{
    struct slice name = SL("a.example");
    struct cidr net;
    struct prog_tcp_match ms[] = {{.sni = {&name, 1}}, {.subnets = &net, .n_subnets = 1}};
    struct prog_tcp_route routes[] = {{.matches = &ms[0], .n_matches = 1},
                                      {.matches = &ms[1], .n_matches = 1}};
    struct prog_service s = {.tcp = routes, .n_tcp = 2};
    struct match_connection c = {.sni = SL("a.example")};
    struct match_tcp m;

    ck_assert(cidr_parse(SL("10.0.0.0/8"), &net) && ip_parse(SL("10.1.2.3"), &c.destination));
    ck_assert_int_eq(match_tcp(&s, &c, 0, &m), ERR_OK);
    ck_assert_ptr_eq(m.route, &routes[0]);
    c.sni = SLICE_NULL; /* not TLS: a condition on SNI cannot hold */
    ck_assert_int_eq(match_tcp(&s, &c, 0, &m), ERR_OK);
    ck_assert_ptr_eq(m.route, &routes[1]);
    ck_assert(ip_parse(SL("11.1.2.3"), &c.destination));
    ck_assert_int_eq(match_tcp(&s, &c, 0, &m), ERR_NOT_FOUND);
}
END_TEST

TESTS(route)
{
    tcase_add_loop_test(tc, uri, 0, N_OF(uris));
    tcase_add_loop_test(tc, header, 0, N_OF(headers));
    tcase_add_test(tc, header_without_memory);
    tcase_add_loop_test(tc, query, 0, N_OF(queries));
    tcase_add_loop_test(tc, authority, 0, N_OF(authorities));
    tcase_add_test(tc, first_match_wins);
    tcase_add_loop_test(tc, weights_converge, 0, N_OF(splits));
    tcase_add_loop_test(tc, mirrors_converge, 0, N_OF(mirror_shares));
    tcase_add_loop_test(tc, rewrite, 0, N_OF(rewrites));
    tcase_add_test(tc, rewrite_by_regex);
    tcase_add_loop_test(tc, redirect, 0, N_OF(redirects));
    tcase_add_test(tc, header_operations);
    tcase_add_test(tc, faults);
    tcase_add_loop_test(tc, sni, 0, N_OF(snis));
    tcase_add_test(tc, tcp);
}
