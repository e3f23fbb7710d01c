/* SPDX-License-Identifier: Apache-2.0 */
/* One arena per unit of work: a request, a connection, an admission review, a reconcile pass, a
 * compiled resource. Objects inside are never freed singly. The byte cap makes a hostile input an
 * error (NULL, ERR_LIMIT) instead of a crash. */
#pragma once

#include "lib/base/slice.h"
#include "lib/base/cleanup.h"

struct arena {
    struct arena_block *head;
    size_t used;  /* bytes taken from the allocator, block headers included */
    size_t cap;   /* most bytes to take; 0 = no cap */
    size_t block; /* size of the next block */
};

/* Zero-initialised is ready to use (no cap, small blocks). */
#define ARENA_INIT ((struct arena){0})
void arena_init(struct arena *a, size_t first_block, size_t cap);
/* Free everything; the arena is empty and ready again. */
void arena_fini(struct arena *a);
static inline void arena_free(struct arena *a)
{
    arena_fini(a);
} /* for CLEANUP */
/* What n bytes take of a block. */
size_t arena_takes(size_t n);
/* Bytes that the objects take: the first block that would hold all of them, made again in this order. */
size_t arena_content(const struct arena *a);
/* Overwrite all that it holds (keys), which is not to be used any more; arena_fini is still due. */
void arena_wipe(struct arena *a);
/* Keep the first block, forget all objects. */
void arena_reset(struct arena *a);
/* Zeroed, aligned to 16. NULL when out of memory or over the cap. */
void *arena_alloc(struct arena *a, size_t n);
void *arena_array(struct arena *a, size_t count, size_t size);
#define ARENA_NEW(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define ARENA_ARRAY(a, T, n) ((T *)arena_array((a), (n), sizeof(T)))
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *p, size_t n);
/* Copy; a null slice stays null; the copy is NUL-terminated behind its last byte.
 * Out of memory gives the null slice: compare .p where s.p was set. */
struct slice arena_slice(struct arena *a, struct slice s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
