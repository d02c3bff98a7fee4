#include "report/report.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "report/html.h"
#include "report/page.h"
#include "report/section.h"

#define FILE_BYTES_MAX (16 * 1024 * 1024)

static int load_json(const char *dir, const char *name, struct json **out, struct err *err)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    *out = json_parse_file(path, FILE_BYTES_MAX, err);
    return *out != NULL ? 0 : -EBADMSG;
}

static void print_head(struct buf *out, const char *title)
{
    html_raw(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                  "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
                  "<title>");
    html_text(out, title);
    html_raw(out, "</title>\n<style>\n");
    buf_puts(out, page_uplot_css);
    buf_puts(out, page_css);
    html_raw(out, "</style>\n</head>\n<body>\n");
}

static void print_foot(struct buf *out, const struct json *data)
{
    html_raw(out, "<script type=\"application/json\" id=\"data\">");
    html_json(out, data);
    html_raw(out, "</script>\n");
    if (page_uplot_js[0] != '\0') {
        html_raw(out, "<script>\n/*");
        buf_puts(out, page_uplot_licence);
        html_raw(out, "*/\n");
        buf_puts(out, page_uplot_js);
        html_raw(out, "</script>\n");
    }
    html_raw(out, "<script>\n");
    buf_puts(out, page_js);
    html_raw(out, "</script>\n</body>\n</html>\n");
}

static void print_provenance(struct buf *out, const char *label, const struct json *manifest,
                             const struct json *env, const struct report_side *side)
{
    html_raw(out, "<details><summary>Provenance%s", label[0] != '\0' ? " of " : "");
    html_text(out, label);
    html_raw(out, "</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                  "aria-label=\"provenance\"><table><tbody>\n");
    static const char *const fields[] = {"commit", "tree", "parent", "env8", "harness", "created"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        html_raw(out, "<tr><td>%s</td><td class=\"text code\">", fields[i]);
        html_text(out, json_string(json_get(manifest, fields[i]), "-"));
        html_raw(out, "</td></tr>\n");
    }
    if (side->subject[0] != '\0') {
        html_raw(out, "<tr><td>subject</td><td class=\"text site\">");
        html_text(out, side->subject);
        html_raw(out, "</td></tr>\n");
    }
    if (json_bool(json_get(manifest, "dirty"), false)) {
        html_raw(out, "<tr><td>dirty</td><td class=\"text\">yes: files differed from the commit"
                      "</td></tr>\n");
    }
    static const char *const groups[] = {"identity", "context"};
    for (size_t g = 0; g < 2; g++) {
        const struct json *group = json_get(env, groups[g]);
        for (const struct json *c = json_first(group); c != NULL; c = json_next(c)) {
            html_raw(out, "<tr><td>");
            html_text(out, json_key(c));
            html_raw(out, "</td><td class=\"text site\">");
            if (json_type(c) == JSON_STRING) {
                html_text(out, json_string(c, ""));
            } else {
                char *text = json_print(c);
                html_text(out, text);
                free(text);
            }
            html_raw(out, "</td></tr>\n");
        }
    }
    html_raw(out, "</tbody></table></div></details>\n");
}

/* The verdict in one sentence with its cause, as compare gives it. */
static void print_verdict(struct buf *out, const struct json *comparison)
{
    const char *verdict = json_string(json_get(comparison, "verdict"), "inconclusive");
    const char *sentence = json_string(json_get(comparison, "headline"), verdict);
    const char *style = strcmp(verdict, "worse") == 0    ? " worse"
                        : strcmp(verdict, "better") == 0 ? " better"
                                                         : "";
    html_raw(out, "<p class=\"verdict%s\" id=\"verdict\">", style);
    html_text(out, sentence);
    html_raw(out, "</p>\n");
}

static bool has_scenario(const char *dir, const char *scenario)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/summary.json", dir, scenario);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        fclose(file);
    }
    return file != NULL;
}

/* One side's scenario for a section; summary NULL when it has none. */
static int open_scenario(const char *dir, const char *id, struct section_side *out, struct err *err)
{
    *out = (struct section_side){0};
    if (dir == NULL || !has_scenario(dir, id)) {
        return 0;
    }
    snprintf(out->dir, sizeof out->dir, "%s/%s", dir, id);
    return load_json(out->dir, "summary.json", &out->summary, err);
}

static bool is_plain_id(const char *id)
{
    return id[0] != '\0' && id[0] != '.' && strchr(id, '/') == NULL && strlen(id) < 100;
}

