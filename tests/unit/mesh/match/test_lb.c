/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "lib/base/rand.h"
#include "mesh/match/lb.h"
#include "tests/unit/tcase.h"

#define N 5u
static const uint32_t weights[][N] = {{1, 1, 1, 1, 1}, {1, 2, 3, 4, 5}, {0, 1, 100, 1, 1}};

static uint32_t weight(const struct lb_candidate *c)
{
    return c->weight ? c->weight : 1;
}

static struct lb_set set(struct lb_candidate c[N], int i, uint32_t start)
{
    struct lb_set s;

    for (uint32_t k = 0; k < N; k++)
        c[k] = (struct lb_candidate){.weight = weights[i][k]};
    lb_init(&s, c, N, start);
    return s;
}

START_TEST(round_robin_is_exact) /* in each window of `total` picks everybody gets the own weight */
{
    struct lb_candidate c[N];
    struct lb_set s = set(c, _i, 3);

    for (int round = 0; round < 7; round++) {
        uint32_t hits[N] = {0};

        for (uint64_t k = 0; k < s.total; k++)
            hits[lb_pick(&s, PROG_ROUND_ROBIN, 0, 0)]++;
        for (uint32_t k = 0; k < N; k++)
            ck_assert_uint_eq(hits[k], weight(&c[k]));
    }
}
END_TEST

START_TEST(round_robin_spreads) /* smooth: the heavy one does not come in a row */
{
    struct lb_candidate c[2] = {{.weight = 1}, {.weight = 2}};
    struct lb_set s;
    uint32_t row = 0, longest = 0;

    lb_init(&s, c, 2, 0);
    for (int i = 0; i < 300; i++) {
        row = lb_round_robin(&s) == 1 ? row + 1 : 0;
        longest = row > longest ? row : longest;
    }
    ck_assert_uint_le(longest, 2);
}
END_TEST

static void shares(int i, enum prog_balancer b)
{
    struct lb_candidate c[N];
    struct lb_set s = set(c, i, 0);
    uint32_t hits[N] = {0};
    const uint32_t n = 200000;
    struct rnd r;

    rnd_init_seed(&r, 99);
    for (uint32_t k = 0; k < n; k++)
        hits[lb_pick(&s, b, rnd_u32(&r), rnd_u32(&r))]++;
    for (uint32_t k = 0; k < N; k++) {
        double want = (double)n * weight(&c[k]) / (double)s.total;

        ck_assert_msg(fabs(hits[k] - want) < 5 * sqrt(want), "%u: %u, not %.0f", k, hits[k], want);
    }
}

START_TEST(random_by_weight)
{
    shares(_i, PROG_RANDOM);
}
END_TEST

START_TEST(least_request_by_weight_when_idle)
{
    shares(_i, PROG_LEAST_REQUEST);
}
END_TEST

START_TEST(least_request_avoids_the_loaded)
{
    struct lb_candidate c[N];
    struct lb_set s = set(c, 0, 0);
    uint32_t hits[N] = {0};
    struct rnd r;

    rnd_init_seed(&r, 5);
    c[2].active = 1000;
    for (int k = 0; k < 50000; k++)
        hits[lb_pick(&s, PROG_LEAST_REQUEST, rnd_u32(&r), rnd_u32(&r))]++;
    /* Only when both draws are the loaded one: 1 in 25. */
    ck_assert_msg(hits[2] > 1600 && hits[2] < 2400, "%u", hits[2]);
}
END_TEST

START_TEST(least_request_levels_a_slow_one) /* blind choice would pile up thousands */
{
    struct lb_candidate c[N];
    struct lb_set s = set(c, 0, 0);
    uint32_t most = 0;
    struct rnd r;

    rnd_init_seed(&r, 6);
    for (int k = 0; k < 20000; k++) { /* one finishes a tenth as many as the others */
        c[lb_pick(&s, PROG_LEAST_REQUEST, rnd_u32(&r), rnd_u32(&r))].active++;
        for (uint32_t i = 0; i < N; i++)
            if (c[i].active && rnd_below(&r, i == 4 ? 20 : 2) == 0)
                c[i].active--;
        most = c[4].active > most ? c[4].active : most;
    }
    ck_assert_msg(most < 60, "%u requests pile up on the slow one", most);
}
END_TEST

START_TEST(one_candidate)
{
    struct lb_candidate c[1] = {{.weight = 0}};
    struct lb_set s;

    lb_init(&s, c, 1, 12345);
    for (int b = PROG_ROUND_ROBIN; b <= PROG_HASH; b++)
        ck_assert_uint_eq(lb_pick(&s, (enum prog_balancer)b, UINT32_MAX, UINT32_MAX), 0);
}
END_TEST

TESTS(lb)
{
    tcase_add_loop_test(tc, round_robin_is_exact, 0, N_OF(weights));
    tcase_add_test(tc, round_robin_spreads);
    tcase_add_loop_test(tc, random_by_weight, 0, N_OF(weights));
    tcase_add_loop_test(tc, least_request_by_weight_when_idle, 0, N_OF(weights));
    tcase_add_test(tc, least_request_avoids_the_loaded);
    tcase_add_test(tc, least_request_levels_a_slow_one);
    tcase_add_test(tc, one_candidate);
}
