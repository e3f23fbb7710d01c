/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/serve.h"

#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/tls/tls.h"
#include "lib/tls/x509.h"
#include "operator/signer_identity.h"

#define CERT_LIFE_S (INT64_C(24) * 3600)
#define HANDSHAKE_NS (10 * NS_PER_S)
#define RETRY_NS (2 * NS_PER_S)
enum { ACCEPTS_PER_TURN = 32, CONNECTIONS = 20000 };

struct peer { /* one connection */
    struct serve *serve;
    struct peer *next, **pprev;
    struct chan *chan; /* until HTTP/2 took it */
    struct grpc_conn *conn;
    struct loop_timer timer;
    struct loop_task gone;
};
struct serve {
    struct loop *loop;
    struct serve_opts opts;
    int fd;
    struct loop_io io;
    struct loop_timer renew, pause;
    struct tls_ctx *tls;
    struct signer_identity *asking;
    bool draining;
    struct peer *peers;
    struct serve_stats stats;
};

static void acceptable(struct loop_io *io, unsigned events);

static void peer_freed(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct peer, gone));
}

static void peer_end(struct peer *p)
{
    struct serve *s = p->serve;
    if (!p->pprev)
        return;
    loop_timer_clear(s->loop, &p->timer);
    chan_close(p->chan);
    p->chan = NULL;
    *p->pprev = p->next;
    if (p->next)
        p->next->pprev = p->pprev;
    p->pprev = NULL;
    s->stats.connections--;
    loop_task_add(s->loop, &p->gone, peer_freed);
}

static void on_call(struct grpc_conn *c, struct grpc_stream *stream, struct slice path)
{
    struct peer *p = grpc_conn_user(c);
    if (slice_is(path, PUSH_PATH))
        push_open(p->serve->opts.push, stream, tls_chan_peer_spiffe(grpc_conn_chan(c)),
                  tls_chan_peer_not_after_ns(grpc_conn_chan(c)),
                  tls_chan_peer_issuer(grpc_conn_chan(c)));
    else if (slice_is(path, REPLICAS_PATH) && p->serve->opts.replicas)
        replicas_open(p->serve->opts.replicas, stream,
                      tls_chan_peer_spiffe(grpc_conn_chan(c)));
    else if (slice_is(path, CA_PATH))
        ca_call(p->serve->opts.ca, stream);
    else
        grpc_fail(stream, GRPC_UNIMPLEMENTED, "no such method");
}

static void on_close(struct grpc_conn *c, const struct err *why)
{
    struct peer *p = grpc_conn_user(c);
    (void)why;
    p->conn = NULL;
    peer_end(p);
}

static const struct grpc_conn_ops conn_ops = {.on_call = on_call, .on_close = on_close};

static void handshake_late(struct loop_timer *t)
{
    struct peer *p = CONTAINER_OF(t, struct peer, timer);
    p->serve->stats.failed++;
    peer_end(p);
}

static void handshake(void *user, unsigned events)
{
    struct peer *p = user;
    struct serve *s = p->serve;
    struct err err = {0};
    if (events & CHAN_FAIL) {
        s->stats.failed++;
        LOG(DEBUG, "Handshake failed", "reason=%s", tls_chan_error(p->chan));
        peer_end(p);
        return;
    }
    if (!(events & CHAN_OPEN))
        return;
    loop_timer_clear(s->loop, &p->timer);
    struct chan *chan = TAKE(p->chan);
    struct grpc_limits limits = {.max_streams = 16,
                                 .max_message = 8u << 20,
                                 .keepalive_ns = 30 * NS_PER_S};
    if (grpc_server(chan, &limits, &conn_ops, p, &p->conn, &err) < 0) {
        s->stats.failed++;
        peer_end(p);
    }
}

static void peer_new(struct serve *s, int fd)
{
    struct peer *p = mem_zalloc(sizeof *p);
    struct chan *tcp;
    struct err err = {0};
    struct tls_conn_opts o = {0};
    if (!p) {
        close(fd);
        return;
    }
    if (chan_tcp(s->loop, fd, true, &tcp, &err) < 0 ||
        tls_chan_server(s->tls, tcp, &o, SLICE_NULL, &p->chan, &err) < 0) {
        mem_free(p);
        s->stats.failed++;
        return;
    }
    p->serve = s;
    p->next = s->peers;
    p->pprev = &s->peers;
    if (s->peers)
        s->peers->pprev = &p->next;
    s->peers = p;
    s->stats.connections++;
    s->stats.accepted++;
    chan_owner(p->chan, handshake, p);
    loop_timer_in(s->loop, &p->timer, HANDSHAKE_NS, handshake_late);
}

