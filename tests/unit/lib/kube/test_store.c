/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/kube/store.h"

/* A value is the string at .v with a count of its holders. */
struct value {
    int refs;
    char v[32];
};
static int alive;

static void *decode(void *user, const json_t *obj, struct err *err)
{
    const char *v = json_string_value(json_object_get(obj, "v"));
    (void)user;
    if (!v) {
        err_set(err, ERR_INVALID, "v: is required");
        return NULL;
    }
    struct value *x = mem_zalloc(sizeof *x);
    if (!x) {
        err_set(err, ERR_NOMEM, "value");
        return NULL;
    }
    x->refs = 1;
    alive++;
    snprintf(x->v, sizeof x->v, "%s", v);
    return x;
}

static void unref(void *value)
{
    struct value *x = value;
    if (--x->refs == 0) {
        alive--;
        mem_free(x);
    }
}

struct rig {
    char log[512];
    struct kube_store *s;
};

static void note(struct rig *r, const char *text)
{
    strncat(r->log, text, sizeof r->log - strlen(r->log) - 1);
}

static void changed(void *user, enum kube_event_type kind, struct slice key, const void *old,
                    const void *new, const json_t *obj)
{
    char line[128];
    const struct value *a = old, *b = new;
    snprintf(line, sizeof line, "%c%.*s:%s>%s%s ", "+~-"[kind], SL_FMT(key), a ? a->v : "",
             b ? b->v : "", obj ? "" : "(gone)");
    note(user, line);
}

static void refused(void *user, struct slice key, const struct err *err)
{
    char line[128];
    snprintf(line, sizeof line, "!%.*s:%s ", SL_FMT(key), err_code_name(err->code));
    note(user, line);
}

static void synced(void *user, bool absent)
{
    note(user, absent ? "absent " : "synced ");
}

static const struct kube_store_ops ops = {decode, unref, changed, refused, synced};
static const struct kube_store_ops keys_only = {.changed = changed};

static void put(struct rig *r, const char *ns, const char *name, const char *rv, const char *v)
{
    json_t *o = json_pack("{s:{s:s,s:s,s:s}}", "metadata", "namespace", ns, "name", name,
                          "resourceVersion", rv);
    if (o && v)
        json_object_set_new(o, "v", json_string(v));
    struct kube_sink *sink = kube_store_sink(r->s);
    if (o)
        sink->put(sink, o);
    json_decref(o);
}

static void rm(struct rig *r, const char *ns, const char *name)
{
    json_t *o = json_pack("{s:{s:s,s:s}}", "metadata", "namespace", ns, "name", name);
    struct kube_sink *sink = kube_store_sink(r->s);
    if (o)
        sink->remove(sink, o);
    json_decref(o);
}

static void begin(struct rig *r)
{
    kube_store_sink(r->s)->begin(kube_store_sink(r->s));
}

static void end(struct rig *r, bool absent)
{
    kube_store_sink(r->s)->end(kube_store_sink(r->s), absent);
}

static void expect(struct rig *r, const char *want)
{
    ck_assert_str_eq(r->log, want);
    r->log[0] = '\0';
}

START_TEST(lists_and_changes)
{
    struct rig r = {0};
    ck_assert_int_eq(kube_store_new("t", &ops, &r, &r.s, NULL), 0);
    begin(&r);
    put(&r, "a", "x", "1", "one");
    put(&r, "a", "y", "2", "two");
    put(&r, "", "z", "3", "three");
    ck_assert(!kube_store_synced(r.s));
    end(&r, false);
    ck_assert(kube_store_synced(r.s));
    expect(&r, "+a/x:>one +a/y:>two +z:>three synced ");
    ck_assert_str_eq(((const struct value *)kube_store_get(r.s, "a", "y"))->v, "two");
    ck_assert_str_eq(((const struct value *)kube_store_get(r.s, NULL, "z"))->v, "three");
    ck_assert_ptr_null(kube_store_get(r.s, "b", "y"));
    put(&r, "a", "x", "4", "four");
    rm(&r, "a", "y");
    rm(&r, "a", "never");
    expect(&r, "~a/x:one>four -a/y:two> ");
    ck_assert_uint_eq(kube_store_len(r.s), 2);
    kube_store_free(r.s);
    ck_assert_int_eq(alive, 0);
}
END_TEST

