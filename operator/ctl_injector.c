/* SPDX-License-Identifier: Apache-2.0 */
/* ConfigMap tulle-injector: what the injector must know of the mesh, computed from Mesh, nodes and
 * namespaces. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/duration.h"
#include "lib/data/json.h"
#include "lib/data/kver.h"
#include "lib/kube/store.h"
#include "mesh/inject/settings.h"
#include "operator/ctl_plans.h"
#include "operator/names.h"

#define KEY SL("settings")
#define SETTLE_NS (200 * NS_PER_MS)

struct ctl_injector {
    struct ctl ctl;
    struct kube_store *store;
    struct kube_watch *watch;
    char *have; /* settings as they stand, NULL: none */
};

/* --- pure ------------------------------------------------------------------------------------- */

struct native_seen {
    unsigned nodes, old;
};

static bool node_native(void *user, const struct k8s_node *n)
{
    struct native_seen *s = user;
    struct kver v;
    s->nodes++;
    if (!kver_parse(n->kubelet_version, &v) || !kver_at_least(v, 1, 33))
        s->old++;
    return true;
}

bool injector_native(const struct index *x)
{
    struct native_seen s = {0};
    index_each_node(x, node_native, &s);
    return s.nodes && !s.old;
}

static void put_text(json_t *o, const char *name, struct slice value)
{
    if (value.len)
        json_object_set_new(o, name, json_string_of(value));
}

json_t *injector_settings(const struct op *op, const struct mesh_cr *mesh, bool native,
                          json_t *no_net_admin)
{
    char address[200];
    char drain[40];
    json_t *o = json_object(), *secrets = json_array(), *config = json_object();
    snprintf(address, sizeof address, NAME_OPERATOR ".%s.svc:%d", op->ns, PORT_DISCOVERY);
    if (mesh->proxy.native_sidecar != MESH_NATIVE_AUTO)
        native = mesh->proxy.native_sidecar == MESH_NATIVE_ALWAYS;
    put_text(o, "image", mesh->proxy.image.len ? mesh->proxy.image : slice_str(op->proxy_image));
    put_text(o, "imagePullPolicy", mesh->proxy.image_pull_policy.len
                                       ? mesh->proxy.image_pull_policy
                                       : slice_str(op->pull_policy));
    for (uint32_t i = 0; i < mesh->proxy.image_pull_secrets.n; i++)
        json_array_append_new(secrets, json_string_of(mesh->proxy.image_pull_secrets.p[i]));
    json_object_set_new(o, "imagePullSecrets", secrets);
    json_object_set_new(o, "nativeSidecar", json_boolean(native));
    put_text(o, "trustDomain", mesh->trust_domain);
    put_text(o, "clusterDomain", mesh->cluster_domain);
    put_text(o, "discoveryAddress", slice_str(address));
    put_text(o, "clusterId", slice_str(op->cluster_id));
    put_text(o, "meshId", mesh->mesh_id);
    put_text(o, "revision", slice_str(op->revision));
    put_text(o, "systemNamespace", slice_str(op->ns));
    put_text(o, "cpuRequest", mesh->proxy.cpu_request);
    put_text(o, "memoryRequest", mesh->proxy.memory_request);
    put_text(o, "cpuLimit", mesh->proxy.cpu_limit);
    put_text(o, "memoryLimit", mesh->proxy.memory_limit);
    put_text(o, "logLevel", mesh->proxy.log_level);
    put_text(o, "includeOutboundIPRanges", mesh->proxy.include_outbound_ip_ranges);
    put_text(o, "excludeOutboundIPRanges", mesh->proxy.exclude_outbound_ip_ranges);
    put_text(o, "excludeOutboundPorts", mesh->proxy.exclude_outbound_ports);
    put_text(o, "excludeInboundPorts", mesh->proxy.exclude_inbound_ports);
    json_object_set_new(o, "dnsCapture", json_boolean(mesh->proxy.dns_capture));
    json_object_set_new(o, "rewriteAppProbes", json_boolean(mesh->proxy.rewrite_app_probes));
    json_object_set_new(o, "mergeMetrics", json_boolean(mesh->proxy.merge_metrics));
    json_object_set_new(o, "namespacesWithoutNetAdmin", no_net_admin);
    if (mesh->proxy.concurrency.set)
        json_object_set_new(config, "concurrency", json_integer(mesh->proxy.concurrency.v));
    if (mesh->proxy.hold_application)
        json_object_set_new(config, "holdApplicationUntilProxyStarts", json_true());
    /* The pod's own ProxyConfig may say another; the proxy takes it from there. */
    json_object_set_new(config, "terminationDrainDuration",
                        json_string(duration_format(mesh->proxy.termination_drain_ns, drain)));
    if (json_object_size(config))
        json_object_set(o, "proxyConfig", config);
    json_decref(config);
    return o;
}

