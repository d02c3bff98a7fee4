#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "cmd.h"
#include "compare.h"
#include "compare_fresh.h"
#include "compare_print.h"
#include "programs.h"
#include "report_files.h"
#include "revision.h"
#include "set.h"
#include "verify.h"

static const char help[] =
    "codeq-bench compare judges what a commit did to the scheduler's hot path, and names the "
    "cause.\n\n"
    "usage: codeq-bench compare [OPTION...] A B\n\n"
    "A is the baseline, B the candidate: commits, tags, branches, anything git can name, . for "
    "the\n"
    "working tree, folders of result sets, or paths of built drivers. Where both have result sets\n"
    "of one environment, these are compared. Else both are built here and measured now: their\n"
    "counts first, then times, in pairs of runs of A and B in random order.\n\n"
    "what is compared\n"
    "  --fresh          build and measure, even where there are result sets\n"
    "  --committed      compare result sets or fail; build nothing\n"
    "  --scenario ID    only this one; may be given several times (default: result sets: all\n"
    "                   that both have; measured now: " SCENARIO_DEFAULT ")\n"
    "  --counts-only    no timed runs\n"
    "  --repeat N       repeats of every count, 1..100 (default: as the scenario says)\n"
    "  --budget TIME    be done after about so long (10m, 90s), and say what was left out; the\n"
    "                   counts of the first scenario are taken in any case (default: no limit)\n"
    "  --seed N         of the order within pairs (default: 1)\n"
    "  --toolchain T    where Nix builds: now, both with this program's nixpkgs (default), or "
    "own,\n"
    "                   each with the one that its flake.lock names\n"
    "  --even-same      measure two revisions that build the same program: A against A\n"
    "  --results DIR    where result sets are (default: results)\n\n"
    "what it says\n"
    "  --fail-on LIST   exit 1 on these: worse, leak, warning (default: worse,leak)\n"
    "  --budgets FILE   limits and allowed regressions (default: bench/budgets.json of the\n"
    "                   checkout, else the built-in ones)\n"
    "  --markdown       for a pull request: three lines, the rest folded\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "One that was interrupted goes on where it stopped. Exit codes: 0 ok, 1 worse, 2 usage, no\n"
    "such revision or it does not build, 3 not comparable, 4 inconclusive, 5 a set is broken or\n"
    "newer than this program, 130 interrupted\n\n"
    "examples:\n"
    "  codeq-bench compare HEAD~1 HEAD\n"
    "  codeq-bench compare main . --counts-only --markdown\n"
    "  codeq-bench compare v1.0 HEAD --fresh --scenario json-large --budget 10m\n"
    "  codeq-bench compare main . --fail-on worse,leak,warning\n";

enum format { FORMAT_TEXT, FORMAT_MARKDOWN, FORMAT_JSON };

struct compare_options {
    const char *a;
    const char *b;
    const char *results_dir;
    const char *budgets_path;
    const char *fail_on;
    const char *scenarios[COMPARE_SCENARIOS_MAX];
    size_t scenario_count;
    bool fresh, committed, counts_only, even_same;
    int64_t repeats;
    int64_t budget_ns;
    int64_t seed;
    enum format format;
};

/* The sets that were found for the two names. */
struct found {
    struct result_set a;
    struct result_set b;
    char reason[256]; /* why they cannot be compared; "" */
};

/* --- finding the two sets --- */

