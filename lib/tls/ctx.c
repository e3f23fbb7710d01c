/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/tls/tls_int.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What the process does must not depend on a configuration file that happens to lie around. */
static void init(void)
{
    OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
}

static void ctx_free(struct tls_ctx *ctx)
{
    if (!ctx)
        return;
    tls_sessions_fini(ctx);
    tls_chains_fini(ctx);
    pthread_mutex_destroy(&ctx->lock);
    SSL_CTX_free(ctx->ssl);
    for (uint32_t i = 0; i < ctx->n_names; i++)
        mem_free(ctx->names[i]);
    mem_free(ctx->names);
    mem_free(ctx->pins);
    mem_free(ctx->alpn);
    mem_free(ctx);
}

static void ctx_freep(struct tls_ctx **ctx)
{
    ctx_free(*ctx);
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void tls_ctx_unref(struct tls_ctx *ctx)
{
    if (ctx && atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) == 1)
        ctx_free(ctx);
}

/* The leaf, then the intermediates, exactly as given: nothing is guessed from the trust anchors. */
static int identity_load(SSL_CTX *ssl, const struct tls_identity *id, int *ret_kind,
                         struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = tls_bio_of(id->chain_pem);
    CLEANUP(tls_keyp) EVP_PKEY *key = NULL;
    CLEANUP(tls_certp)
    X509 *leaf = bio ? PEM_read_bio_X509(bio, NULL, tls_no_password, NULL) : NULL;

    if (!leaf)
        return tls_err(err, ERR_INVALID, "identity chain");
    if (SSL_CTX_use_certificate(ssl, leaf) != 1)
        return tls_err(err, ERR_INVALID, "identity chain: leaf");
    for (X509 *cert; (cert = PEM_read_bio_X509(bio, NULL, tls_no_password, NULL));)
        if (SSL_CTX_add0_chain_cert(ssl, cert) != 1) {
            X509_free(cert);
            return tls_err(err, ERR_INVALID, "identity chain: intermediate");
        }
    if (!tls_pem_ended())
        return err_set(err, ERR_INVALID, "identity chain: a certificate does not parse");
    key = tls_pem_key(id->key_pem, err);
    if (!key)
        return err_wrap(err, "identity key");
    if (X509_check_private_key(leaf, key) != 1) {
        ERR_clear_error();
        return err_set(err, ERR_INVALID, "identity key: does not belong to the certificate");
    }
    if (SSL_CTX_use_PrivateKey(ssl, key) != 1)
        return tls_err(err, ERR_INVALID, "identity key");
    *ret_kind = EVP_PKEY_get_base_id(key);
    return 0;
}

/* Of two with the same kind of key OpenSSL would keep the later one alone. */
static int identities_load(SSL_CTX *ssl, const struct tls_ctx_opts *o, struct err *err)
{
    enum { KINDS = 4 };
    int kinds[KINDS];

    if (o->n_others >= KINDS)
        return err_set(err, ERR_LIMIT, "identity chain: more than %d certificates", KINDS);
    for (uint32_t i = 0; i <= o->n_others; i++) {
        if (identity_load(ssl, i ? &o->others[i - 1] : &o->identity, &kinds[i], err) < 0)
            return -1;
        for (uint32_t k = 0; k < i; k++)
            if (kinds[k] == kinds[i])
                return err_set(err, ERR_INVALID,
                               "identity chain: two certificates have the same kind of key");
    }
    return 0;
}

static int roots_load(SSL_CTX *ssl, struct slice pem, struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = tls_bio_of(pem);
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);

    /* Each certificate in the bundle is an anchor, be it self-signed or not. */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    if (!bio)
        return pem.len ? tls_err(err, ERR_NOMEM, "roots") : 0;
    for (X509 *cert; (cert = PEM_read_bio_X509(bio, NULL, tls_no_password, NULL));) {
        int ok;

        /* Extensions are parsed when first asked for: here, and not in the handshakes of several
         * threads at a time. One that is wrong is the matter of the chain that needs it. */
        X509_check_purpose(cert, -1, 0);
        ok = X509_STORE_add_cert(store, cert);
        X509_free(cert);
        if (ok != 1)
            return tls_err(err, ERR_INVALID, "roots");
    }
    if (!tls_pem_ended())
        return err_set(err, ERR_INVALID, "roots: a certificate does not parse");
    if (sk_X509_OBJECT_num(X509_STORE_get0_objects(store)) <= 0)
        return err_set(err, ERR_INVALID, "roots: no certificate in the text");
    return 0;
}

