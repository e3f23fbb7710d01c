/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters and hosts as text, for people. */
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "proxy/upstream/upstream.h"
#include "proxy/worker.h"

static void describe_host(const struct up_host *h, int64_t now, struct buf *out)
{
    char text[SOCK_TEXT_MAX];
    int64_t until = h->outlier ? h->outlier->until_ns : 0;
    buf_addf(out, "  %s mtls=%s weight=%u active=%u health=", h->path ? h->path : sock_addr_text(&h->addr, text),
             h->mtls ? "yes" : "no", h->weight, h->active);
    if (until > now)
        buf_addf(out, "ejected ejections=%u back_in_ms=%lld", h->outlier->backoff,
                 (long long)((until - now) / NS_PER_MS));
    else
        buf_add_str(out, h->draining ? "draining" : "healthy");
    if (h->group)
        buf_addf(out, " group=%u", h->group);
    if (h->identity.len)
        buf_addf(out, " identity=%.*s", SL_FMT(h->identity));
    buf_add_str(out, "\n");
}

void up_describe(struct worker *w, struct buf *out)
{
    size_t n;
    struct map_entry **list = map_sorted(&w->clusters, &n);
    buf_addf(out, "worker %u requests=%llu connections=%llu downstream=%u\n", w->id,
             (unsigned long long)w->requests, (unsigned long long)w->connections, w->n_downs);
    for (size_t i = 0; list && i < n; i++) {
        const struct up_cluster *c = list[i]->value;
        buf_addf(out, "%.*s hosts=%u ejected=%u connections=%u requests=%u pending=%u\n",
                 SL_FMT(c->cfg->name), c->n_hosts, c->ejected, c->conns, c->requests, c->n_pending);
        for (uint32_t k = 0; k < c->n_hosts; k++)
            describe_host(c->hosts[k], loop_now(w->loop), out);
    }
    mem_free(list);
}
