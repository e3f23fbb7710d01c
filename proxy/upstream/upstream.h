/* SPDX-License-Identifier: Apache-2.0 */
/* Where requests and connections go: clusters with their hosts, the choice of a host, health, and
 * the dialling of connections. One set per worker, nothing shared.
 *
 * A cluster is found by name and lives as long as the worker knows a service that uses it, or
 * somebody holds it. Its hosts follow the endpoints; a host that is gone takes no new request and is
 * freed when its last connection is. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "lib/io/chan.h"
#include "lib/tls/tls.h"
#include "mesh/match/lb.h"
#include "mesh/match/outlier.h"
#include "mesh/match/program.h"

struct down_info;
struct know_news;
struct worker;
struct h1_up;
struct h2_stream;
struct h2_up;
struct up_conn;
struct up_attempt;

struct up_host {
    struct up_cluster *cluster; /* counted */
    struct sock_addr addr;
    char *path;                 /* of a unix socket that stands for the address; owned; NULL: none */
    struct slice identity;      /* SPIFFE id that the peer must show; owned; empty: cluster's SANs only */
    bool mtls;                  /* speaks mTLS */
    bool draining, gone;
    bool unshared;              /* its sidecar does not know shared connections */
    uint16_t group;             /* as mesh/match/locality.h has it */
    uint32_t weight;
    uint32_t active;            /* requests and TCP connections in flight */
    uint32_t refs;              /* the cluster's list, connections, attempts */
    struct h1_up *idle;         /* HTTP/1 connections, most recently used first */
    struct h2_up *h2;           /* HTTP/2 connections that may take a request, oldest first */
    struct outlier_state *outlier; /* owned; NULL: nothing has come of requests yet */
    uint32_t pos;               /* place in the cluster's live set; UINT32_MAX: not in it */
};

struct up_table; /* of consistent hashing, shared by all that hash the same hosts (hash.c) */
struct up_group { /* hosts of one priority, or of one share of a distribution */
    struct lb_set lb;
    uint32_t first, share; /* of the live set; of the traffic, relative to the sum */
    bool panic;            /* ejected hosts are used, too */
    struct up_table *table; /* made when it is needed */
};
/* Hosts that requests may go to now, group by group; one block. With consistent hashing ejected hosts
 * are in it, to be passed over: their keys alone move. */
struct up_live {
    uint32_t n, n_groups, shares; /* sum over the groups */
    struct up_group *groups;
    struct lb_candidate *candidates; /* parallel to hosts */
    struct up_host **hosts;
};

struct retry_window;
struct up_own { /* description of a built-in cluster */
    struct prog_cluster cluster;
    struct prog_policy policy;
    struct prog_tcp tcp;
    char name[];
};
struct up_cluster {
    struct worker *worker;
    uint32_t refs;
    struct prog_service *service; /* of whose clusters cfg is one; NULL for built-in clusters */
    const struct prog_cluster *cfg;
    struct up_own *own;           /* where cfg is of a built-in cluster */
    struct up_host **hosts;
    uint32_t n_hosts, cap_hosts;
    struct up_live *live;       /* NULL: to be gathered */
    int64_t next_return_ns;     /* when the first ejected host comes back */
    bool live_stale;
    uint32_t conns, requests, retries; /* in flight, for the limits */
    struct retry_window *ended;   /* owned; of a retry budget with an interval; NULL: none ended yet */
    struct up_attempt *pending;   /* waits for a connection, oldest first */
    struct up_attempt **pending_tail;
    uint32_t n_pending;
    uint32_t ejected;
    bool listed;                  /* in the worker's table */
    bool single;                  /* of one address that a client dialled, by a service's description */
};

/* The worker's cluster of this description, made or refreshed from `service`'s cluster number `i`.
 * One reference for the caller; NULL without memory. */
struct up_cluster *up_cluster_get(struct worker *w, struct prog_service *service, uint32_t i);
/* A cluster that is no service: one host, plaintext (the application, a pass-through address).
 * `name` as metrics and logs show it. Cached by name and address. */
struct up_cluster *up_cluster_direct(struct worker *w, const char *name, const struct sock_addr *addr);
/* The application behind an inbound connection: where the caller dialled, or where a Sidecar sends what
 * comes in on that port. NULL: no memory, or it cannot be one. */
