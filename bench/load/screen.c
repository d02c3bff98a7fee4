#include "load/screen.h"

#include "load/saturation.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"

#define SAMPLES_BEYOND_MIN 20

const char *load_format_ns(int64_t ns, char *text, size_t bytes)
{
    static const struct {
        double factor;
        const char *name;
    } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
    size_t u = 0;
    /* 999.95 us would be printed as "1000 us": go up a unit from 999.5 on. */
    while (u < 3 && (double)ns < units[u].factor * 0.9995) {
        u++;
    }
    double value = (double)ns / units[u].factor;
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    if (u == 3) {
        decimals = 0;
    }
    snprintf(text, bytes, "%.*f %s", decimals, value, units[u].name);
    return text;
}

void load_screen_init(struct load_screen *screen, FILE *out, bool terminal, bool colour,
                      const char *title)
{
    *screen = (struct load_screen){.out = out,
                                   .terminal = terminal,
                                   .colour = colour,
                                   .title = title,
                                   .codeqd_cpu_ratio = (double)NAN,
                                   .redis_cpu_ratio = (double)NAN};
}

static void add_spark(struct load_screen *screen, double value)
{
    if (screen->spark_count == SCREEN_SPARK_COLUMNS) {
        memmove(screen->spark, screen->spark + 1,
                (SCREEN_SPARK_COLUMNS - 1) * sizeof *screen->spark);
        screen->spark_count--;
    }
    screen->spark[screen->spark_count++] = value;
}

static void draw_spark(const struct load_screen *screen)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double top = 0;
    for (int i = 0; i < screen->spark_count; i++) {
        top = fmax(top, screen->spark[i]);
    }
    for (int i = 0; i < screen->spark_count; i++) {
        int level = top > 0 ? (int)(screen->spark[i] / top * 7 + 0.5) : 0;
        fputs(bars[level], screen->out);
    }
    fprintf(screen->out, " top %.3g ms", top);
}

static void draw_bar(FILE *out, double ratio, int columns)
{
    int full = (int)(fmin(1, fmax(0, ratio)) * columns);
    for (int i = 0; i < columns; i++) {
        fputs(i < full ? "█" : "░", out);
    }
}

void load_screen_erase(struct load_screen *screen)
{
    if (screen->terminal && screen->lines > 0) {
        fprintf(screen->out, "\033[%dA\033[J", screen->lines);
        screen->lines = 0;
        fflush(screen->out);
    }
}

static void draw_cpu(FILE *out, const char *name, double ratio)
{
    if (!isnan(ratio)) {
        fprintf(out, "%s %.0f %% of a core", name, 100 * ratio);
    }
}

static void draw_plain(struct load_screen *screen, const struct load_progress *p)
{
    if (p->elapsed_ns - screen->last_line_ns < NS_PER_SEC) {
        return;
    }
    screen->last_line_ns = p->elapsed_ns;
    char p50[24];
    char p99[24];
    fprintf(screen->out,
            "%s: %" PRId64 "/%" PRId64 " s, offered %" PRIu64 ", done %" PRIu64 ", failed %" PRIu64
            ", backlog %" PRIu64 ", claim p50 %s p99 %s",
            screen->title, p->elapsed_ns / NS_PER_SEC, p->duration_ns / NS_PER_SEC, p->offered,
            p->completed, p->failed, p->backlog, load_format_ns(p->claim_p50_ns, p50, sizeof p50),
            load_format_ns(p->claim_p99_ns, p99, sizeof p99));
    draw_cpu(screen->out, ", codeqd", screen->codeqd_cpu_ratio);
    draw_cpu(screen->out, ", Redis", screen->redis_cpu_ratio);
    fputs("\n", screen->out);
    fflush(screen->out);
}

