/* The debug listener of the built codeqd, while it works. */
#include "service/service_fixture.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/pprof_reader.h"

static const char *const arguments[] = {"--debug-listen", "127.0.0.1:0", "--threads", "2", NULL};

static unsigned debug_port(struct service_fixture *f)
{
    char *log = codeqd_log(f);
    const char *at = strstr(log, "debug_open address=127.0.0.1:");
    assert_non_null(at);
    unsigned port =
        (unsigned)strtoul(strrchr(strtok((char *)(uintptr_t)at, "\n"), ':') + 1, NULL, 10);
    free(log);
    assert_in_range(port, 1, 65535);
    return port;
}

/* A request begun; host NULL: as a client on this machine says it. */
static int begin(unsigned port, const char *method, const char *target, const char *host)
{
    char text[512];
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    char own[32];
    snprintf(own, sizeof own, "127.0.0.1:%u", port);
    int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n", method, target,
                     host != NULL ? host : own);
    http_send(fd, text, (size_t)n);
    return fd;
}

static int ask(unsigned port, const char *method, const char *target, const char *host)
{
    int fd = begin(port, method, target, host);
    struct answer answer = http_read(fd, false);
    int status = answer.status;
    answer_free(&answer);
    close(fd);
    return status;
}

struct work {
    struct service_fixture *f;
    atomic_bool stop;
    atomic_uint created;
};

/* Creates, one after another: something for codeqd to do. */
static void *keep_busy(void *arg)
{
    static const char request[] = "POST /v1/codeq/tasks HTTP/1.1\r\nHost: codeqd\r\nAuthorization: "
                                  "Bearer dev-token\r\nContent-Length: 28\r\n\r\n"
                                  "{\"command\":\"C\",\"payload\":{}}";
    struct work *work = arg;
    int fd = http_connect(work->f);
    while (!atomic_load(&work->stop)) {
        http_send(fd, request, sizeof request - 1);
        struct answer answer = http_read(fd, false);
        atomic_fetch_add(&work->created, answer.status == 202);
        answer_free(&answer);
    }
    close(fd);
    return NULL;
}

static void a_profile_of_a_loaded_codeqd_names_its_functions(void **state)
{
    (void)state;
    struct service_fixture f;
    service_start(&f, arguments);
    unsigned port = debug_port(&f);
    struct work work = {.f = &f};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, keep_busy, &work), 0);
    int fd = begin(port, "GET", "/debug/profile?seconds=2", NULL);
    struct answer answer = http_read(fd, false);
    close(fd);
    atomic_store(&work.stop, true);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&work.created) > 0);
    assert_int_equal(answer.status, 200);
    char type[64];
    assert_true(answer_header(&answer, "Content-Type", type, sizeof type));
    assert_string_equal(type, "application/octet-stream");
    static struct pprof_reader p;
    pprof_reader_read(&p, (const unsigned char *)answer.body, answer.body_bytes);
    answer_free(&answer);
    assert_string_equal(p.strings[p.type[0]], "cpu");
    assert_string_equal(p.strings[p.type[1]], "nanoseconds");
    struct buf folded = BUF_INIT;
    stacks_print_folded(p.stacks, &folded);
    /* From the thread's first function down to one that answers requests. */
    if (strstr(folded.data, "thread_main;") == NULL || strstr(folded.data, ";on_prepare") == NULL) {
        fail_msg("no function of codeqd's: %s", folded.data);
    }
    /* The handler's own frames are cut, and no more CPU is told than two cores have. */
    assert_null(strstr(folded.data, "on_sample"));
    assert_in_range(stacks_total(p.stacks), 1000000, INT64_C(2) * 30 * NS_PER_SEC);
    buf_fini(&folded);
    stacks_free(p.stacks);
    /* A stray SIGPROF is not a sample, and hurts nobody. */
    assert_int_equal(kill(f.codeqd.pid, SIGPROF), 0);
    assert_int_equal(ask(port, "GET", "/debug/profile?seconds=1", NULL), 200);
    assert_int_equal(codeqd_stop(&f), 0);
    service_stop(&f);
}

