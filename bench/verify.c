#include "verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "env.h"
#include "live_profile.h"
#include "result.h"
#include "summary.h"
#include "traced.h"

/* "codeq-lab.set/1" against what a file says: 0, or refused as newer or as something else. */
static int check_schema(const char *file, const char *said, const char *known, struct err *err)
{
    size_t stem = (size_t)(strchr(known, '/') - known) + 1;
    if (strcmp(said, known) == 0) {
        return 0;
    }
    if (strncmp(said, known, stem) == 0 && atoi(said + stem) > atoi(known + stem)) {
        return err_set(err, -EOPNOTSUPP, "%s: schema %.60s is newer than this reader's %s", file,
                       said, known);
    }
    return err_set(err, -EBADMSG, "%s: schema is '%.60s': this reader knows %s", file, said, known);
}

static int read_json(const char *set_dir, const char *file, struct json **out, char **out_text,
                     struct err *err)
{
    char path[2 * RESULT_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", set_dir, file);
    char *text = NULL;
    size_t bytes = 0;
    int code = result_read_file(path, &text, &bytes, err);
    if (code != 0) {
        return code == -ENOENT ? -ENOENT : -EBADMSG;
    }
    struct json *json = json_parse(text, bytes, err);
    if (json == NULL || json_type(json) != JSON_OBJECT) {
        if (json != NULL) {
            err_set(err, 0, "not an object");
        }
        json_free(json);
        free(text);
        return err_prefix(err, -EBADMSG, "%s", file);
    }
    *out = json;
    *out_text = text;
    return 0;
}

/* Both lists are sorted or sought by name: what is missing, what is too much, what was changed. */
static int check_files(const char *set_dir, const struct json *files, size_t *out_count,
                       struct err *err)
{
    struct result_list list;
    int code = result_list_files(set_dir, &list, err);
    if (code != 0) {
        return -EBADMSG;
    }
    for (size_t i = 0; i < list.count && code == 0; i++) {
        if (json_get(files, list.paths[i]) == NULL) {
            code = err_set(err, -EBADMSG, "%s: manifest.json does not know it", list.paths[i]);
        }
    }
    for (const struct json *c = json_first(files); c != NULL && code == 0; c = json_next(c)) {
        const char *file = json_key(c);
        size_t i = 0;
        while (i < list.count && strcmp(list.paths[i], file) != 0) {
            i++;
        }
        if (i == list.count) {
            code = err_set(err, -EBADMSG, "%.200s: missing", file);
            break;
        }
        char path[2 * RESULT_PATH_MAX], digest[DIGEST_BYTES];
        snprintf(path, sizeof path, "%s/%s", set_dir, file);
        if (digest_file(path, digest, err) != 0) {
            code = -EBADMSG;
        } else if (strcmp(digest, json_string(c, "")) != 0) {
            code = err_set(err, -EBADMSG, "%s: sha256 is not what manifest.json says", file);
        }
    }
    *out_count = list.count;
    result_list_free(&list);
    return code;
}

static int check_scenario(const char *set_dir, const char *id, size_t *out_runs, struct err *err)
{
    char file[RESULT_PATH_MAX], path[2 * RESULT_PATH_MAX];
    snprintf(file, sizeof file, "%.200s/summary.json", id);
    struct json *summary = NULL;
    char *text = NULL, *again = NULL;
    struct result_runs runs = {0};
    int code = read_json(set_dir, file, &summary, &text, err);
    if (code == 0) {
        code =
            check_schema(file, json_string(json_get(summary, "schema"), ""), SUMMARY_SCHEMA, err);
    }
    if (code == 0) {
        char digest[DIGEST_BYTES];
        snprintf(path, sizeof path, "%s/%.200s/scenario.json", set_dir, id);
        code = digest_file(path, digest, err) != 0 ? -EBADMSG : 0;
        const char *said = json_string(json_get(json_get(summary, "scenario"), "sha256"), "");
        if (code == 0 && strcmp(digest, said) != 0) {
            code = err_set(err, -EBADMSG, "%s: scenario.sha256 is not scenario.json's", file);
        }
    }
    if (code == 0) {
        snprintf(path, sizeof path, "%s/%.200s/runs.ndjson", set_dir, id);
        code = result_runs_read(path, false, &runs, err);
        code = code != 0 && code != -EOPNOTSUPP ? -EBADMSG : code;
        if (code == 0 && runs.count == 0) {
            code = err_set(err, -EBADMSG, "%.200s/runs.ndjson: no runs: nothing was measured", id);
        }
    }
    if (code == 0) {
        *out_runs += runs.count;
        again = summary_again(summary, runs.lines, runs.count, err);
        if (again == NULL) {
            code = err_prefix(err, -EBADMSG, "%.200s/runs.ndjson", id);
        } else if (strcmp(again, text) != 0) {
            size_t same = 0, line = 1;
            while (again[same] != '\0' && again[same] == text[same]) {
                line += again[same] == '\n';
                same++;
            }
            code = err_set(err, -EBADMSG, "%s: line %zu: not what runs.ndjson gives", file, line);
        }
    }
    if (code == 0) {
        snprintf(path, sizeof path, "%s/%.200s", set_dir, id);
        code = traced_verify(path, runs.lines, runs.count, err);
        code = code != 0 ? err_prefix(err, code, "%.200s", id) : 0;
    }
    result_runs_free(&runs);
    json_free(summary);
    free(text);
    free(again);
    return code;
}

int verify_set(const char *set_dir, struct verify_counts *out_counts, struct err *err)
{
    struct verify_counts counts = {0};
    struct json *manifest = NULL;
    char *text = NULL, *env_text = NULL;
    int code = read_json(set_dir, "manifest.json", &manifest, &text, err);
    if (code == 0) {
        code = check_schema("manifest.json", json_string(json_get(manifest, "schema"), ""),
                            RESULT_SET_SCHEMA, err);
    }
    if (code == 0) {
        code = check_files(set_dir, json_get(manifest, "files"), &counts.files, err);
    }
    if (code == 0) {
        char path[2 * RESULT_PATH_MAX];
        snprintf(path, sizeof path, "%s/env.json", set_dir);
        size_t bytes = 0;
        struct env env;
        code = result_read_file(path, &env_text, &bytes, err) != 0 ? -EBADMSG : 0;
        if (code == 0 && env_parse(&env, env_text, bytes, err) != 0) {
            code = err_prefix(err, -EBADMSG, "env.json");
        }
        char id[ENV_ID_BYTES];
        if (code == 0) {
            env_id(&env, id);
            if (strcmp(id, json_string(json_get(manifest, "env8"), "")) != 0) {
                code = err_set(err, -EBADMSG, "manifest.json: env8 is not env.json's %s", id);
            }
        }
    }
    for (const struct json *c = json_first(json_get(manifest, "scenarios")); c != NULL && code == 0;
         c = json_next(c)) {
        const char *id = json_string(c, "");
        if (id[0] == '\0' || strstr(id, "..") != NULL || id[0] == '/') {
            code = err_set(err, -EBADMSG, "manifest.json: a scenario's name is wrong");
            break;
        }
        code = check_scenario(set_dir, id, &counts.runs, err);
        if (code == 0) {
            char dir[2 * RESULT_PATH_MAX];
            snprintf(dir, sizeof dir, "%s/%.200s", set_dir, id);
            code = live_profile_verify(dir, err);
            code = code != 0 ? err_prefix(err, code, "%.200s", id) : 0;
        }
        counts.scenarios++;
    }
    json_free(manifest);
    free(text);
    free(env_text);
    if (code == 0) {
        *out_counts = counts;
    }
    return code;
}
