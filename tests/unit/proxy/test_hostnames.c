/* SPDX-License-Identifier: Apache-2.0 */
/* Names that clusters want: asked for again when their time is over, kept when nobody answers. */
#include "proxy/hostnames.h"

#include "lib/base/mem.h"
#include "tests/unit/tcase.h"

#include "tests/unit/proxy/fake_dns.h"

static struct clock test_clock;
static struct loop *loop;
static struct hostnames h;
static char told[4096]; /* "moving.example:80=127.0.0.2 ..." */

static void on_changed(void *user, struct slice name, struct prog_endpoints *e, bool first)
{
    size_t at = strlen(told);
    ck_assert_ptr_eq(user, &h);
    at += (size_t)snprintf(told + at, sizeof told - at, "%s%.*s%s", at ? " " : "", SL_FMT(name),
                           first ? "!" : "");
    for (uint32_t i = 0; e && i < e->n; i++)
        at += (size_t)snprintf(told + at, sizeof told - at, "%s%u:%u%s", i ? "," : "=",
                               e->p[i].address[e->p[i].address_len - 1], e->p[i].port,
                               i == e->first ? "*" : "");
    ck_assert(slice_eq(e ? e->prog.key : name, name));
    prog_unref(e);
}

static void setup(void)
{
    struct err err = {0};
    fake_start();
    clock_init_virtual(&test_clock, 0);
    ck_assert_int_eq(loop_new(&test_clock, &loop, &err), 0);
    loop_seed(loop, 1);
    hostnames_init(&h, loop,
                   &(struct resolver_opts){
                       .resolv_conf = fake.conf, .timeout_ms = 100, .tries = 1, .port = fake.port});
    h.changed = on_changed;
    h.user = &h;
    told[0] = '\0';
}

static void teardown(void)
{
    struct err err = {0};
    hostnames_fini(&h);
    loop_turn(loop, 0, &err);
    loop_free(loop);
    fake_end();
}

/* Until this was told, and nothing more. */
static void tells(const char *want)
{
    struct err err = {0};
    for (int i = 0; i < 2000 && strcmp(told, want) != 0; i++) {
        loop_turn(loop, 0, &err);
        usleep(1000);
    }
    ck_assert_str_eq(told, want);
    told[0] = '\0';
}

/* Until so many look-ups have begun and ended, while nothing is told. */
static void asks(uint64_t want)
{
    struct err err = {0};
    for (int i = 0; i < 60; i++) {
        loop_turn(loop, 0, &err);
        usleep(1000);
    }
    ck_assert_uint_eq(h.n_lookups, want);
    ck_assert_str_eq(told, "");
}

static void advance(int64_t s)
{
    clock_advance(&test_clock, s * NS_PER_S);
}

START_TEST(life_of_a_name)
{
    hostnames_want(&h, SL("moving.example:80"));
    hostnames_want(&h, SL("moving.example:80"));
    ck_assert(hostnames_pending(&h, SL("moving.example:80")));
    tells("moving.example:80!=2:80*");
    ck_assert(!hostnames_pending(&h, SL("moving.example:80")));
    hostnames_want(&h, SL("moving.example:443")); /* known already: no question */
    tells("moving.example:443!=2:443*");
    ck_assert_uint_eq(h.n_lookups, 1);
    advance(4);
    asks(1);
    ck_assert_ptr_null(h.resolver); /* idle: its memory was given back */
    advance(2);
    asks(2); /* its time is over; the same as before */
    fake.last = 9;
    advance(6);
    tells("moving.example:443=9:443* moving.example:80=9:80*");
    /* Nobody answers: the last good answer stays, asked for again after 1, 2, 4 s... */
    fake.servfail = true;
    advance(6);
    asks(4);
    ck_assert_uint_eq(h.n_failures, 1);
    advance(2);
    asks(5);
    advance(1);
    asks(5);
    advance(2);
    asks(6);
    fake.servfail = false;
    fake.last = 3;
    advance(5);
    tells("moving.example:443=3:443* moving.example:80=3:80*");
    /* Wanted no more: kept for a minute, then gone. */
    hostnames_want_no_more(&h, SL("moving.example:80"));
    hostnames_want_no_more(&h, SL("moving.example:80"));
    hostnames_want_no_more(&h, SL("moving.example:443"));
    hostnames_want(&h, SL("moving.example:443"));
    advance(61);
    tells("moving.example:80");
    ck_assert_uint_eq(h.hosts.len, 1);
    hostnames_want_no_more(&h, SL("moving.example:443"));
    advance(61);
    tells("moving.example:443");
    ck_assert_uint_eq(h.hosts.len, 0);
    ck_assert_uint_eq(h.names.len, 0);
}
END_TEST

START_TEST(first_failure_is_told)
{
    hostnames_want(&h, SL("servfail.example:80"));
    tells("servfail.example:80!");
    hostnames_want(&h, SL("nx.example:80"));
    tells("nx.example:80!");
    hostnames_want(&h, SL("broken"));
    hostnames_want(&h, SL("broken:x"));
    ck_assert(!hostnames_pending(&h, SL("broken:x")));
    ck_assert_uint_eq(h.hosts.len, 2);
    struct buf b;
    buf_init(&b, 4096);
    hostnames_describe(&h, &b);
    ck_assert(slice_starts(buf_slice(&b), SL("name nx.example state=no_address failures=1 ")));
    buf_fini(&b);
}
END_TEST

/* Ordered, each once; which one the server gave first is told beside. */
START_TEST(order)
{
    hostnames_want(&h, SL("v4.example:80"));
    tells("v4.example:80!=3:80,4:80*");
}
END_TEST

START_TEST(limit)
{
    for (int i = 0; i < HOSTNAMES_MAX + 5; i++) {
        char name[64];
        int n =
            snprintf(name, sizeof name, "h%d:80", i); /* no dot: /etc/hosts and the search list */
        hostnames_want(&h, slice_of(name, (size_t)n));
    }
    ck_assert_uint_eq(h.hosts.len, HOSTNAMES_MAX);
    ck_assert_uint_eq(h.n_refused, 5);
}
END_TEST

TESTS(hostnames)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, life_of_a_name);
    tcase_add_test(tc, first_failure_is_told);
    tcase_add_test(tc, order);
    tcase_add_test(tc, limit);
}
