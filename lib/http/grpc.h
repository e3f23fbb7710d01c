/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC over HTTP/2 (nghttp2) on any channel: unary and bidirectional streams, client and server.
 * Messages are opaque bytes (protobuf outside), delivered as they become whole.
 *
 * Flow control: windows of 256 KiB a stream and 1 MiB a connection. A sender learns when its queue is
 * above the high-water mark; a server whose queue is above it takes no more of that call meanwhile, so
 * that a client which asks and does not read stops itself. Everything a peer can make grow is bounded:
 * heads, messages, calls at once, resets per second, owed acknowledgements, bytes of messages that are
 * not whole.
 *
 * Writes are gathered and go out at the end of the turn. An idle connection holds no buffers. */
#pragma once

#include "lib/io/chan.h"

/* Status codes (grpc.io). */
enum grpc_status {
    GRPC_OK = 0, GRPC_CANCELLED = 1, GRPC_UNKNOWN = 2, GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4, GRPC_NOT_FOUND = 5, GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7, GRPC_RESOURCE_EXHAUSTED = 8, GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10, GRPC_OUT_OF_RANGE = 11, GRPC_UNIMPLEMENTED = 12, GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14, GRPC_DATA_LOSS = 15, GRPC_UNAUTHENTICATED = 16,
};
/* Counts the messages of a body (PROTOCOL-HTTP2.md, Length-Prefixed-Message) as its bytes pass by, in
 * pieces of any size; a message counts when its prefix is whole. Zero-initialised. */
struct grpc_counter {
    uint64_t messages;
    uint32_t left;   /* of the message that passes */
    uint32_t length; /* what is known of the next one's */
    uint8_t prefix;  /* bytes of it that have come */
};
void grpc_count(struct grpc_counter *c, struct slice bytes);
/* The text of a grpc-timeout field; false when it is malformed. Saturates at about 30 years. */
bool grpc_timeout_parse(struct slice s, int64_t *ret_ns);
const char *grpc_status_name(enum grpc_status status);

struct grpc_conn;   /* one HTTP/2 connection, either side */
struct grpc_stream; /* one call */

struct grpc_limits {
    uint32_t max_streams;      /* concurrent, server side; 0: 100 */
    uint32_t max_message;      /* bytes of one received message; 0: 4 MiB */
    uint32_t send_high_water;  /* queued bytes above which grpc_send_full says true; 0: 256 KiB */
    int64_t keepalive_ns;      /* PING when idle that long, fail when unanswered as long; 0: off */
};

struct grpc_stream_ops {
    /* One whole message; the bytes are borrowed for the call. */
    void (*on_message)(struct grpc_stream *s, struct slice msg);
    /* The other side is finished: for a server the client half-closed (GRPC_OK), for both the call
     * ended. `detail` is grpc-message. With `final` true the stream is gone after the call. */
    void (*on_end)(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final);
    /* The send queue fell below half the high-water mark after grpc_send_full had said true. */
    void (*on_drained)(struct grpc_stream *s);
};
void grpc_stream_set(struct grpc_stream *s, const struct grpc_stream_ops *ops, void *user);
void *grpc_stream_user(const struct grpc_stream *s);
struct grpc_conn *grpc_stream_conn(const struct grpc_stream *s);
/* Metadata by lower-case name, the first of several (server: of the client, ":path" and the like
 * included; client: of the answer's head and trailers). Borrowed until the stream is gone. */
struct slice grpc_stream_metadata(const struct grpc_stream *s, struct slice name);
/* It is not asked for again: a call that lasts for days need not keep it. */
void grpc_stream_forget_metadata(struct grpc_stream *s);
/* Queue one message (copied). ERR_CLOSED: the call or connection has ended; ERR_NOMEM, ERR_LIMIT (64
 * MiB are queued): this message is not sent, the call goes on. */
enum err_code grpc_send(struct grpc_stream *s, struct slice msg);
bool grpc_send_full(const struct grpc_stream *s);
size_t grpc_send_queued(const struct grpc_stream *s);
/* Client: half-close. Server: end with OK; on_end final follows when that was sent, and what the client
 * still sends is dropped. */
void grpc_end(struct grpc_stream *s);
/* Server: as grpc_end with a status and a text (copied; percent-encoded by this module, cut at about
 * 1000 bytes). Client: as grpc_end. */
void grpc_fail(struct grpc_stream *s, enum grpc_status status, const char *detail);
/* Abandon (RST_STREAM CANCEL); no further callbacks; the stream is gone. */
void grpc_cancel(struct grpc_stream *s);

struct grpc_conn_ops {
    /* Server: a call arrived for `path` ("/pkg.Service/Method"); set ops on it, or grpc_fail it. */
    void (*on_call)(struct grpc_conn *c, struct grpc_stream *s, struct slice path);
    /* The connection is gone (after all its streams got on_end final); memory goes with the turn. */
    void (*on_close)(struct grpc_conn *c, const struct err *why);
    /* Client: the channel is open and settings were exchanged (may be NULL). */
    void (*on_ready)(struct grpc_conn *c);
};
/* Take the channel (also on failure; it may still be connecting). Client: `authority` (copied, not
 * NULL) goes into each call. Errors: ERR_NOMEM. */
int grpc_client(struct chan *chan, const char *authority, const struct grpc_limits *limits,
                const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                struct err *err);
int grpc_server(struct chan *chan, const struct grpc_limits *limits,
                const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                struct err *err);
void *grpc_conn_user(const struct grpc_conn *c);
struct chan *grpc_conn_chan(const struct grpc_conn *c);
/* Client: start a call. `metadata` is an array of up to 16 name, value pairs ended by NULL, names in
 * lower case; may be NULL. `timeout_ns` > 0 sends grpc-timeout and enforces it here too. Callbacks come
 * later, never from within. ERR_CLOSED; ERR_UNAVAILABLE: the server is leaving, use another
 * connection; ERR_NOMEM; ERR_LIMIT, ERR_INVALID: metadata. */
int grpc_call(struct grpc_conn *c, const char *path, const char *const *metadata,
              int64_t timeout_ns, const struct grpc_stream_ops *ops, void *user,
              struct grpc_stream **ret, struct err *err);
/* GOAWAY: no new calls; live ones may go on until they are done, then the connection ends by itself
 * (on_close). Without a deadline: a stream that never ends is the owner's to end. */
void grpc_conn_drain(struct grpc_conn *c);
/* Close at once; no callback follows, neither for its streams nor on_close. Safe within callbacks;
 * memory goes with the turn. */
void grpc_conn_close(struct grpc_conn *c);

/* --- texts, also for who passes calls on --- */
/* What an HTTP status means that is not gRPC's (http-grpc-status-mapping.md). */
enum grpc_status grpc_status_of_http(unsigned http);
/* application/grpc, application/grpc+proto, application/grpc;x, but not application/grpc-web. */
bool grpc_content_type(struct slice type);
/* grpc-message (PROTOCOL-HTTP2.md, "Responses"); cut where `cap` ends, with a NUL behind it. */
void grpc_percent_encode(struct slice in, char *out, size_t cap);
