/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/2 session, client and server against each other over a memory pair. test_h2_wire.c has
 * one side against bytes. */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "tests/unit/lib/http/h2_raw.h"

enum { CALLS = 64 };

/* What one side saw of a stream, as text. */
struct side {
    struct h2_stream *s;
    struct arena arena;
    struct buf saw;
    bool paused_at_body, ended;
    size_t bytes, drains;
};
static struct clock the_clock;
static struct loop *loop;
static struct h2 *client, *server;
static struct side calls[CALLS], served[CALLS];
static unsigned n_calls, n_served;
static int settings, rooms, goaways, pings, closes[2], limits[H2_LIMIT_COUNT];
static enum err_code closed_with[2];
static bool refuse_streams, pause_bodies, no_answers, reset_requests, close_in_head;
static size_t answer_bytes;
static unsigned answer_status;

static void saw_head(struct buf *b, const struct http_head *h)
{
    if (h->status)
        buf_addf(b, "%u", h->status);
    else
        buf_addf(b, "%.*s %.*s://%.*s%.*s", SL_FMT(h->method), SL_FMT(h->scheme),
                 SL_FMT(h->authority), SL_FMT(h->path));
    for (uint32_t i = 0; i < h->n_fields; i++)
        buf_addf(b, " %.*s=%.*s", SL_FMT(h->fields[i].name), SL_FMT(h->fields[i].value));
    static const char *const bodies[] = {" none", " length", " stream", " close"};
    buf_addf(b, "%s", bodies[h->body]);
    if (h->body == HTTP_BODY_LENGTH)
        buf_addf(b, ":%llu", (unsigned long long)h->content_length);
    buf_addf(b, "%s%s%s|", h->te_trailers ? " te" : "", h->expect_continue ? " expect" : "",
             h->bare ? " bare" : "");
}

static struct arena *on_open(struct h2 *h, struct h2_stream *s)
{
    (void)h;
    if (refuse_streams)
        return NULL;
    struct side *c = &served[n_served++ % CALLS];
    c->s = s;
    h2_stream_set(s, c);
    return &c->arena;
}

static void answer(struct side *c)
{
    struct http_head h;
    static char bytes[1 << 16];
    http_head_init(&h, &c->arena);
    h.status = (uint16_t)answer_status;
    h.body = answer_bytes ? HTTP_BODY_STREAM : HTTP_BODY_NONE;
    http_head_add(&h, SL("x-answer"), SL("yes"));
    ck_assert_int_eq(h2_head(c->s, &h), ERR_OK);
    memset(bytes, 'a', sizeof bytes);
    for (size_t left = answer_bytes; left;) {
        size_t n = left < sizeof bytes ? left : sizeof bytes;
        h2_body(c->s, slice_of(bytes, n));
        left -= n;
    }
    struct http_head t;
    http_head_init(&t, &c->arena);
    http_head_add(&t, SL("x-trailer"), SL("end"));
    http_head_add(&t, SL("content-type"), SL("forbidden"));
    h2_end(c->s, answer_bytes ? &t : NULL);
    c->s = NULL;
}

