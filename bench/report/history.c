#include "report/history.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric.h"
#include "report/data.h"
#include "report/figure.h"
#include "report/frame.h"
#include "report/html.h"

#define CHANGES_SHOWN 40
#define SETS_SHOWN 200

void history_compare_page(const char *a, const char *b, const char *env8, char *out, size_t bytes)
{
    snprintf(out, bytes, "compare-%.12s-%.12s-%.8s.html", a, b, env8);
}

/* ---- changes, newest first ---- */

struct change {
    const struct json *answer;
    const struct json *series;
    const struct json *point; /* the first of the new level */
    const char *commit_before;
    double before;
    double after;
    const char *created;
};

static const struct json *nth(const struct json *array, int64_t at)
{
    const struct json *c = json_first(array);
    for (int64_t i = 0; c != NULL && i < at; i++) {
        c = json_next(c);
    }
    return c;
}

static int by_created(const void *a, const void *b)
{
    return strcmp(((const struct change *)b)->created, ((const struct change *)a)->created);
}

static size_t changes_of(const struct json *answer, const struct json *series, struct change *out)
{
    size_t count = 0;
    const struct json *points = json_get(series, "points");
    for (const struct json *c = json_first(json_get(series, "changes")); c != NULL;
         c = json_next(c)) {
        int64_t at = json_int(json_get(c, "at"), 0);
        const struct json *point = nth(points, at);
        if (out != NULL) {
            out[count] = (struct change){
                .answer = answer,
                .series = series,
                .point = point,
                .commit_before = json_string(json_get(nth(points, at - 1), "commit"), ""),
                .before = json_number(json_get(c, "before"), (double)NAN),
                .after = json_number(json_get(c, "after"), (double)NAN),
                .created = json_string(json_get(point, "created"), ""),
            };
        }
        count++;
    }
    return count;
}

static struct change *all_changes(const struct history_page *page, size_t *out_count)
{
    struct change *changes = NULL;
    for (int pass = 0; pass < 2; pass++) {
        size_t count = 0;
        for (size_t i = 0; i < page->answer_count; i++) {
            for (const struct json *s = json_first(json_get(page->answers[i], "series")); s != NULL;
                 s = json_next(s)) {
                count += changes_of(page->answers[i], s, pass == 0 ? NULL : changes + count);
            }
        }
        *out_count = count;
        if (pass == 0) {
            changes = calloc(count + 1, sizeof *changes);
            if (changes == NULL) {
                abort();
            }
        }
    }
    qsort(changes, *out_count, sizeof *changes, by_created);
    return changes;
}

static void print_title_of(struct buf *out, const char *id)
{
    const struct metric *metric = metric_find(id);
    if (metric == NULL) {
        html_text(out, id);
        return;
    }
    size_t scope = strcspn(id, ".");
    if (!metric->run_scope && (scope != 5 || memcmp(id, "cycle", 5) != 0)) {
        html_raw(out, "%.*s ", (int)scope, id); /* one of the table's own words */
    }
    html_text(out, metric->title);
}

static void print_commit(struct buf *out, const char *commit)
{
    char text[24];
    snprintf(text, sizeof text, "%.12s", commit);
    html_raw(out, "<span class=\"code\">");
    html_text(out, text);
    html_raw(out, "</span>%s", strstr(commit, "-dirty") != NULL ? "-dirty" : "");
}

static void print_compare_link(struct buf *out, const struct history_page *page,
                               const struct change *c)
{
    const char *commit = json_string(json_get(c->point, "commit"), "");
    if (page->site) {
        char file[128];
        history_compare_page(c->commit_before, commit, json_string(json_get(c->answer, "env8"), ""),
                             file, sizeof file);
        html_raw(out, "<a href=\"");
        html_text(out, file);
        html_raw(out, "\">compare</a>");
    } else {
        char command[80];
        snprintf(command, sizeof command, "report %.12s %.12s", c->commit_before, commit);
        html_raw(out, "<span class=\"code\">");
        html_text(out, command);
        html_raw(out, "</span>");
    }
}

static void print_change(struct buf *out, const struct history_page *page, const struct change *c)
{
    const char *unit = json_string(json_get(c->series, "unit"), "");
    const char *commit = json_string(json_get(c->point, "commit"), "");
    bool lower = strcmp(json_string(json_get(c->series, "better"), "lower"), "lower") == 0;
    bool better = (c->after < c->before) == lower;
    char text[FIGURE_BYTES];
    html_raw(out, "<tr><th scope=\"row\">");
    print_commit(out, commit);
    html_raw(out, "</th><td class=\"text site\">");
    html_text(out, page->subject(page->context, commit));
    html_raw(out, "</td><td class=\"text\">");
    html_text(out, json_string(json_get(c->series, "scenario"), ""));
    html_raw(out, "</td><td class=\"text\">");
    print_title_of(out, json_string(json_get(c->series, "metric"), ""));
    html_raw(out, "</td><td>%s", figure_with_unit(c->before, unit, text));
    html_raw(out, " &rarr; %s</td>", figure_with_unit(c->after, unit, text));
    html_raw(out, "<td>%s</td>", figure_change(c->before, c->after, text));
    html_raw(out, "<td class=\"text %s\">%s</td><td class=\"text\">", better ? "better" : "worse",
             better ? "better" : "worse");
    print_compare_link(out, page, c);
    html_raw(out, "</td></tr>\n");
}

