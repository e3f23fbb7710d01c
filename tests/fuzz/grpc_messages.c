/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/http */
/* A gRPC server and what a client may send. First byte odd: the rest is the content of a call, and
 * how it is cut into DATA frames (by the second byte) must not change the messages and the end that
 * come of it. Even: the rest is HTTP/2 frames as they are, behind a preface; the server survives,
 * tells each call's end exactly once, and never anything after it. */
#include <stdlib.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/http/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { INPUT_MAX = 16000 };

static struct buf told;
static int open_calls;
static bool answer;

static void on_message(struct grpc_stream *s, struct slice msg)
{
    if (!grpc_stream_user(s))
        abort();
    buf_addf(&told, "%zu:", msg.len);
    buf_add_slice(&told, msg);
    if (answer)
        grpc_send(s, msg);
}
static void on_end(struct grpc_stream *s, enum grpc_status st, struct slice detail, bool final)
{
    if (!grpc_stream_user(s))
        abort();
    buf_addf(&told, "%s %d %.*s;", grpc_status_name(st), final, SL_FMT(detail));
    if (final) {
        open_calls--;
        grpc_stream_set(s, NULL, NULL);
    } else {
        grpc_end(s);
    }
}
static const struct grpc_stream_ops stream_ops = {.on_message = on_message, .on_end = on_end};
static void on_call(struct grpc_conn *c, struct grpc_stream *s, struct slice path)
{
    (void)c, (void)path;
    open_calls++;
    grpc_stream_set(s, &stream_ops, &told);
}
static struct grpc_conn *conn;
static void on_close(struct grpc_conn *c, const struct err *why)
{
    (void)c, (void)why;
    conn = NULL;
}
static const struct grpc_conn_ops conn_ops = {.on_call = on_call, .on_close = on_close};

static void frame(struct buf *out, unsigned type, unsigned flags, unsigned id, struct slice s)
{
    char head[9] = {(char)(s.len >> 16),
                    (char)(s.len >> 8),
                    (char)s.len,
                    (char)type,
                    (char)flags,
                    0,
                    0,
                    0,
                    (char)id};
    buf_add(out, head, sizeof head);
    buf_add_slice(out, s);
}

static void preface(struct buf *out)
{
    buf_add_str(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(out, 4, 0, 0, SL(""));
}

/* One call whose content comes in frames of `step` bytes (0: one frame). */
static void one_call(struct buf *out, struct slice body, size_t step)
{
    preface(out);
    frame(out, 1, 4, 1,
          SL("\x83\x86\x04\x04/s/m\x01\x01"
             "a\x0f\x10\x10"
             "application/grpc"));
    do {
        struct slice part = slice_head(body, step ? step : body.len);
        body = slice_skip(body, part.len);
        frame(out, 0, body.len == 0, 1, part);
    } while (body.len);
}

static void serve(struct slice in)
{
    struct grpc_limits limits = {.max_message = 3000, .max_streams = 5, .send_high_water = 1000};
    struct chan *ours, *wire;
    struct clock clk;
    struct loop *loop;
    char sink[4096];
    size_t n;

    clock_init_virtual(&clk, NS_PER_S);
    open_calls = 0;
    if (loop_new(&clk, &loop, NULL) < 0 || chan_mem_pair(loop, 1 << 16, &ours, &wire, NULL) < 0 ||
        grpc_server(ours, &limits, &conn_ops, NULL, &conn, NULL) < 0)
        abort();
    while (in.len && chan_write(wire, in.p, in.len, &n) == ERR_OK) {
        in = slice_skip(in, n);
        loop_turn(loop, 0, NULL);
    }
    for (int i = 0; i < 8; i++) {
        loop_turn(loop, 0, NULL);
        while (chan_read(wire, sink, sizeof sink, &n) == ERR_OK)
            ;
    }
    chan_close(wire);
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0, NULL);
    if (conn || open_calls)
        abort(); /* with the connection every call ended */
    loop_free(loop);
}

static void cut_does_not_matter(struct slice body, size_t step)
{
    struct buf in, first;
    size_t steps[] = {0, step};

    buf_init(&in, 1 << 20);
    buf_init(&first, 1 << 20);
    for (int i = 0; i < 2; i++) {
        buf_reset(&in);
        buf_reset(&told);
        one_call(&in, body, steps[i]);
        serve(buf_slice(&in));
        if (i == 0)
            buf_add_slice(&first, buf_slice(&told));
    }
    if (!slice_eq(buf_slice(&first), buf_slice(&told)))
        abort();
    buf_fini(&in);
    buf_fini(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2 || n > INPUT_MAX)
        return 0;
    buf_init(&told, 1 << 20);
    answer = !(p[0] & 1);
    if (p[0] & 1) {
        /* Frames of one byte each would not fit the pipe in one turn. */
        cut_does_not_matter(slice_of(p + 2, n - 2), n / 1000 + 1 + p[1] % 64);
    } else {
        struct buf in;
        buf_init(&in, 1 << 20);
        preface(&in);
        buf_add(&in, p + 1, n - 1);
        serve(buf_slice(&in));
        buf_fini(&in);
    }
    buf_fini(&told);
    return 0;
}
