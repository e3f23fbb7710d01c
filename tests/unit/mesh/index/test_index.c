/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "lib/base/mem.h"
#include "lib/data/yaml.h"
#include "mesh/index/index.h"
#include "tests/unit/tcase.h"

static void put_all(struct index *x, const char *yaml, struct index_changes *c)
{
    struct yaml_docs docs = {0};
    struct err err = {0};
    enum index_kind kind;

    ck_assert_msg(yaml_parse(slice_str(yaml), NULL, &docs, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < docs.len; i++) {
        ck_assert(index_kind_of(docs.p[i].value, &kind));
        ck_assert_msg(index_put(x, kind, docs.p[i].value, c, &err) == 0, "%s", err.msg);
    }
    yaml_docs_fini(&docs);
}

static struct index *picture(const char *yaml)
{
    struct index *x = index_new();

    ck_assert_ptr_nonnull(x);
    put_all(x, yaml, NULL);
    return x;
}

static bool touched(const struct index_changes *c, uint64_t token)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->p[i] == token)
            return true;
    return c->all;
}

#define SERVICE                                                                                    \
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"                      \
    "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], selector: {app: web},\n"                \
    "  ports: [{name: http, port: 80, targetPort: 8080}]}\n---\n"
#define SLICE                                                                                      \
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                       \
    "metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"        \
    "addressType: IPv4\nports: [{name: http, port: 8080}]\n"                                       \
    "endpoints: [{addresses: [10.244.0.5], conditions: {ready: true},\n"                           \
    "  targetRef: {kind: Pod, name: web-a, namespace: shop}}]\n---\n"
#define POD(labels)                                                                                \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web-a, namespace: shop, labels: {" labels "}}\n"  \
    "spec: {serviceAccountName: web, nodeName: n1, containers: [{name: a,\n"                       \
    "  ports: [{name: http, containerPort: 8080}]}]}\n"                                            \
    "status: {phase: Running, podIP: 10.244.0.5, podIPs: [{ip: 10.244.0.5}]}\n---\n"

static struct ipaddr ip(const char *text)
{
    struct ipaddr a;

    ck_assert(ip_parse(slice_str(text), &a));
    return a;
}

START_TEST(look_ups)
{
    struct index *x = picture(SERVICE SLICE POD("app: web"));
    struct ipaddr vip = ip("10.96.0.1"), pod_ip = ip("10.244.0.5"), other = ip("10.96.0.2");
    const struct ix_service *s = index_service(x, SL("shop"), SL("web"));
    const struct ix_pod *p = index_pod(x, SL("shop"), SL("web-a"));

    ck_assert(s && s->known && s->n_ports == 1 && s->ports[0].target == 8080);
    ck_assert_ptr_eq(index_service_by_vip(x, &vip), s);
    ck_assert_ptr_null(index_service_by_vip(x, &other));
    ck_assert_ptr_eq(index_service_by_host(x, SL("web.shop.svc.cluster.local")), s);
    ck_assert_ptr_null(index_service_by_host(x, SL("web.shop.svc.cluster.locax")));
    ck_assert_ptr_null(index_service_by_host(x, SL("a.web.shop.svc.cluster.local")));
    ck_assert(s->slices && s->slices->endpoints[0].pod == p && p->n_slices == 1);
    ck_assert_ptr_eq(index_pod_by_ip(x, &pod_ip), p);
    ck_assert(slice_eq(istr_slice(p->ports), SL("http=8080")));
    index_free(x);
}
END_TEST

