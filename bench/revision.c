#include "revision.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"

#define GIT_TIMEOUT_NS (60 * NS_PER_SEC)
#define BUILD_TIMEOUT_NS (900 * NS_PER_SEC)

static int64_t in_ns(int64_t ns)
{
    return clock_monotonic_ns(clock_system()) + ns;
}

/* Run git in repo; its stdout without the last newline. -ENOENT with git's own words when it fails.
 */
static int git(const char *repo, const char *index_file, const char *const *args, char **out_text,
               struct err *err)
{
    const char *argv[24] = {"git", "-C", repo};
    int n = 3;
    if (index_file != NULL) { /* the environment of one child, not ours */
        argv[0] = "env";
        argv[1] = index_file;
        argv[2] = "git";
        argv[3] = "-C";
        argv[4] = repo;
        n = 5;
    }
    for (int i = 0; args[i] != NULL && n < 23; i++) {
        argv[n++] = args[i];
    }
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, in_ns(GIT_TIMEOUT_NS), &text, &errors, err);
    if (code < 0) {
        return code;
    }
    if (code > 0) {
        errors[strcspn(errors, "\n")] = '\0';
        code = err_set(err, -ENOENT, "git %s: %s", args[0], errors);
        free(text);
    } else {
        size_t bytes = strlen(text);
        while (bytes > 0 && text[bytes - 1] == '\n') {
            text[--bytes] = '\0';
        }
        *out_text = text;
    }
    free(errors);
    return code;
}

static int git_line(const char *repo, const char *const *args, char *out, size_t bytes,
                    struct err *err)
{
    char *text = NULL;
    int code = git(repo, NULL, args, &text, err);
    if (code == 0) {
        snprintf(out, bytes, "%s", text);
        free(text);
    }
    return code;
}

/* The working tree as a tree object: added to an index of our own, so that the user's stays. */
static int resolve_working_tree(const char *repo, struct revision *out, struct err *err)
{
    char index_path[] = "/tmp/codeq-index-XXXXXX";
    int fd = mkstemp(index_path);
    if (fd < 0) {
        return err_set(err, -errno, "%s: %s", index_path, strerror(errno));
    }
    close(fd);
    unlink(index_path); /* git wants to make it itself */
    char variable[64];
    snprintf(variable, sizeof variable, "GIT_INDEX_FILE=%s", index_path);
    const char *const read[] = {"read-tree", "HEAD", NULL};
    const char *const add[] = {"add", "-A", "--", ":/", NULL};
    const char *const write[] = {"write-tree", NULL};
    char *text = NULL;
    int code = git(repo, variable, read, &text, err);
    free(text);
    text = NULL;
    if (code == 0) {
        code = git(repo, variable, add, &text, err);
        free(text);
        text = NULL;
    }
    if (code == 0) {
        code = git(repo, variable, write, &text, err);
    }
    if (code == 0) {
        snprintf(out->tree, sizeof out->tree, "%s", text);
        free(text);
    }
    unlink(index_path);
    char head_tree[64] = "";
    const char *const head[] = {"rev-parse", "--verify", "HEAD^{tree}", NULL};
    if (code == 0) {
        code = git_line(repo, head, head_tree, sizeof head_tree, err);
    }
    if (code == 0 && strcmp(head_tree, out->tree) == 0) {
        const char *const commit[] = {"rev-parse", "--verify", "HEAD", NULL};
        code = git_line(repo, commit, out->commit, sizeof out->commit, err);
    }
    return code;
}

int revision_resolve(const char *repo, const char *name, struct revision *out, struct err *err)
{
    *out = (struct revision){0};
    if (name[0] == '-' || strlen(name) >= sizeof out->name - 16) {
        return err_set(err, -ENOENT, "'%s': not a revision", name);
    }
    snprintf(out->name, sizeof out->name, "%s", name);
    if (strcmp(name, ".") == 0) {
        return resolve_working_tree(repo, out, err);
    }
    char spec[160];
    snprintf(spec, sizeof spec, "%s^{commit}", name);
    const char *const commit[] = {"rev-parse",        "--verify", "--quiet",
                                  "--end-of-options", spec,       NULL};
    struct err ignored;
    int code = git_line(repo, commit, out->commit, sizeof out->commit, &ignored);
    if (code != 0) {
        return err_set(err, -ENOENT, "'%s': git knows no such commit: name a commit, tag or branch",
                       name);
    }
    snprintf(spec, sizeof spec, "%s^{tree}", out->commit);
    const char *const tree[] = {"rev-parse", "--verify", spec, NULL};
    code = git_line(repo, tree, out->tree, sizeof out->tree, err);
    const char *const subject[] = {"log", "-1", "--format=%s", out->commit, NULL};
    if (code == 0) {
        code = git_line(repo, subject, out->subject, sizeof out->subject, err);
    }
    return code;
}

