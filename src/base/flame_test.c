#include "base/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/flame.h"
#include "base/rng.h"

static struct stacks *parsed(const char *text)
{
    struct stacks *s = stacks_new();
    assert_int_equal(stacks_parse_folded(s, text, strlen(text), NULL), 0);
    return s;
}

static const struct flame_options plain = {"claim & <complete>", "instructions", 0};

static char *drawn(struct stacks *a, struct stacks *b, const struct flame_options *o, double ops)
{
    struct buf out = BUF_INIT;
    if (b == NULL) {
        flame_print(a, o, &out);
    } else {
        flame_print_diff(a, b, o, ops, &out);
    }
    return buf_take(&out);
}

/* Well-formed XML, as far as we write any: tags balance, attributes are quoted, no stray '<' or
 * '&', no control characters. The script stands in CDATA. */
static void assert_well_formed(const char *svg)
{
    char open[64][32];
    size_t depth = 0;
    for (const char *p = svg; *p != '\0';) {
        assert_true((unsigned char)*p >= 0x20 || *p == '\n');
        if (strncmp(p, "<![CDATA[", 9) == 0) {
            p = strstr(p, "]]>");
            assert_non_null(p);
            p += 3;
        } else if (p[0] == '<' && p[1] == '/') {
            size_t n = strcspn(p + 2, ">");
            assert_true(depth > 0);
            depth--;
            assert_int_equal(strlen(open[depth]), n);
            assert_memory_equal(open[depth], p + 2, n);
            p += 2 + n + 1;
        } else if (*p == '<') {
            size_t n = strspn(p + 1, "abcdefghijklmnopqrstuvwxyzO");
            assert_in_range(n, 1, 31);
            assert_true(depth < 64);
            snprintf(open[depth++], 32, "%.*s", (int)n, p + 1);
            p += 1 + n;
            while (*p == ' ') {
                p += 1 + strspn(p + 1, "abcdefghijklmnopqrstuvwxyzBX-");
                assert_memory_equal(p, "=\"", 2);
                p += 2;
                for (; *p != '"'; p++) {
                    assert_true(*p != '<' && *p != '\0');
                    if (*p == '&') {
                        assert_non_null(strchr("alqg#", p[1]));
                        assert_in_range(strcspn(p, ";"), 3, 5);
                    }
                }
                p++;
            }
            if (*p == '/') {
                depth--;
                p++;
            }
            assert_int_equal(*p, '>');
            p++;
        } else {
            if (*p == '&') {
                assert_true(strncmp(p, "&amp;", 5) == 0 || strncmp(p, "&lt;", 4) == 0 ||
                            strncmp(p, "&gt;", 4) == 0 || strncmp(p, "&quot;", 6) == 0 ||
                            strncmp(p, "&#39;", 5) == 0);
            }
            p++;
        }
    }
    assert_int_equal(depth, 0);
}

struct bar {
    int depth;
    double x;
    double w;
    char name[64];
    char title[256];
    char fill[16];
};

/* The bars in the file's order; returns how many. */
static size_t read_bars(const char *svg, struct bar *bars, size_t max)
{
    size_t n = 0;
    for (const char *p = svg; (p = strstr(p, "<g class=\"fg-f\"")) != NULL; p++, n++) {
        assert_true(n < max);
        struct bar *b = &bars[n];
        assert_int_equal(sscanf(p,
                                "<g class=\"fg-f\" data-d=\"%d\" data-x=\"%lf\" data-w=\"%lf\" "
                                "data-n=\"%63[^\"]\"><title>%255[^<]</title>",
                                &b->depth, &b->x, &b->w, b->name, b->title),
                         5);
        const char *rect = strstr(p, "<rect x=\"");
        double x;
        double y;
        double w;
        assert_int_equal(sscanf(rect,
                                "<rect x=\"%lf\" y=\"%lf\" width=\"%lf\" height=\"16\" rx=\"1\" "
                                "fill=\"%15[^\"]\"",
                                &x, &y, &w, b->fill),
                         4);
        assert_true(fabs(x - 10 - b->x) < 1e-9 && w == b->w);
    }
    return n;
}

static const struct bar *find(const struct bar *bars, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(bars[i].name, name) == 0) {
            return &bars[i];
        }
    }
    fail_msg("no bar %s", name);
    return NULL;
}

