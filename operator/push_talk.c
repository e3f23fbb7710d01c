/* SPDX-License-Identifier: Apache-2.0 */
/* What is said to a proxy, and what it answers. */
#include <string.h>

#include "lib/base/log.h"
#include "operator/push_int.h"

#define ACK_WAIT_NS (30 * NS_PER_S)
enum { REJECT_TEXT_MAX = 199 };

static void pump_all(struct loop_task *t);

static void ack_overdue(struct loop_timer *t)
{
    client_fail(CONTAINER_OF(t, struct client, timer), GRPC_DEADLINE_EXCEEDED,
                "a push was not acknowledged in 30 s");
}

/* What the proxy is told about one resource; false: nothing. */
static bool say(struct sub *s, struct wire_resource *ret)
{
    const struct res *r = s->res;
    bool same = s->holds && memcmp(&s->has, &r->version, sizeof s->has) == 0;

    *ret = (struct wire_resource){.kind = r->kind, .key = r->key, .state = r->state};
    s->flying_value = false;
    s->rejected = false;
    if (r->state == PROG_ABSENT)
        return true;
    ret->version = slice_of(r->version.bytes, sizeof r->version.bytes);
    if (same) {
        ret->state = PROG_UNCHANGED;
        s->client->push->stats.unchanged++;
        return true;
    }
    if (r->state == PROG_WITHHELD && s->holds)
        return true; /* keep what you hold */
    ret->state = PROG_VALUE;
    ret->payload = r->payload;
    s->flying_value = true;
    s->sent = r->version;
    return true;
}

/* Send what is pending, all in one push: its resources take effect together. */
static void client_pump(struct client *c)
{
    struct push *p = c->push;
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    CLEANUP(buf_freep) struct buf out;

    buf_init(&out, WIRE_MAX_PAYLOAD);
    if (c->state != CLIENT_LIVE)
        return;
    if (c->sweep)
        client_sweep(c);
    if (c->nonce || !c->n_pending || grpc_send_full(c->stream))
        return;
    struct wire_push push = {.nonce = p->last_nonce + 1};
    push.resource = ARENA_ARRAY(&a, struct wire_resource, c->n_pending);
    for (struct sub *s = NULL; push.resource && (s = subs_next(&c->subs, s));) {
        if (!s->pending)
            continue;
        s->pending = false;
        s->in_flight = say(s, &push.resource[push.n_resource]);
        push.n_resource += s->in_flight;
        p->stats.by_kind[s->res->kind] += s->in_flight;
    }
    c->n_pending = 0;
    if (!push.resource || wire_server_encode(&(struct wire_server){.push = &push}, &out) != ERR_OK ||
        grpc_send(c->stream, buf_slice(&out)) != ERR_OK) {
        p->stats.resyncs++;
        client_fail(c, GRPC_RESOURCE_EXHAUSTED, "out of memory: come back");
        return;
    }
    c->nonce = ++p->last_nonce;
    c->sent_ns = loop_now(p->loop);
    loop_timer_in(p->loop, &c->timer, ACK_WAIT_NS, ack_overdue);
    p->stats.pushes++;
    p->stats.sent_bytes += buf_len(&out);
    LOG(DEBUG, "Pushed", "pod=%s/%s nonce=%llu resources=%u bytes=%zu", c->ns, c->pod,
        (unsigned long long)c->nonce, push.n_resource, buf_len(&out));
}

static void pump_all(struct loop_task *t)
{
    struct push *p = CONTAINER_OF(t, struct push, pump);
    struct client *c;
    while ((c = p->queue)) {
        p->queue = c->queue_next;
        c->queued = false;
        client_pump(c);
    }
}

void client_queue(struct client *c)
{
    struct push *p = c->push;
    if (c->queued || c->state != CLIENT_LIVE)
        return;
    c->queued = true;
    c->queue_next = p->queue;
    p->queue = c;
    loop_task_add(p->loop, &p->pump, pump_all);
}

