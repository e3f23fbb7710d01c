/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/events.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/kube_int.h"
#include "lib/kube/queue.h"

enum {
    REMEMBERED = 4096,
    IN_FLIGHT = 64,
    NOTE_MAX = 1024,
    SERIES_S = 360, /* a series ends when it was quiet for six minutes */
    REFRESH_S = 60, /* a series' count is written at most so often */
};

/* One report that was made: the same object, type, reason, action and note. */
struct report {
    char *path;            /* of its Event object */
    int64_t last_ns;       /* when it was last reported */
    int64_t last_wall_ns;  /* the same in civil time */
    int64_t wrote_ns;      /* when it was last written */
    uint32_t count, wrote; /* reports, and how many of them the Event tells of */
    bool created;          /* the server has it */
    bool busy;             /* a request about it is in flight */
};

/* What one object may say. */
struct source {
    struct kube_bucket bucket;
    int64_t last_ns;
};

struct kube_events {
    struct kube_client *client;
    struct loop *loop;
    char *controller, *instance;
    struct map reports, sources;
    struct sending *sending;
    unsigned in_flight;
    struct loop_timer flush; /* armed while a series has reports that were not written */
    struct kube_events_stats stats;
};

struct sending {
    struct kube_events *owner;
    struct sending *next, **prev;
    struct kube_call *call;
    struct hash128 key; /* of the report: it may be forgotten meanwhile */
};

static struct slice key_slice(const struct hash128 *h)
{
    return slice_of(h, sizeof *h);
}

int kube_events_new(struct kube_client *client, const struct kube_events_opts *opts,
                    struct kube_events **ret, struct err *err)
{
    struct kube_events *e = mem_zalloc(sizeof *e);
    if (!e)
        return err_set(err, ERR_NOMEM, "events");
    e->client = client;
    e->loop = kube_client_loop(client);
    e->controller = mem_strdup(opts->controller);
    e->instance = mem_strdup(opts->instance);
    if (!e->controller || !e->instance) {
        kube_events_free(e);
        return err_set(err, ERR_NOMEM, "events");
    }
    *ret = e;
    return 0;
}

static void report_free(struct report *r)
{
    mem_free(r->path);
    mem_free(r);
}

void kube_events_free(struct kube_events *e)
{
    if (!e)
        return;
    while (e->sending) {
        struct sending *s = e->sending;
        kube_cancel(s->call);
        e->sending = s->next;
        mem_free(s);
    }
    for (struct map_entry *m = NULL; (m = map_next(&e->reports, m));)
        report_free(m->value);
    for (struct map_entry *m = NULL; (m = map_next(&e->sources, m));)
        mem_free(m->value);
    loop_timer_clear(e->loop, &e->flush);
    map_fini(&e->reports);
    map_fini(&e->sources);
    mem_free(e->controller);
    mem_free(e->instance);
    mem_free(e);
}

struct kube_events_stats kube_events_stats(const struct kube_events *e)
{
    return e->stats;
}

/* Forget what was quiet for a series' time. */
static void forget_old(struct kube_events *e, int64_t now)
{
    for (struct map_entry *m = NULL; (m = map_next(&e->reports, m));) {
        struct report *r = m->value;
        if (!r->busy && now - r->last_ns > SERIES_S * NS_PER_S) {
            map_remove(&e->reports, slice_of(m->key, m->key_len));
            report_free(r);
        }
    }
    for (struct map_entry *m = NULL; (m = map_next(&e->sources, m));) {
        struct source *s = m->value;
        /* as good as new: its bucket is full again */
        if (now - s->last_ns > 25 * 300 * NS_PER_S) {
            map_remove(&e->sources, slice_of(m->key, m->key_len));
            mem_free(s);
        }
    }
}

/* --- writing ------------------------------------------------------------------------------------
 */
