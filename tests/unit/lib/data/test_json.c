/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/json.h"

#include <stdio.h>

#include "tests/unit/tcase.h"

static const struct {
    const char *in;
    enum err_code code; /* ERR_OK: read and written again gives `out` */
    const char *out;
} texts[] = {
    {"{\"b\":1,\"a\":[true,null,\"x\"]}", ERR_OK, "{\"a\":[true,null,\"x\"],\"b\":1}"},
    {" 7 ", ERR_OK, "7"},
    {"[0.1,1e21,-0.0,1.5e-7,100.0]", ERR_OK, "[0.1,1e+21,-0.0,1.5e-07,100.0]"},
    {"\"\\u00e9\\n\\\"\\\\\\u001b\"", ERR_OK, "\"\xc3\xa9\\n\\\"\\\\\\u001b\""},
    {"{\"a\":1,\"a\":2}", ERR_INVALID, "line 1 column"},
    {"{\"a\":1}\n x", ERR_INVALID, "line 2 column"},
    {"\"\\u0000\"", ERR_INVALID, "line 1 column"},
    {"{\"a\\u0000b\":1}", ERR_INVALID, "line 1 column"},
    {"[1,]", ERR_INVALID, "line 1 column"},
    {"", ERR_INVALID, "line 1 column"},
    {"\"\xff\"", ERR_INVALID, "line 1 column"},
    {"[99999999999999999999]", ERR_INVALID, "line 1 column"},
    {"[1e999]", ERR_INVALID, "line 1 column"},
    {"NaN", ERR_INVALID, "line 1 column"},
};

START_TEST(read_and_write)
{
    CLEANUP(json_freep) json_t *v = NULL;
    CLEANUP(mem_freep) char *got = NULL;
    struct err err = {0};
    int rc = json_parse(slice_str(texts[_i].in), NULL, &v, &err);

    ck_assert_int_eq(err.code, texts[_i].code);
    ck_assert_int_eq(rc, texts[_i].code == ERR_OK ? 0 : -1);
    if (rc < 0) {
        ck_assert_msg(strstr(err.msg, texts[_i].out) != NULL, "%s", err.msg);
        return;
    }
    got = json_text(v, JSON_TIGHT);
    ck_assert_str_eq(got, texts[_i].out);
}
END_TEST

