/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 connections to hosts: dialled when needed, kept while idle, one request at a time. */
#include <errno.h>
#include <sys/socket.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h1.h"
#include "proxy/upstream/pool.h"
#include "proxy/worker.h"

enum conn_state { CONN_DIAL, CONN_BUSY, CONN_IDLE, CONN_CLOSED };

struct h1_up {
    struct up_conn conn;
    struct up_attempt *attempt; /* whose request is under way; NULL when idle */
    struct h1_up *next, **prev; /* the host's idle list */
    struct h1_parser parser;
    struct http_head *head; /* what the parser fills: the answer's head, then its trailers */
    struct buf out;
    struct loop_task flush;
    enum conn_state state;
    uint32_t served;
    bool was_idle; /* this request was given an idle connection */
    bool chunked;  /* of the request's body */
    bool request_done, answer_begun, raw, keep, full, shut;
    bool paused; /* the client is slow: no event but resume reads on */
};

static const struct up_conn_ops h1_ops;
static void conn_event(void *user, unsigned events);

static struct h1_up *of_attempt(const struct up_attempt *a)
{
    return CONTAINER_OF(a->conn, struct h1_up, conn);
}

static struct loop *loop_of(const struct h1_up *u)
{
    return u->conn.host->cluster->worker->loop;
}

/* --- the idle list -------------------------------------------------------------------------------
 */

static void idle_unlink(struct h1_up *u)
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
    struct h1_up *u = CONTAINER_OF(t, struct h1_up, conn.gone);
    h1_fini(&u->parser);
    buf_fini(&u->out);
    up_host_unref(u->conn.host);
    mem_free(u);
}

/* Close at once; the attempt, if any, was told or does not want to know. */
static void conn_close(struct h1_up *u)
{
    if (u->state == CONN_CLOSED)
        return;
    u->state = CONN_CLOSED;
    idle_unlink(u);
    loop_task_clear(loop_of(u), &u->flush);
    up_conn_gone(&u->conn, conn_free);
}

void h1_up_close_idle(struct up_host *h)
{
    while (h->idle)
        conn_close(h->idle);
}

static void idle_too_long(struct loop_timer *t)
{
    conn_close(CONTAINER_OF(t, struct h1_up, conn.timer));
}

/* The request and its answer are whole: keep the connection if both sides can use it again. */
static void conn_release(struct h1_up *u)
{
    struct up_cluster *c = u->conn.host->cluster;
    uint32_t max = c->cfg->pool.max_requests_per_connection;
    int64_t idle_ns = up_conn_idle_ns(&u->conn);
    bool keep = u->keep && u->request_done && h1_at_start(&u->parser) && !u->conn.host->gone &&
                buf_len(&u->out) == 0 && !(max && u->served >= max) && idle_ns > 0;
    if (!keep) {
        conn_close(u);
        return;
    }
    u->state = CONN_IDLE;
    buf_fini(&u->out); /* idle connections hold no buffers */
    u->next = u->conn.host->idle;
    u->prev = &u->conn.host->idle;
    if (u->next)
        u->next->prev = &u->next;
    u->conn.host->idle = u;
    if (idle_ns < INT64_MAX)
        loop_timer_in(loop_of(u), &u->conn.timer, idle_ns, idle_too_long);
    up_pool_room(c);
}

/* --- attempts
 * ------------------------------------------------------------------------------------- */

/* Take the attempt off its connection; what it holds is released by up_cancel, which its owner
 * calls whatever the outcome. */
static struct up_attempt *attempt_detach(struct h1_up *u)
{
    struct up_attempt *a = u->attempt;
    u->attempt = NULL;
    if (a) {
        a->conn = NULL;
        a->over = true;
    }
    return a;
}

static void conn_fail(struct h1_up *u, enum up_fail why, const char *detail)
{
    bool untouched = !u->answer_begun && (u->was_idle || u->state == CONN_DIAL);
    char text[160];
    slice_copy(slice_head(slice_str(detail ? detail : ""), sizeof text - 1), text, sizeof text);
    struct up_attempt *a = attempt_detach(u);
    conn_close(u);
    if (a)
        up_attempt_failed(a, why, untouched, detail ? text : NULL);
}

static void connect_late(struct loop_timer *t)
{
    conn_fail(CONTAINER_OF(t, struct h1_up, conn.timer), UP_FAIL_CONNECT, "connection timeout");
}

