/* SPDX-License-Identifier: Apache-2.0 */
/* One side of the gRPC module against a peer that speaks plain HTTP/2 by nghttp2 and says what the
 * table tells it: what is not gRPC, what is malformed, and what floods. */
#include "tests/unit/tcase.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/http/grpc.h"

static struct clock clk;
static struct loop *loop;
static struct chan *wire;       /* the peer's end */
static nghttp2_session *peer;
static struct buf heard;        /* by the peer: "name=value " of heads, "<bytes>", "end ", "rst:N " */
static struct buf told;         /* to the module's owner */
static struct grpc_conn *conn;
static struct grpc_stream *last;
static bool peer_eof, echo;

/* --- the peer ------------------------------------------------------------------------------------ */

static int peer_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *n, size_t nn,
                       const uint8_t *v, size_t vn, uint8_t flags, void *user)
{
    (void)s, (void)f, (void)flags, (void)user;
    buf_addf(&heard, "%.*s=%.*s ", (int)nn, n, (int)vn, v);
    return 0;
}
static int peer_frame(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    (void)s, (void)user;
    if (f->hd.stream_id && f->hd.flags & NGHTTP2_FLAG_END_STREAM && f->hd.type <= NGHTTP2_HEADERS)
        buf_add_str(&heard, "end ");
    if (f->hd.type == NGHTTP2_RST_STREAM)
        buf_addf(&heard, "rst:%u ", f->rst_stream.error_code);
    if (f->hd.type == NGHTTP2_GOAWAY)
        buf_addf(&heard, "goaway:%u ", f->goaway.error_code);
    return 0;
}
static int peer_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                     void *user)
{
    (void)s, (void)flags, (void)id, (void)p, (void)user;
    buf_addf(&heard, "<%zu> ", n);
    return 0;
}

