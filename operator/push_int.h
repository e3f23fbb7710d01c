/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of push share: resources (push_res.c), subscriptions to them (push_sub.c), what is said
 * and answered (push_talk.c), who is there (push_client.c), what they will want (push_warm.c). */
#pragma once

#include "lib/base/map.h"
#include "lib/base/vec.h"
#include "operator/push.h"
#include "operator/tokens.h"

struct client;
struct sub;

/* One compiled resource, shared by all clients that would see the same: `looks` (COMPILE_LOOKS_*) is
 * what its compilation looked at, so clients are of one class when they agree in that. A change may
 * make it look at more or less: then its clients part or join others (res_settle). */
struct res {
    uint8_t kind, looks;
    bool dirty;
    enum prog_state state;
    uint32_t hash;         /* of kind and key */
    struct slice key;
    const char *id;        /* the cache's: kind, class and key; NULL before it is there */
    struct wire_version version;
    struct slice payload;
    struct origin *origins;
    struct compile_problem *problems;
    struct slice *endpoint_keys;
    struct token_entry *deps, *by_object; /* by_object: origins, then problems */
    uint32_t n_origins, n_problems, n_endpoint_keys, n_deps, n_subs;
    struct arena arena;    /* of the above */
    struct sub *subs;
};

struct sub {
    struct client *client;
    struct res *res;
    struct sub *next, **pprev; /* of the resource */
    struct wire_version has;   /* what the proxy holds, by its word or by acknowledgement */
    struct wire_version sent;  /* in the unanswered push */
    bool holds, in_flight, pending, rejected;
    bool answered;             /* the state of `res` was acknowledged */
    bool flying_value;
    bool wanted;               /* asked for; not only a part of a service */
    bool needed;               /* mark of a sweep */
};

/* A client's subscriptions by kind and key: open addressing, for some are held by every client. */
struct subs {
    struct sub **slots;
    uint32_t cap, len;
};

/* A pod's labels. By SHA-256, for who may make pods must not get into the class of other labels. */
struct labels_id {
    unsigned char sum[20];
};

enum client_state { CLIENT_NEW, CLIENT_WAITS, CLIENT_LIVE };
struct client {
    struct push *push;
    struct client *next, **pprev;
    struct grpc_stream *stream;
    enum client_state state;
    char *spiffe, *ns, *pod, *version, *workload;
    struct ipaddr ip;
    struct labels_id labels;
    uint32_t issuer;           /* of its certificate */
    struct subs subs;
    uint32_t n_absent;         /* at most so many of them are of what is not there */
    int64_t counted_ns;        /* when that was counted last */
    bool refused_told;
    uint64_t nonce;            /* of the unanswered push, 0 = none */
    int64_t sent_ns, connected_ns;
    uint32_t n_pending;
    bool sweep, queued, rejected, warmed;
    struct client *queue_next;
    struct loop_timer timer;   /* pod awaited, or acknowledgement overdue */
    struct loop_timer expiry;  /* of the certificate */
    struct token_entry pod_token; /* its pod changed or went; owner NULL: not registered */
    bool pod_moved;
    struct buf early;          /* messages before the pod is known, each behind its length */
    uint64_t epoch;            /* of the tally that counted it */
    uint8_t verdict;
    char *reject_text;         /* NULL: none */
};

struct push {
    struct loop *loop;
    struct push_opts opts;
    char *roots;
    uint32_t issuer, renew_within_s;
    bool ready, freeing;
    struct map cache;          /* id -> struct res */
    struct tokens deps, objects, pods;
    VEC(struct res *) dirty;
    bool all_dirty, filter_changed, any_pod_moved;
    int64_t first_change_ns;   /* 0 = none waits */
    struct loop_timer timer;
    struct client *clients, *queue;
    struct loop_task pump;
    struct map warm;           /* namespace/workload -> struct warm */
    uint64_t last_nonce, epoch, n_orphans;
    struct push_stats stats;
};

/* Settings are compiled again, soon. */
void push_settings_changed(struct push *p);

/* --- push_res.c --- */
/* The resource of a client's class, made and compiled when it is new. NULL: a key that is none, or no
 * memory. */
struct res *res_get(struct push *p, const struct client *c, enum prog_kind kind, struct slice key);
/* After its last subscription went. */
void res_release(struct push *p, struct res *r);
void res_free(struct push *p, struct res *r);
/* Compile again and tell everybody whose view of it changed. It may be gone afterwards; no other is. */
void res_refresh(struct push *p, struct res *r);
uint32_t res_hash(enum prog_kind kind, struct slice key);
void res_mark(struct push *p, struct res *r);
void res_touch(struct push *p, const struct res *r);
uint64_t res_object_token(enum index_kind kind, struct slice ns, struct slice name);
/* Interest in Settings and Names is everybody's, and tells nothing about an object. */
static inline bool res_counts(const struct res *r)
{
    return r->kind != PROG_SETTINGS && r->kind != PROG_NAMES;
}

/* --- push_sub.c --- */
/* One after the other; start with NULL. None may be added or freed meanwhile. */
struct sub *subs_next(const struct subs *t, const struct sub *prev);
struct sub *sub_find(const struct client *c, enum prog_kind kind, struct slice key);
/* Found or made; NULL: too many, a key that is none, or no memory. */
struct sub *sub_add(struct client *c, enum prog_kind kind, struct slice key);
/* It was asked for just now: is it of what is not there, and one too many of those? */
bool sub_is_too_much(struct sub *s);
void sub_free(struct sub *s);
/* Its proxy has to be told. */
void sub_pend(struct sub *s);
/* Another resource of that kind and key is what the client sees from now on. */
void sub_move(struct sub *s, struct res *to);
/* For the end of a client: all of them go. */
void subs_fini(struct subs *t);
/* ENDPOINTS follow the services that name them. */
void client_sweep(struct client *c);

/* --- push_talk.c --- */
/* Send what is pending at the end of the turn. */
void client_queue(struct client *c);
void take_message(struct client *c, const struct wire_client *m);

/* --- push_client.c --- */
void client_free(struct client *c);
void labels_id(const struct ix_pod *pod, struct labels_id *ret);
/* Free it and leave its stream to the caller. */
void client_detach(struct client *c);
/* End the stream from this side. */
void client_fail(struct client *c, enum grpc_status status, const char *why);

/* --- push_warm.c --- */
void warm_learn(struct client *c, struct slice key);
void warm_send(struct client *c);
/* discovery: eager: every service that the client may see. */
void eager_send(struct client *c);
void warm_fini(struct push *p);
