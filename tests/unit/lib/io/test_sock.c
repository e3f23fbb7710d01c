/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>
#include <fcntl.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/io/sock.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *in, *want; /* NULL: refused */
    bool loopback;
} hostports[] = {
    {"10.0.0.1:80", "10.0.0.1:80", false},
    {"127.0.0.6:0", "127.0.0.6:0", true},
    {"127.255.0.1:65535", "127.255.0.1:65535", true},
    {"[fd00::1]:80", "[fd00::1]:80", false},
    {"[::1]:15000", "[::1]:15000", true},
    {"[::ffff:10.0.0.1]:80", "10.0.0.1:80", false},
    {":8080", "[::]:8080", false},
    {"10.0.0.1:65536", NULL, false},
    {"10.0.0.1:", NULL, false},
    {"10.0.0.1", NULL, false},
    {"10.0.0:80", NULL, false},
    {"010.0.0.1:80", NULL, false},
    {"fd00::1:80", NULL, false},
    {"[fd00::1]80", NULL, false},
    {"[10.0.0.1]:80", NULL, false},
    {"[]:80", NULL, false},
    {"localhost:80", NULL, false},
    {"10.0.0.1:+80", NULL, false},
    {"", NULL, false},
};

START_TEST(hostport_form)
{
    struct sock_addr a, b;
    char text[SOCK_TEXT_MAX];
    int rc = sock_addr_parse_hostport(slice_str(hostports[_i].in), &a);

    ck_assert_msg((rc == 0) == (hostports[_i].want != NULL), "%s", hostports[_i].in);
    if (rc < 0)
        return;
    ck_assert_str_eq(sock_addr_text(&a, text), hostports[_i].want);
    ck_assert_msg(sock_addr_is_loopback(&a) == hostports[_i].loopback, "%s", hostports[_i].in);
    ck_assert_int_eq(sock_addr_parse_hostport(slice_str(text), &b), 0);
    ck_assert(sock_addr_eq(&a, &b));
    ck_assert_int_eq(sock_addr_from_bytes(sock_addr_bytes(&a), sock_addr_port(&a), &b), 0);
    ck_assert(sock_addr_eq(&a, &b));
    sock_addr_set_port(&b, (uint16_t)(sock_addr_port(&a) + 1));
    ck_assert(!sock_addr_eq(&a, &b));
}
END_TEST

/* A path, a name of the abstract namespace; nobody there; no path. */
START_TEST(unix_sockets)
{
    char path[64], name[64], longest[200];
    const char *const there[] = {path, name};
    struct err err = {0};

    snprintf(path, sizeof path, "/tmp/test-sock-%d", (int)getpid());
    snprintf(name, sizeof name, "@test-sock-%d", (int)getpid());
    memset(longest, 'x', sizeof longest - 1);
    longest[0] = '/', longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i < N_OF(there); i++) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        size_t n = strlen(there[i]);
        int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;

        ck_assert_int_lt(sock_connect_unix(there[i], &err), 0);
        memcpy(un.sun_path, there[i], n);
        if (i == 1)
            un.sun_path[0] = '\0';
        ck_assert_int_eq(bind(listener, (struct sockaddr *)&un,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)), 0);
        ck_assert_int_eq(listen(listener, 1), 0);
        fd = sock_connect_unix(there[i], &err);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(sock_error(fd), 0);
        close(fd);
        close(listener);
    }
    unlink(path);
    ck_assert_int_lt(sock_connect_unix("", &err), 0);
    ck_assert_int_lt(sock_connect_unix(longest, &err), 0);
    ck_assert_int_eq(err.code, ERR_INVALID);
}
END_TEST

/* What nobody listens on makes room; what somebody does, or what is no socket, does not. */
START_TEST(unix_listeners)
{
    char path[64];
    struct err err = {0};
    struct stat st;
    int first, second, fd;
    struct sock_addr peer;

    snprintf(path, sizeof path, "/tmp/test-sock-listen-%d", (int)getpid());
    first = sock_listen_unix(path, 4, &err);
    ck_assert_msg(first >= 0, "%s", err.msg);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0666);
    ck_assert_int_eq(sock_accept(first, &fd, &peer), ERR_AGAIN);
    second = sock_connect_unix(path, &err);
    ck_assert_int_ge(second, 0);
    ck_assert_int_eq(sock_accept(first, &fd, &peer), ERR_OK);
    ck_assert(!sock_addr_set(&peer));
    close(fd);
    close(second);
    ck_assert_int_lt(sock_listen_unix(path, 4, &err), 0);
    ck_assert(strstr(err.msg, path) != NULL);
    close(first);
    second = sock_listen_unix(path, 4, &err); /* the file is left of one that ended */
    ck_assert_msg(second >= 0, "%s", err.msg);
    close(second);
    unlink(path);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_lt(sock_listen_unix(path, 4, &err), 0);
    ck_assert_int_eq(stat(path, &st), 0);
    unlink(path);
    snprintf(path, sizeof path, "@test-sock-listen-%d", (int)getpid());
    first = sock_listen_unix(path, 4, &err);
    ck_assert_int_ge(first, 0);
    ck_assert_int_lt(sock_listen_unix(path, 4, &err), 0);
    close(first);
    ck_assert_int_lt(sock_listen_unix("/nowhere/at/all", 4, &err), 0);
}
END_TEST

