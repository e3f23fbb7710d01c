/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/store.h"

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"

struct entry {
    void *value;    /* the store's reference; NULL with a NULL decode */
    uint64_t rv;    /* hash of resourceVersion and uid; 0 = decode again */
    uint32_t epoch; /* list in which it was last seen */
    bool accepted;  /* an object of this key was accepted: readers see it. One that never was is
                     * known, so that its removal is noticed, but not seen */
};

struct kube_store {
    struct kube_sink sink; /* first: kube_store_sink */
    const char *name;
    const struct kube_store_ops *ops;
    void *user;
    struct map map; /* key -> entry */
    size_t len;     /* entries that readers see */
    uint32_t epoch;
    bool synced, absent;
};

static struct kube_store *store_of(struct kube_sink *s)
{
    return CONTAINER_OF(s, struct kube_store, sink);
}

static void tell(struct kube_store *s, enum kube_event_type kind, struct slice key, const void *old,
                 const void *new, const json_t *obj)
{
    if (s->ops->changed)
        s->ops->changed(s->user, kind, key, old, new, obj);
}

static void value_unref(struct kube_store *s, void *value)
{
    if (value && s->ops->unref)
        s->ops->unref(value);
}

/* The object's version: the uid is part, as a name may be reused within one list gap. */
static uint64_t version_of(const json_t *obj)
{
    struct slice rv = slice_str(kube_meta(obj, "resourceVersion"));
    if (rv.len == 0)
        return 0;
    uint64_t h = hash64(slice_str(kube_meta(obj, "uid")), hash64(rv, 0));
    return h ? h : 1;
}

static void sink_begin(struct kube_sink *sink)
{
    store_of(sink)->epoch++;
}

static void refuse(struct kube_store *s, struct slice key, const struct err *err)
{
    if (s->ops->refused)
        s->ops->refused(s->user, key, err);
    else
        LOG(WARN, "Object was refused", "store=%s key=%.*s error=%s", s->name, SL_FMT(key),
            err->msg);
}

static void sink_put(struct kube_sink *sink, json_t *obj)
{
    struct kube_store *s = store_of(sink);
    struct kube_key key;
    struct err err = {0};
    if (!*kube_name(obj) || !kube_key_make(kube_namespace(obj), kube_name(obj), &key))
        return;
    struct slice k = slice_str(key.text);
    uint64_t rv = version_of(obj);
    struct entry *e = map_get(&s->map, k);
    if (e) {
        e->epoch = s->epoch;
        if (rv && e->rv == rv)
            return; /* seen already: a relist, or a watch that began where a list ended */
    } else {
        e = mem_zalloc(sizeof *e);
        if (!e || map_put(&s->map, k, e, NULL) < 0) {
            mem_free(e);
            err_set(&err, ERR_NOMEM, "no memory for it");
            refuse(s, k, &err);
            return;
        }
        e->epoch = s->epoch;
    }
    bool was = e->accepted;
    void *old = e->value, *new = NULL;
    if (s->ops->decode) {
        new = s->ops->decode(s->user, obj, &err);
        if (!new) {
            /* Out of memory is not the object's fault: it is decoded again at the next list. */
            e->rv = err.code == ERR_NOMEM ? 0 : rv;
            refuse(s, k, &err);
            return;
        }
    }
    e->value = new;
    e->rv = rv;
    e->accepted = true;
    s->len += !was;
    tell(s, was ? KUBE_MODIFIED : KUBE_ADDED, k, old, new, obj);
    value_unref(s, old);
}

static void drop(struct kube_store *s, struct slice key, struct entry *e, const json_t *obj)
{
    void *old = e->value;
    if (e->accepted) {
        s->len--;
        tell(s, KUBE_DELETED, key, old, NULL, obj);
    }
    value_unref(s, old);
    mem_free(e);
}

static void sink_remove(struct kube_sink *sink, json_t *obj)
{
    struct kube_store *s = store_of(sink);
    struct kube_key key;
    if (!kube_key_make(kube_namespace(obj), kube_name(obj), &key))
        return;
    struct entry *e = map_remove(&s->map, slice_str(key.text));
    if (e)
        drop(s, slice_str(key.text), e, obj);
}

static void sink_end(struct kube_sink *sink, bool absent)
{
    struct kube_store *s = store_of(sink);
    for (struct map_entry *m = NULL; (m = map_next(&s->map, m));) {
        struct entry *e = m->value;
        struct kube_key key;
        if (e->epoch == s->epoch)
            continue;
        slice_copy(slice_of(m->key, m->key_len), key.text, sizeof key.text);
        map_remove(&s->map, slice_str(key.text));
        drop(s, slice_str(key.text), e, NULL);
    }
    s->synced = true;
    s->absent = absent;
    if (s->ops->synced)
        s->ops->synced(s->user, absent);
}

int kube_store_new(const char *name, const struct kube_store_ops *ops, void *user,
                   struct kube_store **ret, struct err *err)
{
    struct kube_store *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "store %s", name);
    s->sink = (struct kube_sink){sink_begin, sink_put, sink_remove, sink_end};
    s->name = name;
    s->ops = ops;
    s->user = user;
    *ret = s;
    return 0;
}

void kube_store_free(struct kube_store *s)
{
    if (!s)
        return;
    for (struct map_entry *m = NULL; (m = map_next(&s->map, m));) {
        struct entry *e = m->value;
        value_unref(s, e->value);
        mem_free(e);
    }
    map_fini(&s->map);
    mem_free(s);
}

struct kube_sink *kube_store_sink(struct kube_store *s)
{
    return &s->sink;
}

const void *kube_store_get_key(const struct kube_store *s, struct slice key)
{
    const struct entry *e = map_get(&s->map, key);
    return e ? e->value : NULL;
}

const void *kube_store_get(const struct kube_store *s, const char *ns, const char *name)
{
    struct kube_key key;
    return kube_key_make(ns, name, &key) ? kube_store_get_key(s, slice_str(key.text)) : NULL;
}

bool kube_store_has(const struct kube_store *s, struct slice key)
{
    const struct entry *e = map_get(&s->map, key);
    return e && e->accepted;
}

size_t kube_store_len(const struct kube_store *s)
{
    return s->len;
}

bool kube_store_synced(const struct kube_store *s)
{
    return s->synced;
}

bool kube_store_absent(const struct kube_store *s)
{
    return s->absent;
}

bool kube_store_next(const struct kube_store *s, struct kube_store_it *it)
{
    struct map_entry *m = it->pos;
    while ((m = map_next(&s->map, m))) {
        const struct entry *e = m->value;
        if (!e->accepted)
            continue;
        *it = (struct kube_store_it){slice_of(m->key, m->key_len), e->value, m};
        return true;
    }
    return false;
}
