/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/ipaddr.h"

#include <arpa/inet.h>

static void unmap(struct ipaddr *ip)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (ip->len == 16 && memcmp(ip->b, mapped, sizeof mapped) == 0) {
        memmove(ip->b, ip->b + 12, 4);
        memset(ip->b + 4, 0, 12);
        ip->len = 4;
    }
}

bool ip_parse(struct slice text, struct ipaddr *ret)
{
    struct ipaddr ip = {0};
    char tmp[IP_TEXT];

    if (!slice_copy(text, tmp, sizeof tmp) || strlen(tmp) != text.len)
        return false;
    if (inet_pton(AF_INET, tmp, ip.b) == 1)
        ip.len = 4;
    else if (inet_pton(AF_INET6, tmp, ip.b) == 1)
        ip.len = 16;
    else
        return false;
    unmap(&ip);
    *ret = ip;
    return true;
}

bool ip_from_bytes(struct slice raw, struct ipaddr *ret)
{
    struct ipaddr ip = {0};

    if (raw.len != 4 && raw.len != 16)
        return false;
    ip.len = (uint8_t)raw.len;
    memcpy(ip.b, raw.p, raw.len);
    unmap(&ip);
    *ret = ip;
    return true;
}

const char *ip_format(const struct ipaddr *ip, char ret[IP_TEXT])
{
    ret[0] = '\0';
    if (ip->len)
        inet_ntop(ip->len == 4 ? AF_INET : AF_INET6, ip->b, ret, IP_TEXT);
    return ret;
}

bool ip_eq(const struct ipaddr *a, const struct ipaddr *b)
{
    return ip_cmp(a, b) == 0;
}

int ip_cmp(const struct ipaddr *a, const struct ipaddr *b)
{
    return a->len != b->len ? a->len - b->len : memcmp(a->b, b->b, a->len);
}

bool ip_is_unspecified(const struct ipaddr *ip)
{
    static const uint8_t zero[16];

    return ip->len && memcmp(ip->b, zero, ip->len) == 0;
}

bool ip_is_loopback(const struct ipaddr *ip)
{
    static const uint8_t v6[16] = {[15] = 1};

    return ip->len == 4 ? ip->b[0] == 127 : ip->len == 16 && memcmp(ip->b, v6, 16) == 0;
}

bool ip_is_link_local(const struct ipaddr *ip)
{
    if (ip->len == 4)
        return ip->b[0] == 169 && ip->b[1] == 254;
    return ip->len == 16 && ip->b[0] == 0xfe && (ip->b[1] & 0xc0) == 0x80;
}
