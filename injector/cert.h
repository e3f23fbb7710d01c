/* SPDX-License-Identifier: Apache-2.0 */
/* The webhook's certificate, chosen anew for each handshake, so that rotation needs no restart.
 * GnuTLS, because libmicrohttpd's TLS is; nothing else in the tree includes this. Thread-safe.
 * Until a certificate is set, one that is made at the start and signed by itself answers: probes of
 * /healthz work, and the API server refuses it, as it must. */
#pragma once

#include <gnutls/abstract.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

struct cert;
/* `now_wall_s` is seconds since 1970, for the self-signed certificate's validity. */
int cert_new(int64_t now_wall_s, struct cert **ret, struct err *err);
void cert_free(struct cert *c);
/* PEM chain (leaf first) and key; they must belong together. On error the old pair stays. The
 * caller wipes its copy of the key. Pairs that were replaced are kept for a while, as handshakes
 * may still use them. */
int cert_set(struct cert *c, struct slice chain_pem, struct slice key_pem, struct err *err);
/* A pair was set. */
bool cert_ready(const struct cert *c);
/* notAfter of the leaf, seconds since 1970; 0 when none was set. */
int64_t cert_expiry(const struct cert *c);
/* The pair for a handshake: GnuTLS's retrieve callback, with the store given to cert_serve. */
int cert_retrieve(gnutls_session_t session, const gnutls_datum_t *req_ca_dn, int nreqs,
                  const gnutls_pk_algorithm_t *pk_algos, int pk_algos_length,
                  gnutls_pcert_st **pcert, unsigned int *pcert_length, gnutls_privkey_t *pkey);
/* libmicrohttpd hands no user pointer to the callback: one store per process. NULL takes it away.
 */
void cert_serve(struct cert *c);
