/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts: a host, the cluster's limits, a connection of the right kind, or a place in the queue.
 */
#include "proxy/upstream/pool.h"

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/head.h"
#include "mesh/match/retry.h"
#include "proxy/upstream/origin.h"
#include "proxy/worker.h"

/* --- what the codecs share -----------------------------------------------------------------------
 */

void up_attempt_failed(struct up_attempt *a, enum up_fail why, bool untouched, const char *detail)
{
    a->over = true;
    a->ops->on_fail(a, why, untouched, detail);
}

enum up_fail up_conn_dial(struct up_conn *u, struct up_attempt *a, enum up_alpn alpn,
                          void (*late)(struct loop_timer *), struct err *err)
{
    struct up_cluster *c = a->cluster;
    struct sock_addr src;
    const struct sock_addr *from = NULL;
    if (!c->service) /* built-in clusters: the application is dialled from the address that passes
                      */
        from = slice_starts(c->cfg->name, SL("inbound|")) ? worker_app_source(&a->host->addr, &src)
                                                         : NULL;
    if (up_dial(a->host, alpn, from, &u->chan, err) < 0)
        return err->code == ERR_DENIED ? UP_FAIL_NO_HOST : UP_FAIL_CONNECT;
    u->host = up_host_ref(a->host);
    u->born_ns = loop_now(c->worker->loop);
    c->conns++;
    uint32_t ms = c->cfg->pool.connect_timeout_ms;
    loop_timer_in(c->worker->loop, &u->timer, (ms ? ms : 10000) * NS_PER_MS, late);
    return UP_FAIL_NONE;
}

int64_t up_conn_idle_ns(const struct up_conn *u)
{
    const struct up_cluster *c = u->host->cluster;
    const struct prog_tcp *t = PROG_POLICY(c->cfg, tcp);
    uint32_t ms = c->cfg->pool.idle_timeout_ms;
    int64_t ns = ms == PROG_MS_NEVER ? INT64_MAX
                 : ms                ? ms * NS_PER_MS
                                     : c->worker->limits->idle_timeout_ns;
    if (!t || !t->max_duration_ms)
        return ns;
    int64_t left = u->born_ns + t->max_duration_ms * NS_PER_MS - loop_now(c->worker->loop);
    return MIN(ns, MAX(left, 0));
}

void up_conn_gone(struct up_conn *u, void (*release)(struct loop_task *))
{
    struct up_cluster *c = u->host->cluster;
    loop_timer_clear(c->worker->loop, &u->timer);
    chan_close(u->chan);
    c->conns--;
    loop_task_add(c->worker->loop, &u->gone, release);
    up_pool_room(c);
}

void up_pool_close_idle(struct up_host *h)
{
    h1_up_close_idle(h);
    h2_up_close_idle(h);
}

/* --- waiting for a place
 * ---------------------------------------------------------------------------- */

static void pending_add(struct up_attempt *a)
{
    struct up_cluster *c = a->cluster;
    a->prev = c->pending_tail;
    a->next = NULL;
    *c->pending_tail = a;
    c->pending_tail = &a->next;
    c->n_pending++;
}

static void pending_unlink(struct up_attempt *a)
{
    struct up_cluster *c = a->cluster;
    if (!a->prev)
        return;
    *a->prev = a->next;
    if (a->next)
        a->next->prev = a->prev;
    else
        c->pending_tail = a->prev;
    a->prev = NULL;
    a->next = NULL;
    c->n_pending--;
}

static bool connections_full(const struct up_cluster *c)
{
    return c->cfg->pool.max_connections && c->conns >= c->cfg->pool.max_connections;
}

/* On a connection that is there, else on a new one if there may be another. False: neither. */
static bool place(struct up_attempt *a)
{
    bool full = connections_full(a->cluster);
    if (a->h2 ? h2_up_take(a, !full) : (full || !a->fresh) && h1_up_take(a))
        return true;
    if (full)
        return false;
    if (a->h2)
        h2_up_dial(a);
    else
        h1_up_dial(a);
    return true;
}

static bool has_place(const struct up_attempt *a)
{
    return (a->h2 ? h2_up_has_room(a->host, a->shared) : a->host->idle != NULL) ||
           !connections_full(a->cluster);
}

/* Of HTTP/2 one place may be many. */
void up_pool_room(struct up_cluster *c)
{
    for (struct up_attempt *a; (a = c->pending) && has_place(a);) {
        pending_unlink(a);
        if (!place(a)) {
            pending_add(a);
            return;
        }
    }
}

/* --- attempts
 * ------------------------------------------------------------------------------------- */

bool up_over_h2(enum prog_protocol p, const struct http_head *request)
{
    if (request->upgrade.len)
        return false;
    if (p == PROG_HTTP || p == PROG_HTTP2 || p == PROG_GRPC)
        return p != PROG_HTTP;
    return request->version == HTTP_2;
}

bool up_may_share(const struct up_cluster *c, const struct http_head *request)
{
    const __typeof__(c->cfg->pool) *pool = &c->cfg->pool;
    return request->version == HTTP_1_1 && !request->upgrade.len &&
           !slice_is(request->method, "CONNECT") && !c->cfg->keep_http1 && !pool->max_connections &&
           !pool->max_pending && !pool->max_requests_per_connection;
}

