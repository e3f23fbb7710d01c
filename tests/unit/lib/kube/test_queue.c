/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/kube/queue.h"

struct rig {
    struct clock clock;
    struct loop *loop;
    struct kube_queue *q;
    char log[512];
    struct kube_verdict verdict;
    bool hold; /* work is asynchronous: the test calls kube_queue_done */
    const char *add_while_running;
    int64_t queued_ns, worked_ns;
};

static void work(void *user, struct slice key)
{
    struct rig *r = user;
    size_t n = strlen(r->log);
    snprintf(r->log + n, sizeof r->log - n, "%.*s ", SL_FMT(key));
    if (r->add_while_running) {
        kube_queue_add(r->q, slice_str(r->add_while_running));
        r->add_while_running = NULL;
    }
    if (!r->hold)
        kube_queue_done(r->q, key, r->verdict);
}

static void queued(void *user, int64_t ns)
{
    ((struct rig *)user)->queued_ns += ns;
}

static void worked(void *user, int64_t ns)
{
    ((struct rig *)user)->worked_ns += ns;
}

static void rig_up(struct rig *r, unsigned concurrency)
{
    *r = (struct rig){0};
    clock_init_virtual(&r->clock, 0);
    ck_assert_int_eq(loop_new(&r->clock, &r->loop, NULL), 0);
    struct kube_queue_opts o = {.name = "t",
                                .concurrency = concurrency,
                                .work = work,
                                .user = r,
                                .hooks = {queued, worked, r}};
    ck_assert_int_eq(kube_queue_new(r->loop, &o, &r->q, NULL), 0);
}

static void rig_down(struct rig *r)
{
    kube_queue_free(r->q);
    loop_free(r->loop);
}

static void turns(struct rig *r)
{
    while (loop_turn(r->loop, 0, NULL) > 0)
        ;
}

static void pass(struct rig *r, int64_t ms)
{
    clock_advance(&r->clock, ms * NS_PER_MS);
    turns(r);
}

static void add(struct rig *r, const char *key)
{
    ck_assert_int_eq(kube_queue_add(r->q, slice_str(key)), 0);
}

START_TEST(keys_are_deduplicated)
{
    struct rig r;
    rig_up(&r, 1);
    add(&r, "a");
    add(&r, "b");
    add(&r, "a");
    ck_assert_str_eq(r.log, ""); /* never inside add */
    ck_assert_uint_eq(kube_queue_stats(r.q).depth, 2);
    turns(&r);
    ck_assert_str_eq(r.log, "a b ");
    ck_assert_uint_eq(kube_queue_stats(r.q).adds, 2);
    ck_assert_uint_eq(kube_queue_stats(r.q).depth, 0);
    rig_down(&r);
}
END_TEST

START_TEST(one_key_never_runs_twice_at_once)
{
    struct rig r;
    rig_up(&r, 4);
    r.hold = true;
    add(&r, "a");
    turns(&r);
    add(&r, "a");
    add(&r, "a");
    add(&r, "b");
    turns(&r);
    ck_assert_str_eq(r.log, "a b ");
    ck_assert_uint_eq(kube_queue_stats(r.q).running, 2);
    kube_queue_done(r.q, SL("a"), kube_done());
    turns(&r);
    ck_assert_str_eq(r.log, "a b a ");
    kube_queue_done(r.q, SL("a"), kube_done());
    turns(&r);
    ck_assert_str_eq(r.log, "a b a ");
    ck_assert_uint_eq(kube_queue_stats(r.q).adds, 3);
    rig_down(&r);
}
END_TEST

START_TEST(concurrency_is_bounded)
{
    struct rig r;
    rig_up(&r, 2);
    r.hold = true;
    add(&r, "a");
    add(&r, "b");
    add(&r, "c");
    turns(&r);
    ck_assert_str_eq(r.log, "a b ");
    pass(&r, 3000);
    struct kube_queue_stats s = kube_queue_stats(r.q);
    ck_assert_uint_eq(s.depth, 1);
    ck_assert_int_eq(s.longest_ns, 3 * NS_PER_S);
    ck_assert_int_eq(s.unfinished_ns, 6 * NS_PER_S);
    kube_queue_done(r.q, SL("b"), kube_done());
    turns(&r);
    ck_assert_str_eq(r.log, "a b c ");
    ck_assert_int_eq(r.worked_ns, 3 * NS_PER_S);
    ck_assert_int_eq(r.queued_ns, 3 * NS_PER_S);
    rig_down(&r);
}
END_TEST

START_TEST(failures_back_off)
{
    struct rig r;
    rig_up(&r, 1);
    r.verdict = kube_retry();
    add(&r, "a");
    turns(&r);
    pass(&r, 4);
    ck_assert_str_eq(r.log, "a ");
    pass(&r, 1); /* 5 ms */
    ck_assert_str_eq(r.log, "a a ");
    pass(&r, 9);
    ck_assert_str_eq(r.log, "a a ");
    pass(&r, 1); /* 10 ms */
    ck_assert_str_eq(r.log, "a a a ");
    ck_assert_uint_eq(kube_queue_stats(r.q).retries, 3);
    ck_assert_uint_eq(kube_queue_stats(r.q).delayed, 1);
    r.verdict = kube_done(); /* success forgets the failures */
    pass(&r, 20);
    ck_assert_uint_eq(kube_queue_stats(r.q).delayed, 0);
    r.verdict = kube_retry();
    r.log[0] = '\0';
    add(&r, "a");
    turns(&r);
    pass(&r, 5);
    ck_assert_str_eq(r.log, "a a ");
    rig_down(&r);
}
END_TEST

