/* SPDX-License-Identifier: Apache-2.0 */
#include "injector/review.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "mesh/api/kinds.h"

/* --- paths ---------------------------------------------------------------------------------------
 */
static bool value_copy(struct slice in, char *out, size_t cap)
{
    static const struct slice mark = {"--slash--", 9};
    size_t n = 0;
    while (in.len) {
        bool slash = slice_starts(in, mark);
        if (n + 1 >= cap || (unsigned char)in.p[0] <= ' ' || (unsigned char)in.p[0] >= 127)
            return false;
        out[n++] = slash ? '/' : in.p[0];
        in = slice_skip(in, slash ? mark.len : 1);
    }
    out[n] = '\0';
    return n > 0;
}

static void inject_path_read(struct slice rest, struct review_path *ret)
{
    struct slice key, value;
    struct review_path path = {.route = ROUTE_INJECT};

    if (!slice_next(&rest, '/', &key) || inject_path_parse(key, &path.inject) < 0)
        return;
    while (rest.len && slice_next(&rest, '/', &key)) {
        if (!slice_next(&rest, '/', &value))
            return;
        bool ok = slice_is(key, "cluster") ? value_copy(value, path.cluster, sizeof path.cluster)
                  : slice_is(key, "net")   ? value_copy(value, path.network, sizeof path.network)
                                           : false;
        if (!ok)
            return;
    }
    *ret = path;
}

void review_path_parse(struct slice path, struct review_path *ret)
{
    static const struct {
        const char *path;
        enum review_route route;
    } fixed[] = {
        {"/validate", ROUTE_VALIDATE},
        {"/healthz", ROUTE_HEALTHZ},
        {"/readyz", ROUTE_READYZ},
        {"/metrics", ROUTE_METRICS},
    };
    memset(ret, 0, sizeof *ret);
    if (slice_starts(path, SL("/inject/"))) {
        inject_path_read(slice_skip(path, 8), ret);
        return;
    }
    for (size_t i = 0; i < N_OF(fixed); i++)
        if (slice_is(path, fixed[i].path))
            ret->route = fixed[i].route;
}

/* --- answers -------------------------------------------------------------------------------------
 */
void review_answer_init(struct review_answer *a)
{
    memset(a, 0, sizeof *a);
    a->decision = "";
    buf_init(&a->body, 16U << 20);
}

void review_answer_fini(struct review_answer *a)
{
    buf_fini(&a->body);
}

static void set_text(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%s", text ? text : "");
}

/* Not a review: a status and a line of text. */
static void answer_text(struct review_answer *a, int status, const char *decision, const char *text)
{
    buf_reset(&a->body);
    buf_add_str(&a->body, text);
    buf_add_char(&a->body, '\n');
    a->status = status;
    a->json = false;
    a->failed = true;
    a->decision = decision;
    set_text(a->reason, sizeof a->reason, text);
}

struct verdict {
    bool allowed;
    const char *message; /* of a refusal */
    const json_t *patch; /* NULL or empty: none */
    json_t *warnings;    /* borrowed, NULL or empty: none */
};

static int add_text(const char *p, size_t n, void *arg)
{
    struct buf *b = arg;
    buf_add(b, p, n);
    return buf_err(b) == ERR_OK ? 0 : -1;
}

/* A few kilobytes with each pod: jansson's writer goes by runs of bytes, and the base64 goes
 * straight into the answer, where nothing of it needs escaping. */
static void add_patch(struct buf *out, const json_t *patch)
{
    CLEANUP(buf_freep) struct buf text;
    buf_init(&text, 12U << 20);
    buf_reserve(&text, 8 << 10);
    if (json_dump_callback(patch, add_text, &text, JSON_COMPACT) < 0) {
        buf_reserve(out, SIZE_MAX / 2); /* fails the answer */
        return;
    }
    buf_reserve(out, 4 * buf_len(&text) / 3 + 1024);
    buf_add_str(out, ",\"patchType\":\"JSONPatch\",\"patch\":\"");
    base64_encode(buf_slice(&text), BASE64_STD, out);
    buf_add_char(out, '"');
}

