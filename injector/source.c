/* SPDX-License-Identifier: Apache-2.0 */
#include "injector/source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/kube/watch.h"

enum { FILE_MAX = 1 << 20 };

struct file {
    const char *path; /* borrowed */
    struct timespec mtime;
    ino_t inode;
    off_t size;
};
struct source {
    struct state *st;
    struct loop *loop;
    /* files */
    struct file cert, key, settings;
    struct loop_timer timer;
    /* API server */
    struct kube_config *config;
    struct kube_client *client;
    struct kube_watch *watch_secret, *watch_map;
    struct kube_sink sink_secret, sink_map;
};

/* --- into the state --------------------------------------------------------------------------- */
static int take_cert(struct state *st, struct slice chain, struct slice key, struct err *err)
{
    if (cert_set(st->cert, chain, key, err) < 0) {
        atomic_fetch_add(&st->cert_errors, 1);
        return -1;
    }
    atomic_fetch_add(&st->cert_read, 1);
    LOG(INFO, "Certificate was loaded", "not_after=%lld", (long long)cert_expiry(st->cert));
    return 0;
}

static int take_settings(struct state *st, struct slice text, struct err *err)
{
    struct inject_settings *s = NULL;
    if (inject_settings_decode(text, &s, err) < 0) {
        atomic_fetch_add(&st->settings_errors, 1);
        return -1;
    }
    LOG(INFO, "Settings were loaded", "image=%s native=%d revision=%s", s->image, s->native,
        s->revision);
    if (state_set_settings(st, s) < 0)
        return err_set(err, ERR_NOMEM, "settings");
    atomic_fetch_add(&st->settings_read, 1);
    return 0;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_fini(b);
}

void source_take_secret(struct state *st, const json_t *secret)
{
    const json_t *data = json_object_get(secret, "data");
    const char *chain64 = json_string_value(json_object_get(data, "tls.crt"));
    const char *key64 = json_string_value(json_object_get(data, "tls.key"));
    struct err err = {0};
    CLEANUP(buf_freep) struct buf chain;
    CLEANUP(wipe) struct buf key;

    buf_init(&chain, FILE_MAX);
    buf_init(&key, FILE_MAX);
    if (!chain64 || !key64 || base64_decode(slice_str(chain64), BASE64_STD, &chain) != ERR_OK ||
        base64_decode(slice_str(key64), BASE64_STD, &key) != ERR_OK) {
        atomic_fetch_add(&st->cert_errors, 1);
        LOG(WARN, "Secret has no usable tls.crt and tls.key; the last good pair stays", "secret=%s",
            SOURCE_SECRET);
        return;
    }
    if (take_cert(st, buf_slice(&chain), buf_slice(&key), &err) < 0)
        LOG(ERROR, "Certificate was refused; the last good one stays", "secret=%s error=%s",
            SOURCE_SECRET, err.msg);
}

void source_take_config_map(struct state *st, const json_t *config_map)
{
    const char *text = json_string_value(
        json_object_get(json_object_get(config_map, "data"), SOURCE_SETTINGS_KEY));
    struct err err = {0};

    if (!text) {
        atomic_fetch_add(&st->settings_errors, 1);
        LOG(WARN, "ConfigMap has no settings; the last good ones stay", "configmap=%s key=%s",
            SOURCE_CONFIG_MAP, SOURCE_SETTINGS_KEY);
        return;
    }
    if (take_settings(st, slice_str(text), &err) < 0)
        LOG(ERROR, "Settings were refused; the last good ones stay", "configmap=%s error=%s",
            SOURCE_CONFIG_MAP, err.msg);
}

/* --- files ------------------------------------------------------------------------------------ */
static bool file_changed(const struct file *f)
{
    struct stat sb;
    return f->path && stat(f->path, &sb) == 0 &&
           (sb.st_mtim.tv_sec != f->mtime.tv_sec || sb.st_mtim.tv_nsec != f->mtime.tv_nsec ||
            sb.st_ino != f->inode || sb.st_size != f->size);
}

static int file_read(struct file *f, struct buf *out, struct err *err)
{
    struct stat sb;
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "%s", f->path);
    ssize_t n = -1;
    if (fstat(fd, &sb) == 0) {
        char *p;
        do {
            p = buf_reserve(out, 4096);
            n = p ? read(fd, p, 4096) : -1;
            if (n > 0)
                buf_commit(out, (size_t)n);
        } while (n > 0);
    }
    int e = errno;
    close(fd);
    if (buf_err(out) != ERR_OK)
        return err_set(err, buf_err(out), "%s is larger than 1 MiB", f->path);
    if (n < 0)
        return err_errno(err, e, "%s", f->path);
    f->mtime = sb.st_mtim;
    f->inode = sb.st_ino;
    f->size = sb.st_size;
    return 0;
}

