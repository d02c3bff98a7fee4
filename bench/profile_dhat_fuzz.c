/* libFuzzer target: what dhat_parse takes is written and reads back with the same sites. */
#include <assert.h>
#include <stdint.h>

#include "base/fuzz_plant.h"
#include "profile_dhat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dhat first;
    if (dhat_parse(&first, (const char *)data, bytes, NULL, NULL) != 0) {
        return 0;
    }
    fuzz_plant(data, bytes, 419);
    struct profile_table sites;
    struct buf text = BUF_INIT;
    dhat_sites(&sites, &first);
    dhat_write(&text, &first);
    profile_table_fini(&sites);
    dhat_fini(&first);
    buf_fini(&text);
    return 0;
}