static void add_review(struct buf *out, const char *uid, const struct verdict *v)
{
    buf_add_str(out, "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\","
                     "\"response\":{\"uid\":");
    json_quote(slice_str(uid), out);
    buf_addf(out, ",\"allowed\":%s", v->allowed ? "true" : "false");
    if (v->message) {
        buf_add_str(out, ",\"status\":{\"status\":\"Failure\",\"reason\":\"Invalid\",\"code\":422,"
                         "\"message\":");
        json_quote(slice_str(v->message), out);
        buf_add_char(out, '}');
    }
    if (json_array_size(v->patch))
        add_patch(out, v->patch);
    if (json_array_size(v->warnings)) {
        buf_add_str(out, ",\"warnings\":");
        json_write(v->warnings, JSON_TIGHT, out);
    }
    buf_add_str(out, "}}");
}

static void answer_review(struct review_answer *a, const char *uid, const struct verdict *v)
{
    add_review(&a->body, uid, v);
    if (buf_err(&a->body) != ERR_OK) {
        answer_text(a, 500, "error", "out of memory");
        return;
    }
    a->status = 200;
    a->json = true;
    a->failed = !v->allowed;
}

static void answer_allow(struct review_answer *a, const char *uid, const char *decision,
                         const char *reason)
{
    struct verdict v = {.allowed = true};
    a->decision = decision;
    set_text(a->reason, sizeof a->reason, reason);
    answer_review(a, uid, &v);
}

static void answer_refuse(struct review_answer *a, const char *uid, const char *message,
                          json_t *warnings)
{
    struct verdict v = {.message = message, .warnings = warnings};
    a->decision = "refused";
    set_text(a->reason, sizeof a->reason, message);
    answer_review(a, uid, &v);
}

/* --- requests ------------------------------------------------------------------------------------
 */
struct request {
    /* Borrowed from the review; NULL when there is none. */
    const json_t *req, *object, *old;
    const char *uid, *ns, *name, *operation, *group, *resource, *sub;
};

static const char *text_at(const json_t *obj, const char *key)
{
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : "";
}

static bool uid_ok(const char *uid)
{
    size_t n = strlen(uid);
    if (n == 0 || n > 128)
        return false;
    for (; *uid; uid++)
        if ((unsigned char)*uid <= ' ' || (unsigned char)*uid >= 127)
            return false;
    return true;
}

/* Read the envelope. On failure the answer is made and NULL returned; else the review, which `ret`
 * borrows from. */
static json_t *review_open(struct slice body, struct request *ret, struct review_answer *a)
{
    struct json_limits limits = {.depth = REVIEW_DEPTH_MAX, .bytes = REVIEW_BODY_MAX};
    struct err err = {0};
    json_t *review = NULL;

    if (json_parse(body, &limits, &review, &err) < 0) {
        err_wrap(&err, "AdmissionReview");
        answer_text(a, err.code == ERR_NOMEM ? 500 : 400, "malformed", err.msg);
        return NULL;
    }
    const json_t *req = json_object_get(review, "request");
    const json_t *res = json_object_get(req, "resource"), *object = json_object_get(req, "object");
    const json_t *old = json_object_get(req, "oldObject");
    struct request r = {
        .req = req,
        .object = json_is_object(object) ? object : NULL,
        .old = json_is_object(old) ? old : NULL,
        .uid = text_at(req, "uid"),
        .ns = text_at(req, "namespace"),
        .operation = text_at(req, "operation"),
        .group = text_at(res, "group"),
        .resource = text_at(res, "resource"),
        .sub = text_at(req, "subResource"),
    };
    const json_t *meta = json_object_get(r.object, "metadata");
    r.name = text_at(req, "name");
    if (!r.name[0])
        r.name = text_at(meta, "name");
    if (!r.name[0])
        r.name = text_at(meta, "generateName");
    set_text(a->uid, sizeof a->uid, r.uid);
    set_text(a->ns, sizeof a->ns, r.ns);
    set_text(a->name, sizeof a->name, r.name);
    set_text(a->what, sizeof a->what, r.resource);
    if (strcmp(text_at(review, "kind"), "AdmissionReview") != 0)
        answer_text(a, 400, "malformed", "not an AdmissionReview");
    else if (strcmp(text_at(review, "apiVersion"), "admission.k8s.io/v1") != 0)
        answer_text(a, 400, "malformed", "only admission.k8s.io/v1 is spoken");
    else if (!json_is_object(req) || !uid_ok(r.uid))
        answer_text(a, 400, "malformed", "AdmissionReview without request.uid");
    else {
        *ret = r;
        return review;
    }
    json_decref(review);
    return NULL;
}

