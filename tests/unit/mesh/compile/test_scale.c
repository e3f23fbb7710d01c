/* SPDX-License-Identifier: Apache-2.0 */
/* A large cluster: what it costs to hold, to change and to compile. Bounds are generous multiples of what
 * was measured, so that they fail on a change of order, not on a slow machine. SCALE_PRINT=1 prints. */
#include <malloc.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/unit/mesh/compile/picture.h"
#include "tests/unit/tcase.h"

#define SERVICES 2000u
#define ENDPOINTS 10u /* each, a pod behind each */

static json_t *service(unsigned i)
{
    char name[32], ip[32];

    snprintf(name, sizeof name, "svc-%u", i);
    snprintf(ip, sizeof ip, "10.%u.%u.%u", 96 + (i >> 16), i >> 8 & 255, i & 255);
    return json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:s,s:[s],s:{s:s},s:[{s:s,s:i,s:i}]}}", "apiVersion",
                     "v1", "kind", "Service", "metadata", "name", name, "namespace", "shop", "spec",
                     "clusterIP", ip, "clusterIPs", ip, "selector", "app", name, "ports", "name",
                     "http", "port", 80, "targetPort", 8080);
}

static void pod_name(char ret[48], unsigned i, unsigned k)
{
    snprintf(ret, 48, "svc-%u-7d9c5b6f4-x%03u", i, k);
}

static json_t *pod(unsigned i, unsigned k)
{
    char name[48], app[32], ip[32];

    pod_name(name, i, k);
    snprintf(app, sizeof app, "svc-%u", i);
    snprintf(ip, sizeof ip, "10.%u.%u.%u", 128 + (i >> 8), i & 255, k);
    return json_pack("{s:s,s:s,s:{s:s,s:s,s:{s:s,s:s,s:s}},s:{s:s,s:s,s:[{s:s}]},s:{s:s,s:s}}",
                     "apiVersion", "v1", "kind", "Pod", "metadata", "name", name, "namespace",
                     "shop", "labels", "app", app, "version", "v1", "security.istio.io/tlsMode",
                     "istio", "spec", "serviceAccountName", app, "nodeName", "n1", "containers",
                     "name", "app", "status", "phase", "Running", "podIP", ip);
}

static json_t *slice(unsigned i, bool all_ready)
{
    char name[32], app[32];
    json_t *list = json_array(), *o;

    snprintf(name, sizeof name, "svc-%u-abcde", i);
    snprintf(app, sizeof app, "svc-%u", i);
    for (unsigned k = 0; k < ENDPOINTS; k++) {
        char target[48], ip[32];

        pod_name(target, i, k);
        snprintf(ip, sizeof ip, "10.%u.%u.%u", 128 + (i >> 8), i & 255, k);
        json_array_append_new(
            list, json_pack("{s:[s],s:{s:b},s:s,s:{s:s,s:s,s:s}}", "addresses", ip, "conditions",
                            "ready", all_ready || k, "nodeName", "n1", "targetRef", "kind", "Pod",
                            "name", target, "namespace", "shop"));
    }
    o = json_pack("{s:s,s:s,s:{s:s,s:s,s:{s:s}},s:s,s:[{s:s,s:i}],s:o}", "apiVersion",
                  "discovery.k8s.io/v1", "kind", "EndpointSlice", "metadata", "name", name,
                  "namespace", "shop", "labels", "kubernetes.io/service-name", app, "addressType",
                  "IPv4", "ports", "name", "http", "port", 8080, "endpoints", list);
    ck_assert_ptr_nonnull(o);
    return o;
}

static void put(struct index *x, enum index_kind kind, json_t *o, struct index_changes *c)
{
    struct err err = {0};

    ck_assert_ptr_nonnull(o);
    ck_assert_msg(index_put(x, kind, o, c, &err) == 0, "%s", err.msg);
    json_decref(o);
}

static double us_since(const struct clock *c, int64_t from, unsigned n)
{
    return (double)(clock_now(c) - from) / 1000 / n;
}

START_TEST(large_cluster)
{
    struct index *x = index_new();
    struct compile_input in = {.index = x, .roots_pem = SL("roots")};
    struct compile_client client = {.namespace_ = SL("shop")};
    struct index_changes changes = {0};
    struct compiled c;
    struct arena a = ARENA_INIT;
    size_t before, bytes;
    struct clock clock;
    char key[96];
    int64_t from;

    clock_init_real(&clock);
    json_setup();
    before = mallinfo2().uordblks;
    from = clock_now(&clock);
    for (unsigned i = 0; i < SERVICES; i++) {
        put(x, INDEX_SERVICE, service(i), NULL);
        for (unsigned k = 0; k < ENDPOINTS; k++)
            put(x, INDEX_POD, pod(i, k), NULL);
        put(x, INDEX_SLICE, slice(i, true), NULL);
    }
    double fill = us_since(&clock, from, SERVICES * (ENDPOINTS + 2));
    bytes = mallinfo2().uordblks - before;
    double each = (double)bytes / (SERVICES * ENDPOINTS);
    ck_assert_msg(each < 900, "%.0f bytes an endpoint with its pod and its part of the service", each);

    from = clock_now(&clock);
    for (unsigned i = 0; i < 200; i++) {
        changes.n = 0;
        put(x, INDEX_SLICE, slice(i, false), &changes);
        ck_assert_uint_eq(changes.n, 1); /* the slice alone */
    }
    double change = us_since(&clock, from, 200);

    from = clock_now(&clock);
    for (unsigned i = 0; i < SERVICES; i++) {
        snprintf(key, sizeof key, "svc-%u:80", i);
        ck_assert_int_eq(compile_resource(&in, &client, PROG_SERVICE, slice_str(key), &a, &c), ERR_OK);
        ck_assert_int_eq(c.state, PROG_VALUE);
        arena_reset(&a);
    }
    double compile = us_since(&clock, from, SERVICES);

    from = clock_now(&clock);
    for (unsigned i = 0; i < SERVICES; i++) {
        snprintf(key, sizeof key, "EndpointSlice/shop/svc-%u-abcde/http", i);
        ck_assert_int_eq(compile_resource(&in, &client, PROG_ENDPOINTS, slice_str(key), &a, &c),
                         ERR_OK);
        arena_reset(&a);
    }
    double endpoints = us_since(&clock, from, SERVICES);

    from = clock_now(&clock);
    ck_assert_int_eq(compile_resource(&in, &client, PROG_SETTINGS, SLICE_NULL, &a, &c), ERR_OK);
    double settings = us_since(&clock, from, 1);
    ck_assert_uint_lt(c.payload.len, SERVICES * 2 * 2); /* about a byte a host or address */

    if (getenv("SCALE_PRINT"))
        printf("%u services, %u endpoints: %zu bytes, %.0f an endpoint; put %.1f us, slice change %.1f "
               "us, service %.1f us, endpoints %.1f us, settings %.0f us and %zu bytes\n",
               SERVICES, SERVICES * ENDPOINTS, bytes, each, fill, change, compile, endpoints, settings,
               c.payload.len);
    ck_assert_msg(compile < 2000 && endpoints < 2000, "%.0f us a service", compile);
    arena_fini(&a);
    index_changes_fini(&changes);
    index_free(x);
}
END_TEST

TESTS(scale)
{
    tcase_add_test(tc, large_cluster);
}
