/* SPDX-License-Identifier: Apache-2.0 */
/* tests/golden/api/<kind>.rows holds manifests that something is to be said about, one a line:
 * "name | spec". What api_check says of each stands in <kind>.want. GOLDEN_WRITE=1 writes those. */
#include <dirent.h>
#include <stdlib.h>

#include "tests/unit/mesh/api/api_test.h"

#define DIR_GOLDEN "tests/golden/api"

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

static enum api_kind kind_of_file(const char *name)
{
    for (enum api_kind k = 0; k < API_KIND_N; k++) {
        char low[64];
        size_t i;

        for (i = 0; api_kind_info(k)->kind[i] && i + 1 < sizeof low; i++)
            low[i] = (char)(api_kind_info(k)->kind[i] | 32);
        low[i] = '\0';
        if (strncmp(name, low, i) == 0 && strcmp(name + i, ".rows") == 0)
            return k;
    }
    ck_abort_msg("%s is no kind", name);
}

/* The findings of one row, below its name. A row of an object that is well says so. */
static void one_row(enum api_kind kind, const char *name, const char *spec, struct buf *out)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct buf text;
    json_t *obj;

    buf_init(&text, 1 << 16);
    buf_addf(&text, "{kind: %s, metadata: {name: %s}, spec: %s}", api_kind_info(kind)->kind,
             kind == API_MESH ? "default" : "x", spec);
    obj = object_of(NULL, buf_cstr(&text));
    findings_init(&f, &a);
    ck_assert_msg(api_check(kind, obj, &a, &f) == 0, "%s", name);
    buf_addf(out, "%s\n", name);
    if (f.n == 0)
        buf_add_str(out, "    nothing\n");
    for (uint32_t i = 0; i < f.n; i++)
        buf_addf(out, "    %s %s %.*s%s%.*s\n", finding_severity_name(f.p[i].severity),
                 finding_code(f.p[i].kind), SL_FMT(f.p[i].path), f.p[i].path.len ? ": " : "",
                 SL_FMT(f.p[i].text));
    buf_fini(&text);
    json_decref(obj);
    arena_fini(&a);
}

static unsigned one_file(const char *file)
{
    enum api_kind kind = kind_of_file(file);
    char path[300], want_path[300], *text, *want, *line, *save = NULL;
    struct buf out;
    unsigned n = 0;

    snprintf(path, sizeof path, DIR_GOLDEN "/%s", file);
    snprintf(want_path, sizeof want_path, DIR_GOLDEN "/%.*s.want", (int)(strlen(file) - 5), file);
    text = read_all(path);
    buf_init(&out, 1 << 18);
    for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *bar = strstr(line, " | ");

        if (line[0] == '#')
            continue;
        ck_assert_msg(bar != NULL, "%s: %s", path, line);
        *bar = '\0';
        one_row(kind, line, bar + 3, &out);
        n++;
    }
    if (getenv("GOLDEN_WRITE")) {
        FILE *o = fopen(want_path, "w");

        ck_assert_ptr_nonnull(o);
        fputs(buf_cstr(&out), o);
        fclose(o);
    }
    want = read_all(want_path);
    ck_assert_msg(strcmp(want, buf_cstr(&out)) == 0, "%s differs:\n%s", want_path, buf_cstr(&out));
    buf_fini(&out);
    free(text);
    free(want);
    return n;
}

START_TEST(rows)
{
    DIR *d = opendir(DIR_GOLDEN);
    struct dirent *e;
    unsigned n = 0, files = 0;

    ck_assert_msg(d != NULL, "run from the top of the tree");
    while ((e = readdir(d)))
        if (strstr(e->d_name, ".rows")) {
            n += one_file(e->d_name);
            files++;
        }
    closedir(d);
    ck_assert_uint_eq(files, API_KIND_N);
    ck_assert_uint_ge(n, 200);
}
END_TEST

TESTS(api_golden)
{
    tcase_add_test(tc, rows);
}
