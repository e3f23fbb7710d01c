/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that two implementations could read as different ones (RFC 9112 11.1, 11.2). Each is
 * either refused, or sent on in a form that leaves no choice: the table has the very bytes. A
 * second reader, naive and written for this test alone, then goes over those bytes: it must find as
 * many messages as the codec has seen end, and nothing in them that could be read in another way.
 */
#include "tests/unit/tcase.h"

#include "tests/unit/lib/http/h1_trace.h"

#define S(text)                                                                                    \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define NEXT "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define THEN "HTTP/1.1 200 Next\r\nContent-Length: 0\r\n\r\n"
#define TO_GET "GET / HTTP/1.1\r\nhost: a\r\n"
#define TO_POST "POST / HTTP/1.1\r\nhost: a\r\n"
#define TO_NEXT "GET /next HTTP/1.1\r\nhost: a\r\n\r\n"
#define TO_CHUNKED "transfer-encoding: chunked\r\n"

/* `why` is the name of the refusal, empty where there is none; `out` what was sent on before. */
/* clang-format off */
static const struct { const char *name; struct slice in; const char *why; struct slice out; } requests[] = {
    /* --- two lengths of one message (RFC 9112 6.1, 6.3) --- */
    {"framing: CL.TE",
     S(POST "Content-Length: 6\r\n" CHUNKED "\r\n0\r\n\r\nG"),
     "LENGTH_AND_CODING", S("")},
    {"framing: TE.CL",
     S(POST CHUNKED "Content-Length: 3\r\n\r\n1\r\nZ\r\n0\r\n\r\n"),
     "LENGTH_AND_CODING", S("")},
    {"framing: CL.TE, length nought",
     S(POST "Content-Length: 0\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "LENGTH_AND_CODING", S("")},
    {"framing: CL.TE, length empty",
     S(POST "Content-Length:\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "LENGTH_AND_CODING", S("")},
    {"framing: CL.TE, length no number",
     S(POST "Content-Length: x\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "LENGTH_AND_CODING", S("")},
    {"framing: CL.CL, short first",
     S(POST "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" NEXT),
     "LENGTH_REPEATED", S("")},
    {"framing: CL.CL, long first",
     S(POST "Content-Length: 44\r\nContent-Length: 0\r\n\r\n" NEXT),
     "LENGTH_REPEATED", S("")},
    {"framing: CL.CL, the same twice",
     S(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
     "LENGTH_REPEATED", S("")},
    {"framing: CL.CL, far apart",
     S(POST "Content-Length: 1\r\nA: b\r\nC: d\r\nContent-Length: 2\r\n\r\nxy"),
     "LENGTH_REPEATED", S("")},
    {"framing: TE.TE",
     S(POST CHUNKED CHUNKED "\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"framing: TE.TE, a cow",
     S(POST CHUNKED "Transfer-Encoding: cow\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"framing: TE.TE, cow first",
     S(POST "Transfer-Encoding: cow\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"framing: TE.TE, identity first",
     S(POST "Transfer-Encoding: identity\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"framing: TE in HTTP/1.0",
     S("POST / HTTP/1.0\r\nHost: a\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "CODING_IN_1_0", S("")},
    {"framing: TE in HTTP/1.0, kept alive",
     S("POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" CHUNKED "\r\n0\r\n\r\n" NEXT),
     "CODING_IN_1_0", S("")},
    {"framing: CL and TE in HTTP/1.0",
     S("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "LENGTH_AND_CODING", S("")},
    {"framing: neither, and content",
     S(POST "\r\n" NEXT),
     "", S(TO_POST "\r\n" TO_NEXT)},
    {"framing: neither, and no request",
     S(POST "\r\nx=1\r\n\r\n"),
     "REQUEST_LINE", S(TO_POST "\r\n")},
    /* --- Transfer-Encoding that one reads and another does not --- */
    {"coding: case of the name",
     S(POST "tRANSFER-eNCODING: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n")},
    {"coding: case of the value",
     S(POST "Transfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n")},
    {"coding: no blank",
     S(POST "Transfer-Encoding:chunked\r\n\r\n0\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\n\r\n")},
    {"coding: tabs around",
     S(POST "Transfer-Encoding:\tchunked\t\r\n\r\n0\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\n\r\n")},
    {"coding: blank before the colon",
     S(POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
     "FIELD_NAME", S("")},
    {"coding: tab before the colon",
     S(POST "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
     "FIELD_NAME", S("")},
    {"coding: blank before the name",
     S(POST " " CHUNKED "\r\n0\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"coding: tab before the name",
     S(POST "\t" CHUNKED "\r\n0\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"coding: first line folded",
     S("POST / HTTP/1.1\r\n " CHUNKED "Host: a\r\n\r\n0\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"coding: value on the next line",
     S(POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"coding: colon on the next line",
     S(POST "Transfer-Encoding\r\n : chunked\r\n\r\n0\r\n\r\n"),
     "FIELD_LINE", S("")},
    {"coding: hidden behind a bare LF",
     S(POST "X: y\n" CHUNKED "\r\n0\r\n\r\n"),
     "BARE_LF", S("")},
    {"coding: hidden behind a bare CR",
     S(POST "X: y\r" CHUNKED "\r\n0\r\n\r\n"),
     "BARE_CR", S("")},
    {"coding: hidden behind CR CR",
     S(POST "X: y\r\r" CHUNKED "\r\n0\r\n\r\n"),
     "BARE_CR", S("")},
    {"coding: hidden behind a NUL",
     S(POST "X: y\000" CHUNKED "\r\n0\r\n\r\n"),
     "FIELD_VALUE", S("")},
    {"coding: vertical tab",
     S(POST "Transfer-Encoding: \013chunked\r\n\r\n0\r\n\r\n"),
     "FIELD_VALUE", S("")},
    {"coding: form feed",
     S(POST "Transfer-Encoding: chunked\014\r\n\r\n0\r\n\r\n"),
     "FIELD_VALUE", S("")},
    {"coding: NUL behind",
     S(POST "Transfer-Encoding: chunked\000\r\n\r\n0\r\n\r\n"),
     "FIELD_VALUE", S("")},
    {"coding: DEL behind",
     S(POST "Transfer-Encoding: chunked\177\r\n\r\n0\r\n\r\n"),
     "FIELD_VALUE", S("")},
    {"coding: no-break space",
     S(POST "Transfer-Encoding:\240chunked\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: sign of Kelvin for the k",
     S(POST "Transfer-Encoding: chun\342\204\252ed\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: quotes",
     S(POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: apostrophes",
     S(POST "Transfer-Encoding: 'chunked'\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: brackets",
     S(POST "Transfer-Encoding: [chunked]\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: xchunked",
     S(POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: chunk",
     S(POST "Transfer-Encoding: chunk\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: parameter",
     S(POST "Transfer-Encoding: chunked;q=0\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: semicolon",
     S(POST "Transfer-Encoding: chunked;\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: empty element before",
     S(POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: empty element behind",
     S(POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: identity behind",
     S(POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: identity before",
     S(POST "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: gzip before",
     S(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: gzip behind",
     S(POST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: chunked twice",
     S(POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"coding: identity alone",
     S(POST "Transfer-Encoding: identity\r\n\r\n" NEXT),
     "CODING_UNKNOWN", S("")},
    {"coding: empty",
     S(POST "Transfer-Encoding:\r\n\r\n" NEXT),
     "CODING_UNKNOWN", S("")},
    {"coding: underscore",
     S(POST "Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n"),
     "FIELD_ALIAS", S("")},
    {"coding: underscore beside a length",
     S(POST "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
     "FIELD_ALIAS", S("")},
    {"coding: another name",
     S(POST "X-" CHUNKED "\r\n" NEXT),
     "", S(TO_POST "x-" TO_CHUNKED "\r\n" TO_NEXT)},
    {"coding: a longer name",
     S(POST "Transfer-Encoding-: chunked\r\n\r\n" NEXT),
     "", S(TO_POST "transfer-encoding-: chunked\r\n\r\n" TO_NEXT)},
    {"coding: named in Connection",
     S(POST "Connection: transfer-encoding\r\n" CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n" NEXT),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n" TO_NEXT)},
    /* --- Content-Length that one reads and another does not (RFC 9110 8.6) --- */
    {"length: plus",
     S(POST "Content-Length: +1\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: minus nought",
     S(POST "Content-Length: -0\r\n\r\n"),
     "LENGTH_INVALID", S("")},
    {"length: minus",
     S(POST "Content-Length: -1\r\n\r\n"),
     "LENGTH_INVALID", S("")},
    {"length: hexadecimal",
     S(POST "Content-Length: 0x1\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: octal look",
     S(POST "Content-Length: 010\r\n\r\n0123456789"),
     "", S(TO_POST "content-length: 10\r\n\r\n0123456789")},
    {"length: leading noughts, many",
     S(POST "Content-Length: 0000000000000000000000001\r\n\r\nx"),
     "", S(TO_POST "content-length: 1\r\n\r\nx")},
    {"length: point",
     S(POST "Content-Length: 1.0\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: exponent",
     S(POST "Content-Length: 1e0\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: underscore in it",
     S(POST "Content-Length: 1_0\r\n\r\n0123456789"),
     "LENGTH_INVALID", S("")},
    {"length: two numbers",
     S(POST "Content-Length: 1 0\r\n\r\n0123456789"),
     "LENGTH_INVALID", S("")},
    {"length: list of two",
     S(POST "Content-Length: 1, 2\r\n\r\nxy"),
     "LENGTH_INVALID", S("")},
    {"length: list of two equal",
     S(POST "Content-Length: 1,1\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: comma behind",
     S(POST "Content-Length: 1,\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: semicolon behind",
     S(POST "Content-Length: 1;\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: letters behind",
     S(POST "Content-Length: 1x\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: empty",
     S(POST "Content-Length:\r\n\r\n" NEXT),
     "LENGTH_INVALID", S("")},
    {"length: blank alone",
     S(POST "Content-Length: \r\n\r\n" NEXT),
     "LENGTH_INVALID", S("")},
    {"length: blanks around",
     S(POST "Content-Length: \t 1 \t\r\n\r\nx"),
     "", S(TO_POST "content-length: 1\r\n\r\nx")},
    {"length: Arabic digit",
     S(POST "Content-Length: \331\241\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: vertical tab",
     S(POST "Content-Length: \0131\r\n\r\nx"),
     "FIELD_VALUE", S("")},
    {"length: NUL behind",
     S(POST "Content-Length: 1\000\r\n\r\nx"),
     "FIELD_VALUE", S("")},
    {"length: over 63 bits",
     S(POST "Content-Length: 9223372036854775808\r\n\r\n"),
     "LENGTH_INVALID", S("")},
    {"length: over 64 bits, by one",
     S(POST "Content-Length: 18446744073709551617\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"length: over 32 bits, by one",
     S(POST "Content-Length: 4294967297\r\n\r\nx"),
     "TRUNCATED", S(TO_POST "content-length: 4294967297\r\n\r\nx")},
    {"length: folded",
     S(POST "Content-Length:\r\n 1\r\n\r\nx"),
     "OBS_FOLD", S("")},
    {"length: blank before the colon",
     S(POST "Content-Length : 1\r\n\r\nx"),
     "FIELD_NAME", S("")},
    {"length: NUL in the name",
     S(POST "Content-Length\000: 1\r\n\r\nx"),
     "FIELD_NAME", S("")},
    {"length: eight bits in the name",
     S(POST "C\366ntent-Length: 1\r\n\r\nx"),
     "FIELD_NAME", S("")},
    {"length: underscore",
     S(POST "Content_Length: 1\r\n\r\nx"),
     "FIELD_ALIAS", S("")},
    {"length: underscore and dash",
     S(POST "Content_Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
     "FIELD_ALIAS", S("")},
    {"length: named in Connection",
     S(POST "Connection: content-length\r\nContent-Length: 40\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil\r\nX: y\r\n\r\n" NEXT),
     "", S(TO_POST "content-length: 40\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil\r\nX: y\r\n\r\n" TO_NEXT)},
    {"length: on GET",
     S(GET "Content-Length: 1\r\n\r\nx" NEXT),
     "", S(TO_GET "content-length: 1\r\n\r\nx" TO_NEXT)},
    {"length: on HEAD",
     S("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" NEXT),
     "", S("HEAD / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx" TO_NEXT)},
    {"length: one less than the content",
     S(POST "Content-Length: 1\r\n\r\nxG" NEXT),
     "", S(TO_POST "content-length: 1\r\n\r\nxG" TO_NEXT)},
    {"length: one more than there is",
     S(POST "Content-Length: 2\r\n\r\nx"),
     "TRUNCATED", S(TO_POST "content-length: 2\r\n\r\nx")},
    /* --- chunks (RFC 9112 7.1) --- */
    {"chunk: one after another",
     S(POST CHUNKED "\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n" NEXT),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n" TO_NEXT)},
    {"chunk: hexadecimal digits",
     S(POST CHUNKED "\r\nA\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\na\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n")},
    {"chunk: leading noughts",
     S(POST CHUNKED "\r\n001\r\nx\r\n000\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n")},
    {"chunk: 17 digits",
     S(POST CHUNKED "\r\n00000000000000001\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: over 64 bits",
     S(POST CHUNKED "\r\n10000000000000001\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: the largest",
     S(POST CHUNKED "\r\nffffffffffffffff\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: 0x",
     S(POST CHUNKED "\r\n0x1\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: plus",
     S(POST CHUNKED "\r\n+1\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: minus",
     S(POST CHUNKED "\r\n-1\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: underscore",
     S(POST CHUNKED "\r\n1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: blank before",
     S(POST CHUNKED "\r\n 1\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: blank behind",
     S(POST CHUNKED "\r\n1 \r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: tab behind",
     S(POST CHUNKED "\r\n1\t\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: no size",
     S(POST CHUNKED "\r\n\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: letters",
     S(POST CHUNKED "\r\nx\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: NUL behind",
     S(POST CHUNKED "\r\n1\000\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: extension",
     S(POST CHUNKED "\r\n1;a\r\nx\r\n0;b\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n")},
    {"chunk: extension with a value",
     S(POST CHUNKED "\r\n1;a=b;c=\"d;e\"\r\nx\r\n0\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n")},
    {"chunk: extension without a size",
     S(POST CHUNKED "\r\n;a\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: blank before the extension",
     S(POST CHUNKED "\r\n1 ;a\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: bare LF in the extension",
     S(POST CHUNKED "\r\n1;a\nx\r\n0\r\n\r\n"),
     "BARE_LF", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: bare CR in the extension",
     S(POST CHUNKED "\r\n1;a\rb\r\nx\r\n0\r\n\r\n"),
     "CHUNK_EXTENSION", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: NUL in the extension",
     S(POST CHUNKED "\r\n1;\000\r\nx\r\n0\r\n\r\n"),
     "CHUNK_EXTENSION", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: quoted line end",
     S(POST CHUNKED "\r\n1;a=\"\r\n\"\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n1\r\n\"\r\n")},
    {"chunk: size ends in LF",
     S(POST CHUNKED "\r\n1\nx\r\n0\r\n\r\n"),
     "BARE_LF", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: size ends in CR",
     S(POST CHUNKED "\r\n1\rx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: size ends in CR CR LF",
     S(POST CHUNKED "\r\n1\r\r\nx\r\n0\r\n\r\n"),
     "CHUNK_SIZE", S(TO_POST TO_CHUNKED "\r\n")},
    {"chunk: data ends in LF",
     S(POST CHUNKED "\r\n1\r\nx\n0\r\n\r\n"),
     "CHUNK_END", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: data ends in CR",
     S(POST CHUNKED "\r\n1\r\nx\r0\r\n\r\n"),
     "CHUNK_END", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: data ends in two other bytes",
     S(POST CHUNKED "\r\n1\r\nxYZ0\r\n\r\n"),
     "CHUNK_END", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: data does not end",
     S(POST CHUNKED "\r\n1\r\nx0\r\n\r\n"),
     "CHUNK_END", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: data too long",
     S(POST CHUNKED "\r\n1\r\nxy\r\n0\r\n\r\n"),
     "CHUNK_END", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: data too short",
     S(POST CHUNKED "\r\n3\r\nx\r\n0\r\n\r\n"),
     "CHUNK_END", S(TO_POST TO_CHUNKED "\r\n3\r\nx\r\n\r\n")},
    {"chunk: last chunk ends in LF",
     S(POST CHUNKED "\r\n1\r\nx\r\n0\n\r\n"),
     "BARE_LF", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: no empty line behind",
     S(POST CHUNKED "\r\n1\r\nx\r\n0\r\n" NEXT),
     "FIELD_LINE", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: empty line of LF",
     S(POST CHUNKED "\r\n1\r\nx\r\n0\r\n\n" NEXT),
     "BARE_LF", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: empty line of CR CR LF",
     S(POST CHUNKED "\r\n1\r\nx\r\n0\r\n\r\r\n" NEXT),
     "FIELD_LINE", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: CR and another byte",
     S(POST CHUNKED "\r\n1\r\nx\r\n0\r\n\rX" NEXT),
     "FIELD_LINE", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"chunk: last chunk of many noughts",
     S(POST CHUNKED "\r\n000000000000000\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\n\r\n")},
    {"chunk: end of the connection for the last chunk",
     S(POST CHUNKED "\r\n1\r\nx\r\n"),
     "TRUNCATED", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n")},
    /* --- trailers (RFC 9110 6.5) --- */
    {"trailer: kept apart",
     S(POST CHUNKED "\r\n1\r\nx\r\n0\r\nSum: 1\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\nsum: 1\r\n\r\n")},
    {"trailer: of framing",
     S(POST CHUNKED "\r\n1\r\nx\r\n0\r\nContent-Length: 40\r\nTransfer-Encoding: identity\r\n\r\n" NEXT),
     "", S(TO_POST TO_CHUNKED "\r\n1\r\nx\r\n0\r\n\r\n" TO_NEXT)},
    {"trailer: of framing, underscores",
     S(POST CHUNKED "\r\n0\r\nContent_Length: 40\r\nTransfer_Encoding: x\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\n\r\n")},
    {"trailer: of routing",
     S(POST CHUNKED "\r\n0\r\nHost: evil\r\nConnection: close\r\nUpgrade: x\r\n\r\n" NEXT),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\n\r\n" TO_NEXT)},
    {"trailer: credentials",
     S(POST CHUNKED "\r\n0\r\nAuthorization: Basic eA==\r\nCookie: a=b\r\nProxy-Authorization: c\r\nx: y\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\nx: y\r\n\r\n")},
    {"trailer: named in Connection",
     S(POST CHUNKED "Connection: sum\r\n\r\n0\r\nSum: 1\r\nx: y\r\n\r\n"),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\nx: y\r\n\r\n")},
    {"trailer: folded",
     S(POST CHUNKED "\r\n0\r\nSum: 1\r\n 2\r\n\r\n"),
     "OBS_FOLD", S(TO_POST TO_CHUNKED "\r\n")},
    {"trailer: bare LF",
     S(POST CHUNKED "\r\n0\r\nSum: 1\nx: y\r\n\r\n"),
     "BARE_LF", S(TO_POST TO_CHUNKED "\r\n")},
    {"trailer: a request for one",
     S(POST CHUNKED "\r\n0\r\nGET /evil HTTP/1.1\r\n\r\n"),
     "FIELD_LINE", S(TO_POST TO_CHUNKED "\r\n")},
    /* --- line ends and blanks (RFC 9112 2.2, 5) --- */
    {"lines: LF ends the request line",
     S("GET / HTTP/1.1\nHost: a\r\n\r\n"),
     "BARE_LF", S("")},
    {"lines: LF ends a field",
     S(GET "X: y\nZ: w\r\n\r\n"),
     "BARE_LF", S("")},
    {"lines: LF ends the head",
     S(GET "\n" NEXT),
     "BARE_LF", S("")},
    {"lines: LF CR",
     S(GET "X: y\n\rZ: w\r\n\r\n"),
     "BARE_LF", S("")},
    {"lines: CR CR LF ends a field",
     S(GET "X: y\r\r\n\r\n"),
     "BARE_CR", S("")},
    {"lines: CR CR LF ends the head",
     S(GET "\r\r\n" NEXT),
     "FIELD_LINE", S("")},
    {"lines: CR in a value",
     S(GET "X: y\rz\r\n\r\n"),
     "BARE_CR", S("")},
    {"lines: NUL in a value",
     S(GET "X: y\000z\r\n\r\n"),
     "FIELD_VALUE", S("")},
    {"lines: NUL in the target",
     S("GET /\000 HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"lines: NUL in front",
     S("\000" GET "\r\n"),
     "METHOD", S("")},
    {"lines: empty line in front",
     S("\r\n" GET "\r\n"),
     "", S(TO_GET "\r\n")},
    {"lines: two empty lines in front",
     S("\r\n\r\n" GET "\r\n"),
     "REQUEST_LINE", S("")},
    {"lines: LF in front",
     S("\n" GET "\r\n"),
     "BARE_LF", S("")},
    {"lines: blank in front",
     S(" " GET "\r\n"),
     "REQUEST_LINE", S("")},
    {"lines: blank line for the end",
     S(GET " \r\n\r\n"),
     "OBS_FOLD", S("")},
    {"lines: folded",
     S(GET "X: y\r\n  z\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"lines: folded with a tab",
     S(GET "X: y\r\n\tz\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"lines: a fold of nothing",
     S(GET "X: y\r\n \r\n\r\n"),
     "OBS_FOLD", S("")},
    {"lines: next line of Unicode",
     S(GET "X: y\302\205Z: w\r\n\r\n"),
     "", S(TO_GET "x: y\302\205Z: w\r\n\r\n")},
    {"lines: empty name",
     S(GET ": y\r\n\r\n"),
     "FIELD_NAME", S("")},
    {"lines: no colon",
     S(GET "X\r\n\r\n"),
     "FIELD_LINE", S("")},
    {"lines: name in quotes",
     S(GET "\"X\": y\r\n\r\n"),
     "FIELD_NAME", S("")},
    {"lines: name with a blank",
     S(GET "X Y: z\r\n\r\n"),
     "FIELD_NAME", S("")},
    {"lines: name with brackets",
     S(GET "X[0]: z\r\n\r\n"),
     "FIELD_NAME", S("")},
    {"lines: head never ends",
     S(GET "X: y\r\n"),
     "TRUNCATED", S("")},
    /* --- request line (RFC 9112 3) --- */
    {"start: two blanks",
     S("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"start: two blanks at the end",
     S("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"start: tabs",
     S("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
     "REQUEST_LINE", S("")},
    {"start: blank behind",
     S("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
     "REQUEST_LINE", S("")},
    {"start: HTTP/0.9",
     S("GET /\r\n\r\n"),
     "REQUEST_LINE", S("")},
    {"start: two versions",
     S("GET / HTTP/1.1 HTTP/1.0\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"start: a request in the target",
     S("GET / HTTP/1.1\rGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"start: version in lower case",
     S("GET / http/1.1\r\nHost: a\r\n\r\n"),
     "REQUEST_LINE", S("")},
    {"start: version 1.9",
     S("GET / HTTP/1.9\r\nHost: a\r\n\r\n"),
     "VERSION", S("")},
    {"start: version 01.1",
     S("GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
     "REQUEST_LINE", S("")},
    {"start: version 1.1.1",
     S("GET / HTTP/1.1.1\r\nHost: a\r\n\r\n"),
     "REQUEST_LINE", S("")},
    {"start: version with a comma",
     S("GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
     "REQUEST_LINE", S("")},
    {"start: preface of HTTP/2",
     S("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
     "VERSION", S("")},
    {"start: method with a NUL",
     S("GE\000T / HTTP/1.1\r\nHost: a\r\n\r\n"),
     "METHOD", S("")},
    {"start: method in quotes",
     S("\"GET\" / HTTP/1.1\r\nHost: a\r\n\r\n"),
     "METHOD", S("")},
    {"start: fragment",
     S("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"start: eight bits",
     S("GET /\377 HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"start: no slash",
     S("GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"start: asterisk of GET",
     S("GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    /* --- who is meant (RFC 9112 3.2) --- */
    {"host: no Host",
     S("GET / HTTP/1.1\r\n\r\n"),
     "HOST_MISSING", S("")},
    {"host: two Hosts",
     S(GET "Host: b\r\n\r\n"),
     "HOST_REPEATED", S("")},
    {"host: two equal Hosts",
     S(GET "Host: a\r\n\r\n"),
     "HOST_REPEATED", S("")},
    {"host: Host and one with a blank",
     S(GET "Host : b\r\n\r\n"),
     "FIELD_NAME", S("")},
    {"host: Host and a folded one",
     S(GET " Host: b\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"host: Host on the next line",
     S("GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"host: list",
     S("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: two words",
     S("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: user",
     S("GET / HTTP/1.1\r\nHost: b@a\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: path",
     S("GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: query",
     S("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: fragment in it",
     S("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: two ports",
     S("GET / HTTP/1.1\r\nHost: a:80:81\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: port with a sign",
     S("GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: NUL in it",
     S("GET / HTTP/1.1\r\nHost: a\000b\r\n\r\n"),
     "FIELD_VALUE", S("")},
    {"host: bracket not closed",
     S("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: absolute form says another",
     S("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
     "HOST_INVALID", S("")},
    {"host: absolute form says the same",
     S("GET http://A/x HTTP/1.1\r\nHost: a\r\n\r\n"),
     "", S("GET /x HTTP/1.1\r\nhost: a\r\n\r\n")},
    {"host: absolute form with a user",
     S("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
     "TARGET", S("")},
    {"host: absolute form without Host",
     S("GET http://a/ HTTP/1.1\r\n\r\n"),
     "HOST_MISSING", S("")},
    {"host: absolute form of another scheme",
     S("GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
     "TARGET", S("")},
    {"host: another name's word",
     S(GET "X-Host: b\r\nX-Forwarded-Host: c\r\n\r\n"),
     "", S(TO_GET "x-host: b\r\nx-forwarded-host: c\r\n\r\n")},
    /* --- of this hop alone (RFC 9110 7.6.1) --- */
    {"hop: Connection names Host",
     S(GET "Connection: host\r\n\r\n"),
     "", S(TO_GET "\r\n")},
    {"hop: Connection names a field",
     S(GET "Connection: x\r\nX: y\r\nZ: w\r\n\r\n"),
     "", S(TO_GET "z: w\r\n\r\n")},
    {"hop: close and keep-alive",
     S(GET "Connection: close, keep-alive\r\n\r\n"),
     "", S(TO_GET "connection: close\r\n\r\n")},
    {"hop: too many names",
     S(GET "Connection: a,b,c,d,e,f,g,h,i\r\n\r\n"),
     "TOO_MANY_FIELDS", S("")},
    {"hop: Keep-Alive, Proxy-Connection, TE",
     S(GET "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: chunked\r\n\r\n"),
     "", S(TO_GET "\r\n")},
    {"hop: upgrade to h2c",
     S(GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n" NEXT),
     "", S(TO_GET "\r\n" TO_NEXT)},
    {"hop: h2c not listed",
     S(GET "Upgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"),
     "", S(TO_GET "\r\n")},
    {"hop: upgrade with content",
     S(POST "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx" NEXT),
     "", S(TO_POST "content-length: 1\r\n\r\nx" TO_NEXT)},
    {"hop: upgrade with chunks",
     S(POST "Connection: Upgrade\r\nUpgrade: websocket\r\n" CHUNKED "\r\n0\r\n\r\n" NEXT),
     "", S(TO_POST TO_CHUNKED "\r\n0\r\n\r\n" TO_NEXT)},
    {"hop: expectation",
     S(POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx" NEXT),
     "", S(TO_POST "expect: 100-continue\r\ncontent-length: 1\r\n\r\nx" TO_NEXT)},
    {"hop: expectation without content",
     S(GET "Expect: 100-continue\r\n\r\n" NEXT),
     "", S(TO_GET "\r\n" TO_NEXT)},
    {"hop: two expectations",
     S(POST "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
     "EXPECTATION", S("")},
    {"hop: expectation in a list",
     S(POST "Expect: x, 100-continue\r\nContent-Length: 1\r\n\r\nx"),
     "EXPECTATION", S("")},
    {"hop: expectation with a word",
     S(POST "Expect: y 100-continue\r\nContent-Length: 1\r\n\r\nx"),
     "EXPECTATION", S("")},
    {"hop: expectation in HTTP/1.0",
     S("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
     "", S(TO_POST "connection: close\r\ncontent-length: 1\r\n\r\nx")},
    {"hop: CONNECT with content",
     S("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\nx"),
     "CONTENT_FORBIDDEN", S("")},
    {"hop: CONNECT with chunks",
     S("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "CONTENT_FORBIDDEN", S("")},
};

/* `to`: what it answers to, G(ET), H(EAD), C(ONNECT) or U(pgrade). */
static const struct { const char *name; char to; struct slice in; const char *why; struct slice out; } answers[] = {
    /* --- answers: where they end --- */
    {"answer: CL.TE", 'G',
     S(OK "Content-Length: 5\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "LENGTH_AND_CODING", S("")},
    {"answer: CL.CL", 'G',
     S(OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
     "LENGTH_REPEATED", S("")},
    {"answer: CL.CL, equal", 'G',
     S(OK "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
     "LENGTH_REPEATED", S("")},
    {"answer: TE.TE", 'G',
     S(OK CHUNKED CHUNKED "\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"answer: length with a sign", 'G',
     S(OK "Content-Length: +1\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"answer: length in a list", 'G',
     S(OK "Content-Length: 1, 1\r\n\r\nx"),
     "LENGTH_INVALID", S("")},
    {"answer: unknown coding", 'G',
     S(OK "Transfer-Encoding: gzip\r\n\r\nx"),
     "CODING_UNKNOWN", S("")},
    {"answer: gzip, chunked", 'G',
     S(OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
     "CODING_UNKNOWN", S("")},
    {"answer: identity", 'G',
     S(OK "Transfer-Encoding: identity\r\n\r\nx"),
     "CODING_UNKNOWN", S("")},
    {"answer: chunks in HTTP/1.0", 'G',
     S("HTTP/1.0 200 OK\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "CODING_IN_1_0", S("")},
    {"answer: neither: until the end", 'G',
     S(OK "\r\nxyz"),
     "", S(OK "connection: close\r\n\r\nxyz")},
    {"answer: underscore", 'G',
     S(OK "Content_Length: 1\r\n\r\nx"),
     "FIELD_ALIAS", S("")},
    {"answer: content of a 204", 'G',
     S("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nxyz"),
     "TRUNCATED", S("HTTP/1.1 204 No\r\n\r\n")},
    {"answer: chunks of a 204", 'G',
     S("HTTP/1.1 204 No\r\n" CHUNKED "\r\n0\r\n\r\n"),
     "CODING_FORBIDDEN", S("")},
    {"answer: content of a 304", 'G',
     S("HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\nxyz"),
     "TRUNCATED", S("HTTP/1.1 304 No\r\ncontent-length: 3\r\n\r\n")},
    {"answer: content behind HEAD", 'H',
     S(OK "Content-Length: 3\r\n\r\nxyz"),
     "TRUNCATED", S(OK "content-length: 3\r\n\r\n")},
    {"answer: chunks behind HEAD", 'H',
     S(OK CHUNKED "\r\n0\r\n\r\n"),
     "STATUS_LINE", S(OK "\r\n")},
    {"answer: content of a 100", 'G',
     S("HTTP/1.1 100 Go\r\nContent-Length: 3\r\n\r\nxyz" THEN),
     "STATUS_LINE", S("HTTP/1.1 100 Go\r\n\r\n")},
    {"answer: chunks of a 100", 'G',
     S("HTTP/1.1 100 Go\r\n" CHUNKED "\r\n0\r\n\r\n" THEN),
     "CODING_FORBIDDEN", S("")},
    {"answer: a 100 in front", 'G',
     S("HTTP/1.1 100 Go\r\n\r\n" THEN),
     "", S("HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 Next\r\ncontent-length: 0\r\n\r\n")},
    {"answer: 101 that nobody asked for", 'G',
     S("HTTP/1.1 101 Now\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" THEN),
     "UPGRADE_UNASKED", S("")},
    {"answer: 101 that was asked for", 'U',
     S("HTTP/1.1 101 Now\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw"),
     "", S("HTTP/1.1 101 Now\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nraw")},
    {"answer: tunnel with a length", 'C',
     S(OK "Content-Length: 1\r\n\r\nraw"),
     "", S(OK "\r\nraw")},
    {"answer: tunnel with chunks", 'C',
     S(OK CHUNKED "\r\n0\r\n\r\n"),
     "CODING_FORBIDDEN", S("")},
    {"answer: chunk of a wrong size", 'G',
     S(OK CHUNKED "\r\n1\r\nxy\r\n0\r\n\r\n"),
     "CHUNK_END", S(OK TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"answer: bare LF behind a chunk", 'G',
     S(OK CHUNKED "\r\n1\r\nx\n0\r\n\r\n"),
     "CHUNK_END", S(OK TO_CHUNKED "\r\n1\r\nx\r\n")},
    {"answer: cut short", 'G',
     S(OK "Content-Length: 3\r\n\r\nxy"),
     "TRUNCATED", S(OK "content-length: 3\r\n\r\nxy")},
    {"answer: chunks cut short", 'G',
     S(OK CHUNKED "\r\n1\r\nx\r\n"),
     "TRUNCATED", S(OK TO_CHUNKED "\r\n1\r\nx\r\n")},
    /* --- answers: their heads --- */
    {"head: no version", 'G',
     S("200 OK\r\n\r\n"),
     "STATUS_LINE", S("")},
    {"head: HTTP/0.9", 'G',
     S("<html>\r\n\r\n"),
     "STATUS_LINE", S("")},
    {"head: status of two digits", 'G',
     S("HTTP/1.1 20 OK\r\n\r\n"),
     "STATUS_LINE", S("")},
    {"head: status of four digits", 'G',
     S("HTTP/1.1 2000 OK\r\n\r\n"),
     "STATUS_LINE", S("")},
    {"head: two blanks", 'G',
     S("HTTP/1.1  200 OK\r\n\r\n"),
     "STATUS_LINE", S("")},
    {"head: CR in the reason", 'G',
     S("HTTP/1.1 200 O\rK\r\n\r\n"),
     "STATUS_LINE", S("")},
    {"head: NUL in the reason", 'G',
     S("HTTP/1.1 200 O\000K\r\n\r\n"),
     "STATUS_LINE", S("")},
    {"head: LF ends the line", 'G',
     S("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
     "BARE_LF", S("")},
    {"head: split by LF", 'G',
     S(OK "X: y\nSet-Cookie: a\r\n\r\n"),
     "BARE_LF", S("")},
    {"head: split by CR", 'G',
     S(OK "X: y\rSet-Cookie: a\r\n\r\n"),
     "BARE_CR", S("")},
    {"head: folded", 'G',
     S(OK "X: y\r\n z\r\n\r\n"),
     "OBS_FOLD", S("")},
    {"head: blank before the colon", 'G',
     S(OK "Content-Length : 1\r\n\r\nx"),
     "FIELD_NAME", S("")},
    {"head: empty line in front", 'G',
     S("\r\n" THEN),
     "STATUS_LINE", S("")},
    {"head: named in Connection", 'G',
     S(OK "Connection: x\r\nX: y\r\nContent-Length: 0\r\n\r\n"),
     "", S(OK "content-length: 0\r\n\r\n")},
    {"head: trailers of framing", 'G',
     S(OK CHUNKED "\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a\r\nx: y\r\n\r\n" THEN),
     "", S(OK TO_CHUNKED "\r\n0\r\nx: y\r\n\r\nHTTP/1.1 200 Next\r\ncontent-length: 0\r\n\r\n")},
};
/* clang-format on */

/* --- the second reader --- */

struct reader {
    struct slice rest;
    bool request;
    char to;
    const char *fault; /* what could be read in another way */
    unsigned messages; /* that ended */
    bool until_end;    /* the last one ends with the connection */
};

struct told { /* by one head */
    unsigned hosts, lengths, codings;
    bool close;
    uint64_t length;
};

static bool fault(struct reader *r, const char *what)
{
    r->fault = what;
    return false;
}

/* A line and its CRLF; false when there is none (more). */
static bool read_line(struct reader *r, struct slice *ret)
{
    for (size_t i = 0; i < r->rest.len; i++) {
        char c = r->rest.p[i];
        if (c == '\n' || c == '\0')
            return fault(r, "LF or NUL in a line");
        if (c != '\r')
            continue;
        if (i + 1 == r->rest.len || r->rest.p[i + 1] != '\n')
            return fault(r, "CR in a line");
        *ret = slice_head(r->rest, i);
        r->rest = slice_skip(r->rest, i + 2);
        return true;
    }
    return false;
}

static bool read_number(struct slice text, unsigned base, uint64_t *ret)
{
    static const char digits[] = "0123456789abcdef";
    *ret = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char *d = strchr(digits, text.p[i]);
        if (!d || (unsigned)(d - digits) >= base)
            return false;
        *ret = *ret * base + (unsigned)(d - digits);
    }
    return text.len > 0 && text.len < 19 && (text.len == 1 || text.p[0] != '0');
}

static bool read_field(struct reader *r, struct slice line, struct told *t, bool trailer)
{
    size_t n = 0;
    while (n < line.len && line.p[n] &&
           strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~", line.p[n]))
        n++;
    if (n == 0 || n + 1 >= line.len || line.p[n] != ':' || line.p[n + 1] != ' ')
        return fault(r, "a field that is not name, colon, blank, value");
    struct slice name = slice_head(line, n), value = slice_skip(line, n + 2);
    for (size_t i = 0; i < value.len; i++)
        if (((unsigned char)value.p[i] < 0x20 && value.p[i] != '\t') || value.p[i] == 0x7f)
            return fault(r, "control character in a value");
    if (value.len && (strchr(" \t", value.p[0]) || strchr(" \t", value.p[value.len - 1])))
        return fault(r, "blank around a value");
    if (slice_is(name, "content_length") || slice_is(name, "transfer_encoding"))
        return fault(r, "a name like one of framing");
    bool framing = true;
    if (slice_is(name, "host")) {
        t->hosts++;
    } else if (slice_is(name, "content-length")) {
        t->lengths++;
        if (!read_number(value, 10, &t->length))
            return fault(r, "a length with a choice");
    } else if (slice_is(name, "transfer-encoding")) {
        t->codings++;
        if (!slice_is(value, "chunked"))
            return fault(r, "a coding with a choice");
    } else if (slice_is(name, "connection")) {
        t->close = slice_is(value, "close");
    } else {
        framing = false;
    }
    return framing && trailer ? fault(r, "framing in a trailer") : true;
}

/* Field lines up to the empty one. */
static bool read_fields(struct reader *r, struct told *t, bool trailer)
{
    struct slice line;
    while (read_line(r, &line)) {
        if (line.len == 0)
            return true;
        if (!read_field(r, line, t, trailer))
            return false;
    }
    return false;
}

static bool read_start(struct reader *r, struct slice line, uint64_t *ret_status)
{
    struct slice word, rest = line;
    *ret_status = 0;
    if (!r->request)
        return (slice_starts(line, SL("HTTP/1.1 ")) && line.len >= 12 &&
                read_number(slice_head(slice_skip(line, 9), 3), 10, ret_status)) ||
               fault(r, "malformed status line");
    unsigned blanks = 0;
    for (size_t i = 0; i < line.len; i++)
        blanks += line.p[i] == ' ' || line.p[i] == '\t';
    slice_next(&rest, ' ', &word);
    return (blanks == 2 && word.len && slice_ends(line, SL(" HTTP/1.1"))) ||
           fault(r, "malformed request line");
}

static bool read_chunks(struct reader *r)
{
    struct slice line;
    struct told none = {0};
    uint64_t n;
    while (read_line(r, &line)) {
        if (!read_number(line, 16, &n))
            return fault(r, "a chunk size with a choice");
        if (n == 0)
            return read_fields(r, &none, true);
        if (r->rest.len < n + 2)
            return false;
        if (r->rest.p[n] != '\r' || r->rest.p[n + 1] != '\n')
            return fault(r, "a chunk without its end");
        r->rest = slice_skip(r->rest, n + 2);
    }
    return false;
}

/* One message; false when it is not whole, or with a fault. */
static bool read_message(struct reader *r)
{
    struct slice line;
    struct told t = {0};
    uint64_t status;
    if (!read_line(r, &line) || !read_start(r, line, &status) || !read_fields(r, &t, false))
        return false;
    if (t.hosts > 1 || (r->request && t.hosts == 0))
        return fault(r, "not one Host");
    if (t.lengths + t.codings > 1)
        return fault(r, "more than one length");
    if (!r->request && (status < 200 || status == 204) && t.lengths + t.codings && r->to != 'C')
        return fault(r, "content where there is none");
    bool raw = status == 101 || (r->to == 'C' && status / 100 == 2) ||
               (r->request && slice_starts(line, SL("CONNECT ")));
    if (raw) {
        r->rest = SLICE_NULL;
        return true;
    }
    if (!r->request && (r->to == 'H' || status < 200 || status == 204 || status == 304))
        return true;
    if (t.codings)
        return read_chunks(r);
    if (t.lengths) {
        if (r->rest.len < t.length)
            return false;
        r->rest = slice_skip(r->rest, t.length);
        return true;
    }
    if (r->request)
        return true;
    if (!t.close)
        return fault(r, "an answer without an end");
    r->until_end = true;
    r->rest = SLICE_NULL;
    return true;
}

/* --- */

static unsigned ends_in(const char *trace)
{
    unsigned n = 0;
    for (const char *at = trace; (at = strpbrk(at, ".~$")); at++)
        n += *at == '$' || at[1] == ' ';
    return n;
}

static void check(const char *name, struct h1_way way, char to, struct slice in, const char *why,
                  struct slice out)
{
    CLEANUP(buf_freep) struct buf trace, wire;
    buf_init(&trace, 1 << 20);
    buf_init(&wire, 1 << 20);
    bool good = h1_trace(&way, in, &trace, &wire);
    const char *text = buf_cstr(&trace), *bang = strrchr(text, '!');
    ck_assert_msg(slice_is(slice_str(good || !bang ? "" : bang + 1), why), "%s: %s, want %s", name,
                  text, why);
    ck_assert_msg(slice_eq(buf_slice(&wire), out), "%s: sent on %.*s", name,
                  SL_FMT(buf_slice(&wire)));
    struct reader r = {.rest = out, .request = way.request, .to = to};
    while (r.rest.len && read_message(&r))
        r.messages++;
    ck_assert_msg(!r.fault, "%s: %s", name, r.fault);
    ck_assert_msg(r.messages == ends_in(text), "%s: %u messages, %s", name, r.messages, text);
    ck_assert_msg(!good || r.rest.len == 0, "%s: %zu bytes too many", name, r.rest.len);
}

START_TEST(request)
{
    check(requests[_i].name, (struct h1_way){.request = true}, 'G', requests[_i].in,
          requests[_i].why, requests[_i].out);
}
END_TEST

START_TEST(answer)
{
    char to = answers[_i].to;
    check(answers[_i].name,
          (struct h1_way){.head = to == 'H', .connect = to == 'C', .upgrade = to == 'U'}, to,
          answers[_i].in, answers[_i].why, answers[_i].out);
}
END_TEST

/* The second reader does find what it is there for. */
START_TEST(reader_finds)
{
    /* clang-format off */
    static const struct { struct slice wire; const char *fault; unsigned messages; } list[] = {
        {S(TO_GET "\r\n" TO_NEXT),                                                NULL, 2},
        {S(TO_POST "content-length: 3\r\n\r\nxy"),                                NULL, 0},
        {S(TO_POST "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\nx"),   "more than one length", 0},
        {S(TO_POST "content-length: 01\r\n\r\nx"),                                "a length with a choice", 0},
        {S(TO_POST "transfer-encoding: chunked \r\n\r\n0\r\n\r\n"),               "blank around a value", 0},
        {S(TO_POST "transfer-encoding: x\r\n\r\n0\r\n\r\n"),                      "a coding with a choice", 0},
        {S(TO_POST "transfer-encoding: chunked\r\n\r\n01\r\nx\r\n0\r\n\r\n"),     "a chunk size with a choice", 0},
        {S(TO_POST "transfer-encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n"),     "a chunk without its end", 0},
        {S(TO_POST "transfer-encoding: chunked\r\n\r\n0\r\nhost: b\r\n\r\n"),     "framing in a trailer", 0},
        {S(TO_GET "host: b\r\n\r\n"),                                             "not one Host", 0},
        {S(TO_GET "x: y\nz: w\r\n\r\n"),                                          "LF or NUL in a line", 0},
        {S(TO_GET "x : y\r\n\r\n"),                                               "a field that is not name, colon, blank, value", 0},
        {S("GET  / HTTP/1.1\r\nhost: a\r\n\r\n"),                                 "malformed request line", 0},
    };
    /* clang-format on */
    for (size_t i = 0; i < N_OF(list); i++) {
        struct reader r = {.rest = list[i].wire, .request = true, .to = 'G'};
        while (r.rest.len && read_message(&r))
            r.messages++;
        ck_assert_msg(
            slice_is(slice_str(r.fault ? r.fault : ""), list[i].fault ? list[i].fault : ""),
            "%zu: %s", i, r.fault ? r.fault : "no fault");
        ck_assert_uint_eq(r.messages, list[i].messages);
    }
}
END_TEST

TESTS(smuggling)
{
    tcase_add_loop_test(tc, request, 0, N_OF(requests));
    tcase_add_loop_test(tc, answer, 0, N_OF(answers));
    tcase_add_test(tc, reader_finds);
}
