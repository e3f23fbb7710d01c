/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/watch_step.h"

#include <string.h>

#include "lib/base/slice.h"

/* A version that every attempt to resume fails from is given up after so many attempts. */
enum { RESUME_TRIES = 5 };

const char *reflect_state_name(enum reflect_state s)
{
    static const char *const names[] = {
#define X(name, meaning) [REFLECT_##name] = #name,
        REFLECT_STATES(X)
#undef X
    };
    return names[s];
}

void reflect_init(struct reflect *r, struct rnd *rnd)
{
    *r = (struct reflect){.rnd = rnd};
    r->backoff = (struct kube_backoff){.first_ns = 800 * NS_PER_MS,
                                       .max_ns = 30 * NS_PER_S,
                                       .reset_ns = 120 * NS_PER_S,
                                       .jitter = 1.0};
}

int reflect_watch_timeout_s(struct rnd *rnd)
{
    return 300 + (int)rnd_below(rnd, 300);
}

static void rv_set(struct reflect *r, const char *rv)
{
    size_t n = strlen(rv);
    if (n == 0)
        return; /* some servers leave it out of an event: the older one still resumes */
    if (n < sizeof r->rv)
        memcpy(r->rv, rv, n + 1);
    else
        r->rv[0] = '\0';
}

/* A bookmark older than what was seen: the server's store went back (restored from a backup). Only
 * numbers can be compared; versions are opaque otherwise. */
static bool went_back(const struct reflect *r, const char *rv)
{
    uint64_t seen, now;
    return slice_u64(slice_str(r->rv), UINT64_MAX, &seen) &&
           slice_u64(slice_str(rv), UINT64_MAX, &now) && now < seen;
}

static struct reflect_do wait_for(struct reflect *r, enum reflect_state state, int64_t ns)
{
    r->state = state;
    return (struct reflect_do){.act = ACT_WAIT, .wait_ns = ns};
}

static struct reflect_do back_off(struct reflect *r, const struct reflect_in *in)
{
    if (++r->failures >= RESUME_TRIES && in->status)
        r->rv[0] = '\0'; /* the server answers, yet never lets us resume: start anew */
    return wait_for(r, REFLECT_WAIT, kube_backoff_next(&r->backoff, in->now_ns, r->rnd));
}

static struct reflect_do start_list(struct reflect *r, bool whole)
{
    r->state = REFLECT_LIST;
    r->whole = whole;
    r->rv[0] = '\0';
    return (struct reflect_do){.act = whole ? ACT_LIST_WHOLE : ACT_LIST, .begin = true};
}

static struct reflect_do start(struct reflect *r)
{
    r->events_open = 0;
    if (r->rv[0]) {
        r->state = REFLECT_WATCH;
        return (struct reflect_do){.act = ACT_WATCH};
    }
    if (r->no_stream || r->list_next)
        return start_list(r, false);
    r->state = REFLECT_STREAM;
    return (struct reflect_do){.act = ACT_STREAM, .begin = true};
}

static bool is_expired(const struct reflect_in *in)
{
    return in->status == 410 || strcmp(in->reason, "Expired") == 0 ||
           strcmp(in->reason, "Gone") == 0;
}

static struct reflect_do absent(struct reflect *r)
{
    r->rv[0] = '\0';
    r->failures = 0;
    r->list_next = false;
    kube_backoff_reset(&r->backoff);
    int64_t wait = 10 * NS_PER_S + (int64_t)rnd_below(r->rnd, 10000) * NS_PER_MS;
    struct reflect_do d = wait_for(r, REFLECT_ABSENT, wait);
    d.begin = d.end = d.absent = !r->absent; /* told once, not at each look */
    r->absent = true;
    return d;
}

/* The state is complete at rv; a stream that brought it goes on as the watch. */
static struct reflect_do complete(struct reflect *r, const char *rv, enum reflect_act act)
{
    rv_set(r, rv);
    r->state = REFLECT_WATCH;
    r->failures = 0;
    r->list_next = r->whole = r->absent = false;
    r->events_open = 0;
    return (struct reflect_do){.act = act, .end = true};
}

static struct reflect_do step_stream(struct reflect *r, const struct reflect_in *in)
{
    switch (in->kind) {
    case IN_MARK:
        if (in->initial_end)
            return complete(r, in->rv, ACT_NONE);
        return (struct reflect_do){0};
    case IN_EVENT:
        r->events_open++;
        return (struct reflect_do){0};
    case IN_REFUSED:
    case IN_ERROR:
        if (in->kind == IN_REFUSED && in->status == 404)
            return absent(r);
        if (in->status == 0 || in->status == 429 || in->status == 401 || in->status == 403)
            return back_off(r, in);
        /* 400, 415, 422: the server does not know WatchList, or has it switched off. */
        if (in->status == 400 || in->status == 415 || in->status == 422)
            r->no_stream = true;
        return start_list(r, false);
    case IN_STALLED:
        r->no_stream = true; /* it ignores sendInitialEvents: no end mark will ever come */
        return start_list(r, false);
    case IN_OVER:
        if (++r->failures >= 2)
            r->list_next = true;
        return wait_for(r, REFLECT_WAIT, kube_backoff_next(&r->backoff, in->now_ns, r->rnd));
    case IN_GO:
    case IN_PAGE:
        break;
    }
    return (struct reflect_do){0};
}

static struct reflect_do step_list(struct reflect *r, const struct reflect_in *in)
{
    switch (in->kind) {
    case IN_PAGE:
        if (in->more)
            return (struct reflect_do){.act = ACT_PAGE};
        return complete(r, in->rv, ACT_WATCH);
    case IN_REFUSED:
        if (in->status == 404)
            return absent(r);
        if (is_expired(in) && !r->whole)
            return start_list(r, true); /* the pages outlived their version */
        return back_off(r, in);
    case IN_OVER:
        return back_off(r, in);
    default:
        return (struct reflect_do){0};
    }
}

static struct reflect_do step_watch(struct reflect *r, const struct reflect_in *in)
{
    switch (in->kind) {
    case IN_EVENT:
        r->events_open++;
        r->failures = 0;
        rv_set(r, in->rv);
        return (struct reflect_do){0};
    case IN_MARK:
        r->events_open++;
        r->failures = 0;
        if (went_back(r, in->rv)) {
            r->rv[0] = '\0';
            return back_off(r, in);
        }
        rv_set(r, in->rv);
        return (struct reflect_do){0};
    case IN_REFUSED:
    case IN_ERROR:
        if (in->kind == IN_REFUSED && in->status == 404)
            return absent(r);
        if (is_expired(in))
            r->rv[0] = '\0';
        return back_off(r, in);
    case IN_OVER:
        if (r->events_open == 0 && in->open_ns < NS_PER_S)
            return back_off(r, in); /* a watch that ends at once would spin */
        return start(r);
    default:
        return (struct reflect_do){0};
    }
}

struct reflect_do reflect_step(struct reflect *r, const struct reflect_in *in)
{
    switch (r->state) {
    case REFLECT_IDLE:
    case REFLECT_WAIT:
    case REFLECT_ABSENT:
        return in->kind == IN_GO ? start(r) : (struct reflect_do){0};
    case REFLECT_STREAM:
        return step_stream(r, in);
    case REFLECT_LIST:
        return step_list(r, in);
    case REFLECT_WATCH:
        return step_watch(r, in);
    }
    return (struct reflect_do){0};
}
