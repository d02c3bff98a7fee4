#include "report/where.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/stacks.h"
#include "profile_table.h"
#include "report/figure.h"
#include "report/html.h"
#include "report/lines.h"

#define TOP_ROWS 20
#define FOLDED_BYTES_MAX (4u << 20)
#define STACKS_SHOWN_MAX 3000 /* the smallest are left out */

/* ---- stacks as the page draws them ---- */

static struct stacks *read_callgrind(const char *dir)
{
    struct profile_table table;
    if (profile_table_read(&table, PROFILE_TABLE_FOLDED, dir, NULL) != 0) {
        return NULL;
    }
    struct stacks *stacks = stacks_new();
    struct buf folded = BUF_INIT;
    for (size_t i = 0; i < table.count; i++) {
        if (table.rows[i].value[0] > 0) {
            buf_printf(&folded, "%s %" PRId64 "\n", table.rows[i].text[0], table.rows[i].value[0]);
        }
    }
    if (folded.bytes > 0) {
        stacks_parse_folded(stacks, folded.data, folded.bytes, NULL);
    }
    buf_fini(&folded);
    profile_table_fini(&table);
    return stacks;
}

/* Folded text; lines that begin with '#' are left out. */
static struct stacks *read_folded(const char *dir, const char *name)
{
    char path[1200];
    char *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (profile_read_file(path, FOLDED_BYTES_MAX, &text, &bytes, NULL) != 0) {
        return NULL;
    }
    struct stacks *stacks = stacks_new();
    struct buf folded = BUF_INIT;
    for (const char *line = text; line < text + bytes;) {
        size_t n = strcspn(line, "\n");
        if (line[0] != '#' && n > 0) {
            buf_append(&folded, line, n);
            buf_puts(&folded, "\n");
        }
        line += n + 1;
    }
    int code =
        folded.bytes > 0 ? stacks_parse_folded(stacks, folded.data, folded.bytes, NULL) : -ENODATA;
    buf_fini(&folded);
    free(text);
    if (code != 0) {
        stacks_free(stacks);
        return NULL;
    }
    return stacks;
}

static int64_t value_floor(struct stacks *stacks)
{
    size_t count = stacks_count(stacks);
    int64_t floor_value = 0;
    for (size_t above = count; above > STACKS_SHOWN_MAX;) {
        floor_value = floor_value * 2 + 1;
        above = 0;
        for (size_t i = 0; i < count; i++) {
            above += stacks_at(stacks, i).value > floor_value;
        }
    }
    return floor_value;
}

/* [frames shared with the stack before, the others' names..., value] for each, in order. */
static struct json *stacks_json(struct report_data *data, struct stacks *stacks)
{
    struct json *list = json_new_array();
    const struct stack none = {.depth = 0};
    struct stack last = none;
    if (stacks == NULL) {
        return list;
    }
    stacks_sort(stacks);
    int64_t floor_value = value_floor(stacks);
    for (size_t i = 0; i < stacks_count(stacks); i++) {
        struct stack stack = stacks_at(stacks, i);
        if (stack.value <= floor_value) {
            continue;
        }
        size_t shared = 0;
        while (shared < stack.depth && shared < last.depth &&
               stack.frames[shared] == last.frames[shared]) {
            shared++;
        }
        struct json *one = json_new_array();
        json_append(one, json_new_number((double)shared));
        for (size_t f = shared; f < stack.depth; f++) {
            json_append(one, json_new_number(
                                 report_data_string(data, stacks_name(stacks, stack.frames[f]))));
        }
        json_append(one, json_new_number((double)stack.value));
        json_append(list, one);
        last = stack;
    }
    return list;
}

struct flame {
    const char *title;
    const char *unit;
    const char *note;
    double ops[2]; /* values are shown divided by these */
    struct stacks *stacks[2]; /* [1] NULL: one set */
    struct json *take_lines; /* NULL: none */
};

