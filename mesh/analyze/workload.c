/* SPDX-License-Identifier: Apache-2.0 */
/* Kubernetes' own objects as the mesh sees them: services, namespaces, pods and pod templates. */
#include "lib/data/json.h"
#include "lib/data/quantity.h"
#include "mesh/analyze/analyze_int.h"
#include "mesh/compile/compile.h"

/* --- Service
 * -------------------------------------------------------------------------------------------- */

struct mix {
    unsigned pods, sidecars;
};

static bool count(void *user, const struct ix_pod *p)
{
    struct mix *m = user;

    m->pods++;
    m->sidecars += p->mtls;
    return true;
}

static bool same_pods(const struct ix_service *a, const struct ix_service *b)
{
    return a->selector && b->selector && ilabels_cover_all(a->selector, b->selector) &&
           ilabels_cover_all(b->selector, a->selector);
}

static enum prog_protocol protocol(const struct ix_port *p)
{
    return compile_protocol(istr_slice(p->app_protocol), istr_slice(p->name), p->port);
}

static void port_disagreement(struct an *an, const struct ix_service *s, uint32_t i)
{
    const struct ix_port *p = &s->ports[i];

    for (const struct ix_service *o = index_services(an->x, istr_slice(s->ns)); o; o = o->next) {
        if (o == s || !o->known || !same_pods(s, o))
            continue;
        for (uint32_t k = 0; k < o->n_ports; k++)
            if (o->ports[k].target && o->ports[k].target == p->target && o->ports[k].tcp &&
                p->tcp && protocol(&o->ports[k]) != protocol(p))
                an_add(
                    an, FINDING_PORTS_DIFFER, an_path(an, "spec.ports[%u]", i),
                    "Service %s gives port %u of the same pods another protocol: name both ports "
                    "alike",
                    o->name->p, p->target);
    }
}

void an_mixed(struct an *an, const struct ix_service *s)
{
    struct mix mix = {0};

    if (!an_meshed(an, istr_slice(s->ns)) || an->partial || !s->slices)
        return;
    an_each_pod_of(an, s, count, &mix);
    if (mix.sidecars && mix.sidecars < mix.pods)
        an_add(an, FINDING_PLAINTEXT, "spec.selector",
               "%u of %u pods have no sidecar: calls of those go unencrypted; restart them, so "
               "that they "
               "get one",
               mix.pods - mix.sidecars, mix.pods);
}

void an_service(struct an *an, const struct ix_service *s)
{
    if (!an_meshed(an, istr_slice(s->ns)))
        return;
    for (uint32_t i = 0; i < s->n_ports; i++) {
        if (s->ports[i].tcp && protocol(&s->ports[i]) == PROG_AUTO)
            an_add(
                an, FINDING_PORT_NAME, an_path(an, "spec.ports[%u].name", i),
                "\"%.*s\" tells no protocol, so it is detected: set appProtocol, or begin the name "
                "with http-, grpc-, tcp- or tls-",
                SL_FMT(istr_slice(s->ports[i].name)));
        port_disagreement(an, s, i);
    }
    an_mixed(an, s);
}

/* --- Namespace and Pod
 * ---------------------------------------------------------------------------------- */

void an_namespace(struct an *an, struct slice name)
{
    struct slice injection = index_namespace_label(an->x, name, SL("istio-injection"));
    struct slice rev = index_namespace_label(an->x, name, SL("istio.io/rev"));
    bool system = slice_starts(name, SL("kube-")) || slice_ends(name, SL("-system"));

    if (injection.len && rev.len)
        an_add(
            an, FINDING_LABELS, "metadata.labels",
            "has both istio-injection and istio.io/rev, of which istio-injection holds: keep one");
    else if (!injection.len && !rev.len && !system)
        an_add(an, FINDING_NOT_INJECTED, "metadata.labels",
               "is outside the mesh: label it istio-injection=enabled, or =disabled to say so");
}

void an_pod(struct an *an, const struct ix_pod *p)
{
    struct slice say = ilabels_get(p->labels, SL("sidecar.istio.io/inject"));

    if (!p->ip[0].len || p->gone || p->host_network || p->mtls || slice_is(say, "false") ||
        (!an_meshed(an, istr_slice(p->ns)) && !slice_is(say, "true")))
        return;
    an_add(an, FINDING_NO_SIDECAR, "metadata",
           "has no sidecar in a meshed namespace: restart it, so that it gets one");
}

/* --- pod templates
 * -------------------------------------------------------------------------------------- */

/* Where the pod stands in a workload; NULL: it is none. `ret_prefix`: its path with a dot, "" for a
 * Pod. */
