/* SPDX-License-Identifier: Apache-2.0 */
/* mem, vec, arena, buf and map, each also swept with failing allocations. */
#include <stdio.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/hash.h"
#include "lib/base/map.h"
#include "lib/base/vec.h"
#include "tests/unit/tcase.h"

START_TEST(mem_basics)
{
    CLEANUP(mem_freep) char *s = mem_strndup("abcdef", 3);
    char *z = mem_zalloc(64);

    ck_assert_str_eq(s, "abc");
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(z[i], 0);
    mem_free(z);
    ck_assert_ptr_null(mem_array(SIZE_MAX / 2, 3));
    z = mem_alloc(0);
    ck_assert_ptr_nonnull(z);
    mem_free(z);
    mem_free(NULL);
}
END_TEST

START_TEST(mem_fails_once)
{
    char *p;

    mem_fail_after(1);
    p = mem_alloc(1);
    ck_assert_ptr_nonnull(p);
    mem_free(p);
    ck_assert(!mem_fail_hit());
    ck_assert_ptr_null(mem_alloc(1));
    ck_assert(mem_fail_hit());
    p = mem_alloc(1);
    ck_assert_ptr_nonnull(p);
    mem_free(p);
    mem_fail_after(-1);
    ck_assert(!mem_fail_hit());
}
END_TEST

START_TEST(sweep_visits_each_allocation)
{
    int runs = 0, failures = 0;

    OOM_SWEEP (n) {
        char *a = mem_alloc(1), *b = a ? mem_alloc(1) : NULL, *c = b ? mem_alloc(1) : NULL;

        runs++;
        failures += c == NULL;
        mem_free(a);
        mem_free(b);
        mem_free(c);
    }
    ck_assert_int_eq(runs, 4);
    ck_assert_int_eq(failures, 3);
}
END_TEST

START_TEST(vec_grows)
{
    VEC(int) v = {0};
    int sum = 0;

    for (int i = 0; i < 100; i++)
        *VEC_PUSH(&v) = i;
    VEC_REMOVE(&v, 0);
    VEC_REMOVE(&v, 98);
    for
        VEC_EACH(&v, it)
    sum += *it;
    ck_assert_int_eq(sum, 99 * 100 / 2 - 99);
    VEC_FREE(&v);
    ck_assert_int_eq(vec_grow_((void **)&v.p, &v.cap, SIZE_MAX / 2, 8), -1);
    OOM_SWEEP (n) {
        for (int i = 0; i < 20; i++) {
            int *p = VEC_PUSH(&v);

            if (p)
                ck_assert_int_eq(*p, 0);
        }
        VEC_FREE(&v);
    }
}
END_TEST

START_TEST(arena_objects)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    char *big, *s;

    for (int i = 1; i < 3000; i++) {
        char *p = arena_alloc(&a, (size_t)(i % 97));

        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        for (int k = 0; k < i % 97; k++)
            ck_assert_int_eq(p[k], 0);
        memset(p, 0xaa, (size_t)(i % 97));
    }
    big = arena_alloc(&a, 1 << 20);
    ck_assert_ptr_nonnull(big);
    s = arena_printf(&a, "%s-%d", "x", 5);
    ck_assert_str_eq(s, "x-5");
    ck_assert_str_eq(arena_slice(&a, SL("hi")).p, "hi");
    ck_assert_ptr_null(arena_slice(&a, SLICE_NULL).p);
    ck_assert_ptr_null(arena_array(&a, SIZE_MAX / 2, 4));
    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
    arena_reset(&a);
    ck_assert_uint_lt(a.used, 1024);
    s = arena_strdup(&a, "again");
    ck_assert_str_eq(s, "again");
}
END_TEST

START_TEST(arena_cap)
{
    struct arena a;
    size_t got = 0;

    arena_init(&a, 256, 4096);
    while (arena_alloc(&a, 64))
        got += 64;
    ck_assert_uint_le(a.used, 4096);
    ck_assert_uint_ge(got, 2048);
    ck_assert_ptr_null(arena_alloc(&a, 1 << 20));
    arena_fini(&a);
    ck_assert_uint_eq(a.cap, 4096);
    ck_assert_ptr_nonnull(arena_alloc(&a, 64));
    arena_fini(&a);
}
END_TEST

