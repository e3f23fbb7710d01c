/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/http/grpc.h"

/* One client and one server over a memory pair, and what each was told. */
static struct clock the_clock;
static struct loop *loop;
static struct grpc_conn *client, *server;
static struct grpc_stream *call, *served;
static struct buf got_client, got_server;
static char path[128], token[64], detail_seen[128];
static int client_ends, server_ends, server_halves, closes, drained;
static enum grpc_status client_status;
static bool echo;

static void client_message(struct grpc_stream *s, struct slice msg)
{
    (void)s;
    buf_add_slice(&got_client, msg);
    buf_add_char(&got_client, '|');
}
static void client_end(struct grpc_stream *s, enum grpc_status st, struct slice detail, bool final)
{
    (void)s;
    ck_assert(final);
    client_ends++;
    client_status = st;
    slice_copy(detail, detail_seen, sizeof detail_seen);
    call = NULL;
}
static void client_drained(struct grpc_stream *s)
{
    (void)s;
    drained++;
}
static const struct grpc_stream_ops client_ops = {client_message, client_end, client_drained};

static void server_message(struct grpc_stream *s, struct slice msg)
{
    buf_add_slice(&got_server, slice_head(msg, 64));
    buf_add_char(&got_server, '|');
    if (echo)
        grpc_send(s, msg);
}
static void server_end(struct grpc_stream *s, enum grpc_status st, struct slice detail, bool final)
{
    (void)st, (void)detail;
    if (final) {
        server_ends++;
        served = NULL;
        return;
    }
    server_halves++;
    if (echo)
        grpc_end(s);
}
static const struct grpc_stream_ops server_ops = {server_message, server_end, NULL};

static void on_call(struct grpc_conn *c, struct grpc_stream *s, struct slice p)
{
    (void)c;
    slice_copy(p, path, sizeof path);
    slice_copy(grpc_stream_metadata(s, SL("authorization")), token, sizeof token);
    served = s;
    if (slice_is(p, "/refuse"))
        grpc_fail(s, GRPC_PERMISSION_DENIED, "not you: 100% \n");
    else
        grpc_stream_set(s, &server_ops, NULL);
}
static void on_close(struct grpc_conn *c, const struct err *why)
{
    (void)why;
    closes++;
    if (c == client)
        client = NULL;
    else
        server = NULL;
}
static const struct grpc_conn_ops conn_ops = {.on_call = on_call, .on_close = on_close};

static void spin(void)
{
    for (int i = 0; i < 200; i++)
        loop_turn(loop, 0, NULL);
}

static void setup(size_t cap, const struct grpc_limits *limits)
{
    struct chan *a, *b;
    struct err err = {0};
    clock_init_virtual(&the_clock, NS_PER_S);
    client_ends = server_ends = server_halves = closes = drained = 0;
    echo = true;
    buf_init(&got_client, 64 << 20);
    buf_init(&got_server, 64 << 20);
    ck_assert_int_eq(loop_new(&the_clock, &loop, &err), 0);
    ck_assert_int_eq(chan_mem_pair(loop, cap, &a, &b, &err), 0);
    ck_assert_int_eq(grpc_client(a, "operator", limits, &conn_ops, NULL, &client, &err), 0);
    ck_assert_int_eq(grpc_server(b, limits, &conn_ops, NULL, &server, &err), 0);
}

static void teardown(void)
{
    if (client)
        grpc_conn_close(client);
    if (server)
        grpc_conn_close(server);
    client = server = NULL;
    spin();
    loop_free(loop);
    buf_fini(&got_client);
    buf_fini(&got_server);
}

static void start(const char *p, const char *const *metadata, int64_t timeout_ns)
{
    struct err err = {0};
    ck_assert_msg(grpc_call(client, p, metadata, timeout_ns, &client_ops, NULL, &call, &err) == 0,
                  "%s", err.msg);
}

