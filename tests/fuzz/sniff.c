/* SPDX-License-Identifier: Apache-2.0 */
/* module: proxy */
/* Once the first bytes say what a connection carries, more bytes do not change it, and at the end of
 * input there is always an answer. */
#include <stdint.h>
#include <stdlib.h>

#include "proxy/sniff.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice all = slice_of((const char *)p, n);
    enum sniff settled = SNIFF_MORE;
    for (size_t cut = 0; cut <= n; cut++) {
        enum sniff now = sniff(slice_head(all, cut), true, false);
        if (settled != SNIFF_MORE && now != settled)
            abort();
        settled = now;
    }
    if (sniff(all, true, true) == SNIFF_MORE)
        abort();
    return 0;
}
