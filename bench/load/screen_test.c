#include "base/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "load/screen.h"

static void durations_are_shown_with_three_digits(void **state)
{
    (void)state;
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {{0, "0 ns"},           {999, "999 ns"},        {1000, "1.00 us"},
                 {45249, "45.2 us"},    {999600, "1.00 ms"},    {3104999, "3.10 ms"},
                 {123456789, "123 ms"}, {1250000000, "1.25 s"}, {99960000000, "100 s"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[24];
        assert_string_equal(load_format_ns(cases[i].ns, text, sizeof text), cases[i].text);
    }
}

static struct load_progress progress_at(int64_t ms)
{
    return (struct load_progress){.elapsed_ns = ms * NS_PER_MS,
                                  .duration_ns = 10 * NS_PER_SEC,
                                  .offered = 7,
                                  .claim_p99_ns = ms * NS_PER_US};
}

static void a_pipe_gets_a_line_a_second_and_no_escapes(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    struct load_screen screen;
    load_screen_init(&screen, out, false, false, "x");
    for (int64_t ms = 250; ms <= 5000; ms += 250) {
        struct load_progress p = progress_at(ms);
        load_screen_draw(&screen, &p);
    }
    load_screen_erase(&screen);
    fclose(out);
    int lines = 0;
    for (char *p = text; *p != '\0'; p++) {
        lines += *p == '\n';
    }
    assert_int_equal(lines, 5);
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "offered 7"));
    free(text);
}

static void a_terminal_is_redrawn_in_place_and_left_clean(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    struct load_screen screen;
    load_screen_init(&screen, out, true, false, "x");
    for (int64_t ms = 250; ms <= 30000; ms += 250) {
        struct load_progress p = progress_at(ms);
        load_screen_draw(&screen, &p);
    }
    load_screen_erase(&screen);
    fclose(out);
    /* As many lines are taken back as were drawn. */
    long drawn = 0;
    long erased = 0;
    for (char *p = text; *p != '\0'; p++) {
        drawn += *p == '\n';
        if (*p == '\033' && p[1] == '[' && p[2] >= '0' && p[2] <= '9') {
            erased += strtol(p + 2, NULL, 10);
        }
    }
    assert_true(drawn > 0);
    assert_int_equal(drawn, erased);
    free(text);
}

static void the_processors_time_is_shown_where_it_is_known(void **state)
{
    (void)state;
    for (int terminal = 0; terminal < 2; terminal++) {
        char *text = NULL;
        size_t bytes = 0;
        FILE *out = open_memstream(&text, &bytes);
        struct load_screen screen;
        load_screen_init(&screen, out, terminal != 0, false, "x");
        struct load_progress p = progress_at(1000);
        load_screen_draw(&screen, &p);
        fflush(out);
        assert_null(strstr(text, "of a core"));
        screen.codeqd_cpu_ratio = 0.734;
        screen.redis_cpu_ratio = 1;
        p = progress_at(2000);
        load_screen_draw(&screen, &p);
        fclose(out);
        assert_non_null(strstr(text, "codeqd 73 % of a core"));
        assert_non_null(strstr(text, "Redis 100 % of a core"));
        free(text);
    }
}

static void figures_have_one_name_each_and_no_numbers_without_samples(void **state)
{
    (void)state;
    struct load_result result = {.drain_ns = -1};
    struct hist *hists[] = {&result.endpoints[LOAD_CREATE].latency,
                            &result.endpoints[LOAD_CLAIM].latency,
                            &result.endpoints[LOAD_RESULT].latency,
                            &result.lateness,
                            &result.redelivery,
                            &result.queue_wait_all,
                            &result.queue_wait[9]};
    for (size_t i = 0; i < sizeof hists / sizeof *hists; i++) {
        assert_int_equal(hist_init(hists[i], NULL, NULL), 0);
    }
    for (int i = 0; i < 100; i++) {
        hist_record(&result.endpoints[LOAD_CLAIM].latency, 2 * NS_PER_MS);
    }
    struct slo_figure figures[LOAD_FIGURES_MAX];
    size_t count = load_figures(&result, figures, LOAD_FIGURES_MAX);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(figures[i].name, figures[j].name);
        }
    }
    struct slo slo;
    const struct slo_figure *figure;
    assert_int_equal(slo_parse("claim.p50_ms <= 2.1", &slo, NULL), 0);
    assert_int_equal(slo_find(&slo, figures, count, &figure, NULL), 0);
    assert_int_equal(slo_check(&slo, figure), SLO_PASS);
    assert_int_equal(slo_parse("claim.p999_ms <= 2.1", &slo, NULL), 0);
    assert_int_equal(slo_find(&slo, figures, count, &figure, NULL), 0);
    assert_int_equal(slo_check(&slo, figure), SLO_UNKNOWN); /* none of 100 lies beyond it */
    for (size_t i = 0; i < sizeof hists / sizeof *hists; i++) {
        hist_fini(hists[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_shown_with_three_digits),
        cmocka_unit_test(a_pipe_gets_a_line_a_second_and_no_escapes),
        cmocka_unit_test(a_terminal_is_redrawn_in_place_and_left_clean),
        cmocka_unit_test(the_processors_time_is_shown_where_it_is_known),
        cmocka_unit_test(figures_have_one_name_each_and_no_numbers_without_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
