/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's end of the discovery stream: dial, say who we are, want what the workers want, apply
 * pushes, acknowledge, and resume with the versions held. The operator being away changes nothing for
 * traffic: what is held stays, its age is a metric, and dialling goes on with back-off. */
#pragma once

#include "lib/http/grpc.h"
#include "proxy/control.h"

/* clang-format off */
#define DISCOVERY_STATES(X)                                          \
    X(IDLE,    "not started")                                        \
    X(DIAL,    "name look-up, TCP or TLS in flight")                 \
    X(STREAM,  "connected")                                          \
    X(BACKOFF, "waits before the next dial")
/* clang-format on */
enum discovery_state {
#define X(name, meaning) DISCOVERY_##name,
    DISCOVERY_STATES(X)
#undef X
};

struct discovery;
struct discovery_opts {
    struct control *control;
    /* Open a channel to the operator with the current identity; the callback gets it (taken) or NULL
     * with the reason. Called again for each attempt; cancelled by discovery_free only. */
    void (*dial)(void *user, void (*done)(void *done_user, struct chan *chan, const struct err *err),
                 void *done_user);
    void *dial_user;
    const char *authority; /* for the call; borrowed */
    const char *pod, *namespace_, *address, *node, *version; /* borrowed */
    /* A question of the operator's ("/stats/prometheus"): append the answer. */
    int (*answer)(void *user, struct slice what, struct buf *ret, struct err *err);
    void *answer_user;
};
int discovery_new(const struct discovery_opts *opts, struct discovery **ret, struct err *err);
void discovery_free(struct discovery *d);
/* Begin (when there is an identity). */
void discovery_start(struct discovery *d);
enum discovery_state discovery_state(const struct discovery *d);
const char *discovery_state_name(enum discovery_state s);
/* Why the last attempt failed; "" when connected. */
const char *discovery_problem(const struct discovery *d);
/* control's `want` hook: ask for one resource (user is the discovery). */
void discovery_want(void *user, const struct known *k);
/* control's `drop` hook: the resource is wanted no more. */
void discovery_drop(void *user, const struct known *k);
/* The identity changed: connect anew soon with the new one (the old stream goes on meanwhile). */
void discovery_reidentify(struct discovery *d);