START_TEST(any_order_and_removal)
{
    struct index *x = picture(SLICE POD("app: web") SERVICE); /* the slice names what comes later */
    const struct ix_service *s = index_service(x, SL("shop"), SL("web"));
    struct ipaddr pod_ip = ip("10.244.0.5"), vip = ip("10.96.0.1");

    ck_assert(s && s->known && s->slices);
    ck_assert(index_remove(x, INDEX_POD, SL("shop"), SL("web-a"), NULL));
    ck_assert_ptr_null(index_pod_by_ip(x, &pod_ip));
    ck_assert(!index_pod(x, SL("shop"), SL("web-a"))->known); /* the slice still names it */
    ck_assert(!index_remove(x, INDEX_POD, SL("shop"), SL("web-a"), NULL));
    ck_assert(index_remove(x, INDEX_SERVICE, SL("shop"), SL("web"), NULL));
    ck_assert_ptr_null(index_service_by_vip(x, &vip));
    ck_assert_ptr_null(index_service_by_host(x, SL("web.shop.svc.cluster.local")));
    ck_assert(index_remove(x, INDEX_SLICE, SL("shop"), SL("web-1"), NULL));
    ck_assert_ptr_null(index_service(x, SL("shop"), SL("web")));
    ck_assert_ptr_null(index_pod(x, SL("shop"), SL("web-a")));
    struct index_stats st = index_stats(x);
    ck_assert_uint_eq(st.services + st.slices + st.endpoints + st.pods, 0);
    ck_assert_uint_le(st.strings, 1); /* the namespace's name stays */
    index_free(x);
}
END_TEST

START_TEST(changes_are_small)
{
    struct index *x = picture(SERVICE SLICE POD("app: web"));
    struct index_changes c = {0};
    struct ipaddr pod_ip = ip("10.244.0.5");

    put_all(x, SERVICE SLICE POD("app: web"), &c); /* says the same */
    ck_assert_uint_eq(c.n, 0);
    put_all(x, POD("app: web, version: v2"), &c);
    ck_assert(touched(&c, INDEX_TOKEN_POD(SL("shop"), SL("web-a"))));
    ck_assert(touched(&c, INDEX_TOKEN_SLICE(SL("shop"), SL("web-1"))));
    ck_assert(touched(&c, INDEX_TOKEN_IP(&pod_ip)));
    ck_assert(!touched(&c, INDEX_TOKEN_SERVICE(SL("shop"), SL("web"))));
    ck_assert(!touched(&c, INDEX_TOKEN_FILTER));
    c.n = 0;
    ck_assert(index_remove(x, INDEX_SLICE, SL("shop"), SL("web-1"), &c));
    ck_assert(touched(&c, INDEX_TOKEN_SERVICE(SL("shop"), SL("web"))));
    ck_assert(!touched(&c, INDEX_TOKEN_FILTER)); /* hosts and addresses are the same */
    c.n = 0;
    ck_assert(index_remove(x, INDEX_SERVICE, SL("shop"), SL("web"), &c));
    ck_assert(touched(&c, INDEX_TOKEN_FILTER) && touched(&c, INDEX_TOKEN_NAMES));
    index_changes_fini(&c);
    index_free(x);
}
END_TEST

#define VS(name, ns, host, extra)                                                                  \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"                                   \
    "metadata: {name: " name ", namespace: " ns ", " extra "}\n"                                   \
    "spec: {hosts: [" host "], http: [{route: [{destination: {host: web}}]}]}\n---\n"

START_TEST(policies_by_host_oldest_first)
{
    struct index *x = picture(VS("young", "shop", "web", "creationTimestamp: '2026-02-01T00:00:00Z'")
                                  VS("old", "shop", "web", "creationTimestamp: '2026-01-01T00:00:00Z'")
                                      VS("b", "bank", "web.shop.svc.cluster.local",
                                         "creationTimestamp: '2026-03-01T00:00:00Z'"));
    struct index_changes c = {0};
    const struct ix_objects *l = index_vs_of(x, SL("web.shop.svc.cluster.local"));

    ck_assert(l && l->n == 3);
    ck_assert(slice_is(l->p[0]->meta->name, "old") && slice_is(l->p[1]->meta->name, "young"));
    ck_assert(index_remove(x, INDEX_VS, SL("shop"), SL("old"), &c));
    ck_assert(touched(&c, INDEX_TOKEN_VS(SL("web.shop.svc.cluster.local"))));
    ck_assert_uint_eq(index_vs_of(x, SL("web.shop.svc.cluster.local"))->n, 2);
    index_remove(x, INDEX_VS, SL("shop"), SL("young"), NULL);
    index_remove(x, INDEX_VS, SL("bank"), SL("b"), NULL);
    ck_assert_ptr_null(index_vs_of(x, SL("web.shop.svc.cluster.local")));
    index_changes_fini(&c);
    index_free(x);
}
END_TEST

