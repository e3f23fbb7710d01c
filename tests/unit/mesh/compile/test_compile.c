/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "mesh/compile/compile.h"
#include "tests/unit/mesh/compile/picture.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *app, *name;
    uint16_t port;
    enum prog_protocol want;
} protocols[] = {
    {"http", "tcp", 80, PROG_HTTP},     {"", "http", 80, PROG_HTTP},   {"", "http-web", 80, PROG_HTTP},
    {"", "httpx", 80, PROG_AUTO},       {"", "HTTP2-a", 80, PROG_HTTP2}, {"", "grpc", 80, PROG_GRPC},
    {"", "grpc-web", 80, PROG_HTTP},    {"", "grpc-web-a", 80, PROG_HTTP}, {"", "https-a", 443, PROG_TLS},
    {"", "tcp-a", 80, PROG_TCP},        {"", "mysql", 1, PROG_TCP},    {"", "", 3306, PROG_TCP},
    {"", "", 25, PROG_TCP},             {"", "web", 53, PROG_TCP},     {"", "", 27017, PROG_TCP},
    {"", "", 80, PROG_AUTO},            {"http", "", 3306, PROG_HTTP}, {"company.example/x", "http", 80, PROG_HTTP},
    {"kubernetes.io/h2c", "", 80, PROG_HTTP2},
};

START_TEST(protocol)
{
    ck_assert_msg(compile_protocol(slice_str(protocols[_i].app), slice_str(protocols[_i].name),
                                   protocols[_i].port) == protocols[_i].want,
                  "%s %s %u", protocols[_i].app, protocols[_i].name, protocols[_i].port);
}
END_TEST

static const struct {
    enum prog_kind kind;
    const char *key;
} bad_keys[] = {
    {PROG_SERVICE, ""},        {PROG_SERVICE, "web"},      {PROG_SERVICE, "web:0"},
    {PROG_SERVICE, "web:99999"}, {PROG_SERVICE, "a b:80"}, {PROG_SERVICE, "u@web:80"},
    {PROG_ENDPOINTS, "x"},     {PROG_ENDPOINTS, "EndpointSlice/a/b/c/d"}, {PROG_ENDPOINTS, ""},
    {PROG_WORKLOAD, "web"},    {(enum prog_kind)99, ""},
};

START_TEST(bad_key)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct index *x = index_new();
    struct compile_input in = {.index = x};
    struct compile_client client = {.namespace_ = SL("shop")};
    struct compiled c;

    ck_assert_int_eq(compile_resource(&in, &client, bad_keys[_i].kind, slice_str(bad_keys[_i].key),
                                      &a, &c),
                     ERR_INVALID);
    index_free(x);
}
END_TEST

static const char shop[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
    "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], selector: {app: web},\n"
    "  ports: [{name: http, port: 80, targetPort: 8080}, {name: udp, port: 53, protocol: UDP}]}\n---\n"
    "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\n"
    "spec: {clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2], ports: [{name: http, port: 81}]}\n---\n"
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
    "metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"
    "addressType: IPv4\nports: [{name: http, port: 8080}]\n"
    "endpoints: [{addresses: [10.244.0.5], targetRef: {kind: Pod, name: web-a, namespace: shop}}]\n---\n"
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web-a, namespace: shop, labels: {app: web, version: v1}}\n"
    "spec: {nodeName: n1, containers: [{name: a}]}\n"
    "status: {phase: Running, podIP: 10.244.0.5}\n---\n"
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n"
    "spec: {hosts: [web], http: [{match: [{headers: {a: {exact: b}}}], rewrite: {uri: /x},\n"
    "  headers: {request: {set: {c: d}}}, route: [{destination: {host: web, subset: v1}}]},\n"
    "  {route: [{destination: {host: web}, weight: 1}, {destination: {host: api}, weight: 2}]}]}\n---\n"
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n"
    "spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}\n---\n"
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
    "spec: {rules: [{from: [{source: {principals: [a/ns/b/sa/c], ipBlocks: [10.0.0.0/8]}}],\n"
    "  to: [{operation: {methods: [GET]}}]}]}\n";

START_TEST(warm_set)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct index *x = picture(shop);
    struct compile_input in = {.index = x};
    struct slice *keys;
    uint32_t n;

    ck_assert_int_eq(compile_service_keys(&in, SL("shop"), &a, &keys, &n), ERR_OK);
    ck_assert_uint_eq(n, 2); /* by name; ports of UDP are none */
    ck_assert(slice_is(keys[0], "api.shop.svc.cluster.local:81"));
    ck_assert(slice_is(keys[1], "web.shop.svc.cluster.local:80"));
    ck_assert_int_eq(compile_service_keys(&in, SL("none"), &a, &keys, &n), ERR_OK);
    ck_assert_uint_eq(n, 0);
    index_free(x);
}
END_TEST

