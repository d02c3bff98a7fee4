#include "leases.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "lease_rules.h"
#include "snap.h"
#include "syscalls.h"
#include "tally.h"
#include "view.h"
#include "wire_user.h"

#define TASKS_MAX 65536 /* a power of two; the oldest make room */
#define TASK_PROBES 16
#define CONNS_MAX 1024
#define HELD_MAX 1024 /* elements of a connection; a pipeline of first calls has many */
#define SWEPT_MAX 256 /* leases that one sweep takes back */

/* What each scheduler's rows count; the first LEASE_EVENTS are the rules' events (calls). */
enum row {
    ROW_GRANTED = LEASE_EVENTS, /* latency of claims that got something */
    ROW_QUEUE_WAIT,
    ROW_HOLD,
    ROW_EXPIRED,
    ROW_REDELIVERED,
    ROW_REFUSED, /* by a token that is no longer the lease's */
    ROWS,
};

static const char *const row_names[] = {
    "create",     "claim",   "heartbeat",   "complete", "nack",
    "abandon",    "expire",  "sweep",       "granted",  "queue wait (create to grant)",
    "lease held", "expired", "redelivered", "refused",
};

#define SCHEDULERS_MAX 8

struct scheduler {
    char name[32];
    struct tally rows[ROWS];
    uint64_t beats_of_closed;
};

struct task {
    uint64_t hash; /* 0: free */
    uint64_t token; /* of the open lease */
    uint64_t created_ns;
    uint64_t granted_ns; /* 0: no lease */
    uint64_t held_ns; /* granted, or heard of by a heartbeat */
    uint32_t beats;
    uint16_t scheduler;
    uint16_t deliveries;
};

struct conn {
    uint64_t key;
    uint64_t keys_ok; /* bit i: the keys of the plain rule i have fitted so far */
    int rule_granted; /* the claim being answered has given a task */
    uint32_t step; /* of the request being read */
    struct wire_event *held; /* HELD_MAX, of scripts that are not classified yet; NULL: none */
    int held_len;
    /* Place in a nested reply. */
    uint64_t left[8];
    int depth;
    int member;
};

struct state {
    struct loader *loader;
    struct target *target;
    const struct view_options *options;
    struct lease_rules rules;
    int rule_of[WIRE_NAMES_MAX]; /* index + 1; 0 not classified; -1 none */
    bool plain[WIRE_NAMES_MAX]; /* a command that plain rules are about */
    struct wire_names names;
    struct scheduler schedulers[SCHEDULERS_MAX];
    int schedulers_len;
    struct task *tasks;
    struct conn *conns;
    uint64_t evicted;
    uint64_t conns_lost;
    uint64_t ids_cut;
    uint64_t held_lost;
    struct snap before;
    struct syscalls *syscalls; /* NULL: not asked for */
    bool any_server;
};

static uint64_t hash_bytes(const char *bytes, size_t n, uint64_t seed)
{
    uint64_t hash = 0xcbf29ce484222325ULL ^ seed;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3ULL;
    }
    hash ^= hash >> 32;
    return hash != 0 ? hash : 1;
}

static struct scheduler *scheduler_of(struct state *state, const char *name, uint16_t *out_index)
{
    for (int i = 0; i < state->schedulers_len; i++) {
        if (strcmp(state->schedulers[i].name, name) == 0) {
            *out_index = (uint16_t)i;
            return &state->schedulers[i];
        }
    }
    int i = state->schedulers_len < SCHEDULERS_MAX ? state->schedulers_len++ : SCHEDULERS_MAX - 1;
    snprintf(state->schedulers[i].name, sizeof state->schedulers[i].name, "%s", name);
    *out_index = (uint16_t)i;
    return &state->schedulers[i];
}

