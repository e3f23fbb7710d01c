/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/tls */
/* What a workload sends to the CA, and certificates as files and peers bring them. The first byte
 * says how the rest is taken: as PEM; as DER of a signing request; as DER of a certificate. A
 * request that is accepted can be signed, and what comes out names what the issuer said, whatever
 * was asked. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/data/base64.h"
#include "lib/data/spiffe.h"
#include "lib/tls/x509.h"

#define NOW (INT64_C(1790000000) * NS_PER_S)
#define ID "spiffe://cluster.local/ns/a/sa/b"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void pem_of(struct slice der, const char *what, struct buf *out)
{
    CLEANUP(buf_freep) struct buf text;
    buf_init(&text, 1 << 20);
    base64_encode(der, BASE64_STD, &text);
    buf_addf(out, "-----BEGIN %s-----\n", what);
    for (size_t i = 0; i < buf_len(&text); i += 64) {
        buf_add_slice(out, slice_head(slice_skip(buf_slice(&text), i), 64));
        buf_add_char(out, '\n');
    }
    buf_addf(out, "-----END %s-----\n", what);
}

static void sign(const struct x509_csr_info *csr)
{
    static char *key, *cert;
    struct x509_cert_info info;
    struct err err = {0};
    char *leaf = NULL;

    if (!key)
        must(x509_ca_new("cluster.local", NOW, 86400, &key, &cert, &err) == 0);
    struct x509_issue in = {.ca_key_pem = key,
                            .ca_cert_pem = cert,
                            .spiffe_id = ID,
                            .spki = slice_of(csr->spki, csr->spki_len),
                            .wall_ns = NOW,
                            .life_s = 3600,
                            .server = true,
                            .client = true};
    must(x509_issue(&in, &leaf, &err) == 0);
    must(x509_cert_info(slice_str(leaf), &info, &err) == 0);
    must(strcmp(info.spiffe_id, ID) == 0 && !info.is_ca);
    tls_pem_free(leaf);
}

static void request(struct slice pem)
{
    struct x509_csr_info csr, again;
    struct spiffe_id id;
    struct err err = {0};

    if (x509_csr_check(pem, &csr, &err) < 0) {
        must(err.code == ERR_INVALID || err.code == ERR_DENIED || err.code == ERR_LIMIT ||
             err.code == ERR_UNSUPPORTED);
        return;
    }
    must(csr.spki_len > 0 && csr.spki_len <= sizeof csr.spki);
    must(!csr.spiffe_id[0] || spiffe_parse(slice_str(csr.spiffe_id), &id) == ERR_OK);
    must(x509_csr_check(pem, &again, &err) == 0 && again.spki_len == csr.spki_len &&
         memcmp(again.spki, csr.spki, csr.spki_len) == 0);
    sign(&csr);
}

static void certificate(struct slice pem)
{
    struct x509_cert_info info;
    struct err err = {0};
    int count = x509_bundle_count(pem);

    if (x509_cert_info(pem, &info, &err) == 0)
        must(memchr(info.spiffe_id, 0, sizeof info.spiffe_id) &&
             memchr(info.subject, 0, sizeof info.subject) &&
             memchr(info.serial, 0, sizeof info.serial));
    else
        must(count < 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(buf_freep) struct buf pem;

    buf_init(&pem, 1 << 21);
    if (n == 0)
        return 0;
    struct slice in = slice_of(p + 1, n - 1);
    switch (p[0] % 3) {
    case 0:
        request(in);
        certificate(in);
        break;
    case 1:
        pem_of(in, "CERTIFICATE REQUEST", &pem);
        request(buf_slice(&pem));
        break;
    default:
        pem_of(in, "CERTIFICATE", &pem);
        certificate(buf_slice(&pem));
    }
    return 0;
}
