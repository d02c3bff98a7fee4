/* Writing HTML: text that comes from files is always escaped here, in one place.
 *
 * Appends to a buf; nothing else is kept. Any thread. */
#pragma once

#include "base/buf.h"
#include "base/json.h"

/* Text content or a double-quoted attribute's value: & < > " ' become entities, control characters
 * but tab and newline become U+FFFD. */
void html_text(struct buf *out, const char *text);

/* printf whose %s arguments must be constant or escaped; for markup only. */
#define html_raw buf_printf

/* `json` as the body of <script type="application/json">: no '<' and no U+2028/9 survives, so no
 * text in it can end the element. */
void html_json(struct buf *out, const struct json *json);
