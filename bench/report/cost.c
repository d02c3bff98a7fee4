#include "report/cost.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profile_table.h"
#include "report/figure.h"
#include "report/html.h"

#define PARTS_MAX 64
#define PARTS_SHOWN 9 /* the rest are one part, "other" */

/* Paul Tol's muted set: told apart with any colour vision; the figures stand beside. */
static const char *const palette[] = {"#332288", "#88ccee", "#44aa99", "#117733", "#999933",
                                      "#ddcc77", "#cc6677", "#882255", "#aa4499", "#bbbbbb"};

struct part {
    char name[64];
    double value[2];
};

struct parts {
    struct part items[PARTS_MAX];
    size_t count;
};

static struct part *part_of(struct parts *parts, const char *name)
{
    for (size_t i = 0; i < parts->count; i++) {
        if (strcmp(parts->items[i].name, name) == 0) {
            return &parts->items[i];
        }
    }
    if (parts->count == PARTS_MAX) {
        return &parts->items[PARTS_MAX - 1];
    }
    struct part *part = &parts->items[parts->count++];
    *part = (struct part){.value = {0, 0}};
    snprintf(part->name, sizeof part->name, "%s", name);
    return part;
}

static int by_size(const void *a, const void *b)
{
    const struct part *x = a;
    const struct part *y = b;
    double of_x = x->value[0] + x->value[1];
    double of_y = y->value[0] + y->value[1];
    return (of_x < of_y) - (of_x > of_y);
}

static double total_of(const struct parts *parts, int side)
{
    double total = 0;
    for (size_t i = 0; i < parts->count; i++) {
        total += parts->items[i].value[side];
    }
    return total;
}

static void print_strip(struct buf *out, const struct parts *parts, int side, double full,
                        const char *label)
{
    html_raw(out, "<div class=\"strip\">");
    if (label[0] != '\0') {
        html_raw(out, "<b>%s</b>", label);
    }
    html_raw(out, "<span class=\"stack\" aria-hidden=\"true\">");
    for (size_t i = 0; i < parts->count; i++) {
        if (parts->items[i].value[side] > 0) {
            html_raw(out, "<span style=\"width:%.3f%%;background:%s\" title=\"",
                     parts->items[i].value[side] / full * 100, palette[i]);
            html_text(out, parts->items[i].name);
            html_raw(out, "\"></span>");
        }
    }
    html_raw(out, "</span></div>\n");
}

/* One bar a set on a common scale, and the figures. */
static void print_parts(struct buf *out, struct parts *parts, bool two, const char *title,
                        const char *unit, bool sort)
{
    double full = fmax(total_of(parts, 0), two ? total_of(parts, 1) : 0);
    if (parts->count == 0 || full <= 0) {
        return;
    }
    if (sort) {
        qsort(parts->items, parts->count, sizeof *parts->items, by_size);
    }
    if (parts->count > PARTS_SHOWN + 1) {
        struct part rest = {.name = "others"};
        for (size_t i = PARTS_SHOWN; i < parts->count; i++) {
            rest.value[0] += parts->items[i].value[0];
            rest.value[1] += parts->items[i].value[1];
        }
        parts->items[PARTS_SHOWN] = rest;
        parts->count = PARTS_SHOWN + 1;
    }
    char text[FIGURE_BYTES];
    html_raw(out, "<div class=\"cost\"><h3>%s: %s", title,
             figure_with_unit(total_of(parts, 0), unit, text));
    if (two) {
        html_raw(out, " &rarr; %s", figure_with_unit(total_of(parts, 1), unit, text));
    }
    html_raw(out, "</h3>\n");
    print_strip(out, parts, 0, full, two ? "A" : "");
    if (two) {
        print_strip(out, parts, 1, full, "B");
    }
    html_raw(out, "<ul class=\"legend\">\n");
    for (size_t i = 0; i < parts->count; i++) {
        const struct part *p = &parts->items[i];
        if (p->value[0] <= 0 && p->value[1] <= 0) {
            continue;
        }
        html_raw(out, "<li><i style=\"background:%s\"></i>", palette[i]);
        html_text(out, p->name);
        html_raw(out, " %s", figure_with_unit(p->value[0], unit, text));
        if (two && p->value[0] != p->value[1]) {
            html_raw(out, " &rarr; %s", figure_with_unit(p->value[1], unit, text));
        }
        html_raw(out, "</li>\n");
    }
    html_raw(out, "</ul></div>\n");
}

/* Which part of the program a function belongs to, from its file, else its object. */
static const char *module_of(const struct profile_row *row)
{
    static const struct {
        const char *part;
        const char *module;
    } rules[] = {{"service/http", "HTTP"}, {"http_parser", "HTTP"}, {"libev", "HTTP"},
                 {"service/", "routes"},   {"base/json", "JSON"},   {"cjson", "JSON"},
                 {"cJSON", "JSON"},        {"hiredis", "hiredis"},  {"store/", "store"},
                 {"sched/", "sched"},      {"base/", "base"},       {"drive", "driver"},
                 {"libc", "libc"},         {"ld-linux", "libc"},    {"sysdeps/", "libc"}};
    for (int t = FUNCTION_FILE; t >= FUNCTION_OBJECT; t--) {
        for (size_t i = 0; row->text[t] != NULL && i < sizeof rules / sizeof *rules; i++) {
            if (strstr(row->text[t], rules[i].part) != NULL) {
                return rules[i].module;
            }
        }
    }
    return "other";
}

