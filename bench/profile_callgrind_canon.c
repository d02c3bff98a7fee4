/* What is kept of a callgrind file: the canonical file, and the costs below the region. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profile_callgrind.h"

#define NODE_NONE UINT32_MAX
#define NODE_MANY (UINT32_MAX - 1)

static void *zeroed(size_t count, size_t bytes)
{
    void *memory = calloc(count != 0 ? count : 1, bytes);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static int64_t add_clamped(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

struct frame {
    const char *text;
    size_t bytes;
};

static bool is_digits(const char *text, size_t bytes)
{
    int64_t ignored;
    return profile_number(text, bytes, &ignored);
}

/* Split "leaf'2'caller'caller2": out holds leaf first; numbers are recursion levels of the frame
 * before them, *out_level that of the leaf. Returns the count, at most CALLGRIND_FRAMES_MAX. */
static size_t split_frames(const char *name, struct frame out[CALLGRIND_FRAMES_MAX],
                           int64_t *out_level)
{
    size_t count = 0;
    *out_level = 0;
    for (const char *at = name; count < CALLGRIND_FRAMES_MAX;) {
        const char *stop = strchr(at, '\'');
        size_t bytes = stop != NULL ? (size_t)(stop - at) : strlen(at);
        if (count > 0 && is_digits(at, bytes)) {
            if (count == 1) {
                profile_number(at, bytes, out_level);
            }
        } else {
            out[count++] = (struct frame){at, bytes};
        }
        if (stop == NULL) {
            break;
        }
        at = stop + 1;
    }
    return count;
}

/* Which object and file a caller's bare name belongs to. A context names its callers without their
 * objects; a name that only one function of the file has is that function, and for the others the
 * calls are followed upwards. */
struct resolver {
    const struct callgrind *profile;
    struct profile_strings names; /* raw names of leaves */
    uint32_t *leaf; /* of a node: id in names */
    uint32_t *owner; /* of a name: a node with that leaf; NODE_MANY: several functions have it */
    uint32_t *parent; /* of a node: its only caller, NODE_NONE or NODE_MANY */
};

static void resolver_init(struct resolver *r, const struct callgrind *profile)
{
    *r = (struct resolver){.profile = profile};
    r->leaf = zeroed(profile->node_count, sizeof *r->leaf);
    r->parent = zeroed(profile->node_count, sizeof *r->parent);
    struct frame frames[CALLGRIND_FRAMES_MAX];
    int64_t level;
    for (size_t i = 0; i < profile->node_count; i++) {
        split_frames(profile->strings.texts[profile->nodes[i].name], frames, &level);
        r->leaf[i] = profile_strings_id(&r->names, frames[0].text, frames[0].bytes);
        r->parent[i] = NODE_NONE;
    }
    r->owner = zeroed(r->names.count, sizeof *r->owner);
    for (uint32_t i = 0; i < r->names.count; i++) {
        r->owner[i] = NODE_NONE;
    }
    for (size_t i = 0; i < profile->node_count; i++) {
        uint32_t *owner = &r->owner[r->leaf[i]];
        if (*owner == NODE_NONE) {
            *owner = (uint32_t)i;
        } else if (*owner != NODE_MANY &&
                   (profile->nodes[*owner].object != profile->nodes[i].object ||
                    profile->nodes[*owner].file != profile->nodes[i].file)) {
            *owner = NODE_MANY;
        }
    }
    for (size_t i = 0; i < profile->call_count; i++) {
        const struct callgrind_call *call = &profile->calls[i];
        uint32_t *parent = &r->parent[call->callee];
        if (call->caller != call->callee && *parent != call->caller) {
            *parent = *parent == NODE_NONE ? call->caller : NODE_MANY;
        }
    }
}

static void resolver_fini(struct resolver *r)
{
    profile_strings_fini(&r->names);
    free(r->leaf);
    free(r->owner);
    free(r->parent);
}

