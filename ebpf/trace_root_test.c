/* codeq-trace against what Redis itself counted. Needs rights to load BPF and a redis-server; exits
 * 77 with the reason where one is missing. */
#include "base/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "loader.h"
#include "target_shared.h"
#include "trace_fixture.h"

static struct redis_server server;

static void benchmark(const char *requests, const char *pipeline, const char *tests)
{
    const char *argv[] = {"redis-benchmark",
                          "-s",
                          server.socket_path,
                          "-n",
                          requests,
                          "-P",
                          pipeline,
                          "-t",
                          tests,
                          "-q",
                          NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    struct err err = {""};
    int code =
        child_run(&options, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC, &out, NULL, &err);
    free(out);
    if (code != 0) {
        fail_msg("redis-benchmark: %d %s", code, err.text);
    }
}

static int redis_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server.socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Send bytes and wait until `replies` lines that begin a reply have come; enough for short ones. */
static void talk(int fd, const char *bytes, size_t len, const char *until)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
    char got[65536] = "";
    size_t n = 0;
    struct timeval limit = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (strstr(got, until) == NULL) {
        ssize_t more = recv(fd, got + n, sizeof got - n - 1, 0);
        assert_true(more > 0);
        n += (size_t)more;
        got[n] = '\0';
    }
}

static double count_of(const struct json *report, const char *command)
{
    return tracer_number(report, "commands", "command", command, "count");
}

/* What Redis has counted itself. */
static double commandstat(const char *command)
{
    char *info = NULL;
    assert_int_equal(redis_server_info(server.socket_path, "commandstats", &info, NULL), 0);
    char field[64];
    snprintf(field, sizeof field, "cmdstat_%s:calls=", command);
    const char *at = strstr(info, field);
    double calls = at != NULL ? strtod(at + strlen(field), NULL) : 0;
    free(info);
    return calls;
}

static void reset_stats(void)
{
    int fd = redis_connect();
    talk(fd, "CONFIG RESETSTAT\r\n", 18, "+OK\r\n");
    close(fd);
}

static bool is_long(void)
{
    const char *asked = getenv("CODEQ_LONG");
    return asked != NULL && strcmp(asked, "true") == 0;
}

static void counts_equal_commandstats(const char *requests, const char *pipeline)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    reset_stats();
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, NULL});
    benchmark(requests, pipeline, "get,set,lpush,incr,mset");
    struct json *report = tracer_stop(&tracer);
    static const char *const pairs[][2] = {
        {"GET", "get"}, {"SET", "set"}, {"LPUSH", "lpush"}, {"INCR", "incr"}, {"MSET", "mset"}};
    double total = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        double truth = commandstat(pairs[i][1]);
        assert_true(truth >= atof(requests));
        assert_count(count_of(report, pairs[i][0]), truth);
        total += truth;
    }
    assert_count(tracer_loss(report, "unparsed_bytes"), 0);
    assert_count(tracer_loss(report, "mixed_requests"), 0);
    assert_count(tracer_loss(report, "desyncs"), 0);
    assert_count(tracer_loss(report, "missed_hits"), 0);
    assert_count(tracer_loss(report, "unmatched_replies"), 0);
    if (is_long()) {
        printf("pipeline %s: %.0f commands, all of them as Redis counted them\n", pipeline, total);
    }
    json_free(report);
}

/* Five commands of these: 100,000 commands; 1,000,000 in .ci/run --long. */
static void counts_equal_commandstats_one_by_one(void **state)
{
    (void)state;
    counts_equal_commandstats(is_long() ? "200000" : "20000", "1");
}

static void counts_equal_commandstats_in_pipelines_of_16(void **state)
{
    (void)state;
    counts_equal_commandstats("200000", "16");
}

static void counts_equal_commandstats_in_pipelines_of_64(void **state)
{
    (void)state;
    counts_equal_commandstats("200000", "64");
}

