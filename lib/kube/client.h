/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous client of the Kubernetes API server: libcurl's multi interface driven by our loop.
 * One client per API server and loop; not thread-safe.
 *
 *     struct kube_req req = {.method = "GET", .path = "/api/v1/namespaces"};
 *     struct kube_call *call = kube_request(client, &req, done, user);
 *
 * The token file is read again once a minute and after a 401 (which is repeated once with the new
 * token); the CA file is read again whenever it changed. 429, and 503 with Retry-After, are
 * repeated for as long as the request's deadline allows (API Priority and Fairness). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/io/loop.h"
#include "lib/kube/config.h"

struct kube_client;
struct kube_call;

struct kube_client_opts {
    const char *user_agent; /* borrowed until _free; NULL = "tulle/VERSION" */
    size_t max_body_bytes;  /* of an unstreamed response; 0 = 32 MiB */
    /* One finished HTTP exchange (each repetition counts): rest_client_requests_total{code,method,
     * host}; code "200", or "<error>" when there was no answer. May be NULL. */
    void (*on_request)(void *user, const char *code, const char *method, const char *host,
                       int64_t duration_ns);
    void *user;
};

/* `config` is borrowed until _free. `opts` may be NULL. Checks the credentials' files once. */
int kube_client_new(struct loop *loop, const struct kube_config *config,
                    const struct kube_client_opts *opts, struct kube_client **ret, struct err *err);
/* Cancels every call in flight (their callbacks are not called). Allowed inside callbacks. */
void kube_client_free(struct kube_client *client);
void kube_client_freep(struct kube_client **client);
struct loop *kube_client_loop(const struct kube_client *client);
const struct kube_config *kube_client_config(const struct kube_client *client);
/* Requests in flight, streams included. */
unsigned kube_client_in_flight(const struct kube_client *client);

struct kube_req {
    const char *method;       /* GET POST PUT PATCH DELETE */
    const char *path;         /* from kube_path; starts with '/' */
    const char *query;        /* escaped, without '?'; NULL = none */
    const char *content_type; /* of the body; NULL = application/json */
    const char *accept;       /* NULL = application/json */
    const json_t *body;       /* serialised before kube_request returns; NULL = none */
    int64_t timeout_ms;       /* over all repetitions; 0 = 30 s, < 0 = none (watches) */
    bool no_retry;            /* hand 429 and 503 to the caller at once */
    /* Stream a 2xx body: each piece of bytes as it arrives; nothing is collected then and resp.body
     * stays NULL. Return 0 to go on, -1 to end the call (done gets ERR_CLOSED). */
    int (*on_data)(void *user, struct slice bytes);
};
struct kube_resp {
    int status;      /* HTTP status, 0 when there was none */
    json_t *body;    /* decoded body or NULL; freed after the callback: json_incref to keep */
    struct err err;  /* ERR_OK for 2xx; code by kube_err_of_status; text has the server's message */
    char reason[48]; /* Status.reason ("Conflict", "AlreadyExists", "Expired", ...), "" */
    int64_t retry_after_ms; /* Retry-After of the last answer, -1 when none */
};
typedef void kube_done_fn(void *user, struct kube_resp *resp);

/* Start. `done` is called exactly once, never before kube_request returned, unless the call is
 * cancelled. NULL only when memory ran out: then `done` is never called. */
struct kube_call *kube_request(struct kube_client *client, const struct kube_req *req,
                               kube_done_fn *done, void *user);
/* Forget the call; `done` and `on_data` are not called any more. NULL is fine. A call is over, and
 * its pointer dead, once its `done` was called. Allowed in any callback, its own on_data included.
 */
void kube_cancel(struct kube_call *call);

/* For the CLI and tests: start the request and turn the loop until it is done. 0 when the answer
 * was 2xx; *ret_body (may be NULL) is then the caller's (json_decref), NULL for an empty body.
 * Never inside a callback. */
int kube_wait(struct kube_client *client, const struct kube_req *req, json_t **ret_body,
              struct err *err);

/* What an answer means: 404 NOT_FOUND, 409 CONFLICT (EXISTS when reason is AlreadyExists), 410
 * GONE, 401/403 DENIED, 400/422 INVALID, 429/5xx UNAVAILABLE, 504 TIMEOUT. */
enum err_code kube_err_of_status(int status, const char *reason);