static int read_env(const struct result_set *set, struct json **out, struct err *err)
{
    char path[RESULT_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/env.json", set->dir);
    return set_read_json(path, "codeq-lab.env/1", out, err);
}

/* The newest pair of equal env8; without one, the newest of each and why they differ. */
static int choose_pair(struct found *found, const struct set_list *a, const struct set_list *b,
                       struct err *err)
{
    for (size_t i = 0; i < b->count; i++) {
        for (size_t k = 0; k < a->count; k++) {
            if (strcmp(a->sets[k].env8, b->sets[i].env8) == 0) {
                found->a = a->sets[k];
                found->b = b->sets[i];
                return 0;
            }
        }
    }
    struct json *x = NULL;
    struct json *y = NULL;
    found->a = a->sets[0];
    found->b = b->sets[0];
    int code = read_env(&found->a, &x, err);
    if (code == 0) {
        code = read_env(&found->b, &y, err);
    }
    if (code == 0 && !compare_env_differs(x, y, found->reason, sizeof found->reason)) {
        snprintf(found->reason, sizeof found->reason, "env8 differs: '%s' in A, '%s' in B",
                 found->a.env8, found->b.env8);
    }
    json_free(x);
    json_free(y);
    return code;
}

static int find_pair(struct found *found, const char *results_dir, const char *a, const char *b,
                     struct err *err)
{
    struct set_list *lists = calloc(2, sizeof *lists);
    struct verify_counts counts;
    if (lists == NULL) {
        abort();
    }
    int code = set_find(results_dir, a, &lists[0], err);
    if (code == 0) {
        code = set_find(results_dir, b, &lists[1], err);
    }
    if (code == 0) {
        code = choose_pair(found, &lists[0], &lists[1], err);
    }
    const struct result_set *sets[] = {&found->a, &found->b};
    for (int i = 0; i < 2 && code == 0; i++) {
        code = verify_set(sets[i]->dir, &counts, err);
        if (code != 0) {
            code = code == -EOPNOTSUPP ? code : -EBADMSG;
            err_prefix(err, code, "%s", sets[i]->dir);
        }
    }
    free(lists);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool is_wanted(const struct compare_options *options, const char *scenario)
{
    for (size_t i = 0; i < options->scenario_count; i++) {
        if (strcmp(options->scenarios[i], scenario) == 0) {
            return true;
        }
    }
    return options->scenario_count == 0;
}

/* The scenarios of a set, sorted. */
static int list_scenarios(const struct compare_options *options, const struct result_set *set,
                          char names[COMPARE_SCENARIOS_MAX][SCENARIO_ID_BYTES], size_t *out_count,
                          struct err *err)
{
    struct result_list files;
    int code = result_list_files(set->dir, &files, err);
    if (code != 0) {
        return code;
    }
    *out_count = 0;
    for (size_t i = 0; i < files.count && *out_count < COMPARE_SCENARIOS_MAX; i++) {
        char *slash = strchr(files.paths[i], '/');
        if (slash == NULL || strcmp(slash, "/summary.json") != 0 ||
            slash - files.paths[i] >= SCENARIO_ID_BYTES) {
            continue;
        }
        *slash = '\0';
        if (is_wanted(options, files.paths[i])) {
            snprintf(names[(*out_count)++], SCENARIO_ID_BYTES, "%s", files.paths[i]);
        }
    }
    result_list_free(&files);
    qsort(names, *out_count, SCENARIO_ID_BYTES, by_name);
    return 0;
}

static int compare_one(struct comparison *comparison, const char *a_set, const char *b_set,
                       const char *name, const struct compare_budgets *budgets, struct err *err)
{
    char a_dir[RESULT_PATH_MAX];
    char b_dir[RESULT_PATH_MAX];
    snprintf(a_dir, sizeof a_dir, "%.900s/%.100s", a_set, name);
    snprintf(b_dir, sizeof b_dir, "%.900s/%.100s", b_set, name);
    int code =
        compare_scenario(&comparison->scenarios[comparison->count], a_dir, b_dir, budgets, err);
    comparison->count += code == 0;
    return code;
}

/* Both lists are sorted: walk them together. */
static int compare_sets(struct comparison *comparison, const struct found *found,
                        const struct compare_options *options,
                        const struct compare_budgets *budgets, struct err *err)
{
    char a[COMPARE_SCENARIOS_MAX][SCENARIO_ID_BYTES];
    char b[COMPARE_SCENARIOS_MAX][SCENARIO_ID_BYTES];
    size_t a_count = 0;
    size_t b_count = 0;
    int code = list_scenarios(options, &found->a, a, &a_count, err);
    code = code != 0 ? code : list_scenarios(options, &found->b, b, &b_count, err);
    for (size_t i = 0, k = 0; code == 0 && (i < a_count || k < b_count);) {
        int order = i == a_count ? 1 : k == b_count ? -1 : strcmp(a[i], b[k]);
        if (order < 0) {
            memcpy(comparison->only_a[comparison->only_a_count++], a[i++], SCENARIO_ID_BYTES);
        } else if (order > 0) {
            memcpy(comparison->only_b[comparison->only_b_count++], b[k++], SCENARIO_ID_BYTES);
        } else {
            code = compare_one(comparison, found->a.dir, found->b.dir, a[i], budgets, err);
            i++;
            k++;
        }
    }
    snprintf(comparison->env8, sizeof comparison->env8, "%s", found->b.env8);
    snprintf(comparison->a.commit, sizeof comparison->a.commit, "%s", found->a.commit);
    snprintf(comparison->b.commit, sizeof comparison->b.commit, "%s", found->b.commit);
    snprintf(comparison->a.dir, sizeof comparison->a.dir, "%s", found->a.dir);
    snprintf(comparison->b.dir, sizeof comparison->b.dir, "%s", found->b.dir);
    if (code == 0 && comparison->count == 0) {
        snprintf(comparison->reason, sizeof comparison->reason, "no scenario in common%s%s",
                 options->scenario_count > 0 ? ": " : "",
                 options->scenario_count > 0 ? options->scenarios[0] : "");
    }
    return code;
}

/* --- building and measuring both --- */

static void name_side(struct comparison_side *side, const struct revision *revision)
{
    snprintf(side->commit, sizeof side->commit, "%s", revision->commit);
    snprintf(side->subject, sizeof side->subject, "%s", revision->subject);
}

static int measure_fresh(struct comparison *comparison, struct compare_fresh *fresh,
                         const struct compare_options *options,
                         const struct compare_budgets *budgets, struct err *err)
{
    char dir[RESULT_PATH_MAX + 32];
    struct result_commit here;
    result_commit_read(".", &here);
    programs_scenarios(here.root, dir, sizeof dir);
    const struct compare_fresh_options wanted = {
        .a = options->a,
        .b = options->b,
        .scenarios_dir = dir,
        .scenarios = options->scenarios,
        .scenario_count = options->scenario_count,
        .counts_only = options->counts_only,
        .repeats = options->repeats,
        .even_same = options->even_same,
        .budget_ns = options->budget_ns,
        .seed = (uint64_t)options->seed,
    };
    int code = compare_fresh_run(fresh, &wanted, err);
    comparison->fresh = true;
    for (size_t i = 0; i < fresh->scenario_count && code == 0 && fresh->reason[0] == '\0'; i++) {
        comparison->timed[comparison->count] = fresh->timed[i];
        code = compare_one(comparison, fresh->set[0], fresh->set[1], fresh->scenarios[i], budgets,
                           err);
    }
    if (code != 0) {
        return code;
    }
    snprintf(comparison->a.dir, sizeof comparison->a.dir, "%s", fresh->set[0]);
    snprintf(comparison->b.dir, sizeof comparison->b.dir, "%s", fresh->set[1]);
    comparison->same_program = fresh->same_program;
    comparison->sec = fresh->sec;
    name_side(&comparison->a, &fresh->a);
    name_side(&comparison->b, &fresh->b);
    snprintf(comparison->env8, sizeof comparison->env8, "%s", fresh->env8);
    snprintf(comparison->reason, sizeof comparison->reason, "%s", fresh->reason);
    snprintf(comparison->left_out, sizeof comparison->left_out, "%s", fresh->left_out);
    return 0;
}

/* --- the verdict of all --- */

static bool fails(const struct compare_metric *m, const char *fail_on)
{
    return (m->verdict == VERDICT_WORSE && !m->leak && strstr(fail_on, "worse") != NULL) ||
           (m->leak && m->verdict == VERDICT_WORSE && strstr(fail_on, "leak") != NULL) ||
           (m->warning && strstr(fail_on, "warning") != NULL);
}

static bool timed_worse(const struct compare_timed *timed)
{
    bool worse = false;
    for (size_t i = 0; timed != NULL && i < timed->metric_count; i++) {
        worse = worse || timed->metrics[i].judged.verdict == VERDICT_WORSE;
    }
    for (size_t i = 0; timed != NULL && i < timed->tail_count; i++) {
        worse = worse || timed->tails[i].verdict == VERDICT_WORSE;
    }
    return worse;
}

static int exit_code_of(const struct comparison *comparison, const char *fail_on)
{
    bool worse = false;
    bool unsure = false;
    bool refused = comparison->reason[0] != '\0';
    for (size_t i = 0; i < comparison->count; i++) {
        const struct compare_scenario *s = &comparison->scenarios[i];
        refused = refused || s->verdict == VERDICT_NOT_COMPARABLE;
        worse = worse || (timed_worse(comparison->timed[i]) && strstr(fail_on, "worse") != NULL);
        unsure = unsure || comparison_unsettled(comparison->timed[i]);
        for (size_t k = 0; k < s->metric_count; k++) {
            worse = worse || fails(&s->metrics[k], fail_on);
            unsure = unsure || s->metrics[k].verdict == VERDICT_INCONCLUSIVE;
        }
    }
    return worse ? CMD_WORSE : refused ? CMD_NOT_COMPARABLE : unsure ? CMD_INCONCLUSIVE : CMD_OK;
}

static bool colour_wanted(void)
{
    const char *no = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) == 1 && (no == NULL || no[0] == '\0');
}

static void print(const struct comparison *comparison, enum format format, int exit_code)
{
    struct buf out = BUF_INIT;
    switch (format) {
    case FORMAT_TEXT:
        comparison_text(comparison, colour_wanted(), &out);
        break;
    case FORMAT_MARKDOWN:
        comparison_markdown(comparison, &out);
        break;
    case FORMAT_JSON: {
        char *text = comparison_json(comparison, exit_code);
        buf_puts(&out, text);
        free(text);
        break;
    }
    }
    fputs(out.data, stdout);
    buf_fini(&out);
}

/* What was measured now is a set but for its manifest. */
static int complete_set(const struct comparison_side *side, const char *env8, struct err *err)
{
    struct result_commit commit = {.tree = "none", .parent = "none"};
    commit.dirty = side->commit[0] == '\0';
    snprintf(commit.commit, sizeof commit.commit, "%s", commit.dirty ? "none" : side->commit);
    snprintf(commit.root, sizeof commit.root, ".");
    return result_write_manifest(side->dir, &commit, env8, err);
}

/* The page that shows what was printed, below results/ where there is such a folder. Programs that
 * ask for JSON draw their own. */
static void draw(const struct comparison *comparison, const struct compare_options *options,
                 int exit_code)
{
    if (options->format == FORMAT_JSON || comparison->count == 0 ||
        access(options->results_dir, W_OK) != 0) {
        return;
    }
    struct err err = {""};
    if (comparison->fresh && (complete_set(&comparison->a, comparison->env8, &err) != 0 ||
                              complete_set(&comparison->b, comparison->env8, &err) != 0)) {
        fprintf(stderr, "codeq-bench: report: %s\n", err.text);
        return;
    }
    char *text = comparison_json(comparison, exit_code);
    struct json *json = json_parse(text, strlen(text), NULL);
    report_beside_comparison(options->results_dir, comparison->a.dir, comparison->b.dir, json,
                             stderr);
    json_free(json);
    free(text);
}

static struct compare_budgets *read_budgets(const char *path, struct err *err)
{
    struct result_commit here;
    char own[2 * RESULT_PATH_MAX];
    char now[CLOCK_RFC3339_BYTES];
    if (path == NULL) {
        result_commit_read(".", &here);
        snprintf(own, sizeof own, "%s/bench/budgets.json", here.root);
        path = access(own, R_OK) == 0 ? own : NULL;
    }
    clock_format_rfc3339(clock_wall_ns(clock_system()), now);
    now[10] = '\0';
    return compare_budgets_read(path, now, err);
}

/* A folder of a result set: it can be read, not built. */
static bool is_folder(const char *name)
{
    char path[RESULT_PATH_MAX];
    snprintf(path, sizeof path, "%.1000s/manifest.json", name);
    bool set = access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%.1000s/summary.json", name);
    return set || access(path, F_OK) == 0;
}

/* Committed sets of one environment where both have them, else built and measured now. */
static int decide(struct comparison *comparison, struct compare_fresh *fresh,
                  const struct compare_options *options, const struct compare_budgets *budgets,
                  struct err *err)
{
    bool can_build = !options->committed && !is_folder(options->a) && !is_folder(options->b);
    if (!options->fresh) {
        struct found *found = calloc(1, sizeof *found);
        if (found == NULL) {
            abort();
        }
        int code = find_pair(found, options->results_dir, options->a, options->b, err);
        if (code == 0 && found->reason[0] == '\0') {
            code = compare_sets(comparison, found, options, budgets, err);
        } else if (code == 0) {
            snprintf(comparison->reason, sizeof comparison->reason, "%s", found->reason);
        }
        free(found);
        bool missing = code == -ENOENT || (code == 0 && comparison->reason[0] != '\0');
        if (!missing || !can_build) {
            return code;
        }
        comparison->reason[0] = '\0';
        comparison->only_a_count = comparison->only_b_count = 0;
    }
    return measure_fresh(comparison, fresh, options, budgets, err);
}

static int exit_code_of_error(int code)
{
    return code == -EINTR                            ? CMD_INTERRUPTED
           : code == -EBADMSG || code == -EOPNOTSUPP ? CMD_UNREADABLE
                                                     : CMD_USAGE;
}

static int compare(const struct compare_options *options, const struct compare_budgets *budgets)
{
    struct comparison *comparison = calloc(1, sizeof *comparison);
    struct compare_fresh *fresh = calloc(1, sizeof *fresh);
    struct err err = {""};
    int exit_code;
    if (comparison == NULL || fresh == NULL) {
        abort();
    }
    fresh->lock = -1;
    snprintf(comparison->a.name, sizeof comparison->a.name, "%s", options->a);
    snprintf(comparison->b.name, sizeof comparison->b.name, "%s", options->b);
    int code = decide(comparison, fresh, options, budgets, &err);
    if (code != 0) {
        /* A stop that met a child or a reply halfway shows as its failure: the stop is the cause.
         */
        if (cmd_stopped()) {
            code = err_set(&err, -EINTR, "interrupted");
        }
        exit_code = cmd_fail(exit_code_of_error(code), &err);
    } else {
        exit_code = exit_code_of(comparison, options->fail_on);
        print(comparison, options->format, exit_code);
        fflush(stdout);
        draw(comparison, options, exit_code);
        compare_fresh_forget(fresh);
    }
    for (size_t i = 0; i < comparison->count; i++) {
        compare_scenario_fini(&comparison->scenarios[i]);
    }
    compare_fresh_fini(fresh);
    free(fresh);
    free(comparison);
    return exit_code;
}

static bool fail_on_is_known(const char *list)
{
    for (const char *at = list;;) {
        size_t bytes = strcspn(at, ",");
        if (!((bytes == 5 && memcmp(at, "worse", 5) == 0) ||
              (bytes == 4 && memcmp(at, "leak", 4) == 0) ||
              (bytes == 7 && memcmp(at, "warning", 7) == 0))) {
            return false;
        }
        if (at[bytes] == '\0') {
            return true;
        }
        at += bytes + 1;
    }
}

/* -1: go on. */
static int parse(int argc, char **argv, struct compare_options *out)
{
    static const struct option options[] = {
        {"fresh", no_argument, NULL, 'F'},
        {"committed", no_argument, NULL, 'C'},
        {"scenario", required_argument, NULL, 's'},
        {"counts-only", no_argument, NULL, 'c'},
        {"budget", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 'S'},
        {"even-same", no_argument, NULL, 'e'},
        {"results", required_argument, NULL, 'r'},
        {"toolchain", required_argument, NULL, 'T'},
        {"fail-on", required_argument, NULL, 'f'},
        {"budgets", required_argument, NULL, 'b'},
        {"markdown", no_argument, NULL, 'm'},
        {"json", no_argument, NULL, 'j'},
        {"repeat", required_argument, NULL, 'R'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct err err = {""};
    int code = 0;
    int c;
    optind = 1;
    while (code == 0 && (c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'F':
            out->fresh = true;
            break;
        case 'C':
            out->committed = true;
            break;
        case 's':
            if (out->scenario_count == COMPARE_SCENARIOS_MAX) {
                code = err_set(&err, -EINVAL, "--scenario: at most %d", COMPARE_SCENARIOS_MAX);
                break;
            }
            out->scenarios[out->scenario_count++] = optarg;
            break;
        case 'c':
            out->counts_only = true;
            break;
        case 't':
            code = args_duration_ns(optarg, &out->budget_ns, &err);
            code = code != 0 ? err_prefix(&err, code, "--budget") : 0;
            break;
        case 'S':
            code = args_int(optarg, 0, INT64_C(1) << 53, &out->seed, &err);
            code = code != 0 ? err_prefix(&err, code, "--seed") : 0;
            break;
        case 'R':
            code = args_int(optarg, 1, 100, &out->repeats, &err);
            code = code != 0 ? err_prefix(&err, code, "--repeat") : 0;
            break;
        case 'e':
            out->even_same = true;
            break;
        case 'T':
            code = revision_toolchain(optarg, &err);
            code = code != 0 ? err_prefix(&err, code, "--toolchain") : 0;
            break;
        case 'r':
            out->results_dir = optarg;
            break;
        case 'f':
            out->fail_on = optarg;
            if (!fail_on_is_known(optarg)) {
                code = err_set(&err, -EINVAL, "--fail-on %.60s: give worse, leak, warning", optarg);
            }
            break;
        case 'b':
            out->budgets_path = optarg;
            break;
        case 'm':
            out->format = FORMAT_MARKDOWN;
            break;
        case 'j':
            out->format = FORMAT_JSON;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (code == 0 && argc - optind != 2) {
        code = err_set(&err, -EINVAL, "give two revisions or folders: codeq-bench compare --help");
    } else if (code == 0 && out->fresh && out->committed) {
        code = err_set(&err, -EINVAL, "--fresh and --committed: give one of them");
    }
    if (code != 0) {
        err_prefix(&err, code, "compare");
        return cmd_fail(CMD_USAGE, &err);
    }
    out->a = argv[optind];
    out->b = argv[optind + 1];
    return -1;
}

int cmd_compare(int argc, char **argv)
{
    struct compare_options options = {.results_dir = "results", .fail_on = "worse,leak", .seed = 1};
    struct err err = {""};
    int code = parse(argc, argv, &options);
    if (code >= 0) {
        return code;
    }
    struct compare_budgets *budgets = read_budgets(options.budgets_path, &err);
    if (budgets == NULL) {
        return cmd_fail(CMD_USAGE, &err);
    }
    code = compare(&options, budgets);
    compare_budgets_free(budgets);
    return code;
}
