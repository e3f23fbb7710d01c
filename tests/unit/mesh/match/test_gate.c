/* SPDX-License-Identifier: Apache-2.0 */
/* Which gate a name chooses, which host a gate finds, and the keys between them. */
#include "mesh/match/program.h"
#include "tests/unit/tcase.h"

#define SL_INIT(lit)                                                                               \
    {                                                                                              \
        "" lit, sizeof(lit) - 1                                                                    \
    }

static struct slice sni_of_a[] = {SL_INIT("*.example.com"), SL_INIT("a.example.com")};
static struct slice sni_of_b[] = {SL_INIT("b.example.com")};
static struct slice sni_of_any[] = {SL_INIT("*")};
static struct slice sni_of_deep[] = {SL_INIT("*.deep.example.com")};
static struct prog_gate gates[] = {
    {.name = SL_INIT("any"), .sni = {sni_of_any, 1}},
    {.name = SL_INIT("a"), .sni = {sni_of_a, 2}},
    {.name = SL_INIT("b"), .sni = {sni_of_b, 1}},
    {.name = SL_INIT("deep"), .sni = {sni_of_deep, 1}},
};

static const struct {
    const char *sni, *gate;
    unsigned from; /* gates that are left out */
} choices[] = {
    {"a.example.com", "a", 0},    {"c.example.com", "a", 0},
    {"b.example.com", "b", 0},    {"x.deep.example.com", "deep", 0},
    {"deep.example.com", "a", 0}, {"example.com", "any", 0},
    {"other.org", "any", 0},      {NULL, "any", 0},
    {"other.org", NULL, 1},       {NULL, NULL, 1},
    {"b.example.com", "b", 1},
};

START_TEST(by_name)
{
    struct prog_gate_port p = {.gates = gates + choices[_i].from,
                               .n_gates = (uint32_t)(N_OF(gates) - choices[_i].from)};
    const struct prog_gate *g =
        prog_gate_of_sni(&p, choices[_i].sni ? slice_str(choices[_i].sni) : SLICE_NULL);

    ck_assert_msg(choices[_i].gate ? g && slice_is(g->name, choices[_i].gate) : !g, "%s: %.*s",
                  choices[_i].sni ? choices[_i].sni : "-", g ? (int)g->name.len : 0,
                  g ? g->name.p : "");
}
END_TEST

static struct prog_gate_host hosts[] = {
    {SL_INIT("*.b.org"), true, false},
    {SL_INIT("*.org"), true, false},
    {SL_INIT("a.b.org"), true, true},
};
static const struct {
    const char *host, *found;
} finds[] = {
    {"a.b.org", "a.b.org"},
    {"x.b.org", "*.b.org"},
    {"x.y.b.org", "*.b.org"},
    {"b.org", "*.org"},
    {"org", NULL},
    {"a.com", NULL},
    {"", NULL},
    {"xb.org", "*.org"},
};

START_TEST(by_host)
{
    struct prog_gate g = {.hosts = hosts, .n_hosts = N_OF(hosts)};
    const struct prog_gate_host *h = prog_gate_find(&g, slice_str(finds[_i].host));

    ck_assert_msg(finds[_i].found ? h && slice_is(h->host, finds[_i].found) : !h, "%s",
                  finds[_i].host);
}
END_TEST

static const struct {
    const char *key, *gate, *host;
} keys[] = {
    {"gw|http.80|a.b", "http.80", "a.b"},
    {"gw|x|*", "x", "*"},
    {"gw|x", NULL, NULL},
    {"gw||a", NULL, NULL},
    {"gw|x|", NULL, NULL},
    {"web:80", NULL, NULL},
    {"", NULL, NULL},
};

START_TEST(key)
{
    struct slice gate, host;
    char buf[64];
    bool good = prog_gate_key_split(slice_str(keys[_i].key), &gate, &host);

    ck_assert_int_eq(good, keys[_i].gate != NULL);
    if (!good)
        return;
    ck_assert(slice_is(gate, keys[_i].gate) && slice_is(host, keys[_i].host));
    ck_assert(slice_is(prog_gate_key(buf, sizeof buf, gate, host), keys[_i].key));
    ck_assert(!prog_gate_key(buf, strlen(keys[_i].key) - 1, gate, host).p);
}
END_TEST

static const struct {
    const char *name;
    unsigned port; /* 0: refused */
    const char *subset, *host;
} spelt[] = {
    {"outbound_.80_._.web.shop.svc.cluster.local", 80, "", "web.shop.svc.cluster.local"},
    {"outbound_.8080_.v1_.web.shop", 8080, "v1", "web.shop"},
    {"outbound_.80_.a.b_.web", 80, "a.b", "web"},
    {"outbound_.80_._.", 0, NULL, NULL},
    {"outbound_.80_.web", 0, NULL, NULL},
    {"outbound_.0_._.web", 0, NULL, NULL},
    {"outbound_.65536_._.web", 0, NULL, NULL},
    {"outbound_.x_._.web", 0, NULL, NULL},
    {"outbound_._._.web", 0, NULL, NULL},
    {"outbound_.", 0, NULL, NULL},
    {"inbound_.80_._.web", 0, NULL, NULL},
    {"web", 0, NULL, NULL},
    {"", 0, NULL, NULL},
};

START_TEST(spelled_clusters)
{
    struct slice subset, host;
    uint16_t port;
    bool good = prog_cluster_spelled(slice_str(spelt[_i].name), &port, &subset, &host);

    ck_assert_msg(good == (spelt[_i].port != 0), "%s", spelt[_i].name);
    if (!good)
        return;
    ck_assert_uint_eq(port, spelt[_i].port);
    ck_assert(slice_is(subset, spelt[_i].subset) && slice_is(host, spelt[_i].host));
}
END_TEST

TESTS(gate)
{
    tcase_add_loop_test(tc, spelled_clusters, 0, (int)N_OF(spelt));
    tcase_add_loop_test(tc, by_name, 0, (int)N_OF(choices));
    tcase_add_loop_test(tc, by_host, 0, (int)N_OF(finds));
    tcase_add_loop_test(tc, key, 0, (int)N_OF(keys));
}
