/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate authority and identities for tests: good ones by lib/tls/x509.h, bad ones by
 * OpenSSL directly. */
#pragma once

#include <check.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/tls/tls_int.h"

#define WALL_NS (INT64_C(1790000000) * NS_PER_S) /* 2026-09-21 */

struct pki_ca {
    char *key, *cert;
};
struct pki_id {
    char *key, *chain;
};

static inline struct pki_ca pki_ca(const char *trust_domain)
{
    struct pki_ca ca;
    struct err err = {0};

    ck_assert_msg(x509_ca_new(trust_domain, WALL_NS, 3650 * 86400, &ca.key, &ca.cert, &err) == 0,
                  "%s", err.msg);
    return ca;
}

static inline struct pki_id pki_issue(const struct pki_ca *ca, struct x509_issue in)
{
    struct pki_id id = {0};
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    struct err err = {0};

    ck_assert_msg(x509_key_new(&id.key, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(x509_key_spki(id.key, spki, sizeof spki, &len, &err), 0);
    in.ca_key_pem = ca->key;
    in.ca_cert_pem = ca->cert;
    in.spki = slice_of(spki, len);
    in.wall_ns = in.wall_ns ? in.wall_ns : WALL_NS;
    in.life_s = in.life_s ? in.life_s : 86400;
    ck_assert_msg(x509_issue(&in, &id.chain, &err) == 0, "%s", err.msg);
    return id;
}

static inline struct pki_id pki_workload(const struct pki_ca *ca, const char *spiffe_id)
{
    return pki_issue(ca,
                     (struct x509_issue){.spiffe_id = spiffe_id, .server = true, .client = true});
}

/* A certificate as OpenSSL's configuration text says, whether it makes sense or not. */
/* A key on the curve of this name ("P-256", ...). */
static inline EVP_PKEY *pki_ec_key(const char *curve)
{
    static const char *const names[][2] = {{"P-224", "secp224r1"},
                                           {"P-256", "prime256v1"},
                                           {"P-384", "secp384r1"},
                                           {"P-521", "secp521r1"}};

    for (size_t i = 0; i < N_OF(names); i++)
        if (strcmp(curve, names[i][0]) == 0)
            return tls_ec_key(EVP_EC_gen(names[i][1]));
    return NULL;
}
struct pki_odd {
    const char *san, *usage, *ext_usage, *basic;
    const char *curve; /* NULL: P-256; "rsa1024" */
    long from_s, to_s; /* relative to WALL_NS */
    bool self_signed;
};
static inline struct pki_id pki_odd(const struct pki_ca *ca, const struct pki_odd *odd)
{
    BIO *kb = BIO_new_mem_buf(ca->key, -1), *cb = BIO_new_mem_buf(ca->cert, -1);
    EVP_PKEY *ca_key = tls_ec_key(PEM_read_bio_PrivateKey(kb, NULL, NULL, NULL));
    X509 *ca_cert = PEM_read_bio_X509(cb, NULL, NULL, NULL), *x = X509_new();
    EVP_PKEY *key = odd->curve && strcmp(odd->curve, "rsa1024") == 0
                        ? EVP_RSA_gen(1024)
                        : pki_ec_key(odd->curve ? odd->curve : "P-256");
    const struct {
        int nid;
        const char *text;
    } exts[] = {{NID_subject_alt_name, odd->san},
                {NID_key_usage, odd->usage},
                {NID_ext_key_usage, odd->ext_usage},
                {NID_basic_constraints, odd->basic}};
    struct pki_id id = {0};
    char *p;
    long n;

    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    ASN1_TIME_set(X509_getm_notBefore(x), WALL_NS / NS_PER_S + odd->from_s);
    ASN1_TIME_set(X509_getm_notAfter(x), WALL_NS / NS_PER_S + (odd->to_s ? odd->to_s : 3600));
    X509_set_pubkey(x, key);
    X509_set_issuer_name(x, X509_get_subject_name(odd->self_signed ? x : ca_cert));
    for (size_t i = 0; i < sizeof exts / sizeof exts[0]; i++) {
        if (!exts[i].text)
            continue;
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, exts[i].nid, exts[i].text);
        ck_assert_msg(e != NULL, "%s", exts[i].text);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    ck_assert_int_gt(X509_sign(x, odd->self_signed ? key : ca_key, EVP_sha256()), 0);
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(out, x);
    n = BIO_get_mem_data(out, &p);
    id.chain = strndup(p, (size_t)n);
    BIO_free(out);
    out = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    n = BIO_get_mem_data(out, &p);
    id.key = strndup(p, (size_t)n);
    BIO_free(out);
    BIO_free(kb);
    BIO_free(cb);
    X509_free(x);
    X509_free(ca_cert);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
    return id;
}

static inline void pki_ca_free(struct pki_ca *ca)
{
    tls_pem_freep(&ca->key);
    tls_pem_freep(&ca->cert);
}
static inline void pki_id_free(struct pki_id *id)
{
    tls_pem_freep(&id->key);
    tls_pem_freep(&id->chain);
}
