/* SPDX-License-Identifier: Apache-2.0 */
/* The workload's certificate: a P-256 key made in memory, signed by the mesh's CA for the pod's token,
 * renewed at half of its life with jitter, handed to the workers as new TLS contexts. Standalone the
 * identity comes from PEM files. What is held goes to the supervisor, so that a restarted data process
 * has it at once. */
#pragma once

#include "lib/base/buf.h"
#include "lib/io/chan.h"
#include "proxy/control.h"

struct identity;
struct identity_opts {
    struct control *control;
    const char *ca_address;    /* NAME:PORT */
    const char *ca_name;       /* name that the CA's certificate must carry */
    const char *token_path;    /* read for each request: kubelet rotates it */
    const char *roots_path;    /* trust anchors to begin with */
    const char *spiffe_id;     /* what is asked for */
    int64_t life_s;            /* asked for; the CA may shorten it */
    /* A new certificate is in force (or the trust anchors changed). */
    void (*changed)(void *user);
    void *user;
};
int identity_new(const struct identity_opts *opts, struct identity **ret, struct err *err);
void identity_free(struct identity *id);
/* Begin: from kept bytes (may be null) when they are still good, else ask the CA until it answers. */
void identity_start(struct identity *id, struct slice kept);
/* From PEM texts; no CA. */
int identity_from_pem(struct identity *id, struct slice chain, struct slice key, struct slice roots,
                      struct err *err);
/* New trust anchors (the mesh's settings). The same ones change nothing. */
void identity_roots(struct identity *id, struct slice roots_pem);
/* The CA changes: who has a certificate by another issuer gets a new one at some moment within that
 * time. 0: nobody has to. */
void identity_wanted(struct identity *id, uint32_t issuer, uint32_t within_s);
/* Who issued the certificate (x509_cert_info.issuer_key_id); 0: not told, or none. */
uint32_t identity_issuer(const struct identity *id);
bool identity_ready(const struct identity *id);
/* Civil time of the end; 0 without certificate. */
int64_t identity_not_after_ns(const struct identity *id);
/* Why there is none, or why the last renewal failed; "" when all is well. */
const char *identity_problem(const struct identity *id);
/* A client context for the control plane's own connections; borrowed; NULL without identity. */
struct tls_ctx *identity_client(const struct identity *id);
/* What the supervisor is to keep. Secret. */
int identity_save(const struct identity *id, struct buf *ret, struct err *err);
/* Dial `address` with TLS, the server proving `name`; client certificate when there is one. */
void identity_dial(struct identity *id, const char *address, const char *name,
                   void (*done)(void *user, struct chan *chan, const struct err *err), void *user);
