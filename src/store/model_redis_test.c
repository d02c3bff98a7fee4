/* Seeded random operations against a model in plain arrays, which shares no code with the store or
 * the scripts; and broken scripts, each of which the model must catch. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "store/store.h"
#include "store/store_fixture.h"

#define RETENTION_MS 60000
#define TASKS_MAX 20000
#define KEYS 40
#define OPERATIONS 10000

struct mtask {
    unsigned char id[16];
    int priority, attempts, max;
    long generation;
    char state; /* r d l x c f, g: gone */
    int64_t ready_us, due_ms, until_ms, updated_ms;
    char worker[8];
    char reason[24];
    unsigned body; /* its text is this number */
    unsigned result;
    bool old; /* finished beyond retention: no longer looked at */
    char stale[18]; /* a tail that was a token once */
};

struct model {
    struct mtask tasks[TASKS_MAX];
    size_t count;
    struct {
        size_t task;
        int64_t at_ms;
        bool set;
    } keys[KEYS];
    int64_t now_us;
    struct backoff_policy policy;
    struct store_stats stats; /* cumulative ones */
    char why[256];
};

#define MISMATCH(...) \
    do { \
        snprintf(m->why, sizeof m->why, __VA_ARGS__); \
        return false; \
    } while (0)
#define WANT(condition) \
    do { \
        if (!(condition)) { \
            MISMATCH("line %d: %s", __LINE__, #condition); \
        } \
    } while (0)

static int64_t now_ms(const struct model *m)
{
    return m->now_us / 1000;
}

static void tail_of(const struct mtask *t, char out[18])
{
    snprintf(out, 18, "%d%04x%04x%08lx", t->priority % 10, (unsigned)t->attempts & 0xffff,
             (unsigned)t->max & 0xffff, (unsigned long)t->generation & 0xffffffff);
}

static struct task_member token_of(const unsigned char id[16], const char tail[18])
{
    struct task_member token;
    memcpy(token.bytes, id, 16);
    memcpy(token.bytes + 16, tail, 17);
    return token;
}

static bool visible(const struct model *m, int64_t at_ms)
{
    return now_ms(m) / RETENTION_MS - at_ms / RETENTION_MS <= 1;
}

static bool finished(const struct mtask *t)
{
    return t->state == 'c' || t->state == 'f';
}

/* The state as a reader sees it: finished records go with their bucket. */
static char seen_state(const struct model *m, const struct mtask *t)
{
    return finished(t) && !visible(m, t->updated_ms) ? 'g' : t->state;
}

static bool earlier(int64_t a_key, const struct mtask *a, int64_t b_key, const struct mtask *b)
{
    return a_key != b_key ? a_key < b_key : memcmp(a->id, b->id, 16) < 0;
}

/* Give a leased task back; reason NULL: its delivery is undone (abandon). */
static int64_t give_back(struct model *m, struct mtask *t, int64_t delay_ms, const char *reason)
{
    tail_of(t, t->stale);
    t->generation++;
    t->updated_ms = now_ms(m);
    t->worker[0] = '\0';
    snprintf(t->reason, sizeof t->reason, "%s", reason);
    if (t->attempts >= t->max) {
        t->state = 'x';
        m->stats.dead++;
        return -1;
    }
    if (delay_ms <= 0) {
        double d = (double)m->policy.base_ms;
        if (m->policy.kind == BACKOFF_LINEAR) {
            d *= t->attempts;
        } else if (m->policy.kind == BACKOFF_EXPONENTIAL) {
            for (int i = 0; i < t->attempts; i++) {
                d *= 2;
            }
        }
        delay_ms = d > (double)m->policy.max_ms ? m->policy.max_ms : (int64_t)d;
    }
    if (delay_ms > m->policy.max_ms) {
        delay_ms = m->policy.max_ms;
    }
    if (delay_ms == 0) {
        t->state = 'r';
        t->ready_us = m->now_us;
    } else {
        t->state = 'd';
        t->due_ms = now_ms(m) + delay_ms;
    }
    return delay_ms;
}

static void reap(struct model *m, size_t limit, uint32_t *reaped, uint32_t *dead)
{
    *reaped = *dead = 0;
    while (*reaped < limit) {
        struct mtask *first = NULL;
        for (size_t i = 0; i < m->count; i++) {
            struct mtask *t = &m->tasks[i];
            if (t->state == 'l' && t->until_ms <= now_ms(m) &&
                (first == NULL || earlier(t->until_ms, t, first->until_ms, first))) {
                first = t;
            }
        }
        if (first == NULL) {
            break;
        }
        *dead += give_back(m, first, 0, "LEASE_EXPIRED") < 0;
        ++*reaped;
        m->stats.reaped++;
    }
}

static uint32_t promote(struct model *m, size_t limit)
{
    uint32_t promoted = 0;
    while (promoted < limit) {
        struct mtask *first = NULL;
        for (size_t i = 0; i < m->count; i++) {
            struct mtask *t = &m->tasks[i];
            if (t->state == 'd' && t->due_ms <= now_ms(m) &&
                (first == NULL || earlier(t->due_ms, t, first->due_ms, first))) {
                first = t;
            }
        }
        if (first == NULL) {
            break;
        }
        first->state = 'r';
        first->ready_us = first->due_ms * 1000;
        promoted++;
    }
    return promoted;
}

static struct mtask *next_ready(struct model *m)
{
    struct mtask *best = NULL;
    for (size_t i = 0; i < m->count; i++) {
        struct mtask *t = &m->tasks[i];
        if (t->state == 'r' &&
            (best == NULL || t->priority > best->priority ||
             (t->priority == best->priority && earlier(t->ready_us, t, best->ready_us, best)))) {
            best = t;
        }
    }
    return best;
}

/* ---- one random operation each; false with m->why when store and model differ ---- */

static bool do_create(struct fixture *f, struct store *store, struct model *m, struct rng *rng)
{
    struct store_create_item items[5];
    size_t keys[5];
    char names[5][8];
    char bodies[5][12];
    size_t count = 1 + rng_below(rng, 5);
    bool with_keys = rng_below(rng, 2) == 0;
    bool with_delays = rng_below(rng, 2) == 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(bodies[i], sizeof bodies[i], "%zu", m->count + i);
        items[i] = (struct store_create_item){.priority = (uint8_t)rng_below(rng, 10),
                                              .max_attempts = (uint16_t)(1 + rng_below(rng, 4)),
                                              .wants_outbox = rng_below(rng, 4) == 0,
                                              .body = bytes_of(bodies[i])};
        keys[i] = KEYS;
        if (with_keys && rng_below(rng, 3) != 0) {
            keys[i] = rng_below(rng, KEYS);
            snprintf(names[i], sizeof names[i], "k%zu", keys[i]);
            items[i].key = bytes_of(names[i]);
        }
        if (with_delays && rng_below(rng, 2) == 0) {
            items[i].delay_ms = (int64_t)rng_below(rng, 3000);
        } else if (with_delays && rng_below(rng, 2) == 0) {
            items[i].run_at_ms = now_ms(m) + (int64_t)rng_below(rng, 3000) - 1000;
        }
    }
    struct store_create_verdict out[5];
    WANT(create_call(f, store, items, count, out) == STORE_OK);
    for (size_t i = 0; i < count; i++) {
        size_t key = keys[i];
        if (key < KEYS && m->keys[key].set && visible(m, m->keys[key].at_ms)) {
            WANT(out[i].verdict == STORE_DUPLICATE);
            WANT(memcmp(out[i].id.bytes, m->tasks[m->keys[key].task].id, 16) == 0);
            m->stats.duplicates++;
            continue;
        }
        WANT(out[i].verdict == STORE_DONE);
        struct mtask *t = &m->tasks[m->count];
        *t = (struct mtask){.priority = items[i].priority, .max = items[i].max_attempts};
        memcpy(t->id, out[i].id.bytes, 16);
        WANT(m->count == 0 || memcmp(t[-1].id, t->id, 16) < 0);
        t->generation = 1;
        t->body = (unsigned)strtoul(bodies[i], NULL, 10);
        t->updated_ms = now_ms(m);
        int64_t due_ms =
            items[i].run_at_ms != 0 ? items[i].run_at_ms : now_ms(m) + items[i].delay_ms;
        if (due_ms > now_ms(m)) {
            t->state = 'd';
            t->due_ms = due_ms;
        } else {
            t->state = 'r';
            t->ready_us = m->now_us;
        }
        WANT(out[i].delayed == (t->state == 'd'));
        if (key < KEYS) {
            m->keys[key].set = true;
            m->keys[key].task = m->count;
            m->keys[key].at_ms = now_ms(m);
        }
        m->count++;
        m->stats.created++;
    }
    return true;
}

