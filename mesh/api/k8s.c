/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/k8s.h"

#include "mesh/api/read.h"

/* Every decoder here: allocate, read metadata and spec, fill, and answer for memory once. */
#define BEGIN(T, x)                                                                                \
    struct rd_ctx c = {.a = a, .f = f};                                                            \
    struct rd root, spec;                                                                          \
    struct T *x = rd_alloc(&c, 1, sizeof *x);                                                      \
    if (!x || rd_begin(&c, obj, true, &x->meta, &root, &spec) < 0)                                 \
    return -1
#define END(x)                                                                                     \
    do {                                                                                           \
        if (c.nomem)                                                                               \
            return -1;                                                                             \
        *ret = (x);                                                                                \
        return 0;                                                                                  \
    } while (0)

static struct slice borrowed(const json_t *obj, const char *key)
{
    return slice_str(json_string_value(json_object_get(obj, key)));
}

static bool condition_true(const struct rd *status, const char *type)
{
    const json_t *list = json_object_get(status->v, "conditions");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i);

        if (slice_is(borrowed(c, "type"), type))
            return slice_is(borrowed(c, "status"), "True");
    }
    return false;
}

/* The status of an object; a NULL value, in which nothing is found, when there is none. */
static struct rd status_of(const struct rd *root)
{
    struct rd status;

    if (!rd_obj(root, "status", &status))
        status = (struct rd){NULL, FPATH_KEY(&root->path, "status"), root->c};
    return status;
}

static uint16_t port_number(const struct rd *d, const char *key)
{
    uint32_t v = 0;

    rd_port(d, key, &v);
    return (uint16_t)v;
}

static void protocol(const struct rd *d, struct slice *ret)
{
    *ret = SL("TCP");
    rd_str(d, "protocol", ret);
}

int k8s_namespace_decode(const json_t *obj, struct arena *a, struct k8s_namespace **ret,
                         struct findings *f)
{
    BEGIN(k8s_namespace, ns);
    struct rd status = status_of(&root);

    ns->terminating = slice_is(borrowed(status.v, "phase"), "Terminating") || ns->meta.deleting;
    END(ns);
}

int k8s_node_decode(const json_t *obj, struct arena *a, struct k8s_node **ret, struct findings *f)
{
    BEGIN(k8s_node, node);
    struct rd status = status_of(&root), info;

    if (rd_obj(&status, "nodeInfo", &info))
        rd_str(&info, "kubeletVersion", &node->kubelet_version);
    node->region = api_map_get(&node->meta.labels, SL("topology.kubernetes.io/region"));
    node->zone = api_map_get(&node->meta.labels, SL("topology.kubernetes.io/zone"));
    node->subzone = api_map_get(&node->meta.labels, SL("topology.istio.io/subzone"));
    rd_strings(&spec, "podCIDRs", &node->pod_cidrs);
    if (node->pod_cidrs.n == 0 && borrowed(spec.v, "podCIDR").len) {
        node->pod_cidrs.p = rd_alloc(&c, 1, sizeof *node->pod_cidrs.p);
        if (node->pod_cidrs.p) {
            rd_str(&spec, "podCIDR", &node->pod_cidrs.p[0]);
            node->pod_cidrs.n = 1;
        }
    }
    node->ready = condition_true(&status, "Ready");
    END(node);
}

/* --- Pod
 * -------------------------------------------------------------------------------------------- */

#define PROXY "istio-proxy"

static void pod_ips(const struct rd *status, struct k8s_pod *pod)
{
    struct rd list;
    uint32_t n = 0;

    if (!rd_arr(status, "podIPs", &list, &n) || n == 0) {
        if (!borrowed(status->v, "podIP").len)
            return;
        pod->ips.p = rd_alloc(status->c, 1, sizeof *pod->ips.p);
        if (pod->ips.p) {
            rd_str(status, "podIP", &pod->ips.p[0]);
            pod->ips.n = 1;
        }
        return;
    }
    pod->ips.p = rd_alloc(status->c, n, sizeof *pod->ips.p);
    if (!pod->ips.p)
        return;
    for (uint32_t i = 0; i < n; i++) {
        struct rd item = rd_at(&list, i);

        if (rd_is_obj(&item))
            rd_str(&item, "ip", &pod->ips.p[pod->ips.n++]);
    }
}

/* "web-5d4f" without the hash that the Deployment put into the label. */
static struct slice without_suffix(struct slice name, struct slice suffix)
{
    if (suffix.len && name.len > suffix.len + 1 && slice_ends(name, suffix) &&
        name.p[name.len - suffix.len - 1] == '-')
        return slice_head(name, name.len - suffix.len - 1);
    return SLICE_NULL;
}

/* A CronJob names its Jobs after the scheduled minute: 8 to 10 digits. */
static struct slice without_minute(struct slice name)
{
    ptrdiff_t dash = slice_rchr(name, '-');
    struct slice tail = dash > 0 ? slice_skip(name, (size_t)dash + 1) : SLICE_NULL;
    uint64_t minute;

