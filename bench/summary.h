/* The summary of a scenario: derived from its runs and its header alone, byte for byte, so that
 * verify can recompute it. Pure; any thread. */
#pragma once

#include "base/err.h"
#include "base/json.h"

#define SUMMARY_SCHEMA "codeq-lab.summary/1"
#define SUMMARY_SAMPLES_BEYOND_MIN 20

/* What does not come from the runs. Texts are borrowed for the call. */
struct summary_header {
    const char *scenario_id;
    int64_t scenario_rev;
    const char *scenario_sha256;
    const char *redis_config_sha256;
    const char *operation;
    int64_t batch;
    const char *placement;
};

/* The text of summary.json, which the caller frees; NULL with "line N: why" when a run is not what
 * results/README.md says. */
char *summary_derive(const struct summary_header *header, struct json *const *runs, size_t count,
                     struct err *err);

/* Recompute from a parsed summary's own header. */
char *summary_again(const struct json *summary, struct json *const *runs, size_t count,
                    struct err *err);
