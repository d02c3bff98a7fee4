/* codeq-bench: the laboratory. main is a table of subcommands; the work is in cmd_*.c. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
    {"run", cmd_run, "measure, count and profile a scenario; writes a result set"},
    {"compare", cmd_compare, "what a commit did to counts and times, and why"},
    {"top", cmd_top, "the functions that cost the most instructions"},
    {"list", cmd_list, "a function's source lines with the instructions of each"},
    {"heap", cmd_heap, "where memory is allocated"},
    {"history", cmd_history, "a metric over commits, and where it changed"},
    {"backfill", cmd_backfill, "measure the commits of a range that have no result set"},
    {"bisect", cmd_bisect, "which commit of a range changed a metric"},
    {"selftest", cmd_selftest,
     "can the laboratory be trusted here: like with like, planted changes"},
    {"env", cmd_env, "how the machines of two result sets differ"},
    {"prune", cmd_prune, "remove old result sets, after saying which"},
    {"stats", cmd_stats, "one statistic of the vectors on stdin, to check it from outside"},
    {"load", cmd_load, "drive the HTTP service on schedule and judge its objectives"},
    {"report", cmd_report, "result sets as one HTML page that opens offline"},
    {"show", cmd_show, "a set's latencies as histogram and spectrum in the terminal"},
    {"export", cmd_export, "a set for pprof, speedscope, Perfetto, spreadsheets, Prometheus"},
    {"verify", cmd_verify, "recompute a result set's checksums and summaries"},
    {"doctor", cmd_doctor, "what this machine can and cannot measure"},
};

static volatile sig_atomic_t stop_flag;

static void on_stop(int number)
{
    (void)number;
    stop_flag = 1;
}

bool cmd_stopped(void)
{
    return stop_flag != 0;
}

int cmd_fail(int code, const struct err *err)
{
    fprintf(stderr, "codeq-bench: %s\n", err->text);
    return code;
}

static void print_help(FILE *out)
{
    fputs("codeq-bench measures what a commit did to the scheduler's hot path.\n\n"
          "usage: codeq-bench COMMAND [ARGS]\n\n",
          out);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    }
    fputs("\n`codeq-bench COMMAND --help` tells more.\n\n"
          "exit codes: 0 ok, 1 worse, 2 usage or environment, 3 not comparable, 4 inconclusive,\n"
          "5 unreadable or failed verify, 6 the lab's own check failed, 130 interrupted\n\n"
          "examples:\n"
          "  codeq-bench run\n"
          "  codeq-bench run --quick\n"
          "  codeq-bench run scheduler-create-claim-complete --profile\n"
          "  codeq-bench verify\n",
          out);
}

int main(int argc, char **argv)
{
    static char name[] = "codeq-bench";
    if (argc > 0) {
        argv[0] = name;
    }
    struct sigaction action = {.sa_handler = on_stop};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_help(stderr);
        return CMD_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CMD_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("codeq-bench %s\n", CODEQ_VERSION);
        return CMD_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            argv[1] = argv[0]; /* getopt's own texts begin with the program's name */
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "codeq-bench: %s: no such command: codeq-bench --help lists them\n", argv[1]);
    return CMD_USAGE;
}