/* The task's entry; made when make is set, over the oldest of its neighbours when all are used. */
static struct task *task_of(struct state *state, uint64_t hash, bool make)
{
    struct task *oldest = NULL;
    struct task *free_entry = NULL;
    for (int i = 0; i < TASK_PROBES; i++) {
        struct task *task = &state->tasks[(hash + (uint64_t)i) & (TASKS_MAX - 1)];
        if (task->hash == hash) {
            return task;
        }
        if (task->hash == 0) {
            free_entry = free_entry == NULL ? task : free_entry;
        } else if (oldest == NULL ||
                   task->created_ns + task->granted_ns < oldest->created_ns + oldest->granted_ns) {
            oldest = task;
        }
    }
    if (!make) {
        return NULL;
    }
    if (free_entry == NULL) {
        free_entry = oldest;
        state->evicted++;
    }
    *free_entry = (struct task){.hash = hash};
    return free_entry;
}

static void end_lease(struct scheduler *scheduler, struct task *task, uint64_t ns)
{
    scheduler->rows[ROW_HOLD].tasks++;
    scheduler->beats_of_closed += task->beats;
    tally_time(&scheduler->rows[ROW_HOLD], ns - task->granted_ns);
    task->granted_ns = 0;
}

static void on_claimed(struct scheduler *scheduler, struct task *task, struct conn *conn,
                       const struct wire_event *event, uint64_t token)
{
    struct tally *granted = &scheduler->rows[ROW_GRANTED];
    if (event->event == WIRE_ELEMENT_REQUEST) {
        granted->calls++; /* a plain command: no latency, it has only been sent */
    } else if (!conn->rule_granted) {
        conn->rule_granted = 1;
        granted->calls++;
        tally_time(granted, event->ns - event->start_ns);
    }
    granted->tasks++;
    if (task->granted_ns != 0) {
        scheduler->rows[ROW_EXPIRED].tasks++; /* nobody has given it back */
    }
    if (task->deliveries > 0) {
        scheduler->rows[ROW_REDELIVERED].tasks++;
    } else if (task->created_ns != 0 && event->ns > task->created_ns) {
        scheduler->rows[ROW_QUEUE_WAIT].tasks++;
        tally_time(&scheduler->rows[ROW_QUEUE_WAIT], event->ns - task->created_ns);
    }
    task->deliveries++;
    task->granted_ns = event->ns;
    task->held_ns = event->ns;
    task->token = token;
    task->beats = 0;
}

/* What an event means for one task. */
static void on_task(struct state *state, const struct lease_rule *rule, struct conn *conn,
                    const struct wire_event *event, uint64_t id, uint64_t token)
{
    uint16_t index;
    struct scheduler *scheduler = scheduler_of(state, rule->scheduler, &index);
    struct tally *tally = &scheduler->rows[rule->event];
    struct task *task = task_of(state, hash_bytes((const char *)&id, sizeof id, index),
                                rule->event == LEASE_CREATE || rule->event == LEASE_CLAIM);
    bool open = task != NULL && task->granted_ns != 0;
    switch (rule->event) {
    case LEASE_CREATE:
        if (rule->plain && (task->deliveries > 0 || task->created_ns != 0)) {
            return; /* it only moves from queue to queue */
        }
        break;
    case LEASE_HEARTBEAT:
    case LEASE_COMPLETE:
    case LEASE_NACK:
    case LEASE_ABANDON:
        if (rule->plain && !open) {
            return;
        }
        break;
    case LEASE_CLAIM:
    case LEASE_EXPIRE:
    case LEASE_SWEEP:
    case LEASE_EVENTS:
        break;
    }
    tally->tasks++;
    tally->calls += rule->plain;
    if (task != NULL) {
        task->scheduler = index;
    }
    switch (rule->event) {
    case LEASE_CREATE:
        task->created_ns = event->ns;
        return;
    case LEASE_CLAIM:
        on_claimed(scheduler, task, conn, event, token);
        return;
    case LEASE_EXPIRE:
        scheduler->rows[ROW_EXPIRED].tasks++;
        if (open) {
            task->granted_ns = 0;
        }
        return;
    case LEASE_HEARTBEAT:
    case LEASE_COMPLETE:
    case LEASE_NACK:
    case LEASE_ABANDON:
        if (!open) {
            return; /* claimed before the tracer came */
        }
        if (token != 0 && task->token != 0 && token != task->token) {
            scheduler->rows[ROW_REFUSED].tasks++;
            return;
        }
        if (rule->event == LEASE_HEARTBEAT) {
            task->beats++;
            task->held_ns = event->ns;
            return;
        }
        end_lease(scheduler, task, event->ns);
        if (rule->event == LEASE_COMPLETE) {
            task->hash = 0;
        }
        return;
    case LEASE_SWEEP:
    case LEASE_EVENTS:
        return;
    }
}

