/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mesh/inject/inject_int.h"

static const char *const path_names[] = {
    [INJECT_REV_NAMESPACE] = "rev-namespace",
    [INJECT_REV_OBJECT] = "rev-object",
    [INJECT_NAMESPACE] = "namespace",
    [INJECT_OBJECT] = "object",
};

int inject_path_parse(struct slice name, enum inject_path *ret)
{
    for (size_t i = 0; i < N_OF(path_names); i++)
        if (slice_is(name, path_names[i])) {
            *ret = (enum inject_path)i;
            return 0;
        }
    return -1;
}

const char *inject_path_name(enum inject_path path)
{
    return path_names[path];
}

static const struct {
    const char *name, *text;
    bool yes;
} reasons[] = {
#define X(n, name, yes, text) {name, text, yes},
    INJECT_REASONS(X)
#undef X
};

const char *inject_reason_name(enum inject_reason reason)
{
    return reasons[reason].name;
}

const char *inject_reason_text(enum inject_reason reason)
{
    return reasons[reason].text;
}

bool inject_reason_is_yes(enum inject_reason reason)
{
    return reasons[reason].yes;
}

/* metav1.LabelSelector: matchLabels and matchExpressions, all must hold. An empty selector, and one
 * with an operator that we do not know, matches nothing (as Istio skips them). */
static bool expression_holds(const json_t *e, const json_t *labels)
{
    const char *key = jstr(e, "key"), *op = jstr(e, "operator");
    if (!key || !op)
        return false;
    const char *have = jstr(labels, key);
    if (strcmp(op, "Exists") == 0)
        return have != NULL;
    if (strcmp(op, "DoesNotExist") == 0)
        return have == NULL;
    if (strcmp(op, "In") == 0)
        return have && jhas(jarr(e, "values"), have);
    if (strcmp(op, "NotIn") == 0)
        return !have || !jhas(jarr(e, "values"), have);
    return false;
}

bool inject_selector_matches(const json_t *selector, const json_t *labels)
{
    const json_t *want = jobj(selector, "matchLabels"), *list = jarr(selector, "matchExpressions");
    const char *key;
    json_t *v;
    size_t i;

    if (json_object_size(want) + json_array_size(list) == 0)
        return false;
    json_object_foreach((json_t *)(uintptr_t)want, key, v)
    {
        const char *have = jstr(labels, key);
        if (!have || !json_is_string(v) || strcmp(have, json_string_value(v)) != 0)
            return false;
    }
    json_array_foreach(list, i, v) if (!expression_holds(v, labels)) return false;
    return true;
}

static bool any_matches(const json_t *selectors, const json_t *labels)
{
    size_t i;
    const json_t *s;
    json_array_foreach(selectors, i, s) if (inject_selector_matches(s, labels)) return true;
    return false;
}

static bool is_yes(const char *text)
{
    static const char *const yes[] = {"y", "yes", "true", "on"};
    for (size_t i = 0; i < N_OF(yes); i++)
        if (strcasecmp(text, yes[i]) == 0)
            return true;
    return false;
}

static bool is_system(const struct inject_settings *s, const char *ns)
{
    static const char *const never[] = {"kube-system", "kube-public", "kube-node-lease",
                                        "local-path-storage"};
    for (size_t i = 0; i < N_OF(never); i++)
        if (strcmp(ns, never[i]) == 0)
            return true;
    return strcmp(ns, s->system_namespace) == 0;
}

/* Injected before, and the container is still there: a status that was copied into a template
 * without the container says nothing. */
static bool is_injected(const json_t *annotations, const json_t *spec)
{
    const char *status = jstr(annotations, ANNO_STATUS);
    if (!status || !status[0])
        return false;
    CLEANUP(json_freep) json_t *was = jread(status);
    return (jhas(jarr(was, "containers"), PROXY_NAME) &&
            jnamed(jarr(spec, "containers"), PROXY_NAME, NULL)) ||
           (jhas(jarr(was, "initContainers"), PROXY_NAME) &&
            jnamed(jarr(spec, "initContainers"), PROXY_NAME, NULL));
}

