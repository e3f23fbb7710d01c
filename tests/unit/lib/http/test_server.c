/* SPDX-License-Identifier: Apache-2.0 */
/* The small HTTP/1 server over loopback TCP, with a virtual clock. */
#include "tests/unit/tcase.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/http/server.h"

enum { BIG = 24 << 20 }; /* more than the sockets of both ends take */

static struct clock clk;
static struct loop *loop;
static struct http_server *server;
static struct sock_addr addr;
static struct http_exchange *held;
static int gone, handled;

static void on_gone(void *user)
{
    (void)user;
    gone++;
    held = NULL;
}

static void handle(void *user, struct http_exchange *x)
{
    static char big[BIG];
    struct slice q = http_exchange_query(x, SL("q")), path = http_exchange_path(x);
    ck_assert_ptr_eq(user, &loop);
    handled++;
    if (http_exchange_is(x, "GET", "/hello")) {
        http_reply(x, 200, "text/plain", SL("hello"));
    } else if (http_exchange_is(x, "POST", "/echo")) {
        http_reply(x, 200, NULL, http_exchange_body(x));
    } else if (http_exchange_is(x, "GET", "/query")) {
        http_reply(x, 200, NULL, q.p ? q : SL("none"));
    } else if (http_exchange_is(x, "GET", "/empty")) {
        http_reply(x, 204, NULL, SLICE_NULL);
    } else if (http_exchange_is(x, "GET", "/tag")) {
        http_reply(x, 200, NULL, http_exchange_tag(x) == 7 ? SL("7") : SL("?"));
    } else if (http_exchange_is(x, "GET", "/big")) {
        memset(big, 'b', sizeof big);
        http_reply(x, 200, NULL, slice_of(big, sizeof big));
    } else if (slice_is(path, "/free")) {
        http_server_free(server);
        server = NULL;
    } else if (slice_starts(path, SL("/later"))) {
        held = x;
        if (slice_is(path, "/later/watched"))
            http_exchange_on_gone(x, on_gone, NULL);
    } else {
        http_reply(x, 404, "text/plain", SL("no"));
    }
}

static void spin(void)
{
    for (int i = 0; i < 20; i++)
        ck_assert_int_ge(loop_turn(loop, 0, NULL), 0);
}

static void setup(const struct http_server_opts *opts)
{
    struct err err = {0};
    clock_init_virtual(&clk, NS_PER_S);
    gone = handled = 0;
    held = NULL;
    ck_assert_int_eq(loop_new(&clk, &loop, &err), 0);
    ck_assert_int_eq(http_server_new(loop, opts, handle, &loop, &server, &err), 0);
    sock_addr_parse_hostport(SL("127.0.0.1:0"), &addr);
    int fd = sock_listen(&addr, false, 16, &err);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(sock_local(fd, &addr), 0);
    ck_assert_int_eq(http_server_listen(server, fd, 7, &err), 0);
}

static void teardown(void)
{
    http_server_free(server);
    server = NULL;
    loop_free(loop);
}