START_TEST(limits)
{
    char deep[200];
    struct err err = {0};
    CLEANUP(json_freep) json_t *v = NULL;

    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    ck_assert_int_eq(json_parse(slice_of(deep + 1, 128), NULL, &v, &err), 0);
    json_decref(TAKE(v));
    ck_assert_int_eq(json_parse(slice_of(deep, 130), NULL, &v, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    err = (struct err){0};
    ck_assert_int_eq(json_parse(SL("[[1]]"), &(struct json_limits){.depth = 1}, &v, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    err = (struct err){0};
    ck_assert_int_eq(json_parse(SL("[1,2]"), &(struct json_limits){.bytes = 4}, &v, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    ck_assert_int_eq(json_parse(SL("\"[[[\\\"[[[\""), &(struct json_limits){.depth = 1}, &v, &err),
                     0);
}
END_TEST

START_TEST(pretty)
{
    CLEANUP(json_freep) json_t *v = json_pack("{s:[i,{}],s:[],s:{s:b}}", "b", 1, "a", "c", "x", 1);
    CLEANUP(mem_freep) char *got = json_text(v, JSON_PRETTY);

    ck_assert_str_eq(got, "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {}\n  ],\n  \"c\": {\n"
                          "    \"x\": true\n  }\n}\n");
}
END_TEST

START_TEST(odd_bytes)
{
    CLEANUP(json_freep) json_t *v = json_string_of(SL("a\xff\xc3\xa9"));

    ck_assert_str_eq(json_string_value(v), "a\xef\xbf\xbd\xc3\xa9");
}
END_TEST

/* --- the decoder ------------------------------------------------------------------------------ */

struct route {
    struct slice host;
    uint32_t weight;
    int64_t timeout_ns;
    int mode;
    bool on;
};

static int decode_route(const struct dec *d, struct route *r)
{
    static const char *const modes[] = {"SIMPLE", "MUTUAL", NULL};

    dec_need(d, "host");
    dec_str(d, "host", &r->host);
    dec_u32(d, "weight", 100, &r->weight);
    dec_duration(d, "timeout", &r->timeout_ns);
    dec_enum(d, "mode", modes, &r->mode);
    dec_bool(d, "on", &r->on);
    return dec_failed(d) ? -1 : 0;
}

static int decode(json_t *doc, struct route *r, struct err *err)
{
    struct dec root = dec_root(doc, err), spec, http, rule, routes, one;

    if (dec_obj(&root, "spec", &spec) > 0 && dec_arr(&spec, "http", &http) > 0)
        for (size_t i = 0; dec_at(&http, i, &rule) > 0; i++)
            if (dec_arr(&rule, "route", &routes) > 0)
                for (size_t k = 0; dec_at(&routes, k, &one) > 0; k++)
                    if (decode_route(&one, r) < 0)
                        return -1;
    return err->code == ERR_OK ? 0 : -1;
}

#define ROUTE(fields) "{\"spec\":{\"http\":[{\"route\":[{\"host\":\"a\"},{" fields "}]}]}}"
#define AT "spec.http[0].route[1]."
static const struct {
    const char *in, *want; /* NULL: decodes */
} fields[] = {
    {ROUTE("\"host\":\"b\",\"weight\":7,\"timeout\":\"1.5s\",\"mode\":\"MUTUAL\",\"on\":true"),
     NULL},
    {ROUTE("\"host\":\"b\",\"weight\":7.0,\"timeout\":\"1.5s\",\"mode\":\"MUTUAL\",\"on\":true"),
     NULL},
    {ROUTE("\"host\":\"b\",\"weight\":\"x\""), AT "weight: must be a number, is a string"},
    {ROUTE("\"host\":\"b\",\"weight\":120"), AT "weight: must be 0..100, is 120"},
    {ROUTE("\"host\":\"b\",\"weight\":1.5"), AT "weight: must be an integer, is 1.5"},
    {ROUTE("\"weight\":1"), AT "host: is required"},
    {ROUTE("\"host\":null"), AT "host: is required"},
    {ROUTE("\"host\":{}"), AT "host: must be a string, is an object"},
    {ROUTE("\"host\":\"b\",\"timeout\":\"5\""),
     AT "timeout: must be a duration such as \"1.5s\", is \"5\""},
    {ROUTE("\"host\":\"b\",\"mode\":\"x\""), AT "mode: must be one of SIMPLE, MUTUAL, is \"x\""},
    {ROUTE("\"host\":\"b\",\"on\":\"yes\""), AT "on: must be true or false, is a string"},
    {"{\"spec\":[]}", "spec: must be an object, is an array"},
    {"[]", "must be an object, is an array"},
    {"{\"spec\":{\"http\":{}}}", "spec.http: must be an array, is an object"},
    {"{\"spec\":{\"http\":[7]}}", "spec.http[0]: must be an object, is a number"},
};

START_TEST(decoder)
{
    CLEANUP(json_freep) json_t *doc = NULL;
    struct route r = {0};
    struct err err = {0};

    ck_assert_int_eq(json_parse(slice_str(fields[_i].in), NULL, &doc, &err), 0);
    ck_assert_int_eq(decode(doc, &r, &err), fields[_i].want ? -1 : 0);
    if (fields[_i].want) {
        ck_assert_str_eq(err.msg, fields[_i].want);
        return;
    }
    ck_assert(slice_is(r.host, "b") && r.weight == 7 && r.timeout_ns == 1500000000 && r.mode == 1);
    ck_assert(r.on);
}
END_TEST

START_TEST(members)
{
    CLEANUP(json_freep) json_t *doc = json_pack("{s:{s:s,s:i}}", "labels", "a.b/c", "x", "n", 1);
    struct err err = {0};
    struct dec root = dec_named(doc, "metadata", &err), labels, m;
    struct slice s;
    int n = 0;

    ck_assert_int_eq(dec_obj(&root, "labels", &labels), 1);
    ck_assert_int_eq(dec_obj(&root, "absent", &labels), 0);
    for (void *it = NULL; dec_each(&labels, &it, &m) > 0; n++)
        dec_as_str(&m, &s);
    ck_assert_int_eq(n, 2);
    ck_assert_str_eq(err.msg, "metadata.labels.n: must be a string, is a number");
    err = (struct err){0};
    ck_assert_int_eq(dec_i64(&labels, "a.b/c", 0, 1, &(int64_t){0}), -1);
    ck_assert_str_eq(err.msg, "metadata.labels[a.b/c]: must be a number, is a string");
    ck_assert_int_eq(dec_fail(&labels, ERR_LIMIT, "later"), -1);
    ck_assert_int_eq(err.code, ERR_INVALID); /* the first error stays */
}
END_TEST

START_TEST(long_paths)
{
    struct fpath root = FPATH_ROOT, spec = FPATH_KEY(&root, "spec"),
                 http = FPATH_KEY(&spec, "http");
    struct fpath item = FPATH_INDEX(&http, 12), uri = FPATH_KEY(&item, "uri");
    CLEANUP(buf_freep) struct buf b;
    char small[12], full[64];

    buf_init(&b, 100);
    fpath_text(&uri, &b);
    ck_assert_str_eq(buf_cstr(&b), "spec.http[12].uri");
    ck_assert_str_eq(fpath_str(&uri, full, sizeof full), "spec.http[12].uri");
    ck_assert_str_eq(fpath_str(&uri, small, sizeof small), "...[12].uri");
}
END_TEST

START_TEST(oom)
{
    struct err err;

    json_setup();
    OOM_SWEEP (n) {
        CLEANUP(json_freep) json_t *v = NULL;
        CLEANUP(mem_freep) char *text = NULL;

        err = (struct err){0};
        if (json_parse(SL("{\"a\":[1,2,{\"b\":\"c\"}],\"a longer key than most\":1.5,\"d\":"
                          "\"an \\u00e9scaped string that is long enough to grow\"}"),
                       NULL, &v, &err) < 0)
            ck_assert_msg(err.code == ERR_NOMEM, "%s", err.msg);
        else
            text = json_text(v, JSON_PRETTY);
    }
}
END_TEST

TESTS(json)
{
    tcase_add_loop_test(tc, read_and_write, 0, (int)N_OF(texts));
    tcase_add_test(tc, limits);
    tcase_add_test(tc, pretty);
    tcase_add_test(tc, odd_bytes);
    tcase_add_loop_test(tc, decoder, 0, (int)N_OF(fields));
    tcase_add_test(tc, members);
    tcase_add_test(tc, long_paths);
    tcase_add_test(tc, oom);
}
