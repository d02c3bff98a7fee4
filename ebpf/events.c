#include "events.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json_text.h"
#include "report.h"
#include "target.h"
#include "view.h"
#include "wire_keys.h"
#include "wire_user.h"

#define CONNS_MAX 32768 /* a power of two; both sides of WIRE_CONNS_MAX */
#define WAITING_MAX 65536 /* keys whose command is not answered */
#define ROWS_MAX 4096 /* commands with their keys */
#define ROW_SLOTS (2 * ROWS_MAX)
#define NONE UINT32_MAX
#define KEY_TEXT_BYTES (4 * RESP_KEEP_BYTES + 8) /* \xHH each, and "..." */

struct key {
    uint8_t kept;
    bool cut;
    char bytes[RESP_KEEP_BYTES];
};

struct waiting {
    uint32_t next;
    uint16_t id;
    uint16_t seq;
    struct key key;
};

struct conn {
    uint32_t tgid;
    uint32_t fd;
    bool used;
    bool client;
    bool has_keys; /* of the script whose arguments are coming in */
    uint32_t first; /* in waiting */
    uint32_t last;
};

struct row {
    uint16_t id;
    struct key key;
    uint64_t count[2]; /* since the start; up to the last report */
    uint64_t errors[2];
    uint64_t ns[2];
    uint64_t ns_max;
};

struct events {
    const struct loader *loader;
    const struct target *target;
    const struct view_options *options;
    struct wire_names names;
    enum wire_key_place place[WIRE_NAMES_MAX];
    bool place_known[WIRE_NAMES_MAX];
    int64_t wall_ns; /* add it to the kernel's monotonic time */
    struct conn *conns;
    int conns_len;
    struct waiting *waiting;
    uint32_t free_first;
    struct row *rows;
    uint16_t *slots; /* row + 1 */
    int rows_len;
    uint64_t beyond; /* commands whose key has no row */
    uint64_t keys_lost;
};

static void forget_all(struct events *events)
{
    memset(events->conns, 0, CONNS_MAX * sizeof *events->conns);
    events->conns_len = 0;
    for (uint32_t i = 0; i < WAITING_MAX; i++) {
        events->waiting[i].next = i + 1 < WAITING_MAX ? i + 1 : NONE;
    }
    events->free_first = 0;
}

struct events *events_new(const struct loader *loader, const struct target *target,
                          const struct view_options *options)
{
    struct events *events = calloc(1, sizeof *events);
    assert(events != NULL);
    events->loader = loader;
    events->target = target;
    events->options = options;
    events->conns = calloc(CONNS_MAX, sizeof *events->conns);
    events->waiting = calloc(WAITING_MAX, sizeof *events->waiting);
    events->rows = calloc(ROWS_MAX, sizeof *events->rows);
    events->slots = calloc(ROW_SLOTS, sizeof *events->slots);
    assert(events->conns != NULL && events->waiting != NULL && events->rows != NULL &&
           events->slots != NULL);
    forget_all(events);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    events->wall_ns =
        (int64_t)wall.tv_sec * NS_PER_SEC + wall.tv_nsec - clock_monotonic_ns(clock_system());
    return events;
}

void events_free(struct events *events)
{
    if (events == NULL) {
        return;
    }
    free(events->conns);
    free(events->waiting);
    free(events->rows);
    free(events->slots);
    free(events);
}

/* NULL: none, and none is to be made. */
static struct conn *conn_of(struct events *events, const struct wire_event *event, bool make)
{
    uint32_t hash = (event->tgid * 2654435761u ^ event->fd * 40503u ^ event->client) * 2246822519u;
    if (make && events->conns_len > CONNS_MAX / 4 * 3) {
        forget_all(events);
        events->keys_lost++;
    }
    for (uint32_t i = hash % CONNS_MAX;; i = (i + 1) % CONNS_MAX) {
        struct conn *conn = &events->conns[i];
        if (conn->used && conn->tgid == event->tgid && conn->fd == event->fd &&
            conn->client == (event->client != 0)) {
            return conn;
        }
        if (!conn->used) {
            if (!make) {
                return NULL;
            }
            *conn = (struct conn){.tgid = event->tgid,
                                  .fd = event->fd,
                                  .used = true,
                                  .client = event->client != 0,
                                  .first = NONE,
                                  .last = NONE};
            events->conns_len++;
            return conn;
        }
    }
}

static void drop_first(struct events *events, struct conn *conn)
{
    uint32_t i = conn->first;
    conn->first = events->waiting[i].next;
    conn->last = conn->first == NONE ? NONE : conn->last;
    events->waiting[i].next = events->free_first;
    events->free_first = i;
}

