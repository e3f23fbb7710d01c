/* SPDX-License-Identifier: Apache-2.0 */
/* Reviews as bytes: what is answered, with which status, and that nothing needs a pod to be sane.
 */
#include "injector/review.h"

#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/jpatch.h"
#include "tests/unit/tcase.h"

#define HEAD "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"request\":"
#define PODS "\"resource\":{\"group\":\"\",\"version\":\"v1\",\"resource\":\"pods\"}"
#define CREATE "{\"uid\":\"u\",\"namespace\":\"shop\",\"operation\":\"CREATE\"," PODS ",\"object\":"
#define POD "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"a\"}]}}"

/* clang-format off */
static const struct {
    const char *name, *body;
    int status;
    const char *want; /* somewhere in the answer */
} bodies[] = {
    {"empty",             "",                                         400, "AdmissionReview"},
    {"no json",           "hello",                                    400, "AdmissionReview"},
    {"NaN",               HEAD "{\"uid\":\"u\",\"x\":NaN}}",          400, "AdmissionReview"},
    {"array",             "[]",                                       400, "not an AdmissionReview"},
    {"bytes behind",      HEAD CREATE POD "}} x",                     400, "AdmissionReview"},
    {"duplicate keys",    "{\"kind\":\"a\",\"kind\":\"b\"}",          400, "AdmissionReview"},
    {"other kind",        "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"Pod\"}", 400, "not an AdmissionReview"},
    {"v1beta1",           "{\"apiVersion\":\"admission.k8s.io/v1beta1\",\"kind\":\"AdmissionReview\",\"request\":{\"uid\":\"u\"}}", 400, "only admission.k8s.io/v1"},
    {"no request",        "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}", 400, "request.uid"},
    {"no uid",            HEAD "{}}",                                 400, "request.uid"},
    {"uid of a number",   HEAD "{\"uid\":7}}",                        400, "request.uid"},
    {"uid with a blank",  HEAD "{\"uid\":\"a b\"}}",                  400, "request.uid"},
    {"not pods",          HEAD "{\"uid\":\"u\",\"operation\":\"CREATE\",\"resource\":{\"resource\":\"nodes\"}}}", 200, "\"allowed\":true"},
    {"other group",       HEAD "{\"uid\":\"u\",\"operation\":\"CREATE\",\"resource\":{\"group\":\"x\",\"resource\":\"pods\"}}}", 200, "\"allowed\":true"},
    {"update",            HEAD "{\"uid\":\"u\",\"operation\":\"UPDATE\"," PODS "}}", 200, "\"allowed\":true"},
    {"subresource",       HEAD "{\"uid\":\"u\",\"operation\":\"CREATE\",\"subResource\":\"eviction\"," PODS "}}", 200, "\"allowed\":true"},
    {"no object",         HEAD "{\"uid\":\"u\",\"operation\":\"CREATE\"," PODS "}}", 200, "\"allowed\":false"},
    {"pod",               HEAD CREATE POD "}}",                       200, "\"patchType\":\"JSONPatch\""},
    {"same uid",          HEAD CREATE POD "}}",                       200, "\"uid\":\"u\""},
    {"containers no array", HEAD CREATE "{\"spec\":{\"containers\":{}}}}}", 200, "containers must be an array"},
    {"labels no object",  HEAD CREATE "{\"metadata\":{\"labels\":[]}}}}", 200, "labels must be an object"},
    {"odd containers",    HEAD CREATE "{\"spec\":{\"containers\":[1,null,{\"name\":3},[]]}}}}", 200, "\"allowed\":true"},
    {"bad annotation",    HEAD CREATE "{\"metadata\":{\"annotations\":{\"sidecar.istio.io/nativeSidecar\":\"si\"}}}}}", 200, "\"code\":422"},
    {"names annotation",  HEAD CREATE "{\"metadata\":{\"annotations\":{\"sidecar.istio.io/nativeSidecar\":\"si\"}}}}}", 200, "sidecar.istio.io/nativeSidecar"},
    {"warning",           HEAD CREATE "{\"metadata\":{\"annotations\":{\"sidecar.istio.io/proxyCpu\":\"1\"}}}}}", 200, "proxyCpu is unknown"},
};
/* clang-format on */

static void run(const char *url, struct slice body, struct review_answer *a)
{
    struct review_path path;
    struct err err = {0};
    CLEANUP(inject_settings_freep) struct inject_settings *s = NULL;

    ck_assert_msg(inject_settings_decode(SL("{}"), &s, &err) == 0, "%s", err.msg);
    review_path_parse(slice_str(url), &path);
    review_answer_init(a);
    if (path.route == ROUTE_INJECT)
        review_inject(s, &path, body, a);
    else
        review_validate(body, a);
}

