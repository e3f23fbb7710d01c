/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/sniff.h"

#include "lib/tls/tls.h"

static bool is_upper(char c)
{
    return (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* Does the ALPN list (RFC 7301 3.1, each name behind its length) name a protocol of the mesh? */
static bool alpn_is_mesh(struct slice list)
{
    while (list.len) {
        size_t n = (unsigned char)list.p[0];
        struct slice name = slice_head(slice_skip(list, 1), n);
        if (slice_is(name, "istio") || slice_starts(name, SL("istio-")))
            return true;
        list = slice_skip(list, 1 + n);
    }
    return false;
}

static enum sniff sniff_tls(struct slice b, bool eof)
{
    struct tls_hello hello;
    switch (tls_hello_parse(b, &hello)) {
    case ERR_OK:
        return alpn_is_mesh(hello.alpn) ? SNIFF_MESH_TLS : SNIFF_TLS;
    case ERR_AGAIN:
        return eof ? SNIFF_OTHER : SNIFF_MORE;
    default:
        return SNIFF_OTHER;
    }
}

enum sniff sniff(struct slice b, bool tls, bool eof)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n";
    if (b.len == 0)
        return eof ? SNIFF_OTHER : SNIFF_MORE;
    if ((unsigned char)b.p[0] == 0x16) { /* handshake record (RFC 8446 5.1) */
        if (b.len < 3)
            return eof ? SNIFF_OTHER : SNIFF_MORE;
        if (b.p[1] != 3)
            return SNIFF_OTHER;
        return tls ? sniff_tls(b, eof) : SNIFF_TLS;
    }
    size_t n = b.len < sizeof preface - 1 ? b.len : sizeof preface - 1;
    if (b.p[0] == 'P' && memcmp(b.p, preface, n) == 0 && b.len >= 4)
        return n == sizeof preface - 1 ? SNIFF_HTTP2 : eof ? SNIFF_OTHER : SNIFF_MORE;
    /* method SP target: a method of up to 20 letters, then '/', '*' or the start of an URL */
    size_t i = 0;
    while (i < b.len && i <= 20 && is_upper(b.p[i]))
        i++;
    if (i == b.len && i <= 20)
        return eof ? SNIFF_OTHER : SNIFF_MORE;
    if (i == 0 || i > 20 || b.p[i] != ' ')
        return SNIFF_OTHER;
    if (i + 1 == b.len)
        return eof ? SNIFF_OTHER : SNIFF_MORE;
    char c = b.p[i + 1];
    bool connect = slice_is(slice_head(b, i), "CONNECT");
    bool target = c == '/' || c == '*' || c == 'h' || c == 'H' || connect;
    return target ? SNIFF_HTTP1 : SNIFF_OTHER;
}
