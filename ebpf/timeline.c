#include "timeline.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snap.h"
#include "syscall_names.h"
#include "view.h"
#include "wire_user.h"

#define SLICES_MAX 2000000 /* 64 MB; what comes later is counted as lost */

struct slice {
    uint64_t start_ns;
    uint64_t end_ns;
    uint32_t tgid;
    uint32_t track; /* thread, or connection of a command */
    uint16_t id;
    uint8_t event;
    uint8_t type;
    uint8_t client;
};

struct state {
    struct loader *loader;
    struct target *target;
    const struct view_options *options;
    struct slice *slices;
    size_t len;
    uint64_t lost;
    struct snap before;
};

static void on_event(void *context, const void *data, size_t bytes)
{
    struct state *state = context;
    const struct wire_event *event = data;
    if (bytes < sizeof *event) {
        return;
    }
    if (state->len == SLICES_MAX) {
        state->lost++;
        return;
    }
    state->slices[state->len++] = (struct slice){
        .start_ns = event->start_ns,
        .end_ns = event->ns > event->start_ns ? event->ns : event->start_ns,
        .tgid = event->tgid,
        .track = event->event == WIRE_COMMAND ? event->fd : event->tid,
        .id = (uint16_t)event->id,
        .event = event->event,
        .type = event->type,
        .client = event->client,
    };
}

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    if (options->output == NULL || options->duration_ns == 0) {
        return err_set(err, -EINVAL,
                       "needs --output FILE and --duration TIME: a few seconds are many events");
    }
    struct loader *loader;
    int code = loader_open(&loader, LOADER_TIMELINE, err);
    if (code != 0) {
        return code;
    }
    code = wire_configure(loader, options, false, true, err);
    if (code != 0) {
        loader_free(loader);
        return code;
    }
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->slices = malloc(SLICES_MAX * sizeof *state->slices);
    assert(state->slices != NULL);
    state->loader = loader;
    state->target = target;
    state->options = options;
    *out_state = state;
    *out_loader = loader;
    return 0;
}

static int view_ready(void *context, struct err *err)
{
    struct state *state = context;
    int code = wire_preset(state->loader);
    if (code != 0) {
        return err_set(err, code, "cannot write the table of names");
    }
    return loader_ring_open(state->loader, "ring", on_event, state, err);
}

static void view_tick(void *context)
{
    struct state *state = context;
    loader_ring_consume(state->loader);
}

static void view_collect(void *context, struct report *report)
{
    struct state *state = context;
    wire_report_commands(state->loader, &state->before, report);
    struct wire_counts counts = wire_counts_read(state->loader);
    wire_report_counts(&counts, state->options, report);
    report_loss(report, "slices_lost", "events beyond the most that are kept", state->lost);
    if (report->final) {
        report_note(report, "%zu slices in %s: open it at ui.perfetto.dev or chrome://tracing",
                    state->len, state->options->output);
    }
}

/* Commands are asynchronous slices, a track a connection: those of a pipeline overlap. System calls
 * and waits are slices of their thread, one inside the other.
 * Source: the Trace Event Format; ts and dur are microseconds. */
static void put_slice(FILE *file, const struct state *state, const struct wire_names *names,
                      const struct slice *slice, size_t number, uint64_t base_ns)
{
    double start_us = (double)(slice->start_ns - base_ns) / 1e3;
    double end_us = (double)(slice->end_ns - base_ns) / 1e3;
    (void)state;
    if (slice->event == WIRE_COMMAND) {
        const char *name = slice->id < WIRE_NAMES_MAX ? names->text[slice->id] : "?";
        const char *side = slice->client ? "client" : "server";
        fprintf(file,
                ",\n{\"ph\":\"b\",\"cat\":\"redis\",\"id\":%zu,\"pid\":%u,\"tid\":%u,\"ts\":%.3f,"
                "\"name\":\"%s\",\"args\":{\"side\":\"%s\",\"fd\":%u,\"error\":%s}}",
                number, slice->tgid, slice->tgid, start_us, name, side, slice->track,
                slice->type == '-' ? "true" : "false");
        fprintf(file,
                ",\n{\"ph\":\"e\",\"cat\":\"redis\",\"id\":%zu,\"pid\":%u,\"tid\":%u,\"ts\":%.3f,"
                "\"name\":\"%s\"}",
                number, slice->tgid, slice->tgid, end_us, name);
        return;
    }
    const char *name = slice->event == WIRE_OFF_CPU ? "off-CPU" : syscall_name(slice->id);
    fprintf(file,
            ",\n{\"ph\":\"X\",\"cat\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,"
            "\"name\":\"%s\"}",
            slice->event == WIRE_OFF_CPU ? "sched" : "syscall", slice->tgid, slice->track, start_us,
            end_us - start_us, name != NULL ? name : "?");
}

static int view_finish(void *context, struct err *err)
{
    struct state *state = context;
    const char *path = state->options->output;
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        int code = -errno;
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    struct wire_names names;
    wire_names_read(&names, state->loader);
    uint64_t base_ns = UINT64_MAX;
    for (size_t i = 0; i < state->len; i++) {
        base_ns = state->slices[i].start_ns < base_ns ? state->slices[i].start_ns : base_ns;
    }
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{\"ph\":\"M\",\"name\":\"trace\",\"pid\":"
          "0}",
          file);
    for (int i = 0; i < state->target->processes_len; i++) {
        char comm[TARGET_NAME_BYTES];
        snprintf(comm, sizeof comm, "%s", state->target->processes[i].comm);
        for (unsigned char *p = (unsigned char *)comm; *p != '\0'; p++) {
            if (*p < 0x20 || *p >= 0x7f || *p == '"' || *p == '\\') {
                *p = '?';
            }
        }
        fprintf(file,
                ",\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"%s\"}}",
                (int)state->target->processes[i].pid, comm);
    }
    for (size_t i = 0; i < state->len; i++) {
        put_slice(file, state, &names, &state->slices[i], i, base_ns);
    }
    fputs("\n]}\n", file);
    int bad = ferror(file);
    if (fclose(file) != 0 || bad) {
        return err_set(err, -EIO, "%s: not written whole: is the disk full?", path);
    }
    return 0;
}

static void view_close(void *context)
{
    struct state *state = context;
    loader_free(state->loader);
    snap_fini(&state->before);
    free(state->slices);
    free(state);
}

const struct view timeline_view = {
    .name = "timeline",
    .summary = "commands, system calls and waits of some seconds as a file for Perfetto",
    .help = "  --output FILE         the trace, JSON; needed\n"
            "  --sample 1/N          follow one connection in N\n"
            "\n"
            "--duration is needed too. Every command, system call and wait is an event: this view\n"
            "costs the most of all.\n"
            "\n"
            "examples:\n"
            "  codeq-trace timeline --duration 2s --output trace.json\n"
            "  codeq-trace timeline --comm codeqd,redis-server --duration 2s --output trace.json\n"
            "  codeq-trace timeline --pid 4711 --duration 500ms --output trace.json\n"
            "  codeq-trace timeline --sample 1/8 --duration 2s --output trace.json\n"
            "  codeq-trace timeline --cgroup system.slice/redis.service --duration 2s --output "
            "t.json\n",
    .options = "output sample",
    .quiet = true,
    .open = view_open,
    .ready = view_ready,
    .tick = view_tick,
    .collect = view_collect,
    .finish = view_finish,
    .close = view_close,
};
