#include "wire_user.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "codeqd_scripts.h"
#include "loader.h"
#include "report.h"
#include "snap.h"
#include "target.h"
#include "view.h"

struct preset {
    const char *name;
    enum wire_kind kind;
};

/* Source: redis/src/commands.def, commands with sub-commands (DEBUG has none of its own). */
static const struct preset presets[] = {
    {"EVALSHA", WIRE_SCRIPT_SHA},
    {"EVALSHA_RO", WIRE_SCRIPT_SHA},
    {"EVAL", WIRE_SCRIPT_BODY},
    {"EVAL_RO", WIRE_SCRIPT_BODY},
    {"FCALL", WIRE_FUNCTION},
    {"FCALL_RO", WIRE_FUNCTION},
    {"ACL", WIRE_GROUP},
    {"CLIENT", WIRE_GROUP},
    {"CLUSTER", WIRE_GROUP},
    {"COMMAND", WIRE_GROUP},
    {"CONFIG", WIRE_GROUP},
    {"FUNCTION", WIRE_GROUP},
    {"LATENCY", WIRE_GROUP},
    {"MEMORY", WIRE_GROUP},
    {"MODULE", WIRE_GROUP},
    {"OBJECT", WIRE_GROUP},
    {"PUBSUB", WIRE_GROUP},
    {"SCRIPT", WIRE_GROUP},
    {"SLOWLOG", WIRE_GROUP},
    {"XGROUP", WIRE_GROUP},
    {"XINFO", WIRE_GROUP},
    {"SUBSCRIBE", WIRE_SUBSCRIBE},
    {"PSUBSCRIBE", WIRE_SUBSCRIBE},
    {"SSUBSCRIBE", WIRE_SUBSCRIBE},
    {"UNSUBSCRIBE", WIRE_SUBSCRIBE},
    {"PUNSUBSCRIBE", WIRE_SUBSCRIBE},
    {"SUNSUBSCRIBE", WIRE_SUBSCRIBE},
    {"MONITOR", WIRE_LAST},
    {"SYNC", WIRE_LAST},
    {"PSYNC", WIRE_LAST},
    {"HELLO", WIRE_HELLO},
    {"AUTH", WIRE_PLAIN}, /* known from the start: none of its arguments is ever asked for */
};
#define PRESETS_LEN (sizeof presets / sizeof presets[0])

#define SCRIPT_NAMES_MAX 256
struct script_name {
    char sha[17];
    char name[48];
};
static struct script_name script_names[SCRIPT_NAMES_MAX];
static int script_names_len;

static void choose_hooks(struct loader *loader, const struct view_options *options,
                         const struct target *target)
{
    bool by_socket = target != NULL && !options->syscalls && target_servers_only(target) &&
                     loader_has_tracepoint("sock_send_length") &&
                     loader_has_tracepoint("sock_recv_length");
    static const char *const at_sockets[] = {"on_sent", "on_received", "old_sockets_of"};
    static const char *const at_calls[] = {"on_enter", "on_exit"};
    for (size_t i = 0; i < 3 && !by_socket; i++) {
        loader_skip(loader, at_sockets[i]);
    }
    for (size_t i = 0; i < 2 && by_socket; i++) {
        loader_skip(loader, at_calls[i]);
    }
}

int wire_configure(struct loader *loader, const struct view_options *options,
                   const struct target *target, enum wire_elements elements, bool events,
                   struct err *err)
{
    choose_hooks(loader, options, target);
    wire_name_codeqd();
    struct wire_config config = {
        .names_preset = PRESETS_LEN + 1 + WIRE_COMMANDS_MAX,
        .sample = (__u32)options->sample,
        .elements = elements,
        .events = events,
        .nr_read = SYS_read,
        .nr_write = SYS_write,
        .nr_readv = SYS_readv,
        .nr_writev = SYS_writev,
        .nr_recvfrom = SYS_recvfrom,
        .nr_sendto = SYS_sendto,
        .nr_recvmsg = SYS_recvmsg,
        .nr_sendmsg = SYS_sendmsg,
        .nr_close = SYS_close,
        .nr_accept = SYS_accept,
        .nr_accept4 = SYS_accept4,
        .nr_connect = SYS_connect,
        .nr_io_uring_enter = SYS_io_uring_enter,
    };
    return loader_config(loader, &config, sizeof config, err);
}