    return tail.len >= 8 && tail.len <= 10 && slice_u64(tail, UINT64_MAX, &minute)
               ? slice_head(name, (size_t)dash)
               : SLICE_NULL;
}

static void pod_owner(const struct rd *root, struct k8s_pod *pod)
{
    const json_t *list = json_object_get(json_object_get(root->v, "metadata"), "ownerReferences");
    struct slice kind = SL("Pod"), name = pod->meta.name, cut = SLICE_NULL;
    json_t *owner;
    size_t i;

    json_array_foreach(list, i, owner)
    {
        if (!json_is_true(json_object_get(owner, "controller")))
            continue;
        kind = borrowed(owner, "kind");
        name = borrowed(owner, "name");
        if (slice_is(kind, "ReplicaSet")) {
            cut = without_suffix(name, api_map_get(&pod->meta.labels, SL("pod-template-hash")));
            if (cut.p)
                kind = SL("Deployment");
        } else if (slice_is(kind, "Job")) {
            cut = without_minute(name);
            if (cut.p)
                kind = SL("CronJob");
        }
        if (cut.p)
            name = cut;
        break;
    }
    pod->owner_kind = rd_copy(root->c, kind);
    pod->workload = rd_copy(root->c, name);
}

static uint32_t count_ports(const json_t *containers)
{
    uint32_t n = 0;

    for (size_t i = 0; i < json_array_size(containers); i++)
        n += (uint32_t)json_array_size(json_object_get(json_array_get(containers, i), "ports"));
    return n;
}

static void container_ports(const struct rd *container, struct k8s_pod *pod)
{
    struct rd list;
    uint32_t n;

    if (!rd_arr(container, "ports", &list, &n))
        return;
    for (uint32_t i = 0; i < n; i++) {
        struct rd item = rd_at(&list, i);
        struct k8s_container_port *p = &pod->ports[pod->n_ports];

        if (!rd_is_obj(&item))
            continue;
        rd_str(&item, "name", &p->name);
        protocol(&item, &p->protocol);
        p->port = port_number(&item, "containerPort");
        pod->n_ports++;
    }
}

static void containers(const struct rd *spec, const char *key, bool init, struct k8s_pod *pod)
{
    struct rd list;
    uint32_t n;

    if (!rd_arr(spec, key, &list, &n))
        return;
    for (uint32_t i = 0; i < n; i++) {
        struct rd item = rd_at(&list, i);
        bool always;

        if (!rd_is_obj(&item))
            continue;
        always = slice_is(borrowed(item.v, "restartPolicy"), "Always");
        if (slice_is(borrowed(item.v, "name"), PROXY) && (!init || always)) {
            pod->has_proxy = true;
            pod->proxy_native = init;
            rd_str(&item, "image", &pod->proxy_image);
        } else if (!init || always) {
            container_ports(&item, pod);
        }
    }
}

static void pod_ports(const struct rd *spec, struct k8s_pod *pod)
{
    uint32_t n = count_ports(json_object_get(spec->v, "containers")) +
                 count_ports(json_object_get(spec->v, "initContainers"));

    if (n && !(pod->ports = rd_alloc(spec->c, n, sizeof *pod->ports)))
        return;
    containers(spec, "initContainers", true, pod);
    containers(spec, "containers", false, pod);
}

static void proxy_status(const struct rd *status, struct k8s_pod *pod)
{
    const json_t *list = json_object_get(
        status->v, pod->proxy_native ? "initContainerStatuses" : "containerStatuses");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);

        if (slice_is(borrowed(one, "name"), PROXY))
            pod->proxy_ready = json_is_true(json_object_get(one, "ready"));
    }
}

int k8s_pod_decode(const json_t *obj, struct arena *a, struct k8s_pod **ret, struct findings *f)
{
    static const char *const phases[] = {"Pending", "Running", "Succeeded",
                                         "Failed",  "Unknown", NULL};
    BEGIN(k8s_pod, pod);
    struct rd status = status_of(&root);

    pod_ips(&status, pod);
    rd_str(&spec, "nodeName", &pod->node);
    rd_str(&status, "hostIP", &pod->host_ip);
    pod->service_account = SL("default");
    rd_str(&spec, "serviceAccountName", &pod->service_account);
    rd_bool(&spec, "hostNetwork", &pod->host_network);
    pod->phase = (unsigned)rd_enum(&status, "phase", phases, POD_PENDING);
    pod->ready = condition_true(&status, "Ready");
    pod_owner(&root, pod);
    pod_ports(&spec, pod);
    proxy_status(&status, pod);
    pod->injected = api_map_get(&pod->meta.annotations, SL("sidecar.istio.io/status")).p != NULL;
    pod->revision = api_map_get(&pod->meta.annotations, SL("istio.io/rev"));
    pod->tls_mode_istio =
        slice_is(api_map_get(&pod->meta.labels, SL("security.istio.io/tlsMode")), "istio");
    END(pod);
}

