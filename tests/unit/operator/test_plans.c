/* SPDX-License-Identifier: Apache-2.0 */
/* The controllers' pure middles. Plans print as text; an empty one is convergence. */
#include <string.h>

#include "lib/base/hash.h"
#include "lib/data/json.h"
#include "operator/addresses.h"
#include "operator/ca.h"
#include "operator/ctl_plans.h"
#include "operator/token.h"
#include "tests/unit/tcase.h"

static json_t *J(const char *text)
{
    json_t *v;
    struct err err = {0};
    ck_assert_msg(json_parse(slice_str(text), NULL, &v, &err) == 0, "%s: %s", text, err.msg);
    return v;
}

static void plan_is(struct plan *p, const char *name, const char *want)
{
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, 1 << 20);
    plan_text(p, &b);
    ck_assert_msg(strcmp(buf_cstr(&b), want) == 0, "%s:\n%s", name, buf_cstr(&b));
    plan_fini(p);
}

#define APPLY                                                                                      \
    "apply ConfigMap shop/istio-ca-root-cert as tulle-operator {\"data\":{\"root-cert.pem\":"      \
    "\"PEM\"},\"metadata\":{\"labels\":{\"app.kubernetes.io/managed-by\":\"tulle-operator\","      \
    "\"istio.io/config\":\"true\"}}}\n"
static const struct {
    const char *name;
    bool meshed, terminating, roots, exists, ours, same;
    const char *want;
} rootcerts[] = {
    {"label on", true, false, true, false, false, false, APPLY},
    {"other content", true, false, true, true, true, false, APPLY},
    {"converged", true, false, true, true, true, true, ""},
    {"no CA yet", true, false, false, false, false, false, ""},
    {"going away", true, true, true, false, false, false, ""},
    {"label off", false, false, true, true, true, true,
     "delete ConfigMap shop/istio-ca-root-cert\n"},
    {"label off, made by another", false, false, true, true, false, false, ""},
    {"never meshed", false, false, true, false, false, false, ""},
};
START_TEST(rootcert)
{
    struct plan p = {0};
    struct rootcert_seen s = {
        .ns = SL("shop"), .roots = rootcerts[_i].roots ? SL("PEM") : SLICE_NULL,
        .meshed = rootcerts[_i].meshed, .terminating = rootcerts[_i].terminating,
        .exists = rootcerts[_i].exists, .ours = rootcerts[_i].ours, .same = rootcerts[_i].same,
    };
    rootcert_plan(&s, &p);
    plan_is(&p, rootcerts[_i].name, rootcerts[_i].want);
}
END_TEST

#define DAYS(n) ((n) * INT64_C(24) * 3600 * NS_PER_S)
static const struct {
    const char *name, *roots, *secret_ca;
    int64_t left_ns;
    bool want;
} hooks[] = {
    {"no secret", "A", "", 0, true},
    {"fresh", "A", "A", DAYS(29), false},
    {"near its end", "A", "A", DAYS(9), true},
    {"another root", "B", "A", DAYS(29), true},
    {"no CA yet", "", "", 0, false},
};
START_TEST(webhook_certificate)
{
    struct webhook_seen s = {.roots = slice_str(hooks[_i].roots),
                             .secret_ca = slice_str(hooks[_i].secret_ca), .now_ns = DAYS(1000),
                             .not_after_ns = hooks[_i].left_ns ? DAYS(1000) + hooks[_i].left_ns : 0};
    ck_assert_msg(webhook_wants_certificate(&s) == hooks[_i].want, "%s", hooks[_i].name);
}
END_TEST

START_TEST(webhook_bundle_overlaps)
{
    struct plan p = {0};
    json_t *config = J("{\"webhooks\":[{\"name\":\"a\",\"clientConfig\":{}},{\"name\":\"b\","
                       "\"clientConfig\":{\"caBundle\":\"T0xE\"}}]}");
    json_t *good = J("{\"webhooks\":[{\"name\":\"a\",\"clientConfig\":{\"caBundle\":\"TkVX\"}}]}");
    struct webhook_seen s = {.roots = SL("NEW"), .secret_ca = SL("OLD"), .mutating = config};
    webhook_plan_bundle(&s, &p); /* TkVXT0xE: both */
    plan_is(&p, "both roots",
            "apply MutatingWebhookConfiguration tulle-sidecar-injector as tulle-operator-webhook "
            "{\"webhooks\":[{\"clientConfig\":{\"caBundle\":\"TkVXT0xE\"},\"name\":\"a\"},"
            "{\"clientConfig\":{\"caBundle\":\"TkVXT0xE\"},\"name\":\"b\"}]}\n");
    s.secret_ca = SL("NEW");
    s.mutating = good;
    webhook_plan_bundle(&s, &p);
    plan_is(&p, "converged", "");
    json_decref(config);
    json_decref(good);
}
END_TEST

