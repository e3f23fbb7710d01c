/* SPDX-License-Identifier: Apache-2.0 */
/* What the edge believes of a request, and what it says of it. */
#include "proxy/filter/edge.h"

#include "lib/base/arena.h"
#include "tests/unit/tcase.h"

static struct sock_addr address(const char *text)
{
    struct sock_addr a;

    ck_assert_int_eq(sock_addr_parse(slice_str(text), 0, &a), 0);
    return a;
}

static const struct {
    const char *xff[2]; /* lines */
    unsigned hops;
    const char *peer, *client;
    bool trusted;
} clients[] = {
    {{NULL}, 0, "1.2.3.4", "1.2.3.4", true},
    {{"9.9.9.9"}, 0, "1.2.3.4", "1.2.3.4", true},
    {{"9.9.9.9"}, 1, "1.2.3.4", "9.9.9.9", true},
    {{"6.6.6.6, 9.9.9.9"}, 1, "1.2.3.4", "9.9.9.9", true},
    {{"6.6.6.6, 9.9.9.9"}, 2, "1.2.3.4", "6.6.6.6", true},
    {{"6.6.6.6", "9.9.9.9"}, 2, "1.2.3.4", "6.6.6.6", true},
    {{"6.6.6.6,9.9.9.9"}, 3, "1.2.3.4", "1.2.3.4", false},
    {{"evil, 9.9.9.9"}, 2, "1.2.3.4", "1.2.3.4", false},
    {{"[fd00::1]"}, 1, "1.2.3.4", "fd00::1", true},
    {{" , ,9.9.9.9, "}, 1, "1.2.3.4", "9.9.9.9", true},
};

START_TEST(client)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct edge e = {.peer = address(clients[_i].peer), .hops = clients[_i].hops};
    struct sock_addr got;
    struct http_head h;
    char text[SOCK_TEXT_MAX];

    http_head_init(&h, &a);
    for (int i = 0; i < 2 && clients[_i].xff[i]; i++)
        http_head_add(&h, SL("x-forwarded-for"), slice_str(clients[_i].xff[i]));
    ck_assert_int_eq(edge_client(&h, &e, &got), clients[_i].trusted);
    ck_assert_str_eq(sock_addr_ip_text(&got, text), clients[_i].client);
}
END_TEST

static const struct {
    const char *in[3][2];
    const char *peer;
    bool tls;
    unsigned hops;
    const char *name, *want; /* want NULL: not there */
} heads[] = {
    {{{0}}, "1.2.3.4", false, 0, "x-forwarded-for", "1.2.3.4"},
    {{{"x-forwarded-for", "5.5.5.5"}}, "1.2.3.4", false, 0, "x-forwarded-for", "5.5.5.5,1.2.3.4"},
    {{{"x-forwarded-for", "5.5.5.5"}, {"x-forwarded-for", "6.6.6.6"}},
     "1.2.3.4",
     false,
     0,
     "x-forwarded-for",
     "5.5.5.5,6.6.6.6,1.2.3.4"},
    {{{0}}, "1.2.3.4", true, 0, "x-forwarded-proto", "https"},
    {{{"x-forwarded-proto", "https"}}, "1.2.3.4", false, 0, "x-forwarded-proto", "http"},
    {{{"x-forwarded-proto", "https"}}, "1.2.3.4", false, 1, "x-forwarded-proto", "https"},
    {{{0}}, "1.2.3.4", false, 0, "x-envoy-external-address", "1.2.3.4"},
    {{{0}}, "10.2.3.4", false, 0, "x-envoy-external-address", NULL},
    {{{"x-forwarded-for", "8.8.8.8"}}, "10.2.3.4", false, 1, "x-envoy-external-address", "8.8.8.8"},
    {{{"x-envoy-external-address", "7.7.7.7"}},
     "10.2.3.4",
     false,
     0,
     "x-envoy-external-address",
     NULL},
    {{{"x-envoy-retry-on", "5xx"}}, "1.2.3.4", false, 0, "x-envoy-retry-on", NULL},
    {{{"x-forwarded-client-cert", "a"}}, "1.2.3.4", false, 0, "x-forwarded-client-cert", NULL},
    {{{"x_forwarded-client_cert", "a"}}, "1.2.3.4", false, 0, "x_forwarded-client_cert", NULL},
    {{{"x-forwarded-client-certs", "a"}}, "1.2.3.4", false, 0, "x-forwarded-client-certs", "a"},
};

START_TEST(fields)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct edge e = {.peer = address(heads[_i].peer), .tls = heads[_i].tls, .hops = heads[_i].hops};
    struct http_head h;
    struct slice got;

    http_head_init(&h, &a);
    for (int i = 0; i < 3 && heads[_i].in[i][0]; i++)
        http_head_add(&h, slice_str(heads[_i].in[i][0]), slice_str(heads[_i].in[i][1]));
    ck_assert_int_eq(edge_headers(&h, &e), ERR_OK);
    got = http_head_get(&h, slice_str(heads[_i].name));
    ck_assert_msg(heads[_i].want ? slice_is(got, heads[_i].want) : !got.p, "%s: %.*s",
                  heads[_i].name, SL_FMT(got));
}
END_TEST

START_TEST(hops)
{
    ck_assert_uint_eq(edge_hops(NULL), 0);
    ck_assert_uint_eq(edge_hops("{}"), 0);
    ck_assert_uint_eq(edge_hops("no json"), 0);
    ck_assert_uint_eq(edge_hops("{\"gatewayTopology\":{\"numTrustedProxies\":2}}"), 2);
    ck_assert_uint_eq(edge_hops("{\"gatewayTopology\":{\"numTrustedProxies\":-1}}"), 0);
}
END_TEST

TESTS(edge)
{
    tcase_add_loop_test(tc, client, 0, (int)N_OF(clients));
    tcase_add_loop_test(tc, fields, 0, (int)N_OF(heads));
    tcase_add_test(tc, hops);
}
