#include "redis_watch.h"

#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/redis_cluster.h"
#include "base/redis_server.h"

static void events_are_added_up_and_the_worst_is_named(void **state)
{
    (void)state;
    struct redis_look look;
    redis_events_parse(
        "Dave, I have observed latency spikes in this Redis instance.\n\n"
        "1. command: 3 latency spikes (average 20ms, mean deviation 1ms, period 1.00 "
        "sec). Worst all time event 31ms.\n"
        "2. fork: 2 latency spikes (average 9ms). Worst all time event 12ms.\n",
        &look);
    assert_int_equal(look.events, 5);
    assert_int_equal(look.event_worst_ms, 31);
    assert_string_equal(look.event_name, "command");
    static const char *const broken[] = {"",
                                         "1. x",
                                         "1. : 4 latency spikes",
                                         "9. a: -4 latency spikes",
                                         "1. a: 99999999999999 latency spikes",
                                         "\n\n"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        redis_events_parse(broken[i], &look);
        assert_int_equal(look.events, 0);
    }
}

/* Over TCP with a password: a script of some 10 ms is an event, a save is a fork, work is CPU. */
static void a_server_tells_what_disturbed_it(void **state)
{
    (void)state;
    int port = redis_cluster_free_port();
    char port_text[16];
    snprintf(port_text, sizeof port_text, "%d", port);
    const char *config[] = {"--port", port_text, "--bind", "127.0.0.1", NULL};
    struct redis_server server;
    struct redis_server_options options = {.config = config, .cpu = -1};
    struct err err = {""};
    if (redis_server_start(&server, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    char *reply = NULL;
    assert_int_equal(
        redis_server_ask(server.socket_path, "CONFIG SET requirepass s3cret:@x", &reply, NULL), 0);
    free(reply);
    char url[80];
    snprintf(url, sizeof url, "redis://:s3cret:@x@127.0.0.1:%d", port);
    struct redis_look before, after;
    if (redis_watch_events(url, &err) != 0 || redis_look_take(url, &before, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(before.events, 0);
    assert_true(strchr(before.version, '.') != NULL);
    char words[300];
    assert_int_equal(redis_words(&before, &before, words, sizeof words), 0);
    assert_string_equal(words, "");
    static const char slow[] = "EVAL \"local i=0 while i<8000000 do i=i+1 end return 'OK'\" 0";
    assert_int_equal(redis_server_ask(url, slow, &reply, &err), 0);
    free(reply);
    assert_int_equal(redis_server_ask(url, "BGSAVE", &reply, &err), 0);
    free(reply);
    assert_int_equal(redis_look_take(url, &after, &err), 0);
    assert_true(after.cpu_us > before.cpu_us);
    assert_true(redis_words(&before, &after, words, sizeof words) == 2);
    assert_non_null(strstr(words, "latency events"));
    assert_non_null(strstr(words, "forked 1 times"));
    char tight[10];
    redis_words(&before, &after, tight, sizeof tight);
    assert_true(strlen(tight) < sizeof tight);
    /* What is wrong is told, and never with the password. */
    snprintf(url, sizeof url, "redis://:wr0ng@127.0.0.1:%d", port);
    assert_int_equal(redis_look_take(url, &after, &err), -EACCES);
    assert_null(strstr(err.text, "wr0ng"));
    redis_server_stop(&server);
    assert_true(redis_look_take(url, &after, &err) < 0);
    static const char *const wrong[] = {"redis://", "redis://x@h", "redis://h:port",
                                        "redis://:p@:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(redis_look_take(wrong[i], &after, &err), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_added_up_and_the_worst_is_named),
        cmocka_unit_test(a_server_tells_what_disturbed_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
