/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/io/chan.h"

/* clang-format off */
enum {
    TCP_CONNECTING = 1,
    TCP_READABLE   = 2,   /* recv may give something */
    TCP_WRITABLE   = 4,
    TCP_HUP        = 8,   /* EOF or an error waits behind the bytes: a short read is not the end */
    TCP_EOF        = 16,
    TCP_SHUT       = 32,  /* our side ended */
    TCP_RESUME     = 64,  /* owner asked to be called; */
    TCP_RESUME_DUE = 128, /* the turn it asked in is over */
    TCP_UNREAD     = 256, /* a write failed: what the peer said before is still to be read */
};
/* clang-format on */

struct tcp {
    struct chan c;
    struct loop_io io;
    struct loop_task task; /* resume while open, free once closed */
    unsigned flags;
};

static struct tcp *tcp_of(struct chan *c)
{
    return CONTAINER_OF(c, struct tcp, c);
}

static enum err_code tcp_fail(struct tcp *t, int errnum)
{
    t->c.os_errno = errnum;
    t->c.failure = chan_errno_code(errnum);
    return t->c.failure;
}

static void tcp_tell(struct tcp *t, unsigned events)
{
    if (t->c.cb && events)
        t->c.cb(t->c.user, events);
}

static enum err_code tcp_read(struct chan *c, void *p, size_t cap, size_t *ret_n)
{
    struct tcp *t = tcp_of(c);
    ssize_t n;

    assert(cap > 0);
    if (c->failure && !(t->flags & TCP_UNREAD))
        return c->failure;
    if (t->flags & TCP_EOF)
        return ERR_EOF;
    if (!(t->flags & TCP_READABLE))
        return ERR_AGAIN;
    do
        n = recv(t->io.fd, p, cap, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        /* The socket is empty: new bytes make a new edge. */
        if ((size_t)n < cap && !(t->flags & TCP_HUP))
            t->flags &= ~(unsigned)TCP_READABLE;
        c->bytes_in += (uint64_t)n;
        *ret_n = (size_t)n;
        return ERR_OK;
    }
    if (t->flags & TCP_UNREAD) {
        t->flags &= ~(unsigned)TCP_UNREAD;
        return c->failure;
    }
    if (n == 0) {
        t->flags |= TCP_EOF;
        return ERR_EOF;
    }
    if (errno == EAGAIN) {
        t->flags &= ~(unsigned)TCP_READABLE;
        return ERR_AGAIN;
    }
    return tcp_fail(t, errno);
}

static enum err_code tcp_writev(struct chan *c, const struct iovec *iov, int n_iov, size_t *ret_n)
{
    struct tcp *t = tcp_of(c);
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                         .msg_iovlen = (size_t)MIN(n_iov, IOV_MAX)};
    size_t want = 0;
    ssize_t n;

    if (c->failure)
        return c->failure;
    if (t->flags & TCP_SHUT)
        return ERR_CLOSED;
    if (!(t->flags & TCP_WRITABLE))
        return ERR_AGAIN;
    for (size_t i = 0; i < msg.msg_iovlen; i++)
        want += iov[i].iov_len;
    do
        n = sendmsg(t->io.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        t->flags &= ~(unsigned)TCP_WRITABLE;
        return ERR_AGAIN;
    }
    if (n < 0) {
        if (!(t->flags & TCP_EOF))
            t->flags |= TCP_UNREAD | TCP_READABLE | TCP_HUP;
        return tcp_fail(t, errno);
    }
    if ((size_t)n < want)
        t->flags &= ~(unsigned)TCP_WRITABLE;
    c->bytes_out += (uint64_t)n;
    *ret_n = (size_t)n;
    return ERR_OK;
}

static void tcp_shutdown(struct chan *c)
{
    struct tcp *t = tcp_of(c);

    if (t->flags & TCP_SHUT || c->failure)
        return;
    t->flags |= TCP_SHUT;
    if (!(t->flags & TCP_CONNECTING)) /* else when it is connected */
        shutdown(t->io.fd, SHUT_WR);
}

