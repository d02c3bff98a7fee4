#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "revision.h"

static char root[64];
static char repo[96];

static void shell(const char *script)
{
    const char *argv[] = {"sh", "-euc", script, NULL};
    struct child_options options = {.argv = argv, .dir = repo, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC, &out,
                         &errors, NULL);
    if (code != 0) {
        fail_msg("%s: %s", script, errors);
    }
    free(out);
    free(errors);
}

/* A small project with the layout of ours: real git, real meson, real compiler. */
static int make_repo(void **state)
{
    (void)state;
    strcpy(root, "/tmp/codeq-revision-XXXXXX");
    if (mkdtemp(root) == NULL) {
        return -1;
    }
    setenv("XDG_CACHE_HOME", root, 1);
    snprintf(repo, sizeof repo, "%s/repo with space", root);
    char command[128];
    snprintf(command, sizeof command, "mkdir '%s'", repo);
    if (system(command) != 0) {
        return -1;
    }
    shell(
        "git init -q -b main .; git config user.email a@b.c; git config user.name n;"
        "echo nothing > README; git add -A; git commit -qm 'no driver yet'; git tag old;"
        "mkdir src; echo 'int main(void) { return 1; }' > src/codeq_drive.c;"
        "printf '%s\\n' \"project('x', 'c')\" "
        "\"add_project_arguments('-ffile-prefix-map=' + meson.project_source_root() + '=.', "
        "'-ffile-prefix-map=' + meson.project_build_root() + '=b', language: 'c')\" "
        "\"subdir('src')\" > meson.build;"
        "printf '%s\\n' \"executable('codeq-drive', 'codeq_drive.c')\" "
        "\"executable('codeqd', 'codeq_drive.c')\" > src/meson.build;"
        "for o in ebpf tests; do echo \"option('$o', type: 'boolean')\"; done > meson_options.txt;"
        "git add -A; git commit -qm 'one'; git tag one;"
        "echo more > README; git commit -qam 'only words'; git tag words;"
        "echo 'int main(void) { return 2; }' > src/codeq_drive.c; git commit -qam 'two'");
    return 0;
}

static int drop_repo(void **state)
{
    (void)state;
    return remove_tree(root);
}

static struct revision built(const char *name)
{
    struct revision revision;
    struct err err = {""};
    if (revision_resolve(repo, name, &revision, &err) != 0 ||
        revision_build(repo, &revision, "codeq-drive", NULL, NULL, &err) != 0) {
        fail_msg("%s: %s", name, err.text);
    }
    return revision;
}

