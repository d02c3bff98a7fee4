#include "history_index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "metric.h"

#define VERSION_LINE "codeq-lab.index/1\n"
#define SUMMARY_BYTES_MAX (4 * 1024 * 1024)
#define WRITERS_MAX 128

static void *grown(void *old, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity) {
        return old;
    }
    size_t wanted = *capacity == 0 ? 256 : 2 * *capacity;
    void *more = reallocarray(old, wanted, size);
    if (more == NULL) {
        abort();
    }
    *capacity = wanted;
    return more;
}

struct set_array {
    struct history_set *sets;
    size_t count;
    size_t capacity;
};

static void push(struct set_array *array, const struct history_set *set)
{
    array->sets = grown(array->sets, &array->capacity, array->count + 1, sizeof *array->sets);
    array->sets[array->count++] = *set;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct history_set *)a)->key, ((const struct history_set *)b)->key);
}

/* Names of folders become columns of the index. */
static bool plain_name(const char *name, size_t max)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    return name[0] != '.' && name[0] != '\0' && name[n] == '\0' && n < max;
}

static bool is_env8(const char *name)
{
    return strlen(name) == 8 && strspn(name, "0123456789abcdef") == 8;
}

/* Every results/COMMIT/ENV8 with a manifest, sorted. */
static int scan(const char *results_dir, struct set_array *out, struct err *err)
{
    DIR *top = opendir(results_dir);
    if (top == NULL) {
        return err_set(err, -errno, "%s: %s", results_dir, strerror(errno));
    }
    int code = 0;
    for (struct dirent *c; code == 0 && (c = readdir(top)) != NULL;) {
        char path[HISTORY_PATH_MAX + 300];
        if (!plain_name(c->d_name, 96) || c->d_type == DT_REG) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", results_dir, c->d_name);
        DIR *commit = opendir(path);
        if (commit == NULL) {
            continue; /* a file beside the sets */
        }
        for (struct dirent *e; code == 0 && (e = readdir(commit)) != NULL;) {
            struct stat st;
            if (!is_env8(e->d_name)) {
                continue;
            }
            snprintf(path, sizeof path, "%s/%s/%s/manifest.json", results_dir, c->d_name,
                     e->d_name);
            if (stat(path, &st) != 0) {
                continue; /* not finished yet */
            }
            struct history_set set = {
                .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                .bytes = st.st_size,
            };
            snprintf(set.key, sizeof set.key, "%.96s/%.8s", c->d_name, e->d_name);
            push(out, &set);
            if (out->count > HISTORY_SETS_MAX) {
                code = err_set(err, -E2BIG, "%s: more than %d sets", results_dir, HISTORY_SETS_MAX);
            }
        }
        closedir(commit);
    }
    closedir(top);
    if (out->count > 0) {
        qsort(out->sets, out->count, sizeof *out->sets, by_key);
    }
    return code;
}

/* What the index holds; anything odd counts as "nothing", since it can be made again. */
static void load(const char *dir, struct set_array *out)
{
    char path[HISTORY_PATH_MAX + 32];
    char line[512];
    snprintf(path, sizeof path, "%s/sets.tsv", dir);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    bool good = fgets(line, sizeof line, file) != NULL && strcmp(line, VERSION_LINE) == 0;
    while (good && fgets(line, sizeof line, file) != NULL) {
        struct history_set set = {0};
        good = strchr(line, '\n') != NULL &&
               sscanf(line, "%127[^\t]\t%" SCNd64 "\t%" SCNd64 "\t%31[^\t\n]", set.key,
                      &set.mtime_ns, &set.bytes, set.created) == 4;
        if (good) {
            push(out, &set);
        }
    }
    if (!good) {
        out->count = 0;
    }
    fclose(file);
}

/* Appending files, one a metric, opened when first needed. */
struct writers {
    const char *dir;
    char names[WRITERS_MAX][METRIC_ID_BYTES_MAX];
    FILE *files[WRITERS_MAX];
    size_t count;
};

static FILE *writer(struct writers *w, const char *id)
{
    size_t i = 0;
    while (i < w->count && strcmp(w->names[i], id) != 0) {
        i++;
    }
    if (i < w->count || w->count == WRITERS_MAX) {
        return i < w->count ? w->files[i] : NULL;
    }
    char path[HISTORY_PATH_MAX + METRIC_ID_BYTES_MAX + 8];
    snprintf(path, sizeof path, "%s/%s.tsv", w->dir, id);
    w->files[i] = fopen(path, "ae");
    if (w->files[i] != NULL) {
        snprintf(w->names[i], sizeof w->names[i], "%s", id);
        w->count++;
    }
    return w->files[i];
}

