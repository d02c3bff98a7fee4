/* codeq-bench env diff: how the machines and toolchains of two result sets differ. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cmd.h"
#include "env.h"
#include "set.h"

#define SCHEMA "codeq-lab.env-diff/1"

static const char help[] =
    "codeq-bench env diff shows by which fields the machines and toolchains of two result sets\n"
    "differ. Identity fields must be equal for sets to be compared; context is only recorded.\n\n"
    "usage: codeq-bench env diff [OPTION...] A [B]\n\n"
    "A and B are folders of result sets or revisions that have one (of several environments: one\n"
    "that both have, else the newest). Without B: this machine as it is now, but for the fields\n"
    "that a build adds.\n\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "exit codes: 0 the identities are equal, 2 usage or no such set, 3 they differ, 5 a set is\n"
    "broken or newer than this program\n\n"
    "examples:\n"
    "  codeq-bench env diff HEAD~1 HEAD\n"
    "  codeq-bench env diff v1.0\n"
    "  codeq-bench env diff results/1a2b.../6f5739c7 /tmp/results/1a2b.../0c88d1e2 --json\n";

struct side {
    char name[96];
    struct json *env; /* of env.json */
};

static int read_side(const struct result_set *set, struct side *out, struct err *err)
{
    char path[RESULT_PATH_MAX + 16];
    char name[32];
    snprintf(path, sizeof path, "%s/env.json", set->dir);
    set_short_name(set, name);
    snprintf(out->name, sizeof out->name, "%s, environment %s", name, set->env8);
    return set_read_json(path, ENV_SCHEMA, &out->env, err);
}

/* This machine; build: the other side's fields that only a build has, so that they do not count. */
static int read_here(const struct json *other, struct side *out, struct err *err)
{
    struct env env;
    env_collect(&env, "", NULL);
    const struct json *identity = json_get(other, "identity");
    for (const struct json *f = json_first(identity); f != NULL; f = json_next(f)) {
        if (env_get(&env, json_key(f))[0] == '\0') {
            env_set(&env, json_key(f), json_string(f, ""));
        }
    }
    snprintf(out->name, sizeof out->name, "this machine");
    char *text = env_print(&env);
    out->env = json_parse(text, strlen(text), err);
    free(text);
    return out->env != NULL ? 0 : -EBADMSG;
}

static int read_sides(const char *results_dir, const char *a, const char *b, struct side sides[2],
                      struct err *err)
{
    struct set_list *lists = calloc(2, sizeof *lists);
    size_t at[2] = {0, 0};
    if (lists == NULL) {
        abort();
    }
    int code = set_find(results_dir, a, &lists[0], err);
    code = code != 0 || b == NULL ? code : set_find(results_dir, b, &lists[1], err);
    bool found = false;
    for (size_t i = 0; i < lists[0].count && !found; i++) {
        for (size_t k = 0; k < lists[1].count && !found; k++) {
            if (strcmp(lists[0].sets[i].env8, lists[1].sets[k].env8) == 0) {
                at[0] = i;
                at[1] = k;
                found = true;
            }
        }
    }
    code = code != 0 ? code : read_side(&lists[0].sets[at[0]], &sides[0], err);
    if (code == 0) {
        code = b == NULL ? read_here(sides[0].env, &sides[1], err)
                         : read_side(&lists[1].sets[at[1]], &sides[1], err);
    }
    free(lists);
    return code;
}

static size_t print_field(const char *group, const char *name, const char *a, const char *b,
                          struct json *list)
{
    if (strcmp(a, b) == 0) {
        return 0;
    }
    if (list == NULL) {
        printf("  %-9s %-18s A  %s\n  %-9s %-18s B  %s\n", group, name, a[0] != '\0' ? a : "-", "",
               "", b[0] != '\0' ? b : "-");
    } else {
        struct json *one = json_new_object();
        json_add_string(one, "field", name);
        json_add_string(one, "a", a);
        json_add_string(one, "b", b);
        json_append(list, one);
    }
    return 1;
}

/* How many fields of the group differ; each printed, or put into list. */
static size_t print_group(const char *group, const struct side sides[2], struct json *list)
{
    const struct json *a = json_get(sides[0].env, group);
    const struct json *b = json_get(sides[1].env, group);
    size_t count = 0;
    for (const struct json *f = json_first(a); f != NULL; f = json_next(f)) {
        count += print_field(group, json_key(f), json_string(f, ""),
                             json_string(json_get(b, json_key(f)), ""), list);
    }
    for (const struct json *f = json_first(b); f != NULL; f = json_next(f)) {
        if (json_get(a, json_key(f)) == NULL) {
            count += print_field(group, json_key(f), "", json_string(f, ""), list);
        }
    }
    return count;
}

static int print(const struct side sides[2], bool as_json)
{
    size_t differ;
    if (as_json) {
        struct json *root = json_new_object();
        json_add_string(root, "schema", SCHEMA);
        json_add_string(root, "a", sides[0].name);
        json_add_string(root, "b", sides[1].name);
        differ = print_group("identity", sides, json_add_array(root, "identity"));
        print_group("context", sides, json_add_array(root, "context"));
        json_add_bool(root, "comparable", differ == 0);
        char *text = json_print_pretty(root);
        fputs(text, stdout);
        free(text);
        json_free(root);
    } else {
        printf("A %s\nB %s\n", sides[0].name, sides[1].name);
        differ = print_group("identity", sides, NULL);
        print_group("context", sides, NULL);
        if (differ == 0) {
            puts("equal in every identity field: these sets can be compared");
        } else {
            printf("%zu identity field%s: these sets cannot be compared; compare --fresh measures "
                   "both here\n",
                   differ, differ == 1 ? " differs" : "s differ");
        }
    }
    return differ == 0 ? CMD_OK : CMD_NOT_COMPARABLE;
}

int cmd_env(int argc, char **argv)
{
    static const struct option options[] = {
        {"results", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *results_dir = "results";
    bool as_json = false;
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'r':
            results_dir = optarg;
            break;
        case 'j':
            as_json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    int count = argc - optind;
    if (count < 2 || count > 3 || strcmp(argv[optind], "diff") != 0) {
        err_set(&err, 0, "env: give diff and one or two sets: codeq-bench env --help");
        return cmd_fail(CMD_USAGE, &err);
    }
    struct side sides[2] = {{"", NULL}, {"", NULL}};
    int code = read_sides(results_dir, argv[optind + 1], count == 3 ? argv[optind + 2] : NULL,
                          sides, &err);
    if (code == 0) {
        code = print(sides, as_json);
    } else {
        err_prefix(&err, code, "env");
        bool unreadable = code == -EBADMSG || code == -EOPNOTSUPP;
        code = cmd_fail(unreadable ? CMD_UNREADABLE : CMD_USAGE, &err);
    }
    json_free(sides[0].env);
    json_free(sides[1].env);
    return code;
}