void load_screen_draw(struct load_screen *screen, const struct load_progress *p)
{
    if (!screen->terminal) {
        draw_plain(screen, p);
        return;
    }
    add_spark(screen, (double)p->claim_p99_ns / (double)NS_PER_MS);
    load_screen_erase(screen);
    FILE *out = screen->out;
    const char *bold = screen->colour ? "\033[1m" : "";
    const char *red = screen->colour && p->failed > 0 ? "\033[31m" : "";
    const char *plain = screen->colour ? "\033[0m" : "";
    char a[24];
    char b[24];
    char c[24];
    int64_t left_ns = p->duration_ns - p->elapsed_ns;
    fprintf(out, "%s%s%s  ", bold, screen->title, plain);
    draw_bar(out, (double)p->elapsed_ns / (double)p->duration_ns, 24);
    if (left_ns > 0) {
        fprintf(out, "  %" PRId64 " s left\n", left_ns / NS_PER_SEC + 1);
    } else {
        fputs("  draining\n", out);
    }
    fprintf(out, "  offered   %8.0f /s  %10" PRIu64 "   done %8.0f /s  %10" PRIu64 "\n",
            p->offered_per_sec, p->offered, p->completed_per_sec, p->completed);
    fprintf(out, "  backlog   %8" PRIu64 "     on the way %6" PRIu64 "   %sfailed %" PRIu64 "%s",
            p->backlog, p->waiting, red, p->failed, plain);
    draw_cpu(out, "   codeqd", screen->codeqd_cpu_ratio);
    draw_cpu(out, "   Redis", screen->redis_cpu_ratio);
    fputs("\n", out);
    fprintf(
        out, "  claim     p50 %s  p99 %s  max %s   ", load_format_ns(p->claim_p50_ns, a, sizeof a),
        load_format_ns(p->claim_p99_ns, b, sizeof b), load_format_ns(p->claim_max_ns, c, sizeof c));
    fprintf(out, "send lag p99 %s\n  claim p99 ", load_format_ns(p->send_lag_p99_ns, a, sizeof a));
    draw_spark(screen);
    fputs("\n", out);
    screen->lines = 5;
    fflush(out);
}

static double quantile_ms(const struct hist *hist, double q)
{
    if (hist_beyond_quantile(hist, q) < SAMPLES_BEYOND_MIN) {
        return (double)NAN;
    }
    return (double)hist_quantile_ns(hist, q) / (double)NS_PER_MS;
}

static double max_ms(const struct hist *hist)
{
    return hist_count(hist) > 0 ? (double)hist_max_ns(hist) / (double)NS_PER_MS : (double)NAN;
}

size_t load_figures(const struct load_result *r, struct slo_figure *out, size_t max)
{
    const struct hist *create = &r->endpoints[LOAD_CREATE].latency;
    const struct hist *claim = &r->endpoints[LOAD_CLAIM].latency;
    const struct hist *result = &r->endpoints[LOAD_RESULT].latency;
    /* Results, not tasks, are counted in the part that is cut: the same share of both. */
    const struct load_endpoint_result *results = &r->endpoints[LOAD_RESULT];
    double seconds = (double)(r->elapsed_ns - r->warm_cut_ns) / (double)NS_PER_SEC;
    double share =
        results->completed > 0 ? 1 - (double)results->cut / (double)results->completed : 1;
    uint64_t errors = 0;
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        errors += r->endpoints[e].failed;
    }
    bool looked = r->saturation_per_sec > 0;
    double goodput = load_goodput_per_sec(r, r->arrivals_ns);
    const struct slo_figure figures[] = {
        {"create.p50_ms", quantile_ms(create, 0.5)},
        {"create.p90_ms", quantile_ms(create, 0.9)},
        {"create.p99_ms", quantile_ms(create, 0.99)},
        {"create.p999_ms", quantile_ms(create, 0.999)},
        {"claim.p50_ms", quantile_ms(claim, 0.5)},
        {"claim.p90_ms", quantile_ms(claim, 0.9)},
        {"claim.p99_ms", quantile_ms(claim, 0.99)},
        {"claim.p999_ms", quantile_ms(claim, 0.999)},
        {"claim.max_ms", max_ms(claim)},
        {"result.p50_ms", quantile_ms(result, 0.5)},
        {"result.p99_ms", quantile_ms(result, 0.99)},
        {"lateness.p50_ms", quantile_ms(&r->lateness, 0.5)},
        {"lateness.p99_ms", quantile_ms(&r->lateness, 0.99)},
        {"redelivery.p99_ms", quantile_ms(&r->redelivery, 0.99)},
        {"redelivery.max_ms", max_ms(&r->redelivery)},
        {"queue_wait.p50_ms", quantile_ms(&r->queue_wait_all, 0.5)},
        {"queue_wait.p99_ms", quantile_ms(&r->queue_wait_all, 0.99)},
        {"queue_wait_high.p99_ms", quantile_ms(&r->queue_wait[9], 0.99)},
        {"drain_ms", r->drain_ns >= 0 ? (double)r->drain_ns / (double)NS_PER_MS : (double)NAN},
        {"throughput_per_sec", seconds > 0 ? (double)r->finished * share / seconds : (double)NAN},
        {"saturation_per_sec", looked ? r->saturation_per_sec : (double)NAN},
        {"goodput_per_sec", goodput},
        {"goodput_ratio", looked ? goodput / r->saturation_per_sec : (double)NAN},
        {"shed", (double)(r->statuses[429] + r->statuses[503])},
        {"service_peak_mib",
         r->service_peak_kb > 0 ? (double)r->service_peak_kb / 1024 : (double)NAN},
        {"errors", (double)errors},
        {"errors_ratio", r->offered > 0 ? (double)r->failed / (double)r->offered : (double)NAN},
        {"unsent", (double)r->unsent},
        {"unfinished", (double)r->unfinished},
        {"lost", (double)r->lost},
        {"early", (double)r->early},
        {"duplicated", (double)r->duplicated},
        {"misordered", (double)r->misordered},
        {"foreign", (double)r->foreign},
        {"created", (double)r->created},
        {"finished", (double)r->finished},
    };
    size_t count = sizeof figures / sizeof *figures;
    if (count > max) {
        count = max;
    }
    memcpy(out, figures, count * sizeof *figures);
    return count;
}