/* 1,000 PINGs under `view`, alone or with the other table: of both the counts. */
static void count_pings(const char *view, const char *option, bool commands)
{
    int fd = redis_connect();
    talk(fd, "PING\r\n", 6, "+PONG\r\n");
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){view, "--pid", pid, option, NULL});
    for (int i = 0; i < 1000; i++) {
        talk(fd, "*1\r\n$4\r\nPING\r\n", 14, "+PONG\r\n");
    }
    struct json *report = tracer_stop(&tracer);
    const struct json *row = tracer_row(report, "syscalls", "syscall", "write");
    assert_count(json_number(json_get(row, "count"), 0), 1000);
    assert_count(json_number(json_get(row, "bytes_per_call"), 0), 7);
    row = tracer_row(report, "syscalls", "syscall", "epoll_wait");
    assert_true(json_number(json_get(row, "count"), 0) >= 1);
    assert_false(json_number(json_get(row, "bytes_per_call"), 0) > 0);
    if (commands) {
        assert_count(count_of(report, "PING"), 1000);
        assert_count(tracer_loss(report, "unparsed_bytes"), 0);
    }
    json_free(report);
    close(fd);
}

static void system_calls_of_one_client_are_counted_to_the_last(void **state)
{
    (void)state;
    count_pings("syscalls", NULL, false);
}

static void system_calls_and_commands_are_counted_by_one_pair_of_programs(void **state)
{
    (void)state;
    count_pings("commands", "--syscalls", true);
    count_pings("leases", "--syscalls", true);
}

/* Everything else that the wire can hold, in one connection that is cut into single bytes. */
/* With `option` NULL hooked in at the sockets, with --syscalls at the system calls. */
static void odd_traffic(const char *option)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, option, NULL});
    static const char odd[] =
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
        "*2\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n" /* an error: wrong number of arguments */
        "*2\r\n$3\r\nGET\r\n$6\r\nabsent\r\n"
        "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"
        "*2\r\n$7\r\nHGETALL\r\n$6\r\nabsent\r\n"
        "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n"
        "*3\r\n$6\r\nCONFIG\r\n$3\r\nget\r\n$4\r\nport\r\n"
        "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n"
        "*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$2\r\nhi\r\n"
        "*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n"
        "PING\r\n"
        "*2\r\n$4\r\nECHO\r\n$4\r\nlast\r\n";
    int fd = redis_connect();
    for (size_t i = 0; i < sizeof odd - 1; i++) {
        assert_int_equal(send(fd, odd + i, 1, MSG_NOSIGNAL), 1);
    }
    talk(fd, "", 0, "last");
    close(fd);
    struct json *report = tracer_stop(&tracer);
    static const struct {
        const char *command;
        double count;
    } expected[] = {{"SET", 1},   {"LPUSH", 1},     {"GET", 2},        {"HELLO", 1},
                    {"MULTI", 1}, {"EXEC", 1},      {"CONFIG|GET", 1}, {"HGETALL", 1},
                    {"PING", 1},  {"SUBSCRIBE", 1}, {"PUBLISH", 1},    {"ECHO", 1},
                    {"EVAL", 0}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        double n = count_of(report, expected[i].command);
        if (n != expected[i].count) {
            fail_msg("%s: %g", expected[i].command, n);
        }
    }
    const struct json *lpush = tracer_row(report, "commands", "command", "LPUSH");
    assert_count(json_number(json_get(lpush, "errors"), 0), 1);
    const struct json *get = tracer_row(report, "commands", "command", "GET");
    assert_count(json_number(json_get(get, "nils"), 0), 1);
    assert_count(tracer_loss(report, "unmatched_replies"), 0);
    assert_count(tracer_loss(report, "unparsed_bytes"), 0);
    json_free(report);
}

static void odd_traffic_is_understood_byte_by_byte(void **state)
{
    (void)state;
    odd_traffic(NULL);
}

static void odd_traffic_is_understood_byte_by_byte_at_the_system_calls(void **state)
{
    (void)state;
    odd_traffic("--syscalls");
}

