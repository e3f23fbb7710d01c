/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/signer_identity.h"

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/tls/x509.h"

enum { CHAIN_MAX = 64 * 1024 };

struct signer_identity {
    struct signer *signer;
    signer_identity_fn *done;
    void *user;
    char *key; /* wiped */
};

static void identity_free(struct signer_identity *id)
{
    tls_pem_free(id->key);
    mem_free(id);
}

static void issued(void *user, const struct slice *chain, size_t n, const struct err *why)
{
    struct signer_identity *id = user;
    CLEANUP(buf_freep) struct buf pem;
    struct err err = {0};

    buf_init(&pem, CHAIN_MAX);
    for (size_t i = 0; i + (n > 1) < n; i++) /* the root is not sent: peers have it */
        buf_add_slice(&pem, chain[i]);
    if (!why && buf_err(&pem) != ERR_OK)
        err_set(&err, buf_err(&pem), "certificate chain");
    id->done(id->user, buf_slice(&pem), slice_str(id->key), why ? why : err.code ? &err : NULL);
    identity_free(id);
}

int signer_identity_ask(struct signer *s, const struct signer_ask *ask, signer_identity_fn *done,
                        void *user, struct signer_identity **ret, struct err *err)
{
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    struct signer_ask with = *ask;
    struct signer_identity *id = mem_zalloc(sizeof *id);

    if (!id)
        return err_set(err, ERR_NOMEM, "own certificate");
    *id = (struct signer_identity){.signer = s, .done = done, .user = user};
    if (x509_key_new(&id->key, err) < 0 ||
        x509_key_spki(id->key, spki, sizeof spki, &len, err) < 0) {
        identity_free(id);
        return -1;
    }
    with.spki = slice_of(spki, len);
    if (signer_issue(s, &with, issued, id, err) < 0) {
        identity_free(id);
        return -1;
    }
    *ret = id;
    return 0;
}

void signer_identity_cancel(struct signer_identity *id)
{
    if (!id)
        return;
    signer_forget(id->signer, id);
    identity_free(id);
}
