#include "report/html.h"

#include <stdlib.h>
#include <string.h>

void html_text(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        switch (*p) {
        case '&':
            buf_puts(out, "&amp;");
            break;
        case '<':
            buf_puts(out, "&lt;");
            break;
        case '>':
            buf_puts(out, "&gt;");
            break;
        case '"':
            buf_puts(out, "&quot;");
            break;
        case '\'':
            buf_puts(out, "&#39;");
            break;
        default:
            if ((unsigned char)*p < 0x20 && *p != '\t' && *p != '\n') {
                buf_puts(out, "\xef\xbf\xbd");
            } else {
                buf_append(out, p, 1);
            }
        }
    }
}

void html_json(struct buf *out, const struct json *json)
{
    char *text = json_print(json);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '<') {
            buf_puts(out, "\\u003c");
        } else if (strncmp(p, "\xe2\x80\xa8", 3) == 0 || strncmp(p, "\xe2\x80\xa9", 3) == 0) {
            buf_puts(out, p[2] == '\xa8' ? "\\u2028" : "\\u2029");
            p += 2;
        } else {
            buf_append(out, p, 1);
        }
    }
    free(text);
}
