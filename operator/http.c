/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/http.h"

#include <stdio.h>

#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/http/server.h"

enum { PAGE_MAX = 16 << 20 };

struct pages {
    struct pages_opts opts;
    struct http_server *server;
    bool stopping;
};

/* --- metrics ------------------------------------------------------------------------------------------------- */

static void sample(struct metrics_writer *w, const char *name, const char *help,
                   enum metric_type type, double v)
{
    struct metric_def def = {name, help, NULL, type, NULL, 0};
    metrics_family(w, &def);
    metrics_sample(w, &def, NULL, NULL, 0, v);
}

/* One family, one sample for each controller. */
static void queue_family(const struct op *op, struct metrics_writer *w, const char *name,
                         const char *help, enum metric_type type, const char *label,
                         double (*value)(const struct kube_queue_stats *s))
{
    struct metric_def def = {name, help, NULL, type, NULL, 0};
    if (!op->ctls)
        return;
    metrics_family(w, &def);
    for (const struct ctl *c = op->ctls; c; c = c->next) {
        struct kube_queue_stats s = kube_queue_stats(c->queue);
        struct slice who = slice_str(c->name);
        metrics_sample(w, &def, &label, &who, 1, value(&s));
    }
}

static double depth(const struct kube_queue_stats *s) { return s->depth; }
static double adds(const struct kube_queue_stats *s) { return (double)s->adds; }
static double retries(const struct kube_queue_stats *s) { return (double)s->retries; }
static double running(const struct kube_queue_stats *s) { return s->running; }
static double unfinished(const struct kube_queue_stats *s) { return (double)s->unfinished_ns / 1e9; }
static double longest(const struct kube_queue_stats *s) { return (double)s->longest_ns / 1e9; }
static double most(const struct kube_queue_stats *s) { return (void)s, CTL_CONCURRENCY; }

/* As controller-runtime names them. */
static void queues(const struct op *op, struct metrics_writer *w)
{
    queue_family(op, w, "workqueue_depth", "Keys that wait to run now", METRIC_GAUGE, "name", depth);
    queue_family(op, w, "workqueue_adds_total", "Keys added", METRIC_COUNTER, "name", adds);
    queue_family(op, w, "workqueue_retries_total", "Keys that failed and come again",
                 METRIC_COUNTER, "name", retries);
    queue_family(op, w, "workqueue_unfinished_work_seconds",
                 "Seconds of work under way, over all running keys", METRIC_GAUGE, "name", unfinished);
    queue_family(op, w, "workqueue_longest_running_processor_seconds",
                 "Seconds that the key runs which runs longest", METRIC_GAUGE, "name", longest);
    queue_family(op, w, "controller_runtime_active_workers", "Keys that run now", METRIC_GAUGE,
                 "controller", running);
    queue_family(op, w, "controller_runtime_max_concurrent_reconciles",
                 "Keys that may run at a time", METRIC_GAUGE, "controller", most);
}

/* As istiod names them: what a push held, by kind of resource; objects; who is asked. */
static void pilot(const struct op *op, const struct push_stats *push, struct metrics_writer *w)
{
    static const char *const type = "type", *const version = "version";
    static const struct metric_def sent = {"pilot_xds_pushes", "Resources in pushes, by kind", NULL,
                                           METRIC_COUNTER, NULL, 0};
    static const struct metric_def info = {"pilot_info", "The operator's release", NULL,
                                           METRIC_GAUGE, NULL, 0};
    struct slice release = SL(TULLE_VERSION);
    metrics_family(w, &sent);
    for (int k = PROG_SETTINGS; k <= PROG_KIND_LAST; k++) {
        struct slice kind = slice_str(prog_kind_name((enum prog_kind)k));
        if (push->by_kind[k])
            metrics_sample(w, &sent, &type, &kind, 1, (double)push->by_kind[k]);
    }
    metrics_family(w, &info);
    metrics_sample(w, &info, &version, &release, 1, 1);
    size_t virtual = 0;
    for (struct map_entry *e = NULL; (e = map_next(&op->model.policies, e));)
        virtual += ((const struct policy_fact *)e->value)->kind == INDEX_VS;
    sample(w, "pilot_virt_services", "VirtualServices", METRIC_GAUGE, (double)virtual);
}

