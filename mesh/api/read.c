/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/read.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/data/duration.h"
#include "lib/data/json.h"

#define SHOW(s) (int)MIN((s).len, 64u), (s).p ? (s).p : ""

void rd_fail(const struct rd *d, const char *key, const char *fmt, ...)
{
    struct fpath member = FPATH_KEY(&d->path, key);
    char text[384];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    d->c->errors++;
    findings_add(d->c->f, FINDING_INVALID, key ? &member : &d->path, "%s", text);
}

static void wrong_kind(const struct rd *d, const char *want)
{
    rd_fail(d, NULL, "must be %s, is %s", want, json_kind(d->v));
}

void *rd_alloc(struct rd_ctx *c, size_t count, size_t size)
{
    void *p = arena_array(c->a, count, size);

    if (!p)
        c->nomem = true;
    return p;
}

struct slice rd_copy(struct rd_ctx *c, struct slice s)
{
    struct slice copy = arena_slice(c->a, s);

    if (!copy.p)
        c->nomem = true;
    return copy;
}

static struct slice lower(struct rd_ctx *c, struct slice s)
{
    char *p = arena_strndup(c->a, s.p, s.len);

    if (!p) {
        c->nomem = true;
        return SLICE_NULL;
    }
    for (size_t i = 0; i < s.len; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + ('a' - 'A'));
    return slice_of(p, s.len);
}

/* --- going down
 * ----------------------------------------------------------------------------------- */

bool rd_get(const struct rd *d, const char *key, struct rd *ret)
{
    const json_t *v = json_object_get(d->v, key);

    if (!v || json_is_null(v))
        return false;
    *ret = (struct rd){v, FPATH_KEY(&d->path, key), d->c};
    return true;
}

bool rd_is_obj(const struct rd *d)
{
    if (json_is_object(d->v))
        return true;
    wrong_kind(d, "an object");
    return false;
}

bool rd_obj(const struct rd *d, const char *key, struct rd *ret)
{
    return rd_get(d, key, ret) && rd_is_obj(ret);
}

bool rd_arr(const struct rd *d, const char *key, struct rd *ret, uint32_t *ret_n)
{
    if (!rd_get(d, key, ret))
        return false;
    if (!json_is_array(ret->v)) {
        wrong_kind(ret, "a list");
        return false;
    }
    *ret_n = (uint32_t)json_array_size(ret->v);
    return true;
}

struct rd rd_at(const struct rd *arr, uint32_t i)
{
    return (struct rd){json_array_get(arr->v, i), FPATH_INDEX(&arr->path, i), arr->c};
}

/* --- scalars
 * -------------------------------------------------------------------------------------- */

static bool as_str(const struct rd *d, struct slice *ret)
{
    if (!json_is_string(d->v)) {
        wrong_kind(d, "a string");
        return false;
    }
    *ret = slice_of(json_string_value(d->v), json_string_length(d->v));
    return true;
}

static bool borrow_str(const struct rd *d, const char *key, struct rd *ret_at, struct slice *ret)
{
    return rd_get(d, key, ret_at) && as_str(ret_at, ret);
}

void rd_str(const struct rd *d, const char *key, struct slice *ret)
{
    struct slice s;
    struct rd at;

    if (borrow_str(d, key, &at, &s))
        *ret = rd_copy(d->c, s);
}

void rd_lower(const struct rd *d, const char *key, struct slice *ret)
{
    struct slice s;
    struct rd at;

    if (borrow_str(d, key, &at, &s))
        *ret = lower(d->c, s);
}

void rd_text(const struct rd *d, const char *key, struct slice *ret)
{
    char text[40];
    struct slice s;
    struct rd at;

    if (!rd_get(d, key, &at))
        return;
    if (json_is_integer(at.v))
        s = slice_of(text, (size_t)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT,
                                            json_integer_value(at.v)));
    else if (json_is_real(at.v))
        s = slice_of(text, (size_t)snprintf(text, sizeof text, "%.15g", json_real_value(at.v)));
    else if (!as_str(&at, &s))
        return;
    *ret = rd_copy(d->c, s);
}

static void strings(const struct rd *d, const char *key, bool low, struct api_strings *ret)
{
    struct rd arr;
    uint32_t n;
    struct slice *p;

    if (!rd_arr(d, key, &arr, &n) || n == 0)
        return;
    p = rd_alloc(d->c, n, sizeof *p);
    if (!p)
        return;
    for (uint32_t i = 0; i < n; i++) {
        struct rd item = rd_at(&arr, i);
        struct slice s;

        p[i] = (struct slice){"", 0};
        if (as_str(&item, &s))
            p[i] = low ? lower(d->c, s) : rd_copy(d->c, s);
    }
    *ret = (struct api_strings){p, n};
}