/* The host is chosen: is it one whose connections are shared, and is there anybody to share one with? A request
 * that is alone has nothing to gain from HTTP/2's frames, and a connection without their session is smaller. */
static void attempt_share(struct up_attempt *a)
{
    const struct up_host *h = a->host;
    bool tls, alone = h->active == 1 && (h->idle || !h2_up_has_room(h, true));
    a->shared = a->may_share && !a->h2 && !alone && !h->unshared && up_host_tls(h, &tls) == ERR_OK && tls &&
                !origin_wanted(a->cluster->cfg);
    a->h2 |= a->shared;
}

void up_pool_unshared(struct up_attempt *a)
{
    a->h2 = a->shared = false;
    if (a->once)
        h1_up_drop_stale(a->host);
    if (!place(a))
        pending_add(a);
}

static enum up_fail attempt_pick(struct up_attempt *a)
{
    struct up_host *h;
    bool tls;
    struct up_choice how = {a->tried, a->n_tried, a->hashed, a->hash, a->elsewhere};
    if (up_pick(a->cluster, &how, &h) != ERR_OK)
        return UP_FAIL_NO_HOST;
    a->host = up_host_ref(h);
    up_host_begin(h);
    return up_host_tls(h, &tls) == ERR_OK ? UP_FAIL_NONE : UP_FAIL_NO_HOST;
}

void up_start(struct up_attempt *a)
{
    struct up_cluster *c = a->cluster;
    if (c->cfg->pool.max_requests && c->requests >= c->cfg->pool.max_requests) {
        up_attempt_failed(a, UP_FAIL_OVERFLOW, true, "request limit");
        return;
    }
    c->requests++;
    a->counted = true;
    enum up_fail why = attempt_pick(a);
    if (why == UP_FAIL_NONE)
        attempt_share(a);
    if (why == UP_FAIL_NONE && a->once && !a->h2)
        h1_up_drop_stale(a->host);
    if (why != UP_FAIL_NONE)
        up_attempt_failed(a, why, true,
                          a->host ? "the endpoint does not speak mTLS, which is demanded" : NULL);
    else if (!place(a)) {
        if (c->cfg->pool.max_pending && c->n_pending >= c->cfg->pool.max_pending)
            up_attempt_failed(a, UP_FAIL_OVERFLOW, true, "pending request limit");
        else
            pending_add(a);
    }
}

bool up_may_retry(const struct up_cluster *c)
{
    const struct prog_retry_budget *b = PROG_POLICY(c->cfg, retry_budget);
    uint32_t ended = 0;
    if (!b)
        return !c->cfg->pool.max_retries || c->retries < c->cfg->pool.max_retries;
    if (b->interval_ms && c->ended)
        ended = retry_window_sum(c->ended, b->interval_ms, loop_now(c->worker->loop));
    return c->retries < retry_budget_limit(b, c->requests + ended);
}

/* A request of the cluster is over. Without memory it is one less that allows retries. */
static void request_ended(struct up_cluster *c)
{
    const struct prog_retry_budget *b = PROG_POLICY(c->cfg, retry_budget);
    c->requests--;
    if (!b || !b->interval_ms || (!c->ended && !(c->ended = mem_zalloc(sizeof *c->ended))))
        return;
    retry_window_add(c->ended, b->interval_ms, loop_now(c->worker->loop));
}

void up_cancel(struct up_attempt *a)
{
    if (a->conn)
        a->conn->ops->cancel(a);
    if (a->cluster)
        pending_unlink(a);
    if (a->counted)
        request_ended(a->cluster);
    a->counted = false;
    if (a->host) {
        up_host_end(a->host);
        up_host_unref(a->host);
        a->host = NULL;
    }
    a->over = true;
}

struct slice up_peer(const struct up_attempt *a, bool *ret_tls)
{
    *ret_tls = a->conn && up_mesh_tls(a->conn->host, a->conn->chan);
    return *ret_tls ? tls_chan_peer_spiffe(a->conn->chan) : SLICE_NULL;
}

struct sock_addr up_reached(const struct up_attempt *a)
{
    return up_peer_addr(a->host, a->conn ? a->conn->chan : NULL);
}

enum err_code up_send_head(struct up_attempt *a, const struct http_head *head)
{
    a->sent = true;
    return a->conn->ops->head(a, head);
}

enum err_code up_send_body(struct up_attempt *a, struct slice bytes)
{
    return a->conn ? a->conn->ops->body(a, bytes) : ERR_CLOSED;
}

enum err_code up_send_end(struct up_attempt *a, const struct http_head *trailers)
{
    return a->conn ? a->conn->ops->end(a, trailers) : ERR_CLOSED;
}

void up_flush(struct up_attempt *a)
{
    if (a->conn)
        a->conn->ops->flush(a);
}

void up_resume(struct up_attempt *a)
{
    if (a->conn)
        a->conn->ops->resume(a);
}
