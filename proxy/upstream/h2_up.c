/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 connections to hosts: as few as the peer's limit on streams allows, dialled when needed,
 * shared by all attempts of the worker to that host. One that takes no more requests (its server
 * said GOAWAY, it has carried as many as it may, its host is gone) leaves the host's list and ends
 * with its last stream. */
#include <errno.h>
#include <sys/socket.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h2.h"
#include "proxy/down.h"
#include "proxy/upstream/pool.h"
#include "proxy/worker.h"

/* ROOM_ASSUMED: before the peer has told its limit, one of at least 100 is to be expected (RFC
 * 9113 6.5.2). STREAM_WINDOW: what a server may send of an answer ahead of its client. CROWDED: so
 * much of that has come for clients that do not take it that new requests go elsewhere, long before
 * the connection's window closes (`held_max`): they would share its fate. */
enum {
    ROOM_ASSUMED = 100,
    STREAM_WINDOW = 256 * 1024,
    CONN_WINDOW = 1024 * 1024,
    CROWDED = STREAM_WINDOW, /* of more than one stream, then */
    LINGER_MS = 1000,
};

struct h2_up {
    struct up_conn conn;        /* its channel is the session's once there is one */
    struct h2_up *next, **prev; /* the host's list: may take another request */
    struct up_attempt *waiting; /* until it is open, oldest first */
    struct up_attempt **waiting_tail;
    struct h2 *session; /* NULL: not open */
    struct loop_timer ping;
    int64_t idle_since_ns;
    uint32_t n_waiting, served;
    bool shared; /* carries HTTP/1.1 */
    bool ponged, closed;
};

static const struct up_conn_ops conn_ops;
static void dial_event(void *user, unsigned events);

static struct loop *loop_of(const struct h2_up *u)
{
    return u->conn.host->cluster->worker->loop;
}

static struct h2_up *of_attempt(const struct up_attempt *a)
{
    return CONTAINER_OF(a->conn, struct h2_up, conn);
}

/* --- the host's list
 * ------------------------------------------------------------------------------- */

static void list_add(struct h2_up *u)
{
    struct h2_up **end = &u->conn.host->h2;
    while (*end)
        end = &(*end)->next;
    u->prev = end;
    *end = u;
}

/* No new request from now on. */
static void list_leave(struct h2_up *u)
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
    struct h2_up *u = CONTAINER_OF(t, struct h2_up, conn.gone);
    up_host_unref(u->conn.host);
    mem_free(u);
}

/* The connection is no more; attempts that were on it were told or do not want to know. */
static void conn_gone(struct h2_up *u)
{
    if (u->closed)
        return;
    u->closed = true;
    list_leave(u);
    loop_timer_clear(loop_of(u), &u->ping);
    if (u->session) {
        h2_close(u->session);
        u->session = NULL;
        u->conn.chan = NULL; /* was the session's */
    }
    up_conn_gone(&u->conn, conn_free);
}

/* --- room
 * ------------------------------------------------------------------------------------------- */

/* How many more requests it takes. */
static uint32_t conn_room(const struct h2_up *u)
{
    const __typeof__(u->conn.host->cluster->cfg->pool) *pool = &u->conn.host->cluster->cfg->pool;
    uint32_t under_way = u->session ? h2_streams(u->session) : u->n_waiting;
    uint32_t room = u->session                 ? h2_room(u->session)
                    : under_way < ROOM_ASSUMED ? ROOM_ASSUMED - under_way
                                               : 0;
    if (u->shared)
        room = MIN(room, SHARED_STREAMS > under_way ? SHARED_STREAMS - under_way : 0);
    if (pool->max_streams)
        room = MIN(room, pool->max_streams > under_way ? pool->max_streams - under_way : 0);
    if (pool->max_requests_per_connection) {
        uint32_t used = u->served + u->n_waiting;
        room = MIN(room, pool->max_requests_per_connection > used
                             ? pool->max_requests_per_connection - used
                             : 0);
    }
    return room;
}

/* Has its server perhaps ended a connection on which nothing is under way? Between the loop's turns
 * that shows in the socket alone; a request that must not be sent twice is not put to the test. */
static bool conn_doubtful(const struct h2_up *u)
{
    char byte;
    int fd = u->session && h2_streams(u->session) == 0 ? chan_fd(u->conn.chan) : -1;
    return fd >= 0 && (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
                       (errno != EAGAIN && errno != EINTR));
}

static bool conn_crowded(const struct h2_up *u)
{
    return u->session && h2_held(u->session) > CROWDED;
}

bool h2_up_has_room(const struct up_host *h, bool shared)
{
    for (const struct h2_up *u = h->h2; u; u = u->next)
        if (u->shared == shared && conn_room(u) > 0)
            return true;
    return false;
}

