/* codeq-bench prune: keep the result sets of the newest commits and of named ones. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/args.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "cmd.h"
#include "result.h"
#include "set.h"

#define KEEP_DEFAULT 50
#define GIT_TIMEOUT_NS (30 * NS_PER_SEC)

static const char help[] =
    "codeq-bench prune removes old result sets. Without --yes it only says which.\n\n"
    "usage: codeq-bench prune [OPTION...]\n\n"
    "A folder of results/ is one commit with all its environments. Kept are those of tagged\n"
    "commits, those that hold a measurement that is not whole yet, and of the others the newest\n"
    "(by the commit's date; where git does not know the commit, by when it was measured). What is\n"
    "removed is gone from the working tree alone: git keeps it, and the commit is yours to "
    "make.\n\n"
    "  --keep N         so many of the newest are kept, 0..1000000 (default: 50)\n"
    "  --yes            remove them\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --help           this text\n\n"
    "exit codes: 0 ok, 2 usage, or something could not be removed\n\n"
    "examples:\n"
    "  codeq-bench prune\n"
    "  codeq-bench prune --keep 20 --yes\n";

struct folder {
    char name[96];
    int64_t at; /* seconds since the epoch */
    int64_t bytes;
    size_t sets;
    bool tagged, unfinished;
};

struct folders {
    struct folder *items;
    size_t count;
};

/* Add what lies below a set's folder; says whether something in it is not whole. */
static void measure_folder(const char *path, struct folder *out)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char inner[2 * RESULT_PATH_MAX];
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        snprintf(inner, sizeof inner, "%.1700s/%s", path, e->d_name);
        if (lstat(inner, &st) != 0) {
            continue;
        }
        size_t n = strlen(e->d_name);
        out->unfinished = out->unfinished || (n > 8 && strcmp(e->d_name + n - 8, ".partial") == 0);
        if (S_ISDIR(st.st_mode)) {
            measure_folder(inner, out);
        } else {
            out->bytes += (int64_t)st.st_size;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* The newest set in it; sets counts them. */
static void read_sets(const char *path, struct folder *out)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char manifest[2 * RESULT_PATH_MAX];
        struct json *json = NULL;
        int64_t at_ns = 0;
        snprintf(manifest, sizeof manifest, "%.1000s/%.300s/manifest.json", path, e->d_name);
        if (e->d_name[0] == '.' || access(manifest, F_OK) != 0) {
            continue;
        }
        out->sets++;
        /* A broken one is still a set: it has no date, so it is the oldest. */
        if (set_read_json(manifest, RESULT_SET_SCHEMA, &json, NULL) == 0 &&
            clock_parse_rfc3339(json_string(json_get(json, "created"), ""), &at_ns) == 0 &&
            at_ns / NS_PER_SEC > out->at) {
            out->at = at_ns / NS_PER_SEC;
        }
        json_free(json);
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static char *ask_git(const char *dir, const char *const *args)
{
    const char *argv[12] = {"git", "-C", dir};
    for (int i = 0; args[i] != NULL && i < 8; i++) {
        argv[3 + i] = args[i];
    }
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + GIT_TIMEOUT_NS, &text,
                         &errors, NULL);
    if (code >= 0) {
        free(errors);
    }
    if (code > 0) {
        free(text);
        text = NULL;
    }
    return code == 0 ? text : NULL;
}

