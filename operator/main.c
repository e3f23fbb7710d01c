/* SPDX-License-Identifier: Apache-2.0 */
/* tulle-operator: watches the cluster, serves proxies, is the CA, writes status. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/data/json.h"
#include "lib/kube/lease.h"
#include "operator/addresses.h"
#include "operator/cleanup.h"
#include "operator/http.h"
#include "operator/names.h"
#include "operator/options.h"
#include "operator/secrets.h"

/* On SIGTERM: not ready and without Lease at once, GOAWAY to proxies, out when time is up. */
#define LINGER_NS (2 * NS_PER_S)

struct operator {
    struct options opts;
    struct clock clock;
    struct op op;
    struct signer_pipe pipe;
    struct kube_config *config;
    struct source *source;
    struct secrets *secrets; /* NULL: a folder is read */
    struct ca *ca;
    struct serve *serve;
    struct pages *pages;
    struct kube_lease *lease;
    struct ctl_rootcert *rootcert;
    struct ctl_webhook *webhook;
    struct ctl_injector *injector;
    struct ctl_mesh *mesh;
    struct ctl_status *status;
    struct loop_signal signals;
    bool has_signals, stopping, failed;
    struct loop_timer timer;
    char names[5][200];
    const char *dns[6];
};

/* --- wiring ---------------------------------------------------------------------------------------------------- */

static void signer_changed(void *user)
{
    struct operator *o = user;
    struct signer_state st = signer_state(o->op.signer);
    if (st.ready) {
        push_set_roots(o->op.push, slice_str(st.roots_pem));
        metrics_set(o->op.metrics.plain, OPM_ROOT_EXPIRY, (double)(st.root_end_ns / NS_PER_S));
        metrics_set(o->op.metrics.plain, OPM_CHAIN_EXPIRY, (double)(st.chain_end_ns / NS_PER_S));
        if (o->serve)
            serve_renew(o->serve);
        if (o->rootcert)
            ctl_rootcert_changed(o->rootcert);
        if (o->webhook)
            ctl_webhook_changed(o->webhook);
    }
    if (o->mesh)
        ctl_mesh_changed(o->mesh);
}

static void signer_died(void *user)
{
    struct operator *o = user;
    if (o->stopping)
        return;
    LOG(ERROR, "The signer ended; so does the operator, to start anew", "");
    o->failed = true;
    loop_stop(o->op.loop);
}

static void touched(void *user, enum index_kind kind, struct slice ns, struct slice name)
{
    struct operator *o = user;
    if (o->status)
        ctl_status_touched(o->status, kind, ns, name);
    replicas_touched(o->op.replicas, kind, ns, name);
}

static void replica_touched(void *user, struct slice key)
{
    struct operator *o = user;
    if (o->status)
        ctl_status_poke(o->status, key);
}

static void replica_proxies(void *user)
{
    struct operator *o = user;
    if (o->mesh)
        ctl_mesh_changed(o->mesh);
}

static void ca_moved(void *user)
{
    struct operator *o = user;
    if (o->mesh)
        ctl_mesh_changed(o->mesh);
}

static void clients(void *user)
{
    struct operator *o = user;
    if (o->mesh)
        ctl_mesh_changed(o->mesh);
    replicas_moved(o->op.replicas);
}

static void pushed(void *user, int64_t ns, bool rejected)
{
    struct operator *o = user;
    metrics_add(o->op.metrics.plain, OPM_PUSHES, 1);
    metrics_add(o->op.metrics.plain, OPM_PUSH_REJECTS, rejected);
    metrics_observe(o->op.metrics.plain, OPM_PUSH_TIME, (double)ns / 1e9);
}

static void model_changes(void *user, const struct index_changes *c)
{
    struct operator *o = user;
    push_changed(o->op.push, c);
    if (!o->op.kube) /* with an API server the controller of statuses does it */
        for (size_t i = 0; i < c->n; i++)
            if (c->p[i] == INDEX_TOKEN_NAMES || c->p[i] == INDEX_TOKEN_FILTER) {
                addresses_give(&o->op.model, true, NULL, NULL);
                return;
            }
}

static void model_synced(void *user)
{
    struct operator *o = user;
    push_set_ready(o->op.push);
    LOG(INFO, "Objects were read; serving proxies", "");
}

static void ca_settings(void *user, struct slice *ret_trust_domain, int64_t *ret_life_s)
{
    struct operator *o = user;
    const struct mesh_cr *mesh = index_mesh(o->op.model.index);
    *ret_trust_domain = mesh->trust_domain;
    *ret_life_s = mesh->cert_ttl_ns / NS_PER_S;
}

static void on_request(void *user, const char *code, const char *method, const char *host,
                       int64_t duration_ns)
{
    struct operator *o = user;
    (void)duration_ns;
    metrics_add(opm_row(&o->op.metrics, OPM_REST, code, method, host), 0, 1);
}