void rd_strings(const struct rd *d, const char *key, struct api_strings *ret)
{
    strings(d, key, false, ret);
}

void rd_lower_strings(const struct rd *d, const char *key, struct api_strings *ret)
{
    strings(d, key, true, ret);
}

static int kv_cmp(const void *a, const void *b)
{
    return slice_cmp(((const struct api_kv *)a)->key, ((const struct api_kv *)b)->key);
}

typedef bool keep_fn(const char *key);

static void map_of(const struct rd *d, const char *key, keep_fn *keep, struct api_map *ret)
{
    const char *name;
    json_t *v;
    struct rd at;
    uint32_t n = 0, i = 0;

    if (!rd_obj(d, key, &at))
        return;
    json_object_foreach((json_t *)at.v, name, v) n += !keep || keep(name);
    if (n == 0)
        return;
    ret->p = rd_alloc(d->c, n, sizeof *ret->p);
    if (!ret->p)
        return;
    json_object_foreach((json_t *)at.v, name, v)
    {
        struct rd member = {v, FPATH_KEY(&at.path, name), d->c};
        struct slice s = {"", 0};

        if (keep && !keep(name))
            continue;
        ret->p[i].key = rd_copy(d->c, slice_str(name));
        if (!json_is_null(v))
            as_str(&member, &s);
        ret->p[i++].value = rd_copy(d->c, s);
    }
    ret->n = n;
    qsort(ret->p, n, sizeof *ret->p, kv_cmp);
}

void rd_map(const struct rd *d, const char *key, struct api_map *ret)
{
    map_of(d, key, NULL, ret);
}

static bool as_bool(const struct rd *d, const char *key, bool *ret)
{
    struct rd at;

    if (!rd_get(d, key, &at))
        return false;
    if (!json_is_boolean(at.v)) {
        wrong_kind(&at, "true or false");
        return false;
    }
    *ret = json_is_true(at.v);
    return true;
}

void rd_bool(const struct rd *d, const char *key, bool *ret)
{
    as_bool(d, key, ret);
}

void rd_opt_bool(const struct rd *d, const char *key, struct opt_bool *ret)
{
    ret->set = as_bool(d, key, &ret->v);
}

bool rd_i64(const struct rd *d, const char *key, int64_t min, int64_t max, int64_t *ret)
{
    struct rd at;
    int64_t v;

    if (!rd_get(d, key, &at))
        return false;
    if (json_is_integer(at.v)) {
        v = json_integer_value(at.v);
    } else if (json_is_real(at.v) && json_real_value(at.v) == floor(json_real_value(at.v)) &&
               fabs(json_real_value(at.v)) <= 0x1p53) {
        v = (int64_t)json_real_value(at.v);
    } else {
        wrong_kind(&at, "an integer");
        return false;
    }
    if (v < min || v > max) {
        rd_fail(&at, NULL, "must be %" PRId64 "..%" PRId64 ", is %" PRId64, min, max, v);
        return false;
    }
    *ret = v;
    return true;
}

void rd_u32(const struct rd *d, const char *key, uint32_t *ret)
{
    int64_t v;

    if (rd_i64(d, key, 0, INT32_MAX, &v))
        *ret = (uint32_t)v;
}

void rd_u64(const struct rd *d, const char *key, uint64_t *ret)
{
    int64_t v;

    if (rd_i64(d, key, 0, INT64_MAX, &v))
        *ret = (uint64_t)v;
}

void rd_opt_u32(const struct rd *d, const char *key, struct opt_u32 *ret)
{
    int64_t v;

    if (rd_i64(d, key, 0, UINT32_MAX, &v))
        *ret = (struct opt_u32){true, (uint32_t)v};
}

void rd_port(const struct rd *d, const char *key, uint32_t *ret)
{
    int64_t v;

    if (rd_i64(d, key, 0, 65535, &v))
        *ret = (uint32_t)v;
}

bool rd_f64(const struct rd *d, const char *key, double *ret)
{
    struct rd at;

    if (!rd_get(d, key, &at))
        return false;
    if (!json_is_number(at.v)) {
        wrong_kind(&at, "a number");
        return false;
    }
    *ret = json_number_value(at.v);
    return true;
}

