/* SPDX-License-Identifier: Apache-2.0 */
/* The injector's serving certificate and the caBundle of our two webhook configurations. The mesh CA
 * signs it. The bundle is widened before a certificate under another root is handed out, and narrowed
 * at the next look, so that the API server always trusts what the injector shows. */
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "lib/kube/store.h"
#include "lib/tls/x509.h"
#include "operator/ctl_plans.h"
#include "operator/names.h"

#define KEY SL("webhook")
#define MANAGER NAME_MANAGER "-webhook"
#define RECHECK_NS (600 * NS_PER_S)
enum { PEM_MAX = 256 * 1024 };

struct ctl_webhook {
    struct ctl ctl;
    struct kube_store *secrets, *mutating, *validating;
    struct kube_watch *watch[3];
    char *ca;              /* ca.crt of the Secret, "" */
    int64_t not_after_ns;
    json_t *ours[2];       /* our configurations, mutating and validating */
    char foreign[256];
    char *key, *chain;     /* issued, not written yet; key wiped */
    bool asking;
};

/* --- pure ------------------------------------------------------------------------------------- */

bool webhook_wants_certificate(const struct webhook_seen *seen)
{
    if (!seen->roots.len)
        return false;
    return !seen->secret_ca.len || !seen->not_after_ns ||
           seen->not_after_ns - seen->now_ns < WEBHOOK_LIFE_S / 3 * NS_PER_S ||
           !slice_eq(slice_trim(seen->secret_ca), slice_trim(seen->roots));
}

static bool bundle_same(const json_t *config, const char *b64)
{
    size_t i;
    const json_t *w;
    json_array_foreach(json_object_get(config, "webhooks"), i, w)
    {
        const char *have = json_string_value(
            json_object_get(json_object_get(w, "clientConfig"), "caBundle"));
        if (!have || strcmp(have, b64) != 0)
            return false;
    }
    return true;
}

static void bundle_apply(const json_t *config, enum kube_kind kind, const char *b64,
                         struct plan *ret)
{
    if (!config || bundle_same(config, b64))
        return;
    json_t *body = json_pack("{s:[]}", "webhooks");
    json_t *list = json_object_get(body, "webhooks");
    size_t i;
    const json_t *w;
    json_array_foreach(json_object_get(config, "webhooks"), i, w)
        json_array_append_new(list, json_pack("{s:O, s:{s:s}}", "name", json_object_get(w, "name"),
                                              "clientConfig", "caBundle", b64));
    plan_add(ret, PLAN_APPLY, kind, SLICE_NULL,
             slice_str(kind == KUBE_MUTATING_WEBHOOK ? NAME_MUTATING : NAME_VALIDATING), MANAGER,
             body);
}

void webhook_plan_bundle(const struct webhook_seen *seen, struct plan *ret)
{
    CLEANUP(buf_freep) struct buf pem, b64;
    buf_init(&pem, PEM_MAX);
    buf_init(&b64, 2 * PEM_MAX);
    if (!seen->roots.len)
        return;
    buf_add_slice(&pem, seen->roots);
    if (seen->secret_ca.len && !slice_eq(slice_trim(seen->secret_ca), slice_trim(seen->roots)))
        buf_add_slice(&pem, seen->secret_ca);
    base64_encode(buf_slice(&pem), BASE64_STD, &b64);
    bundle_apply(seen->mutating, KUBE_MUTATING_WEBHOOK, buf_cstr(&b64), ret);
    bundle_apply(seen->validating, KUBE_VALIDATING_WEBHOOK, buf_cstr(&b64), ret);
}

bool webhook_is_foreign(const json_t *config)
{
    size_t i, k;
    const json_t *w, *x;
    if (strcmp(kube_name(config), NAME_MUTATING) == 0)
        return false;
    json_array_foreach(json_object_get(config, "webhooks"), i, w)
    {
        const json_t *sel = json_object_get(w, "namespaceSelector");
        if (json_object_get(json_object_get(sel, "matchLabels"), "istio-injection"))
            return true;
        json_array_foreach(json_object_get(sel, "matchExpressions"), k, x)
        {
            const char *key = json_string_value(json_object_get(x, "key"));
            const char *o = json_string_value(json_object_get(x, "operator"));
            if (key && o && strcmp(key, "istio-injection") == 0 && strcmp(o, "In") == 0)
                return true;
        }
    }
    return false;
}

/* --- what is there ---------------------------------------------------------------------------- */

static void poke(struct ctl_webhook *c)
{
    ctl_poke(&c->ctl, KEY);
}

static void decode64(const json_t *data, const char *name, struct buf *out)
{
    const char *text = json_string_value(json_object_get(data, name));
    if (text)
        base64_decode(slice_str(text), BASE64_STD, out);
}

