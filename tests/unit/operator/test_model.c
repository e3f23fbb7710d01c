/* SPDX-License-Identifier: Apache-2.0 */
/* What the operator keeps of objects beside the index, and whom it tells. */
#include "operator/addresses.h"

#include <string.h>

#include "lib/data/json.h"
#include "tests/unit/tcase.h"

static struct model model;
static int policies_n, synced_n;

static void policy(void *user, enum index_kind kind, struct slice ns, struct slice name)
{
    (void)user, (void)kind, (void)ns, (void)name;
    policies_n++;
}

static void synced(void *user)
{
    (void)user;
    synced_n++;
}

static void setup(void)
{
    struct err err = {0};
    json_setup();
    ck_assert_int_eq(model_init(&model, "tulle-system", "tulle", &err), 0);
    model_listen(&model, &(struct model_listener){.policy = policy, .synced = synced});
    policies_n = synced_n = 0;
}

static void teardown(void)
{
    model_fini(&model);
}

static json_t *J(const char *text)
{
    json_t *v;
    struct err err = {0};
    ck_assert_msg(json_parse(slice_str(text), NULL, &v, &err) == 0, "%s: %s", text, err.msg);
    return v;
}

static const struct {
    const char *name, *pod;
    bool proxy, ready, gone, in, out;
} pods[] = {
    {"plain", "{\"spec\":{\"containers\":[{\"name\":\"a\"}]}}", false, false, false, false, false},
    {"classic sidecar", "{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"istio-proxy\"}]},\"status\":"
     "{\"containerStatuses\":[{\"name\":\"istio-proxy\",\"ready\":true}]}}", true, true, false, false, false},
    {"native sidecar", "{\"spec\":{\"initContainers\":[{\"name\":\"istio-proxy\",\"restartPolicy\":\"Always\"}],"
     "\"containers\":[]},\"status\":{\"initContainerStatuses\":[{\"name\":\"istio-proxy\",\"ready\":true}]}}",
     true, true, false, false, false},
    {"an init container of that name is none", "{\"spec\":{\"initContainers\":[{\"name\":\"istio-proxy\"}],"
     "\"containers\":[]}}", false, false, false, false, false},
    {"ended", "{\"spec\":{},\"status\":{\"phase\":\"Succeeded\"}}", false, false, true, false, false},
    {"going", "{\"metadata\":{\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},\"spec\":{}}", false, false, true,
     false, false},
    {"asks by label", "{\"metadata\":{\"labels\":{\"sidecar.istio.io/inject\":\"true\"}},\"spec\":{}}", false, false,
     false, true, false},
    {"the label goes before the annotation", "{\"metadata\":{\"labels\":{\"sidecar.istio.io/inject\":\"false\"},"
     "\"annotations\":{\"sidecar.istio.io/inject\":\"true\"}},\"spec\":{}}", false, false, false, false, true},
};
START_TEST(facts_of_pods)
{
    json_t *v = J(pods[_i].pod);
    struct pod_fact f = pod_fact_of(v);
    ck_assert_msg(f.proxy == pods[_i].proxy && f.proxy_ready == pods[_i].ready &&
                      f.gone == pods[_i].gone && f.in == pods[_i].in && f.out == pods[_i].out,
                  "%s", pods[_i].name);
    json_decref(v);
}
END_TEST

START_TEST(the_model_tells_once_and_forgets)
{
    json_t *v = J("{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\","
                  "\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u\",\"generation\":3},"
                  "\"spec\":{\"hosts\":[\"a.example\"],\"http\":[{\"route\":[{\"destination\":{\"host\":\"a\"},"
                  "\"weight\":1}],\"match\":[{\"uri\":{\"regex\":\"(\"}}]}]},\"status\":{\"x\":1}}");
    model_put(&model, INDEX_VS, v);
    const struct policy_fact *f = model_policy(&model, INDEX_VS, SL("shop"), SL("web"));
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(f->generation, 3);
    ck_assert_str_eq(f->uid, "u");
    ck_assert_ptr_nonnull(strstr(f->status, "\"x\""));
    ck_assert_ptr_nonnull(f->findings); /* what is wrong with the object alone */
    ck_assert_int_eq(policies_n, 1);
    model_remove(&model, INDEX_VS, SL("shop"), SL("web"));
    ck_assert_ptr_null(model_policy(&model, INDEX_VS, SL("shop"), SL("web")));
    ck_assert_int_eq(policies_n, 2);
    model_set_synced(&model);
    model_set_synced(&model);
    ck_assert_int_eq(synced_n, 1);
    json_decref(v);
}
END_TEST

