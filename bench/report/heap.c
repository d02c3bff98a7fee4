#include "report/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profile_table.h"
#include "report/figure.h"
#include "report/html.h"

#define SITES_SHOWN 20
#define FRAMES_SHOWN 6

/* Bytes that an operation allocates first, then what stood at the peak. */
static int by_bytes(const void *a, const void *b)
{
    const struct profile_row *x = *(const struct profile_row *const *)a;
    const struct profile_row *y = *(const struct profile_row *const *)b;
    int64_t of_x = x->value[HEAP_BYTES];
    int64_t of_y = y->value[HEAP_BYTES];
    if (of_x == of_y) {
        of_x = x->value[HEAP_PEAK_BYTES];
        of_y = y->value[HEAP_PEAK_BYTES];
    }
    return (of_x < of_y) - (of_x > of_y);
}

/* The stack is stored root first; people look for the allocating call. */
static void print_site(struct buf *out, const char *stack)
{
    char *frames = strdup(stack);
    if (frames == NULL) {
        abort();
    }
    for (int depth = 0; depth < FRAMES_SHOWN; depth++) {
        char *semicolon = strrchr(frames, ';');
        html_raw(out, depth > 0 ? " &larr; " : "");
        html_text(out, semicolon != NULL ? semicolon + 1 : frames);
        if (semicolon == NULL) {
            break;
        }
        *semicolon = '\0';
    }
    free(frames);
}

static void print_sites(struct buf *out, const struct profile_table *table,
                        const struct profile_table *before)
{
    double ops = table->ops > 0 ? (double)table->ops : 1;
    const struct profile_row **rows = malloc((table->count + 1) * sizeof *rows);
    if (rows == NULL) {
        abort();
    }
    for (size_t i = 0; i < table->count; i++) {
        rows[i] = &table->rows[i];
    }
    qsort(rows, table->count, sizeof *rows, by_bytes);
    html_raw(out,
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"allocation sites\">"
             "<table><caption>Allocation sites%s: bytes and blocks an operation, what of it stays "
             "live, and what stood at the peak (not an operation's)</caption><thead><tr>"
             "<th scope=\"col\" class=\"text\">site, innermost first</th><th scope=\"col\">bytes/op"
             "</th><th scope=\"col\">blocks/op</th><th scope=\"col\">live bytes/op</th>%s"
             "<th scope=\"col\">at the peak</th></tr></thead><tbody>\n",
             before != NULL ? " of B, with the change from A" : "",
             before != NULL ? "<th scope=\"col\">change of bytes/op</th>" : "");
    for (size_t i = 0; i < table->count && i < SITES_SHOWN; i++) {
        const struct profile_row *row = rows[i];
        char text[FIGURE_BYTES];
        html_raw(out, "<tr><th scope=\"row\" class=\"code site\">");
        print_site(out, row->text[0]);
        html_raw(out, "</th><td>%s</td>", figure_text((double)row->value[HEAP_BYTES] / ops, text));
        html_raw(out, "<td>%s</td>", figure_text((double)row->value[HEAP_BLOCKS] / ops, text));
        html_raw(out, "<td>%s</td>", figure_text((double)row->value[HEAP_LIVE_BYTES] / ops, text));
        if (before != NULL) {
            const char *const key[PROFILE_TABLE_TEXTS] = {row->text[0], row->text[1], row->text[2]};
            const struct profile_row *old = profile_table_find(before, key);
            double was = old != NULL && before->ops > 0
                             ? (double)old->value[HEAP_BYTES] / (double)before->ops
                             : 0;
            double change = (double)row->value[HEAP_BYTES] / ops - was;
            html_raw(out, "<td class=\"%s\">%s%s</td>",
                     change > 0   ? "worse"
                     : change < 0 ? "better"
                                  : "dim",
                     change > 0 ? "+" : "", figure_text(change, text));
        }
        html_raw(out, "<td>%s</td></tr>\n",
                 figure_with_unit((double)row->value[HEAP_PEAK_BYTES], "B", text));
    }
    html_raw(out, "</tbody></table></div>\n");
    if (table->count > SITES_SHOWN) {
        html_raw(out, "<p class=\"dim\">%zu smaller sites are not shown.</p>\n",
                 table->count - SITES_SHOWN);
    }
    free(rows);
}

/* massif.out's snapshots: the heap by what had been allocated until then. */
static bool add_massif(struct json *chart, const struct section_side *side, int s, bool two)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/massif.out", side->dir);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    struct json *xs;
    struct json *ys;
    report_series(chart, !two ? "heap" : s == 0 ? "heap A" : "heap B", s, s == 1, &xs, &ys);
    char line[4096];
    double time = -1;
    double last = -1;
    while (fgets(line, sizeof line, file) != NULL) {
        double value;
        if (sscanf(line, "time=%lf", &value) == 1) {
            time = value;
        } else if (sscanf(line, "mem_heap_B=%lf", &value) == 1 && time > last) {
            json_append(xs, json_new_number(time));
            json_append(ys, json_new_number(value));
            last = time;
        }
    }
    fclose(file);
    return json_count(xs) > 0;
}

void heap_print(struct buf *out, struct report_data *data, const struct section_side *a,
                const struct section_side *b)
{
    struct profile_table table[2];
    bool has[2] = {profile_table_read(&table[0], PROFILE_TABLE_HEAP, a->dir, NULL) == 0,
                   b != NULL &&
                       profile_table_read(&table[1], PROFILE_TABLE_HEAP, b->dir, NULL) == 0};
    if (has[0] || has[1]) {
        html_raw(out, "<details><summary>Memory</summary>\n");
        print_sites(out, &table[has[1] ? 1 : 0], has[0] && has[1] ? &table[0] : NULL);
        static const struct chart_axes axes = {
            "bytes", "allocated and freed so far, in the whole process", "bytes", "heap", false,
            false};
        struct json *chart = report_chart(data, &axes);
        bool any = add_massif(chart, a, 0, b != NULL);
        if (b != NULL) {
            any = add_massif(chart, b, 1, true) || any;
        }
        if (any) {
            report_chart_box(out, data, "Heap over the run (massif)");
        }
        html_raw(out, "</details>\n");
    }
    for (int s = 0; s < 2; s++) {
        if (has[s]) {
            profile_table_fini(&table[s]);
        }
    }
}
