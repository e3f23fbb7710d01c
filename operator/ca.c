/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/ca.h"

#include <stdio.h>
#include <string.h>

#include "istio/v1/auth/ca.pb-c.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/spiffe.h"
#include "lib/kube/queue.h"
#include "lib/tls/x509.h"
#include "operator/files.h"

enum { OPEN_MAX = 128, LIFE_MIN_S = 60 };

struct ca_ask { /* one call */
    struct ca *ca;
    struct ca_ask *next, **pprev;
    struct grpc_stream *stream;
    struct token_check *check;
    struct x509_csr_info csr;
    int64_t life_s;
    bool answered, signing;
};
struct ca {
    struct loop *loop;
    struct ca_opts opts;
    struct ca_ask *open;
    unsigned n_open;
    struct kube_bucket bucket;
};

int64_t ca_life(int64_t asked_s, int64_t most_s)
{
    int64_t life = asked_s <= 0 || asked_s > most_s ? most_s : asked_s;
    return MAX(life, (int64_t)LIFE_MIN_S);
}

static void count(struct ca *ca, unsigned metric)
{
    if (ca->opts.metrics)
        metrics_add(ca->opts.metrics->plain, metric, 1);
}

static const struct grpc_stream_ops no_ops = {0};

/* Forget the call; the stream is answered by the caller, or is gone. */
static void ask_free(struct ca_ask *a)
{
    token_cancel(a->check);
    if (a->signing)
        signer_forget(a->ca->opts.signer, a);
    *a->pprev = a->next;
    if (a->next)
        a->next->pprev = a->pprev;
    a->ca->n_open--;
    mem_free(a);
}

static void refuse(struct ca_ask *a, enum grpc_status status, const char *why)
{
    struct grpc_stream *s = a->stream;
    if (a->ca->opts.metrics)
        metrics_add(opm_row(a->ca->opts.metrics, OPM_SIGN_ERR, grpc_status_name(status), NULL,
                            NULL), 0, 1);
    ask_free(a);
    grpc_stream_set(s, &no_ops, NULL);
    grpc_fail(s, status, why);
}

