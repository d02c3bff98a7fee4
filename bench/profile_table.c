#include "profile_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profile_text.h"

struct shape {
    const char *schema;
    const char *file;
    int texts;
    int values;
    const char *columns;
};

static const struct shape shapes[] = {
    [PROFILE_TABLE_FUNCTIONS] = {"codeq-lab.functions/1", "functions.tsv", 3, 3,
                                 "function\tobject\tfile\tself\tinclusive\tcalls"},
    [PROFILE_TABLE_FOLDED] = {"codeq-lab.folded/1", "folded.txt", 1, 1, NULL},
    [PROFILE_TABLE_HEAP] = {"codeq-lab.heap/1", "heap.tsv", 1, 6,
                            "site\tblocks\tbytes\tlive_blocks\tlive_bytes\tpeak_blocks\tpeak_"
                            "bytes"},
};

const char *profile_table_file(enum profile_table_kind kind)
{
    return shapes[kind].file;
}

void profile_table_init(struct profile_table *table, enum profile_table_kind kind)
{
    *table = (struct profile_table){.kind = kind};
}

void profile_table_fini(struct profile_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        for (int t = 0; t < PROFILE_TABLE_TEXTS; t++) {
            free(table->rows[i].text[t]);
        }
    }
    free(table->rows);
    *table = (struct profile_table){.kind = table->kind};
}

static char *copy_text(const char *text, size_t bytes)
{
    char *copy = malloc(bytes + 1);
    if (copy == NULL) {
        abort();
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        copy[i] = c < 0x20 || c == 0x7f ? ' ' : text[i];
    }
    copy[bytes] = '\0';
    return copy;
}

static struct profile_row *add_row(struct profile_table *table)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity == 0 ? 64 : table->capacity * 2;
        table->rows = realloc(table->rows, table->capacity * sizeof *table->rows);
        if (table->rows == NULL) {
            abort();
        }
    }
    struct profile_row *row = &table->rows[table->count++];
    *row = (struct profile_row){0};
    return row;
}

struct profile_row *profile_table_add(struct profile_table *table, const char *const *texts)
{
    struct profile_row *row = add_row(table);
    for (int t = 0; t < shapes[table->kind].texts; t++) {
        row->text[t] = copy_text(texts[t], strlen(texts[t]));
    }
    return row;
}

static int compare_texts(const char *const *a, const char *const *b)
{
    for (int t = 0; t < PROFILE_TABLE_TEXTS && a[t] != NULL && b[t] != NULL; t++) {
        int order = strcmp(a[t], b[t]);
        if (order != 0) {
            return order;
        }
    }
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    const struct profile_row *x = a;
    const struct profile_row *y = b;
    return compare_texts((const char *const *)x->text, (const char *const *)y->text);
}

/* Files are hostile: a sum that does not fit stays at the end of the range. */
static int64_t add_clamped(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return a < 0 ? INT64_MIN + 1 : INT64_MAX;
    }
    return sum;
}

static bool is_zero(const struct profile_row *row)
{
    for (int v = 0; v < PROFILE_TABLE_VALUES; v++) {
        if (row->value[v] != 0) {
            return false;
        }
    }
    return true;
}

void profile_table_sort(struct profile_table *table)
{
    if (table->count == 0) {
        return;
    }
    qsort(table->rows, table->count, sizeof *table->rows, compare_rows);
    size_t kept = 0;
    for (size_t i = 0; i < table->count;) {
        struct profile_row row = table->rows[i++];
        while (i < table->count && compare_rows(&row, &table->rows[i]) == 0) {
            for (int v = 0; v < PROFILE_TABLE_VALUES; v++) {
                row.value[v] = add_clamped(row.value[v], table->rows[i].value[v]);
            }
            for (int t = 0; t < PROFILE_TABLE_TEXTS; t++) {
                free(table->rows[i].text[t]);
            }
            i++;
        }
        if (is_zero(&row)) {
            for (int t = 0; t < PROFILE_TABLE_TEXTS; t++) {
                free(row.text[t]);
            }
        } else {
            table->rows[kept++] = row;
        }
    }
    table->count = kept;
}

