/* SPDX-License-Identifier: Apache-2.0 */
/* Dialling: TCP, and mutual TLS over it where both sides speak it. What a cluster demands is never
 * traded for plaintext. */
#include "proxy/upstream/upstream.h"

#include <stdio.h>

#include "proxy/worker.h"

enum err_code up_host_tls(const struct up_host *h, bool *ret)
{
    switch (h->cluster->cfg.tls) {
    case PROG_TLS_AUTO:
        *ret = h->mtls;
        return ERR_OK;
    case PROG_TLS_DISABLE:
        *ret = false;
        return ERR_OK;
    case PROG_TLS_MUTUAL_MESH:
        if (!h->mtls)
            return ERR_DENIED;
        *ret = true;
        return ERR_OK;
    case PROG_TLS_SIMPLE:
    case PROG_TLS_MUTUAL:
        break; /* origination is not built: compile marks such clusters with a problem */
    }
    return ERR_DENIED;
}

/* Is the peer who it should be? The endpoint's own identity, or one that the cluster names. */
static enum err_code judge(void *user, struct slice spiffe_id, struct err *err)
{
    const struct up_host *h = user;
    const struct prog_strings *sans = &h->cluster->cfg.subject_alt_names;
    if (h->identity.len && slice_eq(spiffe_id, h->identity))
        return ERR_OK;
    for (uint32_t i = 0; i < sans->n; i++)
        if (slice_eq(spiffe_id, sans->p[i]))
            return ERR_OK;
    err_set(err, ERR_DENIED, "peer is %.*s, expected %.*s", SL_FMT(spiffe_id),
            SL_FMT(h->identity));
    return ERR_DENIED;
}

int up_dial(struct up_host *h, enum up_alpn alpn, const struct sock_addr *src, struct chan **ret,
            struct err *err)
{
    struct worker *w = h->cluster->worker;
    bool tls;
    if (up_host_tls(h, &tls) != ERR_OK)
        return err_set(err, ERR_DENIED, "the endpoint does not speak mTLS, which is demanded");
    struct tls_ctx *ctx = tls ? w->client_tls[alpn] : NULL;
    if (tls && !ctx)
        return err_set(err, ERR_UNAVAILABLE, "no workload certificate yet");
    int fd = sock_connect(&h->addr, src, err);
    if (fd < 0)
        return -1;
    const struct prog_tcp *opts_tcp = PROG_POLICY(&h->cluster->cfg, tcp);
    if (opts_tcp && opts_tcp->keepalive)
        sock_keepalive(fd, opts_tcp->keepalive_probes, opts_tcp->keepalive_time_s,
                       opts_tcp->keepalive_interval_s);
    struct chan *tcp;
    if (chan_tcp(w->loop, fd, false, &tcp, err) < 0)
        return -1;
    if (!tls) {
        *ret = tcp;
        return 0;
    }
    char sni[256], key[SOCK_TEXT_MAX + 8];
    if (!slice_copy(h->cluster->cfg.sni, sni, sizeof sni))
        sni[0] = '\0';
    char text[SOCK_TEXT_MAX];
    int n = snprintf(key, sizeof key, "%d %s", (int)alpn, sock_addr_text(&h->addr, text));
    struct tls_conn_opts opts = {
        .sni = sni[0] ? sni : NULL,
        .judge = judge,
        .judge_user = h, /* the caller holds the host for as long as the channel */
        .session_key = slice_of(key, (size_t)n),
    };
    return tls_chan_client(ctx, tcp, &opts, ret, err);
}
