/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/down.h"

#include "lib/base/mem.h"
#include "proxy/gates.h"
#include "proxy/worker.h"

void down_enter(struct down *d, struct worker *w, enum down_kind kind, struct chan *chan,
                const struct down_info *info)
{
    d->kind = kind;
    d->worker = w;
    d->chan = chan;
    d->info = *info;
    d->next = w->downs;
    d->prev = &w->downs;
    if (d->next)
        d->next->prev = &d->next;
    w->downs = d;
    w->n_downs++;
    d->serves = down_serves(info);
    atomic_fetch_add_explicit(d->serves ? &w->n_inbound : &w->n_outbound, 1,
                              memory_order_relaxed);
}

void down_leave(struct down *d)
{
    if (!d->prev)
        return;
    *d->prev = d->next;
    if (d->next)
        d->next->prev = d->prev;
    d->prev = NULL;
    d->worker->n_downs--;
    atomic_fetch_sub_explicit(d->serves ? &d->worker->n_inbound : &d->worker->n_outbound, 1,
                              memory_order_relaxed);
    down_info_fini(&d->info);
}

void down_info_fini(struct down_info *info)
{
    prog_unref(info->inbound_prog);
    info->inbound_prog = NULL;
    if (info->gw) {
        gates_unref(info->gw->gates);
        mem_free(info->gw->sni);
        mem_free(info->gw);
        info->gw = NULL;
    }
    mem_free(info->local);
    info->local = NULL;
}

struct slice down_address_key(const struct down_info *info, char buf[DOWN_KEY_MAX])
{
    if (info->local)
        return prog_gate_key(buf, DOWN_KEY_MAX, slice_str(info->local), SL("*"));
    return slice_str(sock_addr_text(&info->orig, buf));
}

size_t down_key_prefix(const struct down_info *info, char buf[DOWN_KEY_MAX])
{
    return info->local
               ? prog_gate_key(buf, DOWN_KEY_MAX, slice_str(info->local), SL("")).len
               : 0;
}

uint16_t down_key_port(const struct down_info *info, uint16_t said)
{
    uint16_t port = sock_addr_port(&info->orig);
    return port ? port : said ? said : 80;
}
