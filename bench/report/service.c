#include "report/service.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "report/figure.h"
#include "report/html.h"
#include "service_tool.h"

#define SERVICE_FILE_BYTES_MAX 65536

struct row {
    const char *key; /* in service.json */
    const char *process;
    const char *name;
    const char *member;
    bool per_task; /* shown divided by the tasks */
    const char *unit;
};

static const struct row rows[] = {
    {"callgrind.codeqd", "codeqd", "instructions a task", "instructions", true, ""},
    {"callgrind.redis", "redis-server", "instructions a task", "instructions", true, ""},
    {"callgrind.redis", "redis-server", "of them in Lua scripts", "script_instructions", true, ""},
    {"massif.codeqd", "codeqd", "heap at its peak", "heap_peak_bytes", false, "B"},
    {"dhat.codeqd", "codeqd", "allocations a task, start and end included", "allocs", true, ""},
    {"dhat.codeqd", "codeqd", "bytes allocated a task", "alloc_bytes", true, "B"},
};
#define ROWS (sizeof rows / sizeof *rows)

static struct json *read_service(const struct section_side *side)
{
    char path[1200];
    if (side == NULL) {
        return NULL;
    }
    snprintf(path, sizeof path, "%s/" SERVICE_TOOL_FILE, side->dir);
    struct json *json = json_parse_file(path, SERVICE_FILE_BYTES_MAX, NULL);
    if (strcmp(json_string(json_get(json, "schema"), ""), SERVICE_TOOL_SCHEMA) != 0) {
        json_free(json);
        return NULL;
    }
    return json;
}

static void print_value(struct buf *out, const struct row *row, const struct json *said)
{
    char text[FIGURE_BYTES];
    const char *reason = json_string(json_get(said, "not_measured"), NULL);
    double value = json_number(json_get(said, row->member), (double)NAN);
    double ops = json_number(json_get(said, "ops"), (double)NAN);
    if (row->per_task) {
        value = ops > 0 ? value / ops : (double)NAN;
    }
    html_raw(out, "<td>");
    if (reason != NULL) {
        html_raw(out, "not measured: ");
        html_text(out, reason);
    } else if (isfinite(value)) {
        html_text(out, figure_with_unit(value, row->unit, text));
    }
    html_raw(out, "</td>");
}

void service_print(struct buf *out, const struct section_side *a, const struct section_side *b)
{
    struct json *of[2] = {read_service(a), read_service(b)};
    int sides = b != NULL ? 2 : 1;
    if (of[0] == NULL && of[1] == NULL) {
        return;
    }
    html_raw(out,
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"under "
             "Valgrind\"><table><caption>Under Valgrind, by process: runs of their own under light "
             "load, whose times are not among the figures</caption><thead><tr><th scope=\"col\" "
             "class=\"text\">process</th><th scope=\"col\" class=\"text\">what</th>%s<th "
             "scope=\"col\">tasks</th></tr></thead><tbody>\n",
             sides == 2 ? "<th scope=\"col\">A</th><th scope=\"col\">B</th>"
                        : "<th scope=\"col\">figure</th>");
    for (size_t i = 0; i < ROWS; i++) {
        const struct json *said[2] = {json_get(of[0], rows[i].key), json_get(of[1], rows[i].key)};
        bool failed =
            json_get(said[0], "not_measured") != NULL || json_get(said[1], "not_measured") != NULL;
        bool again = i > 0 && strcmp(rows[i].key, rows[i - 1].key) == 0;
        bool there = json_get(said[0], rows[i].member) != NULL ||
                     json_get(said[1], rows[i].member) != NULL || (failed && !again);
        if (!there) {
            continue;
        }
        html_raw(out, "<tr><th scope=\"row\" class=\"code\">%s</th><td class=\"text\">%s</td>",
                 rows[i].process, rows[i].name);
        for (int s = 0; s < sides; s++) {
            print_value(out, &rows[i], said[s]);
        }
        char text[FIGURE_BYTES];
        const struct json *last = said[1] != NULL ? said[1] : said[0];
        double ops = json_number(json_get(last, "ops"), (double)NAN);
        html_raw(out, "<td>%s</td></tr>\n", isfinite(ops) ? figure_text(ops, text) : "");
    }
    html_raw(out, "</tbody></table></div>\n");
    json_free(of[0]);
    json_free(of[1]);
}
