/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/addresses.h"

#include "lib/base/hash.h"
#include "lib/base/log.h"

enum { SLOTS = 65534 };

/* Number 1 to SLOTS of a range: of IPv4 neither .0.0 nor .255.255. */
static struct ipaddr slot(bool v6, uint32_t at)
{
    struct ipaddr ip = {.len = 4, .b = {240, 240, (uint8_t)(at >> 8), (uint8_t)at}};

    if (v6)
        ip = (struct ipaddr){
            .len = 16, .b = {0x20, 0x01, 0, 2, [14] = (uint8_t)(at >> 8), [15] = (uint8_t)at}};
    return ip;
}

bool address_is_given(const struct ipaddr *ip)
{
    struct ipaddr v4 = slot(false, 0), v6 = slot(true, 0);

    return ip->len == 4 ? memcmp(ip->b, v4.b, 2) == 0
                        : ip->len == 16 && memcmp(ip->b, v6.b, 6) == 0;
}

bool address_pick(struct slice host, bool v6, const struct map *taken, struct ipaddr *ret)
{
    uint32_t start = (uint32_t)(hash64(host, 0) % SLOTS);
    char text[IP_TEXT];

    for (uint32_t i = 0; i < SLOTS; i++) {
        *ret = slot(v6, (start + i) % SLOTS + 1);
        if (!map_get(taken, slice_str(ip_format(ret, text))))
            return true;
    }
    return false;
}

/* What an object's status says about a host's address of a family. */
static bool address_kept(const struct model *m, const struct index_want *w, bool v6,
                         struct ipaddr *ret)
{
    const struct policy_fact *f = model_policy(m, w->kind, w->ns, w->name);

    for (uint32_t i = 0; f && i < f->addresses.n; i++) {
        struct slice rest = f->addresses.p[i], host;
        struct ipaddr ip;

        if (!slice_next(&rest, '=', &host) || !slice_ieq(host, w->host) || !ip_parse(rest, &ip) ||
            (ip.len == 16) != v6 || !address_is_given(&ip))
            continue;
        *ret = ip;
        return true;
    }
    return false;
}

static bool take(struct map *taken, const struct ipaddr *ip)
{
    char text[IP_TEXT];

    if (map_get(taken, slice_str(ip_format(ip, text))))
        return false;
    map_put(taken, slice_str(text), taken, NULL);
    return true;
}

/* Addresses that ServiceEntries name themselves are nobody else's. */
static bool take_listed(void *user, const struct ix_object *o)
{
    struct ipaddr ip;

    for (uint32_t i = 0; i < o->se->addresses.n; i++)
        if (ip_parse(o->se->addresses.p[i], &ip) && address_is_given(&ip))
            take(user, &ip);
    return true;
}

static void take_away_idle(struct model *m, const struct index_want *w, size_t n, struct arena *a)
{
    static const struct ipaddr none;
    size_t n_idle;
    struct slice *idle = index_idle_addresses(m->index, w, n, a, &n_idle);

    for (size_t i = 0; i < n_idle; i++)
        model_set_address(m, idle[i], &none);
}

static bool give_one(struct model *m, const struct index_want *w, bool v6, struct map *taken)
{
    char text[IP_TEXT];
    struct ipaddr ip;

    if (!address_pick(w->host, v6, taken, &ip))
        return false;
    take(taken, &ip);
    LOG(INFO, "Address given", "host=%.*s address=%s", SL_FMT(w->host), ip_format(&ip, text));
    model_set_address(m, w->host, &ip);
    return true;
}

/* What is in force or kept comes first; of two that claim one address the first by name has it. */
void addresses_give(struct model *m, bool allocate, index_given_fn *given, void *user)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct map taken = {0};
    uint32_t unplaced = 0;
    size_t n;
    struct index_want *w = index_wanted_addresses(m->index, &a, &n);

    take_away_idle(m, w, n, &a);
    index_each_object(m->index, INDEX_SE, take_listed, &taken);
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            if (w[i].have[k].len)
                take(&taken, &w[i].have[k]);
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            if (!w[i].have[k].len && address_kept(m, &w[i], k == 1, &w[i].have[k])) {
                if (take(&taken, &w[i].have[k]))
                    model_set_address(m, w[i].host, &w[i].have[k]);
                else
                    w[i].have[k].len = 0;
            }
    for (size_t i = 0; i < n && allocate; i++) {
        bool some = false, all = true;

        for (int k = 0; k < 2; k++) {
            bool ok = w[i].have[k].len || give_one(m, &w[i], k == 1, &taken);

            some |= ok && !w[i].have[k].len;
            all &= ok;
        }
        unplaced += !all;
        if (some && given)
            given(user, w[i].kind, w[i].ns, w[i].name);
    }
    if (unplaced && !m->unplaced)
        LOG(WARN, "No address is left for a host", "hosts=%u", unplaced);
    m->unplaced = unplaced;
    map_fini(&taken);
}