/* Does the process hold a BPF program of this name? */
static bool has_program(pid_t pid, const char *name)
{
    char path[320], line[128];
    snprintf(path, sizeof path, "/proc/%d/fdinfo", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    bool found = false;
    for (struct dirent *e; (e = readdir(dir)) != NULL && !found;) {
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", (int)pid, e->d_name);
        FILE *file = fopen(path, "re");
        unsigned id = 0;
        while (file != NULL && id == 0 && fgets(line, sizeof line, file) != NULL) {
            sscanf(line, "prog_id: %u", &id);
        }
        if (file != NULL) {
            fclose(file);
        }
        struct bpf_prog_info info = {0};
        __u32 bytes = sizeof info;
        int fd = id != 0 ? bpf_prog_get_fd_by_id(id) : -1;
        if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &bytes) == 0) {
            found = strcmp(info.name, name) == 0;
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    closedir(dir);
    return found;
}

/* What stays out of the way of other processes' system calls. */
static void servers_alone_are_seen_at_their_sockets(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    char both[64];
    snprintf(both, sizeof both, "%s,%d", pid, (int)getpid());
    const struct {
        const char *const args[4];
        bool by_socket;
    } cases[] = {{{"commands", "--pid", pid}, true},
                 {{"leases", "--comm", "redis-server,valkey-server"}, true},
                 {{"commands", "--pid", both}, false},
                 {{"commands", "--comm", "redis-server,node"}, false},
                 {{"commands", "--pid", pid, "--role=client"}, false},
                 {{"leases", "--pid", pid, "--syscalls"}, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *args[5] = {cases[i].args[0], cases[i].args[1], cases[i].args[2],
                               cases[i].args[3], NULL};
        struct tracer tracer;
        tracer_start(&tracer, args);
        bool at_sockets = has_program(tracer.child.pid, "on_received");
        bool at_calls = has_program(tracer.child.pid, "on_enter");
        json_free(tracer_stop(&tracer));
        if (at_sockets != cases[i].by_socket || at_calls == cases[i].by_socket) {
            fail_msg("case %zu: at the sockets %d, at the calls %d", i, at_sockets, at_calls);
        }
    }
}

/* A connection that was there before may be in the middle of a text: it is no command. A new one
 * may begin with a line of words, also under a number that an old one had. */
static void text_in_the_middle_of_an_old_connection_is_no_command(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    int old = redis_connect();
    talk(old, "*2\r\n$4\r\nECHO\r\n$2\r\nok\r\n", 22, "ok");
    talk(old, "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$19\r\nonce ", 38, "PONG");
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, NULL});
    talk(old, "upon\r\nSTRLEN k", 14, "");
    talk(old, "\r\n", 2, "STRLEN k");
    talk(old, "*1\r\n$4\r\nPING\r\n", 14, "PONG");
    close(old);
    for (int i = 0; i < 300; i++) {
        int fd = redis_connect();
        talk(fd, "STRLEN absent\r\n", 15, ":0");
        talk(fd, "*2\r\n$3\r\nG", 9, ""); /* ends in the middle of a command */
        close(fd);
    }
    struct json *report = tracer_stop(&tracer);
    assert_count(count_of(report, "PING"), 1);
    assert_count(count_of(report, "STRLEN"), 300);
    assert_int_equal(json_count(json_get(report, "commands")), 2);
    assert_count(tracer_loss(report, "desyncs"), 0);
    assert_count(tracer_number(report, "peers", "peer", "unix socket", "commands"), 301);
    json_free(report);
}

static void more_alternating_commands_than_the_queue_are_all_counted(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, NULL});
    char bytes[32768];
    size_t n = 0;
    for (int i = 0; i < 400; i++) {
        n += (size_t)snprintf(bytes + n, sizeof bytes - n,
                              "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n");
    }
    n += (size_t)snprintf(bytes + n, sizeof bytes - n, "*2\r\n$4\r\nECHO\r\n$4\r\nlast\r\n");
    int fd = redis_connect();
    talk(fd, bytes, n, "last");
    talk(fd, "*2\r\n$4\r\nECHO\r\n$4\r\nnext\r\n", 24, "next");
    close(fd);
    struct json *report = tracer_stop(&tracer);
    assert_count(count_of(report, "GET"), 400);
    assert_count(count_of(report, "PING"), 400);
    assert_count(count_of(report, "ECHO"), 2);
    assert_count(tracer_loss(report, "unmatched_replies"), 0);
    assert_true(tracer_loss(report, "mixed_requests") > 0);
    json_free(report);
}