static int files_read_cert(struct source *s, struct err *err)
{
    CLEANUP(buf_freep) struct buf chain;
    CLEANUP(wipe) struct buf key;
    buf_init(&chain, FILE_MAX);
    buf_init(&key, FILE_MAX);
    if (file_read(&s->cert, &chain, err) < 0 || file_read(&s->key, &key, err) < 0)
        return -1;
    return take_cert(s->st, buf_slice(&chain), buf_slice(&key), err);
}

static int files_read_settings(struct source *s, struct err *err)
{
    CLEANUP(buf_freep) struct buf text;
    buf_init(&text, FILE_MAX);
    if (!s->settings.path)
        return take_settings(s->st, SL("{}"), err);
    if (file_read(&s->settings, &text, err) < 0)
        return -1;
    return take_settings(s->st, buf_slice(&text), err);
}

static void on_look(struct loop_timer *t)
{
    struct source *s = CONTAINER_OF(t, struct source, timer);
    struct err err = {0};
    /* Both files of a pair are written one after the other: a pair that does not match yet is an
     * error now and right at the next look. */
    if ((file_changed(&s->cert) || file_changed(&s->key)) && files_read_cert(s, &err) < 0)
        LOG(ERROR, "Certificate was refused; the last good one stays", "error=%s", err.msg);
    if (file_changed(&s->settings) && files_read_settings(s, &err) < 0)
        LOG(ERROR, "Settings were refused; the last good ones stay", "error=%s", err.msg);
    loop_timer_in(s->loop, &s->timer, NS_PER_S, on_look);
}

int source_files(struct loop *loop, struct state *st, const char *cert, const char *key,
                 const char *settings, struct source **ret, struct err *err)
{
    struct source *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "source");
    s->st = st;
    s->loop = loop;
    s->cert.path = cert;
    s->key.path = key;
    s->settings.path = settings;
    if (files_read_cert(s, err) < 0 || files_read_settings(s, err) < 0) {
        source_free(s);
        return -1;
    }
    loop_timer_in(loop, &s->timer, NS_PER_S, on_look);
    *ret = s;
    return 0;
}

/* --- API server ------------------------------------------------------------------------------- */
static void sink_nothing(struct kube_sink *sink)
{
    (void)sink;
}

static void sink_end(struct kube_sink *sink, bool absent)
{
    (void)sink, (void)absent;
}

static void secret_put(struct kube_sink *sink, json_t *obj)
{
    struct source *s = CONTAINER_OF(sink, struct source, sink_secret);
    if (strcmp(kube_name(obj), SOURCE_SECRET) == 0)
        source_take_secret(s->st, obj);
}

static void map_put(struct kube_sink *sink, json_t *obj)
{
    struct source *s = CONTAINER_OF(sink, struct source, sink_map);
    if (strcmp(kube_name(obj), SOURCE_CONFIG_MAP) == 0)
        source_take_config_map(s->st, obj);
}

/* Going on with what was there is right for both: pods can still be made. */
static void sink_remove(struct kube_sink *sink, json_t *obj)
{
    (void)sink;
    LOG(WARN, "Object was deleted; what it said stays in force", "name=%s", kube_name(obj));
}

static int watch_one(struct source *s, enum kube_kind kind, const char *ns, const char *name,
                     struct kube_sink *sink, struct kube_watch **ret, struct err *err)
{
    char fields[96];
    snprintf(fields, sizeof fields, "metadata.name=%s", name);
    struct kube_watch_opts opts = {
        .resource = kube_resource(kind), .ns = ns, .fields = fields, .sink = sink};
    return kube_watch_start(s->client, &opts, ret, err);
}

int source_kube(struct loop *loop, struct state *st, const char *kubeconfig, const char *ns,
                struct source **ret, struct err *err)
{
    static const struct kube_client_opts opts = {.user_agent = "tulle-injector/" TULLE_VERSION,
                                                 .max_body_bytes = 4 << 20};
    struct source *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "source");
    s->st = st;
    s->loop = loop;
    s->sink_secret = (struct kube_sink){sink_nothing, secret_put, sink_remove, sink_end};
    s->sink_map = (struct kube_sink){sink_nothing, map_put, sink_remove, sink_end};
    if (kube_config_default(kubeconfig, NULL, &s->config, err) < 0 ||
        kube_client_new(loop, s->config, &opts, &s->client, err) < 0 ||
        watch_one(s, KUBE_SECRET, ns, SOURCE_SECRET, &s->sink_secret, &s->watch_secret, err) < 0 ||
        watch_one(s, KUBE_CONFIG_MAP, ns, SOURCE_CONFIG_MAP, &s->sink_map, &s->watch_map, err) <
            0) {
        source_free(s);
        return -1;
    }
    *ret = s;
    return 0;
}

void source_free(struct source *s)
{
    if (!s)
        return;
    loop_timer_clear(s->loop, &s->timer);
    kube_watch_stop(s->watch_secret);
    kube_watch_stop(s->watch_map);
    kube_client_free(s->client);
    kube_config_free(s->config);
    mem_free(s);
}
