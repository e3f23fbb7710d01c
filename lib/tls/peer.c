/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/tls/tls_int.h"

int tls_peer_of(const X509 *cert, struct tls_peer *ret)
{
    struct tls_peer peer = {.known = true, .end_s = tls_cert_end_s(cert), .issuer = tls_cert_issuer(cert)};
    char id[X509_SPIFFE_MAX];
    unsigned len = sizeof peer.hash;

    if (X509_digest(cert, EVP_sha256(), peer.hash, &len) != 1)
        return -1;
    if (tls_cert_spiffe(cert, id) == NULL) {
        peer.spiffe = mem_strdup(id);
        if (!peer.spiffe)
            return -1;
    }
    *ret = peer;
    return 0;
}

bool tls_cert_pinned(X509 *cert, unsigned char (*pins)[32], uint32_t n_hashes, uint32_t n_pins)
{
    unsigned char whole[32], key[32], *der = NULL;
    unsigned len = sizeof whole;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool found = false;

    if (n <= 0 || X509_digest(cert, EVP_sha256(), whole, &len) != 1) {
        OPENSSL_free(der);
        ERR_clear_error();
        return false;
    }
    tls_sha256(slice_of(der, (size_t)n), key);
    OPENSSL_free(der);
    for (uint32_t i = 0; i < n_pins && !found; i++)
        found = memcmp(pins[i], i < n_hashes ? whole : key, sizeof whole) == 0;
    return found;
}

int tls_peer_copy(const struct tls_peer *peer, struct tls_peer *ret)
{
    char *id = peer->spiffe ? mem_strdup(peer->spiffe) : NULL;

    if (peer->spiffe && !id)
        return -1;
    *ret = *peer;
    ret->spiffe = id;
    return 0;
}

void tls_peer_fini(struct tls_peer *peer)
{
    mem_free(peer->spiffe);
    *peer = (struct tls_peer){0};
}

static void sans_free(GENERAL_NAMES **sans)
{
    GENERAL_NAMES_free(*sans);
}

bool tls_cert_names(const X509 *cert, char *const *names, uint32_t n)
{
    CLEANUP(sans_free)
    GENERAL_NAMES *sans = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(sans); i++) {
        const GENERAL_NAME *san = sk_GENERAL_NAME_value(sans, i);
        struct slice s = SLICE_NULL;
        char ip[INET6_ADDRSTRLEN];

        if (san->type == GEN_DNS || san->type == GEN_URI || san->type == GEN_EMAIL) {
            s = slice_of(ASN1_STRING_get0_data(san->d.ia5), (size_t)ASN1_STRING_length(san->d.ia5));
        } else if (san->type == GEN_IPADD) {
            int len = ASN1_STRING_length(san->d.iPAddress);

            if ((len == 4 || len == 16) &&
                inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(san->d.iPAddress),
                          ip, sizeof ip))
                s = slice_str(ip);
        }
        for (uint32_t k = 0; s.len && k < n; k++)
            if (slice_is(s, names[k]))
                return true;
    }
    return false;
}