struct content {
    struct slice bytes;
    bool end;
};
static ssize_t peer_read(nghttp2_session *s, int32_t id, uint8_t *p, size_t cap, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct content *c = source->ptr;
    size_t n = MIN(cap, c->bytes.len);
    (void)s, (void)id, (void)user;
    if (n == 0 && !c->end)
        return NGHTTP2_ERR_DEFERRED;
    memcpy(p, c->bytes.p ? c->bytes.p : "", n);
    c->bytes = slice_skip(c->bytes, n);
    if (c->end && c->bytes.len == 0)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void peer_pump(void)
{
    char bytes[16384];
    const uint8_t *out;
    size_t n;
    ssize_t len;
    for (;;) {
        enum err_code rc = chan_read(wire, bytes, sizeof bytes, &n);
        if (rc != ERR_OK) {
            peer_eof = peer_eof || rc != ERR_AGAIN;
            break;
        }
        nghttp2_session_mem_recv(peer, (const uint8_t *)bytes, n);
    }
    while ((len = nghttp2_session_mem_send(peer, &out)) > 0)
        if (chan_write(wire, out, (size_t)len, &n) != ERR_OK || n != (size_t)len)
            break; /* refused by a side that has closed */
}

static void spin(void)
{
    for (int i = 0; i < 30; i++) {
        peer_pump();
        loop_turn(loop, 0, NULL);
    }
    peer_pump();
}

/* "name=value" pairs, ended by NULL. */
static size_t fields_of(const char *const *fields, nghttp2_nv *nv)
{
    size_t n = 0;
    for (; fields[n]; n++) {
        const char *eq = strchr(fields[n] + 1, '=');
        nv[n] = (nghttp2_nv){(uint8_t *)(uintptr_t)fields[n], (uint8_t *)(uintptr_t)(eq + 1),
                             (size_t)(eq - fields[n]), strlen(eq + 1), NGHTTP2_NV_FLAG_NONE};
    }
    return n;
}

static int32_t peer_request(const char *const *fields, struct content *c)
{
    nghttp2_nv nv[200];
    nghttp2_data_provider data = {.source.ptr = c, .read_callback = peer_read};
    return nghttp2_submit_request(peer, NULL, nv, fields_of(fields, nv), c ? &data : NULL, NULL);
}

/* --- the module's owner -------------------------------------------------------------------------- */

static void on_message(struct grpc_stream *s, struct slice msg)
{
    buf_addf(&told, "msg:%.*s ", (int)MIN(msg.len, (size_t)20), msg.p);
    if (echo)
        grpc_send(s, msg);
}
static void on_end(struct grpc_stream *s, enum grpc_status st, struct slice detail, bool final)
{
    buf_addf(&told, "%s:%s:%.*s ", final ? "end" : "half", grpc_status_name(st), SL_FMT(detail));
    if (final)
        last = NULL;
    else if (echo)
        grpc_end(s);
}
static const struct grpc_stream_ops stream_ops = {.on_message = on_message, .on_end = on_end};
static void on_call(struct grpc_conn *c, struct grpc_stream *s, struct slice path)
{
    (void)c;
    buf_addf(&told, "call:%.*s ", SL_FMT(path));
    grpc_stream_set(s, &stream_ops, NULL);
    last = s;
}
static void on_close(struct grpc_conn *c, const struct err *why)
{
    (void)c;
    buf_addf(&told, "closed:%s", err_code_name(why->code));
    conn = NULL;
}
static const struct grpc_conn_ops conn_ops = {.on_call = on_call, .on_close = on_close};

static void setup(bool server, const struct grpc_limits *limits)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    struct chan *ours;
    struct err err = {0};
    clock_init_virtual(&clk, NS_PER_S);
    buf_init(&heard, 1 << 20);
    buf_init(&told, 1 << 20);
    peer_eof = false;
    echo = true;
    last = NULL;
    ck_assert_int_eq(loop_new(&clk, &loop, &err), 0);
    ck_assert_int_eq(chan_mem_pair(loop, 8 << 20, &ours, &wire, &err), 0);
    nghttp2_session_callbacks_new(&cb);
    nghttp2_session_callbacks_set_on_header_callback(cb, peer_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, peer_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, peer_data);
    nghttp2_option_new(&opt);
    nghttp2_option_set_no_http_messaging(opt, 1);
    if (server) {
        ck_assert_int_eq(grpc_server(ours, limits, &conn_ops, NULL, &conn, &err), 0);
        nghttp2_session_client_new2(&peer, cb, NULL, opt);
    } else {
        ck_assert_int_eq(grpc_client(ours, "a", limits, &conn_ops, NULL, &conn, &err), 0);
        nghttp2_session_server_new2(&peer, cb, NULL, opt);
    }
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    nghttp2_submit_settings(peer, NGHTTP2_FLAG_NONE, NULL, 0);
}

static void teardown(void)
{
    if (conn)
        grpc_conn_close(conn);
    conn = NULL;
    chan_close(wire);
    loop_turn(loop, 0, NULL);
    loop_turn(loop, 0, NULL);
    loop_free(loop);
    nghttp2_session_del(peer);
    buf_fini(&heard);
    buf_fini(&told);
}

/* --- what a server makes of requests ------------------------------------------------------------- */

#define POST ":method=POST", ":scheme=http", ":path=/s/m", ":authority=a"
#define TYPE "content-type=application/grpc"
#define OK_HEAD ":status=200 content-type=application/grpc "

