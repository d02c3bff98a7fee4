#include "tally.h"

#include <math.h>

void tally_report_times(struct report_table *table, const struct tally *tally)
{
    bool timed = tally->timed > 0;
    double most = (double)tally->ns_max;
    double p50 = fmin((double)loghist_quantile(tally->buckets, 0.5), most);
    double p99 = fmin((double)loghist_quantile(tally->buckets, 0.99), most);
    report_number(table, timed ? p50 : (double)NAN);
    report_number(table, timed ? p99 : (double)NAN);
    report_number(table, timed ? most : (double)NAN);
}

struct report_table *tally_table(struct report *report)
{
    static const struct report_column columns[] = {
        {"scheduler", "scheduler", REPORT_LABEL},
        {"event", "event", REPORT_LABEL},
        {"calls", "calls", REPORT_COUNT},
        {"tasks", "tasks", REPORT_COUNT},
        {"rate_per_sec", "tasks/s", REPORT_NUMBER},
        {"latency_ns_p50", "p50", REPORT_NS},
        {"latency_ns_p99", "p99", REPORT_NS},
        {"latency_ns_max", "max", REPORT_NS},
        {"time_ns", "time", REPORT_NS},
        {"latency_ns", "latency", REPORT_HIST},
    };
    return report_table(report, "leases", columns, sizeof columns / sizeof columns[0]);
}

void tally_report(struct report_table *table, const struct report *report, const char *scheduler,
                  const char *event, const struct tally *tally)
{
    report_text(table, scheduler);
    report_text(table, event);
    report_number(table, tally->calls > 0 ? (double)tally->calls : (double)NAN);
    report_number(table, (double)tally->tasks);
    report_number(table,
                  report->elapsed > 0 ? (double)tally->tasks / report->elapsed : (double)NAN);
    tally_report_times(table, tally);
    report_number(table, tally->timed > 0 ? (double)tally->ns : (double)NAN);
    report_hist(table, tally->buckets, tally->ns);
}
