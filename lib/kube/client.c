/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/client.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/client_int.h"

enum {
    BODY_MAX = 32 << 20,
    REPEATS = 10, /* of 429 and 503, as client-go */
    REQUEST_MS = 30000,
};

static void client_destroy(struct kube_client *c);

/* --- the life of a call ----------------------------------------------------------------------- */
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
    buf_fini(&call->in);
    mem_free(call->method);
    mem_free(call->url);
    mem_free(call->accept);
    mem_free(call->content_type);
    kube_wipe_free(call->body); /* it may be a Secret */
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

/* --- its end ---------------------------------------------------------------------------------- */
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
        client_pump(call->client);
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
        err_set(&resp.err, ERR_LIMIT, "answer longer than %u bytes", call->in.max);
    else if (rc != CURLE_OK)
        err_set(&resp.err, err_of_curl(rc), "%s: %s", call->client->host, curl_easy_strerror(rc));
    else
        answer_read(call, &resp);
    call_stop(call);
    call_report(call, &resp);
}

void client_pump(struct kube_client *c)
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
    client_pump(c);
}

static void end_with(struct kube_call *call, enum err_code code, const char *text)
{
    struct kube_client *c = call->client;
    struct err err = {0};
    err_set(&err, code, "%s", text);
    count(call, 0);
    call_fail(call, &err);
    client_pump(c);
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
    if (config->exec && !config->token && !config->cert_data) {
        err_set(err, ERR_UNSUPPORTED,
                "users: '%s': exec: this program runs no credential plugins; use a token or a "
                "client certificate (kubectl create token)",
                config->user ? config->user : "");
        goto fail;
    }
    if (check_server(c, err) < 0 || token_refresh(c, true, err) < 0)
        goto fail;
    c->multi = curl_multi_init();
    if (!c->multi) {
        err_set(err, ERR_NOMEM, "client");
        goto fail;
    }
    client_wire(c);
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
    kube_wipe_free(c->token);
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
