/* SPDX-License-Identifier: Apache-2.0 */
/* Objects from a folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/data/json.h"
#include "operator/files.h"
#include "operator/source.h"
#include "tests/unit/tcase.h"

static struct clock clk;
static struct loop *loop;
static struct model model;
static struct source *source;
static char dir[64];
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

static void put(const char *name, const char *text)
{
    char path[200];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_msg(file_write(path, 0644, slice_str(text), &err) == 0, "%s", err.msg);
}

static void rescan(void) /* inotify, or the look that comes anyway */
{
    struct err err = {0};
    for (int i = 0; i < 120; i++) {
        clock_advance(&clk, 100 * NS_PER_MS);
        for (int k = 0; k < 50 && loop_turn(loop, 0, &err) > 0; k++)
            ;
    }
}

static int begin(struct err *err)
{
    return source_dir(loop, dir, &model, &source, err);
}

static void setup(void)
{
    struct err err = {0};
    json_setup();
    clock_init_virtual(&clk, 1700000000 * NS_PER_S);
    strcpy(dir, "/tmp/tulle-source-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(loop_new(&clk, &loop, &err), 0);
    ck_assert_int_eq(model_init(&model, "tulle-system", "tulle", &err), 0);
    model_listen(&model, &(struct model_listener){.policy = policy, .synced = synced});
    source = NULL;
    policies_n = synced_n = 0;
}

static void teardown(void)
{
    char cmd[120];
    if (source)
        source_free(source);
    model_fini(&model);
    loop_free(loop);
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}

#define VS(name, host)                                                                             \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name            \
    ", namespace: shop}\nspec: {hosts: [" host "], http: [{route: [{destination: {host: a}}]}]}\n"

static const struct policy_fact *vs(const char *ns, const char *name)
{
    return model_policy(&model, INDEX_VS, slice_str(ns), slice_str(name));
}

static const struct {
    const char *name, *file, *text;
    bool found, fails;
} files[] = {
    {"YAML", "a.yaml", VS("web", "a.example"), true, false},
    {"two documents", "a.yml", "---\n" VS("other", "b.example") "---\n" VS("web", "a.example"), true, false},
    {"JSON", "a.json", "{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\",\"metadata\":"
     "{\"name\":\"web\",\"namespace\":\"shop\"},\"spec\":{\"hosts\":[\"a.example\"]}}", true, false},
    {"a List", "a.yaml", "kind: List\nitems:\n- {apiVersion: networking.istio.io/v1, kind: VirtualService, "
     "metadata: {name: web, namespace: shop}, spec: {hosts: [a.example]}}\n", true, false},
    {"another ending", "a.txt", VS("web", "a.example"), false, false},
    {"hidden", ".a.yaml", VS("web", "a.example"), false, false},
    {"a kind that is not read", "a.yaml", "apiVersion: v1\nkind: Foo\nmetadata: {name: web}\n", false, false},
    {"no name", "a.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {}\n", false, false},
    {"broken in the first round", "a.yaml", "a: [", false, true},
};
START_TEST(what_a_file_brings)
{
    struct err err = {0};
    put(files[_i].file, files[_i].text);
    int rc = begin(&err);
    ck_assert_msg((rc < 0) == files[_i].fails, "%s: %s", files[_i].name, err.msg);
    if (rc < 0) {
        source = NULL;
        return;
    }
    ck_assert_msg((vs("shop", "web") != NULL) == files[_i].found, "%s", files[_i].name);
    ck_assert_int_eq(synced_n, 1);
}
END_TEST

START_TEST(generations_are_counted_by_content)
{
    struct err err = {0};
    put("a.yaml", VS("web", "a.example"));
    ck_assert_int_eq(begin(&err), 0);
    ck_assert_int_eq(vs("shop", "web")->generation, 1);
    int before = policies_n;
    put("a.yaml", "# a comment changes nothing\n" VS("web", "a.example"));
    rescan();
    ck_assert_int_eq(vs("shop", "web")->generation, 1);
    ck_assert_int_eq(policies_n, before);
    put("a.yaml", VS("web", "b.example"));
    rescan();
    ck_assert_int_eq(vs("shop", "web")->generation, 2);
}
END_TEST

START_TEST(what_goes_is_removed_and_what_breaks_stays)
{
    char path[200];
    struct err err = {0};
    put("a.yaml", VS("web", "a.example"));
    put("b.yaml", VS("other", "b.example"));
    ck_assert_int_eq(begin(&err), 0);
    ck_assert_ptr_nonnull(vs("shop", "other"));
    put("a.yaml", "a: [");
    rescan();
    ck_assert_ptr_nonnull(vs("shop", "web")); /* its last good state */
    ck_assert_uint_gt(source_stats(source).errors, 0);
    put("a.yaml", VS("web", "a.example"));
    snprintf(path, sizeof path, "%s/b.yaml", dir);
    ck_assert_int_eq(unlink(path), 0);
    rescan();
    ck_assert_ptr_nonnull(vs("shop", "web"));
    ck_assert_ptr_null(vs("shop", "other"));
}
END_TEST

START_TEST(without_a_namespace_it_is_default)
{
    struct err err = {0};
    put("a.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\n"
                  "spec: {hosts: [a.example]}\n");
    ck_assert_int_eq(begin(&err), 0);
    ck_assert_ptr_nonnull(vs("default", "web"));
}
END_TEST

TESTS(source_dir)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, what_a_file_brings, 0, N_OF(files));
    tcase_add_test(tc, generations_are_counted_by_content);
    tcase_add_test(tc, what_goes_is_removed_and_what_breaks_stays);
    tcase_add_test(tc, without_a_namespace_it_is_default);
}
