/* SPDX-License-Identifier: Apache-2.0 */
/* The CA in the child's memory, and what it signs. No I/O. */
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/spiffe.h"
#include "lib/tls/x509.h"
#include "operator/names.h"
#include "operator/signer_int.h"

#define CA_LIFE_S (INT64_C(10) * 365 * 24 * 3600)
#define LIFE_MAX_S (INT64_C(90) * 24 * 3600)
enum { DNS_MAX = 16, CHAIN_MAX = 8 };

size_t pem_split(struct slice bundle, struct slice *ret, size_t cap)
{
    static const char end[] = "-----END CERTIFICATE-----";
    size_t n = 0;
    while (n < cap) {
        ptrdiff_t at = slice_find(bundle, SL("-----BEGIN CERTIFICATE-----"));
        if (at < 0)
            break;
        bundle = slice_skip(bundle, (size_t)at);
        ptrdiff_t stop = slice_find(bundle, SL("-----END CERTIFICATE-----"));
        if (stop < 0)
            break;
        size_t len = (size_t)stop + sizeof end - 1;
        len += len < bundle.len && bundle.p[len] == '\n';
        ret[n++] = slice_head(bundle, len);
        bundle = slice_skip(bundle, len);
    }
    return n;
}

/* Certificate, intermediates, and the root that they lead to: each once. */
static char *chain_of(struct slice cert, struct slice chain, struct slice all)
{
    struct slice root[CHAIN_MAX], roots = SLICE_NULL;
    size_t n_roots = pem_split(all, root, N_OF(root));
    for (size_t i = 0; i < n_roots && !roots.len; i++)
        if (x509_anchored(cert, chain, root[i]))
            roots = root[i];
    struct slice seen[CHAIN_MAX * 2], from[] = {cert, chain, roots};
    size_t n = 0;
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, 256 * 1024);
    for (size_t f = 0; f < N_OF(from); f++) {
        struct slice part[CHAIN_MAX];
        size_t k = pem_split(from[f], part, N_OF(part));
        for (size_t i = 0; i < k && n < N_OF(seen); i++) {
            bool known = false;
            for (size_t j = 0; j < n; j++)
                known |= slice_eq(slice_trim(seen[j]), slice_trim(part[i])) ||
                         slice_starts(seen[j], part[i]) || slice_starts(part[i], seen[j]);
            if (known)
                continue;
            seen[n++] = part[i];
            buf_add_slice(&b, part[i]);
            if (part[i].len && part[i].p[part[i].len - 1] != '\n')
                buf_add_char(&b, '\n');
        }
    }
    return buf_take(&b, NULL);
}

static const char *const probe_names[] = {"probe.invalid", NULL};

int signer_ca_of(struct slice key, struct slice cert, struct slice chain, struct slice roots,
                 struct signer_ca *ret, struct err *err)
{
    struct x509_cert_info info;
    struct signer_ca ca = {0};
    if (!roots.len)
        return err_set(err, ERR_INVALID, "root-cert.pem is missing");
    if (x509_bundle_count(roots) < 1)
        return err_set(err, ERR_INVALID, "root-cert.pem holds no certificate");
    if (x509_cert_info(cert, &info, err) < 0)
        return err_wrap(err, "ca-cert.pem");
    if (!info.is_ca)
        return err_set(err, ERR_INVALID, "ca-cert.pem is not the certificate of a CA");
    ca.key = mem_strndup(key.p ? key.p : "", key.len);
    ca.cert = mem_strndup(cert.p, cert.len);
    ca.chain = chain_of(cert, chain, roots);
    ca.roots = mem_strndup(roots.p, roots.len);
    if (!ca.key || !ca.cert || !ca.chain || !ca.roots) {
        signer_ca_fini(&ca);
        return err_set(err, ERR_NOMEM, "CA");
    }
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    if (x509_key_spki(ca.key, spki, sizeof spki, &len, err) < 0) {
        signer_ca_fini(&ca);
        return err_wrap(err, "ca-key.pem");
    }
    /* What cannot sign must not come into force: try it, at a time at which it is good. */
    char *leaf = NULL;
    struct x509_issue probe = {.ca_key_pem = ca.key, .ca_cert_pem = ca.cert,
                               .spki = slice_of(spki, len), .dns = probe_names,
                               .wall_ns = info.not_after_ns - 60 * NS_PER_S, .life_s = 30};
    int rc = x509_issue(&probe, &leaf, err);
    mem_free(leaf);
    if (rc == 0 && !x509_anchored(cert, chain, roots))
        rc = err_set(err, ERR_INVALID, "ca-cert.pem does not lead to a root in root-cert.pem");
    if (rc < 0) {
        signer_ca_fini(&ca);
        return -1;
    }
    *ret = ca;
    return 0;
}

