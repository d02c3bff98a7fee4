#include "noise_floor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "result.h"

void noise_floor_path(const char *env8, const struct scenario *scenario, char *out, size_t bytes)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    bool own = cache != NULL && cache[0] == '/';
    snprintf(out, bytes, "%.600s%s/codeq-lab/noise/%s-%s-%.8s.ndjson",
             own                              ? cache
             : home != NULL && home[0] == '/' ? home
                                              : "/tmp",
             own ? "" : "/.cache", env8, scenario->id, scenario->sha256);
}

static void take(struct noise_floor *floor, const char *id, double effect)
{
    double ratio = effect > 0 && isfinite(effect) ? expm1(fabs(log(effect))) : 0;
    ratio = fmin(ratio, NOISE_FLOOR_MAX);
    for (size_t i = 0; i < floor->count; i++) {
        if (strcmp(floor->metrics[i].id, id) == 0) {
            floor->metrics[i].ratio = fmax(floor->metrics[i].ratio, ratio);
            return;
        }
    }
    if (floor->count < PAIRS_METRICS_MAX && strlen(id) < METRIC_ID_BYTES_MAX) {
        snprintf(floor->metrics[floor->count].id, METRIC_ID_BYTES_MAX, "%s", id);
        floor->metrics[floor->count++].ratio = ratio;
    }
}

void noise_floor_read(const char *path, struct noise_floor *out)
{
    *out = (struct noise_floor){0};
    char *text = NULL;
    size_t bytes = 0;
    if (result_read_file(path, &text, &bytes, NULL) != 0) {
        return;
    }
    /* From the end: the newest lines. */
    for (size_t end = bytes; end > 0 && out->comparisons < NOISE_FLOOR_LINES;) {
        size_t start = end - 1;
        while (start > 0 && text[start - 1] != '\n') {
            start--;
        }
        struct json *line = json_parse(text + start, end - start, NULL);
        if (json_int(json_get(line, "v"), 0) == 1 &&
            json_int(json_get(line, "pairs"), 0) >= NOISE_FLOOR_PAIRS_MIN) {
            out->comparisons++;
            for (const struct json *c = json_first(json_get(line, "effects")); c != NULL;
                 c = json_next(c)) {
                take(out, json_key(c), json_number(c, 0));
            }
        }
        json_free(line);
        end = start;
    }
    free(text);
}

double noise_floor_of(const struct noise_floor *floor, const char *id)
{
    for (size_t i = 0; floor != NULL && i < floor->count; i++) {
        if (strcmp(floor->metrics[i].id, id) == 0) {
            return floor->metrics[i].ratio;
        }
    }
    return 0;
}

int noise_floor_add(const char *path, const char *const *ids, const double *effects, size_t count,
                    size_t pairs, struct err *err)
{
    if (pairs < NOISE_FLOOR_PAIRS_MIN) {
        return 0;
    }
    char dir[RESULT_PATH_MAX];
    char now[CLOCK_RFC3339_BYTES];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash != NULL) {
        *slash = '\0';
        int code = result_make_dirs(dir, err);
        if (code != 0) {
            return code;
        }
    }
    clock_format_rfc3339(clock_wall_ns(clock_system()), now);
    struct json *line = json_new_object();
    json_add_int(line, "v", 1);
    json_add_string(line, "created", now);
    json_add_int(line, "pairs", (int64_t)pairs);
    struct json *list = json_add_object(line, "effects");
    for (size_t i = 0; i < count; i++) {
        if (isfinite(effects[i])) {
            json_add_number(list, ids[i], effects[i]);
        }
    }
    return result_append_run(path, line, err);
}
