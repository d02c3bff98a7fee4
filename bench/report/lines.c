#include "report/lines.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profile.h"
#include "profile_callgrind.h"
#include "report/source.h"

#define PROFILE_BYTES_MAX (16u << 20)
#define LINES_MAX 400 /* of one function; the rest are left out */
#define TEXT_BYTES_MAX 160
#define ROWS_MAX 6000 /* of one scenario */

/* What one line of one function costs. */
struct cost {
    uint32_t function; /* numbers in the page's strings */
    uint32_t file;
    int64_t line;
    double self;
    double calls;
    int64_t text; /* in the page's strings, -1: no source */
};

struct costs {
    struct cost *items;
    size_t count;
};

static int by_place(const void *a, const void *b)
{
    const struct cost *x = a;
    const struct cost *y = b;
    if (x->function != y->function) {
        return x->function < y->function ? -1 : 1;
    }
    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    return (x->line > y->line) - (x->line < y->line);
}

static uint32_t function_of(struct report_data *data, const struct callgrind *profile,
                            uint32_t node, struct buf *scratch)
{
    const char *name = profile->strings.texts[profile->nodes[node].name];
    buf_clear(scratch);
    profile_name_plain(scratch, name, strcspn(name, "'"));
    return report_data_string(data, scratch->data != NULL ? scratch->data : "");
}

/* Equal places added up; texts looked up. */
static void join(struct costs *costs, struct report_data *data, const char *commit)
{
    size_t kept = 0;
    qsort(costs->items, costs->count, sizeof *costs->items, by_place);
    for (size_t i = 0; i < costs->count; i++) {
        if (kept > 0 && by_place(&costs->items[kept - 1], &costs->items[i]) == 0) {
            costs->items[kept - 1].self += costs->items[i].self;
            costs->items[kept - 1].calls += costs->items[i].calls;
        } else {
            costs->items[kept++] = costs->items[i];
        }
    }
    costs->count = kept;
    for (size_t i = 0; i < kept; i++) {
        struct cost *c = &costs->items[i];
        char path[512];
        char text[TEXT_BYTES_MAX + 1];
        size_t bytes = 0;
        snprintf(path, sizeof path, "%s", data->strings.texts[c->file]);
        const char *line = sources_line(data->sources, commit, path, c->line, &bytes);
        c->text = -1;
        if (line != NULL) {
            snprintf(text, sizeof text, "%.*s", (int)bytes, line);
            c->text = report_data_string(data, text);
        }
    }
}

static void read_costs(struct costs *out, struct report_data *data, const struct section_side *side)
{
    char path[1100];
    char *text = NULL;
    size_t bytes = 0;
    struct callgrind profile = {0};
    struct buf scratch = BUF_INIT;
    *out = (struct costs){0};
    snprintf(path, sizeof path, "%s/callgrind.out", side->dir);
    if (profile_read_file(path, PROFILE_BYTES_MAX, &text, &bytes, NULL) != 0 ||
        callgrind_parse(&profile, text, bytes, NULL) != 0 || profile.ops <= 0) {
        goto out;
    }
    uint32_t *function = calloc(profile.node_count + 1, sizeof *function);
    out->items = calloc(profile.cost_count + profile.call_count + 1, sizeof *out->items);
    if (function == NULL || out->items == NULL) {
        abort();
    }
    double ops = (double)profile.ops;
    for (size_t i = 0; i < profile.node_count; i++) {
        function[i] = function_of(data, &profile, (uint32_t)i, &scratch);
    }
    for (size_t i = 0; i < profile.cost_count; i++) {
        const struct callgrind_cost *c = &profile.costs[i];
        out->items[out->count++] =
            (struct cost){function[c->node],
                          report_data_string(data, profile.strings.texts[c->file]),
                          c->line,
                          (double)c->self / ops,
                          0,
                          -1};
    }
    for (size_t i = 0; i < profile.call_count; i++) {
        const struct callgrind_call *c = &profile.calls[i];
        /* What a recursion calls is counted once, where it leaves the function. */
        if (function[c->caller] != function[c->callee]) {
            out->items[out->count++] =
                (struct cost){function[c->caller],
                              report_data_string(data, profile.strings.texts[c->file]),
                              c->line,
                              0,
                              (double)c->inclusive / ops,
                              -1};
        }
    }
    free(function);
    join(out, data, side->commit);
out:
    buf_fini(&scratch);
    callgrind_fini(&profile);
    free(text);
}

