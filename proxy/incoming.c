/* SPDX-License-Identifier: Apache-2.0 */
/* A connection before it is known what it carries: ask who was dialled, look at the first bytes,
 * terminate mutual TLS, then hand over to the HTTP or the TCP side.
 *
 * Where a server may speak first, the other side is dialled meanwhile and whoever speaks first
 * decides; a client that is quick costs no dial. In STRICT inbound TLS must come first. */
#include "proxy/down.h"

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/host.h"
#include "lib/data/spiffe.h"
#include "proxy/guard.h"
#include "proxy/served.h"
#include "proxy/sniff.h"
#include "proxy/telemetry.h"
#include "proxy/upstream/upstream.h"
#include "proxy/worker.h"

#include <string.h>
#include <unistd.h>

/* EARLY_MAX: a ClientHello may fill a TLS record. */
enum { RACE_AFTER_MS = 3, EARLY_MAX = 16 * 1024 + 512 };

struct incoming {
    struct down down;
    struct prog_service *service; /* counted */
    struct buf early;             /* bytes read so far */
    struct know_waiter waiter;
    bool asking; /* the operator was asked who was dialled: no byte goes anywhere before it answers
                  */
    struct loop_timer timer;
    struct loop_task gone;
    struct chan *race; /* dialled meanwhile */
    struct up_host *race_host;
    bool unanswered; /* the operator did not tell who was dialled */
    bool may_race;
    bool tls_done;
};

static void incoming_free(struct loop_task *t)
{
    struct incoming *in = CONTAINER_OF(t, struct incoming, gone);
    buf_fini(&in->early);
    mem_free(in);
}

static void race_drop(struct incoming *in)
{
    loop_timer_clear(in->down.worker->loop, &in->timer);
    chan_close(in->race);
    up_host_unref(in->race_host);
    in->race = NULL;
    in->race_host = NULL;
}

/* Let go of everything that was not handed over. */
static void incoming_end(struct incoming *in)
{
    struct worker *w = in->down.worker;
    know_wait_cancel(&in->waiter);
    race_drop(in);
    prog_unref(in->service);
    in->service = NULL;
    chan_close(in->down.chan);
    in->down.chan = NULL;
    down_leave(&in->down);
    loop_task_add(w->loop, &in->gone, incoming_free);
}

static void incoming_abort(struct down *d)
{
    incoming_end(CONTAINER_OF(d, struct incoming, down));
}

static void incoming_close_idle(struct down *d)
{
    struct incoming *in = CONTAINER_OF(d, struct incoming, down);
    if (buf_len(&in->early) == 0 && !chan_is_tls(d->chan))
        incoming_end(in);
}

/* Close a connection whose refusal must be seen: counted, logged, flagged. */
static void incoming_refuse(struct incoming *in, unsigned flag, const char *details)
{
    telemetry_refused(in->down.worker, &in->down, in->service, flag, details);
    if (in->down.chan && !chan_is_tls(in->down.chan))
        chan_tcp_reset(in->down.chan);
    incoming_end(in);
}

typedef void http_start(struct worker *, struct chan *, struct down_info *, struct prog_service *,
                        struct slice, bool);

static void become_http(struct incoming *in, http_start *start)
{
    struct chan *c = in->down.chan;
    struct down_info info = in->down.info;
    struct prog_service *svc = in->service;
    in->down.chan = NULL;
    in->down.info.inbound_prog = NULL;
    in->down.info.local = NULL;
    in->service = NULL;
    start(in->down.worker, c, &info, svc, buf_slice(&in->early), in->unanswered);
    incoming_end(in);
}

static void become_tcp(struct incoming *in)
{
    if (in->unanswered) {
        incoming_refuse(in, FLAG_NC, "no_answer_from_operator");
        return;
    }
    struct chan *c = in->down.chan, *up = in->race;
    struct up_host *host = in->race_host;
    struct down_info info = in->down.info;
    struct prog_service *svc = in->service;
    in->down.chan = NULL;
    in->down.info.inbound_prog = NULL;
    in->down.info.local = NULL;
    in->service = NULL;
    in->race = NULL;
    in->race_host = NULL;
    tcp_start(in->down.worker, c, &info, svc, buf_slice(&in->early), up, host);
    incoming_end(in);
}

