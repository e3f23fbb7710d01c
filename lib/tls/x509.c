/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tls/x509.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/spiffe.h"
#include "lib/tls/tls_int.h"

enum { SKEW_S = 120, SERIAL_BYTES = 16, DAY_S = 86400 };

/* --- PEM and memory ------------------------------------------------------------------------------
 */
void tls_pem_free(char *pem)
{
    if (pem)
        OPENSSL_cleanse(pem, strlen(pem));
    mem_free(pem);
}

void tls_pem_freep(char **pem)
{
    tls_pem_free(*pem);
    *pem = NULL;
}

static int bio_take(BIO *bio, char **ret, struct err *err)
{
    char *p = NULL;
    long n = BIO_get_mem_data(bio, &p);
    char *text = n > 0 ? mem_strndup(p, (size_t)n) : NULL;

    if (!text)
        return err_set(err, ERR_NOMEM, "PEM text");
    *ret = text;
    return 0;
}

BIO *tls_bio_of(struct slice s)
{
    return s.len > 0 && s.len <= INT32_MAX ? BIO_new_mem_buf(s.p, (int)s.len) : NULL;
}

/* An encrypted key would make OpenSSL ask at a terminal. */
int tls_no_password(char *buf, int size, int rwflag, void *u)
{
    (void)buf, (void)size, (void)rwflag, (void)u;
    return -1;
}

EVP_PKEY *tls_pem_key(struct slice pem, struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = tls_bio_of(pem);
    EVP_PKEY *key =
        bio ? tls_ec_key(PEM_read_bio_PrivateKey(bio, NULL, tls_no_password, NULL)) : NULL;

    if (!key)
        tls_err(err, ERR_INVALID, "private key");
    return key;
}

X509 *tls_pem_cert(struct slice pem, struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = tls_bio_of(pem);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, tls_no_password, NULL) : NULL;

    if (!cert)
        tls_err(err, ERR_INVALID, "certificate");
    return cert;
}

/* --- keys ----------------------------------------------------------------------------------------
 */
static int key_pem(EVP_PKEY *key, char **ret_pem, struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */

    if (!bio || !PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL))
        return tls_err(err, ERR_INTERNAL, "writing a private key");
    return bio_take(bio, ret_pem, err);
}

int x509_key_new(char **ret_pem, struct err *err)
{
    CLEANUP(tls_keyp) EVP_PKEY *key = tls_ec_key(EVP_EC_gen("prime256v1"));

    if (!key)
        return tls_err(err, ERR_INTERNAL, "making a private key");
    return key_pem(key, ret_pem, err);
}

/* Which keys may carry an identity. */
static int key_judge(EVP_PKEY *key, struct err *err)
{
    char group[32];

    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_ED25519:
        return 0;
    case EVP_PKEY_EC:
        if (EVP_PKEY_get_group_name(key, group, sizeof group, NULL) &&
            (strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0))
            return 0;
        return err_set(err, ERR_INVALID, "public key: the curve is neither P-256 nor P-384");
    case EVP_PKEY_RSA:
        if (EVP_PKEY_get_bits(key) >= 2048 && EVP_PKEY_get_bits(key) <= 4096)
            return 0;
        return err_set(err, ERR_INVALID, "public key: RSA of %d bits (2048 to 4096 are taken)",
                       EVP_PKEY_get_bits(key));
    default:
        return err_set(err, ERR_INVALID, "public key: neither P-256, P-384, Ed25519 nor RSA");
    }
}

static int spki_of(EVP_PKEY *key, unsigned char *ret, size_t cap, size_t *ret_len, struct err *err)
{
    int n = i2d_PUBKEY(key, NULL);
    unsigned char *p = ret;

    if (n <= 0)
        return tls_err(err, ERR_INVALID, "public key");
    if ((size_t)n > cap)
        return err_set(err, ERR_LIMIT, "public key of %d bytes", n);
    *ret_len = (size_t)i2d_PUBKEY(key, &p);
    return 0;
}

int x509_key_spki(const char *pem, unsigned char *ret, size_t cap, size_t *ret_len, struct err *err)
{
    CLEANUP(tls_keyp) EVP_PKEY *key = tls_pem_key(slice_str(pem), err);

    return key ? spki_of(key, ret, cap, ret_len, err) : -1;
}

