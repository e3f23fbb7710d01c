/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/io/loop.h"
#include "tests/unit/tcase.h"

static struct clock vclock;

static struct loop *virtual_loop(void)
{
    struct loop *loop = NULL;
    struct err err = {0};

    clock_init_virtual(&vclock, 0);
    ck_assert_msg(loop_new(&vclock, &loop, &err) == 0, "%s", err.msg);
    return loop;
}

/* --- timers --- */
struct tick {
    struct loop_timer t;
    struct loop *loop;
    int64_t fired_ns;
    int count;
};
static void ticked(struct loop_timer *t)
{
    struct tick *k = CONTAINER_OF(t, struct tick, t);

    k->fired_ns = loop_now(k->loop);
    k->count++;
}

/* Against a naive model: whatever was set, re-set and cleared, what is due fires once, in time. */
START_TEST(timers_match_a_naive_model)
{
    enum { N = 60 };
    struct loop *loop = virtual_loop();
    struct tick k[N] = {0};
    int64_t want[N]; /* deadline, or -1 */
    int fired[N] = {0};
    struct rnd r;

    rnd_init_seed(&r, (uint64_t)_i);
    for (int i = 0; i < N; i++) {
        k[i].loop = loop;
        want[i] = -1;
    }
    for (int step = 0; step < 1000; step++) {
        int i = (int)rnd_below(&r, N);
        int64_t now = clock_now(&vclock);

        switch (rnd_below(&r, 4)) {
        case 0:
        case 1:
            want[i] = now + rnd_below(&r, 1000);
            ck_assert_int_eq(loop_timer_at(loop, &k[i].t, want[i], ticked), 0);
            break;
        case 2:
            loop_timer_clear(loop, &k[i].t);
            want[i] = -1;
            break;
        default:
            clock_advance(&vclock, rnd_below(&r, 100));
            now = clock_now(&vclock);
            loop_turn(loop, -1, NULL);
            for (int j = 0; j < N; j++)
                if (want[j] >= 0 && want[j] <= now) {
                    want[j] = -1;
                    fired[j]++;
                    ck_assert_int_eq(k[j].fired_ns, now);
                }
            break;
        }
        int64_t nearest = INT64_MAX;
        for (int j = 0; j < N; j++) {
            if (k[j].count != fired[j] || loop_timer_is_set(&k[j].t) != (want[j] >= 0))
                ck_abort_msg("seed %d step %d timer %d", _i, step, j);
            if (want[j] >= 0 && want[j] < nearest)
                nearest = want[j];
        }
        ck_assert_int_eq(loop_next_deadline(loop), nearest);
    }
    loop_free(loop);
}
END_TEST

static void again(struct loop_timer *t)
{
    struct tick *k = CONTAINER_OF(t, struct tick, t);

    k->count++;
    loop_timer_in(k->loop, t, 0, again);
}

START_TEST(timer_that_sets_itself_for_now_yields)
{
    struct loop *loop = virtual_loop();
    struct tick k = {.loop = loop};

    loop_timer_in(loop, &k.t, 0, again);
    for (int i = 1; i <= 3; i++) {
        ck_assert_int_eq(loop_turn(loop, -1, NULL), 1);
        ck_assert_int_eq(k.count, i);
    }
    loop_timer_clear(loop, &k.t);
    ck_assert_int_eq(loop_next_deadline(loop), INT64_MAX);
    loop_free(loop);
}
END_TEST

START_TEST(timer_far_away_does_not_overflow)
{
    struct loop *loop = virtual_loop();
    struct tick k = {.loop = loop};

    loop_timer_in(loop, &k.t, INT64_MAX, ticked);
    ck_assert_int_eq(k.t.deadline_ns, INT64_MAX);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 0);
    loop_free(loop);
}
END_TEST

