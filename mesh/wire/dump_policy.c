/* SPDX-License-Identifier: Apache-2.0 */
/* The seldom parts of a cluster as text. */
#include <stdarg.h>

#include "lib/data/duration.h"
#include "mesh/wire/wire_int.h"

struct out {
    struct buf *to;
    int level;
};

static void line(const struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(const struct out *o, const char *fmt, ...)
{
    va_list ap;

    for (int i = 0; i < o->level; i++)
        buf_add(o->to, "  ", 2);
    va_start(ap, fmt);
    buf_vaddf(o->to, fmt, ap);
    va_end(ap);
    buf_add_char(o->to, '\n');
}

static void number(const struct out *o, const char *name, uint32_t v)
{
    if (v)
        line(o, "%s: %u", name, v);
}

static void ms(const struct out *o, const char *name, uint32_t v)
{
    char one[40];

    if (v)
        line(o, "%s: %s", name,
             v == PROG_MS_NEVER ? "never" : duration_format((int64_t)v * 1000000, one));
}

static void text(const struct out *o, const char *name, struct slice s)
{
    if (s.len)
        line(o, "%s: \"%.*s\"", name, SL_FMT(s));
}

static void outlier(const struct out *o, const struct prog_outlier *p)
{
    number(o, "outlier consecutive 5xx", p->consecutive_5xx);
    number(o, "outlier consecutive gateway", p->consecutive_gateway);
    number(o, "outlier consecutive local", p->consecutive_local);
    if (p->split_local)
        line(o, "outlier local failures apart: true");
    for (uint32_t i = 0; i < p->n_codes; i++)
        line(o, "outlier status: %u", p->codes[i]);
    ms(o, "outlier interval", p->interval_ms);
    ms(o, "outlier base ejection", p->base_ejection_ms);
    number(o, "outlier max ejection percent", p->max_ejection_percent);
    number(o, "outlier min health percent", p->min_health_percent);
}

static void tcp(const struct out *o, const struct prog_tcp *t)
{
    if (t->keepalive)
        line(o, "keepalive: %u probes, after %us, each %us", t->keepalive_probes,
             t->keepalive_time_s, t->keepalive_interval_s);
    ms(o, "max connection duration", t->max_duration_ms);
    ms(o, "opaque idle timeout", t->idle_timeout_ms);
}

static void hash(const struct out *o, const struct prog_hash *h)
{
    static const char *const keys[] = {"header", "cookie", "source address", "query parameter"};

    line(o, "hash of %s%s%.*s: %s of %u", keys[h->key], h->name.len ? " " : "", SL_FMT(h->name),
         h->maglev ? "Maglev table" : "ring", h->size);
    if (!h->cookie_made)
        return;
    line(o, "cookie made: ttl %us, path \"%.*s\"", h->cookie_ttl_s, SL_FMT(h->cookie_path));
    for (uint32_t i = 0; i < h->n_cookie_attributes; i++)
        line(o, "cookie attribute: \"%.*s\" = \"%.*s\"", SL_FMT(h->cookie_attributes[i].name),
             SL_FMT(h->cookie_attributes[i].value));
}

static void locality(const struct out *o, const struct prog_locality *l)
{
    static const char *const kinds[] = {"region", "zone", "subzone", "node", "label"};

    line(o, "locality: %s", l->n_distribute ? "distribution" : "failover");
    for (uint32_t i = 0; i < l->n_distribute; i++)
        for (uint32_t k = 0; k < l->distribute[i].n_to; k++)
            line(o, "from \"%.*s\" to \"%.*s\": %u", SL_FMT(l->distribute[i].from),
                 SL_FMT(l->distribute[i].to[k].to), l->distribute[i].to[k].weight);
    for (uint32_t i = 0; i < l->n_ranks; i++)
        line(o, "rank by %s: \"%.*s\" %016llx", kinds[l->ranks[i].kind], SL_FMT(l->ranks[i].value),
             (unsigned long long)l->ranks[i].selector);
    for (uint32_t i = 0; i < l->n_failover; i++)
        line(o, "failover from \"%.*s\" to \"%.*s\"", SL_FMT(l->failover[i].from),
             SL_FMT(l->failover[i].to));
}

void dump_policy(const struct prog_policy *p, int level, struct buf *out)
{
    struct out o = {out, level};

    if (!p)
        return;
    if (p->outlier)
        outlier(&o, p->outlier);
    if (p->tcp)
        tcp(&o, p->tcp);
    if (p->hash)
        hash(&o, p->hash);
    if (p->locality)
        locality(&o, p->locality);
    if (p->retry_budget) {
        const struct prog_retry_budget *b = p->retry_budget;

        line(&o, "retry budget: %u.%03u %%, at least %u", b->share / 1000, b->share % 1000,
             b->min_retries);
        ms(&o, "retry budget interval", b->interval_ms);
    }
    if (p->origin) {
        text(&o, "own certificate", p->origin->certificate);
        text(&o, "own key", p->origin->key);
        text(&o, "roots", p->origin->roots);
        text(&o, "revoked", p->origin->crl);
        text(&o, "credential", p->origin->credential);
        if (p->origin->no_verify)
            line(&o, "verification: none");
    }
}
