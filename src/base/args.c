#include "base/args.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit duration_units[] = {
    {"ns", 1},         {"us", NS_PER_US},      {"ms", NS_PER_MS},
    {"s", NS_PER_SEC}, {"m", 60 * NS_PER_SEC}, {"h", 3600 * NS_PER_SEC},
    {NULL, 0},
};

static const struct unit byte_units[] = {
    {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}, {"GiB", 1024 * 1024 * 1024}, {NULL, 0},
};

static int parse_unit(const char *text, const struct unit *units, const char *example,
                      int64_t *out_value, struct err *err)
{
    char *end;
    errno = 0;
    double number = isdigit((unsigned char)text[0]) ? strtod(text, &end) : -1;
    if (number < 0 || errno != 0 || !isfinite(number)) {
        return err_set(err, -EINVAL, "'%s' is not a number with a unit: write it like %s", text,
                       example);
    }
    if (*end == '\0') {
        if (number == 0) {
            *out_value = 0;
            return 0;
        }
        return err_set(err, -EINVAL, "'%s' has no unit: write it like %s", text, example);
    }
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (strcmp(end, unit->name) == 0) {
            double value = number * (double)unit->factor;
            if (value >= 0x1p63) {
                return err_set(err, -EINVAL, "'%s' is too large", text);
            }
            *out_value = (int64_t)llround(value);
            return 0;
        }
    }
    return err_set(err, -EINVAL, "'%s' has an unknown unit '%s': write it like %s", text, end,
                   example);
}

int args_duration_ns(const char *text, int64_t *out_ns, struct err *err)
{
    return parse_unit(text, duration_units, "250ms, 10s or 5m", out_ns, err);
}

int args_bytes(const char *text, int64_t *out_bytes, struct err *err)
{
    return parse_unit(text, byte_units, "512B, 64KiB or 1MiB", out_bytes, err);
}

int args_int(const char *text, int64_t min, int64_t max, int64_t *out_value, struct err *err)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (text[0] == '\0' || isspace((unsigned char)text[0]) || *end != '\0' || errno != 0 ||
        value < min || value > max) {
        return err_set(err, -EINVAL, "'%s' is not a whole number in %lld..%lld", text,
                       (long long)min, (long long)max);
    }
    *out_value = value;
    return 0;
}

int args_double(const char *text, double min, double max, double *out_value, struct err *err)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (text[0] == '\0' || isspace((unsigned char)text[0]) || *end != '\0' || errno != 0 ||
        !(value >= min && value <= max)) {
        return err_set(err, -EINVAL, "'%s' is not a number in %g..%g", text, min, max);
    }
    *out_value = value;
    return 0;
}