static int set_name(struct loader *loader, const char *text, __u32 id, enum wire_kind kind)
{
    struct wire_name name = {{0}};
    struct wire_entry entry = {.id = id, .kind = kind};
    memcpy(&name, text, strnlen(text, sizeof name));
    return loader_map_set(loader, "names", &name, &entry);
}

int wire_preset(struct loader *loader)
{
    int code = 0;
    for (__u32 i = 0; i < PRESETS_LEN && code == 0; i++) {
        code = set_name(loader, presets[i].name, i, presets[i].kind);
    }
    /* A group's two words stand in a name at bytes 0 and 8. */
    struct wire_name reply_mode = {{0}};
    struct wire_entry entry = {.id = PRESETS_LEN, .kind = WIRE_REPLY_MODE};
    memcpy(&reply_mode, "CLIENT\0\0REPLY", 13);
    return code != 0 ? code : loader_map_set(loader, "names", &reply_mode, &entry);
}

int wire_preset_command(struct loader *loader, int number, const char *name)
{
    assert(number < WIRE_COMMANDS_MAX);
    int id = (int)PRESETS_LEN + 1 + number;
    for (size_t i = 0; i < PRESETS_LEN; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            return -EEXIST; /* what follows from it must stay as it is */
        }
    }
    int code = set_name(loader, name, (__u32)id, WIRE_PLAIN);
    return code != 0 ? code : id;
}

static const char *script_name(const char *sha)
{
    for (int i = 0; i < script_names_len; i++) {
        if (strncmp(script_names[i].sha, sha, 16) == 0) {
            return script_names[i].name;
        }
    }
    return NULL;
}

void wire_script_name(const char *sha, const char *name)
{
    if (script_name(sha) != NULL || script_names_len == SCRIPT_NAMES_MAX) {
        return;
    }
    struct script_name *s = &script_names[script_names_len++];
    snprintf(s->sha, sizeof s->sha, "%.16s", sha);
    snprintf(s->name, sizeof s->name, "%s", name);
}

void wire_name_codeqd(void)
{
    for (size_t i = 0; i < sizeof codeqd_scripts / sizeof codeqd_scripts[0]; i++) {
        wire_script_name(codeqd_scripts[i].sha, codeqd_scripts[i].name);
    }
}

static void name_text(const struct wire_name *name, char out[64], bool *out_script)
{
    char raw[RESP_NAME_BYTES + 1] = "";
    memcpy(raw, name, RESP_NAME_BYTES);
    *out_script = false;
    if (strncmp(raw, "EVALSHA:", 8) == 0) {
        const char *known = script_name(raw + 8);
        snprintf(out, 64, known != NULL ? "EVALSHA %s" : "EVALSHA %.12s",
                 known != NULL ? known : raw + 8);
        *out_script = true;
    } else if (memcmp(raw, "EVAL\0\0\0\0", 8) == 0 && (name->word[1] | name->word[2]) != 0) {
        snprintf(out, 64, "EVAL %08llx/%lluB", (unsigned long long)(name->word[1] >> 32),
                 (unsigned long long)name->word[2]);
        *out_script = true;
    } else if (memcmp(raw, "FCALL\0\0\0", 8) == 0 && name->word[1] != 0) {
        snprintf(out, 64, "FCALL %.16s", raw + 8);
        *out_script = true;
    } else {
        /* "CONFIG\0\0GET" is one of a group; a plain name has no gap. */
        size_t n = strnlen(raw, RESP_NAME_BYTES);
        const char *second = n < 8 && raw[8] != '\0' ? raw + 8 : NULL;
        for (size_t i = 0; second == NULL && n > 8 && i < PRESETS_LEN; i++) {
            if (presets[i].kind == WIRE_GROUP && strlen(presets[i].name) == 8 &&
                strncmp(raw, presets[i].name, 8) == 0) {
                second = raw + 8;
                n = 8;
            }
        }
        snprintf(out, 64, "%.*s%s%.16s", (int)n, raw, second != NULL ? "|" : "",
                 second != NULL ? second : "");
    }
    for (char *p = out; *p != '\0'; p++) {
        *p = isprint((unsigned char)*p) ? *p : '?';
    }
}

