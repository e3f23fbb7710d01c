/* SPDX-License-Identifier: Apache-2.0 */
/* Judgments of `tulle check`: a cluster that is well, and one fact after another made wrong. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/judge.h"
#include "lib/data/json.h"

enum of { PRE, MESH, UPGRADE };

/* Everything is well in it. Texts of JSON take ' for ". */
static const char well[] =
    "{'errors':{},'now':1000000000,'cli':'0.1.0','version':{'major':'1','minor':'34'},"
    "'nodes':[{'metadata':{'name':'n1'},'status':{'nodeInfo':{'operatingSystem':'linux',"
    "'kernelVersion':'6.1.0-18-amd64','kubeletVersion':'v1.34.4'}}}],"
    "'namespaces':[{'metadata':{'name':'shop','labels':{'istio-injection':'enabled'}}}],"
    "'access':[{'verb':'create','resource':'services','allowed':true}],"
    "'deployments':[{'metadata':{'name':'tulle-operator','labels':{'app.kubernetes.io/part-of':"
    "'tulle'}},'spec':{'replicas':2,'template':{'spec':{'containers':[{'env':[{'name':"
    "'TULLE_PROXY_IMAGE','value':'r:5000/tulle-proxy:0.1.0'}]}]}}},"
    "'status':{'readyReplicas':2,'updatedReplicas':2}},"
    "{'metadata':{'name':'tulle-injector'},'spec':{'replicas':2},'status':{'readyReplicas':2,"
    "'updatedReplicas':2}}],"
    "'mesh':{'status':{'version':'0.1.0','conditions':[{'type':'Ready','status':'True'}],"
    "'proxies':{'total':1,'connected':1},'barePods':[],'stalePods':[],'problems':[]}},"
    "'pods':[{'metadata':{'namespace':'shop','name':'p'},'spec':{'initContainers':[{'name':"
    "'istio-proxy','image':'r:5000/tulle-proxy:0.1.0'}],'containers':[{'name':'app'}]}}],"
    "'ca':{'notAfter':1100000000,'root':1100000000},"
    "'webhook':{'notAfter':1100000000,'ca':'QQ=='},"
    "'mutating':[{'metadata':{'name':'tulle-sidecar-injector','labels':{"
    "'app.kubernetes.io/part-of':'tulle'}},'webhooks':[{'name':'a','clientConfig':{'caBundle':"
    "'QQ=='}}]}],"
    "'validating':[{'metadata':{'name':'tulle-validator'},'webhooks':[{'name':'b','clientConfig':{"
    "'caBundle':'QQ=='}}]}],"
    "'validate':{'asked':true,'right':true,'text':''},'inject':{'asked':true,'right':true,'text':''"
    "}}";

