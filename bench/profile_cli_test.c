#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "profile.h"
#include "profile_callgrind.h"

static const char *fixture; /* argv of the test */

struct runs {
    char dir[64];
    char first[128], second[128], out[128];
};

static char *run_in(const char *dir, const char *const *argv, const char *const *envp)
{
    struct child_options options = {
        .argv = argv, .envp = envp, .dir = dir, .cpu = -1, .no_aslr = true};
    struct err err = {""};
    char *out = NULL;
    int code =
        child_run(&options, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC, &out, NULL, &err);
    if (code != 0) {
        print_error("%s: %d %s\n", argv[0], code, err.text);
    }
    assert_int_equal(code, 0);
    return out;
}

/* Run the fixture under a tool in dir, with an environment of so many bytes more. */
static void measure(enum profile_tool tool, const char *dir, const char *ops, int padding)
{
    const char *argv[16];
    size_t count = 0;
    char pad[4096];
    for (const char *const *a = profile_argv(tool); *a != NULL; a++) {
        argv[count++] = *a;
    }
    argv[count++] = "./fixture";
    argv[count++] = ops;
    argv[count] = NULL;
    memset(pad, 'x', sizeof pad);
    memcpy(pad, "PAD=", 4);
    pad[4 + padding] = '\0';
    const char *const envp[] = {"PATH=/usr/bin:/bin", "LD_BIND_NOW=1", pad, NULL};
    free(run_in(dir, argv, envp));
}

static void make_folder(const char *path)
{
    char target[160];
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(target, sizeof target, "%s/fixture", path);
    const char *const argv[] = {"cp", fixture, target, NULL};
    free(run_in(NULL, argv, NULL));
}

