/* Rules that tell which script or command does what to a lease: one small text file a scheduler.
 *
 *     scheduler NAME
 *     EVENT MATCH... id=WHERE [skip=BYTES] [bytes=BYTES]
 *
 * EVENT is create, claim, heartbeat, complete, nack, abandon, expire (the scheduler's own finding)
 * or sweep (the number of expired leases alone). MATCH is script=NAME (by SHA, the name given by a
 * line `sha NAME HEX` or built in), command=NAME, keys=NUMBER and key=INDEX:PATTERN (* is any run
 * of bytes), index from 1: of a script's keys, of a plain command's arguments. WHERE is
 * arg:FIRST[:STEP], reply:FIRST[:STEP] (elements of the reply as they come, its own header being
 * 0), member:INDEX (of the outermost array, from 1), packed:INDEX (an argument that is a
 * MessagePack array of ids) or none; argument 0 is the command. STEP `2+len4` is two and the length
 * of argument
 * 4. A plain command (SETEX, not EVALSHA) acts when it is sent, and only where it fits the task's
 * state: a create of a task that is known, or an end of a lease that is not open, is none.
 * README.md has examples. Plain data; one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LEASE_RULES_MAX 64
#define LEASE_KEYS_MAX 4

enum lease_event {
    LEASE_CREATE,
    LEASE_CLAIM,
    LEASE_HEARTBEAT,
    LEASE_COMPLETE,
    LEASE_NACK,
    LEASE_ABANDON,
    LEASE_EXPIRE,
    LEASE_SWEEP,
    LEASE_EVENTS,
};

enum lease_where { LEASE_ARG, LEASE_REPLY, LEASE_MEMBER, LEASE_PACKED, LEASE_NOWHERE };

struct lease_rule {
    char scheduler[32];
    enum lease_event event;
    char script[32];
    char command[32];
    bool plain; /* command is no script */
    int keys; /* -1: any number */
    int key_index[LEASE_KEYS_MAX];
    char key_pattern[LEASE_KEYS_MAX][48];
    int key_len;
    enum lease_where where;
    int first;
    int step; /* 0: only the first */
    int step_len_arg; /* its length is added to step; 0: none */
    int skip;
    int bytes; /* 0: all that is kept */
};

struct lease_rules {
    struct lease_rule rule[LEASE_RULES_MAX];
    int len;
};

const char *lease_event_name(enum lease_event event);

/* Add the rules of a text; source names it in errors. -EINVAL with source and line. */
int lease_rules_parse(struct lease_rules *rules, const char *source, const char *text,
                      struct err *err);
int lease_rules_load(struct lease_rules *rules, const char *path, struct err *err);

/* codeqd's, and the SHAs of its scripts as this build knows them. */
int lease_rules_builtin(struct lease_rules *rules, struct err *err);

/* "*" matches any run of bytes. */
int lease_pattern_matches(const char *pattern, const char *text, size_t bytes);
