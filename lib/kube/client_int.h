/* SPDX-License-Identifier: Apache-2.0 */
/* What the client's own files share: calls, and how they go through libcurl. */
#pragma once

#include <curl/curl.h>

#include "lib/base/buf.h"
#include "lib/kube/client.h"
#include "lib/kube/kube_int.h"

/* clang-format off */
#define CALL_STATES(X)                                                \
    X(QUEUED,    "starts at the end of this turn")                    \
    X(RUNNING,   "in libcurl's hands")                                \
    X(WAITING,   "waits to be repeated")                              \
    X(DEAD,      "cancelled; reaped at the end of this turn")         \
    X(REPORTING, "its callback runs")
/* clang-format on */
enum call_state {
#define X(name, meaning) CALL_##name,
    CALL_STATES(X)
#undef X
};

struct kube_call {
    struct kube_client *client;
    struct kube_call *next, **prev; /* in client->calls */
    enum call_state state;
    CURL *easy; /* NULL unless RUNNING (or DEAD and not reaped) */
    struct curl_slist *headers;
    kube_done_fn *done;
    int (*on_data)(void *user, struct slice bytes);
    void *user;
    char *method, *url, *accept, *content_type;
    char *body; /* serialised */
    struct buf in;
    struct loop_timer deadline, repeat;
    int64_t deadline_ns; /* 0 = none */
    int64_t start_ns;
    unsigned repeats;
    bool no_retry, reauthorised, ended_by_user, too_big;
};

struct kube_sock {
    struct loop_io io;
    struct kube_client *client;
    curl_socket_t fd;
};

struct kube_client {
    struct loop *loop;
    const struct kube_config *config;
    struct kube_client_opts opts;
    CURLM *multi;
    struct loop_timer timer; /* libcurl's */
    struct loop_task task;   /* start queued calls, reap dead ones */
    struct kube_call *calls;
    unsigned n_calls;
    char *token; /* wiped on replacement */
    int64_t token_ns;
    char *host;                    /* "host:port" for metrics and logs */
    char *base;                    /* what stands before the path in URLs */
    struct curl_slist *connect_to; /* where `base` leads when a tls-server-name stands in it */
    bool loopback;
    unsigned busy; /* depth of our own callbacks: libcurl must not be entered, nothing freed */
    bool in_curl, dying;
};

/* --- client.c --- */
/* Report what libcurl has finished. Callbacks may start and cancel calls. */
void client_pump(struct kube_client *c);

/* --- client_curl.c --- */
/* Set the multi handle's functions. */
void client_wire(struct kube_client *c);
/* Read the token's file when its age or `force` says so; the old one stays when that fails. */
int token_refresh(struct kube_client *c, bool force, struct err *err);
/* Give the call to libcurl. */
int call_launch(struct kube_call *call, struct err *err);
/* Take it back; what libcurl holds of it is released. */
void call_stop(struct kube_call *call);

/* --- client_answer.c --- */
enum err_code err_of_curl(CURLcode rc);
/* Read the body of an answer that was collected. */
void answer_read(struct kube_call *call, struct kube_resp *resp);