static void on_head(struct h2_stream *s, struct http_head *head, bool interim)
{
    struct side *c = h2_stream_user(s);
    saw_head(&c->saw, head);
    ck_assert_int_eq(interim, head->status && head->status < 200);
    if (close_in_head)
        h2_close(h2_stream_session(s));
    else if (reset_requests)
        h2_reset(s, H2_CANCEL);
}
static void on_refused(struct h2_stream *s, struct http_head *head, unsigned status,
                       const char *detail)
{
    struct side *c = h2_stream_user(s);
    struct http_head h;
    (void)head;
    buf_addf(&c->saw, "refused %u %s|", status, detail);
    http_head_init(&h, &c->arena);
    h.status = (uint16_t)status;
    ck_assert_int_eq(h2_head(s, &h), ERR_OK);
    h2_end(s, NULL);
    c->s = NULL;
}
static void on_body(struct h2_stream *s, struct slice bytes)
{
    struct side *c = h2_stream_user(s);
    if (c->bytes == 0)
        buf_add_slice(&c->saw, slice_head(bytes, 8));
    c->bytes += bytes.len;
    if (pause_bodies)
        h2_pause(s, true);
}
static void on_end(struct h2_stream *s, struct http_head *trailers)
{
    struct side *c = h2_stream_user(s);
    buf_addf(&c->saw, "end");
    for (uint32_t i = 0; trailers && i < trailers->n_fields; i++)
        buf_addf(&c->saw, " %.*s=%.*s", SL_FMT(trailers->fields[i].name),
                 SL_FMT(trailers->fields[i].value));
    buf_addf(&c->saw, "|");
    c->ended = true;
    if (h2_stream_session(s) == client)
        c->s = NULL;
    else if (!no_answers)
        answer(c);
}
static void on_reset(struct h2_stream *s, enum h2_why why, uint32_t code, const char *detail,
                     bool untouched)
{
    struct side *c = h2_stream_user(s);
    static const char *const whys[] = {"peer", "refused", "malformed", "stalled", "lost", "memory"};
    buf_addf(&c->saw, "reset %s %u%s%s%s|", whys[why], code, detail ? " " : "",
             detail ? detail : "", untouched ? " untouched" : "");
    c->s = NULL;
}
static void on_drain(struct h2_stream *s)
{
    ((struct side *)h2_stream_user(s))->drains++;
}
static void on_settings(struct h2 *h)
{
    settings += h == client;
}
static void on_room(struct h2 *h)
{
    rooms += h == client;
}
static void on_goaway(struct h2 *h, uint32_t code)
{
    (void)code;
    goaways += h == client;
}
static void on_ping(struct h2 *h)
{
    (void)h;
    pings++;
}
static void on_limit(struct h2 *h, enum h2_limit l)
{
    (void)h;
    limits[l]++;
}
static void on_closed(struct h2 *h, const struct err *why)
{
    closes[h == server]++;
    closed_with[h == server] = why->code;
    if (h == server)
        server = NULL;
    else
        client = NULL;
}
static const struct h2_ops ops = {on_open,  on_head,  on_refused,  on_body, on_end,
                                  on_reset, on_drain, on_settings, on_room, on_goaway,
                                  on_ping,  on_limit, on_closed};

static void spin(void)
{
    for (int i = 0; i < 400; i++)
        loop_turn(loop, 0, NULL);
}

static int setup_try(size_t cap, const struct h2_config *sc, const struct h2_config *cc)
{
    struct chan *a, *b;
    struct err err = {0};
    clock_init_virtual(&the_clock, NS_PER_S);
    n_calls = n_served = 0;
    settings = rooms = goaways = pings = 0;
    memset(closes, 0, sizeof closes);
    memset(limits, 0, sizeof limits);
    refuse_streams = pause_bodies = no_answers = reset_requests = close_in_head = false;
    answer_bytes = 5;
    answer_status = 200;
    memset(calls, 0, sizeof calls);
    memset(served, 0, sizeof served);
    for (int i = 0; i < CALLS; i++) {
        buf_init(&calls[i].saw, 1 << 16);
        buf_init(&served[i].saw, 1 << 16);
        arena_init(&calls[i].arena, 4096, 0);
        arena_init(&served[i].arena, 4096, 0);
    }
    if (loop_new(&the_clock, &loop, &err) < 0)
        return -1;
    if (chan_mem_pair(loop, cap, &a, &b, &err) < 0)
        return -1;
    if (h2_client(a, cc, &ops, NULL, &client, &err) < 0) {
        chan_close(b);
        return -1;
    }
    return h2_server(b, sc, &ops, NULL, &server, &err);
}

static void setup(size_t cap, const struct h2_config *sc, const struct h2_config *cc)
{
    ck_assert_int_eq(setup_try(cap, sc, cc), 0);
}

