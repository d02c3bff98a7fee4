#include "sink_prometheus.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define FIRST_OCTAVE 10 /* 1 us */
#define LAST_OCTAVE 34 /* 17 s */

static void put_labels(const struct report_table *table, const struct report_cell *row,
                       struct buf *out)
{
    const char *comma = "";
    for (int c = 0; c < table->columns_len; c++) {
        if (table->columns[c].kind != REPORT_LABEL) {
            continue;
        }
        buf_printf(out, "%s%s=\"", comma, table->columns[c].key);
        for (const char *p = row[c].text; *p != '\0'; p++) {
            buf_printf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
        }
        buf_puts(out, "\"");
        comma = ",";
    }
}

static void put_hist(const struct report_table *table, const char *name, int column,
                     struct buf *out)
{
    buf_printf(out, "# TYPE %s histogram\n", name);
    for (int r = 0; r < table->rows_len; r++) {
        const struct report_cell *row = &table->cells[r * table->columns_len];
        const uint64_t *counts = row[column].hist;
        uint64_t sum = 0;
        int bucket = 0;
        for (int octave = FIRST_OCTAVE; octave <= LAST_OCTAVE; octave++) {
            while (bucket < LOGHIST_BUCKETS && loghist_low(bucket) < UINT64_C(1) << octave) {
                sum += counts[bucket++];
            }
            buf_printf(out, "%s_bucket{", name);
            put_labels(table, row, out);
            buf_printf(out, ",le=\"%.9g\"} %llu\n", (double)(UINT64_C(1) << octave) / 1e9,
                       (unsigned long long)sum);
        }
        while (bucket < LOGHIST_BUCKETS) {
            sum += counts[bucket++];
        }
        const char *const tails[] = {"_bucket", "_count", "_sum"};
        for (int t = 0; t < 3; t++) {
            buf_printf(out, "%s%s{", name, tails[t]);
            put_labels(table, row, out);
            if (t < 2) {
                buf_printf(out, "%s} %llu\n", t == 0 ? ",le=\"+Inf\"" : "",
                           (unsigned long long)sum);
            } else {
                buf_printf(out, "} %.9f\n", (double)row[column].hist_sum / 1e9);
            }
        }
    }
}

static void put_column(const struct report_table *table, int column, struct buf *out)
{
    const struct report_column *c = &table->columns[column];
    char name[160];
    char key[64];
    snprintf(key, sizeof key, "%s", c->key);
    size_t n = strlen(key);
    bool seconds = n > 3 && strcmp(key + n - 3, "_ns") == 0;
    if (seconds) {
        key[n - 3] = '\0';
    }
    bool counter = c->kind == REPORT_COUNT;
    snprintf(name, sizeof name, "codeq_trace_%s_%s%s%s", table->name, key,
             seconds ? "_seconds" : "", counter ? "_total" : "");
    if (c->kind == REPORT_HIST) {
        put_hist(table, name, column, out);
        return;
    }
    buf_printf(out, "# TYPE %s %s\n", name, counter ? "counter" : "gauge");
    for (int r = 0; r < table->rows_len; r++) {
        const struct report_cell *row = &table->cells[r * table->columns_len];
        if (isnan(row[column].number)) {
            continue;
        }
        buf_printf(out, "%s{", name);
        put_labels(table, row, out);
        buf_printf(out, "} %.17g\n", row[column].number / (seconds ? 1e9 : 1));
    }
}

void sink_prometheus(const struct report *report, struct buf *out)
{
    for (int t = 0; t < report->tables_len; t++) {
        const struct report_table *table = &report->tables[t];
        for (int c = 0; c < table->columns_len; c++) {
            enum report_kind kind = table->columns[c].kind;
            /* Quantiles and rates are the reader's to compute. */
            bool derived = strstr(table->columns[c].key, "_ns_") != NULL ||
                           strstr(table->columns[c].key, "per_sec") != NULL;
            if (kind != REPORT_LABEL && kind != REPORT_TEXT && !derived) {
                put_column(table, c, out);
            }
        }
    }
    buf_puts(out, "# TYPE codeq_trace_lost_total counter\n");
    for (int i = 0; i < report->losses_len; i++) {
        buf_printf(out, "codeq_trace_lost_total{what=\"%s\"} %llu\n", report->losses[i].key,
                   (unsigned long long)report->losses[i].count);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    buf_printf(out,
               "# TYPE codeq_trace_cpu_seconds_total counter\ncodeq_trace_cpu_seconds_total %.6f\n",
               (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
}
