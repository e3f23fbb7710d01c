/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes: XXH3 for tables and content versions (never where an adversary gains by a collision:
 * those use SHA-256 in lib/tls). */
#pragma once

#include "lib/base/slice.h"

uint64_t hash64(struct slice s, uint64_t seed);
struct hash128 {
    uint64_t lo, hi;
};
struct hash128 hash128(struct slice s);
