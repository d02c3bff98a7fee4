#include "compare_parts.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "profile_table.h"
#include "result.h"

/* A function of one side, for pairing. */
struct side {
    const struct profile_row *row;
    double self; /* per operation */
    double calls;
    bool taken;
};

static struct compare_part *add_part(struct compare_metric *metric, const char *name,
                                     const char *note, double before, double after)
{
    struct compare_part *parts =
        realloc(metric->parts, (metric->part_count + 1) * sizeof *metric->parts);
    if (parts == NULL) {
        abort();
    }
    metric->parts = parts;
    struct compare_part *part = &parts[metric->part_count++];
    *part = (struct compare_part){strdup(name), note != NULL ? strdup(note) : NULL, before, after,
                                  after - before};
    if (part->name == NULL || (note != NULL && part->note == NULL)) {
        abort();
    }
    return part;
}

static bool close_to(double a, double b, double ratio)
{
    return fabs(a - b) <= ratio * fmax(fabs(a), fabs(b));
}

/* How much a gone and a new function look like one: the same name elsewhere, or another name in the
 * same file that is called as often and costs about the same. 0: not at all. */
static int likeness(const struct side *gone, const struct side *fresh)
{
    char *const *a = gone->row->text;
    char *const *b = fresh->row->text;
    if (strcmp(a[FUNCTION_NAME], b[FUNCTION_NAME]) == 0) {
        return strcmp(a[FUNCTION_OBJECT], b[FUNCTION_OBJECT]) == 0 ? 4 : 3;
    }
    if (strcmp(a[FUNCTION_FILE], b[FUNCTION_FILE]) == 0 && strcmp(a[FUNCTION_FILE], "???") != 0 &&
        gone->calls == fresh->calls && close_to(gone->self, fresh->self, 0.25)) {
        return close_to(gone->self, fresh->self, 0.01) ? 2 : 1;
    }
    return 0;
}

static struct side *sides_of(const struct profile_table *table)
{
    struct side *sides = calloc(table->count + 1, sizeof *sides);
    if (sides == NULL) {
        abort();
    }
    for (size_t i = 0; i < table->count; i++) {
        sides[i].row = &table->rows[i];
        sides[i].self = (double)table->rows[i].value[FUNCTION_SELF] / (double)table->ops;
        sides[i].calls = (double)table->rows[i].value[FUNCTION_CALLS] / (double)table->ops;
    }
    return sides;
}

static void pair_functions(struct compare_metric *metric, const struct profile_table *a,
                           const struct profile_table *b)
{
    struct side *before = sides_of(a);
    struct side *after = sides_of(b);
    for (size_t i = 0; i < b->count; i++) {
        const struct profile_row *same =
            profile_table_find(a, (const char *const *)b->rows[i].text);
        if (same != NULL) {
            struct side *one = &before[same - a->rows];
            one->taken = after[i].taken = true;
            add_part(metric, b->rows[i].text[FUNCTION_NAME], NULL, one->self, after[i].self);
        }
    }
    for (int like = 4; like > 0; like--) {
        for (size_t i = 0; i < b->count; i++) {
            for (size_t k = 0; k < a->count && !after[i].taken; k++) {
                if (before[k].taken || likeness(&before[k], &after[i]) != like) {
                    continue;
                }
                char note[256];
                const char *const old =
                    before[k].row->text[like >= 3 ? FUNCTION_FILE : FUNCTION_NAME];
                snprintf(note, sizeof note, like >= 3 ? "moved from %s" : "was %s", old);
                before[k].taken = after[i].taken = true;
                add_part(metric, after[i].row->text[FUNCTION_NAME], note, before[k].self,
                         after[i].self);
            }
        }
    }
    for (size_t i = 0; i < b->count; i++) {
        if (!after[i].taken) {
            add_part(metric, after[i].row->text[FUNCTION_NAME], "new", 0, after[i].self);
        }
    }
    for (size_t k = 0; k < a->count; k++) {
        if (!before[k].taken) {
            add_part(metric, before[k].row->text[FUNCTION_NAME], "gone", before[k].self, 0);
        }
    }
    free(before);
    free(after);
}

/* "main;a;b;leaf" -> "leaf < b < a" */
static void site_name(struct buf *out, const char *site)
{
    const char *end = site + strlen(site);
    buf_clear(out);
    for (int i = 0; i < 3; i++) {
        const char *start = end;
        while (start > site && start[-1] != ';') {
            start--;
        }
        buf_printf(out, "%s%.*s", i > 0 ? " < " : "", (int)(end - start), start);
        if (start == site) {
            return;
        }
        end = start - 1;
    }
}

