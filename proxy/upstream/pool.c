/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 connections to hosts: dialled when needed, kept while idle, one request at a time. */
#include "proxy/upstream/pool.h"

#include <errno.h>
#include <sys/socket.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h1.h"
#include "proxy/worker.h"

enum conn_state { CONN_DIAL, CONN_BUSY, CONN_IDLE, CONN_CLOSED };

struct up_conn {
    struct up_host *host;          /* counted */
    struct chan *chan;
    struct up_attempt *attempt;    /* whose request is under way; NULL when idle */
    struct up_conn *next, **prev;  /* the host's idle list */
    struct h1_parser parser;
    struct http_head *head;        /* what the parser fills: the answer's head, then its trailers */
    struct buf out;
    struct loop_timer timer;       /* connect, idle */
    struct loop_task flush, gone;
    enum conn_state state;
    uint32_t served;
    bool was_idle;                 /* this request was given an idle connection */
    bool chunked;                  /* of the request's body */
    bool request_done, answer_begun, raw, keep, full, shut;
    bool paused;                   /* the client is slow: no event but up_resume reads on */
};

static void conn_event(void *user, unsigned events);
static void pending_next(struct up_cluster *c);

static struct loop *loop_of(const struct up_conn *u)
{
    return u->host->cluster->worker->loop;
}

/* --- the idle list ------------------------------------------------------------------------------- */

static void idle_unlink(struct up_conn *u)
{
    if (!u->prev)
        return;
    *u->prev = u->next;
    if (u->next)
        u->next->prev = u->prev;
    u->prev = NULL;
}

static void conn_free(struct loop_task *t)
{
    struct up_conn *u = CONTAINER_OF(t, struct up_conn, gone);
    h1_fini(&u->parser);
    buf_fini(&u->out);
    up_host_unref(u->host);
    mem_free(u);
}

/* Close at once; the attempt, if any, was told or does not want to know. */
static void conn_close(struct up_conn *u)
{
    if (u->state == CONN_CLOSED)
        return;
    struct up_cluster *c = u->host->cluster;
    u->state = CONN_CLOSED;
    idle_unlink(u);
    loop_timer_clear(loop_of(u), &u->timer);
    loop_task_clear(loop_of(u), &u->flush);
    chan_close(u->chan);
    c->conns--;
    loop_task_add(loop_of(u), &u->gone, conn_free);
    pending_next(c);
}

void up_pool_close_idle(struct up_host *h)
{
    while (h->idle)
        conn_close(h->idle);
}

static void idle_too_long(struct loop_timer *t)
{
    conn_close(CONTAINER_OF(t, struct up_conn, timer));
}

/* The request and its answer are whole: keep the connection if both sides can use it again. */
static void conn_release(struct up_conn *u)
{
    struct up_cluster *c = u->host->cluster;
    uint32_t max = c->cfg.pool.max_requests_per_connection;
    bool keep = u->keep && u->request_done && h1_at_start(&u->parser) && !u->host->gone &&
                buf_len(&u->out) == 0 && !(max && u->served >= max);
    if (!keep) {
        conn_close(u);
        return;
    }
    u->state = CONN_IDLE;
    buf_fini(&u->out); /* idle connections hold no buffers */
    u->next = u->host->idle;
    u->prev = &u->host->idle;
    if (u->next)
        u->next->prev = &u->next;
    u->host->idle = u;
    uint32_t ms = c->cfg.pool.idle_timeout_ms;
    loop_timer_in(loop_of(u), &u->timer, ms ? ms * NS_PER_MS : c->worker->limits->idle_timeout_ns,
                  idle_too_long);
    pending_next(c);
}

/* --- attempts ------------------------------------------------------------------------------------- */

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

/* Take the attempt off its connection; what it holds is released by up_cancel, which its owner calls
 * whatever the outcome. */
static struct up_attempt *attempt_detach(struct up_conn *u)
{
    struct up_attempt *a = u->attempt;
    u->attempt = NULL;
    if (a) {
        a->conn = NULL;
        a->over = true;
    }
    return a;
}

static void attempt_failed(struct up_attempt *a, enum up_fail why, bool untouched, const char *detail)
{
    a->over = true;
    a->ops->on_fail(a, why, untouched, detail);
}

static void conn_fail(struct up_conn *u, enum up_fail why, const char *detail)
{
    bool untouched = !u->answer_begun && (u->was_idle || u->state == CONN_DIAL);
    char text[160];
    slice_copy(slice_head(slice_str(detail ? detail : ""), sizeof text - 1), text, sizeof text);
    struct up_attempt *a = attempt_detach(u);
    conn_close(u);
    if (a)
        attempt_failed(a, why, untouched, detail ? text : NULL);
}