const struct profile_row *profile_table_find(const struct profile_table *table,
                                             const char *const *texts)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_texts(texts, (const char *const *)table->rows[middle].text);
        if (order == 0) {
            return &table->rows[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

static void add_signed(struct profile_table *out, const struct profile_table *from, int sign)
{
    for (size_t i = 0; i < from->count; i++) {
        struct profile_row *row = profile_table_add(out, (const char *const *)from->rows[i].text);
        for (int v = 0; v < PROFILE_TABLE_VALUES; v++) {
            row->value[v] = sign * from->rows[i].value[v];
        }
    }
}

void profile_table_subtract(struct profile_table *out, const struct profile_table *larger,
                            const struct profile_table *smaller)
{
    profile_table_init(out, larger->kind);
    out->ops = larger->ops - smaller->ops;
    add_signed(out, larger, 1);
    add_signed(out, smaller, -1);
    profile_table_sort(out);
}

int64_t profile_table_sum(const struct profile_table *table, int value)
{
    int64_t sum = 0;
    for (size_t i = 0; i < table->count; i++) {
        sum = add_clamped(sum, table->rows[i].value[value]);
    }
    return sum;
}

void profile_table_write(struct buf *out, const struct profile_table *table)
{
    const struct shape *shape = &shapes[table->kind];
    /* Flame graph tools take every line of folded stacks for a stack: no head there. */
    if (shape->columns != NULL) {
        buf_printf(out, "# %s\n# ops %" PRId64 "\n%s\n", shape->schema, table->ops, shape->columns);
    }
    for (size_t i = 0; i < table->count; i++) {
        for (int t = 0; t < shape->texts; t++) {
            buf_printf(out, "%s%s", t > 0 ? "\t" : "", table->rows[i].text[t]);
        }
        for (int v = 0; v < shape->values; v++) {
            buf_printf(out, "%c%" PRId64, shape->columns != NULL ? '\t' : ' ',
                       table->rows[i].value[v]);
        }
        buf_puts(out, "\n");
    }
}

static bool signed_number(const char *text, size_t bytes, int64_t *out_value)
{
    bool negative = bytes > 0 && text[0] == '-';
    int64_t value;
    if (!profile_number(text + negative, bytes - negative, &value) || value > (INT64_C(1) << 60)) {
        return false;
    }
    *out_value = negative ? -value : value;
    return true;
}

static int parse_row(struct profile_table *out, const struct profile_line *line, struct err *err)
{
    const struct shape *shape = &shapes[out->kind];
    struct profile_row *row = add_row(out);
    const char *at = line->text;
    const char *end = line->text + line->bytes;
    char separator = shape->columns != NULL ? '\t' : ' ';
    int fields = shape->texts + shape->values;
    if (shape->columns == NULL) {
        /* The stack may hold spaces; the value is behind the last one. */
        const char *space = memrchr(line->text, ' ', line->bytes);
        if (space == NULL || space == line->text) {
            return err_set(err, -EBADMSG, "line %" PRId64 ": not a stack and a number",
                           line->number);
        }
        row->text[0] = copy_text(line->text, (size_t)(space - line->text));
        at = space + 1;
    }
    for (int f = shape->columns != NULL ? 0 : 1; f < fields; f++) {
        const char *stop = memchr(at, separator, (size_t)(end - at));
        bool last = f == fields - 1;
        if (last != (stop == NULL)) {
            return err_set(err, -EBADMSG, "line %" PRId64 ": not %d columns", line->number, fields);
        }
        size_t bytes = (size_t)((last ? end : stop) - at);
        if (f < shape->texts) {
            row->text[f] = copy_text(at, bytes);
        } else if (!signed_number(at, bytes, &row->value[f - shape->texts])) {
            return err_set(err, -EBADMSG, "line %" PRId64 ": column %d is not a number",
                           line->number, f + 1);
        }
        at = last ? end : stop + 1;
    }
    return 0;
}

int profile_table_parse(struct profile_table *out, enum profile_table_kind kind, const char *text,
                        size_t bytes, struct err *err)
{
    const struct shape *shape = &shapes[kind];
    struct profile_table table;
    struct profile_line line = {0};
    const char *cursor = text;
    const char *end = text + bytes;
    char first[64];
    int code = 0;
    int head = shape->columns != NULL ? 3 : 0;
    profile_table_init(&table, kind);
    snprintf(first, sizeof first, "# %s", shape->schema);
    while (code == 0 && profile_next_line(&cursor, end, &line)) {
        if (line.number == 1 && head > 0) {
            if (line.bytes != strlen(first) || memcmp(line.text, first, line.bytes) != 0) {
                code = err_set(err, -EBADMSG, "line 1: not '%s'", first);
            }
        } else if (line.number == 2 && head > 0) {
            if (line.bytes < 6 || memcmp(line.text, "# ops ", 6) != 0 ||
                !profile_number(line.text + 6, line.bytes - 6, &table.ops)) {
                code = err_set(err, -EBADMSG, "line 2: not '# ops N'");
            }
        } else if (line.number == 3 && head > 0) {
            if (line.bytes != strlen(shape->columns) ||
                memcmp(line.text, shape->columns, line.bytes) != 0) {
                code = err_set(err, -EBADMSG, "line 3: not the columns of %s", shape->schema);
            }
        } else {
            code = parse_row(&table, &line, err);
        }
    }
    if (code == 0 && line.number < head) {
        code =
            err_set(err, -EBADMSG, "line %" PRId64 ": the file ends in its head", line.number + 1);
    }
    if (code != 0) {
        profile_table_fini(&table);
        return code;
    }
    profile_table_sort(&table);
    *out = table;
    return 0;
}

int profile_table_read(struct profile_table *out, enum profile_table_kind kind, const char *dir,
                       struct err *err)
{
    struct buf path = BUF_INIT;
    char *text = NULL;
    size_t bytes = 0;
    buf_printf(&path, "%s/%s", dir, shapes[kind].file);
    int code = profile_read_file(path.data, PROFILE_TABLE_BYTES_MAX, &text, &bytes, err);
    if (code == 0) {
        code = profile_table_parse(out, kind, text, bytes, err);
        if (code != 0) {
            err_prefix(err, code, "%s", path.data);
        }
    }
    free(text);
    buf_fini(&path);
    return code;
}
