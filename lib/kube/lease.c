/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/lease.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/apply.h"
#include "lib/kube/kube_int.h"
#include "lib/kube/resource.h"

enum { RELEASE_MS = 2000 };

/* --- pure ------------------------------------------------------------------------------------- */
enum kube_lease_act kube_lease_decide(const struct kube_lease_view *v)
{
    if (!v->exists)
        return KUBE_LEASE_CREATE;
    if (strcmp(v->holder, v->identity) == 0)
        return KUBE_LEASE_RENEW;
    if (!*v->holder)
        return KUBE_LEASE_TAKE; /* released */
    return v->now_ns >= v->seen_ns + v->lease_ns ? KUBE_LEASE_TAKE : KUBE_LEASE_WAIT;
}

static const char *spec_str(const json_t *lease, const char *field)
{
    const char *s = json_string_value(json_object_get(json_object_get(lease, "spec"), field));
    return s ? s : "";
}

static int64_t spec_int(const json_t *lease, const char *field)
{
    return json_integer_value(json_object_get(json_object_get(lease, "spec"), field));
}

json_t *kube_lease_record(const json_t *old, const char *ns, const char *name, const char *identity,
                          int64_t duration_ms, int64_t wall_ns)
{
    char now[KUBE_MICRO_TIME], acquired[KUBE_MICRO_TIME];
    bool same = old && strcmp(spec_str(old, "holderIdentity"), identity) == 0;
    int64_t transitions = old ? spec_int(old, "leaseTransitions") : 0;
    int64_t seconds = (duration_ms + 999) / 1000;
    kube_micro_time(wall_ns, now);
    snprintf(acquired, sizeof acquired, "%s", now);
    if (same && *spec_str(old, "acquireTime"))
        snprintf(acquired, sizeof acquired, "%s", spec_str(old, "acquireTime"));
    if (old && !same && *identity)
        transitions++;
    if (!*identity)
        seconds = 1; /* released: whoever looks next may take it */
    json_t *meta = json_pack("{s:s, s:s}", "name", name, "namespace", ns);
    if (meta && old)
        json_object_set_new(meta, "resourceVersion",
                            json_string(kube_meta(old, "resourceVersion")));
    return json_pack("{s:s, s:s, s:o, s:{s:s, s:I, s:s, s:s, s:I}}", "apiVersion",
                     "coordination.k8s.io/v1", "kind", "Lease", "metadata", meta, "spec",
                     "holderIdentity", identity, "leaseDurationSeconds", (json_int_t)seconds,
                     "acquireTime", acquired, "renewTime", now, "leaseTransitions",
                     (json_int_t)transitions);
}

/* --- the elector ------------------------------------------------------------------------------ */
struct kube_lease {
    struct kube_client *client;
    struct loop *loop;
    struct kube_lease_opts opts;
    char *ns, *name, *identity, *holder;
    int64_t duration_ns, renew_ns, retry_ns;
    json_t *record;     /* as last read or written */
    int64_t seen_ns;    /* when `record` was last seen to change */
    int64_t sent_ns;    /* when the write in flight was sent */
    int64_t renewed_ns; /* when the last write that succeeded was sent; 0 = we hold nothing */
    struct kube_call *call;
    struct loop_timer tick;     /* next attempt */
    struct loop_timer deadline; /* end of what we may believe to hold */
    struct loop_task reaper;
    void (*stopped)(void *user);
    void *stopped_user;
    bool holding, stopping;
};

static void attempt(struct loop_timer *t);

static int64_t fresh_now(const struct kube_lease *l)
{
    return clock_now(loop_clock(l->loop)); /* not the turn's: the loop may have been stuck */
}

static void holder_set(struct kube_lease *l, const char *holder)
{
    if (l->holder && strcmp(l->holder, holder) == 0)
        return;
    char *copy = mem_strdup(holder);
    if (!copy)
        return;
    mem_free(l->holder);
    l->holder = copy;
    LOG(INFO, "Lease holder was seen", "lease=%s/%s holder=%s", l->ns, l->name, holder);
    if (l->opts.leader)
        l->opts.leader(l->opts.user, holder);
}

/* Takes the reference. */
static void record_set(struct kube_lease *l, json_t *record)
{
    bool changed =
        !l->record || !record ||
        strcmp(kube_meta(l->record, "resourceVersion"), kube_meta(record, "resourceVersion")) != 0;
    json_decref(l->record);
    l->record = record;
    if (changed)
        l->seen_ns = fresh_now(l);
    if (record)
        holder_set(l, spec_str(record, "holderIdentity"));
}

