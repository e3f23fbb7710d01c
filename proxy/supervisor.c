/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/io/sock.h"
#include "proxy/handover.h"
#include "proxy/options.h"
#include "proxy/trim.h"

enum { FDS_MAX = 256, RESTART_MAX_MS = 1000, STEADY_S = 10 };

struct supervisor {
    struct handover_fd fds[FDS_MAX]; /* listeners */
    int n_fds;
    struct handover_fd keeps[HANDOVER_KEEPS];
    int n_keeps;
    int channel;     /* our end towards the data process */
    pid_t child;
    int64_t started_ns;
    int restart_ms;
    bool stopping;
    const char *data_path;
    char **argv;
};

static bool add_fd(struct supervisor *s, const char *name, int fd)
{
    if (fd < 0 || s->n_fds == FDS_MAX)
        return false;
    snprintf(s->fds[s->n_fds].name, HANDOVER_NAME_MAX, "%s", name);
    s->fds[s->n_fds++].fd = fd;
    return true;
}

/* One listener; both families where the machine has IPv6. */
static int open_listener(const char *host, uint16_t port, struct err *err)
{
    struct sock_addr a;
    if (host) {
        if (sock_addr_parse(slice_str(host), port, &a) < 0)
            return err_set(err, ERR_INVALID, "address %s", host);
        return sock_listen(&a, true, 1024, err);
    }
    sock_addr_parse(SL("::"), port, &a);
    int fd = sock_listen(&a, true, 1024, err);
    if (fd >= 0)
        return fd;
    sock_addr_parse(SL("0.0.0.0"), port, &a);
    return sock_listen(&a, true, 1024, err);
}

static const struct {
    const char *name, *host; /* host NULL: every address */
    uint16_t port;
    bool per_worker, udp;
} doors[] = { /* a gateway has no redirect rules, hence neither workers' doors nor DNS */
    {"outbound", NULL, 15001, true, false}, {"inbound", NULL, 15006, true, false},
    {"status", NULL, 15020, false, false},  {"health", NULL, 15021, false, false},
    {"metrics", NULL, 15090, false, false}, {"admin", "127.0.0.1", 15000, false, false},
    /* The redirect rules send a question to the loopback address of its family; an answer finds its
     * way back only from that very address. */
    {"dns.tcp", "127.0.0.1", 15053, false, false}, {"dns.udp", "127.0.0.1", 15053, false, true},
    {"dns6.tcp", "::1", 15053, false, false},      {"dns6.udp", "::1", 15053, false, true},
};

static int open_doors(struct supervisor *s, const struct proxy_options *o, struct err *err)
{
    for (size_t i = 0; i < N_OF(doors); i++) {
        if (o->gateway && (doors[i].per_worker || strncmp(doors[i].name, "dns", 3) == 0))
            continue;
        for (unsigned w = 0; w < (doors[i].per_worker ? o->concurrency : 1); w++) {
            struct sock_addr a;
            int fd;
            if (doors[i].udp) {
                sock_addr_parse(slice_str(doors[i].host), doors[i].port, &a);
                fd = sock_udp_bind(&a, err);
            } else {
                fd = open_listener(doors[i].host, doors[i].port, err);
            }
            bool optional = doors[i].host && strchr(doors[i].host, ':'); /* no IPv6 here */
            if (!add_fd(s, doors[i].name, fd) && !optional)
                return err_wrap(err, "port %u (%s)", doors[i].port, doors[i].name);
        }
    }
    return 0;
}

/* Listeners that were asked for by hand: --outbound, --inbound, --status and so on. */
static int open_fixed(struct supervisor *s, const struct proxy_options *o, struct err *err)
{
    for (unsigned i = 0; i < o->n_listen; i++) {
        const struct proxy_listen *l = &o->listen[i];
        char name[HANDOVER_NAME_MAX];
        for (unsigned w = 0; w < (l->per_worker ? o->concurrency : 1); w++) {
            snprintf(name, sizeof name, "%s.%u", l->name, i);
            if (!add_fd(s, name, sock_listen(&l->at, true, 1024, err)))
                return err_wrap(err, "--%s", l->name);
        }
    }
    return 0;
}

static void child_exec(struct supervisor *s, int channel)
{
    static char env[FDS_MAX * 24];
    env[0] = '\0';
    for (int i = 0; i < s->n_fds; i++) {
        fcntl(s->fds[i].fd, F_SETFD, 0);
        handover_format(env, sizeof env, s->fds[i].name, s->fds[i].fd);
    }
    for (int i = 0; i < s->n_keeps; i++) {
        char name[HANDOVER_NAME_MAX + 8];
        fcntl(s->keeps[i].fd, F_SETFD, 0);
        snprintf(name, sizeof name, "keep.%s", s->keeps[i].name);
        handover_format(env, sizeof env, name, s->keeps[i].fd);
    }
    fcntl(channel, F_SETFD, 0);
    handover_format(env, sizeof env, "supervisor", channel);
    setenv(HANDOVER_ENV, env, 1);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the supervisor */
    execv(s->data_path, s->argv);
    fprintf(stderr, "tulle-proxy: cannot execute %s: %s\n", s->data_path, strerror(errno));
    _exit(EXIT_BAD_CONFIG);
}

