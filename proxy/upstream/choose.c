/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a host: groups by place, then the balancer within one. */
#include "proxy/upstream/choose.h"

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "proxy/worker.h"

struct locality_self place_of_worker(const struct worker *w)
{
    const struct prog_inbound *in = w->know.inbound;
    return in ? (struct locality_self){in->self.locality, in->self.node}
              : (struct locality_self){0};
}

void live_forget(struct up_cluster *c)
{
    if (!c->live)
        return;
    for (uint32_t i = 0; i < c->live->n_groups; i++)
        up_table_unref(c->live->groups[i].table);
    mem_free(c->live);
    c->live = NULL;
}

/* --- gathering
 * ------------------------------------------------------------------------------------ */

enum { GROUPS_MAX = 64 };
struct gather {
    struct up_cluster *c;
    int64_t now;
    bool draining;     /* only hosts that drain are left: all of those that are not ejected */
    bool keep_ejected; /* they are passed over when their turn comes */
    uint16_t number[GROUPS_MAX]; /* of the groups, ascending */
    struct locality_share shares[GROUPS_MAX];
    uint32_t n_groups, n_hosts;
};

static bool takes_part(const struct gather *g, const struct up_host *h)
{
    return h->group != LOCALITY_NONE && (g->draining || !h->draining);
}

/* The group of that number among those found, made in order; the last one takes what is beyond. */
static uint32_t group_at(struct gather *g, uint16_t number)
{
    uint32_t i = g->n_groups;
    while (i > 0 && g->number[i - 1] >= number)
        i--;
    if (i < g->n_groups && g->number[i] == number)
        return i;
    if (g->n_groups == GROUPS_MAX)
        return MIN(i, GROUPS_MAX - 1u);
    for (uint32_t k = g->n_groups++; k > i; k--) {
        g->number[k] = g->number[k - 1];
        g->shares[k] = g->shares[k - 1];
    }
    g->number[i] = number;
    g->shares[i] = (struct locality_share){0};
    return i;
}

static void count(struct gather *g)
{
    struct up_cluster *c = g->c;
    bool good = false, steady = false;
    c->next_return_ns = INT64_MAX;
    for (uint32_t i = 0; i < c->n_hosts; i++) {
        struct up_host *h = c->hosts[i];
        bool out = health_out(h, g->now);
        if (out)
            c->next_return_ns = MIN(c->next_return_ns, h->outlier->until_ns);
        good |= !out && !h->draining && h->group != LOCALITY_NONE;
        steady |= !h->draining && h->group != LOCALITY_NONE;
    }
    for (uint32_t i = 0; i < c->n_hosts && !good; i++)
        g->draining |= c->hosts[i]->draining && c->hosts[i]->group != LOCALITY_NONE &&
                       (!steady || !health_out(c->hosts[i], g->now));
    for (uint32_t i = 0; i < c->n_hosts; i++) {
        struct up_host *h = c->hosts[i];
        if (!takes_part(g, h))
            continue;
        struct locality_share *s = &g->shares[group_at(g, h->group)];
        s->hosts++;
        s->healthy += !health_out(h, g->now);
        g->n_hosts++;
    }
}

static void weigh(struct gather *g)
{
    const struct prog_locality *l = PROG_POLICY(g->c->cfg, locality);
    const struct prog_outlier *o = PROG_POLICY(g->c->cfg, outlier);
    struct locality_self self = place_of_worker(g->c->worker);
    const struct prog_distribute *d = locality_distribution(l, &self);
    for (uint32_t i = 0; d && i < g->n_groups; i++)
        g->shares[i].weight = g->number[i] < d->n_to ? d->to[g->number[i]].weight : 0;
    locality_shares(g->shares, g->n_groups, o ? o->min_health_percent : 0);
}

