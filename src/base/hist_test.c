#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/hist.h"
#include "base/rng.h"

static struct hist made(int64_t lowest_ns, int64_t highest_ns, int digits)
{
    struct hist h;
    const struct hist_config config = {lowest_ns, highest_ns, digits};
    assert_int_equal(hist_init(&h, &config, NULL), 0);
    return h;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Log-uniform over the whole range, so that every bucket group is met. */
static int64_t draw_ns(struct rng *rng)
{
    return (int64_t)(rng_next(rng) >> (28 + rng_below(rng, 36)));
}

static void a_range_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    const struct hist_config wrong[] = {
        {1, 1000, 0},
        {1, 1000, 4},
        {0, 1000, 2},
        {-5, 1000, 2},
        {1000, 1999, 2},
        {1, 1, 2},
        {INT64_C(1) << 60, INT64_MAX, 2},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct hist h;
        struct err err = {""};
        assert_int_equal(hist_init(&h, &wrong[i], &err), -EINVAL);
        assert_string_not_equal(err.text, "");
    }
}

static void every_value_lies_in_its_bucket_and_the_bucket_is_narrow(void **state)
{
    (void)state;
    for (int digits = 1; digits <= 3; digits++) {
        struct hist h = made(1, HIST_HIGHEST_NS_DEFAULT, digits);
        struct rng rng;
        rng_init(&rng, 7);
        double width_ratio = digits == 1 ? 0.1 : digits == 2 ? 0.01 : 0.001;
        for (int i = 0; i < 20000; i++) {
            int64_t v = draw_ns(&rng);
            int64_t low = hist_bucket_low_ns(&h, v);
            int64_t high = hist_bucket_high_ns(&h, v);
            assert_true(low <= v && v <= high);
            assert_true((double)(high - low) <= width_ratio * (double)v);
            assert_int_equal(hist_bucket_high_ns(&h, high), high);
            if (high < (INT64_C(1) << 36) - 1) { /* all ranges end there */
                assert_int_equal(hist_bucket_low_ns(&h, high + 1), high + 1);
            }
        }
        hist_fini(&h);
    }
}

static void memory_is_what_the_documentation_says(void **state)
{
    (void)state;
    struct hist two = made(1, HIST_HIGHEST_NS_DEFAULT, 2);
    struct hist three = made(1, HIST_HIGHEST_NS_DEFAULT, 3);
    assert_int_equal(two.counts_len * 8, 30720);
    assert_int_equal(three.counts_len * 8, 221184);
    hist_fini(&two);
    hist_fini(&three);
    struct hist all = made(1, INT64_MAX, 3);
    assert_true(all.counts_len <= HIST_COUNTS_MAX);
    hist_record(&all, INT64_MAX);
    assert_int_equal(hist_clamped(&all), 0);
    assert_int_equal(hist_max_ns(&all), INT64_MAX);
    hist_fini(&all);
}

