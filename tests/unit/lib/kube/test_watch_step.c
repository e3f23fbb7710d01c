/* SPDX-License-Identifier: Apache-2.0 */
/* The reflector's decisions, without a socket: each row is one input and what must follow. */
#include "tests/unit/tcase.h"

#include <string.h>

#include "lib/kube/watch_step.h"

enum { B = 1, E = 2, A = 4 }; /* begin, end, absent */
struct row {
    struct reflect_in in;
    enum reflect_act act;
    enum reflect_state state;
    int brackets;
    const char *rv;
};
#define GO                                                                                         \
    {                                                                                              \
        .kind = IN_GO                                                                              \
    }
#define REFUSED(s)                                                                                 \
    {                                                                                              \
        .kind = IN_REFUSED, .status = s                                                            \
    }
#define ERROR(s, why)                                                                              \
    {                                                                                              \
        .kind = IN_ERROR, .status = s, .reason = why                                               \
    }
#define EVENT(v)                                                                                   \
    {                                                                                              \
        .kind = IN_EVENT, .rv = v                                                                  \
    }
#define MARK(v)                                                                                    \
    {                                                                                              \
        .kind = IN_MARK, .rv = v                                                                   \
    }
#define MARK_END(v)                                                                                \
    {                                                                                              \
        .kind = IN_MARK, .rv = v, .initial_end = true                                              \
    }
#define PAGE(v, m)                                                                                 \
    {                                                                                              \
        .kind = IN_PAGE, .rv = v, .more = m                                                        \
    }
#define OVER(ns)                                                                                   \
    {                                                                                              \
        .kind = IN_OVER, .open_ns = ns                                                             \
    }
#define STALLED                                                                                    \
    {                                                                                              \
        .kind = IN_STALLED                                                                         \
    }

static const struct {
    const char *name;
    struct row rows[16];
} scripts[] = {
    {"WatchList: the stream that brought the state goes on as the watch",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {EVENT("5"), ACT_NONE, REFLECT_STREAM, 0, ""}, /* not resumable before the end mark */
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {EVENT("10"), ACT_NONE, REFLECT_WATCH, 0, "10"},
      {MARK("20"), ACT_NONE, REFLECT_WATCH, 0, "20"},
      {OVER(300 * NS_PER_S), ACT_WATCH, REFLECT_WATCH, 0, "20"}}},
    {"WatchList refused as invalid: paged list, and never asked again",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(422), ACT_LIST, REFLECT_LIST, B, ""},
      {PAGE("7", true), ACT_PAGE, REFLECT_LIST, 0, ""},
      {PAGE("7", false), ACT_WATCH, REFLECT_WATCH, E, "7"},
      {ERROR(410, "Expired"), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_LIST, REFLECT_LIST, B, ""}}},
    {"WatchList broken by a server error: list in this round, stream in the next",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(500), ACT_LIST, REFLECT_LIST, B, ""},
      {PAGE("7", false), ACT_WATCH, REFLECT_WATCH, E, "7"},
      {REFUSED(410), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""}}},
    {"WatchList ignored by the server",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {EVENT("3"), ACT_NONE, REFLECT_STREAM, 0, ""},
      {STALLED, ACT_LIST, REFLECT_LIST, B, ""}}},
    {"WatchList cut twice before its end: then by pages",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {OVER(NS_PER_S), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {OVER(NS_PER_S), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_LIST, REFLECT_LIST, B, ""}}},
    {"an in-stream 410 lists anew after a wait, with the version unset",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {ERROR(410, "Expired"), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""}}},
    {"Expired is known by its reason, too",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {ERROR(0, "Expired"), ACT_WAIT, REFLECT_WAIT, 0, ""}}},
    {"the API server away: the version is kept",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {EVENT("11"), ACT_NONE, REFLECT_WATCH, 0, "11"},
      {OVER(NS_PER_S), ACT_WATCH, REFLECT_WATCH, 0, "11"},
      {REFUSED(0), ACT_WAIT, REFLECT_WAIT, 0, "11"},
      {GO, ACT_WATCH, REFLECT_WATCH, 0, "11"},
      {REFUSED(0), ACT_WAIT, REFLECT_WAIT, 0, "11"},
      {GO, ACT_WATCH, REFLECT_WATCH, 0, "11"},
      {EVENT("12"), ACT_NONE, REFLECT_WATCH, 0, "12"}}},
    {"a watch that ends at once does not spin",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {OVER(5), ACT_WAIT, REFLECT_WAIT, 0, "9"},
      {GO, ACT_WATCH, REFLECT_WATCH, 0, "9"}}},
    {"429 backs off and keeps the version",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(429), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {ERROR(429, "TooManyRequests"), ACT_WAIT, REFLECT_WAIT, 0, "9"}}},
    {"a server that never lets us resume: listed anew after five refusals",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {ERROR(504, "Timeout"), ACT_WAIT, REFLECT_WAIT, 0, "9"},
      {GO, ACT_WATCH, REFLECT_WATCH, 0, "9"},
      {ERROR(504, "Timeout"), ACT_WAIT, REFLECT_WAIT, 0, "9"},
      {GO, ACT_WATCH, REFLECT_WATCH, 0, "9"},
      {ERROR(504, "Timeout"), ACT_WAIT, REFLECT_WAIT, 0, "9"},
      {GO, ACT_WATCH, REFLECT_WATCH, 0, "9"},
      {ERROR(504, "Timeout"), ACT_WAIT, REFLECT_WAIT, 0, "9"},
      {GO, ACT_WATCH, REFLECT_WATCH, 0, "9"},
      {ERROR(504, "Timeout"), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""}}},
    {"a store restored from a backup: bookmarks go back",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("900"), ACT_NONE, REFLECT_WATCH, E, "900"},
      {MARK("1000"), ACT_NONE, REFLECT_WATCH, 0, "1000"},
      {MARK("300"), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""}}},
    {"versions that are no numbers are not compared",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("b"), ACT_NONE, REFLECT_WATCH, E, "b"},
      {MARK("a"), ACT_NONE, REFLECT_WATCH, 0, "a"}}},
    {"the kind is not served: told once, looked for again, found",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(404), ACT_WAIT, REFLECT_ABSENT, B | E | A, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(404), ACT_WAIT, REFLECT_ABSENT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {OVER(NS_PER_S), ACT_WATCH, REFLECT_WATCH, 0, "9"},
      {REFUSED(404), ACT_WAIT, REFLECT_ABSENT, B | E | A, ""}}},
    {"a continue token that expired: the whole list at once",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(400), ACT_LIST, REFLECT_LIST, B, ""},
      {PAGE("7", true), ACT_PAGE, REFLECT_LIST, 0, ""},
      {REFUSED(410), ACT_LIST_WHOLE, REFLECT_LIST, B, ""},
      {PAGE("8", false), ACT_WATCH, REFLECT_WATCH, E, "8"}}},
    {"a list that broke off begins again",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(400), ACT_LIST, REFLECT_LIST, B, ""},
      {OVER(0), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_LIST, REFLECT_LIST, B, ""}}},
    {"forbidden: slowly, no list instead",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {REFUSED(403), ACT_WAIT, REFLECT_WAIT, 0, ""},
      {GO, ACT_STREAM, REFLECT_STREAM, B, ""}}},
    {"an event without a version keeps the older one",
     {{GO, ACT_STREAM, REFLECT_STREAM, B, ""},
      {MARK_END("9"), ACT_NONE, REFLECT_WATCH, E, "9"},
      {EVENT(""), ACT_NONE, REFLECT_WATCH, 0, "9"}}},
};