static void extra(void *user, struct metrics_writer *w)
{
    struct pages *p = user;
    struct op *op = p->opts.op;
    struct push_stats push = push_stats(op->push);
    struct serve_stats serve = serve_stats(p->opts.serve);
    struct index_stats index = index_stats(op->model.index);
    const struct {
        const char *name, *help;
        enum metric_type type;
        double v;
    } rows[] = {
        {"pilot_xds", "Proxies with a discovery stream", METRIC_GAUGE, (double)push.clients},
        {"pilot_services", "Services in the index", METRIC_GAUGE, (double)index.services},
        {"tulle_operator_endpoints", "Endpoints in the index", METRIC_GAUGE,
         (double)index.endpoints},
        {"tulle_operator_pods", "Pods in the index", METRIC_GAUGE, (double)index.pods},
        {"tulle_operator_policies", "Policies in the index", METRIC_GAUGE, (double)index.policies},
        {"tulle_operator_hosts_without_address", "Hosts for which no address is left", METRIC_GAUGE,
         (double)op->model.unplaced},
        {"tulle_operator_refused_objects_total", "Objects that could not be read", METRIC_COUNTER,
         (double)op->model.refused},
        {"tulle_discovery_subscriptions", "Resources that proxies subscribe to", METRIC_GAUGE,
         (double)push.subscriptions},
        {"tulle_discovery_resources", "Compiled resources in the cache", METRIC_GAUGE,
         (double)push.resources},
        {"tulle_discovery_compiles_total", "Compilations of resources", METRIC_COUNTER,
         (double)push.compiles},
        {"tulle_discovery_pushes_total", "Pushes sent", METRIC_COUNTER, (double)push.pushes},
        {"tulle_discovery_sent_bytes_total", "Bytes of pushes", METRIC_COUNTER,
         (double)push.sent_bytes},
        {"tulle_discovery_subscriptions_refused_total",
         "Subscriptions beyond the limit of a stream", METRIC_COUNTER, (double)push.refused},
        {"tulle_discovery_unchanged_total", "Resources answered as unchanged", METRIC_COUNTER,
         (double)push.unchanged},
        {"tulle_discovery_resyncs_total", "Streams ended for want of memory", METRIC_COUNTER,
         (double)push.resyncs},
        {"tulle_operator_connections", "Connections on the discovery port", METRIC_GAUGE,
         (double)serve.connections},
        {"tulle_operator_handshakes_failed_total", "TLS handshakes that failed", METRIC_COUNTER,
         (double)serve.failed},
        {"tulle_operator_connections_refused_total", "Connections over the limit", METRIC_COUNTER,
         (double)serve.refused},
        {"tulle_operator_certificate_expiry_timestamp_seconds",
         "End of the discovery port's certificate", METRIC_GAUGE,
         (double)(serve.not_after_ns / NS_PER_S)},
    };
    for (size_t i = 0; i < N_OF(rows); i++)
        sample(w, rows[i].name, rows[i].help, rows[i].type, rows[i].v);
    queues(op, w);
    pilot(op, &push, w);
    struct signer_state ca = signer_state(op->signer);
    struct ca_progress ca_progress = ctl_ca_progress(op->ca);
    sample(w, "tulle_ca_rotation_step", "0: one CA; 1: all learn the new root; 2: all renew",
           METRIC_GAUGE, (double)ca.step);
    sample(w, "tulle_ca_rotation_proxies", "Proxies that have to follow the step", METRIC_GAUGE,
           ca_progress.proxies);
    sample(w, "tulle_ca_rotation_followed", "Proxies that have followed it", METRIC_GAUGE,
           ca_progress.followed);
    if (p->opts.source) {
        struct source_stats s = source_stats(p->opts.source);
        sample(w, "tulle_operator_watch_events_total", "Events of watches", METRIC_COUNTER,
               (double)s.events);
        sample(w, "tulle_operator_lists_total", "Lists read", METRIC_COUNTER, (double)s.lists);
        sample(w, "tulle_operator_watch_errors_total", "Lists and watches that broke",
               METRIC_COUNTER, (double)s.errors);
    }
    metrics_process(NULL, w);
}