static void print_flame(struct buf *out, struct report_data *data, const struct flame *flame)
{
    struct json *one = json_new_object();
    json_add_string(one, "title", flame->title);
    json_add_string(one, "unit", flame->unit);
    json_add_bool(one, "two", flame->stacks[1] != NULL);
    json_add_number(one, "opsA", flame->ops[0]);
    json_add_number(one, "opsB", flame->ops[1]);
    json_put(one, "a", stacks_json(data, flame->stacks[0]));
    json_put(one, "b", stacks_json(data, flame->stacks[1]));
    json_put(one, "lines", flame->take_lines != NULL ? flame->take_lines : json_new_object());
    json_append(data->flames, one);
    html_raw(out, "<h3>");
    html_text(out, flame->title);
    html_raw(out, "</h3>\n<p class=\"dim\">");
    html_text(out, flame->note);
    html_raw(out,
             "</p>\n<div class=\"flame\" data-flame=\"%zu\"><noscript><p class=\"dim\">The "
             "graph is drawn by a script; the table says the same.</p></noscript></div>\n",
             json_count(data->flames) - 1);
}

/* ---- callgrind ---- */

static int by_self(const void *a, const void *b)
{
    int64_t x = (*(const struct profile_row *const *)a)->value[FUNCTION_SELF];
    int64_t y = (*(const struct profile_row *const *)b)->value[FUNCTION_SELF];
    return (x < y) - (x > y);
}

static const struct profile_row **sorted_rows(const struct profile_table *table)
{
    const struct profile_row **rows = malloc((table->count + 1) * sizeof *rows);
    if (rows == NULL) {
        abort();
    }
    for (size_t i = 0; i < table->count; i++) {
        rows[i] = &table->rows[i];
    }
    qsort(rows, table->count, sizeof *rows, by_self);
    return rows;
}

static void print_function(struct buf *out, const struct profile_row *row, double ops, double total,
                           const struct profile_table *before)
{
    double self = (double)row->value[FUNCTION_SELF] / ops;
    char text[FIGURE_BYTES];
    html_raw(out, "<tr><th scope=\"row\" class=\"code\" data-function>");
    html_text(out, row->text[FUNCTION_NAME]);
    html_raw(out, "</th><td>%s</td><td>%.1f %%</td>", figure_text(self, text),
             total > 0 ? self / total * 100 : 0);
    html_raw(out, "<td>%s</td>", figure_text((double)row->value[FUNCTION_INCLUSIVE] / ops, text));
    html_raw(out, "<td>%s</td>", figure_text((double)row->value[FUNCTION_CALLS] / ops, text));
    if (before != NULL) {
        const char *const key[] = {row->text[0], row->text[1], row->text[2]};
        const struct profile_row *old = profile_table_find(before, key);
        double was = old != NULL && before->ops > 0
                         ? (double)old->value[FUNCTION_SELF] / (double)before->ops
                         : 0;
        double change = round((self - was) * 100) / 100;
        html_raw(out, "<td class=\"%s\">%s%s</td>",
                 change > 0   ? "worse"
                 : change < 0 ? "better"
                              : "dim",
                 change > 0 ? "+" : "", figure_text(change, text));
    }
    html_raw(out, "<td class=\"text code\">");
    const char *file = row->text[FUNCTION_FILE];
    bool known = file != NULL && file[0] != '\0' && strcmp(file, "???") != 0;
    html_text(out, known ? file : row->text[FUNCTION_OBJECT]);
    html_raw(out, "</td></tr>\n");
}

/* Those of A that B no longer has, after B's costliest. */
static void print_gone(struct buf *out, const struct profile_table *after,
                       const struct profile_table *before)
{
    for (size_t i = 0; i < before->count; i++) {
        const struct profile_row *row = &before->rows[i];
        const char *const key[] = {row->text[0], row->text[1], row->text[2]};
        double self = before->ops > 0 ? (double)row->value[FUNCTION_SELF] / (double)before->ops : 0;
        if (self < 0.01 || profile_table_find(after, key) != NULL) {
            continue;
        }
        char text[FIGURE_BYTES];
        html_raw(out, "<tr><th scope=\"row\" class=\"code\" data-function>");
        html_text(out, row->text[FUNCTION_NAME]);
        html_raw(out,
                 "</th><td>gone</td><td></td><td></td><td></td>"
                 "<td class=\"better\">-%s</td><td class=\"text code\">",
                 figure_text(self, text));
        html_text(out, row->text[FUNCTION_FILE]);
        html_raw(out, "</td></tr>\n");
    }
}

