/* SPDX-License-Identifier: Apache-2.0 */
/* tests/golden/compile/<case>/objects.yaml, looked at as `queries` says, gives want/<name>.txt. A line
 * of `queries` is "NAME NAMESPACE POD KIND KEY" ("-" for none) or "address HOST IP". Objects are put in
 * several orders, and once more after each was taken out again: bytes must be the same. */
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "lib/base/rand.h"
#include "tests/unit/mesh/compile/picture.h"
#include "tests/unit/tcase.h"

#define DIR_CASES "tests/golden/compile"

static struct dirent **cases;
static int n_cases;

static struct slice read_file(struct arena *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct buf b;
    struct slice s;
    char piece[4096];
    size_t n;

    if (!f)
        return SLICE_NULL;
    buf_init(&b, 16 << 20);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        buf_add(&b, piece, n);
    fclose(f);
    s = arena_slice(a, buf_len(&b) ? buf_slice(&b) : SL(""));
    buf_fini(&b);
    return s;
}

struct query {
    struct slice name, ns, pod, kind, key;
};

static bool next_word(struct slice *line, struct slice *ret)
{
    while (line->len && line->p[0] == ' ')
        *line = slice_skip(*line, 1);
    if (!line->len)
        return false;
    ptrdiff_t sp = slice_chr(*line, ' ');
    *ret = sp < 0 ? *line : slice_head(*line, (size_t)sp);
    *line = slice_skip(*line, ret->len);
    if (slice_eq(*ret, SL("-")))
        *ret = SL("");
    return true;
}

static enum prog_kind kind_of(struct slice name)
{
    for (int k = PROG_SETTINGS; k <= PROG_KIND_LAST; k++)
        if (slice_is(name, prog_kind_name((enum prog_kind)k)))
            return (enum prog_kind)k;
    ck_abort_msg("no kind %.*s", SL_FMT(name));
    return 0;
}

static void report(const struct compiled *c, struct slice key, struct buf *out)
{
    static const char *const states[] = {"VALUE", "ABSENT", "UNCHANGED", "WITHHELD"};
    struct err err = {0};
    struct prog *p;

    buf_addf(out, "state: %s\n", states[c->state]);
    for (uint32_t i = 0; i < c->n_origins; i++)
        buf_addf(out, "origin: %s %.*s/%.*s\n", index_kind_name(c->origins[i].kind),
                 SL_FMT(c->origins[i].ns), SL_FMT(c->origins[i].name));
    for (uint32_t i = 0; i < c->n_problems; i++)
        buf_addf(out, "problem: %s %s %.*s/%.*s: %.*s: %.*s\n",
                 finding_name(c->problems[i].finding), index_kind_name(c->problems[i].kind),
                 SL_FMT(c->problems[i].ns), SL_FMT(c->problems[i].name),
                 SL_FMT(c->problems[i].path), SL_FMT(c->problems[i].text));
    for (uint32_t i = 0; i < c->n_endpoint_keys; i++)
        buf_addf(out, "needs: %.*s\n", SL_FMT(c->endpoint_keys[i]));
    if (c->state == PROG_ABSENT)
        return;
    ck_assert_msg(compile_value(c, key, &p, &err) == 0, "%s", err.msg);
    prog_dump(p, out);
    prog_unref(p);
}

static void ask(const struct index *x, const struct query *q, struct arena *a,
                struct compiled *ret)
{
    struct compile_input in = {.index = x, .roots_pem = SL("roots")};
    struct compile_client client = {.namespace_ = q->ns, .pod = q->pod};
    const struct ix_pod *pod = index_pod(x, q->ns, q->pod);

    if (pod)
        compile_client_of_pod(pod, &client);
    ck_assert_int_eq(compile_resource(&in, &client, kind_of(q->kind), q->key, a, ret), ERR_OK);
}

static void set_addresses(struct index *x, struct slice queries)
{
    struct slice line, word, host;
    struct ipaddr ip;

    while (slice_next(&queries, '\n', &line))
        if (next_word(&line, &word) && slice_eq(word, SL("address"))) {
            ck_assert(next_word(&line, &host) && next_word(&line, &word) && ip_parse(word, &ip));
            ck_assert_int_eq(index_set_address(x, host, &ip, NULL), 0);
        }
}