/* --- attempts that wait until it is open
 * ------------------------------------------------------------- */

static void wait_add(struct h2_up *u, struct up_attempt *a)
{
    a->conn = &u->conn;
    a->stream = NULL;
    a->next = NULL;
    a->prev = u->waiting_tail;
    *u->waiting_tail = a;
    u->waiting_tail = &a->next;
    u->n_waiting++;
}

static void wait_remove(struct h2_up *u, struct up_attempt *a)
{
    *a->prev = a->next;
    if (a->next)
        a->next->prev = a->prev;
    else
        u->waiting_tail = a->prev;
    a->prev = NULL;
    a->next = NULL;
    a->conn = NULL;
    u->n_waiting--;
}

/* It did not open, or was gone before all of them had their turn. */
static void waiting_fail(struct h2_up *u, enum up_fail why, const char *detail)
{
    for (struct up_attempt *a; (a = u->waiting);) {
        wait_remove(u, a);
        up_attempt_failed(a, why, true, detail);
    }
}

static void dial_failed(struct h2_up *u, enum up_fail why, const char *detail)
{
    char text[160];
    slice_copy(slice_head(slice_str(detail), sizeof text - 1), text, sizeof text);
    list_leave(u); /* before the callbacks: who tries again is not to wait for this one */
    waiting_fail(u, why, text);
    conn_gone(u);
}

static void connect_late(struct loop_timer *t)
{
    dial_failed(CONTAINER_OF(t, struct h2_up, conn.timer), UP_FAIL_CONNECT, "connection timeout");
}

/* --- streams
 * ---------------------------------------------------------------------------------------- */

static void begin(struct h2_up *u, struct up_attempt *a)
{
    uint32_t max = u->conn.host->cluster->cfg->pool.max_requests_per_connection;
    a->conn = &u->conn;
    a->stream = NULL;
    a->reused = u->served > 0;
    u->served++;
    if (max && u->served >= max)
        list_leave(u);
    a->ops->on_ready(a);
}

/* The stream is over: what the attempt holds besides is released by up_cancel. */
static struct up_attempt *detach(struct h2_stream *s)
{
    struct up_attempt *a = h2_stream_user(s);
    a->conn = NULL;
    a->stream = NULL;
    a->over = true;
    return a;
}

static void on_head(struct h2_stream *s, struct http_head *head, bool interim)
{
    struct up_attempt *a = h2_stream_user(s);
    a->answer_begun |= !interim;
    a->ops->on_head(a, head, interim);
}

static void on_body(struct h2_stream *s, struct slice bytes)
{
    struct up_attempt *a = h2_stream_user(s);
    if (!a->ops->on_body(a, bytes) && a->stream == s)
        h2_pause(s, true);
}

static void on_end(struct h2_stream *s, struct http_head *trailers)
{
    struct up_attempt *a = detach(s);
    a->ops->on_end(a, trailers);
}

static void on_reset(struct h2_stream *s, enum h2_why why, uint32_t code, const char *detail,
                     bool untouched)
{
    static const enum up_fail fails[] = {
        [H2_WHY_PEER] = UP_FAIL_REMOTE_RESET,  [H2_WHY_REFUSED] = UP_FAIL_REFUSED,
        [H2_WHY_MALFORMED] = UP_FAIL_PROTOCOL, [H2_WHY_STALLED] = UP_FAIL_RESET,
        [H2_WHY_LOST] = UP_FAIL_RESET,         [H2_WHY_MEMORY] = UP_FAIL_OVERFLOW,
    };
    struct up_attempt *a = detach(s);
    (void)code;
    if (why == H2_WHY_LOST) /* it may have been ended before the request got there */
        untouched |= a->reused && !a->answer_begun;
    up_attempt_failed(a, fails[why], untouched, detail);
}

static void on_drain(struct h2_stream *s)
{
    struct up_attempt *a = h2_stream_user(s);
    a->ops->on_drain(a);
}

/* --- the session
 * ------------------------------------------------------------------------------------- */

static void on_settings(struct h2 *h)
{
    struct h2_up *u = h2_user(h);
    up_pool_room(u->conn.host->cluster);
}

static void on_room(struct h2 *h)
{
    struct h2_up *u = h2_user(h);
    if (h2_streams(h) == 0) {
        u->idle_since_ns = loop_now(loop_of(u));
        if (!u->prev && !u->waiting) { /* nothing will come any more */
            h2_drain(h);
            return;
        }
    }
    up_pool_room(u->conn.host->cluster);
}

static void on_goaway(struct h2 *h, uint32_t code)
{
    (void)code;
    list_leave(h2_user(h));
}

