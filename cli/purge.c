/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/purge.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/manifests.h"
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"

#define SYSTEM "tulle-system"
#define CRDS "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
enum { GONE_S = 90 };

static const char *meta_of(const json_t *obj, const char *map, const char *key)
{
    const json_t *m = json_object_get(json_object_get(obj, "metadata"), map);
    const char *s = json_string_value(json_object_get(m, key));
    return s ? s : "";
}

enum purge_verdict purge_judge(const json_t *crd, bool is_name, bool released)
{
    if (strcmp(meta_of(crd, "labels", "app.kubernetes.io/part-of"), "tulle") != 0)
        return is_name ? PURGE_OF_OTHERS : PURGE_FOREIGN;
    /* The label outlives its release: the charts' definitions are kept by `helm uninstall`. */
    if (released && strcmp(meta_of(crd, "labels", "app.kubernetes.io/managed-by"), "Helm") == 0)
        return PURGE_OF_HELM;
    return PURGE_GOES;
}

/* --- what is there ------------------------------------------------------------------------------
 */

/* Helm keeps its releases in Secrets, or in ConfigMaps where it was told so. What cannot be asked
 * counts as there. */
static bool is_released(struct cluster *c, const json_t *crd)
{
    static const enum kube_kind kinds[] = {KUBE_SECRET, KUBE_CONFIG_MAP};
    const char *name = meta_of(crd, "annotations", "meta.helm.sh/release-name");
    const char *ns = meta_of(crd, "annotations", "meta.helm.sh/release-namespace");
    CLEANUP(buf_freep) struct buf selector;
    CLEANUP(buf_freep) struct buf query;
    buf_init(&selector, 512);
    buf_init(&query, 2048);
    if (!*name || !*ns)
        return false;
    buf_addf(&selector, "owner=helm,name=%s", name);
    kube_query_add(&query, "labelSelector", buf_cstr(&selector));
    kube_query_add(&query, "limit", "1");
    for (size_t i = 0; i < N_OF(kinds); i++) {
        CLEANUP(json_freep) json_t *list = NULL;
        CLEANUP(mem_freep) char *path = kube_path(kube_resource(kinds[i]), ns, NULL, NULL, NULL);
        if (!path || buf_err(&query) != ERR_OK ||
            cluster_send(c, "GET", path, buf_cstr(&query), NULL, NULL, &list, NULL) < 0 ||
            json_array_size(json_object_get(list, "items")) > 0)
            return true;
    }
    return false;
}

static const char *served_version(const json_t *spec)
{
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(spec, "versions"), i, v)
    {
        if (json_is_true(json_object_get(v, "served")))
            return json_string_value(json_object_get(v, "name"));
    }
    return NULL;
}