/* The node whose leaf is frame `index` of node's stack; NODE_NONE when it cannot be told. */
static uint32_t resolve(struct resolver *r, uint32_t node, const struct frame *frames, size_t index)
{
    if (index == 0) {
        return node;
    }
    uint32_t known = r->names.count;
    uint32_t name = profile_strings_id(&r->names, frames[index].text, frames[index].bytes);
    if (name >= known) {
        /* Above the region: never a leaf itself, so it has no owner. Forget it again? The table
         * only grows by the few frames above START. */
        r->owner = reallocarray(r->owner, r->names.count, sizeof *r->owner);
        if (r->owner == NULL) {
            abort();
        }
        r->owner[name] = NODE_NONE;
        return NODE_NONE;
    }
    if (r->owner[name] != NODE_MANY) {
        return r->owner[name];
    }
    size_t at = 0;
    uint32_t current = node;
    for (int steps = 0; steps < 2 * CALLGRIND_FRAMES_MAX; steps++) {
        current = r->parent[current];
        if (current == NODE_NONE || current == NODE_MANY) {
            return NODE_NONE;
        }
        const char *leaf = r->names.texts[r->leaf[current]];
        const struct frame *next = &frames[at + 1];
        if (strlen(leaf) == next->bytes && memcmp(leaf, next->text, next->bytes) == 0) {
            at++;
        } else if (strlen(leaf) != frames[at].bytes ||
                   memcmp(leaf, frames[at].text, frames[at].bytes) != 0) {
            return NODE_NONE;
        }
        if (at == index) {
            return current;
        }
    }
    return NODE_NONE;
}

/* Append a frame's name as it may be kept: an address becomes "libname:[stripped]". */
static void put_frame(struct buf *out, const struct callgrind *profile, uint32_t node,
                      const struct frame *frame, bool plain)
{
    if (profile_name_is_address(frame->text, frame->bytes)) {
        profile_stripped_name(
            out, node == NODE_NONE ? "???" : profile->strings.texts[profile->nodes[node].object]);
    } else if (plain) {
        profile_name_plain(out, frame->text, frame->bytes);
    } else {
        buf_append(out, frame->text, frame->bytes);
    }
}

/* --- the canonical file --- */

struct canon_node {
    uint32_t object; /* ids in canon.strings */
    uint32_t file;
    uint32_t name;
    uint32_t rank; /* place in the order of the file */
};

struct canon_row {
    uint32_t node; /* rank */
    uint32_t file_order; /* 0: the node's own file, else 1 + rank of the file */
    uint32_t file; /* id in canon.strings */
    uint32_t callee; /* index of a canon node, NODE_NONE for a cost */
    uint32_t callee_rank;
    int64_t line;
    int64_t callee_line;
    int64_t count;
    int64_t value;
};

struct canon {
    struct profile_strings strings;
    uint32_t *string_rank; /* by id: order of the texts */
    struct canon_node *nodes; /* by raw node */
    uint32_t *by_rank; /* raw node that stands for a rank */
    size_t rank_count;
};

static int compare_strings_at(const void *a, const void *b, void *context)
{
    const struct profile_strings *strings = context;
    return strcmp(strings->texts[*(const uint32_t *)a], strings->texts[*(const uint32_t *)b]);
}

static int compare_nodes_at(const void *a, const void *b, void *context)
{
    const struct canon *canon = context;
    const struct canon_node *x = &canon->nodes[*(const uint32_t *)a];
    const struct canon_node *y = &canon->nodes[*(const uint32_t *)b];
    const uint32_t xs[] = {canon->string_rank[x->object], canon->string_rank[x->file],
                           canon->string_rank[x->name]};
    const uint32_t ys[] = {canon->string_rank[y->object], canon->string_rank[y->file],
                           canon->string_rank[y->name]};
    for (int i = 0; i < 3; i++) {
        if (xs[i] != ys[i]) {
            return xs[i] < ys[i] ? -1 : 1;
        }
    }
    return 0;
}

