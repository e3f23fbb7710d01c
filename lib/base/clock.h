/* SPDX-License-Identifier: Apache-2.0 */
/* Time as a value that is passed in. `now_ns` is monotonic; `wall_ns` is the civil clock, used only
 * in certificates, logs and Kubernetes fields. A virtual clock advances by hand in tests: an hour
 * of back-off takes a millisecond. */
#pragma once

#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

struct clock {
    int64_t (*now_ns)(const struct clock *);
    int64_t (*wall_ns)(const struct clock *);
    int64_t virtual_now_ns, virtual_wall_ns; /* used by virtual clocks */
    int64_t wall_shift_ns;                   /* added to the real civil clock (skew tests) */
};

static inline int64_t clock_now(const struct clock *c)
{
    return c->now_ns(c);
}
static inline int64_t clock_wall(const struct clock *c)
{
    return c->wall_ns(c);
}
/* The machine's clock. TULLE_WALL_SHIFT_S in the environment shifts its civil time (tests). */
void clock_init_real(struct clock *c);
/* Starts at now = 1 s and the given civil time. */
void clock_init_virtual(struct clock *c, int64_t wall_ns);
void clock_advance(struct clock *c, int64_t ns);
/* Somebody sets a virtual clock's civil time: forward, or back. */
void clock_shift_wall(struct clock *c, int64_t ns);

/* RFC 3339 in UTC with milliseconds ("2026-08-01T10:20:30.123Z", 24 bytes + NUL) or, with
 * `seconds`, without (20 bytes + NUL). */
void clock_rfc3339(int64_t wall_ns, int seconds, char ret[32]);
/* Parse RFC 3339 (UTC or with offset, with or without fraction); 0 or -1. */
int clock_parse_rfc3339(const char *s, int64_t *ret_wall_ns);
