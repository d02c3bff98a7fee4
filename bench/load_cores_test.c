#include "load_cores.h"

#include "base/test.h"

static cpu_set_t of_this_thread(void)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    return set;
}

static void generator_has_a_core_that_the_service_has_not(void **state)
{
    (void)state;
    cpu_set_t all = of_this_thread();
    if (CPU_COUNT(&all) < 2) {
        print_message("skipped: needs two cores\n");
        skip();
    }
    enum load_placement wanted[] = {LOAD_APART, LOAD_TWO_CORES};
    for (int i = 0; i < 2; i++) {
        struct load_cores cores;
        load_cores_choose(&cores, wanted[i]);
        assert_int_equal(cores.placement, wanted[i]);
        cpu_set_t both;
        CPU_AND(&both, &cores.generator, &cores.service);
        assert_int_equal(CPU_COUNT(&both), 0);
        assert_int_equal(CPU_COUNT(&cores.generator), 1);
        assert_int_equal(CPU_COUNT(&cores.service), i == 0 ? CPU_COUNT(&all) - 1 : 1);
    }
}

static void entering_and_leaving_twice_ends_where_it_began(void **state)
{
    (void)state;
    cpu_set_t all = of_this_thread();
    for (int i = 0; i < 2; i++) {
        struct load_cores cores;
        load_cores_choose(&cores, LOAD_APART);
        load_cores_enter(&cores);
        cpu_set_t now = of_this_thread();
        assert_int_equal(CPU_COUNT(&now), 1);
        load_cores_leave(&cores);
        now = of_this_thread();
        assert_true(CPU_EQUAL(&now, &all));
    }
}

static void single_core_is_left_free(void **state)
{
    (void)state;
    cpu_set_t all = of_this_thread();
    struct load_cores cores;
    load_cores_choose(&cores, LOAD_APART);
    load_cores_enter(&cores); /* now there is one */
    struct load_cores within;
    load_cores_choose(&within, LOAD_APART);
    assert_int_equal(within.placement, LOAD_FREE);
    assert_string_equal(load_placement_name(within.placement), "free");
    load_cores_enter(&within);
    load_cores_leave(&within);
    load_cores_leave(&cores);
    cpu_set_t now = of_this_thread();
    assert_true(CPU_EQUAL(&now, &all));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generator_has_a_core_that_the_service_has_not),
        cmocka_unit_test(entering_and_leaving_twice_ends_where_it_began),
        cmocka_unit_test(single_core_is_left_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
