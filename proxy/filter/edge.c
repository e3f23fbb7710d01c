/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filter/edge.h"

#include "lib/base/arena.h"
#include "lib/data/cidr.h"
#include "lib/data/json.h"

bool edge_is_internal(const struct sock_addr *a)
{
    static const char *const ranges[] = {"10.0.0.0/8",  "172.16.0.0/12",  "192.168.0.0/16",
                                         "127.0.0.0/8", "169.254.0.0/16", "::1/128",
                                         "fc00::/7",    "fe80::/10"};
    struct ipaddr ip;
    struct cidr c;

    if (!ip_from_bytes(sock_addr_bytes(a), &ip))
        return false;
    for (size_t i = 0; i < N_OF(ranges); i++)
        if (cidr_parse(slice_str(ranges[i]), &c) && cidr_contains(&c, &ip))
            return true;
    return false;
}

/* The n-th address from the right, over all lines of the field; null when there are fewer. */
static struct slice nth_from_right(const struct http_head *h, unsigned n)
{
    for (uint32_t i = h->n_fields; i-- > 0;) {
        struct slice rest = h->fields[i].value;

        if (!slice_is(h->fields[i].name, "x-forwarded-for"))
            continue;
        for (bool more = true; more;) {
            ptrdiff_t comma = slice_rchr(rest, ',');
            struct slice one = slice_trim(comma < 0 ? rest : slice_skip(rest, (size_t)comma + 1));

            more = comma >= 0;
            rest = more ? slice_head(rest, (size_t)comma) : rest;
            if (one.len && --n == 0)
                return one;
        }
    }
    return SLICE_NULL;
}

bool edge_client(const struct http_head *h, const struct edge *e, struct sock_addr *ret)
{
    struct slice text = e->hops ? nth_from_right(h, e->hops) : SLICE_NULL;

    *ret = e->peer;
    if (!e->hops)
        return true;
    if (text.len > 2 && text.p[0] == '[' && text.p[text.len - 1] == ']')
        text = slice_of(text.p + 1, text.len - 2);
    return text.p && sock_addr_parse(text, 0, ret) == 0;
}

/* By the letter or by what CGI makes of it (x_forwarded_client_cert). */
static bool is_client_cert(struct slice n)
{
    static const char name[] = "x-forwarded-client-cert";

    for (size_t k = 0; k < n.len; k++)
        if (k >= sizeof name - 1 || (n.p[k] != name[k] && !(name[k] == '-' && n.p[k] == '_')))
            return false;
    return n.len == sizeof name - 1;
}

static void remove_privileged(struct http_head *h)
{
    uint32_t to = 0;

    for (uint32_t i = 0; i < h->n_fields; i++)
        if (!slice_starts(h->fields[i].name, SL("x-envoy-")) && !is_client_cert(h->fields[i].name))
            h->fields[to++] = h->fields[i];
    h->n_fields = to;
}

static enum err_code append_peer(struct http_head *h, const struct edge *e)
{
    char text[SOCK_TEXT_MAX];
    struct slice old = http_head_joined(h, SL("x-forwarded-for"));

    if (!sock_addr_set(&e->peer)) /* at a unix socket */
        return ERR_OK;
    sock_addr_ip_text(&e->peer, text);
    return http_head_set(h, SL("x-forwarded-for"),
                         old.len ? slice_str(arena_printf(h->arena, "%.*s,%s", SL_FMT(old), text))
                                 : slice_str(text));
}

enum err_code edge_headers(struct http_head *h, const struct edge *e)
{
    struct sock_addr client;
    char text[SOCK_TEXT_MAX];
    enum err_code rc;

    edge_client(h, e, &client);
    remove_privileged(h);
    rc = append_peer(h, e);
    /* A trusted proxy in front may have ended TLS; nobody else is asked. */
    if (rc == ERR_OK && (!e->hops || !http_head_get(h, SL("x-forwarded-proto")).len))
        rc = http_head_set(h, SL("x-forwarded-proto"), e->tls ? SL("https") : SL("http"));
    if (rc == ERR_OK && sock_addr_set(&client) && !edge_is_internal(&client))
        rc = http_head_set(h, SL("x-envoy-external-address"),
                           slice_str(sock_addr_ip_text(&client, text)));
    if (rc == ERR_OK && e->client_cert.len)
        rc = http_head_set(h, SL("x-forwarded-client-cert"), e->client_cert);
    return rc;
}

unsigned edge_hops(const char *proxy_config)
{
    json_t *config = NULL;
    struct err err = {0};
    json_int_t n;

    if (!proxy_config || json_parse(slice_str(proxy_config), NULL, &config, &err) < 0)
        return 0;
    n = json_integer_value(
        json_object_get(json_object_get(config, "gatewayTopology"), "numTrustedProxies"));
    json_decref(config);
    return n > 0 && n < 100 ? (unsigned)n : 0;
}
