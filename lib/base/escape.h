/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of others inside a line of ours: logs and access logs stay one parseable line whatever a
 * peer sends. */
#pragma once

#include "lib/base/slice.h"

enum escape_form {
    ESCAPE_TEXT, /* inside "..." of a text line: printable ASCII stays, the rest is \n, \" or \xHH */
    ESCAPE_JSON, /* inside "..." of JSON (RFC 8259 7): valid UTF-8 above U+009F stays, control
                    characters are \u00HH; NUL and bytes that are not UTF-8 are the four characters
                    \xHH */
};

#define ESCAPE_MAX 8 /* most bytes that one step writes */

/* Escape the first character of `in` (not empty) into `out`: bytes written; *ret_used bytes of `in`
 * were read (1 to 4). */
size_t escape_step(struct slice in, enum escape_form form, char out[ESCAPE_MAX], size_t *ret_used);

/* Length (1 to 4) of the well-formed UTF-8 character at the start of `in` (RFC 3629 4: no overlong
 * forms, no surrogates, nothing above U+10FFFF); 0 when there is none. */
size_t utf8_len(struct slice in);