static void race_event(void *user, unsigned events)
{
    struct incoming *in = user;
    if (events & (CHAN_READ | CHAN_FAIL))
        become_tcp(in); /* the server spoke (or refused) first */
}

static void race_start(struct loop_timer *t)
{
    struct incoming *in = CONTAINER_OF(t, struct incoming, timer);
    struct worker *w = in->down.worker;
    struct err err = {0};
    const char *why;
    if (tcp_pick(w, &in->down.info, in->service, SLICE_NULL, &in->race_host, &why) != ERR_OK)
        return; /* the client's first bytes decide what it is told */
    struct sock_addr src;
    if (up_dial(in->race_host, UP_ALPN_TCP, worker_dial_source(&in->down.info, &in->race_host->addr, &src), &in->race,
                &err) < 0) {
        up_host_unref(in->race_host);
        in->race_host = NULL;
        in->race = NULL;
        return;
    }
    chan_owner(in->race, race_event, in);
}

static enum prog_protocol port_protocol(const struct incoming *in)
{
    if (in->down.info.inbound)
        return in->down.info.protocol;
    return in->service ? in->service->protocol : PROG_AUTO;
}

static void incoming_event(void *user, unsigned events);

static void handshake_late(struct loop_timer *t)
{
    incoming_refuse(CONTAINER_OF(t, struct incoming, timer), FLAG_DC, "tls_handshake_timeout");
}

/* A caller is of this mesh when its trust domain is the mesh's own or one of its aliases; who
 * signed it is not enough, as a root may be shared (Istio: trustDomain, trustDomainAliases). */
enum err_code incoming_judge(void *user, struct slice id, struct err *err)
{
    const struct worker *w = user;
    const struct prog_settings *s = w->know.settings;
    struct spiffe_id who;
    if (spiffe_parse(id, &who) == ERR_OK) {
        if (slice_eq(who.trust_domain, s->trust_domain))
            return ERR_OK;
        for (uint32_t i = 0; i < s->trust_domain_aliases.n; i++)
            if (slice_eq(who.trust_domain, s->trust_domain_aliases.p[i]))
                return ERR_OK;
    }
    err_set(err, ERR_DENIED, "caller %.*s is of no trust domain of this mesh", SL_FMT(id));
    return ERR_DENIED;
}

static void start_tls(struct incoming *in, struct tls_ctx *ctx, const struct tls_conn_opts *opts)
{
    struct worker *w = in->down.worker;
    struct err err = {0};
    struct chan *below = in->down.chan;
    race_drop(in);
    in->down.chan = NULL;
    if (tls_chan_server(ctx, below, opts, buf_slice(&in->early), &in->down.chan, &err) < 0) {
        in->down.chan = NULL;
        incoming_refuse(in, FLAG_DC, "tls_setup_failed");
        return;
    }
    buf_reset(&in->early);
    chan_owner(in->down.chan, incoming_event, in);
    loop_timer_in(w->loop, &in->timer, w->limits->sniff_timeout_ns, handshake_late);
}

static void start_mesh_tls(struct incoming *in)
{
    struct worker *w = in->down.worker;
    struct tls_conn_opts opts = {.judge = incoming_judge, .judge_user = w};
    if (w->server_tls)
        start_tls(in, w->server_tls, &opts);
    else
        incoming_refuse(in, FLAG_UF, "no_workload_certificate_yet");
}

/* The gate of a port at which a Sidecar ends TLS: whatever comes must be TLS; NULL: another port. */
static const struct prog_gate *own_tls(const struct incoming *in)
{
    const struct down_info *info = &in->down.info;
    return info->inbound && !in->tls_done && info->port_mtls == PROG_MTLS_DISABLE ? info->port->tls
                                                                                 : NULL;
}

