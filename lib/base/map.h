/* SPDX-License-Identifier: Apache-2.0 */
/* Hash map from byte strings to pointers: open addressing, seeded xxhash (attackers cannot choose
 * collisions), keys copied. Iteration order is insertion order as long as nothing was removed; use
 * map_sorted for output that people or goldens see. */
#pragma once

#include "lib/base/slice.h"

struct map {
    struct map_entry *slots;
    size_t len, cap, used;
    uint64_t seed;
};
struct map_entry {
    char *key; /* owned, NUL-terminated; NULL = empty or removed */
    uint32_t key_len;
    uint32_t hash; /* 1 with key NULL marks a removed entry */
    void *value;
};

/* Zero-initialised is ready to use. */
void map_fini(struct map *m);                       /* keys only; values are the caller's */
void *map_get(const struct map *m, struct slice key); /* NULL when absent */
struct map_entry *map_find(const struct map *m, struct slice key);
/* Add or replace. *ret_old (may be NULL) gets the replaced value or NULL. -1 when out of memory. */
int map_put(struct map *m, struct slice key, void *value, void **ret_old);
/* Remove; the value or NULL. */
void *map_remove(struct map *m, struct slice key);
/* Iterate: `for (struct map_entry *e = NULL; (e = map_next(m, e));)`. Removing the current entry
 * while iterating is allowed, adding is not. */
struct map_entry *map_next(const struct map *m, struct map_entry *prev);
/* Heap array of the entries ordered by key (mem_free); *ret_len entries; NULL when empty or out of
 * memory. Borrowed entries: valid until the map changes. */
struct map_entry **map_sorted(const struct map *m, size_t *ret_len);
