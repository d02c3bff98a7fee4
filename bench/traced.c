#include "traced.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "result.h"

static const char *const names[] = {"syscalls", "off_cpu", "commands", "leases"};

int traced_start(struct traced *traced, const char *tracer, const char *dir, pid_t drive_pid,
                 pid_t redis_pid, bool whole, struct err *err)
{
    *traced = (struct traced){.dir = dir, .whole = whole};
    snprintf(traced->drive_pid, sizeof traced->drive_pid, "%d", (int)drive_pid);
    snprintf(traced->redis_pid, sizeof traced->redis_pid, "%d", (int)redis_pid);
    snprintf(traced->pids, sizeof traced->pids, "%d,%d", (int)drive_pid, (int)redis_pid);
    snprintf(traced->folded, sizeof traced->folded, "%s/" TRACED_FOLDED_FILE, dir);
    const char *const args[TRACED_COUNT][8] = {
        {"syscalls", "--pid", traced->pids, NULL},
        {"profile", "--off-cpu", "--pid", traced->drive_pid, "--output", traced->folded, NULL},
        {"commands", "--pid", traced->redis_pid, NULL},
        {"leases", "--pid", traced->redis_pid, NULL},
    };
    int code = 0;
    for (int i = whole ? TRACED_COUNT - 1 : TRACED_OFF_CPU; i >= 0 && code == 0; i--) {
        code = tracer_start(&traced->runs[i], tracer, args[i], dir, err);
    }
    return code;
}

void traced_stop(struct traced *traced)
{
    for (int i = 0; i < TRACED_COUNT; i++) {
        tracer_stop(&traced->runs[i]);
    }
}

int traced_finish(struct traced *traced, int64_t ops, struct json **out_reports, struct err *err)
{
    struct json *root = json_new_object();
    json_add_string(root, "schema", TRACED_SCHEMA);
    json_add_int(root, "ops", ops);
    json_add_string(root, "drive_pid", traced->drive_pid);
    json_add_string(root, "redis_pid", traced->redis_pid);
    int code = 0;
    for (int i = 0; i < TRACED_COUNT && code == 0; i++) {
        struct json *report = NULL;
        if (i <= TRACED_OFF_CPU || traced->whole) {
            code = tracer_finish(&traced->runs[i], &report, err);
        }
        if (report != NULL) {
            json_put(root, names[i], report);
        }
    }
    if (code == 0 && traced->whole) {
        char path[300];
        snprintf(path, sizeof path, "%.200s/" TRACED_FILE, traced->dir);
        char *text = json_print_pretty(root);
        code = result_write_file(path, text, strlen(text), err);
        free(text);
    }
    if (code != 0) {
        json_free(root);
        return code;
    }
    *out_reports = root;
    return 0;
}

int traced_totals(const struct json *reports, struct json *line, struct json *totals,
                  struct err *err)
{
    const char *drive = json_string(json_get(reports, "drive_pid"), "");
    struct json *by_name = json_add_object(line, "by_name");
    double syscalls = 0, redis_syscalls = 0, off_cpu_ns = 0;
    const struct json *rows = json_get(json_get(reports, "syscalls"), "syscalls");
    for (const struct json *row = json_first(rows); row != NULL; row = json_next(row)) {
        double count = json_number(json_get(row, "count"), 0);
        if (strcmp(json_string(json_get(row, "pid"), ""), drive) != 0) {
            redis_syscalls += count;
            continue;
        }
        syscalls += count;
        json_add_number(by_name, json_string(json_get(row, "syscall"), "?"), count);
    }
    /* Every stack begins with the process's name. */
    rows = json_get(json_get(reports, "off_cpu"), "functions");
    for (const struct json *row = json_first(rows); row != NULL; row = json_next(row)) {
        double ns = json_number(json_get(row, "total_ns"), 0);
        off_cpu_ns = ns > off_cpu_ns ? ns : off_cpu_ns;
    }
    if (!(syscalls > 0)) {
        return err_set(err, -EIO, "codeq-trace: it saw no system call of the driver");
    }
    json_add_string(line, "by", "tracer");
    json_add_number(totals, "syscalls", syscalls);
    json_add_number(totals, "redis_syscalls", redis_syscalls);
    json_add_number(totals, "off_cpu_ns", off_cpu_ns);
    return 0;
}

static bool prints_alike(const struct json *a, const struct json *b)
{
    char *texts[2] = {json_print(a), b != NULL ? json_print(b) : NULL};
    bool alike = texts[1] != NULL && strcmp(texts[0], texts[1]) == 0;
    free(texts[0]);
    free(texts[1]);
    return alike;
}

int traced_verify(const char *dir, struct json *const *runs, size_t count, struct err *err)
{
    char path[RESULT_PATH_MAX + 32];
    snprintf(path, sizeof path, "%.1000s/" TRACED_FILE, dir);
    if (access(path, F_OK) != 0) {
        return 0;
    }
    struct json *reports = json_parse_file(path, TRACER_REPORT_BYTES_MAX, err);
    if (reports == NULL) {
        return -EBADMSG;
    }
    const struct json *run = NULL;
    for (size_t i = 0; i < count && run == NULL; i++) {
        if (strcmp(json_string(json_get(runs[i], "kind"), ""), "syscalls") == 0) {
            run = runs[i];
        }
    }
    struct json *line = json_new_object();
    struct json *totals = json_add_object(line, "totals");
    int code = 0;
    if (strcmp(json_string(json_get(reports, "schema"), ""), TRACED_SCHEMA) != 0) {
        code = err_set(err, -EBADMSG, TRACED_FILE ": it is not " TRACED_SCHEMA);
    } else if (traced_totals(reports, line, totals, err) != 0) {
        code = err_prefix(err, -EBADMSG, TRACED_FILE);
    } else if (json_int(json_get(reports, "ops"), -1) != json_int(json_get(run, "ops"), -2) ||
               !prints_alike(totals, json_get(run, "totals"))) {
        code = err_set(err, -EBADMSG, TRACED_FILE ": not what runs.ndjson has of it");
    }
    json_free(line);
    json_free(reports);
    return code;
}
