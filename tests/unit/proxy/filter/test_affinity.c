/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/hash.h"
#include "proxy/filter/affinity.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *name, *cookies[2], *want;
} cookies[] = {
    {"alone", {"id=abc"}, "abc"},
    {"among others", {"a=1; id=abc; b=2"}, "abc"},
    {"quoted", {"id=\"a b\""}, "a b"},
    {"in the second field", {"a=1", "id=x"}, "x"},
    {"a longer name", {"myid=1; id2=2"}, NULL},
    {"empty", {"id="}, NULL},
    {"white space", {" id = v "}, "v"},
    {"none", {NULL}, NULL},
};

START_TEST(cookie)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct http_head h;

    http_head_init(&h, &a);
    for (int i = 0; i < 2 && cookies[_i].cookies[i]; i++)
        http_head_add(&h, SL("cookie"), slice_str(cookies[_i].cookies[i]));
    struct slice got = affinity_cookie(&h, SL("id"));
    if (cookies[_i].want)
        ck_assert_msg(slice_is(got, cookies[_i].want), "%s", cookies[_i].name);
    else
        ck_assert_msg(!got.p, "%s", cookies[_i].name);
}
END_TEST

static const struct {
    const char *target, *want;
} parameters[] = {
    {"/a?id=1", "1"},
    {"/a?x=2&id=a%20b&y", "a%20b"},
    {"/a?id=1&id=2", "1"},
    {"/a?idx=1", NULL},
    {"/a?id", ""},
    {"/a?id=", ""},
    {"/a", NULL},
    {"/id=1", NULL},
    {"/a?b=?id=1&id=3", "3"},
};

START_TEST(parameter)
{
    struct slice got = affinity_parameter(slice_str(parameters[_i].target), SL("id"));

    if (parameters[_i].want)
        ck_assert_msg(got.p && slice_is(got, parameters[_i].want), "%s", parameters[_i].target);
    else
        ck_assert_msg(!got.p, "%s", parameters[_i].target);
}
END_TEST

START_TEST(keys)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct prog_field attributes[] = {{SL("SameSite"), SL("Lax")}, {SL("Secure"), SLICE_NULL}};
    struct prog_hash h = {.key = PROG_HASH_HEADER, .name = SL("x-user")};
    struct sock_addr peer, other;
    struct slice set;
    struct http_head req;
    uint64_t one, two;

    ck_assert_int_eq(sock_addr_parse(SL("10.1.2.3"), 1000, &peer), 0);
    ck_assert_int_eq(sock_addr_parse(SL("10.1.2.3"), 2000, &other), 0);
    http_head_init(&req, &a);
    req.path = SL("/?q=7");
    ck_assert(!affinity_of_request(NULL, &req, &peer, &one, &set));
    ck_assert(!affinity_of_request(&h, &req, &peer, &one, &set));
    http_head_add(&req, SL("x-user"), SL("a"));
    http_head_add(&req, SL("x-user"), SL("b"));
    ck_assert(affinity_of_request(&h, &req, &peer, &one, &set));
    ck_assert_uint_eq(one, hash64(SL("b"), 0) + hash64(SL("a"), 0)); /* in any order */
    h.key = PROG_HASH_SOURCE_IP;                                     /* without the port */
    ck_assert(affinity_of_request(&h, &req, &peer, &one, &set));
    ck_assert(affinity_of_peer(&h, &other, &two));
    ck_assert_uint_eq(one, two);
    h.key = PROG_HASH_QUERY;
    h.name = SL("q");
    ck_assert(affinity_of_request(&h, &req, &peer, &one, &set));
    ck_assert_uint_eq(one, hash64(SL("7"), 0));
    ck_assert(!affinity_of_peer(&h, &peer, &two));
    /* A cookie is made where the policy says so, the same for all requests of a connection. */
    h = (struct prog_hash){.key = PROG_HASH_COOKIE, .name = SL("id")};
    ck_assert(!affinity_of_request(&h, &req, &peer, &one, &set));
    h.cookie_made = true;
    h.cookie_ttl_s = 60;
    h.cookie_path = SL("/shop");
    h.cookie_attributes = attributes;
    h.n_cookie_attributes = 2;
    ck_assert(affinity_of_request(&h, &req, &peer, &one, &set));
    ck_assert_msg(
        slice_starts(set, SL("id=\"")) &&
            slice_ends(set, SL("\"; Max-Age=60; Path=/shop; SameSite=Lax; Secure; HttpOnly")),
        "%.*s", SL_FMT(set));
    struct slice value = slice_of(set.p + 4, 16);
    ck_assert(affinity_of_request(&h, &req, &peer, &two, &set));
    ck_assert_uint_eq(one, two);
    http_head_add(&req, SL("cookie"),
                  arena_slice(&a, slice_str(arena_printf(&a, "id=%.*s", SL_FMT(value)))));
    ck_assert(affinity_of_request(&h, &req, &other, &two, &set)); /* and holds elsewhere */
    ck_assert_uint_eq(one, two);
    ck_assert(!set.p);
    h.cookie_path = SL("/\r\nx: y"); /* nothing of ours splits an answer */
    h.name = SL("other");
    ck_assert(affinity_of_request(&h, &req, &peer, &two, &set));
    ck_assert(!set.p);
}
END_TEST

TESTS(affinity)
{
    tcase_add_loop_test(tc, cookie, 0, N_OF(cookies));
    tcase_add_loop_test(tc, parameter, 0, N_OF(parameters));
    tcase_add_test(tc, keys);
}
