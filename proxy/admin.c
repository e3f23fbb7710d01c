/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of the proxy: admin (loopback), status, health and metrics ports; one table of routes. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/http/server.h"
#include "mesh/wire/wire.h"
#include "proxy/data.h"
#include "proxy/merge.h"
#include "proxy/probe.h"
#include "proxy/telemetry.h"
#include "proxy/tour.h"
#include "proxy/upstream/upstream.h"

enum { PAGE_MAX = 16 << 20 };
enum port { PORT_ADMIN = 1, PORT_STATUS = 2, PORT_HEALTH = 4, PORT_METRICS = 8 };

struct admin {
    struct data *data;
    struct http_server *server;
    struct probes *probes;
    struct merge *merge;     /* NULL: the application is not scraped */
    struct later *later;     /* answers that are being gathered */
    int64_t aged_ns;         /* when metrics_age was called last */
};

/* --- answers that take time --------------------------------------------------------------------------- */

/* An exchange that waits for the workers or for the application. */
struct later {
    struct later *next, **prev;
    struct admin *admin;
    struct http_exchange *x;
    struct tour *tour;
    struct merge_fetch *fetch;
    unsigned rounds;
};

static void later_end(struct later *l)
{
    if (l->tour)
        tour_cancel(l->tour);
    if (l->fetch)
        merge_cancel(l->fetch);
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    mem_free(l);
}

static void asker_gone(void *user)
{
    later_end(user);
}

/* NULL (answered with 503) without memory. */
static struct later *later_new(struct admin *a, struct http_exchange *x)
{
    struct later *l = mem_zalloc(sizeof *l);
    if (!l) {
        http_reply(x, 503, "text/plain", SL("out of memory\n"));
        return NULL;
    }
    l->admin = a;
    l->x = x;
    l->next = a->later;
    l->prev = &a->later;
    if (l->next)
        l->next->prev = &l->next;
    a->later = l;
    http_exchange_on_gone(x, asker_gone, l);
    return l;
}

static void later_reply(struct later *l, unsigned status, const char *type, struct slice body)
{
    struct http_exchange *x = l->x;
    http_exchange_on_gone(x, NULL, NULL);
    later_end(l);
    http_reply(x, status, type, body);
}

static void later_tour(struct later *l, void (*ask)(struct worker *, struct buf *),
                       void (*done)(void *user, struct buf *out))
{
    struct err err = {0};
    if (tour_start(l->admin->data, ask, done, l, &l->tour, &err) < 0)
        later_reply(l, 503, "text/plain", slice_str(err.msg));
}

/* --- metrics ------------------------------------------------------------------------------------- */

static void gauge(struct metrics_writer *w, const char *name, const char *help, double v)
{
    struct metric_def def = {name, help, NULL, METRIC_GAUGE, NULL, 0};
    metrics_family(w, &def);
    metrics_sample(w, &def, NULL, NULL, 0, v);
}

static void counter(struct metrics_writer *w, const char *name, const char *help, double v)
{
    struct metric_def def = {name, help, NULL, METRIC_COUNTER, NULL, 0};
    metrics_family(w, &def);
    metrics_sample(w, &def, NULL, NULL, 0, v);
}

