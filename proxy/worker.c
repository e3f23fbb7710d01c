/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/worker.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/control.h"
#include "proxy/down.h"
#include "proxy/gates.h"
#include "proxy/mirror.h"
#include "proxy/stream.h"
#include "proxy/upstream/upstream.h"

const struct limits limits_default = {
    .head_bytes = 60 * 1024,
    .head_fields = 100,
    .buffer_bytes = 256 * 1024,
    .retry_body_bytes = 64 * 1024,
    .connections = 50000,
    .turn_bytes = 256 * 1024,
    .head_timeout_ns = 60 * NS_PER_S,
    .idle_timeout_ns = 3600 * NS_PER_S,
    .sniff_timeout_ns = 10 * NS_PER_S,
    .write_timeout_ns = 300 * NS_PER_S,
    .mirrors = 1024,
    .mirror_timeout_ns = 60 * NS_PER_S,
};

const struct limits *limits_of_process(void)
{
    static struct limits l;
    const char *text = getenv("TULLE_MAX_CONNECTIONS");
    uint64_t n = 0;
    l = limits_default;
    if (text && slice_u64(slice_str(text), UINT32_MAX, &n) && n > 0)
        l.connections = (uint32_t)n;
    else if (text)
        LOG(WARN, "TULLE_MAX_CONNECTIONS is no number of connections", "value=%s", text);
    return &l;
}

static void on_ask(void *user, enum prog_kind kind, struct slice key)
{
    struct worker *w = user;
    control_want(w->control, w, kind, key);
}

/* A connection outlives the policies that let it in; one that the new ones refuse does not. */
static void recheck_inbound(struct worker *w)
{
    for (struct down *d = w->downs, *next; d; d = next) {
        next = d->next;
        if (down_serves(&d->info) && d->ops->recheck)
            d->ops->recheck(d);
    }
}

static void on_changed(void *user, const struct know_news *n)
{
    struct worker *w = user;
    if (n->kind == PROG_SERVICE)
        up_service_changed(w, n);
    else if (n->kind == PROG_ENDPOINTS)
        up_endpoints_changed(w, slice_of(n->key, n->key_len));
    else if (n->kind == PROG_INBOUND) {
        const struct prog_inbound *old = (const struct prog_inbound *)n->old, *in = w->know.inbound;
        recheck_inbound(w);
        if (in && (!old || !slice_eq(old->self.locality, in->self.locality) ||
                   !slice_eq(old->self.node, in->self.node)))
            up_place_changed(w);
    }
}

static bool on_busy(void *user, const struct prog_service *service)
{
    return up_service_busy(user, service) || worker_gates_need(user, service);
}

int worker_new(unsigned id, const struct clock *clock, const struct limits *limits,
               struct control *control, struct telemetry *telemetry,
               const struct listener *listeners, unsigned n_listeners, struct worker **ret,
               struct err *err)
{
    struct worker *w = mem_zalloc(sizeof *w);
    if (w)
        w->listeners = mem_array(n_listeners, sizeof *w->listeners);
    if (!w || !w->listeners) {
        for (unsigned i = 0; i < n_listeners; i++)
            close(listeners[i].fd);
        mem_free(w);
        return err_set(err, ERR_NOMEM, "worker %u", id);
    }
    w->id = id;
    w->drain_ns = -1;
    w->limits = limits;
    w->control = control;
    w->telemetry = telemetry;
    w->n_listeners = n_listeners;
    for (unsigned i = 0; i < n_listeners; i++) {
        w->listeners[i] = listeners[i];
        w->listeners[i].worker = w;
        w->listeners[i].io.fd = -1;
    }
    w->scratch = mem_alloc(WORKER_SCRATCH);
    if (!w->scratch) {
        err_set(err, ERR_NOMEM, "worker %u", id);
        goto fail;
    }
    if (loop_new(clock, &w->loop, err) < 0 || mailbox_init(&w->mailbox, w->loop, w, err) < 0)
        goto fail;
    know_init(&w->know, w->loop);
    w->know.ask = on_ask;
    w->know.changed = on_changed;
    w->know.busy = on_busy;
    w->know.user = w;
    *ret = w;
    return 0;
fail:
    for (unsigned i = 0; i < n_listeners; i++)
        close(w->listeners[i].fd);
    loop_free(w->loop);
    mem_free(w->scratch);
    mem_free(w->listeners);
    mem_free(w);
    return -1;
}

