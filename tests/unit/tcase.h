/* SPDX-License-Identifier: Apache-2.0 */
/* One test program per file: declare cases with START_TEST, register them in TESTS(tc), done.
 *
 *     TESTS(path)
 *     {
 *         tcase_add_loop_test(tc, path_normal_form, 0, N_OF(paths));
 *     }
 */
#pragma once

#include <check.h>
#include <stdlib.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"

#define TESTS(name)                                                                                \
    static void tests_(TCase *tc);                                                                 \
    int main(void)                                                                                 \
    {                                                                                              \
        Suite *s = suite_create(#name);                                                            \
        TCase *tc = tcase_create(#name);                                                           \
        tcase_set_timeout(tc, 60);                                                                 \
        tests_(tc);                                                                                \
        suite_add_tcase(s, tc);                                                                    \
        SRunner *r = srunner_create(s);                                                            \
        srunner_run_all(r, CK_NORMAL);                                                             \
        int failed = srunner_ntests_failed(r);                                                     \
        srunner_free(r);                                                                           \
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;                                               \
    }                                                                                              \
    static void tests_(TCase *tc)

/* Run the block for n = 0, 1, 2 ... with the n-th allocation failing, until it runs through without
 * the hook firing. The block must leave nothing behind whether it succeeds or fails. */
#define OOM_SWEEP(n)                                                                               \
    for (int64_t n = 0, oom_more_ = 1; oom_more_ && n < 100000;                                    \
         oom_more_ = mem_fail_hit(), mem_fail_after(-1), n++)                                      \
        for (int oom_once_ = (mem_fail_after(n), 1); oom_once_; oom_once_ = 0)