static int64_t now_ns(void)
{
    struct clock c;
    clock_init_real(&c);
    return clock_now(&c);
}

static int child_start(struct supervisor *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        LOG(ERROR, "No channel to the data process", "reason=%s", strerror(errno));
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0)
        child_exec(s, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        LOG(ERROR, "Data process not started", "reason=%s", strerror(errno));
        close(pair[0]);
        return -1;
    }
    if (s->channel >= 0)
        close(s->channel);
    s->channel = pair[0];
    s->child = pid;
    s->started_ns = now_ns();
    return 0;
}

static void keep(struct supervisor *s, const char *name, int fd)
{
    for (int i = 0; i < s->n_keeps; i++) {
        if (strcmp(s->keeps[i].name, name) == 0) {
            close(s->keeps[i].fd);
            if (fd >= 0)
                s->keeps[i].fd = fd;
            else
                s->keeps[i] = s->keeps[--s->n_keeps];
            return;
        }
    }
    if (fd < 0)
        return;
    if (s->n_keeps == HANDOVER_KEEPS) {
        close(fd);
        return;
    }
    snprintf(s->keeps[s->n_keeps].name, HANDOVER_NAME_MAX, "%s", name);
    s->keeps[s->n_keeps++].fd = fd;
}

static void channel_readable(struct supervisor *s)
{
    char name[HANDOVER_NAME_MAX];
    int fd;
    enum err_code rc;
    while ((rc = handover_receive(s->channel, name, &fd)) == ERR_OK)
        keep(s, name, fd);
    if (rc != ERR_AGAIN) {
        close(s->channel);
        s->channel = -1;
    }
}

static void say_death(int status)
{
    if (WIFSIGNALED(status))
        LOG(ERROR, "Data process died", "signal=%d name=%s core=%s", WTERMSIG(status),
            strsignal(WTERMSIG(status)), WCOREDUMP(status) ? "yes" : "no");
    else
        LOG(ERROR, "Data process ended", "code=%d", WEXITSTATUS(status));
}

/* The child is gone. True when the supervisor is to end, with *ret_code: it was stopped, it has left as
 * it was asked to (/quitquitquit), or it cannot work with what it was given. */
static bool child_gone(struct supervisor *s, int status, int *ret_code)
{
    s->child = 0;
    if (WIFEXITED(status) &&
        (s->stopping || WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_BAD_CONFIG)) {
        *ret_code = WEXITSTATUS(status);
        return true;
    }
    if (s->stopping) {
        say_death(status);
        *ret_code = EXIT_FAILURE;
        return true;
    }
    say_death(status);
    if (s->channel >= 0)
        channel_readable(s); /* what it handed over before it died */
    /* The first restart is immediate; a process that dies at once again waits a little longer. */
    if (now_ns() - s->started_ns > STEADY_S * NS_PER_S)
        s->restart_ms = 0;
    else
        s->restart_ms = s->restart_ms ? MIN(s->restart_ms * 2, RESTART_MAX_MS) : 20;
    if (s->restart_ms > 20)
        usleep((useconds_t)s->restart_ms * 1000);
    if (child_start(s) < 0) {
        *ret_code = EXIT_FAILURE;
        return true;
    }
    return false;
}

/* True when the supervisor is to end. */
static bool on_signal(struct supervisor *s, int fd, int *ret_code)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            continue;
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            s->stopping = true;
        if (s->child)
            kill(s->child, (int)info.ssi_signo);
    }
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == s->child && child_gone(s, status, ret_code))
            return true;
    return false;
}

static int supervise(struct supervisor *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (sig < 0 || child_start(s) < 0)
        return EXIT_FAILURE;
    int code = EXIT_FAILURE;
    trim_after_start();
    for (;;) {
        struct pollfd p[2] = {{.fd = sig, .events = POLLIN}, {.fd = s->channel, .events = POLLIN}};
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return EXIT_FAILURE;
        if (p[1].revents && s->channel >= 0)
            channel_readable(s);
        if (p[0].revents && on_signal(s, sig, &code))
            return code;
    }
}

/* The data process is beside this executable. */
static const char *beside(const char *name)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    if (n <= 0)
        return name;
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, 32, "%s", name);
    return path;
}

const char *supervisor_data_path(void)
{
    const char *path = getenv("TULLE_PROXY_DATA");
    return path ? path : beside("tulle-proxy-data");
}

int supervisor_run(int argc, char **argv)
{
    static struct supervisor s = {.channel = -1};
    struct proxy_options options;
    struct err err = {0};
    if (proxy_options_parse(argc, argv, &options, &err) < 0 ||
        (options.n_listen ? open_fixed(&s, &options, &err) : open_doors(&s, &options, &err)) < 0) {
        fprintf(stderr, "tulle-proxy: %s\n", err.msg);
        return EXIT_BAD_CONFIG;
    }
    s.data_path = supervisor_data_path();
    s.argv = argv - 1; /* with the name of the program in front of the verb */
    return supervise(&s);
}