#define SE_OBJ(name, host, addresses, status)                                                      \
    "{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"ServiceEntry\",\"metadata\":"         \
    "{\"name\":\"" name "\",\"namespace\":\"a\"},\"spec\":{\"hosts\":[\"" host "\"],\"addresses\":[" \
    addresses "],\"resolution\":\"STATIC\",\"endpoints\":[{\"address\":\"10.0.0.1\"}]},"        \
    "\"status\":{\"addresses\":[" status "]}}"
#define KEPT(host, ip) "{\"host\":\"" host "\",\"value\":\"" ip "\"}"

static void put(const char *text)
{
    json_t *v = J(text);
    model_put(&model, INDEX_SE, v);
    json_decref(v);
}

static void addresses_are(const char *host, const char *v4, const char *v6)
{
    struct ipaddr got[2];
    char text[IP_TEXT];
    unsigned n = index_addresses_of(model.index, slice_str(host), got);
    ck_assert_uint_eq(n, (v4 != NULL) + (v6 != NULL));
    if (v4)
        ck_assert_str_eq(ip_format(&got[0], text), v4);
    if (v6)
        ck_assert_str_eq(ip_format(&got[n - 1], text), v6);
}

/* As after a restart: what statuses keep is in force before anybody gets a new address. */
START_TEST(addresses_are_kept)
{
    struct ipaddr a[2], b[2];
    put(SE_OBJ("one", "one.example", "", KEPT("one.example", "240.240.7.7") "," KEPT("one.example", "2001:2::9")));
    put(SE_OBJ("twin", "twin.example", "", KEPT("twin.example", "240.240.7.7"))); /* a copied object */
    put(SE_OBJ("far", "far.example", "", KEPT("far.example", "192.0.2.1")));      /* not ours to give */
    put(SE_OBJ("listed", "listed.example", "\"240.240.7.8\"", ""));
    put(SE_OBJ("beside", "beside.example", "", KEPT("beside.example", "240.240.7.8")));
    addresses_give(&model, false, NULL, NULL);
    addresses_are("one.example", "240.240.7.7", "2001:2::9");
    addresses_are("twin.example", NULL, NULL);
    addresses_are("far.example", NULL, NULL);
    addresses_are("beside.example", NULL, NULL);
    addresses_give(&model, true, NULL, NULL);
    addresses_are("one.example", "240.240.7.7", "2001:2::9");
    addresses_are("listed.example", NULL, NULL);
    ck_assert_uint_eq(index_addresses_of(model.index, SL("twin.example"), a), 2);
    ck_assert(address_is_given(&a[0]) && address_is_given(&a[1]));
    ck_assert_uint_eq(index_addresses_of(model.index, SL("far.example"), b), 2);
    ck_assert(!ip_eq(&a[0], &b[0]) && !ip_eq(&a[1], &b[1]));
    ck_assert_uint_eq(index_addresses_of(model.index, SL("beside.example"), b), 2);
    ck_assert(b[0].b[2] != 7 || b[0].b[3] != 8);
    ck_assert_uint_eq(model.unplaced, 0);
    /* Who names addresses, or goes, gives back what it was given. */
    put(SE_OBJ("one", "one.example", "\"192.0.2.9\"", ""));
    model_remove(&model, INDEX_SE, SL("a"), SL("far"));
    addresses_give(&model, true, NULL, NULL);
    addresses_are("one.example", NULL, NULL);
    addresses_are("far.example", NULL, NULL);
}
END_TEST

TESTS(model)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, facts_of_pods, 0, N_OF(pods));
    tcase_add_test(tc, the_model_tells_once_and_forgets);
    tcase_add_test(tc, addresses_are_kept);
}
