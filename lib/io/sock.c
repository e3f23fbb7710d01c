/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* linux/netfilter_ipv4.h and ip6_tables.h collide with libc's headers; both options are 80. */
enum { ORIGINAL_DST = 80 };

socklen_t sock_addr_len(const struct sock_addr *a)
{
    return a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in4;
}

uint16_t sock_addr_port(const struct sock_addr *a)
{
    return ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in4.sin_port);
}

void sock_addr_set_port(struct sock_addr *a, uint16_t port)
{
    if (a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons(port);
    else
        a->in4.sin_port = htons(port);
}

struct slice sock_addr_bytes(const struct sock_addr *a)
{
    switch (a->sa.sa_family) {
    case AF_INET:
        return slice_of(&a->in4.sin_addr, 4);
    case AF_INET6:
        return slice_of(&a->in6.sin6_addr, 16);
    default:
        return SLICE_NULL;
    }
}

int sock_addr_from_bytes(struct slice bytes, uint16_t port, struct sock_addr *ret)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct sock_addr a = {0};

    if (bytes.len == 16 && memcmp(bytes.p, mapped, sizeof mapped) == 0)
        bytes = slice_skip(bytes, sizeof mapped);
    if (bytes.len == 4) {
        a.in4.sin_family = AF_INET;
        memcpy(&a.in4.sin_addr, bytes.p, 4);
    } else if (bytes.len == 16) {
        a.in6.sin6_family = AF_INET6;
        memcpy(&a.in6.sin6_addr, bytes.p, 16);
    } else {
        return -1;
    }
    sock_addr_set_port(&a, port);
    *ret = a;
    return 0;
}

bool sock_addr_eq(const struct sock_addr *a, const struct sock_addr *b)
{
    return a->sa.sa_family == b->sa.sa_family && sock_addr_port(a) == sock_addr_port(b) &&
           slice_eq(sock_addr_bytes(a), sock_addr_bytes(b));
}

bool sock_addr_is_loopback(const struct sock_addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohl(a->in4.sin_addr.s_addr) >> 24 == 127;
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

int sock_addr_parse(struct slice ip, uint16_t port, struct sock_addr *ret)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char bytes[16];

    if (!slice_copy(ip, text, sizeof text) || strlen(text) != ip.len)
        return -1;
    if (inet_pton(AF_INET, text, bytes) == 1)
        return sock_addr_from_bytes(slice_of(bytes, 4), port, ret);
    if (inet_pton(AF_INET6, text, bytes) == 1)
        return sock_addr_from_bytes(slice_of(bytes, 16), port, ret);
    return -1;
}

int sock_addr_parse_hostport(struct slice s, struct sock_addr *ret)
{
    ptrdiff_t colon = slice_rchr(s, ':');
    struct slice host;
    uint64_t port;

    if (colon < 0 || !slice_u64(slice_skip(s, (size_t)colon + 1), 65535, &port))
        return -1;
    host = slice_head(s, (size_t)colon);
    if (host.len == 0) {
        *ret = (struct sock_addr){
            .in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)}};
        return 0;
    }
    if (host.p[0] == '[') { /* RFC 3986 3.2.2: an IPv6 literal stands in brackets, and only it */
        if (host.len < 4 || host.p[host.len - 1] != ']')
            return -1;
        host = slice_of(host.p + 1, host.len - 2);
        if (slice_chr(host, ':') < 0)
            return -1;
    } else if (slice_chr(host, ':') >= 0) {
        return -1;
    }
    return sock_addr_parse(host, (uint16_t)port, ret);
}

char *sock_addr_ip_text(const struct sock_addr *a, char ret[SOCK_TEXT_MAX])
{
    const void *bytes = sock_addr_bytes(a).p;

    if (bytes && a->sa.sa_family == AF_INET) {
        const unsigned char *b = bytes;
        char *p = ret;

        for (int i = 0; i < 4; i++) {
            p = u32_put(p, b[i]);
            *p++ = i < 3 ? '.' : '\0';
        }
        return ret;
    }
    if (!bytes || !inet_ntop(a->sa.sa_family, bytes, ret, SOCK_TEXT_MAX))
        snprintf(ret, SOCK_TEXT_MAX, "-");
    return ret;
}

