/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/outlier.h"
#include "tests/unit/tcase.h"

#define S INT64_C(1000000000)

static uint16_t too_many[] = {429};
static const struct prog_outlier plain = {.consecutive_5xx = 3},
                                 gateway = {.consecutive_5xx = 5, .consecutive_gateway = 2},
                                 split = {.consecutive_5xx = 3,
                                          .consecutive_local = 2,
                                          .split_local = true},
                                 codes = {.consecutive_5xx = 2, .codes = too_many, .n_codes = 1};

/* Results in order: a status, F for a failure of ours, C for a connection that was made. */
static const struct {
    const char *name;
    const struct prog_outlier *o;
    const char *results;
    enum outlier_cause want; /* of the last one; the others give none */
} counts[] = {
    {"three in a row", &plain, "500 503 501", OUTLIER_5XX},
    {"a good answer between", &plain, "500 503 200 500 500", OUTLIER_NONE},
    {"a client's error is a good answer", &plain, "500 500 404 500 500", OUTLIER_NONE},
    {"failures of ours count as 5xx", &plain, "500 F F", OUTLIER_5XX},
    {"a connection is a good sign", &plain, "F F C F F", OUTLIER_NONE},
    {"gateway errors", &gateway, "502 504", OUTLIER_GATEWAY},
    {"failures of ours are gateway errors", &gateway, "503 F", OUTLIER_GATEWAY},
    {"another 5xx breaks their row", &gateway, "503 500 503", OUTLIER_NONE},
    {"all of them are 5xx", &gateway, "500 503 500 503 500", OUTLIER_5XX},
    {"own failures apart", &split, "F F", OUTLIER_LOCAL},
    {"they are no 5xx", &split, "500 500 F 200", OUTLIER_NONE},
    {"a connection ends their row", &split, "F C F", OUTLIER_NONE},
    {"but not that of errors", &split, "500 500 C 500", OUTLIER_5XX},
    {"further statuses", &codes, "429 429", OUTLIER_5XX},
    {"others not", &codes, "430 430 430", OUTLIER_NONE},
};

START_TEST(count)
{
    struct outlier_state s = {0};
    struct slice rest = slice_str(counts[_i].results), one;
    enum outlier_cause got = OUTLIER_NONE;
    uint64_t status;

    while (slice_next(&rest, ' ', &one)) {
        ck_assert_msg(got == OUTLIER_NONE, "%s: too early", counts[_i].name);
        if (!slice_u64(one, 599, &status))
            status = 0;
        got = outlier_count(counts[_i].o, &s, (unsigned)status, slice_is(one, "F"));
    }
    ck_assert_msg(got == counts[_i].want, "%s: %d", counts[_i].name, got);
}
END_TEST

START_TEST(how_many)
{
    struct prog_outlier o = {.max_ejection_percent = 50};

    ck_assert(outlier_allows(&o, 0, 1)); /* one always */
    ck_assert(outlier_allows(&o, 1, 4));
    ck_assert(!outlier_allows(&o, 2, 4));
    o.max_ejection_percent = 0; /* ten */
    ck_assert(outlier_allows(&o, 1, 20));
    ck_assert(!outlier_allows(&o, 1, 19));
}
END_TEST

/* Longer each time, shorter again for each look without trouble, at most 300 s. */
START_TEST(how_long)
{
    struct prog_outlier o = {.base_ejection_ms = 30000, .interval_ms = 10000};
    struct outlier_state s = {0};
    int64_t now = 5 * S;

    outlier_eject(&o, &s, now);
    ck_assert_int_eq(s.until_ns, 40 * S); /* the first look after 35 s */
    ck_assert(outlier_out(&s, 39 * S));
    s.consecutive_5xx = 2;
    ck_assert(!outlier_out(&s, 40 * S));
    ck_assert_uint_eq(s.consecutive_5xx, 0);
    outlier_eject(&o, &s, 40 * S);
    ck_assert_int_eq(s.until_ns, 100 * S);
    ck_assert(!outlier_out(&s, 100 * S));
    outlier_eject(&o, &s, 120 * S); /* two looks passed: as the first time */
    ck_assert_int_eq(s.until_ns, 150 * S);
    for (int i = 0; i < 20; i++) {
        now = s.until_ns;
        ck_assert(!outlier_out(&s, now));
        outlier_eject(&o, &s, now);
    }
    ck_assert_int_eq(s.until_ns - now, 300 * S);
    o.base_ejection_ms = 400000; /* a longer base is its own bound */
    s = (struct outlier_state){0};
    outlier_eject(&o, &s, 10 * S);
    ck_assert_int_eq(s.until_ns, 410 * S);
}
END_TEST

START_TEST(grpc)
{
    ck_assert_uint_eq(outlier_grpc_status(0), 200);
    ck_assert_uint_eq(outlier_grpc_status(5), 404);
    ck_assert_uint_eq(outlier_grpc_status(14), 503);
    ck_assert_uint_eq(outlier_grpc_status(17), 500);
    ck_assert_uint_eq(outlier_grpc_status(-1), 500);
}
END_TEST

TESTS(outlier)
{
    tcase_add_loop_test(tc, count, 0, N_OF(counts));
    tcase_add_test(tc, how_many);
    tcase_add_test(tc, how_long);
    tcase_add_test(tc, grpc);
}