static void on_ping(struct h2 *h)
{
    struct h2_up *u = h2_user(h);
    u->ponged = true;
}

static void on_closed(struct h2 *h, const struct err *why)
{
    struct h2_up *u = h2_user(h);
    u->session = NULL;
    u->conn.chan = NULL;
    list_leave(u);
    waiting_fail(u, UP_FAIL_RESET, why->msg);
    conn_gone(u);
}

static const struct h2_ops session_ops = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_drain = on_drain,
    .on_settings = on_settings,
    .on_room = on_room,
    .on_goaway = on_goaway,
    .on_ping = on_ping,
    .on_closed = on_closed,
};

/* --- timers
 * ------------------------------------------------------------------------------------------ */

/* One timer that runs through: requests do not touch it. */
static void idle_check(struct loop_timer *t)
{
    struct h2_up *u = CONTAINER_OF(t, struct h2_up, conn.timer);
    bool busy = h2_streams(u->session) > 0;
    int64_t limit = up_conn_idle_ns(&u->conn);
    int64_t left =
        limit == INT64_MAX || busy ? limit : u->idle_since_ns + limit - loop_now(loop_of(u));
    if (left > 0)
        loop_timer_in(loop_of(u), t, left, idle_check);
    else if (busy)
        list_leave(u); /* its life is over (maxConnectionDuration) */
    else
        conn_gone(u);
}

static void ping_due(struct loop_timer *t);

static void linger_over(struct loop_timer *t)
{
    conn_gone(CONTAINER_OF(t, struct h2_up, ping));
}

static void ping_late(struct loop_timer *t)
{
    struct h2_up *u = CONTAINER_OF(t, struct h2_up, ping);
    const __typeof__(u->conn.host->cluster->cfg->pool) *pool = &u->conn.host->cluster->cfg->pool;
    if (u->ponged) {
        uint32_t rest = pool->ping_interval_ms > pool->ping_timeout_ms
                            ? pool->ping_interval_ms - pool->ping_timeout_ms
                            : 1;
        loop_timer_in(loop_of(u), t, rest * NS_PER_MS, ping_due);
        return;
    }
    list_leave(u);
    loop_timer_in(loop_of(u), t, LINGER_MS * NS_PER_MS, linger_over);
    h2_terminate(u->session, H2_NO_ERROR);
}

static void ping_due(struct loop_timer *t)
{
    struct h2_up *u = CONTAINER_OF(t, struct h2_up, ping);
    u->ponged = false;
    h2_ping(u->session);
    loop_timer_in(loop_of(u), t, u->conn.host->cluster->cfg->pool.ping_timeout_ms * NS_PER_MS,
                  ping_late);
}

/* --- opening
 * ----------------------------------------------------------------------------------------- */

static bool session_start(struct h2_up *u)
{
    struct worker *w = u->conn.host->cluster->worker;
    const struct limits *l = w->limits;
    struct h2_config config = {
        .stream_window = STREAM_WINDOW,
        .conn_window = CONN_WINDOW,
        .head_bytes = l->head_bytes,
        .head_fields = l->head_fields,
        .send_high = l->buffer_bytes,
        .turn_bytes = l->turn_bytes,
        .head_ns = l->head_timeout_ns,
        .stall_ns = l->write_timeout_ns,
        .scratch = w->scratch,
        .scratch_len = WORKER_SCRATCH,
    };
    if (u->shared) {
        config.stream_window = SHARED_WINDOW;
        config.held_max = SHARED_HELD_MAX;
        config.send_all = SHARED_STREAMS * 2 * l->buffer_bytes; /* all of them may be full */
        config.head_bytes += H2_FIELD_COST * l->head_fields; /* as HTTP/1 counts them */
    }
    struct chan *chan = u->conn.chan;
    struct err err = {0};
    u->conn.chan = NULL; /* taken in any case */
    if (h2_client(chan, &config, &session_ops, u, &u->session, &err) < 0)
        return false;
    u->conn.chan = chan;
    return true;
}

static void shell_free(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct h2_up, conn.gone));
}

/* The peer does not know shared connections: this one is the first waiting request's alone, the others
 * get theirs. No later one asks. */
static void opened_unshared(struct h2_up *u)
{
    struct up_attempt *a = u->waiting;
    u->conn.host->unshared = true;
    u->closed = true;
    list_leave(u);
    loop_timer_clear(loop_of(u), &u->conn.timer);
    loop_task_add(loop_of(u), &u->conn.gone, shell_free);
    wait_remove(u, a);
    a->h2 = a->shared = false;
    h1_up_adopt(a, &u->conn);
    while ((a = u->waiting)) {
        wait_remove(u, a);
        up_pool_unshared(a);
    }
}

