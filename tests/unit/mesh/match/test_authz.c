/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "mesh/match/authz.h"
#include "tests/unit/tcase.h"

/* --- values ----------------------------------------------------------------------------------- */
static const struct {
    const char *value, *text;
    bool want;
} values[] = {
    {"a", "a", true},        {"a", "A", false},        {"a", "ab", false},      {"a", "", false},
    {"ab*", "ab", true},     {"ab*", "abc", true},     {"ab*", "a", false},     {"ab*", "xab", false},
    {"*ab", "ab", true},     {"*ab", "xab", true},     {"*ab", "abx", false},   {"*ab", "b", false},
    {"*", "x", true},        {"*", "", false},         {"**", "x*", true},      {"", "", true},
    {"", "x", false},        {"a*b", "axb", false},    {"a*b", "a*b", true},
};

START_TEST(value)
{
    ck_assert_msg(authz_value_match(slice_str(values[_i].value), slice_str(values[_i].text)) ==
                      values[_i].want,
                  "%s on %s", values[_i].value, values[_i].text);
}
END_TEST

static const struct {
    const char *value, *path;
    bool want;
} paths[] = {
    {"/foo/{*}", "/foo/bar", true},        {"/foo/{*}", "/foo/bar/baz", false},
    {"/foo/{*}", "/foo/", false},          {"/foo/{*}", "/foo", false},
    {"/foo/{**}", "/foo/bar/baz", true},   {"/foo/{**}", "/foo/", true},
    {"/foo/{**}", "/foo", false},          {"/foo/{**}/", "/foo/bar/", true},
    {"/foo/{**}/", "/foo//", true},        {"/foo/{**}/", "/foo/bar", false},
    {"/{*}/bar/{**}", "/a/bar/c/d", true}, {"/{*}/bar/{**}", "/a/b/bar/c", false},
    {"/{*}/bar/{**}", "//bar/c", false},   {"/foo/{**}/{*}", "/foo/a/b", false},
    {"/foo/{*}x", "/foo/ax", false},       {"/foo*", "/foobar", true},
    {"*.txt", "/a/b.txt", true},           {"/foo", "/foo", true},
    {"/foo", "/foo/", false},              {"/a{b}/{*}", "/a{b}/c", false},
};

START_TEST(path)
{
    ck_assert_msg(authz_path_match(slice_str(paths[_i].value), slice_str(paths[_i].path)) ==
                      paths[_i].want,
                  "%s on %s", paths[_i].value, paths[_i].path);
}
END_TEST

/* --- one rule, several requests --------------------------------------------------------------- */
#define ONE(list) {(list), sizeof(list) / sizeof *(list)}
#define WEB "spiffe://cluster.local/ns/shop/sa/web"

static struct slice web_principal[] = {{"cluster.local/ns/shop/sa/web", 28}};

static struct prog_inbound one_policy(struct authz_policy *p)
{
    return (struct prog_inbound){.policies = p, .n_policies = 1};
}

static struct authz_request request(struct match_request *http)
{
    struct authz_request r = {.principal = SL(WEB), .port = 8080, .http = http,
                              .trust_domain = SL("cluster.local")};

    ip_parse(SL("10.0.0.1"), &r.source);
    ip_parse(SL("10.0.0.2"), &r.destination);
    return r;
}

static bool allowed(const struct prog_inbound *in, const struct authz_request *r)
{
    struct authz_verdict v;

    authz_decide(in, r, &v);
    return v.allowed;
}

START_TEST(nothing_applies)
{
    struct prog_inbound in = {0};
    struct authz_request r = request(NULL);
    struct authz_verdict v;
    char detail[64];

    authz_decide(&in, &r, &v);
    ck_assert(v.allowed && v.reason == AUTHZ_NO_POLICY);
    authz_detail(&v, detail, sizeof detail);
    ck_assert_str_eq(detail, "");
}
END_TEST

START_TEST(allow_without_rules_denies_all) /* `spec: {}` */
{
    struct authz_policy p = {.action = PROG_ALLOW, .name = SL("nothing"), .namespace_ = SL("shop")};
    struct prog_inbound in = one_policy(&p);
    struct authz_request r = request(NULL);
    struct authz_verdict v;
    char detail[64];

    authz_decide(&in, &r, &v);
    ck_assert(!v.allowed && v.reason == AUTHZ_NO_RULE);
    authz_detail(&v, detail, sizeof detail);
    ck_assert_str_eq(detail, "rbac_access_denied_matched_policy[none]");
    p.action = PROG_DENY; /* and DENY without rules denies nobody */
    ck_assert(allowed(&in, &r));
}
END_TEST