static int exit_code_of(const struct revision *revision)
{
    char path[REVISION_PATH_BYTES];
    revision_program(revision, "codeq-drive", path);
    const char *argv[] = {path, NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    int code =
        child_run(&options, clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC, &out, NULL, NULL);
    free(out);
    return code;
}

static void each_revision_runs_its_own_program(void **state)
{
    (void)state;
    struct revision one = built("one");
    struct revision two = built("HEAD");
    assert_int_equal(exit_code_of(&one), 1);
    assert_int_equal(exit_code_of(&two), 2);
    assert_false(revision_same_program(&one, &two, "codeq-drive"));
    assert_int_equal(strlen(one.build_dir), strlen(two.build_dir));
    assert_string_equal(one.subject, "one");
}

static void only_the_program_that_is_asked_for_is_built(void **state)
{
    (void)state;
    struct revision one = built("one");
    char path[REVISION_PATH_BYTES];
    struct err err = {""};
    revision_program(&one, "codeqd", path);
    assert_int_equal(access(path, F_OK), -1);
    struct revision again = one;
    assert_int_equal(revision_build(repo, &again, "codeqd", NULL, NULL, &err), 0);
    assert_string_equal(again.build_dir, one.build_dir);
    assert_int_equal(access(path, X_OK), 0);
    assert_int_equal(exit_code_of(&one), 1);
}

static void a_range_is_its_commits_oldest_first_and_a_merge_is_one(void **state)
{
    (void)state;
    shell("git checkout -qb side one; git commit -q --allow-empty -m side;"
          "git checkout -q main; git merge -q --no-ff -m merge side; git tag merged;"
          "git reset -q --hard merged^; git branch -D side");
    struct revision_list list;
    struct revision revision;
    struct err err = {""};
    static const char *const wanted[] = {"words", "merged^", "merged"};
    assert_int_equal(revision_list_read(repo, "one..merged", &list, &err), 0);
    assert_int_equal(list.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(revision_resolve(repo, wanted[i], &revision, &err), 0);
        assert_string_equal(list.hashes[i], revision.commit);
    }
    revision_list_free(&list);
    static const struct {
        const char *range;
        int code;
        const char *says;
    } wrong[] = {
        {"one", -EINVAL, "give two commits as A..B"},
        {"one...words", -EINVAL, "give two commits as A..B"},
        {"one..", -EINVAL, "give two commits as A..B"},
        {"..one", -EINVAL, "give two commits as A..B"},
        {"--all..one", -EINVAL, "give two commits as A..B"},
        {"one..nowhere", -ENOENT, "'nowhere': git knows no such commit"},
        {"words..one", -ENOENT, "name the older first"},
        {"one..one", -ENOENT, "no commit lies between"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(revision_list_read(repo, wrong[i].range, &list, &err), wrong[i].code);
        if (strstr(err.text, wrong[i].says) == NULL) {
            fail_msg("%s: %s", wrong[i].range, err.text);
        }
        revision_list_free(&list);
    }
}

static void a_change_of_words_is_the_same_program(void **state)
{
    (void)state;
    struct revision one = built("one");
    struct revision words = built("words");
    assert_string_not_equal(one.build_dir, words.build_dir);
    assert_true(revision_same_program(&one, &words, "codeq-drive"));
}

static void the_working_tree_is_a_revision_and_leaves_the_index_alone(void **state)
{
    (void)state;
    struct revision clean = built(".");
    struct revision head = built("HEAD");
    assert_string_equal(clean.commit, head.commit);
    assert_string_equal(clean.build_dir, head.build_dir);
    shell("echo 'int main(void) { return 3; }' > src/codeq_drive.c; echo x > new.txt");
    struct revision dirty = built(".");
    assert_string_equal(dirty.commit, "");
    assert_int_equal(exit_code_of(&dirty), 3);
    shell("test -z \"$(git diff --cached --name-only)\"; git checkout -q src; rm new.txt");
}

static void what_cannot_be_built_says_why_and_leaves_nothing(void **state)
{
    (void)state;
    struct revision revision;
    struct err err = {""};
    assert_int_equal(revision_resolve(repo, "no-such", &revision, &err), -ENOENT);
    assert_non_null(strstr(err.text, "no-such"));
    assert_int_equal(revision_resolve(repo, "--help", &revision, &err), -ENOENT);
    assert_int_equal(revision_resolve(repo, "old", &revision, &err), 0);
    assert_int_equal(revision_build(repo, &revision, "codeq-drive", NULL, NULL, &err), -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "codeq-drive"));
    shell("echo 'int main(void) { return oops; }' > src/codeq_drive.c");
    assert_int_equal(revision_resolve(repo, ".", &revision, &err), 0);
    assert_int_equal(revision_build(repo, &revision, "codeq-drive", NULL, NULL, &err), -EIO);
    assert_non_null(strstr(err.text, "oops"));
    shell("git checkout -q src; test \"$(find \"$XDG_CACHE_HOME\" -name built-codeq-drive | wc "
          "-l)\" = "
          "\"$(find \"$XDG_CACHE_HOME\" -name source | wc -l)\"");
}

/* A nix that keeps what it was asked and leaves a driver where a real one would. */
static void under_nix_a_commit_is_built_from_its_own_flake(void **state)
{
    (void)state;
    shell("cat > ../nix <<'X'\n"
          "#!/bin/sh\n"
          "printf '%s\\n' \"$@\" > \"${0%/*}/asked\"\n"
          "while [ \"$1\" != --out-link ]; do shift; done\n"
          "mkdir -p \"$2/bin\"\n"
          "printf '#!/bin/sh\\nexit 3\\n' > \"$2/bin/codeq-drive\"\n"
          "chmod +x \"$2/bin/codeq-drive\"\n"
          "X\n"
          "chmod +x ../nix");
    char nix[300], asked[300];
    snprintf(nix, sizeof nix, "%s/nix", root);
    snprintf(asked, sizeof asked, "%s/asked", root);
    setenv("CODEQ_LAB_NIX", nix, 1);
    setenv("CODEQ_LAB_NIX_FLAGS", "--override-input nixpkgs path:/somewhere", 1);
    struct revision one = built("one");
    assert_int_equal(exit_code_of(&one), 3);
    FILE *file = fopen(asked, "re");
    assert_non_null(file);
    char text[2000];
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    char flake[600];
    snprintf(flake, sizeof flake, "\ngit+file://%s?rev=%s#codeqd.unwrapped\n", repo, one.commit);
    assert_non_null(strstr(text, flake));
    assert_non_null(strstr(text, "\n--override-input\nnixpkgs\npath:/somewhere\n"));
    /* With its own toolchain, it is another program of the same revision. */
    struct err err;
    assert_int_equal(revision_toolchain("later", &err), -EINVAL);
    assert_int_equal(revision_toolchain("own", &err), 0);
    struct revision own = built("one");
    assert_string_not_equal(own.build_dir, one.build_dir);
    file = fopen(asked, "re");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(text, flake));
    assert_null(strstr(text, "--override-input"));
    /* What was built without Nix is another folder. */
    unsetenv("CODEQ_LAB_NIX");
    unsetenv("CODEQ_LAB_NIX_FLAGS");
    assert_int_equal(revision_toolchain("own", &err), -ENOTSUP);
    struct revision host = built("one");
    assert_int_equal(exit_code_of(&host), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_revision_runs_its_own_program),
        cmocka_unit_test(only_the_program_that_is_asked_for_is_built),
        cmocka_unit_test(a_range_is_its_commits_oldest_first_and_a_merge_is_one),
        cmocka_unit_test(a_change_of_words_is_the_same_program),
        cmocka_unit_test(the_working_tree_is_a_revision_and_leaves_the_index_alone),
        cmocka_unit_test(what_cannot_be_built_says_why_and_leaves_nothing),
        cmocka_unit_test(under_nix_a_commit_is_built_from_its_own_flake),
    };
    return cmocka_run_group_tests(tests, make_repo, drop_repo);
}
