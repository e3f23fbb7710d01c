/* SPDX-License-Identifier: Apache-2.0 */
/* Cross-origin fields on answers' heads; the decision is mesh/match/cors.h's. */
#pragma once

#include "lib/http/head.h"
#include "mesh/match/cors.h"

/* What the answer to a request of an allowed origin carries, in place of what it carried of that.
 * ERR_NOMEM. */
enum err_code cors_apply(struct http_head *h, const struct prog_cors *c, struct slice origin,
                         bool preflight);
