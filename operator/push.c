/* SPDX-License-Identifier: Apache-2.0 */
/* What changed, and what is known about objects. */
#include "operator/push.h"

#include <stdio.h>
#include <string.h>

#include "operator/push_int.h"

/* --- changes ------------------------------------------------------------------------------------------------ */

/* What a proxy is told depends on its pod's labels: with others it has to come anew, and be told as
 * little as any that comes back. */
static void pods_moved(struct push *p)
{
    if (!p->any_pod_moved)
        return;
    p->any_pod_moved = false;
    for (struct client *c = p->clients, *next; c; c = next) {
        struct labels_id now;
        next = c->next;
        if (!c->pod_moved)
            continue;
        c->pod_moved = false;
        const struct ix_pod *pod =
            index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));
        if (!pod || !pod->known)
            client_fail(c, GRPC_NOT_FOUND, "the pod is gone");
        else if (labels_id(pod, &now), memcmp(&now, &c->labels, sizeof now) != 0)
            client_fail(c, GRPC_UNAVAILABLE, "the pod has other labels now: come back");
    }
}

static void flush(struct loop_timer *t)
{
    struct push *p = CONTAINER_OF(t, struct push, timer);
    VEC(struct res *) work = {0};

    p->first_change_ns = 0;
    if (p->all_dirty) {
        p->all_dirty = false;
        for (struct map_entry *e = NULL; (e = map_next(&p->cache, e));)
            res_mark(p, e->value);
    }
    work.p = p->dirty.p;
    work.len = p->dirty.len;
    work.cap = p->dirty.cap;
    p->dirty.p = NULL;
    p->dirty.len = p->dirty.cap = 0;
    for (size_t i = 0; i < work.len; i++)
        work.p[i]->dirty = false;
    for (size_t i = 0; i < work.len; i++) /* frees no other */
        res_refresh(p, work.p[i]);
    VEC_FREE(&work);
    pods_moved(p);
    if (p->filter_changed) {
        p->filter_changed = false;
        for (struct client *c = p->clients; c; c = c->next)
            if (c->state == CLIENT_LIVE)
                eager_send(c);
    }
}

static void schedule(struct push *p)
{
    int64_t now = clock_now(loop_clock(p->loop));
    int64_t quiet = p->opts.quiet_ns ? p->opts.quiet_ns : 10 * NS_PER_MS;
    int64_t most = p->opts.max_ns ? p->opts.max_ns : 100 * NS_PER_MS;
    if (!p->first_change_ns)
        p->first_change_ns = now;
    loop_timer_at(p->loop, &p->timer, MIN(now + quiet, p->first_change_ns + most), flush);
}

void push_changed(struct push *p, const struct index_changes *c)
{
    bool any = false;
    if (c->all) {
        p->all_dirty = p->any_pod_moved = any = true;
        for (struct client *one = p->clients; one; one = one->next)
            one->pod_moved = one->pod_token.owner != NULL;
    }
    for (size_t i = 0; i < c->n; i++) {
        for (struct token_entry *e = tokens_first(&p->deps, c->p[i]); e; e = tokens_next(e)) {
            res_mark(p, e->owner);
            any = true;
        }
        for (struct token_entry *e = tokens_first(&p->pods, c->p[i]); e; e = tokens_next(e)) {
            ((struct client *)e->owner)->pod_moved = true;
            p->any_pod_moved = any = true;
        }
        if (c->p[i] == INDEX_TOKEN_FILTER)
            p->filter_changed = any = true;
    }
    if (any)
        schedule(p);
}

void push_set_roots(struct push *p, struct slice roots_pem)
{
    if (slice_is(roots_pem, p->roots))
        return;
    char *roots = mem_strndup(roots_pem.p, roots_pem.len);
    if (!roots)
        return;
    mem_free(p->roots);
    p->roots = roots;
    push_settings_changed(p);
}

void push_settings_changed(struct push *p)
{
    for (struct map_entry *e = NULL; (e = map_next(&p->cache, e));)
        if (((struct res *)e->value)->kind == PROG_SETTINGS)
            res_mark(p, e->value);
    schedule(p);
}

void push_set_ready(struct push *p)
{
    p->ready = true;
}

/* --- what is known ------------------------------------------------------------------------------------------ */

