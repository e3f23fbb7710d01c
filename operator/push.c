/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/push.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/data/spiffe.h"
#include "operator/push_int.h"

#define POD_WAIT_NS (5 * NS_PER_S)
#define POD_LOOK_NS (100 * NS_PER_MS)
#define ACK_WAIT_NS (30 * NS_PER_S)
enum {
    EARLY_MAX = 1 << 20,
    SUBS_MAX = 60000, /* of one proxy: an eager one in a mesh of 10,000 services fits */
    WARM_KEYS_MAX = 128,
    WARM_WORKLOADS_MAX = 20000,
};

struct warm { /* SERVICE keys that a workload's pods asked for */
    struct map keys; /* key -> (void *)1 */
};

static void client_queue(struct client *c);
static void pump_all(struct loop_task *t);

/* --- subscriptions ------------------------------------------------------------------------------------ */

static struct slice sub_name(enum prog_kind kind, struct slice key, char ret[WIRE_MAX_KEY + 2])
{
    ret[0] = (char)('0' + (int)kind);
    memcpy(ret + 1, key.p ? key.p : "", key.len);
    return slice_of(ret, key.len + 1);
}

static struct sub *sub_find(const struct client *c, enum prog_kind kind, struct slice key)
{
    char name[WIRE_MAX_KEY + 2];
    return key.len > WIRE_MAX_KEY ? NULL : map_get(&c->subs, sub_name(kind, key, name));
}

static void sub_pend(struct sub *s)
{
    if (!s->pending) {
        s->pending = true;
        s->client->n_pending++;
    }
    s->answered = false;
    client_queue(s->client);
}

static void sub_free(struct sub *s)
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

static struct sub *sub_add(struct client *c, enum prog_kind kind, struct slice key)
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

/* ENDPOINTS follow the services that name them. */
static void client_sweep(struct client *c)
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

/* --- warm sets ----------------------------------------------------------------------------------------- */

static void warm_learn(struct client *c, struct slice key)
{
    struct push *p = c->push;
    if (!c->workload[0])
        return;
    struct warm *w = map_get(&p->warm, slice_str(c->workload));
    if (!w) {
        if (p->warm.len >= WARM_WORKLOADS_MAX || !(w = mem_zalloc(sizeof *w)))
            return;
        if (map_put(&p->warm, slice_str(c->workload), w, NULL) < 0) {
            mem_free(w);
            return;
        }
    }
    if (w->keys.len < WARM_KEYS_MAX || map_get(&w->keys, key))
        map_put(&w->keys, key, w, NULL);
}

static void warm_send(struct client *c)
{
    struct warm *w = map_get(&c->push->warm, slice_str(c->workload));
    if (c->warmed || !w)
        return;
    c->warmed = true;
    for (struct map_entry *e = NULL; (e = map_next(&w->keys, e));)
        sub_add(c, PROG_SERVICE, slice_of(e->key, e->key_len));
}

static bool eager_service(void *user, const struct ix_service *s)
{
    struct map *names = user;
    if (s->known)
        map_put(names, istr_slice(s->ns), names, NULL);
    return true;
}

/* discovery: eager: every service that the client may see. */
static void eager_send(struct client *c)
{
    struct push *p = c->push;
    struct map names = {0};
    struct compile_input in = {.index = p->opts.index};

    if (index_mesh(p->opts.index)->discovery != MESH_EAGER)
        return;
    index_each_service(p->opts.index, eager_service, &names);
    for (struct map_entry *e = NULL; (e = map_next(&names, e));) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        struct slice *keys;
        uint32_t n;
        if (compile_service_keys(&in, slice_of(e->key, e->key_len), &a, &keys, &n) != ERR_OK)
            continue;
        for (uint32_t i = 0; i < n; i++)
            sub_add(c, PROG_SERVICE, keys[i]);
    }
    map_fini(&names);
}

/* --- clients -------------------------------------------------------------------------------------------- */

