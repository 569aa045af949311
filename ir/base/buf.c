/* buf.c - growing text. A failed allocation sets `failed` and drops the rest, so that printers need one check
 * at their end. */
#include "ir/base/base.h"
#include <stdio.h>

void tn_buf_fini(tn_buf *b) {
  tn_mem_free(b->text);
  memset(b, 0, sizeof *b);
}

/* Room for n more bytes and a NUL. */
static bool buf_reserve(tn_buf *b, uint64_t n) {
  uint64_t need;
  if (b->failed) return false;
  if (tn_add_u64(b->len, n, &need) && tn_add_u64(need, 1, &need) && need <= SIZE_MAX / 2) {
    if (need <= b->capacity) return true;
    uint64_t capacity = b->capacity ? b->capacity * 2 : 256;
    if (capacity < need) capacity = need;
    char *text = tn_mem_resize(b->text, (size_t)capacity);
    if (text) {
      b->text = text;
      b->capacity = capacity;
      return true;
    }
  }
  b->failed = true;
  return false;
}

void tn_buf_put(tn_buf *b, const void *p, uint64_t n) {
  if (!buf_reserve(b, n)) return;
  if (n) memcpy(b->text + b->len, p, (size_t)n);
  b->len += n;
  b->text[b->len] = 0;
}

void tn_buf_puts(tn_buf *b, const char *s) { tn_buf_put(b, s, strlen(s)); }

void tn_buf_vprintf(tn_buf *b, const char *fmt, va_list ap) {
  va_list again;
  va_copy(again, ap);
  char small[128];
  int n = vsnprintf(small, sizeof small, fmt, ap);
  if (n < 0)
    b->failed = true;
  else if ((size_t)n < sizeof small)
    tn_buf_put(b, small, (uint64_t)n);
  else if (buf_reserve(b, (uint64_t)n)) {
    vsnprintf(b->text + b->len, (size_t)n + 1, fmt, again);
    b->len += (uint64_t)n;
  }
  va_end(again);
}

void tn_buf_printf(tn_buf *b, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(b, fmt, ap);
  va_end(ap);
}

/* The well-formed prefix goes out with escapes; a byte that is not UTF-8 becomes U+FFFD. */
static void json_text(tn_buf *b, tn_str s) {
  for (uint64_t i = 0; i < s.len; i++) {
    uint8_t c = (uint8_t)s.ptr[i];
    if (c == '"' || c == '\\')
      tn_buf_printf(b, "\\%c", c);
    else if (c == '\n')
      tn_buf_puts(b, "\\n");
    else if (c == '\t')
      tn_buf_puts(b, "\\t");
    else if (c == '\r')
      tn_buf_puts(b, "\\r");
    else if (c < 0x20 || c == 0x7f)
      tn_buf_printf(b, "\\u%04x", c);
    else
      tn_buf_put(b, &c, 1);
  }
}

void tn_buf_json(tn_buf *b, tn_str s) {
  tn_buf_puts(b, "\"");
  for (uint64_t bad; !tn_utf8_valid(s, &bad);) {
    json_text(b, (tn_str){s.ptr, bad});
    tn_buf_puts(b, "\xef\xbf\xbd");
    s.ptr += bad + 1;
    s.len -= bad + 1;
  }
  json_text(b, s);
  tn_buf_puts(b, "\"");
}

const char *tn_buf_cstr(tn_buf *b) { return b->text ? b->text : ""; }
