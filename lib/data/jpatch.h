/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Patch (RFC 6902): building, applying, and the difference of two documents. */
#pragma once

#include "lib/data/pointer.h"

/* Append one operation to `patch` (a json_array()). `value` is taken, also on failure; NULL counts
 * as out of memory, so that values can be made in place. 0, or -1 when out of memory. */
int jpatch_add(json_t *patch, const char *pointer, json_t *value);
int jpatch_replace(json_t *patch, const char *pointer, json_t *value);
int jpatch_test(json_t *patch, const char *pointer, json_t *value);
int jpatch_remove(json_t *patch, const char *pointer);

/* `doc` with all operations applied, or an error that names the operation; `doc` is not touched.
 * All six operations are known. *ret is a new reference. */
int jpatch_apply(const json_t *doc, const json_t *patch, json_t **ret, struct err *err);
/* A patch that turns `before` into `after`; empty when they are equal; NULL when out of memory.
 * It shares values with `after`, which is to stay as it is while the patch lives.
 * Stable: keys in byte order, array elements by index (equal heads and tails are kept, the middle
 * is edited in place, then removed from the end or inserted). */
json_t *jpatch_diff(const json_t *before, const json_t *after);
