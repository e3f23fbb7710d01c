/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/queue.h"

#include "lib/base/map.h"
#include "lib/base/mem.h"

/* --- pure parts ------------------------------------------------------------------------------- */
int64_t kube_backoff_item(unsigned failures)
{
    const int64_t first = 5 * NS_PER_MS, max = 1000 * NS_PER_S;
    if (failures > 40)
        return max;
    int64_t wait = first << failures;
    return wait > max ? max : wait;
}

int64_t kube_bucket_take(struct kube_bucket *b, int64_t now_ns)
{
    if (b->at_ns < now_ns || b->at_ns == 0) {
        double gained =
            b->at_ns ? (double)(now_ns - b->at_ns) / (double)NS_PER_S * b->per_s : b->burst;
        b->tokens = MIN(b->tokens + gained, b->burst);
        b->at_ns = now_ns;
    }
    b->tokens -= 1; /* below zero: taken in advance */
    if (b->tokens >= 0)
        return now_ns;
    return now_ns + (int64_t)(-b->tokens / b->per_s * (double)NS_PER_S);
}

int64_t kube_backoff_next(struct kube_backoff *b, int64_t now_ns, struct rnd *rnd)
{
    if (b->cur_ns == 0 || now_ns - b->last_ns > b->reset_ns)
        b->cur_ns = b->first_ns;
    int64_t wait = b->cur_ns;
    wait += (int64_t)((double)wait * b->jitter * ((double)rnd_u32(rnd) / 4294967296.0));
    b->cur_ns = MIN(b->cur_ns * 2, b->max_ns);
    b->last_ns = now_ns;
    return wait;
}

void kube_backoff_reset(struct kube_backoff *b)
{
    b->cur_ns = 0;
}

/* --- the queue -------------------------------------------------------------------------------- */
/* clang-format off */
#define ITEM_STATES(X)                                                \
    X(IDLE,    "kept for its failure count or its delay only")        \
    X(READY,   "waits to run")                                        \
    X(RUNNING, "runs")                                                \
    X(AGAIN,   "runs, and was added meanwhile")
/* clang-format on */
enum item_state {
#define X(name, meaning) ITEM_##name,
    ITEM_STATES(X)
#undef X
};

struct item {
    struct kube_queue *q;
    struct item *next, **prev; /* in q->ready or q->running */
    struct loop_timer timer;   /* a delayed add */
    int64_t ready_ns;          /* when it became READY */
    int64_t start_ns;          /* when it started to run */
    enum item_state state;
    unsigned failures;
    uint32_t key_len;
    char key[];
};

struct item_list {
    struct item *first, **last;
    unsigned len;
};

struct kube_queue {
    struct loop *loop;
    struct kube_queue_opts opts;
    struct map items; /* key -> item */
    struct item_list ready, running;
    struct loop_task task;
    struct kube_bucket bucket;
    uint64_t adds, retries;
    unsigned delayed;
    bool paused;
};

static void list_add(struct item_list *l, struct item *it)
{
    if (!l->last)
        l->last = &l->first;
    it->next = NULL;
    it->prev = l->last;
    *l->last = it;
    l->last = &it->next;
    l->len++;
}

static void list_del(struct item_list *l, struct item *it)
{
    *it->prev = it->next;
    if (it->next)
        it->next->prev = it->prev;
    else
        l->last = it->prev;
    it->prev = NULL;
    l->len--;
}

int kube_queue_new(struct loop *loop, const struct kube_queue_opts *opts, struct kube_queue **ret,
                   struct err *err)
{
    struct kube_queue *q = mem_zalloc(sizeof *q);
    if (!q)
        return err_set(err, ERR_NOMEM, "queue %s", opts->name);
    q->loop = loop;
    q->opts = *opts;
    if (q->opts.concurrency == 0)
        q->opts.concurrency = 1;
    q->bucket = (struct kube_bucket){.per_s = 10, .burst = 100};
    *ret = q;
    return 0;
}

void kube_queue_free(struct kube_queue *q)
{
    if (!q)
        return;
    for (struct map_entry *e = NULL; (e = map_next(&q->items, e));) {
        struct item *it = e->value;
        loop_timer_clear(q->loop, &it->timer);
        mem_free(it);
    }
    map_fini(&q->items);
    loop_task_clear(q->loop, &q->task);
    mem_free(q);
}

static struct item *item_of(struct kube_queue *q, struct slice key)
{
    struct item *it = map_get(&q->items, key);
    if (it)
        return it;
    it = mem_zalloc(sizeof *it + key.len + 1);
    if (!it)
        return NULL;
    it->q = q;
    it->key_len = (uint32_t)key.len;
    if (key.len)
        memcpy(it->key, key.p, key.len);
    if (map_put(&q->items, key, it, NULL) < 0) {
        mem_free(it);
        return NULL;
    }
    return it;
}

