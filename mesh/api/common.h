/* SPDX-License-Identifier: Apache-2.0 */
/* What all decoded objects share. An object is one immutable struct in the caller's arena; slices are
 * copies there (NUL-terminated behind their last byte), so the JSON may go once decoding is done.
 *
 * Every kind has the same three functions:
 *
 *     int  x_decode(const json_t *obj, struct arena *a, struct x **ret, struct findings *f);
 *     void x_validate(const struct x *x, struct findings *f);
 *
 * x_decode never fails for a merely invalid spec: what cannot be read is reported in `f` and holds
 * its default; elements of arrays keep their position, so that paths stay right. It returns -1 only
 * for want of memory (arena cap, allocator) or when `obj` is no object with a metadata.name; then
 * *ret is untouched. `f` may be NULL where nobody wants to know.
 * x_validate is pure and judges what was read: rules across fields, ranges, names. An object with
 * an error finding from either is to be refused as Istio's webhook would refuse it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"
#include "mesh/api/findings.h"

/* Scalars that may be unset; unset ones hold zero. */
struct opt_bool {
    bool set, v;
};
struct opt_u32 {
    bool set;
    uint32_t v;
};
struct opt_i64 {
    bool set;
    int64_t v;
};
struct opt_f64 {
    bool set;
    double v;
};
struct opt_ns { /* a duration */
    bool set;
    int64_t ns;
};

/* Absent strings are the null slice (p == NULL); "" is an empty one. */
struct api_strings {
    struct slice *p;
    uint32_t n;
};
struct api_kv {
    struct slice key, value;
};
struct api_map { /* ordered by key */
    struct api_kv *p;
    uint32_t n;
};

struct obj_meta {
    struct slice ns, name; /* ns is empty for cluster-scoped objects */
    struct slice uid, resource_version;
    int64_t generation;
    int64_t created_s;      /* creationTimestamp, seconds since 1970; 0 when absent */
    bool deleting;          /* deletionTimestamp is set */
    struct api_map labels;
    struct api_map annotations; /* without last-applied-configuration; of core kinds only those
                                 * whose key holds "istio.io/", "tulle.dev/" or "prometheus.io/" */
};

/* A null slice when the key is absent. */
struct slice api_map_get(const struct api_map *m, struct slice key);
/* Every pair of `want` is in `have`; true when `want` is empty. */
bool api_map_covers(const struct api_map *have, const struct api_map *want);
bool api_strings_has(const struct api_strings *s, struct slice value);

/* Istio's WorkloadSelector: pods by labels. */
struct api_selector {
    bool set;
    struct api_map labels; /* matchLabels, or labels of the networking kinds */
};
/* A selector that is not set takes every pod of its namespace. */
static inline bool api_selector_matches(const struct api_selector *s, const struct api_map *labels)
{
    return !s->set || api_map_covers(labels, &s->labels);
}
/* An empty selector that is set (`selector: {}`) takes every pod too. */
static inline bool api_selector_is_all(const struct api_selector *s)
{
    return !s->set || s->labels.n == 0;
}

/* targetRef(s) of the policy kinds. */
struct api_target_ref {
    struct slice group, kind, name, ns;
};
struct api_target_refs {
    struct api_target_ref *p;
    uint32_t n;
};

/* {number, name, protocol, targetPort}; number 0 and null slices where absent. */
struct api_port {
    struct slice name, protocol; /* as written; Istio takes any case */
    uint32_t number, target_port;
};
struct api_ports {
    struct api_port *p;
    uint32_t n;
};

/* StringMatch. PRESENT is the empty match `{}`. */
enum api_match_kind { API_MATCH_UNSET, API_MATCH_PRESENT, API_MATCH_EXACT, API_MATCH_PREFIX,
                      API_MATCH_REGEX };
struct api_match {
    enum api_match_kind kind;
    struct slice value;
};
struct api_named_match {
    struct slice name; /* of headers: lower case */
    struct api_match match;
};
struct api_named_matches {
    struct api_named_match *p;
    uint32_t n;
};

/* "2026-01-31T12:00:00Z" (RFC 3339, fractions and offsets too) in seconds since 1970; false when
 * malformed. */
bool api_time_parse(struct slice text, int64_t *ret_s);
/* "2026-01-31T12:00:00Z". Returns ret. */
const char *api_time_format(int64_t s, char ret[24]);
