/* Where keys are, against what Redis itself says of every command that it has. */
#include "base/test.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "wire_keys.h"

static struct redis_server server;

/* What redis-cli answers to these words, as JSON; the caller's. */
static struct json *ask(const char *const *words)
{
    const char *argv[16] = {"redis-cli", "-s", server.socket_path, "--json"};
    int n = 4;
    while (*words != NULL) {
        argv[n++] = *words++;
        assert_true(n < 15);
    }
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    struct err err = {""};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC;
    assert_int_equal(child_run(&options, deadline_ns, &out, NULL, &err), 0);
    struct json *json = json_parse(out, strlen(out), &err);
    if (json == NULL) {
        fail_msg("%s in: %.200s", err.text, out);
    }
    free(out);
    return json;
}

static const struct json *at(const struct json *array, int i)
{
    const struct json *item = json_first(array);
    while (i-- > 0 && item != NULL) {
        item = json_next(item);
    }
    return item;
}

static void every_first_key_is_where_redis_has_it(void **state)
{
    (void)state;
    struct json *commands = ask((const char *[]){"COMMAND", NULL});
    int keyed = 0;
    for (const struct json *c = json_first(commands); c != NULL; c = json_next(c)) {
        char name[64];
        snprintf(name, sizeof name, "%s", json_string(at(c, 0), ""));
        for (char *p = name; *p != '\0'; p++) {
            *p = (char)toupper((unsigned char)*p);
        }
        enum wire_key_place place = wire_key_place(name);
        int first = (int)json_number(at(c, 3), -1);
        if (place == WIRE_KEY_AT_1 && first != 1) {
            fail_msg("%s: its first argument is no key: %d", name, first);
        }
        if (place == WIRE_KEY_NONE && first == 0) {
            continue;
        }
        keyed += place != WIRE_KEY_NONE;
    }
    /* Redis 7.0 has 157 that begin with a key, and 14 others. */
    assert_true(keyed >= 170);
    json_free(commands);
}

static void keys_behind_other_arguments_are_found(void **state)
{
    (void)state;
    static const char *const calls[][8] = {
        {"BITOP", "AND", "the key", "b"},
        {"LMPOP", "1", "the key", "LEFT"},
        {"SINTERCARD", "1", "the key"},
        {"ZDIFF", "1", "the key"},
        {"ZINTER", "1", "the key"},
        {"ZINTERCARD", "1", "the key"},
        {"ZMPOP", "1", "the key", "MIN"},
        {"ZUNION", "1", "the key"},
        {"BLMPOP", "1", "1", "the key", "LEFT"},
        {"BZMPOP", "1", "1", "the key", "MIN"},
        {"MIGRATE", "host", "1", "the key", "0", "1"},
        {"EVAL", "return 1", "1", "the key"},
        {"EVALSHA", "0123", "1", "the key"},
        {"FCALL", "f", "1", "the key"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        const char *words[12] = {"COMMAND", "GETKEYS"};
        int n = 2;
        for (int w = 0; calls[i][w] != NULL; w++) {
            words[n++] = calls[i][w];
        }
        struct json *keys = ask(words);
        enum wire_key_place place = wire_key_place(calls[i][0]);
        int position = place == WIRE_KEY_COUNTED ? 3 : place - WIRE_KEY_AT_1 + 1;
        assert_true(place != WIRE_KEY_NONE);
        assert_string_equal(json_string(at(keys, 0), ""), calls[i][position]);
        json_free(keys);
    }
}

static void what_holds_no_key_or_a_secret_has_none(void **state)
{
    (void)state;
    static const char *const names[] = {
        "AUTH", "HELLO",       "CONFIG|SET",  "ACL|SETUSER", "ECHO",
        "PING", "SUBSCRIBE",   "PUBLISH",     "SPUBLISH",    "",
        " ",    "GETT",        "ET",          "GET SET",     "OTHER",
        "?",    "SCRIPT|LOAD", "CLIENT|REPLY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        enum wire_key_place wanted =
            strcmp(names[i], "GET SET") == 0 ? WIRE_KEY_AT_1 : WIRE_KEY_NONE;
        assert_int_equal(wire_key_place(names[i]), wanted);
    }
    char longest[200];
    memset(longest, 'A', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(wire_key_place(longest), WIRE_KEY_NONE);
    assert_int_equal(wire_key_place("EVALSHA 0123456789ab"), WIRE_KEY_COUNTED);
}

static int start(void **state)
{
    (void)state;
    struct err err = {""};
    int code = redis_server_start(&server, &(struct redis_server_options){.cpu = -1}, &err);
    if (code != 0) {
        fprintf(stderr, "%s\n", err.text);
    }
    return code;
}

static int end(void **state)
{
    (void)state;
    redis_server_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_first_key_is_where_redis_has_it),
        cmocka_unit_test(keys_behind_other_arguments_are_found),
        cmocka_unit_test(what_holds_no_key_or_a_secret_has_none),
    };
    return cmocka_run_group_tests(tests, start, end);
}