void rd_opt_f64(const struct rd *d, const char *key, struct opt_f64 *ret)
{
    ret->set = rd_f64(d, key, &ret->v);
}

void rd_opt_ns(const struct rd *d, const char *key, struct opt_ns *ret)
{
    struct slice s;
    struct rd at;
    int64_t ns;

    if (!borrow_str(d, key, &at, &s))
        return;
    if (duration_parse(s, &ns) != ERR_OK)
        rd_fail(&at, NULL, "must be a duration such as \"1.5s\", is \"%.*s\"", SHOW(s));
    else if (ns < 0)
        rd_fail(&at, NULL, "must not be negative, is \"%.*s\"", SHOW(s));
    else
        *ret = (struct opt_ns){true, ns};
}

void rd_ns(const struct rd *d, const char *key, int64_t *ret)
{
    struct opt_ns o = {0};

    rd_opt_ns(d, key, &o);
    if (o.set)
        *ret = o.ns;
}

int rd_enum(const struct rd *d, const char *key, const char *const *names, int dflt)
{
    char all[320] = "";
    struct slice s;
    struct rd at;
    size_t n = 0;

    if (!borrow_str(d, key, &at, &s))
        return dflt;
    for (int i = 0; names[i]; i++)
        if (slice_is(s, names[i]))
            return i;
    for (int i = 0; names[i] && n < sizeof all; i++)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", n ? ", " : "", names[i]);
    rd_fail(&at, NULL, "must be one of %s, is \"%.*s\"", all, SHOW(s));
    return dflt;
}

/* --- objects
 * ---------------------------------------------------------------------------------------- */

void *rd_new(const struct rd *d, const char *key, size_t size, rd_fn *fn)
{
    struct rd at;
    void *p;

    if (!rd_obj(d, key, &at))
        return NULL;
    p = rd_alloc(d->c, 1, size);
    if (p)
        fn(&at, p);
    return p;
}

void *rd_array(const struct rd *d, const char *key, size_t size, rd_fn *fn, uint32_t *ret_n)
{
    struct rd arr;
    uint32_t n;
    char *p;

    if (!rd_arr(d, key, &arr, &n) || n == 0)
        return NULL;
    p = rd_alloc(d->c, n, size);
    if (!p)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct rd item = rd_at(&arr, i);

        if (rd_is_obj(&item))
            fn(&item, p + (size_t)i * size);
    }
    *ret_n = n;
    return p;
}

/* --- metadata
 * --------------------------------------------------------------------------------------- */

static bool keep_all_but_applied(const char *key)
{
    return strcmp(key, "kubectl.kubernetes.io/last-applied-configuration") != 0;
}

static bool keep_mesh_only(const char *key)
{
    return strstr(key, "istio.io/") || strstr(key, "tulle.dev/") || strstr(key, "prometheus.io/");
}

int rd_meta(const struct rd *root, bool core, struct obj_meta *ret)
{
    struct slice created = SLICE_NULL;
    struct rd m;

    if (!json_is_object(root->v) || !json_is_object(json_object_get(root->v, "metadata")) ||
        !rd_get(root, "metadata", &m))
        return -1;
    rd_str(&m, "name", &ret->name);
    if (ret->name.len == 0)
        return -1;
    ret->ns = (struct slice){"", 0};
    rd_str(&m, "namespace", &ret->ns);
    rd_str(&m, "uid", &ret->uid);
    rd_str(&m, "resourceVersion", &ret->resource_version);
    rd_i64(&m, "generation", 0, INT64_MAX, &ret->generation);
    if (json_is_string(json_object_get(m.v, "creationTimestamp")))
        created = slice_str(json_string_value(json_object_get(m.v, "creationTimestamp")));
    if (created.len && !api_time_parse(created, &ret->created_s))
        rd_fail(&m, "creationTimestamp", "must be a time, is \"%.*s\"", SHOW(created));
    ret->deleting = json_is_string(json_object_get(m.v, "deletionTimestamp"));
    map_of(&m, "labels", NULL, &ret->labels);
    map_of(&m, "annotations", core ? keep_mesh_only : keep_all_but_applied, &ret->annotations);
    return root->c->nomem ? -1 : 0;
}

int rd_begin(struct rd_ctx *c, const json_t *obj, bool core, struct obj_meta *ret_meta,
             struct rd *ret_root, struct rd *ret_spec)
{
    *ret_root = (struct rd){obj, FPATH_ROOT, c};
    if (rd_meta(ret_root, core, ret_meta) < 0)
        return -1;
    /* A spec that is absent or no object reads as an empty one: lookups in NULL find nothing. */
    if (!rd_obj(ret_root, "spec", ret_spec))
        *ret_spec = (struct rd){NULL, FPATH_KEY(&ret_root->path, "spec"), c};
    return 0;
}

