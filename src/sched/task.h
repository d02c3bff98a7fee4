/* What a task is, without where it is kept: its id, its member (the lease and fencing token), its
 * states. Plain values, no memory of their own; any thread.
 *
 * Source: CONTRACTS, "Task ids and keys" and "The member and the lease"; RFC 9562 section 5.8. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- id ---- */

/* A UUID of version 8, as 16 raw bytes whose order is the order of creation within one maker:
 * creation time in Unix ms (48 bits), version (4), queue number (16, around the 2 variant bits),
 * shard (8), sequence within the ms (16), maker (34). */
#define TASK_ID_BYTES 16
#define TASK_ID_TEXT_BYTES 37 /* "01234567-89ab-8def-8123-456789abcdef" and its NUL */
#define TASK_ID_MAKER_BITS 34

struct task_id {
    uint8_t bytes[TASK_ID_BYTES];
};

/* Makes ids that only grow. maker must differ between makers of one Redis (low 34 bits are used).
 * One thread. */
struct task_id_maker {
    uint64_t maker;
    int64_t last_ms;
    uint32_t sequence; /* next within last_ms */
};

void task_id_maker_init(struct task_id_maker *maker, uint64_t number);

/* The next id. now_ms is Unix time; where it stands still or runs back the ids still grow, and past
 * 65,536 ids in one ms they borrow the next. */
struct task_id task_id_next(struct task_id_maker *maker, int64_t now_ms, uint16_t queue,
                            uint8_t shard);

int64_t task_id_time_ms(const struct task_id *id);
uint16_t task_id_queue(const struct task_id *id);
uint8_t task_id_shard(const struct task_id *id);
bool task_id_equal(const struct task_id *a, const struct task_id *b);

/* Lower-case hex with dashes. */
void task_id_format(const struct task_id *id, char out[TASK_ID_TEXT_BYTES]);

/* Exactly 36 characters, either case, version 8 and variant 10. 0, or -EINVAL (out untouched). */
int task_id_parse(const char *text, size_t bytes, struct task_id *out);

/* ---- member ---- */

/* id[16] priority[1] attempts[4 hex] max[4 hex] generation[8 hex]: what moves between the sorted
 * sets. Generation grows at every claim and every return, so a member names one lease for ever. */
#define TASK_MEMBER_BYTES 33
#define TASK_MEMBER_TAIL_BYTES 17
#define TASK_TOKEN_BYTES 50 /* hex(id) and the tail, 49 characters, and the NUL */
#define TASK_PRIORITY_MAX 9
#define TASK_ATTEMPTS_MAX 65535

struct task_member {
    char bytes[TASK_MEMBER_BYTES]; /* no NUL */
};

/* A task's first member: no delivery yet, generation 1. priority 0..9, max_attempts 1..65535. */
struct task_member task_member_first(const struct task_id *id, uint8_t priority,
                                     uint16_t max_attempts);

/* The form above, byte by byte: hex in lower case, priority a digit, id a version 8 UUID. 0, or
 * -EINVAL (out untouched). For bytes from outside. */
int task_member_from_bytes(const char *bytes, size_t count, struct task_member *out);

struct task_id task_member_id(const struct task_member *member);
uint8_t task_member_priority(const struct task_member *member);
uint16_t task_member_attempts(const struct task_member *member); /* deliveries so far */
uint16_t task_member_max_attempts(const struct task_member *member);
uint32_t task_member_generation(const struct task_member *member);
bool task_member_equal(const struct task_member *a, const struct task_member *b);

/* The delivery token as text. */
void task_member_format(const struct task_member *member, char out[TASK_TOKEN_BYTES]);
int task_member_parse(const char *text, size_t bytes, struct task_member *out); /* 0 or -EINVAL */

/* ---- state ---- */

enum task_state {
    TASK_NONE = 0, /* no such task */
    TASK_READY,
    TASK_DELAYED,
    TASK_LEASED,
    TASK_COMPLETED,
    TASK_FAILED,
    TASK_DEAD,
};

const char *task_state_name(enum task_state state); /* "ready", ... */

/* May a task go from one state to the other in one step? TASK_NONE is before create and after
 * delete. */
bool task_state_may(enum task_state from, enum task_state to);
