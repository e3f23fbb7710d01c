/* SPDX-License-Identifier: Apache-2.0 */
/* A gateway's connections on a worker: which gate, TLS, then HTTP or bytes; and where a request of
 * theirs goes. */
#include "proxy/gates_int.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/host.h"
#include "proxy/filter/edge.h"
#include "proxy/guard.h"
#include "proxy/served.h"
#include "proxy/sniff.h"
#include "proxy/stream.h"
#include "proxy/telemetry.h"

enum { ACCEPTS_PER_TURN = 64, EARLY_MAX = 16 * 1024 + 512 };

struct gate_listener {
    struct gate_listener *next;
    struct loop_io io;
    struct worker *worker;
    int fd; /* owned */
    uint16_t port;
    struct slice bind; /* borrows from the worker's picture */
};

/* --- the worker's listeners
 * ------------------------------------------------------------------------- */

static uint32_t port_index(const struct gates *g, uint16_t port, struct slice bind)
{
    uint32_t i = 0;
    while (i < g->listeners->n_ports &&
           (g->listeners->ports[i].port != port || !slice_eq(g->listeners->ports[i].bind, bind)))
        i++;
    return i;
}

static void accept_gate(struct gate_listener *l, int fd, const struct sock_addr *peer);

static void on_listener(struct loop_io *io, unsigned events)
{
    struct gate_listener *l = CONTAINER_OF(io, struct gate_listener, io);
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd;
        struct sock_addr peer;
        enum err_code rc = sock_accept(l->fd, &fd, &peer);
        if (rc == ERR_LIMIT)
            LOG(WARN, "No descriptor left for a connection", "worker=%u", l->worker->id);
        if (rc != ERR_OK)
            return;
        accept_gate(l, fd, &peer);
    }
}

static void listener_open(struct gate_listener *l)
{
    struct err err = {0};
    if (l->io.fd < 0 &&
        loop_io_level(l->worker->loop, &l->io, l->fd, LOOP_READ, on_listener, &err) < 0)
        LOG(ERROR, "Gateway port cannot be watched", "port=%u reason=%s", l->port, err.msg);
}

static void listener_free(struct gate_listener *l)
{
    loop_io_del(l->worker->loop, &l->io);
    close(l->fd);
    mem_free(l);
}

void worker_gates_open(struct worker *w)
{
    w->gates_open = true;
    for (struct gate_listener *l = w->gate_listeners; l; l = l->next)
        listener_open(l);
}

void worker_gates_fini(struct worker *w)
{
    while (w->gate_listeners) {
        struct gate_listener *l = w->gate_listeners;
        w->gate_listeners = l->next;
        listener_free(l);
    }
    gates_unref(w->gates);
    w->gates = NULL;
}

static void listener_add(struct worker *w, int fd, uint16_t port)
{
    struct gate_listener *l = mem_zalloc(sizeof *l);
    if (!l) {
        close(fd);
        return;
    }
    *l = (struct gate_listener){
        .next = w->gate_listeners, .worker = w, .fd = fd, .port = port, .io.fd = -1};
    w->gate_listeners = l;
}

/* Subscribe to the routes of every host, so that the first request finds them. */
static void want_services(struct worker *w, const struct prog_gate *g)
{
    struct prog_service *svc;
    char key[1024];
    for (uint32_t i = 0; i < g->n_hosts; i++)
        if (g->hosts[i].routed)
            know_service(&w->know, prog_gate_key(key, sizeof key, g->name, g->hosts[i].host), &svc);
    if (!g->http && g->tls != PROG_GATE_AUTO)
        know_service(&w->know, prog_gate_key(key, sizeof key, g->name, SL("*")), &svc);
}