static bool check_claims(struct model *m, const struct store_claim_item *items, size_t count,
                         const struct claims *claims)
{
    size_t n = 0;
    for (size_t c = 0; c < count; c++) {
        for (int k = 0; k < items[c].count; k++) {
            struct mtask *t = next_ready(m);
            if (t == NULL) {
                WANT(n == claims->count);
                return true;
            }
            WANT(n < claims->count);
            const struct claimed *got = &claims->tasks[n++];
            t->state = 'l';
            t->attempts++;
            t->generation++;
            t->until_ms = now_ms(m) + items[c].lease_ms;
            t->updated_ms = now_ms(m);
            snprintf(t->worker, sizeof t->worker, "%.*s", (int)items[c].worker.bytes,
                     items[c].worker.data);
            t->reason[0] = '\0';
            char tail[18];
            tail_of(t, tail);
            WANT(memcmp(got->member.bytes, t->id, 16) == 0);
            WANT(memcmp(got->member.bytes + 16, tail, 17) == 0);
            WANT(got->claimer == c);
            WANT(got->lease_until_ms == t->until_ms);
            char body[12];
            snprintf(body, sizeof body, "%u", t->body);
            WANT(strcmp(got->body, body) == 0);
        }
    }
    WANT(n == claims->count);
    return true;
}