/* clang-format off */
static const struct {
    const char *name;
    const char *fields[9];
    struct slice body;
    bool end;
    const char *heard, *told;
} calls[] = {
    {"unary", {POST, TYPE}, SL("\0\0\0\0\1x"), true,
     OK_HEAD "<6> grpc-status=0 end ", "call:/s/m msg:x half:OK: end:OK: "},
    {"empty message", {POST, TYPE}, SL("\0\0\0\0\0"), true,
     OK_HEAD "<5> grpc-status=0 end ", "call:/s/m msg: half:OK: end:OK: "},
    {"two messages", {POST, TYPE}, SL("\0\0\0\0\1x\0\0\0\0\2yz"), true,
     OK_HEAD "<13> grpc-status=0 end ", "call:/s/m msg:x msg:yz half:OK: end:OK: "},
    {"no message", {POST, TYPE}, SL(""), true,
     OK_HEAD "grpc-status=0 end ", "call:/s/m half:OK: end:OK: "},
    {"GET", {":method=GET", ":scheme=http", ":path=/", ":authority=a", TYPE}, SL(""), true,
     ":status=405 end ", ""},
    {"JSON", {POST, "content-type=application/json"}, SL("{}"), true, ":status=415 end ", ""},
    {"grpc-web", {POST, "content-type=application/grpc-web"}, SL(""), true, ":status=415 end ", ""},
    {"no type", {POST}, SL(""), true, ":status=415 end ", ""},
    {"JSON without end", {POST, "content-type=application/json"}, SL("{}"), false,
     ":status=415 end rst:0 ", ""},
    {"compressed", {POST, TYPE}, SL("\1\0\0\0\1x"), false,
     OK_HEAD "grpc-status=12 grpc-message=compressed messages are not understood end rst:0 ",
     "call:/s/m end:UNIMPLEMENTED:compressed messages are not understood "},
    {"flag of nothing", {POST, TYPE}, SL("\2\0\0\0\1x"), false,
     OK_HEAD "grpc-status=13 grpc-message=compressed messages are not understood end rst:0 ",
     "call:/s/m end:INTERNAL:compressed messages are not understood "},
    {"too large", {POST, TYPE}, SL("\0\0\0\x10\1x"), false,
     OK_HEAD "grpc-status=8 grpc-message=message too large end rst:0 ",
     "call:/s/m end:RESOURCE_EXHAUSTED:message too large "},
    {"gigantic", {POST, TYPE}, SL("\0\xff\xff\xff\xff"), false,
     OK_HEAD "grpc-status=8 grpc-message=message too large end rst:0 ",
     "call:/s/m end:RESOURCE_EXHAUSTED:message too large "},
    {"cut in the prefix", {POST, TYPE}, SL("\0\0\0"), true,
     OK_HEAD "grpc-status=13 grpc-message=the call ends within a message end ",
     "call:/s/m end:INTERNAL:the call ends within a message "},
    {"cut in the message", {POST, TYPE}, SL("\0\0\0\0\2x"), true,
     OK_HEAD "grpc-status=13 grpc-message=the call ends within a message end ",
     "call:/s/m end:INTERNAL:the call ends within a message "},
    {"timeout malformed", {POST, TYPE, "grpc-timeout=1s"}, SL(""), true,
     OK_HEAD "grpc-status=13 grpc-message=malformed grpc-timeout end ", ""},
    {"timeout of nought", {POST, TYPE, "grpc-timeout=0n"}, SL(""), false,
     "rst:8 ", "call:/s/m end:DEADLINE_EXCEEDED:deadline exceeded "},
    {"no path", {":method=POST", ":scheme=http", ":authority=a", TYPE}, SL(""), true, "rst:1 ", ""},
    {"connection field", {POST, TYPE, "connection=close"}, SL(""), true, "rst:1 ", ""},
};
/* clang-format on */

START_TEST(call)
{
    struct grpc_limits limits = {.max_message = 4096};
    struct content c = {calls[_i].body, calls[_i].end};
    setup(true, &limits);
    ck_assert_int_gt(peer_request(calls[_i].fields, &c), 0);
    spin();
    ck_assert_msg(strcmp(buf_cstr(&heard), calls[_i].heard) == 0, "%s: %s", calls[_i].name,
                  buf_cstr(&heard));
    ck_assert_msg(strcmp(buf_cstr(&told), calls[_i].told) == 0, "%s: %s", calls[_i].name,
                  buf_cstr(&told));
    /* The connection is none the worse for it. */
    static const char *const good[] = {POST, TYPE, NULL};
    struct content g = {SL("\0\0\0\0\1x"), true};
    buf_reset(&heard);
    peer_request(good, &g);
    spin();
    ck_assert_str_eq(buf_cstr(&heard), calls[0].heard);
    teardown();
}
END_TEST

