/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include "lib/kube/stream.h"
#include "lib/kube/watch.h"
#include "tests/unit/lib/kube/fake_api.h"

struct rig {
    struct clock clock;
    struct loop *loop;
    struct fake_api api;
    struct kube_config config;
    struct kube_client *client;
    struct kube_sink sink;
    struct kube_watch *watch;
    char log[512];
    bool stop_in_put;
};

static struct rig *rig_of(struct kube_sink *s)
{
    return CONTAINER_OF(s, struct rig, sink);
}

static void note(struct rig *r, const char *what, const char *name)
{
    size_t n = strlen(r->log);
    snprintf(r->log + n, sizeof r->log - n, "%s%s ", what, name);
}

static void on_begin(struct kube_sink *s)
{
    note(rig_of(s), "(", "");
}
static void on_put(struct kube_sink *s, json_t *obj)
{
    struct rig *r = rig_of(s);
    note(r, "", kube_name(obj));
    if (r->stop_in_put) {
        kube_watch_stop(r->watch);
        r->watch = NULL;
    }
}
static void on_remove(struct kube_sink *s, json_t *obj)
{
    note(rig_of(s), "-", kube_name(obj));
}
static void on_end(struct kube_sink *s, bool absent)
{
    note(rig_of(s), absent ? "absent)" : ")", "");
}

static void rig_up(struct rig *r, const struct fake_step *steps, size_t n,
                   const struct kube_watch_opts *opts)
{
    struct err err = {0};
    memset(r, 0, sizeof *r);
    clock_init_real(&r->clock);
    ck_assert_int_eq(loop_new(&r->clock, &r->loop, &err), 0);
    fake_start(&r->api, r->loop, steps, n);
    r->config.server = r->api.url;
    ck_assert_int_eq(kube_client_new(r->loop, &r->config, NULL, &r->client, &err), 0);
    r->sink = (struct kube_sink){on_begin, on_put, on_remove, on_end};
    struct kube_watch_opts o = opts ? *opts : (struct kube_watch_opts){0};
    o.resource = o.resource ? o.resource : kube_resource(KUBE_CONFIG_MAP);
    o.sink = &r->sink;
    ck_assert_msg(kube_watch_start(r->client, &o, &r->watch, &err) == 0, "%s", err.msg);
}

static void rig_down(struct rig *r)
{
    ck_assert_uint_eq(r->api.mismatches, 0);
    kube_watch_stop(r->watch);
    kube_client_free(r->client);
    fake_stop(&r->api);
    loop_free(r->loop);
}

#define OBJ(type, name, rv)                                                                        \
    "{\"type\":\"" type "\",\"object\":{\"metadata\":{\"name\":\"" name                            \
    "\",\"resourceVersion\":\"" rv "\"}}}\n"
#define END_MARK(rv)                                                                               \
    "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"" rv                   \
    "\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n"
#define LOG_IS(r, want) TURN_UNTIL((r)->loop, strcmp((r)->log, want) == 0)

START_TEST(streamed_list_then_resume)
{
    static const struct fake_step steps[] = {
        {"GET "
         "/api/v1/namespaces/shop/configmaps?watch=true&allowWatchBookmarks=true&timeoutSeconds="
         "\nsendInitialEvents=true&resourceVersionMatch=NotOlderThan&labelSelector=a%3Db "
         "\nAccept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1\r\n",
         200, "", OBJ("ADDED", "x", "1") OBJ("ADDED", "y", "2"), true},
        {"&resourceVersion=6&\nlabelSelector=a%3Db", 200, "", "", true},
    };
    struct kube_watch_opts o = {.ns = "shop", .labels = "a=b", .metadata_only = true};
    struct rig r;
    rig_up(&r, steps, 2, &o);
    LOG_IS(&r, "( x y ");
    ck_assert(!kube_watch_synced(r.watch));
    fake_push(&r.api, END_MARK("4"));
    LOG_IS(&r, "( x y ) ");
    ck_assert(kube_watch_synced(r.watch));
    fake_push(&r.api, OBJ("MODIFIED", "x", "5") "{\"type\":\"DELETED\",\"obj");
    fake_push(&r.api, "ect\":{\"metadata\":{\"name\":\"y\",\"resourceVersion\":\"6\"}}}\n");
    LOG_IS(&r, "( x y ) x -y ");
    fake_end(&r.api); /* an orderly end: the next watch begins at once where this one ended */
    TURN_UNTIL(r.loop, r.api.n_seen == 2);
    fake_push(&r.api, OBJ("ADDED", "z", "7"));
    LOG_IS(&r, "( x y ) x -y z ");
    ck_assert_str_eq(kube_watch_stats(r.watch).rv, "7");
    ck_assert_uint_eq(kube_watch_stats(r.watch).lists, 1);
    rig_down(&r);
}
END_TEST

