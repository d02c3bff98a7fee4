#include "commands.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "events.h"
#include "snap.h"
#include "syscalls.h"
#include "view.h"
#include "wire_user.h"

struct state {
    struct loader *loader;
    const struct view_options *options;
    struct snap before;
    struct syscalls *syscalls; /* NULL: not asked for */
    struct events *events; /* NULL: none are sent */
};

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    bool events = options->events || options->show_keys;
    struct loader *loader;
    /* The object of `leases` is the one that can send arguments. */
    int code = loader_open(&loader, events ? LOADER_LEASES : LOADER_COMMANDS, err);
    if (code != 0) {
        return code;
    }
    code =
        wire_configure(loader, options, target,
                       options->show_keys ? WIRE_ELEMENTS_KEYS : WIRE_ELEMENTS_NONE, events, err);
    code = code == 0 && options->syscalls ? syscalls_configure(loader, err) : code;
    if (code != 0) {
        loader_free(loader);
        return code;
    }
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->loader = loader;
    state->options = options;
    state->syscalls = options->syscalls ? syscalls_new(loader, target, false) : NULL;
    state->events = events ? events_new(loader, target, options) : NULL;
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
    return state->events == NULL
               ? 0
               : loader_ring_open(state->loader, "ring", events_take, state->events, err);
}

static void view_tick(void *context)
{
    struct state *state = context;
    if (state->events != NULL) {
        loader_ring_consume(state->loader);
        fflush(stdout);
    }
}

static void view_collect(void *context, struct report *report)
{
    struct state *state = context;
    wire_report_commands(state->loader, &state->before, report);
    wire_report_peers(state->loader, report);
    if (state->syscalls != NULL) {
        syscalls_report(state->syscalls, report);
    }
    if (state->events != NULL) {
        events_report(state->events, report);
    }
    struct wire_counts counts = wire_counts_read(state->loader);
    wire_report_counts(&counts, state->options, report);
}

static void view_close(void *context)
{
    struct state *state = context;
    events_free(state->events);
    syscalls_free(state->syscalls);
    loader_free(state->loader);
    snap_fini(&state->before);
    free(state);
}

const struct view commands_view = {
    .name = "commands",
    .summary = "Redis commands: count, latency at the server and at the client, errors, batches",
    .help =
        "  --sample 1/N          follow one connection in N\n"
        "  --syscalls            and the table of system calls, cheaper than a second tracer\n"
        "  --events              a line for each command when it is answered, then the summary\n"
        "  --show-keys           the first key of a command in its line, or a table of keys\n"
        "\n"
        "server latency: request read to reply handed over; client latency: request sent to\n"
        "reply read; wire+queue: the difference of their means. Commands inside scripts are\n"
        "not on the wire and not counted. Arguments are never shown, keys only with --show-keys,\n"
        "and only of commands known to have one there. Both options send an event a command to\n"
        "this program and cost accordingly; events that found the buffer full are counted in\n"
        "the summary as events_lost.\n"
        "\n"
        "examples:\n"
        "  codeq-trace commands                                every Redis server and codeqd\n"
        "  codeq-trace commands --comm redis-server,node       both ends: adds wire+queue\n"
        "  codeq-trace commands --pid 4711 --duration 10s      one process, ten seconds\n"
        "  codeq-trace commands --sample 1/8                   where the load is very high\n"
        "  codeq-trace commands --events --show-keys           every command with its key\n"
        "  codeq-trace commands --json --duration 5s | jq '.commands[] | {command, count}'\n",
    .options = "sample events show-keys syscalls",
    .open = view_open,
    .ready = view_ready,
    .collect = view_collect,
    .close = view_close,
};

const struct view command_events_view = {
    .name = "commands",
    .open = view_open,
    .ready = view_ready,
    .tick = view_tick,
    .collect = view_collect,
    .close = view_close,
};