static void connect_late(struct loop_timer *t)
{
    conn_fail(CONTAINER_OF(t, struct up_conn, timer), UP_FAIL_CONNECT, "connection timeout");
}

static void conn_begin(struct up_conn *u, struct up_attempt *a)
{
    u->state = CONN_BUSY;
    u->attempt = a;
    u->served++;
    u->request_done = u->answer_begun = u->raw = u->keep = u->full = u->chunked = u->paused = false;
    u->head = NULL;
    a->conn = u;
    h1_expect_response(&u->parser, a->head_request, a->connect_request,
                       a->upgrade_request);
    loop_timer_clear(loop_of(u), &u->timer);
}

static void conn_opened(struct up_conn *u)
{
    struct up_attempt *a = u->attempt;
    if (!a) {
        conn_close(u); /* the request gave up meanwhile */
        return;
    }
    conn_begin(u, a);
    a->ops->on_ready(a);
}

static void dial(struct up_attempt *a)
{
    struct up_cluster *c = a->cluster;
    struct err err = {0};
    struct up_conn *u = mem_zalloc(sizeof *u);
    if (!u) {
        attempt_failed(a, UP_FAIL_OVERFLOW, true, "out of memory");
        return;
    }
    struct sock_addr src;
    const struct sock_addr *from = NULL;
    if (!c->service) /* built-in clusters: the application is dialled from the address that passes */
        from = slice_starts(c->cfg.name, SL("inbound|")) ? worker_app_source(&a->host->addr, &src)
                                                         : NULL;
    if (up_dial(a->host, UP_ALPN_HTTP1, from, &u->chan, &err) < 0) {
        mem_free(u);
        attempt_failed(a, err.code == ERR_DENIED ? UP_FAIL_NO_HOST : UP_FAIL_CONNECT, true, err.msg);
        return;
    }
    u->host = up_host_ref(a->host);
    u->state = CONN_DIAL;
    u->attempt = a;
    a->conn = u;
    c->conns++;
    struct h1_limits limits = {.head_bytes = c->worker->limits->head_bytes,
                               .head_fields = c->worker->limits->head_fields};
    h1_response_init(&u->parser, &limits);
    buf_init(&u->out, c->worker->limits->buffer_bytes * 2 + WORKER_SCRATCH);
    chan_owner(u->chan, conn_event, u);
    uint32_t ms = c->cfg.pool.connect_timeout_ms;
    loop_timer_in(loop_of(u), &u->timer, (ms ? ms : 10000) * NS_PER_MS, connect_late);
    if (u->chan->open)
        conn_opened(u);
}

/* Has its server ended an idle connection, or said something that nobody asked for? Between the loop's
 * turns that shows in the socket alone; a request that must not be sent twice is worth the syscall. */
static bool conn_stale(const struct up_conn *u)
{
    char byte;
    int fd = chan_fd(u->chan);
    return fd >= 0 &&
           (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EINTR));
}

/* A host was chosen: an idle connection to it, else a new one. */
static void attempt_connect(struct up_attempt *a)
{
    struct up_conn *u = a->host->idle;
    if (u) {
        idle_unlink(u);
        u->was_idle = true;
        conn_begin(u, a);
        a->ops->on_ready(a);
        return;
    }
    dial(a);
}

static bool connections_full(const struct up_cluster *c)
{
    return c->cfg.pool.max_connections && c->conns >= c->cfg.pool.max_connections;
}

static enum up_fail attempt_pick(struct up_attempt *a)
{
    struct up_host *h;
    bool tls;
    if (up_pick(a->cluster, a->tried, a->n_tried, &h) != ERR_OK)
        return UP_FAIL_NO_HOST;
    a->host = up_host_ref(h);
    up_host_begin(h);
    return up_host_tls(h, &tls) == ERR_OK ? UP_FAIL_NONE : UP_FAIL_NO_HOST;
}

