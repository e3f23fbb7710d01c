/* SPDX-License-Identifier: Apache-2.0 */
/* Mesh `default`: made when absent; its status is the health of the mesh. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "mesh/analyze/analyze.h"
#include "operator/ctl_plans.h"
#include "operator/names.h"

#define KEY SL(NAME_MESH)
#define SETTLE_NS (500 * NS_PER_MS)
#define RECHECK_NS (60 * NS_PER_S)
#define DAY_NS (INT64_C(24) * 3600 * NS_PER_S)
#define ROOT_ALARM_NS (60 * DAY_NS)
#define ISSUER_ALARM_NS (30 * DAY_NS)
#define EDGES_NS (5 * NS_PER_S) /* looked for at most so often: it takes a look at every endpoint */
enum { PODS_LISTED = 50, EDGES_LISTED = 50, PROBLEMS_MAX = 50 };

struct ctl_mesh {
    struct ctl ctl;
    struct ctl_webhook *webhook;
    json_t *edges;       /* as last seen; of n_edges, the first */
    size_t n_edges;
    int64_t edges_at_ns; /* loop time */
    bool edges_old;      /* something moved since */
    int degraded;        /* as last told in an Event; -1: ask the status, another operator may have told it */
};

/* --- pure ------------------------------------------------------------------------------------------------------ */

static const char *mode_name(enum pa_mode m)
{
    return m == PA_STRICT ? "STRICT" : m == PA_DISABLE ? "DISABLE" : "PERMISSIVE";
}

enum pa_mode mesh_mode(const struct index *x)
{
    const struct mesh_cr *mesh = index_mesh(x);
    const struct ix_objects *l = index_pa_of(x, mesh->root_namespace);
    enum pa_mode mode = PA_UNSET;
    for (uint32_t i = 0; l && i < l->n && mode == PA_UNSET; i++) /* the oldest counts */
        if (api_selector_is_all(&l->p[i]->pa->selector))
            mode = l->p[i]->pa->mode;
    return MAX(mode == PA_UNSET ? PA_PERMISSIVE : mode, mesh->mtls_floor);
}

json_t *mesh_status(const struct mesh_seen *s)
{
    size_t n = json_array_size(s->problems);
    char message[400], summary[40];
    bool ready = s->ca_ready;
    const char *first = json_string_value(json_array_get(s->problems, 0));

    if (!ready)
        snprintf(message, sizeof message, "The CA is not ready%s%.300s", first ? ": " : "",
                 first ? first : "");
    else if (n)
        snprintf(message, sizeof message, "%zu finding%s: %.300s", n, n == 1 ? "" : "s", first);
    else
        snprintf(message, sizeof message, "%u of %u sidecars are ready, %u connected", s->ready,
                 s->total, s->connected);
    snprintf(summary, sizeof summary, "%u/%u", s->ready, s->total);
    struct kube_condition want[2] = {
        {.type = "Ready", .status = ready ? "True" : "False",
         .reason = ready ? "Serving" : "CANotReady", .message = message,
         .generation = s->generation},
        {.type = "Degraded", .status = "True", .reason = "Problems", .message = message,
         .generation = s->generation},
    };
    json_t *conditions = kube_conditions(json_object_get(s->old, "conditions"), want,
                                         ready && n ? 2 : 1, s->now_s * NS_PER_S);
    return json_pack("{s:o*, s:i, s:s, s:s, s:s, s:i, s:O?, s:O?, s:O?, s:O?, s:{s:i, s:i, s:i, s:s}, "
                     "s:s, s:O*}",
                     "conditions", conditions, "observedGeneration", (int)s->generation, "version",
                     s->version, "message", message, "mtls", mode_name(s->mode),
                     "problemCount", (int)n, "problems", s->problems, "stalePods", s->stale,
                     "barePods", s->bare, "plaintextEdges", s->edges, "proxies", "total", (int)s->total, "ready",
                     (int)s->ready, "connected", (int)s->connected, "summary", summary,
                     "rootFingerprint", s->fingerprint, "ca", s->ca);
}

