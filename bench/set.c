#include "set.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/child.h"
#include "base/clock.h"
#include "cmd.h"
#include "revision.h"
#include "scenario.h"

int set_read_json(const char *path, const char *schema, struct json **out, struct err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    int code = result_read_file(path, &text, &bytes, err);
    if (code != 0) {
        return code;
    }
    struct json *json = json_parse(text, bytes, err);
    free(text);
    if (json == NULL) {
        return err_prefix(err, -EBADMSG, "%s", path);
    }
    const char *have = json_string(json_get(json, "schema"), "");
    size_t stem = strcspn(schema, "/") + 1;
    if (strcmp(have, schema) == 0) {
        *out = json;
        return 0;
    }
    if (strncmp(have, schema, stem) == 0 && atoi(have + stem) > atoi(schema + stem)) {
        code = err_set(err, -EOPNOTSUPP, "%s: schema %.60s is newer than this reader's %s", path,
                       have, schema);
    } else {
        code = err_set(err, -EBADMSG, "%s: schema is '%.60s', not %s", path, have, schema);
    }
    json_free(json);
    return code;
}

static int read_set(const char *dir, struct result_set *out, char tree[80], bool *out_dirty,
                    struct err *err)
{
    char path[RESULT_PATH_MAX + 16];
    struct json *manifest;
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    int code = set_read_json(path, RESULT_SET_SCHEMA, &manifest, err);
    if (code != 0) {
        return code;
    }
    *out = (struct result_set){0};
    snprintf(out->dir, sizeof out->dir, "%s", dir);
    snprintf(out->commit, sizeof out->commit, "%s", json_string(json_get(manifest, "commit"), ""));
    snprintf(out->env8, sizeof out->env8, "%s", json_string(json_get(manifest, "env8"), ""));
    snprintf(out->created, sizeof out->created, "%s",
             json_string(json_get(manifest, "created"), ""));
    snprintf(tree, 80, "%s", json_string(json_get(manifest, "tree"), ""));
    *out_dirty = json_bool(json_get(manifest, "dirty"), false);
    json_free(manifest);
    if (out->commit[0] == '\0' || out->env8[0] == '\0') {
        return err_set(err, -EBADMSG, "%s: commit or env8 is missing", path);
    }
    return 0;
}

