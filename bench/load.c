/* SPDX-License-Identifier: Apache-2.0 */
/* Load generator: HTTP/1.1 over TCP or TLS, one thread, one epoll loop.
 *
 * usage: load MODE [options] ADDR:PORT PATH [-- COMMAND...]
 *   closed   each connection sends the next request when its answer is there
 *   open     requests are due at a fixed rate; a latency counts from the time its request was due,
 *            whether or not a connection was free then (coordinated omission corrected)
 *   fresh    a new connection for each request; a latency counts from connect()
 *   idle     opens the connections, one request each, prints "ready" and holds them until stdin
 * ends start    runs COMMAND and tells the time from there to the first whole 200, then ends it
 * Prints one JSON object. Latencies are exact: every one is kept and sorted. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/net.h"

enum { HEAD_MAX = 16384, READ_MAX = 256 * 1024, EVENTS = 512, PIDS_MAX = 32, CONNECT_AT_ONCE = 32 };
enum mode { CLOSED, OPEN, FRESH, IDLE, START };
enum state { NEW, CONNECTING, HANDSHAKE, FREE, BUSY };

struct conn {
    int fd;
    enum state state;
    SSL *ssl;
    int64_t since; /* when the request was due */
    size_t sent;   /* of the request */
    size_t n_head; /* bytes of the answer's head so far */
    bool in_body;
    int64_t body_left;
    uint64_t answers; /* within the window */
    bool used;        /* had an answer */
    struct conn *next_free;
    char head[HEAD_MAX + 1];
};

static struct {
    enum mode mode;
    unsigned conns;
    double seconds, warm, rate;
    const char *host, *path, *body_file, *cert, *key, *alpn, *sni;
    bool tls, resume;
    struct sockaddr_in at;
    pid_t pids[PIDS_MAX];
    unsigned n_pids;
} opt = {.conns = 1, .seconds = 1, .host = "bench"};

static struct conn *conns;
static struct conn *first_free, *last_free;
static int ep;
static SSL_CTX *tls;
static SSL_SESSION *session;
static char *request;
static size_t request_len;
static char sink[READ_MAX];

static uint64_t n_ok, n_errors, n_reconnects, n_bytes, n_started, n_opened, n_answered;
static char first_error[160];
static bool measuring;
static int64_t *lat;
static size_t n_lat, cap_lat;

static void error_note(const char *what)
{
    n_errors++;
    if (!*first_error)
        snprintf(first_error, sizeof first_error, "%s", what);
}

static void keep_latency(int64_t ns)
{
    if (n_lat == cap_lat) {
        cap_lat = cap_lat ? cap_lat * 2 : 65536;
        lat = realloc(lat, cap_lat * sizeof *lat);
        if (!lat)
            die("realloc");
    }
    lat[n_lat++] = ns;
}

/* --- connections
 * ---------------------------------------------------------------------------------- */

static void free_push(struct conn *c)
{
    c->state = FREE;
    c->next_free = NULL;
    if (last_free)
        last_free->next_free = c;
    else
        first_free = c;
    last_free = c;
}

static struct conn *free_pop(void)
{
    struct conn *c = first_free;
    if (c) {
        first_free = c->next_free;
        if (!first_free)
            last_free = NULL;
    }
    return c;
}

static void free_remove(const struct conn *gone)
{
    struct conn *all = first_free, *next;
    first_free = last_free = NULL;
    for (; all; all = next) {
        next = all->next_free;
        if (all != gone)
            free_push(all);
    }
}

