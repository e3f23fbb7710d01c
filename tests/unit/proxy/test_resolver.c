/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups against a name server on loopback: what is an answer, what is none, what is no word at
 * all. */
#include "proxy/resolver.h"

#include "lib/base/mem.h"
#include "tests/unit/tcase.h"

#include "tests/unit/proxy/fake_dns.h"

static struct clock test_clock;
static struct loop *loop;
static struct resolver *resolver;
static struct resolver_answer got;
static char why[128];
static int n_got;

static void setup(void)
{
    struct err err = {0};
    fake_start();
    clock_init_virtual(&test_clock, 0); /* time-outs are the real clock's all the same */
    ck_assert_int_eq(loop_new(&test_clock, &loop, &err), 0);
    struct resolver_opts opts = {
        .resolv_conf = fake.conf, .timeout_ms = 100, .tries = 1, .port = fake.port};
    ck_assert_msg(resolver_new(loop, &opts, &resolver, &err) == 0, "%s", err.msg);
    n_got = 0;
}

static void teardown(void)
{
    struct err err = {0};
    resolver_free(resolver);
    loop_turn(loop, 0, &err);
    loop_free(loop);
    fake_end();
}

static void on_answer(void *user, const struct resolver_answer *a)
{
    ck_assert_ptr_eq(user, &got);
    got = *a;
    snprintf(why, sizeof why, "%s", a->why ? a->why : "");
    n_got++;
}

static void turns(int want)
{
    struct err err = {0};
    for (int i = 0; i < 3000 && n_got < want; i++) {
        loop_turn(loop, 0, &err);
        usleep(1000);
    }
    ck_assert_int_eq(n_got, want);
}

static const struct {
    const char *host;
    enum resolver_result result;
    unsigned n, ttl_s;
    const char *first; /* address */
    bool tcp;
} cases[] = {
    {"v4.example", RESOLVER_ADDRESSES, 2, 30, "127.0.0.4", false},
    {"both.example", RESOLVER_ADDRESSES, 3, 20, "127.0.0.4", false},
    {"alias.example", RESOLVER_ADDRESSES, 2, 7, "127.0.0.1",
     false}, /* both families; the alias' time */
    {"cut.example", RESOLVER_ADDRESSES, 2, 30, "127.0.0.4", true},
    {"many.example", RESOLVER_ADDRESSES, RESOLVER_ADDRS_MAX, 30, "127.0.0.102", true},
    {"nx.example", RESOLVER_NONE, 0, 0, NULL, false},
    {"none.example", RESOLVER_NONE, 0, 0, NULL, false},
    {"servfail.example", RESOLVER_FAILED, 0, 0, NULL, false},
    {"half.example", RESOLVER_ADDRESSES, 2, 30, "127.0.0.4", false}, /* one family is enough */
    {"halfnone.example", RESOLVER_FAILED, 0, 0, NULL, false}, /* that there is none both must say */
    {"silent.example", RESOLVER_FAILED, 0, 0, NULL, false},
    {"garbage.example", RESOLVER_FAILED, 0, 0, NULL, false},
    {"192.0.2.7", RESOLVER_ADDRESSES, 1, 0, "192.0.2.7", false},
};

START_TEST(answers)
{
    char text[SOCK_TEXT_MAX];
    resolver_ask(resolver, cases[_i].host, on_answer, &got);
    turns(1);
    ck_assert_msg(got.result == cases[_i].result, "%s: %d %s", cases[_i].host, got.result, why);
    ck_assert_uint_eq(got.n, cases[_i].n);
    if (got.n) {
        ck_assert_uint_eq(got.ttl_s, cases[_i].ttl_s);
        ck_assert_str_eq(sock_addr_ip_text(&got.addrs[0], text), cases[_i].first);
    } else {
        ck_assert_str_ne(why, "");
    }
    ck_assert_msg((fake.by_tcp > 0) == cases[_i].tcp, "%s", cases[_i].host);
}
END_TEST

/* Many at once, some of which nobody waits for; and some that are under way at the end. */
START_TEST(several)
{
    struct lookup *l[20];
    for (int i = 0; i < 20; i++)
        l[i] = resolver_ask(resolver, i % 2 ? "both.example" : "silent.example", on_answer, &got);
    for (int i = 0; i < 10; i++)
        resolver_forget(l[i]);
    turns(10);
    resolver_ask(resolver, "v4.example", on_answer, &got);
    turns(11);
    resolver_ask(resolver, "silent.example", on_answer, &got);
}
END_TEST

/* Nobody listens where the servers should be. */
START_TEST(no_server)
{
    struct err err = {0};
    struct resolver *other;
    struct resolver_opts opts = {
        .resolv_conf = fake.conf, .timeout_ms = 100, .tries = 1, .port = 1};
    ck_assert_int_eq(resolver_new(loop, &opts, &other, &err), 0);
    resolver_ask(other, "v4.example", on_answer, &got);
    turns(1);
    ck_assert_int_eq(got.result, RESOLVER_FAILED);
    resolver_free(other);
}
END_TEST

TESTS(resolver)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, answers, 0, N_OF(cases));
    tcase_add_test(tc, several);
    tcase_add_test(tc, no_server);
}
