/* The rule files, ours and hostile ones. */
#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lease_rules.h"

static struct lease_rules rules;

/* What the error says; "" when the text is taken. */
static const char *refusal(const char *text)
{
    static struct err err;
    err = (struct err){""};
    rules.len = 0;
    int code = lease_rules_parse(&rules, "x.rules", text, &err);
    assert_true(code == 0 || code == -EINVAL);
    assert_int_equal(code != 0, err.text[0] != '\0');
    return err.text;
}

static void rules_of_each_scheduler_are_read(void **state)
{
    (void)state;
    struct err err = {""};
    rules.len = 0;
    assert_int_equal(lease_rules_builtin(&rules, &err), 0);
    assert_int_equal(rules.len, 7);
    assert_int_equal(rules.rule[0].event, LEASE_CREATE);
    assert_int_equal(rules.rule[0].step, 2);
    assert_int_equal(rules.rule[0].step_len_arg, 4);
    static const struct {
        const char *variable;
        const char *scheduler;
        unsigned events; /* bits */
    } files[] = {
        {"CODEQ_RULES", "codeq",
         1u << LEASE_CREATE | 1u << LEASE_CLAIM | 1u << LEASE_HEARTBEAT | 1u << LEASE_COMPLETE |
             1u << LEASE_NACK | 1u << LEASE_ABANDON},
        {"BULLMQ_RULES", "bullmq",
         1u << LEASE_CREATE | 1u << LEASE_CLAIM | 1u << LEASE_HEARTBEAT | 1u << LEASE_COMPLETE |
             1u << LEASE_NACK | 1u << LEASE_EXPIRE},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        rules.len = 0;
        if (lease_rules_load(&rules, getenv(files[i].variable), &err) != 0) {
            fail_msg("%s", err.text);
        }
        unsigned events = 0;
        for (int r = 0; r < rules.len; r++) {
            assert_string_equal(rules.rule[r].scheduler, files[i].scheduler);
            events |= 1u << rules.rule[r].event;
        }
        assert_int_equal(events, files[i].events);
    }
}

static void every_field_reaches_its_place(void **state)
{
    (void)state;
    assert_string_equal(
        refusal("# a comment\n\nscheduler s-1\r\n"
                "\tclaim keys=3 key=1:*:wait key=2:a*b id=reply:2:4 skip=5 bytes=6\n"
                "complete command=hset key=1:r id=arg:2"),
        "");
    assert_int_equal(rules.len, 2);
    const struct lease_rule *r = &rules.rule[0];
    assert_string_equal(r->scheduler, "s-1");
    assert_int_equal(r->event, LEASE_CLAIM);
    assert_int_equal(r->keys, 3);
    assert_int_equal(r->key_len, 2);
    assert_string_equal(r->key_pattern[1], "a*b");
    assert_int_equal(r->key_index[1], 2);
    assert_int_equal(r->where, LEASE_REPLY);
    assert_int_equal(r->first, 2);
    assert_int_equal(r->step, 4);
    assert_int_equal(r->skip, 5);
    assert_int_equal(r->bytes, 6);
    assert_false(r->plain);
    assert_true(rules.rule[1].plain);
    assert_string_equal(rules.rule[1].command, "HSET");
}

static void wrong_rules_are_refused_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *why;
    } wrong[] = {
        {"claims script=a id=reply:1", "a line begins with"},
        {"claim", "write where the id is"},
        {"claim script=a", "write where the id is"},
        {"claim id=reply:1", "how the call is recognised"},
        {"claim script=a id=reply:63", "up to 62"},
        {"claim script=a id=reply:-1", "up to 62"},
        {"claim script=a id=reply:1x", "up to 62"},
        {"claim script=a id=reply:99999999999999999999", "up to 62"},
        {"claim script=a id=reply", "up to 62"},
        {"claim script=a id=query:1", "arg, reply, member or packed"},
        {"claim script=a id=reply:1:63", "a step is"},
        {"claim script=a id=arg:1:2+len63", "+len"},
        {"claim script=a id=arg:1:+len", "+len"},
        {"claim script=a id=member:1:2", "have a step"},
        {"claim script=a id=reply:1 skip=33", "skip"},
        {"claim script=a id=reply:1 skip=-1", "skip"},
        {"claim script=a id=reply:1 bytes=65", "bytes"},
        {"claim script=a id=reply:1 colour=red", "there are script, command"},
        {"claim script=a id=reply:1 red", "NAME=VALUE"},
        {"claim script= id=reply:1", "1 to 31 letters"},
        {"claim script=a\"b id=reply:1", "1 to 31 letters"},
        {"claim script=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa id=reply:1", "1 to 31 letters"},
        {"claim command=AAAAAAAAAAAAAAAAAAAAAAAA id=arg:1", "1 to 23 letters"},
        {"claim keys=61 id=reply:1", "keys is"},
        {"claim keys=1 key=0:a id=reply:1", "numbered from 1"},
        {"claim keys=1 key=61:a id=reply:1", "numbered from 1"},
        {"claim keys=1 key=:a id=reply:1", "numbered from 1"},
        {"claim keys=1 key=1 id=reply:1", "at most 4 keys"},
        {"claim keys=1 key=1: id=reply:1", "1 to 47 bytes"},
        {"claim keys=1 key=1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa id=reply:1",
         "1 to 47 bytes"},
        {"claim key=1:a key=2:a key=3:a key=4:a key=5:a id=reply:1", "at most 4 keys"},
        {"claim command=SETEX id=reply:1", "is an argument"},
        {"claim command=SETEX keys=1 id=arg:1", "neither script nor keys"},
        {"claim command=SETEX key=3:x id=arg:1", "stand before its id"},
        {"scheduler", "1 to 31 letters"},
        {"scheduler a{b", "1 to 31 letters"},
        {"sha name", "40 digits"},
        {"sha name 0123456789012345678901234567890123456789a", "40 digits"},
        {"sha name g123456789012345678901234567890123456789", "40 digits"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "scheduler s\n#\n%s\n", wrong[i].line);
        const char *said = refusal(text);
        if (strncmp(said, "x.rules: line 3: ", 17) != 0 || strstr(said, wrong[i].why) == NULL) {
            fail_msg("'%s' was answered '%s'", wrong[i].line, said);
        }
    }
    assert_non_null(strstr(refusal("claim script=a id=reply:1"), "`scheduler NAME` comes first"));
}

