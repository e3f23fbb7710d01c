/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/http */
/* What a peer sends to a gRPC server or client, raw. No crash, no leak, each call ends exactly once,
 * and as long as nothing was wrong with it, where the bytes are cut does not change what the owner
 * hears (an answer of the module's own may overtake or be overtaken). The first byte chooses the side and the cut. */
#include <stdlib.h>

#include "lib/base/buf.h"
#include "lib/http/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { CALLS_MAX = 32 }; /* compared; the streams of a connection may end in any order */

struct call {
    struct run *run;
    struct buf heard;
};

struct run {
    struct grpc_conn *conn;
    struct call call[CALLS_MAX];
    unsigned calls, ends;
    bool good; /* the connection lives; a server ended no call for a fault */
    bool server, closed;
};

static void on_message(struct grpc_stream *s, struct slice msg)
{
    struct call *c = grpc_stream_user(s);
    buf_addf(&c->heard, "m%zu:", msg.len);
    buf_add_slice(&c->heard, msg);
}

static void on_end(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    struct call *c = grpc_stream_user(s);
    buf_addf(&c->heard, "e%d%d:%.*s", status, final, SL_FMT(detail));
    c->run->ends += final;
    if (final && c->run->server)
        c->run->good = false;
}

static struct call *call_new(struct run *r)
{
    struct call *c = &r->call[r->calls++ % CALLS_MAX];
    c->run = r;
    return c;
}

static const struct grpc_stream_ops stream_ops = {.on_message = on_message, .on_end = on_end};

static void on_call(struct grpc_conn *c, struct grpc_stream *s, struct slice path)
{
    struct run *r = grpc_conn_user(c);
    struct call *call = call_new(r);
    buf_addf(&call->heard, "c%.*s x=%.*s", SL_FMT(path), SL_FMT(grpc_stream_metadata(s, SL("x"))));
    grpc_stream_set(s, &stream_ops, call);
}

static void on_close(struct grpc_conn *c, const struct err *why)
{
    struct run *r = grpc_conn_user(c);
    (void)why;
    r->good = false;
    r->closed = true;
    if (r->conn != c || r->ends != r->calls)
        abort(); /* calls are told first */
}

static const struct grpc_conn_ops conn_ops = {.on_call = on_call, .on_close = on_close};

static void start_calls(struct run *r)
{
    static const char *const metadata[] = {"x", "y", NULL};
    for (int i = 0; i < 2; i++) {
        struct grpc_stream *s;
        if (grpc_call(r->conn, "/a.B/C", metadata, 0, &stream_ops, call_new(r), &s, NULL) < 0)
            abort();
        if (grpc_send(s, SL("question")) != ERR_OK)
            abort();
        grpc_end(s);
    }
}

static void feed(struct loop *loop, struct chan *wire, struct slice in, size_t step)
{
    char sink[4096];
    size_t n;
    for (int idle = 0; idle < 4;) {
        bool moved = false;
        while (chan_read(wire, sink, sizeof sink, &n) == ERR_OK)
            moved = true;
        if (in.len && chan_write(wire, in.p, in.len < step ? in.len : step, &n) == ERR_OK) {
            in = slice_skip(in, n);
            moved = true;
        }
        loop_turn(loop, 0, NULL);
        loop_turn(loop, 0, NULL);
        idle = moved ? 0 : idle + 1;
    }
}

static void run(struct run *r, bool server, struct slice in, size_t step)
{
    struct grpc_limits limits = {.max_message = 2000, .max_streams = 4};
    struct clock clock;
    struct loop *loop;
    struct chan *wire, *chan;

    *r = (struct run){.good = true, .server = server};
    for (int i = 0; i < CALLS_MAX; i++)
        buf_init(&r->call[i].heard, 16 << 20);
    clock_init_virtual(&clock, 0);
    if (loop_new(&clock, &loop, NULL) < 0 || chan_mem_pair(loop, 4096, &wire, &chan, NULL) < 0)
        abort();
    int rc = server ? grpc_server(chan, &limits, &conn_ops, r, &r->conn, NULL)
                    : grpc_client(chan, "a", &limits, &conn_ops, r, &r->conn, NULL);
    if (rc < 0)
        abort();
    if (!server)
        start_calls(r);
    feed(loop, wire, in, step);
    chan_close(wire);
    bool good = r->good;
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0, NULL);
    if (!r->closed || r->ends != r->calls)
        abort();
    r->good = good;
    loop_free(loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct run whole, cut;
    if (n == 0)
        return 0;
    bool server = p[0] & 1;
    run(&whole, server, slice_of(p + 1, n - 1), SIZE_MAX);
    run(&cut, server, slice_of(p + 1, n - 1), 1 + (size_t)(p[0] >> 1) % 50);
    for (int i = 0; i < CALLS_MAX; i++) {
        struct buf *a = &whole.call[i].heard, *b = &cut.call[i].heard;
        if (whole.good && cut.good && !slice_eq(buf_slice(a), buf_slice(b)))
            abort();
        buf_fini(a);
        buf_fini(b);
    }
    return 0;
}
