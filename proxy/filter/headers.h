/* SPDX-License-Identifier: Apache-2.0 */
/* Changes to header fields: what routes ask for, and what a sidecar always does. */
#pragma once

#include "lib/http/head.h"
#include "mesh/match/program.h"

struct down;
struct worker;

/* Remove, then set, then add. "host" and ":authority" change the authority. ERR_NOMEM, ERR_INVALID. */
enum err_code headers_apply(struct http_head *h, const struct prog_header_ops *ops);
/* Towards the application: x-forwarded-client-cert is replaced by what the connection proved (a
 * client's own word is not believed), x-forwarded-proto is set where absent. */
enum err_code headers_inbound(struct http_head *h, const struct down *d);
/* Trailers as they may be passed on: without fields that tell who called and which way, which a recipient
 * that merges trailers into the head (RFC 9110 6.5.1 warns of it) would believe. */
void headers_trailers(struct http_head *h);
/* Keep the request's x-request-id or make one; *ret borrows from the head's arena. */
enum err_code headers_request_id(struct http_head *h, struct worker *w, struct slice *ret);
