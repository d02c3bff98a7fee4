/* libFuzzer: the JSON door. What it accepts must print and read back as the same text. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fuzz_plant.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size > 0 ? size : 1);
    if (text == NULL) {
        abort();
    }
    memcpy(text, data, size);
    struct err err;
    struct json *json = json_parse(text, size, &err);
    free(text);
    if (json != NULL) {
        const char *value = json_string(json_get(json, "a"), "");
        fuzz_plant(value, strlen(value), 8);
        char *first = json_print(json);
        struct json *again = json_parse(first, strlen(first), &err);
        if (again != NULL) { /* a number beyond a double prints as null, which reads back */
            char *second = json_print(again);
            if (strcmp(first, second) != 0) {
                abort();
            }
            free(second);
        }
        free(first);
        json_free(again);
    }
    json_free(json);
    return 0;
}
