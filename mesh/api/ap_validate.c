/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in an AuthorizationPolicy, and what makes one fail closed. */
#include <stddef.h>

#include "lib/data/cidr.h"
#include "mesh/api/ap.h"
#include "mesh/api/check.h"
#include "mesh/api/support.h"

enum value_kind { VALUE_TEXT, VALUE_PORT, VALUE_CIDR, VALUE_PATH, VALUE_ACCOUNT };
struct list {
    const char *key, *gap;
    size_t offset;
    enum value_kind kind;
};
#define SOURCE(key, member, kind)                                                                  \
    {                                                                                              \
        key, key " is not implemented", offsetof(struct ap_source, member), kind                   \
    }
#define OPERATION(key, member, kind)                                                               \
    {                                                                                              \
        key, key " is not implemented", offsetof(struct ap_operation, member), kind                \
    }
static const struct list source_lists[] = {
    SOURCE("principals", principals, VALUE_TEXT),
    SOURCE("notPrincipals", not_principals, VALUE_TEXT),
    SOURCE("requestPrincipals", request_principals, VALUE_TEXT),
    SOURCE("notRequestPrincipals", not_request_principals, VALUE_TEXT),
    SOURCE("namespaces", namespaces, VALUE_TEXT),
    SOURCE("notNamespaces", not_namespaces, VALUE_TEXT),
    SOURCE("serviceAccounts", service_accounts, VALUE_ACCOUNT),
    SOURCE("notServiceAccounts", not_service_accounts, VALUE_ACCOUNT),
    SOURCE("ipBlocks", ip_blocks, VALUE_CIDR),
    SOURCE("notIpBlocks", not_ip_blocks, VALUE_CIDR),
    SOURCE("remoteIpBlocks", remote_ip_blocks, VALUE_CIDR),
    SOURCE("notRemoteIpBlocks", not_remote_ip_blocks, VALUE_CIDR),
    SOURCE("trustDomains", trust_domains, VALUE_TEXT),
    SOURCE("notTrustDomains", not_trust_domains, VALUE_TEXT),
};
static const struct list operation_lists[] = {
    OPERATION("hosts", hosts, VALUE_TEXT),     OPERATION("notHosts", not_hosts, VALUE_TEXT),
    OPERATION("ports", ports, VALUE_PORT),     OPERATION("notPorts", not_ports, VALUE_PORT),
    OPERATION("methods", methods, VALUE_TEXT), OPERATION("notMethods", not_methods, VALUE_TEXT),
    OPERATION("paths", paths, VALUE_PATH),     OPERATION("notPaths", not_paths, VALUE_PATH),
};

static const struct api_strings *list_of(const void *x, const struct list *l)
{
    return (const struct api_strings *)(const void *)((const char *)x + l->offset);
}

/* {*} is one segment, {**} any number of them and the last wildcard; each fills its segment. No
 * other braces or stars. */
static bool template_ok(struct slice s)
{
    bool rest_seen = false;

    if (s.len == 0 || s.p[0] != '/')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        struct slice at = slice_skip(s, i);
        size_t n;

        if (s.p[i] != '{') {
            if (s.p[i] == '}' || s.p[i] == '*')
                return false;
            continue;
        }
        n = slice_starts(at, SL("{**}")) ? 4 : slice_starts(at, SL("{*}")) ? 3 : 0;
        if (!n || rest_seen || s.p[i - 1] != '/' || (at.len > n && at.p[n] != '/'))
            return false;
        rest_seen = n == 4;
        i += n - 1;
    }
    return true;
}

/* A '*' counts at the beginning or the end only. */
static void text_value(struct slice s, const struct fpath *at, struct findings *f)
{
    struct slice inner = s;

    if (s.len == 0) {
        findings_add(f, FINDING_INVALID, at, "must not be empty");
        return;
    }
    if (inner.p[0] == '*')
        inner = slice_skip(inner, 1);
    else if (inner.p[inner.len - 1] == '*')
        inner = slice_head(inner, inner.len - 1);
    if (slice_chr(inner, '*') >= 0)
        findings_add(f, FINDING_SUSPECT, at,
                     "\"%.*s\": a star counts at the beginning or the end alone, others are taken "
                     "literally",
                     SHOW(s));
}

