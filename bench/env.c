#include "env.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "digest.h"
#include "drive_client.h"

#define CPUINFO_BYTES_MAX (1024 * 1024)

static void put(struct env_field *fields, size_t *count, const char *name, const char *value)
{
    size_t at = 0;
    while (at < *count && strcmp(fields[at].name, name) < 0) {
        at++;
    }
    if (at == *count || strcmp(fields[at].name, name) != 0) {
        if (*count == ENV_FIELDS_MAX) {
            return;
        }
        memmove(&fields[at + 1], &fields[at], (*count - at) * sizeof *fields);
        (*count)++;
    }
    snprintf(fields[at].name, sizeof fields[at].name, "%s", name);
    snprintf(fields[at].value, sizeof fields[at].value, "%s", value);
    for (char *p = fields[at].value; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~') {
            *p = ' ';
        }
    }
}

void env_set(struct env *env, const char *name, const char *value)
{
    put(env->identity, &env->identity_count, name, value);
}

static void set_context(struct env *env, const char *name, const char *value)
{
    put(env->context, &env->context_count, name, value);
}

const char *env_get(const struct env *env, const char *name)
{
    for (size_t i = 0; i < env->identity_count; i++) {
        if (strcmp(env->identity[i].name, name) == 0) {
            return env->identity[i].value;
        }
    }
    return "";
}

static char *read_file(const char *root, const char *path)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    FILE *file = fopen(full, "re");
    if (file == NULL) {
        return NULL;
    }
    struct buf text = BUF_INIT;
    char chunk[8192];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0 && text.bytes < CPUINFO_BYTES_MAX) {
        buf_append(&text, chunk, got);
    }
    fclose(file);
    buf_append(&text, "", 0);
    return buf_take(&text);
}

/* Value of the first "name : value" line; "" when there is none. */
static void line_value(const char *text, const char *name, char *out, size_t bytes)
{
    out[0] = '\0';
    size_t n = strlen(name);
    for (const char *p = text; p != NULL && *p != '\0';) {
        const char *end = strchr(p, '\n');
        size_t length = end != NULL ? (size_t)(end - p) : strlen(p);
        const char *colon = memchr(p, ':', length);
        if (colon != NULL && strncmp(p, name, n) == 0 &&
            strspn(p + n, " \t") == (size_t)(colon - p) - n) {
            const char *value = colon + 1 + strspn(colon + 1, " \t");
            size_t left = value < p + length ? (size_t)(p + length - value) : 0;
            snprintf(out, bytes, "%.*s", (int)left, value);
            return;
        }
        p = end != NULL ? end + 1 : NULL;
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The flags in an order of their own, so that a kernel that lists them otherwise changes nothing.
 */
static void flags_digest(const char *cpuinfo, char out[DIGEST_BYTES])
{
    static char flags[16384];
    line_value(cpuinfo, "flags", flags, sizeof flags);
    if (flags[0] == '\0') {
        line_value(cpuinfo, "Features", flags, sizeof flags); /* arm64 */
    }
    char *names[1024];
    size_t count = 0;
    char *save = NULL;
    for (char *t = strtok_r(flags, " ", &save); t != NULL && count < 1024;
         t = strtok_r(NULL, " ", &save)) {
        names[count++] = t;
    }
    qsort(names, count, sizeof *names, by_text);
    struct buf sorted = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        buf_printf(&sorted, "%s\n", names[i]);
    }
    digest_bytes(sorted.data != NULL ? sorted.data : "", sorted.bytes, out);
    buf_fini(&sorted);
}

static void collect_cpu(struct env *env, const char *root)
{
    static const struct {
        const char *field, *name;
    } rows[] = {{"cpu_vendor", "vendor_id"},
                {"cpu_family", "cpu family"},
                {"cpu_model", "model"},
                {"cpu_stepping", "stepping"}};
    char *cpuinfo = read_file(root, "/proc/cpuinfo");
    const char *text = cpuinfo != NULL ? cpuinfo : "";
    char value[ENV_VALUE_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        line_value(text, rows[i].name, value, sizeof value);
        env_set(env, rows[i].field, value);
    }
    char digest[DIGEST_BYTES];
    flags_digest(text, digest);
    digest[16] = '\0';
    env_set(env, "cpu_flags", digest);
    int count = 0;
    for (const char *p = text; (p = strstr(p, "processor\t")) != NULL; p++) {
        count += p == text || p[-1] == '\n';
    }
    snprintf(value, sizeof value, "%d", count);
    env_set(env, "cpus", value);
    env_set(env, "hypervisor", strstr(text, " hypervisor") != NULL ? "yes" : "no");
    line_value(text, "model name", value, sizeof value);
    set_context(env, "cpu_name", value);
    line_value(text, "microcode", value, sizeof value);
    set_context(env, "microcode", value);
    line_value(text, "cpu MHz", value, sizeof value);
    set_context(env, "cpu_mhz", value);
    free(cpuinfo);
}

static void collect_context_file(struct env *env, const char *root, const char *name,
                                 const char *path)
{
    char *text = read_file(root, path);
    if (text != NULL) {
        text[strcspn(text, "\n")] = '\0';
        set_context(env, name, text);
    }
    free(text);
}

void env_program_line(const char *const *argv, char *out, size_t bytes)
{
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *text = NULL;
    out[0] = '\0';
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC, &text,
                         NULL, NULL);
    if (code == 0 && text != NULL) {
        snprintf(out, bytes, "%.*s", (int)strcspn(text, "\n"), text);
    }
    free(text);
}

