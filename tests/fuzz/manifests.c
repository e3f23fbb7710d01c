/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/analyze
 * YAML as users write it, read as `tulle analyze` reads it: whatever it holds, each object is
 * judged without a crash, by itself and with the others in view, and the order in which the objects
 * came makes no difference to what is said of one whose name stands once. */
#include <stdlib.h>

#include "lib/data/json.h"
#include "lib/data/yaml.h"
#include "mesh/analyze/analyze.h"
#include "mesh/api/kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct slice meta(const json_t *obj, const char *key)
{
    const json_t *s = json_object_get(json_object_get(obj, "metadata"), key);

    return slice_str(json_is_string(s) ? json_string_value(s) : "");
}

static struct index *picture(const struct yaml_docs *docs, bool backwards)
{
    struct index *x = index_new();
    struct err err = {0};

    for (size_t i = 0; x && i < docs->len; i++)
        analyze_put(x, docs->p[backwards ? docs->len - 1 - i : i].value, &err);
    return x;
}

static void judge(const struct index *x, bool partial, const json_t *obj, struct arena *tmp,
                  struct findings *f)
{
    struct analysis a = {x, partial};
    enum index_kind in_index;
    enum api_kind kind;

    findings_init(f, tmp);
    if (api_kind_of_object(obj, &kind) && api_check(kind, obj, tmp, f) < 0)
        return;
    if (index_kind_of(obj, &in_index))
        analyze_object(&a, in_index, meta(obj, "namespace"), meta(obj, "name"), tmp, f);
    analyze_workload(&a, obj, tmp, f);
}

static void same(const struct findings *a, const struct findings *b)
{
    if (a->n != b->n)
        abort();
    for (uint32_t i = 0; i < a->n; i++)
        if (a->p[i].kind != b->p[i].kind || !slice_eq(a->p[i].path, b->p[i].path) ||
            !slice_eq(a->p[i].text, b->p[i].text))
            abort();
}

/* Two objects of one kind and name: the later one stands, so that the order counts. */
static bool names_differ(const struct yaml_docs *docs)
{
    for (size_t i = 0; i < docs->len; i++)
        for (size_t k = 0; k < i; k++)
            if (slice_eq(meta(docs->p[i].value, "name"), meta(docs->p[k].value, "name")))
                return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const struct yaml_limits small = {.nodes = 20000, .depth = 32};
    CLEANUP(yaml_docs_fini) struct yaml_docs docs = {0};
    struct err err = {0};

    json_setup();
    if (n > 1 << 16 || yaml_parse(slice_of(p, n), &small, &docs, &err) < 0 || docs.len > 40)
        return 0;
    struct index *x = picture(&docs, false), *y = picture(&docs, true);
    bool comparable = names_differ(&docs);

    for (size_t i = 0; x && y && i < docs.len; i++)
        for (int partial = 0; partial < 2; partial++) {
            struct arena a = ARENA_INIT, b = ARENA_INIT;
            struct findings first, second;

            judge(x, partial, docs.p[i].value, &a, &first);
            judge(comparable ? y : x, partial, docs.p[i].value, &b, &second);
            same(&first, &second);
            arena_fini(&a);
            arena_fini(&b);
        }
    index_free(x);
    index_free(y);
    return 0;
}
