/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/client.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/kube_int.h"

enum {
    BODY_MAX = 32 << 20,
    REPEATS = 10,     /* of 429 and 503, as client-go */
    TOKEN_AGE_S = 60, /* client-go reads the token file once a minute */
    CA_AGE_S = 60,    /* libcurl's cache of the CA file */
    CONNECT_MS = 10000,
    REQUEST_MS = 30000,
};

/* clang-format off */
#define CALL_STATES(X)                                                \
    X(QUEUED,    "starts at the end of this turn")                    \
    X(RUNNING,   "in libcurl's hands")                                \
    X(WAITING,   "waits to be repeated")                              \
    X(DEAD,      "cancelled; reaped at the end of this turn")         \
    X(REPORTING, "its callback runs")
/* clang-format on */
enum call_state {
#define X(name, meaning) CALL_##name,
    CALL_STATES(X)
#undef X
};

struct kube_call {
    struct kube_client *client;
    struct kube_call *next, **prev; /* in client->calls */
    enum call_state state;
    CURL *easy; /* NULL unless RUNNING (or DEAD and not reaped) */
    struct curl_slist *headers;
    kube_done_fn *done;
    int (*on_data)(void *user, struct slice bytes);
    void *user;
    char *method, *url, *accept, *content_type;
    char *body; /* serialised */
    struct buf in;
    struct loop_timer deadline, repeat;
    int64_t deadline_ns; /* 0 = none */
    int64_t start_ns;
    unsigned repeats;
    bool no_retry, reauthorised, ended_by_user, too_big;
};

struct kube_sock {
    struct loop_io io;
    struct kube_client *client;
    curl_socket_t fd;
};

struct kube_client {
    struct loop *loop;
    const struct kube_config *config;
    struct kube_client_opts opts;
    CURLM *multi;
    struct loop_timer timer; /* libcurl's */
    struct loop_task task;   /* start queued calls, reap dead ones */
    struct kube_call *calls;
    unsigned n_calls;
    char *token; /* wiped on replacement */
    int64_t token_ns;
    char *host;                    /* "host:port" for metrics and logs */
    char *base;                    /* what stands before the path in URLs */
    struct curl_slist *connect_to; /* where `base` leads when a tls-server-name stands in it */
    bool loopback;
    unsigned busy; /* depth of our own callbacks: libcurl must not be entered, nothing freed */
    bool in_curl, dying;
};

static void pump(struct kube_client *c);
static void client_destroy(struct kube_client *c);

/* --- text and files
 * -------------------------------------------------------------------------------- */
static void wipe_free(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    mem_free(s);
}

static char *read_trimmed(const char *path, struct err *err)
{
    char *text = kube_read_file(path, 64 << 10, NULL, err);
    if (!text)
        return NULL;
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1]))
        text[--n] = '\0';
    if (n == 0 || strpbrk(text, "\r\n")) {
        wipe_free(text);
        err_set(err, ERR_INVALID, "%s: not a token", path);
        return NULL;
    }
    return text;
}

/* Keep the old token when the file cannot be read: the kubelet swaps it by renaming. */
static int token_refresh(struct kube_client *c, bool force, struct err *err)
{
    if (!c->config->token_file)
        return 0;
    int64_t now = loop_now(c->loop);
    if (c->token && !force && now - c->token_ns < TOKEN_AGE_S * NS_PER_S)
        return 0;
    char *fresh = read_trimmed(c->config->token_file, err);
    if (!fresh)
        return c->token ? 0 : err_wrap(err, "reading the token");
    wipe_free(c->token);
    c->token = fresh;
    c->token_ns = now;
    return 0;
}

static const char *token_now(const struct kube_client *c)
{
    return c->config->token_file ? c->token : c->config->token;
}

/* --- libcurl and the loop
 * -------------------------------------------------------------------------- */
