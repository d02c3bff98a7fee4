#include "live_profile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/flame.h"
#include "base/pprof.h"
#include "base/stacks.h"
#include "base/temp_dir.h"
#include "result.h"

#define STOP_GRACE_NS (10 * NS_PER_SEC)

static const struct {
    const char *name;
    const char *value_key; /* in live.json */
    const char *title;
    const char *unit;
    struct pprof_options pprof;
} kinds[LIVE_KINDS] = {
    [LIVE_ON_CPU] = {"oncpu", "samples", "CPU samples", "samples", {"samples", "count", 1}},
    [LIVE_OFF_CPU] = {"offcpu", "waited_ns", "off-CPU time", "ns", {"off_cpu", "nanoseconds", 0}},
};

const char *live_kind_name(enum live_kind kind)
{
    return kinds[kind].name;
}

void live_profile_init(struct live_profile *live, const char *trace, int64_t seconds)
{
    *live = (struct live_profile){.trace = trace, .seconds = seconds};
}

void live_profile_watch(struct live_profile *live, pid_t codeqd, pid_t redis)
{
    snprintf(live->pids, sizeof live->pids, redis > 0 ? "%d,%d" : "%d", (int)codeqd, (int)redis);
}

/* Once the reason is known for one kind that cannot be mended by waiting, it is that of the rest.
 */
static void give_up(struct live_profile *live, const char *reason)
{
    for (; live->kind < LIVE_KINDS; live->kind++) {
        struct live_part *part = &live->parts[live->kind];
        if (!part->recorded && part->reason[0] == '\0') {
            snprintf(part->reason, sizeof part->reason, "%s", reason);
        }
    }
}

static void path_of(const struct live_profile *live, const char *name, char out[96])
{
    snprintf(out, 96, "%s/%s", live->dir, name);
}

static void start(struct live_profile *live)
{
    char folded[96], report[96], errors[96], duration[24], frequency[16];
    if (live->dir[0] == '\0') {
        struct err err = {""};
        if (temp_dir_make(live->dir, sizeof live->dir, "live", &err) != 0) {
            give_up(live, err.text);
            return;
        }
    }
    path_of(live, "stacks.folded", folded);
    path_of(live, "report.json", report);
    path_of(live, "errors", errors);
    snprintf(duration, sizeof duration, "%llds", (long long)live->seconds);
    snprintf(frequency, sizeof frequency, "%d", LIVE_PROFILE_FREQUENCY_HZ);
    const char *argv[] = {live->trace, "profile", "--pid",    live->pids, "--duration",
                          duration,    "--json",  "--output", folded,     "--frequency",
                          frequency,   NULL,      NULL};
    if (live->kind == LIVE_OFF_CPU) {
        argv[11] = "--off-cpu";
    }
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    int out_fd = open(report, flags, 0600);
    int err_fd = open(errors, flags, 0600);
    struct child_options options = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = out_fd,
        .stderr_fd = err_fd,
        .cpu = -1,
        .own_group = true, /* stopped by us, who keep what it has seen */
    };
    struct err err = {""};
    int code = out_fd < 0 || err_fd < 0 ? err_set(&err, -EIO, "%s: not writable", live->dir)
                                        : child_start(&live->child, &options, &err);
    if (out_fd >= 0) {
        close(out_fd);
    }
    if (err_fd >= 0) {
        close(err_fd);
    }
    if (code != 0) {
        give_up(live, err.text);
        return;
    }
    live->started = true;
}

/* The last line that the child wrote on stderr, without its own name before it. */
static void last_words(const struct live_profile *live, char *out, size_t bytes)
{
    char path[96];
    char *text = NULL;
    size_t n = 0;
    snprintf(out, bytes, "codeq-trace said nothing");
    path_of(live, "errors", path);
    if (result_read_file(path, &text, &n, NULL) != 0) {
        return;
    }
    while (n > 0 && text[n - 1] == '\n') {
        text[--n] = '\0';
    }
    const char *line = strrchr(text, '\n');
    line = line != NULL ? line + 1 : text;
    static const char own[] = "codeq-trace: profile: ";
    line += strncmp(line, own, sizeof own - 1) == 0 ? sizeof own - 1 : 0;
    if (line[0] != '\0') {
        snprintf(out, bytes, "%s", line);
    }
    free(text);
}

