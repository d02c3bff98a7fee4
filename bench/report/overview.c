#include "report/overview.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "load/slo.h"
#include "report/figure.h"
#include "report/html.h"
#include "report/table.h"

#define CHANGED_SHOWN 24
#define UNCHANGED_SHOWN 12 /* of one scenario alone */
#define PRIORITY_NONE 100
#define SCENARIO_BYTES_MAX (1 << 20)

/* ---- which metrics stand on the first screen ---- */

struct ranked {
    struct table_row row;
    int verdict; /* 0 first */
    int priority;
    size_t scenario;
};

static int priority_of(const struct json *metric)
{
    static const char *const names[] = {
        "instructions_per_op", "round_trips_per_op", "redis_calls_per_op", "allocs_per_op",
        "alloc_bytes_per_op",  "syscalls_per_op",    "live_bytes_per_op",  "throughput_per_sec",
        "time_ns_per_op",      "latency_ns_p50",     "latency_ns_p99",
    };
    const char *id = json_string(json_get(metric, "id"), "");
    const char *dot = strchr(id, '.');
    for (int i = 0; dot != NULL && i < (int)(sizeof names / sizeof *names); i++) {
        if (strcmp(dot + 1, names[i]) == 0) {
            return i;
        }
    }
    return PRIORITY_NONE;
}

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a;
    const struct ranked *y = b;
    if (x->verdict != y->verdict) {
        return x->verdict - y->verdict;
    }
    if (x->scenario != y->scenario) {
        return x->scenario < y->scenario ? -1 : 1;
    }
    return x->priority - y->priority;
}

static struct ranked *rank_rows(const struct overview *o, size_t *out_count)
{
    static const int order[] = {[TABLE_WORSE] = 0,
                                [TABLE_BETTER] = 1,
                                [TABLE_INCONCLUSIVE] = 2,
                                [TABLE_SAME] = 3,
                                [TABLE_NOT_JUDGED] = 3};
    size_t capacity = 1;
    for (size_t i = 0; i < o->count; i++) {
        capacity += json_count(json_get(o->scenarios[i].a.summary, "metrics"));
    }
    struct ranked *rows = calloc(capacity, sizeof *rows);
    if (rows == NULL) {
        abort();
    }
    *out_count = 0;
    for (size_t i = 0; i < o->count; i++) {
        const struct overview_scenario *s = &o->scenarios[i];
        for (const struct json *m = json_first(json_get(s->a.summary, "metrics")); m != NULL;
             m = json_next(m)) {
            struct ranked *r = &rows[(*out_count)++];
            r->row = table_row_of(s->id, m, s->b.summary, o->input->comparison);
            r->verdict = order[table_row_verdict(&r->row)];
            r->priority = priority_of(m);
            r->scenario = i;
        }
    }
    qsort(rows, *out_count, sizeof *rows, by_rank);
    return rows;
}

static void print_pair_table(struct buf *out, const struct overview *o)
{
    size_t count;
    size_t changed = 0;
    size_t left = 0;
    struct ranked *rows = rank_rows(o, &count);
    bool many = o->count > 1;
    table_begin(out, "the metrics that changed, and the most telling of the others",
                "The dot is the effect, the bar around it its interval; the grey zone is too small "
                "to count for a time",
                true, many);
    for (size_t i = 0; i < count && rows[i].verdict < 3; i++) {
        if (changed < CHANGED_SHOWN) {
            table_print_row(out, &rows[i].row, true, many);
        } else {
            left++;
        }
        changed++;
    }
    int shown = 0;
    for (size_t i = changed; i < count; i++) {
        bool telling = many ? rows[i].priority == 0 : rows[i].priority < PRIORITY_NONE;
        if (telling && shown < UNCHANGED_SHOWN) {
            table_print_row(out, &rows[i].row, true, many);
            shown++;
        } else {
            left++;
        }
    }
    table_end(out);
    if (left > 0) {
        html_raw(out, "<p class=\"dim\">%zu more metrics stand below%s.</p>\n", left,
                 many ? ", by scenario" : "");
    }
    free(rows);
}

