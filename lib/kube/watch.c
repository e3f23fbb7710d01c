/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/watch.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/kube/kube_int.h"
#include "lib/kube/stream.h"
#include "lib/kube/watch_step.h"

enum {
    PAGE = 500,
    STALL_MS = 60000,    /* a WatchList stream that says nothing for so long before its end mark */
    LIST_MS = 120000,    /* one page */
    OVERTIME_MS = 30000, /* what a watch may last beyond the timeout that the server was given */
};

struct kube_watch {
    struct kube_client *client;
    struct loop *loop;
    struct kube_sink *sink;
    const struct kube_resource *resource;
    char *path, *labels, *fields;
    bool metadata_only;
    struct reflect reflect;
    struct kube_call *call;
    struct kube_lines lines;
    struct kube_items items;
    char *more;              /* continue token of the next page */
    struct loop_timer timer; /* back-off */
    struct loop_timer stall; /* armed until a WatchList stream's end mark */
    struct loop_task reaper;
    int64_t opened_ns;
    unsigned depth; /* inside our own callbacks: memory must stay */
    bool stopped, synced, open;
    uint64_t bad; /* objects that could not be decoded */
    struct kube_watch_stats stats;
};

static void drive(struct kube_watch *w, struct reflect_in in);
static void stall_over(struct loop_timer *t);

/* --- requests --------------------------------------------------------------------------------- */
static void query_selectors(const struct kube_watch *w, struct buf *q)
{
    if (w->labels)
        kube_query_add(q, "labelSelector", w->labels);
    if (w->fields)
        kube_query_add(q, "fieldSelector", w->fields);
}

static void request(struct kube_watch *w, struct buf *query, struct kube_req *req,
                    kube_done_fn *done)
{
    static const char one[] = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    static const char list[] = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    req->method = "GET";
    req->path = w->path;
    req->query = buf_cstr(query);
    if (w->metadata_only)
        req->accept = req->no_retry ? one : list; /* watches carry single objects */
    w->opened_ns = loop_now(w->loop);
    w->open = false;
    w->call = buf_err(query) ? NULL : kube_request(w->client, req, done, w);
    if (!w->call) {
        w->stats.errors++;
        err_set(&w->stats.last_err, ERR_NOMEM, "request");
        drive(w, (struct reflect_in){.kind = IN_REFUSED, .reason = ""});
    }
}

static int stream_line(void *user, struct slice line)
{
    struct kube_watch *w = user;
    struct kube_event ev;
    struct err err = {0};
    struct reflect_in in = {.reason = ""};
    if (kube_event_decode(line, &ev, &err) < 0) {
        w->bad++;
        w->stats.errors++;
        w->stats.last_err = err;
        LOG(ERROR, "Watch event was not understood and is left out", "kind=%s error=%s",
            w->resource->kind, err.msg);
        return err.code == ERR_NOMEM; /* then the stream ends and is read again */
    }
    w->stats.last_event_ns = loop_now(w->loop);
    in.rv = ev.rv;
    in.initial_end = ev.initial_end;
    in.status = ev.status;
    in.reason = ev.reason;
    switch (ev.type) {
    case KUBE_ADDED:
    case KUBE_MODIFIED:
        w->stats.events++;
        w->sink->put(w->sink, ev.object);
        in.kind = IN_EVENT;
        break;
    case KUBE_DELETED:
        w->stats.events++;
        w->sink->remove(w->sink, ev.object);
        in.kind = IN_EVENT;
        break;
    case KUBE_BOOKMARK:
        in.kind = IN_MARK;
        break;
    case KUBE_ERROR: {
        const char *text = json_string_value(json_object_get(ev.object, "message"));
        w->stats.errors++;
        err_set(&w->stats.last_err, kube_err_of_status(ev.status, ev.reason), "%s",
                text ? text : ev.reason);
        in.kind = IN_ERROR;
        break;
    }
    }
    struct kube_call *before = w->call;
    if (!w->stopped)
        drive(w, in);
    json_decref(ev.object);
    return w->stopped || w->call != before; /* the stream was left: no further line */
}

static int stream_data(void *user, struct slice bytes)
{
    struct kube_watch *w = user;
    w->open = true;
    w->depth++;
    if (loop_timer_is_set(&w->stall))
        loop_timer_in(w->loop, &w->stall, STALL_MS * NS_PER_MS, stall_over);
    enum err_code rc = kube_lines_feed(&w->lines, bytes, stream_line, w);
    w->depth--;
    if (rc != ERR_OK && rc != ERR_CLOSED)
        LOG(ERROR, "Watch stream was left", "kind=%s error=%s", w->resource->kind,
            err_code_name(rc));
    return rc != ERR_OK;
}

