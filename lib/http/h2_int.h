/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP/2 session share: h2.c (the session), h2_in.c (messages
 * that come), h2_out.c (messages that go). */
#pragma once

#include <nghttp2/nghttp2.h>

#include "lib/base/buf.h"
#include "lib/http/h2.h"

/* clang-format off */
/* What is wrong with a message; a status: it can be answered, 0: RST_STREAM(PROTOCOL_ERROR). */
#define H2_REFUSALS(X)                                                                            \
    X(NONE,             0,   "")                                                                  \
    X(TOO_LARGE,        431, "head too large")                                                    \
    X(TOO_MANY,         431, "too many fields")                                                   \
    X(TARGET_LONG,      414, "request target too long")                                           \
    X(EXPECTATION,      417, "expectation is not 100-continue (RFC 9110 10.1.1)")                 \
    X(PSEUDO_UNKNOWN,   0,   "unknown pseudo-header field (RFC 9113 8.3)")                        \
    X(PSEUDO_LATE,      0,   "pseudo-header field behind a field (RFC 9113 8.3)")                 \
    X(PSEUDO_TWICE,     0,   "pseudo-header field repeated (RFC 9113 8.3)")                       \
    X(PSEUDO_MISSING,   0,   "pseudo-header field missing (RFC 9113 8.3)")                        \
    X(PSEUDO_TRAILER,   0,   "pseudo-header field in trailers (RFC 9113 8.1)")                    \
    X(PSEUDO_CONNECT,   0,   "CONNECT with a scheme or path (RFC 9113 8.5)")                      \
    X(NAME,             0,   "malformed field name (RFC 9113 8.2.1)")                             \
    X(VALUE,            0,   "forbidden byte in a field value (RFC 9113 8.2.1)")                  \
    X(CONNECTION_FIELD, 0,   "connection-specific field (RFC 9113 8.2.2)")                        \
    X(TE,               0,   "te is not trailers (RFC 9113 8.2.2)")                               \
    X(METHOD,           0,   "malformed method (RFC 9110 9.1)")                                   \
    X(SCHEME,           0,   "scheme is not http or https (RFC 9113 8.3.1)")                      \
    X(TARGET,           0,   "malformed path (RFC 9113 8.3.1)")                                   \
    X(AUTHORITY,        0,   "malformed authority (RFC 9113 8.3.1)")                              \
    X(AUTHORITY_NONE,   0,   "no authority (RFC 9113 8.3.1)")                                     \
    X(HOST,             0,   "host is repeated or not the authority (RFC 9113 8.3.1)")            \
    X(LENGTH,           0,   "malformed or repeated content-length (RFC 9110 8.6)")               \
    X(LENGTH_DIFFERS,   0,   "content is not as long as content-length says (RFC 9113 8.1.1)")    \
    X(ALIAS,            0,   "field name like one of framing (RFC 9112 11.2)")                    \
    X(STATUS,           0,   "malformed status (RFC 9113 8.3.2)")                                 \
    X(SWITCHING,        0,   "101 in HTTP/2 (RFC 9113 8.6)")                                      \
    X(INTERIM_END,      0,   "interim answer ends the stream (RFC 9113 8.1)")                     \
    X(CONTENT_FIRST,    0,   "content before the head (RFC 9113 8.1)")                            \
    X(CONTENT,          0,   "content in an answer that has none (RFC 9110 6.4.1)")               \
    X(TRAILERS_OPEN,    0,   "trailers do not end the stream (RFC 9113 8.1)")                     \
    X(TRAILERS_LARGE,   0,   "trailers too large")                                                \
    X(MEMORY,           503, "out of memory")
/* clang-format on */
enum h2_refusal {
#define X(name, status, detail) H2_##name,
    H2_REFUSALS(X)
#undef X
};

/* The header block that is being read; one at a time (RFC 9113 4.3). */
struct h2_block {
    struct h2_stream *s; /* NULL: nobody wants it */
    struct http_head *head;
    uint32_t bytes, fields;
    uint16_t cookies;
    uint8_t n_host, n_length;
    enum h2_refusal refusal;
    bool open; /* its last frame has not come */
    bool trailers, regular, te;
    bool method, scheme, path, authority, status;
    struct slice host, length;
    int64_t since_ns;
};

struct h2_stream {
    struct h2 *h;
    void *user;
    struct h2_stream *next, **prev; /* all that nghttp2 knows */
    struct arena *arena;
    int32_t id;
    bool attached; /* its owner knows it */
    bool head_request, connect;
    bool in_head; /* a final head came */
    bool in_end;  /* the other side is done */
    bool in_length, in_none;
    bool paused;
    bool out_head;        /* our head was queued (server: the final one) */
    bool out_none;        /* our message has no content */
    bool out_end;         /* h2_end, or no content */
    bool head_sent;       /* handed to the channel or gathered for it */
    bool deferred;        /* nghttp2 waits for more of `out` */
    bool full;            /* ERR_LIMIT was said */
    bool reset;           /* RST_STREAM is queued */
    bool parted;          /* nghttp2 closed it before its owner said h2_end */
    bool lingers;         /* server: the answer went out whole, the request is still coming */
    uint32_t dropped;     /* of it since */
    uint64_t in_left;     /* of the announced length */
    uint32_t owed;        /* bytes that came and for which no window was given back */
    struct buf out;       /* content to be sent */
    nghttp2_nv *trailers; /* owned, one allocation with its texts */
    uint32_t n_trailers;
    int64_t moved_ns; /* when `out` last got shorter or began to be */
};

