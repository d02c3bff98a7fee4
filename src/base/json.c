#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/buf.h"

/* struct json is never defined: a pointer to it is a pointer to a cJSON in other clothes. */
static cJSON *in(const struct json *json)
{
    return (cJSON *)(uintptr_t)json;
}

static struct json *out(cJSON *item)
{
    if (item == NULL) {
        abort(); /* cJSON returns NULL from constructors only when out of memory */
    }
    return (struct json *)item;
}

/* Bytes of the UTF-8 sequence at p (1..4), 0 when malformed. Source: RFC 3629 section 4. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    if (p[0] < 0x80) {
        return 1;
    }
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 0;
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
    }
    if (n == 0 || (size_t)(end - p) < n) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) {
        return 0;
    }
    return n;
}

static size_t line_of(const char *text, size_t offset)
{
    size_t line = 1;
    for (size_t i = 0; i < offset; i++) {
        line += text[i] == '\n';
    }
    return line;
}

/* What cJSON lets through and we do not: bad UTF-8, raw control characters and \u0000 in strings,
 * deep nesting, number forms outside RFC 8259. */
static int check_text(const char *text, size_t bytes, struct err *err)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end = p + bytes;
    bool in_string = false;
    int depth = 0;
    while (p < end) {
        size_t line = 0;
        size_t n = utf8_length(p, end);
        const char *why = NULL;
        if (n == 0) {
            why = "invalid UTF-8";
        } else if (in_string) {
            if (*p < 0x20) {
                why = "control character in a string";
            } else if (*p == '\\' && p + 1 < end) {
                if (p[1] == 'u') {
                    /* cJSON takes broken digits for \u0000, and that for the string's end. */
                    size_t digits = 0;
                    while (digits < 4 && p + 2 + digits < end && isxdigit(p[2 + digits])) {
                        digits++;
                    }
                    if (digits < 4) {
                        why = "broken \\u escape";
                    } else if (memcmp(p + 2, "0000", 4) == 0) {
                        why = "NUL in a string";
                    }
                }
                n = p[1] < 0x80 ? 2 : 1;
            } else if (*p == '"') {
                in_string = false;
            }
        } else if (*p == '"') {
            in_string = true;
        } else if (*p == '[' || *p == '{') {
            if (++depth > JSON_DEPTH_MAX) {
                why = "nested too deeply";
            }
        } else if (*p == ']' || *p == '}') {
            depth--;
        } else if (*p == '-' || (*p >= '0' && *p <= '9')) {
            const unsigned char *q = p + (*p == '-');
            if (q >= end || *q < '0' || *q > '9' ||
                (*q == '0' && q + 1 < end && q[1] >= '0' && q[1] <= '9')) {
                why = "malformed number";
            }
            while (q < end && ((*q >= '0' && *q <= '9') || *q == '.' || *q == 'e' || *q == 'E' ||
                               *q == '+' || *q == '-')) {
                bool digit_before = q > p && q[-1] >= '0' && q[-1] <= '9';
                bool digit_after = q + 1 < end && q[1] >= '0' && q[1] <= '9';
                if (*q == '.' && (!digit_before || !digit_after)) {
                    why = "malformed number";
                }
                q++;
            }
            n = (size_t)(q - p);
        } else if (*p < 0x20 && *p != ' ' && *p != '\t' && *p != '\n' && *p != '\r') {
            why = "control character";
        }
        if (why != NULL) {
            line = line_of(text, (size_t)((const char *)p - text));
            return err_set(err, -EINVAL, "line %zu: %s", line, why);
        }
        p += n;
    }
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_duplicates(const cJSON *item, struct err *err)
{
    if (cJSON_IsObject(item) && item->child != NULL) {
        size_t n = 0;
        for (const cJSON *c = item->child; c != NULL; c = c->next) {
            n++;
        }
        const char **keys = malloc(n * sizeof *keys);
        if (keys == NULL) {
            abort();
        }
        n = 0;
        for (const cJSON *c = item->child; c != NULL; c = c->next) {
            keys[n++] = c->string;
        }
        qsort(keys, n, sizeof *keys, compare_keys);
        for (size_t i = 1; i < n; i++) {
            if (strcmp(keys[i - 1], keys[i]) == 0) {
                int code = err_set(err, -EINVAL, "key '%s' stands twice in one object", keys[i]);
                free(keys);
                return code;
            }
        }
        free(keys);
    }
    for (const cJSON *c = item->child; c != NULL; c = c->next) {
        int code = check_duplicates(c, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

struct json *json_parse(const char *text, size_t bytes, struct err *err)
{
    if (check_text(text, bytes, err) != 0) {
        return NULL;
    }
    const char *end = NULL;
    cJSON *item = cJSON_ParseWithLengthOpts(text, bytes, &end, false);
    if (item == NULL) {
        size_t offset = end != NULL && end >= text ? (size_t)(end - text) : 0;
        err_set(err, -EINVAL, "line %zu: not valid JSON",
                line_of(text, offset < bytes ? offset : bytes));
        return NULL;
    }
    while (end < text + bytes && (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r')) {
        end++;
    }
    if (end != text + bytes) {
        err_set(err, -EINVAL, "line %zu: text behind the JSON value",
                line_of(text, (size_t)(end - text)));
        cJSON_Delete(item);
        return NULL;
    }
    if (check_duplicates(item, err) != 0) {
        cJSON_Delete(item);
        return NULL;
    }
    return out(item);
}

struct json *json_parse_file(const char *path, size_t bytes_max, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_set(err, -errno, "%s: %s", path, strerror(errno));
        return NULL;
    }
    struct buf text = BUF_INIT;
    struct json *json = NULL;
    char chunk[16384];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            err_set(err, -errno, "%s: %s", path, strerror(errno));
            goto done;
        }
        if (n == 0) {
            break;
        }
        buf_append(&text, chunk, (size_t)n);
        if (text.bytes > bytes_max) {
            err_set(err, -EFBIG, "%s: larger than %zu bytes", path, bytes_max);
            goto done;
        }
    }
    json = json_parse(text.data != NULL ? text.data : "", text.bytes, err);
    if (json == NULL) {
        err_prefix(err, 0, "%s", path);
    }
done:
    buf_fini(&text);
    close(fd);
    return json;
}

void json_free(struct json *json)
{
    cJSON_Delete(in(json));
}

enum json_type json_type(const struct json *json)
{
    const cJSON *item = in(json);
    if (cJSON_IsBool(item)) {
        return JSON_BOOL;
    }
    if (cJSON_IsNumber(item)) {
        return JSON_NUMBER;
    }
    if (cJSON_IsString(item)) {
        return JSON_STRING;
    }
    if (cJSON_IsArray(item)) {
        return JSON_ARRAY;
    }
    return cJSON_IsObject(item) ? JSON_OBJECT : JSON_NULL;
}

const char *json_type_name(enum json_type type)
{
    switch (type) {
    case JSON_NULL:
        return "null";
    case JSON_BOOL:
        return "boolean";
    case JSON_NUMBER:
        return "number";
    case JSON_STRING:
        return "string";
    case JSON_ARRAY:
        return "array";
    case JSON_OBJECT:
        return "object";
    }
    return "?";
}

const struct json *json_get(const struct json *object, const char *key)
{
    return (const struct json *)cJSON_GetObjectItemCaseSensitive(in(object), key);
}

const struct json *json_first(const struct json *container)
{
    return container != NULL ? (const struct json *)in(container)->child : NULL;
}

const struct json *json_next(const struct json *child)
{
    return (const struct json *)in(child)->next;
}

const char *json_key(const struct json *child)
{
    return in(child)->string;
}

size_t json_count(const struct json *container)
{
    size_t n = 0;
    for (const struct json *c = json_first(container); c != NULL; c = json_next(c)) {
        n++;
    }
    return n;
}

const char *json_string(const struct json *json, const char *fallback)
{
    return json != NULL && cJSON_IsString(in(json)) ? in(json)->valuestring : fallback;
}

double json_number(const struct json *json, double fallback)
{
    return json != NULL && cJSON_IsNumber(in(json)) ? in(json)->valuedouble : fallback;
}

int64_t json_int(const struct json *json, int64_t fallback)
{
    double value = json_number(json, NAN);
    if (!(value >= -0x1p53 && value <= 0x1p53) || value != floor(value)) {
        return fallback;
    }
    return (int64_t)value;
}

bool json_bool(const struct json *json, bool fallback)
{
    return json != NULL && cJSON_IsBool(in(json)) ? cJSON_IsTrue(in(json)) != 0 : fallback;
}

struct json *json_new_object(void)
{
    return out(cJSON_CreateObject());
}

struct json *json_new_array(void)
{
    return out(cJSON_CreateArray());
}

struct json *json_new_string(const char *text)
{
    return out(cJSON_CreateString(text));
}

struct json *json_new_number(double value)
{
    return out(cJSON_CreateNumber(value));
}

void json_put(struct json *object, const char *key, struct json *take_value)
{
    if (!cJSON_AddItemToObject(in(object), key, in(take_value))) {
        abort();
    }
}

void json_append(struct json *array, struct json *take_value)
{
    if (!cJSON_AddItemToArray(in(array), in(take_value))) {
        abort();
    }
}

void json_add_string(struct json *object, const char *key, const char *text)
{
    out(cJSON_AddStringToObject(in(object), key, text));
}

void json_add_number(struct json *object, const char *key, double value)
{
    out(cJSON_AddNumberToObject(in(object), key, value));
}

void json_add_int(struct json *object, const char *key, int64_t value)
{
    /* cJSON prints numbers with up to 17 digits but in %g form; whole numbers stay whole here. */
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    if (value > -(INT64_C(1) << 53) && value < (INT64_C(1) << 53)) {
        json_add_number(object, key, (double)value);
    } else {
        out(cJSON_AddRawToObject(in(object), key, text));
    }
}

void json_add_bool(struct json *object, const char *key, bool value)
{
    out(cJSON_AddBoolToObject(in(object), key, value));
}

void json_add_null(struct json *object, const char *key)
{
    out(cJSON_AddNullToObject(in(object), key));
}

struct json *json_add_object(struct json *object, const char *key)
{
    return out(cJSON_AddObjectToObject(in(object), key));
}

struct json *json_add_array(struct json *object, const char *key)
{
    return out(cJSON_AddArrayToObject(in(object), key));
}

char *json_print(const struct json *json)
{
    char *text = cJSON_PrintUnformatted(in(json));
    if (text == NULL) {
        abort();
    }
    return text;
}

/* cJSON's own formatting uses tabs and keeps arrays on one line; results are read by people in
 * diffs, so objects go one member a line with two spaces. */
static void print_pretty(struct buf *text, const cJSON *item, int indent)
{
    bool object = cJSON_IsObject(item);
    if ((!object && !cJSON_IsArray(item)) || item->child == NULL) {
        char *plain = json_print((const struct json *)item);
        buf_puts(text, plain);
        free(plain);
        return;
    }
    bool flat = !object;
    for (const cJSON *c = item->child; c != NULL && flat; c = c->next) {
        flat = !cJSON_IsObject(c) && !cJSON_IsArray(c);
    }
    buf_puts(text, object ? "{" : "[");
    for (const cJSON *c = item->child; c != NULL; c = c->next) {
        if (!flat) {
            buf_printf(text, "\n%*s", (indent + 1) * 2, "");
        } else if (c != item->child) {
            buf_puts(text, " ");
        }
        if (object) {
            cJSON *key = cJSON_CreateString(c->string);
            char *quoted = json_print(out(key));
            buf_printf(text, "%s: ", quoted);
            free(quoted);
            cJSON_Delete(key);
        }
        print_pretty(text, c, indent + 1);
        if (c->next != NULL) {
            buf_puts(text, ",");
        }
    }
    if (!flat) {
        buf_printf(text, "\n%*s", indent * 2, "");
    }
    buf_puts(text, object ? "}" : "]");
}

char *json_print_pretty(const struct json *json)
{
    struct buf text = BUF_INIT;
    print_pretty(&text, in(json), 0);
    buf_puts(&text, "\n");
    return buf_take(&text);
}
