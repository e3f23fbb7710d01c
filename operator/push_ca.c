/* SPDX-License-Identifier: Apache-2.0 */
/* How far proxies are with a change of the CA. */
#include "operator/push_int.h"

void push_set_issuer(struct push *p, uint32_t issuer, uint32_t renew_within_s)
{
    if (p->issuer == issuer && (!issuer || p->renew_within_s == renew_within_s))
        return;
    p->issuer = issuer;
    p->renew_within_s = issuer ? renew_within_s : 0;
    push_settings_changed(p);
}

void push_ca_tally(struct push *p, uint32_t issuer, struct push_ca_tally *ret)
{
    *ret = (struct push_ca_tally){0};
    for (const struct client *c = p->clients; c; c = c->next) {
        if (c->state != CLIENT_LIVE)
            continue;
        ret->proxies++;
        ret->held += issuer && c->issuer == issuer;
    }
    for (struct map_entry *e = NULL; (e = map_next(&p->cache, e));) {
        const struct res *r = e->value;
        if (r->kind != PROG_SETTINGS || r->dirty)
            continue;
        for (const struct sub *s = r->subs; s; s = s->next)
            ret->acked +=
                s->answered && !s->pending && !s->rejected && s->client->state == CLIENT_LIVE;
    }
}
