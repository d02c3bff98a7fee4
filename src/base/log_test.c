#include "base/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"

static void line_without_its_time_is_key_value(void **state)
{
    (void)state;
    char line[LOG_LINE_BYTES_MAX];
    const char *pairs[] = {"a", "1", "b", "two words", "c", "x=\"y\"\n"};
    size_t bytes = log_format(line, false, LOG_LEVEL_WARN, "request_failed", pairs, 6);
    assert_int_equal(strlen(line), bytes);
    assert_string_equal(line + 24,
                        " warn request_failed a=1 b=\"two words\" c=\"x=\\\"y\\\"\\u000a\"\n");
}

static void json_line_is_one_strict_object(void **state)
{
    (void)state;
    char line[LOG_LINE_BYTES_MAX];
    const char *pairs[] = {"path", "/a\"b\\\x01", "n", "5"};
    size_t bytes = log_format(line, true, LOG_LEVEL_INFO, "e", pairs, 4);
    struct err err;
    struct json *json = json_parse(line, bytes - 1, &err);
    assert_non_null(json);
    assert_string_equal(json_string(json_get(json, "path"), ""), "/a\"b\\\x01");
    assert_string_equal(json_string(json_get(json, "level"), ""), "info");
    json_free(json);
}

static void long_values_are_cut_and_the_line_stays_whole(void **state)
{
    (void)state;
    char *value = malloc(5000);
    memset(value, '\x01', 4999);
    value[4999] = '\0';
    for (size_t shorter = 0; shorter < 12; shorter++) {
        char line[LOG_LINE_BYTES_MAX];
        char event[64];
        memset(event, 'e', sizeof(event));
        event[shorter + 1] = '\0';
        const char *pairs[] = {"k", value, "z", "lost"};
        size_t bytes = log_format(line, true, LOG_LEVEL_INFO, event, pairs, 4);
        assert_true(bytes < LOG_LINE_BYTES_MAX);
        assert_int_equal(line[bytes - 1], '\n');
        struct err err;
        struct json *json = json_parse(line, bytes - 1, &err);
        assert_non_null(json);
        json_free(json);
    }
    free(value);
}

static void levels_are_read_by_name(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_DEBUG;
    assert_int_equal(log_level_parse("error", &level), 0);
    assert_int_equal(level, LOG_LEVEL_ERROR);
    assert_int_equal(log_level_parse("loud", &level), -EINVAL);
    assert_int_equal(level, LOG_LEVEL_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_without_its_time_is_key_value),
        cmocka_unit_test(json_line_is_one_strict_object),
        cmocka_unit_test(long_values_are_cut_and_the_line_stays_whole),
        cmocka_unit_test(levels_are_read_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
