/* SPDX-License-Identifier: Apache-2.0 */
/* The containers and volumes that are added. */
#include <stdio.h>
#include <string.h>

#include "mesh/inject/inject_int.h"

#define PROGRAM "/usr/local/bin/tulle-proxy"
#define TOKEN_DIR "/var/run/secrets/tokens"
#define ROOT_DIR "/var/run/secrets/istio"
#define PODINFO_DIR "/etc/istio/pod"

/* clang-format off */
static const struct { const char *volume, *dir; } mounts[] = {
    {"istio-token",   TOKEN_DIR},
    {"tulle-ca-root", ROOT_DIR},
    {"istio-podinfo", PODINFO_DIR},
};

/* Variables from the downward API. */
static const struct { const char *name, *path; } from_pod[] = {
    {"POD_NAME",           "metadata.name"},
    {"POD_NAMESPACE",      "metadata.namespace"},
    {"INSTANCE_IP",        "status.podIP"},
    {"INSTANCE_IPS",       "status.podIPs"},
    {"HOST_IP",            "status.hostIP"},
    {"NODE_NAME",          "spec.nodeName"},
    {"SERVICE_ACCOUNT",    "spec.serviceAccountName"},
    {"CANONICAL_SERVICE",  "metadata.labels['service.istio.io/canonical-name']"},
    {"CANONICAL_REVISION", "metadata.labels['service.istio.io/canonical-revision']"},
};
/* clang-format on */

static void env_add(struct inject *in, json_t *env, const char *name, const char *value)
{
    json_t *e = json_object();
    jputs(in, e, "name", name);
    jputs(in, e, "value", value);
    jadd(in, env, e);
}

static void env_add_from_pod(struct inject *in, json_t *env, const char *name, const char *path)
{
    json_t *e = json_object(), *ref = json_object(), *from = json_object();
    jputs(in, ref, "apiVersion", "v1"); /* as the API server fills it in: patches stay quiet */
    jputs(in, ref, "fieldPath", path);
    jput(in, from, "fieldRef", ref);
    jputs(in, e, "name", name);
    jput(in, e, "valueFrom", from);
    jadd(in, env, e);
}

static const char *or_else(const char *a, const char *b)
{
    return a && a[0] ? a : b;
}

/* An address, and the name that its certificate must carry: the host without port and brackets. */
static void env_add_address(struct inject *in, json_t *env, const char *what, const char *address)
{
    char name[40], host[256];
    struct slice s = slice_str(address);
    ptrdiff_t colon = slice_rchr(s, ':');

    snprintf(name, sizeof name, "%s_ADDRESS", what);
    env_add(in, env, name, address);
    if (colon >= 0 && slice_chr(slice_skip(s, (size_t)colon), ']') < 0)
        s = slice_head(s, (size_t)colon);
    if (s.len >= 2 && s.p[0] == '[' && s.p[s.len - 1] == ']')
        s = slice_of(s.p + 1, s.len - 2);
    snprintf(host, sizeof host, "%.*s", (int)MIN(s.len, sizeof host - 1), s.p);
    snprintf(name, sizeof name, "%s_NAME", what);
    env_add(in, env, name, host);
}

/* How long the pod may take to end, as the API server has filled it in. */
static json_int_t grace_seconds(const struct inject *in)
{
    const json_t *v = json_object_get(in->spec, "terminationGracePeriodSeconds");
    return json_is_integer(v) && json_integer_value(v) >= 0 ? json_integer_value(v) : 30;
}

