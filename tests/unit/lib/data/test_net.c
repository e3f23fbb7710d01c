/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of the net: addresses, ranges, hosts, paths, URLs, SPIFFE ids. */
#include <stdio.h>

#include "lib/data/cidr.h"
#include "lib/data/host.h"
#include "lib/data/spiffe.h"
#include "lib/data/url.h"
#include "lib/data/urlpath.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *in, *want; /* NULL: refused */
} ips[] = {
    {"10.0.0.1", "10.0.0.1"},
    {"2001:DB8::1", "2001:db8::1"},
    {"::ffff:10.0.0.1", "10.0.0.1"},
    {"::", "::"},
    {"10.0.0.256", NULL},
    {"10.0.0", NULL},
    {"010.0.0.1", NULL},
    {"", NULL},
    {"1.2.3.4 ", NULL},
    {"fe80::1%eth0", NULL},
    {"[::1]", NULL},
    {"1::2::3", NULL},
};

START_TEST(addresses)
{
    struct ipaddr ip, back;
    char text[IP_TEXT];

    ck_assert_int_eq(ip_parse(slice_str(ips[_i].in), &ip), ips[_i].want != NULL);
    if (!ips[_i].want)
        return;
    ck_assert_str_eq(ip_format(&ip, text), ips[_i].want);
    ck_assert(ip_from_bytes(slice_of(ip.b, ip.len), &back) && ip_eq(&ip, &back));
}
END_TEST

START_TEST(address_kinds)
{
    static const struct {
        const char *text;
        bool loopback, link, none;
    } kinds[] = {
        {"127.8.8.8", true, false, false},
        {"::1", true, false, false},
        {"::ffff:127.0.0.1", true, false, false},
        {"169.254.169.254", false, true, false},
        {"fe80::1", false, true, false},
        {"febf::", false, true, false},
        {"fec0::1", false, false, false},
        {"0.0.0.0", false, false, true},
        {"::", false, false, true},
        {"10.0.0.1", false, false, false},
    };

    for (size_t i = 0; i < N_OF(kinds); i++) {
        struct ipaddr ip;

        ck_assert(ip_parse(slice_str(kinds[i].text), &ip));
        ck_assert_msg(ip_is_loopback(&ip) == kinds[i].loopback, "%s", kinds[i].text);
        ck_assert_msg(ip_is_link_local(&ip) == kinds[i].link, "%s", kinds[i].text);
        ck_assert_msg(ip_is_unspecified(&ip) == kinds[i].none, "%s", kinds[i].text);
    }
}
END_TEST

static const struct {
    const char *range, *want, *in, *out;
} cidrs[] = {
    {"10.0.0.0/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.0"},
    {"10.1.2.3/8", "10.0.0.0/8", "10.0.0.0", "9.255.255.255"},
    {"10.1.2.3", "10.1.2.3/32", "10.1.2.3", "10.1.2.2"},
    {"10.1.2.129/25", "10.1.2.128/25", "10.1.2.200", "10.1.2.127"},
    {"0.0.0.0/0", "0.0.0.0/0", "255.1.1.1", "::1"},
    {"fd00::/8", "fd00::/8", "fdff::1", "fe00::1"},
    {"2001:db8:8000::/33", "2001:db8:8000::/33", "2001:db8:ffff::", "2001:db8:7fff::"},
    {"::/0", "::/0", "::1", "1.2.3.4"},
    {"::ffff:10.0.0.0/104", "10.0.0.0/8", "10.9.9.9", "11.0.0.0"},
    {"10.0.0.0/33", NULL, NULL, NULL},
    {"10.0.0.0/", NULL, NULL, NULL},
    {"10.0.0.0/08", NULL, NULL, NULL},
    {"10.0.0.0/-1", NULL, NULL, NULL},
    {"::1/129", NULL, NULL, NULL},
    {"::ffff:10.0.0.0/8", NULL, NULL, NULL},
    {"/8", NULL, NULL, NULL},
};

START_TEST(ranges)
{
    struct cidr c;
    struct ipaddr in, out;
    char text[CIDR_TEXT];

    ck_assert_int_eq(cidr_parse(slice_str(cidrs[_i].range), &c), cidrs[_i].want != NULL);
    if (!cidrs[_i].want)
        return;
    ck_assert_str_eq(cidr_format(&c, text), cidrs[_i].want);
    ck_assert(ip_parse(slice_str(cidrs[_i].in), &in) && ip_parse(slice_str(cidrs[_i].out), &out));
    ck_assert(cidr_contains(&c, &in));
    ck_assert(!cidr_contains(&c, &out));
    ck_assert(cidr_covers(&c, &c));
}
END_TEST

