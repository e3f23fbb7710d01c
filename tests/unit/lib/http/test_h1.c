/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include "tests/unit/lib/http/h1_trace.h"

#define H "Host: a\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define POST_CHUNKED "POST / HTTP/1.1\r\n" H CHUNKED "\r\n"

/* Refused, or read in one way only: what a request's bytes come to. */
/* clang-format off */
static const struct { const char *name, *in, *want; } requests[] = {
    /* --- request line, RFC 9112 3 --- */
    {"plain",                    "GET /x HTTP/1.1\r\n" H "\r\n",             "GET a /x {} . "},
    {"nothing",                  "",                                         ""},
    {"one empty line before",    "\r\nGET /x HTTP/1.1\r\n" H "\r\n",         "GET a /x {} . "},
    {"two empty lines before",   "\r\n\r\nGET /x HTTP/1.1\r\n" H "\r\n",     "!REQUEST_LINE"},
    {"bare LF before",           "\nGET /x HTTP/1.1\r\n" H "\r\n",           "!BARE_LF"},
    {"bare CR before",           "\rGET /x HTTP/1.1\r\n" H "\r\n",           "!BARE_CR"},
    {"blank before",             " GET /x HTTP/1.1\r\n" H "\r\n",            "!REQUEST_LINE"},
    {"HTTP/0.9",                 "GET /x\r\n\r\n",                           "!REQUEST_LINE"},
    {"no target",                "GET HTTP/1.1\r\n" H "\r\n",                "!REQUEST_LINE"},
    {"empty target",             "GET  HTTP/1.1\r\n" H "\r\n",               "!TARGET"},
    {"two blanks",               "GET  /x HTTP/1.1\r\n" H "\r\n",            "!TARGET"},
    {"two blanks at the end",    "GET /x  HTTP/1.1\r\n" H "\r\n",            "!TARGET"},
    {"blank at the end",         "GET /x HTTP/1.1 \r\n" H "\r\n",            "!REQUEST_LINE"},
    {"tab for blank",            "GET\t/x HTTP/1.1\r\n" H "\r\n",            "!REQUEST_LINE"},
    {"tab for second blank",     "GET /x\tHTTP/1.1\r\n" H "\r\n",            "!REQUEST_LINE"},
    {"vertical tab",             "GET /x\vy HTTP/1.1\r\n" H "\r\n",          "!TARGET"},
    {"blank in the target",      "GET /x y HTTP/1.1\r\n" H "\r\n",           "!TARGET"},
    {"CR in the target",         "GET /x\rHTTP/1.1 HTTP/1.1\r\n" H "\r\n",   "!TARGET"},
    {"CR in front of CRLF",      "GET /x HTTP/1.1\r\r\n" H "\r\n",           "!REQUEST_LINE"},
    {"bare LF ends the line",    "GET /x HTTP/1.1\n" H "\r\n",               "!BARE_LF"},
    {"method of any token",      "M-SEARCH! /x HTTP/1.1\r\n" H "\r\n",       "M-SEARCH! a /x {} . "},
    {"method keeps its case",    "get /x HTTP/1.1\r\n" H "\r\n",             "get a /x {} . "},
    {"method with a separator",  "G(T /x HTTP/1.1\r\n" H "\r\n",             "!METHOD"},
    {"method with a colon",      "GET: /x HTTP/1.1\r\n" H "\r\n",            "!METHOD"},
    {"method too long",          "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" H "\r\n", "!METHOD"},
    {"eight-bit method",         "G\xc3\x84T /x HTTP/1.1\r\n" H "\r\n",      "!METHOD"},
    {"version 1.2",              "GET /x HTTP/1.2\r\n" H "\r\n",             "!VERSION"},
    {"version 2.0",              "GET /x HTTP/2.0\r\n" H "\r\n",             "!VERSION"},
    {"version in lower case",    "GET /x http/1.1\r\n" H "\r\n",             "!REQUEST_LINE"},
    {"version with more digits", "GET /x HTTP/1.10\r\n" H "\r\n",            "!REQUEST_LINE"},
    {"version without minor",    "GET /x HTTP/1\r\n" H "\r\n",               "!REQUEST_LINE"},
    {"preface of HTTP/2",        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",         "!VERSION"},
    {"TLS hello",                "\x16\x03\x01\x02\n\x01\x02\r\n\r\n",       "!BARE_LF"},
    /* --- request target, RFC 9112 3.2 --- */
    {"query",                    "GET /x?a=b&c=%20 HTTP/1.1\r\n" H "\r\n",   "GET a /x?a=b&c=%20 {} . "},
    {"path kept as received",    "GET //a/../b;c=1 HTTP/1.1\r\n" H "\r\n",   "GET a //a/../b;c=1 {} . "},
    {"fragment",                 "GET /x#y HTTP/1.1\r\n" H "\r\n",           "!TARGET"},
    {"quote",                    "GET /\"x HTTP/1.1\r\n" H "\r\n",           "!TARGET"},
    {"angle brackets",           "GET /<x> HTTP/1.1\r\n" H "\r\n",           "!TARGET"},
    {"raw UTF-8",                "GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n",      "!TARGET"},
    {"DEL",                      "GET /\x7f HTTP/1.1\r\n" H "\r\n",          "!TARGET"},
    {"asterisk",                 "OPTIONS * HTTP/1.1\r\n" H "\r\n",          "OPTIONS a * {} . "},
    {"asterisk of another",      "GET * HTTP/1.1\r\n" H "\r\n",              "!TARGET"},
    {"relative path",            "GET x HTTP/1.1\r\n" H "\r\n",              "!TARGET"},
    {"absolute form",            "GET http://a/x HTTP/1.1\r\n" H "\r\n",     "GET a /x {} . "},
    {"absolute, no path",        "GET http://a HTTP/1.1\r\n" H "\r\n",       "GET a / {} . "},
    {"absolute, query alone",    "GET http://a?q HTTP/1.1\r\n" H "\r\n",     "GET a /?q {} . "},
    {"absolute, case of scheme", "GET HTTP://A/x HTTP/1.1\r\n" H "\r\n",     "GET a /x {} . "},
    {"absolute, another host",   "GET http://b/x HTTP/1.1\r\n" H "\r\n",     "!HOST_INVALID"},
    {"absolute, another port",   "GET http://a:81/x HTTP/1.1\r\n" H "\r\n",  "!HOST_INVALID"},
    {"absolute, empty host",     "GET http:///x HTTP/1.1\r\n" H "\r\n",      "!TARGET"},
    {"absolute, userinfo",       "GET http://u@a/x HTTP/1.1\r\n" H "\r\n",   "!TARGET"},
    {"absolute, other scheme",   "GET ftp://a/x HTTP/1.1\r\n" H "\r\n",      "!TARGET"},
    {"absolute, backslash",      "GET http:\\\\a/x HTTP/1.1\r\n" H "\r\n",   "!TARGET"},
    {"CONNECT",                  "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nraw", "CONNECT a:1  {} <raw> $"},
    {"CONNECT without port",     "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",    "!TARGET"},
    {"CONNECT to a path",        "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",   "!TARGET"},
    {"CONNECT, another host",    "CONNECT a:1 HTTP/1.1\r\nHost: b:1\r\n\r\n", "!HOST_INVALID"},
    {"CONNECT with a length",    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\nabc", "!CONTENT_FORBIDDEN"},
    {"CONNECT with chunks",      "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" CHUNKED "\r\n0\r\n\r\n", "!CONTENT_FORBIDDEN"},
    {"CONNECT, length nought",   "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\nx", "CONNECT a:1  {} <x> $"},
    /* --- Host, RFC 9112 3.2 --- */
    {"no Host",                  "GET / HTTP/1.1\r\n\r\n",                   "!HOST_MISSING"},
    {"two Hosts",                "GET / HTTP/1.1\r\n" H "Host: b\r\n\r\n",   "!HOST_REPEATED"},
    {"two equal Hosts",          "GET / HTTP/1.1\r\n" H H "\r\n",            "!HOST_REPEATED"},
    {"empty Host",               "GET / HTTP/1.1\r\nHost:\r\n\r\n",          "GET  / {} . "},
    {"Host with port",           "GET / HTTP/1.1\r\nHost: a.b-c_d:8080\r\n\r\n", "GET a.b-c_d:8080 / {} . "},
    {"Host, empty port",         "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",       "GET a: / {} . "},
    {"Host, port too large",     "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",  "!HOST_INVALID"},
    {"Host, port of letters",    "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",      "!HOST_INVALID"},
    {"Host, port alone",         "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",      "!HOST_INVALID"},
    {"Host, two ports",          "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",    "!HOST_INVALID"},
    {"Host, IPv6",               "GET / HTTP/1.1\r\nHost: [fd00::1]:80\r\n\r\n", "GET [fd00::1]:80 / {} . "},
    {"Host, IPv6 not closed",    "GET / HTTP/1.1\r\nHost: [fd00::1\r\n\r\n", "!HOST_INVALID"},
    {"Host, IPv6 and more",      "GET / HTTP/1.1\r\nHost: [fd00::1]b\r\n\r\n", "!HOST_INVALID"},
    {"Host, brackets empty",     "GET / HTTP/1.1\r\nHost: []\r\n\r\n",       "!HOST_INVALID"},
    {"Host, IPv6 without",       "GET / HTTP/1.1\r\nHost: fd00::1\r\n\r\n",  "!HOST_INVALID"},
    {"Host, zone",               "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", "!HOST_INVALID"},
    {"Host, list",               "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",     "!HOST_INVALID"},
    {"Host, userinfo",           "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",      "!HOST_INVALID"},
    {"Host, path",               "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",      "!HOST_INVALID"},
    {"Host, percent",            "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n",    "!HOST_INVALID"},
    {"HTTP/1.0 without Host",    "GET / HTTP/1.0\r\n\r\n",                   "GET  / {} +close . "},
    {"HTTP/1.0 with Host",       "GET / HTTP/1.0\r\n" H "\r\n",              "GET a / {} +close . "},
    {"HTTP/1.0 kept alive",      "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET  / {} . "},
    /* --- field lines, RFC 9112 5, RFC 9110 5 --- */
    {"names in lower case",      "GET / HTTP/1.1\r\n" H "X-Y: Z\r\n\r\n",    "GET a / {x-y=Z} . "},
    {"lines keep their order",   "GET / HTTP/1.1\r\nb: 1\r\n" H "a: 2\r\nb: 3\r\n\r\n", "GET a / {b=1;a=2;b=3} . "},
    {"blanks around a value",    "GET / HTTP/1.1\r\n" H "x: \t y z \t\r\n\r\n", "GET a / {x=y z} . "},
    {"no blank",                 "GET / HTTP/1.1\r\n" H "x:y\r\n\r\n",       "GET a / {x=y} . "},
    {"empty value",              "GET / HTTP/1.1\r\n" H "x:\r\n\r\n",        "GET a / {x=} . "},
    {"colons in a value",        "GET / HTTP/1.1\r\n" H "x: a:b:c\r\n\r\n",  "GET a / {x=a:b:c} . "},
    {"eight-bit value",          "GET / HTTP/1.1\r\n" H "x: \xc3\xa4\r\n\r\n", "GET a / {x=\xc3\xa4} . "},
    {"blank before the colon",   "GET / HTTP/1.1\r\n" H "x : y\r\n\r\n",     "!FIELD_NAME"},
    {"tab before the colon",     "GET / HTTP/1.1\r\n" H "x\t: y\r\n\r\n",    "!FIELD_NAME"},
    {"no name",                  "GET / HTTP/1.1\r\n" H ": y\r\n\r\n",       "!FIELD_NAME"},
    {"no colon",                 "GET / HTTP/1.1\r\n" H "xy\r\n\r\n",        "!FIELD_LINE"},
    {"name with a separator",    "GET / HTTP/1.1\r\n" H "x/y: z\r\n\r\n",    "!FIELD_NAME"},
    {"eight-bit name",           "GET / HTTP/1.1\r\n" H "\xc3\xa4: z\r\n\r\n", "!FIELD_NAME"},
    {"folded line",              "GET / HTTP/1.1\r\n" H "x: y\r\n z\r\n\r\n", "!OBS_FOLD"},
    {"folded line, tab",         "GET / HTTP/1.1\r\n" H "x: y\r\n\tz\r\n\r\n", "!OBS_FOLD"},
    {"folded first line",        "GET / HTTP/1.1\r\n x: y\r\n" H "\r\n",     "!OBS_FOLD"},
    {"bare CR in a value",       "GET / HTTP/1.1\r\n" H "x: y\rz\r\n\r\n",   "!BARE_CR"},
    {"bare CR hides a line",     "GET / HTTP/1.1\r\n" H "x: y\rTransfer-Encoding: chunked\r\n\r\n", "!BARE_CR"},
    {"bare LF ends a line",      "GET / HTTP/1.1\r\n" H "x: y\nz: w\r\n\r\n", "!BARE_LF"},
    {"bare LF ends the head",    "GET / HTTP/1.1\r\n" H "x: y\r\n\n",        "!BARE_LF"},
    {"DEL in a value",           "GET / HTTP/1.1\r\n" H "x: \x7f\r\n\r\n",   "!FIELD_VALUE"},
    {"escape in a value",        "GET / HTTP/1.1\r\n" H "x: \x1b[1m\r\n\r\n", "!FIELD_VALUE"},
    {"vertical tab in a value",  "GET / HTTP/1.1\r\n" H "x: \vy\r\n\r\n",    "!FIELD_VALUE"},
    {"head not whole",           "GET / HTTP/1.1\r\n" H,                     "!TRUNCATED"},
    {"head ends in a CR",        "GET / HTTP/1.1\r\n" H "\r",                "!TRUNCATED"},
    /* --- length, RFC 9112 6 --- */
    {"length",                   "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", "POST a / {} <abc> . "},
    {"length nought",            "POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "POST a / {} . "},
    {"leading noughts",          "POST / HTTP/1.1\r\n" H "Content-Length: 003\r\n\r\nabc", "POST a / {} <abc> . "},
    {"length on GET",            "GET / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx", "GET a / {} <x> . "},
    {"two messages",             "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nxGET /y HTTP/1.1\r\n" H "\r\n", "POST a / {} <x> . GET a /y {} . "},
    {"length too short",         "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nxy", "POST a / {} <x> . !TRUNCATED"},
    {"length too long",          "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nx", "POST a / {} <x> !TRUNCATED"},
    {"two lengths",              "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "!LENGTH_REPEATED"},
    {"two equal lengths",        "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "!LENGTH_REPEATED"},
    {"list of lengths",          "POST / HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\nabc", "!LENGTH_INVALID"},
    {"signed length",            "POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\nabc", "!LENGTH_INVALID"},
    {"negative length",          "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\nabc", "!LENGTH_INVALID"},
    {"hexadecimal length",       "POST / HTTP/1.1\r\n" H "Content-Length: 0x3\r\n\r\nabc", "!LENGTH_INVALID"},
    {"length with a blank",      "POST / HTTP/1.1\r\n" H "Content-Length: 1 0\r\n\r\nabc", "!LENGTH_INVALID"},
    {"empty length",             "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\nabc", "!LENGTH_INVALID"},
    {"fractional length",        "POST / HTTP/1.1\r\n" H "Content-Length: 3.0\r\n\r\nabc", "!LENGTH_INVALID"},
    {"huge length",              "POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n", "!LENGTH_INVALID"},
    {"overflowing length",       "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551619\r\n\r\nabc", "!LENGTH_INVALID"},
    {"underscore is no dash",    "POST / HTTP/1.1\r\n" H "Content_Length: 3\r\n\r\n", "!FIELD_ALIAS"},
    {"length and chunks",        "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n" CHUNKED "\r\n0\r\n\r\n", "!LENGTH_AND_CODING"},
    {"chunks and length",        "POST / HTTP/1.1\r\n" H CHUNKED "Content-Length: 3\r\n\r\n0\r\n\r\n", "!LENGTH_AND_CODING"},
    {"length named as hop",      "POST / HTTP/1.1\r\n" H "Connection: content-length\r\nContent-Length: 3\r\n\r\nabc", "POST a / {} <abc> . "},
    /* --- transfer coding, RFC 9112 6.1 --- */
    {"chunked",                  POST_CHUNKED "3\r\nabc\r\n0\r\n\r\n",       "POST a / {} <abc> . "},
    {"case of chunked",          "POST / HTTP/1.1\r\n" H "Transfer-Encoding: ChUnKeD\r\n\r\n0\r\n\r\n", "POST a / {} . "},
    {"chunked twice",            "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "!CODING_UNKNOWN"},
    {"two coding lines",         "POST / HTTP/1.1\r\n" H CHUNKED CHUNKED "\r\n0\r\n\r\n", "!CODING_UNKNOWN"},
    {"gzip, chunked",            "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "!CODING_UNKNOWN"},
    {"chunked, identity",        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "!CODING_UNKNOWN"},
    {"identity",                 "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", "!CODING_UNKNOWN"},
    {"empty coding",             "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", "!CODING_UNKNOWN"},
    {"xchunked",                 "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "!CODING_UNKNOWN"},
    {"chunked in quotes",        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "!CODING_UNKNOWN"},
    {"chunked with parameter",   "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "!CODING_UNKNOWN"},
    {"chunked behind a VT",      "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", "!FIELD_VALUE"},
    {"blank before its colon",   "POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "!FIELD_NAME"},
    {"coding in HTTP/1.0",       "POST / HTTP/1.0\r\n" H CHUNKED "\r\n0\r\n\r\n", "!CODING_IN_1_0"},
    {"coding named as hop",      "POST / HTTP/1.1\r\n" H "Connection: transfer-encoding\r\n" CHUNKED "\r\n0\r\n\r\n", "POST a / {} . "},
    /* --- chunks, RFC 9112 7.1 --- */
    {"several chunks",           POST_CHUNKED "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "POST a / {} <abc> . "},
    {"hexadecimal size",         POST_CHUNKED "A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", "POST a / {} <01234567890123456789a> . "},
    {"size with noughts",        POST_CHUNKED "0003\r\nabc\r\n000\r\n\r\n",  "POST a / {} <abc> . "},
    {"extension",                POST_CHUNKED "3;a=b;c=\"d e\"\r\nabc\r\n0;z\r\n\r\n", "POST a / {} <abc> . "},
    {"blank before extension",   POST_CHUNKED "3 ;a=b\r\nabc\r\n0\r\n\r\n",  "POST a / {} !CHUNK_SIZE"},
    {"blank behind the size",    POST_CHUNKED "3 \r\nabc\r\n0\r\n\r\n",      "POST a / {} !CHUNK_SIZE"},
    {"blank before the size",    POST_CHUNKED " 3\r\nabc\r\n0\r\n\r\n",      "POST a / {} !CHUNK_SIZE"},
    {"CR in an extension",       POST_CHUNKED "3;a\rb\r\nabc\r\n0\r\n\r\n",  "POST a / {} !CHUNK_EXTENSION"},
    {"0x in the size",           POST_CHUNKED "0x3\r\nabc\r\n0\r\n\r\n",     "POST a / {} !CHUNK_SIZE"},
    {"sign in the size",         POST_CHUNKED "+3\r\nabc\r\n0\r\n\r\n",      "POST a / {} !CHUNK_SIZE"},
    {"negative size",            POST_CHUNKED "-1\r\nabc\r\n0\r\n\r\n",      "POST a / {} !CHUNK_SIZE"},
    {"no size",                  POST_CHUNKED "\r\nabc\r\n0\r\n\r\n",        "POST a / {} !CHUNK_SIZE"},
    {"size too large",           POST_CHUNKED "10000000000000003\r\nabc\r\n0\r\n\r\n", "POST a / {} !CHUNK_SIZE"},
    {"size that overflows",      POST_CHUNKED "ffffffffffffffff\r\nabc\r\n0\r\n\r\n", "POST a / {} !CHUNK_SIZE"},
    {"bare LF behind the size",  POST_CHUNKED "3\nabc\r\n0\r\n\r\n",         "POST a / {} !BARE_LF"},
    {"bare LF behind the data",  POST_CHUNKED "3\r\nabc\n0\r\n\r\n",         "POST a / {} <abc> !CHUNK_END"},
    {"CR alone behind the data", POST_CHUNKED "3\r\nabc\rx0\r\n\r\n",        "POST a / {} <abc> !CHUNK_END"},
    {"data longer than said",    POST_CHUNKED "3\r\nabcd\r\n0\r\n\r\n",      "POST a / {} <abc> !CHUNK_END"},
    {"data shorter than said",   POST_CHUNKED "5\r\nabc\r\n0\r\n\r\n",       "POST a / {} <abc\r\n> !CHUNK_END"},
    {"no last chunk",            POST_CHUNKED "3\r\nabc\r\n",                "POST a / {} <abc> !TRUNCATED"},
    {"no end of trailers",       POST_CHUNKED "0\r\n",                       "POST a / {} !TRUNCATED"},
    {"bare LF ends trailers",    POST_CHUNKED "0\r\n\n",                     "POST a / {} !BARE_LF"},
    {"trailers",                 POST_CHUNKED "0\r\nX-Sum: 1\r\n\r\n",       "POST a / {} {x-sum=1} . "},
    {"trailers of framing",      POST_CHUNKED "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nx: y\r\n\r\n", "POST a / {} {x=y} . "},
    {"trailers of another hop",  "POST / HTTP/1.1\r\n" H CHUNKED "Connection: X-A, close, x-b\r\n\r\n0\r\nx-a: 1\r\nX-B: 2\r\nx-c: 3\r\n\r\n", "POST a / {} +close {x-c=3} . "},
    {"the hop is forgotten",     "POST / HTTP/1.1\r\n" H CHUNKED "Connection: x-a\r\n\r\n0\r\nx-a: 1\r\n\r\n" POST_CHUNKED "0\r\nx-a: 1\r\n\r\n", "POST a / {} . POST a / {} {x-a=1} . "},
    {"trailers that steer",      POST_CHUNKED "0\r\nAuthorization: a\r\nCookie: b\r\nRange: c\r\nIf-Match: d\r\nExpect: 100-continue\r\nContent-Type: e\r\nx: y\r\n\r\n", "POST a / {} {x=y} . "},
    {"trailer without a name",    POST_CHUNKED "0\r\n: y\r\n\r\n",         "POST a / {} !FIELD_NAME"},
    {"blank before its colon",   POST_CHUNKED "0\r\nx : y\r\n\r\n",       "POST a / {} !FIELD_NAME"},
    {"bare CR in a trailer",     POST_CHUNKED "0\r\nx: y\rz: w\r\n\r\n", "POST a / {} !BARE_CR"},
    {"trailer malformed",        POST_CHUNKED "0\r\nx y\r\n\r\n",            "POST a / {} !FIELD_LINE"},
    {"trailer folded",           POST_CHUNKED "0\r\nx: y\r\n z\r\n\r\n",     "POST a / {} !OBS_FOLD"},
    {"message behind chunks",    POST_CHUNKED "0\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", "POST a / {} . GET a / {} . "},
    {"smuggled behind chunks",   POST_CHUNKED "0\r\n\r\nG",                  "POST a / {} . !TRUNCATED"},
    /* --- fields of the connection, RFC 9110 7.6.1, 7.8 --- */
    {"close",                    "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "GET a / {} +close . "},
    {"close among others",       "GET / HTTP/1.1\r\n" H "Connection: x, Close\r\nX: 1\r\ny: 2\r\n\r\n", "GET a / {y=2} +close . "},
    {"two connection lines",     "GET / HTTP/1.1\r\n" H "Connection: x\r\nx: 1\r\nConnection: y\r\ny: 2\r\n\r\n", "GET a / {} . "},
    {"too many named",           "GET / HTTP/1.1\r\n" H "Connection: a,b,c,d,e,f,g,h,i\r\ni: 1\r\n\r\n", "!TOO_MANY_FIELDS"},
    {"hop-by-hop fields",        "GET / HTTP/1.1\r\n" H "Keep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: x\r\nx: y\r\n\r\n", "GET a / {x=y} +te . "},
    {"TE of another coding",     "GET / HTTP/1.1\r\n" H "TE: gzip;q=0.5, deflate\r\nConnection: TE\r\n\r\n", "GET a / {} . "},
    {"TE, list",                 "GET / HTTP/1.1\r\n" H "TE: gzip;q=0.5 , TRAILERS\r\nConnection: TE\r\n\r\n", "GET a / {} +te . "},
    {"TE, two lines",            "GET / HTTP/1.1\r\n" H "TE: gzip\r\nTE: trailers\r\n\r\n", "GET a / {} +te . "},
    {"TE, HTTP/1.0",             "GET / HTTP/1.0\r\nTE: trailers\r\n\r\n", "GET  / {} +close . "},
    {"TE, a word like it",       "GET / HTTP/1.1\r\n" H "TE: trailersx, xtrailers\r\n\r\n", "GET a / {} . "},
    {"upgrade",                  "GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET a / {} +upgrade:websocket . "},
    {"upgrade and close",        "GET / HTTP/1.1\r\n" H "Connection: close, upgrade\r\nUpgrade: websocket\r\n\r\n", "GET a / {} +upgrade:websocket +close . "},
    {"upgrade not listed",       "GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n", "GET a / {} . "},
    {"upgrade to h2c",           "GET / HTTP/1.1\r\n" H "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", "GET a / {} . "},
    {"h2c in a list",            "GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", "GET a / {} . "},
    {"upgrade in HTTP/1.0",      "GET / HTTP/1.0\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET a / {} +close . "},
    {"upgrade with content",     "POST / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", "POST a / {} <x> . "},
    {"upgrade, length nought",   "GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", "GET a / {} +upgrade:websocket . "},
    {"unknown expectation",      "POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", "!EXPECTATION"},
    {"expectation without content", "GET / HTTP/1.1\r\n" H "Expect: 100-continue\r\n\r\n", "GET a / {} . "},
    {"expectation in HTTP/1.0",  "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "POST  / {} +close <x> . "},
    {"expectation",              "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "POST a / {expect=100-continue} <x> . "},
};

/* ... and an answer's; `to`: what it answers to, G(ET), H(EAD), C(ONNECT) or U(pgrade). */
static const struct { const char *name; char to; const char *in, *want; } answers[] = {
    {"length",               'G', "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "200 {} <ab> . "},
    {"nothing",              'G', "",                                               ""},
    {"no reason",            'G', "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",     "200 {} . "},
    {"no reason, no blank",  'G', "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",      "200 {} . "},
    {"chunked",              'G', "HTTP/1.1 200 OK\r\n" CHUNKED "\r\n1\r\na\r\n0\r\nt: u\r\n\r\n", "200 {} <a> {t=u} . "},
    {"until the end",        'G', "HTTP/1.1 200 OK\r\n\r\nabc",                     "200 {} +close <abc> $"},
    {"until the end, empty", 'G', "HTTP/1.1 200 OK\r\n\r\n",                        "200 {} +close $"},
    {"HTTP/1.0",             'G', "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",  "200 {} +close <a> . "},
    {"HTTP/1.0 with chunks", 'G', "HTTP/1.0 200 OK\r\n" CHUNKED "\r\n0\r\n\r\n",    "!CODING_IN_1_0"},
    {"two answers",          'G', "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 304 y\r\n\r\n",   "204 {} . 304 {} . "},
    {"truncated length",     'G', "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",  "200 {} <a> !TRUNCATED"},
    {"truncated chunks",     'G', "HTTP/1.1 200 OK\r\n" CHUNKED "\r\n1\r\na\r\n",   "200 {} <a> !TRUNCATED"},
    {"truncated head",       'G', "HTTP/1.1 200 OK\r\n",                            "!TRUNCATED"},
    {"length and chunks",    'G', "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" CHUNKED "\r\n0\r\n\r\n", "!LENGTH_AND_CODING"},
    {"two lengths",          'G', "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "!LENGTH_REPEATED"},
    {"unknown coding",       'G', "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", "!CODING_UNKNOWN"},
    {"empty line before",    'G', "\r\nHTTP/1.1 200 OK\r\n\r\n",                    "!STATUS_LINE"},
    {"short status",         'G', "HTTP/1.1 20 OK\r\n\r\n",                         "!STATUS_LINE"},
    {"long status",          'G', "HTTP/1.1 2000 OK\r\n\r\n",                       "!STATUS_LINE"},
    {"status below 100",     'G', "HTTP/1.1 099 OK\r\n\r\n",                        "!STATUS_LINE"},
    {"signed status",        'G', "HTTP/1.1 +20 OK\r\n\r\n",                        "!STATUS_LINE"},
    {"tab for blank",        'G', "HTTP/1.1\t200 OK\r\n\r\n",                       "!STATUS_LINE"},
    {"two blanks",           'G', "HTTP/1.1  200 OK\r\n\r\n",                       "!STATUS_LINE"},
    {"version 2",            'G', "HTTP/2 200\r\n\r\n",                             "!STATUS_LINE"},
    {"CR in the reason",     'G', "HTTP/1.1 200 O\rK\r\n\r\n",                      "!STATUS_LINE"},
    {"bare LF",              'G', "HTTP/1.1 200 OK\n\n",                            "!BARE_LF"},
    {"a request",            'G', "GET / HTTP/1.1\r\nHost: a\r\n\r\n",              "!STATUS_LINE"},
    {"folded",               'G', "HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n",          "!OBS_FOLD"},
    {"interim",              'G', "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", "100 {} ~ 200 {} . "},
    {"two interim",          'G', "HTTP/1.1 103 x\r\nl: 1\r\n\r\nHTTP/1.1 103 x\r\nl: 2\r\n\r\nHTTP/1.1 204 x\r\n\r\n", "103 {l=1} ~ 103 {l=2} ~ 204 {} . "},
    {"interim with length",  'G', "HTTP/1.1 100 x\r\nContent-Length: 3\r\n\r\nHTTP/1.1 204 x\r\n\r\n", "100 {} ~ 204 {} . "},
    {"interim with chunks",  'G', "HTTP/1.1 100 x\r\n" CHUNKED "\r\n",              "!CODING_FORBIDDEN"},
    {"interim and no more",  'G', "HTTP/1.1 100 x\r\n\r\n",                         "100 {} ~ "},
    {"204 with length",      'G', "HTTP/1.1 204 x\r\nContent-Length: 3\r\n\r\nHTTP/1.1 204 x\r\n\r\n", "204 {} . 204 {} . "},
    {"204 with chunks",      'G', "HTTP/1.1 204 x\r\n" CHUNKED "\r\n0\r\n\r\n",     "!CODING_FORBIDDEN"},
    {"304 tells a length",   'G', "HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n",    "304 {content-length=3} . "},
    {"205",                  'G', "HTTP/1.1 205 x\r\nContent-Length: 0\r\n\r\n",    "205 {} . "},
    {"HEAD, length",         'H', "HTTP/1.1 200 x\r\nContent-Length: 3\r\n\r\n",    "200 {content-length=3} . "},
    {"HEAD, chunks",         'H', "HTTP/1.1 200 x\r\n" CHUNKED "\r\n",              "200 {} . "},
    {"HEAD, neither",        'H', "HTTP/1.1 200 x\r\n\r\nHTTP/1.1 404 x\r\n\r\n",   "200 {} . 404 {} . "},
    {"HEAD, bad length",     'H', "HTTP/1.1 200 x\r\nContent-Length: a\r\n\r\n",    "!LENGTH_INVALID"},
    {"upgraded",             'U', "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01x", "101 {} +upgrade:websocket <\x81\x01x> $"},
    {"upgraded, not asked",  'G', "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "!UPGRADE_UNASKED"},
    {"upgrade not granted",  'U', "HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\na", "200 {} <a> . "},
    {"upgraded with chunks", 'U', "HTTP/1.1 101 x\r\n" CHUNKED "\r\n",              "!CODING_FORBIDDEN"},
    {"tunnel",               'C', "HTTP/1.1 200 x\r\n\r\nraw",                      "200 {} <raw> $"},
    {"tunnel with length",   'C', "HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\nraw", "200 {} <raw> $"},
    {"tunnel with chunks",   'C', "HTTP/1.1 200 x\r\n" CHUNKED "\r\nraw",           "!CODING_FORBIDDEN"},
    {"tunnel refused",       'C', "HTTP/1.1 403 x\r\nContent-Length: 1\r\n\r\na",   "403 {} <a> . "},
    {"close",                'G', "HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "200 {} +close . "},
    {"cookies stay apart",   'G', "HTTP/1.1 200 x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", "200 {set-cookie=a;set-cookie=b} . "},
};
/* clang-format on */

static const struct h1_way request_way = {.request = true};

static struct h1_way answer_way(char to)
{
    return (struct h1_way){.head = to == 'H', .connect = to == 'C', .upgrade = to == 'U'};
}

static void check(const char *name, struct h1_way way, struct slice in, const char *want)
{
    struct buf whole, cut, wire, again;
    buf_init(&whole, 1 << 20);
    buf_init(&cut, 1 << 20);
    buf_init(&wire, 1 << 20);
    buf_init(&again, 1 << 20);
    bool good = h1_trace(&way, in, &whole, &wire);
    ck_assert_msg(slice_is(buf_slice(&whole), want), "%s: %s, want %s", name, buf_cstr(&whole),
                  want);
    /* Where the bytes are cut does not change what they mean: two pieces, and pieces of 1 to 3. */
    for (size_t at = 1; at <= in.len + 3; at++) {
        way.first = at > in.len ? at - in.len : at;
        way.step = at > in.len ? at - in.len : 0;
        buf_reset(&cut);
        h1_trace(&way, in, &cut, NULL);
        ck_assert_msg(slice_eq(buf_slice(&whole), buf_slice(&cut)), "%s: %s, cut at %zu: %s", name,
                      buf_cstr(&whole), at, buf_cstr(&cut));
    }
    /* What is sent on is read as the same. */
    if (good) {
        way.first = way.step = 0;
        h1_trace(&way, buf_slice(&wire), &again, NULL);
        ck_assert_msg(slice_eq(buf_slice(&whole), buf_slice(&again)), "%s: %s, sent on: %s\n%s",
                      name, buf_cstr(&whole), buf_cstr(&again), buf_cstr(&wire));
    }
    buf_fini(&whole);
    buf_fini(&cut);
    buf_fini(&wire);
    buf_fini(&again);
}

START_TEST(request)
{
    check(requests[_i].name, request_way, slice_str(requests[_i].in), requests[_i].want);
}
END_TEST

START_TEST(answer)
{
    check(answers[_i].name, answer_way(answers[_i].to), slice_str(answers[_i].in),
          answers[_i].want);
}
END_TEST

/* clang-format off */
static const struct { const char *name; struct slice in; const char *want; } with_nul[] = {
    {"NUL in a value",    SL("GET / HTTP/1.1\r\n" H "x: a\0b\r\n\r\n"),            "!FIELD_VALUE"},
    {"NUL in a name",     SL("GET / HTTP/1.1\r\n" H "x\0: a\r\n\r\n"),             "!FIELD_NAME"},
    {"NUL in the target", SL("GET /\0 HTTP/1.1\r\n" H "\r\n"),                     "!TARGET"},
    {"NUL in the method", SL("GE\0 / HTTP/1.1\r\n" H "\r\n"),                      "!METHOD"},
    {"NUL in the host",   SL("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"),              "!FIELD_VALUE"},
    {"NUL in a coding",   SL("GET / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\0\r\n\r\n"), "!FIELD_VALUE"},
    {"NUL in a chunk",    SL(POST_CHUNKED "1\0\r\na\r\n0\r\n\r\n"),                "POST a / {} !CHUNK_SIZE"},
};
/* clang-format on */

START_TEST(nul_bytes)
{
    check(with_nul[_i].name, request_way, with_nul[_i].in, with_nul[_i].want);
}
END_TEST

/* A head of `n` bytes in all, as one long field. */
static void head_of(struct buf *out, size_t n)
{
    buf_add_str(out, "GET / HTTP/1.1\r\n" H "x: ");
    while (buf_len(out) < n - 4)
        buf_add_char(out, 'y');
    buf_add_str(out, "\r\n\r\n");
}

START_TEST(head_limit)
{
    struct buf in, out;
    struct h1_way way = {.request = true, .limits = {.head_bytes = 200}};
    size_t steps[] = {0, 1, 7, 199, 200};
    for (size_t n = 199; n <= 202; n++) {
        for (size_t k = 0; k < N_OF(steps); k++) {
            buf_init(&in, 1 << 20);
            buf_init(&out, 1 << 20);
            head_of(&in, n);
            way.first = way.step = steps[k];
            h1_trace(&way, buf_slice(&in), &out, NULL);
            if (n <= 200)
                ck_assert(slice_ends(buf_slice(&out), SL("y} . ")));
            else
                ck_assert_msg(slice_is(buf_slice(&out), "!HEAD_TOO_LARGE"), "%zu %s", n,
                              buf_cstr(&out));
            buf_fini(&in);
            buf_fini(&out);
        }
    }
}
END_TEST

/* A small head whose first bytes came alone, with more content behind it than a head may have. */
START_TEST(head_limit_is_of_the_head_alone)
{
    struct buf in, out;
    buf_init(&in, 1 << 20);
    buf_init(&out, 1 << 20);
    buf_add_str(&in, "POST / HTTP/1.1\r\n" H "Content-Length: 5000\r\n\r\n");
    for (int i = 0; i < 5000; i++)
        buf_add_char(&in, 'z');
    for (size_t first = 0; first < 60; first++) {
        struct h1_way way = {.request = true, .limits = {.head_bytes = 100}, .first = first};
        buf_reset(&out);
        h1_trace(&way, buf_slice(&in), &out, NULL);
        ck_assert_msg(slice_ends(buf_slice(&out), SL("zz> . ")), "first %zu: %s", first,
                      buf_cstr(&out));
    }
    buf_fini(&in);
    buf_fini(&out);
}
END_TEST

START_TEST(trailers_larger_than_a_head_may_be)
{
    struct buf in, out;
    buf_init(&in, 1 << 20);
    buf_init(&out, 1 << 20);
    buf_add_str(&in, POST_CHUNKED "0\r\nt: ");
    for (int i = 0; i < 4000; i++)
        buf_add_char(&in, 't');
    buf_add_str(&in, "\r\n\r\n");
    for (size_t step = 0; step < 3000; step += 499) {
        struct h1_way way = {
            .request = true, .limits = {.head_bytes = 100}, .step = step, .first = step};
        buf_reset(&out);
        h1_trace(&way, buf_slice(&in), &out, NULL);
        ck_assert(slice_ends(buf_slice(&out), SL("tt} . ")));
    }
    buf_fini(&in);
    buf_fini(&out);
}
END_TEST

/* clang-format off */
static const struct { const char *name; int n; const char *before, *each, *behind, *want; } large[] = {
    {"fields at the limit",      99, "GET / HTTP/1.1\r\n" H, "x: y\r\n", "\r\n", ". "},
    {"fields over it",          100, "GET / HTTP/1.1\r\n" H, "x: y\r\n", "\r\n", "!TOO_MANY_FIELDS"},
    {"framing counts too",      100, "GET / HTTP/1.1\r\n" H, "te: y\r\n", "\r\n", "!TOO_MANY_FIELDS"},
    {"target too long",       32768, "GET /", "y", " HTTP/1.1\r\n" H "\r\n", "!TARGET_TOO_LONG"},
    {"head without an end",   61441, "GET /", "y", "", "!HEAD_TOO_LARGE"},
    {"trailers at the limit",  1364, POST_CHUNKED "0\r\n", "abcdef", ":yyy\r\n\r\n", ". "},
    {"trailers over it",       1364, POST_CHUNKED "0\r\n", "abcdef", ":yyyy\r\n\r\n", "!TRAILERS_TOO_LARGE"},
    {"too many trailers",       101, POST_CHUNKED "0\r\n", "x: y\r\n", "\r\n", "!TOO_MANY_FIELDS"},
    {"extension at the limit",  252, POST_CHUNKED "0;", "e", "\r\n\r\n", ". "},
    {"extension over it",       253, POST_CHUNKED "0;", "e", "\r\n\r\n", "!CHUNK_EXTENSION"},
};
/* clang-format on */

START_TEST(limits)
{
    struct buf in, out;
    size_t steps[] = {0, 1, 1000, 16384};
    buf_init(&in, 1 << 20);
    buf_init(&out, 1 << 20);
    buf_add_str(&in, large[_i].before);
    for (int i = 0; i < large[_i].n; i++)
        buf_add_str(&in, large[_i].each);
    buf_add_str(&in, large[_i].behind);
    for (size_t k = 0; k < N_OF(steps); k++) {
        struct h1_way way = {.request = true, .first = steps[k], .step = steps[k]};
        buf_reset(&out);
        h1_trace(&way, buf_slice(&in), &out, NULL);
        ck_assert_msg(slice_ends(buf_slice(&out), slice_str(large[_i].want)), "%s: %s",
                      large[_i].name, buf_cstr(&out));
    }
    buf_fini(&in);
    buf_fini(&out);
}
END_TEST

/* What would split the message when it is written is refused, and leaves nothing behind. */
/* clang-format off */
static const struct { const char *name, *method, *authority, *path, *upgrade; bool ok; } writes[] = {
    {"plain",            "GET",    "a",      "/",      "",    true},
    {"CR in the path",   "GET",    "a",      "/\r\nx", "",    false},
    {"blank in it",      "GET",    "a",      "/ x",    "",    false},
    {"empty path",       "GET",    "a",      "",       "",    false},
    {"blank in method",  "G T",    "a",      "/",      "",    false},
    {"LF in authority",  "GET",    "a\nb",   "/",      "",    false},
    {"CR in upgrade",    "GET",    "a",      "/",      "w\r", false},
    {"CONNECT",          "CONNECT", "a:1",   "",       "",    true},
    {"CONNECT nowhere",  "CONNECT", "",      "/",      "",    false},
};
/* clang-format on */

START_TEST(write_refuses)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct http_head h;
    struct buf out;
    buf_init(&out, 4096);
    http_head_init(&h, &a);
    h.method = slice_str(writes[_i].method);
    h.authority = slice_str(writes[_i].authority);
    h.path = slice_str(writes[_i].path);
    h.upgrade = slice_str(writes[_i].upgrade);
    enum err_code rc = h1_write_request(&out, &h, false);
    ck_assert_msg((rc == ERR_OK) == writes[_i].ok, "%s", writes[_i].name);
    ck_assert_int_eq(buf_len(&out) > 0, writes[_i].ok);
    buf_fini(&out);
}
END_TEST

START_TEST(write_answers)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct http_head h;
    struct buf out;
    buf_init(&out, 4096);
    http_head_init(&h, &a);
    h.status = 503;
    h.body = HTTP_BODY_LENGTH;
    h.content_length = 7;
    ck_assert_int_eq(http_head_add(&h, SL("X-Y"), SL("z")), ERR_OK);
    ck_assert_int_eq(http_head_add(&h, SL("x"), SL("a\r\nb")), ERR_INVALID);
    ck_assert_int_eq(http_head_add(&h, SL("x y"), SL("z")), ERR_INVALID);
    ck_assert_int_eq(h1_write_response(&out, &h, true), ERR_OK);
    ck_assert_str_eq(buf_cstr(&out), "HTTP/1.1 503 Service Unavailable\r\nx-y: z\r\n"
                                     "connection: close\r\ncontent-length: 7\r\n\r\n");
    buf_reset(&out);
    h.reason = SL("a\r\nb");
    ck_assert_int_eq(h1_write_response(&out, &h, true), ERR_INVALID);
    ck_assert_uint_eq(buf_len(&out), 0);
    h1_write_chunk(&out, SL(""));
    ck_assert_uint_eq(buf_len(&out), 0);
    h1_write_chunk(&out, SL("0123456789abcdef"));
    ck_assert_int_eq(h1_write_last_chunk(&out, NULL), ERR_OK);
    ck_assert_str_eq(buf_cstr(&out), "10\r\n0123456789abcdef\r\n0\r\n\r\n");
    buf_fini(&out);
}
END_TEST

/* Fields that did not come by http_head_add are looked at when they are written. */
START_TEST(write_refuses_fields)
{
    static const struct { struct slice name, value; bool ok; } list[] = {
        {SL("a"), SL("b\tc"), true},     {SL("a"), SL("b\r\nc: d"), false},
        {SL("a"), SL("12345678\n"), false}, {SL("a\r\nb"), SL("c"), false},
        {SL(""), SL("c"), false},        {SL("a"), SL("b\0"), false},
    };
    for (size_t i = 0; i < N_OF(list); i++) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        CLEANUP(buf_freep) struct buf out;
        struct http_field field = {list[i].name, list[i].value};
        struct http_head h;
        buf_init(&out, 4096);
        http_head_init(&h, &a);
        h.method = SL("GET");
        h.authority = SL("a");
        h.path = SL("/");
        h.status = 200;
        h.fields = &field;
        h.n_fields = 1;
        ck_assert_int_eq(h1_write_request(&out, &h, false) == ERR_OK, list[i].ok);
        ck_assert_int_eq(h1_write_response(&out, &h, false) == ERR_OK, list[i].ok);
        ck_assert_int_eq(h1_write_last_chunk(&out, &h) == ERR_OK, list[i].ok);
        ck_assert_int_eq(buf_len(&out) > 0, list[i].ok);
    }
}
END_TEST

/* A buffer's end is told, and half a head is not left in it. */
START_TEST(write_meets_the_limit)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    CLEANUP(buf_freep) struct buf out;
    struct http_head h;
    http_head_init(&h, &a);
    h.status = 200;
    buf_init(&out, 10);
    ck_assert_int_eq(h1_write_response(&out, &h, false), ERR_LIMIT);
    ck_assert_uint_eq(buf_len(&out), 0);
}
END_TEST

START_TEST(chunk_prefix)
{
    static const struct { size_t n; const char *want; } list[] = {
        {1, "1\r\n"}, {15, "f\r\n"}, {16, "10\r\n"}, {0xabcdef, "abcdef\r\n"},
        {0x1000000, "1000000\r\n"}, {SIZE_MAX, "ffffffffffffffff\r\n"},
    };
    for (size_t i = 0; i < N_OF(list); i++) {
        char text[H1_CHUNK_PREFIX_MAX];
        size_t len = h1_chunk_prefix(list[i].n, text);
        ck_assert_msg(slice_is(slice_of(text, len), list[i].want), "%zx", list[i].n);
    }
}
END_TEST

START_TEST(idle_and_whole)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct slice in = SL("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), body;
    struct http_head h;
    struct h1_parser p;
    size_t used;
    h1_request_init(&p, NULL);
    http_head_init(&h, &a);
    ck_assert(h1_at_start(&p));
    ck_assert_int_eq(h1_step(&p, slice_head(in, 3), &used, &h, &body), H1_EV_MORE);
    ck_assert_uint_eq(used, 3);
    ck_assert(!h1_at_start(&p));
    ck_assert_int_eq(h1_step(&p, slice_skip(in, 3), &used, &h, &body), H1_EV_HEAD);
    ck_assert(h1_whole(&p));
    ck_assert_int_eq(h1_step(&p, SLICE_NULL, &used, &h, &body), H1_EV_END);
    ck_assert(h1_at_start(&p) && !h1_whole(&p));
    ck_assert_ptr_null(p.kept.p); /* an idle parser holds no memory */
    h1_fini(&p);
}
END_TEST

START_TEST(out_of_memory)
{
    struct slice in = SL(POST_CHUNKED "3;x\r\nabc\r\n0\r\nt: u\r\n\r\n");
    OOM_SWEEP (n) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        struct http_head h, tail;
        struct slice body;
        struct h1_parser p;
        enum h1_event ev = H1_EV_MORE;
        bool have_head = false;
        h1_request_init(&p, NULL);
        http_head_init(&h, &a);
        http_head_init(&tail, &a);
        for (size_t i = 0; i < in.len && ev != H1_EV_REFUSED; i++) {
            size_t used;
            struct slice one = slice_of(in.p + i, 1);
            do {
                ev = h1_step(&p, one, &used, have_head ? &tail : &h, &body);
                one = slice_skip(one, used);
                have_head = have_head || ev == H1_EV_HEAD;
            } while (ev != H1_EV_MORE && ev != H1_EV_REFUSED && ev != H1_EV_END);
        }
        /* An arena that cannot have its usual block tries a smaller one: that may still succeed. */
        if (!mem_fail_hit() || ev != H1_EV_REFUSED)
            ck_assert_int_eq(ev, H1_EV_END);
        else
            ck_assert_int_eq(p.refusal, H1_MEMORY);
        h1_fini(&p);
    }
}
END_TEST

TESTS(h1)
{
    tcase_add_loop_test(tc, request, 0, N_OF(requests));
    tcase_add_loop_test(tc, answer, 0, N_OF(answers));
    tcase_add_loop_test(tc, nul_bytes, 0, N_OF(with_nul));
    tcase_add_test(tc, head_limit);
    tcase_add_test(tc, head_limit_is_of_the_head_alone);
    tcase_add_test(tc, trailers_larger_than_a_head_may_be);
    tcase_add_loop_test(tc, limits, 0, N_OF(large));
    tcase_add_loop_test(tc, write_refuses, 0, N_OF(writes));
    tcase_add_test(tc, write_answers);
    tcase_add_test(tc, write_refuses_fields);
    tcase_add_test(tc, write_meets_the_limit);
    tcase_add_test(tc, chunk_prefix);
    tcase_add_test(tc, idle_and_whole);
    tcase_add_test(tc, out_of_memory);
}
