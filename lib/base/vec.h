/* SPDX-License-Identifier: Apache-2.0 */
/* Typed growable arrays: `VEC(struct foo) v = {0}; struct foo *x = VEC_PUSH(&v);`. VEC_PUSH returns
 * a zeroed new last element or NULL when out of memory. Elements move when the vector grows. */
#pragma once

#include <string.h>

#include "lib/base/mem.h"

#define VEC(T)                                                                                     \
    struct {                                                                                       \
        T *p;                                                                                      \
        size_t len, cap;                                                                           \
    }
int vec_grow_(void **p, size_t *cap, size_t need, size_t size);
#define VEC_RESERVE(v, n)                                                                          \
    (vec_grow_((void **)&(v)->p, &(v)->cap, (v)->len + (n), sizeof *(v)->p))
#define VEC_PUSH(v)                                                                                \
    (VEC_RESERVE(v, 1) < 0 ? NULL                                                                  \
                           : (memset(&(v)->p[(v)->len], 0, sizeof *(v)->p), &(v)->p[(v)->len++]))
#define VEC_FREE(v) (mem_free((v)->p), (v)->p = NULL, (v)->len = (v)->cap = 0)
/* Remove element i, keeping order. */
#define VEC_REMOVE(v, i)                                                                           \
    (memmove(&(v)->p[i], &(v)->p[(i) + 1], ((v)->len - (i)-1) * sizeof *(v)->p), (v)->len--)
#define VEC_EACH(v, it) (__typeof__((v)->p) it = (v)->p; it < (v)->p + (v)->len; it++)