static int crls_load(SSL_CTX *ssl, struct slice pem, struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = tls_bio_of(pem);
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    unsigned n = 0;

    if (!bio)
        return pem.len ? tls_err(err, ERR_NOMEM, "revocation lists") : 0;
    for (X509_CRL *crl; (crl = PEM_read_bio_X509_CRL(bio, NULL, tls_no_password, NULL)); n++) {
        int ok = X509_STORE_add_crl(store, crl);

        X509_CRL_free(crl);
        if (ok != 1)
            return tls_err(err, ERR_INVALID, "revocation lists");
    }
    if (!tls_pem_ended() || !n)
        return err_set(err, ERR_INVALID, "revocation lists: one does not parse");
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return 0;
}

static int names_copy(struct tls_ctx *ctx, const struct slice *names, uint32_t n, struct err *err)
{
    ctx->names = n ? mem_array(n, sizeof *ctx->names) : NULL;
    for (uint32_t i = 0; ctx->names && i < n; i++)
        if ((ctx->names[i] = mem_strndup(names[i].p, names[i].len)))
            ctx->n_names++;
    return ctx->n_names == n ? 0 : err_set(err, ERR_NOMEM, "names");
}

static int pins_copy(struct tls_ctx *ctx, const struct tls_ctx_opts *o, struct err *err)
{
    uint32_t n = o->n_peer_hashes + o->n_peer_keys;

    if (!n)
        return 0;
    ctx->pins = mem_array(n, sizeof *ctx->pins);
    if (!ctx->pins)
        return err_set(err, ERR_NOMEM, "pins");
    for (uint32_t i = 0; i < n; i++) {
        struct slice s =
            i < o->n_peer_hashes ? o->peer_hashes[i] : o->peer_keys[i - o->n_peer_hashes];

        if (s.len != sizeof ctx->pins[i])
            return err_set(err, ERR_INVALID, "pins: one is not 32 bytes long");
        memcpy(ctx->pins[i], s.p, s.len);
    }
    ctx->n_hashes = o->n_peer_hashes;
    ctx->n_pins = n;
    return 0;
}

/* RFC 7301 3.1 */
static int alpn_load(struct tls_ctx *ctx, const char *const *names, struct err *err)
{
    size_t len = 0, n;

    for (int i = 0; names && names[i]; i++) {
        n = strlen(names[i]);
        if (n == 0 || n > 255)
            return err_set(err, ERR_INVALID, "alpn: a name is 1 to 255 bytes long");
        len += n + 1;
    }
    if (len == 0)
        return 0;
    if (len > 65535)
        return err_set(err, ERR_INVALID, "alpn: too many names");
    ctx->alpn = mem_alloc(len);
    if (!ctx->alpn)
        return err_set(err, ERR_NOMEM, "alpn");
    for (int i = 0; names[i]; i++) {
        n = strlen(names[i]);
        ctx->alpn[ctx->alpn_len] = (unsigned char)n;
        memcpy(ctx->alpn + ctx->alpn_len + 1, names[i], n);
        ctx->alpn_len += (unsigned)n + 1;
    }
    return 0;
}

/* The first of ours that the client knows; without any in common the connection goes on without, as
 * Envoy has it. */
