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
    uint32_t max_connections; /* 0: 64; one over it is closed at once */
    uint32_t max_body;        /* 0: 64 KiB */
    int64_t idle_ns;          /* keep-alive without a request; 0: 60 s */
    int64_t request_ns;       /* from a request's first byte to its last; 0: 10 s */
};
/* A request arrived whole. Answer with http_reply now, or keep `x` and answer later. */
typedef void http_handler_fn(void *user, struct http_exchange *x);

int http_server_new(struct loop *loop, const struct http_server_opts *opts, http_handler_fn *handler,
                    void *user, struct http_server **ret, struct err *err);
/* Adopt a listening socket (taken, also on failure). `tag` tells the handler which one it was. */
int http_server_listen(struct http_server *s, int fd, int tag, struct err *err);
/* Close everything at once; exchanges that wait for their answer are gone with it. */
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
/* Who wants to know that the client went away before the answer (may be NULL to stop asking): after
 * the call `x` is gone. */
void http_exchange_on_gone(struct http_exchange *x, void (*gone)(void *user), void *user);
/* Answer, once; `x` is gone. The body is copied. HEAD gets no body. */
void http_reply(struct http_exchange *x, unsigned status, const char *content_type,
                struct slice body);
