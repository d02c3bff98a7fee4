#include "report_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "history_index.h"
#include "metric.h"
#include "report/history.h"
#include "report/report.h"
#include "result.h"
#include "revision.h"

#define CHILD_TIMEOUT_NS (600 * NS_PER_SEC)
#define GIT_TIMEOUT_NS (20 * NS_PER_SEC)
#define ANSWERS_MAX 1024 /* scenarios times environments */

/* ---- one page of one or two sets ---- */

/* What this program prints when it is called with these arguments; JSON. NULL with text. */
static struct json *ask_self(const char *const *args, struct err *err)
{
    const char *argv[16] = {"/proc/self/exe"};
    char self[RESULT_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        argv[0] = self;
    }
    for (size_t i = 0; i + 2 < sizeof argv / sizeof *argv && args[i] != NULL; i++) {
        argv[i + 1] = args[i];
    }
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + CHILD_TIMEOUT_NS, &text,
                         &errors, err);
    if (code < 0) {
        return NULL;
    }
    struct json *json = json_parse(text, strlen(text), NULL);
    if (json == NULL) {
        errors[strcspn(errors, "\n")] = '\0';
        const char *why = errors;
        if (strncmp(why, "codeq-bench: ", 13) == 0) {
            why += 13;
        }
        err_set(err, -EIO, "%s", why[0] != '\0' ? why : "no JSON was printed");
    }
    free(text);
    free(errors);
    return json;
}

/* The first line of the commit's message; "" when git does not have it. */
static void read_subject(const char *set_dir, char *out, size_t bytes)
{
    char path[RESULT_PATH_MAX + 32];
    out[0] = '\0';
    snprintf(path, sizeof path, "%s/manifest.json", set_dir);
    struct json *manifest = json_parse_file(path, RESULT_FILE_BYTES_MAX, NULL);
    const char *commit = json_string(json_get(manifest, "commit"), "");
    struct revision revision;
    /* A name of ours only: what stands in a file must not become an option of git. */
    if (strspn(commit, "0123456789abcdef") == strlen(commit) && commit[0] != '\0' &&
        revision_resolve(".", commit, &revision, NULL) == 0) {
        snprintf(out, bytes, "%s", revision.subject);
    }
    json_free(manifest);
}

static int write_page(const char *path, struct buf *page, size_t *out_bytes, struct err *err)
{
    int code = result_write_file(path, page->data, page->bytes, err);
    if (code == 0 && out_bytes != NULL) {
        *out_bytes = page->bytes;
    }
    return code;
}

int report_write(const struct report_request *request, const char *path, size_t *out_bytes,
                 struct err *err)
{
    char subjects[2][256] = {"", ""};
    struct json *own = NULL;
    struct buf page = BUF_INIT;
    int code = 0;
    read_subject(request->a, subjects[0], sizeof subjects[0]);
    if (request->b != NULL) {
        read_subject(request->b, subjects[1], sizeof subjects[1]);
    }
    if (request->b != NULL && request->comparison == NULL) {
        const char *const args[] = {"compare",  "--json",   "--committed",
                                    request->a, request->b, NULL};
        own = ask_self(args, err);
        code = own == NULL ? -EIO : 0;
    }
    if (code == 0) {
        const struct report_input input = {
            .a = {request->a, subjects[0]},
            .b = {request->b, subjects[1]},
            .scenario = request->scenario,
            .comparison = own != NULL ? own : request->comparison,
        };
        code = report_print(&input, &page, err);
    }
    if (code == 0) {
        code = write_page(path, &page, out_bytes, err);
    }
    buf_fini(&page);
    json_free(own);
    return code;
}

void report_beside_set(const char *set_dir, FILE *out)
{
    char path[RESULT_PATH_MAX + 32];
    struct err err = {""};
    const struct report_request request = {.a = set_dir};
    snprintf(path, sizeof path, "%s/report.html", set_dir);
    if (report_write(&request, path, NULL, &err) != 0) {
        fprintf(stderr, "codeq-bench: report: %s\n", err.text);
        return;
    }
    fprintf(out, "report: %s\n", path);
}

