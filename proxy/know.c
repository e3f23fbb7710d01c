/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/know.h"

#include "lib/base/mem.h"

void know_batch_free(struct know_batch *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n; i++) {
        mem_free(b->news[i].key);
        prog_unref(b->news[i].prog);
        prog_unref(b->news[i].old);
    }
    mem_free(b->news);
    mem_free(b);
}

int know_batch_add(struct know_batch *b, enum prog_kind kind, enum prog_state state,
                   struct slice key, struct prog *prog)
{
    struct know_news *news = b->news;
    if ((b->n & (b->n - 1)) == 0) /* full: the room is a power of two */
        news = mem_realloc(b->news, (b->n ? b->n * 2 : 1) * sizeof *news);
    if (news)
        b->news = news;
    char *copy = news ? mem_strndup(key.p ? key.p : "", key.len) : NULL;
    if (!copy) {
        prog_unref(prog);
        return -1;
    }
    b->news[b->n++] = (struct know_news){
        .kind = kind, .state = state, .key = copy, .key_len = key.len, .prog = prog};
    return 0;
}

int know_batch_forget(struct know_batch *b, enum prog_kind kind, struct slice key,
                      enum know_forget how, int64_t since_ns)
{
    if (know_batch_add(b, kind, PROG_ABSENT, key, NULL) < 0)
        return -1;
    b->news[b->n - 1].forget = how;
    b->news[b->n - 1].since_ns = since_ns;
    return 0;
}

void know_init(struct know *k, struct loop *loop)
{
    *k = (struct know){.loop = loop};
}

static void entries_fini(struct map *m)
{
    for (struct map_entry *e = NULL; (e = map_next(m, e));) {
        struct know_entry *entry = e->value;
        while (entry->waiters)
            know_wait_cancel(entry->waiters);
        prog_unref(entry->prog);
        mem_free(entry);
    }
    map_fini(m);
}

void know_fini(struct know *k)
{
    entries_fini(&k->services);
    entries_fini(&k->endpoints);
    entries_fini(&k->workloads);
    prog_unref(k->settings);
    prog_unref(k->inbound);
}

static struct map *map_of(struct know *k, enum prog_kind kind)
{
    switch (kind) {
    case PROG_SERVICE:
        return &k->services;
    case PROG_ENDPOINTS:
        return &k->endpoints;
    case PROG_WORKLOAD:
        return &k->workloads;
    default:
        return NULL;
    }
}

/* The entry of a key, made when absent; NULL without memory. */
static struct know_entry *entry_of(const struct know *k, struct map *m, struct slice key)
{
    struct know_entry *e = map_get(m, key);
    if (e)
        return e;
    e = mem_zalloc(sizeof *e);
    if (!e || map_put(m, key, e, NULL) < 0) {
        mem_free(e);
        return NULL;
    }
    e->used_ns = loop_now(k->loop);
    return e;
}

static bool in_use(const struct know *k, enum prog_kind kind, const struct know_entry *e,
                   int64_t since_ns)
{
    return e->used_ns > since_ns || e->waiters ||
           (kind == PROG_SERVICE && e->prog && k->busy &&
            k->busy(k->user, (const struct prog_service *)e->prog));
}

/* The entry itself goes in `wake`, when those who wait were told. */
static void forget(struct know *k, struct know_news *n, struct know_entry *e)
{
    if (n->forget == KNOW_FORGET_UNUSED && in_use(k, n->kind, e, n->since_ns)) {
        k->ask(k->user, n->kind, slice_of(n->key, n->key_len)); /* meanwhile the old one is good */
        n->forget = KNOW_KEEP;
        return;
    }
    n->old = e->prog;
    e->prog = NULL;
    e->state = KNOW_UNASKED;
}

static void news_apply(struct know *k, struct know_news *n)
{
    if (n->kind == PROG_SETTINGS || n->kind == PROG_INBOUND) {
        if (n->state != PROG_VALUE)
            return;
        if (n->kind == PROG_SETTINGS) {
            prog_unref(k->settings);
            k->settings = prog_ref(n->prog);
        } else {
            prog_unref(k->inbound);
            k->inbound = prog_ref(n->prog);
        }
        return;
    }
    struct map *m = map_of(k, n->kind);
    struct slice key = slice_of(n->key, n->key_len);
    struct know_entry *e = m ? map_get(m, key) : NULL;
    if (m && !e && n->state == PROG_VALUE)
        e = entry_of(k, m, key);
    if (!e)
        return; /* nobody asked here; without memory the wait times out and says so */
    if (n->forget) {
        forget(k, n, e);
        return;
    }
    switch (n->state) {
    case PROG_VALUE:
        n->old = e->prog;
        e->prog = prog_ref(n->prog);
        e->state = KNOW_VALUE;
        break;
    case PROG_ABSENT:
        n->old = e->prog;
        e->prog = NULL;
        e->state = KNOW_ABSENT;
        break;
    case PROG_WITHHELD:
        if (!e->prog) /* what is held stays in use */
            e->state = KNOW_WITHHELD;
        break;
    case PROG_UNCHANGED:
        break;
    }
}

