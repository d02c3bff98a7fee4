/* The description and the tables of routes say the same, both ways. */
#include "base/test.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "service/openapi.h"
#include "service/service.h"

static const struct route *const tables[] = {
    api_tasks_routes,  api_admin_routes, api_dead_routes, api_subscriptions_routes,
    api_topics_routes, metrics_routes,   openapi_routes,
};

static struct json *description(void)
{
    struct err err = {""};
    struct json *json = json_parse(openapi_text, openapi_bytes, &err);
    if (json == NULL) {
        fail_msg("%s", err.text);
    }
    return json;
}

static const char *method_name(enum http_verb method)
{
    return method == HTTP_METHOD_GET    ? "get"
           : method == HTTP_METHOD_POST ? "post"
           : method == HTTP_METHOD_PUT  ? "put"
                                        : "delete";
}

/* "/a/:id/b" as "/a/{id}/b". */
static void template_of(const char *pattern, char out[256])
{
    size_t n = 0;
    bool inside = false;
    for (const char *p = pattern;; p++) {
        if (inside && (*p == '/' || *p == '\0')) {
            out[n++] = '}';
            inside = false;
        }
        inside = inside || *p == ':';
        out[n++] = *p == ':' ? '{' : *p;
        if (*p == '\0') {
            return;
        }
        assert_true(n < 250);
    }
}

static void every_route_is_described_with_its_name_and_its_refusals(void **state)
{
    (void)state;
    struct json *json = description();
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const struct route *r = tables[t]; r->pattern != NULL; r++) {
            char path[256];
            template_of(r->pattern, path);
            const struct json *item = json_get(json_get(json, "paths"), path);
            const struct json *op = json_get(item, method_name(r->method));
            if (op == NULL) {
                fail_msg("%s %s is not described", method_name(r->method), path);
            }
            assert_string_equal(json_string(json_get(op, "operationId"), ""), r->operation);
            const struct json *responses = json_get(op, "responses");
            const struct {
                const char *status;
                bool expected;
            } refusals[] = {
                {"401", r->class != AUTH_PUBLIC},
                {"429", r->rate != RATE_NONE},
                {"403", r->scopes != 0},
            };
            for (size_t i = 0; i < 3; i++) {
                bool there = json_get(responses, refusals[i].status) != NULL;
                if (there != refusals[i].expected) {
                    fail_msg("%s: %s is %s", r->operation, refusals[i].status,
                             there ? "described but cannot happen" : "not described");
                }
            }
            assert_int_equal(json_get(op, "security") != NULL, r->class != AUTH_PUBLIC);
        }
    }
    json_free(json);
}

static void every_description_has_its_route(void **state)
{
    (void)state;
    struct json *json = description();
    const struct json *paths = json_get(json, "paths");
    for (const struct json *item = json_first(paths); item != NULL; item = json_next(item)) {
        for (const struct json *op = json_first(item); op != NULL; op = json_next(op)) {
            bool found = false;
            for (size_t t = 0; t < sizeof tables / sizeof *tables && !found; t++) {
                for (const struct route *r = tables[t]; r->pattern != NULL && !found; r++) {
                    char path[256];
                    template_of(r->pattern, path);
                    found = strcmp(path, json_key(item)) == 0 &&
                            strcmp(method_name(r->method), json_key(op)) == 0;
                }
            }
            if (!found) {
                fail_msg("%s %s has no route", json_key(op), json_key(item));
            }
        }
    }
    json_free(json);
}

/* A "$ref" that names nothing fails by its text. */
static void check_refs(const struct json *root, const struct json *json)
{
    for (const struct json *c = json_first(json); c != NULL; c = json_next(c)) {
        const char *key = json_key(c);
        if (key != NULL && strcmp(key, "$ref") == 0) {
            const char *name = strrchr(json_string(c, "/"), '/') + 1;
            const struct json *schemas = json_get(json_get(root, "components"), "schemas");
            if (json_get(schemas, name) == NULL) {
                fail_msg("%s names nothing", json_string(c, ""));
            }
        } else if (json_type(c) == JSON_OBJECT || json_type(c) == JSON_ARRAY) {
            check_refs(root, c);
        }
    }
}

static void every_reference_leads_somewhere(void **state)
{
    (void)state;
    struct json *json = description();
    assert_string_equal(json_string(json_get(json, "openapi"), ""), "3.1.0");
    check_refs(json, json);
    json_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_described_with_its_name_and_its_refusals),
        cmocka_unit_test(every_description_has_its_route),
        cmocka_unit_test(every_reference_leads_somewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
