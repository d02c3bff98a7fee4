/* Result sets in other tools' formats: stacks of a scenario's profile, metrics of a set.
 *
 * Equal sets give equal bytes. Appends to a buf; reads the set's files. Main thread only. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "set.h"

enum export_format {
    EXPORT_PPROF, /* gzipped; go tool pprof, speedscope */
    EXPORT_FOLDED, /* flamegraph.pl, speedscope */
    EXPORT_SPEEDSCOPE,
    EXPORT_CHROME, /* trace events; Perfetto, speedscope */
    EXPORT_CSV, /* RFC 4180; a line a metric */
    EXPORT_OPENMETRICS, /* gauges; Prometheus */
    EXPORT_BENCHSTAT, /* Go's benchmark format; a line a run */
    EXPORT_FORMATS,
};

const char *export_format_name(enum export_format format);
int export_format_parse(const char *name, enum export_format *out); /* -EINVAL */
int export_is_profile(enum export_format format); /* of one scenario; else of a whole set */

/* What stacks are weighed by. */
enum export_weight {
    EXPORT_INSTRUCTIONS,
    EXPORT_BYTES,
    EXPORT_BLOCKS,
    EXPORT_LIVE_BYTES,
    EXPORT_PEAK_BYTES,
    EXPORT_WEIGHTS,
};
const char *export_weight_name(enum export_weight weight);
int export_weight_parse(const char *name, enum export_weight *out);

/* The profile in dir, a scenario's folder, under the name of the commit. -ENOENT without a profile,
 * -ENODATA where no stack has any of the weight, -EBADMSG; text names the file. */
int export_profile(enum export_format format, enum export_weight weight, const char *dir,
                   const char *name, struct buf *out, struct err *err);

/* The metrics of a set; scenario NULL: of all. */
int export_metrics(enum export_format format, const struct result_set *set, const char *scenario,
                   struct buf *out, struct err *err);