static bool is_file(const char *dir, const char *name)
{
    char path[2 * RESULT_PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* `git ls-tree TREE` without results/: what a tree is but for its result sets. "" when unknown. */
static void tree_listing(const char *tree, char **out)
{
    const char *argv[] = {"git", "ls-tree", tree, NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *text = NULL;
    *out = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC, &text,
                         NULL, NULL);
    if (code == 0) {
        char *line = strstr(text, "\tresults\n");
        if (line != NULL) {
            char *start = line;
            while (start > text && start[-1] != '\n') {
                start--;
            }
            char *rest = line + strlen("\tresults\n");
            memmove(start, rest, strlen(rest) + 1);
        }
        *out = text;
    } else if (code > 0) {
        free(text);
    }
}

static int by_created(const void *a, const void *b)
{
    int order =
        strcmp(((const struct result_set *)b)->created, ((const struct result_set *)a)->created);
    return order != 0
               ? order
               : strcmp(((const struct result_set *)a)->dir, ((const struct result_set *)b)->dir);
}

/* What a revision must have in common with a set. */
enum match { MATCH_COMMIT, MATCH_TREE, MATCH_LISTING, MATCH_COUNT };

struct wanted {
    char folder[96]; /* of the commit, "-dirty" included */
    char tree[80];
    char *listing; /* NULL until it was asked for */
    bool dirty;
};

static bool matches(struct wanted *wanted, enum match match, const char *folder, const char *tree,
                    bool dirty)
{
    switch (match) {
    case MATCH_COMMIT:
        return strcmp(folder, wanted->folder) == 0;
    case MATCH_TREE:
        return !wanted->dirty && !dirty && tree[0] != '\0' && strcmp(tree, wanted->tree) == 0;
    case MATCH_LISTING:
    case MATCH_COUNT:
        break;
    }
    if (wanted->dirty || dirty || strcmp(tree, "none") == 0 || tree[0] == '\0') {
        return false;
    }
    if (wanted->listing == NULL) {
        tree_listing(wanted->tree, &wanted->listing);
    }
    char *other;
    tree_listing(tree, &other);
    bool same = other != NULL && wanted->listing != NULL && strcmp(other, wanted->listing) == 0;
    free(other);
    return same;
}

/* One walk over results/COMMIT/ENV. A broken manifest counts only where the folder's name says that
 * it is the one looked for. */
static int scan(const char *results_dir, struct wanted *wanted, enum match match,
                struct set_list *out, struct err *err)
{
    DIR *commits = opendir(results_dir);
    int code = 0;
    if (commits == NULL) {
        return err_set(err, -ENOENT, "%s: %s", results_dir, strerror(errno));
    }
    for (struct dirent *c; code == 0 && (c = readdir(commits)) != NULL;) {
        char path[RESULT_PATH_MAX];
        if (c->d_name[0] == '.' ||
            (match == MATCH_COMMIT && strcmp(c->d_name, wanted->folder) != 0)) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", results_dir, c->d_name);
        DIR *envs = opendir(path);
        for (struct dirent *e; envs != NULL && code == 0 && (e = readdir(envs)) != NULL;) {
            struct result_set set;
            char tree[80];
            bool dirty;
            snprintf(path, sizeof path, "%s/%.300s/%.300s", results_dir, c->d_name, e->d_name);
            if (e->d_name[0] == '.' || !is_file(path, "manifest.json")) {
                continue;
            }
            int read = read_set(path, &set, tree, &dirty, err);
            if (read != 0) {
                code = match == MATCH_COMMIT ? read : 0;
                continue;
            }
            if (matches(wanted, match, c->d_name, tree, dirty) && out->count < SET_COUNT_MAX) {
                out->sets[out->count++] = set;
            }
        }
        if (envs != NULL) {
            closedir(envs);
        }
    }
    closedir(commits);
    return code;
}

/* A folder given by path: the set itself, or one of its scenarios. */
static int find_folder(const char *path, struct set_list *out, struct err *err)
{
    char dir[RESULT_PATH_MAX];
    char tree[80];
    bool dirty;
    snprintf(dir, sizeof dir, "%s", path);
    for (size_t bytes = strlen(dir); bytes > 1 && dir[bytes - 1] == '/';) {
        dir[--bytes] = '\0';
    }
    if (!is_file(dir, "manifest.json") && is_file(dir, "summary.json")) {
        snprintf(dir, sizeof dir, "%.1000s/..", path);
    }
    if (!is_file(dir, "manifest.json")) {
        return -ENOENT;
    }
    int code = read_set(dir, &out->sets[0], tree, &dirty, err);
    out->count = code == 0;
    return code;
}

int set_find(const char *results_dir, const char *name, struct set_list *out, struct err *err)
{
    struct revision revision;
    struct wanted wanted = {0};
    out->count = 0;
    if (name == NULL) {
        char dir[RESULT_PATH_MAX];
        int code = result_newest(results_dir, dir, err);
        if (code != 0) {
            return err_set(err, code, "%s: holds no result set: codeq-bench run writes one",
                           results_dir);
        }
        return find_folder(dir, out, err);
    }
    int code = find_folder(name, out, err);
    if (code != -ENOENT) {
        return code;
    }
    code = revision_resolve(".", name, &revision, err);
    if (code != 0) {
        return code;
    }
    struct result_commit commit;
    wanted.dirty = revision.commit[0] == '\0';
    if (wanted.dirty) {
        result_commit_read(".", &commit);
        result_commit_folder(&commit, wanted.folder, sizeof wanted.folder);
    } else {
        snprintf(wanted.folder, sizeof wanted.folder, "%s", revision.commit);
    }
    snprintf(wanted.tree, sizeof wanted.tree, "%s", revision.tree);
    for (int match = 0; match < MATCH_COUNT && code == 0 && out->count == 0; match++) {
        code = scan(results_dir, &wanted, (enum match)match, out, err);
    }
    free(wanted.listing);
    if (code == 0 && out->count == 0) {
        code = err_set(err, -ENOENT,
                       "%s: no result set of %.12s in %s: measure it with codeq-bench run", name,
                       wanted.folder, results_dir);
    }
    qsort(out->sets, out->count, sizeof *out->sets, by_created);
    return code;
}

int set_scenario(const struct result_set *set, const char *wanted, const char *needs,
                 char out_dir[RESULT_PATH_MAX], struct err *err)
{
    DIR *dir = opendir(set->dir);
    struct timespec best = {0, 0};
    char best_name[256] = "";
    if (dir == NULL) {
        return err_set(err, -errno, "%s: %s", set->dir, strerror(errno));
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[2 * RESULT_PATH_MAX];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s/%s", set->dir, e->d_name, needs);
        if (e->d_name[0] == '.' || strchr(e->d_name, '.') != NULL || stat(path, &st) != 0 ||
            (wanted != NULL && strcmp(wanted, e->d_name) != 0)) {
            continue;
        }
        int newer = st.st_mtim.tv_sec != best.tv_sec
                        ? (st.st_mtim.tv_sec > best.tv_sec ? 1 : -1)
                        : (st.st_mtim.tv_nsec > best.tv_nsec) - (st.st_mtim.tv_nsec < best.tv_nsec);
        bool is_default = strcmp(e->d_name, SCENARIO_DEFAULT) == 0;
        bool best_default = strcmp(best_name, SCENARIO_DEFAULT) == 0;
        if (best_name[0] == '\0' || newer > 0 ||
            (newer == 0 && !best_default && (is_default || strcmp(e->d_name, best_name) < 0))) {
            best = st.st_mtim;
            snprintf(best_name, sizeof best_name, "%s", e->d_name);
        }
    }
    closedir(dir);
    if (best_name[0] == '\0') {
        return err_set(err, -ENOENT,
                       "%s: no %s%s%s: measure with codeq-bench run SCENARIO --profile", set->dir,
                       needs, wanted != NULL ? " of " : "", wanted != NULL ? wanted : "");
    }
    snprintf(out_dir, RESULT_PATH_MAX, "%.700s/%.300s", set->dir, best_name);
    return 0;
}

void set_short_name(const struct result_set *set, char out[32])
{
    const char *dirty = strstr(set->dir, "-dirty/");
    snprintf(out, 32, "%.8s%s", set->commit, dirty != NULL ? "-dirty" : "");
}

int set_open(const struct set_options *options, const char *needs, struct result_set *out_set,
             char out_dir[RESULT_PATH_MAX], struct err *err)
{
    struct set_list *list = calloc(1, sizeof *list);
    if (list == NULL) {
        abort();
    }
    int code = set_find(options->results_dir, options->set, list, err);
    if (code == 0) {
        *out_set = list->sets[0];
        code = set_scenario(out_set, options->scenario, needs, out_dir, err);
    }
    free(list);
    return code == 0 ? 0 : code == -EBADMSG || code == -EOPNOTSUPP ? CMD_UNREADABLE : CMD_USAGE;
}

const char *set_number(double value, int decimals, char out[SET_NUMBER_BYTES])
{
    char plain[SET_NUMBER_BYTES];
    snprintf(plain, sizeof plain, "%.*f", decimals, value);
    if (!isfinite(value) || fabs(value) > 1e21) {
        memcpy(out, plain, sizeof plain);
        return out;
    }
    size_t sign = plain[0] == '-';
    size_t whole = strcspn(plain + sign, ".");
    char *to = out;
    if (sign) {
        *to++ = '-';
    }
    for (size_t i = 0; i < whole; i++) {
        if (i > 0 && (whole - i) % 3 == 0) {
            *to++ = ',';
        }
        *to++ = plain[sign + i];
    }
    snprintf(to, (size_t)(out + SET_NUMBER_BYTES - to), "%s", plain + sign + whole);
    return out;
}