/* A relist calls for what differs and for nothing else; what is missing is gone. */
START_TEST(relist)
{
    struct rig r = {0};
    kube_store_new("t", &ops, &r, &r.s, NULL);
    begin(&r);
    put(&r, "a", "x", "1", "one");
    put(&r, "a", "y", "2", "two");
    end(&r, false);
    r.log[0] = '\0';
    begin(&r);
    put(&r, "a", "x", "1", "one"); /* this list breaks off */
    begin(&r);
    put(&r, "a", "y", "2", "two");
    end(&r, false);
    expect(&r, "-a/x:one>(gone) synced ");
    begin(&r);
    end(&r, true);
    expect(&r, "-a/y:two>(gone) absent ");
    ck_assert(kube_store_absent(r.s));
    kube_store_free(r.s);
    ck_assert_int_eq(alive, 0);
}
END_TEST

START_TEST(refused_objects_keep_the_old_value)
{
    struct rig r = {0};
    kube_store_new("t", &ops, &r, &r.s, NULL);
    begin(&r);
    put(&r, "a", "x", "1", "one");
    put(&r, "a", "bad", "2", NULL);
    end(&r, false);
    expect(&r, "+a/x:>one !a/bad:invalid synced ");
    ck_assert(!kube_store_has(r.s, SL("a/bad")));
    ck_assert_uint_eq(kube_store_len(r.s), 1);
    put(&r, "a", "x", "3", NULL);
    expect(&r, "!a/x:invalid ");
    ck_assert_str_eq(((const struct value *)kube_store_get(r.s, "a", "x"))->v, "one");
    put(&r, "a", "bad", "4", "good");
    rm(&r, "a", "x");
    expect(&r, "+a/bad:>good -a/x:one> ");
    rm(&r, "a", "bad");
    expect(&r, "-a/bad:good> ");
    kube_store_free(r.s);
    ck_assert_int_eq(alive, 0);
}
END_TEST

START_TEST(keys_only_and_iteration)
{
    struct rig r = {0};
    int n = 0;
    kube_store_new("t", &keys_only, &r, &r.s, NULL);
    begin(&r);
    put(&r, "a", "x", "1", NULL);
    put(&r, "a", "y", "1", NULL);
    end(&r, false);
    put(&r, "a", "x", "2", NULL);
    expect(&r, "+a/x:> +a/y:> ~a/x:> ");
    for (struct kube_store_it it = {0}; kube_store_next(r.s, &it); n++)
        ck_assert(kube_store_has(r.s, it.key));
    ck_assert_int_eq(n, 2);
    rm(&r, "a", "x");
    expect(&r, "-a/x:> ");
    kube_store_free(r.s);
}
END_TEST

START_TEST(oom)
{
    OOM_SWEEP (n) {
        struct rig r = {0};
        if (kube_store_new("t", &ops, &r, &r.s, NULL) == 0) {
            begin(&r);
            put(&r, "a", "x", "1", "one");
            put(&r, "a", "x", "2", "two");
            end(&r, false);
            kube_store_free(r.s);
        }
        ck_assert_int_eq(alive, 0);
    }
}
END_TEST

TESTS(kube_store)
{
    tcase_add_test(tc, lists_and_changes);
    tcase_add_test(tc, relist);
    tcase_add_test(tc, refused_objects_keep_the_old_value);
    tcase_add_test(tc, keys_only_and_iteration);
    tcase_add_test(tc, oom);
}
