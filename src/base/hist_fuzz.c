/* libFuzzer target: whatever the decoder takes, it can also encode, and reads the same again. The
 * first byte says whether the rest is text or what lies behind base64 and zlib, whose checksum
 * would stop nearly every input. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fuzz_plant.h"
#include "base/hist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct hist first;
    if (bytes == 0) {
        return 0;
    }
    int rc = data[0] == 't' ? hist_decode(&first, (const char *)data + 1, bytes - 1, NULL)
                            : hist_decode_plain(&first, data + 1, bytes - 1, NULL);
    if (rc != 0) {
        return 0;
    }
    fuzz_plant(data, first.total > 5401 ? bytes : 0, 1);
    char *text = hist_encode(&first);
    assert(text != NULL);
    struct hist second;
    rc = hist_decode(&second, text, strlen(text), NULL);
    assert(rc == 0);
    assert(first.total == second.total && first.counts_len == second.counts_len);
    assert(memcmp(first.counts, second.counts, (size_t)first.counts_len * sizeof *first.counts) ==
           0);
    assert(hist_quantile_ns(&first, 0.99) == hist_quantile_ns(&second, 0.99));
    free(text);
    hist_fini(&first);
    hist_fini(&second);
    return 0;
}
