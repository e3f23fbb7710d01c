/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "lib/base/mem.h"
#include "mesh/match/program.h"
#include "tests/unit/tcase.h"

static struct slice *keys(struct arena *a, size_t n, const char *what)
{
    struct slice *v = arena_alloc(a, n * sizeof *v);

    for (size_t i = 0; i < n; i++)
        v[i] = slice_str(arena_printf(a, "%s-%zu.shop.svc.cluster.local", what, i));
    return v;
}

static const size_t sizes[] = {0, 1, 2, 3, 10, 16, 17, 100, 1000, 5000, 20000};

START_TEST(filter_members_and_strangers)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    size_t n = sizes[_i], wrong = 0, asked = 20000;
    struct slice *in = keys(&a, n, "in"), *out = keys(&a, asked, "out");
    struct prog_filter f;

    ck_assert_int_eq(prog_filter_build(&a, in, n, &f), ERR_OK);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(prog_filter_has(&f, in[i]), "member %zu of %zu is not found", i, n);
    for (size_t i = 0; i < asked; i++)
        wrong += prog_filter_has(&f, out[i]);
    /* One in 256 is 78 of 20000; an empty set knows nobody. */
    ck_assert_msg(n ? wrong < 160 : wrong == 0, "%zu of %zu strangers are taken for members", wrong,
                  asked);
    if (n >= 5000)
        ck_assert_msg(f.fingerprints.len < n * 135 / 100, "%zu bytes for %zu keys",
                      f.fingerprints.len, n);
}
END_TEST

START_TEST(filter_takes_duplicates)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct slice v[] = {SL("a"), SL("b"), SL("a"), SL("a")};
    struct prog_filter f;

    ck_assert_int_eq(prog_filter_build(&a, v, N_OF(v), &f), ERR_OK);
    ck_assert(prog_filter_has(&f, SL("a")) && prog_filter_has(&f, SL("b")));
}
END_TEST

START_TEST(filter_hosts)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct slice v[] = {SL("*.example.com"), SL("web.shop.svc.cluster.local")};
    struct prog_settings s = {.cluster_domain = SL("cluster.local")};

    ck_assert_int_eq(prog_filter_build(&a, v, N_OF(v), &s.filter), ERR_OK);
    ck_assert(prog_filter_has_host(&s.filter, SL("a.example.com")));
    ck_assert(prog_filter_has_host(&s.filter, SL("a.b.example.com")));
    ck_assert(prog_settings_has_host(&s, SL("web"), SL("shop")));
    ck_assert(prog_settings_has_host(&s, SL("web.shop"), SL("bank")));
    ck_assert(prog_settings_has_host(&s, SL("web.shop.svc"), SL("bank")));
    ck_assert(prog_settings_has_host(&s, SL("web.shop.svc.cluster.local"), SL("bank")));
    ck_assert(!prog_filter_has_host(&s.filter, SL("example.com")));
    ck_assert(!prog_filter_has_host(&s.filter, SL("")));
    ck_assert(!prog_settings_has_host(&s, SL("web"), SL("bank")));
}
END_TEST

START_TEST(subset_masks)
{
    uint64_t selectors[] = {11, 22, 33};
    struct prog_endpoints e = {.selectors = selectors, .n_selectors = 3};

    ck_assert_uint_eq(prog_subset_mask(&e, 0), UINT64_MAX);
    ck_assert_uint_eq(prog_subset_mask(&e, 11), 1);
    ck_assert_uint_eq(prog_subset_mask(&e, 33), 4);
    ck_assert_uint_eq(prog_subset_mask(&e, 44), 0);
}
END_TEST

START_TEST(references)
{
    struct prog_workload *w = prog_new(PROG_WORKLOAD, sizeof *w, SL("k"), SL("v"));

    ck_assert_ptr_nonnull(w);
    ck_assert(slice_eq(w->prog.key, SL("k")) && slice_eq(w->prog.version, SL("v")));
    ck_assert_ptr_eq(prog_ref(w), w);
    prog_unref(w);
    ck_assert(slice_eq(w->prog.key, SL("k")));
    prog_unref(w);
    prog_unref(NULL);
}
END_TEST

START_TEST(no_memory)
{
    OOM_SWEEP(n)
    {
        CLEANUP(prog_unrefp) void *w =
            prog_new(PROG_WORKLOAD, sizeof(struct prog_workload), SL("key"), SL("version"));
        if (w && !mem_fail_hit()) {
            struct slice v[] = {SL("a"), SL("b")};
            struct prog_filter f;
            prog_filter_build(&((struct prog *)w)->arena, v, 2, &f);
        }
    }
}
END_TEST

TESTS(program)
{
    tcase_add_loop_test(tc, filter_members_and_strangers, 0, N_OF(sizes));
    tcase_add_test(tc, filter_takes_duplicates);
    tcase_add_test(tc, filter_hosts);
    tcase_add_test(tc, subset_masks);
    tcase_add_test(tc, references);
    tcase_add_test(tc, no_memory);
}