static void events(struct conn *c, uint32_t want)
{
    struct epoll_event e = {.events = want, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void open_conn(struct conn *c)
{
    int one = 1;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CONNECTING;
    c->n_head = c->sent = 0;
    c->in_body = false;
    if (connect(c->fd, (struct sockaddr *)&opt.at, sizeof opt.at) < 0 && errno != EINPROGRESS)
        die("connect");
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
        die("epoll_ctl");
}

static void close_conn(struct conn *c)
{
    if (c->state == FREE)
        free_remove(c);
    if (c->ssl) {
        SSL_set_quiet_shutdown(c->ssl, 1);
        SSL_shutdown(c->ssl); /* keeps its session good for resumption */
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd);
    c->state = NEW;
}

static ssize_t conn_send(struct conn *c, const void *p, size_t n)
{
    if (!c->ssl)
        return send(c->fd, p, n, MSG_NOSIGNAL);
    int k = SSL_write(c->ssl, p, (int)n);
    if (k > 0)
        return k;
    errno = SSL_get_error(c->ssl, k) == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return -1;
}

static ssize_t conn_recv(struct conn *c, void *p, size_t n)
{
    if (!c->ssl)
        return recv(c->fd, p, n, 0);
    ERR_clear_error();
    int k = SSL_read(c->ssl, p, (int)n);
    if (k > 0)
        return k;
    int why = SSL_get_error(c->ssl, k);
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = why == SSL_ERROR_WANT_READ ? EAGAIN : EIO;
    return -1;
}

/* --- a request and its answer
 * --------------------------------------------------------------------- */

static void send_more(struct conn *c)
{
    while (c->sent < request_len) {
        ssize_t n = conn_send(c, request + c->sent, request_len - c->sent);
        if (n < 0) {
            if (errno == EAGAIN)
                events(c, EPOLLIN | EPOLLOUT);
            return; /* anything else shows when reading */
        }
        c->sent += (size_t)n;
    }
}

static void begin(struct conn *c, int64_t since)
{
    c->state = BUSY;
    c->since = since;
    c->sent = c->n_head = 0;
    c->in_body = false;
    n_started++;
    send_more(c);
}

static void finished(struct conn *c)
{
    int64_t now = net_now();
    n_answered++;
    c->used = true;
    if (measuring) {
        n_ok++;
        c->answers++;
        keep_latency(now - c->since);
    }
    switch (opt.mode) {
    case CLOSED:
        begin(c, now);
        break;
    case FRESH:
        close_conn(c);
        break;
    default:
        free_push(c);
    }
}

/* The head is whole. False: not what we can follow. */
static bool head_read(struct conn *c, char *end)
{
    *end = '\0';
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) {
        char text[100];
        snprintf(text, sizeof text, "answered %.60s", c->head);
        text[strcspn(text, "\r\n")] = '\0';
        error_note(text);
        return false;
    }
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (!length) {
        error_note("an answer without Content-Length");
        return false;
    }
    c->body_left = strtoll(length + 17, NULL, 10);
    c->in_body = true;
    return true;
}

/* Bytes came. False: the connection is of no more use. */
static bool took(struct conn *c, const char *p, size_t n)
{
    while (n) {
        if (c->state != BUSY) {
            error_note("bytes that nobody asked for");
            return false;
        }
        if (!c->in_body) {
            size_t k = n < HEAD_MAX - c->n_head ? n : HEAD_MAX - c->n_head, before = c->n_head;
            memcpy(c->head + c->n_head, p, k);
            c->n_head += k;
            c->head[c->n_head] = '\0';
            char *end = strstr(c->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
            if (!end) {
                if (c->n_head == HEAD_MAX) {
                    error_note("a head without an end");
                    return false;
                }
                return true;
            }
            size_t used = (size_t)(end + 4 - c->head) - before;
            if (!head_read(c, end))
                return false;
            p += used;
            n -= used;
        }
        size_t k = (int64_t)n < c->body_left ? n : (size_t)c->body_left;
        c->body_left -= (int64_t)k;
        if (measuring)
            n_bytes += k;
        p += k;
        n -= k;
        if (c->body_left == 0)
            finished(c);
    }
    return true;
}

static void lost(struct conn *c)
{
    close_conn(c);
    if (opt.mode != FRESH) {
        n_reconnects++;
        open_conn(c);
    }
}

static void read_some(struct conn *c)
{
    for (;;) {
        ssize_t n = conn_recv(c, sink, sizeof sink);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            if (c->state == BUSY)
                error_note(n < 0 ? "connection reset" : "connection closed before the answer");
            lost(c);
            return;
        }
        if (!took(c, sink, (size_t)n)) {
            lost(c);
            return;
        }
        if (c->state == NEW || (!c->ssl && (size_t)n < sizeof sink))
            return;
    }
}

static void ready(struct conn *c)
{
    n_opened++;
    events(c, EPOLLIN);
    if (opt.mode == OPEN)
        free_push(c);
    else
        begin(c, opt.mode == FRESH ? c->since : net_now());
}

static void handshake(struct conn *c)
{
    ERR_clear_error();
    int k = SSL_do_handshake(c->ssl);
    if (k == 1) {
        ready(c);
        return;
    }
    int why = SSL_get_error(c->ssl, k);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        events(c, why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLIN | EPOLLOUT);
        return;
    }
    error_note("TLS handshake failed");
    lost(c);
}

