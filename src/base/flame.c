#include "base/flame.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Picture geometry in pixels; positions are kept in thousandths. */
enum { WIDTH = 1200, MARGIN = 10, INNER = WIDTH - 2 * MARGIN, ROW = 17, TOP = 52, BOTTOM = 30 };
enum { MILLI = 1000, HIDDEN_BELOW_MILLI = 100 };
enum { TEXT_PX = 12, CHAR_MILLI = 7200, TEXT_PAD_MILLI = 6000, TEXT_CHARS_MIN = 3 };

/* One side or two: before and after. A plain graph has side 0 only. */
struct amount {
    int64_t side[2];
};

struct row {
    struct stacks *owner; /* of the frame numbers */
    struct stack stack;
    struct amount value;
};

struct node {
    const char *name;
    size_t depth; /* 0 is "all" */
    struct amount start; /* sums of all that stands to the left of its ends */
    struct amount end;
    struct amount self;
};

struct graph {
    struct row *rows;
    size_t rows_count;
    struct node *nodes; /* parents before children, left before right */
    size_t nodes_count;
    size_t depth_max;
    struct amount total;
    double ops[2];
    bool diff;
};

static const char *row_name(const struct row *row, size_t level)
{
    return stacks_name(row->owner, row->stack.frames[level]);
}

static int compare_rows(const struct row *a, const struct row *b)
{
    for (size_t i = 0;; i++) {
        if (i == a->stack.depth || i == b->stack.depth) {
            return (a->stack.depth > b->stack.depth) - (a->stack.depth < b->stack.depth);
        }
        int order = strcmp(row_name(a, i), row_name(b, i));
        if (order != 0) {
            return order;
        }
    }
}

/* Both sets in one order, equal stacks in one row. after may be NULL. */
static void join_rows(struct graph *g, struct stacks *before, struct stacks *after)
{
    size_t n[2] = {stacks_count(before), after == NULL ? 0 : stacks_count(after)};
    g->rows = calloc(n[0] + n[1] + 1, sizeof *g->rows);
    if (g->rows == NULL) {
        abort();
    }
    struct stacks *sets[2] = {before, after};
    size_t at[2] = {0, 0};
    while (at[0] < n[0] || at[1] < n[1]) {
        struct row next[2];
        for (int s = 0; s < 2; s++) {
            if (at[s] < n[s]) {
                next[s] = (struct row){sets[s], stacks_at(sets[s], at[s]), {{0, 0}}};
                next[s].value.side[s] = next[s].stack.value;
            }
        }
        int order = at[0] == n[0] ? 1 : at[1] == n[1] ? -1 : compare_rows(&next[0], &next[1]);
        struct row *row = &g->rows[g->rows_count++];
        *row = next[order <= 0 ? 0 : 1];
        if (order == 0) {
            row->value.side[1] = next[1].value.side[1];
        }
        at[0] += order <= 0;
        at[1] += order >= 0;
    }
}

/* Walk the rows in order: a frame opens where the path first has it and closes where the path
 * leaves it, so its ends are sums over rows and never rounded. */
static void build_nodes(struct graph *g)
{
    size_t nodes_max = 1;
    for (size_t i = 0; i < g->rows_count; i++) {
        nodes_max += g->rows[i].stack.depth;
    }
    g->nodes = calloc(nodes_max, sizeof *g->nodes);
    struct node **open = calloc(STACKS_DEPTH_MAX + 1, sizeof(struct node *));
    if (g->nodes == NULL || open == NULL) {
        abort();
    }
    size_t opened = 1;
    open[0] = &g->nodes[g->nodes_count++];
    open[0]->name = "all";
    for (size_t i = 0; i < g->rows_count; i++) {
        const struct row *row = &g->rows[i];
        size_t shared = 0;
        while (shared + 1 < opened && shared < row->stack.depth &&
               strcmp(open[shared + 1]->name, row_name(row, shared)) == 0) {
            shared++;
        }
        for (; opened > shared + 1; opened--) {
            open[opened - 1]->end = g->total;
        }
        for (size_t level = shared; level < row->stack.depth; level++) {
            struct node *node = &g->nodes[g->nodes_count++];
            *node =
                (struct node){.name = row_name(row, level), .depth = level + 1, .start = g->total};
            open[opened++] = node;
        }
        open[opened - 1]->self = row->value;
        g->total.side[0] += row->value.side[0];
        g->total.side[1] += row->value.side[1];
        g->depth_max = row->stack.depth > g->depth_max ? row->stack.depth : g->depth_max;
    }
    for (; opened > 0; opened--) {
        open[opened - 1]->end = g->total;
    }
    free(open);
}

