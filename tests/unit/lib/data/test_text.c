/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, quantities, base64, versions. */
#include <stdio.h>

#include "lib/data/base64.h"
#include "lib/data/duration.h"
#include "lib/data/kver.h"
#include "lib/data/quantity.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *in;
    enum err_code code;
    int64_t ns;
    const char *out;
} durations[] = {
    {"1.5s", ERR_OK, 1500000000, "1.5s"},
    {"100ms", ERR_OK, 100000000, "100ms"},
    {"1h30m", ERR_OK, INT64_C(5400000000000), "1h30m"},
    {"0s", ERR_OK, 0, "0s"},
    {"0", ERR_OK, 0, "0s"},
    {"-1.5h", ERR_OK, -INT64_C(5400000000000), "-1h30m"},
    {"+1s", ERR_OK, 1000000000, "1s"},
    {"3600s", ERR_OK, INT64_C(3600000000000), "1h"},
    {"0.000001s", ERR_OK, 1000, "1us"},
    {"1\xc2\xb5s", ERR_OK, 1000, "1us"},
    {"1.0000000019s", ERR_OK, 1000000001, "1.000000001s"},
    {"25.5ms", ERR_OK, 25500000, "25.5ms"},
    {".5s", ERR_OK, 500000000, "500ms"},
    {"1h0.5s", ERR_OK, INT64_C(3600500000000), "1h0.5s"},
    {"2562047h", ERR_OK, INT64_C(2562047) * 3600000000000, "2562047h"},
    {"2562048h", ERR_LIMIT, 0, NULL},
    {"99999999999999999999s", ERR_LIMIT, 0, NULL},
    {"1", ERR_INVALID, 0, NULL},
    {"1.s", ERR_OK, 1000000000, "1s"},
    {"", ERR_INVALID, 0, NULL},
    {"-", ERR_INVALID, 0, NULL},
    {".s", ERR_INVALID, 0, NULL},
    {"1 s", ERR_INVALID, 0, NULL},
    {"1d", ERR_INVALID, 0, NULL},
    {"1S", ERR_INVALID, 0, NULL},
    {"s", ERR_INVALID, 0, NULL},
    {"1s ", ERR_INVALID, 0, NULL},
    {"1s-1s", ERR_INVALID, 0, NULL},
    {"1e3s", ERR_INVALID, 0, NULL},
};

START_TEST(duration)
{
    int64_t ns = 0, again = 1;
    char text[40];

    ck_assert_int_eq(duration_parse(slice_str(durations[_i].in), &ns), durations[_i].code);
    ck_assert_int_eq(ns, durations[_i].ns);
    if (durations[_i].code != ERR_OK)
        return;
    ck_assert_str_eq(duration_format(ns, text), durations[_i].out);
    ck_assert_int_eq(duration_parse(slice_str(text), &again), ERR_OK);
    ck_assert_int_eq(again, ns);
}
END_TEST

static const struct {
    const char *in;
    enum err_code code;
    int64_t milli;
} quantities[] = {
    {"10m", ERR_OK, 10},
    {"16Mi", ERR_OK, INT64_C(16777216000)},
    {"2", ERR_OK, 2000},
    {"1e3", ERR_OK, 1000000},
    {"1E3", ERR_OK, 1000000},
    {"1.5", ERR_OK, 1500},
    {"0.1", ERR_OK, 100},
    {".5", ERR_OK, 500},
    {"1.", ERR_OK, 1000},
    {"100k", ERR_OK, 100000000},
    {"1E", ERR_LIMIT, 0},
    {"1n", ERR_OK, 1},
    {"1u", ERR_OK, 1},
    {"1001u", ERR_OK, 2},
    {"0n", ERR_OK, 0},
    {"-1m", ERR_OK, -1},
    {"1.5Ki", ERR_OK, 1536000},
    {"12e-1", ERR_OK, 1200},
    {"0e1000", ERR_OK, 0},
    {"1e-400", ERR_OK, 1},
    {"8Pi", ERR_OK, INT64_C(9007199254740992000)},
    {"9Pi", ERR_LIMIT, 0},
    {"1Ei", ERR_LIMIT, 0},
    {"99999999999999999999999999", ERR_LIMIT, 0},
    {"", ERR_INVALID, 0},
    {"m", ERR_INVALID, 0},
    {"1K", ERR_INVALID, 0},
    {"1mi", ERR_INVALID, 0},
    {"1 Mi", ERR_INVALID, 0},
    {"1.2.3", ERR_INVALID, 0},
    {"1e", ERR_INVALID, 0},
    {"0x10", ERR_INVALID, 0},
};