static void lose(struct kube_lease *l)
{
    if (!l->holding)
        return;
    l->holding = false;
    l->renewed_ns = 0;
    loop_timer_clear(l->loop, &l->deadline);
    if (l->stopping)
        LOG(INFO, "Lease was given up", "lease=%s/%s identity=%s", l->ns, l->name, l->identity);
    else
        LOG(WARN, "Lease was lost", "lease=%s/%s identity=%s", l->ns, l->name, l->identity);
    l->opts.lost(l->opts.user);
}

static void deadline_over(struct loop_timer *t)
{
    lose(CONTAINER_OF(t, struct kube_lease, deadline));
}

static void again(struct kube_lease *l, int64_t in_ns)
{
    if (!l->stopping)
        loop_timer_in(l->loop, &l->tick, rnd_jitter(loop_rnd(l->loop), in_ns, 0.1), attempt);
}

/* The write at `sent_ns` was accepted: nobody else may take over before sent + duration. */
static void hold(struct kube_lease *l)
{
    int64_t until = l->sent_ns + l->renew_ns;
    if (fresh_now(l) >= until || loop_timer_at(l->loop, &l->deadline, until, deadline_over) < 0) {
        lose(l); /* the answer came too late to be worth anything */
        return;
    }
    l->renewed_ns = l->sent_ns;
    if (l->holding)
        return;
    l->holding = true;
    LOG(INFO, "Lease was acquired", "lease=%s/%s identity=%s", l->ns, l->name, l->identity);
    l->opts.acquired(l->opts.user);
}

static void written(void *user, struct kube_resp *resp)
{
    struct kube_lease *l = user;
    l->call = NULL;
    again(l, l->retry_ns);
    if (resp->err.code == ERR_OK && json_is_object(resp->body)) {
        record_set(l, json_incref(resp->body));
        hold(l);
        return;
    }
    LOG(DEBUG, "Lease could not be written", "lease=%s/%s error=%s", l->ns, l->name, resp->err.msg);
    /* Somebody was faster, or it went away: read it again before the next write. What we hold
     * stays ours until its deadline; a write whose answer was lost may have counted, too. */
    json_decref(l->record);
    l->record = NULL;
}

static void write_record(struct kube_lease *l, const json_t *old)
{
    const struct kube_resource *r = kube_resource(KUBE_LEASE);
    json_t *record = kube_lease_record(old, l->ns, l->name, l->identity, l->duration_ns / NS_PER_MS,
                                       loop_wall(l->loop));
    CLEANUP(mem_freep)
    char *path = kube_path(r, l->ns, old ? l->name : NULL, NULL, NULL);
    l->sent_ns = fresh_now(l);
    if (record && path) {
        struct kube_req req = {.method = old ? "PUT" : "POST",
                               .path = path,
                               .body = record,
                               .no_retry = true,
                               .timeout_ms = l->renew_ns / NS_PER_MS / 2};
        l->call = kube_request(l->client, &req, written, l);
    }
    json_decref(record);
    if (!l->call)
        again(l, l->retry_ns);
}

static void decide(struct kube_lease *l)
{
    struct kube_lease_view v = {
        .identity = l->identity,
        .holder = l->record ? spec_str(l->record, "holderIdentity") : "",
        .exists = l->record != NULL,
        .seen_ns = l->seen_ns,
        .lease_ns = l->record ? spec_int(l->record, "leaseDurationSeconds") * NS_PER_S : 0,
        .now_ns = fresh_now(l),
    };
    switch (kube_lease_decide(&v)) {
    case KUBE_LEASE_WAIT:
        lose(l); /* somebody else stands there: whatever we believed is over */
        again(l, l->retry_ns);
        break;
    case KUBE_LEASE_CREATE:
        write_record(l, NULL);
        break;
    case KUBE_LEASE_RENEW:
    case KUBE_LEASE_TAKE:
        write_record(l, l->record);
        break;
    }
}

static void was_read(void *user, struct kube_resp *resp)
{
    struct kube_lease *l = user;
    l->call = NULL;
    if (resp->err.code == ERR_OK && json_is_object(resp->body)) {
        record_set(l, json_incref(resp->body));
    } else if (resp->err.code == ERR_NOT_FOUND) {
        record_set(l, NULL);
    } else {
        LOG(DEBUG, "Lease could not be read", "lease=%s/%s error=%s", l->ns, l->name,
            resp->err.msg);
        again(l, l->retry_ns);
        return;
    }
    decide(l);
}

static void attempt(struct loop_timer *t)
{
    struct kube_lease *l = CONTAINER_OF(t, struct kube_lease, tick);
    if (l->call || l->stopping)
        return;
    if (l->holding && l->record) { /* the usual case: one write per period, no read */
        write_record(l, l->record);
        return;
    }
    l->call = kube_get(l->client, kube_resource(KUBE_LEASE), l->ns, l->name, was_read, l);
    if (!l->call)
        again(l, l->retry_ns);
}

