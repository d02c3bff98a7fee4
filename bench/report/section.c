#include "report/section.h"

#include <stdio.h>
#include <string.h>

#include "report/cost.h"
#include "report/figure.h"
#include "report/heap.h"
#include "report/html.h"
#include "report/latency.h"
#include "report/table.h"
#include "report/where.h"

static void print_metrics(struct buf *out, const char *scenario, const struct section_side *a,
                          const struct section_side *b, const struct json *comparison)
{
    static const char *const classes[] = {"counted", "timed"};
    static const char *const captions[] = {
        "Counted: exact, and what a gate reads",
        "Timed: medians over runs; judged only where runs were made in pairs"};
    for (int c = 0; c < 2; c++) {
        bool begun = false;
        for (const struct json *m = json_first(json_get(a->summary, "metrics")); m != NULL;
             m = json_next(m)) {
            if (strcmp(json_string(json_get(m, "class"), ""), classes[c]) != 0) {
                continue;
            }
            if (!begun) {
                char label[160];
                snprintf(label, sizeof label, "%s metrics of %.100s", classes[c], scenario);
                table_begin(out, label, captions[c], b != NULL, false);
                begun = true;
            }
            struct table_row row =
                table_row_of(scenario, m, b != NULL ? b->summary : NULL, comparison);
            table_print_row(out, &row, b != NULL, false);
        }
        if (begun) {
            table_end(out);
        }
    }
}

void section_print(const char *id, const struct section_side *a, const struct section_side *b,
                   const struct json *comparison, bool open, struct buf *out,
                   struct report_data *data)
{
    html_raw(out, "<section>\n<h2>");
    html_text(out, id);
    html_raw(out, "</h2>\n<details%s><summary>All metrics</summary>\n", open ? " open" : "");
    print_metrics(out, id, a, b, comparison);
    html_raw(out, "</details>\n");
    cost_print(out, a, b);
    latency_print(out, data, a, b);
    where_print(out, data, a, b);
    heap_print(out, data, a, b);
    html_raw(out, "</section>\n");
}