enum { H2_OWN_RESETS = 8 };

struct h2_bucket {
    int32_t left;
    int64_t at_ns;
};

struct h2 {
    struct chan *chan;
    nghttp2_session *session;
    const struct h2_ops *ops;
    void *user;
    struct h2_config config;
    struct h2_stream *streams;
    uint32_t n_known, n_attached; /* streams that nghttp2 knows; of them their owners' */
    uint32_t n_full, n_lingering;
    uint32_t peer_streams;
    size_t queued;      /* in the streams' `out` */
    uint32_t held;      /* sum of the streams' `owed` */
    uint32_t conn_owed; /* of the connection's window */
    struct h2_block block;
    struct buf out; /* what the channel did not take */
    char *gather;   /* while a flush runs */
    size_t gathered, gather_cap;
    struct h2_bucket resets, noise;
    int32_t own_resets[H2_OWN_RESETS]; /* streams that we reset last: frames for them are on their
                                          way */
    uint32_t n_own_resets;
    uint32_t skip; /* server: bytes up to the next frame's header */
    uint8_t next[9], next_len;
    struct loop_task flush, gone;
    struct loop_timer watch;
    int64_t moved_ns; /* when the channel last took bytes */
    bool server, closed, quiet;
    bool within;   /* nghttp2 reads or writes: no flush */
    bool draining; /* no new streams */
    bool preface;  /* client: still to be sent (RFC 9113 3.4) */
    bool final_goaway;
    bool dying; /* terminated: ends when its GOAWAY is written */
    bool pinged;
    void *frame;  /* the frame buffer of the thread that made it, when it has it */
    void *table;  /* nghttp2's map of streams, a page of its own */
    bool stalled; /* the peer took nothing of the connection's bytes for too long */
    uint32_t goaway_code;
    struct err why;
};

static inline struct loop *h2_loop(const struct h2 *h)
{
    return h->chan->loop;
}

enum { H2_SCRATCH_MIN = 32 << 10 };
extern const uint8_t h2_drain_ping[8];

/* --- h2_io.c --- */
void h2_flush_task(struct loop_task *t);
void h2_on_chan(void *user, unsigned events);
int h2_on_frame_begin(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user);
int h2_on_frame(nghttp2_session *session, const nghttp2_frame *f, void *user);
int h2_on_frame_sent(nghttp2_session *session, const nghttp2_frame *f, void *user);
int h2_on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user);
/* GOAWAY, and the end when it is written. */
void h2_die(struct h2 *h, uint32_t code);

/* --- h2.c --- */
/* The connection is over: streams are told, then the owner. */
void h2_fail(struct h2 *h, enum err_code code, const char *why);
void h2_over(struct h2 *h, bool tell);
const char *h2_chan_text(const struct chan *c);
void h2_flush_later(struct h2 *h);
/* Out of memory, or a promise broken: end the session from a task. */
void h2_break(struct h2 *h, enum err_code code, const char *why);
struct h2_stream *h2_stream_new(struct h2 *h, void *user);
void h2_stream_free(struct h2_stream *s);
/* The owner does not know it from here on. */
void h2_detach(struct h2_stream *s);
/* Queue RST_STREAM once. */
void h2_rst(struct h2_stream *s, uint32_t code);
/* Tell the owner, if it still knows the stream; it does not afterwards. */
void h2_broken(struct h2_stream *s, enum h2_why why, uint32_t code, const char *detail);
/* One event of a kind that is rationed; false when there were too many: the session is dying. */
bool h2_ration(struct h2 *h, enum h2_limit limit);
void h2_hit(struct h2 *h, enum h2_limit limit);
/* Content that nobody wants any more. */
void h2_drop(struct h2_stream *s, uint32_t n);
/* Bytes that its owner took. */
void h2_credit(struct h2_stream *s, uint32_t n);
void h2_credit_conn(struct h2 *h);

/* --- h2_in.c --- */
int h2_on_begin(nghttp2_session *session, const nghttp2_frame *f, void *user);
int h2_on_field(nghttp2_session *session, const nghttp2_frame *f, nghttp2_rcbuf *name,
                nghttp2_rcbuf *value, uint8_t flags, void *user);
int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
               void *user);
/* A frame of a stream is whole. */
void h2_in_frame(struct h2_stream *s, const nghttp2_frame *f);
const char *h2_refusal_detail(enum h2_refusal r);

/* --- h2_out.c --- */
int h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd,
                 size_t length, nghttp2_data_source *source, void *user);
/* A field that is of one connection alone, or of framing: it is not written from a head's list. */
bool h2_hop_field(struct slice name);
