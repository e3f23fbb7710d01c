/* SPDX-License-Identifier: Apache-2.0 */
/* What the HTTP/1 codec makes of bytes, as one line of text, for the unit tests and the fuzz
 * targets:
 *
 *     GET a /x {n=v} <hello> .        a request with content, and its end
 *     204 {} .                        an answer
 *     ... !BARE_LF                    refused
 *     ... !TRUNCATED                  the connection ended too early
 *     ... $                           the end of the connection ended the message
 *
 * "+te" tells that the request takes trailers, "~" follows an interim head, "+close" one after which the connection ends, "+upgrade:x" one that
 * asks for or grants x. Each piece of input is an allocation of its own, so that a sanitizer sees a
 * read beyond it. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h1.h"

struct h1_way {
    bool request, head, connect, upgrade; /* all but the first: what the answers answer to */
    struct h1_limits limits;
    size_t first, step; /* length of the first piece and of the others; 0: all that is left */
};

UNUSED static const char *h1_refusal_name(enum h1_refusal r)
{
    static const char *const names[] = {
#define X(name, status, detail) #name,
        H1_REFUSALS(X)
#undef X
    };
    return names[r];
}

static void h1_trace_fields(struct buf *out, const struct http_head *h)
{
    buf_add_str(out, "{");
    for (uint32_t i = 0; i < h->n_fields; i++) {
        if (i)
            buf_add_str(out, ";");
        buf_add_slice(out, h->fields[i].name);
        buf_add_str(out, "=");
        buf_add_slice(out, h->fields[i].value);
    }
    buf_add_str(out, "} ");
}

static void h1_trace_head(struct buf *out, const struct h1_parser *p, const struct http_head *h)
{
    if (p->request)
        buf_addf(out, "%.*s %.*s %.*s ", SL_FMT(h->method), SL_FMT(h->authority), SL_FMT(h->path));
    else
        buf_addf(out, "%u ", h->status);
    h1_trace_fields(out, h);
    if (h->te_trailers)
        buf_add_str(out, "+te ");
    if (h->upgrade.len)
        buf_addf(out, "+upgrade:%.*s ", SL_FMT(h->upgrade));
    if (!h->keep_alive)
        buf_add_str(out, "+close ");
    if (p->interim)
        buf_add_str(out, "~ ");
}

struct h1_tracer {
    struct h1_parser p;
    const struct h1_way *way;
    struct buf *out, *wire; /* wire: the same messages written again; may be NULL */
    struct arena arena;
    struct http_head head, tail;
    bool have_head, in_body, over;
};

static void h1_trace_next(struct h1_tracer *t)
{
    arena_fini(&t->arena);
    http_head_init(&t->head, &t->arena);
    http_head_init(&t->tail, &t->arena);
    t->have_head = t->in_body = false;
    if (!t->way->request)
        h1_expect_response(&t->p, t->way->head, t->way->connect, t->way->upgrade);
}

static void h1_trace_write_head(struct h1_tracer *t)
{
    enum err_code rc = ERR_OK;
    if (t->wire && t->way->request)
        rc = h1_write_request(t->wire, &t->head, !t->head.keep_alive);
    else if (t->wire)
        rc = h1_write_response(t->wire, &t->head, !t->head.keep_alive);
    if (rc != ERR_OK)
        abort(); /* what was read can be written */
}

static void h1_trace_event(struct h1_tracer *t, enum h1_event ev, struct slice body)
{
    bool chunked = t->head.body == HTTP_BODY_STREAM;

    if (t->in_body && ev != H1_EV_BODY && ev != H1_EV_MORE) {
        buf_add_str(t->out, "> ");
        t->in_body = false;
    }
    switch (ev) {
    case H1_EV_MORE:
        break;
    case H1_EV_HEAD:
        h1_trace_head(t->out, &t->p, &t->head);
        h1_trace_write_head(t);
        t->have_head = true;
        if (t->p.interim)
            h1_trace_next(t);
        break;
    case H1_EV_BODY:
        if (body.len == 0)
            abort();
        if (!t->in_body)
            buf_add_str(t->out, "<");
        t->in_body = true;
        buf_add_slice(t->out, body);
        if (t->wire && chunked)
            h1_write_chunk(t->wire, body);
        else if (t->wire)
            buf_add_slice(t->wire, body);
        break;
    case H1_EV_END:
        if (t->tail.n_fields)
            h1_trace_fields(t->out, &t->tail);
        buf_add_str(t->out, ". ");
        if (t->wire && chunked && h1_write_last_chunk(t->wire, &t->tail) != ERR_OK)
            abort();
        h1_trace_next(t);
        break;
    case H1_EV_REFUSED:
        buf_addf(t->out, "!%s", h1_refusal_name(t->p.refusal));
        t->over = true;
        break;
    }
}

static void h1_trace_piece(struct h1_tracer *t, struct slice in)
{
    while (!t->over) {
        struct slice body = SLICE_NULL;
        size_t used = 0;
        enum h1_event ev = h1_step(&t->p, in, &used, t->have_head ? &t->tail : &t->head, &body);
        if (used > in.len)
            abort();
        h1_trace_event(t, ev, body);
        in = slice_skip(in, used);
        if (ev == H1_EV_MORE) {
            if (in.len)
                abort(); /* MORE means that all was used */
            return;
        }
    }
}

/* True unless something was refused. */
UNUSED static bool h1_trace(const struct h1_way *way, struct slice in, struct buf *out,
                            struct buf *wire)
{
    struct h1_tracer t = {.way = way, .out = out, .wire = wire};
    if (way->request)
        h1_request_init(&t.p, &way->limits);
    else
        h1_response_init(&t.p, &way->limits);
    h1_trace_next(&t);
    for (size_t at = 0, n; at < in.len && !t.over; at += n) {
        size_t want = at == 0 ? way->first : way->step;
        n = want ? MIN(want, in.len - at) : in.len - at;
        char *piece = mem_alloc(n);
        if (!piece)
            abort();
        memcpy(piece, in.p + at, n);
        h1_trace_piece(&t, slice_of(piece, n));
        mem_free(piece);
    }
    if (!t.over) {
        enum h1_event ev = h1_eof(&t.p);
        if (t.in_body)
            buf_add_str(out, "> ");
        if (ev == H1_EV_END)
            buf_add_str(out, "$");
        else if (ev == H1_EV_REFUSED)
            buf_addf(out, "!%s", h1_refusal_name(t.p.refusal));
        t.over = ev == H1_EV_REFUSED;
    }
    h1_fini(&t.p);
    arena_fini(&t.arena);
    return !t.over;
}