static void socket_event(struct loop_io *io, unsigned events)
{
    struct kube_sock *s = CONTAINER_OF(io, struct kube_sock, io);
    struct kube_client *c = s->client;
    int mask = 0, running;
    if (events & (LOOP_READ | LOOP_HUP))
        mask |= CURL_CSELECT_IN;
    if (events & LOOP_WRITE)
        mask |= CURL_CSELECT_OUT;
    if (events & LOOP_ERROR)
        mask |= CURL_CSELECT_ERR;
    c->in_curl = true;
    curl_multi_socket_action(c->multi, s->fd, mask, &running);
    c->in_curl = false;
    pump(c);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *per_socket)
{
    struct kube_client *c = user;
    struct kube_sock *s = per_socket;
    struct err err = {0};
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            loop_io_del(c->loop, &s->io);
            curl_multi_assign(c->multi, fd, NULL);
            mem_free(s);
        }
        return 0;
    }
    if (!s) {
        s = mem_zalloc(sizeof *s);
        if (!s)
            return -1;
        s->client = c;
        s->fd = fd;
        s->io.fd = -1;
        curl_multi_assign(c->multi, fd, s);
    }
    unsigned events =
        ((what & CURL_POLL_IN) ? LOOP_READ : 0) | ((what & CURL_POLL_OUT) ? LOOP_WRITE : 0);
    if (loop_io_level(c->loop, &s->io, fd, events, socket_event, &err) < 0) {
        LOG(ERROR, "API server socket could not be watched", "error=%s", err.msg);
        return -1;
    }
    return 0;
}

static void timer_event(struct loop_timer *t)
{
    struct kube_client *c = CONTAINER_OF(t, struct kube_client, timer);
    int running;
    c->in_curl = true;
    curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    c->in_curl = false;
    pump(c);
}

static int on_timer(CURLM *multi, long timeout_ms, void *user)
{
    struct kube_client *c = user;
    (void)multi;
    if (timeout_ms < 0)
        loop_timer_clear(c->loop, &c->timer);
    else if (loop_timer_in(c->loop, &c->timer, timeout_ms * NS_PER_MS, timer_event) < 0)
        return -1;
    return 0;
}

/* A peer that vanished without a word (a node pulled from the network) is noticed within a minute,
 * both when we wait for it and when it does not acknowledge what we sent. */
static int on_sockopt(void *user, curl_socket_t fd, curlsocktype purpose)
{
    (void)user;
    (void)purpose;
    int on = 1, idle = 30, every = 10, count = 3, unacked_ms = 60000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof unacked_ms);
    return CURL_SOCKOPT_OK;
}

static size_t on_write(char *p, size_t size, size_t n, void *user)
{
    struct kube_call *call = user;
    size_t len = size * n;
    long status = 0;
    if (call->state == CALL_DEAD)
        return 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->on_data && status >= 200 && status < 300) {
        int rc = call->on_data(call->user, slice_of(p, len));
        if (rc)
            call->ended_by_user = true;
        return rc || call->state == CALL_DEAD ? 0 : len;
    }
    buf_add(&call->in, p, len);
    if (buf_err(&call->in)) {
        call->too_big = buf_err(&call->in) == ERR_LIMIT;
        return 0;
    }
    return len;
}

/* --- one exchange
 * ---------------------------------------------------------------------------------- */
static int header_add(struct kube_call *call, const char *name, const char *value)
{
    struct buf b;
    buf_init(&b, 128 << 10);
    buf_add_str(&b, name);
    buf_add_str(&b, *value ? ": " : ":"); /* "Name:" keeps libcurl from sending its own */
    buf_add_str(&b, value);
    char *line = buf_take(&b, NULL);
    if (!line)
        return -1;
    struct curl_slist *l = curl_slist_append(call->headers, line);
    wipe_free(line); /* it may be the token */
    if (!l)
        return -1;
    call->headers = l;
    return 0;
}

static void headers_free(struct kube_call *call)
{
    for (struct curl_slist *l = call->headers; l; l = l->next)
        explicit_bzero(l->data, strlen(l->data));
    curl_slist_free_all(call->headers);
    call->headers = NULL;
}

