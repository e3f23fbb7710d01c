/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets of mesh servers (RFC 8446 4.6.1).
 *
 * OpenSSL puts the client's certificate into the ticket, reads it back while it makes the ticket
 * and once more when the ticket returns: a fifth of a resumed handshake. All that is asked of it
 * later is struct tls_peer; so the ticket is made from a session that holds these facts and no
 * certificate, once the handshake is done.
 *
 * A resumed connection gets no further ticket: the first one serves until it is TLS_TICKET_LIFE_S
 * old. That tickets serve once (RFC 8446 C.4) keeps observers from linking a client's connections;
 * a pod's address links them anyway. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/tls/tls_int.h"

struct facts {
    int64_t end_s;
    uint32_t issuer;
    unsigned char hash[32];
    char spiffe[X509_SPIFFE_MAX];
};

/* What a session needs to be resumed by this context, and whom it belongs to. NULL without memory.
 */
static SSL_SESSION *ticket_session(SSL *ssl, const struct tls_peer *peer)
{
    SSL_SESSION *old = SSL_get_session(ssl), *s = SSL_SESSION_new();
    struct facts f = {.end_s = peer->end_s, .issuer = peer->issuer};
    size_t n = strnlen(peer->spiffe, sizeof f.spiffe - 1);
    unsigned len = 0;
    const unsigned char *context = SSL_SESSION_get0_id_context(old, &len);

    memcpy(f.hash, peer->hash, sizeof f.hash);
    memcpy(f.spiffe, peer->spiffe, n);
    if (s && SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) == 1 &&
        SSL_SESSION_set_cipher(s, SSL_SESSION_get0_cipher(old)) == 1 &&
        SSL_SESSION_set1_id_context(s, context, len) == 1 &&
        SSL_SESSION_set_timeout(s, TLS_TICKET_LIFE_S) == 1 &&
        SSL_SESSION_set1_ticket_appdata(s, &f, offsetof(struct facts, spiffe) + n) == 1)
        return s;
    SSL_SESSION_free(s);
    return NULL;
}

bool tls_ticket_send(SSL *ssl, const struct tls_peer *peer)
{
    SSL_SESSION *session = peer->spiffe ? ticket_session(ssl, peer) : NULL;
    bool ok = true;

    if (session && tls_session_swap(ssl, session) && SSL_new_session_ticket(ssl) == 1)
        ok = SSL_do_handshake(ssl) == 1; /* sends it */
    SSL_SESSION_free(session);
    return ok;
}

bool tls_ticket_peer(SSL_SESSION *session, struct tls_peer *ret)
{
    struct facts f = {0};
    void *p = NULL;
    size_t len = 0;

    if (SSL_SESSION_get0_ticket_appdata(session, &p, &len) != 1 ||
        len <= offsetof(struct facts, spiffe) || len >= sizeof f)
        return false;
    memcpy(&f, p, len);
    *ret = (struct tls_peer){
        .known = true, .end_s = f.end_s, .issuer = f.issuer, .spiffe = mem_strdup(f.spiffe)};
    memcpy(ret->hash, f.hash, sizeof ret->hash);
    return ret->spiffe != NULL;
}
