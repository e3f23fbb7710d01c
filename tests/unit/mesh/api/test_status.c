/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/common.h"
#include "mesh/api/status.h"
#include "tests/unit/mesh/api/api_test.h"

static const struct {
    const char *name;
    int finding; /* -1: none */
    uint32_t interested, acked, rejected;
    const char *want; /* type=status/reason, in order */
    const char *state;
} cases[] = {
    {"all well", -1, 3, 3, 0,
     "Programmed=True/Programmed Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs", "Programmed"},
    {"nobody asks", -1, 0, 0, 0, "Programmed=Unknown/NoInterestedProxy", "NoInterestedProxy"},
    {"not yet", -1, 3, 1, 0, "Programmed=False/Pending", "Pending"},
    {"refused by a proxy", -1, 3, 2, 1, "Programmed=False/Rejected", "Rejected"},
    {"invalid", FINDING_INVALID, 3, 3, 0, "Programmed=False/NotAccepted Accepted=False/Invalid", "Invalid"},
    {"no regex", FINDING_REGEX, 0, 0, 0, "Accepted=False/InvalidRegexp", "InvalidRegexp"},
    {"kind", FINDING_UNKNOWN_KIND, 0, 0, 0, "Accepted=False/UnsupportedKind", "UnsupportedKind"},
    {"warned", FINDING_UNSUPPORTED, 1, 1, 0,
     "Programmed=True/Programmed Accepted=True/AcceptedWithWarnings", "Programmed"},
    {"missing", FINDING_REFERENCE, 1, 1, 0, "ResolvedRefs=False/ReferenceNotFound", "ReferenceNotFound"},
    {"conflict", FINDING_CONFLICT, 1, 1, 0, "Conflicted=True/Conflict", "Conflict"},
    {"in part", FINDING_PARTIAL, 1, 1, 0, "Accepted=True/Accepted", "Programmed"},
};

static const json_t *condition(const json_t *status, const char *type)
{
    const json_t *list = json_object_get(status, "conditions");
    json_t *c;
    size_t i;

    json_array_foreach(list, i, c)
    {
        if (strcmp(json_string_value(json_object_get(c, "type")), type) == 0)
            return c;
    }
    return NULL;
}

static const char *field(const json_t *c, const char *key)
{
    const char *s = json_string_value(json_object_get(c, key));

    return s ? s : "";
}

START_TEST(conditions)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct status_in in = {.findings = &f,
                           .generation = 7,
                           .now_s = 1769860800,
                           .interested = cases[_i].interested,
                           .acked = cases[_i].acked,
                           .rejected = cases[_i].rejected,
                           .reject_text = "no such cluster"};
    struct slice rest = slice_str(cases[_i].want), one;
    json_t *status;

    findings_init(&f, &a);
    if (cases[_i].finding >= 0)
        findings_add_at(&f, (enum finding_kind)cases[_i].finding, "spec.x", "is so");
    status = status_build(&in, NULL);
    ck_assert_ptr_nonnull(status);
    while (slice_next(&rest, ' ', &one)) {
        char text[128], *eq, *slash;
        const json_t *c;

        ck_assert(slice_copy(one, text, sizeof text));
        eq = strchr(text, '=');
        slash = strchr(text, '/');
        *eq = *slash = '\0';
        c = condition(status, text);
        ck_assert_msg(c != NULL, "%s: no %s", cases[_i].name, text);
        ck_assert_msg(strcmp(field(c, "status"), eq + 1) == 0, "%s: %s is %s", cases[_i].name, text,
                      field(c, "status"));
        ck_assert_msg(strcmp(field(c, "reason"), slash + 1) == 0, "%s: %s is %s", cases[_i].name,
                      text, field(c, "reason"));
        ck_assert_str_eq(field(c, "lastTransitionTime"), "2026-01-31T12:00:00Z");
        ck_assert_int_eq(json_integer_value(json_object_get(c, "observedGeneration")), 7);
        ck_assert(*field(c, "message"));
    }
    ck_assert_str_eq(field(status, "state"), cases[_i].state);
    ck_assert((condition(status, "Conflicted") != NULL) == (cases[_i].finding == FINDING_CONFLICT));
    ck_assert_uint_eq(json_array_size(json_object_get(status, "validationMessages")),
                      cases[_i].finding >= 0 && cases[_i].finding != FINDING_PARTIAL);
    json_decref(status);
    arena_fini(&a);
}
END_TEST

START_TEST(transition_time_moves_with_the_status_alone)
{
    struct status_in in = {.generation = 1, .now_s = 1000, .interested = 2, .acked = 1};
    json_t *first = status_build(&in, NULL), *second, *third;

    in.now_s = 2000;
    in.generation = 2;
    second = status_build(&in, first);
    ck_assert_str_eq(field(condition(second, "Programmed"), "lastTransitionTime"),
                     "1970-01-01T00:16:40Z");
    ck_assert(!status_same(first, second)); /* the generation differs */
    in.acked = 2;
    third = status_build(&in, second);
    ck_assert_str_eq(field(condition(third, "Programmed"), "lastTransitionTime"),
                     "1970-01-01T00:33:20Z");
    ck_assert_str_eq(field(condition(third, "Accepted"), "lastTransitionTime"),
                     "1970-01-01T00:16:40Z");
    ck_assert_str_eq(field(third, "proxies"), "2/2");
    json_decref(first);
    json_decref(second);
    json_decref(third);
}
END_TEST