/* One set of many scenarios: a line each. A set of `load` counts nothing: its service is judged by
 * its objectives. */
struct matrix_column {
    const char *scope; /* NULL: the scenario's operation */
    const char *name;
    const char *title;
};

static const struct matrix_column counted_columns[] = {
    {NULL, "instructions_per_op", "instructions/op"},
    {NULL, "round_trips_per_op", "round trips/op"},
    {NULL, "redis_calls_per_op", "Redis calls/op"},
    {NULL, "allocs_per_op", "allocs/op"},
    {NULL, "alloc_bytes_per_op", "B/op"},
    {NULL, "syscalls_per_op", "system calls/op"},
    {NULL, "time_ns_per_op", "time/op"},
};
static const struct matrix_column load_columns[] = {
    {"run", "throughput_per_sec", "tasks/s"},
    {"claim", "latency_ns_p50", "claim p50"},
    {"claim", "latency_ns_p99", "claim p99"},
    {NULL, "client_cpu_us_per_op", "codeqd CPU/task"},
    {NULL, "redis_cpu_us_per_op", "Redis CPU/task"},
};

static bool is_load(const struct overview *o)
{
    for (size_t i = 0; i < o->count; i++) {
        if (strcmp(section_subject(&o->scenarios[i].a), "codeqd") != 0) {
            return false;
        }
    }
    return o->count > 0;
}

/* "5 of 5 kept", or which were missed in any run. */
static void print_objectives(struct buf *out, const struct section_side *side)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/scenario.json", side->dir);
    struct json *scenario = json_parse_file(path, SCENARIO_BYTES_MAX, NULL);
    size_t kept = 0;
    size_t count = 0;
    struct buf missed = BUF_INIT;
    for (const struct json *c = json_first(json_get(scenario, "slo")); c != NULL;
         c = json_next(c)) {
        struct slo slo;
        if (slo_parse(json_string(c, ""), &slo, NULL) != 0) {
            continue;
        }
        count++;
        bool fail = false;
        for (size_t r = 0; r < side->runs.count; r++) {
            const struct json *value = json_get(json_get(side->runs.lines[r], "figures"), slo.name);
            const struct slo_figure figure = {slo.name, json_number(value, (double)NAN)};
            fail = fail || slo_check(&slo, &figure) == SLO_FAIL;
        }
        kept += !fail;
        if (fail) {
            buf_printf(&missed, "%s%s", missed.bytes > 0 ? ", " : "", slo.name);
        }
    }
    if (count == 0) {
        html_raw(out, "<td>-</td>");
    } else if (kept == count) {
        html_raw(out, "<td>%zu of %zu kept</td>", kept, count);
    } else {
        html_raw(out, "<td><span class=\"worse\">missed</span> ");
        html_text(out, missed.data != NULL ? missed.data : "");
        html_raw(out, " <span class=\"dim\">(%zu of %zu kept)</span></td>", kept, count);
    }
    buf_fini(&missed);
    json_free(scenario);
}