START_TEST(arena_oom)
{
    OOM_SWEEP (n) {
        struct arena a = ARENA_INIT;

        for (int i = 0; i < 50; i++)
            if (arena_strdup(&a, "some words to keep") == NULL)
                ck_assert(mem_fail_hit());
        arena_alloc(&a, 100000);
        arena_fini(&a);
    }
}
END_TEST

START_TEST(buf_writes)
{
    CLEANUP(buf_freep) struct buf b;
    char *whole;
    size_t len;

    buf_init(&b, 1000);
    ck_assert_str_eq(buf_cstr(&b), "");
    buf_add_str(&b, "abc");
    buf_add_u64(&b, UINT64_MAX);
    buf_addf(&b, "-%d-%s", -5, "x");
    ck_assert_str_eq(buf_cstr(&b), "abc18446744073709551615--5-x");
    buf_consume(&b, 3);
    buf_truncate(&b, 4);
    ck_assert_str_eq(buf_cstr(&b), "1844");
    buf_consume(&b, 100);
    ck_assert_uint_eq(buf_len(&b), 0);
    buf_addf(&b, "%0900d", 1); /* longer than the stack */
    ck_assert_uint_eq(buf_len(&b), 900);
    buf_consume(&b, 899);
    whole = buf_take(&b, &len);
    ck_assert_str_eq(whole, "1");
    ck_assert_uint_eq(len, 1);
    mem_free(whole);
    ck_assert_uint_eq(buf_len(&b), 0);
}
END_TEST

START_TEST(buf_maximum)
{
    CLEANUP(buf_freep) struct buf b;

    buf_init(&b, 10);
    buf_add_str(&b, "0123456789");
    ck_assert_int_eq(buf_err(&b), ERR_OK);
    ck_assert_str_eq(buf_cstr(&b), "0123456789"); /* the NUL has room beyond the maximum */
    buf_add_char(&b, 'x');
    ck_assert_int_eq(buf_err(&b), ERR_LIMIT);
    buf_consume(&b, 5);
    buf_add_char(&b, 'x'); /* sticky */
    ck_assert_uint_eq(buf_len(&b), 5);
    ck_assert_ptr_null(buf_take(&b, NULL));
    buf_reset(&b);
    buf_addf(&b, "%s", "0123456789");
    ck_assert_int_eq(buf_err(&b), ERR_OK);
    buf_addf(&b, "%0300d", 0);
    ck_assert_int_eq(buf_err(&b), ERR_LIMIT);
}
END_TEST

/* Reading and writing in odd steps keeps the order of bytes and needs no more storage than what is
 * unread, rounded up. */
START_TEST(buf_stream)
{
    CLEANUP(buf_freep) struct buf b;
    unsigned in = 0, out = 0;

    buf_init(&b, 512);
    for (int round = 0; round < 5000; round++) {
        for (int i = 0; i < round % 37; i++) {
            char c = (char)in++;

            if (buf_len(&b) == 512)
                in--;
            else
                buf_add_char(&b, c);
        }
        for (size_t i = 0, n = MIN(buf_len(&b), (size_t)(round % 41)); i < n; i++) {
            ck_assert_int_eq(buf_slice(&b).p[0], (char)out++);
            buf_consume(&b, 1);
        }
    }
    ck_assert_uint_le(b.cap, 1024);
    ck_assert_uint_gt(out, 50000);
}
END_TEST

START_TEST(buf_oom)
{
    OOM_SWEEP (n) {
        struct buf b;
        char *s;

        buf_init(&b, 100000);
        for (int i = 0; i < 500; i++)
            buf_addf(&b, "%d,", i);
        buf_consume(&b, 10);
        s = buf_take(&b, NULL);
        if (!s)
            ck_assert_int_eq(buf_err(&b), ERR_NOMEM);
        mem_free(s);
        buf_fini(&b);
    }
}
END_TEST

static struct slice key_of(char tmp[16], int i)
{
    return slice_of(tmp, (size_t)snprintf(tmp, 16, "key%d", i));
}

