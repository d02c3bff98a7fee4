#include "redis_watch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/redis_server.h"

static void read_text(const char *info, const char *field, char *out, size_t bytes)
{
    out[0] = '\0';
    const char *at = strstr(info, field);
    if (at != NULL) {
        at += strlen(field);
        snprintf(out, bytes, "%.*s", (int)strcspn(at, "\r\n"), at);
    }
}

void redis_events_parse(const char *text, struct redis_look *out)
{
    out->events = 0;
    out->event_worst_ms = 0;
    out->event_name[0] = '\0';
    for (const char *line = text; line != NULL;
         line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL) {
        int number;
        char name[32];
        long long spikes;
        if (line[0] < '0' || line[0] > '9' || /* sscanf would go on to the next line */
            sscanf(line, "%d. %31[^:\n]: %lld latency spikes", &number, name, &spikes) != 3 ||
            spikes < 0 || spikes > INT32_MAX) {
            continue;
        }
        static const char worst_text[] = "Worst all time event ";
        size_t length = strcspn(line, "\n");
        const char *worst = strstr(line, worst_text);
        long long worst_ms = worst != NULL && worst < line + length
                                 ? strtoll(worst + sizeof worst_text - 1, NULL, 10)
                                 : 0;
        out->events += spikes;
        if (worst_ms >= out->event_worst_ms) {
            out->event_worst_ms = worst_ms;
            snprintf(out->event_name, sizeof out->event_name, "%s", name);
        }
    }
}

int redis_look_take(const char *place, struct redis_look *out, struct err *err)
{
    char *info = NULL;
    int code = redis_server_info(place, "everything", &info, err);
    if (code != 0) {
        return code;
    }
    *out = (struct redis_look){.events = -1};
    read_text(info, "redis_version:", out->version, sizeof out->version);
    out->cpu_us =
        (redis_info_number(info, "used_cpu_sys") + redis_info_number(info, "used_cpu_user")) * 1e6;
    out->peak_bytes = redis_info_number(info, "used_memory_peak");
    out->forks = redis_info_number(info, "total_forks");
    out->fork_us = redis_info_number(info, "latest_fork_usec");
    free(info);
    char *doctor = NULL;
    if (redis_server_ask(place, "LATENCY DOCTOR", &doctor, NULL) == 0) {
        redis_events_parse(doctor, out);
        free(doctor);
    }
    return 0;
}

int redis_watch_events(const char *place, struct err *err)
{
    char command[80];
    char *reply = NULL;
    snprintf(command, sizeof command, "CONFIG SET latency-monitor-threshold %d",
             REDIS_WATCH_EVENT_MS);
    int code = redis_server_ask(place, command, &reply, err);
    free(reply);
    return code;
}

int redis_words(const struct redis_look *before, const struct redis_look *after, char *out,
                size_t bytes)
{
    int count = 0;
    out[0] = '\0';
    int64_t events = after->events < 0                ? 0
                     : after->events < before->events ? after->events
                     : before->events < 0             ? 0
                                                      : after->events - before->events;
    double forks = after->forks < before->forks ? after->forks : after->forks - before->forks;
    size_t at = 0;
    if (events > 0) {
        int n = snprintf(out, bytes, "; Redis: %lld latency events, the worst %lld ms (%s)",
                         (long long)events, (long long)after->event_worst_ms, after->event_name);
        at = n > 0 ? (size_t)n : 0;
        count++;
    }
    if (forks > 0 && at < bytes) {
        snprintf(out + at, bytes - at, "; Redis forked %.0f times, the last paused it %.1f ms",
                 forks, after->fork_us / 1e3);
        count++;
    }
    return count;
}