static void opened(struct h2_up *u)
{
    struct up_cluster *c = u->conn.host->cluster;
    if (u->shared && !slice_is(tls_chan_alpn(u->conn.chan), TULLE_SHARED_ALPN)) {
        opened_unshared(u);
        return;
    }
    if (!session_start(u)) {
        dial_failed(u, UP_FAIL_OVERFLOW, "out of memory");
        return;
    }
    u->idle_since_ns = loop_now(loop_of(u));
    loop_timer_in(loop_of(u), &u->conn.timer, up_conn_idle_ns(&u->conn), idle_check);
    if (c->cfg->pool.ping_interval_ms)
        loop_timer_in(loop_of(u), &u->ping, c->cfg->pool.ping_interval_ms * NS_PER_MS, ping_due);
    for (struct up_attempt *a; (a = u->waiting);) {
        wait_remove(u, a);
        begin(u, a);
    }
    if (!u->prev && h2_streams(u->session) == 0)
        conn_gone(u); /* all gave up meanwhile, or the host went */
}

static void dial_event(void *user, unsigned events)
{
    struct h2_up *u = user;
    if (events & CHAN_FAIL) {
        bool tls = chan_is_tls(u->conn.chan);
        dial_failed(u, tls ? UP_FAIL_TLS : UP_FAIL_CONNECT,
                    tls ? tls_chan_error(u->conn.chan) : "connection refused");
    } else if (events & CHAN_OPEN) {
        opened(u);
    }
}

void h2_up_dial(struct up_attempt *a)
{
    struct err err = {0};
    struct h2_up *u = mem_zalloc(sizeof *u);
    if (!u) {
        up_attempt_failed(a, UP_FAIL_OVERFLOW, true, "out of memory");
        return;
    }
    enum up_alpn alpn = a->shared ? UP_ALPN_SHARED : UP_ALPN_HTTP2;
    enum up_fail why = up_conn_dial(&u->conn, a, alpn, connect_late, &err);
    if (why != UP_FAIL_NONE) {
        mem_free(u);
        up_attempt_failed(a, why, true, err.msg);
        return;
    }
    u->conn.ops = &conn_ops;
    u->shared = a->shared;
    u->waiting_tail = &u->waiting;
    list_add(u);
    wait_add(u, a);
    chan_owner(u->conn.chan, dial_event, u);
    if (u->conn.chan->open)
        opened(u);
}

bool h2_up_take(struct up_attempt *a, bool picky)
{
    struct h2_up *u = a->host->h2;
    while (u && (u->shared != a->shared || conn_room(u) == 0 ||
                 (picky && (conn_crowded(u) || (a->once && conn_doubtful(u))))))
        u = u->next;
    if (!u)
        return false;
    if (u->session)
        begin(u, a);
    else
        wait_add(u, a);
    return true;
}

void h2_up_close_idle(struct up_host *h)
{
    for (struct h2_up *u = h->h2, *next; u; u = next) {
        next = u->next;
        if (u->session ? h2_streams(u->session) == 0 : !u->waiting)
            conn_gone(u);
        else
            list_leave(u);
    }
}

/* --- what the attempt asks for
 * ------------------------------------------------------------------------ */

static enum err_code send_head(struct up_attempt *a, const struct http_head *head)
{
    struct h2_up *u = of_attempt(a);
    enum err_code rc = h2_request(u->session, head, a->arena, a, &a->stream);
    return rc == ERR_LIMIT ? ERR_UNAVAILABLE : rc;
}

static enum err_code send_body(struct up_attempt *a, struct slice bytes)
{
    return a->stream ? h2_body(a->stream, bytes) : ERR_CLOSED;
}

static enum err_code send_end(struct up_attempt *a, const struct http_head *trailers)
{
    return a->stream ? h2_end(a->stream, trailers) : ERR_CLOSED;
}

/* Gathered with what others have to say in this turn. */
static void flush(struct up_attempt *a)
{
    (void)a;
}

static void resume(struct up_attempt *a)
{
    if (a->stream)
        h2_pause(a->stream, false);
}

static void cancel(struct up_attempt *a)
{
    struct h2_up *u = of_attempt(a);
    struct h2_stream *s = a->stream;
    if (a->prev) {
        wait_remove(u, a);
        if (!u->session && !u->waiting)
            conn_gone(u);
        return;
    }
    a->conn = NULL;
    a->stream = NULL;
    if (s)
        h2_reset(s, H2_CANCEL);
}

static const struct up_conn_ops conn_ops = {
    .head = send_head,
    .body = send_body,
    .end = send_end,
    .flush = flush,
    .resume = resume,
    .cancel = cancel,
};
