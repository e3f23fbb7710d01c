/* SPDX-License-Identifier: Apache-2.0 */
/* Golden cases: each folder of tests/golden/inject is one.
 *   pod.yaml       the pod as it comes in
 *   settings.yaml  settings that differ from the defaults (optional)
 *   request.yaml   namespace, path, clusterId, network (optional; default shop, namespace)
 *   want.json      decision, reason, warnings and patch, or the error that refuses the pod
 * GOLDEN_WRITE=1 rewrites want.json. INJECT_PODS=DIR writes each patched pod to DIR/<case>.json,
 * which is how the integration test gets them. */
#include <dirent.h>
#include <stdio.h>

#include "lib/data/jpatch.h"
#include "lib/data/yaml.h"
#include "mesh/inject/inject.h"
#include "tests/unit/tcase.h"

#define GOLDEN "tests/golden/inject"

static struct slice file_read(const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "/%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    if (!f)
        return SLICE_NULL;
    char *text = malloc(1 << 20);
    size_t n = fread(text, 1, 1 << 20, f);
    fclose(f);
    return slice_of(text, n);
}

static void file_write(const char *path, const json_t *v)
{
    CLEANUP(mem_freep) char *text = json_text(v, JSON_PRETTY);
    FILE *f = fopen(path, "w");
    ck_assert_msg(f && text, "%s", path);
    fputs(text, f);
    fclose(f);
}

static json_t *yaml_read(const char *dir, const char *name)
{
    struct err err = {0};
    json_t *v = NULL;
    struct slice text = file_read(dir, name);
    if (text.p)
        ck_assert_msg(yaml_parse_one(text, NULL, &v, &err) == 0, "%s/%s: %s", dir, name, err.msg);
    free((char *)(uintptr_t)text.p);
    return v;
}

struct fixture {
    json_t *pod, *settings_json, *request_json;
    struct inject_settings *settings;
    struct inject_request req;
};

static const char *str_or(const json_t *obj, const char *key, const char *dflt)
{
    const char *v = json_string_value(json_object_get(obj, key));
    return v ? v : dflt;
}

static void fixture_open(struct fixture *f, const char *dir)
{
    struct err err = {0};
    memset(f, 0, sizeof *f);
    f->pod = yaml_read(dir, "pod.yaml");
    ck_assert_msg(f->pod != NULL, "%s/pod.yaml", dir);
    f->settings_json = yaml_read(dir, "settings.yaml");
    if (!f->settings_json)
        f->settings_json = json_object();
    if (!json_object_get(f->settings_json, "image")) /* goldens outlive versions */
        json_object_set_new(f->settings_json, "image",
                            json_string("registry.example/tulle-proxy:1"));
    f->request_json = yaml_read(dir, "request.yaml");
    ck_assert_msg(inject_settings_from_json(f->settings_json, &f->settings, &err) == 0, "%s: %s",
                  dir, err.msg);
    f->req = (struct inject_request){
        .pod = f->pod,
        .ns = str_or(f->request_json, "namespace", "shop"),
        .cluster_id = str_or(f->request_json, "clusterId", NULL),
        .network = str_or(f->request_json, "network", NULL),
    };
    ck_assert_int_eq(
        inject_path_parse(slice_str(str_or(f->request_json, "path", "namespace")), &f->req.path),
        0);
}

static void fixture_close(struct fixture *f)
{
    inject_settings_free(f->settings);
    json_decref(f->pod);
    json_decref(f->settings_json);
    json_decref(f->request_json);
}

static json_t *outcome(const struct fixture *f, struct inject_result *r)
{
    struct err err = {0};
    memset(r, 0, sizeof *r);
    if (inject_pod(f->settings, &f->req, r, &err) < 0)
        return json_pack("{s:s, s:s}", "error", err.msg, "code", err_code_name(err.code));
    return json_pack("{s:b, s:s, s:O, s:O}", "inject", r->inject, "reason",
                     inject_reason_name(r->reason), "warnings", r->warnings, "patch", r->patch);
}

static void check_golden(const char *dir, const json_t *got)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "/%s/want.json", dir);
    if (getenv("GOLDEN_WRITE"))
        file_write(path, got);
    struct slice want = file_read(dir, "want.json");
    CLEANUP(mem_freep) char *text = json_text(got, JSON_PRETTY);
    ck_assert_msg(want.p && slice_is(want, text), "%s differs, is:\n%s", path, text);
    free((char *)(uintptr_t)want.p);
}

/* The patch does what the result says; a second pass changes nothing. */
static void check_again(struct fixture *f, const char *dir, const struct inject_result *r)
{
    struct err err = {0};
    json_t *applied;
    struct inject_result again;

    ck_assert_msg(jpatch_apply(f->pod, r->patch, &applied, &err) == 0, "%s: %s", dir, err.msg);
    ck_assert_msg(json_equal(applied, r->pod), "%s: the patch gives another pod", dir);
    struct inject_request req = f->req;
    req.pod = applied;
    ck_assert_msg(inject_pod(f->settings, &req, &again, &err) == 0, "%s: %s", dir, err.msg);
    ck_assert_msg(json_array_size(again.patch) == 0, "%s: second pass: %s", dir,
                  json_text(again.patch, JSON_PRETTY));
    ck_assert_int_eq(again.inject, r->inject);
    inject_result_fini(&again);
    json_decref(applied);
}

