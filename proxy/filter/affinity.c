/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filter/affinity.h"

#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/base/hash.h"

static struct slice trimmed(struct slice s)
{
    while (s.len && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = slice_skip(s, 1);
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s = slice_head(s, s.len - 1);
    if (s.len >= 2 && s.p[0] == '"' && s.p[s.len - 1] == '"')
        s = slice_of(s.p + 1, s.len - 2);
    return s;
}

/* The value of `name` in "a=1<sep>b=2"; null slice when absent. */
static struct slice pair_find(struct slice list, char sep, struct slice name)
{
    struct slice one;

    while (slice_next(&list, sep, &one)) {
        ptrdiff_t eq = slice_chr(one, '=');
        struct slice key = trimmed(eq < 0 ? one : slice_head(one, (size_t)eq));

        if (!slice_eq(key, name))
            continue;
        struct slice value = eq < 0 ? SL("") : slice_skip(one, (size_t)eq + 1);
        return sep == ';' ? trimmed(value) : value;
    }
    return SLICE_NULL;
}

struct slice affinity_cookie(const struct http_head *req, struct slice name)
{
    for (int i = -1; (i = http_head_next(req, SL("cookie"), i + 1)) >= 0;) {
        struct slice value = pair_find(req->fields[i].value, ';', name);

        if (value.len)
            return value;
    }
    return SLICE_NULL;
}

struct slice affinity_parameter(struct slice target, struct slice name)
{
    ptrdiff_t q = slice_chr(target, '?');

    return q < 0 ? SLICE_NULL : pair_find(slice_skip(target, (size_t)q + 1), '&', name);
}

/* Several lines of a field count alike in any order. */
static bool header_key(const struct http_head *req, struct slice name, uint64_t *ret)
{
    bool found = false;

    *ret = 0;
    if (slice_is(name, ":authority") || slice_is(name, "host")) {
        *ret = hash64(req->authority, 0);
        return req->authority.len > 0;
    }
    for (int i = -1; (i = http_head_next(req, name, i + 1)) >= 0; found = true)
        *ret += hash64(req->fields[i].value, 0);
    return found;
}

bool affinity_of_peer(const struct prog_hash *h, const struct sock_addr *peer, uint64_t *ret)
{
    if (!h || h->key != PROG_HASH_SOURCE_IP)
        return false;
    *ret = hash64(sock_addr_bytes(peer), 0);
    return true;
}

/* A value by the client's address and port: the same for all first requests of one connection. */
static struct slice cookie_make(const struct prog_hash *h, const struct http_head *req,
                                const struct sock_addr *peer, char value[17])
{
    struct slice field = SLICE_NULL;
    uint16_t port = sock_addr_port(peer);
    struct buf b;

    snprintf(
        value, 17, "%016llx",
        (unsigned long long)hash64(sock_addr_bytes(peer), hash64(slice_of(&port, sizeof port), 0)));
    buf_init(&b, 4096);
    buf_addf(&b, "%.*s=\"%s\"", SL_FMT(h->name), value);
    if (h->cookie_ttl_s)
        buf_addf(&b, "; Max-Age=%u", h->cookie_ttl_s);
    if (h->cookie_path.len)
        buf_addf(&b, "; Path=%.*s", SL_FMT(h->cookie_path));
    for (uint32_t i = 0; i < h->n_cookie_attributes; i++) {
        buf_addf(&b, "; %.*s", SL_FMT(h->cookie_attributes[i].name));
        if (h->cookie_attributes[i].value.len)
            buf_addf(&b, "=%.*s", SL_FMT(h->cookie_attributes[i].value));
    }
    buf_add_str(&b, "; HttpOnly");
    if (buf_err(&b) == ERR_OK && http_value_ok(buf_slice(&b)))
        field = arena_slice(req->arena, buf_slice(&b));
    buf_fini(&b);
    return field;
}

bool affinity_of_request(const struct prog_hash *h, const struct http_head *req,
                         const struct sock_addr *peer, uint64_t *ret, struct slice *ret_set_cookie)
{
    struct slice value = SLICE_NULL;
    char made[17];

    *ret_set_cookie = SLICE_NULL;
    if (!h)
        return false;
    switch (h->key) {
    case PROG_HASH_HEADER:
        return header_key(req, h->name, ret);
    case PROG_HASH_SOURCE_IP:
        return affinity_of_peer(h, peer, ret);
    case PROG_HASH_QUERY:
        value = affinity_parameter(req->path, h->name);
        break;
    case PROG_HASH_COOKIE:
        value = affinity_cookie(req, h->name);
        if (!value.len && h->cookie_made) {
            *ret_set_cookie = cookie_make(h, req, peer, made);
            value = slice_str(made);
        }
        break;
    }
    *ret = hash64(value, 0);
    return value.p != NULL;
}
