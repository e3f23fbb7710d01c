/* SPDX-License-Identifier: Apache-2.0 */
/* A user's own `istio-proxy` (or `istio-init`) container is merged over ours as Kubernetes'
 * strategic merge does it: objects member by member, lists that have a merge key element by
 * element, any other value is replaced. */
#include <string.h>

#include "mesh/inject/inject_int.h"

/* Lists with a merge key (core/v1 Container). */
static const char *merge_key(const char *list)
{
    static const char *const keys[][2] = {
        {"env", "name"},
        {"ports", "containerPort"},
        {"volumeMounts", "mountPath"},
        {"volumeDevices", "devicePath"},
    };
    for (size_t i = 0; i < N_OF(keys); i++)
        if (strcmp(list, keys[i][0]) == 0)
            return keys[i][1];
    return NULL;
}

/* Only one of these may stand in a probe or hook. */
static const char *const handlers[] = {"exec", "grpc", "httpGet", "sleep", "tcpSocket"};

static bool has_handler(const json_t *obj)
{
    for (size_t i = 0; i < N_OF(handlers); i++)
        if (json_object_get(obj, handlers[i]))
            return true;
    return false;
}

static int merge_object(json_t *into, const json_t *over);

static int merge_list(json_t *into, const json_t *over, const char *key)
{
    size_t i, k;
    json_t *v, *have;
    json_array_foreach(over, i, v)
    {
        const json_t *id = json_object_get(v, key);
        bool found = false;
        json_array_foreach(into, k, have) if (id && json_equal(json_object_get(have, key), id))
        {
            /* A variable has a value or a source: the whole entry counts. */
            if (strcmp(key, "name") == 0 ? json_array_set_new(into, k, json_deep_copy(v)) < 0
                                         : merge_object(have, v) < 0)
                return -1;
            found = true;
            break;
        }
        if (!found && json_array_append_new(into, json_deep_copy(v)) < 0)
            return -1;
    }
    return 0;
}

static int merge_object(json_t *into, const json_t *over)
{
    const char *key;
    json_t *v;

    if (has_handler(over))
        for (size_t i = 0; i < N_OF(handlers); i++)
            if (!json_object_get(over, handlers[i]))
                json_object_del(into, handlers[i]);
    json_object_foreach((json_t *)(uintptr_t)over, key, v)
    {
        json_t *have = json_object_get(into, key);
        const char *by = merge_key(key);
        int rc;
        if (json_is_null(v))
            rc = 0;
        else if (json_is_object(have) && json_is_object(v))
            rc = merge_object(have, v);
        else if (by && json_is_array(have) && json_is_array(v))
            rc = merge_list(have, v, by);
        else
            rc = json_object_set_new(into, key, json_deep_copy(v));
        if (rc < 0)
            return -1;
    }
    return 0;
}

json_t *inject_merge_container(const json_t *base, const json_t *over)
{
    json_t *out = json_deep_copy(base);
    if (out && merge_object(out, over) < 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}
