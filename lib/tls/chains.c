/* SPDX-License-Identifier: Apache-2.0 */
/* Chains that a context has verified. Verifying one costs a signature per certificate, a fifth of a
 * handshake; the same bytes under the same roots give the same verdict until one of the chain's
 * certificates ends. So the verdict is kept under the bytes' SHA-256, and with it whom the leaf
 * belongs to. A context's roots never change: others are another context. Contexts with revocation
 * lists, whose time is short, and those that look at host names keep nothing. */
#include <openssl/sha.h>

#include "lib/base/mem.h"
#include "lib/tls/tls_int.h"

enum { DER_MAX = 8192 }; /* longer chains are verified each time */

static void chain_free(struct tls_chain *c)
{
    if (c)
        tls_peer_fini(&c->peer);
    mem_free(c);
}

static size_t slot_of(const unsigned char *key)
{
    return key[0] % TLS_CHAINS;
}

bool tls_chain_key(X509_STORE_CTX *store, unsigned char ret[32])
{
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    unsigned char der[DER_MAX], *p = der;

    for (int i = -1; i < sk_X509_num(sent); i++) {
        X509 *cert = i < 0 ? X509_STORE_CTX_get0_cert(store) : sk_X509_value(sent, i);
        int n = i2d_X509(cert, NULL);

        if (n <= 0 || n > der + sizeof der - p || i2d_X509(cert, &p) != n)
            return false;
    }
    tls_sha256(slice_of(der, (size_t)(p - der)), ret);
    return true;
}

bool tls_chain_find(struct tls_ctx *ctx, const unsigned char key[32], int64_t wall_s,
                    struct tls_peer *ret)
{
    const struct tls_chain *c;
    bool found;

    pthread_mutex_lock(&ctx->lock);
    c = ctx->chains ? ctx->chains[slot_of(key)] : NULL;
    found = c && memcmp(c->key, key, sizeof c->key) == 0 && c->from_s <= wall_s &&
            wall_s < c->until_s && tls_peer_copy(&c->peer, ret) == 0;
    pthread_mutex_unlock(&ctx->lock);
    return found;
}

/* OpenSSL takes a certificate for valid in its first and in its last second. */
static void validity(X509_STORE_CTX *store, int64_t *from_s, int64_t *until_s)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);

    *from_s = INT64_MIN;
    *until_s = sk_X509_num(chain) > 0 ? INT64_MAX : INT64_MIN;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        *from_s = MAX(*from_s, tls_cert_begin_s(sk_X509_value(chain, i)));
        *until_s = MIN(*until_s, tls_cert_end_s(sk_X509_value(chain, i)));
    }
}

void tls_chain_keep(struct tls_ctx *ctx, const unsigned char key[32], X509_STORE_CTX *store,
                    const struct tls_peer *peer)
{
    struct tls_chain *c = mem_zalloc(sizeof *c), *old = c;

    if (c && tls_peer_copy(peer, &c->peer) == 0) {
        memcpy(c->key, key, sizeof c->key);
        validity(store, &c->from_s, &c->until_s);
        pthread_mutex_lock(&ctx->lock);
        if (!ctx->chains)
            ctx->chains = mem_zalloc(TLS_CHAINS * sizeof *ctx->chains);
        if (ctx->chains) {
            old = ctx->chains[slot_of(key)];
            ctx->chains[slot_of(key)] = c;
        }
        pthread_mutex_unlock(&ctx->lock);
    }
    chain_free(old);
}

void tls_chains_fini(struct tls_ctx *ctx)
{
    for (size_t i = 0; ctx->chains && i < TLS_CHAINS; i++)
        chain_free(ctx->chains[i]);
    mem_free(ctx->chains);
}
