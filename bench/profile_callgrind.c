#include "profile_callgrind.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading --- */

/* "(id) name" spaces: ids of one space name texts in profile->strings. */
enum space { SPACE_OBJECT, SPACE_FILE, SPACE_FUNCTION, SPACE_COUNT };

struct id_map {
    uint32_t *texts; /* string id + 1 */
    size_t capacity;
};

struct node_map {
    uint32_t *slots; /* node + 1 */
    size_t slot_count;
};

struct parser {
    struct callgrind *profile;
    struct id_map ids[SPACE_COUNT];
    struct node_map nodes;
    size_t cost_capacity;
    size_t call_capacity;
    size_t node_capacity;
    int position_count; /* 1: line; 2: instr line; 0 none seen */
    int line_position; /* which of them is the line; -1: none */
    int64_t position[2]; /* of the last cost line */
    int event; /* which cost is Ir; -1 until "events:" */
    int event_count;
    uint32_t object; /* string ids in force */
    uint32_t function_file;
    uint32_t file;
    uint32_t node; /* UINT32_MAX before the first fn= */
    bool has_callee_object;
    bool has_callee_file;
    bool has_callee;
    uint32_t callee_object;
    uint32_t callee_file;
    uint32_t callee_name;
    bool calls_pending; /* a calls= line waits for its cost line */
    bool jump_pending;
    int64_t calls;
    int64_t callee_line;
    int64_t totals;
    bool has_totals;
    int64_t line; /* of the file */
    struct err *err;
};

static void *grow(void *array, size_t *capacity, size_t element)
{
    *capacity = *capacity == 0 ? 256 : *capacity * 2;
    void *grown = reallocarray(array, *capacity, element);
    if (grown == NULL) {
        abort();
    }
    return grown;
}

static int bad(const struct parser *p, const char *what)
{
    return err_set(p->err, -EBADMSG, "line %" PRId64 ": %s", p->line, what);
}

