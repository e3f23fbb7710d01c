/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP/2 session (RFC 9113), server or client, over an open channel. Messages are heads in the
 * one internal form (head.h), content streams, flow control follows whoever takes the bytes.
 * nghttp2 frames; what a message may look like (RFC 9113 8) is this module's own and is as strict
 * as the HTTP/1 codec.
 *
 * What a turn of the loop has to say is gathered and leaves in one write at its end. Between turns
 * a session without streams holds no buffer.
 *
 * A stream is its owner's from on_open (server) or h2_request (client) until it is over, and is not
 * to be touched after that:
 *   - when the answer is whole: server, h2_end (or h2_head of an answer without content, then
 * h2_end); client, on_end. What the other side still sends of the request is dropped, what ours
 * still has to send of it is broken off (RFC 9113 8.1);
 *   - h2_reset by the owner, on_reset to the owner;
 *   - h2_close: no callback follows.
 * Callbacks may call anything of this module, h2_close too. */
#pragma once

#include "lib/http/head.h"
#include "lib/io/chan.h"

struct h2;
struct h2_stream;

/* Error codes (RFC 9113 7) that owners send or meet. */
enum {
    H2_NO_ERROR = 0x0,
    H2_PROTOCOL_ERROR = 0x1,
    H2_INTERNAL_ERROR = 0x2,
    H2_FLOW_CONTROL_ERROR = 0x3,
    H2_REFUSED_STREAM = 0x7,
    H2_CANCEL = 0x8,
    H2_CONNECT_ERROR = 0xa,
    H2_ENHANCE_YOUR_CALM = 0xb,
    H2_HTTP_1_1_REQUIRED = 0xd,
};

/* Why a stream was broken off. */
enum h2_why {
    H2_WHY_PEER,    /* RST_STREAM came; its code */
    H2_WHY_REFUSED, /* the peer did not look at it: REFUSED_STREAM, or beyond what a GOAWAY took */
    H2_WHY_MALFORMED, /* the peer's message breaks a rule; the detail says which. RST_STREAM went
                         out */
    H2_WHY_STALLED,   /* the peer took nothing for too long */
    H2_WHY_LOST,      /* the connection ended */
    H2_WHY_MEMORY,
};

/* Limits on what a peer may make a session do; each is told by on_limit. All but the first three
 * end the session with GOAWAY(ENHANCE_YOUR_CALM). */
/* clang-format off */
#define H2_LIMITS(X)                                                                            \
    X(HEAD,          "head_too_large",  "a message's head or trailers are too large")           \
    X(STALL,         "stalled",         "the peer took nothing for too long")                   \
    X(HEAD_LATE,     "head_timeout",    "a head did not end in time")                           \
    X(RESETS,        "resets",          "too many streams were reset (rapid reset)")            \
    X(CONTINUATIONS, "continuations",   "too many CONTINUATION frames")                         \
    X(NOISE,         "control_frames",  "too many frames that carry nothing")                   \
    X(ACKS,          "acks",            "acknowledgements that the peer does not read")
/* clang-format on */
enum h2_limit {
#define X(name, label, meaning) H2_LIMIT_##name,
    H2_LIMITS(X)
#undef X
        H2_LIMIT_COUNT,
};
const char *h2_limit_label(enum h2_limit l);
const char *h2_limit_text(enum h2_limit l);

struct h2_ops {
    /* Server: a request begins. Sets h2_stream_set and returns the arena where its head and
     * trailers will live, until the stream is over; NULL refuses it (REFUSED_STREAM). */
    struct arena *(*on_open)(struct h2 *h, struct h2_stream *s);
    /* A head is complete and fit; it lives in the stream's arena. `interim`: an answer 1xx. The
     * `body` of a request or final answer tells what follows; with HTTP_BODY_NONE, on_end comes at
     * once. */
    void (*on_head)(struct h2_stream *s, struct http_head *head, bool interim);
    /* Server: the head cannot be accepted, but can be answered with this status (431, 414, 417).
     * The head so far is in `head`, may lack anything, and is not to be used but for a record. */
    void (*on_refused)(struct h2_stream *s, struct http_head *head, unsigned status,
                       const char *detail);
    /* Content, borrowed for the call. Its bytes open the window again unless the stream is paused.
     */
    void (*on_body)(struct h2_stream *s, struct slice bytes);
    /* The message is whole. `trailers` without those that must not be passed on (RFC 9110 6.5.1);
     * NULL: none. Client: the stream is over. */
    void (*on_end)(struct h2_stream *s, struct http_head *trailers);
    /* The stream is over. `detail` is static text or NULL. `untouched`: the peer did provably not
     * process the request. */
    void (*on_reset)(struct h2_stream *s, enum h2_why why, uint32_t code, const char *detail,
                     bool untouched);
    /* After ERR_LIMIT: there is room again. */
    void (*on_drain)(struct h2_stream *s);
    /* The peer's settings came (each time): h2_room may have changed. May be NULL, as all below. */
    void (*on_settings)(struct h2 *h);
    /* A stream is over and left room for another (client), or: no stream is left (both). */
    void (*on_room)(struct h2 *h);
    /* The peer goes: h2_room is 0 from now on. Streams it will not serve are reset with REFUSED. */
    void (*on_goaway)(struct h2 *h, uint32_t code);
    void (*on_ping)(struct h2 *h); /* h2_ping was answered */
    void (*on_limit)(struct h2 *h, enum h2_limit limit);
    /* The connection ended or was ended; streams were reset before. The session is gone when this
     * returns. ERR_EOF: the peer closed, or both are done after a GOAWAY. */
    void (*on_closed)(struct h2 *h, const struct err *why);
};

