/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/hash.h"

#include <xxhash.h>

uint64_t hash64(struct slice s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.p ? s.p : "", s.len, seed);
}

struct hash128 hash128(struct slice s)
{
    XXH128_hash_t h = XXH3_128bits(s.p ? s.p : "", s.len);

    return (struct hash128){.lo = h.low64, .hi = h.high64};
}
