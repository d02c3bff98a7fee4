#include "runs_hist.h"

#include <string.h>

bool runs_hist(const struct result_runs *runs, const char *operation, struct hist *out,
               size_t *out_runs)
{
    size_t count = 0;
    for (size_t i = 0; i < runs->count; i++) {
        const struct json *h = json_get(json_get(runs->lines[i], "hdr"), operation);
        const char *text = json_string(json_get(h, "b64"), NULL);
        struct hist one;
        if (text == NULL || hist_decode(&one, text, strlen(text), NULL) != 0) {
            continue;
        }
        if (count++ == 0) {
            *out = one;
        } else {
            hist_merge(out, &one, NULL);
            hist_fini(&one);
        }
    }
    if (out_runs != NULL) {
        *out_runs = count;
    }
    return count > 0;
}

const struct json *runs_hist_operations(const struct result_runs *runs)
{
    const struct json *first = NULL;
    for (size_t i = 0; i < runs->count && first == NULL; i++) {
        first = json_first(json_get(runs->lines[i], "hdr"));
    }
    return first;
}
