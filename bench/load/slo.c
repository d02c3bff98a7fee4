#include "load/slo.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXAMPLE "write it like 'claim.p99_ms <= 5'"

static const char *const compare_texts[] = {"<", "<=", "==", ">=", ">"};

const char *slo_compare_text(enum slo_compare compare)
{
    return compare_texts[compare];
}

static int parse_compare(const char **text, enum slo_compare *out)
{
    /* The longer ones first: "<=" begins with "<". */
    static const enum slo_compare order[] = {SLO_LESS_EQUAL, SLO_GREATER_EQUAL, SLO_EQUAL, SLO_LESS,
                                             SLO_GREATER};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        size_t bytes = strlen(compare_texts[order[i]]);
        if (strncmp(*text, compare_texts[order[i]], bytes) == 0) {
            *text += bytes;
            *out = order[i];
            return 0;
        }
    }
    return -EINVAL;
}

int slo_parse(const char *text, struct slo *out, struct err *err)
{
    struct slo slo = {0};
    const char *p = text + strspn(text, " ");
    size_t bytes = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_.");
    if (bytes == 0 || bytes >= sizeof slo.name) {
        return err_set(err, -EINVAL, "'%s' does not begin with a figure's name: " EXAMPLE, text);
    }
    memcpy(slo.name, p, bytes);
    p += bytes;
    p += strspn(p, " ");
    if (parse_compare(&p, &slo.compare) != 0) {
        return err_set(err, -EINVAL, "'%s' has none of < <= == >= > behind the name: " EXAMPLE,
                       text);
    }
    p += strspn(p, " ");
    char *end;
    slo.limit = strtod(p, &end);
    if (end == p || !isfinite(slo.limit) || end[strspn(end, " ")] != '\0') {
        return err_set(err, -EINVAL, "'%s' does not end with a number: " EXAMPLE, text);
    }
    *out = slo;
    return 0;
}

int slo_find(const struct slo *slo, const struct slo_figure *figures, size_t count,
             const struct slo_figure **out_figure, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(figures[i].name, slo->name) == 0) {
            *out_figure = &figures[i];
            return 0;
        }
    }
    char names[ERR_TEXT_BYTES_MAX - 100] = "";
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = strlen(figures[i].name);
        if (at + bytes + 3 > sizeof names) {
            break;
        }
        memcpy(names + at, figures[i].name, bytes + 1);
        at += bytes;
        names[at++] = ' ';
        names[at] = '\0';
    }
    return err_set(err, -ENOENT, "'%s' is no figure of a run: there are %s", slo->name, names);
}

enum slo_verdict slo_check(const struct slo *slo, const struct slo_figure *figure)
{
    double value = figure->value;
    if (isnan(value)) {
        return SLO_UNKNOWN;
    }
    bool pass = false;
    switch (slo->compare) {
    case SLO_LESS:
        pass = value < slo->limit;
        break;
    case SLO_LESS_EQUAL:
        pass = value <= slo->limit;
        break;
    case SLO_EQUAL:
        pass = !(value < slo->limit) && !(value > slo->limit);
        break;
    case SLO_GREATER_EQUAL:
        pass = value >= slo->limit;
        break;
    case SLO_GREATER:
        pass = value > slo->limit;
        break;
    }
    return pass ? SLO_PASS : SLO_FAIL;
}
