/* SPDX-License-Identifier: Apache-2.0 */
/* The five functions of tulle-re2.so: RE2 for C, found by name with dlsym (lib/base/re.c). Bump the
 * version in the names when a signature changes. */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
/* A compiled pattern, or NULL with a NUL-terminated reason in err. */
void *tulle_re2_compile_v1(const char *pattern, size_t len, char *err, size_t err_cap);
void tulle_re2_free_v1(void *re);
int tulle_re2_full_match_v1(const void *re, const char *text, size_t len);
/* 1 when the substitution fits the pattern, else 0 with a reason. */
int tulle_re2_check_v1(const void *re, const char *sub, size_t len, char *err, size_t err_cap);
/* Replace every match and hand the result to `sink` once. */
void tulle_re2_replace_v1(const void *re, const char *text, size_t len, const char *sub,
                          size_t sub_len, void (*sink)(void *arg, const char *p, size_t n),
                          void *arg);
#ifdef __cplusplus
}
#endif
