/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/mirror.h"

#include "lib/base/mem.h"
#include "mesh/match/route.h"
#include "proxy/telemetry.h"
#include "proxy/upstream/upstream.h"
#include "proxy/worker.h"

enum { ARENA_FIRST = 2048 };

struct mirror {
    struct worker *worker;
    struct mirror *next, **prev;        /* of the worker */
    struct mirror *sibling, **psibling; /* of the stream; psibling NULL once the request is whole */
    struct arena arena;
    struct http_head req, trailers;
    struct up_attempt attempt;
    struct buf kept; /* of the body: what the connection does not take yet */
    struct loop_timer timer;
    struct loop_task gone;
    bool ready, full, ended, end_sent, over;
};

static void mirror_free(struct loop_task *t)
{
    struct mirror *m = CONTAINER_OF(t, struct mirror, gone);
    buf_fini(&m->kept);
    arena_fini(&m->arena);
    mem_free(m);
}

static void mirror_leave(struct mirror *m)
{
    if (!m->psibling)
        return;
    *m->psibling = m->sibling;
    if (m->sibling)
        m->sibling->psibling = m->psibling;
    m->psibling = NULL;
    m->sibling = NULL;
}

static void mirror_over(struct mirror *m)
{
    struct worker *w = m->worker;
    if (m->over)
        return;
    m->over = true;
    mirror_leave(m);
    *m->prev = m->next;
    if (m->next)
        m->next->prev = m->prev;
    w->n_mirrors--;
    struct up_cluster *c = m->attempt.cluster;
    up_cancel(&m->attempt);
    up_cluster_unref(c);
    loop_timer_clear(w->loop, &m->timer);
    loop_task_add(w->loop, &m->gone, mirror_free);
}

static void mirror_give_up(struct mirror *m)
{
    telemetry_mirror_dropped(m->worker);
    mirror_over(m);
}

/* Hand on what is kept, as far as the connection takes it. */
static void mirror_pump(struct mirror *m)
{
    if (!m->ready || m->full || m->over)
        return;
    struct slice rest = buf_slice(&m->kept);
    if (rest.len) {
        m->full = up_send_body(&m->attempt, rest) == ERR_LIMIT;
        buf_fini(&m->kept);
    }
    if (m->ended && !m->end_sent && !m->full) {
        m->end_sent = true;
        up_send_end(&m->attempt, m->trailers.n_fields ? &m->trailers : NULL);
    }
}

static struct mirror *of(struct up_attempt *a)
{
    return CONTAINER_OF(a, struct mirror, attempt);
}

static void on_ready(struct up_attempt *a)
{
    struct mirror *m = of(a);
    enum err_code rc = up_send_head(a, &m->req);
    if (rc != ERR_OK && rc != ERR_LIMIT) {
        mirror_give_up(m);
        return;
    }
    m->ready = true;
    mirror_pump(m);
    up_flush(a);
}

static void on_head(struct up_attempt *a, struct http_head *head, bool interim)
{
    if (!interim)
        up_host_result(a->host, head->status, false);
}

static bool on_body(struct up_attempt *a, struct slice bytes)
{
    (void)a, (void)bytes;
    return true;
}

static void on_end(struct up_attempt *a, struct http_head *trailers)
{
    (void)trailers;
    mirror_over(of(a));
}

static void on_fail(struct up_attempt *a, enum up_fail why, bool untouched, const char *detail)
{
    (void)untouched, (void)detail;
    if (a->host && why != UP_FAIL_OVERFLOW)
        up_host_result(a->host, 0, true);
    mirror_give_up(of(a));
}

static void on_drain(struct up_attempt *a)
{
    of(a)->full = false;
    mirror_pump(of(a));
}

static const struct up_attempt_ops ops = {
    .on_ready = on_ready,
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_fail = on_fail,
    .on_drain = on_drain,
};

static void mirror_late(struct loop_timer *t)
{
    struct mirror *m = CONTAINER_OF(t, struct mirror, timer);
    if (m->attempt.host)
        up_host_result(m->attempt.host, 0, true);
    mirror_give_up(m);
}