static int headers_make(struct kube_call *call)
{
    struct kube_client *c = call->client;
    const char *token = token_now(c);
    headers_free(call);
    int rc = header_add(call, "Accept", call->accept ? call->accept : "application/json");
    if (call->body)
        rc |= header_add(call, "Content-Type",
                         call->content_type ? call->content_type : "application/json");
    rc |= header_add(call, "Expect", "");
    if (token) {
        CLEANUP(mem_freep) char *bearer = mem_alloc(strlen(token) + sizeof "Bearer ");
        if (!bearer)
            return -1;
        sprintf(bearer, "Bearer %s", token);
        rc |= header_add(call, "Authorization", bearer);
        explicit_bzero(bearer, strlen(bearer));
    }
    if (c->config->impersonate)
        rc |= header_add(call, "Impersonate-User", c->config->impersonate);
    return rc;
}

static struct curl_blob blob_of(char *s)
{
    return (struct curl_blob){s, strlen(s), CURL_BLOB_COPY};
}

static void easy_tls(CURL *e, const struct kube_client *c)
{
    const struct kube_config *k = c->config;
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (k->insecure) {
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (k->ca_file || k->ca_data) {
        /* This CA and no other: the distribution's directory of public CAs must not vouch for it.
         */
        curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
        curl_easy_setopt(e, CURLOPT_CAINFO, k->ca_file);
        curl_easy_setopt(e, CURLOPT_CA_CACHE_TIMEOUT, (long)CA_AGE_S);
        if (k->ca_data) {
            struct curl_blob blob = blob_of(k->ca_data);
            curl_easy_setopt(e, CURLOPT_CAINFO_BLOB, &blob);
        }
    }
    if (k->cert_data) {
        struct curl_blob blob = blob_of(k->cert_data);
        curl_easy_setopt(e, CURLOPT_SSLCERT_BLOB, &blob);
    } else if (k->cert_file) {
        curl_easy_setopt(e, CURLOPT_SSLCERT, k->cert_file);
    }
    if (k->key_data) {
        struct curl_blob blob = blob_of(k->key_data);
        curl_easy_setopt(e, CURLOPT_SSLKEY_BLOB, &blob);
    } else if (k->key_file) {
        curl_easy_setopt(e, CURLOPT_SSLKEY, k->key_file);
    }
}

static void easy_fill(struct kube_call *call)
{
    struct kube_client *c = call->client;
    const struct kube_config *k = c->config;
    CURL *e = call->easy;
    curl_easy_setopt(e, CURLOPT_URL, call->url);
    curl_easy_setopt(e, CURLOPT_CONNECT_TO, c->connect_to);
    curl_easy_setopt(e, CURLOPT_PRIVATE, call);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(e, CURLOPT_USERAGENT,
                     c->opts.user_agent ? c->opts.user_agent : "tulle/" TULLE_VERSION);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, on_sockopt);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    /* Watches share one HTTP/2 connection: a TLS connection each would cost tens of kilobytes. */
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(e, CURLOPT_PIPEWAIT, strncmp(c->base, "https:", 6) == 0 ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, call->on_data ? 8192L : 16384L);
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, call->method);
    if (call->body) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->body));
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, call->body);
    }
    if (k->proxy_url)
        curl_easy_setopt(e, CURLOPT_PROXY, k->proxy_url);
    else if (c->loopback)
        curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
    if (k->username) {
        curl_easy_setopt(e, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(e, CURLOPT_USERNAME, k->username);
        curl_easy_setopt(e, CURLOPT_PASSWORD, k->password ? k->password : "");
    }
    easy_tls(e, c);
}

static int call_launch(struct kube_call *call, struct err *err)
{
    struct kube_client *c = call->client;
    if (token_refresh(c, false, err) < 0)
        return -1;
    buf_reset(&call->in);
    call->easy = curl_easy_init();
    if (!call->easy || headers_make(call) < 0)
        return err_set(err, ERR_NOMEM, "request");
    easy_fill(call);
    call->start_ns = loop_now(c->loop);
    CURLMcode rc = curl_multi_add_handle(c->multi, call->easy);
    if (rc != CURLM_OK)
        return err_set(err, ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(rc));
    call->state = CALL_RUNNING;
    return 0;
}

static void call_stop(struct kube_call *call)
{
    if (!call->easy)
        return;
    curl_multi_remove_handle(call->client->multi, call->easy);
    curl_easy_cleanup(call->easy);
    call->easy = NULL;
    headers_free(call);
}