static void too_many_rules_and_too_long_lines_are_refused(void **state)
{
    (void)state;
    char *text = calloc(1, 65 * 40 + 700);
    assert_non_null(text);
    strcpy(text, "scheduler s\n");
    for (int i = 0; i < LEASE_RULES_MAX; i++) {
        strcat(text, "claim script=a id=reply:1\n");
    }
    assert_string_equal(refusal(text), "");
    assert_int_equal(rules.len, LEASE_RULES_MAX);
    strcat(text, "claim script=a id=reply:1\n");
    assert_non_null(strstr(refusal(text), "line 66: not a rule: more than 64 rules"));
    assert_int_equal(rules.len, LEASE_RULES_MAX);
    memset(text, 'a', 512);
    text[512] = '\0';
    assert_non_null(strstr(refusal(text), "line 1: longer than 511 bytes"));
    free(text);
}

static void files_that_are_no_rules_are_refused(void **state)
{
    (void)state;
    struct err err = {""};
    rules.len = 0;
    assert_int_equal(lease_rules_load(&rules, "/nonexistent/x.rules", &err), -ENOENT);
    char name[] = "/tmp/codeq-rules-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "scheduler s\n\0claim", 18), 18);
    assert_int_equal(lease_rules_load(&rules, name, &err), -EINVAL);
    assert_non_null(strstr(err.text, "not a text file"));
    assert_int_equal(ftruncate(fd, 0), 0);
    char *big = malloc(65536);
    assert_non_null(big);
    memset(big, '\n', 65536);
    assert_int_equal(pwrite(fd, big, 65536, 0), 65536);
    assert_int_equal(lease_rules_load(&rules, name, &err), -EFBIG);
    free(big);
    close(fd);
    unlink(name);
}

/* Every single byte of a good file replaced by every other: read or refused, never more. */
static void spoiled_rules_stay_within_bounds(void **state)
{
    (void)state;
    static const char good[] =
        "scheduler s\nclaim keys=9 key=1:*:w id=arg:6:2+len4 skip=1 bytes=2\n";
    char text[sizeof good];
    int refused = 0;
    for (size_t at = 0; at < sizeof good - 1; at++) {
        for (int c = 1; c < 256; c++) {
            memcpy(text, good, sizeof good);
            text[at] = (char)c;
            refused += refusal(text)[0] != '\0';
            for (int r = 0; r < rules.len; r++) {
                const struct lease_rule *rule = &rules.rule[r];
                assert_true(rule->first >= 0 && rule->first <= 62 && rule->step >= 0 &&
                            rule->step <= 62 && rule->step_len_arg <= 62 && rule->skip <= 32 &&
                            rule->bytes <= 64 && rule->key_len <= LEASE_KEYS_MAX &&
                            rule->keys <= 60 && rule->event < LEASE_EVENTS);
            }
        }
    }
    assert_true(refused > 1000);
}

static void stars_match_any_run(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        const char *text;
        int matches;
    } cases[] = {
        {"", "", 1},
        {"", "a", 0},
        {"a", "a", 1},
        {"a", "", 0},
        {"a", "ab", 0},
        {"*", "", 1},
        {"*", "anything", 1},
        {"a*", "a", 1},
        {"a*", "abc", 1},
        {"a*", "ba", 0},
        {"*c", "abc", 1},
        {"*c", "abcd", 0},
        {"*:wait", "b:q:wait", 1},
        {"a*c*e", "abcde", 1},
        {"a*c*e", "ace", 1},
        {"a*c*e", "acde!", 0},
        {"*ab", "aab", 1},
        {"*aab*", "aaaab", 1},
        {"codeq:q:*:pending:*", "codeq:q:cmd:tenant:pending:9", 1},
        {"codeq:q:*:pending:*", "codeq:q:cmd:delayed", 0},
        {"**", "", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (lease_pattern_matches(cases[i].pattern, cases[i].text, strlen(cases[i].text)) !=
            cases[i].matches) {
            fail_msg("'%s' against '%s'", cases[i].pattern, cases[i].text);
        }
    }
    assert_int_equal(lease_pattern_matches("a", "ab", 1), 1); /* no NUL is looked for */
    assert_int_equal(lease_pattern_matches("*b", "ab", 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_of_each_scheduler_are_read),
        cmocka_unit_test(every_field_reaches_its_place),
        cmocka_unit_test(wrong_rules_are_refused_with_their_line),
        cmocka_unit_test(too_many_rules_and_too_long_lines_are_refused),
        cmocka_unit_test(files_that_are_no_rules_are_refused),
        cmocka_unit_test(spoiled_rules_stay_within_bounds),
        cmocka_unit_test(stars_match_any_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