static void sent(void *user, struct kube_resp *resp)
{
    struct sending *s = user;
    struct kube_events *e = s->owner;
    struct report *r = map_get(&e->reports, key_slice(&s->key));
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
    e->in_flight--;
    if (resp->err.code == ERR_OK) {
        e->stats.written++;
    } else {
        e->stats.failed++;
        LOG(WARN, "Event could not be written", "error=%s", resp->err.msg);
    }
    if (r) {
        r->busy = false;
        r->created = r->created || resp->err.code == ERR_OK;
        if (!r->created || resp->err.code == ERR_NOT_FOUND) { /* never made, or aged out */
            map_remove(&e->reports, key_slice(&s->key));
            report_free(r);
        }
    }
    mem_free(s);
}

static bool send_event(struct kube_events *e, const struct hash128 *key, struct report *r,
                       const struct kube_req *req)
{
    struct sending *s = e->in_flight < IN_FLIGHT ? mem_zalloc(sizeof *s) : NULL;
    if (!s)
        return false;
    s->owner = e;
    s->key = *key;
    s->call = kube_request(e->client, req, sent, s);
    if (!s->call) {
        mem_free(s);
        return false;
    }
    s->next = e->sending;
    s->prev = &e->sending;
    if (s->next)
        s->next->prev = &s->next;
    e->sending = s;
    e->in_flight++;
    r->busy = true;
    r->wrote = r->count;
    r->wrote_ns = loop_now(e->loop);
    return true;
}

static void write_series(struct kube_events *e, const struct hash128 *key, struct report *r)
{
    char when[KUBE_MICRO_TIME];
    kube_micro_time(r->last_wall_ns, when);
    CLEANUP(json_freep)
    json_t *patch = json_pack("{s:{s:I, s:s}}", "series", "count", (json_int_t)r->count,
                              "lastObservedTime", when);
    struct kube_req req = {.method = "PATCH",
                           .path = r->path,
                           .content_type = "application/merge-patch+json",
                           .body = patch};
    if (patch)
        send_event(e, key, r, &req);
}

/* Once a minute while needed: write the counts that grew. */
static void flush(struct loop_timer *t)
{
    struct kube_events *e = CONTAINER_OF(t, struct kube_events, flush);
    bool more = false;
    for (struct map_entry *m = NULL; (m = map_next(&e->reports, m));) {
        struct report *r = m->value;
        struct hash128 key;
        if (r->wrote == r->count)
            continue;
        memcpy(&key, m->key, sizeof key);
        if (r->created && !r->busy)
            write_series(e, &key, r);
        more = more || r->wrote != r->count;
    }
    if (more)
        loop_timer_in(e->loop, &e->flush, REFRESH_S * NS_PER_S, flush);
}

/* A text of at most `max` bytes, cut between characters. */
static json_t *text_of(const char *s, size_t max)
{
    size_t n = strlen(s);
    if (n > max)
        for (n = max; n && ((unsigned char)s[n] & 0xc0) == 0x80;)
            n--;
    return json_string_of(slice_of(s, n));
}

static json_t *event_new(struct kube_events *e, const struct kube_ref *about, const char *name,
                         const char *ns, bool warning, const char *reason, const char *action,
                         const char *note)
{
    char when[KUBE_MICRO_TIME], version[256];
    kube_micro_time(loop_wall(e->loop), when);
    kube_api_version(about->resource, version, sizeof version);
    json_t *regarding = json_pack("{s:s, s:s, s:s}", "apiVersion", version, "kind",
                                  about->resource->kind, "name", about->name);
    if (regarding && about->ns && *about->ns)
        json_object_set_new(regarding, "namespace", json_string(about->ns));
    if (regarding && about->uid && *about->uid)
        json_object_set_new(regarding, "uid", json_string(about->uid));
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}",
                     "apiVersion", "events.k8s.io/v1", "kind", "Event", "metadata", "name", name,
                     "namespace", ns, "eventTime", when, "type", warning ? "Warning" : "Normal",
                     "reportingController", e->controller, "reportingInstance", e->instance,
                     "reason", text_of(reason, 128), "action", text_of(action, 128), "note",
                     text_of(note, NOTE_MAX), "regarding", regarding);
}

