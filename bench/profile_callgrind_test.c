#include "base/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "profile_callgrind.h"

static const char head[] = "version: 1\ncreator: callgrind-3.19.0\npid: 77\ncmd: ./x\n"
                           "positions: line\nevents: Ir\n";

static struct callgrind parsed(const char *body, const char *top)
{
    struct buf text = BUF_INIT;
    struct callgrind profile;
    struct err err = {""};
    buf_printf(&text, "%s%s", top, body);
    int code = callgrind_parse(&profile, text.data, text.bytes, &err);
    if (code != 0) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(code, 0);
    buf_fini(&text);
    return profile;
}

static char *canonical(const char *body, const char *top, bool merge_callers)
{
    struct callgrind profile = parsed(body, top);
    struct buf out = BUF_INIT;
    callgrind_write(&out, &profile, &(struct callgrind_write_options){10, NULL, merge_callers});
    callgrind_fini(&profile);
    return buf_take(&out);
}

static int refused(const char *text, struct err *err)
{
    struct callgrind profile;
    int code = callgrind_parse(&profile, text, strlen(text), err);
    assert_int_not_equal(code, 0);
    return code;
}

/* The same profile, once with every name and position in full ... */
static const char full[] = "ob=/opt/a/prog\nfl=src/main.c\nfn=main\n10 3\n"
                           "cob=/lib/libz.so.1\ncfi=deflate.c\ncfn=deflate'main\n"
                           "calls=2 100\n11 40\n12 5\n"
                           "fi=src/inline.h\n7 9\nfe=src/main.c\n13 1\n"
                           "ob=/lib/libz.so.1\nfl=deflate.c\nfn=deflate'main\n100 30\n101 10\n"
                           "totals: 58\n";

/* ... and once in every short form the format has: ids, +n, -n, *, hex, no cob where it repeats. */
static const char compressed[] = "ob=(1) /somewhere/else/prog\nfl=(1) ./src/main.c\nfn=(1) main\n"
                                 "+10 3\ncob=(2) /usr/lib/libz.so.1\ncfi=(2) deflate.c\n"
                                 "cfn=(2) deflate'main\ncalls=2 +90\n+1 40\n+1 5\n"
                                 "fi=(3) src/x/../inline.h\n-5 4\n* 5\nfe=(1)\n0xd 1\n"
                                 "ob=(2)\nfl=(2)\nfn=(2)\n+87 10\n* 20\n+1 10\n\ntotals: 58\n";

static void every_short_form_reads_as_the_full_one(void **state)
{
    (void)state;
    char *a = canonical(full, head, false);
    char *b = canonical(compressed, head, false);
    assert_string_equal(a, b);
    assert_non_null(strstr(a, "desc: ops: 10\n"));
    assert_non_null(strstr(a, "totals: 58\n"));
    assert_null(strstr(a, "77"));
    assert_null(strstr(a, "./x"));
    assert_null(strstr(a, "/lib/"));
    free(a);
    free(b);
}

