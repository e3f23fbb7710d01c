/* SPDX-License-Identifier: Apache-2.0 */
/* What came of each request and connection: one record at its end, from which metrics and the access
 * log come. Records are made on the worker; a peer's labels may arrive a little later, and then the
 * record waits for them, never the request. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/io/sock.h"
#include "mesh/match/outlier.h"

struct down;
struct http_head;
struct metrics;
struct metrics_row;
struct telemetry;
struct worker;

/* Response flags as Envoy names them; users grep for these. */
/* clang-format off */
#define RESPONSE_FLAGS(X)                                         \
    X(UH,  NoHealthyUpstream,             "no healthy upstream host")                       \
    X(UF,  UpstreamConnectionFailure,     "upstream connection failure")                    \
    X(UO,  UpstreamOverflow,              "upstream overflow: a circuit breaker's limit")   \
    X(NR,  NoRouteFound,                  "no route")                                       \
    X(NC,  NoClusterFound,                "no such cluster, or it is withheld")             \
    X(URX, UpstreamRetryLimitExceeded,    "the retry or connect attempt limit was reached") \
    X(UT,  UpstreamRequestTimeout,        "upstream request timeout")                       \
    X(UC,  UpstreamConnectionTermination, "upstream connection termination")                \
    X(UR,  UpstreamRemoteReset,           "upstream remote reset")                          \
    X(UPE, UpstreamProtocolError,         "upstream protocol error")                        \
    X(DC,  DownstreamConnectionTermination, "downstream connection termination")            \
    X(DPE, DownstreamProtocolError,       "downstream protocol error")                      \
    X(DI,  DelayInjected,                 "delayed by fault injection")                     \
    X(FI,  FaultInjected,                 "aborted by fault injection")                     \
    X(LR,  LocalReset,                    "local reset")                                    \
    X(RL,  RateLimited,                   "rate limited")                                   \
    X(UAEX,UnauthorizedExternalService,   "denied by the external authorizer")              \
    X(OM,  OverloadManagerTerminated,     "overload: a limit of this proxy was reached")
/* clang-format on */
enum {
#define X(name, long_name, meaning) FLAG_BIT_##name,
    RESPONSE_FLAGS(X)
#undef X
        FLAG_COUNT,
};
enum {
#define X(name, long_name, meaning) FLAG_##name = 1u << FLAG_BIT_##name,
    RESPONSE_FLAGS(X)
#undef X
};
/* "UF,URX", or "-" for none. Returns ret. */
char *response_flags_text(unsigned flags, char ret[64]);

/* One finished request (or TCP connection). All slices are borrowed for the call. */
struct record {
    bool inbound, tcp, grpc;
    bool mtls;                     /* inbound: the caller's; outbound: towards the upstream */
    int64_t start_wall_ns, duration_ns, upstream_ns; /* upstream_ns: to its head; -1: none */
    int64_t first_byte_ns;         /* from the request's begin to the answer's head; -1: none */
    struct slice method, path, authority, user_agent, forwarded_for, request_id, sni;
    uint64_t connection;           /* down_info.id */
    unsigned attempts;             /* how often the request was sent or tried to be */
    /* For the access log: of the request (NULL: TCP), of the answer (what telemetry_keep kept of it, or
     * our own), the answer's trailers. */
    const struct http_head *head, *answer, *trailers;
    const char *protocol;          /* "HTTP/1.1", "-" for TCP */
    struct slice grpc_status;
    unsigned status;               /* 0: none was sent */
    unsigned flags;
    const char *details;           /* response_code_details; NULL: "-" */
    const char *upstream_failure;  /* transport failure reason; NULL: "-" */
    const char *termination;       /* connection termination details; NULL: "-" */
    uint64_t bytes_received, bytes_sent;
    uint64_t messages_received, messages_sent; /* of gRPC */
    struct slice cluster, route;
    struct sock_addr peer, orig, upstream;
    struct slice peer_principal;   /* inbound: the caller's id; outbound: the upstream's */
    struct slice service_host, service_name, service_namespace;
};
/* What the registry of a proxy with `n_workers` holds. */
int telemetry_registry(unsigned n_workers, struct metrics **ret, struct err *err);
/* A worker's end of it: shard `worker id` of the registry, access log to `log_fd` (-1: none). */
int telemetry_new(struct metrics *metrics, int log_fd, struct worker *w, struct err *err);
/* Also writes what is left of the access log. */
void telemetry_free(struct worker *w);
void telemetry_record(struct worker *w, const struct record *r);
/* What the access log will want of an answer's head, copied to `arena`; NULL when it wants nothing of it
 * (or without memory). The head of an answer is gone long before the request's record is written. */
const struct http_head *telemetry_keep(struct worker *w, const struct http_head *answer,
                                       struct arena *arena);
/* Free the memory of series that metrics_age retired. Worker's thread. */
void telemetry_reap(struct worker *w);
/* An age of series passes at the first scrape after so long; unused ones are retired after six. */
enum { TELEMETRY_AGE_S = 600, TELEMETRY_AGES = 6 };
/* A connection that was refused before it carried anything. */
void telemetry_refused(struct worker *w, const struct down *d, const struct prog_service *svc,
                       unsigned flag, const char *details);
/* A connection over the worker's limit. */
void telemetry_overflow(struct worker *w);
/* A request or connection that is refused for want of memory. */
void telemetry_overload(struct worker *w);
/* An HTTP/2 peer met a limit (enum h2_limit, by its label). */
void telemetry_h2_limit(struct worker *w, const char *label);
/* A request of the cluster was not repeated, since its budget or maxRetries is used up. */
void telemetry_retry_overflow(struct worker *w, struct slice cluster);
/* A host of the cluster was ejected (+1) for `cause`, was not because too many are (0), or is back
 * (-1). */
void telemetry_ejection(struct worker *w, struct slice cluster, enum outlier_cause cause, int step);
/* A copy of a request that was given up, or got no answer. */
void telemetry_mirror_dropped(struct worker *w);
/* TCP connections are counted when they open, too. */
void telemetry_tcp_opened(struct worker *w, const struct record *r);