START_TEST(quantity)
{
    int64_t milli = 0;

    ck_assert_int_eq(quantity_parse(slice_str(quantities[_i].in), &milli), quantities[_i].code);
    ck_assert_int_eq(milli, quantities[_i].milli);
}
END_TEST

static const struct {
    struct slice raw;
    const char *std, *url;
} codes[] = {
    {{"", 0}, "", ""},
    {{"f", 1}, "Zg==", "Zg"},
    {{"fo", 2}, "Zm8=", "Zm8"},
    {{"foo", 3}, "Zm9v", "Zm9v"},
    {{"foob", 4}, "Zm9vYg==", "Zm9vYg"},
    {{"\xfb\xff\xfe", 3}, "+//+", "-__-"},
    {{"\0\0", 2}, "AAA=", "AAA"},
};

START_TEST(base64)
{
    for (int form = BASE64_STD; form <= BASE64_URL; form++) {
        const char *text = form == BASE64_STD ? codes[_i].std : codes[_i].url;
        CLEANUP(buf_freep) struct buf b;

        buf_init(&b, 100);
        base64_encode(codes[_i].raw, (enum base64_form)form, &b);
        ck_assert_str_eq(buf_cstr(&b), text);
        buf_reset(&b);
        ck_assert_int_eq(base64_decode(slice_str(text), (enum base64_form)form, &b), ERR_OK);
        ck_assert(slice_eq(buf_slice(&b), codes[_i].raw));
    }
}
END_TEST

static const struct {
    const char *in;
    enum base64_form form;
} bad_codes[] = {
    {"Zg", BASE64_STD},       {"Zg=", BASE64_STD},  {"Zh==", BASE64_STD},  {"Zm9=", BASE64_STD},
    {"Z===", BASE64_STD},     {"====", BASE64_STD}, {"Zm 9v", BASE64_STD}, {"Zm9v\n", BASE64_STD},
    {"Zg==Zg==", BASE64_STD}, {"-__-", BASE64_STD}, {"Zg==", BASE64_URL},  {"Zh", BASE64_URL},
    {"Z", BASE64_URL},        {"+//+", BASE64_URL}, {"Zm9vY", BASE64_URL}, {"Zm9v=", BASE64_STD},
};

START_TEST(base64_refused)
{
    CLEANUP(buf_freep) struct buf b;

    buf_init(&b, 100);
    buf_add_str(&b, "kept");
    ck_assert_int_eq(base64_decode(slice_str(bad_codes[_i].in), bad_codes[_i].form, &b),
                     ERR_INVALID);
    ck_assert_str_eq(buf_cstr(&b), "kept");
}
END_TEST

static const struct {
    const char *in;
    int major, minor, patch; /* major -1: refused */
} versions[] = {
    {"v1.33.2", 1, 33, 2}, {"1.33", 1, 33, 0},       {"v1.30.1-gke.100", 1, 30, 1},
    {"1.29+", 1, 29, 0},   {"v1.2.3+k3s1", 1, 2, 3}, {"1", -1, 0, 0},
    {"v1.", -1, 0, 0},     {"1.2.", -1, 0, 0},       {"1.2.3.4", -1, 0, 0},
    {"1.2x", -1, 0, 0},    {"", -1, 0, 0},           {"vv1.2", -1, 0, 0},
};

START_TEST(version)
{
    struct kver v;

    ck_assert_int_eq(kver_parse(slice_str(versions[_i].in), &v), versions[_i].major >= 0);
    if (versions[_i].major < 0)
        return;
    ck_assert(v.major == (unsigned)versions[_i].major && v.minor == (unsigned)versions[_i].minor &&
              v.patch == (unsigned)versions[_i].patch);
}
END_TEST

START_TEST(version_order)
{
    struct kver v = {1, 33, 2};

    ck_assert(kver_at_least(v, 1, 33) && kver_at_least(v, 1, 9) && kver_at_least(v, 0, 99));
    ck_assert(!kver_at_least(v, 1, 34) && !kver_at_least(v, 2, 0));
    ck_assert_int_lt(kver_cmp(v, (struct kver){1, 33, 10}), 0);
    ck_assert_int_gt(kver_cmp(v, (struct kver){1, 9, 10}), 0);
    ck_assert_int_eq(kver_cmp(v, v), 0);
}
END_TEST

TESTS(text)
{
    tcase_add_loop_test(tc, duration, 0, (int)N_OF(durations));
    tcase_add_loop_test(tc, quantity, 0, (int)N_OF(quantities));
    tcase_add_loop_test(tc, base64, 0, (int)N_OF(codes));
    tcase_add_loop_test(tc, base64_refused, 0, (int)N_OF(bad_codes));
    tcase_add_loop_test(tc, version, 0, (int)N_OF(versions));
    tcase_add_test(tc, version_order);
}
