#include "profile.h"

#include <assert.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/flame.h"
#include "base/pprof.h"
#include "base/stacks.h"
#include "base/symbols.h"
#include "view.h"

#define REFRESH_NS NS_PER_SEC

struct state {
    struct loader *loader;
    struct target *target;
    const struct view_options *options;
    struct symbols *symbols;
    int64_t refreshed_ns;
};

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    struct loader *loader;
    int code = loader_open(&loader, LOADER_PROFILE, err);
    if (code != 0) {
        return code;
    }
    loader_skip(loader, options->off_cpu ? "on_sample" : "on_switch");
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->loader = loader;
    state->target = target;
    state->options = options;
    state->symbols = symbols_new();
    *out_state = state;
    *out_loader = loader;
    return 0;
}

/* The maps of processes that end are gone with them: keep those of a second ago at most. */
static void view_tick(void *context)
{
    struct state *state = context;
    int64_t now_ns = clock_monotonic_ns(clock_system());
    if (now_ns - state->refreshed_ns < REFRESH_NS) {
        return;
    }
    state->refreshed_ns = now_ns;
    for (int i = 0; i < state->target->processes_len; i++) {
        if (state->target->processes[i].alive) {
            symbols_refresh(state->symbols, state->target->processes[i].pid);
        }
    }
}