static void take_want(struct client *c, const struct wire_want *w)
{
    bool had = sub_find(c, w->kind, w->key) != NULL;
    struct sub *s = sub_add(c, w->kind, w->key);
    if (s && !had && sub_is_too_much(s)) {
        sub_free(s);
        s = NULL;
    }
    if (!s) {
        c->push->stats.refused++;
        if (!c->refused_told)
            LOG(WARN, "Subscription refused, told once for a stream",
                "pod=%s/%s kind=%s subscriptions=%u absent=%u", c->ns, c->pod,
                prog_kind_name(w->kind), c->subs.len, c->n_absent);
        c->refused_told = true;
        return;
    }
    if (w->version.len == WIRE_VERSION_LEN) {
        memcpy(s->has.bytes, w->version.p, WIRE_VERSION_LEN);
        s->holds = true;
        c->warmed = true; /* it is no new pod */
    } else if (!s->in_flight) {
        s->holds = false; /* whatever it was sent before, it did not keep */
    }
    /* Only whom a Gateway needs one for: others could make us look at what is not theirs to open. */
    if (w->kind == PROG_CREDENTIAL && s->res->n_origins && c->push->opts.hooks.secrets)
        c->push->opts.hooks.secrets(c->push->opts.hooks.user, slice_str(c->ns));
    bool asked = s->wanted;
    s->wanted = true;
    if (w->kind == PROG_SERVICE && !asked && s->res->state != PROG_ABSENT)
        warm_learn(c, w->key);
    if (!s->in_flight && !(asked && s->answered))
        sub_pend(s); /* a repeated want of what was answered is harmless */
}

static void take_ack(struct client *c, const struct wire_ack *ack)
{
    struct push *p = c->push;
    if (!c->nonce || ack->nonce != c->nonce)
        return;
    c->nonce = 0;
    loop_timer_clear(p->loop, &c->timer);
    for (uint32_t i = 0; i < ack->n_rejected; i++) {
        struct sub *s = sub_find(c, ack->rejected[i].kind, ack->rejected[i].key);
        if (!s || !s->in_flight)
            continue;
        s->in_flight = false;
        s->rejected = true;
        c->rejected = true;
        p->stats.rejects++;
        struct slice reason = slice_head(ack->rejected[i].reason, REJECT_TEXT_MAX);
        mem_free(c->reject_text);
        c->reject_text = mem_strndup(reason.p ? reason.p : "", reason.len);
        LOG(WARN, "Proxy rejected a resource", "pod=%s/%s kind=%s key=%.*s reason=%.*s", c->ns,
            c->pod, prog_kind_name(s->res->kind), SL_FMT(s->res->key), SL_FMT(reason));
        res_touch(p, s->res);
    }
    for (struct sub *s = NULL; (s = subs_next(&c->subs, s));) {
        if (!s->in_flight)
            continue;
        s->in_flight = false;
        if (s->flying_value) {
            s->has = s->sent;
            s->holds = true;
        } else if (s->res->state == PROG_ABSENT) {
            s->holds = false;
        }
        s->answered = !s->pending;
        /* What left its service while it was under way can go now. */
        c->sweep |= s->res->kind == PROG_ENDPOINTS && !s->needed;
        res_touch(p, s->res);
    }
    if (p->opts.hooks.pushed)
        p->opts.hooks.pushed(p->opts.hooks.user, loop_now(p->loop) - c->sent_ns,
                             ack->n_rejected > 0);
    client_queue(c);
}

static void take_drop(struct client *c, const struct wire_want *w)
{
    struct sub *s = sub_find(c, w->kind, w->key);
    if (!s)
        return;
    s->wanted = false;
    if (w->kind != PROG_ENDPOINTS) {
        sub_free(s);
        return;
    }
    s->holds = false; /* sent anew if a service names them all the same; else swept */
    sub_pend(s);
    c->sweep = true;
}

void take_message(struct client *c, const struct wire_client *m)
{
    if (m->ack)
        take_ack(c, m->ack);
    for (uint32_t i = 0; i < m->n_drop; i++)
        take_drop(c, &m->drop[i]);
    for (uint32_t i = 0; i < m->n_want; i++)
        take_want(c, &m->want[i]);
    if (m->n_want && !c->warmed) {
        warm_send(c);
        eager_send(c);
    }
    client_queue(c);
}

bool push_needs_secrets(const struct push *p, struct slice ns)
{
    for (const struct client *c = p->clients; c; c = c->next)
        for (struct sub *s = NULL; slice_is(ns, c->ns) && (s = subs_next(&c->subs, s));)
            if (s->res->kind == PROG_CREDENTIAL && s->res->n_origins)
                return true;
    return false;
}
