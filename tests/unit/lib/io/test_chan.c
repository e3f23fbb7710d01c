/* SPDX-License-Identifier: Apache-2.0 */
/* TCP channels (over loopback and socket pairs) and memory channels keep one contract. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/io/chan.h"
#include "tests/unit/tcase.h"

static struct clock clk;
static struct loop *loop;

struct owner {
    struct chan *c;
    unsigned events;
    int calls;
    struct chan *closes; /* closed in the callback */
};
static void owner_cb(void *user, unsigned events)
{
    struct owner *o = user;

    o->events |= events;
    o->calls++;
    if (o->closes)
        chan_close(o->closes);
}
static unsigned take(struct owner *o)
{
    unsigned e = o->events;

    o->events = 0;
    return e;
}
static void turns(int n)
{
    while (n--)
        ck_assert_int_ge(loop_turn(loop, 2, NULL), 0);
}
static void until(struct owner *o, unsigned events)
{
    for (int i = 0; i < 100 && !(o->events & events); i++)
        loop_turn(loop, 20, NULL);
    ck_assert_msg(o->events & events, "events %u never came", events);
}

static int listener(struct sock_addr *ret)
{
    sock_addr_parse_hostport(SL("127.0.0.1:0"), ret);
    int l = sock_listen(ret, false, 16, NULL);
    ck_assert_int_ge(l, 0);
    sock_local(l, ret);
    return l;
}

/* kind 0: memory, 1: TCP, 2: unix socket pair */
static void make_pair(int kind, struct owner *a, struct owner *b)
{
    *a = *b = (struct owner){0};
    if (kind == 0) {
        ck_assert_int_eq(chan_mem_pair(loop, 1000, &a->c, &b->c, NULL), 0);
    } else if (kind == 1) {
        struct sock_addr addr, peer;
        int fd = -1, l = listener(&addr);

        ck_assert_int_eq(chan_tcp(loop, sock_connect(&addr, NULL, NULL), false, &a->c, NULL), 0);
        chan_owner(a->c, owner_cb, a);
        ck_assert(!a->c->open);
        ck_assert_int_eq(chan_write(a->c, "x", 1, &(size_t){0}), ERR_AGAIN);
        until(a, CHAN_OPEN);
        ck_assert(a->c->open);
        take(a);
        ck_assert_int_eq(sock_accept(l, &fd, &peer), ERR_OK);
        ck_assert_int_eq(chan_tcp(loop, fd, true, &b->c, NULL), 0);
        close(l);
    } else {
        int fd[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
        ck_assert_int_eq(chan_tcp(loop, fd[0], true, &a->c, NULL), 0);
        ck_assert_int_eq(chan_tcp(loop, fd[1], true, &b->c, NULL), 0);
    }
    chan_owner(a->c, owner_cb, a);
    chan_owner(b->c, owner_cb, b);
    turns(2);
    take(a);
    take(b);
}

static void setup(void)
{
    clock_init_real(&clk);
    ck_assert_int_eq(loop_new(&clk, &loop, NULL), 0);
}
static void teardown(void)
{
    loop_free(loop);
}

START_TEST(bytes_and_ends)
{
    struct owner a, b;
    char got[64];
    size_t n = 0;
    struct iovec iov[] = {{"hel", 3}, {"", 0}, {"lo", 2}};

    make_pair(_i, &a, &b);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_AGAIN);
    ck_assert_int_eq(chan_writev(a.c, iov, 3, &n), ERR_OK);
    ck_assert_uint_eq(n, 5);
    until(&b, CHAN_READ);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_OK);
    ck_assert_uint_eq(n, 5);
    ck_assert_mem_eq(got, "hello", 5);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_AGAIN);
    /* Half-close: bytes first, then the end; the other way goes on. */
    ck_assert_int_eq(chan_write(a.c, "bye", 3, &n), ERR_OK);
    chan_shutdown(a.c);
    chan_shutdown(a.c);
    ck_assert_int_eq(chan_write(a.c, "x", 1, &n), ERR_CLOSED);
    take(&b);
    until(&b, CHAN_READ);
    turns(1);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_OK);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_EOF);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_EOF);
    ck_assert_int_eq(chan_write(b.c, "back", 4, &n), ERR_OK);
    until(&a, CHAN_READ);
    ck_assert_int_eq(chan_read(a.c, got, sizeof got, &n), ERR_OK);
    ck_assert_uint_eq(n, 4);
    ck_assert_uint_eq(a.c->bytes_out, 8);
    ck_assert_uint_eq(a.c->bytes_in, 4);
    ck_assert_uint_eq(b.c->bytes_in, 8);
    chan_close(b.c);
    chan_close(b.c);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_CLOSED);
    ck_assert_int_eq(chan_write(b.c, "x", 1, &n), ERR_CLOSED);
    take(&a);
    until(&a, CHAN_READ);
    ck_assert_int_eq(chan_read(a.c, got, sizeof got, &n), ERR_EOF);
    chan_close(a.c);
    chan_close(NULL);
    turns(1);
}
END_TEST

