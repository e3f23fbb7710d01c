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
        ck_assert_int_eq(grpc_send(s, msg), ERR_OK);
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

START_TEST(ping_unanswered_fails)
{
    struct grpc_limits limits = {.keepalive_ns = NS_PER_S};
    setup(4096, &limits);
    start("/stream", NULL, 0);
    spin();
    for (int i = 0; i < 10; i++) { /* answered: all is well */
        clock_advance(&the_clock, NS_PER_S);
        spin();
    }
    ck_assert_int_eq(closes, 0);
    teardown();
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
    tcase_add_test(tc, ping_unanswered_fails);
    tcase_add_test(tc, drain_lets_live_calls_end);
    tcase_add_test(tc, many_calls_in_sequence);
}