START_TEST(unary)
{
    const char *md[] = {"authorization", "Bearer t", NULL};
    setup(4096, NULL);
    start("/pkg.Service/Method", md, 0);
    ck_assert_int_eq(grpc_send(call, SL("hello")), ERR_OK);
    grpc_end(call);
    spin();
    ck_assert_str_eq(path, "/pkg.Service/Method");
    ck_assert_str_eq(token, "Bearer t");
    ck_assert_str_eq(buf_cstr(&got_client), "hello|");
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_OK);
    ck_assert_int_eq(server_halves, 1);
    ck_assert_int_eq(server_ends, 1);
    teardown();
}
END_TEST

START_TEST(refused_with_a_text)
{
    setup(4096, NULL);
    start("/refuse", NULL, 0);
    spin();
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_PERMISSION_DENIED);
    ck_assert_str_eq(detail_seen, "not you: 100% \n");
    teardown();
}
END_TEST

START_TEST(bidi_keeps_order)
{
    setup(4096, NULL);
    start("/stream", NULL, 0);
    for (int i = 0; i < 100; i++) {
        char text[8];
        snprintf(text, sizeof text, "%d", i);
        ck_assert_int_eq(grpc_send(call, slice_str(text)), ERR_OK);
        if (i % 10 == 0)
            spin();
    }
    spin();
    ck_assert(slice_starts(buf_slice(&got_client), SL("0|1|2|3|4|")));
    ck_assert(slice_ends(buf_slice(&got_client), SL("|98|99|")));
    ck_assert_int_eq(client_ends, 0);
    grpc_end(call);
    spin();
    ck_assert_int_eq(client_ends, 1);
    teardown();
}
END_TEST

START_TEST(large_message_in_pieces_with_backpressure)
{
    size_t n = 3 << 20;
    char *big = mem_alloc(n);
    memset(big, 'x', n);
    setup(1000, NULL);
    start("/stream", NULL, 0);
    ck_assert_int_eq(grpc_send(call, slice_of(big, n)), ERR_OK);
    ck_assert(grpc_send_full(call));
    for (int i = 0; i < 400; i++)
        spin();
    ck_assert_uint_eq(buf_len(&got_client), n + 1);
    ck_assert_int_eq(drained, 1);
    teardown();
    mem_free(big);
}
END_TEST

START_TEST(message_over_the_limit)
{
    struct grpc_limits limits = {.max_message = 100};
    char big[200];
    memset(big, 'y', sizeof big);
    setup(4096, &limits);
    start("/stream", NULL, 0);
    ck_assert_int_eq(grpc_send(call, slice_of(big, sizeof big)), ERR_OK);
    spin();
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_RESOURCE_EXHAUSTED);
    teardown();
}
END_TEST

START_TEST(deadline)
{
    setup(4096, NULL);
    echo = false;
    start("/stream", NULL, 3 * NS_PER_S);
    spin();
    ck_assert_int_eq(client_ends, 0);
    clock_advance(&the_clock, 4 * NS_PER_S);
    spin();
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_DEADLINE_EXCEEDED);
    teardown();
}
END_TEST

START_TEST(cancel_is_silent_here_and_told_there)
{
    setup(4096, NULL);
    echo = false;
    start("/stream", NULL, 0);
    spin();
    grpc_cancel(call);
    spin();
    ck_assert_int_eq(client_ends, 0);
    ck_assert_int_eq(server_ends, 1);
    teardown();
}
END_TEST

START_TEST(peer_gone)
{
    setup(4096, NULL);
    start("/stream", NULL, 0);
    spin();
    grpc_conn_close(server);
    server = NULL;
    spin();
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_UNAVAILABLE);
    ck_assert_int_eq(closes, 1);
    teardown();
}
END_TEST

START_TEST(pings_are_answered)
{
    struct grpc_limits limits = {.keepalive_ns = NS_PER_S};
    setup(4096, &limits);
    start("/stream", NULL, 0);
    spin();
    for (int i = 0; i < 10; i++) {
        clock_advance(&the_clock, NS_PER_S);
        spin();
    }
    ck_assert_int_eq(closes, 0);
    teardown();
}
END_TEST