START_TEST(body)
{
    struct review_answer a;
    run("/inject/namespace", slice_str(bodies[_i].body), &a);
    ck_assert_msg(a.status == bodies[_i].status, "%s: %d %s", bodies[_i].name, a.status,
                  buf_cstr(&a.body));
    ck_assert_msg(strstr(buf_cstr(&a.body), bodies[_i].want), "%s: %s", bodies[_i].name,
                  buf_cstr(&a.body));
    ck_assert_msg(a.json == (a.status == 200), "%s", bodies[_i].name);
    review_answer_fini(&a);
}
END_TEST

/* A dry run and the run are answered alike. */
START_TEST(dry_run)
{
    struct review_answer a, b;
    run("/inject/namespace", SL(HEAD CREATE POD "}}"), &a);
    run("/inject/namespace", SL(HEAD CREATE POD ",\"dryRun\":true}}"), &b);
    ck_assert(slice_eq(buf_slice(&a.body), buf_slice(&b.body)));
    review_answer_fini(&a);
    review_answer_fini(&b);
}
END_TEST

START_TEST(patch_applies)
{
    struct review_answer a;
    struct err err = {0};
    struct buf text;
    CLEANUP(json_freep) json_t *review = NULL;
    CLEANUP(json_freep) json_t *patch = NULL;
    CLEANUP(json_freep) json_t *pod = NULL;
    CLEANUP(json_freep) json_t *out = NULL;

    run("/inject/namespace", SL(HEAD CREATE POD "}}"), &a);
    buf_init(&text, 1 << 20);
    ck_assert_int_eq(json_parse(buf_slice(&a.body), NULL, &review, &err), 0);
    const char *coded =
        json_string_value(json_object_get(json_object_get(review, "response"), "patch"));
    ck_assert_ptr_nonnull(coded);
    ck_assert_int_eq(base64_decode(slice_str(coded), BASE64_STD, &text), ERR_OK);
    ck_assert_int_eq(json_parse(buf_slice(&text), NULL, &patch, &err), 0);
    ck_assert_int_eq(json_parse(SL(POD), NULL, &pod, &err), 0);
    ck_assert_msg(jpatch_apply(pod, patch, &out, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(
        json_array_size(json_object_get(json_object_get(out, "spec"), "initContainers")), 2);
    buf_fini(&text);
    review_answer_fini(&a);
}
END_TEST

START_TEST(no_settings)
{
    struct review_path path;
    struct review_answer a;
    review_path_parse(SL("/inject/object"), &path);
    review_answer_init(&a);
    review_inject(NULL, &path, SL(HEAD CREATE POD "}}"), &a);
    ck_assert_int_eq(a.status, 503);
    ck_assert(a.failed);
    review_answer_fini(&a);
}
END_TEST

START_TEST(deep)
{
    struct buf text;
    struct review_answer a;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < 1000; i++)
        buf_add_char(&text, '[');
    run("/inject/namespace", buf_slice(&text), &a);
    ck_assert_int_eq(a.status, 400);
    review_answer_fini(&a);
    run("/validate", buf_slice(&text), &a);
    ck_assert_int_eq(a.status, 400);
    review_answer_fini(&a);
    buf_fini(&text);
}
END_TEST

/* --- validation: the mesh's kinds are judged by mesh/api; here it is the answer that counts --- */
#define MESH(plural, operation, object)                                                            \
    HEAD "{\"uid\":\"u\",\"namespace\":\"shop\",\"name\":\"v\",\"operation\":\"" operation         \
         "\",\"resource\":{\"group\":\"networking.istio.io\",\"version\":\"v1\",\"resource\":"     \
         "\"" plural "\"},\"object\":" object "}}"
#define VS_META(meta, spec)                                                                        \
    "{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\",\"metadata\":{" meta   \
    "},\"spec\":" spec "}"
#define VS(spec) VS_META("\"name\":\"v\",\"namespace\":\"shop\"", spec)
#define ROUTE(weight)                                                                              \
    "{\"hosts\":[\"a\"],\"http\":[{\"route\":[{\"destination\":{\"host\":\"a\"},"                  \
    "\"weight\":" weight "},{\"destination\":{\"host\":\"b\"},\"weight\":10}]}]}"

/* clang-format off */
static const struct {
    const char *name, *body;
    bool allowed;
    const char *want;
} validations[] = {
    {"good",           MESH("virtualservices", "CREATE", VS(ROUTE("90"))),        true,  "\"allowed\":true"},
    {"bad weight",     MESH("virtualservices", "CREATE", VS(ROUTE("-1"))),        false, "VirtualService shop/v: spec.http[0].route[0].weight"},
    {"bad on update",  MESH("virtualservices", "UPDATE", VS(ROUTE("-1"))),        false, "weight"},
    {"bad as before",  MESH("virtualservices", "UPDATE", VS(ROUTE("-1")) ",\"oldObject\":" VS(ROUTE("-1"))), true, "\"warnings\":[\"VirtualService shop/v: spec.http[0].route[0].weight"},
    {"bad otherwise",  MESH("virtualservices", "UPDATE", VS(ROUTE("-1")) ",\"oldObject\":" VS(ROUTE("-2"))), false, "weight"},
    {"about to go",    MESH("virtualservices", "UPDATE", VS_META("\"name\":\"v\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"", ROUTE("-1"))), true, "\"allowed\":true"},
    {"name to come, good", MESH("virtualservices", "CREATE", VS_META("\"generateName\":\"w-\"", ROUTE("90"))), true, "\"allowed\":true}}"},
    {"name to come, bad", MESH("virtualservices", "CREATE", VS_META("\"generateName\":\"w-\"", ROUTE("-1"))), false, "weight"},
    {"delete",         MESH("virtualservices", "DELETE", "null"),                 true,  "\"allowed\":true"},
    {"no object",      MESH("virtualservices", "CREATE", "null"),                 false, "no object"},
    {"not ours",       MESH("deployments", "CREATE", "{}"),                       true,  "\"allowed\":true"},
    {"never denied for being unsupported", MESH("envoyfilters", "CREATE",
        "{\"apiVersion\":\"networking.istio.io/v1alpha3\",\"kind\":\"EnvoyFilter\",\"metadata\":{\"name\":\"v\"},\"spec\":{}}"), true, "\"warnings\":"},
};
/* clang-format on */

START_TEST(validation)
{
    struct review_answer a;
    run("/validate", slice_str(validations[_i].body), &a);
    ck_assert_msg(a.status == 200 && a.failed == !validations[_i].allowed &&
                      strstr(buf_cstr(&a.body), validations[_i].want),
                  "%s: %d %s", validations[_i].name, a.status, buf_cstr(&a.body));
    review_answer_fini(&a);
}
END_TEST

/* --- paths ------------------------------------------------------------------------------------ */
/* clang-format off */
static const struct {
    const char *path;
    enum review_route route;
    const char *cluster, *network;
} paths[] = {
    {"/inject/rev-namespace",               ROUTE_INJECT,   "",     ""},
    {"/inject/object/",                     ROUTE_INJECT,   "",     ""},
    {"/inject/namespace/cluster/east",      ROUTE_INJECT,   "east", ""},
    {"/inject/namespace/cluster/a--slash--b/net/n1", ROUTE_INJECT, "a/b", "n1"},
    {"/inject/namespace/cluster",           ROUTE_NONE,     "",     ""},
    {"/inject/namespace/cluster/",          ROUTE_NONE,     "",     ""},
    {"/inject/namespace/zone/z",            ROUTE_NONE,     "",     ""},
    {"/inject/namespace/cluster/a b",       ROUTE_NONE,     "",     ""},
    {"/inject/",                            ROUTE_NONE,     "",     ""},
    {"/inject",                             ROUTE_NONE,     "",     ""},
    {"/inject/any",                         ROUTE_NONE,     "",     ""},
    {"/validate",                           ROUTE_VALIDATE, "",     ""},
    {"/validate/",                          ROUTE_NONE,     "",     ""},
    {"/healthz",                            ROUTE_HEALTHZ,  "",     ""},
    {"/readyz",                             ROUTE_READYZ,   "",     ""},
    {"/metrics",                            ROUTE_METRICS,  "",     ""},
    {"/",                                   ROUTE_NONE,     "",     ""},
    {"",                                    ROUTE_NONE,     "",     ""},
};
/* clang-format on */

START_TEST(path)
{
    struct review_path got;
    review_path_parse(slice_str(paths[_i].path), &got);
    ck_assert_msg(got.route == paths[_i].route, "%s: %d", paths[_i].path, (int)got.route);
    ck_assert_str_eq(got.cluster, paths[_i].cluster);
    ck_assert_str_eq(got.network, paths[_i].network);
}
END_TEST

START_TEST(out_of_memory)
{
    static const char *const urls[] = {"/inject/namespace", "/validate"};
    static const char *const texts[] = {HEAD CREATE POD "}}",
                                        MESH("virtualservices", "CREATE", VS(ROUTE("-1")))};
    struct err err = {0};
    CLEANUP(inject_settings_freep) struct inject_settings *s = NULL;
    json_setup();
    ck_assert_int_eq(inject_settings_decode(SL("{}"), &s, &err), 0);
    OOM_SWEEP (n) {
        struct review_path p;
        struct review_answer a;
        review_path_parse(slice_str(urls[_i]), &p);
        review_answer_init(&a);
        if (p.route == ROUTE_INJECT)
            review_inject(s, &p, slice_str(texts[_i]), &a);
        else
            review_validate(slice_str(texts[_i]), &a);
        ck_assert_int_ge(a.status, 200);
        review_answer_fini(&a);
    }
}
END_TEST

TESTS(review)
{
    tcase_add_loop_test(tc, body, 0, N_OF(bodies));
    tcase_add_test(tc, dry_run);
    tcase_add_test(tc, patch_applies);
    tcase_add_test(tc, no_settings);
    tcase_add_test(tc, deep);
    tcase_add_loop_test(tc, validation, 0, N_OF(validations));
    tcase_add_loop_test(tc, path, 0, N_OF(paths));
    tcase_add_loop_test(tc, out_of_memory, 0, 2);
}