/* --- what of the client a resource depends on --------------------------------------------------- */
#define VS_HEAD                                                                                    \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"                                   \
    "metadata: {name: api, namespace: shop}\nspec: {hosts: [api], "
#define DR_HEAD "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: api, "
#define SC_HEAD "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: x, "
#define API "api.shop.svc.cluster.local:81"
enum { NOTHING = 0, NS = COMPILE_LOOKS_NAMESPACE, LABELS = COMPILE_LOOKS_LABELS };
static const struct {
    const char *more; /* objects beside `shop` */
    enum prog_kind kind;
    const char *key;
    unsigned looks;
} looked[] = {
    {"", PROG_SETTINGS, "", NOTHING},
    {"", PROG_NAMES, "", NOTHING},
    {"", PROG_INBOUND, "", NS | COMPILE_LOOKS_POD},
    {"", PROG_WORKLOAD, "10.244.0.5", NOTHING},
    {"", PROG_ENDPOINTS, "EndpointSlice/shop/web-1/http", NOTHING},
    {"", PROG_SERVICE, API, NOTHING},
    {"", PROG_SERVICE, "api.shop:81", NOTHING},
    {"", PROG_SERVICE, "api:81", NS}, /* a short name is of the client's namespace */
    {"", PROG_SERVICE, "10.96.0.2:81", NOTHING},
    {"", PROG_SERVICE, "10.244.0.5:8080", NOTHING},
    {"", PROG_SERVICE, "web.shop:80", NOTHING}, /* routes and subsets for all */
    {VS_HEAD "exportTo: ['*'], http: [{route: [{destination: {host: api}}]}]}", PROG_SERVICE, API,
     NOTHING},
    {VS_HEAD "exportTo: [.], http: [{route: [{destination: {host: api}}]}]}", PROG_SERVICE, API, NS},
    {VS_HEAD "http: [{match: [{sourceLabels: {a: b}}], route: [{destination: {host: api}}]}]}",
     PROG_SERVICE, API, LABELS},
    {VS_HEAD "http: [{match: [{sourceNamespace: shop}], route: [{destination: {host: api}}]}]}",
     PROG_SERVICE, API, NS},
    {DR_HEAD "namespace: shop}\nspec: {host: api}", PROG_SERVICE, API, NOTHING},
    {DR_HEAD "namespace: istio-system}\nspec: {host: '*.local'}", PROG_SERVICE, API, NOTHING},
    /* A rule of another namespace is for clients there. */
    {DR_HEAD "namespace: bank}\nspec: {host: api.shop.svc.cluster.local}", PROG_SERVICE, API, NS},
    {DR_HEAD "namespace: shop}\nspec: {host: api, exportTo: [bank]}", PROG_SERVICE, API, NS},
    {DR_HEAD "namespace: shop}\nspec: {host: api, workloadSelector: {matchLabels: {a: b}}}",
     PROG_SERVICE, API, NS | LABELS},
    /* As soon as there is a Sidecar it matters where a client is; labels, where one selects. */
    {SC_HEAD "namespace: bank}\nspec: {egress: [{hosts: ['~/*']}]}", PROG_SERVICE, API, NS},
    {SC_HEAD "namespace: shop}\nspec: {egress: [{hosts: [./*]}]}", PROG_SETTINGS, "", NS},
    {SC_HEAD "namespace: shop}\nspec: {egress: [{hosts: [./*]}]}", PROG_NAMES, "", NOTHING},
    {SC_HEAD "namespace: shop}\nspec: {workloadSelector: {labels: {a: b}}, egress: [{hosts: ['~/*']}]}",
     PROG_SERVICE, API, NS | LABELS},
    /* Two places: whose holds depends on who asks. */
    {DR_HEAD "namespace: shop}\nspec: {host: api}\n---\n" DR_HEAD
             "namespace: istio-system}\nspec: {host: '*.local'}",
     PROG_SERVICE, API, NS},
};