int signer_ca_new(const char *trust_domain, int64_t wall_ns, struct signer_ca *ret, struct err *err)
{
    char *key = NULL, *cert = NULL;
    if (x509_ca_new(trust_domain, wall_ns, CA_LIFE_S, &key, &cert, err) < 0)
        return err_wrap(err, "making a CA");
    int rc = signer_ca_of(slice_str(key), slice_str(cert), SLICE_NULL, slice_str(cert), ret, err);
    tls_pem_free(key);
    mem_free(cert);
    return rc;
}

/* --- signing ------------------------------------------------------------------------------------- */

static enum err_code fail(char **ret_text, enum err_code code, const char *text)
{
    *ret_text = mem_strdup(text);
    return code;
}

static enum err_code issue(const struct signer_ca *ca, struct x509_issue *in, char **ret_text,
                           int64_t *ret_not_after_ns)
{
    struct err err = {0};
    struct x509_cert_info info;
    char *leaf = NULL;
    if (x509_issue(in, &leaf, &err) < 0 || x509_cert_info(slice_str(leaf), &info, &err) < 0) {
        mem_free(leaf);
        return fail(ret_text, err.code, err.msg);
    }
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, SIGNER_MSG_MAX - sizeof(struct signer_answer));
    buf_add_str(&b, leaf);
    buf_add_str(&b, ca->chain);
    mem_free(leaf);
    *ret_text = buf_take(&b, NULL);
    *ret_not_after_ns = info.not_after_ns;
    return *ret_text ? ERR_OK : ERR_NOMEM;
}

enum err_code signer_answer_of(const struct signer_ca *ca, struct slice message, int64_t wall_ns,
                               uint64_t *ret_id, char **ret_text, int64_t *ret_not_after_ns)
{
    struct signer_question q;
    const char *dns[DNS_MAX + 1] = {NULL};
    size_t n = 0;

    *ret_id = 0;
    *ret_text = NULL;
    *ret_not_after_ns = 0;
    if (message.len < sizeof q)
        return ERR_PROTO;
    memcpy(&q, message.p, sizeof q);
    *ret_id = q.id;
    if (!q.id || message.len != sizeof q + (size_t)q.spki_len + q.names_len || !q.names_len ||
        message.p[message.len - 1] != '\0')
        return fail(ret_text, ERR_PROTO, "malformed question");
    if (!ca->key)
        return fail(ret_text, ERR_UNAVAILABLE, "the CA is not loaded");
    if (q.life_s < 1 || q.life_s > LIFE_MAX_S)
        return fail(ret_text, ERR_INVALID, "life must be 1 s to 90 days");
    const char *names = message.p + sizeof q + q.spki_len;
    struct x509_issue in = {
        .ca_key_pem = ca->key,
        .ca_cert_pem = ca->cert,
        .spki = slice_of(message.p + sizeof q, q.spki_len),
        .wall_ns = wall_ns,
        .life_s = q.life_s,
        .server = true,
    };
    if (q.kind == SIGNER_SPIFFE) {
        struct spiffe_id id;
        if (spiffe_parse(slice_str(names), &id) != ERR_OK || !id.ns.len || !id.sa.len)
            return fail(ret_text, ERR_INVALID, "no workload's SPIFFE id");
        if (ca->paused && !slice_is(id.sa, NAME_OPERATOR)) /* replicas must hear of each other */
            return fail(ret_text, ERR_UNAVAILABLE,
                        "the CA changed and its old key is gone: certificates for workloads wait "
                        "until every proxy trusts the new root");
        in.spiffe_id = names;
        in.client = true;
    } else {
        for (const char *p = names; p < message.p + message.len && n < DNS_MAX; p += strlen(p) + 1)
            dns[n++] = p;
        in.dns = dns;
    }
    return issue(ca, &in, ret_text, ret_not_after_ns);
}
