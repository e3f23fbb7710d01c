/* SPDX-License-Identifier: Apache-2.0 */
/* Which resources a proxy is told of. */
#include <string.h>

#include "operator/push_int.h"

enum {
    SUBS_MAX = 60000,  /* of one proxy: an eager one in a mesh of 10,000 services fits */
    ABSENT_MAX = 2048, /* a proxy by itself keeps half of that (CONTROL_NEGATIVE_MAX) */
};
#define COUNT_NS NS_PER_S

/* --- the table -------------------------------------------------------------------------------------- */

static uint32_t slot_of(const struct subs *t, const struct res *r)
{
    return r->hash & (t->cap - 1);
}

static void table_put(struct subs *t, struct sub *s)
{
    uint32_t i = slot_of(t, s->res);
    while (t->slots[i])
        i = (i + 1) & (t->cap - 1);
    t->slots[i] = s;
}

static int table_add(struct subs *t, struct sub *s)
{
    if (t->len >= t->cap / 4 * 3) {
        struct subs to = {.cap = t->cap ? t->cap * 2 : 8, .len = t->len};
        to.slots = mem_array(to.cap, sizeof(struct sub *));
        if (!to.slots)
            return -1;
        for (uint32_t i = 0; i < t->cap; i++)
            if (t->slots[i])
                table_put(&to, t->slots[i]);
        mem_free(t->slots);
        *t = to;
    }
    table_put(t, s);
    t->len++;
    return 0;
}

/* Those behind the hole move up, so that no search ends too early. */
static void table_remove(struct subs *t, const struct sub *s)
{
    uint32_t mask = t->cap - 1, hole = slot_of(t, s->res);
    while (t->slots[hole] != s)
        hole = (hole + 1) & mask;
    for (uint32_t i = (hole + 1) & mask; t->slots[i]; i = (i + 1) & mask) {
        if (((i - slot_of(t, t->slots[i]->res)) & mask) < ((i - hole) & mask))
            continue;
        t->slots[hole] = t->slots[i];
        hole = i;
    }
    t->slots[hole] = NULL;
    t->len--;
}

struct sub *subs_next(const struct subs *t, const struct sub *prev)
{
    uint32_t i = 0;
    if (prev) {
        for (i = slot_of(t, prev->res); t->slots[i] != prev; i = (i + 1) & (t->cap - 1))
            ;
        i++;
    }
    for (; i < t->cap; i++)
        if (t->slots[i])
            return t->slots[i];
    return NULL;
}

struct sub *sub_find(const struct client *c, enum prog_kind kind, struct slice key)
{
    const struct subs *t = &c->subs;
    uint32_t hash = res_hash(kind, key);
    if (!t->len)
        return NULL;
    for (uint32_t i = hash & (t->cap - 1); t->slots[i]; i = (i + 1) & (t->cap - 1)) {
        const struct res *r = t->slots[i]->res;
        if (r->hash == hash && r->kind == kind && slice_eq(r->key, key))
            return t->slots[i];
    }
    return NULL;
}

/* --- one ------------------------------------------------------------------------------------------------ */

void sub_pend(struct sub *s)
{
    if (!s->pending) {
        s->pending = true;
        s->client->n_pending++;
    }
    s->answered = false;
    client_queue(s->client);
}

static void link_in(struct sub *s, struct res *r)
{
    s->res = r;
    s->next = r->subs;
    s->pprev = &r->subs;
    if (r->subs)
        r->subs->pprev = &s->next;
    r->subs = s;
    r->n_subs++;
}

static void link_out(struct sub *s)
{
    *s->pprev = s->next;
    if (s->next)
        s->next->pprev = s->pprev;
    s->res->n_subs--;
}

/* All but the client's table. */
static void sub_end(struct sub *s)
{
    struct client *c = s->client;
    struct push *p = c->push;
    struct res *r = s->res;

    c->n_pending -= s->pending;
    link_out(s);
    p->stats.subscriptions--;
    if (r->kind == PROG_SERVICE)
        c->sweep = true;
    res_touch(p, r);
    mem_free(s);
    res_release(p, r);
}

