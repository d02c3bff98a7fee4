#include "report/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"
#include "profile_text.h"
#include "result.h"

#define FILE_BYTES_MAX (4u << 20)
#define FILES_MAX 512 /* of all commits; more have no source */
#define GIT_TIMEOUT_NS (10 * NS_PER_SEC)

struct file {
    char *commit; /* "" for the working tree */
    char *path;
    char *text; /* NULL: there is none */
    const char **lines;
    size_t line_count;
};

struct sources {
    struct file files[FILES_MAX];
    size_t count;
    struct result_commit here;
};

struct sources *sources_new(void)
{
    struct sources *sources = calloc(1, sizeof *sources);
    if (sources == NULL) {
        abort();
    }
    result_commit_read(".", &sources->here);
    return sources;
}

void sources_free(struct sources *sources)
{
    for (size_t i = 0; sources != NULL && i < sources->count; i++) {
        free(sources->files[i].commit);
        free(sources->files[i].path);
        free(sources->files[i].text);
        free(sources->files[i].lines);
    }
    free(sources);
}

static int is_source_path(const char *path)
{
    size_t bytes = strlen(path);
    return bytes > 2 && bytes < 512 && path[0] != '/' && path[0] != '-' && path[0] != '.' &&
           strstr(path, "..") == NULL && strchr(path, ':') == NULL &&
           (strcmp(path + bytes - 2, ".c") == 0 || strcmp(path + bytes - 2, ".h") == 0);
}

static char *read_commit(const char *commit, const char *path)
{
    char spec[640];
    snprintf(spec, sizeof spec, "%.64s:%.512s", commit, path);
    const char *argv[] = {"git", "show", spec, NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + GIT_TIMEOUT_NS, &text,
                         &errors, NULL);
    if (code < 0) {
        return NULL;
    }
    free(errors);
    if (code > 0) {
        free(text);
        return NULL;
    }
    return text;
}

static char *read_working_tree(const char *root, const char *path)
{
    char full[RESULT_PATH_MAX + 600];
    char *text = NULL;
    size_t bytes;
    snprintf(full, sizeof full, "%s/%s", root, path);
    return profile_read_file(full, FILE_BYTES_MAX, &text, &bytes, NULL) == 0 ? text : NULL;
}

static void index_lines(struct file *file)
{
    size_t count = 1;
    for (const char *p = file->text; *p != '\0'; p++) {
        count += *p == '\n';
    }
    file->lines = calloc(count, sizeof *file->lines);
    if (file->lines == NULL) {
        abort();
    }
    for (const char *p = file->text; p != NULL && *p != '\0';) {
        file->lines[file->line_count++] = p;
        p = strchr(p, '\n');
        p = p != NULL ? p + 1 : NULL;
    }
}

static const struct file *file_of(struct sources *sources, const char *commit, const char *path)
{
    bool known = strspn(commit, "0123456789abcdef") >= 40 && strchr(commit, '-') == NULL;
    const char *key = known ? commit : "";
    for (size_t i = 0; i < sources->count; i++) {
        if (strcmp(sources->files[i].path, path) == 0 &&
            strcmp(sources->files[i].commit, key) == 0) {
            return &sources->files[i];
        }
    }
    if (sources->count == FILES_MAX || !is_source_path(path)) {
        return NULL;
    }
    struct file *file = &sources->files[sources->count++];
    *file = (struct file){.commit = strdup(key), .path = strdup(path)};
    if (file->commit == NULL || file->path == NULL) {
        abort();
    }
    file->text = known ? read_commit(key, path) : read_working_tree(sources->here.root, path);
    if (file->text != NULL) {
        index_lines(file);
    }
    return file;
}

const char *sources_line(struct sources *sources, const char *commit, const char *path,
                         int64_t number, size_t *out_bytes)
{
    const struct file *file = sources != NULL ? file_of(sources, commit, path) : NULL;
    if (file == NULL || number < 1 || (uint64_t)number > file->line_count) {
        return NULL;
    }
    *out_bytes = strcspn(file->lines[number - 1], "\n");
    return file->lines[number - 1];
}