static void own_metrics(void *user, struct metrics_writer *w)
{
    static const char *const labels[] = {"component", "tag"};
    const struct slice values[] = {SL("proxy"), SL(TULLE_VERSION)};
    struct data *d = user;
    struct metric_def build = {"istio_build", "Version of this proxy", NULL, METRIC_GAUGE, NULL, 0};
    int64_t now = loop_now(d->loop);
    unsigned inbound = 0;
    metrics_family(w, &build);
    metrics_sample(w, &build, labels, values, 2, 1);
    for (unsigned i = 0; i < d->n_workers; i++)
        inbound += atomic_load_explicit(&d->workers[i].worker->n_inbound, memory_order_relaxed);
    gauge(w, "tulle_proxy_ready", "1 when this proxy carries traffic", data_ready(d, NULL));
    gauge(w, "tulle_proxy_inbound_connections", "Inbound connections", inbound);
    gauge(w, "tulle_proxy_program_resources", "Resources held or waited for",
          (double)control_held(&d->control));
    gauge(w, "tulle_proxy_negative_answers", "Resources wanted that are not there (yet)",
          (double)d->control.negative.n);
    counter(w, "tulle_proxy_unused_dropped_total",
            "Subscriptions that ended because nobody used them", (double)d->control.n_unused);
    counter(w, "tulle_proxy_negative_evicted_total",
            "Negative answers forgotten because there were too many", (double)d->control.n_evicted);
    gauge(w, "tulle_proxy_names", "Names that are looked up for ServiceEntries",
          (double)d->control.hostnames.hosts.len);
    counter(w, "tulle_proxy_name_lookups_total", "Look-ups of such names",
            (double)d->control.hostnames.n_lookups);
    counter(w, "tulle_proxy_name_failures_total",
            "Look-ups that nobody answered; the last good answer stays",
            (double)d->control.hostnames.n_failures);
    counter(w, "tulle_proxy_names_refused_total", "Names that are not looked up: there are too many",
            (double)d->control.hostnames.n_refused);
    if (d->control.learned_ns)
        gauge(w, "tulle_proxy_program_age_seconds", "Since the operator last said something new",
              (double)(now - d->control.learned_ns) / 1e9);
    if (d->discovery)
        gauge(w, "tulle_proxy_operator_connected", "1 when the discovery stream is up",
              discovery_state(d->discovery) == DISCOVERY_STREAM);
    if (d->identity && identity_ready(d->identity))
        gauge(w, "istio_agent_cert_expiry_seconds", "Until the workload certificate ends",
              (double)(identity_not_after_ns(d->identity) - loop_wall(d->loop)) / 1e9);
}

static void all_metrics(void *user, struct metrics_writer *w)
{
    own_metrics(user, w);
    metrics_process(NULL, w);
}

static void deliver_reap(struct mail *m, void *receiver)
{
    telemetry_reap(receiver);
    mem_free(m);
}

/* Series that nobody adds to end after an hour, if they were scraped. Scrapes drive it: no timer. */
static void metrics_grow_old(struct admin *a)
{
    struct data *d = a->data;
    int64_t now = loop_now(d->loop);
    if (now - a->aged_ns < TELEMETRY_AGE_S * NS_PER_S)
        return;
    a->aged_ns = now;
    if (metrics_age(d->metrics, TELEMETRY_AGES) == 0)
        return;
    for (unsigned i = 0; i < d->n_workers; i++) {
        struct mail *m = mem_zalloc(sizeof *m);
        if (!m)
            return; /* the next age reaps */
        m->deliver = deliver_reap;
        mailbox_send(&d->workers[i].worker->mailbox, m);
    }
}

static enum err_code metrics_page(struct data *d, enum metrics_form form, struct buf *out)
{
    return metrics_expose(d->metrics, form, all_metrics, d, out);
}

static void page_metrics(struct admin *a, struct http_exchange *x)
{
    CLEANUP(buf_freep) struct buf out;
    buf_init(&out, PAGE_MAX);
    enum metrics_form form =
        metrics_negotiate(http_head_get(http_exchange_head(x), SL("accept")));
    if (metrics_page(a->data, form, &out) != ERR_OK)
        http_reply(x, 500, "text/plain", SL("the metrics do not fit\n"));
    else
        http_reply(x, 200, metrics_content_type(form), buf_slice(&out));
    metrics_grow_old(a);
}

/* The application's metrics behind the proxy's. Its failure is a comment and loses nothing of ours. The
 * families of processes are left to it: two of one name would contradict each other. */
static void merged(void *user, struct slice text, const char *why)
{
    struct later *l = user;
    CLEANUP(buf_freep) struct buf out;
    l->fetch = NULL;
    buf_init(&out, PAGE_MAX * 2);
    struct admin *a = l->admin;
    struct data *d = a->data;
    enum err_code rc =
        metrics_expose(d->metrics, METRICS_TEXT, text.len ? own_metrics : all_metrics, d, &out);
    if (why)
        buf_addf(&out, "# the application's metrics are missing: %s\n", why);
    buf_add_slice(&out, text);
    if (text.len && text.p[text.len - 1] != '\n')
        buf_add_str(&out, "\n");
    if (rc != ERR_OK || buf_err(&out) != ERR_OK)
        later_reply(l, 500, "text/plain", SL("the metrics do not fit\n"));
    else
        later_reply(l, 200, metrics_content_type(METRICS_TEXT), buf_slice(&out));
    metrics_grow_old(a);
}

