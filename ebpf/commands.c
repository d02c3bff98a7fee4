#include "commands.h"

#include <assert.h>
#include <stdlib.h>

#include "snap.h"
#include "view.h"
#include "wire_user.h"

struct state {
    struct loader *loader;
    const struct view_options *options;
    struct snap before;
};

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    (void)target;
    struct loader *loader;
    int code = loader_open(&loader, LOADER_COMMANDS, err);
    if (code != 0) {
        return code;
    }
    code = wire_configure(loader, options, false, false, err);
    if (code != 0) {
        loader_free(loader);
        return code;
    }
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->loader = loader;
    state->options = options;
    *out_state = state;
    *out_loader = loader;
    return 0;
}

static int view_ready(void *context, struct err *err)
{
    struct state *state = context;
    int code = wire_preset(state->loader);
    return code == 0 ? 0 : err_set(err, code, "cannot write the table of names");
}

static void view_collect(void *context, struct report *report)
{
    struct state *state = context;
    wire_report_commands(state->loader, &state->before, report);
    wire_report_peers(state->loader, report);
    struct wire_counts counts = wire_counts_read(state->loader);
    wire_report_counts(&counts, state->options, report);
}

static void view_close(void *context)
{
    struct state *state = context;
    loader_free(state->loader);
    snap_fini(&state->before);
    free(state);
}

const struct view commands_view = {
    .name = "commands",
    .summary = "Redis commands: count, latency at the server and at the client, errors, batches",
    .help = "  --sample 1/N          follow one connection in N\n"
            "\n"
            "server latency: request read to reply handed over; client latency: request sent to\n"
            "reply read; wire+queue: the difference of their means. Commands inside scripts are\n"
            "not on the wire and not counted. Arguments are never shown.\n"
            "\n"
            "examples:\n"
            "  codeq-trace commands                                every Redis server and codeqd\n"
            "  codeq-trace commands --comm redis-server,node       both ends: adds wire+queue\n"
            "  codeq-trace commands --pid 4711 --duration 10s      one process, ten seconds\n"
            "  codeq-trace commands --sample 1/8                   where the load is very high\n"
            "  codeq-trace commands --json --duration 5s | jq '.commands[] | {command, count}'\n",
    .options = "sample",
    .open = view_open,
    .ready = view_ready,
    .collect = view_collect,
    .close = view_close,
};
