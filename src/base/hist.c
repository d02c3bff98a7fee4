#include "base/hist.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

/* The second lowest digit is the word size of the counts; 1 says "variable length". */
#define COOKIE_V2 UINT32_C(0x1c849313)
#define COOKIE_V2_COMPRESSED UINT32_C(0x1c849314)
#define COOKIE_WORD_SIZE_MASK UINT32_C(0xf0)

#define RATIO_ONE UINT64_C(0x3ff0000000000000) /* 1.0 as an IEEE 754 double */

#define HEADER_BYTES \
    40 /* cookie, payload length, offset, digits: 4 each; lowest, highest, ratio: 8 */
#define OUTER_BYTES 8 /* cookie, length of the zlib stream */
#define WORD_BYTES_MAX 9 /* a 64-bit number in LEB128-64b9B */
#define PAYLOAD_BYTES_MAX (HIST_COUNTS_MAX * WORD_BYTES_MAX)

static int32_t log2_floor(uint64_t value)
{
    return 63 - __builtin_clzll(value);
}

/* Fill in the layout for a config; counts stays untouched. */
static int layout(struct hist *hist, const struct hist_config *config, struct err *err)
{
    if (config->digits < 1 || config->digits > HIST_DIGITS_MAX) {
        return err_set(err, -EINVAL, "histogram: digits is %d: 1 to %d are kept", config->digits,
                       HIST_DIGITS_MAX);
    }
    if (config->lowest_ns < 1 || config->highest_ns / 2 < config->lowest_ns) {
        return err_set(err, -EINVAL,
                       "histogram: range %" PRId64 "..%" PRId64
                       ": the low end is at least 1 and the high end twice that",
                       config->lowest_ns, config->highest_ns);
    }
    uint64_t resolved = 2;
    for (int i = 0; i < config->digits; i++) {
        resolved *= 10;
    }
    int32_t sub_bits = log2_floor(resolved - 1) + 1;
    int32_t unit_bits = log2_floor((uint64_t)config->lowest_ns);
    if (unit_bits + sub_bits > 61) {
        return err_set(err, -EINVAL, "histogram: lowest value %" PRId64 " is too large",
                       config->lowest_ns);
    }
    int32_t groups = 1;
    for (uint64_t past = UINT64_C(1) << (unit_bits + sub_bits);
         past <= (uint64_t)config->highest_ns; past <<= 1) {
        groups++;
    }
    hist->config = *config;
    hist->unit_bits = unit_bits;
    hist->half_bits = sub_bits - 1;
    hist->unit_mask = ((UINT64_C(1) << sub_bits) - 1) << unit_bits;
    hist->counts_len = (groups + 1) << hist->half_bits;
    hist->total = 0;
    hist->clamped = 0;
    return 0;
}

static_assert((63 - 11 + 2) * 1024 <= HIST_COUNTS_MAX, "three digits of all of int64 fit");

int hist_init(struct hist *hist, const struct hist_config *config, struct err *err)
{
    static const struct hist_config usual = {HIST_LOWEST_NS_DEFAULT, HIST_HIGHEST_NS_DEFAULT, 2};
    struct hist made;
    int rc = layout(&made, config != NULL ? config : &usual, err);
    if (rc != 0) {
        return rc;
    }
    made.counts = calloc((size_t)made.counts_len, sizeof *made.counts);
    if (made.counts == NULL) {
        return err_set(err, -ENOMEM, "histogram: out of memory");
    }
    *hist = made;
    return 0;
}

void hist_fini(struct hist *hist)
{
    free(hist->counts);
    memset(hist, 0, sizeof *hist);
}

void hist_clear(struct hist *hist)
{
    memset(hist->counts, 0, (size_t)hist->counts_len * sizeof *hist->counts);
    hist->total = 0;
    hist->clamped = 0;
}

