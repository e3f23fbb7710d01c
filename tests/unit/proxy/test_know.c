/* SPDX-License-Identifier: Apache-2.0 */
/* What workers know and the control thread remembers: asked for once, waited for, dropped when unused. */
#include "proxy/know.h"

#include <stdio.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/control.h"
#include "proxy/upstream/upstream.h"
#include "proxy/worker.h"
#include "tests/unit/tcase.h"

enum { WORKERS = 2 };

/* Two workers and the control thread, on one thread and one clock; the operator is two lists. */
static struct mesh {
    struct clock clock;
    struct loop *loop;
    struct control control;
    struct worker *w[WORKERS];
    char wanted[4096], dropped[4096];
    unsigned n_wanted, n_dropped, n_learned;
} m;

static void note(char *list, const struct known *k)
{
    size_t at = strlen(list);
    if (at < 3000)
        snprintf(list + at, 4096 - at, "%s%s", at ? " " : "", k->key);
}

static void on_want(void *user, const struct known *k)
{
    (void)user;
    m.n_wanted++;
    note(m.wanted, k);
}

static void on_drop(void *user, const struct known *k)
{
    (void)user;
    m.n_dropped++;
    note(m.dropped, k);
}

static void on_learned(void *user, bool first)
{
    (void)user, (void)first;
    m.n_learned++;
}

/* Mail goes to and fro until nobody has any left. */
static void settle(void)
{
    struct err err = {0};
    for (int i = 0; i < 8; i++) {
        ck_assert_int_ge(loop_turn(m.loop, 0, &err), 0);
        for (int k = 0; k < WORKERS; k++)
            ck_assert_int_ge(loop_turn(m.w[k]->loop, 0, &err), 0);
    }
}

static void advance_s(int64_t s)
{
    /* In steps of a minute, as timers that set themselves anew would have it. */
    for (; s > 0; s -= 60) {
        clock_advance(&m.clock, MIN(s, (int64_t)60) * NS_PER_S);
        settle();
    }
}

static void open_mesh(bool operator_there)
{
    struct err err = {0};
    m = (struct mesh){0};
    log_threshold = LOG_ERROR;
    clock_init_virtual(&m.clock, 0);
    clock_advance(&m.clock, 3600 * NS_PER_S);
    ck_assert_int_eq(loop_new(&m.clock, &m.loop, &err), 0);
    ck_assert_int_eq(control_init(&m.control, m.loop, &err), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        ck_assert_int_eq(worker_new(i, &m.clock, &limits_default, &m.control, NULL, NULL, 0,
                                    &m.w[i], &err), 0);
        ck_assert_int_eq(control_add_worker(&m.control, m.w[i], &err), 0);
    }
    m.control.learned = on_learned;
    if (operator_there) {
        m.control.want = on_want;
        m.control.drop = on_drop;
    }
    settle();
}

static void close_mesh(void)
{
    for (int i = 0; i < WORKERS; i++)
        worker_free(m.w[i]);
    control_fini(&m.control);
    loop_free(m.loop);
}

/* A service with one cluster of its name, whose endpoints are "e-<key>". */
static struct prog *service(const char *key)
{
    struct prog_service *s = prog_new(PROG_SERVICE, sizeof *s, slice_str(key), SLICE_NULL);
    char name[64];
    ck_assert_ptr_nonnull(s);
    s->clusters = ARENA_ARRAY(&s->prog.arena, struct prog_cluster, 1);
    s->n_clusters = 1;
    snprintf(name, sizeof name, "c-%s", key);
    s->clusters[0].name = arena_slice(&s->prog.arena, slice_str(name));
    s->clusters[0].endpoints.p = ARENA_ARRAY(&s->prog.arena, struct slice, 1);
    s->clusters[0].endpoints.n = 1;
    snprintf(name, sizeof name, "e-%s", key);
    s->clusters[0].endpoints.p[0] = arena_slice(&s->prog.arena, slice_str(name));
    return &s->prog;
}

static struct prog *endpoints(const char *key)
{
    static const unsigned char ip[4] = {127, 0, 0, 1};
    struct prog_endpoints *e = prog_new(PROG_ENDPOINTS, sizeof *e, slice_str(key), SLICE_NULL);
    ck_assert_ptr_nonnull(e);
    e->p = ARENA_ARRAY(&e->prog.arena, struct prog_endpoint, 1);
    e->n = 1;
    memcpy(e->p[0].address, ip, 4);
    e->p[0].address_len = 4;
    e->p[0].port = 80;
    e->p[0].identity = UINT16_MAX;
    return &e->prog;
}

