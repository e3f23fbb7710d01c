/* SPDX-License-Identifier: Apache-2.0 */
/* tests/golden/analyze/<case>.yaml is a picture; what is said of each object with the others in
 * view stands in <case>.want. A file that begins with "# complete" holds all of its cluster.
 * GOLDEN_WRITE=1 writes the wants. The order in which objects come changes nothing. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/data/json.h"
#include "lib/data/yaml.h"
#include "mesh/analyze/analyze.h"
#include "tests/unit/tcase.h"

#define DIR_GOLDEN "tests/golden/analyze"

static char *read_all(const char *path)
{
    FILE *in = fopen(path, "r");
    char *text = calloc(1, 1 << 18);

    if (in) {
        ck_assert_uint_lt(fread(text, 1, 1 << 18, in), 1 << 18);
        fclose(in);
    }
    return text;
}

static const char *meta(const json_t *obj, const char *key)
{
    const char *s = json_string_value(json_object_get(json_object_get(obj, "metadata"), key));

    return s ? s : "";
}

static void say(const struct analysis *a, const json_t *obj, struct buf *out)
{
    struct arena tmp = ARENA_INIT;
    struct findings f;
    enum index_kind kind;

    findings_init(&f, &tmp);
    if (index_kind_of(obj, &kind))
        analyze_object(a, kind, slice_str(meta(obj, "namespace")), slice_str(meta(obj, "name")),
                       &tmp, &f);
    analyze_workload(a, obj, &tmp, &f);
    ck_assert(!f.nomem);
    if (f.n)
        buf_addf(out, "%s %s/%s\n", json_string_value(json_object_get(obj, "kind")),
                 meta(obj, "namespace"), meta(obj, "name"));
    for (uint32_t i = 0; i < f.n; i++)
        buf_addf(out, "    %s %s %.*s: %.*s\n", finding_severity_name(f.p[i].severity),
                 finding_code(f.p[i].kind), SL_FMT(f.p[i].path), SL_FMT(f.p[i].text));
    arena_fini(&tmp);
}

/* What Mesh's status lists; each is one that its object is told, too. */
static void say_edges(const struct analysis *a, struct buf *out)
{
    struct arena tmp = ARENA_INIT;
    size_t n;
    const struct slice *edges = analyze_edges(a, &tmp, &n);

    if (n)
        buf_add_str(out, "plaintext edges\n");
    for (size_t i = 0; i < n; i++)
        buf_addf(out, "    %.*s\n", SL_FMT(edges[i]));
    arena_fini(&tmp);
}

static void judge(const struct yaml_docs *docs, bool partial, bool backwards, struct buf *out)
{
    struct analysis a = {.index = NULL, .partial = partial};
    struct index *x = index_new();
    struct err err = {0};

    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < docs->len; i++)
        ck_assert_msg(analyze_put(x, docs->p[backwards ? docs->len - 1 - i : i].value, &err) == 0,
                      "%s", err.msg);
    a.index = x;
    for (size_t i = 0; i < docs->len; i++)
        say(&a, docs->p[i].value, out);
    say_edges(&a, out);
    index_free(x);
}

static struct dirent **cases;
static int n_cases;

static int is_case(const struct dirent *e)
{
    return strstr(e->d_name, ".yaml") != NULL;
}

START_TEST(picture)
{
    char path[400], want_path[400], *text, *want;
    struct yaml_docs docs = {0};
    struct err err = {0};
    struct buf out, again;

    json_setup();
    snprintf(path, sizeof path, DIR_GOLDEN "/%s", cases[_i]->d_name);
    snprintf(want_path, sizeof want_path, "%.*s.want", (int)(strlen(path) - 5), path);
    text = read_all(path);
    ck_assert_msg(yaml_parse(slice_str(text), NULL, &docs, &err) == 0, "%s: %s", path, err.msg);
    buf_init(&out, 1 << 18);
    buf_init(&again, 1 << 18);
    judge(&docs, strncmp(text, "# complete", 10) != 0, false, &out);
    judge(&docs, strncmp(text, "# complete", 10) != 0, true, &again);
    ck_assert_str_eq(buf_cstr(&out), buf_cstr(&again));
    if (getenv("GOLDEN_WRITE")) {
        FILE *o = fopen(want_path, "w");

        ck_assert_ptr_nonnull(o);
        fputs(buf_cstr(&out), o);
        fclose(o);
    }
    want = read_all(want_path);
    ck_assert_msg(strcmp(want, buf_cstr(&out)) == 0, "%s differs:\n%s", want_path, buf_cstr(&out));
    yaml_docs_fini(&docs);
    buf_fini(&out);
    buf_fini(&again);
    free(text);
    free(want);
}
END_TEST

/* Nothing is said of what the index does not hold, nor of what is no workload. */
START_TEST(strangers)
{
    struct arena tmp = ARENA_INIT;
    struct findings f;
    struct index *x = index_new();
    struct analysis a = {x, false};
    json_t *obj;

    json_setup();
    findings_init(&f, &tmp);
    for (int k = 0; k < INDEX_KINDS; k++)
        if (k != INDEX_NAMESPACE)
            analyze_object(&a, (enum index_kind)k, SL("a"), SL("b"), &tmp, &f);
    obj = json_pack("{s:s, s:s}", "kind", "Deployment", "apiVersion", "apps/v1");
    ck_assert(!analyze_is_workload(obj));
    analyze_workload(&a, obj, &tmp, &f);
    ck_assert_int_eq(analyze_put(x, obj, &(struct err){0}), 0);
    ck_assert_uint_eq(f.n, 0);
    json_decref(obj);
    index_free(x);
    arena_fini(&tmp);
}
END_TEST

TESTS(analyze)
{
    n_cases = scandir(DIR_GOLDEN, &cases, is_case, alphasort);
    tcase_add_loop_test(tc, picture, 0, n_cases > 0 ? n_cases : 1);
    tcase_add_test(tc, strangers);
}
