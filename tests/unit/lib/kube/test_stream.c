/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdio.h>

#include "lib/base/mem.h"
#include "lib/kube/kube_int.h"
#include "lib/kube/stream.h"

struct got {
    char text[512];
    int stop_after, n;
};

static int take(void *user, struct slice s)
{
    struct got *g = user;
    size_t at = strlen(g->text);
    snprintf(g->text + at, sizeof g->text - at, "%.*s|", SL_FMT(s));
    return ++g->n == g->stop_after;
}

static const struct {
    const char *in, *want;
} lines[] = {
    {"", ""},
    {"a\n", "a|"},
    {"a\nbc\r\n\n\nd", "a|bc|"},
    {"\n\r\n", ""},
    {"{\"a\":\"\\n\"}\n{}\n", "{\"a\":\"\\n\"}|{}|"},
};

START_TEST(lines_in_any_pieces)
{
    struct slice in = slice_str(lines[_i].in);
    for (size_t step = 1; step <= in.len + 1; step++) {
        struct got g = {0};
        struct kube_lines l;
        kube_lines_init(&l, 64);
        for (size_t at = 0; at < in.len; at += step)
            ck_assert_int_eq(kube_lines_feed(&l, slice_head(slice_skip(in, at), step), take, &g),
                             ERR_OK);
        ck_assert_str_eq(g.text, lines[_i].want);
        kube_lines_fini(&l);
    }
}
END_TEST

START_TEST(line_too_long_and_reader_stops)
{
    struct got g = {.stop_after = 2};
    struct kube_lines l;
    kube_lines_init(&l, 4);
    ck_assert_int_eq(kube_lines_feed(&l, SL("1234\n"), take, &g), ERR_OK);
    ck_assert_int_eq(kube_lines_feed(&l, SL("123"), take, &g), ERR_OK);
    ck_assert_int_eq(kube_lines_feed(&l, SL("45\n"), take, &g), ERR_LIMIT);
    kube_lines_fini(&l);
    kube_lines_init(&l, 4);
    ck_assert_int_eq(kube_lines_feed(&l, SL("a\nb\nc\n"), take, &g), ERR_CLOSED);
    ck_assert_str_eq(g.text, "1234|a|");
    kube_lines_fini(&l);
}
END_TEST

static const struct {
    const char *in;
    int rc, type, status;
    const char *rv, *reason;
    bool initial_end;
} events[] = {
    {"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}", 0, KUBE_ADDED, 0,
     "7", "", false},
    {"{\"type\":\"MODIFIED\",\"object\":{}}", 0, KUBE_MODIFIED, 0, "", "", false},
    {"{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}", 0,
     KUBE_DELETED, 0, "9", "", false},
    {"{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"12\"}}}", 0,
     KUBE_BOOKMARK, 0, "12", "", false},
    {"{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"12\",\"annotations\":"
     "{\"k8s.io/initial-events-end\":\"true\"}}}}",
     0, KUBE_BOOKMARK, 0, "12", "", true},
    {"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}}", 0,
     KUBE_ERROR, 410, "", "Expired", false},
    /* a NUL in an annotation is legal and must not stop the watch */
    {"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"annotations\":{\"a\":\"x\\u0000y\"}}}}", 0,
     KUBE_ADDED, 0, "", "", false},
    {"{\"type\":\"OTHER\",\"object\":{}}", -1, 0, 0, "", "", false},
    {"{\"type\":\"ADDED\"}", -1, 0, 0, "", "", false},
    {"{\"type\":\"ADDED\",\"object\":[]}", -1, 0, 0, "", "", false},
    {"{\"type\":\"ADDED\",\"object\":{}", -1, 0, 0, "", "", false},
    {"[]", -1, 0, 0, "", "", false},
};

START_TEST(event_decoded)
{
    struct kube_event ev;
    struct err err = {0};
    ck_assert_msg(kube_event_decode(slice_str(events[_i].in), &ev, &err) == events[_i].rc, "%s: %s",
                  events[_i].in, err.msg);
    if (events[_i].rc < 0) {
        ck_assert_int_eq(err.code, ERR_PROTO);
        return;
    }
    ck_assert_int_eq((int)ev.type, events[_i].type);
    ck_assert_int_eq(ev.status, events[_i].status);
    ck_assert_str_eq(ev.rv, events[_i].rv);
    ck_assert_str_eq(ev.reason, events[_i].reason);
    ck_assert_int_eq(ev.initial_end, events[_i].initial_end);
    json_decref(ev.object);
}
END_TEST

