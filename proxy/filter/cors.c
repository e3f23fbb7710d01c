/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filter/cors.h"

enum err_code cors_apply(struct http_head *h, const struct prog_cors *c, struct slice origin,
                         bool preflight)
{
    struct prog_field f[CORS_FIELDS];
    uint32_t n = preflight ? cors_preflight(c, origin, f) : cors_answer(c, origin, f);
    enum err_code rc = ERR_OK;
    for (uint32_t i = 0; i < n && rc == ERR_OK; i++)
        rc = http_head_set(h, f[i].name, f[i].value);
    return rc;
}