START_TEST(pages_where_streaming_is_refused)
{
    static const struct fake_step steps[] = {
        {"sendInitialEvents=true", 422, "",
         "{\"reason\":\"Invalid\",\"message\":\"sendInitialEvents is forbidden\"}", 0},
        {"GET /api/v1/configmaps?limit=500 HTTP\nAccept: application/json\r\n", 200, "",
         "{\"metadata\":{\"resourceVersion\":\"8\",\"continue\":\"to/k\"},\"items\":[{\"metadata\":"
         "{\"name\":\"x\"}}]}",
         0},
        {"limit=500&continue=to%2Fk", 200, "",
         "{\"metadata\":{\"resourceVersion\":\"8\"},\"items\":[{\"metadata\":{\"name\":\"y\"}}]}",
         0},
        {"watch=true\n&resourceVersion=8", 200, "", "", true},
    };
    struct rig r;
    rig_up(&r, steps, 4, NULL);
    LOG_IS(&r, "( ( x y ) ");
    TURN_UNTIL(r.loop, r.api.n_seen == 4);
    fake_push(&r.api, OBJ("ADDED", "z", "9"));
    LOG_IS(&r, "( ( x y ) z ");
    rig_down(&r);
}
END_TEST

/* An in-stream 410 lists anew after a jittered wait, with the version unset. */
START_TEST(expired_in_the_stream)
{
    static const struct fake_step steps[] = {
        {"sendInitialEvents=true", 200, "", OBJ("ADDED", "x", "1") END_MARK("1"), true},
        {"sendInitialEvents=true", 200, "", OBJ("ADDED", "y", "9") END_MARK("9"), true},
    };
    struct rig r;
    rig_up(&r, steps, 2, NULL);
    LOG_IS(&r, "( x ) ");
    fake_push(&r.api, "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":"
                      "\"Expired\",\"message\":\"too old resource version\"}}\n");
    LOG_IS(&r, "( x ) ( y ) ");
    ck_assert_ptr_null(strstr(r.api.seen[1], "resourceVersion="));
    ck_assert_uint_eq(kube_watch_stats(r.watch).errors, 1);
    ck_assert_int_eq(kube_watch_stats(r.watch).last_err.code, ERR_GONE);
    rig_down(&r);
}
END_TEST

START_TEST(kind_not_served_until_poked)
{
    static const struct fake_step steps[] = {
        {"GET /apis/networking.istio.io/v1/virtualservices?watch=true", 404, "",
         "404 page not found\n", 0},
        {"sendInitialEvents=true", 200, "", OBJ("ADDED", "x", "1") END_MARK("1"), true},
    };
    struct kube_watch_opts o = {.resource = kube_resource(KUBE_VIRTUAL_SERVICE)};
    struct rig r;
    rig_up(&r, steps, 2, &o);
    LOG_IS(&r, "( ( absent) ");
    ck_assert(kube_watch_synced(r.watch));
    ck_assert(kube_watch_stats(r.watch).absent);
    kube_watch_poke(r.watch);
    LOG_IS(&r, "( ( absent) ( x ) ");
    ck_assert(!kube_watch_stats(r.watch).absent);
    rig_down(&r);
}
END_TEST

START_TEST(stopped_inside_the_sink)
{
    static const struct fake_step steps[] = {
        {"sendInitialEvents=true", 200, "", OBJ("ADDED", "x", "1") OBJ("ADDED", "y", "1"), true},
    };
    struct rig r;
    rig_up(&r, steps, 1, NULL);
    r.stop_in_put = true;
    LOG_IS(&r, "( x ");
    for (int i = 0; i < 3; i++)
        loop_turn(r.loop, 5, NULL);
    ck_assert_str_eq(r.log, "( x ");
    ck_assert_uint_eq(kube_client_in_flight(r.client), 0);
    rig_down(&r);
}
END_TEST

/* One event that cannot be read is left out and counted; the watch goes on. */
START_TEST(bad_event_is_left_out)
{
    static const struct fake_step steps[] = {
        {"sendInitialEvents=true", 200, "", "{\"type\":\"ADDED\",\"object\":{]}\n" END_MARK("1"),
         true},
    };
    struct rig r;
    rig_up(&r, steps, 1, NULL);
    LOG_IS(&r, "( ) ");
    ck_assert_uint_eq(kube_watch_stats(r.watch).errors, 1);
    rig_down(&r);
}
END_TEST

TESTS(kube_watch)
{
    tcase_add_test(tc, streamed_list_then_resume);
    tcase_add_test(tc, pages_where_streaming_is_refused);
    tcase_add_test(tc, expired_in_the_stream);
    tcase_add_test(tc, kind_not_served_until_poked);
    tcase_add_test(tc, stopped_inside_the_sink);
    tcase_add_test(tc, bad_event_is_left_out);
}
