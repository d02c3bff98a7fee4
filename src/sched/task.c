#include "sched/task.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/hex.h"

#define SEQUENCE_LIMIT 65536
#define TIME_MS_LIMIT (INT64_C(1) << 48)

static bool id_bytes_valid(const uint8_t *bytes)
{
    return bytes[6] >> 4 == 8 && bytes[8] >> 6 == 2;
}

void task_id_maker_init(struct task_id_maker *maker, uint64_t number)
{
    maker->maker = number & ((UINT64_C(1) << TASK_ID_MAKER_BITS) - 1);
    maker->last_ms = 0;
    maker->sequence = 0;
}

struct task_id task_id_next(struct task_id_maker *maker, int64_t now_ms, uint16_t queue,
                            uint8_t shard)
{
    if (now_ms > maker->last_ms) {
        maker->last_ms = now_ms;
        maker->sequence = 0;
    } else if (maker->sequence == SEQUENCE_LIMIT) {
        maker->last_ms++;
        maker->sequence = 0;
    }
    uint64_t ms = (uint64_t)maker->last_ms & (uint64_t)(TIME_MS_LIMIT - 1);
    uint32_t seq = maker->sequence++;
    struct task_id id;
    uint8_t *b = id.bytes;
    for (int i = 0; i < 6; i++) {
        b[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    b[6] = (uint8_t)(0x80 | queue >> 12);
    b[7] = (uint8_t)(queue >> 4);
    b[8] = (uint8_t)(0x80 | (queue & 0xf) << 2 | shard >> 6);
    b[9] = (uint8_t)((shard & 0x3f) << 2 | seq >> 14);
    b[10] = (uint8_t)(seq >> 6);
    b[11] = (uint8_t)((seq & 0x3f) << 2 | (uint32_t)(maker->maker >> 32));
    for (int i = 0; i < 4; i++) {
        b[12 + i] = (uint8_t)(maker->maker >> (24 - 8 * i));
    }
    return id;
}

int64_t task_id_time_ms(const struct task_id *id)
{
    uint64_t first;
    memcpy(&first, id->bytes, sizeof(first));
    return (int64_t)(be64toh(first) >> 16);
}

uint16_t task_id_queue(const struct task_id *id)
{
    const uint8_t *b = id->bytes;
    return (uint16_t)((b[6] & 0xf) << 12 | b[7] << 4 | (b[8] >> 2 & 0xf));
}

uint8_t task_id_shard(const struct task_id *id)
{
    return (uint8_t)((id->bytes[8] & 3) << 6 | id->bytes[9] >> 2);
}

bool task_id_equal(const struct task_id *a, const struct task_id *b)
{
    return memcmp(a->bytes, b->bytes, TASK_ID_BYTES) == 0;
}

/* 32 digits of 16 bytes. */
static void put_bytes(char *out, const void *bytes)
{
    for (int i = 0; i < TASK_ID_BYTES / 4; i++) {
        uint32_t word;
        memcpy(&word, (const char *)bytes + 4 * i, sizeof(word));
        hex_put8(out + 8 * i, be32toh(word));
    }
}

static bool get_bytes(const char *text, bool any_case, void *out)
{
    bool good = true;
    for (int i = 0; i < TASK_ID_BYTES / 4; i++) {
        uint32_t word;
        good = hex_get8(text + 8 * i, any_case, &word) && good;
        word = htobe32(word);
        memcpy((char *)out + 4 * i, &word, sizeof(word));
    }
    return good;
}

void task_id_format(const struct task_id *id, char out[TASK_ID_TEXT_BYTES])
{
    char digits[2 * TASK_ID_BYTES];
    put_bytes(digits, id->bytes);
    memcpy(out, digits, 8);
    out[8] = '-';
    memcpy(out + 9, digits + 8, 4);
    out[13] = '-';
    memcpy(out + 14, digits + 12, 4);
    out[18] = '-';
    memcpy(out + 19, digits + 16, 4);
    out[23] = '-';
    memcpy(out + 24, digits + 20, 12);
    out[36] = '\0';
}

int task_id_parse(const char *text, size_t bytes, struct task_id *out)
{
    if (bytes != TASK_ID_TEXT_BYTES - 1 || text[8] != '-' || text[13] != '-' || text[18] != '-' ||
        text[23] != '-') {
        return -EINVAL;
    }
    char digits[2 * TASK_ID_BYTES];
    memcpy(digits, text, 8);
    memcpy(digits + 8, text + 9, 4);
    memcpy(digits + 12, text + 14, 4);
    memcpy(digits + 16, text + 19, 4);
    memcpy(digits + 20, text + 24, 12);
    struct task_id id;
    if (!get_bytes(digits, true, id.bytes) || !id_bytes_valid(id.bytes)) {
        return -EINVAL;
    }
    *out = id;
    return 0;
}

/* ---- member ---- */

#define AT_PRIORITY 16
#define AT_ATTEMPTS 17
#define AT_GENERATION 25

/* Attempts and their maximum stand side by side: eight digits of two numbers. */
static uint32_t get_numbers(const struct task_member *member, int at)
{
    uint32_t value = 0;
    (void)hex_get8(member->bytes + at, false, &value); /* looked at when it came in */
    return value;
}

struct task_member task_member_first(const struct task_id *id, uint8_t priority,
                                     uint16_t max_attempts)
{
    assert(priority <= TASK_PRIORITY_MAX);
    assert(max_attempts >= 1);
    struct task_member member;
    memcpy(member.bytes, id->bytes, TASK_ID_BYTES);
    member.bytes[AT_PRIORITY] = (char)('0' + priority);
    hex_put8(member.bytes + AT_ATTEMPTS, max_attempts);
    hex_put8(member.bytes + AT_GENERATION, 1);
    return member;
}

int task_member_from_bytes(const char *bytes, size_t count, struct task_member *out)
{
    if (count != TASK_MEMBER_BYTES || !id_bytes_valid((const uint8_t *)bytes) ||
        bytes[AT_PRIORITY] < '0' || bytes[AT_PRIORITY] > '9') {
        return -EINVAL;
    }
    uint32_t any;
    if (!hex_get8(bytes + AT_ATTEMPTS, false, &any) ||
        !hex_get8(bytes + AT_GENERATION, false, &any)) {
        return -EINVAL;
    }
    memcpy(out->bytes, bytes, TASK_MEMBER_BYTES);
    return 0;
}

struct task_id task_member_id(const struct task_member *member)
{
    struct task_id id;
    memcpy(id.bytes, member->bytes, TASK_ID_BYTES);
    return id;
}

uint8_t task_member_priority(const struct task_member *member)
{
    return (uint8_t)(member->bytes[AT_PRIORITY] - '0');
}

uint16_t task_member_attempts(const struct task_member *member)
{
    return (uint16_t)(get_numbers(member, AT_ATTEMPTS) >> 16);
}

uint16_t task_member_max_attempts(const struct task_member *member)
{
    return (uint16_t)get_numbers(member, AT_ATTEMPTS);
}

uint32_t task_member_generation(const struct task_member *member)
{
    return get_numbers(member, AT_GENERATION);
}

bool task_member_equal(const struct task_member *a, const struct task_member *b)
{
    return memcmp(a->bytes, b->bytes, TASK_MEMBER_BYTES) == 0;
}

void task_member_format(const struct task_member *member, char out[TASK_TOKEN_BYTES])
{
    put_bytes(out, member->bytes);
    memcpy(out + 2 * TASK_ID_BYTES, member->bytes + TASK_ID_BYTES, TASK_MEMBER_TAIL_BYTES);
    out[TASK_TOKEN_BYTES - 1] = '\0';
}

int task_member_parse(const char *text, size_t bytes, struct task_member *out)
{
    if (bytes != TASK_TOKEN_BYTES - 1) {
        return -EINVAL;
    }
    char raw[TASK_MEMBER_BYTES];
    if (!get_bytes(text, false, raw)) {
        return -EINVAL;
    }
    memcpy(raw + TASK_ID_BYTES, text + 2 * TASK_ID_BYTES, TASK_MEMBER_TAIL_BYTES);
    return task_member_from_bytes(raw, sizeof raw, out);
}

/* ---- state ---- */

const char *task_state_name(enum task_state state)
{
    switch (state) {
    case TASK_NONE:
        return "none";
    case TASK_READY:
        return "ready";
    case TASK_DELAYED:
        return "delayed";
    case TASK_LEASED:
        return "leased";
    case TASK_COMPLETED:
        return "completed";
    case TASK_FAILED:
        return "failed";
    case TASK_DEAD:
        return "dead";
    }
    return "none";
}

bool task_state_may(enum task_state from, enum task_state to)
{
    switch (from) {
    case TASK_NONE: /* create */
        return to == TASK_READY || to == TASK_DELAYED;
    case TASK_DELAYED: /* promote, delete */
        return to == TASK_READY || to == TASK_NONE;
    case TASK_READY: /* claim, delete */
        return to == TASK_LEASED || to == TASK_NONE;
    case TASK_LEASED: /* heartbeat keeps it; complete; nack, abandon and expiry; forced delete */
        return true;
    case TASK_DEAD: /* replay, purge */
        return to == TASK_READY || to == TASK_NONE;
    case TASK_COMPLETED:
    case TASK_FAILED: /* retention, cleanup */
        return to == TASK_NONE;
    }
    return false;
}
