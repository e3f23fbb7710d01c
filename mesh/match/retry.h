/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a failed attempt is worth another (Envoy's retry_on conditions, as Istio passes them).
 * Counting attempts and retries, and buffered bodies are the caller's. */
#pragma once

#include "mesh/match/program.h"

enum retry_event {
    RETRY_EV_CONNECT_FAILED, /* no connection, or TLS failed */
    RETRY_EV_RESET_EARLY,    /* connection lost before any byte of the request went out */
    RETRY_EV_RESET,          /* connection or stream lost before an answer's head */
    RETRY_EV_REFUSED_STREAM, /* HTTP/2 REFUSED_STREAM or GOAWAY beyond our stream */
    RETRY_EV_TRY_TIMEOUT,    /* per-try timeout */
    RETRY_EV_ANSWER,         /* a head came: see status */
};
struct retry_outcome {
    enum retry_event event;
    uint16_t status;
    int32_t grpc_status; /* from the head (trailers-only answer); -1: none */
};
/* False for a NULL policy. */
bool retry_wanted(const struct prog_retry *r, const struct retry_outcome *o);
/* Milliseconds to wait before attempt `attempt` (1 is the first repetition): uniform in
 * [0, min(base * 2^(attempt-1), 10 * base)), base 25 ms unless the policy says otherwise. */
uint32_t retry_backoff_ms(const struct prog_retry *r, uint32_t attempt, uint32_t dice);
/* How many retries may be under way while `requests` are considered (Envoy's retry_budget): the share of
 * them, rounded down, and never less than the budget's minimum. */
uint32_t retry_budget_limit(const struct prog_retry_budget *b, uint32_t requests);
/* Requests that ended within the last interval, in tenths of it: one that ended counts for the interval,
 * and at most a tenth of it more. All zero: none. */
enum { RETRY_WINDOW_SLOTS = 11 };
struct retry_window {
    int64_t turn; /* the slot's that was written last, counted since the clock's zero */
    uint32_t n[RETRY_WINDOW_SLOTS];
};
void retry_window_add(struct retry_window *w, uint32_t interval_ms, int64_t now_ns);
uint32_t retry_window_sum(struct retry_window *w, uint32_t interval_ms, int64_t now_ns);
/* Parse Istio's retryOn: condition names and bare status codes, by comma. Unknown names: false with
 * the name in *ret_unknown. `status` gets at most `cap` codes. */
bool retry_parse_on(struct slice text, uint32_t *ret_on, uint32_t *status, uint32_t cap,
                    uint32_t *ret_n, struct slice *ret_unknown);
