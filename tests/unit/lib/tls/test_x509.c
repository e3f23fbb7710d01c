/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/mem.h"
#include "tests/unit/lib/tls/pki.h"
#include "tests/unit/tcase.h"

#define ID "spiffe://cluster.local/ns/shop/sa/cart"

static X509 *parse(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* One line of the certificate as `openssl x509 -text` prints it. */
static bool says(X509 *x, const char *text)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *p;
    bool found;

    X509_print(bio, x);
    BIO_write(bio, "", 1);
    BIO_get_mem_data(bio, &p);
    found = strstr(p, text) != NULL;
    BIO_free(bio);
    return found;
}

static const struct {
    const char *name;
    struct x509_issue in;
    const char *says[8];
    const char *not_says;
} issues[] = {
    {"workload",
     {.spiffe_id = ID, .server = true, .client = true},
     {"Subject: \n", "X509v3 Subject Alternative Name: critical\n                URI:" ID "\n",
      "X509v3 Basic Constraints: critical\n                CA:FALSE",
      "X509v3 Key Usage: critical\n                Digital Signature\n",
      "TLS Web Server Authentication, TLS Web Client Authentication", "Subject Key Identifier",
      "Authority Key Identifier", "cluster.local\n"},
     "DNS:"},
    {"webhook",
     {.dns = (const char *const[]){"a.svc", "b.svc", NULL}, .server = true},
     {"DNS:a.svc, DNS:b.svc", "TLS Web Server Authentication\n"},
     "TLS Web Client"},
    {"client",
     {.spiffe_id = ID, .client = true},
     {"TLS Web Client Authentication\n"},
     "TLS Web Server"},
};

START_TEST(issued_certificates)
{
    struct pki_ca ca = pki_ca("cluster.local");
    struct pki_id id = pki_issue(&ca, issues[_i].in), again = pki_issue(&ca, issues[_i].in);
    X509 *x = parse(id.chain), *root = parse(ca.cert);
    struct x509_cert_info info, info2;
    struct err err = {0};

    for (int i = 0; i < 8 && issues[_i].says[i]; i++)
        ck_assert_msg(says(x, issues[_i].says[i]), "%s: %s", issues[_i].name, issues[_i].says[i]);
    ck_assert_msg(!says(x, issues[_i].not_says), "%s", issues[_i].name);
    ck_assert_int_eq(X509_verify(x, X509_get0_pubkey(root)), 1);
    ck_assert_int_eq(X509_check_issued(root, x), X509_V_OK);
    ck_assert_int_eq(x509_cert_info(slice_str(id.chain), &info, &err), 0);
    ck_assert_int_eq(x509_cert_info(slice_str(again.chain), &info2, &err), 0);
    ck_assert_str_eq(info.spiffe_id, issues[_i].in.spiffe_id ? issues[_i].in.spiffe_id : "");
    ck_assert_int_eq(info.not_before_ns, WALL_NS - 120 * NS_PER_S);
    ck_assert_int_eq(info.not_after_ns, WALL_NS + 86400 * NS_PER_S);
    ck_assert_uint_eq(strlen(info.serial), 32); /* 128 bits */
    ck_assert_str_ne(info.serial, info2.serial);
    ck_assert(!info.is_ca);
    X509_free(x);
    X509_free(root);
    pki_id_free(&id);
    pki_id_free(&again);
    pki_ca_free(&ca);
}
END_TEST

START_TEST(ca_certificate)
{
    struct pki_ca ca = pki_ca("td.example"), other = pki_ca("td.example");
    X509 *x = parse(ca.cert);
    struct x509_cert_info info;
    char *two = NULL, *broken = NULL;

    ck_assert(says(x, "CA:TRUE, pathlen:0"));
    ck_assert(says(x, "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign"));
    ck_assert_int_eq(X509_verify(x, X509_get0_pubkey(x)), 1);
    ck_assert_int_eq(x509_cert_info(slice_str(ca.cert), &info, NULL), 0);
    ck_assert(info.is_ca);
    ck_assert_str_eq(info.subject, "O=td.example");
    ck_assert_str_eq(info.spiffe_id, "");
    ck_assert_int_eq(asprintf(&two, "%s%s", ca.cert, other.cert) > 0, 1);
    ck_assert_int_eq(asprintf(&broken,
                              "%s-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n",
                              ca.cert) > 0,
                     1);
    ck_assert_int_eq(x509_bundle_count(slice_str(two)), 2);
    ck_assert_int_eq(x509_bundle_count(slice_str(ca.cert)), 1);
    ck_assert_int_eq(x509_bundle_count(SLICE_NULL), 0);
    ck_assert_int_eq(x509_bundle_count(SL("no certificate here")), 0);
    ck_assert_int_eq(x509_bundle_count(slice_str(broken)), -1);
    free(two);
    free(broken);
    X509_free(x);
    pki_ca_free(&ca);
    pki_ca_free(&other);
}
END_TEST