static void compare(const char *dir, struct slice name, struct slice got, struct arena *a)
{
    char *path = arena_printf(a, "%s/want/%.*s.txt", dir, SL_FMT(name));
    struct slice want = read_file(a, path);

    if (slice_eq(want, got))
        return;
    if (getenv("GOLDEN_WRITE")) {
        mkdir(arena_printf(a, "%s/want", dir), 0777);
        FILE *f = fopen(path, "wb");
        ck_assert_ptr_nonnull(f);
        fwrite(got.p, 1, got.len, f);
        fclose(f);
        return;
    }
    ck_abort_msg("%s differs; it is now:\n%.*s", path, SL_FMT(got));
}

static struct index *in_order(const struct yaml_docs *docs, const size_t *order)
{
    struct index *x = index_new();

    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < docs->len; i++)
        picture_put(x, docs, order[i]);
    return x;
}

/* Take every object out and put it back. */
static void churn(struct index *x, const struct yaml_docs *docs)
{
    for (size_t i = 0; i < docs->len; i++) {
        const json_t *meta = json_object_get(docs->p[i].value, "metadata");
        struct slice ns = slice_str(json_string_value(json_object_get(meta, "namespace")));
        enum index_kind kind;

        index_kind_of(docs->p[i].value, &kind);
        if (kind == INDEX_MESH)
            continue;
        ck_assert_msg(index_remove(x, kind, ns,
                                   slice_str(json_string_value(json_object_get(meta, "name"))),
                                   NULL),
                      "document %zu", i);
        picture_put(x, docs, i);
    }
}

static void same_bytes(const struct index *x, const struct index *y, const struct query *q,
                       struct arena *a)
{
    struct compiled p, r;

    ask(x, q, a, &p);
    ask(y, q, a, &r);
    ck_assert_msg(p.state == r.state && slice_eq(p.payload, r.payload) &&
                      p.n_deps == r.n_deps && p.n_problems == r.n_problems &&
                      (!p.n_deps || !memcmp(p.deps, r.deps, p.n_deps * sizeof *p.deps)),
                  "%.*s depends on the order of objects", SL_FMT(q->name));
}

/* --- dependencies ----------------------------------------------------------------------------- */
static bool meets(const struct compiled *c, const struct index_changes *changes)
{
    for (uint32_t i = 0; i < c->n_deps; i++)
        for (size_t k = 0; k < changes->n; k++)
            if (c->deps[i] == changes->p[k])
                return true;
    return changes->all;
}

static bool next_query(struct slice *rest, struct query *q)
{
    struct slice line;

    while (slice_next(rest, '\n', &line)) {
        if (!next_word(&line, &q->name) || q->name.len == 0 || q->name.p[0] == '#' ||
            slice_eq(q->name, SL("address")))
            continue;
        ck_assert(next_word(&line, &q->ns) && next_word(&line, &q->pod) &&
                  next_word(&line, &q->kind));
        if (!next_word(&line, &q->key))
            q->key = SL("");
        return true;
    }
    return false;
}

#define MAX_QUERIES 64
static size_t ask_all(const struct index *x, struct slice queries, struct arena *a,
                      struct compiled ret[MAX_QUERIES])
{
    struct query q;
    size_t n = 0;

    while (next_query(&queries, &q)) {
        ck_assert_uint_lt(n, MAX_QUERIES);
        ask(x, &q, a, &ret[n++]);
    }
    return n;
}

static void same_or_told(const struct compiled *before, const struct compiled *after, size_t n,
                         const struct index_changes *c, size_t doc)
{
    for (size_t i = 0; i < n; i++) {
        bool same = before[i].state == after[i].state &&
                    slice_eq(before[i].payload, after[i].payload) &&
                    before[i].n_origins == after[i].n_origins &&
                    before[i].n_problems == after[i].n_problems;

        ck_assert_msg(same || meets(&before[i], c),
                      "query %zu changed with document %zu, but depends on no token of the change", i,
                      doc);
    }
}