/* The scheduler says how many leases it took back, not which: those not heard of for longest. */
static void on_swept(struct state *state, const struct lease_rule *rule, uint64_t n)
{
    uint16_t index;
    struct scheduler *scheduler = scheduler_of(state, rule->scheduler, &index);
    scheduler->rows[LEASE_SWEEP].tasks += n;
    scheduler->rows[ROW_EXPIRED].tasks += n;
    struct task *oldest[SWEPT_MAX];
    size_t len = 0;
    for (size_t i = 0; n > 0 && i < TASKS_MAX; i++) {
        struct task *task = &state->tasks[i];
        if (task->hash == 0 || task->granted_ns == 0 || task->scheduler != index) {
            continue;
        }
        size_t at = len;
        while (at > 0 && oldest[at - 1]->held_ns > task->held_ns) {
            at--;
        }
        if (at == SWEPT_MAX || at == n) {
            continue;
        }
        len += len < SWEPT_MAX && len < n;
        memmove(&oldest[at + 1], &oldest[at], (len - at - 1) * sizeof oldest[0]);
        oldest[at] = task;
    }
    for (size_t i = 0; i < len; i++) {
        oldest[i]->granted_ns = 0;
    }
}

static void on_bytes(struct state *state, const struct lease_rule *rule, struct conn *conn,
                     const struct wire_event *event, const char *bytes, size_t n)
{
    if (n <= (size_t)rule->skip) {
        return; /* empty: nothing was claimed */
    }
    bytes += rule->skip;
    n -= (size_t)rule->skip;
    /* A member of codeqd is the id (16 bytes) and what makes it a token. */
    bool member = strcmp(rule->scheduler, "codeqd") == 0;
    size_t id_bytes = rule->bytes > 0 ? (size_t)rule->bytes : (member ? 16 : n);
    if (id_bytes > n || id_bytes == 0) {
        return;
    }
    bool has_token = member && n > 16 && (rule->skip == 0 || event->bytes[0] >= 'a');
    on_task(state, rule, conn, event, hash_bytes(bytes, id_bytes, 0),
            has_token ? hash_bytes(bytes, n, 7) : 0);
}

/* An argument that is an array of texts in MessagePack. Its head counts all of them; those beyond
 * the bytes that were kept are counted and not told apart.
 * Source: the MessagePack specification, formats array, str and bin. */
static void on_packed(struct state *state, const struct lease_rule *rule, struct conn *conn,
                      const struct wire_event *event)
{
    const unsigned char *p = (const unsigned char *)event->bytes;
    const unsigned char *end = p + event->kept;
    size_t left = 0;
    if (p < end && (*p & 0xf0) == 0x90) {
        left = *p++ & 0x0f;
    } else if (end - p >= 3 && *p == 0xdc) {
        left = (size_t)p[1] << 8 | p[2];
        p += 3;
    }
    for (; left > 0 && p < end; left--) {
        size_t n;
        if ((*p & 0xe0) == 0xa0) {
            n = *p++ & 0x1f;
        } else if (end - p >= 2 && (*p == 0xd9 || *p == 0xc4)) {
            n = p[1];
            p += 2;
        } else {
            break;
        }
        if (n > (size_t)(end - p)) {
            break;
        }
        on_bytes(state, rule, conn, event, (const char *)p, n);
        p += n;
    }
    uint16_t unused;
    scheduler_of(state, rule->scheduler, &unused)->rows[rule->event].tasks += left;
    state->ids_cut += left;
}