/* A software clock on each core: hardware counters are absent in many virtual machines. */
static int view_ready(void *context, struct err *err)
{
    struct state *state = context;
    view_tick(state);
    if (state->options->off_cpu) {
        return 0;
    }
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    for (int cpu = 0; cpu < cpus; cpu++) {
        struct perf_event_attr attr = {
            .type = PERF_TYPE_SOFTWARE,
            .size = sizeof attr,
            .config = PERF_COUNT_SW_CPU_CLOCK,
            .freq = 1,
            .sample_freq = (unsigned)state->options->frequency_hz,
        };
        int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
        if (fd < 0 && errno == ENODEV) {
            continue; /* the core is off */
        }
        if (fd < 0) {
            int code = -errno;
            return err_set(err, code, "cannot sample core %d: %s", cpu, strerror(-code));
        }
        int code = loader_attach_perf(state->loader, "on_sample", fd, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static struct stacks *read_stacks(struct state *state, struct err *err)
{
    struct stacks *stacks = stacks_new();
    struct profile_key key;
    struct profile_key next;
    const void *last = NULL;
    while (loader_map_next(state->loader, "values", last, &next)) {
        key = next;
        last = &key;
        uint64_t value = 0;
        const char *frames[2 * PROFILE_DEPTH_MAX + 1];
        uint64_t addresses[PROFILE_DEPTH_MAX];
        size_t depth = 0;
        loader_map_get(state->loader, "values", &key, &value);
        frames[depth++] = target_comm(state->target, (pid_t)key.tgid);
        for (int side = 0; side < 2; side++) {
            __s32 id = side == 0 ? key.user : key.kernel;
            memset(addresses, 0, sizeof addresses);
            if (id < 0 || loader_map_get(state->loader, "stacks", &id, addresses) != 0) {
                continue;
            }
            int n = 0;
            while (n < PROFILE_DEPTH_MAX && addresses[n] != 0) {
                n++;
            }
            while (n-- > 0) { /* the kernel gives the leaf first; a return address may lie behind */
                uint64_t at = addresses[n] - (n > 0);
                const char *name = side == 0 ? symbols_user(state->symbols, (pid_t)key.tgid, at)
                                             : symbols_kernel(state->symbols, at);
                /* Without frame pointers the walk goes astray: one such frame says it. */
                if (strcmp(name, SYMBOLS_UNKNOWN) != 0 ||
                    strcmp(frames[depth - 1], SYMBOLS_UNKNOWN) != 0) {
                    frames[depth++] = name;
                }
            }
        }
        if (stacks_add(stacks, frames, depth, (int64_t)value, err) != 0) {
            break;
        }
    }
    return stacks;
}

static const struct report_column sample_columns[] = {
    {"function", "function", REPORT_LABEL},
    {"self_samples", "self", REPORT_COUNT},
    {"self_ratio", "share", REPORT_NUMBER},
    {"total_samples", "with callees", REPORT_COUNT},
};
static const struct report_column off_cpu_columns[] = {
    {"function", "function", REPORT_LABEL},
    {"self_ns", "self", REPORT_NS},
    {"self_ratio", "share", REPORT_NUMBER},
    {"total_ns", "with callees", REPORT_NS},
};

static void view_collect(void *context, struct report *report)
{
    struct state *state = context;
    struct stacks *stacks = read_stacks(state, NULL);
    size_t names = stacks_names(stacks);
    int64_t *self = calloc(names + 1, sizeof *self);
    int64_t *total = calloc(names + 1, sizeof *total);
    assert(self != NULL && total != NULL);
    for (size_t i = 0; i < stacks_count(stacks); i++) {
        struct stack stack = stacks_at(stacks, i);
        self[stack.frames[stack.depth - 1]] += stack.value;
        for (size_t f = 0; f < stack.depth; f++) {
            bool again = false; /* a recursive function counts once */
            for (size_t g = 0; g < f && !again; g++) {
                again = stack.frames[g] == stack.frames[f];
            }
            total[stack.frames[f]] += again ? 0 : stack.value;
        }
    }
    struct report_table *table = report_table(
        report, "functions", state->options->off_cpu ? off_cpu_columns : sample_columns, 4);
    for (size_t i = 0; i < names; i++) {
        report_text(table, stacks_name(stacks, (uint32_t)i));
        report_number(table, (double)self[i]);
        report_number(
            table, stacks_total(stacks) > 0 ? (double)self[i] / (double)stacks_total(stacks) : 0);
        report_number(table, (double)total[i]);
    }
    report_sort(table, state->options->off_cpu ? "self_ns" : "self_samples");
    if (state->options->off_cpu) {
        report_note(report, "%.3f s of all threads off the CPU",
                    (double)stacks_total(stacks) / 1e9);
    } else {
        report_note(report, "%lld samples at %d Hz: %.2f s of CPU", (long long)stacks_total(stacks),
                    state->options->frequency_hz,
                    (double)stacks_total(stacks) / state->options->frequency_hz);
    }
    struct profile_losses losses = {0};
    __u32 zero = 0;
    loader_map_sum(state->loader, "losses", &zero, (uint64_t *)&losses, 2, -1);
    report_loss(report, "stacks_full", "samples dropped: too many different stacks", losses.no_row);
    report_loss(report, "samples_without_stack", "samples without a stack", losses.no_stack);
    free(self);
    free(total);
    stacks_free(stacks);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The form follows from the file's name. */
static int view_finish(void *context, struct err *err)
{
    struct state *state = context;
    const char *path = state->options->output;
    if (path == NULL) {
        return 0;
    }
    bool off = state->options->off_cpu;
    struct stacks *stacks = read_stacks(state, err);
    struct buf text = BUF_INIT;
    unsigned char *data = NULL;
    size_t bytes = 0;
    int code = 0;
    if (ends_with(path, ".svg")) {
        struct flame_options options = {.title = off ? "off-CPU time" : "CPU samples",
                                        .unit = off ? "ns" : "samples"};
        flame_print(stacks, &options, &text);
    } else if (ends_with(path, ".pb.gz")) {
        struct pprof_options options = {.type = off ? "off_cpu" : "samples",
                                        .unit = off ? "nanoseconds" : "count",
                                        .period = off ? 0 : 1};
        code = pprof_encode(stacks, &options, &data, &bytes, err);
    } else {
        stacks_print_folded(stacks, &text);
    }
    FILE *file = code == 0 ? fopen(path, "we") : NULL;
    if (code == 0 && file == NULL) {
        code = -errno;
        err_set(err, code, "%s: %s", path, strerror(-code));
    }
    if (file != NULL) {
        const void *from = data != NULL ? (const void *)data : (const void *)text.data;
        size_t n = data != NULL ? bytes : text.bytes;
        size_t wrote = n > 0 ? fwrite(from, 1, n, file) : 0;
        if (fclose(file) != 0 || wrote != n) {
            code = err_set(err, -EIO, "%s: not written whole: is the disk full?", path);
        }
    }
    free(data);
    buf_fini(&text);
    stacks_free(stacks);
    return code;
}

static void view_close(void *context)
{
    struct state *state = context;
    loader_free(state->loader);
    symbols_free(state->symbols);
    free(state);
}

const struct view profile_view = {
    .name = "profile",
    .summary = "CPU samples or off-CPU time by stack: table, folded, pprof, flame graph",
    .help =
        "  --off-cpu             where threads wait, by time, instead of where they run\n"
        "  --frequency HZ        samples a second and core, 1..999 (default: 99)\n"
        "  --output FILE         FILE.svg: flame graph; FILE.pb.gz: pprof; else folded stacks\n"
        "\n"
        "User stacks need frame pointers (this project's programs have them); without them a\n"
        "stack is its leaf. Kernel names need /proc/kallsyms to be readable.\n"
        "\n"
        "examples:\n"
        "  codeq-trace profile --comm codeqd --duration 30s\n"
        "  codeq-trace profile --comm codeqd --duration 30s --output cpu.svg\n"
        "  codeq-trace profile --pid 4711 --duration 10s --output cpu.pb.gz\n"
        "  codeq-trace profile --off-cpu --comm redis-server --duration 10s\n"
        "  codeq-trace profile --comm codeqd --frequency 499 --duration 5s --output cpu.folded\n",
    .needs = LOADER_NEEDS_PTRACE,
    .options = "off-cpu frequency output",
    .open = view_open,
    .ready = view_ready,
    .tick = view_tick,
    .collect = view_collect,
    .finish = view_finish,
    .close = view_close,
};
