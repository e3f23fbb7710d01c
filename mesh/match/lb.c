/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/lb.h"

static uint32_t weight_of(const struct lb_candidate *c)
{
    return c->weight ? c->weight : 1;
}

void lb_init(struct lb_set *s, struct lb_candidate *p, uint32_t n, uint32_t start)
{
    *s = (struct lb_set){.p = p, .n = n, .next = n ? start % n : 0};
    for (uint32_t i = 0; i < n; i++) {
        s->total += weight_of(&p[i]);
        p[i].sum = s->total;
        p[i].credit = 0;
        if (weight_of(&p[i]) != weight_of(&p[0]))
            s->weighted = true;
    }
    /* A different phase for each starter. */
    for (uint32_t i = 0; s->weighted && i < start % 64; i++)
        lb_round_robin(s);
}

/* Smooth weighted round robin: every candidate earns its weight, the richest pays the total. */
static uint32_t smooth(struct lb_set *s)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        s->p[i].credit += weight_of(&s->p[i]);
        if (s->p[i].credit > s->p[best].credit)
            best = i;
    }
    s->p[best].credit -= (int64_t)s->total;
    return best;
}

uint32_t lb_round_robin(struct lb_set *s)
{
    uint32_t i = s->next;

    if (s->weighted)
        return smooth(s);
    s->next = i + 1 < s->n ? i + 1 : 0;
    return i;
}

uint32_t lb_random(const struct lb_set *s, uint32_t dice)
{
    uint32_t lo = 0, hi = s->n - 1;
    uint64_t at;

    if (!s->weighted)
        return (uint32_t)((uint64_t)dice * s->n >> 32);
    at = (uint64_t)((unsigned __int128)dice * s->total >> 32);
    while (lo < hi) { /* first whose sum exceeds `at` */
        uint32_t mid = lo + (hi - lo) / 2;

        if (s->p[mid].sum > at)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

uint32_t lb_least_request(const struct lb_set *s, uint32_t dice_a, uint32_t dice_b)
{
    uint32_t a = lb_random(s, dice_a), b = lb_random(s, dice_b);
    const struct lb_candidate *x = &s->p[a], *y = &s->p[b];

    /* Two draws are made by weight, so a tie must not favour the heavier again. */
    return (uint64_t)y->active * weight_of(x) < (uint64_t)x->active * weight_of(y) ? b : a;
}

uint32_t lb_pick(struct lb_set *s, enum prog_balancer b, uint32_t dice_a, uint32_t dice_b)
{
    switch (b) {
    case PROG_ROUND_ROBIN:
        return lb_round_robin(s);
    case PROG_RANDOM:
        return lb_random(s, dice_a);
    case PROG_LEAST_REQUEST:
    case PROG_PASSTHROUGH:
    case PROG_HASH:
        break;
    }
    return lb_least_request(s, dice_a, dice_b);
}