/* --- what is seen -------------------------------------------------------------------------------------------------- */

static void __attribute__((format(printf, 2, 3))) problem(json_t *list, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (json_array_size(list) < PROBLEMS_MAX)
        json_array_append_new(list, json_string_of(slice_str(text)));
}

static void list_pod(json_t *list, const char *key)
{
    if (json_array_size(list) < PODS_LISTED)
        json_array_append_new(list, json_string(key));
}

/* Count sidecars; name pods that have one and should not, or one of another release, and those that
 * have none and should. `image` is what the injector gives to pods now. */
static void pods_seen(const struct model *m, struct slice image, struct mesh_seen *s, json_t *bare,
                      json_t *stale)
{
    struct image_id release = image_id_of(image);
    size_t n;
    struct map_entry **all = map_sorted(&m->pods, &n);
    for (size_t i = 0; all && i < n; i++) {
        const struct pod_fact *p = all[i]->value;
        struct slice key = slice_of(all[i]->key, all[i]->key_len), ns;
        slice_next(&key, '/', &ns);
        const struct ns_fact *f = model_namespace(m, ns);
        bool meshed = f && f->meshed && !slice_is(ns, m->system_ns) &&
                      !slice_is(ns, "kube-system");
        bool should = !p->host_network && !p->out && (meshed || (p->in && f && !f->off));
        if (p->gone)
            continue;
        s->total += p->proxy;
        s->ready += p->proxy && p->proxy_ready;
        if (p->proxy && !should && !p->in) {
            s->stale_n++;
            list_pod(stale, all[i]->key);
        } else if (pod_is_old(p, release)) {
            s->old_n++;
            list_pod(stale, all[i]->key);
        } else if (!p->proxy && should) {
            s->bare_n++;
            list_pod(bare, all[i]->key);
        }
    }
    mem_free(all);
}

/* Returns after how long to look again; 0: when something moves. */
static int64_t edges_seen(struct ctl_mesh *c)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct analysis view = {.index = c->ctl.op->model.index};
    int64_t now = loop_now(c->ctl.op->loop);
    const struct slice *edges;

    if (c->edges && !c->edges_old)
        return 0;
    if (c->edges && now - c->edges_at_ns < EDGES_NS)
        return c->edges_at_ns + EDGES_NS - now;
    json_decref(c->edges);
    c->edges = json_array();
    edges = analyze_edges(&view, &a, &c->n_edges);
    for (size_t i = 0; i < MIN(c->n_edges, (size_t)EDGES_LISTED); i++)
        json_array_append_new(c->edges, json_string_of(edges[i]));
    c->edges_at_ns = now;
    c->edges_old = false;
    return 0;
}

