/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/slice.h"

#include "lib/base/escape.h"
#include "tests/unit/tcase.h"

START_TEST(compare)
{
    ck_assert(slice_eq(SL("ab"), slice_str("ab")) && !slice_eq(SL("ab"), SL("abc")));
    ck_assert(slice_eq(SLICE_NULL, SL("")));
    ck_assert(slice_ieq(SL("HoSt"), SL("hOsT")) && !slice_ieq(SL("a["), SL("a{")));
    ck_assert(slice_istarts(SL("Bearer x"), SL("bearer ")) && !slice_istarts(SL("be"), SL("bea")));
    ck_assert(slice_starts(SL("abc"), SL("ab")) && slice_starts(SL(""), SL("")));
    ck_assert(slice_ends(SL("a.svc"), SL(".svc")) && !slice_ends(SL("svc"), SL(".svc")));
    ck_assert_int_lt(slice_cmp(SL("a"), SL("ab")), 0);
    ck_assert_int_gt(slice_cmp(SL("b"), SL("ab")), 0);
    ck_assert_int_eq(slice_cmp(SLICE_NULL, SL("")), 0);
    ck_assert_int_gt(slice_cmp(SL("\xff"), SL("a")), 0); /* bytes, not signed chars */
}
END_TEST

START_TEST(find)
{
    ck_assert_int_eq(slice_chr(SL("a:b:c"), ':'), 1);
    ck_assert_int_eq(slice_rchr(SL("a:b:c"), ':'), 3);
    ck_assert_int_eq(slice_chr(SLICE_NULL, ':'), -1);
    ck_assert_int_eq(slice_find(SL("hello"), SL("ll")), 2);
    ck_assert_int_eq(slice_find(SL("hello"), SL("")), 0);
    ck_assert_int_eq(slice_find(SLICE_NULL, SL("x")), -1);
    ck_assert(slice_is(slice_trim(SL(" \t a b\t ")), "a b"));
    ck_assert(slice_is(slice_trim(SL(" \t")), ""));
    ck_assert(slice_is(slice_skip(SL("abc"), 9), "") && slice_is(slice_head(SL("abc"), 2), "ab"));
}
END_TEST

static const struct {
    const char *in, *want;
} cuts[] = {{"a,,b", "[a][][b]"}, {"", "[]"}, {"a,", "[a][]"}, {",", "[][]"}, {"abc", "[abc]"}};

START_TEST(next)
{
    struct slice rest = slice_str(cuts[_i].in), part;
    char got[64] = "";

    while (slice_next(&rest, ',', &part)) {
        strcat(got, "[");
        strncat(got, part.p, part.len);
        strcat(got, "]");
    }
    ck_assert_str_eq(got, cuts[_i].want);
    ck_assert(!slice_next(&rest, ',', &part));
}
END_TEST

static const struct {
    const char *in;
    uint64_t max;
    bool ok;
    uint64_t want;
} numbers[] = {
    {"0", 10, true, 0},
    {"007", 10, true, 7},
    {"10", 10, true, 10},
    {"11", 10, false, 0},
    {"", 10, false, 0},
    {"-1", 10, false, 0},
    {"+1", 10, false, 0},
    {" 1", 10, false, 0},
    {"1a", 10, false, 0},
    {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
    {"18446744073709551616", UINT64_MAX, false, 0},
    {"99999999999999999999", UINT64_MAX, false, 0},
};

START_TEST(decimal)
{
    uint64_t got = 42;

    ck_assert_int_eq(slice_u64(slice_str(numbers[_i].in), numbers[_i].max, &got), numbers[_i].ok);
    ck_assert_uint_eq(got, numbers[_i].ok ? numbers[_i].want : 42);
}
END_TEST

START_TEST(hexadecimal)
{
    uint64_t v = 0;

    ck_assert(slice_hex64(SL("fFfFffffffffffff"), &v) && v == UINT64_MAX);
    ck_assert(slice_hex64(SL("1a"), &v) && v == 26);
    ck_assert(!slice_hex64(SL(""), &v) && !slice_hex64(SL("0x1"), &v) && !slice_hex64(SL("g"), &v));
    ck_assert(!slice_hex64(SL("00000000000000000"), &v));
}
END_TEST

START_TEST(copy)
{
    char dst[4] = "zzz";

    ck_assert(slice_copy(SL("abc"), dst, sizeof dst));
    ck_assert_str_eq(dst, "abc");
    ck_assert(!slice_copy(SL("abcd"), dst, sizeof dst));
    ck_assert_str_eq(dst, "");
    ck_assert(slice_copy(SLICE_NULL, dst, sizeof dst));
    ck_assert(!slice_copy(SL(""), dst, 0));
}
END_TEST

static const struct {
    const char *in, *text, *json;
} escapes[] = {
    {"a b", "a b", "a b"},
    {"\"\\", "\\\"\\\\", "\\\"\\\\"},
    {"\r\n\t", "\\r\\n\\t", "\\r\\n\\t"},
    {"\x1b[2J\x7f", "\\x1b[2J\\x7f", "\\u001b[2J\\u007f"},
    {"\xc3\xa9", "\\xc3\\xa9", "\xc3\xa9"},
    {"\xc2\x9b", "\\xc2\\x9b", "\\u009b"},
    {"\xc0\xaf", "\\xc0\\xaf", "\\\\xc0\\\\xaf"},                 /* overlong */
    {"\xed\xa0\x80", "\\xed\\xa0\\x80", "\\\\xed\\\\xa0\\\\x80"}, /* surrogate */
    {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", "\\\\xf4\\\\x90\\\\x80\\\\x80"},
    {"\xf0\x9f\x98\x80", "\\xf0\\x9f\\x98\\x80", "\xf0\x9f\x98\x80"},
    {"\xe2\x82", "\\xe2\\x82", "\\\\xe2\\\\x82"}, /* cut short */
};

START_TEST(escape)
{
    for (int form = ESCAPE_TEXT; form <= ESCAPE_JSON; form++) {
        struct slice in = slice_str(escapes[_i].in);
        char got[64];
        size_t n = 0, used;

        while (in.len) {
            n += escape_step(in, (enum escape_form)form, got + n, &used);
            in = slice_skip(in, used);
        }
        got[n] = '\0';
        ck_assert_str_eq(got, form == ESCAPE_TEXT ? escapes[_i].text : escapes[_i].json);
    }
}
END_TEST

START_TEST(escape_nul)
{
    char got[ESCAPE_MAX + 1] = "";
    size_t used;

    ck_assert_uint_eq(escape_step(slice_of("\0", 1), ESCAPE_TEXT, got, &used), 4);
    ck_assert_str_eq(got, "\\x00");
    ck_assert_uint_eq(escape_step(slice_of("\0", 1), ESCAPE_JSON, got, &used), 5);
    ck_assert_str_eq(got, "\\\\x00");
}
END_TEST

TESTS(slice)
{
    tcase_add_test(tc, compare);
    tcase_add_test(tc, find);
    tcase_add_loop_test(tc, next, 0, (int)N_OF(cuts));
    tcase_add_loop_test(tc, decimal, 0, (int)N_OF(numbers));
    tcase_add_test(tc, hexadecimal);
    tcase_add_test(tc, copy);
    tcase_add_loop_test(tc, escape, 0, (int)N_OF(escapes));
    tcase_add_test(tc, escape_nul);
}
