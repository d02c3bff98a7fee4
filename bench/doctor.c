#include "doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drive_client.h"
#include "env.h"
#include "programs.h"

#define CAP_SYS_ADMIN 21
#define CAP_PERFMON 38
#define CAP_BPF 39

const char *doctor_verdict_name(enum doctor_verdict verdict)
{
    switch (verdict) {
    case DOCTOR_OK:
        return "ok";
    case DOCTOR_LIMITED:
        return "limited";
    case DOCTOR_MISSING:
        return "missing";
    }
    return "?";
}

bool doctor_blocks_run(const struct doctor_check *check)
{
    static const char *const needed[] = {"codeq-drive", "allocation-counter", "redis-server",
                                         "valgrind", "ptrace"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (strcmp(check->name, needed[i]) == 0) {
            return check->verdict == DOCTOR_MISSING;
        }
    }
    return false;
}

static struct doctor_check *add(struct doctor_report *report, const char *name,
                                enum doctor_verdict verdict, const char *advice)
{
    struct doctor_check *check = &report->checks[report->count++];
    check->name = name;
    check->verdict = verdict;
    snprintf(check->advice, sizeof check->advice, "%s", verdict == DOCTOR_OK ? "" : advice);
    return check;
}

static __attribute__((format(printf, 2, 3))) void found(struct doctor_check *check,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(check->found, sizeof check->found, format, args);
    va_end(args);
}

/* First line of a file below root; false when it cannot be read. */
static bool first_line(const char *root, const char *path, char *out, size_t bytes)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    FILE *file = fopen(full, "re");
    out[0] = '\0';
    if (file == NULL) {
        return false;
    }
    bool read = fgets(out, (int)bytes, file) != NULL;
    out[strcspn(out, "\n")] = '\0';
    fclose(file);
    return read;
}

static bool readable(const char *root, const char *path)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    return access(full, R_OK) == 0;
}

static void check_program(struct doctor_report *report, const char *name, const char *const *argv,
                          const char *advice)
{
    char line[160];
    env_program_line(argv, line, sizeof line);
    struct doctor_check *check =
        add(report, name, line[0] != '\0' ? DOCTOR_OK : DOCTOR_MISSING, advice);
    found(check, "%s", line[0] != '\0' ? line : "not found");
}

static void check_parts(struct doctor_report *report)
{
    char path[512];
    programs_drive(path, sizeof path);
    found(add(report, "codeq-drive", path[0] != '\0' ? DOCTOR_OK : DOCTOR_MISSING,
              "build it: nothing can be measured without it"),
          "%s", path[0] != '\0' ? "beside this program" : "not beside this program");
    programs_alloc_count(path, sizeof path);
    found(add(report, "allocation-counter", path[0] != '\0' ? DOCTOR_OK : DOCTOR_MISSING,
              "build libcodeq-alloccount.so: allocations cannot be counted without it"),
          "%s", path[0] != '\0' ? "beside this program" : "not beside this program");
}

static void check_cores(struct doctor_report *report, const char *root)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    found(add(report, "cores", cores >= 2 ? DOCTOR_OK : DOCTOR_LIMITED,
              "one core serves driver, Redis and everything else: trust counts, not times"),
          "%ld", cores);
    char governor[80];
    if (first_line(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor,
                   sizeof governor)) {
        bool fixed = strcmp(governor, "performance") == 0;
        found(add(report, "governor", fixed ? DOCTOR_OK : DOCTOR_LIMITED,
                  "clock rates move during runs: cpupower frequency-set -g performance"),
              "%s", governor);
    } else {
        found(add(report, "governor", DOCTOR_LIMITED,
                  "the host decides on clock rates, as on most virtual machines: compare by pairs "
                  "of runs"),
              "not visible here");
    }
}

static void check_aslr(struct doctor_report *report)
{
    pid_t pid = fork();
    if (pid == 0) {
        int persona = personality(0xffffffff);
        _exit(persona != -1 && personality((unsigned long)persona | ADDR_NO_RANDOMIZE) != -1 ? 0
                                                                                             : 1);
    }
    int status = 1;
    bool can =
        pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    found(
        add(report, "aslr-control", can ? DOCTOR_OK : DOCTOR_LIMITED,
            "a seccomp filter forbids personality(): run the container with it allowed, or counts "
            "may be jittery"),
        "%s", can ? "addresses of measured programs can be fixed" : "not allowed");
}