static void pair_sites(struct compare_metric *metric, const struct profile_table *a,
                       const struct profile_table *b, int value, bool per_op)
{
    struct buf name = BUF_INIT;
    double a_ops = per_op ? (double)a->ops : 1;
    double b_ops = per_op ? (double)b->ops : 1;
    for (size_t i = 0; i < b->count; i++) {
        const char *const *texts = (const char *const *)b->rows[i].text;
        const struct profile_row *same = profile_table_find(a, texts);
        double before = same != NULL ? (double)same->value[value] / a_ops : 0;
        site_name(&name, texts[0]);
        add_part(metric, name.data, same == NULL ? "new" : NULL, before,
                 (double)b->rows[i].value[value] / b_ops);
    }
    for (size_t i = 0; i < a->count; i++) {
        const char *const *texts = (const char *const *)a->rows[i].text;
        if (profile_table_find(b, texts) == NULL) {
            site_name(&name, texts[0]);
            add_part(metric, name.data, "gone", (double)a->rows[i].value[value] / a_ops, 0);
        }
    }
    buf_fini(&name);
}

static int find_in_tables(struct compare_metric *metric, enum profile_table_kind kind, int value,
                          bool per_op, const char *a_dir, const char *b_dir, struct err *err)
{
    struct profile_table a;
    struct profile_table b;
    int code = profile_table_read(&a, kind, a_dir, err);
    if (code != 0) {
        return code == -ENOENT ? 0 : code;
    }
    code = profile_table_read(&b, kind, b_dir, err);
    if (code == 0 && (a.ops == 0 || b.ops == 0)) {
        code = err_set(err, -EBADMSG, "%s/%s: line 2: no operations", a.ops == 0 ? a_dir : b_dir,
                       profile_table_file(kind));
        profile_table_fini(&b);
    }
    if (code == 0) {
        if (kind == PROFILE_TABLE_FUNCTIONS) {
            pair_functions(metric, &a, &b);
        } else {
            pair_sites(metric, &a, &b, value, per_op);
        }
        profile_table_fini(&b);
    }
    profile_table_fini(&a);
    return code == -ENOENT ? 0 : code;
}

/* Slope of by_name[name] between scale 1 and 2 of repeat 0 of a kind of run. */
struct named {
    const struct json *one;
    const struct json *two;
    double ops;
};

static struct named find_named(const struct result_runs *runs, const char *kind, const char *field)
{
    struct named named = {NULL, NULL, 0};
    double ops[3] = {0, 0, 0};
    for (size_t i = 0; i < runs->count; i++) {
        const struct json *line = runs->lines[i];
        int64_t scale = json_int(json_get(line, "scale"), 0);
        if (strcmp(json_string(json_get(line, "kind"), ""), kind) != 0 ||
            json_int(json_get(line, "repeat"), -1) != 0 || scale < 1 || scale > 2) {
            continue;
        }
        ops[scale] = json_number(json_get(line, "ops"), 0);
        *(scale == 1 ? &named.one : &named.two) = json_get(line, field);
    }
    named.ops = ops[2] - ops[1];
    return named;
}

static double slope(const struct named *named, const char *name)
{
    return (json_number(json_get(named->two, name), 0) -
            json_number(json_get(named->one, name), 0)) /
           named->ops;
}

static int find_in_runs(struct compare_metric *metric, const char *kind, const char *field,
                        const char *a_dir, const char *b_dir, struct err *err)
{
    char path[2 * RESULT_PATH_MAX];
    struct result_runs a = {0};
    struct result_runs b = {0};
    snprintf(path, sizeof path, "%s/runs.ndjson", a_dir);
    int code = result_runs_read(path, false, &a, err);
    if (code == 0) {
        snprintf(path, sizeof path, "%s/runs.ndjson", b_dir);
        code = result_runs_read(path, false, &b, err);
    }
    if (code == 0) {
        struct named before = find_named(&a, kind, field);
        struct named after = find_named(&b, kind, field);
        bool whole = before.one != NULL && before.two != NULL && after.one != NULL &&
                     after.two != NULL && before.ops > 0 && after.ops > 0;
        for (const struct json *c = json_first(after.two); whole && c != NULL; c = json_next(c)) {
            bool known = json_get(before.two, json_key(c)) != NULL;
            add_part(metric, json_key(c), known ? NULL : "new", slope(&before, json_key(c)),
                     slope(&after, json_key(c)));
        }
        for (const struct json *c = json_first(before.two); whole && c != NULL; c = json_next(c)) {
            if (json_get(after.two, json_key(c)) == NULL) {
                add_part(metric, json_key(c), "gone", slope(&before, json_key(c)), 0);
            }
        }
    }
    result_runs_free(&a);
    result_runs_free(&b);
    return code;
}

static int by_size(const void *a, const void *b)
{
    const struct compare_part *x = a;
    const struct compare_part *y = b;
    double dx = fabs(x->delta);
    double dy = fabs(y->delta);
    return dx != dy ? (dx < dy ? 1 : -1) : strcmp(x->name, y->name);
}

static bool is_script_call(const struct compare_part *part)
{
    return strncmp(part->name, "eval", 4) == 0 || strncmp(part->name, "fcall", 5) == 0;
}

/* What Redis executed includes what scripts called, which nobody sent: of what was sent only the
 * calls of scripts are sure. The others stay when no script was called more and they alone add up
 * to the difference. */
