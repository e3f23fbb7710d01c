/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/server.h"

#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h1.h"

enum { READ_BYTES = 16 * 1024, HEAD_BYTES = 16 * 1024, OUT_MAX = 64 << 20 };

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
    struct http_exchange *conns;
    unsigned n_conns;
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
    struct buf in, body, out;   /* bytes of the next request; of this request; of the answer */
    struct loop_timer timer;
    struct loop_task gone, next_turn;
    void (*on_gone)(void *user);
    void *on_gone_user;
    bool begun, have_head, waiting; /* waiting: for the handler's answer */
    bool close, eof, closed;
};

static void input(struct http_exchange *x, struct slice in);

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

static void conn_close(struct http_exchange *x)
{
    if (x->closed)
        return;
    x->closed = true;
    loop_timer_clear(x->server->loop, &x->timer);
    loop_task_clear(x->server->loop, &x->next_turn);
    chan_close(x->chan);
    *x->prev = x->next;
    if (x->next)
        x->next->prev = x->prev;
    x->server->n_conns--;
    if (x->waiting && x->on_gone)
        x->on_gone(x->on_gone_user);
    loop_task_add(x->server->loop, &x->gone, conn_free);
}

static void too_late(struct loop_timer *t)
{
    conn_close(CONTAINER_OF(t, struct http_exchange, timer));
}

static void go_idle(struct http_exchange *x)
{
    arena_fini(&x->arena);
    buf_fini(&x->body);
    x->begun = x->have_head = false;
    loop_timer_in(x->server->loop, &x->timer, x->server->opts.idle_ns, too_late);
}

/* False when the connection is gone. */
static bool flush(struct http_exchange *x)
{
    while (buf_len(&x->out)) {
        struct slice s = buf_slice(&x->out);
        size_t n;
        enum err_code rc = chan_write(x->chan, s.p, s.len, &n);
        if (rc == ERR_AGAIN)
            return true;
        if (rc != ERR_OK) {
            conn_close(x);
            return false;
        }
        buf_consume(&x->out, n);
    }
    buf_fini(&x->out);
    if (x->close && !x->waiting) {
        chan_shutdown(x->chan);
        conn_close(x);
        return false;
    }
    return true;
}

static void next_turn(struct loop_task *t)
{
    struct http_exchange *x = CONTAINER_OF(t, struct http_exchange, next_turn);
    if (!flush(x) || x->waiting || buf_len(&x->out))
        return;
    if (buf_len(&x->in)) {
        size_t n;
        char *p = buf_take(&x->in, &n);
        if (!p) {
            conn_close(x);
            return;
        }
        input(x, slice_of(p, n));
        mem_free(p);
    }
    if (!x->closed && !x->waiting)
        chan_resume(x->chan);
}

static void reply_bytes(struct http_exchange *x, unsigned status, const char *type,
                        struct slice body)
{
    struct http_head h;
    http_head_init(&h, &x->arena);
    h.status = (uint16_t)status;
    h.body = HTTP_BODY_LENGTH;
    h.content_length = body.len;
    if (type)
        http_head_add(&h, SL("content-type"), slice_str(type));
    bool head_only = x->have_head && slice_is(x->head.method, "HEAD");
    if (h1_write_response(&x->out, &h, x->close) != ERR_OK)
        x->close = true;
    if (!head_only)
        buf_add_slice(&x->out, body);
    if (buf_err(&x->out) != ERR_OK) {
        conn_close(x);
        return;
    }
    go_idle(x);
    if (!x->next_turn.prev)
        loop_task_add(x->server->loop, &x->next_turn, next_turn);
}

void http_reply(struct http_exchange *x, unsigned status, const char *content_type,
                struct slice body)
{
    x->waiting = false;
    x->on_gone = NULL;
    if (!x->closed)
        reply_bytes(x, status, content_type, body);
}

static void refuse(struct http_exchange *x, unsigned status, const char *why)
{
    x->close = true;
    buf_reset(&x->in);
    reply_bytes(x, status, "text/plain", slice_str(why));
}

