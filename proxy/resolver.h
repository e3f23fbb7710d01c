/* SPDX-License-Identifier: Apache-2.0 */
/* Looking up names without blocking, by c-ares: servers, search list and options of a resolv.conf,
 * hosts of /etc/hosts, TCP where an answer was cut. The library is loaded with the first resolver,
 * so that a proxy that looks up nothing does not carry it. One loop, one thread. Its timeouts are
 * the real clock's, also where the loop's is not. */
#pragma once

#include "lib/io/loop.h"
#include "lib/io/sock.h"

enum { RESOLVER_ADDRS_MAX = 64 };

struct resolver_opts {
    const char *resolv_conf; /* NULL: the system's */
    int timeout_ms, tries;   /* of one server, for a question; 0: 2 s, and 2 */
    uint16_t port;           /* of the servers, for tests; 0: 53 */
};
enum resolver_result {
    RESOLVER_ADDRESSES, /* at least one */
    RESOLVER_NONE,      /* whoever answers for the name says that it has no address */
    RESOLVER_FAILED,    /* nobody answered, or not in a way that says anything */
};
struct resolver_answer {
    enum resolver_result result;
    struct sock_addr
        addrs[RESOLVER_ADDRS_MAX]; /* IPv4 first, else as the server ordered them; port 0 */
    unsigned n;
    uint32_t ttl_s;  /* the least of them; 0 where it is not told */
    const char *why; /* unless there are addresses; borrowed for the call */
};
typedef void resolver_fn(void *user, const struct resolver_answer *answer);

struct resolver;
struct lookup;
/* ERR_UNSUPPORTED: the library is not there; *err says where it was looked for. */
int resolver_new(struct loop *loop, const struct resolver_opts *opts, struct resolver **ret,
                 struct err *err);
/* Whoever waits hears nothing. NULL is fine. */
void resolver_free(struct resolver *r);
/* Both families of `host`. The answer comes by `fn`, perhaps before this returns; then, and without
 * memory (the answer says FAILED), the return value is NULL. */
struct lookup *resolver_ask(struct resolver *r, const char *host, resolver_fn *fn, void *user);
/* `fn` will not be called. NULL is fine. */
void resolver_forget(struct lookup *l);
