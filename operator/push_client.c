/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy: who it is, from its first message to the end of its stream. */
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/data/spiffe.h"
#include "lib/tls/x509.h"
#include "operator/push_int.h"

#define POD_WAIT_NS (5 * NS_PER_S)
#define POD_LOOK_NS (100 * NS_PER_MS)
enum { EARLY_MAX = 1 << 20 };

static const struct grpc_stream_ops no_ops = {0};

void client_detach(struct client *c)
{
    struct grpc_stream *s = c->stream;
    client_free(c);
    grpc_stream_set(s, &no_ops, NULL);
}

void client_free(struct client *c)
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
    subs_fini(&c->subs);
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
    mem_free(c->reject_text);
    mem_free(c);
}

/* End the stream from this side. */
void client_fail(struct client *c, enum grpc_status status, const char *why)
{
    struct grpc_stream *s = c->stream;
    LOG(WARN, "Discovery stream refused", "pod=%s/%s peer=%s status=%s reason=%s", c->ns, c->pod,
        c->spiffe, grpc_status_name(status), why);
    client_free(c);
    grpc_stream_set(s, &no_ops, NULL);
    grpc_fail(s, status, why);
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

void labels_id(const struct ix_pod *pod, struct labels_id *ret)
{
    unsigned char sum[32];
    CLEANUP(buf_freep) struct buf b;

    buf_init(&b, 4 << 20); /* the API server takes no such object */
    for (uint32_t i = 0; pod && pod->known && pod->labels && i < pod->labels->n; i++)
        buf_addf(&b, "%s=%s\n", pod->labels->p[i].key->p, pod->labels->p[i].value->p);
    tls_sha256(buf_slice(&b), sum);
    memcpy(ret->sum, sum, sizeof ret->sum);
    if (buf_err(&b) != ERR_OK) /* no memory: a class of its own */
        memcpy(ret->sum, &pod, sizeof(void *));
}

static void client_live(struct client *c)
{
    struct push *p = c->push;
    const struct ix_pod *pod = index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));
    char name[600];

    labels_id(pod, &c->labels);
    if (pod && pod->known) {
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

void push_open(struct push *p, struct grpc_stream *s, struct slice spiffe_id, int64_t not_after_ns,
               uint32_t issuer)
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
    c->issuer = issuer;
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
    grpc_stream_forget_metadata(s);
}
