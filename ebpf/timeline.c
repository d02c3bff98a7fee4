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

#define SLICES_MAX 2000000 /* 80 MB; what comes later is counted as lost */
#define LINES_MAX 100000 /* of HTTP requests */
#define LINE_BYTES RESP_KEEP_BYTES
#define TREE_MAX 256 /* slices inside one HTTP request */

struct slice {
    uint64_t start_ns;
    uint64_t end_ns;
    uint32_t tgid;
    uint32_t tid;
    uint32_t fd; /* of a command or request */
    uint32_t line; /* of a request: index in lines */
    uint16_t id; /* command or system call; of a request the status */
    uint8_t event;
    uint8_t type;
    bool client;
    bool drawn; /* inside of an HTTP request */
    bool more; /* of a request: it holds more than is drawn */
};

struct state {
    struct loader *loader;
    struct target *target;
    const struct view_options *options;
    struct slice *slices;
    size_t len;
    char (*lines)[LINE_BYTES + 1];
    uint32_t lines_len;
    uint64_t lost;
    struct snap before;
    struct wire_names names;
    uint64_t base_ns;
};

/* "POST /v1/x/:id": without the query, and ids left out: nothing of a task is shown. */
static void tidy_line(const char *raw, size_t bytes, char out[LINE_BYTES + 1])
{
    size_t n = 0;
    size_t segment = 0; /* where the present one begins */
    int spaces = 0;
    for (size_t i = 0; i <= bytes; i++) {
        char c = i < bytes ? raw[i] : '\0';
        bool ends = c == '\0' || c == '?' || c == '\r' || c == '/' || c == ' ';
        if (ends && n - segment >= 20) {
            memcpy(out + segment, ":id", 3);
            n = segment + 3;
        }
        spaces += c == ' ';
        if (c == '\0' || c == '?' || c == '\r' || spaces == 2) {
            break;
        }
        out[n++] = c > 0x20 && c < 0x7f && c != '"' && c != '\\' ? c : (c == ' ' ? ' ' : '?');
        segment = ends ? n : segment;
    }
    out[n] = '\0';
}

