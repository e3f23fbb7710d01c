/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/server.h"

#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h1.h"

enum {
    READ_BYTES = 16 * 1024,
    READS_PER_TURN = 8,
    ACCEPTS_PER_TURN = 16,
    HEAD_BYTES = 16 * 1024,
    OUT_MAX = 64 << 20,
    DISCARD_MAX = 256 * 1024, /* read after the last answer, so that it is not lost in a reset */
};
#define LINGER_NS NS_PER_S
#define PAUSE_NS (100 * NS_PER_MS)

struct door {
    struct door *next;
    struct http_server *server;
    struct loop_io io;
    int fd, tag;
};

struct http_server {
    struct loop *loop;
    struct http_server_opts opts;
    http_handler_fn *handler;
    void *user;
    struct door *doors;
    struct http_exchange *conns; /* the newest first */
    unsigned n_conns;
    struct loop_timer pause; /* out of descriptors: no accept until then */
    struct loop_task gone;
    bool draining;
};

/* A connection and the request on it. */
struct http_exchange {
    struct http_exchange *next, **prev;
    struct http_server *server;
    struct chan *chan;
    struct sock_addr peer;
    int tag;
    struct h1_parser parser;
    struct arena arena;
    struct http_head head;
    struct buf in, body, out; /* bytes of the next request; of this request; of the answer */
    struct loop_timer timer;
    struct loop_task turn, gone;
    void (*on_gone)(void *user);
    void *on_gone_user;
    uint32_t discarded;
    bool begun, have_head; /* of the current request */
    bool waiting;          /* for the handler's answer */
    bool close;            /* after this answer */
    bool lingering;        /* the last answer is out; waits for the client's end */
    bool pumping, eof, closed;
};

static void pump(struct http_exchange *x);

/* --- connections ---------------------------------------------------------------------------------
 */

static void conn_free(struct loop_task *t)
{
    struct http_exchange *x = CONTAINER_OF(t, struct http_exchange, gone);

    h1_fini(&x->parser);
    arena_fini(&x->arena);
    buf_fini(&x->in);
    buf_fini(&x->body);
    buf_fini(&x->out);
    mem_free(x);
}

static void conn_leave(struct http_exchange *x)
{
    *x->prev = x->next;
    if (x->next)
        x->next->prev = x->prev;
    loop_task_add(x->server->loop, &x->gone, conn_free);
}

static void conn_close(struct http_exchange *x)
{
    struct http_server *s = x->server;

    if (x->closed)
        return;
    x->closed = true;
    loop_timer_clear(s->loop, &x->timer);
    loop_task_clear(s->loop, &x->turn);
    chan_close(x->chan);
    s->n_conns--;
    if (x->waiting && !x->on_gone)
        return; /* the handler holds it: http_reply takes it away */
    conn_leave(x);
    if (x->waiting)
        x->on_gone(x->on_gone_user);
}

static void too_late(struct loop_timer *t)
{
    conn_close(CONTAINER_OF(t, struct http_exchange, timer));
}

static void deadline(struct http_exchange *x, int64_t ns)
{
    if (loop_timer_in(x->server->loop, &x->timer, ns, too_late) < 0)
        conn_close(x);
}

static void go_idle(struct http_exchange *x)
{
    arena_fini(&x->arena);
    buf_fini(&x->body);
    x->begun = x->have_head = false;
    deadline(x, x->server->opts.idle_ns);
}

static void turn_end(struct loop_task *t)
{
    pump(CONTAINER_OF(t, struct http_exchange, turn));
}

static void later(struct http_exchange *x)
{
    if (!x->pumping && !x->closed && !x->turn.prev)
        loop_task_add(x->server->loop, &x->turn, turn_end);
}

/* --- answers -------------------------------------------------------------------------------------
 */

static void linger(struct http_exchange *x)
{
    if (x->eof) {
        conn_close(x);
        return;
    }
    x->lingering = true;
    chan_shutdown(x->chan);
    deadline(x, LINGER_NS);
}

/* True when all was written and the connection goes on. */
static bool flush(struct http_exchange *x)
{
    while (buf_len(&x->out)) {
        struct slice s = buf_slice(&x->out);
        size_t n;
        enum err_code rc = chan_write(x->chan, s.p, s.len, &n);

        if (rc == ERR_AGAIN)
            return false;
        if (rc != ERR_OK) {
            conn_close(x);
            return false;
        }
        buf_consume(&x->out, n);
        if (!x->begun) /* who takes bytes is not idle */
            deadline(x, x->server->opts.idle_ns);
    }
    buf_fini(&x->out);
    if (x->close && !x->waiting && !x->begun && !x->lingering && !x->closed)
        linger(x);
    return !x->closed;
}

