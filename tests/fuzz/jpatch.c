/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/data */
/* Input: two JSON texts with a line feed between. The difference applied to the first gives the
 * second; the second as a patch of the first does no harm and leaves the first as it was. */
#include <stdlib.h>

#include "lib/data/jpatch.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(json_freep) json_t *a = NULL;
    CLEANUP(json_freep) json_t *b = NULL;
    CLEANUP(json_freep) json_t *kept = NULL;
    CLEANUP(json_freep) json_t *patch = NULL;
    CLEANUP(json_freep) json_t *after = NULL;
    CLEANUP(json_freep) json_t *other = NULL;
    ptrdiff_t cut = slice_chr(slice_of(p, n), '\n');
    struct slice in = slice_of(p, n);
    struct err err = {0};

    if (cut < 0 || json_parse(slice_head(in, (size_t)cut), NULL, &a, &err) < 0 ||
        json_parse(slice_skip(in, (size_t)cut + 1), NULL, &b, &err) < 0)
        return 0;
    patch = jpatch_diff(a, b);
    if (!patch || jpatch_apply(a, patch, &after, &err) < 0 || !json_equal(after, b))
        abort();
    if ((json_array_size(patch) == 0) != (json_equal(a, b) != 0))
        abort();
    kept = json_deep_copy(a);
    if (json_is_array(b))
        (void)jpatch_apply(a, b, &other, &err);
    if (!json_equal(a, kept))
        abort();
    return 0;
}