static void on_event(void *context, const void *data, size_t bytes)
{
    struct state *state = context;
    const struct wire_event *event = data;
    if (bytes < sizeof *event) {
        return;
    }
    if (state->len == SLICES_MAX || (event->event == WIRE_HTTP && state->lines_len == LINES_MAX)) {
        state->lost++;
        return;
    }
    struct slice *slice = &state->slices[state->len++];
    *slice = (struct slice){
        .start_ns = event->start_ns,
        .end_ns = event->ns > event->start_ns ? event->ns : event->start_ns,
        .tgid = event->tgid,
        .tid = event->tid,
        .fd = event->fd,
        .id = (uint16_t)event->id,
        .event = event->event,
        .type = event->type,
        .client = event->client,
    };
    if (event->event == WIRE_HTTP) {
        char status[4] = {(char)(event->length & 0xff), (char)(event->length >> 8 & 0xff),
                          (char)(event->length >> 16 & 0xff), '\0'};
        slice->id = (uint16_t)strtoul(status, NULL, 10);
        slice->line = state->lines_len;
        tidy_line(event->bytes, strnlen(event->bytes, LINE_BYTES),
                  state->lines[state->lines_len++]);
    }
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
    code = wire_configure(loader, options, NULL, WIRE_ELEMENTS_NONE, true, err);
    if (code != 0) {
        loader_free(loader);
        return code;
    }
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->slices = malloc(SLICES_MAX * sizeof *state->slices);
    state->lines = malloc(LINES_MAX * sizeof *state->lines);
    assert(state->slices != NULL && state->lines != NULL);
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

static const char *slice_name(const struct state *state, const struct slice *slice)
{
    switch (slice->event) {
    case WIRE_HTTP:
        return state->lines[slice->line];
    case WIRE_COMMAND:
        return slice->id < WIRE_NAMES_MAX ? state->names.text[slice->id] : "?";
    case WIRE_OFF_CPU:
        return "off-CPU";
    default: {
        const char *name = syscall_name(slice->id);
        return name != NULL ? name : "?";
    }
    }
}

/* By process, thread and start; what holds another comes first. */
static int in_order(const void *left, const void *right)
{
    const struct slice *a = left;
    const struct slice *b = right;
    if (a->tgid != b->tgid) {
        return a->tgid < b->tgid ? -1 : 1;
    }
    if (a->tid != b->tid) {
        return a->tid < b->tid ? -1 : 1;
    }
    if (a->start_ns != b->start_ns) {
        return a->start_ns < b->start_ns ? -1 : 1;
    }
    return a->end_ns == b->end_ns ? 0 : (a->end_ns > b->end_ns ? -1 : 1);
}

static double us_of(const struct state *state, uint64_t ns)
{
    return (double)(ns - state->base_ns) / 1e3;
}

/* One end of an asynchronous slice; those of one id are nested in each other. */
static void put_end(FILE *file, const struct state *state, char phase, const char *category,
                    size_t id, const struct slice *slice, uint64_t ns)
{
    fprintf(file,
            ",\n{\"ph\":\"%c\",\"cat\":\"%s\",\"id\":\"%s%zu\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,"
            "\"name\":\"%s\"",
            phase, category, category, id, slice->tgid, slice->tid, us_of(state, ns),
            slice_name(state, slice));
    if (phase == 'b' && slice->event == WIRE_COMMAND) {
        fprintf(file, ",\"args\":{\"side\":\"%s\",\"fd\":%u,\"error\":%s}",
                slice->client ? "client" : "server", slice->fd,
                slice->type == '-' ? "true" : "false");
    } else if (phase == 'b' && slice->event == WIRE_HTTP) {
        fprintf(file, ",\"args\":{\"status\":%u,\"fd\":%u,\"more\":%s}", slice->id, slice->fd,
                slice->more ? "true" : "false");
    }
    fputc('}', file);
}

struct node {
    struct slice *slice;
    uint64_t start_ns;
    uint64_t end_ns;
};

static int nodes_in_order(const void *left, const void *right)
{
    const struct node *a = left;
    const struct node *b = right;
    if (a->start_ns != b->start_ns) {
        return a->start_ns < b->start_ns ? -1 : 1;
    }
    if (a->end_ns != b->end_ns) {
        return a->end_ns > b->end_ns ? -1 : 1;
    }
    return (b->slice->event == WIRE_COMMAND) - (a->slice->event == WIRE_COMMAND);
}

/* A command is timed from inside the calls that send and receive it: let it hold them whole. */
static void widen(struct node *nodes, int len)
{
    for (int c = 0; c < len; c++) {
        uint64_t start_ns = nodes[c].start_ns;
        uint64_t end_ns = nodes[c].end_ns;
        for (int i = 0; nodes[c].slice->event == WIRE_COMMAND && i < len; i++) {
            const struct node *call = &nodes[i];
            if (call->slice->event != WIRE_SYSCALL) {
                continue;
            }
            if (call->start_ns < start_ns && call->end_ns > start_ns) {
                nodes[c].start_ns = call->start_ns;
            }
            if (call->start_ns < end_ns && call->end_ns > end_ns) {
                nodes[c].end_ns = call->end_ns;
            }
        }
    }
}

/* An HTTP request, and inside it what its thread did meanwhile: commands, system calls, waits. What
 * overlaps another only in part stays on its own track. */
static void put_request(FILE *file, struct state *state, size_t number)
{
    struct slice *request = &state->slices[number];
    struct node nodes[TREE_MAX];
    int len = 0;
    for (size_t i = number + 1; i < state->len && len < TREE_MAX; i++) {
        struct slice *slice = &state->slices[i];
        if (slice->tgid != request->tgid || slice->tid != request->tid ||
            slice->start_ns >= request->end_ns) {
            break;
        }
        bool command = slice->event == WIRE_COMMAND;
        if (slice->event == WIRE_HTTP || (command && slice->end_ns > request->end_ns)) {
            continue;
        }
        nodes[len++] = (struct node){slice, slice->start_ns, slice->end_ns};
    }
    request->more = len == TREE_MAX;
    widen(nodes, len);
    qsort(nodes, (size_t)len, sizeof nodes[0], nodes_in_order);
    put_end(file, state, 'b', "http", number, request, request->start_ns);
    struct node *open[TREE_MAX];
    int depth = 0;
    for (int i = 0; i < len; i++) {
        struct node *node = &nodes[i];
        while (depth > 0 && open[depth - 1]->end_ns <= node->start_ns) {
            depth--;
            put_end(file, state, 'e', "http", number, open[depth]->slice, open[depth]->end_ns);
        }
        uint64_t most = depth > 0 ? open[depth - 1]->end_ns : request->end_ns;
        if (node->end_ns > most && (node->slice->event == WIRE_COMMAND || depth > 0)) {
            continue; /* crosses the end of what it would stand in */
        }
        node->end_ns = node->end_ns < most ? node->end_ns : most;
        node->slice->drawn = node->slice->event == WIRE_COMMAND;
        put_end(file, state, 'b', "http", number, node->slice, node->start_ns);
        open[depth++] = node;
    }
    while (depth > 0) {
        depth--;
        put_end(file, state, 'e', "http", number, open[depth]->slice, open[depth]->end_ns);
    }
    put_end(file, state, 'e', "http", number, request, request->end_ns);
}

static void put_process(FILE *file, const struct target_process *process)
{
    char comm[TARGET_NAME_BYTES];
    snprintf(comm, sizeof comm, "%s", process->comm);
    for (unsigned char *p = (unsigned char *)comm; *p != '\0'; p++) {
        if (*p < 0x20 || *p >= 0x7f || *p == '"' || *p == '\\') {
            *p = '?';
        }
    }
    fprintf(file,
            ",\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"%s\"}}",
            (int)process->pid, comm);
}

/* HTTP requests are asynchronous slices with what happened in them inside; other commands the same,
 * a track each: those of a pipeline overlap. System calls and waits are also slices of their
 * thread, one inside the other.
 * Source: the Trace Event Format; ts and dur are microseconds. */
static void put_trace(FILE *file, struct state *state)
{
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{\"ph\":\"M\",\"name\":\"trace\",\"pid\":"
          "0}",
          file);
    for (int i = 0; i < state->target->processes_len; i++) {
        put_process(file, &state->target->processes[i]);
    }
    for (size_t i = 0; i < state->len; i++) {
        if (state->slices[i].event == WIRE_HTTP) {
            put_request(file, state, i);
        }
    }
    for (size_t i = 0; i < state->len; i++) {
        const struct slice *slice = &state->slices[i];
        if (slice->event == WIRE_COMMAND && !slice->drawn) {
            put_end(file, state, 'b', "redis", i, slice, slice->start_ns);
            put_end(file, state, 'e', "redis", i, slice, slice->end_ns);
        } else if (slice->event == WIRE_SYSCALL || slice->event == WIRE_OFF_CPU) {
            fprintf(file,
                    ",\n{\"ph\":\"X\",\"cat\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,"
                    "\"dur\":%.3f,\"name\":\"%s\"}",
                    slice->event == WIRE_OFF_CPU ? "sched" : "syscall", slice->tgid, slice->tid,
                    us_of(state, slice->start_ns), (double)(slice->end_ns - slice->start_ns) / 1e3,
                    slice_name(state, slice));
        }
    }
    fputs("\n]}\n", file);
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
    wire_names_read(&state->names, state->loader);
    qsort(state->slices, state->len, sizeof *state->slices, in_order);
    state->base_ns = UINT64_MAX;
    for (size_t i = 0; i < state->len; i++) {
        uint64_t start_ns = state->slices[i].start_ns;
        state->base_ns = start_ns < state->base_ns ? start_ns : state->base_ns;
    }
    put_trace(file, state);
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
    free(state->lines);
    free(state);
}

const struct view timeline_view = {
    .name = "timeline",
    .summary =
        "HTTP requests, commands, system calls and waits of some seconds as a file for Perfetto",
    .help = "  --output FILE         the trace, JSON; needed\n"
            "  --sample 1/N          follow one connection in N\n"
            "\n"
            "A request of HTTP holds what its thread did until the answer was written: Redis "
            "commands,\n"
            "and in them the system calls and waits. Of its path only the route is shown.\n"
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
