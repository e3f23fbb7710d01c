/* SPDX-License-Identifier: Apache-2.0 */
#include "injector/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "injector/review.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

#define JSON_TYPE "application/json"
#define TEXT_TYPE "text/plain; charset=utf-8"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct server {
    struct state *st;
    struct MHD_Daemon *daemon;
    struct clock clock;
    uint16_t port;
    atomic_int requests;
    atomic_long bytes; /* of bodies that are held */
};

struct request {
    uint32_t magic;
    struct server *server;
    struct review_path path;
    struct buf body;
    long counted; /* bytes of `server->bytes` that are ours */
    int64_t start_ns;
    int hook; /* enum state_hook, -1 for the others */
};
enum { REQUEST_MAGIC = 0x72657131 };

/* --- answers ---------------------------------------------------------------------------------- */
static enum MHD_Result respond(struct MHD_Connection *conn, int status, const char *type,
                               struct slice body)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(
        body.len, (void *)(uintptr_t)(body.p ? body.p : ""), MHD_RESPMEM_MUST_COPY);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD, POST");
    enum MHD_Result rc = MHD_queue_response(conn, (unsigned)status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result respond_line(struct MHD_Connection *conn, int status, const char *text)
{
    char line[256];
    snprintf(line, sizeof line, "%s\n", text);
    return respond(conn, status, TEXT_TYPE, slice_str(line));
}

/* A review that never reached review.c: counted as a failure of its webhook. */
static enum MHD_Result refuse(struct MHD_Connection *conn, struct request *r, int status,
                              const char *text)
{
    struct state *st = r->server->st;
    if (r->hook >= 0) {
        LOG(WARN, "Review was refused before it was read", "path=%s status=%d reason=%s",
            r->hook == HOOK_INJECT ? "/inject" : "/validate", status, text);
        if (r->hook == HOOK_INJECT) {
            atomic_fetch_add(&st->inject_requests, 1);
            atomic_fetch_add(&st->inject_failure, 1);
        } else {
            atomic_fetch_add(&st->validate_failed, 1);
        }
        state_count_review(st, (enum state_hook)r->hook, status,
                           clock_now(&r->server->clock) - r->start_ns);
    }
    return respond_line(conn, status, text);
}

static void count_inject(struct state *st, const struct review_answer *a)
{
    atomic_fetch_add(&st->inject_requests, 1);
    atomic_fetch_add(a->failed ? &st->inject_failure : &st->inject_success, 1);
    if (strcmp(a->decision, "skipped") == 0)
        atomic_fetch_add(&st->inject_skip, 1);
}

static enum MHD_Result answer_review(struct MHD_Connection *conn, struct request *r)
{
    struct state *st = r->server->st;
    struct review_answer a;
    int64_t start = clock_now(&r->server->clock);

    review_answer_init(&a);
    if (r->path.route == ROUTE_INJECT) {
        struct state_settings *s = state_get_settings(st);
        review_inject(state_settings_of(s), &r->path, buf_slice(&r->body), &a);
        state_put_settings(s);
        count_inject(st, &a);
    } else {
        review_validate(buf_slice(&r->body), &a);
        atomic_fetch_add(a.failed ? &st->validate_failed : &st->validate_passed, 1);
    }
    int64_t took = clock_now(&r->server->clock) - start;
    state_count_review(st, (enum state_hook)r->hook, a.status, took);
    LOG(INFO, "Review was answered",
        "path=%s uid=%s namespace=%s name=%s resource=%s status=%d decision=%s reason=%s ms=%.3f",
        r->path.route == ROUTE_INJECT ? inject_path_name(r->path.inject) : "validate", a.uid, a.ns,
        a.name, a.what, a.status, a.decision, a.reason, (double)took / 1e6);
    enum MHD_Result rc =
        respond(conn, a.status, a.json ? JSON_TYPE : TEXT_TYPE, buf_slice(&a.body));
    review_answer_fini(&a);
    return rc;
}

static enum MHD_Result answer_get(struct MHD_Connection *conn, struct request *r)
{
    const char *why;
    switch (r->path.route) {
    case ROUTE_HEALTHZ:
        return respond_line(conn, MHD_HTTP_OK, "ok");
    case ROUTE_READYZ:
        why = state_not_ready(r->server->st);
        return respond_line(conn, why ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK,
                            why ? why : "ok");
    case ROUTE_METRICS:
        state_metrics(r->server->st, &r->body);
        return respond(conn, MHD_HTTP_OK, METRICS_TYPE, buf_slice(&r->body));
    default:
        return respond_line(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "no answer");
    }
}

/* --- requests --------------------------------------------------------------------------------- */
/* "application/json", perhaps with parameters (RFC 9110 8.3.1). */
static bool is_json(const char *type)
{
    struct slice s = slice_str(type), head;
    return slice_next(&s, ';', &head) && slice_ieq(slice_trim(head), SL(JSON_TYPE));
}

static const char *header(struct MHD_Connection *conn, const char *name)
{
    return MHD_lookup_connection_value(conn, MHD_HEADER_KIND, name);
}

static void set_timeout(struct MHD_Connection *conn, unsigned seconds)
{
    MHD_set_connection_option(conn, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

static struct request *request_new(struct server *s, const char *url)
{
    struct request *r = mem_zalloc(sizeof *r);
    if (!r)
        return NULL;
    r->magic = REQUEST_MAGIC;
    r->server = s;
    r->start_ns = clock_now(&s->clock);
    buf_init(&r->body, REVIEW_BODY_MAX);
    review_path_parse(slice_str(url), &r->path);
    r->hook = r->path.route == ROUTE_INJECT     ? HOOK_INJECT
              : r->path.route == ROUTE_VALIDATE ? HOOK_VALIDATE
                                                : -1;
    atomic_fetch_add(&s->requests, 1);
    if (r->hook >= 0)
        atomic_fetch_add(&s->st->hook[r->hook].in_flight, 1);
    return r;
}

static void request_free(struct request *r)
{
    if (r->hook >= 0)
        atomic_fetch_sub(&r->server->st->hook[r->hook].in_flight, 1);
    atomic_fetch_sub(&r->server->requests, 1);
    atomic_fetch_sub(&r->server->bytes, r->counted);
    buf_fini(&r->body);
    r->magic = 0;
    mem_free(r);
}

/* The head is there, the body is not: what can be refused by the head is. *ret_done when an answer
 * was queued. */
static enum MHD_Result request_head(struct MHD_Connection *conn, struct request *r,
                                    const char *method, bool *ret_done)
{
    uint64_t len;
    const char *length = header(conn, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    *ret_done = true;
    if (r->path.route == ROUTE_NONE)
        return refuse(conn, r, MHD_HTTP_NOT_FOUND, "no such path");
    if (get ? r->hook >= 0 : r->hook < 0 || strcmp(method, "POST") != 0)
        return refuse(conn, r, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed");
    if (!get && !is_json(header(conn, MHD_HTTP_HEADER_CONTENT_TYPE)))
        return refuse(conn, r, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "only application/json is read");
    if (length && (!slice_u64(slice_str(length), INT64_MAX, &len) || len > REVIEW_BODY_MAX))
        return refuse(conn, r, MHD_HTTP_CONTENT_TOO_LARGE, "the review is larger than 3 MiB");
    *ret_done = false;
    return MHD_YES;
}

static enum MHD_Result request_data(struct request *r, const char *data, size_t n)
{
    struct server *s = r->server;
    if (clock_now(&s->clock) - r->start_ns > SERVER_REQUEST_S * NS_PER_S)
        return MHD_NO; /* byte by byte: the connection goes */
    r->counted += (long)n;
    if (atomic_fetch_add(&s->bytes, (long)n) + (long)n > SERVER_BYTES_IN_FLIGHT) {
        atomic_fetch_add(&s->st->refused_busy, 1);
        return MHD_NO;
    }
    buf_add(&r->body, data, n);
    return buf_err(&r->body) == ERR_OK ? MHD_YES : MHD_NO;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **state)
{
    struct request *r = *state;
    bool done;
    (void)version;

    if (!r) {
        *state = r = request_new(user, url);
        if (!r)
            return MHD_NO;
        set_timeout(conn, SERVER_REQUEST_S);
        return request_head(conn, r, method, &done);
    }
    if (r->magic != REQUEST_MAGIC)
        return MHD_NO;
    if (*data_len) {
        size_t n = *data_len;
        *data_len = 0;
        return request_data(r, data, n);
    }
    set_timeout(conn, SERVER_IDLE_S);
    return r->hook >= 0 ? answer_review(conn, r) : answer_get(conn, r);
}

static void on_completed(void *user, struct MHD_Connection *conn, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)user, (void)conn, (void)code;
    struct request *r = *state;
    if (r && r->magic == REQUEST_MAGIC)
        request_free(r);
    *state = NULL;
}

/* libmicrohttpd's own complaints are about peers that went away or sent nonsense. */
static void on_log(void *user, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *user, const char *fmt, va_list ap)
{
    char text[256];
    (void)user;
    if (LOG_DEBUG > log_threshold)
        return;
    int n = vsnprintf(text, sizeof text, fmt, ap);
    while (n > 0 && n < (int)sizeof text && text[n - 1] == '\n')
        text[--n] = '\0';
    LOG(DEBUG, "HTTP server", "text=%s", text);
}

/* --- life ------------------------------------------------------------------------------------- */
/* IPv6 that takes IPv4 too; where the kernel has no IPv6, IPv4. */
static int listen_any(uint16_t port, uint16_t *ret_port, struct err *err)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_storage got;
    socklen_t len = sizeof got;
    int one = 1, zero = 0;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool v6 = fd >= 0;

    if (!v6)
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, errno, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (v6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in4,
             v6 ? sizeof in6 : sizeof in4) < 0 ||
        listen(fd, 511) < 0 || getsockname(fd, (struct sockaddr *)&got, &len) < 0) {
        err_errno(err, errno, "listening on port %u", port);
        close(fd);
        return -1;
    }
    /* The port stands at the same place in both. */
    *ret_port = ntohs(((struct sockaddr_in *)&got)->sin_port);
    return fd;
}

int server_start(struct state *st, uint16_t port, struct server **ret, struct err *err)
{
    struct server *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "server");
    s->st = st;
    clock_init_real(&s->clock);
    int fd = listen_any(port, &s->port, err);
    if (fd < 0) {
        mem_free(s);
        return -1;
    }
    cert_serve(st->cert);
    s->daemon = MHD_start_daemon(
        MHD_USE_TLS | MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG | MHD_USE_ITC, s->port,
        NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_HTTPS_PRIORITIES,
        "SECURE128:+SECURE192:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", MHD_OPTION_HTTPS_CERT_CALLBACK,
        cert_retrieve, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)SERVER_THREADS,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVER_CONNECTIONS,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)SERVER_CONNECTIONS_PER_IP,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SERVER_REQUEST_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(32 << 10), MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (!s->daemon) {
        cert_serve(NULL);
        close(fd);
        mem_free(s);
        return err_set(err, ERR_IO, "the HTTPS server did not start");
    }
    *ret = s;
    return 0;
}

uint16_t server_port(const struct server *s)
{
    return s->port;
}

void server_quiesce(struct server *s)
{
    int fd = MHD_quiesce_daemon(s->daemon);
    if (fd >= 0)
        close(fd);
}

int server_in_flight(const struct server *s)
{
    return atomic_load(&s->requests);
}

void server_stop(struct server *s)
{
    if (!s)
        return;
    MHD_stop_daemon(s->daemon);
    cert_serve(NULL);
    mem_free(s);
}