static int compare_canon_rows(const void *a, const void *b)
{
    const struct canon_row *x = a;
    const struct canon_row *y = b;
    const int64_t xs[] = {x->node, x->file_order, x->line, x->callee_rank, x->callee_line};
    const int64_t ys[] = {y->node, y->file_order, y->line, y->callee_rank, y->callee_line};
    for (int i = 0; i < 5; i++) {
        if (xs[i] != ys[i]) {
            return xs[i] < ys[i] ? -1 : 1;
        }
    }
    return 0;
}

static uint32_t canon_path(struct canon *canon, const char *path, const char *const *local_paths)
{
    struct buf text = BUF_INIT;
    profile_path_plain(&text, path, strlen(path), local_paths);
    uint32_t id = profile_strings_id(&canon->strings, text.data, text.bytes);
    buf_fini(&text);
    return id;
}

static void canon_name(struct buf *out, struct resolver *r, uint32_t node, bool merge_callers)
{
    struct frame frames[CALLGRIND_FRAMES_MAX];
    int64_t level;
    size_t count =
        split_frames(r->profile->strings.texts[r->profile->nodes[node].name], frames, &level);
    for (size_t i = 0; i < (merge_callers ? 1 : count); i++) {
        if (i > 0) {
            buf_puts(out, "'");
        }
        bool address = profile_name_is_address(frames[i].text, frames[i].bytes);
        uint32_t owner = address ? resolve(r, node, frames, i) : NODE_NONE;
        put_frame(out, r->profile, owner, &frames[i], false);
        /* Grouped code has no recursion of its own to tell. */
        if (i == 0 && level > 0 && !address) {
            buf_printf(out, "'%" PRId64, level);
        }
    }
}

static void canon_init(struct canon *canon, const struct callgrind *profile,
                       const struct callgrind_write_options *options, uint32_t **out_files)
{
    struct resolver r;
    struct buf name = BUF_INIT;
    *canon = (struct canon){0};
    resolver_init(&r, profile);
    /* Paths repeat: clean each raw string once. */
    uint32_t *files = zeroed(profile->strings.count, sizeof *files);
    canon->nodes = zeroed(profile->node_count, sizeof *canon->nodes);
    for (size_t i = 0; i < profile->cost_count + profile->call_count + profile->node_count; i++) {
        uint32_t raw = i < profile->cost_count ? profile->costs[i].file
                       : i < profile->cost_count + profile->call_count
                           ? profile->calls[i - profile->cost_count].file
                           : profile->nodes[i - profile->cost_count - profile->call_count].file;
        if (files[raw] == 0) {
            files[raw] = 1 + canon_path(canon, profile->strings.texts[raw], options->local_paths);
        }
    }
    for (size_t i = 0; i < profile->node_count; i++) {
        const struct callgrind_node *node = &profile->nodes[i];
        const char *object = profile_base_name(profile->strings.texts[node->object]);
        buf_clear(&name);
        canon_name(&name, &r, (uint32_t)i, options->merge_callers);
        canon->nodes[i].object = canon_path(canon, object, NULL);
        canon->nodes[i].file = files[node->file] - 1;
        canon->nodes[i].name = profile_strings_id(&canon->strings, name.data, name.bytes);
    }
    uint32_t *order = zeroed(canon->strings.count, sizeof *order);
    canon->string_rank = zeroed(canon->strings.count, sizeof *canon->string_rank);
    for (uint32_t i = 0; i < canon->strings.count; i++) {
        order[i] = i;
    }
    qsort_r(order, canon->strings.count, sizeof *order, compare_strings_at, &canon->strings);
    for (uint32_t i = 0; i < canon->strings.count; i++) {
        canon->string_rank[order[i]] = i;
    }
    free(order);
    canon->by_rank = zeroed(profile->node_count, sizeof *canon->by_rank);
    uint32_t *nodes = zeroed(profile->node_count, sizeof *nodes);
    for (uint32_t i = 0; i < profile->node_count; i++) {
        nodes[i] = i;
    }
    qsort_r(nodes, profile->node_count, sizeof *nodes, compare_nodes_at, canon);
    for (size_t i = 0; i < profile->node_count; i++) {
        if (i == 0 || compare_nodes_at(&nodes[i - 1], &nodes[i], canon) != 0) {
            canon->by_rank[canon->rank_count++] = nodes[i];
        }
        canon->nodes[nodes[i]].rank = (uint32_t)canon->rank_count - 1;
    }
    free(nodes);
    buf_fini(&name);
    resolver_fini(&r);
    *out_files = files;
}

