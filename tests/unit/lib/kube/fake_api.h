/* SPDX-License-Identifier: Apache-2.0 */
/* A scripted HTTP/1.1 server on the test's own loop: each request takes the next step of the
 * script. It knows nothing of Kubernetes; what the client asks for is asserted, what it gets is
 * written out in the test. The real API server's behaviour is the matter of tests/integration. */
#pragma once

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/io/loop.h"
#include "lib/io/sock.h"

struct fake_step {
    const char *want;    /* the request must hold these texts, separated by '\n' */
    int status;          /* 0: close the connection without an answer; -1: never answer */
    const char *headers; /* further header lines, each with CRLF */
    const char *body;
    bool hold; /* chunked, and not ended: fake_push and fake_end go on */
};

enum { FAKE_CONNS = 16, FAKE_REQS = 64 };
struct fake_conn {
    struct loop_io io;
    struct fake_api *api;
    struct buf in;
};
struct fake_api {
    struct loop *loop;
    struct loop_io listener;
    char url[64];
    const struct fake_step *steps;
    size_t n_steps, at;
    char *seen[FAKE_REQS];
    size_t n_seen, mismatches;
    struct fake_conn conns[FAKE_CONNS];
    struct fake_conn *held; /* the connection of the last held step */
};

static inline void fake_send(struct fake_conn *c, const char *p, size_t n)
{
    while (n && c->io.fd >= 0) {
        ssize_t w = write(c->io.fd, p, n);
        if (w < 0)
            break;
        p += w;
        n -= (size_t)w;
    }
}

static inline void fake_close(struct fake_conn *c)
{
    int fd = c->io.fd;
    if (fd < 0)
        return;
    loop_io_del(c->api->loop, &c->io);
    close(fd);
    c->io.fd = -1;
    buf_fini(&c->in);
}

static inline void fake_chunk(struct fake_conn *c, const char *text)
{
    char head[32];
    if (!*text)
        return;
    snprintf(head, sizeof head, "%zx\r\n", strlen(text));
    fake_send(c, head, strlen(head));
    fake_send(c, text, strlen(text));
    fake_send(c, "\r\n", 2);
}

/* More of the held answer; its end. */
static inline void fake_push(struct fake_api *a, const char *text)
{
    fake_chunk(a->held, text);
}
static inline void fake_end(struct fake_api *a)
{
    fake_send(a->held, "0\r\n\r\n", 5);
}

static inline void fake_answer(struct fake_conn *c, const char *request)
{
    struct fake_api *a = c->api;
    if (a->n_seen < FAKE_REQS)
        a->seen[a->n_seen++] = mem_strdup(request);
    if (a->at >= a->n_steps) {
        fprintf(stderr, "unexpected request:\n%s\n", request);
        a->mismatches++;
        fake_close(c);
        return;
    }
    const struct fake_step *s = &a->steps[a->at++];
    struct slice rest = slice_str(s->want), one;
    while (slice_next(&rest, '\n', &one)) {
        if (slice_find(slice_str(request), one) >= 0)
            continue;
        fprintf(stderr, "step %zu: no '%.*s' in\n%s\n", a->at - 1, SL_FMT(one), request);
        a->mismatches++;
    }
    char head[512];
    const char *body = s->body ? s->body : "";
    if (s->status == 0) {
        fake_close(c);
        return;
    }
    if (s->status < 0)
        return;
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%s",
                     s->status, s->headers ? s->headers : "");
    fake_send(c, head, (size_t)n);
    if (s->hold) {
        a->held = c;
        fake_send(c, "Transfer-Encoding: chunked\r\n\r\n", 30);
        fake_chunk(c, body);
        return;
    }
    n = snprintf(head, sizeof head, "Content-Length: %zu\r\n\r\n", strlen(body));
    fake_send(c, head, (size_t)n);
    fake_send(c, body, strlen(body));
}

static inline void fake_read(struct loop_io *io, unsigned events)
{
    struct fake_conn *c = CONTAINER_OF(io, struct fake_conn, io);
    char piece[65536];
    (void)events;
    ssize_t n = read(io->fd, piece, sizeof piece);
    if (n <= 0) {
        fake_close(c);
        return;
    }
    buf_add(&c->in, piece, (size_t)n);
    while (c->io.fd >= 0) {
        struct slice all = buf_slice(&c->in);
        ptrdiff_t end = slice_find(all, SL("\r\n\r\n"));
        if (end < 0)
            return;
        uint64_t length = 0;
        ptrdiff_t at = slice_find(slice_head(all, (size_t)end + 2), SL("Content-Length: "));
        if (at >= 0) {
            struct slice v = slice_skip(all, (size_t)at + 16);
            slice_u64(slice_head(v, (size_t)slice_chr(v, '\r')), 1 << 20, &length);
        }
        size_t whole = (size_t)end + 4 + length;
        if (all.len < whole)
            return;
        char *request = mem_strndup(all.p, whole);
        buf_consume(&c->in, whole);
        fake_answer(c, request);
        mem_free(request);
    }
}

static inline void fake_accept(struct loop_io *io, unsigned events)
{
    struct fake_api *a = CONTAINER_OF(io, struct fake_api, listener);
    struct sock_addr peer;
    int fd;
    (void)events;
    if (sock_accept(io->fd, &fd, &peer) != ERR_OK)
        return;
    for (size_t i = 0; i < FAKE_CONNS; i++) {
        struct fake_conn *c = &a->conns[i];
        if (c->io.fd >= 0)
            continue;
        c->api = a;
        buf_init(&c->in, 1 << 20);
        loop_io_level(a->loop, &c->io, fd, LOOP_READ, fake_read, NULL);
        return;
    }
    close(fd);
}

static inline void fake_start(struct fake_api *a, struct loop *loop, const struct fake_step *steps,
                              size_t n)
{
    struct sock_addr addr;
    struct err err = {0};
    memset(a, 0, sizeof *a);
    a->loop = loop;
    a->steps = steps;
    a->n_steps = n;
    for (size_t i = 0; i < FAKE_CONNS; i++)
        a->conns[i].io.fd = -1;
    sock_addr_parse(SL("127.0.0.1"), 0, &addr);
    int fd = sock_listen(&addr, false, 16, &err);
    ck_assert_msg(fd >= 0, "%s", err.msg);
    sock_local(fd, &addr);
    snprintf(a->url, sizeof a->url, "http://127.0.0.1:%d", sock_addr_port(&addr));
    a->listener.fd = -1;
    ck_assert_int_eq(loop_io_level(loop, &a->listener, fd, LOOP_READ, fake_accept, &err), 0);
}

static inline void fake_stop(struct fake_api *a)
{
    int fd = a->listener.fd;
    loop_io_del(a->loop, &a->listener);
    close(fd);
    for (size_t i = 0; i < FAKE_CONNS; i++)
        fake_close(&a->conns[i]);
    for (size_t i = 0; i < a->n_seen; i++)
        mem_free(a->seen[i]);
}

/* Turn the loop until `what` holds, at most five seconds. */
#define TURN_UNTIL(loop, what)                                                                     \
    do {                                                                                           \
        int64_t turn_end_ = clock_now(loop_clock(loop)) + 5 * NS_PER_S;                            \
        while (!(what) && clock_now(loop_clock(loop)) < turn_end_)                                 \
            loop_turn(loop, 20, NULL);                                                             \
        ck_assert_msg((what), "waited in vain for: %s", #what);                                    \
    } while (0)
