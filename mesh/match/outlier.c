/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/outlier.h"

#define MS INT64_C(1000000)
#define MAX_OUT_NS (300 * 1000 * MS) /* unless the base is longer */

static bool is_code(const struct prog_outlier *o, unsigned status)
{
    for (uint32_t i = 0; i < o->n_codes; i++)
        if (o->codes[i] == status)
            return true;
    return false;
}

static bool trips(uint32_t *counter, uint32_t limit)
{
    if (++*counter < limit || limit == 0)
        return false;
    *counter = 0;
    return true;
}

enum outlier_cause outlier_count(const struct prog_outlier *o, struct outlier_state *s,
                                 unsigned status, bool local)
{
    if (local && o->split_local)
        return trips(&s->consecutive_local, o->consecutive_local) ? OUTLIER_LOCAL : OUTLIER_NONE;
    s->consecutive_local = 0;
    if (status == 0 && !local && o->split_local)
        return OUTLIER_NONE; /* a connection says nothing about the server's answers */
    if (!local && status < 500 && !is_code(o, status)) {
        s->consecutive_5xx = s->consecutive_gateway = 0;
        return OUTLIER_NONE;
    }
    if (!local && (status < 502 || status > 504))
        s->consecutive_gateway = 0;
    else if (trips(&s->consecutive_gateway, o->consecutive_gateway))
        return OUTLIER_GATEWAY;
    return trips(&s->consecutive_5xx, o->consecutive_5xx) ? OUTLIER_5XX : OUTLIER_NONE;
}

bool outlier_allows(const struct prog_outlier *o, uint32_t ejected, uint32_t hosts)
{
    uint32_t max = o->max_ejection_percent ? o->max_ejection_percent : 10;

    return ejected == 0 || ((uint64_t)ejected + 1) * 100 <= (uint64_t)hosts * max;
}

static int64_t interval_ns(const struct prog_outlier *o)
{
    return (o->interval_ms ? o->interval_ms : 10000) * MS;
}

void outlier_eject(const struct prog_outlier *o, struct outlier_state *s, int64_t now_ns)
{
    int64_t base = (o->base_ejection_ms ? o->base_ejection_ms : 30000) * MS;
    int64_t cap = base > MAX_OUT_NS ? base : MAX_OUT_NS, look = interval_ns(o), out;
    int64_t looks = s->back_ns ? (now_ns - s->back_ns) / look : 0;

    s->backoff -= looks < s->backoff ? (uint32_t)looks : s->backoff;
    if (base * ((int64_t)s->backoff + 1) < cap + base)
        s->backoff++;
    out = base * s->backoff < cap ? base * s->backoff : cap;
    s->until_ns = (now_ns + out + look - 1) / look * look; /* the first look after its time */
}

bool outlier_out(struct outlier_state *s, int64_t now_ns)
{
    if (!s->until_ns)
        return false;
    if (now_ns < s->until_ns)
        return true;
    s->back_ns = s->until_ns;
    s->until_ns = 0;
    s->consecutive_5xx = s->consecutive_gateway = s->consecutive_local = 0;
    return false;
}

unsigned outlier_grpc_status(int grpc)
{
    static const unsigned short status[] = {200, 499, 500, 400, 504, 404, 409, 403, 429,
                                            400, 409, 400, 501, 500, 503, 500, 401};

    return grpc >= 0 && grpc < (int)N_OF(status) ? status[grpc] : 500;
}
