/* What a view has seen, as tables: the one form that every sink prints, so that screen, JSON and
 * Prometheus text cannot differ.
 *
 * The owner calls report_init and report_fini. Cells are filled row by row, in the order of the
 * columns. Out of memory aborts. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loghist.h"

#define REPORT_COLUMNS_MAX 20
#define REPORT_TABLES_MAX 8
#define REPORT_NOTES_MAX 24
#define REPORT_LOSSES_MAX 24

enum report_kind {
    REPORT_LABEL, /* text that names the row: a Prometheus label */
    REPORT_TEXT,
    REPORT_COUNT, /* grows for ever: a Prometheus counter */
    REPORT_NUMBER, /* may go down: a gauge */
    REPORT_NS,
    REPORT_BYTES,
    REPORT_HIST, /* durations */
};

struct report_column {
    const char *key; /* with its unit: "latency_ns_p99" */
    const char *head; /* short, for the screen */
    enum report_kind kind;
};

struct report_cell {
    double number; /* NAN: not measured */
    char *text;
    uint64_t *hist; /* LOGHIST_BUCKETS counts */
    uint64_t hist_sum;
};

struct report_table {
    const char *name; /* "syscalls" */
    const struct report_column *columns;
    int columns_len;
    struct report_cell *cells; /* rows_len * columns_len */
    int rows_len;
    int rows_capacity;
    int cells_filled;
};

struct report_loss {
    const char *key;
    const char *meaning;
    uint64_t count;
};

struct report {
    const char *view;
    double seconds; /* that the figures cover */
    double elapsed; /* since the start */
    bool final;
    struct report_table tables[REPORT_TABLES_MAX];
    int tables_len;
    char *notes[REPORT_NOTES_MAX];
    int notes_len;
    struct report_loss losses[REPORT_LOSSES_MAX];
    int losses_len;
};

void report_init(struct report *report, const char *view);
void report_fini(struct report *report);

/* A new table; columns stay the caller's and outlive the report. */
struct report_table *report_table(struct report *report, const char *name,
                                  const struct report_column *columns, int columns_len);
void report_text(struct report_table *table, const char *text); /* copied */
void report_number(struct report_table *table, double number);
void report_hist(struct report_table *table, const uint64_t counts[LOGHIST_BUCKETS], uint64_t sum);

/* Largest first by the column of this key; then by the first column. */
void report_sort(struct report_table *table, const char *key);

void report_note(struct report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What could not be seen. Zeros are kept: that nothing was lost is a statement too. */
void report_loss(struct report *report, const char *key, const char *meaning, uint64_t count);
uint64_t report_lost(const struct report *report); /* all together */