static void widths_are_shares_and_add_up(void **state)
{
    (void)state;
    struct stacks *s = parsed("m;a 100\nm;b;c 200\nm;b 50\nm 50\nz 400\n");
    char *svg = drawn(s, NULL, &plain, 0);
    struct bar bars[16];
    size_t n = read_bars(svg, bars, 16);
    assert_int_equal(n, 6);
    assert_string_equal(bars[0].name, "all");
    assert_true(bars[0].w == 1180 && bars[0].x == 0);
    assert_true(find(bars, n, "m")->w == 590);
    assert_true(find(bars, n, "z")->w == 590 && find(bars, n, "z")->x == 590);
    assert_true(find(bars, n, "a")->w == 147.5);
    assert_true(find(bars, n, "b")->w == 368.75);
    assert_true(find(bars, n, "c")->w == 295);
    assert_string_equal(find(bars, n, "b")->title,
                        "b: 250 instructions (31.25 %), self 50 (6.25 %)");
    assert_string_equal(find(bars, n, "all")->title,
                        "all: 800 instructions (100.00 %), self 0 (0.00 %)");
    assert_well_formed(svg);
    free(svg);
    stacks_free(s);
}

/* Random trees: no bar leaves its parent, siblings touch or leave room only for the parent's own
 * value, and the leftover equals that value. */
static void every_bar_lies_inside_its_parent_whatever_the_numbers(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 4);
    static struct bar bars[4000];
    for (int round = 0; round < 20; round++) {
        struct stacks *s = stacks_new();
        for (int i = 0; i < 60; i++) {
            char names[6][8];
            const char *frames[6];
            size_t depth = 1 + rng_below(&rng, 6);
            for (size_t k = 0; k < depth; k++) {
                snprintf(names[k], sizeof names[k], "f%d", (int)rng_below(&rng, 3));
                frames[k] = names[k];
            }
            assert_int_equal(
                stacks_add(s, frames, depth, 100 + (int64_t)rng_below(&rng, 1000), NULL), 0);
        }
        char *svg = drawn(s, NULL, &plain, 0);
        size_t n = read_bars(svg, bars, 4000);
        double per_px = (double)stacks_total(s) / 1180;
        for (size_t i = 0; i < n; i++) {
            double children = 0;
            double edge = bars[i].x;
            for (size_t k = i + 1; k < n && bars[k].depth > bars[i].depth; k++) {
                if (bars[k].depth == bars[i].depth + 1) {
                    assert_true(bars[k].x >= edge - 1e-6);
                    edge = bars[k].x + bars[k].w;
                    children += bars[k].w;
                }
            }
            assert_true(edge <= bars[i].x + bars[i].w + 1e-6);
            double self = 0;
            for (const char *c = strstr(bars[i].title, "self ") + 5; *c != ' '; c++) {
                if (*c != ',') {
                    assert_in_range(*c, '0', '9');
                    self = self * 10 + (*c - '0');
                }
            }
            assert_true(fabs((bars[i].w - children) * per_px - self) < 1); /* none is hidden */
        }
        free(svg);
        stacks_free(s);
    }
}

