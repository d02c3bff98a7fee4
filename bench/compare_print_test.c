#include "base/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare_print.h"

static struct compare_part parts[2];

static struct comparison *made(void)
{
    struct comparison *c = calloc(1, sizeof *c);
    assert_non_null(c);
    strcpy(c->a.name, "old");
    strcpy(c->b.name, "new");
    strcpy(c->scenarios[0].id, "cycle-1");
    c->count = 1;
    return c;
}

static struct compare_metric *add(struct comparison *c, const char *id, double a, double b,
                                  const char *part)
{
    struct compare_scenario *s = &c->scenarios[0];
    struct compare_metric *m = &s->metrics[s->metric_count++];
    *m = (struct compare_metric){.metric = metric_find(id), .a = a, .b = b};
    assert_non_null(m->metric);
    snprintf(m->id, sizeof m->id, "%s", id);
    m->verdict = b > a ? VERDICT_WORSE : b < a ? VERDICT_BETTER : VERDICT_SAME;
    if (part != NULL) {
        char *name = parts[0].name = (char *)(uintptr_t)part;
        parts[0] = (struct compare_part){name, NULL, 0, 0, (b - a) * 0.62};
        m->part_kind = "function";
        m->parts = parts;
        m->part_count = m->parts_shown = 1;
        m->remainder = (b - a) * 0.38;
    }
    return m;
}

static void expect(struct comparison *c, enum verdict verdict, const char *wanted)
{
    struct buf text = BUF_INIT;
    comparison_headline(c, &text);
    assert_string_equal(text.data, wanted);
    assert_int_equal(comparison_verdict(c), verdict);
    buf_fini(&text);
    free(c);
}

static void round_trip_leads_before_all_that_follows_from_it(void **state)
{
    (void)state;
    struct comparison *c = made();
    add(c, "cycle.instructions_per_op", 100, 150, "conn_flush");
    add(c, "cycle.redis_commands_per_op", 3, 4, NULL);
    add(c, "cycle.round_trips_per_op", 3, 4, NULL);
    strcpy(c->scenarios[0].grew, "claim");
    expect(c, VERDICT_WORSE,
           "worse: claim makes 1 more Redis round trip per operation (3 to 4) in cycle-1; 2 more "
           "metrics are worse");
}

static void leak_is_said_in_whole_bytes_at_its_site(void **state)
{
    (void)state;
    struct comparison *c = made();
    add(c, "cycle.allocs_per_op", 0, 0.1, NULL);
    add(c, "run.live_bytes_per_op", 0, 6.4, "task_parse < store_claim < main")->leak = true;
    expect(c, VERDICT_WORSE,
           "worse: 64 B leaked per 10 operations at task_parse in cycle-1; 1 more metric is worse");
}

static void allocation_names_its_site_not_the_allocator_that_costs(void **state)
{
    (void)state;
    struct comparison *c = made();
    add(c, "cycle.instructions_per_op", 100, 150, "_int_free");
    add(c, "cycle.allocs_per_op", 0, 1, "conn_begin < store_claim");
    expect(c, VERDICT_WORSE,
           "worse: +1 allocations/op at conn_begin in cycle-1; 1 more metric is worse");
}

static void function_that_grew_is_named_with_its_share(void **state)
{
    (void)state;
    struct comparison *c = made();
    add(c, "cycle.instructions_per_op", 1000, 1100, "json_print");
    expect(c, VERDICT_WORSE,
           "worse: +62 instructions/op in json_print, 62 % of the growth of +10.00 % in cycle-1");
}

static void share_above_the_whole_is_not_called_a_share(void **state)
{
    (void)state;
    struct comparison *c = made();
    add(c, "cycle.instructions_per_op", 1000, 900, "conn_arg_space");
    parts[0].delta = -190;
    expect(c, VERDICT_BETTER,
           "better: -190 instructions/op in conn_arg_space, -100 in all (-10.00 %) in cycle-1");
}

static void equal_programs_and_refusals_are_said(void **state)
{
    (void)state;
    struct comparison *c = made();
    c->count = 0;
    c->same_program = true;
    expect(c, VERDICT_SAME,
           "same: A and B build the same program, byte for byte: nothing to measure");
    c = made();
    strcpy(c->reason, "libc differs: '1' in A, '2' in B");
    expect(c, VERDICT_NOT_COMPARABLE, "not comparable: libc differs: '1' in A, '2' in B");
}

static void worse_times_count_only_when_confirmed(void **state)
{
    (void)state;
    static struct compare_timed timed;
    struct compare_timed_metric *m = &timed.metrics[0];
    strcpy(m->id, "claim.latency_ns_p50");
    m->flagged = true;
    m->judged = (struct verdict_timed){.verdict = VERDICT_INCONCLUSIVE, .effect = 1.05, .pairs = 9};
    timed.metric_count = 1;
    struct comparison *c = made();
    c->timed[0] = &timed;
    add(c, "cycle.allocs_per_op", 1, 1, NULL);
    expect(c, VERDICT_INCONCLUSIVE,
           "inconclusive: claim.latency_ns_p50 may have moved (+5.0 % in 9 pairs), but no time was "
           "left to confirm it");
    m->confirmed = true;
    m->judged = (struct verdict_timed){
        .verdict = VERDICT_WORSE, .effect = 1.05, .low = 1.03, .high = 1.07, .pairs = 48};
    c = made();
    c->timed[0] = &timed;
    add(c, "cycle.allocs_per_op", 1, 1, NULL);
    expect(c, VERDICT_WORSE,
           "worse: claim.latency_ns_p50 is +5.0 % [+3.0, +7.0] in cycle-1, from 48 pairs");
}

