/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a TLS channel's peer and protocol. */
#include "lib/tls/chan_int.h"

static const struct tls *facts(const struct chan *c)
{
    const struct tls *t = CONTAINER_OF(c, const struct tls, c);

    return chan_is_tls(c) && c->open && t->ssl ? t : NULL;
}

struct slice tls_chan_peer_spiffe(const struct chan *c)
{
    const struct tls *t = facts(c);

    return t ? slice_str(t->peer.spiffe) : SLICE_NULL;
}

struct slice tls_chan_alpn(const struct chan *c)
{
    const struct tls *t = facts(c);
    const unsigned char *p = NULL;
    unsigned len = 0;

    if (t)
        SSL_get0_alpn_selected(t->ssl, &p, &len);
    return len ? slice_of(p, len) : SLICE_NULL;
}

struct slice tls_chan_sni(const struct chan *c)
{
    const struct tls *t = facts(c);

    return t ? slice_str(SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name)) : SLICE_NULL;
}

bool tls_chan_resumed(const struct chan *c)
{
    const struct tls *t = facts(c);

    return t && t->resumed;
}

int64_t tls_chan_peer_not_after_ns(const struct chan *c)
{
    const struct tls *t = facts(c);

    return t && t->peer.known ? t->peer.end_s * NS_PER_S : 0;
}

uint32_t tls_chan_peer_issuer(const struct chan *c)
{
    const struct tls *t = facts(c);

    return t && t->peer.known ? t->peer.issuer : 0;
}

bool tls_chan_peer_hash(const struct chan *c, unsigned char ret[32])
{
    const struct tls *t = facts(c);

    if (!t || !t->peer.known)
        return false;
    memcpy(ret, t->peer.hash, sizeof t->peer.hash);
    return true;
}

const char *tls_chan_error(const struct chan *c)
{
    const struct tls *t = CONTAINER_OF(c, const struct tls, c);

    if (!chan_is_tls(c) || (!t->error && c->failure))
        return chan_failure_text(c);
    return c->failure && t->error ? t->error : "";
}
