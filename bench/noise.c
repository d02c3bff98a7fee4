#include "noise.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define STEAL_RATIO_MAX 0.01
#define OTHERS_RATIO_MAX 0.05
#define MAJOR_FAULTS_PER_SEC_MAX 1.0
#define MHZ_SPREAD_MAX 0.05

static void read_stat(struct noise_sample *out)
{
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL) {
        return;
    }
    char line[4096];
    while (fgets(line, sizeof line, file) != NULL) {
        long long user, nice, system, idle, iowait, irq, softirq, steal;
        if (strncmp(line, "cpu ", 4) == 0 &&
            sscanf(line, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &system,
                   &idle, &iowait, &irq, &softirq, &steal) == 8) {
            out->cpu_ticks = user + nice + system + idle + iowait + irq + softirq + steal;
            out->idle_ticks = idle + iowait;
            out->steal_ticks = steal;
        } else if (strncmp(line, "cpu", 3) == 0) {
            out->cores++;
        } else if (strncmp(line, "ctxt ", 5) == 0) {
            out->context_switches = atoll(line + 5);
        }
    }
    fclose(file);
}

static void read_vmstat(struct noise_sample *out)
{
    FILE *file = fopen("/proc/vmstat", "re");
    if (file == NULL) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "pgmajfault ", 11) == 0) {
            out->major_faults = atoll(line + 11);
        }
    }
    fclose(file);
}

static void read_mhz(struct noise_sample *out)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) {
        return;
    }
    char line[4096];
    while (fgets(line, sizeof line, file) != NULL) {
        double mhz;
        if (strncmp(line, "cpu ", 4) == 0 && sscanf(line, "cpu MHz : %lf", &mhz) == 1) {
            out->mhz_min = out->mhz_min < 0 || mhz < out->mhz_min ? mhz : out->mhz_min;
            out->mhz_max = mhz > out->mhz_max ? mhz : out->mhz_max;
        }
    }
    fclose(file);
}

void noise_take(struct noise_sample *out)
{
    *out = (struct noise_sample){.cpu_ticks = -1,
                                 .steal_ticks = -1,
                                 .idle_ticks = -1,
                                 .context_switches = -1,
                                 .major_faults = -1,
                                 .load_1min = -1,
                                 .mhz_min = -1,
                                 .mhz_max = -1};
    out->at_ns = clock_monotonic_ns(clock_system());
    read_stat(out);
    read_vmstat(out);
    read_mhz(out);
    double load[1];
    if (getloadavg(load, 1) == 1) {
        out->load_1min = load[0];
    }
}

static double rate(int64_t before, int64_t after, double per)
{
    return before < 0 || after < 0 || per <= 0 ? -1 : (double)(after - before) / per;
}

void noise_between(const struct noise_sample *before, const struct noise_sample *after,
                   struct noise *out)
{
    double seconds = (double)(after->at_ns - before->at_ns) / (double)NS_PER_SEC;
    double ticks = (double)(after->cpu_ticks - before->cpu_ticks);
    double idle_ratio = rate(before->idle_ticks, after->idle_ticks, ticks);
    *out = (struct noise){
        .steal_ratio = rate(before->steal_ticks, after->steal_ticks, ticks),
        .busy_ratio = idle_ratio < 0 ? -1 : 1 - idle_ratio,
        .context_switches_per_sec =
            rate(before->context_switches, after->context_switches, seconds),
        .major_faults_per_sec = rate(before->major_faults, after->major_faults, seconds),
        .load_1min = after->load_1min,
        .mhz_min = fmin(before->mhz_min, after->mhz_min),
        .mhz_max = fmax(before->mhz_max, after->mhz_max),
    };
}

int noise_words(const struct noise *noise, double own_busy_ratio, char *out, size_t bytes)
{
    int count = 0;
    size_t at = 0;
    out[0] = '\0';
    char part[128];
    const double others = noise->busy_ratio - own_busy_ratio - fmax(0, noise->steal_ratio);
    for (int i = 0; i < 4; i++) {
        part[0] = '\0';
        if (i == 0 && noise->steal_ratio > STEAL_RATIO_MAX) {
            snprintf(part, sizeof part, "the hypervisor took %.1f %% of the cores (steal)",
                     noise->steal_ratio * 100);
        } else if (i == 1 && noise->busy_ratio >= 0 && others > OTHERS_RATIO_MAX) {
            snprintf(part, sizeof part, "other processes used %.0f %% of the cores", others * 100);
        } else if (i == 2 && noise->major_faults_per_sec > MAJOR_FAULTS_PER_SEC_MAX) {
            snprintf(part, sizeof part, "%.0f page faults from disk a second",
                     noise->major_faults_per_sec);
        } else if (i == 3 && noise->mhz_min > 0 &&
                   noise->mhz_max > noise->mhz_min * (1 + MHZ_SPREAD_MAX)) {
            snprintf(part, sizeof part, "the clock moved between %.0f and %.0f MHz", noise->mhz_min,
                     noise->mhz_max);
        }
        if (part[0] != '\0' && at < bytes) {
            int n = snprintf(out + at, bytes - at, "%s%s", count > 0 ? "; " : "disturbed: ", part);
            at += n > 0 ? (size_t)n : 0;
            count++;
        }
    }
    if (count == 0) {
        snprintf(out, bytes, "quiet: steal %.1f %%, %.0f context switches a second",
                 fmax(0, noise->steal_ratio) * 100, fmax(0, noise->context_switches_per_sec));
    }
    return count;
}
