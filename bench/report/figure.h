/* Figures of a summary as people read them. Pure; any thread. */
#pragma once

#include "base/buf.h"
#include "base/json.h"

#define FIGURE_BYTES 64

/* Thousands apart by a thin space, so that digits can be counted; "-" for NAN. */
const char *figure_text(double value, char out[FIGURE_BYTES]);

/* With its unit: "12.3 us", "4 096 B", "10 400.83"; units of counts are left out, as the metric's
 * title says them. */
const char *figure_with_unit(double value, const char *unit, char out[FIGURE_BYTES]);

/* "+1.50 %", "-644"; a ratio where before is above 0. */
const char *figure_change(double before, double after, char out[FIGURE_BYTES]);

/* A summary's metric of that id, NULL without; its value, NAN without. */
const struct json *figure_metric(const struct json *summary, const char *id);
double figure_value(const struct json *metric);

/* All samples of a timed metric's runs; 0 where it has none. */
double figure_samples(const struct json *metric);

/* NAN is null. */
void figure_append(struct json *array, double value);