static void on_event(struct conn *c, uint32_t got)
{
    int e = 0;
    socklen_t n = sizeof e;
    switch (c->state) {
    case CONNECTING:
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n);
        if (e) {
            error_note(strerror(e));
            if (n_errors > 10000) {
                fprintf(stderr, "load: %s\n", strerror(e));
                exit(1);
            }
            lost(c);
            return;
        }
        if (!tls) {
            ready(c);
            return;
        }
        c->state = HANDSHAKE;
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_connect_state(c->ssl);
        if (opt.sni)
            SSL_set_tlsext_host_name(c->ssl, opt.sni);
        if (opt.resume && session)
            SSL_set_session(c->ssl, session);
        handshake(c);
        return;
    case HANDSHAKE:
        handshake(c);
        return;
    case FREE:
    case BUSY:
        if (c->state == BUSY && (got & EPOLLOUT)) {
            events(c, EPOLLIN);
            send_more(c);
        }
        if (got & (EPOLLIN | EPOLLHUP | EPOLLERR))
            read_some(c);
        return;
    case NEW:
        return;
    }
}

static int new_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

/* Waits at most until `until`; returns whether anything happened. */
static void turn(int64_t until)
{
    static struct epoll_event got[EVENTS];
    int64_t left = until - net_now();
    struct timespec t = {0};
    if (left > 0)
        t = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    int n = epoll_pwait2(ep, got, EVENTS, &t, NULL);
    for (int i = 0; i < n; i++)
        on_event(got[i].data.ptr, got[i].events);
}

/* --- modes
 * -------------------------------------------------------------------------------------------- */

/* CPU time of a process with all its threads, ended ones too, in ns: what /proc/PID/stat tells as
 * utime and stime, in finer units (clock_getcpuclockid(3)). */
static int64_t cpu_of(pid_t pid)
{
    clockid_t id;
    struct timespec t;
    if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) < 0) {
        fprintf(stderr, "load: no CPU clock of process %d\n", (int)pid);
        exit(1);
    }
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_us(double q)
{
    if (n_lat == 0)
        return 0;
    size_t i = (size_t)(q * (double)n_lat);
    return (double)lat[i < n_lat ? i : n_lat - 1] / 1000;
}

static void report(int64_t window_ns, const int64_t *cpu)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < opt.conns; i++)
        least = conns[i].answers < least ? conns[i].answers : least;
    qsort(lat, n_lat, sizeof *lat, by_value);
    double s = (double)window_ns / 1e9;
    printf("{\"seconds\": %.4f, \"requests\": %llu, \"errors\": %llu, \"error\": \"%s\", "
           "\"reconnects\": %llu, \"bytes\": %llu, \"rps\": %.1f, \"least_per_connection\": %llu, "
           "\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": "
           "%.1f, "
           "\"cpu_us\": [",
           s, (unsigned long long)n_ok, (unsigned long long)n_errors, first_error,
           (unsigned long long)n_reconnects, (unsigned long long)n_bytes, (double)n_ok / s,
           (unsigned long long)least, quantile_us(0.5), quantile_us(0.9), quantile_us(0.99),
           quantile_us(0.999), quantile_us(1));
    for (unsigned i = 0; i < opt.n_pids; i++)
        printf("%s%.1f", i ? ", " : "", (double)cpu[i] / 1000);
    printf("]}\n");
}

static void send_due(int64_t t0)
{
    for (;;) {
        int64_t due = t0 + (int64_t)((double)n_started * 1e9 / opt.rate);
        if (due > net_now() || !first_free)
            return;
        begin(free_pop(), due);
    }
}

static int64_t next_due(int64_t t0, int64_t end)
{
    int64_t due = t0 + (int64_t)((double)n_started * 1e9 / opt.rate);
    return !first_free || due > end ? end : due;
}

/* A bounded number of handshakes at once, so that no listener's backlog is what is measured. Idle
 * ones come one after the other: the proxy needs a single connection of its own for all their
 * requests. */