static bool do_claim(struct fixture *f, struct store *store, struct model *m, struct rng *rng)
{
    static const char *const workers[] = {"w0", "w1", "w2"};
    struct store_claim_item items[3];
    size_t count = 1 + rng_below(rng, 3);
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct store_claim_item){.count = (uint16_t)(1 + rng_below(rng, 2)),
                                             .lease_ms = 1 + (int64_t)rng_below(rng, 8000),
                                             .worker = bytes_of(workers[rng_below(rng, 3)])};
    }
    static struct claims claims;
    WANT(claim_call(f, store, items, count, &claims) == STORE_OK);
    uint32_t reaped = 0;
    uint32_t dead = 0;
    reap(m, 256, &reaped, &dead);
    promote(m, 256);
    bool good = check_claims(m, items, count, &claims);
    claims_free(&claims);
    return good;
}

/* A reference to a random task, right or wrong; *out_task is whom it names, NULL: nobody. */
static struct store_lease_ref pick(struct model *m, struct rng *rng, struct mtask **out_task,
                                   bool *out_current)
{
    struct store_lease_ref ref = {.has_token = rng_below(rng, 3) != 0};
    *out_task = NULL;
    *out_current = false;
    struct mtask *t = NULL;
    if (m->count != 0 && rng_below(rng, 20) != 0) {
        /* Mostly one that is leased. */
        size_t start = rng_below(rng, m->count);
        t = &m->tasks[start];
        for (size_t i = 0; rng_below(rng, 5) != 0 && i < m->count; i++) {
            struct mtask *other = &m->tasks[(start + i) % m->count];
            if (other->state == 'l') {
                t = other;
                break;
            }
        }
    }
    static const char *const workers[] = {"w0", "w1", "w2", "w"};
    ref.worker = bytes_of(workers[rng_below(rng, 4)]);
    if (t == NULL) {
        struct task_id nobody = {{1, 2, 3, 4, 5, 6, 0x80, 7, 0x80}};
        ref.token = task_member_first(&nobody, 3, 3);
        return ref;
    }
    *out_task = t;
    char tail[18];
    tail_of(t, tail);
    *out_current = true;
    if (rng_below(rng, 4) == 0 && t->stale[0] != '\0') {
        *out_current = strcmp(tail, t->stale) == 0;
        memcpy(tail, t->stale, 18);
    } else if (!ref.has_token && rng_below(rng, 3) != 0 && t->worker[0] != '\0') {
        ref.worker = bytes_of(t->worker);
    }
    ref.token = token_of(t->id, tail);
    return ref;
}

