/* SPDX-License-Identifier: Apache-2.0 */
/* The one internal message form: what the HTTP/1 codec and the HTTP/2 session both produce and
 * consume, so that routing, policy, retries and telemetry exist once.
 *
 * A head lives in an arena (of the stream). Field names are lower case; values are trimmed of
 * optional white space and hold no CR, LF or NUL. Pseudo-header information is in the named members
 * and never in `fields`; `host` is folded into `authority`. Framing fields (content-length,
 * transfer-encoding, connection and what it names) are not in `fields` either: the codec that writes
 * makes its own from `body`. */
#pragma once

#include "lib/base/arena.h"
#include "lib/base/err.h"

struct http_field {
    struct slice name, value;
};
enum http_body {
    HTTP_BODY_NONE,    /* no content at all */
    HTTP_BODY_LENGTH,  /* exactly content_length bytes */
    HTTP_BODY_STREAM,  /* length unknown: chunked in HTTP/1.1, DATA until END_STREAM in HTTP/2 */
    HTTP_BODY_CLOSE,   /* HTTP/1 answers only: until the connection ends */
};
enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2 };

struct http_head {
    /* requests */
    struct slice method, scheme, authority, path; /* path with query, as received; "*" for OPTIONS * */
    struct slice upgrade;   /* asked-for protocol of an HTTP/1.1 Upgrade (and Connection: upgrade) */
    /* answers */
    uint16_t status;        /* 0 in a request */
    struct slice reason;
    bool bare;              /* to HEAD, or the start of a tunnel: framing is not told, but for the
                               length that GET would have, which is in `fields` */
    /* both */
    enum http_version version;
    enum http_body body;
    uint64_t content_length;
    bool expect_continue;   /* Expect: 100-continue */
    bool te_trailers;       /* requests: TE: trailers, whoever asked does not discard them */
    bool keep_alive;        /* HTTP/1: the connection may carry another message after this */
    struct http_field *fields;
    uint32_t n_fields, cap_fields;
    struct arena *arena;    /* owns the above */
};

/* Empty head whose texts will live in `arena`. */
void http_head_init(struct http_head *h, struct arena *arena);
/* First value of a field by lower-case name; null slice when absent. */
struct slice http_head_get(const struct http_head *h, struct slice name);
/* Index of the next field with this name at or after `from`, -1 at the end: all lines count
 * (matching only the first of several is how policies were bypassed, CVE-2026-26308). */
int http_head_next(const struct http_head *h, struct slice name, int from);
/* Append / replace all lines by one / remove all lines. Name is lower-cased and copied. */
enum err_code http_head_add(struct http_head *h, struct slice name, struct slice value);
enum err_code http_head_set(struct http_head *h, struct slice name, struct slice value);
void http_head_remove(struct http_head *h, struct slice name);
/* Room for one more field, to be filled by a codec with a checked lower-case name and checked value that
 * live as long as the head; NULL when out of memory. */
struct http_field *http_head_push(struct http_head *h);
/* All values of a field joined by "," in the arena; null slice when absent. */
struct slice http_head_joined(const struct http_head *h, struct slice name);
/* tchar+ (RFC 9110 5.6.2); field-content without CR, LF, NUL (5.5). */
bool http_name_ok(struct slice name);
bool http_value_ok(struct slice value);
/* The lower-case form of each tchar, 0 for other bytes. */
extern const unsigned char http_tchar[256];
/* Length of the longest start of p[0..n) that may stand in a field's value: up to the first control
 * character that is not HTAB. Eight bytes a step. */
size_t http_text_len(const char *p, size_t n);
/* "Not Found" for 404; "" when unknown. */
const char *http_reason(int status);
