/* codeq-bench export: a result set in another tool's format. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "cmd.h"
#include "export.h"
#include "set.h"

static const char help[] =
    "codeq-bench export writes a result set in another tool's format.\n\n"
    "usage: codeq-bench export --format FORMAT [OPTION...] [SET]\n\n"
    "SET is a commit, a tag, anything git can name, or a folder (default: the newest set).\n\n"
    "of a scenario's profile (default: the scenario profiled last):\n"
    "  pprof         gzipped profile: go tool pprof, speedscope\n"
    "  folded        \"a;b;c 12\" a line: flamegraph.pl, speedscope\n"
    "  speedscope    speedscope's own JSON\n"
    "  chrome        trace events, a microsecond being one of what is weighed: Perfetto\n"
    "of a set's metrics:\n"
    "  csv           a line a metric: spreadsheets\n"
    "  openmetrics   gauges: Prometheus, as text\n"
    "  benchstat     Go's benchmark format, a line a run\n\n"
    "  --format FORMAT  one of these\n"
    "  --weight NAME    of a profile: instructions (default), or of the heap bytes, blocks, live,\n"
    "                   peak\n"
    "  --scenario ID    only this scenario\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  -o, --output FILE  write there (default: stdout)\n"
    "  --help           this text\n\n"
    "examples:\n"
    "  codeq-bench export --format pprof -o claim.pb.gz && go tool pprof -top claim.pb.gz\n"
    "  codeq-bench export --format csv HEAD~3 > metrics.csv\n"
    "  codeq-bench export --format folded --weight bytes\n";

struct options {
    struct set_options where;
    enum export_format format;
    enum export_weight weight;
    bool has_format;
    const char *output;
};

static int export_set(const struct options *o, struct buf *out, struct err *err)
{
    struct result_set set;
    char dir[RESULT_PATH_MAX];
    char name[256];
    if (!export_is_profile(o->format)) {
        struct set_options any = o->where;
        int code = set_open(&any, "summary.json", &set, dir, err);
        if (code != 0) {
            return code;
        }
        code = export_metrics(o->format, &set, o->where.scenario, out, err);
        return code == 0 ? CMD_OK : code == -ENOENT ? CMD_USAGE : CMD_UNREADABLE;
    }
    const char *needs = o->weight == EXPORT_INSTRUCTIONS ? "folded.txt" : "heap.tsv";
    int code = set_open(&o->where, needs, &set, dir, err);
    if (code != 0) {
        return code;
    }
    char short_name[32];
    set_short_name(&set, short_name);
    snprintf(name, sizeof name, "%.100s %s, %s", strrchr(dir, '/') + 1, short_name,
             export_weight_name(o->weight));
    code = export_profile(o->format, o->weight, dir, name, out, err);
    return code == 0 ? CMD_OK : code == -EBADMSG ? CMD_UNREADABLE : CMD_USAGE;
}

static int write_out(const struct options *o, const struct buf *text, struct err *err)
{
    if (o->output != NULL) {
        return result_write_file(o->output, text->data, text->bytes, err);
    }
    if (o->format == EXPORT_PPROF && isatty(STDOUT_FILENO) == 1) {
        return err_set(err, -EINVAL, "pprof is binary: give -o FILE, or redirect it");
    }
    if (fwrite(text->data, 1, text->bytes, stdout) != text->bytes || fflush(stdout) != 0) {
        return err_set(err, -EIO, "stdout: %m");
    }
    return 0;
}

/* -1: go on. */
static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"format", required_argument, NULL, 'f'},
        {"weight", required_argument, NULL, 'w'},
        {"scenario", required_argument, NULL, 's'},
        {"results", required_argument, NULL, 'r'},
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "ho:", options, NULL)) != -1) {
        switch (c) {
        case 'f':
            if (export_format_parse(optarg, &o->format) != 0) {
                err_set(&err, 0,
                        "export: --format %.40s: unknown: give pprof, folded, speedscope, chrome, "
                        "csv, openmetrics or benchstat",
                        optarg);
                return cmd_fail(CMD_USAGE, &err);
            }
            o->has_format = true;
            break;
        case 'w':
            if (export_weight_parse(optarg, &o->weight) != 0) {
                err_set(&err, 0,
                        "export: --weight %.40s: unknown: give instructions, bytes, blocks, live "
                        "or peak",
                        optarg);
                return cmd_fail(CMD_USAGE, &err);
            }
            break;
        case 's':
            o->where.scenario = optarg;
            break;
        case 'r':
            o->where.results_dir = optarg;
            break;
        case 'o':
            o->output = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (!o->has_format) {
        err_set(&err, 0, "export: no format: give --format csv, or see codeq-bench export --help");
        return cmd_fail(CMD_USAGE, &err);
    }
    if (argc - optind > 1) {
        err_set(&err, 0, "export: %d sets: give at most one", argc - optind);
        return cmd_fail(CMD_USAGE, &err);
    }
    o->where.set = argc > optind ? argv[optind] : NULL;
    return -1;
}

int cmd_export(int argc, char **argv)
{
    struct options o = {.where = {.results_dir = "results"}};
    int code = parse(argc, argv, &o);
    if (code >= 0) {
        return code;
    }
    struct err err = {""};
    struct buf text = BUF_INIT;
    code = export_set(&o, &text, &err);
    if (code == CMD_OK && write_out(&o, &text, &err) != 0) {
        code = CMD_USAGE;
    }
    buf_fini(&text);
    if (code != CMD_OK) {
        err_prefix(&err, 0, "export");
        return cmd_fail(code, &err);
    }
    return CMD_OK;
}
