#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"
#include "cmd.h"
#include "report_files.h"
#include "set.h"

static const char help[] =
    "codeq-bench report draws result sets as one HTML page that opens offline.\n\n"
    "usage: codeq-bench report [OPTION...] [SET | A B | --history | --site DIR]\n\n"
    "SET, A and B are set folders (results/COMMIT/ENV) or anything git can name; without one, the\n"
    "newest set below results/ is drawn. With A and B the page leads with compare's verdict.\n\n"
    "what to draw:\n"
    "  --scenario ID       only that scenario\n"
    "  --history           each metric over the commits, with its changes\n"
    "  --site DIR          the history and a page for each set and each change, into a new folder\n"
    "where:\n"
    "  -o, --output FILE   write there (default: report.html in the set's folder, or in\n"
    "                      results/.reports for two sets; history.html for --history)\n"
    "  --results DIR       look for sets there (default: results)\n"
    "  --open              show it in the browser\n"
    "  --help              this text\n\n"
    "examples:\n"
    "  codeq-bench report\n"
    "  codeq-bench report HEAD~1 HEAD -o change.html\n"
    "  codeq-bench report results/1f2e3d.../6f5739c7 --open\n"
    "  codeq-bench report --history -o history.html\n"
    "  codeq-bench report --site build/site\n";

struct options {
    const char *output;
    const char *scenario;
    const char *results_dir;
    const char *site;
    bool history;
    bool open;
    const char *sets[2];
    int count;
};

static void open_in_browser(const char *path)
{
    const char *argv[] = {"xdg-open", path, NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    struct err err = {""};
    if (child_run(&options, clock_monotonic_ns(clock_system()) + 30 * NS_PER_SEC, &out, NULL,
                  &err) != 0) {
        fprintf(stderr, "codeq-bench: report: --open: no browser could be started: open %s\n",
                path);
    }
    free(out);
}

/* -1: go on. */
static int parse(int argc, char **argv, struct options *out)
{
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'},  {"scenario", required_argument, NULL, 's'},
        {"results", required_argument, NULL, 'r'}, {"open", no_argument, NULL, 'O'},
        {"history", no_argument, NULL, 'H'},       {"site", required_argument, NULL, 'S'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "ho:", options, NULL)) != -1) {
        switch (c) {
        case 'o':
            out->output = optarg;
            break;
        case 's':
            out->scenario = optarg;
            break;
        case 'r':
            out->results_dir = optarg;
            break;
        case 'O':
            out->open = true;
            break;
        case 'H':
            out->history = true;
            break;
        case 'S':
            out->site = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    out->count = argc - optind;
    for (int i = 0; i < out->count && i < 2; i++) {
        out->sets[i] = argv[optind + i];
    }
    if (out->count > 2) {
        err_set(&err, 0, "report: %d sets: give at most two", out->count);
        return cmd_fail(CMD_USAGE, &err);
    }
    if ((out->history || out->site != NULL) &&
        (out->count > 0 || out->scenario != NULL || (out->history && out->site != NULL))) {
        err_set(&err, 0, "report: --history and --site draw all sets: give one of them and no set");
        return cmd_fail(CMD_USAGE, &err);
    }
    if (out->site != NULL && out->output != NULL) {
        err_set(&err, 0, "report: --output: --site names the folder already: leave one out");
        return cmd_fail(CMD_USAGE, &err);
    }
    return -1;
}

/* Where the page goes unless it was said. */
static int default_path(const struct options *o, const struct result_set *a,
                        const struct result_set *b, char out[RESULT_PATH_MAX], struct err *err)
{
    if (o->output != NULL) {
        snprintf(out, RESULT_PATH_MAX, "%s", o->output);
        return 0;
    }
    if (b == NULL) {
        snprintf(out, RESULT_PATH_MAX, "%.1000s/report.html", a->dir);
        return 0;
    }
    char dir[RESULT_PATH_MAX];
    snprintf(dir, sizeof dir, "%.900s/.reports", o->results_dir);
    snprintf(out, RESULT_PATH_MAX, "%.900s/%.12s-%.12s.html", dir, a->commit, b->commit);
    return result_make_dirs(dir, err);
}

/* Of two revisions, the newest pair of sets of one environment; else the newest of each. */
static void choose_pair(const struct set_list *a, const struct set_list *b, size_t out[2])
{
    out[0] = out[1] = 0;
    for (size_t j = 0; j < b->count; j++) {
        for (size_t i = 0; i < a->count; i++) {
            if (strcmp(a->sets[i].env8, b->sets[j].env8) == 0) {
                out[0] = i;
                out[1] = j;
                return;
            }
        }
    }
}

static int report_sets(const struct options *o, char path[RESULT_PATH_MAX], size_t *out_bytes,
                       struct err *err)
{
    struct set_list *lists = calloc(2, sizeof *lists);
    if (lists == NULL) {
        abort();
    }
    int code = set_find(o->results_dir, o->sets[0], &lists[0], err);
    if (code == 0 && o->count == 2) {
        code = set_find(o->results_dir, o->sets[1], &lists[1], err);
    }
    if (code == 0) {
        size_t at[2] = {0, 0};
        choose_pair(&lists[0], &lists[1], at);
        const struct result_set *a = &lists[0].sets[at[0]];
        const struct result_set *b = o->count == 2 ? &lists[1].sets[at[1]] : NULL;
        const struct report_request request = {
            .a = a->dir, .b = b != NULL ? b->dir : NULL, .scenario = o->scenario};
        code = default_path(o, a, b, path, err);
        if (code == 0) {
            code = report_write(&request, path, out_bytes, err);
        }
    }
    free(lists);
    return code;
}

int cmd_report(int argc, char **argv)
{
    struct options o = {.results_dir = "results"};
    int usage = parse(argc, argv, &o);
    if (usage >= 0) {
        return usage;
    }
    struct err err = {""};
    char path[RESULT_PATH_MAX];
    size_t bytes = 0;
    size_t pages = 1;
    int code;
    if (o.site != NULL) {
        snprintf(path, sizeof path, "%.900s/index.html", o.site);
        code = report_write_site(o.results_dir, o.site, &pages, &err);
    } else if (o.history) {
        snprintf(path, sizeof path, "%.1000s", o.output != NULL ? o.output : "history.html");
        code = report_write_history(o.results_dir, path, &bytes, &err);
    } else {
        code = report_sets(&o, path, &bytes, &err);
    }
    if (code != 0) {
        err_prefix(&err, 0, "report");
        bool unreadable = code == -EBADMSG || code == -EOPNOTSUPP;
        return cmd_fail(unreadable ? CMD_UNREADABLE : CMD_USAGE, &err);
    }
    if (o.site != NULL) {
        printf("%s: %zu pages\n", path, pages);
    } else {
        printf("%s: %zu KiB\n", path, (bytes + 1023) / 1024);
    }
    if (o.open) {
        open_in_browser(path);
    }
    return CMD_OK;
}
