/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's part in changing the CA: it knows the proxies, and tells the signer's child whether
 * all of them followed a step. It signs and decides nothing by itself (operator/rotation.h does).
 */
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/tls/x509.h"
#include "operator/ctl_plans.h"
#include "operator/names.h"

#define TICK_NS NS_PER_S
#define REQUEST SL("tulle.dev/rotate-root") /* annotation of Mesh */

struct ctl_ca {
    struct op *op;
    struct loop_timer timer;
    struct ca_progress progress;
    enum rotation_step step; /* the last one that was told */
    bool known;              /* there was one */
    void (*moved)(void *user);
    void *user;
};

/* --- pure ---------------------------------------------------------------------------------------
 */

static json_t *root_row(struct slice pem, const char *state)
{
    struct x509_cert_info info;
    struct err err = {0};
    char print[FINGERPRINT], until[32];
    if (x509_cert_info(pem, &info, &err) < 0)
        return NULL;
    cert_fingerprint(pem, print);
    clock_rfc3339(info.not_after_ns, 1, until);
    return json_pack("{s:s, s:o, s:s, s:s}", "fingerprint", print, "subject",
                     json_string_of(slice_str(info.subject)), "notAfter", until, "state", state);
}

static void put_time(json_t *to, const char *key, int64_t wall_ns)
{
    char text[32];
    if (!wall_ns)
        return;
    clock_rfc3339(wall_ns, 1, text);
    json_object_set_new(to, key, json_string(text));
}

json_t *ca_status(const struct signer_state *st, const struct ca_progress *p)
{
    struct slice part[BUNDLE_MAX];
    char proxies[48];
    if (!st->ready)
        return NULL;
    json_t *v = json_pack("{s:s, s:s, s:[]}", "state", rotation_step_name(st->step), "issuer",
                          st->issuer_print, "roots");
    put_time(v, "notAfter", st->not_after_ns);
    put_time(v, "rotateAt", st->due_s * NS_PER_S);
    if (st->step != ROTATION_NONE) {
        put_time(v, "since", st->since_s * NS_PER_S);
        snprintf(proxies, sizeof proxies, "%u/%u", p->followed, p->proxies);
        json_object_set_new(v, "proxies", json_string(proxies));
    }
    size_t n = pem_split(slice_str(st->roots_pem), part, N_OF(part));
    for (size_t i = 0; i < n; i++)
        json_array_append_new(json_object_get(v, "roots"),
                              root_row(part[i], st->next >> i & 1       ? "Next"
                                                : st->retiring >> i & 1 ? "Retiring"
                                                                        : "Active"));
    return v;
}

/* --- what is seen -------------------------------------------------------------------------------
 */

static unsigned ready_sidecars(const struct model *m)
{
    unsigned n = 0;
    for (struct map_entry *e = NULL; (e = map_next(&m->pods, e));) {
        const struct pod_fact *p = e->value;
        n += p->proxy && p->proxy_ready && !p->gone;
    }
    return n;
}

/* Proxies that follow the step, of those that have to: all that are connected, and those that are
 * ready and not connected. */
static struct ca_progress look(const struct ctl_ca *c, const struct signer_state *st)
{
    const struct op *op = c->op;
    struct push_ca_tally here;
    unsigned acked = 0, held = 0;
    push_ca_tally(op->push, st->issuer, &here);
    replicas_ca(op->replicas, st->fingerprint, st->issuer, &acked, &held);
    struct ca_progress p = {
        .proxies = (unsigned)(here.proxies + replicas_proxies(op->replicas)),
        .followed = st->step == ROTATION_RENEW ? here.held + held : here.acked + acked,
    };
    p.proxies = MAX(p.proxies, ready_sidecars(&op->model));
    return p;
}

static void event(struct ctl_ca *c, const struct signer_state *st)
{
    static const char *const reasons[] = {"CASteady", "CASpreading", "CARenewing"};
    static const char *const notes[] = {
        "the CA has changed: the new root alone is trusted",
        "the CA changes: all proxies learn the new root, the old CA signs meanwhile",
        "the CA changes: the new one signs, and every proxy gets another certificate"};
    struct op *op = c->op;
    const struct policy_fact *f = model_policy(&op->model, INDEX_MESH, SLICE_NULL, SL(NAME_MESH));
    if (!op->events || !op->leader || !f)
        return;
    struct kube_ref about = {kube_resource(KUBE_MESH), "", NAME_MESH, f->uid};
    kube_event_report(op->events, &about, false, reasons[st->step], "Rotating", notes[st->step]);
}

static void tick(struct loop_timer *t)
{
    struct ctl_ca *c = CONTAINER_OF(t, struct ctl_ca, timer);
    struct op *op = c->op;
    struct signer_state st = signer_state(op->signer);
    const struct mesh_cr *mesh = index_mesh(op->model.index);
    struct ca_progress p = look(c, &st);
    struct signer_told told;

    memset(&told, 0, sizeof told); /* compared as bytes */
    told.lead = !op->kube || op->leader;
    told.step = st.step;
    told.issuer = st.issuer;
    told.percent = mesh->rotate_percent.v;
    told.step_s = mesh->rotation_step_ns / NS_PER_S;
    told.life_s = mesh->cert_ttl_ns / NS_PER_S;
    told.followed = op->model.synced && p.followed >= p.proxies;
    memcpy(told.bundle, st.fingerprint, sizeof told.bundle);
    slice_copy(slice_head(api_map_get(&mesh->meta.annotations, REQUEST), sizeof told.request - 1),
               told.request, sizeof told.request);
    if (op->model.synced)
        signer_tell(op->signer, &told);
    push_set_issuer(op->push, st.step == ROTATION_RENEW ? st.issuer : 0, (uint32_t)told.step_s);
    if (st.ready && c->known && st.step != c->step)
        event(c, &st);
    if (st.ready && (memcmp(&p, &c->progress, sizeof p) != 0 || st.step != c->step)) {
        c->progress = p;
        if (c->moved && st.step != ROTATION_NONE)
            c->moved(c->user);
        replicas_moved(op->replicas);
    }
    if (st.ready) {
        c->step = st.step;
        c->known = true;
    }
    loop_timer_in(op->loop, &c->timer, TICK_NS, tick);
}

/* --- life ---------------------------------------------------------------------------------------
 */

struct ca_progress ctl_ca_progress(const struct ctl_ca *c)
{
    return c ? c->progress : (struct ca_progress){0};
}

int ctl_ca_new(struct op *op, void (*moved)(void *user), void *user, struct ctl_ca **ret,
               struct err *err)
{
    struct ctl_ca *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "controller");
    *c = (struct ctl_ca){.op = op, .moved = moved, .user = user};
    loop_timer_in(op->loop, &c->timer, 0, tick);
    *ret = c;
    return 0;
}

void ctl_ca_free(struct ctl_ca *c)
{
    if (!c)
        return;
    loop_timer_clear(c->op->loop, &c->timer);
    mem_free(c);
}
