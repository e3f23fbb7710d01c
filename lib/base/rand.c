/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/rand.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* splitmix64: spreads one word over the state, which must not be all zero. */
static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void rnd_init_seed(struct rnd *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

void rnd_init_system(struct rnd *r)
{
    struct timespec ts;
    uint64_t seed;

    if (getrandom(r->s, sizeof r->s, 0) == (ssize_t)sizeof r->s &&
        (r->s[0] | r->s[1] | r->s[2] | r->s[3]))
        return;
    /* Only a kernel without getrandom comes here; these numbers guard no secret. */
    clock_gettime(CLOCK_REALTIME, &ts);
    seed = (uint64_t)ts.tv_nsec ^ (uint64_t)ts.tv_sec << 30 ^ (uint64_t)getpid() << 48;
    rnd_init_seed(r, seed);
}

static inline uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t rnd_u64(struct rnd *r) /* xoshiro256** */
{
    uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint32_t rnd_below(struct rnd *r, uint32_t n)
{
    return (uint32_t)(((unsigned __int128)rnd_u64(r) * n) >> 64);
}

int64_t rnd_jitter(struct rnd *r, int64_t v, double f)
{
    double u = (double)(rnd_u64(r) >> 11) * 0x1p-53; /* [0, 1) */

    return (int64_t)((double)v * (1 - f + 2 * f * u));
}
