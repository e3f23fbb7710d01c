/* SPDX-License-Identifier: Apache-2.0 */
/* Where the signer's child keeps the CA and the record of its rotation: Secrets (`cacerts` of the
 * user's, else `tulle-ca`; `tulle-ca-rotation`), files of a folder, or memory alone. Blocking; it
 * turns the loop while the API server thinks. */
#pragma once

#include "lib/kube/client.h"
#include "operator/signer_int.h"

struct signer_store {
    const struct signer_opts *opts;
    struct loop *loop;
    struct kube_config *config;
    struct kube_client *kube;
    struct signer_ca ca; /* in memory alone */
    char *record;        /* the same */
    char from[300];      /* where the CA was found, for logs */
    char version[64];    /* resourceVersion of the record; "" when there is none */
    char ca_version[64];
    bool users; /* the CA comes from `cacerts` */
};
/* The CA as it is stored. ERR_NOT_FOUND: there is none. *ret_own: it looks like one that the
 * operator made. */
int store_ca_load(struct signer_store *s, struct signer_ca *ret, bool *ret_own, struct err *err);
/* The first one: ERR_EXISTS when another replica was faster. */
int store_ca_create(struct signer_store *s, const struct signer_ca *ca, struct err *err);
/* Another one in the place of the one that was loaded last; ERR_CONFLICT: it has changed since. */
int store_ca_replace(struct signer_store *s, const struct signer_ca *ca, struct err *err);
/* ERR_NOT_FOUND: none. The text may hold a key (tls_pem_free). */
int store_record_load(struct signer_store *s, char **ret, struct err *err);
int store_record_save(struct signer_store *s, const char *text, struct err *err);
/* What stands in the way of a first root: proxies that trust another one. *ret_trust_domain gets
 * the mesh's. 0: nothing. */
int store_may_create(struct signer_store *s, char ret_trust_domain[256], struct err *err);
