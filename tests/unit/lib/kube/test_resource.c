/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/kube/kube_int.h"
#include "lib/kube/resource.h"

static const struct {
    enum kube_kind kind;
    const char *ns, *name, *sub, *want;
} paths[] = {
    {KUBE_POD, NULL, NULL, NULL, "/api/v1/pods"},
    {KUBE_POD, "", NULL, NULL, "/api/v1/pods"},
    {KUBE_POD, "shop", NULL, NULL, "/api/v1/namespaces/shop/pods"},
    {KUBE_DEPLOYMENT, "shop", "cart", "status",
     "/apis/apps/v1/namespaces/shop/deployments/cart/status"},
    {KUBE_NAMESPACE, "ignored", "shop", NULL, "/api/v1/namespaces/shop"},
    {KUBE_MESH, NULL, "default", NULL, "/apis/tulle.dev/v1alpha1/meshes/default"},
    {KUBE_CONFIG_MAP, "shop", "system:node.x_y", NULL,
     "/api/v1/namespaces/shop/configmaps/system:node.x_y"},
    {KUBE_POD, "shop", "", NULL, NULL},
    {KUBE_POD, "shop", "..", NULL, NULL},
    {KUBE_POD, "a/b", "x", NULL, NULL},
    {KUBE_POD, "shop", "x?watch", NULL, NULL},
    {KUBE_POD, "shop", "x%2f", NULL, NULL},
};

START_TEST(path)
{
    struct err err = {0};
    char *got =
        kube_path(kube_resource(paths[_i].kind), paths[_i].ns, paths[_i].name, paths[_i].sub, &err);
    ck_assert_int_eq(got != NULL, paths[_i].want != NULL);
    if (got)
        ck_assert_str_eq(got, paths[_i].want);
    else
        ck_assert_int_eq(err.code, ERR_INVALID);
    mem_free(got);
}
END_TEST

START_TEST(query)
{
    struct buf b;
    buf_init(&b, 256);
    kube_query_add(&b, "labelSelector", "a in (b, c),d!=e");
    kube_query_add(&b, "x", "\xc3\xa9-._~");
    ck_assert_str_eq(buf_cstr(&b), "labelSelector=a%20in%20%28b%2C%20c%29%2Cd%21%3De&x=%C3%A9-._~");
    buf_fini(&b);
}
END_TEST

static const struct {
    const char *version, *kind, *plural, *want_version;
} finds[] = {
    {"v1", "Pod", "pods", "v1"},
    {"networking.istio.io/v1", "VirtualService", "virtualservices", "v1"},
    {"networking.istio.io/v1alpha3", "VirtualService", "virtualservices", "v1alpha3"},
    {"security.istio.io/v1beta1", "PeerAuthentication", "peerauthentications", "v1beta1"},
    {"v1", "VirtualService", NULL, NULL},
    {"apps/v1", "Pod", NULL, NULL},
    {"tulle.dev/v1alpha1", "Nothing", NULL, NULL},
};

START_TEST(find)
{
    struct kube_resource own;
    const struct kube_resource *r = kube_resource_find(finds[_i].version, finds[_i].kind, &own);
    ck_assert_int_eq(r != NULL, finds[_i].plural != NULL);
    if (!r)
        return;
    char text[128];
    ck_assert_str_eq(r->plural, finds[_i].plural);
    ck_assert_str_eq(r->version, finds[_i].want_version);
    ck_assert_str_eq(kube_api_version(r, text, sizeof text), finds[_i].version);
}
END_TEST

START_TEST(keys)
{
    struct kube_key k;
    struct slice ns, name;
    char long_name[400];
    ck_assert(kube_key_make("shop", "cart", &k));
    kube_key_split(slice_str(k.text), &ns, &name);
    ck_assert(slice_is(ns, "shop") && slice_is(name, "cart"));
    ck_assert(kube_key_make("", "node1", &k));
    kube_key_split(slice_str(k.text), &ns, &name);
    ck_assert(ns.len == 0 && slice_is(name, "node1"));
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    ck_assert(!kube_key_make("shop", long_name, &k));
}
END_TEST

START_TEST(micro_time)
{
    char t[KUBE_MICRO_TIME];
    kube_micro_time(INT64_C(1785579630123456789), t);
    ck_assert_str_eq(t, "2026-08-01T10:20:30.123456Z");
}
END_TEST

TESTS(kube_resource)
{
    tcase_add_loop_test(tc, path, 0, N_OF(paths));
    tcase_add_test(tc, query);
    tcase_add_loop_test(tc, find, 0, N_OF(finds));
    tcase_add_test(tc, keys);
    tcase_add_test(tc, micro_time);
}
