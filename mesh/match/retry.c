/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/retry.h"

static bool status_wanted(const struct prog_retry *r, uint16_t status)
{
    if ((r->on & PROG_RETRY_5XX) && status >= 500 && status <= 599)
        return true;
    if ((r->on & PROG_RETRY_GATEWAY_ERROR) && status >= 502 && status <= 504)
        return true;
    if ((r->on & PROG_RETRY_4XX) && status == 409)
        return true;
    if (r->on & PROG_RETRY_STATUS)
        for (uint32_t i = 0; i < r->n_status; i++)
            if (r->status[i] == status)
                return true;
    return false;
}

static bool grpc_wanted(const struct prog_retry *r, int32_t status)
{
    switch (status) { /* grpc/status.h numbers */
    case 1:
        return r->on & PROG_RETRY_CANCELLED;
    case 4:
        return r->on & PROG_RETRY_DEADLINE;
    case 8:
        return r->on & PROG_RETRY_EXHAUSTED;
    case 13:
        return r->on & PROG_RETRY_INTERNAL;
    case 14:
        return r->on & PROG_RETRY_UNAVAILABLE;
    default:
        return false;
    }
}

bool retry_wanted(const struct prog_retry *r, const struct retry_outcome *o)
{
    const uint32_t any_reset = PROG_RETRY_5XX | PROG_RETRY_GATEWAY_ERROR | PROG_RETRY_RESET;

    if (!r)
        return false;
    switch (o->event) {
    case RETRY_EV_CONNECT_FAILED:
        return r->on & (any_reset | PROG_RETRY_CONNECT_FAILURE);
    case RETRY_EV_RESET_EARLY:
        return r->on & (any_reset | PROG_RETRY_RESET_BEFORE_REQUEST);
    case RETRY_EV_RESET:
    case RETRY_EV_TRY_TIMEOUT:
        return r->on & any_reset;
    case RETRY_EV_REFUSED_STREAM:
        return r->on & (any_reset | PROG_RETRY_REFUSED_STREAM);
    case RETRY_EV_ANSWER:
        return status_wanted(r, o->status) || grpc_wanted(r, o->grpc_status);
    }
    return false;
}

uint32_t retry_backoff_ms(const struct prog_retry *r, uint32_t attempt, uint32_t dice)
{
    uint64_t base = r && r->backoff_ms ? r->backoff_ms : 25, span = base;

    for (uint32_t i = 1; i < attempt && span < base * 10; i++)
        span *= 2;
    if (span > base * 10)
        span = base * 10;
    return (uint32_t)(span * dice >> 32);
}

uint32_t retry_budget_limit(const struct prog_retry_budget *b, uint32_t requests)
{
    uint64_t share = (uint64_t)requests * b->share / 100000;

    return (uint32_t)MAX(share, (uint64_t)b->min_retries);
}

/* The slots that have passed since the last look are empty. */
static uint32_t *window_now(struct retry_window *w, uint32_t interval_ms, int64_t now_ns)
{
    int64_t turn = now_ns / ((int64_t)interval_ms * 100000);

    if (turn - w->turn >= RETRY_WINDOW_SLOTS || turn < w->turn) {
        *w = (struct retry_window){.turn = turn};
    } else {
        while (w->turn < turn)
            w->n[++w->turn % RETRY_WINDOW_SLOTS] = 0;
    }
    return &w->n[turn % RETRY_WINDOW_SLOTS];
}

void retry_window_add(struct retry_window *w, uint32_t interval_ms, int64_t now_ns)
{
    ++*window_now(w, interval_ms, now_ns);
}

uint32_t retry_window_sum(struct retry_window *w, uint32_t interval_ms, int64_t now_ns)
{
    uint32_t sum = 0;

    window_now(w, interval_ms, now_ns);
    for (size_t i = 0; i < RETRY_WINDOW_SLOTS; i++)
        sum += w->n[i];
    return sum;
}

bool retry_parse_on(struct slice text, uint32_t *ret_on, uint32_t *status, uint32_t cap,
                    uint32_t *ret_n, struct slice *ret_unknown)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } names[] = {
        {"5xx", PROG_RETRY_5XX},
        {"gateway-error", PROG_RETRY_GATEWAY_ERROR},
        {"connect-failure", PROG_RETRY_CONNECT_FAILURE},
        {"refused-stream", PROG_RETRY_REFUSED_STREAM},
        {"reset", PROG_RETRY_RESET},
        {"reset-before-request", PROG_RETRY_RESET_BEFORE_REQUEST},
        {"retriable-4xx", PROG_RETRY_4XX},
        {"retriable-status-codes", PROG_RETRY_STATUS},
        {"unavailable", PROG_RETRY_UNAVAILABLE},
        {"cancelled", PROG_RETRY_CANCELLED},
        {"deadline-exceeded", PROG_RETRY_DEADLINE},
        {"resource-exhausted", PROG_RETRY_EXHAUSTED},
        {"internal", PROG_RETRY_INTERNAL},
    };
    uint32_t on = 0, n = 0;
    struct slice part;
    uint64_t code;

    while (slice_next(&text, ',', &part)) {
        size_t i;

        part = slice_trim(part);
        if (part.len == 0)
            continue;
        for (i = 0; i < N_OF(names) && !slice_is(part, names[i].name); i++)
            ;
        if (i < N_OF(names)) {
            on |= names[i].bit;
        } else if (slice_u64(part, 599, &code) && code >= 100 && n < cap) {
            status[n++] = (uint32_t)code;
            on |= PROG_RETRY_STATUS;
        } else {
            *ret_unknown = part;
            return false;
        }
    }
    *ret_on = on;
    *ret_n = n;
    return true;
}
