/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, signing requests and certificates (RFC 5280, RFC 2986, SPIFFE X.509-SVID). PEM in, PEM out.
 * Key material is wiped before release. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/err.h"

enum {
    X509_SPIFFE_MAX =
        512,             /* a namespace and a service account of Kubernetes at their longest fit */
    X509_SPKI_MAX = 600, /* RSA 4096 fits; longer keys are refused */
};

/* A fresh P-256 key as PKCS#8 PEM (heap, tls_pem_free wipes it). */
int x509_key_new(char **ret_pem, struct err *err);
void tls_pem_free(char *pem);
void tls_pem_freep(char **pem);

/* A PKCS#10 request for `spiffe_id` as URI SAN, signed by the key. */
int x509_csr_new(const char *key_pem, const char *spiffe_id, char **ret_pem, struct err *err);

/* A checked request: its signature is right, its key is P-256, P-384, Ed25519 or RSA of 2048 to
 * 4096 bits, and it asks for no more than one URI SAN, which is a SPIFFE id. Other names in it are
 * not looked at: the issuer decides what stands in the certificate. */
struct x509_csr_info {
    char spiffe_id[X509_SPIFFE_MAX];   /* "" when it asked for none; valid otherwise */
    unsigned char spki[X509_SPKI_MAX]; /* DER SubjectPublicKeyInfo */
    size_t spki_len;
};
int x509_csr_check(struct slice csr_pem, struct x509_csr_info *ret, struct err *err);

/* Self-signed CA (P-256, pathlen 0, keyCertSign+cRLSign), subject O=trust domain. */
int x509_ca_new(const char *trust_domain, int64_t wall_ns, int64_t life_s, char **ret_key_pem,
                char **ret_cert_pem, struct err *err);

/* What to issue: a leaf (CA:FALSE, digitalSignature, empty subject, critical SAN) with a random
 * 128-bit serial, that never outlives the CA. The subject's key is judged as by x509_csr_check. */
struct x509_issue {
    const char *ca_key_pem, *ca_cert_pem;
    struct slice spki;      /* public key of the subject, DER */
    const char *spiffe_id;  /* URI SAN; NULL when dns is used */
    const char *const *dns; /* NULL-terminated DNS SANs; NULL when none */
    int64_t wall_ns;        /* now; notBefore is two minutes earlier (clock skew) */
    int64_t life_s;
    bool server, client; /* extended key usage */
};
int x509_issue(const struct x509_issue *in, char **ret_cert_pem, struct err *err);
/* DER SubjectPublicKeyInfo of a private key. */
int x509_key_spki(const char *key_pem, unsigned char *ret, size_t cap, size_t *ret_len,
                  struct err *err);

struct x509_cert_info {
    char spiffe_id[X509_SPIFFE_MAX]; /* the URI SAN; "" when there is none or more than one */
    char serial[64];                 /* hex */
    char subject[128];
    int64_t not_before_ns, not_after_ns; /* civil time */
    unsigned char sha256[32];            /* of the DER, as tools show fingerprints */
    uint32_t key_id, issuer_key_id; /* first 4 bytes of subject and authority key identifier (RFC
                                       5280 4.2.1.2, 4.2.1.1); 0 when it has none */
    bool is_ca;
};
/* First certificate of a PEM text. */
int x509_cert_info(struct slice pem, struct x509_cert_info *ret, struct err *err);
/* Does the certificate lead, perhaps by way of `chain`, to one of `roots`? All PEM, `chain` may be
 * empty. Times are not looked at. */
bool x509_anchored(struct slice cert, struct slice chain, struct slice roots);
/* Number of certificates in a PEM bundle; -1 when one does not parse. */
int x509_bundle_count(struct slice pem);
/* 32 bytes SHA-256. */
void tls_sha256(struct slice in, unsigned char ret[32]);