bool revision_take_program(const char *name, struct revision *out)
{
    struct stat st;
    if (strchr(name, '/') == NULL || strlen(name) >= sizeof out->program || stat(name, &st) != 0 ||
        !S_ISREG(st.st_mode) || access(name, X_OK) != 0) {
        return false;
    }
    *out = (struct revision){0};
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->program, sizeof out->program, "%s", name);
    return true;
}

static void cache_root(char out[REVISION_PATH_BYTES])
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (cache != NULL && cache[0] == '/') {
        snprintf(out, REVISION_PATH_BYTES, "%s/codeq-lab/builds", cache);
    } else {
        snprintf(out, REVISION_PATH_BYTES, "%s/.cache/codeq-lab/builds",
                 home != NULL && home[0] == '/' ? home : "/tmp");
    }
}

/* What the programs are made with besides their source: compiler and the libraries linked. */
static int toolchain_hash(char out[9], struct err *err)
{
    const char *const argv[] = {
        "sh", "-c",
        "cc --version | head -n 1; for m in hiredis libcjson zlib libcrypto libcurl; do "
        "pkg-config --modversion $m; done; meson --version; "
        "echo $CODEQ_LAB_NIX $CODEQ_LAB_NIX_FLAGS",
        NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, in_ns(GIT_TIMEOUT_NS), &text, &errors, err);
    if (code < 0) {
        return code;
    }
    free(errors);
    uint32_t hash = 2166136261u; /* FNV-1a: a name for a folder, not a proof */
    for (const char *p = text; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    }
    free(text);
    snprintf(out, 9, "%08x", hash);
    return 0;
}

static int make_dirs(const char *path)
{
    char copy[REVISION_PATH_BYTES];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            if (mkdir(copy, 0755) != 0 && errno != EEXIST) {
                return -errno;
            }
            *p = '/';
        }
    }
    return mkdir(copy, 0755) != 0 && errno != EEXIST ? -errno : 0;
}

static int run_step(const char *const *argv, const char *dir, const char *what, struct err *err)
{
    struct child_options options = {.argv = argv, .dir = dir, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, in_ns(BUILD_TIMEOUT_NS), &text, &errors, err);
    if (code > 0) {
        /* Compilers say what is wrong on stdout of ninja; meson on its own stdout too. */
        const char *words = strstr(text, "error:");
        words = words != NULL ? words : strstr(text, "ERROR");
        words = words != NULL ? words : errors;
        char line[300];
        snprintf(line, sizeof line, "%.299s", words);
        line[strcspn(line, "\n")] = '\0';
        code = err_set(err, -EIO, "%s: %s", what, line);
    }
    free(text);
    free(errors);
    return code;
}

static bool exists(const char *dir, const char *file)
{
    char path[REVISION_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    return access(path, F_OK) == 0;
}

static void tell(revision_progress_fn *progress, void *arg, const struct revision *revision,
                 const char *what)
{
    if (progress != NULL) {
        char line[200];
        snprintf(line, sizeof line, "%s %.10s (%.100s)", what, revision->tree, revision->name);
        progress(arg, line);
    }
}

/* An empty file: "configured", or "built-PROGRAM" when that program is whole. */
static int write_mark(const char *dir, const char *name, struct err *err)
{
    char mark[REVISION_PATH_BYTES + 64];
    snprintf(mark, sizeof mark, "%s/%.60s", dir, name);
    int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set(err, -errno, "%s: %s", mark, strerror(errno));
    }
    close(fd);
    return 0;
}

/* `dir`/source and `dir`/build, configured; `dir`/configured is written last. */
static int configure_into(const char *repo, const struct revision *revision, const char *dir,
                          revision_progress_fn *progress, void *arg, struct err *err)
{
    char source[REVISION_PATH_BYTES + 16];
    remove_tree(dir);
    snprintf(source, sizeof source, "%s/source", dir);
    int code = make_dirs(source);
    if (code != 0) {
        return err_set(err, code, "%s: %s", source, strerror(-code));
    }
    tell(progress, arg, revision, "taking out");
    /* As arguments: no path of the user's becomes shell text. */
    const char *const take[] = {"sh",   "-c", "git -C \"$1\" archive \"$2\" | tar -x -C \"$3\"",
                                "sh",   repo, revision->tree,
                                source, NULL};
    code = run_step(take, NULL, "git archive", err);
    if (code != 0) {
        return code;
    }
    if (!exists(source, "src/codeq_drive.c")) {
        return err_set(err, -EOPNOTSUPP,
                       "'%s' has no codeq-drive, so this lab cannot run it: name a later commit",
                       revision->name);
    }
    tell(progress, arg, revision, "configuring");
    const char *const setup[] = {"meson",        "setup",          "../build", "-Dtests=false",
                                 "-Debpf=false", "-Dwerror=false", NULL};
    code = run_step(setup, source, "meson setup", err);
    return code != 0 ? code : write_mark(dir, "configured", err);
}

