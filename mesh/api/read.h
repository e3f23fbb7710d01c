/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to mesh/api: reads JSON into structs and collects findings instead of stopping at the
 * first error. Absent and null are alike. What cannot be read leaves *ret as it was. Paths link to
 * the parent's `struct rd`, which must outlive the child. */
#pragma once

#include "mesh/api/common.h"

struct rd_ctx {
    struct arena *a;
    struct findings *f;
    uint32_t errors; /* findings of severity error made by this reader */
    bool nomem;
};
struct rd {
    const json_t *v;
    struct fpath path;
    struct rd_ctx *c;
};

bool rd_get(const struct rd *d, const char *key, struct rd *ret);
bool rd_obj(const struct rd *d, const char *key, struct rd *ret);
bool rd_arr(const struct rd *d, const char *key, struct rd *ret, uint32_t *ret_n);
struct rd rd_at(const struct rd *arr, uint32_t i);
/* An element or member as object: false with a finding when it is none. */
bool rd_is_obj(const struct rd *d);

void rd_str(const struct rd *d, const char *key, struct slice *ret);
/* In lower case. */
void rd_lower(const struct rd *d, const char *key, struct slice *ret);
void rd_strings(const struct rd *d, const char *key, struct api_strings *ret);
void rd_lower_strings(const struct rd *d, const char *key, struct api_strings *ret);
/* Values must be strings. */
void rd_map(const struct rd *d, const char *key, struct api_map *ret);
void rd_bool(const struct rd *d, const char *key, bool *ret);
void rd_opt_bool(const struct rd *d, const char *key, struct opt_bool *ret);
bool rd_i64(const struct rd *d, const char *key, int64_t min, int64_t max, int64_t *ret);
void rd_u32(const struct rd *d, const char *key, uint32_t *ret); /* 0 to INT32_MAX */
void rd_u64(const struct rd *d, const char *key, uint64_t *ret);
void rd_opt_u32(const struct rd *d, const char *key, struct opt_u32 *ret);
void rd_port(const struct rd *d, const char *key, uint32_t *ret); /* 0..65535; validate says more */
bool rd_f64(const struct rd *d, const char *key, double *ret);
void rd_opt_f64(const struct rd *d, const char *key, struct opt_f64 *ret);
void rd_opt_ns(const struct rd *d, const char *key, struct opt_ns *ret);
void rd_ns(const struct rd *d, const char *key, int64_t *ret);
/* Index in a NULL-terminated list; `dflt` when absent or unknown (with a finding). */
int rd_enum(const struct rd *d, const char *key, const char *const *names, int dflt);
/* "5", 5, "5.5", "64Mi": number or string as text (quantities, int-or-string). */
void rd_text(const struct rd *d, const char *key, struct slice *ret);

/* Objects and arrays of them: `fn` fills a zeroed struct of `size` bytes. Elements that are no
 * objects stay zeroed. */
typedef void rd_fn(const struct rd *d, void *ret);
void *rd_new(const struct rd *d, const char *key, size_t size, rd_fn *fn);
void *rd_array(const struct rd *d, const char *key, size_t size, rd_fn *fn, uint32_t *ret_n);
/* Zeroed memory; notes when there is none. */
void *rd_alloc(struct rd_ctx *c, size_t count, size_t size);
struct slice rd_copy(struct rd_ctx *c, struct slice s);
/* Report an error about a member. */
void rd_fail(const struct rd *d, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* metadata; `core` keeps only the mesh's annotations. -1: no object, or no name. */
int rd_meta(const struct rd *root, bool core, struct obj_meta *ret);
/* Begin: root and its spec (an empty object when absent). -1 as x_decode. */
int rd_begin(struct rd_ctx *c, const json_t *obj, bool core, struct obj_meta *ret_meta,
             struct rd *ret_root, struct rd *ret_spec);

/* Shared shapes. */
void rd_match(const struct rd *d, const char *key, struct api_match *ret);
/* Of the value itself. */
void rd_match_of(const struct rd *d, struct api_match *ret);
void rd_named_matches(const struct rd *d, const char *key, bool lower,
                      struct api_named_matches *ret);
void rd_selector(const struct rd *d, const char *key, const char *labels, struct api_selector *ret);
void rd_target_refs(const struct rd *spec, struct api_target_refs *ret);
void rd_api_port(const struct rd *d, void *ret); /* struct api_port */
void rd_ports(const struct rd *d, const char *key, struct api_ports *ret);
/* A share in percent: {value: 12.5}; *ret untouched when absent. */
bool rd_percent(const struct rd *d, const char *key, double *ret);
