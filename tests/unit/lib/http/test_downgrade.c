/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 messages that leave as HTTP/1 (RFC 9113 8, 10.3; RFC 9112 11). Each is either refused, or is
 * written in one form, byte for byte as the table has it, which the strict HTTP/1 codec then reads as one
 * message with nothing behind it. */
#include "tests/unit/tcase.h"

#include "lib/http/h1.h"
#include "tests/unit/lib/http/h2_raw.h"

#define S(text)                                                                                    \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
#define M(m) F(":method", m)
#define REST F(":scheme", "http") F(":authority", "a") F(":path", "/")
#define GET M("GET") REST
#define POST M("POST") REST
#define CHUNK(n, text) n "\r\n" text "\r\n"
#define TO_GET "GET / HTTP/1.1\r\nhost: a\r\n"
#define TO_POST "POST / HTTP/1.1\r\nhost: a\r\n"
#define TO_CHUNKED "transfer-encoding: chunked\r\n"
#define LAST "0\r\n\r\n"
#define LONG16 "aaaaaaaaaaaaaaaa"
#define LONG256 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16
#define LONG4K LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256 LONG256

struct row {
    const char *name;
    struct slice head;
    const char *body;      /* NULL: the head ends the stream; pieces end in '|', the last ends it */
    struct slice trailers; /* end the stream instead */
    enum h2_refusal why;
    struct slice out;
};