struct up_cluster *up_cluster_app(struct worker *w, const struct down_info *info);
/* What the client dialled, where it chose the endpoint itself (headless services, PASSTHROUGH, hosts
 * without endpoints): the cluster's own TLS, where it names one, else the workload at that address as the
 * mesh knows it, mutual TLS included; plaintext only where it knows none. NULL: not known yet, or no
 * memory. */
struct up_cluster *up_cluster_dialled(struct worker *w, struct prog_service *service, uint32_t i,
                                      const struct sock_addr *addr);
struct up_cluster *up_cluster_ref(struct up_cluster *c);
void up_cluster_unref(struct up_cluster *c);
/* May another retry begin: by the retry budget, else maxRetries? */
bool up_may_retry(const struct up_cluster *c);
/* Follow a change of knowledge. Clusters of a service that is gone go with their last connection. */
void up_service_changed(struct worker *w, const struct know_news *n);
void up_endpoints_changed(struct worker *w, struct slice endpoints_key);
/* Are requests or connections under way to a cluster of this service? */
bool up_service_busy(const struct worker *w, const struct prog_service *service);
void up_fini(struct worker *w);
/* Clusters and hosts of this worker as text, for the admin page. */
void up_describe(struct worker *w, struct buf *out);

/* What a choice goes by; all zero: anything. */
struct up_choice {
    struct up_host *const *tried; /* avoided where another is left; compared, never followed */
    unsigned n_tried;
    bool hashed;   /* there is a key for consistent hashing: */
    uint64_t hash;
    bool elsewhere; /* another group than those that were tried, where there is one */
};
/* Choose a host. ERR_OK with *ret borrowed; ERR_NOT_FOUND: no endpoint (flag UH). `how` may be NULL. */
enum err_code up_pick(struct up_cluster *c, const struct up_choice *how, struct up_host **ret);
struct up_host *up_host_ref(struct up_host *h);
void up_host_unref(struct up_host *h);
/* A request or connection to this host begins and ends. */
void up_host_begin(struct up_host *h);
void up_host_end(struct up_host *h);
/* Tell what came of a request, for outlier ejection: HTTP status; 0 with `failed` when no answer came
 * (refused, reset, timed out), without it for a connection that was made. */
void up_host_result(struct up_host *h, unsigned status, bool failed);
/* The own place has changed: groups of hosts are told apart anew. */
void up_place_changed(struct worker *w);

/* Where a connection to the host leads: of a cluster that goes to a name's first address the host may have
 * moved on since. `c` may be NULL. */
struct sock_addr up_peer_addr(const struct up_host *h, const struct chan *c);
/* Is it the mesh's mutual TLS (not TLS that the cluster names)? */
bool up_mesh_tls(const struct up_host *h, const struct chan *c);
/* Whether a connection to this host is to be TLS. ERR_OK with *ret; ERR_DENIED when the cluster
 * demands mTLS and the host cannot (never plaintext instead). */
enum err_code up_host_tls(const struct up_host *h, bool *ret);
/* SHARED: HTTP/1.1 of many connections, or as HTTP1 where the peer does not know that (TULLE_SHARED_ALPN). */
enum up_alpn { UP_ALPN_TCP, UP_ALPN_HTTP1, UP_ALPN_HTTP2, UP_ALPN_SHARED };
/* Dial a host: TCP, and TLS over it where it is due. The channel reports CHAN_OPEN or CHAN_FAIL.
 * `src` may be NULL. */
int up_dial(struct up_host *h, enum up_alpn alpn, const struct sock_addr *src, struct chan **ret,
            struct err *err);