START_TEST(map_all)
{
    struct map m = {0};
    static int v[1000];
    char tmp[16];
    void *old = &m;
    int seen = 0;

    ck_assert_ptr_null(map_get(&m, SL("x")));
    ck_assert_ptr_null(map_remove(&m, SL("x")));
    for (int i = 0; i < 1000; i++) {
        v[i] = i;
        ck_assert_int_eq(map_put(&m, key_of(tmp, i), &v[i], &old), 0);
        ck_assert_ptr_null(old);
    }
    ck_assert_int_eq(map_put(&m, SL("key7"), &v[8], &old), 0);
    ck_assert_ptr_eq(old, &v[7]);
    map_put(&m, SL("key7"), &v[7], NULL);
    ck_assert_uint_eq(m.len, 1000);
    for (struct map_entry *e = NULL; (e = map_next(&m, e)); seen++)
        ck_assert_ptr_eq(e->value, &v[seen]); /* insertion order */
    for (struct map_entry *e = NULL; (e = map_next(&m, e));)
        if (*(int *)e->value % 3)
            map_remove(&m, slice_of(e->key, e->key_len));
    ck_assert_uint_eq(m.len, 334);
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_eq(map_get(&m, key_of(tmp, i)), i % 3 ? NULL : &v[i]);
    map_fini(&m);
    ck_assert_uint_eq(m.len, 0);
}
END_TEST

/* Putting and removing for ever does not grow the map. */
START_TEST(map_churn)
{
    struct map m = {0};
    char tmp[16];

    for (int i = 0; i < 20000; i++) {
        ck_assert_int_eq(map_put(&m, key_of(tmp, i), tmp, NULL), 0);
        if (i >= 5)
            ck_assert_ptr_nonnull(map_remove(&m, key_of(tmp, i - 5)));
    }
    ck_assert_uint_le(m.cap, 16);
    map_fini(&m);
}
END_TEST

START_TEST(map_sorting)
{
    static const char *const keys[] = {"b", "a", "", "ab", "\xff"};
    static const char *const want[] = {"", "a", "ab", "b", "\xff"};
    struct map m = {0};
    struct map_entry **list;
    size_t n;

    ck_assert_ptr_null(map_sorted(&m, &n));
    ck_assert_uint_eq(n, 0);
    for (size_t i = 0; i < N_OF(keys); i++)
        map_put(&m, slice_str(keys[i]), NULL, NULL);
    list = map_sorted(&m, &n);
    ck_assert_uint_eq(n, N_OF(want));
    for (size_t i = 0; i < n; i++)
        ck_assert_str_eq(list[i]->key, want[i]);
    mem_free(list);
    map_fini(&m);
}
END_TEST

START_TEST(map_oom)
{
    OOM_SWEEP (n) {
        struct map m = {0};
        char tmp[16];
        size_t count = 0, len;

        for (int i = 0; i < 40; i++)
            count += map_put(&m, key_of(tmp, i), &m, NULL) == 0;
        ck_assert_uint_eq(m.len, count);
        mem_free(map_sorted(&m, &len));
        map_fini(&m);
    }
}
END_TEST

START_TEST(hashes)
{
    ck_assert_uint_eq(hash64(SLICE_NULL, 1), hash64(SL(""), 1));
    ck_assert_uint_ne(hash64(SL("a"), 1), hash64(SL("a"), 2));
    ck_assert_uint_eq(hash128(SL("abc")).lo, hash128(slice_str("abc")).lo);
    ck_assert_uint_ne(hash128(SL("abc")).hi, hash128(SL("abd")).hi);
}
END_TEST

TESTS(mem)
{
    tcase_add_test(tc, mem_basics);
    tcase_add_test(tc, mem_fails_once);
    tcase_add_test(tc, sweep_visits_each_allocation);
    tcase_add_test(tc, vec_grows);
    tcase_add_test(tc, arena_objects);
    tcase_add_test(tc, arena_cap);
    tcase_add_test(tc, arena_oom);
    tcase_add_test(tc, buf_writes);
    tcase_add_test(tc, buf_maximum);
    tcase_add_test(tc, buf_stream);
    tcase_add_test(tc, buf_oom);
    tcase_add_test(tc, map_all);
    tcase_add_test(tc, map_churn);
    tcase_add_test(tc, map_sorting);
    tcase_add_test(tc, map_oom);
    tcase_add_test(tc, hashes);
}
