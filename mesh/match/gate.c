/* SPDX-License-Identifier: Apache-2.0 */
/* Which gate of a gateway's port, and which of its hosts. */
#include "lib/data/host.h"
#include "mesh/match/program.h"

#define KEY_PREFIX "gw|"

/* How narrow a pattern is that takes the name in: 0 does not; exact is the narrowest. */
static size_t narrowness(struct slice pattern, struct slice name)
{
    if (slice_is(pattern, "*"))
        return 1;
    if (!name.len || !host_matches(pattern, name))
        return 0;
    return pattern.p[0] == '*' ? 1 + pattern.len : SIZE_MAX;
}

const struct prog_gate *prog_gate_of_sni(const struct prog_gate_port *p, struct slice sni)
{
    const struct prog_gate *best = NULL;
    size_t best_n = 0;

    for (uint32_t i = 0; i < p->n_gates; i++) {
        const struct prog_gate *g = &p->gates[i];

        for (uint32_t k = 0; k < g->sni.n; k++) {
            size_t n = narrowness(g->sni.p[k], sni);

            if (n > best_n) {
                best = g;
                best_n = n;
            }
        }
    }
    return best;
}

static const struct prog_gate_host *exactly(const struct prog_gate *g, struct slice host)
{
    uint32_t low = 0, high = g->n_hosts;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int d = slice_cmp(g->hosts[mid].host, host);

        if (d == 0)
            return &g->hosts[mid];
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

const struct prog_gate_host *prog_gate_find(const struct prog_gate *g, struct slice host)
{
    char pattern[HOST_MAX + 2];
    const struct prog_gate_host *h = exactly(g, host);

    /* "*.b.c", then "*.c", of "a.b.c". */
    for (struct slice rest = host; !h && rest.len < sizeof pattern;) {
        ptrdiff_t dot = slice_chr(rest, '.');

        if (dot < 0)
            break;
        rest = slice_skip(rest, (size_t)dot);
        pattern[0] = '*';
        memcpy(pattern + 1, rest.p, rest.len);
        h = exactly(g, slice_of(pattern, rest.len + 1));
        rest = slice_skip(rest, 1);
    }
    return h ? h : exactly(g, SL("*"));
}

struct slice prog_gate_key(char *buf, size_t cap, struct slice gate, struct slice host)
{
    size_t n = sizeof KEY_PREFIX - 1 + gate.len + 1 + host.len;

    if (n > cap)
        return SLICE_NULL;
    memcpy(buf, KEY_PREFIX, sizeof KEY_PREFIX - 1);
    memcpy(buf + sizeof KEY_PREFIX - 1, gate.p, gate.len);
    buf[sizeof KEY_PREFIX - 1 + gate.len] = '|';
    if (host.len)
        memcpy(buf + sizeof KEY_PREFIX + gate.len, host.p, host.len);
    return slice_of(buf, n);
}

bool prog_gate_key_split(struct slice key, struct slice *ret_gate, struct slice *ret_host)
{
    ptrdiff_t bar;

    if (!slice_starts(key, SL(KEY_PREFIX)))
        return false;
    key = slice_skip(key, sizeof KEY_PREFIX - 1);
    bar = slice_chr(key, '|');
    if (bar <= 0 || (size_t)bar + 1 >= key.len)
        return false;
    *ret_gate = slice_head(key, (size_t)bar);
    *ret_host = slice_skip(key, (size_t)bar + 1);
    return true;
}

bool prog_cluster_spelled(struct slice name, uint16_t *ret_port, struct slice *ret_subset,
                          struct slice *ret_host)
{
    struct slice rest;
    ptrdiff_t end;
    uint64_t port;

    if (!slice_starts(name, SL("outbound_.")))
        return false;
    rest = slice_skip(name, sizeof "outbound_." - 1);
    if ((end = slice_find(rest, SL("_."))) <= 0 ||
        !slice_u64(slice_head(rest, (size_t)end), 65535, &port) || !port)
        return false;
    rest = slice_skip(rest, (size_t)end + 2);
    end = slice_find(rest, SL("_."));
    if (end < 0 || (size_t)end + 2 >= rest.len)
        return false;
    *ret_port = (uint16_t)port;
    *ret_subset = slice_head(rest, (size_t)end);
    *ret_host = slice_skip(rest, (size_t)end + 2);
    return true;
}
