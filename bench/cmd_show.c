/* codeq-bench show: latencies of a set as histogram and percentile spectrum, in text. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "runs_hist.h"
#include "set.h"

#define BAR_COLUMNS 48
#define ROWS_MAX 24 /* of a histogram */
#define SAMPLES_BEYOND_MIN 20

static const char help[] =
    "codeq-bench show draws a set's latencies as histogram and spectrum in the terminal.\n\n"
    "usage: codeq-bench show [OPTION...] [SET]\n\n"
    "SET is a commit, a tag, anything git can name, or a folder (default: the newest set).\n\n"
    "  --scenario ID    this scenario (default: the one that ran last)\n"
    "  --operation OP   only this operation: create, claim, ...\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --help           this text\n\n"
    "All runs together. The histogram's bars are shares of the calls; the spectrum's are "
    "latencies\n"
    "on a scale of logarithms, by how many nines the percentile has. What lies beyond a "
    "percentile\n"
    "with fewer than 20 calls is not shown.\n\n"
    "examples:\n"
    "  codeq-bench show\n"
    "  codeq-bench show HEAD~1 --scenario scheduler-create-claim-complete --operation claim\n";

/* "12.3 us" in 9 columns. */
static void print_time(double ns)
{
    static const struct {
        double size;
        const char *name;
    } units[] = {{1e9, " s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
    size_t u = 0;
    while (u + 1 < sizeof units / sizeof *units && ns < units[u].size) {
        u++;
    }
    double value = ns / units[u].size;
    printf("%6.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, units[u].name);
}

/* Eighths of a column; what is not nothing is seen. */
static void print_bar(double share)
{
    static const char *const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int eighths = (int)lround(share * BAR_COLUMNS * 8);
    eighths = share > 0 && eighths == 0 ? 1 : eighths;
    for (int i = 0; i < eighths / 8; i++) {
        fputs("█", stdout);
    }
    fputs(parts[eighths % 8], stdout);
}

/* Bins as wide as it takes to have at most ROWS_MAX from the least to the 99.9th percentile; above
 * it one line has the rest. */
static void print_histogram(const struct hist *hist)
{
    double least = log2(fmax(1, (double)hist_min_ns(hist)));
    double most = log2(fmax(2, (double)hist_quantile_ns(hist, 0.999)));
    double width = fmax(0.125, (most - least) / (ROWS_MAX - 1));
    double total = (double)hist_count(hist);
    double counts[ROWS_MAX + 1] = {0};
    double largest = 0;
    for (struct hist_bucket b = HIST_BEGIN; hist_next(hist, &b);) {
        double middle = log2(fmax(1, ((double)b.low_ns + (double)b.high_ns) / 2));
        double at = fmax(0, floor((middle - least) / width));
        int bin = middle > most || at >= ROWS_MAX ? ROWS_MAX : (int)at;
        counts[bin] += (double)b.count;
    }
    int last = 0;
    for (int i = 0; i <= ROWS_MAX; i++) {
        largest = fmax(largest, counts[i]);
        last = i < ROWS_MAX && counts[i] > 0 ? i : last;
    }
    puts("  histogram");
    for (int i = 0; i <= last; i++) {
        fputs("    ", stdout);
        print_time(pow(2, least + i * width));
        printf(" %7.3f %% ", 100 * counts[i] / total);
        print_bar(counts[i] / largest);
        puts("");
    }
    if (counts[ROWS_MAX] > 0) {
        printf("    above     %7.3f %% ", 100 * counts[ROWS_MAX] / total);
        print_bar(counts[ROWS_MAX] / largest);
        printf(" to ");
        print_time((double)hist_max_ns(hist));
        puts("");
    }
}

static void print_spectrum(const struct hist *hist)
{
    static const struct {
        double q;
        const char *name;
    } rows[] = {{0.5, "p50"},       {0.75, "p75"},       {0.9, "p90"},     {0.95, "p95"},
                {0.99, "p99"},      {0.995, "p99.5"},    {0.999, "p99.9"}, {0.9995, "p99.95"},
                {0.9999, "p99.99"}, {0.99999, "p99.999"}};
    double least = log2(fmax(1, (double)hist_min_ns(hist)));
    double most = log2(fmax(2, (double)hist_max_ns(hist)));
    double scale = fmax(1e-9, most - least);
    puts("  spectrum, by nines");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (hist_beyond_quantile(hist, rows[i].q) < SAMPLES_BEYOND_MIN) {
            break;
        }
        double ns = (double)hist_quantile_ns(hist, rows[i].q);
        printf("    %-8s", rows[i].name);
        print_time(ns);
        fputs("  ", stdout);
        print_bar((log2(fmax(1, ns)) - least) / scale);
        puts("");
    }
    printf("    %-8s", "max");
    print_time((double)hist_max_ns(hist));
    fputs("  ", stdout);
    print_bar(1);
    puts("");
}

static int show(const struct set_options *where, const char *operation)
{
    struct result_set set;
    char dir[RESULT_PATH_MAX];
    char path[RESULT_PATH_MAX + 32];
    char name[32];
    struct err err = {""};
    struct result_runs runs = {0};
    int code = set_open(where, "runs.ndjson", &set, dir, &err);
    if (code != 0) {
        err_prefix(&err, 0, "show");
        return cmd_fail(code, &err);
    }
    snprintf(path, sizeof path, "%s/runs.ndjson", dir);
    code = result_runs_read(path, true, &runs, &err);
    if (code != 0) {
        err_prefix(&err, 0, "show");
        return cmd_fail(CMD_UNREADABLE, &err);
    }
    set_short_name(&set, name);
    int shown = 0;
    for (const struct json *c = runs_hist_operations(&runs); c != NULL; c = json_next(c)) {
        struct hist hist;
        size_t count;
        if ((operation != NULL && strcmp(operation, json_key(c)) != 0) ||
            !runs_hist(&runs, json_key(c), &hist, &count)) {
            continue;
        }
        if (hist_count(&hist) > 0) {
            printf("%s%s of %s in %s: %" PRId64 " calls in %zu run%s\n", shown++ > 0 ? "\n" : "",
                   json_key(c), strrchr(dir, '/') + 1, name, hist_count(&hist), count,
                   count == 1 ? "" : "s");
            print_histogram(&hist);
            print_spectrum(&hist);
        }
        hist_fini(&hist);
    }
    result_runs_free(&runs);
    if (shown == 0) {
        err_set(&err, 0, "show: %s: no latencies%s%s: counts only? codeq-bench report draws those",
                dir, operation != NULL ? " of " : "", operation != NULL ? operation : "");
        return cmd_fail(CMD_USAGE, &err);
    }
    return CMD_OK;
}

int cmd_show(int argc, char **argv)
{
    static const struct option options[] = {
        {"scenario", required_argument, NULL, 's'},
        {"operation", required_argument, NULL, 'o'},
        {"results", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct set_options where = {.results_dir = "results"};
    const char *operation = NULL;
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 's':
            where.scenario = optarg;
            break;
        case 'o':
            operation = optarg;
            break;
        case 'r':
            where.results_dir = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (argc - optind > 1) {
        err_set(&err, 0, "show: %d sets: give at most one", argc - optind);
        return cmd_fail(CMD_USAGE, &err);
    }
    where.set = argc > optind ? argv[optind] : NULL;
    return show(&where, operation);
}
