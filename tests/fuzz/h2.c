/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/http */
/* What a peer sends to an HTTP/2 session, raw. No crash, no leak; each stream is over exactly once
 * and is not heard of afterwards; every head that is handed on can be written as HTTP/1 and as
 * HTTP/2; and as long as nothing was broken off, where the bytes are cut does not change what the
 * owner hears. The first byte chooses the side and the cut. */
#include <stdlib.h>

#include "lib/base/buf.h"
#include "lib/http/h1.h"
#include "lib/http/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { CALLS_MAX = 32 };

struct call {
    struct run *run;
    struct arena arena;
    struct buf heard;
    bool over;
};
struct run {
    struct h2 *h2;
    struct call call[CALLS_MAX];
    unsigned calls;
    bool good, server, closed;
};

static struct call *heard_of(struct h2_stream *s)
{
    struct call *c = h2_stream_user(s);
    if (!c || c->over || c->run->closed)
        abort();
    return c;
}

static struct arena *on_open(struct h2 *h, struct h2_stream *s)
{
    struct run *r = h2_user(h);
    if (r->calls == CALLS_MAX)
        return NULL;
    struct call *c = &r->call[r->calls++];
    h2_stream_set(s, c);
    return &c->arena;
}

static void answer(struct call *c, struct h2_stream *s, unsigned status)
{
    struct http_head h;
    http_head_init(&h, &c->arena);
    h.status = (uint16_t)status;
    h.body = HTTP_BODY_STREAM;
    http_head_add(&h, SL("x"), SL("y"));
    if (h2_head(s, &h) != ERR_OK)
        abort();
    h2_body(s, SL("answer"));
    c->over = true;
    if (h2_end(s, &h) != ERR_OK)
        abort();
}

static void on_head(struct h2_stream *s, struct http_head *head, bool interim)
{
    struct call *c = heard_of(s);
    struct buf out;
    buf_init(&out, 1 << 20);
    if ((head->status ? h1_write_response : h1_write_request)(&out, head, false) != ERR_OK)
        abort();
    buf_addf(&c->heard, "h%d:", interim);
    buf_add_slice(&c->heard, buf_slice(&out));
    buf_fini(&out);
}

static void on_refused(struct h2_stream *s, struct http_head *head, unsigned status,
                       const char *detail)
{
    struct call *c = heard_of(s);
    (void)head;
    buf_addf(&c->heard, "r%u%s", status, detail);
    answer(c, s, status);
}

static void on_body(struct h2_stream *s, struct slice bytes)
{
    struct call *c = heard_of(s);
    buf_add_slice(&c->heard, bytes);
    if (bytes.len && bytes.p[0] == 'p')
        h2_pause(s, true);
}

static void on_end(struct h2_stream *s, struct http_head *trailers)
{
    struct call *c = heard_of(s);
    buf_addf(&c->heard, "e%u", trailers ? trailers->n_fields : 0);
    if (c->run->server)
        answer(c, s, 200);
    else
        c->over = true;
}

static void on_reset(struct h2_stream *s, enum h2_why why, uint32_t code, const char *detail,
                     bool untouched)
{
    struct call *c = heard_of(s);
    (void)why, (void)code, (void)detail, (void)untouched;
    c->over = true;
    c->run->good = false;
}

static void on_drain(struct h2_stream *s)
{
    heard_of(s);
}

static void on_closed(struct h2 *h, const struct err *why)
{
    struct run *r = h2_user(h);
    (void)why;
    r->good = false;
    r->closed = true;
    for (unsigned i = 0; i < r->calls; i++)
        if (!r->call[i].over)
            abort(); /* streams are told first */
}

static const struct h2_ops ops = {.on_open = on_open,
                                  .on_head = on_head,
                                  .on_refused = on_refused,
                                  .on_body = on_body,
                                  .on_end = on_end,
                                  .on_reset = on_reset,
                                  .on_drain = on_drain,
                                  .on_closed = on_closed};

static void ask(struct run *r)
{
    static const char *const methods[] = {"GET", "HEAD", "CONNECT", "POST"};
    for (int i = 0; i < 4; i++) {
        struct call *c = &r->call[r->calls++];
        struct http_head h;
        struct h2_stream *s;
        http_head_init(&h, &c->arena);
        h.method = slice_str(methods[i]);
        h.path = SL("/");
        h.authority = SL("a:1");
        h.body = i == 3 ? HTTP_BODY_STREAM : HTTP_BODY_NONE;
        if (h2_request(r->h2, &h, &c->arena, c, &s) != ERR_OK)
            abort();
        h2_end(s, NULL);
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
        idle = moved ? 0 : idle + 1;
    }
}

static void run(struct run *r, bool server, struct slice in, size_t step)
{
    struct h2_config config = {.max_streams = 1000, .head_bytes = 2000, .head_fields = 10};
    struct clock clock;
    struct loop *loop;
    struct chan *wire, *chan;

    *r = (struct run){.good = true, .server = server};
    for (int i = 0; i < CALLS_MAX; i++) {
        r->call[i].run = r;
        buf_init(&r->call[i].heard, 16 << 20);
    }
    clock_init_virtual(&clock, 0);
    if (loop_new(&clock, &loop, NULL) < 0 || chan_mem_pair(loop, 4096, &wire, &chan, NULL) < 0)
        abort();
    if ((server ? h2_server : h2_client)(chan, &config, &ops, r, &r->h2, NULL) < 0)
        abort();
    if (!server)
        ask(r);
    feed(loop, wire, in, step);
    chan_close(wire);
    bool good = r->good;
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0, NULL);
    if (!r->closed)
        abort();
    r->good = good;
    loop_free(loop);
    for (int i = 0; i < CALLS_MAX; i++)
        arena_fini(&r->call[i].arena);
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
