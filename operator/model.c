/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/model.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/resource.h"
#include "mesh/api/kinds.h"

static const char *text_at(const json_t *o, const char *a, const char *b, const char *c)
{
    const json_t *v = json_object_get(json_object_get(json_object_get(o, a), b), c);
    const char *s = json_string_value(v);
    return s ? s : "";
}

struct ns_fact ns_fact_of(const json_t *ns, const char *revision)
{
    const char *injection = text_at(ns, "metadata", "labels", "istio-injection");
    const char *rev = text_at(ns, "metadata", "labels", "istio.io/rev");
    const char *security = text_at(ns, "metadata", "labels", "pod-security.kubernetes.io/enforce");
    struct ns_fact f = {0};

    /* istio-injection beats istio.io/rev. */
    f.meshed = injection[0] ? strcmp(injection, "enabled") == 0
                            : rev[0] && (strcmp(rev, revision) == 0 || strcmp(rev, "default") == 0);
    f.off = strcmp(injection, "disabled") == 0;
    f.no_net_admin = strcmp(security, "baseline") == 0 || strcmp(security, "restricted") == 0;
    f.terminating = json_object_get(json_object_get(ns, "metadata"), "deletionTimestamp") != NULL;
    return f;
}

struct image_id image_id_of(struct slice image)
{
    struct slice last = image;
    ptrdiff_t slash;
    size_t n = 0;

    while ((slash = slice_chr(last, '/')) >= 0)
        last = slice_skip(last, (size_t)slash + 1);
    while (n < last.len && last.p[n] != ':' && last.p[n] != '@')
        n++;
    if (!n)
        return (struct image_id){0};
    return (struct image_id){(uint32_t)hash64(slice_head(last, n), 0) | 1,
                             (uint32_t)hash64(slice_skip(last, n), 0) | 1};
}

bool pod_is_old(const struct pod_fact *pod, struct image_id mesh)
{
    return pod->proxy && !pod->gone && mesh.name && pod->image.name == mesh.name &&
           pod->image.version != mesh.version;
}

static bool proxy_in(const json_t *list, bool init, struct image_id *ret_image)
{
    size_t i;
    const json_t *c;
    json_array_foreach(list, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        const char *restart = json_string_value(json_object_get(c, "restartPolicy"));
        if (name && strcmp(name, "istio-proxy") == 0 &&
            (!init || (restart && strcmp(restart, "Always") == 0))) {
            const char *image = json_string_value(json_object_get(c, "image"));
            *ret_image = image_id_of(slice_str(image));
            return true;
        }
    }
    return false;
}

static bool ready_in(const json_t *list)
{
    size_t i;
    const json_t *c;
    json_array_foreach(list, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (name && strcmp(name, "istio-proxy") == 0)
            return json_is_true(json_object_get(c, "ready"));
    }
    return false;
}

struct pod_fact pod_fact_of(const json_t *pod)
{
    static const char key[] = "sidecar.istio.io/inject";
    const json_t *spec = json_object_get(pod, "spec"), *status = json_object_get(pod, "status");
    const char *phase = json_string_value(json_object_get(status, "phase"));
    const char *say = text_at(pod, "metadata", "labels", key);
    struct pod_fact f = {0};

    if (!say[0])
        say = text_at(pod, "metadata", "annotations", key);
    f.proxy = proxy_in(json_object_get(spec, "containers"), false, &f.image) ||
              proxy_in(json_object_get(spec, "initContainers"), true, &f.image);
    if (text_at(pod, "metadata", "annotations", "sidecar.istio.io/proxyImage")[0])
        f.image = (struct image_id){0};
    f.proxy_ready = ready_in(json_object_get(status, "containerStatuses")) ||
                    ready_in(json_object_get(status, "initContainerStatuses"));
    f.gone = (phase && (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0)) ||
             json_object_get(json_object_get(pod, "metadata"), "deletionTimestamp");
    f.host_network = json_is_true(json_object_get(spec, "hostNetwork"));
    f.in = strcmp(say, "true") == 0;
    f.out = strcmp(say, "false") == 0;
    return f;
}