static void note_error(struct kube_watch *w, const struct err *err)
{
    w->stats.errors++;
    w->stats.last_err = *err;
}

static void stream_done(void *user, struct kube_resp *resp)
{
    struct kube_watch *w = user;
    struct reflect_in in = {.status = resp->status, .reason = resp->reason};
    w->call = NULL;
    in.open_ns = loop_now(w->loop) - w->opened_ns;
    if (resp->err.code != ERR_OK)
        note_error(w, &resp->err);
    bool was_open = w->open || (resp->status >= 200 && resp->status < 300);
    in.kind = was_open ? IN_OVER : IN_REFUSED;
    if (was_open)
        in.status = 0;
    drive(w, in);
}

static void stall_over(struct loop_timer *t)
{
    struct kube_watch *w = CONTAINER_OF(t, struct kube_watch, stall);
    drive(w, (struct reflect_in){.kind = IN_STALLED, .reason = ""});
}

static void open_watch(struct kube_watch *w, bool initial)
{
    CLEANUP(buf_freep) struct buf q;
    char seconds[16];
    int timeout_s = reflect_watch_timeout_s(loop_rnd(w->loop));
    buf_init(&q, 16 << 10);
    snprintf(seconds, sizeof seconds, "%d", timeout_s);
    kube_query_add(&q, "watch", "true");
    kube_query_add(&q, "allowWatchBookmarks", "true");
    kube_query_add(&q, "timeoutSeconds", seconds);
    if (initial) {
        kube_query_add(&q, "sendInitialEvents", "true");
        kube_query_add(&q, "resourceVersionMatch", "NotOlderThan");
        w->stats.lists++;
    } else {
        kube_query_add(&q, "resourceVersion", w->reflect.rv);
    }
    query_selectors(w, &q);
    w->stats.watches++;
    kube_lines_fini(&w->lines);
    kube_lines_init(&w->lines, KUBE_OBJECT_MAX);
    struct kube_req req = {
        .on_data = stream_data,
        .no_retry = true, /* the reflector's own back-off rules */
        .timeout_ms = timeout_s * 1000 + OVERTIME_MS,
    };
    if (initial)
        loop_timer_in(w->loop, &w->stall, STALL_MS * NS_PER_MS, stall_over);
    request(w, &q, &req, stream_done);
}

/* --- lists ------------------------------------------------------------------------------------ */
static int list_item(void *user, struct slice text)
{
    struct kube_watch *w = user;
    struct err err = {0};
    json_t *obj = kube_json(text, &err);
    if (!obj) {
        w->bad++;
        note_error(w, &err);
        LOG(ERROR, "List item was not understood and is left out", "kind=%s error=%s",
            w->resource->kind, err.msg);
        return err.code == ERR_NOMEM;
    }
    w->sink->put(w->sink, obj);
    json_decref(obj);
    return w->stopped;
}

static int list_data(void *user, struct slice bytes)
{
    struct kube_watch *w = user;
    w->open = true;
    w->depth++;
    enum err_code rc = kube_items_feed(&w->items, bytes, list_item, w);
    w->depth--;
    return rc != ERR_OK;
}

static void list_done(void *user, struct kube_resp *resp)
{
    struct kube_watch *w = user;
    struct reflect_in in = {.status = resp->status, .reason = resp->reason};
    CLEANUP(mem_freep) char *rv = NULL;
    struct err err = resp->err;
    w->call = NULL;
    mem_free(TAKE(w->more));
    if (err.code == ERR_OK && kube_items_end(&w->items, &rv, &w->more, &err) == 0) {
        in.kind = IN_PAGE;
        in.rv = rv;
        in.more = *w->more != '\0';
    } else {
        note_error(w, &err);
        in.kind = resp->status >= 200 && resp->status < 300 ? IN_OVER : IN_REFUSED;
        if (in.kind == IN_OVER)
            in.status = 0;
    }
    drive(w, in);
}

static void open_list(struct kube_watch *w, bool paged)
{
    CLEANUP(buf_freep) struct buf q;
    char limit[16];
    buf_init(&q, 64 << 10);
    snprintf(limit, sizeof limit, "%d", PAGE);
    if (paged)
        kube_query_add(&q, "limit", limit);
    if (w->more && *w->more)
        kube_query_add(&q, "continue", w->more);
    query_selectors(w, &q);
    w->stats.lists++;
    kube_items_fini(&w->items);
    kube_items_init(&w->items, KUBE_OBJECT_MAX);
    struct kube_req req = {.on_data = list_data, .timeout_ms = LIST_MS};
    request(w, &q, &req, list_done);
}