static void reply(struct http_exchange *x, unsigned status, const char *type, struct slice body)
{
    struct http_head h;
    bool bare = status < 200 || status == 204 || status == 304;
    enum err_code rc = ERR_OK;

    http_head_init(&h, &x->arena);
    h.status = (uint16_t)status;
    h.body = bare ? HTTP_BODY_NONE : HTTP_BODY_LENGTH;
    h.content_length = body.len;
    if (type && !bare)
        rc = http_head_add(&h, SL("content-type"), slice_str(type));
    if (rc == ERR_OK)
        rc = h1_write_response(&x->out, &h, x->close);
    if (!bare && !(x->have_head && slice_is(x->head.method, "HEAD")))
        buf_add_slice(&x->out, body);
    if (rc != ERR_OK || buf_err(&x->out) != ERR_OK) {
        conn_close(x);
        return;
    }
    go_idle(x);
    later(x);
}

void http_reply(struct http_exchange *x, unsigned status, const char *content_type,
                struct slice body)
{
    x->waiting = false;
    x->on_gone = NULL;
    if (x->closed)
        conn_leave(x);
    else
        reply(x, status, content_type, body);
}

static void refuse(struct http_exchange *x, unsigned status, const char *why)
{
    x->close = true;
    reply(x, status, "text/plain", slice_str(why));
}

/* --- requests ------------------------------------------------------------------------------------
 */

static void begin(struct http_exchange *x)
{
    x->begun = true;
    http_head_init(&x->head, &x->arena);
    deadline(x, x->server->opts.request_ns);
}

/* True when the content may come. */
static bool head_arrived(struct http_exchange *x)
{
    const struct http_head *h = &x->head;

    x->have_head = true;
    if (!h->keep_alive || x->server->draining)
        x->close = true;
    if (slice_is(h->method, "CONNECT")) {
        refuse(x, 405, "no tunnels here\n");
        return false;
    }
    if (h->body == HTTP_BODY_LENGTH && h->content_length > x->server->opts.max_body) {
        refuse(x, 413, "body too large\n");
        return false;
    }
    if (h->expect_continue && h->version == HTTP_1_1 && h->body != HTTP_BODY_NONE)
        buf_add_str(&x->out, "HTTP/1.1 100 Continue\r\n\r\n");
    return true;
}

static void whole(struct http_exchange *x)
{
    x->waiting = true;
    loop_timer_clear(x->server->loop, &x->timer);
    x->server->handler(x->server->user, x);
}

/* At most one request. The bytes behind it are returned. */
static struct slice parse(struct http_exchange *x, struct slice in)
{
    while (!x->closed) {
        struct http_head trailers, *head = &x->head;
        struct slice body;
        size_t used = 0;

        if (!x->begun && in.len == 0)
            break;
        if (!x->begun)
            begin(x);
        if (x->have_head) {
            http_head_init(&trailers, &x->arena);
            head = &trailers;
        }
        enum h1_event ev = h1_step(&x->parser, in, &used, head, &body);
        in = slice_skip(in, used);
        switch (ev) {
        case H1_EV_MORE:
            return SLICE_NULL;
        case H1_EV_HEAD:
            if (!head_arrived(x))
                return SLICE_NULL;
            break;
        case H1_EV_BODY:
            buf_add_slice(&x->body, body);
            if (buf_err(&x->body) != ERR_OK) {
                refuse(x, buf_err(&x->body) == ERR_LIMIT ? 413 : 503, "body too large\n");
                return SLICE_NULL;
            }
            break;
        case H1_EV_END:
            whole(x);
            return in;
        case H1_EV_REFUSED:
            refuse(x, h1_refusal_status(x->parser.refusal), h1_refusal_detail(x->parser.refusal));
            return SLICE_NULL;
        }
    }
    return SLICE_NULL;
}

/* Keep what belongs to the next request. */
static void keep(struct http_exchange *x, struct slice rest)
{
    if (x->closed || x->close || rest.len == 0)
        return;
    buf_add_slice(&x->in, rest);
    if (buf_err(&x->in) != ERR_OK)
        conn_close(x);
}

static void parse_kept(struct http_exchange *x)
{
    struct buf in = x->in;

    buf_init(&x->in, in.max);
    keep(x, parse(x, buf_slice(&in)));
    buf_fini(&in);
}

/* Read once; false when there is nothing to do now. */
static bool input(struct http_exchange *x)
{
    char bytes[READ_BYTES];
    size_t n;
    enum err_code rc = chan_read(x->chan, bytes, sizeof bytes, &n);

    if (rc == ERR_AGAIN)
        return false;
    if (rc != ERR_OK) {
        x->eof = true;
        conn_close(x);
    } else if (x->lingering) {
        x->discarded += (uint32_t)n;
        if (x->discarded > DISCARD_MAX)
            conn_close(x);
    } else if (x->waiting) {
        keep(x, slice_of(bytes, n));
    } else {
        keep(x, parse(x, slice_of(bytes, n)));
    }
    return !x->closed;
}