static double scaled(const struct graph *g, const struct amount *amount, int side)
{
    return (double)amount->side[side] / g->ops[side];
}

static double both(const struct graph *g, const struct amount *amount)
{
    return scaled(g, amount, 0) + scaled(g, amount, 1);
}

static int64_t x_milli(const struct graph *g, const struct amount *at)
{
    double total = both(g, &g->total);
    return total > 0 ? llround(both(g, at) / total * INNER * MILLI) : 0;
}

static struct amount inclusive(const struct node *node)
{
    return (struct amount){
        {node->end.side[0] - node->start.side[0], node->end.side[1] - node->start.side[1]}};
}

/* Text for an element or a quoted attribute. names are clean UTF-8 already; XML 1.0 still does not
 * allow U+FFFE and U+FFFF. Source: XML 1.0, section 2.2. */
static void put_escaped(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '&') {
            buf_puts(out, "&amp;");
        } else if (*p == '<') {
            buf_puts(out, "&lt;");
        } else if (*p == '>') {
            buf_puts(out, "&gt;");
        } else if (*p == '"') {
            buf_puts(out, "&quot;");
        } else if (*p == '\'') {
            buf_puts(out, "&#39;");
        } else if (memcmp(p, "\xef\xbf", 2) == 0 && (p[2] == '\xbe' || p[2] == '\xbf')) {
            buf_puts(out, "?");
            p += 2;
        } else {
            buf_append(out, p, 1);
        }
    }
}

static void put_milli(struct buf *out, int64_t milli)
{
    buf_printf(out, "%" PRId64 ".%03d", milli / MILLI, (int)(milli % MILLI));
}

/* A figure with thousands apart; whole where it is whole. */
static void put_figure(struct buf *out, double value)
{
    char text[64];
    bool whole = value == floor(value) || fabs(value) >= 1e6;
    int n = snprintf(text, sizeof text, whole ? "%.0f" : "%.2f", value);
    int digits = 0;
    while (digits < n && text[digits] != '.') {
        digits++;
    }
    int first = text[0] == '-' || text[0] == '+' ? 1 : 0;
    for (int i = 0; i < n; i++) {
        if (i > first && i < digits && (digits - i) % 3 == 0) {
            buf_puts(out, ",");
        }
        buf_append(out, &text[i], 1);
    }
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void put_sides(struct buf *out, const struct graph *g, const struct amount *amount)
{
    put_figure(out, scaled(g, amount, 0));
    if (g->diff) {
        buf_puts(out, " \xe2\x86\x92 ");
        put_figure(out, scaled(g, amount, 1));
    }
}

/* What the tooltip says: "name: 1,234 instructions (4.50 %), self 12 (0.04 %)". */
static void put_title(struct buf *out, const struct graph *g, const struct flame_options *options,
                      const struct node *node)
{
    struct amount sum = inclusive(node);
    put_escaped(out, node->name);
    buf_puts(out, ": ");
    put_sides(out, g, &sum);
    buf_puts(out, " ");
    put_escaped(out, options->unit);
    buf_puts(out, options->ops > 0 ? " per op" : "");
    double total = scaled(g, &g->total, 0);
    if (g->diff) {
        buf_printf(out, " (%+.2f %% of all before), self ",
                   percent(scaled(g, &sum, 1) - scaled(g, &sum, 0), total));
        put_sides(out, g, &node->self);
        buf_printf(out, " (%+.2f %%)",
                   percent(scaled(g, &node->self, 1) - scaled(g, &node->self, 0), total));
    } else {
        buf_printf(out, " (%.2f %%), self ", percent(scaled(g, &sum, 0), total));
        put_sides(out, g, &node->self);
        buf_printf(out, " (%.2f %%)", percent(scaled(g, &node->self, 0), total));
    }
}

static uint32_t name_hash(const char *name)
{
    uint32_t hash = 2166136261U; /* FNV-1a, then mixed, since its high bits hang together */
    for (const char *p = name; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char)*p) * 16777619U;
    }
    hash ^= hash >> 15;
    hash *= 0x85ebca6bU;
    return hash ^ hash >> 13;
}

