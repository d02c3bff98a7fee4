/* Histograms as the kernel programs fill them: 8 linear steps per power of two, so a bucket is at
 * most 12.5 % wide. Shared by the BPF side, which counts, and user space, which answers.
 * Plain data; pure functions. */
#pragma once

#define LOGHIST_BUCKETS 320 /* the last one holds everything from 2^42 ns, 73 minutes, up */

#ifndef __bpf__
#include <stdint.h>

static inline uint64_t loghist_low(int bucket)
{
    if (bucket < 8) {
        return (uint64_t)bucket;
    }
    int octave = bucket / 8 + 2;
    return (UINT64_C(1) << octave) | ((uint64_t)(bucket & 7) << (octave - 3));
}

static inline uint64_t loghist_high(int bucket)
{
    return loghist_low(bucket + 1) - 1;
}

static inline int loghist_bucket(uint64_t value)
{
    if (value < 8) {
        return (int)value;
    }
    int octave = 63 - __builtin_clzll(value);
    int bucket = (octave - 2) * 8 + (int)((value >> (octave - 3)) & 7);
    return bucket < LOGHIST_BUCKETS ? bucket : LOGHIST_BUCKETS - 1;
}

/* The high end of the bucket of the ceil(p*n)-th smallest value; 0 when there is none. */
static inline uint64_t loghist_quantile(const uint64_t counts[LOGHIST_BUCKETS], double p)
{
    uint64_t total = 0;
    for (int i = 0; i < LOGHIST_BUCKETS; i++) {
        total += counts[i];
    }
    if (total == 0) {
        return 0;
    }
    double exact = p * (double)total;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0) {
        rank++;
    }
    uint64_t seen = 0;
    for (int i = 0; i < LOGHIST_BUCKETS; i++) {
        seen += counts[i];
        if (seen >= rank) {
            return loghist_high(i);
        }
    }
    return loghist_high(LOGHIST_BUCKETS - 1);
}
#endif