static int writers_close(struct writers *w, struct err *err)
{
    int code = 0;
    for (size_t i = 0; i < w->count; i++) {
        if (fclose(w->files[i]) != 0 && code == 0) {
            code = err_set(err, -errno, "%s/%s.tsv: %s", w->dir, w->names[i], strerror(errno));
        }
    }
    w->count = 0;
    return code;
}

/* A JSON file whose schema is stem followed by 1. */
static struct json *read_schema(const char *path, const char *stem, int *out_code, struct err *err)
{
    struct json *json = json_parse_file(path, SUMMARY_BYTES_MAX, err);
    const char *schema = json_string(json_get(json, "schema"), "");
    size_t n = strlen(stem);
    *out_code = 0;
    if (json == NULL) {
        *out_code = -EBADMSG;
    } else if (strncmp(schema, stem, n) != 0 || atoi(schema + n) < 1) {
        *out_code = err_set(err, -EBADMSG, "%s: schema is '%.60s', not %s1", path, schema, stem);
    } else if (atoi(schema + n) > 1) {
        *out_code = err_set(err, -EOPNOTSUPP, "%s: schema %.60s is newer than this reader's %s1",
                            path, schema, stem);
    }
    if (*out_code != 0) {
        json_free(json);
        return NULL;
    }
    return json;
}

static int add_summary(struct writers *w, const char *path, size_t number, const char *scenario,
                       struct err *err)
{
    int code;
    struct json *summary = read_schema(path, "codeq-lab.summary/", &code, err);
    if (summary == NULL) {
        return code;
    }
    const char *hash = json_string(json_get(json_get(summary, "scenario"), "sha256"), "");
    if (strlen(hash) < 8 || strspn(hash, "0123456789abcdef") < 8) {
        code = err_set(err, -EBADMSG, "%s: scenario.sha256 is missing", path);
    }
    for (const struct json *m = json_first(json_get(summary, "metrics")); m != NULL && code == 0;
         m = json_next(m)) {
        const char *id = json_string(json_get(m, "id"), "");
        double value = json_number(json_get(m, "value"), NAN);
        if (!isfinite(value) || strlen(id) >= METRIC_ID_BYTES_MAX || metric_find(id) == NULL) {
            continue; /* null: too few samples; or a metric of a later program */
        }
        FILE *file = writer(w, id);
        if (file == NULL ||
            fprintf(file, "%zu\t%s\t%.8s\t%.17g\n", number, scenario, hash, value) < 0) {
            code = err_set(err, -EIO, "%s/%s.tsv: cannot be written", w->dir, id);
        }
    }
    json_free(summary);
    return code;
}

static int add_set(const struct history_index *index, struct writers *w, struct history_set *set,
                   size_t number, struct err *err)
{
    char path[HISTORY_PATH_MAX + 512];
    int code;
    snprintf(path, sizeof path, "%s/%s/manifest.json", index->results_dir, set->key);
    struct json *manifest = read_schema(path, "codeq-lab.set/", &code, err);
    if (manifest == NULL) {
        return code;
    }
    const char *created = json_string(json_get(manifest, "created"), "");
    if (created[0] == '\0' || strpbrk(created, "\t\n") != NULL) {
        code = err_set(err, -EBADMSG, "%s: created is missing", path);
    }
    snprintf(set->created, sizeof set->created, "%s", created);
    for (const struct json *s = json_first(json_get(manifest, "scenarios")); s != NULL && code == 0;
         s = json_next(s)) {
        const char *name = json_string(s, "");
        if (!plain_name(name, 64)) {
            code = err_set(err, -EBADMSG, "%s: scenarios has '%.60s': not a name", path, name);
        } else {
            char summary[HISTORY_PATH_MAX + 512];
            snprintf(summary, sizeof summary, "%s/%s/%s/summary.json", index->results_dir, set->key,
                     name);
            code = add_summary(w, summary, number, name, err);
        }
    }
    json_free(manifest);
    return code;
}

