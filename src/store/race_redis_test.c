/* Several clients at once on one queue: no double delivery, no loss, and the accounts hold. */
#include "base/test.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "store/store.h"
#include "store/store_fixture.h"

#define CLIENTS 4
#define TASKS_EACH 400
#define TASKS (CLIENTS * TASKS_EACH)
#define SHORT_MS 1
#define LONG_MS 20000

/* What the clients know together, outside Redis. A task's number is its body. */
struct shared {
    atomic_int created[TASKS];
    atomic_int completed[TASKS]; /* accepted completions */
    atomic_int overlaps; /* a delivery while another's lease was surely held */
    _Atomic int64_t held[TASKS]; /* the last lease that nobody has given back, as held_word; or 0 */
    atomic_int finished;
};

struct client {
    struct fixture fixture;
    struct store *store;
    struct shared *shared;
    int index;
    pthread_t thread;
};

/* A lease in one word, so that one exchange hands it over: its deadline, its length, its holder. */
static int64_t held_word(const struct client *c, const struct store_claim_item *item,
                         int64_t until_ms)
{
    static_assert(CLIENTS < 127, "the holder has seven bits");
    return until_ms << 8 | (item->lease_ms == SHORT_MS) << 7 | (c->index + 1);
}

static int64_t held_until_ms(int64_t word)
{
    return word >> 8;
}

static int64_t held_from_ms(int64_t word)
{
    return held_until_ms(word) - ((word & 1 << 7) != 0 ? SHORT_MS : LONG_MS);
}

static void create_some(struct client *c, struct rng *rng, int *next)
{
    struct store_create_item items[8];
    char bodies[8][12];
    size_t count = 0;
    while (count < 1 + rng_below(rng, 8) && *next < TASKS_EACH) {
        int number = c->index * TASKS_EACH + (*next)++;
        snprintf(bodies[count], sizeof bodies[count], "%d", number);
        items[count] = (struct store_create_item){.max_attempts = 60000,
                                                  .priority = (uint8_t)rng_below(rng, 10),
                                                  .delay_ms = (int64_t)rng_below(rng, 3),
                                                  .body = bytes_of(bodies[count])};
        c->shared->created[number]++;
        count++;
    }
    if (count != 0) {
        struct store_create_verdict made[8];
        assert_int_equal(create_call(&c->fixture, c->store, items, count, made), STORE_OK);
    }
}

static void work_some(struct client *c, struct rng *rng, struct claims *claims)
{
    char worker[8];
    snprintf(worker, sizeof worker, "c%d", c->index);
    struct store_claim_item item = {.count = (uint16_t)(1 + rng_below(rng, 6)),
                                    .lease_ms = rng_below(rng, 8) == 0 ? SHORT_MS : LONG_MS,
                                    .worker = bytes_of(worker)};
    assert_int_equal(claim_call(&c->fixture, c->store, &item, 1, claims), STORE_OK);
    for (size_t i = 0; i < claims->count; i++) {
        int number = atoi(claims->tasks[i].body);
        int64_t mine = held_word(c, &item, claims->tasks[i].lease_until_ms);
        /* Two leases of one task share no instant, unless the older was given back. A client that
         * was long on its way from the claim to here may find a later lease than its own. */
        int64_t other = atomic_exchange(&c->shared->held[number], mine);
        if (other != 0 && held_from_ms(mine) < held_until_ms(other) &&
            held_from_ms(other) < held_until_ms(mine)) {
            c->shared->overlaps++;
        }
    }
    for (size_t i = 0; i < claims->count; i++) {
        int number = atoi(claims->tasks[i].body);
        struct store_lease_ref lease = {.has_token = true, .token = claims->tasks[i].member};
        struct store_return_verdict v;
        uint64_t dice = rng_below(rng, 10);
        if (dice == 0) {
            continue; /* crashed: the lease runs out, or, being long, is taken up below */
        }
        int64_t mine = held_word(c, &item, claims->tasks[i].lease_until_ms);
        if (dice < 3) {
            /* Give it back: let go before Redis does, for another may have it at once. */
            atomic_compare_exchange_strong(&c->shared->held[number], &mine, 0);
            struct store_nack_item nack = {.lease = lease, .delay_ms = 1};
            struct store_abandon_item abandon = {.lease = lease};
            if (dice == 1) {
                assert_int_equal(nack_call(&c->fixture, c->store, &nack, 1, &v), STORE_OK);
            } else {
                assert_int_equal(abandon_call(&c->fixture, c->store, &abandon, 1, &v), STORE_OK);
            }
            continue;
        }
        struct store_complete_item end = {.lease = lease, .result = bytes_of("r")};
        atomic_compare_exchange_strong(&c->shared->held[number], &mine, 0);
        assert_int_equal(complete_call(&c->fixture, c->store, &end, 1, &v), STORE_OK);
        if (v.verdict == STORE_DONE) {
            c->shared->completed[number]++;
            c->shared->finished++;
        }
    }
    /* Long leases of "crashed" tasks are cut short, so that the run ends. */
    for (size_t i = 0; i < claims->count; i++) {
        struct store_heartbeat_item beat = {
            .lease = {.has_token = true, .token = claims->tasks[i].member}, .extend_ms = 1};
        struct store_return_verdict v;
        int number = atoi(claims->tasks[i].body);
        int64_t mine = held_word(c, &item, claims->tasks[i].lease_until_ms);
        if (c->shared->held[number] == mine) {
            atomic_compare_exchange_strong(&c->shared->held[number], &mine, 0);
            assert_int_equal(heartbeat_call(&c->fixture, c->store, &beat, 1, &v), STORE_OK);
        }
    }
    claims_free(claims);
}