static void check_hwcaps(struct doctor_report *report)
{
#if defined __x86_64__
    found(add(report, "hwcaps", DOCTOR_OK, ""), "%s", drive_client_hwcaps);
#else
    found(add(report, "hwcaps", DOCTOR_LIMITED,
              "only x86-64 is pinned: compare sets of one machine only"),
          "not pinned on this architecture");
#endif
}

/* Valgrind names ld.so's functions only with these. */
static void check_libc_symbols(struct doctor_report *report, const char *root)
{
    bool there = readable(root, "/usr/lib/debug/.build-id") || readable(root, "/usr/lib/debug/lib");
    found(add(report, "libc-symbols", there ? DOCTOR_OK : DOCTOR_LIMITED,
              "functions of the C library may be nameless in profiles: install libc6-dbg"),
          "%s", there ? "/usr/lib/debug" : "no debug symbols of the C library");
}

static void check_ptrace(struct doctor_report *report, const char *root)
{
    char scope[16];
    bool known = first_line(root, "/proc/sys/kernel/yama/ptrace_scope", scope, sizeof scope);
    bool can = !known || strcmp(scope, "3") != 0;
    found(add(report, "ptrace", can ? DOCTOR_OK : DOCTOR_MISSING,
              "system calls cannot be counted until the next boot: kernel.yama.ptrace_scope is 3"),
          "%s%s", known ? "ptrace_scope " : "no restriction", known ? scope : "");
}

static unsigned long long capabilities(const char *root)
{
    char full[512], line[200];
    snprintf(full, sizeof full, "%s/proc/self/status", root);
    FILE *file = fopen(full, "re");
    unsigned long long caps = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "CapEff:", 7) == 0) {
            caps = strtoull(line + 7, NULL, 16);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return caps;
}

static void check_tracing(struct doctor_report *report, const char *root)
{
    bool btf = readable(root, "/sys/kernel/btf/vmlinux");
    found(add(report, "btf", btf ? DOCTOR_OK : DOCTOR_MISSING,
              "codeq-trace needs a kernel with CONFIG_DEBUG_INFO_BTF=y"),
          "%s", btf ? "/sys/kernel/btf/vmlinux" : "the kernel describes no types");
    unsigned long long caps = capabilities(root);
    bool bpf = (caps >> CAP_SYS_ADMIN & 1) || ((caps >> CAP_BPF & 1) && (caps >> CAP_PERFMON & 1));
    found(add(report, "bpf-rights", bpf ? DOCTOR_OK : DOCTOR_MISSING,
              "codeq-trace needs root, or CAP_BPF and CAP_PERFMON"),
          "CapEff %016llx", caps);
    char text[32];
    bool known = first_line(root, "/proc/sys/kernel/perf_event_paranoid", text, sizeof text);
    bool can =
        known && (atoi(text) <= 1 || (caps >> CAP_SYS_ADMIN & 1) || (caps >> CAP_PERFMON & 1));
    found(add(report, "perf-events", can ? DOCTOR_OK : DOCTOR_MISSING,
              "live CPU profiles need kernel.perf_event_paranoid <= 1, or root"),
          "perf_event_paranoid %s", known ? text : "not readable");
    bool pmu = readable(root, "/sys/bus/event_source/devices/cpu/type");
    found(add(report, "hardware-counters", pmu ? DOCTOR_OK : DOCTOR_LIMITED,
              "as on most virtual machines: instructions are counted by callgrind instead"),
          "%s", pmu ? "the CPU's" : "none");
}

void doctor_examine(struct doctor_report *report, const char *root)
{
    *report = (struct doctor_report){0};
    check_parts(report);
    const char *server =
        access("/usr/sbin/redis-server", X_OK) == 0 ? "/usr/sbin/redis-server" : "redis-server";
    check_program(report, "redis-server", (const char *const[]){server, "--version", NULL},
                  "nothing can be measured without it: install redis-server");
    check_program(report, "valgrind", (const char *const[]){"valgrind", "--version", NULL},
                  "instructions and heap cannot be counted without it: install valgrind");
    check_program(report, "git", (const char *const[]){"git", "--version", NULL},
                  "sets are filed under commit \"none\" without it: install git");
    check_libc_symbols(report, root);
    check_hwcaps(report);
    check_aslr(report);
    check_ptrace(report, root);
    check_cores(report, root);
    check_tracing(report, root);
}