/* lines: data-lines, where a click on a function shows its lines; "" where there are none. */
static void print_functions(struct buf *out, const struct profile_table *table,
                            const struct profile_table *before, const char *lines,
                            const char *subject)
{
    double ops = table->ops > 0 ? (double)table->ops : 1;
    double total = (double)profile_table_sum(table, FUNCTION_SELF) / ops;
    const struct profile_row **rows = sorted_rows(table);
    html_raw(
        out,
        "<div class=\"scroll functions\"%s tabindex=\"0\" role=\"region\" "
        "aria-label=\"functions of %s\"><table><caption>The %d costliest functions by their own "
        "instructions per operation%s</caption><thead><tr><th scope=\"col\" class=\"text\">"
        "function</th><th scope=\"col\">self</th><th scope=\"col\">share</th>"
        "<th scope=\"col\">inclusive</th><th scope=\"col\">calls</th>%s"
        "<th scope=\"col\" class=\"text\">file</th></tr></thead><tbody>\n",
        lines, subject, TOP_ROWS, before != NULL ? ", of B, with the change from A" : "",
        before != NULL ? "<th scope=\"col\">change</th>" : "");
    for (size_t i = 0; i < table->count && i < TOP_ROWS; i++) {
        print_function(out, rows[i], ops, total, before);
    }
    if (before != NULL) {
        print_gone(out, table, before);
    }
    html_raw(out, "</tbody></table></div>\n");
    free(rows);
}

struct process {
    const char *subject; /* whose instructions */
    const char *heading;
    const char *left_out; /* what is not in them */
    bool of_lab; /* its source is this repository's */
};

/* Graph and lines, where the profile has stacks; the number of its flame, or -1. */
static long print_graph(struct buf *out, struct report_data *data, const struct process *process,
                        const struct section_side *a, const struct section_side *b,
                        const struct profile_table *of_a, const struct profile_table *of_b)
{
    struct flame flame = {
        .title = b != NULL ? "Instructions, from A to B" : "Instructions",
        .unit = "instructions per operation",
        .note = b != NULL
                    ? "Callgrind's inclusive costs: a frame is as wide as the mean of A and B "
                      "spent in it and in all it called. Red has grown, blue has shrunk, by the "
                      "frame's own instructions."
                    : "Callgrind's inclusive costs: a frame is as wide as what was spent in it "
                      "and in all it called, counted and not sampled.",
    };
    flame.stacks[0] = read_callgrind(a->dir);
    flame.stacks[1] = b != NULL ? read_callgrind(b->dir) : NULL;
    flame.ops[0] = of_a->ops > 0 ? (double)of_a->ops : 1;
    flame.ops[1] = b != NULL && of_b->ops > 0 ? (double)of_b->ops : 1;
    /* Not Redis: its scripts call deep, so its sets keep no stacks, and its source is not here. */
    bool drawn = process->of_lab || flame.stacks[0] != NULL || flame.stacks[1] != NULL;
    if (drawn) {
        flame.take_lines = process->of_lab ? lines_of(data, a, b) : NULL;
        print_flame(out, data, &flame);
    }
    stacks_free(flame.stacks[0]);
    stacks_free(flame.stacks[1]);
    return drawn ? (long)json_count(data->flames) - 1 : -1;
}

static void print_callgrind(struct buf *out, struct report_data *data,
                            const struct process *process, const struct section_side *a,
                            const struct section_side *b)
{
    struct profile_table table[2];
    bool has[2] = {profile_table_read(&table[0], PROFILE_TABLE_FUNCTIONS, a->dir, NULL) == 0,
                   b != NULL &&
                       profile_table_read(&table[1], PROFILE_TABLE_FUNCTIONS, b->dir, NULL) == 0};
    bool both = has[0] && has[1];
    if (!has[0] && !has[1]) {
        return;
    }
    html_raw(out, "<details><summary>%s</summary>\n", process->heading);
    int last = has[1] ? 1 : 0;
    int first = both ? 0 : last;
    long number = print_graph(out, data, process, first == 0 ? a : b, both ? b : NULL,
                              &table[first], &table[last]);
    char lines[40] = "";
    if (number >= 0 && process->of_lab) {
        snprintf(lines, sizeof lines, " data-lines=\"%ld\"", number);
    }
    print_functions(out, &table[last], both ? &table[0] : NULL, lines, process->subject);
    html_raw(out,
             "<p class=\"dim\">User-space instructions of %s in its measured region; %s are not in "
             "them.</p></details>\n",
             process->subject, process->left_out);
    for (int s = 0; s < 2; s++) {
        if (has[s]) {
            profile_table_fini(&table[s]);
        }
    }
}

