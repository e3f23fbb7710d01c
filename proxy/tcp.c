/* SPDX-License-Identifier: Apache-2.0 */
/* Opaque TCP: bytes both ways with backpressure, half-close, a byte budget per turn, and one record
 * at the end. Nothing is buffered while both sides keep up: bytes go from the worker's scratch
 * buffer straight to the other side, and only what it does not take is kept. */
#include "proxy/down.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/tls/tls.h"
#include "mesh/match/route.h"
#include "proxy/filter/affinity.h"
#include "proxy/guard.h"
#include "proxy/telemetry.h"
#include "proxy/upstream/upstream.h"
#include "proxy/worker.h"

/* One direction: from `from` to `to`. */
struct pipe {
    struct buf kept; /* read, but not taken by the other side yet */
    uint64_t bytes;
    bool eof;  /* the source ended */
    bool done; /* and the sink was told */
    bool early_counted;
};

struct tcp {
    struct down down;
    struct prog_service *service; /* counted; NULL: the dialled address or the application */
    struct up_host *host;         /* counted */
    struct chan *up;
    struct pipe to_up, to_down;
    struct loop_timer timer; /* connect timeout, then idle timeout */
    struct loop_task gone;
    unsigned n_tried;
    char *sni;       /* that the client asked for, where it speaks TLS through us; NULL: none */
    int64_t open_ns; /* when the upstream connection was made */
    bool up_open;
    bool ended;
    unsigned flags;
    const char *details, *failure, *termination;
};

static void tcp_free(struct loop_task *t)
{
    struct tcp *s = CONTAINER_OF(t, struct tcp, gone);
    buf_fini(&s->to_up.kept);
    buf_fini(&s->to_down.kept);
    mem_free(s->sni);
    mem_free(s);
}

static void tcp_describe(const struct tcp *s, struct record *r)
{
    const struct down *d = &s->down;
    *r = (struct record){
        .inbound = d->info.inbound,
        .tcp = true,
        .mtls = d->info.inbound ? d->info.mtls : s->up && up_mesh_tls(s->host, s->up),
        .start_wall_ns =
            loop_wall(d->worker->loop) - (loop_now(d->worker->loop) - d->info.start_ns),
        .duration_ns = loop_now(d->worker->loop) - d->info.start_ns,
        .upstream_ns = -1,
        .first_byte_ns = -1,
        .connection = d->info.id,
        .attempts = s->host != NULL,
        .protocol = "-",
        .flags = s->flags,
        .details = s->details,
        .upstream_failure = s->failure,
        .termination = s->termination,
        .bytes_received = s->to_up.bytes,
        .bytes_sent = s->to_down.bytes,
        .peer = d->info.peer,
        .orig = d->info.orig,
    };
    if (d->info.gw && d->chan)
        r->sni = down_sni(d);
    if (s->host) {
        r->cluster = s->host->cluster->cfg->name;
        r->upstream = up_peer_addr(s->host, s->up);
    }
    if (d->info.inbound) {
        r->peer_principal = d->chan ? down_principal(d) : SLICE_NULL;
        r->sni = d->chan && chan_is_tls(d->chan) ? tls_chan_sni(d->chan) : SLICE_NULL;
        r->service_host = d->info.port->service_host;
        r->service_name = d->info.port->service_name;
        r->service_namespace = d->info.port->service_namespace;
    } else {
        if (s->sni)
            r->sni = slice_str(s->sni);
        r->peer_principal = s->up && chan_is_tls(s->up) ? tls_chan_peer_spiffe(s->up) : SLICE_NULL;
        if (s->host && s->host->cluster->cfg->service_name.len) {
            r->service_host = s->host->cluster->cfg->host;
            r->service_name = s->host->cluster->cfg->service_name;
            r->service_namespace = s->host->cluster->cfg->service_namespace;
        } else {
            r->service_name = s->host ? s->host->cluster->cfg->name : SL("BlackHoleCluster");
        }
    }
}

static void tcp_end(struct tcp *s)
{
    if (s->ended)
        return;
    s->ended = true;
    struct record r;
    tcp_describe(s, &r);
    telemetry_record(s->down.worker, &r);
    loop_timer_clear(s->down.worker->loop, &s->timer);
    chan_close(s->up);
    chan_close(s->down.chan);
    if (s->host)
        up_host_end(s->host);
    up_host_unref(s->host);
    prog_unref(s->service);
    down_leave(&s->down);
    loop_task_add(s->down.worker->loop, &s->gone, tcp_free);
}

static void tcp_abort(struct down *d)
{
    tcp_end(CONTAINER_OF(d, struct tcp, down));
}

static void tcp_fail(struct tcp *s, unsigned flag, const char *details)
{
    s->flags |= flag;
    s->details = details;
    if (!chan_is_tls(s->down.chan))
        chan_tcp_reset(s->down.chan); /* the client must not take it for an orderly end */
    tcp_end(s);
}

