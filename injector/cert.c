/* SPDX-License-Identifier: Apache-2.0 */
#include "injector/cert.h"

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/mem.h"

enum {
    CHAIN_MAX = 8,
    KEPT = 4, /* replaced pairs; rotations are hours apart and a handshake takes seconds */
    BOOT_LIFETIME_S = 365 * 24 * 3600,
};

struct pair {
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned n;
    gnutls_privkey_t key;
    int64_t expiry_s;
};
struct cert {
    pthread_mutex_t lock;
    struct pair *now, *old[KEPT];
    unsigned next_old;
    atomic_bool ready;
    atomic_llong expiry_s;
};

static _Atomic(struct cert *) served;

static int gnutls_err(struct err *err, int rc, const char *what)
{
    return err_set(err, rc == GNUTLS_E_MEMORY_ERROR ? ERR_NOMEM : ERR_INVALID, "%s: %s", what,
                   gnutls_strerror(rc));
}

static void pair_free(struct pair *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < p->n; i++)
        gnutls_pcert_deinit(&p->chain[i]);
    if (p->key)
        gnutls_privkey_deinit(p->key);
    mem_free(p);
}

static void pair_freep(struct pair **p)
{
    pair_free(*p);
}

static gnutls_datum_t datum(struct slice s)
{
    return (gnutls_datum_t){(unsigned char *)(uintptr_t)s.p, (unsigned)s.len};
}

/* Does the key belong to the leaf: compare the key ids (a hash of the public key). */
static int pair_check(const struct pair *p, gnutls_x509_crt_t leaf, struct err *err)
{
    unsigned char a[32], b[32];
    size_t an = sizeof a, bn = sizeof b;
    gnutls_pubkey_t pub;
    int rc = gnutls_pubkey_init(&pub);

    if (rc < 0)
        return gnutls_err(err, rc, "tls.key");
    if ((rc = gnutls_pubkey_import_privkey(pub, p->key, 0, 0)) == 0)
        rc = gnutls_pubkey_get_key_id(pub, GNUTLS_KEYID_USE_SHA256, a, &an);
    gnutls_pubkey_deinit(pub);
    if (rc == 0)
        rc = gnutls_x509_crt_get_key_id(leaf, GNUTLS_KEYID_USE_SHA256, b, &bn);
    if (rc < 0)
        return gnutls_err(err, rc, "tls.key");
    if (an != bn || memcmp(a, b, an) != 0)
        return err_set(err, ERR_INVALID, "tls.key does not belong to tls.crt");
    return 0;
}

static int pair_leaf(struct pair *p, struct slice chain_pem, struct err *err)
{
    gnutls_x509_crt_t list[CHAIN_MAX];
    unsigned n = CHAIN_MAX;
    gnutls_datum_t pem = datum(chain_pem);
    int rc = gnutls_x509_crt_list_import(list, &n, &pem, GNUTLS_X509_FMT_PEM, 0);
    if (rc <= 0)
        return rc < 0 ? gnutls_err(err, rc, "tls.crt")
                      : err_set(err, ERR_INVALID, "tls.crt holds no certificate");
    p->expiry_s = gnutls_x509_crt_get_expiration_time(list[0]);
    int ok = pair_check(p, list[0], err);
    for (int i = 0; i < rc; i++)
        gnutls_x509_crt_deinit(list[i]);
    return ok;
}

static int pair_new(struct slice chain_pem, struct slice key_pem, struct pair **ret,
                    struct err *err)
{
    CLEANUP(pair_freep) struct pair *p = mem_zalloc(sizeof *p);
    gnutls_datum_t chain = datum(chain_pem), key = datum(key_pem);
    unsigned n = CHAIN_MAX;
    int rc;