static void picture_apply(struct worker *w, struct gates_mail *m)
{
    struct gates *old = w->gates;
    const struct prog_listeners *l = m->gates->listeners;
    w->gates = m->gates;
    for (uint32_t i = 0; i < l->n_ports; i++)
        if (m->fds[i] >= 0) {
            listener_add(w, m->fds[i], l->ports[i].port);
            if (w->gate_listeners && w->gate_listeners->fd == m->fds[i])
                w->gate_listeners->bind = l->ports[i].bind;
        }
    for (struct gate_listener **at = &w->gate_listeners, *one; (one = *at);) {
        uint32_t i = port_index(w->gates, one->port, one->bind);
        if (i == l->n_ports) {
            *at = one->next;
            listener_free(one);
            continue;
        }
        one->bind = l->ports[i].bind;
        if (w->gates_open)
            listener_open(one);
        at = &one->next;
    }
    for (uint32_t i = 0; i < l->n_ports && (!old || old->listeners != l); i++)
        for (uint32_t k = 0; k < l->ports[i].n_gates; k++)
            want_services(w, &l->ports[i].gates[k]);
    gates_unref(old);
}

static void deliver_gates(struct mail *mail, void *receiver)
{
    struct gates_mail *m = CONTAINER_OF(mail, struct gates_mail, mail);
    picture_apply(receiver, m);
    mem_free(m->fds);
    mem_free(m);
}

void gates_send(struct worker *w, struct gates_mail *m)
{
    m->mail.deliver = deliver_gates;
    mailbox_send(&w->mailbox, &m->mail);
}

bool worker_gates_need(const struct worker *w, const struct prog_service *service)
{
    struct slice gate, host;
    if (!w->gates || !prog_gate_key_split(service->prog.key, &gate, &host))
        return false;
    for (uint32_t i = 0; i < w->gates->listeners->n_ports; i++) {
        const struct prog_gate_port *p = &w->gates->listeners->ports[i];
        for (uint32_t k = 0; k < p->n_gates; k++)
            if (slice_eq(p->gates[k].name, gate))
                return true;
    }
    return false;
}

/* --- a connection before it is known what it carries
 * ------------------------------------------------ */

struct gate_in {
    struct down down;
    struct buf early;
    struct know_waiter waiter;
    struct loop_timer timer;
    struct loop_task gone;
    bool tls;
};

static void in_free(struct loop_task *t)
{
    struct gate_in *in = CONTAINER_OF(t, struct gate_in, gone);
    buf_fini(&in->early);
    mem_free(in);
}

static void in_end(struct gate_in *in)
{
    struct worker *w = in->down.worker;
    know_wait_cancel(&in->waiter);
    loop_timer_clear(w->loop, &in->timer);
    chan_close(in->down.chan);
    in->down.chan = NULL;
    down_leave(&in->down);
    loop_task_add(w->loop, &in->gone, in_free);
}

static void in_abort(struct down *d)
{
    in_end(CONTAINER_OF(d, struct gate_in, down));
}

static void in_close_idle(struct down *d)
{
    struct gate_in *in = CONTAINER_OF(d, struct gate_in, down);
    if (buf_len(&in->early) == 0 && !in->tls)
        in_end(in);
}

static void in_refuse(struct gate_in *in, unsigned flag, const char *details)
{
    telemetry_refused(in->down.worker, &in->down, NULL, flag, details);
    if (in->down.chan && !chan_is_tls(in->down.chan))
        chan_tcp_reset(in->down.chan);
    in_end(in);
}

static void in_late(struct loop_timer *t)
{
    struct gate_in *in = CONTAINER_OF(t, struct gate_in, timer);
    in_refuse(in, FLAG_DC, in->tls ? "tls_handshake_timeout" : "first_bytes_timeout");
}

/* Everything is handed over but `in` itself. */
static struct chan *hand_over(struct gate_in *in, struct down_info *ret_info)
{
    struct chan *c = in->down.chan;
    *ret_info = in->down.info;
    in->down.chan = NULL;
    in->down.info.inbound_prog = NULL;
    in->down.info.gw = NULL;
    return c;
}

static void become_http(struct gate_in *in, bool h2)
{
    struct down_info info;
    struct chan *c = hand_over(in, &info);
    (h2 ? h2_down_start : h1_start)(in->down.worker, c, &info, NULL, buf_slice(&in->early), false);
    in_end(in);
}