static void instruction_positions_and_other_events_are_skipped(void **state)
{
    (void)state;
    static const char top[] = "version: 1\ncreator: callgrind-3.19.0\npositions: instr line\n"
                              "events: Dr Ir Dw\n";
    static const char body[] =
        "ob=/opt/a/prog\nfl=src/main.c\nfn=main\n0x1000 10 1 3\n"
        "cob=/lib/libz.so.1\ncfi=deflate.c\ncfn=deflate'main\n"
        "calls=2 0x2000 100\n+4 +1 0 40 9\n+4 +1 7 5\n"
        "fi=src/inline.h\n+4 7 0 9\nfe=src/main.c\n+4 13 0 1\n"
        "ob=/lib/libz.so.1\nfl=deflate.c\nfn=deflate'main\n0x2000 100 0 30 2\n+8 +1 0 10 0\n"
        "jump=3 0x2000 100\n+2 *\n+2 * 4\n"
        "totals: 12 58 2\n";
    char *a = canonical(full, head, false);
    char *b = canonical(body, top, false);
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static void canonical_file_reads_back_with_equal_totals_and_costs(void **state)
{
    (void)state;
    char *once = canonical(compressed, head, false);
    struct callgrind profile;
    assert_int_equal(callgrind_parse(&profile, once, strlen(once), NULL), 0);
    assert_int_equal(profile.total, 58);
    assert_int_equal(profile.ops, 10);
    assert_string_equal(profile.creator, "callgrind-3.19.0");
    struct buf twice = BUF_INIT;
    callgrind_write(&twice, &profile, &(struct callgrind_write_options){10, NULL, false});
    assert_string_equal(once, twice.data);
    buf_fini(&twice);
    callgrind_fini(&profile);
    free(once);
}

static const struct profile_row *find(const struct callgrind_region *region, const char *name,
                                      const char *object, const char *file)
{
    return profile_table_find(&region->functions, (const char *const[]){name, object, file});
}

static void assert_row(const struct profile_row *row, int64_t self, int64_t inclusive,
                       int64_t calls)
{
    assert_non_null(row);
    assert_int_equal(row->value[FUNCTION_SELF], self);
    assert_int_equal(row->value[FUNCTION_INCLUSIVE], inclusive);
    assert_int_equal(row->value[FUNCTION_CALLS], calls);
}

/* A region that calls a clone, a recursion, stripped code that calls back, and two homonyms. */
static const char stacks[] =
    "ob=prog\nfl=m.c\nfn=main\n1 2\ncfn=region'main\ncalls=1 1\n1 500\n"
    "fn=region'main\n5 10\ncfn=work.constprop.0.isra.1'region'main\ncalls=3 1\n5 1\n"
    "cob=/l/libq.so.2\ncfi=???\ncfn=0x00000000000035b0'region'main\ncalls=4 0\n6 1\n"
    "fn=work.constprop.0.isra.1'region'main\n20 7\n"
    "cfn=work.constprop.0.isra.1'2'region'main\ncalls=2 1\n21 1\n"
    "fn=work.constprop.0.isra.1'2'region'main\n20 5\n"
    "cfn=helper'work.constprop.0.isra.1'region'main\ncalls=1 1\n22 1\n"
    "fn=helper'work.constprop.0.isra.1'region'main\n40 11\n"
    "ob=/l/libq.so.2\nfl=???\nfn=0x00000000000035b0'region'main\n0 13\n"
    "cfn=0x0000000000004000'0x00000000000035b0'region'main\ncalls=4 0\n0 1\n"
    "fn=0x0000000000004000'0x00000000000035b0'region'main\n0 17\n"
    "cfi=q.c\ncfn=helper'0x0000000000004000'0x00000000000035b0'region'main\ncalls=6 1\n0 1\n"
    "fl=q.c\nfn=helper'0x0000000000004000'0x00000000000035b0'region'main\n3 19\n"
    "cob=prog\ncfi=m.c\ncfn=leaf'helper'0x0000000000004000'0x00000000000035b0'region'main\n"
    "calls=6 1\n3 1\n"
    "ob=prog\nfl=m.c\nfn=leaf'helper'0x0000000000004000'0x00000000000035b0'region'main\n9 23\n"
    "totals: 107\n";

static void costs_of_the_region_are_exact_by_function_and_stack(void **state)
{
    (void)state;
    struct callgrind profile = parsed(stacks, head);
    struct callgrind_region region;
    struct err err = {""};
    assert_int_equal(callgrind_region(&region, &profile, "region", 20, NULL, &err), 0);
    assert_int_equal(region.inside, 105);
    assert_int_equal(region.outside, 2);
    assert_string_equal(region.outside_function, "main");
    assert_int_equal(profile_table_sum(&region.functions, FUNCTION_SELF), 105);
    assert_int_equal(profile_table_sum(&region.stacks, 0), 105);
    assert_row(find(&region, "region", "prog", "m.c"), 10, 105, 1);
    assert_row(find(&region, "work", "prog", "m.c"), 12, 23, 5);
    assert_row(find(&region, "helper", "prog", "m.c"), 11, 11, 1);
    assert_row(find(&region, "helper", "libq.so.2", "q.c"), 19, 42, 6);
    assert_row(find(&region, "libq:[stripped]", "libq.so.2", "???"), 30, 72, 8);
    assert_row(find(&region, "leaf", "prog", "m.c"), 23, 23, 6);
    assert_int_equal(region.functions.count, 6);
    struct buf text = BUF_INIT;
    profile_table_write(&text, &region.stacks);
    assert_string_equal(text.data,
                        "region 10\n"
                        "region;libq:[stripped] 13\n"
                        "region;libq:[stripped];libq:[stripped] 17\n"
                        "region;libq:[stripped];libq:[stripped];helper@libq.so.2 19\n"
                        "region;libq:[stripped];libq:[stripped];helper@libq.so.2;leaf 23\n"
                        "region;work 12\n"
                        "region;work;helper@prog 11\n");
    buf_fini(&text);
    callgrind_region_fini(&region);
    callgrind_fini(&profile);
}

static void canonical_file_names_no_address(void **state)
{
    (void)state;
    char *text = canonical(stacks, head, false);
    assert_null(strstr(text, "0x"));
    assert_non_null(strstr(text, "helper'libq:[stripped]'libq:[stripped]'region'main\n"));
    char *merged = canonical(stacks, head, true);
    assert_true(strlen(merged) < strlen(text));
    assert_null(strstr(merged, "'region"));
    struct callgrind profile;
    assert_int_equal(callgrind_parse(&profile, merged, strlen(merged), NULL), 0);
    assert_int_equal(profile.total, 107);
    callgrind_fini(&profile);
    free(merged);
    free(text);
}

static void stripped_code_at_other_addresses_is_the_same_file(void **state)
{
    (void)state;
    char *moved = strdup(stacks);
    assert_non_null(moved);
    for (char *at = moved; (at = strstr(at, "35b0")) != NULL;) {
        memcpy(at, "99aa", 4);
    }
    char *a = canonical(stacks, head, false);
    char *b = canonical(moved, head, false);
    assert_string_equal(a, b);
    free(a);
    free(b);
    free(moved);
}

static void stack_cut_before_the_region_is_refused(void **state)
{
    (void)state;
    struct callgrind profile = parsed("fn=a'b'c'd\n1 5\nfn=region\n2 5\ntotals: 10\n", head);
    struct callgrind_region region;
    struct err err = {""};
    assert_int_equal(callgrind_region(&region, &profile, "region", 4, NULL, &err), -ERANGE);
    assert_non_null(strstr(err.text, "raise the number of callers"));
    assert_int_equal(callgrind_region(&region, &profile, "region", 5, NULL, &err), 0);
    assert_int_equal(region.outside, 5);
    callgrind_region_fini(&region);
    callgrind_fini(&profile);
}

static void region_without_instructions_is_refused(void **state)
{
    (void)state;
    struct callgrind profile = parsed("fn=a'b\n1 5\ntotals: 5\n", head);
    struct callgrind_region region;
    struct err err = {""};
    assert_int_equal(callgrind_region(&region, &profile, "region", 20, NULL, &err), -ENODATA);
    callgrind_fini(&profile);
}

static void broken_files_are_refused_with_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *says;
    } cases[] = {
        {"fn=a\n1 5\ntotals: 6\n", "add up to 5"},
        {"fn=a\n1 5\n", "no totals"},
        {"1 5\ntotals: 5\n", "line 7: a cost before the first fn="},
        {"fn=(4)\n1 5\ntotals: 5\n", "line 7: an id is used before it is named"},
        {"fn=(4) a\nfn=(4) b\n1 5\ntotals: 5\n", "line 8: an id is given a second name"},
        {"fn=(99999999) a\n1 5\ntotals: 5\n", "too large"},
        {"fn=a\n1 x\ntotals: 5\n", "line 8: a cost is not a number"},
        {"fn=a\n1 99999999999999999999\ntotals: 5\n", "line 8: a cost is not a number"},
        {"fn=a\n1 5 6\ntotals: 5\n", "line 8: more costs than events"},
        {"fn=a\n+ 5\ntotals: 5\n", "line 8: a position is not a number"},
        {"fn=a\ncalls=1 1\n1 5\ntotals: 0\n", "line 8: calls= without fn= and cfn="},
        {"fn=a\ncfn=b\ncalls=x 1\n1 5\ntotals: 0\n", "line 9: calls= without a number"},
        {"fn=a\ncfn=b\ncalls=1 1\nfn=c\n1 5\ntotals: 5\n", "calls= without the cost"},
        {"fn=a\ncfn=b\ncalls=1 1\n", "behind calls="},
        {"fn=a\nxy=3\n1 5\ntotals: 5\n", "line 8: unknown key"},
        {"fn=a\ngarbage\n1 5\ntotals: 5\n", "line 8: neither"},
        {"fn=a\n1 1152921504606846976\n1 1152921504606846976\n1 1152921504606846976\n"
         "1 1152921504606846976\n1 1152921504606846976\n1 1152921504606846976\n"
         "1 1152921504606846976\n1 1152921504606846976\ntotals: 5\n",
         "out of range"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf text = BUF_INIT;
        struct err err = {""};
        buf_printf(&text, "%s%s", head, cases[i].body);
        refused(text.data, &err);
        if (strstr(err.text, cases[i].says) == NULL) {
            print_error("case %zu says: %s\n", i, err.text);
        }
        assert_non_null(strstr(err.text, cases[i].says));
        buf_fini(&text);
    }
    struct err err = {""};
    refused("", &err);
    refused("version: 2\nevents: Ir\ntotals: 0\n", &err);
    assert_non_null(strstr(err.text, "version"));
    refused("events: Dr Dw\ntotals: 0\n", &err);
    assert_non_null(strstr(err.text, "Ir"));
}

