/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/resolver.h"

#include <ares.h>
#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"

#define LIBRARY "libcares.so.2"
enum { TIMEOUT_MS = 2000, TRIES = 2, UDP_BYTES = 1232, LARGE = 32 * 1024 };

/* What is used of it. */
#define FUNCTIONS(X)                                                                               \
    X(ares_library_init_mem)                                                                       \
    X(ares_init_options)                                                                           \
    X(ares_destroy)                                                                                \
    X(ares_getaddrinfo)                                                                            \
    X(ares_freeaddrinfo)                                                                           \
    X(ares_process_fd)                                                                             \
    X(ares_timeout)                                                                                \
    X(ares_strerror)
static struct {
    void *lib;
#define MEMBER(name) __typeof__(name) *name;
    FUNCTIONS(MEMBER)
} lib;

struct watch { /* a socket of the library's */
    struct loop_io io;
    struct resolver *resolver;
    struct watch *next, **prev;
    int fd;
    struct loop_task gone;
};
struct resolver {
    struct loop *loop;
    ares_channel channel;
    struct loop_io tick; /* a timer of the kernel's: the library counts real time */
    int tick_fd;
    struct watch *watches;
    unsigned n_questions;
    bool freeing;
    struct loop_task gone;
};
struct lookup {
    struct resolver *resolver;
    resolver_fn *fn; /* NULL: forgotten */
    void *user;
    unsigned left; /* questions without an answer */
    bool starting;
    int status[2]; /* of IPv4, IPv6 */
    struct resolver_answer answer;
};

/* --- the library's memory: a channel is one block of 80 KB, which has pages of its own, so that
 * they go back to the kernel when it ends. One thread.
 * ------------------------------------------------------- */

static struct {
    void *p;
    size_t n;
} large;

static void *block_new(size_t n)
{
    void *p = n >= LARGE && !large.p
                  ? mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                  : MAP_FAILED;
    if (p == MAP_FAILED)
        return mem_alloc(n);
    large.p = p;
    large.n = n;
    return p;
}

static void block_free(void *p)
{
    if (!p || p != large.p) {
        mem_free(p);
        return;
    }
    munmap(large.p, large.n);
    large.p = NULL;
}

static void *block_grow(void *p, size_t n)
{
    if (!p || p != large.p)
        return mem_realloc(p, n);
    void *grown = mem_alloc(n);
    if (grown) {
        memcpy(grown, p, MIN(n, large.n));
        block_free(p);
    }
    return grown;
}

static int load(struct err *err)
{
    if (lib.lib)
        return 0;
    void *so = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!so)
        return err_set(err, ERR_UNSUPPORTED, "%s", dlerror());
    void *p;
#define FIND(name)                                                                                 \
    if (!(p = dlsym(so, #name))) {                                                                 \
        dlclose(so);                                                                               \
        return err_set(err, ERR_UNSUPPORTED, LIBRARY " has no " #name);                            \
    }                                                                                              \
    memcpy(&lib.name, &p, sizeof p);
    FUNCTIONS(FIND)
    int rc = lib.ares_library_init_mem(ARES_LIB_INIT_ALL, block_new, block_free, block_grow);
    if (rc != ARES_SUCCESS) {
        dlclose(so);
        return err_set(err, ERR_NOMEM, LIBRARY ": %s", lib.ares_strerror(rc));
    }
    lib.lib = so;
    return 0;
}

/* --- sockets and time
 * ---------------------------------------------------------------------------------- */

static void watch_free(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct watch, gone));
}

static void watch_end(struct watch *w)
{
    loop_io_del(w->resolver->loop, &w->io);
    *w->prev = w->next;
    if (w->next)
        w->next->prev = w->prev;
    loop_task_add(w->resolver->loop, &w->gone, watch_free);
}

/* When the library wants to be called without anything having happened. */
static void tick_arm(struct resolver *r)
{
    struct itimerspec at = {0};
    struct timeval tv;
    if (r->n_questions && lib.ares_timeout(r->channel, NULL, &tv))
        at.it_value = (struct timespec){tv.tv_sec, tv.tv_usec * 1000 + 1};
    timerfd_settime(r->tick_fd, 0, &at, NULL);
}