START_TEST(empty_rule_is_everybody)
{
    struct authz_rule any = {0};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &any, .n_rules = 1};
    struct prog_inbound in = one_policy(&p);
    struct authz_request r = request(NULL);

    r.principal = SLICE_NULL;
    ck_assert(allowed(&in, &r));
    p.action = PROG_DENY;
    ck_assert(!allowed(&in, &r));
}
END_TEST

static const struct {
    const char *value, *peer;
    bool want;
} principals[] = {
    {"cluster.local/ns/shop/sa/web", WEB, true},
    {"cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/webx", false},
    {"cluster.local/ns/shop/sa/web", "spiffe://other.td/ns/shop/sa/web", false},
    {"cluster.local/ns/shop/sa/web", "spiffe://old.td/ns/shop/sa/web", true}, /* alias */
    {"old.td/ns/shop/sa/web", WEB, true},
    {"other.td/ns/shop/sa/web", WEB, false},
    {"spiffe://cluster.local/ns/shop/sa/web", WEB, true},
    {"*/ns/shop/sa/web", "spiffe://other.td/ns/shop/sa/web", true},
    {"*/ns/shop/sa/web", "spiffe://cluster.local/ns/xshop/sa/web", false},
    {"cluster.local/ns/shop/*", WEB, true},
    {"cluster.local/ns/shop/*", "spiffe://old.td/ns/shop/sa/x", true},
    {"cluster.local/ns/shop/*", "spiffe://cluster.local/ns/shop2/sa/web", false},
    {"cluster.lo*", "spiffe://old.td/ns/shop/sa/web", true},
    {"*", WEB, true},
    {"*", "", false}, /* plaintext */
    {"cluster.local/ns/shop/sa/web", "", false},
    {"cluster.local/ns/shop/sa/web", "not-a-spiffe-id", false},
};

START_TEST(principal)
{
    struct slice v = slice_str(principals[_i].value), alias = SL("old.td");
    struct prog_strings aliases = {&alias, 1};
    struct authz_source from = {.principals = {&v, 1}};
    struct authz_rule rule = {.from = &from, .n_from = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1};
    struct prog_inbound in = one_policy(&p);
    struct authz_request r = request(NULL);

    r.principal = *principals[_i].peer ? slice_str(principals[_i].peer) : SLICE_NULL;
    r.trust_domain_aliases = &aliases;
    ck_assert_msg(allowed(&in, &r) == principals[_i].want, "%s for %s", principals[_i].value,
                  principals[_i].peer);
    /* notPrincipals is the exact contrary, plaintext included. */
    from.not_principals = from.principals;
    from.principals = (struct prog_strings){0};
    ck_assert(allowed(&in, &r) == !principals[_i].want);
}
END_TEST

static const struct {
    const char *value, *policy_ns;
    bool want;
} accounts[] = {
    {"shop/web", "bank", true}, {"web", "shop", true}, {"web", "bank", false},
    {"shop/we", "shop", false}, {"shop2/web", "shop", false},
};

START_TEST(service_account)
{
    struct slice v = slice_str(accounts[_i].value);
    struct authz_source from = {.service_accounts = {&v, 1}};
    struct authz_rule rule = {.from = &from, .n_from = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1,
                             .namespace_ = slice_str(accounts[_i].policy_ns)};
    struct prog_inbound in = one_policy(&p);
    struct authz_request r = request(NULL);

    ck_assert_msg(allowed(&in, &r) == accounts[_i].want, "%s", accounts[_i].value);
    r.principal = SL("spiffe://other.td/ns/shop/sa/web"); /* accounts of this mesh only */
    ck_assert(!allowed(&in, &r));
}
END_TEST

