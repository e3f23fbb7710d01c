/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/apply.h"

static const int64_t noon = INT64_C(1785585600) * NS_PER_S; /* 2026-08-01T12:00:00Z */
#define THEN "2026-08-01T12:00:00Z"
#define LATER "2026-08-01T13:00:00Z"

static const struct {
    const char *name;
    struct kube_condition want;
    const char *text;
    bool same; /* as the one before: nothing to write */
} steps[] = {
    {"first",
     {"Accepted", "True", "Accepted", "fine", 1, false},
     "[{\"lastTransitionTime\":\"" THEN "\",\"message\":\"fine\",\"observedGeneration\":1,"
     "\"reason\":\"Accepted\",\"status\":\"True\",\"type\":\"Accepted\"}]",
     false},
    {"the same",
     {"Accepted", "True", "Accepted", "fine", 1, false},
     "[{\"lastTransitionTime\":\"" THEN "\",\"message\":\"fine\",\"observedGeneration\":1,"
     "\"reason\":\"Accepted\",\"status\":\"True\",\"type\":\"Accepted\"}]",
     true},
    {"another reason keeps the time",
     {"Accepted", "True", "Partly", "fine", 1, false},
     "[{\"lastTransitionTime\":\"" THEN "\",\"message\":\"fine\",\"observedGeneration\":1,"
     "\"reason\":\"Partly\",\"status\":\"True\",\"type\":\"Accepted\"}]",
     false},
    {"another generation keeps the time",
     {"Accepted", "True", "Accepted", "fine", 2, true},
     "[{\"lastTransitionTime\":\"" THEN "\",\"message\":\"fine\",\"observedGeneration\":\"2\","
     "\"reason\":\"Accepted\",\"status\":\"True\",\"type\":\"Accepted\"}]",
     false},
    {"a flip moves it",
     {"Accepted", "False", "Invalid", NULL, 1, false},
     "[{\"lastTransitionTime\":\"" LATER "\",\"message\":\"\",\"observedGeneration\":1,"
     "\"reason\":\"Invalid\",\"status\":\"False\",\"type\":\"Accepted\"}]",
     false},
    {"another type is new",
     {"Programmed", "True", "Accepted", "fine", 0, false},
     "[{\"lastTransitionTime\":\"" LATER "\",\"message\":\"fine\",\"reason\":\"Accepted\","
     "\"status\":\"True\",\"type\":\"Programmed\"}]",
     false},
};

START_TEST(transition_time)
{
    json_t *old = _i ? kube_conditions(NULL, &steps[0].want, 1, noon) : NULL;
    int64_t now = _i ? noon + 3600 * NS_PER_S : noon;
    json_t *got = kube_conditions(old, &steps[_i].want, 1, now);
    char *text = json_text(got, JSON_TIGHT);
    ck_assert_str_eq(text, steps[_i].text);
    ck_assert_msg(kube_conditions_same(old, &steps[_i].want, 1) == steps[_i].same, "%s",
                  steps[_i].name);
    ck_assert(kube_conditions_same(got, &steps[_i].want, 1));
    mem_free(text);
    json_decref(old);
    json_decref(got);
}
END_TEST

/* A message is cut between characters, and a cut one counts as written. */
START_TEST(long_message)
{
    size_t n = 40000;
    char *message = malloc(n + 1);
    message[0] = 'a';
    for (size_t i = 1; i + 1 < n; i += 2)
        memcpy(message + i, "\xc3\xa9", 2);
    message[n - 1] = message[n] = '\0';
    struct kube_condition want = {"A", "True", "R", message, 0, false};
    json_t *got = kube_conditions(NULL, &want, 1, noon);
    const json_t *text = json_object_get(kube_condition_find(got, "A"), "message");
    ck_assert_uint_eq(json_string_length(text), 32767);
    ck_assert(kube_conditions_same(got, &want, 1));
    json_decref(got);
    free(message);
}
END_TEST

START_TEST(oom)
{
    OOM_SWEEP (n) {
        json_t *got = kube_conditions(NULL, &steps[0].want, 1, noon);
        json_decref(got);
    }
}
END_TEST

TESTS(kube_conditions)
{
    tcase_add_loop_test(tc, transition_time, 0, N_OF(steps));
    tcase_add_test(tc, long_message);
    tcase_add_test(tc, oom);
}