/* Everything that can be done now: write, then the next request. While the handler thinks, reading
 * goes on only for somebody who wants to know that the client went away. */
static void pump(struct http_exchange *x)
{
    x->pumping = true;
    for (int reads = 0; !x->closed;) {
        if (!flush(x))
            break;
        if (x->waiting && (!x->on_gone || buf_len(&x->in) >= READ_BYTES))
            break;
        if (!x->waiting && !x->lingering && buf_len(&x->in)) {
            parse_kept(x);
            continue;
        }
        if (++reads > READS_PER_TURN) {
            chan_resume(x->chan);
            break;
        }
        if (!input(x))
            break;
    }
    x->pumping = false;
}

static void on_chan(void *user, unsigned events)
{
    struct http_exchange *x = user;

    if (events & CHAN_FAIL)
        conn_close(x);
    else
        pump(x);
}

/* --- listeners -----------------------------------------------------------------------------------
 */

/* Room for a newcomer: the connection that has been idle longest goes, so that idle clients cannot
 * keep a probe out. */
static bool make_room(struct http_server *s)
{
    struct http_exchange *victim = NULL;

    if (s->n_conns < s->opts.max_connections)
        return true;
    for (struct http_exchange *x = s->conns; x; x = x->next)
        if (!x->closed && !x->begun && buf_len(&x->out) == 0 &&
            (!victim || x->timer.deadline_ns < victim->timer.deadline_ns))
            victim = x;
    if (!victim)
        return false;
    conn_close(victim);
    return true;
}

static void accept_one(struct door *d, int fd, const struct sock_addr *peer)
{
    struct http_server *s = d->server;
    struct h1_limits limits = {.head_bytes = HEAD_BYTES};
    struct http_exchange *x;
    struct chan *chan;

    if (chan_tcp(s->loop, fd, true, &chan, NULL) < 0)
        return;
    x = make_room(s) ? mem_zalloc(sizeof *x) : NULL;
    if (!x) {
        chan_close(chan);
        return;
    }
    x->server = s;
    x->chan = chan;
    x->peer = *peer;
    x->tag = d->tag;
    h1_request_init(&x->parser, &limits);
    arena_init(&x->arena, 1024, (size_t)HEAD_BYTES * 8);
    buf_init(&x->in, (size_t)READ_BYTES * 2);
    buf_init(&x->body, s->opts.max_body);
    buf_init(&x->out, OUT_MAX);
    x->next = s->conns;
    x->prev = &s->conns;
    if (x->next)
        x->next->prev = &x->next;
    s->conns = x;
    s->n_conns++;
    chan_owner(chan, on_chan, x);
    go_idle(x);
    later(x); /* its first bytes are often there already */
}

static void on_door(struct loop_io *io, unsigned events);

static void pause_over(struct loop_timer *t)
{
    struct http_server *s = CONTAINER_OF(t, struct http_server, pause);

    for (struct door *d = s->doors; d; d = d->next)
        loop_io_level(s->loop, &d->io, d->fd, LOOP_READ, on_door, NULL);
}

/* No descriptors are left: a listener stays readable, and the loop would spin. */
static void accept_pause(struct http_server *s)
{
    if (loop_timer_in(s->loop, &s->pause, PAUSE_NS, pause_over) < 0)
        return;
    for (struct door *d = s->doors; d; d = d->next)
        loop_io_del(s->loop, &d->io);
}

static void on_door(struct loop_io *io, unsigned events)
{
    struct door *d = CONTAINER_OF(io, struct door, io);
    struct sock_addr peer;
    enum err_code rc = ERR_OK;
    int fd;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && rc == ERR_OK; i++) {
        rc = sock_accept(d->fd, &fd, &peer);
        if (rc == ERR_OK)
            accept_one(d, fd, &peer);
    }
    if (rc == ERR_LIMIT)
        accept_pause(d->server);
    else if (rc == ERR_IO)
        loop_io_del(d->server->loop, &d->io);
}

/* --- life ----------------------------------------------------------------------------------------
 */