enum { ACCEPTS_PER_TURN = 64, DRAIN_DEFAULT_MS = 5000 };

static void on_listener(struct loop_io *io, unsigned events)
{
    (void)events;
    struct listener *l = CONTAINER_OF(io, struct listener, io);
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd;
        struct sock_addr peer;
        enum err_code rc = sock_accept(l->fd, &fd, &peer);
        if (rc == ERR_AGAIN)
            return;
        if (rc != ERR_OK) {
            if (rc == ERR_LIMIT)
                LOG(WARN, "No descriptor left for a connection", "worker=%u", l->worker->id);
            return; /* level-triggered: the next turn tries again */
        }
        incoming_start(l, fd, &peer);
    }
}

int worker_open(struct worker *w, struct err *err)
{
    for (unsigned i = 0; i < w->n_listeners; i++) {
        struct listener *l = &w->listeners[i];
        if (l->io.fd < 0 && loop_io_level(w->loop, &l->io, l->fd, LOOP_READ, on_listener, err) < 0)
            return -1;
    }
    worker_gates_open(w);
    return 0;
}

void worker_drain(struct worker *w)
{
    w->draining = true;
    for (struct down *d = w->downs, *next; d; d = next) {
        next = d->next;
        if (down_serves(&d->info) && d->ops->drain)
            d->ops->drain(d);
    }
}

void worker_drain_idle_now(struct worker *w)
{
    w->draining = w->no_idle = true;
    for (struct down *d = w->downs, *next; d; d = next) {
        next = d->next;
        if (down_serves(&d->info) && d->ops->close_idle)
            d->ops->close_idle(d);
    }
}

int64_t worker_drain_grace(const struct worker *w)
{
    const struct prog_settings *s = w->know.settings;
    if (w->drain_ns >= 0)
        return w->drain_ns;
    return (s && s->drain_ms ? s->drain_ms : DRAIN_DEFAULT_MS) * NS_PER_MS;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    while (w->downs)
        w->downs->ops->abort(w->downs);
    worker_gates_fini(w);
    mirrors_fini(w);
    up_fini(w);
    loop_turn(w->loop, 0, NULL); /* memory of closed objects goes at the end of a turn */
    mailbox_fini(&w->mailbox);
    know_fini(&w->know);
    streams_fini(w);
    tls_ctx_unref(w->server_tls);
    tls_ctx_unref(w->client_tls);
    for (unsigned i = 0; i < w->n_listeners; i++) {
        loop_io_del(w->loop, &w->listeners[i].io);
        close(w->listeners[i].fd);
    }
    loop_free(w->loop);
    mem_free(w->scratch);
    mem_free(w->listeners);
    mem_free(w);
}

void worker_set_tls(struct worker *w, struct tls_ctx *server, struct tls_ctx *client)
{
    tls_ctx_unref(w->server_tls);
    tls_ctx_unref(w->client_tls);
    w->server_tls = server;
    w->client_tls = client;
}

const struct sock_addr *worker_dial_source(const struct down_info *info, const struct sock_addr *to,
                                           struct sock_addr *storage)
{
    return info->inbound ? worker_app_source(to, storage) : NULL;
}

const struct sock_addr *worker_app_source(const struct sock_addr *app, struct sock_addr *storage)
{
    static const unsigned char v4[4] = {127, 0, 0, 6};
    static const unsigned char v6[16] = {[15] = 6};
    bool is6 = sock_addr_bytes(app).len == 16;
    sock_addr_from_bytes(is6 ? slice_of(v6, 16) : slice_of(v4, 4), 0, storage);
    return storage;
}
