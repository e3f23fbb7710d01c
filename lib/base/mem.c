/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/mem.h"

#include <stdlib.h>
#include <string.h>

static _Thread_local int64_t fail_after = -1;
static _Thread_local int fail_hit;

void mem_fail_after(int64_t n)
{
    fail_after = n;
    fail_hit = 0;
}

int mem_fail_hit(void)
{
    return fail_hit;
}

static inline int refused(void)
{
    if (__builtin_expect(fail_after < 0, 1))
        return 0;
    if (fail_after-- > 0)
        return 0;
    fail_hit = 1; /* fail_after is -1 now: only this one fails */
    return 1;
}

void *mem_alloc(size_t n)
{
    return refused() ? NULL : malloc(n ? n : 1);
}

void *mem_zalloc(size_t n)
{
    return refused() ? NULL : calloc(1, n ? n : 1);
}

void *mem_array(size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n))
        return NULL;
    return mem_zalloc(n);
}

void *mem_realloc(void *p, size_t n)
{
    return refused() ? NULL : realloc(p, n ? n : 1);
}

void mem_free(void *p)
{
    free(p);
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *p, size_t n)
{
    char *s;

    if (n == SIZE_MAX)
        return NULL;
    s = mem_alloc(n + 1);
    if (!s)
        return NULL;
    if (n)
        memcpy(s, p, n);
    s[n] = '\0';
    return s;
}

void mem_freep(void *pp)
{
    void *p;

    memcpy(&p, pp, sizeof p); /* pp points to a pointer of any type */
    mem_free(p);
}