static void on_socket(struct loop_io *io, unsigned events)
{
    struct watch *w = CONTAINER_OF(io, struct watch, io);
    struct resolver *r = w->resolver;
    int fd = w->fd; /* the watch may end in the call */
    lib.ares_process_fd(r->channel, events & ~(unsigned)LOOP_WRITE ? fd : ARES_SOCKET_BAD,
                        events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
    tick_arm(r);
}

static void on_tick(struct loop_io *io, unsigned events)
{
    struct resolver *r = CONTAINER_OF(io, struct resolver, tick);
    uint64_t n;
    (void)events;
    if (read(r->tick_fd, &n, sizeof n) != sizeof n)
        return;
    lib.ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    tick_arm(r);
}

static void socket_state(void *user, ares_socket_t fd, int readable, int writable)
{
    struct resolver *r = user;
    struct err err = {0};
    struct watch *w = r->watches;
    while (w && w->fd != fd)
        w = w->next;
    if (!readable && !writable) {
        if (w)
            watch_end(w);
        return;
    }
    if (!w) {
        w = mem_zalloc(sizeof *w);
        if (!w)
            return; /* its question times out */
        w->resolver = r;
        w->fd = fd;
        w->io.fd = -1;
        w->next = r->watches;
        w->prev = &r->watches;
        if (w->next)
            w->next->prev = &w->next;
        r->watches = w;
    }
    loop_io_level(r->loop, &w->io, fd,
                  (readable ? LOOP_READ : 0) | (writable ? (unsigned)LOOP_WRITE : 0), on_socket,
                  &err);
}

/* --- answers
 * ---------------------------------------------------------------------------------------------- */

/* An alias may hold for a shorter time than the addresses that it leads to. */
static void answer_add(struct resolver_answer *a, const struct ares_addrinfo *list, int family)
{
    uint32_t most = UINT32_MAX;
    for (const struct ares_addrinfo_cname *c = list->cnames; c; c = c->next)
        most = c->alias ? MIN(most, (uint32_t)MAX(c->ttl, 0)) : most;
    for (const struct ares_addrinfo_node *n = list->nodes; n && a->n < RESOLVER_ADDRS_MAX;
         n = n->ai_next) {
        struct sock_addr one = {0};
        if (n->ai_family != family || n->ai_addrlen > sizeof one)
            continue;
        memcpy(&one, n->ai_addr, n->ai_addrlen);
        sock_addr_set_port(&one, 0);
        uint32_t ttl = MIN(most, (uint32_t)MAX(n->ai_ttl, 0));
        a->ttl_s = a->n ? MIN(a->ttl_s, ttl) : ttl;
        a->addrs[a->n++] = one;
    }
}

static bool says_none(int status)
{
    return status == ARES_ENODATA || status == ARES_ENOTFOUND || status == ARES_ENONAME;
}

/* One family is enough; that there is none both must say. */
static void judge(struct lookup *l)
{
    struct resolver_answer *a = &l->answer;
    int v4 = l->status[0], v6 = l->status[1];
    a->result = a->n                             ? RESOLVER_ADDRESSES
                : says_none(v4) && says_none(v6) ? RESOLVER_NONE
                                                 : RESOLVER_FAILED;
    a->why = lib.ares_strerror(says_none(v4) || v4 == ARES_SUCCESS ? v6 : v4);
}

static void lookup_done(struct lookup *l)
{
    if (l->left || l->starting)
        return;
    judge(l);
    if (l->fn && !l->resolver->freeing)
        l->fn(l->user, &l->answer);
    mem_free(l);
}

static void answered(struct lookup *l, int family, int status, struct ares_addrinfo *list)
{
    l->resolver->n_questions--;
    l->status[family] = status;
    if (status == ARES_SUCCESS && list) {
        /* What was there of IPv6 first goes behind. */
        struct resolver_answer *a = &l->answer, other = *a;
        a->n = family == 0 ? 0 : a->n;
        answer_add(a, list, family == 0 ? AF_INET : AF_INET6);
        for (unsigned i = 0; family == 0 && i < other.n && a->n < RESOLVER_ADDRS_MAX; i++) {
            a->addrs[a->n++] = other.addrs[i];
            a->ttl_s = MIN(a->ttl_s, other.ttl_s);
        }
    }
    if (list)
        lib.ares_freeaddrinfo(list);
    l->left--;
    lookup_done(l);
}

static void answered_v4(void *user, int status, int timeouts, struct ares_addrinfo *list)
{
    (void)timeouts;
    answered(user, 0, status, list);
}

static void answered_v6(void *user, int status, int timeouts, struct ares_addrinfo *list)
{
    (void)timeouts;
    answered(user, 1, status, list);
}

struct lookup *resolver_ask(struct resolver *r, const char *host, resolver_fn *fn, void *user)
{
    struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_socktype = SOCK_STREAM};
    struct lookup *l = mem_zalloc(sizeof *l);
    if (!l) {
        fn(user, &(struct resolver_answer){.result = RESOLVER_FAILED, .why = "out of memory"});
        return NULL;
    }
    *l = (struct lookup){.resolver = r, .fn = fn, .user = user, .left = 2, .starting = true};
    r->n_questions += 2;
    hints.ai_family = AF_INET;
    lib.ares_getaddrinfo(r->channel, host, NULL, &hints, answered_v4, l);
    hints.ai_family = AF_INET6;
    lib.ares_getaddrinfo(r->channel, host, NULL, &hints, answered_v6, l);
    tick_arm(r);
    l->starting = false;
    if (l->left)
        return l;
    lookup_done(l);
    return NULL;
}