void report_beside_comparison(const char *results_dir, const char *a_dir, const char *b_dir,
                              const struct json *comparison, FILE *out)
{
    char dir[RESULT_PATH_MAX];
    char path[RESULT_PATH_MAX + 64];
    struct err err = {""};
    const struct report_request request = {.a = a_dir, .b = b_dir, .comparison = comparison};
    const char *names[2];
    static const char *const sides[] = {"a", "b"};
    for (int s = 0; s < 2; s++) {
        names[s] = json_string(json_get(json_get(comparison, sides[s]), "commit"), "");
        names[s] = names[s][0] == '\0' ? "worktree" : names[s];
    }
    snprintf(dir, sizeof dir, "%.900s/.reports", results_dir);
    snprintf(path, sizeof path, "%.900s/%.12s-%.12s.html", dir, names[0], names[1]);
    int code = result_make_dirs(dir, &err);
    if (code == 0) {
        code = report_write(&request, path, NULL, &err);
    }
    if (code != 0) {
        fprintf(stderr, "codeq-bench: report: %s\n", err.text);
        return;
    }
    fprintf(out, "report: %s\n", path);
}

/* ---- history ---- */

struct subject {
    char hash[65];
    char *text;
};

struct history_work {
    struct history_index index;
    struct subject *subjects; /* by hash */
    size_t subject_count;
    struct json *answers[ANSWERS_MAX];
    size_t answer_count;
    struct history_page_set *sets; /* texts: commits[], pages[] */
    char (*commits)[80];
    char (*pages)[80];
};

static int by_hash(const void *a, const void *b)
{
    return strcmp(((const struct subject *)a)->hash, ((const struct subject *)b)->hash);
}

/* Of the checkout that holds dir. */
static void read_subjects(struct history_work *work, const char *dir)
{
    const char *argv[] = {"git", "-C", dir, "log", "--all", "--format=%H %s", NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + GIT_TIMEOUT_NS, &text,
                         &errors, NULL);
    size_t capacity = 0;
    for (char *line = code == 0 ? text : NULL; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        size_t hash = strspn(line, "0123456789abcdef");
        if (end != NULL) {
            *end = '\0';
        }
        if (hash >= 40 && hash <= 64 && line[hash] == ' ') {
            if (work->subject_count == capacity) {
                capacity = capacity == 0 ? 256 : 2 * capacity;
                work->subjects = reallocarray(work->subjects, capacity, sizeof *work->subjects);
                if (work->subjects == NULL) {
                    abort();
                }
            }
            struct subject *s = &work->subjects[work->subject_count++];
            snprintf(s->hash, sizeof s->hash, "%.*s", (int)hash, line);
            s->text = strdup(line + hash + 1);
            if (s->text == NULL) {
                abort();
            }
        }
        line = end != NULL ? end + 1 : NULL;
    }
    if (code >= 0) {
        free(text);
        free(errors);
    }
    if (work->subject_count > 0) {
        qsort(work->subjects, work->subject_count, sizeof *work->subjects, by_hash);
    }
}

static const char *subject_of(void *context, const char *commit)
{
    const struct history_work *work = context;
    struct subject wanted = {.text = NULL};
    snprintf(wanted.hash, sizeof wanted.hash, "%.*s", (int)strspn(commit, "0123456789abcdef"),
             commit);
    const struct subject *found =
        work->subject_count == 0
            ? NULL
            : bsearch(&wanted, work->subjects, work->subject_count, sizeof wanted, by_hash);
    return found != NULL ? found->text : "";
}

/* Names that the index's rows have, each once, in order. */
struct names {
    char (*items)[64];
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void add_name(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0) {
            return;
        }
    }
    names->items = reallocarray(names->items, names->count + 1, sizeof *names->items);
    if (names->items == NULL) {
        abort();
    }
    snprintf(names->items[names->count++], sizeof *names->items, "%s", name);
}

static int read_scenarios(struct history_work *work, struct names *out, struct err *err)
{
    static const char *const scopes[] = {"cycle", "create", "claim", "complete", "run"};
    for (size_t s = 0; s < sizeof scopes / sizeof *scopes; s++) {
        for (size_t m = 0; m < metric_count; m++) {
            char id[METRIC_ID_BYTES_MAX];
            struct history_row *rows = NULL;
            size_t count = 0;
            snprintf(id, sizeof id, "%s.%s", scopes[s], metric_table[m].name);
            int code = metric_find(id) == NULL
                           ? 0
                           : history_index_read(&work->index, id, &rows, &count, err);
            for (size_t i = 0; i < count; i++) {
                /* Rows of a scenario mostly follow one another. */
                if (i == 0 || strcmp(rows[i].scenario, rows[i - 1].scenario) != 0) {
                    add_name(out, rows[i].scenario);
                }
            }
            free(rows);
            if (code != 0) {
                return code;
            }
        }
    }
    if (out->count > 0) {
        qsort(out->items, out->count, sizeof *out->items, by_name);
    }
    return 0;
}

