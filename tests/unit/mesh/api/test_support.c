/* SPDX-License-Identifier: Apache-2.0 */
/* The support table, the table of kinds, findings and the shared shapes. */
#include "mesh/api/common.h"
#include "mesh/api/support.h"
#include "tests/unit/mesh/api/api_test.h"

START_TEST(rows_are_in_order)
{
    size_t n;
    const struct support_row *rows = support_rows(&n);

    ck_assert_uint_gt(n, 300);
    for (size_t i = 0; i < n; i++) {
        char parent[200], *dot;

        ck_assert_msg(strncmp(rows[i].path, "spec.", 5) == 0, "%s", rows[i].path);
        ck_assert(i == 0 || rows[i - 1].kind <= rows[i].kind);
        ck_assert_msg(support_find(rows[i].kind, rows[i].path) == &rows[i], "%s twice",
                      rows[i].path);
        ck_assert_msg(!*rows[i].unserved || rows[i].state == SUPPORT_PARTIAL, "%s", rows[i].path);
        ck_assert_msg(rows[i].state != SUPPORT_PARTIAL || *rows[i].note, "%s", rows[i].path);
        /* Every row but the top ones hangs below an earlier one: that is what the walk relies on.
         */
        strcpy(parent, rows[i].path);
        dot = strrchr(parent, '.');
        *dot = '\0';
        for (char *end = dot; end > parent && strchr("[]{}", end[-1]);)
            *--end = '\0';
        if (strcmp(parent, "spec") != 0)
            ck_assert_msg(support_find(rows[i].kind, parent) &&
                              support_find(rows[i].kind, parent) < &rows[i],
                          "%s", rows[i].path);
    }
}
END_TEST

/* With maps, lists and types that occur more than once. */
static const struct {
    enum api_kind kind;
    const char *spec, *want;
} walks[] = {
    {API_VIRTUAL_SERVICE, "{http: [{}, {fault: {delay: {exponentialDelay: 1s}}, name: a}]}",
     "unsupported spec.http[1].fault.delay.exponentialDelay: is not implemented and has no effect"},
    {API_VIRTUAL_SERVICE, "{http: [{match: [{headers: {a: {exct: x}}}]}]}",
     "suspect spec.http[0].match[0].headers.a.exct: is no field of this kind: it has no effect"},
    {API_VIRTUAL_SERVICE, "{http: [{match: [{headers: {spec: {exact: x}}}]}]}", ""},
    {API_PEER_AUTHENTICATION, "{portLevelMtls: {'80': {mod: x}}}",
     "suspect spec.portLevelMtls.80.mod: is no field of this kind: it has no effect"},
    {API_DESTINATION_RULE, "{subsets: [{trafficPolicy: {tunnel: {targetHost: a}}}]}",
     "unsupported spec.subsets[0].trafficPolicy.tunnel: is not implemented and has no effect"},
    {API_AUTHORIZATION_POLICY, "{action: AUDIT}",
     "unsupported spec.action: AUDIT is not implemented; served: ALLOW and DENY"},
    {API_AUTHORIZATION_POLICY, "{rules: [{from: [{source: {remoteIpBlocks: [10.0.0.1]}}]}]}",
     "unsupported spec.rules[0].from[0].source.remoteIpBlocks: is not implemented: use "
     "ipBlocks"},
    {API_GATEWAY, "{servers: [{}]}", ""},
    {API_VIRTUAL_SERVICE, "[1, 2]", ""},
    {API_VIRTUAL_SERVICE, "{http: {a: 1}}", ""},
};

START_TEST(walk)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct buf line;
    json_t *obj = object_of(api_kind_info(walks[_i].kind)->kind, walks[_i].spec);

    findings_init(&f, &a);
    buf_init(&line, 4096);
    support_check(walks[_i].kind, obj, &f);
    ck_assert_str_eq(findings_line(&f, &line), walks[_i].want);
    buf_fini(&line);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

