/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/jpatch.h"

#include <stdio.h>

#include "lib/base/rand.h"
#include "tests/unit/tcase.h"

static json_t *json(const char *text)
{
    struct err err = {0};
    json_t *v = NULL;

    ck_assert_msg(json_parse(slice_str(text), NULL, &v, &err) == 0, "%s: %s", text, err.msg);
    return v;
}

static const struct {
    const char *pointer, *want; /* NULL: nothing there */
} pointers[] = {
    /* RFC 6901 5 */
    {"", "{"},        {"/foo", "["},    {"/foo/0", "\"bar\""}, {"/", "0"},
    {"/a~1b", "1"},   {"/c%d", "2"},    {"/m~0n", "8"},        {"/ ", "7"},
    {"/foo/2", NULL}, {"/foo/-", NULL}, {"/foo/00", NULL},     {"/foo/+1", NULL},
    {"foo", NULL},    {"/m~n", NULL},   {"/m~2n", NULL},       {"/foo/0/x", NULL},
    {"/~", NULL},
};

START_TEST(pointer)
{
    CLEANUP(json_freep)
    json_t *doc = json("{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/b\":1,\"c%d\":2,\" \":7,\"m~n\":8}");
    json_t *v = pointer_get(doc, slice_str(pointers[_i].pointer));
    CLEANUP(mem_freep) char *got = v ? json_text(v, JSON_TIGHT) : NULL;

    ck_assert_msg((v != NULL) == (pointers[_i].want != NULL), "%s", pointers[_i].pointer);
    if (v)
        ck_assert(strncmp(got, pointers[_i].want, strlen(pointers[_i].want)) == 0);
}
END_TEST

START_TEST(pointer_building)
{
    CLEANUP(buf_freep) struct buf b;
    char token[8];
    struct slice rest, t;

    buf_init(&b, 100);
    pointer_add(&b, SL("a/b~c"));
    pointer_add_index(&b, 12);
    ck_assert_str_eq(buf_cstr(&b), "/a~1b~0c/12");
    rest = buf_slice(&b);
    ck_assert_int_eq(pointer_next(&rest, token, sizeof token, &t), ERR_OK);
    ck_assert_str_eq(token, "a/b~c");
    ck_assert_int_eq(pointer_next(&rest, token, 2, &t), ERR_LIMIT);
    ck_assert_int_eq(pointer_next(&rest, token, sizeof token, &t), ERR_OK);
    ck_assert_int_eq(pointer_next(&rest, token, sizeof token, &t), ERR_EOF);
}
END_TEST