char *sock_addr_text(const struct sock_addr *a, char ret[SOCK_TEXT_MAX])
{
    bool v6 = a->sa.sa_family == AF_INET6;
    char *p;

    if (!sock_addr_set(a)) {
        snprintf(ret, SOCK_TEXT_MAX, "-");
        return ret;
    }
    ret[0] = '[';
    sock_addr_ip_text(a, ret + v6);
    p = ret + strlen(ret);
    if (v6)
        *p++ = ']';
    *p++ = ':';
    *u32_put(p, sock_addr_port(a)) = '\0';
    return ret;
}

/* Fold what the kernel gave; families other than IP become the unset address. */
static void addr_fold(const struct sockaddr_storage *ss, struct sock_addr *ret)
{
    const struct sockaddr_in *in4 = (const void *)ss;
    const struct sockaddr_in6 *in6 = (const void *)ss;

    *ret = (struct sock_addr){0};
    if (ss->ss_family == AF_INET) {
        sock_addr_from_bytes(slice_of(&in4->sin_addr, 4), ntohs(in4->sin_port), ret);
    } else if (ss->ss_family == AF_INET6) {
        sock_addr_from_bytes(slice_of(&in6->sin6_addr, 16), ntohs(in6->sin6_port), ret);
        if (ret->sa.sa_family == AF_INET6)
            ret->in6.sin6_scope_id = in6->sin6_scope_id;
    }
}

static void set_on(int fd, int level, int option)
{
    setsockopt(fd, level, option, &(int){1}, sizeof(int));
}

static int fail(int fd, struct err *err, const char *what, const struct sock_addr *a)
{
    char text[SOCK_TEXT_MAX];
    int errnum = errno;

    if (fd >= 0)
        close(fd);
    return err_errno(err, errnum, "%s %s", what, sock_addr_text(a, text));
}

int sock_listen(const struct sock_addr *a, bool reuseport, int backlog, struct err *err)
{
    struct sock_addr addr = *a;
    bool any6 = a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
    int fd = socket(addr.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 && errno == EAFNOSUPPORT && any6) {
        addr = (struct sock_addr){.in4 = {.sin_family = AF_INET, .sin_port = a->in6.sin6_port}};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    if (fd < 0)
        return fail(fd, err, "socket for", a);
    set_on(fd, SOL_SOCKET, SO_REUSEADDR);
    set_on(fd, IPPROTO_TCP, TCP_NODELAY);
    if (reuseport)
        set_on(fd, SOL_SOCKET, SO_REUSEPORT);
    if (addr.sa.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){any6 ? 0 : 1}, sizeof(int));
    if (bind(fd, &addr.sa, sock_addr_len(&addr)) < 0)
        return fail(fd, err, "bind", a);
    if (listen(fd, backlog) < 0)
        return fail(fd, err, "listen", a);
    return fd;
}

