/* SPDX-License-Identifier: Apache-2.0 */
/* The floor: carries bytes between TCP and mutual TLS 1.3 and does nothing else, no HTTP, no
 * policy, no log. A proxy that costs less than this has found a better shape, one that costs more
 * pays for what it does. One thread, one upstream connection for each downstream one, the fewest
 * system calls that the shape allows.
 *
 * usage: relay client|server CERT KEY CA LISTEN=TO...
 *   client   TCP in, TLS out;  server: TLS in, TCP out */
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/net.h"

enum { PIECE = 16384, EVENTS = 256 };

struct pair;
struct end {
    struct pair *pair;
    struct end *other;
    int fd;
    SSL *ssl;
    bool connecting, shaking;
    uint32_t watched;
    size_t n; /* what is still to be written here, in `out` */
    char *out;
};
struct pair {
    struct end in, up;
    bool dead;
    struct pair *next_dead;
};
struct listener {
    struct end end; /* of no pair: that tells it from the others in an event */
    struct sockaddr_in to;
};

static int ep;
static bool tls_in;
static SSL_CTX *ctx;
static struct pair *dead;
static char piece[PIECE];

static void bury(struct pair *p)
{
    if (!p->dead) {
        p->dead = true;
        p->next_dead = dead;
        dead = p;
    }
}

static void end_free(struct end *e)
{
    SSL_free(e->ssl);
    close(e->fd);
    free(e->out);
}

static void watch(struct end *e)
{
    bool wait_out = e->connecting || e->n > 0;
    bool wait_in = !e->connecting &&
                   (e->shaking || (!e->other->n && !e->other->shaking && !e->other->connecting));
    uint32_t want = (wait_in ? EPOLLIN : 0) | (wait_out ? EPOLLOUT : 0);
    if (want == e->watched)
        return;
    struct epoll_event ev = {.events = want, .data.ptr = e};
    if (epoll_ctl(ep, EPOLL_CTL_MOD, e->fd, &ev) < 0)
        die("epoll_ctl");
    e->watched = want;
}

static ssize_t put(struct end *e, const char *p, size_t n)
{
    if (!e->ssl) {
        ssize_t k = send(e->fd, p, n, MSG_NOSIGNAL);
        return k < 0 && errno == EAGAIN ? 0 : k;
    }
    int k = SSL_write(e->ssl, p, (int)n);
    return k > 0 ? k : SSL_get_error(e->ssl, k) == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* What is left of a piece waits in memory of its own, which an idle end does not hold. */
static bool put_all(struct end *e, const char *p, size_t n)
{
    while (n) {
        ssize_t k = put(e, p, n);
        if (k < 0)
            return false;
        if (k == 0) {
            if (!e->out && !(e->out = malloc(PIECE)))
                die("malloc");
            memmove(e->out, p, n);
            e->n = n;
            return true;
        }
        p += k;
        n -= (size_t)k;
    }
    e->n = 0;
    free(e->out);
    e->out = NULL;
    return true;
}

static bool shake(struct end *e)
{
    int k = SSL_do_handshake(e->ssl);
    if (k == 1) {
        e->shaking = false;
        return true;
    }
    int why = SSL_get_error(e->ssl, k);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
}

/* Level-triggered: what a short read leaves comes again, so that no second read has to ask. */
static bool pull(struct end *e)
{
    struct end *to = e->other;
    do {
        ssize_t n;
        if (e->ssl) {
            n = SSL_read(e->ssl, piece, sizeof piece);
            if (n <= 0)
                return SSL_get_error(e->ssl, (int)n) == SSL_ERROR_WANT_READ;
        } else {
            n = recv(e->fd, piece, sizeof piece, 0);
            if (n <= 0)
                return n < 0 && errno == EAGAIN;
        }
        if (!put_all(to, piece, (size_t)n))
            return false;
    } while (!to->n && e->ssl && SSL_has_pending(e->ssl));
    return true;
}

static bool step(struct end *e, uint32_t got)
{
    if (e->connecting) {
        int problem = 0;
        socklen_t n = sizeof problem;
        getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &problem, &n);
        if (problem)
            return false;
        e->connecting = false;
        if (e->shaking && !shake(e))
            return false;
    } else if (e->shaking) {
        if (!shake(e))
            return false;
    }
    if (e->connecting || e->shaking)
        return true;
    if ((got & EPOLLOUT) && e->n && !put_all(e, e->out, e->n))
        return false;
    bool can_read = !e->other->n && !e->other->shaking && !e->other->connecting;
    if (!can_read)
        return !(got & (EPOLLHUP | EPOLLERR));
    return !(got & (EPOLLIN | EPOLLHUP | EPOLLERR)) || pull(e);
}