static void fill(struct gather *g, struct up_live *l, uint32_t at)
{
    struct up_group *to = &l->groups[l->n_groups++];
    struct up_cluster *c = g->c;
    to->first = l->n;
    to->share = g->shares[at].share;
    to->panic = g->shares[at].panic;
    l->shares += to->share;
    for (uint32_t i = 0; i < c->n_hosts; i++) {
        struct up_host *h = c->hosts[i];
        if (!takes_part(g, h) || group_at(g, h->group) != at ||
            (!to->panic && !g->keep_ejected && health_out(h, g->now)))
            continue;
        h->pos = l->n;
        l->candidates[l->n] = (struct lb_candidate){.weight = h->weight, .active = h->active};
        l->hosts[l->n++] = h;
    }
    lb_init(&to->lb, l->candidates + to->first, l->n - to->first,
            rnd_u32(loop_rnd(c->worker->loop)));
}

/* Tables stay as long as the hosts do, whatever their health. */
static void tables_keep(const struct up_live *old, struct up_live *l)
{
    if (!old || old->n != l->n || old->n_groups != l->n_groups ||
        memcmp(old->hosts, l->hosts, l->n * sizeof *l->hosts) != 0)
        return;
    for (uint32_t i = 0; i < l->n_groups; i++)
        if (old->groups[i].table && old->groups[i].first == l->groups[i].first)
            l->groups[i].table = up_table_ref(old->groups[i].table);
}

static enum err_code live_refresh(struct up_cluster *c, int64_t now)
{
    struct gather g = {.c = c, .now = now, .keep_ejected = c->cfg->balancer == PROG_HASH};
    for (uint32_t i = 0; i < c->n_hosts; i++)
        c->hosts[i]->pos = UINT32_MAX;
    count(&g);
    weigh(&g);
    size_t groups = g.n_groups * sizeof(struct up_group);
    struct up_live *l = mem_zalloc(
        sizeof *l + groups + g.n_hosts * (sizeof(struct lb_candidate) + sizeof(struct up_host *)));
    if (!l)
        return ERR_NOMEM;
    l->groups = (struct up_group *)(void *)(l + 1);
    l->candidates = (struct lb_candidate *)(void *)(l->groups + g.n_groups);
    l->hosts = (struct up_host **)(void *)(l->candidates + g.n_hosts);
    for (uint32_t i = 0; i < g.n_groups; i++)
        fill(&g, l, i);
    tables_keep(c->live, l);
    live_forget(c);
    c->live = l;
    c->live_stale = false;
    return ERR_OK;
}

/* --- choosing
 * ------------------------------------------------------------------------------------- */

static bool was_tried(const struct up_choice *how, const struct up_host *h)
{
    for (unsigned i = 0; how && i < how->n_tried; i++)
        if (how->tried[i] == h)
            return true;
    return false;
}

static bool usable(const struct up_group *g, struct up_host *h, int64_t now)
{
    return g->panic || !health_out(h, now);
}

/* A group that has a usable host, and none that was tried. */
static struct up_group *group_elsewhere(const struct up_live *l, const struct up_choice *how,
                                        int64_t now)
{
    for (uint32_t i = 0; i < l->n_groups; i++) {
        struct up_group *g = &l->groups[i];
        bool tried = false, some = false;
        for (uint32_t k = g->first; k < g->first + g->lb.n; k++) {
            tried |= was_tried(how, l->hosts[k]);
            some |= usable(g, l->hosts[k], now);
        }
        if (some && !tried)
            return g;
    }
    return NULL;
}

static struct up_group *group_pick(const struct up_live *l, const struct up_choice *how,
                                   int64_t now, uint32_t dice)
{
    struct up_group *g =
        how && how->elsewhere && how->n_tried ? group_elsewhere(l, how, now) : NULL;
    if (g || l->n_groups == 1)
        return g ? g : l->shares ? l->groups : NULL;
    uint32_t at = (uint32_t)((uint64_t)dice * l->shares >> 32);
    for (uint32_t i = 0; i < l->n_groups; i++) {
        if (at < l->groups[i].share)
            return &l->groups[i];
        at -= l->groups[i].share;
    }
    return NULL;
}