static void *live(void *arg)
{
    struct client *c = arg;
    struct rng rng;
    rng_init(&rng, 1000 + (uint64_t)c->index);
    struct claims *claims = calloc(1, sizeof *claims);
    int next = 0;
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC;
    while (c->shared->finished < TASKS && clock_monotonic_ns(clock_system()) < deadline_ns) {
        create_some(c, &rng, &next);
        work_some(c, &rng, claims);
    }
    free(claims);
    return NULL;
}

static void clients_that_race_complete_each_task_once_and_lose_none(void **state)
{
    struct fixture *f = *state;
    static struct shared shared;
    memset(&shared, 0, sizeof shared);
    f->options.backoff = (struct backoff_policy){BACKOFF_FIXED, 1, 100};
    static struct client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &clients[i];
        fixture_share(f, &c->fixture);
        c->store = fixture_open(&c->fixture, 1); /* the same seed: ids differ all the same */
        c->shared = &shared;
        c->index = i;
    }
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&clients[i].thread, NULL, live, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        store_close(clients[i].store);
        fixture_unshare(&clients[i].fixture);
    }
    assert_int_equal(shared.overlaps, 0);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(shared.created[i], 1);
        assert_int_equal(shared.completed[i], 1);
    }
    struct store_stats s = stats_now(f);
    assert_int_equal(s.created, TASKS);
    assert_int_equal(s.completed, TASKS);
    assert_int_equal(s.ready + s.delayed + s.leased + s.dead, 0);
    assert_true(s.reaped > 0);
    assert_accounts(f);
}

static void *create_with_key(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "key %d", i);
        struct store_create_item item = {.max_attempts = 1, .key = bytes_of(key)};
        struct store_create_verdict made;
        assert_int_equal(create_call(&c->fixture, c->store, &item, 1, &made), STORE_OK);
        c->shared->created[i] += made.verdict == STORE_DONE;
    }
    return NULL;
}

static void racing_creates_with_one_key_make_one_task(void **state)
{
    struct fixture *f = *state;
    fixture_new_queue(f);
    static struct shared shared;
    memset(&shared, 0, sizeof shared);
    static struct client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fixture_share(f, &clients[i].fixture);
        clients[i].store = fixture_open(&clients[i].fixture, (uint64_t)i);
        clients[i].shared = &shared;
    }
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&clients[i].thread, NULL, create_with_key, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        store_close(clients[i].store);
        fixture_unshare(&clients[i].fixture);
    }
    for (int i = 0; i < 200; i++) {
        assert_int_equal(shared.created[i], 1);
    }
    assert_int_equal(stats_now(f).created, 200);
    assert_int_equal(stats_now(f).duplicates, 200 * (CLIENTS - 1));
    assert_accounts(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_that_race_complete_each_task_once_and_lose_none),
        cmocka_unit_test(racing_creates_with_one_key_make_one_task),
    };
    return cmocka_run_group_tests(tests, fixture_group_start, fixture_group_stop);
}
