#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "noise_floor.h"

static char root[] = "/tmp/noise-floor-test-XXXXXX";
static char path[128];

static int make_root(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/a/b/one.ndjson", root);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    return remove_tree(root);
}

static void add(double time, double p99, size_t pairs)
{
    static const char *const ids[] = {"cycle.time_ns_per_op", "claim.latency_ns_p99"};
    const double effects[] = {time, p99};
    assert_int_equal(noise_floor_add(path, ids, effects, 2, pairs, NULL), 0);
}

static void floor_is_the_largest_effect_in_either_direction(void **state)
{
    (void)state;
    static struct noise_floor floor;
    unlink(path);
    noise_floor_read(path, &floor);
    assert_int_equal(floor.comparisons, 0);
    assert_true(noise_floor_of(&floor, "cycle.time_ns_per_op") == 0);
    add(1.01, 0.8, 16);
    add(1 / 1.04, 1.1, 16);
    noise_floor_read(path, &floor);
    assert_int_equal(floor.comparisons, 2);
    assert_float_equal(noise_floor_of(&floor, "cycle.time_ns_per_op"), 0.04, 1e-9);
    assert_float_equal(noise_floor_of(&floor, "claim.latency_ns_p99"), 0.25, 1e-9);
    assert_true(noise_floor_of(&floor, "create.latency_ns_p99") == 0);
}

static void what_rests_on_few_pairs_is_not_kept(void **state)
{
    (void)state;
    static struct noise_floor floor;
    unlink(path);
    add(1.5, 1.5, NOISE_FLOOR_PAIRS_MIN - 1);
    noise_floor_read(path, &floor);
    assert_int_equal(floor.comparisons, 0);
}

static void old_and_broken_lines_do_not_count(void **state)
{
    (void)state;
    static struct noise_floor floor;
    unlink(path);
    add(3, 1, 16); /* the oldest: out of sight after NOISE_FLOOR_LINES more */
    for (int i = 0; i < NOISE_FLOOR_LINES - 1; i++) {
        add(1.01, 1, 16);
    }
    noise_floor_read(path, &floor);
    assert_float_equal(noise_floor_of(&floor, "cycle.time_ns_per_op"), NOISE_FLOOR_MAX, 1e-9);
    add(1.02, 1, 16);
    FILE *file = fopen(path, "ae");
    assert_non_null(file);
    fputs("not json\n{\"v\":2,\"pairs\":16,\"effects\":{\"cycle.time_ns_per_op\":9}}\n"
          "{\"v\":1,\"pairs\":3,\"effects\":{\"cycle.time_ns_per_op\":9}}\n"
          "{\"v\":1,\"pairs\":16,\"effects\":{\"claim.latency_ns_p99\":\"x\"",
          file);
    fclose(file);
    noise_floor_read(path, &floor);
    assert_int_equal(floor.comparisons, NOISE_FLOOR_LINES);
    assert_float_equal(noise_floor_of(&floor, "cycle.time_ns_per_op"), 0.02, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floor_is_the_largest_effect_in_either_direction),
        cmocka_unit_test(what_rests_on_few_pairs_is_not_kept),
        cmocka_unit_test(old_and_broken_lines_do_not_count),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
