#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "env.h"

static void write_text(const char *root, const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* env8 of a machine described by these lines. */
static void id_of(const char *model, const char *flags, const char *mhz, const char *mem, char *out)
{
    char root[] = "/tmp/env-test-XXXXXX";
    assert_non_null(mkdtemp(root));
    char path[128], text[1024];
    snprintf(path, sizeof path, "%s/proc", root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(text, sizeof text,
             "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: %s\n"
             "model name\t: Some CPU\nstepping\t: 1\nmicrocode\t: 0x1\ncpu MHz\t\t: %s\n"
             "flags\t\t: %s\nbogomips\t: %s\n\nprocessor\t: 1\n",
             model, mhz, flags, mhz);
    write_text(root, "/proc/cpuinfo", text);
    write_text(root, "/proc/meminfo", mem);
    struct env env;
    env_collect(&env, root, NULL);
    assert_string_equal(env_get(&env, "cpus"), "2");
    assert_string_equal(env_get(&env, "cpu_model"), model);
    env_id(&env, out);
    assert_int_equal(remove_tree(root), 0);
}

static void clock_rate_and_order_of_flags_do_not_change_the_id(void **state)
{
    (void)state;
    char a[ENV_ID_BYTES], b[ENV_ID_BYTES];
    id_of("167", "fpu sse avx2", "2600.1", "MemTotal: 8150000 kB\n", a);
    id_of("167", "avx2 fpu sse", "3111.9", "MemTotal: 8140000 kB\n", b);
    assert_string_equal(a, b);
}

static void another_cpu_flag_or_memory_size_is_another_machine(void **state)
{
    (void)state;
    char a[ENV_ID_BYTES], b[ENV_ID_BYTES], c[ENV_ID_BYTES], d[ENV_ID_BYTES];
    id_of("167", "fpu sse avx2", "2600", "MemTotal: 8150000 kB\n", a);
    id_of("168", "fpu sse avx2", "2600", "MemTotal: 8150000 kB\n", b);
    id_of("167", "fpu sse", "2600", "MemTotal: 8150000 kB\n", c);
    id_of("167", "fpu sse avx2", "2600", "MemTotal: 16300000 kB\n", d);
    assert_string_not_equal(a, b);
    assert_string_not_equal(a, c);
    assert_string_not_equal(a, d);
}

static void what_was_printed_reads_back_the_same(void **state)
{
    (void)state;
    struct env env = {0}, back;
    env_set(&env, "zeta", "1");
    env_set(&env, "alpha", "two \"words\"");
    env_set(&env, "zeta", "3");
    assert_int_equal(env.identity_count, 2);
    char *text = env_print(&env);
    struct err err = {""};
    assert_int_equal(env_parse(&back, text, strlen(text), &err), 0);
    assert_string_equal(env_get(&back, "alpha"), "two \"words\"");
    assert_string_equal(env_get(&back, "zeta"), "3");
    char a[ENV_ID_BYTES], b[ENV_ID_BYTES];
    env_id(&env, a);
    env_id(&back, b);
    assert_string_equal(a, b);
    free(text);
}

static void an_edited_identity_is_noticed(void **state)
{
    (void)state;
    struct env env = {0}, back;
    env_set(&env, "cpus", "2");
    char *text = env_print(&env);
    char *at = strstr(text, "\"2\"");
    assert_non_null(at);
    at[1] = '4';
    struct err err = {""};
    assert_int_equal(env_parse(&back, text, strlen(text), &err), -EBADMSG);
    assert_non_null(strstr(err.text, "env8"));
    free(text);
    assert_int_equal(env_parse(&back, "{\"schema\":\"codeq-lab.env/2\"}", 29, &err), -EINVAL);
    assert_int_equal(env_parse(&back, "[", 1, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_rate_and_order_of_flags_do_not_change_the_id),
        cmocka_unit_test(another_cpu_flag_or_memory_size_is_another_machine),
        cmocka_unit_test(what_was_printed_reads_back_the_same),
        cmocka_unit_test(an_edited_identity_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