    if (!p)
        return err_set(err, ERR_NOMEM, "certificate");
    if ((rc = gnutls_privkey_init(&p->key)) < 0 ||
        (rc = gnutls_privkey_import_x509_raw(p->key, &key, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0)
        return gnutls_err(err, rc, "tls.key");
    if (pair_leaf(p, chain_pem, err) < 0)
        return -1;
    if ((rc = gnutls_pcert_list_import_x509_raw(p->chain, &n, &chain, GNUTLS_X509_FMT_PEM, 0)) < 0)
        return gnutls_err(err, rc, "tls.crt");
    p->n = n;
    *ret = TAKE(p);
    return 0;
}

/* --- the certificate of the first moments --------------------------------------------------------
 */
static int boot_sign(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, int64_t now_s)
{
    unsigned char serial[16] = {0};
    static const char name[] = "tulle-injector (no certificate yet)";
    int rc;
    if ((rc = gnutls_x509_privkey_generate(
             key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0)) < 0 ||
        (rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial)) < 0)
        return rc;
    serial[0] &= 0x7f;
    serial[0] |= 0x01;
    if ((rc = gnutls_x509_crt_set_version(crt, 3)) < 0 ||
        (rc = gnutls_x509_crt_set_serial(crt, serial, sizeof serial)) < 0 ||
        (rc = gnutls_x509_crt_set_activation_time(crt, (time_t)(now_s - 3600))) < 0 ||
        (rc = gnutls_x509_crt_set_expiration_time(crt, (time_t)(now_s + BOOT_LIFETIME_S))) < 0 ||
        (rc = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                            sizeof name - 1)) < 0 ||
        (rc = gnutls_x509_crt_set_key(crt, key)) < 0)
        return rc;
    return gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
}

static int boot_pair(int64_t now_s, struct pair **ret, struct err *err)
{
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t chain = {0}, pem = {0};
    int rc, ok = -1;

    if ((rc = gnutls_x509_crt_init(&crt)) < 0 || (rc = gnutls_x509_privkey_init(&key)) < 0 ||
        (rc = boot_sign(crt, key, now_s)) < 0 ||
        (rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &chain)) < 0 ||
        (rc = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem)) < 0)
        gnutls_err(err, rc, "certificate of the start");
    else
        ok = pair_new(slice_of(chain.data, chain.size), slice_of(pem.data, pem.size), ret, err);
    if (pem.data)
        gnutls_memset(pem.data, 0, pem.size);
    gnutls_free(chain.data);
    gnutls_free(pem.data);
    if (key)
        gnutls_x509_privkey_deinit(key);
    if (crt)
        gnutls_x509_crt_deinit(crt);
    return ok;
}

/* --- the store -------------------------------------------------------------------------------- */
int cert_new(int64_t now_wall_s, struct cert **ret, struct err *err)
{
    struct cert *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "certificate");
    pthread_mutex_init(&c->lock, NULL);
    if (boot_pair(now_wall_s, &c->now, err) < 0) {
        cert_free(c);
        return -1;
    }
    *ret = c;
    return 0;
}

void cert_free(struct cert *c)
{
    if (!c)
        return;
    pair_free(c->now);
    for (unsigned i = 0; i < KEPT; i++)
        pair_free(c->old[i]);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

int cert_set(struct cert *c, struct slice chain_pem, struct slice key_pem, struct err *err)
{
    struct pair *p = NULL;
    if (pair_new(chain_pem, key_pem, &p, err) < 0)
        return -1;
    pthread_mutex_lock(&c->lock);
    pair_free(c->old[c->next_old]);
    c->old[c->next_old] = c->now;
    c->next_old = (c->next_old + 1) % KEPT;
    c->now = p;
    atomic_store(&c->expiry_s, p->expiry_s);
    atomic_store(&c->ready, true);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

bool cert_ready(const struct cert *c)
{
    return atomic_load(&c->ready);
}

int64_t cert_expiry(const struct cert *c)
{
    return atomic_load(&c->expiry_s);
}

void cert_serve(struct cert *c)
{
    atomic_store(&served, c);
}

int cert_retrieve(gnutls_session_t session, const gnutls_datum_t *req_ca_dn, int nreqs,
                  const gnutls_pk_algorithm_t *pk_algos, int pk_algos_length,
                  gnutls_pcert_st **pcert, unsigned int *pcert_length, gnutls_privkey_t *pkey)
{
    struct cert *c = atomic_load(&served);
    (void)session, (void)req_ca_dn, (void)nreqs, (void)pk_algos, (void)pk_algos_length;
    if (!c)
        return -1;
    pthread_mutex_lock(&c->lock);
    *pcert = c->now->chain;
    *pcert_length = c->now->n;
    *pkey = c->now->key;
    pthread_mutex_unlock(&c->lock);
    return 0;
}
