/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/status.h"

#include <stdio.h>

#include "lib/data/json.h"
#include "mesh/api/common.h"

enum condition {
#define X(name, text, meaning) COND_##name,
    STATUS_CONDITIONS(X)
#undef X
};
static const char *const condition_names[] = {
#define X(name, text, meaning) text,
    STATUS_CONDITIONS(X)
#undef X
};

enum reason {
#define X(name, text, condition, status, when) REASON_##name,
    STATUS_REASONS(X)
#undef X
};
static const struct {
    const char *text, *status;
    enum condition condition;
} reasons[] = {
#define X(name, text, condition, status, when) {text, status, COND_##condition},
    STATUS_REASONS(X)
#undef X
};

/* Where conditions are put; `failed` sticks. */
struct out {
    const struct status_in *in;
    const json_t *previous; /* its conditions, or NULL */
    json_t *conditions;
    bool failed;
};

static const json_t *condition_find(const json_t *conditions, const char *type)
{
    json_t *c;
    size_t i;

    json_array_foreach(conditions, i, c)
    {
        const char *t = json_string_value(json_object_get(c, "type"));

        if (t && strcmp(t, type) == 0)
            return c;
    }
    return NULL;
}

static void condition_add(struct out *o, enum condition type, const char *status,
                          const char *reason, const char *message)
{
    const json_t *old = condition_find(o->previous, condition_names[type]);
    const char *old_status = json_string_value(json_object_get(old, "status"));
    const char *since = json_string_value(json_object_get(old, "lastTransitionTime"));
    char now[24];
    json_t *c, *text;

    if (!old_status || !since || strcmp(old_status, status) != 0)
        since = api_time_format(o->in->now_s, now);
    text = json_string_of(slice_str(message));
    c = text ? json_pack("{s:s, s:s, s:s, s:o, s:s, s:I}", "type", condition_names[type], "status",
                         status, "reason", reason, "message", text, "lastTransitionTime", since,
                         "observedGeneration", (json_int_t)o->in->generation)
             : NULL;
    if (!c || json_array_append_new(o->conditions, c) < 0)
        o->failed = true;
}

static void reason_add(struct out *o, enum reason r, const char *message)
{
    condition_add(o, reasons[r].condition, reasons[r].status, reasons[r].text, message);
}

static const struct finding *against(const struct findings *f, enum finding_condition cond)
{
    for (uint32_t i = 0; f && i < f->n; i++)
        if (finding_cond(f->p[i].kind) == cond)
            return &f->p[i];
    return NULL;
}

static uint32_t count(const struct findings *f, enum finding_severity severity)
{
    uint32_t n = 0;

    for (uint32_t i = 0; f && i < f->n; i++)
        n += f->p[i].severity == severity;
    return n;
}

static void finding_message(const struct finding *x, char *ret, size_t cap)
{
    snprintf(ret, cap, "%.*s%s%.*s", SL_FMT(x->path), x->path.len ? ": " : "", SL_FMT(x->text));
}

/* The warnings in words, as far as there is room. They stand here, too, because the schemas of a real
 * Istio keep only code and level of a validationMessage. */
static void warnings_text(const struct findings *f, uint32_t n, char *ret, size_t cap)
{
    char one[400];
    int len = snprintf(ret, cap, "In force, with %u warning%s", n, n == 1 ? "" : "s");
    size_t at = (size_t)len;
    const char *sep = ": ";

    for (uint32_t i = 0; f && i < f->n; i++) {
        if (f->p[i].severity != FINDING_WARNING || finding_cond(f->p[i].kind) != FINDING_COND_NONE)
            continue;
        finding_message(&f->p[i], one, sizeof one);
        if (at + strlen(sep) + strlen(one) + sizeof "; ..." > cap) {
            snprintf(ret + at, cap - at, "; ...");
            return;
        }
        at += (size_t)snprintf(ret + at, cap - at, "%s%s", sep, one);
        sep = "; ";
    }
}

/* True unless the object is refused. */
static bool accepted(struct out *o)
{
    const struct finding *bad = against(o->in->findings, FINDING_COND_ACCEPTED);
    uint32_t warnings = count(o->in->findings, FINDING_WARNING);
    char text[800];

    if (bad) {
        finding_message(bad, text, sizeof text);
        condition_add(o, COND_ACCEPTED, "False", finding_reason(bad->kind), text);
        return false;
    }
    if (warnings) {
        warnings_text(o->in->findings, warnings, text, sizeof text);
        reason_add(o, REASON_WITH_WARNINGS, text);
    } else {
        reason_add(o, REASON_OK, "The object is valid");
    }
    return true;
}

static void resolved(struct out *o)
{
    const struct finding *bad = against(o->in->findings, FINDING_COND_RESOLVED_REFS);
    char text[800];

    if (!bad) {
        reason_add(o, REASON_REFS_OK, "Everything that it names was found");
        return;
    }
    finding_message(bad, text, sizeof text);
    condition_add(o, COND_RESOLVED_REFS, "False", finding_reason(bad->kind), text);
}

static void programmed(struct out *o, bool is_accepted)
{
    const struct status_in *in = o->in;
    char text[800];

    if (!is_accepted) {
        reason_add(o, REASON_NOT_ACCEPTED, "It is not accepted, so no proxy gets it");
    } else if (in->interested == 0) {
        reason_add(o, REASON_NO_PROXY, "No proxy asks for what it touches");
    } else if (in->rejected) {
        snprintf(text, sizeof text, "%u of %u proxies refused it%s%s", in->rejected, in->interested,
                 in->reject_text && *in->reject_text ? ": " : "",
                 in->reject_text ? in->reject_text : "");
        reason_add(o, REASON_REJECTED, text);
    } else {
        snprintf(text, sizeof text, "%u of %u interested proxies acknowledged it", in->acked,
                 in->interested);
        reason_add(o, in->acked == in->interested ? REASON_PROGRAMMED : REASON_PENDING, text);
    }
}

