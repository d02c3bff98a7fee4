#include "load/spec.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fields.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))

/* The command goes into JSON and a path as it is. */
static bool is_plain(const char *text)
{
    return text[0] != '\0' &&
           text[strspn(
               text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")] == '\0';
}

/* One number, or [{"value": v, "weight": w}, ...]. */
static size_t read_mix(struct fields *f, const char *name, double min, double max,
                       struct load_mix out[LOAD_MIX_MAX])
{
    const struct json *member = fields_any(f, name);
    if (member == NULL) {
        return 0;
    }
    if (json_type(member) == JSON_NUMBER) {
        double value = json_number(member, 0);
        if (!(value >= min && value <= max)) {
            fields_fail(f, name, "is %g: give a number in %g..%g", value, min, max);
        }
        out[0] = (struct load_mix){value, 1};
        return 1;
    }
    size_t count = 0;
    for (const struct json *c = json_first(member); c != NULL; c = json_next(c)) {
        if (count == LOAD_MIX_MAX) {
            fields_fail(f, name, "has more than %d entries", LOAD_MIX_MAX);
            break;
        }
        char path[FIELDS_PATH_BYTES + 64];
        snprintf(path, sizeof path, "%s.%s[%zu]", f->path, name, count);
        struct fields entry;
        fields_begin(&entry, c, path, f->err);
        fields_require(&entry, "value");
        fields_require(&entry, "weight");
        out[count].value = fields_number(&entry, "value", min, max, min);
        out[count].weight = fields_number(&entry, "weight", 1e-9, 1e9, 1);
        count++;
        int code = f->code == 0 ? fields_end(&entry) : 0;
        if (code != 0) {
            f->code = code;
            break;
        }
    }
    if (count == 0) {
        fields_fail(f, name, "give a number or a list of {\"value\", \"weight\"}");
    }
    return count;
}

static void read_phases(struct fields *f, struct load_role *role, double duration_scale,
                        double rate_scale)
{
    const struct json *phases = fields_array(f, "phases");
    fields_require(f, "phases");
    for (const struct json *c = json_first(phases); c != NULL; c = json_next(c)) {
        if (role->phase_count == ARRIVAL_PHASES_MAX) {
            fields_fail(f, "phases", "has more than %d entries", ARRIVAL_PHASES_MAX);
            return;
        }
        char path[FIELDS_PATH_BYTES + 64];
        snprintf(path, sizeof path, "%s.phases[%zu]", f->path, role->phase_count);
        struct fields p;
        fields_begin(&p, c, path, f->err);
        fields_require(&p, "duration_ms");
        fields_require(&p, "rate_per_sec");
        int64_t duration_ms = fields_int(&p, "duration_ms", 1, DAY_MS, 1);
        double rate = fields_number(&p, "rate_per_sec", 0, ARRIVAL_RATE_PER_SEC_MAX, 0);
        double end = fields_number(&p, "end_rate_per_sec", 0, ARRIVAL_RATE_PER_SEC_MAX, rate);
        role->phases[role->phase_count++] = (struct arrival_phase){
            .duration_ns = llround(fmax(1, (double)duration_ms * duration_scale) * 1e6),
            .start_rate_per_sec = rate * rate_scale,
            .end_rate_per_sec = end * rate_scale,
        };
        int code = f->code == 0 ? fields_end(&p) : 0;
        if (code != 0) {
            f->code = code;
            return;
        }
    }
    if (role->phase_count == 0) {
        fields_fail(f, "phases", "give at least one");
    }
}

static int64_t read_ms(struct fields *f, const char *name, int64_t fallback_ms)
{
    return fields_int(f, name, 0, DAY_MS, fallback_ms) * NS_PER_MS;
}

static void read_producer(struct fields *f, struct load_role *role, double duration_scale,
                          double rate_scale)
{
    static const char *const arrivals[] = {"constant", "poisson", NULL};
    role->open = json_get(f->object, "arrival") != NULL;
    if (role->open) {
        role->arrival = (enum arrival_kind)fields_choice(f, "arrival", arrivals, 0);
        read_phases(f, role, duration_scale, rate_scale);
        role->concurrency = (uint32_t)fields_int(f, "connections", 1, LOAD_CONNECTIONS_MAX, 256);
    } else {
        fields_require(f, "concurrency");
        role->concurrency = (uint32_t)fields_int(f, "concurrency", 1, LOAD_CONNECTIONS_MAX, 1);
        double operations =
            (double)fields_int(f, "operations", 0, LOAD_TASKS_MAX, 0) * duration_scale;
        role->operations_max = (uint64_t)ceil(operations);
        role->think_ns = read_ms(f, "think_ms", 0);
    }
    role->batch = (uint32_t)fields_int(f, "batch", 1, LOAD_BATCH_MAX, 1);
    role->payload_bytes_count = read_mix(f, "payload_bytes", LOAD_PAYLOAD_BYTES_MIN,
                                         LOAD_PAYLOAD_BYTES_MAX, role->payload_bytes);
    role->priority_count = read_mix(f, "priority", 0, LOAD_PRIORITIES - 1, role->priority);
    role->delay_ratio = fields_number(f, "delay_ratio", 0, 1, 0);
    role->delay_min_ms = fields_int(f, "delay_min_ms", 1, DAY_MS, 1000);
    role->delay_max_ms = fields_int(f, "delay_max_ms", 1, DAY_MS, role->delay_min_ms);
    if (role->delay_max_ms < role->delay_min_ms) {
        fields_fail(f, "delay_max_ms", "is below delay_min_ms");
    }
    role->max_attempts = (int)fields_int(f, "max_attempts", 1, 65535, 5);
}

static void read_worker(struct fields *f, struct load_role *role)
{
    fields_require(f, "concurrency");
    role->concurrency = (uint32_t)fields_int(f, "concurrency", 1, LOAD_CONNECTIONS_MAX, 1);
    role->batch = (uint32_t)fields_int(f, "batch", 1, 10, 1);
    role->lease_seconds = (int)fields_int(f, "lease_seconds", 1, 86400, 60);
    role->wait_seconds = (int)fields_int(f, "wait_seconds", 0, 30, 0);
    role->think_ns = read_ms(f, "think_ms", 0);
    role->idle_ns = read_ms(f, "idle_ms", 50);
    role->work_min_ns = read_ms(f, "work_min_ms", 0);
    role->work_max_ns = read_ms(f, "work_max_ms", role->work_min_ns / NS_PER_MS);
    if (role->work_max_ns < role->work_min_ns) {
        fields_fail(f, "work_max_ms", "is below work_min_ms");
    }
    role->heartbeat_ns = read_ms(f, "heartbeat_ms", 0);
    role->nack_ratio = fields_number(f, "nack_ratio", 0, 1, 0);
    role->crash_ratio = fields_number(f, "crash_ratio", 0, 1, 0);
    if (role->batch > 1 && (role->heartbeat_ns > 0 || role->nack_ratio > 0)) {
        fields_fail(f, "batch", "heartbeats and nacks need batch 1");
    }
}

static int read_role(const struct json *json, size_t index, struct load_role *role,
                     double duration_scale, double rate_scale, struct err *err)
{
    static const char *const kinds[] = {"producer", "worker", NULL};
    char path[32];
    snprintf(path, sizeof path, "roles[%zu]", index);
    struct fields f;
    fields_begin(&f, json, path, err);
    if (f.code != 0) {
        return f.code;
    }
    fields_require(&f, "role");
    role->kind = (enum load_role_kind)fields_choice(&f, "role", kinds, 0);
    snprintf(role->name, sizeof role->name, "%s",
             fields_string(&f, "name", sizeof role->name, kinds[role->kind]));
    const char *command = fields_string(&f, "command", sizeof role->command, "GENERATE_MASTER");
    if (!is_plain(command)) {
        fields_fail(&f, "command", "give letters, digits, '_', '-' or '.'");
    }
    snprintf(role->command, sizeof role->command, "%s", command);
    role->start_ns = llround((double)read_ms(&f, "start_ms", 0) * duration_scale);
    role->duration_ns = llround((double)read_ms(&f, "duration_ms", 0) * duration_scale);
    if (role->kind == LOAD_PRODUCER) {
        read_producer(&f, role, duration_scale, rate_scale);
    } else {
        read_worker(&f, role);
    }
    return fields_end(&f);
}

static int read_fault(const struct json *json, size_t index, double duration_scale,
                      struct load_fault *fault, struct err *err)
{
    static const char *const kinds[] = {"redis-pause", "redis-restart", "service-stop", NULL};
    char path[32];
    snprintf(path, sizeof path, "faults[%zu]", index);
    struct fields f;
    fields_begin(&f, json, path, err);
    fields_require(&f, "fault");
    fields_require(&f, "at_ms");
    fault->kind = (enum load_fault_kind)fields_choice(&f, "fault", kinds, 0);
    fault->at_ns = llround((double)read_ms(&f, "at_ms", 0) * duration_scale);
    fault->duration_ns = read_ms(&f, "duration_ms", 0);
    return fields_end(&f);
}

/* A list of at most max objects, each read by its own call. */
#define EACH(list, item, count, max, f, name) \
    for (const struct json *item = json_first(list); item != NULL && (f)->code == 0; \
         item = json_next(item), (count)++) \
        if ((count) == (max)) { \
            fields_fail(f, name, "has more than %d entries", (int)(max)); \
        } else

static void read_lists(struct fields *f, struct load_scenario *s, double duration_scale,
                       double rate_scale)
{
    fields_require(f, "roles");
    const struct json *roles = fields_array(f, "roles");
    EACH(roles, item, s->spec.role_count, LOAD_ROLES_MAX, f, "roles")
    {
        f->code = read_role(item, s->spec.role_count, &s->spec.roles[s->spec.role_count],
                            duration_scale, rate_scale, f->err);
    }
    const struct json *slos = fields_array(f, "slo");
    EACH(slos, item, s->slo_count, LOAD_SLOS_MAX, f, "slo")
    {
        f->code = slo_parse(json_string(item, ""), &s->slos[s->slo_count], f->err);
        if (f->code != 0) {
            err_prefix(f->err, 0, "slo[%zu]", s->slo_count);
        }
    }
    const struct json *faults = fields_array(f, "faults");
    EACH(faults, item, s->fault_count, LOAD_FAULTS_MAX, f, "faults")
    {
        f->code =
            read_fault(item, s->fault_count, duration_scale, &s->faults[s->fault_count], f->err);
    }
    if (f->code == 0 && s->spec.role_count == 0) {
        fields_fail(f, "roles", "give at least one");
    }
}

static void read_saturation(struct fields *f, struct load_scenario *s, double rate_scale)
{
    const struct json *saturation = fields_object(f, "saturation");
    if (saturation == NULL || f->code != 0) {
        return;
    }
    struct fields of;
    fields_begin(&of, saturation, "saturation", f->err);
    fields_require(&of, "times");
    s->saturation_times = fields_number(&of, "times", 0.01, 10, 1) * rate_scale;
    s->saturation_ns = fields_int(&of, "duration_ms", 1000, 60000, 3000) * NS_PER_MS;
    s->saturation_concurrency =
        (uint32_t)fields_int(&of, "concurrency", 1, LOAD_CONNECTIONS_MAX, 64);
    bool open = false;
    for (size_t i = 0; i < s->spec.role_count; i++) {
        const struct load_role *role = &s->spec.roles[i];
        open = open || role->open;
        if (role->kind == LOAD_WORKER && role->batch > 1) {
            fields_fail(&of, "times", "needs workers with batch 1");
        }
    }
    if (!open) {
        fields_fail(&of, "times", "needs a producer with 'arrival'");
    }
    f->code = fields_end(&of);
}

struct load_scenario *load_scenario_parse(const struct json *scenario, double duration_scale,
                                          double rate_scale, struct err *err)
{
    struct load_scenario *s = calloc(1, sizeof *s);
    if (s == NULL) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    struct fields f;
    fields_begin(&f, scenario, "", err);
    fields_require(&f, "duration_ms");
    int64_t duration_ms = fields_int(&f, "duration_ms", 1, DAY_MS, 1000);
    s->spec.seed = (uint64_t)fields_int(&f, "seed", 0, INT64_C(1) << 53, 1);
    s->spec.duration_ns = llround((double)duration_ms * 1e6 * duration_scale);
    s->spec.drain_ns = read_ms(&f, "drain_ms", 30000);
    /* Either so many equal tenants, or their weights. */
    const struct json *weights = fields_any(&f, "tenants");
    s->spec.tenant_count = (size_t)json_int(weights, 1);
    if (weights != NULL && json_type(weights) == JSON_ARRAY) {
        s->spec.tenant_count = json_count(weights);
    }
    if (s->spec.tenant_count < 1 || s->spec.tenant_count > LOAD_TENANTS_MAX) {
        fields_fail(&f, "tenants", "give 1 to %d, or a list of weights", LOAD_TENANTS_MAX);
        s->spec.tenant_count = 1;
    }
    const struct json *weight =
        weights != NULL && json_type(weights) == JSON_ARRAY ? json_first(weights) : NULL;
    for (size_t i = 0; i < s->spec.tenant_count; i++) {
        s->spec.tenants[i].weight = json_number(weight, 1);
        if (!(s->spec.tenants[i].weight > 0)) {
            fields_fail(&f, "tenants", "weights must be above 0");
        }
        weight = weight != NULL ? json_next(weight) : NULL;
    }
    read_lists(&f, s, duration_scale, rate_scale);
    read_saturation(&f, s, rate_scale);
    if (f.code != 0) {
        free(s);
        return NULL;
    }
    return s;
}

void load_scenario_free(struct load_scenario *scenario)
{
    free(scenario);
}
