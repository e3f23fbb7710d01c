/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/rotation.h"

#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/tls/x509.h"
#include "operator/signer.h"

enum { SKEW_S = 120, RETURN_S = 20, PEM_MAX = 512 * 1024 };

const char *rotation_step_name(enum rotation_step s)
{
    static const char *const names[] = {
#define X(name, state, meaning) [ROTATION_##name] = state,
        ROTATION_STEPS(X)
#undef X
    };
    return names[s];
}

/* --- certificates ------------------------------------------------------------------------------
 */

void signer_ca_fini(struct signer_ca *ca)
{
    tls_pem_free(ca->key);
    mem_free(ca->cert);
    mem_free(ca->chain);
    mem_free(ca->roots);
    *ca = (struct signer_ca){0};
}

static char *dup(const char *s)
{
    return mem_strdup(s ? s : "");
}

int signer_ca_copy(const struct signer_ca *ca, struct signer_ca *ret)
{
    struct signer_ca c = {dup(ca->key), dup(ca->cert), dup(ca->chain), dup(ca->roots), ca->paused};
    if (!c.key || !c.cert || !c.chain || !c.roots) {
        signer_ca_fini(&c);
        return -1;
    }
    *ret = c;
    return 0;
}

static bool has_key(const struct signer_ca *ca)
{
    return ca && ca->key && ca->key[0];
}

void cert_fingerprint(struct slice pem, char ret[FINGERPRINT])
{
    static const char hex[] = "0123456789abcdef";
    struct x509_cert_info info;
    struct err err = {0};
    ret[0] = '\0';
    if (x509_cert_info(pem, &info, &err) < 0)
        return;
    for (size_t i = 0; i < sizeof info.sha256; i++) {
        ret[2 * i] = hex[info.sha256[i] >> 4];
        ret[2 * i + 1] = hex[info.sha256[i] & 15];
    }
    ret[2 * sizeof info.sha256] = '\0';
}

struct prints {
    size_t n;
    char p[BUNDLE_MAX][FINGERPRINT];
    struct slice pem[BUNDLE_MAX];
};

static bool prints_has(const struct prints *s, const char *one)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->p[i], one) == 0)
            return true;
    return false;
}

/* Those of the bundle that are not there yet. */
static void prints_add(struct prints *s, struct slice bundle)
{
    struct slice part[BUNDLE_MAX];
    size_t k = pem_split(bundle, part, N_OF(part));
    for (size_t i = 0; i < k && s->n < BUNDLE_MAX; i++) {
        cert_fingerprint(part[i], s->p[s->n]);
        s->pem[s->n] = part[i];
        if (s->p[s->n][0] && !prints_has(s, s->p[s->n]))
            s->n++;
    }
}

char *bundle_union(struct slice a, struct slice b)
{
    struct prints s = {0};
    CLEANUP(buf_freep) struct buf out;
    buf_init(&out, PEM_MAX);
    prints_add(&s, a);
    prints_add(&s, b);
    for (size_t i = 0; i < s.n; i++) {
        buf_add_slice(&out, slice_trim(s.pem[i]));
        buf_add_char(&out, '\n');
    }
    return s.n ? buf_take(&out, NULL) : mem_strdup("");
}

bool bundle_covers(struct slice whole, struct slice part)
{
    struct prints w = {0}, p = {0};
    prints_add(&w, whole);
    prints_add(&p, part);
    for (size_t i = 0; i < p.n; i++)
        if (!prints_has(&w, p.p[i]))
            return false;
    return true;
}

/* --- the record --------------------------------------------------------------------------------
 */

void rotation_fini(struct rotation *r)
{
    mem_free(r->trusted);
    signer_ca_fini(&r->old);
    *r = (struct rotation){0};
}

char *rotation_text(const struct rotation *r)
{
    json_t *v = json_pack("{s:s, s:I, s:s, s:b, s:s, s:s}", "step", rotation_step_name(r->step),
                          "since", (json_int_t)r->since_s, "issuer", r->issuer, "made", r->made,
                          "request", r->request, "trusted", r->trusted ? r->trusted : "");
    if (v && r->old.cert && r->old.cert[0])
        json_object_set_new(v, "old",
                            json_pack("{s:s, s:s, s:s, s:s}", "key", r->old.key, "cert",
                                      r->old.cert, "chain", r->old.chain, "roots", r->old.roots));
    char *text = v ? json_text(v, JSON_TIGHT) : NULL;
    json_decref(v);
    return text;
}

