#include "service/cpu_profile.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/symbols.h"

#define RING 64 /* samples of one thread between two drains; a power of 2 */
#define REFRESH_NS NS_PER_SEC

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid /* glibc names it so since 2.38 only */
#endif

struct sample {
    int64_t cpu_ns; /* since the thread's sample before */
    uintptr_t at; /* where it was interrupted */
    int depth;
    void *frames[CPU_PROFILE_DEPTH_MAX]; /* leaf first, the handler's own before it */
};

/* Written by its thread's handler, read by the draining thread. */
struct slot {
    atomic_bool armed;
    atomic_uint head; /* the handler's */
    atomic_uint tail; /* the drain's */
    atomic_uint lost;
    int64_t last_ns; /* of the thread's CPU clock */
    timer_t timer;
    bool has_timer;
    struct sample ring[RING];
};

struct cpu_profile {
    struct slot *slots[CPU_PROFILE_THREADS_MAX]; /* kept until the end: a signal may be under way */
    int slots_len; /* of the profile under way */
    struct stacks *stacks; /* NULL: none is under way */
    struct symbols *symbols;
    int64_t refreshed_ns;
};

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

static uintptr_t interrupted_at(const void *context)
{
    const ucontext_t *at = context;
#if defined(__x86_64__)
    return (uintptr_t)at->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)at->uc_mcontext.pc;
#else
    (void)at;
    return 0;
#endif
}

/* backtrace() allocates at its first call only, which cpu_profile_new makes. */
static void on_sample(int number, siginfo_t *info, void *context)
{
    (void)number;
    if (info->si_code != SI_TIMER) {
        return; /* somebody's kill: its value is not ours */
    }
    int saved = errno;
    struct slot *slot = info->si_value.sival_ptr;
    struct timespec now;
    unsigned head = atomic_load_explicit(&slot->head, memory_order_relaxed);
    if (!atomic_load_explicit(&slot->armed, memory_order_acquire) ||
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) {
        goto out;
    }
    if (head - atomic_load_explicit(&slot->tail, memory_order_acquire) == RING) {
        atomic_fetch_add_explicit(&slot->lost, 1, memory_order_relaxed);
        goto out;
    }
    struct sample *sample = &slot->ring[head % RING];
    sample->cpu_ns = ns_of(now) - slot->last_ns;
    slot->last_ns = ns_of(now);
    sample->at = interrupted_at(context);
    sample->depth = backtrace(sample->frames, CPU_PROFILE_DEPTH_MAX);
    atomic_store_explicit(&slot->head, head + 1, memory_order_release);
out:
    errno = saved;
}

struct cpu_profile *cpu_profile_new(void)
{
    struct cpu_profile *profile = calloc(1, sizeof *profile);
    assert(profile != NULL);
    void *first[4];
    backtrace(first, 4);
    return profile;
}

void cpu_profile_free(struct cpu_profile *profile)
{
    if (profile == NULL) {
        return;
    }
    stacks_free(cpu_profile_stop(profile, NULL));
    for (int i = 0; i < CPU_PROFILE_THREADS_MAX; i++) {
        free(profile->slots[i]);
    }
    free(profile);
}

/* The CPU clock of another thread of this process.
 * Source: linux, include/linux/posix-timers_types.h: CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED. */
static clockid_t cpu_clock_of(pid_t thread)
{
    return (clockid_t)((~(unsigned)thread << 3) | 4 | 2);
}

/* A thread that ends meanwhile is left out. */
static void watch(struct cpu_profile *profile, pid_t thread)
{
    struct slot *slot = profile->slots[profile->slots_len];
    if (slot == NULL) {
        slot = calloc(1, sizeof *slot);
        assert(slot != NULL);
        profile->slots[profile->slots_len] = slot;
    }
    struct timespec now;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    event.sigev_value.sival_ptr = slot;
    event.sigev_notify_thread_id = thread;
    clockid_t clock = cpu_clock_of(thread);
    if (clock_gettime(clock, &now) != 0 || timer_create(clock, &event, &slot->timer) != 0) {
        return;
    }
    slot->has_timer = true;
    slot->last_ns = ns_of(now);
    atomic_store(&slot->lost, 0);
    atomic_store(&slot->tail, atomic_load(&slot->head));
    atomic_store_explicit(&slot->armed, true, memory_order_release);
    struct timespec period = {0, CPU_PROFILE_PERIOD_NS};
    struct itimerspec each = {period, period};
    timer_settime(slot->timer, 0, &each, NULL);
    profile->slots_len++;
}