/* What must be said of a reference now. */
static enum store_verdict expected(const struct model *m, const struct store_lease_ref *ref,
                                   const struct mtask *t, bool current, bool completing)
{
    char state = t != NULL ? seen_state(m, t) : 'g';
    if (state == 'g') {
        return STORE_NOT_FOUND;
    }
    if (ref->has_token) {
        if (finished(t)) {
            return completing && current ? STORE_DUPLICATE : STORE_LOST;
        }
        return state == 'l' && current && now_ms(m) < t->until_ms ? STORE_DONE : STORE_LOST;
    }
    if (state != 'l') {
        return STORE_NOT_LEASED;
    }
    if (strlen(t->worker) != ref->worker.bytes ||
        memcmp(t->worker, ref->worker.data, ref->worker.bytes) != 0) {
        return STORE_NOT_OWNER;
    }
    return now_ms(m) < t->until_ms ? STORE_DONE : STORE_LOST;
}

enum returning { HEARTBEAT, COMPLETE, NACK, ABANDON };

static bool do_return(struct fixture *f, struct store *store, struct model *m, struct rng *rng,
                      enum returning what)
{
    enum { MOST = 4 };
    size_t count = 1 + rng_below(rng, MOST);
    struct store_lease_ref refs[MOST];
    struct mtask *tasks[MOST];
    bool current[MOST];
    enum store_verdict want[MOST];
    int64_t delays[MOST];
    bool failed[MOST];
    char texts[MOST][12];
    for (size_t i = 0; i < count; i++) {
        refs[i] = pick(m, rng, &tasks[i], &current[i]);
        if (i > 0 && rng_below(rng, 4) == 0) { /* the same lease again */
            refs[i] = refs[0];
            tasks[i] = tasks[0];
            current[i] = current[0];
        }
        want[i] = expected(m, &refs[i], tasks[i], current[i], what == COMPLETE);
        for (size_t j = 0; j < i && what != HEARTBEAT; j++) {
            if (want[i] == STORE_DONE && want[j] == STORE_DONE && tasks[i] == tasks[j]) {
                want[i] = what == COMPLETE && refs[i].has_token ? STORE_DUPLICATE : STORE_LOST;
            }
        }
        delays[i] = rng_below(rng, 2) == 0 ? (int64_t)rng_below(rng, 9000) - 1000 : 0;
        failed[i] = rng_below(rng, 4) == 0;
        snprintf(texts[i], sizeof texts[i], "%u", (unsigned)rng_below(rng, 1000000));
    }
    struct store_return_verdict out[MOST];
    struct store_heartbeat_item beats[MOST];
    struct store_complete_item ends[MOST];
    struct store_nack_item nacks[MOST];
    struct store_abandon_item abandons[MOST];
    for (size_t i = 0; i < count; i++) {
        beats[i] = (struct store_heartbeat_item){refs[i], delays[i] > 0 ? delays[i] : 500};
        ends[i] = (struct store_complete_item){refs[i], failed[i], bytes_of(texts[i])};
        nacks[i] = (struct store_nack_item){refs[i], delays[i], bytes_of(texts[i])};
        abandons[i] = (struct store_abandon_item){refs[i]};
    }
    enum store_status status = STORE_ERROR;
    switch (what) {
    case HEARTBEAT:
        status = heartbeat_call(f, store, beats, count, out);
        break;
    case COMPLETE:
        status = complete_call(f, store, ends, count, out);
        break;
    case NACK:
        status = nack_call(f, store, nacks, count, out);
        break;
    case ABANDON:
        status = abandon_call(f, store, abandons, count, out);
        break;
    }
    WANT(status == STORE_OK);
    for (size_t i = 0; i < count; i++) {
        if (out[i].verdict != want[i]) {
            MISMATCH("operation %d: verdict %d, the model says %d", (int)what, (int)out[i].verdict,
                     (int)want[i]);
        }
        struct mtask *t = tasks[i];
        if (want[i] != STORE_DONE) {
            continue;
        }
        int64_t delay_ms = 0;
        switch (what) {
        case HEARTBEAT:
            t->until_ms = now_ms(m) + beats[i].extend_ms;
            WANT(out[i].lease_until_ms == t->until_ms);
            break;
        case COMPLETE:
            t->state = failed[i] ? 'f' : 'c';
            *(failed[i] ? &m->stats.failed : &m->stats.completed) += 1;
            t->updated_ms = now_ms(m);
            t->result = (unsigned)strtoul(texts[i], NULL, 10);
            WANT(out[i].ended_ms == now_ms(m));
            break;
        case NACK:
            delay_ms = give_back(m, t, delays[i], texts[i]);
            WANT(out[i].dead == (delay_ms < 0));
            WANT(delay_ms < 0 || out[i].delay_ms == delay_ms);
            break;
        case ABANDON:
            tail_of(t, t->stale);
            t->generation++;
            t->attempts--;
            t->state = 'r';
            t->ready_us = m->now_us;
            t->updated_ms = now_ms(m);
            t->worker[0] = '\0';
            t->reason[0] = '\0';
            break;
        }
    }
    return true;
}