static void on_id(struct state *state, const struct lease_rule *rule, struct conn *conn,
                  const struct wire_event *event)
{
    if (rule->event == LEASE_SWEEP) {
        if (event->type == ':') {
            on_swept(state, rule, event->length);
        }
        return;
    }
    /* BullMQ answers 0 where there is no job. */
    if (event->type == '_' || (rule->event == LEASE_CLAIM && event->type == ':')) {
        return;
    }
    if (rule->where == LEASE_PACKED) {
        on_packed(state, rule, conn, event);
    } else {
        on_bytes(state, rule, conn, event, event->bytes, event->kept);
    }
}

static bool is_wanted(const struct lease_rule *rule, const struct conn *conn, uint32_t index)
{
    uint32_t first = (uint32_t)rule->first;
    uint32_t step = (uint32_t)rule->step + (rule->step_len_arg > 0 ? conn->step : 0);
    return index == first || (rule->step > 0 && index > first && (index - first) % step == 0);
}

static void on_request(struct state *state, const struct lease_rule *rule, struct conn *conn,
                       const struct wire_event *event)
{
    if (rule->step_len_arg > 0 && event->index == (uint32_t)rule->step_len_arg) {
        conn->step = (uint32_t)event->length;
    }
    if ((rule->where == LEASE_ARG || rule->where == LEASE_PACKED) && event->index > 2 &&
        is_wanted(rule, conn, event->index)) {
        on_id(state, rule, conn, event);
    }
}

/* Plain commands: the keys tell, call by call, which rules are about it. */
static void on_plain(struct state *state, struct conn *conn, const struct wire_event *event)
{
    static_assert(LEASE_RULES_MAX <= 64, "a bit a rule");
    if (event->event != WIRE_ELEMENT_REQUEST) {
        return;
    }
    for (int r = 0; r < state->rules.len; r++) {
        const struct lease_rule *rule = &state->rules.rule[r];
        if (!rule->plain || strcmp(rule->command, state->names.text[event->id]) != 0) {
            continue;
        }
        uint64_t bit = UINT64_C(1) << r;
        if (event->index == 1) {
            conn->keys_ok |= bit;
        }
        for (int k = 0; k < rule->key_len; k++) {
            if (event->index == (uint32_t)rule->key_index[k] &&
                !lease_pattern_matches(rule->key_pattern[k], event->bytes, event->kept)) {
                conn->keys_ok &= ~bit;
            }
        }
        if (rule->where == LEASE_ARG && event->index >= 1 && (conn->keys_ok & bit) &&
            is_wanted(rule, conn, event->index)) {
            on_id(state, rule, conn, event);
        }
    }
}

/* Which member of the outermost array is this element, from 1? 0: none, or deeper. */
static int place(struct conn *conn, const struct wire_event *event)
{
    if (event->index == 0) {
        conn->depth = 0;
        conn->member = 0;
        conn->left[0] = event->type == '*' ? event->length : 0;
        return 0;
    }
    while (conn->depth > 0 && conn->left[conn->depth] == 0) {
        conn->depth--;
    }
    if (conn->left[conn->depth] > 0) {
        conn->left[conn->depth]--;
    }
    int at = 0;
    if (conn->depth == 0) {
        at = ++conn->member;
    }
    bool group = event->type == '*' || event->type == '%' || event->type == '~';
    if (group && conn->depth < 7) {
        conn->depth++;
        conn->left[conn->depth] = event->length * (event->type == '%' ? 2 : 1);
    }
    return at;
}

