/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle analyze`: what the webhook and the status would say about files, before they are applied.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "lib/base/cleanup.h"
#include "mesh/analyze/analyze.h"
#include "mesh/api/kinds.h"

static int run(int argc, char **argv);

const struct command cmd_analyze = {
    .name = "analyze",
    .summary = "say what is wrong with mesh objects in files",
    .usage = "usage: tulle analyze -f FILE|DIR|- [-n NAMESPACE] [--complete]\n"
             "                     [--failure-threshold error|warning|info]\n"
             "  -f          file, folder or standard input; repeatable\n"
             "  -n          namespace of objects that name none (default: default)\n"
             "  --complete  the files hold all of the cluster: what is not there is told in every\n"
             "              namespace, not only in those of which services or pods are there\n"
             "  --failure-threshold\n"
             "              exit 1 from this severity on (default: error)\n",
    .run = run,
};

static const char *meta_text(const json_t *obj, const char *key)
{
    const char *s = json_string_value(json_object_get(json_object_get(obj, "metadata"), key));
    return s ? s : "";
}

/* The annotation that Istio's users know: "IST0101,IST0127" or "*". */
static bool suppressed(const json_t *obj, const char *code)
{
    const json_t *notes = json_object_get(json_object_get(obj, "metadata"), "annotations");
    const char *list =
        json_string_value(json_object_get(notes, "galley.istio.io/analyze-suppress"));
    struct slice rest = slice_str(list), one;
    while (list && slice_next(&rest, ',', &one))
        if (slice_is(slice_trim(one), code) || slice_is(slice_trim(one), "*"))
            return true;
    return false;
}

/* All that can be said of one object: of a kind of the mesh, of Kubernetes, or of a workload. */
static int judge(const struct analysis *a, const json_t *obj, struct arena *tmp, struct findings *f)
{
    enum index_kind in_index;
    enum api_kind kind;
    if (api_kind_of_object(obj, &kind) && api_check(kind, obj, tmp, f) < 0)
        return -1;
    if (index_kind_of(obj, &in_index))
        analyze_object(a, in_index, slice_str(meta_text(obj, "namespace")),
                       slice_str(meta_text(obj, "name")), tmp, f);
    analyze_workload(a, obj, tmp, f);
    return f->nomem ? -1 : 0;
}

/* One line for each finding, in the form that Istio's users know; the worst severity to *worst. */
static int report(const struct analysis *an, const struct file_object *o,
                  enum finding_severity *worst)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct findings *f = ARENA_NEW(&a, struct findings);
    const char *kind = json_string_value(json_object_get(o->obj, "kind"));
    const char *ns = meta_text(o->obj, "namespace");
    if (!f)
        return -1;
    findings_init(f, &a);
    if (judge(an, o->obj, &a, f) < 0)
        return -1;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->p[i];
        char severity[16];
        if (suppressed(o->obj, finding_code(x->kind)))
            continue;
        snprintf(severity, sizeof severity, "%s", finding_severity_name(x->severity));
        severity[0] = (char)(severity[0] - 'a' + 'A');
        printf("%s [%s] (%s %s%s%s %s:%zu) %.*s%s%.*s\n", severity, finding_code(x->kind), kind, ns,
               *ns ? "/" : "", meta_text(o->obj, "name"), o->file, o->line, SL_FMT(x->path),
               x->path.len ? ": " : "", SL_FMT(x->text));
        if (x->severity < *worst)
            *worst = x->severity;
    }
    if (f->dropped)
        printf("Info (%s %s%s%s) %u more findings\n", kind, ns, *ns ? "/" : "",
               meta_text(o->obj, "name"), f->dropped);
    return 0;
}

static int picture(const struct file_objects *set, struct index *x, struct err *err)
{
    for (size_t i = 0; i < set->n; i++)
        if (analyze_put(x, set->p[i].obj, err) < 0)
            return err_wrap(err, "%s:%zu", set->p[i].file, set->p[i].line);
    return 0;
}

static int run(int argc, char **argv)
{
    static const struct option table[] = {{"failure-threshold", required_argument, NULL, 't'},
                                          {"complete", no_argument, NULL, 'c'},
                                          {0}};
    struct analysis a = {.partial = true};
    struct index *x = NULL;
    struct file_objects set = {0};
    struct err err = {0};
    const char *paths[64], *namespace_ = "default";
    size_t n_paths = 0;
    enum finding_severity threshold = FINDING_ERROR,
                          worst = (enum finding_severity)(FINDING_INFO + 1);
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "f:n:", table, NULL)) != -1) {
        if (c == 'f' && n_paths < N_OF(paths))
            paths[n_paths++] = optarg;
        else if (c == 'n')
            namespace_ = optarg;
        else if (c == 'c')
            a.partial = false;
        else if (c == 't' && strcmp(optarg, "error") == 0)
            threshold = FINDING_ERROR;
        else if (c == 't' && strcmp(optarg, "warning") == 0)
            threshold = FINDING_WARNING;
        else if (c == 't' && strcmp(optarg, "info") == 0)
            threshold = FINDING_INFO;
        else
            return usage_error(&cmd_analyze, "unknown or incomplete option %s", argv[optind - 1]);
    }
    for (int i = optind; i < argc && n_paths < N_OF(paths); i++)
        paths[n_paths++] = argv[i];
    if (n_paths == 0)
        return usage_error(&cmd_analyze, "no file given");
    int rc = EXIT_SUCCESS;
    for (size_t i = 0; i < n_paths && rc == EXIT_SUCCESS; i++)
        if (file_objects_read(&set, paths[i], namespace_, &err) < 0)
            rc = EXIT_FAILURE;
    if (rc == EXIT_SUCCESS && (!(x = index_new()) || picture(&set, x, &err) < 0))
        rc = EXIT_FAILURE;
    a.index = x;
    for (size_t i = 0; i < set.n && rc == EXIT_SUCCESS; i++)
        if (report(&a, &set.p[i], &worst) < 0) {
            err_set(&err, ERR_NOMEM, "%s", set.p[i].file);
            rc = EXIT_FAILURE;
        }
    if (rc != EXIT_SUCCESS)
        fprintf(stderr, "tulle analyze: %s\n", err.msg);
    else if (worst <= threshold)
        rc = EXIT_FAILURE;
    else if (worst > FINDING_INFO)
        puts("No findings.");
    index_free(x);
    file_objects_fini(&set);
    return rc;
}
