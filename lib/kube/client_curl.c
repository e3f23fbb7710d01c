/* SPDX-License-Identifier: Apache-2.0 */
/* Calls through libcurl: its sockets and timer on our loop, what it is told of each call. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/kube/client_int.h"

enum {
    TOKEN_AGE_S = 60, /* client-go reads the token file once a minute */
    CONNECT_MS = 10000,
};

/* --- the token -------------------------------------------------------------------------------- */
static char *read_trimmed(const char *path, struct err *err)
{
    char *text = kube_read_file(path, 64 << 10, NULL, err);
    if (!text)
        return NULL;
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1]))
        text[--n] = '\0';
    if (n == 0 || strpbrk(text, "\r\n")) {
        kube_wipe_free(text);
        err_set(err, ERR_INVALID, "%s: not a token", path);
        return NULL;
    }
    return text;
}

/* Keep the old token when the file cannot be read: the kubelet swaps it by renaming. */
int token_refresh(struct kube_client *c, bool force, struct err *err)
{
    if (!c->config->token_file)
        return 0;
    int64_t now = loop_now(c->loop);
    if (c->token && !force && now - c->token_ns < TOKEN_AGE_S * NS_PER_S)
        return 0;
    char *fresh = read_trimmed(c->config->token_file, err);
    if (!fresh)
        return c->token ? 0 : err_wrap(err, "reading the token");
    kube_wipe_free(c->token);
    c->token = fresh;
    c->token_ns = now;
    return 0;
}

static const char *token_now(const struct kube_client *c)
{
    return c->config->token_file ? c->token : c->config->token;
}

/* --- libcurl and the loop --------------------------------------------------------------------- */
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
    client_pump(c);
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
    client_pump(c);
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

void client_wire(struct kube_client *c)
{
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, 4L);
}

/* --- one exchange ----------------------------------------------------------------------------- */
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
    kube_wipe_free(line); /* it may be the token */
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
        /* Read for each connection (there are few, and they are long): a new CA holds at once. */
        curl_easy_setopt(e, CURLOPT_CA_CACHE_TIMEOUT, 0L);
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

int call_launch(struct kube_call *call, struct err *err)
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

void call_stop(struct kube_call *call)
{
    if (!call->easy)
        return;
    curl_multi_remove_handle(call->client->multi, call->easy);
    curl_easy_cleanup(call->easy);
    call->easy = NULL;
    headers_free(call);
}