static const struct {
    const char *name;
    enum of of;
    const char *path,
        *value;       /* dotted path into the facts and what stands there; "" = nothing else */
    const char *what; /* the one line that is not well, NULL = all are */
    enum check_result result;
    const char *detail; /* part of it */
} rows[] = {
    {"well before", PRE, "", "", NULL, CHECK_OK, ""},
    {"well", MESH, "", "", NULL, CHECK_OK, ""},
    {"well to upgrade", UPGRADE, "", "", NULL, CHECK_OK, ""},
    {"old API server", PRE, "version.minor", "'29+'", "Kubernetes is 1.30 or later", CHECK_FAIL,
     "1.29+"},
    {"unread", PRE, "errors.nodes", "'denied'", "kernels of the nodes have nf_tables", CHECK_FAIL,
     "denied"},
    {"old kernel", PRE, "nodes.0.status.nodeInfo.kernelVersion", "'4.19.0-5'",
     "kernels of the nodes have nf_tables", CHECK_FAIL, "n1"},
    {"the first kernel that will do", PRE, "nodes.0.status.nodeInfo.kernelVersion", "'5.2.0'", NULL,
     CHECK_OK, ""},
    {"classic sidecars", PRE, "nodes.0.status.nodeInfo.kubeletVersion", "'v1.32.9'",
     "every kubelet knows native sidecars", CHECK_WARN, "n1"},
    {"Windows", PRE, "nodes.0.status.nodeInfo.operatingSystem", "'windows'", "nodes run Linux",
     CHECK_WARN, "n1"},
    {"a right is missing", PRE, "access.0.allowed", "false",
     "you may create what an installation is made of", CHECK_FAIL, "create services"},
    {"Pod Security", PRE, "namespaces.0.metadata.labels",
     "{'istio-injection':'enabled','pod-security.kubernetes.io/enforce':'baseline'}",
     "Pod Security of meshed namespaces allows the init container", CHECK_FAIL, "shop"},
    {"Pod Security of a namespace that is not meshed", PRE, "namespaces.0.metadata.labels",
     "{'istio-injection':'disabled','istio.io/rev':'tulle',"
     "'pod-security.kubernetes.io/enforce':'restricted'}",
     NULL, CHECK_OK, ""},
    {"a real Istio", PRE, "mutating.0",
     "{'metadata':{'name':'istio-x'},'webhooks':[{'name':'namespace.sidecar-injector.istio.io'}]}",
     "no other mesh claims istio-injection=enabled", CHECK_WARN, "istio-x"},
    {"a definition that is not established", PRE, "crds.0.status.conditions.0.status", "'False'",
     "custom resource definitions are served", CHECK_FAIL, "virtualservices"},
    {"a definition that is absent", MESH, "crds.0.metadata.name", "'x'",
     "custom resource definitions are served", CHECK_FAIL, "absent: virtualservices"},
    {"no operator", MESH, "deployments.0.metadata.name", "'x'", "the operator is ready", CHECK_FAIL,
     "no Deployment"},
    {"half of the injectors", MESH, "deployments.1.status.readyReplicas", "1",
     "the injector is ready", CHECK_WARN, "1 of 2"},
    {"scaled to nothing", MESH, "deployments.1.spec.replicas", "0", "the injector is ready",
     CHECK_WARN, "of 0"},
    {"Mesh is not ready", MESH, "mesh.status.conditions.0.status", "'False'",
     "Mesh says that it is ready", CHECK_FAIL, ""},
    {"the root ends", MESH, "ca.root", "1000864000", "the root's end is far", CHECK_WARN,
     "10 days"},
    {"the root ended", MESH, "ca.root", "999000000", "the root's end is far", CHECK_FAIL,
     "11 days ago"},
    {"the CA changes", MESH, "mesh.status.ca",
     "{'state':'Spreading','since':'2026-01-01T00:00:00Z','proxies':'3/4'}",
     "no change of the CA is under way", CHECK_WARN, "3/4"},
    {"the CA does not change", MESH, "mesh.status.ca", "{'state':'Steady'}", NULL, CHECK_OK, ""},
    {"no certificate", MESH, "webhook.notAfter", "null", "the webhooks' certificate is valid",
     CHECK_FAIL, "no such"},
    {"empty bundle", MESH, "mutating.0.webhooks.0.clientConfig", "{}",
     "the injector's caBundle is right", CHECK_FAIL, "empty"},
    {"another bundle", MESH, "validating.0.webhooks.0.clientConfig.caBundle", "'Qg=='",
     "the validator's caBundle is right", CHECK_WARN, "rotation"},
    {"validation is switched off", MESH, "validating", "[]", NULL, CHECK_OK, ""},
    {"the validator lets all pass", MESH, "validate.right", "false", "a wrong object is refused",
     CHECK_FAIL, "dry run"},
    {"no meshed namespace to ask in", MESH, "inject", "null", NULL, CHECK_OK, ""},
    {"the injector is away", MESH, "inject.right", "false",
     "a pod in a meshed namespace gets a sidecar", CHECK_FAIL, "dry run"},
    {"a sidecar is not connected", MESH, "mesh.status.proxies.connected", "0",
     "sidecars are connected to the operator", CHECK_WARN, "0 of 1"},
    {"an old sidecar", MESH, "pods.0.spec.initContainers.0.image", "'r:5000/tulle-proxy:0.0.9'",
     "sidecars are of the operator's release", CHECK_WARN, "shop/p"},
    {"a user's own image", MESH, "pods.0.spec.initContainers.0.image", "'mine:1'", NULL, CHECK_OK,
     ""},
    {"bare pods", MESH, "mesh.status.barePods",
     "['shop/a','shop/b','shop/c','shop/d','shop/e','shop/f']",
     "every pod of a meshed namespace has a sidecar", CHECK_WARN, "shop/e and 1 more"},
    {"stale pods", MESH, "mesh.status.stalePods", "['shop/a']",
     "no pod has a sidecar that is out of date", CHECK_WARN, "shop/a"},
    {"plaintext between workloads", MESH, "mesh.status.plaintextEdges", "['Service shop/a: 1 of 2']",
     "no call between workloads goes in plaintext", CHECK_WARN, "Service shop/a"},
    {"to an older release", UPGRADE, "cli", "'0.0.9'", "this release may follow the one that runs",
     CHECK_FAIL, "older"},
    {"to another major release", UPGRADE, "cli", "'1.0.0'",
     "this release may follow the one that runs", CHECK_WARN, "1.0.0"},
    {"nothing runs", UPGRADE, "mesh.status.version", "''",
     "this release may follow the one that runs", CHECK_FAIL, "no mesh"},
    {"a stored version went", UPGRADE, "crds.0.status.storedVersions", "['v0']",
     "objects are stored in versions that stay", CHECK_FAIL, "virtualservices"},
    {"one replica", UPGRADE, "deployments.0.spec.replicas", "1",
     "the control plane stays while it is replaced", CHECK_WARN, "tulle-operator"},
};