static void tcp_denied(struct tcp *s, unsigned flag, const char *detail)
{
    s->termination = detail;
    tcp_fail(s, flag, "rbac_access_denied");
    s->termination = NULL; /* the caller's text */
}

static void tcp_recheck(struct down *d)
{
    struct tcp *s = CONTAINER_OF(d, struct tcp, down);
    char detail[GUARD_DETAIL_MAX];
    if (!guard_still(d, NULL, detail))
        tcp_denied(s, FLAG_LR, detail);
}

static void idle_timeout(struct loop_timer *t)
{
    struct tcp *s = CONTAINER_OF(t, struct tcp, timer);
    const struct prog_tcp *p = PROG_POLICY(s->host->cluster->cfg, tcp);
    if (p && p->max_duration_ms &&
        loop_now(s->down.worker->loop) - s->open_ns >= p->max_duration_ms * NS_PER_MS)
        s->details = "max_connection_duration_reached";
    tcp_end(s);
}

/* The end for want of bytes, or of the connection's life (maxConnectionDuration), what comes first. */
static void timer_set(struct tcp *s)
{
    struct worker *w = s->down.worker;
    const struct prog_tcp *t = PROG_POLICY(s->host->cluster->cfg, tcp);
    int64_t ns = w->limits->idle_timeout_ns;
    if (t && t->idle_timeout_ms)
        ns = t->idle_timeout_ms == PROG_MS_NEVER ? INT64_MAX : t->idle_timeout_ms * NS_PER_MS;
    if (t && t->max_duration_ms) {
        int64_t left = s->open_ns + t->max_duration_ms * NS_PER_MS - loop_now(w->loop);
        ns = MIN(ns, MAX(left, 0));
    }
    if (ns == INT64_MAX)
        loop_timer_clear(w->loop, &s->timer);
    else
        loop_timer_in(w->loop, &s->timer, ns, idle_timeout);
}

/* Push what is kept; true when nothing is left. */
static bool pipe_flush(struct pipe *p, struct chan *to, bool *ret_broken)
{
    while (buf_len(&p->kept)) {
        struct slice s = buf_slice(&p->kept);
        size_t n;
        enum err_code rc = chan_write(to, s.p, s.len, &n);
        if (rc == ERR_AGAIN)
            return false;
        if (rc != ERR_OK) {
            *ret_broken = true;
            return false;
        }
        buf_consume(&p->kept, n);
    }
    buf_fini(&p->kept); /* an idle direction holds no buffer */
    return true;
}

/* Move bytes in one direction as far as they go this turn. False when the relay is broken. */
static bool pipe_move(struct tcp *s, struct pipe *p, struct chan *from, struct chan *to)
{
    struct worker *w = s->down.worker;
    bool broken = false;
    if (!pipe_flush(p, to, &broken))
        return !broken;
    uint32_t budget = w->limits->turn_bytes;
    while (!p->eof) {
        size_t n, took = 0;
        enum err_code rc = chan_read(from, w->scratch, WORKER_SCRATCH, &n);
        if (rc == ERR_AGAIN)
            break;
        if (rc == ERR_EOF) {
            p->eof = true;
            break;
        }
        if (rc != ERR_OK)
            return false;
        p->bytes += n;
        rc = chan_write(to, w->scratch, n, &took);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return false;
        if (took < n) {
            buf_add(&p->kept, w->scratch + took, n - took);
            if (buf_err(&p->kept) != ERR_OK)
                return false;
            return true; /* the other side is full: it will tell */
        }
        if (n >= budget) {
            chan_resume(from); /* others' turn */
            return true;
        }
        budget -= (uint32_t)n;
    }
    if (p->eof && !p->done) {
        p->done = true;
        chan_shutdown(to);
    }
    return true;
}

static void tcp_pump(struct tcp *s)
{
    if (!pipe_move(s, &s->to_up, s->down.chan, s->up)) {
        s->flags |= s->up->failure ? FLAG_UC : FLAG_DC;
        tcp_end(s);
        return;
    }
    if (!pipe_move(s, &s->to_down, s->up, s->down.chan)) {
        s->flags |= s->down.chan->failure ? FLAG_DC : FLAG_UC;
        tcp_end(s);
        return;
    }
    if (s->to_up.done && s->to_down.done) {
        tcp_end(s);
        return;
    }
    timer_set(s);
}

static void down_event(void *user, unsigned events)
{
    struct tcp *s = user;
    if (events & CHAN_FAIL) {
        s->flags |= FLAG_DC;
        tcp_end(s);
        return;
    }
    if (s->up_open)
        tcp_pump(s);
}

static void tcp_dial(struct tcp *s);

