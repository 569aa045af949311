/* charsmap.c - the Precompiled normalizer: SentencePiece's map from strings to strings. The map is a double
 * array of 32-bit units (darts-clone): bits 0-7 label, 8 has a value, 9 scales the offset, 10-30 offset, 31
 * marks a value; values are places in a block of texts that end in NUL. As in the reference, a grapheme
 * cluster of less than six bytes is replaced whole by the text of its *shortest* prefix in the map; a longer
 * one character by character. */
#include "frontend/tokenizer/engine.h"
#include <utf8proc.h>

typedef struct map {
  const uint32_t *units;
  uint32_t count;
  tn_str texts;
} map;

static uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

/* The text for the shortest prefix of s[0 .. n) that the map has; ptr NULL: none. */
static tn_str lookup(const map *m, const char *s, uint32_t n) {
  uint32_t at = m->count ? offset_of(m->units[0]) : 0;
  for (uint32_t i = 0; i < n && s[i]; i++) {
    at ^= (uint8_t)s[i];
    if (at >= m->count) break;
    uint32_t unit = m->units[at];
    if ((unit & (1u << 31 | 0xff)) != (uint8_t)s[i]) break;
    at ^= offset_of(unit);
    if (!(unit >> 8 & 1)) continue;
    uint32_t value = at < m->count ? m->units[at] & 0x7fffffffu : UINT32_MAX;
    if (value >= m->texts.len || (m->texts.ptr[value] & 0xc0) == 0x80) break;
    const char *text = m->texts.ptr + value, *end = memchr(text, 0, m->texts.len - value);
    return (tn_str){text, end ? (uint64_t)(end - text) : m->texts.len - value};
  }
  return (tn_str){NULL, 0};
}

/* New characters take the places of the old ones in turn; further ones that of the last. */
static void put_replaced(const tn_tk_text *in, uint32_t start, uint32_t end, tn_str by, tn_tk_text *out) {
  uint32_t from = start;
  for (uint32_t i = 0; i < by.len;) {
    uint32_t n = tn_tk_char_bytes(by.ptr[i]);
    tn_tk_put(out, by.ptr + i, n, in->at[from]);
    uint32_t next = from + tn_tk_char_bytes(in->s[from]);
    if (next < end) from = next;
    i += n;
  }
}

static void put_cluster(const map *m, const tn_tk_text *in, uint32_t start, uint32_t end, tn_tk_text *out) {
  if (end - start < 6) {
    tn_str by = lookup(m, in->s + start, end - start);
    if (by.ptr) {
      put_replaced(in, start, end, by, out);
      return;
    }
  }
  for (uint32_t i = start, next; i < end; i = next) {
    next = i + tn_tk_char_bytes(in->s[i]);
    tn_str by = lookup(m, in->s + i, next - i);
    if (by.ptr)
      put_replaced(in, i, next, by, out);
    else
      tn_tk_put_part(out, in, i, next);
  }
}

static uint32_t cluster_end(const tn_tk_text *in, uint32_t start) {
  uint32_t end = start;
  utf8proc_int32_t state = 0;
  uint32_t c = tn_tk_char(in->s, &end);
  while (end < in->len) {
    uint32_t next_end = end, next = tn_tk_char(in->s, &next_end);
    if (c < 0x80 && next < 0x80 && c != '\r') break;
    if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)c, (utf8proc_int32_t)next, &state)) break;
    end = next_end;
    c = next;
  }
  return end;
}

void tn_tk_normalize_precompiled(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  map m = {r->t->charsmap + p->a, p->b, tn_tk_text_of(r->t, p->s)};
  for (uint32_t i = 0, end; i < in->len; i = end) {
    end = cluster_end(in, i);
    put_cluster(&m, in, i, end, out);
  }
}