START_TEST(addresses)
{
    struct cidr net[2];
    struct authz_source from = {.ip_blocks = &net[0], .n_ip_blocks = 1,
                                .not_ip_blocks = &net[1], .n_not_ip_blocks = 1};
    struct authz_rule rule = {.from = &from, .n_from = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1};
    struct prog_inbound in = one_policy(&p);
    struct authz_request r = request(NULL);

    cidr_parse(SL("10.0.0.0/8"), &net[0]);
    cidr_parse(SL("10.1.0.0/16"), &net[1]);
    ck_assert(allowed(&in, &r));
    ip_parse(SL("10.1.0.1"), &r.source);
    ck_assert(!allowed(&in, &r));
    ip_parse(SL("11.0.0.1"), &r.source);
    ck_assert(!allowed(&in, &r));
    r.source.len = 0; /* unknown: ALLOW is not met, DENY is */
    ck_assert(!allowed(&in, &r));
    p.action = PROG_DENY;
    ck_assert(!allowed(&in, &r));
}
END_TEST

static const struct {
    const char *value, *authority;
    bool want;
} hosts[] = {
    {"shop.example", "shop.example", true},      {"shop.example", "SHOP.Example", true},
    {"shop.example", "shop.example:8080", true}, {"shop.example:8080", "shop.example", false},
    {"shop.example:80", "shop.example:80", true}, {"*.example", "a.example:1", true},
    {"*.example", "example", false},             {"shop.*", "shop.example", true},
    {"shop.example", "shop.example.evil", false}, {"shop.example", "xshop.example", false},
    {"[::1]", "[::1]:80", true},                 {"*", "any", true},
};

START_TEST(host)
{
    struct slice v = slice_str(hosts[_i].value);
    struct authz_operation to = {.hosts = {&v, 1}};
    struct authz_rule rule = {.to = &to, .n_to = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1};
    struct prog_inbound in = one_policy(&p);
    struct match_request http = {.method = SL("GET"), .path = SL("/"),
                                 .authority = slice_str(hosts[_i].authority)};
    struct authz_request r = request(&http);

    ck_assert_msg(allowed(&in, &r) == hosts[_i].want, "%s for %s", hosts[_i].value,
                  hosts[_i].authority);
    to = (struct authz_operation){.not_hosts = {&v, 1}};
    ck_assert(allowed(&in, &r) == !hosts[_i].want);
}
END_TEST

START_TEST(operation)
{
    struct slice methods[] = {SL("GET")}, path_list[] = {SL("/api/*")}, ports[] = {SL("8080")};
    struct authz_operation to = {.methods = ONE(methods), .paths = ONE(path_list),
                                 .ports = ONE(ports)};
    struct authz_source from = {.principals = ONE(web_principal)};
    struct authz_rule rule = {.to = &to, .n_to = 1, .from = &from, .n_from = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1,
                             .namespace_ = SL("shop"), .name = SL("p")};
    struct prog_inbound in = one_policy(&p);
    struct match_request http = {.method = SL("GET"), .path = SL("/api/x?q"), .authority = SL("h")};
    struct authz_request r = request(&http);
    struct authz_verdict v;

    authz_decide(&in, &r, &v);
    ck_assert(v.allowed && v.reason == AUTHZ_RULE && v.policy == &p && v.rule == 0);
    http.method = SL("get");
    ck_assert(!allowed(&in, &r));
    http.method = SL("GET");
    http.path = SL("/apix?/api/x");
    ck_assert(!allowed(&in, &r));
    http.path = SL("/api/");
    ck_assert(allowed(&in, &r));
    r.port = 8081;
    ck_assert(!allowed(&in, &r));
}
END_TEST

START_TEST(opaque_connections) /* HTTP conditions never allow, and count as met in DENY */
{
    struct slice methods[] = {SL("GET")}, ports[] = {SL("8080")};
    struct authz_operation http_only = {.methods = ONE(methods)},
                           both = {.not_methods = ONE(methods), .ports = ONE(ports)};
    struct authz_rule rule = {.to = &http_only, .n_to = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1};
    struct prog_inbound in = one_policy(&p);
    struct authz_request r = request(NULL);

    ck_assert(!allowed(&in, &r));
    p.action = PROG_DENY;
    ck_assert(!allowed(&in, &r));
    rule.to = &both;
    ck_assert(!allowed(&in, &r));
    r.port = 9; /* the L4 part still counts */
    ck_assert(allowed(&in, &r));
    p.action = PROG_ALLOW;
    r.port = 8080;
    ck_assert(!allowed(&in, &r));
}
END_TEST

