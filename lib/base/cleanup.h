/* SPDX-License-Identifier: Apache-2.0 */
/* Straight-line cleanup: `CLEANUP(fn) T x = ...;` calls `fn(&x)` at the end of the scope; TAKE(x)
 * hands ownership on and leaves NULL behind, so that the cleanup sees nothing to do. */
#pragma once

#include <stddef.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        __typeof__(p) take_tmp_ = (p);                                                             \
        (p) = NULL;                                                                                \
        take_tmp_;                                                                                 \
    })
#define N_OF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define UNUSED __attribute__((unused))
#define NODISCARD __attribute__((warn_unused_result))
