#include "report/report.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metric.h"
#include "report/figure.h"
#include "report/frame.h"
#include "report/html.h"
#include "report/overview.h"
#include "report/section.h"
#include "report/source.h"

#define FILE_BYTES_MAX (16 * 1024 * 1024)
#define SELFTESTS_MAX 256 /* records looked at */

static int load_json(const char *dir, const char *name, struct json **out, struct err *err)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    *out = json_parse_file(path, FILE_BYTES_MAX, err);
    return *out != NULL ? 0 : -EBADMSG;
}

static bool is_plain_id(const char *id)
{
    return id[0] != '\0' && id[0] != '.' && strchr(id, '/') == NULL && strlen(id) < 100;
}

/* One side's scenario; summary NULL when it has none. */
static int open_side(const char *dir, const char *commit, const char *id, struct section_side *out,
                     struct err *err)
{
    char path[1100];
    if (dir == NULL) {
        return 0;
    }
    snprintf(path, sizeof path, "%.900s/%s/summary.json", dir, id);
    if (access(path, F_OK) != 0) {
        return 0;
    }
    snprintf(out->dir, sizeof out->dir, "%.900s/%s", dir, id);
    snprintf(out->commit, sizeof out->commit, "%s", commit);
    int code = load_json(out->dir, "summary.json", &out->summary, err);
    snprintf(path, sizeof path, "%s/runs.ndjson", out->dir);
    if (code == 0 && result_runs_read(path, true, &out->runs, NULL) != 0) {
        out->runs = (struct result_runs){0}; /* its figures stand in the summary all the same */
    }
    return code;
}

static void add_value(struct json *summary, const struct json *judged, const char *side)
{
    struct json *metrics =
        (struct json *)(uintptr_t)json_get(summary, "metrics"); /* our own tree */
    const struct json *value = json_get(judged, side);
    if (metrics == NULL || value == NULL) {
        return;
    }
    const char *id = json_string(json_get(judged, "id"), "");
    const struct metric *known = metric_find(id);
    struct json *metric = json_new_object();
    json_add_string(metric, "id", id);
    json_add_string(metric, "class", json_string(json_get(judged, "class"), "timed"));
    json_add_string(metric, "unit", json_string(json_get(judged, "unit"), ""));
    json_add_string(metric, "better", known != NULL ? metric_better_name(known->better) : "lower");
    json_add_number(metric, "value", json_number(value, (double)NAN));
    json_append(metrics, metric);
}

/* Metrics that only the comparison has, since it timed pairs itself, stand beside the sets'. */
static void adopt_judged(struct overview_scenario *s, const struct json *comparison)
{
    for (const struct json *c = json_first(json_get(comparison, "scenarios")); c != NULL;
         c = json_next(c)) {
        if (s->b.summary == NULL || strcmp(json_string(json_get(c, "scenario"), ""), s->id) != 0) {
            continue;
        }
        for (const struct json *m = json_first(json_get(c, "metrics")); m != NULL;
             m = json_next(m)) {
            if (figure_metric(s->a.summary, json_string(json_get(m, "id"), "")) == NULL) {
                add_value(s->a.summary, m, "a");
                add_value(s->b.summary, m, "b");
            }
        }
    }
}

static void close_side(struct section_side *side)
{
    json_free(side->summary);
    result_runs_free(&side->runs);
}

/* The commit that was measured, "" where files differed from it. */
static const char *commit_of(const struct json *manifest)
{
    return json_bool(json_get(manifest, "dirty"), false)
               ? ""
               : json_string(json_get(manifest, "commit"), "");
}

