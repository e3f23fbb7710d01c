/* SPDX-License-Identifier: Apache-2.0 */
/* Program values <-> the messages of proto/tulle/discovery/v1/discovery.proto.
 *
 * Encoding is deterministic: equal values give equal bytes, and a resource's version is the hash of
 * its payload. Decoding trusts nothing: indices in range, weights not all zero, ports 1..65535,
 * addresses of 4 or 16 bytes, regular expressions compile, memory bounded by the payload's size;
 * errors name the field ("http[3].destination[0].cluster: no cluster 7"). An enumerator of a newer
 * operator becomes the closing choice: deny, mTLS only, a route that never matches. */
#pragma once

#include "lib/base/buf.h"
#include "mesh/match/program.h"

#define WIRE_VERSION_LEN 16u
#define WIRE_MAX_PAYLOAD (32u << 20)
#define WIRE_MAX_KEY 1024u

struct wire_version {
    char bytes[WIRE_VERSION_LEN];
};
/* Content hash of a payload (XXH3-128). */
struct wire_version wire_version(struct slice payload);

/* Append the payload of one resource (any kind; prog->kind says which). ERR_NOMEM, ERR_LIMIT. */
enum err_code wire_resource_encode(const struct prog *r, struct buf *ret);
/* Decode one payload into a new resource with one reference. `version` is kept as given (empty: it is
 * computed). ERR_INVALID (the text names the field), ERR_UNSUPPORTED (kind), ERR_NOMEM, ERR_LIMIT,
 * ERR_UNAVAILABLE (a regular expression, but no RE2). */
int wire_resource_decode(enum prog_kind kind, struct slice key, struct slice version,
                         struct slice payload, struct prog **ret, struct err *err);
/* Stable, indented text of a resource, for people, goldens and `tulle proxy-config`. */
void prog_dump(const struct prog *r, struct buf *out);
const char *prog_kind_name(enum prog_kind kind); /* "Settings", ...; "unknown" */

/* --- one resource in a message or a file ------------------------------------------------------ */
struct wire_resource {
    enum prog_kind kind;
    enum prog_state state;
    struct slice key, version, payload;
};
/* A bundle: what `tulle compile` writes and `tulle-proxy run --config` reads. Decoded resources are in
 * `a`, payloads not decoded yet. */
enum err_code wire_bundle_encode(const struct wire_resource *r, size_t n, struct buf *ret);
int wire_bundle_decode(struct arena *a, struct slice bytes, struct wire_resource **ret, size_t *ret_n,
                       struct err *err);

/* --- stream messages -------------------------------------------------------------------------- */
struct wire_want {
    enum prog_kind kind;
    struct slice key, version; /* version: what the proxy holds, empty: nothing */
};
struct wire_rejected {
    enum prog_kind kind;
    struct slice key, version, reason;
};
struct wire_client { /* ClientMessage; absent parts are NULL or empty */
    struct wire_hello {
        struct slice pod, namespace_, address, version, node;
        uint32_t protocol;
    } *hello;
    struct wire_want *want;
    struct wire_want *drop; /* version unused */
    uint32_t n_want, n_drop;
    struct wire_ack {
        uint64_t nonce;
        struct wire_rejected *rejected;
        uint32_t n_rejected;
    } *ack;
    struct wire_answer {
        uint64_t id;
        struct slice body, error;
    } *answer;
};
struct wire_server { /* ServerMessage */
    struct wire_push {
        uint64_t nonce;
        struct wire_resource *resource;
        uint32_t n_resource;
    } *push;
    struct wire_question {
        uint64_t id;
        struct slice what;
    } *question;
};
/* Unknown kinds in decoded messages are left out (a newer peer). Decoded values are copies in `a`. */
enum err_code wire_client_encode(const struct wire_client *m, struct buf *ret);
int wire_client_decode(struct arena *a, struct slice bytes, struct wire_client *ret, struct err *err);
enum err_code wire_server_encode(const struct wire_server *m, struct buf *ret);
int wire_server_decode(struct arena *a, struct slice bytes, struct wire_server *ret, struct err *err);