/* Fields and named texts, which the other arena takes away. False: they do not fit. */
static bool head_copy(struct arena *a, const struct http_head *from, struct http_head *to)
{
    http_head_init(to, a);
    to->method = arena_slice(a, from->method);
    to->scheme = arena_slice(a, from->scheme);
    to->authority = arena_slice(a, from->authority);
    to->path = arena_slice(a, from->path);
    to->version = from->version;
    to->body = from->body;
    to->content_length = from->content_length;
    to->te_trailers = from->te_trailers;
    if ((from->method.len && !to->method.p) || (from->scheme.len && !to->scheme.p) ||
        (from->authority.len && !to->authority.p) || (from->path.len && !to->path.p))
        return false;
    for (uint32_t i = 0; i < from->n_fields; i++) {
        struct http_field *f = http_head_push(to);
        if (!f)
            return false;
        f->name = arena_slice(a, from->fields[i].name);
        f->value = arena_slice(a, from->fields[i].value);
        if (!f->name.p || (from->fields[i].value.len && !f->value.p))
            return false;
    }
    return true;
}

/* NULL: no memory. Takes the reference `c`. */
static struct mirror *mirror_new(struct worker *w, struct up_cluster *c,
                                 const struct http_head *request)
{
    struct mirror *m = mem_zalloc(sizeof *m);
    if (m)
        arena_init(&m->arena, ARENA_FIRST, (size_t)w->limits->head_bytes * 6);
    if (!m || !head_copy(&m->arena, request, &m->req)) {
        if (m)
            arena_fini(&m->arena);
        mem_free(m);
        up_cluster_unref(c);
        return NULL;
    }
    http_head_init(&m->trailers, &m->arena);
    buf_init(&m->kept, w->limits->retry_body_bytes);
    m->worker = w;
    m->attempt = (struct up_attempt){
        .ops = &ops,
        .cluster = c,
        .arena = &m->arena,
        .head_request = slice_is(request->method, "HEAD"),
        .h2 = up_over_h2(c->cfg->client_protocol ? PROG_AUTO : c->cfg->protocol, request),
        .may_share = up_may_share(c, request),
        .once = true,
    };
    m->next = w->mirrors;
    m->prev = &w->mirrors;
    if (m->next)
        m->next->prev = &m->next;
    w->mirrors = m;
    w->n_mirrors++;
    return m;
}

static struct up_cluster *mirror_cluster(struct worker *w, struct prog_service *service, uint32_t i,
                                         const struct sock_addr *dialled)
{
    const struct prog_cluster *cfg = &service->clusters[i];
    if (cfg->problem.len || w->n_mirrors >= w->limits->mirrors ||
        overload_now(&w->overload, loop_now(w->loop)))
        return NULL;
    return cfg->original_dst ? up_cluster_dialled(w, service, i, dialled)
                             : up_cluster_get(w, service, i);
}

void mirrors_start(struct mirror **list, struct worker *w, struct prog_service *service,
                   const struct prog_http_route *route, const struct http_head *request,
                   const struct sock_addr *dialled)
{
    if (request->upgrade.len || slice_is(request->method, "CONNECT"))
        return;
    for (uint32_t i = 0; i < route->n_mirrors; i++) {
        if (!match_mirror_wanted(&route->mirrors[i], rnd_u32(loop_rnd(w->loop))))
            continue;
        struct up_cluster *c = mirror_cluster(w, service, route->mirrors[i].cluster, dialled);
        struct mirror *m = c ? mirror_new(w, c, request) : NULL;
        if (!m) {
            telemetry_mirror_dropped(w);
            continue;
        }
        m->sibling = *list;
        m->psibling = list;
        if (m->sibling)
            m->sibling->psibling = &m->sibling;
        *list = m;
        loop_timer_in(w->loop, &m->timer,
                      route->timeout_ms ? route->timeout_ms * NS_PER_MS
                                        : w->limits->mirror_timeout_ns,
                      mirror_late);
        up_start(&m->attempt);
    }
}

void mirrors_body(struct mirror **list, struct slice bytes)
{
    for (struct mirror *m = *list, *next; m; m = next) {
        next = m->sibling;
        buf_add_slice(&m->kept, bytes);
        if (buf_err(&m->kept) != ERR_OK)
            mirror_give_up(m);
        else
            mirror_pump(m);
    }
}

void mirrors_end(struct mirror **list, const struct http_head *trailers)
{
    while (*list) {
        struct mirror *m = *list;
        mirror_leave(m);
        m->ended = true;
        if (trailers && !head_copy(&m->arena, trailers, &m->trailers)) {
            mirror_give_up(m);
            continue;
        }
        mirror_pump(m);
    }
}

void mirrors_drop(struct mirror **list)
{
    while (*list)
        mirror_give_up(*list);
}

void mirrors_fini(struct worker *w)
{
    while (w->mirrors)
        mirror_over(w->mirrors);
}