static void start_own_tls(struct incoming *in, const struct prog_gate *g)
{
    struct tls_conn_opts opts = {0};
    struct tls_ctx *ctx;
    struct err err = {0};
    if (g->tls == PROG_GATE_CLOSED) {
        incoming_refuse(in, FLAG_NR, "gate_closed");
        return;
    }
    if (served_ctx(g, loop_now(in->down.worker->loop), &ctx, &err) < 0) {
        incoming_refuse(in, FLAG_NR, "no_certificate");
        return;
    }
    start_tls(in, ctx, &opts);
    tls_ctx_unref(ctx);
}

/* --- outbound TLS of the application's own: the server's name picks the service, then the address ---- */

/* Would a route of the service ask for the name? */
static bool asks_sni(const struct prog_service *svc)
{
    for (uint32_t i = 0; svc && i < svc->n_tcp; i++)
        for (uint32_t k = 0; k < svc->tcp[i].n_matches; k++)
            if (svc->tcp[i].matches[k].sni.n)
                return true;
    return false;
}

/* `svc`: of the name, NULL: the name is nobody's here. What was dialled before the name was known goes. */
static void sni_settled(struct incoming *in, struct prog_service *svc, struct slice sni)
{
    if (svc && svc != in->service && tcp_has_route(&in->down.info, svc, sni)) {
        prog_ref(svc);
        prog_unref(in->service);
        in->service = svc;
        in->unanswered = false;
        race_drop(in);
    } else if (asks_sni(in->service)) {
        race_drop(in);
    }
    become_tcp(in);
}

static bool sni_key(const struct incoming *in, struct slice sni, char key[DOWN_KEY_MAX],
                    struct slice *ret_host, struct slice *ret_key)
{
    size_t skip = down_key_prefix(&in->down.info, key);
    char text[HOST_MAX + 3];
    struct slice host;
    if (host_normalise(sni, text, sizeof text, &host) != ERR_OK ||
        skip + host.len + sizeof ":65535" > DOWN_KEY_MAX)
        return false;
    memcpy(key + skip, host.p, host.len);
    key[skip + host.len] = ':';
    char *end = u32_put(key + skip + host.len + 1, down_key_port(&in->down.info, 443));
    *ret_host = slice_of(key + skip, host.len);
    *ret_key = slice_of(key, (size_t)(end - key));
    return true;
}

static void sni_known(struct incoming *in, enum know_state state, struct prog_service *svc,
                      struct slice sni)
{
    if (state == KNOW_VALUE)
        sni_settled(in, svc, sni);
    else if (state == KNOW_ABSENT)
        sni_settled(in, NULL, sni);
    else
        incoming_refuse(in, FLAG_NC,
                        state == KNOW_WITHHELD ? "route_withheld" : "no_answer_from_operator");
}

static void sni_answered(struct know_waiter *waiter, enum know_state state)
{
    struct incoming *in = CONTAINER_OF(waiter, struct incoming, waiter);
    char buf[DOWN_KEY_MAX];
    struct slice host, key;
    struct prog_service *svc = NULL;
    struct tls_hello hello;
    in->asking = false;
    if (tls_hello_parse(buf_slice(&in->early), &hello) != ERR_OK ||
        !sni_key(in, hello.sni, buf, &host, &key)) {
        become_tcp(in); /* it parsed when the operator was asked */
        return;
    }
    if (state == KNOW_VALUE)
        state = know_service(&in->down.worker->know, key, &svc);
    sni_known(in, state, svc, hello.sni);
}

static void hello_late(struct loop_timer *t)
{
    become_tcp(CONTAINER_OF(t, struct incoming, timer));
}

/* The first bytes are those of a TLS record. Nothing is decided before the ClientHello is whole, unless
 * its rest does not come. */