int kube_lease_start(struct kube_client *client, const struct kube_lease_opts *opts,
                     struct kube_lease **ret, struct err *err)
{
    struct kube_lease *l = mem_zalloc(sizeof *l);
    if (!l)
        return err_set(err, ERR_NOMEM, "lease");
    l->client = client;
    l->loop = kube_client_loop(client);
    l->opts = *opts;
    l->ns = mem_strdup(opts->ns);
    l->name = mem_strdup(opts->name);
    l->identity = mem_strdup(opts->identity);
    l->duration_ns = (opts->duration_ms ? opts->duration_ms : 15000) * NS_PER_MS;
    l->renew_ns = (opts->renew_deadline_ms ? opts->renew_deadline_ms : 10000) * NS_PER_MS;
    l->retry_ns = (opts->retry_ms ? opts->retry_ms : 2000) * NS_PER_MS;
    bool memory =
        l->ns && l->name && l->identity && loop_timer_in(l->loop, &l->tick, 0, attempt) == 0;
    bool order = l->retry_ns < l->renew_ns && l->renew_ns < l->duration_ns && *opts->identity;
    if (memory && order) {
        *ret = l;
        return 0;
    }
    loop_timer_clear(l->loop, &l->tick);
    mem_free(l->ns);
    mem_free(l->name);
    mem_free(l->identity);
    mem_free(l);
    if (!order)
        return err_set(err, ERR_INVALID,
                       "lease: retry < renew deadline < duration and an identity are needed");
    return err_set(err, ERR_NOMEM, "lease");
}

bool kube_lease_held(const struct kube_lease *l)
{
    return l->holding && fresh_now(l) < l->renewed_ns + l->renew_ns;
}

const char *kube_lease_holder(const struct kube_lease *l)
{
    return l->holder ? l->holder : "";
}

static void reap(struct loop_task *t)
{
    struct kube_lease *l = CONTAINER_OF(t, struct kube_lease, reaper);
    if (l->stopped)
        l->stopped(l->stopped_user);
    json_decref(l->record);
    mem_free(l->ns);
    mem_free(l->name);
    mem_free(l->identity);
    mem_free(l->holder);
    mem_free(l);
}

static void finish(struct kube_lease *l, const struct err *err)
{
    if (err && err->code != ERR_OK && err->code != ERR_NOT_FOUND)
        LOG(WARN, "Lease could not be released; it runs out by itself", "lease=%s/%s error=%s",
            l->ns, l->name, err->msg);
    l->call = NULL;
    loop_task_add(l->loop, &l->reaper, reap);
}

static void released(void *user, struct kube_resp *resp)
{
    finish(user, &resp->err);
}

/* What stands there decides, as a write that was in flight may have counted. */
static void release(void *user, struct kube_resp *resp)
{
    struct kube_lease *l = user;
    CLEANUP(mem_freep)
    char *path = kube_path(kube_resource(KUBE_LEASE), l->ns, l->name, NULL, NULL);
    CLEANUP(json_freep) json_t *record = NULL;
    l->call = NULL;
    if (resp->err.code != ERR_OK ||
        strcmp(spec_str(resp->body, "holderIdentity"), l->identity) != 0) {
        finish(l, &resp->err);
        return;
    }
    record = kube_lease_record(resp->body, l->ns, l->name, "", 1000, loop_wall(l->loop));
    if (record && path) {
        struct kube_req req = {.method = "PUT",
                               .path = path,
                               .body = record,
                               .no_retry = true,
                               .timeout_ms = RELEASE_MS / 2};
        l->call = kube_request(l->client, &req, released, l);
    }
    if (!l->call)
        finish(l, NULL);
}

void kube_lease_stop(struct kube_lease *l, void (*done)(void *user), void *user)
{
    if (!l || l->stopping)
        return;
    bool ours = l->holding || l->call;
    l->stopping = true;
    l->stopped = done;
    l->stopped_user = user;
    loop_timer_clear(l->loop, &l->tick);
    kube_cancel(l->call);
    l->call = NULL;
    lose(l);
    CLEANUP(mem_freep)
    char *path = kube_path(kube_resource(KUBE_LEASE), l->ns, l->name, NULL, NULL);
    struct kube_req req = {
        .method = "GET", .path = path, .no_retry = true, .timeout_ms = RELEASE_MS / 2};
    if (ours && path)
        l->call = kube_request(l->client, &req, release, l);
    if (!l->call)
        finish(l, NULL);
}
