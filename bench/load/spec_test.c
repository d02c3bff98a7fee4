#include "base/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "load/spec.h"

static struct load_scenario *parse(const char *text, double duration_scale, double rate_scale,
                                   struct err *err)
{
    struct json *json = json_parse(text, strlen(text), err);
    if (json == NULL) {
        fail_msg("%s: %s", text, err->text);
    }
    struct load_scenario *s = load_scenario_parse(json, duration_scale, rate_scale, err);
    json_free(json);
    return s;
}

#define PRODUCER \
    "{\"role\":\"producer\",\"arrival\":\"poisson\",\"phases\":[{\"duration_ms\":1000," \
    "\"rate_per_sec\":10,\"end_rate_per_sec\":20}],\"payload_bytes\":[{\"value\":64,\"weight\":9}" \
    "," \
    "{\"value\":1024,\"weight\":1}],\"priority\":9,\"delay_ratio\":0.5,\"delay_min_ms\":1000," \
    "\"delay_max_ms\":30000}"
#define WORKER "{\"role\":\"worker\",\"concurrency\":100,\"nack_ratio\":0.1,\"heartbeat_ms\":20}"

static void a_whole_scenario_is_read_and_scaled(void **state)
{
    (void)state;
    struct err err = {""};
    struct load_scenario *s =
        parse("{\"duration_ms\":2000,\"seed\":7,\"tenants\":[3,1],\"roles\":[" PRODUCER "," WORKER
              "],\"slo\":[\"lost == 0\"],\"faults\":[{\"fault\":\"redis-pause\",\"at_ms\":500,"
              "\"duration_ms\":100}],\"title\":\"of the caller\"}",
              0.5, 2, &err);
    assert_string_equal(err.text, "");
    assert_non_null(s);
    assert_int_equal(s->spec.duration_ns, NS_PER_SEC);
    assert_int_equal(s->spec.tenant_count, 2);
    assert_true(s->spec.tenants[0].weight > 2.9);
    const struct load_role *p = &s->spec.roles[0];
    assert_true(p->open);
    assert_int_equal(p->arrival, ARRIVAL_POISSON);
    assert_int_equal(p->phases[0].duration_ns, NS_PER_SEC / 2);
    assert_true(p->phases[0].end_rate_per_sec > 39.9);
    assert_int_equal(p->payload_bytes_count, 2);
    assert_int_equal(p->delay_max_ms, 30000);
    const struct load_role *w = &s->spec.roles[1];
    assert_int_equal(w->kind, LOAD_WORKER);
    assert_int_equal(w->heartbeat_ns, 20 * NS_PER_MS);
    assert_int_equal(w->lease_seconds, 60);
    assert_int_equal(s->faults[0].at_ns, 250 * NS_PER_MS);
    assert_string_equal(s->slos[0].name, "lost");
    load_scenario_free(s);
}

static void wrong_members_are_refused_by_their_path(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *part;
    } cases[] = {
        {"{\"roles\":[" WORKER "]}", "duration_ms: is missing"},
        {"{\"duration_ms\":1}", "roles: is missing"},
        {"{\"duration_ms\":1,\"roles\":[]}", "roles: give at least one"},
        {"{\"duration_ms\":1,\"roles\":[{\"role\":\"boss\"}]}", "roles[0].role: is 'boss'"},
        {"{\"duration_ms\":1,\"roles\":[" WORKER ",{\"role\":\"worker\"}]}",
         "roles[1].concurrency: is missing"},
        {"{\"duration_ms\":1,\"roles\":[{\"role\":\"worker\",\"concurrency\":1,\"rate\":1}]}",
         "roles[0].rate: unknown field"},
        {"{\"duration_ms\":1,\"roles\":[{\"role\":\"producer\",\"arrival\":\"constant\","
         "\"phases\":[{\"duration_ms\":1,\"rate_per_sec\":-5}]}]}",
         "roles[0].phases[0].rate_per_sec: is -5"},
        {"{\"duration_ms\":1,\"roles\":[{\"role\":\"producer\",\"concurrency\":1,"
         "\"priority\":[{\"value\":10,\"weight\":1}]}]}",
         "roles[0].priority[0].value: is 10"},
        {"{\"duration_ms\":1,\"roles\":[{\"role\":\"producer\",\"concurrency\":1,"
         "\"command\":\"a/b\"}]}",
         "roles[0].command"},
        {"{\"duration_ms\":1,\"tenants\":0,\"roles\":[" WORKER "]}", "tenants"},
        {"{\"duration_ms\":1,\"tenants\":[1,0],\"roles\":[" WORKER "]}", "weights"},
        {"{\"duration_ms\":1,\"roles\":[" WORKER "],\"slo\":[\"lost\"]}", "slo[0]"},
        {"{\"duration_ms\":1,\"roles\":[" WORKER
         "],\"faults\":[{\"fault\":\"flood\",\"at_ms\":1}]}",
         "faults[0].fault: is 'flood'"},
        {"{\"duration_ms\":1,\"roles\":{}}", "roles: is object: give array"},
        {"{\"duration_ms\":1,\"roles\":[" WORKER "],\"saturation\":{\"times\":2}}",
         "saturation.times: needs a producer"},
        {"{\"duration_ms\":1,\"roles\":[" WORKER "],\"saturation\":{\"times\":0}}",
         "saturation.times: is 0"},
        {"[]", "must be an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {""};
        struct load_scenario *s = parse(cases[i].text, 1, 1, &err);
        if (s != NULL || strstr(err.text, cases[i].part) == NULL) {
            fail_msg("%s: '%s' is not in '%s'", cases[i].text, cases[i].part, err.text);
        }
    }
}

static void too_long_lists_are_refused(void **state)
{
    (void)state;
    char text[8192] = "{\"duration_ms\":1,\"roles\":[";
    for (int i = 0; i <= LOAD_ROLES_MAX; i++) {
        strcat(text, i > 0 ? "," WORKER : WORKER);
    }
    strcat(text, "]}");
    struct err err = {""};
    assert_null(parse(text, 1, 1, &err));
    assert_non_null(strstr(err.text, "more than 16"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_scenario_is_read_and_scaled),
        cmocka_unit_test(wrong_members_are_refused_by_their_path),
        cmocka_unit_test(too_long_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