/* namespace/account or account, without stars. */
static void account_value(struct slice s, const struct fpath *at, struct findings *f)
{
    ptrdiff_t slash = slice_chr(s, '/');

    if (s.len == 0 || s.len > 320 || slash == 0 || slice_chr(s, '*') >= 0 ||
        slash != slice_rchr(s, '/') || (slash > 0 && (size_t)slash == s.len - 1))
        findings_add(f, FINDING_INVALID, at, "must be account or namespace/account, is \"%.*s\"",
                     SHOW(s));
}

static void value(struct slice s, enum value_kind kind, const struct fpath *at, struct findings *f)
{
    uint64_t port;

    switch (kind) {
    case VALUE_PORT:
        if (!slice_u64(s, 65535, &port) || port == 0)
            findings_add(f, FINDING_INVALID, at, "must be a port, 1..65535, is \"%.*s\"", SHOW(s));
        break;
    case VALUE_CIDR:
        check_cidr(s, at, f);
        break;
    case VALUE_ACCOUNT:
        account_value(s, at, f);
        break;
    case VALUE_PATH:
        if (slice_chr(s, '{') >= 0) {
            if (!template_ok(s))
                findings_add(f, FINDING_INVALID, at,
                             "\"%.*s\" is no template: {*} or {**} fills a whole segment, and "
                             "{**} is the last",
                             SHOW(s));
            break;
        }
        /* fall through */
    case VALUE_TEXT:
        text_value(s, at, f);
    }
}

static void lists(const void *x, const struct list *l, size_t n, const struct fpath *at,
                  struct findings *f)
{
    for (size_t i = 0; i < n; i++) {
        const struct api_strings *s = list_of(x, &l[i]);
        AT_KEY(list, *at, l[i].key);

        for (uint32_t j = 0; j < s->n; j++) {
            AT_INDEX(item, list, j);
            value(s->p[j], l[i].kind, &item, f);
        }
    }
}

static bool condition_key_known(struct slice key)
{
    static const char *const exact[] = {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
        "source.trustDomain",
    };
    static const char *const prefixes[] = {"request.headers[", "request.auth.claims[",
                                           "experimental."};

    for (size_t i = 0; i < N_OF(exact); i++)
        if (slice_is(key, exact[i]))
            return true;
    for (size_t i = 0; i < N_OF(prefixes); i++)
        if (slice_starts(key, slice_str(prefixes[i])))
            return true;
    return false;
}

static void condition(const struct ap_condition *c, const struct fpath *at, struct findings *f)
{
    AT_KEY(key, *at, "key");

    if (!condition_key_known(c->key))
        findings_add(f, FINDING_INVALID, &key, "\"%.*s\" is no attribute that policies know",
                     SHOW(c->key));
    if (!c->values.n && !c->not_values.n)
        findings_add(f, FINDING_INVALID, at, "needs values or notValues");
}

static void rule(const struct ap_rule *r, const struct fpath *at, struct findings *f)
{
    AT_KEY(from, *at, "from");
    AT_KEY(to, *at, "to");
    AT_KEY(when, *at, "when");

    for (uint32_t i = 0; i < r->n_from; i++) {
        const struct ap_source *s = &r->from[i];
        AT_INDEX(item, from, i);
        AT_KEY(source, item, "source");

        lists(s, source_lists, N_OF(source_lists), &source, f);
        if ((s->service_accounts.n || s->not_service_accounts.n) &&
            (s->principals.n || s->not_principals.n || s->namespaces.n || s->not_namespaces.n))
            findings_add(f, FINDING_INVALID, &source,
                         "serviceAccounts exclude principals and namespaces");
    }
    for (uint32_t i = 0; i < r->n_to; i++) {
        AT_INDEX(item, to, i);
        AT_KEY(operation, item, "operation");
        lists(&r->to[i], operation_lists, N_OF(operation_lists), &operation, f);
    }
    for (uint32_t i = 0; i < r->n_when; i++) {
        AT_INDEX(item, when, i);
        condition(&r->when[i], &item, f);
    }
}

