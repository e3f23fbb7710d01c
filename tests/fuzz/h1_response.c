/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/http */
/* Answers: where the bytes are cut must not change what they mean, and what is sent on is read as
 * the same. The first byte chooses the cut, and by its upper bits what was asked. */
#include "tests/unit/lib/http/h1_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n > 0)
        h1_fuzz(&(struct h1_way){.head = p[0] >> 6 == 1, .connect = p[0] >> 6 == 2, .upgrade = p[0] >> 6 == 3}, p[0] & 63,
                slice_of(p + 1, n - 1));
    return 0;
}
