#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "compare.h"
#include "result.h"

static struct compare_metric judged(const char *id, double a, double b, double noise,
                                    const struct compare_budgets *budgets)
{
    struct compare_metric m = {.metric = metric_find(id), .a = a, .b = b, .noise = noise};
    assert_non_null(m.metric);
    snprintf(m.id, sizeof m.id, "%s", id);
    compare_judge(&m, budgets, "a-scenario");
    return m;
}

static void verdicts_follow_the_budgets(void **state)
{
    (void)state;
    struct compare_budgets *budgets = compare_budgets_read(NULL, "2026-01-01", NULL);
    static const struct {
        const char *id;
        double a, b, noise;
        enum verdict verdict;
        bool warning;
    } cases[] = {
        {"cycle.instructions_per_op", 10000, 10000, 0, VERDICT_SAME, false},
        {"cycle.instructions_per_op", 10000, 10050, 0, VERDICT_SAME, false},
        {"cycle.instructions_per_op", 10000, 10051, 0, VERDICT_SAME, true},
        {"cycle.instructions_per_op", 10000, 10100, 0, VERDICT_SAME, true},
        {"cycle.instructions_per_op", 10000, 10101, 0, VERDICT_WORSE, false},
        {"cycle.instructions_per_op", 10000, 9900, 0, VERDICT_SAME, false},
        {"cycle.instructions_per_op", 10000, 9899, 0, VERDICT_BETTER, false},
        {"cycle.instructions_per_op", 10000, 10150, 20, VERDICT_INCONCLUSIVE, false},
        {"cycle.instructions_per_op", 10000, 10161, 20, VERDICT_WORSE, false},
        {"cycle.instructions_per_op", 10000, 9850, 20, VERDICT_INCONCLUSIVE, false},
        {"cycle.round_trips_per_op", 3, 3.01, 0, VERDICT_SAME, false},
        {"cycle.round_trips_per_op", 3, 4, 0, VERDICT_WORSE, false},
        {"cycle.allocs_per_op", 0, 1, 0, VERDICT_WORSE, false},
        {"cycle.alloc_bytes_per_op", 100, 116, 0, VERDICT_SAME, false},
        {"cycle.alloc_bytes_per_op", 100, 117, 0, VERDICT_WORSE, false},
        {"cycle.alloc_bytes_per_op", 10000, 10099, 0, VERDICT_SAME, false},
        {"run.heap_peak_bytes", 1e6, 1e6 + 20000, 0, VERDICT_SAME, false},
        {"run.heap_peak_bytes", 1e6, 1e6 + 20001, 0, VERDICT_WORSE, false},
        {"cycle.syscalls_per_op", 9, 8, 0, VERDICT_BETTER, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct compare_metric m =
            judged(cases[i].id, cases[i].a, cases[i].b, cases[i].noise, budgets);
        if (m.verdict != cases[i].verdict || m.warning != cases[i].warning) {
            print_error("case %zu: %s\n", i, verdict_name(m.verdict));
        }
        assert_int_equal(m.verdict, cases[i].verdict);
        assert_int_equal(m.warning, cases[i].warning);
    }
    compare_budgets_free(budgets);
}

static void leak_fails_even_where_the_baseline_leaks(void **state)
{
    (void)state;
    struct compare_budgets *budgets = compare_budgets_read(NULL, "2026-01-01", NULL);
    struct compare_metric m = judged("run.live_bytes_per_op", 6.4, 6.4, 0, budgets);
    assert_int_equal(m.verdict, VERDICT_WORSE);
    assert_true(m.leak);
    m = judged("run.live_bytes_per_op", 6.4, 0, 0, budgets);
    assert_int_equal(m.verdict, VERDICT_BETTER);
    assert_false(m.leak);
    compare_budgets_free(budgets);
}

/* A folder of two scenario folders, a and b, written by each test. */
struct fixture {
    char dir[64];
    char a[96];
    char b[96];
};

static int make(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "/tmp/codeq-compare-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->a, sizeof f->a, "%s/a", f->dir);
    snprintf(f->b, sizeof f->b, "%s/b", f->dir);
    assert_int_equal(mkdir(f->a, 0700), 0);
    assert_int_equal(mkdir(f->b, 0700), 0);
    *state = f;
    return 0;
}

static int remove_all(void **state)
{
    struct fixture *f = *state;
    remove_tree(f->dir);
    free(f);
    return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(result_write_file(path, text, strlen(text), NULL), 0);
}

static void put_summary(const char *dir, const char *sha, const char *metrics)
{
    struct buf text = BUF_INIT;
    buf_printf(&text,
               "{\"schema\":\"codeq-lab.summary/1\",\"scenario\":{\"id\":\"s\",\"sha256\":\"%s\"},"
               "\"redis_config_sha256\":\"r\",\"operation\":\"cycle\",\"placement\":\"one-core\","
               "\"rank_rule\":\"ceil(p*n)\",\"metrics\":[%s]}",
               sha, metrics);
    put(dir, "summary.json", text.data);
    buf_fini(&text);
}

#define INSTRUCTIONS(value) \
    "{\"id\":\"cycle.instructions_per_op\",\"class\":\"counted\",\"value\":" value ",\"range\":0}"

static const char head[] = "# codeq-lab.functions/1\n# ops 10\n"
                           "function\tobject\tfile\tself\tinclusive\tcalls\n";

static const struct compare_part *part(const struct compare_metric *m, const char *name)
{
    for (size_t i = 0; i < m->part_count; i++) {
        if (strcmp(m->parts[i].name, name) == 0) {
            return &m->parts[i];
        }
    }
    return NULL;
}

static void parts_and_remainder_add_up_and_name_new_gone_and_renamed(void **state)
{
    struct fixture *f = *state;
    struct compare_budgets *budgets = compare_budgets_read(NULL, "2026-01-01", NULL);
    struct buf a = BUF_INIT;
    struct buf b = BUF_INIT;
    /* Per op: parse 100 -> 250, write renamed to emit at 40, old_only gone (30), fresh new (60),
     * mover moved to another file 10 -> 12, seven small ones +1 each; homonyms in two objects. */
    buf_puts(&a, head);
    buf_puts(&a, "helper\tlibz.so\tz.c\t50\t50\t10\nhelper\tprog\tp.c\t70\t70\t10\n"
                 "mover\tprog\tone.c\t100\t100\t10\nold_only\tprog\tp.c\t300\t300\t70\n"
                 "parse\tprog\tp.c\t1000\t1000\t10\nwrite\tprog\tw.c\t400\t400\t20\n");
    buf_puts(&b, head);
    buf_puts(&b, "emit\tprog\tw.c\t400\t400\t20\nfresh\tprog\tx.c\t600\t600\t10\n"
                 "helper\tlibz.so\tz.c\t50\t50\t10\nhelper\tprog\tp.c\t170\t170\t10\n"
                 "mover\tprog\ttwo.c\t120\t120\t10\nparse\tprog\tp.c\t2500\t2500\t10\n");
    for (int i = 0; i < 7; i++) {
        buf_printf(&a, "small%d\tprog\tp.c\t10\t10\t10\n", i);
        buf_printf(&b, "small%d\tprog\tp.c\t20\t20\t10\n", i);
    }
    put_summary(f->a, "x", INSTRUCTIONS("199"));
    put_summary(f->b, "x", INSTRUCTIONS("398.5"));
    put(f->a, "functions.tsv", a.data);
    put(f->b, "functions.tsv", b.data);
    struct compare_scenario s;
    struct err err = {""};
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, &err), 0);
    assert_int_equal(s.verdict, VERDICT_WORSE);
    assert_int_equal(s.metric_count, 1);
    const struct compare_metric *m = &s.metrics[0];
    assert_string_equal(m->part_kind, "function");
    assert_string_equal(m->parts[0].name, "parse");
    assert_true(m->parts[0].delta == 150);
    assert_string_equal(part(m, "fresh")->note, "new");
    assert_string_equal(part(m, "old_only")->note, "gone");
    assert_string_equal(part(m, "emit")->note, "was write");
    assert_true(part(m, "emit")->delta == 0);
    assert_string_equal(part(m, "mover")->note, "moved from one.c");
    assert_null(part(m, "write"));
    double sum = m->remainder;
    for (size_t i = 0; i < m->parts_shown; i++) {
        sum += m->parts[i].delta;
    }
    assert_true(fabs(sum - (m->b - m->a)) < 1e-9);
    double all = 0;
    for (size_t i = 0; i < m->part_count; i++) {
        all += m->parts[i].delta;
    }
    assert_true(fabs(all - 199) < 1e-9); /* what the profiles hold; 0.5 is the metric's own */
    assert_int_equal(m->parts_shown, COMPARE_PARTS_SHOWN);
    compare_scenario_fini(&s);
    compare_budgets_free(budgets);
    buf_fini(&a);
    buf_fini(&b);
}

