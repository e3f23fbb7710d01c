/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/sniff.h"

#include <string.h>

#include "tests/unit/tcase.h"

/* A ClientHello with one ALPN name; lengths are filled in. */
static size_t hello(const char *alpn, unsigned char *out)
{
    size_t n = strlen(alpn), at = 0;
    unsigned char body[256];
    body[at++] = 3, body[at++] = 3;
    memset(body + at, 7, 32), at += 32;                      /* random */
    body[at++] = 0;                                          /* session id */
    body[at++] = 0, body[at++] = 2, body[at++] = 0x13, body[at++] = 1; /* one suite */
    body[at++] = 1, body[at++] = 0;                          /* no compression */
    body[at++] = 0, body[at++] = (unsigned char)(n + 7);     /* extensions */
    body[at++] = 0, body[at++] = 16, body[at++] = 0, body[at++] = (unsigned char)(n + 3);
    body[at++] = 0, body[at++] = (unsigned char)(n + 1), body[at++] = (unsigned char)n;
    memcpy(body + at, alpn, n), at += n;
    unsigned char head[] = {0x16, 3, 1, 0, (unsigned char)(at + 4), 1, 0, 0, (unsigned char)at};
    memcpy(out, head, sizeof head);
    memcpy(out + sizeof head, body, at);
    return sizeof head + at;
}

static const struct {
    const char *name, *in;
    bool eof;
    enum sniff want;
} texts[] = {
    {"nothing yet", "", false, SNIFF_MORE},
    {"nothing ever", "", true, SNIFF_OTHER},
    {"request line", "GET / HTTP/1.1\r\n", false, SNIFF_HTTP1},
    {"method alone", "GET", false, SNIFF_MORE},
    {"method and blank", "GET ", false, SNIFF_MORE},
    {"method at the end", "GET", true, SNIFF_OTHER},
    {"target begun", "GET /", false, SNIFF_HTTP1},
    {"absolute form", "GET http://a/ HTTP/1.1", false, SNIFF_HTTP1},
    {"asterisk form", "OPTIONS * HTTP/1.1", false, SNIFF_HTTP1},
    {"authority form", "CONNECT a:1 HTTP/1.1", false, SNIFF_HTTP1},
    {"own method", "M-SEARCH * HTTP/1.1", false, SNIFF_HTTP1},
    {"lower case", "get / HTTP/1.1", false, SNIFF_OTHER},
    {"a word of another protocol", "EHLO there", false, SNIFF_OTHER},
    {"long word", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", false, SNIFF_OTHER},
    {"binary", "\x01\x02\x03", false, SNIFF_OTHER},
    {"preface", "PRI * HTTP/2.0\r\n\r\nSM", false, SNIFF_HTTP2},
    {"preface begun", "PRI * HT", false, SNIFF_MORE},
    {"P may be POST", "P", false, SNIFF_MORE},
    {"POST", "POST / HTTP/1.1", false, SNIFF_HTTP1},
    {"PRI as a method of something else", "PRI /x", false, SNIFF_HTTP1},
    {"handshake begun", "\x16", false, SNIFF_MORE},
    {"handshake of no known version", "\x16\x07\x01", false, SNIFF_OTHER},
};

START_TEST(first_bytes)
{
    ck_assert_msg(sniff(slice_str(texts[_i].in), true, texts[_i].eof) == texts[_i].want, "%s: %d",
                  texts[_i].name, sniff(slice_str(texts[_i].in), true, texts[_i].eof));
}
END_TEST

static const struct {
    const char *alpn;
    bool look;
    enum sniff want;
} hellos[] = {
    {"istio", true, SNIFF_MESH_TLS},
    {"istio-peer-exchange", true, SNIFF_MESH_TLS},
    {"istio-http/1.1", true, SNIFF_MESH_TLS},
    {"h2", true, SNIFF_TLS},
    {"istiox", true, SNIFF_TLS},
    {"istio", false, SNIFF_TLS},
};

START_TEST(client_hello)
{
    unsigned char b[512];
    size_t n = hello(hellos[_i].alpn, b);
    struct slice all = slice_of((const char *)b, n);
    ck_assert_msg(sniff(all, hellos[_i].look, false) == hellos[_i].want, "%s", hellos[_i].alpn);
    /* Cut anywhere it says "more", never something else first. */
    for (size_t cut = 1; hellos[_i].look && cut < n; cut++)
        ck_assert_msg(sniff(slice_head(all, cut), true, false) == SNIFF_MORE, "cut at %zu", cut);
}
END_TEST

TESTS(sniff)
{
    tcase_add_loop_test(tc, first_bytes, 0, N_OF(texts));
    tcase_add_loop_test(tc, client_hello, 0, N_OF(hellos));
}
