/* SPDX-License-Identifier: Apache-2.0 */
/* What a matcher sees of a request and of a connection: borrowed views, made by the proxy from its
 * http_head and sockets, by `tulle explain` from arguments, and by tests from tables. */
#pragma once

#include "lib/data/ipaddr.h"
#include "mesh/match/program.h"

/* Same layout as http_field: an array of those may be passed as it is. */
struct match_field {
    struct slice name, value; /* name in lower case */
};
struct match_request {
    struct slice method, scheme, authority; /* authority with port where the client sent one */
    struct slice path;                      /* normalised, with query */
    const struct match_field *fields;
    uint32_t n_fields;
    struct arena *arena; /* of the stream: used only where several lines of a header must be joined */
};

/* `path` without query and fragment. */
struct slice match_path_only(struct slice path);
/* The value of field `name` (lower case; also ":method", ":path", ":scheme", ":authority", "host"):
 * several lines are joined by "," (RFC 9110 5.2). False when absent. ERR_NOMEM through *ret_rc, which
 * is ERR_OK otherwise. */
bool match_field_joined(const struct match_request *r, struct slice name, struct slice *ret,
                        enum err_code *ret_rc);