static double self_change(const struct graph *g, const struct node *node)
{
    return scaled(g, &node->self, 1) - scaled(g, &node->self, 0);
}

static void put_colour(struct buf *out, const struct graph *g, const struct node *node,
                       double change_max)
{
    if (!g->diff) {
        uint32_t h = name_hash(node->name);
        buf_printf(out, "#%02x%02x%02x", 208 + h % 47, 70 + (h >> 8) % 140, 30 + (h >> 16) % 60);
        return;
    }
    double change = self_change(g, node);
    if (change == 0 || change_max == 0) {
        buf_puts(out, "#e4e4e4");
        return;
    }
    int fade = 225 - (int)lround(165 * fabs(change) / change_max);
    if (change > 0) {
        buf_printf(out, "#ff%02x%02x", fade, fade);
    } else {
        buf_printf(out, "#%02x%02xff", fade, fade);
    }
}

/* As many characters of the name as the bar has room for, the last two being dots when cut. */
static void put_label(struct buf *out, const char *name, int64_t width_milli)
{
    int64_t room = (width_milli - TEXT_PAD_MILLI) / CHAR_MILLI;
    if (room < TEXT_CHARS_MIN) {
        return;
    }
    int64_t chars = 0;
    for (const char *p = name; *p != '\0'; p++) {
        chars += (*p & 0xc0) != 0x80;
    }
    if (chars <= room) {
        put_escaped(out, name);
        return;
    }
    char cut[STACKS_FRAME_BYTES_MAX + 1];
    size_t n = 0;
    for (int64_t kept = 0; name[n] != '\0'; n++) {
        if ((name[n] & 0xc0) != 0x80 && kept++ == room - 2) {
            break;
        }
        cut[n] = name[n];
    }
    cut[n] = '\0';
    put_escaped(out, cut);
    buf_puts(out, "..");
}

static const char style[] =
    "<style>.fg{font:12px monospace}.fg-f rect{stroke:#fff;stroke-width:.5}.fg-f{cursor:pointer}"
    ".fg-f:hover rect{stroke:#000}.fg-f text{pointer-events:none}.fg-up rect{opacity:.5}"
    ".fg-off{display:none}.fg-hit rect{fill:#a020f0}.fg-hit text{fill:#fff}</style>\n";

