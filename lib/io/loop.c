/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"

enum {
    BATCH = 128,     /* events taken from the kernel at a time */
    HEAP_ARITY = 4,  /* flat: half the levels of a binary heap, children share a cache line */
    FREE_ROUNDS = 8, /* tasks that add tasks while the loop is freed */
};

struct loop {
    const struct clock *clock;
    int64_t now_ns;
    int ep;
    bool is_virtual, stopped;
    struct loop_timer **heap;
    uint32_t heap_len, heap_cap;
    struct loop_task *tasks, **tasks_tail;
    int batch_pos, batch_len; /* events of this turn not delivered yet: [pos, len) */
    struct rnd rnd;
    struct epoll_event batch[BATCH];
};

int loop_new(const struct clock *clock, struct loop **ret, struct err *err)
{
    struct loop *loop = mem_zalloc(sizeof *loop);

    if (!loop)
        return err_set(err, ERR_NOMEM, "event loop");
    loop->clock = clock;
    loop->tasks_tail = &loop->tasks;
    loop->is_virtual = clock->virtual_now_ns != 0;
    loop->now_ns = clock_now(clock);
    rnd_init_system(&loop->rnd);
    loop->ep = epoll_create1(EPOLL_CLOEXEC);
    if (loop->ep < 0) {
        err_errno(err, errno, "epoll_create1");
        mem_free(loop);
        return -1;
    }
    *ret = loop;
    return 0;
}

static int tasks_run(struct loop *loop)
{
    struct loop_task *list = loop->tasks;
    int n = 0;

    /* The list moves to a local head, so that what a task adds waits for the next turn, while
     * loop_task_clear still unlinks from whichever list an element is in. */
    loop->tasks = NULL;
    loop->tasks_tail = &loop->tasks;
    if (list)
        list->prev = &list;
    while (list) {
        struct loop_task *t = list;

        list = t->next;
        if (list)
            list->prev = &list;
        t->next = NULL;
        t->prev = NULL;
        t->cb(t);
        n++;
    }
    return n;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    for (int i = 0; i < FREE_ROUNDS && loop->tasks; i++)
        tasks_run(loop);
    close(loop->ep);
    mem_free(loop->heap);
    mem_free(loop);
}

void loop_freep(struct loop **loop)
{
    loop_free(*loop);
    *loop = NULL;
}

int64_t loop_now(const struct loop *loop)
{
    return loop->now_ns;
}

int64_t loop_wall(const struct loop *loop)
{
    return clock_wall(loop->clock);
}

const struct clock *loop_clock(const struct loop *loop)
{
    return loop->clock;
}

struct rnd *loop_rnd(struct loop *loop)
{
    return &loop->rnd;
}

void loop_seed(struct loop *loop, uint64_t seed)
{
    rnd_init_seed(&loop->rnd, seed);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

int64_t loop_next_deadline(const struct loop *loop)
{
    return loop->heap_len ? loop->heap[0]->deadline_ns : INT64_MAX;
}

/* --- timers -------------------------------------------------------------------------------------
 */
static void heap_place(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    loop->heap[i] = t;
    t->pos = i + 1;
}

static void heap_up(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / HEAP_ARITY;

        if (loop->heap[parent]->deadline_ns <= t->deadline_ns)
            break;
        heap_place(loop, i, loop->heap[parent]);
        i = parent;
    }
    heap_place(loop, i, t);
}

static void heap_down(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    for (;;) {
        uint32_t first = i * HEAP_ARITY + 1, end = MIN(first + HEAP_ARITY, loop->heap_len);
        uint32_t best = first;

        if (first >= loop->heap_len)
            break;
        for (uint32_t k = first + 1; k < end; k++)
            if (loop->heap[k]->deadline_ns < loop->heap[best]->deadline_ns)
                best = k;
        if (loop->heap[best]->deadline_ns >= t->deadline_ns)
            break;
        heap_place(loop, i, loop->heap[best]);
        i = best;
    }
    heap_place(loop, i, t);
}

static void heap_fix(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    if (i > 0 && loop->heap[(i - 1) / HEAP_ARITY]->deadline_ns > t->deadline_ns)
        heap_up(loop, i, t);
    else
        heap_down(loop, i, t);
}

int loop_timer_at(struct loop *loop, struct loop_timer *t, int64_t deadline_ns,
                  void (*cb)(struct loop_timer *))
{
    if (t->pos) {
        assert(t->pos <= loop->heap_len && loop->heap[t->pos - 1] == t);
        t->deadline_ns = deadline_ns;
        t->cb = cb;
        heap_fix(loop, t->pos - 1, t);
        return 0;
    }
    if (loop->heap_len == loop->heap_cap) {
        uint32_t cap = loop->heap_cap ? loop->heap_cap * 2 : 16;
        struct loop_timer **heap = mem_realloc(loop->heap, cap * sizeof(struct loop_timer *));

        if (!heap)
            return -1;
        loop->heap = heap;
        loop->heap_cap = cap;
    }
    t->deadline_ns = deadline_ns;
    t->cb = cb;
    heap_up(loop, loop->heap_len++, t);
    return 0;
}

