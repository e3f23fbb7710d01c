/* SPDX-License-Identifier: Apache-2.0 */
/* The seldom parts of a cluster into its message. */
#include "mesh/wire/wire_int.h"

#define NEED(assign)                                                                               \
    do {                                                                                           \
        if (!(assign))                                                                             \
            return false;                                                                          \
    } while (0)

static bool outlier(struct arena *a, const struct prog_outlier *o, PB(Outlier) * *ret)
{
    PB(Outlier) *m = pb_new(a, PB_DESC(outlier));

    NEED(m && (m->code = ARENA_ARRAY(a, uint32_t, o->n_codes)));
    m->consecutive_5xx = o->consecutive_5xx;
    m->consecutive_gateway = o->consecutive_gateway;
    m->consecutive_local = o->consecutive_local;
    m->interval_ms = o->interval_ms;
    m->base_ejection_ms = o->base_ejection_ms;
    m->max_ejection_percent = o->max_ejection_percent;
    m->min_health_percent = o->min_health_percent;
    m->split_local = o->split_local;
    for (uint32_t i = 0; i < o->n_codes; i++)
        m->code[m->n_code++] = o->codes[i];
    *ret = m;
    return true;
}

static bool tcp(struct arena *a, const struct prog_tcp *t, PB(Tcp) * *ret)
{
    PB(Tcp) *m = pb_new(a, PB_DESC(tcp));

    NEED(m);
    m->keepalive = t->keepalive;
    m->keepalive_probes = t->keepalive_probes;
    m->keepalive_time_s = t->keepalive_time_s;
    m->keepalive_interval_s = t->keepalive_interval_s;
    m->max_duration_ms = t->max_duration_ms;
    m->idle_timeout_ms = t->idle_timeout_ms;
    *ret = m;
    return true;
}

static bool hash(struct arena *a, const struct prog_hash *h, PB(Hash) * *ret)
{
    PB(Hash) *m = pb_new(a, PB_DESC(hash));

    NEED(m && (m->name = pb_text(a, h->name)) && (m->cookie_path = pb_text(a, h->cookie_path)) &&
         (m->cookie_attribute = ARENA_ARRAY(a, PB(HeaderOps__Field) *, h->n_cookie_attributes)));
    m->key = (PB(HashKey))h->key;
    m->maglev = h->maglev;
    m->size = h->size;
    m->cookie_made = h->cookie_made;
    m->cookie_ttl_s = h->cookie_ttl_s;
    for (uint32_t i = 0; i < h->n_cookie_attributes; i++) {
        PB(HeaderOps__Field) *f = pb_new(a, PB_DESC(header_ops__field));

        NEED(f && (f->name = pb_text(a, h->cookie_attributes[i].name)) &&
             (f->value = pb_text(a, h->cookie_attributes[i].value)));
        m->cookie_attribute[m->n_cookie_attribute++] = f;
    }
    *ret = m;
    return true;
}

static PB(Locality__Distribute) * distribute(struct arena *a, const struct prog_distribute *d)
{
    PB(Locality__Distribute) *m = pb_new(a, PB_DESC(locality__distribute));

    if (!m || !(m->from = pb_text(a, d->from)) ||
        !(m->to = ARENA_ARRAY(a, PB(Locality__Share) *, d->n_to)))
        return NULL;
    for (uint32_t i = 0; i < d->n_to; i++) {
        PB(Locality__Share) *s = pb_new(a, PB_DESC(locality__share));

        if (!s || !(s->to = pb_text(a, d->to[i].to)))
            return NULL;
        s->weight = d->to[i].weight;
        m->to[m->n_to++] = s;
    }
    return m;
}

static bool locality(struct arena *a, const struct prog_locality *l, PB(Locality) * *ret)
{
    PB(Locality) *m = pb_new(a, PB_DESC(locality));

    NEED(m && (m->distribute = ARENA_ARRAY(a, PB(Locality__Distribute) *, l->n_distribute)) &&
         (m->failover = ARENA_ARRAY(a, PB(Locality__Failover) *, l->n_failover)) &&
         (m->rank = ARENA_ARRAY(a, PB(Locality__Rank) *, l->n_ranks)));
    for (uint32_t i = 0; i < l->n_distribute; i++)
        NEED(m->distribute[m->n_distribute++] = distribute(a, &l->distribute[i]));
    for (uint32_t i = 0; i < l->n_failover; i++) {
        PB(Locality__Failover) *f = pb_new(a, PB_DESC(locality__failover));

        NEED(f && (f->from = pb_text(a, l->failover[i].from)) &&
             (f->to = pb_text(a, l->failover[i].to)));
        m->failover[m->n_failover++] = f;
    }
    for (uint32_t i = 0; i < l->n_ranks; i++) {
        PB(Locality__Rank) *r = pb_new(a, PB_DESC(locality__rank));

        NEED(r && (r->value = pb_text(a, l->ranks[i].value)));
        r->kind = (PB(Locality__Likeness))l->ranks[i].kind;
        r->selector = l->ranks[i].selector;
        m->rank[m->n_rank++] = r;
    }
    *ret = m;
    return true;
}

static bool origin(struct arena *a, const struct prog_origin *o, PB(Origin) * *ret)
{
    PB(Origin) *m = pb_new(a, PB_DESC(origin));

    NEED(m && (m->certificate = pb_text(a, o->certificate)) && (m->key = pb_text(a, o->key)) &&
         (m->roots = pb_text(a, o->roots)) && (m->crl = pb_text(a, o->crl)) &&
         (m->credential = pb_text(a, o->credential)));
    m->no_verify = o->no_verify;
    *ret = m;
    return true;
}

static bool retry_budget(struct arena *a, const struct prog_retry_budget *b, PB(RetryBudget) * *ret)
{
    PB(RetryBudget) *m = pb_new(a, PB_DESC(retry_budget));

    NEED(m);
    m->share = b->share;
    m->min_retries = b->min_retries;
    m->interval_ms = b->interval_ms;
    *ret = m;
    return true;
}

bool enc_policy(struct arena *a, const struct prog_policy *p, PB(Cluster) * m)
{
    return !p ||
           ((!p->outlier || outlier(a, p->outlier, &m->outlier)) &&
            (!p->tcp || tcp(a, p->tcp, &m->tcp)) && (!p->hash || hash(a, p->hash, &m->hash)) &&
            (!p->locality || locality(a, p->locality, &m->locality)) &&
            (!p->origin || origin(a, p->origin, &m->origin)) &&
            (!p->retry_budget || retry_budget(a, p->retry_budget, &m->retry_budget)));
}