static const struct {
    const char *name, *config;
    bool want;
} foreign[] = {
    {"ours", "{\"metadata\":{\"name\":\"tulle-sidecar-injector\"},\"webhooks\":[{\"namespaceSelector\":"
             "{\"matchLabels\":{\"istio-injection\":\"enabled\"}}}]}", false},
    {"istio by label", "{\"metadata\":{\"name\":\"x\"},\"webhooks\":[{\"namespaceSelector\":"
                       "{\"matchLabels\":{\"istio-injection\":\"enabled\"}}}]}", true},
    {"istio by expression", "{\"metadata\":{\"name\":\"x\"},\"webhooks\":[{\"namespaceSelector\":{"
     "\"matchExpressions\":[{\"key\":\"istio-injection\",\"operator\":\"In\",\"values\":[\"enabled\"]}]}}]}",
     true},
    {"istio of a revision", "{\"metadata\":{\"name\":\"x\"},\"webhooks\":[{\"namespaceSelector\":{"
     "\"matchExpressions\":[{\"key\":\"istio-injection\",\"operator\":\"DoesNotExist\"}]}}]}", false},
    {"another's", "{\"metadata\":{\"name\":\"vault\"},\"webhooks\":[{}]}", false},
};
START_TEST(foreign_injector)
{
    json_t *c = J(foreign[_i].config);
    ck_assert_msg(webhook_is_foreign(c) == foreign[_i].want, "%s", foreign[_i].name);
    json_decref(c);
}
END_TEST

#define SIDECAR(image) "{\"spec\":{\"initContainers\":[{\"name\":\"istio-proxy\",\"restartPolicy\":\"Always\",\"image\":\"" image "\"}]}"
static const struct {
    const char *mesh, *pod;
    bool old;
} releases[] = {
    {"r:5000/a/tulle-proxy:0.1.0", SIDECAR("r:5000/a/tulle-proxy:0.1.0") "}", false},
    {"r:5000/a/tulle-proxy:0.1.0", SIDECAR("r:5000/a/tulle-proxy:0.0.9") "}", true},
    {"r:5000/a/tulle-proxy:0.1.0", SIDECAR("r:5000/a/tulle-proxy") "}", true},
    {"r:5000/a/tulle-proxy@sha256:aa", SIDECAR("r:5000/a/tulle-proxy@sha256:ab") "}", true},
    {"r:5000/a/tulle-proxy:0.1.0", SIDECAR("mirror/tulle-proxy:0.1.0") "}", false},
    {"r:5000/a/tulle-proxy:0.1.0", SIDECAR("mine:1") "}", false}, /* of the user's */
    {"r:5000/a/tulle-proxy:0.1.0", SIDECAR("") "}", false},
    {"", SIDECAR("tulle-proxy:1") "}", false},
    {"tulle-proxy:2", SIDECAR("tulle-proxy:1") ",\"metadata\":{\"annotations\":{\"sidecar.istio.io/proxyImage\":"
     "\"tulle-proxy:1\"}}}", false},
    {"tulle-proxy:2", SIDECAR("tulle-proxy:1") ",\"status\":{\"phase\":\"Succeeded\"}}", false},
    {"tulle-proxy:2", "{\"spec\":{\"containers\":[{\"name\":\"istio-proxy\",\"image\":\"tulle-proxy:1\"}]}}", true},
    {"tulle-proxy:2", "{\"spec\":{\"containers\":[{\"name\":\"app\",\"image\":\"tulle-proxy:1\"}]}}", false},
};
START_TEST(sidecars_of_another_release)
{
    json_t *v = J(releases[_i].pod);
    struct pod_fact f = pod_fact_of(v);
    ck_assert_msg(pod_is_old(&f, image_id_of(slice_str(releases[_i].mesh))) == releases[_i].old, "%s: %s",
                  releases[_i].mesh, releases[_i].pod);
    json_decref(v);
}
END_TEST