static void teardown(void)
{
    h2_close(client);
    h2_close(server);
    client = server = NULL;
    if (loop)
        spin();
    loop_free(loop);
    loop = NULL;
    for (int i = 0; i < CALLS; i++) {
        buf_fini(&calls[i].saw);
        buf_fini(&served[i].saw);
        arena_fini(&calls[i].arena);
        arena_fini(&served[i].arena);
    }
}

static struct side *request(const char *method, const char *path, enum http_body body,
                            uint64_t length, enum err_code want)
{
    struct side *c = &calls[n_calls++];
    struct http_head h;
    http_head_init(&h, &c->arena);
    h.method = slice_str(method);
    h.scheme = SL("http");
    h.path = slice_str(path);
    h.authority = SL("shop:80");
    h.body = body;
    h.content_length = length;
    h.te_trailers = body == HTTP_BODY_STREAM;
    http_head_add(&h, SL("user-agent"), SL("test"));
    enum err_code rc = h2_request(client, &h, &c->arena, c, &c->s);
    ck_assert_int_eq(rc, want);
    return c;
}
#define SAW(c, text) ck_assert_str_eq(buf_cstr(&(c)->saw), (text))

START_TEST(get)
{
    setup(4096, NULL, NULL);
    struct side *c = request("GET", "/a?b", HTTP_BODY_NONE, 0, ERR_OK);
    ck_assert_int_eq(h2_end(c->s, NULL), ERR_OK);
    spin();
    SAW(&served[0], "GET http://shop:80/a?b user-agent=test none|end|");
    SAW(c, "200 x-answer=yes stream|aaaaaend x-trailer=end|");
    ck_assert_int_eq(settings, 1);
    ck_assert_int_eq(rooms, 1);
    ck_assert(h2_idle(client) && h2_idle(server));
    ck_assert_int_eq(h2_peer_streams(client), 256);
    ck_assert_int_eq(h2_room(client), 256);
    teardown();
}
END_TEST

START_TEST(head_and_empty)
{
    static const struct {
        const char *method;
        unsigned status;
        size_t bytes;
        const char *want;
    } rows[] = {
        {"HEAD", 200, 5, "200 x-answer=yes none bare|end|"},
        {"GET", 204, 5, "204 x-answer=yes none|end|"},
        {"GET", 304, 5, "304 x-answer=yes none|end|"},
        {"GET", 200, 0, "200 x-answer=yes none|end|"},
    };
    setup(4096, NULL, NULL);
    for (size_t i = 0; i < N_OF(rows); i++) {
        answer_status = rows[i].status;
        answer_bytes = rows[i].bytes;
        struct side *c = request(rows[i].method, "/", HTTP_BODY_NONE, 0, ERR_OK);
        h2_end(c->s, NULL);
        spin();
        SAW(c, rows[i].want);
    }
    ck_assert(h2_idle(client) && h2_idle(server));
    teardown();
}
END_TEST

/* More than the windows, the channel and the queue hold; both ways. */
START_TEST(large)
{
    static char bytes[1 << 16];
    setup(4096, NULL, NULL);
    answer_bytes = 3 << 20;
    struct side *c = request("POST", "/", HTTP_BODY_STREAM, 0, ERR_OK);
    memset(bytes, 'q', sizeof bytes);
    bool full = false;
    for (int i = 0; i < 40; i++)
        full = h2_body(c->s, slice_of(bytes, sizeof bytes)) == ERR_LIMIT || full;
    ck_assert(full);
    h2_end(c->s, NULL);
    for (int i = 0; i < 20; i++)
        spin();
    ck_assert_uint_eq(served[0].bytes, 40 * sizeof bytes);
    ck_assert_uint_eq(c->bytes, 3 << 20);
    ck_assert(c->ended);
    ck_assert_uint_gt(c->drains, 0);
    ck_assert(h2_idle(client) && h2_idle(server));
    teardown();
}
END_TEST

