/* SPDX-License-Identifier: Apache-2.0 */
/* An established TLS 1.3 connection needs its traffic keys and no more, but OpenSSL keeps the
 * peer's certificates (in the session) and a copy of our own settings (from the SSL_CTX) as long as
 * it lives: a third of its memory. Both are swapped for empty ones that all connections share. A
 * ticket that arrives later is stored in a copy of the empty session, so what a client remembers is
 * small too; whom it belongs to stands in struct tls_session.
 *
 * SSL_set_session would begin anew if the method of the SSL_CTX were not that of the connection,
 * and it calls the old session bad unless the connection was shut down; hence the SSL_CTX made from
 * the negotiated method, and the shutdown flag around the call. */
#include "lib/tls/tls_int.h"

enum { CLIENT, SERVER, ROLES };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    SSL_CTX *ctx;
    struct {
        const SSL_CIPHER *cipher;
        SSL_SESSION *session;
    } bare[TLS_SUITES];
} idle[ROLES]; /* for ever */

static SSL_SESSION *bare_new(const SSL_CIPHER *cipher)
{
    SSL_SESSION *session = SSL_SESSION_new();

    if (session && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

/* Borrowed for ever; NULL without memory. */
static SSL_SESSION *bare_get(int role, SSL *ssl, SSL_CTX **ret_ctx)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    SSL_SESSION *session = NULL;

    pthread_mutex_lock(&lock);
    if (!idle[role].ctx)
        idle[role].ctx = SSL_CTX_new(SSL_get_ssl_method(ssl));
    for (int i = 0; i < TLS_SUITES && idle[role].ctx && !session; i++) {
        if (!idle[role].bare[i].session && (idle[role].bare[i].session = bare_new(cipher)))
            idle[role].bare[i].cipher = cipher;
        if (idle[role].bare[i].cipher == cipher)
            session = idle[role].bare[i].session;
    }
    *ret_ctx = idle[role].ctx;
    pthread_mutex_unlock(&lock);
    return session;
}

bool tls_session_swap(SSL *ssl, SSL_SESSION *session)
{
    SSL_CTX *ctx;
    int shut;

    if (SSL_version(ssl) != TLS1_3_VERSION || !bare_get(SSL_is_server(ssl) ? SERVER : CLIENT, ssl, &ctx) ||
        SSL_get_ssl_method(ssl) != SSL_CTX_get_ssl_method(ctx) || !SSL_set_SSL_CTX(ssl, ctx))
        return false;
    shut = SSL_get_shutdown(ssl);
    SSL_set_shutdown(ssl, shut | SSL_SENT_SHUTDOWN);
    SSL_set_session(ssl, session);
    SSL_set_shutdown(ssl, shut);
    return true;
}

void tls_slim(SSL *ssl)
{
    SSL_CTX *ctx;
    SSL_SESSION *bare;

    SSL_free_buffers(ssl); /* unless bytes wait in them */
    bare = SSL_version(ssl) == TLS1_3_VERSION ? bare_get(SSL_is_server(ssl) ? SERVER : CLIENT, ssl, &ctx) : NULL;
    if (bare)
        tls_session_swap(ssl, bare); /* else it works as well, in more memory */
}