static json_t *make_env(struct inject *in)
{
    const struct inject_settings *s = in->set;
    const json_t *config = in->opt.proxy_config;
    const char *discovery = or_else(jstr(config, "discoveryAddress"), s->discovery_address), *key;
    json_t *env = json_array(), *text, *v;
    char owner[640], kind[64];

    for (size_t i = 0; i < N_OF(from_pod); i++)
        env_add_from_pod(in, env, from_pod[i].name, from_pod[i].path);
    env_add_address(in, env, "TULLE_DISCOVERY", discovery);
    env_add_address(in, env, "TULLE_CA", or_else(s->ca_address, discovery));
    env_add(in, env, "TULLE_LOG_LEVEL", in->opt.log_level);
    env_add(in, env, "TRUST_DOMAIN", s->trust_domain);
    env_add(in, env, "CLUSTER_DOMAIN", s->cluster_domain);
    text = jtext(config);
    env_add(in, env, "PROXY_CONFIG", json_string_value(text));
    if (!text)
        in->oom = true;
    json_decref(text);
    env_add(in, env, "ISTIO_META_CLUSTER_ID", or_else(in->req->cluster_id, s->cluster_id));
    env_add(in, env, "ISTIO_META_MESH_ID",
            or_else(jstr(config, "meshId"), or_else(s->mesh_id, s->trust_domain)));
    if (in->opt.network[0])
        env_add(in, env, "ISTIO_META_NETWORK", in->opt.network);
    env_add(in, env, "ISTIO_META_INTERCEPTION_MODE", in->opt.capture ? "REDIRECT" : "NONE");
    if (in->workload[0]) {
        env_add(in, env, "ISTIO_META_WORKLOAD_NAME", in->workload);
        snprintf(kind, sizeof kind, "%.63s", in->owner_kind);
        for (char *p = kind; *p; p++)
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        snprintf(owner, sizeof owner, "kubernetes://apis/%.120s/namespaces/%.63s/%ss/%.253s",
                 in->owner_api ? in->owner_api : "v1", in->req->ns, kind, in->workload);
        env_add(in, env, "ISTIO_META_OWNER", owner);
    }
    /* Signalled together with the application, the proxy outlives it within the pod's grace period. */
    if (!in->opt.native) {
        snprintf(kind, sizeof kind, "%lld", (long long)grace_seconds(in));
        env_add(in, env, "TULLE_GRACE_S", kind);
    }
    json_object_foreach(jobj(config, "proxyMetadata"), key, v)
        env_add(in, env, key, json_string_value(v));
    return env;
}

static json_t *make_resources(struct inject *in)
{
    const struct inject_opts *o = &in->opt;
    json_t *out = json_object(), *limits = json_object(), *requests = json_object();
    if (o->cpu_limit && o->cpu_limit[0])
        jputs(in, limits, "cpu", o->cpu_limit);
    if (o->memory_limit && o->memory_limit[0])
        jputs(in, limits, "memory", o->memory_limit);
    if (o->cpu_request && o->cpu_request[0])
        jputs(in, requests, "cpu", o->cpu_request);
    if (o->memory_request && o->memory_request[0])
        jputs(in, requests, "memory", o->memory_request);
    if (json_object_size(limits))
        jput(in, out, "limits", json_incref(limits));
    if (json_object_size(requests))
        jput(in, out, "requests", json_incref(requests));
    json_decref(limits);
    json_decref(requests);
    return out;
}

/* Restricted but for what the init container needs: UID 0 and NET_ADMIN. */
static json_t *make_security(struct inject *in, bool init)
{
    json_t *out = json_object(), *caps = json_object(), *list = json_array();
    json_t *seccomp = json_object();
    jputs(in, seccomp, "type", "RuntimeDefault");
    jput(in, out, "allowPrivilegeEscalation", json_false());
    if (init) {
        json_t *add = json_array();
        jadd(in, add, json_string("NET_ADMIN"));
        jput(in, caps, "add", add);
    }
    jadd(in, list, json_string("ALL"));
    jput(in, caps, "drop", list);
    jput(in, out, "capabilities", caps);
    jput(in, out, "privileged", json_false());
    jput(in, out, "readOnlyRootFilesystem", json_true());
    jput(in, out, "runAsGroup", json_integer(init ? 0 : PROXY_ID));
    jput(in, out, "runAsNonRoot", json_boolean(!init));
    jput(in, out, "runAsUser", json_integer(init ? 0 : PROXY_ID));
    jput(in, out, "seccompProfile", seccomp);
    return out;
}

static json_t *make_container(struct inject *in, const char *name, const char *const *command,
                              json_t *args)
{
    json_t *c = json_object(), *list = json_array();
    for (; *command; command++)
        jadd(in, list, json_string(*command));
    jputs(in, c, "name", name);
    jputs(in, c, "image", in->opt.image);
    jputs(in, c, "imagePullPolicy", in->set->pull_policy);
    jput(in, c, "command", list);
    jput(in, c, "args", args);
    return c;
}

/* --- istio-init ---------------------------------------------------------------------------------
 */
