/* SPDX-License-Identifier: Apache-2.0 */
/* Names of a server's certificate against those that a policy accepts. */
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "lib/tls/tls_int.h"

static bool has_uri(X509 *cert, struct slice want)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool found = false;

    for (int i = 0; all && i < sk_GENERAL_NAME_num(all) && !found; i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(all, i);

        if (n->type == GEN_URI)
            found = slice_eq(want,
                             slice_of(ASN1_STRING_get0_data(n->d.uniformResourceIdentifier),
                                      (size_t)ASN1_STRING_length(n->d.uniformResourceIdentifier)));
    }
    GENERAL_NAMES_free(all);
    return found;
}

bool tls_cert_serves(X509 *cert, const char *names, size_t len)
{
    const unsigned flags =
        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
    bool found = false;

    for (const char *p = names; p < names + len && !found; p += strlen(p) + 1) {
        struct slice s = slice_str(p);

        found = strstr(p, "://") ? has_uri(cert, s)
                                 : X509_check_ip_asc(cert, p, 0) == 1 ||
                                       X509_check_host(cert, p, s.len, flags, NULL) == 1;
    }
    ERR_clear_error();
    return found;
}