static void routes_known(struct gate_in *in, enum know_state state, struct prog_service *svc)
{
    struct down_info info;
    if (state != KNOW_VALUE) {
        in_refuse(in, state == KNOW_ABSENT ? FLAG_NR : FLAG_NC,
                  state == KNOW_ABSENT     ? "no_route"
                  : state == KNOW_WITHHELD ? "route_withheld"
                                           : "no_answer_from_operator");
        return;
    }
    struct chan *c = hand_over(in, &info);
    tcp_start(in->down.worker, c, &info, prog_ref(svc), buf_slice(&in->early), NULL, NULL);
    in_end(in);
}

/* Of bytes: all the gate's, or what the server name spells. */
static struct slice bytes_key(const struct gate_in *in, char buf[1024])
{
    const struct down_gate *gw = in->down.info.gw;
    return prog_gate_key(buf, 1024, gw->gate->name,
                         gw->gate->tls == PROG_GATE_AUTO && gw->sni ? slice_str(gw->sni) : SL("*"));
}

static void routes_answered(struct know_waiter *waiter, enum know_state state)
{
    struct gate_in *in = CONTAINER_OF(waiter, struct gate_in, waiter);
    struct prog_service *svc = NULL;
    char buf[1024];
    if (state == KNOW_VALUE)
        state = know_service(&in->down.worker->know, bytes_key(in, buf), &svc);
    routes_known(in, state, svc);
}

static void nothing(void *user, unsigned events)
{
    struct gate_in *in = user;
    if (events & CHAN_FAIL)
        in_end(in);
}

static void become_bytes(struct gate_in *in)
{
    struct know *k = &in->down.worker->know;
    struct prog_service *svc = NULL;
    char buf[1024];
    struct slice key = bytes_key(in, buf);
    enum know_state st = know_service(k, key, &svc);
    loop_timer_clear(in->down.worker->loop, &in->timer);
    if (st != KNOW_WAITING) {
        routes_known(in, st, svc);
        return;
    }
    chan_owner(in->down.chan, nothing, in);
    know_wait_service(k, key, &in->waiter, routes_answered);
}

/* --- TLS
 * ---------------------------------------------------------------------------------------------- */

static void tls_event(void *user, unsigned events)
{
    struct gate_in *in = user;
    if (events & CHAN_FAIL) {
        in_refuse(in, FLAG_DC, tls_chan_error(in->down.chan));
        return;
    }
    if (!(events & CHAN_OPEN))
        return;
    loop_timer_clear(in->down.worker->loop, &in->timer);
    in->down.info.mtls = in->down.info.gw->gate->tls == PROG_GATE_MESH;
    if (!in->down.info.gw->gate->http)
        become_bytes(in);
    else if (slice_is(tls_chan_alpn(in->down.chan), "h2") ||
             slice_is(tls_chan_alpn(in->down.chan), "istio-h2"))
        become_http(in, true);
    else
        become_http(in, false);
}

static void end_tls(struct gate_in *in, struct tls_ctx *ctx)
{
    struct worker *w = in->down.worker;
    struct chan *below = in->down.chan;
    struct err err = {0};
    struct tls_conn_opts opts = {0};
    in->down.chan = NULL;
    in->tls = true;
    if (in->down.info.gw->gate->tls == PROG_GATE_MESH)
        opts = (struct tls_conn_opts){.judge = incoming_judge, .judge_user = w};
    if (tls_chan_server(ctx, below, &opts, buf_slice(&in->early), &in->down.chan, &err) < 0) {
        in->down.chan = NULL;
        in_refuse(in, FLAG_DC, "tls_setup_failed");
        return;
    }
    buf_reset(&in->early);
    chan_owner(in->down.chan, tls_event, in);
}

/* A name that spells a cluster ("outbound_.80_.v1_.HOST") is for the gate that takes in its host, if that
 * passes such on. */
static const struct prog_gate *gate_of(const struct prog_gate_port *p, struct slice sni)
{
    struct slice host, subset;
    uint16_t port;
    const struct prog_gate *g =
        prog_cluster_spelled(sni, &port, &subset, &host) ? prog_gate_of_sni(p, host) : NULL;
    return g && g->tls == PROG_GATE_AUTO ? g : prog_gate_of_sni(p, sni);
}