static void leader_set(struct operator *o, bool leader)
{
    o->op.leader = leader;
    metrics_set(opm_row(&o->op.metrics, OPM_LEADER, NAME_OPERATOR, NULL, NULL), 0, leader);
    LOG(INFO, leader ? "Lease won" : "Lease lost", "identity=%s", o->op.pod);
    ctl_webhook_leader(o->webhook, leader);
    ctl_mesh_leader(o->mesh, leader);
    ctl_status_leader(o->status, leader);
}

static void holder_seen(void *user, const char *identity)
{
    struct operator *o = user;
    replicas_holder(o->op.replicas, identity);
}

static void acquired(void *user)
{
    leader_set(user, true);
}

static void lost(void *user)
{
    leader_set(user, false);
}

/* --- start and stop ------------------------------------------------------------------------------------------------ */

static void stop_now(struct loop_timer *t)
{
    loop_stop(CONTAINER_OF(t, struct operator, timer)->op.loop);
}

static void released(void *user)
{
    struct operator *o = user;
    o->lease = NULL;
}

static void on_signal(struct loop_signal *s, int signo)
{
    struct operator *o = CONTAINER_OF(s, struct operator, signals);
    if (o->stopping) {
        loop_stop(o->op.loop);
        return;
    }
    o->stopping = true;
    LOG(INFO, "Stopping", "signal=%d", signo);
    pages_set_stopping(o->pages);
    serve_drain(o->serve);
    if (o->lease)
        kube_lease_stop(o->lease, released, o);
    loop_timer_in(o->op.loop, &o->timer, LINGER_NS, stop_now);
}

static void names_make(struct operator *o)
{
    const char *ns = o->opts.ns;
    snprintf(o->names[0], sizeof o->names[0], NAME_OPERATOR ".%s.svc", ns);
    snprintf(o->names[1], sizeof o->names[1], NAME_OPERATOR ".%s.svc.cluster.local", ns);
    snprintf(o->names[2], sizeof o->names[2], NAME_OPERATOR ".%s", ns);
    snprintf(o->names[3], sizeof o->names[3], NAME_OPERATOR);
    snprintf(o->names[4], sizeof o->names[4], "localhost");
    for (size_t i = 0; i < N_OF(o->names); i++)
        o->dns[i] = o->names[i];
}

static int replicas_make(struct operator *o, struct err *err)
{
    struct replicas_opts opts = {.model = &o->op.model, .push = o->op.push, .signer = o->op.signer,
                                 .ns = o->opts.ns, .pod = o->opts.pod,
                                 .server_name = o->names[0], .port = o->opts.port,
                                 .touched = replica_touched, .proxies = replica_proxies,
                                 .user = o};
    return replicas_new(o->op.loop, &opts, &o->op.replicas, err);
}

static int listen_all(struct operator *o, struct err *err)
{
    struct sock_addr discovery, monitoring;
    char text[128];
    snprintf(text, sizeof text, "%s:%d", o->opts.address, o->opts.port);
    if (sock_addr_parse_hostport(slice_str(text), &discovery) < 0)
        return err_set(err, ERR_INVALID, "--address: '%s' is no address", o->opts.address);
    monitoring = discovery;
    sock_addr_set_port(&monitoring, o->opts.monitoring_port);
    struct ca_opts ca = {.signer = o->op.signer, .kube = o->op.kube,
                         .tokens_file = o->opts.tokens, .metrics = &o->op.metrics,
                         .settings = ca_settings, .user = o};
    if (ca_new(o->op.loop, &ca, &o->ca, err) < 0)
        return -1;
    struct serve_opts serve = {.signer = o->op.signer, .ca = o->ca, .push = o->op.push,
                               .replicas = o->op.replicas, .names = o->dns, .addr = discovery};
    if (serve_new(o->op.loop, &serve, &o->serve, err) < 0)
        return err_wrap(err, "port %d", o->opts.port);
    struct pages_opts pages = {.op = &o->op, .serve = o->serve, .addr = monitoring};
    if (pages_new(&pages, &o->pages, err) < 0)
        return err_wrap(err, "port %d", o->opts.monitoring_port);
    return 0;
}

static void secrets_needed(void *user, struct slice ns)
{
    struct operator *o = user;
    if (o->secrets) /* a folder's are read with its other files */
        secrets_need(o->secrets, ns);
}

static int kube_start(struct operator *o, struct err *err)
{
    struct kube_events_opts events = {.controller = "tulle.dev/operator", .instance = o->opts.pod};
    struct kube_lease_opts lease = {.ns = o->opts.ns, .name = NAME_OPERATOR,
                                    .identity = o->opts.pod, .acquired = acquired, .lost = lost,
                                    .leader = holder_seen, .user = o};
    if (kube_events_new(o->op.kube, &events, &o->op.events, err) < 0 ||
        ctl_rootcert_new(&o->op, &o->rootcert, err) < 0 ||
        ctl_webhook_new(&o->op, &o->webhook, err) < 0 ||
        ctl_injector_new(&o->op, &o->injector, err) < 0 ||
        ctl_mesh_new(&o->op, o->webhook, &o->mesh, err) < 0 ||
        ctl_status_new(&o->op, &o->status, err) < 0 ||
        secrets_new(o->op.loop, o->op.kube, &o->op.model, o->op.push, &o->secrets, err) < 0 ||
        source_kube(o->op.kube, &o->op.model, &o->source, err) < 0)
        return -1;
    return kube_lease_start(o->op.kube, &lease, &o->lease, err);
}