static void print_matrix(struct buf *out, const struct overview *o)
{
    bool load = is_load(o);
    const struct matrix_column *columns = load ? load_columns : counted_columns;
    size_t column_count = load ? sizeof load_columns / sizeof *load_columns
                               : sizeof counted_columns / sizeof *counted_columns;
    html_raw(out,
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"scenarios\">"
             "<table class=\"metrics\"><caption>Each scenario%s, with its repeats or "
             "runs in brackets; &ldquo;-&rdquo;: "
             "not measured</caption><thead><tr><th scope=\"col\" class=\"text\">scenario</th>",
             load ? " under load" : ", per operation");
    for (size_t c = 0; c < column_count; c++) {
        html_raw(out, "<th scope=\"col\">%s</th>", columns[c].title);
    }
    html_raw(out, "%s</tr></thead><tbody>\n", load ? "<th scope=\"col\">objectives</th>" : "");
    for (size_t i = 0; i < o->count; i++) {
        const struct json *summary = o->scenarios[i].a.summary;
        html_raw(out, "<tr><th scope=\"row\">");
        html_text(out, o->scenarios[i].id);
        html_raw(out, "</th>");
        for (size_t c = 0; c < column_count; c++) {
            char id[160];
            char text[FIGURE_BYTES];
            const char *operation = json_string(json_get(summary, "operation"), "cycle");
            snprintf(id, sizeof id, "%.60s.%s",
                     columns[c].scope != NULL ? columns[c].scope : operation, columns[c].name);
            const struct json *m = figure_metric(summary, id);
            size_t n = json_count(json_get(m, "values"));
            bool counted = strcmp(json_string(json_get(m, "class"), ""), "counted") == 0;
            figure_with_unit(figure_value(m), json_string(json_get(m, "unit"), ""), text);
            if (n == 0) {
                html_raw(out, "<td>%s</td>", text);
            } else {
                html_raw(out, "<td title=\"%zu %s\">%s <span class=\"dim\">(%zu)</span></td>", n,
                         counted ? "repeats" : "runs", text, n);
            }
        }
        if (load) {
            print_objectives(out, &o->scenarios[i].a);
        }
        html_raw(out, "</tr>\n");
    }
    html_raw(out, "</tbody></table></div>\n");
}

static void print_single_table(struct buf *out, const struct overview *o)
{
    size_t count;
    struct ranked *rows = rank_rows(o, &count);
    table_begin(out, "the most telling metrics",
                "What one operation costs; all metrics stand below", false, false);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].priority < PRIORITY_NONE) {
            table_print_row(out, &rows[i].row, false, false);
        }
    }
    table_end(out);
    free(rows);
}

/* ---- what, where ---- */

static void print_commit(struct buf *out, const struct json *manifest,
                         const struct report_side *side)
{
    char short_commit[24];
    snprintf(short_commit, sizeof short_commit, "%.12s",
             json_string(json_get(manifest, "commit"), "?"));
    html_raw(out, "<span class=\"code\">");
    html_text(out, short_commit);
    html_raw(out, "</span>%s",
             json_bool(json_get(manifest, "dirty"), false) ? " with uncommitted changes" : "");
    if (side->subject[0] != '\0') {
        html_raw(out, " ");
        html_text(out, side->subject);
    }
}

static const char *env_text(const struct json *env, const char *group, const char *name)
{
    return json_string(json_get(json_get(env, group), name), "?");
}

/* "quiet", or the first words of a run that was disturbed; "" without timed runs. */
static const char *disturbance(const struct section_side *side, size_t *out_runs,
                               size_t *out_disturbed)
{
    const char *first = "";
    for (size_t i = 0; i < side->runs.count; i++) {
        const char *noise = json_string(json_get(side->runs.lines[i], "noise"), NULL);
        if (noise != NULL) {
            ++*out_runs;
            if (strncmp(noise, "quiet", 5) != 0) {
                ++*out_disturbed;
                first = first[0] == '\0' ? noise : first;
            }
        }
    }
    return first;
}

static void print_disturbance(struct buf *out, const struct overview *o)
{
    size_t runs = 0;
    size_t disturbed = 0;
    const char *first = "";
    for (size_t i = 0; i < o->count; i++) {
        const char *a = disturbance(&o->scenarios[i].a, &runs, &disturbed);
        const char *b = disturbance(&o->scenarios[i].b, &runs, &disturbed);
        first = first[0] != '\0' ? first : a[0] != '\0' ? a : b;
    }
    if (runs == 0) {
        html_raw(out, "counts only, no timed run");
    } else if (disturbed == 0) {
        html_raw(out, "all %zu timed runs quiet", runs);
    } else {
        html_raw(out, "%zu of %zu timed runs disturbed: ", disturbed, runs);
        html_text(out, strncmp(first, "disturbed: ", 11) == 0 ? first + 11 : first);
    }
}