static bool do_sweep(struct fixture *f, struct store *store, struct model *m, struct rng *rng)
{
    uint16_t limit = (uint16_t)(1 + rng_below(rng, 6));
    struct store_sweep_result out;
    WANT(sweep_call(f, store, limit, &out) == STORE_OK);
    uint32_t reaped = 0;
    uint32_t dead = 0;
    reap(m, limit, &reaped, &dead);
    uint32_t promoted = promote(m, limit);
    int64_t next_ms = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct mtask *t = &m->tasks[i];
        int64_t at_ms = t->state == 'l' ? t->until_ms : t->state == 'd' ? t->due_ms : 0;
        if (at_ms != 0 && (next_ms == 0 || at_ms < next_ms)) {
            next_ms = at_ms;
        }
    }
    WANT(out.reaped == reaped);
    WANT(out.dead == dead);
    WANT(out.promoted == promoted);
    WANT(out.next_due_ms == next_ms);
    WANT(out.now_ms == now_ms(m));
    return true;
}

static bool check_task(struct model *m, const struct mtask *t, const struct got *got)
{
    static const char letters[] = {'g', 'r', 'd', 'l', 'c', 'f', 'x'};
    char state = seen_state(m, t);
    WANT(letters[got->state] == state);
    if (state == 'g') {
        return true;
    }
    char tail[18];
    char body[12];
    tail_of(t, tail);
    snprintf(body, sizeof body, "%u", t->body);
    WANT(memcmp(got->member.bytes + 16, tail, 17) == 0);
    WANT(got->updated_ms == t->updated_ms);
    WANT(strcmp(got->body, body) == 0);
    WANT(got->due_ms == (state == 'd' ? t->due_ms : state == 'l' ? t->until_ms : 0));
    WANT(strcmp(got->worker, state == 'l' ? t->worker : "") == 0);
    WANT(strcmp(got->reason, finished(t) || state == 'l' ? "" : t->reason) == 0);
    if (finished(t)) {
        char result[12];
        snprintf(result, sizeof result, "%u", t->result);
        WANT(strcmp(got->result, result) == 0);
    }
    return true;
}

static bool do_get(struct fixture *f, struct store *store, struct model *m, size_t task)
{
    struct task_id id;
    memcpy(id.bytes, m->tasks[task].id, 16);
    struct got got;
    WANT(get_call(f, store, &id, &got) == STORE_OK);
    bool good = check_task(m, &m->tasks[task], &got);
    got_free(&got);
    return good;
}