/* No markup is built from names: attributes and textContent only. */
static const char script[] =
    "<script><![CDATA[\n"
    "(function () {\n"
    "  'use strict';\n"
    "  var svg = document.currentScript.closest('svg');\n"
    "  var inner = +svg.getAttribute('data-inner'), margin = +svg.getAttribute('data-margin');\n"
    "  var status = svg.querySelector('.fg-status'), input = svg.querySelector('.fg-search');\n"
    "  var idle = status.textContent, word = '';\n"
    "  var all = Array.from(svg.querySelectorAll('.fg-f')).map(function (g) {\n"
    "    return { g: g, x: +g.getAttribute('data-x'), w: +g.getAttribute('data-w'),\n"
    "             d: +g.getAttribute('data-d'), name: g.getAttribute('data-n'),\n"
    "             rect: g.querySelector('rect'), text: g.querySelector('text'),\n"
    "             title: g.querySelector('title').textContent };\n"
    "  });\n"
    "  function label(name, px) {\n"
    "    var room = Math.floor((px - 6) / 7.2), chars = Array.from(name);\n"
    "    if (room < 3) { return ''; }\n"
    "    return chars.length <= room ? name : chars.slice(0, room - 2).join('') + '..';\n"
    "  }\n"
    "  function zoom(to) {\n"
    "    var near = 0.0005; /* positions have three decimals */\n"
    "    var left = to.x, right = to.x + to.w, scale = inner / to.w;\n"
    "    all.forEach(function (f) {\n"
    "      var above = f.d < to.d && f.x <= left + near && f.x + f.w >= right - near;\n"
    "      var inside = f.d >= to.d && f.x >= left - near && f.x + f.w <= right + near;\n"
    "      f.g.classList.toggle('fg-off', !above && !inside);\n"
    "      f.g.classList.toggle('fg-up', above);\n"
    "      if (above || inside) {\n"
    "        var x = above ? 0 : (f.x - left) * scale, w = above ? inner : f.w * scale;\n"
    "        f.rect.setAttribute('x', margin + x);\n"
    "        f.rect.setAttribute('width', w);\n"
    "        f.text.setAttribute('x', margin + x + 3);\n"
    "        f.text.textContent = label(f.name, w);\n"
    "      }\n"
    "    });\n"
    "  }\n"
    "  function search() {\n"
    "    var end = -1, sum = 0, hits = 0;\n"
    "    word = input.value.toLowerCase();\n"
    "    all.forEach(function (f) {\n"
    "      var hit = word !== '' && f.name.toLowerCase().indexOf(word) >= 0;\n"
    "      f.g.classList.toggle('fg-hit', hit);\n"
    "      if (hit) {\n"
    "        hits += 1;\n"
    "        if (f.x >= end - 0.0005) { sum += f.w; end = f.x + f.w; }\n"
    "      }\n"
    "    });\n"
    "    idle = word === '' ? '' : hits + ' frames hold \"' + input.value + '\": ' +\n"
    "      (100 * sum / all[0].w).toFixed(2) + ' % of the width';\n"
    "    status.textContent = idle;\n"
    "  }\n"
    "  all.forEach(function (f) {\n"
    "    f.g.addEventListener('click', function () { zoom(f); });\n"
    "    f.g.addEventListener('mouseover', function () { status.textContent = f.title; });\n"
    "    f.g.addEventListener('mouseout', function () { status.textContent = idle; });\n"
    "  });\n"
    "  if (input) { input.addEventListener('input', search); }\n"
    "  document.addEventListener('keydown', function (e) {\n"
    "    if (e.key === 'Escape') { zoom(all[0]); }\n"
    "  });\n"
    "}());\n"
    "]]></script>\n";

static void put_node(struct buf *out, const struct graph *g, const struct flame_options *options,
                     const struct node *node, double change_max, int64_t *hidden)
{
    int64_t x = x_milli(g, &node->start);
    int64_t w = x_milli(g, &node->end) - x;
    if (w < HIDDEN_BELOW_MILLI) {
        ++*hidden;
        return;
    }
    int64_t y = TOP + (int64_t)(g->depth_max - node->depth) * ROW;
    buf_printf(out, "<g class=\"fg-f\" data-d=\"%zu\" data-x=\"", node->depth);
    put_milli(out, x);
    buf_puts(out, "\" data-w=\"");
    put_milli(out, w);
    buf_puts(out, "\" data-n=\"");
    put_escaped(out, node->name);
    buf_puts(out, "\"><title>");
    put_title(out, g, options, node);
    buf_puts(out, "</title><rect x=\"");
    put_milli(out, x + MARGIN * MILLI);
    buf_printf(out, "\" y=\"%" PRId64 "\" width=\"", y);
    put_milli(out, w);
    buf_printf(out, "\" height=\"%d\" rx=\"1\" fill=\"", ROW - 1);
    put_colour(out, g, node, change_max);
    buf_puts(out, "\"/><text x=\"");
    put_milli(out, x + (MARGIN + 3) * MILLI);
    buf_printf(out, "\" y=\"%" PRId64 "\">", y + ROW - 5);
    put_label(out, node->name, w);
    buf_puts(out, "</text></g>\n");
}

