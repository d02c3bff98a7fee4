/* User side of the wire views: set the kernel side up, read its names, counts and connections. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "wire.h"

struct loader;
struct report;
struct snap;
struct target;
struct view_options;

/* Before loader_load. Hooks in at the sockets where that is enough: for Redis servers alone, of
 * which no system calls are wanted; `target` NULL: never. */
int wire_configure(struct loader *loader, const struct view_options *options,
                   const struct target *target, enum wire_elements elements, bool events,
                   struct err *err);

/* After loader_load: the names whose next word tells more. */
int wire_preset(struct loader *loader);

/* Give a plain command an id before it is seen, for rules about it; number counts from 0. The id,
 * -EEXIST for a command that means more than a plain one (SCRIPT, MONITOR), or another error. */
#define WIRE_COMMANDS_MAX 16
int wire_preset_command(struct loader *loader, int number, const char *name);

struct wire_names {
    char text[WIRE_NAMES_MAX][64]; /* "" when not used */
    bool script[WIRE_NAMES_MAX];
};

/* Read all names again. */
void wire_names_read(struct wire_names *names, const struct loader *loader);

/* Give a script (first 16 hex digits of its SHA-1) a name. Kept for all later reads. */
void wire_script_name(const char *sha, const char *name);
void wire_name_codeqd(void); /* the scripts of the codeqd of this build */

struct wire_counts wire_counts_read(const struct loader *loader);

/* Losses and what the counts say about pipelining. */
void wire_report_counts(const struct wire_counts *counts, const struct view_options *options,
                        struct report *report);

/* "10.0.0.7", "unix", "?" */
void wire_peer_text(unsigned family, const unsigned address[4], char out[64]);

/* Table of commands and table of peers; `before` is the caller's, for intervals. */
void wire_report_commands(const struct loader *loader, struct snap *before, struct report *report);
void wire_report_peers(const struct loader *loader, struct report *report);