/* Everything written arrives, in order, whatever the sizes; refused writes get CHAN_WRITE. */
START_TEST(backpressure)
{
    enum { TOTAL = 8 * 1024 * 1024 };
    struct owner a, b;
    static char out[30011], in[20011];
    size_t sent = 0, got = 0, n, refused = 0;
    size_t total = _i == 0 ? TOTAL / 64 : TOTAL;

    make_pair(_i, &a, &b);
    while (got < total) {
        while (sent < total) {
            size_t want = MIN(sizeof out, total - sent);

            for (size_t i = 0; i < want; i++)
                out[i] = (char)((sent + i) * 31 >> 3);
            enum err_code rc = chan_write(a.c, out, want, &n);
            if (rc == ERR_AGAIN) {
                refused++;
                ck_assert_int_eq(chan_write(a.c, out, want, &n), ERR_AGAIN);
                take(&a);
                break;
            }
            ck_assert_int_eq(rc, ERR_OK);
            sent += n;
        }
        for (enum err_code rc; (rc = chan_read(b.c, in, sizeof in, &n)) != ERR_AGAIN; got += n) {
            ck_assert_int_eq(rc, ERR_OK);
            for (size_t i = 0; i < n; i++)
                if (in[i] != (char)((got + i) * 31 >> 3))
                    ck_abort_msg("byte %zu differs", got + i);
        }
        loop_turn(loop, got < total ? 20 : 0, NULL);
    }
    ck_assert_uint_gt(refused, 0);
    ck_assert_uint_eq(sent, got);
    chan_close(a.c);
    chan_close(b.c);
}
END_TEST

START_TEST(owner_is_woken_when_room_comes)
{
    struct owner a, b;
    static char block[65536];
    size_t n;

    make_pair(_i, &a, &b);
    do { /* until the kernel on the way has moved all that it will */
        take(&a);
        while (chan_write(a.c, block, sizeof block, &n) == ERR_OK)
            ;
        turns(3);
    } while (a.events & CHAN_WRITE);
    for (int i = 0; i < 100 && !(a.events & CHAN_WRITE); i++) {
        while (chan_read(b.c, block, sizeof block, &n) == ERR_OK)
            ;
        turns(1);
    }
    ck_assert(a.events & CHAN_WRITE);
    ck_assert_int_eq(chan_write(a.c, block, 10, &n), ERR_OK);
    chan_close(a.c);
    chan_close(b.c);
}
END_TEST

START_TEST(close_inside_a_callback_of_the_same_batch)
{
    struct owner a, b, c, d;

    make_pair(_i, &a, &b);
    make_pair(_i, &c, &d);
    b.closes = d.c;
    d.closes = b.c;
    ck_assert_int_eq(chan_write(a.c, "x", 1, &(size_t){0}), ERR_OK);
    ck_assert_int_eq(chan_write(c.c, "x", 1, &(size_t){0}), ERR_OK);
    b.calls = d.calls = 0;
    turns(2);
    ck_assert_int_eq(b.calls + d.calls, 1);
    chan_close(b.calls ? b.c : d.c);
    chan_close(a.c);
    chan_close(c.c);
    turns(1);
}
END_TEST

START_TEST(close_of_oneself_inside_the_callback)
{
    struct owner a, b;

    make_pair(_i, &a, &b);
    b.closes = b.c;
    chan_write(a.c, "x", 1, &(size_t){0});
    until(&b, CHAN_READ);
    until(&a, CHAN_READ);
    chan_close(a.c);
}
END_TEST

START_TEST(resume_calls_back_in_the_next_turn)
{
    struct owner a, b;

    make_pair(_i, &a, &b);
    chan_resume(a.c);
    chan_resume(a.c);
    a.calls = 0;
    loop_turn(loop, 0, NULL);
    ck_assert_int_eq(a.calls, 0);
    loop_turn(loop, 0, NULL);
    ck_assert_int_eq(a.calls, 1);
    ck_assert_uint_eq(take(&a), CHAN_READ | CHAN_WRITE);
    loop_turn(loop, 0, NULL);
    ck_assert_int_eq(a.calls, 1);
    /* Bytes that come meanwhile do not swallow it. */
    chan_resume(a.c);
    chan_write(b.c, "x", 1, &(size_t){0});
    turns(2);
    ck_assert_uint_eq(take(&a) & (CHAN_READ | CHAN_WRITE), CHAN_READ | CHAN_WRITE);
    chan_resume(a.c);
    chan_close(a.c);
    chan_close(b.c);
    a.calls = 0;
    turns(3);
    ck_assert_int_eq(a.calls, 0);
}
END_TEST