START_TEST(status_alone_is_no_change)
{
    struct index *x = picture(VS("v", "shop", "web", "uid: u1, generation: 2, resourceVersion: '5'"));
    struct index_changes c = {0};

    put_all(x, VS("v", "shop", "web", "uid: u1, generation: 2, resourceVersion: '6'"), &c);
    ck_assert_uint_eq(c.n, 0);
    put_all(x, VS("v", "shop", "web", "uid: u1, generation: 3, resourceVersion: '7'"), &c);
    ck_assert_uint_gt(c.n, 0);
    index_changes_fini(&c);
    index_free(x);
}
END_TEST

START_TEST(invalid_policies_are_in_no_list)
{
    struct index *x = picture(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata: {name: bad, namespace: shop}\n"
        "spec: {hosts: [web], http: [{route: [{destination: {host: web}, weight: -1}]}]}\n");

    ck_assert_ptr_null(index_vs_of(x, SL("web.shop.svc.cluster.local")));
    ck_assert(index_object(x, INDEX_VS, SL("shop"), SL("bad"))->invalid);
    index_free(x);
}
END_TEST

START_TEST(cluster_domain_moves_hosts)
{
    struct index *x = picture(SERVICE VS("v", "shop", "web", "uid: u"));
    struct index_changes c = {0};

    put_all(x, "apiVersion: tulle.dev/v1alpha1\nkind: Mesh\nmetadata: {name: default}\n"
               "spec: {clusterDomain: k8s.example}\n", &c);
    ck_assert(slice_is(index_cluster_domain(x), "k8s.example"));
    ck_assert(c.all);
    ck_assert_ptr_nonnull(index_vs_of(x, SL("web.shop.svc.k8s.example")));
    ck_assert_ptr_null(index_vs_of(x, SL("web.shop.svc.cluster.local")));
    ck_assert_ptr_nonnull(index_service_by_host(x, SL("web.shop.svc.k8s.example")));
    index_changes_fini(&c);
    index_free(x);
}
END_TEST

START_TEST(wanted_addresses)
{
    struct index *x = picture(
        SERVICE VS("front", "shop", "shop.example.com", "uid: u")
            VS("svc", "shop", "web", "uid: v") VS("wild", "shop", "'*.example.com'", "uid: w")
                VS("lost", "bank", "lost.example.com", "uid: l") /* bank has no web */
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        "metadata: {name: db, namespace: shop}\n"
        "spec: {hosts: [db.example.com], resolution: STATIC, location: MESH_EXTERNAL,\n"
        "  ports: [{number: 5432, name: tcp, protocol: TCP}], endpoints: [{address: 192.0.2.1}]}\n"
        "status: {addresses: [{value: 240.240.0.9, host: db.example.com}]}\n---\n"
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        "metadata: {name: api, namespace: shop}\n"
        "spec: {hosts: [api.example.com], resolution: DNS, location: MESH_EXTERNAL,\n"
        "  ports: [{number: 80, name: http, protocol: HTTP}]}\n");
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct ipaddr own = ip("240.240.0.1"), v6 = ip("2001:2::7"), got[2];
    size_t n, idle;
    struct index_want *w = index_wanted_addresses(x, &a, &n);

    ck_assert_uint_eq(n, 3);
    ck_assert(slice_is(w[0].host, "api.example.com") && w[0].kind == INDEX_SE); /* looked up */
    ck_assert(slice_is(w[1].host, "db.example.com") && w[1].kind == INDEX_SE);
    ck_assert(slice_is(w[2].host, "shop.example.com") && w[2].kind == INDEX_VS);
    ck_assert(!w[2].have[0].len && !w[2].have[1].len);
    ck_assert_int_eq(index_set_address(x, SL("shop.example.com"), &v6, NULL), 0);
    ck_assert_int_eq(index_set_address(x, SL("shop.example.com"), &own, NULL), 0);
    ck_assert_uint_eq(index_addresses_of(x, SL("shop.example.com"), got), 2);
    ck_assert(ip_eq(&got[0], &own) && ip_eq(&got[1], &v6));
    ck_assert(slice_is(index_host_by_ip(x, &own), "shop.example.com"));
    ck_assert(slice_is(index_host_by_ip(x, &v6), "shop.example.com"));
    w = index_wanted_addresses(x, &a, &n);
    ck_assert(ip_eq(&w[2].have[0], &own) && ip_eq(&w[2].have[1], &v6));
    index_idle_addresses(x, w, n, &a, &idle);
    ck_assert_uint_eq(idle, 0);
    ck_assert(slice_is(index_idle_addresses(x, w, 2, &a, &idle)[0], "shop.example.com"));
    ck_assert_uint_eq(idle, 1);
    v6.b[15] = 8;
    ck_assert_int_eq(index_set_address(x, SL("shop.example.com"), &v6, NULL), 0);
    ck_assert(index_addresses_of(x, SL("shop.example.com"), got) == 2 && ip_eq(&got[1], &v6));
    own.len = 0;
    ck_assert_int_eq(index_set_address(x, SL("shop.example.com"), &own, NULL), 0);
    ck_assert_uint_eq(index_addresses_of(x, SL("shop.example.com"), got), 0);
    ck_assert(!index_host_by_ip(x, &v6).p);
    index_free(x);
}
END_TEST

