#include "scenario.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "fields.h"

#define OPS_MAX 10000000

static const char *const operations[] = {"cycle", "create", "claim", NULL};
static const char *const formats[] = {"raw", "json", NULL};

/* Parts of the schema that another kind of run reads; this one refuses them by name. */
static const char *const unsupported[] = {"tenants", "commands", "roles",   "phases", "faults",
                                          "slo",     "budgets",  "metrics", NULL};

static bool is_plain(const char *text, const char *allowed)
{
    return text[0] != '\0' && text[strspn(text, allowed)] == '\0';
}

static void read_workload(struct fields *top, struct scenario *s)
{
    fields_require(top, "workload");
    const struct json *json = fields_object(top, "workload");
    if (json == NULL || top->code != 0) {
        return;
    }
    struct fields f;
    fields_begin(&f, json, "workload", top->err);
    fields_require(&f, "operation");
    int operation = fields_choice(&f, "operation", operations, 0);
    snprintf(s->operation, sizeof s->operation, "%s", operations[operation]);
    s->batch = fields_int(&f, "batch", 1, 256, 1);
    snprintf(s->format, sizeof s->format, "%s", formats[fields_choice(&f, "format", formats, 0)]);
    s->payload_bytes = fields_int(&f, "payload_bytes", 0, 1024 * 1024, 64);
    top->code = fields_end(&f);
}

static void read_counted(struct fields *top, struct scenario *s)
{
    fields_require(top, "counted");
    const struct json *json = fields_object(top, "counted");
    if (json == NULL || top->code != 0) {
        return;
    }
    struct fields f;
    fields_begin(&f, json, "counted", top->err);
    s->counted.warm_ops = fields_int(&f, "warm_ops", 0, OPS_MAX, 100);
    s->counted.ops = fields_int(&f, "ops", 1, OPS_MAX, 500);
    s->counted.repeats = fields_int(&f, "repeats", 1, 100, 3);
    if (s->counted.ops % s->batch != 0) {
        fields_fail(&f, "ops", "is %lld: give a multiple of workload.batch (%lld)",
                    (long long)s->counted.ops, (long long)s->batch);
    }
    top->code = fields_end(&f);
}

static void read_timed(struct fields *top, struct scenario *s)
{
    fields_require(top, "timed");
    const struct json *json = fields_object(top, "timed");
    if (json == NULL || top->code != 0) {
        return;
    }
    struct fields f;
    fields_begin(&f, json, "timed", top->err);
    s->timed.warm_ops = fields_int(&f, "warm_ops", 0, OPS_MAX, 2000);
    s->timed.ops = fields_int(&f, "ops", 1, OPS_MAX, 100000);
    s->timed.duration_ms_max = fields_int(&f, "duration_ms_max", 0, 3600000, 0);
    s->timed.runs = fields_int(&f, "runs", 1, 1000, 5);
    top->code = fields_end(&f);
}

static void read_redis(struct fields *top, struct scenario *s)
{
    const struct json *json = fields_object(top, "redis");
    if (json == NULL || top->code != 0) {
        return;
    }
    struct fields f;
    fields_begin(&f, json, "redis", top->err);
    const char *version = fields_string(&f, "version_min", sizeof s->redis_version_min, "");
    if (version[0] != '\0' && !is_plain(version, "0123456789.")) {
        fields_fail(&f, "version_min", "is '%s': give a version such as \"6.2\"", version);
    }
    snprintf(s->redis_version_min, sizeof s->redis_version_min, "%s", version);
    size_t n = 0;
    const struct json *config = fields_object(&f, "config");
    for (const struct json *c = json_first(config); c != NULL; c = json_next(c)) {
        const char *key = json_key(c);
        const char *value = json_string(c, NULL);
        if (value == NULL || key[0] != '-' || key[1] != '-' ||
            !is_plain(key + 2, "abcdefghijklmnopqrstuvwxyz0123456789-")) {
            fields_fail(&f, "config", "has '%.60s': give \"--option\": \"value\"", key);
            break;
        }
        if (strcmp(key, "--port") == 0 || strcmp(key, "--unixsocket") == 0 ||
            strcmp(key, "--dir") == 0 || strcmp(key, "--daemonize") == 0 ||
            strcmp(key, "--logfile") == 0 || strcmp(key, "--loadmodule") == 0) {
            fields_fail(&f, "config", "has '%s': the lab sets where Redis lives itself", key);
            break;
        }
        if (n + 2 > SCENARIO_REDIS_ARGS_MAX) {
            fields_fail(&f, "config", "has more than %d options", SCENARIO_REDIS_ARGS_MAX / 2);
            break;
        }
        s->redis_config[n++] = key;
        s->redis_config[n++] = value;
    }
    top->code = fields_end(&f);
}