static void on_reply(struct state *state, const struct lease_rule *rule, struct conn *conn,
                     const struct wire_event *event, int member)
{
    if (event->index == 0) {
        uint16_t unused;
        struct tally *tally = &scheduler_of(state, rule->scheduler, &unused)->rows[rule->event];
        tally->calls++;
        tally_time(tally, event->ns - event->start_ns);
        conn->rule_granted = 0;
    }
    if (rule->where == LEASE_REPLY ? is_wanted(rule, conn, event->index)
                                   : rule->where == LEASE_MEMBER && member == rule->first) {
        on_id(state, rule, conn, event);
    }
}

static struct conn *conn_of(struct state *state, const struct wire_event *event)
{
    uint64_t key = ((uint64_t)event->tgid << 32 | event->fd) + 1;
    struct conn *conn = NULL;
    for (int i = 0; i < 8; i++) {
        conn = &state->conns[((key * 0x9E3779B97F4A7C15ULL >> 54) + (uint64_t)i) & (CONNS_MAX - 1)];
        if (conn->key == key) {
            return conn;
        }
        if (conn->key == 0) {
            break;
        }
    }
    state->conns_lost += conn->key != 0;
    free(conn->held);
    memset(conn, 0, sizeof *conn);
    conn->key = key;
    return conn;
}

static void dispatch(struct state *state, struct conn *conn, const struct wire_event *event)
{
    int found = state->rule_of[event->id];
    const struct lease_rule *rule = found > 0 ? &state->rules.rule[found - 1] : NULL;
    int member = event->event == WIRE_ELEMENT_REPLY ? place(conn, event) : 0;
    /* More rules may be about the same script: a BullMQ completion also claims the next job. */
    for (int i = found - 1; rule != NULL && i < state->rules.len; i++) {
        const struct lease_rule *other = &state->rules.rule[i];
        if (i != found - 1 &&
            (strcmp(other->scheduler, rule->scheduler) != 0 ||
             strcmp(other->script, rule->script) != 0 || other->keys != rule->keys ||
             other->key_len != rule->key_len ||
             memcmp(other->key_pattern, rule->key_pattern, sizeof rule->key_pattern) != 0)) {
            continue;
        }
        if (event->event == WIRE_ELEMENT_REQUEST) {
            on_request(state, other, conn, event);
        } else {
            on_reply(state, other, conn, event, member);
        }
    }
}

static uint64_t bits_from(int first, int step, bool variable)
{
    uint64_t mask = 0;
    for (int i = first; i<64; i += step> 0 ? step : 64) {
        mask |= UINT64_C(1) << i;
        if (variable) {
            return ~UINT64_C(0) << first;
        }
    }
    return step > 0 ? mask | UINT64_C(1) << 63 : mask;
}

static void set_masks(struct state *state, uint32_t id)
{
    struct wire_mask mask = {0};
    int found = state->rule_of[id];
    if (found > 0) {
        const struct lease_rule *rule = &state->rules.rule[found - 1];
        bool more = rule->where == LEASE_MEMBER;
        for (int i = found; i < state->rules.len; i++) {
            more |= state->rules.rule[i].where == LEASE_MEMBER &&
                    strcmp(state->rules.rule[i].scheduler, rule->scheduler) == 0;
        }
        mask.reply = more ? ~UINT64_C(0) : 1;
        if (rule->where == LEASE_ARG || rule->where == LEASE_PACKED) {
            mask.request = bits_from(rule->first, rule->step, rule->step_len_arg > 0);
            if (rule->step_len_arg > 0) {
                mask.request |= UINT64_C(1) << rule->step_len_arg;
            }
        } else if (rule->where == LEASE_REPLY) {
            mask.reply |= bits_from(rule->first, rule->step, false);
        }
    }
    loader_map_set(state->loader, "masks", &id, &mask);
}