START_TEST(never_outlives_the_ca)
{
    struct pki_ca ca;
    struct x509_cert_info info;
    struct err err = {0};
    char *pem = NULL;

    ck_assert_int_eq(x509_ca_new("td", WALL_NS, 1000, &ca.key, &ca.cert, &err), 0);
    struct pki_id id = pki_issue(&ca, (struct x509_issue){.spiffe_id = ID, .life_s = 86400});
    ck_assert_int_eq(x509_cert_info(slice_str(id.chain), &info, &err), 0);
    ck_assert_int_eq(info.not_after_ns, WALL_NS + 1000 * NS_PER_S);
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    ck_assert_int_eq(x509_key_spki(id.key, spki, sizeof spki, &len, &err), 0);
    struct x509_issue in = {.ca_key_pem = ca.key,
                            .ca_cert_pem = ca.cert,
                            .spki = slice_of(spki, len),
                            .spiffe_id = ID,
                            .wall_ns = WALL_NS + 1000 * NS_PER_S,
                            .life_s = 10};
    ck_assert_int_eq(x509_issue(&in, &pem, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "expired"));
    in.wall_ns = WALL_NS;
    in.spiffe_id = "spiffe://td";
    ck_assert_int_eq(x509_issue(&in, &pem, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "not a SPIFFE id"));
    in.spiffe_id = ID;
    in.ca_key_pem = id.key;
    ck_assert_int_eq(x509_issue(&in, &pem, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "do not belong together"));
    in.ca_key_pem = ca.key;
    in.spki = slice_of(spki, len - 1);
    ck_assert_int_eq(x509_issue(&in, &pem, &err), -1);
    in.spki = SL("garbage");
    ck_assert_int_eq(x509_issue(&in, &pem, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_ptr_null(pem);
    pki_id_free(&id);
    pki_ca_free(&ca);
}
END_TEST

/* --- requests --- */
static char *csr(EVP_PKEY *key, const char *san, bool sign_with_another)
{
    X509_REQ *req = X509_REQ_new();
    EVP_PKEY *other = pki_ec_key("P-256");
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    BIO *bio = BIO_new(BIO_s_mem());
    char *p, *ret;
    long n;

    X509_REQ_set_pubkey(req, key);
    if (san) {
        sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san));
        X509_REQ_add_extensions(req, exts);
    }
    X509_REQ_sign(req, sign_with_another ? other : key,
                  EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256());
    PEM_write_bio_X509_REQ(bio, req);
    n = BIO_get_mem_data(bio, &p);
    ret = strndup(p, (size_t)n);
    BIO_free(bio);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    EVP_PKEY_free(other);
    X509_REQ_free(req);
    return ret;
}

static const struct {
    const char *name, *key, *san;
    bool forged;
    const char *why; /* NULL: taken */
} requests[] = {
    {"P-256", "P-256", "URI:" ID, false, NULL},
    {"P-384", "P-384", "URI:" ID, false, NULL},
    {"Ed25519", "ED25519", "URI:" ID, false, NULL},
    {"RSA 2048", "2048", "URI:" ID, false, NULL},
    {"no name", "P-256", NULL, false, NULL},
    {"DNS name beside", "P-256", "DNS:x,URI:" ID, false, NULL},
    {"RSA 1024", "1024", "URI:" ID, false, "RSA of 1024 bits"},
    {"P-224", "P-224", "URI:" ID, false, "neither P-256 nor P-384"},
    {"two names", "P-256", "URI:" ID ",URI:spiffe://a/b", false, "more than one URI"},
    {"not SPIFFE", "P-256", "URI:http://a/b", false, "not a SPIFFE id"},
    {"signed by another", "P-256", "URI:" ID, true, "signature"},
};

