/* SPDX-License-Identifier: Apache-2.0 */
/* Which definitions a purge takes, and what the user is told before. */
#include "tests/unit/tcase.h"

#include <string.h>

#include "cli/purge.h"

static const struct {
    const char *name, *labels;
    bool is_name, released;
    enum purge_verdict verdict;
} rows[] = {
    {"ours", "{\"app.kubernetes.io/part-of\": \"tulle\"}", true, false, PURGE_GOES},
    {"ours, of an earlier release", "{\"app.kubernetes.io/part-of\": \"tulle\"}", false, false,
     PURGE_GOES},
    {"of a release",
     "{\"app.kubernetes.io/part-of\": \"tulle\", \"app.kubernetes.io/managed-by\": \"Helm\"}", true,
     true, PURGE_OF_HELM},
    {"of a release that went",
     "{\"app.kubernetes.io/part-of\": \"tulle\", \"app.kubernetes.io/managed-by\": \"Helm\"}", true,
     false, PURGE_GOES},
    {"taken over from Helm", "{\"app.kubernetes.io/part-of\": \"tulle\"}", true, true, PURGE_GOES},
    {"of a real Istio", "{\"app\": \"istio-pilot\"}", true, false, PURGE_OF_OTHERS},
    {"of a real Istio's Helm", "{\"app.kubernetes.io/managed-by\": \"Helm\"}", true, true,
     PURGE_OF_OTHERS},
    {"bare", "{}", true, false, PURGE_OF_OTHERS},
    {"another project's", "{\"app.kubernetes.io/part-of\": \"tulles\"}", false, false,
     PURGE_FOREIGN},
};

START_TEST(verdict)
{
    json_t *crd =
        json_pack("{s:{s:o}}", "metadata", "labels", json_loads(rows[_i].labels, 0, NULL));
    ck_assert_ptr_nonnull(crd);
    ck_assert_msg(purge_judge(crd, rows[_i].is_name, rows[_i].released) == rows[_i].verdict, "%s",
                  rows[_i].name);
    json_decref(crd);
}
END_TEST

static const struct {
    const char *plan, *text;
} told[] = {
    {"{\"definitions\": [], \"kept\": [], \"namespace\": false}",
     "Deleted for good: 0 definitions with 0 objects of yours.\n"},
    {"{\"definitions\": [{\"name\": \"a.x\", \"objects\": 0}, {\"name\": \"b.x\", \"objects\": 1},"
     "{\"name\": \"c.x\", \"objects\": 12}], \"kept\": [], \"namespace\": true}",
     "  b.x: 1 object\n  c.x: 12 objects\n"
     "Deleted for good: 3 definitions with 13 objects of yours, and the namespace tulle-system "
     "with "
     "all that is in it.\n"},
    {"{\"definitions\": [{\"name\": \"a.x\", \"objects\": 0}], \"kept\": [{\"name\": \"b.x\", "
     "\"why\": \"somebody else installed it\"}], \"namespace\": false}",
     "Deleted for good: 1 definition with 0 objects of yours.\n"
     "  b.x stays, with its objects: somebody else installed it\n"},
};

START_TEST(words)
{
    json_t *plan = json_loads(told[_i].plan, 0, NULL);
    struct buf out;
    buf_init(&out, 4096);
    ck_assert_ptr_nonnull(plan);
    purge_tell(plan, &out);
    ck_assert_str_eq(buf_cstr(&out), told[_i].text);
    buf_fini(&out);
    json_decref(plan);
}
END_TEST

TESTS(purge)
{
    tcase_add_loop_test(tc, verdict, 0, N_OF(rows));
    tcase_add_loop_test(tc, words, 0, N_OF(told));
}
