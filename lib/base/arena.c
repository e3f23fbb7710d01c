/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "lib/base/mem.h"

#define ALIGN 16u
#define FIRST_BLOCK 512u
#define LARGEST_BLOCK ((size_t)64 << 10)

struct arena_block { /* `head` is the one being filled; the first one made is last in the list */
    struct arena_block *next;
    size_t size, used; /* of data */
    _Alignas(ALIGN) char data[];
};

void arena_init(struct arena *a, size_t first_block, size_t cap)
{
    *a = (struct arena){.cap = cap, .block = first_block};
}

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    *a = (struct arena){.cap = a->cap};
}

size_t arena_content(const struct arena *a)
{
    size_t n = 0;

    for (const struct arena_block *b = a->head; b; b = b->next)
        n += b->used;
    return n;
}

void arena_wipe(struct arena *a)
{
    for (struct arena_block *b = a->head; b; b = b->next)
        explicit_bzero(b->data, b->used);
}

void arena_reset(struct arena *a)
{
    struct arena_block *b = a->head;

    if (!b)
        return;
    while (b->next) {
        struct arena_block *next = b->next;

        mem_free(b);
        b = next;
    }
    b->used = 0;
    a->head = b;
    a->used = sizeof *b + b->size;
    a->block = b->size;
}

static struct arena_block *block_new(struct arena *a, size_t size)
{
    size_t whole = sizeof(struct arena_block) + size;
    struct arena_block *b;

    if (a->cap && (whole > a->cap || a->used > a->cap - whole))
        return NULL;
    b = mem_alloc(whole);
    if (!b)
        return NULL;
    b->next = NULL;
    b->size = size;
    b->used = 0;
    a->used += whole;
    return b;
}

/* A block with room for n. One that is made for a single large object goes behind the head, so that
 * the rest of the head is not wasted. Near the cap an exact block is tried. */
static struct arena_block *block_for(struct arena *a, size_t n)
{
    size_t usual = a->block ? a->block : FIRST_BLOCK;
    struct arena_block *b = block_new(a, n > usual ? n : usual);

    if (!b && n < usual)
        b = block_new(a, n);
    if (!b)
        return NULL;
    if (a->head && n > usual) {
        b->next = a->head->next;
        a->head->next = b;
        return b;
    }
    b->next = a->head;
    a->head = b;
    a->block = usual * 2 < LARGEST_BLOCK ? usual * 2 : MAX(usual, LARGEST_BLOCK);
    return b;
}

size_t arena_takes(size_t n)
{
    return n ? (n + ALIGN - 1) & ~(size_t)(ALIGN - 1) : ALIGN;
}

/* Not zeroed. */
static void *take(struct arena *a, size_t n)
{
    struct arena_block *b = a->head;
    void *p;

    if (n > SIZE_MAX - sizeof *b - ALIGN)
        return NULL;
    n = arena_takes(n);
    if (!b || b->size - b->used < n)
        b = block_for(a, n);
    if (!b)
        return NULL;
    p = b->data + b->used;
    b->used += n;
    return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
    void *p = take(a, n);

    return p ? memset(p, 0, n) : NULL;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t n;

    return __builtin_mul_overflow(count, size, &n) ? NULL : arena_alloc(a, n);
}

char *arena_strndup(struct arena *a, const char *p, size_t n)
{
    char *s = n < SIZE_MAX ? take(a, n + 1) : NULL;

    if (!s)
        return NULL;
    if (n)
        memcpy(s, p, n);
    s[n] = '\0';
    return s;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

struct slice arena_slice(struct arena *a, struct slice s)
{
    char *p = s.p ? arena_strndup(a, s.p, s.len) : NULL;

    return p ? slice_of(p, s.len) : SLICE_NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    char *s = NULL;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0)
        s = take(a, (size_t)n + 1);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return s;
}