START_TEST(deadline_of_the_caller)
{
    static const char *const fields[] = {POST, TYPE, "grpc-timeout=2S", NULL};
    struct content c = {SL(""), false};
    setup(true, NULL);
    echo = false;
    peer_request(fields, &c);
    spin();
    clock_advance(&clk, NS_PER_S);
    spin();
    ck_assert_str_eq(buf_cstr(&told), "call:/s/m ");
    clock_advance(&clk, NS_PER_S);
    spin();
    ck_assert_str_eq(buf_cstr(&told), "call:/s/m end:DEADLINE_EXCEEDED:deadline exceeded ");
    ck_assert_str_eq(buf_cstr(&heard), "rst:8 ");
    teardown();
}
END_TEST

START_TEST(reset_by_the_caller)
{
    static const char *const fields[] = {POST, TYPE, NULL};
    struct content c = {SL("\0\0\0\0\5abc"), false};
    setup(true, NULL);
    int32_t id = peer_request(fields, &c);
    spin();
    nghttp2_submit_rst_stream(peer, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    spin();
    ck_assert_str_eq(buf_cstr(&told), "call:/s/m end:CANCELLED:stream reset ");
    teardown();
}
END_TEST

/* A client that opens and resets without end (CVE-2023-44487) loses its connection; one that does it
 * now and then over a long life does not. */
START_TEST(resets_without_end)
{
    static const char *const fields[] = {POST, TYPE, NULL};
    static struct content open = {{NULL, 0}, false};
    setup(true, NULL);
    for (int i = 0; i < 2000 && conn; i++) {
        int32_t id = peer_request(fields, &open);
        peer_pump();
        nghttp2_submit_rst_stream(peer, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
        for (int k = 0; k < 3; k++) {
            peer_pump();
            loop_turn(loop, 0, NULL);
        }
        buf_reset(&told);
    }
    spin();
    ck_assert_ptr_null(conn);
    ck_assert(peer_eof);
    ck_assert_int_ge(slice_find(buf_slice(&heard), SL("goaway:")), 0);
    teardown();
}
END_TEST

START_TEST(more_calls_than_allowed)
{
    static const char *const fields[] = {POST, TYPE, NULL};
    static struct content open = {{NULL, 0}, false};
    struct grpc_limits limits = {.max_streams = 3};
    setup(true, &limits);
    spin(); /* the peer learns the limit and keeps to it */
    for (int i = 0; i < 10; i++)
        peer_request(fields, &open);
    spin();
    ck_assert_str_eq(buf_cstr(&told), "call:/s/m call:/s/m call:/s/m ");
    teardown();
}
END_TEST

START_TEST(too_much_metadata)
{
    static const char *fields[160] = {POST, TYPE};
    char long_field[40000];
    struct content c = {SL(""), true};
    size_t n = 5;
    setup(true, NULL);
    for (; n < 150; n++)
        fields[n] = "x=y";
    peer_request(fields, &c);
    spin();
    ck_assert_str_eq(buf_cstr(&heard), "rst:2 ");
    ck_assert_str_eq(buf_cstr(&told), "");
    buf_reset(&heard);
    memset(long_field, 'z', sizeof long_field);
    memcpy(long_field, "x=", 2);
    long_field[sizeof long_field - 1] = '\0';
    fields[5] = long_field;
    fields[6] = NULL;
    peer_request(fields, &c);
    spin();
    ck_assert(slice_starts(buf_slice(&heard), SL("rst:")));
    ck_assert_str_eq(buf_cstr(&told), "");
    teardown();
}
END_TEST

/* Many calls that each hold most of a message: bounded per connection. */
START_TEST(many_messages_that_are_not_whole)
{
    enum { PART = 90000, MESSAGE = 100000, CALLS = 60 };
    static const char *const fields[] = {POST, TYPE, NULL};
    static struct content parts[CALLS];
    struct grpc_limits limits = {.max_message = MESSAGE};
    char *part = mem_zalloc(PART + 5);
    memcpy(part, "\0\0\1\x86\xa0", 5);
    setup(true, &limits);
    for (int i = 0; i < CALLS; i++) {
        parts[i] = (struct content){slice_of(part, PART + 5), false};
        peer_request(fields, &parts[i]);
        spin();
    }
    ck_assert_int_ge(slice_find(buf_slice(&told), SL("RESOURCE_EXHAUSTED:too many large")), 0);
    ck_assert_ptr_nonnull(conn);
    teardown();
    mem_free(part);
}
END_TEST

/* A client that asks and does not read: its requests stop, the server's memory does not grow. */
START_TEST(asks_and_does_not_read)
{
    enum { N = 4000, SIZE = 1000 };
    static const char *const fields[] = {POST, TYPE, NULL};
    struct content c = {.end = false};
    struct grpc_limits limits = {.send_high_water = 50000};
    char *bytes = mem_zalloc((size_t)N * (SIZE + 5));
    for (int i = 0; i < N; i++)
        memcpy(bytes + (size_t)i * (SIZE + 5), "\0\0\0\3\xe8", 5);
    c.bytes = slice_of(bytes, (size_t)N * (SIZE + 5));
    setup(true, &limits);
    nghttp2_settings_entry iv = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
    nghttp2_submit_settings(peer, NGHTTP2_FLAG_NONE, &iv, 1);
    int32_t id = peer_request(fields, &c);
    for (int i = 0; i < 20; i++)
        spin();
    ck_assert_ptr_nonnull(last);
    ck_assert_uint_lt(grpc_send_queued(last), 50000 + (256 << 10) + SIZE);
    ck_assert_uint_gt(c.bytes.len, (size_t)N * (SIZE + 5) / 2);
    /* It reads: all goes through. */
    nghttp2_session_set_local_window_size(peer, NGHTTP2_FLAG_NONE, id, 1 << 30);
    nghttp2_session_set_local_window_size(peer, NGHTTP2_FLAG_NONE, 0, 1 << 30);
    for (int i = 0; i < 50; i++)
        spin();
    ck_assert_uint_eq(c.bytes.len, 0);
    ck_assert_uint_eq(grpc_send_queued(last), 0);
    teardown();
    mem_free(bytes);
}
END_TEST

START_TEST(not_http2)
{
    struct chan *ours;
    size_t n;
    setup(true, NULL);
    grpc_conn_close(conn);
    chan_close(wire);
    loop_turn(loop, 0, NULL);
    ck_assert_int_eq(chan_mem_pair(loop, 4096, &ours, &wire, NULL), 0);
    ck_assert_int_eq(grpc_server(ours, NULL, &conn_ops, NULL, &conn, NULL), 0);
    chan_write(wire, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 28, &n);
    for (int i = 0; i < 5; i++)
        loop_turn(loop, 0, NULL);
    ck_assert_str_eq(buf_cstr(&told), "closed:proto");
    teardown();
}
END_TEST

/* --- what a client makes of answers -------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    const char *head[4];
    bool head_ends;
    struct slice body;
    const char *trailers[3]; /* none: the body ends the answer */
    const char *told;
} answers[] = {
    {"unary", {":status=200", TYPE}, false, SL("\0\0\0\0\1x"), {"grpc-status=0"}, "msg:x end:OK: "},
    {"with a text", {":status=200", TYPE}, false, SL("\0\0\0\0\1x"), {"grpc-status=5", "grpc-message=a%20b%"},
     "msg:x end:NOT_FOUND:a b% "},
    {"trailers only", {":status=200", TYPE, "grpc-status=7"}, true, SL(""), {NULL}, "end:PERMISSION_DENIED: "},
    {"unknown status", {":status=200", TYPE, "grpc-status=99"}, true, SL(""), {NULL}, "end:UNKNOWN: "},
    {"status malformed", {":status=200", TYPE, "grpc-status=-1"}, true, SL(""), {NULL}, "end:UNKNOWN: "},
    {"no status", {":status=200", TYPE}, true, SL(""), {NULL}, "end:UNKNOWN:the answer has no grpc-status "},
    {"no status, message", {":status=200", TYPE}, false, SL("\0\0\0\0\1x"), {NULL},
     "msg:x end:UNKNOWN:the answer has no grpc-status "},
    {"OK within a message", {":status=200", TYPE}, false, SL("\0\0\0\0\2x"), {"grpc-status=0"},
     "end:INTERNAL:the answer ends within a message "},
    {"plain 503", {":status=503", "content-type=text/plain"}, false, SL("no upstream"), {NULL},
     "end:UNAVAILABLE:HTTP status 503, not gRPC "},
    {"plain 404", {":status=404"}, true, SL(""), {NULL}, "end:UNIMPLEMENTED:HTTP status 404, not gRPC "},
    {"plain 401", {":status=401"}, true, SL(""), {NULL}, "end:UNAUTHENTICATED:HTTP status 401, not gRPC "},
    {"plain 200", {":status=200", "content-type=text/html"}, false, SL("<html>"), {NULL},
     "end:UNKNOWN:HTTP status 200, not gRPC "},
    {"503 with a status", {":status=503", TYPE, "grpc-status=8"}, true, SL(""), {NULL}, "end:RESOURCE_EXHAUSTED: "},
    {"compressed", {":status=200", TYPE}, false, SL("\1\0\0\0\1x"), {"grpc-status=0"},
     "end:UNIMPLEMENTED:compressed messages are not understood "},
    {"too large", {":status=200", TYPE}, false, SL("\0\0\0\x10\1x"), {"grpc-status=0"},
     "end:RESOURCE_EXHAUSTED:message too large "},
};
/* clang-format on */

static ssize_t answer_read(nghttp2_session *s, int32_t id, uint8_t *p, size_t cap, uint32_t *flags,
                           nghttp2_data_source *source, void *user)
{
    struct content *c = source->ptr;
    nghttp2_nv nv[4];
    (void)cap, (void)user;
    memcpy(p, c->bytes.p, c->bytes.len);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!c->end) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(s, id, nv, fields_of(answers[*(int *)user].trailers, nv));
    }
    return (ssize_t)c->bytes.len;
}