static void what_is_wrong_with_the_runs_stands_beside_the_table(void **state)
{
    (void)state;
    struct comparison *c = made();
    static struct compare_timed timed = {
        .screen_pairs = 10, .metric_count = 1, .unsteady_pairs = 2, .floor_comparisons = 4};
    struct compare_timed_metric *m = &timed.metrics[0];
    strcpy(m->id, "claim.latency_ns_p50");
    m->effect_min = 0.07;
    m->judged = (struct verdict_timed){.verdict = VERDICT_SAME,
                                       .effect = 1,
                                       .low = 0.99,
                                       .high = 1.01,
                                       .pairs = 10,
                                       .modes = true,
                                       .share_high_a = 0.5,
                                       .share_high_b = 0.3,
                                       .share_p = 0.65};
    c->timed[0] = &timed;
    add(c, "cycle.allocs_per_op", 1, 1, NULL);
    static const char *const notes[] = {
        "2 pairs were dropped and repeated: a run never settled\n",
        "claim.latency_ns_p50: runs fall into two groups; in the upper one are 50 % of A's and 30 "
        "% "
        "of B's (p = 0.65)\n",
        "claim.latency_ns_p50: below 7.0 % is the same here: so much like differed from like (4 "
        "comparisons)\n",
    };
    struct buf texts[2] = {BUF_INIT, BUF_INIT};
    comparison_text(c, false, &texts[0]);
    comparison_markdown(c, &texts[1]);
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
            if (strstr(texts[t].data, notes[i]) == NULL) {
                fail_msg("no '%s' in:\n%s", notes[i], texts[t].data);
            }
        }
        buf_fini(&texts[t]);
    }
    char *text = comparison_json(c, 0);
    assert_non_null(strstr(text, "\"share_high_b\": 0.3"));
    assert_non_null(strstr(text, "\"effect_min\": 0.07"));
    assert_non_null(strstr(text, "\"unsteady_pairs\": 2"));
    free(text);
    timed.unsteady = true;
    m->judged.verdict = VERDICT_INCONCLUSIVE;
    m->judged.reason = VERDICT_UNSTEADY;
    expect(c, VERDICT_INCONCLUSIVE,
           "inconclusive: in 2 of 12 pairs a run never settled: times cannot be judged on this "
           "machine now");
}

static void markdown_lets_no_name_write_markup(void **state)
{
    (void)state;
    struct comparison *c = made();
    struct buf text = BUF_INIT;
    add(c, "cycle.instructions_per_op", 1000, 1100, "<img>|@all`");
    comparison_markdown(c, &text);
    assert_null(strstr(text.data, "<img"));
    assert_null(strchr(text.data, '@'));
    assert_non_null(strstr(text.data, "&lt;img>&#124;&#64;all&#96;"));
    buf_fini(&text);
    free(c);
}

static void json_holds_what_the_report_reads(void **state)
{
    (void)state;
    struct comparison *c = made();
    add(c, "cycle.instructions_per_op", 1000, 1100, "json_print");
    strcpy(c->only_a[c->only_a_count++], "gone");
    char *text = comparison_json(c, 1);
    struct json *json = json_parse(text, strlen(text), NULL);
    assert_non_null(json);
    assert_string_equal(json_string(json_get(json, "verdict"), ""), "worse");
    assert_memory_equal(json_string(json_get(json, "headline"), ""), "worse: ", 7);
    const struct json *s = json_first(json_get(json, "scenarios"));
    assert_string_equal(json_string(json_get(s, "scenario"), ""), "cycle-1");
    const struct json *m = json_first(json_get(s, "metrics"));
    assert_string_equal(json_string(json_get(m, "id"), ""), "cycle.instructions_per_op");
    assert_string_equal(json_string(json_get(m, "verdict"), ""), "worse");
    assert_string_equal(json_string(json_first(json_get(json, "only_in_a")), ""), "gone");
    json_free(json);
    free(text);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_leads_before_all_that_follows_from_it),
        cmocka_unit_test(leak_is_said_in_whole_bytes_at_its_site),
        cmocka_unit_test(allocation_names_its_site_not_the_allocator_that_costs),
        cmocka_unit_test(function_that_grew_is_named_with_its_share),
        cmocka_unit_test(share_above_the_whole_is_not_called_a_share),
        cmocka_unit_test(equal_programs_and_refusals_are_said),
        cmocka_unit_test(worse_times_count_only_when_confirmed),
        cmocka_unit_test(what_is_wrong_with_the_runs_stands_beside_the_table),
        cmocka_unit_test(markdown_lets_no_name_write_markup),
        cmocka_unit_test(json_holds_what_the_report_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
