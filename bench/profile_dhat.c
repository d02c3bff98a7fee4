#include "profile_dhat.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const char *const value_keys[DHAT_VALUES] = {
    [DHAT_TB] = "tb",   [DHAT_TBK] = "tbk", [DHAT_TL] = "tl",   [DHAT_MB] = "mb",
    [DHAT_MBK] = "mbk", [DHAT_GB] = "gb",   [DHAT_GBK] = "gbk", [DHAT_EB] = "eb",
    [DHAT_EBK] = "ebk", [DHAT_RB] = "rb",   [DHAT_WB] = "wb",
};

static void *grown(void *array, size_t count, size_t element)
{
    void *memory = reallocarray(array, count, element);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* "0x1092E9: leaf (t.c:5)" -> "0x0: leaf (t.c:5)"; "[root]" as it is. */
static void put_frame(struct buf *out, const char *frame, const char *const *local_paths)
{
    size_t bytes = strlen(frame);
    const char *colon = strchr(frame, ':');
    if (colon == NULL || !profile_name_is_address(frame, (size_t)(colon - frame))) {
        buf_puts(out, frame);
        return;
    }
    const char *open = strrchr(frame, '(');
    buf_puts(out, "0x0");
    if (open == NULL || open < colon || frame[bytes - 1] != ')') {
        buf_puts(out, colon);
        return;
    }
    buf_append(out, colon, (size_t)(open - colon) + 1);
    if (strncmp(open + 1, "in ", 3) == 0) {
        buf_puts(out, "in ");
        buf_puts(out, profile_base_name(open + 4));
        return;
    }
    profile_path_plain(out, open + 1, (size_t)(frame + bytes - 1 - (open + 1)), local_paths);
    buf_puts(out, ")");
}

static int read_frames(struct dhat_point *point, const struct json *json, const uint32_t *table,
                       size_t table_count, size_t index, struct err *err)
{
    const struct json *list = json_get(json, "fs");
    if (list == NULL || json_type(list) != JSON_ARRAY) {
        return err_set(err, -EBADMSG, "pps[%zu].fs is no array", index);
    }
    for (const struct json *c = json_first(list); c != NULL; c = json_next(c)) {
        int64_t frame = json_int(c, -1);
        if (frame < 0 || (uint64_t)frame >= table_count) {
            return err_set(err, -EBADMSG, "pps[%zu].fs names a frame outside ftbl", index);
        }
        if (point->frame_count == DHAT_FRAMES_MAX) {
            return err_set(err, -ERANGE, "pps[%zu].fs has more than %d frames", index,
                           DHAT_FRAMES_MAX);
        }
        point->frames = grown(point->frames, point->frame_count + 1, sizeof *point->frames);
        point->frames[point->frame_count++] = table[frame];
    }
    return 0;
}

static int read_points(struct dhat *profile, const struct json *root, const uint32_t *table,
                       size_t table_count, struct err *err)
{
    const struct json *list = json_get(root, "pps");
    if (list == NULL || json_type(list) != JSON_ARRAY) {
        return err_set(err, -EBADMSG, "pps is no array: not a DHAT file");
    }
    size_t count = json_count(list);
    if (count > DHAT_POINTS_MAX) {
        return err_set(err, -ERANGE, "more than %u program points", DHAT_POINTS_MAX);
    }
    profile->points = grown(NULL, count + 1, sizeof *profile->points);
    for (const struct json *c = json_first(list); c != NULL; c = json_next(c)) {
        size_t index = profile->count;
        struct dhat_point *point = &profile->points[profile->count++];
        *point = (struct dhat_point){0};
        for (int v = 0; v < DHAT_VALUES; v++) {
            point->value[v] = json_int(json_get(c, value_keys[v]), -1);
            if (point->value[v] < 0) {
                return err_set(err, -EBADMSG, "pps[%zu].%s is no whole number from 0", index,
                               value_keys[v]);
            }
        }
        int code = read_frames(point, c, table, table_count, index, err);
        if (code != 0) {
            return code;
        }
        if (point->value[DHAT_EB] > point->value[DHAT_TB] ||
            point->value[DHAT_GB] > point->value[DHAT_TB] ||
            point->value[DHAT_EBK] > point->value[DHAT_TBK]) {
            return err_set(err, -EBADMSG, "pps[%zu] holds more than it ever allocated", index);
        }
    }
    return 0;
}

static int compare_points(const void *a, const void *b, void *context)
{
    const struct profile_strings *strings = context;
    const struct dhat_point *x = a;
    const struct dhat_point *y = b;
    for (size_t i = 0; i < x->frame_count && i < y->frame_count; i++) {
        if (x->frames[i] != y->frames[i]) {
            return strcmp(strings->texts[x->frames[i]], strings->texts[y->frames[i]]);
        }
    }
    return (x->frame_count > y->frame_count) - (x->frame_count < y->frame_count);
}

static void join_points(struct dhat *profile)
{
    size_t kept = 0;
    qsort_r(profile->points, profile->count, sizeof *profile->points, compare_points,
            &profile->strings);
    for (size_t i = 0; i < profile->count; i++) {
        struct dhat_point *point = &profile->points[i];
        struct dhat_point *last = kept > 0 ? &profile->points[kept - 1] : NULL;
        if (last == NULL || compare_points(last, point, &profile->strings) != 0) {
            profile->points[kept++] = *point;
            continue;
        }
        for (int v = 0; v < DHAT_VALUES; v++) {
            if (v == DHAT_MB || v == DHAT_MBK) {
                last->value[v] =
                    last->value[v] > point->value[v] ? last->value[v] : point->value[v];
            } else if (__builtin_add_overflow(last->value[v], point->value[v], &last->value[v])) {
                last->value[v] = INT64_MAX;
            }
        }
        free(point->frames);
    }
    profile->count = kept;
}

static int read_table(struct dhat *profile, const struct json *root, const char *const *local_paths,
                      uint32_t **out_table, size_t *out_count, struct err *err)
{
    const struct json *list = json_get(root, "ftbl");
    struct buf frame = BUF_INIT;
    if (list == NULL || json_type(list) != JSON_ARRAY) {
        return err_set(err, -EBADMSG, "ftbl is no array: not a DHAT file");
    }
    uint32_t *table = grown(NULL, json_count(list) + 1, sizeof *table);
    size_t count = 0;
    for (const struct json *c = json_first(list); c != NULL; c = json_next(c)) {
        const char *text = json_string(c, NULL);
        if (text == NULL) {
            free(table);
            buf_fini(&frame);
            return err_set(err, -EBADMSG, "ftbl[%zu] is no text", count);
        }
        buf_clear(&frame);
        put_frame(&frame, text, local_paths);
        table[count++] = profile_strings_id(&profile->strings, frame.data, frame.bytes);
    }
    buf_fini(&frame);
    *out_table = table;
    *out_count = count;
    return 0;
}

int dhat_parse(struct dhat *out, const char *text, size_t bytes, const char *const *local_paths,
               struct err *err)
{
    struct dhat profile = {0};
    uint32_t *table = NULL;
    size_t table_count = 0;
    struct json *root = json_parse(text, bytes, err);
    if (root == NULL) {
        return -EBADMSG;
    }
    int code = 0;
    if (json_int(json_get(root, "dhatFileVersion"), -1) != 2) {
        code = err_set(err, -EBADMSG, "dhatFileVersion is not 2");
    } else if (strcmp(json_string(json_get(root, "mode"), ""), "heap") != 0 ||
               !json_bool(json_get(root, "bklt"), false) ||
               !json_bool(json_get(root, "bkacc"), false)) {
        code = err_set(err, -EBADMSG, "not a heap profile with lifetimes and accesses");
    }
    if (code == 0) {
        code = read_table(&profile, root, local_paths, &table, &table_count, err);
    }
    if (code == 0) {
        code = read_points(&profile, root, table, table_count, err);
    }
    free(table);
    json_free(root);
    if (code != 0) {
        dhat_fini(&profile);
        return code;
    }
    join_points(&profile);
    *out = profile;
    return 0;
}

void dhat_fini(struct dhat *profile)
{
    for (size_t i = 0; i < profile->count; i++) {
        free(profile->points[i].frames);
    }
    free(profile->points);
    profile_strings_fini(&profile->strings);
    *profile = (struct dhat){0};
}

/* The function of a canonical frame: "0x0: leaf (t.c:5)" -> "leaf". */
static void put_function(struct buf *out, const char *frame)
{
    static const char head[] = "0x0: ";
    if (strncmp(frame, head, sizeof head - 1) != 0) {
        profile_name_plain(out, frame, strlen(frame));
        return;
    }
    frame += sizeof head - 1;
    const char *open = strrchr(frame, '(');
    size_t bytes = open != NULL && open > frame + 1 ? (size_t)(open - frame) - 1 : strlen(frame);
    if (bytes == 3 && memcmp(frame, "???", 3) == 0 && open != NULL &&
        strncmp(open, "(in ", 4) == 0) {
        char *object = strndup(open + 4, strcspn(open + 4, ")"));
        if (object == NULL) {
            abort();
        }
        profile_stripped_name(out, object);
        free(object);
        return;
    }
    profile_name_plain(out, frame, bytes);
}

/* malloc and its relatives: Valgrind's own frames, in vgpreload_dhat or vg_replace_malloc.c. */
static bool is_allocator(const char *frame)
{
    return strstr(frame, "(in vgpreload_") != NULL || strstr(frame, "vg_replace_malloc.c") != NULL;
}

void dhat_sites(struct profile_table *out, const struct dhat *profile)
{
    struct buf site = BUF_INIT;
    struct buf function = BUF_INIT;
    profile_table_init(out, PROFILE_TABLE_HEAP);
    for (size_t i = 0; i < profile->count; i++) {
        const struct dhat_point *point = &profile->points[i];
        size_t leaf = 0;
        while (leaf + 1 < point->frame_count &&
               is_allocator(profile->strings.texts[point->frames[leaf]])) {
            leaf++;
        }
        buf_clear(&site);
        for (size_t f = point->frame_count; f-- > leaf;) {
            buf_clear(&function);
            put_function(&function, profile->strings.texts[point->frames[f]]);
            buf_printf(&site, "%s%s", site.bytes > 0 ? ";" : "", function.data);
        }
        struct profile_row *row =
            profile_table_add(out, (const char *const[]){site.bytes > 0 ? site.data : "???"});
        row->value[HEAP_BLOCKS] = point->value[DHAT_TBK];
        row->value[HEAP_BYTES] = point->value[DHAT_TB];
        row->value[HEAP_LIVE_BLOCKS] = point->value[DHAT_EBK];
        row->value[HEAP_LIVE_BYTES] = point->value[DHAT_EB];
        row->value[HEAP_PEAK_BLOCKS] = point->value[DHAT_GBK];
        row->value[HEAP_PEAK_BYTES] = point->value[DHAT_GB];
    }
    profile_table_sort(out);
    buf_fini(&site);
    buf_fini(&function);
}

static int compare_ids(const void *a, const void *b, void *context)
{
    const struct profile_strings *strings = context;
    return strcmp(strings->texts[*(const uint32_t *)a], strings->texts[*(const uint32_t *)b]);
}

static void put_json_string(struct buf *out, const char *text)
{
    struct json *json = json_new_string(text);
    char *printed = json_print(json);
    buf_puts(out, printed);
    free(printed);
    json_free(json);
}

void dhat_write(struct buf *out, const struct dhat *profile)
{
    uint32_t count = profile->strings.count;
    uint32_t *order = grown(NULL, count + 1, sizeof *order);
    uint32_t *rank = grown(NULL, count + 1, sizeof *rank);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
    }
    qsort_r(order, count, sizeof *order, compare_ids, (void *)(uintptr_t)&profile->strings);
    for (uint32_t i = 0; i < count; i++) {
        rank[order[i]] = i;
    }
    /* Times count the instructions of the whole process, start-up and environment included: they
     * are the one thing that differs between equal runs, so they are left at nothing. */
    buf_puts(out, "{\"dhatFileVersion\":2\n,\"mode\":\"heap\",\"verb\":\"Allocated\"\n"
                  ",\"bklt\":true,\"bkacc\":true\n,\"tu\":\"instrs\",\"Mtu\":\"Minstr\"\n"
                  ",\"tuth\":500\n,\"cmd\":\"measured program\"\n,\"pid\":1\n,\"te\":1\n,\"tg\":0\n"
                  ",\"pps\":\n [");
    for (size_t i = 0; i < profile->count; i++) {
        const struct dhat_point *point = &profile->points[i];
        buf_puts(out, i > 0 ? "\n ,{" : "{");
        for (int v = 0; v < DHAT_VALUES; v++) {
            buf_printf(out, "%s\"%s\":%" PRId64, v > 0 ? "," : "", value_keys[v],
                       v == DHAT_TL ? 0 : point->value[v]);
        }
        buf_puts(out, ",\"fs\":[");
        for (size_t f = 0; f < point->frame_count; f++) {
            buf_printf(out, "%s%u", f > 0 ? "," : "", rank[point->frames[f]]);
        }
        buf_puts(out, "]}");
    }
    buf_puts(out, "\n ]\n,\"ftbl\":\n [");
    for (uint32_t i = 0; i < count; i++) {
        buf_puts(out, i > 0 ? "\n ," : "");
        put_json_string(out, profile->strings.texts[order[i]]);
    }
    buf_puts(out, "\n ]\n}\n");
    free(order);
    free(rank);
}