static const char *text_of(const json_t *v, const char *key)
{
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}

int rotation_parse(struct slice text, struct rotation *ret, struct err *err)
{
    CLEANUP(json_freep) json_t *v = NULL;
    struct rotation r = {0};
    int step = -1;
    if (json_parse(text, NULL, &v, err) < 0)
        return -1;
    for (int i = ROTATION_NONE; i <= ROTATION_RENEW; i++)
        if (strcmp(text_of(v, "step"), rotation_step_name((enum rotation_step)i)) == 0)
            step = i;
    if (step < 0 || strlen(text_of(v, "issuer")) != FINGERPRINT - 1 ||
        !slice_copy(slice_str(text_of(v, "issuer")), r.issuer, sizeof r.issuer) ||
        !slice_copy(slice_str(text_of(v, "request")), r.request, sizeof r.request))
        return err_set(err, ERR_INVALID, "the record of the CA's rotation makes no sense");
    const json_t *o = json_object_get(v, "old");
    struct signer_ca old = {
        (char *)(uintptr_t)text_of(o, "key"), (char *)(uintptr_t)text_of(o, "cert"),
        (char *)(uintptr_t)text_of(o, "chain"), (char *)(uintptr_t)text_of(o, "roots"), false};
    r.step = (enum rotation_step)step;
    r.since_s = json_integer_value(json_object_get(v, "since"));
    r.made = json_is_true(json_object_get(v, "made"));
    r.trusted = mem_strdup(text_of(v, "trusted"));
    if (!r.trusted || (o && signer_ca_copy(&old, &r.old) < 0)) {
        rotation_fini(&r);
        return err_set(err, ERR_NOMEM, "record of the CA's rotation");
    }
    *ret = r;
    return 0;
}

/* --- the next step -----------------------------------------------------------------------------
 */

/* A record of this step that keeps what the old one says otherwise; takes `trusted`. */
static int record(const struct rotation_seen *s, enum rotation_step step,
                  const struct signer_ca *about, bool made, char *trusted,
                  const struct signer_ca *old, struct rotation *ret, struct err *err)
{
    struct rotation r = {.step = step, .since_s = s->now_s, .made = made, .trusted = trusted};
    cert_fingerprint(slice_str(about->cert), r.issuer);
    if (s->record)
        memcpy(r.request, s->record->request, sizeof r.request);
    if (!trusted || (old && signer_ca_copy(old, &r.old) < 0)) {
        rotation_fini(&r);
        return err_set(err, ERR_NOMEM, "rotation of the CA");
    }
    *ret = r;
    return 0;
}

static bool about(const struct rotation *r, const struct signer_ca *ca)
{
    char print[FINGERPRINT];
    cert_fingerprint(slice_str(ca->cert), print);
    return strcmp(print, r->issuer) == 0;
}

static bool same_cert(const struct signer_ca *a, const struct signer_ca *b)
{
    char x[FINGERPRINT], y[FINGERPRINT];
    if (!a->cert || !b->cert)
        return false;
    cert_fingerprint(slice_str(a->cert), x);
    cert_fingerprint(slice_str(b->cert), y);
    return x[0] && strcmp(x, y) == 0;
}

int rotation_begin(const struct rotation_seen *s, const struct signer_ca *next, bool made,
                   struct rotation *ret, struct err *err)
{
    const struct rotation *now = s->record;
    /* Who signed until now, and the roots that its certificates need. In SPREAD the CA that was to
     * come never signed: it is left out as if it had not been. */
    const struct signer_ca *old = now->step == ROTATION_SPREAD ? &now->old : s->signing;
    bool known = has_key(old) && (now->step == ROTATION_SPREAD || about(now, old));
    char *trusted = now->step == ROTATION_RENEW && known
                        ? bundle_union(slice_str(now->trusted), slice_str(old->roots))
                        : mem_strdup(now->trusted ? now->trusted : "");
    struct slice have = slice_str(trusted), want = slice_str(next->roots);

