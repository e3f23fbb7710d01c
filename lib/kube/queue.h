/* SPDX-License-Identifier: Apache-2.0 */
/* Work queue of a controller: a key waits at most once, runs at most once at a time (an add while
 * it runs makes it run again afterwards), backs off per key from 5 ms to 1000 s when it fails, and
 * failures together are held to 10 per second with a burst of 100, as client-go's default rate
 * limiter does. Work may be asynchronous: `work` starts it, kube_queue_done ends it. */
#pragma once

#include "lib/base/slice.h"
#include "lib/io/loop.h"

/* What came of a key. */
enum kube_verdict_kind { KUBE_DONE, KUBE_AFTER, KUBE_RETRY };
struct kube_verdict {
    enum kube_verdict_kind kind;
    int64_t delay_ns; /* KUBE_AFTER */
};
static inline struct kube_verdict kube_done(void)
{
    return (struct kube_verdict){KUBE_DONE, 0};
}
/* Converged for now, look again later; forgets failures. */
static inline struct kube_verdict kube_after(int64_t delay_ns)
{
    return (struct kube_verdict){KUBE_AFTER, delay_ns};
}
/* Failed: again with back-off. */
static inline struct kube_verdict kube_retry(void)
{
    return (struct kube_verdict){KUBE_RETRY, 0};
}

struct kube_queue;
/* All may be NULL. Names as controller-runtime dashboards have them, label name = the queue's name.
 */
struct kube_queue_hooks {
    void (*queue_duration)(void *user, int64_t ns); /* workqueue_queue_duration_seconds */
    void (*work_duration)(void *user, int64_t ns);  /* workqueue_work_duration_seconds */
    void *user;
};
struct kube_queue_opts {
    const char *name;     /* borrowed for ever */
    unsigned concurrency; /* keys that may run at the same time; 0 = 1 */
    /* Start work on `key`; valid until kube_queue_done, which may be called inside. */
    void (*work)(void *user, struct slice key);
    void *user;
    struct kube_queue_hooks hooks;
};
struct kube_queue_stats {
    uint64_t adds, retries;    /* workqueue_adds_total, workqueue_retries_total */
    unsigned depth;            /* workqueue_depth: waiting to run now */
    unsigned delayed, running; /* waiting for their time; controller_runtime_active_workers */
    int64_t unfinished_ns;     /* workqueue_unfinished_work_seconds: sum over running keys */
    int64_t longest_ns;        /* workqueue_longest_running_processor_seconds */
};

int kube_queue_new(struct loop *loop, const struct kube_queue_opts *opts, struct kube_queue **ret,
                   struct err *err);
/* Not inside `work`; running work must not call kube_queue_done afterwards. */
void kube_queue_free(struct kube_queue *q);
/* Run the key as soon as possible (this turn's end at the earliest). -1: out of memory. */
int kube_queue_add(struct kube_queue *q, struct slice key);
/* Not before `delay_ns` from now; of several delays the earliest counts. */
int kube_queue_add_after(struct kube_queue *q, struct slice key, int64_t delay_ns);
void kube_queue_done(struct kube_queue *q, struct slice key, struct kube_verdict verdict);
/* Hold work back (a lost lease) and let it flow again; adds are kept meanwhile. */
void kube_queue_pause(struct kube_queue *q, bool paused);
struct kube_queue_stats kube_queue_stats(const struct kube_queue *q);

/* --- pure parts ------------------------------------------------------------------------------- */
/* 5 ms * 2^failures, at most 1000 s. */
int64_t kube_backoff_item(unsigned failures);
/* Token bucket: when may the next one go? Returns its time (>= now) and takes the token. */
struct kube_bucket {
    double per_s, burst, tokens;
    int64_t at_ns;
};
int64_t kube_bucket_take(struct kube_bucket *b, int64_t now_ns);
/* Growing wait of a failing activity: starts at `first`, doubles to `max`, each scaled by a uniform
 * factor in [1, 1 + jitter]; after `reset` without a call it starts anew. */
struct kube_backoff {
    int64_t first_ns, max_ns, reset_ns;
    double jitter;
    int64_t cur_ns, last_ns; /* state; zero = fresh */
};
int64_t kube_backoff_next(struct kube_backoff *b, int64_t now_ns, struct rnd *rnd);
void kube_backoff_reset(struct kube_backoff *b);