static void arg_add(struct inject *in, json_t *args, const char *flag, const char *value)
{
    char name[64];
    size_t len = value ? strlen(value) : 0;
    snprintf(name, sizeof name, "%s=", flag);
    size_t n = strlen(name);
    char *text = mem_alloc(n + len + 1);
    if (text) {
        memcpy(text, name, n);
        memcpy(text + n, value ? value : "", len + 1);
        /* Blanks that a user left in a list have no place in a command line. */
        size_t k = n;
        for (size_t i = n; i < n + len; i++)
            if (text[i] != ' ' && text[i] != '\t' && text[i] != '\n' && text[i] != '\r')
                text[k++] = text[i];
        text[k] = '\0';
    }
    jadd(in, args, text ? json_string(text) : NULL);
    mem_free(text);
}

static json_t *make_init_args(struct inject *in)
{
    const struct inject_opts *o = &in->opt;
    const struct {
        const char *flag, *value;
        bool always;
    } rows[] = {
        {"--inbound-ports", o->include_inbound, true},
        {"--exclude-inbound-ports", o->exclude_inbound, false},
        {"--include-outbound-cidrs", o->include_ranges, true},
        {"--exclude-outbound-cidrs", o->exclude_ranges, false},
        {"--include-outbound-ports", o->include_outbound, false},
        {"--exclude-outbound-ports", o->exclude_outbound, false},
        {"--exclude-interfaces", o->exclude_interfaces, false},
        {"--reroute-interfaces", o->reroute_interfaces, false},
    };
    json_t *args = json_array();
    char id[24];

    jadd(in, args, json_string("init"));
    snprintf(id, sizeof id, "%lld", (long long)o->uid);
    arg_add(in, args, "--uid", id);
    snprintf(id, sizeof id, "%lld", (long long)o->gid);
    arg_add(in, args, "--gid", id);
    for (size_t i = 0; i < N_OF(rows); i++)
        if (rows[i].always || (rows[i].value && rows[i].value[0]))
            arg_add(in, args, rows[i].flag, rows[i].value);
    if (in->set->dns_capture)
        jadd(in, args, json_string("--dns"));
    return args;
}

/* What goes into the pod is read with the reader that will meet it there. */
static int init_args_check(const json_t *args, struct err *err)
{
    char *argv[32];
    struct redirect_settings s;
    int argc = 0;
    for (size_t i = 1; i < json_array_size(args) && argc < (int)N_OF(argv); i++)
        argv[argc++] = (char *)(uintptr_t)json_string_value(json_array_get(args, i));
    return redirect_parse_args(argc, argv, &s, err);
}

static json_t *make_init(struct inject *in)
{
    static const char *const command[] = {PROGRAM, NULL};
    json_t *c = make_container(in, INIT_NAME, command, make_init_args(in));
    jput(in, c, "resources", make_resources(in));
    jput(in, c, "securityContext", make_security(in, true));
    return c;
}

/* --- istio-proxy --------------------------------------------------------------------------------
 */
static json_t *make_ready_probe(struct inject *in, json_int_t delay, json_int_t period,
                                json_int_t timeout, json_int_t failures)
{
    json_t *p = json_object(), *get = json_object();
    jputs(in, get, "path", "/healthz/ready");
    jput(in, get, "port", json_integer(HEALTH_PORT));
    jputs(in, get, "scheme", "HTTP");
    jput(in, p, "httpGet", get);
    if (delay > 0)
        jput(in, p, "initialDelaySeconds", json_integer(delay));
    jput(in, p, "periodSeconds", json_integer(MAX(period, 1)));
    jput(in, p, "timeoutSeconds", json_integer(timeout));
    jput(in, p, "failureThreshold", json_integer(MAX(failures, 1)));
    return p;
}

static void hook_add(struct inject *in, json_t *container, const char *hook, const char *verb)
{
    json_t *command = json_array(), *exec = json_object(), *handler = json_object();
    json_t *lifecycle = json_object();
    jadd(in, command, json_string(PROGRAM));
    jadd(in, command, json_string(verb));
    jput(in, exec, "command", command);
    jput(in, handler, "exec", exec);
    jput(in, lifecycle, hook, handler);
    jput(in, container, "lifecycle", lifecycle);
}

