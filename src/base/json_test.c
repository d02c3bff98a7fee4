#include "base/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static void strict_json_is_read(void **state)
{
    (void)state;
    const char *text = " {\"a\": [1, -2.5e3, true, null, \"x\\u00e9\\n\"], \"b\": {}} \n";
    struct err err = {""};
    struct json *json = json_parse(text, strlen(text), &err);
    assert_string_equal(err.text, "");
    assert_non_null(json);
    const struct json *a = json_get(json, "a");
    assert_int_equal(json_count(a), 5);
    const struct json *c = json_first(a);
    assert_int_equal(json_int(c, -1), 1);
    c = json_next(c);
    assert_true(json_number(c, 0) == -2500);
    c = json_next(c);
    assert_true(json_bool(c, false));
    c = json_next(c);
    assert_int_equal(json_type(c), JSON_NULL);
    assert_string_equal(json_string(json_next(c), ""), "x\xc3\xa9\n");
    assert_null(json_get(json, "c"));
    assert_int_equal(json_int(json_get(json, "c"), 9), 9);
    json_free(json);
}

static void everything_else_is_refused_with_a_reason(void **state)
{
    (void)state;
    const char *wrong[] = {"",
                           "{",
                           "[1,]",
                           "{\"a\":1,\"a\":2}",
                           "1 2",
                           "\"\x01\"",
                           "\"\\u0000\"",
                           "\"\xff\"",
                           "\"\xc0\xaf\"",
                           "01",
                           "1.",
                           "-",
                           "nul",
                           "[1}",
                           "{\"a\" 1}",
                           "\"a",
                           "\"\xed\xa0\x80\""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err err = {""};
        struct json *json = json_parse(wrong[i], strlen(wrong[i]), &err);
        if (json != NULL) {
            fail_msg("accepted: %s", wrong[i]);
        }
        assert_true(strlen(err.text) > 0);
    }
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 4];
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        struct json *json = json_parse(text, (size_t)depth * 2, NULL);
        assert_true((json != NULL) == (depth == JSON_DEPTH_MAX));
        json_free(json);
    }
}

static void errors_name_the_line(void **state)
{
    (void)state;
    const char *text = "{\n \"a\": 1,\n \"b\": x\n}";
    struct err err;
    assert_null(json_parse(text, strlen(text), &err));
    assert_non_null(strstr(err.text, "line 3"));
}

static void built_trees_print_and_read_back(void **state)
{
    (void)state;
    struct json *json = json_new_object();
    json_add_string(json, "s", "q\"\\\n");
    json_add_int(json, "i", INT64_C(4503599627370497));
    json_add_number(json, "n", 0.1);
    struct json *list = json_add_array(json, "l");
    json_append(list, json_new_number(3));
    json_add_bool(json_add_object(json, "o"), "t", true);
    char *line = json_print(json);
    assert_string_equal(line, "{\"s\":\"q\\\"\\\\\\n\",\"i\":4503599627370497,\"n\":0.1,\"l\":[3],"
                              "\"o\":{\"t\":true}}");
    char *pretty = json_print_pretty(json);
    struct json *again = json_parse(pretty, strlen(pretty), NULL);
    assert_non_null(again);
    char *line_again = json_print(again);
    assert_string_equal(line, line_again);
    free(line);
    free(pretty);
    free(line_again);
    json_free(json);
    json_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_json_is_read),
        cmocka_unit_test(everything_else_is_refused_with_a_reason),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(built_trees_print_and_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
