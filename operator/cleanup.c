/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/cleanup.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/client.h"
#include "lib/kube/resource.h"
#include "operator/names.h"

#define PODS_GONE_NS (60 * NS_PER_S)

static int call(struct kube_client *k, const char *method, enum kube_kind kind, const char *ns,
                const char *name, const char *query, json_t **ret, struct err *err)
{
    CLEANUP(mem_freep) char *path = kube_path(kube_resource(kind), ns, name, NULL, err);
    struct kube_req req = {.method = method, .path = path, .query = query};
    return path ? kube_wait(k, &req, ret, err) : -1;
}

/* 0 also when it was not there. */
static int remove_one(struct kube_client *k, enum kube_kind kind, const char *ns, const char *name,
                      struct err *err)
{
    struct err one = {0};
    if (call(k, "DELETE", kind, ns, name, NULL, NULL, &one) == 0) {
        LOG(INFO, "Removed", "kind=%s object=%s/%s", kube_resource(kind)->kind, ns, name);
        return 0;
    }
    if (one.code == ERR_NOT_FOUND)
        return 0;
    LOG(WARN, "Could not be removed", "kind=%s object=%s/%s reason=%s", kube_resource(kind)->kind,
        ns, name, one.msg);
    *err = one;
    return -1;
}

static int stop_operator(struct kube_client *k, struct loop *loop, const char *ns, struct err *err)
{
    CLEANUP(mem_freep) char *path =
        kube_path(kube_resource(KUBE_DEPLOYMENT), ns, NAME_OPERATOR, "scale", err);
    CLEANUP(json_freep) json_t *body = json_pack("{s:{s:i}}", "spec", "replicas", 0);
    struct kube_req req = {.method = "PATCH", .path = path, .body = body,
                           .content_type = "application/merge-patch+json"};
    if (!path || kube_wait(k, &req, NULL, err) < 0) {
        if (path && err->code == ERR_NOT_FOUND) {
            *err = (struct err){0};
            return 0;
        }
        return err_wrap(err, "stopping the operator");
    }
    for (int64_t until = clock_now(loop_clock(loop)) + PODS_GONE_NS;;) {
        CLEANUP(json_freep) json_t *list = NULL;
        if (call(k, "GET", KUBE_POD, ns, NULL,
                 "labelSelector=app.kubernetes.io%2Fname%3Dtulle%2Capp.kubernetes.io%2Fcomponent%3Doperator",
                 &list, err) < 0)
            return err_wrap(err, "pods of the operator");
        size_t n = json_array_size(json_object_get(list, "items"));
        if (n == 0)
            return 0;
        if (clock_now(loop_clock(loop)) > until)
            return err_set(err, ERR_TIMEOUT, "%zu pods of the operator are still there", n);
        nanosleep(&(struct timespec){0, 500 * NS_PER_MS}, NULL);
    }
}

/* Root bundles that carry our mark, in all namespaces. */
static int remove_bundles(struct kube_client *k, struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    size_t i;
    const json_t *x;
    int rc = 0;
    if (call(k, "GET", KUBE_CONFIG_MAP, NULL, NULL, "fieldSelector=metadata.name%3D" NAME_ROOT_MAP,
             &list, err) < 0)
        return err_wrap(err, "root bundles");
    json_array_foreach(json_object_get(list, "items"), i, x)
    {
        const char *by = json_string_value(
            json_object_get(json_object_get(json_object_get(x, "metadata"), "labels"),
                            "app.kubernetes.io/managed-by"));
        if (by && strcmp(by, NAME_MANAGER) == 0 &&
            remove_one(k, KUBE_CONFIG_MAP, kube_namespace(x), NAME_ROOT_MAP, err) < 0)
            rc = -1;
    }
    return rc;
}

static int remove_all(struct kube_client *k, struct loop *loop, const char *ns, struct err *err)
{
    const struct {
        enum kube_kind kind;
        const char *ns, *name;
    } ours[] = {
        {KUBE_MESH, "", NAME_MESH},
        {KUBE_SECRET, ns, NAME_WEBHOOK_SECRET},
        {KUBE_CONFIG_MAP, ns, NAME_INJECTOR},
        {KUBE_LEASE, ns, NAME_OPERATOR},
        {KUBE_SECRET, ns, NAME_CA_ROTATION},
        {KUBE_SECRET, ns, NAME_CA_SECRET},
    };
    int rc = stop_operator(k, loop, ns, err);
    if (rc < 0)
        return rc;
    rc = remove_bundles(k, err);
    for (size_t i = 0; i < N_OF(ours); i++)
        if (remove_one(k, ours[i].kind, ours[i].ns, ours[i].name, err) < 0)
            rc = -1;
    return rc;
}

int cleanup(const char *kubeconfig, const char *ns, struct err *err)
{
    struct clock clock;
    struct loop *loop = NULL;
    struct kube_config *config = NULL;
    struct kube_client *k = NULL;
    clock_init_real(&clock);
    int rc = loop_new(&clock, &loop, err);
    if (rc == 0)
        rc = kube_config_default(kubeconfig, NULL, &config, err);
    if (rc == 0)
        rc = kube_client_new(loop, config, NULL, &k, err);
    if (rc == 0)
        rc = remove_all(k, loop, ns, err);
    if (k)
        kube_client_free(k);
    if (loop)
        loop_free(loop);
    kube_config_free(config);
    return rc;
}