void review_inject(const struct inject_settings *s, const struct review_path *path,
                   struct slice body, struct review_answer *ret)
{
    struct request r;
    struct err err = {0};
    struct inject_result out;
    CLEANUP(json_freep) json_t *review = review_open(body, &r, ret);

    if (!review)
        return;
    if (!s) {
        answer_text(ret, 503, "not_ready", "no settings yet: ConfigMap tulle-injector");
        return;
    }
    if (strcmp(r.resource, "pods") != 0 || r.group[0] || r.sub[0] ||
        strcmp(r.operation, "CREATE") != 0) {
        answer_allow(ret, r.uid, "skipped", "not the creation of a pod");
        return;
    }
    if (!r.object) {
        answer_refuse(ret, r.uid, "the review holds no pod", NULL);
        return;
    }
    struct inject_request req = {
        .pod = r.object,
        .ns = r.ns,
        .path = path->inject,
        .cluster_id = path->cluster[0] ? path->cluster : NULL,
        .network = path->network[0] ? path->network : NULL,
    };
    if (inject_pod(s, &req, &out, &err) < 0) {
        if (err.code == ERR_NOMEM) {
            answer_text(ret, 500, "error", "out of memory");
            return;
        }
        err_wrap(&err, "sidecar injection");
        answer_refuse(ret, r.uid, err.msg, NULL);
        return;
    }
    struct verdict v = {.allowed = true, .patch = out.patch, .warnings = out.warnings};
    ret->decision = !out.inject ? "skipped" : json_array_size(out.patch) ? "injected" : "unchanged";
    set_text(ret->reason, sizeof ret->reason, inject_reason_name(out.reason));
    answer_review(ret, r.uid, &v);
    inject_result_fini(&out);
}

/* Findings of one severity as lines for people, behind those of `list` (stolen; NULL stays NULL).
 */