static void push(enum prog_kind kind, enum prog_state state, const char *key, struct prog *prog)
{
    struct know_batch *b = mem_zalloc(sizeof *b);
    ck_assert_int_eq(know_batch_add(b, kind, state, slice_str(key), prog), 0);
    control_learn(&m.control, b);
    settle();
}

/* The operator has this service and its endpoints. */
static void push_service(const char *key)
{
    char eps[64];
    snprintf(eps, sizeof eps, "e-%s", key);
    struct know_batch *b = mem_zalloc(sizeof *b);
    ck_assert_int_eq(know_batch_add(b, PROG_SERVICE, PROG_VALUE, slice_str(key), service(key)), 0);
    ck_assert_int_eq(know_batch_add(b, PROG_ENDPOINTS, PROG_VALUE, slice_str(eps), endpoints(eps)),
                     0);
    control_learn(&m.control, b);
    settle();
}

static enum know_state look(int worker, const char *key)
{
    struct prog_service *s = NULL;
    enum know_state st = know_service(&m.w[worker]->know, slice_str(key), &s);
    ck_assert_int_eq(st == KNOW_VALUE, s != NULL);
    return st;
}

static size_t held(int worker)
{
    const struct know *k = &m.w[worker]->know;
    return k->services.len + k->endpoints.len + k->workloads.len;
}

START_TEST(asked_once_then_pushed)
{
    open_mesh(true);
    ck_assert_int_eq(look(0, "a"), KNOW_WAITING);
    ck_assert_int_eq(look(0, "a"), KNOW_WAITING);
    ck_assert_int_eq(look(1, "a"), KNOW_WAITING);
    settle();
    ck_assert_str_eq(m.wanted, "a");
    push(PROG_SERVICE, PROG_ABSENT, "a", NULL);
    ck_assert_int_eq(look(0, "a"), KNOW_ABSENT);
    push_service("a"); /* it was created: nobody has to ask again */
    ck_assert_int_eq(look(0, "a"), KNOW_VALUE);
    ck_assert_int_eq(look(1, "a"), KNOW_VALUE);
    push(PROG_SERVICE, PROG_WITHHELD, "a", NULL);
    ck_assert_int_eq(look(0, "a"), KNOW_VALUE); /* what is held stays in use */
    settle();
    ck_assert_str_eq(m.wanted, "a");
    close_mesh();
}
END_TEST

static int woken;
static enum know_state woken_with;
static void on_woken(struct know_waiter *w, enum know_state state)
{
    (void)w;
    woken++;
    woken_with = state;
}

START_TEST(a_wait_is_bounded)
{
    struct know_waiter w;
    open_mesh(true);
    woken = 0;
    look(0, "a");
    know_wait_service(&m.w[0]->know, SL("a"), &w, on_woken);
    settle();
    ck_assert_int_eq(woken, 0);
    clock_advance(&m.clock, NS_PER_S + 1);
    settle();
    ck_assert_int_eq(woken, 1);
    ck_assert_int_eq(woken_with, KNOW_WAITING);
    know_wait_service(&m.w[0]->know, SL("a"), &w, on_woken);
    push(PROG_SERVICE, PROG_ABSENT, "a", NULL);
    ck_assert_int_eq(woken, 2);
    ck_assert_int_eq(woken_with, KNOW_ABSENT);
    close_mesh();
}
END_TEST