int loop_timer_in(struct loop *loop, struct loop_timer *t, int64_t delay_ns,
                  void (*cb)(struct loop_timer *))
{
    int64_t deadline;

    if (__builtin_add_overflow(loop->now_ns, MAX(delay_ns, 0), &deadline))
        deadline = INT64_MAX;
    return loop_timer_at(loop, t, deadline, cb);
}

void loop_timer_clear(struct loop *loop, struct loop_timer *t)
{
    uint32_t i = t->pos - 1;
    struct loop_timer *last;

    if (!t->pos)
        return;
    assert(i < loop->heap_len && loop->heap[i] == t);
    t->pos = 0;
    last = loop->heap[--loop->heap_len];
    if (last != t)
        heap_fix(loop, i, last);
}

/* Only timers that were due when the pass began: a callback that sets a timer for `now` again gets
 * its turn after the descriptors had theirs. */
static int timers_run(struct loop *loop)
{
    int64_t due = loop->now_ns;
    uint32_t budget = loop->heap_len;
    int n = 0;

    while (budget-- && loop->heap_len && loop->heap[0]->deadline_ns <= due) {
        struct loop_timer *t = loop->heap[0];

        loop_timer_clear(loop, t);
        t->cb(t);
        n++;
    }
    return n;
}

/* --- tasks --------------------------------------------------------------------------------------
 */
void loop_task_add(struct loop *loop, struct loop_task *t, void (*cb)(struct loop_task *))
{
    t->cb = cb;
    if (t->prev)
        return;
    t->next = NULL;
    t->prev = loop->tasks_tail;
    *loop->tasks_tail = t;
    loop->tasks_tail = &t->next;
}

void loop_task_clear(struct loop *loop, struct loop_task *t)
{
    if (!t->prev)
        return;
    if (loop->tasks_tail == &t->next)
        loop->tasks_tail = t->prev;
    *t->prev = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->next = NULL;
    t->prev = NULL;
}

/* --- descriptors --------------------------------------------------------------------------------
 */
static int io_ctl(struct loop *loop, struct loop_io *io, int fd, uint32_t events,
                  void (*cb)(struct loop_io *, unsigned), struct err *err)
{
    struct epoll_event ev = {.events = events, .data.ptr = io};
    int op = io->cb && io->fd == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int rc = epoll_ctl(loop->ep, op, fd, &ev);

    /* A library may have closed the descriptor and got the same number again, or the reverse. */
    if (rc < 0 && op == EPOLL_CTL_MOD && errno == ENOENT)
        rc = epoll_ctl(loop->ep, EPOLL_CTL_ADD, fd, &ev);
    else if (rc < 0 && op == EPOLL_CTL_ADD && errno == EEXIST)
        rc = epoll_ctl(loop->ep, EPOLL_CTL_MOD, fd, &ev);
    if (rc < 0)
        return err_errno(err, errno, "epoll_ctl(fd %d)", fd);
    io->fd = fd;
    io->cb = cb;
    return 0;
}

static uint32_t to_epoll(unsigned events)
{
    return (events & LOOP_READ ? EPOLLIN | EPOLLRDHUP : 0U) | (events & LOOP_WRITE ? EPOLLOUT : 0U);
}

int loop_io_add(struct loop *loop, struct loop_io *io, int fd, unsigned events,
                void (*cb)(struct loop_io *, unsigned), struct err *err)
{
    return io_ctl(loop, io, fd, to_epoll(events) | EPOLLET, cb, err);
}

int loop_io_level(struct loop *loop, struct loop_io *io, int fd, unsigned events,
                  void (*cb)(struct loop_io *, unsigned), struct err *err)
{
    return io_ctl(loop, io, fd, to_epoll(events), cb, err);
}

void loop_io_forget(struct loop *loop, struct loop_io *io)
{
    for (int i = loop->batch_pos; i < loop->batch_len; i++)
        if (loop->batch[i].data.ptr == io)
            loop->batch[i].data.ptr = NULL;
    io->fd = -1;
    io->cb = NULL;
}

void loop_io_del(struct loop *loop, struct loop_io *io)
{
    if (!io->cb || io->fd < 0)
        return;
    epoll_ctl(loop->ep, EPOLL_CTL_DEL, io->fd, NULL);
    loop_io_forget(loop, io);
}

static unsigned from_epoll(uint32_t ev)
{
    return (ev & EPOLLIN ? (unsigned)LOOP_READ : 0U) | (ev & EPOLLOUT ? (unsigned)LOOP_WRITE : 0U) |
           (ev & (EPOLLHUP | EPOLLRDHUP) ? (unsigned)LOOP_HUP : 0U) |
           (ev & EPOLLERR ? (unsigned)LOOP_ERROR : 0U);
}