/* A scraper says how long it waits; the application gets most of that. */
static int64_t scrape_timeout_ns(const struct http_exchange *x)
{
    struct slice v = http_head_get(http_exchange_head(x), SL("x-prometheus-scrape-timeout-seconds"));
    ptrdiff_t dot = slice_chr(v, '.');
    uint64_t s;
    if (!slice_u64(dot >= 0 ? slice_head(v, (size_t)dot) : v, 60, &s) || s == 0)
        s = 5;
    return (int64_t)s * NS_PER_S * 8 / 10;
}

static void page_merged(struct admin *a, struct http_exchange *x)
{
    struct err err = {0};
    if (!a->merge) {
        page_metrics(a, x);
        return;
    }
    struct later *l = later_new(a, x);
    if (l && merge_start(a->merge, scrape_timeout_ns(x), merged, l, &l->fetch, &err) < 0)
        merged(l, SLICE_NULL, err.msg);
}

/* --- health and life -------------------------------------------------------------------------------- */

static void page_ready(struct admin *a, struct http_exchange *x)
{
    const char *why;
    char text[256];
    if (data_ready(a->data, &why)) {
        http_reply(x, 200, "text/plain", SL("ready\n"));
        return;
    }
    int n = snprintf(text, sizeof text, "not ready: %s\n", why);
    http_reply(x, 503, "text/plain", slice_of(text, MIN((size_t)n, sizeof text - 1)));
}

/* What changes the proxy's life is taken from the pod itself only. */
static bool from_here(struct http_exchange *x)
{
    if (sock_addr_is_loopback(http_exchange_peer(x)))
        return true;
    http_reply(x, 403, "text/plain", SL("only from within the pod\n"));
    return false;
}

static void page_drain(struct admin *a, struct http_exchange *x)
{
    if (!from_here(x))
        return;
    data_drain(a->data);
    http_reply(x, 200, "text/plain", SL("draining\n"));
}

static void page_drained(struct admin *a, struct http_exchange *x)
{
    bool done = data_drained(a->data);
    http_reply(x, done ? 200 : 503, "text/plain", done ? SL("drained\n") : SL("not drained\n"));
}

static void page_quit(struct admin *a, struct http_exchange *x)
{
    if (!from_here(x))
        return;
    data_leave(a->data);
    http_reply(x, 200, "text/plain", SL("leaving\n"));
}

/* --- looking inside ------------------------------------------------------------------------------------ */

static void server_info(const struct data *d, struct buf *out)
{
    const char *why;
    bool ready = data_ready(d, &why);
    json_t *j = json_object();
    json_object_set_new(j, "version", json_string(TULLE_VERSION));
    json_object_set_new(j, "state", json_string(d->draining ? "DRAINING" : ready ? "LIVE" : "STARTING"));
    json_object_set_new(j, "reason", json_string(why));
    json_object_set_new(j, "pod", json_string(d->pod));
    json_object_set_new(j, "namespace", json_string(d->pod_namespace));
    json_object_set_new(j, "identity", json_string(d->spiffe_id));
    json_object_set_new(j, "uptimeSeconds",
                        json_integer((loop_now(d->loop) - d->started_ns) / NS_PER_S));
    json_object_set_new(j, "resources", json_integer((json_int_t)control_held(&d->control)));
    if (d->identity && identity_ready(d->identity)) {
        char until[32];
        clock_rfc3339(identity_not_after_ns(d->identity), 1, until);
        json_object_set_new(j, "certificateUntil", json_string(until));
    }
    if (d->discovery) {
        json_object_set_new(j, "operator",
                            json_string(discovery_state_name(discovery_state(d->discovery))));
        json_object_set_new(j, "operatorProblem", json_string(discovery_problem(d->discovery)));
    }
    json_write(j, JSON_PRETTY, out);
    json_decref(j);
}

static void page_info(struct admin *a, struct http_exchange *x)
{
    CLEANUP(buf_freep) struct buf out;
    buf_init(&out, PAGE_MAX);
    server_info(a->data, &out);
    http_reply(x, 200, "application/json", buf_slice(&out));
}

