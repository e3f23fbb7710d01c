/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/re.h"
#include "mesh/match/cors.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *name;
    int kind;
    const char *policy, *method, *origin, *asked;
    bool keep;
    enum cors_verdict want;
} cases[] = {
    {"same origin", PROG_MATCH_EXACT, "https://a", "GET", NULL, NULL, false, CORS_NONE},
    {"empty origin", PROG_MATCH_EXACT, "https://a", "GET", "", NULL, false, CORS_NONE},
    {"exact", PROG_MATCH_EXACT, "https://a", "GET", "https://a", NULL, false, CORS_ALLOWED},
    {"exact has case", PROG_MATCH_EXACT, "https://a", "GET", "https://A", NULL, false, CORS_NONE},
    {"exact is whole", PROG_MATCH_EXACT, "https://a", "GET", "https://a.b", NULL, false, CORS_NONE},
    {"star", PROG_MATCH_EXACT, "*", "GET", "https://a", NULL, false, CORS_ALLOWED},
    {"prefix", PROG_MATCH_PREFIX, "https://a", "GET", "https://a.b", NULL, false, CORS_ALLOWED},
    {"prefix, other", PROG_MATCH_PREFIX, "https://a", "GET", "http://a", NULL, false, CORS_NONE},
    {"regex", PROG_MATCH_REGEX, "https://.*\\.b", "GET", "https://x.b", NULL, false, CORS_ALLOWED},
    {"regex is whole", PROG_MATCH_REGEX, "https://.*\\.b", "GET", "https://x.b.c", NULL, false,
     CORS_NONE},
    {"preflight", PROG_MATCH_EXACT, "https://a", "OPTIONS", "https://a", "PUT", false,
     CORS_PREFLIGHT},
    {"OPTIONS alone is none", PROG_MATCH_EXACT, "https://a", "OPTIONS", "https://a", NULL, false,
     CORS_ALLOWED},
    {"nor with an empty method", PROG_MATCH_EXACT, "https://a", "OPTIONS", "https://a", "", false,
     CORS_ALLOWED},
    {"nor another method", PROG_MATCH_EXACT, "https://a", "GET", "https://a", "PUT", false,
     CORS_ALLOWED},
    {"unmatched goes on", PROG_MATCH_EXACT, "https://a", "OPTIONS", "https://b", "PUT", false,
     CORS_NONE},
    {"unmatched is kept", PROG_MATCH_EXACT, "https://a", "OPTIONS", "https://b", "PUT", true,
     CORS_PREFLIGHT_UNMATCHED},
    {"unmatched, no preflight", PROG_MATCH_EXACT, "https://a", "GET", "https://b", NULL, true,
     CORS_NONE},
};

START_TEST(verdict)
{
    struct prog_string_match m = {.kind = (enum prog_match_kind)cases[_i].kind,
                                  .value = slice_str(cases[_i].policy)};
    struct prog_cors c = {.origins = &m, .n_origins = 1, .keep_unmatched = cases[_i].keep};
    struct match_field f[2];
    struct match_request r = {.method = slice_str(cases[_i].method), .path = SL("/"), .fields = f};
    struct slice origin = SLICE_NULL;
    struct err err = {0};
    enum cors_verdict got;

    if (m.kind == PROG_MATCH_REGEX)
        ck_assert_int_eq(re_compile(m.value, &m.re, &err), 0);
    if (cases[_i].origin)
        f[r.n_fields++] = (struct match_field){SL("origin"), slice_str(cases[_i].origin)};
    if (cases[_i].asked)
        f[r.n_fields++] =
            (struct match_field){SL("access-control-request-method"), slice_str(cases[_i].asked)};
    got = match_cors(&c, &r, &origin);
    ck_assert_msg(got == cases[_i].want, "%s: %d", cases[_i].name, got);
    if (got == CORS_ALLOWED || got == CORS_PREFLIGHT)
        ck_assert(slice_is(origin, cases[_i].origin));
    ck_assert_int_eq(match_cors(NULL, &r, &origin), CORS_NONE);
    re_free(m.re);
}
END_TEST

static bool has(const struct prog_field *f, uint32_t n, const char *name, const char *value)
{
    for (uint32_t i = 0; i < n; i++)
        if (slice_is(f[i].name, name))
            return slice_is(f[i].value, value);
    return false;
}

START_TEST(fields)
{
    struct prog_cors c = {.allow_methods = SL("GET,PUT"),
                          .allow_headers = SL("x"),
                          .expose_headers = SL("y"),
                          .max_age = SL("60")};
    struct prog_field f[CORS_FIELDS];
    uint32_t n = cors_answer(&c, SL("https://a"), f);

    ck_assert_uint_eq(n, 2);
    ck_assert(has(f, n, "access-control-allow-origin", "https://a"));
    ck_assert(has(f, n, "access-control-expose-headers", "y"));
    n = cors_preflight(&c, SL("https://a"), f);
    ck_assert_uint_eq(n, 4);
    ck_assert(has(f, n, "access-control-allow-origin", "https://a"));
    ck_assert(has(f, n, "access-control-allow-methods", "GET,PUT"));
    ck_assert(has(f, n, "access-control-allow-headers", "x"));
    ck_assert(has(f, n, "access-control-max-age", "60"));
    c.allow_credentials = true;
    n = cors_preflight(&c, SL("https://a"), f);
    ck_assert_uint_eq(n, CORS_FIELDS);
    ck_assert(has(f, n, "access-control-allow-credentials", "true"));
    c = (struct prog_cors){0};
    ck_assert_uint_eq(cors_preflight(&c, SL("https://a"), f), 1);
    ck_assert_uint_eq(cors_answer(&c, SL("https://a"), f), 1);
}
END_TEST

TESTS(cors)
{
    tcase_add_loop_test(tc, verdict, 0, N_OF(cases));
    tcase_add_test(tc, fields);
}
