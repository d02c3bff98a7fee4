#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/json_tokens.h"
#include "base/plain.h"
#include "base/rng.h"

static bool accepts(const char *text, size_t bytes)
{
    struct json_tokens tokens = {0};
    /* An exact copy on the heap, so that a sanitizer sees a read past its end. */
    char *copy = malloc(bytes == 0 ? 1 : bytes);
    memcpy(copy, text, bytes);
    int code = json_tokens_parse(&tokens, copy, bytes, NULL);
    free(copy);
    json_tokens_fini(&tokens);
    return code == 0;
}

static const char *const good[] = {
    "{}",
    "[]",
    "0",
    "-0",
    "1.5e+10",
    "\"\"",
    "true",
    "false",
    "null",
    " \t\r\n[1 , 2]\n",
    "{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":\"x\"}",
    "\"\\u00e9\\ud83d\\ude00\\n\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
    "[[[[[[]]]]]]",
    "{\"a\":1,\"A\":2}",
    "{\"\":1}",
    "[1e0,1E-2,0.0]",
};

static const char *const bad[] = {
    "",
    " ",
    "{",
    "[",
    "]",
    "{]",
    "[}",
    "[1,]",
    "{,}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{'a':1}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "[1 2]",
    "01",
    "1.",
    ".5",
    "+1",
    "1e",
    "1e+",
    "-",
    "--1",
    "0x1",
    "NaN",
    "Infinity",
    "tru",
    "truee",
    "nul",
    "\"",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u000g\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\ud800\\u0041\"",
    "\"\x01\"",
    "\"\n\"",
    "\"\x80\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf5\x80\x80\x80\"",
    "\"\xc3\"",
    "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"\\u0061\":2}",
    "{\"a\":1} x",
    "[] []",
    "1 1",
    "\x0b[]",
    "\xef\xbb\xbf{}",
};

static void strict_json_is_taken_and_nothing_else(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!accepts(good[i], strlen(good[i]))) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (accepts(bad[i], strlen(bad[i]))) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    assert_false(accepts("[1\0]", 4));
    assert_false(accepts("\"a\0\"", 4));
}

static void depth_ends_where_the_other_reader_ends(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 8];
    for (int depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        struct json *json = json_parse(text, 2 * (size_t)depth, NULL);
        assert_int_equal(accepts(text, 2 * (size_t)depth), json != NULL);
        json_free(json);
    }
}

static void duplicates_are_found_among_many_keys_too(void **state)
{
    (void)state;
    char *text = malloc(400000);
    for (int duplicate = 0; duplicate < 2; duplicate++) {
        size_t n = (size_t)sprintf(text, "{");
        for (int i = 0; i < 20000; i++) {
            n += (size_t)sprintf(text + n, "\"k%d\":1,", i);
        }
        n += (size_t)sprintf(text + n, duplicate ? "\"k\\u0037\":1}" : "\"k\\u0078\":1}");
        assert_int_equal(accepts(text, n), !duplicate);
    }
    free(text);
}

static void tokens_say_where_values_are(void **state)
{
    (void)state;
    static const char text[] = " {\"a\" : [1, {\"b\":2}] ,\"c\\n\":\"x\\u00e9\"}";
    struct json_tokens t = {0};
    assert_int_equal(json_tokens_parse(&t, text, strlen(text), NULL), 0);
    assert_int_equal(t.tokens[0].type, JSON_OBJECT);
    assert_int_equal(t.tokens[0].count, 2);
    assert_int_equal(t.tokens[0].at, 1);
    assert_int_equal(t.tokens[0].next, t.count);
    const struct json_token *array = &t.tokens[2];
    assert_int_equal(array->type, JSON_ARRAY);
    assert_int_equal(array->count, 2);
    assert_memory_equal(text + array->at, "[1, {\"b\":2}]", array->bytes);
    const struct json_token *key = &t.tokens[array->next];
    char out[16];
    assert_int_equal(json_token_decode(key, text, out), 2);
    assert_string_equal(out, "c\n");
    assert_int_equal(json_token_decode(key + 1, text, out), 3);
    assert_string_equal(out, "x\xc3\xa9");
    json_tokens_fini(&t);
}

static void whole_numbers_are_read_and_others_are_not(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool whole;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"-17", true, -17},
        {"9007199254740992", true, INT64_C(9007199254740992)},
        {"9007199254740993", false, 0},
        {"5.0", true, 5},
        {"1e3", true, 1000},
        {"1.5", false, 0},
        {"1e300", false, 0},
        {"1e999", false, 0},
        {"-9007199254740994", false, 0},
        {"\"5\"", false, 0},
        {"123456789012345678901234567890", false, 0},
        {"100000000000000000000e-18", true, 100},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct json_tokens t = {0};
        int64_t value = -1;
        assert_int_equal(json_tokens_parse(&t, cases[i].text, strlen(cases[i].text), NULL), 0);
        bool whole = json_token_int(&t.tokens[0], cases[i].text, &value);
        if (whole != cases[i].whole || (whole && value != cases[i].value)) {
            fail_msg("%s", cases[i].text);
        }
        json_tokens_fini(&t);
    }
}

