/* SPDX-License-Identifier: Apache-2.0 */
/* Who the peer of a TLS channel is: its certificate, or the session that it resumes, judged. */
#include <openssl/x509v3.h>
#include <stdio.h>

#include "lib/base/mem.h"
#include "lib/tls/chan_int.h"

/* A judgement during the handshake: kept until OpenSSL comes back with its own error. */
static void deny(struct tls *t, const char *why)
{
    char text[320];

    if (t->error)
        return;
    snprintf(text, sizeof text, "certificate verify failed: %s", why);
    t->error = mem_strdup(text);
}

/* Why a chain was refused. Where time decides, both clocks are told: one of them may be wrong. */
static void deny_chain(struct tls *t, X509_STORE_CTX *store)
{
    int code = X509_STORE_CTX_get_error(store);
    const X509 *cert = X509_STORE_CTX_get_current_cert(store);
    const char *why = X509_verify_cert_error_string(code);
    bool early = code == X509_V_ERR_CERT_NOT_YET_VALID;
    char text[224], limit[32], here[32];

    if (cert && (early || code == X509_V_ERR_CERT_HAS_EXPIRED)) {
        clock_rfc3339((early ? tls_cert_begin_s(cert) : tls_cert_end_s(cert)) * NS_PER_S, 1, limit);
        clock_rfc3339(loop_wall(t->c.loop), 1, here);
        snprintf(text, sizeof text, "%s (%s %s; the clock here says %s)", why,
                 early ? "it begins at" : "it ended at", limit, here);
        why = text;
    }
    deny(t, why);
}

static enum err_code judge(struct tls *t, const struct tls_peer *peer, char *why, size_t cap)
{
    struct err err = {0};
    enum err_code rc;

    if (!t->judge)
        return ERR_OK;
    rc = t->judge(t->judge_user, slice_str(peer->spiffe), &err);
    if (rc != ERR_OK)
        snprintf(why, cap, "%s", err.msg[0] ? err.msg : "refused by policy");
    return rc;
}

static void peer_set(struct tls *t, struct tls_peer *peer)
{
    tls_peer_fini(&t->peer);
    t->peer = *peer;
    *peer = (struct tls_peer){0};
}

/* X509-SVID 4 and 5.2: a leaf signs handshakes, not certificates. */
static const char *leaf_wrong(X509 *leaf)
{
    uint32_t usage = X509_get_key_usage(leaf); /* all bits when the extension is absent */

    if (X509_get_extension_flags(leaf) & EXFLAG_CA)
        return "a CA certificate cannot be a workload's";
    if (usage != UINT32_MAX && usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN))
        return "the key usage of a CA cannot be a workload's";
    if (!(usage & KU_DIGITAL_SIGNATURE))
        return "the key usage lacks digitalSignature";
    return NULL;
}

/* Is the owner of the leaf welcome? Takes what `peer` holds. */
static bool admitted(struct tls *t, struct tls_peer *peer)
{
    char why[224];
    bool ok = judge(t, peer, why, sizeof why) == ERR_OK;

    if (ok)
        peer_set(t, peer);
    else
        deny(t, why);
    tls_peer_fini(peer);
    return ok;
}

/* What the leaf of a verified chain says of its owner; NULL, or what is wrong with it. */
static const char *leaf_read(struct tls *t, X509 *leaf, struct tls_peer *ret, char *why, size_t cap)
{
    char id[X509_SPIFFE_MAX];
    const char *wrong = NULL;

    if (t->ctx->spiffe) {
        wrong = leaf_wrong(leaf);
        if (!wrong)
            wrong = tls_cert_spiffe(leaf, id);
    }
    if (!wrong && t->ctx->n_names && !tls_cert_names(leaf, t->ctx->names, t->ctx->n_names))
        wrong = "the certificate carries none of the names that are let in";
    if (!wrong && t->ctx->n_pins &&
        !tls_cert_pinned(leaf, t->ctx->pins, t->ctx->n_hashes, t->ctx->n_pins))
        wrong = "neither the certificate nor its key is one of those that are let in";
    if (!wrong && t->sans && !tls_cert_serves(leaf, t->sans, t->sans_len)) {
        snprintf(why, cap, "no name of the certificate is %s%s", t->sans,
                 strlen(t->sans) + 1 < t->sans_len ? " or another that is accepted" : "");
        wrong = why;
    }
    if (!wrong && tls_peer_of(leaf, ret) < 0)
        wrong = "out of memory";
    return wrong;
}

