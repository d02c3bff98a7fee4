#include "profile.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "profile_callgrind.h"
#include "profile_dhat.h"
#include "profile_massif.h"
#include "profile_text.h"

/* Above this the canonical callgrind file keeps edges only; the exact stacks are in folded.txt. */
#define CALLGRIND_OUT_BYTES_MAX (200u << 10)
/* Instructions between START, the region function and STOP that are still a harness's own. */
#define OUTSIDE_INSTRUCTIONS_MAX 2000

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static const char *const callgrind_argv[] = {
    "valgrind",
    "--tool=callgrind",
    "--quiet",
    "--instr-atstart=no",
    "--separate-callers=" TEXT(PROFILE_CALLERS_MAX),
    "--callgrind-out-file=callgrind.raw",
    NULL,
};

/* Every allocation is looked at (peak-inaccuracy 0), time is bytes allocated, not instructions. */
static const char *const massif_argv[] = {
    "valgrind",
    "--tool=massif",
    "--quiet",
    "--time-unit=B",
    "--peak-inaccuracy=0.0",
    "--massif-out-file=massif.raw",
    NULL,
};

static const char *const dhat_argv[] = {
    "valgrind", "--tool=dhat", "--quiet", "--num-callers=40", "--dhat-out-file=dhat.raw", NULL,
};

static const struct {
    const char *name;
    const char *raw;
    const char *const *argv;
} tools[PROFILE_TOOL_COUNT] = {
    [PROFILE_CALLGRIND] = {"callgrind", "callgrind.raw", callgrind_argv},
    [PROFILE_MASSIF] = {"massif", "massif.raw", massif_argv},
    [PROFILE_DHAT] = {"dhat", "dhat.raw", dhat_argv},
};

const char *profile_tool_name(enum profile_tool tool)
{
    return tools[tool].name;
}

const char *const *profile_argv(enum profile_tool tool)
{
    return tools[tool].argv;
}

const char *profile_raw_name(enum profile_tool tool)
{
    return tools[tool].raw;
}

static int read_raw(enum profile_tool tool, const struct profile_run *run, char **out_text,
                    size_t *out_bytes, struct buf *path, struct err *err)
{
    buf_clear(path);
    buf_printf(path, "%s/%s", run->dir, tools[tool].raw);
    return profile_read_file(path->data, PROFILE_RAW_BYTES_MAX, out_text, out_bytes, err);
}

static int write_table(const struct profile_keep_options *options, struct profile_table *table,
                       struct err *err)
{
    struct buf text = BUF_INIT;
    profile_table_write(&text, table);
    int code = profile_write_file(options->out_dir, profile_table_file(table->kind), &text, err);
    buf_fini(&text);
    return code;
}

/* The table of the second run less the first, or the first alone. */
static int write_difference(const struct profile_keep_options *options, struct profile_table *first,
                            struct profile_table *second, struct err *err)
{
    first->ops = options->first.ops;
    if (second == NULL) {
        return write_table(options, first, err);
    }
    struct profile_table slope;
    second->ops = options->second.ops;
    profile_table_subtract(&slope, second, first);
    int code = write_table(options, &slope, err);
    profile_table_fini(&slope);
    return code;
}

static int keep_callgrind_out(const struct callgrind *profile, int64_t ops,
                              const struct profile_keep_options *options, struct err *err)
{
    struct callgrind_write_options how = {ops, options->local_paths, false};
    struct buf text = BUF_INIT;
    callgrind_write(&text, profile, &how);
    if (text.bytes > CALLGRIND_OUT_BYTES_MAX) {
        buf_clear(&text);
        how.merge_callers = true;
        callgrind_write(&text, profile, &how);
    }
    int code = profile_write_file(options->out_dir, "callgrind.out", &text, err);
    buf_fini(&text);
    return code;
}

static int keep_callgrind(const struct profile_keep_options *options, int runs,
                          struct profile_totals *totals, struct err *err)
{
    struct callgrind profiles[2] = {0};
    struct callgrind_region regions[2] = {0};
    struct buf path = BUF_INIT;
    const char *region = options->region != NULL ? options->region : PROFILE_REGION;
    int code = 0;
    for (int i = 0; i < runs && code == 0; i++) {
        const struct profile_run *run = i == 0 ? &options->first : &options->second;
        char *text = NULL;
        size_t bytes = 0;
        code = read_raw(PROFILE_CALLGRIND, run, &text, &bytes, &path, err);
        if (code != 0) {
            goto out;
        }
        code = callgrind_parse(&profiles[i], text, bytes, err);
        free(text);
        if (code == 0) {
            code = callgrind_region(&regions[i], &profiles[i], region, PROFILE_CALLERS_MAX,
                                    options->local_paths, err);
        }
        if (code == 0 && regions[i].outside > OUTSIDE_INSTRUCTIONS_MAX &&
            regions[i].outside > regions[i].inside / 1000) {
            code = err_set(
                err, -EBADMSG,
                "%" PRId64 " of %" PRId64 " instructions did not run below %s: most of them in %s",
                regions[i].outside, profiles[i].total, region, regions[i].outside_function);
        }
        if (code != 0) {
            err_prefix(err, code, "%s", path.data);
            goto out;
        }
        totals->instructions[i] = regions[i].inside;
        totals->outside_instructions[i] = regions[i].outside;
    }
    int last = runs - 1;
    code = keep_callgrind_out(&profiles[last], last == 0 ? options->first.ops : options->second.ops,
                              options, err);
    if (code == 0) {
        code = write_difference(options, &regions[0].functions,
                                runs == 2 ? &regions[1].functions : NULL, err);
    }
    if (code == 0) {
        code = write_difference(options, &regions[0].stacks, runs == 2 ? &regions[1].stacks : NULL,
                                err);
    }
out:
    for (int i = 0; i < 2; i++) {
        callgrind_fini(&profiles[i]);
        callgrind_region_fini(&regions[i]);
    }
    buf_fini(&path);
    return code;
}