/* Everything held, or what `kind` and `key` name. */
static void config_dump(const struct data *d, struct slice kind, struct slice key, struct buf *out)
{
    size_t n;
    struct map_entry **list = map_sorted(&d->control.known, &n);
    for (size_t i = 0; list && i < n; i++) {
        static const char *const states[] = {"value", "absent", "unchanged", "withheld"};
        const struct known *k = list[i]->value;
        struct slice name = slice_of(k->key, k->key_len);
        if ((kind.len && !slice_ieq(kind, slice_str(prog_kind_name(k->kind)))) ||
            (key.len && !slice_eq(key, name)) || k->dropped)
            continue;
        if (k->prog)
            prog_dump(k->prog, out);
        else
            buf_addf(out, "%s %.*s\n  %s\n", prog_kind_name(k->kind), SL_FMT(name),
                     k->answered ? states[k->state] : "no answer yet");
    }
    mem_free(list);
}

static void page_dump(struct admin *a, struct http_exchange *x)
{
    CLEANUP(buf_freep) struct buf out;
    buf_init(&out, PAGE_MAX);
    config_dump(a->data, http_exchange_query(x, SL("kind")), http_exchange_query(x, SL("key")), &out);
    http_reply(x, 200, "text/plain", buf_slice(&out));
}

static void page_logging(struct admin *a, struct http_exchange *x)
{
    char name[16];
    enum log_level level;
    (void)a;
    if (!slice_copy(http_exchange_query(x, SL("level")), name, sizeof name) ||
        log_level_parse(name, &level) < 0) {
        http_reply(x, 400, "text/plain", SL("level must be error, warn, info, debug or trace\n"));
        return;
    }
    __atomic_store_n(&log_threshold, level, __ATOMIC_RELAXED);
    http_reply(x, 200, "text/plain", SL("ok\n"));
}

/* A worker that was woken looks at the clock when its turn begins, and what became due runs in that
 * turn: at the second visit all of it has. */
static void clock_seen(void *user, struct buf *out)
{
    struct later *l = user;
    (void)out;
    l->tour = NULL;
    if (l->rounds++ == 0)
        later_tour(l, NULL, clock_seen);
    else
        later_reply(l, 200, "text/plain", SL("ok\n"));
}

static void page_clock(struct admin *a, struct http_exchange *x)
{
    struct slice civil = http_exchange_query(x, SL("set_s"));
    bool back = slice_starts(civil, SL("-"));
    uint64_t ms, s;
    if (!a->data->options.virtual_clock) {
        http_reply(x, 404, "text/plain", SL("the clock is the machine's\n"));
    } else if (slice_u64(slice_skip(civil, back), UINT32_MAX, &s)) {
        clock_shift_wall(&a->data->clock, (back ? -1 : 1) * (int64_t)s * NS_PER_S);
        http_reply(x, 200, "text/plain", SL("ok\n"));
    } else if (!slice_u64(http_exchange_query(x, SL("advance_ms")), UINT32_MAX, &ms)) {
        http_reply(x, 400, "text/plain", SL("advance_ms or set_s must be a number\n"));
    } else {
        struct later *l = later_new(a, x);
        if (!l)
            return;
        data_advance(a->data, (int64_t)ms * NS_PER_MS);
        later_tour(l, NULL, clock_seen);
    }
}

static void clusters_told(void *user, struct buf *out)
{
    struct later *l = user;
    l->tour = NULL;
    hostnames_describe(&l->admin->data->control.hostnames, out);
    later_reply(l, buf_err(out) == ERR_OK ? 200 : 500, "text/plain", buf_slice(out));
}

static void page_clusters(struct admin *a, struct http_exchange *x)
{
    struct later *l = later_new(a, x);
    if (l)
        later_tour(l, up_describe, clusters_told);
}

/* What the allocator holds, then the kernel's view of the process. */
static void page_memory(struct admin *a, struct http_exchange *x)
{
    (void)a;
    char line[256];
    CLEANUP(buf_freep) struct buf out;
    buf_init(&out, 64 * 1024);
    struct mallinfo2 m = mallinfo2();
    buf_addf(&out, "heap_bytes %zu\nheap_used_bytes %zu\nheap_free_bytes %zu\nmapped_bytes %zu\n",
             m.arena, m.uordblks, m.fordblks, m.hblkhd);
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    while (f && fgets(line, sizeof line, f))
        buf_add_str(&out, line);
    if (f)
        fclose(f);
    http_reply(x, 200, "text/plain", buf_slice(&out));
}

