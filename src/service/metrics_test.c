#include "base/test.h"

#include <malloc.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "service/metrics.h"

static const struct metrics_scrape NOTHING = {.redis_script_calls = -1, .version = "0.1.0"};

static char *text_of(struct metrics *const *threads, size_t count,
                     const struct metrics_scrape *scrape)
{
    struct buf out = BUF_INIT;
    metrics_write(threads, count, scrape, &out);
    return buf_take(&out);
}

/* The value of the line that begins with `series` and a space; NAN when there is none. */
static double value(const char *text, const char *series)
{
    size_t n = strlen(series);
    for (const char *line = text; line != NULL && *line != '\0';
         line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, series, n) == 0 && line[n] == ' ') {
            return strtod(line + n, NULL);
        }
    }
    return NAN;
}

static bool name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
}

static size_t name_length(const char *p)
{
    size_t n = 0;
    while (name_start(p[n]) || (n > 0 && p[n] >= '0' && p[n] <= '9')) {
        n++;
    }
    return n;
}

/* One sample line by the format's grammar; fails the test with the line. Returns its series. */
static void check_sample(const char *line, size_t bytes, const char *family, size_t family_bytes)
{
    char text[1024];
    assert_true(bytes < sizeof text);
    memcpy(text, line, bytes);
    text[bytes] = '\0';
    const char *p = text;
    size_t n = name_length(p);
    if (n == 0 || n < family_bytes || memcmp(p, family, family_bytes) != 0) {
        fail_msg("sample outside of its family: %s", text);
    }
    char suffix[16];
    snprintf(suffix, sizeof suffix, "%.*s", (int)(n - family_bytes), p + family_bytes);
    if (suffix[0] != '\0' && strcmp(suffix, "_bucket") != 0 && strcmp(suffix, "_sum") != 0 &&
        strcmp(suffix, "_count") != 0) {
        fail_msg("sample of another family: %s", text);
    }
    p += n;
    if (*p == '{') {
        do {
            p++;
            n = name_length(p);
            if (n == 0 || p[n] != '=' || p[n + 1] != '"') {
                fail_msg("label: %s", text);
            }
            for (p += n + 2; *p != '"'; p++) {
                if (*p == '\0' || (unsigned char)*p < 0x20) {
                    fail_msg("label value: %s", text);
                }
                if (*p == '\\') {
                    p++;
                    assert_true(*p == '\\' || *p == '"' || *p == 'n');
                }
            }
            p++;
        } while (*p == ',');
        if (*p++ != '}') {
            fail_msg("labels: %s", text);
        }
    }
    char *end = NULL;
    double v = *p == ' ' ? strtod(p + 1, &end) : NAN;
    if (end == NULL || *end != '\0' || !isfinite(v)) {
        fail_msg("value: %s", text);
    }
}

static void check_format(const char *text)
{
    char families[200][80];
    size_t count = 0;
    char family[80] = "";
    const char *seen[4000];
    size_t seen_count = 0;
    assert_true(text[0] != '\0' && text[strlen(text) - 1] == '\n');
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        size_t bytes = strcspn(line, "\n");
        if (strncmp(line, "# HELP ", 7) == 0) {
            size_t n = name_length(line + 7);
            assert_true(n > 0 && n < sizeof family && line[7 + n] == ' ');
            snprintf(family, sizeof family, "%.*s", (int)n, line + 7);
            for (size_t i = 0; i < count; i++) {
                if (strcmp(families[i], family) == 0) {
                    fail_msg("family twice: %s", family);
                }
            }
            strcpy(families[count++], family);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, family, strlen(family));
            const char *type = line + 8 + strlen(family);
            assert_true(strncmp(type, "counter\n", 8) == 0 || strncmp(type, "gauge\n", 6) == 0 ||
                        strncmp(type, "histogram\n", 10) == 0);
            if (strncmp(type, "counter\n", 8) == 0) {
                assert_string_equal(family + strlen(family) - 6, "_total");
            }
        } else {
            check_sample(line, bytes, family, strlen(family));
            size_t series = bytes;
            while (line[series - 1] != ' ') {
                series--;
            }
            for (size_t i = 0; i < seen_count; i++) {
                if (strncmp(seen[i], line, series) == 0) {
                    fail_msg("series twice: %.*s", (int)series, line);
                }
            }
            assert_true(seen_count < 4000);
            seen[seen_count++] = line;
        }
    }
    assert_true(count > 20);
}