static void secret_changed(void *user, enum kube_event_type type, struct slice key, const void *old,
                           const void *new, const json_t *obj)
{
    struct ctl_webhook *c = user;
    const json_t *data = json_object_get(obj, "data");
    struct x509_cert_info info;
    struct err err = {0};
    CLEANUP(buf_freep) struct buf crt, ca;
    (void)key, (void)old, (void)new;

    buf_init(&crt, PEM_MAX);
    buf_init(&ca, PEM_MAX);
    c->not_after_ns = 0;
    mem_free(c->ca);
    c->ca = NULL;
    if (type != KUBE_DELETED && obj) {
        decode64(data, "tls.crt", &crt);
        decode64(data, "ca.crt", &ca);
        c->ca = buf_take(&ca, NULL);
        if (x509_cert_info(buf_slice(&crt), &info, &err) == 0)
            c->not_after_ns = info.not_after_ns;
    }
    poke(c);
}

static void config_changed(struct ctl_webhook *c, int which, enum kube_event_type type,
                           struct slice key, const json_t *obj)
{
    static const char *const names[] = {NAME_MUTATING, NAME_VALIDATING};
    char name[254];
    if (slice_is(key, names[which])) {
        json_decref(c->ours[which]);
        c->ours[which] = type == KUBE_DELETED ? NULL : json_incref((json_t *)(uintptr_t)obj);
        poke(c);
    } else if (which == 0 && slice_copy(key, name, sizeof name)) {
        if (type != KUBE_DELETED && obj && webhook_is_foreign(obj))
            slice_copy(slice_str(name), c->foreign, sizeof c->foreign);
        else if (strcmp(c->foreign, name) == 0)
            c->foreign[0] = '\0';
    }
}

static void mutating_changed(void *user, enum kube_event_type type, struct slice key,
                             const void *old, const void *new, const json_t *obj)
{
    (void)old, (void)new;
    config_changed(user, 0, type, key, obj);
}

static void validating_changed(void *user, enum kube_event_type type, struct slice key,
                               const void *old, const void *new, const json_t *obj)
{
    (void)old, (void)new;
    config_changed(user, 1, type, key, obj);
}

static void synced(void *user, bool absent)
{
    (void)absent;
    poke(user);
}

static const struct kube_store_ops secret_ops = {.changed = secret_changed, .synced = synced};
static const struct kube_store_ops mutating_ops = {.changed = mutating_changed, .synced = synced};
static const struct kube_store_ops validating_ops = {.changed = validating_changed,
                                                     .synced = synced};

/* --- the certificate -------------------------------------------------------------------------- */

static void issued(void *user, const struct slice *chain, size_t n, const struct err *err)
{
    struct ctl_webhook *c = user;
    CLEANUP(buf_freep) struct buf pem;
    buf_init(&pem, PEM_MAX);
    c->asking = false;
    if (err) {
        LOG(WARN, "Webhook certificate could not be issued", "reason=%s", err->msg);
        tls_pem_free(c->key);
        c->key = NULL;
        ctl_poke_after(&c->ctl, KEY, 2 * NS_PER_S);
        return;
    }
    for (size_t i = 0; i + (n > 1) < n; i++)
        buf_add_slice(&pem, chain[i]);
    mem_free(c->chain);
    c->chain = buf_take(&pem, NULL);
    poke(c);
}

static int ask(struct ctl_webhook *c, struct err *err)
{
    struct op *op = c->ctl.op;
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    char names[3][200];
    const char *dns[4] = {names[0], names[1], names[2], NULL};

    snprintf(names[0], sizeof names[0], NAME_INJECTOR ".%s.svc", op->ns);
    snprintf(names[1], sizeof names[1], NAME_INJECTOR ".%s.svc.cluster.local", op->ns);
    snprintf(names[2], sizeof names[2], NAME_INJECTOR ".%s", op->ns);
    tls_pem_free(c->key);
    c->key = NULL;
    if (x509_key_new(&c->key, err) < 0 || x509_key_spki(c->key, spki, sizeof spki, &len, err) < 0)
        return -1;
    struct signer_ask a = {.spki = slice_of(spki, len), .dns = dns, .life_s = WEBHOOK_LIFE_S};
    if (signer_issue(op->signer, &a, issued, c, err) < 0)
        return -1;
    c->asking = true;
    return 0;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_fini(b);
}

static json_t *data64(const char *text)
{
    CLEANUP(wipe) struct buf b;
    buf_init(&b, 2 * PEM_MAX);
    base64_encode(slice_str(text), BASE64_STD, &b);
    return json_string(buf_cstr(&b));
}