static const struct {
    const char *list, *yes, *no, *error;
} lists[] = {
    {"10.0.0.0/8, !10.1.0.0/16", "10.2.0.1", "10.1.0.1", NULL},
    {"*", "fd00::1", NULL, NULL},
    {"*,!10.0.0.0/8", "11.0.0.1", "10.0.0.1", NULL},
    {"!10.0.0.0/8", "11.0.0.1", "10.0.0.1", NULL},
    {"!*", NULL, "10.0.0.1", NULL},
    {"  ", NULL, "10.0.0.1", NULL},
    {"10.0.0.0/8,,1.1.1.1", NULL, NULL, "\"\" is no address range"},
    {"10.0.0.0/8,x", NULL, NULL, "\"x\" is no address range"},
};

START_TEST(range_lists)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct cidr_list l;
    struct err err = {0};
    struct ipaddr ip;
    int rc = cidr_list_parse(&a, slice_str(lists[_i].list), &l, &err);

    ck_assert_int_eq(rc, lists[_i].error ? -1 : 0);
    if (lists[_i].error) {
        ck_assert_str_eq(err.msg, lists[_i].error);
        return;
    }
    if (lists[_i].yes)
        ck_assert(ip_parse(slice_str(lists[_i].yes), &ip) && cidr_list_contains(&l, &ip));
    if (lists[_i].no)
        ck_assert(ip_parse(slice_str(lists[_i].no), &ip) && !cidr_list_contains(&l, &ip));
}
END_TEST

static const struct {
    const char *in, *want;
} hosts[] = {
    {"Reviews.Default.SVC", "reviews.default.svc"},
    {"a.b.", "a.b"},
    {"a.b..", NULL},
    {".", NULL},
    {"", NULL},
    {"a..b", NULL},
    {"-a.b", NULL},
    {"a-.b", NULL},
    {"a_b.c", "a_b.c"},
    {"a b", NULL},
    {"a/b", NULL},
    {"a\x01", NULL},
    {"\xc3\xa9.com", NULL},
    {"xn--bcher-kva.example", "xn--bcher-kva.example"},
    {"10.0.0.1", "10.0.0.1"},
    {"[2001:DB8:0::1]", "[2001:db8::1]"},
    {"[::ffff:1.2.3.4]", "1.2.3.4"},
    {"[::1", NULL},
    {"[]", NULL},
    {"[1.2.3.4]", NULL},
    {"*.a", NULL},
};

START_TEST(host_normal_form)
{
    char text[256];
    struct slice got = SLICE_NULL;
    enum err_code rc = host_normalise(slice_str(hosts[_i].in), text, sizeof text, &got);

    ck_assert_int_eq(rc, hosts[_i].want ? ERR_OK : ERR_INVALID);
    if (hosts[_i].want)
        ck_assert_str_eq(text, hosts[_i].want);
}
END_TEST

START_TEST(host_too_long)
{
    char in[300], out[300];
    struct slice got;

    memset(in, 'a', sizeof in);
    for (int i = 50; i < 300; i += 50)
        in[i] = '.';
    ck_assert_int_eq(host_normalise(slice_of(in, 253), out, sizeof out, &got), ERR_OK);
    ck_assert_int_eq(host_normalise(slice_of(in, 254), out, sizeof out, &got), ERR_LIMIT);
    ck_assert_int_eq(host_normalise(slice_of(in, 20), out, 20, &got), ERR_LIMIT);
    memset(in, 'a', 64);
    ck_assert(host_valid(slice_of(in, 63)) && !host_valid(slice_of(in, 64)));
    ck_assert(label_valid(SL("a-b")) && !label_valid(SL("a.b")) && !label_valid(SL("A")));
    ck_assert(!label_valid(SL("")) && !label_valid(slice_of(in, 64)) && !label_valid(SL("-a")));
}
END_TEST

static const struct {
    const char *pattern, *host;
    bool matches, valid;
} patterns[] = {
    {"*", "a.b", true, true},       {"*.b", "a.b", true, true},    {"*.b", "x.a.b", true, true},
    {"*.b", "b", false, true},      {"*.b", "a.xb", false, true},  {"*-x.b", "a-x.b", true, true},
    {"*-x.b", "-x.b", false, true}, {"a.b", "a.b", true, true},    {"a.b", "a.B", false, true},
    {"*.b", "*.a.b", true, true},   {"*.a.b", "*.b", false, true}, {"*", "*.b", true, true},
    {"*.b", "*", false, true},      {"**.b", "a.b", false, false}, {"a.*.b", "a.x.b", false, false},
    {"*.", "a.", true, false},      {"*..b", "a..b", true, false},
};

