/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "lib/base/hash.h"
#include "mesh/match/hashlb.h"
#include "tests/unit/tcase.h"

enum { HOSTS = 20, KEYS = 100000 };
static char names[HOSTS + 1][32];

static void hosts_make(struct hash_host h[HOSTS + 1], uint32_t heavy)
{
    for (uint32_t i = 0; i <= HOSTS; i++) {
        snprintf(names[i], sizeof names[i], "10.0.0.%u:8080", i + 1);
        h[i] = (struct hash_host){slice_str(names[i]), i == 0 ? heavy : 1};
    }
}

static uint32_t owner(const struct hash_table *t, uint64_t key)
{
    return hash_table_at(t, hash64(slice_of(&key, sizeof key), 99), 0);
}

static struct hash_table *table(int maglev, const struct hash_host *h, uint32_t n)
{
    struct hash_table *t = NULL;

    ck_assert_int_eq(hash_table_new(maglev, maglev ? 65537 : 16384, h, n, &t), ERR_OK);
    return t;
}

/* Shares by weight: a table is even within a percent or two, a ring within its spread, which goes
 * with the root of the points of a host (16384 / 20: about 3.5 %). */
START_TEST(shares)
{
    struct hash_host h[HOSTS + 1];
    uint32_t hits[HOSTS] = {0}, heavy = _i & 2 ? 4 : 1;
    double total = HOSTS - 1 + heavy, slack = _i & 1 ? 0.04 : 0.15;

    hosts_make(h, heavy);
    struct hash_table *t = table(_i & 1, h, HOSTS);
    for (uint64_t k = 0; k < KEYS; k++)
        hits[owner(t, k)]++;
    for (uint32_t i = 0; i < HOSTS; i++) {
        double want = KEYS * (i == 0 ? heavy : 1) / total;

        ck_assert_msg(fabs(hits[i] - want) < slack * want + 3 * sqrt(want), "%u: %u, not %.0f", i,
                      hits[i], want);
    }
    hash_table_free(t);
}
END_TEST

/* A host comes: it takes its part, and (nearly) no other key moves. */
START_TEST(few_keys_move)
{
    struct hash_host h[HOSTS + 1];
    uint32_t moved = 0, to_new = 0;

    hosts_make(h, 1);
    struct hash_table *a = table(_i, h, HOSTS), *b = table(_i, h, HOSTS + 1);
    for (uint64_t k = 0; k < KEYS; k++)
        if (owner(a, k) != owner(b, k)) {
            moved++;
            to_new += owner(b, k) == HOSTS;
        }
    /* 1/21 of the keys is the least that can move. */
    ck_assert_uint_ge(to_new, KEYS / (HOSTS + 1) * 85 / 100);
    ck_assert_uint_le(moved, KEYS / (HOSTS + 1) * (_i ? 190 : 130) / 100);
    hash_table_free(a);
    hash_table_free(b);
}
END_TEST

/* What attempts give is the same each time, and soon another host. */
START_TEST(attempts)
{
    struct hash_host h[HOSTS + 1];
    hosts_make(h, 1);
    struct hash_table *t = table(_i, h, HOSTS);

    for (uint64_t k = 0; k < 1000; k++) {
        uint64_t hash = hash64(slice_of(&k, sizeof k), 5);
        uint32_t first = hash_table_at(t, hash, 0), i = 1;

        while (i < hash_table_attempts(t) && hash_table_at(t, hash, i) == first)
            i++;
        ck_assert_uint_lt(i, hash_table_attempts(t));
        ck_assert_uint_eq(hash_table_at(t, hash, i), hash_table_at(t, hash, i));
    }
    hash_table_free(t);
}
END_TEST

/* The host of a key does not hang on the order in which hosts are listed (a ring; a table is filled
 * in their order, which is that of the addresses). */
START_TEST(order_is_none)
{
    struct hash_host h[HOSTS + 1], back[HOSTS];
    hosts_make(h, 3);
    for (uint32_t i = 0; i < HOSTS; i++)
        back[i] = h[HOSTS - 1 - i];
    struct hash_table *a = table(0, h, HOSTS), *b = table(0, back, HOSTS);
    for (uint64_t k = 0; k < 5000; k++)
        ck_assert(slice_eq(h[owner(a, k)].key, back[owner(b, k)].key));
    hash_table_free(a);
    hash_table_free(b);
}
END_TEST

START_TEST(sizes)
{
    struct hash_host h[HOSTS + 1], many;
    struct hash_table *t;

    hosts_make(h, 1);
    ck_assert_int_eq(hash_table_new(false, 1024, h, 3, &t), ERR_OK);
    ck_assert_uint_ge(t->n, 1024);
    ck_assert_uint_le(hash_table_bytes(t), 13000);
    hash_table_free(t);
    ck_assert_int_eq(hash_table_new(false, 0, h, 3, &t), ERR_OK); /* a point each */
    ck_assert_uint_eq(t->n, 3);
    hash_table_free(t);
    h[0].weight = UINT32_MAX; /* bounded whatever the weights */
    ck_assert_int_eq(hash_table_new(false, UINT32_MAX, h, 3, &t), ERR_OK);
    ck_assert_uint_le(t->n, HASH_RING_MAX + 3);
    hash_table_free(t);
    h[0].weight = 1;
    ck_assert_int_eq(hash_table_new(true, 1009, h, 1, &t), ERR_OK);
    ck_assert_uint_eq(t->n, 1009);
    ck_assert_uint_eq(hash_table_at(t, 12345, 0), 0);
    hash_table_free(t);
    ck_assert_int_eq(hash_table_new(true, 1009, &many, 0, &t), ERR_LIMIT);
    ck_assert_int_eq(hash_table_new(true, 1009, &many, HASH_HOSTS_MAX, &t), ERR_LIMIT);
    OOM_SWEEP (n) {
        if (hash_table_new(n & 1, 1009, h, 3, &t) == ERR_OK)
            hash_table_free(t);
    }
}
END_TEST

TESTS(hashlb)
{
    tcase_add_loop_test(tc, shares, 0, 4);
    tcase_add_loop_test(tc, few_keys_move, 0, 2);
    tcase_add_loop_test(tc, attempts, 0, 2);
    tcase_add_test(tc, order_is_none);
    tcase_add_test(tc, sizes);
}