/* Find the rule of a script from its name, or from the keys of one of its calls. */
static int classify(struct state *state, uint32_t id, const struct wire_event *held, int held_len)
{
    wire_names_read(&state->names, state->loader);
    const char *name = state->names.text[id];
    for (int r = 0; r < state->rules.len; r++) {
        const struct lease_rule *rule = &state->rules.rule[r];
        if (rule->plain) {
            continue;
        }
        if (rule->script[0] != '\0' &&
            (strncmp(name, "EVALSHA ", 8) != 0 || strcmp(name + 8, rule->script) != 0)) {
            continue;
        }
        if (rule->command[0] != '\0' && strcmp(name, rule->command) != 0) {
            continue;
        }
        bool ok = true;
        int keys = -1;
        int keys_ok = 0;
        for (int i = 0; i < held_len; i++) {
            const struct wire_event *e = &held[i];
            if (i > 0 && e->index <= held[i - 1].index) {
                break; /* the next call */
            }
            if (e->index == 2) {
                keys = atoi((char[9]){e->bytes[0], e->kept > 1 ? e->bytes[1] : '\0', '\0'});
            }
            for (int k = 0; k < rule->key_len; k++) {
                if (e->index == (uint32_t)(2 + rule->key_index[k])) {
                    keys_ok += lease_pattern_matches(rule->key_pattern[k], e->bytes, e->kept);
                }
            }
        }
        ok = (rule->keys < 0 || keys == rule->keys) && keys_ok >= rule->key_len;
        if (ok) {
            return r + 1;
        }
    }
    return -1;
}

/* At the first reply to a script: what it is, and then all its calls that have been sent. */
static bool classify_held(struct state *state, struct conn *conn, uint32_t id)
{
    struct wire_event *own = calloc(HELD_MAX, sizeof *own);
    assert(own != NULL);
    int own_len = 0;
    int others = 0;
    for (int i = 0; i < conn->held_len; i++) {
        if (conn->held[i].id == id) {
            own[own_len++] = conn->held[i];
        } else {
            conn->held[others++] = conn->held[i];
        }
    }
    conn->held_len = others;
    if (others == 0) {
        free(conn->held);
        conn->held = NULL;
    }
    if (own_len > 0) {
        state->rule_of[id] = classify(state, id, own, own_len);
        set_masks(state, id);
        for (int i = 0; i < own_len; i++) {
            dispatch(state, conn, &own[i]);
        }
    }
    free(own);
    return own_len > 0;
}

static void on_event(void *context, const void *data, size_t bytes)
{
    struct state *state = context;
    const struct wire_event *event = data;
    if (bytes < sizeof *event || event->id >= WIRE_NAMES_MAX || event->kept > RESP_KEEP_BYTES ||
        (event->client && state->any_server)) {
        return;
    }
    struct conn *conn = conn_of(state, event);
    if (state->plain[event->id]) {
        on_plain(state, conn, event);
        return;
    }
    if (state->rule_of[event->id] == 0) {
        if (event->event == WIRE_ELEMENT_REQUEST) {
            if (conn->held == NULL) {
                conn->held = calloc(HELD_MAX, sizeof *conn->held);
                assert(conn->held != NULL);
            }
            if (conn->held_len < HELD_MAX) {
                conn->held[conn->held_len++] = *event;
            } else {
                state->held_lost++;
            }
            return;
        }
        if (!classify_held(state, conn, event->id)) {
            return; /* its request was not seen whole: the next call will do */
        }
    }
    dispatch(state, conn, event);
}

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->tasks = calloc(TASKS_MAX, sizeof *state->tasks);
    state->conns = calloc(CONNS_MAX, sizeof *state->conns);
    assert(state->tasks != NULL && state->conns != NULL);
    state->options = options;
    state->target = target;
    int code = lease_rules_builtin(&state->rules, err);
    for (int i = 0; i < options->rules_len && code == 0; i++) {
        code = lease_rules_load(&state->rules, options->rules[i], err);
    }
    if (code == 0) {
        code = loader_open(&state->loader, LOADER_LEASES, err);
    }
    if (code == 0) {
        code = wire_configure(state->loader, options, target, WIRE_ELEMENTS_RULES, false, err);
    }
    if (code == 0 && options->syscalls) {
        code = syscalls_configure(state->loader, err);
        state->syscalls = syscalls_new(state->loader, target, options->names_only);
    }
    if (code != 0) {
        syscalls_free(state->syscalls);
        loader_free(state->loader);
        free(state->tasks);
        free(state->conns);
        free(state);
        return code;
    }
    *out_state = state;
    *out_loader = state->loader;
    return 0;
}