static void a_fresh_service_writes_a_well_formed_exposition(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    char *text = text_of(&m, 1, &NOTHING);
    check_format(text);
    assert_true(value(text, "codeq_task_created_total{command=\"other\"}") == 0);
    free(text);
    metrics_free(m);
}

static void what_was_recorded_is_what_is_written(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    unsigned mail = metrics_command(m, "MAIL", 4);
    assert_int_equal(metrics_command(m, "MAIL", 4), mail);
    metrics_count_command(m, METRICS_CREATED, mail, 3);
    metrics_count_command(m, METRICS_FAILED, mail, 1);
    metrics_observe_command(m, METRICS_QUEUE_WAIT, mail, 15 * NS_PER_MS);
    metrics_observe_command(m, METRICS_QUEUE_WAIT, mail, 20 * NS_PER_MS);
    metrics_observe_command(m, METRICS_QUEUE_WAIT, mail, 20 * NS_PER_MS + 1);
    metrics_observe_command(m, METRICS_QUEUE_WAIT, mail, -5);
    metrics_observe_command(m, METRICS_QUEUE_WAIT, mail, 5000 * NS_PER_SEC);
    metrics_observe(m, METRICS_CLAIM_LATENCY, 11 * NS_PER_US);
    metrics_count(m, METRICS_RATE_HITS_WORKER, 7);
    metrics_set(m, METRICS_WAITERS, 5);
    metrics_request(m, "createTask", 202);
    metrics_request(m, "createTask", 202);
    metrics_request(m, "createTask", 418);
    metrics_request(m, NULL, 404);
    char *text = text_of(&m, 1, &NOTHING);
    check_format(text);
    assert_true(value(text, "codeq_task_created_total{command=\"MAIL\"}") == 3);
    assert_true(value(text, "codeq_task_completed_total{command=\"MAIL\",status=\"FAILED\"}") == 1);
    assert_true(value(text, "codeq_queue_wait_seconds_bucket{command=\"MAIL\",le=\"1e-05\"}") == 1);
    assert_true(value(text, "codeq_queue_wait_seconds_bucket{command=\"MAIL\",le=\"0.01\"}") == 1);
    assert_true(value(text, "codeq_queue_wait_seconds_bucket{command=\"MAIL\",le=\"0.02\"}") == 3);
    assert_true(value(text, "codeq_queue_wait_seconds_bucket{command=\"MAIL\",le=\"0.05\"}") == 4);
    assert_true(value(text, "codeq_queue_wait_seconds_bucket{command=\"MAIL\",le=\"3600\"}") == 4);
    assert_true(value(text, "codeq_queue_wait_seconds_bucket{command=\"MAIL\",le=\"+Inf\"}") == 5);
    assert_true(value(text, "codeq_queue_wait_seconds_count{command=\"MAIL\"}") == 5);
    assert_true(fabs(value(text, "codeq_queue_wait_seconds_sum{command=\"MAIL\"}") - 5000.055) <
                1e-6);
    assert_true(value(text, "codeq_claim_latency_seconds_bucket{le=\"1e-05\"}") == 0);
    assert_true(value(text, "codeq_claim_latency_seconds_bucket{le=\"2e-05\"}") == 1);
    assert_true(value(text, "codeq_rate_limit_hits_total{scope=\"worker\",operation=\"claim\"}") ==
                7);
    assert_true(value(text, "codeq_waiters") == 5);
    assert_true(value(text, "codeq_http_requests_total{operation=\"createTask\",status=\"202\"}") ==
                2);
    assert_true(
        value(text, "codeq_http_requests_total{operation=\"createTask\",status=\"other\"}") == 1);
    assert_true(value(text, "codeq_http_requests_total{operation=\"none\",status=\"404\"}") == 1);
    free(text);
    metrics_free(m);
}