/* The child has ended: take over what it wrote. */
static void reap(struct live_profile *live)
{
    struct live_part *part = &live->parts[live->kind];
    char path[96];
    char *report = NULL;
    size_t bytes = 0;
    int exit_code = child_exit_code(&live->child);
    live->started = false;
    if (exit_code == 1) {
        snprintf(part->reason, sizeof part->reason, "codeq-trace saw nothing of them");
    } else if (exit_code != 0) {
        char words[sizeof part->reason];
        last_words(live, words, sizeof words);
        give_up(live, words);
        return;
    }
    path_of(live, "report.json", path);
    if (exit_code == 0 && result_read_file(path, &report, &bytes, NULL) == 0) {
        struct json *json = json_parse(report, bytes, NULL);
        part->seconds = json_number(json_get(json, "elapsed_seconds"), 0);
        part->dropped = json_int(json_get(json_get(json, "losses"), "stacks_full"), 0);
        json_free(json);
    }
    free(report);
    path_of(live, "stacks.folded", path);
    if (exit_code == 0) {
        struct stacks *stacks = stacks_new();
        if (result_read_file(path, &part->folded, &bytes, NULL) == 0 &&
            stacks_parse_folded(stacks, part->folded, bytes, NULL) == 0 &&
            stacks_total(stacks) > 0) {
            part->recorded = true;
            part->value = stacks_total(stacks);
        } else {
            snprintf(part->reason, sizeof part->reason, "codeq-trace wrote no stacks");
        }
        stacks_free(stacks);
    }
    live->kind++;
}

bool live_profile_tick(struct live_profile *live, int64_t elapsed_ns)
{
    if (live->kind < LIVE_KINDS && live->trace[0] == '\0') {
        give_up(live, "no codeq-trace beside this program: build it with -Debpf=true");
    }
    if (live->started && child_wait(&live->child, 0) == 0) {
        reap(live);
    }
    if (!live->started && live->kind < LIVE_KINDS &&
        elapsed_ns >= LIVE_PROFILE_SETTLE_SECONDS * NS_PER_SEC) {
        start(live);
    }
    return live->kind == LIVE_KINDS;
}

void live_profile_end(struct live_profile *live)
{
    if (live->started) {
        child_stop(&live->child, STOP_GRACE_NS); /* SIGTERM: it writes what it has */
        reap(live);
    }
    give_up(live, "the load ended before: give fewer seconds, or a longer --duration");
    static const char *const files[] = {"stacks.folded", "report.json", "errors"};
    for (size_t i = 0; live->dir[0] != '\0' && i < sizeof files / sizeof *files; i++) {
        char path[96];
        path_of(live, files[i], path);
        unlink(path);
    }
    if (live->dir[0] != '\0') {
        rmdir(live->dir);
        live->dir[0] = '\0';
    }
}

void live_profile_fini(struct live_profile *live)
{
    live_profile_end(live);
    for (int k = 0; k < LIVE_KINDS; k++) {
        free(live->parts[k].folded);
        live->parts[k].folded = NULL;
    }
}

static int write_forms(const struct live_part *part, int kind, const char *dir, struct err *err)
{
    char path[RESULT_PATH_MAX + 256];
    struct stacks *stacks = stacks_new();
    struct buf text = BUF_INIT;
    unsigned char *data = NULL;
    size_t bytes = 0;
    int code = stacks_parse_folded(stacks, part->folded, strlen(part->folded), err);
    if (code == 0) {
        stacks_print_folded(stacks, &text);
        snprintf(path, sizeof path, "%s/%s.folded", dir, kinds[kind].name);
        code = result_write_file(path, text.data, text.bytes, err);
    }
    if (code == 0) {
        struct flame_options options = {.title = kinds[kind].title, .unit = kinds[kind].unit};
        buf_clear(&text);
        flame_print(stacks, &options, &text);
        snprintf(path, sizeof path, "%s/%s.svg", dir, kinds[kind].name);
        code = result_write_file(path, text.data, text.bytes, err);
    }
    if (code == 0) {
        code = pprof_encode(stacks, &kinds[kind].pprof, &data, &bytes, err);
    }
    if (code == 0) {
        snprintf(path, sizeof path, "%s/%s.pb.gz", dir, kinds[kind].name);
        code = result_write_file(path, (const char *)data, bytes, err);
    }
    free(data);
    buf_fini(&text);
    stacks_free(stacks);
    return code;
}

