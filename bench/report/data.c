#include "report/data.h"

#include <string.h>

#include "report/html.h"

void report_data_init(struct report_data *data)
{
    *data = (struct report_data){.charts = json_new_array(), .flames = json_new_array()};
}

void report_data_fini(struct report_data *data)
{
    json_free(data->charts);
    json_free(data->flames);
    profile_strings_fini(&data->strings);
}

struct json *report_data_json(struct report_data *data)
{
    struct json *root = json_new_object();
    json_put(root, "charts", data->charts);
    json_put(root, "flames", data->flames);
    struct json *strings = json_add_array(root, "strings");
    for (uint32_t i = 0; i < data->strings.count; i++) {
        json_append(strings, json_new_string(data->strings.texts[i]));
    }
    data->charts = json_new_array();
    data->flames = json_new_array();
    return root;
}

uint32_t report_data_string(struct report_data *data, const char *text)
{
    return profile_strings_id(&data->strings, text, strlen(text));
}

struct json *report_chart(struct report_data *data, const struct chart_axes *axes)
{
    struct json *chart = json_new_object();
    json_add_string(chart, "x", axes->x);
    json_add_string(chart, "xLabel", axes->x_label);
    json_add_string(chart, "y", axes->y);
    json_add_string(chart, "yLabel", axes->y_label);
    json_add_bool(chart, "logX", axes->log_x);
    json_add_bool(chart, "logY", axes->log_y);
    json_add_array(chart, "series");
    json_add_array(chart, "lines");
    json_append(data->charts, chart);
    return chart;
}

/* json_get gives what was added as const; the chart is ours. */
static struct json *member(struct json *chart, const char *key)
{
    return (struct json *)(uintptr_t)json_get(chart, key);
}

void report_series(struct json *chart, const char *label, int side, bool dashed,
                   struct json **out_xs, struct json **out_ys)
{
    struct json *series = json_new_object();
    json_add_string(series, "label", label);
    json_add_int(series, "side", side);
    json_add_bool(series, "dashed", dashed);
    *out_xs = json_add_array(series, "xs");
    *out_ys = json_add_array(series, "ys");
    json_append(member(chart, "series"), series);
}

void report_chart_line(struct json *chart, const char *label, double value)
{
    struct json *line = json_new_object();
    json_add_string(line, "label", label);
    json_add_number(line, "value", value);
    json_append(member(chart, "lines"), line);
}

void report_chart_box(struct buf *out, const struct report_data *data, const char *what)
{
    html_raw(out, "<figure><figcaption>");
    html_text(out, what);
    html_raw(out, "</figcaption><div class=\"chart\" data-chart=\"%zu\" role=\"img\" aria-label=\"",
             json_count(data->charts) - 1);
    html_text(out, what);
    html_raw(out, ": the tables say the same\"></div></figure>\n");
}
