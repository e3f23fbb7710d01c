/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of consistent hashing: one for all workers and clusters that hash the same hosts the same
 * way. Found by the content that they were made of; freed with the last user. */
#include <pthread.h>

#include "lib/base/buf.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "proxy/upstream/choose.h"

struct up_table {
    struct up_table *next;
    struct hash128 id;
    struct hash_table *hash;
    uint32_t refs;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for what follows */
static struct up_table *tables;

static bool id_of(bool maglev, uint32_t size, const struct hash_host *hosts, uint32_t n,
                  struct hash128 *ret)
{
    struct buf b;
    buf_init(&b, (size_t)n * 80 + 64);
    buf_addf(&b, "%d %u", maglev, size);
    for (uint32_t i = 0; i < n; i++)
        buf_addf(&b, " %.*s*%u", SL_FMT(hosts[i].key), hosts[i].weight);
    bool ok = buf_err(&b) == ERR_OK;
    *ret = hash128(buf_slice(&b));
    buf_fini(&b);
    return ok;
}

struct up_table *up_table_get(bool maglev, uint32_t size, const struct hash_host *hosts, uint32_t n)
{
    struct hash128 id;
    struct up_table *t = NULL;
    if (!id_of(maglev, size, hosts, n, &id))
        return NULL;
    pthread_mutex_lock(&lock);
    for (t = tables; t && (t->id.lo != id.lo || t->id.hi != id.hi);)
        t = t->next;
    if (!t && (t = mem_zalloc(sizeof *t))) {
        t->id = id;
        if (hash_table_new(maglev, size, hosts, n, &t->hash) == ERR_OK) {
            t->next = tables;
            tables = t;
        } else {
            mem_free(t);
            t = NULL;
        }
    }
    if (t)
        t->refs++;
    pthread_mutex_unlock(&lock);
    return t;
}

struct up_table *up_table_ref(struct up_table *t)
{
    pthread_mutex_lock(&lock);
    t->refs++;
    pthread_mutex_unlock(&lock);
    return t;
}

void up_table_unref(struct up_table *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&lock);
    bool last = --t->refs == 0;
    for (struct up_table **p = &tables; last && *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    hash_table_free(t->hash);
    mem_free(t);
}

const struct hash_table *up_table_hash(const struct up_table *t)
{
    return t->hash;
}

size_t up_tables(size_t *ret_bytes)
{
    size_t n = 0;
    *ret_bytes = 0;
    pthread_mutex_lock(&lock);
    for (const struct up_table *t = tables; t; t = t->next, n++)
        *ret_bytes += hash_table_bytes(t->hash);
    pthread_mutex_unlock(&lock);
    return n;
}
