/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/data/json.h"
#include "lib/kube/apply.h"

enum { MESSAGE_MAX = 32768 };

static const char *field(const json_t *cond, const char *key)
{
    const char *s = json_string_value(json_object_get(cond, key));
    return s ? s : "";
}

const json_t *kube_condition_find(const json_t *conditions, const char *type)
{
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *c = json_array_get(conditions, i);
        if (strcmp(field(c, "type"), type) == 0)
            return c;
    }
    return NULL;
}

/* The length of a message as it is written: cut between characters. */
static size_t message_len(const char *s)
{
    size_t n = strlen(s);
    if (n <= MESSAGE_MAX)
        return n;
    n = MESSAGE_MAX;
    while (n && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    return n;
}

/* observedGeneration in either spelling; 0 when absent. */
static int64_t generation_of(const json_t *cond)
{
    const json_t *g = json_object_get(cond, "observedGeneration");
    uint64_t v = 0;
    if (json_is_string(g))
        return slice_u64(slice_str(json_string_value(g)), INT64_MAX, &v) ? (int64_t)v : -1;
    return json_integer_value(g);
}

static json_t *condition(const json_t *old, const struct kube_condition *w, const char *now)
{
    const json_t *was = kube_condition_find(old, w->type);
    const char *since =
        was && strcmp(field(was, "status"), w->status) == 0 ? field(was, "lastTransitionTime") : "";
    const char *message = w->message ? w->message : "";
    json_t *c =
        json_pack("{s:s, s:s, s:s, s:o, s:s}", "type", w->type, "status", w->status, "reason",
                  w->reason, "message", json_string_of(slice_of(message, message_len(message))),
                  "lastTransitionTime", *since ? since : now);
    if (!c || !w->generation)
        return c;
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, w->generation);
    if (json_object_set_new(c, "observedGeneration",
                            w->generation_text ? json_string(text) : json_integer(w->generation)) <
        0) {
        json_decref(c);
        return NULL;
    }
    return c;
}

json_t *kube_conditions(const json_t *old, const struct kube_condition *want, size_t n,
                        int64_t wall_ns)
{
    char now[32];
    json_t *all = json_array();
    clock_rfc3339(wall_ns, 1, now); /* metav1.Time has whole seconds */
    for (size_t i = 0; all && i < n; i++) {
        if (json_array_append_new(all, condition(old, &want[i], now)) < 0) {
            json_decref(all);
            all = NULL;
        }
    }
    return all;
}

bool kube_conditions_same(const json_t *have, const struct kube_condition *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct kube_condition *w = &want[i];
        const json_t *c = kube_condition_find(have, w->type);
        const char *message = w->message ? w->message : "";
        const json_t *text = json_object_get(c, "message");
        struct slice written = slice_of(message, message_len(message));
        if (!c || strcmp(field(c, "status"), w->status) != 0 ||
            strcmp(field(c, "reason"), w->reason) != 0 ||
            !slice_eq(slice_of(json_string_value(text), json_string_length(text)), written) ||
            generation_of(c) != w->generation)
            return false;
    }
    return true;
}
