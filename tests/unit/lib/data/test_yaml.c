/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/yaml.h"

#include <stdio.h>

#include "tests/unit/tcase.h"

static const struct {
    const char *in, *want; /* one document as JSON */
} reads[] = {
    {"a: 1\nb: [x, 'y', \"z\"]\n", "{\"a\":1,\"b\":[\"x\",\"y\",\"z\"]}"},
    {"[true, True, yes, on, off, NO, false]", "[true,true,true,true,false,false,false]"},
    {"[null, ~, Null, y, n, 'null', \"true\", '']",
     "[null,null,null,\"y\",\"n\",\"null\",\"true\",\"\"]"},
    {"[0, -1, +7, 0x1F, 0o17, 017, 0b101, 1_000]", "[0,-1,7,31,15,15,5,1000]"},
    {"[1.5, .5, 1e3, -1.25E-2, 08, 1.]", "[1.5,0.5,1000.0,-0.0125,8.0,1.0]"},
    {"[1.2.3, 1:30, 2026-08-01, 0x, 0xzz, 1e, -, '-']",
     "[\"1.2.3\",\"1:30\",\"2026-08-01\",\"0x\",\"0xzz\",\"1e\",\"-\",\"-\"]"},
    {"[9223372036854775807, -9223372036854775808, 9223372036854775808]",
     "[9223372036854775807,-9223372036854775808,9.223372036854776e+18]"},
    {"a: |\n  x\n   y\nb: >\n  p\n  q\n", "{\"a\":\"x\\n y\\n\",\"b\":\"p q\\n\"}"},
    {"a:\n", "{\"a\":null}"},
    {"8080: a\ntrue: b\n'no': c\n0x10: d\n1.5: e\n",
     "{\"1.5\":\"e\",\"16\":\"d\",\"8080\":\"a\",\"no\":\"c\",\"true\":\"b\"}"},
    {"a: &x {k: 1}\nb: *x\n", "{\"a\":{\"k\":1},\"b\":{\"k\":1}}"},
    {"base: &b {a: 1, c: 2}\nd:\n  <<: *b\n  c: 3\n",
     "{\"base\":{\"a\":1,\"c\":2},\"d\":{\"a\":1,\"c\":3}}"},
    {"x: &x {a: 1}\ny: &y {a: 2, b: 3}\nz: {<<: [*x, *y], c: 4}\n",
     "{\"x\":{\"a\":1},\"y\":{\"a\":2,\"b\":3},\"z\":{\"a\":1,\"b\":3,\"c\":4}}"},
    {"'<<': 1", "{\"<<\":1}"},
    {"[!!str 1, !!float 2, !!int '3', !!null '', ! 4, !!bool yes]", "[\"1\",2,3,null,\"4\",true]"},
    {"\xef\xbb\xbf"
     "a: 1",
     "{\"a\":1}"},
    {"\"\\u00e9\\x41\"", "\"\xc3\xa9"
                         "A\""},
    {"# only a comment\n---\na: 1\n...\n", "{\"a\":1}"},
    {"", "null"},
    {"---\n", "null"},
    {"'' # an empty string is a document", "\"\""},
};

START_TEST(read)
{
    CLEANUP(json_freep) json_t *v = NULL;
    CLEANUP(mem_freep) char *got = NULL;
    struct err err = {0};

    ck_assert_msg(yaml_parse_one(slice_str(reads[_i].in), NULL, &v, &err) == 0, "%s", err.msg);
    got = json_text(v, JSON_TIGHT);
    ck_assert_str_eq(got, reads[_i].want);
}
END_TEST