static void run_case(const char *dir)
{
    struct fixture f;
    struct inject_result r, twin;
    const char *out = getenv("INJECT_PODS");

    fixture_open(&f, dir);
    json_t *before = json_deep_copy(f.pod), *got = outcome(&f, &r), *same = outcome(&f, &twin);
    ck_assert_ptr_nonnull(got);
    ck_assert_msg(json_equal(f.pod, before), "%s: the input was changed", dir);
    ck_assert_msg(json_equal(got, same), "%s: two runs differ", dir);
    check_golden(dir, got);
    if (r.pod)
        check_again(&f, dir, &r);
    if (out && r.pod) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s.json", out, dir);
        file_write(path, r.pod);
    }
    json_decref(before);
    json_decref(got);
    json_decref(same);
    inject_result_fini(&r);
    inject_result_fini(&twin);
    fixture_close(&f);
}

static int is_case(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

START_TEST(golden)
{
    struct dirent **list;
    int n = scandir(GOLDEN, &list, is_case, alphasort);
    ck_assert_int_ge(n, 30);
    for (int i = 0; i < n; i++) {
        run_case(list[i]->d_name);
        free(list[i]);
    }
    free(list);
}
END_TEST

/* --- the decision, each rule over each path --------------------------------------------------- */
/* clang-format off */
static const struct { const char *name, *ns, *path, *pod, *want; } decisions[] = {
    {"namespace label",          "shop", "namespace",     "{}", "asked_by_namespace"},
    {"namespace revision",       "shop", "rev-namespace", "{}", "asked_by_namespace"},
    {"pod revision",             "shop", "rev-object",    "{}", "asked_by_namespace"},
    {"object without label",     "shop", "object",        "{}", "not_asked"},
    {"object with label",        "shop", "object",        "{metadata: {labels: {sidecar.istio.io/inject: 'true'}}}", "asked_by_pod"},
    {"yaml 1.1 yes",             "shop", "object",        "{metadata: {labels: {sidecar.istio.io/inject: 'Yes'}}}", "asked_by_pod"},
    {"annotation",               "shop", "object",        "{metadata: {annotations: {sidecar.istio.io/inject: 'true'}}}", "asked_by_pod"},
    {"label beats annotation",   "shop", "namespace",     "{metadata: {labels: {sidecar.istio.io/inject: 'false'}, annotations: {sidecar.istio.io/inject: 'true'}}}", "refused_by_pod"},
    {"empty label is no answer", "shop", "namespace",     "{metadata: {labels: {sidecar.istio.io/inject: ''}}}", "asked_by_namespace"},
    {"anything else is no",      "shop", "namespace",     "{metadata: {labels: {sidecar.istio.io/inject: maybe}}}", "refused_by_pod"},
    {"host network first",       "shop", "namespace",     "{metadata: {labels: {sidecar.istio.io/inject: 'true'}}, spec: {hostNetwork: true}}", "host_network"},
    {"kube-system",              "kube-system", "namespace", "{metadata: {labels: {sidecar.istio.io/inject: 'true'}}}", "system_namespace"},
    {"own namespace",            "tulle-system", "object", "{metadata: {labels: {sidecar.istio.io/inject: 'true'}}}", "system_namespace"},
    {"windows by os",            "shop", "namespace",     "{spec: {os: {name: windows}}}", "windows"},
    {"windows by node",          "shop", "namespace",     "{spec: {nodeSelector: {kubernetes.io/os: windows}}}", "windows"},
    {"never selector",           "shop", "namespace",     "{metadata: {labels: {role: builder}}}", "never_selector"},
    {"label beats never",        "shop", "namespace",     "{metadata: {labels: {role: builder, sidecar.istio.io/inject: 'true'}}}", "asked_by_pod"},
    {"always selector",          "shop", "object",        "{metadata: {labels: {tier: web}}}", "always_selector"},
    {"status without container", "shop", "namespace",     "{metadata: {annotations: {sidecar.istio.io/status: '{\"containers\":[\"istio-proxy\"]}'}}}", "asked_by_namespace"},
    {"status and container",     "shop", "namespace",     "{metadata: {annotations: {sidecar.istio.io/status: '{\"containers\":[\"istio-proxy\"]}'}}, spec: {containers: [{name: istio-proxy}]}}", "already"},
    {"own container is no sign", "shop", "namespace",     "{spec: {containers: [{name: istio-proxy}]}}", "asked_by_namespace"},
    {"broken status",            "shop", "namespace",     "{metadata: {annotations: {sidecar.istio.io/status: '{'}}, spec: {containers: [{name: istio-proxy}]}}", "asked_by_namespace"},
};
/* clang-format on */

START_TEST(decision)
{
    static const char settings_text[] =
        "{\"neverInjectSelector\": [{\"matchExpressions\":"
        " [{\"key\": \"role\", \"operator\": \"In\", \"values\": [\"builder\"]}]}],"
        " \"alwaysInjectSelector\": [{\"matchLabels\": {\"tier\": \"web\"}}]}";
    struct err err = {0};
    CLEANUP(inject_settings_freep) struct inject_settings *s = NULL;
    CLEANUP(json_freep) json_t *pod = NULL;
    struct inject_request req = {.ns = decisions[_i].ns};

    ck_assert_msg(inject_settings_decode(slice_str(settings_text), &s, &err) == 0, "%s", err.msg);
    ck_assert_msg(yaml_parse_one(slice_str(decisions[_i].pod), NULL, &pod, &err) == 0, "%s: %s",
                  decisions[_i].name, err.msg);
    ck_assert_int_eq(inject_path_parse(slice_str(decisions[_i].path), &req.path), 0);
    req.pod = pod;
    ck_assert_msg(strcmp(inject_reason_name(inject_decide(s, &req)), decisions[_i].want) == 0,
                  "%s: is %s", decisions[_i].name, inject_reason_name(inject_decide(s, &req)));
}
END_TEST

/* --- settings --------------------------------------------------------------------------------- */
static const struct {
    const char *text, *want; /* NULL: accepted */
} settings[] = {
    {"{}", NULL},
    {"{\"someday\": 1, \"image\": null}", NULL},
    {"[]", "must be an object"},
    {"{\"image\": 3}", "image: must be a string"},
    {"{\"image\": \"\"}", "image: must not be empty"},
    {"{\"nativeSidecar\": \"true\"}", "nativeSidecar: must be true or false"},
    {"{\"imagePullSecrets\": [1]}", "imagePullSecrets[0]"},
    {"{\"memoryLimit\": \"64Mb\"}", "memoryLimit: '64Mb'"},
    {"{\"includeOutboundIPRanges\": \"10.0.0.0\"}", "includeOutboundIPRanges"},
    {"{\"excludeInboundPorts\": \"http\"}", "excludeInboundPorts"},
    {"{\"proxyConfig\": {\"concurrency\": -1}}", "proxyConfig: concurrency"},
    {"{\"proxyConfig\": {\"wat\": 1}}", "proxyConfig: unknown field 'wat'"},
    {"{\"image\": \"a\", \"image\": \"b\"}", "settings"},
};

START_TEST(settings_checked)
{
    struct err err = {0};
    struct inject_settings *s = NULL;
    int rc = inject_settings_decode(slice_str(settings[_i].text), &s, &err);
    ck_assert_msg((rc == 0) == (settings[_i].want == NULL), "%s: %s", settings[_i].text, err.msg);
    if (settings[_i].want)
        ck_assert_msg(strstr(err.msg, settings[_i].want), "%s: %s", settings[_i].text, err.msg);
    inject_settings_free(s);
}
END_TEST

/* A container that another webhook adds after us gets its probes rewritten, and only that changes.
 */
START_TEST(added_later)
{
    struct fixture f;
    struct inject_result first, again;
    struct err err = {0};
    json_t *late;

    fixture_open(&f, "probes");
    ck_assert_int_eq(inject_pod(f.settings, &f.req, &first, &err), 0);
    ck_assert_int_eq(
        yaml_parse_one(SL("{name: late, image: l, readinessProbe: {httpGet: {port: 9}}}"), NULL,
                       &late, &err),
        0);
    json_array_append_new(json_object_get(json_object_get(first.pod, "spec"), "containers"), late);
    struct inject_request req = f.req;
    req.pod = first.pod;
    ck_assert_int_eq(inject_pod(f.settings, &req, &again, &err), 0);
    ck_assert_int_gt(json_array_size(again.patch), 0);
    CLEANUP(mem_freep) char *pod = json_text(again.pod, JSON_TIGHT);
    ck_assert_ptr_nonnull(strstr(pod, "{\"path\":\"/app-health/late/readyz\",\"port\":15020"));
    ck_assert_ptr_nonnull(
        strstr(pod, "\\\"/app-health/late/readyz\\\":{\\\"httpGet\\\":{\\\"port\\\":9}}"));
    ck_assert_ptr_nonnull(strstr(pod, "\\\"/app-health/web/livez\\\""));
    inject_result_fini(&first);
    inject_result_fini(&again);
    fixture_close(&f);
}
END_TEST

START_TEST(out_of_memory)
{
    struct fixture f;
    json_setup();
    fixture_open(&f, "everything");
    OOM_SWEEP (n) {
        struct inject_result r = {0};
        struct err err = {0};
        int rc = inject_pod(f.settings, &f.req, &r, &err);
        if (rc == 0)
            inject_result_fini(&r);
        else
            ck_assert_msg(err.code != ERR_OK, "no code");
    }
    fixture_close(&f);
}
END_TEST

TESTS(inject)
{
    tcase_add_test(tc, golden);
    tcase_add_loop_test(tc, decision, 0, N_OF(decisions));
    tcase_add_loop_test(tc, settings_checked, 0, N_OF(settings));
    tcase_add_test(tc, added_later);
    tcase_add_test(tc, out_of_memory);
}
