/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/probe.h"

#include <stdio.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/http/client.h"
#include "lib/http/grpc.h"
#include "proxy/worker.h"

#define HEALTH_PATH "/grpc.health.v1.Health/Check"
enum { FIELDS_MAX = 32, ANSWER_MAX = 64 * 1024, SERVICE_MAX = 200 };

struct probes {
    struct loop *loop;
    json_t *by_path;
    struct sock_addr app;
    struct tls_ctx *tls; /* for HTTPS probes: the kubelet does not verify either; made at first use */
    struct probe *running;
};

/* One probe under way. */
struct probe {
    struct probe *next, **prev;
    struct probes *set;
    struct http_exchange *x;
    struct http_get *get;
    struct chan *chan;         /* tcpSocket */
    struct grpc_conn *conn;    /* grpc */
    struct loop_timer timer;
    struct loop_task gone;
    bool serving, over;
};

static void probe_free(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct probe, gone));
}

static void probe_end(struct probe *p)
{
    p->over = true;
    loop_timer_clear(p->set->loop, &p->timer);
    http_get_cancel(p->get);
    chan_close(p->chan);
    if (p->conn)
        grpc_conn_close(p->conn);
    *p->prev = p->next;
    if (p->next)
        p->next->prev = p->prev;
    loop_task_add(p->set->loop, &p->gone, probe_free);
}

static void probe_answer(struct probe *p, unsigned status, const char *why)
{
    char text[256];
    if (p->over)
        return;
    struct http_exchange *x = p->x;
    int n = snprintf(text, sizeof text, "%s\n", why);
    probe_end(p);
    if (x)
        http_reply(x, status, "text/plain", slice_of(text, MIN((size_t)n, sizeof text - 1)));
}

static void asker_gone(void *user)
{
    struct probe *p = user;
    p->x = NULL;
    probe_end(p);
}

static void probe_late(struct loop_timer *t)
{
    probe_answer(CONTAINER_OF(t, struct probe, timer), 503, "the application did not answer in time");
}

static int64_t timeout_ns(const json_t *def)
{
    json_int_t s = json_integer_value(json_object_get(def, "timeoutSeconds"));
    return (s > 0 && s < 3600 ? s : 1) * NS_PER_S;
}

static struct sock_addr address_of_port(const struct probes *set, const json_t *handler)
{
    struct sock_addr a = set->app;
    sock_addr_set_port(&a, (uint16_t)json_integer_value(json_object_get(handler, "port")));
    return a;
}

/* --- httpGet -------------------------------------------------------------------------------------- */

static void http_done(void *user, unsigned status, const struct http_head *head, struct slice body,
                      const struct err *err)
{
    struct probe *p = user;
    (void)head, (void)body;
    p->get = NULL;
    if (status == 0)
        probe_answer(p, 503, err->msg);
    else
        probe_answer(p, status < 400 ? 200 : status, http_reason((int)status));
}

static struct slice text_of(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return slice_of(json_string_value(v), json_string_length(v));
}

static int http_probe(struct probe *p, const json_t *handler, int64_t timeout, struct err *err)
{
    struct http_field fields[FIELDS_MAX];
    struct http_get_opts o = {.timeout_ns = timeout, .max_body = ANSWER_MAX, .fields = fields};
    struct sock_addr src, to = address_of_port(p->set, handler);
    const json_t *list = json_object_get(handler, "httpHeaders"), *h;
    const char *path = json_string_value(json_object_get(handler, "path"));
    size_t i;
    char slashed[2048];
    json_array_foreach(list, i, h)
    {
        struct slice name = text_of(h, "name"), value = text_of(h, "value");
        if (slice_ieq(name, SL("host")))
            o.host = value.p;
        else if (o.n_fields < FIELDS_MAX)
            fields[o.n_fields++] = (struct http_field){name, value};
    }
    snprintf(slashed, sizeof slashed, "%s%s", path && path[0] == '/' ? "" : "/", path ? path : "");
    o.path = slashed;
    o.src = worker_app_source(&to, &src);
    if (slice_ieq(text_of(handler, "scheme"), SL("https"))) {
        struct tls_ctx_opts t = {.tls12 = true};
        if (!p->set->tls && tls_ctx_new(&t, &p->set->tls, err) < 0)
            return -1;
        o.tls = p->set->tls;
    }
    return http_get_start(p->set->loop, &to, &o, http_done, p, &p->get, err);
}

/* --- tcpSocket ------------------------------------------------------------------------------------ */

static void tcp_event(void *user, unsigned events)
{
    struct probe *p = user;
    if (events & CHAN_FAIL)
        probe_answer(p, 503, chan_failure_text(p->chan));
    else if (events & CHAN_OPEN)
        probe_answer(p, 200, "open");
}

static int dial(struct probe *p, const json_t *handler, struct chan **ret, struct err *err)
{
    struct sock_addr src, to = address_of_port(p->set, handler);
    int fd = sock_connect(&to, worker_app_source(&to, &src), err);
    return fd < 0 ? -1 : chan_tcp(p->set->loop, fd, false, ret, err);
}

