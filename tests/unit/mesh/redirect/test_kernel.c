/* SPDX-License-Identifier: Apache-2.0 */
/* The rules in a kernel: a pod's network namespace and a peer's, joined by a veth pair. Each row
 * says who connects where and which listener must get it, with which original destination. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/netfilter_ipv4.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mesh/redirect/redirect.h"
#include "tests/unit/tcase.h"

#define POD "10.9.0.2"
#define PEER "10.9.0.1"
#define FAR "10.20.0.9"
#define POD6 "fd00:9::2"
#define PEER6 "fd00:9::1"
#define FAR6 "fd00:20::9"
enum { SO_ORIGINAL_DST_6 = 80, APP = 1000, PROXY = 1337 };

struct addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    };
    socklen_t len;
};

static struct addr addr_of(const char *ip, int port)
{
    struct addr a = {0};
    if (strchr(ip, ':')) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons((uint16_t)port);
        inet_pton(AF_INET6, ip, &a.in6.sin6_addr);
        a.len = sizeof a.in6;
    } else {
        a.in4.sin_family = AF_INET;
        a.in4.sin_port = htons((uint16_t)port);
        inet_pton(AF_INET, ip, &a.in4.sin_addr);
        a.len = sizeof a.in4;
    }
    return a;
}

/* --- two namespaces --------------------------------------------------------------------------- */
static int pod_ns, peer_ns;

static void run(const char *cmd)
{
    int rc = system(cmd);
    ck_assert_msg(rc == 0, "%s: %d", cmd, rc);
}

static int ns_new(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    run("ip link set lo up");
    return fd;
}