void push_tally(struct push *p, enum index_kind kind, struct slice ns, struct slice name,
                struct push_tally *ret)
{
    enum { ACKED = 1, PENDING, REJECTED };
    uint64_t epoch = ++p->epoch;
    *ret = (struct push_tally){0};
    uint64_t token = res_object_token(kind, ns, name);

    for (int pass = 0; pass < 2; pass++)
        for (struct token_entry *e = tokens_first(&p->objects, token); e; e = tokens_next(e)) {
            const struct res *r = e->owner;
            if (e - r->by_object >= (ptrdiff_t)r->n_origins || !res_counts(r))
                continue;
            for (const struct sub *s = r->subs; s; s = s->next) {
                struct client *c = s->client;
                uint8_t v = s->rejected ? REJECTED : s->answered && !r->dirty ? ACKED : PENDING;
                if (r->state == PROG_WITHHELD && v == ACKED)
                    v = PENDING;
                if (pass == 0) {
                    c->verdict = c->epoch == epoch ? MAX(c->verdict, v) : v;
                    c->epoch = epoch;
                } else if (c->epoch == epoch) {
                    c->epoch = 0; /* counted */
                    ret->interested++;
                    ret->acked += c->verdict == ACKED;
                    ret->rejected += c->verdict == REJECTED;
                    if (c->verdict == REJECTED && c->reject_text && !ret->reject_text[0])
                        snprintf(ret->reject_text, sizeof ret->reject_text, "%s", c->reject_text);
                }
            }
        }
}

void push_problems(struct push *p, enum index_kind kind, struct slice ns, struct slice name,
                   struct findings *f)
{
    uint64_t token = res_object_token(kind, ns, name);
    uint32_t from = f->n;
    for (struct token_entry *e = tokens_first(&p->objects, token); e; e = tokens_next(e)) {
        const struct res *r = e->owner;
        ptrdiff_t i = e - r->by_object - (ptrdiff_t)r->n_origins;
        if (i < 0)
            continue;
        const struct compile_problem *x = &r->problems[i];
        bool known = false;
        char path[256];
        for (uint32_t k = from; k < f->n && !known; k++)
            known = slice_eq(f->p[k].path, x->path) && slice_eq(f->p[k].text, x->text);
        if (known || !slice_copy(x->path, path, sizeof path))
            continue;
        findings_add_at(f, x->finding, path, "%.*s", SL_FMT(x->text));
    }
}

struct push_stats push_stats(const struct push *p)
{
    struct push_stats s = p->stats;
    s.resources = p->cache.len;
    return s;
}

void push_each(const struct push *p, push_client_fn *fn, void *user)
{
    for (const struct client *c = p->clients; c; c = c->next) {
        struct push_client_info info = {
            .ns = slice_str(c->ns),
            .pod = slice_str(c->pod),
            .version = slice_str(c->version),
            .connected_ns = c->connected_ns,
            .subscriptions = c->subs.len,
            .pending = c->n_pending,
            .in_flight = c->nonce != 0,
            .rejected = c->rejected,
        };
        if (c->state == CLIENT_LIVE && !fn(user, &info))
            return;
    }
}

/* --- life -------------------------------------------------------------------------------------------------- */

int push_new(struct loop *loop, const struct push_opts *opts, struct push **ret, struct err *err)
{
    struct push *p = mem_zalloc(sizeof *p);
    if (!p || !(p->roots = mem_strdup(""))) {
        mem_free(p);
        return err_set(err, ERR_NOMEM, "push");
    }
    p->loop = loop;
    p->opts = *opts;
    *ret = p;
    return 0;
}

void push_free(struct push *p)
{
    if (!p)
        return;
    p->freeing = true;
    for (struct client *c = p->clients, *next; c; c = next) {
        struct grpc_stream *s = c->stream;
        next = c->next;
        client_detach(c);
        grpc_fail(s, GRPC_UNAVAILABLE, "the operator ends");
    }
    warm_fini(p);
    map_fini(&p->cache);
    tokens_fini(&p->deps);
    tokens_fini(&p->objects);
    tokens_fini(&p->pods);
    VEC_FREE(&p->dirty);
    loop_timer_clear(p->loop, &p->timer);
    loop_task_clear(p->loop, &p->pump);
    mem_free(p->roots);
    mem_free(p);
}

