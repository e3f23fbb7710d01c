/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets: addresses as values, non-blocking close-on-exec descriptors, no name resolution. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* An IPv4 or IPv6 endpoint. IPv4-mapped IPv6 addresses are folded to IPv4 on entry. */
struct sock_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    };
};
enum { SOCK_TEXT_MAX = 64 };

static inline bool sock_addr_set(const struct sock_addr *a)
{
    return a->sa.sa_family != 0;
}
socklen_t sock_addr_len(const struct sock_addr *a);
uint16_t sock_addr_port(const struct sock_addr *a);
void sock_addr_set_port(struct sock_addr *a, uint16_t port);
/* Raw address bytes: 4 or 16. Borrows from `a`. */
struct slice sock_addr_bytes(const struct sock_addr *a);
int sock_addr_from_bytes(struct slice bytes, uint16_t port, struct sock_addr *ret);
bool sock_addr_eq(const struct sock_addr *a, const struct sock_addr *b);
bool sock_addr_is_loopback(const struct sock_addr *a);
/* "10.0.0.1" or "fd00::1" with the port given apart; 0 or -1. No names. */
int sock_addr_parse(struct slice ip, uint16_t port, struct sock_addr *ret);
/* "10.0.0.1:80", "[fd00::1]:80", ":80" (any IPv6 + IPv4 address) */
int sock_addr_parse_hostport(struct slice s, struct sock_addr *ret);
/* "10.0.0.1:80" / "[fd00::1]:80"; without port: "10.0.0.1". Returns ret. */
char *sock_addr_text(const struct sock_addr *a, char ret[SOCK_TEXT_MAX]);
char *sock_addr_ip_text(const struct sock_addr *a, char ret[SOCK_TEXT_MAX]);

/* Listen; non-blocking, SO_REUSEADDR, SO_REUSEPORT when asked; accepted sockets inherit
 * TCP_NODELAY. [::] takes IPv4 too, and means 0.0.0.0 on a machine without IPv6. Returns the fd or
 * -1. */
int sock_listen(const struct sock_addr *a, bool reuseport, int backlog, struct err *err);
/* Listen on a unix socket: "/path", which whoever reaches its folder may connect to and which takes the place of
 * a socket that nobody listens on, or "@name" of the abstract namespace. Returns the fd or -1. */
int sock_listen_unix(const char *path, int backlog, struct err *err);
/* Start a TCP connect from `src` (NULL: any). TCP_NODELAY set. Returns the fd (connecting or
 * connected) or -1; the end of the attempt shows as writability, its result in sock_error. */
int sock_connect(const struct sock_addr *dst, const struct sock_addr *src, struct err *err);
/* The same to a unix socket: "/path", or "@name" of the abstract namespace. -1 also for a path that is too
 * long, and while its backlog is full. */
int sock_connect_unix(const char *path, struct err *err);
int sock_udp_bind(const struct sock_addr *a, struct err *err);
/* Probe the peer of an idle connection: after `time_s`, each `interval_s`, until `probes` in a row stayed
 * unanswered; 0 for the system's. Best effort. */
void sock_keepalive(int fd, unsigned probes, unsigned time_s, unsigned interval_s);
/* Accept one; ERR_AGAIN when none is waiting, ERR_LIMIT when descriptors or memory ran out (the
 * listener stays readable: pause it for a while, or the loop spins), ERR_IO when it is broken. */
enum err_code sock_accept(int listener, int *ret_fd, struct sock_addr *ret_peer);
/* Where a redirected connection wanted to go (SO_ORIGINAL_DST, IPv4 and IPv6); without a NAT entry
 * the local address. */
int sock_original_dst(int fd, struct sock_addr *ret, struct err *err);
int sock_local(int fd, struct sock_addr *ret);
int sock_peer(int fd, struct sock_addr *ret);
/* Pending SO_ERROR, 0 when none. */
int sock_error(int fd);
