/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/retry.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *on;
    enum retry_event event;
    uint16_t status;
    int32_t grpc;
    bool want;
} cases[] = {
    {"5xx", RETRY_EV_ANSWER, 500, -1, true},
    {"5xx", RETRY_EV_ANSWER, 499, -1, false},
    {"5xx", RETRY_EV_CONNECT_FAILED, 0, -1, true},
    {"5xx", RETRY_EV_TRY_TIMEOUT, 0, -1, true},
    {"gateway-error", RETRY_EV_ANSWER, 500, -1, false},
    {"gateway-error", RETRY_EV_ANSWER, 502, -1, true},
    {"gateway-error", RETRY_EV_ANSWER, 504, -1, true},
    {"connect-failure", RETRY_EV_CONNECT_FAILED, 0, -1, true},
    {"connect-failure", RETRY_EV_RESET, 0, -1, false},
    {"reset", RETRY_EV_RESET, 0, -1, true},
    {"reset-before-request", RETRY_EV_RESET, 0, -1, false},
    {"reset-before-request", RETRY_EV_RESET_EARLY, 0, -1, true},
    {"refused-stream", RETRY_EV_REFUSED_STREAM, 0, -1, true},
    {"refused-stream", RETRY_EV_RESET, 0, -1, false},
    {"retriable-4xx", RETRY_EV_ANSWER, 409, -1, true},
    {"retriable-4xx", RETRY_EV_ANSWER, 404, -1, false},
    {"503", RETRY_EV_ANSWER, 503, -1, true},
    {"503, 404", RETRY_EV_ANSWER, 404, -1, true},
    {"503", RETRY_EV_ANSWER, 502, -1, false},
    {"retriable-status-codes", RETRY_EV_ANSWER, 503, -1, false}, /* none was named */
    {"unavailable", RETRY_EV_ANSWER, 200, 14, true},
    {"unavailable", RETRY_EV_ANSWER, 200, 13, false},
    {"cancelled", RETRY_EV_ANSWER, 200, 1, true},
    {"deadline-exceeded", RETRY_EV_ANSWER, 200, 4, true},
    {"resource-exhausted", RETRY_EV_ANSWER, 200, 8, true},
    {"internal", RETRY_EV_ANSWER, 200, 13, true},
    {"", RETRY_EV_CONNECT_FAILED, 0, -1, false},
};

START_TEST(wanted)
{
    struct prog_retry r = {.attempts = 2};
    uint32_t status[8];
    struct slice unknown;
    struct retry_outcome o = {cases[_i].event, cases[_i].status, cases[_i].grpc};

    r.status = status;
    ck_assert(retry_parse_on(slice_str(cases[_i].on), &r.on, status, 8, &r.n_status, &unknown));
    ck_assert_msg(retry_wanted(&r, &o) == cases[_i].want, "%s", cases[_i].on);
    ck_assert(!retry_wanted(NULL, &o));
}
END_TEST

START_TEST(parse)
{
    uint32_t on, n, status[2];
    struct slice unknown = SLICE_NULL;

    ck_assert(!retry_parse_on(SL("5xx,no-such"), &on, status, 2, &n, &unknown));
    ck_assert(slice_is(unknown, "no-such"));
    ck_assert(!retry_parse_on(SL("99"), &on, status, 2, &n, &unknown));
    ck_assert(!retry_parse_on(SL("500,501,502"), &on, status, 2, &n, &unknown)); /* no room */
    ck_assert(retry_parse_on(SL(" 5xx , ,500"), &on, status, 2, &n, &unknown));
    ck_assert_uint_eq(on, PROG_RETRY_5XX | PROG_RETRY_STATUS);
    ck_assert_uint_eq(n, 1);
}
END_TEST

START_TEST(backoff)
{
    struct prog_retry r = {.backoff_ms = 100};

    ck_assert_uint_eq(retry_backoff_ms(NULL, 1, UINT32_MAX), 24);
    ck_assert_uint_eq(retry_backoff_ms(&r, 1, UINT32_MAX), 99);
    ck_assert_uint_eq(retry_backoff_ms(&r, 3, UINT32_MAX), 399);
    ck_assert_uint_eq(retry_backoff_ms(&r, 50, UINT32_MAX), 999); /* ten times the base */
    ck_assert_uint_eq(retry_backoff_ms(&r, 3, 0), 0);
}
END_TEST

static const struct {
    uint32_t share, min, requests, want;
} budgets[] = {
    {20000, 3, 0, 3},       {20000, 3, 19, 3},    {20000, 3, 20, 4},
    {0, 3, 1000, 3},        {100000, 0, 7, 7},    {500, 0, 199, 0}, /* 0.5 % */
    {500, 0, 200, 1},       {100000, 3, UINT32_MAX, UINT32_MAX},
};

START_TEST(budget)
{
    struct prog_retry_budget b = {budgets[_i].share, budgets[_i].min, 0};

    ck_assert_uint_eq(retry_budget_limit(&b, budgets[_i].requests), budgets[_i].want);
}
END_TEST

/* Of one second, in tenths. */
START_TEST(window)
{
    const int64_t ms = 1000000;
    struct retry_window w = {0};

    ck_assert_uint_eq(retry_window_sum(&w, 1000, 5 * ms), 0);
    for (int i = 0; i < 10; i++) /* one each 100 ms: 0, 100 ... 900 */
        retry_window_add(&w, 1000, i * 100 * ms);
    ck_assert_uint_eq(retry_window_sum(&w, 1000, 999 * ms), 10);
    ck_assert_uint_eq(retry_window_sum(&w, 1000, 1000 * ms), 10); /* none is older than the interval */
    ck_assert_uint_eq(retry_window_sum(&w, 1000, 1101 * ms), 9);
    ck_assert_uint_eq(retry_window_sum(&w, 1000, 1901 * ms), 1);
    retry_window_add(&w, 1000, 1901 * ms);
    ck_assert_uint_eq(retry_window_sum(&w, 1000, 2001 * ms), 1);
    ck_assert_uint_eq(retry_window_sum(&w, 1000, 900000 * ms), 0); /* long idle */
    retry_window_add(&w, 1000, 900000 * ms);
    ck_assert_uint_eq(retry_window_sum(&w, 2000, 900000 * ms), 0); /* another interval: anew */
}
END_TEST

TESTS(retry)
{
    tcase_add_loop_test(tc, budget, 0, N_OF(budgets));
    tcase_add_test(tc, window);
    tcase_add_loop_test(tc, wanted, 0, N_OF(cases));
    tcase_add_test(tc, parse);
    tcase_add_test(tc, backoff);
}
