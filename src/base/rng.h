/* Chance as an argument: a seeded splitmix64, the same sequence on every machine.
 *
 * Not for secrets. One generator per owner; not thread-safe.
 * Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014). */
#pragma once

#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline void rng_init(struct rng *rng, uint64_t seed)
{
    rng->state = seed;
}

static inline uint64_t rng_next(struct rng *rng)
{
    uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Uniform in 0..bound-1; bound > 0. Rejects the biased tail. */
static inline uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    uint64_t threshold = -bound % bound;
    for (;;) {
        uint64_t r = rng_next(rng);
        if (r >= threshold) {
            return r % bound;
        }
    }
}

/* Uniform in [0, 1), 53 bits. */
static inline double rng_unit(struct rng *rng)
{
    return (double)(rng_next(rng) >> 11) * 0x1.0p-53;
}

/* A seed from the kernel's random source, for programs that were given none. */
uint64_t rng_seed_system(void);
