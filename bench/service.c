#include "service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/process.h"
#include "load/http_client.h"

#define READY_TIMEOUT_NS (30 * NS_PER_SEC) /* under Valgrind it takes seconds */
#define STOP_GRACE_NS (15 * NS_PER_SEC)
#define ARGS_MAX 48
#define CLUSTER_NODE_TIMEOUT_MS 5000

/* A port that nobody else is given while *out_fd, the caller's, is open: it is bound but does not
 * listen, so that a server with SO_REUSEADDR may take it. Negative when there is none. */
static int hold_port(int *out_fd)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int one = 1;
    *out_fd = fd;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) {
        return -errno;
    }
    return ntohs(address.sin_port);
}

/* What is started inherits the cores of the thread that starts it: go to the service's. Returns
 * where this thread was. */
static cpu_set_t go_to_cores(const cpu_set_t *cores)
{
    cpu_set_t before;
    sched_getaffinity(0, sizeof before, &before);
    if (cores != NULL) {
        sched_setaffinity(0, sizeof *cores, cores);
    }
    return before;
}

static void log_tail(const char *path, char *out, size_t bytes)
{
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > (off_t)bytes - 1 ? end - (off_t)(bytes - 1) : 0;
    ssize_t n = pread(fd, out, bytes - 1, from);
    out[n > 0 ? n : 0] = '\0';
    for (char *p = out; *p != '\0'; p++) {
        if (*p == '\n') {
            *p = ' ';
        }
    }
    close(fd);
}

static int ask_ready(const struct http_target *target)
{
    struct http_conn conn;
    http_conn_init(&conn, 512);
    int code = http_conn_open(&conn, target);
    if (code == 0) {
        int n = sprintf(conn.out, "GET /readyz HTTP/1.1\r\nHost: %s\r\n\r\n", target->host);
        code = http_conn_call(&conn, (size_t)n, clock_monotonic_ns(clock_system()) + NS_PER_SEC);
    }
    http_conn_fini(&conn);
    return code;
}

static int wait_ready(struct service *service, const struct http_target *target, struct err *err)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + READY_TIMEOUT_NS;
    for (;;) {
        int status = ask_ready(target);
        if (status == 200) {
            return 0;
        }
        int64_t now_ns = clock_monotonic_ns(clock_system());
        int ended = child_wait(&service->codeqd, now_ns + 5 * NS_PER_MS);
        if (ended == -EINTR) {
            return err_set(err, -EINTR, "interrupted while codeqd started");
        }
        if (ended == 0 || now_ns > deadline_ns) {
            char tail[256];
            log_tail(service->log_path, tail, sizeof tail);
            return err_set(err, -EIO, "codeqd %s: %s",
                           ended == 0 ? "ended at start" : "was not ready within 30 s", tail);
        }
    }
}

/* codeQ's static provider holds one token; more tenants need one codeqd configuration each, which
 * the multi provider joins (it takes 2 to 4), nested where there are more. */
static void put_tenant(struct buf *out, const char *side, size_t tenant)
{
    bool producer = side[0] == 'p';
    buf_printf(out, "{\"token\":\"bench-%s-%zu\",\"subject\":\"bench-%s-%zu\",", side, tenant, side,
               tenant);
    if (!producer) {
        buf_puts(out, "\"scopes\":[\"codeq:claim\",\"codeq:heartbeat\",\"codeq:abandon\","
                      "\"codeq:nack\",\"codeq:result\",\"codeq:subscribe\"],"
                      "\"eventTypes\":[\"*\"],");
    }
    buf_printf(out, "\"raw\":{%s\"tenantId\":\"bench-%zu\"}}",
               producer ? "\"role\":\"ADMIN\"," : "", tenant);
}

static char *auth_config(const char *variable, const char *side, size_t tenants)
{
    struct buf text = BUF_INIT;
    buf_printf(&text, "%s=", variable);
    if (tenants == 1) {
        put_tenant(&text, side, 0);
    } else {
        buf_puts(&text, "{\"providers\":[");
        for (size_t i = 0; i < tenants; i++) {
            buf_puts(&text, i > 0 ? ",{\"type\":\"static\",\"config\":"
                                  : "{\"type\":\"static\",\"config\":");
            put_tenant(&text, side, i);
            buf_puts(&text, "}");
        }
        buf_puts(&text, "]}");
    }
    return buf_take(&text);
}

