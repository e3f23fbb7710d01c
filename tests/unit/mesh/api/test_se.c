/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/we.h"
#include "tests/unit/mesh/api/api_test.h"

#define SE(rest) "{hosts: [a.b], ports: [{number: 80, name: http, protocol: HTTP}], " rest "}"

static const struct check_case cases[] = {
    {"static", SE("resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {http: 8080}}]"), ""},
    {"none", SE("resolution: NONE, addresses: [10.0.0.0/8]"), ""},
    {"dns", SE("resolution: DNS"), ""},
    {"round robin", SE("resolution: DNS_ROUND_ROBIN"), ""},
    {"dynamic dns is named", SE("resolution: DYNAMIC_DNS"),
     "unsupported spec.resolution: DYNAMIC_DNS is not implemented"},
    {"no hosts", "{resolution: NONE}", "invalid spec.hosts: must list at least one host"},
    {"all", "{hosts: ['*'], resolution: NONE}", "invalid spec.hosts[0]: \"*\" is not allowed"},
    {"address", SE("addresses: [x]"), "invalid spec.addresses[0]: must be an address"},
    {"range with dns", SE("resolution: DNS, addresses: [10.0.0.0/8]"),
     "invalid spec.addresses[0]: a range needs"},
    {"static without endpoints", SE("resolution: STATIC"),
     "invalid spec.endpoints: resolution STATIC needs endpoints"},
    {"static with a name", SE("resolution: STATIC, endpoints: [{address: c.d}]"),
     "invalid spec.endpoints[0].address: resolution STATIC needs an IP address"},
    {"none with endpoints", SE("resolution: NONE, endpoints: [{address: 10.0.0.1}]"),
     "invalid spec.endpoints: resolution NONE"},
    {"pattern with dns", "{hosts: ['*.b'], resolution: DNS}",
     "invalid spec.hosts[0]: a pattern cannot be resolved"},
    {"two kinds of endpoints",
     SE("resolution: STATIC, endpoints: [{address: 10.0.0.1}], workloadSelector: {labels: {a: b}}"),
     "invalid spec: has both workloadSelector and endpoints"},
    {"unknown port name", SE("resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {x: 1}}]"),
     "invalid spec.endpoints[0].ports.x: is none of the entry's ports"},
    {"port twice",
     "{hosts: [a.b], resolution: NONE, ports: [{number: 1, name: a, protocol: TLS}, {number: 1, "
     "name: a, protocol: TLS}]}",
     "invalid spec.ports[1].name: \"a\" names an earlier port too|invalid spec.ports[1].number: 1 "
     "is an earlier"},
    {"protocol", "{hosts: [a.b], ports: [{number: 1, name: a, protocol: SMTP}]}",
     "invalid spec.ports[0].protocol"},
    {"any case", "{hosts: [a.b], ports: [{number: 1, name: a, protocol: gRPC}]}", ""},
    {"tcp without address", "{hosts: [a.b], ports: [{number: 1, name: a, protocol: TCP}]}",
     "needs_address spec.ports[0]: TCP without addresses"},
    {"two for round robin",
     SE("resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.c}, {address: a.d}]"),
     "invalid spec.endpoints: resolution DNS_ROUND_ROBIN"},
};

START_TEST(validate)
{
    check_one(API_SERVICE_ENTRY, &cases[_i]);
}
END_TEST

static const struct {
    const char *name, *object;
    bool want;
} wants[] = {
    {"dns", "{metadata: {name: x}, spec: {hosts: [a], resolution: DNS}}", true},
    {"none", "{metadata: {name: x}, spec: {hosts: [a]}}", false},
    {"has one", "{metadata: {name: x}, spec: {hosts: [a], resolution: DNS, addresses: [10.0.0.1]}}",
     false},
    {"pattern", "{metadata: {name: x}, spec: {hosts: [a, '*.b'], resolution: STATIC}}", false},
    {"dynamic", "{metadata: {name: x}, spec: {hosts: [a], resolution: DYNAMIC_DNS}}", false},
    {"opted in",
     "{metadata: {name: x, labels: {networking.istio.io/enable-autoallocate-ip: 'true'}}, spec: "
     "{hosts: [a], resolution: STATIC}}",
     true},
    {"opted out, any case",
     "{metadata: {name: x, labels: {networking.istio.io/enable-autoallocate-ip: 'False'}}, spec: "
     "{hosts: [a], resolution: DNS}}",
     false},
    {"opted out",
     "{metadata: {name: x, labels: {networking.istio.io/enable-autoallocate-ip: 'false'}}, spec: "
     "{hosts: [a], resolution: DNS}}",
     false},
};

