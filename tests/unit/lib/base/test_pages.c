/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/pages.h"

static bool resident(void *page)
{
    unsigned char in;
    ck_assert_int_eq(mincore(page, PAGE_BYTES, &in), 0);
    return in & 1;
}

static bool is_zero(const char *p)
{
    for (size_t i = 0; i < PAGE_BYTES; i++)
        if (p[i])
            return false;
    return true;
}

/* More than a mapping holds: all different, aligned, zeroed also when they are taken again. */
START_TEST(taken_and_given)
{
    enum { N = 200 };
    static char *pages[N];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            pages[i] = page_take();
            ck_assert_ptr_nonnull(pages[i]);
            ck_assert_uint_eq((uintptr_t)pages[i] % PAGE_BYTES, 0);
            ck_assert(is_zero(pages[i]));
            memset(pages[i], i + 1, PAGE_BYTES);
        }
        for (int i = 0; i < N; i++)
            ck_assert(pages[i][0] == (char)(i + 1) && pages[i][PAGE_BYTES - 1] == (char)(i + 1));
        for (int i = 0; i < N; i++)
            page_give(pages[i]);
    }
}
END_TEST

START_TEST(rest)
{
    char *p = page_take();
    p[100] = 1;
    ck_assert(resident(p));
    ck_assert(!page_rest(p)); /* holds something */
    ck_assert_int_eq(p[100], 1);
    p[100] = 0;
    ck_assert(page_rest(p));
    ck_assert(!resident(p));
    ck_assert(is_zero(p));
    page_give(p);
}
END_TEST

TESTS(pages)
{
    tcase_add_test(tc, taken_and_given);
    tcase_add_test(tc, rest);
}
