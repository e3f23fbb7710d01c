/* SPDX-License-Identifier: Apache-2.0 */
/* TLS channels and contexts on OpenSSL: mutual TLS 1.3 between workloads with SPIFFE verification,
 * simple TLS for servers and clients. Contexts are immutable and reference-counted: rotation builds
 * a new one and swaps the pointer; connections keep the one they began with.
 *
 * Certificate times are judged by the loop's civil clock. A resumed session is judged anew, and a
 * ticket is good for the context that made it alone: after a change of roots or identity everybody
 * shows a certificate again. The peer's certificates are freed once the handshake is done. */
#pragma once

#include "lib/io/chan.h"

struct tls_ctx;

/* For a process whose memory counts: OpenSSL with only the algorithms that TLS of this century needs
 * (lean.c has the list), no configuration file, error texts when they are needed. To be called before
 * anything else of OpenSSL, on one thread, once for the process. On failure OpenSSL works as always. */
int tls_lean(struct err *err);
bool tls_is_lean(void);

struct tls_identity {       /* PEM texts, borrowed for the call only */
    struct slice chain_pem; /* leaf first */
    struct slice key_pem;
};

struct tls_ctx_opts {
    bool server;
    struct tls_identity identity; /* empty chain: none (a plain TLS client) */
    const struct tls_identity *others; /* further ones, each with a key of another kind: the peer gets
                                the first that it can verify; `n_others` */
    struct slice roots_pem;  /* trust anchors for the peer; empty with verify_peer: refuses all */
    struct slice crl_pem;    /* revocation lists (RFC 5280 5); with any, every certificate of the peer's
                                chain needs one of its issuer. Empty: nothing is looked up */
    bool verify_peer;        /* servers: require a client certificate */
    bool peer_optional;      /* with verify_peer on a server: a client may come without one, but
                                what it shows is verified */
    bool spiffe;             /* the peer's leaf must carry exactly one URI SAN that is a SPIFFE
                                id; host names are not looked at */
    const char *const *alpn; /* NULL-terminated, in order of preference; may be NULL */
    bool tls12;              /* allow TLS 1.2 (origination, webhooks); mesh contexts: 1.3 only */
    int min_version, max_version; /* 12 or 13; 0: as tls12 says, and 1.3 */
    const char *ciphers;     /* of TLS 1.2, as OpenSSL lists them; NULL: ours */
    const struct slice *peer_names; /* the peer's leaf must carry one of these as DNS, URI, address or
                                mail SAN, exactly; borrowed for the call only */
    /* The SHA-256 (32 bytes) of the peer's leaf must be among the hashes, or that of its public key
     * (SubjectPublicKeyInfo, as RFC 7469 2.4 has it) among the keys; borrowed for the call only */
    const struct slice *peer_hashes, *peer_keys;
    uint32_t n_others, n_peer_names, n_peer_hashes, n_peer_keys;
    bool resume;             /* session tickets (server) and session reuse (client) */
};
/* Build a context. The error names the bad part ("identity chain", "roots"). */
int tls_ctx_new(const struct tls_ctx_opts *opts, struct tls_ctx **ret, struct err *err);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
void tls_ctx_unref(struct tls_ctx *ctx);

/* Judge the peer's SPIFFE id after its chain was verified: ERR_OK, or ERR_DENIED with the reason in
 * *err. Called within the handshake, or before it for a session to be resumed, perhaps more than
 * once; must not block nor close the channel. The null slice: the peer has no SPIFFE id (only
 * without `spiffe`). */
typedef enum err_code tls_judge_fn(void *user, struct slice spiffe_id, struct err *err);

struct tls_conn_opts {
    const char *sni;         /* client; NULL sends none */
    struct slice alpn;       /* client: names to offer, each behind its length byte, borrowed for the
                                call; null: the context's */
    const char *verify_host; /* client, not spiffe: name the certificate must match; NULL: none */
    const struct slice *sans; /* client, not spiffe: one of these names (DNS, IP address, URI) must stand
                                 in the certificate; copied */
    size_t n_sans;
    tls_judge_fn *judge;     /* may be NULL: every verified peer passes; needs verify_peer */
    void *judge_user;
    struct slice session_key; /* client with resume: sessions are kept per such key; copied */
};
/* Wrap `below` (taken, also on failure), which may still be connecting. The handshake starts in
 * this turn; CHAN_OPEN when it is done, CHAN_FAIL with tls_chan_error when not: failure is
 * ERR_DENIED when this side refused the peer's certificate, ERR_PROTO when TLS broke or the peer
 * refused, else what `below` failed with. A peer that ends without close_notify is ERR_PROTO, not
 * EOF. A deadline for the handshake is the owner's. A server chan gets bytes that were sniffed
 * before through `early` (copied). Bytes that were written before chan_close still go out, for at
 * most five seconds. A reader should be prepared for CHAN_READ without bytes (tickets, key
 * updates). */
int tls_chan_client(struct tls_ctx *ctx, struct chan *below, const struct tls_conn_opts *opts,
                    struct chan **ret, struct err *err);
int tls_chan_server(struct tls_ctx *ctx, struct chan *below, const struct tls_conn_opts *opts,
                    struct slice early, struct chan **ret, struct err *err);

/* Facts after CHAN_OPEN; borrow from the channel. Null slices when absent. */
struct slice tls_chan_peer_spiffe(const struct chan *c);
struct slice tls_chan_alpn(const struct chan *c);
struct slice tls_chan_sni(const struct chan *c);
/* End of the peer's certificate, civil time; 0 when it showed none. */
int64_t tls_chan_peer_not_after_ns(const struct chan *c);
/* Who issued the peer's certificate: the first 4 bytes of its authority key identifier; 0: not told. */
uint32_t tls_chan_peer_issuer(const struct chan *c);
bool tls_chan_resumed(const struct chan *c);
/* SHA-256 of the peer's leaf (32 bytes; XFCC Hash), false when none. */
bool tls_chan_peer_hash(const struct chan *c, unsigned char ret[32]);
/* One line that says why it failed ("certificate verify failed: certificate has expired"); "" while
 * it has not. Borrows from the channel. For other channels chan_failure_text. */
const char *tls_chan_error(const struct chan *c);
/* True for channels made by this module. */
bool chan_is_tls(const struct chan *c);

/* What a ClientHello says, from its first bytes (RFC 8446 4.1.2, RFC 6066 3, RFC 7301 3.1).
 * ERR_AGAIN: more bytes are needed; ERR_INVALID: not a ClientHello; ERR_LIMIT: longer than
 * TLS_HELLO_MAX. A message may be spread over several records. *ret borrows from `bytes` and, for a
 * name that a record boundary cuts, from itself: do not copy the struct. Null slices when absent.
 */
enum { TLS_HELLO_MAX = 16384 };
struct tls_hello {
    struct slice sni;
    struct slice alpn; /* protocol names, each behind its length byte; checked */
    unsigned frag_len;
    char frag[512];
};
/* The next name of such a list: cuts it from the front; false at the end. */
bool tls_alpn_next(struct slice *alpn, struct slice *ret);
enum err_code tls_hello_parse(struct slice bytes, struct tls_hello *ret);