static void unwatch(struct slot *slot)
{
    if (slot->has_timer) {
        timer_delete(slot->timer);
        slot->has_timer = false;
    }
    atomic_store_explicit(&slot->armed, false, memory_order_release);
}

int cpu_profile_start(struct cpu_profile *profile, struct err *err)
{
    assert(profile->stacks == NULL);
    struct sigaction action = {.sa_sigaction = on_sample, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&action.sa_mask);
    if (sigaction(SIGPROF, &action, NULL) != 0) {
        return err_set(err, -errno, "SIGPROF: %s", strerror(errno));
    }
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        return err_set(err, -errno, "/proc/self/task: %s", strerror(errno));
    }
    profile->stacks = stacks_new();
    profile->symbols = symbols_new();
    symbols_refresh(profile->symbols, getpid());
    profile->refreshed_ns = clock_monotonic_ns(clock_system());
    profile->slots_len = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        long thread = strtol(entry->d_name, NULL, 10);
        if (thread > 0 && profile->slots_len < CPU_PROFILE_THREADS_MAX) {
            watch(profile, (pid_t)thread);
        }
    }
    closedir(tasks);
    return 0;
}

static void keep(struct cpu_profile *profile, const struct sample *sample)
{
    const char *frames[CPU_PROFILE_DEPTH_MAX];
    size_t depth = 0;
    int leaf = 0; /* behind the handler and the kernel's return from it */
    while (leaf < sample->depth && (uintptr_t)sample->frames[leaf] != sample->at) {
        leaf++;
    }
    leaf = leaf == sample->depth && sample->depth > 2 ? 2 : leaf;
    for (int i = sample->depth - 1; i >= leaf; i--) {
        uintptr_t at =
            (uintptr_t)sample->frames[i] - (i > leaf); /* a return lies behind its call */
        frames[depth++] = symbols_user(profile->symbols, getpid(), at);
    }
    if (depth == 0) {
        frames[depth++] = SYMBOLS_UNKNOWN;
    }
    stacks_add(profile->stacks, frames, depth, sample->cpu_ns, NULL);
}

void cpu_profile_drain(struct cpu_profile *profile)
{
    if (profile->stacks == NULL) {
        return;
    }
    int64_t now_ns = clock_monotonic_ns(clock_system());
    if (now_ns - profile->refreshed_ns > REFRESH_NS) { /* libraries are loaded late, too */
        profile->refreshed_ns = now_ns;
        symbols_refresh(profile->symbols, getpid());
    }
    for (int i = 0; i < profile->slots_len; i++) {
        struct slot *slot = profile->slots[i];
        unsigned head = atomic_load_explicit(&slot->head, memory_order_acquire);
        unsigned tail = atomic_load_explicit(&slot->tail, memory_order_relaxed);
        for (; tail != head; tail++) {
            keep(profile, &slot->ring[tail % RING]);
        }
        atomic_store_explicit(&slot->tail, tail, memory_order_release);
    }
}

struct stacks *cpu_profile_stop(struct cpu_profile *profile, uint64_t *out_lost)
{
    struct stacks *stacks = profile->stacks;
    uint64_t lost = 0;
    if (stacks == NULL) {
        return NULL;
    }
    for (int i = 0; i < profile->slots_len; i++) {
        unwatch(profile->slots[i]);
    }
    cpu_profile_drain(profile);
    for (int i = 0; i < profile->slots_len; i++) {
        lost += atomic_load(&profile->slots[i]->lost);
    }
    symbols_free(profile->symbols);
    profile->symbols = NULL;
    profile->stacks = NULL;
    if (out_lost != NULL) {
        *out_lost = lost;
    }
    return stacks;
}