int sock_connect(const struct sock_addr *dst, const struct sock_addr *src, struct err *err)
{
    int rc, fd = socket(dst->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fail(fd, err, "socket for", dst);
    set_on(fd, IPPROTO_TCP, TCP_NODELAY);
    if (src && sock_addr_set(src)) {
        /* Without this each source address would own a port for itself, whatever the destination.
         */
        set_on(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
        if (bind(fd, &src->sa, sock_addr_len(src)) < 0)
            return fail(fd, err, "bind", src);
    }
    do
        rc = connect(fd, &dst->sa, sock_addr_len(dst));
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno != EINPROGRESS && errno != EALREADY)
        return fail(fd, err, "connect to", dst);
    return fd;
}

/* A socket, and the address of the path; -1. */
static int unix_socket(const char *path, struct sockaddr_un *ret, socklen_t *ret_len,
                       struct err *err)
{
    size_t n = strlen(path);
    int fd;

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (n == 0 || n >= sizeof ret->sun_path)
        return err_set(err, ERR_INVALID, "no path of a unix socket: %s", path);
    memcpy(ret->sun_path, path, n);
    if (path[0] == '@')
        ret->sun_path[0] = '\0';
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? err_errno(err, errno, "unix socket") : fd;
}

/* A socket's file that nobody listens on any more (connect says so) makes room. */
static bool unix_stale(const char *path)
{
    struct err err = {0};
    struct stat st;
    int fd;

    if (path[0] == '@' || lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = sock_connect_unix(path, &err);
    if (fd < 0)
        return errno == ECONNREFUSED && unlink(path) == 0;
    close(fd);
    return false;
}

int sock_listen_unix(const char *path, int backlog, struct err *err)
{
    struct sockaddr_un un;
    socklen_t len;
    int fd = unix_socket(path, &un, &len, err), rc;

    if (fd < 0)
        return -1;
    rc = bind(fd, (const struct sockaddr *)&un, len);
    if (rc < 0 && errno == EADDRINUSE && unix_stale(path))
        rc = bind(fd, (const struct sockaddr *)&un, len);
    /* Its user is seldom ours; who may see the folder decides. */
    if (rc < 0 || (path[0] != '@' && chmod(path, 0666) < 0) || listen(fd, backlog) < 0) {
        int errnum = errno;

        close(fd);
        return err_errno(err, errnum, "listen at %s", path);
    }
    return fd;
}

int sock_connect_unix(const char *path, struct err *err)
{
    struct sockaddr_un un;
    socklen_t len;
    int rc, fd = unix_socket(path, &un, &len, err);

    if (fd < 0)
        return -1;
    do
        rc = connect(fd, (const struct sockaddr *)&un, len);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        int errnum = errno;

        close(fd);
        err_errno(err, errnum, "connect to %s", path);
        errno = errnum;
        return -1;
    }
    return fd;
}

int sock_udp_bind(const struct sock_addr *a, struct err *err)
{
    int fd = socket(a->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fail(fd, err, "socket for", a);
    if (bind(fd, &a->sa, sock_addr_len(a)) < 0)
        return fail(fd, err, "bind", a);
    return fd;
}

enum err_code sock_accept(int listener, int *ret_fd, struct sock_addr *ret_peer)
{
    for (;;) {
        struct sockaddr_storage ss = {0};
        socklen_t len = sizeof ss;
        int fd = accept4(listener, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            addr_fold(&ss, ret_peer);
            *ret_fd = fd;
            return ERR_OK;
        }
        switch (errno) {
        case EAGAIN:
            return ERR_AGAIN;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return ERR_LIMIT;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
        case EOPNOTSUPP:
        case EFAULT:
            return ERR_IO;
        default: /* accept(2): errors of the new connection itself are passed on here; take the next
                  */
            break;
        }
    }
}

int sock_local(int fd, struct sock_addr *ret)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;

    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
        return -1;
    addr_fold(&ss, ret);
    return 0;
}

int sock_peer(int fd, struct sock_addr *ret)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;

    if (getpeername(fd, (struct sockaddr *)&ss, &len) < 0)
        return -1;
    addr_fold(&ss, ret);
    return 0;
}

int sock_original_dst(int fd, struct sock_addr *ret, struct err *err)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    struct sock_addr local;
    int level;

    if (sock_local(fd, &local) < 0)
        return err_errno(err, errno, "getsockname");
    /* An IPv4 connection on an IPv6 socket has its NAT entry in the IPv4 table. */
    level = local.sa.sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    if (getsockopt(fd, level, ORIGINAL_DST, &ss, &len) == 0 &&
        (ss.ss_family == AF_INET || ss.ss_family == AF_INET6))
        addr_fold(&ss, ret);
    else /* no entry (ENOENT) or no connection tracking at all: nobody redirected it */
        *ret = local;
    return 0;
}

int sock_error(int fd)
{
    int errnum = 0;
    socklen_t len = sizeof errnum;

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0 ? errno : errnum;
}

static void int_option(int fd, int level, int name, unsigned v)
{
    int value = (int)v;

    if (v)
        setsockopt(fd, level, name, &value, sizeof value);
}

void sock_keepalive(int fd, unsigned probes, unsigned time_s, unsigned interval_s)
{
    int_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    int_option(fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
    int_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, time_s);
    int_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
}