static int tcp_probe(struct probe *p, const json_t *handler, int64_t timeout, struct err *err)
{
    if (dial(p, handler, &p->chan, err) < 0)
        return -1;
    chan_owner(p->chan, tcp_event, p);
    return loop_timer_in(p->set->loop, &p->timer, timeout, probe_late);
}

/* --- grpc (grpc.health.v1: request {1: service}, answer {1: status}, 1 is SERVING) ------------------ */

static void grpc_message(struct grpc_stream *s, struct slice msg)
{
    struct probe *p = grpc_stream_user(s);
    p->serving = msg.len >= 2 && msg.p[0] == 0x08 && msg.p[1] == 1;
}

static void grpc_ended(struct grpc_stream *s, enum grpc_status status, struct slice detail,
                       bool final)
{
    struct probe *p = grpc_stream_user(s);
    char why[160];
    if (!final || p->over)
        return;
    if (status == GRPC_OK && p->serving) {
        probe_answer(p, 200, "SERVING");
        return;
    }
    snprintf(why, sizeof why, "%s %.*s", status == GRPC_OK ? "NOT_SERVING" : grpc_status_name(status),
             (int)MIN(detail.len, (size_t)100), detail.p ? detail.p : "");
    probe_answer(p, 503, why);
}

static const struct grpc_stream_ops grpc_ops = {.on_message = grpc_message, .on_end = grpc_ended};

static void grpc_closed(struct grpc_conn *c, const struct err *why)
{
    struct probe *p = grpc_conn_user(c);
    p->conn = NULL;
    probe_answer(p, 503, why->msg);
}

static const struct grpc_conn_ops conn_ops = {.on_close = grpc_closed};

static int grpc_probe(struct probe *p, const json_t *handler, int64_t timeout, struct err *err)
{
    struct slice service = text_of(handler, "service");
    struct grpc_stream *stream;
    struct chan *chan;
    char msg[SERVICE_MAX + 4];
    size_t n = 0;
    if (service.len > 127)
        return err_set(err, ERR_LIMIT, "the service's name is too long");
    if (service.len) {
        msg[n++] = 0x0a;
        msg[n++] = (char)service.len;
        memcpy(msg + n, service.p, service.len);
        n += service.len;
    }
    if (dial(p, handler, &chan, err) < 0 ||
        grpc_client(chan, "localhost", NULL, &conn_ops, p, &p->conn, err) < 0 ||
        grpc_call(p->conn, HEALTH_PATH, NULL, timeout, &grpc_ops, p, &stream, err) < 0)
        return -1;
    if (grpc_send(stream, slice_of(msg, n)) != ERR_OK)
        return err_set(err, ERR_NOMEM, "probe");
    grpc_end(stream);
    return 0;
}

/* --- all ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*start)(struct probe *p, const json_t *handler, int64_t timeout, struct err *err);
} kinds[] = {{"httpGet", http_probe}, {"tcpSocket", tcp_probe}, {"grpc", grpc_probe}};

bool probes_serve(struct probes *set, struct http_exchange *x)
{
    char path[256];
    struct err err = {0};
    if (!set->by_path || !slice_copy(http_exchange_path(x), path, sizeof path))
        return false;
    const json_t *def = json_object_get(set->by_path, path);
    if (!def)
        return false;
    struct probe *p = mem_zalloc(sizeof *p);
    if (!p) {
        http_reply(x, 503, "text/plain", SL("out of memory\n"));
        return true;
    }
    p->set = set;
    p->x = x;
    p->next = set->running;
    p->prev = &set->running;
    if (p->next)
        p->next->prev = &p->next;
    set->running = p;
    http_exchange_on_gone(x, asker_gone, p);
    for (size_t i = 0; i < N_OF(kinds); i++) {
        const json_t *handler = json_object_get(def, kinds[i].name);
        if (!handler)
            continue;
        if (kinds[i].start(p, handler, timeout_ns(def), &err) < 0)
            probe_answer(p, 503, err.msg);
        return true;
    }
    probe_answer(p, 503, "the probe has no handler");
    return true;
}

int probes_new(struct loop *loop, const char *json, const struct sock_addr *app,
               struct probes **ret, struct err *err)
{
    struct probes *set = mem_zalloc(sizeof *set);
    if (!set)
        return err_set(err, ERR_NOMEM, "probes");
    set->loop = loop;
    set->app = *app;
    if (json && json_parse(slice_str(json), NULL, &set->by_path, err) < 0) {
        mem_free(set);
        return err_wrap(err, "ISTIO_KUBE_APP_PROBERS");
    }
    *ret = set;
    return 0;
}

void probes_free(struct probes *set)
{
    if (!set)
        return;
    while (set->running) {
        set->running->x = NULL;
        probe_end(set->running);
    }
    json_decref(set->by_path);
    tls_ctx_unref(set->tls);
    mem_free(set);
}