/* The elements of a plain command that its rules ask for, from its first call on. */
static int add_command(struct state *state, int r, int *commands, struct err *err)
{
    const char *name = state->rules.rule[r].command;
    for (int i = 0; i < r; i++) {
        if (state->rules.rule[i].plain && strcmp(state->rules.rule[i].command, name) == 0) {
            return 0;
        }
    }
    if (*commands == WIRE_COMMANDS_MAX) {
        return err_set(err, -EINVAL, "--rules: more than %d different plain commands",
                       WIRE_COMMANDS_MAX);
    }
    int id = wire_preset_command(state->loader, (*commands)++, name);
    if (id == -EEXIST) {
        return err_set(err, -EINVAL, "--rules: command=%s is no plain command", name);
    }
    if (id < 0) {
        return id;
    }
    struct wire_mask mask = {0};
    for (int i = r; i < state->rules.len; i++) {
        const struct lease_rule *rule = &state->rules.rule[i];
        if (!rule->plain || strcmp(rule->command, name) != 0) {
            continue;
        }
        mask.request |= UINT64_C(2); /* the first argument begins a call */
        mask.request |= rule->where == LEASE_ARG ? bits_from(rule->first, rule->step, false) : 0;
        for (int k = 0; k < rule->key_len; k++) {
            mask.request |= UINT64_C(1) << rule->key_index[k];
        }
    }
    state->plain[id] = true;
    snprintf(state->names.text[id], sizeof state->names.text[id], "%s", name);
    __u32 key = (__u32)id;
    return loader_map_set(state->loader, "masks", &key, &mask);
}

static int view_ready(void *context, struct err *err)
{
    struct state *state = context;
    int code = wire_preset(state->loader);
    int commands = 0;
    for (int r = 0; r < state->rules.len && code == 0; r++) {
        code = state->rules.rule[r].plain ? add_command(state, r, &commands, err) : 0;
        if (code == -EINVAL) {
            return code;
        }
    }
    if (code != 0) {
        return err_set(err, code, "cannot write the table of names");
    }
    return loader_ring_open(state->loader, "ring", on_event, state, err);
}

static void view_tick(void *context)
{
    struct state *state = context;
    state->any_server = false;
    for (int i = 0; i < state->target->processes_len; i++) {
        state->any_server |=
            state->target->processes[i].alive && state->target->processes[i].role == TARGET_SERVER;
    }
    loader_ring_consume(state->loader);
}

static const struct report_column open_columns[] = {
    {"scheduler", "scheduler", REPORT_LABEL},
    {"open", "leases open", REPORT_NUMBER},
    {"oldest_open_ns", "the oldest for", REPORT_NS},
    {"heartbeats_per_lease", "heartbeats a lease ended", REPORT_NUMBER},
};

static void report_scheduler(struct report_table *table, struct report *report,
                             const struct scheduler *scheduler)
{
    for (int r = 0; r < ROWS; r++) {
        const struct tally *tally = &scheduler->rows[r];
        if (tally->calls == 0 && tally->tasks == 0) {
            continue;
        }
        tally_report(table, report, scheduler->name, row_names[r], tally);
    }
}