static void issued(void *user, const struct slice *chain, size_t n, const struct err *err)
{
    struct ca_ask *a = user;
    a->signing = false;
    if (err) {
        LOG(ERROR, "Certificate could not be issued", "reason=%s", err->msg);
        refuse(a, err->code == ERR_INVALID ? GRPC_INVALID_ARGUMENT : GRPC_UNAVAILABLE, err->msg);
        return;
    }
    Istio__V1__Auth__IstioCertificateResponse r = ISTIO__V1__AUTH__ISTIO_CERTIFICATE_RESPONSE__INIT;
    char *pem[16];
    size_t k = 0;
    for (; k < n && k < N_OF(pem); k++)
        if (!(pem[k] = mem_strndup(chain[k].p, chain[k].len)))
            break;
    r.n_cert_chain = k;
    r.cert_chain = pem;
    size_t len = istio__v1__auth__istio_certificate_response__get_packed_size(&r);
    CLEANUP(mem_freep) uint8_t *packed = mem_alloc(len);
    struct grpc_stream *s = a->stream;
    if (packed && k == n) {
        istio__v1__auth__istio_certificate_response__pack(&r, packed);
        count(a->ca, OPM_SIGN_OK);
        ask_free(a);
        grpc_stream_set(s, &no_ops, NULL);
        if (grpc_send(s, slice_of(packed, len)) == ERR_OK)
            grpc_end(s);
        else
            grpc_fail(s, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else {
        refuse(a, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
    while (k > 0)
        mem_free(pem[--k]);
}

static void token_known(void *user, const struct token_owner *o, const struct err *why)
{
    struct ca_ask *a = user;
    struct ca *ca = a->ca;
    struct err err = {0};
    struct slice td;
    int64_t most_s;
    char id[X509_SPIFFE_MAX];

    a->check = NULL;
    if (!o) {
        count(ca, OPM_AUTHN_FAILS);
        LOG(WARN, "Token refused", "reason=%s", why->msg);
        refuse(a, why->code == ERR_DENIED ? GRPC_UNAUTHENTICATED : GRPC_UNAVAILABLE, why->msg);
        return;
    }
    ca->opts.settings(ca->opts.user, &td, &most_s);
    int n = snprintf(id, sizeof id, "spiffe://%.*s/ns/%s/sa/%s", SL_FMT(td), o->ns, o->sa);
    if ((size_t)n >= sizeof id) {
        refuse(a, GRPC_INVALID_ARGUMENT, "the identity is too long");
        return;
    }
    if (a->csr.spiffe_id[0] && strcmp(a->csr.spiffe_id, id) != 0) {
        count(ca, OPM_ID_FAILS);
        LOG(WARN, "Signing request for another identity", "asked=%s token=%s", a->csr.spiffe_id,
            id);
        refuse(a, GRPC_PERMISSION_DENIED, "the request asks for another identity than the token's");
        return;
    }
    struct signer_ask ask = {
        .spki = slice_of(a->csr.spki, a->csr.spki_len),
        .spiffe_id = id,
        .life_s = ca_life(a->life_s, most_s),
    };
    a->signing = true;
    if (signer_issue(ca->opts.signer, &ask, issued, a, &err) < 0) {
        a->signing = false;
        refuse(a, GRPC_UNAVAILABLE, err.msg);
        return;
    }
    LOG(INFO, "Certificate asked for", "id=%s pod=%s life_s=%lld", id, o->pod,
        (long long)ask.life_s);
}

static void check_file(struct ca_ask *a, struct slice token)
{
    CLEANUP(mem_freep) char *text = NULL;
    struct token_owner owner;
    struct err err = {0};
    if (file_read(a->ca->opts.tokens_file, 1 << 20, &text, &err) < 0 ||
        token_in_file(slice_str(text), token, &owner, &err) < 0)
        token_known(a, NULL, &err);
    else
        token_known(a, &owner, NULL);
}

static void on_message(struct grpc_stream *s, struct slice msg)
{
    struct ca_ask *a = grpc_stream_user(s);
    struct ca *ca = a->ca;
    struct err err = {0};

    if (a->answered) /* a unary call has one message */
        return;
    a->answered = true;
    count(ca, OPM_CSR_COUNT);
    struct slice token = token_bearer(grpc_stream_metadata(s, SL("authorization")));
    if (!token.len) {
        count(ca, OPM_AUTHN_FAILS);
        refuse(a, GRPC_UNAUTHENTICATED, "a bearer token is needed");
        return;
    }
    Istio__V1__Auth__IstioCertificateRequest *r =
        istio__v1__auth__istio_certificate_request__unpack(NULL, msg.len, (const uint8_t *)msg.p);
    int rc = !r ? err_set(&err, ERR_INVALID, "the request cannot be read")
                : x509_csr_check(slice_str(r->csr), &a->csr, &err);
    a->life_s = r ? r->validity_duration : 0;
    if (r)
        istio__v1__auth__istio_certificate_request__free_unpacked(r, NULL);
    if (rc < 0) {
        count(ca, OPM_CSR_PARSE_FAILS);
        refuse(a, GRPC_INVALID_ARGUMENT, err.msg);
        return;
    }
    if (!ca->opts.kube) {
        check_file(a, token);
        return;
    }
    a->check = token_review(ca->opts.kube, token, token_known, a);
    if (!a->check)
        refuse(a, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static void on_end(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    struct ca_ask *a = grpc_stream_user(s);
    (void)status, (void)detail;
    if (final) {
        ask_free(a);
        grpc_stream_set(s, &no_ops, NULL);
    } else if (!a->answered) {
        refuse(a, GRPC_INVALID_ARGUMENT, "the request is missing");
    }
}

static const struct grpc_stream_ops ask_ops = {.on_message = on_message, .on_end = on_end};

void ca_call(struct ca *ca, struct grpc_stream *s)
{
    int64_t now = loop_now(ca->loop);
    double have = MIN(ca->bucket.burst,
                      ca->bucket.tokens + (double)(now - ca->bucket.at_ns) / 1e9 * ca->bucket.per_s);
    if (have < 1 || ca->n_open >= OPEN_MAX) {
        if (ca->opts.metrics)
            metrics_add(opm_row(ca->opts.metrics, OPM_SIGN_ERR,
                                grpc_status_name(GRPC_RESOURCE_EXHAUSTED), NULL, NULL), 0, 1);
        grpc_fail(s, GRPC_RESOURCE_EXHAUSTED, "too many signing requests; come back");
        return;
    }
    ca->bucket.tokens = have - 1;
    ca->bucket.at_ns = now;
    struct ca_ask *a = mem_zalloc(sizeof *a);
    if (!a) {
        grpc_fail(s, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    a->ca = ca;
    a->stream = s;
    a->next = ca->open;
    a->pprev = &ca->open;
    if (ca->open)
        ca->open->pprev = &a->next;
    ca->open = a;
    ca->n_open++;
    grpc_stream_set(s, &ask_ops, a);
}

int ca_new(struct loop *loop, const struct ca_opts *opts, struct ca **ret, struct err *err)
{
    struct ca *ca = mem_zalloc(sizeof *ca);
    if (!ca)
        return err_set(err, ERR_NOMEM, "CA");
    ca->loop = loop;
    ca->opts = *opts;
    ca->bucket.per_s = opts->per_s > 0 ? opts->per_s : 200;
    ca->bucket.burst = ca->bucket.tokens = opts->burst > 0 ? opts->burst : 400;
    ca->bucket.at_ns = loop_now(loop);
    *ret = ca;
    return 0;
}

void ca_free(struct ca *ca)
{
    if (!ca)
        return;
    while (ca->open)
        refuse(ca->open, GRPC_UNAVAILABLE, "the operator ends");
    mem_free(ca);
}
