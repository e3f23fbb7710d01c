/* SPDX-License-Identifier: Apache-2.0 */
/* Which resources a proxy is told of. */
#include <string.h>

#include "operator/push_int.h"

enum { SUBS_MAX = 60000 }; /* of one proxy: an eager one in a mesh of 10,000 services fits */

static struct slice sub_name(enum prog_kind kind, struct slice key, char ret[WIRE_MAX_KEY + 2])
{
    ret[0] = (char)('0' + (int)kind);
    memcpy(ret + 1, key.p ? key.p : "", key.len);
    return slice_of(ret, key.len + 1);
}

struct sub *sub_find(const struct client *c, enum prog_kind kind, struct slice key)
{
    char name[WIRE_MAX_KEY + 2];
    return key.len > WIRE_MAX_KEY ? NULL : map_get(&c->subs, sub_name(kind, key, name));
}

void sub_pend(struct sub *s)
{
    if (!s->pending) {
        s->pending = true;
        s->client->n_pending++;
    }
    s->answered = false;
    client_queue(s->client);
}

void sub_free(struct sub *s)
{
    struct client *c = s->client;
    struct push *p = c->push;
    char name[WIRE_MAX_KEY + 2];
    struct res *r = s->res;

    map_remove(&c->subs, sub_name(r->kind, r->key, name));
    c->n_pending -= s->pending;
    *s->pprev = s->next;
    if (s->next)
        s->next->pprev = s->pprev;
    r->n_subs--;
    p->stats.subscriptions--;
    if (r->kind == PROG_SERVICE)
        c->sweep = true;
    res_touch(p, r);
    mem_free(s);
    res_release(p, r);
}

struct sub *sub_add(struct client *c, enum prog_kind kind, struct slice key)
{
    struct push *p = c->push;
    char name[WIRE_MAX_KEY + 2];
    struct sub *s = sub_find(c, kind, key);

    if (s)
        return s;
    if (key.len > WIRE_MAX_KEY || c->subs.len >= SUBS_MAX)
        return NULL;
    struct res *r = res_get(p, c, kind, key);
    s = r ? mem_zalloc(sizeof *s) : NULL;
    if (!s || map_put(&c->subs, sub_name(kind, key, name), s, NULL) < 0) {
        mem_free(s);
        if (r)
            res_release(p, r);
        return NULL;
    }
    s->client = c;
    s->res = r;
    s->next = r->subs;
    s->pprev = &r->subs;
    if (r->subs)
        r->subs->pprev = &s->next;
    r->subs = s;
    r->n_subs++;
    p->stats.subscriptions++;
    if (!r->compiled)
        res_compile(p, r);
    else
        res_touch(p, r);
    if (kind == PROG_SERVICE)
        c->sweep = true;
    sub_pend(s);
    return s;
}

void client_sweep(struct client *c)
{
    VEC(struct sub *) services = {0};
    VEC(struct sub *) gone = {0};

    c->sweep = false;
    for (struct map_entry *e = NULL; (e = map_next(&c->subs, e));) {
        struct sub *s = e->value;
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
    for (struct map_entry *e = NULL; (e = map_next(&c->subs, e));) {
        struct sub *s = e->value;
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
