/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/dr.h"
#include "tests/unit/mesh/api/api_test.h"

#define POLICY(p) "{host: b, trafficPolicy: {" p "}}"

static const struct check_case cases[] = {
    {"least", "{host: b}", ""},
    {"the served part",
     "{host: b, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, loadBalancer: {simple: ROUND_ROBIN}, "
     "connectionPool: {tcp: {maxConnections: 10, connectTimeout: 1s}, http: "
     "{http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: "
     "4}}, outlierDetection: {consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 30s, "
     "maxEjectionPercent: 50}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}, "
     "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: "
     "RANDOM}}}]}",
     ""},
    {"no host", "{}", "invalid spec.host: must name a host"},
    {"address", "{host: 10.0.0.1}", "invalid spec.host: must be a host name"},
    {"mutual without key", POLICY("tls: {mode: MUTUAL}"),
     "invalid spec.trafficPolicy.tls: mode MUTUAL needs"},
    {"simple", POLICY("tls: {mode: SIMPLE, caCertificates: /etc/roots.pem, sni: a.example}"), ""},
    {"a secret for nobody", POLICY("tls: {mode: SIMPLE, credentialName: s}"),
     "suspect spec.workloadSelector: tls.credentialName holds for sidecars only when"},
    {"a secret",
     "{host: a, workloadSelector: {matchLabels: {app: a}}, trafficPolicy: {tls: {mode: SIMPLE, "
     "credentialName: s}}}",
     ""},
    {"disable is not", POLICY("tls: {mode: DISABLE}"), ""},
    {"old balancer", POLICY("loadBalancer: {simple: LEAST_CONN}"),
     "deprecated spec.trafficPolicy.loadBalancer.simple: LEAST_CONN"},
    {"hash without key", POLICY("loadBalancer: {consistentHash: {}}"),
     "invalid spec.trafficPolicy.loadBalancer.consistentHash: must hold"},
    {"hash", POLICY("loadBalancer: {consistentHash: {useSourceIp: true}}"), ""},
    {"table that is no prime",
     POLICY("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1000}}}"),
     "suspect spec.trafficPolicy.loadBalancer.consistentHash: maglev.tableSize must be a prime"},
    {"too large a ring",
     POLICY("loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: "
            "8388608}}}"),
     "suspect spec.trafficPolicy.loadBalancer.consistentHash: rings have at most 262144"},
    {"no status", POLICY("outlierDetection: {outlierDetectionHttpErrorCodes: ['429', '4xx']}"),
     "invalid spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[1]: must be a "
     "status"},
    {"negative limit", POLICY("connectionPool: {tcp: {maxConnections: -1}}"),
     "invalid spec.trafficPolicy.connectionPool.tcp.maxConnections: must be 0..2147483647"},
    {"short interval", POLICY("outlierDetection: {interval: 1us}"),
     "invalid spec.trafficPolicy.outlierDetection.interval: must be at least 1ms"},
    {"share", POLICY("outlierDetection: {maxEjectionPercent: 101}"),
     "invalid spec.trafficPolicy.outlierDetection.maxEjectionPercent: must be 0..100"},
    {"old errors", POLICY("outlierDetection: {consecutiveErrors: 3}"),
     "deprecated spec.trafficPolicy.outlierDetection.consecutiveErrors"},
    {"port missing", POLICY("portLevelSettings: [{tls: {mode: DISABLE}}]"),
     "invalid spec.trafficPolicy.portLevelSettings[0].port.number: must be a port"},
    {"port twice", POLICY("portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]"),
     "suspect spec.trafficPolicy.portLevelSettings[1].port.number: port 1 stands here twice"},
    {"subset twice", "{host: b, subsets: [{name: a, labels: {x: y}}, {name: a, labels: {x: z}}]}",
     "suspect spec.subsets[1].name: \"a\" is defined twice"},
    {"subset without labels", "{host: b, subsets: [{name: a}]}",
     "suspect spec.subsets[0].labels: without labels"},
    {"subset's name", "{host: b, subsets: [{name: 'a b', labels: {x: y}}]}",
     "invalid spec.subsets[0].name"},
    {"label's value", "{host: b, subsets: [{name: a, labels: {x: 'v*'}}]}",
     "invalid spec.subsets[0].labels.x: \"v*\" is no value of a label"},
    {"unknown mode", POLICY("tls: {mode: MAYBE}"),
     "invalid spec.trafficPolicy.tls.mode: must be one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL, "
     "is \"MAYBE\""},
    {"distribute",
     POLICY("loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}}"),
     "invalid spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0]: the shares must"},
    {"below a subset",
     "{host: b, subsets: [{name: a, labels: {x: y}, trafficPolicy: {tunnel: "
     "{targetHost: h, targetPort: 1}}}]}",
     "unsupported spec.subsets[0].trafficPolicy.tunnel"},
};

