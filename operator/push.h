/* SPDX-License-Identifier: Apache-2.0 */
/* Serves proxies: tulle.discovery.v1.Discovery/Stream. A proxy subscribes to resources one by one;
 * each is compiled once for all clients that would see the same, sent when it changed, and counted
 * as in force when the proxy acknowledged that version.
 *
 * What waits for a slow proxy is a set of subscriptions, not a queue of messages: a push carries the
 * newest content of each, and at most one push is unanswered. */
#pragma once

#include "lib/http/grpc.h"
#include "mesh/compile/compile.h"

#define PUSH_PATH "/tulle.discovery.v1.Discovery/Stream"

struct push;
struct push_hooks {
    /* The counts or problems of an object may have changed. */
    void (*touched)(void *user, enum index_kind kind, struct slice ns, struct slice name);
    /* A proxy came or went. */
    void (*clients)(void *user);
    /* A push was acknowledged after so long. */
    void (*pushed)(void *user, int64_t ns, bool rejected);
    void *user;
    /* A proxy needs certificates of its namespace. */
    void (*secrets)(void *user, struct slice ns);
};
struct push_opts {
    struct index *index;      /* borrowed */
    const char *cluster_name; /* borrowed */
    bool any_pod; /* a pod that the index does not know is taken at its word (no API server) */
    int64_t quiet_ns, max_ns; /* debounce: 0 = 10 ms, 100 ms */
    struct push_hooks hooks;  /* each may be NULL */
};
int push_new(struct loop *loop, const struct push_opts *opts, struct push **ret, struct err *err);
/* Ends every stream. */
void push_free(struct push *p);
/* The trust bundle; copied. */
void push_set_roots(struct push *p, struct slice roots_pem);
/* Proxies with a certificate by another CA than this one renew it soon; 0: nobody has to. */
void push_set_issuer(struct push *p, uint32_t issuer, uint32_t renew_within_s);
/* Proxies that are connected; that acknowledged the Settings as they are now; whose certificate is by
 * that issuer. */
struct push_ca_tally {
    unsigned proxies, acked, held;
};
void push_ca_tally(struct push *p, uint32_t issuer, struct push_ca_tally *ret);
/* Before this, streams are turned away: an index that is not complete would take routes away. */
void push_set_ready(struct push *p);
/* The index changed. */
void push_changed(struct push *p, const struct index_changes *c);
/* A new stream of the peer with that SPIFFE id (empty: none, which is refused). It ends with the
 * certificate that it was authenticated by (civil time; 0: never): who has a newer one has come anew.
 * `issuer`: as tls_chan_peer_issuer. */
void push_open(struct push *p, struct grpc_stream *s, struct slice spiffe_id, int64_t not_after_ns,
               uint32_t issuer);

/* Proxies that are interested in an object at this generation. */
struct push_tally {
    uint32_t interested, acked, rejected;
    char reject_text[200];
};
void push_tally(struct push *p, enum index_kind kind, struct slice ns, struct slice name,
                struct push_tally *ret);
/* What compilation found wrong with an object, each once. */
void push_problems(struct push *p, enum index_kind kind, struct slice ns, struct slice name,
                   struct findings *f);

/* Does a proxy of the namespace need a certificate? */
bool push_needs_secrets(const struct push *p, struct slice ns);

struct push_stats {
    size_t clients, subscriptions, resources;
    uint64_t pushes, sent_bytes, compiles, rejects, resyncs, unchanged;
    uint64_t refused;               /* subscriptions: too many */
    uint64_t by_kind[PROG_KIND_LAST + 1];   /* resources in pushes */
};
struct push_stats push_stats(const struct push *p);
struct push_client_info {
    struct slice ns, pod, version;
    int64_t connected_ns; /* loop time */
    size_t subscriptions, pending;
    bool in_flight, rejected;
};
/* One proxy after the other; return false to stop. */
typedef bool push_client_fn(void *user, const struct push_client_info *info);
void push_each(const struct push *p, push_client_fn *fn, void *user);