START_TEST(answer)
{
    nghttp2_nv nv[8];
    int row = _i;
    struct content c = {answers[_i].body, answers[_i].trailers[0] == NULL};
    nghttp2_data_provider data = {.source.ptr = &c, .read_callback = answer_read};
    struct grpc_limits limits = {.max_message = 4096};
    setup(false, &limits);
    nghttp2_session_set_user_data(peer, &row);
    ck_assert_int_eq(grpc_call(conn, "/s/m", NULL, 0, &stream_ops, NULL, &last, NULL), 0);
    echo = false;
    grpc_send(last, SL("q"));
    grpc_end(last);
    spin();
    ck_assert_str_eq(buf_cstr(&heard), ":method=POST :scheme=http :path=/s/m :authority=a "
                                       "content-type=application/grpc te=trailers <6> end ");
    nghttp2_submit_response(peer, 1, nv, fields_of(answers[_i].head, nv),
                            answers[_i].head_ends ? NULL : &data);
    spin();
    ck_assert_msg(strcmp(buf_cstr(&told), answers[_i].told) == 0, "%s: %s", answers[_i].name,
                  buf_cstr(&told));
    ck_assert_ptr_nonnull(conn);
    teardown();
}
END_TEST

/* clang-format off */
static const struct { uint32_t code; const char *told; } resets[] = {
    {NGHTTP2_NO_ERROR, "end:INTERNAL:stream reset "},
    {NGHTTP2_CANCEL, "end:CANCELLED:stream reset "},
    {NGHTTP2_REFUSED_STREAM, "end:UNAVAILABLE:stream reset "},
    {NGHTTP2_ENHANCE_YOUR_CALM, "end:RESOURCE_EXHAUSTED:stream reset "},
    {NGHTTP2_INADEQUATE_SECURITY, "end:PERMISSION_DENIED:stream reset "},
    {NGHTTP2_PROTOCOL_ERROR, "end:INTERNAL:stream reset "},
};
/* clang-format on */