static json_t *make_mounts(struct inject *in)
{
    json_t *list = json_array(), *v;
    size_t i;
    for (i = 0; i < N_OF(mounts); i++) {
        json_t *m = json_object();
        jputs(in, m, "name", mounts[i].volume);
        jputs(in, m, "mountPath", mounts[i].dir);
        jput(in, m, "readOnly", json_true());
        jadd(in, list, m);
    }
    json_array_foreach(in->opt.user_mounts, i, v) jadd(in, list, json_deep_copy(v));
    return list;
}

static json_t *make_ports(struct inject *in)
{
    json_t *list = json_array(), *p = json_object();
    jputs(in, p, "name", "http-envoy-prom");
    jput(in, p, "containerPort", json_integer(METRICS_PORT));
    jputs(in, p, "protocol", "TCP");
    jadd(in, list, p);
    return list;
}

static json_t *make_proxy(struct inject *in)
{
    static const char *const command[] = {PROGRAM, NULL};
    const struct inject_opts *o = &in->opt;
    json_t *args = json_array();

    jadd(in, args, json_string("run"));
    json_t *c = make_container(in, PROXY_NAME, command, args);
    jput(in, c, "env", make_env(in));
    jput(in, c, "ports", make_ports(in));
    if (o->native)
        hook_add(in, c, "preStop", "drain");
    else if (o->hold)
        hook_add(in, c, "postStart", "wait");
    if (o->readiness) {
        jput(in, c, "startupProbe", make_ready_probe(in, 0, 1, 3, 600));
        jput(in, c, "readinessProbe",
             make_ready_probe(in, o->ready_delay, o->ready_period, 3, o->ready_failures));
    }
    jput(in, c, "resources", make_resources(in));
    if (o->native)
        jputs(in, c, "restartPolicy", "Always");
    jput(in, c, "securityContext", make_security(in, false));
    jput(in, c, "volumeMounts", make_mounts(in));
    return c;
}

/* --- a user's own container of ours -------------------------------------------------------------
 */
/* Take the user's container out of the pod and keep it for the annotation. Image "auto" means ours,
 * and then so does the pull policy, which the API server has filled in from that name. */
static json_t *override_take(struct inject *in, const char *name, json_t *overrides)
{
    static const char *const lists[] = {"containers", "initContainers"};
    json_t *const from[] = {in->containers, in->inits};
    size_t at;

    for (size_t i = 0; i < N_OF(lists); i++) {
        json_t *have = jnamed(from[i], name, &at);
        if (!have)
            continue;
        json_t *over = json_deep_copy(have), *kept = jarr(overrides, lists[i]);
        const char *image = jstr(over, "image");
        json_array_remove(from[i], at);
        if (image && strcmp(image, "auto") == 0) {
            json_object_del(over, "image");
            json_object_del(over, "imagePullPolicy");
        }
        if (!over)
            in->oom = true;
        if (!kept) {
            jput(in, overrides, lists[i], json_array());
            kept = jarr(overrides, lists[i]);
        }
        jadd(in, kept, over ? json_incref(over) : NULL);
        return over;
    }
    return NULL;
}

static json_t *override_apply(struct inject *in, json_t *ours, json_t *over)
{
    if (!over)
        return ours;
    json_t *merged = inject_merge_container(ours, over);
    if (!merged)
        in->oom = true;
    json_decref(ours);
    json_decref(over);
    return merged;
}

/* The rules leave the proxy's user alone: if the user says who that is, so must they. */
static void ids_from(struct inject *in, const json_t *over)
{
    const json_t *sc = jobj(over, "securityContext");
    json_int_t uid = json_integer_value(json_object_get(sc, "runAsUser"));
    json_int_t gid = json_integer_value(json_object_get(sc, "runAsGroup"));
    if (uid > 0 && uid < UINT32_MAX)
        in->opt.uid = uid;
    if (gid > 0 && gid < UINT32_MAX)
        in->opt.gid = gid;
}

/* --- order --------------------------------------------------------------------------------------
 */
/* Native: istio-init, those that the user wants ahead of the proxy, istio-proxy, the others. */
static void place_native(struct inject *in, json_t *init, json_t *proxy)
{
    size_t front = 0, from;
    struct slice rest = slice_str(in->opt.before_proxy), name;
    if (init)
        jinsert(in, in->inits, front++, init);
    while (rest.len && slice_next(&rest, ',', &name)) {
        char text[64];
        json_t *c =
            slice_copy(slice_trim(name), text, sizeof text) ? jnamed(in->inits, text, &from) : NULL;
        if (!c || from < front)
            continue;
        json_incref(c);
        json_array_remove(in->inits, from);
        jinsert(in, in->inits, front++, c);
    }
    jinsert(in, in->inits, front, proxy);
}