static const struct {
    const char *in;
    enum err_code code;
    const char *part; /* of the message */
} refused[] = {
    {"a: 1\na: 2\n", ERR_INVALID, "line 2: duplicate key \"a\""},
    {"a: 1\n'a': 2\n", ERR_INVALID, "line 2: duplicate key"},
    {"1: x\n0x1: y\n", ERR_INVALID, "line 2: duplicate key"},
    {"a: *x\n", ERR_INVALID, "line 1: alias of an unknown anchor"},
    {"a: &x [*x]\n", ERR_INVALID, "line 1: alias of an unknown anchor"},
    {"---\na: &x 1\n---\nb: *x\n", ERR_INVALID, "line 4: alias"},
    {"a: [1, 2\n", ERR_INVALID, "line 2: "},
    {"a: b: c\n", ERR_INVALID, "line 1: "},
    {"\ta: 1", ERR_INVALID, "line 1: "},
    {"a: !!binary aGk=\n", ERR_INVALID, "line 1: unknown tag"},
    {"a: !x {}\n", ERR_INVALID, "line 1: unknown tag"},
    {"a: !!int x\n", ERR_INVALID, "line 1: scalar is not"},
    {"a: .nan\n", ERR_INVALID, "line 1: a number that JSON cannot hold"},
    {"a: 1e999\n", ERR_INVALID, "line 1: a number that JSON cannot hold"},
    {"a: \"\\0\"\n", ERR_INVALID, "line 1: NUL"},
    {"? [a]\n: b\n", ERR_INVALID, "line 1: a key must be a scalar"},
    {"~: b\n", ERR_INVALID, "line 1: a key must not be null"},
    {"a: 1\nb:\n  <<: 7\n", ERR_INVALID, "a merge key needs a mapping"},
    {"a: \xff\n", ERR_INVALID, "line 1: "},
    {"a: 1\n---\nb: 2\n", ERR_INVALID, "line 3: a second document"},
};

START_TEST(read_refused)
{
    CLEANUP(json_freep) json_t *v = NULL;
    struct err err = {0};

    ck_assert_int_eq(yaml_parse_one(slice_str(refused[_i].in), NULL, &v, &err), -1);
    ck_assert_int_eq(err.code, refused[_i].code);
    ck_assert_msg(strstr(err.msg, refused[_i].part) != NULL, "%s", err.msg);
}
END_TEST

START_TEST(documents)
{
    CLEANUP(yaml_docs_fini) struct yaml_docs d = {0};
    struct err err = {0};

    ck_assert_int_eq(
        yaml_parse(SL("# head\n\na: 1\n---\n# nothing\n---\n\n- x\n---\nlast\n"), NULL, &d, &err),
        0);
    ck_assert_uint_eq(d.len, 3);
    ck_assert_uint_eq(d.p[0].line, 3);
    ck_assert_uint_eq(d.p[1].line, 8);
    ck_assert_uint_eq(d.p[2].line, 10);
    ck_assert_str_eq(json_string_value(d.p[2].value), "last");
}
END_TEST

