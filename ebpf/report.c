#include "report.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void report_init(struct report *report, const char *view)
{
    memset(report, 0, sizeof *report);
    report->view = view;
}

void report_fini(struct report *report)
{
    for (int t = 0; t < report->tables_len; t++) {
        struct report_table *table = &report->tables[t];
        for (int i = 0; i < table->cells_filled; i++) {
            free(table->cells[i].text);
            free(table->cells[i].hist);
        }
        free(table->cells);
    }
    for (int i = 0; i < report->notes_len; i++) {
        free(report->notes[i]);
    }
    memset(report, 0, sizeof *report);
}

struct report_table *report_table(struct report *report, const char *name,
                                  const struct report_column *columns, int columns_len)
{
    assert(report->tables_len < REPORT_TABLES_MAX);
    assert(columns_len <= REPORT_COLUMNS_MAX);
    struct report_table *table = &report->tables[report->tables_len++];
    table->name = name;
    table->columns = columns;
    table->columns_len = columns_len;
    return table;
}

static struct report_cell *next_cell(struct report_table *table)
{
    if (table->cells_filled == table->rows_capacity * table->columns_len) {
        table->rows_capacity = table->rows_capacity * 2 + 16;
        table->cells = realloc(table->cells, (size_t)(table->rows_capacity * table->columns_len) *
                                                 sizeof *table->cells);
        assert(table->cells != NULL);
    }
    struct report_cell *cell = &table->cells[table->cells_filled++];
    *cell = (struct report_cell){.number = (double)NAN};
    table->rows_len = table->cells_filled / table->columns_len;
    return cell;
}

void report_text(struct report_table *table, const char *text)
{
    struct report_cell *cell = next_cell(table);
    cell->text = strdup(text);
    assert(cell->text != NULL);
    /* Names come from other processes' memory: nothing that moves a terminal's cursor passes. */
    for (unsigned char *p = (unsigned char *)cell->text; *p != '\0'; p++) {
        if (*p < 0x20 || *p >= 0x7f) {
            *p = '?';
        }
    }
}

void report_number(struct report_table *table, double number)
{
    next_cell(table)->number = number;
}

void report_hist(struct report_table *table, const uint64_t counts[LOGHIST_BUCKETS], uint64_t sum)
{
    struct report_cell *cell = next_cell(table);
    cell->hist = malloc(LOGHIST_BUCKETS * sizeof *counts);
    assert(cell->hist != NULL);
    memcpy(cell->hist, counts, LOGHIST_BUCKETS * sizeof *counts);
    cell->hist_sum = sum;
}

struct order {
    const struct report_table *table;
    int column;
};

static int compare_rows(const void *a, const void *b, void *context)
{
    const struct order *order = context;
    const struct report_cell *x = a;
    const struct report_cell *y = b;
    double nx = x[order->column].number;
    double ny = y[order->column].number;
    nx = isnan(nx) ? -1 : nx;
    ny = isnan(ny) ? -1 : ny;
    if (nx > ny || nx < ny) {
        return nx > ny ? -1 : 1;
    }
    for (int i = 0; i < order->table->columns_len; i++) {
        if (x[i].text != NULL && y[i].text != NULL) {
            int c = strcmp(x[i].text, y[i].text);
            if (c != 0) {
                return c;
            }
        }
    }
    return 0;
}

void report_sort(struct report_table *table, const char *key)
{
    for (int i = 0; i < table->columns_len; i++) {
        if (strcmp(table->columns[i].key, key) == 0 && table->rows_len > 0) {
            struct order order = {table, i};
            qsort_r(table->cells, (size_t)table->rows_len,
                    (size_t)table->columns_len * sizeof *table->cells, compare_rows, &order);
            return;
        }
    }
}

void report_note(struct report *report, const char *format, ...)
{
    if (report->notes_len == REPORT_NOTES_MAX) {
        return;
    }
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report->notes[report->notes_len] = strdup(text);
    assert(report->notes[report->notes_len] != NULL);
    report->notes_len++;
}

void report_loss(struct report *report, const char *key, const char *meaning, uint64_t count)
{
    assert(report->losses_len < REPORT_LOSSES_MAX);
    report->losses[report->losses_len++] = (struct report_loss){key, meaning, count};
}

uint64_t report_lost(const struct report *report)
{
    uint64_t sum = 0;
    for (int i = 0; i < report->losses_len; i++) {
        sum += report->losses[i].count;
    }
    return sum;
}
