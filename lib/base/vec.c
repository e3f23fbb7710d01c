/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/vec.h"

int vec_grow_(void **p, size_t *cap, size_t need, size_t size)
{
    size_t to, bytes;
    void *q;

    if (need <= *cap)
        return 0;
    to = *cap ? *cap : 4;
    while (to < need)
        to = to > SIZE_MAX / 2 ? need : to * 2;
    if (__builtin_mul_overflow(to, size, &bytes))
        return -1;
    q = mem_realloc(*p, bytes);
    if (!q)
        return -1;
    *p = q;
    *cap = to;
    return 0;
}