static void read_preload(struct fields *top, struct scenario *s)
{
    const struct json *json = fields_object(top, "preload");
    if (json == NULL || top->code != 0) {
        return;
    }
    struct fields f;
    fields_begin(&f, json, "preload", top->err);
    s->preload_tasks = fields_int(&f, "tasks", 0, OPS_MAX, 0);
    top->code = fields_end(&f);
}

static int read_all(struct scenario *s, struct err *err)
{
    static const char *const schemas[] = {SCENARIO_SCHEMA, NULL};
    struct fields f;
    fields_begin(&f, s->json, "", err);
    fields_require(&f, "schema");
    fields_choice(&f, "schema", schemas, 0);
    fields_require(&f, "id");
    const char *id = fields_string(&f, "id", SCENARIO_ID_BYTES, "");
    if (!is_plain(id, "abcdefghijklmnopqrstuvwxyz0123456789-") || id[0] == '-') {
        fields_fail(&f, "id", "is '%s': give lower-case letters, digits and '-'", id);
    }
    snprintf(s->id, sizeof s->id, "%s", id);
    fields_require(&f, "rev");
    s->rev = fields_int(&f, "rev", 1, 1000000, 1);
    snprintf(s->title, sizeof s->title, "%s", fields_string(&f, "title", sizeof s->title, ""));
    s->seed = fields_int(&f, "seed", 0, INT64_C(1) << 40, 42);
    for (int i = 0; unsupported[i] != NULL; i++) {
        if (f.code == 0 && json_get(s->json, unsupported[i]) != NULL) {
            fields_fail(
                &f, unsupported[i],
                "not supported by run: scenarios that load the service belong to codeq-bench load");
        }
    }
    read_workload(&f, s);
    read_redis(&f, s);
    read_preload(&f, s);
    read_counted(&f, s);
    read_timed(&f, s);
    if (f.code == 0 && strcmp(s->operation, "claim") == 0) {
        int64_t counted = s->counted.warm_ops + 2 * s->counted.ops;
        int64_t timed = s->timed.warm_ops + s->timed.ops;
        int64_t needed = (counted > timed ? counted : timed) + 2 * s->batch;
        if (s->preload_tasks < needed) {
            fields_fail(&f, "preload.tasks", "is %lld: claims need %lld tasks that wait",
                        (long long)s->preload_tasks, (long long)needed);
        }
    }
    return fields_end(&f);
}

struct scenario *scenario_parse(const char *name, const char *text, size_t bytes, struct err *err)
{
    struct scenario *s = calloc(1, sizeof *s);
    struct buf copy = BUF_INIT;
    buf_append(&copy, text, bytes);
    if (s == NULL) {
        abort();
    }
    s->text = buf_take(&copy);
    digest_bytes(text, bytes, s->sha256);
    s->json = json_parse(text, bytes, err);
    if (s->json == NULL || read_all(s, err) != 0) {
        err_prefix(err, 0, "scenario '%.120s'", name);
        scenario_free(s);
        return NULL;
    }
    return s;
}

struct scenario *scenario_read(const char *path, struct err *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        err_set(err, -errno, "scenario '%s': %s", path, strerror(errno));
        return NULL;
    }
    struct buf text = BUF_INIT;
    char chunk[16384];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0 &&
           text.bytes <= SCENARIO_FILE_BYTES_MAX) {
        buf_append(&text, chunk, got);
    }
    bool broken = ferror(file) != 0;
    fclose(file);
    struct scenario *s = NULL;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (broken || text.bytes == 0 || text.bytes > SCENARIO_FILE_BYTES_MAX) {
        err_set(err, -EFBIG, "scenario '%s': %s", name,
                broken            ? "cannot be read"
                : text.bytes == 0 ? "is empty"
                                  : "is larger than 256 KiB");
    } else {
        s = scenario_parse(name, text.data, text.bytes, err);
    }
    buf_fini(&text);
    return s;
}

void scenario_free(struct scenario *scenario)
{
    if (scenario != NULL) {
        json_free(scenario->json);
        free(scenario->text);
        free(scenario);
    }
}

void scenario_redis_digest(const struct scenario *scenario, char out[DIGEST_BYTES])
{
    struct buf text = BUF_INIT;
    buf_puts(&text, "save= appendonly=no unixsocket port=0\n");
    for (int i = 0; scenario->redis_config[i] != NULL; i += 2) {
        buf_printf(&text, "%s=%s\n", scenario->redis_config[i], scenario->redis_config[i + 1]);
    }
    digest_bytes(text.data, text.bytes, out);
    buf_fini(&text);
}
