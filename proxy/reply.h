/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the proxy's own, in the form that the client understands: HTTP with a text, or gRPC
 * without content. Pure. */
#pragma once

#include "lib/http/head.h"

struct reply {
    unsigned status;       /* HTTP */
    int grpc;              /* a grpc-status that was asked for; -1: from `status` */
    bool overloaded;       /* x-envoy-overloaded: true */
    struct slice text;     /* content, or grpc-message */
    struct slice location; /* redirects */
};
/* Does the request speak gRPC (content-type application/grpc, +proto, ...)? */
bool reply_wants_grpc(const struct http_head *request);
/* The answer's head in `request`'s arena; *ret_text is the content to send behind it. A gRPC
 * request gets HTTP 200 and grpc-status and grpc-message in the head (trailers-only), mapped as
 * Envoy does (http-grpc-status-mapping.md); another one that is to get a grpc-status gets what HTTP
 * has for it. What does not fit into the arena is left out. */
void reply_make(const struct http_head *request, const struct reply *reply, struct http_head *ret,
                struct slice *ret_text);