static json_t *parse(const char *text)
{
    char *copy = strdup(text);
    json_error_t e;
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    json_t *v = json_loads(copy, JSON_DECODE_ANY, &e);
    ck_assert_msg(v != NULL, "%s: %s", e.text, text);
    free(copy);
    return v;
}

/* The definitions of all kinds, served. */
static json_t *crds(void)
{
    static const char *const names[] = {
        "virtualservices.networking.istio.io",
        "destinationrules.networking.istio.io",
        "serviceentries.networking.istio.io",
        "peerauthentications.security.istio.io",
        "authorizationpolicies.security.istio.io",
        "meshes.tulle.dev",
        "gateways.networking.istio.io",
        "sidecars.networking.istio.io",
        "workloadentries.networking.istio.io",
        "workloadgroups.networking.istio.io",
        "envoyfilters.networking.istio.io",
        "proxyconfigs.networking.istio.io",
        "requestauthentications.security.istio.io",
        "telemetries.telemetry.istio.io",
        "wasmplugins.extensions.istio.io",
        "trafficextensions.extensions.istio.io",
    };
    json_t *list = json_array();
    for (size_t i = 0; i < N_OF(names); i++)
        json_array_append_new(
            list, json_pack("{s:{s:s, s:{s:s}}, s:{s:[{s:s}]}, s:{s:[s], s:[{s:s, s:s}]}}",
                            "metadata", "name", names[i], "labels", "app.kubernetes.io/part-of",
                            "tulle", "spec", "versions", "name", "v1", "status", "storedVersions",
                            "v1", "conditions", "type", "Established", "status", "True"));
    return list;
}

static void put(json_t *root, const char *path, json_t *value)
{
    char copy[128], *save, *key, *next;
    snprintf(copy, sizeof copy, "%s", path);
    key = strtok_r(copy, ".", &save);
    for (json_t *at = root;; key = next) {
        next = strtok_r(NULL, ".", &save);
        if (json_is_array(at)) {
            size_t i = strtoul(key, NULL, 10);
            ck_assert_msg(i < json_array_size(at), "%s", path);
            if (!next) {
                json_array_set_new(at, i, value);
                return;
            }
            at = json_array_get(at, i);
        } else {
            ck_assert_msg(json_is_object(at), "%s", path);
            if (!next) {
                json_object_set_new(at, key, value);
                return;
            }
            at = json_object_get(at, key);
        }
    }
}

