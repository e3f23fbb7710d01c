/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in a RequestAuthentication, and what makes one fail closed. */
#include "mesh/api/ra.h"

#include "lib/data/json.h"
#include "lib/data/url.h"
#include "mesh/api/check.h"
#include "mesh/api/shapes.h"
#include "mesh/api/support.h"

static void from_header(const struct rd *d, void *ret)
{
    struct ra_header *x = ret;

    rd_str(d, "name", &x->name);
    rd_str(d, "prefix", &x->prefix);
}

static void claim(const struct rd *d, void *ret)
{
    struct ra_claim *x = ret;

    rd_str(d, "header", &x->header);
    rd_str(d, "claim", &x->claim);
}

static void jwks_uri(const struct rd *d, struct ra_rule *x)
{
    struct rd at;

    rd_str(d, "jwks_uri", &x->jwks_uri);
    if (x->jwks_uri.p && rd_get(d, "jwks_uri", &at))
        findings_add(d->c->f, FINDING_DEPRECATED, &at.path,
                     "is an old spelling: write jwksUri instead");
    rd_str(d, "jwksUri", &x->jwks_uri);
}

static void rule(const struct rd *d, void *ret)
{
    struct ra_rule *x = ret;

    rd_str(d, "issuer", &x->issuer);
    rd_strings(d, "audiences", &x->audiences);
    jwks_uri(d, x);
    rd_str(d, "jwks", &x->jwks);
    x->from_headers =
        rd_array(d, "fromHeaders", sizeof *x->from_headers, from_header, &x->n_from_headers);
    rd_strings(d, "fromParams", &x->from_params);
    rd_strings(d, "fromCookies", &x->from_cookies);
    rd_str(d, "outputPayloadToHeader", &x->payload_header);
    rd_bool(d, "forwardOriginalToken", &x->forward);
    x->claims = rd_array(d, "outputClaimToHeaders", sizeof *x->claims, claim, &x->n_claims);
    rd_opt_ns(d, "timeout", &x->timeout);
    rd_strings(d, "spaceDelimitedClaims", &x->space_delimited_claims);
}

int ra_decode(const json_t *obj, struct arena *a, struct ra **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct ra *ra = rd_alloc(&c, 1, sizeof *ra);

    if (!ra || rd_begin(&c, obj, false, &ra->meta, &root, &spec) < 0)
        return -1;
    rd_selector(&spec, "selector", "matchLabels", &ra->selector);
    rd_target_refs(&spec, &ra->target_refs);
    ra->rules = rd_array(&spec, "jwtRules", sizeof *ra->rules, rule, &ra->n_rules);
    ra->broken = c.errors > 0;
    if (c.nomem)
        return -1;
    *ret = ra;
    return 0;
}

/* --- rules
 * -------------------------------------------------------------------------------------------- */

static void no_empty(const struct api_strings *s, const struct fpath *up, const char *key,
                     struct findings *f)
{
    AT_KEY(list, *up, key);

    for (uint32_t i = 0; i < s->n; i++) {
        AT_INDEX(at, list, i);

        if (s->p[i].len == 0)
            findings_add(f, FINDING_INVALID, &at, "must not be empty");
    }
}

/* RFC 7517 5: an object with a list `keys`. */
static void check_jwks(struct slice text, const struct fpath *at, struct findings *f)
{
    struct err err = {0};
    json_t *set = NULL;

    if (json_parse(text, NULL, &set, &err) < 0)
        findings_add(f, FINDING_INVALID, at, "must be a JSON Web Key Set: %s", err.msg);
    else if (!json_is_array(json_object_get(set, "keys")))
        findings_add(f, FINDING_INVALID, at, "must be a JSON Web Key Set: an object with `keys`");
    json_decref(set);
}

static void check_uri(struct slice text, const struct fpath *at, struct findings *f)
{
    struct err err = {0};
    struct url url;

    if (url_parse(text, &url, &err) < 0)
        findings_add(f, FINDING_INVALID, at, "must be a URL, is \"%.*s\": %s", SHOW(text), err.msg);
    else if (!slice_is(url.scheme, "http") && !slice_is(url.scheme, "https"))
        findings_add(f, FINDING_INVALID, at, "must begin with http:// or https://, is \"%.*s\"",
                     SHOW(text));
    else if (slice_is(url.scheme, "http"))
        findings_add(
            f, FINDING_SUSPECT, at,
            "keys that are fetched in plaintext can be exchanged on the way: use https://");
}

static void check_rule(const struct ra_rule *r, const struct fpath *at, struct findings *f)
{
    AT_KEY(issuer, *at, "issuer");
    AT_KEY(uri, *at, "jwksUri");
    AT_KEY(jwks, *at, "jwks");
    AT_KEY(headers, *at, "fromHeaders");
    AT_KEY(claims, *at, "outputClaimToHeaders");
    AT_KEY(timeout, *at, "timeout");
    AT_KEY(payload, *at, "outputPayloadToHeader");

    if (r->issuer.len == 0)
        findings_add(f, FINDING_INVALID, &issuer, "must name the issuer of the tokens");
    no_empty(&r->audiences, at, "audiences", f);
    if (r->jwks_uri.len)
        check_uri(r->jwks_uri, &uri, f);
    if (r->jwks.len)
        check_jwks(r->jwks, &jwks, f);
    if (r->jwks_uri.len && r->jwks.len)
        findings_add(f, FINDING_SUSPECT, &uri, "is not asked while jwks holds the keys: keep one");
    for (uint32_t i = 0; i < r->n_from_headers; i++) {
        AT_INDEX(item, headers, i);
        AT_KEY(name, item, "name");

        check_header_name(r->from_headers[i].name, &name, f);
    }
    no_empty(&r->from_params, at, "fromParams", f);
    no_empty(&r->from_cookies, at, "fromCookies", f);
    for (uint32_t i = 0; i < r->n_claims; i++) {
        AT_INDEX(item, claims, i);
        AT_KEY(name, item, "header");
        AT_KEY(key, item, "claim");

        check_header_name(r->claims[i].header, &name, f);
        if (r->claims[i].claim.len == 0)
            findings_add(f, FINDING_INVALID, &key, "must name a claim");
    }
    if (r->payload_header.len)
        check_header_name(r->payload_header, &payload, f);
    check_duration(r->timeout, &timeout, f);
    no_empty(&r->space_delimited_claims, at, "spaceDelimitedClaims", f);
}

const char *ra_closed_reason(const struct ra *ra)
{
    if (support_kind(API_REQUEST_AUTHENTICATION)->state != SUPPORT_REPORTED)
        return ra->broken ? "it could not be read" : NULL;
    return ra->n_rules && !ra->target_refs.n ? "tokens (JWT) are not verified" : NULL;
}

void ra_validate(const struct ra *ra, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(list, spec, "jwtRules");
    const char *closed = ra_closed_reason(ra);

    shape_check_target(&ra->selector, &ra->target_refs, f);
    for (uint32_t i = 0; i < ra->n_rules; i++) {
        AT_INDEX(at, list, i);
        check_rule(&ra->rules[i], &at, f);
    }
    if (closed)
        findings_add(
            f, FINDING_CLOSED, &list,
            "%s yet: the workloads that this object selects refuse every call; remove it to "
            "let calls in",
            closed);
}