static void conn_begin(struct h1_up *u, struct up_attempt *a)
{
    u->state = CONN_BUSY;
    u->attempt = a;
    u->served++;
    u->request_done = u->answer_begun = u->raw = u->keep = u->full = u->chunked = u->paused = false;
    u->head = NULL;
    a->conn = &u->conn;
    h1_expect_response(&u->parser, a->head_request, a->connect_request, a->upgrade_request);
    loop_timer_clear(loop_of(u), &u->conn.timer);
}

static void conn_opened(struct h1_up *u)
{
    struct up_attempt *a = u->attempt;
    if (!a) {
        conn_close(u); /* the request gave up meanwhile */
        return;
    }
    conn_begin(u, a);
    a->ops->on_ready(a);
}

static void conn_init(struct h1_up *u, struct up_attempt *a)
{
    const struct limits *l = a->cluster->worker->limits;
    u->conn.ops = &h1_ops;
    u->state = CONN_DIAL;
    u->attempt = a;
    a->conn = &u->conn;
    struct h1_limits limits = {.head_bytes = l->head_bytes, .head_fields = l->head_fields};
    h1_response_init(&u->parser, &limits);
    buf_init(&u->out, l->buffer_bytes * 2 + WORKER_SCRATCH);
    chan_owner(u->conn.chan, conn_event, u);
    if (u->conn.chan->open)
        conn_opened(u);
}

void h1_up_adopt(struct up_attempt *a, struct up_conn *from)
{
    struct h1_up *u = mem_zalloc(sizeof *u);
    if (!u) {
        up_attempt_failed(a, UP_FAIL_OVERFLOW, true, "out of memory");
        chan_close(from->chan);
        from->host->cluster->conns--;
        up_host_unref(from->host);
        return;
    }
    u->conn.host = from->host;
    u->conn.chan = from->chan;
    u->conn.born_ns = from->born_ns;
    conn_init(u, a);
}

void h1_up_dial(struct up_attempt *a)
{
    struct err err = {0};
    struct h1_up *u = mem_zalloc(sizeof *u);
    if (!u) {
        up_attempt_failed(a, UP_FAIL_OVERFLOW, true, "out of memory");
        return;
    }
    enum up_fail why = up_conn_dial(&u->conn, a, UP_ALPN_HTTP1, connect_late, &err);
    if (why != UP_FAIL_NONE) {
        mem_free(u);
        up_attempt_failed(a, why, true, err.msg);
        return;
    }
    conn_init(u, a);
}

/* Has its server ended an idle connection, or said something that nobody asked for? Between the
 * loop's turns that shows in the socket alone; a request that must not be sent twice is worth the
 * syscall. */
static bool conn_stale(const struct h1_up *u)
{
    char byte;
    int fd = chan_fd(u->conn.chan);
    return fd >= 0 && (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
                       (errno != EAGAIN && errno != EINTR));
}

void h1_up_drop_stale(struct up_host *h)
{
    while (h->idle && conn_stale(h->idle))
        conn_close(h->idle);
}

bool h1_up_take(struct up_attempt *a)
{
    struct h1_up *u = a->host->idle;
    if (!u)
        return false;
    idle_unlink(u);
    u->was_idle = true;
    conn_begin(u, a);
    a->ops->on_ready(a);
    return true;
}

static void h1_cancel(struct up_attempt *a)
{
    struct h1_up *u = of_attempt(a);
    attempt_detach(u);
    conn_close(u);
}

/* --- sending
 * ----------------------------------------------------------------------------------------- */

/* The queue shrank: whoever was told that it is full may go on. */
static void conn_drained(struct h1_up *u)
{
    if (!u->full || buf_len(&u->out) > u->conn.host->cluster->worker->limits->buffer_bytes / 2)
        return;
    u->full = false;
    if (u->attempt)
        u->attempt->ops->on_drain(u->attempt);
}

static void conn_write(struct h1_up *u)
{
    while (buf_len(&u->out)) {
        struct slice s = buf_slice(&u->out);
        size_t n;
        enum err_code rc = chan_write(u->conn.chan, s.p, s.len, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc != ERR_OK) {
            /* The answer may be there all the same (a server that refuses a body early); reading
             * tells, and no event comes of itself any more. */
            buf_reset(&u->out);
            chan_resume(u->conn.chan);
            return;
        }
        buf_consume(&u->out, n);
    }
    buf_fini(&u->out);
    if (u->shut)
        chan_shutdown(u->conn.chan);
}

static void conn_flush(struct h1_up *u)
{
    conn_write(u);
    conn_drained(u);
}

static void conn_flush_task(struct loop_task *t)
{
    conn_flush(CONTAINER_OF(t, struct h1_up, flush));
}