static uint32_t file_order(const struct canon *canon, uint32_t node, uint32_t file)
{
    return canon->nodes[node].file == file ? 0 : 1 + canon->string_rank[file];
}

static size_t canon_rows(const struct canon *canon, const struct callgrind *profile,
                         const uint32_t *files, struct canon_row *rows)
{
    size_t count = 0;
    for (size_t i = 0; i < profile->cost_count; i++) {
        const struct callgrind_cost *cost = &profile->costs[i];
        uint32_t file = files[cost->file] - 1;
        rows[count++] = (struct canon_row){
            .node = canon->nodes[cost->node].rank,
            .file_order = file_order(canon, cost->node, file),
            .file = file,
            .callee = NODE_NONE,
            .line = cost->line,
            .value = cost->self,
        };
    }
    for (size_t i = 0; i < profile->call_count; i++) {
        const struct callgrind_call *call = &profile->calls[i];
        uint32_t file = files[call->file] - 1;
        rows[count++] = (struct canon_row){
            .node = canon->nodes[call->caller].rank,
            .file_order = file_order(canon, call->caller, file),
            .file = file,
            .callee = canon->by_rank[canon->nodes[call->callee].rank],
            .callee_rank = 1 + canon->nodes[call->callee].rank,
            .line = call->line,
            .callee_line = call->callee_line,
            .count = call->count,
            .value = call->inclusive,
        };
    }
    qsort(rows, count, sizeof *rows, compare_canon_rows);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && compare_canon_rows(&rows[kept - 1], &rows[i]) == 0) {
            rows[kept - 1].value = add_clamped(rows[kept - 1].value, rows[i].value);
            rows[kept - 1].count = add_clamped(rows[kept - 1].count, rows[i].count);
        } else {
            rows[kept++] = rows[i];
        }
    }
    return kept;
}

/* The three name spaces of the format, each with numbers in order of appearance. */
struct name_writer {
    const struct profile_strings *strings;
    uint32_t *numbers; /* by string id; 0: not named yet */
    uint32_t used;
};

static void put_name(struct buf *out, struct name_writer *writer, const char *key, uint32_t text)
{
    if (writer->numbers[text] != 0) {
        buf_printf(out, "%s=(%u)\n", key, writer->numbers[text]);
        return;
    }
    writer->numbers[text] = ++writer->used;
    buf_printf(out, "%s=(%u) ", key, writer->used);
    /* A name of blanks would read back as none: "(3)" without a name is a use, not a definition. */
    const char *name = writer->strings->texts[text];
    for (size_t i = 0; name[i] != '\0'; i++) {
        unsigned char c = (unsigned char)name[i];
        char safe =
            c < 0x20 || c == 0x7f || (c == ' ' && (i == 0 || name[i + 1] == '\0')) ? '_' : (char)c;
        buf_append(out, &safe, 1);
    }
    buf_puts(out, name[0] == '\0' ? "???\n" : "\n");
}