/* Aliases of aliases: the expansion is refused by its size, not made. */
START_TEST(billion_laughs)
{
    CLEANUP(json_freep) json_t *v = NULL;
    struct err err = {0};
    char text[1024];
    size_t n = (size_t)snprintf(text, sizeof text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");

    for (int i = 1; i < 12; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1,
                              i - 1, i - 1, i - 1, i - 1);
    ck_assert_int_eq(yaml_parse_one(slice_of(text, n), NULL, &v, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
}
END_TEST

START_TEST(limits)
{
    static char deep[1000];
    CLEANUP(json_freep) json_t *v = NULL;
    struct err err = {0};

    memset(deep, '[', 500);
    memset(deep + 500, ']', 500);
    ck_assert_int_eq(yaml_parse_one(slice_of(deep, 1000), NULL, &v, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    err = (struct err){0};
    ck_assert_int_eq(
        yaml_parse_one(SL("a: &x [[1]]\nb: [*x]"), &(struct yaml_limits){.depth = 3}, &v, &err),
        -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    err = (struct err){0};
    ck_assert_int_eq(yaml_parse_one(SL("[1,2,3]"), &(struct yaml_limits){.nodes = 3}, &v, &err),
                     -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
}
END_TEST

static const char *const values[] = {
    "null",
    "\"text\"",
    "[]",
    "{}",
    "[[],{},[[1]],{\"a\":[{\"b\":{\"c\":null}}]}]",
    "[\"true\",\"yes\",\"y\",\"1\",\"1.5\",\"0x1\",\"null\",\"\",\"~\",\"-\",\"- a\",\"a: b\",\"a "
    "#b\"]",
    "[\" a\",\"a "
    "\",\"a:\",\"#a\",\"@a\",\"%a\",\"*a\",\"&a\",\"...\",\"---\",\"<<\",\"2026-08-01\",\"1:30\"]",
    "{\"text\":\"one\\ntwo\\n\",\"none\":\"one\\n\\n two\",\"more\":\"x\\n\\n\",\"lead\":\" "
    "x\\ny\",\"nl\":\"\\n\"}",
    "[\"one\\ntwo\\n\",[\"a\\n  b\\nc\"]]",
    "{\"key: x\":1,\"true\":2,\"8\":3,\"\":4,\"a b\":5,\"- \":6}",
    "[\"\xc3\xa9\",\"\xe2\x80\xa8\",\"\xef\xbb\xbf\",\"\\u0085\\u007f\\u0001\","
    "\"\xf0\x9f\x98\x80\",\"a\\tb\"]",
    "[1,-1,1.5,1e+21,9223372036854775807,true,false]",
    "\"one\\ntwo\"",
    "\"...\"",
};

START_TEST(write_reads_back)
{
    CLEANUP(json_freep) json_t *v = NULL;
    CLEANUP(json_freep) json_t *back = NULL;
    CLEANUP(buf_freep) struct buf b;
    struct err err = {0};

    buf_init(&b, 100000);
    ck_assert_msg(json_parse(slice_str(values[_i]), NULL, &v, &err) == 0, "%s", err.msg);
    yaml_write(v, &b);
    ck_assert_msg(yaml_parse_one(buf_slice(&b), NULL, &back, &err) == 0, "%s\n%s", err.msg,
                  buf_cstr(&b));
    ck_assert_msg(json_equal(v, back), "%s", buf_cstr(&b));
}
END_TEST

START_TEST(write_form)
{
    static const char want[] = "kind: Pod\n"
                               "metadata:\n"
                               "  labels: {}\n"
                               "  name: a\n"
                               "spec:\n"
                               "  containers:\n"
                               "  - args:\n"
                               "    - --x=1\n"
                               "    - \"8080\"\n"
                               "    name: b\n"
                               "  - name: c\n"
                               "    text: |\n"
                               "      one\n"
                               "      two\n";
    CLEANUP(json_freep) json_t *v = NULL;
    CLEANUP(buf_freep) struct buf b;
    struct err err = {0};

    buf_init(&b, 100000);
    ck_assert_int_eq(yaml_parse_one(slice_str(want), NULL, &v, &err), 0);
    yaml_write(v, &b);
    ck_assert_str_eq(buf_cstr(&b), "kind: Pod\n"
                                   "metadata:\n"
                                   "  labels: {}\n"
                                   "  name: a\n"
                                   "spec:\n"
                                   "  containers:\n"
                                   "  - args:\n"
                                   "    - \"--x=1\"\n"
                                   "    - \"8080\"\n"
                                   "    name: b\n"
                                   "  - name: c\n"
                                   "    text: |\n"
                                   "      one\n"
                                   "      two\n");
}
END_TEST

START_TEST(oom)
{
    json_setup();
    OOM_SWEEP (n) {
        struct err err = {0};
        CLEANUP(yaml_docs_fini) struct yaml_docs d = {0};
        CLEANUP(buf_freep) struct buf b;

        buf_init(&b, 10000);
        if (yaml_parse(SL("a: &x {b: [1, two, 3.5]}\nc: *x\nd: {<<: *x}\n---\n- e\n"), NULL, &d,
                       &err) < 0)
            ck_assert_msg(err.code == ERR_NOMEM, "%s", err.msg);
        else
            yaml_write(d.p[0].value, &b);
    }
}
END_TEST

TESTS(yaml)
{
    tcase_add_loop_test(tc, read, 0, (int)N_OF(reads));
    tcase_add_loop_test(tc, read_refused, 0, (int)N_OF(refused));
    tcase_add_test(tc, documents);
    tcase_add_test(tc, billion_laughs);
    tcase_add_test(tc, limits);
    tcase_add_loop_test(tc, write_reads_back, 0, (int)N_OF(values));
    tcase_add_test(tc, write_form);
    tcase_add_test(tc, oom);
}
