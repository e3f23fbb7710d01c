/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/locality.h"
#include "tests/unit/tcase.h"

static const struct {
    const char *place, *pattern;
    bool want;
} patterns[] = {
    {"r/z/s", "r/z/s", true},  {"r/z/s", "r/z", true},   {"r/z/s", "r", true},
    {"r/z/s", "*", true},      {"r/z/s", "r/*", true},   {"r/z/s", "r/*/s", true},
    {"r/z/s", "r/*/t", false}, {"r/z/s", "r/y/*", false}, {"r/z/s", "q", false},
    {"", "*", true},           {"", "r", false},         {"r/z", "r/z/*", true},
    {"r/z", "r/z/s", false},   {"rr/z", "r/*", false},
};

START_TEST(matching)
{
    ck_assert_msg(locality_matches(slice_str(patterns[_i].place), slice_str(patterns[_i].pattern)) ==
                      patterns[_i].want,
                  "%s %s", patterns[_i].place, patterns[_i].pattern);
}
END_TEST

/* One endpoint in `place` (NULL: unknown), with labels that make selectors 11 and 12. */
static uint16_t group(const struct prog_locality *l, const char *own, const char *place,
                      uint64_t subsets)
{
    struct slice at = slice_str(place ? place : "");
    uint64_t selectors[] = {11, 12,
                            prog_selector_add(1, SL("kubernetes.io/hostname"), SL("node-1"))};
    struct prog_endpoints e = {.localities = {&at, place ? 1 : 0}, .selectors = selectors,
                               .n_selectors = 3};
    struct prog_endpoint p = {.locality = place ? 0 : UINT16_MAX, .subsets = subsets};
    struct locality_self self = {slice_str(own), SL("node-1")};

    return locality_group(l, &self, &e, &p);
}

static struct prog_failover west_to_east[] = {{SL("west"), SL("east")}};
static const struct prog_locality near = {0},
                                  named = {.failover = west_to_east, .n_failover = 1};
static const struct {
    const struct prog_locality *l;
    const char *own, *place;
    uint16_t want;
} failovers[] = {
    {&near, "west/a/1", "west/a/1", 0}, {&near, "west/a/1", "west/a/2", 1},
    {&near, "west/a/1", "west/b/1", 2}, {&near, "west/a/1", "east/a/1", 3},
    {&near, "west/a", "west/a", 0},     {&near, "west/a", NULL, 3},
    {&near, "", NULL, 0},               {&near, "", "west/a", 3},
    {&named, "west/a", "east/a", 3},    {&named, "west/a", "north/a", 4},
    {&named, "west/a", "west/a", 0},    {&named, "north/a", "east/a", 3},
    {NULL, "west/a", "east/a", 0},
};

START_TEST(failover)
{
    ck_assert_msg(group(failovers[_i].l, failovers[_i].own, failovers[_i].place, 0) ==
                      failovers[_i].want,
                  "%d", _i);
}
END_TEST

START_TEST(priorities)
{
    struct prog_rank ranks[] = {{PROG_LIKE_REGION, SLICE_NULL, 0}, {PROG_LIKE_LABEL, SLICE_NULL, 12},
                                {PROG_LIKE_ZONE, SL("b"), 0},      {PROG_LIKE_NODE, SLICE_NULL, 0}};
    struct prog_locality l = {.ranks = ranks, .n_ranks = 4};

    ck_assert_uint_eq(group(&l, "west/a", "west/b", 6), 0);
    ck_assert_uint_eq(group(&l, "west/a", "west/b", 2), 1);  /* another node */
    ck_assert_uint_eq(group(&l, "west/a", "west/a", 6), 2);  /* not in zone b */
    ck_assert_uint_eq(group(&l, "west/a", "west/b", 5), 3);  /* another label */
    ck_assert_uint_eq(group(&l, "west/a", "east/b", 6), 4);
    ranks[1].selector = 13; /* no endpoint has that value */
    ck_assert_uint_eq(group(&l, "west/a", "west/b", 7), 3);
    l.failover = west_to_east; /* failover counts among equals */
    l.n_failover = 1;
    ranks[0] = (struct prog_rank){PROG_LIKE_LABEL, SLICE_NULL, 12};
    l.n_ranks = 1;
    ck_assert_uint_eq(group(&l, "west/a", "east/b", 2), 3);
    ck_assert_uint_eq(group(&l, "west/a", "north/b", 2), 4);
    ck_assert_uint_eq(group(&l, "west/a", "west/a", 0), 5);
}
END_TEST