static void connect_late(struct loop_timer *t)
{
    struct tcp *s = CONTAINER_OF(t, struct tcp, timer);
    s->failure = "connection timeout";
    up_host_result(s->host, 0, true);
    tcp_fail(s, FLAG_UF, "upstream_reset_before_response_started{connection_timeout}");
}

/* The dial failed: another host, while there are attempts left. Nothing was sent yet. */
static void dial_failed(struct tcp *s, const char *why)
{
    up_host_result(s->host, 0, true);
    s->failure = why;
    if (++s->n_tried >= 3 || s->host->cluster->n_hosts < 2) {
        tcp_fail(s, FLAG_UF, "upstream_reset_before_response_started{connection_failure}");
        return;
    }
    chan_close(s->up);
    s->up = NULL;
    struct up_host *next, *old = s->host;
    struct up_choice how = {.tried = &old, .n_tried = 1};
    how.hashed = affinity_of_peer(PROG_POLICY(old->cluster->cfg, hash), &s->down.info.peer, &how.hash);
    if (up_pick(old->cluster, &how, &next) != ERR_OK) {
        tcp_fail(s, FLAG_UF | FLAG_URX,
                 "upstream_reset_before_response_started{connection_failure}");
        return;
    }
    up_host_ref(next);
    up_host_begin(next);
    up_host_end(old);
    up_host_unref(old);
    s->host = next;
    tcp_dial(s);
}

static void up_opened(struct tcp *s)
{
    struct record r;
    s->up_open = true;
    s->open_ns = loop_now(s->down.worker->loop);
    up_host_result(s->host, 0, false);
    tcp_describe(s, &r);
    telemetry_tcp_opened(s->down.worker, &r);
    tcp_pump(s);
}

static void up_event(void *user, unsigned events)
{
    struct tcp *s = user;
    if (events & CHAN_FAIL) {
        if (!s->up_open) {
            dial_failed(s, chan_is_tls(s->up) ? tls_chan_error(s->up) : "connection refused");
            return;
        }
        s->flags |= FLAG_UC;
        tcp_end(s);
        return;
    }
    if (!s->up_open) {
        if (events & CHAN_OPEN)
            up_opened(s);
        return;
    }
    tcp_pump(s);
}

static void tcp_dial(struct tcp *s)
{
    struct err err = {0};
    struct sock_addr src;
    if (up_dial(s->host, UP_ALPN_TCP, worker_dial_source(&s->down.info, &s->host->addr, &src), &s->up, &err) < 0) {
        s->up = NULL;
        s->failure = err.code == ERR_DENIED ? "endpoint_without_mtls" : err.msg;
        tcp_fail(s, err.code == ERR_DENIED ? FLAG_UH : FLAG_UF,
                 err.code == ERR_DENIED ? s->failure : "dial_failed");
        s->failure = NULL; /* it is recorded, and the text goes */
        return;
    }
    chan_owner(s->up, up_event, s);
    uint32_t ms = s->host->cluster->cfg->pool.connect_timeout_ms;
    loop_timer_in(s->down.worker->loop, &s->timer, (ms ? ms : 10000) * NS_PER_MS, connect_late);
}

static struct match_connection connection_of(const struct down_info *info, struct slice sni)
{
    return (struct match_connection){
        .destination = address_of(&info->orig),
        .source = address_of(&info->peer),
        .sni = info->gw && info->gw->sni ? slice_str(info->gw->sni) : sni,
    };
}

bool tcp_has_route(const struct down_info *info, const struct prog_service *service,
                   struct slice sni)
{
    struct match_connection req = connection_of(info, sni);
    struct match_tcp m;
    return match_tcp(service, &req, 0, &m) == ERR_OK && m.cluster;
}

/* The cluster for a connection: the first TCP route that matches, else where the client wanted. */
static struct up_cluster *tcp_cluster(struct worker *w, const struct down_info *info,
                                      const struct prog_service *svc, struct slice sni,
                                      const char **ret_why)
{
    if (info->inbound)
        return up_cluster_app(w, info);
    if (!svc) {
        if (w->know.settings->registry_only) {
            *ret_why = "blocked_by_registry_only";
            return NULL;
        }
        if (!w->know.settings->egress_proxy)
            return up_cluster_direct(w, "PassthroughCluster", &info->orig);
        svc = know_held_service(&w->know, SL(PROG_EGRESS_KEY));
        if (!svc) {
            *ret_why = "no_egress_proxy";
            return NULL;
        }
    }
    struct match_connection req = connection_of(info, sni);
    struct match_tcp m;
    if (match_tcp(svc, &req, rnd_u32(loop_rnd(w->loop)), &m) != ERR_OK) {
        *ret_why = "no_route";
        return NULL;
    }
    const struct prog_cluster *cfg = m.cluster;
    if (cfg->problem.len) {
        *ret_why = "cluster_not_found";
        return NULL;
    }
    if (cfg->original_dst) {
        struct up_cluster *c = up_cluster_dialled(
            w, (struct prog_service *)(uintptr_t)svc, m.destination->cluster, &info->orig);
        if (!c)
            *ret_why = "no_answer_from_operator";
        return c;
    }
    return up_cluster_get(w, (struct prog_service *)(uintptr_t)svc, m.destination->cluster);
}