START_TEST(host_patterns)
{
    struct slice p = slice_str(patterns[_i].pattern), h = slice_str(patterns[_i].host);

    ck_assert_int_eq(host_pattern_valid(p), patterns[_i].valid);
    ck_assert_int_eq(host_matches(p, h), patterns[_i].matches);
}
END_TEST

START_TEST(host_order)
{
    static const char *const order[] = {"long.name.com", "a.com", "b.com", "*.name.com",
                                        "*.com",         "*.net", "*"};

    for (size_t i = 0; i < N_OF(order); i++)
        for (size_t k = 0; k < N_OF(order); k++) {
            int c = host_cmp(slice_str(order[i]), slice_str(order[k]));

            ck_assert_msg((c > 0) - (c < 0) == (i > k) - (i < k), "%s %s", order[i], order[k]);
        }
    ck_assert(host_overlaps(SL("*.a.com"), SL("*.com")) && !host_overlaps(SL("*.a"), SL("*.b")));
}
END_TEST

static const struct {
    const char *in, *host; /* NULL: refused */
    int port;
} authorities[] = {
    {"a.b", "a.b", 0},
    {"a.b:80", "a.b", 80},
    {"[::1]:8080", "::1", 8080},
    {"[::1]", "::1", 0},
    {"1.2.3.4:1", "1.2.3.4", 1},
    {"a:0", NULL, 0},
    {"a:65536", NULL, 0},
    {"a:", NULL, 0},
    {":80", NULL, 0},
    {"", NULL, 0},
    {"u@a", NULL, 0},
    {"u:p@a:80", NULL, 0},
    {"::1", NULL, 0},
    {"[::1]80", NULL, 0},
    {"[::1]:", NULL, 0},
    {"[a]:80", NULL, 0},
    {"a:8 0", NULL, 0},
    {"a:000080", NULL, 0},
    {"[::1", NULL, 0},
    {"a:+80", NULL, 0},
    {"[]:80", NULL, 0},
};

START_TEST(authority)
{
    struct slice host = SLICE_NULL;
    uint16_t port = 0;
    enum err_code rc = authority_split(slice_str(authorities[_i].in), &host, &port);

    ck_assert_int_eq(rc, authorities[_i].host ? ERR_OK : ERR_INVALID);
    if (!authorities[_i].host)
        return;
    ck_assert(slice_is(host, authorities[_i].host));
    ck_assert_int_eq(port, authorities[_i].port);
}
END_TEST

/* In each mode; NULL: refused; "=": unchanged. */
static const struct {
    const char *in, *base, *merge, *decode;
} paths[] = {
    {"/", "=", "=", "="},
    {"/a/./b/../c", "/a/c", "/a/c", "/a/c"},
    {"/a/b/..", "/a/", "/a/", "/a/"},
    {"/a/b/.", "/a/b/", "/a/b/", "/a/b/"},
    {"/..", NULL, NULL, NULL},
    {"/../a", NULL, NULL, NULL},
    {"/a/../../b", NULL, NULL, NULL},
    {"/a/%2e%2E/b", "/b", "/b", "/b"},
    {"/a/.%2e/b", "/b", "/b", "/b"},
    {"/%2e", "/", "/", "/"},
    {"/...", "=", "=", "="},
    {"/.a/..b/c..", "=", "=", "="},
    {"/a%2Fb", "=", "=", "/a/b"},
    {"/a%2fb", "=", "=", "/a/b"},
    {"/a%5cb", "=", "=", "/a/b"},
    {"/a%2f..%2fb", "=", "=", "/b"},
    {"/a%2f../b", "=", "=", "/b"},
    {"/a\\b", "/a/b", "/a/b", "/a/b"},
    {"/a\\..\\b", "/b", "/b", "/b"},
    {"//a///b//", "=", "/a/b/", "/a/b/"},
    {"//", "=", "/", "/"},
    {"/a//../b", "/a/b", "/a/b", "/a/b"},
    {"/%61%2d%7E%5f", "/a-~_", "/a-~_", "/a-~_"},
    {"/%25%3b%20", "=", "=", "="},
    {"/%252e%252e/a", "=", "=", "="},
    {"/a;b=c/d", "=", "=", "="},
    {"/a/..;/b", NULL, NULL, NULL},
    {"/a/..;x=1", NULL, NULL, NULL},
    {"/a/.;x/b", NULL, NULL, NULL},
    {"/a/%2e%2e;/b", NULL, NULL, NULL},
    {"/a/...;/b", "=", "=", "="},
    {"/%", NULL, NULL, NULL},
    {"/%2", NULL, NULL, NULL},
    {"/%zz", NULL, NULL, NULL},
    {"/%00", NULL, NULL, NULL},
    {"/a%0d%0ab", NULL, NULL, NULL},
    {"/%7f", NULL, NULL, NULL},
    {"/a b", NULL, NULL, NULL},
    {"/a\tb", NULL, NULL, NULL},
    {"/a?b", NULL, NULL, NULL},
    {"/a#b", NULL, NULL, NULL},
    {"a", NULL, NULL, NULL},
    {"", NULL, NULL, NULL},
    {"/\xc3\xa9", "/%C3%A9", "/%C3%A9", "/%C3%A9"},
};