static void quantiles_follow_the_rank_rule_within_the_bucket_width(void **state)
{
    (void)state;
    enum { N = 9973 };
    static int64_t values[N];
    struct hist h = made(1, HIST_HIGHEST_NS_DEFAULT, 3);
    struct rng rng;
    rng_init(&rng, 11);
    for (int i = 0; i < N; i++) {
        values[i] = draw_ns(&rng);
        hist_record(&h, values[i]);
    }
    qsort(values, N, sizeof *values, by_value);
    const double ps[] = {0, 0.0001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    for (size_t i = 0; i < sizeof ps / sizeof *ps; i++) {
        int64_t rank = hist_rank(N, ps[i]);
        int64_t exact = values[rank - 1];
        assert_int_equal(hist_quantile_ns(&h, ps[i]), hist_bucket_high_ns(&h, exact));
        assert_int_equal(hist_beyond_quantile(&h, ps[i]), N - rank);
    }
    assert_int_equal(hist_min_ns(&h), hist_bucket_low_ns(&h, values[0]));
    assert_int_equal(hist_max_ns(&h), hist_bucket_high_ns(&h, values[N - 1]));
    int64_t above = 0;
    for (int i = 0; i < N; i++) {
        above += values[i] > hist_bucket_high_ns(&h, INT64_C(1000000));
    }
    assert_int_equal(hist_above(&h, 1000000), above);
    hist_fini(&h);
}

static void the_rank_is_the_ceiling_and_at_least_the_first(void **state)
{
    (void)state;
    assert_int_equal(hist_rank(0, 0.5), 0);
    assert_int_equal(hist_rank(1, 0), 1);
    assert_int_equal(hist_rank(10, 0.5), 5);
    assert_int_equal(hist_rank(11, 0.5), 6);
    assert_int_equal(hist_rank(10, 0.51), 6);
    assert_int_equal(hist_rank(10, 1), 10);
    assert_int_equal(hist_rank(10, 2), 10);
    assert_int_equal(hist_rank(10, -1), 1);
    /* Decimal fractions of decimal counts: whole products must not be lifted by binary rounding. */
    for (int64_t n = 100; n <= 100000000; n *= 10) {
        for (int i = 1; i <= 100; i++) {
            assert_int_equal(hist_rank(n, i / 100.0), n / 100 * i);
        }
    }
    assert_int_equal(hist_rank(1000, 0.999), 999);
    assert_int_equal(hist_rank(1001, 0.999), 1000);
    assert_int_equal(hist_rank(INT64_C(20000), 0.999), 19980);
}

static void values_outside_the_range_are_counted_and_told(void **state)
{
    (void)state;
    struct hist h = made(1000, 1000000, 2);
    hist_record(&h, -1);
    hist_record_n(&h, INT64_MAX, 2);
    hist_record(&h, 0);
    hist_record(&h, 1000000);
    assert_int_equal(hist_count(&h), 5);
    assert_int_equal(hist_clamped(&h), 3);
    assert_int_equal(hist_min_ns(&h), 0);
    assert_true(hist_max_ns(&h) >= 1000000);
    hist_clear(&h);
    assert_int_equal(hist_count(&h), 0);
    assert_int_equal(hist_clamped(&h), 0);
    assert_int_equal(hist_max_ns(&h), 0);
    assert_int_equal(hist_quantile_ns(&h, 0.5), 0);
    assert_true(hist_mean_ns(&h) == 0);
    hist_fini(&h);
}

static void the_mean_of_exact_buckets_is_the_mean(void **state)
{
    (void)state;
    struct hist h = made(1, HIST_HIGHEST_NS_DEFAULT, 2);
    hist_record_n(&h, 10, 3); /* up to 255 a bucket holds one value */
    hist_record(&h, 50);
    assert_true(hist_mean_ns(&h) == 20.0);
    hist_record(&h, 1000); /* 1000..1003, taken as 1002 */
    assert_true(hist_mean_ns(&h) == (80 + 1002) / 5.0);
    hist_fini(&h);
}

static void merging_equals_recording_everything_in_one(void **state)
{
    (void)state;
    struct hist one = made(1, HIST_HIGHEST_NS_DEFAULT, 2);
    struct hist sum = made(1, HIST_HIGHEST_NS_DEFAULT, 2);
    struct hist part = made(1, HIST_HIGHEST_NS_DEFAULT, 2);
    struct rng rng;
    rng_init(&rng, 3);
    for (int k = 0; k < 5; k++) {
        hist_clear(&part);
        for (int i = 0; i < 1000; i++) {
            int64_t v = draw_ns(&rng);
            hist_record(&part, v);
            hist_record(&one, v);
        }
        assert_int_equal(hist_merge(&sum, &part, NULL), 0);
    }
    assert_int_equal(hist_count(&sum), 5000);
    assert_memory_equal(sum.counts, one.counts, (size_t)one.counts_len * sizeof *one.counts);
    hist_fini(&one);
    hist_fini(&sum);
    hist_fini(&part);
}

static void unlike_histograms_do_not_merge(void **state)
{
    (void)state;
    struct hist narrow = made(1, 1000000, 2);
    struct hist wide = made(1, HIST_HIGHEST_NS_DEFAULT, 2);
    struct hist finer = made(1, 1000000, 3);
    struct hist coarse = made(64, 1000000, 2);
    struct err err;
    hist_record(&wide, 5000);
    hist_record(&finer, 5000);
    hist_record(&coarse, 5000);
    assert_int_equal(hist_merge(&narrow, &finer, &err), -EINVAL);
    assert_int_equal(hist_merge(&narrow, &coarse, &err), -EINVAL);
    assert_int_equal(hist_count(&narrow), 0);
    assert_int_equal(hist_merge(&narrow, &wide, &err), 0); /* what is in it fits */
    assert_int_equal(hist_count(&narrow), 1);
    hist_record(&wide, HIST_HIGHEST_NS_DEFAULT);
    assert_int_equal(hist_merge(&narrow, &wide, &err), -ERANGE);
    assert_int_equal(hist_count(&narrow), 1);
    hist_fini(&narrow);
    hist_fini(&wide);
    hist_fini(&finer);
    hist_fini(&coarse);
}

static void assert_same(const struct hist *a, const struct hist *b)
{
    assert_int_equal(a->counts_len, b->counts_len);
    assert_int_equal(a->config.lowest_ns, b->config.lowest_ns);
    assert_int_equal(a->config.highest_ns, b->config.highest_ns);
    assert_int_equal(a->config.digits, b->config.digits);
    assert_int_equal(a->total, b->total);
    assert_memory_equal(a->counts, b->counts, (size_t)a->counts_len * sizeof *a->counts);
}

static void round_trip(const struct hist *h)
{
    char *text = hist_encode(h);
    struct hist back;
    struct err err = {""};
    assert_non_null(text);
    int rc = hist_decode(&back, text, strlen(text), &err);
    if (rc != 0) {
        fail_msg("%s", err.text);
    }
    assert_same(h, &back);
    char *again = hist_encode(&back);
    assert_string_equal(text, again);
    free(text);
    free(again);
    hist_fini(&back);
}

static void what_is_encoded_decodes_to_the_same(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    for (int digits = 1; digits <= 3; digits++) {
        for (int n = 0; n <= 10000; n = n * 10 + 1) {
            struct hist h = made(1, HIST_HIGHEST_NS_DEFAULT, digits);
            for (int i = 0; i < n; i++) {
                hist_record_n(&h, draw_ns(&rng), (int64_t)rng_below(&rng, 3) + 1);
            }
            round_trip(&h);
            hist_fini(&h);
        }
    }
    /* Counts of every length of the encoding, and both ends of the range. */
    struct hist h = made(1000, INT64_C(3600) * 1000000000, 3);
    for (int bits = 0; bits < 62; bits++) {
        hist_record_n(&h, bits * 1000, INT64_C(1) << bits);
    }
    hist_record(&h, 0);
    hist_record(&h, INT64_MAX);
    round_trip(&h);
    hist_fini(&h);
}

/* A text as another writer could have made it: the parts can each be wrong. */
static char *packed_by_hand(uint32_t outer, uint32_t inner, uint32_t digits, int64_t lowest,
                            int64_t highest, double ratio, const unsigned char *payload,
                            size_t payload_bytes, size_t said_bytes)
{
    unsigned char plain[256];
    unsigned char packed[512];
    static const char digits64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t ratio_bits;
    memcpy(&ratio_bits, &ratio, 8);
    uint32_t words[] = {inner,
                        (uint32_t)said_bytes,
                        0,
                        digits,
                        (uint32_t)((uint64_t)lowest >> 32),
                        (uint32_t)lowest,
                        (uint32_t)((uint64_t)highest >> 32),
                        (uint32_t)highest,
                        (uint32_t)(ratio_bits >> 32),
                        (uint32_t)ratio_bits};
    for (size_t i = 0; i < 10; i++) {
        for (size_t k = 0; k < 4; k++) {
            plain[4 * i + k] = (unsigned char)(words[i] >> (24 - 8 * k));
        }
    }
    memcpy(plain + 40, payload, payload_bytes);
    uLongf bytes = sizeof packed - 8;
    assert_int_equal(compress(packed + 8, &bytes, plain, 40 + payload_bytes), Z_OK);
    for (size_t k = 0; k < 4; k++) {
        packed[k] = (unsigned char)(outer >> (24 - 8 * k));
        packed[4 + k] = (unsigned char)(bytes >> (24 - 8 * k));
    }
    size_t n = 8 + bytes;
    char *text = calloc(1, n * 2 + 8);
    for (size_t i = 0, o = 0; i < n; i += 3) {
        uint32_t b1 = i + 1 < n ? packed[i + 1] : 0;
        uint32_t b2 = i + 2 < n ? packed[i + 2] : 0;
        uint32_t g = (uint32_t)packed[i] << 16 | b1 << 8 | b2;
        text[o++] = digits64[g >> 18];
        text[o++] = digits64[g >> 12 & 63];
        text[o++] = i + 1 < n ? digits64[g >> 6 & 63] : '=';
        text[o++] = i + 2 < n ? digits64[g & 63] : '=';
    }
    return text;
}

static int decode_by_hand(uint32_t outer, uint32_t inner, uint32_t digits, int64_t lowest,
                          int64_t highest, double ratio, const char *payload, size_t bytes,
                          size_t said, struct hist *h)
{
    char *text = packed_by_hand(outer, inner, digits, lowest, highest, ratio,
                                (const unsigned char *)payload, bytes, said);
    struct err err = {""};
    int rc = hist_decode(h, text, strlen(text), &err);
    assert_true(rc == 0 || err.text[0] != '\0');
    free(text);
    return rc;
}

static void a_hand_made_text_is_read_and_each_broken_part_refused(void **state)
{
    (void)state;
    const uint32_t outer = 0x1c849314;
    const uint32_t inner = 0x1c849313;
    struct hist h;
    /* -2: skip two; 3 of value 2; 130 (two bytes) of value 3. */
    const char good[] = "\x03\x06\x84\x02";
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, good, 4, 4, &h), 0);
    assert_int_equal(hist_count(&h), 133);
    assert_int_equal(hist_min_ns(&h), 2);
    assert_int_equal(hist_max_ns(&h), 3);
    hist_fini(&h);
    /* Other word sizes in the cookie say nothing about V2's layout. */
    assert_int_equal(decode_by_hand(0x1c849304, 0x1c849303, 2, 1, 1000, 1, good, 4, 4, &h), 0);
    hist_fini(&h);

    memset(&h, 0x5a, sizeof h);
    struct hist before = h;
    assert_int_equal(decode_by_hand(0x1c849302, inner, 2, 1, 1000, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, 0x1c849301, 2, 1, 1000, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 0, 1, 1000, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 4, 1, 1000, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 0x80000002, 1, 1000, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, 0, 1000, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, -1, 1000, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, INT64_MIN, 1, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 2.5, good, 4, 4, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, good, 4, 3, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, good, 4, 0xffffffff, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, good, 3, 3, &h), -EINVAL);
    /* Past the range: a run of zeros, and one count more than buckets. 1000 needs 512 of them. */
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, "\xff\x07", 2, 2, &h), 0);
    assert_int_equal(h.counts_len, 512);
    hist_fini(&h);
    h = before;
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, "\x81\x08", 2, 2, &h), -EINVAL);
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, "\xff\x07\x02", 3, 3, &h),
                     -EINVAL);
    const char least[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff"; /* INT64_MIN */
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, least, 9, 9, &h), -EINVAL);
    const char most[] = "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x02"; /* INT64_MAX, then 1 */
    assert_int_equal(decode_by_hand(outer, inner, 2, 1, 1000, 1, most, 10, 10, &h), -EINVAL);
    assert_memory_equal(&h, &before, sizeof h); /* untouched by every failure */
}