void wire_names_read(struct wire_names *names, const struct loader *loader)
{
    struct wire_name key;
    struct wire_name next;
    const void *last = NULL;
    memset(names, 0, sizeof *names);
    while (loader_map_next(loader, "names", last, &next)) {
        key = next;
        last = &key;
        struct wire_entry entry;
        if (loader_map_get(loader, "names", &key, &entry) == 0 && entry.id < WIRE_NAMES_MAX) {
            name_text(&key, names->text[entry.id], &names->script[entry.id]);
        }
    }
    strcpy(names->text[WIRE_OTHER], "OTHER");
    strcpy(names->text[WIRE_MIXED], "(mixed)");
}

struct wire_counts wire_counts_read(const struct loader *loader)
{
    struct wire_counts counts = {0};
    __u32 zero = 0;
    loader_map_sum(loader, "counts", &zero, (uint64_t *)&counts, WIRE_COUNTS_WORDS, -1);
    return counts;
}

void wire_report_counts(const struct wire_counts *c, const struct view_options *options,
                        struct report *report)
{
    if (c->request_calls > 0) {
        report_note(report,
                    "since the start: %llu commands in %llu system calls: %.2f commands and %.0f "
                    "bytes a call; %.2f replies a call",
                    (unsigned long long)c->requests, (unsigned long long)c->request_calls,
                    (double)c->requests / (double)c->request_calls,
                    (double)c->request_bytes / (double)c->request_calls,
                    (double)c->replies / (double)c->request_calls);
    }
    if (options->sample > 1) {
        report_note(report, "sampled: one connection in %d is followed; counts are of those only",
                    options->sample);
    }
    if (c->tls > 0) {
        report_note(report, "TLS: %llu connections are encrypted and not visible",
                    (unsigned long long)c->tls);
    }
    if (c->io_uring > 0) {
        report_note(report, "io_uring: %llu calls; what goes through it is not visible",
                    (unsigned long long)c->io_uring);
    }
    if (c->pushes > 0) {
        report_note(report, "%llu pushed messages (pub/sub, invalidations) are no replies",
                    (unsigned long long)c->pushes);
    }
    if (c->unpaired > 0) {
        report_note(report,
                    "%llu requests of subscribers, monitors and clients that want no replies: "
                    "counted, no latency",
                    (unsigned long long)c->unpaired);
    }
    report_loss(report, "unmatched_replies",
                "replies to requests from before the tracer came (no latency)", c->unmatched);
    report_loss(report, "desyncs", "times the protocol was not understood", c->desyncs);
    report_loss(report, "unparsed_bytes", "bytes not parsed", c->unparsed_bytes);
    report_loss(report, "read_faults", "reads of process memory failed", c->faults);
    report_loss(report, "mixed_requests",
                "requests beyond the queue (counted; latency under (mixed))", c->mixed);
    report_loss(report, "connections_full", "connections beyond the most that are followed",
                c->conns_full);
    report_loss(report, "events_lost", "events lost: the ring buffer was full", c->events_lost);
}

void wire_peer_text(unsigned family, const unsigned address[4], char out[64])
{
    if (family == AF_INET || family == AF_INET6) {
        inet_ntop((int)family, address, out, 64);
    } else {
        snprintf(out, 64, "%s", family == AF_UNIX ? "unix socket" : "?");
    }
}

