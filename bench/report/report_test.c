#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hist.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "report/html.h"
#include "report/report.h"

#define HOSTILE "</script><img src=x onerror=alert(1)>\"'&"
#define IMG "<img"

static char dir[64];

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A set whose every text tries to become markup. */
static int make_set(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/codeq-report-XXXXXX");
    assert_non_null(mkdtemp(dir));
    char path[128];
    snprintf(path, sizeof path, "%s/cycle", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    struct hist hist;
    assert_int_equal(hist_init(&hist, NULL, NULL), 0);
    for (int i = 1; i <= 5000; i++) {
        hist_record(&hist, i * 10);
    }
    char *encoded = hist_encode(&hist);
    hist_fini(&hist);

    struct json *manifest = json_new_object();
    json_add_string(manifest, "schema", "codeq-lab.set/1");
    json_add_string(manifest, "commit", "0123456789abcdef");
    json_add_string(manifest, "created", HOSTILE);
    json_append(json_add_array(manifest, "scenarios"), json_new_string("cycle"));
    struct json *env = json_new_object();
    json_add_string(json_add_object(env, "identity"), HOSTILE, HOSTILE);
    struct json *summary = json_new_object();
    json_add_string(summary, "operation", "cycle");
    struct json *metrics = json_add_array(summary, "metrics");
    struct json *metric = json_new_object();
    json_add_string(metric, "id", "cycle.instructions_per_op");
    json_add_string(metric, "class", "counted");
    json_add_string(metric, "unit", HOSTILE);
    json_add_number(metric, "value", 45063.5);
    json_append(json_add_array(metric, "values"), json_new_number(45063.5));
    json_append(metrics, metric);
    static const struct {
        const char *id;
        double value;
    } timed[] = {{"cycle.time_ns_per_op", 46000},
                 {"cycle.client_cpu_us_per_op", 9},
                 {"cycle.redis_cpu_us_per_op", 37},
                 {"cycle.redis_script_us_per_op", 27}};
    for (size_t i = 0; i < sizeof timed / sizeof *timed; i++) {
        metric = json_new_object();
        json_add_string(metric, "id", timed[i].id);
        json_add_string(metric, "class", "timed");
        json_add_number(metric, "value", timed[i].value);
        json_append(metrics, metric);
    }
    struct json *line = json_new_object();
    json_add_int(line, "v", 1);
    json_add_int(line, "run", 0);
    json_add_string(line, "kind", "timed");
    json_add_int(line, "repeat", 0);
    json_add_int(line, "scale", 1);
    json_add_int(line, "ops", 5000);
    struct json *hdr = json_add_object(json_add_object(line, "hdr"), HOSTILE);
    json_add_string(hdr, "b64", encoded);
    json_add_int(hdr, "n", 5000);
    free(encoded);
    char *run = json_print(line);
    struct buf runs = BUF_INIT;
    buf_printf(&runs, "%s\n", run);
    write_file("cycle/runs.ndjson", runs.data);
    buf_fini(&runs);
    free(run);
    json_free(line);

    struct json *trees[] = {manifest, env, summary};
    const char *names[] = {"manifest.json", "env.json", "cycle/summary.json"};
    for (int i = 0; i < 3; i++) {
        char *text = json_print_pretty(trees[i]);
        write_file(names[i], text);
        free(text);
        json_free(trees[i]);
    }
    write_file("cycle/functions.tsv",
               "# codeq-lab.functions/1\n# ops "
               "1000\nfunction\tobject\tfile\tself\tinclusive\tcalls\n" HOSTILE
               "\tlibc.so\tmalloc.c\t1000\t1000\t10\n");
    write_file("cycle/folded.txt",
               "# codeq-lab.folded/1\n# ops 1000\nmeasured_region;" HOSTILE " 1000\n");
    return 0;
}

static int drop_set(void **state)
{
    (void)state;
    return remove_tree(dir);
}

static char *print(const struct report_input *input)
{
    struct buf out = BUF_INIT;
    struct err err = {""};
    if (report_print(input, &out, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return buf_take(&out);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part)) {
        count++;
    }
    return count;
}

static void names_from_files_never_become_markup(void **state)
{
    (void)state;
    struct report_input input = {.a = {dir, HOSTILE}};
    char *page = print(&input);
    assert_int_equal(count_of(page, IMG), 0);
    assert_true(count_of(page, "&lt;img") >= 4);
    assert_int_equal(count_of(page, "</script>"), count_of(page, "<script"));
    free(page);
}

static void a_page_asks_for_nothing_from_outside(void **state)
{
    (void)state;
    struct report_input input = {.a = {dir, ""}};
    char *page = print(&input);
    assert_non_null(strstr(page, "default-src 'none'"));
    assert_int_equal(count_of(page, "<link"), 0);
    assert_int_equal(count_of(page, "<script src"), 0);
    assert_int_equal(count_of(page, "<iframe"), 0);
    assert_int_equal(count_of(page, "@import"), 0);
    assert_int_equal(count_of(page, "url("), 0);
    free(page);
}

static void figures_and_tables_stand_in_the_markup_itself(void **state)
{
    (void)state;
    struct report_input input = {.a = {dir, ""}};
    char *page = print(&input);
    assert_non_null(strstr(page, "45\xe2\x80\xaf"
                                 "063.5")); /* with its thousands apart */
    assert_non_null(strstr(page, "instructions/op"));
    assert_non_null(strstr(page, "<td>5\xe2\x80\xaf"
                                 "000</td>")); /* samples of the latency table */
    assert_non_null(strstr(page, "data-chart=\"0\""));
    free(page);
}

static void the_time_of_redis_is_told_apart_by_scripts_and_the_rest(void **state)
{
    (void)state;
    struct report_input input = {.a = {dir, ""}};
    char *page = print(&input);
    assert_non_null(strstr(page, "CPU of the client 9"));
    assert_non_null(strstr(page, "Redis in scripts 27"));
    assert_non_null(strstr(page, "Redis&#39; event loop and sockets, CPU 10"));
    free(page);
}

static void the_verdict_leads_a_comparison(void **state)
{
    (void)state;
    struct json *comparison = json_new_object();
    json_add_string(comparison, "verdict", "worse");
    json_add_string(comparison, "headline", "claim makes 1 more round trip " HOSTILE);
    struct report_input input = {.a = {dir, ""}, .b = {dir, ""}, .comparison = comparison};
    char *page = print(&input);
    char *verdict = strstr(page, "class=\"verdict worse\"");
    assert_non_null(verdict);
    assert_true(verdict < strstr(page, "<main>"));
    assert_non_null(strstr(verdict, "claim makes 1 more round trip &lt;/script"));
    assert_non_null(strstr(page, "<td>0</td>")); /* the effect */
    assert_int_equal(count_of(page, IMG), 0);
    free(page);
    json_free(comparison);
}

static void a_set_without_a_file_is_an_error_that_names_it(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/env.json", dir);
    unlink(path);
    struct report_input input = {.a = {dir, ""}};
    struct buf out = BUF_INIT;
    struct err err = {""};
    assert_true(report_print(&input, &out, &err) < 0);
    assert_non_null(strstr(err.text, "env.json"));
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_from_files_never_become_markup, make_set, drop_set),
        cmocka_unit_test_setup_teardown(a_page_asks_for_nothing_from_outside, make_set, drop_set),
        cmocka_unit_test_setup_teardown(figures_and_tables_stand_in_the_markup_itself, make_set,
                                        drop_set),
        cmocka_unit_test_setup_teardown(the_time_of_redis_is_told_apart_by_scripts_and_the_rest,
                                        make_set, drop_set),
        cmocka_unit_test_setup_teardown(the_verdict_leads_a_comparison, make_set, drop_set),
        cmocka_unit_test_setup_teardown(a_set_without_a_file_is_an_error_that_names_it, make_set,
                                        drop_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