START_TEST(judged)
{
    struct report r = {0};
    json_t *facts = parse(well);
    size_t wrong = 0;
    json_object_set_new(facts, "crds", crds());
    if (*rows[_i].path)
        put(facts, rows[_i].path, parse(rows[_i].value));
    if (rows[_i].of == PRE)
        judge_pre(facts, &r);
    else if (rows[_i].of == MESH)
        judge_mesh(facts, &r);
    else
        judge_upgrade(facts, &r);
    ck_assert(!r.nomem);
    ck_assert_uint_ge(r.n, 7);
    for (size_t i = 0; i < r.n; i++) {
        if (r.p[i].result == CHECK_OK)
            continue;
        wrong++;
        ck_assert_msg(rows[_i].what && strcmp(r.p[i].what, rows[_i].what) == 0, "%s: %s: %s",
                      rows[_i].name, r.p[i].what, r.p[i].detail);
        ck_assert_msg(r.p[i].result == rows[_i].result, "%s", rows[_i].name);
        ck_assert_msg(strstr(r.p[i].detail, rows[_i].detail) != NULL, "%s: %s", rows[_i].name,
                      r.p[i].detail);
        ck_assert_msg(*r.p[i].hint, "%s has no hint", rows[_i].name);
    }
    ck_assert_msg(wrong == (rows[_i].what != NULL), "%s: %zu lines", rows[_i].name, wrong);
    ck_assert_msg(report_success(&r) == (rows[_i].result != CHECK_FAIL), "%s", rows[_i].name);
    report_fini(&r);
    json_decref(facts);
}
END_TEST

static const struct {
    const char *a, *b;
    int want;
} versions[] = {
    {"0.1.0", "0.1.0", 0}, {"0.2.0", "0.10.0", -1},   {"1.0.0", "0.9.9", 1},
    {"1.0", "1.0.0", 0},   {"1.0.1-rc1", "1.0.0", 1},
};
START_TEST(versions_by_number)
{
    int got = version_cmp(versions[_i].a, versions[_i].b);
    ck_assert_int_eq((got > 0) - (got < 0), versions[_i].want);
}
END_TEST

START_TEST(both_forms)
{
    struct report r = {0};
    struct buf out;
    report_section(&r, "one");
    report_ok(&r, "a");
    report_bad(&r, CHECK_WARN, "b", "do it", "%d pods", 3);
    report_section(&r, "two");
    report_bad(&r, CHECK_FAIL, "c", "", "no");
    buf_init(&out, 4096);
    report_text(&r, &out);
    ck_assert_str_eq(
        buf_cstr(&out),
        "one\n---\n\u221a a\n\u203c b\n    3 pods\n    hint: do it\n\ntwo\n---\n\u00d7 c\n"
        "    no\n\n3 checks: 1 failed, 1 warnings. The result is \u00d7\n");
    json_t *got = report_json(&r);
    json_t *want = parse("{'success':false,'categories':[{'categoryName':'one','checks':["
                         "{'description':'a','result':'success'},{'description':'b','result':"
                         "'warning','error':'3 pods','hint':'do it'}]},{'categoryName':'two',"
                         "'checks':[{'description':'c','result':'error','error':'no'}]}]}");
    ck_assert(json_equal(got, want));
    json_decref(got);
    json_decref(want);
    buf_fini(&out);
    report_fini(&r);
    ck_assert(!report_success(&r)); /* nothing was looked at */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("judge");
    TCase *tc = tcase_create("judge");
    tcase_add_loop_test(tc, judged, 0, N_OF(rows));
    tcase_add_loop_test(tc, versions_by_number, 0, N_OF(versions));
    tcase_add_test(tc, both_forms);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
