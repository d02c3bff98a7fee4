#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "fields.h"

struct sample {
    int64_t count;
    double ratio;
    bool on;
    const char *name;
    int kind;
};

static const char *const kinds[] = {"slow", "fast", NULL};

static int read_sample(const char *text, struct sample *out, struct err *err)
{
    struct json *json = json_parse(text, strlen(text), err);
    assert_non_null(json);
    struct fields f;
    fields_begin(&f, json, "sample[1]", err);
    fields_require(&f, "count");
    out->count = fields_int(&f, "count", 1, 10, 0);
    out->ratio = fields_number(&f, "ratio", 0, 1, 0.5);
    out->on = fields_bool(&f, "on", true);
    out->name = strcmp(fields_string(&f, "name", 8, "none"), "none") == 0 ? "none" : "given";
    out->kind = fields_choice(&f, "kind", kinds, 1);
    fields_array(&f, "list");
    int code = fields_end(&f);
    json_free(json);
    return code;
}

static void members_are_read_and_absent_ones_have_their_fallback(void **state)
{
    (void)state;
    struct sample s;
    struct err err = {""};
    assert_int_equal(read_sample("{\"count\": 10}", &s, &err), 0);
    assert_int_equal(s.count, 10);
    assert_true(s.ratio > 0.49 && s.ratio < 0.51);
    assert_true(s.on);
    assert_string_equal(s.name, "none");
    assert_int_equal(s.kind, 1);
    assert_int_equal(read_sample("{\"count\": 1, \"on\": false, \"kind\": \"slow\", \"ratio\": 1, "
                                 "\"name\": \"x\", \"list\": []}",
                                 &s, &err),
                     0);
    assert_false(s.on);
    assert_int_equal(s.kind, 0);
}

static void every_wrong_member_is_named_with_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *parts[3];
    } cases[] = {
        {"{}", {"sample[1].count", "missing"}},
        {"{\"count\": 11}", {"sample[1].count", "11", "1..10"}},
        {"{\"count\": 1.5}", {"sample[1].count", "1.5", "whole"}},
        {"{\"count\": \"1\"}", {"sample[1].count", "string", "number"}},
        {"{\"count\": 1, \"ratio\": -0.1}", {"sample[1].ratio", "0..1"}},
        {"{\"count\": 1, \"kind\": \"odd\"}", {"sample[1].kind", "odd", "slow, fast"}},
        {"{\"count\": 1, \"name\": \"12345678\"}", {"sample[1].name", "7 bytes"}},
        {"{\"count\": 1, \"list\": {}}", {"sample[1].list", "object", "array"}},
        {"{\"count\": 1, \"cuont\": 2}", {"sample[1].cuont", "unknown", "count, ratio, on"}},
        {"[1]", {"sample[1]", "object"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample s;
        struct err err = {""};
        assert_int_equal(read_sample(cases[i].text, &s, &err), -EINVAL);
        for (int p = 0; p < 3 && cases[i].parts[p] != NULL; p++) {
            if (strstr(err.text, cases[i].parts[p]) == NULL) {
                fail_msg("%s: '%s' is not in '%s'", cases[i].text, cases[i].parts[p], err.text);
            }
        }
    }
}

static void the_first_thing_wrong_is_the_one_told(void **state)
{
    (void)state;
    struct sample s;
    struct err err = {""};
    assert_int_equal(read_sample("{\"count\": 99, \"ratio\": 99}", &s, &err), -EINVAL);
    assert_non_null(strstr(err.text, "count"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_read_and_absent_ones_have_their_fallback),
        cmocka_unit_test(every_wrong_member_is_named_with_what_is_allowed),
        cmocka_unit_test(the_first_thing_wrong_is_the_one_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