static void conflicted(struct out *o)
{
    const struct finding *bad = against(o->in->findings, FINDING_COND_CONFLICTED);
    char text[800];

    if (!bad)
        return; /* said only when it is so */
    finding_message(bad, text, sizeof text);
    condition_add(o, COND_CONFLICTED, "True", finding_reason(bad->kind), text);
}

/* Istio's shape: {type: {name, code}, level, message, documentationUrl}; here with the path apart.
 */
static json_t *messages(const struct findings *f)
{
    json_t *list = json_array();

    for (uint32_t i = 0; list && f && i < f->n; i++) {
        const struct finding *x = &f->p[i];
        json_t *m;

        if (x->severity == FINDING_INFO)
            continue;
        m = json_pack("{s:{s:s, s:s}, s:s, s:o*, s:o*}", "type", "name", finding_reason(x->kind),
                      "code", finding_code(x->kind), "level",
                      x->severity == FINDING_ERROR ? "ERROR" : "WARNING", "path",
                      json_string_of(x->path), "message", json_string_of(x->text));
        if (!m || json_array_append_new(list, m) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* `value` is stolen. */
static void put(json_t *status, const char *key, json_t *value, bool *failed)
{
    if (!value || json_object_set_new(status, key, value) < 0)
        *failed = true;
}

/* The first that is not well, in the order in which people would mend it; for a column of kubectl.
 */
static const char *state_of(const json_t *conditions)
{
    static const struct {
        enum condition type;
        const char *good;
    } order[] = {{COND_ACCEPTED, "True"},
                 {COND_RESOLVED_REFS, "True"},
                 {COND_CONFLICTED, "False"},
                 {COND_PROGRAMMED, "True"}};

    for (size_t i = 0; i < N_OF(order); i++) {
        const json_t *c = condition_find(conditions, condition_names[order[i].type]);
        const char *status = json_string_value(json_object_get(c, "status"));

        if (status && strcmp(status, order[i].good) != 0)
            return json_string_value(json_object_get(c, "reason"));
    }
    return reasons[REASON_PROGRAMMED].text;
}

/* Conditions that others wrote stay. */
static void keep_foreign(struct out *o)
{
    json_t *c;
    size_t i;

    json_array_foreach(o->previous, i, c)
    {
        const char *type = json_string_value(json_object_get(c, "type"));
        bool ours = false;

        for (size_t k = 0; type && k < N_OF(condition_names); k++)
            ours |= strcmp(type, condition_names[k]) == 0;
        if (type && !ours && json_array_append(o->conditions, c) < 0)
            o->failed = true;
    }
}

json_t *status_build(const struct status_in *in, const json_t *previous)
{
    struct out o = {.in = in, .previous = json_object_get(previous, "conditions")};
    json_t *status;
    char proxies[32];

    json_setup();
    status = json_is_object(previous) ? json_copy((json_t *)previous) : json_object();
    o.conditions = json_array();
    if (!status || !o.conditions) {
        json_decref(status);
        json_decref(o.conditions);
        return NULL;
    }
    programmed(&o, accepted(&o));
    resolved(&o);
    conflicted(&o);
    keep_foreign(&o);
    snprintf(proxies, sizeof proxies, "%u/%u", in->acked, in->interested);
    put(status, "state", json_string(state_of(o.conditions)), &o.failed);
    put(status, "conditions", o.conditions, &o.failed);
    put(status, "validationMessages", messages(in->findings), &o.failed);
    put(status, "observedGeneration", json_integer((json_int_t)in->generation), &o.failed);
    put(status, "proxies", json_string(proxies), &o.failed);
    if (o.failed) {
        json_decref(status);
        return NULL;
    }
    return status;
}

/* Was a message stored by a schema that does not know our fields of it? */
static bool messages_pruned(const json_t *list)
{
    json_t *m;
    size_t i;

    json_array_foreach(list, i, m)
    {
        if (!json_object_get(m, "message"))
            return true;
    }
    return false;
}

bool status_messages_same(const json_t *previous, const json_t *next)
{
    json_t *list = json_object_get(next, "validationMessages"), *copy, *m;
    const json_t *had = json_object_get(previous, "validationMessages");
    size_t i;
    bool same;

    if (!messages_pruned(had))
        return json_equal(had, list) || (!had && !json_array_size(list));
    copy = json_deep_copy(list);
    json_array_foreach(copy, i, m)
    {
        json_object_del(m, "path");
        json_object_del(m, "message");
    }
    same = copy && json_equal(had, copy);
    json_decref(copy);
    return same;
}

/* Without what only time changes, and without the messages. */
static json_t *timeless(const json_t *status)
{
    json_t *copy = json_deep_copy(status), *c;
    size_t i;

    json_array_foreach(json_object_get(copy, "conditions"), i, c)
    {
        json_object_del(c, "lastTransitionTime");
        json_object_del(c, "lastProbeTime");
    }
    json_object_del(copy, "validationMessages");
    return copy;
}

bool status_same(const json_t *previous, const json_t *next)
{
    json_t *a = timeless(previous), *b = timeless(next);
    bool same = a && b && json_equal(a, b) && status_messages_same(previous, next);

    json_decref(a);
    json_decref(b);
    return same;
}
