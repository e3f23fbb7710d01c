/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <string.h>

#include "lib/base/buf.h"
#include "proxy/reply.h"

#define GRPC "application/grpc"

/* http-grpc-status-mapping.md, google/rpc/code.proto; as Envoy's local replies. */
static const struct {
    const char *name, *method, *type;
    unsigned status;
    int grpc;
    bool overloaded;
    const char *text, *location, *want; /* status, body kind and length, fields; content */
} rows[] = {
    {"text", "GET", NULL, 503, -1, false, "no healthy upstream", NULL,
     "503 length 19 content-type=text/plain | no healthy upstream"},
    {"no text", "GET", NULL, 404, -1, false, NULL, NULL, "404 length 0 | "},
    {"HEAD", "HEAD", NULL, 503, -1, false, "no", NULL, "503 length 2 content-type=text/plain | "},
    {"HEAD, no text", "HEAD", NULL, 404, -1, false, NULL, NULL, "404 none 0 | "},
    {"no content", "GET", NULL, 204, -1, false, NULL, NULL, "204 none 0 | "},
    {"overloaded", "GET", NULL, 503, -1, true, NULL, NULL, "503 length 0 x-envoy-overloaded=true | "},
    {"redirect", "GET", NULL, 301, -1, false, NULL, "/x", "301 length 0 location=/x | "},
    {"gRPC: 400", "POST", GRPC, 400, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=13 | "},
    {"gRPC: 401", "POST", GRPC, 401, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=16 | "},
    {"gRPC: 403", "POST", GRPC, 403, -1, false, "RBAC: access denied", NULL,
     "200 none 0 content-type=" GRPC " grpc-status=7 grpc-message=RBAC: access denied | "},
    {"gRPC: 404", "POST", GRPC, 404, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=12 | "},
    {"gRPC: 429", "POST", GRPC, 429, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=14 | "},
    {"gRPC: 431", "POST", GRPC, 431, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=2 | "},
    {"gRPC: 500", "POST", GRPC, 500, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=2 | "},
    {"gRPC: 502", "POST", GRPC, 502, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=14 | "},
    {"gRPC: 503", "POST", GRPC "+proto", 503, -1, true, "a%b\n", NULL,
     "200 none 0 content-type=" GRPC " grpc-status=14 grpc-message=a%25b%0A x-envoy-overloaded=true | "},
    {"gRPC: 504", "POST", GRPC, 504, -1, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=14 | "},
    {"gRPC: a direct response keeps its form", "POST", GRPC, 200, -1, false, "ok", NULL,
     "200 length 2 content-type=text/plain | ok"},
    {"gRPC: a redirect does", "POST", GRPC, 302, -1, false, NULL, "/x", "302 length 0 location=/x | "},
    {"gRPC: 421 is for its HTTP", "POST", GRPC, 421, -1, false, NULL, NULL, "421 length 0 | "},
    {"gRPC-Web is HTTP", "POST", "application/grpc-web", 503, -1, false, "no", NULL,
     "503 length 2 content-type=text/plain | no"},
    {"asked for, to gRPC", "POST", GRPC, 200, 14, false, "fault filter abort", NULL,
     "200 none 0 content-type=" GRPC " grpc-status=14 grpc-message=fault filter abort | "},
    {"asked for, OK", "POST", GRPC, 200, 0, false, NULL, NULL, "200 none 0 content-type=" GRPC " grpc-status=0 | "},
    {"asked for, to HTTP", "GET", NULL, 200, 14, false, "fault filter abort", NULL,
     "503 length 18 content-type=text/plain | fault filter abort"},
    {"asked for, to HTTP, denied", "GET", NULL, 200, 7, false, NULL, NULL, "403 length 0 | "},
    {"asked for, beyond the codes", "GET", NULL, 200, 99, false, NULL, NULL, "500 length 0 | "},
};

START_TEST(forms)
{
    struct arena arena = ARENA_INIT;
    struct http_head request, head;
    struct slice text;
    struct buf got;
    http_head_init(&request, &arena);
    buf_init(&got, 4096);
    request.method = slice_str(rows[_i].method);
    if (rows[_i].type)
        http_head_add(&request, SL("content-type"), slice_str(rows[_i].type));
    struct reply r = {.status = rows[_i].status,
                      .grpc = rows[_i].grpc,
                      .overloaded = rows[_i].overloaded,
                      .text = slice_str(rows[_i].text ? rows[_i].text : ""),
                      .location = slice_str(rows[_i].location ? rows[_i].location : "")};
    reply_make(&request, &r, &head, &text);
    buf_addf(&got, "%u %s %llu", head.status, head.body == HTTP_BODY_NONE ? "none" : "length",
             (unsigned long long)head.content_length);
    for (uint32_t i = 0; i < head.n_fields; i++)
        buf_addf(&got, " %.*s=%.*s", SL_FMT(head.fields[i].name), SL_FMT(head.fields[i].value));
    buf_addf(&got, " | %.*s", SL_FMT(text));
    ck_assert_msg(strcmp(buf_cstr(&got), rows[_i].want) == 0, "%s: %s", rows[_i].name, buf_cstr(&got));
    buf_fini(&got);
    arena_fini(&arena);
}
END_TEST

TESTS(reply)
{
    tcase_add_loop_test(tc, forms, 0, N_OF(rows));
}