/* Classic: istio-init is the last of the init containers, so that the others still have a network;
 * istio-proxy is last, or first when the application is to wait for it. */
static void place_classic(struct inject *in, json_t *init, json_t *proxy)
{
    if (init)
        jadd(in, in->inits, init);
    jinsert(in, in->containers, in->opt.hold ? 0 : json_array_size(in->containers), proxy);
}

int inject_add_containers(struct inject *in, struct err *err)
{
    json_t *overrides = json_object();
    json_t *over_proxy = override_take(in, PROXY_NAME, overrides);
    json_t *over_init = override_take(in, INIT_NAME, overrides);
    json_t *init = NULL, *proxy;
    int rc = 0;

    ids_from(in, over_proxy);
    proxy = override_apply(in, make_proxy(in), over_proxy);
    if (in->opt.capture) {
        init = make_init(in);
        rc = in->oom ? 0 : init_args_check(jarr(init, "args"), err);
        init = override_apply(in, init, over_init);
    } else {
        json_decref(over_init);
    }
    if (json_object_size(overrides))
        jput(in, in->annotations, ANNO_OVERRIDES, jtext(overrides));
    json_decref(overrides);
    if (in->opt.native)
        place_native(in, init, proxy);
    else
        place_classic(in, init, proxy);
    return rc;
}

/* --- volumes ------------------------------------------------------------------------------------
 */
static json_t *make_token(struct inject *in)
{
    json_t *v = json_object(), *projected = json_object(), *sources = json_array();
    json_t *source = json_object(), *token = json_object();
    jputs(in, token, "audience", "istio-ca");
    jput(in, token, "expirationSeconds", json_integer(43200));
    jputs(in, token, "path", "istio-token");
    jput(in, source, "serviceAccountToken", token);
    jadd(in, sources, source);
    jput(in, projected, "sources", sources);
    jputs(in, v, "name", "istio-token");
    jput(in, v, "projected", projected);
    return v;
}

static json_t *make_root(struct inject *in)
{
    json_t *v = json_object(), *map = json_object();
    jputs(in, map, "name", "istio-ca-root-cert");
    jputs(in, v, "name", "tulle-ca-root");
    jput(in, v, "configMap", map);
    return v;
}

static json_t *make_podinfo(struct inject *in)
{
    static const char *const fields[] = {"labels", "annotations"};
    json_t *v = json_object(), *api = json_object(), *items = json_array();
    for (size_t i = 0; i < N_OF(fields); i++) {
        char path[32];
        json_t *item = json_object(), *ref = json_object();
        snprintf(path, sizeof path, "metadata.%s", fields[i]);
        jputs(in, ref, "fieldPath", path);
        jputs(in, item, "path", fields[i]);
        jput(in, item, "fieldRef", ref);
        jadd(in, items, item);
    }
    jput(in, api, "items", items);
    jputs(in, v, "name", "istio-podinfo");
    jput(in, v, "downwardAPI", api);
    return v;
}

/* A volume of that name which the pod brings itself stays as it is. */
static void volume_add(struct inject *in, json_t *volumes, json_t *added, json_t *v)
{
    const char *name = jstr(v, "name");
    if (!name || jnamed(volumes, name, NULL)) {
        json_decref(v);
        return;
    }
    jadd(in, added, json_string(name));
    jadd(in, volumes, v);
}

void inject_add_volumes(struct inject *in)
{
    json_t *volumes = jarr(in->spec, "volumes"), *added = json_array(), *v;
    size_t i;
    if (!volumes) {
        jput(in, in->spec, "volumes", json_array());
        volumes = jarr(in->spec, "volumes");
    }
    volume_add(in, volumes, added, make_podinfo(in));
    volume_add(in, volumes, added, make_token(in));
    volume_add(in, volumes, added, make_root(in));
    json_array_foreach(in->opt.user_volumes, i, v)
        volume_add(in, volumes, added, json_deep_copy(v));
    in->added_volumes = added;
}
