/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as values of jansson: strict reading with limits (RFC 8259), stable writing, and a decoder
 * that turns values into typed fields with errors that name the field. */
#pragma once

#include <jansson.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/data/fieldpath.h"

struct json_limits {
    unsigned depth; /* nesting of arrays and objects; 0: 64 */
    size_t bytes;   /* length of the text; 0: 16 MiB */
};

/* Seeds jansson's hash and makes it allocate through lib/base/mem. Called by everything in here;
 * a program that builds values with jansson before calls it first. Any number of times. */
void json_setup(void);
/* One whole value. Refused: duplicate keys, NUL in strings, bytes behind the value, numbers out of
 * range, nesting beyond the limit. `limits` may be NULL. Errors: ERR_INVALID with line and column,
 * ERR_LIMIT, ERR_NOMEM. *ret is a new reference. */
int json_parse(struct slice text, const struct json_limits *limits, json_t **ret, struct err *err);
void json_freep(json_t **v); /* for CLEANUP */

enum json_style { JSON_TIGHT, JSON_PRETTY }; /* PRETTY: two blanks a level, a newline at the end */
/* Keys in byte order, reals in the shortest form that reads back the same. Failures (memory, the
 * buffer's maximum) make the buffer fail. */
void json_write(const json_t *v, enum json_style style, struct buf *out);
/* The same as heap string (mem_free); NULL when out of memory. */
char *json_text(const json_t *v, enum json_style style);
/* A JSON string literal, quotes included. Bytes that are not UTF-8 become U+FFFD. */
void json_quote(struct slice s, struct buf *out);
/* A new string value of bytes that may not be UTF-8 (U+FFFD stands in); NULL without memory. */
json_t *json_string_of(struct slice s);
/* The keys of an object in byte order: heap array (mem_free) of borrowed names; NULL when out of
 * memory. */
const char **json_sorted_keys(const json_t *v, size_t *ret_len);
/* "an object", "a string", ... for messages. */
const char *json_kind(const json_t *v);

/* --- typed fields -------------------------------------------------------------------------------
 * A `struct dec` is a value at a path. dec_* functions return 1 and write *ret when the field is
 * there, 0 when it is absent or null (Kubernetes treats both alike) and -1 on error. The first
 * error stays in *err, so that a decoder may read all fields and ask dec_failed once. Slices borrow
 * from the JSON value. Paths link to the parent's `struct dec`, which must outlive the child. */
struct dec {
    json_t *v; /* borrowed */
    struct fpath path;
    struct err *err; /* starts as ERR_OK */
};
struct dec dec_root(json_t *v, struct err *err);
/* The value itself where a parent was decoded elsewhere: its name becomes the path's beginning. */
struct dec dec_named(json_t *v, const char *name, struct err *err);
bool dec_failed(const struct dec *d);
/* Any kind of value. */
int dec_get(const struct dec *d, const char *key, struct dec *ret);
int dec_obj(const struct dec *d, const char *key, struct dec *ret);
int dec_arr(const struct dec *d, const char *key, struct dec *ret);
/* Elements: `for (size_t i = 0; dec_at(&arr, i, &item) > 0; i++)`. 0 past the end. */
int dec_at(const struct dec *arr, size_t i, struct dec *ret);
/* Members in key order of insertion: `for (void *it = NULL; dec_each(&obj, &it, &member) > 0;)`;
 * member.path.key is the key. */
int dec_each(const struct dec *obj, void **it, struct dec *ret);
int dec_str(const struct dec *d, const char *key, struct slice *ret);
int dec_bool(const struct dec *d, const char *key, bool *ret);
/* An integer within [min, max]; an integral real ("8080.0", "1e3") is taken too. */
int dec_i64(const struct dec *d, const char *key, int64_t min, int64_t max, int64_t *ret);
int dec_u32(const struct dec *d, const char *key, uint32_t max, uint32_t *ret);
int dec_f64(const struct dec *d, const char *key, double *ret);
/* "1.5s" (lib/data/duration.h) in nanoseconds. */
int dec_duration(const struct dec *d, const char *key, int64_t *ret_ns);
/* One of `names` (NULL-terminated, exact case): its index. */
int dec_enum(const struct dec *d, const char *key, const char *const *names, int *ret);
/* The value itself as string, for elements of arrays and members of maps. */
int dec_as_str(const struct dec *d, struct slice *ret);
int dec_as_obj(const struct dec *d);
/* Report about the field itself: "<path>: <text>". Keeps an earlier error. Always returns -1. */
int dec_fail(const struct dec *d, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same about a member. */
int dec_fail_at(const struct dec *d, const char *key, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* "is required" unless the member is there. */
int dec_need(const struct dec *d, const char *key);
