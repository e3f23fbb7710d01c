/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/data */
/* A normal form is stable, has no dot segment, no backslash and no byte outside printable ASCII;
 * each stricter mode accepts no more than the one before. */
#include <stdlib.h>

#include "lib/data/urlpath.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void judge(struct slice path, enum path_norm how)
{
    struct slice rest = path, segment;

    for (size_t i = 0; i < path.len; i++) {
        if ((unsigned char)path.p[i] <= 0x20 || (unsigned char)path.p[i] >= 0x7f ||
            path.p[i] == '\\' || path.p[i] == '?' || path.p[i] == '#')
            abort();
        if (how >= PATH_MERGE_SLASHES && i && path.p[i] == '/' && path.p[i - 1] == '/')
            abort();
    }
    while (slice_next(&rest, '/', &segment))
        if (slice_is(segment, ".") || slice_is(segment, "..") || slice_starts(segment, SL("..;")) ||
            slice_starts(segment, SL(".;")))
            abort();
    if (path.len == 0 || path.p[0] != '/')
        abort();
    if (how == PATH_DECODE_AND_MERGE_SLASHES &&
        (slice_find(path, SL("%2F")) >= 0 || slice_find(path, SL("%2f")) >= 0 ||
         slice_find(path, SL("%5C")) >= 0 || slice_find(path, SL("%5c")) >= 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    size_t cap = 3 * n + 1;
    char *out = malloc(cap), *again = malloc(cap);
    struct slice got, twice, path, query;

    if (!out || !again)
        abort();
    for (int how = PATH_BASE; how <= PATH_DECODE_AND_MERGE_SLASHES; how++) {
        enum err_code rc = path_normalise(slice_of(p, n), (enum path_norm)how, out, cap, &got);

        if (rc == ERR_INVALID)
            continue;
        if (rc != ERR_OK)
            abort();
        judge(got, (enum path_norm)how);
        if (path_normalise(got, (enum path_norm)how, again, cap, &twice) != ERR_OK ||
            !slice_eq(got, twice))
            abort();
    }
    if (target_split(slice_of(p, n), &path, &query) == ERR_OK &&
        path.len + query.len + (query.p != NULL) != n)
        abort();
    free(out);
    free(again);
    return 0;
}
