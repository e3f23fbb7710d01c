/* SPDX-License-Identifier: Apache-2.0 */
/* Consistent hashing: the same key goes to the same host, and when hosts come or go few keys move.
 *
 * A ring has points by the hash of each host; a key belongs to the next point (Karger et al.,
 * 1997). A Maglev table is filled by hosts in turn, each by its own permutation of the slots
 * (Eisenbud et al., "Maglev", NSDI 2016, 3.4): shares are more even, a lookup is one load, and a
 * change moves slightly more keys. A table is immutable and depends on nothing but its input, so
 * that all proxies agree. */
#pragma once

#include "mesh/match/program.h"

struct hash_host {
    struct slice key; /* what tells hosts apart, such as "10.0.0.1:80" */
    uint32_t weight;  /* 0 is read as 1 */
};
struct hash_table {
    uint32_t n;       /* points or slots */
    uint64_t *points; /* ring: upper 40 bits hash, lower 24 the host's number; ascending */
    uint16_t *slots;  /* Maglev: the host's number */
};
enum { HASH_RING_MAX = 262144, HASH_MAGLEV_MAX = 1000003, HASH_HOSTS_MAX = 65535 };

/* `size`: least points of a ring (up to twice as many; by weight; at most HASH_RING_MAX in all), or
 * slots of a Maglev table, a prime. ERR_LIMIT: more than HASH_HOSTS_MAX hosts; ERR_NOMEM. */
enum err_code hash_table_new(bool maglev, uint32_t size, const struct hash_host *hosts, uint32_t n,
                             struct hash_table **ret);
void hash_table_free(struct hash_table *t);
size_t hash_table_bytes(const struct hash_table *t);
/* The host of a key; with `attempt` 1, 2 ... others, when that one cannot be used. On a ring those
 * are the hosts of the following points, as if the unusable one were not there; in a table the key
 * is hashed again, so that only the keys of an unusable host move. */
uint32_t hash_table_at(const struct hash_table *t, uint64_t hash, uint32_t attempt);
/* How many attempts make sense. */
static inline uint32_t hash_table_attempts(const struct hash_table *t)
{
    return t->points ? t->n : 64;
}