static const struct report_column command_columns[] = {
    {"command", "command", REPORT_LABEL},
    {"count", "calls", REPORT_COUNT},
    {"rate_per_sec", "calls/s", REPORT_NUMBER},
    {"errors", "errors", REPORT_COUNT},
    {"nils", "nil", REPORT_COUNT},
    {"server_latency_ns_p50", "server p50", REPORT_NS},
    {"server_latency_ns_p99", "p99", REPORT_NS},
    {"server_latency_ns_max", "max", REPORT_NS},
    {"client_latency_ns_p50", "client p50", REPORT_NS},
    {"client_latency_ns_p99", "p99", REPORT_NS},
    {"client_latency_ns_max", "max", REPORT_NS},
    {"wire_and_queue_ns_mean", "wire+queue", REPORT_NS},
    {"server_time_ns", "time", REPORT_NS},
    {"server_count", "seen by server", REPORT_COUNT},
    {"client_count", "by client", REPORT_COUNT},
    {"latency_ns", "latency", REPORT_HIST},
};

static void add_side(struct report_table *table, const struct wire_row *row, bool final)
{
    const uint64_t *buckets = (const uint64_t *)row->buckets;
    if (row->replies == 0) {
        for (int i = 0; i < 3; i++) {
            report_number(table, (double)NAN);
        }
        return;
    }
    double most = final ? (double)row->ns_max : (double)loghist_quantile(buckets, 1);
    most = fmin(most, (double)row->ns_max);
    report_number(table, fmin((double)loghist_quantile(buckets, 0.5), most));
    report_number(table, fmin((double)loghist_quantile(buckets, 0.99), most));
    report_number(table, most);
}

static double mean_ns(const struct wire_row *row)
{
    return row->replies > 0 ? (double)row->ns / (double)row->replies : (double)NAN;
}

void wire_report_commands(const struct loader *loader, struct snap *before, struct report *report)
{
    struct wire_names names;
    wire_names_read(&names, loader);
    struct snap now;
    snap_init(&now, sizeof(__u32), 2 * WIRE_ROW_WORDS);
    for (__u32 id = 0; id < WIRE_NAMES_MAX; id++) {
        if (names.text[id][0] == '\0') {
            continue;
        }
        uint64_t *values = snap_add(&now, &id);
        __u32 client = id + WIRE_NAMES_MAX;
        loader_map_sum(loader, "rows", &id, values, WIRE_ROW_WORDS, WIRE_ROW_MAX_WORD);
        loader_map_sum(loader, "rows", &client, values + WIRE_ROW_WORDS, WIRE_ROW_WORDS,
                       WIRE_ROW_MAX_WORD);
    }
    struct report_table *table = report_table(report, "commands", command_columns,
                                              sizeof command_columns / sizeof command_columns[0]);
    for (int i = 0; i < now.len; i++) {
        __u32 id = *(const __u32 *)snap_key(&now, i);
        struct wire_row side[2];
        memcpy(side, snap_values(&now, i), sizeof side);
        if (!report->final) {
            for (int b = 0; b < before->len; b++) {
                if (*(const __u32 *)snap_key(before, b) == id) {
                    uint64_t *words = (uint64_t *)side;
                    const uint64_t *old = snap_values(before, b);
                    for (size_t w = 0; w < 2 * WIRE_ROW_WORDS; w++) {
                        words[w] -= w % WIRE_ROW_WORDS == WIRE_ROW_MAX_WORD ? 0 : old[w];
                    }
                }
            }
        }
        const struct wire_row *server = &side[0];
        const struct wire_row *client = &side[1];
        uint64_t n = server->requests > 0 ? server->requests : client->requests;
        if (n == 0 && server->replies + client->replies == 0) {
            continue;
        }
        const struct wire_row *main_side = server->replies > 0 ? server : client;
        report_text(table, names.text[id]);
        report_number(table, (double)n);
        report_number(table, report->seconds > 0 ? (double)n / report->seconds : (double)NAN);
        report_number(table, (double)main_side->errors);
        report_number(table, (double)main_side->nils);
        add_side(table, server, report->final);
        add_side(table, client, report->final);
        bool both = client->replies > 0 && server->replies > 0;
        report_number(table, both ? fmax(mean_ns(client) - mean_ns(server), 0) : (double)NAN);
        report_number(table, (double)main_side->ns);
        report_number(table, (double)server->requests);
        report_number(table, (double)client->requests);
        report_hist(table, (const uint64_t *)main_side->buckets, main_side->ns);
    }
    report_sort(table, "server_time_ns");
    snap_fini(before);
    *before = now;
}