START_TEST(same_but_for_times)
{
    struct status_in in = {.generation = 1, .now_s = 1000, .interested = 1, .acked = 1};
    json_t *first = status_build(&in, NULL), *second;

    in.now_s = 2000;
    second = status_build(&in, NULL);
    ck_assert(status_same(first, second));
    in.acked = 0;
    json_decref(second);
    second = status_build(&in, first);
    ck_assert(!status_same(first, second));
    json_decref(first);
    json_decref(second);
}
END_TEST

START_TEST(others_members_stay)
{
    struct status_in in = {.generation = 1};
    json_t *previous = object_of(NULL, "{addresses: [{value: 240.240.0.1, host: a}], conditions: "
                                       "[{type: Foreign, status: 'True'}, {type: Accepted, "
                                       "status: 'False', lastTransitionTime: t}]}");
    json_t *next = status_build(&in, previous);

    ck_assert_uint_eq(json_array_size(json_object_get(next, "addresses")), 1);
    ck_assert_ptr_nonnull(condition(next, "Foreign"));
    ck_assert_str_eq(field(condition(next, "Accepted"), "status"), "True");
    ck_assert_uint_eq(json_array_size(json_object_get(next, "conditions")), 4);
    ck_assert_uint_eq(json_array_size(json_object_get(previous, "conditions")), 2);
    json_decref(previous);
    json_decref(next);
}
END_TEST

/* Where schemas keep no messages, the condition still says what is wrong; and as much as fits. */
START_TEST(warnings_are_in_words)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct status_in in = {.findings = &f, .generation = 1};
    json_t *next;

    findings_init(&f, &a);
    findings_add_at(&f, FINDING_UNSUPPORTED, "spec.x", "has no effect");
    findings_add_at(&f, FINDING_REFERENCE, "spec.host", "is told by ResolvedRefs");
    findings_add_at(&f, FINDING_PARTIAL, "spec.part", "is a note");
    findings_add_at(&f, FINDING_SUSPECT, "spec.y", "is hardly meant");
    next = status_build(&in, NULL);
    ck_assert_str_eq(field(condition(next, "Accepted"), "message"),
                     "In force, with 3 warnings: spec.x: has no effect; spec.y: is hardly meant");
    json_decref(next);
    for (int i = 0; i < 20; i++)
        findings_add_at(&f, FINDING_SUSPECT, "spec.z", "%0300d", i);
    next = status_build(&in, NULL);
    ck_assert_uint_gt(strlen(field(condition(next, "Accepted"), "message")), 600);
    ck_assert_uint_lt(strlen(field(condition(next, "Accepted"), "message")), 800);
    ck_assert_ptr_nonnull(strstr(field(condition(next, "Accepted"), "message"), "; ..."));
    json_decref(next);
    arena_fini(&a);
}
END_TEST

static const struct {
    const char *had, *next;
    bool same;
} kept[] = {
    {"{}", "{validationMessages: []}", true},
    {"{validationMessages: [{type: {code: A}, level: ERROR}]}",
     "{validationMessages: [{type: {code: A}, level: ERROR, path: p, message: m}]}", true},
    {"{validationMessages: [{type: {code: A}, level: ERROR}]}",
     "{validationMessages: [{type: {code: B}, level: ERROR, path: p, message: m}]}", false},
    {"{validationMessages: [{type: {code: A}, level: ERROR}]}", "{validationMessages: []}", false},
    {"{}", "{validationMessages: [{type: {code: A}, level: ERROR, path: p, message: m}]}", false},
    {"{validationMessages: [{type: {code: A}, level: ERROR, path: p, message: m}]}",
     "{validationMessages: [{type: {code: A}, level: ERROR, path: p, message: n}]}", false},
    {"{state: a, validationMessages: []}", "{state: b, validationMessages: []}", false},
};

START_TEST(messages_that_the_schema_cuts)
{
    json_t *had = object_of(NULL, kept[_i].had), *next = object_of(NULL, kept[_i].next);

    ck_assert(status_same(had, next) == kept[_i].same);
    json_decref(had);
    json_decref(next);
}
END_TEST

START_TEST(out_of_memory)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct status_in in = {.findings = &f, .generation = 1, .interested = 1};
    json_t *previous = object_of(NULL, "{conditions: [{type: Foreign, status: 'True'}]}");

    findings_init(&f, &a);
    findings_add_at(&f, FINDING_INVALID, "spec.x", "is so");
    OOM_SWEEP (n) {
        json_t *next = status_build(&in, previous);

        if (next && !mem_fail_hit())
            ck_assert_uint_eq(json_array_size(json_object_get(next, "conditions")), 4);
        json_decref(next);
    }
    json_decref(previous);
    arena_fini(&a);
}
END_TEST

TESTS(status)
{
    tcase_add_loop_test(tc, conditions, 0, N_OF(cases));
    tcase_add_test(tc, transition_time_moves_with_the_status_alone);
    tcase_add_test(tc, same_but_for_times);
    tcase_add_test(tc, others_members_stay);
    tcase_add_test(tc, warnings_are_in_words);
    tcase_add_loop_test(tc, messages_that_the_schema_cuts, 0, N_OF(kept));
    tcase_add_test(tc, out_of_memory);
}
