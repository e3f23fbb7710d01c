/* SPDX-License-Identifier: Apache-2.0 */
/* What is held of the mesh may name hosts that this proxy has to look up. The answers go to the
 * workers as ENDPOINTS under the names themselves ("host:port"; the operator's keys have slashes).
 * A resource whose names are not known yet is told to the workers when they are, so that its first
 * request finds hosts; not for longer than a request would wait. */
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/control_int.h"
#include "proxy/worker.h"

static void each_name(struct hostnames *h, enum prog_kind kind, const struct prog *p,
                      void (*fn)(struct hostnames *h, struct slice name))
{
    if (p && kind == PROG_SERVICE) {
        const struct prog_service *s = (const struct prog_service *)p;
        for (uint32_t i = 0; i < s->n_clusters; i++)
            for (uint32_t k = 0; k < s->clusters[i].dns.n; k++)
                if (!s->clusters[i].original_dst)
                    fn(h, s->clusters[i].dns.p[k]);
    } else if (p && kind == PROG_ENDPOINTS) {
        const struct prog_endpoints *e = (const struct prog_endpoints *)p;
        for (uint32_t i = 0; i < e->names.n; i++)
            if (!slice_starts(e->names.p[i], SL("unix://")))
                fn(h, e->names.p[i]);
    }
}

void control_names_follow(struct control *c, enum prog_kind kind, const struct prog *old,
                          const struct prog *new)
{
    each_name(&c->hostnames, kind, new, hostnames_want);
    each_name(&c->hostnames, kind, old, hostnames_want_no_more);
}

static bool endpoints_pending(const struct control *c, const struct prog_endpoints *e)
{
    for (uint32_t i = 0; e && i < e->names.n; i++)
        if (hostnames_pending(&c->hostnames, e->names.p[i]))
            return true;
    return false;
}

static bool cluster_pending(const struct control *c, const struct prog_cluster *cl)
{
    for (uint32_t i = 0; i < cl->dns.n; i++)
        if (hostnames_pending(&c->hostnames, cl->dns.p[i]))
            return true;
    for (uint32_t i = 0; i < cl->endpoints.n; i++) {
        const struct known *k = known_find(c, PROG_ENDPOINTS, cl->endpoints.p[i]);
        if (k && endpoints_pending(c, (const struct prog_endpoints *)k->prog))
            return true;
    }
    return false;
}

static bool pending(const struct control *c, const struct known *k)
{
    const struct prog_service *s = (const struct prog_service *)k->prog;
    if (k->kind == PROG_ENDPOINTS)
        return endpoints_pending(c, (const struct prog_endpoints *)k->prog);
    if (k->kind != PROG_SERVICE || !s)
        return false;
    for (uint32_t i = 0; i < s->n_clusters; i++)
        if (cluster_pending(c, &s->clusters[i]))
            return true;
    return false;
}

void control_unhold(struct control *c, struct known *k)
{
    c->n_held -= k->held;
    k->held = false;
}

static int64_t hold_ns(const struct control *c)
{
    uint32_t ms = c->settings ? c->settings->discovery_wait_ms : 0;
    return (ms ? ms : 1000) * NS_PER_MS * 3 / 4;
}

static void held_long(struct loop_timer *t);

/* Tell what need not wait any more. */
static void release(struct control *c)
{
    int64_t since = loop_now(c->loop) - hold_ns(c);
    struct know_batch *b = c->n_held ? mem_zalloc(sizeof *b) : NULL;
    for (struct map_entry *e = NULL; b && c->n_held && (e = map_next(&c->known, e));) {
        struct known *k = e->value;
        if (!k->held || (k->asked_ns > since && pending(c, k)))
            continue;
        if (know_batch_add(b, k->kind, k->state, slice_of(k->key, k->key_len), prog_ref(k->prog)) <
            0)
            break; /* once more, soon */
        control_unhold(c, k);
    }
    if (c->n_held && !loop_timer_is_set(&c->held_timer))
        loop_timer_in(c->loop, &c->held_timer, hold_ns(c), held_long);
    if (b && b->n)
        control_send(c, b);
    else
        know_batch_free(b);
}

static void held_long(struct loop_timer *t)
{
    release(CONTAINER_OF(t, struct control, held_timer));
}

bool control_hold(struct control *c, enum prog_kind kind, struct slice key)
{
    struct known *k = c->hostnames.hosts.len ? known_find(c, kind, key) : NULL;
    if (!k)
        return false;
    bool wait = k->prog && pending(c, k);
    if (wait && !k->held) {
        k->held = true;
        k->asked_ns = loop_now(c->loop);
        c->n_held++;
        if (!loop_timer_is_set(&c->held_timer))
            loop_timer_in(c->loop, &c->held_timer, hold_ns(c), held_long);
    } else if (!wait) {
        control_unhold(c, k);
    }
    return wait;
}

static void changed(void *user, struct slice name, struct prog_endpoints *value, bool first)
{
    struct control *c = user;
    struct know_batch *b = value || !first ? mem_zalloc(sizeof *b) : NULL;
    int rc = -1;
    if (b)
        rc = value ? know_batch_add(b, PROG_ENDPOINTS, PROG_VALUE, name, prog_ref(value))
                   : know_batch_forget(b, PROG_ENDPOINTS, name, KNOW_FORGET_NOW, 0);
    if (rc == 0)
        control_send(c, b);
    else
        know_batch_free(b);
    prog_unref(value);
    if (first && c->n_held)
        release(c);
}

void control_names_init(struct control *c)
{
    hostnames_init(&c->hostnames, c->loop, &(struct resolver_opts){0});
    c->hostnames.changed = changed;
    c->hostnames.user = c;
}

void control_names_fini(struct control *c)
{
    loop_timer_clear(c->loop, &c->held_timer);
    hostnames_fini(&c->hostnames);
}
