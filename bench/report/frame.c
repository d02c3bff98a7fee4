#include "report/frame.h"

#include "report/html.h"
#include "report/page.h"

void frame_head(struct buf *out, const char *title)
{
    html_raw(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                  "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
                  "<title>");
    html_text(out, title);
    html_raw(out, "</title>\n<style>\n");
    buf_puts(out, page_uplot_css);
    buf_puts(out, page_css);
    html_raw(out, "</style>\n</head>\n<body>\n");
}

void frame_foot(struct buf *out, const struct json *data)
{
    html_raw(out, "<script type=\"application/json\" id=\"data\">");
    html_json(out, data);
    html_raw(out, "</script>\n");
    if (page_uplot_js[0] != '\0') {
        html_raw(out, "<script>\n/*");
        buf_puts(out, page_uplot_licence);
        html_raw(out, "*/\n");
        buf_puts(out, page_uplot_js);
        html_raw(out, "</script>\n");
    }
    html_raw(out, "<script>\n");
    buf_puts(out, page_flame_js);
    buf_puts(out, page_js);
    html_raw(out, "</script>\n</body>\n</html>\n");
}