static int read_folders(const char *results_dir, struct folders *out, struct err *err)
{
    DIR *dir = opendir(results_dir);
    if (dir == NULL) {
        return err_set(err, -errno, "%s: %s", results_dir, strerror(errno));
    }
    /* Every tag and what it names, an annotated one's commit too. */
    char *tags = ask_git(results_dir, (const char *const[]){"show-ref", "--tags", "-d", NULL});
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[RESULT_PATH_MAX + 300];
        struct stat st;
        struct folder folder = {.at = INT64_MIN};
        size_t hex = strspn(e->d_name, "0123456789abcdef");
        bool is_commit =
            hex >= 40 && (e->d_name[hex] == '\0' || strcmp(e->d_name + hex, "-dirty") == 0);
        if ((!is_commit && strcmp(e->d_name, "none") != 0) ||
            strlen(e->d_name) >= sizeof folder.name) {
            continue;
        }
        snprintf(folder.name, sizeof folder.name, "%s", e->d_name);
        snprintf(path, sizeof path, "%.1000s/%s", results_dir, e->d_name);
        if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
            continue; /* a link is nobody's set */
        }
        read_sets(path, &folder);
        measure_folder(path, &folder);
        if (is_commit && e->d_name[hex] == '\0') {
            char *date = ask_git(results_dir, (const char *const[]){"log", "-1", "--format=%ct",
                                                                    e->d_name, "--", NULL});
            folder.at = date != NULL ? strtoll(date, NULL, 10) : folder.at;
            folder.tagged = tags != NULL && strstr(tags, e->d_name) != NULL;
            free(date);
        }
        out->items = reallocarray(out->items, out->count + 1, sizeof *out->items);
        if (out->items == NULL) {
            abort();
        }
        out->items[out->count++] = folder;
    }
    free(tags);
    closedir(dir);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct folder *x = a;
    const struct folder *y = b;
    return x->at != y->at ? (x->at < y->at) - (x->at > y->at) : strcmp(x->name, y->name);
}

static int prune(const char *results_dir, int64_t keep, bool yes, struct err *err)
{
    struct folders folders = {NULL, 0};
    int code = read_folders(results_dir, &folders, err);
    int64_t counted = 0, bytes = 0;
    size_t removed = 0;
    if (folders.count > 0) {
        qsort(folders.items, folders.count, sizeof *folders.items, newest_first);
    }
    for (size_t i = 0; i < folders.count && code == 0; i++) {
        const struct folder *f = &folders.items[i];
        char path[RESULT_PATH_MAX + 128];
        char whole[PATH_MAX];
        if (f->tagged || f->unfinished || counted++ < keep) {
            continue;
        }
        snprintf(path, sizeof path, "%.1000s/%s", results_dir, f->name);
        if (yes && (realpath(path, whole) == NULL || remove_tree(whole) != 0)) {
            code = err_set(err, -EIO, "%s: could not be removed", path);
            break;
        }
        printf("%s %s  %zu set%s, %lld KB\n", yes ? "removed" : "would remove", path, f->sets,
               f->sets == 1 ? "" : "s", (long long)f->bytes / 1000);
        removed++;
        bytes += f->bytes;
    }
    if (code == 0) {
        printf("%zu of %zu commits, %lld KB%s\n", removed, folders.count, (long long)bytes / 1000,
               yes || removed == 0 ? "" : ": nothing was removed: give --yes");
    }
    free(folders.items);
    return code;
}

int cmd_prune(int argc, char **argv)
{
    static const struct option options[] = {
        {"keep", required_argument, NULL, 'k'},
        {"yes", no_argument, NULL, 'y'},
        {"results", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *results_dir = "results";
    int64_t keep = KEEP_DEFAULT;
    bool yes = false;
    struct err err = {""};
    int code = 0;
    int c;
    optind = 1;
    while (code == 0 && (c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'k':
            code = args_int(optarg, 0, 1000000, &keep, &err);
            code = code != 0 ? err_prefix(&err, code, "--keep") : 0;
            break;
        case 'y':
            yes = true;
            break;
        case 'r':
            results_dir = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (code == 0 && optind != argc) {
        code = err_set(&err, -EINVAL, "'%.60s': it takes no arguments, only options", argv[optind]);
    }
    code = code != 0 ? code : prune(results_dir, keep, yes, &err);
    if (code != 0) {
        err_prefix(&err, code, "prune");
        return cmd_fail(CMD_USAGE, &err);
    }
    return CMD_OK;
}
