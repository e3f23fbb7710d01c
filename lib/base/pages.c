/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/pages.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* One mapping for many pages, as the kernel bounds the number of mappings. */
enum { CHUNK_PAGES = 64, CHUNK_BYTES = CHUNK_PAGES * PAGE_BYTES, CHUNKS_MAX = 1024 };

static struct {
    char *base;
    uint64_t used; /* a bit for each page */
} chunks[CHUNKS_MAX];
static unsigned n_chunks, first_free; /* no free page before that chunk */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static char *chunk_map(void)
{
    void *p = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, CHUNK_BYTES, MADV_NOHUGEPAGE); /* one touched page is to cost one page */
    return p;
}

static void *take(void)
{
    while (first_free < n_chunks && chunks[first_free].used == UINT64_MAX)
        first_free++;
    if (first_free == n_chunks) {
        if (n_chunks == CHUNKS_MAX || !(chunks[n_chunks].base = chunk_map()))
            return NULL;
        chunks[n_chunks++].used = 0;
    }
    int bit = __builtin_ctzll(~chunks[first_free].used);
    chunks[first_free].used |= UINT64_C(1) << bit;
    return chunks[first_free].base + (size_t)bit * PAGE_BYTES;
}

void *page_take(void)
{
    pthread_mutex_lock(&lock);
    void *p = take();
    pthread_mutex_unlock(&lock);
    return p;
}

void page_give(void *page)
{
    char *p = page;

    if (madvise(p, PAGE_BYTES, MADV_DONTNEED) != 0)
        memset(p, 0, PAGE_BYTES);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < n_chunks; i++) {
        if (p < chunks[i].base || p >= chunks[i].base + CHUNK_BYTES)
            continue;
        chunks[i].used &= ~(UINT64_C(1) << (size_t)(p - chunks[i].base) / PAGE_BYTES);
        if (i < first_free)
            first_free = i;
        break;
    }
    pthread_mutex_unlock(&lock);
}

bool page_rest(void *page)
{
    const uint64_t *w = page;

    for (size_t i = 0; i < PAGE_BYTES / sizeof *w; i++)
        if (w[i])
            return false;
    return madvise(page, PAGE_BYTES, MADV_DONTNEED) == 0;
}
