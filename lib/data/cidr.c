/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/cidr.h"

#include <stdio.h>

bool cidr_parse(struct slice text, struct cidr *ret)
{
    ptrdiff_t slash = slice_chr(text, '/');
    struct slice addr = slash < 0 ? text : slice_head(text, (size_t)slash);
    struct slice digits = slash < 0 ? SLICE_NULL : slice_skip(text, (size_t)slash + 1);
    struct cidr c = {0};
    uint64_t bits;

    if (!ip_parse(addr, &c.ip))
        return false;
    bits = c.ip.len * 8u;
    if (digits.p) {
        /* The prefix counts in the family as written: "::ffff:10.0.0.0/104" is 10.0.0.0/8. */
        bool mapped = c.ip.len == 4 && slice_chr(addr, ':') >= 0;

        if (!slice_u64(digits, mapped ? 128 : bits, &bits) ||
            (digits.len > 1 && digits.p[0] == '0') || (mapped && bits < 96))
            return false;
        bits -= mapped ? 96 : 0;
    }
    c.bits = (uint8_t)bits;
    for (size_t i = 0; i < c.ip.len; i++) {
        size_t keep = bits > i * 8 ? MIN(bits - i * 8, 8u) : 0;

        c.ip.b[i] &= (uint8_t)(0xff00u >> keep);
    }
    *ret = c;
    return true;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

bool cidr_contains(const struct cidr *c, const struct ipaddr *ip)
{
    return c->ip.len == ip->len && ip->len && same_prefix(c->ip.b, ip->b, c->bits);
}

bool cidr_covers(const struct cidr *outer, const struct cidr *inner)
{
    return outer->bits <= inner->bits && cidr_contains(outer, &inner->ip);
}

const char *cidr_format(const struct cidr *c, char ret[CIDR_TEXT])
{
    char ip[IP_TEXT];

    snprintf(ret, CIDR_TEXT, "%s/%u", ip_format(&c->ip, ip), c->bits);
    return ret;
}

static size_t elements(struct slice text)
{
    size_t n = 1;

    for (size_t i = 0; i < text.len; i++)
        n += text.p[i] == ',';
    return n;
}

int cidr_list_parse(struct arena *a, struct slice text, struct cidr_list *ret, struct err *err)
{
    static const struct cidr all[2] = {{.ip = {.len = 4}}, {.ip = {.len = 16}}};
    struct cidr_list l = {0};
    struct slice part, rest = slice_trim(text);

    if (rest.len == 0) {
        *ret = l;
        return 0;
    }
    l.in = ARENA_ARRAY(a, struct cidr, elements(text) * 2);
    l.out = ARENA_ARRAY(a, struct cidr, elements(text) * 2);
    if (!l.in || !l.out)
        return err_set(err, ERR_NOMEM, "list of address ranges");
    while (slice_next(&rest, ',', &part)) {
        bool out;

        part = slice_trim(part);
        out = part.len && part.p[0] == '!';
        if (out)
            part = slice_skip(part, 1);
        if (slice_is(part, "*")) {
            memcpy(out ? l.out + l.n_out : l.in + l.n_in, all, sizeof all);
            *(out ? &l.n_out : &l.n_in) += 2;
        } else if (cidr_parse(part, out ? l.out + l.n_out : l.in + l.n_in)) {
            *(out ? &l.n_out : &l.n_in) += 1;
        } else {
            return err_set(err, ERR_INVALID, "\"%.*s\" is no address range",
                           (int)MIN(part.len, 64u), part.p ? part.p : "");
        }
    }
    *ret = l;
    return 0;
}

static bool any_contains(const struct cidr *c, size_t n, const struct ipaddr *ip)
{
    for (size_t i = 0; i < n; i++)
        if (cidr_contains(&c[i], ip))
            return true;
    return false;
}

bool cidr_list_contains(const struct cidr_list *l, const struct ipaddr *ip)
{
    if (any_contains(l->out, l->n_out, ip))
        return false;
    return l->n_in ? any_contains(l->in, l->n_in, ip) : l->n_out > 0 && ip->len;
}