void ap_validate(const struct ap *ap, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(list, spec, "rules");
    AT_KEY(selector, spec, "selector");
    AT_KEY(provider, spec, "provider");
    const char *closed;

    check_selector(&ap->selector, &selector, f);
    if (ap->selector.set && ap->target_refs.n)
        findings_add(f, FINDING_INVALID, &spec, "has both selector and targetRefs: keep one");
    if (ap->action == AP_CUSTOM && !ap->provider.len)
        findings_add(f, FINDING_INVALID, &provider, "action CUSTOM needs provider.name");
    if (ap->action != AP_CUSTOM && ap->provider.p)
        findings_add(f, FINDING_INVALID, &provider, "is for action CUSTOM alone");
    if (ap->action == AP_DENY && ap->n_rules == 0)
        findings_add(f, FINDING_SUSPECT, &list,
                     "a DENY without rules denies nothing; write one empty rule to deny all");
    for (uint32_t i = 0; i < ap->n_rules; i++) {
        AT_INDEX(item, list, i);
        rule(&ap->rules[i], &item, f);
    }
    closed = ap_closed_reason(ap);
    if (!closed && findings_has(f, FINDING_ERROR) && !ap_never_refuses(ap))
        closed = "it is not valid";
    if (closed)
        findings_add(f, FINDING_CLOSED, &spec,
                     "%s: the workloads that this policy selects refuse every call", closed);
}

static bool reported(const char *path)
{
    const struct support_row *row = support_find(API_AUTHORIZATION_POLICY, path);

    return row && row->state == SUPPORT_REPORTED;
}

static const char *closed_list(const void *x, const struct list *l, size_t n, const char *prefix)
{
    for (size_t i = 0; i < n; i++) {
        char path[96];
        size_t len = strlen(prefix);

        if (list_of(x, &l[i])->n == 0)
            continue;
        memcpy(path, prefix, len);
        strcpy(path + len, l[i].key);
        if (reported(path))
            return l[i].gap;
    }
    return NULL;
}

static bool templates_ok(const struct api_strings *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (slice_chr(s->p[i], '{') >= 0 && !template_ok(s->p[i]))
            return false;
    return true;
}

/* Whether proxies evaluate conditions on this attribute. */
static bool condition_enforced(struct slice key)
{
    static const char *const keys[] = {
        "source.ip",      "source.namespace", "source.principal", "source.serviceAccount",
        "destination.ip", "destination.port", "connection.sni"};

    for (size_t i = 0; i < N_OF(keys); i++)
        if (slice_is(key, keys[i]))
            return true;
    return slice_starts(key, SL("request.headers[")) && slice_ends(key, SL("]"));
}

static const char *closed_rule(const struct ap_rule *r)
{
    const char *key;

    for (uint32_t i = 0; i < r->n_when; i++)
        if (reported("spec.rules[].when") || !condition_enforced(r->when[i].key))
            return "a condition's key is not implemented";
    for (uint32_t i = 0; i < r->n_from; i++)
        if ((key = closed_list(&r->from[i], source_lists, N_OF(source_lists),
                               "spec.rules[].from[].source.")))
            return key;
    for (uint32_t i = 0; i < r->n_to; i++) {
        if ((key = closed_list(&r->to[i], operation_lists, N_OF(operation_lists),
                               "spec.rules[].to[].operation.")))
            return key;
        if (!templates_ok(&r->to[i].paths) || !templates_ok(&r->to[i].not_paths))
            return "a path template cannot be read";
    }
    return NULL;
}

const char *ap_gap(const struct ap *ap)
{
    const char *gap = NULL;

    if (ap->broken)
        return "it could not be read";
    if (ap->action == AP_CUSTOM && reported("spec.provider"))
        return "action CUSTOM is not implemented";
    for (uint32_t i = 0; i < ap->n_rules && !gap; i++)
        gap = closed_rule(&ap->rules[i]);
    return gap;
}

bool ap_never_refuses(const struct ap *ap)
{
    return ap->action == AP_AUDIT || ap->dry_run;
}

const char *ap_closed_reason(const struct ap *ap)
{
    if (ap_never_refuses(ap) || (!ap->broken && ap->target_refs.n && reported("spec.targetRefs")))
        return NULL;
    return ap_gap(ap);
}