static bool write_new(struct kube_events *e, const struct hash128 *key, struct report *r,
                      const struct kube_ref *about, bool warning, const char *reason,
                      const char *action, const char *note)
{
    const struct kube_resource *res = kube_resource(KUBE_EVENT);
    const char *ns = about->ns && *about->ns ? about->ns : "default";
    char name[256];
    snprintf(name, sizeof name, "%.*s.%016llx", 230, about->name,
             (unsigned long long)(key->lo ^ rnd_u64(loop_rnd(e->loop))));
    CLEANUP(mem_freep) char *path = kube_path(res, ns, NULL, NULL, NULL);
    CLEANUP(json_freep)
    json_t *body = event_new(e, about, name, ns, warning, reason, action, note);
    r->path = kube_path(res, ns, name, NULL, NULL);
    struct kube_req req = {.method = "POST", .path = path, .body = body};
    return path && body && r->path && send_event(e, key, r, &req);
}

/* --- reports ------------------------------------------------------------------------------------
 */
static bool allowed(struct kube_events *e, const struct kube_ref *about, int64_t now)
{
    struct hash128 who = {hash64(slice_str(about->name), 1) ^
                              hash64(slice_str(about->resource->kind), 2),
                          hash64(slice_str(about->ns), 3)};
    struct source *s = map_get(&e->sources, key_slice(&who));
    if (!s) {
        if (e->sources.len >= REMEMBERED)
            return false;
        s = mem_zalloc(sizeof *s);
        if (!s || map_put(&e->sources, key_slice(&who), s, NULL) < 0) {
            mem_free(s);
            return false;
        }
        s->bucket = (struct kube_bucket){.per_s = 1.0 / 300, .burst = 25};
    }
    s->last_ns = now;
    if (kube_bucket_take(&s->bucket, now) <= now)
        return true;
    s->bucket.tokens += 1; /* refused, so nothing was taken */
    return false;
}

static struct hash128 key_of(const struct kube_ref *about, bool warning, const char *reason,
                             const char *action, const char *note)
{
    const char *parts[] = {about->resource->group,
                           about->resource->kind,
                           about->ns,
                           about->name,
                           about->uid,
                           warning ? "W" : "N",
                           reason,
                           action,
                           note};
    struct hash128 h = {0, 0};
    for (size_t i = 0; i < N_OF(parts); i++) {
        h.lo = hash64(slice_str(parts[i]), h.lo + 1);
        h.hi = hash64(slice_str(parts[i]), h.hi ^ 0x9e3779b97f4a7c15);
    }
    return h;
}

void kube_event_report(struct kube_events *e, const struct kube_ref *about, bool warning,
                       const char *reason, const char *action, const char *note)
{
    int64_t now = loop_now(e->loop);
    struct hash128 key = key_of(about, warning, reason, action, note);
    struct report *r = map_get(&e->reports, key_slice(&key));
    if (r && now - r->last_ns > SERIES_S * NS_PER_S && !r->busy) { /* the series is over */
        map_remove(&e->reports, key_slice(&key));
        report_free(r);
        r = NULL;
    }
    if (r) {
        r->count++;
        r->last_ns = now;
        r->last_wall_ns = loop_wall(e->loop);
        e->stats.merged++;
        if (!loop_timer_is_set(&e->flush))
            loop_timer_in(e->loop, &e->flush, REFRESH_S * NS_PER_S, flush);
        return;
    }
    if (e->reports.len >= REMEMBERED || e->sources.len >= REMEMBERED)
        forget_old(e, now);
    if (e->reports.len >= REMEMBERED || !allowed(e, about, now)) {
        e->stats.dropped++;
        return;
    }
    r = mem_zalloc(sizeof *r);
    if (!r || map_put(&e->reports, key_slice(&key), r, NULL) < 0) {
        mem_free(r);
        e->stats.dropped++;
        return;
    }
    r->count = 1;
    r->last_ns = now;
    r->last_wall_ns = loop_wall(e->loop);
    if (!write_new(e, &key, r, about, warning, reason, action, note)) {
        map_remove(&e->reports, key_slice(&key));
        report_free(r);
        e->stats.dropped++;
    }
}