static void call_unlink(struct kube_call *call)
{
    *call->prev = call->next;
    if (call->next)
        call->next->prev = call->prev;
}

static void call_timers_clear(struct kube_call *call)
{
    loop_timer_clear(call->client->loop, &call->deadline);
    loop_timer_clear(call->client->loop, &call->repeat);
}

static void call_free(struct kube_call *call)
{
    if (!call)
        return;
    call_stop(call);
    call_timers_clear(call);
    headers_free(call);
    buf_fini(&call->in);
    mem_free(call->method);
    mem_free(call->url);
    mem_free(call->accept);
    mem_free(call->content_type);
    if (call->body)
        explicit_bzero(call->body, strlen(call->body)); /* it may be a Secret */
    mem_free(call->body);
    mem_free(call);
}

/* Hand the result over and forget the call. */
static void call_report(struct kube_call *call, struct kube_resp *resp)
{
    struct kube_client *c = call->client;
    call->state = CALL_REPORTING;
    call_timers_clear(call);
    c->busy++;
    call->done(call->user, resp);
    c->busy--;
    json_decref(resp->body);
    call_unlink(call);
    c->n_calls--;
    call_free(call);
}

static void call_fail(struct kube_call *call, const struct err *err)
{
    struct kube_resp resp = {.err = *err, .retry_after_ms = -1};
    if (!call->client->in_curl)
        call_stop(call);
    call_report(call, &resp);
}

/* --- answers
 * --------------------------------------------------------------------------------------- */
enum err_code kube_err_of_status(int status, const char *reason)
{
    switch (status) {
    case 400:
    case 405:
    case 406:
    case 413:
    case 415:
    case 422:
        return ERR_INVALID;
    case 401:
    case 403:
        return ERR_DENIED;
    case 404:
        return ERR_NOT_FOUND;
    case 409:
        return reason && strcmp(reason, "AlreadyExists") == 0 ? ERR_EXISTS : ERR_CONFLICT;
    case 410:
        return ERR_GONE;
    case 504:
        return ERR_TIMEOUT;
    default:
        break;
    }
    if (status >= 200 && status < 300)
        return ERR_OK;
    return status == 429 || status >= 500 || status == 0 ? ERR_UNAVAILABLE : ERR_PROTO;
}

static enum err_code code_of_curl(CURLcode rc)
{
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        return ERR_NOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
        return ERR_DENIED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return ERR_INVALID;
    default:
        return ERR_UNAVAILABLE;
    }
}

/* Read the body of an answer that was collected. */
static void resp_of_body(struct kube_call *call, struct kube_resp *resp)
{
    struct slice text = buf_slice(&call->in);
    struct err err = {0};
    if (text.len)
        resp->body = kube_json(text, &err);
    if (resp->status >= 200 && resp->status < 300) {
        if (text.len && !resp->body)
            resp->err = err;
        return;
    }
    const char *reason = json_string_value(json_object_get(resp->body, "reason"));
    const char *message = json_string_value(json_object_get(resp->body, "message"));
    if (reason)
        snprintf(resp->reason, sizeof resp->reason, "%s", reason);
    if (!message) { /* a proxy or a very old server: the text itself, one line of it */
        size_t n = 0;
        while (n < text.len && n < 120 && (unsigned char)text.p[n] >= ' ')
            n++;
        err_set(&resp->err, kube_err_of_status(resp->status, reason), "HTTP %d: %.*s", resp->status,
                (int)n, text.p ? text.p : "");
    } else {
        err_set(&resp->err, kube_err_of_status(resp->status, reason), "%s", message);
    }
}

static void count(struct kube_call *call, int status)
{
    struct kube_client *c = call->client;
    if (!c->opts.on_request)
        return;
    char code[16] = "<error>";
    if (status)
        snprintf(code, sizeof code, "%d", status);
    c->opts.on_request(c->opts.user, code, call->method, c->host,
                       loop_now(c->loop) - call->start_ns);
}

