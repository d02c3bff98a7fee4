#include "sink_json.h"

#include <math.h>
#include <stdio.h>

#include "base/json.h"

static void add_hist(struct json *object, const char *key, const uint64_t *counts)
{
    struct json *array = json_add_array(object, key);
    for (int i = 0; i < LOGHIST_BUCKETS; i++) {
        if (counts[i] > 0) {
            struct json *pair = json_new_array();
            json_append(pair, json_new_number((double)loghist_low(i)));
            json_append(pair, json_new_number((double)counts[i]));
            json_append(array, pair);
        }
    }
}

char *sink_json(const struct report *report)
{
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-trace.report/1");
    json_add_string(root, "view", report->view);
    json_add_number(root, "seconds", report->seconds);
    json_add_number(root, "elapsed_seconds", report->elapsed);
    json_add_bool(root, "final", report->final);
    for (int t = 0; t < report->tables_len; t++) {
        const struct report_table *table = &report->tables[t];
        struct json *array = json_add_array(root, table->name);
        for (int r = 0; r < table->rows_len; r++) {
            struct json *row = json_new_object();
            for (int c = 0; c < table->columns_len; c++) {
                const struct report_cell *cell = &table->cells[r * table->columns_len + c];
                const char *key = table->columns[c].key;
                if (cell->text != NULL) {
                    json_add_string(row, key, cell->text);
                } else if (cell->hist != NULL) {
                    add_hist(row, key, cell->hist);
                } else if (isnan(cell->number)) {
                    json_add_null(row, key);
                } else {
                    json_add_number(row, key, cell->number);
                }
            }
            json_append(array, row);
        }
    }
    struct json *notes = json_add_array(root, "notes");
    for (int i = 0; i < report->notes_len; i++) {
        json_append(notes, json_new_string(report->notes[i]));
    }
    struct json *losses = json_add_object(root, "losses");
    for (int i = 0; i < report->losses_len; i++) {
        json_add_number(losses, report->losses[i].key, (double)report->losses[i].count);
    }
    char *text = json_print(root);
    json_free(root);
    return text;
}
