/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and certificates, with OpenSSL cut down to what TLS needs; and that it is cut down. */
#include <openssl/evp.h>

#include "lib/tls/tls.h"
#include "tests/unit/lib/tls/test_x509.c"

__attribute__((constructor)) static void lean_first(void)
{
    static const char *const gone[] = {"MD5", "SM3", "BLAKE2B-512", "SHAKE-256"};
    struct err err = {0};
    int strangers = 0;

    if (tls_lean(&err) < 0 || !tls_is_lean()) {
        fprintf(stderr, "not lean: %s\n", err.msg);
        abort();
    }
    for (size_t i = 0; i < N_OF(gone); i++) {
        EVP_MD *md = EVP_MD_fetch(NULL, gone[i], NULL);
        strangers += md != NULL;
        EVP_MD_free(md);
    }
    if (strangers) {
        fprintf(stderr, "%d algorithms are there that should not be\n", strangers);
        abort();
    }
}
