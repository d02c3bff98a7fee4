#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/redis_server.h"

static void it_starts_answers_and_leaves_nothing(void **state)
{
    (void)state;
    struct redis_server_options options = {.cpu = -1};
    struct redis_server server;
    struct err err = {""};
    if (redis_server_start(&server, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    char *info = NULL;
    assert_int_equal(redis_server_info(server.socket_path, "everything", &info, &err), 0);
    assert_true(redis_info_number(info, "used_cpu_user") >= 0);
    assert_true(isnan(redis_info_number(info, "no_such_field")));
    assert_non_null(strstr(info, "cmdstat_ping"));
    free(info);
    pid_t pid = server.child.pid;
    char dir[sizeof server.dir];
    strcpy(dir, server.dir);
    redis_server_stop(&server);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(access(dir, F_OK), -1);
}

static void a_wrong_option_is_told_in_redis_own_words(void **state)
{
    (void)state;
    const char *config[] = {"--no-such-option", "1", NULL};
    struct redis_server_options options = {.config = config, .cpu = -1};
    struct redis_server server;
    struct err err = {""};
    assert_true(redis_server_start(&server, &options, &err) < 0);
    assert_non_null(strstr(err.text, "no-such-option"));
    assert_int_equal(server.child.pid, 0);
    assert_int_equal(access(server.dir, F_OK), -1);
}

static void a_killed_server_comes_back_in_its_folder(void **state)
{
    (void)state;
    struct redis_server_options options = {.cpu = -1};
    struct redis_server server;
    assert_int_equal(redis_server_start(&server, &options, NULL), 0);
    redis_server_kill(&server);
    char *info = NULL;
    assert_true(redis_server_info(server.socket_path, "server", &info, NULL) < 0);
    assert_int_equal(redis_server_restart(&server, &options, NULL), 0);
    assert_int_equal(redis_server_info(server.socket_path, "server", &info, NULL), 0);
    free(info);
    redis_server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_answers_and_leaves_nothing),
        cmocka_unit_test(a_wrong_option_is_told_in_redis_own_words),
        cmocka_unit_test(a_killed_server_comes_back_in_its_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
