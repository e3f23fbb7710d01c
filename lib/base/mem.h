/* SPDX-License-Identifier: Apache-2.0 */
/* The base allocator. Everything in this tree allocates through it, so that tests can make the n-th
 * call fail and walk every error path (the out-of-memory sweep). Libraries that take allocation
 * hooks (jansson, libyaml, OpenSSL, nghttp2, libcurl) are given these where a sweep covers them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"

/* NULL when out of memory; n == 0 gives a unique pointer. mem_zalloc gives zeroed bytes;
 * mem_array checks the product for overflow and zeroes. */
void *mem_alloc(size_t n) __attribute__((malloc));
void *mem_zalloc(size_t n) __attribute__((malloc));
void *mem_array(size_t count, size_t size) __attribute__((malloc));
void *mem_realloc(void *p, size_t n);
void mem_free(void *p);
/* Copies; NULL when out of memory. */
char *mem_strdup(const char *s) __attribute__((malloc));
char *mem_strndup(const char *p, size_t n) __attribute__((malloc));

/* For CLEANUP(mem_freep): frees *(void **)pp. */
void mem_freep(void *pp);

/* Test hook: after `n` more successful allocations the next one, and only that one, fails; n < 0
 * switches the hook off. Counts per thread. mem_fail_hit tells whether it has fired. */
void mem_fail_after(int64_t n);
int mem_fail_hit(void);