int live_profile_write(const struct live_profile *live, const char *dir, struct err *err)
{
    static const char *const forms[] = {"folded", "svg", "pb.gz"};
    char path[RESULT_PATH_MAX + 256];
    for (int k = 0; k < LIVE_KINDS; k++) {
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            snprintf(path, sizeof path, "%s/%s.%s", dir, kinds[k].name, forms[f]);
            unlink(path);
        }
    }
    snprintf(path, sizeof path, "%s/" LIVE_PROFILE_FILE, dir);
    unlink(path);
    if (live == NULL) {
        return 0;
    }
    struct json *json = json_new_object();
    json_add_string(json, "schema", LIVE_PROFILE_SCHEMA);
    int code = 0;
    for (int k = 0; k < LIVE_KINDS && code == 0; k++) {
        const struct live_part *part = &live->parts[k];
        struct json *one = json_add_object(json, kinds[k].name);
        if (!part->recorded) {
            json_add_string(one, "not_measured", part->reason);
            continue;
        }
        json_add_number(one, "seconds", part->seconds);
        if (k == LIVE_ON_CPU) {
            json_add_int(one, "frequency_hz", LIVE_PROFILE_FREQUENCY_HZ);
        }
        json_add_int(one, kinds[k].value_key, part->value);
        json_add_int(one, "dropped", part->dropped);
        code = write_forms(part, k, dir, err);
    }
    if (code == 0) {
        char *text = json_print_pretty(json);
        code = result_write_file(path, text, strlen(text), err);
        free(text);
    }
    json_free(json);
    return code;
}

static int verify_kind(const char *dir, int kind, const struct json *said, struct err *err)
{
    char path[2 * RESULT_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.folded", dir, kinds[kind].name);
    const char *reason = json_string(json_get(said, "not_measured"), "");
    if (said == NULL || (reason[0] == '\0') != (access(path, F_OK) == 0)) {
        return err_set(err, -EBADMSG, "%s: its %s and %s.folded do not agree", LIVE_PROFILE_FILE,
                       kinds[kind].name, kinds[kind].name);
    }
    if (reason[0] != '\0') {
        return 0;
    }
    char *text = NULL;
    size_t bytes = 0;
    int code = result_read_file(path, &text, &bytes, err) != 0 ? -EBADMSG : 0;
    struct stacks *stacks = stacks_new();
    if (code == 0 && stacks_parse_folded(stacks, text, bytes, err) != 0) {
        code = err_prefix(err, -EBADMSG, "%s.folded", kinds[kind].name);
    }
    int64_t value = json_int(json_get(said, kinds[kind].value_key), -1);
    if (code == 0 && stacks_total(stacks) != value) {
        code = err_set(err, -EBADMSG, "%s.folded: adds up to %lld, %s says %lld", kinds[kind].name,
                       (long long)stacks_total(stacks), LIVE_PROFILE_FILE, (long long)value);
    }
    stacks_free(stacks);
    free(text);
    return code;
}

int live_profile_verify(const char *dir, struct err *err)
{
    char path[2 * RESULT_PATH_MAX];
    char *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/" LIVE_PROFILE_FILE, dir);
    int code = result_read_file(path, &text, &bytes, err);
    if (code != 0) {
        return code == -ENOENT ? 0 : -EBADMSG;
    }
    struct json *json = json_parse(text, bytes, err);
    free(text);
    if (json == NULL) {
        return err_prefix(err, -EBADMSG, LIVE_PROFILE_FILE);
    }
    const char *schema = json_string(json_get(json, "schema"), "");
    static const char stem[] = "codeq-lab.live/";
    if (strcmp(schema, LIVE_PROFILE_SCHEMA) != 0) {
        bool newer =
            strncmp(schema, stem, sizeof stem - 1) == 0 && atoi(schema + sizeof stem - 1) > 1;
        code = err_set(err, newer ? -EOPNOTSUPP : -EBADMSG,
                       LIVE_PROFILE_FILE ": schema is '%.60s': this reader knows %s", schema,
                       LIVE_PROFILE_SCHEMA);
    }
    for (int k = 0; k < LIVE_KINDS && code == 0; k++) {
        code = verify_kind(dir, k, json_get(json, kinds[k].name), err);
    }
    json_free(json);
    return code;
}
