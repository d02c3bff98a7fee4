/* The table of metrics: value, effect, interval as a drawn bar, verdict, and what each rests on.
 *
 * Appends to a buf; keeps nothing. Main thread only. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/json.h"

struct table_side {
    const struct json *summary;
};

enum table_verdict { TABLE_NOT_JUDGED, TABLE_SAME, TABLE_BETTER, TABLE_WORSE, TABLE_INCONCLUSIVE };

struct table_row {
    const char *scenario;
    const struct json *a; /* the metric of the summaries; b NULL: one set only */
    const struct json *b;
    const struct json *judged; /* of compare --json; NULL: not judged */
};

enum table_verdict table_row_verdict(const struct table_row *row);

/* The row of a metric, as compare judged it where it did. */
struct table_row table_row_of(const char *scenario, const struct json *a,
                              const struct json *b_summary, const struct json *comparison);

/* Heads and rows between them; with_scenario adds that column. label names the scrolling region. */
void table_begin(struct buf *out, const char *label, const char *caption, bool two,
                 bool with_scenario);
void table_print_row(struct buf *out, const struct table_row *row, bool two, bool with_scenario);
void table_end(struct buf *out);
