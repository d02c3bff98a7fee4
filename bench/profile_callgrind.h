/* callgrind.out: reading it whole, writing it canonically, and the costs per function and stack.
 *
 * The file is hostile: every number, id and length is bounded, and the sum of the lines must equal
 * the file's own totals. One event is read, instructions (Ir); others are skipped.
 * Source: Valgrind manual, "Callgrind Format Specification". Main thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "profile_table.h"
#include "profile_text.h"

#define CALLGRIND_IDS_MAX (1u << 22) /* of each name space of a file */
#define CALLGRIND_RECORDS_MAX (1u << 24)
#define CALLGRIND_COST_MAX (INT64_C(1) << 60)
#define CALLGRIND_FRAMES_MAX 256 /* of one stack */

/* A function in one calling context, as callgrind names it: "leaf'caller'caller". */
struct callgrind_node {
    uint32_t object; /* ids in strings */
    uint32_t file;
    uint32_t name;
};

struct callgrind_cost {
    uint32_t node;
    uint32_t file; /* where the line is; not the node's file where code was inlined */
    int64_t line;
    int64_t self;
};

struct callgrind_call {
    uint32_t caller; /* nodes */
    uint32_t callee;
    uint32_t file; /* of the call */
    int64_t line;
    int64_t callee_line;
    int64_t count;
    int64_t inclusive;
};

struct callgrind {
    struct profile_strings strings;
    struct callgrind_node *nodes;
    size_t node_count;
    struct callgrind_cost *costs;
    size_t cost_count;
    struct callgrind_call *calls;
    size_t call_count;
    int64_t total; /* sum of costs = totals of the file */
    char creator[64]; /* "callgrind-3.19.0" */
    int64_t ops; /* from "desc: ops:", which the canonical form has; 0 without */
};

/* 0, -EBADMSG with text "line N: ..." or -ERANGE past a bound. On failure out holds nothing. */
int callgrind_parse(struct callgrind *out, const char *text, size_t bytes, struct err *err);
void callgrind_fini(struct callgrind *profile);

struct callgrind_write_options {
    int64_t ops;
    const char *const *local_paths;
    bool merge_callers; /* one node a function instead of one a stack: smaller, edges only */
};

/* The canonical file: same totals, same cost per function and line, no pid, time, folder or
 * address. */
void callgrind_write(struct buf *out, const struct callgrind *profile,
                     const struct callgrind_write_options *options);

struct callgrind_region {
    struct profile_table functions; /* kind PROFILE_TABLE_FUNCTIONS */
    struct profile_table stacks; /* kind PROFILE_TABLE_FOLDED */
    int64_t inside; /* sum of self of both tables */
    int64_t outside;
    char outside_function[128]; /* the costliest one that the region did not call; "" */
};

/* Cost per function and per stack at and below the frame `region`. callers_max: how many frames
 * callgrind kept; a stack of that length without the region is a cut one.
 * 0; -ENODATA: nothing under the region; -ERANGE: cut stacks. On failure out holds nothing. */
int callgrind_region(struct callgrind_region *out, const struct callgrind *profile,
                     const char *region, size_t callers_max, const char *const *local_paths,
                     struct err *err);
void callgrind_region_fini(struct callgrind_region *region);
