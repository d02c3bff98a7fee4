#include "result.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "digest.h"
#include "provenance.h"

#define FILES_MAX 10000
#define GIT_TIMEOUT_NS (30 * NS_PER_SEC)

/* ---- git ---- */

/* First line of git's answer, "" when it fails. */
static bool git_line(const char *dir, const char *const *args, char *out, size_t bytes, bool *some)
{
    const char *argv[16] = {"git", "-C", dir};
    for (int i = 0; args[i] != NULL && i < 12; i++) {
        argv[3 + i] = args[i];
    }
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *text = NULL, *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + GIT_TIMEOUT_NS, &text,
                         &errors, NULL);
    bool ok = code == 0 && text != NULL;
    out[0] = '\0';
    if (ok) {
        snprintf(out, bytes, "%.*s", (int)strcspn(text, "\n"), text);
        if (some != NULL) {
            *some = text[0] != '\0';
        }
    }
    free(text);
    free(errors);
    return ok;
}

void result_commit_read(const char *dir, struct result_commit *out)
{
    *out = (struct result_commit){.commit = "none", .tree = "none", .parent = "none"};
    char line[RESULT_PATH_MAX];
    if (!git_line(dir, (const char *const[]){"rev-parse", "--show-toplevel", NULL}, line,
                  sizeof line, NULL)) {
        if (realpath(dir, out->root) == NULL) {
            snprintf(out->root, sizeof out->root, "%s", dir);
        }
        return;
    }
    snprintf(out->root, sizeof out->root, "%s", line);
    if (!git_line(dir, (const char *const[]){"rev-parse", "--verify", "HEAD", NULL}, line,
                  sizeof line, NULL)) {
        return; /* a repository without a commit */
    }
    snprintf(out->commit, sizeof out->commit, "%.79s", line);
    if (git_line(dir, (const char *const[]){"rev-parse", "HEAD^{tree}", NULL}, line, sizeof line,
                 NULL)) {
        snprintf(out->tree, sizeof out->tree, "%.79s", line);
    }
    if (git_line(dir, (const char *const[]){"rev-parse", "--verify", "HEAD^", NULL}, line,
                 sizeof line, NULL)) {
        snprintf(out->parent, sizeof out->parent, "%.79s", line);
    }
    bool some = false;
    git_line(out->root,
             (const char *const[]){"status", "--porcelain", "--", ".", ":(exclude)results", NULL},
             line, sizeof line, &some);
    out->dirty = some;
}

void result_commit_folder(const struct result_commit *commit, char *out, size_t bytes)
{
    snprintf(out, bytes, "%s%s", commit->commit, commit->dirty ? "-dirty" : "");
}

/* ---- files ---- */

int result_make_dirs(const char *path, struct err *err)
{
    char part[RESULT_PATH_MAX];
    size_t bytes = strlen(path);
    if (bytes == 0 || bytes >= sizeof part) {
        return err_set(err, -ENAMETOOLONG, "%s: path too long", path);
    }
    memcpy(part, path, bytes + 1);
    for (char *p = part + 1;; p++) {
        if (*p == '/' || *p == '\0') {
            char kept = *p;
            *p = '\0';
            if (mkdir(part, 0777) != 0 && errno != EEXIST) {
                return err_set(err, -errno, "%s: %s", part, strerror(errno));
            }
            *p = kept;
            if (kept == '\0') {
                return 0;
            }
        }
    }
}