/* --- conditions ------------------------------------------------------------------------------- */
static const struct {
    const char *key, *value;
    bool not_value, allow, deny; /* does the policy let in: as ALLOW; as DENY */
} conditions[] = {
    {"source.ip", "10.0.0.0/24", false, true, false},
    {"source.ip", "10.0.1.0/24", false, false, true},
    {"source.ip", "10.0.0.1", true, false, true},
    {"source.namespace", "shop", false, true, false},
    {"source.namespace", "sho", false, false, true},
    {"source.namespace", "shop", true, false, true},
    {"source.principal", "cluster.local/ns/shop/sa/web", false, true, false},
    {"source.principal", "*/sa/we", false, false, true},
    {"destination.port", "8080", false, true, false},
    {"destination.port", "808", false, false, true},
    {"destination.ip", "10.0.0.2", false, true, false},
    {"connection.sni", "*.example", false, true, false},
    {"connection.sni", "b.example", false, false, true},
    {"request.headers[X-Role]", "admin", false, true, false},
    {"request.headers[x-role]", "adm*", false, true, false},
    {"request.headers[x-role]", "dmin", false, false, true},
    {"request.headers[x-none]", "*", false, false, true},
    {"request.headers[x-none]", "a", true, true, false},
    {"request.headers[]", "a", false, false, false},
    {"request.auth.claims[x]", "a", false, false, false}, /* not known: closed on both sides */
    {"no.such.key", "a", true, false, false},
};

START_TEST(condition)
{
    struct slice v = slice_str(conditions[_i].value);
    struct authz_condition when = {.key = slice_str(conditions[_i].key)};
    struct authz_rule rule = {.when = &when, .n_when = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1};
    struct prog_inbound in = one_policy(&p);
    struct match_field fields[] = {{SL("x-role"), SL("admin")}};
    struct match_request http = {.method = SL("GET"), .path = SL("/"), .fields = fields,
                                 .n_fields = 1};
    struct authz_request r = request(&http);

    r.sni = SL("a.example");
    *(conditions[_i].not_value ? &when.not_values : &when.values) = (struct prog_strings){&v, 1};
    ck_assert_msg(allowed(&in, &r) == conditions[_i].allow, "ALLOW %s %s", conditions[_i].key,
                  conditions[_i].value);
    p.action = PROG_DENY;
    ck_assert_msg(allowed(&in, &r) == conditions[_i].deny, "DENY %s %s", conditions[_i].key,
                  conditions[_i].value);
}
END_TEST

/* What an attacker can do by repeating a header or writing a list (CVE-2026-26308). */
static const struct {
    const char *lines[3];
    bool not_value, allow, deny;
} lists[] = {
    {{"admin"}, false, true, false},
    {{"admin", "admin"}, false, true, false},
    {{"admin", "guest"}, false, false, false}, /* ALLOW needs each line; DENY one */
    {{"guest", "admin"}, false, false, false},
    {{"guest,admin"}, false, false, false},
    {{"guest, admin"}, false, false, false},
    {{"guest", "mad"}, false, false, true},
    {{"admin", "guest"}, true, false, false}, /* notValues: the other way round */
    {{"guest,admin"}, true, false, false},
    {{"guest"}, true, true, false},
    {{"admin"}, true, false, true},
};

START_TEST(header_lists)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct slice v = SL("admin");
    struct authz_condition when = {.key = SL("request.headers[x-role]")};
    struct authz_rule rule = {.when = &when, .n_when = 1};
    struct authz_policy p = {.action = PROG_ALLOW, .rules = &rule, .n_rules = 1};
    struct prog_inbound in = one_policy(&p);
    struct match_field fields[3];
    struct match_request http = {.method = SL("GET"), .path = SL("/"), .fields = fields,
                                 .arena = &a};
    struct authz_request r = request(&http);

    for (int i = 0; i < 3 && lists[_i].lines[i]; i++)
        fields[http.n_fields++] = (struct match_field){SL("x-role"), slice_str(lists[_i].lines[i])};
    *(lists[_i].not_value ? &when.not_values : &when.values) = (struct prog_strings){&v, 1};
    ck_assert_msg(allowed(&in, &r) == lists[_i].allow, "ALLOW %s", lists[_i].lines[0]);
    p.action = PROG_DENY;
    ck_assert_msg(allowed(&in, &r) == lists[_i].deny, "DENY %s", lists[_i].lines[0]);
}
END_TEST