static struct up_table *group_table(struct up_cluster *c, struct up_group *g)
{
    const struct prog_hash *h = PROG_POLICY(c->cfg, hash);
    if (g->table || !h)
        return g->table;
    struct hash_host *hosts = mem_array(g->lb.n, sizeof *hosts);
    char(*text)[SOCK_TEXT_MAX] = mem_array(g->lb.n, sizeof *text);
    for (uint32_t i = 0; hosts && text && i < g->lb.n; i++) {
        const struct up_host *host = c->live->hosts[g->first + i];
        hosts[i].key = slice_str(sock_addr_text(&host->addr, text[i]));
        hosts[i].weight = host->weight;
    }
    if (hosts && text)
        g->table = up_table_get(h->maglev, h->size, hosts, g->lb.n);
    mem_free(text);
    mem_free(hosts);
    return g->table;
}

/* The host of the key; those that are ejected or were tried are passed over, and their keys alone
 * go elsewhere. NULL: there is no table, or no host to go to. */
static struct up_host *pick_hashed(struct up_cluster *c, struct up_group *g,
                                   const struct up_choice *how, int64_t now)
{
    struct up_table *table = group_table(c, g);
    const struct hash_table *t = table ? up_table_hash(table) : NULL;
    struct up_host *fallback = NULL;
    for (uint32_t i = 0; t && i < hash_table_attempts(t); i++) {
        struct up_host *h = c->live->hosts[g->first + hash_table_at(t, how->hash, i)];
        if (!usable(g, h, now))
            continue;
        if (!was_tried(how, h))
            return h;
        fallback = fallback ? fallback : h;
    }
    return fallback;
}

static struct up_host *pick_balanced(struct up_cluster *c, struct up_group *g,
                                     const struct up_choice *how, int64_t now)
{
    struct rnd *r = loop_rnd(c->worker->loop);
    struct up_host *h = NULL, *fallback = NULL;
    for (int i = 0; i < 8; i++) {
        h = c->live->hosts[g->first + lb_pick(&g->lb, c->cfg->balancer, rnd_u32(r), rnd_u32(r))];
        if (c->cfg->balancer == PROG_HASH && !usable(g, h, now))
            continue;
        if (!was_tried(how, h))
            return h;
        fallback = h;
    }
    for (uint32_t i = 0; i < g->lb.n && !fallback; i++)
        if (usable(g, c->live->hosts[g->first + i], now))
            fallback = c->live->hosts[g->first + i];
    return fallback;
}

enum err_code up_pick(struct up_cluster *c, const struct up_choice *how, struct up_host **ret)
{
    int64_t now = loop_now(c->worker->loop);
    if (!c->live || c->live_stale || (c->ejected && now >= c->next_return_ns))
        if (live_refresh(c, now) != ERR_OK)
            return ERR_NOMEM;
    bool hashed = how && how->hashed && c->cfg->balancer == PROG_HASH;
    uint32_t dice = c->live->n_groups < 2 ? 0
                    : hashed ? (uint32_t)(how->hash * UINT64_C(0x9e3779b97f4a7c15) >> 32)
                             : rnd_u32(loop_rnd(c->worker->loop));
    struct up_group *g = group_pick(c->live, how, now, dice);
    struct up_host *h = NULL;
    if (!g || g->lb.n == 0)
        return ERR_NOT_FOUND;
    if (hashed)
        h = pick_hashed(c, g, how, now);
    if (!h)
        h = pick_balanced(c, g, how, now);
    if (!h)
        return ERR_NOT_FOUND;
    *ret = h;
    return ERR_OK;
}

void up_host_begin(struct up_host *h)
{
    const struct up_live *l = h->cluster->live;
    h->active++;
    if (l && h->pos < l->n)
        l->candidates[h->pos].active++;
}

void up_host_end(struct up_host *h)
{
    const struct up_live *l = h->cluster->live;
    h->active--;
    if (l && h->pos < l->n)
        l->candidates[h->pos].active--;
}