static void system_calls_that_grew_are_named(void **state)
{
    struct fixture *f = *state;
    struct compare_budgets *budgets = compare_budgets_read(NULL, "2026-01-01", NULL);
    static const char metric[] =
        "{\"id\":\"cycle.syscalls_per_op\",\"class\":\"counted\",\"value\":%d,\"range\":0}";
    for (int side = 0; side < 2; side++) {
        char value[160];
        struct buf runs = BUF_INIT;
        const char *dir = side == 0 ? f->a : f->b;
        snprintf(value, sizeof value, metric, side == 0 ? 2 : 4);
        put_summary(dir, "x", value);
        for (int scale = 1; scale <= 2; scale++) {
            int n = 10 * scale;
            buf_printf(&runs,
                       "{\"v\":1,\"run\":%d,\"kind\":\"syscalls\",\"repeat\":0,\"scale\":%d,"
                       "\"ops\":%d,\"by_name\":{\"read\":%d,\"brk\":7%s",
                       scale - 1, scale, n, 2 * n + 5, side == 1 ? ",\"poll\":" : "}}\n");
            if (side == 1) {
                buf_printf(&runs, "%d}}\n", 2 * n);
            }
        }
        put(dir, "runs.ndjson", runs.data);
        buf_fini(&runs);
    }
    struct compare_scenario s;
    struct err err = {""};
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, &err), 0);
    const struct compare_metric *m = &s.metrics[0];
    assert_int_equal(m->verdict, VERDICT_WORSE);
    assert_int_equal(m->parts_shown, 1);
    assert_string_equal(m->parts[0].name, "poll");
    assert_true(m->parts[0].delta == 2);
    assert_true(m->remainder == 0);
    compare_scenario_fini(&s);
    compare_budgets_free(budgets);
}

