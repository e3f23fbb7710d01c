/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/err.h>

#include "lib/base/mem.h"
#include "lib/tls/tls_int.h"

int tls_peer_of(const X509 *cert, struct tls_peer *ret)
{
    struct tls_peer peer = {.known = true, .end_s = tls_cert_end_s(cert)};
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
