/* codeq-bench stats NAME: one statistic of the vectors on stdin. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "cmd.h"
#include "stats_json.h"

#define INPUT_BYTES_MAX (16 * 1024 * 1024)

static void print_help(void)
{
    fputs("Compute one statistic of the vectors on stdin: a JSON object in, a JSON object out.\n\n"
          "usage: codeq-bench stats NAME < vectors.json\n\n"
          "names (bench/README.md has their fields):\n",
          stdout);
    stats_json_list(stdout);
    fputs("\noptions:\n"
          "  --help   this text\n\n"
          "examples:\n"
          "  echo '{\"p\": [0.01, 0.04, 0.03, 0.005]}' | codeq-bench stats holm\n"
          "  echo '{\"x\": [1.8, 0.5, 1.6], \"y\": [0.9, 0.6, 0.6]}' | codeq-bench stats wilcoxon\n"
          "  echo '{\"n\": 20000, \"p\": 0.999}' | codeq-bench stats quantile-ranks\n",
          stdout);
}

/* All of stdin. */
static int read_input(struct buf *text, struct err *err)
{
    char piece[65536];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n == 0) {
            return 0;
        }
        if (n < 0) {
            return err_set(err, -errno, "stats: stdin: %s", strerror(errno));
        }
        if (text->bytes + (size_t)n > INPUT_BYTES_MAX) {
            return err_set(err, -EFBIG, "stats: stdin: more than 16 MiB: give fewer values");
        }
        buf_append(text, piece, (size_t)n);
    }
}

int cmd_stats(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct err err;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') {
            print_help();
            return CMD_OK;
        }
        return CMD_USAGE;
    }
    if (argc - optind != 1) {
        err_set(&err, -EINVAL, "stats: give one name: codeq-bench stats --help lists them");
        return cmd_fail(CMD_USAGE, &err);
    }
    struct buf text = BUF_INIT;
    struct json *input = NULL;
    struct json *answer = NULL;
    int code = CMD_USAGE;
    if (read_input(&text, &err) != 0) {
        goto out;
    }
    input = json_parse(text.bytes > 0 ? text.data : "", text.bytes, &err);
    if (input == NULL) {
        err_prefix(&err, -EINVAL, "stats: stdin");
        goto out;
    }
    answer = stats_json(argv[optind], input, &err);
    if (answer == NULL) {
        err_prefix(&err, -EINVAL, "stats: %s", argv[optind]);
        goto out;
    }
    char *printed = json_print_pretty(answer);
    fputs(printed, stdout);
    free(printed);
    code = CMD_OK;
out:
    if (code != CMD_OK) {
        cmd_fail(code, &err);
    }
    json_free(answer);
    json_free(input);
    buf_fini(&text);
    return code;
}