START_TEST(an_embedded_nul_is_refused)
{
    struct sock_addr a;

    ck_assert_int_eq(sock_addr_parse(slice_of("10.0.0.1\0x", 10), 80, &a), -1);
    ck_assert_int_eq(sock_addr_from_bytes(slice_of("abc", 3), 80, &a), -1);
}
END_TEST

static const struct {
    const char *listen, *connect, *from;
} meetings[] = {
    {"127.0.0.1:0", "127.0.0.1", NULL},
    {"127.0.0.1:0", "127.0.0.1", "127.0.0.6"},
    {"[::1]:0", "::1", NULL},
    {":0", "127.0.0.1", NULL}, /* IPv4 on a dual socket is folded */
    {":0", "::1", NULL},
};

START_TEST(connect_meets_accept)
{
    struct sock_addr a, b, src, peer, dst;
    struct err err = {0};
    char text[SOCK_TEXT_MAX];
    int one = 0;

    ck_assert_int_eq(sock_addr_parse_hostport(slice_str(meetings[_i].listen), &a), 0);
    int l = sock_listen(&a, true, 16, &err);
    if (l < 0 && strstr(err.msg, "[::1]"))
        return; /* a machine without IPv6 */
    ck_assert_msg(l >= 0, "%s", err.msg);
    ck_assert_int_eq(sock_accept(l, &(int){0}, &peer), ERR_AGAIN);
    ck_assert_int_eq(sock_local(l, &a), 0);
    ck_assert_int_eq(sock_addr_parse(slice_str(meetings[_i].connect), sock_addr_port(&a), &b), 0);
    if (meetings[_i].from)
        ck_assert_int_eq(sock_addr_parse(slice_str(meetings[_i].from), 0, &src), 0);
    int c = sock_connect(&b, meetings[_i].from ? &src : NULL, &err);
    if (c < 0 && b.sa.sa_family == AF_INET6) {
        close(l);
        return;
    }
    ck_assert_msg(c >= 0, "%s", err.msg);
    struct pollfd p = {c, POLLOUT, 0};
    poll(&p, 1, 1000);
    ck_assert_int_eq(sock_error(c), 0);
    int s = -1;
    ck_assert_int_eq(sock_accept(l, &s, &peer), ERR_OK);
    ck_assert_str_eq(sock_addr_ip_text(&peer, text),
                     meetings[_i].from ? meetings[_i].from : meetings[_i].connect);
    ck_assert_int_eq(sock_local(c, &a), 0);
    ck_assert(sock_addr_eq(&a, &peer));
    /* Nobody redirected it: the original destination is the local address. */
    ck_assert_int_eq(sock_original_dst(s, &dst, &err), 0);
    ck_assert(sock_addr_eq(&dst, &b));
    ck_assert_int_eq(sock_peer(c, &a), 0);
    ck_assert(sock_addr_eq(&a, &b));
    ck_assert_int_eq(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, &(socklen_t){sizeof one}), 0);
    ck_assert_int_ne(one, 0);
    close(c);
    close(s);
    close(l);
}
END_TEST

START_TEST(errors_name_the_address)
{
    struct sock_addr a;
    struct err err = {0};

    sock_addr_parse_hostport(SL("127.0.0.1:0"), &a);
    int l = sock_listen(&a, false, 1, &err);
    ck_assert_int_ge(l, 0);
    sock_local(l, &a);
    ck_assert_int_eq(sock_listen(&a, false, 1, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "127.0.0.1:"));
    sock_addr_parse_hostport(SL("192.0.2.1:80"), &a); /* RFC 5737: nobody has it */
    ck_assert_int_eq(sock_udp_bind(&a, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "192.0.2.1:80"));
    ck_assert_int_eq(sock_original_dst(-1, &a, &err), -1);
    ck_assert_int_eq(sock_accept(-1, &(int){0}, &a), ERR_IO);
    close(l);
}
END_TEST

TESTS(sock)
{
    tcase_add_loop_test(tc, hostport_form, 0, N_OF(hostports));
    tcase_add_test(tc, unix_sockets);
    tcase_add_test(tc, unix_listeners);
    tcase_add_test(tc, an_embedded_nul_is_refused);
    tcase_add_loop_test(tc, connect_meets_accept, 0, N_OF(meetings));
    tcase_add_test(tc, errors_name_the_address);
}