static bool verify(struct tls *t, X509_STORE_CTX *store)
{
    int64_t now_s = loop_wall(t->c.loop) / NS_PER_S;
    unsigned char key[32];
    bool keep = t->ctx->keeps_chains && tls_chain_key(store, key);
    struct tls_peer peer = {0};
    const char *wrong;
    char why[224];

    if (keep && tls_chain_find(t->ctx, key, now_s, &peer))
        return admitted(t, &peer);
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(store), (time_t)now_s);
    if (X509_verify_cert(store) != 1) {
        deny_chain(t, store);
        return false;
    }
    wrong = leaf_read(t, X509_STORE_CTX_get0_cert(store), &peer, why, sizeof why);
    if (wrong) {
        deny(t, wrong);
        return false;
    }
    if (keep)
        tls_chain_keep(t->ctx, key, store, &peer);
    return admitted(t, &peer);
}

int tls_verify(X509_STORE_CTX *store, void *arg)
{
    const struct tls_ctx *ctx = arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    bool ok;

    if (!ctx->verify_peer)
        return 1;
    ok = verify(SSL_get_app_data(ssl), store);
    if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    /* Else it would stay with the connection for life. */
    X509_STORE_CTX_set0_verified_chain(store, NULL);
    return ok;
}

/* A client offers a session. It must still be good and its owner still welcome; if not, a full
 * handshake says so in the proper words. */
SSL_TICKET_RETURN tls_ticket_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                    size_t name_len, SSL_TICKET_STATUS status, void *arg)
{
    const struct tls_ctx *ctx = arg;
    struct tls *t = SSL_get_app_data(ssl);
    struct tls_peer peer = {0};
    char why[224];
    X509 *leaf;
    bool ok;

    (void)name, (void)name_len;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (!ctx->verify_peer)
        return SSL_TICKET_RETURN_USE_RENEW;
    leaf = SSL_SESSION_get0_peer(session);
    ok = (ctx->own_tickets ? tls_ticket_peer(session, &peer) : leaf && tls_peer_of(leaf, &peer) == 0) &&
         peer.end_s > loop_wall(t->c.loop) / NS_PER_S &&
         (!ctx->spiffe || peer.spiffe) && judge(t, &peer, why, sizeof why) == ERR_OK;
    if (ok)
        peer_set(t, &peer); /* a full handshake after all would set it anew */
    tls_peer_fini(&peer);
    return ok ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
}

int tls_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *t = SSL_get_app_data(ssl);

    if (t->session_key)
        tls_sessions_put(t->ctx, slice_of(t->session_key, t->session_key_len), session, &t->peer);
    t->ticket = true;
    return 0; /* we took a reference of our own */
}

void tls_session_offer(struct tls *t)
{
    struct slice key = slice_of(t->session_key, t->session_key_len);
    struct tls_peer peer = {0};
    SSL_SESSION *session;
    char why[224];

    if (!key.p || !tls_sessions_find(t->ctx, key, loop_wall(t->c.loop) / NS_PER_S, &session, &peer))
        return;
    if ((!t->ctx->verify_peer || (peer.known && judge(t, &peer, why, sizeof why) == ERR_OK)) &&
        SSL_set_session(t->ssl, session) == 1)
        peer_set(t, &peer);
    else
        tls_sessions_drop(t->ctx, key);
    tls_peer_fini(&peer);
    SSL_SESSION_free(session);
}
