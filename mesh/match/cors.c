/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/cors.h"

#include "mesh/match/route.h"

/* A policy that lists "*" takes every origin, as Envoy's does. */
static bool origin_allowed(const struct prog_cors *c, struct slice origin)
{
    for (uint32_t i = 0; i < c->n_origins; i++)
        if (match_text(&c->origins[i], origin) || match_text(&c->origins[i], SL("*")))
            return true;
    return false;
}

enum cors_verdict match_cors(const struct prog_cors *c, const struct match_request *r,
                             struct slice *ret_origin)
{
    struct slice origin = SLICE_NULL, method = SLICE_NULL;
    enum err_code rc;
    bool preflight;

    if (!c || !match_field_joined(r, SL("origin"), &origin, &rc) || !origin.len)
        return CORS_NONE;
    preflight = slice_is(r->method, "OPTIONS") &&
                match_field_joined(r, SL("access-control-request-method"), &method, &rc) &&
                method.len;
    if (!origin_allowed(c, origin))
        return preflight && c->keep_unmatched ? CORS_PREFLIGHT_UNMATCHED : CORS_NONE;
    *ret_origin = origin;
    return preflight ? CORS_PREFLIGHT : CORS_ALLOWED;
}

static uint32_t origin_fields(const struct prog_cors *c, struct slice origin, struct prog_field *to)
{
    uint32_t n = 0;

    to[n++] = (struct prog_field){SL("access-control-allow-origin"), origin};
    if (c->allow_credentials)
        to[n++] = (struct prog_field){SL("access-control-allow-credentials"), SL("true")};
    return n;
}

uint32_t cors_answer(const struct prog_cors *c, struct slice origin,
                     struct prog_field ret[CORS_FIELDS])
{
    uint32_t n = origin_fields(c, origin, ret);

    if (c->expose_headers.len)
        ret[n++] = (struct prog_field){SL("access-control-expose-headers"), c->expose_headers};
    return n;
}

uint32_t cors_preflight(const struct prog_cors *c, struct slice origin,
                        struct prog_field ret[CORS_FIELDS])
{
    uint32_t n = origin_fields(c, origin, ret);

    if (c->allow_methods.len)
        ret[n++] = (struct prog_field){SL("access-control-allow-methods"), c->allow_methods};
    if (c->allow_headers.len)
        ret[n++] = (struct prog_field){SL("access-control-allow-headers"), c->allow_headers};
    if (c->max_age.len)
        ret[n++] = (struct prog_field){SL("access-control-max-age"), c->max_age};
    return n;
}
