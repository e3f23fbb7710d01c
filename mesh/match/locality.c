/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/locality.h"

struct place {
    struct slice region, zone, subzone;
};

static struct place place_of(struct slice text)
{
    struct place p = {SLICE_NULL, SLICE_NULL, SLICE_NULL};

    if (slice_next(&text, '/', &p.region) && slice_next(&text, '/', &p.zone))
        p.subzone = text;
    return p;
}

static bool part_matches(struct slice part, struct slice pattern)
{
    return !pattern.len || slice_is(pattern, "*") || slice_eq(part, pattern);
}

bool locality_matches(struct slice place, struct slice pattern)
{
    struct place a = place_of(place), b = place_of(pattern);

    return (slice_is(b.region, "*") || slice_eq(a.region, b.region)) &&
           part_matches(a.zone, b.zone) && part_matches(a.subzone, b.subzone);
}

const struct prog_distribute *locality_distribution(const struct prog_locality *l,
                                                    const struct locality_self *self)
{
    for (uint32_t i = 0; l && i < l->n_distribute; i++)
        if (locality_matches(self->locality, l->distribute[i].from))
            return &l->distribute[i];
    return NULL;
}

/* 0 the same place, 1 zone, 2 region, 3 elsewhere, 4 where no failover rule sends to. */
static uint16_t distance(const struct prog_locality *l, struct slice from, struct slice to)
{
    struct place a = place_of(from), b = place_of(to);

    if (slice_eq(a.region, b.region))
        return !slice_eq(a.zone, b.zone) ? 2 : slice_eq(a.subzone, b.subzone) ? 0 : 1;
    for (uint32_t i = 0; i < l->n_failover; i++)
        if (slice_eq(l->failover[i].from, a.region))
            return slice_eq(l->failover[i].to, b.region) ? 3 : 4;
    return 3;
}

static bool alike(const struct prog_rank *r, const struct locality_self *self, struct slice place,
                  const struct prog_endpoints *e, const struct prog_endpoint *p)
{
    struct place own = place_of(self->locality), its = place_of(place);
    uint64_t selector = r->selector;

    switch (r->kind) {
    case PROG_LIKE_REGION:
        return slice_eq(r->value.len ? r->value : own.region, its.region);
    case PROG_LIKE_ZONE:
        return slice_eq(r->value.len ? r->value : own.zone, its.zone);
    case PROG_LIKE_SUBZONE:
        return slice_eq(r->value.len ? r->value : own.subzone, its.subzone);
    case PROG_LIKE_NODE:
        selector = prog_selector_add(1, SL("kubernetes.io/hostname"),
                                     r->value.len ? r->value : self->node);
        break;
    case PROG_LIKE_LABEL:
        break;
    }
    return p->subsets & prog_subset_mask(e, selector);
}

/* Labels in order: whoever differs at the first is last. */
static uint16_t rank_of(const struct prog_locality *l, const struct locality_self *self,
                        struct slice place, const struct prog_endpoints *e,
                        const struct prog_endpoint *p)
{
    for (uint32_t i = 0; i < l->n_ranks; i++)
        if (!alike(&l->ranks[i], self, place, e, p))
            return (uint16_t)MIN(l->n_ranks - i, 1000u);
    return 0;
}

uint16_t locality_group(const struct prog_locality *l, const struct locality_self *self,
                        const struct prog_endpoints *e, const struct prog_endpoint *p)
{
    struct slice place = p->locality < e->localities.n ? e->localities.p[p->locality] : SLICE_NULL;
    const struct prog_distribute *d = locality_distribution(l, self);

    if (!l || (l->n_distribute && !d))
        return 0;
    if (d) {
        for (uint32_t i = 0; i < d->n_to && i < LOCALITY_NONE; i++)
            if (locality_matches(place, d->to[i].to))
                return d->to[i].weight ? (uint16_t)i : LOCALITY_NONE;
        return LOCALITY_NONE;
    }
    if (!l->n_ranks)
        return distance(l, self->locality, place);
    if (!l->n_failover)
        return rank_of(l, self, place, e, p);
    return (uint16_t)(rank_of(l, self, place, e, p) * 5 + distance(l, self->locality, place));
}

/* What a group can carry, in percent of the load. */
static uint32_t availability(const struct locality_share *g)
{
    return g->hosts ? MIN((uint32_t)((uint64_t)g->healthy * 140 / g->hosts), 100u) : 0;
}

static bool too_few(const struct locality_share *g, uint32_t percent)
{
    return g->hosts && (uint64_t)g->healthy * 100 < (uint64_t)g->hosts * percent;
}

static void distribute(struct locality_share *g, uint32_t n, uint32_t min_health_percent)
{
    struct locality_share all = {0};

    for (uint32_t i = 0; i < n; i++) {
        all.hosts += g[i].hosts;
        all.healthy += g[i].healthy;
    }
    for (uint32_t i = 0; i < n; i++) {
        g[i].panic = too_few(&all, min_health_percent);
        g[i].share = g[i].weight * (g[i].panic ? (g[i].hosts ? 100 : 0) : availability(&g[i]));
    }
}

void locality_shares(struct locality_share *g, uint32_t n, uint32_t min_health_percent)
{
    uint32_t sum = 0, left = 100;

    if (n && g[0].weight) {
        distribute(g, n, min_health_percent);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        g[i].share = 0;
        sum = MIN(sum + availability(&g[i]), 100u);
    }
    for (uint32_t i = 0; i < n; i++)
        g[i].panic = sum < 100 && too_few(&g[i], min_health_percent);
    for (uint32_t i = 0; i < n && sum; i++) {
        g[i].share = MIN(left, availability(&g[i]) * 100 / sum);
        left -= g[i].share;
    }
    for (uint32_t i = 0; i < n && left && sum; i++) /* what rounding left */
        if (g[i].share) {
            g[i].share += left;
            left = 0;
        }
    for (uint32_t i = 0; i < n && !sum; i++) /* nobody is healthy: all of those in panic, or none */
        g[i].share = g[i].panic ? g[i].hosts : 0;
}