START_TEST(real_timer_is_never_early)
{
    struct clock clock;
    struct loop *loop;
    struct tick k = {0};

    clock_init_real(&clock);
    ck_assert_int_eq(loop_new(&clock, &loop, NULL), 0);
    k.loop = loop;
    int64_t begin = clock_now(&clock);
    loop_timer_at(loop, &k.t, begin + 3 * NS_PER_MS + 500 * NS_PER_US, ticked);
    while (!k.count)
        ck_assert_int_ge(loop_turn(loop, -1, NULL), 0);
    ck_assert_int_ge(k.fired_ns - begin, 3 * NS_PER_MS + 500 * NS_PER_US);
    loop_free(loop);
}
END_TEST

/* --- descriptors --- */
struct end {
    struct loop_io io;
    struct loop *loop;
    struct end *victim; /* taken out in the callback */
    unsigned events;
    int count;
};
static void ended(struct loop_io *io, unsigned events)
{
    struct end *e = CONTAINER_OF(io, struct end, io);

    e->events |= events;
    e->count++;
    if (e->victim)
        loop_io_del(e->loop, &e->victim->io);
}

static void pair(int fd[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

START_TEST(taken_out_in_the_same_batch_is_not_called)
{
    struct loop *loop = virtual_loop();
    struct end a = {.loop = loop}, b = {.loop = loop};
    int fd[4];

    pair(fd);
    pair(fd + 2);
    a.victim = &b;
    b.victim = &a;
    ck_assert_int_eq(loop_io_add(loop, &a.io, fd[0], LOOP_READ, ended, NULL), 0);
    ck_assert_int_eq(loop_io_add(loop, &b.io, fd[2], LOOP_READ, ended, NULL), 0);
    ck_assert_int_eq(write(fd[1], "x", 1), 1);
    ck_assert_int_eq(write(fd[3], "x", 1), 1);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 1);
    ck_assert_int_eq(a.count + b.count, 1); /* whoever came first took the other out */
    loop_io_del(loop, &a.io);
    loop_io_del(loop, &a.io);
    loop_io_del(loop, &b.io);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 0);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    loop_free(loop);
}
END_TEST

static const struct {
    const char *name;
    bool level;
    unsigned ask;
    bool peer_writes, peer_closes;
    unsigned want;
    int want_second_turn; /* callbacks when nothing was consumed */
} readiness[] = {
    {"edge, nothing to read", false, LOOP_READ, false, false, 0, 0},
    {"edge, writable", false, LOOP_READ | LOOP_WRITE, false, false, LOOP_WRITE, 0},
    {"edge, bytes", false, LOOP_READ, true, false, LOOP_READ, 0},
    {"edge, bytes and end", false, LOOP_READ, true, true, LOOP_READ | LOOP_HUP, 0},
    {"level, bytes", true, LOOP_READ, true, false, LOOP_READ, 1},
    {"level, writable only", true, LOOP_WRITE, true, false, LOOP_WRITE, 1},
    {"level, end", true, LOOP_READ, false, true, LOOP_READ | LOOP_HUP, 1},
};

START_TEST(readiness_is_reported)
{
    struct loop *loop = virtual_loop();
    struct end a = {.loop = loop};
    int fd[2], n;

    pair(fd);
    n = readiness[_i].level ? loop_io_level(loop, &a.io, fd[0], readiness[_i].ask, ended, NULL)
                            : loop_io_add(loop, &a.io, fd[0], readiness[_i].ask, ended, NULL);
    ck_assert_int_eq(n, 0);
    if (readiness[_i].peer_writes)
        ck_assert_int_eq(write(fd[1], "x", 1), 1);
    if (readiness[_i].peer_closes)
        close(fd[1]);
    loop_turn(loop, -1, NULL);
    ck_assert_msg(a.events == readiness[_i].want, "%s: %u", readiness[_i].name, a.events);
    ck_assert_msg(loop_turn(loop, -1, NULL) == readiness[_i].want_second_turn, "%s",
                  readiness[_i].name);
    loop_io_del(loop, &a.io);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 0);
    close(fd[0]);
    if (!readiness[_i].peer_closes)
        close(fd[1]);
    loop_free(loop);
}
END_TEST

