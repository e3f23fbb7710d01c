/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <string.h>

#include "lib/data/json.h"
#include "lib/kube/lease.h"
#include "tests/unit/lib/kube/fake_api.h"

static const struct {
    const char *name;
    struct kube_lease_view view;
    enum kube_lease_act want;
} views[] = {
    {"nothing there", {"a", "", false, 0, 0, 100}, KUBE_LEASE_CREATE},
    {"ours", {"a", "a", true, 0, 15, 1000}, KUBE_LEASE_RENEW},
    {"released", {"a", "", true, 99, 15, 100}, KUBE_LEASE_TAKE},
    {"fresh", {"a", "b", true, 90, 15, 104}, KUBE_LEASE_WAIT},
    {"run out to the tick", {"a", "b", true, 90, 15, 105}, KUBE_LEASE_TAKE},
    /* The record's own times are never compared: only what this process saw and when. */
    {"seen this moment", {"a", "b", true, 100, 15, 100}, KUBE_LEASE_WAIT},
};

START_TEST(decide)
{
    ck_assert_msg(kube_lease_decide(&views[_i].view) == views[_i].want, "%s", views[_i].name);
}
END_TEST

static const int64_t noon = INT64_C(1785585600) * NS_PER_S;

static const char *spec(const json_t *l, const char *field)
{
    return json_string_value(json_object_get(json_object_get(l, "spec"), field));
}

static int64_t number(const json_t *l, const char *field)
{
    return json_integer_value(json_object_get(json_object_get(l, "spec"), field));
}

START_TEST(record)
{
    json_t *first = kube_lease_record(NULL, "ns", "l", "a", 15000, noon);
    ck_assert_str_eq(spec(first, "holderIdentity"), "a");
    ck_assert_str_eq(spec(first, "acquireTime"), "2026-08-01T12:00:00.000000Z");
    ck_assert_int_eq(number(first, "leaseDurationSeconds"), 15);
    ck_assert_int_eq(number(first, "leaseTransitions"), 0);
    json_object_set_new(json_object_get(first, "metadata"), "resourceVersion", json_string("7"));
    json_t *renewed = kube_lease_record(first, "ns", "l", "a", 15000, noon + NS_PER_S);
    ck_assert_str_eq(spec(renewed, "acquireTime"), "2026-08-01T12:00:00.000000Z");
    ck_assert_str_eq(spec(renewed, "renewTime"), "2026-08-01T12:00:01.000000Z");
    ck_assert_int_eq(number(renewed, "leaseTransitions"), 0);
    ck_assert_str_eq(
        json_string_value(json_object_get(json_object_get(renewed, "metadata"), "resourceVersion")),
        "7");
    json_t *taken = kube_lease_record(renewed, "ns", "l", "b", 15000, noon + 2 * NS_PER_S);
    ck_assert_str_eq(spec(taken, "acquireTime"), "2026-08-01T12:00:02.000000Z");
    ck_assert_int_eq(number(taken, "leaseTransitions"), 1);
    json_t *released = kube_lease_record(taken, "ns", "l", "", 15000, noon + 3 * NS_PER_S);
    ck_assert_str_eq(spec(released, "holderIdentity"), "");
    ck_assert_int_eq(number(released, "leaseDurationSeconds"), 1);
    ck_assert_int_eq(number(released, "leaseTransitions"), 1);
    json_decref(first);
    json_decref(renewed);
    json_decref(taken);
    json_decref(released);
}
END_TEST

/* --- the elector against scripted answers ----------------------------------------------------- */
struct rig {
    struct clock clock;
    struct loop *loop;
    struct fake_api api;
    struct kube_config config;
    struct kube_client *client;
    struct kube_lease *lease;
    char log[128];
    bool stopped;
};

static void acquired(void *user)
{
    strcat(((struct rig *)user)->log, "acquired ");
}
static void lost(void *user)
{
    strcat(((struct rig *)user)->log, "lost ");
}
static void stopped(void *user)
{
    ((struct rig *)user)->stopped = true;
}

static void rig_up(struct rig *r, const struct fake_step *steps, size_t n)
{
    struct err err = {0};
    memset(r, 0, sizeof *r);
    clock_init_real(&r->clock);
    ck_assert_int_eq(loop_new(&r->clock, &r->loop, &err), 0);
    fake_start(&r->api, r->loop, steps, n);
    r->config.server = r->api.url;
    ck_assert_int_eq(kube_client_new(r->loop, &r->config, NULL, &r->client, &err), 0);
    struct kube_lease_opts o = {.ns = "ns",
                                .name = "l",
                                .identity = "me",
                                .duration_ms = 900,
                                .renew_deadline_ms = 600,
                                .retry_ms = 100,
                                .acquired = acquired,
                                .lost = lost,
                                .user = r};
    ck_assert_msg(kube_lease_start(r->client, &o, &r->lease, &err) == 0, "%s", err.msg);
}

static void rig_down(struct rig *r)
{
    ck_assert_uint_eq(r->api.mismatches, 0);
    kube_client_free(r->client);
    fake_stop(&r->api);
    loop_free(r->loop);
}

#define RECORD(rv, holder)                                                                         \
    "{\"metadata\":{\"name\":\"l\",\"resourceVersion\":\"" rv                                      \
    "\"},\"spec\":{\"holderIdentity\":\"" holder "\",\"leaseDurationSeconds\":1}}"

