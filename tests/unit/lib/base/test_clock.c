/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/clock.h"

#include <time.h>

#include "lib/base/rand.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *text;
    int64_t s, ms;
    const char *want; /* as written again, NULL: refused */
} times[] = {
    {"1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00.000Z"},
    {"2026-08-01T10:20:30.123Z", 1785579630, 123, "2026-08-01T10:20:30.123Z"},
    {"2026-08-01t10:20:30z", 1785579630, 0, "2026-08-01T10:20:30.000Z"},
    {"2026-08-01T12:20:30+02:00", 1785579630, 0, "2026-08-01T10:20:30.000Z"},
    {"2026-08-01T04:50:30.5-05:30", 1785579630, 500, "2026-08-01T10:20:30.500Z"},
    {"2024-02-29T23:59:59.999999999Z", 1709251199, 999, "2024-02-29T23:59:59.999Z"},
    {"2016-12-31T23:59:60Z", 1483228800, 0, "2017-01-01T00:00:00.000Z"},
    {"1969-12-31T23:59:59.250Z", -1, 250, "1969-12-31T23:59:59.250Z"},
    {"2023-02-29T00:00:00Z", 0, 0, NULL},
    {"2026-13-01T00:00:00Z", 0, 0, NULL},
    {"2026-01-01T24:00:00Z", 0, 0, NULL},
    {"2026-01-01T00:00:00", 0, 0, NULL},
    {"2026-01-01T00:00:00.Z", 0, 0, NULL},
    {"2026-01-01 00:00:00Z", 0, 0, NULL},
    {"2026-01-01T00:00:00Zx", 0, 0, NULL},
    {"2026-01-01T00:00:00+2:00", 0, 0, NULL},
    {"9999-01-01T00:00:00Z", 0, 0, NULL}, /* beyond 64 bits of nanoseconds */
    {"", 0, 0, NULL},
};

START_TEST(rfc3339)
{
    int64_t got = 0;
    char text[32];

    ck_assert_int_eq(clock_parse_rfc3339(times[_i].text, &got), times[_i].want ? 0 : -1);
    if (!times[_i].want)
        return;
    ck_assert_int_eq(got / NS_PER_MS,
                     (times[_i].s * NS_PER_S + times[_i].ms * NS_PER_MS) / NS_PER_MS);
    clock_rfc3339(got, 0, text);
    ck_assert_str_eq(text, times[_i].want);
}
END_TEST

/* The same calendar as libc's, over six centuries. */
START_TEST(calendar)
{
    for (int64_t s = -9000000000; s < 9000000000; s += 86399 * 37) {
        time_t t = (time_t)s;
        struct tm tm;
        char want[32], got[32];
        int64_t back;

        gmtime_r(&t, &tm);
        strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ", &tm);
        clock_rfc3339(s * NS_PER_S, 1, got);
        ck_assert_str_eq(got, want);
        ck_assert_int_eq(clock_parse_rfc3339(got, &back), 0);
        ck_assert_int_eq(back, s * NS_PER_S);
    }
}
END_TEST

START_TEST(virtual_clock)
{
    struct clock c;

    clock_init_virtual(&c, 5);
    ck_assert_int_eq(clock_now(&c), NS_PER_S);
    clock_advance(&c, 3600 * NS_PER_S);
    ck_assert_int_eq(clock_now(&c), 3601 * NS_PER_S);
    ck_assert_int_eq(clock_wall(&c), 3600 * NS_PER_S + 5);
}
END_TEST

START_TEST(real_clock)
{
    struct clock c, shifted;
    int64_t d;

    clock_init_real(&c);
    ck_assert_int_le(clock_now(&c), clock_now(&c));
    ck_assert_int_gt(clock_wall(&c), INT64_C(1700000000) * NS_PER_S);
    setenv("TULLE_WALL_SHIFT_S", "-600", 1);
    clock_init_real(&shifted);
    d = clock_wall(&c) - clock_wall(&shifted);
    ck_assert(d > 599 * NS_PER_S && d < 601 * NS_PER_S);
}
END_TEST

START_TEST(random_numbers)
{
    struct rnd a, b, c;
    int hist[10] = {0};

    rnd_init_seed(&a, 1);
    rnd_init_seed(&b, 1);
    rnd_init_system(&c);
    for (int i = 0; i < 10; i++)
        ck_assert_uint_eq(rnd_u64(&a), rnd_u64(&b));
    ck_assert_uint_ne(rnd_u64(&a), rnd_u64(&c));
    for (int i = 0; i < 100000; i++) {
        int64_t j = rnd_jitter(&a, 1000, 0.2);

        ck_assert(j >= 800 && j <= 1200);
        hist[rnd_below(&a, 10)]++;
    }
    for (int i = 0; i < 10; i++)
        ck_assert(hist[i] > 9500 && hist[i] < 10500);
    ck_assert_uint_eq(rnd_below(&a, 1), 0);
}
END_TEST

TESTS(clock)
{
    tcase_add_loop_test(tc, rfc3339, 0, (int)N_OF(times));
    tcase_add_test(tc, calendar);
    tcase_add_test(tc, virtual_clock);
    tcase_add_test(tc, real_clock);
    tcase_add_test(tc, random_numbers);
}