/* --- policies together ------------------------------------------------------------------------ */
START_TEST(deny_before_allow)
{
    struct authz_rule any = {0};
    struct authz_policy p[] = {
        {.action = PROG_ALLOW, .rules = &any, .n_rules = 1, .name = SL("a"), .namespace_ = SL("n")},
        {.action = PROG_DENY, .rules = &any, .n_rules = 1, .name = SL("d"), .namespace_ = SL("n")},
    };
    struct prog_inbound in = {.policies = p, .n_policies = 2};
    struct authz_request r = request(NULL);
    struct authz_verdict v;
    char detail[96];

    authz_decide(&in, &r, &v);
    ck_assert(!v.allowed && v.policy == &p[1]);
    authz_detail(&v, detail, sizeof detail);
    ck_assert_str_eq(detail, "rbac_access_denied_matched_policy[ns[n]-policy[d]-rule[0]]");
    p[1].action = PROG_CUSTOM; /* no provider to ask: it denies what it matches */
    ck_assert(!allowed(&in, &r));
    p[1].action = PROG_AUDIT; /* never refuses */
    authz_decide(&in, &r, &v);
    ck_assert(v.allowed && v.audit == &p[1]);
}
END_TEST

START_TEST(dry_run)
{
    struct authz_rule any = {0};
    struct authz_policy p[] = {
        {.action = PROG_DENY, .dry_run = true, .rules = &any, .n_rules = 1},
        {.action = PROG_ALLOW, .dry_run = true},
    };
    struct prog_inbound in = {.policies = p, .n_policies = 1};
    struct authz_request r = request(NULL);
    struct authz_verdict v;

    authz_decide(&in, &r, &v);
    ck_assert(v.allowed && v.dry_run.any && !v.dry_run.allowed && v.dry_run.policy == &p[0]);
    in = (struct prog_inbound){.policies = &p[1], .n_policies = 1};
    authz_decide(&in, &r, &v);
    ck_assert(v.allowed && v.reason == AUTHZ_NO_POLICY && v.dry_run.any && !v.dry_run.allowed);
}
END_TEST

START_TEST(closed)
{
    struct authz_rule any = {0};
    struct authz_policy p[] = {{.action = PROG_ALLOW, .rules = &any, .n_rules = 1},
                               {.action = PROG_ALLOW, .closed = SL("jwt")}};
    struct prog_inbound in = {.policies = p, .n_policies = 2};
    struct authz_request r = request(NULL);
    struct authz_verdict v;
    char detail[64];

    authz_decide(&in, &r, &v);
    ck_assert(!v.allowed && v.reason == AUTHZ_CLOSED && v.policy == &p[1]);
    authz_detail(&v, detail, sizeof detail);
    ck_assert_str_eq(detail, "tulle_closed[jwt]");
    p[1].dry_run = true;
    ck_assert(allowed(&in, &r));
    p[1].dry_run = false;
    p[1].action = PROG_AUDIT;
    ck_assert(allowed(&in, &r));
    in.closed = SL("no policy yet");
    ck_assert(!allowed(&in, &r));
}
END_TEST

TESTS(authz)
{
    tcase_add_loop_test(tc, value, 0, N_OF(values));
    tcase_add_loop_test(tc, path, 0, N_OF(paths));
    tcase_add_test(tc, nothing_applies);
    tcase_add_test(tc, allow_without_rules_denies_all);
    tcase_add_test(tc, empty_rule_is_everybody);
    tcase_add_loop_test(tc, principal, 0, N_OF(principals));
    tcase_add_loop_test(tc, service_account, 0, N_OF(accounts));
    tcase_add_test(tc, addresses);
    tcase_add_loop_test(tc, host, 0, N_OF(hosts));
    tcase_add_test(tc, operation);
    tcase_add_test(tc, opaque_connections);
    tcase_add_loop_test(tc, condition, 0, N_OF(conditions));
    tcase_add_loop_test(tc, header_lists, 0, N_OF(lists));
    tcase_add_test(tc, deny_before_allow);
    tcase_add_test(tc, dry_run);
    tcase_add_test(tc, closed);
}
