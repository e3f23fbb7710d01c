/* SPDX-License-Identifier: Apache-2.0 */
/* Lines reach a reader in order and whole; what a reader does not take is counted and never waited
 * for. */
#include "proxy/logpipe.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "tests/unit/tcase.h"

static struct clock vclock;
static struct loop *loop;
static int ends[2];
static struct logpipe p;

static void setup(void)
{
    struct err err = {0};
    clock_init_virtual(&vclock, 0);
    ck_assert_int_eq(loop_new(&vclock, &loop, &err), 0);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
    logpipe_init(&p, loop, ends[1]);
}

static void teardown(void)
{
    logpipe_fini(&p);
    loop_free(loop);
    close(ends[1]);
    if (ends[0] >= 0)
        close(ends[0]);
}

/* One line of 100 bytes that says its number; false: it was dropped. */
static bool line(unsigned n)
{
    struct buf *b = logpipe_begin(&p);
    if (!b)
        return false;
    buf_addf(b, "%099u\n", n);
    logpipe_commit(&p);
    return true;
}

static void pass(int64_t ms)
{
    struct err err = {0};
    clock_advance(&vclock, ms * NS_PER_MS);
    ck_assert_int_ge(loop_turn(loop, 0, &err), 0);
}

/* Read what is there; each line must be the one that is due. Returns the number of the next. */
static unsigned take(unsigned next)
{
    static char text[1 << 16];
    static size_t have;
    ssize_t n = read(ends[0], text + have, sizeof text - have);
    have += n > 0 ? (size_t)n : 0;
    size_t at = 0;
    for (; have - at >= 100; at += 100, next++) {
        ck_assert_int_eq(text[at + 99], '\n');
        text[at + 99] = '\0';
        ck_assert_uint_eq(strtoul(text + at, NULL, 10), next);
    }
    memmove(text, text + at, have - at);
    have -= at;
    return next;
}

START_TEST(gathered)
{
    ck_assert(line(0) && line(1));
    ck_assert_uint_eq(take(0), 0); /* not a call a line */
    pass(50);
    ck_assert_uint_eq(take(0), 2);
    ck_assert_ptr_null(p.lines.p); /* idle: nothing is held */
}
END_TEST

START_TEST(nobody_reads)
{
    unsigned sent = 0, next = 0;
    while (line(sent))
        ck_assert_uint_lt(++sent, 1 << 20);
    ck_assert_uint_eq(p.dropped, 1);
    ck_assert_uint_lt(buf_len(&p.lines), 256 * 1024);
    ck_assert(!line(sent));
    ck_assert_uint_eq(p.dropped, 2);
    /* Somebody reads again: nothing of what was taken is missing, and there is room. */
    while (next < sent) {
        unsigned before = next;
        pass(50);
        next = take(next);
        ck_assert_uint_gt(next, before);
    }
    ck_assert(line(sent));
    pass(50);
    ck_assert_uint_eq(take(next), sent + 1);
    ck_assert_uint_eq(p.dropped, 2);
}
END_TEST

START_TEST(reader_gone)
{
    ck_assert(line(0) && line(1) && line(2));
    close(ends[0]);
    ends[0] = -1;
    pass(50);
    ck_assert_uint_eq(p.dropped, 3);
    ck_assert_uint_eq(buf_len(&p.lines), 0);
    ck_assert(line(3));
    pass(50);
    ck_assert_uint_eq(p.dropped, 4);
}
END_TEST

START_TEST(nowhere)
{
    struct logpipe none;
    logpipe_init(&none, loop, -1);
    ck_assert_ptr_null(logpipe_begin(&none));
    ck_assert_uint_eq(none.dropped, 0);
    logpipe_fini(&none);
}
END_TEST

TESTS(logpipe)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, gathered);
    tcase_add_test(tc, nobody_reads);
    tcase_add_test(tc, reader_gone);
    tcase_add_test(tc, nowhere);
}