static void open_all(void)
{
    const uint64_t *done = opt.mode == IDLE ? &n_answered : &n_opened;
    unsigned at_once = opt.mode == IDLE ? 1 : CONNECT_AT_ONCE;
    int64_t give_up = net_now() + 60000000000LL;
    for (unsigned begun = 0; *done < opt.conns;) {
        while (begun < opt.conns && begun - *done < at_once)
            open_conn(&conns[begun++]);
        turn(net_now() + 100000000);
        if (net_now() > give_up || n_errors > 1000) {
            fprintf(stderr, "load: only %llu of %u connections: %s\n", (unsigned long long)*done,
                    opt.conns, first_error);
            exit(1);
        }
    }
}

static bool all_answered(void)
{
    for (unsigned i = 0; i < opt.conns; i++)
        if (!conns[i].used)
            return false;
    return true;
}

static void run_window(void)
{
    int64_t cpu[PIDS_MAX] = {0};
    if (opt.mode != FRESH)
        open_all();
    /* Under load, as fast as it goes: once every connection had an answer, all handshakes are over.
     */
    for (int64_t end = net_now() + 20000000000LL; opt.mode == CLOSED && net_now() < end;) {
        if (n_answered >= 2 * (uint64_t)opt.conns && all_answered())
            break;
        turn(end);
    }
    n_started = 0;
    int64_t t0 = net_now(), from = t0 + (int64_t)(opt.warm * 1e9);
    int64_t to = from + (int64_t)(opt.seconds * 1e9), now;
    while ((now = net_now()) < to) {
        if (!measuring && now >= from) {
            measuring = true;
            n_errors = n_reconnects = 0;
            from = now;
            for (unsigned i = 0; i < opt.n_pids; i++)
                cpu[i] = -cpu_of(opt.pids[i]);
        }
        int64_t until = measuring ? to : from;
        if (opt.mode == OPEN) {
            send_due(t0);
            until = next_due(t0, until);
        } else if (opt.mode == FRESH) {
            for (unsigned i = 0; i < opt.conns; i++)
                if (conns[i].state == NEW) {
                    conns[i].since = net_now();
                    open_conn(&conns[i]);
                }
        }
        turn(until);
    }
    for (unsigned i = 0; i < opt.n_pids; i++)
        cpu[i] += cpu_of(opt.pids[i]);
    report(net_now() - from, cpu);
}

static void run_idle(void)
{
    open_all();
    if (n_errors)
        fprintf(stderr, "load: %llu errors: %s\n", (unsigned long long)n_errors, first_error);
    printf("ready\n");
    fflush(stdout);
    char c;
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    exit(n_errors != 0);
}

/* One whole answer over a blocking socket. */
static bool asked_once(void)
{
    char text[HEAD_MAX + 1];
    size_t n = 0;
    struct timeval patience = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&opt.at, sizeof opt.at) == 0 &&
        send(fd, request, request_len, MSG_NOSIGNAL) == (ssize_t)request_len) {
        ssize_t k;
        while (!good && n < HEAD_MAX && (k = recv(fd, text + n, HEAD_MAX - n, 0)) > 0) {
            n += (size_t)k;
            text[n] = '\0';
            good = strncmp(text, "HTTP/1.1 200", 12) == 0 && strstr(text, "\r\n\r\n");
            if (n > 12 && !good && strncmp(text, "HTTP/1.1 200", 12) != 0)
                break;
        }
    }
    close(fd);
    return good;
}

static void run_start(char **command)
{
    int64_t t0 = net_now();
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        setsid();
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execvp(command[0], command);
        _exit(127);
    }
    bool good = false;
    while (!good && net_now() - t0 < 20000000000LL) {
        good = asked_once();
        if (!good) {
            if (waitpid(pid, NULL, WNOHANG) == pid) {
                fprintf(stderr, "load: %s ended\n", command[0]);
                exit(1);
            }
            usleep(100);
        }
    }
    int64_t took_ns = net_now() - t0;
    kill(pid, SIGTERM);
    for (int i = 0; i < 1000 && waitpid(pid, NULL, WNOHANG) == 0; i++) {
        usleep(10000);
        if (i == 300)
            kill(pid, SIGKILL);
    }
    kill(-pid, SIGKILL); /* whatever it started and left */
    if (!good) {
        fprintf(stderr, "load: no answer within 20 s\n");
        exit(1);
    }
    printf("{\"first_us\": %.1f}\n", (double)took_ns / 1000);
}

