/* SPDX-License-Identifier: Apache-2.0 */
/* PeerAuthentication, AuthorizationPolicy and Mesh. */
#include "mesh/api/ap.h"
#include "mesh/api/mesh_cr.h"
#include "mesh/api/pa.h"
#include "tests/unit/mesh/api/api_test.h"

static const struct check_case pas[] = {
    {"empty", "{}", ""},
    {"strict", "{mtls: {mode: STRICT}}", ""},
    {"ports", "{selector: {matchLabels: {a: b}}, portLevelMtls: {'80': {mode: DISABLE}}}", ""},
    {"ports of all", "{portLevelMtls: {'80': {mode: DISABLE}}}",
     "invalid spec.portLevelMtls: needs a selector"},
    {"no port", "{selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: DISABLE}}}",
     "invalid spec.portLevelMtls.http: the key must be a port"},
    {"mode", "{mtls: {mode: strict}}", "invalid spec.mtls.mode: must be one of UNSET, DISABLE, "},
};

START_TEST(pa_validate_)
{
    check_one(API_PEER_AUTHENTICATION, &pas[_i]);
}
END_TEST

START_TEST(pa_fields)
{
    struct arena a = ARENA_INIT;
    struct pa *pa;
    json_t *obj = object_of("PeerAuthentication",
                            "{selector: {matchLabels: {a: b}}, portLevelMtls: {'9090': {}, '80': "
                            "{mode: STRICT}}}");

    ck_assert_int_eq(pa_decode(obj, &a, &pa, NULL), 0);
    ck_assert_int_eq(pa->mode, PA_UNSET);
    ck_assert_uint_eq(pa->n_ports, 2);
    ck_assert_uint_eq(pa->ports[0].port, 80);
    ck_assert_int_eq(pa->ports[0].mode, PA_STRICT);
    ck_assert_int_eq(pa->ports[1].mode, PA_UNSET);
    ck_assert(!api_selector_is_all(&pa->selector));
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

#define FROM(s) "{rules: [{from: [{source: {" s "}}]}]}"
#define TO(s) "{rules: [{to: [{operation: {" s "}}]}]}"

static const struct check_case aps[] = {
    {"deny all", "{}", ""},
    {"allow all", "{rules: [{}]}", ""},
    {"the served part",
     "{selector: {matchLabels: {app: order}}, action: DENY, rules: [{from: [{source: {principals: "
     "[cluster.local/ns/shop/sa/payment], notNamespaces: [a], ipBlocks: [10.0.0.0/8]}}], to: "
     "[{operation: {ports: ['80'], methods: [GET], hosts: ['*.a'], paths: [/x*]}}]}]}",
     ""},
    {"empty source", "{rules: [{from: [{source: {}}]}]}",
     "invalid spec.rules[0].from[0].source: is required and must not be empty"},
    {"no source", "{rules: [{from: [{}]}]}", "invalid spec.rules[0].from[0].source: is required"},
    {"empty from", "{rules: [{from: []}]}", "invalid spec.rules[0].from: is empty"},
    {"no operation", "{rules: [{to: [{}]}]}", "invalid spec.rules[0].to[0].operation: is required"},
    {"port", TO("ports: [http]"), "invalid spec.rules[0].to[0].operation.ports[0]: must be a port"},
    {"range", FROM("ipBlocks: [x]"), "invalid spec.rules[0].from[0].source.ipBlocks[0]"},
    {"star within", FROM("principals: ['a*b']"), "suspect spec.rules[0].from[0].source.principals"},
    {"empty value", FROM("principals: ['']"), "must not be empty"},
    {"template", TO("paths: ['/a/{*}/b', '/c/{**}', '/d/{**}/e']"), ""},
    {"template within a segment", TO("paths: ['/a{*}']"),
     "invalid spec.rules[0].to[0].operation.paths[0]: \"/a{*}\" is no template"},
    {"two rests", TO("paths: ['/{**}/{*}']"), "is no template"},
    {"other braces", TO("paths: ['/{id}']"), "is no template"},
    {"custom without provider", "{action: CUSTOM, rules: [{}]}",
     "invalid spec.provider: action CUSTOM needs"},
    {"provider without custom", "{provider: {name: p}}", "invalid spec.provider: is for action"},
    {"deny nothing", "{action: DENY}", "suspect spec.rules: a DENY without rules"},
    {"when", "{rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]}", ""},
    {"when by token", "{rules: [{when: [{key: request.auth.principal, values: [a]}]}]}",
     "closed spec: a condition's key is not implemented"},
    {"when without values", "{rules: [{when: [{key: source.ip}]}]}",
     "invalid spec.rules[0].when[0]: needs values"},
    {"unknown attribute", "{rules: [{when: [{key: colour, values: [red]}]}]}",
     "invalid spec.rules[0].when[0].key: \"colour\""},
    {"audit is named", "{action: AUDIT, rules: [{}]}", "unsupported spec.action: AUDIT is not"},
    {"selector and target",
     "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: s}]}",
     "invalid spec: has both selector and targetRefs"},
};

START_TEST(ap_validate_)
{
    check_one(API_AUTHORIZATION_POLICY, &aps[_i]);
}
END_TEST

static const struct {
    const char *name, *object, *want;
} closed[] = {
    {"open", "{metadata: {name: x}, spec: {rules: [{}]}}", NULL},
    {"tokens", "{metadata: {name: x}, spec: " FROM("requestPrincipals: ['*']") "}",
     "requestPrincipals is not implemented"},
    {"negated too", "{metadata: {name: x}, spec: " FROM("notRemoteIpBlocks: [10.0.0.1]") "}",
     "notRemoteIpBlocks is not implemented"},
    {"custom", "{metadata: {name: x}, spec: {action: CUSTOM, provider: {name: p}}}",
     "action CUSTOM is not implemented"},
    {"audit never refuses",
     "{metadata: {name: x}, spec: {action: AUDIT, rules: [{when: [{key: source.ip, values: "
     "[a]}]}]}}",
     NULL},
    {"dry run never refuses",
     "{metadata: {name: x, annotations: {istio.io/dry-run: 'true'}}, spec: "
     "{action: CUSTOM, provider: {name: p}}}",
     NULL},
    {"header",
     "{metadata: {name: x}, spec: {rules: [{when: [{key: 'request.headers[x]', values: "
     "[a]}]}]}}",
     NULL},
    {"claims",
     "{metadata: {name: x}, spec: {rules: [{when: [{key: 'request.auth.claims[x]', "
     "values: [a]}]}]}}",
     "a condition's key is not implemented"},
    {"unreadable", "{metadata: {name: x}, spec: {rules: [{from: [{source: {principals: a}}]}]}}",
     "it could not be read"},
    {"unreadable action", "{metadata: {name: x}, spec: {action: PERHAPS}}",
     "it could not be read"},
};

START_TEST(fails_closed)
{
    struct arena a = ARENA_INIT;
    struct ap *ap;
    const char *got;
    json_t *obj = object_of(NULL, closed[_i].object);

    ck_assert_int_eq(ap_decode(obj, &a, &ap, NULL), 0);
    got = ap_closed_reason(ap);
    ck_assert_msg((got == NULL) == (closed[_i].want == NULL) &&
                      (!got || strcmp(got, closed[_i].want) == 0),
                  "%s: %s", closed[_i].name, got ? got : "open");
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

static const struct {
    const char *name, *object, *want;
} meshes[] = {
    {"defaults", "{metadata: {name: default}}", ""},
    {"other name", "{metadata: {name: other}}", "invalid metadata.name: the mesh of a cluster"},
    {"trust domain", "{metadata: {name: default}, spec: {trustDomain: 'a/b'}}",
     "invalid spec.trustDomain"},
    {"certificate's life", "{metadata: {name: default}, spec: {mtls: {workloadCertTTL: 1s}}}",
     "invalid spec.mtls.workloadCertTTL: must be between 60s"},
    {"quantity",
     "{metadata: {name: default}, spec: {proxy: {resources: {limits: {memory: lots}}}}}",
     "invalid spec.proxy.resources.limits.memory: must be a quantity"},
    {"range", "{metadata: {name: default}, spec: {podCIDRs: [x]}}", "invalid spec.podCIDRs[0]"},
    {"tracing is named", "{metadata: {name: default}, spec: {tracing: {sampling: 5}}}",
     "unsupported spec.tracing.sampling"},
};

START_TEST(mesh_validate)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct buf line;
    json_t *obj = object_of(NULL, meshes[_i].object);

    findings_init(&f, &a);
    buf_init(&line, 4096);
    ck_assert_int_eq(api_check(API_MESH, obj, &a, &f), 0);
    findings_line(&f, &line);
    ck_assert_msg(*meshes[_i].want ? strstr(buf_cstr(&line), meshes[_i].want) != NULL
                                   : buf_len(&line) == 0,
                  "%s: \"%s\"", meshes[_i].name, buf_cstr(&line));
    buf_fini(&line);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

START_TEST(mesh_fields)
{
    struct arena a = ARENA_INIT;
    struct mesh_cr *m;
    json_t *obj = object_of(
        NULL, "{metadata: {name: default}, spec: {trustDomain: example.org, mtls: {floor: STRICT}, "
              "outboundTrafficPolicy: {mode: REGISTRY_ONLY}, discovery: eager, discoveryWait: "
              "250ms, proxy: {resources: {requests: {cpu: 1, memory: 32Mi}, limits: {cpu: '2'}}, "
              "nativeSidecar: Never, concurrency: 0}, accessLog: {encoding: JSON}}}");

    ck_assert_int_eq(mesh_cr_decode(obj, &a, &m, NULL), 0);
    ck_assert(slice_is(m->trust_domain, "example.org"));
    ck_assert(slice_is(m->mesh_id, "example.org"));
    ck_assert(slice_is(m->root_namespace, "istio-system"));
    ck_assert_int_eq(m->mtls_floor, PA_STRICT);
    ck_assert_int_eq(m->outbound, MESH_REGISTRY_ONLY);
    ck_assert_int_eq(m->discovery, MESH_EAGER);
    ck_assert_int_eq(m->discovery_wait_ns, 250000000);
    ck_assert(slice_is(m->proxy.cpu_request, "1"));
    ck_assert(slice_is(m->proxy.memory_request, "32Mi"));
    ck_assert(slice_is(m->proxy.cpu_limit, "2"));
    ck_assert(slice_is(m->proxy.memory_limit, "64Mi"));
    ck_assert_int_eq(m->proxy.native_sidecar, MESH_NATIVE_NEVER);
    ck_assert(m->proxy.concurrency.set && m->proxy.concurrency.v == 0);
    ck_assert_int_eq(m->access_log.encoding, MESH_LOG_JSON);
    ck_assert(m->proxy.dns_capture);
    ck_assert_int_eq(mesh_cr_defaults()->discovery_wait_ns, INT64_C(1000000000));
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

TESTS(policy)
{
    tcase_add_loop_test(tc, pa_validate_, 0, N_OF(pas));
    tcase_add_test(tc, pa_fields);
    tcase_add_loop_test(tc, ap_validate_, 0, N_OF(aps));
    tcase_add_loop_test(tc, fails_closed, 0, N_OF(closed));
    tcase_add_loop_test(tc, mesh_validate, 0, N_OF(meshes));
    tcase_add_test(tc, mesh_fields);
}
