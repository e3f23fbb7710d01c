/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle-proxy-data`: the process that carries the traffic (`run`) or programs the pod (`init`). */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/fault.h"
#include "lib/base/mem.h"
#include "lib/tls/tls.h"
#include "proxy/data.h"
#include "proxy/filter/edge.h"
#include "proxy/gates.h"
#include "proxy/locals.h"
#include "proxy/served.h"
#include "proxy/init.h"
#include "proxy/telemetry.h"
#include "proxy/trim.h"
#include "proxy/upstream/upstream.h"

enum {
    FDS_MAX = 256,
    CONFIG_MAX = 256 << 20,
    DRAIN_POLL_MS = 100,
    GRACE_DEFAULT_S = 30, /* terminationGracePeriodSeconds of a pod that says nothing */
    APP_SETTLE_MS = 1000,
};

static const char *env(const char *name, const char *otherwise)
{
    const char *v = getenv(name);
    return v && *v ? v : otherwise;
}

/* --- readiness and drain ---------------------------------------------------------------------------- */

bool data_ready(const struct data *d, const char **ret_why)
{
    const char *why = NULL;
    if (d->draining)
        why = "draining";
    else if (d->identity && !identity_ready(d->identity))
        why = *identity_problem(d->identity) ? identity_problem(d->identity)
                                             : "waiting for a workload certificate";
    else if (!d->control.ready)
        why = d->discovery && *discovery_problem(d->discovery) ? discovery_problem(d->discovery)
                                                               : "waiting for the operator's answer";
    else if (d->gateway && !gateway_open(d->gateway))
        why = "waiting for the listeners of a gateway";
    else if (!d->opened)
        why = "workers are starting";
    if (ret_why)
        *ret_why = why ? why : "";
    return why == NULL;
}

/* A word to a worker: run `fn` on its thread. */
struct order {
    struct mail mail;
    void (*fn)(struct worker *w);
};

static void deliver_order(struct mail *m, void *receiver)
{
    struct order *o = CONTAINER_OF(m, struct order, mail);
    o->fn(receiver);
    mem_free(o);
}

static void order_all(struct data *d, void (*fn)(struct worker *))
{
    for (unsigned i = 0; i < d->n_workers; i++) {
        struct order *o = mem_zalloc(sizeof *o);
        if (!o) {
            LOG(ERROR, "Out of memory: a worker could not be told", "worker=%u", i);
            continue;
        }
        o->mail.deliver = deliver_order;
        o->fn = fn;
        mailbox_send(&d->workers[i].worker->mailbox, &o->mail);
    }
}

static void open_worker(struct worker *w)
{
    struct err err = {0};
    if (worker_open(w, &err) < 0)
        LOG(ERROR, "Worker cannot accept", "worker=%u reason=%s", w->id, err.msg);
}

static void look_at_clock(struct worker *w)
{
    (void)w; /* waking up is the point: timers that are due now fire in this turn */
}

void data_advance(struct data *d, int64_t ns)
{
    clock_advance(&d->clock, ns);
    order_all(d, look_at_clock);
}

static void stop_worker(struct worker *w)
{
    loop_stop(w->loop);
}

/* Connections on all workers: each counts on its own thread and tells through an atomic. */
static unsigned connections(const struct data *d, bool inbound)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->n_workers; i++) {
        const struct worker *w = d->workers[i].worker;
        n += atomic_load_explicit(inbound ? &w->n_inbound : &w->n_outbound, memory_order_relaxed);
    }
    return n;
}

bool data_drained(const struct data *d)
{
    return d->draining && connections(d, true) == 0;
}

static void drain_tick(struct loop_timer *t);

static void leave_now(struct data *d)
{
    d->exit_code = EXIT_DRAINED;
    loop_stop(d->loop);
}

/* A gateway serves nobody beside it: it takes what still comes while the world hears that it leaves, then
 * waits for what is under way. */
static void gateway_drain_tick(struct data *d)
{
    int64_t now = loop_now(d->loop);
    if (now >= d->leave.kill_ns || (now >= d->leave.drained_ns && connections(d, true) == 0)) {
        leave_now(d);
        return;
    }
    if (now >= d->leave.drained_ns && !d->leave.idle_closed) {
        d->leave.idle_closed = true;
        order_all(d, worker_drain_idle_now);
    }
    loop_timer_in(d->loop, &d->timer, DRAIN_POLL_MS * NS_PER_MS, drain_tick);
}

static void drain_tick(struct loop_timer *t)
{
    struct data *d = CONTAINER_OF(t, struct data, timer);
    const char *tables = getenv("TULLE_PROC_NET");
    /* Listeners by hand are no pod's: other users' sockets are none of our application's. */
    bool in_pod = tables || d->options.n_listen == 0;
    if (d->gateway) {
        gateway_drain_tick(d);
        return;
    }
    struct leave_view v = {.now_ns = loop_now(d->loop),
                           .app = in_pod ? app_life(tables, getuid()) : APP_UNKNOWN,
                           .inbound = connections(d, true),
                           .outbound = connections(d, false)};
    switch (leave_step(&d->leave, &v)) {
    case LEAVE_END:
        leave_now(d);
        return;
    case LEAVE_CLOSE_IDLE:
        LOG(INFO, "The application has gone", "inbound=%u outbound=%u", v.inbound, v.outbound);
        order_all(d, worker_drain_idle_now);
        break;
    case LEAVE_WAIT:
        break;
    }
    loop_timer_in(d->loop, &d->timer, DRAIN_POLL_MS * NS_PER_MS, drain_tick);
}

void data_drain(struct data *d)
{
    if (d->draining)
        return;
    d->draining = true;
    LOG(INFO, "Draining: inbound requests end, outbound goes on", "");
    order_all(d, worker_drain);
}

void data_leave(struct data *d)
{
    if (d->leaving)
        return;
    uint64_t grace_s;
    d->leaving = true;
    if (!slice_u64(slice_str(env("TULLE_GRACE_S", "")), 86400, &grace_s))
        grace_s = GRACE_DEFAULT_S;
    /* Told to drain beforehand: a native sidecar, which is ended when the application has gone. */
    d->leave.settle_ns = d->draining ? 0 : APP_SETTLE_MS * NS_PER_MS;
    data_drain(d);
    d->leave.drained_ns = loop_now(d->loop) + leave_drain_ns(getenv("PROXY_CONFIG"));
    d->leave.kill_ns = loop_now(d->loop) + MAX((int64_t)grace_s - 1, 1) * NS_PER_S;
    loop_timer_in(d->loop, &d->timer, 0, drain_tick);
}

static int read_whole(const char *path, struct buf *b, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    for (;;) {
        char *p = buf_reserve(b, 65536);
        ssize_t n = p ? read(fd, p, 65536) : -1;
        if (n <= 0) {
            int e = errno;
            close(fd);
            return n == 0 ? 0 : err_errno(err, p ? e : ENOMEM, "%s", path);
        }
        buf_commit(b, (size_t)n);
    }
}

/* Standalone: the compiled file has changed. One that cannot be used changes nothing. */
static void read_config_again(struct data *d)
{
    struct err err = {0};
    CLEANUP(buf_freep) struct buf config;
    buf_init(&config, CONFIG_MAX);
    if (read_whole(d->options.config, &config, &err) < 0 ||
        control_learn_bundle(&d->control, buf_slice(&config), &err) < 0)
        LOG(ERROR, "Configuration not read again: the old one is kept", "file=%s reason=%s",
            d->options.config, err.msg);
    else
        LOG(INFO, "Configuration read again", "file=%s", d->options.config);
}

static void on_signal(struct loop_signal *s, int signo)
{
    struct data *d = CONTAINER_OF(s, struct data, signals);
    if (signo == SIGTERM || signo == SIGINT)
        data_leave(d);
    else if (signo == SIGHUP && d->options.config)
        read_config_again(d);
}

/* --- what the supervisor keeps ------------------------------------------------------------------------ */

static void save_now(struct loop_task *t)
{
    struct data *d = CONTAINER_OF(t, struct data, save);
    struct err err = {0};
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, CONFIG_MAX);
    if (control_save_bundle(&d->control, &b, &err) < 0 ||
        handover_keep(d->supervisor, "program", buf_slice(&b), &err) < 0)
        LOG(WARN, "The supervisor keeps an older program", "reason=%s", err.msg);
    if (b.p)
        explicit_bzero(b.p, b.cap); /* keys may be among it */
}

static void keep_identity(struct data *d)
{
    struct err err = {0};
    struct buf b;
    if (d->supervisor < 0)
        return;
    buf_init(&b, 1 << 20);
    if (identity_save(d->identity, &b, &err) < 0 ||
        handover_keep(d->supervisor, "identity", buf_slice(&b), &err) < 0)
        LOG(WARN, "The supervisor keeps an older identity", "reason=%s", err.msg);
    if (b.p)
        explicit_bzero(b.p, b.cap);
    buf_fini(&b);
}

/* --- events ---------------------------------------------------------------------------------------------- */

enum { SETTLED_S = 3, RETURN_S = 30 };

/* What the first pushes were received and decoded in is free by now. */
static void on_settled(struct loop_timer *t)
{
    (void)t;
    trim_after_start();
}

/* After pushes: what they were received, decoded and kept in leaves holes between what stays. */
static void on_return(struct loop_timer *t)
{
    (void)t;
    malloc_trim(0);
}

static void open_if_ready(struct data *d)
{
    if (d->opened || !d->control.ready || (d->identity && !identity_ready(d->identity)))
        return;
    d->opened = true;
    trim_after_start();
    loop_timer_in(d->loop, &d->settled, SETTLED_S * NS_PER_S, on_settled);
    order_all(d, open_worker);
    LOG(INFO, "Ready", "after_ms=%lld",
        (long long)((clock_now(&d->clock) - d->started_ns) / NS_PER_MS));
}

static void take_ca(struct data *d, const struct prog_settings *s)
{
    identity_roots(d->identity, s->roots_pem);
    identity_wanted(d->identity, s->issuer, s->renew_within_s);
}

static void on_learned(void *user, bool first)
{
    struct data *d = user;
    (void)first;
    if (d->identity && d->control.settings && d->discovery)
        take_ca(d, d->control.settings);
    if (d->supervisor >= 0 && d->discovery && !d->save.prev)
        loop_task_add(d->loop, &d->save, save_now);
    if (d->gateway)
        gateway_learned(d->gateway);
    else
        locals_follow(d);
    if (d->opened && !loop_timer_is_set(&d->settled))
        loop_timer_in(d->loop, &d->settled, RETURN_S * NS_PER_S, on_return);
    open_if_ready(d);
}

static int on_judge(void *user, enum prog_kind kind, struct slice key, struct err *err)
{
    struct data *d = user;
    return d->gateway ? gateway_judge(d->gateway, kind, key, err)
           : d->locals && kind == PROG_LISTENERS ? gateway_judge(d->locals, kind, key, err)
                                                 : served_judge(&d->control, kind, key, err);
}

static void on_identity(void *user)
{
    struct data *d = user;
    if (d->discovery) {
        uint32_t issuer = identity_issuer(d->identity);
        keep_identity(d);
        discovery_start(d->discovery);
        if (d->issuer && d->issuer != issuer)
            discovery_reidentify(d->discovery); /* the operator sees that we have followed */
        d->issuer = issuer;
    }
    open_if_ready(d);
}

static void dial_operator(void *user, void (*done)(void *, struct chan *, const struct err *),
                          void *done_user)
{
    struct data *d = user;
    identity_dial(d->identity, env("TULLE_DISCOVERY_ADDRESS", "tulle-operator.tulle-system.svc:15012"),
                  env("TULLE_DISCOVERY_NAME", "tulle-operator.tulle-system.svc"), done, done_user);
}

/* --- building ---------------------------------------------------------------------------------------------- */

static int fd_of(const struct handover_fd *fds, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(fds[i].name, name) == 0)
            return fds[i].fd;
    return -1;
}

/* "outbound" behind the redirect rules, "outbound.3" for the fourth listener asked for by hand. */
static bool listener_of(const struct data *d, const struct handover_fd *f, struct listener *ret)
{
    struct slice name = slice_str(f->name), base = name;
    ptrdiff_t dot = slice_chr(name, '.');
    uint64_t index = 0;
    if (dot >= 0) {
        base = slice_head(name, (size_t)dot);
        if (!slice_u64(slice_skip(name, (size_t)dot + 1), PROXY_LISTEN_MAX - 1, &index))
            return false;
    }
    *ret = (struct listener){.fd = f->fd, .inbound = slice_is(base, "inbound")};
    if (dot >= 0)
        ret->fixed = d->options.listen[index].fixed;
    return ret->inbound || slice_is(base, "outbound");
}

/* Each worker gets its share of the sockets: the k-th of each name goes to worker k. */
static int make_workers(struct data *d, const struct handover_fd *fds, int n, struct err *err)
{
    const struct limits *limits = limits_of_process();
    for (unsigned w = 0; w < d->options.concurrency; w++) {
        struct listener list[FDS_MAX];
        unsigned n_list = 0, seen;
        for (int i = 0; i < n; i++) {
            seen = 0;
            for (int k = 0; k < i; k++)
                seen += strcmp(fds[k].name, fds[i].name) == 0;
            if (seen == w && listener_of(d, &fds[i], &list[n_list]))
                n_list++;
        }
        struct worker *worker;
        if (worker_new(w, &d->clock, limits, &d->control, NULL, list, n_list, &worker,
                       err) < 0)
            return -1;
        d->workers[d->n_workers++].worker = worker;
        worker->pod_namespace = slice_str(d->pod_namespace);
        worker->drain_ns = leave_config_ns(getenv("PROXY_CONFIG"), "drainDuration", -1);
        overload_init(&worker->overload, env("TULLE_CGROUP", "/sys/fs/cgroup"));
        if (d->options.seed)
            loop_seed(worker->loop, d->options.seed + w);
        if (telemetry_new(d->metrics, STDOUT_FILENO, worker, err) < 0 ||
            control_add_worker(&d->control, worker, err) < 0)
            return -1;
    }
    return 0;
}

static void *worker_thread(void *arg)
{
    struct worker *w = arg;
    struct err err = {0};
    fault_thread();
    if (loop_run(w->loop, &err) < 0) {
        LOG(ERROR, "Worker failed", "worker=%u reason=%s", w->id, err.msg);
        abort(); /* the supervisor starts a new data process */
    }
    return NULL;
}

static int start_threads(struct data *d, struct err *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 * 1024);
    for (unsigned i = 0; i < d->n_workers; i++) {
        int rc = pthread_create(&d->workers[i].thread, &attr, worker_thread, d->workers[i].worker);
        if (rc != 0) {
            pthread_attr_destroy(&attr);
            return err_errno(err, rc, "worker thread");
        }
        d->workers[i].running = true;
    }
    pthread_attr_destroy(&attr);
    return 0;
}

/* Standalone: program and identity from files. */
static int start_from_files(struct data *d, struct err *err)
{
    const struct proxy_options *o = &d->options;
    CLEANUP(buf_freep) struct buf config;
    buf_init(&config, CONFIG_MAX);
    if (read_whole(o->config, &config, err) < 0)
        return -1;
    if (o->cert) {
        CLEANUP(buf_freep) struct buf cert, key, roots;
        buf_init(&cert, 1 << 20);
        buf_init(&key, 1 << 20);
        buf_init(&roots, 1 << 20);
        struct identity_opts opts = {.control = &d->control, .changed = on_identity, .user = d};
        if (read_whole(o->cert, &cert, err) < 0 || read_whole(o->key, &key, err) < 0 ||
            read_whole(o->roots, &roots, err) < 0 || identity_new(&opts, &d->identity, err) < 0 ||
            identity_from_pem(d->identity, buf_slice(&cert), buf_slice(&key), buf_slice(&roots),
                              err) < 0)
            return -1;
    }
    if (control_learn_bundle(&d->control, buf_slice(&config), err) < 0)
        return err_wrap(err, "%s", o->config);
    if (!d->control.ready)
        return err_set(err, ERR_INVALID, "%s: holds no Settings or no Inbound resource", o->config);
    return 0;
}

/* In a pod: what the supervisor kept, then the CA and the operator. */
static int start_with_operator(struct data *d, const struct handover_fd *fds, int n, struct err *err)
{
    snprintf(d->spiffe_id, sizeof d->spiffe_id, "spiffe://%s/ns/%s/sa/%s", d->trust_domain,
             d->pod_namespace, d->service_account);
    struct identity_opts id = {
        .control = &d->control,
        .ca_address = env("TULLE_CA_ADDRESS", env("TULLE_DISCOVERY_ADDRESS",
                                                  "tulle-operator.tulle-system.svc:15012")),
        .ca_name = env("TULLE_CA_NAME", "tulle-operator.tulle-system.svc"),
        .token_path = env("TULLE_TOKEN_PATH", "/var/run/secrets/tokens/istio-token"),
        .roots_path = env("TULLE_ROOTS_PATH", "/var/run/secrets/istio/root-cert.pem"),
        .spiffe_id = d->spiffe_id,
        .life_s = 24 * 3600,
        .changed = on_identity,
        .user = d,
    };
    struct discovery_opts disc = {
        .control = &d->control,
        .dial = dial_operator,
        .dial_user = d,
        .authority = env("TULLE_DISCOVERY_NAME", "tulle-operator.tulle-system.svc"),
        .pod = d->pod,
        .namespace_ = d->pod_namespace,
        .address = d->pod_address,
        .node = d->node,
        .version = TULLE_VERSION,
        .answer = admin_answer,
        .answer_user = d,
    };
    if (identity_new(&id, &d->identity, err) < 0 || discovery_new(&disc, &d->discovery, err) < 0)
        return -1;
    char *program = NULL, *kept = NULL;
    size_t program_len = 0, kept_len = 0;
    int fd = fd_of(fds, n, "keep.program");
    if (fd >= 0 && handover_read(fd, &program, &program_len, err) == 0 &&
        control_learn_bundle(&d->control, slice_of(program, program_len), err) == 0)
        LOG(INFO, "Program taken over", "resources=%zu", control_held(&d->control));
    if (program)
        explicit_bzero(program, program_len); /* a gateway's keys are among it */
    mem_free(program);
    fd = fd_of(fds, n, "keep.identity");
    if (fd >= 0)
        handover_read(fd, &kept, &kept_len, err);
    identity_start(d->identity, slice_of(kept, kept_len));
    if (kept)
        explicit_bzero(kept, kept_len);
    mem_free(kept);
    return 0;
}

static void on_want(void *user, const struct known *k)
{
    struct data *d = user;
    discovery_want(d->discovery, k);
}

static void on_drop(void *user, const struct known *k)
{
    struct data *d = user;
    discovery_drop(d->discovery, k);
}

static int start_dns(struct data *d, const struct handover_fd *fds, int n, struct err *err)
{
    static const struct {
        const char *udp, *tcp;
    } families[] = {{"dns.udp", "dns.tcp"}, {"dns6.udp", "dns6.tcp"}};
    for (size_t i = 0; i < N_OF(families); i++) {
        int udp = fd_of(fds, n, families[i].udp), tcp = fd_of(fds, n, families[i].tcp);
        if (udp >= 0 && tcp >= 0 &&
            dns_new(&d->control, udp, tcp, env("TULLE_RESOLV_CONF", "/etc/resolv.conf"), &d->dns[i],
                    err) < 0)
            return -1;
    }
    return 0;
}

static int start_gateway(struct data *d, const struct handover_fd *fds, int n, struct err *err)
{
    struct gateway_opts o = {.control = &d->control,
                             .key = "",
                             .at = d->options.gateway,
                             .supervisor = d->supervisor,
                             .kept = fds,
                             .n_kept = n};
    unsigned hops = edge_hops(getenv("PROXY_CONFIG"));
    d->control.gateway = true;
    for (unsigned i = 0; i < d->n_workers; i++)
        d->workers[i].worker->trusted_hops = hops;
    return gateway_new(&o, &d->gateway, err);
}

static int data_start(struct data *d, const struct handover_fd *fds, int n, struct err *err)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    if (loop_new(&d->clock, &d->loop, err) < 0 || control_init(&d->control, d->loop, err) < 0 ||
        loop_signal_init(d->loop, &d->signals, signals, N_OF(signals), on_signal, err) < 0 ||
        telemetry_registry(d->options.concurrency, &d->metrics, err) < 0)
        return -1;
    if (d->options.seed)
        loop_seed(d->loop, d->options.seed + 1000);
    d->control.learned = on_learned;
    d->control.user = d;
    d->control.hostnames.opts.resolv_conf = env("TULLE_RESOLV_CONF", "/etc/resolv.conf");
    d->control.hostnames.opts.port = (uint16_t)atoi(env("TULLE_RESOLV_PORT", "0"));
    if (!d->options.config) {
        d->control.want = on_want;
        d->control.drop = on_drop;
    }
    struct admin_fds pages = {-1, -1, -1, -1};
    int *slots[] = {&pages.admin, &pages.status, &pages.health, &pages.metrics};
    static const char *const names[] = {"admin", "status", "health", "metrics"};
    for (int i = 0; i < n; i++) {
        struct slice name = slice_str(fds[i].name), base;
        slice_next(&name, '.', &base);
        for (size_t k = 0; k < N_OF(names); k++)
            if (slice_is(base, names[k]))
                *slots[k] = fds[i].fd;
    }
    if (make_workers(d, fds, n, err) < 0 ||
        admin_new(d, &pages, getenv("ISTIO_KUBE_APP_PROBERS"),
                  getenv("ISTIO_PROMETHEUS_ANNOTATIONS"), &d->admin, err) < 0)
        return -1;
    if (start_dns(d, fds, n, err) < 0)
        return -1;
    d->control.judge = on_judge;
    if ((d->options.gateway ? start_gateway(d, fds, n, err) : locals_kept(d, fds, n, err)) < 0)
        return -1;
    if ((d->options.config ? start_from_files(d, err) : start_with_operator(d, fds, n, err)) < 0)
        return -1;
    return start_threads(d, err);
}

static void data_stop(struct data *d)
{
    order_all(d, stop_worker);
    for (unsigned i = 0; i < d->n_workers; i++) {
        if (d->workers[i].running)
            pthread_join(d->workers[i].thread, NULL);
        telemetry_free(d->workers[i].worker);
        worker_free(d->workers[i].worker);
    }
    discovery_free(d->discovery);
    gateway_free(d->gateway);
    gateway_free(d->locals);
    identity_free(d->identity);
    admin_free(d->admin);
    dns_free(d->dns[0]);
    dns_free(d->dns[1]);
    control_fini(&d->control);
    loop_signal_fini(&d->signals);
    loop_free(d->loop);
    metrics_free(d->metrics);
}

static int run(int argc, char **argv)
{
    static struct data d = {.supervisor = -1, .exit_code = EXIT_FAILURE};
    static struct handover_fd fds[FDS_MAX];
    struct err err = {0};
    if (proxy_options_parse(argc, argv, &d.options, &err) < 0) {
        fprintf(stderr, "tulle-proxy: %s\n", err.msg);
        return EXIT_BAD_CONFIG;
    }
    log_init("tulle-proxy", d.options.log_json);
    enum log_level level;
    if (log_level_parse(d.options.log_level ? d.options.log_level : env("TULLE_LOG_LEVEL", "info"),
                        &level) == 0)
        log_threshold = level;
    int n = handover_parse(getenv(HANDOVER_ENV), fds, FDS_MAX);
    if (n < 0) {
        fprintf(stderr, "tulle-proxy: broken " HANDOVER_ENV "\n");
        return EXIT_BAD_CONFIG;
    }
    for (int i = 0; i < n; i++)
        fcntl(fds[i].fd, F_SETFD, FD_CLOEXEC);
    unsetenv(HANDOVER_ENV);
    signal(SIGPIPE, SIG_IGN);
    fault_install("tulle-proxy-data", TULLE_VERSION);
    fault_no_core(); /* it would have keys in it */
    if (d.options.concurrency == 1)
        mallopt(M_ARENA_MAX, 1); /* the control thread allocates little: one arena serves both */
    if (tls_lean(&err) < 0)
        LOG(WARN, "OpenSSL takes more memory than it should", "reason=%s", err.msg);
    if (d.options.virtual_clock)
        clock_init_virtual(&d.clock, 1767225600 * NS_PER_S);
    else
        clock_init_real(&d.clock);
    d.started_ns = clock_now(&d.clock);
    d.started_wall_ns = clock_wall(&d.clock);
    d.supervisor = fd_of(fds, n, "supervisor");
    d.pod = env("POD_NAME", "standalone");
    d.pod_namespace = d.options.namespace_ ? d.options.namespace_ : env("POD_NAMESPACE", "default");
    d.pod_address = env("INSTANCE_IP", "");
    d.node = env("NODE_NAME", "");
    d.service_account = env("SERVICE_ACCOUNT", "default");
    d.trust_domain = env("TRUST_DOMAIN", "cluster.local");
    if (data_start(&d, fds, n, &err) < 0) {
        LOG(ERROR, "Cannot start", "reason=%s", err.msg);
        /* A file that cannot be read stays so; anything else is worth another try. */
        return d.options.config ? EXIT_BAD_CONFIG : EXIT_FAILURE;
    }
    if (loop_run(d.loop, &err) < 0)
        LOG(ERROR, "Control loop failed", "reason=%s", err.msg);
    data_stop(&d);
    return d.exit_code;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "run") == 0)
        return run(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "init") == 0)
        return init_run(argc - 1, argv + 1);
    fprintf(stderr, "tulle-proxy-data is started by tulle-proxy\n");
    return EXIT_BAD_CONFIG;
}
