#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "cmd.h"
#include "profile_table.h"
#include "set.h"

static const char help[] =
    "codeq-bench top shows the functions that cost the most instructions.\n\n"
    "usage: codeq-bench top [OPTION...] [SET]\n\n"
    "SET is a commit, a tag, anything git can name, or a folder (default: the newest set).\n\n"
    "  --by WHAT        self: in the function itself (default); inclusive: and what it calls\n"
    "  -n, --count N    how many functions (default: 10; 0: all)\n"
    "  --scenario ID    of this scenario (default: the one profiled last)\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "examples:\n"
    "  codeq-bench top\n"
    "  codeq-bench top --by inclusive -n 20\n"
    "  codeq-bench top HEAD~3 --scenario json-large\n";

static int by_self(const void *a, const void *b)
{
    const struct profile_row *x = a;
    const struct profile_row *y = b;
    return (x->value[FUNCTION_SELF] < y->value[FUNCTION_SELF]) -
           (x->value[FUNCTION_SELF] > y->value[FUNCTION_SELF]);
}

static int by_inclusive(const void *a, const void *b)
{
    const struct profile_row *x = a;
    const struct profile_row *y = b;
    return (x->value[FUNCTION_INCLUSIVE] < y->value[FUNCTION_INCLUSIVE]) -
           (x->value[FUNCTION_INCLUSIVE] > y->value[FUNCTION_INCLUSIVE]);
}

static void print_json(const struct profile_table *table, const struct result_set *set,
                       const char *scenario, size_t shown, double total, double ops)
{
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.top/1");
    json_add_string(root, "commit", set->commit);
    json_add_string(root, "env8", set->env8);
    json_add_string(root, "scenario", scenario);
    json_add_int(root, "ops", table->ops);
    json_add_number(root, "instructions_per_op", total / ops);
    struct json *list = json_add_array(root, "functions");
    for (size_t i = 0; i < shown; i++) {
        const struct profile_row *row = &table->rows[i];
        struct json *object = json_new_object();
        json_add_string(object, "function", row->text[FUNCTION_NAME]);
        json_add_string(object, "object", row->text[FUNCTION_OBJECT]);
        json_add_string(object, "file", row->text[FUNCTION_FILE]);
        json_add_number(object, "self_per_op", (double)row->value[FUNCTION_SELF] / ops);
        json_add_number(object, "inclusive_per_op", (double)row->value[FUNCTION_INCLUSIVE] / ops);
        json_add_number(object, "calls_per_op", (double)row->value[FUNCTION_CALLS] / ops);
        json_append(list, object);
    }
    char *text = json_print_pretty(root);
    fputs(text, stdout);
    free(text);
    json_free(root);
}

static void print_table(const struct profile_table *table, const struct result_set *set,
                        const char *scenario, size_t shown, double total, double ops)
{
    char name[32];
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char c[SET_NUMBER_BYTES];
    double rest = total;
    double sum = 0;
    set_short_name(set, name);
    printf("%s of %s: %s instructions/op\n\n", scenario, name, set_number(total / ops, 2, a));
    printf("%12s %6s %6s %14s %6s %10s  %s\n", "self/op", "%", "sum %", "inclusive/op", "%",
           "calls/op", "function");
    for (size_t i = 0; i < shown; i++) {
        const struct profile_row *row = &table->rows[i];
        double self = (double)row->value[FUNCTION_SELF];
        double inclusive = (double)row->value[FUNCTION_INCLUSIVE];
        rest -= self;
        sum += self;
        printf("%12s %6.2f %6.2f %14s %6.2f %10s  %s (%s)\n", set_number(self / ops, 2, a),
               100 * self / total, 100 * sum / total, set_number(inclusive / ops, 2, b),
               100 * inclusive / total, set_number((double)row->value[FUNCTION_CALLS] / ops, 2, c),
               row->text[FUNCTION_NAME], row->text[FUNCTION_OBJECT]);
    }
    if (shown < table->count) {
        printf("%12s %6.2f %6s %14s %6s %10s  %zu other functions\n", set_number(rest / ops, 2, a),
               100 * rest / total, "", "", "", "", table->count - shown);
    }
}

int cmd_top(int argc, char **argv)
{
    static const struct option options[] = {
        {"by", required_argument, NULL, 'b'},
        {"count", required_argument, NULL, 'n'},
        {"scenario", required_argument, NULL, 's'},
        {"results", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct set_options where = {.results_dir = "results"};
    int (*order)(const void *, const void *) = by_self;
    int64_t count = 10;
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "n:h", options, NULL)) != -1) {
        switch (c) {
        case 'b':
            if (strcmp(optarg, "self") != 0 && strcmp(optarg, "inclusive") != 0) {
                err_set(&err, 0, "top: --by %s: unknown: give self or inclusive", optarg);
                return cmd_fail(CMD_USAGE, &err);
            }
            order = strcmp(optarg, "self") == 0 ? by_self : by_inclusive;
            break;
        case 'n':
            if (args_int(optarg, 0, 1000000, &count, &err) != 0) {
                err_prefix(&err, 0, "top: --count");
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
        err_set(&err, 0, "top: %s: one set at a time", argv[optind + 1]);
        return cmd_fail(CMD_USAGE, &err);
    }
    where.set = argv[optind];
    struct result_set set;
    char dir[RESULT_PATH_MAX];
    int code = set_open(&where, profile_table_file(PROFILE_TABLE_FUNCTIONS), &set, dir, &err);
    if (code != 0) {
        return cmd_fail(code, &err);
    }
    struct profile_table table;
    if (profile_table_read(&table, PROFILE_TABLE_FUNCTIONS, dir, &err) != 0) {
        return cmd_fail(CMD_UNREADABLE, &err);
    }
    double total = (double)profile_table_sum(&table, FUNCTION_SELF);
    if (table.ops == 0 || total <= 0) {
        err_set(&err, 0, "%s/functions.tsv: no operations or no instructions in it", dir);
        profile_table_fini(&table);
        return cmd_fail(CMD_UNREADABLE, &err);
    }
    qsort(table.rows, table.count, sizeof *table.rows, order);
    size_t shown = count == 0 || (size_t)count > table.count ? table.count : (size_t)count;
    const char *scenario = strrchr(dir, '/') + 1;
    if (where.as_json) {
        print_json(&table, &set, scenario, shown, total, (double)table.ops);
    } else {
        print_table(&table, &set, scenario, shown, total, (double)table.ops);
    }
    profile_table_fini(&table);
    return CMD_OK;
}
