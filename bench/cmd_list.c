#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"
#include "cmd.h"
#include "profile_callgrind.h"
#include "set.h"

static const char help[] =
    "codeq-bench list shows a function's source lines with the instructions of each.\n\n"
    "usage: codeq-bench list [OPTION...] FUNCTION [SET]\n\n"
    "SET is a commit, a tag, anything git can name, or a folder (default: the newest set). The\n"
    "source is the set's commit's, else the working tree's, else only line numbers are shown.\n\n"
    "  --scenario ID    of this scenario (default: the one profiled last)\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "self: instructions of the line itself; calls: those of the functions called from it; both\n"
    "per operation, with the warm state's share of start-up in them (top has the slope).\n\n"
    "examples:\n"
    "  codeq-bench list store_claim\n"
    "  codeq-bench list json_print HEAD~3 --scenario json-large\n";

#define CONTEXT_LINES 2 /* shown around a line that costs */
#define SOURCE_BYTES_MAX (4u << 20)

struct line_cost {
    uint32_t file; /* string id of the profile */
    int64_t line;
    int64_t self;
    int64_t calls;
};

struct costs {
    struct line_cost *lines;
    size_t count;
};

/* Whether a node is the function, whatever clone, recursion level or callers. */
static bool is_function(const struct callgrind *profile, uint32_t node, const char *function,
                        struct buf *scratch)
{
    const char *name = profile->strings.texts[profile->nodes[node].name];
    buf_clear(scratch);
    profile_name_plain(scratch, name, strcspn(name, "'"));
    return strcmp(scratch->data, function) == 0;
}

static int by_place(const void *a, const void *b)
{
    const struct line_cost *x = a;
    const struct line_cost *y = b;
    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    return (x->line > y->line) - (x->line < y->line);
}

static void collect(struct costs *costs, const struct callgrind *profile, const char *function)
{
    struct buf scratch = BUF_INIT;
    bool *wanted = calloc(profile->node_count + 1, sizeof *wanted);
    costs->lines = calloc(profile->cost_count + profile->call_count + 1, sizeof *costs->lines);
    if (wanted == NULL || costs->lines == NULL) {
        abort();
    }
    for (size_t i = 0; i < profile->node_count; i++) {
        wanted[i] = is_function(profile, (uint32_t)i, function, &scratch);
    }
    size_t count = 0;
    for (size_t i = 0; i < profile->cost_count; i++) {
        const struct callgrind_cost *cost = &profile->costs[i];
        if (wanted[cost->node]) {
            costs->lines[count++] = (struct line_cost){cost->file, cost->line, cost->self, 0};
        }
    }
    for (size_t i = 0; i < profile->call_count; i++) {
        const struct callgrind_call *call = &profile->calls[i];
        /* What a recursion calls is counted once, where it leaves the function. */
        if (wanted[call->caller] && !wanted[call->callee]) {
            costs->lines[count++] = (struct line_cost){call->file, call->line, 0, call->inclusive};
        }
    }
    qsort(costs->lines, count, sizeof *costs->lines, by_place);
    costs->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct line_cost *last = costs->count > 0 ? &costs->lines[costs->count - 1] : NULL;
        if (last != NULL && by_place(last, &costs->lines[i]) == 0) {
            last->self += costs->lines[i].self;
            last->calls += costs->lines[i].calls;
        } else {
            costs->lines[costs->count++] = costs->lines[i];
        }
    }
    free(wanted);
    buf_fini(&scratch);
}