START_TEST(wants_address)
{
    struct arena a = ARENA_INIT;
    json_t *obj = object_of(NULL, wants[_i].object);
    struct se *se;

    ck_assert_int_eq(se_decode(obj, &a, &se, NULL), 0);
    ck_assert_msg(se_wants_address(se) == wants[_i].want, "%s", wants[_i].name);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

START_TEST(fields)
{
    struct arena a = ARENA_INIT;
    struct se *se;
    json_t *obj = object_of(
        NULL, "{metadata: {name: x}, spec: {hosts: [A.B], location: MESH_INTERNAL, resolution: "
              "STATIC, ports: [{number: 80, name: http, targetPort: 8080}, {number: 81, name: y}], "
              "endpoints: [{address: 10.0.0.1, ports: {http: 9090}, labels: {v: '1'}, weight: 3, "
              "serviceAccount: sa}]}}");

    ck_assert_int_eq(se_decode(obj, &a, &se, NULL), 0);
    ck_assert_int_eq(se->location, SE_MESH_INTERNAL);
    ck_assert_uint_eq(se_endpoint_port(&se->endpoints[0], &se->ports.p[0]), 9090);
    ck_assert_uint_eq(se_endpoint_port(&se->endpoints[0], &se->ports.p[1]), 81);
    se->endpoints[0].n_ports = 0;
    ck_assert_uint_eq(se_endpoint_port(&se->endpoints[0], &se->ports.p[0]), 8080);
    ck_assert_uint_eq(se->endpoints[0].weight.v, 3);
    ck_assert(slice_is(se->hosts.p[0], "a.b"));
    ck_assert(se_endpoint_mtls(&se->endpoints[0])); /* it has an account */
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

static const struct {
    const char *name, *spec;
    bool mtls;
    const char *locality;
} entries[] = {
    {"bare", "{address: 10.0.0.1}", false, ""},
    {"account", "{address: 10.0.0.1, serviceAccount: a}", true, ""},
    {"label before account",
     "{address: 10.0.0.1, serviceAccount: a, labels: {security.istio.io/tlsMode: disabled}}", false,
     ""},
    {"label of the object before its own",
     "{address: 10.0.0.1, labels: {z: z, security.istio.io/tlsMode: istio, istio-locality: a.b.c}}",
     true, "own/zone"},
    {"locality", "{address: 10.0.0.1, locality: eu/x, labels: {istio-locality: a}}", false, "eu/x"},
};

START_TEST(workload_entry)
{
    static const char own[] = "labels: {a: a, istio-locality: own.zone}, ";
    struct arena a = ARENA_INIT;
    bool labelled = strstr(entries[_i].name, "of the object") != NULL;
    json_t *obj = object_of(NULL, arena_printf(&a, "{metadata: {%sname: x}, spec: %s}",
                                               labelled ? own : "", entries[_i].spec));
    struct we *we;

    ck_assert_int_eq(we_decode(obj, &a, &we, NULL), 0);
    ck_assert_msg(se_endpoint_mtls(&we->endpoint) == entries[_i].mtls, "%s", entries[_i].name);
    ck_assert(slice_is(se_endpoint_locality(&we->endpoint, &a), entries[_i].locality));
    for (uint32_t i = 1; i < we->endpoint.labels.n; i++)
        ck_assert_int_lt(
            slice_cmp(we->endpoint.labels.p[i - 1].key, we->endpoint.labels.p[i].key), 0);
    if (labelled)
        ck_assert_uint_eq(we->endpoint.labels.n, 4);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

TESTS(se)
{
    tcase_add_loop_test(tc, workload_entry, 0, N_OF(entries));
    tcase_add_loop_test(tc, validate, 0, N_OF(cases));
    tcase_add_loop_test(tc, wants_address, 0, N_OF(wants));
    tcase_add_test(tc, fields);
}