static const struct {
    const char *export_to, *own, *client;
    bool want;
} exports[] = {
    {"", "a", "b", true},  {"*", "a", "b", true}, {".", "a", "b", false}, {".", "a", "a", true},
    {"b", "a", "b", true}, {"c", "a", "b", false}, {"~", "a", "a", false},
};

START_TEST(visibility)
{
    struct slice one = slice_str(exports[_i].export_to);
    struct api_strings l = {&one, one.len ? 1 : 0};

    ck_assert_int_eq(index_visible(&l, slice_str(exports[_i].own), slice_str(exports[_i].client)),
                     exports[_i].want);
}
END_TEST

START_TEST(refused)
{
    struct index *x = index_new();
    struct err err = {0};
    json_t *v = json_string("no object");

    for (int k = 0; k < INDEX_KINDS; k++)
        ck_assert_int_eq(index_put(x, (enum index_kind)k, v, NULL, &err), -1);
    json_decref(v);
    index_free(x);
}
END_TEST

/* Whatever allocation fails: nothing leaks, the old value stays, and a later put works. */
START_TEST(no_memory)
{
    static const char all[] = SERVICE SLICE POD("app: web") VS("v", "shop", "web", "uid: u");
    struct yaml_docs docs = {0};

    ck_assert_int_eq(yaml_parse(slice_str(all), NULL, &docs, NULL), 0);
    OOM_SWEEP(n)
    {
        struct index *x = index_new();
        struct index_changes c = {0};

        for (size_t i = 0; x && i < docs.len; i++) {
            enum index_kind kind;
            struct err err = {0};

            index_kind_of(docs.p[i].value, &kind);
            if (index_put(x, kind, docs.p[i].value, &c, &err) < 0)
                ck_assert_msg(index_put(x, kind, docs.p[i].value, &c, &err) == 0, "%s", err.msg);
        }
        if (x)
            ck_assert_uint_eq(index_stats(x).endpoints, 1);
        index_changes_fini(&c);
        index_free(x);
    }
    yaml_docs_fini(&docs);
}
END_TEST

TESTS(index)
{
    tcase_add_test(tc, look_ups);
    tcase_add_test(tc, any_order_and_removal);
    tcase_add_test(tc, changes_are_small);
    tcase_add_test(tc, policies_by_host_oldest_first);
    tcase_add_test(tc, status_alone_is_no_change);
    tcase_add_test(tc, invalid_policies_are_in_no_list);
    tcase_add_test(tc, cluster_domain_moves_hosts);
    tcase_add_test(tc, wanted_addresses);
    tcase_add_loop_test(tc, visibility, 0, N_OF(exports));
    tcase_add_test(tc, refused);
    tcase_add_test(tc, no_memory);
}
