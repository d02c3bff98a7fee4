#include "base/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stats_json.h"

static struct json *asked(const char *name, const char *text, struct err *err)
{
    struct json *input = json_parse(text, strlen(text), err);
    assert_non_null(input);
    struct json *answer = stats_json(name, input, err);
    json_free(input);
    return answer;
}

/* expected: members of the answer, numbers compared to 1e-6 of themselves. */
static void assert_answer(const char *name, const char *text, const char *expected)
{
    struct err err = {""};
    struct json *answer = asked(name, text, &err);
    if (answer == NULL) {
        fail_msg("%s: %s", name, err.text);
    }
    assert_string_equal(json_string(json_get(answer, "schema"), ""), "codeq-lab.stats/1");
    assert_string_equal(json_string(json_get(answer, "name"), ""), name);
    struct json *wanted = json_parse(expected, strlen(expected), &err);
    assert_non_null(wanted);
    assert_int_equal(json_count(answer), json_count(wanted) + 2);
    for (const struct json *w = json_first(wanted); w != NULL; w = json_next(w)) {
        const struct json *got = json_get(answer, json_key(w));
        assert_non_null(got);
        assert_int_equal(json_type(got), json_type(w));
        if (json_type(w) == JSON_NUMBER) {
            double value = json_number(w, 0);
            if (!(fabs(json_number(got, NAN) - value) <= 1e-6 * fmax(1e-3, fabs(value)))) {
                fail_msg("%s: %s is %.9g, expected %.9g", name, json_key(w), json_number(got, NAN),
                         value);
            }
        } else {
            char *a = json_print(got);
            char *b = json_print(w);
            assert_string_equal(a, b);
            free(a);
            free(b);
        }
    }
    json_free(wanted);
    json_free(answer);
}

