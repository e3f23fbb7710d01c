/* SPDX-License-Identifier: Apache-2.0 */
/* What came of each request and connection: one record at its end, from which metrics and the access
 * log come. Records are made on the worker; a peer's labels may arrive a little later, and then the
 * record waits for them, never the request. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/io/sock.h"
#include "mesh/match/program.h"

struct down;
struct http_head;
struct metrics;
struct metrics_row;
struct telemetry;
struct worker;

/* Response flags as Envoy names them; users grep for these. */
/* clang-format off */
#define RESPONSE_FLAGS(X)                                         \
    X(UH,  "no healthy upstream host")                            \
    X(UF,  "upstream connection failure")                         \
    X(UO,  "upstream overflow: a circuit breaker's limit")        \
    X(NR,  "no route")                                            \
    X(NC,  "no such cluster, or it is withheld")                  \
    X(URX, "the retry or connect attempt limit was reached")      \
    X(UT,  "upstream request timeout")                            \
    X(UC,  "upstream connection termination")                     \
    X(UR,  "upstream remote reset")                               \
    X(UPE, "upstream protocol error")                             \
    X(DC,  "downstream connection termination")                   \
    X(DPE, "downstream protocol error")                           \
    X(DI,  "delayed by fault injection")                          \
    X(FI,  "aborted by fault injection")                          \
    X(LR,  "local reset")                                         \
    X(RL,  "rate limited")                                        \
    X(UAEX,"denied by the external authorizer")                   \
    X(OM,  "overload: a limit of this proxy was reached")
/* clang-format on */
enum {
#define X(name, meaning) FLAG_BIT_##name,
    RESPONSE_FLAGS(X)
#undef X
        FLAG_COUNT,
};
enum {
#define X(name, meaning) FLAG_##name = 1u << FLAG_BIT_##name,
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
    struct slice method, path, authority, user_agent, forwarded_for, request_id, sni;
    const struct http_head *head;  /* of the request, for the access log; NULL: TCP */
    const char *protocol;          /* "HTTP/1.1", "-" for TCP */
    struct slice grpc_status;
    unsigned status;               /* 0: none was sent */
    unsigned flags;
    const char *details;           /* response_code_details; NULL: "-" */
    const char *upstream_failure;  /* transport failure reason; NULL: "-" */
    const char *termination;       /* connection termination details; NULL: "-" */
    uint64_t bytes_received, bytes_sent;
    struct slice cluster, route;
    struct sock_addr peer, orig, upstream, upstream_local;
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
/* Free the memory of series that metrics_age retired. Worker's thread. */
void telemetry_reap(struct worker *w);
/* An age of series passes at the first scrape after so long; unused ones are retired after six. */
enum { TELEMETRY_AGE_S = 600, TELEMETRY_AGES = 6 };
/* A connection that was refused before it carried anything. */
void telemetry_refused(struct worker *w, const struct down *d, const struct prog_service *svc,
                       unsigned flag, const char *details);
/* A connection over the worker's limit. */
void telemetry_overflow(struct worker *w);
/* TCP connections are counted when they open, too. */
void telemetry_tcp_opened(struct worker *w, const struct record *r);