static void repeat_now(struct loop_timer *t)
{
    struct kube_call *call = CONTAINER_OF(t, struct kube_call, repeat);
    struct err err = {0};
    if (call_launch(call, &err) < 0) {
        call_fail(call, &err);
        pump(call->client);
    }
}

/* Is this answer one to be repeated? Arms the timer then. */
static bool repeat_later(struct kube_call *call, int status, int64_t retry_after_ms)
{
    struct kube_client *c = call->client;
    struct err ignored = {0};
    int64_t wait = -1;
    if (status == 401 && c->config->token_file && !call->reauthorised) {
        call->reauthorised = true;
        if (token_refresh(c, true, &ignored) == 0)
            wait = 0;
    } else if (!call->no_retry && call->repeats < REPEATS &&
               (status == 429 || (status >= 500 && retry_after_ms >= 0))) {
        call->repeats++;
        wait = retry_after_ms > 0 ? retry_after_ms * NS_PER_MS : NS_PER_S;
        wait += rnd_below(loop_rnd(c->loop), 250) * NS_PER_MS; /* not all at once again */
    }
    if (wait < 0 || (call->deadline_ns && loop_now(c->loop) + wait >= call->deadline_ns))
        return false;
    if (loop_timer_in(c->loop, &call->repeat, wait, repeat_now) < 0)
        return false;
    call_stop(call);
    call->state = CALL_WAITING;
    return true;
}

static void call_finished(struct kube_call *call, CURLcode rc)
{
    struct kube_resp resp = {.retry_after_ms = -1};
    long status = 0;
    curl_off_t after = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0)
        resp.retry_after_ms = MIN((int64_t)after, 3600) * 1000;
    resp.status = (int)status;
    count(call, rc == CURLE_OK || call->ended_by_user ? resp.status : 0);
    if (rc == CURLE_OK && repeat_later(call, resp.status, resp.retry_after_ms))
        return;
    if (call->ended_by_user)
        err_set(&resp.err, ERR_CLOSED, "ended by the reader");
    else if (call->too_big)
        err_set(&resp.err, ERR_LIMIT, "answer longer than %zu bytes", call->in.max);
    else if (rc != CURLE_OK)
        err_set(&resp.err, code_of_curl(rc), "%s: %s", call->client->host, curl_easy_strerror(rc));
    else
        resp_of_body(call, &resp);
    call_stop(call);
    call_report(call, &resp);
}

/* Report what libcurl has finished. Callbacks may start and cancel calls. */
static void pump(struct kube_client *c)
{
    CURLMsg *m;
    int left;
    if (c->busy)
        return;
    c->busy++;
    while (!c->dying && (m = curl_multi_info_read(c->multi, &left))) {
        struct kube_call *call = NULL;
        CURLcode rc = m->data.result;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        if (call->state == CALL_RUNNING)
            call_finished(call, rc);
    }
    c->busy--;
    if (c->dying)
        client_destroy(c);
}

/* --- starting, cancelling, ending ---------------------------------------------------------------
 */
static void turn_end(struct loop_task *t)
{
    struct kube_client *c = CONTAINER_OF(t, struct kube_client, task);
    struct kube_call *next;
    c->busy++;
    for (struct kube_call *call = c->calls; call && !c->dying; call = next) {
        struct err err = {0};
        next = call->next;
        if (call->state == CALL_DEAD) {
            call_unlink(call);
            c->n_calls--;
            call_free(call);
        } else if (call->state == CALL_QUEUED && call_launch(call, &err) < 0) {
            call_fail(call, &err);
            next = c->calls; /* the callback may have changed the list */
        }
    }
    c->busy--;
    if (c->dying) {
        client_destroy(c);
        return;
    }
    pump(c);
}

static void end_with(struct kube_call *call, enum err_code code, const char *text)
{
    struct kube_client *c = call->client;
    struct err err = {0};
    err_set(&err, code, "%s", text);
    count(call, 0);
    call_fail(call, &err);
    pump(c);
}

static void deadline_over(struct loop_timer *t)
{
    end_with(CONTAINER_OF(t, struct kube_call, deadline), ERR_TIMEOUT, "no answer in time");
}