static void problems_seen(struct ctl_mesh *c, const struct mesh_seen *s, json_t *list)
{
    struct op *op = c->ctl.op;
    struct signer_state st = signer_state(op->signer);
    int64_t now = loop_wall(op->loop), hook = ctl_webhook_not_after(c->webhook);
    size_t n;

    if (st.alarm[0])
        problem(list, "CA: %s", st.alarm);
    if (st.ready && st.root_end_ns - now < ROOT_ALARM_NS)
        problem(list, "CA: a root of the mesh ends in %lld days: change it (docs/identity.md)",
                (long long)((st.root_end_ns - now) / DAY_NS));
    if (st.ready && st.chain_end_ns - now < ISSUER_ALARM_NS && st.chain_end_ns < st.root_end_ns)
        problem(list, "CA: its certificate ends in %lld days: renew it (docs/identity.md)",
                (long long)((st.chain_end_ns - now) / DAY_NS));
    int64_t least = index_mesh(op->model.index)->rotation_step_ns;
    if (st.ready && st.step != ROTATION_NONE && now - st.since_s * NS_PER_S > 10 * least) {
        struct ca_progress p = ctl_ca_progress(op->ca);
        problem(list, "CA: its change waits for %u of %u proxies since %lld minutes",
                p.proxies - MIN(p.followed, p.proxies), p.proxies,
                (long long)((now / NS_PER_S - st.since_s) / 60));
    }
    if (hook && hook - now < WEBHOOK_LIFE_S / 6 * NS_PER_S)
        problem(list, "the webhook's certificate ends in %lld days and was not renewed",
                (long long)((hook - now) / NS_PER_S / 86400));
    if (ctl_webhook_foreign(c->webhook)[0])
        problem(list, "MutatingWebhookConfiguration %s of another mesh also injects into namespaces "
                "labelled istio-injection: use istio.io/rev=%s instead of that label",
                ctl_webhook_foreign(c->webhook), op->revision);
    struct map_entry **all = map_sorted(&op->model.namespaces, &n);
    for (size_t i = 0; all && i < n; i++) {
        const struct ns_fact *f = all[i]->value;
        if (f->meshed && f->no_net_admin)
            problem(list, "namespace %s: its Pod Security forbids NET_ADMIN, which the init "
                    "container needs", all[i]->key);
    }
    mem_free(all);
    if (s->bare_n)
        problem(list, "%u pod%s in meshed namespaces without sidecar: restart them", s->bare_n,
                s->bare_n == 1 ? "" : "s");
    if (s->stale_n)
        problem(list, "%u pod%s with a sidecar in namespaces that are not meshed: restart them",
                s->stale_n, s->stale_n == 1 ? "" : "s");
    if (s->old_n)
        problem(list, "%u pod%s with a sidecar of another release than the mesh's: restart them",
                s->old_n, s->old_n == 1 ? "" : "s");
    if (c->n_edges)
        problem(list, "%zu plaintext edge%s between workloads: %s", c->n_edges,
                c->n_edges == 1 ? "" : "s", json_string_value(json_array_get(c->edges, 0)));
    if (op->model.refused)
        problem(list, "%llu objects could not be read: see the operator's log",
                (unsigned long long)op->model.refused);
}

static bool same(const json_t *a, const json_t *b)
{
    json_t *x = json_deep_copy(a), *y = json_deep_copy(b), *both[] = {x, y}, *c;
    size_t i;
    for (int k = 0; k < 2; k++)
        json_array_foreach(json_object_get(both[k], "conditions"), i, c)
            json_object_del(c, "lastTransitionTime");
    bool eq = x && y && json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return eq;
}

static int plan(struct ctl *ctl, struct slice key, struct plan *ret, int64_t *ret_recheck_ns,
                struct err *err)
{
    struct ctl_mesh *c = CONTAINER_OF(ctl, struct ctl_mesh, ctl);
    struct op *op = ctl->op;
    const struct policy_fact *f = model_policy(&op->model, INDEX_MESH, SLICE_NULL, key);
    struct signer_state st = signer_state(op->signer);
    CLEANUP(json_freep) json_t *old = NULL;
    CLEANUP(json_freep) json_t *bare = json_array(), *stale = json_array(),
                               *problems = json_array();

