/* SPDX-License-Identifier: Apache-2.0 */
/* What the program carries: each profile is whole, in order, and with the images that were asked
 * for. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cli/manifests.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"

static const struct {
    const char *name;
    int budgets, policies, meshes, replicas;
} profiles[] = {
    {"default", 0, 0, 0, 1},
    {"secure", 0, 2, 1, 1},
    {"ha", 2, 0, 1, 2},
    {"demo", 0, 0, 1, 1},
};

static int count(const json_t *list, const char *kind)
{
    const json_t *x;
    size_t i;
    int n = 0;
    json_array_foreach(list, i, x) n +=
        strcmp(json_string_value(json_object_get(x, "kind")), kind) == 0;
    return n;
}

START_TEST(whole)
{
    struct manifest_opts opts = {profiles[_i].name, "r.example:5000/mesh", "7"};
    struct err err = {0};
    struct kube_resource r;
    json_t *list = NULL;
    const json_t *x;
    size_t i, k = 0;
    ck_assert_msg(manifests_objects(&opts, &list, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(count(list, "Namespace"), 1);
    ck_assert_int_eq(count(list, "CustomResourceDefinition"), 16);
    ck_assert_int_eq(count(list, "Deployment"), 2);
    ck_assert_int_eq(count(list, "PodDisruptionBudget"), profiles[_i].budgets);
    ck_assert_int_eq(count(list, "NetworkPolicy"), profiles[_i].policies);
    ck_assert_int_eq(count(list, "Mesh"), profiles[_i].meshes);
    json_array_foreach(list, i, x)
    {
        ck_assert(manifests_resource(x, &r));
        while (strcmp(manifests_kind(k)->plural, r.plural) != 0)
            k++; /* runs off the table when the order is not kept */
        if (strcmp(r.kind, "Deployment") == 0)
            ck_assert_int_eq(
                json_integer_value(json_object_get(json_object_get(x, "spec"), "replicas")),
                profiles[_i].replicas);
    }
    char *text = json_text(list, JSON_TIGHT);
    ck_assert(!strstr(text, "tulle.local"));
    ck_assert(strstr(text, "\"r.example:5000/mesh/tulle-operator:7\""));
    ck_assert(strstr(text, "\"r.example:5000/mesh/tulle-proxy:7\""));
    ck_assert(!strstr(text, "\"app.kubernetes.io/managed-by\":\"kubectl\""));
    mem_free(text);
    json_decref(list);
}
END_TEST

START_TEST(unknown)
{
    struct manifest_opts opts = {"minimal", NULL, NULL};
    struct err err = {0};
    json_t *list = NULL;
    ck_assert_int_eq(manifests_objects(&opts, &list, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    ck_assert(strstr(err.msg, "default secure ha demo"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("manifests");
    TCase *tc = tcase_create("manifests");
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, whole, 0, N_OF(profiles));
    tcase_add_test(tc, unknown);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
