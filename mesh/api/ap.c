/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of AuthorizationPolicy; its rules are in ap_validate.c. */
#include "mesh/api/ap.h"

#include "mesh/api/read.h"

static const char *const actions[] = {"ALLOW", "DENY", "AUDIT", "CUSTOM", NULL};

const char *ap_action_name(enum ap_action action)
{
    return actions[action];
}

static void source(const struct rd *d, struct ap_source *x)
{
    rd_strings(d, "principals", &x->principals);
    rd_strings(d, "notPrincipals", &x->not_principals);
    rd_strings(d, "requestPrincipals", &x->request_principals);
    rd_strings(d, "notRequestPrincipals", &x->not_request_principals);
    rd_strings(d, "namespaces", &x->namespaces);
    rd_strings(d, "notNamespaces", &x->not_namespaces);
    rd_strings(d, "serviceAccounts", &x->service_accounts);
    rd_strings(d, "notServiceAccounts", &x->not_service_accounts);
    rd_strings(d, "ipBlocks", &x->ip_blocks);
    rd_strings(d, "notIpBlocks", &x->not_ip_blocks);
    rd_strings(d, "remoteIpBlocks", &x->remote_ip_blocks);
    rd_strings(d, "notRemoteIpBlocks", &x->not_remote_ip_blocks);
    rd_strings(d, "trustDomains", &x->trust_domains);
    rd_strings(d, "notTrustDomains", &x->not_trust_domains);
}

static void operation(const struct rd *d, struct ap_operation *x)
{
    rd_strings(d, "hosts", &x->hosts);
    rd_strings(d, "notHosts", &x->not_hosts);
    rd_strings(d, "ports", &x->ports);
    rd_strings(d, "notPorts", &x->not_ports);
    rd_strings(d, "methods", &x->methods);
    rd_strings(d, "notMethods", &x->not_methods);
    rd_strings(d, "paths", &x->paths);
    rd_strings(d, "notPaths", &x->not_paths);
}

/* An element without its one member, or with an empty one, would match everything: hardly what was
 * meant, and Istio's webhook refuses it. */
static void from(const struct rd *d, void *ret)
{
    struct rd at;

    if (rd_obj(d, "source", &at) && json_object_size(at.v) > 0)
        source(&at, ret);
    else
        rd_fail(d, "source", "is required and must not be empty");
}

static void to(const struct rd *d, void *ret)
{
    struct rd at;

    if (rd_obj(d, "operation", &at) && json_object_size(at.v) > 0)
        operation(&at, ret);
    else
        rd_fail(d, "operation", "is required and must not be empty");
}

static void when(const struct rd *d, void *ret)
{
    struct ap_condition *x = ret;

    rd_str(d, "key", &x->key);
    rd_strings(d, "values", &x->values);
    rd_strings(d, "notValues", &x->not_values);
}

/* `from: []` is no "from anybody" by intent either. */
static void *parts(const struct rd *d, const char *key, size_t size, rd_fn *fn, uint32_t *ret_n)
{
    struct rd at;

    if (rd_get(d, key, &at) && json_is_array(at.v) && json_array_size(at.v) == 0)
        rd_fail(d, key, "is empty: leave it out, or list at least one");
    return rd_array(d, key, size, fn, ret_n);
}

static void rule(const struct rd *d, void *ret)
{
    struct ap_rule *x = ret;

    x->from = parts(d, "from", sizeof *x->from, from, &x->n_from);
    x->to = parts(d, "to", sizeof *x->to, to, &x->n_to);
    x->when = parts(d, "when", sizeof *x->when, when, &x->n_when);
}

int ap_decode(const json_t *obj, struct arena *a, struct ap **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec, at;
    struct ap *ap = rd_alloc(&c, 1, sizeof *ap);

    if (!ap || rd_begin(&c, obj, false, &ap->meta, &root, &spec) < 0)
        return -1;
    rd_selector(&spec, "selector", "matchLabels", &ap->selector);
    rd_target_refs(&spec, &ap->target_refs);
    ap->action = (enum ap_action)rd_enum(&spec, "action", actions, AP_ALLOW);
    if (rd_obj(&spec, "provider", &at))
        rd_str(&at, "name", &ap->provider);
    ap->rules = rd_array(&spec, "rules", sizeof *ap->rules, rule, &ap->n_rules);
    ap->dry_run = slice_is(api_map_get(&ap->meta.annotations, SL("istio.io/dry-run")), "true");
    ap->broken = c.errors > 0;
    if (c.nomem)
        return -1;
    *ret = ap;
    return 0;
}