START_TEST(path_normal_form) /* RFC 3986 6.2.2 */
{
    const char *want[] = {paths[_i].base, paths[_i].merge, paths[_i].decode};
    const char *in = paths[_i].in;

    for (int how = PATH_BASE; how <= PATH_DECODE_AND_MERGE_SLASHES; how++) {
        const char *w = want[how - PATH_BASE];
        char out[128], again[128];
        struct slice got, twice;
        enum err_code rc =
            path_normalise(slice_str(in), (enum path_norm)how, out, sizeof out, &got);

        ck_assert_msg(rc == (w ? ERR_OK : ERR_INVALID), "%s in mode %d", in, how);
        if (!w)
            continue;
        w = w[0] == '=' ? in : w;
        ck_assert_msg(slice_is(got, w), "%s in mode %d: %.*s", in, how, SL_FMT(got));
        ck_assert_int_eq(path_normalise(got, (enum path_norm)how, again, sizeof again, &twice),
                         ERR_OK);
        ck_assert(slice_eq(got, twice));
    }
}
END_TEST

START_TEST(path_other)
{
    char out[8];
    struct slice got, path, query;

    ck_assert_int_eq(path_normalise(SL("/a/../b//%41"), PATH_NONE, out, 8, &got), ERR_LIMIT);
    ck_assert_int_eq(path_normalise(SL("/a/..\\"), PATH_NONE, out, 8, &got), ERR_OK);
    ck_assert(slice_is(got, "/a/..\\"));
    ck_assert_int_eq(path_normalise(SL("/%zz"), PATH_NONE, out, 8, &got), ERR_INVALID);
    ck_assert_int_eq(path_normalise(SL("/abcdefg"), PATH_BASE, out, 8, &got), ERR_OK);
    ck_assert_int_eq(path_normalise(SL("/abcdefgh"), PATH_BASE, out, 8, &got), ERR_LIMIT);
    ck_assert_int_eq(path_normalise(SL("/"), PATH_BASE, out, 0, &got), ERR_LIMIT);
    ck_assert_int_eq(target_split(SL("/a?b?c"), &path, &query), ERR_OK);
    ck_assert(slice_is(path, "/a") && slice_is(query, "b?c"));
    ck_assert_int_eq(target_split(SL("/a"), &path, &query), ERR_OK);
    ck_assert(slice_is(path, "/a") && query.p == NULL);
    ck_assert_int_eq(target_split(SL("/a?"), &path, &query), ERR_OK);
    ck_assert(query.p != NULL && query.len == 0);
    ck_assert_int_eq(target_split(SL("/a#b"), &path, &query), ERR_INVALID);
    ck_assert_int_eq(target_split(SL("/a?b#c"), &path, &query), ERR_INVALID);
    ck_assert_int_eq(target_split(SL("http://a/"), &path, &query), ERR_INVALID);
}
END_TEST

static const struct {
    const char *in, *host;
    int port;
    const char *path;
} urls[] = {
    {"https://a.b/c?d=e", "a.b", 443, "/c?d=e"},
    {"http://[::1]:8080", "::1", 8080, "/"},
    {"HTTP://a", "a", 80, "/"},
    {"grpc://otel:4317", "otel", 4317, "/"},
    {"a.b/c", NULL, 0, NULL},
    {"://a", NULL, 0, NULL},
    {"1http://a", NULL, 0, NULL},
    {"https://u:p@a/", NULL, 0, NULL},
    {"https:///x", NULL, 0, NULL},
    {"https://a/#f", NULL, 0, NULL},
    {"https://a/b c", NULL, 0, NULL},
    {"https://a?b", NULL, 0, NULL},
    {"", NULL, 0, NULL},
};