static int plan(struct ctl *ctl, struct slice key, struct plan *ret, int64_t *ret_recheck_ns,
                struct err *err)
{
    struct ctl_webhook *c = CONTAINER_OF(ctl, struct ctl_webhook, ctl);
    struct op *op = ctl->op;
    struct signer_state st = signer_state(op->signer);
    struct webhook_seen seen = {
        .ns = slice_str(op->ns),
        .roots = slice_str(st.roots_pem),
        .secret_ca = slice_str(c->ca),
        .not_after_ns = c->not_after_ns,
        .now_ns = loop_wall(op->loop),
        .mutating = c->ours[0],
        .validating = c->ours[1],
    };
    (void)key;
    if (!kube_store_synced(c->secrets) || !kube_store_synced(c->mutating) ||
        !kube_store_synced(c->validating) || !st.ready)
        return err_set(err, ERR_AGAIN, "not read yet");
    *ret_recheck_ns = RECHECK_NS;
    webhook_plan_bundle(&seen, ret);
    if (!webhook_wants_certificate(&seen))
        return 0;
    if (!c->chain) {
        if (!c->asking && ask(c, err) < 0)
            return -1;
        return 0; /* `issued` pokes */
    }
    plan_add(ret, PLAN_APPLY, KUBE_SECRET, seen.ns, SL(NAME_WEBHOOK_SECRET), NAME_MANAGER,
             json_pack("{s:{s:{s:s}}, s:s, s:{s:o, s:o, s:o}}", "metadata", "labels",
                       "app.kubernetes.io/managed-by", NAME_MANAGER, "type", "kubernetes.io/tls",
                       "data", "tls.crt", data64(c->chain), "tls.key", data64(c->key), "ca.crt",
                       data64(st.roots_pem)));
    LOG(INFO, "Webhook certificate written", "secret=%s/" NAME_WEBHOOK_SECRET, op->ns);
    return 0;
}

static void written(struct ctl *ctl, struct slice key)
{
    struct ctl_webhook *c = CONTAINER_OF(ctl, struct ctl_webhook, ctl);
    (void)key;
    if (!c->chain || c->asking)
        return;
    tls_pem_free(c->key);
    c->key = NULL;
    mem_free(c->chain);
    c->chain = NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

int ctl_webhook_new(struct op *op, struct ctl_webhook **ret, struct err *err)
{
    struct ctl_webhook *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "controller");
    c->ctl.plan = plan;
    c->ctl.written = written;
    if (ctl_init(&c->ctl, op, "webhook", true, err) < 0 ||
        kube_store_new("webhook secret", &secret_ops, c, &c->secrets, err) < 0 ||
        kube_store_new("mutating webhooks", &mutating_ops, c, &c->mutating, err) < 0 ||
        kube_store_new("validating webhooks", &validating_ops, c, &c->validating, err) < 0) {
        ctl_webhook_free(c);
        return -1;
    }
    const struct kube_watch_opts o[] = {
        {.resource = kube_resource(KUBE_SECRET), .ns = op->ns,
         .fields = "metadata.name=" NAME_WEBHOOK_SECRET, .sink = kube_store_sink(c->secrets)},
        {.resource = kube_resource(KUBE_MUTATING_WEBHOOK), .sink = kube_store_sink(c->mutating)},
        {.resource = kube_resource(KUBE_VALIDATING_WEBHOOK),
         .sink = kube_store_sink(c->validating)},
    };
    for (size_t i = 0; i < N_OF(o); i++)
        if (kube_watch_start(op->kube, &o[i], &c->watch[i], err) < 0) {
            ctl_webhook_free(c);
            return -1;
        }
    *ret = c;
    return 0;
}

void ctl_webhook_changed(struct ctl_webhook *c)
{
    poke(c);
}

void ctl_webhook_leader(struct ctl_webhook *c, bool leader)
{
    ctl_leader(&c->ctl, leader);
}

const char *ctl_webhook_foreign(const struct ctl_webhook *c)
{
    return c->foreign;
}

int64_t ctl_webhook_not_after(const struct ctl_webhook *c)
{
    return c->not_after_ns;
}

void ctl_webhook_free(struct ctl_webhook *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < N_OF(c->watch); i++)
        kube_watch_stop(c->watch[i]);
    struct kube_store *stores[] = {c->secrets, c->mutating, c->validating};
    for (size_t i = 0; i < N_OF(stores); i++)
        if (stores[i])
            kube_store_free(stores[i]);
    signer_forget(c->ctl.op->signer, c);
    ctl_fini(&c->ctl);
    json_decref(c->ours[0]);
    json_decref(c->ours[1]);
    tls_pem_free(c->key);
    mem_free(c->chain);
    mem_free(c->ca);
    mem_free(c);
}