static void server_and_client_side_count_alike(void **state)
{
    (void)state;
    struct tracer tracer;
    tracer_start(&tracer,
                 (const char *[]){"commands", "--comm", "redis-server,redis-benchmark", NULL});
    reset_stats();
    benchmark("20000", "1", "set");
    struct json *report = tracer_stop(&tracer);
    const struct json *row = tracer_row(report, "commands", "command", "SET");
    assert_true(json_number(json_get(row, "client_count"), 0) >= 20000);
    assert_count(json_number(json_get(row, "client_count"), 0),
                 json_number(json_get(row, "server_count"), -1));
    assert_true(json_number(json_get(row, "client_latency_ns_p50"), 0) >=
                json_number(json_get(row, "server_latency_ns_p50"), NAN));
    json_free(report);
}

/* The scheduler's own driver, two cycles of 16 tasks a call, then tasks that stay in their lease.
 */
static void leases_of_codeqd_are_counted_task_by_task(void **state)
{
    (void)state;
    const char *drive = getenv("CODEQ_DRIVE");
    assert_non_null(drive);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"leases", "--pid", pid, NULL});
    char dir[] = "/tmp/codeq-drive-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    snprintf(path, sizeof path, "%s/in", dir);
    FILE *in = fopen(path, "we");
    assert_non_null(in);
    fprintf(in,
            "{\"op\":\"hello\",\"version\":1,\"workload\":{\"operation\":\"cycle\",\"batch\":16,"
            "\"format\":\"raw\",\"payload_bytes\":100},\"seed\":1,\"redis\":\"unix:%s\","
            "\"clock\":\"system\"}\n"
            "{\"op\":\"start\",\"ops\":1600,\"timed\":false,\"duration_ms_max\":0}\n"
            "{\"op\":\"quit\"}\n",
            server.socket_path);
    fclose(in);
    int in_fd = open(path, O_RDONLY | O_CLOEXEC);
    const char *argv[] = {drive, NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = in_fd, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct child child = {0};
    struct err err = {""};
    assert_int_equal(child_start(&child, &options, &err), 0);
    close(in_fd);
    assert_int_equal(child_wait(&child, clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC), 0);
    assert_int_equal(child_exit_code(&child), 0);
    remove_tree(dir);
    struct json *report = tracer_stop(&tracer);
    static const char *const events[] = {"create", "claim", "complete", "lease held"};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        const struct json *row = tracer_row(report, "leases", "event", events[i]);
        assert_count(json_number(json_get(row, "tasks"), 0), 1600);
    }
    assert_null(tracer_row(report, "leases", "event", "expired"));
    assert_null(tracer_row(report, "leases", "event", "refused"));
    assert_count(json_number(json_get(tracer_row(report, "leases", "event", "claim"), "calls"), 0),
                 100);
    assert_count(tracer_loss(report, "events_lost"), 0);
    json_free(report);
}

