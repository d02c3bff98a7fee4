#include "service_tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/temp_dir.h"
#include "profile_table.h"
#include "result.h"

#define VGDB_TIMEOUT_NS (60 * NS_PER_SEC)

/* Every stack of the region ends in it: codeqd's threads, and the event loop of Redis. */
static const char *region_of(const struct service_tool *tool)
{
    return tool->of_redis ? "aeMain" : "thread_main";
}

/* 'text' for a shell. */
static void quote(struct buf *out, const char *text)
{
    buf_puts(out, " '");
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            buf_puts(out, "'\\''");
        } else {
            buf_append(out, text, 1);
        }
    }
    buf_puts(out, "'");
}

int service_tool_init(struct service_tool *tool, enum profile_tool kind, bool of_redis,
                      const char *program, struct err *err)
{
    char path[4096];
    *tool = (struct service_tool){.tool = kind, .of_redis = of_redis};
    int code = temp_dir_make(tool->dir, sizeof tool->dir, "tool", err);
    if (code != 0) {
        return code;
    }
    if (of_redis) {
        snprintf(path, sizeof path, "redis-server");
    } else if (realpath(program, path) == NULL) {
        return err_set(err, -errno, "%s: %s", program, strerror(errno));
    }
    struct buf script = BUF_INIT;
    buf_puts(&script, "#!/bin/sh\nexec");
    for (const char *const *arg = profile_argv(kind); *arg != NULL; arg++) {
        const char *file = strstr(*arg, "-out-file=");
        if (file != NULL) { /* relative to a folder that is not the program's here */
            struct buf full = BUF_INIT;
            buf_append(&full, *arg, (size_t)(file - *arg));
            buf_printf(&full, "-out-file=%s/%s", tool->dir, profile_raw_name(kind));
            quote(&script, full.data);
            buf_fini(&full);
        } else if (strcmp(*arg, "--instr-atstart=no") != 0) { /* its stacks begin at the start */
            quote(&script, *arg);
        }
    }
    buf_printf(&script, " --vgdb-prefix=%s/vgdb", tool->dir);
    quote(&script, path);
    buf_puts(&script, " \"$@\"\n");
    snprintf(tool->program, sizeof tool->program, "%s/program", tool->dir);
    code = result_write_file(tool->program, script.data, script.bytes, err);
    buf_fini(&script);
    if (code == 0 && chmod(tool->program, 0700) != 0) {
        code = err_set(err, -errno, "%s: %s", tool->program, strerror(errno));
    }
    return code;
}

void service_tool_fini(struct service_tool *tool)
{
    if (tool->dir[0] != '\0') {
        remove_tree(tool->dir);
        tool->dir[0] = '\0';
    }
}

/* A command of callgrind's to the running process. */
static int tell(const struct service_tool *tool, const struct service *service, const char *command,
                struct err *err)
{
    if (tool->tool != PROFILE_CALLGRIND) {
        return 0;
    }
    char prefix[96], pid[32];
    snprintf(prefix, sizeof prefix, "--vgdb-prefix=%s/vgdb", tool->dir);
    snprintf(pid, sizeof pid, "--pid=%d",
             (int)(tool->of_redis ? service->redis.child.pid : service->codeqd.pid));
    const char *const argv[] = {"vgdb", prefix, pid, command, NULL};
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + VGDB_TIMEOUT_NS, &out,
                         &errors, err);
    if (code > 0) {
        code = err_set(err, -EIO, "vgdb %s: exit %d: %.200s", command, code, errors);
    }
    free(out);
    free(errors);
    return code;
}

int service_tool_begin(const struct service_tool *tool, const struct service *service,
                       struct err *err)
{
    return tell(tool, service, "zero", err);
}

int service_tool_end(const struct service_tool *tool, const struct service *service,
                     struct err *err)
{
    return tell(tool, service, "dump", err);
}

/* The first dump is FILE.1; what is written at the end holds the way out alone. */
static int take_dump(const struct service_tool *tool, struct err *err)
{
    char from[128], to[128];
    snprintf(to, sizeof to, "%s/%s", tool->dir, profile_raw_name(tool->tool));
    snprintf(from, sizeof from, "%s.1", to);
    if (rename(from, to) != 0) {
        return err_set(err, -errno, "%s: %s: callgrind wrote no dump", from, strerror(errno));
    }
    return 0;
}

/* What one script call costs with all that it calls; -1: none of the names is there. */
static int64_t script_instructions(const char *dir)
{
    static const char *const names[] = {"evalShaCommand", "evalGenericCommand", "luaCallFunction"};
    struct profile_table table;
    int64_t found = -1;
    if (profile_table_read(&table, PROFILE_TABLE_FUNCTIONS, dir, NULL) != 0) {
        return -1;
    }
    for (size_t i = 0; i < table.count; i++) {
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            int64_t inclusive = table.rows[i].value[FUNCTION_INCLUSIVE];
            if (strcmp(table.rows[i].text[FUNCTION_NAME], names[n]) == 0 && inclusive > found) {
                found = inclusive;
            }
        }
    }
    profile_table_fini(&table);
    return found;
}

int service_tool_keep(const struct service_tool *tool, int64_t ops, int64_t requests,
                      const char *out_dir, struct json *into, struct err *err)
{
    char dir[RESULT_PATH_MAX + 160];
    snprintf(dir, sizeof dir, "%s%s", out_dir, tool->of_redis ? "/redis" : "");
    int code = result_make_dirs(dir, err);
    if (code == 0 && tool->tool == PROFILE_CALLGRIND) {
        code = take_dump(tool, err);
    }
    const char *const local[] = {tool->dir, NULL};
    struct profile_keep_options options = {
        .first = {tool->dir, ops},
        .region = region_of(tool),
        .local_paths = local,
        .out_dir = dir,
    };
    struct profile_totals totals = {0};
    if (code == 0) {
        code = profile_keep(tool->tool, &options, &totals, err);
    }
    if (code != 0) {
        return code;
    }
    if (tool->of_redis) { /* scripts call deep: a megabyte, more than a set should carry */
        char folded[sizeof dir + 16];
        snprintf(folded, sizeof folded, "%s/%s", dir, profile_table_file(PROFILE_TABLE_FOLDED));
        unlink(folded);
    }
    json_add_int(into, "ops", ops);
    json_add_int(into, "requests", requests);
    switch (tool->tool) {
    case PROFILE_CALLGRIND:
        json_add_int(into, "instructions", totals.instructions[0]);
        if (tool->of_redis) {
            int64_t script = script_instructions(dir);
            if (script >= 0) {
                json_add_int(into, "script_instructions", script);
            }
        }
        break;
    case PROFILE_MASSIF:
        json_add_int(into, "heap_peak_bytes", totals.peak_bytes[0]);
        break;
    case PROFILE_DHAT:
        json_add_int(into, "allocs", totals.blocks[0]);
        json_add_int(into, "alloc_bytes", totals.bytes[0]);
        break;
    }
    return 0;
}

void service_tool_key(const struct service_tool *tool, char out[32])
{
    snprintf(out, 32, "%s.%s", profile_tool_name(tool->tool), tool->of_redis ? "redis" : "codeqd");
}