static void outbound_tls(struct incoming *in, bool eof)
{
    struct worker *w = in->down.worker;
    struct tls_hello hello;
    char buf[DOWN_KEY_MAX];
    struct slice host, key;
    enum err_code rc = tls_hello_parse(buf_slice(&in->early), &hello);
    if (rc == ERR_AGAIN && !eof) {
        race_drop(in);
        loop_timer_in(w->loop, &in->timer, w->limits->sniff_timeout_ns, hello_late);
        return;
    }
    if (rc != ERR_OK || !hello.sni.len || !sni_key(in, hello.sni, buf, &host, &key) ||
        !prog_settings_has_host(w->know.settings, host, w->pod_namespace)) {
        sni_settled(in, NULL, rc == ERR_OK ? hello.sni : SLICE_NULL);
        return;
    }
    struct prog_service *svc = NULL;
    enum know_state st = know_service(&w->know, key, &svc);
    if (st != KNOW_WAITING) {
        sni_known(in, st, svc, hello.sni);
        return;
    }
    race_drop(in);
    in->asking = true;
    know_wait_service(&w->know, key, &in->waiter, sni_answered);
}

/* What the bytes at hand say; SNIFF_MORE waits for more. */
static void incoming_classify(struct incoming *in, bool eof)
{
    struct down_info *info = &in->down.info;
    enum prog_protocol proto = port_protocol(in);
    const struct prog_gate *own = own_tls(in);
    if (own) {
        start_own_tls(in, own);
        return;
    }
    bool tls_possible = info->inbound && !in->tls_done && info->port_mtls != PROG_MTLS_DISABLE;
    enum sniff s = sniff(buf_slice(&in->early), tls_possible, eof);
    switch (s) {
    case SNIFF_MORE:
        return;
    case SNIFF_MESH_TLS:
        start_mesh_tls(in);
        return;
    case SNIFF_TLS:
    case SNIFF_OTHER:
    case SNIFF_HTTP2:
    case SNIFF_HTTP1:
        break;
    }
    if (info->inbound && !in->tls_done && info->port_mtls == PROG_MTLS_STRICT) {
        incoming_refuse(in, FLAG_NR, "plaintext_refused_by_strict_mtls");
        return;
    }
    bool http = proto == PROG_AUTO || prog_is_http(proto);
    if (s == SNIFF_HTTP2 && http)
        become_http(in, h2_down_start);
    else if (s == SNIFF_HTTP1 && http)
        become_http(in, h1_start);
    else if (s == SNIFF_OTHER && prog_is_http(proto)) /* declared: the codec refuses what is none */
        become_http(in, proto == PROG_HTTP ? h1_start : h2_down_start);
    else if (s == SNIFF_TLS && !info->inbound)
        outbound_tls(in, eof);
    else
        become_tcp(in);
}

static void incoming_readable(struct incoming *in)
{
    struct worker *w = in->down.worker;
    for (;;) {
        size_t n, room = EARLY_MAX - buf_len(&in->early);
        if (room == 0) {
            incoming_refuse(in, FLAG_DPE, "first_bytes_too_long");
            return;
        }
        enum err_code rc = chan_read(in->down.chan, w->scratch, room, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc == ERR_EOF) {
            if (buf_len(&in->early) == 0 && !in->may_race)
                incoming_end(in);
            else
                incoming_classify(in, true);
            return;
        }
        if (rc != ERR_OK) {
            incoming_end(in);
            return;
        }
        buf_add(&in->early, w->scratch, n);
        if (buf_err(&in->early) != ERR_OK) {
            incoming_refuse(in, FLAG_DPE, "first_bytes_too_long");
            return;
        }
        struct chan *before = in->down.chan;
        incoming_classify(in, false);
        if (in->asking || in->down.chan != before)
            return; /* the operator is asked, handed over, or TLS stands in between now */
    }
}

/* The first bytes are awaited; start the race where the server may be the one to speak. */
static void incoming_await(struct incoming *in)
{
    struct worker *w = in->down.worker;
    const struct down_info *info = &in->down.info;
    enum prog_protocol proto = port_protocol(in);
    bool must_tls = own_tls(in) || (info->inbound && !in->tls_done &&
                                    info->port_mtls == PROG_MTLS_STRICT);
    in->may_race = !must_tls && !in->unanswered && !prog_is_http(proto);
    if (in->may_race)
        loop_timer_in(w->loop, &in->timer, RACE_AFTER_MS * NS_PER_MS, race_start);
    chan_owner(in->down.chan, incoming_event, in);
    incoming_readable(in);
}

