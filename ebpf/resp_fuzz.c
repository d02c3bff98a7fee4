/* The first byte of the input says where the rest is cut. */
#include <stdint.h>
#include <stdlib.h>

#include "base/fuzz_plant.h"
#include "resp_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 2) {
        return 0;
    }
    size_t cut = data[0] % bytes;
    const char *text = (const char *)data + 1;
    bytes--;
    /* Where lines do not end as RESP's do, a cut may show what it would not; nothing may break. */
    int lines_end_well = 1;
    for (size_t i = 0; i < bytes; i++) {
        lines_end_well &= text[i] != '\r' || i + 1 == bytes || text[i + 1] == '\n';
        lines_end_well &= text[i] != '\n' || (i > 0 && text[i - 1] == '\r');
    }
    for (int request = 0; request < 2; request++) {
        struct resp_host whole = {0};
        resp_host_feed(&whole, text, bytes, request);
        fuzz_plant(text, whole.messages[request] > 8 ? bytes : 0, 1);
        struct resp_host parts = {0};
        resp_host_feed(&parts, text, cut, request);
        resp_host_feed(&parts, text + cut, bytes - cut, request);
        if (lines_end_well && !whole.dir[request].bad && !parts.dir[request].bad &&
            whole.messages[request] != parts.messages[request]) {
            abort(); /* a cut must not change what is found */
        }
    }
    return 0;
}
