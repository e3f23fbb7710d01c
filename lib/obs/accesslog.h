/* SPDX-License-Identifier: Apache-2.0 */
/* The access log's operator language (Envoy's command operators, as Istio's accessLogFormat takes
 * them), compiled once into a program of segments. One request is one line whatever a client sends:
 * control characters, quotes, backslashes and bytes beyond ASCII are escaped, and where an operator
 * of the text form stands outside double quotes, so are blanks. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/err.h"

/* What this proxy has a value for; a format that asks for others is refused and said so where it was
 * written, not filled with dashes. Name, does JSON write it as a number: */
/* clang-format off */
#define AL_OPS(X)                               \
    X(START_TIME, 0)                            \
    X(REQ, 0)                                   \
    X(RESP, 0)                                  \
    X(TRAILER, 0)                               \
    X(PROTOCOL, 0)                              \
    X(UPSTREAM_PROTOCOL, 0)                     \
    X(RESPONSE_CODE, 1)                         \
    X(RESPONSE_FLAGS, 0)                        \
    X(RESPONSE_FLAGS_LONG, 0)                   \
    X(RESPONSE_CODE_DETAILS, 0)                 \
    X(CONNECTION_TERMINATION_DETAILS, 0)        \
    X(UPSTREAM_TRANSPORT_FAILURE_REASON, 0)     \
    X(BYTES_RECEIVED, 1)                        \
    X(BYTES_SENT, 1)                            \
    X(DURATION, 1)                              \
    X(RESPONSE_DURATION, 1)                     \
    X(UPSTREAM_HOST, 0)                         \
    X(UPSTREAM_CLUSTER, 0)                      \
    X(UPSTREAM_CLUSTER_RAW, 0)                  \
    X(UPSTREAM_REMOTE_ADDRESS, 0)               \
    X(UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT, 0)  \
    X(UPSTREAM_REMOTE_PORT, 1)                  \
    X(UPSTREAM_REQUEST_ATTEMPT_COUNT, 1)        \
    X(DOWNSTREAM_LOCAL_ADDRESS, 0)              \
    X(DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT, 0) \
    X(DOWNSTREAM_LOCAL_PORT, 1)                 \
    X(DOWNSTREAM_REMOTE_ADDRESS, 0)             \
    X(DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT, 0)\
    X(DOWNSTREAM_REMOTE_PORT, 1)                \
    X(DOWNSTREAM_DIRECT_REMOTE_ADDRESS, 0)      \
    X(DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT, 0) \
    X(DOWNSTREAM_PEER_URI_SAN, 0)               \
    X(DOWNSTREAM_LOCAL_URI_SAN, 0)              \
    X(UPSTREAM_PEER_URI_SAN, 0)                 \
    X(DOWNSTREAM_TLS_VERSION, 0)                \
    X(REQUESTED_SERVER_NAME, 0)                 \
    X(ROUTE_NAME, 0)                            \
    X(GRPC_STATUS, 0)                           \
    X(GRPC_STATUS_NUMBER, 1)                    \
    X(CONNECTION_ID, 1)                         \
    X(STREAM_ID, 0)                             \
    X(TRACE_ID, 0)                              \
    X(HOSTNAME, 0)
/* clang-format on */
enum al_op {
#define X(name, number) AL_##name,
    AL_OPS(X)
#undef X
};
const char *al_op_name(enum al_op op);

/* Append the raw value of `op` to `out`; `arg` is what stands in the parentheses (a header's name
 * in lower case, a time format), null when nothing does. Append nothing when there is no value. */
typedef void al_value_fn(void *user, enum al_op op, struct slice arg, struct buf *out);

/* Istio's default format, as text and as JSON (the same keys). */
extern const char al_default_text[], al_default_json[];

struct al_program; /* immutable: threads may share it */

/* Compile a format; an empty one is Istio's default of that form. A text format gets a line feed at
 * its end unless it has one. A JSON format is an object whose values are formats, objects or
 * constants; members are written in the order given. Errors: ERR_UNSUPPORTED for an operator that
 * is not known, ERR_INVALID for what is no format; the text names the place. */
int al_compile(struct slice format, bool json, struct al_program **ret, struct err *err);
void al_free(struct al_program *p);
void al_freep(struct al_program **p);

/* Append one line. A text value that is absent is "-"; in JSON it is null, or "-" within other
 * text. REQ(A?B) asks for B when A has no value; OP:N cuts at N bytes; no value is longer than 8
 * KiB. When the buffer fails, what was appended of this line is taken back. */
void al_write(const struct al_program *p, al_value_fn *value, void *user, struct buf *out);

/* True when the program asks for this operator, so that costly values are only kept when needed. */
bool al_uses(const struct al_program *p, enum al_op op);

/* The arguments that the program asks for with this operator (headers' names), both of "A?B": call
 * for i = 0, 1, ... until a null slice. */
struct slice al_arg(const struct al_program *p, enum al_op op, size_t i);

/* START_TIME's value: `format` is strftime's with %3f %6f %9f for fractions and %s for seconds;
 * null gives 2026-08-01T10:20:30.123Z. In UTC. */
void al_time(int64_t wall_ns, struct slice format, struct buf *out);
