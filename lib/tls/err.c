/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_SUPPRESS_DEPRECATED /* the only functions that load texts one library at a time */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sslerr.h>
#include <stdio.h>

#include "lib/tls/tls_int.h"

static pthread_once_t texts_once = PTHREAD_ONCE_INIT;

/* A lean process has no texts until the first error. */
static void texts_load(void)
{
    ERR_load_ERR_strings();
    ERR_load_SSL_strings();
    ERR_load_X509_strings();
    ERR_load_X509V3_strings();
    ERR_load_PEM_strings();
    ERR_load_ASN1_strings();
    ERR_load_EVP_strings();
    ERR_load_EC_strings();
    ERR_load_RSA_strings();
}

void tls_reason(char *ret, size_t cap)
{
    if (tls_is_lean())
        pthread_once(&texts_once, texts_load);
    unsigned long e = ERR_get_error(); /* the first is the nearest to the cause */
    const char *text = e ? ERR_reason_error_string(e) : NULL;
    int reason = ERR_GET_REASON(e);

    ret[0] = '\0';
    if (e && ERR_GET_LIB(e) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET &&
        reason <= SSL_AD_REASON_OFFSET + 255)
        snprintf(ret, cap, "peer sent alert: %s",
                 SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
    else if (text)
        snprintf(ret, cap, "%s", text);
    else if (e)
        snprintf(ret, cap, "OpenSSL error %08lx", e);
    ERR_clear_error();
}

int tls_err(struct err *err, enum err_code code, const char *what)
{
    char reason[128];

    if (ERR_GET_REASON(ERR_peek_error()) == ERR_R_MALLOC_FAILURE)
        code = ERR_NOMEM;
    tls_reason(reason, sizeof reason);
    return err_set(err, code, reason[0] ? "%s: %s" : "%s", what, reason);
}

bool tls_pem_ended(void)
{
    unsigned long e = ERR_peek_last_error();
    bool ended = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;

    ERR_clear_error();
    return ended;
}