void callgrind_write(struct buf *out, const struct callgrind *profile,
                     const struct callgrind_write_options *options)
{
    struct canon canon;
    uint32_t *files;
    canon_init(&canon, profile, options, &files);
    struct canon_row *rows = zeroed(profile->cost_count + profile->call_count, sizeof *rows);
    size_t count = canon_rows(&canon, profile, files, rows);
    struct name_writer objects = {&canon.strings, zeroed(canon.strings.count, sizeof(uint32_t)), 0};
    struct name_writer paths = {&canon.strings, zeroed(canon.strings.count, sizeof(uint32_t)), 0};
    struct name_writer names = {&canon.strings, zeroed(canon.strings.count, sizeof(uint32_t)), 0};
    buf_printf(
        out,
        "# callgrind format\nversion: 1\ncreator: %s\npid: 1\ncmd: measured program\n"
        "part: 1\ndesc: ops: %" PRId64 "\npositions: line\nevents: Ir\nsummary: %" PRId64 "\n",
        profile->creator[0] != '\0' ? profile->creator : "callgrind", options->ops, profile->total);
    const struct canon_node *node = NULL;
    uint32_t file = 0;
    for (size_t i = 0; i < count; i++) {
        const struct canon_row *row = &rows[i];
        if (i == 0 || rows[i - 1].node != row->node) {
            node = &canon.nodes[canon.by_rank[row->node]];
            buf_puts(out, "\n");
            put_name(out, &objects, "ob", node->object);
            put_name(out, &paths, "fl", node->file);
            put_name(out, &names, "fn", node->name);
            file = node->file;
        }
        if (row->file != file) {
            put_name(out, &paths, "fi", row->file);
            file = row->file;
        }
        if (row->callee == NODE_NONE) {
            buf_printf(out, "%" PRId64 " %" PRId64 "\n", row->line, row->value);
            continue;
        }
        const struct canon_node *callee = &canon.nodes[row->callee];
        if (callee->object != node->object) {
            put_name(out, &objects, "cob", callee->object);
        }
        if (callee->file != file) {
            put_name(out, &paths, "cfi", callee->file);
        }
        put_name(out, &names, "cfn", callee->name);
        buf_printf(out, "calls=%" PRId64 " %" PRId64 "\n%" PRId64 " %" PRId64 "\n", row->count,
                   row->callee_line, row->line, row->value);
    }
    buf_printf(out, "\ntotals: %" PRId64 "\n", profile->total);
    free(objects.numbers);
    free(paths.numbers);
    free(names.numbers);
    free(rows);
    free(files);
    free(canon.nodes);
    free(canon.by_rank);
    free(canon.string_rank);
    profile_strings_fini(&canon.strings);
}

/* --- the region --- */

/* Functions by identity, "name\tobject\tfile". */
struct function_sums {
    struct profile_strings keys;
    struct profile_strings names; /* plain names */
    uint32_t *key_count; /* by name: how many functions have it, to tell homonyms apart */
    uint32_t *key_name; /* by key */
    int64_t *self;
    int64_t *inclusive;
    int64_t *calls;
    size_t capacity;
};