/* A paused stream holds its client up at its window; another one goes on. */
START_TEST(pause)
{
    static char bytes[1 << 16];
    setup(65536, NULL, NULL);
    pause_bodies = no_answers = true;
    struct side *slow = request("POST", "/slow", HTTP_BODY_STREAM, 0, ERR_OK);
    for (int i = 0; i < 4; i++)
        h2_body(slow->s, slice_of(bytes, sizeof bytes));
    spin();
    ck_assert_uint_eq(served[0].bytes, 65535);
    pause_bodies = no_answers = false;
    struct side *other = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(other->s, NULL);
    spin();
    ck_assert(other->ended);
    ck_assert_uint_eq(served[0].bytes, 65535);
    h2_pause(served[0].s, false);
    h2_end(slow->s, NULL);
    spin();
    ck_assert_uint_eq(served[0].bytes, 4 * sizeof bytes);
    ck_assert(slow->ended);
    teardown();
}
END_TEST

/* What slow streams keep back is bounded in all: then the connection's window stays shut, too. */
START_TEST(held)
{
    enum { N = 40 };
    static char bytes[60000];
    size_t came = 0;
    setup(1 << 20, &(struct h2_config){.held_max = 512 << 10}, NULL);
    pause_bodies = no_answers = true;
    for (int i = 0; i < N; i++) {
        struct side *c = request("POST", "/", HTTP_BODY_STREAM, 0, ERR_OK);
        h2_body(c->s, slice_of(bytes, sizeof bytes));
        h2_end(c->s, NULL);
    }
    spin();
    for (int i = 0; i < N; i++)
        came += served[i].bytes;
    ck_assert_uint_ge(came, 1 << 20);
    ck_assert_uint_le(came, (1 << 20) + (512 << 10) + sizeof bytes);
    pause_bodies = false;
    for (int i = 0; i < N; i++)
        if (served[i].s)
            h2_pause(served[i].s, false);
    spin();
    for (int i = 0; i < N; i++)
        ck_assert_uint_eq(served[i].bytes, sizeof bytes);
    teardown();
}
END_TEST

