/* Arithmetic of the histograms, BPF side. */
#pragma once

#include "loghist.h"

/* Global, not static: the verifier checks it once and not at every call. */
__noinline int hist_bucket(__u64 value)
{
    if (value < 8) {
        return (int)value;
    }
    __u32 octave = 0;
    __u64 x = value;
    if (x >> 32) {
        x >>= 32;
        octave += 32;
    }
    if (x >> 16) {
        x >>= 16;
        octave += 16;
    }
    if (x >> 8) {
        x >>= 8;
        octave += 8;
    }
    if (x >> 4) {
        x >>= 4;
        octave += 4;
    }
    if (x >> 2) {
        x >>= 2;
        octave += 2;
    }
    octave += (x >> 1) & 1;
    __u32 bucket = (octave - 2) * 8 + ((value >> ((octave - 3) & 63)) & 7);
    return bucket < LOGHIST_BUCKETS ? (int)bucket : LOGHIST_BUCKETS - 1;
}
