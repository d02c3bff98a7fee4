/* libFuzzer target: whatever callgrind_parse takes is written, reads back, and is written the same;
 * totals and the region's sums agree. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/fuzz_plant.h"
#include "profile_callgrind.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct callgrind first;
    if (callgrind_parse(&first, (const char *)data, bytes, NULL) != 0) {
        return 0;
    }
    fuzz_plant(data, bytes, 301);
    const struct callgrind_write_options how = {7, NULL, false};
    struct buf one = BUF_INIT;
    callgrind_write(&one, &first, &how);
    struct callgrind second;
    int code = callgrind_parse(&second, one.data, one.bytes, NULL);
    assert(code == 0);
    assert(second.total == first.total);
    struct callgrind_region region;
    if (callgrind_region(&region, &first, "main", 40, NULL, NULL) == 0) {
        assert(profile_table_sum(&region.functions, FUNCTION_SELF) == region.inside);
        assert(profile_table_sum(&region.stacks, 0) == region.inside);
        assert(region.inside + region.outside == first.total);
        callgrind_region_fini(&region);
    }
    callgrind_fini(&second);
    callgrind_fini(&first);
    buf_fini(&one);
    return 0;
}