void sub_free(struct sub *s)
{
    table_remove(&s->client->subs, s);
    sub_end(s);
}

void subs_fini(struct subs *t)
{
    for (uint32_t i = 0; i < t->cap; i++)
        if (t->slots[i])
            sub_end(t->slots[i]);
    mem_free(t->slots);
    *t = (struct subs){0};
}

static bool is_negative(const struct sub *s)
{
    const struct res *r = s->res;
    return r->state == PROG_ABSENT && (r->kind == PROG_SERVICE || r->kind == PROG_WORKLOAD);
}

bool sub_is_too_much(struct sub *s)
{
    struct client *c = s->client;

    int64_t now = loop_now(c->push->loop);

    if (!is_negative(s) || c->n_absent++ < ABSENT_MAX)
        return false;
    /* What came into being or was dropped meanwhile is still counted: look, now and then. */
    if (!c->counted_ns || now - c->counted_ns >= COUNT_NS) {
        c->counted_ns = now;
        c->n_absent = 0;
        for (struct sub *x = NULL; (x = subs_next(&c->subs, x));)
            c->n_absent += is_negative(x);
    }
    if (c->n_absent <= ABSENT_MAX)
        return false;
    c->n_absent--;
    return true;
}

struct sub *sub_add(struct client *c, enum prog_kind kind, struct slice key)
{
    struct push *p = c->push;
    struct sub *s = sub_find(c, kind, key);

    if (s)
        return s;
    if (c->subs.len >= SUBS_MAX)
        return NULL;
    struct res *r = res_get(p, c, kind, key);
    s = r ? mem_zalloc(sizeof *s) : NULL;
    if (s) {
        s->client = c;
        s->res = r;
    }
    if (!s || table_add(&c->subs, s) < 0) {
        mem_free(s);
        if (r)
            res_release(p, r);
        return NULL;
    }
    link_in(s, r);
    p->stats.subscriptions++;
    res_touch(p, r);
    if (kind == PROG_SERVICE)
        c->sweep = true;
    sub_pend(s);
    return s;
}

/* The table finds it by kind and key, which stay. */
void sub_move(struct sub *s, struct res *to)
{
    struct push *p = s->client->push;
    struct res *from = s->res;

    link_out(s);
    res_touch(p, from);
    link_in(s, to);
    res_touch(p, to);
    if (to->kind == PROG_SERVICE)
        s->client->sweep = true;
    if (s->answered && s->holds && to->state == PROG_VALUE &&
        memcmp(&s->has, &to->version, sizeof s->has) == 0)
        client_queue(s->client); /* it has that content already */
    else
        sub_pend(s);
}

void client_sweep(struct client *c)
{
    VEC(struct sub *) services = {0};
    VEC(struct sub *) gone = {0};

    c->sweep = false;
    for (struct sub *s = NULL; (s = subs_next(&c->subs, s));) {
        if (s->res->kind == PROG_ENDPOINTS) {
            s->needed = false;
        } else if (s->res->kind == PROG_SERVICE && s->res->n_endpoint_keys) {
            struct sub **slot = VEC_PUSH(&services);
            if (slot)
                *slot = s;
        }
    }
    for (size_t i = 0; i < services.len; i++)
        for (uint32_t k = 0; k < services.p[i]->res->n_endpoint_keys; k++) {
            struct sub *s = sub_add(c, PROG_ENDPOINTS, services.p[i]->res->endpoint_keys[k]);
            if (s)
                s->needed = true;
        }
    for (struct sub *s = NULL; (s = subs_next(&c->subs, s));) {
        if (s->res->kind == PROG_ENDPOINTS && !s->needed && !s->in_flight) {
            struct sub **slot = VEC_PUSH(&gone);
            if (slot)
                *slot = s;
        }
    }
    /* The proxy drops by itself what no service of its names any more. */
    for (size_t i = 0; i < gone.len; i++)
        sub_free(gone.p[i]);
    VEC_FREE(&services);
    VEC_FREE(&gone);
    c->sweep = false;
}
