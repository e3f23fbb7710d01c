/* SPDX-License-Identifier: Apache-2.0 */
/* The small HTTP/1 client against answers byte by byte, over loopback TCP with a virtual clock. */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/http/client.h"

static struct clock clk;
static struct loop *loop;
static struct sock_addr addr;
static int door;
static int calls;
static unsigned status;
static enum err_code code;
static char body[256], field[64];

static void done(void *user, unsigned st, const struct http_head *head, struct slice b,
                 const struct err *err)
{
    ck_assert_ptr_eq(user, &calls);
    ck_assert_int_eq(st == 0, err != NULL);
    calls++;
    status = st;
    code = err ? err->code : ERR_OK;
    slice_copy(b, body, sizeof body);
    if (st)
        slice_copy(http_head_get(head, SL("x")), field, sizeof field);
}

static void spin(void)
{
    for (int i = 0; i < 20; i++)
        ck_assert_int_ge(loop_turn(loop, 0, NULL), 0);
}

static void setup(void)
{
    struct err err = {0};
    clock_init_virtual(&clk, NS_PER_S);
    calls = 0;
    status = 0;
    body[0] = field[0] = '\0';
    ck_assert_int_eq(loop_new(&clk, &loop, &err), 0);
    sock_addr_parse_hostport(SL("127.0.0.1:0"), &addr);
    door = sock_listen(&addr, false, 16, &err);
    ck_assert_int_ge(door, 0);
    ck_assert_int_eq(sock_local(door, &addr), 0);
}

static void teardown(void)
{
    close(door);
    loop_free(loop);
}

/* The server's side of the next connection. */
static int take_one(void)
{
    struct sock_addr peer;
    int fd = -1;
    spin();
    ck_assert_int_eq(sock_accept(door, &fd, &peer), ERR_OK);
    return fd;
}