/* A call of a script more brings inner calls that nobody sent: they are no parts of a round trip.
 */
static void round_trips_are_made_of_what_was_sent(void **state)
{
    struct fixture *f = *state;
    struct compare_budgets *budgets = compare_budgets_read(NULL, "2026-01-01", NULL);
    for (int side = 0; side < 2; side++) {
        char metric[160];
        struct buf runs = BUF_INIT;
        const char *dir = side == 0 ? f->a : f->b;
        snprintf(metric, sizeof metric,
                 "{\"id\":\"cycle.round_trips_per_op\",\"class\":\"counted\",\"value\":%d,"
                 "\"range\":0}",
                 3 + side);
        put_summary(dir, "x", metric);
        for (int scale = 1; scale <= 2; scale++) {
            int n = 10 * scale;
            buf_printf(&runs,
                       "{\"v\":1,\"run\":%d,\"kind\":\"counts\",\"repeat\":0,\"scale\":%d,"
                       "\"ops\":%d,\"by_name\":{\"evalsha\":%d,\"zcard\":%d}}\n",
                       scale - 1, scale, n, (3 + side) * n, 4 * side * n);
        }
        put(dir, "runs.ndjson", runs.data);
        buf_fini(&runs);
    }
    struct compare_scenario s;
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, NULL), 0);
    const struct compare_metric *m = &s.metrics[0];
    assert_int_equal(m->verdict, VERDICT_WORSE);
    assert_int_equal(m->part_count, 1);
    assert_string_equal(m->parts[0].name, "evalsha");
    assert_true(m->parts[0].delta == 1 && m->remainder == 0);
    compare_scenario_fini(&s);
    compare_budgets_free(budgets);
}

static void other_scenario_text_is_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct compare_budgets *budgets = compare_budgets_read(NULL, "2026-01-01", NULL);
    put_summary(f->a, "one", INSTRUCTIONS("100"));
    put_summary(f->b, "two", INSTRUCTIONS("100"));
    struct compare_scenario s;
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, NULL), 0);
    assert_int_equal(s.verdict, VERDICT_NOT_COMPARABLE);
    assert_string_equal(s.reason, "scenario sha256 differs: 'one' in A, 'two' in B");
    compare_scenario_fini(&s);
    compare_budgets_free(budgets);
}