static void tls_opened(struct incoming *in)
{
    struct worker *w = in->down.worker;
    bool own = own_tls(in) != NULL;
    loop_timer_clear(w->loop, &in->timer);
    in->tls_done = true;
    if (own) { /* a client of another authority is nobody in the mesh */
        incoming_await(in);
        return;
    }
    in->down.info.mtls = true;
    struct slice alpn = tls_chan_alpn(in->down.chan);
    enum prog_protocol proto = in->down.info.protocol;
    in->down.info.shared = slice_is(alpn, TULLE_SHARED_ALPN);
    if (slice_is(alpn, "istio-http/1.1") || slice_is(alpn, "istio-http/1.0") ||
        slice_is(alpn, "istio-h2") || slice_is(alpn, "h2") || slice_is(alpn, "http/1.1") ||
        slice_is(alpn, TULLE_SHARED_ALPN)) {
        in->down.info.protocol = PROG_HTTP; /* which of them, its first bytes tell as well */
    } else if (prog_is_http(proto)) {
        /* The client carries it as opaque bytes; its head is looked at all the same. */
        in->down.info.protocol = PROG_AUTO;
    }
    incoming_await(in);
}

static void incoming_event(void *user, unsigned events)
{
    struct incoming *in = user;
    if (events & CHAN_FAIL) {
        if (chan_is_tls(in->down.chan) && !in->tls_done)
            incoming_refuse(in, FLAG_DC, tls_chan_error(in->down.chan));
        else
            incoming_end(in);
        return;
    }
    if (chan_is_tls(in->down.chan) && !in->tls_done) {
        if (events & CHAN_OPEN)
            tls_opened(in);
        return;
    }
    if ((events & CHAN_READ) && !in->asking)
        incoming_readable(in);
}

/* --- outbound: who was dialled?
 * -------------------------------------------------------------------- */

/* Bytes that are nobody's go to a Sidecar's egressProxy: it must be known before one of them comes.
 * Whether it was to be had, who picks the host sees. */
static void egress_answered(struct know_waiter *waiter, enum know_state state)
{
    struct incoming *in = CONTAINER_OF(waiter, struct incoming, waiter);
    (void)state;
    in->asking = false;
    incoming_await(in);
}

static bool egress_asked(struct incoming *in)
{
    struct know *k = &in->down.worker->know;
    struct prog_service *svc = NULL;
    if (!k->settings->egress_proxy || k->settings->registry_only ||
        know_service(k, SL(PROG_EGRESS_KEY), &svc) != KNOW_WAITING)
        return false;
    in->asking = true;
    know_wait_service(k, SL(PROG_EGRESS_KEY), &in->waiter, egress_answered);
    return true;
}

static void outbound_known(struct incoming *in, enum know_state state, struct prog_service *svc)
{
    switch (state) {
    case KNOW_VALUE:
        in->service = prog_ref(svc);
        if (svc->gate.len && !in->down.info.local) /* an address that a Sidecar's entry is bound to */
            in->down.info.local = mem_strndup(svc->gate.p, svc->gate.len);
        in->unanswered = svc->gate.len && !in->down.info.local;
        break;
    case KNOW_ABSENT:
        if (in->down.info.local) { /* of bytes, nothing has the port; else the listener is about to go */
            incoming_refuse(in, FLAG_NR, "no_route");
            return;
        }
        if (egress_asked(in))
            return;
        break;
    default:
        in->unanswered = true;
        break;
    }
    incoming_await(in);
}

static void outbound_answered(struct know_waiter *waiter, enum know_state state)
{
    struct incoming *in = CONTAINER_OF(waiter, struct incoming, waiter);
    char text[DOWN_KEY_MAX];
    struct prog_service *svc = NULL;
    in->asking = false;
    if (state == KNOW_VALUE)
        state = know_service(&in->down.worker->know, down_address_key(&in->down.info, text), &svc);
    outbound_known(in, state, svc);
}