static bool check_stats(struct fixture *f, struct store *store, struct model *m)
{
    struct store_stats s;
    WANT(stats_call(f, store, &s) == STORE_OK);
    struct store_stats want = m->stats;
    int64_t oldest_us = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct mtask *t = &m->tasks[i];
        want.ready += t->state == 'r';
        want.delayed += t->state == 'd';
        want.leased += t->state == 'l';
        want.dead_now += t->state == 'x';
        if (t->state == 'r' && (oldest_us == 0 || t->ready_us < oldest_us)) {
            oldest_us = t->ready_us;
        }
    }
    want.oldest_ready_ms = oldest_us / 1000;
    WANT(s.ready == want.ready);
    WANT(s.delayed == want.delayed);
    WANT(s.leased == want.leased);
    WANT(s.dead_now == want.dead_now);
    WANT(s.created == want.created);
    WANT(s.completed == want.completed);
    WANT(s.failed == want.failed);
    WANT(s.dead == want.dead);
    WANT(s.duplicates == want.duplicates);
    WANT(s.reaped == want.reaped);
    WANT(s.oldest_ready_ms == want.oldest_ready_ms);
    return true;
}

/* Mostly small steps; now and then exactly onto a deadline or a due time, one ms before it, or past
 * a bucket. */
static void advance(struct model *m, struct rng *rng)
{
    uint64_t dice = rng_below(rng, 200);
    if (dice < 120) {
        m->now_us += (int64_t)rng_below(rng, 3);
    } else if (dice < 160) {
        m->now_us += (int64_t)rng_below(rng, 30000);
    } else if (dice < 198) {
        int64_t at_ms = INT64_MAX;
        for (size_t i = 0; i < m->count; i++) {
            const struct mtask *t = &m->tasks[i];
            int64_t next_ms = t->state == 'l' ? t->until_ms : t->state == 'd' ? t->due_ms : 0;
            if (next_ms * 1000 > m->now_us && next_ms < at_ms) {
                at_ms = next_ms;
            }
        }
        if (at_ms != INT64_MAX) {
            int64_t to_us = (at_ms - (dice % 4 == 0)) * 1000;
            m->now_us = to_us > m->now_us ? to_us : m->now_us;
        }
    } else if (rng_below(rng, 10) == 0) {
        m->now_us += (int64_t)rng_below(rng, 2 * RETENTION_MS) * 1000;
    }
}

static bool step(struct fixture *f, struct store *store, struct model *m, struct rng *rng)
{
    switch (rng_below(rng, 12)) {
    case 0:
    case 1:
        return m->count > TASKS_MAX - 8 || do_create(f, store, m, rng);
    case 2:
    case 3:
    case 4:
        return do_claim(f, store, m, rng);
    case 5:
        return do_return(f, store, m, rng, HEARTBEAT);
    case 6:
    case 7:
        return do_return(f, store, m, rng, COMPLETE);
    case 8:
        return do_return(f, store, m, rng, NACK);
    case 9:
        return do_return(f, store, m, rng, ABANDON);
    case 10:
        return do_sweep(f, store, m, rng);
    default:
        return m->count == 0 ||
               (do_get(f, store, m, rng_below(rng, m->count)) && check_stats(f, store, m));
    }
}

/* Run seed's operations; how many went well (all: OPERATIONS). m->why tells of the one that did
 * not. */
static int play(struct fixture *f, uint64_t seed, const struct patch *patch, struct model *m)
{
    static const struct backoff_policy policies[] = {
        {BACKOFF_EXPONENTIAL, 300, 5000}, {BACKOFF_FIXED, 0, 4000}, {BACKOFF_LINEAR, 700, 1500}};
    memset(m, 0, sizeof *m);
    m->now_us = FIXTURE_T0_US + 12345;
    m->policy = policies[seed % 3];
    struct store_options options = f->options;
    options.retention_ms = RETENTION_MS;
    options.backoff = m->policy;
    options.seed = seed;
    struct store *store = fixture_open_patched(f, &options, patch);
    fixture_new_queue(f);
    struct rng rng;
    rng_init(&rng, seed);
    int done = 0;
    for (; done < OPERATIONS; done++) {
        advance(m, &rng);
        fixture_set_time(f, m->now_us);
        if (!step(f, store, m, &rng)) {
            break;
        }
        if (done % 500 == 0) {
            assert_accounts(f);
        }
    }
    if (done == OPERATIONS) {
        assert_accounts(f);
        for (size_t i = 0; i < m->count; i++) {
            if (!do_get(f, store, m, i)) {
                done = -1;
                break;
            }
        }
    }
    store_close(store);
    return done;
}