static void broken_and_newer_files_are_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct compare_budgets *budgets = compare_budgets_read(NULL, "2026-01-01", NULL);
    struct compare_scenario s;
    struct err err = {""};
    put_summary(f->a, "x", INSTRUCTIONS("100"));
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, &err), -ENOENT);
    put(f->b, "summary.json", "{\"schema\":\n\"codeq-lab.summ");
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "b/summary.json: line 2"));
    put(f->b, "summary.json", "{\"schema\":\"codeq-lab.summary/2\"}");
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, &err), -EOPNOTSUPP);
    put_summary(f->b, "x", INSTRUCTIONS("null"));
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "b/summary.json"));
    put_summary(f->b, "x", INSTRUCTIONS("500"));
    put(f->a, "functions.tsv", "# codeq-lab.functions/1\n# ops 10\nwrong\n");
    put(f->b, "functions.tsv", head);
    assert_int_equal(compare_scenario(&s, f->a, f->b, budgets, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "a/functions.tsv: line 3"));
    compare_budgets_free(budgets);
}

static void environments_differ_by_the_name_of_a_field(void **state)
{
    (void)state;
    char text[256] = "";
    static const char a[] = "{\"identity\":{\"arch\":\"x86_64\",\"kernel\":\"6.1\"}}";
    static const char b[] = "{\"identity\":{\"arch\":\"x86_64\",\"kernel\":\"6.18\"}}";
    struct json *x = json_parse(a, sizeof a - 1, NULL);
    struct json *y = json_parse(b, sizeof b - 1, NULL);
    assert_true(compare_env_differs(x, y, text, sizeof text));
    assert_string_equal(text, "kernel differs: '6.1' in A, '6.18' in B");
    assert_false(compare_env_differs(x, x, text, sizeof text));
    json_free(x);
    json_free(y);
}

static void allowed_regression_holds_until_it_expires(void **state)
{
    struct fixture *f = *state;
    char path[160];
    struct err err = {""};
    put(f->dir, "budgets.json",
        "{\"schema\":\"codeq-lab.budgets/1\",\"budgets\":{\"allocs_per_op\":{\"fail_absolute\":2}},"
        "\"allowed\":[{\"metric\":\"cycle.instructions_per_op\",\"scenario\":\"a-scenario\","
        "\"to\":12000,\"reason\":\"checks tokens\",\"owner\":\"x\",\"expires\":\"2026-06-30\"}]}");
    snprintf(path, sizeof path, "%s/budgets.json", f->dir);
    struct compare_budgets *budgets = compare_budgets_read(path, "2026-06-30", &err);
    assert_non_null(budgets);
    struct compare_metric m = judged("cycle.instructions_per_op", 10000, 12000, 0, budgets);
    assert_int_equal(m.verdict, VERDICT_SAME);
    assert_string_equal(m.allowed, "checks tokens");
    m = judged("cycle.instructions_per_op", 10000, 12001, 0, budgets);
    assert_int_equal(m.verdict, VERDICT_WORSE);
    m = judged("cycle.allocs_per_op", 1, 3, 0, budgets);
    assert_int_equal(m.verdict, VERDICT_SAME);
    compare_budgets_free(budgets);
    budgets = compare_budgets_read(path, "2026-07-01", &err);
    m = judged("cycle.instructions_per_op", 10000, 12000, 0, budgets);
    assert_int_equal(m.verdict, VERDICT_WORSE);
    compare_budgets_free(budgets);
    put(f->dir, "budgets.json",
        "{\"schema\":\"codeq-lab.budgets/1\",\"budgets\":{\"no_such\":{\"fail_ratio\":1}}}");
    assert_null(compare_budgets_read(path, "2026-07-01", &err));
    assert_non_null(strstr(err.text, "budgets.no_such"));
    put(f->dir, "budgets.json",
        "{\"schema\":\"codeq-lab.budgets/1\",\"allowed\":[{\"metric\":\"cycle.allocs_per_op\"}]}");
    assert_null(compare_budgets_read(path, "2026-07-01", &err));
    assert_non_null(strstr(err.text, "allowed[0]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_follow_the_budgets),
        cmocka_unit_test(leak_fails_even_where_the_baseline_leaks),
        cmocka_unit_test_setup_teardown(parts_and_remainder_add_up_and_name_new_gone_and_renamed,
                                        make, remove_all),
        cmocka_unit_test_setup_teardown(system_calls_that_grew_are_named, make, remove_all),
        cmocka_unit_test_setup_teardown(round_trips_are_made_of_what_was_sent, make, remove_all),
        cmocka_unit_test_setup_teardown(other_scenario_text_is_refused_by_name, make, remove_all),
        cmocka_unit_test_setup_teardown(broken_and_newer_files_are_refused_by_name, make,
                                        remove_all),
        cmocka_unit_test(environments_differ_by_the_name_of_a_field),
        cmocka_unit_test_setup_teardown(allowed_regression_holds_until_it_expires, make,
                                        remove_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
