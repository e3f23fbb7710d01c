/* SPDX-License-Identifier: Apache-2.0 */
/* The support table: one row for each field of each kind (support.def). A field that is set and not
 * implemented is reported with its path; docs/support.md is written from the same rows. */
#pragma once

#include <jansson.h>

#include "mesh/api/findings.h"
#include "mesh/api/kinds.h"

enum support_state {
    SUPPORT_IMPLEMENTED,
    SUPPORT_PARTIAL,  /* the note says which part */
    SUPPORT_REPORTED, /* read, validated and reported, without effect */
};
struct support_row {
    enum api_kind kind;
    const char *path; /* "spec.http[].match[].uri"; "[]" any element, "{}" any key of a map */
    enum support_state state;
    const char *unserved; /* of a partial enum: the values that have no effect, "A,B"; else "" */
    const char *note; /* "" or what to do instead, or which part holds */
};

/* A kind as a whole. */
struct support_kind {
    enum support_state state; /* REPORTED: none of its fields has an effect */
    bool open;                /* takes any content: there are no rows */
    const char *instead;      /* of a reported kind: what to do instead; else "" */
};
const struct support_kind *support_kind(enum api_kind kind);
/* All rows, ordered by kind as in enum api_kind. */
const struct support_row *support_rows(size_t *ret_n);
/* The row of exactly that path, or NULL. */
const struct support_row *support_find(enum api_kind kind, const char *path);
const char *support_state_name(enum support_state s); /* "implemented" */
/* Walk an object's JSON: a finding UNSUPPORTED for each field that is set (not null, not an empty
 * object or array) and `reported` or holds an unserved value, PARTIAL for others in part, SUSPECT for
 * one that the table has not. Below a reported field, and in a reported kind, only the last are said. */
void support_check(enum api_kind kind, const json_t *obj, struct findings *f);