/* The folder has its final name, since binaries and profiles carry paths; marks are written last
 * and say that something is whole. */
static int build_into(const char *repo, const struct revision *revision, const char *dir,
                      const char *program, const char *mark, revision_progress_fn *progress,
                      void *arg, struct err *err)
{
    int code =
        exists(dir, "configured") ? 0 : configure_into(repo, revision, dir, progress, arg, err);
    if (code == 0) {
        tell(progress, arg, revision, "compiling");
        char build[REVISION_PATH_BYTES + 16];
        char target[64];
        snprintf(build, sizeof build, "%s/build", dir);
        snprintf(target, sizeof target, "src/%.40s", program);
        const char *const compile[] = {"ninja", target, NULL};
        code = run_step(compile, build, "ninja", err);
    }
    code = code != 0 ? code : write_mark(dir, mark, err);
    return code == 0 || code == -EOPNOTSUPP
               ? code
               : err_prefix(err, code, "building '%s'", revision->name);
}

/* Through Nix, where the wrapper of the flake runs us (CODEQ_LAB_NIX is its `nix`): the commit's
 * own flake, with the toolchain that CODEQ_LAB_NIX_FLAGS holds still ("--override-input nixpkgs
 * ...") or, where that is empty, the commit's own lock. The out-link keeps the garbage collector
 * away. */
static int build_by_nix(const char *nix, const char *repo, const struct revision *revision,
                        const char *dir, const char *mark, revision_progress_fn *progress,
                        void *arg, struct err *err)
{
    char top[REVISION_PATH_BYTES], flake[REVISION_PATH_BYTES + 200], path[REVISION_PATH_BYTES + 16];
    char flags[REVISION_PATH_BYTES] = "";
    const char *given = getenv("CODEQ_LAB_NIX_FLAGS");
    snprintf(flags, sizeof flags, "%s", given != NULL ? given : "");
    const char *const show[] = {"rev-parse", "--show-toplevel", NULL};
    int code = git_line(repo, show, top, sizeof top, err);
    remove_tree(dir);
    snprintf(path, sizeof path, "%s/build", dir);
    code = code == 0 ? make_dirs(path) : code;
    if (code != 0) {
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    snprintf(flake, sizeof flake, "git+file://%s?rev=%s#codeqd.unwrapped", top, revision->commit);
    snprintf(path, sizeof path, "%s/nix", dir);
    const char *argv[24] = {
        nix,  "--extra-experimental-features", "nix-command flakes", "build", "--out-link", path,
        flake};
    size_t n = 7;
    for (char *word = strtok(flags, " "); word != NULL && n < 23; word = strtok(NULL, " ")) {
        argv[n++] = word;
    }
    tell(progress, arg, revision, "building through nix");
    code = run_step(argv, NULL, "nix build", err);
    if (code != 0) {
        return err_prefix(err, code, "building '%s'", revision->name);
    }
    char link[REVISION_PATH_BYTES + 32];
    snprintf(link, sizeof link, "%s/build/src", dir);
    if (symlink("../nix/bin", link) != 0) {
        return err_set(err, -errno, "%s: %s", link, strerror(errno));
    }
    return write_mark(dir, mark, err);
}

int revision_toolchain(const char *word, struct err *err)
{
    if (strcmp(word, "now") == 0) {
        return 0;
    }
    if (strcmp(word, "own") != 0) {
        return err_set(err, -EINVAL, "'%s': no such toolchain: give now or own", word);
    }
    if (getenv("CODEQ_LAB_NIX") == NULL) {
        return err_set(err, -ENOTSUP,
                       "own: nothing is built through Nix here, so both are built with this "
                       "machine's compiler: run it as nix run .#compare");
    }
    /* Kept where whoever reads it looks: the builds, the name of their cache and the provenance. */
    setenv("CODEQ_LAB_NIX_FLAGS", "", 1);
    return 0;
}

int revision_build(const char *repo, struct revision *revision, const char *program,
                   revision_progress_fn *progress, void *progress_arg, struct err *err)
{
    char mark[64];
    char root[REVISION_PATH_BYTES];
    char toolchain[9];
    char dir[REVISION_PATH_BYTES + 64];
    cache_root(root);
    snprintf(mark, sizeof mark, "built-%.40s", program);
    int code = toolchain_hash(toolchain, err);
    if (code != 0) {
        return code;
    }
    if (strlen(root) > REVISION_PATH_BYTES - 128) {
        return err_set(err, -ENAMETOOLONG, "%s: too long", root);
    }
    code = make_dirs(root);
    if (code != 0) {
        return err_set(err, code, "%s: %s", root, strerror(-code));
    }
    /* A working tree has no commit for Nix to name: that is built by meson as without Nix. */
    const char *nix = revision->commit[0] != '\0' ? getenv("CODEQ_LAB_NIX") : NULL;
    snprintf(dir, sizeof dir, "%s/%.16s-%s", root, revision->tree, toolchain);
    char lock_path[sizeof dir + 8];
    snprintf(lock_path, sizeof lock_path, "%s.lock", dir);
    int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock < 0 || lockf(lock, F_LOCK, 0) != 0) {
        code = err_set(err, -errno, "%s: %s", lock_path, strerror(errno));
    } else if (!exists(dir, mark)) {
        code = nix != NULL
                   ? build_by_nix(nix, repo, revision, dir, mark, progress, progress_arg, err)
                   : build_into(repo, revision, dir, program, mark, progress, progress_arg, err);
        if (code != 0) {
            remove_tree(dir);
        }
    }
    if (code == 0) {
        snprintf(revision->build_dir, sizeof revision->build_dir, "%.*s/build",
                 REVISION_PATH_BYTES - 16, dir);
    }
    if (lock >= 0) {
        close(lock);
    }
    return code;
}

