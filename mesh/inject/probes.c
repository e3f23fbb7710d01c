/* SPDX-License-Identifier: Apache-2.0 */
/* Probes and lifecycle hooks come from the kubelet, which speaks no mutual TLS: they are pointed at
 * the sidecar's port 15020, which runs the original within the pod. The originals stand as JSON in
 * the sidecar's variable ISTIO_KUBE_APP_PROBERS, by path, with named ports resolved. exec stays. */
#include <stdio.h>
#include <string.h>

#include "mesh/inject/inject_int.h"

#define PROBERS_ENV "ISTIO_KUBE_APP_PROBERS"

static const struct {
    const char *field, *path;
    bool hook; /* under lifecycle */
} kinds[] = {
    {"livenessProbe", "/app-health/%s/livez", false},
    {"readinessProbe", "/app-health/%s/readyz", false},
    {"startupProbe", "/app-health/%s/startupz", false},
    {"preStop", "/app-lifecycle/%s/prestopz", true},
    {"postStart", "/app-lifecycle/%s/poststartz", true},
};

/* A port given by number or by the container's own name for it; 0 when there is no such name. */
static json_int_t port_resolve(const json_t *container, const json_t *port)
{
    uint64_t n;
    const char *name = json_string_value(port);
    if (!name)
        return json_integer_value(port);
    const json_t *named = jnamed(jarr(container, "ports"), name, NULL);
    if (named)
        return json_integer_value(json_object_get(named, "containerPort"));
    return slice_u64(slice_str(name), UINT16_MAX, &n) ? (json_int_t)n : 0;
}

/* The handler that is to be rewritten: its name, or NULL for exec, none, and those that aim at
 * another host, which the sidecar does not stand in for. */
static const char *handler_of(const json_t *probe)
{
    static const char *const names[] = {"httpGet", "tcpSocket", "grpc"};
    for (size_t i = 0; i < N_OF(names); i++) {
        const json_t *h = jobj(probe, names[i]);
        const char *host = jstr(h, "host");
        if (h)
            return host && host[0] ? NULL : names[i];
    }
    return NULL;
}

static bool is_rewritten(const json_t *probe)
{
    const char *path = jstr(jobj(probe, "httpGet"), "path");
    return path &&
           (strncmp(path, "/app-health/", 12) == 0 || strncmp(path, "/app-lifecycle/", 15) == 0);
}

/* {"httpGet": {...}, "timeoutSeconds": n} as the proxy reads it. */
static json_t *prober_of(struct inject *in, const json_t *probe, const char *handler,
                         json_int_t port)
{
    json_t *out = json_object(), *h = json_deep_copy(json_object_get(probe, handler));
    const json_t *timeout = json_object_get(probe, "timeoutSeconds");
    jput(in, h, "port", json_integer(port));
    jput(in, out, handler, h);
    if (timeout)
        jput(in, out, "timeoutSeconds", json_deep_copy(timeout));
    return out;
}

/* The kubelet's side: GET on the sidecar, in the clear; headers stay, the scheme does not. */
static void point_at_sidecar(struct inject *in, json_t *probe, const char *handler,
                             const char *path)
{
    json_t *get = json_object();
    const json_t *headers = jarr(json_object_get(probe, handler), "httpHeaders");
    jputs(in, get, "path", path);
    jput(in, get, "port", json_integer(STATUS_PORT));
    jputs(in, get, "scheme", "HTTP");
    if (headers)
        jput(in, get, "httpHeaders", json_deep_copy(headers));
    json_object_del(probe, handler);
    jput(in, probe, "httpGet", get);
}

/* True when something was rewritten. */
static bool rewrite_one(struct inject *in, json_t *container, size_t kind, json_t *probers)
{
    char path[320];
    const char *name = jstr(container, "name");
    json_t *from = kinds[kind].hook ? jobj(container, "lifecycle") : container;
    json_t *probe = jobj(from, kinds[kind].field);
    const char *handler = handler_of(probe);

    if (!name || !handler || is_rewritten(probe))
        return false;
    json_int_t port =
        port_resolve(container, json_object_get(json_object_get(probe, handler), "port"));
    if (port <= 0 || port > UINT16_MAX) {
        inject_warn(in,
                    "container %s: %s names a port that the container does not have; it is left "
                    "as it is",
                    name, kinds[kind].field);
        return false;
    }
    /* The format comes from the table above. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(path, sizeof path, kinds[kind].path, name);
#pragma GCC diagnostic pop
    jput(in, probers, path, prober_of(in, probe, handler, port));
    point_at_sidecar(in, probe, handler, path);
    return true;
}

static bool rewrite_container(struct inject *in, json_t *container, json_t *probers)
{
    const char *name = jstr(container, "name");
    bool any = false;
    if (name && (strcmp(name, PROXY_NAME) == 0 || strcmp(name, INIT_NAME) == 0))
        return false;
    for (size_t i = 0; i < N_OF(kinds); i++)
        any |= rewrite_one(in, container, i, probers);
    return any;
}

static bool restarts(const json_t *container)
{
    const char *policy = jstr(container, "restartPolicy");
    return policy && strcmp(policy, "Always") == 0;
}

static void env_set(struct inject *in, json_t *sidecar, const char *name, json_t *value)
{
    json_t *env = jarr(sidecar, "env"), *entry = jnamed(env, name, NULL);
    if (entry) {
        jput(in, entry, "value", value);
        return;
    }
    entry = json_object();
    jputs(in, entry, "name", name);
    jput(in, entry, "value", value);
    if (env) {
        jadd(in, env, entry);
        return;
    }
    env = json_array();
    jadd(in, env, entry);
    jput(in, sidecar, "env", env);
}

void inject_rewrite_probes(struct inject *in, json_t *sidecar, bool native)
{
    json_t *probers = jread(jstr(jnamed(jarr(sidecar, "env"), PROBERS_ENV, NULL), "value"));
    json_t *container;
    bool any = false;
    size_t i;

    if (!json_is_object(probers)) {
        json_decref(probers);
        probers = json_object();
    }
    json_array_foreach(in->containers, i, container) any |=
        rewrite_container(in, container, probers);
    /* The application's own native sidecars start after ours only when ours is native too; else
     * their start-up probes would wait for a sidecar that waits for them. */
    json_array_foreach(in->inits, i, container) if (native && restarts(container)) any |=
        rewrite_container(in, container, probers);
    if (any)
        env_set(in, sidecar, PROBERS_ENV, jtext(probers));
    json_decref(probers);
}
