#include "base/rng.h"

#include <sys/random.h>
#include <time.h>

uint64_t rng_seed_system(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        seed = (uint64_t)t.tv_nsec * UINT64_C(2654435761) ^ (uint64_t)t.tv_sec;
    }
    return seed;
}