static void client_free(struct client *c)
{
    struct push *p = c->push;

    loop_timer_clear(p->loop, &c->timer);
    loop_timer_clear(p->loop, &c->expiry);
    if (c->pod_token.owner)
        tokens_remove(&p->pods, &c->pod_token);
    if (c->queued)
        for (struct client **at = &p->queue; *at; at = &(*at)->queue_next)
            if (*at == c) {
                *at = c->queue_next;
                break;
            }
    for (struct map_entry *e = NULL; (e = map_next(&c->subs, e));)
        sub_free(e->value);
    map_fini(&c->subs);
    *c->pprev = c->next;
    if (c->next)
        c->next->pprev = c->pprev;
    p->stats.clients--;
    buf_fini(&c->early);
    if (p->opts.hooks.clients && !p->freeing)
        p->opts.hooks.clients(p->opts.hooks.user);
    mem_free(c->spiffe);
    mem_free(c->ns);
    mem_free(c->pod);
    mem_free(c->version);
    mem_free(c->workload);
    mem_free(c);
}

static const struct grpc_stream_ops no_ops = {0};

/* End the stream from this side. */
static void client_fail(struct client *c, enum grpc_status status, const char *why)
{
    struct grpc_stream *s = c->stream;
    LOG(WARN, "Discovery stream refused", "pod=%s/%s peer=%s status=%s reason=%s", c->ns, c->pod,
        c->spiffe, grpc_status_name(status), why);
    client_free(c);
    grpc_stream_set(s, &no_ops, NULL);
    grpc_fail(s, status, why);
}

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
    for (struct map_entry *e = NULL; push.resource && (e = map_next(&c->subs, e));) {
        struct sub *s = e->value;
        if (!s->pending)
            continue;
        s->pending = false;
        s->in_flight = say(s, &push.resource[push.n_resource]);
        push.n_resource += s->in_flight;
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

static void client_queue(struct client *c)
{
    struct push *p = c->push;
    if (c->queued || c->state != CLIENT_LIVE)
        return;
    c->queued = true;
    c->queue_next = p->queue;
    p->queue = c;
    loop_task_add(p->loop, &p->pump, pump_all);
}

/* --- messages ------------------------------------------------------------------------------------------- */

static void take_want(struct client *c, const struct wire_want *w)
{
    struct sub *s = sub_add(c, w->kind, w->key);
    if (!s) {
        LOG(WARN, "Subscription refused", "pod=%s/%s kind=%s subscriptions=%zu", c->ns, c->pod,
            prog_kind_name(w->kind), c->subs.len);
        return;
    }
    if (w->version.len == WIRE_VERSION_LEN) {
        memcpy(s->has.bytes, w->version.p, WIRE_VERSION_LEN);
        s->holds = true;
        c->warmed = true; /* it is no new pod */
    } else if (!s->in_flight) {
        s->holds = false; /* whatever it was sent before, it did not keep */
    }
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
        slice_copy(slice_head(ack->rejected[i].reason, sizeof c->reject_text - 1), c->reject_text,
                   sizeof c->reject_text);
        LOG(WARN, "Proxy rejected a resource", "pod=%s/%s kind=%s key=%.*s reason=%s", c->ns,
            c->pod, prog_kind_name(s->res->kind), SL_FMT(s->res->key), c->reject_text);
        res_touch(p, s->res);
    }
    for (struct map_entry *e = NULL; (e = map_next(&c->subs, e));) {
        struct sub *s = e->value;
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
        res_touch(p, s->res);
    }
    if (p->opts.hooks.pushed)
        p->opts.hooks.pushed(p->opts.hooks.user, loop_now(p->loop) - c->sent_ns,
                             ack->n_rejected > 0);
    c->sweep = true;
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

static void take_message(struct client *c, const struct wire_client *m)
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

/* --- who is it ------------------------------------------------------------------------------------------- */

enum admit { ADMIT_YES, ADMIT_WAIT, ADMIT_NO };

/* The pod that the proxy says it is must run under the service account that its certificate names. */
static enum admit admit(struct client *c, const char **ret_why)
{
    struct push *p = c->push;
    struct spiffe_id id;
    const struct ix_pod *pod = index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));

    if (spiffe_parse(slice_str(c->spiffe), &id) != ERR_OK || !id.sa.len) {
        *ret_why = "the certificate names no workload";
        return ADMIT_NO;
    }
    if (!slice_eq(id.trust_domain, index_mesh(p->opts.index)->trust_domain) &&
        !api_strings_has(&index_mesh(p->opts.index)->trust_domain_aliases, id.trust_domain)) {
        *ret_why = "the certificate is of another trust domain";
        return ADMIT_NO;
    }
    if (!slice_is(id.ns, c->ns)) {
        *ret_why = "the certificate is of another namespace";
        return ADMIT_NO;
    }
    if (!pod || !pod->known) {
        if (!p->opts.any_pod) {
            *ret_why = "no such pod";
            return ADMIT_WAIT;
        }
    } else if (!slice_eq(istr_slice(pod->service_account), id.sa) &&
               !(slice_is(id.sa, "default") && !istr_slice(pod->service_account).len)) {
        *ret_why = "the certificate is of another service account than the pod's";
        return ADMIT_NO;
    }
    return ADMIT_YES;
}

