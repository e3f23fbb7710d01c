/* SPDX-License-Identifier: Apache-2.0 */
/* The normal form of a request's path, made before anything is decided about it and sent on instead
 * of what came, so that proxy and application never read two different paths. The rules are those
 * of Istio's pathNormalization (Envoy's normalize_path, merge_slashes,
 * path_with_escaped_slashes_action), with refusal where those repair: see path_normalise. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"

enum path_norm {
    PATH_NONE, /* only checked, not changed */
    PATH_BASE, /* RFC 3986 6.2.2.2-3: dot segments, %-encoded unreserved bytes; '\' is '/' */
    PATH_MERGE_SLASHES,            /* and runs of slashes are one */
    PATH_DECODE_AND_MERGE_SLASHES, /* and %2F, %5C are slashes, before all else */
};

/* Parts of a request-target in origin form (RFC 9112 3.2.1). `query` is what follows the first '?'
 * (null when there is none). ERR_INVALID: does not begin with '/', or holds '#' (a fragment never
 * belongs in a request; stripping it here and not there was CVE-2021-39156). Borrows. */
enum err_code target_split(struct slice target, struct slice *ret_path, struct slice *ret_query);

/* `path` (no '?' or '#') in normal form into `out` of `cap` bytes, which may not overlap `path`;
 * 3 * path.len always suffices, as bytes above 0x7f are percent-encoded. Normalising twice changes
 * nothing more. Pure, O(n), no allocation. ERR_LIMIT: does not fit. ERR_INVALID: a '%' without two
 * hex digits, an encoded or plain control character (NUL, CR, LF, DEL ...) or blank in plain form,
 * more
 * ".." than segments, a dot segment with parameters ("..;x", which servlet containers resolve). */
enum err_code path_normalise(struct slice path, enum path_norm how, char *out, size_t cap,
                             struct slice *ret_path);
