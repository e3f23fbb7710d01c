/* SPDX-License-Identifier: Apache-2.0 */
/* The typed fields of json.h. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/base/cleanup.h"
#include "lib/data/duration.h"
#include "lib/data/json.h"

struct dec dec_root(json_t *v, struct err *err)
{
    return (struct dec){v, FPATH_ROOT, err};
}

struct dec dec_named(json_t *v, const char *name, struct err *err)
{
    return (struct dec){v, {NULL, name, 0}, err};
}

bool dec_failed(const struct dec *d)
{
    return d->err->code != ERR_OK;
}

__attribute__((format(printf, 3, 0))) static int
fail(const struct fpath *path, struct err *err, const char *fmt, va_list ap, enum err_code code)
{
    char text[sizeof err->msg], where[160];
    const char *p;

    if (err->code != ERR_OK)
        return -1;
    vsnprintf(text, sizeof text, fmt, ap);
    p = fpath_str(path, where, sizeof where);
    return *p ? err_set(err, code, "%s: %s", p, text) : err_set(err, code, "%s", text);
}

int dec_fail(const struct dec *d, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fail(&d->path, d->err, fmt, ap, code);
    va_end(ap);
    return -1;
}

int dec_fail_at(const struct dec *d, const char *key, enum err_code code, const char *fmt, ...)
{
    struct fpath path = FPATH_KEY(&d->path, key);
    va_list ap;

    va_start(ap, fmt);
    fail(&path, d->err, fmt, ap, code);
    va_end(ap);
    return -1;
}

static int wrong_kind(const struct dec *d, const char *want)
{
    return dec_fail(d, ERR_INVALID, "must be %s, is %s", want, json_kind(d->v));
}

int dec_as_obj(const struct dec *d)
{
    return json_is_object(d->v) ? 1 : wrong_kind(d, "an object");
}

int dec_as_str(const struct dec *d, struct slice *ret)
{
    if (!json_is_string(d->v))
        return wrong_kind(d, "a string");
    *ret = slice_of(json_string_value(d->v), json_string_length(d->v));
    return 1;
}

int dec_get(const struct dec *d, const char *key, struct dec *ret)
{
    json_t *v;

    if (dec_as_obj(d) < 0)
        return -1;
    v = json_object_get(d->v, key);
    if (!v || json_is_null(v))
        return 0;
    *ret = (struct dec){v, FPATH_KEY(&d->path, key), d->err};
    return 1;
}

int dec_need(const struct dec *d, const char *key)
{
    struct dec f;
    int rc = dec_get(d, key, &f);

    return rc == 0 ? dec_fail_at(d, key, ERR_INVALID, "is required") : rc;
}

int dec_obj(const struct dec *d, const char *key, struct dec *ret)
{
    struct dec f;
    int rc = dec_get(d, key, &f);

    if (rc > 0 && (rc = dec_as_obj(&f)) > 0)
        *ret = f;
    return rc;
}

int dec_arr(const struct dec *d, const char *key, struct dec *ret)
{
    struct dec f;
    int rc = dec_get(d, key, &f);

    if (rc <= 0)
        return rc;
    if (!json_is_array(f.v))
        return wrong_kind(&f, "an array");
    *ret = f;
    return 1;
}

int dec_at(const struct dec *arr, size_t i, struct dec *ret)
{
    json_t *v = json_array_get(arr->v, i);

    if (!v)
        return 0;
    *ret = (struct dec){v, FPATH_INDEX(&arr->path, i), arr->err};
    return 1;
}

int dec_each(const struct dec *obj, void **it, struct dec *ret)
{
    *it = *it ? json_object_iter_next(obj->v, *it) : json_object_iter(obj->v);
    if (!*it)
        return 0;
    *ret = (struct dec){json_object_iter_value(*it),
                        FPATH_KEY(&obj->path, json_object_iter_key(*it)), obj->err};
    return 1;
}

int dec_str(const struct dec *d, const char *key, struct slice *ret)
{
    struct dec f;
    int rc = dec_get(d, key, &f);

    return rc > 0 ? dec_as_str(&f, ret) : rc;
}

int dec_bool(const struct dec *d, const char *key, bool *ret)
{
    struct dec f;
    int rc = dec_get(d, key, &f);

    if (rc <= 0)
        return rc;
    if (!json_is_boolean(f.v))
        return wrong_kind(&f, "true or false");
    *ret = json_is_true(f.v);
    return 1;
}

int dec_i64(const struct dec *d, const char *key, int64_t min, int64_t max, int64_t *ret)
{
    struct dec f;
    int rc = dec_get(d, key, &f);
    int64_t v;

    if (rc <= 0)
        return rc;
    if (json_is_integer(f.v)) {
        v = json_integer_value(f.v);
    } else if (json_is_real(f.v)) {
        double r = json_real_value(f.v);

        if (r != floor(r) || fabs(r) > 0x1p53)
            return dec_fail(&f, ERR_INVALID, "must be an integer, is %g", r);
        v = (int64_t)r;
    } else {
        return wrong_kind(&f, "a number");
    }
    if (v < min || v > max)
        return dec_fail(&f, ERR_INVALID, "must be %" PRId64 "..%" PRId64 ", is %" PRId64, min, max,
                        v);
    *ret = v;
    return 1;
}

int dec_u32(const struct dec *d, const char *key, uint32_t max, uint32_t *ret)
{
    int64_t v;
    int rc = dec_i64(d, key, 0, max, &v);

    if (rc > 0)
        *ret = (uint32_t)v;
    return rc;
}

int dec_f64(const struct dec *d, const char *key, double *ret)
{
    struct dec f;
    int rc = dec_get(d, key, &f);

    if (rc <= 0)
        return rc;
    if (!json_is_number(f.v))
        return wrong_kind(&f, "a number");
    *ret = json_number_value(f.v);
    return 1;
}

int dec_duration(const struct dec *d, const char *key, int64_t *ret_ns)
{
    struct slice s;
    int rc = dec_str(d, key, &s);

    if (rc <= 0)
        return rc;
    if (duration_parse(s, ret_ns) != ERR_OK)
        return dec_fail_at(d, key, ERR_INVALID, "must be a duration such as \"1.5s\", is \"%.*s\"",
                           (int)MIN(s.len, 64u), s.p);
    return 1;
}

static void list_names(const char *const *names, char *ret, size_t cap)
{
    size_t n = 0;

    ret[0] = '\0';
    for (; *names && n < cap; names++)
        n += (size_t)snprintf(ret + n, cap - n, "%s%s", n ? ", " : "", *names);
}

int dec_enum(const struct dec *d, const char *key, const char *const *names, int *ret)
{
    char all[128];
    struct slice s;
    int rc = dec_str(d, key, &s);

    if (rc <= 0)
        return rc;
    for (int i = 0; names[i]; i++)
        if (slice_is(s, names[i])) {
            *ret = i;
            return 1;
        }
    list_names(names, all, sizeof all);
    return dec_fail_at(d, key, ERR_INVALID, "must be one of %s, is \"%.*s\"", all,
                       (int)MIN(s.len, 64u), s.p);
}