/* "https://host:6443/prefix" + path + query. */
static char *url_make(const struct kube_client *c, const struct kube_req *req)
{
    struct buf b;
    buf_init(&b, 64 << 10);
    buf_add_str(&b, c->base);
    buf_add_str(&b, req->path);
    if (req->query && *req->query) {
        buf_add_char(&b, '?');
        buf_add_str(&b, req->query);
    }
    return buf_take(&b, NULL);
}

static struct kube_call *call_new(struct kube_client *c, const struct kube_req *req)
{
    struct kube_call *call = mem_zalloc(sizeof *call);
    if (!call)
        return NULL;
    call->client = c;
    buf_init(&call->in, c->opts.max_body_bytes);
    call->method = mem_strdup(req->method);
    call->url = url_make(c, req);
    bool ok = call->method && call->url;
    if (req->accept)
        ok = (call->accept = mem_strdup(req->accept)) && ok;
    if (req->content_type)
        ok = (call->content_type = mem_strdup(req->content_type)) && ok;
    if (req->body)
        ok = (call->body = json_text(req->body, JSON_TIGHT)) && ok;
    int64_t ms = req->timeout_ms ? req->timeout_ms : REQUEST_MS;
    if (ms > 0) {
        call->deadline_ns = loop_now(c->loop) + ms * NS_PER_MS;
        ok = ok && loop_timer_at(c->loop, &call->deadline, call->deadline_ns, deadline_over) == 0;
    }
    if (!ok) {
        call_free(call);
        return NULL;
    }
    return call;
}

struct kube_call *kube_request(struct kube_client *c, const struct kube_req *req,
                               kube_done_fn *done, void *user)
{
    struct kube_call *call = call_new(c, req);
    if (!call)
        return NULL;
    call->done = done;
    call->on_data = req->on_data;
    call->user = user;
    call->no_retry = req->no_retry;
    call->next = c->calls;
    call->prev = &c->calls;
    if (call->next)
        call->next->prev = &call->next;
    c->calls = call;
    c->n_calls++;
    loop_task_add(c->loop, &c->task, turn_end);
    return call;
}

void kube_cancel(struct kube_call *call)
{
    if (!call || call->state == CALL_DEAD || call->state == CALL_REPORTING)
        return;
    call->state = CALL_DEAD;
    call_timers_clear(call);
    loop_task_add(call->client->loop, &call->client->task, turn_end);
}

/* --- the synchronous form -----------------------------------------------------------------------
 */
struct waiter {
    bool over;
    json_t *body;
    struct err err;
};

static void waited(void *user, struct kube_resp *resp)
{
    struct waiter *w = user;
    w->over = true;
    w->err = resp->err;
    w->body = json_incref(resp->body);
}

int kube_wait(struct kube_client *c, const struct kube_req *req, json_t **ret_body, struct err *err)
{
    struct waiter w = {0};
    struct kube_call *call = kube_request(c, req, waited, &w);
    if (!call)
        return err_set(err, ERR_NOMEM, "request");
    while (!w.over) {
        if (loop_turn(c->loop, -1, err) < 0) {
            kube_cancel(call);
            return -1;
        }
    }
    if (w.err.code != ERR_OK) {
        json_decref(w.body);
        return err_set(err, w.err.code, "%s", w.err.msg);
    }
    if (ret_body)
        *ret_body = w.body;
    else
        json_decref(w.body);
    return 0;
}

/* --- the client ---------------------------------------------------------------------------------
 */
