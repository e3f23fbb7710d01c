/* SPDX-License-Identifier: Apache-2.0 */
/* Key: a namespace. A meshed one, and one with a pod that asked for a sidecar by itself, holds the root
 * bundle in ConfigMap istio-ca-root-cert; when its label and the last sidecar have gone, so does the
 * map, if we made it. */
#include <stdio.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/kube/store.h"
#include "operator/ctl_plans.h"
#include "operator/names.h"

struct ctl_rootcert {
    struct ctl ctl;
    struct kube_store *store; /* the maps as they are: hash of the bundle, lowest bit: ours */
    struct kube_watch *watch;
};

void rootcert_plan(const struct rootcert_seen *seen, struct plan *ret)
{
    if (seen->meshed && !seen->terminating) {
        if (!seen->roots.len || (seen->exists && seen->same))
            return;
        plan_add(ret, PLAN_APPLY, KUBE_CONFIG_MAP, seen->ns, SL(NAME_ROOT_MAP), NAME_MANAGER,
                 json_pack("{s:{s:{s:s, s:s}}, s:{s:s%}}", "metadata", "labels",
                           "app.kubernetes.io/managed-by", NAME_MANAGER, "istio.io/config", "true",
                           "data", NAME_ROOT_KEY, seen->roots.p, seen->roots.len));
    } else if (seen->exists && seen->ours && !seen->terminating) {
        plan_add(ret, PLAN_DELETE, KUBE_CONFIG_MAP, seen->ns, SL(NAME_ROOT_MAP), NULL, NULL);
    }
}

static uint64_t text_hash(struct slice s)
{
    return (hash64(s, 7) & ~UINT64_C(3)) | 2; /* never NULL; bit 0 is free */
}

static void *decode(void *user, const json_t *obj, struct err *err)
{
    const char *text = json_string_value(
        json_object_get(json_object_get(obj, "data"), NAME_ROOT_KEY));
    const char *by = json_string_value(json_object_get(
        json_object_get(json_object_get(obj, "metadata"), "labels"),
        "app.kubernetes.io/managed-by"));
    (void)user, (void)err;
    return (void *)(uintptr_t)(text_hash(slice_str(text)) | (by && strcmp(by, NAME_MANAGER) == 0));
}

static void unref(void *value)
{
    (void)value;
}

static void changed(void *user, enum kube_event_type type, struct slice key, const void *old,
                    const void *new, const json_t *obj)
{
    struct ctl_rootcert *c = user;
    struct slice ns, name;
    (void)type, (void)old, (void)new, (void)obj;
    kube_key_split(key, &ns, &name);
    ctl_poke(&c->ctl, ns);
}

static void synced(void *user, bool absent)
{
    (void)absent;
    ctl_rootcert_changed(user);
}

static const struct kube_store_ops store_ops = {
    .decode = decode, .unref = unref, .changed = changed, .synced = synced};

/* Does a pod of the namespace carry a sidecar? O(pods); asked where no label says so. */
static bool has_sidecar(const struct model *m, struct slice ns)
{
    for (struct map_entry *e = NULL; (e = map_next(&m->pods, e));) {
        const struct pod_fact *p = e->value;
        struct slice key = slice_of(e->key, e->key_len), of;
        if (p->proxy && !p->gone && slice_next(&key, '/', &of) && slice_eq(of, ns))
            return true;
    }
    return false;
}

static int plan(struct ctl *ctl, struct slice key, struct plan *ret, int64_t *ret_recheck_ns,
                struct err *err)
{
    struct ctl_rootcert *c = CONTAINER_OF(ctl, struct ctl_rootcert, ctl);
    struct model *m = &ctl->op->model;
    const struct ns_fact *f = model_namespace(m, key);
    char ns[64];

    (void)ret_recheck_ns;
    if (!m->synced || !kube_store_synced(c->store))
        return err_set(err, ERR_AGAIN, "not read yet");
    if (!f || !slice_copy(key, ns, sizeof ns))
        return 0; /* the namespace took its map along */
    struct rootcert_seen seen = {
        .ns = key,
        .meshed = f->meshed || has_sidecar(m, key),
        .terminating = f->terminating,
        .roots = slice_str(signer_state(ctl->op->signer).roots_pem),
    };
    uint64_t have = (uint64_t)(uintptr_t)kube_store_get(c->store, ns, NAME_ROOT_MAP);
    seen.exists = have != 0;
    seen.ours = have & 1;
    seen.same = (have & ~UINT64_C(1)) == text_hash(seen.roots);
    rootcert_plan(&seen, ret);
    return 0;
}

static void namespace_(void *user, struct slice name)
{
    struct ctl_rootcert *c = user;
    if (c->ctl.op->model.synced)
        ctl_poke(&c->ctl, name);
}

/* In a namespace without label: a sidecar came, or the last one may have gone. */
static void pod(void *user, struct slice ns, struct slice name)
{
    struct ctl_rootcert *c = user;
    const struct model *m = &c->ctl.op->model;
    const struct ns_fact *f = model_namespace(m, ns);
    char key[400];
    if (!m->synced || !f || f->meshed || !slice_copy(ns, key, sizeof key))
        return;
    bool have = kube_store_get(c->store, key, NAME_ROOT_MAP) != NULL;
    int n = snprintf(key, sizeof key, "%.*s/%.*s", SL_FMT(ns), SL_FMT(name));
    const struct pod_fact *p =
        n < (int)sizeof key ? map_get(&m->pods, slice_of(key, (size_t)n)) : NULL;
    bool carries = p && p->proxy && !p->gone;
    if (have ? !carries && !has_sidecar(m, ns) : carries)
        ctl_poke(&c->ctl, ns);
}

void ctl_rootcert_changed(struct ctl_rootcert *c)
{
    struct model *m = &c->ctl.op->model;
    for (struct map_entry *e = NULL; (e = map_next(&m->namespaces, e));)
        ctl_poke(&c->ctl, slice_of(e->key, e->key_len));
}

static void all_read(void *user)
{
    ctl_rootcert_changed(user);
}

int ctl_rootcert_new(struct op *op, struct ctl_rootcert **ret, struct err *err)
{
    struct ctl_rootcert *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "controller");
    c->ctl.plan = plan;
    struct kube_watch_opts o = {.resource = kube_resource(KUBE_CONFIG_MAP),
                                .fields = "metadata.name=" NAME_ROOT_MAP};
    if (ctl_init(&c->ctl, op, "rootcert", false, err) < 0 ||
        kube_store_new("rootcerts", &store_ops, c, &c->store, err) < 0 ||
        (o.sink = kube_store_sink(c->store), kube_watch_start(op->kube, &o, &c->watch, err) < 0)) {
        ctl_rootcert_free(c);
        return -1;
    }
    model_listen(&op->model, &(struct model_listener){.namespace_ = namespace_, .pod = pod,
                                                      .synced = all_read, .user = c});
    *ret = c;
    return 0;
}

void ctl_rootcert_free(struct ctl_rootcert *c)
{
    if (!c)
        return;
    kube_watch_stop(c->watch);
    if (c->store)
        kube_store_free(c->store);
    ctl_fini(&c->ctl);
    mem_free(c);
}
