/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one request, whatever codec carries it on either side: route, policy, fault, timeout,
 * attempts and retries, the answer, one record at the end.
 *
 * The downstream codec makes a stream when a request's head begins, fills `req` and calls
 * stream_head, then stream_body and stream_end as bytes come. The stream answers through
 * `stream_down_ops`; after `end` or `reset` it is gone. A client that leaves is told with
 * stream_gone. */
#pragma once

#include "lib/base/buf.h"
#include "lib/http/grpc.h"
#include "lib/http/head.h"
#include "mesh/match/route.h"
#include "proxy/down.h"
#include "proxy/know.h"
#include "proxy/upstream/upstream.h"

struct stream;
struct stream_down_ops {
    /* Queue the head of an answer; a status of 1xx is an interim one. */
    void (*head)(struct stream *s, const struct http_head *head);
    /* Queue bytes of the answer (taken in any case). False: the client is slow, wait for
     * stream_drained. */
    bool (*body)(struct stream *s, struct slice bytes);
    /* The answer is whole. The stream is gone when this returns. */
    void (*end)(struct stream *s, const struct http_head *trailers);
    /* The answer cannot be finished: break it so that the client sees it broken. Gone as above. */
    void (*reset)(struct stream *s);
    /* Stop and resume reading the request's body. */
    void (*pause)(struct stream *s, bool stop);
};

/* clang-format off */
#define STREAM_STATES(X)                                              \
    X(HEAD,    "the head is being read")                              \
    X(LOOKUP,  "waits for the operator's answer about the service")   \
    X(DELAY,   "held by fault injection")                             \
    X(ATTEMPT, "an attempt is under way, no answer yet")              \
    X(BACKOFF, "waits before the next attempt")                       \
    X(ANSWER,  "the answer is being passed on")                       \
    X(OVER,    "recorded; about to be recycled")
/* clang-format on */
enum stream_state {
#define X(name, meaning) STREAM_##name,
    STREAM_STATES(X)
#undef X
};

struct stream {
    struct worker *worker;
    struct stream *next_free;
    struct arena arena;
    const struct stream_down_ops *ops;
    void *codec; /* of the downstream side */
    struct down *down;
    enum stream_state state;
    struct http_head req;
    struct slice path_received; /* before normalisation and rewriting, for the log */

    struct prog_service *service; /* counted; NULL on the inbound side */
    struct match_http match;
    struct up_attempt attempt;
    struct know_waiter waiter;
    struct loop_timer timeout; /* of the whole request */
    struct loop_timer timer;   /* delay, back-off, per try */
    struct loop_task recycle;

    struct buf body;           /* of the request: kept for a retry, or until it can be sent */
    size_t body_sent;          /* how much of `body` this attempt was given */
    struct http_head trailers; /* of the request; without fields: none */
    bool replayable;           /* all of the request so far is in `body` */
    bool req_ended, end_sent, ready, paused_down;
    bool answered;      /* an answer's head went to the client */
    bool unanswered;    /* nobody told what the dialled address is */
    bool grpc_pending;       /* the host's result comes with the trailers */
    bool hashed, hash_known; /* the key of consistent hashing: */
    uint64_t hash;
    struct slice set_cookie; /* for the answer; null: none */
    bool reused_replay; /* the one replay for a lost idle connection was used */
    unsigned retries;

    /* for the record */
    int64_t start_ns, first_sent_ns, upstream_ns;
    uint64_t bytes_received, bytes_sent;
    bool grpc; /* by its content-type */
    struct grpc_counter messages_received, messages_sent;
    unsigned status, flags;
    const char *details, *upstream_failure;
    char detail_text[256];
    const struct http_head *answer, *answer_trailers; /* as record has them */
    struct slice request_id, authority_received;
    struct sock_addr upstream_addr;
    struct slice upstream_principal, grpc_status;
    bool upstream_mtls;
    struct mirror *mirrors; /* copies that still want the request's body */
    struct slice cors_origin; /* of an allowed cross-origin request: its answer gets the route's fields */
};

/* A stream from the worker's free list; NULL without memory. */
struct stream *stream_new(struct worker *w, struct down *d, const struct stream_down_ops *ops,
                          void *codec);
/* The head in `req` is complete. `unanswered` as in h1_start; `service` is what the dialled address
 * belongs to (borrowed, may be NULL). */
void stream_head(struct stream *s, struct prog_service *service, bool unanswered);
void stream_body(struct stream *s, struct slice bytes);
/* The request is whole. `trailers` may be NULL; its texts live in the stream's arena, *trailers
 * itself is copied. */
void stream_end(struct stream *s, struct http_head *trailers);
/* The client left before its head was whole: nothing to record. */
void stream_drop(struct stream *s);
/* The client is gone: abandon without an answer. */
void stream_gone(struct stream *s);
/* The head was not fit to be understood: answer (status 0: only record) and end. */
void stream_refuse(struct stream *s, unsigned status, unsigned flags, const char *details);
/* Inbound, the head was let in: would it be let in by the policies that are in force now? */
bool stream_still_allowed(struct stream *s);
/* They have changed, and it would not: break it off. */
void stream_revoke(struct stream *s);
/* The client took bytes again. */
void stream_drained(struct stream *s);
void streams_fini(struct worker *w);

/* --- for what routes requests (gate.c) --- */
/* Answer by ourselves. `text` and `location` may be null; the stream is over. */
void stream_reply(struct stream *s, unsigned status, unsigned flags, const char *details,
                  struct slice text, struct slice location);
/* Go on with what is known of the service (`svc` with KNOW_VALUE). */
void stream_known(struct stream *s, enum know_state state, struct prog_service *svc);
/* The request as matches and policies see it; borrows. */
struct match_request stream_view(struct stream *s);
