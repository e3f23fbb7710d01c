/* SPDX-License-Identifier: Apache-2.0 */
/* A connection is a stack of channels with one interface: TLS over TCP in production, TLS over a
 * memory pair in tests. The owner of the top channel gets events and calls read and write; a layer
 * owns the channel below it and closes it with itself.
 *
 * Readiness is edge-like at every layer: after CHAN_READ the owner reads until ERR_AGAIN, or stops
 * of its own will (backpressure, budget) and reads again later without a further event. The same
 * for writes. A failure that read or write returned is not reported again: no event follows it, and
 * an owner that wants to read after a write failed (what the peer said before it closed can be read
 * from TCP, then the failure) does so, or asks for it by chan_resume. Events may be spurious, never
 * missing. A TCP channel trusts a short read: it answers the next read with
 * ERR_AGAIN without asking the kernel, which saves a syscall per message. An owner that used up its
 * budget for a turn calls chan_resume to be called back in the next turn. */
#pragma once

#include <sys/uio.h>

#include "lib/base/err.h"
#include "lib/io/loop.h"
#include "lib/io/sock.h"

/* clang-format off */
enum {
    CHAN_OPEN  = 1,  /* connected (and, for TLS, the handshake is done); comes once */
    CHAN_READ  = 2,  /* a read may give bytes, EOF or an error */
    CHAN_WRITE = 4,  /* a write that was refused may go on */
    CHAN_FAIL  = 8,  /* broken: `failure` tells why; read and write fail from now on */
};
/* clang-format on */

struct chan;
struct chan_ops {
    const char *name; /* "tcp", "tls", "mem" */
    enum err_code (*read)(struct chan *c, void *p, size_t cap, size_t *ret_n);
    enum err_code (*writev)(struct chan *c, const struct iovec *iov, int n, size_t *ret_n);
    void (*shutdown)(struct chan *c);
    void (*close)(struct chan *c);
    int (*fd)(const struct chan *c); /* -1 when there is none */
    void (*resume)(struct chan *c);
    void (*reset)(struct chan *c); /* NULL where it means nothing */
};
struct chan {
    const struct chan_ops *ops;
    void (*cb)(void *user, unsigned events);
    void *user;
    struct loop *loop;
    enum err_code failure; /* ERR_OK while healthy */
    int16_t os_errno;      /* errno behind an IO failure, 0 when none */
    bool open;             /* CHAN_OPEN was reported */
    uint64_t bytes_in, bytes_out;
};

/* Owner and callback may change during life (a sniffed connection moves to its codec). */
static inline void chan_owner(struct chan *c, void (*cb)(void *, unsigned), void *user)
{
    c->cb = cb;
    c->user = user;
}
/* ERR_OK with *ret_n > 0; ERR_AGAIN; ERR_EOF after an orderly end; else the failure (ERR_CLOSED
 * after chan_close). `cap` > 0. */
static inline enum err_code chan_read(struct chan *c, void *p, size_t cap, size_t *ret_n)
{
    return c->ops->read(c, p, cap, ret_n);
}
/* ERR_OK with *ret_n > 0 bytes taken, perhaps fewer than given; ERR_AGAIN when none; else failure.
 */
static inline enum err_code chan_writev(struct chan *c, const struct iovec *iov, int n,
                                        size_t *ret_n)
{
    return c->ops->writev(c, iov, n, ret_n);
}
static inline enum err_code chan_write(struct chan *c, const void *p, size_t len, size_t *ret_n)
{
    struct iovec iov = {(void *)(uintptr_t)p, len};
    return c->ops->writev(c, &iov, 1, ret_n);
}
/* End of our bytes (FIN, close_notify) behind what was written; reading goes on, writing fails with
 * ERR_CLOSED. Repeats are fine. */
static inline void chan_shutdown(struct chan *c)
{
    c->ops->shutdown(c);
}
/* Close at once, no more events; memory goes at the end of the turn. NULL and repeats are fine. */
void chan_close(struct chan *c);
/* Call the owner back in the next turn with CHAN_READ | CHAN_WRITE, after other descriptors had
 * their chance. */
static inline void chan_resume(struct chan *c)
{
    c->ops->resume(c);
}
static inline int chan_fd(const struct chan *c)
{
    return c->ops->fd(c);
}

/* --- TCP --- */
/* Adopt a connected or connecting stream socket (taken, also on failure). CHAN_OPEN comes when it
 * is connected; for an accepted one pass connected = true: open at once, without an event. A
 * connect that fails is CHAN_FAIL with ERR_UNAVAILABLE or ERR_TIMEOUT, and its errno. */
int chan_tcp(struct loop *loop, int fd, bool connected, struct chan **ret, struct err *err);
/* RST instead of FIN when it is closed (SO_LINGER 0); passes through the layers above TCP. On a
 * memory channel the peer fails with ECONNRESET instead of reading EOF. */
void chan_tcp_reset(struct chan *c);
/* A name for the failure: "Connection refused" from errno, else the code's name. Static storage or
 * strerror's; use at once. */
const char *chan_failure_text(const struct chan *c);
/* What an errno of a socket call means to an owner. */
enum err_code chan_errno_code(int errnum);

/* --- memory pair for tests: what one side writes the other reads --- */
/* `cap` bytes in flight per direction. Both are open at once, without an event. */
int chan_mem_pair(struct loop *loop, size_t cap, struct chan **ret_a, struct chan **ret_b,
                  struct err *err);