static void tcp_reset(struct chan *c)
{
    struct tcp *t = tcp_of(c);
    struct linger l = {.l_onoff = 1, .l_linger = 0};

    if (t->io.fd >= 0)
        setsockopt(t->io.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

static void tcp_free(struct loop_task *task)
{
    mem_free(CONTAINER_OF(task, struct tcp, task));
}

static void tcp_close(struct chan *c)
{
    struct tcp *t = tcp_of(c);
    int fd = t->io.fd;

    if (fd < 0)
        return;
    loop_io_forget(c->loop, &t->io);
    close(fd);
    c->cb = NULL;
    c->failure = ERR_CLOSED;
    t->flags = TCP_SHUT;
    loop_task_add(c->loop, &t->task, tcp_free);
}

static int tcp_fd(const struct chan *c)
{
    return CONTAINER_OF(c, const struct tcp, c)->io.fd;
}

static void tcp_resumed(struct loop_task *task)
{
    struct tcp *t = CONTAINER_OF(task, struct tcp, task);

    if (!(t->flags & TCP_RESUME_DUE)) {
        t->flags |= TCP_RESUME_DUE;
        loop_task_add(t->c.loop, &t->task, tcp_resumed);
        return;
    }
    t->flags &= ~(unsigned)(TCP_RESUME | TCP_RESUME_DUE);
    tcp_tell(t, CHAN_READ | CHAN_WRITE);
}

static void tcp_resume(struct chan *c)
{
    struct tcp *t = tcp_of(c);

    if (t->flags & TCP_RESUME || t->io.fd < 0)
        return;
    t->flags |= TCP_RESUME;
    loop_task_add(c->loop, &t->task, tcp_resumed);
}

/* The attempt ended: what it came to, as events. */
static unsigned tcp_connected(struct tcp *t)
{
    int errnum = sock_error(t->io.fd);

    t->flags &= ~(unsigned)TCP_CONNECTING;
    if (errnum) {
        tcp_fail(t, errnum);
        return CHAN_FAIL;
    }
    t->c.open = true;
    t->flags |= TCP_WRITABLE;
    if (t->flags & TCP_SHUT)
        shutdown(t->io.fd, SHUT_WR);
    return CHAN_OPEN | CHAN_WRITE;
}

static void tcp_ready(struct loop_io *io, unsigned events)
{
    struct tcp *t = CONTAINER_OF(io, struct tcp, io);
    unsigned tell = 0;

    if (t->c.failure)
        return;
    if (t->flags & TCP_CONNECTING) {
        if (!(events & (LOOP_WRITE | LOOP_HUP | LOOP_ERROR)))
            return;
        tell = tcp_connected(t);
        if (t->c.failure) {
            tcp_tell(t, tell);
            return;
        }
    }
    if (events & (LOOP_HUP | LOOP_ERROR)) {
        /* Bytes that came before a reset can still be read; recv gives the error behind them. */
        t->flags |= TCP_HUP | TCP_READABLE;
        tell |= CHAN_READ;
    }
    if (events & LOOP_READ) {
        t->flags |= TCP_READABLE;
        tell |= CHAN_READ;
    }
    if (events & (LOOP_WRITE | LOOP_ERROR)) {
        /* An event of a newly arrived byte repeats "writable": the owner hears only of a change. */
        if (!(t->flags & TCP_WRITABLE) || events & LOOP_ERROR)
            tell |= CHAN_WRITE;
        t->flags |= TCP_WRITABLE;
    }
    tcp_tell(t, tell);
}

static const struct chan_ops tcp_ops = {
    .name = "tcp",
    .read = tcp_read,
    .writev = tcp_writev,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .fd = tcp_fd,
    .resume = tcp_resume,
    .reset = tcp_reset,
};

int chan_tcp(struct loop *loop, int fd, bool connected, struct chan **ret, struct err *err)
{
    struct tcp *t = mem_zalloc(sizeof *t);

    if (!t) {
        close(fd);
        return err_set(err, ERR_NOMEM, "channel");
    }
    t->c.ops = &tcp_ops;
    t->c.loop = loop;
    t->c.open = connected;
    t->io.fd = -1;
    /* An accepted connection often has its first bytes already: the owner may read without waiting.
     */
    t->flags = connected ? TCP_READABLE | TCP_WRITABLE : TCP_CONNECTING;
    if (loop_io_add(loop, &t->io, fd, LOOP_READ | LOOP_WRITE, tcp_ready, err) < 0) {
        close(fd);
        mem_free(t);
        return -1;
    }
    *ret = &t->c;
    return 0;
}