struct configs {
    const struct ix_object *p[INJECTOR_CONFIGS_MAX];
    size_t n, dropped, bytes;
};

/* Of all texts together. */
static size_t bytes_of(const struct api_map *m)
{
    size_t n = 0;

    for (uint32_t i = 0; i < m->n; i++)
        n += m->p[i].key.len + m->p[i].value.len;
    return n;
}

static bool config_add(void *user, const struct ix_object *o)
{
    struct configs *c = user;
    const struct pc *pc = o->pc;

    if (o->invalid || pc->target_ref.kind.len || (!pc->concurrency.set && !pc->environment.n))
        return true; /* says nothing of a sidecar */
    /* The ConfigMap has an end; a smaller one may fit. */
    if (c->n == N_OF(c->p) || c->bytes + bytes_of(&pc->environment) > INJECTOR_CONFIGS_BYTES) {
        c->dropped++;
        return true;
    }
    c->bytes += bytes_of(&pc->environment);
    c->p[c->n++] = o;
    return true;
}

static int config_order(const void *a, const void *b)
{
    const struct obj_meta *x = (*(const struct ix_object *const *)a)->meta,
                          *y = (*(const struct ix_object *const *)b)->meta;
    int d = (x->created_s > y->created_s) - (x->created_s < y->created_s);

    if (!d)
        d = slice_cmp(x->ns, y->ns);
    return d ? d : slice_cmp(x->name, y->name);
}

static json_t *texts_of(const struct api_map *m)
{
    json_t *o = json_object();

    for (uint32_t i = 0; i < m->n; i++)
        json_object_set_new_nocheck(o, m->p[i].key.p, json_string_of(m->p[i].value));
    return o;
}

json_t *injector_proxy_configs(const struct index *x)
{
    struct configs c = {.n = 0};
    struct slice root = index_mesh(x)->root_namespace;
    json_t *list = json_array();

    index_each_object(x, INDEX_PC, config_add, &c);
    if (c.dropped)
        LOG(WARN, "ProxyConfigs that find no room in the injector's settings have no effect", "count=%zu",
            c.dropped);
    if (c.n)
        qsort(c.p, c.n, sizeof *c.p, config_order);
    for (size_t i = 0; i < c.n; i++) {
        const struct pc *pc = c.p[i]->pc;
        bool all = api_selector_is_all(&pc->selector);
        json_t *one = json_object(), *config = json_object();

        put_text(one, "namespace", c.p[i]->meta->ns);
        if (all && slice_eq(c.p[i]->meta->ns, root))
            json_object_set_new(one, "namespace", json_string(""));
        if (!all)
            json_object_set_new(one, "matchLabels", texts_of(&pc->selector.labels));
        if (pc->concurrency.set)
            json_object_set_new(config, "concurrency", json_integer(pc->concurrency.v));
        if (pc->environment.n)
            json_object_set_new(config, "proxyMetadata", texts_of(&pc->environment));
        json_object_set_new(one, "config", config);
        json_array_append_new(list, one);
    }
    return list;
}

/* --- reconciliation --------------------------------------------------------------------------- */


/* Meshed namespaces whose Pod Security forbids what the init container needs, in order. */
static json_t *no_net_admin(const struct model *m)
{
    json_t *list = json_array();
    size_t n, i;
    struct map_entry **all = map_sorted(&m->namespaces, &n);
    for (i = 0; all && i < n; i++) {
        const struct ns_fact *f = all[i]->value;
        if (f->no_net_admin)
            json_array_append_new(list, json_stringn(all[i]->key, all[i]->key_len));
    }
    mem_free(all);
    return list;
}