static const char *quantile_text(const struct hist *hist, double q, char *text, size_t bytes)
{
    if (hist_beyond_quantile(hist, q) < SAMPLES_BEYOND_MIN) {
        return "-";
    }
    return load_format_ns(hist_quantile_ns(hist, q), text, bytes);
}

static void print_hist_row(FILE *out, const char *name, const struct hist *hist, int64_t failed)
{
    char t[5][24];
    fprintf(
        out, "  %-12s %10" PRId64 " %10s %10s %10s %10s %10s", name, hist_count(hist),
        quantile_text(hist, 0.5, t[0], sizeof t[0]), quantile_text(hist, 0.9, t[1], sizeof t[1]),
        quantile_text(hist, 0.99, t[2], sizeof t[2]), quantile_text(hist, 0.999, t[3], sizeof t[3]),
        hist_count(hist) > 0 ? load_format_ns(hist_max_ns(hist), t[4], sizeof t[4]) : "-");
    if (failed >= 0) {
        fprintf(out, " %8" PRId64, failed);
    }
    fputs("\n", out);
}

void load_print_table(FILE *out, const struct load_result *r)
{
    fprintf(out, "  %-12s %10s %10s %10s %10s %10s %10s %8s\n", "from start", "count", "p50", "p90",
            "p99", "p99.9", "max", "failed");
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        const struct load_endpoint_result *endpoint = &r->endpoints[e];
        if (endpoint->completed + endpoint->failed > 0) {
            print_hist_row(out, load_endpoint_name((enum load_endpoint)e), &endpoint->latency,
                           (int64_t)endpoint->failed);
        }
    }
    for (int p = LOAD_PRIORITIES - 1; p >= 0; p--) {
        if (hist_count(&r->queue_wait[p]) > 0) {
            char name[32];
            snprintf(name, sizeof name, "wait prio %d", p);
            print_hist_row(out, name, &r->queue_wait[p], -1);
        }
    }
    if (hist_count(&r->lateness) > 0) {
        print_hist_row(out, "lateness", &r->lateness, -1);
    }
    if (hist_count(&r->redelivery) > 0) {
        print_hist_row(out, "redelivery", &r->redelivery, -1);
    }
    print_hist_row(out, "send lag", &r->send_lag, -1);
    fprintf(out,
            "  requests  offered %" PRIu64 " = completed %" PRIu64 " + failed %" PRIu64
            " + unsent %" PRIu64 " + unfinished %" PRIu64 "\n",
            r->offered, r->completed, r->failed, r->unsent, r->unfinished);
    fprintf(out,
            "  tasks     created %" PRIu64 ", finished %" PRIu64 ", lost %" PRIu64
            ", duplicated %" PRIu64 ", early %" PRIu64 ", misordered %" PRIu64 ", foreign %" PRIu64
            "\n",
            r->created, r->finished, r->lost, r->duplicated, r->early, r->misordered, r->foreign);
    if (r->saturation_per_sec > 0) {
        double goodput = load_goodput_per_sec(r, r->arrivals_ns);
        fprintf(out,
                "  overload  %.0f tasks a second finished, %.0f %% of the %.0f that a closed loop "
                "reached; %" PRIu64 " requests answered 429 or 503\n",
                goodput, goodput / r->saturation_per_sec * 100, r->saturation_per_sec,
                r->statuses[429] + r->statuses[503]);
    }
    fprintf(out, "  generator used %.0f %% of a core%s", r->cpu_ratio * 100,
            r->realtime ? ", realtime" : "");
    if (r->drain_ns >= 0) {
        char text[24];
        fprintf(out, "; the queue was empty %s after the last arrival",
                load_format_ns(r->drain_ns, text, sizeof text));
    }
    fputs("\n", out);
    if (r->void_reason[0] != '\0') {
        fprintf(out, "  VOID: %s\n", r->void_reason);
    }
}
