/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's call: istio.v1.auth.IstioCertificateService/CreateCertificate. A token says who asks; the
 * signing request brings the key; the certificate names the token's service account and nothing that
 * the request asked for. */
#pragma once

#include "lib/http/grpc.h"
#include "operator/metrics.h"
#include "operator/signer.h"
#include "operator/token.h"

#define CA_PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"

struct ca;
struct ca_opts {
    struct signer *signer;
    struct kube_client *kube;  /* NULL: tokens are looked up in the file */
    const char *tokens_file;   /* "token namespace service-account" per line; read with each call */
    struct opm *metrics;       /* may be NULL */
    double per_s, burst;       /* 0 = 200 and 400 */
    /* Settings of the mesh now; borrowed for the call. */
    void (*settings)(void *user, struct slice *ret_trust_domain, int64_t *ret_life_s);
    void *user;
};
int ca_new(struct loop *loop, const struct ca_opts *opts, struct ca **ret, struct err *err);
void ca_free(struct ca *ca);
/* Serve one call. */
void ca_call(struct ca *ca, struct grpc_stream *s);
/* Pure: the life to grant: what is asked for, 0 = the most; at least 60 s, at most `most_s`. */
int64_t ca_life(int64_t asked_s, int64_t most_s);
