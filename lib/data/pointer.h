/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Pointers (RFC 6901). */
#pragma once

#include "lib/data/json.h"

/* The value that `pointer` names within `doc`, borrowed; NULL when there is none or the pointer is
 * malformed. "" is the document. */
json_t *pointer_get(const json_t *doc, struct slice pointer);
/* Append "/token" with '~' and '/' escaped (RFC 6901 3). */
void pointer_add(struct buf *out, struct slice token);
void pointer_add_index(struct buf *out, size_t index);
/* Cut the first token off *rest (which starts with '/') and unescape it into `ret` of `cap` bytes
 * (NUL-terminated). ERR_EOF: *rest is empty; ERR_INVALID: malformed; ERR_LIMIT: does not fit. */
enum err_code pointer_next(struct slice *rest, char *ret, size_t cap, struct slice *ret_token);
/* An array index: "0" or digits without leading zero (RFC 6901 4). */
bool pointer_index(struct slice token, size_t *ret);