/* What a row's path asks for, with this text in it: "spec.a[].b{}.c" is {a: [{b: {k: {c: TEXT}}}]}, where
 * it is found at "spec.a[0].b.k.c". */
static json_t *planted(const char *path, const char *text, struct buf *at)
{
    size_t n = strcspn(path, ".[{");
    json_t *below;

    if (strncmp(path, "[]", 2) == 0) {
        buf_add_str(at, "[0]");
        below = planted(path + 2, text, at);
        return json_pack("[o]", below);
    }
    if (strncmp(path, "{}", 2) == 0) {
        buf_add_str(at, ".k");
        below = planted(path + 2, text, at);
        return json_pack("{s:o}", "k", below);
    }
    if (!*path)
        return json_string(text);
    if (*path == '.')
        return planted(path + 1, text, at);
    if (buf_len(at))
        buf_add_str(at, ".");
    buf_add(at, path, n);
    below = planted(path + n, text, at);
    return json_pack("{s%o}", path, n, below);
}

/* Each row keeps its word: what is reported or not served is told where it stands, once; what is
 * implemented is not told of. */
START_TEST(each_row_is_true)
{
    size_t n;
    const struct support_row *rows = support_rows(&n);
    unsigned told = 0, silent = 0;

    json_setup();
    for (size_t i = 0; i < n; i++) {
        const struct support_row *r = &rows[i];
        bool whole_kind = support_kind(r->kind)->state == SUPPORT_REPORTED;
        struct slice rest = slice_str(*r->unserved ? r->unserved : "x"), one;

        while (slice_next(&rest, ',', &one)) {
            struct arena a = ARENA_INIT;
            struct findings f;
            struct buf at;
            char value[64];
            enum finding_kind want = r->state == SUPPORT_PARTIAL && !*r->unserved ? FINDING_PARTIAL
                                                                                  : FINDING_UNSUPPORTED;
            unsigned here = 0, above = 0;

            findings_init(&f, &a);
            buf_init(&at, 1024);
            ck_assert(slice_copy(one, value, sizeof value));
            json_t *obj = planted(r->path, value, &at);
            support_check(r->kind, obj, &f);
            for (uint32_t k = 0; k < f.n; k++) {
                bool exact = slice_eq(f.p[k].path, buf_slice(&at));
                ck_assert_msg(f.p[k].kind != FINDING_SUSPECT, "%s is no field", r->path);
                here += exact && f.p[k].kind == want;
                above += !exact && f.p[k].kind == FINDING_UNSUPPORTED;
            }
            if (whole_kind || r->state == SUPPORT_IMPLEMENTED) {
                ck_assert_msg(!here && !above, "%s: told of", r->path);
                silent++;
            } else {
                ck_assert_msg(here + above == 1, "%s: told %u times", r->path, here + above);
                told++;
            }
            json_decref(obj);
            buf_fini(&at);
            arena_fini(&a);
        }
    }
    ck_assert_uint_gt(told, 60);
    ck_assert_uint_gt(silent, 500);
}
END_TEST

static const struct {
    const char *version, *kind;
    bool want;
    enum api_kind got;
} kinds[] = {
    {"networking.istio.io/v1alpha3", "VirtualService", true, API_VIRTUAL_SERVICE},
    {"networking.istio.io/v1", "DestinationRule", true, API_DESTINATION_RULE},
    {"networking.istio.io/v2", "DestinationRule", false, API_DESTINATION_RULE},
    {"security.istio.io/v1alpha3", "PeerAuthentication", false, API_PEER_AUTHENTICATION},
    {"tulle.dev/v1alpha1", "Mesh", true, API_MESH},
    {"v1", "Pod", false, 0},
    {"networking.istio.io/v1", "virtualservice", false, 0},
};

