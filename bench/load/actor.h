/* Inside the load generator: its state, shared by load.c (set-up, loop, accounts) and load_actor.c
 * (what a producer or worker does next). Nobody else includes this. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/rng.h"
#include "load/codeq_api.h"
#include "load/ledger.h"
#include "load/load.h"
#include "load/timer_heap.h"

#define CLAIM_BATCH_MAX 10 /* codeQ's limit */

struct role_state;

/* One connection and what is being done on it: a worker, a closed-loop producer, or one of an open
 * producer's pool. */
struct actor {
    struct http_conn conn;
    struct role_state *role;
    uint32_t tenant;
    bool ended;
    bool registered; /* with epoll, since the connection was opened */
    enum load_endpoint request; /* in flight while conn.state is HTTP_BUSY */
    int64_t intended_ns;
    int64_t sent_ns;
    int64_t free_ns; /* since when it could have sent */
    struct timer timer; /* when to act next, unless a request is in flight */
    uint64_t seqs[LOAD_BATCH_MAX]; /* producer: the tasks in flight */
    uint32_t seq_count;
    int64_t due_ns[LOAD_BATCH_MAX]; /* wall; 0: at once */
    struct codeq_task held[CLAIM_BATCH_MAX]; /* worker: under lease */
    uint32_t held_count;
    int64_t work_end_ns;
    int64_t lease_end_ns; /* monotonic, of what is held, seen from here */
    uint64_t above_at_send[LOAD_PRIORITIES]; /* tasks surely waiting above each priority */
};

struct role_state {
    const struct load_role *spec;
    uint32_t queue_base; /* first of its queues; + tenant */
    struct arrival arrival;
    int64_t next_arrival_ns; /* from the start; -1 when over */
    int64_t gap_ns; /* between that and the one before */
    struct actor *actors;
    uint32_t actor_count;
    uint32_t *idle; /* open producers: stack of actors without a request */
    uint32_t idle_count;
    uint64_t operations; /* closed producers: tasks given out */
    uint32_t in_flight;
    uint32_t running; /* closed loop: actors that have not ended */
};

struct load {
    const struct load_spec *spec;
    struct load_result *result;
    struct ledger ledger;
    struct rng rng;
    uint64_t run_mark;
    char *filler;
    int epoll_fd;
    int open_fd; /* epoll of the open producers' connections, inside epoll_fd: see watch_open */
    bool open_watched;
    uint32_t open_in_flight;
    int64_t start_ns;
    int64_t wall_offset_ns; /* wall = monotonic + this */
    int64_t producers_end_ns;
    int64_t end_ns; /* drain deadline, absolute */
    bool producers_over;
    bool stopping;
    struct role_state roles[LOAD_ROLES_MAX];
    uint32_t worker_hands; /* tasks that all workers together can hold or have on the way */
    struct timer_heap timers;
    struct hist window_hist[LOAD_ENDPOINTS];
    size_t window;
    uint32_t in_flight;
    uint64_t last_offered, last_completed;
};

static inline struct actor *actor_of(struct timer *timer)
{
    return (struct actor *)((char *)timer - offsetof(struct actor, timer));
}

static inline int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* A closed-loop actor's timer has fired: do what is due. */
void actor_due(struct load *load, struct actor *actor, int64_t now);

/* Create tasks, intended for intended_ns. The actor has no request in flight. */
void actor_create(struct load *load, struct actor *actor, int64_t intended_ns);

/* epoll says that something happened on the actor's connection. */
void actor_on_event(struct load *load, struct actor *actor, uint32_t events);
