/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL with only the algorithms that TLS of this century needs.
 *
 * The first time that a program asks OpenSSL for one cipher, it makes an object for every cipher of
 * its default provider, and so for digests, key types, decoders and the rest; each SSL_CTX copies
 * the names of all groups, and texts for 4,000 errors are sorted into a table. In a process that
 * holds a few contexts that is most of its heap.
 *
 * Here a provider of our own stands before the default one and passes on what the lists below name,
 * nothing else. The default provider lives in a library context of its own (it needs one for what
 * it fetches itself), and its functions get the provider context that belongs to them. Only
 * documented functions are used (provider-base(7), OSSL_PROVIDER_query_operation(3)). What is not
 * in the lists does not exist for this process, MD5, DES and the finite-field groups among it. */
#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <strings.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/tls/tls_int.h"

static const struct {
    int operation;
    const char *names; /* the first name that the default provider gives an algorithm */
} wanted[] = {
    {OSSL_OP_DIGEST, "SHA1 SHA2-224 SHA2-256 SHA2-384 SHA2-512"},
    {OSSL_OP_CIPHER, "AES-128-GCM AES-256-GCM ChaCha20-Poly1305 AES-256-CBC"},
    {OSSL_OP_MAC, "HMAC"},
    {OSSL_OP_KDF, "HKDF TLS13-KDF TLS1-PRF"},
    {OSSL_OP_RAND, "HASH-DRBG SEED-SRC"},
    {OSSL_OP_KEYMGMT, "EC RSA RSA-PSS X25519 ED25519 HKDF TLS1-PRF HMAC"},
    {OSSL_OP_KEYEXCH, "ECDH X25519 HKDF TLS1-PRF"},
    {OSSL_OP_SIGNATURE, "ECDSA RSA ED25519 HMAC"},
    {OSSL_OP_DECODER, "DER EC RSA RSA-PSS X25519 ED25519"},
    {OSSL_OP_ENCODER, "EC RSA RSA-PSS X25519 ED25519"},
};
static const char groups[] = "secp256r1 P-256 secp384r1 P-384 secp521r1 P-521 x25519";

static OSSL_LIB_CTX *inner;
static OSSL_PROVIDER *whole, *ours;
static OSSL_ALGORITHM *tables[N_OF(wanted)];

/* Is the first of the names "A:B:1.2.3" in the list "A C"? */
static bool listed(const char *list, const char *names)
{
    size_t n = strcspn(names, ":");

    for (const char *p = list; *p; p += strspn(p, " ")) {
        size_t len = strcspn(p, " ");
        if (len == n && strncasecmp(p, names, n) == 0)
            return true;
        p += len;
    }
    return false;
}

static int table_make(size_t i)
{
    int no_cache = 0;
    const OSSL_ALGORITHM *all =
        OSSL_PROVIDER_query_operation(whole, wanted[i].operation, &no_cache);
    size_t n = 0, at = 0;

    for (const OSSL_ALGORITHM *a = all; a && a->algorithm_names; a++)
        n += listed(wanted[i].names, a->algorithm_names);
    tables[i] = mem_array(n + 1, sizeof *tables[i]); /* the last one ends the list */
    if (!tables[i])
        return -1;
    for (const OSSL_ALGORITHM *a = all; a && a->algorithm_names; a++)
        if (listed(wanted[i].names, a->algorithm_names))
            tables[i][at++] = *a;
    OSSL_PROVIDER_unquery_operation(whole, wanted[i].operation, all);
    return n > 0 ? 0 : -1;
}

/* --- the provider -------------------------------------------------------------------------------
 */

static const OSSL_ALGORITHM *lean_query(void *provctx, int operation, int *no_cache)
{
    (void)provctx;
    *no_cache = 0;
    for (size_t i = 0; i < N_OF(wanted); i++)
        if (wanted[i].operation == operation)
            return tables[i];
    return NULL;
}

struct capability {
    OSSL_CALLBACK *cb;
    void *arg;
};

static int group_pass(const OSSL_PARAM params[], void *arg)
{
    const struct capability *c = arg;
    const OSSL_PARAM *name = OSSL_PARAM_locate_const(params, OSSL_CAPABILITY_TLS_GROUP_NAME);

    if (name && name->data_type == OSSL_PARAM_UTF8_STRING && !listed(groups, name->data))
        return 1;
    return c->cb(params, c->arg);
}

static int lean_capabilities(void *provctx, const char *capability, OSSL_CALLBACK *cb, void *arg)
{
    struct capability c = {cb, arg};

    (void)provctx;
    return OSSL_PROVIDER_get_capabilities(whole, capability, group_pass, &c);
}

static const OSSL_PARAM *lean_gettable(void *provctx)
{
    (void)provctx;
    return OSSL_PROVIDER_gettable_params(whole);
}

static int lean_get(void *provctx, OSSL_PARAM params[])
{
    (void)provctx;
    return OSSL_PROVIDER_get_params(whole, params);
}

static int lean_provider(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))lean_query},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))lean_capabilities},
        {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))lean_gettable},
        {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))lean_get},
        {0, NULL},
    };

    (void)handle, (void)in;
    *out = functions;
    *provctx = OSSL_PROVIDER_get0_provider_ctx(whole);
    return 1;
}

/* --- switching over ------------------------------------------------------------------------------
 */

static bool lean;

bool tls_is_lean(void)
{
    return lean;
}

/* Tables of names from before providers: what verifies certificates finds digests by them. */
static int names_add(void)
{
    return EVP_add_digest(EVP_sha1()) && EVP_add_digest(EVP_sha224()) &&
           EVP_add_digest(EVP_sha256()) && EVP_add_digest(EVP_sha384()) &&
           EVP_add_digest(EVP_sha512());
}

int tls_lean(struct err *err)
{
    static bool tried;

    if (tried)
        return lean ? 0 : err_set(err, ERR_INTERNAL, "OpenSSL is in use already");
    tried = true;
    if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS |
                                OPENSSL_INIT_NO_ADD_ALL_CIPHERS | OPENSSL_INIT_NO_ADD_ALL_DIGESTS,
                            NULL) != 1 ||
        OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_SSL_STRINGS, NULL) !=
            1 ||
        !names_add())
        return tls_err(err, ERR_INTERNAL, "OpenSSL");
    inner = OSSL_LIB_CTX_new();
    /* A generator made of a digest: the one made of a cipher would fetch all ciphers here. */
    if (!inner || RAND_set_DRBG_type(inner, "HASH-DRBG", NULL, NULL, "SHA2-256") != 1)
        return tls_err(err, ERR_INTERNAL, "OpenSSL");
    whole = OSSL_PROVIDER_load(inner, "default");
    if (!whole)
        return tls_err(err, ERR_INTERNAL, "OpenSSL's default provider");
    for (size_t i = 0; i < N_OF(wanted); i++)
        if (table_make(i) < 0)
            return err_set(err, ERR_INTERNAL, "OpenSSL's default provider lacks one of: %s",
                           wanted[i].names);
    if (OSSL_PROVIDER_add_builtin(NULL, "tulle", lean_provider) != 1 ||
        RAND_set_DRBG_type(NULL, "HASH-DRBG", NULL, NULL, "SHA2-256") != 1 ||
        !(ours = OSSL_PROVIDER_load(NULL, "tulle")))
        return tls_err(err, ERR_INTERNAL, "OpenSSL provider");
    tls_ec_direct();
    lean = true;
    return 0;
}