static void threads_are_added_up(void **state)
{
    (void)state;
    struct metrics *m[3] = {metrics_new(), metrics_new(), metrics_new()};
    metrics_command(m[1], "FIRST", 5); /* slots differ from thread to thread */
    for (int i = 0; i < 3; i++) {
        unsigned mail = metrics_command(m[i], "MAIL", 4);
        metrics_count_command(m[i], METRICS_CLAIMED, mail, 10);
        metrics_observe_command(m[i], METRICS_LEASE_HOLD, mail, NS_PER_SEC);
        metrics_set(m[i], METRICS_CONNECTIONS, 2);
        metrics_request(m[i], "claimTask", 200);
        metrics_observe(m[i], METRICS_REDIS_ROUND_TRIP, NS_PER_MS);
    }
    char *text = text_of(m, 3, &NOTHING);
    check_format(text);
    assert_true(value(text, "codeq_task_claimed_total{command=\"MAIL\"}") == 30);
    assert_true(value(text, "codeq_lease_hold_seconds_count{command=\"MAIL\"}") == 3);
    assert_true(value(text, "codeq_lease_hold_seconds_sum{command=\"MAIL\"}") == 3);
    assert_true(value(text, "codeq_http_connections") == 6);
    assert_true(value(text, "codeq_redis_round_trip_seconds_count") == 3);
    assert_true(value(text, "codeq_http_requests_total{operation=\"claimTask\",status=\"200\"}") ==
                3);
    free(text);
    for (int i = 0; i < 3; i++) {
        metrics_free(m[i]);
    }
}

static void commands_past_the_bound_share_one_line(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    for (int i = 0; i < 5000; i++) {
        char name[16];
        int n = snprintf(name, sizeof name, "C%d", i);
        metrics_count_command(m, METRICS_CREATED, metrics_command(m, name, (size_t)n), 1);
    }
    char *text = text_of(&m, 1, &NOTHING);
    check_format(text);
    assert_true(value(text, "codeq_task_created_total{command=\"C0\"}") == 1);
    assert_true(isnan(value(text, "codeq_task_created_total{command=\"C4999\"}")));
    assert_true(value(text, "codeq_task_created_total{command=\"other\"}") ==
                5000 - (METRICS_COMMANDS_MAX - 1));
    assert_true(strlen(text) < 300000);
    free(text);
    char large[200];
    memset(large, 'x', sizeof large);
    assert_int_equal(metrics_command(m, large, sizeof large), 0);
    metrics_free(m);
}

static void hostile_command_names_stay_inside_their_label(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    static const char evil[] = "a\"} 1\nevil_total 9\n\\x\x01\x7f";
    unsigned slot = metrics_command(m, evil, sizeof evil - 1);
    metrics_count_command(m, METRICS_CREATED, slot, 4);
    metrics_observe_command(m, METRICS_QUEUE_WAIT, slot, 1);
    assert_int_equal(metrics_command(m, "a\0b", 3), 0);
    struct metrics_queue queue = {.command = evil, .ready = 2};
    struct metrics_scrape scrape = NOTHING;
    scrape.queues = &queue;
    scrape.queue_count = 1;
    char *text = text_of(&m, 1, &scrape);
    check_format(text);
    assert_null(strstr(text, "\nevil_total"));
    assert_true(
        value(text, "codeq_task_created_total{command=\"a\\\"} 1\\nevil_total 9\\n\\\\x??\"}") ==
        4);
    free(text);
    metrics_free(m);
}