static void print_changes(struct buf *out, const struct history_page *page)
{
    size_t count;
    struct change *changes = all_changes(page, &count);
    if (count == 0) {
        html_raw(out, "<p id=\"verdict\" class=\"verdict same\">No metric has changed.</p>\n");
    } else {
        html_raw(out,
                 "<h2>What changed, newest first</h2>\n<div class=\"scroll\" tabindex=\"0\" "
                 "role=\"region\" aria-label=\"changes\"><table><caption>A count that differs is a "
                 "change; a time changes where its level does (E-divisive), and is a hypothesis "
                 "that a comparison settles</caption><thead><tr><th scope=\"col\">commit</th>"
                 "<th scope=\"col\" class=\"text\">subject</th><th scope=\"col\" class=\"text\">"
                 "scenario</th><th scope=\"col\" class=\"text\">metric</th><th scope=\"col\">"
                 "before and after</th><th scope=\"col\">change</th><th scope=\"col\" "
                 "class=\"text\">direction</th><th scope=\"col\" class=\"text\">details</th></tr>"
                 "</thead><tbody>\n");
        for (size_t i = 0; i < count && i < CHANGES_SHOWN; i++) {
            print_change(out, page, &changes[i]);
        }
        html_raw(out, "</tbody></table></div>\n");
        if (count > CHANGES_SHOWN) {
            html_raw(out, "<p class=\"dim\">%zu earlier ones are marked in the charts.</p>\n",
                     count - CHANGES_SHOWN);
        }
    }
    free(changes);
}

/* ---- small multiples ---- */

static bool is_flat(const struct json *points)
{
    double first = json_number(json_get(json_first(points), "value"), (double)NAN);
    for (const struct json *c = json_first(points); c != NULL; c = json_next(c)) {
        if (json_number(json_get(c, "value"), (double)NAN) != first) {
            return false;
        }
    }
    return true;
}

static const char *writer_of(const char *unit)
{
    return strcmp(unit, "ns") == 0 ? "ns" : strcmp(unit, "B") == 0 ? "bytes" : "count";
}

static void add_series(struct buf *out, struct report_data *data, const struct history_page *page,
                       const struct json *series)
{
    const char *unit = json_string(json_get(series, "unit"), "");
    const struct json *points = json_get(series, "points");
    struct chart_axes axes = {"commit", "commit, oldest first", writer_of(unit), unit, false,
                              false};
    struct json *chart = report_chart(data, &axes);
    struct json *xs;
    struct json *ys;
    report_series(chart, "value", 0, false, &xs, &ys);
    struct json *commits = json_add_array(chart, "commits");
    double at = 0;
    for (const struct json *c = json_first(points); c != NULL; c = json_next(c)) {
        const char *commit = json_string(json_get(c, "commit"), "");
        struct json *one = json_new_array();
        json_append(one, json_new_string(commit));
        json_append(one, json_new_string(page->subject(page->context, commit)));
        json_append(commits, one);
        json_append(xs, json_new_number(at++));
        figure_append(ys, json_number(json_get(c, "value"), (double)NAN));
    }
    struct json *changes = json_add_array(chart, "changes");
    for (const struct json *c = json_first(json_get(series, "changes")); c != NULL;
         c = json_next(c)) {
        json_append(changes, json_new_number(json_number(json_get(c, "at"), 0)));
    }
    struct buf title = BUF_INIT;
    print_title_of(&title, json_string(json_get(series, "metric"), ""));
    report_chart_box(out, data, title.data);
    buf_fini(&title);
}

static void print_series_row(struct buf *out, const struct json *series)
{
    const char *unit = json_string(json_get(series, "unit"), "");
    const struct json *points = json_get(series, "points");
    double least = INFINITY;
    double most = -INFINITY;
    double last = (double)NAN;
    for (const struct json *c = json_first(points); c != NULL; c = json_next(c)) {
        last = json_number(json_get(c, "value"), (double)NAN);
        least = fmin(least, last);
        most = fmax(most, last);
    }
    char text[FIGURE_BYTES];
    html_raw(out, "<tr><th scope=\"row\">");
    print_title_of(out, json_string(json_get(series, "metric"), ""));
    html_raw(out, "</th><td>%s</td>", figure_with_unit(last, unit, text));
    html_raw(out, "<td>%s</td>", figure_with_unit(least, unit, text));
    html_raw(out, "<td>%s</td>", figure_with_unit(most, unit, text));
    html_raw(out, "<td>%zu</td><td>%zu</td></tr>\n", json_count(points),
             json_count(json_get(series, "changes")));
}