static int dial(void)
{
    int fd = sock_connect(&addr, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    spin();
    return fd;
}

static void put(int fd, struct slice s)
{
    ck_assert_int_eq(send(fd, s.p, s.len, MSG_NOSIGNAL), (ssize_t)s.len);
    spin();
}

/* What is there; *ret_end when the server ended the connection. */
static void take(int fd, struct buf *out, bool *ret_end)
{
    char bytes[65536];
    ssize_t n;
    *ret_end = false;
    while ((n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        buf_add(out, bytes, (size_t)n);
        spin();
    }
    *ret_end = n == 0 || errno != EAGAIN;
}

#define H "Host: a\r\n"
#define HELLO "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
#define OK(len, text) "HTTP/1.1 200 OK\r\ncontent-length: " #len "\r\n\r\n" text
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define LAST(status, len, text)                                                                    \
    "HTTP/1.1 " status "\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: " #len \
    "\r\n\r\n" text

/* clang-format off */
static const struct { const char *name, *in, *want; bool end; } talks[] = {
    {"get",              "GET /hello HTTP/1.1\r\n" H "\r\n",                       HELLO, false},
    {"two in turn",      "GET /hello HTTP/1.1\r\n" H "\r\nGET /tag HTTP/1.1\r\n" H "\r\n", HELLO OK(1, "7"), false},
    {"head",             "HEAD /hello HTTP/1.1\r\n" H "\r\nGET /tag HTTP/1.1\r\n" H "\r\n",
     "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n" OK(1, "7"), false},
    {"post",             "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", OK(3, "abc"), false},
    {"post in chunks",   "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nt: u\r\n\r\n", OK(3, "abc"), false},
    {"post, then get",   "POST /echo HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\naGET /tag HTTP/1.1\r\n" H "\r\n", OK(1, "a") OK(1, "7"), false},
    {"continue",         "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na", CONTINUE OK(1, "a"), false},
    {"nothing to continue", "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\n\r\n", OK(0, ""), false},
    {"unknown to 1.0",   "POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
     "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na", true},
    {"query",            "GET /query?a=b&q=x%20y+z%2&c HTTP/1.1\r\n" H "\r\n",     OK(7, "x y z%2"), false},
    {"query, empty",     "GET /query?q HTTP/1.1\r\n" H "\r\n",                     OK(0, ""), false},
    {"query, none",      "GET /query?qq=1 HTTP/1.1\r\n" H "\r\n",                  OK(4, "none"), false},
    {"no content",       "GET /empty HTTP/1.1\r\n" H "\r\n",                       "HTTP/1.1 204 No Content\r\n\r\n", false},
    {"nowhere",          "GET /x HTTP/1.1\r\n" H "\r\n",
     "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno", false},
    {"wrong method",     "POST /hello HTTP/1.1\r\n" H "\r\n",
     "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno", false},
    {"close",            "GET /hello HTTP/1.1\r\n" H "Connection: close\r\n\r\n",  LAST("200 OK", 5, "hello"), true},
    {"nothing after it", "GET /hello HTTP/1.1\r\n" H "Connection: close\r\n\r\nGET /tag HTTP/1.1\r\n" H "\r\n", LAST("200 OK", 5, "hello"), true},
    {"tunnel",           "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nraw",           LAST("405 Method Not Allowed", 16, "no tunnels here\n"), true},
    {"body too large",   "POST /echo HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\nabcdefghijk", LAST("413 Content Too Large", 15, "body too large\n"), true},
    {"bad host",         "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",                    LAST("400 Bad Request", 38, "malformed Host field (RFC 9112 3.2)"), true},
};
/* clang-format on */

START_TEST(talk)
{
    struct http_server_opts opts = {.max_body = 10};
    struct slice in = slice_str(talks[_i].in);
    /* All at once, and byte by byte. */
    for (int slow = 0; slow < 2; slow++) {
        CLEANUP(buf_freep) struct buf got;
        bool end;
        buf_init(&got, 1 << 20);
        setup(&opts);
        int fd = dial();
        for (size_t at = 0; at < in.len; at += slow ? 1 : in.len) {
            ssize_t n = send(fd, in.p + at, slow ? 1 : in.len, MSG_NOSIGNAL);
            ck_assert(n > 0 || talks[_i].end);
            for (int k = 0; k < 4; k++)
                loop_turn(loop, 0, NULL);
        }
        spin();
        take(fd, &got, &end);
        const char *text = strstr(talks[_i].want, "malformed") ? "HTTP/1.1 400" : talks[_i].want;
        if (text == talks[_i].want)
            ck_assert_msg(slice_is(buf_slice(&got), text), "%s: %s", talks[_i].name, buf_cstr(&got));
        else
            ck_assert(slice_starts(buf_slice(&got), slice_str(text)));
        ck_assert_msg(end == talks[_i].end, "%s", talks[_i].name);
        close(fd);
        teardown();
    }
}
END_TEST

#define LATER "GET /later HTTP/1.1\r\n" H "\r\n"

START_TEST(answer_later_keeps_the_order)
{
    CLEANUP(buf_freep) struct buf got;
    bool end;
    buf_init(&got, 1 << 20);
    setup(NULL);
    int fd = dial();
    put(fd, SL(LATER "GET /hello HTTP/1.1\r\n" H "\r\n"));
    put(fd, SL("GET /tag HTTP/1.1\r\n" H "\r\n"));
    clock_advance(&clk, 600 * NS_PER_S); /* the handler's time is its own */
    spin();
    ck_assert_int_eq(handled, 1);
    ck_assert_ptr_nonnull(held);
    http_reply(held, 200, NULL, SL("late"));
    spin();
    take(fd, &got, &end);
    ck_assert_str_eq(buf_cstr(&got), OK(4, "late") HELLO OK(1, "7"));
    close(fd);
    teardown();
}
END_TEST

START_TEST(client_goes_before_the_answer)
{
    setup(NULL);
    int fd = dial();
    put(fd, SL(LATER));
    struct linger hard = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    spin();
    http_reply(held, 200, NULL, SL("to nobody")); /* a sanitizer sees whether it is still there */
    spin();
    teardown();
}
END_TEST

START_TEST(client_goes_and_is_watched)
{
    setup(NULL);
    int fd = dial();
    put(fd, SL("GET /later/watched HTTP/1.1\r\n" H "\r\n"));
    ck_assert_ptr_nonnull(held);
    close(fd);
    spin();
    ck_assert_int_eq(gone, 1);
    ck_assert_ptr_null(held);
    teardown();
}
END_TEST

START_TEST(half_closed_client_gets_its_answer)
{
    CLEANUP(buf_freep) struct buf got;
    bool end;
    buf_init(&got, 1 << 20);
    setup(NULL);
    int fd = dial();
    put(fd, SL(LATER));
    shutdown(fd, SHUT_WR);
    spin();
    http_reply(held, 200, NULL, SL("late"));
    spin();
    take(fd, &got, &end);
    ck_assert_str_eq(buf_cstr(&got), OK(4, "late"));
    ck_assert(end);
    close(fd);
    teardown();
}
END_TEST

/* Answers larger than the socket takes, asked for in one go: neither order nor memory suffers. */
START_TEST(large_answers_in_turn)
{
    CLEANUP(buf_freep) struct buf got;
    bool end;
    buf_init(&got, (size_t)4 * BIG);
    setup(NULL);
    int fd = dial();
    for (int i = 0; i < 3; i++)
        put(fd, SL("GET /big HTTP/1.1\r\n" H "\r\nGET /tag HTTP/1.1\r\n" H "\r\n"));
    ck_assert_int_eq(handled, 1); /* no further request before the answer is on its way */
    for (int i = 0; i < 2000 && handled < 6; i++)
        take(fd, &got, &end);
    take(fd, &got, &end);
    ck_assert_int_eq(handled, 6);
    struct slice s = buf_slice(&got), head = SL("HTTP/1.1 200 OK\r\ncontent-length: 25165824\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        ck_assert(slice_starts(s, head));
        s = slice_skip(s, head.len + BIG);
        ck_assert(slice_starts(s, SL(OK(1, "7"))));
        s = slice_skip(s, SL(OK(1, "7")).len);
    }
    ck_assert_uint_eq(s.len, 0);
    close(fd);
    teardown();
}
END_TEST

/* clang-format off */
static const struct { const char *name, *in; int64_t alive_s, dead_s; } waits[] = {
    {"nothing",          "",                                             59, 61},
    {"after an answer",  "GET /hello HTTP/1.1\r\n" H "\r\n",             59, 61},
    {"half a head",      "GET /hello HT",                                 9, 11},
    {"half a body",      "POST /echo HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\nab", 9, 11},
    {"unread answer",    "GET /big HTTP/1.1\r\n" H "\r\n",               59, 61},
};
/* clang-format on */

START_TEST(deadlines)
{
    CLEANUP(buf_freep) struct buf got;
    bool end;
    buf_init(&got, (size_t)4 * BIG);
    setup(NULL);
    int fd = dial();
    if (waits[_i].in[0])
        put(fd, slice_str(waits[_i].in));
    bool unread = strstr(waits[_i].in, "/big") != NULL;
    clock_advance(&clk, waits[_i].alive_s * NS_PER_S);
    spin();
    if (!unread)
        take(fd, &got, &end);
    ck_assert_msg(unread || !end, "%s: too early", waits[_i].name);
    clock_advance(&clk, (waits[_i].dead_s - waits[_i].alive_s) * NS_PER_S);
    spin();
    take(fd, &got, &end);
    ck_assert_msg(end, "%s: too late", waits[_i].name);
    ck_assert(!unread || buf_len(&got) < BIG);
    close(fd);
    teardown();
}
END_TEST

START_TEST(longest_idle_gives_way)
{
    struct http_server_opts opts = {.max_connections = 2};
    CLEANUP(buf_freep) struct buf got;
    bool end;
    buf_init(&got, 1 << 20);
    setup(&opts);
    int busy = dial();
    put(busy, SL(LATER));
    int idle = dial();
    int fresh = dial();
    put(fresh, SL("GET /later HT"));
    take(idle, &got, &end);
    ck_assert(end);
    int one_more = dial(); /* nobody is idle */
    take(one_more, &got, &end);
    ck_assert(end);
    http_reply(held, 200, NULL, SL("x"));
    spin();
    put(fresh, SL("TP/1.1\r\n" H "\r\n"));
    http_reply(held, 200, NULL, SL("y"));
    spin();
    take(busy, &got, &end);
    take(fresh, &got, &end);
    ck_assert_str_eq(buf_cstr(&got), OK(1, "x") OK(1, "y"));
    close(busy), close(idle), close(fresh), close(one_more);
    teardown();
}
END_TEST

/* The answer to a request that is refused half way reaches a client that is still sending. */
START_TEST(refusal_lingers)
{
    struct http_server_opts opts = {.max_body = 10};
    CLEANUP(buf_freep) struct buf got;
    bool end;
    char body[4096];
    memset(body, 'x', sizeof body);
    buf_init(&got, 1 << 20);
    setup(&opts);
    int fd = dial();
    put(fd, SL("POST /echo HTTP/1.1\r\n" H "Content-Length: 40960\r\n\r\n"));
    for (int i = 0; i < 10; i++)
        put(fd, slice_of(body, sizeof body));
    take(fd, &got, &end);
    ck_assert(slice_starts(buf_slice(&got), SL("HTTP/1.1 413 ")));
    ck_assert(slice_ends(buf_slice(&got), SL("too large\n")));
    clock_advance(&clk, 2 * NS_PER_S);
    spin();
    /* Now it is gone for good: a write is answered by a reset. */
    ck_assert_int_gt(send(fd, body, 1, MSG_NOSIGNAL), 0);
    ck_assert_int_lt(send(fd, body, 1, MSG_NOSIGNAL), 0);
    close(fd);
    teardown();
}
END_TEST

START_TEST(freed_by_its_handler)
{
    setup(NULL);
    int fd = dial(), other = dial();
    put(other, SL(LATER));
    put(fd, SL("GET /free HTTP/1.1\r\n" H "\r\nGET /hello HTTP/1.1\r\n" H "\r\n"));
    ck_assert_ptr_null(server);
    ck_assert_int_eq(handled, 2);
    close(fd), close(other);
    teardown();
}
END_TEST

START_TEST(drained)
{
    CLEANUP(buf_freep) struct buf got;
    bool end;
    buf_init(&got, 1 << 20);
    setup(NULL);
    int idle = dial(), busy = dial(), half = dial();
    put(busy, SL(LATER));
    put(half, SL("GET /hello HTTP/1.1\r\n"));
    http_server_drain(server);
    spin();
    ck_assert_uint_eq(http_server_connections(server), 2);
    take(idle, &got, &end);
    ck_assert(end && buf_len(&got) == 0);
    int late = sock_connect(&addr, NULL, NULL);
    spin();
    ck_assert(late < 0 || sock_error(late) == ECONNREFUSED);
    put(half, SL(H "\r\n"));
    http_reply(held, 200, NULL, SL("late"));
    spin();
    take(busy, &got, &end);
    ck_assert_str_eq(buf_cstr(&got), "HTTP/1.1 200 OK\r\nconnection: close\r\n"
                                     "content-length: 4\r\n\r\nlate");
    buf_reset(&got);
    take(half, &got, &end);
    ck_assert_str_eq(buf_cstr(&got), LAST("200 OK", 5, "hello"));
    close(idle), close(busy), close(half);
    if (late >= 0)
        close(late);
    spin();
    ck_assert_uint_eq(http_server_connections(server), 0);
    teardown();
}
END_TEST

/* Without memory a request fails, but the server serves the next one. */
START_TEST(out_of_memory)
{
    setup(NULL);
    OOM_SWEEP (n) {
        CLEANUP(buf_freep) struct buf got = {0};
        bool end;
        char bytes[1024];
        int fd = sock_connect(&addr, NULL, NULL);
        struct slice in = SL("POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nabGET /hello HTTP/1.1\r\n" H "\r\n");
        ck_assert_int_ge(fd, 0);
        spin();
        (void)!send(fd, in.p, in.len, MSG_NOSIGNAL);
        spin();
        ssize_t got_n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        bool good = got_n > 0 && slice_eq(slice_of(bytes, (size_t)got_n), SL(OK(2, "ab") HELLO));
        ck_assert(good || mem_fail_hit());
        close(fd);
        spin();
        buf_init(&got, 1 << 16);
        if (!mem_fail_hit()) /* the last round */
            continue;
        fd = dial();
        put(fd, SL("GET /hello HTTP/1.1\r\n" H "\r\n"));
        take(fd, &got, &end);
        ck_assert_str_eq(buf_cstr(&got), HELLO);
        close(fd);
        spin();
    }
    teardown();
}
END_TEST

TESTS(server)
{
    tcase_add_loop_test(tc, talk, 0, N_OF(talks));
    tcase_add_test(tc, answer_later_keeps_the_order);
    tcase_add_test(tc, client_goes_before_the_answer);
    tcase_add_test(tc, client_goes_and_is_watched);
    tcase_add_test(tc, half_closed_client_gets_its_answer);
    tcase_add_test(tc, large_answers_in_turn);
    tcase_add_loop_test(tc, deadlines, 0, N_OF(waits));
    tcase_add_test(tc, longest_idle_gives_way);
    tcase_add_test(tc, refusal_lingers);
    tcase_add_test(tc, freed_by_its_handler);
    tcase_add_test(tc, drained);
    tcase_add_test(tc, out_of_memory);
}