/* --- routes --------------------------------------------------------------------------------------------- */

static const struct {
    unsigned ports;
    const char *method, *path;
    void (*page)(struct admin *a, struct http_exchange *x);
} pages[] = {
    {PORT_ADMIN | PORT_METRICS, "GET", "/stats/prometheus", page_metrics},
    {PORT_STATUS, "GET", "/stats/prometheus", page_merged},
    {PORT_ADMIN | PORT_STATUS | PORT_HEALTH, "GET", "/healthz/ready", page_ready},
    {PORT_ADMIN, "GET", "/ready", page_ready},
    {PORT_ADMIN, "GET", "/server_info", page_info},
    {PORT_ADMIN, "GET", "/config_dump", page_dump},
    {PORT_ADMIN, "GET", "/clusters", page_clusters},
    {PORT_ADMIN, "GET", "/memory", page_memory},
    {PORT_ADMIN, "POST", "/logging", page_logging},
    {PORT_ADMIN, "POST", "/clock", page_clock},
    {PORT_ADMIN | PORT_STATUS, "POST", "/drain", page_drain},
    {PORT_ADMIN | PORT_STATUS, "GET", "/drained", page_drained},
    {PORT_ADMIN | PORT_STATUS, "POST", "/quitquitquit", page_quit},
};

static void handle(void *user, struct http_exchange *x)
{
    struct admin *a = user;
    bool known = false;
    if (http_exchange_tag(x) == PORT_STATUS && probes_serve(a->probes, x))
        return;
    for (size_t i = 0; i < N_OF(pages); i++) {
        if (!(pages[i].ports & (unsigned)http_exchange_tag(x)) ||
            !slice_is(http_exchange_path(x), pages[i].path))
            continue;
        known = true;
        if (http_exchange_is(x, pages[i].method, pages[i].path)) {
            pages[i].page(a, x);
            return;
        }
    }
    if (known)
        http_reply(x, 405, "text/plain", SL("method not allowed\n"));
    else
        http_reply(x, 404, "text/plain", SL("no such page\n"));
}

int admin_answer(void *data, struct slice what, struct buf *ret, struct err *err)
{
    struct data *d = data;
    if (slice_is(what, "/stats/prometheus"))
        metrics_page(d, METRICS_TEXT, ret);
    else if (slice_is(what, "/server_info"))
        server_info(d, ret);
    else if (slice_is(what, "/config_dump"))
        config_dump(d, SLICE_NULL, SLICE_NULL, ret);
    else
        return err_set(err, ERR_NOT_FOUND, "no page %.*s", SL_FMT(slice_head(what, 100)));
    return buf_err(ret) == ERR_OK ? 0 : err_set(err, buf_err(ret), "page too large");
}

int admin_new(struct data *d, const struct admin_fds *fds, const char *probers,
              const char *prometheus, struct admin **ret, struct err *err)
{
    const struct {
        int fd, tag;
    } doors[] = {{fds->admin, PORT_ADMIN},
                 {fds->status, PORT_STATUS},
                 {fds->health, PORT_HEALTH},
                 {fds->metrics, PORT_METRICS}};
    struct admin *a = mem_zalloc(sizeof *a);
    if (!a)
        return err_set(err, ERR_NOMEM, "admin pages");
    a->data = d;
    struct sock_addr app;
    if (sock_addr_parse(slice_str(d->pod_address), 0, &app) < 0)
        sock_addr_parse(SL("127.0.0.1"), 0, &app);
    if (probes_new(d->loop, probers, &app, &a->probes, err) < 0 ||
        merge_new(d->loop, prometheus, &app, &a->merge, err) < 0 ||
        http_server_new(d->loop, NULL, handle, a, &a->server, err) < 0) {
        probes_free(a->probes);
        merge_free(a->merge);
        mem_free(a);
        return -1;
    }
    for (size_t i = 0; i < N_OF(doors); i++) {
        if (doors[i].fd >= 0 && http_server_listen(a->server, doors[i].fd, doors[i].tag, err) < 0) {
            admin_free(a);
            return -1;
        }
    }
    *ret = a;
    return 0;
}

void admin_free(struct admin *a)
{
    if (!a)
        return;
    probes_free(a->probes);
    while (a->later)
        later_end(a->later);
    http_server_free(a->server);
    merge_free(a->merge);
    mem_free(a);
}