enum err_code tcp_pick(struct worker *w, const struct down_info *info,
                       const struct prog_service *service, struct slice sni, struct up_host **ret,
                       const char **ret_why)
{
    struct up_cluster *c = tcp_cluster(w, info, service, sni, ret_why);
    if (!c)
        return ERR_NOT_FOUND;
    struct up_host *h;
    struct up_choice how = {0};
    how.hashed = affinity_of_peer(PROG_POLICY(c->cfg, hash), &info->peer, &how.hash);
    enum err_code rc = up_pick(c, &how, &h);
    if (rc == ERR_OK && c->cfg->pool.max_connections && c->conns >= c->cfg->pool.max_connections) {
        *ret_why = "upstream_overflow";
        rc = ERR_LIMIT;
    } else if (rc == ERR_OK) {
        *ret = up_host_ref(h);
    } else {
        *ret_why = "no_healthy_upstream";
    }
    up_cluster_unref(c);
    return rc;
}

static unsigned flag_of(enum err_code rc, const char *why)
{
    if (rc == ERR_LIMIT)
        return FLAG_UO;
    return slice_is(slice_str(why), "no_healthy_upstream") ? FLAG_UH
           : slice_is(slice_str(why), "cluster_not_found") ||
                   slice_is(slice_str(why), "no_egress_proxy")
               ? FLAG_NC
                                                           : FLAG_NR;
}

static const struct down_ops calls = {.abort = tcp_abort, .recheck = tcp_recheck};

/* NULL: no ClientHello that names a server, or no memory. */
static char *sni_of(struct slice early)
{
    struct tls_hello hello;
    if (!early.len || (unsigned char)early.p[0] != 0x16 ||
        tls_hello_parse(early, &hello) != ERR_OK || !hello.sni.len)
        return NULL;
    char *p = mem_alloc(hello.sni.len + 1);
    if (p) {
        memcpy(p, hello.sni.p, hello.sni.len);
        p[hello.sni.len] = '\0';
    }
    return p;
}

void tcp_start(struct worker *w, struct chan *chan, struct down_info *info,
               struct prog_service *service, struct slice early, struct chan *up,
               struct up_host *up_host)
{
    struct tcp *s = mem_zalloc(sizeof *s);
    if (!s) {
        chan_close(up);
        chan_close(chan);
        up_host_unref(up_host);
        prog_unref(service);
        down_info_fini(info);
        return;
    }
    buf_init(&s->to_up.kept, w->limits->buffer_bytes + WORKER_SCRATCH);
    buf_init(&s->to_down.kept, w->limits->buffer_bytes + WORKER_SCRATCH);
    down_enter(&s->down, w, DOWN_TCP, chan, info);
    s->down.ops = &calls;
    s->service = service;
    chan_owner(chan, down_event, s);
    buf_add_slice(&s->to_up.kept, early);
    s->to_up.bytes = early.len;
    if (!s->down.info.inbound && !s->down.info.gw)
        s->sni = sni_of(early);

    const char *why = NULL;
    char detail[GUARD_DETAIL_MAX];
    bool tls_missing = !guard_refresh(&s->down); /* policies may have come since it was accepted */
    if (tls_missing || !guard_tcp(&s->down, detail)) {
        s->host = up_host; /* for the record; it was never used */
        if (up_host)
            up_host_begin(up_host);
        s->up = up;
        if (tls_missing)
            tcp_fail(s, FLAG_NR, "plaintext_refused_by_strict_mtls");
        else
            tcp_denied(s, 0, detail);
        return;
    }
    if (up) {
        s->host = up_host;
        up_host_begin(s->host);
        s->up = up;
        chan_owner(up, up_event, s);
        if (up->failure != ERR_OK)
            dial_failed(s, chan_is_tls(up) ? tls_chan_error(up) : "connection refused");
        else if (up->open)
            up_opened(s);
        return;
    }
    if (overload_now(&w->overload, loop_now(w->loop))) {
        telemetry_overload(w);
        tcp_fail(s, FLAG_OM, "overload_memory");
        return;
    }
    enum err_code rc = tcp_pick(w, info, service, slice_str(s->sni), &s->host, &why);
    if (rc != ERR_OK) {
        tcp_fail(s, flag_of(rc, why), why);
        return;
    }
    up_host_begin(s->host);
    tcp_dial(s);
}