static uint64_t hash_node(const struct callgrind_node *node)
{
    uint64_t h = node->object;
    h = (h ^ (h >> 31)) * UINT64_C(0x9e3779b97f4a7c15) + node->file;
    h = (h ^ (h >> 31)) * UINT64_C(0x9e3779b97f4a7c15) + node->name;
    h = (h ^ (h >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ (h >> 29);
}

static uint32_t node_id(struct parser *p, struct callgrind_node node)
{
    struct callgrind *profile = p->profile;
    if (profile->node_count * 2 >= p->nodes.slot_count) {
        size_t count = p->nodes.slot_count == 0 ? 1024 : p->nodes.slot_count * 2;
        free(p->nodes.slots);
        p->nodes.slots = calloc(count, sizeof *p->nodes.slots);
        if (p->nodes.slots == NULL) {
            abort();
        }
        p->nodes.slot_count = count;
        for (size_t i = 0; i < profile->node_count; i++) {
            size_t at = hash_node(&profile->nodes[i]) & (count - 1);
            while (p->nodes.slots[at] != 0) {
                at = (at + 1) & (count - 1);
            }
            p->nodes.slots[at] = (uint32_t)i + 1;
        }
    }
    size_t mask = p->nodes.slot_count - 1;
    size_t at = hash_node(&node) & mask;
    for (; p->nodes.slots[at] != 0; at = (at + 1) & mask) {
        const struct callgrind_node *have = &profile->nodes[p->nodes.slots[at] - 1];
        if (have->object == node.object && have->file == node.file && have->name == node.name) {
            return p->nodes.slots[at] - 1;
        }
    }
    if (profile->node_count == p->node_capacity) {
        profile->nodes = grow(profile->nodes, &p->node_capacity, sizeof *profile->nodes);
    }
    profile->nodes[profile->node_count] = node;
    p->nodes.slots[at] = (uint32_t)++profile->node_count;
    return (uint32_t)profile->node_count - 1;
}

/* "(12) name" defines, "(12)" uses, "name" stands for itself. */
static int read_name(struct parser *p, enum space space, const char *text, size_t bytes,
                     uint32_t *out_text)
{
    struct profile_strings *strings = &p->profile->strings;
    const char *close = bytes > 1 && text[0] == '(' ? memchr(text, ')', bytes) : NULL;
    int64_t id;
    if (close == NULL || !profile_number(text + 1, (size_t)(close - text) - 1, &id)) {
        *out_text = profile_strings_id(strings, text, bytes);
        return 0;
    }
    if (id >= CALLGRIND_IDS_MAX) {
        return bad(p, "the id of a name is too large");
    }
    struct id_map *map = &p->ids[space];
    const char *name = close + 1;
    size_t name_bytes = bytes - (size_t)(name - text);
    while (name_bytes > 0 && *name == ' ') {
        name++;
        name_bytes--;
    }
    if ((size_t)id >= map->capacity) {
        size_t capacity = map->capacity == 0 ? 1024 : map->capacity;
        while ((size_t)id >= capacity) {
            capacity *= 2;
        }
        map->texts = reallocarray(map->texts, capacity, sizeof *map->texts);
        if (map->texts == NULL) {
            abort();
        }
        memset(map->texts + map->capacity, 0, (capacity - map->capacity) * sizeof *map->texts);
        map->capacity = capacity;
    }
    if (name_bytes > 0) {
        uint32_t text_id = profile_strings_id(strings, name, name_bytes);
        if (map->texts[id] != 0 && map->texts[id] != text_id + 1) {
            return bad(p, "an id is given a second name");
        }
        map->texts[id] = text_id + 1;
    } else if (map->texts[id] == 0) {
        return bad(p, "an id is used before it is named");
    }
    *out_text = map->texts[id] - 1;
    return 0;
}

static const char *next_word(const char **at, const char *end, size_t *out_bytes)
{
    while (*at < end && (**at == ' ' || **at == '\t')) {
        (*at)++;
    }
    const char *word = *at;
    while (*at < end && **at != ' ' && **at != '\t') {
        (*at)++;
    }
    *out_bytes = (size_t)(*at - word);
    return *out_bytes > 0 ? word : NULL;
}

/* One (sub)position: N, 0xN, +N, -N or *, the last three relative to `last`. */
static int read_position(struct parser *p, const char *word, size_t bytes, int64_t last,
                         int64_t *out_value)
{
    int64_t value = 0;
    char sign = word[0];
    if (sign == '*' && bytes == 1) {
        *out_value = last;
        return 0;
    }
    if (sign == '+' || sign == '-') {
        word++;
        bytes--;
    }
    if (bytes > 2 && word[0] == '0' && word[1] == 'x') {
        uint64_t hex = 0;
        if (bytes > 18 || !profile_name_is_address(word, bytes)) {
            return bad(p, "a position is not a number");
        }
        for (size_t i = 2; i < bytes; i++) {
            char c = (char)(word[i] | 0x20);
            hex = hex * 16 + (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        value = (int64_t)(hex & INT64_MAX);
    } else if (!profile_number(word, bytes, &value)) {
        return bad(p, "a position is not a number");
    }
    if ((sign == '+' && __builtin_add_overflow(last, value, &value)) ||
        (sign == '-' && __builtin_sub_overflow(last, value, &value))) {
        return bad(p, "a position is out of range");
    }
    /* Some compilers' line tables make callgrind step below line 0: keep it, it is only a label. */
    *out_value = value;
    return 0;
}

static int read_positions(struct parser *p, const char **at, const char *end, int64_t out[2])
{
    for (int i = 0; i < p->position_count; i++) {
        size_t bytes;
        const char *word = next_word(at, end, &bytes);
        if (word == NULL) {
            return bad(p, "a position is missing");
        }
        int code = read_position(p, word, bytes, p->position[i], &out[i]);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

/* The Ir of the costs that follow; trailing zeros may be left out. */
static int read_event(struct parser *p, const char **at, const char *end, int64_t *out_value)
{
    int64_t value = 0;
    for (int i = 0;; i++) {
        size_t bytes;
        int64_t number;
        const char *word = next_word(at, end, &bytes);
        if (word == NULL) {
            break;
        }
        if (i >= p->event_count) {
            return bad(p, "more costs than events");
        }
        if (!profile_number(word, bytes, &number) || number > CALLGRIND_COST_MAX) {
            return bad(p, "a cost is not a number");
        }
        if (i == p->event) {
            value = number;
        }
    }
    *out_value = value;
    return 0;
}

static int read_calls(struct parser *p, const char *at, const char *end)
{
    size_t bytes;
    const char *word = next_word(&at, end, &bytes);
    if (p->node == UINT32_MAX || !p->has_callee) {
        return bad(p, "calls= without fn= and cfn=");
    }
    if (p->calls_pending) {
        return bad(p, "calls= before the cost of the last one");
    }
    if (word == NULL || !profile_number(word, bytes, &p->calls) || p->calls > CALLGRIND_COST_MAX) {
        return bad(p, "calls= without a number");
    }
    int64_t target[2] = {0, 0};
    int code = read_positions(p, &at, end, target);
    if (code != 0) {
        return code;
    }
    p->callee_line = p->line_position >= 0 ? target[p->line_position] : 0;
    p->calls_pending = true;
    return 0;
}

static int read_cost(struct parser *p, const char *at, const char *end)
{
    struct callgrind *profile = p->profile;
    int64_t value = 0;
    int64_t position[2] = {0, 0};
    if (p->event < 0) {
        return bad(p, "a cost before the events: line");
    }
    if (p->node == UINT32_MAX) {
        return bad(p, "a cost before the first fn=");
    }
    int code = read_positions(p, &at, end, position);
    if (code != 0) {
        return code;
    }
    memcpy(p->position, position, sizeof position);
    code = read_event(p, &at, end, &value);
    if (code != 0) {
        return code;
    }
    int64_t line = p->line_position >= 0 ? position[p->line_position] : 0;
    if (p->jump_pending) {
        p->jump_pending = false;
        return 0;
    }
    if (profile->cost_count + profile->call_count >= CALLGRIND_RECORDS_MAX) {
        return err_set(p->err, -ERANGE, "line %" PRId64 ": more than %u lines of cost", p->line,
                       CALLGRIND_RECORDS_MAX);
    }
    if (p->calls_pending) {
        struct callgrind_node callee = {
            p->has_callee_object ? p->callee_object : p->object,
            p->has_callee_file ? p->callee_file : p->file,
            p->callee_name,
        };
        if (profile->call_count == p->call_capacity) {
            profile->calls = grow(profile->calls, &p->call_capacity, sizeof *profile->calls);
        }
        uint32_t callee_node = node_id(p, callee);
        profile->calls[profile->call_count++] = (struct callgrind_call){
            p->node, callee_node, p->file, line, p->callee_line, p->calls, value};
        p->calls_pending = false;
        p->has_callee = p->has_callee_file = p->has_callee_object = false;
        return 0;
    }
    if (profile->cost_count == p->cost_capacity) {
        profile->costs = grow(profile->costs, &p->cost_capacity, sizeof *profile->costs);
    }
    profile->costs[profile->cost_count++] = (struct callgrind_cost){p->node, p->file, line, value};
    if (__builtin_add_overflow(profile->total, value, &profile->total)) {
        return bad(p, "the sum of all costs is out of range");
    }
    return 0;
}

static int read_function(struct parser *p, const char *value, size_t bytes)
{
    struct callgrind_node node = {p->object, p->function_file, 0};
    int code = read_name(p, SPACE_FUNCTION, value, bytes, &node.name);
    if (code == 0) {
        p->file = p->function_file;
        p->node = node_id(p, node);
        p->has_callee = p->has_callee_file = p->has_callee_object = false;
    }
    return code;
}

/* "fn=(3) main" and its relatives. -ENOENT when the key is none of them. */
static int read_specification(struct parser *p, const char *key, size_t key_bytes,
                              const char *value, size_t bytes)
{
    static const struct {
        const char *key;
        enum space space;
    } keys[] = {
        {"ob", SPACE_OBJECT}, {"fl", SPACE_FILE},      {"fi", SPACE_FILE},
        {"fe", SPACE_FILE},   {"fn", SPACE_FUNCTION},  {"cob", SPACE_OBJECT},
        {"cfi", SPACE_FILE},  {"cfl", SPACE_FILE},     {"cfn", SPACE_FUNCTION},
        {"jfi", SPACE_FILE},  {"jfn", SPACE_FUNCTION},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strlen(keys[i].key) != key_bytes || memcmp(keys[i].key, key, key_bytes) != 0) {
            continue;
        }
        if (p->calls_pending) {
            return bad(p, "calls= without the cost behind it");
        }
        uint32_t text = 0;
        int code = 0;
        if (i == 4) {
            return read_function(p, value, bytes);
        }
        code = read_name(p, keys[i].space, value, bytes, &text);
        switch (i) {
        case 0:
            p->object = text;
            break;
        case 1:
            p->function_file = p->file = text;
            break;
        case 2:
        case 3:
            p->file = text;
            break;
        case 5:
            p->callee_object = text;
            p->has_callee_object = true;
            break;
        case 6:
        case 7:
            p->callee_file = text;
            p->has_callee_file = true;
            break;
        case 8:
            p->callee_name = text;
            p->has_callee = true;
            break;
        default:
            break; /* jfi, jfn: they only name ids */
        }
        return code;
    }
    return -ENOENT;
}

static int read_totals(struct parser *p, const char *at, const char *end)
{
    int64_t value;
    int code = read_event(p, &at, end, &value);
    if (code != 0) {
        return code;
    }
    if (__builtin_add_overflow(p->totals, value, &p->totals)) {
        return bad(p, "the totals are out of range");
    }
    p->has_totals = true;
    return 0;
}

/* "key: value" */
static int read_header(struct parser *p, const char *key, size_t key_bytes, const char *at,
                       const char *end)
{
    size_t bytes;
    const char *word;
    char name[16];
    snprintf(name, sizeof name, "%.*s", (int)key_bytes, key);
    if (strcmp(name, "version") == 0) {
        word = next_word(&at, end, &bytes);
        if (word == NULL || bytes != 1 || word[0] != '1') {
            return bad(p, "this version of the format is not known");
        }
    } else if (strcmp(name, "creator") == 0) {
        word = next_word(&at, end, &bytes);
        snprintf(p->profile->creator, sizeof p->profile->creator, "%.*s",
                 word != NULL ? (int)(bytes < 63 ? bytes : 63) : 0, word != NULL ? word : "");
    } else if (strcmp(name, "positions") == 0) {
        if (p->node != UINT32_MAX) {
            return bad(p, "positions: behind the first fn=");
        }
        p->position_count = 0;
        p->line_position = -1;
        while ((word = next_word(&at, end, &bytes)) != NULL) {
            bool is_line = bytes == 4 && memcmp(word, "line", 4) == 0;
            bool is_address = (bytes == 5 && memcmp(word, "instr", 5) == 0) ||
                              (bytes == 4 && memcmp(word, "addr", 4) == 0);
            if ((!is_line && !is_address) || p->position_count == 2) {
                return bad(p, "positions: takes instr and line");
            }
            if (is_line) {
                p->line_position = p->position_count;
            }
            p->position_count++;
        }
        if (p->position_count == 0) {
            return bad(p, "positions: is empty");
        }
    } else if (strcmp(name, "events") == 0) {
        p->event = -1;
        p->event_count = 0;
        while ((word = next_word(&at, end, &bytes)) != NULL) {
            if (bytes == 2 && memcmp(word, "Ir", 2) == 0) {
                p->event = p->event_count;
            }
            if (++p->event_count > 64) {
                return bad(p, "too many events");
            }
        }
        if (p->event < 0) {
            return bad(p, "the event Ir (instructions) is not among the events");
        }
    } else if (strcmp(name, "totals") == 0) {
        return p->event < 0 ? bad(p, "totals before the events: line") : read_totals(p, at, end);
    } else if (strcmp(name, "desc") == 0) {
        word = next_word(&at, end, &bytes);
        if (word != NULL && bytes == 4 && memcmp(word, "ops:", 4) == 0) {
            word = next_word(&at, end, &bytes);
            if (word == NULL || !profile_number(word, bytes, &p->profile->ops)) {
                return bad(p, "desc: ops: is not a number");
            }
        }
    }
    /* pid, thread, part, cmd, summary, event, and what later versions add: nothing of ours. */
    return 0;
}

static int read_line(struct parser *p, const char *text, size_t bytes)
{
    const char *end = text + bytes;
    if (bytes == 0 || text[0] == '#') {
        return 0;
    }
    char c = text[0];
    if ((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '*') {
        return read_cost(p, text, end);
    }
    size_t key_bytes = 0;
    while (key_bytes < bytes && text[key_bytes] != '=' && text[key_bytes] != ':') {
        key_bytes++;
    }
    if (key_bytes == bytes) {
        for (size_t i = 0; i < bytes; i++) {
            if (text[i] != ' ' && text[i] != '\t') {
                return bad(p, "neither a cost, nor key=value, nor key: value");
            }
        }
        return 0;
    }
    const char *value = text + key_bytes + 1;
    if (text[key_bytes] == ':') {
        return read_header(p, text, key_bytes, value, end);
    }
    if (key_bytes == 5 && memcmp(text, "calls", 5) == 0) {
        return read_calls(p, value, end);
    }
    if (key_bytes == 4 && (memcmp(text, "jump", 4) == 0 || memcmp(text, "jcnd", 4) == 0)) {
        p->jump_pending = true;
        return 0;
    }
    int code = read_specification(p, text, key_bytes, value, (size_t)(end - value));
    return code == -ENOENT ? bad(p, "unknown key") : code;
}

int callgrind_parse(struct callgrind *out, const char *text, size_t bytes, struct err *err)
{
    struct callgrind profile = {0};
    struct parser p = {
        .profile = &profile,
        .position_count = 1,
        .line_position = 0,
        .event = -1,
        .node = UINT32_MAX,
        .err = err,
    };
    struct profile_line line = {0};
    const char *cursor = text;
    int code = 0;
    p.object = p.file = p.function_file = profile_strings_id(&profile.strings, "???", 3);
    while (code == 0 && profile_next_line(&cursor, text + bytes, &line)) {
        p.line = line.number;
        code = read_line(&p, line.text, line.bytes);
    }
    if (code == 0 && p.event < 0) {
        code = err_set(err, -EBADMSG, "no events: line: not a callgrind file");
    } else if (code == 0 && p.calls_pending) {
        code = bad(&p, "the file ends behind calls=");
    } else if (code == 0 && !p.has_totals) {
        code = err_set(err, -EBADMSG, "line %" PRId64 ": no totals: line: the file is cut",
                       line.number);
    } else if (code == 0 && p.totals != profile.total) {
        code =
            err_set(err, -EBADMSG,
                    "the lines add up to %" PRId64 " instructions, the totals: line says %" PRId64,
                    profile.total, p.totals);
    }
    for (int i = 0; i < SPACE_COUNT; i++) {
        free(p.ids[i].texts);
    }
    free(p.nodes.slots);
    if (code != 0) {
        callgrind_fini(&profile);
        return code;
    }
    *out = profile;
    return 0;
}

void callgrind_fini(struct callgrind *profile)
{
    profile_strings_fini(&profile->strings);
    free(profile->nodes);
    free(profile->costs);
    free(profile->calls);
    *profile = (struct callgrind){0};
}
