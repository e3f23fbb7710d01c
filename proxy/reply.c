/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/reply.h"

#include "lib/base/cleanup.h"
#include "lib/http/grpc.h"

enum { GRPC_MESSAGE_MAX = 1024 };

bool reply_wants_grpc(const struct http_head *request)
{
    return grpc_content_type(http_head_get(request, SL("content-type")));
}

/* google/rpc/code.proto names HTTP's status for each code. */
static unsigned http_status_of(int grpc)
{
    static const uint16_t of[] = {200, 499, 500, 400, 504, 404, 409, 403, 429,
                                  400, 409, 400, 501, 500, 503, 500, 401};
    return grpc >= 0 && (size_t)grpc < N_OF(of) ? of[grpc] : 500;
}

static void make_grpc(const struct reply *r, struct http_head *ret)
{
    char number[12], message[GRPC_MESSAGE_MAX];
    unsigned code = r->grpc >= 0 ? (unsigned)r->grpc : (unsigned)grpc_status_of_http(r->status);

    ret->status = 200;
    ret->body = HTTP_BODY_NONE;
    http_head_set(ret, SL("content-type"), SL("application/grpc"));
    http_head_set(ret, SL("grpc-status"),
                  slice_of(number, (size_t)(u32_put(number, code) - number)));
    if (r->text.len) {
        grpc_percent_encode(r->text, message, sizeof message);
        http_head_set(ret, SL("grpc-message"), slice_str(message));
    }
}

void reply_make(const struct http_head *request, const struct reply *r, struct http_head *ret,
                struct slice *ret_text)
{
    unsigned status = r->grpc >= 0 ? http_status_of(r->grpc) : r->status;
    bool redirect = r->location.len > 0;
    bool bare = slice_is(request->method, "HEAD") || status == 204 || status == 304 || status < 200;

    /* 421 is for the client's HTTP: it comes again on another connection (RFC 9110 15.5.20). */
    bool http_only = redirect || status == 421;

    http_head_init(ret, request->arena);
    ret->version = HTTP_1_1;
    *ret_text = SLICE_NULL;
    if (!http_only && (status < 200 || status >= 300 || r->grpc >= 0) &&
        reply_wants_grpc(request)) {
        make_grpc(r, ret);
    } else {
        ret->status = (uint16_t)status;
        ret->body = r->text.len || !bare ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
        ret->content_length = r->text.len;
        if (r->text.len)
            http_head_set(ret, SL("content-type"), SL("text/plain"));
        if (redirect)
            http_head_set(ret, SL("location"), r->location);
        if (!bare)
            *ret_text = r->text;
    }
    if (r->overloaded)
        http_head_set(ret, SL("x-envoy-overloaded"), SL("true"));
}
