/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/k8s.h"
#include "tests/unit/mesh/api/api_test.h"

static const char pod_text[] =
    "metadata:\n"
    "  name: web-5d4f-x2\n"
    "  namespace: shop\n"
    "  uid: u1\n"
    "  resourceVersion: '77'\n"
    "  creationTimestamp: '2026-01-31T12:00:00Z'\n"
    "  labels: {app: web, pod-template-hash: 5d4f, security.istio.io/tlsMode: istio}\n"
    "  annotations: {sidecar.istio.io/status: '{}', other: x, istio.io/rev: tulle}\n"
    "  ownerReferences: [{kind: ReplicaSet, name: web-5d4f, controller: true}]\n"
    "spec:\n"
    "  nodeName: node1\n"
    "  serviceAccountName: web\n"
    "  initContainers:\n"
    "  - {name: istio-init, image: p}\n"
    "  - {name: istio-proxy, image: 'tulle-proxy:1', restartPolicy: Always, ports: "
    "[{containerPort: 15090}]}\n"
    "  containers:\n"
    "  - {name: app, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: "
    "UDP}]}\n"
    "status:\n"
    "  phase: Running\n"
    "  podIPs: [{ip: 10.244.0.7}, {ip: 'fd00::7'}]\n"
    "  conditions: [{type: Ready, status: 'True'}]\n"
    "  initContainerStatuses: [{name: istio-proxy, ready: true}]\n";

START_TEST(pod)
{
    struct arena a = ARENA_INIT;
    json_t *obj = object_of(NULL, pod_text);
    struct k8s_pod *p;

    ck_assert_int_eq(k8s_pod_decode(obj, &a, &p, NULL), 0);
    json_decref(obj); /* nothing borrows from it */
    ck_assert(slice_is(p->meta.ns, "shop"));
    ck_assert(slice_is(p->meta.resource_version, "77"));
    ck_assert_int_eq(p->meta.created_s, 1769860800);
    ck_assert_uint_eq(p->meta.annotations.n, 2); /* not `other` */
    ck_assert_uint_eq(p->ips.n, 2);
    ck_assert(slice_is(p->ips.p[1], "fd00::7"));
    ck_assert(slice_is(p->owner_kind, "Deployment"));
    ck_assert(slice_is(p->workload, "web"));
    ck_assert(slice_is(p->service_account, "web"));
    ck_assert_int_eq(p->phase, POD_RUNNING);
    ck_assert(p->ready && p->injected && p->has_proxy && p->proxy_native && p->proxy_ready);
    ck_assert(p->tls_mode_istio && !p->host_network);
    ck_assert(slice_is(p->proxy_image, "tulle-proxy:1"));
    ck_assert(slice_is(p->revision, "tulle"));
    ck_assert_uint_eq(p->n_ports, 2);
    ck_assert_uint_eq(p->ports[0].port, 8080);
    ck_assert(slice_is(p->ports[1].protocol, "UDP"));
    arena_fini(&a);
}
END_TEST

static const struct {
    const char *meta, *kind, *workload;
} owners[] = {
    {"name: p", "Pod", "p"},
    {"name: p-0, ownerReferences: [{kind: StatefulSet, name: p, controller: true}]", "StatefulSet",
     "p"},
    {"name: p, ownerReferences: [{kind: ReplicaSet, name: web-1, controller: true}]", "ReplicaSet",
     "web-1"}, /* no hash: not of a Deployment */
    {"name: p, labels: {pod-template-hash: abc}, ownerReferences: [{kind: ReplicaSet, name: "
     "web-xyz, controller: true}]",
     "ReplicaSet", "web-xyz"},
    {"name: p, ownerReferences: [{kind: Job, name: backup-29012345, controller: true}]", "CronJob",
     "backup"},
    {"name: p, ownerReferences: [{kind: Job, name: backup-1, controller: true}]", "Job",
     "backup-1"},
    {"name: p, ownerReferences: [{kind: Node, name: n1}]", "Pod", "p"}, /* not its controller */
};