static void broken_texts_are_refused_and_never_crash(void **state)
{
    (void)state;
    struct hist h = made(1, HIST_HIGHEST_NS_DEFAULT, 2);
    struct rng rng;
    rng_init(&rng, 9);
    for (int i = 0; i < 500; i++) {
        hist_record(&h, draw_ns(&rng));
    }
    char *text = hist_encode(&h);
    size_t bytes = strlen(text);
    struct hist back;
    for (size_t n = 0; n < bytes; n++) {
        assert_true(hist_decode(&back, text, n, NULL) < 0);
    }
    int refused = 0;
    for (int i = 0; i < 3000; i++) {
        char *bad = strdup(text);
        for (uint64_t k = rng_below(&rng, 4) + 1; k > 0; k--) {
            bad[rng_below(&rng, bytes)] = (char)rng_next(&rng);
        }
        if (hist_decode(&back, bad, bytes, NULL) == 0) {
            hist_fini(&back);
        } else {
            refused++;
        }
        free(bad);
    }
    assert_true(refused > 2900); /* zlib's checksum sees what the fields do not */
    const char *wrong[] = {"",     "=",    "====",   "AAA",  "AAAA",
                           "A===", "AA=A", "QUJD\n", "AB==", "AAB="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(hist_decode(&back, wrong[i], strlen(wrong[i]), NULL), -EINVAL);
    }
    char *huge = calloc(1, HIST_TEXT_BYTES_MAX + 4);
    memset(huge, 'A', HIST_TEXT_BYTES_MAX + 4);
    assert_int_equal(hist_decode(&back, huge, HIST_TEXT_BYTES_MAX + 4, NULL), -E2BIG);
    free(huge);
    free(text);
    hist_fini(&h);
}

