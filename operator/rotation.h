/* SPDX-License-Identifier: Apache-2.0 */
/* Changing the mesh's CA while it runs: another root, or another issuer, without a call that fails.
 * Pure: what is recorded and what was seen -> what to do. The signer's child keeps the record, the
 * parent tells how far the proxies are.
 *
 * Who trusts only the old root must not meet a certificate by the new one, so that the order is:
 * all trust both (SPREAD), all get certificates by the new one (RENEW), the old root goes. A step
 * ends when every proxy followed, but not before `step_s`, in which kubelets bring the bundle to
 * pods that start; and at the latest after a certificate's whole life: whoever did not follow by
 * then has none that is good, and learns the roots before it gets another. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* clang-format off */
#define ROTATION_STEPS(X)                                                                 \
    X(NONE,   "Steady",    "one CA, and its roots alone are trusted")                     \
    X(SPREAD, "Spreading", "both roots are trusted, the old CA signs")                    \
    X(RENEW,  "Renewing",  "both roots are trusted, the new CA signs and all renew")
/* clang-format on */
enum rotation_step {
#define X(name, state, meaning) ROTATION_##name,
    ROTATION_STEPS(X)
#undef X
};
const char *rotation_step_name(enum rotation_step s); /* "Steady" */

/* A CA; PEM texts, the key wiped when freed. */
struct signer_ca {
    char *key, *cert, *chain, *roots; /* chain: from the issuing certificate up to its root */
    bool paused; /* for workloads it signs nothing: the key that they could trust is gone */
};
void signer_ca_fini(struct signer_ca *ca);
int signer_ca_copy(const struct signer_ca *ca, struct signer_ca *ret);

enum { FINGERPRINT = 65, BUNDLE_MAX = 32 };
/* SHA-256 of the first certificate of a PEM text, hex; "" when there is none. */
void cert_fingerprint(struct slice pem, char ret[FINGERPRINT]);
/* Certificates of both, each once, in this order. NULL: out of memory. */
char *bundle_union(struct slice a, struct slice b);
/* Is every certificate of `part` in `whole`? */
bool bundle_covers(struct slice whole, struct slice part);

/* What outlives the process, beside the CA itself (Secret tulle-ca-rotation). */
struct rotation {
    enum rotation_step step;
    int64_t since_s;          /* civil time at which the step began */
    char issuer[FINGERPRINT]; /* certificate of the CA that this is about: in force, or to be */
    bool made;                /* the operator made it: it may make the next one, too */
    char request[64];         /* the last request for another root that was heard */
    char *trusted;            /* PEM: the roots from before; with NONE those of the CA */
    struct signer_ca old;     /* with SPREAD: who signs meanwhile; without key: it was lost */
};
void rotation_fini(struct rotation *r);
/* As JSON text, which holds a key while `old` does; tls_pem_free wipes it. */
char *rotation_text(const struct rotation *r);
int rotation_parse(struct slice text, struct rotation *ret, struct err *err);

struct rotation_seen {
    const struct rotation *record;   /* NULL: there is none */
    const struct signer_ca *desired; /* the CA as it is stored now */
    const struct signer_ca *signing; /* in memory; without key: none yet */
    bool own;                        /* without a record: the operator made it */
    int64_t now_s;
    /* of the step and of the CA that is recorded */
    bool followed; /* every proxy acknowledged the bundle, or holds a certificate by the CA */
    int64_t step_s, life_s; /* least and longest time of a step */
    const char *request;    /* for another root; "" */
    unsigned percent;       /* of its life after which an own root is changed; 0: never */
};
enum rotation_act {
    ROTATION_KEEP,
    ROTATION_WRITE, /* *ret is the record from now on */
    ROTATION_MAKE,  /* a new root is due: make one, then rotation_begin */
};
/* *ret is written with ROTATION_WRITE only (rotation_fini). ERR_NOMEM. */
int rotation_plan(const struct rotation_seen *seen, enum rotation_act *ret_act,
                  struct rotation *ret, struct err *err);
/* The record of a rotation to `next` that begins now. */
int rotation_begin(const struct rotation_seen *seen, const struct signer_ca *next, bool made,
                   struct rotation *ret, struct err *err);
/* Civil time at which an own root is changed by itself; 0: never. */
int64_t rotation_due_s(const struct signer_ca *ca, unsigned percent);

/* What is in force. `desired` is the CA that the record is about. */
/* The roots that everybody is to trust; NULL: out of memory. */
char *rotation_bundle(const struct rotation *r, const struct signer_ca *desired);
/* The CA that signs, into *ret (a copy). */
int rotation_signer(const struct rotation *r, const struct signer_ca *desired,
                    struct signer_ca *ret, struct err *err);
