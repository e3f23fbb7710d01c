/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/host.h"

#include "lib/data/ipaddr.h"

static bool lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool label_valid(struct slice s)
{
    if (s.len == 0 || s.len > 63 || !lower_alnum(s.p[0]) || !lower_alnum(s.p[s.len - 1]))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!lower_alnum(s.p[i]) && s.p[i] != '-')
            return false;
    return true;
}

/* A label as DNS clients use them; '_' occurs in SRV-like names. */
static bool host_label(struct slice s)
{
    if (s.len == 0 || s.len > 63 || s.p[0] == '-' || s.p[s.len - 1] == '-')
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!lower_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '_')
            return false;
    return true;
}

bool host_valid(struct slice s)
{
    struct slice rest = s, part;

    if (s.len == 0 || s.len > HOST_MAX)
        return false;
    while (slice_next(&rest, '.', &part))
        if (!host_label(part))
            return false;
    return true;
}

bool host_pattern_valid(struct slice s)
{
    if (!host_is_wildcard(s))
        return host_valid(s);
    if (s.len == 1)
        return true;
    if (s.len > HOST_MAX)
        return false;
    s = slice_skip(s, 1);
    if (s.p[0] == '.')
        return host_valid(slice_skip(s, 1));
    /* "*-x.name": the tail of a label, which may begin with '-' */
    if (s.p[0] == '-')
        s = slice_skip(s, 1);
    return host_valid(s);
}

static enum err_code normalise_v6(struct slice in, char *ret, size_t cap, struct slice *ret_host)
{
    char text[IP_TEXT + 2] = "[";
    struct ipaddr ip;
    size_t n;

    if (in.p[in.len - 1] != ']' || !ip_parse(slice_of(in.p + 1, in.len - 2), &ip) ||
        slice_chr(in, ':') < 0)
        return ERR_INVALID;
    if (ip.len == 4) {
        ip_format(&ip, text);
    } else {
        ip_format(&ip, text + 1);
        n = strlen(text);
        text[n] = ']';
        text[n + 1] = '\0';
    }
    if (!slice_copy(slice_str(text), ret, cap))
        return ERR_LIMIT;
    *ret_host = slice_of(ret, strlen(text));
    return ERR_OK;
}

enum err_code host_normalise(struct slice in, char *ret, size_t cap, struct slice *ret_host)
{
    if (in.len && in.p[0] == '[')
        return in.len < 4 ? ERR_INVALID : normalise_v6(in, ret, cap, ret_host);
    if (in.len && in.p[in.len - 1] == '.')
        in.len--;
    if (in.len == 0)
        return ERR_INVALID;
    if (in.len > HOST_MAX || in.len >= cap)
        return ERR_LIMIT;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.p[i];

        ret[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    ret[in.len] = '\0';
    if (!host_valid(slice_of(ret, in.len)))
        return ERR_INVALID;
    *ret_host = slice_of(ret, in.len);
    return ERR_OK;
}

bool host_matches(struct slice pattern, struct slice host)
{
    struct slice tail;

    if (!host_is_wildcard(pattern))
        return slice_eq(pattern, host);
    tail = slice_skip(pattern, 1);
    if (host_is_wildcard(host))
        return slice_ends(slice_skip(host, 1), tail);
    return host.len > tail.len && slice_ends(host, tail);
}

bool host_overlaps(struct slice a, struct slice b)
{
    return host_matches(a, b) || host_matches(b, a);
}

int host_cmp(struct slice a, struct slice b)
{
    if (host_is_wildcard(a) != host_is_wildcard(b))
        return host_is_wildcard(a) ? 1 : -1;
    if (a.len != b.len)
        return a.len > b.len ? -1 : 1;
    return slice_cmp(a, b);
}

enum err_code authority_split(struct slice authority, struct slice *ret_host, uint16_t *ret_port)
{
    struct slice host = authority, port = SLICE_NULL;
    ptrdiff_t colon = slice_rchr(authority, ':');
    uint64_t number = 0;

    if (slice_chr(authority, '@') >= 0)
        return ERR_INVALID;
    if (authority.len && authority.p[0] == '[') {
        ptrdiff_t end = slice_chr(authority, ']');
        struct ipaddr ip;

        if (end < 0)
            return ERR_INVALID;
        host = slice_of(authority.p + 1, (size_t)end - 1);
        port = slice_skip(authority, (size_t)end + 1);
        if (slice_chr(host, ':') < 0 || !ip_parse(host, &ip))
            return ERR_INVALID;
        if (port.len == 0)
            port = SLICE_NULL;
        else if (port.p[0] == ':')
            port = slice_skip(port, 1);
        else
            return ERR_INVALID;
    } else if (colon >= 0) {
        host = slice_head(authority, (size_t)colon);
        port = slice_skip(authority, (size_t)colon + 1);
        if (slice_chr(host, ':') >= 0)
            return ERR_INVALID;
    }
    if (host.len == 0)
        return ERR_INVALID;
    if (port.p && (port.len > 5 || !slice_u64(port, 65535, &number) || number == 0))
        return ERR_INVALID;
    *ret_host = host;
    *ret_port = (uint16_t)number;
    return ERR_OK;
}