static struct slice item_key(const struct item *it)
{
    return slice_of(it->key, it->key_len);
}

/* Forget an item that nobody waits for. */
static void item_drop_if_idle(struct item *it)
{
    struct kube_queue *q = it->q;
    if (it->state != ITEM_IDLE || it->failures || loop_timer_is_set(&it->timer))
        return;
    map_remove(&q->items, item_key(it));
    mem_free(it);
}

static void run(struct loop_task *t)
{
    struct kube_queue *q = CONTAINER_OF(t, struct kube_queue, task);
    int64_t now = loop_now(q->loop);
    /* At most what is ready now: keys added by this work run in the next turn. */
    for (unsigned n = q->ready.len; n && !q->paused && q->ready.first; n--) {
        if (q->running.len >= q->opts.concurrency)
            break;
        struct item *it = q->ready.first;
        list_del(&q->ready, it);
        list_add(&q->running, it);
        it->state = ITEM_RUNNING;
        it->start_ns = now;
        if (q->opts.hooks.queue_duration)
            q->opts.hooks.queue_duration(q->opts.hooks.user, now - it->ready_ns);
        q->opts.work(q->opts.user, item_key(it));
    }
}

static void wake(struct kube_queue *q)
{
    if (q->ready.first && !q->paused && q->running.len < q->opts.concurrency)
        loop_task_add(q->loop, &q->task, run);
}

static void item_ready(struct item *it)
{
    struct kube_queue *q = it->q;
    switch (it->state) {
    case ITEM_IDLE:
        it->state = ITEM_READY;
        it->ready_ns = loop_now(q->loop);
        list_add(&q->ready, it);
        q->adds++;
        wake(q);
        break;
    case ITEM_RUNNING:
        it->state = ITEM_AGAIN;
        q->adds++;
        break;
    case ITEM_READY:
    case ITEM_AGAIN:
        break; /* waits already: that run will see the newest state */
    }
}

int kube_queue_add(struct kube_queue *q, struct slice key)
{
    struct item *it = item_of(q, key);
    if (!it)
        return -1;
    item_ready(it);
    return 0;
}

static void delay_over(struct loop_timer *t)
{
    struct item *it = CONTAINER_OF(t, struct item, timer);
    it->q->delayed--;
    item_ready(it);
}

static int item_later(struct item *it, int64_t delay_ns)
{
    struct kube_queue *q = it->q;
    if (delay_ns <= 0) {
        item_ready(it);
        return 0;
    }
    int64_t at = loop_now(q->loop) + delay_ns;
    if (loop_timer_is_set(&it->timer)) {
        if (it->timer.deadline_ns <= at)
            return 0;
        q->delayed--;
    }
    if (loop_timer_at(q->loop, &it->timer, at, delay_over) < 0) {
        item_ready(it); /* no memory for a timer: sooner beats never */
        return -1;
    }
    q->delayed++;
    return 0;
}

int kube_queue_add_after(struct kube_queue *q, struct slice key, int64_t delay_ns)
{
    struct item *it = item_of(q, key);
    return it ? item_later(it, delay_ns) : -1;
}

void kube_queue_done(struct kube_queue *q, struct slice key, struct kube_verdict verdict)
{
    struct item *it = map_get(&q->items, key);
    if (!it || (it->state != ITEM_RUNNING && it->state != ITEM_AGAIN))
        return;
    bool again = it->state == ITEM_AGAIN;
    int64_t now = loop_now(q->loop);
    list_del(&q->running, it);
    it->state = ITEM_IDLE;
    if (q->opts.hooks.work_duration)
        q->opts.hooks.work_duration(q->opts.hooks.user, now - it->start_ns);
    if (verdict.kind == KUBE_RETRY) {
        int64_t wait = kube_backoff_item(it->failures++);
        int64_t together = kube_bucket_take(&q->bucket, now) - now;
        q->retries++;
        item_later(it, MAX(wait, together));
    } else {
        it->failures = 0;
        if (verdict.kind == KUBE_AFTER)
            item_later(it, verdict.delay_ns);
    }
    if (again && it->state == ITEM_IDLE) {
        q->adds--; /* counted when it was added */
        item_ready(it);
    }
    wake(q);
    item_drop_if_idle(it);
}

void kube_queue_pause(struct kube_queue *q, bool paused)
{
    q->paused = paused;
    wake(q);
}

struct kube_queue_stats kube_queue_stats(const struct kube_queue *q)
{
    struct kube_queue_stats s = {.adds = q->adds,
                                 .retries = q->retries,
                                 .depth = q->ready.len,
                                 .delayed = q->delayed,
                                 .running = q->running.len};
    int64_t now = loop_now(q->loop);
    for (const struct item *it = q->running.first; it; it = it->next) {
        s.unfinished_ns += now - it->start_ns;
        s.longest_ns = MAX(s.longest_ns, now - it->start_ns);
    }
    return s;
}