/* --- shapes
 * ------------------------------------------------------------------------------------------ */

void rd_match_of(const struct rd *d, struct api_match *ret)
{
    static const struct {
        const char *key;
        enum api_match_kind kind;
    } kinds[] = {
        {"exact", API_MATCH_EXACT}, {"prefix", API_MATCH_PREFIX}, {"regex", API_MATCH_REGEX}};

    ret->kind = API_MATCH_PRESENT;
    for (size_t i = 0; i < N_OF(kinds); i++) {
        struct slice s;
        struct rd at;

        if (!borrow_str(d, kinds[i].key, &at, &s))
            continue;
        if (ret->kind != API_MATCH_PRESENT)
            rd_fail(d, NULL, "has more than one of exact, prefix and regex: keep one");
        ret->kind = kinds[i].kind;
        ret->value = rd_copy(d->c, s);
    }
}

void rd_match(const struct rd *d, const char *key, struct api_match *ret)
{
    struct rd at;

    if (rd_obj(d, key, &at))
        rd_match_of(&at, ret);
}

static int named_cmp(const void *a, const void *b)
{
    return slice_cmp(((const struct api_named_match *)a)->name,
                     ((const struct api_named_match *)b)->name);
}

void rd_named_matches(const struct rd *d, const char *key, bool low, struct api_named_matches *ret)
{
    const char *name;
    json_t *v;
    struct rd at;
    uint32_t n, i = 0;

    if (!rd_obj(d, key, &at) || json_object_size(at.v) == 0)
        return;
    n = (uint32_t)json_object_size(at.v);
    ret->p = rd_alloc(d->c, n, sizeof *ret->p);
    if (!ret->p)
        return;
    json_object_foreach((json_t *)at.v, name, v)
    {
        struct rd member = {v, FPATH_KEY(&at.path, name), d->c};
        struct api_named_match *m = &ret->p[i++];

        m->name = low ? lower(d->c, slice_str(name)) : rd_copy(d->c, slice_str(name));
        m->match.kind = API_MATCH_PRESENT; /* a null value too: the field has to be there */
        if (!json_is_null(v) && rd_is_obj(&member))
            rd_match_of(&member, &m->match);
    }
    ret->n = n;
    qsort(ret->p, n, sizeof *ret->p, named_cmp);
}

void rd_selector(const struct rd *d, const char *key, const char *labels, struct api_selector *ret)
{
    struct rd at;

    ret->set = rd_obj(d, key, &at);
    if (ret->set)
        rd_map(&at, labels, &ret->labels);
}

static void target_ref(const struct rd *d, void *ret)
{
    struct api_target_ref *r = ret;

    rd_str(d, "group", &r->group);
    rd_str(d, "kind", &r->kind);
    rd_str(d, "name", &r->name);
    rd_str(d, "namespace", &r->ns);
}

void rd_target_refs(const struct rd *spec, struct api_target_refs *ret)
{
    uint32_t n = 0;
    struct api_target_ref *many = rd_array(spec, "targetRefs", sizeof *many, target_ref, &n);
    struct api_target_ref *one = rd_new(spec, "targetRef", sizeof *one, target_ref);

    *ret = (struct api_target_refs){many, n};
    if (!one)
        return;
    ret->p = rd_alloc(spec->c, (size_t)n + 1, sizeof *ret->p);
    if (!ret->p)
        return;
    ret->p[0] = *one;
    if (n)
        memcpy(ret->p + 1, many, n * sizeof *many);
    ret->n = n + 1;
}

void rd_api_port(const struct rd *d, void *ret)
{
    struct api_port *p = ret;

    rd_str(d, "name", &p->name);
    rd_str(d, "protocol", &p->protocol);
    rd_port(d, "number", &p->number);
    rd_port(d, "targetPort", &p->target_port);
}

void rd_ports(const struct rd *d, const char *key, struct api_ports *ret)
{
    ret->p = rd_array(d, key, sizeof *ret->p, rd_api_port, &ret->n);
}

bool rd_percent(const struct rd *d, const char *key, double *ret)
{
    struct rd at;

    if (!rd_obj(d, key, &at))
        return false;
    *ret = 0;
    rd_f64(&at, "value", ret);
    return true;
}
