#include "base/hex.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "base/test.h"

static void eight_digits_are_written_as_printf_does_and_read_back(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 100000; i++) {
        uint32_t value = i == 0 ? 0 : i == 1 ? UINT32_MAX : (uint32_t)rng_next(&rng);
        uint32_t back = ~value;
        char want[9];
        char got[9] = "";
        snprintf(want, sizeof(want), "%08x", (unsigned)value);
        hex_put8(got, value);
        assert_string_equal(got, want);
        assert_true(hex_get8(got, false, &back));
        assert_int_equal(back, value);
    }
}

/* Each byte value at each place, between other digits. */
static void only_digits_are_read(void **state)
{
    (void)state;
    for (int place = 0; place < 8; place++) {
        for (int byte = 0; byte < 256; byte++) {
            char text[9] = "0a9f5c1e";
            uint32_t value = 0;
            bool lower = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
            bool upper = byte >= 'A' && byte <= 'F';
            text[place] = (char)byte;
            assert_int_equal(hex_get8(text, false, &value), lower);
            assert_int_equal(hex_get8(text, true, &value), lower || upper);
            if (lower || upper) {
                assert_int_equal(value, strtoul(text, NULL, 16));
            }
        }
    }
}

static void broken_texts_of_any_bytes_are_refused(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 2);
    for (int i = 0; i < 200000; i++) {
        uint64_t word = rng_next(&rng);
        char text[8];
        memcpy(text, &word, sizeof(text));
        for (int k = 0; k < 7; k++) { /* all good but for one or two places */
            if (word >> k & 1) {
                text[k] = "0123456789abcdefABCDEF"[(unsigned char)text[k] % 22];
            }
        }
        bool lower = true;
        bool any = true;
        for (int k = 0; k < 8; k++) {
            unsigned char c = (unsigned char)text[k];
            any = any && isxdigit(c);
            lower = lower && isxdigit(c) && !isupper(c);
        }
        uint32_t value;
        assert_int_equal(hex_get8(text, false, &value), lower);
        assert_int_equal(hex_get8(text, true, &value), any);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_digits_are_written_as_printf_does_and_read_back),
        cmocka_unit_test(only_digits_are_read),
        cmocka_unit_test(broken_texts_of_any_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