START_TEST(requests_are_checked)
{
    const char *kind = requests[_i].key;
    EVP_PKEY *key = strcmp(kind, "ED25519") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                    : kind[0] == 'P'             ? pki_ec_key(kind)
                                                 : EVP_RSA_gen((unsigned)atoi(kind));
    char *pem = csr(key, requests[_i].san, requests[_i].forged);
    struct x509_csr_info info;
    struct err err = {0};
    int rc = x509_csr_check(slice_str(pem), &info, &err);

    ck_assert_msg((rc == 0) == (requests[_i].why == NULL), "%s: %s", requests[_i].name, err.msg);
    if (rc == 0) {
        unsigned char *der = NULL;
        int n = i2d_PUBKEY(key, &der);

        ck_assert_str_eq(info.spiffe_id, requests[_i].san ? ID : "");
        ck_assert_int_eq((int)info.spki_len, n);
        ck_assert_mem_eq(info.spki, der, (size_t)n);
        OPENSSL_free(der);
    } else {
        ck_assert_msg(strstr(err.msg, requests[_i].why) != NULL, "%s: %s", requests[_i].name,
                      err.msg);
    }
    free(pem);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(own_requests_pass_their_check)
{
    char *key = NULL, *pem = NULL;
    char longest[X509_SPIFFE_MAX + 10];
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    struct x509_csr_info info;
    struct err err = {0};

    ck_assert_int_eq(x509_key_new(&key, &err), 0);
    ck_assert_ptr_nonnull(strstr(key, "-----BEGIN PRIVATE KEY-----")); /* PKCS#8 */
    ck_assert_int_eq(x509_csr_new(key, ID, &pem, &err), 0);
    ck_assert_int_eq(x509_csr_check(slice_str(pem), &info, &err), 0);
    ck_assert_str_eq(info.spiffe_id, ID);
    ck_assert_int_eq(x509_key_spki(key, spki, sizeof spki, &len, &err), 0);
    ck_assert_uint_eq(len, info.spki_len);
    ck_assert_mem_eq(spki, info.spki, len);
    ck_assert_int_eq(x509_key_spki(key, spki, 10, &len, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    ck_assert_int_eq(x509_key_spki("garbage", spki, sizeof spki, &len, &err), -1);
    tls_pem_freep(&pem);
    /* The longest names that Kubernetes knows fit; beyond the buffer is refused, not cut. */
    snprintf(longest, sizeof longest, "spiffe://cluster.local/ns/%063d/sa/%0253d", 1, 2);
    ck_assert_int_eq(x509_csr_new(key, longest, &pem, &err), 0);
    ck_assert_int_eq(x509_csr_check(slice_str(pem), &info, &err), 0);
    ck_assert_str_eq(info.spiffe_id, longest);
    tls_pem_freep(&pem);
    snprintf(longest, sizeof longest, "spiffe://cluster.local/%0*d", X509_SPIFFE_MAX - 20, 1);
    ck_assert_int_eq(x509_csr_new(key, longest, &pem, &err), 0);
    ck_assert_int_eq(x509_csr_check(slice_str(pem), &info, &err), -1);
    tls_pem_freep(&pem);
    ck_assert_int_eq(x509_csr_check(SL("garbage"), &info, &err), -1);
    ck_assert_int_eq(x509_csr_check(SLICE_NULL, &info, &err), -1);
    tls_pem_freep(&key);
}
END_TEST

START_TEST(an_encrypted_key_is_an_error_not_a_question)
{
    EVP_PKEY *key = pki_ec_key("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    struct err err = {0};
    char *p;

    PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL);
    BIO_write(bio, "", 1);
    BIO_get_mem_data(bio, &p);
    ck_assert_int_eq(x509_key_spki(p, spki, sizeof spki, &len, &err), -1);
    BIO_free(bio);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(sha256_of_abc) /* FIPS 180-4 */
{
    static const unsigned char want[4] = {0xba, 0x78, 0x16, 0xbf};
    unsigned char got[32];

    tls_sha256(SL("abc"), got);
    ck_assert_mem_eq(got, want, 4);
}
END_TEST

START_TEST(out_of_memory)
{
    OOM_SWEEP (n) {
        char *key = NULL, *pem = NULL;

        if (x509_key_new(&key, NULL) == 0 && x509_csr_new(key, ID, &pem, NULL) == 0)
            ck_assert_ptr_nonnull(pem);
        tls_pem_freep(&key);
        tls_pem_freep(&pem);
    }
}
END_TEST

TESTS(x509)
{
    tcase_add_loop_test(tc, issued_certificates, 0, N_OF(issues));
    tcase_add_test(tc, ca_certificate);
    tcase_add_test(tc, never_outlives_the_ca);
    tcase_add_loop_test(tc, requests_are_checked, 0, N_OF(requests));
    tcase_add_test(tc, own_requests_pass_their_check);
    tcase_add_test(tc, an_encrypted_key_is_an_error_not_a_question);
    tcase_add_test(tc, sha256_of_abc);
    tcase_add_test(tc, out_of_memory);
}
