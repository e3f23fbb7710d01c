/* SPDX-License-Identifier: Apache-2.0 */
/* Cross-origin resource sharing (Fetch standard, "HTTP extensions"), as Istio's corsPolicy asks for
 * it and Envoy answers it: what a route's policy makes of a request. Pure. */
#pragma once

#include "mesh/match/request.h"

enum cors_verdict {
    CORS_NONE,      /* not cross-origin, or of an origin that may not call: nothing is done */
    CORS_ALLOWED,   /* the answer, whoever gives it, gets the fields of cors_answer */
    CORS_PREFLIGHT, /* answer 200 with the fields of cors_preflight at once */
    CORS_PREFLIGHT_UNMATCHED, /* answer 200 without such fields at once */
};
/* *ret_origin gets the request's Origin where the verdict is ALLOWED or PREFLIGHT; it borrows from
 * the request. A preflight is OPTIONS with Access-Control-Request-Method. NULL policy: CORS_NONE.
 */
enum cors_verdict match_cors(const struct prog_cors *c, const struct match_request *r,
                             struct slice *ret_origin);
/* Fields to set on answers, at most CORS_FIELDS of them; returns how many. They borrow from `c` and
 * `origin`. The origin is named, never "*", so that answers with credentials are right, too. */
enum { CORS_FIELDS = 5 };
uint32_t cors_answer(const struct prog_cors *c, struct slice origin,
                     struct prog_field ret[CORS_FIELDS]);
uint32_t cors_preflight(const struct prog_cors *c, struct slice origin,
                        struct prog_field ret[CORS_FIELDS]);
