/* SPDX-License-Identifier: Apache-2.0 */
/* The application behind the proxies: answers every GET at once, so that what is measured is not
 * it.
 * `/bytes/N` is answered with N bytes, anything else with 1024. One thread, keep-alive, pipelining.
 *
 * usage: backend ADDR:PORT...     prints "ready" when it listens */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/net.h"

enum { HEAD_MAX = 8192, PIECE = 256 * 1024, ANSWER = 1024, EVENTS = 256 };

struct peer {
    int fd;
    bool listens;
    bool waits;    /* for room in the socket */
    size_t n_in;   /* bytes of requests not yet looked at */
    size_t n_out;  /* bytes of `out` still to be sent */
    size_t at;     /* where in `out` */
    uint64_t left; /* body bytes of /bytes/N after `out` */
    char in[HEAD_MAX];
    char out[256];
};

static char piece[PIECE];
static char answer[ANSWER + 256];
static size_t answer_len;

static void watch(int ep, struct peer *p, int how, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = p};
    if (epoll_ctl(ep, how, p->fd, &e) < 0)
        die("epoll_ctl");
}

static void drop(struct peer *p)
{
    close(p->fd);
    free(p);
}

/* Sends what is owed. False: the peer is gone. */
static bool push(int ep, struct peer *p)
{
    while (p->n_out || p->left) {
        const char *from = p->n_out ? p->out + p->at : piece;
        size_t want = p->n_out ? p->n_out : p->left < PIECE ? (size_t)p->left : PIECE;
        ssize_t n = send(p->fd, from, want, MSG_NOSIGNAL | (p->n_out && p->left ? MSG_MORE : 0));
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0) {
            if (!p->waits)
                watch(ep, p, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            p->waits = true;
            return true;
        }
        if (p->n_out) {
            p->at += (size_t)n;
            p->n_out -= (size_t)n;
        } else {
            p->left -= (size_t)n;
        }
    }
    if (p->waits)
        watch(ep, p, EPOLL_CTL_MOD, EPOLLIN);
    p->waits = false;
    return true;
}

/* One request whose head is `n` bytes at `head`. */
static bool reply(int ep, struct peer *p, const char *head, size_t n)
{
    static const char bulk[] = "GET /bytes/";
    if (n > sizeof bulk && memcmp(head, bulk, sizeof bulk - 1) == 0) {
        p->left = strtoull(head + sizeof bulk - 1, NULL, 10);
        p->n_out = (size_t)snprintf(p->out, sizeof p->out,
                                    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                                    "Content-Length: %llu\r\n\r\n",
                                    (unsigned long long)p->left);
        p->at = 0;
        return push(ep, p);
    }
    /* An answer of a kilobyte always fits the socket: the client has read the one before. */
    return send(p->fd, answer, answer_len, MSG_NOSIGNAL) == (ssize_t)answer_len;
}

static bool pull(int ep, struct peer *p)
{
    if (p->left || p->n_out) {
        if (!push(ep, p))
            return false;
        if (p->left || p->n_out)
            return true;
    }
    ssize_t n = recv(p->fd, p->in + p->n_in, sizeof p->in - 1 - p->n_in, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    p->n_in += (size_t)n;
    p->in[p->n_in] = '\0';
    char *head = p->in, *end;
    while (!p->left && (end = strstr(head, "\r\n\r\n"))) {
        if (!reply(ep, p, head, (size_t)(end + 4 - head)))
            return false;
        head = end + 4;
    }
    p->n_in -= (size_t)(head - p->in);
    memmove(p->in, head, p->n_in);
    return p->n_in < sizeof p->in - 1;
}

static void take(int ep, const struct peer *listener)
{
    int one = 1, fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct peer *p = calloc(1, sizeof *p);
        if (!p)
            die("calloc");
        p->fd = fd;
        watch(ep, p, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    static struct epoll_event got[EVENTS];
    int ep = epoll_create1(EPOLL_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || ep < 0) {
        fprintf(stderr, "usage: backend ADDR:PORT...\n");
        return 2;
    }
    memset(piece, 'x', sizeof piece);
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
                     ANSWER);
    memset(answer + n, 'x', ANSWER);
    answer_len = (size_t)n + ANSWER;
    for (int i = 1; i < argc; i++) {
        struct sockaddr_in at = net_addr(argv[i]);
        struct peer *p = calloc(1, sizeof *p);
        int one = 1;
        if (!p)
            die("calloc");
        p->listens = true;
        p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(p->fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(p->fd, 4096) < 0)
            die(argv[i]);
        watch(ep, p, EPOLL_CTL_ADD, EPOLLIN);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int k = epoll_wait(ep, got, EVENTS, -1);
        for (int i = 0; i < k; i++) {
            struct peer *p = got[i].data.ptr;
            if (p->listens)
                take(ep, p);
            else if (!pull(ep, p))
                drop(p);
        }
    }
}
