/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the HTTP/1 codec share: h1.c steps through messages, h1_head.c reads a whole
 * head or trailer section, h1_write.c writes. */
#pragma once

#include "lib/http/h1.h"

/* Read a block of lines that ends in an empty line and holds no LF without CR; it is the arena's,
 * and names become lower case in place. The head is filled, its framing settled; H1_NONE when it is
 * fine. */
enum h1_refusal h1_read_head(struct h1_parser *p, struct http_head *h, struct slice block);
/* The same for trailers: what must not come behind the content is dropped (h1_trailer_ok). */
enum h1_refusal h1_read_trailers(const struct h1_parser *p, struct http_head *h,
                                 struct slice block);
/* May a field of this (lower-case) name stand behind the content (RFC 9110 6.5.1)? Fields of
 * framing, routing, conditions, credentials and of how the content is read may not: who reads them
 * from there and who does not would understand two different messages. */
bool h1_trailer_ok(struct slice name);
/* Bytes that may stand in a request target; not empty. */
bool h1_target_ok(struct slice target);
/* Host and authority: a registered name or address with an optional port, nothing else (RFC 9110 7.2;
 * no userinfo, no list, no percent-encoding). */
bool h1_authority_ok(struct slice authority);
