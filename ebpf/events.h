/* Commands one by one, for `commands --events` and `--show-keys`: takes the events of the wire
 * views, gives each command its key, prints a line for it, adds up by key.
 *
 * A command and its key are two events, joined by connection and number of the request, so a lost
 * one never lends its key to another. Memory is bounded: what does not fit is counted. One thread.
 */
#pragma once

#include <stddef.h>

struct events;
struct loader;
struct report;
struct target;
struct view_options;

/* All arguments stay the caller's and live longer. Lines go to stdout. */
struct events *events_new(const struct loader *loader, const struct target *target,
                          const struct view_options *options);
void events_free(struct events *events); /* accepts NULL */

/* A loader_event_fn; context is a struct events. */
void events_take(void *context, const void *data, size_t bytes);

/* The table of keys, when they were asked for, and what was not shown. */
void events_report(struct events *events, struct report *report);
