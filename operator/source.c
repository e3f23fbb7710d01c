/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/source.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/kube/store.h"
#include "mesh/api/kinds.h"
#include "operator/source_int.h"

static const struct {
    enum index_kind kind;
    enum kube_kind resource;
} kinds[] = {
    {INDEX_NAMESPACE, KUBE_NAMESPACE}, {INDEX_NODE, KUBE_NODE},
    {INDEX_POD, KUBE_POD},             {INDEX_SERVICE, KUBE_SERVICE},
    {INDEX_SLICE, KUBE_ENDPOINT_SLICE}, {INDEX_VS, KUBE_VIRTUAL_SERVICE},
    {INDEX_DR, KUBE_DESTINATION_RULE}, {INDEX_SE, KUBE_SERVICE_ENTRY},
    {INDEX_PA, KUBE_PEER_AUTHENTICATION}, {INDEX_AP, KUBE_AUTHORIZATION_POLICY},
    {INDEX_MESH, KUBE_MESH}, {INDEX_RA, KUBE_REQUEST_AUTHENTICATION},
    {INDEX_GW, KUBE_GATEWAY}, {INDEX_SC, KUBE_SIDECAR},
    {INDEX_WE, KUBE_WORKLOAD_ENTRY}, {INDEX_WG, KUBE_WORKLOAD_GROUP},
    {INDEX_PC, KUBE_PROXY_CONFIG}, {INDEX_TE, KUBE_TELEMETRY},
    {INDEX_EF, KUBE_ENVOY_FILTER}, {INDEX_WP, KUBE_WASM_PLUGIN},
    {INDEX_TX, KUBE_TRAFFIC_EXTENSION},
};

struct kube_source;
enum { VERSIONS_MAX = 4 };
struct watched {
    struct kube_source *src;
    enum index_kind kind;
    enum kube_kind resource;
    struct kube_store *store; /* keys and versions alone */
    struct kube_watch *watch;
    const char *versions[VERSIONS_MAX]; /* in which the kind may be served, the best first */
    unsigned n_versions, at, tried;     /* tried: absent in so many in a row */
    bool read;                          /* once at least, or absent in all versions */
};
struct kube_source {
    struct source source;
    struct kube_client *client;
    struct model *model;
    struct watched watched[N_OF(kinds)];
};

static void changed(void *user, enum kube_event_type type, struct slice key, const void *old,
                    const void *new, const json_t *obj)
{
    struct watched *w = user;
    struct slice ns, name;
    (void)old, (void)new;
    if (type != KUBE_DELETED && obj) {
        model_put(w->src->model, w->kind, obj);
    } else if (type == KUBE_DELETED) {
        kube_key_split(key, &ns, &name);
        model_remove(w->src->model, w->kind, ns, name);
    }
}

static int watch(struct watched *w, struct err *err)
{
    struct kube_watch_opts o = {.resource = kube_resource(w->resource),
                                .sink = kube_store_sink(w->store)};
    return kube_watch_start(w->src->client, &o, &w->watch, err);
}

/* Older definitions of Istio's, which were there before us, lack the newest version. All versions have
 * one schema. False: the kind is in none, or there is no memory; it is looked for again later. */
static bool next_version(struct watched *w)
{
    struct kube_watch *old = w->watch;
    struct err err = {0};

    if (++w->tried >= w->n_versions) {
        w->tried = 0;
        return false;
    }
    w->at = (w->at + 1) % w->n_versions;
    kube_resource_serve(w->resource, w->versions[w->at]);
    if (watch(w, &err) < 0) {
        w->watch = old;
        return false;
    }
    kube_watch_stop(old);
    return true;
}

static void synced(void *user, bool absent)
{
    struct watched *w = user;
    struct kube_source *s = w->src;
    if (absent && next_version(w))
        return;
    if (!absent)
        w->tried = 0;
    w->read = true;
    LOG(INFO, "Collection was read", "kind=%s version=%s objects=%zu served=%d", index_kind_name(w->kind),
        kube_resource(w->resource)->version, kube_store_len(w->store), !absent);
    unsigned n = 0;
    for (size_t i = 0; i < N_OF(kinds); i++)
        n += s->watched[i].read;
    if (n == N_OF(kinds))
        model_set_synced(s->model);
}

static const struct kube_store_ops store_ops = {.changed = changed, .synced = synced};

/* The row's version first, then what else the kind is known in. */
static void versions_of(struct watched *w, const struct kube_resource *r)
{
    static const char *const known[] = {"v1", "v1beta1", "v1alpha3", "v1alpha1"};
    enum api_kind kind;

    w->versions[w->n_versions++] = r->version;
    if (!api_kind_of_resource(slice_str(r->group), slice_str(r->plural), &kind))
        return;
    for (size_t i = 0; i < N_OF(known) && w->n_versions < VERSIONS_MAX; i++) {
        struct slice rest = slice_str(api_kind_info(kind)->versions), one;
        while (slice_next(&rest, ',', &one))
            if (slice_is(one, known[i]) && strcmp(known[i], r->version) != 0)
                w->versions[w->n_versions++] = known[i];
    }
}

static void kube_source_free(struct source *src)
{
    struct kube_source *s = CONTAINER_OF(src, struct kube_source, source);
    for (size_t i = 0; i < N_OF(kinds); i++) {
        kube_watch_stop(s->watched[i].watch);
        if (s->watched[i].store)
            kube_store_free(s->watched[i].store);
    }
    mem_free(s);
}

static struct source_stats kube_source_stats(const struct source *src)
{
    const struct kube_source *s = CONTAINER_OF(src, struct kube_source, source);
    struct source_stats sum = {0};
    for (size_t i = 0; i < N_OF(kinds); i++) {
        struct kube_watch_stats w = kube_watch_stats(s->watched[i].watch);
        sum.lists += w.lists;
        sum.watches += w.watches;
        sum.events += w.events;
        sum.errors += w.errors;
        sum.kinds++;
        sum.absent += w.absent;
    }
    return sum;
}

int source_kube(struct kube_client *client, struct model *m, struct source **ret, struct err *err)
{
    struct kube_source *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "source");
    s->source = (struct source){kube_source_free, kube_source_stats};
    s->model = m;
    s->client = client;
    for (size_t i = 0; i < N_OF(kinds); i++) {
        struct watched *w = &s->watched[i];
        const struct kube_resource *r = kube_resource(kinds[i].resource);
        w->src = s;
        w->kind = kinds[i].kind;
        w->resource = kinds[i].resource;
        versions_of(w, r);
        if (kube_store_new(r->plural, &store_ops, w, &w->store, err) < 0 || watch(w, err) < 0)
            goto fail;
    }
    *ret = &s->source;
    return 0;
fail:
    kube_source_free(&s->source);
    return -1;
}

void source_free(struct source *s)
{
    if (s)
        s->free(s);
}

struct source_stats source_stats(const struct source *s)
{
    return s->stats(s);
}
