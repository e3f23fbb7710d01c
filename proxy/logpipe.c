/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/logpipe.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

/* A pipe that polls writable takes PIPE_BUF bytes whole and without blocking (POSIX write, pipe(7)). */
enum { PIECE = PIPE_BUF, LINES_MAX = 256 * 1024, GATHER_MS = 50 };

void logpipe_init(struct logpipe *p, struct loop *loop, int fd)
{
    *p = (struct logpipe){.loop = loop, .fd = fd};
    buf_init(&p->lines, LINES_MAX);
}

/* Whole lines that fit one piece; a longer line goes in pieces of its own. */
static size_t piece_len(struct slice s)
{
    if (s.len <= PIECE)
        return s.len;
    ptrdiff_t nl = slice_rchr(slice_head(s, PIECE), '\n');
    return nl >= 0 ? (size_t)nl + 1 : PIECE;
}

/* The reader is gone, the disk is full: what waits is lost, and counted. */
static void lose(struct logpipe *p)
{
    struct slice s = buf_slice(&p->lines);
    for (ptrdiff_t nl; (nl = slice_chr(s, '\n')) >= 0; s = slice_skip(s, (size_t)nl + 1))
        p->dropped++;
    buf_reset(&p->lines);
}

static void flush(struct logpipe *p)
{
    while (buf_len(&p->lines)) {
        struct pollfd f = {.fd = p->fd, .events = POLLOUT};
        if (poll(&f, 1, 0) != 1)
            return;
        if (!(f.revents & POLLOUT)) {
            lose(p);
            return;
        }
        struct slice s = buf_slice(&p->lines);
        ssize_t n = write(p->fd, s.p, piece_len(s));
        if (n <= 0) {
            if (n < 0 && errno != EINTR && errno != EAGAIN)
                lose(p);
            return;
        }
        buf_consume(&p->lines, (size_t)n);
    }
    buf_fini(&p->lines);
}

static void flush_timer(struct loop_timer *t)
{
    struct logpipe *p = CONTAINER_OF(t, struct logpipe, timer);
    flush(p);
    if (buf_len(&p->lines))
        loop_timer_in(p->loop, &p->timer, GATHER_MS * NS_PER_MS, flush_timer);
}

struct buf *logpipe_begin(struct logpipe *p)
{
    if (p->fd < 0)
        return NULL;
    if (buf_len(&p->lines) > LINES_MAX - 16 * 1024) {
        p->dropped++;
        return NULL;
    }
    if (!p->lines.cap) /* filled by lines and given back: not to be grown from nothing each time */
        buf_reserve(&p->lines, 2 * PIECE);
    return &p->lines;
}

void logpipe_commit(struct logpipe *p)
{
    if (buf_len(&p->lines) >= PIECE)
        flush(p);
    if (buf_len(&p->lines) && !loop_timer_is_set(&p->timer))
        loop_timer_in(p->loop, &p->timer, GATHER_MS * NS_PER_MS, flush_timer);
}

void logpipe_fini(struct logpipe *p)
{
    loop_timer_clear(p->loop, &p->timer);
    flush(p);
    buf_fini(&p->lines);
}