static const struct {
    const char *name, *text;
    bool meshed, off, no_net_admin;
} namespaces[] = {
    {"plain", "{\"metadata\":{}}", false, false, false},
    {"enabled", "{\"metadata\":{\"labels\":{\"istio-injection\":\"enabled\"}}}", true, false, false},
    {"disabled beats rev", "{\"metadata\":{\"labels\":{\"istio-injection\":\"disabled\",\"istio.io/rev\":"
                           "\"tulle\"}}}", false, true, false},
    {"revision", "{\"metadata\":{\"labels\":{\"istio.io/rev\":\"tulle\"}}}", true, false, false},
    {"another revision", "{\"metadata\":{\"labels\":{\"istio.io/rev\":\"1-22\"}}}", false, false, false},
    {"restricted", "{\"metadata\":{\"labels\":{\"istio-injection\":\"enabled\","
                   "\"pod-security.kubernetes.io/enforce\":\"restricted\"}}}", true, false, true},
};
START_TEST(namespace_facts)
{
    json_t *v = J(namespaces[_i].text);
    struct ns_fact f = ns_fact_of(v, "tulle");
    ck_assert_msg(f.meshed == namespaces[_i].meshed && f.off == namespaces[_i].off &&
                      f.no_net_admin == namespaces[_i].no_net_admin, "%s", namespaces[_i].name);
    json_decref(v);
}
END_TEST

static const struct {
    const char *name, *status, *ns, *sa; /* ns NULL: refused */
} reviews[] = {
    {"good", "{\"authenticated\":true,\"audiences\":[\"istio-ca\"],\"user\":{\"username\":"
             "\"system:serviceaccount:shop:cart\"}}", "shop", "cart"},
    {"not authenticated", "{\"authenticated\":false,\"error\":\"expired\"}", NULL, NULL},
    {"another audience", "{\"authenticated\":true,\"audiences\":[\"vault\"],\"user\":{\"username\":"
                         "\"system:serviceaccount:shop:cart\"}}", NULL, NULL},
    {"audiences not compared", "{\"authenticated\":true,\"user\":{\"username\":"
                               "\"system:serviceaccount:shop:cart\"}}", NULL, NULL},
    {"a person", "{\"authenticated\":true,\"audiences\":[\"istio-ca\"],\"user\":{\"username\":\"eve\"}}",
     NULL, NULL},
    {"no account", "{\"authenticated\":true,\"audiences\":[\"istio-ca\"],\"user\":{\"username\":"
                   "\"system:serviceaccount:shop\"}}", NULL, NULL},
    {"one part too many", "{\"authenticated\":true,\"audiences\":[\"istio-ca\"],\"user\":{\"username\":"
                          "\"system:serviceaccount:a:b:c\"}}", NULL, NULL},
    {"a path in the account", "{\"authenticated\":true,\"audiences\":[\"istio-ca\"],\"user\":{\"username\":"
                              "\"system:serviceaccount:shop:../sa/x\"}}", NULL, NULL},
};
START_TEST(token_reviews)
{
    char text[600];
    struct token_owner o;
    struct err err = {0};
    snprintf(text, sizeof text, "{\"status\":%s}", reviews[_i].status);
    json_t *v = J(text);
    int rc = token_review_read(v, &o, &err);
    ck_assert_msg((rc == 0) == (reviews[_i].ns != NULL), "%s: %s", reviews[_i].name, err.msg);
    if (rc == 0) {
        ck_assert_str_eq(o.ns, reviews[_i].ns);
        ck_assert_str_eq(o.sa, reviews[_i].sa);
    } else {
        ck_assert_int_eq(err.code, ERR_DENIED);
    }
    json_decref(v);
}
END_TEST