/* 8 MiB of zeros in 11 KB of text: must end in an error, in bounded memory. */
static void a_stream_that_inflates_without_end_is_refused(void **state)
{
    (void)state;
    static unsigned char zeros[8 << 20];
    uLongf bytes = compressBound(sizeof zeros);
    unsigned char *packed = malloc(bytes + 8);
    assert_int_equal(compress2(packed + 8, &bytes, zeros, sizeof zeros, 9), Z_OK);
    const unsigned char head[] = {0x1c,
                                  0x84,
                                  0x93,
                                  0x14,
                                  (unsigned char)(bytes >> 24),
                                  (unsigned char)(bytes >> 16),
                                  (unsigned char)(bytes >> 8),
                                  (unsigned char)bytes};
    memcpy(packed, head, 8);
    static const char digits64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = (8 + bytes) / 3 * 3;
    packed[7] = (unsigned char)(packed[7] - (8 + bytes - n)); /* cut to whole groups: says so */
    char *text = malloc(n / 3 * 4 + 1);
    for (size_t i = 0, o = 0; i < n; i += 3, o += 4) {
        uint32_t g = (uint32_t)packed[i] << 16 | (uint32_t)packed[i + 1] << 8 | packed[i + 2];
        for (size_t k = 0; k < 4; k++) {
            text[o + k] = digits64[g >> (18 - 6 * k) & 63];
        }
    }
    struct hist h;
    struct err err;
    assert_int_equal(hist_decode(&h, text, n / 3 * 4, &err), -EINVAL);
    assert_non_null(strstr(err.text, "zlib"));
    free(text);
    free(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_that_makes_no_sense_is_refused),
        cmocka_unit_test(every_value_lies_in_its_bucket_and_the_bucket_is_narrow),
        cmocka_unit_test(memory_is_what_the_documentation_says),
        cmocka_unit_test(quantiles_follow_the_rank_rule_within_the_bucket_width),
        cmocka_unit_test(the_rank_is_the_ceiling_and_at_least_the_first),
        cmocka_unit_test(values_outside_the_range_are_counted_and_told),
        cmocka_unit_test(the_mean_of_exact_buckets_is_the_mean),
        cmocka_unit_test(merging_equals_recording_everything_in_one),
        cmocka_unit_test(unlike_histograms_do_not_merge),
        cmocka_unit_test(what_is_encoded_decodes_to_the_same),
        cmocka_unit_test(a_hand_made_text_is_read_and_each_broken_part_refused),
        cmocka_unit_test(broken_texts_are_refused_and_never_crash),
        cmocka_unit_test(a_stream_that_inflates_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
