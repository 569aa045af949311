/* page.c - report.html: a frame, its styles, the report as JSON and the scripts that draw it, in one file
 * that needs no other. */
#include "tools/report/pages.h"
#include "tools/report/report.h"

static void put_pages(tn_buf *out, const char *ending) {
  for (const tn_embedded_page *p = tn_report_pages; p->name; p++)
    if (tn_str_ends(tn_str_of(p->name), ending)) tn_buf_put(out, p->text, p->size);
}

/* JSON inside a script element: '<' occurs in its texts only, where it may be written as an escape. */
static void put_data(tn_buf *out, const tn_buf *json) {
  for (uint64_t at = 0; at < json->len;) {
    const char *text = json->text + at, *found = memchr(text, '<', json->len - at);
    uint64_t n = found ? (uint64_t)(found - text) : json->len - at;
    tn_buf_put(out, text, n);
    if (found) tn_buf_puts(out, "\\u003c");
    at += n + (found != NULL);
  }
}

void tn_report_page(const tn_buf *json, tn_buf *out) {
  tn_buf_puts(out, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<style>\n");
  put_pages(out, ".css");
  tn_buf_puts(out, "</style>\n");
  put_pages(out, ".html");
  tn_buf_puts(out, "<script type=\"application/json\" id=\"report\">");
  put_data(out, json);
  tn_buf_puts(out, "</script>\n<script>\n\"use strict\";\n");
  put_pages(out, ".js");
  tn_buf_puts(out, "</script>\n</html>\n");
}