/* An event for a failing key does not wait for its back-off. */
START_TEST(add_overtakes_back_off)
{
    struct rig r;
    rig_up(&r, 1);
    r.verdict = kube_retry();
    add(&r, "a");
    turns(&r);
    r.verdict = kube_done();
    add(&r, "a");
    turns(&r);
    ck_assert_str_eq(r.log, "a a ");
    rig_down(&r);
}
END_TEST

START_TEST(delays_take_the_earliest)
{
    struct rig r;
    rig_up(&r, 1);
    kube_queue_add_after(r.q, SL("a"), 100 * NS_PER_MS);
    kube_queue_add_after(r.q, SL("a"), 50 * NS_PER_MS);
    kube_queue_add_after(r.q, SL("a"), 200 * NS_PER_MS);
    ck_assert_uint_eq(kube_queue_stats(r.q).delayed, 1);
    pass(&r, 49);
    ck_assert_str_eq(r.log, "");
    pass(&r, 1);
    ck_assert_str_eq(r.log, "a ");
    pass(&r, 1000);
    ck_assert_str_eq(r.log, "a ");
    r.verdict = kube_after(NS_PER_S);
    add(&r, "b");
    turns(&r);
    pass(&r, 999);
    ck_assert_str_eq(r.log, "a b ");
    pass(&r, 1);
    ck_assert_str_eq(r.log, "a b b ");
    rig_down(&r);
}
END_TEST

START_TEST(pause_keeps_adds)
{
    struct rig r;
    rig_up(&r, 1);
    kube_queue_pause(r.q, true);
    add(&r, "a");
    turns(&r);
    ck_assert_str_eq(r.log, "");
    kube_queue_pause(r.q, false);
    turns(&r);
    ck_assert_str_eq(r.log, "a ");
    rig_down(&r);
}
END_TEST

START_TEST(added_by_its_own_work)
{
    struct rig r;
    rig_up(&r, 1);
    r.add_while_running = "a";
    add(&r, "a");
    turns(&r);
    ck_assert_str_eq(r.log, "a a ");
    rig_down(&r);
}
END_TEST

/* Many failing keys together are held to the bucket: 100 at once, then 10 a second. */
START_TEST(failures_share_a_bucket)
{
    struct rig r;
    unsigned ran = 0;
    rig_up(&r, 1);
    r.verdict = kube_retry();
    for (int i = 0; i < 130; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        add(&r, key);
    }
    turns(&r);
    ran = (unsigned)kube_queue_stats(r.q).retries;
    ck_assert_uint_eq(ran, 130);
    r.verdict = kube_done();
    pass(&r, 5);
    ck_assert_uint_eq(kube_queue_stats(r.q).delayed, 30);
    pass(&r, 995);
    ck_assert_uint_eq(kube_queue_stats(r.q).delayed, 20);
    pass(&r, 2000);
    ck_assert_uint_eq(kube_queue_stats(r.q).delayed, 0);
    rig_down(&r);
}
END_TEST

static const struct {
    unsigned failures;
    int64_t want_ms;
} steps[] = {{0, 5}, {1, 10}, {10, 5120}, {17, 655360}, {18, 1000000}, {1000000, 1000000}};

START_TEST(item_back_off)
{
    ck_assert_int_eq(kube_backoff_item(steps[_i].failures), steps[_i].want_ms * NS_PER_MS);
}
END_TEST

START_TEST(back_off_grows_and_resets)
{
    struct rnd rnd;
    struct kube_backoff b = {.first_ns = 800, .max_ns = 30000, .reset_ns = 120000, .jitter = 1.0};
    int64_t now = 1000, first = 800;
    rnd_init_seed(&rnd, 7);
    for (int i = 0; i < 20; i++) {
        int64_t wait = kube_backoff_next(&b, now, &rnd);
        ck_assert_int_ge(wait, first);
        ck_assert_int_lt(wait, 2 * first);
        now += wait;
        first = MIN(first * 2, 30000);
    }
    ck_assert_int_ge(kube_backoff_next(&b, now + 50000, &rnd), 30000); /* not quiet enough */
    ck_assert_int_lt(kube_backoff_next(&b, now + 50000 + 120001, &rnd), 1600);
}
END_TEST

START_TEST(oom)
{
    OOM_SWEEP (n) {
        struct rig r = {0};
        struct kube_queue_opts o = {.name = "t", .work = work, .user = &r};
        clock_init_virtual(&r.clock, 0);
        if (loop_new(&r.clock, &r.loop, NULL) < 0)
            break;
        if (kube_queue_new(r.loop, &o, &r.q, NULL) == 0) {
            kube_queue_add(r.q, SL("a"));
            kube_queue_add_after(r.q, SL("b"), 1);
            turns(&r);
            kube_queue_free(r.q);
        }
        loop_free(r.loop);
    }
}
END_TEST

TESTS(kube_queue)
{
    tcase_add_test(tc, keys_are_deduplicated);
    tcase_add_test(tc, one_key_never_runs_twice_at_once);
    tcase_add_test(tc, concurrency_is_bounded);
    tcase_add_test(tc, failures_back_off);
    tcase_add_test(tc, add_overtakes_back_off);
    tcase_add_test(tc, delays_take_the_earliest);
    tcase_add_test(tc, pause_keeps_adds);
    tcase_add_test(tc, added_by_its_own_work);
    tcase_add_test(tc, failures_share_a_bucket);
    tcase_add_loop_test(tc, item_back_off, 0, N_OF(steps));
    tcase_add_test(tc, back_off_grows_and_resets);
    tcase_add_test(tc, oom);
}