/* Texts near the border between JSON and not: both readers must draw it at the same place. */
static void both_readers_agree_on_mutated_texts(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    size_t taken = 0;
    for (int round = 0; round < 200000; round++) {
        char text[128];
        size_t pool = sizeof(good) / sizeof(good[0]);
        const char *base = good[rng_below(&rng, pool)];
        size_t bytes = strlen(base);
        memcpy(text, base, bytes);
        for (uint64_t k = rng_below(&rng, 3); k > 0 && bytes > 0; k--) {
            size_t at = rng_below(&rng, bytes);
            static const char alphabet[] = "{}[]:,\"\\u0019eE+-. antrfls\x80\xc3\xa9\xed\n\x01";
            switch (rng_below(&rng, 3)) {
            case 0:
                text[at] = alphabet[rng_below(&rng, sizeof(alphabet) - 1)];
                break;
            case 1:
                memmove(text + at, text + at + 1, bytes - at - 1);
                bytes--;
                break;
            default:
                memmove(text + at + 1, text + at, bytes - at);
                text[at] = alphabet[rng_below(&rng, sizeof(alphabet) - 1)];
                bytes++;
                break;
            }
        }
        struct json *json = json_parse(text, bytes, NULL);
        bool mine = accepts(text, bytes);
        if (mine != (json != NULL)) {
            fail_msg("%.*s: tokens %s it", (int)bytes, text, mine ? "take" : "refuse");
        }
        taken += mine;
        json_free(json);
    }
    assert_in_range(taken, 50000, 190000);
}

static void utf8_is_told_from_other_bytes(void **state)
{
    (void)state;
    assert_true(json_utf8_valid("", 0));
    assert_true(json_utf8_valid("a\xc3\xa9\xf0\x9f\x98\x80", 7));
    assert_false(json_utf8_valid("a\xc3", 2));
    assert_false(json_utf8_valid("\xbd", 1));
    assert_false(json_utf8_valid("\xed\xa0\x80", 3));
    for (size_t at = 0; at < 20; at++) {
        char text[22];
        memset(text, 'a', sizeof text);
        text[at] = '\xc3';
        assert_false(json_utf8_valid(text, 21));
        text[at + 1] = '\xa9';
        assert_true(json_utf8_valid(text, 22));
        assert_int_equal(json_utf8_valid(text, at + 1), false);
    }
}

static void bytes_are_plain_up_to_the_first_that_is_not(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        for (int at = 0; at < PLAIN_BYTES; at++) {
            /* Beside the smallest and the largest plain ones. */
            for (const char *around = " ~"; *around != '\0'; around++) {
                char word[PLAIN_BYTES];
                memset(word, *around, sizeof word);
                word[at] = (char)c;
                bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
                assert_int_equal(plain_bytes(word), plain ? PLAIN_BYTES : at);
                for (int next = at + 1; next < PLAIN_BYTES; next++) {
                    word[next] = (char)(c * 31 + next); /* whatever follows it */
                }
                assert_true(plain || plain_bytes(word) == (unsigned)at);
            }
        }
    }
}

static void an_escape_is_found_wherever_it_stands(void **state)
{
    (void)state;
    for (int at = 0; at < 40; at++) {
        char text[40];
        char out[256];
        memset(text, 'x', sizeof text);
        text[at] = '"';
        char *end = json_escape(out, text, sizeof text);
        assert_int_equal(end - out, sizeof text + 1);
        assert_memory_equal(out, text, at);
        assert_memory_equal(out + at, "\\\"", 2);
        assert_memory_equal(out + at + 2, text + at + 1, sizeof text - at - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_plain_up_to_the_first_that_is_not),
        cmocka_unit_test(an_escape_is_found_wherever_it_stands),
        cmocka_unit_test(strict_json_is_taken_and_nothing_else),
        cmocka_unit_test(depth_ends_where_the_other_reader_ends),
        cmocka_unit_test(duplicates_are_found_among_many_keys_too),
        cmocka_unit_test(tokens_say_where_values_are),
        cmocka_unit_test(whole_numbers_are_read_and_others_are_not),
        cmocka_unit_test(utf8_is_told_from_other_bytes),
        cmocka_unit_test(both_readers_agree_on_mutated_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