static const char *env8_of(const struct history_set *set)
{
    const char *slash = strrchr(set->key, '/');
    return slash != NULL ? slash + 1 : "";
}

static int newest_first(const void *a, const void *b)
{
    const struct history_page_set *x = a;
    const struct history_page_set *y = b;
    int order = strcmp(y->created, x->created);
    return order != 0 ? order : strcmp(x->commit, y->commit);
}

static void list_sets(struct history_work *work, bool site)
{
    size_t count = work->index.count;
    work->sets = calloc(count + 1, sizeof *work->sets);
    work->commits = calloc(count + 1, sizeof *work->commits);
    work->pages = calloc(count + 1, sizeof *work->pages);
    if (work->sets == NULL || work->commits == NULL || work->pages == NULL) {
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        const struct history_set *set = &work->index.sets[i];
        snprintf(work->commits[i], sizeof *work->commits, "%.*s", (int)strcspn(set->key, "/"),
                 set->key);
        if (site) {
            snprintf(work->pages[i], sizeof *work->pages, "set-%.12s%s-%.8s.html", work->commits[i],
                     strstr(work->commits[i], "-dirty") != NULL ? "-dirty" : "", env8_of(set));
        }
        work->sets[i] =
            (struct history_page_set){work->commits[i], env8_of(set), set->created, work->pages[i]};
    }
    qsort(work->sets, count, sizeof *work->sets, newest_first);
}

static int ask_histories(struct history_work *work, const char *results_dir, struct err *err)
{
    struct names scenarios = {0};
    struct names envs = {0};
    int code = read_scenarios(work, &scenarios, err);
    for (size_t i = 0; i < work->index.count; i++) {
        add_name(&envs, env8_of(&work->index.sets[i]));
    }
    for (size_t e = 0; e < envs.count && code == 0; e++) {
        for (size_t i = 0; i < scenarios.count && code == 0 && work->answer_count < ANSWERS_MAX;
             i++) {
            const char *const args[] = {"history", "--json",      "--results", results_dir,
                                        "--env",   envs.items[e], "--",        scenarios.items[i],
                                        NULL};
            struct err why = {""};
            struct json *answer = ask_self(args, &why);
            if (answer != NULL && json_count(json_get(answer, "series")) > 0) {
                work->answers[work->answer_count++] = answer;
            } else {
                /* The scenario has no set of this environment. */
                json_free(answer);
            }
        }
    }
    free(scenarios.items);
    free(envs.items);
    return code;
}

static int open_history(struct history_work *work, const char *results_dir, bool site,
                        struct err *err)
{
    int code = history_index_open(&work->index, results_dir, NULL, err);
    if (code == 0 && work->index.count == 0) {
        code =
            err_set(err, -ENOENT, "%s has no result sets: codeq-bench run makes them", results_dir);
    }
    if (code == 0) {
        read_subjects(work, results_dir);
        if (work->subject_count == 0) {
            read_subjects(work, ".");
        }
        list_sets(work, site);
        code = ask_histories(work, results_dir, err);
    }
    return code;
}

static void close_history(struct history_work *work)
{
    for (size_t i = 0; i < work->answer_count; i++) {
        json_free(work->answers[i]);
    }
    for (size_t i = 0; i < work->subject_count; i++) {
        free(work->subjects[i].text);
    }
    free(work->subjects);
    free(work->sets);
    free(work->commits);
    free(work->pages);
    history_index_close(&work->index);
}

static int print_history(struct history_work *work, bool site, const char *path, size_t *out_bytes,
                         struct err *err)
{
    struct buf page = BUF_INIT;
    const struct history_page wanted = {
        .answers = (const struct json *const *)work->answers,
        .answer_count = work->answer_count,
        .sets = work->sets,
        .set_count = work->index.count,
        .site = site,
        .subject = subject_of,
        .context = work,
    };
    history_print(&wanted, &page);
    int code = write_page(path, &page, out_bytes, err);
    buf_fini(&page);
    return code;
}