void up_start(struct up_attempt *a)
{
    struct up_cluster *c = a->cluster;
    if (c->cfg.pool.max_requests && c->requests >= c->cfg.pool.max_requests) {
        attempt_failed(a, UP_FAIL_OVERFLOW, true, "request limit");
        return;
    }
    c->requests++;
    a->counted = true;
    enum up_fail why = attempt_pick(a);
    if (why != UP_FAIL_NONE) {
        attempt_failed(a, why, true, a->host ? "the endpoint does not speak mTLS, which is demanded"
                                             : NULL);
        return;
    }
    while (a->once && a->host->idle && conn_stale(a->host->idle))
        conn_close(a->host->idle);
    if (a->host->idle || !connections_full(c)) {
        attempt_connect(a);
        return;
    }
    if (c->cfg.pool.max_pending && c->n_pending >= c->cfg.pool.max_pending) {
        attempt_failed(a, UP_FAIL_OVERFLOW, true, "pending request limit");
        return;
    }
    a->prev = c->pending_tail;
    a->next = NULL;
    *c->pending_tail = a;
    c->pending_tail = &a->next;
    c->n_pending++;
}

/* A place became free: the oldest waiting request gets it. */
static void pending_next(struct up_cluster *c)
{
    struct up_attempt *a = c->pending;
    if (!a || (connections_full(c) && !a->host->idle))
        return;
    pending_unlink(a);
    attempt_connect(a);
}

void up_cancel(struct up_attempt *a)
{
    if (a->conn) {
        struct up_conn *u = a->conn;
        attempt_detach(u);
        conn_close(u);
    }
    if (a->cluster)
        pending_unlink(a);
    if (a->counted)
        a->cluster->requests--;
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
    *ret_tls = a->conn && chan_is_tls(a->conn->chan);
    return *ret_tls ? tls_chan_peer_spiffe(a->conn->chan) : SLICE_NULL;
}

/* --- sending ----------------------------------------------------------------------------------------- */

/* The queue shrank: whoever was told that it is full may go on. */
static void conn_drained(struct up_conn *u)
{
    if (!u->full || buf_len(&u->out) > u->host->cluster->worker->limits->buffer_bytes / 2)
        return;
    u->full = false;
    if (u->attempt)
        u->attempt->ops->on_drain(u->attempt);
}

static void conn_write(struct up_conn *u)
{
    while (buf_len(&u->out)) {
        struct slice s = buf_slice(&u->out);
        size_t n;
        enum err_code rc = chan_write(u->chan, s.p, s.len, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc != ERR_OK) {
            /* The answer may be there all the same (a server that refuses a body early). */
            buf_reset(&u->out);
            return;
        }
        buf_consume(&u->out, n);
    }
    buf_fini(&u->out);
    if (u->shut)
        chan_shutdown(u->chan);
}

static void conn_flush(struct up_conn *u)
{
    conn_write(u);
    conn_drained(u);
}

static void conn_flush_task(struct loop_task *t)
{
    conn_flush(CONTAINER_OF(t, struct up_conn, flush));
}

static enum err_code queued(struct up_conn *u)
{
    if (!u->flush.prev)
        loop_task_add(loop_of(u), &u->flush, conn_flush_task);
    u->full = buf_len(&u->out) > u->host->cluster->worker->limits->buffer_bytes;
    return u->full ? ERR_LIMIT : ERR_OK;
}

enum err_code up_send_head(struct up_attempt *a, const struct http_head *head)
{
    struct up_conn *u = a->conn;
    a->sent = true;
    u->chunked = head->body == HTTP_BODY_STREAM;
    enum err_code rc = h1_write_request(&u->out, head, false);
    if (rc != ERR_OK)
        return rc;
    return queued(u);
}

enum err_code up_send_body(struct up_attempt *a, struct slice bytes)
{
    struct up_conn *u = a->conn;
    if (!u)
        return ERR_CLOSED;
    if (u->chunked && !u->raw)
        h1_write_chunk(&u->out, bytes);
    else
        buf_add_slice(&u->out, bytes);
    return queued(u);
}

enum err_code up_send_end(struct up_attempt *a, const struct http_head *trailers)
{
    struct up_conn *u = a->conn;
    if (!u)
        return ERR_CLOSED;
    u->request_done = true;
    if (u->raw)
        u->shut = true;
    else if (u->chunked)
        h1_write_last_chunk(&u->out, trailers);
    return queued(u);
}

void up_flush(struct up_attempt *a)
{
    struct up_conn *u = a->conn;
    if (!u)
        return;
    loop_task_clear(loop_of(u), &u->flush);
    conn_flush(u);
}

void up_resume(struct up_attempt *a)
{
    if (!a->conn)
        return;
    a->conn->paused = false;
    chan_resume(a->conn->chan);
}

/* --- receiving ------------------------------------------------------------------------------------------ */

enum verdict { GO_ON, STOP }; /* STOP: paused, over or closed */