START_TEST(level_changes_what_it_asks)
{
    struct loop *loop = virtual_loop();
    struct end a = {.loop = loop};
    int fd[2];

    pair(fd);
    ck_assert_int_eq(loop_io_level(loop, &a.io, fd[0], LOOP_WRITE, ended, NULL), 0);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 1);
    ck_assert_int_eq(loop_io_level(loop, &a.io, fd[0], LOOP_READ, ended, NULL), 0);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 0);
    /* A library closed the descriptor behind our back and opened another with the same number. */
    close(fd[0]);
    ck_assert_int_eq(dup2(fd[1], fd[0]), fd[0]);
    ck_assert_int_eq(loop_io_level(loop, &a.io, fd[0], LOOP_READ | LOOP_WRITE, ended, NULL), 0);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 1);
    loop_io_del(loop, &a.io);
    close(fd[0]);
    close(fd[1]);
    loop_free(loop);
}
END_TEST

START_TEST(bad_descriptor_is_an_error)
{
    struct loop *loop = virtual_loop();
    struct end a = {.loop = loop};
    struct err err = {0};

    ck_assert_int_eq(loop_io_add(loop, &a.io, 1000000, LOOP_READ, ended, &err), -1);
    ck_assert_int_eq(err.code, ERR_IO);
    loop_io_del(loop, &a.io);
    loop_free(loop);
}
END_TEST

/* --- tasks --- */
struct job {
    struct loop_task t;
    struct loop *loop;
    struct job *clears, *adds;
    int count, order;
};
static int order;
static void worked(struct loop_task *t)
{
    struct job *j = CONTAINER_OF(t, struct job, t);

    j->count++;
    j->order = ++order;
    if (j->clears)
        loop_task_clear(j->loop, &j->clears->t);
    if (j->adds)
        loop_task_add(j->loop, &j->adds->t, worked);
}

START_TEST(tasks_run_in_order_and_can_be_cleared)
{
    struct loop *loop = virtual_loop();
    struct job a = {.loop = loop}, b = {.loop = loop}, c = {.loop = loop}, d = {.loop = loop};

    a.clears = &c; /* in the list that runs */
    a.adds = &a;   /* next turn */
    order = 0;
    loop_task_add(loop, &a.t, worked);
    loop_task_add(loop, &b.t, worked);
    loop_task_add(loop, &b.t, worked);
    loop_task_add(loop, &c.t, worked);
    loop_task_add(loop, &d.t, worked);
    loop_task_clear(loop, &d.t); /* the last: the next add must not follow a stale tail */
    loop_task_add(loop, &d.t, worked);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 3);
    ck_assert_int_eq(a.order, 1);
    ck_assert_int_eq(b.order, 2);
    ck_assert_int_eq(d.order, 3);
    ck_assert_int_eq(c.count, 0);
    a.adds = &c;
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 1);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 1);
    ck_assert_int_eq(a.count, 2);
    ck_assert_int_eq(c.count, 1);
    ck_assert_int_eq(loop_turn(loop, -1, NULL), 0);
    loop_task_add(loop, &c.t, worked);
    loop_free(loop); /* what waits runs */
    ck_assert_int_eq(c.count, 2);
}
END_TEST

/* --- wake-ups, signals, run --- */
struct woken {
    struct loop_wake w;
    int count;
};
static void on_wake(struct loop_wake *w)
{
    CONTAINER_OF(w, struct woken, w)->count++;
    loop_stop(w->loop);
}
static void *wake_thread(void *arg)
{
    for (int i = 0; i < 3; i++)
        loop_wake_send(arg);
    return NULL;
}

