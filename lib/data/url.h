/* SPDX-License-Identifier: Apache-2.0 */
/* Absolute http(s) and grpc URLs that settings hold (jwksUri, sinks) and absolute-form targets. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"

struct url {
    struct slice scheme; /* as written */
    struct slice host;   /* without brackets */
    bool host_is_v6;
    uint16_t port; /* from the text, or 80 (http), 443 (https, grpc), 0 */
    struct slice authority;
    struct slice path; /* with query, "/" when empty */
};
/* scheme://host[:port][/path][?query]; userinfo, fragments, blanks and control bytes are refused.
 * Borrows from `text`. */
int url_parse(struct slice text, struct url *ret, struct err *err);
