/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/compile/compile_int.h"

/* Kubernetes' appProtocol values, Istio's protocol names and port-name prefixes, in one table. */
static const struct {
    const char *name;
    enum prog_protocol protocol;
} names[] = {
    {"http", PROG_HTTP},        {"http1", PROG_HTTP},
    {"http2", PROG_HTTP2},      {"h2c", PROG_HTTP2},
    {"grpc", PROG_GRPC},        {"grpc-web", PROG_HTTP},
    {"https", PROG_TLS},        {"tls", PROG_TLS},
    {"tcp", PROG_TCP},          {"mongo", PROG_TCP},
    {"mysql", PROG_TCP},        {"redis", PROG_TCP},
    {"udp", PROG_TCP},          {"hbone", PROG_TCP},
    {"kubernetes.io/h2c", PROG_HTTP2}, {"kubernetes.io/ws", PROG_HTTP},
    {"kubernetes.io/wss", PROG_TLS},   {"ws", PROG_HTTP},
    {"wss", PROG_TLS},
};

static bool find(struct slice s, enum prog_protocol *ret)
{
    for (size_t i = 0; i < N_OF(names); i++)
        if (slice_ieq(s, slice_str(names[i].name))) {
            *ret = names[i].protocol;
            return true;
        }
    return false;
}

enum prog_protocol compile_protocol(struct slice app_protocol, struct slice name, uint16_t port)
{
    enum prog_protocol p;
    ptrdiff_t dash;

    if (app_protocol.len && find(app_protocol, &p))
        return p;
    if (slice_istarts(name, SL("grpc-web")) && (name.len == 8 || name.p[8] == '-'))
        return PROG_HTTP;
    dash = slice_chr(name, '-');
    if (name.len && find(dash < 0 ? name : slice_head(name, (size_t)dash), &p))
        return p;
    /* Their servers speak first, so that detection would only wait. */
    return port == 25 || port == 53 || port == 3306 || port == 27017 ? PROG_TCP : PROG_AUTO;
}