START_TEST(unused_goes_after_ten_minutes)
{
    open_mesh(true);
    look(0, "used");
    look(0, "idle");
    settle();
    push_service("used");
    push_service("idle");
    push_service("warm"); /* nobody asked for it */
    ck_assert_uint_eq(held(0), 6);
    ck_assert_uint_eq(control_held(&m.control), 6);
    for (int i = 0; i < 9; i++) {
        ck_assert_uint_eq(held(0), 6);
        look(1, "used"); /* one worker is enough */
        advance_s(60);
    }
    for (int i = 0; i < 11; i++) {
        look(1, "used");
        advance_s(60);
    }
    ck_assert_uint_eq(held(0), 2);
    ck_assert_uint_eq(held(1), 2);
    ck_assert_uint_eq(control_held(&m.control), 2);
    ck_assert_uint_eq(m.control.n_unused, 2);
    ck_assert_str_eq(m.dropped, "idle warm e-idle e-warm");
    ck_assert_int_eq(look(0, "used"), KNOW_VALUE);
    /* The first use after that asks again. */
    m.wanted[0] = '\0';
    ck_assert_int_eq(look(0, "idle"), KNOW_WAITING);
    settle();
    ck_assert_str_eq(m.wanted, "idle");
    push_service("idle");
    ck_assert_int_eq(look(0, "idle"), KNOW_VALUE);
    /* All of it goes, marks included, and then nothing ticks. */
    advance_s(3600);
    ck_assert_uint_eq(m.control.known.len, 0);
    ck_assert_uint_eq(held(0) + held(1), 0);
    ck_assert_int_eq(loop_next_deadline(m.loop), INT64_MAX);
    close_mesh();
}
END_TEST

START_TEST(negative_answers_age_too)
{
    open_mesh(true);
    look(0, "no");
    settle();
    push(PROG_SERVICE, PROG_ABSENT, "no", NULL);
    ck_assert_uint_eq(m.control.negative.n, 1);
    advance_s(1200);
    ck_assert_uint_eq(m.control.negative.n, 0);
    ck_assert_uint_eq(held(0), 0);
    ck_assert_str_eq(m.dropped, "no");
    close_mesh();
}
END_TEST

/* A push that was on its way when the operator was told does not bring it back: nobody would tell of
 * its changes. */
START_TEST(late_push_is_ignored)
{
    open_mesh(true);
    push_service("a");
    advance_s(900);
    ck_assert_str_eq(m.dropped, "a e-a");
    push_service("a");
    ck_assert_int_eq(look(0, "a"), KNOW_WAITING);
    settle();
    ck_assert_str_eq(m.wanted, "a"); /* asked for like any other */
    push_service("a");
    ck_assert_int_eq(look(0, "a"), KNOW_VALUE);
    push(PROG_SERVICE, PROG_ABSENT, "never asked", NULL);
    ck_assert_ptr_null(control_find(&m.control, PROG_SERVICE, SL("never asked")));
    close_mesh();
}
END_TEST

/* Between a worker's answer and the order to forget it may have been used: it stays, and is asked for. */
START_TEST(used_in_between)
{
    open_mesh(true);
    push_service("a");
    int64_t since = loop_now(m.w[0]->loop);
    advance_s(60);
    look(0, "a");
    struct know_batch *b = mem_zalloc(sizeof *b);
    ck_assert_int_eq(know_batch_forget(b, PROG_SERVICE, SL("a"), KNOW_FORGET_UNUSED, since), 0);
    struct know_batch *other = mem_zalloc(sizeof *other);
    ck_assert_int_eq(know_batch_forget(other, PROG_SERVICE, SL("a"), KNOW_FORGET_UNUSED, since), 0);
    know_apply(&m.w[0]->know, b);
    know_apply(&m.w[1]->know, other);
    know_batch_free(b);
    know_batch_free(other);
    ck_assert_int_eq(look(0, "a"), KNOW_VALUE);
    ck_assert_ptr_null(know_held_service(&m.w[1]->know, SL("a")));
    settle();
    const struct known *k = control_find(&m.control, PROG_SERVICE, SL("a"));
    ck_assert_ptr_nonnull(k);
    close_mesh();
}
END_TEST

START_TEST(traffic_under_way_is_use)
{
    struct prog_service *s = NULL;
    struct up_host *h;
    open_mesh(true);
    push_service("a");
    ck_assert_int_eq(know_service(&m.w[0]->know, SL("a"), &s), KNOW_VALUE);
    struct up_cluster *c = up_cluster_get(m.w[0], s, 0);
    ck_assert_int_eq(up_pick(c, NULL, &h), ERR_OK);
    up_host_ref(h);
    up_host_begin(h);
    advance_s(3000);
    ck_assert_ptr_nonnull(know_held_service(&m.w[0]->know, SL("a")));
    ck_assert_ptr_nonnull(know_endpoints(&m.w[0]->know, SL("e-a")));
    up_host_end(h);
    advance_s(1200);
    ck_assert_ptr_null(know_held_service(&m.w[0]->know, SL("a")));
    ck_assert_uint_eq(m.w[0]->clusters.len, 0);
    ck_assert(h->gone);
    up_host_unref(h);
    up_cluster_unref(c);
    close_mesh();
}
END_TEST