START_TEST(reset_is_a_failure)
{
    struct owner a, b;
    char got[8];
    size_t n;
    enum err_code rc;

    make_pair(_i, &a, &b);
    chan_tcp_reset(a.c);
    chan_close(a.c);
    until(&b, CHAN_READ | CHAN_FAIL);
    rc = chan_read(b.c, got, sizeof got, &n);
    ck_assert_int_eq(rc, ERR_IO);
    ck_assert_int_eq(b.c->failure, ERR_IO);
    ck_assert_int_eq(b.c->os_errno, ECONNRESET);
    ck_assert_str_eq(chan_failure_text(b.c), "Connection reset by peer");
    ck_assert_int_eq(chan_write(b.c, "x", 1, &n), ERR_IO);
    chan_close(b.c);
}
END_TEST

START_TEST(bytes_before_a_reset_are_read)
{
    struct owner a, b;
    char got[8];
    size_t n;

    make_pair(1, &a, &b);
    ck_assert_int_eq(chan_write(a.c, "last", 4, &n), ERR_OK);
    turns(1);
    chan_tcp_reset(a.c);
    chan_close(a.c);
    turns(2);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_OK);
    ck_assert_uint_eq(n, 4);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_IO);
    chan_close(b.c);
}
END_TEST

/* A write that fails does not lose what the peer said before it closed. */
START_TEST(bytes_before_a_failed_write_are_read)
{
    struct owner a, b;
    char got[8];
    size_t n;
    enum err_code rc;

    make_pair(1, &a, &b);
    ck_assert_int_eq(chan_write(b.c, "unread", 6, &n), ERR_OK);
    ck_assert_int_eq(chan_write(a.c, "last", 4, &n), ERR_OK);
    turns(1);
    chan_close(a.c); /* a reset: it had bytes to read */
    for (int i = 0; (rc = chan_write(b.c, "x", 1, &n)) == ERR_OK && i < 100; i++)
        ;
    ck_assert_int_eq(rc, ERR_IO);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_OK);
    ck_assert_uint_eq(n, 4);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_IO);
    ck_assert_int_eq(chan_read(b.c, got, sizeof got, &n), ERR_IO);
    take(&b);
    chan_resume(b.c);
    until(&b, CHAN_READ);
    chan_close(b.c);
}
END_TEST

START_TEST(connect_refused)
{
    struct sock_addr addr;
    struct owner a = {0};
    int l = listener(&addr);

    close(l);
    int fd = sock_connect(&addr, NULL, NULL);
    if (fd < 0)
        return; /* refused at once: as good */
    ck_assert_int_eq(chan_tcp(loop, fd, false, &a.c, NULL), 0);
    chan_owner(a.c, owner_cb, &a);
    chan_shutdown(a.c); /* before it is connected */
    until(&a, CHAN_FAIL);
    ck_assert_uint_eq(a.events, CHAN_FAIL);
    ck_assert_int_eq(a.c->failure, ERR_UNAVAILABLE);
    ck_assert_int_eq(a.c->os_errno, ECONNREFUSED);
    turns(2);
    ck_assert_int_eq(a.calls, 1);
    chan_close(a.c);
}
END_TEST

START_TEST(out_of_memory)
{
    OOM_SWEEP (n) {
        struct chan *a, *b;
        int fd[2];

        if (chan_mem_pair(loop, 100, &a, &b, NULL) == 0) {
            chan_close(a);
            chan_close(b);
        }
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
        close(fd[1]);
        if (chan_tcp(loop, fd[0], true, &a, NULL) == 0)
            chan_close(a);
        else /* taken on failure too */
            ck_assert_int_eq(close(fd[0]), -1);
        loop_turn(loop, 0, NULL);
    }
}
END_TEST

START_TEST(memory_per_connection)
{
    enum { N = 200 };
    struct owner a[N], b[N];
    size_t before = mallinfo2().uordblks, after;

    for (int i = 0; i < N; i++)
        make_pair(2, &a[i], &b[i]);
    after = mallinfo2().uordblks;
    if (after > before) /* an allocator without these numbers says nothing */
        ck_assert_uint_le((after - before) / (2 * N), 160);
    for (int i = 0; i < N; i++) {
        chan_close(a[i].c);
        chan_close(b[i].c);
    }
}
END_TEST

TESTS(chan)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, bytes_and_ends, 0, 3);
    tcase_add_loop_test(tc, backpressure, 0, 3);
    tcase_add_loop_test(tc, owner_is_woken_when_room_comes, 0, 3);
    tcase_add_loop_test(tc, close_inside_a_callback_of_the_same_batch, 0, 3);
    tcase_add_loop_test(tc, close_of_oneself_inside_the_callback, 0, 3);
    tcase_add_loop_test(tc, resume_calls_back_in_the_next_turn, 0, 3);
    tcase_add_loop_test(tc, reset_is_a_failure, 0, 2);
    tcase_add_test(tc, bytes_before_a_reset_are_read);
    tcase_add_test(tc, bytes_before_a_failed_write_are_read);
    tcase_add_test(tc, connect_refused);
    tcase_add_test(tc, out_of_memory);
    tcase_add_test(tc, memory_per_connection);
}
