/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread's knowledge: what was learned from the operator (or a compiled file), who asked
 * for what, and the telling of workers. It never touches a request. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "proxy/hostnames.h"
#include "proxy/know.h"
#include "proxy/mailbox.h"

struct worker;

enum {
    CONTROL_NEGATIVE_MAX = 1024,  /* what is wanted and not there; the oldest goes first */
    CONTROL_DROPPED_MAX = 1024,
    CONTROL_UNUSED_S = 600,       /* services and workloads that nobody used for so long go */
    CONTROL_SWEEP_S = 300,        /* how often is looked for them, while there are any */
};
/* One resource as the control thread holds it. What was dropped stays for a while as a mark: a push
 * that was on its way when the operator was told must not bring it back. */
struct known {
    enum prog_kind kind;
    enum prog_state state;
    bool answered;     /* false: wanted, no answer yet */
    bool dropped;      /* a mark; nothing is held */
    bool going;        /* will be dropped in this turn */
    bool held;         /* since asked_ns: workers have not been told yet, names are looked up */
    uint32_t used_sweep; /* the last sweep in which a worker used it */
    int64_t asked_ns;  /* when it was wanted, came, or was dropped */
    struct prog *prog; /* own reference; with PROG_VALUE */
    struct known_list *list;    /* the negative or the dropped ones, oldest first; NULL: none */
    struct known *next, **prev;
    uint32_t key_len;
    char key[];
};
struct known_list {
    struct known *head, **tail;
    size_t n;
};

struct control {
    struct loop *loop;
    struct mailbox mailbox;     /* from the workers */
    struct map known;           /* kind byte + key -> known */
    struct worker **workers;
    unsigned n_workers;
    struct prog_settings *settings; /* borrowed from `known` */
    struct prog_inbound *inbound;
    struct prog_names *names;
    bool ready;                 /* settings and inbound are known: workers may accept */
    int64_t learned_ns;         /* last time that something was learned; age is a metric */
    struct known_list negative; /* wanted and not there, or not answered */
    struct known_list dropped;
    struct loop_timer sweep_timer;
    uint32_t sweep, sweep_left; /* number; workers that have not answered */
    int64_t sweep_since_ns;
    bool sweep_failed;
    uint64_t n_unused, n_evicted; /* subscriptions that ended, for the metrics */
    /* Somebody wants a resource for the first time. NULL (no operator): it is absent. */
    void (*want)(void *user, const struct known *k);
    /* The same resource is wanted no more. NULL with `want` NULL. */
    void (*drop)(void *user, const struct known *k);
    /* After each batch, when it is stored and sent on. `first`: ready just now. */
    void (*learned)(void *user, bool first);
    /* After that: why a resource is of no use (-1, *err), or 0. May be NULL. */
    int (*judge)(void *user, enum prog_kind kind, struct slice key, struct err *err);
    struct hostnames hostnames; /* that services and endpoints name */
    uint32_t n_held;            /* resources */
    struct loop_timer held_timer;
    bool gateway; /* wants LISTENERS, too */
    uint64_t gateway_changes; /* of listeners and certificates */
    void *user;
};

int control_init(struct control *c, struct loop *loop, struct err *err);
void control_fini(struct control *c);
/* Workers are borrowed; all must be added before anything is learned. */
int control_add_worker(struct control *c, struct worker *w, struct err *err);

/* A worker met a key that it does not know (any thread). The answer comes as a know_batch in the
 * worker's mailbox; what is known already is answered at once. */
void control_want(struct control *c, struct worker *from, enum prog_kind kind, struct slice key);
/* The control thread itself wants a resource, for as long as control_need_no_more is not told that it
 * does not. */
void control_need(struct control *c, enum prog_kind kind, struct slice key);
void control_need_no_more(struct control *c, enum prog_kind kind,
                          bool (*unneeded)(void *user, struct slice key), void *user);
/* Store a batch and tell every worker (control thread). Takes the batch. */
void control_learn(struct control *c, struct know_batch *b);
/* Read a compiled file's bytes: every resource in it is learned, and what is not in it is absent. */
int control_learn_bundle(struct control *c, struct slice bytes, struct err *err);
/* Everything held, as a bundle (what the supervisor keeps for a restart). */
int control_save_bundle(const struct control *c, struct buf *ret, struct err *err);
/* Resources that are held or wanted. */
size_t control_held(const struct control *c);
/* NULL when neither held nor wanted. */
const struct known *control_find(const struct control *c, enum prog_kind kind, struct slice key);