/* clang-format off */
static const struct row requests[] = {
    /* --- plain ones --- */
    {"get", S(GET), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"query", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/x?a=b&c")), NULL, S(""), H2_NONE, S("GET /x?a=b&c HTTP/1.1\r\nhost: a\r\n\r\n")},
    {"https scheme", S(M("GET") F(":scheme", "https") F(":authority", "a") F(":path", "/")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"scheme in capitals", S(M("GET") F(":scheme", "HTTP") F(":authority", "a") F(":path", "/")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"pseudo-header fields in any order", S(F(":path", "/") F(":authority", "a") F(":scheme", "http") M("GET")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"options *", S(M("OPTIONS") F(":scheme", "http") F(":authority", "a") F(":path", "*")), NULL, S(""), H2_NONE, S("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n")},
    {"a field", S(GET F("x", "y z")), NULL, S(""), H2_NONE, S(TO_GET "x: y z\r\n\r\n")},
    {"a field twice", S(GET F("x", "1") F("x", "2")), NULL, S(""), H2_NONE, S(TO_GET "x: 1\r\nx: 2\r\n\r\n")},
    {"an empty value", S(GET F("x", "")), NULL, S(""), H2_NONE, S(TO_GET "x: \r\n\r\n")},
    {"bytes beyond ASCII in a value", S(GET F("x", "\xc3\xa9")), NULL, S(""), H2_NONE, S(TO_GET "x: \xc3\xa9\r\n\r\n")},
    {"a tab within a value", S(GET F("x", "a\tb")), NULL, S(""), H2_NONE, S(TO_GET "x: a\tb\r\n\r\n")},
    {"a colon within a value", S(GET F("x", "a: b")), NULL, S(""), H2_NONE, S(TO_GET "x: a: b\r\n\r\n")},
    {"an unknown method", S(M("BREW") REST), NULL, S(""), H2_NONE, S("BREW / HTTP/1.1\r\nhost: a\r\n\r\n")},
    {"priority is a field like others", S(GET F("priority", "u=1")), NULL, S(""), H2_NONE, S(TO_GET "priority: u=1\r\n\r\n")},

    /* --- content --- */
    {"content without a length", S(POST), "hello", S(""), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("5", "hello") LAST)},
    {"content in pieces", S(POST), "he|llo", S(""), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("2", "he") CHUNK("3", "llo") LAST)},
    {"content that looks like a chunk", S(POST), "0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n", S(""), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1b", "0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n") LAST)},
    {"content with its length", S(POST F("content-length", "5")), "hello", S(""), H2_NONE, S(TO_POST "content-length: 5\r\n\r\nhello")},
    {"a length of nought, ended by the head", S(POST F("content-length", "0")), NULL, S(""), H2_NONE, S(TO_POST "content-length: 0\r\n\r\n")},
    {"a length of nought, ended by empty content", S(POST F("content-length", "0")), "", S(""), H2_NONE, S(TO_POST "content-length: 0\r\n\r\n")},
    {"a length with zeros in front", S(POST F("content-length", "005")), "hello", S(""), H2_NONE, S(TO_POST "content-length: 5\r\n\r\nhello")},
    {"no content, ended by empty content", S(GET), "", S(""), H2_NONE, S(TO_GET TO_CHUNKED "\r\n" LAST)},
    {"a GET with content", S(GET), "x", S(""), H2_NONE, S(TO_GET TO_CHUNKED "\r\n" CHUNK("1", "x") LAST)},
    {"H2.CL: content shorter than its length", S(POST F("content-length", "6")), "hello", S(""), H2_LENGTH_DIFFERS, S(TO_POST "content-length: 6\r\n\r\nhello")},
    {"H2.CL: content longer than its length", S(POST F("content-length", "4")), "hello", S(""), H2_LENGTH_DIFFERS, S(TO_POST "content-length: 4\r\n\r\n")},
    {"H2.CL: a length of nought with content", S(POST F("content-length", "0")), "GET /evil HTTP/1.1\r\n\r\n", S(""), H2_LENGTH_DIFFERS, S(TO_POST "content-length: 0\r\n\r\n")},
    {"H2.CL: longer in the second piece", S(POST F("content-length", "3")), "he|llo", S(""), H2_LENGTH_DIFFERS, S(TO_POST "content-length: 3\r\n\r\nhe")},
    {"H2.CL: a length, and no content", S(POST F("content-length", "5")), NULL, S(""), H2_LENGTH_DIFFERS, S("")},
    {"H2.CL: a length, and empty content", S(POST F("content-length", "5")), "", S(""), H2_LENGTH_DIFFERS, S(TO_POST "content-length: 5\r\n\r\n")},
    {"H2.CL: a length, and trailers instead", S(POST F("content-length", "5")), NULL, S(F("x", "y")), H2_LENGTH_DIFFERS, S(TO_POST "content-length: 5\r\n\r\n")},
    {"CL.CL: the same", S(POST F("content-length", "5") F("content-length", "5")), "hello", S(""), H2_LENGTH, S("")},
    {"CL.CL: different", S(POST F("content-length", "0") F("content-length", "5")), "hello", S(""), H2_LENGTH, S("")},
    {"a list of lengths", S(POST F("content-length", "5, 5")), "hello", S(""), H2_LENGTH, S("")},
    {"a length with a sign", S(POST F("content-length", "+5")), "hello", S(""), H2_LENGTH, S("")},
    {"a negative length", S(POST F("content-length", "-5")), "hello", S(""), H2_LENGTH, S("")},
    {"a hexadecimal length", S(POST F("content-length", "0x5")), "hello", S(""), H2_LENGTH, S("")},
    {"a length with a fraction", S(POST F("content-length", "5.0")), "hello", S(""), H2_LENGTH, S("")},
    {"an empty length", S(POST F("content-length", "")), "hello", S(""), H2_LENGTH, S("")},
    {"a length with letters behind", S(POST F("content-length", "5x")), "hello", S(""), H2_LENGTH, S("")},
    {"a length beyond 63 bits", S(POST F("content-length", "9223372036854775808")), "hello", S(""), H2_LENGTH, S("")},
    {"a length beyond 64 bits", S(POST F("content-length", "18446744073709551621")), "hello", S(""), H2_LENGTH, S("")},
    {"a length with space within", S(POST F("content-length", "5 5")), "hello", S(""), H2_LENGTH, S("")},
    {"a length with a line behind it", S(POST F("content-length", "5\r\ntransfer-encoding: chunked")), "hello", S(""), H2_VALUE, S("")},
    {"an alias of content-length", S(POST F("content_length", "5")), "hello", S(""), H2_ALIAS, S("")},

    /* --- fields of the connection (RFC 9113 8.2.2) --- */
    {"H2.TE: chunked", S(POST F("transfer-encoding", "chunked")), "0\r\n\r\nGET /evil HTTP/1.1\r\n", S(""), H2_CONNECTION_FIELD, S("")},
    {"H2.TE: identity", S(POST F("transfer-encoding", "identity")), "x", S(""), H2_CONNECTION_FIELD, S("")},
    {"H2.TE: empty", S(POST F("transfer-encoding", "")), "x", S(""), H2_CONNECTION_FIELD, S("")},
    {"H2.TE: without content", S(GET F("transfer-encoding", "chunked")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"H2.TE: an alias", S(POST F("transfer_encoding", "chunked")), "x", S(""), H2_ALIAS, S("")},
    {"H2.TE: in capitals", S(POST F("Transfer-Encoding", "chunked")), "x", S(""), H2_NAME, S("")},
    {"H2.TE: a space behind the name", S(POST F("transfer-encoding ", "chunked")), "x", S(""), H2_NAME, S("")},
    {"H2.TE: a colon behind the name", S(POST F("transfer-encoding:", "chunked")), "x", S(""), H2_NAME, S("")},
    {"H2.TE: a tab in front of the name", S(POST F("\ttransfer-encoding", "chunked")), "x", S(""), H2_NAME, S("")},
    {"H2.TE: the line within a name", S(POST F("x: y\r\ntransfer-encoding", "chunked")), "x", S(""), H2_NAME, S("")},
    {"H2.TE: the line within a value", S(POST F("x", "y\r\ntransfer-encoding: chunked")), "x", S(""), H2_VALUE, S("")},
    {"H2.TE: the line within a method", S(M("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: ") REST), "x", S(""), H2_VALUE, S("")},
    {"H2.TE: the line within a path", S(M("POST") F(":scheme", "http") F(":authority", "a") F(":path", "/ HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: ")), "x", S(""), H2_VALUE, S("")},
    {"H2.TE: the line within the authority", S(M("POST") F(":scheme", "http") F(":authority", "a\r\ntransfer-encoding: chunked") F(":path", "/")), "x", S(""), H2_VALUE, S("")},
    {"H2.TE: the line within the scheme", S(M("POST") F(":scheme", "http\r\ntransfer-encoding: chunked") F(":authority", "a") F(":path", "/")), "x", S(""), H2_VALUE, S("")},
    {"H2.TE: in trailers", S(POST), "x|", S(F("transfer-encoding", "chunked")), H2_CONNECTION_FIELD, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x"))},
    {"connection", S(GET F("connection", "close")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"connection, naming a field", S(GET F("connection", "x-forwarded-for") F("x-forwarded-for", "1.2.3.4")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"keep-alive", S(GET F("keep-alive", "timeout=5")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"proxy-connection", S(GET F("proxy-connection", "keep-alive")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"upgrade", S(GET F("upgrade", "websocket")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"upgrade to h2c", S(GET F("upgrade", "h2c")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"http2-settings is not passed on", S(GET F("http2-settings", "AAMAAABk")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"te: trailers", S(GET F("te", "trailers")), NULL, S(""), H2_NONE, S(TO_GET "connection: te\r\nte: trailers\r\n\r\n")},
    {"te: Trailers", S(GET F("te", "Trailers")), NULL, S(""), H2_NONE, S(TO_GET "connection: te\r\nte: trailers\r\n\r\n")},
    {"te: gzip", S(GET F("te", "gzip")), NULL, S(""), H2_TE, S("")},
    {"te: trailers, gzip", S(GET F("te", "trailers, gzip")), NULL, S(""), H2_TE, S("")},
    {"te: chunked", S(GET F("te", "chunked")), NULL, S(""), H2_TE, S("")},
    {"te: empty", S(GET F("te", "")), NULL, S(""), H2_TE, S("")},

    /* --- names and values (8.2.1) --- */
    {"a capital in a name", S(GET F("X", "y")), NULL, S(""), H2_NAME, S("")},
    {"a capital at a name's end", S(GET F("content-lengtH", "5")), NULL, S(""), H2_NAME, S("")},
    {"an empty name", S(GET F("", "y")), NULL, S(""), H2_NAME, S("")},
    {"a space in a name", S(GET F("x y", "z")), NULL, S(""), H2_NAME, S("")},
    {"a line break in a name", S(GET F("x\n", "z")), NULL, S(""), H2_NAME, S("")},
    {"a carriage return in a name", S(GET F("x\r", "z")), NULL, S(""), H2_NAME, S("")},
    {"NUL in a name", S(GET F("x\0", "z")), NULL, S(""), H2_NAME, S("")},
    {"a colon in a name", S(GET F("x:y", "z")), NULL, S(""), H2_NAME, S("")},
    {"a name beyond ASCII", S(GET F("\xc3\xa9", "z")), NULL, S(""), H2_NAME, S("")},
    {"DEL in a name", S(GET F("x\x7f", "z")), NULL, S(""), H2_NAME, S("")},
    {"a bracket in a name", S(GET F("x[0]", "z")), NULL, S(""), H2_NAME, S("")},
    {"LF in a value", S(GET F("x", "a\nb")), NULL, S(""), H2_VALUE, S("")},
    {"CR in a value", S(GET F("x", "a\rb")), NULL, S(""), H2_VALUE, S("")},
    {"NUL in a value", S(GET F("x", "a\0b")), NULL, S(""), H2_VALUE, S("")},
    {"DEL in a value", S(GET F("x", "a\x7f" "b")), NULL, S(""), H2_VALUE, S("")},
    {"a control character in a value", S(GET F("x", "a\x01" "b")), NULL, S(""), H2_VALUE, S("")},
    {"LF at a value's end", S(GET F("x", "a\n")), NULL, S(""), H2_VALUE, S("")},
    {"a request behind a value", S(GET F("x", "y\r\n\r\nGET /evil HTTP/1.1\r\nHost: b")), NULL, S(""), H2_VALUE, S("")},
    {"a space in front of a value", S(GET F("x", " a")), NULL, S(""), H2_VALUE, S("")},
    {"a space behind a value", S(GET F("x", "a ")), NULL, S(""), H2_VALUE, S("")},
    {"a tab in front of a value", S(GET F("x", "\ta")), NULL, S(""), H2_VALUE, S("")},
    {"a tab behind a value", S(GET F("x", "a\t")), NULL, S(""), H2_VALUE, S("")},
    {"a value of one space", S(GET F("x", " ")), NULL, S(""), H2_VALUE, S("")},

    /* --- pseudo-header fields (8.3) --- */
    {"no method", S(REST), NULL, S(""), H2_PSEUDO_MISSING, S("")},
    {"no scheme", S(M("GET") F(":authority", "a") F(":path", "/")), NULL, S(""), H2_PSEUDO_MISSING, S("")},
    {"no path", S(M("GET") F(":scheme", "http") F(":authority", "a")), NULL, S(""), H2_PSEUDO_MISSING, S("")},
    {"method twice", S(GET M("GET")), NULL, S(""), H2_PSEUDO_TWICE, S("")},
    {"another method", S(GET M("POST")), NULL, S(""), H2_PSEUDO_TWICE, S("")},
    {"path twice", S(GET F(":path", "/")), NULL, S(""), H2_PSEUDO_TWICE, S("")},
    {"another path", S(GET F(":path", "/admin")), NULL, S(""), H2_PSEUDO_TWICE, S("")},
    {"scheme twice", S(GET F(":scheme", "https")), NULL, S(""), H2_PSEUDO_TWICE, S("")},
    {"authority twice", S(GET F(":authority", "b")), NULL, S(""), H2_PSEUDO_TWICE, S("")},
    {"a pseudo-header field behind others", S(M("GET") F(":scheme", "http") F(":authority", "a") F("x", "y") F(":path", "/")), NULL, S(""), H2_PSEUDO_LATE, S("")},
    {"an unknown one", S(GET F(":x", "y")), NULL, S(""), H2_PSEUDO_UNKNOWN, S("")},
    {"that of an answer", S(GET F(":status", "200")), NULL, S(""), H2_PSEUDO_UNKNOWN, S("")},
    {"a name of one colon", S(GET F(":", "y")), NULL, S(""), H2_PSEUDO_UNKNOWN, S("")},
    {"in capitals", S(GET F(":Path", "/")), NULL, S(""), H2_PSEUDO_UNKNOWN, S("")},
    {"extended CONNECT, which is not offered", S(M("CONNECT") F(":protocol", "websocket") REST), NULL, S(""), H2_PSEUDO_UNKNOWN, S("")},
    {":host", S(GET F(":host", "b")), NULL, S(""), H2_PSEUDO_UNKNOWN, S("")},
    {"in trailers", S(POST), "x|", S(F(":path", "/evil")), H2_PSEUDO_TRAILER, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x"))},

    /* --- the method --- */
    {"an empty method", S(M("") REST), NULL, S(""), H2_METHOD, S("")},
    {"a space in the method", S(M("GET /evil") REST), NULL, S(""), H2_METHOD, S("")},
    {"a request line as the method", S(M("GET /evil HTTP/1.1") REST), NULL, S(""), H2_METHOD, S("")},
    {"a tab in the method", S(M("GE\tT") REST), NULL, S(""), H2_METHOD, S("")},
    {"a method too long", S(M(LONG16 LONG16 "a") REST), NULL, S(""), H2_METHOD, S("")},

    /* --- the path --- */
    {"an empty path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "")), NULL, S(""), H2_TARGET, S("")},
    {"a relative path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "x")), NULL, S(""), H2_TARGET, S("")},
    {"a path that is a URL", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "http://b/")), NULL, S(""), H2_TARGET, S("")},
    {"a path that is a query", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "?x")), NULL, S(""), H2_TARGET, S("")},
    {"* for GET", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "*")), NULL, S(""), H2_TARGET, S("")},
    {"more behind *", S(M("OPTIONS") F(":scheme", "http") F(":authority", "a") F(":path", "*x")), NULL, S(""), H2_TARGET, S("")},
    {"a space in the path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/a b")), NULL, S(""), H2_TARGET, S("")},
    {"a request line in the path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/ HTTP/1.1")), NULL, S(""), H2_TARGET, S("")},
    {"a fragment in the path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/a#b")), NULL, S(""), H2_TARGET, S("")},
    {"a byte beyond ASCII in the path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/\xc3\xa9")), NULL, S(""), H2_TARGET, S("")},
    {"a quote in the path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/\"")), NULL, S(""), H2_TARGET, S("")},
    {"a tab in the path", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/a\tb")), NULL, S(""), H2_TARGET, S("")},
    {"a path too long", S(M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/" LONG4K LONG4K LONG4K LONG4K LONG4K LONG4K LONG4K LONG4K)), NULL, S(""), H2_TARGET_LONG, S("")},

    /* --- scheme and authority --- */
    {"an empty scheme", S(M("GET") F(":scheme", "") F(":authority", "a") F(":path", "/")), NULL, S(""), H2_SCHEME, S("")},
    {"another scheme", S(M("GET") F(":scheme", "ftp") F(":authority", "a") F(":path", "/")), NULL, S(""), H2_SCHEME, S("")},
    {"a URL as the scheme", S(M("GET") F(":scheme", "http://evil/?") F(":authority", "a") F(":path", "/")), NULL, S(""), H2_SCHEME, S("")},
    {"no authority", S(M("GET") F(":scheme", "http") F(":path", "/")), NULL, S(""), H2_AUTHORITY_NONE, S("")},
    {"an empty authority", S(M("GET") F(":scheme", "http") F(":authority", "") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},
    {"host instead of the authority", S(M("GET") F(":scheme", "http") F(":path", "/") F("host", "a")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"an empty host alone", S(M("GET") F(":scheme", "http") F(":path", "/") F("host", "")), NULL, S(""), H2_HOST, S("")},
    {"host, the same", S(GET F("host", "a")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"host, in other letters", S(GET F("host", "A")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"host, another", S(GET F("host", "b")), NULL, S(""), H2_HOST, S("")},
    {"host, another port", S(GET F("host", "a:81")), NULL, S(""), H2_HOST, S("")},
    {"host twice", S(GET F("host", "a") F("host", "a")), NULL, S(""), H2_HOST, S("")},
    {"host, a list", S(M("GET") F(":scheme", "http") F(":path", "/") F("host", "a, b")), NULL, S(""), H2_HOST, S("")},
    {"userinfo in the authority", S(M("GET") F(":scheme", "http") F(":authority", "u@a") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},
    {"a path in the authority", S(M("GET") F(":scheme", "http") F(":authority", "a/evil") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},
    {"a space in the authority", S(M("GET") F(":scheme", "http") F(":authority", "a b") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},
    {"a percent sign in the authority", S(M("GET") F(":scheme", "http") F(":authority", "a%2fb") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},
    {"a bad port in the authority", S(M("GET") F(":scheme", "http") F(":authority", "a:x") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},
    {"a port too high", S(M("GET") F(":scheme", "http") F(":authority", "a:65536") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},
    {"an IPv6 authority", S(M("GET") F(":scheme", "http") F(":authority", "[::1]:80") F(":path", "/")), NULL, S(""), H2_NONE, S("GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n")},
    {"an open bracket in the authority", S(M("GET") F(":scheme", "http") F(":authority", "[::1") F(":path", "/")), NULL, S(""), H2_AUTHORITY, S("")},

    /* --- CONNECT (8.5) --- */
    {"CONNECT", S(M("CONNECT") F(":authority", "a:443")), "", S(""), H2_NONE, S("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n")},
    {"CONNECT with a path", S(M("CONNECT") F(":authority", "a:443") F(":path", "/")), "", S(""), H2_PSEUDO_CONNECT, S("")},
    {"CONNECT with a scheme", S(M("CONNECT") F(":authority", "a:443") F(":scheme", "http")), "", S(""), H2_PSEUDO_CONNECT, S("")},
    {"CONNECT without an authority", S(M("CONNECT")), "", S(""), H2_PSEUDO_MISSING, S("")},
    {"CONNECT with host alone", S(M("CONNECT") F("host", "a:443")), "", S(""), H2_PSEUDO_MISSING, S("")},
    {"CONNECT without a port", S(M("CONNECT") F(":authority", "a")), "", S(""), H2_AUTHORITY, S("")},
    {"CONNECT with a length", S(M("CONNECT") F(":authority", "a:443") F("content-length", "5")), "hello", S(""), H2_LENGTH, S("")},
    {"a method in other letters is another", S(M("connect") REST), NULL, S(""), H2_NONE, S("connect / HTTP/1.1\r\nhost: a\r\n\r\n")},

    /* --- cookies, expectations --- */
    {"crumbs of cookies", S(GET F("cookie", "a=1") F("x", "y") F("cookie", "b=2") F("cookie", "c=3")), NULL, S(""), H2_NONE, S(TO_GET "cookie: a=1; b=2; c=3\r\nx: y\r\n\r\n")},
    {"one cookie", S(GET F("cookie", "a=1; b=2")), NULL, S(""), H2_NONE, S(TO_GET "cookie: a=1; b=2\r\n\r\n")},
    {"expect with content", S(POST F("expect", "100-continue")), "x", S(""), H2_NONE, S(TO_POST "expect: 100-continue\r\n" TO_CHUNKED "\r\n" CHUNK("1", "x") LAST)},
    {"expect without content", S(GET F("expect", "100-continue")), NULL, S(""), H2_NONE, S(TO_GET "\r\n")},
    {"expect twice", S(POST F("expect", "100-continue") F("expect", "100-continue")), "x", S(""), H2_EXPECTATION, S("")},
    {"another expectation", S(POST F("expect", "102-processing")), "x", S(""), H2_EXPECTATION, S("")},

    /* --- trailers (8.1; RFC 9110 6.5) --- */
    {"trailers", S(POST), "x|", S(F("x-sum", "1")), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x") "0\r\nx-sum: 1\r\n\r\n")},
    {"trailers without content", S(POST), NULL, S(F("x-sum", "1")), H2_NONE, S(TO_POST TO_CHUNKED "\r\n0\r\nx-sum: 1\r\n\r\n")},
    {"trailers behind a length", S(POST F("content-length", "1")), "x|", S(F("x-sum", "1")), H2_NONE, S(TO_POST "content-length: 1\r\n\r\nx")},
    {"a length in trailers is dropped", S(POST), "x|", S(F("content-length", "1")), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x") LAST)},
    {"host in trailers is dropped", S(POST), "x|", S(F("host", "b")), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x") LAST)},
    {"credentials in trailers are dropped", S(POST), "x|", S(F("authorization", "b") F("y", "z")), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x") "0\r\ny: z\r\n\r\n")},
    {"content-type in trailers is dropped", S(POST), "x|", S(F("content-type", "b")), H2_NONE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x") LAST)},
    {"a capital in trailers", S(POST), "x|", S(F("X", "b")), H2_NAME, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x"))},
    {"a line in trailers", S(POST), "x|", S(F("x", "a\r\nb: c")), H2_VALUE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x"))},
    {"connection in trailers", S(POST), "x|", S(F("connection", "close")), H2_CONNECTION_FIELD, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x"))},
    {"trailers too large", S(POST), "x|", S(F("x", LONG4K LONG4K)), H2_TRAILERS_LARGE, S(TO_POST TO_CHUNKED "\r\n" CHUNK("1", "x"))},
};

#define ANSWER F(":status", "200")
#define TO_OK "HTTP/1.1 200 OK\r\n"
static const struct row answers[] = { /* to a GET */
    {"content", S(ANSWER), "hello", S(""), H2_NONE, S(TO_OK TO_CHUNKED "\r\n" CHUNK("5", "hello") LAST)},
    {"content with its length", S(ANSWER F("content-length", "5")), "hello", S(""), H2_NONE, S(TO_OK "content-length: 5\r\n\r\nhello")},
    {"none", S(ANSWER), NULL, S(""), H2_NONE, S(TO_OK "content-length: 0\r\n\r\n")},
    {"no status", S(F("x", "y")), NULL, S(""), H2_PSEUDO_MISSING, S("")},
    {"status twice", S(ANSWER ANSWER), NULL, S(""), H2_PSEUDO_TWICE, S("")},
    {"status behind a field", S(F("x", "y") ANSWER), NULL, S(""), H2_PSEUDO_LATE, S("")},
    {"a pseudo-header field of requests", S(ANSWER F(":path", "/")), NULL, S(""), H2_PSEUDO_UNKNOWN, S("")},
    {"a status of two digits", S(F(":status", "20")), NULL, S(""), H2_STATUS, S("")},
    {"a status of four digits", S(F(":status", "2000")), NULL, S(""), H2_STATUS, S("")},
    {"a status with a reason", S(F(":status", "200 OK")), NULL, S(""), H2_STATUS, S("")},
    {"a status below 100", S(F(":status", "099")), NULL, S(""), H2_STATUS, S("")},
    {"a status with a line behind it", S(F(":status", "200\r\nset-cookie: a=b")), NULL, S(""), H2_VALUE, S("")},
    {"a status that is no number", S(F(":status", "2x0")), NULL, S(""), H2_STATUS, S("")},
    {"101", S(F(":status", "101")), NULL, S(""), H2_SWITCHING, S("")},
    {"101 with more to come", S(F(":status", "101")), "x", S(""), H2_SWITCHING, S("")},
    {"an interim answer that ends the stream", S(F(":status", "103")), NULL, S(""), H2_INTERIM_END, S("")},
    {"content behind an interim answer", S(F(":status", "103")), "x", S(""), H2_CONTENT_FIRST, S("HTTP/1.1 103 Early Hints\r\n\r\n")},
    {"response splitting in a value", S(ANSWER F("location", "/\r\nset-cookie: a=b")), NULL, S(""), H2_VALUE, S("")},
    {"response splitting in a name", S(ANSWER F("x\r\ny", "z")), NULL, S(""), H2_NAME, S("")},
    {"a whole answer in a value", S(ANSWER F("x", "y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")), NULL, S(""), H2_VALUE, S("")},
    {"transfer-encoding", S(ANSWER F("transfer-encoding", "chunked")), "x", S(""), H2_CONNECTION_FIELD, S("")},
    {"connection", S(ANSWER F("connection", "close")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"upgrade", S(ANSWER F("upgrade", "h2c")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"keep-alive", S(ANSWER F("keep-alive", "max=1")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"proxy-connection", S(ANSWER F("proxy-connection", "close")), NULL, S(""), H2_CONNECTION_FIELD, S("")},
    {"a capital in a name", S(ANSWER F("Set-Cookie", "a")), NULL, S(""), H2_NAME, S("")},
    {"content shorter than its length", S(ANSWER F("content-length", "6")), "hello", S(""), H2_LENGTH_DIFFERS, S(TO_OK "content-length: 6\r\n\r\nhello")},
    {"content longer than its length", S(ANSWER F("content-length", "4")), "hello", S(""), H2_LENGTH_DIFFERS, S(TO_OK "content-length: 4\r\n\r\n")},
    {"a length without content", S(ANSWER F("content-length", "5")), NULL, S(""), H2_LENGTH_DIFFERS, S("")},
    {"two lengths", S(ANSWER F("content-length", "5") F("content-length", "5")), "hello", S(""), H2_LENGTH, S("")},
    {"a length that is no number", S(ANSWER F("content-length", "five")), "hello", S(""), H2_LENGTH, S("")},
    {"204", S(F(":status", "204")), NULL, S(""), H2_NONE, S("HTTP/1.1 204 No Content\r\n\r\n")},
    {"204 with content", S(F(":status", "204")), "x", S(""), H2_CONTENT, S("HTTP/1.1 204 No Content\r\n\r\n")},
    {"204 with a length", S(F(":status", "204") F("content-length", "5")), NULL, S(""), H2_NONE, S("HTTP/1.1 204 No Content\r\n\r\n")},
    {"304 with a length", S(F(":status", "304") F("content-length", "5")), NULL, S(""), H2_NONE, S("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n")},
    {"304 with content", S(F(":status", "304")), "x", S(""), H2_CONTENT, S("HTTP/1.1 304 Not Modified\r\n\r\n")},
    {"several cookies stay several", S(ANSWER F("set-cookie", "a") F("set-cookie", "b")), NULL, S(""), H2_NONE, S(TO_OK "set-cookie: a\r\nset-cookie: b\r\ncontent-length: 0\r\n\r\n")},
    {"trailers", S(ANSWER), "x|", S(F("grpc-status", "0")), H2_NONE, S(TO_OK TO_CHUNKED "\r\n" CHUNK("1", "x") "0\r\ngrpc-status: 0\r\n\r\n")},
    {"a status in trailers", S(ANSWER), "x|", S(F(":status", "500")), H2_PSEUDO_TRAILER, S(TO_OK TO_CHUNKED "\r\n" CHUNK("1", "x"))},
    {"a length in trailers is dropped", S(ANSWER), "x|", S(F("content-length", "5")), H2_NONE, S(TO_OK TO_CHUNKED "\r\n" CHUNK("1", "x") LAST)},
};
/* clang-format on */

static struct clock the_clock;
static struct loop *loop;
static struct arena arena;
static struct buf out;
static const char *why;
static unsigned ends, resets;
static enum http_body framing;

static struct arena *on_open(struct h2 *h, struct h2_stream *s)
{
    (void)h, (void)s;
    return &arena;
}
static void on_head(struct h2_stream *s, struct http_head *head, bool interim)
{
    (void)s, (void)interim;
    framing = head->body;
    ck_assert_int_eq((head->status ? h1_write_response : h1_write_request)(&out, head, false), ERR_OK);
}
static void on_refused(struct h2_stream *s, struct http_head *head, unsigned status, const char *detail)
{
    (void)head;
    ck_assert_uint_ge(status, 400);
    why = detail;
    h2_reset(s, H2_CANCEL);
}
static void on_body(struct h2_stream *s, struct slice bytes)
{
    (void)s;
    if (framing == HTTP_BODY_STREAM)
        h1_write_chunk(&out, bytes);
    else
        buf_add_slice(&out, bytes);
}
static void on_end(struct h2_stream *s, struct http_head *trailers)
{
    (void)s;
    if (framing == HTTP_BODY_STREAM)
        h1_write_last_chunk(&out, trailers);
    ends++;
}
static void on_reset(struct h2_stream *s, enum h2_why reason, uint32_t code, const char *detail,
                     bool untouched)
{
    (void)s, (void)code, (void)untouched;
    resets++;
    if (reason == H2_WHY_MALFORMED)
        why = detail;
}
static void on_closed(struct h2 *h, const struct err *err)
{
    (void)h;
    ck_abort_msg("the connection ended: %s", err->msg);
}
static const struct h2_ops ops = {.on_open = on_open,
                                  .on_head = on_head,
                                  .on_refused = on_refused,
                                  .on_body = on_body,
                                  .on_end = on_end,
                                  .on_reset = on_reset,
                                  .on_closed = on_closed};

static void message(struct buf *b, const struct row *r)
{
    struct slice body = slice_str(r->body ? r->body : ""), piece;
    raw_headers(b, 1, r->head, !r->body && r->trailers.len == 0);
    if (r->body && body.len == 0)
        raw_frame(b, NGHTTP2_DATA, RAW_END, 1, SLICE_NULL);
    while (body.len && slice_next(&body, '|', &piece))
        if (piece.len)
            raw_frame(b, NGHTTP2_DATA, body.len || r->trailers.len ? 0 : RAW_END, 1, piece);
    if (r->trailers.len)
        raw_headers(b, 1, r->trailers, true);
}

/* What was written, read as strictly as it comes: one message, and nothing behind it. */
static void read_again(const struct row *r, bool request)
{
    struct h1_parser p;
    struct http_head head;
    struct slice in = buf_slice(&out), body;
    unsigned whole = 0;
    (request ? h1_request_init : h1_response_init)(&p, NULL);
    if (!request)
        h1_expect_response(&p, false, false, false);
    http_head_init(&head, &arena);
    for (;;) {
        size_t used;
        enum h1_event ev = h1_step(&p, in, &used, &head, &body);
        in = slice_skip(in, used);
        ck_assert_msg(ev != H1_EV_REFUSED, "%s: %s", r->name, h1_refusal_detail(p.refusal));
        whole += ev == H1_EV_END;
        if (ev == H1_EV_MORE)
            break;
    }
    ck_assert_msg(whole == 1 && in.len == 0, "%s: read as %u messages", r->name, whole);
    h1_fini(&p);
}

static void run(const struct row *r, bool request)
{
    struct chan *a, *b;
    struct h2 *h;
    struct h2_stream *s = NULL;
    struct err err = {0};
    struct buf raw;
    size_t n;
    clock_init_virtual(&the_clock, NS_PER_S);
    ck_assert_int_eq(loop_new(&the_clock, &loop, &err), 0);
    ck_assert_int_eq(chan_mem_pair(loop, 1 << 20, &a, &b, &err), 0);
    arena_init(&arena, 4096, 0);
    buf_init(&out, 1 << 20);
    buf_init(&raw, 1 << 20);
    why = NULL;
    ends = resets = 0;
    ck_assert_int_eq((request ? h2_server : h2_client)(a, NULL, &ops, NULL, &h, &err), 0);
    if (request) {
        raw_preface(&raw);
    } else {
        struct http_head head;
        http_head_init(&head, &arena);
        head.method = SL("GET");
        head.path = SL("/");
        head.authority = SL("a");
        ck_assert_int_eq(h2_request(h, &head, &arena, NULL, &s), ERR_OK);
        h2_end(s, NULL);
        loop_turn(loop, 0, NULL);
        raw_frame(&raw, NGHTTP2_SETTINGS, 0, 0, SLICE_NULL);
    }
    message(&raw, r);
    ck_assert_int_eq(chan_write(b, buf_slice(&raw).p, buf_len(&raw), &n), ERR_OK);
    for (int i = 0; i < 10; i++)
        loop_turn(loop, 0, NULL);
    const char *want = r->why ? h2_refusal_detail(r->why) : NULL;
    ck_assert_msg(!want == !why && (!want || strcmp(want, why) == 0), "%s: %s", r->name,
                  why ? why : "not refused");
    ck_assert_msg(slice_eq(buf_slice(&out), r->out), "%s: written was\n%s\nbut not\n%s", r->name,
                  buf_cstr(&out), r->out.p);
    ck_assert_msg(ends == !want, "%s: %u ends", r->name, ends);
    if (!want && !slice_starts(r->out, SL("CONNECT"))) /* behind that comes no message */
        read_again(r, request);
    h2_close(h);
    chan_close(b);
    loop_turn(loop, 0, NULL);
    loop_free(loop);
    arena_fini(&arena);
    buf_fini(&out);
    buf_fini(&raw);
}

START_TEST(request_rows)
{
    run(&requests[_i], true);
}
END_TEST

START_TEST(answer_rows)
{
    run(&answers[_i], false);
}
END_TEST

/* The template with this byte in place of its '@'. */
static struct slice with_byte(const char *template, int c, char *to)
{
    size_t n = strlen(template);
    memcpy(to, template, n);
    *(char *)memchr(to, '@', n) = (char)c;
    return slice_of(to, n);
}

/* Every byte in a name, in a value, in the path: the ones that may stand there, and no others. */
START_TEST(every_byte)
{
    static const char *const heads[] = {
        GET F("a@b", "v"), GET F("n", "a@b"),
        M("GET") F(":scheme", "http") F(":authority", "a") F(":path", "/a@b")};
    static const char *const outs[] = {TO_GET "a@b: v\r\n\r\n", TO_GET "n: a@b\r\n\r\n",
                                       "GET /a@b HTTP/1.1\r\nhost: a\r\n\r\n"};
    char text[128], want[128];

    for (int c = 0; c < 256; c++) {
        if (c == 0x1e || c == 0x1f)
            continue; /* of the test's own language */
        for (int where = 0; where < 3; where++) {
            bool name = c && http_tchar[c] == c;
            bool value = c == '\t' || (c >= 0x20 && c != 0x7f);
            bool target = c > 0x20 && c < 0x7f && !strchr("\"#<>", c);
            struct row r = {.name = "byte", .head = with_byte(heads[where], c, text)};
            if (where == 0)
                r.why = name ? H2_NONE : H2_NAME;
            else if (where == 1)
                r.why = value ? H2_NONE : H2_VALUE;
            else
                r.why = target ? H2_NONE : value ? H2_TARGET : H2_VALUE;
            r.out = r.why ? SLICE_NULL : with_byte(outs[where], c, want);
            run(&r, true);
        }
    }
}
END_TEST

TESTS(downgrade)
{
    tcase_add_loop_test(tc, request_rows, 0, N_OF(requests));
    tcase_add_loop_test(tc, answer_rows, 0, N_OF(answers));
    tcase_add_test(tc, every_byte);
}