static int write_whole(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        data += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int result_write_file(const char *path, const char *data, size_t bytes, struct err *err)
{
    char tmp[RESULT_PATH_MAX + 8];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int code = fd < 0 ? -errno : write_whole(fd, data, bytes);
    if (fd >= 0 && close(fd) != 0 && code == 0) {
        code = -errno;
    }
    if (code == 0 && rename(tmp, path) != 0) {
        code = -errno;
    }
    if (code != 0) {
        unlink(tmp);
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    return 0;
}

int result_read_file(const char *path, char **out_text, size_t *out_bytes, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int code = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    int code = !S_ISREG(st.st_mode) ? -EINVAL : st.st_size > RESULT_FILE_BYTES_MAX ? -EFBIG : 0;
    struct buf text = BUF_INIT;
    char chunk[65536];
    while (code == 0) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            code = n < 0 ? -errno : 0;
            break;
        }
        buf_append(&text, chunk, (size_t)n);
        code = text.bytes > RESULT_FILE_BYTES_MAX ? -EFBIG : 0;
    }
    close(fd);
    if (code != 0) {
        buf_fini(&text);
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    buf_append(&text, "", 0);
    *out_bytes = text.bytes;
    *out_text = buf_take(&text);
    return 0;
}

int result_append_run(const char *path, struct json *take_line, struct err *err)
{
    char *text = json_print(take_line);
    json_free(take_line);
    struct buf line = BUF_INIT;
    buf_printf(&line, "%s\n", text);
    free(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int code = fd < 0 ? -errno : write_whole(fd, line.data, line.bytes);
    if (fd >= 0 && close(fd) != 0 && code == 0) {
        code = -errno;
    }
    buf_fini(&line);
    return code != 0 ? err_set(err, code, "%s: %s", path, strerror(-code)) : 0;
}

/* ---- runs ---- */

static int read_run(const char *line, size_t bytes, size_t number, struct json **out,
                    struct err *err)
{
    struct json *json = json_parse(line, bytes, err);
    if (json == NULL) {
        return err_prefix(err, -EBADMSG, "line %zu", number);
    }
    int64_t version = json_int(json_get(json, "v"), -1);
    int code = 0;
    if (version > 1) {
        code = err_set(err, -EOPNOTSUPP, "line %zu: version %lld is newer than this reader's 1",
                       number, (long long)version);
    } else if (version != 1 || json_string(json_get(json, "kind"), NULL) == NULL ||
               json_int(json_get(json, "run"), -1) != (int64_t)number - 1) {
        code = err_set(err, -EBADMSG, "line %zu: v, kind or run is missing or wrong", number);
    }
    if (code != 0) {
        json_free(json);
        return code;
    }
    *out = json;
    return 0;
}

int result_runs_read(const char *path, bool allow_cut, struct result_runs *out, struct err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    int code = result_read_file(path, &text, &bytes, err);
    if (code != 0) {
        return code;
    }
    struct result_runs runs = {0};
    const char *p = text, *end = text + bytes;
    while (p < end && code == 0) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (stop == NULL) {
            runs.cut = true;
            if (!allow_cut) {
                code = err_set(err, -EBADMSG, "line %zu: cut off", runs.count + 1);
            }
            break;
        }
        if (runs.count == RESULT_RUNS_MAX) {
            code = err_set(err, -EBADMSG, "more than %d lines", RESULT_RUNS_MAX);
            break;
        }
        if (runs.count % 64 == 0) {
            struct json **lines = realloc(runs.lines, (runs.count + 64) * sizeof *lines);
            if (lines == NULL) {
                abort();
            }
            runs.lines = lines;
        }
        code = read_run(p, (size_t)(stop - p), runs.count + 1, &runs.lines[runs.count], err);
        if (code == 0) {
            runs.count++;
            p = stop + 1;
            runs.cut_at = p - text;
        }
    }
    free(text);
    if (code != 0) {
        result_runs_free(&runs);
        return err_prefix(err, code, "%s", path);
    }
    *out = runs;
    return 0;
}

void result_runs_free(struct result_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++) {
        json_free(runs->lines[i]);
    }
    free(runs->lines);
    *runs = (struct result_runs){0};
}