int http_server_new(struct loop *loop, const struct http_server_opts *opts,
                    http_handler_fn *handler, void *user, struct http_server **ret, struct err *err)
{
    struct http_server *s = mem_zalloc(sizeof *s);

    if (!s)
        return err_set(err, ERR_NOMEM, "HTTP server");
    s->loop = loop;
    s->handler = handler;
    s->user = user;
    if (opts)
        s->opts = *opts;
    if (!s->opts.max_connections)
        s->opts.max_connections = 64;
    if (!s->opts.max_body)
        s->opts.max_body = 64 * 1024;
    if (!s->opts.idle_ns)
        s->opts.idle_ns = 60 * NS_PER_S;
    if (!s->opts.request_ns)
        s->opts.request_ns = 10 * NS_PER_S;
    *ret = s;
    return 0;
}

int http_server_listen(struct http_server *s, int fd, int tag, struct err *err)
{
    struct door *d = mem_zalloc(sizeof *d);

    if (!d) {
        close(fd);
        return err_set(err, ERR_NOMEM, "HTTP server");
    }
    d->server = s;
    d->fd = fd;
    d->tag = tag;
    if (loop_io_level(s->loop, &d->io, fd, LOOP_READ, on_door, err) < 0) {
        close(fd);
        mem_free(d);
        return -1;
    }
    d->next = s->doors;
    s->doors = d;
    return 0;
}

static void doors_close(struct http_server *s)
{
    loop_timer_clear(s->loop, &s->pause);
    for (struct door *d = s->doors; d; d = d->next) {
        loop_io_del(s->loop, &d->io);
        if (d->fd >= 0)
            close(d->fd);
        d->fd = -1;
    }
}

void http_server_drain(struct http_server *s)
{
    s->draining = true;
    doors_close(s);
    for (struct http_exchange *x = s->conns, *next; x; x = next) {
        next = x->next;
        x->close = true;
        if (!x->begun && !x->lingering && buf_len(&x->out) == 0)
            conn_close(x);
    }
}

unsigned http_server_connections(const struct http_server *s)
{
    return s->n_conns;
}

static void server_free(struct loop_task *t)
{
    struct http_server *s = CONTAINER_OF(t, struct http_server, gone);

    while (s->doors) {
        struct door *d = s->doors;

        s->doors = d->next;
        mem_free(d);
    }
    mem_free(s);
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    for (struct http_exchange *x; (x = s->conns);) {
        x->waiting = false;
        if (x->closed)
            conn_leave(x);
        else
            conn_close(x);
    }
    doors_close(s);
    loop_task_add(s->loop, &s->gone, server_free);
}

const struct http_head *http_exchange_head(const struct http_exchange *x)
{
    return &x->head;
}

struct slice http_exchange_path(const struct http_exchange *x)
{
    ptrdiff_t q = slice_chr(x->head.path, '?');
    return q < 0 ? x->head.path : slice_head(x->head.path, (size_t)q);
}

static struct slice percent_decode(struct arena *a, struct slice in)
{
    char *out = arena_alloc(a, in.len + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < in.len; i++) {
        uint64_t v;
        if (in.p[i] == '%' && i + 2 < in.len && slice_hex64(slice_of(in.p + i + 1, 2), &v)) {
            out[n++] = (char)v;
            i += 2;
        } else {
            out[n++] = in.p[i] == '+' ? ' ' : in.p[i];
        }
    }
    return out ? slice_of(out, n) : SLICE_NULL;
}

struct slice http_exchange_query(const struct http_exchange *x, struct slice name)
{
    ptrdiff_t q = slice_chr(x->head.path, '?');
    struct slice rest = q < 0 ? SLICE_NULL : slice_skip(x->head.path, (size_t)q + 1), item;
    while (rest.len && slice_next(&rest, '&', &item)) {
        ptrdiff_t eq = slice_chr(item, '=');
        struct slice key = eq < 0 ? item : slice_head(item, (size_t)eq);
        if (slice_eq(key, name))
            return percent_decode((struct arena *)(uintptr_t)&x->arena,
                                  eq < 0 ? SL("") : slice_skip(item, (size_t)eq + 1));
    }
    return SLICE_NULL;
}

struct slice http_exchange_body(const struct http_exchange *x)
{
    return buf_slice(&x->body);
}

int http_exchange_tag(const struct http_exchange *x)
{
    return x->tag;
}

bool http_exchange_is(const struct http_exchange *x, const char *method, const char *path)
{
    bool get = strcmp(method, "GET") == 0 && slice_is(x->head.method, "HEAD");
    return (get || slice_is(x->head.method, method)) && slice_is(http_exchange_path(x), path);
}

const struct sock_addr *http_exchange_peer(const struct http_exchange *x)
{
    return &x->peer;
}

struct arena *http_exchange_arena(struct http_exchange *x)
{
    return &x->arena;
}

void http_exchange_on_gone(struct http_exchange *x, void (*gone)(void *user), void *user)
{
    x->on_gone = gone;
    x->on_gone_user = user;
    later(x);
}
