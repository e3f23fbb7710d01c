/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/yaml.h"
#include "lib/kube/resource.h"
#include "mesh/api/kinds.h"
#include "operator/files.h"
#include "operator/source_int.h"

#define SETTLE_NS (50 * NS_PER_MS)  /* editors write in several steps */
#define RESCAN_NS (10 * NS_PER_S)   /* where inotify sees nothing (some shared folders) */
enum { FILE_MAX = 16 << 20 };

struct item { /* one object that was put */
    enum index_kind kind;
    uint64_t hash;
    int64_t generation;
    unsigned round;
};
struct dir_source {
    struct source source;
    struct loop *loop;
    struct model *model;
    char *dir;
    struct map items; /* "Kind ns/name" -> struct item */
    struct loop_io io;
    int inotify;
    struct loop_timer timer;
    unsigned round;
    uint64_t reads, errors;
    bool broken; /* in this round some file could not be read */
};

static void rescan(struct loop_timer *t);

/* Kubernetes fills these in; the folder's author does not. */
static void complete(json_t *obj, enum index_kind kind, int64_t generation)
{
    json_t *meta = json_object_get(obj, "metadata");
    if (kind != INDEX_NAMESPACE && kind != INDEX_NODE && kind != INDEX_MESH &&
        !json_object_get(meta, "namespace"))
        json_object_set_new(meta, "namespace", json_string("default"));
    json_object_set_new(meta, "generation", json_integer(generation));
}

static void take_object(struct dir_source *s, json_t *obj, const char *path)
{
    enum index_kind kind;
    json_t *meta = json_object_get(obj, "metadata");
    char key[400];

    if (json_is_object(obj) && json_is_array(json_object_get(obj, "items"))) {
        size_t i;
        json_t *x;
        json_array_foreach(json_object_get(obj, "items"), i, x) take_object(s, x, path);
        return;
    }
    if (!json_is_object(meta) || !kube_name(obj)[0] || !index_kind_of(obj, &kind)) {
        LOG(DEBUG, "Object of a kind that the mesh does not read", "file=%s", path);
        return;
    }
    complete(obj, kind, 1);
    snprintf(key, sizeof key, "%s %s/%s", index_kind_name(kind), kube_namespace(obj),
             kube_name(obj));
    char *text = json_text(obj, JSON_TIGHT);
    struct item *it = map_get(&s->items, slice_str(key));
    if (!it) {
        it = text ? mem_zalloc(sizeof *it) : NULL;
        if (!it || map_put(&s->items, slice_str(key), it, NULL) < 0) {
            mem_free(it);
            mem_free(text);
            return;
        }
    }
    uint64_t hash = text ? hash64(slice_str(text), 0) : 0;
    it->round = s->round;
    it->kind = kind;
    if (hash != it->hash || !it->generation) {
        it->hash = hash;
        complete(obj, kind, ++it->generation);
        model_put(s->model, kind, obj);
    }
    mem_free(text);
}

static int take_file(struct dir_source *s, const char *path, struct err *err)
{
    CLEANUP(mem_freep) char *text = NULL;
    CLEANUP(yaml_docs_fini) struct yaml_docs docs = {0};
    if (file_read(path, FILE_MAX, &text, err) < 0)
        return -1;
    if (yaml_parse(slice_str(text), NULL, &docs, err) < 0)
        return err_wrap(err, "%s", path);
    for (size_t i = 0; i < docs.len; i++)
        take_object(s, docs.p[i].value, path);
    return 0;
}

static bool wanted(const char *name)
{
    struct slice n = slice_str(name);
    return name[0] != '.' &&
           (slice_ends(n, SL(".yaml")) || slice_ends(n, SL(".yml")) || slice_ends(n, SL(".json")));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int take_dir(struct dir_source *s, const char *dir, int depth, struct err *err)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, by_name), rc = 0;
    if (n < 0)
        return err_errno(err, errno, "%s", dir);
    if (s->inotify >= 0)
        inotify_add_watch(s->inotify, dir, IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM |
                          IN_DELETE | IN_CREATE);
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct stat st;
        struct err one = {0};
        snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && stat(path, &st) == 0) {
            if (S_ISDIR(st.st_mode) && depth > 0) {
                if (take_dir(s, path, depth - 1, &one) < 0)
                    rc = -1;
            } else if (S_ISREG(st.st_mode) && wanted(names[i]->d_name)) {
                if (take_file(s, path, &one) < 0)
                    rc = -1;
            }
        }
        if (one.code != ERR_OK) {
            s->errors++;
            LOG(ERROR, "File could not be read; its last good objects stay", "reason=%s", one.msg);
            if (err)
                *err = one;
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

static int scan(struct dir_source *s, struct err *err)
{
    s->round++;
    s->reads++;
    if (take_dir(s, s->dir, 1, err) < 0)
        return -1; /* a broken file must not look like deleted objects */
    for (struct map_entry *e = NULL; (e = map_next(&s->items, e));) {
        struct item *it = e->value;
        struct slice key = slice_of(e->key, e->key_len), ns;
        if (it->round == s->round)
            continue;
        key = slice_skip(key, (size_t)slice_chr(key, ' ') + 1);
        slice_next(&key, '/', &ns);
        model_remove(s->model, it->kind, ns, key);
        mem_free(it);
        map_remove(&s->items, slice_of(e->key, e->key_len));
    }
    return 0;
}

static void rescan(struct loop_timer *t)
{
    struct dir_source *s = CONTAINER_OF(t, struct dir_source, timer);
    struct err err = {0};
    scan(s, &err);
    loop_timer_in(s->loop, &s->timer, RESCAN_NS, rescan);
}

static void noticed(struct loop_io *io, unsigned events)
{
    struct dir_source *s = CONTAINER_OF(io, struct dir_source, io);
    char drain[4096];
    (void)events;
    while (read(io->fd, drain, sizeof drain) > 0)
        ;
    loop_timer_in(s->loop, &s->timer, SETTLE_NS, rescan);
}

static void dir_source_free(struct source *src)
{
    struct dir_source *s = CONTAINER_OF(src, struct dir_source, source);
    loop_timer_clear(s->loop, &s->timer);
    loop_io_del(s->loop, &s->io);
    if (s->inotify >= 0)
        close(s->inotify);
    for (struct map_entry *e = NULL; (e = map_next(&s->items, e));)
        mem_free(e->value);
    map_fini(&s->items);
    mem_free(s->dir);
    mem_free(s);
}

static struct source_stats dir_source_stats(const struct source *src)
{
    const struct dir_source *s = CONTAINER_OF(src, struct dir_source, source);
    return (struct source_stats){.lists = s->reads, .errors = s->errors, .kinds = INDEX_KINDS};
}

int source_dir(struct loop *loop, const char *dir, struct model *m, struct source **ret,
               struct err *err)
{
    struct dir_source *s = mem_zalloc(sizeof *s);
    if (!s || !(s->dir = mem_strdup(dir))) {
        mem_free(s);
        return err_set(err, ERR_NOMEM, "source");
    }
    s->source = (struct source){dir_source_free, dir_source_stats};
    s->loop = loop;
    s->model = m;
    s->io.fd = -1;
    s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (s->inotify >= 0 && loop_io_level(loop, &s->io, s->inotify, LOOP_READ, noticed, err) < 0) {
        dir_source_free(&s->source);
        return -1;
    }
    if (scan(s, err) < 0) {
        dir_source_free(&s->source);
        return -1;
    }
    loop_timer_in(loop, &s->timer, RESCAN_NS, rescan);
    model_set_synced(m);
    *ret = &s->source;
    return 0;
}
