#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "cmd.h"
#include "profile_table.h"
#include "set.h"

static const char help[] =
    "codeq-bench heap shows where memory is allocated.\n\n"
    "usage: codeq-bench heap [OPTION...] [SET]\n\n"
    "SET is a commit, a tag, anything git can name, or a folder (default: the newest set).\n\n"
    "  --by WHAT        bytes: asked for per operation (default); allocs: blocks per operation;\n"
    "                   live: bytes per operation still held at the end; peak: bytes at the peak\n"
    "  -n, --count N    how many sites (default: 10; 0: all)\n"
    "  --frames N       callers shown of a site, 1..64 (default: 4)\n"
    "  --scenario ID    of this scenario (default: the one profiled last)\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "examples:\n"
    "  codeq-bench heap\n"
    "  codeq-bench heap --by live\n"
    "  codeq-bench heap --by peak -n 20 v1.2\n";

static const struct {
    const char *name;
    int value;
    bool per_op;
    const char *title;
} kinds[] = {
    {"bytes", HEAP_BYTES, true, "B/op"},
    {"allocs", HEAP_BLOCKS, true, "allocations/op"},
    {"live", HEAP_LIVE_BYTES, true, "live B/op"},
    {"peak", HEAP_PEAK_BYTES, false, "B at the peak"},
};

static int by_value(const void *a, const void *b, void *context)
{
    int value = *(const int *)context;
    const struct profile_row *x = a;
    const struct profile_row *y = b;
    int order = (x->value[value] < y->value[value]) - (x->value[value] > y->value[value]);
    return order != 0 ? order : strcmp(x->text[0], y->text[0]);
}

/* "main;a;b;leaf" -> "leaf < b < a", at most `frames` of them. */
static void print_site(const char *site, int64_t frames)
{
    const char *end = site + strlen(site);
    for (int64_t i = 0; i < frames; i++) {
        const char *start = end;
        while (start > site && start[-1] != ';') {
            start--;
        }
        printf("%s%.*s", i > 0 ? " < " : "", (int)(end - start), start);
        if (start == site) {
            return;
        }
        end = start - 1;
    }
    fputs(" < ...", stdout);
}

static void print_json(const struct profile_table *table, const struct result_set *set,
                       const char *scenario, size_t shown, const char *by)
{
    static const char *const keys[] = {"blocks_per_op",     "bytes_per_op", "live_blocks_per_op",
                                       "live_bytes_per_op", "peak_blocks",  "peak_bytes"};
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.heap-view/1");
    json_add_string(root, "commit", set->commit);
    json_add_string(root, "env8", set->env8);
    json_add_string(root, "scenario", scenario);
    json_add_string(root, "by", by);
    json_add_int(root, "ops", table->ops);
    struct json *list = json_add_array(root, "sites");
    for (size_t i = 0; i < shown; i++) {
        struct json *object = json_new_object();
        json_add_string(object, "site", table->rows[i].text[0]);
        for (int v = 0; v < 6; v++) {
            double value = (double)table->rows[i].value[v];
            json_add_number(object, keys[v],
                            v < HEAP_PEAK_BLOCKS ? value / (double)table->ops : value);
        }
        json_append(list, object);
    }
    char *text = json_print_pretty(root);
    fputs(text, stdout);
    free(text);
    json_free(root);
}

static void print_table(const struct profile_table *table, const struct result_set *set,
                        const char *scenario, size_t shown, size_t kind, int64_t frames)
{
    char name[32];
    char a[SET_NUMBER_BYTES];
    double ops = kinds[kind].per_op ? (double)table->ops : 1;
    double total = (double)profile_table_sum(table, kinds[kind].value);
    double rest = total;
    set_short_name(set, name);
    printf("%s of %s: %s %s\n\n", scenario, name, set_number(total / ops, 2, a), kinds[kind].title);
    printf("%14s %6s  %s\n", kinds[kind].title, "%", "allocated by < called by");
    for (size_t i = 0; i < shown; i++) {
        double value = (double)table->rows[i].value[kinds[kind].value];
        if (value == 0) {
            shown = i;
            break;
        }
        rest -= value;
        printf("%14s %6.2f  ", set_number(value / ops, 2, a),
               total != 0 ? 100 * value / total : 0.0);
        print_site(table->rows[i].text[0], frames);
        puts("");
    }
    if (rest != 0) {
        printf("%14s %6.2f  other sites\n", set_number(rest / ops, 2, a), 100 * rest / total);
    }
}

int cmd_heap(int argc, char **argv)
{
    static const struct option options[] = {
        {"by", required_argument, NULL, 'b'},      {"count", required_argument, NULL, 'n'},
        {"frames", required_argument, NULL, 'f'},  {"scenario", required_argument, NULL, 's'},
        {"results", required_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    struct set_options where = {.results_dir = "results"};
    size_t kind = 0;
    int64_t count = 10;
    int64_t frames = 4;
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "n:h", options, NULL)) != -1) {
        switch (c) {
        case 'b':
            for (kind = 0; kind < 4 && strcmp(kinds[kind].name, optarg) != 0; kind++) {
            }
            if (kind == 4) {
                err_set(&err, 0, "heap: --by %s: unknown: give bytes, allocs, live or peak",
                        optarg);
                return cmd_fail(CMD_USAGE, &err);
            }
            break;
        case 'n':
        case 'f':
            if (args_int(optarg, c == 'n' ? 0 : 1, c == 'n' ? 1000000 : 64,
                         c == 'n' ? &count : &frames, &err) != 0) {
                err_prefix(&err, 0, "heap: --%s", c == 'n' ? "count" : "frames");
                return cmd_fail(CMD_USAGE, &err);
            }
            break;
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
    if (argc - optind > 1) {
        err_set(&err, 0, "heap: %s: one set at a time", argv[optind + 1]);
        return cmd_fail(CMD_USAGE, &err);
    }
    where.set = argv[optind];
    struct result_set set;
    char dir[RESULT_PATH_MAX];
    int code = set_open(&where, profile_table_file(PROFILE_TABLE_HEAP), &set, dir, &err);
    if (code != 0) {
        return cmd_fail(code, &err);
    }
    struct profile_table table;
    if (profile_table_read(&table, PROFILE_TABLE_HEAP, dir, &err) != 0) {
        return cmd_fail(CMD_UNREADABLE, &err);
    }
    if (table.ops == 0) {
        err_set(&err, 0, "%s/heap.tsv: stands for no operation", dir);
        profile_table_fini(&table);
        return cmd_fail(CMD_UNREADABLE, &err);
    }
    int value = kinds[kind].value;
    qsort_r(table.rows, table.count, sizeof *table.rows, by_value, &value);
    size_t shown = count == 0 || (size_t)count > table.count ? table.count : (size_t)count;
    const char *scenario = strrchr(dir, '/') + 1;
    if (where.as_json) {
        print_json(&table, &set, scenario, shown, kinds[kind].name);
    } else {
        print_table(&table, &set, scenario, shown, kind, frames);
    }
    profile_table_fini(&table);
    return CMD_OK;
}