/* --- life ------------------------------------------------------------------------------------------------ */

int model_init(struct model *m, const char *system_ns, const char *revision, struct err *err)
{
    *m = (struct model){.system_ns = system_ns, .revision = revision};
    m->index = index_new();
    return m->index ? 0 : err_set(err, ERR_NOMEM, "index");
}

static void policy_free(struct policy_fact *f)
{
    if (!f)
        return;
    mem_free(f->status);
    arena_fini(&f->arena);
    mem_free(f);
}

void model_fini(struct model *m)
{
    for (struct map_entry *e = NULL; (e = map_next(&m->namespaces, e));)
        mem_free(e->value);
    for (struct map_entry *e = NULL; (e = map_next(&m->pods, e));)
        mem_free(e->value);
    for (struct map_entry *e = NULL; (e = map_next(&m->policies, e));)
        policy_free(e->value);
    map_fini(&m->namespaces);
    map_fini(&m->pods);
    map_fini(&m->policies);
    index_free(m->index);
    m->index = NULL;
}

void model_listen(struct model *m, const struct model_listener *l)
{
    if (m->n_listeners < MODEL_LISTENERS)
        m->listeners[m->n_listeners++] = *l;
}

#define TELL(m, fn, ...)                                                                           \
    do {                                                                                           \
        for (unsigned tell_ = 0; tell_ < (m)->n_listeners; tell_++)                                \
            if ((m)->listeners[tell_].fn)                                                          \
                (m)->listeners[tell_].fn((m)->listeners[tell_].user, ##__VA_ARGS__);               \
    } while (0)

static void changes_tell(struct model *m, struct index_changes *c)
{
    if (c->n || c->all)
        TELL(m, changes, c);
    index_changes_fini(c);
}

static bool key_of(char *ret, size_t cap, struct slice ns, struct slice name)
{
    return (size_t)snprintf(ret, cap, "%.*s%s%.*s", SL_FMT(ns), ns.len ? "/" : "", SL_FMT(name)) <
           cap;
}

/* --- facts ------------------------------------------------------------------------------------------------ */

static bool is_policy(enum index_kind k)
{
    return k >= INDEX_VS; /* the core kinds come first */
}

static void *keep(struct map *map, struct slice key, const void *value, size_t size)
{
    void *have = map_get(map, key);
    if (!have) {
        have = mem_zalloc(size);
        if (!have || map_put(map, key, have, NULL) < 0) {
            mem_free(have);
            return NULL;
        }
    } else if (memcmp(have, value, size) == 0) {
        return NULL; /* nothing new */
    }
    memcpy(have, value, size);
    return have;
}

static void addresses_read(struct policy_fact *f, const json_t *status)
{
    const json_t *list = json_object_get(status, "addresses"), *x;
    size_t i;
    f->addresses.p = ARENA_ARRAY(&f->arena, struct slice, json_array_size(list) + 1);
    json_array_foreach(list, i, x)
    {
        const char *host = json_string_value(json_object_get(x, "host"));
        const char *value = json_string_value(json_object_get(x, "value"));
        char *s = host && value && f->addresses.p
                      ? arena_printf(&f->arena, "%s=%s", host, value)
                      : NULL;
        if (s)
            f->addresses.p[f->addresses.n++] = slice_str(s);
    }
}

static void findings_read(struct policy_fact *f, const json_t *obj)
{
    CLEANUP(arena_free) struct arena scratch = ARENA_INIT;
    enum api_kind kind;
    struct findings found;
    findings_init(&found, &scratch);
    if (!api_kind_of_object(obj, &kind) || api_check(kind, obj, &scratch, &found) < 0 || !found.n)
        return;
    f->findings = ARENA_NEW(&f->arena, struct findings);
    if (!f->findings)
        return;
    findings_init(f->findings, &f->arena);
    for (uint32_t i = 0; i < found.n; i++) {
        struct finding *x = &f->findings->p[f->findings->n++];
        *x = found.p[i];
        x->path = arena_slice(&f->arena, x->path);
        x->text = arena_slice(&f->arena, x->text);
    }
}

static void policy_put(struct model *m, enum index_kind kind, struct slice key, const json_t *obj)
{
    struct policy_fact *f = mem_zalloc(sizeof *f);
    const json_t *status = json_object_get(obj, "status");
    void *old = NULL;
    char name[400];

    if (!f)
        return;
    f->kind = kind;
    f->generation = kube_generation(obj);
    slice_copy(slice_str(kube_meta(obj, "uid")), f->uid, sizeof f->uid);
    if (json_is_object(status))
        f->status = json_text(status, JSON_TIGHT);
    addresses_read(f, status);
    findings_read(f, obj);
    snprintf(name, sizeof name, "%s %.*s", index_kind_name(kind), SL_FMT(key));
    if (map_put(&m->policies, slice_str(name), f, &old) < 0) {
        policy_free(f);
        return;
    }
    policy_free(old);
}

const struct ns_fact *model_namespace(const struct model *m, struct slice name)
{
    return map_get(&m->namespaces, name);
}

const struct policy_fact *model_policy(const struct model *m, enum index_kind kind, struct slice ns,
                                       struct slice name)
{
    char key[340], id[400];
    if (!key_of(key, sizeof key, ns, name))
        return NULL;
    snprintf(id, sizeof id, "%s %s", index_kind_name(kind), key);
    return map_get(&m->policies, slice_str(id));
}

/* --- objects in and out ------------------------------------------------------------------------------------ */

void model_put(struct model *m, enum index_kind kind, const json_t *obj)
{
    struct slice ns = slice_str(kube_namespace(obj)), name = slice_str(kube_name(obj));
    struct index_changes changes = {0};
    struct err err = {0};
    char key[340];

    if (!key_of(key, sizeof key, ns, name))
        return;
    if (index_put(m->index, kind, obj, &changes, &err) < 0) {
        m->refused++;
        LOG(WARN, "Object could not be read; its last state stays", "kind=%s object=%s error=%s",
            index_kind_name(kind), key, err.msg);
    }
    if (kind == INDEX_NAMESPACE) {
        struct ns_fact f = ns_fact_of(obj, m->revision);
        keep(&m->namespaces, name, &f, sizeof f);
        TELL(m, namespace_, name);
    } else if (kind == INDEX_POD) {
        struct pod_fact f = pod_fact_of(obj);
        if (keep(&m->pods, slice_str(key), &f, sizeof f))
            TELL(m, pod, ns, name);
    } else if (kind == INDEX_NODE) {
        TELL(m, node);
    } else if (is_policy(kind)) {
        policy_put(m, kind, slice_str(key), obj);
        TELL(m, policy, kind, ns, name);
    }
    changes_tell(m, &changes);
}

void model_remove(struct model *m, enum index_kind kind, struct slice ns, struct slice name)
{
    struct index_changes changes = {0};
    char key[340], id[400];

    if (!key_of(key, sizeof key, ns, name))
        return;
    index_remove(m->index, kind, ns, name, &changes);
    if (kind == INDEX_NAMESPACE) {
        mem_free(map_remove(&m->namespaces, name));
        TELL(m, namespace_, name);
    } else if (kind == INDEX_POD) {
        mem_free(map_remove(&m->pods, slice_str(key)));
        TELL(m, pod, ns, name);
    } else if (kind == INDEX_NODE) {
        TELL(m, node);
    } else if (is_policy(kind)) {
        snprintf(id, sizeof id, "%s %s", index_kind_name(kind), key);
        policy_free(map_remove(&m->policies, slice_str(id)));
        TELL(m, policy, kind, ns, name);
    }
    changes_tell(m, &changes);
}

void model_set_synced(struct model *m)
{
    if (m->synced)
        return;
    m->synced = true;
    TELL(m, synced);
}

void model_set_address(struct model *m, struct slice host, const struct ipaddr *ip)
{
    struct index_changes changes = {0};
    index_set_address(m->index, host, ip, &changes);
    changes_tell(m, &changes);
}
