#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "cmd.h"
#include "result.h"
#include "verify.h"

static const char help[] =
    "codeq-bench verify recomputes the checksums and summaries of a result set.\n\n"
    "usage: codeq-bench verify [OPTION...] [SET...]\n\n"
    "SET is a folder results/COMMIT/ENV; without one, the newest below results/ is checked.\n\n"
    "  --results DIR   look for the newest set there (default: results)\n"
    "  --json          one JSON object on stdout\n"
    "  --help          this text\n\n"
    "exit codes: 0 all is as measured, 5 something is not (file and line are named)\n\n"
    "examples:\n"
    "  codeq-bench verify\n"
    "  codeq-bench verify results/*/*\n";

static int verify_one(const char *set, bool as_json, struct json *sets)
{
    struct err err = {""};
    struct verify_counts counts = {0};
    int code = verify_set(set, &counts, &err);
    if (as_json) {
        struct json *one = json_new_object();
        json_add_string(one, "set", set);
        json_add_bool(one, "ok", code == 0);
        json_add_string(one, "error", err.text);
        json_add_int(one, "files", (int64_t)counts.files);
        json_add_int(one, "runs", (int64_t)counts.runs);
        json_append(sets, one);
    } else if (code == 0) {
        printf("%s: %zu files, %zu runs, %zu summaries: as measured\n", set, counts.files,
               counts.runs, counts.scenarios);
    }
    if (code != 0) {
        fprintf(stderr, "codeq-bench: verify: %s: %s\n", set, err.text);
        return CMD_UNREADABLE;
    }
    return CMD_OK;
}

int cmd_verify(int argc, char **argv)
{
    static const struct option options[] = {
        {"results", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *results = "results";
    bool as_json = false;
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'r':
            results = optarg;
            break;
        case 'j':
            as_json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    char newest[RESULT_PATH_MAX];
    char *only[] = {newest};
    char **sets = argv + optind;
    int count = argc - optind;
    if (count == 0) {
        struct err err;
        if (result_newest(results, newest, &err) != 0) {
            return cmd_fail(CMD_USAGE, &err);
        }
        sets = only;
        count = 1;
    }
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.verify/1");
    struct json *list = json_add_array(root, "sets");
    int exit_code = CMD_OK;
    for (int i = 0; i < count; i++) {
        int code = verify_one(sets[i], as_json, list);
        exit_code = code != CMD_OK ? code : exit_code;
    }
    if (as_json) {
        char *text = json_print_pretty(root);
        fputs(text, stdout);
        free(text);
    }
    json_free(root);
    return exit_code;
}