static const json_t *template_of(const json_t *obj, const char **ret_prefix)
{
    static const char *const plain[] = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet",
                                        "Job"};
    const char *kind = json_string_value(json_object_get(obj, "kind"));
    const char *version = json_string_value(json_object_get(obj, "apiVersion"));
    const json_t *spec = json_object_get(obj, "spec");

    *ret_prefix = "";
    if (!kind || !version)
        return NULL;
    if (strcmp(kind, "Pod") == 0 && strcmp(version, "v1") == 0)
        return obj;
    if (strcmp(kind, "CronJob") == 0) {
        *ret_prefix = "spec.jobTemplate.spec.template.";
        return json_object_get(json_object_get(json_object_get(spec, "jobTemplate"), "spec"),
                               "template");
    }
    for (size_t i = 0; i < N_OF(plain); i++)
        if (strcmp(kind, plain[i]) == 0) {
            *ret_prefix = "spec.template.";
            return json_object_get(spec, "template");
        }
    return NULL;
}

bool analyze_is_workload(const json_t *obj)
{
    const char *prefix;

    return template_of(obj, &prefix) != NULL;
}

static const char *text(const json_t *pod, const char *map, const char *key)
{
    return json_string_value(
        json_object_get(json_object_get(json_object_get(pod, "metadata"), map), key));
}

struct template
{
    struct an *an;
    const json_t *pod;
    const char *prefix;
    struct slice ns;
};

static const char *annotation_path(struct template *t, const char *key)
{
    return an_path(t->an, "%smetadata.annotations[%s]", t->prefix, key);
}

/* The annotation's amount in thousandths, or the mesh's default; -1: none or unreadable. */
static int64_t amount(struct template *t, const char *key, struct slice dflt)
{
    const char *s = text(t->pod, "annotations", key);
    struct slice value = s ? slice_str(s) : dflt;
    int64_t milli;

    if (!value.len)
        return -1;
    if (quantity_parse(value, &milli) == ERR_OK && milli >= 0)
        return milli;
    an_add(t->an, FINDING_ANNOTATION, annotation_path(t, key),
           "must be a quantity such as 64Mi or 10m, is \"%.*s\"", SL_FMT(value));
    return -1;
}

#define MI ((int64_t)1000 * 1024 * 1024) /* a MiB in thousandths */

static void resources(struct template *t)
{
    static const char *const keys[] = {
        "sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyCPULimit",
        "sidecar.istio.io/proxyMemory", "sidecar.istio.io/proxyMemoryLimit"};
    const struct mesh_cr *m = index_mesh(t->an->x);
    int64_t cpu = amount(t, keys[0], m->proxy.cpu_request);
    int64_t cpu_limit = amount(t, keys[1], m->proxy.cpu_limit);
    int64_t memory = amount(t, keys[2], m->proxy.memory_request);
    int64_t memory_limit = amount(t, keys[3], m->proxy.memory_limit);
    bool any = false;

    for (size_t i = 0; i < N_OF(keys); i++)
        any |= text(t->pod, "annotations", keys[i]) != NULL;
    if (!any)
        return; /* the mesh's own were judged with the Mesh */
    if (cpu >= 0 && cpu_limit >= 0 && cpu > cpu_limit)
        an_add(t->an, FINDING_RESOURCES, annotation_path(t, keys[1]),
               "the sidecar's CPU limit is below its request, so that Kubernetes refuses the pod: "
               "raise "
               "it, or lower %s",
               keys[0]);
    if (memory >= 0 && memory_limit >= 0 && memory > memory_limit)
        an_add(
            t->an, FINDING_RESOURCES, annotation_path(t, keys[3]),
            "the sidecar's memory limit is below its request, so that Kubernetes refuses the pod: "
            "raise it, or lower %s",
            keys[2]);
    else if (memory_limit >= 0 && memory_limit < 16 * MI && text(t->pod, "annotations", keys[3]))
        an_add(
            t->an, FINDING_RESOURCES, annotation_path(t, keys[3]),
            "a sidecar needs about 8 Mi and more under load: write at least 32Mi, or leave it out");
    if (memory > 64 * MI && text(t->pod, "annotations", keys[2]))
        an_add(t->an, FINDING_RESOURCES, annotation_path(t, keys[2]),
               "sets aside far more than a sidecar uses (about 8 Mi): leave it out, or write 16Mi");
    if (cpu >= 100 && text(t->pod, "annotations", keys[0]))
        an_add(t->an, FINDING_RESOURCES, annotation_path(t, keys[0]),
               "sets aside far more CPU than an idle sidecar uses: leave it out, or write 10m; the "
               "limit bounds what it may use");
}

/* The pod as the index knows it, for the mode of its ports. */
static const struct ix_pod *indexed(struct template *t, const json_t *obj)
{
    const char *name = json_string_value(json_object_get(json_object_get(obj, "metadata"), "name"));

    return name ? index_pod(t->an->x, t->ns, slice_str(name)) : NULL;
}

