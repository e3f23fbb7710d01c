/* SPDX-License-Identifier: Apache-2.0 */
/* Who depends on a token: a chained hash table from 64-bit tokens to owners, many to many. Entries
 * are embedded in what the owner allocates. */
#pragma once

#include <stdint.h>
#include <stdlib.h>

struct token_entry {
    uint64_t token;
    void *owner;
    struct token_entry *next, **pprev;
};
struct tokens { /* zero-initialised is empty */
    struct token_entry **slots;
    size_t cap, len;
};
void tokens_fini(struct tokens *t);
/* -1: out of memory. */
int tokens_add(struct tokens *t, struct token_entry *e, uint64_t token, void *owner);
void tokens_remove(struct tokens *t, struct token_entry *e);
/* First and next entry of a token; NULL at the end. */
struct token_entry *tokens_first(const struct tokens *t, uint64_t token);
struct token_entry *tokens_next(const struct token_entry *e);
