/* SPDX-License-Identifier: Apache-2.0 */
/* One worker thread: one loop, its own listeners (SO_REUSEPORT), its own view of the program, its
 * own connections. Nothing is shared with other workers but immutable resources and atomic
 * counters. */
#pragma once

#include "lib/base/buf.h"
#include "lib/io/loop.h"
#include "lib/tls/tls.h"
#include "proxy/know.h"
#include "proxy/mailbox.h"
#include "proxy/overload.h"

struct control;
struct telemetry;
struct mirror;
struct stream;

enum { WORKER_SCRATCH = 64 * 1024 };

/* Limits of the data path; one table in docs/limits.md. */
struct limits {
    uint32_t head_bytes; /* of a message head */
    uint32_t head_fields;
    uint32_t buffer_bytes;     /* per connection and direction, before reading stops */
    uint32_t retry_body_bytes; /* kept of a request's body for a retry */
    uint32_t connections;      /* downstream, per worker */
    uint32_t turn_bytes;       /* per connection and turn */
    int64_t head_timeout_ns;   /* from the first byte of a head to its last */
    int64_t idle_timeout_ns;   /* of a connection without a request */
    int64_t sniff_timeout_ns;  /* for a client that must speak first */
    int64_t write_timeout_ns;  /* for a client that takes nothing of its answer */
    uint32_t mirrors;          /* copies of requests under way, per worker */
    int64_t mirror_timeout_ns; /* for a copy, where its route has no timeout */
};
extern const struct limits limits_default;
/* The same but for what the environment of the sidecar says (TULLE_MAX_CONNECTIONS). */
const struct limits *limits_of_process(void);

/* Where connections come in. Behind the pod's redirect rules the destination is the kernel's to
 * tell; without them (laptop, tests, benchmarks) a listener stands for one fixed destination. */
struct listener {
    struct loop_io io;
    struct worker *worker;
    int fd; /* owned */
    bool inbound;
    struct sock_addr fixed; /* unset: SO_ORIGINAL_DST */
};

struct worker {
    struct loop *loop;
    unsigned id;
    const struct limits *limits;
    struct overload overload;
    struct know know;
    struct mailbox mailbox; /* from the control thread */
    struct control *control;
    struct telemetry *telemetry;
    struct map clusters;           /* key -> up_cluster */
    struct tls_ctx *server_tls;    /* inbound mTLS; NULL until there is an identity */
    struct tls_ctx *client_tls;    /* towards other workloads */
    char *scratch;                 /* WORKER_SCRATCH bytes; every read of this worker lands here */
    struct stream *free_streams;
    unsigned n_free_streams;
    struct mirror *mirrors; /* copies of requests under way */
    uint32_t n_mirrors;
    struct slice pod_namespace; /* where short host names resolve */
    struct sock_addr pod_address;
    struct listener *listeners;
    unsigned n_listeners;
    struct gates *gates; /* of a gateway, the newest; NULL: none (yet) */
    struct gate_listener *gate_listeners;
    bool gates_open;
    unsigned trusted_hops; /* numTrustedProxies, for gateways */
    struct down *downs; /* list of downstream connections, for draining */
    uint32_t n_downs;
    atomic_uint n_inbound, n_outbound; /* of them; read by the control thread while draining */
    int64_t drain_ns;                  /* drainDuration of the pod's ProxyConfig; -1: the mesh's */
    bool draining;                     /* inbound only: answers carry Connection: close */
    bool no_idle;                      /* draining, and nobody is left to answer another request */
    uint64_t requests, connections;    /* for the admin page and syscall gates */
};

/* New TLS contexts for connections from now on (references are taken). */
void worker_set_tls(struct worker *w, struct tls_ctx *server, struct tls_ctx *client);
/* Start and stop. `listeners` is an array of fd, inbound, fixed; copied, descriptors are taken
 * (also on failure). Connections are accepted once worker_open was called, so that none is answered
 * before there is a program: until then the kernel's backlog holds them. */
int worker_new(unsigned id, const struct clock *clock, const struct limits *limits,
               struct control *control, struct telemetry *telemetry,
               const struct listener *listeners, unsigned n_listeners, struct worker **ret,
               struct err *err);
int worker_open(struct worker *w, struct err *err);
/* Inbound drains: answers carry Connection: close; idle inbound connections go after a grace, as a
 * request may be on its way. Outbound goes on. */
void worker_drain(struct worker *w);
/* The same without the grace: the application has gone. */
void worker_drain_idle_now(struct worker *w);
/* How long an inbound connection may be idle while draining. */
int64_t worker_drain_grace(const struct worker *w);
void worker_free(struct worker *w);

/* The source address to dial from: 127.0.0.6 or ::6 towards the application (that is what the pod's
 * redirect rules let pass), NULL on the outbound side. Returns `storage` or NULL. */
const struct sock_addr *worker_app_source(const struct sock_addr *app, struct sock_addr *storage);
struct down_info;
const struct sock_addr *worker_dial_source(const struct down_info *info, const struct sock_addr *to,
                                           struct sock_addr *storage);