static int count_objects(struct cluster *c, const json_t *crd, json_int_t *ret, struct err *err)
{
    const json_t *spec = json_object_get(crd, "spec");
    struct kube_resource r = {
        .group = json_string_value(json_object_get(spec, "group")),
        .version = served_version(spec),
        .plural = json_string_value(json_object_get(json_object_get(spec, "names"), "plural")),
    };
    CLEANUP(json_freep) json_t *list = NULL;
    *ret = 0;
    if (!r.group || !r.version || !r.plural)
        return 0; /* nothing is served: nobody can have made one */
    CLEANUP(mem_freep) char *path = kube_path(&r, NULL, NULL, NULL, err);
    if (!path)
        return -1;
    if (cluster_send(c, "GET", path, "limit=1", NULL, NULL, &list, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return err_wrap(err, "%s", r.plural);
        *err = (struct err){0}; /* not established */
        return 0;
    }
    const json_t *more = json_object_get(json_object_get(list, "metadata"), "remainingItemCount");
    *ret = (json_int_t)json_array_size(json_object_get(list, "items")) + json_integer_value(more);
    return 0;
}

static bool is_name_of_ours(const json_t *objects, const char *name)
{
    const json_t *x;
    size_t i;
    json_array_foreach(objects, i, x)
    {
        const char *kind = json_string_value(json_object_get(x, "kind"));
        if (kind && strcmp(kind, "CustomResourceDefinition") == 0 &&
            strcmp(kube_name(x), name) == 0)
            return true;
    }
    return false;
}

static int put_kept(json_t *plan, const json_t *crd, const char *why)
{
    return json_array_append_new(json_object_get(plan, "kept"),
                                 json_pack("{s:s, s:s}", "name", kube_name(crd), "why", why));
}

static int plan_definition(struct cluster *c, const json_t *objects, const json_t *crd,
                           json_t *plan, bool *ret_helm_here, struct err *err)
{
    char why[256];
    const char *release = meta_of(crd, "annotations", "meta.helm.sh/release-name");
    const char *ns = meta_of(crd, "annotations", "meta.helm.sh/release-namespace");
    json_int_t n;
    bool ours = strcmp(meta_of(crd, "labels", "app.kubernetes.io/part-of"), "tulle") == 0;
    switch (
        purge_judge(crd, is_name_of_ours(objects, kube_name(crd)), ours && is_released(c, crd))) {
    case PURGE_FOREIGN:
        return 0;
    case PURGE_OF_OTHERS:
        return put_kept(plan, crd, "somebody else installed it");
    case PURGE_OF_HELM:
        *ret_helm_here = *ret_helm_here || strcmp(ns, SYSTEM) == 0;
        snprintf(why, sizeof why, "Helm's release %s has it (helm uninstall %s -n %s)", release,
                 release, ns);
        return put_kept(plan, crd, why);
    case PURGE_GOES:
        break;
    }
    if (count_objects(c, crd, &n, err) < 0)
        return -1;
    return json_array_append_new(json_object_get(plan, "definitions"),
                                 json_pack("{s:s, s:I}", "name", kube_name(crd), "objects", n));
}

int purge_plan(struct cluster *c, json_t **ret, struct err *err)
{
    struct manifest_opts opts = {"default", NULL, NULL};
    CLEANUP(json_freep) json_t *objects = NULL;
    CLEANUP(json_freep) json_t *crds = NULL;
    CLEANUP(json_freep) json_t *ns = NULL;
    const json_t *x;
    size_t i;
    bool helm_here = false;
    if (manifests_objects(&opts, &objects, err) < 0 || cluster_get(c, CRDS, &crds, err) < 0)
        return -1;
    if (cluster_get(c, "/api/v1/namespaces/" SYSTEM, &ns, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        *err = (struct err){0};
    }
    CLEANUP(json_freep) json_t *plan = json_pack("{s:[], s:[]}", "definitions", "kept");
    json_array_foreach(json_object_get(crds, "items"), i, x)
    {
        if (plan_definition(c, objects, x, plan, &helm_here, err) < 0)
            return err->code ? -1 : err_set(err, ERR_NOMEM, "plan");
    }
    bool goes = strcmp(meta_of(ns, "labels", "app.kubernetes.io/part-of"), "tulle") == 0;
    if (json_object_set_new(plan, "namespace", json_boolean(goes && !helm_here)) < 0)
        return err_set(err, ERR_NOMEM, "plan");
    *ret = TAKE(plan);
    return 0;
}

/* --- in words -----------------------------------------------------------------------------------
 */

static const char *plural(json_int_t n)
{
    return n == 1 ? "" : "s";
}

void purge_tell(const json_t *plan, struct buf *out)
{
    const json_t *list = json_object_get(plan, "definitions"), *x;
    json_int_t all = 0;
    size_t i;
    json_array_foreach(list, i, x)
    {
        json_int_t n = json_integer_value(json_object_get(x, "objects"));
        all += n;
        if (n)
            buf_addf(out, "  %s: %lld object%s\n", json_string_value(json_object_get(x, "name")),
                     (long long)n, plural(n));
    }
    size_t n = json_array_size(list);
    buf_addf(out, "Deleted for good: %zu definition%s with %lld object%s of yours%s.\n", n,
             plural((json_int_t)n), (long long)all, plural(all),
             json_is_true(json_object_get(plan, "namespace")) ? ", and the namespace " SYSTEM
                                                                " with all that is in it"
                                                              : "");
    json_array_foreach(json_object_get(plan, "kept"), i, x)
    {
        buf_addf(out, "  %s stays, with its objects: %s\n",
                 json_string_value(json_object_get(x, "name")),
                 json_string_value(json_object_get(x, "why")));
    }
}

/* --- done ---------------------------------------------------------------------------------------
 */

static int drop(struct cluster *c, enum kube_kind kind, const char *name, struct err *err)
{
    const struct kube_resource *r = kube_resource(kind);
    CLEANUP(mem_freep) char *path = kube_path(r, NULL, name, NULL, err);
    if (!path || (cluster_send(c, "DELETE", path, "propagationPolicy=Background", NULL, NULL, NULL,
                               err) < 0 &&
                  err->code != ERR_NOT_FOUND))
        return err_wrap(err, "%s %s", r->kind, name);
    *err = (struct err){0};
    return 0;
}

static int gone(struct cluster *c, enum kube_kind kind, const char *name, int64_t until,
                struct err *err)
{
    const struct kube_resource *r = kube_resource(kind);
    CLEANUP(mem_freep) char *path = kube_path(r, NULL, name, NULL, err);
    while (path) {
        *err = (struct err){0};
        if (cluster_get(c, path, NULL, err) < 0 && err->code == ERR_NOT_FOUND) {
            *err = (struct err){0};
            printf("\u221a %s %s is gone\n", r->kind, name);
            return 0;
        }
        if (loop_now(c->loop) > until)
            return err_set(err, ERR_TIMEOUT,
                           "%s %s is still there: something in it waits for its finalizer "
                           "(kubectl get %s %s -o yaml)",
                           r->kind, name, r->plural, name);
        nanosleep(&(struct timespec){0, 250 * NS_PER_MS}, NULL);
    }
    return -1;
}

int purge_run(struct cluster *c, const json_t *plan, struct err *err)
{
    const json_t *list = json_object_get(plan, "definitions"), *x;
    bool ns = json_is_true(json_object_get(plan, "namespace"));
    size_t i;
    json_array_foreach(list, i, x)
    {
        if (drop(c, KUBE_CRD, json_string_value(json_object_get(x, "name")), err) < 0)
            return -1;
    }
    if (ns && drop(c, KUBE_NAMESPACE, SYSTEM, err) < 0)
        return -1;
    int64_t until = loop_now(c->loop) + GONE_S * NS_PER_S;
    json_array_foreach(list, i, x)
    {
        if (gone(c, KUBE_CRD, json_string_value(json_object_get(x, "name")), until, err) < 0)
            return -1;
    }
    return ns ? gone(c, KUBE_NAMESPACE, SYSTEM, until, err) : 0;
}