static void client_live(struct client *c)
{
    struct push *p = c->push;
    const struct ix_pod *pod = index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));
    char name[600];

    if (pod && pod->known) {
        c->labels = pod->labels ? pod->labels->hash : 0;
        snprintf(name, sizeof name, "%s/%.*s", c->ns, SL_FMT(istr_slice(pod->workload)));
        mem_free(c->workload);
        c->workload = mem_strdup(name);
    }
    c->state = CLIENT_LIVE;
    loop_timer_clear(p->loop, &c->timer);
    if (pod && pod->known &&
        tokens_add(&p->pods, &c->pod_token, INDEX_TOKEN_POD(slice_str(c->ns), slice_str(c->pod)),
                   c) < 0)
        LOG(WARN, "Changed labels of a pod will not be seen", "pod=%s/%s", c->ns, c->pod);
    LOG(INFO, "Proxy connected", "pod=%s/%s peer=%s version=%s", c->ns, c->pod, c->spiffe,
        c->version);
    if (p->opts.hooks.clients)
        p->opts.hooks.clients(p->opts.hooks.user);
}

static void early_replay(struct client *c)
{
    struct slice rest = buf_slice(&c->early);
    while (rest.len > sizeof(uint32_t)) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        struct wire_client m;
        struct err err = {0};
        uint32_t len;
        memcpy(&len, rest.p, sizeof len);
        if (wire_client_decode(&a, slice_of(rest.p + sizeof len, len), &m, &err) == 0)
            take_message(c, &m);
        rest = slice_skip(rest, sizeof len + len);
    }
    buf_fini(&c->early);
}

static void pod_look(struct loop_timer *t)
{
    struct client *c = CONTAINER_OF(t, struct client, timer);
    struct push *p = c->push;
    const char *why = "";
    enum admit verdict = admit(c, &why);

    if (verdict == ADMIT_WAIT && loop_now(p->loop) - c->connected_ns < POD_WAIT_NS) {
        loop_timer_in(p->loop, &c->timer, POD_LOOK_NS, pod_look);
    } else if (verdict != ADMIT_YES) {
        client_fail(c, verdict == ADMIT_WAIT ? GRPC_NOT_FOUND : GRPC_PERMISSION_DENIED, why);
    } else {
        client_live(c);
        early_replay(c);
    }
}

static int take_hello(struct client *c, const struct wire_hello *h)
{
    mem_free(c->ns);
    mem_free(c->pod);
    mem_free(c->version);
    c->ns = mem_strndup(h->namespace_.p ? h->namespace_.p : "", MIN(h->namespace_.len, (size_t)63));
    c->pod = mem_strndup(h->pod.p ? h->pod.p : "", MIN(h->pod.len, (size_t)253));
    c->version = mem_strndup(h->version.p ? h->version.p : "", MIN(h->version.len, (size_t)64));
    ip_parse(h->address, &c->ip);
    return c->ns && c->pod && c->version ? 0 : -1;
}

static void on_message(struct grpc_stream *stream, struct slice msg)
{
    struct client *c = grpc_stream_user(stream);
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct wire_client m;
    struct err err = {0};
    const char *why = "";

    if (wire_client_decode(&a, msg, &m, &err) < 0) {
        client_fail(c, GRPC_INVALID_ARGUMENT, err.msg);
        return;
    }
    if (c->state == CLIENT_NEW) {
        if (!m.hello || take_hello(c, m.hello) < 0) {
            client_fail(c, GRPC_FAILED_PRECONDITION, "the first message must hold hello");
            return;
        }
        enum admit verdict = admit(c, &why);
        if (verdict == ADMIT_NO) {
            client_fail(c, GRPC_PERMISSION_DENIED, why);
            return;
        }
        if (verdict == ADMIT_YES) {
            client_live(c);
        } else {
            c->state = CLIENT_WAITS;
            loop_timer_in(c->push->loop, &c->timer, POD_LOOK_NS, pod_look);
        }
    }
    if (c->state == CLIENT_WAITS) {
        uint32_t len = (uint32_t)msg.len;
        buf_add(&c->early, &len, sizeof len);
        buf_add_slice(&c->early, msg);
        if (buf_err(&c->early) != ERR_OK)
            client_fail(c, GRPC_RESOURCE_EXHAUSTED, "too much before the pod is known");
        return;
    }
    take_message(c, &m);
}

