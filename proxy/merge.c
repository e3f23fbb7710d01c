/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/merge.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/http/client.h"
#include "proxy/worker.h"

enum { BODY_MAX = 10 << 20, PATH_TEXT_MAX = 1024 };

struct merge {
    struct loop *loop;
    struct sock_addr to;
    char path[PATH_TEXT_MAX];
};

struct merge_fetch {
    struct http_get *get;
    void (*done)(void *user, struct slice text, const char *why);
    void *user;
};

static struct slice text_of(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return slice_of(json_string_value(v), json_string_length(v));
}

static int merge_read(struct merge *m, const json_t *j, bool *ret_on, struct err *err)
{
    struct slice port = text_of(j, "port"), path = text_of(j, "path");
    uint64_t n = 80; /* what Istio takes where the annotation is missing */
    *ret_on = !slice_ieq(text_of(j, "scrape"), SL("false"));
    if (port.len && (!slice_u64(port, UINT16_MAX, &n) || n == 0))
        return err_set(err, ERR_INVALID, "port %.*s", SL_FMT(slice_head(port, 32)));
    if (path.len + 2 > sizeof m->path)
        return err_set(err, ERR_INVALID, "path of %zu bytes", path.len);
    sock_addr_set_port(&m->to, (uint16_t)n);
    if (path.len)
        snprintf(m->path, sizeof m->path, "%s%.*s", path.p[0] == '/' ? "" : "/", SL_FMT(path));
    else
        snprintf(m->path, sizeof m->path, "/metrics");
    return 0;
}

int merge_new(struct loop *loop, const char *json, const struct sock_addr *app, struct merge **ret,
              struct err *err)
{
    json_t *j = NULL;
    bool on = false;
    *ret = NULL;
    if (!json)
        return 0;
    if (json_parse(slice_str(json), NULL, &j, err) < 0)
        return err_wrap(err, "ISTIO_PROMETHEUS_ANNOTATIONS");
    struct merge *m = mem_zalloc(sizeof *m);
    if (!m) {
        json_decref(j);
        return err_set(err, ERR_NOMEM, "merged metrics");
    }
    m->loop = loop;
    m->to = *app;
    int rc = merge_read(m, j, &on, err);
    json_decref(j);
    if (rc < 0 || !on) {
        mem_free(m);
        return rc < 0 ? err_wrap(err, "ISTIO_PROMETHEUS_ANNOTATIONS") : 0;
    }
    *ret = m;
    return 0;
}

void merge_free(struct merge *m)
{
    mem_free(m);
}

/* An answer in OpenMetrics, from an application that did not look at Accept, ends in a mark behind
 * which nothing may stand. */
static struct slice without_eof(struct slice body)
{
    static const char mark[] = "# EOF";
    struct slice s = body;
    size_t n = sizeof mark - 1;
    while (s.len && strchr(" \r\n", s.p[s.len - 1]))
        s.len--;
    if (s.len >= n && memcmp(s.p + s.len - n, mark, n) == 0)
        s.len -= n;
    return s;
}

static void fetched(void *user, unsigned status, const struct http_head *head, struct slice body,
                    const struct err *err)
{
    struct merge_fetch *f = user;
    char why[280];
    (void)head;
    if (status == 0)
        snprintf(why, sizeof why, "%s", err->msg);
    else
        snprintf(why, sizeof why, "it answered %u", status);
    bool good = status == 200;
    f->done(f->user, good ? without_eof(body) : SLICE_NULL, good ? NULL : why);
    mem_free(f);
}

int merge_start(struct merge *m, int64_t timeout_ns,
                void (*done)(void *user, struct slice text, const char *why), void *user,
                struct merge_fetch **ret, struct err *err)
{
    const struct http_field accept = {SL("accept"), SL("text/plain;version=0.0.4;q=1,*/*;q=0.1")};
    struct sock_addr src;
    struct http_get_opts o = {
        .path = m->path,
        .fields = &accept,
        .n_fields = 1,
        .src = worker_app_source(&m->to, &src),
        .timeout_ns = timeout_ns,
        .max_body = BODY_MAX,
    };
    struct merge_fetch *f = mem_zalloc(sizeof *f);
    if (!f)
        return err_set(err, ERR_NOMEM, "merged metrics");
    f->done = done;
    f->user = user;
    if (http_get_start(m->loop, &m->to, &o, fetched, f, &f->get, err) < 0) {
        mem_free(f);
        return -1;
    }
    *ret = f;
    return 0;
}

void merge_cancel(struct merge_fetch *f)
{
    http_get_cancel(f->get);
    mem_free(f);
}
