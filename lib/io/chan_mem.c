/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends in memory. Each end owns the ring that it reads from; events travel as end-of-turn
 * tasks, so that a write never calls the other side's owner from within. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/io/chan.h"

struct mem {
    struct chan c;
    struct mem *peer;              /* NULL once the peer closed */
    struct loop_task task;         /* events while open, free once closed */
    unsigned events;               /* to report */
    bool resume_asked, resume_due; /* asked in this turn; to be reported in the next */
    bool reset, closed;
    bool shut;          /* our side ended */
    bool eof;           /* the peer's side ended; bytes may wait before it */
    bool write_refused; /* the peer's reads make CHAN_WRITE */
    size_t cap, off, len;
    char ring[];
};

static struct mem *mem_of(struct chan *c)
{
    return CONTAINER_OF(c, struct mem, c);
}

static void mem_fire(struct loop_task *task)
{
    struct mem *m = CONTAINER_OF(task, struct mem, task);
    unsigned events = m->events;

    m->events = 0;
    if (m->resume_due)
        events |= CHAN_READ | CHAN_WRITE;
    m->resume_due = m->resume_asked;
    m->resume_asked = false;
    if (m->resume_due)
        loop_task_add(m->c.loop, task, mem_fire);
    if (m->c.cb && events)
        m->c.cb(m->c.user, events);
}

static void mem_post(struct mem *m, unsigned events)
{
    if (m->closed)
        return;
    m->events |= events;
    loop_task_add(m->c.loop, &m->task, mem_fire);
}

static enum err_code mem_read(struct chan *c, void *p, size_t cap, size_t *ret_n)
{
    struct mem *m = mem_of(c);
    size_t n = MIN(cap, m->len), first = MIN(n, m->cap - m->off);

    assert(cap > 0);
    if (c->failure)
        return c->failure;
    if (n == 0)
        return m->eof ? ERR_EOF : ERR_AGAIN;
    memcpy(p, m->ring + m->off, first);
    memcpy((char *)p + first, m->ring, n - first);
    m->off = (m->off + n) % m->cap;
    m->len -= n;
    c->bytes_in += n;
    if (m->peer && m->peer->write_refused) {
        m->peer->write_refused = false;
        mem_post(m->peer, CHAN_WRITE);
    }
    *ret_n = n;
    return ERR_OK;
}

static void ring_put(struct mem *m, const char *p, size_t n)
{
    size_t at = (m->off + m->len) % m->cap, first = MIN(n, m->cap - at);

    memcpy(m->ring + at, p, first);
    memcpy(m->ring, p + first, n - first);
    m->len += n;
}

static enum err_code mem_writev(struct chan *c, const struct iovec *iov, int n, size_t *ret_n)
{
    struct mem *m = mem_of(c), *to = m->peer;
    size_t done = 0, want = 0;

    if (c->failure)
        return c->failure;
    if (m->shut)
        return ERR_CLOSED;
    if (!to) {
        c->os_errno = EPIPE;
        return c->failure = ERR_IO;
    }
    for (int i = 0; i < n; i++) {
        size_t part = MIN(iov[i].iov_len, to->cap - to->len);

        if (part)
            ring_put(to, iov[i].iov_base, part);
        done += part;
        want += iov[i].iov_len;
    }
    m->write_refused = done < want;
    if (done == 0 && want > 0)
        return ERR_AGAIN;
    mem_post(to, CHAN_READ);
    c->bytes_out += done;
    *ret_n = done;
    return ERR_OK;
}

static void mem_shutdown(struct chan *c)
{
    struct mem *m = mem_of(c);

    if (m->shut)
        return;
    m->shut = true;
    if (m->peer) {
        m->peer->eof = true;
        mem_post(m->peer, CHAN_READ);
    }
}

static void mem_gone(struct loop_task *task)
{
    mem_free(CONTAINER_OF(task, struct mem, task));
}

static void mem_close(struct chan *c)
{
    struct mem *m = mem_of(c), *peer = m->peer;

    if (m->closed)
        return;
    if (peer) {
        peer->peer = NULL;
        peer->eof = true;
        if (m->reset && !peer->c.failure) {
            peer->c.failure = ERR_IO;
            peer->c.os_errno = ECONNRESET;
            mem_post(peer, CHAN_FAIL);
        } else {
            mem_post(peer, CHAN_READ | CHAN_WRITE);
        }
    }
    m->closed = true;
    m->peer = NULL;
    c->cb = NULL;
    c->failure = ERR_CLOSED;
    loop_task_add(c->loop, &m->task, mem_gone);
}

static int mem_fd(const struct chan *c)
{
    (void)c;
    return -1;
}

static void mem_resume(struct chan *c)
{
    struct mem *m = mem_of(c);

    if (m->closed)
        return;
    m->resume_asked = true;
    loop_task_add(c->loop, &m->task, mem_fire);
}

static void mem_reset(struct chan *c)
{
    mem_of(c)->reset = true;
}

static const struct chan_ops mem_ops = {
    .name = "mem",
    .read = mem_read,
    .writev = mem_writev,
    .shutdown = mem_shutdown,
    .close = mem_close,
    .fd = mem_fd,
    .resume = mem_resume,
    .reset = mem_reset,
};

int chan_mem_pair(struct loop *loop, size_t cap, struct chan **ret_a, struct chan **ret_b,
                  struct err *err)
{
    struct mem *m[2];

    assert(cap > 0);
    for (int i = 0; i < 2; i++) {
        m[i] = mem_zalloc(sizeof *m[i] + cap);
        if (!m[i]) {
            mem_free(i ? m[0] : NULL);
            return err_set(err, ERR_NOMEM, "memory channel");
        }
        m[i]->c.ops = &mem_ops;
        m[i]->c.loop = loop;
        m[i]->c.open = true;
        m[i]->cap = cap;
    }
    m[0]->peer = m[1];
    m[1]->peer = m[0];
    *ret_a = &m[0]->c;
    *ret_b = &m[1]->c;
    return 0;
}
