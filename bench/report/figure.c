#include "report/figure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *figure_text(double value, char out[FIGURE_BYTES])
{
    double size = fabs(value);
    if (!isfinite(value)) {
        return strcpy(out, "-");
    }
    char text[FIGURE_BYTES];
    if (size >= 100000 || (value == floor(value) && size < 1e15)) {
        snprintf(text, sizeof text, size < 1e15 ? "%.0f" : "%.3g", value);
    } else {
        snprintf(text, sizeof text, "%.*f", size >= 1000 ? 1 : size >= 10 ? 2 : 3, value);
    }
    char *dot = strchr(text, '.');
    if (dot != NULL && strspn(dot + 1, "0") == strlen(dot + 1)) {
        *dot = '\0';
    }
    size_t whole = strspn(text, "-0123456789");
    size_t at = 0;
    for (size_t i = 0; text[i] != '\0' && at + 4 < FIGURE_BYTES; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0 && text[i - 1] != '-') {
            memcpy(out + at, "\xe2\x80\xaf", 3);
            at += 3;
        }
        out[at++] = text[i];
    }
    out[at] = '\0';
    return out;
}

const char *figure_with_unit(double value, const char *unit, char out[FIGURE_BYTES])
{
    double ns = strcmp(unit, "ns") == 0 ? value : strcmp(unit, "us") == 0 ? value * 1e3 : NAN;
    if (isfinite(ns)) {
        static const struct {
            double size;
            const char *name;
        } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "\xc2\xb5s"}, {0, "ns"}};
        size_t u = 0;
        while (fabs(ns) < units[u].size) {
            u++;
        }
        double scaled = units[u].size > 0 ? ns / units[u].size : ns;
        snprintf(out, FIGURE_BYTES, "%.*f %s",
                 scaled < 10    ? 2
                 : scaled < 100 ? 1
                                : 0,
                 scaled, units[u].name);
        return out;
    }
    figure_text(value, out);
    if (strcmp(unit, "B") == 0 && isfinite(value)) {
        strcat(out, " B");
    } else if (strcmp(unit, "1/s") == 0 && isfinite(value)) {
        strcat(out, " /s");
    }
    return out;
}

const char *figure_change(double before, double after, char out[FIGURE_BYTES])
{
    if (!isfinite(before) || !isfinite(after)) {
        return strcpy(out, "");
    }
    if (before == after) {
        return strcpy(out, "0");
    }
    if (before > 0) {
        double percent = (after / before - 1) * 100;
        snprintf(out, FIGURE_BYTES, "%+.*f %%", fabs(percent) < 0.01 ? 4 : 2, percent);
        return out;
    }
    char text[FIGURE_BYTES];
    snprintf(out, FIGURE_BYTES, "%s%s", after > before ? "+" : "",
             figure_text(after - before, text));
    return out;
}

const struct json *figure_metric(const struct json *summary, const char *id)
{
    for (const struct json *m = json_first(json_get(summary, "metrics")); m != NULL;
         m = json_next(m)) {
        if (strcmp(json_string(json_get(m, "id"), ""), id) == 0) {
            return m;
        }
    }
    return NULL;
}

double figure_value(const struct json *metric)
{
    return json_number(json_get(metric, "value"), (double)NAN);
}

double figure_samples(const struct json *metric)
{
    double total = 0;
    for (const struct json *c = json_first(json_get(metric, "samples")); c != NULL;
         c = json_next(c)) {
        total += json_number(c, 0);
    }
    return total;
}

void figure_append(struct json *array, double value)
{
    json_append(array, isfinite(value) ? json_new_number(value) : json_parse("null", 4, NULL));
}
