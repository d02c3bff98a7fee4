/* The description against what the other tests of the redis suite have asked and seen (traffic.h):
 * each (route, status), each member of an answer's or request's body, each header and parameter
 * that is described was met, and nothing was met that is not described. Runs last.
 *
 * openapi_redis_test RECORD...: one file of each test program. */
#include "base/test.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "service/openapi.h"

#define LINE_BYTES_MAX 2048
#define SCHEMA_DEPTH_MAX 12

struct set {
    char **items;
    size_t count;
};

static char **records;
static int records_count;
static struct json *description;
static struct set met; /* "OPERATION 200", "OPERATION 200 < member", "OPERATION > member", ... */
static struct set described;
static struct set open_ended; /* bodies and members of any shape: "OPERATION 200 < member" */

static bool set_has(const struct set *set, const char *text)
{
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(set->items[i], text) == 0) {
            return true;
        }
    }
    return false;
}

__attribute__((format(printf, 2, 3))) static void set_add(struct set *set, const char *format, ...)
{
    char text[LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    assert_true(n > 0 && n < (int)sizeof(text));
    if (!set_has(set, text)) {
        set->items = realloc(set->items, (set->count + 1) * sizeof(*set->items));
        assert_non_null(set->items);
        set->items[set->count++] = strdup(text);
    }
}

static void set_free(struct set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        free(set->items[i]);
    }
    free(set->items);
    *set = (struct set){0};
}

/* How many segments of path the template names word by word; -1: it does not match. */
static int match(const char *template, const char *path)
{
    int literal = 0;
    while (*template == '/' && *path == '/') {
        size_t t = strcspn(template + 1, "/");
        size_t p = strcspn(path + 1, "/");
        if (template[1] == '{') {
            if (p == 0) {
                return -1;
            }
        } else if (t == p && strncmp(template + 1, path + 1, t) == 0) {
            literal++;
        } else {
            return -1;
        }
        template += 1 + t;
        path += 1 + p;
    }
    return *template == '\0' && *path == '\0' ? literal : -1;
}

/* NULL: no such route. */
static const struct json *operation_of(const char *method, const char *path)
{
    const struct json *found = NULL;
    int best = -1;
    for (const struct json *item = json_first(json_get(description, "paths")); item != NULL;
         item = json_next(item)) {
        for (const struct json *op = json_first(item); op != NULL; op = json_next(op)) {
            int literal = match(json_key(item), path);
            if (literal > best && strcasecmp(json_key(op), method) == 0) {
                best = literal;
                found = op;
            }
        }
    }
    return found;
}

static const char *name_of(const struct json *op)
{
    return json_string(json_get(op, "operationId"), "");
}

/* What any route may answer, as the description's head says in words. */
static bool is_general(int status)
{
    static const int general[] = {400, 404, 405, 408, 413, 414, 417, 431, 500, 503, 505};
    for (size_t i = 0; i < sizeof general / sizeof *general; i++) {
        if (general[i] == status) {
            return true;
        }
    }
    return false;
}

/* Members of the schema as facts: "HEAD MARK a.b[].c". */
static void describe(const struct json *schema, const char *head, char mark, const char *prefix,
                     int depth)
{
    assert_true(depth < SCHEMA_DEPTH_MAX);
    const char *reference = json_string(json_get(schema, "$ref"), NULL);
    if (reference != NULL) {
        const struct json *schemas = json_get(json_get(description, "components"), "schemas");
        describe(json_get(schemas, strrchr(reference, '/') + 1), head, mark, prefix, depth + 1);
        return;
    }
    static const char *const several[] = {"oneOf", "anyOf", "allOf"};
    bool composed = false;
    for (size_t i = 0; i < sizeof several / sizeof *several; i++) {
        const struct json *parts = json_get(schema, several[i]);
        composed = composed || parts != NULL;
        for (const struct json *c = json_first(parts); c != NULL; c = json_next(c)) {
            describe(c, head, mark, prefix, depth + 1);
        }
    }
    char name[256];
    if (json_get(schema, "items") != NULL) {
        snprintf(name, sizeof(name), "%s[]", prefix);
        describe(json_get(schema, "items"), head, mark, name, depth + 1);
    }
    const struct json *properties = json_get(schema, "properties");
    const char *type = json_string(json_get(schema, "type"), "object");
    if (!composed && properties == NULL && strcmp(type, "object") == 0) {
        set_add(&open_ended, "%s %c %s", head, mark, prefix);
    }
    for (const struct json *c = json_first(properties); c != NULL; c = json_next(c)) {
        snprintf(name, sizeof(name), "%s%s%s", prefix, prefix[0] == '\0' ? "" : ".", json_key(c));
        set_add(&described, "%s %c %s", head, mark, name);
        describe(c, head, mark, name, depth + 1);
    }
}

static const struct json *body_schema(const struct json *holder)
{
    const struct json *content = json_get(holder, "content");
    return json_get(json_get(content, "application/json"), "schema");
}

