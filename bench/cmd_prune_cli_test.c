/* argv[1]: codeq-bench. A small repository with made-up sets. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"

static const char *program;
static char root[] = "/tmp/prune-test-XXXXXX";

static char *shell(const char *script, int wanted_code)
{
    const char *argv[] = {"sh", "-euc", script, "sh", program, NULL};
    struct child_options options = {.argv = argv, .dir = root, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC, &out,
                         &errors, NULL);
    if (code != wanted_code) {
        fail_msg("%s: exit %d: %s%s", script, code, out, errors);
    }
    if (code != 0) {
        free(out);
        return errors;
    }
    free(errors);
    return out;
}

static void done(char *text)
{
    free(text);
}

/* Commits 1 to 6, an hour apart, each with a set; 1 is tagged; 2 holds an unfinished measurement; a
 * dirty set, one of a commit that git does not know, and things that are no sets. */
static int make_sets(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    done(shell(
        "git init -q -b main .; git config user.email a@b.c; git config user.name n;"
        "set_of() { mkdir -p results/$1/0123abcd/s; echo x > results/$1/0123abcd/s/summary.json;"
        " printf '{\"schema\":\"codeq-lab.set/1\",\"created\":\"%s\"}\\n' \"$2\""
        " > results/$1/0123abcd/manifest.json; };"
        "for i in 1 2 3 4 5 6; do d=2026-01-01T0$i:00:00Z;"
        " GIT_AUTHOR_DATE=$d GIT_COMMITTER_DATE=$d git commit -q --allow-empty -m $i;"
        " h=$(git rev-parse HEAD); echo $h > h$i; set_of $h 2026-06-01T00:00:00.000Z; done;"
        "git tag -a -m first v1 $(cat h1); mkdir results/$(cat h2)/0123abcd/other.partial;"
        "set_of $(cat h6)-dirty 2026-01-01T03:30:00.000Z;"
        "set_of ffffffffffffffffffffffffffffffffffffffff 2026-01-01T04:30:00.000Z;"
        "mkdir results/.index results/notes; echo x > results/README.md;"
        "mkdir elsewhere; echo x > elsewhere/kept;"
        "ln -s ../elsewhere results/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
        0));
    return 0;
}

static int drop_sets(void **state)
{
    (void)state;
    return remove_tree(root);
}

static void without_yes_it_says_what_it_would_remove_and_removes_nothing(void **state)
{
    (void)state;
    char *before = shell("find . | sort", 0);
    char *text = shell("\"$1\" prune --keep 3", 0);
    /* Of 6, 5, unknown (4:30), 4, dirty (3:30), 3 the newest three stay; 1 is tagged, 2 is being
     * measured. */
    assert_non_null(strstr(text, "3 of 8 commits, "));
    assert_non_null(strstr(text, "nothing was removed: give --yes"));
    char *wanted = shell("for d in $(cat h4) $(cat h6)-dirty $(cat h3); do"
                         " printf 'would remove results/%s  1 set, 0 KB\\n' $d; done",
                         0);
    assert_non_null(strstr(text, wanted));
    char *after = shell("find . | sort", 0);
    assert_string_equal(before, after);
    done(before);
    done(after);
    done(text);
    done(wanted);
}

static void with_yes_it_removes_them_and_nothing_else(void **state)
{
    (void)state;
    char *text = shell("\"$1\" prune --keep 3 --yes", 0);
    assert_non_null(strstr(text, "3 of 8 commits, "));
    done(text);
    text = shell("ls -A results | sort", 0);
    char *wanted = shell("(cat h1 h2 h5 h6; echo ffffffffffffffffffffffffffffffffffffffff;"
                         "echo eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee;"
                         "echo .index; echo notes; echo README.md) | sort",
                         0);
    assert_string_equal(text, wanted);
    done(text);
    done(wanted);
    done(shell("test -f elsewhere/kept", 0));
    text = shell("\"$1\" prune", 0);
    assert_string_equal(text, "0 of 5 commits, 0 KB\n");
    done(text);
}

static void wrong_arguments_exit_2(void **state)
{
    (void)state;
    char *text = shell("\"$1\" prune --keep -1", 2);
    assert_non_null(strstr(text, "prune: --keep: "));
    done(text);
    text = shell("\"$1\" prune results", 2);
    assert_non_null(strstr(text, "prune: 'results': it takes no arguments"));
    done(text);
    text = shell("\"$1\" prune --results nowhere", 2);
    assert_non_null(strstr(text, "prune: nowhere: No such file"));
    done(text);
}

int main(int argc, char **argv)
{
    if (argc != 2 || (program = realpath(argv[1], NULL)) == NULL) {
        fprintf(stderr, "usage: %s CODEQ-BENCH\n", argv[0]);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_yes_it_says_what_it_would_remove_and_removes_nothing),
        cmocka_unit_test(with_yes_it_removes_them_and_nothing_else),
        cmocka_unit_test(wrong_arguments_exit_2),
    };
    return cmocka_run_group_tests(tests, make_sets, drop_sets);
}