/* Take each object out and put it back: whoever's resource changes was told so by a token. */
START_TEST(dependencies_suffice)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    char *dir = arena_printf(&a, DIR_CASES "/%s", cases[_i]->d_name);
    struct slice yaml = read_file(&a, arena_printf(&a, "%s/objects.yaml", dir));
    struct slice queries = read_file(&a, arena_printf(&a, "%s/queries", dir));
    static struct compiled with[MAX_QUERIES], without[MAX_QUERIES];
    struct index *x = index_new();
    struct yaml_docs docs = {0};
    struct err err = {0};

    picture_docs(yaml, &docs);
    for (size_t i = 0; i < docs.len; i++)
        picture_put(x, &docs, i);
    set_addresses(x, queries);
    size_t n = ask_all(x, queries, &a, with);
    for (size_t i = 0; i < docs.len; i++) {
        const json_t *meta = json_object_get(docs.p[i].value, "metadata");
        struct index_changes gone = {0}, back = {0};
        enum index_kind kind;

        index_kind_of(docs.p[i].value, &kind);
        ck_assert(index_remove(x, kind,
                               slice_str(json_string_value(json_object_get(meta, "namespace"))),
                               slice_str(json_string_value(json_object_get(meta, "name"))), &gone));
        ask_all(x, queries, &a, without);
        same_or_told(with, without, n, &gone, i);
        ck_assert_int_eq(index_put(x, kind, docs.p[i].value, &back, &err), 0);
        ask_all(x, queries, &a, with);
        same_or_told(without, with, n, &back, i);
        index_changes_fini(&gone);
        index_changes_fini(&back);
    }
    index_free(x);
    yaml_docs_fini(&docs);
}
END_TEST

START_TEST(golden)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    char *dir = arena_printf(&a, DIR_CASES "/%s", cases[_i]->d_name);
    struct slice yaml = read_file(&a, arena_printf(&a, "%s/objects.yaml", dir));
    struct slice queries = read_file(&a, arena_printf(&a, "%s/queries", dir)), rest;
    struct index *x, *shuffled[3];
    struct yaml_docs docs = {0};
    struct rnd r;

    ck_assert_msg(yaml.p && queries.p, "%s lacks objects.yaml or queries", dir);
    picture_docs(yaml, &docs);
    size_t *order = arena_alloc(&a, docs.len * sizeof *order);
    for (size_t i = 0; i < docs.len; i++)
        order[i] = i;
    x = in_order(&docs, order);
    set_addresses(x, queries);
    rnd_init_seed(&r, 7);
    for (size_t k = 0; k < N_OF(shuffled); k++) {
        for (size_t i = docs.len; i > 1; i--) {
            size_t j = rnd_below(&r, (uint32_t)i), t = order[i - 1];
            order[i - 1] = order[j];
            order[j] = t;
        }
        shuffled[k] = in_order(&docs, order);
        set_addresses(shuffled[k], queries);
    }
    churn(shuffled[2], &docs);
    rest = queries;
    for (struct query q; next_query(&rest, &q);) {
        struct compiled c;
        struct buf out;

        ask(x, &q, &a, &c);
        buf_init(&out, 1 << 20);
        report(&c, q.key, &out);
        compare(dir, q.name, buf_slice(&out), &a);
        buf_fini(&out);
        for (size_t k = 0; k < N_OF(shuffled); k++)
            same_bytes(x, shuffled[k], &q, &a);
    }
    for (size_t k = 0; k < N_OF(shuffled); k++)
        index_free(shuffled[k]);
    index_free(x);
    yaml_docs_fini(&docs);
}
END_TEST

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

TESTS(compile_golden)
{
    n_cases = scandir(DIR_CASES, &cases, visible, alphasort);
    if (n_cases <= 0)
        abort();
    tcase_add_loop_test(tc, golden, 0, n_cases);
    tcase_add_loop_test(tc, dependencies_suffice, 0, n_cases);
}