/* Run codeq-trace with these capabilities alone, as another user; its exit code and messages. */
static int run_with_rights(const char *view, const char *rights, char **out_stdout,
                           char **out_stderr)
{
    char pid[16];
    char inheritable[128];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    snprintf(inheritable, sizeof inheritable, "-all%s", rights);
    const char *argv[] = {"setpriv",
                          "--reuid",
                          "65534",
                          "--regid",
                          "65534",
                          "--clear-groups",
                          "--inh-caps",
                          inheritable,
                          "--ambient-caps",
                          inheritable,
                          getenv("CODEQ_TRACE"),
                          view,
                          "--pid",
                          pid,
                          "--duration",
                          "300ms",
                          "--json",
                          NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct err err = {""};
    return child_run(&options, clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC, out_stdout,
                     out_stderr, &err);
}

static void bpf_and_perfmon_are_enough_and_each_is_named_when_missing(void **state)
{
    (void)state;
    static const struct {
        const char *view;
        const char *rights;
        int code; /* 1: an idle server, nothing was seen; -1: either */
        const char *says;
    } cases[] = {
        {"commands", ",+bpf,+perfmon", 1, "tracing 1 process"},
        {"leases", ",+bpf,+perfmon", 1, "tracing 1 process"},
        {"syscalls", ",+bpf,+perfmon", -1, "tracing 1 process"},
        {"commands", ",+bpf", 2, "CAP_PERFMON missing"},
        {"commands", ",+perfmon", 2, "CAP_BPF missing"},
        {"commands", "", 2, "CAP_BPF and CAP_PERFMON missing"},
        {"profile", ",+bpf,+perfmon,+sys_ptrace", -1, "tracing 1 process"},
        {"profile", ",+bpf,+perfmon", 2, "CAP_SYS_PTRACE missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *out = NULL;
        char *message = NULL;
        int code = run_with_rights(cases[i].view, cases[i].rights, &out, &message);
        bool as_wanted = cases[i].code == -1 ? code == 0 || code == 1 : code == cases[i].code;
        if (!as_wanted || strstr(message, cases[i].says) == NULL) {
            fail_msg("%s with '%s': exit code %d, %s", cases[i].view, cases[i].rights, code,
                     message);
        }
        free(out);
        free(message);
    }
}

/* The kernel adds a process of a wanted name at its exec: not a command of its life is missed. */
static void restarted_server_is_followed_from_its_first_command(void **state)
{
    (void)state;
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--comm", "redis-server", "--follow", NULL});
    struct err err = {""};
    redis_server_kill(&server);
    struct redis_server_options options = {.cpu = -1};
    if (redis_server_restart(&server, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    int fd = redis_connect();
    for (int i = 0; i < 10; i++) {
        talk(fd, "ECHO again\r\n", 12, "again");
    }
    close(fd);
    struct json *report = tracer_stop(&tracer);
    assert_true(count_of(report, "ECHO") >= 10);
    json_free(report);
}

/* A process of this number, which makes ten calls of getppid for each byte of a pipe. */
static pid_t caller_start(pid_t wanted, int *out_fd)
{
    int order[2], done[2];
    assert_int_equal(pipe2(order, O_CLOEXEC), 0);
    assert_int_equal(pipe2(done, O_CLOEXEC), 0);
    struct clone_args args = {.exit_signal = SIGCHLD,
                              .set_tid = wanted > 0 ? (uintptr_t)&wanted : 0,
                              .set_tid_size = wanted > 0};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        char byte;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (read(order[0], &byte, 1) == 1) {
            for (int i = 0; i < 10; i++) {
                syscall(SYS_getppid);
            }
            if (write(done[1], &byte, 1) != 1) {
                break;
            }
        }
        _exit(0);
    }
    close(order[0]);
    close(done[1]);
    if (pid < 0) {
        close(order[1]);
        close(done[0]);
    }
    out_fd[0] = order[1];
    out_fd[1] = done[0];
    return pid;
}

static double calls_of(const struct json *report, pid_t pid)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (const struct json *row = json_first(json_get(report, "syscalls")); row != NULL;
         row = json_next(row)) {
        if (strcmp(json_string(json_get(row, "pid"), ""), text) == 0 &&
            strcmp(json_string(json_get(row, "syscall"), ""), "getppid") == 0) {
            return json_number(json_get(row, "count"), -1);
        }
    }
    return 0;
}

/* Three processes that have one place in the kernel's table of marks. */
static void processes_whose_numbers_collide_are_told_apart(void **state)
{
    (void)state;
    pid_t pids[3];
    int fds[3][2];
    pids[0] = caller_start(0, fds[0]);
    assert_true(pids[0] > 0);
    /* Upwards or downwards: the highest number may be 32768; some may be taken. */
    for (int i = 1, k = 1; i < 3; k++) {
        assert_true(k < 16);
        pid_t wanted = pids[0] + (k % 2 == 1 ? 1 : -1) * (k + 1) / 2 * TARGET_MARKS;
        pids[i] = wanted > 300 ? caller_start(wanted, fds[i]) : -1;
        i += pids[i] > 0;
    }
    for (int traced = 1; traced < 3; traced++) {
        char list[64];
        snprintf(list, sizeof list, traced == 1 ? "%d" : "%d,%d", (int)pids[0], (int)pids[1]);
        struct tracer tracer;
        tracer_start(&tracer, (const char *[]){"syscalls", "--pid", list, NULL});
        for (int n = 0; n < 30; n++) {
            char byte = 'x';
            assert_int_equal(write(fds[n % 3][0], &byte, 1), 1);
            assert_int_equal(read(fds[n % 3][1], &byte, 1), 1);
        }
        struct json *report = tracer_stop(&tracer);
        for (int i = 0; i < 3; i++) {
            assert_count(calls_of(report, pids[i]), i < traced ? 100 : 0);
        }
        json_free(report);
    }
    for (int i = 0; i < 3; i++) {
        close(fds[i][0]);
        close(fds[i][1]);
        kill(pids[i], SIGKILL);
        assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
    }
}

static void tracer_ends_when_its_process_ends(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"syscalls", "--pid", pid, NULL});
    redis_server_kill(&server);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC;
    assert_int_equal(child_wait(&tracer.child, deadline_ns), 0);
    json_free(tracer_stop(&tracer));
    struct redis_server_options options = {.cpu = -1};
    assert_int_equal(redis_server_restart(&server, &options, NULL), 0);
}