static void on_end(struct grpc_stream *stream, enum grpc_status status, struct slice detail,
                   bool final)
{
    struct client *c = grpc_stream_user(stream);
    (void)detail;
    LOG(INFO, "Proxy disconnected", "pod=%s/%s status=%s", c->ns, c->pod, grpc_status_name(status));
    client_free(c);
    grpc_stream_set(stream, &no_ops, NULL);
    if (!final)
        grpc_end(stream);
}

static void on_drained(struct grpc_stream *stream)
{
    client_queue(grpc_stream_user(stream));
}

static const struct grpc_stream_ops stream_ops = {
    .on_message = on_message, .on_end = on_end, .on_drained = on_drained};

static void certificate_ended(struct loop_timer *t)
{
    client_fail(CONTAINER_OF(t, struct client, expiry), GRPC_UNAUTHENTICATED,
                "the certificate has ended: come back with a new one");
}

void push_open(struct push *p, struct grpc_stream *s, struct slice spiffe_id, int64_t not_after_ns)
{
    if (!spiffe_id.len) {
        grpc_fail(s, GRPC_UNAUTHENTICATED, "a workload certificate is needed");
        return;
    }
    if (!p->ready) {
        grpc_fail(s, GRPC_UNAVAILABLE, "the picture of the cluster is not complete yet");
        return;
    }
    struct client *c = mem_zalloc(sizeof *c);
    if (!c || !(c->spiffe = mem_strndup(spiffe_id.p, spiffe_id.len)) ||
        !(c->ns = mem_strdup("")) || !(c->pod = mem_strdup("")) ||
        !(c->version = mem_strdup("")) || !(c->workload = mem_strdup(""))) {
        if (c) {
            mem_free(c->spiffe);
            mem_free(c->ns);
            mem_free(c->pod);
            mem_free(c->version);
        }
        mem_free(c);
        grpc_fail(s, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    buf_init(&c->early, EARLY_MAX);
    c->push = p;
    c->stream = s;
    c->connected_ns = loop_now(p->loop);
    c->next = p->clients;
    c->pprev = &p->clients;
    if (p->clients)
        p->clients->pprev = &c->next;
    p->clients = c;
    p->stats.clients++;
    if (not_after_ns)
        loop_timer_in(p->loop, &c->expiry, MAX(not_after_ns - loop_wall(p->loop), (int64_t)0),
                      certificate_ended);
    grpc_stream_set(s, &stream_ops, c);
}

/* --- changes ------------------------------------------------------------------------------------------------ */

static void res_changed(struct res *r)
{
    for (struct sub *s = r->subs; s; s = s->next) {
        if (r->kind == PROG_SERVICE)
            s->client->sweep = true;
        sub_pend(s);
    }
}

/* What a proxy is told depends on its pod's labels: with others it has to come anew, and be told as
 * little as any that comes back. */
static void pods_moved(struct push *p)
{
    if (!p->any_pod_moved)
        return;
    p->any_pod_moved = false;
    for (struct client *c = p->clients, *next; c; c = next) {
        next = c->next;
        if (!c->pod_moved)
            continue;
        c->pod_moved = false;
        const struct ix_pod *pod =
            index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));
        if (!pod || !pod->known)
            client_fail(c, GRPC_NOT_FOUND, "the pod is gone");
        else if ((pod->labels ? pod->labels->hash : 0) != c->labels)
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
    for (size_t i = 0; i < work.len; i++) /* compiling frees no resource */
        if (res_compile(p, work.p[i]))
            res_changed(work.p[i]);
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
                    if (c->verdict == REJECTED && !ret->reject_text[0])
                        memcpy(ret->reject_text, c->reject_text, sizeof ret->reject_text);
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
        client_free(c);
        grpc_stream_set(s, &no_ops, NULL);
        grpc_fail(s, GRPC_UNAVAILABLE, "the operator ends");
    }
    for (struct map_entry *e = NULL; (e = map_next(&p->warm, e));) {
        map_fini(&((struct warm *)e->value)->keys);
        mem_free(e->value);
    }
    map_fini(&p->warm);
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