/* A profile that is under way: a second one is refused. Two that come at once may be taken in any
 * order, and then it is the long one that is refused. */
static int begin_long(unsigned port)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    for (;;) {
        int fd = begin(port, "GET", "/debug/profile?seconds=300", NULL);
        assert_int_equal(ask(port, "GET", "/", NULL), 404); /* a turn later it has been read */
        if (ask(port, "GET", "/debug/profile?seconds=1", NULL) == 409) {
            return fd;
        }
        close(fd);
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
}

static void one_profile_at_a_time_and_it_ends_with_who_asked(void **state)
{
    (void)state;
    struct service_fixture f;
    service_start(&f, arguments);
    unsigned port = debug_port(&f);
    int fd = begin_long(port);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    close(fd);
    while (ask(port, "GET", "/debug/profile?seconds=1", NULL) != 200) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    /* SIGTERM does not wait for one. */
    fd = begin_long(port);
    assert_int_equal(codeqd_stop(&f), 0);
    close(fd);
    service_stop(&f);
}

static void wrong_questions_are_refused(void **state)
{
    (void)state;
    struct service_fixture f;
    service_start(&f, arguments);
    unsigned port = debug_port(&f);
    static const char *const wrong[] = {
        "?seconds=0",    "?seconds=301",         "?seconds=-1", "?seconds=",
        "?seconds=1%00", "?seconds=1&seconds=2", "?s=1",        "?seconds=99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char target[128];
        snprintf(target, sizeof target, "/debug/profile%s", wrong[i]);
        int status = ask(port, "GET", target, NULL);
        if (status != 400) {
            fail_msg("%s: %d", target, status);
        }
    }
    assert_int_equal(ask(port, "GET", "/debug/profile/", NULL), 404);
    assert_int_equal(ask(port, "GET", "/v1/codeq/tasks", NULL), 404);
    assert_int_equal(ask(port, "POST", "/debug/profile?seconds=1", NULL), 405);
    assert_int_equal(ask(port, "GET", "/debug/profile?seconds=1", "evil.example"), 403);
    assert_int_equal(ask(port, "GET", "/debug/profile?seconds=1", "127.0.0.1.evil.example:80"),
                     403);
    assert_int_equal(ask(port, "GET", "/debug/profile?seconds=0", "localhost"), 400);
    assert_int_equal(ask(port, "GET", "/debug/profile?seconds=0", "[::1]:80"), 400);
    /* The service's own address knows nothing of it. */
    struct answer answer = http_get(&f, "/debug/profile?seconds=1");
    assert_int_equal(answer.status, 404);
    answer_free(&answer);
    assert_int_equal(codeqd_stop(&f), 0);
    service_stop(&f);
}

static void only_a_loopback_address_is_taken(void **state)
{
    (void)state;
    static const char *const others[] = {"0.0.0.0:0",      "[::]:0",    "10.0.0.1:80",
                                         "example.org:80", "127.0.0.1", ":0"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const char *const argv[] = {getenv("CODEQD"), "--listen",       "127.0.0.1:0", "--redis",
                                    "unix:/none",     "--debug-listen", others[i],     NULL};
        const struct child_options options = {.argv = argv, .cpu = -1};
        char *out = NULL;
        char *errors = NULL;
        int code = child_run(&options, clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS,
                             &out, &errors, NULL);
        assert_int_equal(code, 2);
        assert_non_null(strstr(errors, "debug_listen: '"));
        assert_non_null(strstr(errors, "is not a loopback address: give 127.0.0.1:PORT"));
        free(out);
        free(errors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_of_a_loaded_codeqd_names_its_functions),
        cmocka_unit_test(one_profile_at_a_time_and_it_ends_with_who_asked),
        cmocka_unit_test(wrong_questions_are_refused),
        cmocka_unit_test(only_a_loopback_address_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