static int print_scenarios(const struct report_input *input, const struct json *manifest,
                           struct buf *body, struct json *charts, struct err *err)
{
    int shown = 0;
    for (const struct json *c = json_first(json_get(manifest, "scenarios")); c != NULL;
         c = json_next(c)) {
        const char *id = json_string(c, "");
        if (!is_plain_id(id) || (input->scenario != NULL && strcmp(id, input->scenario) != 0)) {
            continue;
        }
        struct section_side a;
        struct section_side b = {0};
        int code = open_scenario(input->a.dir, id, &a, err);
        if (code == 0) {
            code = open_scenario(input->b.dir, id, &b, err);
        }
        if (code == 0 && a.summary != NULL) {
            section_print(id, &a, b.summary != NULL ? &b : NULL, input->comparison, shown == 0,
                          body, charts);
            shown++;
        }
        json_free(a.summary);
        json_free(b.summary);
        if (code != 0) {
            return code;
        }
    }
    if (shown == 0) {
        return err_set(err, -ENOENT, "%s: no scenario%s%s to show", input->a.dir,
                       input->scenario != NULL ? " " : "",
                       input->scenario != NULL ? input->scenario : "");
    }
    return 0;
}

static void print_title(struct buf *out, const char *commit, const struct report_side *side)
{
    html_raw(out, "<span class=\"code\">");
    char short_commit[16];
    snprintf(short_commit, sizeof short_commit, "%.10s", commit);
    html_text(out, short_commit);
    html_raw(out, "</span>");
    if (side->subject[0] != '\0') {
        html_raw(out, " ");
        html_text(out, side->subject);
    }
}

int report_print(const struct report_input *input, struct buf *out, struct err *err)
{
    struct json *manifest[2] = {NULL, NULL};
    struct json *env[2] = {NULL, NULL};
    const struct report_side *sides[2] = {&input->a, &input->b};
    struct json *data = json_new_object();
    struct json *charts = json_add_array(data, "charts");
    struct buf body = BUF_INIT;
    int code = 0;
    for (int s = 0; s < 2 && code == 0 && sides[s]->dir != NULL; s++) {
        code = load_json(sides[s]->dir, "manifest.json", &manifest[s], err);
        if (code == 0) {
            code = load_json(sides[s]->dir, "env.json", &env[s], err);
        }
    }
    if (code == 0) {
        code = print_scenarios(input, manifest[0], &body, charts, err);
    }
    if (code == 0) {
        const char *commit = json_string(json_get(manifest[0], "commit"), "?");
        char title[160];
        snprintf(title, sizeof title, "codeq-lab: %.10s%s%.10s", commit,
                 manifest[1] != NULL ? " against " : "",
                 manifest[1] != NULL ? json_string(json_get(manifest[1], "commit"), "?") : "");
        print_head(out, title);
        html_raw(out, "<header>\n<h1>");
        if (manifest[1] != NULL) {
            print_title(out, json_string(json_get(manifest[1], "commit"), "?"), &input->b);
            html_raw(out, " <span class=\"dim\">against</span> ");
        }
        print_title(out, commit, &input->a);
        html_raw(out, "</h1>\n");
        if (input->comparison != NULL) {
            print_verdict(out, input->comparison);
        }
        const struct json *identity = json_get(env[0], "identity");
        html_raw(out, "<p class=\"dim\">Measured ");
        html_text(out, json_string(json_get(manifest[0], "created"), ""));
        html_raw(out, " on ");
        html_text(out, json_string(json_get(json_get(env[0], "context"), "cpu_name"),
                                   json_string(json_get(identity, "arch"), "this machine")));
        html_raw(out, ", environment ");
        html_text(out, json_string(json_get(manifest[0], "env8"), "?"));
        html_raw(out, ". Counted figures are exact; timed ones carry their runs.</p>\n"
                      "</header>\n<main>\n");
        buf_append(out, body.data, body.bytes);
        html_raw(out, "<h2>Where the numbers come from</h2>\n");
        for (int s = 0; s < 2; s++) {
            if (manifest[s] != NULL) {
                print_provenance(out,
                                 manifest[1] == NULL ? ""
                                 : s == 0            ? "A"
                                                     : "B",
                                 manifest[s], env[s], sides[s]);
            }
        }
        html_raw(out, "</main>\n");
        print_foot(out, data);
    }
    buf_fini(&body);
    json_free(data);
    for (int s = 0; s < 2; s++) {
        json_free(manifest[s]);
        json_free(env[s]);
    }
    return code;
}