START_TEST(tokens_and_lives)
{
    struct slice file = SL("# tokens\nabc shop  cart\nxyz bank teller\n");
    struct token_owner o;
    struct err err = {0};
    ck_assert_int_eq(token_in_file(file, SL("xyz"), &o, &err), 0);
    ck_assert_str_eq(o.sa, "teller");
    ck_assert_int_eq(token_in_file(file, SL("abc"), &o, &err), 0);
    ck_assert_str_eq(o.ns, "shop");
    ck_assert_int_eq(token_in_file(file, SL("ab"), &o, &err), -1);
    ck_assert_int_eq(token_in_file(file, SL("#"), &o, &err), -1);
    ck_assert(slice_is(token_bearer(SL("Bearer t.o-k")), "t.o-k"));
    ck_assert_uint_eq(token_bearer(SL("Basic dTpw")).len, 0);
    ck_assert_uint_eq(token_bearer(SL("Bearer a b")).len, 0);
    ck_assert_int_eq(ca_life(0, 86400), 86400);
    ck_assert_int_eq(ca_life(1, 86400), 60);
    ck_assert_int_eq(ca_life(3600, 86400), 3600);
    ck_assert_int_eq(ca_life(999999, 86400), 86400);
}
END_TEST

static void config_put(struct index *x, const char *ns, const char *name, int day, const char *spec)
{
    char text[512];
    struct err err = {0};

    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\",\"creationTimestamp\":"
             "\"2026-01-%02dT00:00:00Z\"},\"spec\":%s}", name, ns, day, spec);
    CLEANUP(json_freep) json_t *v = J(text);
    ck_assert_msg(index_put(x, INDEX_PC, v, NULL, &err) == 0, "%s", err.msg);
}

/* Oldest first; what says nothing of a sidecar, or is not valid, is left out. */
START_TEST(proxy_configs)
{
    struct index *x = index_new();
    char big[400];

    config_put(x, "shop", "young", 3, "{\"concurrency\":3}");
    config_put(x, "shop", "web", 2, "{\"selector\":{\"matchLabels\":{\"app\":\"web\"}},"
                                    "\"environmentVariables\":{\"A\":\"b\"}}");
    config_put(x, "istio-system", "all", 1, "{\"concurrency\":0}");
    config_put(x, "istio-system", "some", 4, "{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},"
                                             "\"concurrency\":1}");
    config_put(x, "shop", "image", 1, "{\"image\":{\"imageType\":\"debug\"}}");
    config_put(x, "shop", "bound", 1, "{\"targetRef\":{\"kind\":\"Gateway\",\"name\":\"x\"},"
                                      "\"concurrency\":1}");
    config_put(x, "shop", "wrong", 1, "{\"concurrency\":1,\"environmentVariables\":{\"a=b\":\"c\"}}");
    CLEANUP(json_freep) json_t *got = injector_proxy_configs(x);
    CLEANUP(json_freep) json_t *want =
        J("[{\"namespace\":\"\",\"config\":{\"concurrency\":0}},"
          "{\"namespace\":\"shop\",\"matchLabels\":{\"app\":\"web\"},\"config\":{\"proxyMetadata\":"
          "{\"A\":\"b\"}}},{\"namespace\":\"shop\",\"config\":{\"concurrency\":3}},"
          "{\"namespace\":\"istio-system\",\"matchLabels\":{\"a\":\"b\"},\"config\":{\"concurrency\":1}}]");
    CLEANUP(mem_freep) char *text = json_text(got, JSON_COMPACT);
    ck_assert_msg(json_equal(got, want), "%s", text);

    /* As many as find room. */
    for (int i = 0; i < INJECTOR_CONFIGS_MAX; i++) {
        snprintf(big, sizeof big, "c%d", i);
        config_put(x, "bank", big, 5, "{\"concurrency\":1}");
    }
    CLEANUP(json_freep) json_t *most = injector_proxy_configs(x);
    ck_assert_uint_eq(json_array_size(most), INJECTOR_CONFIGS_MAX);
    index_free(x);
}
END_TEST

