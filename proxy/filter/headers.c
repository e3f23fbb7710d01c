/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filter/headers.h"

#include <stdio.h>

#include "proxy/down.h"
#include "proxy/worker.h"

static bool is_authority(struct slice name)
{
    return slice_is(name, "host") || slice_is(name, ":authority");
}

enum err_code headers_apply(struct http_head *h, const struct prog_header_ops *ops)
{
    enum err_code rc = ERR_OK;
    for (uint32_t i = 0; i < ops->remove.n; i++)
        if (!is_authority(ops->remove.p[i]))
            http_head_remove(h, ops->remove.p[i]);
    for (uint32_t i = 0; i < ops->n_set && rc == ERR_OK; i++) {
        if (is_authority(ops->set[i].name))
            h->authority = ops->set[i].value;
        else
            rc = http_head_set(h, ops->set[i].name, ops->set[i].value);
    }
    for (uint32_t i = 0; i < ops->n_add && rc == ERR_OK; i++)
        rc = http_head_add(h, ops->add[i].name, ops->add[i].value);
    return rc;
}

/* x-forwarded-client-cert as Envoy writes it: By=<our id>;Hash=<sha256 of the leaf>;Subject="";URI=<id>. */
static enum err_code set_client_cert(struct http_head *h, const struct down *d)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char hash[32];
    char digest[65], text[1024];
    struct slice peer = tls_chan_peer_spiffe(d->chan);
    const struct prog_workload *self = &d->info.inbound_prog->self;
    if ((d->info.mtls && !peer.len) || !tls_chan_peer_hash(d->chan, hash))
        return ERR_OK;
    for (size_t i = 0; i < sizeof hash; i++) {
        digest[2 * i] = hex[hash[i] >> 4];
        digest[2 * i + 1] = hex[hash[i] & 15];
    }
    digest[64] = '\0';
    int n = snprintf(text, sizeof text, "By=%.*s;Hash=%s;Subject=\"\"%s%.*s",
                     SL_FMT(self->principal), digest, peer.len ? ";URI=" : "", SL_FMT(peer));
    if (n < 0 || (size_t)n >= sizeof text)
        return ERR_LIMIT;
    return http_head_set(h, SL("x-forwarded-client-cert"), slice_of(text, (size_t)n));
}

/* Also under the names that CGI and its kin cannot tell from it (x_forwarded_client_cert). */
static void remove_client_cert(struct http_head *h)
{
    static const char name[] = "x-forwarded-client-cert";
    uint32_t to = 0;
    for (uint32_t i = 0; i < h->n_fields; i++) {
        struct slice n = h->fields[i].name;
        size_t k = 0;
        while (n.len == sizeof name - 1 && k < n.len &&
               (n.p[k] == name[k] || (name[k] == '-' && n.p[k] == '_')))
            k++;
        if (k < sizeof name - 1)
            h->fields[to++] = h->fields[i];
    }
    h->n_fields = to;
}

enum err_code headers_inbound(struct http_head *h, const struct down *d)
{
    remove_client_cert(h);
    bool tls = chan_is_tls(d->chan);
    enum err_code rc = tls ? set_client_cert(h, d) : ERR_OK;
    if (rc == ERR_OK && !http_head_get(h, SL("x-forwarded-proto")).p)
        rc = http_head_set(h, SL("x-forwarded-proto"),
                           tls && !d->info.mtls ? SL("https") : SL("http")); /* the mesh's own TLS is not told */
    return rc;
}

enum err_code headers_request_id(struct http_head *h, struct worker *w, struct slice *ret)
{
    *ret = http_head_get(h, SL("x-request-id"));
    if (ret->len)
        return ERR_OK;
    struct rnd *r = loop_rnd(w->loop);
    uint64_t a = rnd_u64(r), b = rnd_u64(r);
    /* A random UUID (RFC 9562 5.4): version 4 in the 13th digit, variant 10 in the 17th. */
    static const char hex[] = "0123456789abcdef";
    char id[36];
    a = (a & ~0xf000ull) | 0x4000;
    b = (b & ~(3ull << 62)) | 1ull << 63;
    for (unsigned i = 0, digit = 0; i < sizeof id; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            id[i] = '-';
            continue;
        }
        id[i] = hex[(digit < 16 ? a >> (60 - 4 * digit) : b >> (60 - 4 * (digit - 16))) & 15];
        digit++;
    }
    enum err_code rc = http_head_set(h, SL("x-request-id"), slice_of(id, sizeof id));
    *ret = http_head_get(h, SL("x-request-id"));
    return rc;
}

void headers_trailers(struct http_head *h)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < h->n_fields; i++) {
        struct slice n = h->fields[i].name;
        if (slice_starts(n, SL("x-forwarded-")) || slice_starts(n, SL("x-envoy-")) ||
            slice_is(n, "forwarded") || slice_is(n, "via") || slice_is(n, "x-request-id") ||
            slice_is(n, "x-real-ip"))
            continue;
        h->fields[to++] = h->fields[i];
    }
    h->n_fields = to;
}
