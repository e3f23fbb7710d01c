/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over the bytes from front to back, each decision made from the bytes before it: hence a
 * prefix gives ERR_AGAIN or what the whole gives. */
#include "lib/tls/tls.h"

enum {
    RECORD_HANDSHAKE = 22,
    RECORD_MAX = 16384,
    MSG_CLIENT_HELLO = 1,
    EXT_SERVER_NAME = 0,
    EXT_ALPN = 16,
    NAME_HOST = 0,
};

/* The handshake bytes without the record headers between them. */
struct cur {
    const unsigned char *p, *end;
    size_t in_record; /* bytes left of the current record */
    enum err_code rc; /* sticky */
};

static unsigned u16_at(const unsigned char *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

/* RFC 8446 5.1 */
static bool record_begin(struct cur *c)
{
    size_t left = (size_t)(c->end - c->p);

    while (c->rc == ERR_OK && c->in_record == 0) {
        if (left >= 1 && c->p[0] != RECORD_HANDSHAKE)
            c->rc = ERR_INVALID;
        else if (left >= 2 && c->p[1] != 3)
            c->rc = ERR_INVALID;
        else if (left < 5)
            c->rc = ERR_AGAIN;
        else if (u16_at(c->p + 3) == 0 || u16_at(c->p + 3) > RECORD_MAX)
            c->rc = ERR_INVALID;
        else
            c->in_record = u16_at(c->p + 3), c->p += 5;
    }
    return c->rc == ERR_OK;
}

/* Up to n contiguous bytes; 0 with c->rc set when there are none. */
static size_t run(struct cur *c, size_t n, const unsigned char **ret)
{
    if (c->rc != ERR_OK || !record_begin(c))
        return 0;
    n = n < c->in_record ? n : c->in_record;
    if (n > (size_t)(c->end - c->p))
        n = (size_t)(c->end - c->p);
    if (n == 0)
        c->rc = ERR_AGAIN;
    *ret = c->p;
    c->p += n;
    c->in_record -= n;
    return n;
}

static uint32_t number(struct cur *c, int bytes)
{
    uint32_t v = 0;
    const unsigned char *p;

    while (bytes--)
        v = v << 8 | (run(c, 1, &p) ? *p : 0U);
    return v;
}

static void skip(struct cur *c, size_t n)
{
    const unsigned char *p;

    for (size_t got; n > 0 && (got = run(c, n, &p)) > 0;)
        n -= got;
}

/* n bytes as one slice: in place, or in ret->frag when a record boundary cuts them. */
static struct slice bytes(struct cur *c, size_t n, struct tls_hello *ret)
{
    const unsigned char *p = NULL;
    size_t got = n ? run(c, n, &p) : 0;
    char *to = ret->frag + ret->frag_len;

    if (got == n)
        return slice_of(p ? (const void *)p : "", n);
    /* More bytes of this record may yet come: not cut, only not here. */
    if (c->rc == ERR_OK && c->in_record > 0)
        c->rc = ERR_AGAIN;
    if (c->rc == ERR_OK && n > sizeof ret->frag - ret->frag_len)
        c->rc = ERR_LIMIT;
    if (c->rc != ERR_OK)
        return SLICE_NULL;
    for (size_t at = 0; got > 0; got = at < n ? run(c, n - at, &p) : 0) {
        memcpy(to + at, p, got);
        at += got;
    }
    ret->frag_len += (unsigned)n;
    return c->rc == ERR_OK ? slice_of(to, n) : SLICE_NULL;
}

static void want(struct cur *c, bool ok)
{
    if (c->rc == ERR_OK && !ok)
        c->rc = ERR_INVALID;
}

/* RFC 6066 3: a list that holds one host name. */
static void server_name(struct cur *c, size_t len, struct tls_hello *ret)
{
    size_t list, n;

    want(c, ret->sni.p == NULL && len > 5);
    list = number(c, 2);
    want(c, list + 2 == len);
    want(c, number(c, 1) == NAME_HOST);
    n = number(c, 2);
    want(c, n > 0 && n + 3 == list && n <= 255);
    if (c->rc != ERR_OK)
        return;
    ret->sni = bytes(c, n, ret);
    for (size_t i = 0; i < ret->sni.len; i++)
        want(c, ret->sni.p[i] > ' ' && ret->sni.p[i] < 0x7f);
}

bool tls_alpn_next(struct slice *alpn, struct slice *ret)
{
    size_t n = alpn->len ? (unsigned char)alpn->p[0] : 0;

    if (n == 0 || n >= alpn->len)
        return false;
    *ret = slice_of(alpn->p + 1, n);
    *alpn = slice_skip(*alpn, n + 1);
    return true;
}

/* RFC 7301 3.1 */
static void protocol_names(struct cur *c, size_t len, struct tls_hello *ret)
{
    struct slice rest, name;
    size_t list;

    want(c, ret->alpn.p == NULL && len >= 4);
    list = number(c, 2);
    want(c, list + 2 == len);
    if (c->rc != ERR_OK)
        return;
    ret->alpn = rest = bytes(c, list, ret);
    while (c->rc == ERR_OK && rest.len > 0)
        want(c, tls_alpn_next(&rest, &name));
}

static void extensions(struct cur *c, size_t total, struct tls_hello *ret)
{
    while (c->rc == ERR_OK && total > 0) {
        unsigned type;
        size_t len;

        want(c, total >= 4); /* never read beyond the message: the rest would be waited for */
        type = number(c, 2);
        len = number(c, 2);
        want(c, len <= total - 4);
        if (c->rc != ERR_OK)
            return;
        total -= 4 + len;
        if (type == EXT_SERVER_NAME)
            server_name(c, len, ret);
        else if (type == EXT_ALPN)
            protocol_names(c, len, ret);
        else
            skip(c, len);
    }
}

enum err_code tls_hello_parse(struct slice in, struct tls_hello *ret)
{
    const unsigned char *p = (const unsigned char *)in.p;
    struct cur c = {.p = p, .end = p ? p + in.len : p};
    size_t left, n;

    ret->sni = ret->alpn = SLICE_NULL;
    ret->frag_len = 0;
    want(&c, number(&c, 1) == MSG_CLIENT_HELLO);
    left = number(&c, 3);
    if (c.rc == ERR_OK && left > TLS_HELLO_MAX)
        return ERR_LIMIT;
    want(&c, left >= 2 + 32 + 1 + 2 + 2 + 1 + 1);
    want(&c, number(&c, 1) == 3); /* legacy_version */
    skip(&c, 1 + 32);
    left -= 34;
    n = number(&c, 1); /* legacy_session_id */
    want(&c, n <= 32 && n + 1 <= left);
    skip(&c, n);
    left -= n + 1;
    want(&c, left >= 2);
    n = number(&c, 2); /* cipher_suites */
    want(&c, n >= 2 && n % 2 == 0 && n + 2 <= left);
    skip(&c, n);
    left -= n + 2;
    want(&c, left >= 1);
    n = number(&c, 1); /* legacy_compression_methods */
    want(&c, n >= 1 && n + 1 <= left);
    skip(&c, n);
    left -= n + 1;
    if (c.rc == ERR_OK && left > 0) { /* TLS 1.2 may come without extensions */
        want(&c, left >= 2);
        n = number(&c, 2);
        want(&c, n + 2 == left);
        extensions(&c, n, ret);
    }
    if (c.rc != ERR_OK)
        ret->sni = ret->alpn = SLICE_NULL;
    return c.rc;
}