static int set_up(void **state)
{
    struct runs *r = calloc(1, sizeof *r);
    assert_non_null(r);
    snprintf(r->dir, sizeof r->dir, "/tmp/codeq-profile-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->first, sizeof r->first, "%s/n", r->dir);
    snprintf(r->second, sizeof r->second, "%s/another-and-longer-folder", r->dir);
    snprintf(r->out, sizeof r->out, "%s/out", r->dir);
    make_folder(r->first);
    make_folder(r->second);
    assert_int_equal(mkdir(r->out, 0700), 0);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct runs *r = *state;
    remove_tree(r->dir);
    free(r);
    return 0;
}

static char *read_out(const char *dir, const char *name, size_t *out_bytes)
{
    char path[256];
    char *text = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(profile_read_file(path, 1 << 24, &text, out_bytes, NULL), 0);
    return text;
}

static struct profile_totals keep(enum profile_tool tool, const struct runs *r, const char *from,
                                  const char *second, int64_t ops)
{
    const char *const local[] = {r->first, r->second, NULL};
    struct profile_keep_options options = {
        .first = {from, ops}, .second = {second, 2 * ops}, .local_paths = local, .out_dir = r->out};
    struct profile_totals totals = {0};
    struct err err = {""};
    int code = profile_keep(tool, &options, &totals, &err);
    if (code != 0) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(code, 0);
    return totals;
}

static void equal_programs_leave_equal_files_from_any_folder(void **state)
{
    struct runs *r = *state;
    static const char *const files[] = {"callgrind.out", "functions.tsv", "folded.txt",
                                        "massif.out",    "dhat.json",     "heap.tsv"};
    static const enum profile_tool tool_of[] = {PROFILE_CALLGRIND, PROFILE_CALLGRIND,
                                                PROFILE_CALLGRIND, PROFILE_MASSIF,
                                                PROFILE_DHAT,      PROFILE_DHAT};
    char *kept[6];
    for (int tool = 0; tool < PROFILE_TOOL_COUNT; tool++) {
        measure((enum profile_tool)tool, r->first, "60", 0);
        measure((enum profile_tool)tool, r->second, "60", 1777);
    }
    for (int side = 0; side < 2; side++) {
        for (int tool = 0; tool < PROFILE_TOOL_COUNT; tool++) {
            keep((enum profile_tool)tool, r, side == 0 ? r->first : r->second, NULL, 60);
        }
        for (int i = 0; i < 6; i++) {
            size_t bytes;
            char *text = read_out(r->out, files[i], &bytes);
            if (side == 0) {
                kept[i] = text;
                continue;
            }
            if (strcmp(kept[i], text) != 0) {
                print_error("%s of %s differs\n", files[i], profile_tool_name(tool_of[i]));
            }
            assert_string_equal(kept[i], text);
            assert_null(strstr(text, r->dir));
            free(text);
            free(kept[i]);
        }
    }
}

static void canonical_file_has_the_raw_file_s_total_and_costs(void **state)
{
    struct runs *r = *state;
    struct callgrind raw, kept;
    struct callgrind_region a, b;
    size_t bytes;
    measure(PROFILE_CALLGRIND, r->first, "60", 0);
    struct profile_totals totals = keep(PROFILE_CALLGRIND, r, r->first, NULL, 60);
    char *text = read_out(r->first, "callgrind.raw", &bytes);
    assert_int_equal(callgrind_parse(&raw, text, bytes, NULL), 0);
    free(text);
    text = read_out(r->out, "callgrind.out", &bytes);
    assert_int_equal(callgrind_parse(&kept, text, bytes, NULL), 0);
    free(text);
    assert_int_equal(raw.total, kept.total);
    assert_int_equal(totals.instructions[0] + totals.outside_instructions[0], raw.total);
    assert_int_equal(callgrind_region(&a, &raw, PROFILE_REGION, PROFILE_CALLERS_MAX, NULL, NULL),
                     0);
    assert_int_equal(callgrind_region(&b, &kept, PROFILE_REGION, PROFILE_CALLERS_MAX, NULL, NULL),
                     0);
    /* By name: the canonical file's objects and paths are shorter. */
    for (size_t i = 0; i < a.functions.count; i++) {
        const struct profile_row *row = &a.functions.rows[i];
        int64_t x = 0, y = 0;
        for (size_t k = 0; k < a.functions.count; k++) {
            x += strcmp(a.functions.rows[k].text[0], row->text[0]) == 0
                     ? a.functions.rows[k].value[FUNCTION_SELF]
                     : 0;
        }
        for (size_t k = 0; k < b.functions.count; k++) {
            y += strcmp(b.functions.rows[k].text[0], row->text[0]) == 0
                     ? b.functions.rows[k].value[FUNCTION_SELF]
                     : 0;
        }
        assert_int_equal(x, y);
    }
    callgrind_region_fini(&a);
    callgrind_region_fini(&b);
    callgrind_fini(&raw);
    callgrind_fini(&kept);
}

static void difference_of_n_and_2n_is_the_region_alone(void **state)
{
    struct runs *r = *state;
    struct profile_table functions, heap;
    measure(PROFILE_CALLGRIND, r->first, "60", 0);
    measure(PROFILE_CALLGRIND, r->second, "120", 0);
    struct profile_totals totals = keep(PROFILE_CALLGRIND, r, r->first, r->second, 60);
    assert_int_equal(profile_table_read(&functions, PROFILE_TABLE_FUNCTIONS, r->out, NULL), 0);
    assert_int_equal(functions.ops, 60);
    assert_int_equal(profile_table_sum(&functions, FUNCTION_SELF),
                     totals.instructions[1] - totals.instructions[0]);
    const struct profile_row *row = NULL;
    for (size_t i = 0; i < functions.count; i++) {
        row = strcmp(functions.rows[i].text[0], "descend") == 0 ? &functions.rows[i] : row;
    }
    assert_non_null(row);
    assert_int_equal(row->value[FUNCTION_CALLS], 20 * (1 + 2 + 3));
    profile_table_fini(&functions);
    measure(PROFILE_DHAT, r->first, "60", 0);
    measure(PROFILE_DHAT, r->second, "120", 0);
    keep(PROFILE_DHAT, r, r->first, r->second, 60);
    assert_int_equal(profile_table_read(&heap, PROFILE_TABLE_HEAP, r->out, NULL), 0);
    assert_int_equal(profile_table_sum(&heap, HEAP_BLOCKS), 60);
    assert_int_equal(profile_table_sum(&heap, HEAP_BYTES), 60 * 64);
    assert_int_equal(profile_table_sum(&heap, HEAP_LIVE_BYTES), 0);
    profile_table_fini(&heap);
}

static void viewers_open_the_canonical_files(void **state)
{
    struct runs *r = *state;
    measure(PROFILE_CALLGRIND, r->first, "60", 0);
    measure(PROFILE_MASSIF, r->first, "60", 0);
    keep(PROFILE_CALLGRIND, r, r->first, NULL, 60);
    struct profile_totals totals = keep(PROFILE_MASSIF, r, r->first, NULL, 60);
    const char *const annotate[] = {"callgrind_annotate", "callgrind.out", NULL};
    char *text = run_in(r->out, annotate, NULL);
    assert_non_null(strstr(text, "PROGRAM TOTALS"));
    assert_non_null(strstr(text, "order"));
    free(text);
    const char *const print[] = {"ms_print", "massif.out", NULL};
    text = run_in(r->out, print, NULL);
    assert_non_null(strstr(text, "(peak)"));
    assert_true(totals.peak_bytes[0] >= 64);
    free(text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_programs_leave_equal_files_from_any_folder, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(canonical_file_has_the_raw_file_s_total_and_costs, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(difference_of_n_and_2n_is_the_region_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(viewers_open_the_canonical_files, set_up, tear_down),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: profile_cli_test PROGRAM\n");
        return 2;
    }
    fixture = realpath(argv[1], NULL);
    return fixture == NULL ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