/* The text of a source file: of the commit, else of the working tree; NULL when there is none. */
static char *read_source(const struct result_set *set, const char *path, const char **out_from)
{
    struct buf spec = BUF_INIT;
    char *text = NULL;
    size_t bytes;
    if (path[0] == '/' || strstr(path, "..") != NULL || strchr(path, ':') != NULL) {
        return NULL;
    }
    if (strstr(set->dir, "-dirty/") == NULL && strspn(set->commit, "0123456789abcdef") >= 40) {
        buf_printf(&spec, "%s:%s", set->commit, path);
        const char *argv[] = {"git", "show", spec.data, NULL};
        struct child_options options = {
            .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
        int code = child_run(&options, clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC, &text,
                             NULL, NULL);
        if (code > 0) {
            free(text);
            text = NULL;
        }
        *out_from = "commit";
        if (code != 0) {
            text = NULL;
        }
    }
    if (text == NULL) {
        struct result_commit here;
        result_commit_read(".", &here);
        buf_clear(&spec);
        buf_printf(&spec, "%s/%s", here.root, path);
        *out_from = "working tree";
        if (profile_read_file(spec.data, SOURCE_BYTES_MAX, &text, &bytes, NULL) != 0) {
            text = NULL;
        }
    }
    buf_fini(&spec);
    return text;
}

/* Line `number` of a text, from 1; NULL past the end. */
static const char *source_line(const char *text, int64_t number, size_t *out_bytes)
{
    for (int64_t i = 1; text != NULL && i < number; i++) {
        text = strchr(text, '\n');
        text = text != NULL ? text + 1 : NULL;
    }
    if (text == NULL || *text == '\0') {
        return NULL;
    }
    *out_bytes = strcspn(text, "\n");
    return text;
}

static void print_line(const char *source, const struct line_cost *cost, int64_t number, double ops)
{
    char a[SET_NUMBER_BYTES] = ".";
    char b[SET_NUMBER_BYTES] = ".";
    size_t bytes = 0;
    const char *text = number > 0 ? source_line(source, number, &bytes) : NULL;
    if (cost != NULL && cost->self != 0) {
        set_number((double)cost->self / ops, 2, a);
    }
    if (cost != NULL && cost->calls != 0) {
        set_number((double)cost->calls / ops, 2, b);
    }
    printf("%12s %12s %6" PRId64 "%s%.*s\n", a, b, number, text != NULL ? "  " : "",
           text != NULL ? (int)bytes : 0, text != NULL ? text : "");
}

static void print_file(const struct result_set *set, const struct callgrind *profile,
                       const struct line_cost *lines, size_t count, double ops)
{
    const char *path = profile->strings.texts[lines[0].file];
    const char *from = "";
    char *source = read_source(set, path, &from);
    printf("\n%s%s%s%s\n", path, source != NULL ? " (" : " (no source: line numbers only",
           source != NULL ? from : "", ")");
    printf("%12s %12s %6s\n", "self/op", "calls/op", "line");
    int64_t next = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t first = lines[i].line - (source != NULL ? CONTEXT_LINES : 0);
        if (first > next && next > 0) {
            puts("           ...");
        }
        for (int64_t n = first > next ? first : next; n < lines[i].line; n++) {
            if (n > 0) {
                print_line(source, NULL, n, ops);
            }
        }
        print_line(source, &lines[i], lines[i].line, ops);
        next = lines[i].line + 1;
        for (int k = 0;
             source != NULL && k < CONTEXT_LINES && (i + 1 == count || next < lines[i + 1].line);
             k++) {
            print_line(source, NULL, next++, ops);
        }
    }
    free(source);
}

