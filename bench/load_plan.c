#include "load_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/redis_cluster.h"
#include "fields.h"
#include "load/saturation.h"
#include "result.h"

void load_plan_free(struct load_plan *plan)
{
    free(plan->text);
    json_free(plan->json);
    load_scenario_free(plan->load);
}

/* {"--option": "value", ...} into args, and as text into joined. */
static void read_args(struct fields *f, const char *name, const char **args, char joined[2048])
{
    size_t n = 0;
    for (const struct json *c = json_first(fields_object(f, name)); c != NULL; c = json_next(c)) {
        if (json_string(c, NULL) == NULL || strncmp(json_key(c), "--", 2) != 0 ||
            n + 2 > SCENARIO_REDIS_ARGS_MAX) {
            fields_fail(f, name, "has '%.60s': give \"--option\": \"value\"", json_key(c));
            break;
        }
        args[n++] = json_key(c);
        args[n++] = json_string(c, "");
        size_t at = strlen(joined);
        snprintf(joined + at, 2048 - at, "%s %s\n", json_key(c), json_string(c, ""));
    }
}

static int read_redis(struct load_plan *plan, const struct json *redis, struct err *err)
{
    struct fields f;
    fields_begin(&f, redis, "redis", err);
    char joined[2048] = "";
    read_args(&f, "config", plan->redis_config, joined);
    if (json_get(redis, "cluster_masters") != NULL) {
        plan->redis_masters =
            (unsigned)fields_int(&f, "cluster_masters", 3, REDIS_CLUSTER_NODES_MAX, 3);
        size_t at = strlen(joined);
        snprintf(joined + at, sizeof joined - at, "cluster of %u\n", plan->redis_masters);
    }
    digest_bytes(joined, strlen(joined), plan->redis_sha256);
    return fields_end(&f);
}

static int read_service(struct load_plan *plan, const struct json *service, struct err *err)
{
    struct fields f;
    fields_begin(&f, service, "service", err);
    char joined[2048] = "";
    read_args(&f, "config", plan->service_args, joined);
    return fields_end(&f);
}

int load_plan_read(struct load_plan *plan, const char *path, const struct load_options *o,
                   struct err *err)
{
    static const char *const schemas[] = {SCENARIO_SCHEMA, NULL};
    *plan = (struct load_plan){0};
    size_t bytes = 0;
    int code = result_read_file(path, &plan->text, &bytes, err);
    if (code != 0) {
        return code;
    }
    digest_bytes(plan->text, bytes, plan->sha256);
    digest_bytes("", 0, plan->redis_sha256);
    plan->json = json_parse(plan->text, bytes, err);
    if (plan->json == NULL) {
        return err_prefix(err, -EINVAL, "scenario '%s'", path);
    }
    struct fields f;
    fields_begin(&f, plan->json, "", err);
    fields_require(&f, "schema");
    fields_choice(&f, "schema", schemas, 0);
    fields_require(&f, "id");
    snprintf(plan->id, sizeof plan->id, "%s", fields_string(&f, "id", sizeof plan->id, ""));
    if (plan->id[0] == '\0' ||
        plan->id[strspn(plan->id, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0') {
        fields_fail(&f, "id", "give lower-case letters, digits and '-'");
    }
    plan->rev = fields_int(&f, "rev", 1, 1000000, 1);
    snprintf(plan->title, sizeof plan->title, "%s",
             fields_string(&f, "title", sizeof plan->title, ""));
    const struct json *redis = fields_object(&f, "redis");
    const struct json *service = fields_object(&f, "service");
    const struct json *brief = fields_object(&f, "short");
    static const char *const of_the_load[] = {
        "seed", "duration_ms", "drain_ms", "tenants", "roles", "slo", "faults", "saturation", NULL};
    for (int i = 0; of_the_load[i] != NULL; i++) {
        fields_any(&f, of_the_load[i]);
    }
    code = fields_end(&f);
    double duration_scale = 1;
    double rate_scale = o->rate_scale;
    if (code == 0 && brief != NULL) {
        struct fields s;
        fields_begin(&s, brief, "short", err);
        double duration = fields_number(&s, "duration_scale", 1e-4, 1, 1);
        double rate = fields_number(&s, "rate_scale", 1e-3, 1e3, 1);
        code = fields_end(&s);
        if (o->brief) {
            duration_scale = duration;
            rate_scale *= rate;
        }
    }
    if (code == 0 && o->duration_ns > 0) {
        int64_t whole_ms = json_int(json_get(plan->json, "duration_ms"), 1);
        duration_scale = (double)o->duration_ns / ((double)whole_ms * (double)NS_PER_MS);
    }
    if (code == 0 && redis != NULL) {
        code = read_redis(plan, redis, err);
    }
    if (code == 0 && service != NULL) {
        code = read_service(plan, service, err);
    }
    if (code == 0) {
        plan->load = load_scenario_parse(plan->json, duration_scale, rate_scale, err);
        code = plan->load == NULL ? -EINVAL : 0;
    }
    if (code == 0 && plan->redis_masters > 0 && plan->load->fault_count > 0) {
        code = err_set(err, -EINVAL, "faults: act on one Redis: leave out redis.cluster_masters");
    }
    return code == 0 ? 0 : err_prefix(err, code, "scenario '%s'", path);
}
