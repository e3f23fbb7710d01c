/* SPDX-License-Identifier: Apache-2.0 */
/* Status of Istio's objects. Key: "Kind ns/name". Findings of the object by itself, what compilation
 * found, and the acknowledgements of the proxies make the conditions: within a second when a state
 * changes, mere counts at most every ten. Addresses of hosts that have none are given here, too, and
 * kept in the status of the object that holds the host. */
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "mesh/analyze/analyze.h"
#include "mesh/api/status.h"
#include "operator/addresses.h"
#include "operator/ctl_plans.h"
#include "operator/names.h"

#define STATE_NS (250 * NS_PER_MS)
#define COUNT_NS (10 * NS_PER_S)
#define ADDRESS_KEY SL("addresses")
#define RECHECK_KEY SL("recheck") /* what an object names may have come or gone */
#define RECHECK_NS (2 * NS_PER_S)
#define RECHECK_PODS_NS (10 * NS_PER_S)

struct ctl_status {
    struct ctl ctl;
    struct map counted; /* key -> time of the last write, as struct stamp */
};
struct stamp {
    int64_t at_ns;
};

static const struct {
    enum index_kind kind;
    enum kube_kind resource;
} kinds[] = {
    {INDEX_VS, KUBE_VIRTUAL_SERVICE},    {INDEX_DR, KUBE_DESTINATION_RULE},
    {INDEX_SE, KUBE_SERVICE_ENTRY},      {INDEX_PA, KUBE_PEER_AUTHENTICATION},
    {INDEX_AP, KUBE_AUTHORIZATION_POLICY}, {INDEX_RA, KUBE_REQUEST_AUTHENTICATION},
    {INDEX_GW, KUBE_GATEWAY},            {INDEX_SC, KUBE_SIDECAR},
    {INDEX_WE, KUBE_WORKLOAD_ENTRY},     {INDEX_WG, KUBE_WORKLOAD_GROUP},
    {INDEX_PC, KUBE_PROXY_CONFIG},       {INDEX_TE, KUBE_TELEMETRY},
    {INDEX_EF, KUBE_ENVOY_FILTER},       {INDEX_WP, KUBE_WASM_PLUGIN},
    {INDEX_TX, KUBE_TRAFFIC_EXTENSION},
};

static int kind_of(struct slice name)
{
    for (size_t i = 0; i < N_OF(kinds); i++)
        if (slice_is(name, index_kind_name(kinds[i].kind)))
            return (int)i;
    return -1;
}

/* --- addresses ------------------------------------------------------------------------------------------ */

/* [{host, value}] of the hosts that this object keeps addresses for; NULL when there are none. */
static json_t *addresses_of(struct ctl_status *c, enum index_kind kind, struct slice ns,
                            struct slice name)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    json_t *list = json_array();
    char text[IP_TEXT];
    size_t n;
    struct index_want *w = index_wanted_addresses(c->ctl.op->model.index, &a, &n);
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            if (w[i].kind == kind && slice_eq(w[i].ns, ns) && slice_eq(w[i].name, name) &&
                w[i].have[k].len)
                json_array_append_new(list,
                                      json_pack("{s:o, s:s}", "host", json_string_of(w[i].host),
                                                "value", ip_format(&w[i].have[k], text)));
    if (json_array_size(list) == 0) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* --- one object ------------------------------------------------------------------------------------------------- */

/* Of the status only what is ours: another manager's fields are not taken over. */
static json_t *own_part(const json_t *status)
{
    static const char *const members[] = {"conditions", "validationMessages", "observedGeneration",
                                          "proxies", "addresses"};
    json_t *o = json_object();
    for (size_t i = 0; i < N_OF(members); i++)
        if (json_object_get(status, members[i]))
            json_object_set(o, members[i], json_object_get(status, members[i]));
    return o;
}

static const char *condition(const json_t *status, const char *type)
{
    const json_t *c = kube_condition_find(json_object_get(status, "conditions"), type);
    const char *s = json_string_value(json_object_get(c, "status"));
    return s ? s : "";
}

/* Does some condition have another status or reason, or was another generation judged? */
static bool state_moved(const json_t *old, const json_t *next)
{
    const json_t *list = json_object_get(next, "conditions"), *c;
    size_t i;
    if (json_array_size(json_object_get(old, "conditions")) != json_array_size(list) ||
        !json_equal(json_object_get(old, "observedGeneration"),
                    json_object_get(next, "observedGeneration")) ||
        !json_equal(json_object_get(old, "addresses"), json_object_get(next, "addresses")) ||
        !status_messages_same(old, next))
        return true;
    json_array_foreach(list, i, c)
    {
        const char *type = json_string_value(json_object_get(c, "type"));
        const json_t *was = kube_condition_find(json_object_get(old, "conditions"), type);
        if (!was || !json_equal(json_object_get(was, "status"), json_object_get(c, "status")) ||
            !json_equal(json_object_get(was, "reason"), json_object_get(c, "reason")))
            return true;
    }
    return false;
}