static int64_t index_low_ns(const struct hist *hist, int32_t index)
{
    int32_t group = index >> hist->half_bits;
    int64_t sub = index & ((1 << hist->half_bits) - 1);
    if (group > 0) {
        sub += INT64_C(1) << hist->half_bits;
        group--;
    }
    return sub << (group + hist->unit_bits);
}

static int64_t index_high_ns(const struct hist *hist, int32_t index)
{
    int32_t group = index >> hist->half_bits;
    int32_t shift = (group > 0 ? group - 1 : 0) + hist->unit_bits;
    return index_low_ns(hist, index) + ((INT64_C(1) << shift) - 1);
}

/* Bucket of a value, the ends standing for what lies past them. */
static int32_t index_within(const struct hist *hist, int64_t value_ns)
{
    int64_t index = hist_index(hist, value_ns < 0 ? 0 : (uint64_t)value_ns);
    return (int32_t)(index < hist->counts_len ? index : hist->counts_len - 1);
}

int64_t hist_bucket_low_ns(const struct hist *hist, int64_t value_ns)
{
    return index_low_ns(hist, index_within(hist, value_ns));
}

int64_t hist_bucket_high_ns(const struct hist *hist, int64_t value_ns)
{
    return index_high_ns(hist, index_within(hist, value_ns));
}

/* Highest used bucket, -1 when empty. */
static int32_t last_used(const struct hist *hist)
{
    int32_t i = hist->counts_len - 1;
    while (i >= 0 && hist->counts[i] == 0) {
        i--;
    }
    return i;
}

int hist_merge(struct hist *dst, const struct hist *src, struct err *err)
{
    if (dst->config.lowest_ns != src->config.lowest_ns ||
        dst->config.digits != src->config.digits) {
        return err_set(err, -EINVAL,
                       "histogram: lowest %" PRId64 " with %d digits does not merge with "
                       "lowest %" PRId64 " with %d digits",
                       src->config.lowest_ns, src->config.digits, dst->config.lowest_ns,
                       dst->config.digits);
    }
    int32_t last = last_used(src);
    if (last >= dst->counts_len) {
        return err_set(err, -ERANGE,
                       "histogram: a value of %" PRId64 " ns is above the range of the sum",
                       index_low_ns(src, last));
    }
    for (int32_t i = 0; i <= last; i++) {
        dst->counts[i] += src->counts[i];
    }
    dst->total += src->total;
    dst->clamped += src->clamped;
    return 0;
}

int64_t hist_min_ns(const struct hist *hist)
{
    struct hist_bucket b = HIST_BEGIN;
    return hist_next(hist, &b) ? b.low_ns : 0;
}

int64_t hist_max_ns(const struct hist *hist)
{
    int32_t last = last_used(hist);
    return last < 0 ? 0 : index_high_ns(hist, last);
}

double hist_mean_ns(const struct hist *hist)
{
    double sum = 0;
    for (struct hist_bucket b = HIST_BEGIN; hist_next(hist, &b);) {
        /* The middle as HdrHistogram takes it: half a bucket above the low end. */
        double middle = (double)b.low_ns + (double)((b.high_ns - b.low_ns + 1) >> 1);
        sum += middle * (double)b.count;
    }
    return hist->total == 0 ? 0 : sum / (double)hist->total;
}

int64_t hist_rank(int64_t n, double p)
{
    if (n <= 0) {
        return 0;
    }
    if (!(p > 0)) {
        return 1;
    }
    if (p >= 1) {
        return n;
    }
    /* p stands for a decimal fraction and is off by up to half a unit in the last place, the
     * product by as much again: 0.07 * 100 is 7.000000000000001 and means 7. */
    int64_t rank = (int64_t)ceil(p * (double)n * (1 - 0x1p-51));
    return rank < 1 ? 1 : rank > n ? n : rank;
}

int64_t hist_quantile_ns(const struct hist *hist, double p)
{
    int64_t rank = hist_rank(hist->total, p);
    int64_t seen = 0;
    for (struct hist_bucket b = HIST_BEGIN; hist_next(hist, &b);) {
        seen += b.count;
        if (seen >= rank) {
            return b.high_ns;
        }
    }
    return 0;
}