static void listen_again(struct loop_timer *t)
{
    struct serve *s = CONTAINER_OF(t, struct serve, pause);
    struct err err = {0};
    if (s->tls && !s->draining)
        loop_io_level(s->loop, &s->io, s->fd, LOOP_READ, acceptable, &err);
}

static void acceptable(struct loop_io *io, unsigned events)
{
    struct serve *s = CONTAINER_OF(io, struct serve, io);
    unsigned most = s->opts.max_connections ? s->opts.max_connections : CONNECTIONS;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sock_addr from;
        int fd;
        enum err_code rc = sock_accept(s->fd, &fd, &from);
        if (rc == ERR_AGAIN)
            return;
        if (rc != ERR_OK) {
            loop_io_del(s->loop, &s->io); /* descriptors ran out: breathe */
            loop_timer_in(s->loop, &s->pause, NS_PER_S / 2, listen_again);
            return;
        }
        if (s->stats.connections >= most) {
            s->stats.refused++;
            close(fd);
            continue;
        }
        peer_new(s, fd);
    }
}

/* --- the server's own certificate ------------------------------------------------------------------------ */

static void renew_due(struct loop_timer *t)
{
    serve_renew(CONTAINER_OF(t, struct serve, renew));
}

static void certified(void *user, struct slice chain, struct slice key, const struct err *why)
{
    static const char *const alpn[] = {"h2", NULL};
    struct serve *s = user;
    struct x509_cert_info info;
    struct tls_ctx *tls = NULL;
    struct err err = {0};

    s->asking = NULL;
    struct tls_ctx_opts o = {
        .server = true,
        .identity = {chain, key},
        .roots_pem = slice_str(signer_state(s->opts.signer).roots_pem),
        .verify_peer = true,
        .peer_optional = true,
        .alpn = alpn,
    };
    if (why)
        err = *why;
    if (why || x509_cert_info(chain, &info, &err) < 0 || tls_ctx_new(&o, &tls, &err) < 0) {
        LOG(WARN, "Server certificate could not be had; asking again", "reason=%s", err.msg);
        loop_timer_in(s->loop, &s->renew, RETRY_NS, renew_due);
        return;
    }
    tls_ctx_unref(s->tls);
    s->tls = tls;
    s->stats.not_after_ns = info.not_after_ns;
    int64_t half = MAX((info.not_after_ns - loop_wall(s->loop)) / 2, 10 * NS_PER_S);
    loop_timer_in(s->loop, &s->renew, half, renew_due);
    LOG(INFO, "Server certificate in force", "names=%s port=%d", s->opts.names[0], s->stats.port);
    listen_again(&s->pause);
}

void serve_renew(struct serve *s)
{
    struct signer_ask ask = {.dns = s->opts.names, .life_s = CERT_LIFE_S};
    struct err err = {0};
    if (s->draining)
        return;
    signer_identity_cancel(s->asking); /* it may be of the CA from before */
    s->asking = NULL;
    if (signer_identity_ask(s->opts.signer, &ask, certified, s, &s->asking, &err) < 0)
        loop_timer_in(s->loop, &s->renew, RETRY_NS, renew_due);
}

/* --- life --------------------------------------------------------------------------------------------------- */

int serve_new(struct loop *loop, const struct serve_opts *opts, struct serve **ret, struct err *err)
{
    struct serve *s = mem_zalloc(sizeof *s);
    struct sock_addr local;
    if (!s)
        return err_set(err, ERR_NOMEM, "listener");
    s->loop = loop;
    s->opts = *opts;
    s->io.fd = -1;
    s->fd = sock_listen(&opts->addr, false, 1024, err);
    if (s->fd < 0) {
        mem_free(s);
        return -1;
    }
    if (sock_local(s->fd, &local) == 0)
        s->stats.port = sock_addr_port(&local);
    *ret = s;
    return 0;
}

void serve_drain(struct serve *s)
{
    s->draining = true;
    loop_io_del(s->loop, &s->io);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    for (struct peer *p = s->peers; p; p = p->next)
        if (p->conn)
            grpc_conn_drain(p->conn);
}

void serve_free(struct serve *s)
{
    if (!s)
        return;
    serve_drain(s);
    for (struct peer *p = s->peers, *next; p; p = next) {
        next = p->next;
        if (p->conn)
            grpc_conn_close(p->conn); /* no callback follows; the loop below takes its peer */
        else
            peer_end(p);
    }
    for (struct peer *p = s->peers, *next; p; p = next) {
        next = p->next;
        peer_end(p);
    }
    loop_timer_clear(s->loop, &s->renew);
    loop_timer_clear(s->loop, &s->pause);
    signer_identity_cancel(s->asking);
    tls_ctx_unref(s->tls);
    mem_free(s);
}

struct serve_stats serve_stats(const struct serve *s)
{
    return s->stats;
}