/* RFC 8032: Ed25519 signs the message itself. */
static const EVP_MD *digest_for(EVP_PKEY *key)
{
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

/* --- names ---------------------------------------------------------------------------------------
 */
static void names_free(GENERAL_NAMES **names)
{
    GENERAL_NAMES_free(*names);
}

static void extensions_free(STACK_OF(X509_EXTENSION) * *exts)
{
    sk_X509_EXTENSION_pop_free(*exts, X509_EXTENSION_free);
}

/* The one URI among the names: 1, 0 when there is none, -1 when there are several. Borrows. */
static int uri_of(const GENERAL_NAMES *names, struct slice *ret)
{
    int found = 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_URI)
            continue;
        if (found)
            return -1;
        *ret = slice_of(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
                        (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier));
        found = 1;
    }
    return found;
}

/* SPIFFE-ID 2: the id of a workload, which has a path. */
static bool spiffe_ok(struct slice id)
{
    struct spiffe_id parts;

    return id.len < X509_SPIFFE_MAX && spiffe_parse(id, &parts) == ERR_OK && parts.path.len > 0;
}

const char *tls_cert_spiffe(const X509 *cert, char ret[X509_SPIFFE_MAX])
{
    int crit = 0, n;
    CLEANUP(names_free)
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &crit, NULL);
    struct slice uri;

    ret[0] = '\0';
    if (!names)
        return crit == -1 ? "certificate has no subject alternative name"
                          : "certificate's subject alternative name is malformed";
    n = uri_of(names, &uri);
    if (n == 0)
        return "certificate has no URI name, so no SPIFFE id";
    if (n < 0)
        return "certificate has more than one URI name";
    if (!spiffe_ok(uri))
        return "certificate's URI name is not a SPIFFE id of a workload";
    slice_copy(uri, ret, X509_SPIFFE_MAX);
    return NULL;
}

static GENERAL_NAMES *names_new(const char *uri, const char *const *dns)
{
    CLEANUP(names_free) GENERAL_NAMES *names = GENERAL_NAMES_new();

    for (int i = 0; names && (uri ? i == 0 : dns && dns[i]); i++) {
        const char *text = uri ? uri : dns[i];
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *value = ASN1_IA5STRING_new();

        if (!name || !value || !ASN1_STRING_set(value, text, -1)) {
            GENERAL_NAME_free(name);
            ASN1_IA5STRING_free(value);
            return NULL;
        }
        GENERAL_NAME_set0_value(name, uri ? GEN_URI : GEN_DNS, value);
        if (!sk_GENERAL_NAME_push(names, name)) {
            GENERAL_NAME_free(name);
            return NULL;
        }
    }
    return TAKE(names);
}

/* --- signing requests (RFC 2986)
 * ------------------------------------------------------------------ */
static void reqp(X509_REQ **req)
{
    X509_REQ_free(*req);
}

int x509_csr_new(const char *key_text, const char *spiffe_id, char **ret_pem, struct err *err)
{
    CLEANUP(tls_keyp) EVP_PKEY *key = tls_pem_key(slice_str(key_text), err);
    CLEANUP(reqp) X509_REQ *req = X509_REQ_new();
    CLEANUP(names_free) GENERAL_NAMES *names = names_new(spiffe_id, NULL);
    CLEANUP(extensions_free) STACK_OF(X509_EXTENSION) *exts = NULL;
    CLEANUP(tls_biop) BIO *bio = BIO_new(BIO_s_mem());

    if (!key)
        return -1;
    if (!req || !names || !bio || !X509_REQ_set_version(req, 0) || !X509_REQ_set_pubkey(req, key) ||
        !X509V3_add1_i2d(&exts, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) ||
        !X509_REQ_add_extensions(req, exts) || !X509_REQ_sign(req, key, digest_for(key)) ||
        !PEM_write_bio_X509_REQ(bio, req))
        return tls_err(err, ERR_INTERNAL, "making a certificate request");
    return bio_take(bio, ret_pem, err);
}