static const struct {
    const char *doc, *patch, *want; /* NULL: refused */
    enum err_code code;
} cases[] = {
    /* the numbers are those of RFC 6902's appendix A */
    {"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\"}]",
     "{\"baz\":\"qux\",\"foo\":\"bar\"}", 0}, /* A.1 */
    {"{\"foo\":[\"bar\",\"baz\"]}", "[{\"op\":\"add\",\"path\":\"/foo/1\",\"value\":\"qux\"}]",
     "{\"foo\":[\"bar\",\"qux\",\"baz\"]}", 0}, /* A.2 */
    {"{\"baz\":\"qux\",\"foo\":\"bar\"}", "[{\"op\":\"remove\",\"path\":\"/baz\"}]",
     "{\"foo\":\"bar\"}", 0}, /* A.3 */
    {"{\"foo\":[\"bar\",\"qux\",\"baz\"]}", "[{\"op\":\"remove\",\"path\":\"/foo/1\"}]",
     "{\"foo\":[\"bar\",\"baz\"]}", 0}, /* A.4 */
    {"{\"baz\":\"qux\",\"foo\":\"bar\"}",
     "[{\"op\":\"replace\",\"path\":\"/baz\",\"value\":\"boo\"}]",
     "{\"baz\":\"boo\",\"foo\":\"bar\"}", 0}, /* A.5 */
    {"{\"foo\":{\"bar\":\"baz\",\"waldo\":\"fred\"},\"qux\":{\"corge\":\"grault\"}}",
     "[{\"op\":\"move\",\"from\":\"/foo/waldo\",\"path\":\"/qux/thud\"}]",
     "{\"foo\":{\"bar\":\"baz\"},\"qux\":{\"corge\":\"grault\",\"thud\":\"fred\"}}", 0}, /* A.6 */
    {"{\"foo\":[\"all\",\"grass\",\"cows\",\"eat\"]}",
     "[{\"op\":\"move\",\"from\":\"/foo/1\",\"path\":\"/foo/3\"}]",
     "{\"foo\":[\"all\",\"cows\",\"eat\",\"grass\"]}", 0}, /* A.7 */
    {"{\"baz\":\"qux\",\"foo\":[\"a\",2,\"c\"]}",
     "[{\"op\":\"test\",\"path\":\"/baz\",\"value\":\"qux\"},"
     "{\"op\":\"test\",\"path\":\"/foo/1\",\"value\":2.0}]",
     "{\"baz\":\"qux\",\"foo\":[\"a\",2,\"c\"]}", 0}, /* A.8 */
    {"{\"baz\":\"qux\"}", "[{\"op\":\"test\",\"path\":\"/baz\",\"value\":\"bar\"}]", NULL,
     ERR_CONFLICT}, /* A.9 */
    {"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/child\",\"value\":{\"g\":{}}}]",
     "{\"child\":{\"g\":{}},\"foo\":\"bar\"}", 0}, /* A.10 */
    {"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\",\"xyz\":1}]",
     "{\"baz\":\"qux\",\"foo\":\"bar\"}", 0}, /* A.11 */
    {"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/baz/bat\",\"value\":1}]", NULL,
     ERR_NOT_FOUND}, /* A.12 */
    {"{\"/\":9,\"~1\":10}", "[{\"op\":\"test\",\"path\":\"/~01\",\"value\":10}]",
     "{\"/\":9,\"~1\":10}", 0}, /* A.14 */
    {"{\"/\":9,\"~1\":10}", "[{\"op\":\"test\",\"path\":\"/~01\",\"value\":\"10\"}]", NULL,
     ERR_CONFLICT}, /* A.15 */
    {"{\"foo\":[\"bar\"]}", "[{\"op\":\"add\",\"path\":\"/foo/-\",\"value\":[\"abc\"]}]",
     "{\"foo\":[\"bar\",[\"abc\"]]}", 0}, /* A.16 */
    {"{\"a\":[1]}", "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/b\"}]", "{\"a\":[1],\"b\":[1]}",
     0},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"\",\"value\":[1]}]", "[1]", 0},
    {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":null}]", "null", 0},
    {"[1,2]", "[{\"op\":\"replace\",\"path\":\"/1\",\"value\":null}]", "[1,null]", 0},
    {"{\"a\":{\"b\":1}}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b\"}]", NULL,
     ERR_INVALID},
    {"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a\"}]", "{\"a\":1}", 0},
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"\"}]", NULL, ERR_INVALID},
    {"[1]", "[{\"op\":\"add\",\"path\":\"/2\",\"value\":1}]", NULL, ERR_NOT_FOUND},
    {"[1]", "[{\"op\":\"add\",\"path\":\"/01\",\"value\":1}]", NULL, ERR_NOT_FOUND},
    {"[1]", "[{\"op\":\"remove\",\"path\":\"/1\"}]", NULL, ERR_NOT_FOUND},
    {"[1]", "[{\"op\":\"remove\",\"path\":\"/-\"}]", NULL, ERR_NOT_FOUND},
    {"{}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":1}]", NULL, ERR_NOT_FOUND},
    {"{}", "[{\"op\":\"add\",\"path\":\"/a\"}]", NULL, ERR_INVALID},
    {"{}", "[{\"op\":\"spam\",\"path\":\"/a\",\"value\":1}]", NULL, ERR_INVALID},
    {"{}", "[{\"path\":\"/a\",\"value\":1}]", NULL, ERR_INVALID},
    {"{}", "[7]", NULL, ERR_INVALID},
    {"{}", "{}", NULL, ERR_INVALID},
};

START_TEST(apply)
{
    CLEANUP(json_freep) json_t *doc = json(cases[_i].doc);
    CLEANUP(json_freep) json_t *before = json(cases[_i].doc);
    CLEANUP(json_freep) json_t *patch = json(cases[_i].patch);
    CLEANUP(json_freep) json_t *after = NULL;
    CLEANUP(mem_freep) char *got = NULL;
    struct err err = {0};
    int rc = jpatch_apply(doc, patch, &after, &err);

    ck_assert_msg(rc == (cases[_i].want ? 0 : -1), "%s", err.msg);
    ck_assert_int_eq(err.code, cases[_i].code);
    ck_assert(json_equal(doc, before));
    if (rc < 0)
        return;
    got = json_text(after, JSON_TIGHT);
    ck_assert_str_eq(got, cases[_i].want);
}
END_TEST