/* Found by the fuzzer: a name of blanks was written so that it read back as a use of no name. */
static void names_of_blanks_read_back(void **state)
{
    (void)state;
    char *text = canonical("ob= \nfl=(1) \x14\nfn= \n1 5\ntotals: 5\n", head, false);
    struct callgrind profile;
    struct err err = {""};
    assert_int_equal(callgrind_parse(&profile, text, strlen(text), &err), 0);
    assert_int_equal(profile.total, 5);
    callgrind_fini(&profile);
    free(text);
}

/* A file that was cut anywhere is refused, but for the newline at its end. */
static void file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    buf_printf(&text, "%s%s", head, compressed);
    for (size_t bytes = 0; bytes < text.bytes - 1; bytes++) {
        struct callgrind profile;
        char *cut = strndup(text.data, bytes);
        assert_non_null(cut);
        int code = callgrind_parse(&profile, cut, bytes, NULL);
        if (code == 0) {
            print_error("cut at %zu of %zu was taken\n", bytes, text.bytes);
        }
        assert_int_not_equal(code, 0);
        free(cut);
    }
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_short_form_reads_as_the_full_one),
        cmocka_unit_test(instruction_positions_and_other_events_are_skipped),
        cmocka_unit_test(canonical_file_reads_back_with_equal_totals_and_costs),
        cmocka_unit_test(costs_of_the_region_are_exact_by_function_and_stack),
        cmocka_unit_test(canonical_file_names_no_address),
        cmocka_unit_test(stripped_code_at_other_addresses_is_the_same_file),
        cmocka_unit_test(stack_cut_before_the_region_is_refused),
        cmocka_unit_test(region_without_instructions_is_refused),
        cmocka_unit_test(broken_files_are_refused_with_the_line),
        cmocka_unit_test(names_of_blanks_read_back),
        cmocka_unit_test(file_cut_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