    if (now->step == ROTATION_SPREAD && same_cert(old, next)) /* thought better of it */
        return record(s, bundle_covers(want, have) ? ROTATION_NONE : ROTATION_RENEW, next, made,
                      trusted, NULL, ret, err);
    if (!x509_anchored(slice_str(next->cert), slice_str(next->chain), have))
        return record(s, ROTATION_SPREAD, next, made, trusted, known ? old : NULL, ret, err);
    if (!bundle_covers(want, have))
        return record(s, ROTATION_RENEW, next, made, trusted, NULL, ret, err);
    mem_free(trusted); /* the same roots, or more: nobody has to wait for anybody */
    return record(s, ROTATION_NONE, next, made, mem_strdup(next->roots), NULL, ret, err);
}

int64_t rotation_due_s(const struct signer_ca *ca, unsigned percent)
{
    struct x509_cert_info info;
    struct err err = {0};
    if (!percent || x509_cert_info(slice_str(ca->cert), &info, &err) < 0)
        return 0;
    return (info.not_before_ns + (info.not_after_ns - info.not_before_ns) / 100 * percent) /
           NS_PER_S;
}

/* A rotation is under way: is the step over? */
static int advance(const struct rotation_seen *s, enum rotation_act *ret_act, struct rotation *ret,
                   struct err *err)
{
    const struct rotation *r = s->record;
    int64_t age = s->now_s - r->since_s;
    /* Nothing is signed for workloads meanwhile: then no longer than proxies take to come back. */
    bool lost = r->step == ROTATION_SPREAD && !has_key(&r->old);
    int64_t least = lost ? MIN(s->step_s, (int64_t)RETURN_S) : s->step_s;
    bool over = age >= s->life_s + SKEW_S || (s->followed && age >= least);
    /* A clock that was set back must not hold the step for ever. */
    if (!over && !(age < 0 && s->followed))
        return 0;
    *ret_act = ROTATION_WRITE;
    if (r->step == ROTATION_SPREAD)
        return record(s, ROTATION_RENEW, s->desired, r->made, mem_strdup(r->trusted), NULL, ret,
                      err);
    return record(s, ROTATION_NONE, s->desired, r->made, mem_strdup(s->desired->roots), NULL, ret,
                  err);
}

int rotation_plan(const struct rotation_seen *s, enum rotation_act *ret_act, struct rotation *ret,
                  struct err *err)
{
    const struct rotation *r = s->record;

    *ret_act = ROTATION_KEEP;
    if (!r) {
        if (record(s, ROTATION_NONE, s->desired, s->own, mem_strdup(s->desired->roots), NULL, ret,
                   err) < 0)
            return -1;
        *ret_act = ROTATION_WRITE; /* what was asked for before there was a root is done with it */
        slice_copy(slice_str(s->request), ret->request, sizeof ret->request);
        return 0;
    }
    if (!about(r, s->desired)) { /* somebody wrote another CA */
        *ret_act = ROTATION_WRITE;
        return rotation_begin(s, s->desired, false, ret, err);
    }
    if (r->step != ROTATION_NONE)
        return advance(s, ret_act, ret, err);
    struct slice roots = slice_str(s->desired->roots), trusted = slice_str(r->trusted);
    if (!bundle_covers(roots, trusted) || !bundle_covers(trusted, roots)) { /* other roots only */
        *ret_act = ROTATION_WRITE;
        return rotation_begin(s, s->desired, r->made, ret, err);
    }
    if (!r->made)
        return 0;
    int64_t due = rotation_due_s(s->desired, s->percent);
    if ((s->request[0] && strcmp(s->request, r->request) != 0) || (due && s->now_s >= due))
        *ret_act = ROTATION_MAKE;
    return 0;
}

/* --- what is in force --------------------------------------------------------------------------
 */

char *rotation_bundle(const struct rotation *r, const struct signer_ca *desired)
{
    return r && r->step != ROTATION_NONE
               ? bundle_union(slice_str(r->trusted), slice_str(desired->roots))
               : mem_strdup(desired->roots);
}

int rotation_signer(const struct rotation *r, const struct signer_ca *desired,
                    struct signer_ca *ret, struct err *err)
{
    bool old = r && r->step == ROTATION_SPREAD && has_key(&r->old);
    if (signer_ca_copy(old ? &r->old : desired, ret) < 0)
        return err_set(err, ERR_NOMEM, "CA");
    ret->paused = r && r->step == ROTATION_SPREAD && !old;
    return 0;
}
