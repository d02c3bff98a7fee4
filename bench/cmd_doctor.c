#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "cmd.h"
#include "doctor.h"

static const char help[] =
    "codeq-bench doctor says what this machine can and cannot measure, and what to do about it.\n\n"
    "usage: codeq-bench doctor [OPTION...]\n\n"
    "  --json   one JSON object on stdout\n"
    "  --help   this text\n\n"
    "exit codes: 0 benchmarks can run here, 2 something they cannot do without is missing\n\n"
    "examples:\n"
    "  codeq-bench doctor\n"
    "  codeq-bench doctor --json\n";

static void print_json(const struct doctor_report *report)
{
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.doctor/1");
    struct json *list = json_add_array(root, "checks");
    for (size_t i = 0; i < report->count; i++) {
        const struct doctor_check *check = &report->checks[i];
        struct json *one = json_new_object();
        json_add_string(one, "name", check->name);
        json_add_string(one, "verdict", doctor_verdict_name(check->verdict));
        json_add_string(one, "found", check->found);
        json_add_string(one, "advice", check->advice);
        json_append(list, one);
    }
    char *text = json_print_pretty(root);
    fputs(text, stdout);
    free(text);
    json_free(root);
}

static void print_text(const struct doctor_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct doctor_check *check = &report->checks[i];
        printf("%-8s %-20s %s\n", doctor_verdict_name(check->verdict), check->name, check->found);
        if (check->advice[0] != '\0') {
            printf("%-8s %-20s   %s\n", "", "", check->advice);
        }
    }
}

int cmd_doctor(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool as_json = false;
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
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
    if (optind < argc) {
        fprintf(stderr, "codeq-bench: doctor: %s: takes no arguments\n", argv[optind]);
        return CMD_USAGE;
    }
    struct doctor_report report;
    doctor_examine(&report, "");
    if (as_json) {
        print_json(&report);
    } else {
        print_text(&report);
    }
    for (size_t i = 0; i < report.count; i++) {
        if (doctor_blocks_run(&report.checks[i])) {
            return CMD_USAGE;
        }
    }
    return CMD_OK;
}
