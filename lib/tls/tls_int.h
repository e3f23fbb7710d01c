/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this module share. */
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/err.h"
#include "lib/base/map.h"
#include "lib/tls/tls.h"
#include "lib/tls/x509.h"

/* --- errors and cleanup --- */
/* "<what>: <reason of OpenSSL's last error>"; empties its queue. Out of memory there becomes
 * ERR_NOMEM. Always -1. */
int tls_err(struct err *err, enum err_code code, const char *what);
/* The same reason as text; "" when the queue is empty. Empties it. */
void tls_reason(char *ret, size_t cap);
/* After a PEM reader returned NULL: it met the end, not a broken block. Empties the queue. */
bool tls_pem_ended(void);

static inline void tls_biop(BIO **bio)
{
    BIO_free(*bio);
}
static inline void tls_keyp(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}
static inline void tls_certp(X509 **cert)
{
    X509_free(*cert);
}

/* --- keys on elliptic curves without the detour of OpenSSL 3.0 (ec.c) --- */
/* For the process, once, before there are threads. Keys are then to be made by tls_ec_key, and curves
 * named as OpenSSL does: prime256v1, not P-256. */
void tls_ec_direct(void);
/* Takes a key of any kind; the one to use in its place. NULL stays NULL; NULL also without memory. */
EVP_PKEY *tls_ec_key(EVP_PKEY *key);

/* --- certificates --- */
BIO *tls_bio_of(struct slice s); /* reads from `s`, borrowed; NULL when empty */
/* An encrypted key would make OpenSSL ask at a terminal; this says no. */
int tls_no_password(char *buf, int size, int rwflag, void *u);
EVP_PKEY *tls_pem_key(struct slice pem, struct err *err);
X509 *tls_pem_cert(struct slice pem, struct err *err);
/* The certificate's SPIFFE id into ret ("" when none); NULL, or the reason why there is none. */
const char *tls_cert_spiffe(const X509 *cert, char ret[X509_SPIFFE_MAX]);
/* Does one of `names`, NUL-terminated one behind the other, stand in the certificate? A wildcard of the
 * certificate covers one label (RFC 9525 6.3); URIs compare byte for byte. */
bool tls_cert_serves(X509 *cert, const char *names, size_t len);
/* Beginning and end of validity, seconds of civil time. */
int64_t tls_cert_begin_s(const X509 *cert);
int64_t tls_cert_end_s(const X509 *cert);
/* First 4 bytes of the authority key identifier, 0 when it has none. */
uint32_t tls_cert_issuer(const X509 *cert);

/* Does the certificate carry one of the names? */
bool tls_cert_names(const X509 *cert, char *const *names, uint32_t n);
/* Is its SHA-256 among the first `n_hashes` pins, or that of its public key among the rest? */
bool tls_cert_pinned(X509 *cert, unsigned char (*pins)[32], uint32_t n_hashes, uint32_t n_pins);

/* --- contexts --- */
enum {
    TLS_SUITES = 3,         /* of TLS 1.3 */
    TLS_SESSIONS_MAX = 256, /* that a client context remembers */
    TLS_CHAINS = 64,        /* verified chains that a context remembers */
    TLS_TICKET_LIFE_S = 2 * 3600,
};

/* Who the peer of a connection is, kept when its certificate is gone. */
struct tls_peer {
    char *spiffe;  /* NULL when it has no SPIFFE id */
    int64_t end_s; /* end of its certificate's validity */
    unsigned char hash[32];
    uint32_t issuer; /* see tls_chan_peer_issuer */
    bool known;
};
/* -1 when out of memory. */
int tls_peer_of(const X509 *cert, struct tls_peer *ret);
int tls_peer_copy(const struct tls_peer *peer, struct tls_peer *ret);
void tls_peer_fini(struct tls_peer *peer);

/* What a client keeps of a server for the next time. */
struct tls_session {
    struct tls_session *newer, *older;
    SSL_SESSION *ssl;
    struct tls_peer peer;
    size_t key_len;
    char key[];
};

/* A chain that verified, and whom its leaf belongs to. */
struct tls_chain {
    unsigned char key[32];   /* SHA-256 of what the peer sent */
    int64_t from_s, until_s; /* all its certificates are valid in [from, until) */
    struct tls_peer peer;
};

struct tls_ctx {
    SSL_CTX *ssl;
    atomic_uint refs;
    bool server, verify_peer, spiffe, resume;
    bool own_tickets;  /* of a mesh server (ticket.c) */
    bool keeps_chains; /* what verified once is not verified again (chains.c) */
    char **names; /* one of which the peer must carry */
    uint32_t n_names;
    unsigned char (*pins)[32]; /* one of which the peer's leaf (the first ones) or its key must have */
    uint32_t n_hashes, n_pins;
    unsigned char *alpn; /* RFC 7301 3.1 list */
    unsigned alpn_len;
    pthread_mutex_t lock; /* for what follows: contexts are shared by worker threads */
    struct map sessions;
    size_t n_sessions;
    struct tls_session *newest, *oldest;
    struct tls_chain **chains; /* TLS_CHAINS slots, NULL until the first */
};

/* Take a reference of the session under `key`, and a copy of who the server was; false when there
 * is none that is still good at `wall_s`. */
bool tls_sessions_find(struct tls_ctx *ctx, struct slice key, int64_t wall_s, SSL_SESSION **ret,
                       struct tls_peer *ret_peer);
/* Remember; takes a reference of its own. Without memory nothing is remembered. */
void tls_sessions_put(struct tls_ctx *ctx, struct slice key, SSL_SESSION *ssl,
                      const struct tls_peer *peer);
void tls_sessions_drop(struct tls_ctx *ctx, struct slice key);
void tls_sessions_fini(struct tls_ctx *ctx);

/* What the peer sent, as a key; false for what is too long to be kept. */
bool tls_chain_key(X509_STORE_CTX *store, unsigned char ret[32]);
/* Was this chain verified before, and is it valid at `wall_s`? Then a copy of who its leaf belongs to. */
bool tls_chain_find(struct tls_ctx *ctx, const unsigned char key[32], int64_t wall_s, struct tls_peer *ret);
/* Remember a chain that was verified just now. Without memory nothing is remembered. */
void tls_chain_keep(struct tls_ctx *ctx, const unsigned char key[32], X509_STORE_CTX *store,
                    const struct tls_peer *peer);
void tls_chains_fini(struct tls_ctx *ctx);

/* --- what OpenSSL calls during a handshake; the connection is SSL_get_app_data --- */
int tls_verify(X509_STORE_CTX *store, void *ctx);
int tls_new_session(SSL *ssl, SSL_SESSION *session);
SSL_TICKET_RETURN tls_ticket_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                    size_t name_len, SSL_TICKET_STATUS status, void *arg);

/* Send the client of an established connection a ticket that resumes with what is known of it, and keep no more of the
 * session than that: tls_slim is to follow. False when the connection broke. */
bool tls_ticket_send(SSL *ssl, const struct tls_peer *peer);
/* Whom a session from such a ticket belongs to; false when it says nothing that is understood. */
bool tls_ticket_peer(SSL_SESSION *session, struct tls_peer *ret);

/* Give an established TLS 1.3 connection another session, and the settings that all idle ones share; takes a
 * reference. False: nothing was changed. */
bool tls_session_swap(SSL *ssl, SSL_SESSION *session);
/* Let go of what an established connection does not need: certificates and the session. */
void tls_slim(SSL *ssl);
