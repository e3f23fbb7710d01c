/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP/1.1 server for admin, health and metrics pages: one request at a time per connection,
 * bounded bodies, deadlines for slow heads and bodies, answers now or later. Idle connections hold no
 * buffers. */
#pragma once

#include "lib/http/head.h"
#include "lib/io/chan.h"

struct http_server;
struct http_exchange;

struct http_server_opts {
    uint32_t max_connections; /* 0: 64; one over it takes the place of the longest idle one, or is
                                 closed at once when none is idle */
    uint32_t max_body;        /* 0: 64 KiB */
    int64_t idle_ns;          /* keep-alive without a request, and writing an answer; 0: 60 s */
    int64_t request_ns;       /* from a request's first byte to its last; 0: 10 s */
};
/* A request arrived whole. Answer with http_reply now, or keep `x` and answer later: it stays valid
 * until then, also when the client went away. */
typedef void http_handler_fn(void *user, struct http_exchange *x);

int http_server_new(struct loop *loop, const struct http_server_opts *opts, http_handler_fn *handler,
                    void *user, struct http_server **ret, struct err *err);
/* Adopt a listening socket (taken, also on failure). `tag` tells the handler which one it was. */
int http_server_listen(struct http_server *s, int fd, int tag, struct err *err);
/* Stop accepting, close idle connections, and each other one behind its answer. */
void http_server_drain(struct http_server *s);
/* Open connections: none when it is drained. */
unsigned http_server_connections(const struct http_server *s);
/* Close everything at once. Exchanges that wait for their answer are gone with it, without a call:
 * no http_reply for them. Fine in a handler. NULL is fine. */
void http_server_free(struct http_server *s);

/* Borrowed until the answer. */
const struct http_head *http_exchange_head(const struct http_exchange *x);
struct slice http_exchange_path(const struct http_exchange *x); /* without query */
/* A query parameter's value, percent-decoded into the exchange's arena; null slice when absent. */
struct slice http_exchange_query(const struct http_exchange *x, struct slice name);
struct slice http_exchange_body(const struct http_exchange *x);
int http_exchange_tag(const struct http_exchange *x);
bool http_exchange_is(const struct http_exchange *x, const char *method, const char *path);
const struct sock_addr *http_exchange_peer(const struct http_exchange *x);
struct arena *http_exchange_arena(struct http_exchange *x);
/* Who wants to know that the client went away, or ended its sending half, before the answer (NULL: to
 * stop asking): after the call `x` is gone. */
void http_exchange_on_gone(struct http_exchange *x, void (*gone)(void *user), void *user);
/* Answer, once; `x` and what was borrowed from it are gone. The body is copied (it may be borrowed from
 * `x`), and left out for HEAD, 204 and 304. `content_type` may be NULL. */
void http_reply(struct http_exchange *x, unsigned status, const char *content_type,
                struct slice body);