static void enter(int ns)
{
    ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

static bool can_run(void)
{
    if (geteuid() == 0 && system("command -v nft >/dev/null && command -v ip >/dev/null && "
                                 "unshare -n true 2>/dev/null") == 0)
        return true;
    fprintf(stderr, "SKIPPED redirect in a kernel: needs root, nft, ip, network namespaces\n");
    return false;
}

static void world_open(void)
{
    char cmd[128];
    int gate[2];
    peer_ns = ns_new();
    ck_assert_int_eq(pipe(gate), 0);
    pid_t holder = fork(); /* `ip` names a namespace by a process in it */
    if (holder == 0) {
        char c;
        close(gate[1]);
        _exit(read(gate[0], &c, 1) < 0);
    }
    pod_ns = ns_new();
    snprintf(cmd, sizeof cmd, "ip link add eth0 type veth peer name eth0 netns %d", (int)holder);
    run(cmd);
    close(gate[0]);
    close(gate[1]);
    waitpid(holder, NULL, 0);
    run("ip addr add " POD "/24 dev eth0; ip addr add " POD6 "/64 dev eth0 nodad;"
        "ip link set eth0 up; ip route add default via " PEER ";"
        "ip -6 route add default via " PEER6 "; ip -6 addr add ::6/128 dev lo nodad");
    enter(peer_ns);
    run("ip addr add " PEER "/24 dev eth0; ip addr add " PEER6 "/64 dev eth0 nodad;"
        "ip link set eth0 up");
    enter(pod_ns);
}

static void rules_load(const char *const *args)
{
    struct redirect_settings s;
    struct err err = {0};
    struct buf text;
    int argc = 0;
    while (args[argc])
        argc++;
    buf_init(&text, 1 << 16);
    ck_assert_msg(redirect_parse_args(argc, (char *const *)(uintptr_t)args, &s, &err) == 0, "%s",
                  err.msg);
    ck_assert_msg(redirect_render(&s, &text, &err) == 0, "%s", err.msg);
    FILE *nft = popen("nft -f -", "w");
    ck_assert_ptr_nonnull(nft);
    fputs(buf_cstr(&text), nft);
    ck_assert_int_eq(pclose(nft), 0);
    buf_fini(&text);
}

/* --- listeners: one of each port in each namespace -------------------------------------------- */
static const int ports[] = {53, 80, 3306, 8080, 15001, 15006, 15021, 15053};
struct listener {
    bool peer;
    int port, fd;
};
static struct listener listeners[2 * N_OF(ports) + 1];

static int listener_open(int type, bool peer, const char *ip, int port)
{
    struct addr a = addr_of(ip, port);
    int one = 1, zero = 0;
    enter(peer ? peer_ns : pod_ns);
    /* The pod's listeners are the proxy's: rules go by who opened a socket. */
    ck_assert_int_eq(seteuid(peer ? 0 : PROXY), 0);
    int fd = socket(a.sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(seteuid(0), 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (strcmp(ip, "::") == 0)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    ck_assert_int_eq(bind(fd, &a.sa, a.len), 0);
    if (type == SOCK_STREAM)
        ck_assert_int_eq(listen(fd, 8), 0);
    return fd;
}

/* DNS over UDP listens on the loopback addresses themselves: an answer from a socket that is bound
 * to any address would leave from the pod's, and the kernel could not undo the redirect. */
static void listeners_open(int type)
{
    bool dns4 = type == SOCK_DGRAM;
    size_t n = 0;
    for (size_t i = 0; i < N_OF(ports); i++)
        for (int peer = 0; peer < 2; peer++) {
            const char *ip = dns4 && !peer && ports[i] == 15053 ? "127.0.0.1" : "::";
            listeners[n++] =
                (struct listener){peer, ports[i], listener_open(type, peer, ip, ports[i])};
        }
    listeners[n] =
        (struct listener){false, 15053, dns4 ? listener_open(type, false, "::1", 15053) : -1};
    enter(pod_ns);
}

static const struct listener *listeners_wait(int ms)
{
    struct pollfd fds[N_OF(listeners)];
    for (size_t i = 0; i < N_OF(listeners); i++)
        fds[i] = (struct pollfd){listeners[i].fd, POLLIN, 0};
    if (poll(fds, N_OF(listeners), ms) <= 0)
        return NULL;
    for (size_t i = 0; i < N_OF(listeners); i++)
        if (fds[i].revents & POLLIN)
            return &listeners[i];
    return NULL;
}

/* A process of that user and group connects (or sends "q" and waits for an answer) and is gone. */
static pid_t call(int ns, int type, int uid, int gid, const char *from, int from_port,
                  const char *to, int port)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    struct addr a = addr_of(to, port), b = addr_of(from ? from : "0.0.0.0", from_port);
    struct timeval limit = {.tv_sec = 2};
    char answer[8];
    int one = 1;
    alarm(4);
    if (setns(ns, CLONE_NEWNET) < 0 || setgroups(0, NULL) < 0 ||
        setresgid((gid_t)gid, (gid_t)gid, (gid_t)gid) < 0 ||
        setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0)
        _exit(9);
    int fd = socket(a.sa.sa_family, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if ((from || from_port) && bind(fd, &b.sa, b.len) < 0)
        _exit(8);
    if (connect(fd, &a.sa, a.len) < 0)
        _exit(7);
    if (type == SOCK_DGRAM && (send(fd, "q", 1, 0) != 1 || recv(fd, answer, sizeof answer, 0) != 1))
        _exit(6);
    _exit(0);
}

static int call_end(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

/* The address that was meant, as "ip port". */
static void original(int fd, bool v6, char *ret, size_t cap)
{
    struct addr a = {.len = sizeof a.in6};
    char ip[INET6_ADDRSTRLEN] = "?";
    if (getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? SO_ORIGINAL_DST_6 : SO_ORIGINAL_DST,
                   &a.sa, &a.len) < 0) {
        snprintf(ret, cap, "none");
        return;
    }
    inet_ntop(v6 ? AF_INET6 : AF_INET, v6 ? (void *)&a.in6.sin6_addr : (void *)&a.in4.sin_addr, ip,
              sizeof ip);
    snprintf(ret, cap, "%s %d", ip, ntohs(v6 ? a.in6.sin6_port : a.in4.sin_port));
}

/* --- TCP -------------------------------------------------------------------------------------- */
/* clang-format off */
static const struct {
    const char *name;
    bool peer; /* the caller is the peer */
    int uid, gid;
    const char *from, *to;
    int port;
    bool at_peer; /* who gets it */
    int got;
} tcp[] = {
    {"app out",                 false, APP, APP,     NULL,        FAR,         80,    false, 15001},
    {"app out to the peer",     false, APP, APP,     NULL,        PEER,        80,    false, 15001},
    {"app out, v6",             false, APP, APP,     NULL,        FAR6,        80,    false, 15001},
    {"root out",                false, 0,   0,       NULL,        PEER,        80,    false, 15001},
    {"excluded port",           false, APP, APP,     NULL,        PEER,        3306,  true,  3306},
    {"app to itself, loopback", false, APP, APP,     NULL,        "127.0.0.1", 8080,  false, 8080},
    {"app to itself, address",  false, APP, APP,     NULL,        POD,         8080,  false, 8080},
    {"app to itself, v6",       false, APP, APP,     NULL,        POD6,        8080,  false, 8080},
    {"app to itself, ::1",      false, APP, APP,     NULL,        "::1",       8080,  false, 8080},
    {"proxy out",               false, PROXY, PROXY, NULL,        PEER,        80,    true,  80},
    {"proxy out, v6",           false, PROXY, PROXY, NULL,        PEER6,       80,    true,  80},
    {"proxy's group",           false, APP, PROXY,   NULL,        PEER,        80,    true,  80},
    {"proxy to own pod",        false, PROXY, PROXY, NULL,        POD,         8080,  false, 15006},
    {"proxy to own pod, v6",    false, PROXY, PROXY, NULL,        POD6,        8080,  false, 15006},
    {"inbound side to app",     false, PROXY, PROXY, "127.0.0.6", POD,         8080,  false, 8080},
    {"inbound side, loopback",  false, PROXY, PROXY, "127.0.0.6", "127.0.0.1", 8080,  false, 8080},
    {"inbound side, v6",        false, PROXY, PROXY, "::6",       POD6,        8080,  false, 8080},
    {"proxy, loopback",         false, PROXY, PROXY, NULL,        "127.0.0.1", 8080,  false, 8080},
    {"inbound",                 true,  APP, APP,     NULL,        POD,         8080,  false, 15006},
    {"inbound, v6",             true,  APP, APP,     NULL,        POD6,        8080,  false, 15006},
    {"inbound, health",         true,  APP, APP,     NULL,        POD,         15021, false, 15021},
    {"inbound, excluded",       true,  APP, APP,     NULL,        POD,         3306,  false, 3306},
    {"DNS over TCP",            false, APP, APP,     NULL,        PEER,        53,    false, 15053},
    {"DNS over TCP, loopback",  false, APP, APP,     NULL,        "127.0.0.1", 53,    false, 15053},
    {"proxy's DNS over TCP",    false, PROXY, PROXY, NULL,        PEER,        53,    true,  53},
};
/* clang-format on */

START_TEST(tcp_rules)
{
    static const char *const args[] = {"--dns", "--exclude-outbound-ports=3306",
                                       "--exclude-inbound-ports=3306", NULL};
    if (!can_run())
        return;
    world_open();
    rules_load(args);
    listeners_open(SOCK_STREAM);
    for (size_t i = 0; i < N_OF(tcp); i++) {
        char want[64], got[64] = "none";
        bool v6 = strchr(tcp[i].to, ':') != NULL;
        pid_t pid = call(tcp[i].peer ? peer_ns : pod_ns, SOCK_STREAM, tcp[i].uid, tcp[i].gid,
                         tcp[i].from, 0, tcp[i].to, tcp[i].port);
        const struct listener *l = listeners_wait(3000);
        ck_assert_msg(l != NULL, "%s: nobody got it (caller says %d)", tcp[i].name, call_end(pid));
        int fd = accept(l->fd, NULL, NULL);
        ck_assert_int_ge(fd, 0);
        ck_assert_msg(l->port == tcp[i].got && l->peer == tcp[i].at_peer, "%s: %s port %d got it",
                      tcp[i].name, l->peer ? "the peer's" : "the pod's", l->port);
        if (tcp[i].got != tcp[i].port) {
            original(fd, v6, got, sizeof got);
            snprintf(want, sizeof want, "%s %d", tcp[i].to, tcp[i].port);
            ck_assert_msg(strcmp(got, want) == 0, "%s: was meant for %s", tcp[i].name, got);
        }
        ck_assert_msg(call_end(pid) == 0, "%s: the caller failed", tcp[i].name);
        close(fd);
    }
}
END_TEST

/* --- UDP -------------------------------------------------------------------------------------- */
/* clang-format off */
static const struct {
    const char *name;
    int uid, from_port;
    const char *to;
    int port;
    bool at_peer;
    int got;
} udp[] = {
    {"app's DNS",                       APP,   0,    PEER,        53,   false, 15053},
    {"app's DNS, v6",                   APP,   0,    PEER6,       53,   false, 15053},
    {"app's DNS on loopback",           APP,   0,    "127.0.0.1", 53,   false, 15053},
    {"proxy's DNS",                     PROXY, 0,    PEER,        53,   true,  53},
    {"other UDP",                       APP,   0,    PEER,        8080, true,  8080},
    {"app's DNS from a port",           APP,   5555, PEER,        53,   false, 15053},
    {"proxy's DNS from the same port",  PROXY, 5555, PEER,        53,   true,  53},
    {"and the app again",               APP,   5555, PEER,        53,   false, 15053},
};
/* clang-format on */

static void answer(const struct listener *l)
{
    struct addr from = {.len = sizeof from.in6};
    char q[8];
    ck_assert_int_eq(recvfrom(l->fd, q, sizeof q, 0, &from.sa, &from.len), 1);
    ck_assert_int_eq(sendto(l->fd, "a", 1, 0, &from.sa, from.len), 1);
}

START_TEST(udp_rules)
{
    static const char *const args[] = {"--dns", NULL};
    if (!can_run())
        return;
    world_open();
    rules_load(args);
    listeners_open(SOCK_DGRAM);
    for (size_t i = 0; i < N_OF(udp); i++) {
        const char *from = udp[i].from_port ? POD : NULL;
        pid_t pid = call(pod_ns, SOCK_DGRAM, udp[i].uid, udp[i].uid, from, udp[i].from_port,
                         udp[i].to, udp[i].port);
        const struct listener *l = listeners_wait(3000);
        ck_assert_msg(l != NULL, "%s: nobody got it (caller says %d)", udp[i].name, call_end(pid));
        ck_assert_msg(l->port == udp[i].got && l->peer == udp[i].at_peer, "%s: %s port %d got it",
                      udp[i].name, l->peer ? "the peer's" : "the pod's", l->port);
        answer(l);
        int rc = call_end(pid);
        ck_assert_msg(rc == 0, "%s: no answer came back (%d)", udp[i].name, rc);
    }
}
END_TEST

/* Only listed ranges are caught, and loopback when it is listed. */
START_TEST(ranges)
{
    static const char *const args[] = {"--include-outbound-cidrs=10.20.0.0/16,127.0.0.2/32", NULL};
    static const struct {
        const char *to;
        int port, got;
        bool at_peer;
    } rows[] = {
        {FAR, 80, 15001, false},
        {PEER, 80, 80, true},
        {PEER, 53, 53, true}, /* no --dns */
        {"127.0.0.2", 8080, 15001, false},
        {"127.0.0.1", 8080, 8080, false},
    };
    if (!can_run())
        return;
    world_open();
    rules_load(args);
    listeners_open(SOCK_STREAM);
    for (size_t i = 0; i < N_OF(rows); i++) {
        pid_t pid = call(pod_ns, SOCK_STREAM, APP, APP, NULL, 0, rows[i].to, rows[i].port);
        const struct listener *l = listeners_wait(3000);
        ck_assert_msg(l && l->port == rows[i].got && l->peer == rows[i].at_peer, "%s %d: %d",
                      rows[i].to, rows[i].port, l ? l->port : -1);
        close(accept(l->fd, NULL, NULL));
        ck_assert_int_eq(call_end(pid), 0);
    }
}
END_TEST

TESTS(redirect_kernel)
{
    tcase_add_test(tc, tcp_rules);
    tcase_add_test(tc, udp_rules);
    tcase_add_test(tc, ranges);
}