/* Is request a of a connection before b? */
static bool before(uint16_t a, uint16_t b)
{
    return (int16_t)(uint16_t)(a - b) < 0;
}

static const char *name_of(struct events *events, uint16_t id)
{
    if (events->names.text[id][0] == '\0') {
        wire_names_read(&events->names, events->loader);
    }
    return events->names.text[id][0] != '\0' ? events->names.text[id] : "?";
}

/* An argument that may be a key. */
static void on_argument(struct events *events, const struct wire_event *event)
{
    if (!events->place_known[event->id]) {
        events->place[event->id] = wire_key_place(name_of(events, event->id));
        events->place_known[event->id] = true;
    }
    enum wire_key_place place = events->place[event->id];
    struct conn *conn = conn_of(events, event, true);
    if (place == WIRE_KEY_COUNTED && event->index == 2) {
        conn->has_keys = event->kept > 0 && event->bytes[0] != '0';
    }
    bool wanted =
        place == WIRE_KEY_COUNTED
            ? event->index == 3 && conn->has_keys
            : place != WIRE_KEY_NONE && event->index == (uint32_t)(place - WIRE_KEY_AT_1 + 1);
    if (!wanted) {
        return;
    }
    /* Numbers that start again: the file descriptor has a new connection. */
    bool anew = conn->last != NONE && !before(events->waiting[conn->last].seq, event->seq);
    while (anew && conn->first != NONE) {
        drop_first(events, conn);
    }
    if (events->free_first == NONE) {
        forget_all(events);
        events->keys_lost += WAITING_MAX;
        conn = conn_of(events, event, true);
    }
    uint32_t i = events->free_first;
    struct waiting *waiting = &events->waiting[i];
    events->free_first = waiting->next;
    *waiting = (struct waiting){.next = NONE, .id = event->id, .seq = event->seq};
    waiting->key.kept = event->kept;
    waiting->key.cut = event->length > event->kept;
    memcpy(waiting->key.bytes, event->bytes, event->kept);
    if (conn->last == NONE) {
        conn->first = i;
    } else {
        events->waiting[conn->last].next = i;
    }
    conn->last = i;
}

static bool key_of(struct events *events, const struct wire_event *event, struct key *out_key)
{
    struct conn *conn = conn_of(events, event, false);
    if (conn == NULL) {
        return false;
    }
    while (conn->first != NONE && before(events->waiting[conn->first].seq, event->seq)) {
        drop_first(events, conn);
    }
    if (conn->first == NONE) {
        return false;
    }
    const struct waiting *waiting = &events->waiting[conn->first];
    if (waiting->seq != event->seq || waiting->id != event->id) {
        return false;
    }
    *out_key = waiting->key;
    drop_first(events, conn);
    return true;
}

/* Printable, whatever the bytes are. */
static void key_text(const struct key *key, char out[KEY_TEXT_BYTES])
{
    char *at = out;
    for (int i = 0; i < key->kept; i++) {
        unsigned char c = (unsigned char)key->bytes[i];
        if (c > 0x20 && c < 0x7f && c != '\\' && c != '"') {
            *at++ = (char)c;
        } else {
            at += sprintf(at, "\\x%02x", c);
        }
    }
    strcpy(at, key->cut ? "..." : "");
}

static const char *result_of(const struct wire_event *event)
{
    return event->type == '-' || event->type == '!' ? "error" : event->type == '_' ? "nil" : "ok";
}

static void print_line(struct events *events, const struct wire_event *event, const struct key *key)
{
    char text[KEY_TEXT_BYTES] = "";
    if (key != NULL) {
        key_text(key, text);
    }
    const char *name = name_of(events, event->id);
    const char *side = event->client ? "client" : "server";
    int64_t wall_ns = (int64_t)event->start_ns + events->wall_ns;
    uint64_t ns = event->ns > event->start_ns ? event->ns - event->start_ns : 0;
    const char *comm = target_comm(events->target, (pid_t)event->tgid);
    if (events->options->json) {
        char safe_comm[6 * TARGET_NAME_BYTES + 1];
        char safe_name[6 * 64 + 1];
        char safe_key[6 * KEY_TEXT_BYTES + 1];
        *json_escape(safe_comm, comm, strlen(comm)) = '\0';
        *json_escape(safe_name, name, strlen(name)) = '\0';
        *json_escape(safe_key, text, strlen(text)) = '\0';
        printf("{\"schema\":\"codeq-trace.event/1\",\"start_unix_ns\":%lld,\"latency_ns\":%llu,"
               "\"pid\":%u,\"comm\":\"%s\",\"fd\":%u,\"side\":\"%s\",\"command\":\"%s\","
               "\"key\":%s%s%s,\"result\":\"%s\"}\n",
               (long long)wall_ns, (unsigned long long)ns, event->tgid, safe_comm, event->fd, side,
               safe_name, key != NULL ? "\"" : "", key != NULL ? safe_key : "null",
               key != NULL ? "\"" : "", result_of(event));
        return;
    }
    time_t seconds = (time_t)(wall_ns / NS_PER_SEC);
    struct tm tm;
    localtime_r(&seconds, &tm);
    char clock[16];
    strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    printf("%s.%06d %s/%u fd %u %s %.1fus %s %s%s%s%s\n", clock,
           (int)(wall_ns % NS_PER_SEC / NS_PER_US), comm, event->tgid, event->fd, side,
           (double)ns / 1e3, result_of(event), name, key != NULL ? " \"" : "", text,
           key != NULL ? "\"" : "");
}