START_TEST(environment_has_an_end)
{
    struct index *x = index_new();
    CLEANUP(buf_freep) struct buf b;
    struct err err = {0};

    for (int i = 0; i < 3; i++) {
        buf_init(&b, 1 << 20);
        buf_addf(&b, "{\"metadata\":{\"name\":\"c%d\",\"namespace\":\"shop\"},\"spec\":"
                     "{\"environmentVariables\":{\"A\":\"%0*d\"}}}",
                 i, INJECTOR_CONFIGS_BYTES / 2 - 10, 0);
        CLEANUP(json_freep) json_t *v = J(buf_cstr(&b));
        ck_assert_msg(index_put(x, INDEX_PC, v, NULL, &err) == 0, "%s", err.msg);
        buf_fini(&b);
    }
    CLEANUP(json_freep) json_t *got = injector_proxy_configs(x);
    ck_assert_uint_eq(json_array_size(got), 2);
    buf_init(&b, 16);
    index_free(x);
}
END_TEST

START_TEST(addresses_stay_and_never_meet)
{
    struct map taken = {0};
    struct ipaddr a, b;
    char text[IP_TEXT];
    ck_assert(address_pick(SL("a.example"), false, &taken, &a));
    ck_assert(address_pick(SL("a.example"), false, &taken, &b));
    ck_assert(ip_eq(&a, &b)); /* by the host alone */
    map_put(&taken, slice_str(ip_format(&a, text)), &a, NULL);
    ck_assert(address_pick(SL("a.example"), false, &taken, &b));
    ck_assert(!ip_eq(&a, &b));
    for (int i = 0; i < 65533; i++) {
        char host[32];
        snprintf(host, sizeof host, "h%d", i % 3); /* hashes that meet */
        ck_assert(address_pick(slice_str(host), false, &taken, &b));
        ck_assert(b.b[0] == 240 && b.b[1] == 240 && !map_get(&taken, slice_str(ip_format(&b, text))));
        map_put(&taken, slice_str(ip_format(&b, text)), &a, NULL);
        if (i == 2000) /* the whole range takes a while: jump */
            break;
    }
    map_fini(&taken);
}
END_TEST

START_TEST(mesh_status_tells_what_is_wrong)
{
    json_t *none = json_array(), *some = J("[\"first\",\"second\"]");
    struct mesh_seen s = {.mode = PA_PERMISSIVE, .generation = 3, .now_s = 1700000000,
                          .fingerprint = "ab", .version = "1", .total = 4, .ready = 3,
                          .connected = 2, .bare = none, .stale = none, .edges = none, .problems = none,
                          .ca_ready = true};
    json_t *x = mesh_status(&s);
    ck_assert_str_eq(json_string_value(json_object_get(x, "message")),
                     "3 of 4 sidecars are ready, 2 connected");
    ck_assert_str_eq(json_string_value(json_object_get(x, "mtls")), "PERMISSIVE");
    ck_assert_uint_eq(json_array_size(json_object_get(x, "conditions")), 1);
    s.problems = some;
    s.old = x;
    s.now_s += 60;
    json_t *y = mesh_status(&s);
    ck_assert_str_eq(json_string_value(json_object_get(y, "message")), "2 findings: first");
    ck_assert_uint_eq(json_array_size(json_object_get(y, "conditions")), 2);
    const json_t *ready = kube_condition_find(json_object_get(y, "conditions"), "Ready");
    ck_assert_str_eq(json_string_value(json_object_get(ready, "lastTransitionTime")),
                     "2023-11-14T22:13:20Z"); /* it did not flip */
    json_decref(x);
    json_decref(y);
    json_decref(none);
    json_decref(some);
}
END_TEST

TESTS(plans)
{
    json_setup();
    tcase_add_loop_test(tc, rootcert, 0, N_OF(rootcerts));
    tcase_add_loop_test(tc, webhook_certificate, 0, N_OF(hooks));
    tcase_add_test(tc, proxy_configs);
    tcase_add_test(tc, environment_has_an_end);
    tcase_add_test(tc, webhook_bundle_overlaps);
    tcase_add_loop_test(tc, foreign_injector, 0, N_OF(foreign));
    tcase_add_loop_test(tc, namespace_facts, 0, N_OF(namespaces));
    tcase_add_loop_test(tc, sidecars_of_another_release, 0, N_OF(releases));
    tcase_add_loop_test(tc, token_reviews, 0, N_OF(reviews));
    tcase_add_test(tc, tokens_and_lives);
    tcase_add_test(tc, addresses_stay_and_never_meet);
    tcase_add_test(tc, mesh_status_tells_what_is_wrong);
}