static uint32_t function_key(struct function_sums *sums, const struct callgrind *profile,
                             uint32_t node, const struct frame *frame,
                             const char *const *local_paths)
{
    struct buf text = BUF_INIT;
    put_frame(&text, profile, node, frame, true);
    uint32_t names = sums->names.count;
    uint32_t name = profile_strings_id(&sums->names, text.data, text.bytes);
    if (name >= names) {
        sums->key_count = reallocarray(sums->key_count, sums->names.count, sizeof(uint32_t));
        if (sums->key_count == NULL) {
            abort();
        }
        sums->key_count[name] = 0;
    }
    buf_puts(&text, "\t");
    if (node == NODE_NONE) {
        buf_puts(&text, "???\t???");
    } else {
        const char *file = profile->strings.texts[profile->nodes[node].file];
        profile_path_plain(
            &text, profile_base_name(profile->strings.texts[profile->nodes[node].object]),
            strlen(profile_base_name(profile->strings.texts[profile->nodes[node].object])), NULL);
        buf_puts(&text, "\t");
        if (profile_name_is_address(frame->text, frame->bytes)) {
            buf_puts(&text, "???");
        } else {
            profile_path_plain(&text, file, strlen(file), local_paths);
        }
    }
    uint32_t keys = sums->keys.count;
    uint32_t key = profile_strings_id(&sums->keys, text.data, text.bytes);
    if (key >= keys) {
        sums->key_count[name]++;
        if (sums->keys.count > sums->capacity) {
            size_t capacity = sums->capacity == 0 ? 256 : sums->capacity * 2;
            sums->key_name = reallocarray(sums->key_name, capacity, sizeof(uint32_t));
            sums->self = reallocarray(sums->self, capacity, sizeof(int64_t));
            sums->inclusive = reallocarray(sums->inclusive, capacity, sizeof(int64_t));
            sums->calls = reallocarray(sums->calls, capacity, sizeof(int64_t));
            if (sums->key_name == NULL || sums->self == NULL || sums->inclusive == NULL ||
                sums->calls == NULL) {
                abort();
            }
            sums->capacity = capacity;
        }
        sums->key_name[key] = name;
        sums->self[key] = sums->inclusive[key] = sums->calls[key] = 0;
    }
    buf_fini(&text);
    return key;
}

static void function_sums_fini(struct function_sums *sums)
{
    profile_strings_fini(&sums->keys);
    profile_strings_fini(&sums->names);
    free(sums->key_count);
    free(sums->key_name);
    free(sums->self);
    free(sums->inclusive);
    free(sums->calls);
}

/* "name", or "name@object" where several functions of the profile have that name. */
static void put_label(struct buf *out, const struct function_sums *sums, uint32_t key)
{
    const char *text = sums->keys.texts[key];
    uint32_t name = sums->key_name[key];
    buf_puts(out, sums->names.texts[name]);
    if (sums->key_count[name] > 1) {
        const char *object = strchr(text, '\t') + 1;
        buf_printf(out, "@%.*s", (int)strcspn(object, "\t"), object);
    }
}

struct stack {
    uint32_t *keys; /* leaf first, the region frame last */
    size_t count; /* 0: not under the region */
};

static void put_stacks(struct callgrind_region *out, const struct function_sums *sums,
                       const struct stack *stacks, const int64_t *self, size_t count)
{
    struct buf text = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        if (stacks[i].count == 0 || self[i] == 0) {
            continue;
        }
        buf_clear(&text);
        for (size_t f = stacks[i].count; f-- > 0;) {
            put_label(&text, sums, stacks[i].keys[f]);
            buf_puts(&text, f > 0 ? ";" : "");
        }
        profile_table_add(&out->stacks, (const char *const[]){text.data})->value[0] = self[i];
    }
    profile_table_sort(&out->stacks);
    buf_fini(&text);
}

static void put_functions(struct callgrind_region *out, const struct function_sums *sums)
{
    for (uint32_t key = 0; key < sums->keys.count; key++) {
        char *copy = strdup(sums->keys.texts[key]);
        if (copy == NULL) {
            abort();
        }
        char *rest = copy;
        const char *texts[3];
        for (int i = 0; i < 3; i++) {
            texts[i] = strsep(&rest, "\t");
        }
        struct profile_row *row = profile_table_add(&out->functions, texts);
        row->value[FUNCTION_SELF] = sums->self[key];
        row->value[FUNCTION_INCLUSIVE] = sums->inclusive[key];
        row->value[FUNCTION_CALLS] = sums->calls[key];
        free(copy);
    }
    profile_table_sort(&out->functions);
}