static void print_selftest_words(struct buf *out, const struct json *selftest)
{
    if (selftest == NULL) {
        html_raw(out, "the laboratory's selftest was not run here");
        return;
    }
    char day[16];
    snprintf(day, sizeof day, "%.10s", json_string(json_get(selftest, "created"), "?"));
    html_raw(out, "the laboratory's last selftest: %s, ",
             json_bool(json_get(selftest, "trusted"), false) ? "trusted" : "<b>not trusted</b>");
    html_text(out, day);
}

static void print_where(struct buf *out, const struct overview *o)
{
    const struct json *env = o->env[0];
    html_raw(out, "<dt>where</dt><dd>");
    html_text(out, env_text(env, "context", "cpu_name"));
    html_raw(out, ", ");
    html_text(out, env_text(env, "identity", "cpus"));
    html_raw(out, " cores, Linux ");
    html_text(out, env_text(env, "identity", "kernel"));
    html_raw(out, ", Redis ");
    html_text(out, env_text(env, "identity", "redis"));
    html_raw(out, ", ");
    html_text(out, env_text(env, "identity", "compiler"));
    html_raw(out, "; environment <span class=\"code\">");
    html_text(out, json_string(json_get(o->manifest[0], "env8"), "?"));
    html_raw(out, "</span>; ");
    print_disturbance(out, o);
    html_raw(out, "; ");
    print_selftest_words(out, o->selftest);
    html_raw(out, "</dd>\n");
}

static const char *verdict_style(const char *verdict)
{
    static const char *const known[] = {"worse", "better", "same"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(verdict, known[i]) == 0) {
            return known[i];
        }
    }
    return "unsure";
}

void overview_print(struct buf *out, const struct overview *o)
{
    bool two = o->manifest[1] != NULL;
    html_raw(out, "<header>\n<p class=\"eyebrow\">codeq-lab, %zu scenario%s, %s</p>\n", o->count,
             o->count == 1 ? "" : "s", two ? "two commits compared" : "one result set");
    if (two) {
        const char *verdict =
            json_string(json_get(o->input->comparison, "verdict"), "inconclusive");
        html_raw(out, "<h1 class=\"verdict %s\" id=\"verdict\">", verdict_style(verdict));
        html_text(out, json_string(json_get(o->input->comparison, "headline"), verdict));
        html_raw(out, "</h1>\n<dl class=\"what\">\n<dt><i class=\"side-a\"></i>A, before</dt><dd>");
        print_commit(out, o->manifest[0], &o->input->a);
        html_raw(out, "</dd>\n<dt><i class=\"side-b\"></i>B, after</dt><dd>");
        print_commit(out, o->manifest[1], &o->input->b);
    } else {
        html_raw(out, "<h1>");
        print_commit(out, o->manifest[0], &o->input->a);
        html_raw(out, "</h1>\n<dl class=\"what\">\n<dt>measured</dt><dd>");
        html_text(out, json_string(json_get(o->manifest[0], "created"), "?"));
    }
    html_raw(out, "</dd>\n");
    print_where(out, o);
    html_raw(out, "</dl>\n</header>\n<main>\n");
    if (two) {
        print_pair_table(out, o);
    } else if (o->count > 1) {
        print_matrix(out, o);
    } else {
        print_single_table(out, o);
    }
}

/* ---- provenance ---- */

static void print_row(struct buf *out, const char *name, const char *value)
{
    html_raw(out, "<tr><th scope=\"row\">");
    html_text(out, name);
    html_raw(out, "</th><td class=\"text site\">");
    html_text(out, value);
    html_raw(out, "</td></tr>\n");
}

static void begin_rows(struct buf *out, const char *label)
{
    html_raw(out,
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\"><table>"
             "<tbody>\n",
             label);
}

