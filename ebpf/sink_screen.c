#include "sink_screen.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bars of all rows share one axis, so that rows can be compared: a cell is a factor of four. */
#define BAR_FIRST_OCTAVE 8 /* 256 ns */
#define BAR_CELLS 13 /* to 2^34 ns, 17 s */

void screen_duration(double ns, char out[16])
{
    if (isnan(ns)) {
        snprintf(out, 16, "-");
    } else if (ns < 1e3) {
        snprintf(out, 16, "%.0fns", ns);
    } else if (ns < 1e6) {
        snprintf(out, 16, "%.1fus", ns / 1e3);
    } else if (ns < 1e9) {
        snprintf(out, 16, "%.1fms", ns / 1e6);
    } else {
        snprintf(out, 16, "%.2fs", ns / 1e9);
    }
}

static void format_bytes(double bytes, char out[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    while (bytes >= 10240 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, 16, "%.0f%s", bytes, units[unit]);
}

static void format_bar(const uint64_t counts[LOGHIST_BUCKETS], bool utf8, char *out, size_t bytes)
{
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const ascii[] = {" ", ".", ":", "-", "=", "+", "*", "#", "@"};
    uint64_t cells[BAR_CELLS] = {0};
    uint64_t most = 0;
    for (int i = 0; i < LOGHIST_BUCKETS; i++) {
        int octave = i < 8 ? 2 : i / 8 + 2;
        int cell = (octave - BAR_FIRST_OCTAVE) / 2;
        cell = octave < BAR_FIRST_OCTAVE ? 0 : (cell >= BAR_CELLS ? BAR_CELLS - 1 : cell);
        cells[cell] += counts[i];
        most = cells[cell] > most ? cells[cell] : most;
    }
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < BAR_CELLS; i++) {
        int level = cells[i] == 0 ? 0 : 1 + (int)(7.0 * (double)cells[i] / (double)most);
        n += (size_t)snprintf(out + n, bytes - n, "%s", (utf8 ? blocks : ascii)[level]);
    }
}

static void format_cell(const struct report_column *column, const struct report_cell *cell,
                        bool utf8, char *out, size_t bytes)
{
    char text[16];
    switch (column->kind) {
    case REPORT_LABEL:
    case REPORT_TEXT:
        snprintf(out, bytes, "%.48s", cell->text != NULL ? cell->text : "-");
        return;
    case REPORT_COUNT:
        if (isnan(cell->number)) {
            snprintf(out, bytes, "-");
        } else {
            snprintf(out, bytes, "%.0f", cell->number);
        }
        return;
    case REPORT_NUMBER:
        if (isnan(cell->number)) {
            snprintf(out, bytes, "-");
        } else if (cell->number >= 100 || cell->number == floor(cell->number)) {
            snprintf(out, bytes, "%.0f", cell->number);
        } else {
            snprintf(out, bytes, "%.2f", cell->number);
        }
        return;
    case REPORT_NS:
        screen_duration(cell->number, text);
        snprintf(out, bytes, "%s", text);
        return;
    case REPORT_BYTES:
        if (isnan(cell->number)) {
            snprintf(out, bytes, "-");
        } else {
            format_bytes(cell->number, text);
            snprintf(out, bytes, "%s", text);
        }
        return;
    case REPORT_HIST:
        format_bar(cell->hist, utf8, out, bytes);
        return;
    }
}

/* Cells on the screen, not bytes. */
static int width_of(const char *text)
{
    int width = 0;
    for (const char *p = text; *p != '\0'; p++) {
        width += ((unsigned char)*p & 0xC0) != 0x80;
    }
    return width;
}

static void print_table(const struct report_table *table, const struct screen_options *options,
                        struct buf *out)
{
    int rows = table->rows_len < options->rows_max ? table->rows_len : options->rows_max;
    int columns = table->columns_len;
    int widths[REPORT_COLUMNS_MAX];
    char text[256];
    for (int c = 0; c < columns; c++) {
        widths[c] = width_of(table->columns[c].head);
        if (table->columns[c].kind == REPORT_HIST) {
            widths[c] = BAR_CELLS + 2;
        }
        for (int r = 0; r < rows && table->columns[c].kind != REPORT_HIST; r++) {
            format_cell(&table->columns[c], &table->cells[r * columns + c], options->utf8, text,
                        sizeof text);
            int width = width_of(text);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    for (int r = -1; r < rows; r++) {
        int used = 0;
        if (r < 0 && options->colour) {
            buf_puts(out, "\033[1m");
        }
        for (int c = 0; c < columns; c++) {
            enum report_kind kind = table->columns[c].kind;
            bool left = kind == REPORT_LABEL || kind == REPORT_TEXT || kind == REPORT_HIST;
            if (r < 0) {
                snprintf(text, sizeof text, "%s",
                         kind == REPORT_HIST ? "256ns      17s" : table->columns[c].head);
            } else {
                format_cell(&table->columns[c], &table->cells[r * columns + c], options->utf8, text,
                            sizeof text);
            }
            if (options->columns > 0 && used + widths[c] + 2 > options->columns) {
                break;
            }
            used += widths[c] + 2;
            int pad = widths[c] - width_of(text);
            bool last = c == columns - 1;
            buf_printf(out, "%*s%s%*s%s", left ? 0 : pad, "", text, left && !last ? pad : 0, "",
                       last ? "" : "  ");
        }
        buf_puts(out, r < 0 && options->colour ? "\033[0m\n" : "\n");
    }
    if (rows < table->rows_len) {
        buf_printf(out, "... and %d more rows (--rows)\n", table->rows_len - rows);
    }
    if (table->rows_len == 0) {
        buf_puts(out, "(none seen)\n");
    }
}

void screen_print(const struct report *report, const struct screen_options *options,
                  struct buf *out)
{
    buf_printf(out, "%s%s: %s, %.1f s\n", options->colour ? "\033[1m" : "", report->view,
               report->final ? "summary" : "last interval", report->seconds);
    if (options->colour) {
        buf_puts(out, "\033[0m");
    }
    for (int t = 0; t < report->tables_len; t++) {
        if (t > 0 && report->tables[t].rows_len == 0) {
            continue;
        }
        if (t > 0) {
            buf_printf(out, "\n%s\n", report->tables[t].name);
        }
        print_table(&report->tables[t], options, out);
    }
    for (int i = 0; i < report->notes_len; i++) {
        buf_printf(out, "%s%s\n", i == 0 ? "\n" : "", report->notes[i]);
    }
    bool any = false;
    for (int i = 0; i < report->losses_len; i++) {
        if (report->losses[i].count > 0) {
            buf_printf(out, "%s%llu %s",
                       any ? "; " : "not seen: ", (unsigned long long)report->losses[i].count,
                       report->losses[i].meaning);
            any = true;
        }
    }
    buf_puts(out, any ? "\n" : "not seen: nothing was dropped\n");
}
