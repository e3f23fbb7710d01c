/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/url.h"

#include "lib/base/cleanup.h"
#include "lib/data/host.h"

static uint16_t default_port(struct slice scheme)
{
    if (slice_ieq(scheme, SL("http")))
        return 80;
    return slice_ieq(scheme, SL("https")) || slice_ieq(scheme, SL("grpc")) ? 443 : 0;
}

static bool scheme_valid(struct slice s) /* RFC 3986 3.1 */
{
    for (size_t i = 0; i < s.len; i++) {
        char c = (char)(s.p[i] | 0x20);
        bool letter = c >= 'a' && c <= 'z';

        if (!letter && (i == 0 || ((s.p[i] < '0' || s.p[i] > '9') && s.p[i] != '+' &&
                                   s.p[i] != '-' && s.p[i] != '.')))
            return false;
    }
    return s.len > 0;
}

int url_parse(struct slice text, struct url *ret, struct err *err)
{
    struct url u = {0};
    ptrdiff_t mark = slice_find(text, SL("://"));
    size_t end = 0;

    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.p[i] <= 0x20 || text.p[i] == 0x7f || text.p[i] == '#')
            return err_set(err, ERR_INVALID, "URL holds a blank, a control byte or a fragment");
    u.scheme = slice_head(text, mark < 0 ? 0 : (size_t)mark);
    if (mark < 0 || !scheme_valid(u.scheme))
        return err_set(err, ERR_INVALID, "URL must begin with a scheme and \"://\"");
    text = slice_skip(text, (size_t)mark + 3);
    while (end < text.len && text.p[end] != '/' && text.p[end] != '?')
        end++;
    u.authority = slice_head(text, end);
    u.path = slice_skip(text, end);
    if (u.path.len && u.path.p[0] == '?')
        return err_set(err, ERR_INVALID, "URL needs a '/' before its query");
    if (u.path.len == 0)
        u.path = SL("/");
    if (authority_split(u.authority, &u.host, &u.port) != ERR_OK)
        return err_set(err, ERR_INVALID, "URL must name host[:port], has \"%.*s\"",
                       (int)MIN(u.authority.len, 64u), u.authority.p);
    u.host_is_v6 = u.authority.p[0] == '[';
    if (u.port == 0)
        u.port = default_port(u.scheme);
    *ret = u;
    return 0;
}
