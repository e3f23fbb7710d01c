/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/client.h"

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h1.h"

enum { READ_BYTES = 16 * 1024 };

struct http_get {
    struct loop *loop;
    struct chan *chan;
    struct h1_parser parser;
    struct arena arena;
    struct http_head head;
    struct buf out, body;
    struct loop_timer timer;
    struct loop_task gone;
    http_get_done_fn *done;
    void *user;
    bool have_head, over;
};

static void get_free(struct loop_task *t)
{
    struct http_get *g = CONTAINER_OF(t, struct http_get, gone);
    h1_fini(&g->parser);
    arena_fini(&g->arena);
    buf_fini(&g->out);
    buf_fini(&g->body);
    mem_free(g);
}

void http_get_cancel(struct http_get *g)
{
    if (!g || g->over)
        return;
    g->over = true;
    loop_timer_clear(g->loop, &g->timer);
    chan_close(g->chan);
    loop_task_add(g->loop, &g->gone, get_free);
}

static void finish(struct http_get *g, const struct err *err)
{
    if (g->over)
        return;
    http_get_cancel(g);
    g->done(g->user, err ? 0 : g->head.status, &g->head, buf_slice(&g->body), err);
}

static void fail(struct http_get *g, enum err_code code, const char *why)
{
    struct err err = {0};
    err_set(&err, code, "%s", why);
    finish(g, &err);
}

static void too_late(struct loop_timer *t)
{
    fail(CONTAINER_OF(t, struct http_get, timer), ERR_TIMEOUT, "timed out");
}

static void flush(struct http_get *g)
{
    while (buf_len(&g->out)) {
        struct slice s = buf_slice(&g->out);
        size_t n;
        enum err_code rc = chan_write(g->chan, s.p, s.len, &n);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            chan_resume(g->chan); /* reading tells what became of the connection */
        if (rc != ERR_OK)
            return;
        buf_consume(&g->out, n);
    }
}

static void input(struct http_get *g, struct slice in)
{
    while (!g->over) {
        struct http_head trailers, *head = &g->head;
        struct slice body;
        size_t used = 0;
        if (g->have_head) {
            http_head_init(&trailers, &g->arena);
            head = &trailers;
        }
        enum h1_event ev = h1_step(&g->parser, in, &used, head, &body);
        in = slice_skip(in, used);
        switch (ev) {
        case H1_EV_MORE:
            return;
        case H1_EV_HEAD:
            if (g->head.status == 101)
                fail(g, ERR_PROTO, "an upgrade that nobody asked for");
            else if (g->parser.interim)
                http_head_init(&g->head, &g->arena);
            else
                g->have_head = true;
            break;
        case H1_EV_BODY:
            buf_add_slice(&g->body, body);
            if (buf_err(&g->body) != ERR_OK)
                fail(g, ERR_LIMIT, "answer too large");
            break;
        case H1_EV_END:
            finish(g, NULL);
            break;
        case H1_EV_REFUSED:
            fail(g, ERR_PROTO, h1_refusal_detail(g->parser.refusal));
            break;
        }
    }
}

static void on_chan(void *user, unsigned events)
{
    struct http_get *g = user;
    if (events & CHAN_FAIL) {
        fail(g, ERR_UNAVAILABLE,
             chan_is_tls(g->chan) ? tls_chan_error(g->chan) : chan_failure_text(g->chan));
        return;
    }
    if (!g->chan->open)
        return;
    flush(g);
    while (!g->over) {
        char bytes[READ_BYTES];
        size_t n;
        enum err_code rc = chan_read(g->chan, bytes, sizeof bytes, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc == ERR_OK) {
            input(g, slice_of(bytes, n));
        } else if (rc == ERR_EOF && g->have_head && h1_eof(&g->parser) == H1_EV_END) {
            finish(g, NULL);
        } else {
            fail(g, ERR_UNAVAILABLE, "the connection ended before the answer was whole");
        }
    }
}

/* The codec writes these by itself. */
static bool of_connection(struct slice name)
{
    static const char *const names[] = {
        "connection", "content-length", "transfer-encoding", "upgrade",
        "te",         "keep-alive",     "proxy-connection"};

    for (size_t i = 0; i < N_OF(names); i++)
        if (slice_ieq(name, slice_str(names[i])))
            return true;
    return false;
}

int http_get_start(struct loop *loop, const struct sock_addr *to, const struct http_get_opts *opts,
                   http_get_done_fn *done, void *user, struct http_get **ret, struct err *err)
{
    struct http_get *g = mem_zalloc(sizeof *g);
    char text[SOCK_TEXT_MAX];
    struct http_head req;
    if (!g)
        return err_set(err, ERR_NOMEM, "request");
    g->loop = loop;
    g->done = done;
    g->user = user;
    arena_init(&g->arena, 1024, 512 * 1024);
    buf_init(&g->out, 64 * 1024);
    buf_init(&g->body, opts->max_body ? opts->max_body : 1 << 20);
    h1_response_init(&g->parser, NULL);
    http_head_init(&g->head, &g->arena);
    http_head_init(&req, &g->arena);
    req.method = slice_str(opts->method ? opts->method : "GET");
    req.path = slice_str(opts->path);
    req.authority = slice_str(opts->host ? opts->host : sock_addr_text(to, text));
    h1_expect_response(&g->parser, slice_is(req.method, "HEAD"), false, false);
    enum err_code rc = ERR_OK;
    for (unsigned i = 0; i < opts->n_fields && rc == ERR_OK; i++) {
        if (slice_ieq(opts->fields[i].name, SL("host")))
            req.authority = opts->fields[i].value;
        else if (!of_connection(opts->fields[i].name))
            rc = http_head_add(&req, opts->fields[i].name, opts->fields[i].value);
    }
    if (rc == ERR_OK)
        rc = h1_write_request(&g->out, &req, true);
    struct chan *tcp = NULL;
    int fd = rc == ERR_OK ? sock_connect(to, opts->src, err) : -1;
    if (rc != ERR_OK)
        err_set(err, rc, "request cannot be written");
    if (fd >= 0 && chan_tcp(loop, fd, false, &tcp, err) == 0) {
        struct tls_conn_opts tls = {.sni = opts->sni, .verify_host = opts->verify_host};
        if (!opts->tls)
            g->chan = tcp;
        else if (tls_chan_client(opts->tls, tcp, &tls, &g->chan, err) < 0)
            g->chan = NULL;
    }
    if (!g->chan) {
        get_free(&g->gone);
        return -1;
    }
    chan_owner(g->chan, on_chan, g);
    if (loop_timer_in(loop, &g->timer, opts->timeout_ns ? opts->timeout_ns : 5 * NS_PER_S,
                      too_late) < 0) { /* no wait without a deadline */
        http_get_cancel(g);
        return err_set(err, ERR_NOMEM, "request");
    }
    *ret = g;
    return 0;
}