static enum err_code queued(struct h1_up *u)
{
    if (!u->flush.prev)
        loop_task_add(loop_of(u), &u->flush, conn_flush_task);
    u->full = buf_len(&u->out) > u->conn.host->cluster->worker->limits->buffer_bytes;
    return u->full ? ERR_LIMIT : ERR_OK;
}

static enum err_code h1_head(struct up_attempt *a, const struct http_head *head)
{
    struct h1_up *u = of_attempt(a);
    u->chunked = head->body == HTTP_BODY_STREAM;
    enum err_code rc = h1_write_request(&u->out, head, false);
    if (rc != ERR_OK)
        return rc;
    return queued(u);
}

static enum err_code h1_body(struct up_attempt *a, struct slice bytes)
{
    struct h1_up *u = of_attempt(a);
    if (u->chunked && !u->raw)
        h1_write_chunk(&u->out, bytes);
    else
        buf_add_slice(&u->out, bytes);
    return queued(u);
}

static enum err_code h1_end(struct up_attempt *a, const struct http_head *trailers)
{
    struct h1_up *u = of_attempt(a);
    u->request_done = true;
    if (u->raw)
        u->shut = true;
    else if (u->chunked)
        h1_write_last_chunk(&u->out, trailers);
    return queued(u);
}

static void h1_flush(struct up_attempt *a)
{
    struct h1_up *u = of_attempt(a);
    loop_task_clear(loop_of(u), &u->flush);
    conn_flush(u);
}

static void h1_resume(struct up_attempt *a)
{
    struct h1_up *u = of_attempt(a);
    u->paused = false;
    chan_resume(u->conn.chan);
}

static const struct up_conn_ops h1_ops = {
    .head = h1_head,
    .body = h1_body,
    .end = h1_end,
    .flush = h1_flush,
    .resume = h1_resume,
    .cancel = h1_cancel,
};

/* --- receiving
 * ------------------------------------------------------------------------------------------ */

enum verdict { GO_ON, STOP }; /* STOP: paused, over or closed */

static enum verdict answer_whole(struct h1_up *u, struct http_head *trailers)
{
    struct up_attempt *a = attempt_detach(u);
    conn_release(u);
    if (a)
        a->ops->on_end(a, trailers);
    return STOP;
}

static enum verdict answer_head(struct h1_up *u, struct http_head *head)
{
    struct up_attempt *a = u->attempt;
    bool interim = u->parser.interim;
    if (!interim) {
        u->keep = head->keep_alive;
        u->raw = head->status == 101 || (a->connect_request && head->status / 100 == 2);
        u->answer_begun = true;
    }
    a->ops->on_head(a, head, interim);
    return u->state == CONN_BUSY && u->attempt == a ? GO_ON : STOP;
}

/* One for each head and one for the trailers; none for each piece of the body. */
static struct http_head *head_to_fill(struct h1_up *u)
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
static enum verdict answer_bytes(struct h1_up *u, struct slice in)
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
                u->keep =
                    false; /* bytes that nobody asked for: the connection is not to be trusted */
            return answer_whole(u, head->n_fields ? head : NULL);
        case H1_EV_REFUSED:
            conn_fail(u, UP_FAIL_PROTOCOL, h1_refusal_detail(u->parser.refusal));
            return STOP;
        }
    }
    return STOP;
}

static void answer_eof(struct h1_up *u)
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

static void conn_readable(struct h1_up *u)
{
    struct worker *w = u->conn.host->cluster->worker;
    uint32_t budget = w->limits->turn_bytes;
    while (u->state == CONN_BUSY && !u->paused) {
        size_t n;
        enum err_code rc = chan_read(u->conn.chan, w->scratch, WORKER_SCRATCH, &n);
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
            chan_resume(u->conn.chan);
            return;
        }
        budget -= (uint32_t)n;
    }
}

/* Nothing is expected on an idle connection: an end or bytes that nobody asked for close it;
 * session tickets and events that came late do not. */
static void idle_event(struct h1_up *u, unsigned events)
{
    char byte;
    size_t n;
    if (events & CHAN_FAIL || chan_read(u->conn.chan, &byte, 1, &n) != ERR_AGAIN)
        conn_close(u);
}

static void conn_event(void *user, unsigned events)
{
    struct h1_up *u = user;
    if (u->state == CONN_DIAL) {
        if (events & CHAN_FAIL)
            conn_fail(u, chan_is_tls(u->conn.chan) ? UP_FAIL_TLS : UP_FAIL_CONNECT,
                      chan_is_tls(u->conn.chan) ? tls_chan_error(u->conn.chan)
                                                : "connection refused");
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