/* Each copy doubles the document: refused by its size. */
START_TEST(growth)
{
    CLEANUP(json_freep) json_t *doc = json("{\"a\":[1]}");
    CLEANUP(json_freep) json_t *patch = json_array();
    CLEANUP(json_freep) json_t *after = NULL;
    struct err err = {0};

    for (int i = 0; i < 60; i++)
        json_array_append_new(
            patch, json_pack("{s:s,s:s,s:s}", "op", "copy", "from", "/a", "path", "/a/0"));
    ck_assert_int_eq(jpatch_apply(doc, patch, &after, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
}
END_TEST

static const struct {
    const char *a, *b, *want;
} diffs[] = {
    {"{\"a\":1}", "{\"a\":1}", "[]"},
    {"{\"b\":1,\"c\":2}", "{\"a\":0,\"c\":3}",
     "[{\"op\":\"add\",\"path\":\"/a\",\"value\":0},{\"op\":\"remove\",\"path\":\"/b\"},"
     "{\"op\":\"replace\",\"path\":\"/c\",\"value\":3}]"},
    {"{\"a/b\":{\"~\":1}}", "{\"a/b\":{\"~\":2}}",
     "[{\"op\":\"replace\",\"path\":\"/a~1b/~0\",\"value\":2}]"},
    {"[1,2,3]", "[1,9,2,3]", "[{\"op\":\"add\",\"path\":\"/1\",\"value\":9}]"},
    {"[1,2,3]", "[1,2,3,4,5]",
     "[{\"op\":\"add\",\"path\":\"/3\",\"value\":4},{\"op\":\"add\",\"path\":\"/4\",\"value\":5}]"},
    {"[1,2,3,4]", "[1,4]",
     "[{\"op\":\"remove\",\"path\":\"/2\"},{\"op\":\"remove\",\"path\":\"/1\"}]"},
    {"[{\"a\":1},2]", "[{\"a\":2},2]", "[{\"op\":\"replace\",\"path\":\"/0/a\",\"value\":2}]"},
    {"[1]", "{}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{}}]"},
    {"{\"a\":null}", "{}", "[{\"op\":\"remove\",\"path\":\"/a\"}]"},
    {"{\"a\":1}", "{\"a\":1.0}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":1.0}]"},
};

START_TEST(difference)
{
    CLEANUP(json_freep) json_t *a = json(diffs[_i].a);
    CLEANUP(json_freep) json_t *b = json(diffs[_i].b);
    CLEANUP(json_freep) json_t *patch = jpatch_diff(a, b);
    CLEANUP(json_freep) json_t *after = NULL;
    CLEANUP(mem_freep) char *got = json_text(patch, JSON_TIGHT);
    struct err err = {0};

    ck_assert_str_eq(got, diffs[_i].want);
    ck_assert_int_eq(jpatch_apply(a, patch, &after, &err), 0);
    ck_assert(json_equal(after, b));
}
END_TEST

static json_t *random_value(struct rnd *r, int depth)
{
    uint32_t kind = rnd_below(r, depth > 0 ? 6 : 4), n = rnd_below(r, 5);
    json_t *v;

    if (kind == 0)
        return json_integer(rnd_below(r, 3));
    if (kind == 1)
        return json_string(rnd_below(r, 2) ? "x" : "a/~b");
    if (kind <= 3)
        return kind == 2 ? json_true() : json_null();
    v = kind == 4 ? json_array() : json_object();
    for (uint32_t i = 0; i < n; i++) {
        static const char *const keys[] = {"a", "b", "c/d", "e~f", ""};

        if (kind == 4)
            json_array_append_new(v, random_value(r, depth - 1));
        else
            json_object_set_new(v, keys[rnd_below(r, 5)], random_value(r, depth - 1));
    }
    return v;
}

START_TEST(diff_then_apply_is_identity)
{
    struct rnd r;

    json_setup();
    for (uint64_t seed = 0; seed < 2000; seed++) {
        CLEANUP(json_freep) json_t *a = NULL;
        CLEANUP(json_freep) json_t *b = NULL;
        CLEANUP(json_freep) json_t *patch = NULL;
        CLEANUP(json_freep) json_t *after = NULL;
        struct err err = {0};

        rnd_init_seed(&r, seed);
        a = random_value(&r, 4);
        b = random_value(&r, 4);
        patch = jpatch_diff(a, b);
        ck_assert_msg(jpatch_apply(a, patch, &after, &err) == 0, "seed %d: %s", (int)seed, err.msg);
        ck_assert_msg(json_equal(after, b), "seed %d", (int)seed);
    }
}
END_TEST

START_TEST(oom)
{
    json_setup();
    CLEANUP(json_freep) json_t *a = json("{\"a\":[1,2,{\"b\":3}],\"c\":1}");
    CLEANUP(json_freep) json_t *b = json("{\"a\":[1,{\"b\":4},5],\"d\":\"x\"}");

    OOM_SWEEP (n) {
        CLEANUP(json_freep) json_t *patch = jpatch_diff(a, b);
        CLEANUP(json_freep) json_t *after = NULL;
        struct err err = {0};

        if (patch && jpatch_apply(a, patch, &after, &err) == 0)
            ck_assert(json_equal(after, b));
        else
            ck_assert(mem_fail_hit());
    }
}
END_TEST

TESTS(jpatch)
{
    tcase_add_loop_test(tc, pointer, 0, (int)N_OF(pointers));
    tcase_add_test(tc, pointer_building);
    tcase_add_loop_test(tc, apply, 0, (int)N_OF(cases));
    tcase_add_test(tc, growth);
    tcase_add_loop_test(tc, difference, 0, (int)N_OF(diffs));
    tcase_add_test(tc, diff_then_apply_is_identity);
    tcase_add_test(tc, oom);
}
