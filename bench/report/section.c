#include "report/section.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/cost.h"
#include "report/figure.h"
#include "report/heap.h"
#include "report/html.h"
#include "report/latency.h"
#include "report/service.h"
#include "report/table.h"
#include "report/where.h"

const char *section_subject(const struct section_side *side)
{
    for (size_t i = 0; i < side->runs.count; i++) {
        if (json_get(side->runs.lines[i], "figures") != NULL) {
            return "codeqd";
        }
    }
    return "the client";
}

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

static const struct json *judged_scenario(const struct json *comparison, const char *id)
{
    for (const struct json *s = json_first(json_get(comparison, "scenarios")); s != NULL;
         s = json_next(s)) {
        if (strcmp(json_string(json_get(s, "scenario"), ""), id) == 0) {
            return s;
        }
    }
    return NULL;
}

static void print_part(struct buf *out, const struct json *part)
{
    double before = json_number(json_get(part, "a"), (double)NAN);
    double after = json_number(json_get(part, "b"), (double)NAN);
    double change = json_number(json_get(part, "difference"), (double)NAN);
    const char *note = json_string(json_get(part, "note"), "");
    char text[FIGURE_BYTES];
    html_raw(out, "<tr><th scope=\"row\" class=\"code site\">");
    html_text(out, json_string(json_get(part, "name"), "?"));
    html_raw(out, note[0] != '\0' ? " <span class=\"dim\">" : "");
    html_text(out, note);
    html_raw(out, "%s</th><td>%s</td>", note[0] != '\0' ? "</span>" : "",
             figure_text(before, text));
    html_raw(out, "<td>%s</td>", figure_text(after, text));
    html_raw(out, "<td class=\"%s\">%s%s</td></tr>\n", change > 0 ? "worse" : "better",
             change > 0 ? "+" : "", figure_text(change, text));
}

/* What compare blames, by function, allocation site, command or system call. */
static void print_causes(struct buf *out, const struct json *judged)
{
    bool begun = false;
    for (const struct json *m = json_first(json_get(judged, "metrics")); m != NULL;
         m = json_next(m)) {
        const struct json *parts = json_get(m, "parts");
        if (json_count(parts) == 0) {
            continue;
        }
        html_raw(out, begun ? "" : "<details open><summary>What grew and what shrank</summary>\n");
        begun = true;
        html_raw(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"causes\">"
                      "<table><caption>");
        html_text(out, json_string(json_get(m, "id"), ""));
        html_raw(out, ", by ");
        html_text(out, json_string(json_get(m, "part_kind"), "part"));
        html_raw(out,
                 "</caption><thead><tr><th scope=\"col\"></th><th scope=\"col\">A</th>"
                 "<th scope=\"col\">B</th><th scope=\"col\">change</th></tr></thead><tbody>\n");
        for (const struct json *p = json_first(parts); p != NULL; p = json_next(p)) {
            print_part(out, p);
        }
        char text[FIGURE_BYTES];
        html_raw(out,
                 "<tr><th scope=\"row\" class=\"dim\">%lld others</th><td></td><td></td><td>%s"
                 "</td></tr>\n</tbody></table></div>\n",
                 (long long)json_int(json_get(m, "remainder_parts"), 0),
                 figure_text(json_number(json_get(m, "remainder"), 0), text));
    }
    html_raw(out, begun ? "</details>\n" : "");
}

/* How much oftener calls of B were slower than a threshold of A's tail. */
static void print_tails(struct buf *out, const struct json *judged)
{
    const struct json *tails = json_get(judged, "tails");
    if (json_count(tails) == 0) {
        return;
    }
    html_raw(out,
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"tails\"><table>"
             "<caption>Tails, of pairs of runs: how many times as many calls of B as of A were "
             "slower than the threshold</caption><thead><tr><th scope=\"col\">call</th>"
             "<th scope=\"col\">threshold</th><th scope=\"col\">times as many</th>"
             "<th scope=\"col\">interval</th><th scope=\"col\">samples</th>"
             "<th scope=\"col\" class=\"text\">verdict</th></tr></thead><tbody>\n");
    for (const struct json *t = json_first(tails); t != NULL; t = json_next(t)) {
        char text[FIGURE_BYTES];
        html_raw(out, "<tr><th scope=\"row\">");
        html_text(out, json_string(json_get(t, "call"), "?"));
        html_raw(
            out, "</th><td>%s</td>",
            figure_with_unit(json_number(json_get(t, "threshold_ns"), (double)NAN), "ns", text));
        html_raw(out, "<td>%s</td>",
                 figure_text(json_number(json_get(t, "ratio"), (double)NAN), text));
        html_raw(out, "<td>[%s", figure_text(json_number(json_get(t, "low"), (double)NAN), text));
        html_raw(out, ", %s]</td>",
                 figure_text(json_number(json_get(t, "high"), (double)NAN), text));
        html_raw(out, "<td>%s</td><td class=\"text\">",
                 figure_text(json_number(json_get(t, "samples"), (double)NAN), text));
        html_text(out, json_string(json_get(t, "verdict"), ""));
        html_raw(out, "</td></tr>\n");
    }
    html_raw(out, "</tbody></table></div>\n");
}

void section_print(const char *id, const struct section_side *a, const struct section_side *b,
                   const struct json *comparison, bool open, struct buf *out,
                   struct report_data *data)
{
    html_raw(out, "<section>\n<h2>");
    html_text(out, id);
    html_raw(out, "</h2>\n<details%s><summary>All metrics</summary>\n", open ? " open" : "");
    const struct json *judged = judged_scenario(comparison, id);
    print_metrics(out, id, a, b, comparison);
    print_tails(out, judged);
    html_raw(out, "</details>\n");
    print_causes(out, judged);
    cost_print(out, a, b);
    service_print(out, a, b);
    latency_print(out, data, a, b);
    where_print(out, data, a, b);
    heap_print(out, data, a, b);
    html_raw(out, "</section>\n");
}