static void add(struct end *e, bool tls, bool server)
{
    int one = 1;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = e};
    setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    e->watched = EPOLLIN;
    if (tls) {
        e->ssl = SSL_new(ctx);
        SSL_set_fd(e->ssl, e->fd);
        if (server)
            SSL_set_accept_state(e->ssl);
        else
            SSL_set_connect_state(e->ssl);
        e->shaking = true;
    }
    if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &ev) < 0)
        die("epoll_ctl");
}

static void take(const struct listener *l)
{
    int fd;
    while ((fd = accept4(l->end.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct pair *p = calloc(1, sizeof *p);
        if (!p)
            die("calloc");
        p->in = (struct end){.pair = p, .other = &p->up, .fd = fd};
        p->up = (struct end){.pair = p, .other = &p->in, .connecting = true};
        p->up.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (p->up.fd < 0)
            die("socket");
        add(&p->in, tls_in, true);
        add(&p->up, !tls_in, false);
        if (connect(p->up.fd, (const struct sockaddr *)&l->to, sizeof l->to) < 0 &&
            errno != EINPROGRESS)
            bury(p);
        watch(&p->in);
        watch(&p->up);
    }
}

static void make_tls(const char *cert, const char *key, const char *ca)
{
    ctx = SSL_CTX_new(TLS_method());
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1 ||
        SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"relay", 5) != 1) {
        fprintf(stderr, "relay: certificate, key or CA cannot be used\n");
        exit(1);
    }
}

static void listen_at(char *text)
{
    char *to = strchr(text, '=');
    struct listener *l = calloc(1, sizeof *l);
    int one = 1;
    if (!to || !l) {
        fprintf(stderr, "relay: %s: not ADDR:PORT=ADDR:PORT\n", text);
        exit(2);
    }
    *to = '\0';
    struct sockaddr_in at = net_addr(text);
    l->to = net_addr(to + 1);
    l->end.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(l->end.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &l->end};
    if (bind(l->end.fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(l->end.fd, 4096) < 0 ||
        epoll_ctl(ep, EPOLL_CTL_ADD, l->end.fd, &ev) < 0)
        die(text);
}

int main(int argc, char **argv)
{
    static struct epoll_event got[EVENTS];
    if (argc < 6 || (strcmp(argv[1], "client") != 0 && strcmp(argv[1], "server") != 0)) {
        fprintf(stderr, "usage: relay client|server CERT KEY CA LISTEN=TO...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    ep = epoll_create1(EPOLL_CLOEXEC);
    tls_in = strcmp(argv[1], "server") == 0;
    make_tls(argv[2], argv[3], argv[4]);
    for (int i = 5; i < argc; i++)
        listen_at(argv[i]);
    for (;;) {
        int n = epoll_wait(ep, got, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct end *e = got[i].data.ptr;
            if (!e->pair) {
                take((struct listener *)e);
            } else if (!e->pair->dead) {
                if (!step(e, got[i].events)) {
                    bury(e->pair);
                } else {
                    watch(e);
                    watch(e->other);
                }
            }
        }
        while (dead) {
            struct pair *p = dead;
            dead = p->next_dead;
            end_free(&p->in);
            end_free(&p->up);
            free(p);
        }
    }
}