static void describe_operation(const struct json *op)
{
    const char *name = name_of(op);
    char head[160];
    for (const struct json *r = json_first(json_get(op, "responses")); r != NULL;
         r = json_next(r)) {
        snprintf(head, sizeof(head), "%s %s", name, json_key(r));
        set_add(&described, "%s", head);
        if (body_schema(r) != NULL) {
            describe(body_schema(r), head, '<', "", 0);
        }
        for (const struct json *h = json_first(json_get(r, "headers")); h != NULL;
             h = json_next(h)) {
            char lower[64];
            size_t n = 0;
            for (const char *c = json_key(h); *c != '\0' && n < sizeof(lower) - 1; c++) {
                lower[n++] = (char)tolower((unsigned char)*c);
            }
            lower[n] = '\0';
            set_add(&described, "%s h:%s", head, lower);
        }
    }
    if (body_schema(json_get(op, "requestBody")) != NULL) {
        describe(body_schema(json_get(op, "requestBody")), name, '>', "", 0);
    }
    for (const struct json *p = json_first(json_get(op, "parameters")); p != NULL;
         p = json_next(p)) {
        const char *in = json_string(json_get(p, "in"), "");
        if (strcmp(in, "query") == 0) {
            set_add(&described, "%s ? %s", name, json_string(json_get(p, "name"), ""));
        } else if (strcmp(in, "header") == 0) {
            char lower[64];
            size_t n = 0;
            for (const char *c = json_string(json_get(p, "name"), "");
                 *c != '\0' && n < sizeof(lower) - 1; c++) {
                lower[n++] = (char)tolower((unsigned char)*c);
            }
            lower[n] = '\0';
            set_add(&described, "%s q:%s", name, lower);
        }
    }
}

/* One line of a record. */
static void meet(char *line, const char *file)
{
    char method[16];
    char path[LINE_BYTES_MAX];
    int status = 0;
    int end = 0;
    line[strcspn(line, "\n")] = '\0';
    if (sscanf(line, "%15s %2047s %d%n", method, path, &status, &end) != 3) {
        fail_msg("%s: no fact: %s", file, line);
    }
    const struct json *op = operation_of(strcmp(method, "HEAD") == 0 ? "GET" : method, path);
    if (op == NULL) {
        if (!is_general(status)) {
            fail_msg("%s: %s: no such route is described, and its answer is %d", file, line,
                     status);
        }
        return;
    }
    const char *fact = line + end;
    bool asked = fact[0] == ' ' && (fact[1] == '>' || fact[1] == '?' || fact[1] == 'q');
    if (!asked) {
        set_add(&met, "%s %d%s", name_of(op), status, fact);
    } else if (status < 300) {
        set_add(&met, "%s%s", name_of(op), fact); /* what was refused shows nothing */
    }
}

static int read_all(void **state)
{
    (void)state;
    struct err err = {""};
    description = json_parse(openapi_text, openapi_bytes, &err);
    assert_non_null(description);
    for (const struct json *item = json_first(json_get(description, "paths")); item != NULL;
         item = json_next(item)) {
        for (const struct json *op = json_first(item); op != NULL; op = json_next(op)) {
            describe_operation(op);
        }
    }
    for (int i = 0; i < records_count; i++) {
        FILE *file = fopen(records[i], "r");
        if (file == NULL) {
            print_error("%s is not there: run the whole redis suite, then this\n", records[i]);
            return -1;
        }
        char line[LINE_BYTES_MAX];
        while (fgets(line, sizeof(line), file) != NULL) {
            meet(line, records[i]);
        }
        fclose(file);
    }
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    set_free(&met);
    set_free(&described);
    set_free(&open_ended);
    json_free(description);
    return 0;
}

static void everything_that_is_described_was_met_by_a_test(void **state)
{
    (void)state;
    struct buf missing = BUF_INIT;
    size_t count = 0;
    for (size_t i = 0; i < described.count; i++) {
        if (!set_has(&met, described.items[i])) {
            buf_printf(&missing, "\n    %s", described.items[i]);
            count++;
        }
    }
    print_message("%zu of %zu described statuses, members, headers and parameters were met\n",
                  described.count - count, described.count);
    if (count > 0) {
        fprintf(stderr, "no test has met:%s\n", missing.data); /* fail_msg cuts off */
        fail_msg("%zu of the description were met by no test", count);
    }
    buf_fini(&missing);
}

/* Below a member whose shape is free, or in a body whose shape is. */
static bool is_open(const char *fact)
{
    for (size_t i = 0; i < open_ended.count; i++) {
        size_t n = strlen(open_ended.items[i]);
        if (strncmp(fact, open_ended.items[i], n) == 0 &&
            (open_ended.items[i][n - 1] == ' ' || fact[n] == '.' || fact[n] == '[')) {
            return true;
        }
    }
    return false;
}

static void nothing_was_met_that_is_not_described(void **state)
{
    (void)state;
    struct buf unknown = BUF_INIT;
    for (size_t i = 0; i < met.count; i++) {
        const char *fact = met.items[i];
        char name[64];
        int status = 0;
        char mark[4] = "";
        int fields = sscanf(fact, "%63s %d %3s", name, &status, mark);
        bool checked = fields == 2 || (fields == 3 && strcmp(mark, "<") == 0);
        if (checked && !set_has(&described, fact) && !is_open(fact) && !is_general(status)) {
            buf_printf(&unknown, "\n    %s", fact);
        }
    }
    if (unknown.bytes > 0) {
        fprintf(stderr, "not described:%s\n", unknown.data);
        fail_msg("tests have met what is not described");
    }
    buf_fini(&unknown);
}

int main(int argc, char **argv)
{
    records = argv + 1;
    records_count = argc - 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_that_is_described_was_met_by_a_test),
        cmocka_unit_test(nothing_was_met_that_is_not_described),
    };
    return records_count == 0 ? 2 : cmocka_run_group_tests(tests, read_all, free_all);
}