/* --- HTTP requests over pooled connections ------------------------------------------------------- */
enum up_fail {
    UP_FAIL_NONE,
    UP_FAIL_NO_HOST,    /* UH */
    UP_FAIL_NO_CLUSTER, /* NC */
    UP_FAIL_OVERFLOW,   /* UO */
    UP_FAIL_CONNECT,    /* UF */
    UP_FAIL_TLS,        /* UF, TLS refused; the detail says why */
    UP_FAIL_RESET,      /* UC: the connection ended before the answer was whole */
    UP_FAIL_PROTOCOL,   /* UPE */
    UP_FAIL_REMOTE_RESET, /* UR: HTTP/2, the server broke off the stream */
    UP_FAIL_REFUSED,      /* UR: HTTP/2, and provably did not look at it: may be sent again, whatever it is */
};
struct http_head;
struct up_attempt_ops {
    /* A connection is there: send the head (and what of the body is at hand). */
    void (*on_ready)(struct up_attempt *a);
    /* 1xx answers other than 101 come as heads with `interim` true. */
    void (*on_head)(struct up_attempt *a, struct http_head *head, bool interim);
    /* Returns false to pause: the attempt must be resumed with up_resume. The bytes are taken. */
    bool (*on_body)(struct up_attempt *a, struct slice bytes);
    /* The answer is whole; `trailers` may be NULL. The attempt is over. */
    void (*on_end)(struct up_attempt *a, struct http_head *trailers);
    /* The attempt is over. `untouched`: provably not processed (no byte of an answer, and the
     * connection was idle before or never opened). */
    void (*on_fail)(struct up_attempt *a, enum up_fail why, bool untouched, const char *detail);
    /* The send queue has room again. */
    void (*on_drain)(struct up_attempt *a);
    /* 101 was answered: raw bytes from now on (on_body, up_send_body, up_send_end). */
};
struct up_attempt {
    const struct up_attempt_ops *ops;
    struct up_cluster *cluster; /* counted */
    struct up_host *host;       /* counted; NULL until chosen */
    struct up_conn *conn;       /* NULL until assigned */
    struct h2_stream *stream;   /* HTTP/2: from the head to the end; the codec's */
    struct up_attempt *next, **prev; /* pending list */
    struct arena *arena;        /* where heads of answers are built */
    struct up_host *tried[4];
    unsigned n_tried;
    bool head_request, connect_request, upgrade_request; /* for the framing of the answer */
    bool hashed, elsewhere;     /* as struct up_choice has them */
    uint64_t hash;
    bool h2;                    /* over HTTP/2 */
    bool may_share;             /* HTTP/1.1 that may go on a shared connection (up_may_share) */
    bool shared;                /* and does: h2 is set, too */
    bool reused, answer_begun;  /* the codec's: the connection had carried others; a head came */
    bool once;                  /* not to be sent twice (RFC 9110 9.2.2): only on a connection that
                                   has not ended as far as the kernel knows */
    bool fresh;                 /* HTTP/1: on a new connection, if there may be one */
    bool over;
    bool counted;               /* in the cluster's requests */
    bool sent;                  /* the head went out at least in part */
};
/* Does this request go over HTTP/2 to a port of this protocol (PROG_AUTO also where the client's protocol is
 * wanted)? As Istio has it: a port that declares HTTP/2 gets it from every client, one that declares HTTP/1 gets
 * that, any other one what the client speaks. HTTP/2 has no upgrades. */
bool up_over_h2(enum prog_protocol protocol, const struct http_head *request);
/* May this HTTP/1.1 request share a connection to a sidecar with others? Not what may turn into something
 * else (upgrades, CONNECT), nor where the cluster counts connections or what goes over one. */
bool up_may_share(const struct up_cluster *c, const struct http_head *request);
/* Choose a host and get a connection to it. The outcome comes by callback, perhaps before this
 * returns. `a` must be zeroed but for ops, cluster (given), arena and tried. */
void up_start(struct up_attempt *a);
/* Whom the attempt's connection reached: the SPIFFE id that it showed, null in plaintext. Borrows from
 * the connection. */
struct slice up_peer(const struct up_attempt *a, bool *ret_tls);
/* And its address; of an attempt with a connection. */
struct sock_addr up_reached(const struct up_attempt *a);
/* Queue for sending; flushed by up_flush or when the turn ends. ERR_LIMIT: the queue is full, wait
 * for on_drain (the bytes were taken all the same). Another error of up_send_head: nothing was taken, the
 * head cannot be sent; up_cancel is due. */
enum err_code up_send_head(struct up_attempt *a, const struct http_head *head);
enum err_code up_send_body(struct up_attempt *a, struct slice bytes);
enum err_code up_send_end(struct up_attempt *a, const struct http_head *trailers);
void up_flush(struct up_attempt *a);
/* Read the answer on after on_body returned false. */
void up_resume(struct up_attempt *a);
/* Abandon; no callback follows. Releases what the attempt holds. Idempotent. */
void up_cancel(struct up_attempt *a);
