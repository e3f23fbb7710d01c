/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/json.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/escape.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"

static void setup_once(void)
{
    struct rnd r;
    size_t seed;

    rnd_init_system(&r);
    seed = (size_t)rnd_u64(&r);
    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(seed ? seed : 1);
}

void json_setup(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, setup_once);
}

void json_freep(json_t **v)
{
    json_decref(*v);
}

const char *json_kind(const json_t *v)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

/* --- writing -------------------------------------------------------------------------------------
 */

static void add_utf8(struct slice s, struct buf *out, bool quote)
{
    while (s.len) {
        char piece[ESCAPE_MAX];
        size_t used = utf8_len(s);

        if (used == 0) {
            buf_add_str(out, "\xef\xbf\xbd");
            used = 1;
        } else if (quote) {
            size_t n = escape_step(s, ESCAPE_JSON, piece, &used);

            buf_add(out, piece, n);
        } else {
            buf_add(out, s.p, used);
        }
        s = slice_skip(s, used);
    }
}

void json_quote(struct slice s, struct buf *out)
{
    buf_add_char(out, '"');
    add_utf8(s, out, true);
    buf_add_char(out, '"');
}

json_t *json_string_of(struct slice s)
{
    struct buf b;
    json_t *v;

    json_setup();
    v = json_stringn(s.p ? s.p : "", s.len);
    if (v)
        return v;
    buf_init(&b, SIZE_MAX / 8);
    add_utf8(s, &b, false);
    v = buf_err(&b) ? NULL : json_stringn(buf_cstr(&b), buf_len(&b));
    buf_fini(&b);
    return v;
}

static void write_real(double d, struct buf *out)
{
    char text[40];

    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    buf_add_str(out, text);
    if (!strpbrk(text, ".e"))
        buf_add_str(out, ".0");
}

static void new_line(enum json_style style, unsigned level, struct buf *out)
{
    if (style == JSON_TIGHT)
        return;
    buf_add_char(out, '\n');
    for (unsigned i = 0; i < level; i++)
        buf_add_str(out, "  ");
}

static void write_value(const json_t *v, enum json_style style, unsigned level, struct buf *out);

static void write_array(const json_t *v, enum json_style style, unsigned level, struct buf *out)
{
    size_t n = json_array_size(v);

    buf_add_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_add_char(out, ',');
        new_line(style, level + 1, out);
        write_value(json_array_get(v, i), style, level + 1, out);
    }
    if (n)
        new_line(style, level, out);
    buf_add_char(out, ']');
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **json_sorted_keys(const json_t *v, size_t *ret_len)
{
    json_t *obj = (json_t *)(uintptr_t)v; /* jansson's iteration does not change it */
    const char **keys = mem_array(json_object_size(v), sizeof *keys);
    size_t n = 0;

    if (!keys)
        return NULL;
    for (void *it = json_object_iter(obj); it; it = json_object_iter_next(obj, it))
        keys[n++] = json_object_iter_key(it);
    qsort(keys, n, sizeof *keys, by_bytes);
    *ret_len = n;
    return keys;
}

static void write_object(const json_t *v, enum json_style style, unsigned level, struct buf *out)
{
    CLEANUP(mem_freep) const char **keys = NULL;
    size_t n = 0;

    keys = json_sorted_keys(v, &n);
    if (!keys) {
        out->failed = ERR_NOMEM;
        return;
    }
    buf_add_char(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_add_char(out, ',');
        new_line(style, level + 1, out);
        json_quote(slice_str(keys[i]), out);
        buf_add_str(out, style == JSON_TIGHT ? ":" : ": ");
        write_value(json_object_get(v, keys[i]), style, level + 1, out);
    }
    if (n)
        new_line(style, level, out);
    buf_add_char(out, '}');
}

static void write_value(const json_t *v, enum json_style style, unsigned level, struct buf *out)
{
    if (buf_err(out))
        return;
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        write_object(v, style, level, out);
        break;
    case JSON_ARRAY:
        write_array(v, style, level, out);
        break;
    case JSON_STRING:
        json_quote(slice_of(json_string_value(v), json_string_length(v)), out);
        break;
    case JSON_INTEGER:
        buf_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        write_real(json_real_value(v), out);
        break;
    case JSON_TRUE:
        buf_add_str(out, "true");
        break;
    case JSON_FALSE:
        buf_add_str(out, "false");
        break;
    default:
        buf_add_str(out, "null");
    }
}

void json_write(const json_t *v, enum json_style style, struct buf *out)
{
    write_value(v, style, 0, out);
    if (style == JSON_PRETTY)
        buf_add_char(out, '\n');
}

char *json_text(const json_t *v, enum json_style style)
{
    struct buf b;
    char *text;

    buf_init(&b, SIZE_MAX / 8);
    json_write(v, style, &b);
    text = buf_take(&b, NULL);
    buf_fini(&b);
    return text;
}