static void hostile_names_stay_text(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    const char *frames[] = {
        "</text><script>alert(1)</script>",
        "\" onload=\"alert(1)",
        "' x='",
        "]]>",
        "&lt;&amp;",
        "\xef\xbf\xbe\xef\xbf\xbf",
        "\x1b[31m\xff",
        "std::vector<int, std::allocator<int>>::push_back(int&&)",
    };
    assert_int_equal(stacks_add(s, frames, 8, 10, NULL), 0);
    struct flame_options options = {"</title><script>x</script>\x01\xff", "<b>", 0};
    char *svg = drawn(s, NULL, &options, 0);
    assert_well_formed(svg);
    assert_null(strstr(svg, "<script>alert"));
    assert_null(strstr(svg, "<script>x"));
    assert_null(strstr(svg, " onload=\""));
    assert_null(strstr(svg, "<b>"));
    assert_null(strstr(svg, "\xef\xbf\xbe"));
    assert_non_null(strstr(svg, "&lt;/text&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_non_null(strstr(svg, "&quot; onload=&quot;alert(1)"));
    assert_non_null(strstr(svg, "&amp;lt,&amp;amp,"));
    const char *first = strstr(svg, "<script>");
    assert_non_null(first);
    assert_null(strstr(first + 1, "<script>")); /* ours alone */
    free(svg);
    stacks_free(s);
}

static void equal_sets_give_equal_bytes(void **state)
{
    (void)state;
    struct stacks *a = parsed("m;a 1\nm;b 2\nz 3\n");
    struct stacks *b = parsed("z 1\nm;b 2\nz 2\nm;a 1\n");
    char *x = drawn(a, NULL, &plain, 0);
    char *y = drawn(b, NULL, &plain, 0);
    assert_string_equal(x, y);
    free(x);
    free(y);
    stacks_free(a);
    stacks_free(b);
}

static void a_name_has_one_colour_everywhere(void **state)
{
    (void)state;
    struct stacks *a = parsed("m;x 1\n");
    struct stacks *b = parsed("q;r;x 9\nq 1\n");
    struct bar bars[8];
    char *svg = drawn(a, NULL, &plain, 0);
    size_t n = read_bars(svg, bars, 8);
    char fill[16];
    snprintf(fill, sizeof fill, "%s", find(bars, n, "x")->fill);
    free(svg);
    svg = drawn(b, NULL, &plain, 0);
    n = read_bars(svg, bars, 8);
    assert_string_equal(fill, find(bars, n, "x")->fill);
    assert_string_not_equal(fill, find(bars, n, "r")->fill);
    free(svg);
    stacks_free(a);
    stacks_free(b);
}

static void figures_per_operation_are_divided(void **state)
{
    (void)state;
    struct stacks *s = parsed("m;a 2469000\nm 1\n");
    struct flame_options options = {"t", "instructions", 2000};
    char *svg = drawn(s, NULL, &options, 0);
    assert_non_null(
        strstr(svg, "a: 1,234.50 instructions per op (100.00 %), self 1,234.50 (100.00 %)"));
    free(svg);
    stacks_free(s);
}

static void the_difference_shows_what_grew_shrank_came_and_went(void **state)
{
    (void)state;
    /* 100 operations before, 200 after: per op the totals are 10 and 11. */
    struct stacks *before = parsed("m;grew 300\nm;gone 100\nm;same 500\nm;shrank 100\n");
    struct stacks *after = parsed("m;grew 1000\nm;new 100\nm;same 1000\nm;shrank 100\n");
    struct flame_options options = {"diff", "instructions", 100};
    char *svg = drawn(before, after, &options, 200);
    struct bar bars[16];
    size_t n = read_bars(svg, bars, 16);
    assert_int_equal(n, 7);
    assert_string_equal(find(bars, n, "grew")->title,
                        "grew: 3 \xe2\x86\x92 5 instructions per op (+20.00 % of all before), self "
                        "3 \xe2\x86\x92 5 (+20.00 %)");
    assert_string_equal(find(bars, n, "m")->title,
                        "m: 10 \xe2\x86\x92 11 instructions per op (+10.00 % of all before), self "
                        "0 \xe2\x86\x92 0 (+0.00 %)");
    assert_string_equal(find(bars, n, "same")->fill, "#e4e4e4");
    assert_string_equal(find(bars, n, "m")->fill, "#e4e4e4");
    assert_string_equal(find(bars, n, "grew")->fill, "#ff3c3c"); /* the largest change */
    assert_memory_equal(find(bars, n, "new")->fill, "#ff", 3);
    assert_string_equal(find(bars, n, "shrank")->fill + 5, "ff");
    assert_string_equal(find(bars, n, "gone")->fill + 5, "ff");
    assert_true(fabs(find(bars, n, "gone")->w - 1180.0 * 1 / 21) < 0.002);
    assert_true(fabs(find(bars, n, "new")->w - 1180.0 * 0.5 / 21) < 0.002);
    double sum = 0;
    for (size_t i = 2; i < n; i++) {
        sum += bars[i].w;
    }
    assert_true(fabs(sum - 1180) < 1e-6);
    assert_well_formed(svg);
    free(svg);
    stacks_free(before);
    stacks_free(after);
}

static void tiny_frames_are_left_out_and_counted(void **state)
{
    (void)state;
    struct stacks *s = parsed("m;big 1000000\nm;t1 1\nm;t2 1\n");
    char *svg = drawn(s, NULL, &plain, 0);
    struct bar bars[8];
    assert_int_equal(read_bars(svg, bars, 8), 3);
    assert_non_null(strstr(svg, "2 frames narrower than 0.1 px are left out"));
    free(svg);
    stacks_free(s);
}

static void labels_are_cut_to_their_bar_by_characters(void **state)
{
    (void)state;
    struct stacks *s = parsed("\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc 5\n"
                              "rest 95\n");
    char *svg = drawn(s, NULL, &plain, 0);
    /* 59 px hold 7 characters: five and two dots. */
    assert_non_null(strstr(svg, ">\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc..</text>"));
    assert_well_formed(svg);
    free(svg);
    stacks_free(s);
}

static void an_empty_set_says_so(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    struct stacks *t = stacks_new();
    char *svg = drawn(s, NULL, &plain, 0);
    assert_non_null(strstr(svg, "no samples"));
    assert_well_formed(svg);
    free(svg);
    svg = drawn(s, t, &plain, 0);
    assert_non_null(strstr(svg, "no samples"));
    free(svg);
    stacks_free(s);
    stacks_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widths_are_shares_and_add_up),
        cmocka_unit_test(every_bar_lies_inside_its_parent_whatever_the_numbers),
        cmocka_unit_test(hostile_names_stay_text),
        cmocka_unit_test(equal_sets_give_equal_bytes),
        cmocka_unit_test(a_name_has_one_colour_everywhere),
        cmocka_unit_test(figures_per_operation_are_divided),
        cmocka_unit_test(the_difference_shows_what_grew_shrank_came_and_went),
        cmocka_unit_test(tiny_frames_are_left_out_and_counted),
        cmocka_unit_test(labels_are_cut_to_their_bar_by_characters),
        cmocka_unit_test(an_empty_set_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