START_TEST(script)
{
    struct reflect r;
    struct rnd rnd;
    int64_t now = NS_PER_S;
    rnd_init_seed(&rnd, (uint64_t)_i);
    reflect_init(&r, &rnd);
    for (const struct row *w = scripts[_i].rows; w->rv; w++) {
        int at = (int)(w - scripts[_i].rows);
        struct reflect_in in = w->in;
        in.now_ns = now;
        in.reason = in.reason ? in.reason : "";
        in.rv = in.rv ? in.rv : "";
        struct reflect_do got = reflect_step(&r, &in);
        int brackets = (got.begin ? B : 0) | (got.end ? E : 0) | (got.absent ? A : 0);
        ck_assert_msg(got.act == w->act, "%s: row %d: act %d", scripts[_i].name, at, (int)got.act);
        ck_assert_msg(r.state == w->state, "%s: row %d: state %s", scripts[_i].name, at,
                      reflect_state_name(r.state));
        ck_assert_msg(brackets == w->brackets, "%s: row %d: brackets %d", scripts[_i].name, at,
                      brackets);
        ck_assert_msg(strcmp(r.rv, w->rv) == 0, "%s: row %d: rv '%s'", scripts[_i].name, at, r.rv);
        if (got.act == ACT_WAIT) {
            int64_t least = r.state == REFLECT_ABSENT ? 10 * NS_PER_S : 800 * NS_PER_MS;
            ck_assert_int_ge(got.wait_ns, least);
            ck_assert_int_le(got.wait_ns, 60 * NS_PER_S);
            now += got.wait_ns;
        }
    }
}
END_TEST

/* Waits start at 0.8 s, double to 30 s with jitter 1.0, and start anew after two quiet minutes. */
START_TEST(waits_grow)
{
    struct reflect r;
    struct rnd rnd;
    int64_t now = NS_PER_S, first = 800 * NS_PER_MS;
    rnd_init_seed(&rnd, 1);
    reflect_init(&r, &rnd);
    for (int i = 0; i < 12; i++) {
        reflect_step(&r, &(struct reflect_in){.kind = IN_GO, .reason = "", .rv = ""});
        struct reflect_do d = reflect_step(
            &r, &(struct reflect_in){.kind = IN_REFUSED, .reason = "", .rv = "", .now_ns = now});
        ck_assert_int_eq(d.act, ACT_WAIT);
        ck_assert_int_ge(d.wait_ns, first);
        ck_assert_int_lt(d.wait_ns, 2 * first);
        now += d.wait_ns;
        first = MIN(2 * first, 30 * NS_PER_S);
    }
}
END_TEST

START_TEST(watch_timeouts)
{
    struct rnd rnd;
    int low = 0, high = 0;
    rnd_init_seed(&rnd, 1);
    for (int i = 0; i < 1000; i++) {
        int s = reflect_watch_timeout_s(&rnd);
        ck_assert_int_ge(s, 300);
        ck_assert_int_lt(s, 600);
        low += s < 330;
        high += s >= 570;
    }
    ck_assert_int_gt(low, 50);
    ck_assert_int_gt(high, 50);
}
END_TEST

TESTS(kube_watch_step)
{
    tcase_add_loop_test(tc, script, 0, N_OF(scripts));
    tcase_add_test(tc, waits_grow);
    tcase_add_test(tc, watch_timeouts);
}
