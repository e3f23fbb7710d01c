/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/re.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *pattern, *text;
    bool full;
} matches[] = {
    {"a.c", "abc", true},
    {"a.c", "abcd", false}, /* the whole value, not a part */
    {"a.c", "xabc", false},
    {"", "", true},
    {".*", "", true},
    {"(?i)Cart", "cART", true},
    {"^/v[0-9]+/.*$", "/v12/x", true},
    {"(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false},
    {"a|ab", "ab", true},
    {"\\d{3}", "123", true},
    {"[^/]+", "a/b", false},
};

START_TEST(full_match)
{
    struct err err = {0};
    struct re *re;

    ck_assert_msg(re_compile(slice_str(matches[_i].pattern), &re, &err) == 0, "%s", err.msg);
    ck_assert_msg(re_full_match(re, slice_str(matches[_i].text)) == matches[_i].full, "%s on %s",
                  matches[_i].pattern, matches[_i].text);
    re_free(re);
}
END_TEST

static const struct {
    const char *pattern, *text, *sub, *want; /* want NULL: refused */
} replaces[] = {
    {"^/service/([^/]+)(/.*)$", "/service/foo/v1", "\\2/instance/\\1", "/v1/instance/foo"},
    {"/v1", "/v1/x/v1", "/v2", "/v2/x/v2"},
    {"x", "abc", "y", "abc"},
    {"a", "a", "\\3", NULL},
    {"a", "a", "\\", NULL},
};

START_TEST(replace)
{
    struct err err = {0};
    struct re *re;
    struct buf b;

    buf_init(&b, 1024);
    ck_assert_int_eq(re_compile(slice_str(replaces[_i].pattern), &re, &err), 0);
    enum err_code rc = re_replace(re, slice_str(replaces[_i].text), slice_str(replaces[_i].sub), &b);
    ck_assert_int_eq(rc, replaces[_i].want ? ERR_OK : ERR_INVALID);
    ck_assert_int_eq(re_check_substitution(re, slice_str(replaces[_i].sub), &err),
                     replaces[_i].want ? 0 : -1);
    if (replaces[_i].want)
        ck_assert_str_eq(buf_cstr(&b), replaces[_i].want);
    buf_fini(&b);
    re_free(re);
}
END_TEST

START_TEST(refused)
{
    static char big[RE_MAX_PATTERN + 1];
    struct err err = {0};
    struct re *re = NULL;

    memset(big, 'a', sizeof big);
    ck_assert_int_eq(re_compile(slice_of(big, sizeof big), &re, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    ck_assert_int_eq(re_compile(SL("a("), &re, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_int_eq(re_compile(SL("(?=a)"), &re, &err), -1); /* no look-ahead in RE2 */
    ck_assert_int_eq(re_compile(SL("((((a{100}){100}){100}){100})"), &re, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_ptr_null(re);
}
END_TEST

TESTS(re)
{
    tcase_add_loop_test(tc, full_match, 0, N_OF(matches));
    tcase_add_loop_test(tc, replace, 0, N_OF(replaces));
    tcase_add_test(tc, refused);
}