/* A client's preface waits for its turn while other sessions of the thread have theirs. */
START_TEST(preface)
{
    struct chan *a, *b;
    struct h2 *other;
    struct err err = {0};
    char got[64];
    size_t n = 0;
    setup(4096, NULL, NULL);
    teardown();
    ck_assert_int_eq(loop_new(&the_clock, &loop, &err), 0);
    ck_assert_int_eq(chan_mem_pair(loop, 4096, &a, &b, &err), 0);
    ck_assert_int_eq(h2_server(b, NULL, &ops, NULL, &server, &err), 0);
    struct chan *peer = a;
    ck_assert_int_eq(chan_mem_pair(loop, 4096, &a, &b, &err), 0);
    ck_assert_int_eq(h2_client(a, NULL, &ops, NULL, &other, &err), 0);
    spin();
    ck_assert_int_eq(chan_read(b, got, sizeof got, &n), ERR_OK);
    ck_assert_uint_gt(n, NGHTTP2_CLIENT_MAGIC_LEN);
    ck_assert_mem_eq(got, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    h2_close(other);
    chan_close(peer);
    chan_close(b);
    teardown();
}
END_TEST

START_TEST(resets)
{
    setup(4096, NULL, NULL);
    no_answers = true;
    struct side *c = request("POST", "/", HTTP_BODY_STREAM, 0, ERR_OK);
    spin();
    h2_reset(c->s, H2_CANCEL);
    spin();
    SAW(c, "");
    SAW(&served[0], "POST http://shop:80/ user-agent=test stream te|reset peer 8|");
    c = request("POST", "/", HTTP_BODY_STREAM, 0, ERR_OK);
    spin();
    h2_reset(served[1].s, H2_INTERNAL_ERROR);
    spin();
    SAW(c, "reset peer 2|");
    refuse_streams = true;
    c = request("POST", "/", HTTP_BODY_STREAM, 0, ERR_OK);
    spin();
    SAW(c, "reset refused 7 untouched|");
    ck_assert(h2_idle(client) && h2_idle(server));
    teardown();
}
END_TEST

/* The answer is whole before the request: what is left of it is broken off without a word to
 * anybody. */
START_TEST(early_answer)
{
    setup(4096, NULL, NULL);
    no_answers = true;
    struct side *c = request("POST", "/", HTTP_BODY_STREAM, 0, ERR_OK);
    h2_body(c->s, SL("part"));
    spin();
    answer(&served[0]);
    spin();
    SAW(c, "200 x-answer=yes stream|aaaaaend x-trailer=end|");
    SAW(&served[0], "POST http://shop:80/ user-agent=test stream te|part");
    ck_assert(h2_idle(client) && h2_idle(server));
    teardown();
}
END_TEST

/* A client that goes on sending behind its answer is read for so many bytes and so long. */
START_TEST(linger)
{
    static char bytes[70000];
    setup(1 << 20, NULL, NULL);
    no_answers = true;
    for (int late = 0; late < 2; late++) {
        struct chan *a, *b;
        struct err err = {0};
        h2_close(client);
        h2_close(server);
        spin();
        ck_assert_int_eq(chan_mem_pair(loop, 1 << 20, &a, &b, &err), 0);
        ck_assert_int_eq(h2_server(b, NULL, &ops, NULL, &server, &err), 0);
        client = NULL;
        struct buf raw;
        size_t n;
        buf_init(&raw, 1 << 20);
        raw_preface(&raw);
        raw_headers(
            &raw, 1,
            SL(F(":method", "POST") F(":scheme", "http") F(":authority", "a") F(":path", "/")),
            false);
        ck_assert_int_eq(chan_write(a, buf_slice(&raw).p, buf_len(&raw), &n), ERR_OK);
        spin();
        answer(&served[late]);
        spin();
        ck_assert(!h2_idle(server));
        buf_reset(&raw);
        for (size_t at = 0; !late && at < 65000; at += 13000)
            raw_frame(&raw, NGHTTP2_DATA, 0, 1, slice_of(bytes, 13000));
        if (!late)
            ck_assert_int_eq(chan_write(a, buf_slice(&raw).p, buf_len(&raw), &n), ERR_OK);
        spin();
        ck_assert(!h2_idle(server));
        if (late) {
            clock_advance(&the_clock, NS_PER_S);
        } else {
            buf_reset(&raw);
            raw_frame(&raw, NGHTTP2_DATA, 0, 1, slice_of(bytes, 1000));
            ck_assert_int_eq(chan_write(a, buf_slice(&raw).p, buf_len(&raw), &n), ERR_OK);
        }
        spin();
        ck_assert(h2_idle(server));
        buf_fini(&raw);
        chan_close(a);
        spin();
        ck_assert_ptr_null(server);
    }
    teardown();
}
END_TEST

START_TEST(interim)
{
    setup(4096, NULL, NULL);
    no_answers = true;
    struct side *c = request("POST", "/", HTTP_BODY_LENGTH, 4, ERR_OK);
    spin();
    struct http_head h;
    http_head_init(&h, &served[0].arena);
    h.status = 100;
    ck_assert_int_eq(h2_head(served[0].s, &h), ERR_OK);
    h.status = 103;
    http_head_add(&h, SL("link"), SL("</style.css>"));
    ck_assert_int_eq(h2_head(served[0].s, &h), ERR_OK);
    h.status = 101;
    ck_assert_int_eq(h2_head(served[0].s, &h), ERR_INVALID);
    spin();
    SAW(c, "100 none|103 link=</style.css> none|");
    h2_body(c->s, SL("body"));
    h2_end(c->s, NULL);
    spin();
    SAW(&served[0], "POST http://shop:80/ user-agent=test length:4|bodyend|");
    answer(&served[0]);
    spin();
    SAW(c, "100 none|103 link=</style.css> none|200 x-answer=yes stream|aaaaaend x-trailer=end|");
    teardown();
}
END_TEST

/* An answer without content goes out whole with its head; its owner may take time to say so. */
START_TEST(parted)
{
    setup(4096, NULL, NULL);
    no_answers = true;
    for (int i = 0; i < 2; i++) {
        struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
        h2_end(c->s, NULL);
        spin();
        struct http_head h;
        http_head_init(&h, &served[i].arena);
        h.status = 204;
        ck_assert_int_eq(h2_head(served[i].s, &h), ERR_OK);
        spin();
        SAW(c, "204 none|end|");
        ck_assert_int_eq(h2_body(served[i].s, SL("no")), ERR_OK);
        if (i)
            h2_reset(served[i].s, H2_CANCEL);
        else
            ck_assert_int_eq(h2_end(served[i].s, NULL), ERR_OK);
    }
    spin();
    ck_assert(h2_idle(client) && h2_idle(server));
    teardown();
}
END_TEST

START_TEST(drain_server)
{
    setup(4096, NULL, NULL);
    no_answers = true;
    struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    spin();
    h2_drain(server);
    spin();
    ck_assert_int_ge(goaways, 1);
    ck_assert_int_eq(h2_room(client), 0);
    ck_assert_int_eq(closes[0] + closes[1], 0);
    answer(&served[0]);
    spin();
    ck_assert(c->ended);
    ck_assert_int_eq(closes[0], 1);
    ck_assert_int_eq(closes[1], 1);
    ck_assert_int_eq(closed_with[1], ERR_EOF);
    ck_assert_int_eq(closed_with[0], ERR_EOF);
    teardown();
}
END_TEST

START_TEST(drain_client)
{
    setup(4096, NULL, NULL);
    struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    h2_drain(client);
    request("GET", "/", HTTP_BODY_NONE, 0, ERR_LIMIT);
    spin();
    ck_assert(c->ended);
    ck_assert_int_eq(closes[0], 1);
    ck_assert_int_eq(closed_with[0], ERR_EOF);
    teardown();
}
END_TEST

START_TEST(lost)
{
    setup(4096, NULL, NULL);
    no_answers = true;
    struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    spin();
    h2_close(server);
    server = NULL;
    struct side *late = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    spin();
    SAW(c, "reset lost 2|");
    SAW(late, "reset lost 2 untouched|");
    ck_assert_int_eq(closes[0], 1);
    ck_assert_int_eq(closed_with[0], ERR_EOF);
    teardown();
}
END_TEST

START_TEST(terminate)
{
    setup(4096, NULL, NULL);
    no_answers = true;
    struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    spin();
    h2_terminate(server, H2_ENHANCE_YOUR_CALM);
    spin();
    SAW(&served[0], "GET http://shop:80/ user-agent=test none|end|reset lost 2|");
    ck_assert_int_eq(closes[0], 1);
    ck_assert_int_eq(closes[1], 1);
    teardown();
}
END_TEST

START_TEST(close_within)
{
    setup(4096, NULL, NULL);
    close_in_head = true;
    struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    spin();
    server = NULL; /* closed by its owner within on_head */
    SAW(&served[0], "GET http://shop:80/ user-agent=test none|");
    SAW(c, "reset lost 2|");
    ck_assert_int_eq(closes[1], 0);
    teardown();
}
END_TEST

START_TEST(reset_within)
{
    setup(4096, NULL, NULL);
    reset_requests = true;
    struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    spin();
    SAW(&served[0], "GET http://shop:80/ user-agent=test none|");
    SAW(c, "reset peer 8|");
    ck_assert(h2_idle(client) && h2_idle(server));
    teardown();
}
END_TEST

START_TEST(ping)
{
    setup(4096, NULL, NULL);
    h2_ping(client);
    h2_ping(client);
    spin();
    ck_assert_int_eq(pings, 1);
    h2_ping(client);
    spin();
    ck_assert_int_eq(pings, 2);
    teardown();
}
END_TEST

/* More than the server lets be open: the client's owner is told no, and of room later. */
START_TEST(room)
{
    struct h2_config sc = {.max_streams = 2};
    setup(4096, &sc, NULL);
    spin();
    no_answers = true;
    ck_assert_int_eq(h2_room(client), 2);
    request("GET", "/1", HTTP_BODY_NONE, 0, ERR_OK);
    request("GET", "/2", HTTP_BODY_NONE, 0, ERR_OK);
    request("GET", "/3", HTTP_BODY_NONE, 0, ERR_LIMIT);
    spin();
    ck_assert_int_eq(rooms, 0);
    answer(&served[0]);
    spin();
    ck_assert_int_eq(rooms, 1);
    ck_assert_int_eq(h2_room(client), 1);
    request("GET", "/3", HTTP_BODY_NONE, 0, ERR_OK);
    teardown();
}
END_TEST

/* A peer whose window stays shut: only the stream goes. One that reads nothing at all: the
 * connection. */
START_TEST(stalls)
{
    struct h2_config sc = {.stall_ns = 10 * NS_PER_S};
    setup(1 << 20, &sc, NULL);
    answer_bytes = 200000;
    struct side *c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    pause_bodies = true;
    spin();
    ck_assert_uint_eq(c->bytes, 65535);
    no_answers =
        true; /* the owner of the first is past its end already: a second one that is not */
    c = request("GET", "/", HTTP_BODY_NONE, 0, ERR_OK);
    h2_end(c->s, NULL);
    spin();
    struct http_head h;
    http_head_init(&h, &served[1].arena);
    h.status = 200;
    h.body = HTTP_BODY_STREAM;
    h2_head(served[1].s, &h);
    static char bytes[200000];
    ck_assert_int_eq(h2_body(served[1].s, slice_of(bytes, sizeof bytes)), ERR_LIMIT);
    spin();
    clock_advance(&the_clock, 9 * NS_PER_S);
    spin();
    ck_assert_int_eq(limits[H2_LIMIT_STALL], 0);
    clock_advance(&the_clock, 2 * NS_PER_S);
    spin();
    clock_advance(&the_clock, 9 * NS_PER_S);
    spin();
    ck_assert_int_eq(limits[H2_LIMIT_STALL], 2);
    SAW(&served[1],
        "GET http://shop:80/ user-agent=test none|end|reset stalled 8 the peer took nothing "
        "for too long|");
    ck_assert_ptr_nonnull(server);
    ck_assert(h2_idle(server));
    teardown();
}
END_TEST

START_TEST(bad_heads)
{
    static const struct {
        const char *name, *method, *path, *authority, *field, *value;
    } rows[] = {
        {"method", "GE T", "/", "a", NULL, NULL}, {"path", "GET", "/ x", "a", NULL, NULL},
        {"no path", "GET", "", "a", NULL, NULL},  {"authority", "GET", "/", "a\r\nb", NULL, NULL},
        {"value", "GET", "/", "a", "x", "a\nb"},  {"name", "GET", "/", "a", "X", "b"},
        {"empty name", "GET", "/", "a", "", "b"},
    };
    setup(4096, NULL, NULL);
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct http_head h;
        struct http_field f = {SLICE_NULL, SLICE_NULL};
        struct h2_stream *s;
        http_head_init(&h, &calls[0].arena);
        h.method = slice_str(rows[i].method);
        h.path = slice_str(rows[i].path);
        h.authority = slice_str(rows[i].authority);
        if (rows[i].field) {
            f = (struct http_field){slice_str(rows[i].field), slice_str(rows[i].value)};
            h.fields = &f;
            h.n_fields = 1;
        }
        ck_assert_msg(h2_request(client, &h, &calls[0].arena, NULL, &s) == ERR_INVALID, "%s",
                      rows[i].name);
    }
    ck_assert_int_eq(h2_streams(client), 0);
    teardown();
}
END_TEST