    if (!op->model.synced)
        return err_set(err, ERR_AGAIN, "not read yet");
    *ret_recheck_ns = RECHECK_NS;
    if (!f) {
        plan_add(ret, PLAN_APPLY, KUBE_MESH, SLICE_NULL, KEY, NAME_MANAGER,
                 json_pack("{s:{s:{s:s}}}", "metadata", "labels", "app.kubernetes.io/managed-by",
                           NAME_MANAGER));
        return 0; /* the watch brings it, then comes the status */
    }
    if (f->status)
        json_parse(slice_str(f->status), NULL, &old, err);
    struct mesh_seen s = {
        .mode = mesh_mode(op->model.index),
        .generation = f->generation,
        .now_s = loop_wall(op->loop) / NS_PER_S,
        .old = old,
        .version = TULLE_VERSION,
        .connected = (unsigned)(push_stats(op->push).clients + replicas_proxies(op->replicas)),
        .ca_ready = st.ready,
        .fingerprint = st.fingerprint,
        .bare = bare,
        .stale = stale,
        .problems = problems,
    };
    const char *known = json_string_value(json_object_get(old, "rootFingerprint"));
    if (!st.ready && known)
        s.fingerprint = known; /* what workloads trust is not forgotten */
    struct ca_progress progress = ctl_ca_progress(op->ca);
    CLEANUP(json_freep) json_t *ca = ca_status(&st, &progress);
    s.ca = ca ? ca : json_object_get(old, "ca");
    struct slice image = index_mesh(op->model.index)->proxy.image;
    pods_seen(&op->model, image.len ? image : slice_str(op->proxy_image), &s, bare, stale);
    int64_t again = edges_seen(c);
    if (again)
        *ret_recheck_ns = MIN(*ret_recheck_ns, again);
    s.edges = c->edges;
    problems_seen(c, &s, problems);
    json_t *next = mesh_status(&s);
    if (next && old && same(old, next)) {
        json_decref(next);
        return 0;
    }
    plan_add(ret, PLAN_STATUS, KUBE_MESH, SLICE_NULL, KEY, NAME_MANAGER_STATUS,
             next ? json_pack("{s:o}", "status", next) : NULL);
    int degraded = json_array_size(problems) > 0;
    if (c->degraded < 0)
        c->degraded = json_integer_value(json_object_get(old, "problemCount")) > 0;
    if (degraded != c->degraded && op->events) {
        struct kube_ref about = {kube_resource(KUBE_MESH), "", NAME_MESH, f->uid};
        const char *first = json_string_value(json_array_get(problems, 0));
        kube_event_report(op->events, &about, degraded, degraded ? "Degraded" : "Healthy",
                          "Reconciling", degraded ? first : "nothing wants attention");
        c->degraded = degraded;
    }
    return 0;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

void ctl_mesh_changed(struct ctl_mesh *c)
{
    ctl_poke_after(&c->ctl, KEY, SETTLE_NS);
}

/* Plaintext edges may have come or gone. */
static void picture_changed(struct ctl_mesh *c)
{
    c->edges_old = true;
    ctl_mesh_changed(c);
}

static void ns_changed(void *user, struct slice name)
{
    (void)name;
    picture_changed(user);
}

static void pod_changed(void *user, struct slice ns, struct slice name)
{
    (void)ns, (void)name;
    picture_changed(user);
}

static void index_changed(void *user, const struct index_changes *ch)
{
    if (ch->n)
        picture_changed(user);
}

static void policy_changed(void *user, enum index_kind kind, struct slice ns, struct slice name)
{
    (void)ns, (void)name;
    if (kind == INDEX_MESH || kind == INDEX_PA || kind == INDEX_DR)
        picture_changed(user);
}

static void any_changed(void *user)
{
    ctl_mesh_changed(user);
}

int ctl_mesh_new(struct op *op, struct ctl_webhook *webhook, struct ctl_mesh **ret, struct err *err)
{
    struct ctl_mesh *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "controller");
    c->webhook = webhook;
    c->ctl.plan = plan;
    c->degraded = -1;
    if (ctl_init(&c->ctl, op, "mesh", true, err) < 0) {
        mem_free(c);
        return -1;
    }
    model_listen(&op->model, &(struct model_listener){.namespace_ = ns_changed,
                                                      .pod = pod_changed,
                                                      .policy = policy_changed,
                                                      .changes = index_changed,
                                                      .synced = any_changed,
                                                      .user = c});
    *ret = c;
    return 0;
}

void ctl_mesh_leader(struct ctl_mesh *c, bool leader)
{
    ctl_leader(&c->ctl, leader);
    c->degraded = -1;
    if (leader)
        ctl_mesh_changed(c);
}

void ctl_mesh_free(struct ctl_mesh *c)
{
    if (!c)
        return;
    ctl_fini(&c->ctl);
    json_decref(c->edges);
    mem_free(c);
}