START_TEST(created_renewed_released)
{
    static const struct fake_step steps[] = {
        {"GET /apis/coordination.k8s.io/v1/namespaces/ns/leases/l", 404, "", "{}", 0},
        {"POST /apis/coordination.k8s.io/v1/namespaces/ns/leases \n\"holderIdentity\":\"me\"", 201,
         "", RECORD("1", "me"), 0},
        {"PUT /apis/coordination.k8s.io/v1/namespaces/ns/leases/l\n\"resourceVersion\":\"1\"", 200,
         "", RECORD("2", "me"), 0},
        {"PUT \n\"resourceVersion\":\"2\"", -1, "", "", 0}, /* its answer never comes */
        {"GET ", 200, "", RECORD("3", "me"), 0},
        {"PUT \n\"resourceVersion\":\"3\"\n\"holderIdentity\":\"\"", 200, "", RECORD("4", ""), 0},
    };
    struct rig r;
    rig_up(&r, steps, N_OF(steps));
    TURN_UNTIL(r.loop, r.api.n_seen == 4);
    ck_assert_str_eq(r.log, "acquired ");
    ck_assert(kube_lease_held(r.lease));
    ck_assert_str_eq(kube_lease_holder(r.lease), "me");
    kube_lease_stop(r.lease, stopped, &r);
    ck_assert_str_eq(r.log, "acquired lost ");
    TURN_UNTIL(r.loop, r.stopped);
    ck_assert_uint_eq(r.api.n_seen, 6);
    rig_down(&r);
}
END_TEST

/* A holder whose writes fail keeps the lease to its deadline and not a moment longer. */
START_TEST(lost_when_it_cannot_be_renewed)
{
    static const struct fake_step steps[] = {
        {"GET ", 200, "", RECORD("1", ""), 0},
        {"PUT ", 200, "", RECORD("2", "me"), 0},
        {"PUT ", 500, "", "{}", 0},
        {"GET ", 500, "", "{}", 0},
        {"GET ", 500, "", "{}", 0},
        {"GET ", 500, "", "{}", 0},
        {"GET ", 500, "", "{}", 0},
        {"GET ", 500, "", "{}", 0},
        {"GET ", 200, "", RECORD("3", "you"), 0},
        {"GET ", 200, "", RECORD("3", "you"), 0},
        {"GET ", 200, "", RECORD("3", "you"), 0},
        {"GET ", 200, "", RECORD("3", "you"), 0},
    };
    struct rig r;
    rig_up(&r, steps, N_OF(steps));
    TURN_UNTIL(r.loop, *r.log);
    int64_t begin = clock_now(&r.clock);
    TURN_UNTIL(r.loop, strcmp(r.log, "acquired lost ") == 0);
    int64_t took = clock_now(&r.clock) - begin;
    ck_assert_int_ge(took, 400 * NS_PER_MS);
    ck_assert_int_lt(took, 900 * NS_PER_MS);
    ck_assert(!kube_lease_held(r.lease));
    kube_lease_stop(r.lease, stopped, &r);
    TURN_UNTIL(r.loop, r.stopped);
    rig_down(&r);
}
END_TEST

/* Somebody else stands in the record: what we believed is over at once. */
START_TEST(lost_to_another)
{
    static const struct fake_step steps[] = {
        {"GET ", 200, "", RECORD("1", ""), 0},
        {"PUT ", 200, "", RECORD("2", "me"), 0},
        {"PUT ", 409, "", "{\"reason\":\"Conflict\",\"message\":\"changed\"}", 0},
        {"GET ", 200, "", RECORD("3", "you"), 0},
        {"GET ", -1, "", "", 0},
    };
    struct rig r;
    rig_up(&r, steps, N_OF(steps));
    TURN_UNTIL(r.loop, strcmp(r.log, "acquired lost ") == 0);
    ck_assert_str_eq(kube_lease_holder(r.lease), "you");
    ck_assert_uint_eq(r.api.n_seen, 4);
    kube_lease_stop(r.lease, stopped, &r);
    TURN_UNTIL(r.loop, r.stopped || r.api.mismatches);
    r.api.mismatches = 0; /* the release may look once more */
    rig_down(&r);
}
END_TEST

START_TEST(durations_must_be_in_order)
{
    struct rig r;
    struct err err = {0};
    struct kube_lease *l = NULL;
    rig_up(&r, NULL, 0);
    struct kube_lease_opts o = {
        .ns = "n", .name = "l", .identity = "i", .duration_ms = 5, .renew_deadline_ms = 5};
    ck_assert_int_eq(kube_lease_start(r.client, &o, &l, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    kube_lease_stop(r.lease, stopped, &r);
    TURN_UNTIL(r.loop, r.stopped);
    rig_down(&r);
}
END_TEST

TESTS(kube_lease)
{
    tcase_add_loop_test(tc, decide, 0, N_OF(views));
    tcase_add_test(tc, record);
    tcase_add_test(tc, created_renewed_released);
    tcase_add_test(tc, lost_when_it_cannot_be_renewed);
    tcase_add_test(tc, lost_to_another);
    tcase_add_test(tc, durations_must_be_in_order);
}
