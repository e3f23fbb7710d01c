/* SPDX-License-Identifier: Apache-2.0 */
/* Keys on elliptic curves by the shorter of OpenSSL's two ways.
 *
 * OpenSSL 3.0 and 3.1 read the public key of every certificate through a chain of decoders that is
 * put together anew each time: 1.7 million instructions for one P-256 key, more than all else that
 * a handshake does. The way that it had before is still there and is taken for a key type that an
 * engine claims. This engine claims EC keys and hands out OpenSSL's own methods for them; nothing
 * else changes. Later releases remember their decoders and need none of this. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/ec.h>
#include <openssl/engine.h>
#include <openssl/evp.h>

#include "lib/tls/tls_int.h"

#if OPENSSL_VERSION_NUMBER < 0x30200000L && !defined(OPENSSL_NO_ENGINE)

static bool claimed;

static int methods(ENGINE *e, EVP_PKEY_METHOD **ret, const int **ret_ids, int id)
{
    static const int ids[] = {EVP_PKEY_EC};

    (void)e;
    if (!ret) {
        *ret_ids = ids;
        return N_OF(ids);
    }
    *ret = id == EVP_PKEY_EC ? (EVP_PKEY_METHOD *)EVP_PKEY_meth_find(EVP_PKEY_EC) : NULL;
    return *ret != NULL;
}

void tls_ec_direct(void)
{
    ENGINE *e = ENGINE_new();

    claimed = e && ENGINE_set_id(e, "tulle-ec") && ENGINE_set_name(e, "EC keys, directly") &&
              ENGINE_set_pkey_meths(e, methods) && ENGINE_set_default_pkey_meths(e);
    ENGINE_free(e);
}

/* The older methods sign certificates with keys of the older form alone. */
EVP_PKEY *tls_ec_key(EVP_PKEY *key)
{
    EC_KEY *ec;
    EVP_PKEY *plain;

    if (!claimed || !key || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
        return key;
    ec = EVP_PKEY_get1_EC_KEY(key);
    plain = EVP_PKEY_new();
    EVP_PKEY_free(key);
    if (ec && plain && EVP_PKEY_assign_EC_KEY(plain, ec) == 1)
        return plain;
    EC_KEY_free(ec);
    EVP_PKEY_free(plain);
    return NULL;
}

#else

void tls_ec_direct(void)
{
}

EVP_PKEY *tls_ec_key(EVP_PKEY *key)
{
    return key;
}

#endif
