/* A scenario file: what is measured, under which load, how often. Schema codeq-lab.scenario/1; its
 * fields stand in scenarios/README.md. What is unknown, wrong or not supported is refused with
 * file, field and what is allowed. Plain data; scenario_free frees it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "digest.h"

#define SCENARIO_SCHEMA "codeq-lab.scenario/1"
#define SCENARIO_ID_BYTES 64
#define SCENARIO_FILE_BYTES_MAX (256 * 1024)
#define SCENARIO_REDIS_ARGS_MAX 24
#define SCENARIO_DEFAULT "scheduler-create-claim-complete"

struct scenario {
    char id[SCENARIO_ID_BYTES];
    int64_t rev;
    char title[160];
    int64_t seed;
    /* what one op is; codeq-drive's workload */
    char operation[32];
    int64_t batch;
    char format[8]; /* raw, json */
    int64_t payload_bytes;
    int64_t preload_tasks; /* waiting before the warm-up, made by a process of its own */
    /* redis-server's arguments, "--name", "value", ..., NULL; point into json */
    const char *redis_config[SCENARIO_REDIS_ARGS_MAX + 1];
    char redis_version_min[16]; /* "6.2"; "" none */
    struct {
        int64_t warm_ops, ops, repeats;
    } counted;
    struct {
        int64_t warm_ops, ops, duration_ms_max, runs;
    } timed;
    char *text; /* the file as it was read */
    char sha256[DIGEST_BYTES]; /* of text */
    struct json *json;
};

/* NULL with text "scenario 'NAME': field: why: what is allowed". */
struct scenario *scenario_parse(const char *name, const char *text, size_t bytes, struct err *err);
struct scenario *scenario_read(const char *path, struct err *err);
void scenario_free(struct scenario *scenario);

/* sha256 of the configuration Redis is started with. */
void scenario_redis_digest(const struct scenario *scenario, char out[DIGEST_BYTES]);
