#include "windows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int take_calls(struct windows *windows, const struct json *latency, struct err *err)
{
    size_t at = windows->count;
    size_t calls = 0;
    for (const struct json *c = json_first(latency); c != NULL; c = json_next(c), calls++) {
        const char *name = json_key(c);
        const char *text = json_string(json_get(c, "b64"), "");
        if (calls == WINDOWS_CALLS_MAX || name == NULL || strlen(name) > 31 ||
            (at > 0 &&
             (calls >= windows->call_count || strcmp(name, windows->names[calls]) != 0))) {
            return err_set(err, -EPROTO,
                           "driver: stop: latency has other calls than in the windows before");
        }
        struct hist *hist = &windows->items[at].calls[calls];
        if (hist_decode(hist, text, strlen(text), err) != 0) {
            return err_prefix(err, -EPROTO, "driver: stop: latency.%s", name);
        }
        windows->call_count = at == 0 ? calls + 1 : windows->call_count;
        snprintf(windows->names[calls], sizeof windows->names[calls], "%s", name);
        if (hist_count(hist) == 0) {
            return err_set(err, -EPROTO, "driver: stop: latency.%s is empty", name);
        }
        windows->items[at].p50_ns += (double)hist_quantile_ns(hist, 0.5);
    }
    return calls > 0 && calls == windows->call_count
               ? 0
               : err_set(err, -EPROTO, "driver: stop: latency lacks calls of the windows before");
}

int windows_add(struct windows *windows, const struct json *stopped, struct err *err)
{
    size_t at = windows->count;
    if (at == STEADY_WINDOWS) {
        return err_set(err, -E2BIG, "more than %d windows", STEADY_WINDOWS);
    }
    windows->items[at].ops = json_int(json_get(stopped, "ops"), -1);
    windows->items[at].dur_ns = json_int(json_get(stopped, "duration_ns"), -1);
    windows->items[at].cpu_ns = json_int(json_get(stopped, "cpu_ns"), -1);
    windows->items[at].p50_ns = 0;
    int code = windows->items[at].ops > 0 && windows->items[at].dur_ns > 0 &&
                       windows->items[at].cpu_ns >= 0
                   ? take_calls(windows, json_get(stopped, "latency"), err)
                   : err_set(err, -EPROTO, "driver: stop: ops, duration_ns or cpu_ns is missing");
    if (code != 0) {
        for (size_t c = 0; c < WINDOWS_CALLS_MAX; c++) {
            hist_fini(&windows->items[at].calls[c]);
        }
        memset(&windows->items[at], 0, sizeof windows->items[at]);
        return code;
    }
    windows->count++;
    return 0;
}

static int add_call(const struct windows *windows, size_t call, size_t cut, struct json *latency,
                    struct err *err)
{
    struct hist sum;
    int code = hist_init(&sum, &windows->items[cut].calls[call].config, err);
    if (code != 0) {
        return code;
    }
    for (size_t i = cut; i < windows->count && code == 0; i++) {
        code = hist_merge(&sum, &windows->items[i].calls[call], err);
    }
    if (code == 0) {
        char *text = hist_encode(&sum);
        struct json *one = json_add_object(latency, windows->names[call]);
        json_add_string(one, "enc", "HDR-V2");
        json_add_int(one, "lo", sum.config.lowest_ns);
        json_add_int(one, "hi", sum.config.highest_ns);
        json_add_int(one, "sig", sum.config.digits);
        json_add_int(one, "n", hist_count(&sum));
        json_add_int(one, "clamped", hist_clamped(&sum));
        json_add_string(one, "b64", text != NULL ? text : "");
        free(text);
    }
    hist_fini(&sum);
    return code;
}

int windows_sum(const struct windows *windows, uint64_t seed, struct windows_sum *out,
                struct err *err)
{
    double p50[STEADY_WINDOWS];
    double rate[STEADY_WINDOWS];
    for (size_t i = 0; i < windows->count; i++) {
        p50[i] = windows->items[i].p50_ns;
        rate[i] = (double)windows->items[i].ops / (double)windows->items[i].dur_ns;
    }
    int cut = steady_cut(p50, rate, windows->count, seed, err);
    if (cut < 0 && cut != -ENODATA) {
        return cut;
    }
    struct windows_sum sum = {.cut = cut < 0 ? 0 : (size_t)cut, .steady = cut >= 0};
    for (size_t i = sum.cut; i < windows->count; i++) {
        sum.ops += windows->items[i].ops;
        sum.dur_ns += windows->items[i].dur_ns;
        sum.cpu_ns += windows->items[i].cpu_ns;
    }
    sum.latency = json_new_object();
    int code = 0;
    for (size_t c = 0; c < windows->call_count && code == 0; c++) {
        code = add_call(windows, c, sum.cut, sum.latency, err);
    }
    if (code != 0) {
        json_free(sum.latency);
        return code;
    }
    *out = sum;
    return 0;
}

void windows_fini(struct windows *windows)
{
    for (size_t i = 0; i < windows->count; i++) {
        for (size_t c = 0; c < windows->call_count; c++) {
            hist_fini(&windows->items[i].calls[c]);
        }
    }
    memset(windows, 0, sizeof *windows);
}