START_TEST(url)
{
    struct url u = {0};
    struct err err = {0};

    ck_assert_int_eq(url_parse(slice_str(urls[_i].in), &u, &err), urls[_i].host ? 0 : -1);
    if (!urls[_i].host)
        return;
    ck_assert(slice_is(u.host, urls[_i].host) && slice_is(u.path, urls[_i].path));
    ck_assert_int_eq(u.port, urls[_i].port);
}
END_TEST

static const struct {
    const char *in;
    bool ok;
    const char *td, *ns, *sa;
} ids[] = {
    {"spiffe://cluster.local/ns/shop/sa/cart", true, "cluster.local", "shop", "cart"},
    {"spiffe://td", true, "td", NULL, NULL},
    {"spiffe://td/a/b", true, "td", NULL, NULL},
    {"spiffe://td/ns/a/sa/b/c", true, "td", NULL, NULL},
    {"spiffe://td/ns/a/SA/b", true, "td", NULL, NULL},
    {"SPIFFE://td/ns/a/sa/b", false, NULL, NULL, NULL},
    {"spiffe://TD/ns/a/sa/b", false, NULL, NULL, NULL},
    {"spiffe:///ns/a/sa/b", false, NULL, NULL, NULL},
    {"spiffe://td/", false, NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b/", false, NULL, NULL, NULL},
    {"spiffe://td/ns//sa/b", false, NULL, NULL, NULL},
    {"spiffe://td/ns/../sa/b", false, NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/.", false, NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b%2f", false, NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b?x", false, NULL, NULL, NULL},
    {"spiffe://td:80/ns/a/sa/b", false, NULL, NULL, NULL},
    {"spiffe://u@td/ns/a/sa/b", false, NULL, NULL, NULL},
    {"https://td/ns/a/sa/b", false, NULL, NULL, NULL},
    {"", false, NULL, NULL, NULL},
};

START_TEST(spiffe)
{
    struct spiffe_id id;
    CLEANUP(buf_freep) struct buf b;

    buf_init(&b, 100);
    ck_assert_int_eq(spiffe_parse(slice_str(ids[_i].in), &id), ids[_i].ok ? ERR_OK : ERR_INVALID);
    if (!ids[_i].ok)
        return;
    ck_assert(slice_is(id.trust_domain, ids[_i].td));
    ck_assert_int_eq(id.ns.p != NULL, ids[_i].ns != NULL);
    if (!ids[_i].ns)
        return;
    ck_assert(slice_is(id.ns, ids[_i].ns) && slice_is(id.sa, ids[_i].sa));
    spiffe_add(&b, id.trust_domain, id.ns, id.sa);
    ck_assert_str_eq(buf_cstr(&b), ids[_i].in);
}
END_TEST

START_TEST(spiffe_length)
{
    static char text[3000] = "spiffe://td/";
    struct spiffe_id id;

    memset(text + 12, 'a', sizeof text - 12);
    ck_assert_int_eq(spiffe_parse(slice_of(text, 2048), &id), ERR_OK);
    ck_assert_int_eq(spiffe_parse(slice_of(text, 2049), &id), ERR_INVALID);
    memset(text + 9, 'a', 300);
    ck_assert_int_eq(spiffe_parse(slice_of(text, 9 + 255), &id), ERR_OK);
    ck_assert_int_eq(spiffe_parse(slice_of(text, 9 + 256), &id), ERR_INVALID);
}
END_TEST

TESTS(net)
{
    tcase_add_loop_test(tc, addresses, 0, (int)N_OF(ips));
    tcase_add_test(tc, address_kinds);
    tcase_add_loop_test(tc, ranges, 0, (int)N_OF(cidrs));
    tcase_add_loop_test(tc, range_lists, 0, (int)N_OF(lists));
    tcase_add_loop_test(tc, host_normal_form, 0, (int)N_OF(hosts));
    tcase_add_test(tc, host_too_long);
    tcase_add_loop_test(tc, host_patterns, 0, (int)N_OF(patterns));
    tcase_add_test(tc, host_order);
    tcase_add_loop_test(tc, authority, 0, (int)N_OF(authorities));
    tcase_add_loop_test(tc, path_normal_form, 0, (int)N_OF(paths));
    tcase_add_test(tc, path_other);
    tcase_add_loop_test(tc, url, 0, (int)N_OF(urls));
    tcase_add_loop_test(tc, spiffe, 0, (int)N_OF(ids));
    tcase_add_test(tc, spiffe_length);
}
