/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/err.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/tcase.h"

START_TEST(set_and_wrap)
{
    struct err e = {0};

    ck_assert_int_eq(err_set(&e, ERR_INVALID, "must be %d", 7), -1);
    ck_assert_int_eq(e.code, ERR_INVALID);
    ck_assert_str_eq(e.msg, "must be 7");
    ck_assert_int_eq(err_wrap(&e, "spec.%s", "x"), -1);
    ck_assert_str_eq(e.msg, "spec.x: must be 7");
    ck_assert_int_eq(e.code, ERR_INVALID);
    err_set(&e, ERR_IO, "[%s]", e.msg); /* made from its own old text */
    ck_assert_str_eq(e.msg, "[spec.x: must be 7]");
    ck_assert_int_eq(err_set(NULL, ERR_IO, "x"), -1);
    ck_assert_int_eq(err_wrap(NULL, "x"), -1);
    ck_assert_int_eq(err_errno(NULL, EIO, "x"), -1);
}
END_TEST

START_TEST(long_text_is_cut)
{
    struct err e = {0};
    char big[1000];

    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    err_set(&e, ERR_LIMIT, "%s", big);
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
    err_wrap(&e, "front");
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
    ck_assert(strncmp(e.msg, "front: aaa", 10) == 0);
    err_wrap(&e, "%s", big);
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
}
END_TEST

START_TEST(names_are_the_codes_in_lower_case)
{
    static const char *const upper[] = {
#define X(name, meaning) #name,
        ERR_CODES(X)
#undef X
    };

    for (size_t i = 0; i < N_OF(upper); i++)
        ck_assert_msg(strcasecmp(upper[i], err_code_name((enum err_code)i)) == 0, "%s", upper[i]);
    ck_assert_str_eq(err_code_name((enum err_code)999), "unknown");
}
END_TEST

static const struct {
    int num;
    enum err_code code;
} nums[] = {{ENOMEM, ERR_NOMEM},      {EAGAIN, ERR_AGAIN},
            {ETIMEDOUT, ERR_TIMEOUT}, {ECONNREFUSED, ERR_UNAVAILABLE},
            {ENOENT, ERR_IO},         {99999, ERR_IO}};

START_TEST(from_errno)
{
    struct err e = {0};

    err_errno(&e, nums[_i].num, "open %s", "/x");
    ck_assert_int_eq(e.code, nums[_i].code);
    ck_assert(strncmp(e.msg, "open /x: ", 9) == 0 && strlen(e.msg) > 9);
}
END_TEST

TESTS(err)
{
    tcase_add_test(tc, set_and_wrap);
    tcase_add_test(tc, long_text_is_cut);
    tcase_add_test(tc, names_are_the_codes_in_lower_case);
    tcase_add_loop_test(tc, from_errno, 0, (int)N_OF(nums));
}
