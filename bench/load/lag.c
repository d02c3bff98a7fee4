#include "load/lag.h"

int64_t lag_ns(int64_t intended_ns, int64_t free_ns, int64_t sent_ns)
{
    int64_t could_ns = intended_ns > free_ns ? intended_ns : free_ns;
    return sent_ns > could_ns ? sent_ns - could_ns : 0;
}

int64_t lag_limit_ns(double mean_gap_ns)
{
    double limit_ns = LAG_GAP_RATIO * mean_gap_ns;
    return limit_ns > (double)LAG_FLOOR_NS ? (int64_t)limit_ns : LAG_FLOOR_NS;
}
