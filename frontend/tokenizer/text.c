/* text.c - growing text with the original place of every byte, and the state of one call. */
#include "frontend/tokenizer/engine.h"

void tn_tk_text_fini(tn_tk_text *t) {
  tn_mem_free(t->s);
  tn_mem_free(t->at);
  memset(t, 0, sizeof *t);
}

bool tn_tk_text_grow(tn_tk_text *t, uint64_t more) {
  uint64_t need = t->len + more, room = t->room < 128 ? 256 : (uint64_t)t->room * 2;
  if (room < need) room = need;
  if (need >= UINT32_MAX) t->failed = true;
  if (t->failed) return false;
  if (room >= UINT32_MAX) room = UINT32_MAX - 1;
  char *s = tn_mem_resize(t->s, room);
  if (s) t->s = s;
  tn_tk_span *at = s ? tn_mem_resize(t->at, room * sizeof *at) : NULL;
  if (!at) return t->failed = true, false;
  t->at = at;
  t->room = (uint32_t)room;
  return true;
}

void tn_tk_put_part(tn_tk_text *t, const tn_tk_text *from, uint32_t start, uint32_t end) {
  uint32_t n = end - start;
  if (!n || !tn_tk_text_room(t, n)) return;
  memcpy(t->s + t->len, from->s + start, n);
  memcpy(t->at + t->len, from->at + start, n * sizeof *t->at);
  t->len += n;
}

void tn_tk_put_original(tn_tk_text *t, tn_str s, uint32_t base) {
  if (!tn_tk_text_room(t, s.len)) return;
  for (uint32_t i = 0; i < s.len;) {
    int n = tn_tk_char_check(s.ptr + i, s.len - i);
    uint32_t used = (uint32_t)(n < 0 ? -n : n);
    tn_tk_span at = {base + i, base + i + used};
    if (n > 0)
      tn_tk_put(t, s.ptr + i, used, at);
    else
      tn_tk_put(t, "\xef\xbf\xbd", 3, at);
    i += used;
  }
}

bool tn_tk_ascii(const char *s, uint32_t n) {
  uint32_t i = 0;
  for (uint64_t word; i + 8 <= n; i += 8) {
    memcpy(&word, s + i, 8);
    if (word & 0x8080808080808080u) return false;
  }
  for (; i < n; i++) {
    if ((uint8_t)s[i] >= 0x80) return false;
  }
  return true;
}

void tn_tk_run_init(tn_tk_run *r, const tn_tokenizer *t) {
  memset(r, 0, sizeof *r);
  r->t = t;
}

void tn_tk_run_fini(tn_tk_run *r) {
  tn_tk_text_fini(&r->text);
  tn_tk_text_fini(&r->side);
  tn_tk_text_fini(&r->segment);
  tn_tk_text_fini(&r->normal);
  tn_vec_fini(&r->splits);
  tn_vec_fini(&r->more);
  tn_vec_fini(&r->matches);
  tn_tk_matcher_fini(&r->matcher);
  tn_vec_fini(&r->tokens);
  tn_vec_fini(&r->symbols);
  tn_vec_fini(&r->heap);
  tn_vec_fini(&r->steps);
  tn_mem_free(r->cache);
}

void tn_tk_fail(tn_tk_run *r, tn_status status) {
  if (!r->status) r->status = status;
}
