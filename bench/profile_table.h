/* The small tables that stand beside a profile: what top, heap and compare read.
 *
 * A table is text: "# codeq-lab.functions/1", "# ops 1000", a row of column names, then rows sorted
 * by their texts, tab-separated. Texts hold no tab and no line end. A row's texts are its key. Main
 * thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define PROFILE_TABLE_BYTES_MAX (8u << 20)
#define PROFILE_TABLE_TEXTS 3
#define PROFILE_TABLE_VALUES 8

enum profile_table_kind {
    PROFILE_TABLE_FUNCTIONS, /* function object file | self inclusive calls */
    PROFILE_TABLE_FOLDED, /* stack | self; "a;b;c 12" a line, as flame graph tools read it */
    PROFILE_TABLE_HEAP, /* site, root first | blocks bytes live_blocks live_bytes peak_blocks
                           peak_bytes */
};

enum { FUNCTION_NAME, FUNCTION_OBJECT, FUNCTION_FILE };
enum { FUNCTION_SELF, FUNCTION_INCLUSIVE, FUNCTION_CALLS };
enum {
    HEAP_BLOCKS,
    HEAP_BYTES,
    HEAP_LIVE_BLOCKS,
    HEAP_LIVE_BYTES,
    HEAP_PEAK_BLOCKS,
    HEAP_PEAK_BYTES
};

struct profile_row {
    char *text[PROFILE_TABLE_TEXTS]; /* owned; NULL past the kind's columns */
    int64_t value[PROFILE_TABLE_VALUES];
};

struct profile_table {
    enum profile_table_kind kind;
    int64_t ops; /* the operations the values stand for; 0: unknown */
    struct profile_row *rows;
    size_t count;
    size_t capacity;
};

const char *profile_table_file(enum profile_table_kind kind); /* "functions.tsv" */

void profile_table_init(struct profile_table *table, enum profile_table_kind kind);
void profile_table_fini(struct profile_table *table);

/* A new row with copies of the texts and zero values; valid until the next one is added. Tabs and
 * line ends in a text become spaces. */
struct profile_row *profile_table_add(struct profile_table *table, const char *const *texts);

/* Sort by the texts and add up rows of equal texts. Rows whose values are all zero go. */
void profile_table_sort(struct profile_table *table);

/* The row of these texts in a sorted table; NULL when there is none. */
const struct profile_row *profile_table_find(const struct profile_table *table,
                                             const char *const *texts);

/* larger - smaller, row by row, both sorted; ops likewise. out is initialised here. */
void profile_table_subtract(struct profile_table *out, const struct profile_table *larger,
                            const struct profile_table *smaller);

/* Sum of one value over all rows. */
int64_t profile_table_sum(const struct profile_table *table, int value);

void profile_table_write(struct buf *out, const struct profile_table *table);

/* 0, or -EBADMSG with text "line N: ...". On failure out holds nothing. */
int profile_table_parse(struct profile_table *out, enum profile_table_kind kind, const char *text,
                        size_t bytes, struct err *err);

/* dir/functions.tsv and so on. -ENOENT when absent; text names the file. */
int profile_table_read(struct profile_table *out, enum profile_table_kind kind, const char *dir,
                       struct err *err);