static void profile_finds_the_servers_stacks_on_and_off_the_cpu(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    for (int off = 0; off < 2; off++) {
        char dir[] = "/tmp/codeq-folded-XXXXXX";
        assert_non_null(mkdtemp(dir));
        char path[64];
        snprintf(path, sizeof path, "%s/stacks.folded", dir);
        struct tracer tracer;
        tracer_start(&tracer, (const char *[]){"profile", "--pid", pid, "--output", path,
                                               off ? "--off-cpu" : "--frequency=499", NULL});
        benchmark("100000", "1", "set");
        struct json *report = tracer_stop(&tracer);
        assert_non_null(tracer_row(report, "functions", "function", "redis-server"));
        char *folded = tracer_slurp(dir, "stacks.folded");
        assert_non_null(strstr(folded, "redis-server;")); /* a sample may lack its stack */
        assert_non_null(strstr(folded, off ? "schedule" : ";"));
        free(folded);
        json_free(report);
        remove_tree(dir);
    }
}

/* What GET /metrics answers while ECHO is sent once; the caller's. */
static char *served(const char *option)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    /* A port that was free a moment ago. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &address_bytes), 0);
    close(fd);
    char where[32];
    snprintf(where, sizeof where, "127.0.0.1:%d", ntohs(address.sin_port));
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"serve", "--pid", pid, "--listen", where, option, NULL});
    int redis = redis_connect();
    talk(redis, "ECHO counted\r\n", 14, "counted");
    close(redis);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    static const char get[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(send(fd, get, sizeof get - 1, MSG_NOSIGNAL), sizeof get - 1);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    size_t n = 0;
    ssize_t more;
    while ((more = recv(fd, text + n, (1 << 20) - 1 - n, 0)) > 0) {
        n += (size_t)more;
    }
    close(fd);
    json_free(tracer_stop(&tracer));
    return text;
}

static void metrics_are_served_with_the_counts(void **state)
{
    (void)state;
    char *text = served(NULL);
    assert_non_null(strstr(text, "HTTP/1.1 200 OK"));
    assert_non_null(strstr(text, "codeq_trace_commands_count_total{command=\"ECHO\"} 1\n"));
    assert_non_null(strstr(text, "{command=\"ECHO\",le=\"+Inf\"} 1\n"));
    assert_non_null(strstr(text, "codeq_trace_lost_total{what=\"unparsed_bytes\"} 0\n"));
    assert_null(strstr(text, "codeq_trace_syscalls"));
    free(text);
    text = served("--syscalls");
    assert_non_null(strstr(text, "codeq_trace_commands_count_total{command=\"ECHO\"} 1\n"));
    assert_non_null(strstr(text, "codeq_trace_syscalls_count_total{pid=\"\",comm=\"redis-server\","
                                 "syscall=\"epoll_wait\"} "));
    assert_non_null(strstr(text, "codeq_trace_syscalls_latency_seconds_bucket{pid=\"\","));
    free(text);
}

static void timeline_is_json_with_every_command(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    char dir[] = "/tmp/codeq-timeline-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    snprintf(path, sizeof path, "%s/trace.json", dir);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"timeline", "--pid", pid, "--duration", "60s",
                                           "--output", path, NULL});
    int fd = redis_connect();
    for (int i = 0; i < 100; i++) {
        talk(fd, "ECHO drawn\r\n", 12, "drawn");
    }
    close(fd);
    json_free(tracer_stop(&tracer));
    struct err err = {""};
    struct json *root = json_parse_file(path, 1 << 24, &err);
    if (root == NULL) {
        fail_msg("%s", err.text);
    }
    int commands = 0;
    int writes = 0;
    int waits = 0;
    for (const struct json *e = json_first(json_get(root, "traceEvents")); e != NULL;
         e = json_next(e)) {
        const char *name = json_string(json_get(e, "name"), "");
        const char *phase = json_string(json_get(e, "ph"), "");
        commands += strcmp(name, "ECHO") == 0 && phase[0] == 'b';
        writes += strcmp(name, "write") == 0;
        waits += strcmp(name, "off-CPU") == 0;
    }
    assert_int_equal(commands, 100);
    assert_int_equal(writes, 100);
    assert_true(waits > 0);
    json_free(root);
    remove_tree(dir);
}

static int setup(void **state)
{
    (void)state;
    struct err err = {""};
    int code = redis_server_start(&server, &(struct redis_server_options){.cpu = -1}, &err);
    if (code != 0) {
        fprintf(stderr, "%s\n", err.text);
    }
    return code;
}

static int teardown(void **state)
{
    (void)state;
    redis_server_stop(&server);
    return 0;
}

int main(void)
{
    int code = tracer_check(0);
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(system_calls_of_one_client_are_counted_to_the_last),
        cmocka_unit_test(system_calls_and_commands_are_counted_by_one_pair_of_programs),
        cmocka_unit_test(odd_traffic_is_understood_byte_by_byte),
        cmocka_unit_test(odd_traffic_is_understood_byte_by_byte_at_the_system_calls),
        cmocka_unit_test(servers_alone_are_seen_at_their_sockets),
        cmocka_unit_test(text_in_the_middle_of_an_old_connection_is_no_command),
        cmocka_unit_test(more_alternating_commands_than_the_queue_are_all_counted),
        cmocka_unit_test(server_and_client_side_count_alike),
        cmocka_unit_test(leases_of_codeqd_are_counted_task_by_task),
        cmocka_unit_test(bpf_and_perfmon_are_enough_and_each_is_named_when_missing),
        cmocka_unit_test(restarted_server_is_followed_from_its_first_command),
        cmocka_unit_test(processes_whose_numbers_collide_are_told_apart),
        cmocka_unit_test(tracer_ends_when_its_process_ends),
        cmocka_unit_test(profile_finds_the_servers_stacks_on_and_off_the_cpu),
        cmocka_unit_test(metrics_are_served_with_the_counts),
        cmocka_unit_test(timeline_is_json_with_every_command),
        cmocka_unit_test(counts_equal_commandstats_one_by_one),
        cmocka_unit_test(counts_equal_commandstats_in_pipelines_of_16),
        cmocka_unit_test(counts_equal_commandstats_in_pipelines_of_64),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