static int start(struct operator *o, struct err *err)
{
    static const int signos[] = {SIGTERM, SIGINT};
    struct kube_client_opts client = {.on_request = on_request, .user = o};

    clock_init_real(&o->clock);
    names_make(o);
    if (loop_new(&o->clock, &o->op.loop, err) < 0 || opm_init(&o->op.metrics, err) < 0 ||
        model_init(&o->op.model, o->opts.ns, o->opts.revision, err) < 0)
        return -1;
    if (loop_signal_init(o->op.loop, &o->signals, signos, 2, on_signal, err) < 0)
        return -1;
    o->has_signals = true;
    struct push_opts push = {.index = o->op.model.index, .cluster_name = o->opts.cluster_id,
                             .any_pod = o->opts.config_dir != NULL,
                             .hooks = {touched, clients, pushed, o, secrets_needed}};
    if (push_new(o->op.loop, &push, &o->op.push, err) < 0)
        return -1;
    struct signer_hooks hooks = {signer_changed, signer_died, o};
    if (signer_new(o->op.loop, &o->pipe, &hooks, &o->op.signer, err) < 0)
        return -1;
    model_listen(&o->op.model, &(struct model_listener){.changes = model_changes,
                                                        .synced = model_synced, .user = o});
    if (!o->opts.config_dir && (kube_config_default(o->opts.kubeconfig, NULL, &o->config, err) < 0 ||
                                kube_client_new(o->op.loop, o->config, &client, &o->op.kube,
                                                err) < 0))
        return -1;
    if ((o->op.kube && replicas_make(o, err) < 0) || listen_all(o, err) < 0)
        return -1;
    if (ctl_ca_new(&o->op, ca_moved, o, &o->op.ca, err) < 0)
        return -1;
    int rc = o->op.kube ? kube_start(o, err)
                        : source_dir(o->op.loop, o->opts.config_dir, &o->op.model, &o->source, err);
    if (rc == 0)
        pages_set_source(o->pages, o->source);
    return rc;
}

static void finish(struct operator *o)
{
    pages_free(o->pages);
    ctl_ca_free(o->op.ca);
    ctl_status_free(o->status);
    ctl_mesh_free(o->mesh);
    ctl_injector_free(o->injector);
    ctl_webhook_free(o->webhook);
    ctl_rootcert_free(o->rootcert);
    source_free(o->source);
    secrets_free(o->secrets);
    o->secrets = NULL;
    replicas_free(o->op.replicas);
    if (o->op.push)
        push_free(o->op.push);
    ca_free(o->ca);
    serve_free(o->serve);
    if (o->op.events)
        kube_events_free(o->op.events);
    if (o->op.kube)
        kube_client_free(o->op.kube);
    signer_free(o->op.signer);
    if (o->op.model.index)
        model_fini(&o->op.model);
    opm_fini(&o->op.metrics);
    if (o->has_signals)
        loop_signal_fini(&o->signals);
    loop_free(o->op.loop);
    kube_config_free(o->config);
}

int main(int argc, char **argv)
{
    static struct operator o;
    struct err err = {0};

    int rc = options_read(argc, argv, &o.opts);
    if (rc)
        return rc > 0 ? EXIT_SUCCESS : 2;
    log_init("tulle-operator", o.opts.json);
    log_threshold = o.opts.level;
    signal(SIGPIPE, SIG_IGN);
    json_setup();
    if (o.opts.cleanup) {
        rc = cleanup(o.opts.kubeconfig, o.opts.ns, &err);
        if (rc < 0)
            LOG(ERROR, "Cleanup failed", "reason=%s", err.msg);
        return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    o.op.ns = o.opts.ns;
    o.op.pod = o.opts.pod;
    o.op.revision = o.opts.revision;
    o.op.cluster_id = o.opts.cluster_id;
    o.op.proxy_image = o.opts.proxy_image;
    o.op.pull_policy = o.opts.pull_policy;
    struct signer_opts signer = {
        .ns = o.opts.ns,
        .kubeconfig = o.opts.kubeconfig,
        .ca_dir = o.opts.config_dir ? o.opts.ca_dir : NULL,
        .ephemeral = o.opts.config_dir && !o.opts.ca_dir,
        .trust_domain = o.opts.trust_domain,
    };
    if (signer_fork(&signer, &o.pipe, &err) < 0 || start(&o, &err) < 0) {
        LOG(ERROR, "Operator could not start", "reason=%s", err.msg);
        finish(&o);
        return EXIT_FAILURE;
    }
    LOG(INFO, "Operator started", "version=%s namespace=%s port=%d", TULLE_VERSION, o.opts.ns,
        serve_stats(o.serve).port);
    rc = loop_run(o.op.loop, &err);
    if (rc < 0)
        LOG(ERROR, "Event loop failed", "reason=%s", err.msg);
    finish(&o);
    LOG(INFO, "Operator ended", "");
    return rc < 0 || o.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