START_TEST(wake_from_another_thread)
{
    struct clock clock;
    struct loop *loop;
    struct woken w = {0};
    pthread_t th;

    clock_init_real(&clock);
    ck_assert_int_eq(loop_new(&clock, &loop, NULL), 0);
    ck_assert_int_eq(loop_wake_init(loop, &w.w, on_wake, NULL), 0);
    loop_wake_send(&w.w);
    loop_wake_send(&w.w);
    ck_assert_int_eq(loop_turn(loop, 0, NULL), 1);
    ck_assert_int_eq(w.count, 1); /* several sends, one callback */
    ck_assert_int_eq(pthread_create(&th, NULL, wake_thread, &w.w), 0);
    ck_assert_int_eq(loop_run(loop, NULL), 0); /* sleeps until the thread sends */
    pthread_join(th, NULL);
    ck_assert_int_ge(w.count, 2);
    loop_wake_fini(&w.w);
    loop_wake_fini(&w.w);
    loop_free(loop);
}
END_TEST

struct sig {
    struct loop_signal s;
    int seen[65];
};
static void on_signal(struct loop_signal *s, int signo)
{
    CONTAINER_OF(s, struct sig, s)->seen[signo]++;
}

START_TEST(signals_arrive_in_the_loop)
{
    struct loop *loop = virtual_loop();
    struct sig s = {0};
    static const int signos[] = {SIGUSR1, SIGUSR2};

    ck_assert_int_eq(loop_signal_init(loop, &s.s, signos, 2, on_signal, NULL), 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    loop_turn(loop, -1, NULL);
    loop_turn(loop, -1, NULL);
    ck_assert_int_eq(s.seen[SIGUSR1], 1);
    ck_assert_int_eq(s.seen[SIGUSR2], 1);
    loop_signal_fini(&s.s);
    loop_free(loop);
}
END_TEST

START_TEST(seed_makes_it_repeat)
{
    struct loop *a = virtual_loop(), *b = virtual_loop();

    loop_seed(a, 7);
    loop_seed(b, 7);
    for (int i = 0; i < 10; i++)
        ck_assert(rnd_u64(loop_rnd(a)) == rnd_u64(loop_rnd(b)));
    loop_free(a);
    loop_free(b);
}
END_TEST

START_TEST(out_of_memory)
{
    clock_init_virtual(&vclock, 0);
    OOM_SWEEP (n) {
        struct loop *loop;
        struct tick k[40] = {0};

        if (loop_new(&vclock, &loop, NULL) < 0)
            continue;
        for (int i = 0; i < 40; i++) {
            k[i].loop = loop;
            if (loop_timer_in(loop, &k[i].t, i, ticked) < 0)
                ck_assert(!loop_timer_is_set(&k[i].t));
        }
        clock_advance(&vclock, 100);
        loop_turn(loop, -1, NULL);
        for (int i = 0; i < 40; i++)
            ck_assert(!loop_timer_is_set(&k[i].t));
        loop_free(loop);
    }
}
END_TEST

TESTS(loop)
{
    tcase_add_loop_test(tc, timers_match_a_naive_model, 1, 6);
    tcase_add_test(tc, timer_that_sets_itself_for_now_yields);
    tcase_add_test(tc, timer_far_away_does_not_overflow);
    tcase_add_test(tc, real_timer_is_never_early);
    tcase_add_test(tc, taken_out_in_the_same_batch_is_not_called);
    tcase_add_loop_test(tc, readiness_is_reported, 0, N_OF(readiness));
    tcase_add_test(tc, level_changes_what_it_asks);
    tcase_add_test(tc, bad_descriptor_is_an_error);
    tcase_add_test(tc, tasks_run_in_order_and_can_be_cleared);
    tcase_add_test(tc, wake_from_another_thread);
    tcase_add_test(tc, signals_arrive_in_the_loop);
    tcase_add_test(tc, seed_makes_it_repeat);
    tcase_add_test(tc, out_of_memory);
}