static void whole(struct http_exchange *x)
{
    x->waiting = true;
    loop_timer_clear(x->server->loop, &x->timer);
    if (!x->head.keep_alive)
        x->close = true;
    x->server->handler(x->server->user, x);
}

static void input(struct http_exchange *x, struct slice in)
{
    while (!x->closed && !x->close) {
        if (x->waiting) {
            buf_add_slice(&x->in, in);
            return;
        }
        if (!x->begun) {
            if (in.len == 0)
                return;
            x->begun = true;
            http_head_init(&x->head, &x->arena);
            loop_timer_in(x->server->loop, &x->timer, x->server->opts.request_ns, too_late);
        }
        struct http_head trailers, *head = &x->head;
        if (x->have_head) {
            http_head_init(&trailers, &x->arena);
            head = &trailers;
        }
        struct slice body;
        size_t used = 0;
        enum h1_event ev = h1_step(&x->parser, in, &used, head, &body);
        in = slice_skip(in, used);
        switch (ev) {
        case H1_EV_MORE:
            return;
        case H1_EV_HEAD:
            x->have_head = true;
            break;
        case H1_EV_BODY:
            buf_add_slice(&x->body, body);
            if (buf_err(&x->body) != ERR_OK) {
                refuse(x, 413, "body too large\n");
                return;
            }
            break;
        case H1_EV_END:
            whole(x);
            break;
        case H1_EV_REFUSED:
            refuse(x, h1_refusal_status(x->parser.refusal), h1_refusal_detail(x->parser.refusal));
            return;
        }
    }
}

static void on_chan(void *user, unsigned events)
{
    struct http_exchange *x = user;
    if (events & CHAN_FAIL) {
        conn_close(x);
        return;
    }
    if (events & CHAN_WRITE && buf_len(&x->out) && !flush(x))
        return;
    while (!x->closed && !x->waiting && !x->close && buf_len(&x->out) == 0) {
        char bytes[READ_BYTES];
        size_t n;
        enum err_code rc = chan_read(x->chan, bytes, sizeof bytes, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc != ERR_OK) {
            conn_close(x);
            return;
        }
        input(x, slice_of(bytes, n));
    }
}

static void accept_one(struct door *d, int fd, const struct sock_addr *peer)
{
    struct http_server *s = d->server;
    struct chan *chan;
    struct err err = {0};
    if (chan_tcp(s->loop, fd, true, &chan, &err) < 0)
        return;
    struct http_exchange *x = s->n_conns < s->opts.max_connections ? mem_zalloc(sizeof *x) : NULL;
    if (!x) {
        chan_close(chan);
        return;
    }
    struct h1_limits limits = {.head_bytes = HEAD_BYTES};
    x->server = s;
    x->chan = chan;
    x->peer = *peer;
    x->tag = d->tag;
    h1_request_init(&x->parser, &limits);
    arena_init(&x->arena, 1024, (size_t)HEAD_BYTES * 8);
    buf_init(&x->in, READ_BYTES * 2);
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
    on_chan(x, CHAN_READ);
}

static void on_door(struct loop_io *io, unsigned events)
{
    struct door *d = CONTAINER_OF(io, struct door, io);
    struct sock_addr peer;
    int fd;
    (void)events;
    for (int i = 0; i < 16 && sock_accept(d->fd, &fd, &peer) == ERR_OK; i++)
        accept_one(d, fd, &peer);
}

int http_server_new(struct loop *loop, const struct http_server_opts *opts, http_handler_fn *handler,
                    void *user, struct http_server **ret, struct err *err)
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

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    while (s->conns) {
        s->conns->on_gone = NULL;
        conn_close(s->conns);
    }
    while (s->doors) {
        struct door *d = s->doors;
        s->doors = d->next;
        loop_io_del(s->loop, &d->io);
        close(d->fd);
        mem_free(d);
    }
    loop_turn(s->loop, 0, NULL); /* connections hold their server until the turn ends */
    mem_free(s);
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
}