static void print_json(const struct result_set *set, const char *scenario, const char *function,
                       const struct callgrind *profile, const struct costs *costs, double ops)
{
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.list/1");
    json_add_string(root, "commit", set->commit);
    json_add_string(root, "scenario", scenario);
    json_add_string(root, "function", function);
    json_add_number(root, "ops", ops);
    struct json *list = json_add_array(root, "lines");
    char *source = NULL;
    for (size_t i = 0; i < costs->count; i++) {
        const struct line_cost *cost = &costs->lines[i];
        const char *from;
        size_t bytes = 0;
        if (i == 0 || cost->file != costs->lines[i - 1].file) {
            free(source);
            source = read_source(set, profile->strings.texts[cost->file], &from);
        }
        struct json *object = json_new_object();
        json_add_string(object, "file", profile->strings.texts[cost->file]);
        json_add_int(object, "line", cost->line);
        json_add_number(object, "self_per_op", (double)cost->self / ops);
        json_add_number(object, "calls_per_op", (double)cost->calls / ops);
        const char *text = cost->line > 0 ? source_line(source, cost->line, &bytes) : NULL;
        char *copy = text != NULL ? strndup(text, bytes) : NULL;
        if (copy != NULL) {
            json_add_string(object, "source", copy);
        }
        free(copy);
        json_append(list, object);
    }
    free(source);
    char *text = json_print_pretty(root);
    fputs(text, stdout);
    free(text);
    json_free(root);
}

static int show(const struct set_options *where, const char *function)
{
    struct result_set set;
    char dir[RESULT_PATH_MAX];
    struct err err = {""};
    struct buf path = BUF_INIT;
    char *text = NULL;
    size_t bytes = 0;
    struct callgrind profile = {0};
    struct costs costs = {0};
    int code = set_open(where, "callgrind.out", &set, dir, &err);
    if (code != 0) {
        return cmd_fail(code, &err);
    }
    buf_printf(&path, "%s/callgrind.out", dir);
    code = profile_read_file(path.data, PROFILE_RAW_BYTES_MAX, &text, &bytes, &err);
    if (code == 0) {
        code = callgrind_parse(&profile, text, bytes, &err);
        if (code == 0 && profile.ops == 0) {
            code = err_set(&err, -EBADMSG, "no 'desc: ops: N': not a canonical file");
        }
        if (code != 0) {
            err_prefix(&err, code, "%s", path.data);
        }
    }
    if (code != 0) {
        code = cmd_fail(CMD_UNREADABLE, &err);
        goto out;
    }
    collect(&costs, &profile, function);
    if (costs.count == 0) {
        err_set(&err, 0, "list: %s: no such function in %s: codeq-bench top -n 0 shows all",
                function, path.data);
        code = cmd_fail(CMD_USAGE, &err);
        goto out;
    }
    const char *scenario = strrchr(dir, '/') + 1;
    double ops = (double)profile.ops;
    if (where->as_json) {
        print_json(&set, scenario, function, &profile, &costs, ops);
        goto out;
    }
    char name[32];
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    double self = 0;
    double calls = 0;
    for (size_t i = 0; i < costs.count; i++) {
        self += (double)costs.lines[i].self;
        calls += (double)costs.lines[i].calls;
    }
    set_short_name(&set, name);
    printf("%s in %s of %s: %s instructions/op, and %s in what it calls\n", function, scenario,
           name, set_number(self / ops, 2, a), set_number(calls / ops, 2, b));
    for (size_t i = 0; i < costs.count;) {
        size_t end = i;
        while (end < costs.count && costs.lines[end].file == costs.lines[i].file) {
            end++;
        }
        print_file(&set, &profile, &costs.lines[i], end - i, ops);
        i = end;
    }
out:
    free(costs.lines);
    callgrind_fini(&profile);
    free(text);
    buf_fini(&path);
    return code;
}

int cmd_list(int argc, char **argv)
{
    static const struct option options[] = {
        {"scenario", required_argument, NULL, 's'},
        {"results", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct set_options where = {.results_dir = "results"};
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 's':
            where.scenario = optarg;
            break;
        case 'r':
            where.results_dir = optarg;
            break;
        case 'j':
            where.as_json = 1;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (argc - optind < 1 || argc - optind > 2) {
        err_set(&err, 0, "list: give a function, and at most one set: codeq-bench list --help");
        return cmd_fail(CMD_USAGE, &err);
    }
    where.set = argc - optind == 2 ? argv[optind + 1] : NULL;
    return show(&where, argv[optind]);
}
