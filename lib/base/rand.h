/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers that are passed in: seeded for tests, from the kernel in production (xoshiro256**
 * seeded by getrandom). Not for keys or tokens: those come from OpenSSL. */
#pragma once

#include <stdint.h>

struct rnd {
    uint64_t s[4];
};
void rnd_init_seed(struct rnd *r, uint64_t seed);
void rnd_init_system(struct rnd *r);
uint64_t rnd_u64(struct rnd *r);
static inline uint32_t rnd_u32(struct rnd *r)
{
    return (uint32_t)(rnd_u64(r) >> 32);
}
/* Uniform in [0, n), n > 0, without modulo bias worth speaking of. */
uint32_t rnd_below(struct rnd *r, uint32_t n);
/* v scaled by a uniform factor in [1 - f, 1 + f]. */
int64_t rnd_jitter(struct rnd *r, int64_t v, double f);