static int alpn_choose(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    const struct tls_ctx *ctx = arg;
    struct slice ours = slice_of(ctx->alpn, ctx->alpn_len), name, offered;

    (void)ssl;
    while (tls_alpn_next(&ours, &name))
        for (struct slice rest = slice_of(in, in_len); tls_alpn_next(&rest, &offered);)
            if (slice_eq(name, offered)) {
                *out = (const unsigned char *)offered.p;
                *out_len = (unsigned char)offered.len;
                return SSL_TLSEXT_ERR_OK;
            }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Tickets and sessions are bound to the roots and to our own certificate. OpenSSL makes ticket keys
 * for each SSL_CTX anew, so this is the second lock on the same door. */
static int session_context(SSL_CTX *ssl, const struct tls_ctx_opts *o)
{
    unsigned char part[4][SHA256_DIGEST_LENGTH] = {{0}}, sum[SHA256_DIGEST_LENGTH];

    tls_sha256(o->roots_pem, part[0]);
    tls_sha256(o->identity.chain_pem, part[1]);
    part[2][0] = o->verify_peer;
    part[2][1] = o->spiffe;
    for (uint32_t i = 0; i < o->n_others; i++) {
        tls_sha256(o->others[i].chain_pem, sum);
        for (size_t k = 0; k < sizeof sum; k++)
            part[3][k] ^= sum[k];
    }
    tls_sha256(slice_of(part, sizeof part), sum);
    return SSL_CTX_set_session_id_context(ssl, sum, sizeof sum);
}

static int protocol_setup(SSL_CTX *ssl, const struct tls_ctx_opts *o)
{
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 (o->resume ? 0 : SSL_OP_NO_TICKET));
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ssl, 1);     /* header and body of a record in one call */
    SSL_CTX_set_security_level(ssl, 2); /* RSA and DH of 2048 bits, no SHA-1 */
    SSL_CTX_set_num_tickets(ssl, o->server && o->resume ? 1 : 0);
    SSL_CTX_set_timeout(ssl, TLS_TICKET_LIFE_S);
    bool old = o->min_version ? o->min_version == 12 : o->tls12;

    return SSL_CTX_set_min_proto_version(ssl, old ? TLS1_2_VERSION : TLS1_3_VERSION) &&
           SSL_CTX_set_max_proto_version(ssl, o->max_version == 12 ? TLS1_2_VERSION
                                                                   : TLS1_3_VERSION) &&
           SSL_CTX_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                         "TLS_CHACHA20_POLY1305_SHA256") &&
           SSL_CTX_set_cipher_list(ssl, o->ciphers ? o->ciphers
                                                   : "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL") &&
           SSL_CTX_set1_groups_list(ssl, old ? "X25519:P-256:P-384" : "X25519:P-256");
}

int tls_ctx_new(const struct tls_ctx_opts *o, struct tls_ctx **ret, struct err *err)
{
    CLEANUP(ctx_freep) struct tls_ctx *ctx = mem_zalloc(sizeof *ctx);
    SSL_CTX *ssl;

    pthread_once(&once, init);
    if (!ctx)
        return err_set(err, ERR_NOMEM, "TLS context");
    atomic_init(&ctx->refs, 1);
    pthread_mutex_init(&ctx->lock, NULL);
    ctx->server = o->server;
    ctx->verify_peer = o->verify_peer;
    ctx->spiffe = o->spiffe;
    ctx->resume = o->resume;
    ctx->own_tickets = o->server && o->resume && o->spiffe && o->verify_peer && !o->peer_optional && !o->tls12;
    ctx->keeps_chains = o->spiffe && !o->crl_pem.len && !o->n_peer_names;
    ctx->ssl = ssl = SSL_CTX_new(o->server ? TLS_server_method() : TLS_client_method());
    if (!ssl || !protocol_setup(ssl, o))
        return tls_err(err, ERR_INTERNAL, "TLS context");
    if (o->identity.chain_pem.len && identities_load(ssl, o, err) < 0)
        return -1;
    if (o->server && !o->identity.chain_pem.len)
        return err_set(err, ERR_INVALID, "identity chain: a server needs one");
    if (crls_load(ssl, o->crl_pem, err) < 0 ||
        names_copy(ctx, o->peer_names, o->n_peer_names, err) < 0 || pins_copy(ctx, o, err) < 0)
        return -1;
    if (roots_load(ssl, o->roots_pem, err) < 0 || alpn_load(ctx, o->alpn, err) < 0)
        return -1;
    int required = o->peer_optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ssl, o->verify_peer ? SSL_VERIFY_PEER | required : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_cert_verify_callback(ssl, tls_verify, ctx);
    if (o->server) {
        if (ctx->own_tickets)
            SSL_CTX_set_num_tickets(ssl, 0);
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_session_ticket_cb(ssl, NULL, tls_ticket_opened, ctx);
        if (ctx->alpn)
            SSL_CTX_set_alpn_select_cb(ssl, alpn_choose, ctx);
        if (!session_context(ssl, o))
            return tls_err(err, ERR_INTERNAL, "TLS context");
    } else {
        SSL_CTX_set_session_cache_mode(ssl, o->resume ? SSL_SESS_CACHE_CLIENT |
                                                            SSL_SESS_CACHE_NO_INTERNAL |
                                                            SSL_SESS_CACHE_NO_AUTO_CLEAR
                                                      : SSL_SESS_CACHE_OFF);
        if (o->resume)
            SSL_CTX_sess_set_new_cb(ssl, tls_new_session);
        if (ctx->alpn && SSL_CTX_set_alpn_protos(ssl, ctx->alpn, ctx->alpn_len) != 0)
            return tls_err(err, ERR_INTERNAL, "alpn");
    }
    *ret = TAKE(ctx);
    return 0;
}