void resolver_forget(struct lookup *l)
{
    if (l)
        l->fn = NULL;
}

/* --- life
 * ---------------------------------------------------------------------------------------------------
 */

int resolver_new(struct loop *loop, const struct resolver_opts *opts, struct resolver **ret,
                 struct err *err)
{
    struct resolver *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(err, ERR_NOMEM, "resolver");
    r->loop = loop;
    r->tick.fd = -1;
    r->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    char *conf =
        opts->resolv_conf ? mem_strndup(opts->resolv_conf, strlen(opts->resolv_conf)) : NULL;
    /* A name with a dot is complete; the search list is for those that are not found as they are.
     */
    struct ares_options o = {
        .flags = ARES_FLAG_EDNS,
        .timeout = opts->timeout_ms ? opts->timeout_ms : TIMEOUT_MS,
        .tries = opts->tries ? opts->tries : TRIES,
        .udp_port = opts->port,
        .tcp_port = opts->port,
        .ndots = 1,
        .ednspsz = UDP_BYTES,
        .sock_state_cb = socket_state,
        .sock_state_cb_data = r,
        .resolvconf_path = conf,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS |
               ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB | (conf ? ARES_OPT_RESOLVCONF : 0) |
               (opts->port ? ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT : 0);
    int rc = load(err) < 0 ? -1 : lib.ares_init_options(&r->channel, &o, mask);
    mem_free(conf);
    if (rc != ARES_SUCCESS || r->tick_fd < 0 ||
        loop_io_level(loop, &r->tick, r->tick_fd, LOOP_READ, on_tick, err) < 0) {
        if (rc > 0)
            err_set(err, ERR_UNAVAILABLE, "resolver: %s", lib.ares_strerror(rc));
        resolver_free(r);
        return -1;
    }
    *ret = r;
    return 0;
}

static void resolver_gone(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct resolver, gone));
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    r->freeing = true;
    if (r->channel)
        lib.ares_destroy(
            r->channel); /* questions end with EDESTRUCTION, watches with their sockets */
    while (r->watches)
        watch_end(r->watches);
    loop_io_del(r->loop, &r->tick);
    if (r->tick_fd >= 0)
        close(r->tick_fd);
    loop_task_add(r->loop, &r->gone, resolver_gone);
}