void revision_program(const struct revision *revision, const char *program,
                      char out[REVISION_PATH_BYTES])
{
    if (revision->program[0] != '\0') {
        memcpy(out, revision->program, REVISION_PATH_BYTES);
        return;
    }
    snprintf(out, REVISION_PATH_BYTES, "%.*s/src/%s", REVISION_PATH_BYTES - 64, revision->build_dir,
             program);
}

bool revision_same_program(const struct revision *a, const struct revision *b, const char *program)
{
    char path[2][REVISION_PATH_BYTES];
    revision_program(a, program, path[0]);
    revision_program(b, program, path[1]);
    FILE *files[2] = {fopen(path[0], "re"), fopen(path[1], "re")};
    bool same = files[0] != NULL && files[1] != NULL;
    while (same) {
        char chunk[2][16384];
        size_t n = fread(chunk[0], 1, sizeof chunk[0], files[0]);
        same = n == fread(chunk[1], 1, sizeof chunk[1], files[1]) &&
               memcmp(chunk[0], chunk[1], n) == 0;
        if (n == 0) {
            break;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (files[i] != NULL) {
            fclose(files[i]);
        }
    }
    return same;
}

int revision_list_read(const char *repo, const char *range, struct revision_list *out,
                       struct err *err)
{
    const char *dots = strstr(range, "..");
    *out = (struct revision_list){0};
    if (dots == NULL || dots == range || dots[2] == '\0' || dots[2] == '.' || range[0] == '-' ||
        strlen(range) > 240) {
        return err_set(err, -EINVAL, "'%.200s': not a range: give two commits as A..B", range);
    }
    struct revision ends[2];
    char names[2][128];
    snprintf(names[0], sizeof names[0], "%.*s", dots - range < 127 ? (int)(dots - range) : 127,
             range);
    snprintf(names[1], sizeof names[1], "%.127s", dots + 2);
    int code = 0;
    for (int i = 0; i < 2 && code == 0; i++) {
        code = revision_resolve(repo, names[i], &ends[i], err);
        if (code == 0 && ends[i].commit[0] == '\0') {
            code = err_set(err, -EINVAL, "'%s': not committed: name commits", names[i]);
        }
    }
    if (code != 0) {
        return code;
    }
    char both[160];
    snprintf(both, sizeof both, "%s..%s", ends[0].commit, ends[1].commit);
    const char *const list[] = {"rev-list", "--first-parent", "--reverse", both, NULL};
    char *text = NULL;
    code = git(repo, NULL, list, &text, err);
    if (code != 0) {
        return code;
    }
    for (char *line = text; *line != '\0' && code == 0;) {
        size_t bytes = strcspn(line, "\n");
        if (out->count == REVISION_LIST_MAX) {
            code = err_set(err, -E2BIG, "'%s': more than %d commits", range, REVISION_LIST_MAX);
        } else {
            out->hashes = reallocarray(out->hashes, out->count + 1, sizeof *out->hashes);
            if (out->hashes == NULL) {
                abort();
            }
            snprintf(out->hashes[out->count++], sizeof *out->hashes, "%.*s",
                     bytes < 63 ? (int)bytes : 63, line);
        }
        line += bytes + (line[bytes] == '\n');
    }
    free(text);
    if (code == 0 && out->count == 0) {
        code = err_set(err, -ENOENT, "'%s': no commit lies between the two: name the older first",
                       range);
    }
    if (code != 0) {
        revision_list_free(out);
    }
    return code;
}

void revision_list_free(struct revision_list *list)
{
    free(list->hashes);
    *list = (struct revision_list){0};
}
