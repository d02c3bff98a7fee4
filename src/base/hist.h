/* Latency histogram: whole distributions in fixed memory, mergeable, exchangeable as HDR V2 text.
 *
 * A value is counted in a bucket whose width is at most 10^-digits of it. Everything that is asked
 * of a histogram is answered from the counts alone, so what was encoded, stored, decoded and merged
 * answers as the original did. Only `clamped` stays behind: see hist_record.
 *
 * The owner calls hist_init and hist_fini; between them memory is fixed and nothing is allocated
 * but by hist_encode and hist_decode. Not thread-safe: one histogram a thread, then merge.
 *
 * Source: HdrHistogram (Gil Tene), the layout of HdrHistogram_c:src/hdr_histogram.c and the V2
 * encoding of HdrHistogram:AbstractHistogram.java. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define HIST_DIGITS_MAX 3
#define HIST_COUNTS_MAX 65536 /* buckets of the widest histogram: 512 KiB */
#define HIST_TEXT_BYTES_MAX (1 << 20) /* longest text that hist_decode looks at */

/* 1 ns to 60 s; 31 KB with 2 digits, 221 KB with 3. */
#define HIST_LOWEST_NS_DEFAULT INT64_C(1)
#define HIST_HIGHEST_NS_DEFAULT INT64_C(60000000000)

struct hist_config {
    int64_t lowest_ns; /* smallest value told from 0 and from its neighbour; 1.. */
    int64_t highest_ns; /* largest value kept apart; at least 2 * lowest_ns */
    int digits; /* significant decimal digits, 1..HIST_DIGITS_MAX */
};

/* Private but for the inline functions below. */
struct hist {
    struct hist_config config;
    int64_t *counts;
    int32_t counts_len;
    int32_t unit_bits; /* log2 of the smallest bucket's width */
    int32_t half_bits; /* log2 of half the buckets of one octave group */
    uint64_t unit_mask; /* all values that the first group resolves */
    int64_t total;
    int64_t clamped;
};

/* Two digits suffice for verdicts, three for curves. config NULL: 1 ns..60 s, 2 digits.
 * -EINVAL with text: a field out of range. -ENOMEM. */
int hist_init(struct hist *hist, const struct hist_config *config, struct err *err);
void hist_fini(struct hist *hist); /* accepts a zeroed one */
void hist_clear(struct hist *hist);

/* Bucket of a value in 0..INT64_MAX; may lie past the last one. Private. */
static inline int64_t hist_index(const struct hist *hist, uint64_t value)
{
    int bits = 64 - __builtin_clzll(value | hist->unit_mask);
    int bucket = bits - hist->unit_bits - (hist->half_bits + 1);
    int64_t sub = (int64_t)(value >> (bucket + hist->unit_bits));
    return (((int64_t)bucket + 1) << hist->half_bits) + (sub - (INT64_C(1) << hist->half_bits));
}

/* Count n values; n >= 0. What is below 0 or above the last bucket is counted in the first or last
 * one and in hist_clamped, never dropped. No allocation. */
static inline void hist_record_n(struct hist *hist, int64_t value_ns, int64_t n)
{
    int64_t index = hist_index(hist, value_ns < 0 ? 0 : (uint64_t)value_ns);
    if (__builtin_expect(value_ns < 0 || index >= hist->counts_len, 0)) {
        hist->clamped += n;
        index = value_ns < 0 ? 0 : hist->counts_len - 1;
    }
    hist->counts[index] += n;
    hist->total += n;
}

static inline void hist_record(struct hist *hist, int64_t value_ns)
{
    hist_record_n(hist, value_ns, 1);
}

/* Add src to dst. Both need the same lowest_ns and digits. -EINVAL: they differ; -ERANGE: src holds
 * a value above dst's range. dst is untouched on failure. */
int hist_merge(struct hist *dst, const struct hist *src, struct err *err);

static inline int64_t hist_count(const struct hist *hist)
{
    return hist->total;
}

/* Values that lay outside the range; 0 in a fit histogram. Not part of the encoded form: report it
 * beside. */
static inline int64_t hist_clamped(const struct hist *hist)
{
    return hist->clamped;
}

/* The ends of the bucket a value falls into: all of them are counted alike. */
int64_t hist_bucket_low_ns(const struct hist *hist, int64_t value_ns);
int64_t hist_bucket_high_ns(const struct hist *hist, int64_t value_ns);

/* Low end of the lowest used bucket, high end of the highest; 0 when empty. */
int64_t hist_min_ns(const struct hist *hist);
int64_t hist_max_ns(const struct hist *hist);

/* Mean of the middles of the buckets; 0 when empty. */
double hist_mean_ns(const struct hist *hist);

/* The ceil(p*n)-th smallest value, at least the first, as the high end of its bucket; p in 0..1.
 * 0 when empty. A product p*n that is whole but for the rounding of binary fractions counts as
 * whole. Source: CONTRACTS, rank rule; hist_rank says which rank it is. */
int64_t hist_quantile_ns(const struct hist *hist, double p);
int64_t hist_rank(int64_t n, double p); /* 1..n, 0 when n is 0 */

/* How many of the values rank above the quantile's: a quantile with fewer than 20 of them is not to
 * be reported. */
int64_t hist_beyond_quantile(const struct hist *hist, double p);

/* How many values lie in buckets above the one of value_ns. */
int64_t hist_above(const struct hist *hist, int64_t value_ns);

struct hist_bucket {
    int64_t low_ns; /* smallest and largest value that it counts */
    int64_t high_ns;
    int64_t count; /* 1.. */
    int32_t index; /* private */
};

/* Used buckets in rising order: for (struct hist_bucket b = HIST_BEGIN; hist_next(&h, &b);) */
#define HIST_BEGIN ((struct hist_bucket){0, 0, 0, -1})
bool hist_next(const struct hist *hist, struct hist_bucket *bucket);

/* HDR V2, compressed by zlib, in base64: one line that the caller frees. NULL when out of memory.
 * Equal counts give equal text with one version of zlib. */
char *hist_encode(const struct hist *hist);

/* Read what hist_encode or any HdrHistogram wrote. hist is initialised on success and untouched on
 * failure. -EINVAL with text: not base64, wrong cookie, cut short, damaged, counts negative, past
 * the range or over INT64_MAX together, a histogram of fractions, or one of more than
 * HIST_DIGITS_MAX digits. -E2BIG: above HIST_TEXT_BYTES_MAX. -ENOMEM.
 * Memory and time are bounded whatever the text. */
int hist_decode(struct hist *hist, const char *text, size_t bytes, struct err *err);

/* The same for the uncompressed binary form inside of it. */
int hist_decode_plain(struct hist *hist, const unsigned char *plain, size_t bytes, struct err *err);