START_TEST(reset_by_the_server)
{
    setup(false, NULL);
    grpc_call(conn, "/s/m", NULL, 0, &stream_ops, NULL, &last, NULL);
    spin();
    nghttp2_submit_rst_stream(peer, NGHTTP2_FLAG_NONE, 1, resets[_i].code);
    spin();
    ck_assert_str_eq(buf_cstr(&told), resets[_i].told);
    teardown();
}
END_TEST

START_TEST(interim_answer)
{
    static const char *const hints[] = {":status=103", "link=x", NULL},
                             *const head[] = {":status=200", TYPE, "grpc-status=0", NULL};
    nghttp2_nv nv[8];
    setup(false, NULL);
    grpc_call(conn, "/s/m", NULL, 0, &stream_ops, NULL, &last, NULL);
    grpc_end(last);
    spin();
    nghttp2_submit_headers(peer, NGHTTP2_FLAG_NONE, 1, NULL, nv, fields_of(hints, nv), NULL);
    spin();
    ck_assert_str_eq(buf_cstr(&told), "");
    nghttp2_submit_response(peer, 1, nv, fields_of(head, nv), NULL);
    spin();
    ck_assert_str_eq(buf_cstr(&told), "end:OK: ");
    teardown();
}
END_TEST

START_TEST(server_leaves)
{
    struct err err = {0};
    setup(false, NULL);
    grpc_call(conn, "/s/m", NULL, 0, &stream_ops, NULL, &last, NULL);
    spin();
    nghttp2_submit_goaway(peer, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
    spin();
    /* The call was not processed, and with it goes the connection. */
    ck_assert_str_eq(buf_cstr(&told), "end:UNAVAILABLE:stream reset closed:eof");
    teardown();
    setup(false, NULL);
    grpc_call(conn, "/s/m", NULL, 0, &stream_ops, NULL, &last, NULL);
    spin();
    nghttp2_submit_goaway(peer, NGHTTP2_FLAG_NONE, 1, NGHTTP2_NO_ERROR, NULL, 0);
    spin();
    ck_assert_str_eq(buf_cstr(&told), "");
    ck_assert_int_eq(grpc_call(conn, "/s/m", NULL, 0, &stream_ops, NULL, &last, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    teardown();
}
END_TEST

START_TEST(calls_that_were_never_sent)
{
    struct grpc_stream *s[3];
    nghttp2_settings_entry iv = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1};
    setup(false, NULL);
    nghttp2_submit_settings(peer, NGHTTP2_FLAG_NONE, &iv, 1);
    spin();
    for (int i = 0; i < 3; i++)
        grpc_call(conn, "/s/m", NULL, 0, &stream_ops, NULL, &s[i], NULL);
    spin();
    grpc_cancel(s[2]); /* silently */
    spin();
    ck_assert_str_eq(buf_cstr(&told), "");
    nghttp2_submit_goaway(peer, NGHTTP2_FLAG_NONE, 1, NGHTTP2_NO_ERROR, NULL, 0);
    spin();
    nghttp2_submit_rst_stream(peer, NGHTTP2_FLAG_NONE, 1, NGHTTP2_CANCEL);
    spin();
    ck_assert_int_ge(slice_find(buf_slice(&told), SL("end:CANCELLED:stream reset ")), 0);
    ck_assert_int_ge(slice_find(buf_slice(&told), SL("end:UNAVAILABLE:")), 0);
    ck_assert_ptr_null(conn);
    teardown();
}
END_TEST

TESTS(grpc_wire)
{
    tcase_add_loop_test(tc, call, 0, N_OF(calls));
    tcase_add_test(tc, deadline_of_the_caller);
    tcase_add_test(tc, reset_by_the_caller);
    tcase_add_test(tc, resets_without_end);
    tcase_add_test(tc, more_calls_than_allowed);
    tcase_add_test(tc, too_much_metadata);
    tcase_add_test(tc, many_messages_that_are_not_whole);
    tcase_add_test(tc, asks_and_does_not_read);
    tcase_add_test(tc, not_http2);
    tcase_add_loop_test(tc, answer, 0, N_OF(answers));
    tcase_add_loop_test(tc, reset_by_the_server, 0, N_OF(resets));
    tcase_add_test(tc, interim_answer);
    tcase_add_test(tc, server_leaves);
    tcase_add_test(tc, calls_that_were_never_sent);
}
