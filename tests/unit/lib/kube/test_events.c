/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include "lib/kube/events.h"
#include "tests/unit/lib/kube/fake_api.h"

struct rig {
    struct clock clock;
    struct loop *loop;
    struct fake_api api;
    struct kube_config config;
    struct kube_client *client;
    struct kube_events *events;
};

static void rig_up(struct rig *r, const struct fake_step *steps, size_t n)
{
    struct err err = {0};
    struct kube_events_opts o = {"tulle.dev/operator", "operator-0"};
    memset(r, 0, sizeof *r);
    clock_init_real(&r->clock);
    ck_assert_int_eq(loop_new(&r->clock, &r->loop, &err), 0);
    fake_start(&r->api, r->loop, steps, n);
    r->config.server = r->api.url;
    ck_assert_int_eq(kube_client_new(r->loop, &r->config, NULL, &r->client, &err), 0);
    ck_assert_int_eq(kube_events_new(r->client, &o, &r->events, &err), 0);
}

static void rig_down(struct rig *r)
{
    ck_assert_uint_eq(r->api.mismatches, 0);
    kube_events_free(r->events);
    kube_client_free(r->client);
    fake_stop(&r->api);
    loop_free(r->loop);
}

static struct kube_ref about(const char *ns, const char *name)
{
    return (struct kube_ref){kube_resource(KUBE_VIRTUAL_SERVICE), ns, name, "u-1"};
}

START_TEST(written_once_and_merged)
{
    static const struct fake_step steps[] = {
        {"POST /apis/events.k8s.io/v1/namespaces/shop/events \n\"reason\":\"Rejected\"\n"
         "\"type\":\"Warning\"\n\"action\":\"Compiling\"\n\"note\":\"spec.hosts: is required\"\n"
         "\"reportingController\":\"tulle.dev/operator\"\n\"reportingInstance\":\"operator-0\"\n"
         "\"regarding\":{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\","
         "\"name\":\"cart\",\"namespace\":\"shop\",\"uid\":\"u-1\"}",
         201, "", "{}", 0},
        {"POST \n\"note\":\"spec.http: is empty\"", 201, "", "{}", 0},
    };
    struct rig r;
    rig_up(&r, steps, 2);
    struct kube_ref cart = about("shop", "cart");
    for (int i = 0; i < 3; i++)
        kube_event_report(r.events, &cart, true, "Rejected", "Compiling",
                          "spec.hosts: is required");
    TURN_UNTIL(r.loop, kube_events_stats(r.events).written == 1);
    kube_event_report(r.events, &cart, true, "Rejected", "Compiling", "spec.http: is empty");
    TURN_UNTIL(r.loop, kube_events_stats(r.events).written == 2);
    ck_assert_uint_eq(kube_events_stats(r.events).merged, 2);
    ck_assert_uint_eq(r.api.n_seen, 2);
    rig_down(&r);
}
END_TEST

START_TEST(cluster_scoped_goes_to_default)
{
    static const struct fake_step steps[] = {
        {"POST /apis/events.k8s.io/v1/namespaces/default/events ", 403, "", "{\"message\":\"no\"}",
         0}};
    struct rig r;
    rig_up(&r, steps, 1);
    struct kube_ref mesh = {kube_resource(KUBE_MESH), "", "default", ""};
    kube_event_report(r.events, &mesh, false, "Accepted", "Reconciling", "ready");
    TURN_UNTIL(r.loop, kube_events_stats(r.events).failed == 1);
    ck_assert_ptr_null(strstr(r.api.seen[0], "\"uid\""));
    rig_down(&r);
}
END_TEST

/* One object may say 25 things at once, and no more than 64 requests are in flight. */
START_TEST(limits)
{
    struct rig r;
    rig_up(&r, NULL, 0);
    struct kube_ref cart = about("shop", "cart");
    for (int i = 0; i < 40; i++) {
        char note[16];
        snprintf(note, sizeof note, "%d", i);
        kube_event_report(r.events, &cart, true, "R", "A", note);
    }
    ck_assert_uint_eq(kube_events_stats(r.events).dropped, 15);
    ck_assert_uint_eq(kube_client_in_flight(r.client), 25);
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "o%d", i);
        struct kube_ref other = about("shop", name);
        kube_event_report(r.events, &other, true, "R", "A", "n");
    }
    ck_assert_uint_eq(kube_client_in_flight(r.client), 64);
    ck_assert_uint_eq(kube_events_stats(r.events).dropped, 15 + 61);
    kube_events_free(r.events);
    r.events = NULL;
    loop_turn(r.loop, 0, NULL);
    ck_assert_uint_eq(kube_client_in_flight(r.client), 0);
    rig_down(&r);
}
END_TEST

TESTS(kube_events)
{
    tcase_add_test(tc, written_once_and_merged);
    tcase_add_test(tc, cluster_scoped_goes_to_default);
    tcase_add_test(tc, limits);
}