static int plan(struct ctl *ctl, struct slice key, struct plan *ret, int64_t *ret_recheck_ns,
                struct err *err)
{
    struct ctl_injector *c = CONTAINER_OF(ctl, struct ctl_injector, ctl);
    struct op *op = ctl->op;
    struct inject_settings *checked = NULL;
    (void)key, (void)ret_recheck_ns;

    if (!op->model.synced || !kube_store_synced(c->store))
        return err_set(err, ERR_AGAIN, "not read yet");
    CLEANUP(json_freep) json_t *o =
        injector_settings(op, index_mesh(op->model.index), injector_native(op->model.index),
                          no_net_admin(&op->model));
    if (o && index_any(op->model.index, INDEX_PC))
        json_object_set_new(o, "proxyConfigs", injector_proxy_configs(op->model.index));
    CLEANUP(mem_freep) char *text = o ? json_text(o, JSON_PRETTY) : NULL;
    if (!text)
        return err_set(err, ERR_NOMEM, "settings");
    if (inject_settings_decode(slice_str(text), &checked, err) < 0)
        return err_wrap(err, "Mesh %s", NAME_MESH); /* the last good settings stay */
    inject_settings_free(checked);
    if (c->have && strcmp(c->have, text) == 0)
        return 0;
    plan_add(ret, PLAN_APPLY, KUBE_CONFIG_MAP, slice_str(op->ns), SL(NAME_INJECTOR), NAME_MANAGER,
             json_pack("{s:{s:{s:s}}, s:{s:s}}", "metadata", "labels",
                       "app.kubernetes.io/managed-by", NAME_MANAGER, "data", NAME_INJECTOR_KEY,
                       text));
    return 0;
}

static void soon(struct ctl_injector *c)
{
    ctl_poke_after(&c->ctl, KEY, SETTLE_NS);
}

static void map_changed(void *user, enum kube_event_type type, struct slice key, const void *old,
                        const void *new, const json_t *obj)
{
    struct ctl_injector *c = user;
    const char *text =
        json_string_value(json_object_get(json_object_get(obj, "data"), NAME_INJECTOR_KEY));
    (void)key, (void)old, (void)new;
    mem_free(c->have);
    c->have = type != KUBE_DELETED && text ? mem_strdup(text) : NULL;
    soon(c);
}

static void map_synced(void *user, bool absent)
{
    (void)absent;
    soon(user);
}

static const struct kube_store_ops store_ops = {.changed = map_changed, .synced = map_synced};

static void ns_changed(void *user, struct slice name)
{
    (void)name;
    soon(user);
}

static void any_changed(void *user)
{
    soon(user);
}

static void policy_changed(void *user, enum index_kind kind, struct slice ns, struct slice name)
{
    (void)ns, (void)name;
    if (kind == INDEX_MESH || kind == INDEX_PC)
        soon(user);
}

int ctl_injector_new(struct op *op, struct ctl_injector **ret, struct err *err)
{
    struct ctl_injector *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "controller");
    c->ctl.plan = plan;
    struct kube_watch_opts o = {.resource = kube_resource(KUBE_CONFIG_MAP),
                                .ns = op->ns,
                                .fields = "metadata.name=" NAME_INJECTOR};
    if (ctl_init(&c->ctl, op, "injector", false, err) < 0 ||
        kube_store_new("injector settings", &store_ops, c, &c->store, err) < 0 ||
        (o.sink = kube_store_sink(c->store), kube_watch_start(op->kube, &o, &c->watch, err) < 0)) {
        ctl_injector_free(c);
        return -1;
    }
    model_listen(&op->model, &(struct model_listener){.namespace_ = ns_changed,
                                                      .node = any_changed,
                                                      .policy = policy_changed,
                                                      .synced = any_changed,
                                                      .user = c});
    *ret = c;
    return 0;
}

void ctl_injector_free(struct ctl_injector *c)
{
    if (!c)
        return;
    kube_watch_stop(c->watch);
    if (c->store)
        kube_store_free(c->store);
    ctl_fini(&c->ctl);
    mem_free(c->have);
    mem_free(c);
}
