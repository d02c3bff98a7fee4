#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "scenario.h"

static const char good[] =
    "{\"schema\":\"codeq-lab.scenario/1\",\"id\":\"try-1\",\"rev\":2,\"title\":\"t\",\"seed\":7,"
    "\"workload\":{\"operation\":\"cycle\",\"batch\":4,\"format\":\"json\",\"payload_bytes\":100},"
    "\"redis\":{\"version_min\":\"6.2\",\"config\":{\"--hz\":\"50\"}},\"preload\":{\"tasks\":3},"
    "\"counted\":{\"warm_ops\":8,\"ops\":40,\"repeats\":2},"
    "\"timed\":{\"warm_ops\":4,\"ops\":400,\"duration_ms_max\":9,\"runs\":6}}";

static void every_field_is_read(void **state)
{
    (void)state;
    struct err err = {""};
    struct scenario *s = scenario_parse("try-1.json", good, strlen(good), &err);
    assert_string_equal(err.text, "");
    assert_non_null(s);
    assert_string_equal(s->id, "try-1");
    assert_int_equal(s->rev, 2);
    assert_int_equal(s->seed, 7);
    assert_string_equal(s->operation, "cycle");
    assert_int_equal(s->batch, 4);
    assert_string_equal(s->format, "json");
    assert_int_equal(s->payload_bytes, 100);
    assert_string_equal(s->redis_version_min, "6.2");
    assert_string_equal(s->redis_config[0], "--hz");
    assert_string_equal(s->redis_config[1], "50");
    assert_null(s->redis_config[2]);
    assert_int_equal(s->preload_tasks, 3);
    assert_int_equal(s->counted.warm_ops, 8);
    assert_int_equal(s->counted.ops, 40);
    assert_int_equal(s->counted.repeats, 2);
    assert_int_equal(s->timed.warm_ops, 4);
    assert_int_equal(s->timed.ops, 400);
    assert_int_equal(s->timed.duration_ms_max, 9);
    assert_int_equal(s->timed.runs, 6);
    scenario_free(s);
}

/* good with the first `from` replaced by `to`. */
static char *changed(const char *from, const char *to)
{
    const char *at = strstr(good, from);
    assert_non_null(at);
    size_t bytes = strlen(good) + strlen(to) + 1;
    char *text = malloc(bytes);
    assert_non_null(text);
    snprintf(text, bytes, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    return text;
}

static void a_wrong_field_is_named_with_file_and_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *names, *allows;
    } rows[] = {
        {"\"rev\":2", "\"rev\":0", "rev", "1..1000000"},
        {"\"rev\":2", "\"rev\":1.5", "rev", "whole number"},
        {"\"rev\":2,", "", "rev", "missing"},
        {"\"cycle\"", "\"fly\"", "workload.operation", "cycle, create, claim"},
        {"\"batch\":4", "\"batch\":257", "workload.batch", "1..256"},
        {"\"batch\":4", "\"batch\":\"4\"", "workload.batch", "number"},
        {"\"batch\"", "\"bach\"", "workload.bach", "batch"},
        {"\"ops\":40,", "\"ops\":41,", "counted.ops", "multiple of workload.batch"},
        {"\"runs\":6", "\"runs\":-1", "timed.runs", "1..1000"},
        {"scenario/1", "scenario/2", "schema", "codeq-lab.scenario/1"},
        {"\"try-1\"", "\"../x\"", "id", "lower-case"},
        {"\"try-1\"", "\"\"", "id", "lower-case"},
        {"\"title\"", "\"roles\":[],\"title\"", "roles", "not supported"},
        {"\"title\"", "\"slo\":{},\"title\"", "slo", "not supported"},
        {"\"title\"", "\"nonsense\":1,\"title\"", "nonsense", "unknown field"},
        {"--hz", "--dir", "redis.config", "lab sets"},
        {"--hz", "hz", "redis.config", "--option"},
        {"\"6.2\"", "\"six\"", "redis.version_min", "6.2"},
        {"\"cycle\"", "\"claim\"", "preload.tasks", "tasks that wait"},
        {"{\"tasks\":3}", "[]", "preload", "object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = changed(rows[i].from, rows[i].to);
        struct err err = {""};
        struct scenario *s = scenario_parse("wrong.json", text, strlen(text), &err);
        if (s != NULL || strncmp(err.text, "scenario 'wrong.json': ", 23) != 0 ||
            strstr(err.text, rows[i].names) == NULL || strstr(err.text, rows[i].allows) == NULL) {
            fail_msg("row %zu (%s): '%s'", i, rows[i].to, err.text);
        }
        free(text);
    }
}

/* Whatever bytes change, the answer is a scenario within its ranges or an error with a text. */
static void mutated_files_are_read_or_refused_with_a_reason(void **state)
{
    (void)state;
    static const char letters[] = "{}[]\",:0129-eE.truefalsn\\ \n\x01\xff";
    struct rng rng;
    rng_init(&rng, 2026);
    size_t refused = 0;
    for (int i = 0; i < 20000; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        size_t bytes = strlen(good);
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--) {
            text[rng_below(&rng, bytes)] = letters[rng_below(&rng, sizeof letters - 1)];
        }
        if (rng_below(&rng, 8) == 0) {
            bytes = rng_below(&rng, bytes);
        }
        struct err err = {""};
        struct scenario *s = scenario_parse("m.json", text, bytes, &err);
        if (s == NULL) {
            refused++;
            assert_true(strncmp(err.text, "scenario 'm.json': ", 19) == 0);
            assert_true(strlen(err.text) > 20);
        } else {
            assert_true(s->batch >= 1 && s->batch <= 256 && s->counted.ops % s->batch == 0);
            assert_true(s->payload_bytes >= 0 && s->timed.runs >= 1 && s->rev >= 1);
            scenario_free(s);
        }
    }
    assert_true(refused > 10000);
}

static void redis_configuration_has_its_own_digest(void **state)
{
    (void)state;
    char *other = changed("\"50\"", "\"51\"");
    char *same = changed("\"rev\":2", "\"rev\":3");
    struct scenario *a = scenario_parse("a", good, strlen(good), NULL);
    struct scenario *b = scenario_parse("b", other, strlen(other), NULL);
    struct scenario *c = scenario_parse("c", same, strlen(same), NULL);
    char x[DIGEST_BYTES], y[DIGEST_BYTES], z[DIGEST_BYTES];
    scenario_redis_digest(a, x);
    scenario_redis_digest(b, y);
    scenario_redis_digest(c, z);
    assert_string_not_equal(x, y);
    assert_string_equal(x, z);
    assert_string_not_equal(a->sha256, c->sha256);
    scenario_free(a);
    scenario_free(b);
    scenario_free(c);
    free(other);
    free(same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(a_wrong_field_is_named_with_file_and_what_is_allowed),
        cmocka_unit_test(mutated_files_are_read_or_refused_with_a_reason),
        cmocka_unit_test(redis_configuration_has_its_own_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