/* The first bytes are a ClientHello: whom does it ask for? */
static void choose_gate(struct gate_in *in)
{
    struct down_info *info = &in->down.info;
    const struct prog_gate_port *p = &info->gw->gates->listeners->ports[info->gw->port];
    struct tls_hello hello;
    enum err_code rc = tls_hello_parse(buf_slice(&in->early), &hello);
    if (rc == ERR_AGAIN)
        return;
    if (rc != ERR_OK) {
        in_refuse(in, FLAG_DPE, "no_client_hello");
        return;
    }
    char name[HOST_MAX + 3];
    struct slice sni = SLICE_NULL;
    if (hello.sni.len && host_normalise(hello.sni, name, sizeof name, &sni) != ERR_OK)
        sni = SLICE_NULL;
    const struct prog_gate *g = gate_of(p, sni);
    if (sni.len)
        info->gw->sni = mem_strndup(sni.p, sni.len);
    if (!g || (sni.len && !info->gw->sni)) {
        in_refuse(in, FLAG_NR, "no_gate_for_server_name");
        return;
    }
    info->gw->gate = g;
    if (g->tls == PROG_GATE_PASSTHROUGH || g->tls == PROG_GATE_AUTO) {
        become_bytes(in);
        return;
    }
    struct tls_ctx *ctx = NULL, *own = NULL;
    struct err err = {0};
    if (served_by_files(g) && prog_gate_ends_tls(g->tls))
        ctx = served_ctx(g, loop_now(in->down.worker->loop), &own, &err) == 0 ? own : NULL;
    else
        ctx = g->tls == PROG_GATE_MESH ? in->down.worker->server_tls
                                       : gates_tls(info->gw->gates, info->gw->port,
                                                   (uint32_t)(g - p->gates));
    if (!ctx)
        in_refuse(in, FLAG_NR, g->tls == PROG_GATE_CLOSED ? "gate_closed" : "no_certificate");
    else
        end_tls(in, ctx);
    tls_ctx_unref(own);
}

/* Plaintext HTTP: HTTP/2 with prior knowledge says so at once (RFC 9113 3.3); the codec of HTTP/1
 * refuses what is neither. */
static void choose_version(struct gate_in *in)
{
    enum sniff s = sniff(buf_slice(&in->early), false, false);
    if (s != SNIFF_MORE)
        become_http(in, s == SNIFF_HTTP2);
    else
        loop_timer_in(in->down.worker->loop, &in->timer, in->down.worker->limits->sniff_timeout_ns,
                      in_late);
}

static void in_event(void *user, unsigned events)
{
    struct gate_in *in = user;
    struct worker *w = in->down.worker;
    if (events & CHAN_FAIL) {
        in_end(in);
        return;
    }
    while (events & CHAN_READ) {
        size_t n, room = EARLY_MAX - buf_len(&in->early);
        enum err_code rc = room ? chan_read(in->down.chan, w->scratch, room, &n) : ERR_LIMIT;
        if (rc == ERR_AGAIN)
            return;
        if (rc == ERR_LIMIT) {
            in_refuse(in, FLAG_DPE, "first_bytes_too_long");
            return;
        }
        if (rc != ERR_OK) {
            in_end(in);
            return;
        }
        buf_add(&in->early, w->scratch, n);
        struct chan *before = in->down.chan;
        if (in->down.info.gw->gate)
            choose_version(in);
        else
            choose_gate(in);
        if (in->down.chan != before || in->waiter.know)
            return;
    }
}

static const struct down_ops calls = {.abort = in_abort, .close_idle = in_close_idle};