static void metrics(struct template *t, const json_t *obj)
{
    static const char merge_key[] = "prometheus.istio.io/merge-metrics";
    const char *scrape = text(t->pod, "annotations", "prometheus.io/scrape");
    const char *port_text = text(t->pod, "annotations", "prometheus.io/port");
    const char *merge = text(t->pod, "annotations", merge_key);
    bool merged = merge ? strcmp(merge, "false") != 0 : index_mesh(t->an->x)->proxy.merge_metrics;
    const struct ix_pod *pod = indexed(t, obj);
    uint64_t port;

    if (scrape && strcmp(scrape, "false") == 0) {
        an_add(t->an, FINDING_UNSCRAPED, annotation_path(t, "prometheus.io/scrape"),
               "\"false\" keeps Prometheus from the sidecar's metrics too: leave it out, unless a "
               "PodMonitor reads port 15020");
        return;
    }
    if (merged || !scrape || strcmp(scrape, "true") != 0)
        return;
    if (!port_text || !slice_u64(slice_str(port_text), 65535, &port) || port == 0) {
        an_add(t->an, FINDING_UNSCRAPED, annotation_path(t, "prometheus.io/scrape"),
               "needs prometheus.io/port beside it, as metrics are not merged: name the port, or "
               "leave "
               "%s out",
               merge_key);
        return;
    }
    if (pod && compile_mtls_mode(t->an->x, pod, (uint16_t)port, NULL) == PA_STRICT)
        an_add(t->an, FINDING_UNSCRAPED, annotation_path(t, "prometheus.io/port"),
               "port %u takes mutual TLS alone (STRICT), which Prometheus does not speak: leave %s "
               "out, "
               "or write portLevelMtls PERMISSIVE for the port",
               (unsigned)port, merge_key);
}

static void run_as(struct template *t, const json_t *holder, const char *path)
{
    const json_t *uid = json_object_get(json_object_get(holder, "securityContext"), "runAsUser");

    if (json_is_integer(uid) && json_integer_value(uid) == 1337)
        an_add(t->an, FINDING_APP_UID, an_path(t->an, "%s.securityContext.runAsUser", path),
               "1337 is the sidecar's user, whose traffic is not captured: take another");
}

static void users(struct template *t)
{
    static const char *const lists[] = {"containers", "initContainers"};
    const json_t *spec = json_object_get(t->pod, "spec"), *c;
    size_t i;

    run_as(t, spec, an_path(t->an, "%sspec", t->prefix));
    for (size_t k = 0; k < N_OF(lists); k++)
        json_array_foreach(json_object_get(spec, lists[k]), i, c)
        {
            const char *name = json_string_value(json_object_get(c, "name"));

            if (!name || (strcmp(name, "istio-proxy") != 0 && strcmp(name, "istio-init") != 0))
                run_as(t, c, an_path(t->an, "%sspec.%s[%zu]", t->prefix, lists[k], i));
        }
}

void analyze_workload(const struct analysis *a, const json_t *obj, struct arena *tmp,
                      struct findings *f)
{
    struct an an = {.x = a->index, .partial = a->partial, .tmp = tmp, .f = f};
    struct template t = {.an = &an};
    const char *ns =
        json_string_value(json_object_get(json_object_get(obj, "metadata"), "namespace"));
    const char *say, *old;

    t.pod = template_of(obj, &t.prefix);
    if (!t.pod)
        return;
    t.ns = slice_str(ns ? ns : "default");
    say = text(t.pod, "labels", "sidecar.istio.io/inject");
    old = text(t.pod, "annotations", "sidecar.istio.io/inject");
    if (old)
        an_add(&an, FINDING_DEPRECATED, annotation_path(&t, "sidecar.istio.io/inject"),
               "is an old place: write it as a label of the pod");
    if (!say)
        say = old;
    if (say ? strcmp(say, "true") != 0 : !an_meshed(&an, t.ns))
        return;
    resources(&t);
    metrics(&t, obj);
    users(&t);
}

/* --- into the index
 * ------------------------------------------------------------------------------------- */

int analyze_put(struct index *x, const json_t *obj, struct err *err)
{
    const char *prefix;
    const json_t *pod = template_of(obj, &prefix), *own = json_object_get(obj, "metadata");
    const json_t *meta = json_object_get(pod, "metadata");
    enum index_kind kind;
    json_t *made;
    int rc;

    if (index_kind_of(obj, &kind))
        return index_put(x, kind, obj, NULL, err);
    if (!json_is_object(pod))
        return 0;
    made = json_pack("{s:s, s:s, s:{s:O, s:O*, s:O*, s:O*}, s:O*, s:{s:s}}", "apiVersion", "v1",
                     "kind", "Pod", "metadata", "name", json_object_get(own, "name"), "namespace",
                     json_object_get(own, "namespace"), "labels", json_object_get(meta, "labels"),
                     "annotations", json_object_get(meta, "annotations"), "spec",
                     json_object_get(pod, "spec"), "status", "phase", "Running");
    if (!made)
        return err_set(err, ERR_INVALID, "a workload without name");
    rc = index_put(x, INDEX_POD, made, NULL, err);
    json_decref(made);
    return rc;
}