static void metrics_page(struct pages *p, struct http_exchange *x)
{
    CLEANUP(buf_freep) struct buf b;
    struct slice accept = http_head_get(http_exchange_head(x), SL("accept"));
    enum metrics_form form = metrics_negotiate(accept);
    buf_init(&b, PAGE_MAX);
    if (metrics_expose(p->opts.op->metrics.m, form, extra, p, &b) == ERR_OK)
        http_reply(x, 200, metrics_content_type(form), buf_slice(&b));
    else
        http_reply(x, 500, "text/plain", SL("out of memory\n"));
}

/* --- other pages ------------------------------------------------------------------------------------------------ */

static void ready_page(struct pages *p, struct http_exchange *x)
{
    struct op *op = p->opts.op;
    const char *why = p->stopping                         ? "stopping"
                      : !signer_state(op->signer).ready   ? "the CA is not loaded"
                      : !op->model.synced                 ? "objects are not read yet"
                      : !serve_stats(p->opts.serve).not_after_ns ? "no server certificate yet"
                                                          : NULL;
    char text[400];
    int n = snprintf(text, sizeof text, "%s\n", why ? why : "ok");
    http_reply(x, why ? 503 : 200, "text/plain", slice_of(text, (size_t)n));
}

static bool client_row(void *user, const struct push_client_info *i)
{
    json_array_append_new(user, json_pack("{s:o, s:o, s:o, s:i, s:i, s:b, s:b}", "namespace",
                                          json_string_of(i->ns), "pod", json_string_of(i->pod),
                                          "version", json_string_of(i->version), "subscriptions",
                                          (int)i->subscriptions, "pending", (int)i->pending,
                                          "unanswered", i->in_flight, "rejected", i->rejected));
    return true;
}

static void syncz_page(struct pages *p, struct http_exchange *x)
{
    CLEANUP(json_freep) json_t *list = json_array();
    push_each(p->opts.op->push, client_row, list);
    CLEANUP(mem_freep) char *text = json_text(list, JSON_PRETTY);
    http_reply(x, text ? 200 : 500, "application/json", slice_str(text));
}

static void handle(void *user, struct http_exchange *x)
{
    struct pages *p = user;
    if (http_exchange_is(x, "GET", "/metrics"))
        metrics_page(p, x);
    else if (http_exchange_is(x, "GET", "/healthz"))
        http_reply(x, 200, "text/plain", SL("ok\n"));
    else if (http_exchange_is(x, "GET", "/readyz"))
        ready_page(p, x);
    else if (http_exchange_is(x, "GET", "/version"))
        http_reply(x, 200, "application/json", SL("{\"version\":\"" TULLE_VERSION "\"}\n"));
    else if (http_exchange_is(x, "GET", "/debug/syncz") &&
             sock_addr_is_loopback(http_exchange_peer(x)))
        syncz_page(p, x);
    else
        http_reply(x, 404, "text/plain", SL("no such page\n"));
}

int pages_new(const struct pages_opts *opts, struct pages **ret, struct err *err)
{
    struct pages *p = mem_zalloc(sizeof *p);
    if (!p)
        return err_set(err, ERR_NOMEM, "pages");
    p->opts = *opts;
    if (http_server_new(opts->op->loop, NULL, handle, p, &p->server, err) < 0) {
        mem_free(p);
        return -1;
    }
    int fd = sock_listen(&opts->addr, false, 64, err);
    if (fd < 0 || http_server_listen(p->server, fd, 0, err) < 0) {
        pages_free(p);
        return -1;
    }
    *ret = p;
    return 0;
}

void pages_set_source(struct pages *p, struct source *source)
{
    p->opts.source = source;
}

void pages_set_stopping(struct pages *p)
{
    p->stopping = true;
}

void pages_free(struct pages *p)
{
    if (!p)
        return;
    http_server_free(p->server);
    mem_free(p);
}
