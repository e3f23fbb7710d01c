/* SPDX-License-Identifier: Apache-2.0 */
/* Dialling: TCP, mutual TLS over it where both sides speak it, or the TLS that a DestinationRule names.
 * What a cluster demands is never traded for plaintext. */
#include "proxy/upstream/upstream.h"

#include <stdio.h>

#include "lib/base/cleanup.h"
#include "lib/base/hash.h"
#include "lib/data/host.h"
#include "proxy/down.h"
#include "proxy/upstream/origin.h"
#include "proxy/worker.h"

static void ctx_unrefp(struct tls_ctx **ctx)
{
    tls_ctx_unref(*ctx);
}

enum err_code up_host_tls(const struct up_host *h, bool *ret)
{
    switch (h->cluster->cfg->tls) {
    case PROG_TLS_AUTO:
        *ret = h->mtls;
        return ERR_OK;
    case PROG_TLS_DISABLE:
        *ret = false;
        return ERR_OK;
    case PROG_TLS_MUTUAL_MESH: /* of a server outside the rule may say who it must be */
        if (!h->mtls && !h->cluster->cfg->subject_alt_names.n)
            return ERR_DENIED;
        *ret = true;
        return ERR_OK;
    case PROG_TLS_SIMPLE:
    case PROG_TLS_MUTUAL:
        *ret = true;
        return ERR_OK;
    }
    return ERR_DENIED;
}

/* Is the peer who it should be? The endpoint's own identity, or one that the cluster names. */
static enum err_code judge(void *user, struct slice spiffe_id, struct err *err)
{
    const struct up_host *h = user;
    const struct prog_strings *sans = &h->cluster->cfg->subject_alt_names;
    if (h->identity.len && slice_eq(spiffe_id, h->identity))
        return ERR_OK;
    for (uint32_t i = 0; i < sans->n; i++)
        if (slice_eq(spiffe_id, sans->p[i]))
            return ERR_OK;
    err_set(err, ERR_DENIED, "peer is %.*s, expected %.*s", SL_FMT(spiffe_id),
            SL_FMT(h->identity));
    return ERR_DENIED;
}

bool up_mesh_tls(const struct up_host *h, const struct chan *c)
{
    return chan_is_tls(c) && !origin_wanted(h->cluster->cfg);
}

/* TCP alone; taken by the caller's TLS, if any. */
static int dial_tcp(struct up_host *h, const struct sock_addr *src, struct chan **ret,
                    struct err *err)
{
    const struct prog_tcp *t = PROG_POLICY(h->cluster->cfg, tcp);
    int fd = h->path ? sock_connect_unix(h->path, err) : sock_connect(&h->addr, src, err);
    if (fd < 0)
        return -1;
    if (t && t->keepalive)
        sock_keepalive(fd, t->keepalive_probes, t->keepalive_time_s, t->keepalive_interval_s);
    return chan_tcp(h->cluster->worker->loop, fd, false, ret, err);
}

static uint64_t names_hash(const struct tls_conn_opts *o)
{
    uint64_t h = o->n_sans;
    for (size_t i = 0; i < o->n_sans; i++)
        h = hash64(o->sans[i], h);
    return h;
}

/* TLS as the cluster wants it. A session is good for what it was verified for: the cluster's names are
 * part of its key. */
static int dial_origin(struct up_host *h, enum up_alpn alpn, const struct sock_addr *src,
                       struct chan **ret, struct err *err)
{
    struct up_cluster *c = h->cluster;
    CLEANUP(ctx_unrefp) struct tls_ctx *ctx = NULL;
    struct tls_conn_opts opts;
    struct chan *tcp;
    char sni[HOST_MAX + 1], text[SOCK_TEXT_MAX], key[SOCK_TEXT_MAX + 32];
    if (origin_opts(c->cfg, sni, sizeof sni, &opts, err) < 0 ||
        origin_ctx(PROG_POLICY(c->cfg, origin), alpn, loop_now(c->worker->loop), &ctx, err) < 0 ||
        dial_tcp(h, src, &tcp, err) < 0)
        return -1;
    int n = snprintf(key, sizeof key, "%s %016llx", sock_addr_text(&h->addr, text),
                     (unsigned long long)names_hash(&opts));
    opts.session_key = slice_of(key, (size_t)n);
    return tls_chan_client(ctx, tcp, &opts, ret, err);
}

/* What the connection will carry, in the names by which sidecars know each other (Istio's ALPN filter). */
static struct slice alpn_names(enum up_alpn alpn)
{
    switch (alpn) {
    case UP_ALPN_HTTP1:
        return SL("\x0eistio-http/1.1\x05istio");
    case UP_ALPN_HTTP2:
        return SL("\x08istio-h2\x05istio");
    case UP_ALPN_SHARED:
        return SL("\x0e" TULLE_SHARED_ALPN "\x0eistio-http/1.1\x05istio");
    case UP_ALPN_TCP:
        break;
    }
    return SL("\x05istio");
}

int up_dial(struct up_host *h, enum up_alpn alpn, const struct sock_addr *src, struct chan **ret,
            struct err *err)
{
    struct worker *w = h->cluster->worker;
    bool tls;
    if (up_host_tls(h, &tls) != ERR_OK)
        return err_set(err, ERR_DENIED, "the endpoint does not speak mTLS, which is demanded");
    if (origin_wanted(h->cluster->cfg))
        return dial_origin(h, alpn, src, ret, err);
    struct tls_ctx *ctx = tls ? w->client_tls : NULL;
    if (tls && !ctx)
        return err_set(err, ERR_UNAVAILABLE, "no workload certificate yet");
    struct chan *tcp;
    if (dial_tcp(h, src, &tcp, err) < 0)
        return -1;
    if (!tls) {
        *ret = tcp;
        return 0;
    }
    char sni[256], key[SOCK_TEXT_MAX + 8];
    if (!slice_copy(h->cluster->cfg->sni, sni, sizeof sni))
        sni[0] = '\0';
    char text[SOCK_TEXT_MAX];
    int n = snprintf(key, sizeof key, "%d %s", (int)alpn, sock_addr_text(&h->addr, text));
    struct tls_conn_opts opts = {
        .sni = sni[0] ? sni : NULL,
        .alpn = alpn_names(alpn),
        .judge = judge,
        .judge_user = h, /* the caller holds the host for as long as the channel */
        .session_key = slice_of(key, (size_t)n),
    };
    return tls_chan_client(ctx, tcp, &opts, ret, err);
}