int x509_csr_check(struct slice csr_pem, struct x509_csr_info *ret, struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = tls_bio_of(csr_pem);
    CLEANUP(reqp)
    X509_REQ *req = bio ? PEM_read_bio_X509_REQ(bio, NULL, tls_no_password, NULL) : NULL;
    CLEANUP(extensions_free) STACK_OF(X509_EXTENSION) *exts = NULL;
    CLEANUP(names_free) GENERAL_NAMES *names = NULL;
    struct x509_csr_info info = {0};
    struct slice uri;
    EVP_PKEY *key;
    int n = 0;

    if (!req)
        return tls_err(err, ERR_INVALID, "certificate request");
    key = X509_REQ_get0_pubkey(req);
    if (!key)
        return tls_err(err, ERR_INVALID, "certificate request: public key");
    if (key_judge(key, err) < 0)
        return err_wrap(err, "certificate request");
    if (X509_REQ_verify(req, key) != 1) /* proof that the asker holds the private key */
        return tls_err(err, ERR_INVALID, "certificate request: signature");
    exts = X509_REQ_get_extensions(req);
    names = exts ? X509V3_get_d2i(exts, NID_subject_alt_name, &n, NULL) : NULL;
    if (exts && !names && n != -1)
        return tls_err(err, ERR_INVALID, "certificate request: subject alternative name");
    n = uri_of(names, &uri);
    if (n < 0)
        return err_set(err, ERR_INVALID, "certificate request: more than one URI name");
    if (n > 0 && !spiffe_ok(uri))
        return err_set(err, ERR_INVALID, "certificate request: its URI name is not a SPIFFE id");
    if (n > 0)
        slice_copy(uri, info.spiffe_id, sizeof info.spiffe_id);
    if (spki_of(key, info.spki, sizeof info.spki, &info.spki_len, err) < 0)
        return err_wrap(err, "certificate request");
    *ret = info;
    return 0;
}

/* --- issuing (RFC 5280; X509-SVID 4 and 5)
 * -------------------------------------------------------- */
static int ext_add(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    int ok = ext && X509_add_ext(cert, ext, -1);

    X509_EXTENSION_free(ext);
    return ok;
}

static int serial_random(X509 *cert)
{
    unsigned char bytes[SERIAL_BYTES];
    BIGNUM *n = NULL;
    int ok;

    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return 0;
    bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, not zero, and always 16 bytes long */
    n = BN_bin2bn(bytes, sizeof bytes, NULL);
    ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return ok;
}

static int cert_begin(X509 *cert, EVP_PKEY *key, int64_t from_s, int64_t to_s)
{
    return X509_set_version(cert, X509_VERSION_3) && serial_random(cert) &&
           ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from_s) &&
           ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)to_s) && X509_set_pubkey(cert, key);
}

static int cert_pem(X509 *cert, char **ret, struct err *err)
{
    CLEANUP(tls_biop) BIO *bio = BIO_new(BIO_s_mem());

    if (!bio || !PEM_write_bio_X509(bio, cert))
        return tls_err(err, ERR_INTERNAL, "writing a certificate");
    return bio_take(bio, ret, err);
}