static void event(struct op *op, const struct kube_ref *about, const json_t *old, const json_t *next)
{
    static const struct {
        const char *type, *bad, *good;
    } types[] = {
        {"Accepted", "False", "True"},
        {"ResolvedRefs", "False", "True"},
        {"Conflicted", "True", "-"}, /* the condition is there only while it holds */
        {"Programmed", "False", "True"},
    };
    for (size_t i = 0; op->events && i < N_OF(types); i++) {
        const char *was = condition(old, types[i].type), *is = condition(next, types[i].type);
        const json_t *c = kube_condition_find(json_object_get(next, "conditions"), types[i].type);
        const char *reason = json_string_value(json_object_get(c, "reason"));
        const char *message = json_string_value(json_object_get(c, "message"));
        bool bad = strcmp(is, types[i].bad) == 0 && reason && strcmp(reason, "Pending") != 0;
        bool good = strcmp(is, types[i].good) == 0;
        if (strcmp(was, is) != 0 && (bad || (good && was[0])))
            kube_event_report(op->events, about, bad, reason, "Reconciling",
                              message ? message : "");
    }
}

/* Said already, at this place or one around it or within. */
static bool is_told(const struct findings *f, const struct finding *x)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->p[i].kind == x->kind && (slice_starts(f->p[i].path, x->path) ||
                                        slice_starts(x->path, f->p[i].path)))
            return true;
    return false;
}

/* What there is to say of an object: by itself, with others in view, and as compiled for proxies. */
static void findings_of(struct ctl_status *c, enum index_kind kind, struct slice ns,
                        struct slice name, const struct policy_fact *f, struct arena *a,
                        struct findings *ret)
{
    struct analysis view = {.index = c->ctl.op->model.index};
    struct findings compiled;

    findings_init(ret, a);
    findings_init(&compiled, a);
    if (f->findings)
        for (uint32_t i = 0; i < f->findings->n; i++)
            ret->p[ret->n++] = f->findings->p[i];
    analyze_object(&view, kind, ns, name, a, ret);
    push_problems(c->ctl.op->push, kind, ns, name, &compiled);
    for (uint32_t i = 0; i < compiled.n && ret->n < FINDINGS_MAX; i++)
        if (!is_told(ret, &compiled.p[i]))
            ret->p[ret->n++] = compiled.p[i];
}

static int plan_object(struct ctl_status *c, int k, struct slice key, struct slice ns,
                       struct slice name, struct plan *ret, int64_t *ret_recheck_ns,
                       struct err *err)
{
    struct op *op = c->ctl.op;
    const struct policy_fact *f = model_policy(&op->model, kinds[k].kind, ns, name);
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    CLEANUP(json_freep) json_t *old = NULL;
    CLEANUP(json_freep) json_t *mine = NULL;
    struct findings all;
    struct push_tally tally;
    char ns_text[64], name_text[254];

    if (!f) {
        mem_free(map_remove(&c->counted, key));
        return 0;
    }
    if (f->status && json_parse(slice_str(f->status), NULL, &old, err) < 0)
        return -1;
    mine = own_part(old);
    findings_of(c, kinds[k].kind, ns, name, f, &a, &all);
    push_tally(op->push, kinds[k].kind, ns, name, &tally);
    replicas_add(op->replicas, kinds[k].kind, ns, name, f->generation, &tally);
    struct status_in in = {
        .findings = &all,
        .generation = f->generation,
        .now_s = loop_wall(op->loop) / NS_PER_S,
        .interested = tally.interested,
        .acked = tally.acked,
        .rejected = tally.rejected,
        .reject_text = tally.reject_text,
    };
    json_t *kept = addresses_of(c, kinds[k].kind, ns, name);
    json_object_del(mine, "addresses");
    if (kept)
        json_object_set_new(mine, "addresses", kept);
    json_t *next = status_build(&in, mine);
    if (!next)
        return err_set(err, ERR_NOMEM, "status");
    if (status_same(old, next)) {
        json_decref(next);
        return 0;
    }
    struct stamp *st = map_get(&c->counted, key);
    int64_t now = loop_now(op->loop);
    if (st && !state_moved(old, next) && now - st->at_ns < COUNT_NS) {
        *ret_recheck_ns = st->at_ns + COUNT_NS - now; /* only counts moved */
        json_decref(next);
        return 0;
    }
    if (!st && (st = mem_zalloc(sizeof *st)) && map_put(&c->counted, key, st, NULL) < 0) {
        mem_free(st);
        st = NULL;
    }
    if (st)
        st->at_ns = now;
    if (slice_copy(ns, ns_text, sizeof ns_text) && slice_copy(name, name_text, sizeof name_text)) {
        struct kube_ref about = {kube_resource(kinds[k].resource), ns_text, name_text, f->uid};
        event(op, &about, old, next);
    }
    plan_add(ret, PLAN_STATUS, kinds[k].resource, ns, name, NAME_MANAGER_STATUS,
             json_pack("{s:o}", "status", next));
    return 0;
}