static int keep_massif(const struct profile_keep_options *options, int runs,
                       struct profile_totals *totals, struct err *err)
{
    struct buf path = BUF_INIT;
    struct buf canonical = BUF_INIT;
    int code = 0;
    for (int i = 0; i < runs && code == 0; i++) {
        const struct profile_run *run = i == 0 ? &options->first : &options->second;
        char *text = NULL;
        size_t bytes = 0;
        buf_clear(&canonical);
        code = read_raw(PROFILE_MASSIF, run, &text, &bytes, &path, err);
        if (code == 0) {
            code = massif_canonical(&canonical, text, bytes, options->local_paths,
                                    &totals->peak_bytes[i], err);
            if (code != 0) {
                err_prefix(err, code, "%s", path.data);
            }
        }
        free(text);
    }
    if (code == 0) {
        code = profile_write_file(options->out_dir, "massif.out", &canonical, err);
    }
    buf_fini(&path);
    buf_fini(&canonical);
    return code;
}

static int keep_dhat(const struct profile_keep_options *options, int runs,
                     struct profile_totals *totals, struct err *err)
{
    struct dhat profiles[2] = {0};
    struct profile_table tables[2] = {0};
    struct buf path = BUF_INIT;
    struct buf canonical = BUF_INIT;
    int code = 0;
    for (int i = 0; i < runs && code == 0; i++) {
        const struct profile_run *run = i == 0 ? &options->first : &options->second;
        char *text = NULL;
        size_t bytes = 0;
        code = read_raw(PROFILE_DHAT, run, &text, &bytes, &path, err);
        if (code == 0) {
            code = dhat_parse(&profiles[i], text, bytes, options->local_paths, err);
            if (code != 0) {
                err_prefix(err, code, "%s", path.data);
            }
        }
        free(text);
        if (code == 0) {
            dhat_sites(&tables[i], &profiles[i]);
            totals->blocks[i] = profile_table_sum(&tables[i], HEAP_BLOCKS);
            totals->bytes[i] = profile_table_sum(&tables[i], HEAP_BYTES);
            totals->live_bytes[i] = profile_table_sum(&tables[i], HEAP_LIVE_BYTES);
            totals->peak_bytes[i] = profile_table_sum(&tables[i], HEAP_PEAK_BYTES);
        }
    }
    if (code == 0) {
        dhat_write(&canonical, &profiles[runs - 1]);
        code = profile_write_file(options->out_dir, "dhat.json", &canonical, err);
    }
    /* A peak is no sum over operations: the last run's stands as it is. */
    for (size_t i = 0; runs == 2 && i < tables[0].count; i++) {
        tables[0].rows[i].value[HEAP_PEAK_BLOCKS] = 0;
        tables[0].rows[i].value[HEAP_PEAK_BYTES] = 0;
    }
    if (code == 0) {
        code = write_difference(options, &tables[0], runs == 2 ? &tables[1] : NULL, err);
    }
    for (int i = 0; i < 2; i++) {
        dhat_fini(&profiles[i]);
        profile_table_fini(&tables[i]);
    }
    buf_fini(&path);
    buf_fini(&canonical);
    return code;
}

int profile_keep(enum profile_tool tool, const struct profile_keep_options *options,
                 struct profile_totals *out_totals, struct err *err)
{
    struct profile_totals totals = *out_totals;
    int runs = options->second.dir != NULL ? 2 : 1;
    int code = -EINVAL;
    assert(options->first.ops > 0);
    assert(runs == 1 || options->second.ops > options->first.ops);
    switch (tool) {
    case PROFILE_CALLGRIND:
        code = keep_callgrind(options, runs, &totals, err);
        break;
    case PROFILE_MASSIF:
        code = keep_massif(options, runs, &totals, err);
        break;
    case PROFILE_DHAT:
        code = keep_dhat(options, runs, &totals, err);
        break;
    }
    if (code == 0) {
        *out_totals = totals;
    }
    return code;
}
