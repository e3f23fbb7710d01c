/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/secrets.h"

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/kube/resource.h"
#include "lib/kube/store.h"
#include "lib/kube/watch.h"

#define SWEEP_NS                                                                                   \
    (600 * NS_PER_S) /* how often is looked for namespaces that nobody needs any more */
/* Neither the tokens of ServiceAccounts nor Helm's releases are certificates. */
#define FIELDS "type!=kubernetes.io/service-account-token,type!=helm.sh/release.v1"

struct watched {
    struct secrets *all;
    struct kube_store *store; /* keys and versions alone */
    struct kube_watch *watch;
    char ns[64];
};
struct secrets {
    struct loop *loop;
    struct kube_client *kube;
    struct model *model;
    struct push *push;
    struct map watches; /* namespace -> watched */
    struct loop_timer sweep;
};

static void changed(void *user, enum kube_event_type type, struct slice key, const void *old,
                    const void *new, const json_t *obj)
{
    struct watched *w = user;
    struct slice ns, name;
    (void)old, (void)new;
    if (type != KUBE_DELETED && obj) {
        model_put(w->all->model, INDEX_SECRET, obj);
    } else if (type == KUBE_DELETED) {
        kube_key_split(key, &ns, &name);
        model_remove(w->all->model, INDEX_SECRET, ns, name);
    }
}

static void synced(void *user, bool absent)
{
    struct watched *w = user;
    (void)absent;
    LOG(INFO, "Secrets of a namespace were read", "namespace=%s objects=%zu", w->ns,
        kube_store_len(w->store));
}

static const struct kube_store_ops store_ops = {.changed = changed, .synced = synced};

static void watched_free(struct watched *w)
{
    kube_watch_stop(w->watch);
    if (w->store)
        kube_store_free(w->store);
    mem_free(w);
}

static struct watched *watched_new(struct secrets *s, struct slice ns, struct err *err)
{
    struct watched *w = mem_zalloc(sizeof *w);
    if (!w || !slice_copy(ns, w->ns, sizeof w->ns)) {
        mem_free(w);
        err_set(err, ERR_NOMEM, "Secrets of a namespace");
        return NULL;
    }
    w->all = s;
    if (kube_store_new("secrets", &store_ops, w, &w->store, err) < 0) {
        watched_free(w);
        return NULL;
    }
    struct kube_watch_opts o = {.resource = kube_resource(KUBE_SECRET),
                                .ns = w->ns,
                                .fields = FIELDS,
                                .sink = kube_store_sink(w->store)};
    if (kube_watch_start(s->kube, &o, &w->watch, err) < 0) {
        watched_free(w);
        return NULL;
    }
    return w;
}

void secrets_need(struct secrets *s, struct slice ns)
{
    struct err err = {0};
    struct watched *w;
    if (map_get(&s->watches, ns))
        return;
    w = watched_new(s, ns, &err);
    if (w && map_put(&s->watches, ns, w, NULL) < 0) {
        watched_free(w);
        w = NULL;
    }
    if (w)
        LOG(INFO, "Certificates of a namespace are needed", "namespace=%s", w->ns);
    else
        LOG(ERROR, "Secrets of a namespace are not read", "namespace=%.*s reason=%s", SL_FMT(ns),
            err.msg);
}

/* Forget the content, too: what is not needed is not kept. */
static void let_go(struct secrets *s, struct watched *w)
{
    LOG(INFO, "Certificates of a namespace are needed no more", "namespace=%s", w->ns);
    for (struct kube_store_it it = {0}; kube_store_next(w->store, &it);) {
        struct slice ns, name;
        kube_key_split(it.key, &ns, &name);
        model_remove(s->model, INDEX_SECRET, ns, name);
    }
    map_remove(&s->watches, slice_str(w->ns));
    watched_free(w);
}

static void sweep(struct loop_timer *t)
{
    struct secrets *s = CONTAINER_OF(t, struct secrets, sweep);
    for (bool again = true; again;) {
        again = false;
        for (struct map_entry *e = NULL; (e = map_next(&s->watches, e));)
            if (!push_needs_secrets(s->push, slice_of(e->key, e->key_len))) {
                let_go(s, e->value);
                again = true; /* the table moved under the walk */
                break;
            }
    }
    loop_timer_in(s->loop, &s->sweep, SWEEP_NS, sweep);
}

int secrets_new(struct loop *loop, struct kube_client *kube, struct model *m, struct push *p,
                struct secrets **ret, struct err *err)
{
    struct secrets *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "secrets");
    *s = (struct secrets){.loop = loop, .kube = kube, .model = m, .push = p};
    loop_timer_in(loop, &s->sweep, SWEEP_NS, sweep);
    *ret = s;
    return 0;
}

void secrets_free(struct secrets *s)
{
    if (!s)
        return;
    loop_timer_clear(s->loop, &s->sweep);
    for (struct map_entry *e = NULL; (e = map_next(&s->watches, e));)
        watched_free(e->value);
    map_fini(&s->watches);
    mem_free(s);
}