static int open_scenarios(struct overview *o, struct overview_scenario *scenarios, size_t max,
                          struct err *err)
{
    const struct report_input *input = o->input;
    for (const struct json *c = json_first(json_get(o->manifest[0], "scenarios"));
         c != NULL && o->count < max; c = json_next(c)) {
        const char *id = json_string(c, "");
        if (!is_plain_id(id) || (input->scenario != NULL && strcmp(id, input->scenario) != 0)) {
            continue;
        }
        struct overview_scenario *s = &scenarios[o->count++];
        *s = (struct overview_scenario){0};
        snprintf(s->id, sizeof s->id, "%s", id);
        int code = open_side(input->a.dir, commit_of(o->manifest[0]), id, &s->a, err);
        if (code == 0) {
            code = open_side(input->b.dir, commit_of(o->manifest[1]), id, &s->b, err);
        }
        if (code != 0) {
            return code;
        }
        if (s->a.summary == NULL) {
            close_side(&s->b);
            o->count--;
        } else {
            adopt_judged(s, input->comparison);
        }
    }
    if (o->count == 0) {
        return err_set(err, -ENOENT, "%s: no scenario%s%s to show", input->a.dir,
                       input->scenario != NULL ? " " : "",
                       input->scenario != NULL ? input->scenario : "");
    }
    return 0;
}

/* The newest record of a selftest beside the sets; NULL without one. */
static struct json *read_selftest(const char *set_dir)
{
    char path[1100];
    struct json *newest = NULL;
    snprintf(path, sizeof path, "%.900s/../../.selftest", set_dir);
    DIR *dir = opendir(path);
    int seen = 0;
    for (const struct dirent *e;
         dir != NULL && seen < SELFTESTS_MAX && (e = readdir(dir)) != NULL;) {
        size_t bytes = strlen(e->d_name);
        if (bytes < 6 || strcmp(e->d_name + bytes - 5, ".json") != 0) {
            continue;
        }
        seen++;
        char file[1400];
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        struct json *one = json_parse_file(file, FILE_BYTES_MAX, NULL);
        if (newest == NULL || strcmp(json_string(json_get(one, "created"), ""),
                                     json_string(json_get(newest, "created"), "")) > 0) {
            json_free(newest);
            newest = one;
        } else {
            json_free(one);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return newest;
}

static void print_page(const struct overview *o, struct buf *out)
{
    struct report_data data;
    report_data_init(&data);
    data.sources = sources_new();
    char title[160];
    bool two = o->manifest[1] != NULL;
    snprintf(title, sizeof title, "codeq-lab: %.12s%s%.12s",
             json_string(json_get(o->manifest[two ? 1 : 0], "commit"), "?"), two ? " against " : "",
             two ? json_string(json_get(o->manifest[0], "commit"), "?") : "");
    frame_head(out, title);
    overview_print(out, o);
    for (size_t i = 0; i < o->count; i++) {
        const struct overview_scenario *s = &o->scenarios[i];
        section_print(s->id, &s->a, s->b.summary != NULL ? &s->b : NULL, o->input->comparison,
                      false, out, &data);
    }
    provenance_print(out, o);
    html_raw(out, "</main>\n");
    struct json *drawn = report_data_json(&data);
    frame_foot(out, drawn);
    json_free(drawn);
    sources_free(data.sources);
    report_data_fini(&data);
}

int report_print(const struct report_input *input, struct buf *out, struct err *err)
{
    struct json *manifest[2] = {NULL, NULL};
    struct json *env[2] = {NULL, NULL};
    const struct report_side *sides[2] = {&input->a, &input->b};
    struct overview_scenario *scenarios = calloc(REPORT_SCENARIOS_MAX, sizeof *scenarios);
    struct json *selftest = read_selftest(input->a.dir);
    struct overview overview = {.input = input, .selftest = selftest, .scenarios = scenarios};
    int code = 0;
    if (scenarios == NULL) {
        abort();
    }
    for (int s = 0; s < 2 && code == 0 && sides[s]->dir != NULL; s++) {
        code = load_json(sides[s]->dir, "manifest.json", &manifest[s], err);
        if (code == 0) {
            code = load_json(sides[s]->dir, "env.json", &env[s], err);
        }
        overview.manifest[s] = manifest[s];
        overview.env[s] = env[s];
    }
    if (code == 0) {
        code = open_scenarios(&overview, scenarios, REPORT_SCENARIOS_MAX, err);
    }
    if (code == 0) {
        print_page(&overview, out);
    }
    for (size_t i = 0; i < overview.count; i++) {
        close_side(&scenarios[i].a);
        close_side(&scenarios[i].b);
    }
    free(scenarios);
    json_free(selftest);
    for (int s = 0; s < 2; s++) {
        json_free(manifest[s]);
        json_free(env[s]);
    }
    return code;
}
