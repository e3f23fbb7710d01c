/* SPDX-License-Identifier: Apache-2.0 */
/* What a new proxy is told before it asks: what others of its workload asked for, or, with discovery
 * `Eager`, every service. */
#include "operator/push_int.h"

enum { WARM_KEYS_MAX = 128, WARM_WORKLOADS_MAX = 20000 };

struct warm { /* SERVICE keys that a workload's pods asked for */
    struct map keys; /* key -> (void *)1 */
};

void warm_learn(struct client *c, struct slice key)
{
    struct push *p = c->push;
    if (!c->workload[0])
        return;
    struct warm *w = map_get(&p->warm, slice_str(c->workload));
    if (!w) {
        if (p->warm.len >= WARM_WORKLOADS_MAX || !(w = mem_zalloc(sizeof *w)))
            return;
        if (map_put(&p->warm, slice_str(c->workload), w, NULL) < 0) {
            mem_free(w);
            return;
        }
    }
    if (w->keys.len < WARM_KEYS_MAX || map_get(&w->keys, key))
        map_put(&w->keys, key, w, NULL);
}

void warm_send(struct client *c)
{
    struct warm *w = map_get(&c->push->warm, slice_str(c->workload));
    if (c->warmed || !w)
        return;
    c->warmed = true;
    for (struct map_entry *e = NULL; (e = map_next(&w->keys, e));)
        sub_add(c, PROG_SERVICE, slice_of(e->key, e->key_len));
}

static bool eager_service(void *user, const struct ix_service *s)
{
    struct map *names = user;
    if (s->known)
        map_put(names, istr_slice(s->ns), names, NULL);
    return true;
}

/* discovery: eager: every service that the client may see. */
void eager_send(struct client *c)
{
    struct push *p = c->push;
    struct map names = {0};
    struct compile_input in = {.index = p->opts.index};

    if (index_mesh(p->opts.index)->discovery != MESH_EAGER)
        return;
    index_each_service(p->opts.index, eager_service, &names);
    for (struct map_entry *e = NULL; (e = map_next(&names, e));) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        struct slice *keys;
        uint32_t n;
        if (compile_service_keys(&in, slice_of(e->key, e->key_len), &a, &keys, &n) != ERR_OK)
            continue;
        for (uint32_t i = 0; i < n; i++)
            sub_add(c, PROG_SERVICE, keys[i]);
    }
    map_fini(&names);
}

void warm_fini(struct push *p)
{
    for (struct map_entry *e = NULL; (e = map_next(&p->warm, e));) {
        map_fini(&((struct warm *)e->value)->keys);
        mem_free(e->value);
    }
    map_fini(&p->warm);
}