static json_t *finding_lines(json_t *list, const struct findings *f, enum finding_severity severity,
                             struct slice kind, const struct request *r)
{
    for (uint32_t i = 0; list && i < f->n; i++) {
        CLEANUP(buf_freep) struct buf line;
        buf_init(&line, 64 << 10);
        if (f->p[i].severity != severity)
            continue;
        finding_text(&f->p[i], kind, slice_str(r->ns), slice_str(r->name), &line);
        if (json_array_append_new(list, json_string_of(buf_slice(&line))) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* Allowed with words. `warnings` borrowed. */
static void answer_warned(struct review_answer *a, const char *uid, json_t *warnings)
{
    struct verdict ok = {.allowed = true, .warnings = warnings};
    const char *first = json_string_value(json_array_get(warnings, 0));
    a->decision = first ? "warned" : "allowed";
    set_text(a->reason, sizeof a->reason, first);
    answer_review(a, uid, &ok);
}

/* An update that leaves the spec as it was brings no mistake that is not there already: labels,
 * annotations, owners and finalizers of an object must stay changeable whatever rules came since.
 */
static bool spec_is_kept(const struct request *r)
{
    const json_t *now = json_object_get(r->object, "spec"), *was = json_object_get(r->old, "spec");
    return r->old && (now == was || json_equal(now, was));
}

static void answer_findings(struct review_answer *a, const struct request *r, struct slice kind,
                            const struct findings *f)
{
    bool kept = spec_is_kept(r);
    CLEANUP(json_freep) json_t *errors = finding_lines(json_array(), f, FINDING_ERROR, kind, r);
    CLEANUP(json_freep)
    json_t *warnings = finding_lines(kept && errors ? json_copy(errors) : json_array(), f,
                                     FINDING_WARNING, kind, r);
    CLEANUP(buf_freep) struct buf text;
    size_t i;
    const json_t *v;

    buf_init(&text, 256 << 10);
    if (!errors || !warnings) {
        answer_text(a, 500, "error", "out of memory");
        return;
    }
    if (kept || !json_array_size(errors)) {
        answer_warned(a, r->uid, warnings);
        return;
    }
    json_array_foreach(errors, i, v) buf_addf(&text, "%s%s", i ? "; " : "", json_string_value(v));
    if (f->dropped)
        buf_addf(&text, "; and %u more", f->dropped);
    answer_refuse(a, r->uid, buf_cstr(&text), warnings);
}

/* The API server makes a name of generateName only later: until then that stands for it. NULL when
 * there is no memory; released by json_decref. */
static json_t *with_name(const json_t *object, const char *name)
{
    json_t *meta = json_object_get(object, "metadata"), *copy, *named;
    if (text_at(meta, "name")[0] || !name[0])
        return json_incref((json_t *)(uintptr_t)object);
    copy = json_copy((json_t *)(uintptr_t)object);
    named = json_copy(meta);
    if (!copy || !named || json_object_set_new(named, "name", json_string(name)) < 0) {
        json_decref(copy);
        json_decref(named);
        return NULL;
    }
    if (json_object_set_new(copy, "metadata", named) < 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

static void judge(enum api_kind kind, const struct request *r, struct arena *scratch,
                  struct review_answer *ret)
{
    CLEANUP(json_freep) json_t *object = with_name(r->object, r->name);
    struct findings *f = ARENA_NEW(scratch, struct findings);

    if (!f || !object) {
        answer_text(ret, 500, "error", "out of memory");
        return;
    }
    findings_init(f, scratch);
    if (api_check(kind, object, scratch, f) == 0 && !f->nomem) {
        answer_findings(ret, r, slice_str(api_kind_info(kind)->kind), f);
        return;
    }
    /* What cannot be judged is not refused: its status will tell. */
    CLEANUP(json_freep)
    json_t *words =
        json_pack("[s]", r->name[0] ? "the object is too large to be judged here: see its status"
                                    : "an object without a name is not judged: see its status");
    answer_warned(ret, r->uid, words);
}

void review_validate(struct slice body, struct review_answer *ret)
{
    struct request r;
    enum api_kind kind;
    CLEANUP(arena_free) struct arena scratch;
    CLEANUP(json_freep) json_t *review = NULL;

    arena_init(&scratch, 16 << 10, 32U << 20);
    review = review_open(body, &r, ret);
    if (!review)
        return;
    if (!api_kind_of_resource(slice_str(r.group), slice_str(r.resource), &kind))
        answer_allow(ret, r.uid, "allowed", "not a kind of the mesh");
    else if (r.sub[0] || strcmp(r.operation, "DELETE") == 0)
        answer_allow(ret, r.uid, "allowed", "nothing to validate");
    else if (!r.object)
        answer_refuse(ret, r.uid, "the review holds no object", NULL);
    else if (text_at(json_object_get(r.object, "metadata"), "deletionTimestamp")[0])
        answer_allow(ret, r.uid, "allowed", "the object is about to go");
    else
        judge(kind, &r, &scratch, ret);
}