START_TEST(owner)
{
    struct arena a = ARENA_INIT;
    struct k8s_pod *p;
    char text[400];
    json_t *obj;

    snprintf(text, sizeof text, "{metadata: {%s}}", owners[_i].meta);
    obj = object_of(NULL, text);
    ck_assert_int_eq(k8s_pod_decode(obj, &a, &p, NULL), 0);
    ck_assert_msg(slice_is(p->owner_kind, owners[_i].kind), "%s", text);
    ck_assert_msg(slice_is(p->workload, owners[_i].workload), "%s", text);
    ck_assert(slice_is(p->service_account, "default"));
    ck_assert(!p->has_proxy && !p->injected);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

START_TEST(service)
{
    struct arena a = ARENA_INIT;
    struct k8s_service *s;
    json_t *obj = object_of(
        NULL, "{metadata: {name: s}, spec: {clusterIPs: [10.96.0.5, 'fd00::5'], selector: {app: "
              "web}, ports: [{name: http, port: 80, targetPort: web, appProtocol: http}, {name: "
              "tcp, port: 81, targetPort: 8081}, {port: 82}]}}");

    ck_assert_int_eq(k8s_service_decode(obj, &a, &s, NULL), 0);
    ck_assert_uint_eq(s->cluster_ips.n, 2);
    ck_assert(!s->headless);
    ck_assert_uint_eq(s->n_ports, 3);
    ck_assert(slice_is(s->ports[0].target_name, "web") && s->ports[0].target_port == 0);
    ck_assert(slice_is(s->ports[0].app_protocol, "http"));
    ck_assert_uint_eq(s->ports[1].target_port, 8081);
    ck_assert_uint_eq(s->ports[2].target_port, 82);
    ck_assert(slice_is(s->ports[2].protocol, "TCP"));
    json_decref(obj);
    obj = object_of(NULL, "{metadata: {name: s}, spec: {clusterIP: None, type: ClusterIP}}");
    ck_assert_int_eq(k8s_service_decode(obj, &a, &s, NULL), 0);
    ck_assert(s->headless && s->cluster_ips.n == 0);
    json_decref(obj);
    obj = object_of(NULL,
                    "{metadata: {name: s}, spec: {type: ExternalName, externalName: A.Example}}");
    ck_assert_int_eq(k8s_service_decode(obj, &a, &s, NULL), 0);
    ck_assert_int_eq(s->type, SVC_EXTERNAL_NAME);
    ck_assert(slice_is(s->external_name, "a.example"));
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

START_TEST(endpoint_slice)
{
    struct arena a = ARENA_INIT;
    struct k8s_endpoint_slice *s;
    json_t *obj = object_of(
        NULL, "{metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}, addressType: "
              "IPv4, ports: [{name: '', port: 80}], endpoints: [{addresses: [10.0.0.1], "
              "conditions: {}, targetRef: {kind: Pod, name: p}, zone: z, nodeName: n}, {addresses: "
              "[10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}, "
              "{addresses: [10.0.0.3], conditions: {ready: false}, targetRef: {kind: Node, name: "
              "q}}]}");

    ck_assert_int_eq(k8s_endpoint_slice_decode(obj, &a, &s, NULL), 0);
    ck_assert(slice_is(s->service, "s"));
    ck_assert_uint_eq(s->n_endpoints, 3);
    ck_assert(s->endpoints[0].ready && s->endpoints[0].serving && !s->endpoints[0].terminating);
    ck_assert(slice_is(s->endpoints[0].pod, "p"));
    ck_assert(!s->endpoints[1].ready && s->endpoints[1].serving && s->endpoints[1].terminating);
    ck_assert(!s->endpoints[2].ready && !s->endpoints[2].serving && !s->endpoints[2].pod.p);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

START_TEST(node_and_namespace)
{
    struct arena a = ARENA_INIT;
    struct k8s_node *n;
    struct k8s_namespace *ns;
    json_t *obj = object_of(
        NULL, "{metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}, spec: {podCIDR: "
              "10.244.0.0/24}, status: {nodeInfo: {kubeletVersion: v1.34.4}, conditions: [{type: "
              "Ready, status: 'False'}]}}");

    ck_assert_int_eq(k8s_node_decode(obj, &a, &n, NULL), 0);
    ck_assert(slice_is(n->kubelet_version, "v1.34.4"));
    ck_assert(slice_is(n->zone, "z1") && !n->region.p);
    ck_assert_uint_eq(n->pod_cidrs.n, 1);
    ck_assert(!n->ready);
    json_decref(obj);
    obj = object_of(NULL, "{metadata: {name: ns}, status: {phase: Terminating}}");
    ck_assert_int_eq(k8s_namespace_decode(obj, &a, &ns, NULL), 0);
    ck_assert(ns->terminating);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

START_TEST(out_of_memory)
{
    json_t *obj = object_of(NULL, pod_text);

    OOM_SWEEP (n) {
        struct arena a = ARENA_INIT;
        struct k8s_pod *p;

        if (k8s_pod_decode(obj, &a, &p, NULL) == 0)
            ck_assert(slice_is(p->workload, "web"));
        arena_fini(&a);
    }
    json_decref(obj);
}
END_TEST

TESTS(k8s)
{
    tcase_add_test(tc, pod);
    tcase_add_loop_test(tc, owner, 0, N_OF(owners));
    tcase_add_test(tc, service);
    tcase_add_test(tc, endpoint_slice);
    tcase_add_test(tc, node_and_namespace);
    tcase_add_test(tc, out_of_memory);
}