static void queues_of_several_tenants_are_one_line_each_command(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    const struct metrics_queue queues[] = {
        {"MAIL", 1, 2, 3, 4, 5 * NS_PER_SEC},
        {"RENDER", 7, 0, 0, 0, 0},
        {"MAIL", 10, 20, 30, 40, 2 * NS_PER_SEC},
    };
    struct metrics_scrape scrape = NOTHING;
    scrape.queues = queues;
    scrape.queue_count = 3;
    scrape.redis_script_calls = 12;
    scrape.redis_script_seconds = 0.5;
    scrape.redis_up = 1;
    scrape.waiters_max = 77;
    char *text = text_of(&m, 1, &scrape);
    check_format(text);
    assert_true(value(text, "codeq_queue_depth{command=\"MAIL\",queue=\"ready\"}") == 11);
    assert_true(value(text, "codeq_queue_depth{command=\"MAIL\",queue=\"in_progress\"}") == 33);
    assert_true(value(text, "codeq_dlq_depth{command=\"MAIL\"}") == 44);
    assert_true(value(text, "codeq_oldest_ready_task_age_seconds{command=\"MAIL\"}") == 5);
    assert_true(value(text, "codeq_queue_depth{command=\"RENDER\",queue=\"ready\"}") == 7);
    assert_true(value(text, "codeq_redis_script_calls_total") == 12);
    assert_true(value(text, "codeq_redis_script_seconds_total") == 0.5);
    assert_true(value(text, "codeq_redis_up") == 1);
    assert_true(value(text, "codeq_waiters_limit") == 77);
    free(text);
    metrics_free(m);
}

static void recording_allocates_nothing(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < 100000; i++) {
        unsigned slot = metrics_command(m, "MAIL", 4);
        metrics_count_command(m, METRICS_CREATED, slot, 1);
        metrics_observe_command(m, METRICS_QUEUE_WAIT, slot, i);
        metrics_observe(m, METRICS_CLAIM_LATENCY, i);
        metrics_request(m, "claimTask", 204);
    }
    struct mallinfo2 after = mallinfo2();
    assert_int_equal(after.uordblks, before.uordblks);
    metrics_free(m);
}

/* Tasks of a quiet service are made in milliseconds of their own: their ids differ in the time
 * alone. */
static void leases_that_are_held_together_are_all_remembered(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct task_id_maker maker;
    enum { HELD = 500 };
    static struct task_id ids[HELD];
    task_id_maker_init(&maker, 7);
    unsigned mail = metrics_command(metrics, "MAIL", 4);
    for (int i = 0; i < HELD; i++) {
        ids[i] = task_id_next(&maker, INT64_C(1795462868155) + 3 * i, 1, 0);
        metrics_lease_begin(metrics, &ids[i], NS_PER_SEC);
    }
    for (int i = 0; i < HELD; i++) {
        metrics_lease_end(metrics, &ids[i], mail, 3 * NS_PER_SEC);
        metrics_lease_end(metrics, &ids[i], mail, 3 * NS_PER_SEC); /* it has ended */
    }
    char *text = text_of(&metrics, 1, &NOTHING);
    assert_true(value(text, "codeq_lease_hold_seconds_count{command=\"MAIL\"}") == HELD);
    free(text);
    metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_service_writes_a_well_formed_exposition),
        cmocka_unit_test(what_was_recorded_is_what_is_written),
        cmocka_unit_test(leases_that_are_held_together_are_all_remembered),
        cmocka_unit_test(threads_are_added_up),
        cmocka_unit_test(commands_past_the_bound_share_one_line),
        cmocka_unit_test(hostile_command_names_stay_inside_their_label),
        cmocka_unit_test(queues_of_several_tenants_are_one_line_each_command),
        cmocka_unit_test(recording_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
