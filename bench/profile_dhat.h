/* dhat.json: reading, the table of allocation sites, and the canonical file.
 *
 * Sites are program points whose stacks read the same once addresses are gone: their numbers are
 * added up. The file is hostile: numbers, indexes and depth are bounded.
 * Source: Valgrind's dh_view.js, which checks the same fields (file version 2). Main thread only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "profile_table.h"
#include "profile_text.h"

#define DHAT_FRAMES_MAX 256
#define DHAT_POINTS_MAX (1u << 18)

enum dhat_value {
    DHAT_TB,
    DHAT_TBK,
    DHAT_TL,
    DHAT_MB,
    DHAT_MBK,
    DHAT_GB,
    DHAT_GBK,
    DHAT_EB,
    DHAT_EBK,
    DHAT_RB,
    DHAT_WB,
    DHAT_VALUES
};

struct dhat_point {
    int64_t value[DHAT_VALUES]; /* DHAT_MB, DHAT_MBK: the larger where points are joined */
    uint32_t *frames; /* ids in strings, leaf first; owned */
    size_t frame_count;
};

struct dhat {
    struct profile_strings strings; /* canonical frames: "0x0: name (file.c:12)" */
    struct dhat_point *points; /* sorted by their frames' texts, no two alike */
    size_t count;
};

/* 0, -EBADMSG or -ERANGE with text. On failure out holds nothing. */
int dhat_parse(struct dhat *out, const char *text, size_t bytes, const char *const *local_paths,
               struct err *err);
void dhat_fini(struct dhat *profile);

/* A row a site: functions from the root to the one that allocates, ';' between, without lines (they
 * move with every commit) and without malloc itself. out is initialised here; sorted. */
void dhat_sites(struct profile_table *out, const struct dhat *profile);

/* The canonical file: same schema, points and frames in a fixed order, no command, pid or address.
 */
void dhat_write(struct buf *out, const struct dhat *profile);