START_TEST(kind_of)
{
    enum api_kind got = API_KIND_N;

    ck_assert(api_kind_of(slice_str(kinds[_i].version), slice_str(kinds[_i].kind), &got) ==
              kinds[_i].want);
    if (kinds[_i].want) {
        enum api_kind again;

        ck_assert_int_eq(got, kinds[_i].got);
        ck_assert(api_kind_of_resource(slice_str(api_kind_info(got)->group),
                                       slice_str(api_kind_info(got)->plural), &again));
        ck_assert_int_eq(again, got);
    }
}
END_TEST

/* A kind without effect is never denied for it, and the answer names what to do instead. */
START_TEST(reported_kinds)
{
    for (enum api_kind k = 0; k < API_KIND_N; k++) {
        struct arena a = ARENA_INIT;
        struct findings f;
        json_t *obj = object_of(api_kind_info(k)->kind, "{anything: [1]}");

        findings_init(&f, &a);
        ck_assert_int_eq(api_check(k, obj, &a, &f), 0);
        ck_assert_int_eq(findings_has_kind(&f, FINDING_UNKNOWN_KIND),
                         support_kind(k)->state == SUPPORT_REPORTED);
        if (support_kind(k)->state == SUPPORT_REPORTED)
            ck_assert(*support_kind(k)->instead);
        if (support_kind(k)->open) {
            ck_assert_uint_eq(f.n, 1);
            ck_assert_int_eq(f.p[0].severity, FINDING_WARNING);
        }
        json_decref(obj);
        arena_fini(&a);
    }
}
END_TEST

static const struct {
    enum api_kind kind;
    const char *spec, *want;
} natives[] = {
    {API_ENVOY_FILTER,
     "{configPatches: [{applyTo: HTTP_FILTER, patch: {operation: INSERT_BEFORE, value: {name: "
     "envoy.filters.http.local_ratelimit}}}]}",
     "EnvoyFilter is not implemented: requests are not limited by rate here"},
    {API_ENVOY_FILTER,
     "{configPatches: [{applyTo: NETWORK_FILTER, patch: {value: {typed_config: {access_log: []}}}}]}",
     "write Mesh.spec.accessLog"},
    {API_ENVOY_FILTER, "{configPatches: []}", "EnvoyFilter is not implemented: there is no Envoy"},
    {API_ENVOY_FILTER, "{}", "there is no Envoy here to patch"},
    {API_WASM_PLUGIN, "{url: 'oci://r/openid:1', phase: AUTHN}", "tokens are not verified here yet"},
    {API_TRAFFIC_EXTENSION, "{lua: {inlineCode: x}}", "proxies run no scripts"},
    {API_WASM_PLUGIN, "{selector: {matchLabels: {a: 'b*'}}}",
     "invalid spec.selector.a: \"b*\" is no value of a label"},
};

START_TEST(envoy_alternatives)
{
    struct check_case c = {natives[_i].spec, natives[_i].spec, natives[_i].want};

    check_one(natives[_i].kind, &c);
}
END_TEST

START_TEST(findings_are_bounded)
{
    struct arena a = ARENA_INIT;
    struct findings f;

    findings_init(&f, &a);
    for (unsigned i = 0; i < 2 * FINDINGS_MAX; i++)
        findings_add_at(&f, FINDING_SUSPECT, "spec", "%u", i);
    ck_assert_uint_eq(f.n, FINDINGS_MAX);
    ck_assert_uint_eq(f.dropped, FINDINGS_MAX);
    ck_assert(!findings_has(&f, FINDING_ERROR));
    findings_add_at(&f, FINDING_INVALID, "spec.a",
                    "late"); /* an error is never lost to a warning */
    ck_assert(findings_has(&f, FINDING_ERROR));
    ck_assert(slice_is(findings_first(&f, FINDING_ERROR)->text, "late"));
    findings_add(NULL, FINDING_INVALID, NULL, "nobody listens");
    arena_fini(&a);
}
END_TEST

