/* SPDX-License-Identifier: Apache-2.0 */
/* The reflector's decisions, pure: state and input -> next state and what to do. The shell
 * (watch.c) sends requests, sets timers and feeds the sink. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/rand.h"
#include "lib/kube/queue.h"

/* clang-format off */
#define REFLECT_STATES(X)                                                          \
    X(IDLE,   "not started")                                                       \
    X(STREAM, "streams the initial state (WatchList)")                             \
    X(LIST,   "reads the list page by page")                                       \
    X(WATCH,  "follows changes from a resource version")                           \
    X(WAIT,   "backs off")                                                         \
    X(ABSENT, "the kind is not served; looked for now and then")
/* clang-format on */
enum reflect_state {
#define X(name, meaning) REFLECT_##name,
    REFLECT_STATES(X)
#undef X
};
const char *reflect_state_name(enum reflect_state s);

enum reflect_in_kind {
    IN_GO,      /* start, the end of a wait, or a poke */
    IN_REFUSED, /* the request got no 2xx: status (0 = no answer) and reason */
    IN_ERROR,   /* an ERROR event in the stream: status and reason */
    IN_EVENT,   /* an object's event: rv */
    IN_MARK,    /* a bookmark: rv, initial_end */
    IN_PAGE,    /* a page of a list was read whole: rv of the list, more pages or not */
    IN_OVER,    /* a stream ended or broke after its 2xx; open_ns is how long it was open */
    IN_STALLED, /* a stream said nothing before its initial-end bookmark for too long */
};
struct reflect_in {
    enum reflect_in_kind kind;
    int status;
    const char *reason; /* "" when there is none */
    const char *rv;
    bool initial_end, more;
    int64_t open_ns;
    int64_t now_ns;
};

enum reflect_act {
    ACT_NONE,       /* go on with what runs */
    ACT_STREAM,     /* open a WatchList stream */
    ACT_LIST,       /* GET the first page, limit 500 */
    ACT_LIST_WHOLE, /* GET without limit (a continue token expired) */
    ACT_PAGE,       /* GET the next page */
    ACT_WATCH,      /* open a watch at rv */
    ACT_WAIT,       /* set the timer for wait_ns */
};
/* The shell does, in this order: close what runs (unless ACT_NONE), end, begin, act. */
struct reflect_do {
    enum reflect_act act;
    bool begin, end, absent; /* brackets for the sink */
    int64_t wait_ns;
};

enum { REFLECT_RV_MAX = 128 };
struct reflect {
    enum reflect_state state;
    char rv[REFLECT_RV_MAX]; /* "" = none to resume from */
    bool no_stream;          /* the server refused WatchList for good */
    bool list_next;          /* the next list is paged (a stream failed in this round) */
    bool absent;             /* the sink was told that the kind is not served */
    bool whole;              /* this list goes without pages */
    unsigned failures;       /* in a row without an event or a list between them */
    uint64_t events_open;    /* events in the open stream */
    struct kube_backoff backoff;
    struct rnd *rnd; /* borrowed */
};
void reflect_init(struct reflect *r, struct rnd *rnd);
struct reflect_do reflect_step(struct reflect *r, const struct reflect_in *in);
/* A random watch timeout in [300, 600) seconds. */
int reflect_watch_timeout_s(struct rnd *rnd);