static struct row *row_of(struct events *events, uint16_t id, const struct key *key)
{
    uint64_t hash = 0xcbf29ce484222325ULL ^ id;
    for (int i = 0; i < key->kept; i++) {
        hash = (hash ^ (unsigned char)key->bytes[i]) * 0x100000001b3ULL;
    }
    for (uint32_t i = (uint32_t)(hash >> 32) % ROW_SLOTS;; i = (i + 1) % ROW_SLOTS) {
        if (events->slots[i] == 0) {
            if (events->rows_len == ROWS_MAX) {
                return NULL;
            }
            events->slots[i] = (uint16_t)(events->rows_len + 1);
            struct row *row = &events->rows[events->rows_len++];
            row->id = id;
            row->key = *key;
            return row;
        }
        struct row *row = &events->rows[events->slots[i] - 1];
        if (row->id == id && row->key.kept == key->kept && row->key.cut == key->cut &&
            memcmp(row->key.bytes, key->bytes, key->kept) == 0) {
            return row;
        }
    }
}

static void on_command(struct events *events, const struct wire_event *event)
{
    struct key key = {0};
    bool found = events->options->show_keys && key_of(events, event, &key);
    if (events->options->events) {
        print_line(events, event, found ? &key : NULL);
        return;
    }
    if (!found) {
        return;
    }
    struct row *row = row_of(events, event->id, &key);
    if (row == NULL) {
        events->beyond++;
        return;
    }
    uint64_t ns = event->ns > event->start_ns ? event->ns - event->start_ns : 0;
    row->count[0]++;
    row->errors[0] += event->type == '-' || event->type == '!';
    row->ns[0] += ns;
    row->ns_max = ns > row->ns_max ? ns : row->ns_max;
}

void events_take(void *context, const void *data, size_t bytes)
{
    struct events *events = context;
    const struct wire_event *event = data;
    if (bytes < sizeof *event || event->id >= WIRE_NAMES_MAX || event->kept > RESP_KEEP_BYTES) {
        return;
    }
    if (event->event == WIRE_ELEMENT_REQUEST) {
        on_argument(events, event);
    } else if (event->event == WIRE_COMMAND) {
        on_command(events, event);
    }
}

static const struct report_column columns[] = {
    {"command", "command", REPORT_LABEL}, {"key", "key", REPORT_LABEL},
    {"count", "calls", REPORT_COUNT},     {"errors", "errors", REPORT_COUNT},
    {"latency_ns_max", "max", REPORT_NS}, {"time_ns", "time", REPORT_NS},
};

void events_report(struct events *events, struct report *report)
{
    if (!events->options->show_keys) {
        return;
    }
    if (!events->options->events) {
        struct report_table *table =
            report_table(report, "keys", columns, sizeof columns / sizeof columns[0]);
        for (int i = 0; i < events->rows_len; i++) {
            struct row *row = &events->rows[i];
            int from = report->final ? 0 : 1;
            uint64_t count = row->count[0] - (from ? row->count[1] : 0);
            if (count == 0) {
                continue;
            }
            char text[KEY_TEXT_BYTES];
            key_text(&row->key, text);
            report_text(table, name_of(events, row->id));
            report_text(table, text);
            report_number(table, (double)count);
            report_number(table, (double)(row->errors[0] - (from ? row->errors[1] : 0)));
            report_number(table, (double)row->ns_max);
            report_number(table, (double)(row->ns[0] - (from ? row->ns[1] : 0)));
            row->count[1] = row->count[0];
            row->errors[1] = row->errors[0];
            row->ns[1] = row->ns[0];
        }
        report_sort(table, "time_ns");
        report_loss(report, "keys_beyond", "commands of keys beyond the first 4096",
                    events->beyond);
    }
    report_loss(report, "keys_lost", "keys of unanswered commands that were dropped",
                events->keys_lost);
}