/* ---- the set's files ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int list_add(struct result_list *list, const char *path, struct err *err)
{
    if (list->count == FILES_MAX) {
        return err_set(err, -E2BIG, "more than %d files", FILES_MAX);
    }
    if (list->count % 64 == 0) {
        char **paths = realloc(list->paths, (list->count + 64) * sizeof *paths);
        if (paths == NULL) {
            abort();
        }
        list->paths = paths;
    }
    list->paths[list->count] = strdup(path);
    if (list->paths[list->count] == NULL) {
        abort();
    }
    list->count++;
    return 0;
}

static int list_folder(const char *set_dir, const char *below, int depth, struct result_list *list,
                       struct err *err)
{
    char path[RESULT_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", set_dir, below);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return err_set(err, -errno, "%s: %s", path, strerror(errno));
    }
    int code = 0;
    for (struct dirent *entry; code == 0 && (entry = readdir(dir)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || ends_with(name, ".tmp") ||
            ends_with(name, ".partial") || ends_with(name, ".old") ||
            (depth == 0 &&
             (strcmp(name, "manifest.json") == 0 || strcmp(name, "report.html") == 0))) {
            continue;
        }
        char relative[RESULT_PATH_MAX];
        snprintf(relative, sizeof relative, "%s%s%s", below, below[0] != '\0' ? "/" : "", name);
        snprintf(path, sizeof path, "%s/%s", set_dir, relative);
        struct stat st;
        if (lstat(path, &st) != 0) {
            code = err_set(err, -errno, "%s: %s", path, strerror(errno));
        } else if (S_ISDIR(st.st_mode) && depth < 4) {
            code = list_folder(set_dir, relative, depth + 1, list, err);
        } else if (S_ISREG(st.st_mode)) {
            code = list_add(list, relative, err);
        } else {
            code = err_set(err, -EBADMSG, "%s: not a regular file", relative);
        }
    }
    closedir(dir);
    return code;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int result_list_files(const char *set_dir, struct result_list *out, struct err *err)
{
    struct result_list list = {0};
    int code = list_folder(set_dir, "", 0, &list, err);
    if (code != 0) {
        result_list_free(&list);
        return code;
    }
    if (list.count > 0) {
        qsort(list.paths, list.count, sizeof *list.paths, by_path);
    }
    *out = list;
    return 0;
}

void result_list_free(struct result_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->paths[i]);
    }
    free(list->paths);
    *list = (struct result_list){0};
}

int result_write_manifest(const char *set_dir, const struct result_commit *commit, const char *env8,
                          struct err *err)
{
    struct result_list list;
    int code = result_list_files(set_dir, &list, err);
    if (code != 0) {
        return code;
    }
    struct json *root = json_new_object();
    json_add_string(root, "schema", RESULT_SET_SCHEMA);
    json_add_string(root, "commit", commit->commit);
    json_add_string(root, "tree", commit->tree);
    json_add_string(root, "parent", commit->parent);
    json_add_bool(root, "dirty", commit->dirty);
    json_add_string(root, "env8", env8);
    json_add_string(root, "harness", CODEQ_VERSION);
    char now[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ns(clock_system()), now);
    json_add_string(root, "created", now);
    provenance_add(root, commit->program, commit->root, commit->commit);
    struct json *scenarios = json_add_array(root, "scenarios");
    struct json *files = json_add_object(root, "files");
    for (size_t i = 0; i < list.count && code == 0; i++) {
        const char *path = list.paths[i];
        if (ends_with(path, "/summary.json")) {
            char id[RESULT_PATH_MAX];
            snprintf(id, sizeof id, "%.*s", (int)(strlen(path) - strlen("/summary.json")), path);
            json_append(scenarios, json_new_string(id));
        }
        char full[2 * RESULT_PATH_MAX], digest[DIGEST_BYTES];
        snprintf(full, sizeof full, "%s/%s", set_dir, path);
        code = digest_file(full, digest, err);
        if (code == 0) {
            json_add_string(files, path, digest);
        }
    }
    result_list_free(&list);
    if (code == 0) {
        char *text = json_print_pretty(root);
        char path[2 * RESULT_PATH_MAX];
        snprintf(path, sizeof path, "%s/manifest.json", set_dir);
        code = result_write_file(path, text, strlen(text), err);
        free(text);
    }
    json_free(root);
    return code;
}

int result_newest(const char *results_dir, char out[RESULT_PATH_MAX], struct err *err)
{
    char best[CLOCK_RFC3339_BYTES] = "";
    bool found = false;
    DIR *commits = opendir(results_dir);
    for (struct dirent *c; commits != NULL && (c = readdir(commits)) != NULL;) {
        if (c->d_name[0] == '.') {
            continue;
        }
        char path[2 * RESULT_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", results_dir, c->d_name);
        DIR *envs = opendir(path);
        for (struct dirent *e; envs != NULL && (e = readdir(envs)) != NULL;) {
            if (e->d_name[0] == '.') {
                continue;
            }
            snprintf(path, sizeof path, "%s/%s/%s/manifest.json", results_dir, c->d_name,
                     e->d_name);
            struct json *manifest = json_parse_file(path, RESULT_FILE_BYTES_MAX, NULL);
            /* UTC texts of one width: their order is that of time. */
            const char *created = json_string(json_get(manifest, "created"), "");
            if (manifest != NULL && (!found || strcmp(created, best) > 0)) {
                found = true;
                snprintf(best, sizeof best, "%s", created);
                snprintf(out, RESULT_PATH_MAX, "%s/%s/%s", results_dir, c->d_name, e->d_name);
            }
            json_free(manifest);
        }
        if (envs != NULL) {
            closedir(envs);
        }
    }
    if (commits != NULL) {
        closedir(commits);
    }
    return found ? 0 : err_set(err, -ENOENT, "%s: holds no result set", results_dir);
}