/* --- start
 * ---------------------------------------------------------------------------------------------- */

static void make_request(void)
{
    static char body[1 << 20];
    size_t n = 0;
    if (opt.body_file) {
        FILE *f = fopen(opt.body_file, "r");
        if (!f)
            die(opt.body_file);
        n = fread(body, 1, sizeof body, f);
        fclose(f);
    }
    request = malloc(n + 1024);
    if (!request)
        die("malloc");
    int k = opt.body_file
                ? snprintf(request, 1024,
                           "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n",
                           opt.path, opt.host, n)
                : snprintf(request, 1024, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\n\r\n",
                           opt.path, opt.host);
    memcpy(request + k, body, n);
    request_len = (size_t)k + n;
}

static void make_tls(void)
{
    tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (opt.resume) {
        SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(tls, new_session);
    }
    if (opt.cert && (SSL_CTX_use_certificate_chain_file(tls, opt.cert) != 1 ||
                     SSL_CTX_use_PrivateKey_file(tls, opt.key, SSL_FILETYPE_PEM) != 1)) {
        fprintf(stderr, "load: %s, %s: no certificate and key\n", opt.cert, opt.key);
        exit(1);
    }
    if (opt.alpn) {
        unsigned char wire[256];
        size_t n = strlen(opt.alpn);
        wire[0] = (unsigned char)n;
        memcpy(wire + 1, opt.alpn, n < 255 ? n : 255);
        SSL_CTX_set_alpn_protos(tls, wire, (unsigned)n + 1);
    }
}

static _Noreturn void usage(void)
{
    fprintf(stderr,
            "usage: load closed|open|fresh|idle|start [options] ADDR:PORT PATH [-- COMMAND...]\n"
            "  -c N connections   -d SECONDS   -w SECONDS of warm-up   -r REQUESTS/S\n"
            "  -H HOST   -b FILE to POST   -p PID,PID whose CPU time is told\n"
            "  -t TLS   -C CERT -K KEY   -A ALPN   -S SNI   -R resume sessions\n");
    exit(2);
}

static void read_options(int argc, char **argv)
{
    static const char *const modes[] = {"closed", "open", "fresh", "idle", "start"};
    unsigned m = 0;
    while (argc > 1 && m < 5 && strcmp(argv[1], modes[m]) != 0)
        m++;
    if (argc < 2 || m == 5)
        usage();
    opt.mode = (enum mode)m;
    optind = 2;
    for (int c; (c = getopt(argc, argv, "+c:d:w:r:H:b:p:tC:K:A:S:R")) >= 0;) {
        switch (c) {
        case 'c':
            opt.conns = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            opt.seconds = strtod(optarg, NULL);
            break;
        case 'w':
            opt.warm = strtod(optarg, NULL);
            break;
        case 'r':
            opt.rate = strtod(optarg, NULL);
            break;
        case 'H':
            opt.host = optarg;
            break;
        case 'b':
            opt.body_file = optarg;
            break;
        case 't':
            opt.tls = true;
            break;
        case 'C':
            opt.cert = optarg;
            break;
        case 'K':
            opt.key = optarg;
            break;
        case 'A':
            opt.alpn = optarg;
            break;
        case 'S':
            opt.sni = optarg;
            break;
        case 'R':
            opt.resume = true;
            break;
        case 'p':
            for (char *p = strtok(optarg, ","); p && opt.n_pids < PIDS_MAX; p = strtok(NULL, ","))
                opt.pids[opt.n_pids++] = (pid_t)strtol(p, NULL, 10);
            break;
        default:
            usage();
        }
    }
    if (argc - optind < 2 || !opt.conns || (opt.mode == OPEN && opt.rate <= 0) ||
        (opt.cert && !opt.key))
        usage();
    opt.at = net_addr(argv[optind]);
    opt.path = argv[optind + 1];
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1UL); /* else the kernel may wake us 50 us late */
    make_request();
    if (opt.mode == START) {
        if (argc - optind < 4 || strcmp(argv[optind + 2], "--") != 0)
            usage();
        run_start(argv + optind + 3);
        return 0;
    }
    ep = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(opt.conns, sizeof *conns);
    if (ep < 0 || !conns)
        die("epoll");
    if (opt.tls)
        make_tls();
    if (opt.mode == IDLE)
        run_idle();
    run_window();
    return 0;
}