static bool equal_lines(const struct cost *a, const struct cost *b)
{
    return a->text >= 0 && b->text >= 0 ? a->text == b->text
                                        : a->text == b->text && a->line == b->line;
}

static void add_row(struct json *rows, const struct cost *a, const struct cost *b)
{
    const struct cost *any = b != NULL ? b : a;
    const double values[] = {
        any->file,
        a != NULL ? (double)a->line : -1,
        b != NULL ? (double)b->line : -1,
        (double)any->text,
        a != NULL ? round(a->self * 100) / 100 : 0,
        b != NULL ? round(b->self * 100) / 100 : 0,
        a != NULL ? round(a->calls * 100) / 100 : 0,
        b != NULL ? round(b->calls * 100) / 100 : 0,
    };
    struct json *row = json_new_array();
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        json_append(row, json_new_number(values[i]));
    }
    json_append(rows, row);
}

/* The lines of one function in one file: a longest common subsequence joins those of equal text. */
static size_t add_joined(struct json *rows, const struct cost *a, size_t na, const struct cost *b,
                         size_t nb)
{
    na = na < LINES_MAX ? na : LINES_MAX;
    nb = nb < LINES_MAX ? nb : LINES_MAX;
    uint16_t *longest = calloc((na + 1) * (nb + 1), sizeof *longest);
    if (longest == NULL) {
        abort();
    }
    for (size_t i = na; i-- > 0;) {
        for (size_t j = nb; j-- > 0;) {
            uint16_t skip_a = longest[(i + 1) * (nb + 1) + j];
            uint16_t skip_b = longest[i * (nb + 1) + j + 1];
            longest[i * (nb + 1) + j] = equal_lines(&a[i], &b[j])
                                            ? (uint16_t)(longest[(i + 1) * (nb + 1) + j + 1] + 1)
                                            : (skip_a > skip_b ? skip_a : skip_b);
        }
    }
    size_t i = 0;
    size_t j = 0;
    size_t count = 0;
    for (; i < na || j < nb; count++) {
        if (i < na && j < nb && equal_lines(&a[i], &b[j])) {
            add_row(rows, &a[i++], &b[j++]);
        } else if (j == nb ||
                   (i < na && longest[(i + 1) * (nb + 1) + j] >= longest[i * (nb + 1) + j + 1])) {
            add_row(rows, &a[i++], NULL);
        } else {
            add_row(rows, NULL, &b[j++]);
        }
    }
    free(longest);
    return count;
}

static size_t run_of(const struct costs *costs, size_t from, uint32_t function, uint32_t file)
{
    size_t n = 0;
    while (from + n < costs->count && costs->items[from + n].function == function &&
           costs->items[from + n].file == file) {
        n++;
    }
    return n;
}

struct json *lines_of(struct report_data *data, const struct section_side *a,
                      const struct section_side *b)
{
    struct json *out = json_new_object();
    struct costs of_a;
    struct costs of_b = {0};
    read_costs(&of_a, data, a);
    if (b != NULL) {
        read_costs(&of_b, data, b);
    }
    struct json *rows = NULL;
    uint32_t function = UINT32_MAX;
    size_t i = 0;
    size_t j = 0;
    for (size_t total = 0; (i < of_a.count || j < of_b.count) && total < ROWS_MAX;) {
        const struct cost *next =
            j == of_b.count ||
                    (i < of_a.count && by_place(&(struct cost){.function = of_a.items[i].function,
                                                               .file = of_a.items[i].file},
                                                &(struct cost){.function = of_b.items[j].function,
                                                               .file = of_b.items[j].file}) <= 0)
                ? &of_a.items[i]
                : &of_b.items[j];
        size_t na = run_of(&of_a, i, next->function, next->file);
        size_t nb = run_of(&of_b, j, next->function, next->file);
        if (next->function != function) {
            char key[16];
            function = next->function;
            snprintf(key, sizeof key, "%u", function);
            rows = json_add_array(out, key);
        }
        total += add_joined(rows, of_a.items + i, na, of_b.items + j, nb);
        i += na;
        j += nb;
    }
    free(of_a.items);
    free(of_b.items);
    return out;
}
