/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/api
 * Objects as users and the API server send them. Whatever they hold, an object is judged without a
 * crash, the same way twice, and its status carries Accepted=False exactly when it must. */
#include <stdlib.h>

#include "lib/data/json.h"
#include "mesh/api/k8s.h"
#include "mesh/api/kinds.h"
#include "mesh/api/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void core_kinds(const json_t *obj, struct arena *a, struct findings *f)
{
    struct k8s_namespace *ns;
    struct k8s_node *node;
    struct k8s_pod *pod;
    struct k8s_service *svc;
    struct k8s_endpoint_slice *slice;

    k8s_namespace_decode(obj, a, &ns, f);
    k8s_node_decode(obj, a, &node, f);
    k8s_pod_decode(obj, a, &pod, f);
    k8s_service_decode(obj, a, &svc, f);
    k8s_endpoint_slice_decode(obj, a, &slice, f);
}

static void same(const struct findings *a, const struct findings *b)
{
    if (a->n != b->n)
        abort();
    for (uint32_t i = 0; i < a->n; i++)
        if (a->p[i].kind != b->p[i].kind || !slice_eq(a->p[i].path, b->p[i].path) ||
            !slice_eq(a->p[i].text, b->p[i].text))
            abort();
}

static void judge(enum api_kind kind, const json_t *obj)
{
    struct arena a = ARENA_INIT, b = ARENA_INIT;
    struct findings first, second;
    struct status_in in = {.findings = &first};
    int rc;

    findings_init(&first, &a);
    findings_init(&second, &b);
    rc = api_check(kind, obj, &a, &first);
    if (rc != api_check(kind, obj, &b, &second))
        abort();
    same(&first, &second);
    if (rc == 0) {
        json_t *status = status_build(&in, json_object_get(obj, "status"));
        json_t *c = json_array_get(json_object_get(status, "conditions"), 1);
        const char *accepted = json_string_value(json_object_get(c, "status"));
        bool refused =
            findings_has(&first, FINDING_ERROR) || findings_has_kind(&first, FINDING_UNKNOWN_KIND);

        if (!accepted || (strcmp(accepted, "False") == 0) != refused)
            abort();
        json_decref(status);
    }
    arena_fini(&a);
    arena_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const struct json_limits limits = {.bytes = 1 << 16};
    struct err err = {0};
    struct arena a = ARENA_INIT;
    enum api_kind kind;
    json_t *obj;

    json_setup();
    if (json_parse(slice_of(p, n), &limits, &obj, &err) < 0)
        return 0;
    if (api_kind_of_object(obj, &kind))
        judge(kind, obj);
    core_kinds(obj, &a, NULL);
    arena_fini(&a);
    json_decref(obj);
    return 0;
}
