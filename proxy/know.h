/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker knows of the mesh: its own references to the resources that the control thread has
 * learned. Reading takes no lock. What is not known yet is asked for at the first use, and a
 * connection or request waits for the answer, bounded by the mesh's discoveryWait; unanswered it
 * fails by name, never a silent pass-through. */
#pragma once

#include "lib/base/map.h"
#include "lib/io/loop.h"
#include "mesh/match/program.h"
#include "proxy/mailbox.h"

enum know_state {
    KNOW_UNASKED,
    KNOW_WAITING,  /* asked, no answer yet */
    KNOW_VALUE,
    KNOW_ABSENT,   /* the operator says that there is no such thing */
    KNOW_WITHHELD, /* there is, but it is not fit for use yet, and nothing older is held */
};

struct know_waiter {
    struct know_waiter *next, **prev; /* prev NULL: idle */
    struct loop_timer timer;
    struct know *know;
    /* The state that was waited for; KNOW_WAITING when the wait timed out. Runs once. */
    void (*cb)(struct know_waiter *w, enum know_state state);
};

struct know_entry {
    enum know_state state;
    struct prog *prog; /* own reference; with VALUE */
    struct know_waiter *waiters;
    int64_t used_ns;   /* last look-up, or when it came */
};

enum know_forget {
    KNOW_KEEP,
    KNOW_FORGET_UNUSED, /* unless it was used after `since_ns`: then it is asked for anew */
    KNOW_FORGET_NOW,    /* who waits for it is told that the wait timed out */
};

/* One resource on its way from the control thread to a worker. */
struct know_news {
    enum prog_kind kind;
    enum prog_state state;
    enum know_forget forget; /* not KNOW_KEEP: nobody is subscribed to it any more */
    int64_t since_ns;        /* monotonic */
    char *key;               /* owned, NUL-terminated */
    size_t key_len;
    struct prog *prog;       /* one reference, given */
    struct prog *old;        /* what it replaced, set by know_apply; one reference */
};
/* A batch takes effect at once. Freed by know_apply's caller with know_batch_free. */
struct know_batch {
    struct mail mail;
    struct know_news *news;
    size_t n;
};
void know_batch_free(struct know_batch *b);
/* Add to a batch; the key is copied, the reference is taken (also on failure). */
int know_batch_add(struct know_batch *b, enum prog_kind kind, enum prog_state state,
                   struct slice key, struct prog *prog);
/* Add the order to forget a resource. */
int know_batch_forget(struct know_batch *b, enum prog_kind kind, struct slice key,
                      enum know_forget how, int64_t since_ns);

struct know {
    struct loop *loop;
    struct map services, endpoints, workloads; /* key -> know_entry */
    struct prog_settings *settings;            /* NULL until known */
    struct prog_inbound *inbound;
    struct know_waiter *ready_waiters;         /* for settings and inbound */
    /* Ask the control thread for a resource; set by the worker. */
    void (*ask)(void *user, enum prog_kind kind, struct slice key);
    /* After a batch: services or endpoints that changed (called per item, after all are in place). */
    void (*changed)(void *user, const struct know_news *news);
    /* Is traffic under way on the strength of this service? May be NULL. */
    bool (*busy)(void *user, const struct prog_service *service);
    void *user;
};

void know_init(struct know *k, struct loop *loop);
void know_fini(struct know *k);
/* Apply a batch: swap references, call `changed` for each, then wake the waiters. */
void know_apply(struct know *k, struct know_batch *b);
/* Services and workloads that are in use: looked up after `since_ns` (monotonic), waited for, or busy.
 * -1 without memory. */
int know_used(const struct know *k, int64_t since_ns, struct know_batch *ret);

/* Look up, asking for it at the first call. With KNOW_VALUE *ret borrows until the loop's turn ends
 * (take a reference to keep it). */
enum know_state know_service(struct know *k, struct slice key, struct prog_service **ret);
enum know_state know_workload(struct know *k, struct slice address, struct prog_workload **ret);
/* What is held now, without asking, which is no use of it; NULL when nothing. */
struct prog_endpoints *know_endpoints(const struct know *k, struct slice key);
struct prog_service *know_held_service(const struct know *k, struct slice key);
/* Wait for the answer about a service (or workload) that is KNOW_WAITING. */
void know_wait_service(struct know *k, struct slice key, struct know_waiter *w,
                       void (*cb)(struct know_waiter *, enum know_state));
void know_wait_workload(struct know *k, struct slice address, int64_t wait_ns,
                        struct know_waiter *w, void (*cb)(struct know_waiter *, enum know_state));
void know_wait_cancel(struct know_waiter *w);
/* Is there a service of this host (lower case, without port) or address (raw bytes) in the mesh? */
/* May something of the mesh have that address? Then the operator is asked who it is. */
bool know_asks_for(const struct know *k, const struct ipaddr *ip);
bool know_in_mesh(const struct know *k, struct slice host_or_address);
int64_t know_wait_ns(const struct know *k);