START_TEST(negative_answers_are_capped)
{
    enum { ASKED = CONTROL_NEGATIVE_MAX + 300 };
    struct know_waiter w;
    char key[32];
    open_mesh(true);
    woken = 0;
    look(0, "first");
    know_wait_service(&m.w[0]->know, SL("first"), &w, on_woken);
    for (int i = 0; i < ASKED; i++) {
        snprintf(key, sizeof key, "k%d", i);
        look(0, key);
    }
    settle();
    ck_assert_uint_eq(m.n_wanted, ASKED + 1);
    ck_assert_uint_eq(m.control.negative.n, CONTROL_NEGATIVE_MAX);
    ck_assert_uint_eq(control_held(&m.control), CONTROL_NEGATIVE_MAX);
    ck_assert_uint_eq(m.w[0]->know.services.len, CONTROL_NEGATIVE_MAX);
    ck_assert_uint_eq(m.control.n_evicted, 301);
    ck_assert_uint_eq(m.n_dropped, 301);
    ck_assert_int_eq(woken, 1); /* who waited for an evicted one is told */
    ck_assert_int_eq(woken_with, KNOW_WAITING);
    ck_assert_uint_le(m.control.dropped.n, CONTROL_DROPPED_MAX);
    /* What is there is not among them, and the newest are remembered. */
    push_service("k1000");
    ck_assert_uint_eq(m.control.negative.n, CONTROL_NEGATIVE_MAX - 1);
    ck_assert_int_eq(look(0, "k1000"), KNOW_VALUE);
    close_mesh();
}
END_TEST

/* Without an operator what the file holds stays for good; what it does not hold is not remembered for
 * ever. */
START_TEST(standalone)
{
    open_mesh(false);
    push_service("a");
    ck_assert_int_eq(look(0, "no"), KNOW_WAITING);
    settle();
    ck_assert_int_eq(look(0, "no"), KNOW_ABSENT);
    advance_s(3600);
    ck_assert_uint_eq(control_held(&m.control), 2);
    ck_assert_uint_eq(held(0), 2);
    ck_assert_int_eq(look(0, "a"), KNOW_VALUE);
    ck_assert_int_eq(loop_next_deadline(m.loop), INT64_MAX);
    close_mesh();
}
END_TEST

START_TEST(eager_meshes_keep_services)
{
    open_mesh(true);
    struct prog_settings *s = prog_new(PROG_SETTINGS, sizeof *s, SLICE_NULL, SLICE_NULL);
    s->eager = true;
    push(PROG_SETTINGS, PROG_VALUE, "", &s->prog);
    push_service("a");
    look(0, "no");
    settle();
    push(PROG_SERVICE, PROG_ABSENT, "no", NULL);
    advance_s(1800);
    ck_assert_ptr_nonnull(know_held_service(&m.w[0]->know, SL("a")));
    ck_assert_str_eq(m.dropped, "no");
    close_mesh();
}
END_TEST

/* Each allocation of a sweep fails once: nothing is lost or leaked, and a later sweep does the work. */
START_TEST(out_of_memory)
{
    for (int n = 0; n < 60; n++) {
        open_mesh(true);
        push_service("a");
        advance_s(580);
        mem_fail_after(n);
        advance_s(60);
        advance_s(300);
        mem_fail_after(-1);
        advance_s(600);
        ck_assert_uint_eq(held(0), 0);
        ck_assert_uint_eq(control_held(&m.control), 0);
        close_mesh();
    }
}
END_TEST

TESTS(know)
{
    tcase_add_test(tc, asked_once_then_pushed);
    tcase_add_test(tc, a_wait_is_bounded);
    tcase_add_test(tc, unused_goes_after_ten_minutes);
    tcase_add_test(tc, negative_answers_age_too);
    tcase_add_test(tc, late_push_is_ignored);
    tcase_add_test(tc, used_in_between);
    tcase_add_test(tc, traffic_under_way_is_use);
    tcase_add_test(tc, negative_answers_are_capped);
    tcase_add_test(tc, standalone);
    tcase_add_test(tc, eager_meshes_keep_services);
    tcase_add_test(tc, out_of_memory);
}