/* Fields of one connection do not go out, whoever put them into the list. */
START_TEST(hop_fields)
{
    setup(4096, NULL, NULL);
    struct side *c = &calls[n_calls++];
    struct http_head h;
    http_head_init(&h, &c->arena);
    h.method = SL("GET");
    h.path = SL("/");
    h.authority = SL("a");
    static const char *const names[] = {"connection",     "keep-alive", "proxy-connection",
                                        "upgrade",        "te",         "transfer-encoding",
                                        "content-length", "host",       "http2-settings"};
    for (size_t i = 0; i < N_OF(names); i++)
        http_head_add(&h, slice_str(names[i]), SL("1"));
    http_head_add(&h, SL("x"), SL("y"));
    ck_assert_int_eq(h2_request(client, &h, &c->arena, c, &c->s), ERR_OK);
    h2_end(c->s, NULL);
    spin();
    SAW(&served[0], "GET http://a/ x=y none|end|");
    h.upgrade = SL("websocket");
    ck_assert_int_eq(h2_request(client, &h, &c->arena, c, &c->s), ERR_UNSUPPORTED);
    teardown();
}
END_TEST

/* Every allocation fails once: no crash, no leak, and each stream ends. */
START_TEST(memory)
{
    for (int64_t n = 0;; n++) {
        mem_fail_after(n);
        if (setup_try(4096, NULL, NULL) == 0) {
            struct http_head h;
            struct side *c = &calls[n_calls++];
            struct h2_stream *s = NULL;
            http_head_init(&h, &c->arena);
            h.method = SL("POST");
            h.path = SL("/");
            h.authority = SL("a");
            h.body = HTTP_BODY_STREAM;
            answer_bytes = 100;
            no_answers = true;
            if (h2_request(client, &h, &c->arena, c, &s) == ERR_OK) {
                c->s = s;
                h2_body(s, SL("some"));
                if (client && c->s)
                    h2_end(s, NULL);
            }
            for (int i = 0; i < 50; i++)
                loop_turn(loop, 0, NULL);
            if (server && served[0].s && served[0].ended) {
                struct http_head a;
                http_head_init(&a, &served[0].arena);
                a.status = 200;
                a.body = HTTP_BODY_STREAM;
                if (h2_head(served[0].s, &a) == ERR_OK) {
                    h2_body(served[0].s, SL("answer"));
                    if (server && served[0].s)
                        h2_end(served[0].s, NULL);
                } else if (server && served[0].s) {
                    h2_reset(served[0].s, H2_INTERNAL_ERROR);
                }
                served[0].s = NULL;
            }
            for (int i = 0; i < 50; i++)
                loop_turn(loop, 0, NULL);
        }
        bool hit = mem_fail_hit();
        mem_fail_after(-1);
        if (!hit)
            SAW(&calls[0], "200 stream|answerend|");
        teardown();
        if (!hit)
            break;
    }
}
END_TEST

TESTS(h2)
{
    tcase_add_test(tc, get);
    tcase_add_test(tc, head_and_empty);
    tcase_add_test(tc, large);
    tcase_add_test(tc, pause);
    tcase_add_test(tc, held);
    tcase_add_test(tc, preface);
    tcase_add_test(tc, resets);
    tcase_add_test(tc, early_answer);
    tcase_add_test(tc, linger);
    tcase_add_test(tc, interim);
    tcase_add_test(tc, parted);
    tcase_add_test(tc, drain_server);
    tcase_add_test(tc, drain_client);
    tcase_add_test(tc, lost);
    tcase_add_test(tc, terminate);
    tcase_add_test(tc, close_within);
    tcase_add_test(tc, reset_within);
    tcase_add_test(tc, ping);
    tcase_add_test(tc, room);
    tcase_add_test(tc, stalls);
    tcase_add_test(tc, bad_heads);
    tcase_add_test(tc, hop_fields);
    tcase_add_test(tc, memory);
}