static void global_init(void)
{
    struct sigaction sa;
    json_setup();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    /* OpenSSL writes without MSG_NOSIGNAL: a peer that went away must be an error, not a death. */
    if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static bool host_is_loopback(struct slice host)
{
    return slice_is(host, "localhost") || slice_starts(host, SL("127.")) ||
           slice_starts(host, SL("[::1]"));
}

/* Put the tls-server-name where the host stands, so that libcurl verifies it, and lead the
 * connection to the real host. */
static int rename_server(struct kube_client *c, struct slice prefix, struct err *err)
{
    struct slice host = slice_str(c->host), port = SL("443");
    ptrdiff_t colon = slice_rchr(host, ':');
    if (colon >= 0 && slice_chr(slice_skip(host, (size_t)colon), ']') < 0) {
        port = slice_skip(host, (size_t)colon + 1);
        host = slice_head(host, (size_t)colon);
    }
    CLEANUP(buf_freep) struct buf to;
    struct buf base;
    buf_init(&to, 1024);
    buf_init(&base, 4096);
    buf_addf(&to, "::%.*s:%.*s", SL_FMT(host), SL_FMT(port));
    buf_addf(&base, "https://%s:%.*s%.*s", c->config->tls_name, SL_FMT(port), SL_FMT(prefix));
    mem_free(c->base);
    c->base = buf_take(&base, NULL);
    c->connect_to = curl_slist_append(NULL, buf_cstr(&to));
    return c->base && c->connect_to ? 0 : err_set(err, ERR_NOMEM, "client");
}

static int check_server(struct kube_client *c, struct err *err)
{
    const struct kube_config *k = c->config;
    struct slice url = slice_str(k->server), rest;
    bool tls = slice_starts(url, SL("https://"));
    if (!tls && !slice_starts(url, SL("http://")))
        return err_set(err, ERR_INVALID, "server: not an http(s) URL: %s", k->server);
    rest = slice_skip(url, tls ? 8 : 7);
    ptrdiff_t slash = slice_chr(rest, '/');
    struct slice host = slash < 0 ? rest : slice_head(rest, (size_t)slash);
    if (host.len == 0 || slice_chr(host, '@') >= 0)
        return err_set(err, ERR_INVALID, "server: no host in %s", k->server);
    c->loopback = host_is_loopback(host);
    if (!tls && !c->loopback && (k->token || k->token_file || k->password))
        return err_set(err, ERR_INVALID, "server: %s would carry the credentials in plaintext",
                       k->server);
    c->host = mem_strndup(host.p, host.len);
    c->base = mem_strdup(k->server);
    if (!c->host || !c->base)
        return err_set(err, ERR_NOMEM, "client");
    return tls && k->tls_name ? rename_server(c, slice_skip(rest, host.len), err) : 0;
}

int kube_client_new(struct loop *loop, const struct kube_config *config,
                    const struct kube_client_opts *opts, struct kube_client **ret, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    struct kube_client *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "client");
    c->loop = loop;
    c->config = config;
    if (opts)
        c->opts = *opts;
    if (!c->opts.max_body_bytes)
        c->opts.max_body_bytes = BODY_MAX;
    if (check_server(c, err) < 0 || token_refresh(c, true, err) < 0)
        goto fail;
    c->multi = curl_multi_init();
    if (!c->multi) {
        err_set(err, ERR_NOMEM, "client");
        goto fail;
    }
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, 4L);
    *ret = c;
    return 0;
fail:
    client_destroy(c);
    return err_wrap(err, "API server client");
}

static void client_destroy(struct kube_client *c)
{
    while (c->calls) {
        struct kube_call *call = c->calls;
        call_unlink(call);
        call_free(call);
    }
    if (c->multi)
        curl_multi_cleanup(c->multi);
    loop_timer_clear(c->loop, &c->timer);
    loop_task_clear(c->loop, &c->task);
    wipe_free(c->token);
    curl_slist_free_all(c->connect_to);
    mem_free(c->base);
    mem_free(c->host);
    mem_free(c);
}

void kube_client_free(struct kube_client *c)
{
    if (!c)
        return;
    c->dying = true;
    if (c->busy || c->in_curl) {
        /* Inside one of our callbacks: nothing is called any more, and the outermost frame ends it.
         */
        for (struct kube_call *call = c->calls; call; call = call->next)
            kube_cancel(call);
        return;
    }
    client_destroy(c);
}

void kube_client_freep(struct kube_client **c)
{
    kube_client_free(*c);
    *c = NULL;
}

struct loop *kube_client_loop(const struct kube_client *c)
{
    return c->loop;
}

const struct kube_config *kube_client_config(const struct kube_client *c)
{
    return c->config;
}

unsigned kube_client_in_flight(const struct kube_client *c)
{
    return c->n_calls;
}
