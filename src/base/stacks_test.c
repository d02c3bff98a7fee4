#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/stacks.h"

static void add_line(struct stacks *s, const char *line)
{
    struct err err = {""};
    if (stacks_parse_folded(s, line, strlen(line), &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void assert_folded(struct stacks *s, const char *expected)
{
    struct buf out = BUF_INIT;
    stacks_print_folded(s, &out);
    assert_string_equal(out.bytes == 0 ? "" : out.data, expected);
    buf_fini(&out);
}

static void equal_stacks_are_added_up_and_printed_in_order(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    const char *deep[] = {"main", "claim", "send"};
    const char *shallow[] = {"main", "claim"};
    assert_int_equal(stacks_add(s, deep, 3, 5, NULL), 0);
    assert_int_equal(stacks_add(s, shallow, 2, 1, NULL), 0);
    assert_int_equal(stacks_add(s, deep, 3, 7, NULL), 0);
    assert_int_equal(stacks_add(s, shallow, 1, 2, NULL), 0);
    assert_int_equal(stacks_count(s), 3);
    assert_int_equal(stacks_total(s), 15);
    assert_folded(s, "main 2\nmain;claim 1\nmain;claim;send 12\n");
    /* Still found after the order has changed under the index. */
    assert_int_equal(stacks_add(s, deep, 3, 1, NULL), 0);
    assert_int_equal(stacks_count(s), 3);
    assert_folded(s, "main 2\nmain;claim 1\nmain;claim;send 13\n");
    stacks_free(s);
}

static void order_is_by_frame_not_by_joined_text(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    add_line(s, "a b;x 1\na;x 2\na;b 3\na:c 4\n");
    assert_folded(s, "a;b 3\na;x 2\na b;x 1\na:c 4\n");
    stacks_free(s);
}

static void what_was_printed_parses_to_the_same(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    struct rng rng;
    rng_init(&rng, 1);
    int64_t total = 0;
    for (int i = 0; i < 20000; i++) {
        char names[8][24];
        const char *frames[8];
        size_t depth = 1 + rng_below(&rng, 8);
        for (size_t k = 0; k < depth; k++) {
            snprintf(names[k], sizeof names[k], "f %d", (int)rng_below(&rng, 6));
            frames[k] = names[k];
        }
        int64_t v = (int64_t)rng_below(&rng, 100);
        total += v;
        assert_int_equal(stacks_add(s, frames, depth, v, NULL), 0);
    }
    struct buf text = BUF_INIT;
    struct buf again = BUF_INIT;
    stacks_print_folded(s, &text);
    struct stacks *back = stacks_new();
    assert_int_equal(stacks_parse_folded(back, text.data, text.bytes, NULL), 0);
    stacks_print_folded(back, &again);
    assert_string_equal(text.data, again.data);
    assert_int_equal(stacks_total(s), total);
    assert_int_equal(stacks_total(back), total);
    assert_int_equal(stacks_names(s), 6);
    buf_fini(&text);
    buf_fini(&again);
    stacks_free(back);
    stacks_free(s);
}

static void merging_adds_values_and_keeps_both_totals(void **state)
{
    (void)state;
    struct stacks *a = stacks_new();
    struct stacks *b = stacks_new();
    add_line(a, "m;x 1\nm;y 2\n");
    add_line(b, "m;y 5\nm;z 7\n");
    assert_int_equal(stacks_merge(a, b, NULL), 0);
    assert_folded(a, "m;x 1\nm;y 7\nm;z 7\n");
    assert_int_equal(stacks_total(a), 15);
    assert_folded(b, "m;y 5\nm;z 7\n");
    stacks_free(a);
    stacks_free(b);
}

static void names_that_would_break_a_line_are_made_printable(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    const char *frames[] = {"a;b",      "new\nline\t\x7f", "",    "gr\xc3\xbc\xc3\x9f", "\xff\xc3",
                            "\xe2\x82", "\xed\xa0\x80",    "x 12"};
    assert_int_equal(stacks_add(s, frames, 8, 3, NULL), 0);
    assert_folded(s, "a,b;new?line??;[unknown];gr\xc3\xbc\xc3\x9f;??;??;???;x 12 3\n");
    stacks_free(s);
}

static void long_names_are_cut_once_and_at_a_character(void **state)
{
    (void)state;
    char longest[STACKS_FRAME_BYTES_MAX + 1];
    char longer[3 * STACKS_FRAME_BYTES_MAX];
    char once[STACKS_FRAME_BYTES_MAX + 1];
    char twice[STACKS_FRAME_BYTES_MAX + 1];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(stacks_clean_name(longest, once), STACKS_FRAME_BYTES_MAX);
    assert_string_equal(once, longest);
    for (size_t lead = 0; lead < 4; lead++) {
        size_t n = lead;
        memset(longer, 'y', lead);
        for (int i = 0; i < 500; i++, n += 4) {
            memcpy(longer + n, "\xf0\x9f\x98\x80", 4);
        }
        longer[n] = '\0';
        size_t bytes = stacks_clean_name(longer, once);
        assert_in_range(bytes, STACKS_FRAME_BYTES_MAX - 3, STACKS_FRAME_BYTES_MAX);
        assert_string_equal(once + bytes - 3, "...");
        assert_int_equal((bytes - 3 - lead) % 4, 0);
        assert_int_equal(stacks_clean_name(once, twice), bytes);
        assert_string_equal(once, twice);
    }
}

static void what_cannot_be_kept_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    struct err err = {""};
    const char *frames[STACKS_DEPTH_MAX + 1];
    for (size_t i = 0; i <= STACKS_DEPTH_MAX; i++) {
        frames[i] = "r";
    }
    assert_int_equal(stacks_add(s, frames, 0, 1, &err), -EINVAL);
    assert_int_equal(stacks_add(s, frames, STACKS_DEPTH_MAX + 1, 1, &err), -EINVAL);
    assert_int_equal(stacks_add(s, frames, 1, -1, &err), -EINVAL);
    assert_int_equal(stacks_add(s, frames, STACKS_DEPTH_MAX, 1, &err), 0);
    assert_int_equal(stacks_add(s, frames, 1, INT64_MAX, &err), -EOVERFLOW);
    assert_int_equal(stacks_add(s, frames, 1, 0, &err), 0);
    assert_int_equal(stacks_count(s), 1);
    assert_int_equal(stacks_total(s), 1);
    stacks_free(s);
}

static void broken_folded_text_is_refused_with_its_line(void **state)
{
    (void)state;
    const char *wrong[] = {"a 1\nb\n",     "a 1\nb \n",    "a 1\nb x\n",
                           "a 1\nb -3\n",  "a 1\nb 1e3\n", "a 1\nb 9223372036854775808\n",
                           "a 1\nb;c 1.5", "a 1\nb\t3\n",  "a 1\n12\n",
                           "a 1\nb +3\n",  "a 1\nb 0x10\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct stacks *s = stacks_new();
        struct err err = {""};
        assert_int_equal(stacks_parse_folded(s, wrong[i], strlen(wrong[i]), &err), -EINVAL);
        assert_non_null(strstr(err.text, "line 2"));
        stacks_free(s);
    }
    struct stacks *s = stacks_new();
    struct err err = {""};
    const char nul[] = "a\0b 1\n";
    assert_int_equal(stacks_parse_folded(s, nul, sizeof nul - 1, &err), -EINVAL);
    struct buf deep = BUF_INIT;
    for (int i = 0; i <= STACKS_DEPTH_MAX; i++) {
        buf_puts(&deep, i == 0 ? "f" : ";f");
    }
    buf_puts(&deep, " 1\n");
    assert_int_equal(stacks_parse_folded(s, deep.data, deep.bytes, &err), -EINVAL);
    buf_fini(&deep);
    assert_int_equal(stacks_parse_folded(s, "\n\na;;b 4", 8, &err), 0); /* no last newline */
    assert_folded(s, "a;[unknown];b 4\n");
    stacks_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_stacks_are_added_up_and_printed_in_order),
        cmocka_unit_test(order_is_by_frame_not_by_joined_text),
        cmocka_unit_test(what_was_printed_parses_to_the_same),
        cmocka_unit_test(merging_adds_values_and_keeps_both_totals),
        cmocka_unit_test(names_that_would_break_a_line_are_made_printable),
        cmocka_unit_test(long_names_are_cut_once_and_at_a_character),
        cmocka_unit_test(what_cannot_be_kept_is_refused_and_changes_nothing),
        cmocka_unit_test(broken_folded_text_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