static int start_codeqd(struct service *service, int port, struct err *err)
{
    const struct service_options *o = &service->options;
    char listen[32];
    char redis[sizeof service->cluster.url + 24];
    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    if (service->cluster.count > 0) {
        snprintf(redis, sizeof redis, "%s", service->cluster.url);
    } else {
        snprintf(redis, sizeof redis, "unix:%s", service->redis.socket_path);
    }
    const char *argv[ARGS_MAX] = {o->codeqd, "--listen", listen, "--redis", redis};
    int n = 5;
    for (int i = 0; o->codeqd_args != NULL && o->codeqd_args[i] != NULL; i++) {
        if (n == ARGS_MAX - 1) {
            return err_set(err, -E2BIG, "more than %d arguments for codeqd", ARGS_MAX - 6);
        }
        argv[n++] = o->codeqd_args[i];
    }
    const char *provider = o->tenant_count == 1 ? "static" : "multi";
    char producer[40];
    char worker[40];
    snprintf(producer, sizeof producer, "PRODUCER_AUTH_PROVIDER=%s", provider);
    snprintf(worker, sizeof worker, "WORKER_AUTH_PROVIDER=%s", provider);
    char *producer_config = auth_config("PRODUCER_AUTH_CONFIG", "producer", o->tenant_count);
    char *worker_config = auth_config("WORKER_AUTH_CONFIG", "worker", o->tenant_count);
    const char *path = getenv("PATH");
    char path_variable[4096];
    snprintf(path_variable, sizeof path_variable, "PATH=%s", path != NULL ? path : "/usr/bin:/bin");
    const char *envp[] = {path_variable,   "ENV=dev",     producer, worker,
                          producer_config, worker_config, NULL};
    int log_fd = open(service->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct child_options child = {
        .argv = argv,
        .envp = envp,
        .stdin_fd = -1,
        .stdout_fd = log_fd,
        .stderr_fd = log_fd,
        .cpu = -1,
        .own_group = true,
    };
    int code = child_start(&service->codeqd, &child, err);
    if (log_fd >= 0) {
        close(log_fd);
    }
    free(producer_config);
    free(worker_config);
    return code;
}

static int start_both(struct service *service, const struct service_options *options,
                      struct load_spec *spec, struct err *err)
{
    *service = (struct service){.options = *options};
    service->redis_options = (struct redis_server_options){
        .program = options->redis_program, .config = options->redis_config, .cpu = -1};
    struct redis_cluster_options cluster = {.masters = options->redis_masters,
                                            .node_timeout_ms = CLUSTER_NODE_TIMEOUT_MS,
                                            .config = options->redis_config,
                                            .cpu = -1};
    int code = options->redis_masters > 0
                   ? redis_cluster_start(&service->cluster, &cluster, err)
                   : redis_server_start(&service->redis, &service->redis_options, err);
    if (code != 0) {
        return code;
    }
    snprintf(service->log_path, sizeof service->log_path, "%s/codeqd.log",
             service_redis(service, 0)->dir);
    int held = -1;
    int port = hold_port(&held); /* until codeqd listens there */
    code = port > 0 ? start_codeqd(service, port, err) : err_set(err, -EIO, "no free port");
    if (code == 0) {
        snprintf(service->url, sizeof service->url, "http://127.0.0.1:%d", port);
        code = http_target_parse(&spec->target, service->url, err);
    }
    if (code == 0) {
        code = wait_ready(service, &spec->target, err);
    }
    if (held >= 0) {
        close(held);
    }
    for (size_t i = 0; i < options->tenant_count; i++) {
        struct load_tenant *tenant = &spec->tenants[i];
        snprintf(tenant->producer_token, sizeof tenant->producer_token, "bench-producer-%zu", i);
        snprintf(tenant->worker_token, sizeof tenant->worker_token, "bench-worker-%zu", i);
    }
    if (code != 0) {
        service_stop(service);
    }
    return code;
}

int service_start(struct service *service, const struct service_options *options,
                  struct load_spec *spec, struct err *err)
{
    const cpu_set_t before = go_to_cores(options->cores);
    int code = start_both(service, options, spec, err);
    go_to_cores(&before);
    return code;
}

int service_stop(struct service *service)
{
    int exit_code = 0;
    if (service->codeqd.pid != 0) {
        child_stop(&service->codeqd, STOP_GRACE_NS);
        exit_code = child_exit_code(&service->codeqd);
    }
    redis_server_stop(&service->redis);
    redis_cluster_stop(&service->cluster);
    return exit_code;
}

size_t service_redis_count(const struct service *service)
{
    return service->cluster.count > 0 ? service->cluster.count
                                      : (size_t)(service->redis.child.pid != 0);
}

const struct redis_server *service_redis(const struct service *service, size_t i)
{
    return service->cluster.count > 0 ? &service->cluster.nodes[i] : &service->redis;
}

int64_t service_redis_cpu_ns(const struct service *service)
{
    int64_t total_ns = 0;
    size_t count = service_redis_count(service);
    for (size_t i = 0; i < count; i++) {
        int64_t ns = process_cpu_ns(service_redis(service, i)->child.pid);
        if (ns < 0) {
            return -1;
        }
        total_ns += ns;
    }
    return count > 0 ? total_ns : -1;
}

static void note_fault(struct service_fault *step, const char *what, int code)
{
    if (code != 0 && step->service->fault_error.text[0] == '\0') {
        err_set(&step->service->fault_error, code, "%s: %s", what, strerror(-code));
    }
}

static void redis_pause(void *arg)
{
    struct service_fault *step = arg;
    char command[64];
    snprintf(command, sizeof command, "CLIENT PAUSE %lld ALL",
             (long long)(step->fault->duration_ns / NS_PER_MS));
    note_fault(step, "redis-pause", redis_server_tell(step->service->redis.socket_path, command));
}

static void redis_kill(void *arg)
{
    struct service_fault *step = arg;
    redis_server_kill(&step->service->redis);
}

static void redis_back(void *arg)
{
    struct service_fault *step = arg;
    struct service *service = step->service;
    const cpu_set_t before = go_to_cores(service->options.cores);
    note_fault(step, "redis-restart",
               redis_server_relaunch(&service->redis, &service->redis_options, NULL));
    go_to_cores(&before);
}

static void codeqd_stop(void *arg)
{
    struct service_fault *step = arg;
    note_fault(step, "service-stop", kill(step->service->codeqd.pid, SIGSTOP) == 0 ? 0 : -errno);
}

static void codeqd_continue(void *arg)
{
    struct service_fault *step = arg;
    note_fault(step, "service-stop", kill(step->service->codeqd.pid, SIGCONT) == 0 ? 0 : -errno);
}

static int by_time(const void *a, const void *b)
{
    int64_t x = ((const struct load_action *)a)->at_ns;
    int64_t y = ((const struct load_action *)b)->at_ns;
    return (x > y) - (x < y);
}

void service_plan_faults(struct service *service, struct load_scenario *scenario)
{
    struct load_spec *spec = &scenario->spec;
    spec->action_count = 0;
    for (size_t i = 0; i < scenario->fault_count; i++) {
        const struct load_fault *fault = &scenario->faults[i];
        struct service_fault *step = &service->faults[i];
        *step = (struct service_fault){service, fault};
        void (*begin)(void *) = redis_pause;
        void (*end)(void *) = NULL;
        switch (fault->kind) {
        case FAULT_REDIS_PAUSE:
            break;
        case FAULT_REDIS_RESTART:
            begin = redis_kill;
            end = redis_back;
            break;
        case FAULT_SERVICE_STOP:
            begin = codeqd_stop;
            end = codeqd_continue;
            break;
        }
        spec->actions[spec->action_count++] = (struct load_action){fault->at_ns, begin, step};
        if (end != NULL) {
            spec->actions[spec->action_count++] =
                (struct load_action){fault->at_ns + fault->duration_ns + 1, end, step};
        }
    }
    qsort(spec->actions, spec->action_count, sizeof *spec->actions, by_time);
}
