/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/spiffe.h"

bool spiffe_trust_domain_valid(struct slice td)
{
    if (td.len == 0 || td.len > SPIFFE_TRUST_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < td.len; i++) {
        char c = td.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
            return false;
    }
    return true;
}

static bool segment_valid(struct slice s)
{
    if (s.len == 0 || slice_is(s, ".") || slice_is(s, ".."))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return false;
    }
    return true;
}

enum err_code spiffe_parse(struct slice text, struct spiffe_id *ret)
{
    struct slice parts[4] = {SLICE_NULL}, part, rest;
    struct spiffe_id id = {0};
    ptrdiff_t slash;
    size_t n = 0;

    if (text.len > SPIFFE_MAX || !slice_starts(text, SL("spiffe://")))
        return ERR_INVALID;
    rest = slice_skip(text, 9);
    slash = slice_chr(rest, '/');
    id.trust_domain = slash < 0 ? rest : slice_head(rest, (size_t)slash);
    id.path = slash < 0 ? slice_of(rest.p + rest.len, 0) : slice_skip(rest, (size_t)slash);
    if (!spiffe_trust_domain_valid(id.trust_domain))
        return ERR_INVALID;
    rest = slash < 0 ? SLICE_NULL : slice_skip(id.path, 1);
    while (slice_next(&rest, '/', &part)) {
        if (!segment_valid(part))
            return ERR_INVALID;
        if (n < 4)
            parts[n] = part;
        n++;
    }
    if (n == 4 && slice_is(parts[0], "ns") && slice_is(parts[2], "sa")) {
        id.ns = parts[1];
        id.sa = parts[3];
    }
    *ret = id;
    return ERR_OK;
}

void spiffe_add(struct buf *out, struct slice trust_domain, struct slice ns, struct slice sa)
{
    buf_add_str(out, "spiffe://");
    buf_add_slice(out, trust_domain);
    buf_add_str(out, "/ns/");
    buf_add_slice(out, ns);
    buf_add_str(out, "/sa/");
    buf_add_slice(out, sa);
}
