/* What Redis itself tells of a run: its CPU, forks and latency events, between two looks.
 *
 * A place is a unix socket's path or redis://[[user]:password@]host[:port]. Reads INFO and LATENCY
 * DOCTOR; redis_watch_events alone changes a setting, so it is for servers that the lab started. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define REDIS_WATCH_EVENT_MS 10 /* what Redis is told to call a latency event */

struct redis_look {
    char version[24];
    double cpu_us; /* of the server's process, its children left out */
    double peak_bytes; /* of its memory */
    double forks;
    double fork_us; /* the last one; NAN with no field */
    int64_t events; /* latency events since the start or reset; -1: not known */
    int64_t event_worst_ms;
    char event_name[32]; /* of the worst */
};

/* 0, or negative errno with text that holds no password. */
int redis_look_take(const char *place, struct redis_look *out, struct err *err);

/* Let the server note latency events from here on. */
int redis_watch_events(const char *place, struct err *err);

/* Add up the "name: N latency spikes (...). Worst all time event Nms." lines of text. Pure. */
void redis_events_parse(const char *text, struct redis_look *out);

/* "; Redis: 3 latency events, the worst 22 ms (command); a fork paused it 4.1 ms", or "". Returns
 * how many disturbances it names. A server that began again between the looks counts from 0. */
int redis_words(const struct redis_look *before, const struct redis_look *after, char *out,
                size_t bytes);
