/* What the page's script draws: charts, flame graphs and source lines as one JSON object, and the
 * boxes in the page that they are drawn into. Names and source text stand once, in a list that the
 * others point into. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "profile_text.h"

struct report_data {
    struct json *charts; /* owned until report_data_json */
    struct json *flames;
    struct profile_strings strings;
    struct sources *sources; /* source text of the commits; NULL: none at hand */
};

void report_data_init(struct report_data *data);
void report_data_fini(struct report_data *data);

/* The object for the page, which the caller frees; takes what was gathered. */
struct json *report_data_json(struct report_data *data);

uint32_t report_data_string(struct report_data *data, const char *text);

/* A chart's fixed parts; its series are added to what is returned. x and y say how values are
 * written: "ns", "count", "bytes", "nines" (x = -log10(1 - q)), "run". */
struct chart_axes {
    const char *x;
    const char *x_label;
    const char *y;
    const char *y_label;
    bool log_x;
    bool log_y;
};
struct json *report_chart(struct report_data *data, const struct chart_axes *axes);

/* A series of it, side 0 (A, or the only one) or 1 (B); dashed for the second line of a side.
 * Values go into out_xs and out_ys, as many into each; figure_append takes NAN. */
void report_series(struct json *chart, const char *label, int side, bool dashed,
                   struct json **out_xs, struct json **out_ys);

/* A horizontal line: an objective. */
void report_chart_line(struct json *chart, const char *label, double value);

/* The box of the chart that was added last; `what` is its heading and its text for those who do not
 * see it. */
void report_chart_box(struct buf *out, const struct report_data *data, const char *what);
