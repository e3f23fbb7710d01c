/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the gRPC module share: grpc_text.c (texts on the wire), grpc.c (calls), and
 * grpc_conn.c (the HTTP/2 session and the channel). */
#pragma once

#include <nghttp2/nghttp2.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/http/grpc.h"

enum {
    GRPC_PREFIX = 5, /* flag and length in front of each message */
    GRPC_DETAIL_MAX = 1024,
    GRPC_HEADER_LIST_MAX = 32 << 10,
    GRPC_STREAM_WINDOW = 256 << 10,
    GRPC_CONN_WINDOW = 1 << 20,
    GRPC_WRITE_BYTES = 256 << 10, /* gathered for one write */
};

struct grpc_metadata {
    struct grpc_metadata *next;
    struct slice name, value;
};

/* A call. It lives from its HEADERS to nghttp2's close of the stream; its owner knows it from
 * on_call or grpc_call until on_end final or grpc_cancel (`ended`). */
struct grpc_stream {
    struct grpc_conn *conn;
    int32_t id;
    const struct grpc_stream_ops *ops;
    void *user;
    struct grpc_stream *next, **prev;
    struct arena arena; /* metadata */
    struct grpc_metadata *metadata, **metadata_end;
    unsigned n_metadata;
    size_t metadata_bytes;
    struct buf in, out; /* a message that is not whole yet; framed messages to send */
    size_t uncredited;  /* bytes that came and for which no window was given back */
    struct loop_timer deadline;
    bool headers_done; /* the other side's first block */
    bool headers_sent;
    bool half_closed; /* the other side sent its end */
    bool end_queued;  /* our end, behind `out` */
    bool deferred;    /* nghttp2 waits for more of `out` */
    bool was_full;
    bool ended;
    bool http_bad; /* the answer is not gRPC */
    unsigned http_status;
    int status;                  /* grpc-status that was received; -1: none */
    enum grpc_status end_status; /* server: what we end with */
    char *detail, *end_detail;   /* owned texts */
};

struct grpc_conn {
    struct chan *chan;
    nghttp2_session *session;
    const struct grpc_conn_ops *ops;
    void *user;
    bool server, ready, closed;
    bool draining; /* no new calls */
    bool leaving;  /* our last GOAWAY went out */
    bool quiet;    /* closed by its owner while it ended */
    bool broken;   /* `why` is set; to be ended by the flush task */
    bool ping_sent;
    struct grpc_limits limits;
    char *authority;
    struct grpc_stream *streams;
    size_t in_bytes; /* sum of the streams' `in` */
    struct buf out;
    struct loop_task flush, gone;
    struct loop_timer keepalive;
    int64_t heard_ns;
    uint32_t goaway_code; /* that came */
    char *pages; /* of nghttp2's tables, slots and frame buffer; NULL: all in the heap */
    uint8_t tables;
    bool slots, frames; /* given out */
    struct err why;
};

#define GRPC_NV(n, v)                                                                              \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v),                \
            NGHTTP2_NV_FLAG_NONE                                                                   \
    }

static inline struct loop *grpc_loop(const struct grpc_conn *c)
{
    return c->chan->loop;
}

/* --- grpc_text.c --- */
/* Heap text; malformed escapes stay as they are. NULL when out of memory. */
char *grpc_percent_decode(struct slice in);
/* grpc-timeout: at most eight digits and a unit; rounded down, at least 1. */
void grpc_timeout_format(int64_t ns, char ret[16]);
/* What RST_STREAM means to a call. */
enum grpc_status grpc_status_of_reset(uint32_t code);

/* --- grpc.c --- */
struct grpc_stream *grpc_stream_new(struct grpc_conn *c);
void grpc_stream_free(struct grpc_stream *s);
/* Tell the end, once; the owner does not know the stream afterwards. */
void grpc_stream_ended(struct grpc_stream *s, enum grpc_status status, struct slice detail);
void grpc_stream_reset(struct grpc_stream *s, uint32_t code);
/* One name and value of a head or trailer; -1: too much of it, or out of memory. */
int grpc_stream_header(struct grpc_stream *s, struct slice name, struct slice value);
/* The first head is complete (server: the call arrives); the other side's end; its bytes. */
void grpc_stream_head(struct grpc_stream *s);
void grpc_stream_half_closed(struct grpc_stream *s);
void grpc_stream_data(struct grpc_stream *s, struct slice bytes);
/* After a flush: tell the owner that there is room, give back window. */
void grpc_stream_flushed(struct grpc_stream *s);
int grpc_stream_deadline(struct grpc_stream *s, int64_t ns);
nghttp2_data_provider grpc_stream_source(struct grpc_stream *s);
int grpc_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd,
                   size_t length, nghttp2_data_source *source, void *user);

/* --- grpc_conn.c --- */
/* Write at the end of the turn. */
void grpc_flush_later(struct grpc_conn *c);
/* End the connection from a task: safe within the owner's calls. */
void grpc_conn_break(struct grpc_conn *c, enum err_code code, const char *why);