int x509_ca_new(const char *trust_domain, int64_t wall_ns, int64_t life_s, char **ret_key_pem,
                char **ret_cert_pem, struct err *err)
{
    CLEANUP(tls_keyp) EVP_PKEY *key = tls_ec_key(EVP_EC_gen("prime256v1"));
    CLEANUP(tls_certp) X509 *cert = X509_new();
    CLEANUP(tls_pem_freep) char *key_text = NULL;
    int64_t now_s = wall_ns / NS_PER_S;
    X509V3_CTX ctx;

    if (!key || !cert || !cert_begin(cert, key, now_s - SKEW_S, now_s + life_s) ||
        !X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "O", MBSTRING_UTF8,
                                    (const unsigned char *)trust_domain, -1, -1, 0) ||
        !X509_set_issuer_name(cert, X509_get_subject_name(cert)))
        return tls_err(err, ERR_INTERNAL, "making a CA");
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    if (!ext_add(cert, &ctx, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !ext_add(cert, &ctx, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !ext_add(cert, &ctx, NID_subject_key_identifier, "hash") ||
        !X509_sign(cert, key, digest_for(key)))
        return tls_err(err, ERR_INTERNAL, "making a CA");
    if (key_pem(key, &key_text, err) < 0 || cert_pem(cert, ret_cert_pem, err) < 0)
        return -1;
    *ret_key_pem = TAKE(key_text);
    return 0;
}

static int64_t time_s(const ASN1_TIME *t)
{
    struct tm tm;

    return ASN1_TIME_to_tm(t, &tm) ? (int64_t)timegm(&tm) : 0;
}

static int issue_extensions(X509 *cert, X509 *ca, const struct x509_issue *in)
{
    CLEANUP(names_free) GENERAL_NAMES *names = names_new(in->spiffe_id, in->dns);
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
    return names && sk_GENERAL_NAME_num(names) > 0 &&
           ext_add(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE") &&
           ext_add(cert, &ctx, NID_key_usage, "critical,digitalSignature") &&
           (!(in->server || in->client) ||
            ext_add(cert, &ctx, NID_ext_key_usage,
                    in->server && in->client ? "serverAuth,clientAuth"
                    : in->server             ? "serverAuth"
                                             : "clientAuth")) &&
           ext_add(cert, &ctx, NID_subject_key_identifier, "hash") &&
           (!X509_get0_subject_key_id(ca) ||
            ext_add(cert, &ctx, NID_authority_key_identifier, "keyid:always")) &&
           /* RFC 5280 4.2.1.6: critical, as the subject is empty */
           X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT);
}

int x509_issue(const struct x509_issue *in, char **ret_cert_pem, struct err *err)
{
    CLEANUP(tls_keyp) EVP_PKEY *ca_key = tls_pem_key(slice_str(in->ca_key_pem), err);
    CLEANUP(tls_certp) X509 *ca = ca_key ? tls_pem_cert(slice_str(in->ca_cert_pem), err) : NULL;
    const unsigned char *p = (const unsigned char *)in->spki.p;
    CLEANUP(tls_keyp) EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)in->spki.len);
    CLEANUP(tls_certp) X509 *cert = X509_new();
    int64_t now_s = in->wall_ns / NS_PER_S, end_s;

    if (!ca)
        return err_wrap(err, "issuing CA");
    if (X509_check_private_key(ca, ca_key) != 1)
        return tls_err(err, ERR_INVALID, "issuing CA: key and certificate do not belong together");
    if (!key || p != (const unsigned char *)in->spki.p + in->spki.len)
        return tls_err(err, ERR_INVALID, "subject's public key");
    if (key_judge(key, err) < 0)
        return err_wrap(err, "subject");
    if (in->spiffe_id && !spiffe_ok(slice_str(in->spiffe_id)))
        return err_set(err, ERR_INVALID, "not a SPIFFE id of a workload: %.100s", in->spiffe_id);
    end_s = MIN(now_s + in->life_s, time_s(X509_get0_notAfter(ca)));
    if (end_s <= now_s)
        return err_set(err, ERR_INVALID, "issuing CA: its certificate has expired");
    if (!cert || !cert_begin(cert, key, now_s - SKEW_S, end_s) ||
        !X509_set_issuer_name(cert, X509_get_subject_name(ca)) || !issue_extensions(cert, ca, in) ||
        !X509_sign(cert, ca_key, digest_for(ca_key)))
        return tls_err(err, ERR_INTERNAL, "issuing a certificate");
    return cert_pem(cert, ret_cert_pem, err);
}

/* --- reading
 * -------------------------------------------------------------------------------------- */
static void hex_of(const ASN1_INTEGER *n, char *ret, size_t cap)
{
    const unsigned char *p = ASN1_STRING_get0_data(n);
    size_t len = (size_t)ASN1_STRING_length(n);

    ret[0] = '\0';
    for (size_t i = 0; i < len && 2 * i + 2 < cap; i++)
        snprintf(ret + 2 * i, 3, "%02x", p[i]);
}

static uint32_t key_id(const ASN1_OCTET_STRING *id);