static void print_set(struct buf *out, const struct overview *o, int s)
{
    static const char *const fields[] = {"commit", "tree", "parent", "env8", "harness", "created"};
    static const char *const groups[] = {"identity", "context"};
    const struct report_side *side = s == 0 ? &o->input->a : &o->input->b;
    const char *label = o->manifest[1] == NULL ? "The set" : s == 0 ? "Set A" : "Set B";
    html_raw(out, "<details><summary>%s: commit, machine, toolchain</summary>\n", label);
    begin_rows(out, label);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        print_row(out, fields[i], json_string(json_get(o->manifest[s], fields[i]), "-"));
    }
    if (side->subject[0] != '\0') {
        print_row(out, "subject", side->subject);
    }
    if (json_bool(json_get(o->manifest[s], "dirty"), false)) {
        print_row(out, "dirty", "yes: files differed from the commit");
    }
    for (size_t g = 0; g < 2; g++) {
        const struct json *group = json_get(o->env[s], groups[g]);
        for (const struct json *c = json_first(group); c != NULL; c = json_next(c)) {
            if (json_type(c) == JSON_STRING) {
                print_row(out, json_key(c), json_string(c, ""));
            } else {
                char *text = json_print(c);
                print_row(out, json_key(c), text);
                free(text);
            }
        }
    }
    html_raw(out, "</tbody></table></div></details>\n");
}

static void print_runs(struct buf *out, const struct overview *o)
{
    html_raw(out, "<details><summary>What disturbed the runs</summary>\n");
    begin_rows(out, "disturbance");
    for (size_t i = 0; i < o->count; i++) {
        const struct section_side *sides[2] = {&o->scenarios[i].a, &o->scenarios[i].b};
        for (int s = 0; s < 2; s++) {
            int number = 0;
            for (size_t r = 0; r < sides[s]->runs.count; r++) {
                const struct json *line = sides[s]->runs.lines[r];
                const char *noise = json_string(json_get(line, "noise"), NULL);
                const char *why_void = json_string(json_get(line, "void"), NULL);
                char name[200];
                if (noise == NULL) {
                    continue;
                }
                snprintf(name, sizeof name, "%s%s, run %d%s", o->scenarios[i].id,
                         o->manifest[1] == NULL ? ""
                         : s == 0               ? ", A"
                                                : ", B",
                         ++number, why_void != NULL ? ", void" : "");
                print_row(out, name, why_void != NULL ? why_void : noise);
            }
        }
    }
    html_raw(out, "</tbody></table></div></details>\n");
}

static void print_selftest(struct buf *out, const struct json *selftest)
{
    if (selftest == NULL) {
        return;
    }
    html_raw(out, "<details><summary>The laboratory&rsquo;s last selftest</summary>\n");
    begin_rows(out, "selftest");
    print_row(out, "commit", json_string(json_get(selftest, "commit"), "?"));
    print_row(out, "when", json_string(json_get(selftest, "created"), "?"));
    print_row(out, "trusted", json_bool(json_get(selftest, "trusted"), false) ? "yes" : "no");
    for (const struct json *c = json_first(json_get(selftest, "checks")); c != NULL;
         c = json_next(c)) {
        char text[600];
        snprintf(text, sizeof text, "%s: %.500s",
                 json_bool(json_get(c, "ok"), false) ? "ok" : "failed",
                 json_string(json_get(c, "found"), ""));
        print_row(out, json_string(json_get(c, "name"), "?"), text);
    }
    html_raw(out, "</tbody></table></div></details>\n");
}

void provenance_print(struct buf *out, const struct overview *o)
{
    html_raw(out, "<section>\n<h2>Where the numbers come from</h2>\n");
    for (int s = 0; s < 2; s++) {
        if (o->manifest[s] != NULL) {
            print_set(out, o, s);
        }
    }
    print_runs(out, o);
    print_selftest(out, o->selftest);
    html_raw(out, "</section>\n");
}
