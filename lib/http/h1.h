/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1 codec (RFC 9112, RFC 9110): bytes to events, heads to bytes. Pure: no I/O, no clock.
 *
 * It is strict: what two implementations could read differently is refused, not repaired. Every
 * refusal has a name and the status to answer with. Where the bytes are cut never changes what they
 * mean. */
#pragma once

#include "lib/base/buf.h"
#include "lib/http/head.h"

struct h1_limits {
    uint32_t head_bytes;  /* request line or status line and fields; 0: 60 KiB */
    uint32_t head_fields; /* 0: 100 */
};

/* clang-format off */
/*    name                  status  detail */
#define H1_REFUSALS(X)                                                                         \
    X(NONE,                 0,   "")                                                           \
    X(HEAD_TOO_LARGE,       431, "head too large")                                             \
    X(TOO_MANY_FIELDS,      431, "too many fields")                                            \
    X(TARGET_TOO_LONG,      414, "request target too long")                                    \
    X(BARE_LF,              400, "line ends in a bare LF (RFC 9112 2.2)")                      \
    X(BARE_CR,              400, "bare CR (RFC 9112 2.2)")                                     \
    X(REQUEST_LINE,         400, "malformed request line (RFC 9112 3)")                        \
    X(METHOD,               400, "malformed method (RFC 9110 9.1)")                            \
    X(TARGET,               400, "malformed request target (RFC 9112 3.2)")                    \
    X(VERSION,              505, "HTTP version not supported (RFC 9112 2.3)")                  \
    X(STATUS_LINE,          502, "malformed status line (RFC 9112 4)")                         \
    X(FIELD_LINE,           400, "malformed field line (RFC 9112 5)")                          \
    X(FIELD_NAME,           400, "malformed field name (RFC 9112 5.1)")                        \
    X(FIELD_VALUE,          400, "forbidden byte in a field value (RFC 9110 5.5)")             \
    X(OBS_FOLD,             400, "folded field line (RFC 9112 5.2)")                           \
    X(HOST_MISSING,         400, "no Host field (RFC 9112 3.2)")                               \
    X(HOST_REPEATED,        400, "more than one Host field (RFC 9112 3.2)")                    \
    X(HOST_INVALID,         400, "malformed Host field (RFC 9112 3.2)")                        \
    X(LENGTH_INVALID,       400, "malformed Content-Length (RFC 9110 8.6)")                    \
    X(LENGTH_REPEATED,      400, "more than one Content-Length (RFC 9112 6.3)")                \
    X(LENGTH_AND_CODING,    400, "Content-Length with Transfer-Encoding (RFC 9112 6.1)")       \
    X(CODING_UNKNOWN,       501, "transfer coding is not chunked (RFC 9112 6.1)")              \
    X(CODING_IN_1_0,        400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1)")               \
    X(CODING_FORBIDDEN,     502, "Transfer-Encoding in an answer without content (RFC 9112 6.1)") \
    X(CONTENT_FORBIDDEN,    400, "CONNECT with content (RFC 9110 9.3.6)")                      \
    X(FIELD_ALIAS,          400, "field name like one of framing (RFC 9112 11.2)")             \
    X(EXPECTATION,          417, "expectation is not 100-continue (RFC 9110 10.1.1)")          \
    X(UPGRADE_UNASKED,      502, "answer switches protocols without being asked (RFC 9110 15.2.2)") \
    X(CHUNK_SIZE,           400, "malformed chunk size (RFC 9112 7.1)")                        \
    X(CHUNK_END,            400, "chunk data not followed by CRLF (RFC 9112 7.1)")             \
    X(CHUNK_EXTENSION,      400, "malformed or long chunk extension (RFC 9112 7.1.1)")         \
    X(TRAILERS_TOO_LARGE,   431, "trailers too large")                                         \
    X(TRUNCATED,            400, "the message ends before it is whole (RFC 9112 8)")           \
    X(UNASKED,              502, "bytes of an answer that nobody asked for")                   \
    X(MEMORY,               503, "out of memory")
