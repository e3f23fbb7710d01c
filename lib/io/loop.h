/* SPDX-License-Identifier: Apache-2.0 */
/* One event loop per thread: epoll (edge-triggered), timers, end-of-turn tasks, signals, wake-ups
 * from other threads. Everything is embedded in the caller's object; the loop allocates nothing per
 * event. Callbacks never block and never call loop_run.
 *
 * Closing is safe anywhere: objects are taken out of the loop at once, and their memory goes in a
 * task at the end of the turn (loop_task), so that a later event of the same batch finds a closed
 * object, not a freed one. With a virtual clock loop_turn never sleeps: when no descriptor is ready
 * it returns, and the test advances the clock; loop_run then waits for descriptors alone, as time
 * passes only when somebody advances it. An idle loop sleeps without limit: no tick. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/rand.h"

struct loop;

/* A new loop with its own epoll descriptor. `clock` is borrowed for the loop's life. */
int loop_new(const struct clock *clock, struct loop **ret, struct err *err);
/* Runs the tasks that wait (memory of objects closed last), then frees the loop. Objects still in
 * it must not be touched afterwards. NULL is fine. */
void loop_free(struct loop *loop);
void loop_freep(struct loop **loop);
/* Monotonic time of the current turn (one clock read a turn) and civil time (read each call). */
int64_t loop_now(const struct loop *loop);
int64_t loop_wall(const struct loop *loop);
const struct clock *loop_clock(const struct loop *loop);
/* Seeded from the system unless loop_seed was called (tests). */
struct rnd *loop_rnd(struct loop *loop);
void loop_seed(struct loop *loop, uint64_t seed);
/* Run until loop_stop. -1 only when epoll itself fails. */
int loop_run(struct loop *loop, struct err *err);
/* One turn: wait at most `wait_ms` (-1 = until something happens), dispatch, timers, tasks.
 * Returns the number of callbacks that ran, -1 on failure. */
int loop_turn(struct loop *loop, int wait_ms, struct err *err);
void loop_stop(struct loop *loop);
/* Nearest timer deadline in ns, INT64_MAX when none. */
int64_t loop_next_deadline(const struct loop *loop);

/* --- descriptors ------------------------------------------------------------------------------ */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HUP = 4, LOOP_ERROR = 8 };
struct loop_io {
    int fd; /* -1 when not registered */
    void (*cb)(struct loop_io *io, unsigned events);
};
/* Register edge-triggered for `events` (LOOP_READ | LOOP_WRITE); a descriptor that is ready already
 * reports in the next turn. */
int loop_io_add(struct loop *loop, struct loop_io *io, int fd, unsigned events,
                void (*cb)(struct loop_io *, unsigned), struct err *err);
/* As loop_io_add, level-triggered (listeners, descriptors of libraries such as libcurl).
 * Calling it again for the same io changes `events`. */
int loop_io_level(struct loop *loop, struct loop_io *io, int fd, unsigned events,
                  void (*cb)(struct loop_io *, unsigned), struct err *err);
/* Take out; pending events of this turn are dropped. Does not close the descriptor. Idempotent;
 * fine on a zero-initialised io. */
void loop_io_del(struct loop *loop, struct loop_io *io);
/* As loop_io_del for a descriptor that the caller closes right now and that has no duplicate: the
 * kernel takes it out by itself, which saves a syscall per connection. */
void loop_io_forget(struct loop *loop, struct loop_io *io);

/* --- timers: a heap; set, re-set and clear in O(log n); zero-initialised is idle ---------------
 */
struct loop_timer {
    int64_t deadline_ns;
    uint32_t pos; /* place in the heap + 1; 0 = idle */
    void (*cb)(struct loop_timer *t);
};
/* Fires once at or after `deadline_ns` (monotonic). May be called on a running timer. -1 only when
 * the heap cannot grow. loop_timer_in counts from loop_now. */
int loop_timer_at(struct loop *loop, struct loop_timer *t, int64_t deadline_ns,
                  void (*cb)(struct loop_timer *));
int loop_timer_in(struct loop *loop, struct loop_timer *t, int64_t delay_ns,
                  void (*cb)(struct loop_timer *));
void loop_timer_clear(struct loop *loop, struct loop_timer *t);
static inline bool loop_timer_is_set(const struct loop_timer *t)
{
    return t->pos != 0;
}

/* --- tasks: run once at the end of this turn (of the next, when added by a task) ---------------
 * In the order of adding. Adding a task that waits already changes its callback only. */
struct loop_task {
    struct loop_task *next, **prev; /* prev NULL = idle */
    void (*cb)(struct loop_task *t);
};
void loop_task_add(struct loop *loop, struct loop_task *t, void (*cb)(struct loop_task *));
void loop_task_clear(struct loop *loop, struct loop_task *t);

/* --- wake-ups from other threads --- */
struct loop_wake {
    struct loop_io io;
    struct loop *loop;
    void (*cb)(struct loop_wake *w);
};
int loop_wake_init(struct loop *loop, struct loop_wake *w, void (*cb)(struct loop_wake *),
                   struct err *err);
void loop_wake_fini(struct loop_wake *w);
/* Any thread, async-signal-safe; several calls before the turn give one callback. */
void loop_wake_send(struct loop_wake *w);

/* --- signals (signalfd; the signal is blocked in this thread) --- */
struct loop_signal {
    struct loop_io io;
    struct loop *loop;
    void (*cb)(struct loop_signal *s, int signo);
};
int loop_signal_init(struct loop *loop, struct loop_signal *s, const int *signos, int n,
                     void (*cb)(struct loop_signal *, int signo), struct err *err);
void loop_signal_fini(struct loop_signal *s);