START_TEST(validate)
{
    check_one(API_DESTINATION_RULE, &cases[_i]);
}
END_TEST

START_TEST(fields)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct dr *dr;
    json_t *obj = object_of(
        "DestinationRule",
        "{host: B, trafficPolicy: {outlierDetection: {consecutiveErrors: 3}, loadBalancer: "
        "{warmupDurationSecs: 10s, consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {}}}, "
        "proxyProtocol: {}, portLevelSettings: [{port: {number: 80}}]}, subsets: [{name: v1, "
        "labels: {z: '1', a: '2'}}], workloadSelector: {matchLabels: {app: c}}}");

    findings_init(&f, &a);
    ck_assert_int_eq(dr_decode(obj, &a, &dr, &f), 0);
    ck_assert(slice_is(dr->host, "b"));
    ck_assert(dr->policy->outlier->consecutive_5xx.set);
    ck_assert_uint_eq(dr->policy->outlier->consecutive_5xx.v, 3);
    ck_assert(dr->policy->outlier->consecutive_errors);
    ck_assert_int_eq(dr->policy->outlier->interval_ns, 10 * INT64_C(1000000000));
    ck_assert_uint_eq(dr->policy->outlier->max_ejection_percent, 10);
    ck_assert_int_eq(dr->policy->load_balancer->warmup->duration_ns, 10 * INT64_C(1000000000));
    ck_assert_int_eq(dr->policy->load_balancer->hash->key, DR_HASH_COOKIE);
    ck_assert_int_eq(dr->policy->load_balancer->hash->algorithm, DR_HASH_MAGLEV);
    ck_assert(dr->policy->load_balancer->hash->cookie_ttl.set);
    ck_assert_int_eq(dr->policy->proxy_protocol, DR_PROXY_PROTOCOL_V1);
    ck_assert(!dr->policy->tls && !dr->policy->connection_pool);
    ck_assert(dr_policy_port(dr->policy, 80) && !dr_policy_port(dr->policy, 81));
    ck_assert(!dr_policy_port(NULL, 80));
    ck_assert(dr_subset_find(dr, SL("v1")) == &dr->subsets[0]);
    ck_assert(!dr_subset_find(dr, SL("v2")));
    ck_assert(slice_is(dr->subsets[0].labels.p[0].key, "a"));
    ck_assert(dr->workload_selector.set);
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

START_TEST(out_of_memory)
{
    json_t *obj = object_of("DestinationRule", cases[1].spec);

    OOM_SWEEP (n) {
        struct arena a = ARENA_INIT;
        struct findings f;

        findings_init(&f, &a);
        if (api_check(API_DESTINATION_RULE, obj, &a, &f) == 0 && !mem_fail_hit())
        ck_assert(!findings_has(&f, FINDING_ERROR) && !findings_has(&f, FINDING_WARNING));
        arena_fini(&a);
    }
    json_decref(obj);
}
END_TEST

TESTS(dr)
{
    tcase_add_loop_test(tc, validate, 0, N_OF(cases));
    tcase_add_test(tc, fields);
    tcase_add_test(tc, out_of_memory);
}