static void outbound_look_up(struct incoming *in)
{
    struct know *k = &in->down.worker->know;
    struct ipaddr ip = address_of(&in->down.info.orig);
    if (!in->down.info.local && !know_asks_for(k, &ip)) {
        outbound_known(in, KNOW_ABSENT, NULL);
        return;
    }
    char text[DOWN_KEY_MAX];
    struct slice key = down_address_key(&in->down.info, text);
    struct prog_service *svc = NULL;
    enum know_state st = know_service(k, key, &svc);
    in->asking = st == KNOW_WAITING;
    if (in->asking)
        know_wait_service(k, key, &in->waiter, outbound_answered);
    else
        outbound_known(in, st, svc);
}

/* --- inbound: what is configured for the port?
 * ------------------------------------------------------ */

static void inbound_look_up(struct incoming *in)
{
    struct know *k = &in->down.worker->know;
    struct down_info *info = &in->down.info;
    guard_bind(info, k->inbound);
    incoming_await(in);
}

/* Where the connection wanted to go. One that was dialled to the listener itself has no
 * destination: carrying it would be a loop. */
static int destination_of(const struct listener *l, int fd, struct sock_addr *ret, struct err *err)
{
    if (sock_addr_set(&l->fixed)) {
        *ret = l->fixed;
        return 0;
    }
    struct sock_addr local;
    if (sock_original_dst(fd, ret, err) < 0)
        return -1;
    if (sock_local(fd, &local) == 0 && sock_addr_eq(&local, ret))
        return err_set(err, ERR_INVALID, "it was dialled to this proxy's own port");
    return 0;
}

static const struct down_ops calls = {.abort = incoming_abort, .close_idle = incoming_close_idle};

/* Takes fd and what `info` holds. NULL: it is gone. */
static struct incoming *incoming_enter(struct worker *w, int fd, struct down_info *info)
{
    struct err err = {0};
    struct chan *c;
    if (chan_tcp(w->loop, fd, true, &c, &err) < 0) {
        down_info_fini(info);
        return NULL;
    }
    struct incoming *in = w->n_downs < w->limits->connections ? mem_zalloc(sizeof *in) : NULL;
    if (!in) {
        telemetry_overflow(w);
        chan_tcp_reset(c);
        chan_close(c);
        down_info_fini(info);
        return NULL;
    }
    buf_init(&in->early, EARLY_MAX);
    down_enter(&in->down, w, DOWN_INCOMING, c, info);
    in->down.ops = &calls;
    chan_owner(c, incoming_event, in);
    return in;
}

void incoming_start(struct listener *l, int fd, const struct sock_addr *peer)
{
    struct worker *w = l->worker;
    struct err err = {0};
    struct down_info info = {.id = ++w->connections,
                             .inbound = l->inbound,
                             .peer = *peer,
                             .start_ns = loop_now(w->loop)};
    if (destination_of(l, fd, &info.orig, &err) < 0) {
        LOG(WARN, "Connection without a destination refused", "reason=%s", err.msg);
        close(fd);
        return;
    }
    struct incoming *in = incoming_enter(w, fd, &info);
    if (in && info.inbound)
        inbound_look_up(in);
    else if (in)
        outbound_look_up(in);
}

void incoming_local(struct worker *w, int fd, const struct sock_addr *peer, struct slice gate)
{
    struct down_info info = {.id = ++w->connections,
                             .inbound = slice_starts(gate, SL(PROG_INGRESS_GATE)),
                             .peer = *peer,
                             .start_ns = loop_now(w->loop)};
    sock_local(fd, &info.orig); /* none of a unix socket */
    if (!info.inbound && !(info.local = mem_strndup(gate.p, gate.len))) {
        close(fd);
        return;
    }
    struct incoming *in = incoming_enter(w, fd, &info);
    if (in && info.inbound)
        inbound_look_up(in);
    else if (in)
        outbound_look_up(in);
}
