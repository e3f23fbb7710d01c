/* SPDX-License-Identifier: Apache-2.0 */
/* The seldom parts of a cluster's message. */
#include "mesh/wire/decode_int.h"

static int outlier(struct rd *r, const struct fpath *at, const PB(Outlier) * m,
                   struct prog_outlier **ret)
{
    struct prog_outlier *o;

    ONE(r, o);
    o->consecutive_5xx = m->consecutive_5xx;
    o->consecutive_gateway = m->consecutive_gateway;
    o->consecutive_local = m->consecutive_local;
    o->interval_ms = m->interval_ms;
    o->base_ejection_ms = m->base_ejection_ms;
    o->max_ejection_percent = MIN(m->max_ejection_percent, 100u);
    o->min_health_percent = MIN(m->min_health_percent, 100u);
    o->split_local = m->split_local;
    ARRAY(r, o->codes, o->n_codes, m->n_code);
    for (uint32_t i = 0; i < o->n_codes; i++) {
        if (m->code[i] < 100 || m->code[i] > 599)
            return dec_bad(r, NTH(at, "code", i), "%u is no status", m->code[i]);
        o->codes[i] = (uint16_t)m->code[i];
    }
    *ret = o;
    return 0;
}

static int tcp(struct rd *r, const PB(Tcp) * m, struct prog_tcp **ret)
{
    struct prog_tcp *t;

    ONE(r, t);
    t->keepalive = m->keepalive;
    t->keepalive_probes = m->keepalive_probes;
    t->keepalive_time_s = m->keepalive_time_s;
    t->keepalive_interval_s = m->keepalive_interval_s;
    t->max_duration_ms = m->max_duration_ms;
    t->idle_timeout_ms = m->idle_timeout_ms;
    *ret = t;
    return 0;
}

static int hash(struct rd *r, const struct fpath *at, const PB(Hash) * m, struct prog_hash **ret)
{
    struct prog_hash *h;

    ONE(r, h);
    if ((int)m->key < PROG_HASH_HEADER || (int)m->key > PROG_HASH_QUERY)
        return dec_bad(r, AT(at, "key"), "of a newer version");
    h->key = (enum prog_hash_key)m->key;
    TRY(dec_text(r, m->name, &h->name));
    TRY(dec_text(r, m->cookie_path, &h->cookie_path));
    h->maglev = m->maglev;
    h->size = m->size;
    h->cookie_made = m->cookie_made;
    h->cookie_ttl_s = m->cookie_ttl_s;
    ARRAY(r, h->cookie_attributes, h->n_cookie_attributes, m->n_cookie_attribute);
    for (uint32_t i = 0; i < h->n_cookie_attributes; i++) {
        TRY(dec_text(r, m->cookie_attribute[i]->name, &h->cookie_attributes[i].name));
        TRY(dec_text(r, m->cookie_attribute[i]->value, &h->cookie_attributes[i].value));
    }
    *ret = h;
    return 0;
}

static int distribute(struct rd *r, const PB(Locality__Distribute) * m, struct prog_distribute *ret)
{
    TRY(dec_text(r, m->from, &ret->from));
    ARRAY(r, ret->to, ret->n_to, m->n_to);
    for (uint32_t i = 0; i < ret->n_to; i++) {
        TRY(dec_text(r, m->to[i]->to, &ret->to[i].to));
        ret->to[i].weight = m->to[i]->weight;
    }
    return 0;
}

static int locality(struct rd *r, const struct fpath *at, const PB(Locality) * m,
                    struct prog_locality **ret)
{
    struct prog_locality *l;

    ONE(r, l);
    ARRAY(r, l->distribute, l->n_distribute, m->n_distribute);
    for (uint32_t i = 0; i < l->n_distribute; i++)
        TRY(distribute(r, m->distribute[i], &l->distribute[i]));
    ARRAY(r, l->failover, l->n_failover, m->n_failover);
    for (uint32_t i = 0; i < l->n_failover; i++) {
        TRY(dec_text(r, m->failover[i]->from, &l->failover[i].from));
        TRY(dec_text(r, m->failover[i]->to, &l->failover[i].to));
    }
    ARRAY(r, l->ranks, l->n_ranks, m->n_rank);
    for (uint32_t i = 0; i < l->n_ranks; i++) {
        if ((int)m->rank[i]->kind < PROG_LIKE_REGION || (int)m->rank[i]->kind > PROG_LIKE_LABEL)
            return dec_bad(r, NTH(at, "rank", i), "of a newer version");
        l->ranks[i].kind = (enum prog_likeness)m->rank[i]->kind;
        l->ranks[i].selector = m->rank[i]->selector;
        TRY(dec_text(r, m->rank[i]->value, &l->ranks[i].value));
    }
    *ret = l;
    return 0;
}

static int origin(struct rd *r, const PB(Origin) * m, struct prog_origin **ret)
{
    struct prog_origin *o;

    ONE(r, o);
    TRY(dec_text(r, m->certificate, &o->certificate));
    TRY(dec_text(r, m->key, &o->key));
    TRY(dec_text(r, m->roots, &o->roots));
    TRY(dec_text(r, m->crl, &o->crl));
    TRY(dec_text(r, m->credential, &o->credential));
    o->no_verify = m->no_verify;
    *ret = o;
    return 0;
}

static int retry_budget(struct rd *r, const PB(RetryBudget) * m, struct prog_retry_budget **ret)
{
    struct prog_retry_budget *b;

    ONE(r, b);
    b->share = MIN(m->share, 100000u);
    b->min_retries = m->min_retries;
    b->interval_ms = m->interval_ms;
    *ret = b;
    return 0;
}

int dec_policy(struct rd *r, const struct fpath *at, const PB(Cluster) * m,
               struct prog_policy **ret)
{
    struct prog_policy *p;

    if (!m->outlier && !m->tcp && !m->hash && !m->locality && !m->origin &&
        !m->retry_budget)
        return 0;
    ONE(r, p);
    if (m->outlier)
        TRY(outlier(r, AT(at, "outlier"), m->outlier, &p->outlier));
    if (m->tcp)
        TRY(tcp(r, m->tcp, &p->tcp));
    if (m->hash)
        TRY(hash(r, AT(at, "hash"), m->hash, &p->hash));
    if (m->locality)
        TRY(locality(r, AT(at, "locality"), m->locality, &p->locality));
    if (m->origin)
        TRY(origin(r, m->origin, &p->origin));
    if (m->retry_budget)
        TRY(retry_budget(r, m->retry_budget, &p->retry_budget));
    *ret = p;
    return 0;
}