static void collect_programs(struct env *env)
{
    char line[ENV_VALUE_BYTES];
    env_program_line((const char *const[]){"valgrind", "--version", NULL}, line, sizeof line);
    const char *version = strncmp(line, "valgrind-", 9) == 0 ? line + 9 : line;
    env_set(env, "valgrind", version[0] != '\0' ? version : "none");
    const char *server =
        access("/usr/sbin/redis-server", X_OK) == 0 ? "/usr/sbin/redis-server" : "redis-server";
    env_program_line((const char *const[]){server, "--version", NULL}, line, sizeof line);
    char *v = strstr(line, " v=");
    char redis[64] = "none";
    if (v != NULL) {
        snprintf(redis, sizeof redis, "%.*s", (int)strcspn(v + 3, " "), v + 3);
    }
    env_set(env, "redis", redis);
    v = strstr(line, "malloc=");
    if (v != NULL) {
        char alloc[64];
        snprintf(alloc, sizeof alloc, "%.*s", (int)strcspn(v + 7, " "), v + 7);
        env_set(env, "redis_malloc", alloc);
    }
}

void env_collect(struct env *env, const char *root, const struct json *build)
{
    *env = (struct env){0};
    collect_cpu(env, root);
    char *meminfo = read_file(root, "/proc/meminfo");
    char value[ENV_VALUE_BYTES];
    line_value(meminfo != NULL ? meminfo : "", "MemTotal", value, sizeof value);
    snprintf(value, sizeof value, "%.0f", round(strtod(value, NULL) / (1024.0 * 1024.0)));
    env_set(env, "ram_gib", value);
    free(meminfo);
    struct utsname uts;
    uname(&uts);
    env_set(env, "arch", uts.machine);
    int major = 0, minor = 0;
    if (sscanf(uts.release, "%d.%d", &major, &minor) == 2) {
        snprintf(value, sizeof value, "%d.%d", major, minor);
        env_set(env, "kernel", value);
    }
    set_context(env, "kernel_release", uts.release);
    env_set(env, "hwcaps", drive_client_hwcaps);
    static const char *const from_build[] = {"compiler", "flags", "libc", "hiredis", "cjson"};
    for (size_t i = 0; build != NULL && i < sizeof from_build / sizeof *from_build; i++) {
        env_set(env, from_build[i], json_string(json_get(build, from_build[i]), ""));
    }
    collect_programs(env);
    collect_context_file(env, root, "governor",
                         "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    collect_context_file(env, root, "load", "/proc/loadavg");
    collect_context_file(env, root, "boot_id", "/proc/sys/kernel/random/boot_id");
}

void env_id(const struct env *env, char out[ENV_ID_BYTES])
{
    struct buf text = BUF_INIT;
    for (size_t i = 0; i < env->identity_count; i++) {
        buf_printf(&text, "%s=%s\n", env->identity[i].name, env->identity[i].value);
    }
    char digest[DIGEST_BYTES];
    digest_bytes(text.data != NULL ? text.data : "", text.bytes, digest);
    buf_fini(&text);
    memcpy(out, digest, ENV_ID_BYTES - 1);
    out[ENV_ID_BYTES - 1] = '\0';
}

static void add_fields(struct json *parent, const char *name, const struct env_field *fields,
                       size_t count)
{
    struct json *object = json_add_object(parent, name);
    for (size_t i = 0; i < count; i++) {
        json_add_string(object, fields[i].name, fields[i].value);
    }
}

char *env_print(const struct env *env)
{
    char id[ENV_ID_BYTES];
    env_id(env, id);
    struct json *root = json_new_object();
    json_add_string(root, "schema", ENV_SCHEMA);
    json_add_string(root, "env8", id);
    add_fields(root, "identity", env->identity, env->identity_count);
    add_fields(root, "context", env->context, env->context_count);
    char *text = json_print_pretty(root);
    json_free(root);
    return text;
}

static int read_fields(const struct json *object, const char *what, struct env_field *fields,
                       size_t *count, struct err *err)
{
    for (const struct json *c = json_first(object); c != NULL; c = json_next(c)) {
        const char *value = json_string(c, NULL);
        if (value == NULL || strlen(value) >= ENV_VALUE_BYTES ||
            strlen(json_key(c)) >= ENV_NAME_BYTES || *count == ENV_FIELDS_MAX) {
            return err_set(err, -EINVAL, "%s.%.40s: not a short text, or too many of them", what,
                           json_key(c));
        }
        put(fields, count, json_key(c), value);
    }
    return 0;
}

int env_parse(struct env *env, const char *text, size_t bytes, struct err *err)
{
    struct json *root = json_parse(text, bytes, err);
    if (root == NULL) {
        return -EINVAL;
    }
    struct env read = {0};
    int code = 0;
    if (strcmp(json_string(json_get(root, "schema"), ""), ENV_SCHEMA) != 0) {
        code = err_set(err, -EINVAL, "schema is '%.60s': this reader knows " ENV_SCHEMA,
                       json_string(json_get(root, "schema"), ""));
    }
    if (code == 0) {
        code = read_fields(json_get(root, "identity"), "identity", read.identity,
                           &read.identity_count, err);
    }
    if (code == 0) {
        code = read_fields(json_get(root, "context"), "context", read.context, &read.context_count,
                           err);
    }
    char id[ENV_ID_BYTES];
    env_id(&read, id);
    if (code == 0 && strcmp(id, json_string(json_get(root, "env8"), "")) != 0) {
        code = err_set(err, -EBADMSG, "env8 is '%.20s', but its identity hashes to %s",
                       json_string(json_get(root, "env8"), ""), id);
    }
    json_free(root);
    if (code == 0) {
        *env = read;
    }
    return code;
}
