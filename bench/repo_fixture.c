#include "repo_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "result.h"

struct repo_fixture fixture;

void answer_free(struct answer *answer)
{
    free(answer->out);
    free(answer->errors);
}

struct answer run_in(const char *dir, const char *const *argv)
{
    struct child_options options = {.argv = argv, .dir = dir, .cpu = -1};
    struct answer answer = {0, NULL, NULL};
    struct err err = {""};
    answer.code = child_run(&options, clock_monotonic_ns(clock_system()) + REPO_TIMEOUT_NS,
                            &answer.out, &answer.errors, &err);
    if (answer.code < 0) {
        fail_msg("%s: %s", argv[0], err.text);
    }
    return answer;
}

void expect(const struct answer *answer, int code, const char *out, const char *errors)
{
    if (answer->code != code || strstr(answer->out, out) == NULL ||
        strstr(answer->errors, errors) == NULL) {
        fail_msg("exit %d, wanted %d with '%s' and '%s':\n%s%s", answer->code, code, out, errors,
                 answer->out, answer->errors);
    }
}

void repo_shell(const char *script)
{
    const char *const argv[] = {"sh", "-euc", script, "sh", fixture.sources, NULL};
    struct answer answer = run_in(fixture.repo, argv);
    if (answer.code != 0) {
        fail_msg("%s: %s%s", script, answer.out, answer.errors);
    }
    answer_free(&answer);
}

void repo_make(void)
{
    static const char text[] =
        "{\"schema\":\"codeq-lab.scenario/1\",\"id\":\"tiny\",\"rev\":1,"
        "\"workload\":{\"operation\":\"cycle\"},"
        "\"counted\":{\"warm_ops\":5,\"ops\":10,\"repeats\":2},"
        "\"timed\":{\"warm_ops\":5,\"ops\":300,\"duration_ms_max\":0,\"runs\":1}}\n";
    strcpy(fixture.root, "/tmp/repo-test-XXXXXX");
    assert_non_null(mkdtemp(fixture.root));
    snprintf(fixture.repo, sizeof fixture.repo, "%s/repo", fixture.root);
    snprintf(fixture.tmp, sizeof fixture.tmp, "%s/tmp", fixture.root);
    snprintf(fixture.tiny, sizeof fixture.tiny, "%s/tiny.json", fixture.root);
    assert_int_equal(mkdir(fixture.repo, 0700), 0);
    assert_int_equal(mkdir(fixture.tmp, 0700), 0);
    setenv("XDG_CACHE_HOME", fixture.root, 1);
    setenv("TMPDIR", fixture.tmp, 1);
    setenv("NO_COLOR", "", 1);
    unsetenv("CODEQ_LAB_NIX");
    assert_int_equal(result_write_file(fixture.tiny, text, sizeof text - 1, NULL), 0);
    repo_shell("git init -q -b main .; git config user.email a@b.c; git config user.name n;"
               "echo nothing > README; git add -A; git commit -qm 'no driver yet'; git tag old;"
               "mkdir src; cp \"$1/meson_options.txt\" .;"
               "sed \"/^subdir('src')/,\\$d\" \"$1/meson.build\" > meson.build;"
               "echo \"subdir('src')\" >> meson.build;"
               "sed \"/^subdir('service')/d; /^codeqd = /,\\$d\" \"$1/src/meson.build\""
               " > src/meson.build;"
               "cp -r \"$1/src/base\" \"$1/src/sched\" \"$1/src/store\" \"$1\"/src/codeq_drive.c"
               " \"$1\"/src/drive_work.* src;"
               "git add -A; git commit -qm plain; git tag plain");
}

void repo_drop(void)
{
    remove_tree(fixture.root);
}