static void report_open(struct report_table *table, const struct state *state, int index)
{
    const struct scheduler *scheduler = &state->schedulers[index];
    uint64_t open = 0;
    uint64_t oldest = 0;
    for (int i = 0; i < TASKS_MAX; i++) {
        const struct task *task = &state->tasks[i];
        if (task->hash != 0 && task->granted_ns != 0 && task->scheduler == index) {
            open++;
            oldest = oldest == 0 || task->granted_ns < oldest ? task->granted_ns : oldest;
        }
    }
    uint64_t now_ns = (uint64_t)clock_monotonic_ns(clock_system());
    uint64_t closed = scheduler->rows[ROW_HOLD].tasks;
    report_text(table, scheduler->name);
    report_number(table, (double)open);
    report_number(table, oldest != 0 ? (double)(now_ns - oldest) : (double)NAN);
    report_number(table,
                  closed > 0 ? (double)scheduler->beats_of_closed / (double)closed : (double)NAN);
}

/* Since the start, always: the life of a lease is longer than an interval. */
static void view_collect(void *context, struct report *report)
{
    struct state *state = context;
    view_tick(state);
    struct report_table *table = tally_table(report);
    for (int i = 0; i < state->schedulers_len; i++) {
        report_scheduler(table, report, &state->schedulers[i]);
    }
    if (state->schedulers_len > 0) {
        table = report_table(report, "open", open_columns,
                             sizeof open_columns / sizeof open_columns[0]);
    }
    for (int i = 0; i < state->schedulers_len; i++) {
        report_open(table, state, i);
    }
    wire_report_commands(state->loader, &state->before, report);
    if (state->syscalls != NULL) {
        syscalls_report(state->syscalls, report);
    }
    struct wire_counts counts = wire_counts_read(state->loader);
    wire_report_counts(&counts, state->options, report);
    report_loss(report, "tasks_evicted", "tasks forgotten: more than are followed", state->evicted);
    report_loss(report, "elements_lost", "elements of first calls beyond what is kept",
                state->held_lost);
    report_loss(report, "ids_cut", "tasks counted whose ids did not fit into what is kept",
                state->ids_cut);
    report_loss(report, "connections_evicted", "connections forgotten by the rules",
                state->conns_lost);
}

static void view_close(void *context)
{
    struct state *state = context;
    syscalls_free(state->syscalls);
    loader_free(state->loader);
    snap_fini(&state->before);
    free(state->tasks);
    for (int i = 0; i < CONNS_MAX; i++) {
        free(state->conns[i].held);
    }
    free(state->conns);
    free(state);
}

const struct view leases_view = {
    .name = "leases",
    .summary = "tasks under leases: claim latency, queue wait, hold time, heartbeats, expiries",
    .help =
        "  --rules FILE          rules of another scheduler (README.md; may be repeated)\n"
        "  --sample 1/N          follow one connection in N\n"
        "  --syscalls            and the table of system calls, cheaper than a second tracer\n"
        "  --via wire|usdt       from socket bytes (default), or from codeqd's probe points: "
        "splits\n"
        "                        a claim into HTTP parse, scheduler, Redis wait and response; "
        "needs\n"
        "                        CAP_SYS_ADMIN\n"
        "\n"
        "Events count from the start of the trace, also on the live screen. Where a server and\n"
        "its clients are both traced, the server's side is shown. Ids are hashed, not shown.\n"
        "\n"
        "examples:\n"
        "  codeq-trace leases                                  codeqd on any Redis here\n"
        "  codeq-trace leases --comm codeqd                    where Redis is elsewhere\n"
        "  codeq-trace leases --comm codeqd --via usdt         where a claim's time goes\n"
        "  codeq-trace leases --rules ebpf/rules/bullmq.rules  BullMQ workers\n"
        "  codeq-trace leases --duration 30s --json | jq .leases\n"
        "  codeq-trace leases --cgroup system.slice/redis.service --follow\n",
    .options = "rules sample via syscalls",
    .open = view_open,
    .ready = view_ready,
    .tick = view_tick,
    .collect = view_collect,
    .close = view_close,
};