static bool is_windows(const json_t *spec)
{
    const char *os = jstr(jobj(spec, "os"), "name");
    const char *node = jstr(jobj(spec, "nodeSelector"), "kubernetes.io/os");
    return (os && strcmp(os, "windows") == 0) || (node && strcmp(node, "windows") == 0);
}

enum inject_reason inject_decide(const struct inject_settings *s, const struct inject_request *req)
{
    const json_t *meta = jobj(req->pod, "metadata"), *spec = jobj(req->pod, "spec");
    const json_t *labels = jobj(meta, "labels"), *annotations = jobj(meta, "annotations");

    if (json_is_true(json_object_get(spec, "hostNetwork")))
        return INJECT_HOST_NETWORK_;
    if (is_system(s, req->ns))
        return INJECT_SYSTEM_NAMESPACE_;
    if (is_windows(spec))
        return INJECT_WINDOWS_;
    const char *own = jstr(labels, "sidecar.istio.io/inject");
    if (!own)
        own = jstr(annotations, "sidecar.istio.io/inject");
    if (own && own[0] && !is_yes(own))
        return INJECT_REFUSED_BY_POD_;
    if (is_injected(annotations, spec))
        return INJECT_ALREADY_;
    if (own && own[0])
        return INJECT_ASKED_BY_POD_;
    if (any_matches(s->never_inject, labels))
        return INJECT_NEVER_SELECTOR_;
    if (any_matches(s->always_inject, labels))
        return INJECT_ALWAYS_SELECTOR_;
    return req->path == INJECT_OBJECT ? INJECT_NOT_ASKED_ : INJECT_ASKED_BY_NAMESPACE_;
}

/* --- whose pod is it ----------------------------------------------------------------------------
 */
static const json_t *controller_of(const json_t *meta)
{
    size_t i;
    const json_t *ref;
    json_array_foreach(jarr(meta, "ownerReferences"), i,
                       ref) if (json_is_true(json_object_get(ref, "controller"))) return ref;
    return NULL;
}

/* The name without "-<8 to 10 digits>", which is how CronJobs name their Jobs; 0 when it is not so.
 */
static size_t cron_stem(const char *name)
{
    size_t n = strlen(name), digits = 0;
    while (digits < n && name[n - 1 - digits] >= '0' && name[n - 1 - digits] <= '9')
        digits++;
    if (digits < 8 || digits > 10 || digits + 2 > n || name[n - digits - 1] != '-')
        return 0;
    return n - digits - 1;
}

static void workload_set(struct inject *in, const char *name, size_t len)
{
    snprintf(in->workload_buf, sizeof in->workload_buf, "%.*s", (int)MIN(len, (size_t)253), name);
    in->workload = in->workload_buf;
}

void inject_workload(struct inject *in)
{
    const json_t *ref = controller_of(in->meta);
    const char *name = jstr(ref, "name"), *kind = jstr(ref, "kind");
    const char *hash = jstr(in->labels, "pod-template-hash");
    const char *config = jstr(in->labels, "openshift.io/deployment-config");

    in->workload = "";
    if (!name || !kind) {
        name = jstr(in->meta, "name");
        if (!name || !name[0])
            name = jstr(in->meta, "generateName");
        size_t n = name ? strlen(name) : 0;
        while (n > 0 && name[n - 1] == '-')
            n--;
        in->owner_kind = "pod";
        in->owner_api = "v1";
        if (n > 0)
            workload_set(in, name, n);
        return;
    }
    size_t n = strlen(name), h = hash ? strlen(hash) : 0, stem;
    in->owner_kind = kind;
    in->owner_api = jstr(ref, "apiVersion");
    workload_set(in, name, n);
    if (strcmp(kind, "ReplicaSet") == 0 && h > 0 && n > h + 1 && strcmp(name + n - h, hash) == 0 &&
        name[n - h - 1] == '-') {
        workload_set(in, name, n - h - 1);
        in->owner_kind = "Deployment";
    } else if (strcmp(kind, "ReplicationController") == 0 && config && config[0]) {
        workload_set(in, config, strlen(config));
        in->owner_kind = "DeploymentConfig";
        in->owner_api = "apps.openshift.io/v1";
    } else if (strcmp(kind, "Job") == 0 && (stem = cron_stem(name)) > 0) {
        workload_set(in, name, stem);
        in->owner_kind = "CronJob";
    }
}
