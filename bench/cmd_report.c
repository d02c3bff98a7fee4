#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "cmd.h"
#include "report/report.h"
#include "result.h"
#include "revision.h"
#include "set.h"

#define COMPARE_TIMEOUT_NS (600 * NS_PER_SEC)

static const char help[] =
    "codeq-bench report draws result sets as one HTML page that opens offline.\n"
    "\n"
    "usage: codeq-bench report [OPTION...] [SET | A B]\n\n"
    "SET, A and B are set folders (results/COMMIT/ENV) or anything git can name; without one, the\n"
    "newest set below results/ is drawn. With A and B the page leads with compare's verdict.\n\n"
    "  -o, --output FILE   write there (default: report.html in the set's folder)\n"
    "  --scenario ID       only that scenario\n"
    "  --results DIR       look for sets there (default: results)\n"
    "  --open              show it in the browser\n"
    "  --help              this text\n\n"
    "examples:\n"
    "  codeq-bench report\n"
    "  codeq-bench report HEAD~1 HEAD -o change.html\n"
    "  codeq-bench report results/1f2e3d.../6f5739c7 --open\n";

/* The first line of the commit's message; "" when git does not have it. */
static void read_subject(const char *set_dir, char *out, size_t bytes)
{
    out[0] = '\0';
    char path[RESULT_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/manifest.json", set_dir);
    struct json *manifest = json_parse_file(path, RESULT_FILE_BYTES_MAX, NULL);
    const char *commit = json_string(json_get(manifest, "commit"), "");
    struct revision revision;
    if (commit[0] != '\0' && revision_resolve(".", commit, &revision, NULL) == 0) {
        snprintf(out, bytes, "%s", revision.subject);
    }
    json_free(manifest);
}

/* compare decides in its own process: the page shows what it prints, word for word. NULL with text
 * when it could not. */
static struct json *compare_sets(const char *a, const char *b, struct err *err)
{
    const char *argv[] = {"/proc/self/exe", "compare", "--json", a, b, NULL};
    char self[RESULT_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        argv[0] = self;
    }
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + COMPARE_TIMEOUT_NS, &text,
                         &errors, err);
    if (code < 0) {
        return NULL;
    }
    struct json *json = json_parse(text, strlen(text), NULL);
    if (json == NULL) {
        errors[strcspn(errors, "\n")] = '\0';
        err_set(err, -EIO, "%s", errors[0] != '\0' ? errors : "compare printed no JSON");
    }
    free(text);
    free(errors);
    return json;
}

static int write_report(const struct report_input *input, const char *path, struct err *err)
{
    struct buf page = BUF_INIT;
    int code = report_print(input, &page, err);
    if (code == 0) {
        code = result_write_file(path, page.data, page.bytes, err);
    }
    if (code == 0) {
        printf("%s: %zu KiB\n", path, (page.bytes + 1023) / 1024);
    }
    buf_fini(&page);
    return code;
}

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

int cmd_report(int argc, char **argv)
{
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'},  {"scenario", required_argument, NULL, 's'},
        {"results", required_argument, NULL, 'r'}, {"open", no_argument, NULL, 'O'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    const char *output = NULL, *scenario = NULL, *results = "results";
    bool open = false;
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "ho:", options, NULL)) != -1) {
        switch (c) {
        case 'o':
            output = optarg;
            break;
        case 's':
            scenario = optarg;
            break;
        case 'r':
            results = optarg;
            break;
        case 'O':
            open = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    struct err err = {""};
    int count = argc - optind;
    if (count > 2) {
        err_set(&err, 0, "report: %d sets: give at most two", count);
        return cmd_fail(CMD_USAGE, &err);
    }
    char dirs[2][RESULT_PATH_MAX] = {"", ""};
    int code = 0;
    for (int i = 0; i < (count > 0 ? count : 1) && code == 0; i++) {
        struct set_list *list = malloc(sizeof *list);
        if (list == NULL) {
            abort();
        }
        code = set_find(results, count > 0 ? argv[optind + i] : NULL, list, &err);
        if (code == 0) {
            snprintf(dirs[i], sizeof dirs[i], "%s", list->sets[0].dir);
        }
        free(list);
    }
    char subjects[2][256];
    struct json *comparison = NULL;
    for (int i = 0; i < 2 && code == 0; i++) {
        read_subject(dirs[i], subjects[i], sizeof subjects[i]);
    }
    if (code == 0 && count == 2) {
        comparison = compare_sets(dirs[0], dirs[1], &err);
        code = comparison == NULL ? -EIO : 0;
    }
    char path[RESULT_PATH_MAX + 32];
    if (output != NULL) {
        snprintf(path, sizeof path, "%s", output);
    } else {
        snprintf(path, sizeof path, "%s/report.html", dirs[count == 2 ? 1 : 0]);
    }
    if (code == 0) {
        struct report_input input = {
            .a = {dirs[0], subjects[0]},
            .b = {count == 2 ? dirs[1] : NULL, subjects[1]},
            .scenario = scenario,
            .comparison = comparison,
        };
        code = write_report(&input, path, &err);
    }
    json_free(comparison);
    if (code != 0) {
        err_prefix(&err, 0, "report");
        return cmd_fail(code == -EBADMSG ? CMD_UNREADABLE : CMD_USAGE, &err);
    }
    if (open) {
        open_in_browser(path);
    }
    return CMD_OK;
}