/* A set of load has codeqd's profile, and that of the Redis behind it in a folder of its own. */
static void print_processes(struct buf *out, struct report_data *data, const struct section_side *a,
                            const struct section_side *b)
{
    const char *subject = section_subject(b != NULL ? b : a);
    bool service = strcmp(subject, "codeqd") == 0;
    const struct process measured = {
        .subject = subject,
        .heading = service ? "Where the instructions of codeqd go" : "Where the instructions go",
        .left_out = "the kernel, Redis and waiting",
        .of_lab = true,
    };
    const struct process redis = {
        .subject = "redis-server",
        .heading = "Where the instructions of redis-server go",
        .left_out = "the kernel and waiting",
    };
    print_callgrind(out, data, &measured, a, b);
    struct section_side under[2] = {*a, b != NULL ? *b : *a};
    snprintf(under[0].dir, sizeof under[0].dir, "%.1000s/redis", a->dir);
    snprintf(under[1].dir, sizeof under[1].dir, "%.1000s/redis", (b != NULL ? b : a)->dir);
    print_callgrind(out, data, &redis, &under[0], b != NULL ? &under[1] : NULL);
}

/* ---- live stacks ---- */

#define LIVE_FILE_BYTES_MAX 65536

struct live_text {
    const char *file;
    const char *key; /* in live.json */
    const char *title;
    const char *unit;
    const char *note;
};

static const struct live_text live_texts[] = {
    {"oncpu.folded", "oncpu", "On the CPU", "samples",
     "Sampled while the load ran: a frame is as wide as the share of samples it was in."},
    {"offcpu.folded", "offcpu", "Off the CPU", "ns waited",
     "Waiting, by the stack that waited: a frame is as wide as the time spent asleep below it."},
};

/* How it was recorded, or why it was not, as far as the set says. */
static void live_note(struct buf *out, const struct live_text *text, const struct json *live)
{
    const struct json *said = json_get(live, text->key);
    const char *reason = json_string(json_get(said, "not_measured"), NULL);
    double hz = json_number(json_get(said, "frequency_hz"), 0);
    if (reason != NULL) {
        buf_printf(out, "Not measured: %.300s", reason);
        return;
    }
    buf_puts(out, text->note);
    if (said != NULL) {
        buf_printf(out, " %.1f s", json_number(json_get(said, "seconds"), 0));
        if (hz > 0) {
            buf_printf(out, " at %.0f Hz and core", hz);
        }
        buf_puts(out, ", in a run of its own whose times are not among the figures.");
    }
}

static void print_live(struct buf *out, struct report_data *data, const struct section_side *a,
                       const struct section_side *b)
{
    char path[1200];
    bool begun = false;
    for (size_t k = 0; k < sizeof live_texts / sizeof *live_texts; k++) {
        const struct live_text *text = &live_texts[k];
        struct stacks *of_a = read_folded(a->dir, text->file);
        struct stacks *of_b = b != NULL ? read_folded(b->dir, text->file) : NULL;
        struct stacks *first = of_a != NULL ? of_a : of_b;
        const struct section_side *shown = of_a == NULL && b != NULL ? b : a;
        snprintf(path, sizeof path, "%s/live.json", shown->dir);
        struct json *live = json_parse_file(path, LIVE_FILE_BYTES_MAX, NULL);
        struct buf note = BUF_INIT;
        live_note(&note, text, live);
        if ((first != NULL || json_get(live, text->key) != NULL) && !begun) {
            html_raw(out, "<details><summary>Live stacks</summary>\n");
            begun = true;
        }
        if (first != NULL) {
            struct flame flame = {.title = text->title,
                                  .unit = text->unit,
                                  .note = note.data,
                                  .ops = {1, 1},
                                  .stacks = {first, of_a != NULL ? of_b : NULL}};
            print_flame(out, data, &flame);
        } else if (json_get(live, text->key) != NULL) {
            html_raw(out, "<h3>");
            html_text(out, text->title);
            html_raw(out, "</h3>\n<p class=\"dim\">");
            html_text(out, note.data);
            html_raw(out, "</p>\n");
        }
        buf_fini(&note);
        json_free(live);
        stacks_free(of_a);
        stacks_free(of_b);
    }
    html_raw(out, begun ? "</details>\n" : "");
}

void where_print(struct buf *out, struct report_data *data, const struct section_side *a,
                 const struct section_side *b)
{
    print_processes(out, data, a, b);
    print_live(out, data, a, b);
}