START_TEST(looks)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    char text[8192];
    struct compile_client client = {.namespace_ = SL("shop"), .pod = SL("web-a")};
    struct compiled c;

    snprintf(text, sizeof text, "%s---\n%s", shop, looked[_i].more);
    struct index *x = picture(text);
    struct compile_input in = {.index = x, .roots_pem = SL("roots")};
    ck_assert_int_eq(
        compile_resource(&in, &client, looked[_i].kind, slice_str(looked[_i].key), &a, &c), ERR_OK);
    ck_assert_int_ne(c.state, PROG_ABSENT);
    ck_assert_msg(c.looks == looked[_i].looks, "%s with \"%s\" looks at %u, not %u", looked[_i].key,
                  looked[_i].more, c.looks, looked[_i].looks);
    index_free(x);
}
END_TEST

static const struct {
    enum prog_kind kind;
    const char *key;
} asked[] = {
    {PROG_SETTINGS, ""},
    {PROG_INBOUND, ""},
    {PROG_NAMES, ""},
    {PROG_SERVICE, "web:80"},
    {PROG_SERVICE, "10.244.0.5:8080"},
    {PROG_ENDPOINTS, "EndpointSlice/shop/web-1/http"},
    {PROG_WORKLOAD, "10.244.0.5"},
};

START_TEST(no_memory)
{
    struct index *x = picture(shop);
    struct compile_input in = {.index = x, .roots_pem = SL("roots")};
    struct compile_client client = {.namespace_ = SL("shop"), .pod = SL("web-a")};
    struct compiled whole;
    CLEANUP(arena_free) struct arena keep = ARENA_INIT;

    ck_assert_int_eq(compile_resource(&in, &client, asked[_i].kind, slice_str(asked[_i].key), &keep,
                                      &whole),
                     ERR_OK);
    ck_assert_int_eq(whole.state, PROG_VALUE);
    OOM_SWEEP(n)
    {
        struct arena a;
        struct compiled c;

        arena_init(&a, 64, 0); /* small blocks: many allocations to fail */
        a.block = 64;
        enum err_code rc =
            compile_resource(&in, &client, asked[_i].kind, slice_str(asked[_i].key), &a, &c);
        ck_assert(rc == ERR_OK || rc == ERR_NOMEM);
        if (rc == ERR_OK) /* never a thinner answer for want of memory */
            ck_assert(c.state == whole.state && slice_eq(c.payload, whole.payload) &&
                      c.n_deps == whole.n_deps && c.n_origins == whole.n_origins);
        arena_fini(&a);
    }
    index_free(x);
}
END_TEST

/* The endpoints of a host tell 64 selectors apart; what is beyond is said aloud. */
START_TEST(many_subsets)
{
    enum { KNOWN = 64, MORE = 2 };
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct compiled c = {0};
    struct compile_client client = {.namespace_ = SL("shop")};
    CLEANUP(buf_freep) struct buf yaml;

    buf_init(&yaml, 1 << 20);
    buf_addf(&yaml, "%s---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                    "metadata: {name: many, namespace: shop}\nspec: {host: api, subsets: [",
             shop);
    for (int i = 0; i < KNOWN + _i * MORE; i++)
        buf_addf(&yaml, "%s{name: s%d, labels: {version: v%d}}", i ? ", " : "", i, i);
    buf_addf(&yaml, ", {name: again, labels: {version: v1}}]}\n---\n"
                    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
                    "metadata: {name: api-1, namespace: shop, labels: "
                    "{kubernetes.io/service-name: api}}\naddressType: IPv4\n"
                    "ports: [{name: http, port: 81}]\nendpoints: [{addresses: [10.244.0.6]}]\n");
    struct index *x = picture(buf_cstr(&yaml));
    struct compile_input in = {.index = x};
    ck_assert_int_eq(compile_resource(&in, &client, PROG_ENDPOINTS,
                                      SL("EndpointSlice/shop/api-1/http"), &a, &c),
                     ERR_OK);
    ck_assert_uint_eq(c.n_problems, _i ? MORE : 0);
    for (uint32_t i = 0; i < c.n_problems; i++) {
        ck_assert_int_eq(c.problems[i].kind, INDEX_DR);
        ck_assert(slice_is(c.problems[i].name, "many"));
        ck_assert(slice_starts(c.problems[i].path, SL("spec.subsets[")));
        ck_assert_ptr_nonnull(strstr(c.problems[i].text.p, "more than 64"));
    }
    index_free(x);
}
END_TEST

TESTS(compile)
{
    tcase_add_loop_test(tc, many_subsets, 0, 2);
    tcase_add_loop_test(tc, protocol, 0, N_OF(protocols));
    tcase_add_loop_test(tc, bad_key, 0, N_OF(bad_keys));
    tcase_add_test(tc, warm_set);
    tcase_add_loop_test(tc, looks, 0, N_OF(looked));
    tcase_add_loop_test(tc, no_memory, 0, N_OF(asked));
}