static void accept_gate(struct gate_listener *l, int fd, const struct sock_addr *peer)
{
    struct worker *w = l->worker;
    struct err err = {0};
    struct chan *c;
    uint32_t port = port_index(w->gates, l->port, l->bind);
    const struct prog_gate_port *own = &w->gates->listeners->ports[port];
    if (port < w->gates->listeners->n_ports && own->n_gates &&
        (slice_starts(own->gates[0].name, SL(PROG_EGRESS_GATE)) ||
         slice_starts(own->gates[0].name, SL(PROG_INGRESS_GATE)))) {
        incoming_local(w, fd, peer, own->gates[0].name);
        return;
    }
    struct down_info info = {.id = ++w->connections, .peer = *peer, .start_ns = loop_now(w->loop)};
    if (sock_local(fd, &info.orig) < 0 || port == w->gates->listeners->n_ports) {
        close(fd);
        return;
    }
    if (chan_tcp(w->loop, fd, true, &c, &err) < 0)
        return;
    const struct prog_gate_port *p = &w->gates->listeners->ports[port];
    struct gate_in *in = w->n_downs < w->limits->connections ? mem_zalloc(sizeof *in) : NULL;
    if (in && !(info.gw = mem_zalloc(sizeof *info.gw))) {
        mem_free(in);
        in = NULL;
    }
    if (!in) {
        telemetry_overflow(w);
        chan_tcp_reset(c);
        chan_close(c);
        return;
    }
    guard_bind(&info, w->know.inbound);
    info.gw->gates = gates_ref(w->gates);
    info.gw->port = port;
    buf_init(&in->early, EARLY_MAX);
    down_enter(&in->down, w, DOWN_INCOMING, c, &info);
    in->down.ops = &calls;
    chan_owner(c, in_event, in);
    if (p->n_gates == 1 && p->gates[0].tls == PROG_GATE_PLAIN) {
        in->down.info.gw->gate = &p->gates[0];
        if (!p->gates[0].http) {
            become_bytes(in);
            return;
        }
        loop_timer_in(w->loop, &in->timer, w->limits->idle_timeout_ns,
                      in_late); /* as between requests */
    } else {
        loop_timer_in(w->loop, &in->timer, w->limits->sniff_timeout_ns, in_late);
    }
    in_event(in, CHAN_READ);
}

/* --- requests
 * ------------------------------------------------------------------------------------------- */

bool gate_refresh(struct worker *w, struct down_info *info)
{
    if (info->gw->gates == w->gates)
        return info->gw->gate != NULL;
    const struct prog_gate_port *was = &info->gw->gates->listeners->ports[info->gw->port];
    uint32_t at = port_index(w->gates, was->port, was->bind);
    const struct prog_gate *now = NULL;
    if (at < w->gates->listeners->n_ports) {
        const struct prog_gate_port *p = &w->gates->listeners->ports[at];
        for (uint32_t i = 0; i < p->n_gates && info->gw->gate; i++)
            if (slice_eq(p->gates[i].name, info->gw->gate->name) &&
                p->gates[i].tls == info->gw->gate->tls)
                now = &p->gates[i];
    }
    if (!now)
        return false; /* the old picture stays: it holds the names that the log will want */
    struct gates *old = info->gw->gates;
    info->gw->gates = gates_ref(w->gates);
    info->gw->port = at;
    info->gw->gate = now;
    gates_unref(old);
    return true;
}

/* Hash=<sha256 of the leaf>;URI=<SPIFFE id>, of a certificate that was verified. */
static struct slice client_cert(const struct down *d, struct arena *a)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char hash[32];
    char digest[65];
    if (!chan_is_tls(d->chan) || !tls_chan_peer_hash(d->chan, hash))
        return SLICE_NULL;
    for (size_t i = 0; i < sizeof hash; i++) {
        digest[2 * i] = hex[hash[i] >> 4];
        digest[2 * i + 1] = hex[hash[i] & 15];
    }
    digest[64] = '\0';
    struct slice id = tls_chan_peer_spiffe(d->chan);
    return slice_str(arena_printf(a, "Hash=%s%s%.*s", digest, id.len ? ";URI=" : "", SL_FMT(id)));
}