/* clang-format on */
enum h1_refusal {
#define X(name, status, detail) H1_##name,
    H1_REFUSALS(X)
#undef X
};
unsigned h1_refusal_status(enum h1_refusal r);
const char *h1_refusal_detail(enum h1_refusal r);

enum h1_event {
    H1_EV_MORE,    /* all input was used; give more */
    H1_EV_HEAD,    /* the head is complete in *head */
    H1_EV_BODY,    /* *body is content, borrowed from the input */
    H1_EV_END,     /* the message is complete; trailers that may be passed on are in *head (init it
                      before) */
    H1_EV_REFUSED, /* see `refusal`; the connection is of no use any more */
};

struct h1_parser {
    struct h1_limits limits;
    uint8_t state;
    bool request;
    bool no_content;     /* answer to HEAD, or the tunnel of CONNECT: set for the next message */
    bool connect;
    bool upgrade;        /* the request asked for another protocol: it may be switched to */
    bool interim;        /* the head was of a 1xx answer: another head follows */
    enum h1_refusal refusal;
    uint32_t scanned;    /* bytes of `kept` known to hold no end */
    uint64_t left;       /* of the body or chunk */
    struct buf kept;     /* a head, chunk line or trailer section that is not whole yet */
    char *hop;           /* what Connection names, "a,b": not to be passed on as a trailer, either */
};
void h1_request_init(struct h1_parser *p, const struct h1_limits *limits);
void h1_response_init(struct h1_parser *p, const struct h1_limits *limits);
void h1_fini(struct h1_parser *p);
/* A response parser: the next answer is to this kind of request (HEAD, CONNECT, one with Upgrade). Call
 * before its first byte. */
void h1_expect_response(struct h1_parser *p, bool head_request, bool connect_request, bool upgrade);
/* Nothing of a message has been seen yet (an idle connection may be closed here). */
bool h1_at_start(const struct h1_parser *p);

/* The message is whole but for H1_EV_END, which a step without input gives. */
bool h1_whole(const struct h1_parser *p);

/* One step. *ret_used bytes of `in` were used, also with an event. Call again with the rest until
 * H1_EV_MORE. After H1_EV_END the parser is ready for the next message; bytes left over belong to it.
 * `head` must be initialised by http_head_init with the arena of the message. An answer with status
 * 101, or 2xx to CONNECT, is followed by raw bytes as H1_EV_BODY until the connection ends. */
enum h1_event h1_step(struct h1_parser *p, struct slice in, size_t *ret_used,
                      struct http_head *head, struct slice *ret_body);
/* The connection ended: H1_EV_END when that completes the message (body until close, raw bytes),
 * H1_EV_MORE when nothing had begun, else H1_EV_REFUSED (TRUNCATED). */
enum h1_event h1_eof(struct h1_parser *p);

/* Append a head. Framing fields come from `head->body`; `close` adds Connection: close. Names and
 * values that would split the message are refused (ERR_INVALID, nothing is appended), also those that
 * did not come by http_head_add. ERR_NOMEM and ERR_LIMIT stick to the buffer. */
enum err_code h1_write_request(struct buf *out, const struct http_head *head, bool close);
enum err_code h1_write_response(struct buf *out, const struct http_head *head, bool close);
/* One chunk (n > 0): prefix, the bytes, suffix. */
void h1_write_chunk(struct buf *out, struct slice bytes);
/* The same for writers that gather: the line in front of a chunk of `n` > 0 bytes; returns its length.
 * CRLF goes behind the bytes. */
enum { H1_CHUNK_PREFIX_MAX = 18 };
size_t h1_chunk_prefix(size_t n, char ret[H1_CHUNK_PREFIX_MAX]);
/* The last chunk and the trailer section (NULL: none). What must not stand there is left out (RFC 9110
 * 6.5.1), as the parser has it. */
enum err_code h1_write_last_chunk(struct buf *out, const struct http_head *trailers);
