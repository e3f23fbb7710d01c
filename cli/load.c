/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "mesh/analyze/analyze.h"

enum { FILE_MAX = 256 << 20, DEPTH_MAX = 16 };

int file_read(const char *path, struct buf *ret, struct err *err)
{
    bool in = strcmp(path, "-") == 0;
    int fd = in ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    for (;;) {
        char *p = buf_reserve(ret, 65536);
        ssize_t n = p ? read(fd, p, 65536) : -1;
        if (n < 0 && p && errno == EINTR)
            continue;
        if (n <= 0) {
            int saved = p ? errno : ENOMEM;
            if (!in)
                close(fd);
            return n == 0 ? 0 : err_errno(err, saved, "%s", path);
        }
        buf_commit(ret, (size_t)n);
    }
}

/* Of the kinds that are looked at: those that live in no namespace. */
static bool is_cluster_scoped(const json_t *obj)
{
    enum index_kind k;
    if (analyze_is_workload(obj))
        return false;
    return !index_kind_of(obj, &k) || k == INDEX_NAMESPACE || k == INDEX_NODE || k == INDEX_MESH;
}

static int add_object(struct file_objects *set, json_t *obj, const char *file, size_t line,
                      const char *namespace_, struct err *err)
{
    json_t *meta = json_object_get(obj, "metadata"), *items = json_object_get(obj, "items");
    const char *kind = json_string_value(json_object_get(obj, "kind"));
    if (kind && strcmp(kind, "List") == 0 && json_is_array(items)) {
        size_t i;
        json_t *item;
        json_array_foreach(items, i, item)
            if (add_object(set, item, file, line, namespace_, err) < 0)
                return -1;
        return 0;
    }
    if (!json_is_object(obj) || !kind || !json_is_object(meta))
        return err_set(err, ERR_INVALID, "%s:%zu: not a Kubernetes object (kind and metadata)", file,
                       line);
    if (!json_object_get(meta, "namespace") && !is_cluster_scoped(obj) &&
        json_object_set_new(meta, "namespace", json_string(namespace_)) < 0)
        return err_set(err, ERR_NOMEM, "%s", file);
    if (set->n == set->cap) {
        size_t cap = set->cap ? set->cap * 2 : 32;
        struct file_object *p = mem_realloc(set->p, cap * sizeof *p);
        if (!p)
            return err_set(err, ERR_NOMEM, "%s", file);
        set->p = p;
        set->cap = cap;
    }
    set->p[set->n++] = (struct file_object){json_incref(obj), file, line};
    return 0;
}

static int read_one(struct file_objects *set, const char *path, const char *namespace_,
                    struct err *err)
{
    CLEANUP(buf_freep) struct buf text;
    struct yaml_docs docs = {0};
    const char *file = arena_strdup(&set->arena, path);
    buf_init(&text, FILE_MAX);
    if (file_read(path, &text, err) < 0)
        return -1;
    struct yaml_limits limits = {.bytes = FILE_MAX, .nodes = 20 * 1000 * 1000};
    if (!file || yaml_parse(buf_slice(&text), &limits, &docs, err) < 0)
        return err_wrap(err, "%s", path);
    int rc = 0;
    for (size_t i = 0; i < docs.len && rc == 0; i++)
        rc = add_object(set, docs.p[i].value, file, docs.p[i].line, namespace_, err);
    yaml_docs_fini(&docs);
    return rc;
}

static bool is_manifest(const char *name)
{
    struct slice s = slice_str(name);
    return name[0] != '.' &&
           (slice_ends(s, SL(".yaml")) || slice_ends(s, SL(".yml")) || slice_ends(s, SL(".json")));
}

static int read_path(struct file_objects *set, const char *path, const char *namespace_, int depth,
                     struct err *err)
{
    struct stat st;
    if (strcmp(path, "-") == 0)
        return read_one(set, path, namespace_, err);
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return read_one(set, path, namespace_, err);
    if (depth == DEPTH_MAX)
        return err_set(err, ERR_LIMIT, "%s: folders too deep", path);
    struct dirent **list;
    int n = scandir(path, &list, NULL, alphasort), rc = 0;
    if (n < 0)
        return err_errno(err, errno, "%s", path);
    for (int i = 0; i < n; i++) {
        char *child = arena_printf(&set->arena, "%s/%s", path, list[i]->d_name);
        bool hidden = list[i]->d_name[0] == '.';
        if (rc == 0 && child && !hidden && stat(child, &st) == 0 &&
            (S_ISDIR(st.st_mode) || is_manifest(list[i]->d_name)))
            rc = read_path(set, child, namespace_, depth + 1, err);
        free(list[i]);
    }
    free(list);
    return rc;
}

int file_objects_read(struct file_objects *set, const char *path, const char *namespace_,
                      struct err *err)
{
    return read_path(set, path, namespace_, 0, err);
}

void file_objects_fini(struct file_objects *set)
{
    for (size_t i = 0; i < set->n; i++)
        json_decref(set->p[i].obj);
    mem_free(set->p);
    arena_fini(&set->arena);
    *set = (struct file_objects){0};
}

int file_objects_index(const struct file_objects *set, struct index *x, struct err *err)
{
    for (size_t i = 0; i < set->n; i++) {
        enum index_kind kind;
        if (index_kind_of(set->p[i].obj, &kind) && index_put(x, kind, set->p[i].obj, NULL, err) < 0)
            return err_wrap(err, "%s:%zu", set->p[i].file, set->p[i].line);
    }
    return 0;
}