enum { H2_FIELD_COST = 32 }; /* what head_bytes counts for a field beside its name and value */
struct h2_config {
    uint32_t max_streams;   /* server: that the client may have open at once; 0: 256 */
    uint32_t stream_window; /* bytes that may come before any were taken; 0: 65,535 */
    uint32_t conn_window;   /* 0: 1 MiB */
    uint32_t held_max;      /* content of paused streams before the connection's window closes for
                               all; 0: 4 MiB */
    uint32_t head_bytes;    /* names and values of a head and 32 for each; 0: 60 KiB */
    uint32_t head_fields;   /* 0: 100 */
    uint32_t send_high;  /* queued of a stream before ERR_LIMIT; 0: 64 KiB */
    uint32_t send_all;   /* the same of all streams; 0: 16 times that */
    uint32_t turn_bytes; /* read in a turn before others have theirs; 0: 256 KiB */
    int64_t head_ns;     /* from a head's first frame to its last; 0: for ever */
    int64_t stall_ns;    /* that a peer may take nothing while bytes wait for it; 0: for ever */
    char *scratch;       /* borrowed; what is read lands here, what is written is gathered here; at
                            least 32 KiB. NULL: on the stack */
    size_t scratch_len;
};

/* A session over `chan` (taken, also on failure), which is open or opening. The config is copied.
 */
int h2_server(struct chan *chan, const struct h2_config *config, const struct h2_ops *ops,
              void *user, struct h2 **ret, struct err *err);
int h2_client(struct chan *chan, const struct h2_config *config, const struct h2_ops *ops,
              void *user, struct h2 **ret, struct err *err);
/* Bytes that were read from the channel before the session owned it. Calls back. */
void h2_input(struct h2 *h, struct slice bytes);
void *h2_user(const struct h2 *h);
struct chan *h2_chan(const struct h2 *h);
/* Streams that are not over. */
uint32_t h2_streams(const struct h2 *h);
/* Client: how many more may be opened now; 0 once either side drains. Before the peer's settings
 * came 100 streams are assumed. */
uint32_t h2_room(const struct h2 *h);
/* Client: the most that the peer lets be open at once, as far as it said. */
uint32_t h2_peer_streams(const struct h2 *h);
/* Nothing is owed to the peer: no stream, no byte. */
bool h2_idle(const struct h2 *h);
/* Give memory back, 4 of some 10 KiB, until the next stream; for sessions that have been idle for a
 * while, as it costs a system call and a page fault. */
void h2_rest(struct h2 *h);
/* Bytes that came for paused streams. */
uint32_t h2_held(const struct h2 *h);
/* Bytes that wait to be sent. */
size_t h2_queued(const struct h2 *h);
/* A ping; on_ping tells of its answer. One at a time; repeats before the answer are one. */
void h2_ping(struct h2 *h);
/* No new streams: server, GOAWAY in two steps (RFC 9113 6.8), so that requests on their way are
 * served; client, GOAWAY. When the last stream is over the connection is closed (on_closed,
 * ERR_EOF). */
void h2_drain(struct h2 *h);
/* GOAWAY with a code, then on_closed as soon as it is written; streams are reset. */
void h2_terminate(struct h2 *h, uint32_t code);
/* Close at once, no callbacks; memory goes at the end of the turn. NULL and repeats are fine. */
void h2_close(struct h2 *h);

/* --- streams --- */
void h2_stream_set(struct h2_stream *s, void *user);
void *h2_stream_user(const struct h2_stream *s);
/* Those that are not over, newest first; NULL at the end. */
struct h2_stream *h2_stream_first(const struct h2 *h);
struct h2_stream *h2_stream_next(const struct h2_stream *s);
struct h2 *h2_stream_session(const struct h2_stream *s);
/* The number on the wire; client: 0 until it is sent. */
int32_t h2_stream_id(const struct h2_stream *s);

/* Client: a request. Heads of the answer will live in `arena`. ERR_LIMIT: h2_room is 0;
 * ERR_UNSUPPORTED: asks for an upgrade, which HTTP/2 has not; ERR_INVALID: a name or value that may
 * not go out; ERR_NOMEM. Content follows unless `head->body` says that there is none
 * (HTTP_BODY_NONE, but for CONNECT; or a length of 0): h2_end then only marks the end. */
enum err_code h2_request(struct h2 *h, const struct http_head *head, struct arena *arena,
                         void *user, struct h2_stream **ret);
/* Server: an answer; a status of 1xx is interim (101 is ERR_INVALID). */
enum err_code h2_head(struct h2_stream *s, const struct http_head *head);
/* Queue content; the bytes are copied and taken in any case. ERR_LIMIT: wait for on_drain. What is
 * sent to a message that has no content (an answer to HEAD, 204, 304) is dropped. */
enum err_code h2_body(struct h2_stream *s, struct slice bytes);
/* The message is whole. Trailers that may not stand there are left out; NULL: none. */
enum err_code h2_end(struct h2_stream *s, const struct http_head *trailers);
/* Break off, RST_STREAM with the code. */
void h2_reset(struct h2_stream *s, uint32_t code);
/* While paused, content that comes does not open the window: the peer stops when it is used up. */
void h2_pause(struct h2_stream *s, bool paused);