START_TEST(distribution)
{
    struct prog_share to[] = {{SL("west/*"), 80}, {SL("east/b"), 20}, {SL("north"), 0}};
    struct prog_distribute d[] = {{SL("east/*"), to, 1}, {SL("west/*"), to, 3}};
    struct prog_locality l = {.distribute = d, .n_distribute = 2};
    struct locality_self self = {SL("west/a"), SLICE_NULL}, other = {SL("south/a"), SLICE_NULL};

    ck_assert_ptr_eq(locality_distribution(&l, &self), &d[1]);
    ck_assert_ptr_null(locality_distribution(&l, &other));
    ck_assert_uint_eq(group(&l, "west/a", "west/z", 0), 0);
    ck_assert_uint_eq(group(&l, "west/a", "east/b", 0), 1);
    ck_assert_uint_eq(group(&l, "west/a", "east/c", 0), LOCALITY_NONE);
    ck_assert_uint_eq(group(&l, "west/a", "north/c", 0), LOCALITY_NONE);
    ck_assert_uint_eq(group(&l, "south/a", "east/c", 0), 0); /* no rule: all alike */
}
END_TEST

/* hosts, healthy, weight of each group; least health; shares, "!" behind one in panic */
static const struct {
    const char *name;
    uint32_t g[3][3], min_health;
    uint32_t share[3];
    bool panic[3];
} shares[] = {
    {"all are well", {{4, 4, 0}, {4, 4, 0}}, 0, {100, 0}, {false}},
    {"72 % is enough", {{100, 72, 0}, {4, 4, 0}}, 0, {100, 0}, {false}},
    {"half carries 70 %", {{4, 2, 0}, {4, 4, 0}}, 0, {70, 30}, {false}},
    {"down through three", {{4, 1, 0}, {4, 1, 0}, {4, 4, 0}}, 0, {35, 35, 30}, {false}},
    {"too few in all: in proportion", {{10, 2, 0}, {10, 2, 0}}, 0, {50, 50}, {false}},
    {"nobody", {{4, 0, 0}, {4, 0, 0}}, 0, {0, 0}, {false}},
    {"nobody, with panic", {{4, 0, 0}, {2, 0, 0}}, 50, {4, 2}, {true, true}},
    {"an empty one is skipped", {{0, 0, 0}, {4, 4, 0}}, 0, {0, 100}, {false}},
    {"panic only when all cannot", {{4, 1, 0}, {4, 4, 0}}, 50, {35, 65}, {false}},
    {"panic", {{10, 2, 0}, {10, 3, 0}}, 25, {40, 60}, {true, false}},
    {"by weight", {{4, 4, 80}, {4, 4, 20}}, 0, {8000, 2000}, {false}},
    {"a weak one gets less", {{4, 2, 80}, {4, 4, 20}}, 0, {5600, 2000}, {false}},
    {"weights in panic", {{4, 0, 80}, {4, 1, 20}}, 50, {8000, 2000}, {true, true}},
};

START_TEST(sharing)
{
    struct locality_share g[3] = {0};
    uint32_t n = 0;

    for (; n < 3 && (shares[_i].g[n][0] || n == 0); n++)
        g[n] = (struct locality_share){.hosts = shares[_i].g[n][0],
                                       .healthy = shares[_i].g[n][1],
                                       .weight = shares[_i].g[n][2]};
    locality_shares(g, n, shares[_i].min_health);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_msg(g[i].share == shares[_i].share[i], "%s: %u: %u", shares[_i].name, i,
                      g[i].share);
        ck_assert_msg(g[i].panic == shares[_i].panic[i], "%s: %u", shares[_i].name, i);
    }
}
END_TEST

TESTS(locality)
{
    tcase_add_loop_test(tc, matching, 0, N_OF(patterns));
    tcase_add_loop_test(tc, failover, 0, N_OF(failovers));
    tcase_add_test(tc, priorities);
    tcase_add_test(tc, distribution);
    tcase_add_loop_test(tc, sharing, 0, N_OF(shares));
}