static void keep_sent(struct compare_metric *metric)
{
    double scripts = 0;
    double all = 0;
    for (size_t i = 0; i < metric->part_count; i++) {
        scripts += is_script_call(&metric->parts[i]) ? metric->parts[i].delta : 0;
        all += metric->parts[i].delta;
    }
    if (scripts == 0 && close_to(all, metric->b - metric->a, 1e-9)) {
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < metric->part_count; i++) {
        if (is_script_call(&metric->parts[i])) {
            metric->parts[kept++] = metric->parts[i];
        } else {
            free(metric->parts[i].name);
            free(metric->parts[i].note);
        }
    }
    metric->part_count = kept;
}

int compare_parts_find(struct compare_metric *metric, const char *a_dir, const char *b_dir,
                       struct err *err)
{
    static const struct {
        const char *metric;
        const char *part_kind;
        bool in_runs;
        enum profile_table_kind table;
        int value;
        bool per_op;
        const char *run_kind;
        const char *field;
    } sources[] = {
        {"instructions_per_op", "function", false, PROFILE_TABLE_FUNCTIONS, FUNCTION_SELF, true,
         NULL, NULL},
        {"allocs_per_op", "allocation site", false, PROFILE_TABLE_HEAP, HEAP_BLOCKS, true, NULL,
         NULL},
        {"alloc_bytes_per_op", "allocation site", false, PROFILE_TABLE_HEAP, HEAP_BYTES, true, NULL,
         NULL},
        {"live_bytes_per_op", "allocation site", false, PROFILE_TABLE_HEAP, HEAP_LIVE_BYTES, true,
         NULL, NULL},
        {"heap_peak_bytes", "allocation site", false, PROFILE_TABLE_HEAP, HEAP_PEAK_BYTES, false,
         NULL, NULL},
        {"syscalls_per_op", "system call", true, 0, 0, true, "syscalls", "by_name"},
        {"redis_calls_per_op", "Redis command", true, 0, 0, true, "counts", "by_name"},
        {"redis_commands_per_op", "Redis command", true, 0, 0, true, "counts", "by_name"},
        {"round_trips_per_op", "Redis command", true, 0, 0, true, "counts", "by_name"},
    };
    int code = 0;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (strcmp(metric->metric->name, sources[i].metric) != 0) {
            continue;
        }
        metric->part_kind = sources[i].part_kind;
        code = sources[i].in_runs
                   ? find_in_runs(metric, sources[i].run_kind, sources[i].field, a_dir, b_dir, err)
                   : find_in_tables(metric, sources[i].table, sources[i].value, sources[i].per_op,
                                    a_dir, b_dir, err);
    }
    if (strcmp(metric->metric->name, "redis_commands_per_op") == 0 ||
        strcmp(metric->metric->name, "round_trips_per_op") == 0) {
        keep_sent(metric);
    }
    metric->remainder = metric->b - metric->a;
    metric->parts_shown = 0;
    if (metric->part_count == 0) {
        metric->part_kind = NULL;
        return code;
    }
    qsort(metric->parts, metric->part_count, sizeof *metric->parts, by_size);
    while (metric->parts_shown < metric->part_count && metric->parts_shown < COMPARE_PARTS_SHOWN &&
           metric->parts[metric->parts_shown].delta != 0) {
        metric->remainder -= metric->parts[metric->parts_shown++].delta;
    }
    if (fabs(metric->remainder) < 1e-9 * fmax(1, fabs(metric->b - metric->a))) {
        metric->remainder = 0; /* rounding of the additions */
    }
    return code;
}

void compare_parts_operation(const char *a_dir, const char *b_dir, char *out, size_t bytes)
{
    static const char *const operations[] = {"create", "claim", "complete"};
    struct profile_table a;
    struct profile_table b;
    double grew[3] = {0, 0, 0};
    out[0] = '\0';
    if (profile_table_read(&a, PROFILE_TABLE_FUNCTIONS, a_dir, NULL) != 0) {
        return;
    }
    if (profile_table_read(&b, PROFILE_TABLE_FUNCTIONS, b_dir, NULL) == 0) {
        for (size_t i = 0; i < b.count && a.ops > 0 && b.ops > 0; i++) {
            const struct profile_row *row = &b.rows[i];
            const struct profile_row *same = profile_table_find(&a, (const char *const *)row->text);
            for (size_t o = 0; o < 3 && same != NULL; o++) {
                if (strstr(row->text[FUNCTION_NAME], operations[o]) != NULL) {
                    double more = (double)row->value[FUNCTION_INCLUSIVE] / (double)b.ops -
                                  (double)same->value[FUNCTION_INCLUSIVE] / (double)a.ops;
                    grew[o] = fmax(grew[o], more);
                }
            }
        }
        profile_table_fini(&b);
    }
    profile_table_fini(&a);
    size_t most = 0;
    for (size_t o = 1; o < 3; o++) {
        most = grew[o] > grew[most] ? o : most;
    }
    for (size_t o = 0; o < 3; o++) {
        if (grew[most] <= 0 || (o != most && grew[o] > grew[most] / 2)) {
            return;
        }
    }
    snprintf(out, bytes, "%s", operations[most]);
}