static enum verdict answer_whole(struct up_conn *u, struct http_head *trailers)
{
    struct up_attempt *a = attempt_detach(u);
    conn_release(u);
    if (a)
        a->ops->on_end(a, trailers);
    return STOP;
}

static enum verdict answer_head(struct up_conn *u, struct http_head *head)
{
    struct up_attempt *a = u->attempt;
    bool interim = u->parser.interim;
    if (!interim) {
        u->keep = head->keep_alive;
        u->raw = head->status == 101;
        u->answer_begun = true;
    }
    a->ops->on_head(a, head, interim);
    return u->state == CONN_BUSY && u->attempt == a ? GO_ON : STOP;
}

/* One for each head and one for the trailers; none for each piece of the body. */
static struct http_head *head_to_fill(struct up_conn *u)
{
    struct arena *arena = u->attempt->arena;
    if (!u->head) {
        u->head = ARENA_NEW(arena, struct http_head);
        if (u->head)
            http_head_init(u->head, arena);
    }
    return u->head;
}

/* Run the parser over one read. */
static enum verdict answer_bytes(struct up_conn *u, struct slice in)
{
    while (u->state == CONN_BUSY) {
        struct up_attempt *a = u->attempt;
        struct http_head *head = head_to_fill(u);
        struct slice body;
        size_t used = 0;
        if (!head) {
            conn_fail(u, UP_FAIL_PROTOCOL, "answer's head too large");
            return STOP;
        }
        enum h1_event ev = h1_step(&u->parser, in, &used, head, &body);
        in = slice_skip(in, used);
        switch (ev) {
        case H1_EV_MORE:
            return GO_ON;
        case H1_EV_HEAD:
            u->head = NULL;
            if (answer_head(u, head) == STOP)
                return STOP;
            break;
        case H1_EV_BODY:
            if (!a->ops->on_body(a, body) && u->attempt == a)
                u->paused = true; /* what was read already still goes on */
            break;
        case H1_EV_END:
            if (in.len)
                u->keep = false; /* bytes that nobody asked for: the connection is not to be trusted */
            return answer_whole(u, head->n_fields ? head : NULL);
        case H1_EV_REFUSED:
            conn_fail(u, UP_FAIL_PROTOCOL, h1_refusal_detail(u->parser.refusal));
            return STOP;
        }
    }
    return STOP;
}

static void answer_eof(struct up_conn *u)
{
    switch (h1_eof(&u->parser)) {
    case H1_EV_END:
        u->keep = false;
        answer_whole(u, NULL);
        break;
    default:
        conn_fail(u, UP_FAIL_RESET, "remote closed the connection");
        break;
    }
}

static void conn_readable(struct up_conn *u)
{
    struct worker *w = u->host->cluster->worker;
    uint32_t budget = w->limits->turn_bytes;
    while (u->state == CONN_BUSY && !u->paused) {
        size_t n;
        enum err_code rc = chan_read(u->chan, w->scratch, WORKER_SCRATCH, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc == ERR_EOF) {
            answer_eof(u);
            return;
        }
        if (rc != ERR_OK) {
            conn_fail(u, UP_FAIL_RESET, "connection reset");
            return;
        }
        if (answer_bytes(u, slice_of(w->scratch, n)) == STOP)
            return;
        if (n >= budget) {
            chan_resume(u->chan);
            return;
        }
        budget -= (uint32_t)n;
    }
}

/* Nothing is expected on an idle connection: an end or bytes that nobody asked for close it; session
 * tickets and events that came late do not. */
static void idle_event(struct up_conn *u, unsigned events)
{
    char byte;
    size_t n;
    if (events & CHAN_FAIL || chan_read(u->chan, &byte, 1, &n) != ERR_AGAIN)
        conn_close(u);
}

static void conn_event(void *user, unsigned events)
{
    struct up_conn *u = user;
    if (u->state == CONN_DIAL) {
        if (events & CHAN_FAIL)
            conn_fail(u, chan_is_tls(u->chan) ? UP_FAIL_TLS : UP_FAIL_CONNECT,
                      chan_is_tls(u->chan) ? tls_chan_error(u->chan) : "connection refused");
        else if (events & CHAN_OPEN)
            conn_opened(u);
        return;
    }
    if (u->state == CONN_IDLE) {
        idle_event(u, events);
        return;
    }
    if (events & CHAN_WRITE && buf_len(&u->out))
        conn_flush(u);
    if (u->state == CONN_BUSY && events & (CHAN_READ | CHAN_FAIL))
        conn_readable(u);
}
