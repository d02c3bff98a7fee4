/* libFuzzer target: what massif_canonical writes it takes again, and with the same peak. */
#include <assert.h>
#include <stdint.h>

#include "base/fuzz_plant.h"
#include "profile_massif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct buf one = BUF_INIT;
    struct buf two = BUF_INIT;
    int64_t peak = 0;
    int64_t again = -1;
    if (massif_canonical(&one, (const char *)data, bytes, NULL, &peak, NULL) == 0) {
        fuzz_plant(data, bytes, 458);
        int code = massif_canonical(&two, one.data, one.bytes, NULL, &again, NULL);
        assert(code == 0 && again == peak);
    }
    buf_fini(&one);
    buf_fini(&two);
    return 0;
}
