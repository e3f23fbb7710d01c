/* SPDX-License-Identifier: Apache-2.0 */
/* Trace context: W3C Trace Context (level 1: traceparent, tracestate) and B3 (single and multiple
 * headers). Identifiers are bytes; nothing here allocates. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/rand.h"
#include "lib/base/slice.h"

struct trace_ctx {
    uint8_t trace_id[16]; /* never all zero */
    uint8_t span_id[8];   /* the span that is current: the parent of what is made next */
    uint8_t parent_id[8]; /* zero when unknown or none */
    bool sampled;
    bool decided; /* false: B3 that leaves the decision to us */
    bool debug;   /* B3's flag; implies sampled */
};

/* `version-traceid-parentid-flags` (W3C 3.2): lower-case hex, ids not all zero; a later version is
 * read as far as version 00 goes; version ff is refused. */
enum err_code trace_parse_w3c(struct slice traceparent, struct trace_ctx *ret);
#define TRACEPARENT_TEXT 56
const char *trace_format_w3c(const struct trace_ctx *t, char ret[TRACEPARENT_TEXT]);
/* Is a tracestate fit to be sent on (W3C 3.3: at most 512 bytes and 32 members, printable)? */
bool tracestate_valid(struct slice tracestate);

/* "b3: traceid-spanid[-sampled[-parentid]]". A lone "0", "1" or "d" is a decision without ids:
 * ERR_NOT_FOUND, with sampled, decided and debug set in *ret. */
enum err_code trace_parse_b3(struct slice b3, struct trace_ctx *ret);
/* The fields of the multiple-header form; null slices for those that are absent. As above when
 * there are no ids. */
struct trace_b3_fields {
    struct slice trace_id, span_id, parent_id, sampled, flags;
};
enum err_code trace_parse_b3_multi(const struct trace_b3_fields *f, struct trace_ctx *ret);
#define TRACE_B3_TEXT 72
const char *trace_format_b3(const struct trace_ctx *t, char ret[TRACE_B3_TEXT]);
/* n bytes as lower-case hex, NUL-terminated: `ret` holds 2 * n + 1. */
const char *trace_hex(const uint8_t *id, size_t n, char *ret);

/* A new trace with its first span. */
void trace_new(struct rnd *r, bool sampled, struct trace_ctx *ret);
/* A new span below `of`'s current one. */
void trace_child(const struct trace_ctx *of, struct rnd *r, struct trace_ctx *ret);
/* A random UUID (RFC 9562 5.4) for x-request-id. */
#define REQUEST_ID_TEXT 37
const char *request_id_new(struct rnd *r, char ret[REQUEST_ID_TEXT]);