static void each_name_answers_with_its_fields(void **state)
{
    (void)state;
    const char *depression = "{\"x\":[1.83,0.50,1.62,2.48,1.68,1.88,1.55,3.06,1.30],"
                             "\"y\":[0.878,0.647,0.598,2.05,1.06,1.29,1.06,3.14,1.29]}";
    assert_answer("wilcoxon", depression,
                  "{\"statistic\":40,\"p_two_sided\":0.0390625,\"p_less\":0.986328125,"
                  "\"p_greater\":0.01953125,\"n\":9,\"exact\":true}");
    assert_answer("wilcoxon", "{\"d\":[1,2,3]}",
                  "{\"statistic\":6,\"p_two_sided\":0.25,\"p_less\":1,\"p_greater\":0.125,\"n\":3,"
                  "\"exact\":true}");
    assert_answer("hodges-lehmann", "{\"d\":[1,2,3,4,5,6,7,8]}",
                  "{\"estimate\":4.5,\"low\":1,\"high\":8,\"level\":0.9921875,\"exact\":true}");
    assert_answer("hodges-lehmann", "{\"d\":[1,2,3],\"level\":0.9}",
                  "{\"estimate\":2,\"low\":null,\"high\":null,\"level\":1,\"exact\":true}");
    assert_answer("mann-whitney", "{\"x\":[4,5,6],\"y\":[1,2,3]}",
                  "{\"statistic\":9,\"p_two_sided\":0.1,\"p_less\":1,\"p_greater\":0.05,\"n\":6,"
                  "\"exact\":true}");
    assert_answer("mann-kendall", "{\"series\":[1,2,3,4]}",
                  "{\"statistic\":6,\"p_two_sided\":0.083333333,\"p_less\":1,"
                  "\"p_greater\":0.041666667,\"n\":4,\"exact\":true}");
    assert_answer("bootstrap-ratio", "{\"a\":[4,4],\"b\":[5,5],\"resamples\":99,\"seed\":3}",
                  "{\"estimate\":1.25,\"low\":1.25,\"high\":1.25,\"level\":0.99}");
    assert_answer("holm", "{\"p\":[0.01,0.04,0.03,0.005]}", "{\"adjusted\":[0.03,0.06,0.06,0.02]}");
    assert_answer("quantile-interval", "{\"values\":[3,1,5,2,4],\"p\":0.5,\"level\":0.9}",
                  "{\"estimate\":3,\"low\":1,\"high\":5,\"level\":0.9375}");
    assert_answer("quantile-ranks", "{\"n\":10,\"p\":0.5,\"level\":0.95}",
                  "{\"low_rank\":2,\"high_rank\":9,\"level\":0.978515625}");
    assert_answer("quantile-ranks", "{\"n\":5,\"p\":0.5,\"level\":0.95}",
                  "{\"low_rank\":null,\"high_rank\":null,\"level\":1}");
    assert_answer("tail-exceedance",
                  "{\"above_a\":[0,0],\"n_a\":[1000,1000],\"above_b\":[4,4],\"n_b\":[1000,1000]}",
                  "{\"estimate\":9,\"low\":0,\"high\":null,\"level\":1,\"p_two_sided\":0.5}");
    assert_answer("fisher", "{\"yes_a\":3,\"no_a\":1,\"yes_b\":1,\"no_b\":3}",
                  "{\"p_two_sided\":0.485714286}");
    assert_answer("median", "{\"values\":[1,1,2,2,4,6,9]}", "{\"median\":2,\"mad\":1}");
    assert_answer("modes", "{\"values\":[1,1,1,1,1,1,1,1,2,2,2,2,2,2,2,2]}",
                  "{\"two\":true,\"cut\":1.5,\"share_high\":0.5,\"gap_mads\":null}");
    assert_answer("trend-exact", "{\"series\":[1,1,2]}",
                  "{\"changes\":[{\"at\":2,\"before\":1,\"after\":2,\"p\":0}]}");
    assert_answer("trend-steps",
                  "{\"series\":[1,1,1,1,1,1,1,1,1,1,2,2,2,2,2,2,2,2,2,2],\"seed\":4}",
                  "{\"changes\":[{\"at\":10,\"before\":1,\"after\":2,\"p\":0.001}]}");
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    const struct {
        const char *name;
        const char *text;
        const char *said;
    } wrong[] = {
        {"t-test", "{}", "no statistic of this name"},
        {"holm", "[]", "object"},
        {"holm", "{}", "p"},
        {"holm", "{\"p\":[0.1,\"x\"]}", "value 2"},
        {"holm", "{\"p\":0.1}", "p"},
        {"holm", "{\"p\":[0.1,2]}", "p value 2"},
        {"holm", "{\"p\":[]}", "0 values"},
        {"holm", "{\"p\":[0.1],\"alpha\":1}", "alpha"},
        {"median", "{\"values\":[]}", "empty"},
        {"wilcoxon", "{\"x\":[1,2]}", "d"},
        {"wilcoxon", "{\"x\":[1,2],\"y\":[1]}", "y"},
        {"wilcoxon", "{\"d\":[1],\"x\":[1,2],\"y\":[1,2]}", "d"},
        {"hodges-lehmann", "{\"d\":[]}", "no values"},
        {"hodges-lehmann", "{\"d\":[1],\"level\":1}", "level"},
        {"quantile-interval", "{\"values\":[1],\"p\":0}", "between 0 and 1"},
        {"quantile-interval", "{\"values\":[1]}", "p"},
        {"tail-exceedance", "{\"above_a\":[1.5],\"n_a\":[9],\"above_b\":[1],\"n_b\":[9]}",
         "above_a"},
        {"tail-exceedance", "{\"above_a\":[1],\"n_a\":[9,9],\"above_b\":[1],\"n_b\":[9]}", "n_a"},
        {"fisher", "{\"yes_a\":-1,\"no_a\":1,\"yes_b\":1,\"no_b\":3}", "yes_a"},
        {"bootstrap-ratio", "{\"a\":[0],\"b\":[1]}", "above 0"},
        {"bootstrap-ratio", "{\"a\":[1],\"b\":[1],\"resamples\":1e9}", "resamples"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err err = {""};
        struct json *answer = asked(wrong[i].name, wrong[i].text, &err);
        if (answer != NULL || strstr(err.text, wrong[i].said) == NULL) {
            fail_msg("%s %s said \"%s\", expected \"%s\"", wrong[i].name, wrong[i].text, err.text,
                     wrong[i].said);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_name_answers_with_its_fields),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