static void given(void *user, enum index_kind kind, struct slice ns, struct slice name)
{
    ctl_status_touched(user, kind, ns, name);
}

static int plan(struct ctl *ctl, struct slice key, struct plan *ret, int64_t *ret_recheck_ns,
                struct err *err)
{
    struct ctl_status *c = CONTAINER_OF(ctl, struct ctl_status, ctl);
    struct slice rest = key, kind, ns;
    if (!ctl->op->model.synced)
        return err_set(err, ERR_AGAIN, "not read yet");
    if (slice_eq(key, ADDRESS_KEY)) {
        addresses_give(&c->ctl.op->model, true, given, c);
        return 0;
    }
    if (slice_eq(key, RECHECK_KEY)) {
        for (struct map_entry *e = NULL; (e = map_next(&ctl->op->model.policies, e));)
            ctl_poke(ctl, slice_of(e->key, e->key_len));
        return 0;
    }
    slice_next(&rest, ' ', &kind);
    slice_next(&rest, '/', &ns);
    int k = kind_of(kind);
    return k < 0 ? 0 : plan_object(c, k, key, ns, rest, ret, ret_recheck_ns, err);
}

void ctl_status_touched(struct ctl_status *c, enum index_kind kind, struct slice ns,
                        struct slice name)
{
    char key[400];
    int n = snprintf(key, sizeof key, "%s %.*s/%.*s", index_kind_name(kind), SL_FMT(ns),
                     SL_FMT(name));
    if (n > 0 && (size_t)n < sizeof key)
        ctl_poke_after(&c->ctl, slice_of(key, (size_t)n), STATE_NS);
}

void ctl_status_poke(struct ctl_status *c, struct slice key)
{
    ctl_poke_after(&c->ctl, key, STATE_NS);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void addresses_soon(struct ctl_status *c)
{
    if (c->ctl.op->leader)
        ctl_poke_after(&c->ctl, ADDRESS_KEY, STATE_NS / 5);
    else if (c->ctl.op->model.synced)
        addresses_give(&c->ctl.op->model, false, NULL, NULL); /* what the holder wrote */
}

static void policy_changed(void *user, enum index_kind kind, struct slice ns, struct slice name)
{
    struct ctl_status *c = user;
    ctl_status_touched(c, kind, ns, name);
    ctl_poke_after(&c->ctl, RECHECK_KEY, RECHECK_NS);
}

static void pod_changed(void *user, struct slice ns, struct slice name)
{
    struct ctl_status *c = user;
    (void)ns, (void)name;
    ctl_poke_after(&c->ctl, RECHECK_KEY, RECHECK_PODS_NS);
}

static void changes(void *user, const struct index_changes *ch)
{
    /* Names: hosts came or went, so that some may want an address or no more. */
    for (size_t i = 0; i < ch->n; i++)
        if (ch->p[i] == INDEX_TOKEN_NAMES || ch->p[i] == INDEX_TOKEN_FILTER) {
            addresses_soon(user);
            ctl_poke_after(&((struct ctl_status *)user)->ctl, RECHECK_KEY, RECHECK_NS);
            return;
        }
}

static void touch_all(struct ctl_status *c)
{
    struct model *m = &c->ctl.op->model;
    for (struct map_entry *e = NULL; (e = map_next(&m->policies, e));)
        ctl_poke_after(&c->ctl, slice_of(e->key, e->key_len), STATE_NS);
    addresses_soon(c);
}

static void all_read(void *user)
{
    touch_all(user);
}

int ctl_status_new(struct op *op, struct ctl_status **ret, struct err *err)
{
    struct ctl_status *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "controller");
    c->ctl.plan = plan;
    if (ctl_init(&c->ctl, op, "status", true, err) < 0) {
        mem_free(c);
        return -1;
    }
    model_listen(&op->model, &(struct model_listener){.policy = policy_changed,
                                                      .pod = pod_changed,
                                                      .changes = changes,
                                                      .synced = all_read,
                                                      .user = c});
    *ret = c;
    return 0;
}

void ctl_status_leader(struct ctl_status *c, bool leader)
{
    ctl_leader(&c->ctl, leader);
    if (leader)
        touch_all(c);
}

void ctl_status_free(struct ctl_status *c)
{
    if (!c)
        return;
    ctl_fini(&c->ctl);
    for (struct map_entry *e = NULL; (e = map_next(&c->counted, e));)
        mem_free(e->value);
    map_fini(&c->counted);
    mem_free(c);
}
