/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/tokens.h"

#include "lib/base/mem.h"

void tokens_fini(struct tokens *t)
{
    mem_free(t->slots);
    *t = (struct tokens){0};
}

static void link_in(struct token_entry **slot, struct token_entry *e)
{
    e->next = *slot;
    e->pprev = slot;
    if (*slot)
        (*slot)->pprev = &e->next;
    *slot = e;
}

static int grow(struct tokens *t)
{
    size_t cap = t->cap ? t->cap * 2 : 64;
    struct token_entry **slots = mem_array(cap, sizeof *slots);
    if (!slots)
        return t->cap ? 0 : -1; /* longer chains do for now */
    for (size_t i = 0; i < t->cap; i++)
        for (struct token_entry *e = t->slots[i], *next; e; e = next) {
            next = e->next;
            link_in(&slots[e->token & (cap - 1)], e);
        }
    mem_free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return 0;
}

int tokens_add(struct tokens *t, struct token_entry *e, uint64_t token, void *owner)
{
    if (t->len >= t->cap && grow(t) < 0)
        return -1;
    e->token = token;
    e->owner = owner;
    link_in(&t->slots[token & (t->cap - 1)], e);
    t->len++;
    return 0;
}

void tokens_remove(struct tokens *t, struct token_entry *e)
{
    if (!e->pprev)
        return;
    *e->pprev = e->next;
    if (e->next)
        e->next->pprev = e->pprev;
    e->next = NULL;
    e->pprev = NULL;
    t->len--;
}

struct token_entry *tokens_next(const struct token_entry *e)
{
    uint64_t token = e->token;
    struct token_entry *n = e->next;
    while (n && n->token != token)
        n = n->next;
    return n;
}

struct token_entry *tokens_first(const struct tokens *t, uint64_t token)
{
    struct token_entry *n = t->cap ? t->slots[token & (t->cap - 1)] : NULL;
    while (n && n->token != token)
        n = n->next;
    return n;
}