START_TEST(ping_unanswered_fails)
{
    struct grpc_limits limits = {.keepalive_ns = NS_PER_S};
    struct chan *a, *silent;
    setup(4096, NULL);
    grpc_conn_close(client);
    ck_assert_int_eq(chan_mem_pair(loop, 4096, &a, &silent, NULL), 0);
    ck_assert_int_eq(grpc_client(a, "operator", &limits, &conn_ops, NULL, &client, NULL), 0);
    start("/stream", NULL, 0);
    spin();
    clock_advance(&the_clock, NS_PER_S);
    spin();
    ck_assert_int_eq(client_ends, 0);
    clock_advance(&the_clock, NS_PER_S);
    spin();
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_UNAVAILABLE);
    ck_assert_str_eq(detail_seen, "no answer to a ping");
    ck_assert_ptr_null(client);
    chan_close(silent);
    teardown();
}
END_TEST

/* A call that was on its way when the server began to leave is served; the next one is told to go
 * elsewhere. */
START_TEST(drain_serves_what_is_on_its_way)
{
    struct grpc_stream *s;
    struct err err = {0};
    setup(4096, NULL);
    spin();
    start("/stream", NULL, 0);
    grpc_send(call, SL("x"));
    grpc_end(call);
    grpc_conn_drain(server);
    spin();
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_OK);
    ck_assert_int_eq(closes, 2);
    teardown();

    setup(4096, NULL);
    start("/stream", NULL, 0);
    spin();
    grpc_conn_drain(server);
    grpc_conn_drain(server);
    spin();
    ck_assert_int_eq(grpc_call(client, "/stream", NULL, 0, &client_ops, NULL, &s, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    ck_assert_int_eq(closes, 0); /* the first one is still there */
    teardown();
}
END_TEST

/* Closing from within each callback: nothing more is said, nothing is touched that is gone. */
/* clang-format off */
static const struct { const char *name; bool client, message, end; } closers[] = {
    {"client, at a message", true, true, false},
    {"client, at the end", true, false, true},
    {"server, at a message", false, true, false},
    {"server, at the end", false, false, true},
};
/* clang-format on */

static int close_row;
static void hang_up(struct grpc_stream *s)
{
    struct grpc_conn **c = closers[close_row].client ? &client : &server;
    ck_assert_ptr_eq(grpc_stream_conn(s), *c);
    grpc_conn_close(*c);
    grpc_conn_close(*c);
    grpc_cancel(s);
    ck_assert_int_eq(grpc_send(s, SL("x")), ERR_CLOSED);
    *c = NULL;
}
static void message_hang_up(struct grpc_stream *s, struct slice msg)
{
    if (closers[close_row].message)
        hang_up(s);
    else if (!closers[close_row].client)
        grpc_send(s, msg);
}
static void end_hang_up(struct grpc_stream *s, enum grpc_status st, struct slice d, bool final)
{
    (void)st, (void)d;
    if (closers[close_row].end)
        hang_up(s);
    else if (!final)
        grpc_end(s);
}
static const struct grpc_stream_ops hang_up_ops = {message_hang_up, end_hang_up, NULL};
static void call_hang_up(struct grpc_conn *c, struct grpc_stream *s, struct slice p)
{
    (void)c, (void)p;
    grpc_stream_set(s, &hang_up_ops, NULL);
}

START_TEST(close_within_callbacks)
{
    static const struct grpc_conn_ops server_closes = {.on_call = call_hang_up,
                                                       .on_close = on_close};
    struct chan *a, *b;
    struct err err = {0};
    close_row = _i;
    setup(4096, NULL);
    grpc_conn_close(client);
    grpc_conn_close(server);
    bool ours = closers[_i].client;
    ck_assert_int_eq(chan_mem_pair(loop, 4096, &a, &b, &err), 0);
    grpc_client(a, "operator", NULL, &conn_ops, NULL, &client, &err);
    grpc_server(b, NULL, ours ? &conn_ops : &server_closes, NULL, &server, &err);
    ck_assert_int_eq(grpc_call(client, "/stream", NULL, 0, ours ? &hang_up_ops : &client_ops, NULL,
                               &call, &err),
                     0);
    for (int i = 0; i < 20; i++)
        grpc_send(call, SL("0123456789"));
    grpc_end(call);
    spin();
    ck_assert(ours ? client == NULL : server == NULL);
    ck_assert_int_eq(closes, 1); /* the other side's */
    teardown();
}
END_TEST

/* The owner closes when the first of two calls is told that the connection is lost: the second call and
 * on_close are not told any more. */
static void end_and_close(struct grpc_stream *s, enum grpc_status st, struct slice detail, bool final)
{
    client_end(s, st, detail, final);
    grpc_conn_close(grpc_stream_conn(s));
}

START_TEST(close_while_the_connection_ends)
{
    static const struct grpc_stream_ops ops = {.on_end = end_and_close};
    struct grpc_stream *s;
    struct err err = {0};
    setup(4096, NULL);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(grpc_call(client, "/stream", NULL, 0, &ops, NULL, &s, &err), 0);
    spin();
    grpc_conn_close(server);
    server = NULL;
    spin();
    client = NULL;
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(closes, 0);
    teardown();
}
END_TEST

START_TEST(cancelled_by_the_server)
{
    setup(4096, NULL);
    echo = false;
    start("/stream", NULL, 0);
    spin();
    grpc_cancel(served);
    spin();
    ck_assert_int_eq(server_ends, 0);
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_CANCELLED);
    teardown();
}
END_TEST