/* Plaintext is told to come by https; a port in the authority was that of plaintext. */
static void redirect_to_https(struct stream *s, struct slice host)
{
    bool v6 = slice_chr(host, ':') >= 0 && host.p[0] != '[';
    char *to = arena_printf(&s->arena, "https://%s%.*s%s%.*s", v6 ? "[" : "", SL_FMT(host),
                            v6 ? "]" : "", SL_FMT(s->path_received));
    stream_reply(s, to ? 301 : 500, 0, "https_redirect", SLICE_NULL, slice_str(to));
}

/* Another server of this port has the name, with its own certificate and its own demands on the
 * client: the connection that was opened for this one must not reach it (RFC 9110 15.5.20). */
static bool misdirected(const struct down_info *info, struct slice host)
{
    const struct prog_gate_port *p = &info->gw->gates->listeners->ports[info->gw->port];
    return info->gw->gate->tls != PROG_GATE_PLAIN && prog_gate_of_sni(p, host) &&
           prog_gate_of_sni(p, host) != info->gw->gate;
}

static void service_answered(struct know_waiter *waiter, enum know_state state);

static bool request_host(struct stream *s, char *text, size_t cap, struct slice *ret)
{
    uint16_t port;
    return authority_split(s->authority_received, ret, &port) == ERR_OK &&
           host_normalise(*ret, text, cap, ret) == ERR_OK;
}

static void look_up(struct stream *s)
{
    const struct down_info *info = &s->down->info;
    char text[HOST_MAX + 3], buf[1024];
    struct slice host, key;
    struct prog_service *svc = NULL;
    if (!request_host(s, text, sizeof text, &host)) {
        stream_reply(s, 404, FLAG_NR, "route_not_found", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (misdirected(info, host)) {
        stream_reply(s, 421, FLAG_NR, "misdirected_request", SLICE_NULL, SLICE_NULL);
        return;
    }
    const struct prog_gate_host *h = prog_gate_find(info->gw->gate, host);
    if (h && h->redirect && info->gw->gate->tls == PROG_GATE_PLAIN) {
        redirect_to_https(s, host);
        return;
    }
    if (!h || !h->routed) {
        stream_reply(s, 404, FLAG_NR, "route_not_found", SLICE_NULL, SLICE_NULL);
        return;
    }
    key = prog_gate_key(buf, sizeof buf, info->gw->gate->name, h->host);
    enum know_state st = know_service(&s->worker->know, key, &svc);
    if (st == KNOW_WAITING) {
        s->state = STREAM_LOOKUP;
        know_wait_service(&s->worker->know, key, &s->waiter, service_answered);
        return;
    }
    if (st == KNOW_ABSENT)
        stream_reply(s, 404, FLAG_NR, "route_not_found", SLICE_NULL, SLICE_NULL);
    else
        stream_known(s, st, svc);
}

static void service_answered(struct know_waiter *waiter, enum know_state state)
{
    struct stream *s = CONTAINER_OF(waiter, struct stream, waiter);
    if (state == KNOW_WAITING)
        stream_known(s, state, NULL);
    else if (gate_refresh(s->worker, &s->down->info))
        look_up(s);
    else
        stream_reply(s, 404, FLAG_NR, "route_not_found", SLICE_NULL, SLICE_NULL);
}

void gate_route(struct stream *s)
{
    struct down *d = s->down;
    bool open = gate_refresh(s->worker, &d->info);
    bool tls = chan_is_tls(d->chan);
    struct match_request view;
    s->req.scheme = tls ? SL("https") : SL("http");
    view = stream_view(s);
    guard_refresh(d);
    if (!guard_http(d, &view, s->detail_text)) {
        stream_reply(s, 403, 0, s->detail_text, SL("RBAC: access denied"), SLICE_NULL);
        return;
    }
    struct edge e = {.peer = d->info.peer,
                     .tls = tls,
                     .hops = s->worker->trusted_hops,
                     .client_cert = client_cert(d, &s->arena)};
    if (edge_headers(&s->req, &e) != ERR_OK) {
        stream_reply(s, 431, FLAG_LR, "request_headers_too_large", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (!open)
        stream_reply(s, 404, FLAG_NR, "route_not_found", SLICE_NULL, SLICE_NULL);
    else
        look_up(s);
}