/* The stack of a node, cut at the outermost frame named `region`. */
static void read_stack(struct stack *out, struct function_sums *sums, struct resolver *r,
                       uint32_t node, const char *region, const char *const *local_paths,
                       size_t *out_frames)
{
    struct frame frames[CALLGRIND_FRAMES_MAX];
    int64_t level;
    struct buf plain = BUF_INIT;
    size_t count =
        split_frames(r->profile->strings.texts[r->profile->nodes[node].name], frames, &level);
    *out_frames = count;
    *out = (struct stack){0};
    for (size_t f = count; f-- > 0 && out->count == 0;) {
        buf_clear(&plain);
        profile_name_plain(&plain, frames[f].text, frames[f].bytes);
        if (strcmp(plain.data, region) == 0) {
            out->count = f + 1;
        }
    }
    buf_fini(&plain);
    if (out->count == 0) {
        return;
    }
    out->keys = zeroed(out->count, sizeof *out->keys);
    for (size_t f = 0; f < out->count; f++) {
        uint32_t owner = resolve(r, node, frames, f);
        out->keys[f] = function_key(sums, r->profile, owner, &frames[f], local_paths);
    }
}

int callgrind_region(struct callgrind_region *out, const struct callgrind *profile,
                     const char *region, size_t callers_max, const char *const *local_paths,
                     struct err *err)
{
    struct resolver r;
    struct function_sums sums = {0};
    struct stack *stacks = zeroed(profile->node_count, sizeof *stacks);
    int64_t *self = zeroed(profile->node_count, sizeof *self);
    int64_t outside_max = 0;
    int code = 0;
    *out = (struct callgrind_region){0};
    profile_table_init(&out->functions, PROFILE_TABLE_FUNCTIONS);
    profile_table_init(&out->stacks, PROFILE_TABLE_FOLDED);
    resolver_init(&r, profile);
    for (size_t i = 0; i < profile->cost_count; i++) {
        self[profile->costs[i].node] += profile->costs[i].self; /* total was checked to fit */
    }
    for (size_t i = 0; i < profile->node_count && code == 0; i++) {
        size_t frames;
        read_stack(&stacks[i], &sums, &r, (uint32_t)i, region, local_paths, &frames);
        if (stacks[i].count > 0) {
            out->inside += self[i];
            sums.self[stacks[i].keys[0]] += self[i];
            for (size_t f = 0; f < stacks[i].count; f++) {
                bool counted = false;
                for (size_t g = 0; g < f && !counted; g++) {
                    counted = stacks[i].keys[g] == stacks[i].keys[f];
                }
                sums.inclusive[stacks[i].keys[f]] += counted ? 0 : self[i];
            }
            continue;
        }
        out->outside += self[i];
        if (self[i] > 0 && frames >= callers_max) {
            code = err_set(err, -ERANGE,
                           "a stack of %zu frames ends before %s: raise the number of callers",
                           frames, region);
        }
        if (self[i] > outside_max) {
            outside_max = self[i];
            snprintf(out->outside_function, sizeof out->outside_function, "%s",
                     r.names.texts[r.leaf[i]]);
        }
    }
    if (code == 0 && out->inside == 0) {
        code =
            err_set(err, -ENODATA,
                    "no instruction was counted below %s: it was inlined or never called", region);
    }
    if (code == 0) {
        for (size_t i = 0; i < profile->call_count; i++) {
            const struct stack *stack = &stacks[profile->calls[i].callee];
            if (stack->count > 0) {
                int64_t *calls = &sums.calls[stack->keys[0]];
                *calls = add_clamped(*calls, profile->calls[i].count);
            }
        }
        put_stacks(out, &sums, stacks, self, profile->node_count);
        put_functions(out, &sums);
    } else {
        callgrind_region_fini(out);
    }
    for (size_t i = 0; i < profile->node_count; i++) {
        free(stacks[i].keys);
    }
    free(stacks);
    free(self);
    function_sums_fini(&sums);
    resolver_fini(&r);
    return code;
}

void callgrind_region_fini(struct callgrind_region *region)
{
    profile_table_fini(&region->functions);
    profile_table_fini(&region->stacks);
    *region = (struct callgrind_region){0};
}
