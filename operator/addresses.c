/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/addresses.h"

#include "lib/base/hash.h"
#include "lib/base/log.h"

bool address_pick(struct slice host, const struct map *taken, struct ipaddr *ret)
{
    uint32_t start = (uint32_t)(hash64(host, 0) % 65534);
    char text[IP_TEXT];
    for (uint32_t i = 0; i < 65534; i++) {
        uint32_t at = (start + i) % 65534 + 1; /* neither .0.0 nor .255.255 */
        struct ipaddr ip = {.len = 4, .b = {240, 240, (uint8_t)(at >> 8), (uint8_t)at}};
        if (!map_get(taken, slice_str(ip_format(&ip, text)))) {
            *ret = ip;
            return true;
        }
    }
    return false;
}

/* What an object's status says about a host's address. */
static bool address_kept(const struct model *m, const struct index_want *w, struct ipaddr *ret)
{
    const struct policy_fact *f = model_policy(m, w->kind, w->ns, w->name);
    for (uint32_t i = 0; f && i < f->addresses.n; i++) {
        struct slice rest = f->addresses.p[i], host;
        if (slice_next(&rest, '=', &host) && slice_eq(host, w->host) && ip_parse(rest, ret))
            return true;
    }
    return false;
}

/* Give each host that wants one an address: what is in force or kept first. */
void addresses_give(struct model *m, bool allocate, index_given_fn *given, void *user)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct map taken = {0};
    char text[IP_TEXT];
    size_t n;
    struct index_want *w = index_wanted_addresses(m->index, &a, &n);

    for (size_t i = 0; i < n; i++) {
        struct ipaddr ip;
        bool have = w[i].have.len != 0;
        if (!have && address_kept(m, &w[i], &ip) &&
            !map_get(&taken, slice_str(ip_format(&ip, text)))) {
            w[i].have = ip;
            model_set_address(m, w[i].host, &ip);
        }
        if (w[i].have.len)
            map_put(&taken, slice_str(ip_format(&w[i].have, text)), m, NULL);
    }
    for (size_t i = 0; i < n && allocate; i++) {
        if (w[i].have.len || !address_pick(w[i].host, &taken, &w[i].have))
            continue;
        map_put(&taken, slice_str(ip_format(&w[i].have, text)), m, NULL);
        LOG(INFO, "Address given", "host=%.*s address=%s", SL_FMT(w[i].host), text);
        model_set_address(m, w[i].host, &w[i].have);
        if (given)
            given(user, w[i].kind, w[i].ns, w[i].name);
    }
    map_fini(&taken);
}