/* --- Service
 * ------------------------------------------------------------------------------------------ */

static void service_port(const struct rd *d, void *ret)
{
    struct k8s_service_port *p = ret;
    struct rd target;

    rd_str(d, "name", &p->name);
    protocol(d, &p->protocol);
    rd_str(d, "appProtocol", &p->app_protocol);
    p->port = port_number(d, "port");
    p->target_port = p->port;
    if (!rd_get(d, "targetPort", &target))
        return;
    p->target_port = 0;
    if (json_is_string(target.v))
        rd_str(d, "targetPort", &p->target_name);
    else
        p->target_port = port_number(d, "targetPort");
}

/* clusterIPs, or clusterIP alone; "None" makes the Service headless. */
static void cluster_ips(const struct rd *spec, struct k8s_service *svc)
{
    struct api_strings all = {0};
    struct slice one = SLICE_NULL;

    rd_strings(spec, "clusterIPs", &all);
    if (all.n == 0) {
        rd_str(spec, "clusterIP", &one);
        all = (struct api_strings){&one, one.len != 0};
    }
    if (all.n)
        svc->cluster_ips.p = rd_alloc(spec->c, all.n, sizeof *all.p);
    if (!svc->cluster_ips.p)
        return;
    for (uint32_t i = 0; i < all.n; i++) {
        if (slice_is(all.p[i], "None"))
            svc->headless = true;
        else if (all.p[i].len)
            svc->cluster_ips.p[svc->cluster_ips.n++] = all.p[i];
    }
}

int k8s_service_decode(const json_t *obj, struct arena *a, struct k8s_service **ret,
                       struct findings *f)
{
    static const char *const types[] = {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName",
                                        NULL};
    BEGIN(k8s_service, svc);

    svc->type = (unsigned)rd_enum(&spec, "type", types, SVC_CLUSTER_IP);
    cluster_ips(&spec, svc);
    rd_lower(&spec, "externalName", &svc->external_name);
    rd_map(&spec, "selector", &svc->selector);
    svc->ports = rd_array(&spec, "ports", sizeof *svc->ports, service_port, &svc->n_ports);
    rd_bool(&spec, "publishNotReadyAddresses", &svc->publish_not_ready);
    svc->session_affinity = slice_is(borrowed(spec.v, "sessionAffinity"), "ClientIP");
    rd_str(&spec, "trafficDistribution", &svc->traffic_distribution);
    END(svc);
}

/* --- EndpointSlice
 * ------------------------------------------------------------------------------------- */

static void slice_port(const struct rd *d, void *ret)
{
    struct k8s_slice_port *p = ret;

    p->name = (struct slice){"", 0};
    rd_str(d, "name", &p->name);
    protocol(d, &p->protocol);
    rd_str(d, "appProtocol", &p->app_protocol);
    p->port = port_number(d, "port");
}

/* discovery.k8s.io/v1: an unset `ready` means true, an unset `serving` means as `ready`. */
static void conditions(const struct rd *d, struct k8s_endpoint *e)
{
    struct opt_bool ready = {0}, serving = {0};
    struct rd at;

    if (rd_obj(d, "conditions", &at)) {
        rd_opt_bool(&at, "ready", &ready);
        rd_opt_bool(&at, "serving", &serving);
        rd_bool(&at, "terminating", &e->terminating);
    }
    e->ready = !ready.set || ready.v;
    e->serving = serving.set ? serving.v : e->ready;
}

static void endpoint(const struct rd *d, void *ret)
{
    struct k8s_endpoint *e = ret;
    struct rd target;

    rd_strings(d, "addresses", &e->addresses);
    conditions(d, e);
    rd_str(d, "nodeName", &e->node);
    rd_str(d, "zone", &e->zone);
    rd_str(d, "hostname", &e->hostname);
    if (rd_obj(d, "targetRef", &target) && slice_is(borrowed(target.v, "kind"), "Pod"))
        rd_str(&target, "name", &e->pod);
}

int k8s_endpoint_slice_decode(const json_t *obj, struct arena *a, struct k8s_endpoint_slice **ret,
                              struct findings *f)
{
    static const char *const types[] = {"IPv4", "IPv6", "FQDN", NULL};
    BEGIN(k8s_endpoint_slice, s);

    (void)spec; /* this kind has none */
    s->service = api_map_get(&s->meta.labels, SL("kubernetes.io/service-name"));
    s->address_type = (unsigned)rd_enum(&root, "addressType", types, SLICE_IPV4);
    s->ports = rd_array(&root, "ports", sizeof *s->ports, slice_port, &s->n_ports);
    s->endpoints = rd_array(&root, "endpoints", sizeof *s->endpoints, endpoint, &s->n_endpoints);
    END(s);
}