int x509_cert_info(struct slice pem, struct x509_cert_info *ret, struct err *err)
{
    CLEANUP(tls_certp) X509 *cert = tls_pem_cert(pem, err);
    CLEANUP(names_free) GENERAL_NAMES *names = NULL;
    CLEANUP(tls_biop) BIO *bio = BIO_new(BIO_s_mem());
    struct x509_cert_info info = {0};
    struct slice uri;
    char *text = NULL;
    long n;

    if (!cert)
        return -1;
    if (!bio || X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) < 0)
        return err_set(err, ERR_NOMEM, "certificate");
    n = BIO_get_mem_data(bio, &text);
    snprintf(info.subject, sizeof info.subject, "%.*s", (int)n, n > 0 ? text : "");
    names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    if (uri_of(names, &uri) == 1)
        slice_copy(uri, info.spiffe_id, sizeof info.spiffe_id);
    hex_of(X509_get0_serialNumber(cert), info.serial, sizeof info.serial);
    info.not_before_ns = time_s(X509_get0_notBefore(cert)) * NS_PER_S;
    info.not_after_ns = time_s(X509_get0_notAfter(cert)) * NS_PER_S;
    info.is_ca = (X509_get_extension_flags(cert) & EXFLAG_CA) != 0;
    info.key_id = key_id(X509_get0_subject_key_id(cert));
    info.issuer_key_id = tls_cert_issuer(cert);
    if (X509_digest(cert, EVP_sha256(), info.sha256, NULL) != 1)
        return tls_err(err, ERR_INTERNAL, "certificate");
    *ret = info;
    return 0;
}

int64_t tls_cert_begin_s(const X509 *cert)
{
    return time_s(X509_get0_notBefore(cert));
}

int64_t tls_cert_end_s(const X509 *cert)
{
    return time_s(X509_get0_notAfter(cert));
}

static uint32_t key_id(const ASN1_OCTET_STRING *id)
{
    const unsigned char *p = id ? ASN1_STRING_get0_data(id) : NULL;

    if (!p || ASN1_STRING_length(id) < 4)
        return 0;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint32_t tls_cert_issuer(const X509 *cert)
{
    /* The extension is parsed once and kept in the certificate: its state, not its content. */
    return key_id(X509_get0_authority_key_id((X509 *)(uintptr_t)cert));
}

/* Each certificate of a bundle alone: roots of one name without an authority key identifier cannot
 * be told apart when they are looked up together. */
static bool leads_to(X509 *cert, STACK_OF(X509) *between, X509 *root)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    bool ok = X509_cmp(cert, root) == 0;

    if (!ok && store && ctx && X509_STORE_add_cert(store, root) &&
        X509_STORE_CTX_init(ctx, store, cert, between)) {
        X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_NO_CHECK_TIME);
        ok = X509_verify_cert(ctx) == 1;
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return ok;
}

static X509 *bundle_next(BIO *bio)
{
    return bio ? PEM_read_bio_X509(bio, NULL, tls_no_password, NULL) : NULL;
}

bool x509_anchored(struct slice cert_pem, struct slice chain, struct slice roots)
{
    struct err err = {0};
    CLEANUP(tls_certp) X509 *cert = tls_pem_cert(cert_pem, &err);
    CLEANUP(tls_biop) BIO *chain_bio = tls_bio_of(chain);
    CLEANUP(tls_biop) BIO *roots_bio = tls_bio_of(roots);
    STACK_OF(X509) *between = sk_X509_new_null();
    bool ok = false;

    for (X509 *x; between && (x = bundle_next(chain_bio));)
        if (!sk_X509_push(between, x))
            X509_free(x);
    for (X509 *x; cert && between && !ok && (x = bundle_next(roots_bio));) {
        ok = leads_to(cert, between, x);
        X509_free(x);
    }
    sk_X509_pop_free(between, X509_free);
    ERR_clear_error();
    return ok;
}

int x509_bundle_count(struct slice pem)
{
    CLEANUP(tls_biop) BIO *bio = tls_bio_of(pem);
    int n = 0;

    for (X509 *cert; bio && (cert = PEM_read_bio_X509(bio, NULL, tls_no_password, NULL)); n++)
        X509_free(cert);
    return bio && !tls_pem_ended() ? -1 : n;
}

void tls_sha256(struct slice in, unsigned char ret[32])
{
    SHA256((const unsigned char *)in.p, in.len, ret);
}
