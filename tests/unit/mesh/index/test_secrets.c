/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets in the index: which are kept, under which names their parts are found, what a change tells. */
#include "lib/data/yaml.h"
#include "mesh/index/index.h"
#include "tests/unit/tcase.h"

static void put(struct index *x, const char *yaml, struct index_changes *c)
{
    struct yaml_docs docs = {0};
    struct err err = {0};
    enum index_kind kind;

    ck_assert_msg(yaml_parse(slice_str(yaml), NULL, &docs, &err) == 0, "%s", err.msg);
    ck_assert(index_kind_of(docs.p[0].value, &kind) && kind == INDEX_SECRET);
    ck_assert_msg(index_put(x, kind, docs.p[0].value, c, &err) == 0, "%s", err.msg);
    yaml_docs_fini(&docs);
}

#define HEAD "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: n, resourceVersion: '4'}, "
static const struct {
    const char *rest, *chain, *key, *roots, *crl; /* chain NULL: nothing is kept */
    bool broken;
} secrets[] = {
    {"data: {tls.crt: YWI=, tls.key: Y2Q=}}", "ab", "cd", "", "", false},
    {"data: {cert: YWI=, key: Y2Q=, cacert: ZWY=, crl: Z2g=}}", "ab", "cd", "ef", "gh", false},
    {"data: {ca.crt: ZWY=, ca.crl: Z2g=}}", "", "", "ef", "gh", false},
    {"data: {cert: YWI=, tls.crt: eHg=}}", "ab", "", "", "", false}, /* generic names first */
    {"stringData: {tls.crt: ab, tls.key: cd}}", "ab", "cd", "", "", false},
    {"data: {tls.crt: '###', tls.key: Y2Q=}}", "", "cd", "", "", true},
    {"data: {password: YWI=}}", NULL, NULL, NULL, NULL, false},
    {"type: Opaque}", NULL, NULL, NULL, NULL, false},
};

START_TEST(parts)
{
    struct index *x = index_new();
    const struct ix_secret *s;
    char text[512];

    snprintf(text, sizeof text, HEAD "%s", secrets[_i].rest);
    put(x, text, NULL);
    s = index_secret(x, SL("n"), SL("s"));
    ck_assert_int_eq(s != NULL, secrets[_i].chain != NULL);
    ck_assert(!index_secret(x, SL("other"), SL("s")));
    if (s) {
        ck_assert(slice_is(s->chain, secrets[_i].chain) && slice_is(s->key, secrets[_i].key));
        ck_assert(slice_is(s->roots, secrets[_i].roots) && slice_is(s->crl, secrets[_i].crl));
        ck_assert(slice_is(s->revision, "4"));
        ck_assert_int_eq(s->broken, secrets[_i].broken);
    }
    index_free(x);
}
END_TEST

START_TEST(changes)
{
    struct index *x = index_new();
    struct index_changes c = {0};

    put(x, HEAD "data: {tls.crt: YWI=, tls.key: Y2Q=}}", &c);
    ck_assert_uint_eq(c.n, 1);
    ck_assert(c.p[0] == INDEX_TOKEN_SECRET(SL("n"), SL("s")));
    index_changes_fini(&c);
    put(x, HEAD "data: {tls.crt: YWI=, tls.key: Y2Q=}}", &c);
    ck_assert_uint_eq(c.n, 0); /* says the same as before */
    put(x, HEAD "data: {tls.crt: YWI=, tls.key: ZWY=}}", &c);
    ck_assert_uint_eq(c.n, 1);
    ck_assert(slice_is(index_secret(x, SL("n"), SL("s"))->key, "ef"));
    index_changes_fini(&c);
    put(x, HEAD "data: {password: YWI=}}", &c); /* no certificate any more: gone */
    ck_assert_uint_eq(c.n, 1);
    ck_assert(!index_secret(x, SL("n"), SL("s")));
    index_changes_fini(&c);
    put(x, HEAD "data: {cert: YWI=}}", NULL);
    ck_assert(index_remove(x, INDEX_SECRET, SL("n"), SL("s"), &c));
    ck_assert_uint_eq(c.n, 1);
    ck_assert(!index_remove(x, INDEX_SECRET, SL("n"), SL("s"), &c));
    index_changes_fini(&c);
    index_free(x);
}
END_TEST

START_TEST(no_memory)
{
    struct index *x = index_new();
    struct yaml_docs docs = {0};
    struct err err = {0};

    ck_assert_int_eq(yaml_parse(SL(HEAD "data: {tls.crt: YWI=, tls.key: Y2Q=}}"), NULL, &docs, &err),
                     0);
    OOM_SWEEP(n)
    {
        index_put(x, INDEX_SECRET, docs.p[0].value, NULL, &err);
        index_remove(x, INDEX_SECRET, SL("n"), SL("s"), NULL);
    }
    yaml_docs_fini(&docs);
    index_free(x);
}
END_TEST

TESTS(secrets)
{
    tcase_add_loop_test(tc, parts, 0, (int)N_OF(secrets));
    tcase_add_test(tc, changes);
    tcase_add_test(tc, no_memory);
}