int report_write_history(const char *results_dir, const char *path, size_t *out_bytes,
                         struct err *err)
{
    struct history_work work = {.answer_count = 0};
    int code = open_history(&work, results_dir, false, err);
    if (code == 0) {
        code = print_history(&work, false, path, out_bytes, err);
    }
    close_history(&work);
    return code;
}

/* ---- the site ---- */

static int write_set_pages(const struct history_work *work, const char *results_dir,
                           const char *dir, size_t *out_pages, struct err *err)
{
    int code = 0;
    for (size_t i = 0; i < work->index.count && code == 0; i++) {
        const struct history_page_set *set = &work->sets[i];
        char set_dir[RESULT_PATH_MAX];
        char path[RESULT_PATH_MAX + 128];
        snprintf(set_dir, sizeof set_dir, "%.800s/%s/%s", results_dir, set->commit, set->env8);
        snprintf(path, sizeof path, "%s/%s", dir, set->page);
        const struct report_request request = {.a = set_dir};
        code = report_write(&request, path, NULL, err);
        *out_pages += code == 0;
    }
    return code;
}

static int write_compare_page(const char *results_dir, const char *dir, const char *a,
                              const char *b, const char *env8, size_t *out_pages, struct err *err)
{
    char name[128];
    char path[RESULT_PATH_MAX + 160];
    char dirs[2][RESULT_PATH_MAX];
    history_compare_page(a, b, env8, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (access(path, F_OK) == 0) {
        return 0; /* another metric has changed there too */
    }
    snprintf(dirs[0], sizeof dirs[0], "%.800s/%.80s/%.8s", results_dir, a, env8);
    snprintf(dirs[1], sizeof dirs[1], "%.800s/%.80s/%.8s", results_dir, b, env8);
    const struct report_request request = {.a = dirs[0], .b = dirs[1]};
    int code = report_write(&request, path, NULL, err);
    *out_pages += code == 0;
    return code;
}

static int write_compare_pages(const struct history_work *work, const char *results_dir,
                               const char *dir, size_t *out_pages, struct err *err)
{
    int code = 0;
    for (size_t i = 0; i < work->answer_count; i++) {
        const char *env8 = json_string(json_get(work->answers[i], "env8"), "");
        for (const struct json *s = json_first(json_get(work->answers[i], "series"));
             s != NULL && code == 0; s = json_next(s)) {
            const char *before = "";
            int64_t at = 0;
            for (const struct json *p = json_first(json_get(s, "points")); p != NULL && code == 0;
                 p = json_next(p), at++) {
                const char *commit = json_string(json_get(p, "commit"), "");
                bool changed = false;
                for (const struct json *c = json_first(json_get(s, "changes")); c != NULL;
                     c = json_next(c)) {
                    changed = changed || json_int(json_get(c, "at"), -1) == at;
                }
                if (changed && before[0] != '\0') {
                    code =
                        write_compare_page(results_dir, dir, before, commit, env8, out_pages, err);
                }
                before = commit;
            }
        }
    }
    return code;
}

/* Pages of an earlier time would not be written again. */
static int is_free(const char *dir, struct err *err)
{
    char path[RESULT_PATH_MAX];
    snprintf(path, sizeof path, "%.900s/index.html", dir);
    if (access(path, F_OK) == 0) {
        return err_set(err, -EEXIST,
                       "%s: a site is there already: remove it, or give another folder", dir);
    }
    return 0;
}

int report_write_site(const char *results_dir, const char *dir, size_t *out_pages, struct err *err)
{
    struct history_work work = {.answer_count = 0};
    char path[RESULT_PATH_MAX];
    *out_pages = 0;
    int code = is_free(dir, err);
    if (code == 0) {
        code = result_make_dirs(dir, err);
    }
    if (code == 0) {
        code = open_history(&work, results_dir, true, err);
    }
    if (code == 0) {
        code = write_set_pages(&work, results_dir, dir, out_pages, err);
    }
    if (code == 0) {
        code = write_compare_pages(&work, results_dir, dir, out_pages, err);
    }
    if (code == 0) {
        snprintf(path, sizeof path, "%.900s/index.html", dir);
        code = print_history(&work, true, path, NULL, err);
        *out_pages += code == 0;
    }
    close_history(&work);
    return code;
}
