/* SPDX-License-Identifier: Apache-2.0 */
/* One request, one answer, one connection: for probes and scrapes. */
#pragma once

#include "lib/http/head.h"
#include "lib/tls/tls.h"

struct http_get;
struct http_get_opts {
    const char *method;           /* NULL: GET */
    const char *path;             /* with query */
    const char *host;             /* Host field; NULL: the address */
    const struct http_field *fields; /* "host" replaces the above; those of the connection and of
                                        framing are left out */
    unsigned n_fields;
    const struct sock_addr *src;  /* dial from; NULL: any */
    struct tls_ctx *tls;          /* NULL: plaintext */
    const char *sni;              /* with tls; NULL: none */
    const char *verify_host;      /* with tls: the name its certificate must match; NULL: none */
    int64_t timeout_ns;           /* of all; 0: 5 s */
    uint32_t max_body;            /* 0: 1 MiB; more is an error */
};
/* `status` is 0 when there was no answer: err says why. Head fields and body are borrowed for the
 * call; `get` is gone after it. */
typedef void http_get_done_fn(void *user, unsigned status, const struct http_head *head,
                              struct slice body, const struct err *err);
/* Start; the outcome comes by callback, never before this returns. Errors: ERR_INVALID for a field,
 * path or host that cannot be sent, and those of sock_connect. */
int http_get_start(struct loop *loop, const struct sock_addr *to, const struct http_get_opts *opts,
                   http_get_done_fn *done, void *user, struct http_get **ret, struct err *err);
/* No callback follows. */
void http_get_cancel(struct http_get *g);