static void random_operations_do_what_the_model_says(void **state)
{
    struct fixture *f = *state;
    struct model *m = malloc(sizeof *m);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        int done = play(f, seed, NULL, m);
        if (done != OPERATIONS) {
            fail_msg("seed %d, operation %d: %s", (int)seed, done, m->why);
        }
        /* The run went everywhere: otherwise it has shown less than it claims. */
        struct store_stats *s = &m->stats;
        print_message("  seed %d: %d operations; created %d, completed %d, failed %d, dead %d, "
                      "reaped %d, duplicates %d\n",
                      (int)seed, done, (int)s->created, (int)s->completed, (int)s->failed,
                      (int)s->dead, (int)s->reaped, (int)s->duplicates);
        assert_true(s->completed > 500 && s->failed > 100 && s->dead > 50 && s->reaped > 200 &&
                    s->duplicates > 100);
    }
    free(m);
}

static void each_broken_script_is_caught(void **state)
{
    struct fixture *f = *state;
    static const struct patch patches[] = {
        {SCRIPT_COMPLETE, "num(deadline) <= now", "num(deadline) < now"}, /* late by a ms */
        {SCRIPT_CLAIM, "format('%08x', (num(sub(old, 10), 16) + 1) % 4294967296)",
         "sub(old, 10)"}, /* the generation stands still */
        {SCRIPT_NACK, "attempts >= num(sub(m, 22, 25), 16)", "attempts > num(sub(m, 22, 25), 16)"},
        {SCRIPT_CREATE, "here[j] or before[j] or mine[key]", "here[j] or mine[key]"}, /* bucket */
        {SCRIPT_CREATE, "(57 - byte(tail)) * 562949953421312 + us",
         "(57 - byte(tail)) * 562949953421312 - us"}, /* LIFO */
        {SCRIPT_CREATE, "if tail ~= known then",
         "if not known then"}, /* the first one's priority */
        {SCRIPT_COMPLETE, "if tail ~= known or letter ~= kind or #body ~= size then",
         "if not known then"}, /* the first one's head */
        {SCRIPT_COMPLETE, "local first, step, once = 2, 2, true",
         "local first, step, once = 2, 2, false"},
        {SCRIPT_SWEEP, "(at - 1735689600000) * 1000", "us"}, /* due order lost */
        {SCRIPT_SWEEP, "if each then at = each[k] end", ""}, /* all as old as the first */
        {SCRIPT_ABANDON, "num(sub(old, 18, 21), 16) - 1", "num(sub(old, 18, 21), 16)"},
        {SCRIPT_HEARTBEAT, "num(deadline) <= now", "false"}, /* revives what has expired */
        {SCRIPT_CLAIM, "call('HINCRBY', K .. ':n', 'reaped', #expired)", ""},
        {SCRIPT_COMPLETE, "call('ZCOUNT', leased, '-inf', stamp) == 0", "true"},
        {SCRIPT_COMPLETE, "call('ZREM', leased, unpack(held)) < k", "false"},
        {SCRIPT_COMPLETE, "sub(is, 2, 18) == sub(m[i], 17) and now + 1", "now + 1"},
        {SCRIPT_GET, "if not due then is = 'r' .. sub(is, 2) end", ""},
        {SCRIPT_CLAIM, "call('ZREMRANGEBYRANK', ready, 0, want - 1)", ""}, /* delivered again */
    };
    struct model *m = malloc(sizeof *m);
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        int done = play(f, 1, &patches[i], m);
        if (done == OPERATIONS) {
            fail_msg("the model has not noticed: '%s' for '%s'", patches[i].to, patches[i].from);
        }
        print_message("  caught after %d operations: %s\n", done, m->why);
    }
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_do_what_the_model_says),
        cmocka_unit_test(each_broken_script_is_caught),
    };
    return cmocka_run_group_tests(tests, fixture_group_start, fixture_group_stop);
}