/* --- the machine and its effects -------------------------------------------------------------- */
static void wait_over(struct loop_timer *t)
{
    struct kube_watch *w = CONTAINER_OF(t, struct kube_watch, timer);
    drive(w, (struct reflect_in){.kind = IN_GO, .reason = ""});
}

static void act(struct kube_watch *w, const struct reflect_do *todo)
{
    switch (todo->act) {
    case ACT_NONE:
        break;
    case ACT_STREAM:
    case ACT_WATCH:
        open_watch(w, todo->act == ACT_STREAM);
        break;
    case ACT_LIST:
    case ACT_LIST_WHOLE:
        mem_free(TAKE(w->more));
        open_list(w, todo->act == ACT_LIST);
        break;
    case ACT_PAGE:
        open_list(w, true);
        break;
    case ACT_WAIT:
        LOG(DEBUG, "Watch waits", "kind=%s state=%s ms=%lld error=%s", w->resource->kind,
            reflect_state_name(w->reflect.state), (long long)(todo->wait_ns / NS_PER_MS),
            w->stats.last_err.msg);
        loop_timer_in(w->loop, &w->timer, todo->wait_ns, wait_over);
        break;
    }
}

static void drive(struct kube_watch *w, struct reflect_in in)
{
    in.now_ns = loop_now(w->loop);
    if (!in.rv)
        in.rv = "";
    struct reflect_do todo = reflect_step(&w->reflect, &in);
    if (todo.act != ACT_NONE || todo.end)
        loop_timer_clear(w->loop, &w->stall);
    if (todo.act != ACT_NONE) {
        kube_cancel(w->call);
        w->call = NULL;
        w->open = false;
    }
    w->depth++;
    if (todo.begin && !w->stopped)
        w->sink->begin(w->sink);
    if (todo.end && !w->stopped) {
        w->synced = true;
        w->stats.absent = todo.absent;
        w->sink->end(w->sink, todo.absent);
    }
    w->depth--;
    if (!w->stopped)
        act(w, &todo);
}

/* --- life ------------------------------------------------------------------------------------- */
static void reap(struct loop_task *t)
{
    struct kube_watch *w = CONTAINER_OF(t, struct kube_watch, reaper);
    kube_lines_fini(&w->lines);
    kube_items_fini(&w->items);
    mem_free(w->more);
    mem_free(w->path);
    mem_free(w->labels);
    mem_free(w->fields);
    mem_free(w);
}

int kube_watch_start(struct kube_client *client, const struct kube_watch_opts *opts,
                     struct kube_watch **ret, struct err *err)
{
    struct kube_watch *w = mem_zalloc(sizeof *w);
    if (!w)
        return err_set(err, ERR_NOMEM, "watch");
    w->client = client;
    w->loop = kube_client_loop(client);
    w->sink = opts->sink;
    w->resource = opts->resource;
    w->metadata_only = opts->metadata_only;
    kube_lines_init(&w->lines, KUBE_OBJECT_MAX);
    kube_items_init(&w->items, KUBE_OBJECT_MAX);
    reflect_init(&w->reflect, loop_rnd(w->loop));
    w->reflect.no_stream = opts->paged;
    w->path = kube_path(opts->resource, opts->ns, NULL, NULL, err);
    if (!w->path) {
        reap(&w->reaper);
        return -1;
    }
    if ((opts->labels && !(w->labels = mem_strdup(opts->labels))) ||
        (opts->fields && !(w->fields = mem_strdup(opts->fields))) ||
        loop_timer_in(w->loop, &w->timer, 0, wait_over) < 0) {
        reap(&w->reaper);
        return err_set(err, ERR_NOMEM, "watch");
    }
    *ret = w;
    return 0;
}

void kube_watch_stop(struct kube_watch *w)
{
    if (!w || w->stopped)
        return;
    w->stopped = true;
    kube_cancel(w->call);
    w->call = NULL;
    loop_timer_clear(w->loop, &w->timer);
    loop_timer_clear(w->loop, &w->stall);
    if (w->depth)
        loop_task_add(w->loop, &w->reaper, reap);
    else
        reap(&w->reaper);
}

void kube_watch_poke(struct kube_watch *w)
{
    if (loop_timer_is_set(&w->timer))
        loop_timer_in(w->loop, &w->timer, 0, wait_over);
}

bool kube_watch_synced(const struct kube_watch *w)
{
    return w->synced;
}

struct kube_watch_stats kube_watch_stats(const struct kube_watch *w)
{
    struct kube_watch_stats s = w->stats;
    s.synced = w->synced;
    s.streaming = w->call && w->reflect.state == REFLECT_WATCH;
    s.state = reflect_state_name(w->reflect.state);
    s.rv = w->reflect.rv;
    return s;
}