/* The server is done while the client still sends: both see the end, nobody waits. */
START_TEST(server_ends_first)
{
    setup(65536, NULL);
    echo = false;
    start("/stream", NULL, 0);
    spin();
    char *big = mem_zalloc(2 << 20);
    grpc_send(call, slice_of(big, 2 << 20));
    grpc_fail(served, GRPC_NOT_FOUND, "no such thing");
    spin();
    ck_assert_int_eq(client_ends, 1);
    ck_assert_int_eq(client_status, GRPC_NOT_FOUND);
    ck_assert_str_eq(detail_seen, "no such thing");
    ck_assert_int_eq(server_ends, 1);
    mem_free(big);
    /* The connection goes on. */
    echo = true;
    start("/stream", NULL, 0);
    grpc_send(call, SL("again"));
    grpc_end(call);
    spin();
    ck_assert_str_eq(buf_cstr(&got_client), "again|");
    ck_assert_int_eq(closes, 0);
    teardown();
}
END_TEST

START_TEST(metadata_is_checked)
{
    struct err err = {0};
    const char *split[] = {"authorization", "a\r\nb: c", NULL};
    const char *many[2 * 18 + 1] = {0};
    setup(4096, NULL);
    ck_assert_int_eq(grpc_call(client, "/x", split, 0, &client_ops, NULL, &call, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    for (int i = 0; i < 36; i++)
        many[i] = "x";
    ck_assert_int_eq(grpc_call(client, "/x", many, 0, &client_ops, NULL, &call, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    teardown();
}
END_TEST

/* A message too many is refused; those that are queued arrive. */
START_TEST(send_queue_is_bounded)
{
    size_t n = 30 << 20;
    char *big = mem_zalloc(n);
    struct grpc_limits limits = {.max_message = 32 << 20};
    setup(1 << 20, &limits);
    echo = false;
    start("/stream", NULL, 0);
    ck_assert_int_eq(grpc_send(call, slice_of(big, n)), ERR_OK);
    ck_assert_int_eq(grpc_send(call, slice_of(big, n)), ERR_OK);
    ck_assert_int_eq(grpc_send(call, slice_of(big, n)), ERR_LIMIT);
    grpc_end(call);
    for (int i = 0; i < 10; i++)
        spin();
    ck_assert_uint_eq(buf_len(&got_server), 2 * 65);
    ck_assert_int_eq(server_halves, 1);
    teardown();
    mem_free(big);
}
END_TEST

/* Whatever allocation fails, in a library or here: an error or an end, no leak, no hang. */
START_TEST(out_of_memory)
{
    char big[3000] = {0};
    OOM_SWEEP (n) {
        struct chan *a, *b;
        struct err err = {0};
        mem_fail_after(-1);
        clock_init_virtual(&the_clock, NS_PER_S);
        client_ends = server_ends = closes = 0;
        call = served = NULL;
        client = server = NULL;
        echo = true;
        buf_init(&got_client, 1 << 20);
        buf_init(&got_server, 1 << 20);
        ck_assert_int_eq(loop_new(&the_clock, &loop, &err), 0);
        ck_assert_int_eq(chan_mem_pair(loop, 1000, &a, &b, &err), 0);
        buf_reserve(&got_client, 8192), buf_reserve(&got_server, 8192);
        mem_fail_after(n);
        bool begun = false;
        if (grpc_client(a, "operator", NULL, &conn_ops, NULL, &client, &err) < 0)
            chan_close(b);
        else if (grpc_server(b, NULL, &conn_ops, NULL, &server, &err) == 0)
            begun = grpc_call(client, "/stream", NULL, NS_PER_S, &client_ops, NULL, &call, &err) == 0;
        if (begun) {
            grpc_send(call, slice_of(big, sizeof big));
            grpc_end(call);
        }
        for (int i = 0; i < 60; i++)
            loop_turn(loop, 0, NULL);
        clock_advance(&the_clock, 2 * NS_PER_S);
        for (int i = 0; i < 10; i++)
            loop_turn(loop, 0, NULL);
        ck_assert_int_eq(client_ends, begun); /* within its deadline, whatever happens */
        if (!mem_fail_hit())
            ck_assert(client_status == GRPC_OK && buf_len(&got_client) == sizeof big + 1);
        teardown();
    }
}
END_TEST

START_TEST(drain_lets_live_calls_end)
{
    setup(4096, NULL);
    start("/stream", NULL, 0);
    spin();
    grpc_conn_drain(server);
    spin();
    ck_assert_int_eq(grpc_send(call, SL("late")), ERR_OK);
    grpc_end(call);
    spin();
    ck_assert_str_eq(buf_cstr(&got_client), "late|");
    ck_assert_int_eq(client_status, GRPC_OK);
    ck_assert_int_eq(closes, 2);
    teardown();
}
END_TEST

START_TEST(many_calls_in_sequence)
{
    setup(4096, NULL);
    for (int i = 0; i < 1000; i++) {
        start("/stream", NULL, 0);
        grpc_send(call, SL("x"));
        grpc_end(call);
        for (int k = 0; k < 8; k++)
            loop_turn(loop, 0, NULL);
        ck_assert_int_eq(client_ends, i + 1);
    }
    ck_assert_int_eq(closes, 0);
    teardown();
}
END_TEST

TESTS(grpc)
{
    tcase_add_test(tc, unary);
    tcase_add_test(tc, refused_with_a_text);
    tcase_add_test(tc, bidi_keeps_order);
    tcase_add_test(tc, large_message_in_pieces_with_backpressure);
    tcase_add_test(tc, message_over_the_limit);
    tcase_add_test(tc, deadline);
    tcase_add_test(tc, cancel_is_silent_here_and_told_there);
    tcase_add_test(tc, peer_gone);
    tcase_add_test(tc, pings_are_answered);
    tcase_add_test(tc, ping_unanswered_fails);
    tcase_add_test(tc, drain_serves_what_is_on_its_way);
    tcase_add_loop_test(tc, close_within_callbacks, 0, N_OF(closers));
    tcase_add_test(tc, close_while_the_connection_ends);
    tcase_add_test(tc, cancelled_by_the_server);
    tcase_add_test(tc, server_ends_first);
    tcase_add_test(tc, metadata_is_checked);
    tcase_add_test(tc, send_queue_is_bounded);
    tcase_add_test(tc, out_of_memory);
    tcase_add_test(tc, drain_lets_live_calls_end);
    tcase_add_test(tc, many_calls_in_sequence);
}