static void put_graph(struct buf *out, const struct graph *g, const struct flame_options *options)
{
    double change_max = 0;
    for (size_t i = 0; g->diff && i < g->nodes_count; i++) {
        change_max = fmax(change_max, fabs(self_change(g, &g->nodes[i])));
    }
    char title[STACKS_FRAME_BYTES_MAX + 1];
    stacks_clean_name(options->title, title);
    int64_t height = TOP + ((int64_t)g->depth_max + 1) * ROW + BOTTOM;
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"fg\" role=\"group\" width=\"%d\" "
               "height=\"%" PRId64 "\" viewBox=\"0 0 %d %" PRId64 "\" data-inner=\"%d\" "
               "data-margin=\"%d\" aria-label=\"",
               WIDTH, height, WIDTH, height, INNER, MARGIN);
    put_escaped(out, title);
    buf_puts(out, "\">\n");
    buf_puts(out, style);
    buf_printf(out, "<rect width=\"%d\" height=\"%" PRId64 "\" fill=\"#fff\"/>\n", WIDTH, height);
    buf_printf(out, "<text x=\"%d\" y=\"22\" font-size=\"16\" font-weight=\"bold\">", MARGIN);
    put_escaped(out, title);
    buf_puts(out, "</text>\n");
    buf_printf(out, "<text x=\"%d\" y=\"42\" fill=\"#555\">", MARGIN);
    put_sides(out, g, &g->total);
    buf_puts(out, " ");
    put_escaped(out, options->unit);
    buf_puts(out, options->ops > 0 ? " per op" : "");
    if (g->diff) {
        buf_puts(out, "; width: mean of before and after; red grew, blue shrank, by own value");
    }
    buf_puts(out, "</text>\n");
    buf_printf(out,
               "<foreignObject x=\"%d\" y=\"6\" width=\"210\" height=\"26\"><input "
               "xmlns=\"http://www.w3.org/1999/xhtml\" class=\"fg-search\" type=\"search\" "
               "placeholder=\"search\" aria-label=\"search frames\" style=\"width:200px;font:12px "
               "monospace\"/>"
               "</foreignObject>\n",
               WIDTH - MARGIN - 210);
    int64_t hidden = 0;
    if (g->rows_count == 0) {
        buf_printf(out, "<text x=\"%d\" y=\"%d\">no samples</text>\n", MARGIN, TOP + ROW);
    }
    for (size_t i = 0; i < g->nodes_count && g->rows_count > 0; i++) {
        put_node(out, g, options, &g->nodes[i], change_max, &hidden);
    }
    buf_printf(out, "<text class=\"fg-status\" x=\"%d\" y=\"%" PRId64 "\">", MARGIN, height - 10);
    if (hidden > 0) {
        buf_printf(out, "%" PRId64 " frames narrower than 0.1 px are left out", hidden);
    }
    buf_puts(out, "</text>\n");
    if (g->rows_count > 0) {
        buf_puts(out, script);
    }
    buf_puts(out, "</svg>\n");
}

static void print(struct stacks *before, struct stacks *after, const struct flame_options *options,
                  double after_ops, struct buf *out)
{
    struct graph g = {
        .diff = after != NULL,
        .ops = {options->ops > 0 ? options->ops : 1, after_ops > 0 ? after_ops : 1},
    };
    join_rows(&g, before, after);
    build_nodes(&g);
    put_graph(out, &g, options);
    free(g.nodes);
    free(g.rows);
}

void flame_print(struct stacks *stacks, const struct flame_options *options, struct buf *out)
{
    print(stacks, NULL, options, 0, out);
}

void flame_print_diff(struct stacks *before, struct stacks *after,
                      const struct flame_options *options, double after_ops, struct buf *out)
{
    print(before, after, options, after_ops, out);
}
