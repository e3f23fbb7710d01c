/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions as Istio's users write them: RE2, linear in the text. The library is C++ and
 * megabytes large, so it sits behind tulle-re2.so (lib/base/re2/shim.cc), which the first compiled
 * pattern loads; a process that never compiles one never pays for it.
 *
 * The shared object is looked for in $TULLE_LIBDIR, beside the executable, in
 * /usr/local/lib/tulle and in /usr/lib/tulle. A compiled pattern is immutable and may be used by
 * several threads at once. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

#define RE_MAX_PATTERN 4096u /* bytes */

struct re;

/* Compile. ERR_INVALID: not RE2 syntax, or too large a program; ERR_LIMIT: pattern over
 * RE_MAX_PATTERN; ERR_UNAVAILABLE: tulle-re2.so cannot be loaded (the text says where it was looked
 * for and why it failed). */
int re_compile(struct slice pattern, struct re **ret, struct err *err);
void re_free(struct re *re); /* NULL is fine */
/* The whole text matches (not a part of it). Never fails. */
bool re_full_match(const struct re *re, struct slice text);
/* ERR_INVALID when `substitution` refers to a group that the pattern has not, or ends in a bare
 * backslash. Groups are \0 to \9. */
int re_check_substitution(const struct re *re, struct slice substitution, struct err *err);
/* Append `text` to `out` with every match replaced. ERR_INVALID as above (out untouched), else what
 * buf_err says. */
enum err_code re_replace(const struct re *re, struct slice text, struct slice substitution,
                         struct buf *out);