static const struct {
    const char *name, *in, *items, *rv, *more;
    int end;
} lists[] = {
    {"two items",
     "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{\"a\":1},{\"b\":"
     "\"}]{\"}]}\n",
     "{\"a\":1}|{\"b\":\"}]{\"}|", "5", "", 0},
    {"none", "{\"items\":[],\"metadata\":{\"resourceVersion\":\"5\",\"continue\":\"tok\"}}", "",
     "5", "tok", 0},
    {"null", "{\"items\":null,\"metadata\":{\"resourceVersion\":\"5\"}}", "", "5", "", 0},
    {"blanks", "{ \"metadata\" : {\"resourceVersion\":\"5\"}, \"items\" : [ {} , {\"x\":[{}]} ] }",
     "{}|{\"x\":[{}]}|", "5", "", 0},
    {"escaped quote",
     "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{\"a\\\"}\":\"\\\\\"}]}",
     "{\"a\\\"}\":\"\\\\\"}|", "5", "", 0},
    {"items deeper are not ours",
     "{\"metadata\":{\"resourceVersion\":\"5\",\"items\":[{\"no\":1}]},\"items\":[{}]}", "{}|", "5",
     "", 0},
    {"items as a value", "{\"kind\":\"items\",\"metadata\":{\"resourceVersion\":\"5\"}}", "", "5",
     "", 0},
    {"no version", "{\"metadata\":{},\"items\":[]}", "", "", "", -1},
    {"cut in an item", "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{\"a\":1", "", "", "",
     -1},
    {"cut behind an item", "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{}", "{}|", "", "",
     -1},
    {"cut at the end", "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{}]", "{}|", "", "",
     -1},
    {"not JSON", "<html>", "", "", "", -1},
};

START_TEST(list_in_any_pieces)
{
    struct slice in = slice_str(lists[_i].in);
    for (size_t step = 1; step <= in.len; step++) {
        struct got g = {0};
        struct kube_items it;
        struct err err = {0};
        char *rv = NULL, *more = NULL;
        kube_items_init(&it, 1024);
        for (size_t at = 0; at < in.len; at += step)
            ck_assert_int_eq(kube_items_feed(&it, slice_head(slice_skip(in, at), step), take, &g),
                             ERR_OK);
        ck_assert_str_eq(g.text, lists[_i].items);
        ck_assert_msg(kube_items_end(&it, &rv, &more, &err) == lists[_i].end, "%s: %s",
                      lists[_i].name, err.msg);
        if (lists[_i].end == 0) {
            ck_assert_str_eq(rv, lists[_i].rv);
            ck_assert_str_eq(more, lists[_i].more);
        }
        mem_free(rv);
        mem_free(more);
        kube_items_fini(&it);
    }
}
END_TEST

START_TEST(list_limits)
{
    struct got g = {.stop_after = 1};
    struct kube_items it;
    kube_items_init(&it, 8);
    ck_assert_int_eq(kube_items_feed(&it, SL("{\"items\":[{\"abcdefgh\":1}"), take, &g), ERR_LIMIT);
    kube_items_fini(&it);
    kube_items_init(&it, 8);
    ck_assert_int_eq(kube_items_feed(&it, SL("{\"items\":[{},{}"), take, &g), ERR_CLOSED);
    kube_items_fini(&it);
    kube_items_init(&it, 8);
    ck_assert_int_eq(kube_items_feed(&it, SL("{\"items\":[1"), take, &g), ERR_PROTO);
    kube_items_fini(&it);
}
END_TEST

START_TEST(oom)
{
    OOM_SWEEP (n) {
        struct got g = {0};
        struct kube_items it;
        struct kube_lines l;
        struct kube_event ev;
        char *rv = NULL, *more = NULL;
        kube_items_init(&it, 64);
        kube_lines_init(&l, 64);
        kube_items_feed(&it, SL("{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{}]}"), take,
                        &g);
        kube_items_end(&it, &rv, &more, NULL);
        mem_free(rv);
        mem_free(more);
        kube_items_fini(&it);
        kube_lines_feed(&l, SL("abc"), take, &g);
        kube_lines_feed(&l, SL("d\n"), take, &g);
        kube_lines_fini(&l);
        if (kube_event_decode(SL("{\"type\":\"ADDED\",\"object\":{}}"), &ev, NULL) == 0)
            json_decref(ev.object);
    }
}
END_TEST

TESTS(kube_stream)
{
    tcase_add_loop_test(tc, lines_in_any_pieces, 0, N_OF(lines));
    tcase_add_test(tc, line_too_long_and_reader_stops);
    tcase_add_loop_test(tc, event_decoded, 0, N_OF(events));
    tcase_add_loop_test(tc, list_in_any_pieces, 0, N_OF(lists));
    tcase_add_test(tc, list_limits);
    tcase_add_test(tc, oom);
}