static void add_modules(struct parts *parts, const struct section_side *side, int s)
{
    struct profile_table table;
    if (profile_table_read(&table, PROFILE_TABLE_FUNCTIONS, side->dir, NULL) != 0) {
        return;
    }
    double ops = table.ops > 0 ? (double)table.ops : 1;
    for (size_t i = 0; i < table.count; i++) {
        part_of(parts, module_of(&table.rows[i]))->value[s] +=
            (double)table.rows[i].value[FUNCTION_SELF] / ops;
    }
    profile_table_fini(&table);
}

static double metric_of(const struct section_side *side, const char *name)
{
    char id[128];
    snprintf(id, sizeof id, "%s.%s", json_string(json_get(side->summary, "operation"), "cycle"),
             name);
    return figure_value(figure_metric(side->summary, id));
}

/* The wall time of an operation: the client's CPU, Redis' CPU, and what is neither. */
static void add_times(struct parts *parts, const struct section_side *side, int s)
{
    double wall = metric_of(side, "time_ns_per_op");
    double client = metric_of(side, "client_cpu_us_per_op") * 1e3;
    double redis = metric_of(side, "redis_cpu_us_per_op") * 1e3;
    if (!isfinite(wall) || !isfinite(client) || !isfinite(redis)) {
        return;
    }
    double script = metric_of(side, "redis_script_us_per_op") * 1e3; /* not in earlier sets */
    char name[32];
    snprintf(name, sizeof name, "CPU of %s", section_subject(side));
    part_of(parts, name)->value[s] = client;
    if (isfinite(script) && script <= redis) {
        part_of(parts, "Redis in scripts")->value[s] = script;
        part_of(parts, "Redis' event loop and sockets, CPU")->value[s] = redis - script;
    } else {
        part_of(parts, "Redis' CPU, scripts and its event loop")->value[s] = redis;
    }
    part_of(parts, "neither: waiting, wake-ups")->value[s] = fmax(0, wall - client - redis);
}

/* What an operation does by name: the slope of the runs' by_name between N and 2N operations. */
static void add_names(struct parts *parts, const struct section_side *side, int s, const char *kind)
{
    const struct json *scale[3] = {NULL, NULL, NULL};
    for (size_t i = 0; i < side->runs.count; i++) {
        const struct json *line = side->runs.lines[i];
        int64_t n = json_int(json_get(line, "scale"), 0);
        if (strcmp(json_string(json_get(line, "kind"), ""), kind) == 0 &&
            json_int(json_get(line, "repeat"), -1) == 0 && (n == 1 || n == 2)) {
            scale[n] = line;
        }
    }
    double ops =
        json_number(json_get(scale[2], "ops"), 0) - json_number(json_get(scale[1], "ops"), 0);
    const struct json *twice = json_get(scale[2], "by_name");
    for (const struct json *c = ops > 0 ? json_first(twice) : NULL; c != NULL; c = json_next(c)) {
        double once = json_number(json_get(json_get(scale[1], "by_name"), json_key(c)), 0);
        double each = (json_number(c, 0) - once) / ops;
        if (each > 0.0005) {
            part_of(parts, json_key(c))->value[s] = each;
        }
    }
}

static void print_round_trips(struct buf *out, const struct section_side *a,
                              const struct section_side *b)
{
    static const struct {
        const char *name;
        const char *unit;
        const char *words;
    } figures[] = {
        {"round_trips_per_op", "", "round trips"},
        {"redis_commands_per_op", "", "commands sent"},
        {"bytes_to_redis_per_op", "B", "sent"},
        {"bytes_from_redis_per_op", "B", "received"},
    };
    bool begun = false;
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        char text[FIGURE_BYTES];
        double before = metric_of(a, figures[i].name);
        double after = b != NULL ? metric_of(b, figures[i].name) : before;
        if (!isfinite(before)) {
            continue;
        }
        html_raw(out, begun ? ", " : "<p>To Redis and back: ");
        begun = true;
        html_raw(out, "<b>%s</b>", figure_with_unit(before, figures[i].unit, text));
        if (isfinite(after) && after != before) {
            html_raw(out, " &rarr; <b>%s</b>", figure_with_unit(after, figures[i].unit, text));
        }
        html_raw(out, " %s", figures[i].words);
    }
    html_raw(out, begun ? ".</p>\n" : "");
}

void cost_print(struct buf *out, const struct section_side *a, const struct section_side *b)
{
    const struct section_side *sides[2] = {a, b};
    struct parts *parts = calloc(4, sizeof *parts);
    if (parts == NULL) {
        abort();
    }
    for (int s = 0; s < 2 && sides[s] != NULL; s++) {
        add_times(&parts[0], sides[s], s);
        add_modules(&parts[1], sides[s], s);
        add_names(&parts[2], sides[s], s, "counts");
        add_names(&parts[3], sides[s], s, "syscalls");
    }
    if (parts[0].count + parts[1].count + parts[2].count + parts[3].count > 0) {
        html_raw(out, "<details><summary>What one operation costs</summary>\n");
        print_round_trips(out, a, b);
        print_parts(out, &parts[0], b != NULL, "Time", "ns", false);
        char title[64];
        snprintf(title, sizeof title, "Instructions of %s, by module", section_subject(a));
        print_parts(out, &parts[1], b != NULL, title, "", true);
        print_parts(out, &parts[2], b != NULL, "Commands that Redis executed", "", true);
        snprintf(title, sizeof title, "System calls of %s", section_subject(a));
        print_parts(out, &parts[3], b != NULL, title, "", true);
        html_raw(out, "</details>\n");
    }
    free(parts);
}