START_TEST(finding_line)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct buf b;

    findings_init(&f, &a);
    buf_init(&b, 256);
    findings_add_at(&f, FINDING_INVALID, "spec.http[0].route[1].weight", "must be 0..100, is 120");
    finding_text(&f.p[0], SL("VirtualService"), SL("shop"), SL("cart"), &b);
    ck_assert_str_eq(buf_cstr(&b),
                     "VirtualService shop/cart: spec.http[0].route[1].weight: must be 0..100, is "
                     "120");
    buf_fini(&b);
    arena_fini(&a);
}
END_TEST

static const struct {
    const char *text;
    bool good;
    int64_t s;
    const char *back;
} times[] = {
    {"1970-01-01T00:00:00Z", true, 0, "1970-01-01T00:00:00Z"},
    {"2026-01-31T12:00:00Z", true, 1769860800, "2026-01-31T12:00:00Z"},
    {"2024-02-29T23:59:59Z", true, 1709251199, "2024-02-29T23:59:59Z"},
    {"2000-03-01T00:00:00.123456Z", true, 951868800, "2000-03-01T00:00:00Z"},
    {"2026-01-31T13:30:00+01:30", true, 1769860800, "2026-01-31T12:00:00Z"},
    {"1969-12-31T23:59:59Z", true, -1, "1969-12-31T23:59:59Z"},
    {"2026-01-31", false, 0, NULL},
    {"2026-13-01T00:00:00Z", false, 0, NULL},
    {"2026-01-31T12:00:00", false, 0, NULL},
    {"2026-01-31T12:00:00Zx", false, 0, NULL},
    {"2026-01-31T12:00:00.Z", false, 0, NULL},
    {"", false, 0, NULL},
};

START_TEST(time_text)
{
    char text[24];
    int64_t s;

    ck_assert_msg(api_time_parse(slice_str(times[_i].text), &s) == times[_i].good, "%s",
                  times[_i].text);
    if (times[_i].good) {
        ck_assert_int_eq(s, times[_i].s);
        ck_assert_str_eq(api_time_format(s, text), times[_i].back);
    }
}
END_TEST

START_TEST(labels)
{
    struct api_kv kv[] = {{SL("app"), SL("web")}, {SL("tier"), SL("")}, {SL("version"), SL("v1")}};
    struct api_kv sub[] = {{SL("app"), SL("web")}, {SL("tier"), SL("")}};
    struct api_kv bad[] = {{SL("zone"), SL("")}};
    struct api_map have = {kv, 3}, want = {sub, 2}, none = {0}, other = {bad, 1};
    struct api_selector unset = {0}, set = {.set = true, .labels = want};

    ck_assert(slice_is(api_map_get(&have, SL("version")), "v1"));
    ck_assert(!api_map_get(&have, SL("versio")).p);
    ck_assert(api_map_get(&have, SL("tier")).p); /* empty is not absent */
    ck_assert(api_map_covers(&have, &want) && api_map_covers(&have, &none));
    ck_assert(!api_map_covers(&want, &have) && !api_map_covers(&have, &other));
    ck_assert(api_selector_matches(&unset, &none) && api_selector_matches(&set, &have));
    ck_assert(!api_selector_matches(&set, &none));
}
END_TEST

TESTS(support)
{
    tcase_add_test(tc, rows_are_in_order);
    tcase_add_loop_test(tc, walk, 0, N_OF(walks));
    tcase_add_test(tc, each_row_is_true);
    tcase_add_loop_test(tc, kind_of, 0, N_OF(kinds));
    tcase_add_test(tc, reported_kinds);
    tcase_add_loop_test(tc, envoy_alternatives, 0, N_OF(natives));
    tcase_add_test(tc, findings_are_bounded);
    tcase_add_test(tc, finding_line);
    tcase_add_loop_test(tc, time_text, 0, N_OF(times));
    tcase_add_test(tc, labels);
}
