/* libFuzzer target: whatever hist_decode takes, it can also encode, and reads the same again. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct hist first;
    if (hist_decode(&first, (const char *)data, bytes, NULL) != 0) {
        return 0;
    }
    char *text = hist_encode(&first);
    assert(text != NULL);
    struct hist second;
    int rc = hist_decode(&second, text, strlen(text), NULL);
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