static void remove_files(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".tsv") == 0) {
            unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

/* Append the sets to the metrics' files, then to sets.tsv: what a kill leaves out of that is read
 * again, and its rows then stand twice and say the same. */
static int append(struct history_index *index, struct set_array *held, struct set_array *fresh,
                  struct err *err)
{
    struct writers *w = calloc(1, sizeof *w);
    char path[HISTORY_PATH_MAX + 32];
    int code = 0;
    if (w == NULL) {
        abort();
    }
    w->dir = index->dir;
    for (size_t i = 0; i < fresh->count && code == 0; i++) {
        code = add_set(index, w, &fresh->sets[i], held->count + i, err);
    }
    int closed = writers_close(w, code == 0 ? err : NULL);
    code = code != 0 ? code : closed;
    free(w);
    if (code != 0) {
        return code;
    }
    snprintf(path, sizeof path, "%s/sets.tsv", index->dir);
    FILE *file = fopen(path, held->count > 0 ? "ae" : "we");
    bool good = file != NULL && (held->count > 0 || fputs(VERSION_LINE, file) >= 0);
    for (size_t i = 0; i < fresh->count && good; i++) {
        const struct history_set *s = &fresh->sets[i];
        good = fprintf(file, "%s\t%" PRId64 "\t%" PRId64 "\t%s\n", s->key, s->mtime_ns, s->bytes,
                       s->created) > 0;
        push(held, s);
    }
    good = (file == NULL || fclose(file) == 0) && good;
    return good ? 0 : err_set(err, -EIO, "%s: %s", path, strerror(errno));
}

/* Which of the sets on disk the index lacks. false: it holds one that has changed or gone. */
static bool split_fresh(const struct set_array *disk, const struct set_array *held,
                        struct set_array *fresh)
{
    struct history_set *sorted = calloc(held->count + 1, sizeof *sorted);
    size_t same = 0;
    if (sorted == NULL) {
        abort();
    }
    if (held->count > 0) {
        memcpy(sorted, held->sets, held->count * sizeof *sorted);
        qsort(sorted, held->count, sizeof *sorted, by_key);
    }
    for (size_t i = 0; i < disk->count; i++) {
        const struct history_set *s = &disk->sets[i];
        const struct history_set *old = bsearch(s, sorted, held->count, sizeof *sorted, by_key);
        if (old == NULL) {
            push(fresh, s);
        } else if (old->mtime_ns == s->mtime_ns && old->bytes == s->bytes) {
            same++;
        }
    }
    free(sorted);
    return same == held->count;
}

int history_index_open(struct history_index *index, const char *results_dir, const char *dir,
                       struct err *err)
{
    struct set_array disk = {0};
    struct set_array held = {0};
    struct set_array fresh = {0};
    char lock_path[HISTORY_PATH_MAX + 32];
    *index = (struct history_index){0};
    snprintf(index->results_dir, sizeof index->results_dir, "%.900s", results_dir);
    if (dir != NULL) {
        snprintf(index->dir, sizeof index->dir, "%.900s", dir);
    } else {
        snprintf(index->dir, sizeof index->dir, "%.900s/.index", results_dir);
    }
    int code = scan(index->results_dir, &disk, err);
    if (code != 0) {
        goto out;
    }
    if (mkdir(index->dir, 0777) != 0 && errno != EEXIST) {
        code = err_set(err, -errno, "%s: %s: give --index a folder that can be written", index->dir,
                       strerror(errno));
        goto out;
    }
    snprintf(lock_path, sizeof lock_path, "%s/lock", index->dir);
    int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        code = err_set(err, -errno, "%s: %s", lock_path, strerror(errno));
        goto unlock;
    }
    load(index->dir, &held);
    if (held.count == 0 || !split_fresh(&disk, &held, &fresh)) {
        remove_files(index->dir);
        held.count = 0;
        fresh.count = 0;
        split_fresh(&disk, &held, &fresh);
    }
    index->read_now = fresh.count;
    if (fresh.count > 0) {
        code = append(index, &held, &fresh, err);
        if (code != 0 && held.count == 0) {
            remove_files(index->dir);
        }
    }
    if (code == 0) {
        index->sets = held.sets;
        index->count = held.count;
        held.sets = NULL;
    }
unlock:
    if (lock >= 0) {
        close(lock); /* and with it the lock */
    }
out:
    free(disk.sets);
    free(held.sets);
    free(fresh.sets);
    return code;
}

void history_index_close(struct history_index *index)
{
    free(index->sets);
    *index = (struct history_index){0};
}

int history_index_read(const struct history_index *index, const char *metric,
                       struct history_row **out_rows, size_t *out_count, struct err *err)
{
    char path[HISTORY_PATH_MAX + METRIC_ID_BYTES_MAX + 8];
    char line[256];
    struct history_row *rows = NULL;
    size_t count = 0;
    size_t capacity = 0;
    int code = 0;
    if (metric_find(metric) == NULL) {
        return err_set(err, -EINVAL, "%.60s: no such metric", metric);
    }
    snprintf(path, sizeof path, "%s/%s.tsv", index->dir, metric);
    FILE *file = fopen(path, "re");
    while (file != NULL && code == 0 && fgets(line, sizeof line, file) != NULL) {
        rows = grown(rows, &capacity, count + 1, sizeof *rows);
        struct history_row *row = &rows[count];
        if (sscanf(line, "%" SCNu32 "\t%63[^\t]\t%8[^\t]\t%lf", &row->set, row->scenario, row->hash,
                   &row->value) != 4 ||
            row->set >= index->count) {
            code = err_set(err, -EBADMSG, "%s: row %zu is broken: delete %s", path, count + 1,
                           index->dir);
        }
        count++;
    }
    if (file != NULL) {
        fclose(file);
    }
    if (code != 0) {
        free(rows);
        return code;
    }
    *out_rows = rows;
    *out_count = count;
    return 0;
}