static struct http_get *start(const struct http_get_opts *opts)
{
    struct http_get *g = NULL;
    struct err err = {0};
    ck_assert_msg(http_get_start(loop, &addr, opts, done, &calls, &g, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(calls, 0); /* never before it returns */
    return g;
}

static void request_of(int fd, char *ret, size_t cap)
{
    spin();
    ssize_t n = recv(fd, ret, cap - 1, MSG_DONTWAIT);
    ck_assert_int_gt(n, 0);
    ret[n] = '\0';
}

#define OK "HTTP/1.1 200 OK\r\n"

/* clang-format off */
static const struct {
    const char *name, *in; bool head, end; /* end: the server ends the connection behind it */
    unsigned status; enum err_code code; const char *body;
} answers[] = {
    {"length",            OK "Content-Length: 3\r\nX: y\r\n\r\nabc",                     false, false, 200, ERR_OK, "abc"},
    {"bytes behind it",   OK "Content-Length: 3\r\nX: y\r\n\r\nabcdef",                  false, false, 200, ERR_OK, "abc"},
    {"chunks",            OK "X: y\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n", false, false, 200, ERR_OK, "abc"},
    {"until the end",     OK "X: y\r\n\r\nabc",                                          false, true,  200, ERR_OK, "abc"},
    {"no content",        "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",                     false, false, 204, ERR_OK, ""},
    {"to HEAD",           OK "Content-Length: 3\r\nX: y\r\n\r\n",                        true,  false, 200, ERR_OK, ""},
    {"an error is one",   "HTTP/1.1 503 x\r\nContent-Length: 1\r\nX: y\r\n\r\na",        false, false, 503, ERR_OK, "a"},
    {"1.0",               "HTTP/1.0 200 OK\r\nX: y\r\n\r\nabc",                          false, true,  200, ERR_OK, "abc"},
    {"interim first",     "HTTP/1.1 103 x\r\nX: n\r\n\r\nHTTP/1.1 100 x\r\n\r\n" OK "X: y\r\nContent-Length: 1\r\n\r\na", false, false, 200, ERR_OK, "a"},
    {"only interim",      "HTTP/1.1 100 x\r\n\r\n",                                      false, true,  0, ERR_UNAVAILABLE, ""},
    {"nothing",           "",                                                            false, true,  0, ERR_UNAVAILABLE, ""},
    {"half a head",       "HTTP/1.1 20",                                                 false, true,  0, ERR_UNAVAILABLE, ""},
    {"half a body",       OK "Content-Length: 3\r\n\r\nab",                              false, true,  0, ERR_UNAVAILABLE, ""},
    {"half a chunk",      OK "Transfer-Encoding: chunked\r\n\r\n3\r\nab",                false, true,  0, ERR_UNAVAILABLE, ""},
    {"not HTTP",          "SSH-2.0-OpenSSH_9.2\r\n\r\n",                                 false, false, 0, ERR_PROTO, ""},
    {"two lengths",       OK "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",           false, false, 0, ERR_PROTO, ""},
    {"unasked upgrade",   "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n", false, false, 0, ERR_PROTO, ""},
    {"at the limit",      OK "X: y\r\nContent-Length: 10\r\n\r\n0123456789",             false, false, 200, ERR_OK, "0123456789"},
    {"over it",           OK "Content-Length: 11\r\n\r\n0123456789a",                    false, false, 0, ERR_LIMIT, "0123456789"},
    {"over it, chunks",   OK "Transfer-Encoding: chunked\r\n\r\n9\r\n012345678\r\n2\r\n9a\r\n", false, false, 0, ERR_LIMIT, "012345678"},
};
/* clang-format on */

START_TEST(answer)
{
    struct http_get_opts opts = {.path = "/p?q", .max_body = 10};
    char req[1024], want[1024], where[SOCK_TEXT_MAX];
    struct slice in = slice_str(answers[_i].in);
    for (int slow = 0; slow < 2; slow++) {
        setup();
        opts.method = answers[_i].head ? "HEAD" : NULL;
        start(&opts);
        int fd = take_one();
        request_of(fd, req, sizeof req);
        snprintf(want, sizeof want, "%s /p?q HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n",
                 answers[_i].head ? "HEAD" : "GET", sock_addr_text(&addr, where));
        ck_assert_str_eq(req, want);
        for (size_t at = 0; at < in.len; at += slow ? 1 : in.len) {
            (void)!send(fd, in.p + at, slow ? 1 : in.len, MSG_NOSIGNAL);
            loop_turn(loop, 0, NULL);
            loop_turn(loop, 0, NULL);
        }
        if (answers[_i].end)
            close(fd);
        spin();
        ck_assert_msg(calls == 1, "%s: %d calls", answers[_i].name, calls);
        ck_assert_msg(status == answers[_i].status, "%s: %u", answers[_i].name, status);
        ck_assert_msg(code == answers[_i].code, "%s: %s", answers[_i].name, err_code_name(code));
        if (status) {
            ck_assert_msg(strcmp(body, answers[_i].body) == 0, "%s: %s", answers[_i].name, body);
            ck_assert_str_eq(field, "y");
        }
        if (!answers[_i].end)
            close(fd);
        teardown();
    }
}
END_TEST

START_TEST(fields_of_the_caller)
{
    struct http_field list[] = {{SL("Accept"), SL("text/plain")}, {SL("HOST"), SL("app.local")},
                                {SL("Connection"), SL("keep-alive")}, {SL("Content-Length"), SL("9")}};
    struct http_get_opts opts = {.path = "/", .host = "other", .fields = list, .n_fields = N_OF(list)};
    char req[1024];
    setup();
    start(&opts);
    int fd = take_one();
    request_of(fd, req, sizeof req);
    ck_assert_str_eq(req, "GET / HTTP/1.1\r\nhost: app.local\r\naccept: text/plain\r\n"
                          "connection: close\r\n\r\n");
    close(fd);
    spin();
    ck_assert_int_eq(calls, 1);
    teardown();
}
END_TEST

/* clang-format off */
static const struct { const char *name, *method, *path, *host; struct http_field field; } bad[] = {
    {"blank in the path", "GET", "/a b", "a", {SL("x"), SL("")}},
    {"CR in the path", "GET", "/\r\nx: y", "a", {SL("x"), SL("")}},
    {"LF in the host", "GET", "/", "a\nb", {SL("x"), SL("")}},
    {"LF in a value", "GET", "/", "a", {SL("x"), SL("a\nb")}},
    {"blank in a name", "GET", "/", "a", {SL("x y"), SL("a")}},
    {"method", "G T", "/", "a", {SL("x"), SL("")}},
};
/* clang-format on */

START_TEST(what_cannot_be_sent)
{
    struct http_get_opts opts = {.method = bad[_i].method, .path = bad[_i].path,
                                 .host = bad[_i].host, .fields = &bad[_i].field, .n_fields = 1};
    struct http_get *g;
    struct err err = {0};
    struct sock_addr peer;
    int fd;
    setup();
    ck_assert_int_eq(http_get_start(loop, &addr, &opts, done, &calls, &g, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    spin();
    ck_assert_int_eq(calls, 0);
    ck_assert_int_eq(sock_accept(door, &fd, &peer), ERR_AGAIN);
    teardown();
}
END_TEST

START_TEST(timeout_is_of_all)
{
    struct http_get_opts opts = {.path = "/", .timeout_ns = 2 * NS_PER_S};
    setup();
    start(&opts);
    int fd = take_one();
    for (int i = 0; i < 4; i++) { /* a byte now and then does not help */
        ck_assert_int_eq(calls, 0);
        ck_assert_int_eq(send(fd, &OK[i], 1, MSG_NOSIGNAL), 1);
        spin();
        clock_advance(&clk, NS_PER_S / 2);
        spin();
    }
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(code, ERR_TIMEOUT);
    close(fd);
    teardown();
}
END_TEST

START_TEST(nobody_listens)
{
    struct http_get_opts opts = {.path = "/"};
    setup();
    close(door);
    start(&opts);
    spin();
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(code, ERR_UNAVAILABLE);
    door = -1;
    teardown();
}
END_TEST

START_TEST(cancelled)
{
    struct http_get_opts opts = {.path = "/"};
    char byte;
    setup();
    struct http_get *g = start(&opts);
    int fd = take_one();
    http_get_cancel(g);
    spin();
    while (recv(fd, &byte, 1, MSG_DONTWAIT) > 0)
        ;
    ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0); /* the connection is closed */
    clock_advance(&clk, 60 * NS_PER_S);
    spin();
    ck_assert_int_eq(calls, 0);
    close(fd);
    teardown();
}
END_TEST

START_TEST(out_of_memory)
{
    struct http_field list = {SL("accept"), SL("x")};
    struct http_get_opts opts = {.path = "/", .fields = &list, .n_fields = 1};
    struct slice in = SL(OK "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n");
    setup();
    OOM_SWEEP (n) {
        struct http_get *g = NULL;
        struct err err = {0};
        struct sock_addr peer;
        int fd = -1;
        calls = 0;
        if (http_get_start(loop, &addr, &opts, done, &calls, &g, &err) < 0) {
            ck_assert(mem_fail_hit());
            spin();
            ck_assert_int_eq(calls, 0);
        } else {
            spin();
            if (sock_accept(door, &fd, &peer) == ERR_OK)
                for (size_t at = 0; at < in.len; at++) {
                    (void)!send(fd, in.p + at, 1, MSG_NOSIGNAL);
                    spin();
                }
            ck_assert_int_eq(calls, 1);
            ck_assert(status == 200 || mem_fail_hit());
            ck_assert(status != 200 || strcmp(body, "abc") == 0);
        }
        while (fd >= 0 || sock_accept(door, &fd, &peer) == ERR_OK) {
            close(fd);
            fd = -1;
        }
        spin();
    }
    teardown();
}
END_TEST

TESTS(client)
{
    tcase_add_loop_test(tc, answer, 0, N_OF(answers));
    tcase_add_test(tc, fields_of_the_caller);
    tcase_add_loop_test(tc, what_cannot_be_sent, 0, N_OF(bad));
    tcase_add_test(tc, timeout_is_of_all);
    tcase_add_test(tc, nobody_listens);
    tcase_add_test(tc, cancelled);
    tcase_add_test(tc, out_of_memory);
}