static int events_run(struct loop *loop)
{
    int n = 0;

    while (loop->batch_pos < loop->batch_len) {
        struct epoll_event ev = loop->batch[loop->batch_pos++];
        struct loop_io *io = ev.data.ptr;

        if (!io)
            continue;
        io->cb(io, from_epoll(ev.events));
        n++;
    }
    loop->batch_pos = loop->batch_len = 0;
    return n;
}

/* --- turns --------------------------------------------------------------------------------------
 */
/* Milliseconds until the nearest deadline, rounded up so that a timer is due when we wake. */
static int wait_for(const struct loop *loop, int wait_ms)
{
    int64_t left, ms;

    if (loop->tasks)
        return 0;
    if (!loop->heap_len)
        return wait_ms;
    if (loop->is_virtual)
        return loop->heap[0]->deadline_ns <= clock_now(loop->clock) ? 0 : wait_ms;
    left = loop->heap[0]->deadline_ns - clock_now(loop->clock);
    if (left <= 0)
        return 0;
    ms = left / NS_PER_MS + (left % NS_PER_MS != 0);
    if (ms > INT_MAX)
        ms = INT_MAX;
    return wait_ms < 0 ? (int)ms : MIN((int)ms, wait_ms);
}

static int turn(struct loop *loop, int wait_ms, struct err *err)
{
    int ran, n = epoll_wait(loop->ep, loop->batch, BATCH, wait_for(loop, wait_ms));

    if (n < 0 && errno != EINTR)
        return err_errno(err, errno, "epoll_wait");
    loop->now_ns = clock_now(loop->clock);
    loop->batch_pos = 0;
    loop->batch_len = MAX(n, 0);
    ran = events_run(loop);
    ran += timers_run(loop);
    return ran + tasks_run(loop);
}

int loop_turn(struct loop *loop, int wait_ms, struct err *err)
{
    return turn(loop, loop->is_virtual ? 0 : wait_ms, err);
}

int loop_run(struct loop *loop, struct err *err)
{
    loop->stopped = false;
    while (!loop->stopped)
        if (turn(loop, -1, err) < 0)
            return -1;
    return 0;
}

/* --- wake-ups -----------------------------------------------------------------------------------
 */
static void wake_ready(struct loop_io *io, unsigned events)
{
    struct loop_wake *w = CONTAINER_OF(io, struct loop_wake, io);
    uint64_t count;

    (void)events;
    /* Read before the callback: what is sent while it runs makes another callback. */
    if (read(io->fd, &count, sizeof count) == (ssize_t)sizeof count)
        w->cb(w);
}

int loop_wake_init(struct loop *loop, struct loop_wake *w, void (*cb)(struct loop_wake *),
                   struct err *err)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    *w = (struct loop_wake){.io = {.fd = -1}, .loop = loop, .cb = cb};
    if (fd < 0)
        return err_errno(err, errno, "eventfd");
    if (loop_io_level(loop, &w->io, fd, LOOP_READ, wake_ready, err) < 0) {
        close(fd);
        return -1;
    }
    return 0;
}

void loop_wake_fini(struct loop_wake *w)
{
    int fd = w->io.fd;

    if (!w->loop || fd < 0)
        return;
    loop_io_del(w->loop, &w->io);
    close(fd);
}

void loop_wake_send(struct loop_wake *w)
{
    int saved = errno;
    uint64_t one = 1;
    ssize_t rc;

    /* EAGAIN means that the counter is full: a wake-up is pending anyway. */
    do
        rc = write(w->io.fd, &one, sizeof one);
    while (rc < 0 && errno == EINTR);
    errno = saved;
}

/* --- signals ------------------------------------------------------------------------------------
 */
static void signal_ready(struct loop_io *io, unsigned events)
{
    struct loop_signal *s = CONTAINER_OF(io, struct loop_signal, io);
    struct signalfd_siginfo info;

    (void)events;
    /* One a turn: the callback may take the object out; level-triggered readiness brings the rest.
     */
    if (read(io->fd, &info, sizeof info) == (ssize_t)sizeof info)
        s->cb(s, (int)info.ssi_signo);
}

int loop_signal_init(struct loop *loop, struct loop_signal *s, const int *signos, int n,
                     void (*cb)(struct loop_signal *, int signo), struct err *err)
{
    sigset_t set;
    int fd, rc;

    *s = (struct loop_signal){.io = {.fd = -1}, .loop = loop, .cb = cb};
    sigemptyset(&set);
    for (int i = 0; i < n; i++)
        sigaddset(&set, signos[i]);
    rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc)
        return err_errno(err, rc, "pthread_sigmask");
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "signalfd");
    if (loop_io_level(loop, &s->io, fd, LOOP_READ, signal_ready, err) < 0) {
        close(fd);
        return -1;
    }
    return 0;
}

void loop_signal_fini(struct loop_signal *s)
{
    int fd = s->io.fd;

    if (!s->loop || fd < 0)
        return;
    loop_io_del(s->loop, &s->io);
    close(fd);
}