static size_t varying(const struct json *answer)
{
    size_t count = 0;
    for (const struct json *s = json_first(json_get(answer, "series")); s != NULL;
         s = json_next(s)) {
        count += !is_flat(json_get(s, "points"));
    }
    return count;
}

static void print_answer(struct buf *out, struct report_data *data, const struct history_page *page,
                         const struct json *answer, bool open)
{
    const struct json *list = json_get(answer, "series");
    if (json_count(list) == 0) {
        return;
    }
    html_raw(out, "<section>\n<h2>");
    html_text(out, json_string(json_get(json_first(list), "scenario"), "?"));
    html_raw(out, " <span class=\"dim\">environment ");
    html_text(out, json_string(json_get(answer, "env8"), "?"));
    html_raw(out, "</span></h2>\n");
    if (varying(answer) == 0) {
        html_raw(out, "<p class=\"dim\">One set, or nothing varies.</p>\n");
    } else {
        html_raw(out,
                 "<details%s><summary>Charts of what varies</summary>\n<div class=\"charts\">\n",
                 open ? " open" : "");
        for (const struct json *s = json_first(list); s != NULL; s = json_next(s)) {
            if (!is_flat(json_get(s, "points"))) {
                add_series(out, data, page, s);
            }
        }
        html_raw(out, "</div></details>\n");
    }
    html_raw(out, "<details><summary>All metrics</summary>\n<div class=\"scroll\" tabindex=\"0\" "
                  "role=\"region\" aria-label=\"all metrics\"><table><thead><tr><th scope=\"col\" "
                  "class=\"text\">metric</th><th scope=\"col\">newest</th><th scope=\"col\">least"
                  "</th><th scope=\"col\">most</th><th scope=\"col\">sets</th><th scope=\"col\">"
                  "changes</th></tr></thead><tbody>\n");
    for (const struct json *s = json_first(list); s != NULL; s = json_next(s)) {
        print_series_row(out, s);
    }
    html_raw(out, "</tbody></table></div></details>\n</section>\n");
}

/* ---- sets ---- */

static void print_sets(struct buf *out, const struct history_page *page)
{
    html_raw(out,
             "<section>\n<h2>Result sets</h2>\n<details><summary>%zu sets, newest first"
             "</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
             "aria-label=\"result sets\"><table><thead><tr><th scope=\"col\">commit</th>"
             "<th scope=\"col\" class=\"text\">subject</th><th scope=\"col\" class=\"text\">"
             "measured</th><th scope=\"col\" class=\"text\">environment</th></tr></thead>"
             "<tbody>\n",
             page->set_count);
    for (size_t i = 0; i < page->set_count && i < SETS_SHOWN; i++) {
        const struct history_page_set *set = &page->sets[i];
        html_raw(out, "<tr><th scope=\"row\">");
        if (set->page[0] != '\0') {
            html_raw(out, "<a href=\"");
            html_text(out, set->page);
            html_raw(out, "\">");
        }
        print_commit(out, set->commit);
        html_raw(out, "%s</th><td class=\"text site\">", set->page[0] != '\0' ? "</a>" : "");
        html_text(out, page->subject(page->context, set->commit));
        html_raw(out, "</td><td class=\"text\">");
        html_text(out, set->created);
        html_raw(out, "</td><td class=\"text code\">");
        html_text(out, set->env8);
        html_raw(out, "</td></tr>\n");
    }
    html_raw(out, "</tbody></table></div></details>\n</section>\n");
}

void history_print(const struct history_page *page, struct buf *out)
{
    struct report_data data;
    report_data_init(&data);
    frame_head(out, "codeq-lab: history");
    size_t changes = 0;
    for (size_t i = 0; i < page->answer_count; i++) {
        for (const struct json *s = json_first(json_get(page->answers[i], "series")); s != NULL;
             s = json_next(s)) {
            changes += changes_of(page->answers[i], s, NULL);
        }
    }
    html_raw(out,
             "<header>\n<p class=\"eyebrow\">codeq-lab, history</p>\n<h1>%zu result set%s, %zu "
             "change%s</h1>\n</header>\n<main>\n",
             page->set_count, page->set_count == 1 ? "" : "s", changes, changes == 1 ? "" : "s");
    print_changes(out, page);
    bool open = true;
    for (int pass = 0; pass < 2; pass++) { /* what varies first */
        for (size_t i = 0; i < page->answer_count; i++) {
            if ((varying(page->answers[i]) > 0) == (pass == 0)) {
                print_answer(out, &data, page, page->answers[i], open);
                open = false;
            }
        }
    }
    print_sets(out, page);
    html_raw(out, "</main>\n");
    struct json *drawn = report_data_json(&data);
    frame_foot(out, drawn);
    json_free(drawn);
    report_data_fini(&data);
}