static const struct report_column peer_columns[] = {
    {"peer", "peer", REPORT_LABEL},
    {"side", "seen by", REPORT_LABEL},
    {"connections", "connections", REPORT_NUMBER},
    {"commands", "commands", REPORT_COUNT},
    {"time_ns", "time", REPORT_NS},
    {"latency_ns_mean", "mean", REPORT_NS},
    {"pipeline_depth_max", "most in one call", REPORT_NUMBER},
};

struct peer_sum {
    struct wire_peer_key key;
    struct wire_peer_row row;
};

static struct peer_sum *sum_of(struct peer_sum *sums, int *len, const struct wire_peer_key *key)
{
    for (int i = 0; i < *len; i++) {
        if (memcmp(&sums[i].key, key, sizeof *key) == 0) {
            return &sums[i];
        }
    }
    if (*len == 1024) {
        return &sums[1023];
    }
    sums[*len] = (struct peer_sum){.key = *key};
    return &sums[(*len)++];
}

void wire_report_peers(const struct loader *loader, struct report *report)
{
    struct peer_sum *sums = calloc(1024, sizeof *sums);
    assert(sums != NULL);
    int len = 0;
    struct wire_peer_key key;
    struct wire_peer_key next;
    const void *last = NULL;
    while (loader_map_next(loader, "peers", last, &next)) {
        key = next;
        last = &key;
        struct peer_sum *sum = sum_of(sums, &len, &key);
        loader_map_get(loader, "peers", &key, &sum->row);
    }
    struct {
        struct wire_conn_head head;
        char rest[WIRE_CONN_BYTES_MAX];
    } *conn = malloc(sizeof *conn);
    assert(conn != NULL);
    struct wire_conn_key conn_key;
    struct wire_conn_key conn_next;
    last = NULL;
    int seen = 0;
    while (seen++ < WIRE_CONNS_MAX && loader_map_next(loader, "conns", last, &conn_next)) {
        conn_key = conn_next;
        last = &conn_key;
        if (loader_map_get(loader, "conns", &conn_key, conn) != 0) {
            continue;
        }
        struct wire_peer_key peer = {.client = conn->head.client, .family = conn->head.peer.family};
        memcpy(peer.address, conn->head.peer.address, sizeof peer.address);
        struct wire_peer_row *row = &sum_of(sums, &len, &peer)->row;
        row->conns++;
        row->requests += conn->head.requests;
        row->replies += conn->head.replies;
        row->ns += conn->head.ns;
        if (conn->head.depth_max > row->depth_max) {
            row->depth_max = conn->head.depth_max;
        }
    }
    free(conn);
    struct report_table *table =
        report_table(report, "peers", peer_columns, sizeof peer_columns / sizeof peer_columns[0]);
    for (int i = 0; i < len; i++) {
        char text[64];
        wire_peer_text(sums[i].key.family, sums[i].key.address, text);
        report_text(table, text);
        report_text(table, sums[i].key.client ? "client" : "server");
        report_number(table, (double)sums[i].row.conns);
        report_number(table, (double)sums[i].row.requests);
        report_number(table, (double)sums[i].row.ns);
        report_number(table, sums[i].row.replies > 0
                                 ? (double)sums[i].row.ns / (double)sums[i].row.replies
                                 : (double)NAN);
        report_number(table, (double)sums[i].row.depth_max);
    }
    report_sort(table, "time_ns");
    free(sums);
}