int64_t hist_beyond_quantile(const struct hist *hist, double p)
{
    return hist->total - hist_rank(hist->total, p);
}

int64_t hist_above(const struct hist *hist, int64_t value_ns)
{
    int64_t sum = 0;
    for (int32_t i = index_within(hist, value_ns) + 1; i < hist->counts_len; i++) {
        sum += hist->counts[i];
    }
    return sum;
}

bool hist_next(const struct hist *hist, struct hist_bucket *bucket)
{
    int32_t i = bucket->index + 1;
    while (i < hist->counts_len && hist->counts[i] == 0) {
        i++;
    }
    if (i >= hist->counts_len) {
        return false;
    }
    *bucket =
        (struct hist_bucket){index_low_ns(hist, i), index_high_ns(hist, i), hist->counts[i], i};
    return true;
}

static unsigned char *put_be(unsigned char *at, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) {
        *at++ = (unsigned char)(value >> (8 * i));
    }
    return at;
}

static uint64_t get_be(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

/* ZigZag LEB128-64b9B: seven bits a byte, lowest first, and a ninth byte that holds eight.
 * Source: HdrHistogram:ZigZagEncoding.java. */
static unsigned char *put_word(unsigned char *at, int64_t value)
{
    uint64_t bits = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    for (int i = 0; i < WORD_BYTES_MAX - 1; i++) {
        if (bits < 0x80) {
            *at++ = (unsigned char)bits;
            return at;
        }
        *at++ = (unsigned char)(bits | 0x80);
        bits >>= 7;
    }
    *at++ = (unsigned char)bits;
    return at;
}

/* NULL when the bytes end inside a number. */
static const unsigned char *get_word(const unsigned char *at, const unsigned char *end,
                                     int64_t *out_value)
{
    uint64_t bits = 0;
    for (int i = 0; i < WORD_BYTES_MAX; i++) {
        if (at == end) {
            return NULL;
        }
        uint64_t byte = *at++;
        bool last = i == WORD_BYTES_MAX - 1;
        bits |= (last ? byte : byte & 0x7f) << (7 * i);
        if (last || byte < 0x80) {
            *out_value = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
            return at;
        }
    }
    return NULL;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64_encode(const unsigned char *data, size_t bytes)
{
    char *text = malloc((bytes + 2) / 3 * 4 + 1);
    if (text == NULL) {
        return NULL;
    }
    char *at = text;
    for (size_t i = 0; i < bytes; i += 3) {
        size_t n = bytes - i < 3 ? bytes - i : 3;
        uint32_t group = (uint32_t)data[i] << 16 | (n > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                         (n > 2 ? data[i + 2] : 0);
        *at++ = base64_digits[group >> 18];
        *at++ = base64_digits[group >> 12 & 63];
        *at++ = n > 1 ? base64_digits[group >> 6 & 63] : '=';
        *at++ = n > 2 ? base64_digits[group & 63] : '=';
    }
    *at = '\0';
    return text;
}

static int base64_digit(char c)
{
    const char *found = c == '\0' ? NULL : strchr(base64_digits, c);
    return found == NULL ? -1 : (int)(found - base64_digits);
}

/* Strict: padded, no line breaks, nothing behind. out holds bytes / 4 * 3. Returns the length, or
 * -1. */
static ptrdiff_t base64_decode(const char *text, size_t bytes, unsigned char *out)
{
    if (bytes == 0 || bytes % 4 != 0) {
        return -1;
    }
    unsigned char *at = out;
    for (size_t i = 0; i < bytes; i += 4) {
        bool last = i + 4 == bytes;
        int pad = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t group = 0;
        for (int k = 0; k < 4; k++) {
            int digit = k >= 4 - pad ? 0 : base64_digit(text[i + (size_t)k]);
            if (digit < 0) {
                return -1;
            }
            group = group << 6 | (uint32_t)digit;
        }
        if ((pad == 1 && (group & 0xff) != 0) || (pad == 2 && (group & 0xffff) != 0)) {
            return -1;
        }
        *at++ = (unsigned char)(group >> 16);
        if (pad < 2) {
            *at++ = (unsigned char)(group >> 8);
        }
        if (pad < 1) {
            *at++ = (unsigned char)group;
        }
    }
    return at - out;
}

char *hist_encode(const struct hist *hist)
{
    int32_t used = last_used(hist) + 1;
    char *text = NULL;
    unsigned char *packed = NULL;
    unsigned char *plain = malloc(HEADER_BYTES + (size_t)used * WORD_BYTES_MAX);
    if (plain == NULL) {
        return NULL;
    }
    unsigned char *at = plain + HEADER_BYTES;
    for (int32_t i = 0; i < used;) {
        int32_t zeros = 0;
        while (hist->counts[i + zeros] == 0) { /* ends: the last used bucket is not 0 */
            zeros++;
        }
        if (zeros > 1) {
            at = put_word(at, -(int64_t)zeros);
            i += zeros;
        } else {
            at = put_word(at, hist->counts[i]);
            i++;
        }
    }
    size_t plain_bytes = (size_t)(at - plain);
    at = put_be(plain, COOKIE_V2, 4);
    at = put_be(at, plain_bytes - HEADER_BYTES, 4);
    at = put_be(at, 0, 4); /* normalizing index offset */
    at = put_be(at, (uint64_t)hist->config.digits, 4);
    at = put_be(at, (uint64_t)hist->config.lowest_ns, 8);
    at = put_be(at, (uint64_t)hist->config.highest_ns, 8);
    put_be(at, RATIO_ONE, 8);

    uLongf packed_bytes = compressBound((uLong)plain_bytes);
    packed = malloc(OUTER_BYTES + packed_bytes);
    if (packed == NULL || compress2(packed + OUTER_BYTES, &packed_bytes, plain, (uLong)plain_bytes,
                                    Z_BEST_COMPRESSION) != Z_OK) {
        goto out;
    }
    at = put_be(packed, COOKIE_V2_COMPRESSED, 4);
    put_be(at, packed_bytes, 4);
    text = base64_encode(packed, OUTER_BYTES + packed_bytes);
out:
    free(packed);
    free(plain);
    return text;
}

static int read_counts(struct hist *hist, const unsigned char *at, const unsigned char *end,
                       struct err *err)
{
    int32_t i = 0;
    while (at < end) {
        int64_t word;
        at = get_word(at, end, &word);
        if (at == NULL) {
            return err_set(err, -EINVAL, "histogram: a count is cut short");
        }
        /* A negative number -k stands for k empty buckets. */
        int32_t left = hist->counts_len - i;
        if (left == 0 || word < -left) {
            return err_set(err, -EINVAL, "histogram: more counts than its range has buckets");
        }
        if (word > 0) {
            if (hist->total > INT64_MAX - word) {
                return err_set(err, -EINVAL, "histogram: the counts together are too large");
            }
            hist->counts[i] = word;
            hist->total += word;
        }
        i += word < 0 ? (int32_t)-word : 1;
    }
    return 0;
}

int hist_decode_plain(struct hist *hist, const unsigned char *plain, size_t bytes, struct err *err)
{
    if (bytes < HEADER_BYTES) {
        return err_set(err, -EINVAL, "histogram: its header is cut short");
    }
    uint32_t cookie = (uint32_t)get_be(plain, 4);
    if ((cookie & ~COOKIE_WORD_SIZE_MASK) != (COOKIE_V2 & ~COOKIE_WORD_SIZE_MASK)) {
        return err_set(err, -EINVAL, "histogram: inner cookie %08" PRIx32 " is not HDR V2", cookie);
    }
    uint64_t payload = get_be(plain + 4, 4);
    if (payload != bytes - HEADER_BYTES) {
        return err_set(err, -EINVAL, "histogram: says %" PRIu64 " bytes of counts, has %zu",
                       payload, bytes - HEADER_BYTES);
    }
    /* Whole values carry offset 0 and ratio 1.0. HdrHistogramJS writes the integer 1 for both and
     * shifts nothing; any other pair means shifted counts or a histogram of fractions. */
    uint64_t offset = get_be(plain + 8, 4);
    uint64_t ratio_bits = get_be(plain + 32, 8);
    bool plain_values = offset == 0 && ratio_bits == RATIO_ONE;
    bool javascript = offset == 1 && ratio_bits == 1;
    if (!plain_values && !javascript) {
        return err_set(err, -EINVAL, "histogram: shifted or fractional values are not supported");
    }
    uint64_t digits = get_be(plain + 12, 4);
    struct hist_config config = {
        .lowest_ns = (int64_t)get_be(plain + 16, 8),
        .highest_ns = (int64_t)get_be(plain + 24, 8),
        .digits = digits > HIST_DIGITS_MAX ? HIST_DIGITS_MAX + 1 : (int)digits,
    };
    struct hist made;
    int rc = hist_init(&made, &config, err);
    if (rc != 0) {
        return rc;
    }
    rc = read_counts(&made, plain + HEADER_BYTES, plain + bytes, err);
    if (rc != 0) {
        hist_fini(&made);
        return rc;
    }
    *hist = made;
    return 0;
}

int hist_decode(struct hist *hist, const char *text, size_t bytes, struct err *err)
{
    if (bytes > HIST_TEXT_BYTES_MAX) {
        return err_set(err, -E2BIG, "histogram: %zu bytes of text: at most %d are read", bytes,
                       HIST_TEXT_BYTES_MAX);
    }
    int rc = -ENOMEM;
    unsigned char *packed = malloc(bytes / 4 * 3 + 1);
    /* One byte more than any valid one has, so that a longer stream is seen as such. */
    uLongf plain_bytes = HEADER_BYTES + PAYLOAD_BYTES_MAX + 1;
    unsigned char *plain = malloc(plain_bytes);
    if (packed == NULL || plain == NULL) {
        err_set(err, rc, "histogram: out of memory");
        goto out;
    }
    ptrdiff_t packed_bytes = base64_decode(text, bytes, packed);
    if (packed_bytes < 0) {
        rc = err_set(err, -EINVAL, "histogram: not base64");
        goto out;
    }
    if (packed_bytes < OUTER_BYTES) {
        rc = err_set(err, -EINVAL, "histogram: cut short before its data");
        goto out;
    }
    uint32_t cookie = (uint32_t)get_be(packed, 4);
    if ((cookie & ~COOKIE_WORD_SIZE_MASK) != (COOKIE_V2_COMPRESSED & ~COOKIE_WORD_SIZE_MASK)) {
        rc = err_set(err, -EINVAL, "histogram: cookie %08" PRIx32 " is not compressed HDR V2",
                     cookie);
        goto out;
    }
    if (get_be(packed + 4, 4) != (uint64_t)packed_bytes - OUTER_BYTES) {
        rc = err_set(err, -EINVAL, "histogram: says %" PRIu64 " bytes of data, has %td",
                     get_be(packed + 4, 4), packed_bytes - OUTER_BYTES);
        goto out;
    }
    uLong eaten = (uLong)packed_bytes - OUTER_BYTES;
    if (uncompress2(plain, &plain_bytes, packed + OUTER_BYTES, &eaten) != Z_OK ||
        eaten != (uLong)packed_bytes - OUTER_BYTES) {
        rc = err_set(err, -EINVAL, "histogram: its zlib stream is damaged or too long");
        goto out;
    }
    rc = hist_decode_plain(hist, plain, plain_bytes, err);
out:
    free(plain);
    free(packed);
    return rc;
}
