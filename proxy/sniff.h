/* SPDX-License-Identifier: Apache-2.0 */
/* What the first bytes of a connection say it carries. Pure. */
#pragma once

#include "lib/base/slice.h"

enum sniff {
    SNIFF_MORE,     /* cannot be told yet */
    SNIFF_HTTP1,    /* an HTTP/1 request line */
    SNIFF_HTTP2,    /* the client preface of HTTP/2 (RFC 9113 3.4) */
    SNIFF_MESH_TLS, /* a ClientHello that offers one of the mesh's protocols */
    SNIFF_TLS,      /* another ClientHello */
    SNIFF_OTHER,
};
/* `tls`: look into a ClientHello for the mesh's protocols; without it any TLS is SNIFF_TLS.
 * `eof`: no more bytes will come. */
enum sniff sniff(struct slice bytes, bool tls, bool eof);