static void wake(struct know *k, const struct know_news *n)
{
    struct map *m = map_of(k, n->kind);
    struct slice key = slice_of(n->key, n->key_len);
    struct know_entry *e = m ? map_get(m, key) : NULL;
    if (!e || e->state == KNOW_WAITING)
        return;
    /* A forgotten entry may be asked for again by one of those who are told. */
    while (e->waiters && e->state != KNOW_WAITING) {
        struct know_waiter *w = e->waiters;
        know_wait_cancel(w);
        w->cb(w, n->forget ? KNOW_WAITING : e->state);
    }
    if (n->forget && e->state == KNOW_UNASKED) {
        map_remove(m, key);
        mem_free(e);
    }
}

void know_apply(struct know *k, struct know_batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        news_apply(k, &b->news[i]);
    if (k->changed)
        for (size_t i = 0; i < b->n; i++)
            k->changed(k->user, &b->news[i]);
    for (size_t i = 0; i < b->n; i++)
        wake(k, &b->news[i]);
}

static enum know_state look_up(struct know *k, enum prog_kind kind, struct slice key,
                               struct prog **ret)
{
    struct know_entry *e = entry_of(k, map_of(k, kind), key);
    if (!e)
        return KNOW_WAITING;
    e->used_ns = loop_now(k->loop);
    if (e->state == KNOW_UNASKED) {
        e->state = KNOW_WAITING;
        k->ask(k->user, kind, key);
    }
    if (e->state == KNOW_VALUE)
        *ret = e->prog;
    return e->state;
}

enum know_state know_service(struct know *k, struct slice key, struct prog_service **ret)
{
    struct prog *p = NULL;
    enum know_state st = look_up(k, PROG_SERVICE, key, &p);
    if (p)
        *ret = (struct prog_service *)p;
    return st;
}

enum know_state know_workload(struct know *k, struct slice address, struct prog_workload **ret)
{
    struct prog *p = NULL;
    enum know_state st = look_up(k, PROG_WORKLOAD, address, &p);
    if (p)
        *ret = (struct prog_workload *)p;
    return st;
}

struct prog_endpoints *know_endpoints(const struct know *k, struct slice key)
{
    struct know_entry *e = map_get(&k->endpoints, key);
    return e && e->state == KNOW_VALUE ? (struct prog_endpoints *)e->prog : NULL;
}

struct prog_service *know_held_service(const struct know *k, struct slice key)
{
    struct know_entry *e = map_get(&k->services, key);
    return e && e->state == KNOW_VALUE ? (struct prog_service *)e->prog : NULL;
}

static int used_of(const struct know *k, enum prog_kind kind, const struct map *m, int64_t since_ns,
                   struct know_batch *ret)
{
    for (struct map_entry *e = NULL; (e = map_next(m, e));)
        if (in_use(k, kind, e->value, since_ns) &&
            know_batch_add(ret, kind, PROG_UNCHANGED, slice_of(e->key, e->key_len), NULL) < 0)
            return -1;
    return 0;
}

int know_used(const struct know *k, int64_t since_ns, struct know_batch *ret)
{
    if (used_of(k, PROG_SERVICE, &k->services, since_ns, ret) < 0)
        return -1;
    return used_of(k, PROG_WORKLOAD, &k->workloads, since_ns, ret);
}

static void wait_timed_out(struct loop_timer *t)
{
    struct know_waiter *w = CONTAINER_OF(t, struct know_waiter, timer);
    know_wait_cancel(w);
    w->cb(w, KNOW_WAITING);
}

static void wait_for(struct know *k, enum prog_kind kind, struct slice key, int64_t wait_ns,
                     struct know_waiter *w, void (*cb)(struct know_waiter *, enum know_state))
{
    struct know_entry *e = map_get(map_of(k, kind), key);
    *w = (struct know_waiter){.know = k, .cb = cb};
    loop_timer_in(k->loop, &w->timer, e ? wait_ns : 0, wait_timed_out);
    if (!e)
        return; /* no memory for the entry: the wait ends at once, as timed out */
    w->next = e->waiters;
    w->prev = &e->waiters;
    if (w->next)
        w->next->prev = &w->next;
    e->waiters = w;
}

void know_wait_service(struct know *k, struct slice key, struct know_waiter *w,
                       void (*cb)(struct know_waiter *, enum know_state))
{
    wait_for(k, PROG_SERVICE, key, know_wait_ns(k), w, cb);
}

void know_wait_workload(struct know *k, struct slice address, int64_t wait_ns,
                        struct know_waiter *w, void (*cb)(struct know_waiter *, enum know_state))
{
    wait_for(k, PROG_WORKLOAD, address, wait_ns, w, cb);
}

void know_wait_cancel(struct know_waiter *w)
{
    if (w->know)
        loop_timer_clear(w->know->loop, &w->timer);
    if (!w->prev)
        return;
    *w->prev = w->next;
    if (w->next)
        w->next->prev = w->prev;
    w->next = NULL;
    w->prev = NULL;
}

bool know_in_mesh(const struct know *k, struct slice host_or_address)
{
    return k->settings && prog_filter_has(&k->settings->filter, host_or_address);
}

bool know_asks_for(const struct know *k, const struct ipaddr *ip)
{
    if (know_in_mesh(k, slice_of(ip->b, ip->len)))
        return true;
    for (uint32_t i = 0; k->settings && i < k->settings->n_pod_cidrs; i++)
        if (cidr_contains(&k->settings->pod_cidrs[i], ip))
            return true;
    return false;
}

int64_t know_wait_ns(const struct know *k)
{
    uint32_t ms = k->settings ? k->settings->discovery_wait_ms : 0;
    return (ms ? ms : 1000) * NS_PER_MS;
}
