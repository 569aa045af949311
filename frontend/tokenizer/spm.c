/* spm.c - byte pair encoding as SentencePiece does it (Kudo and Richardson 2018): there is no list of merges,
 * any two neighbours whose text together is a token may merge, the one with the best score first, the
 * leftmost of equals. What is no token in the end is spelt in bytes. tn_tk_symbol.id is here where the symbol
 * begins, since most symbols on the way need no id. */
#include "frontend/tokenizer/engine.h"

static void rank_symbol(tn_tk_run *r, uint32_t pos) {
  tn_tk_symbol *s = &r->symbols.items[pos];
  s->rank = TN_TK_NONE;
  if (s->next < 0) return;
  uint32_t id = tn_tk_lookup(r->t, r->text.s + s->id, s->len + r->symbols.items[s->next].len);
  if (id == TN_TK_NONE || r->t->ranks[id] == TN_TK_NONE) return;
  s->rank = r->t->ranks[id];
  if (!tn_tk_heap_push(r, (uint64_t)s->rank << 32 | pos)) tn_tk_fail(r, TN_OOM);
}

static void put_characters(tn_tk_run *r, uint32_t start, uint32_t end) {
  r->symbols.count = 0;
  for (uint32_t i = start, n; i < end && !r->status; i += n) {
    int32_t at = (int32_t)r->symbols.count;
    n = tn_tk_char_bytes(r->text.s[i]);
    tn_tk_symbol s = {i, n, TN_TK_NONE, at - 1, i + n < end ? at + 1 : -1};
    if (!tn_vec_push(&r->symbols, s)) tn_tk_fail(r, TN_OOM);
  }
}

/* An entry of the heap whose symbol has another rank by now is out of date. */
static void merge_all(tn_tk_run *r) {
  tn_tk_symbol *s = r->symbols.items;
  r->heap.count = 0;
  for (uint32_t i = 0; i < r->symbols.count && !r->status; i++) rank_symbol(r, i);
  while (r->heap.count && !r->status) {
    uint64_t top = tn_tk_heap_pop(r);
    uint32_t pos = (uint32_t)top;
    if (!s[pos].len || s[pos].rank != (uint32_t)(top >> 32)) continue;
    tn_tk_symbol *right = &s[s[pos].next];
    s[pos].len += right->len;
    s[pos].next = right->next;
    right->len = 0;
    if (right->next >= 0) s[right->next].prev = (int32_t)pos;
    if (s[pos].prev >= 0) rank_symbol(r, (uint32_t)s[pos].prev);
    rank_symbol(r, pos);
  }
}

static bool put_bytes(tn_tk_run *r, uint32_t start, uint32_t end) {
  const tn_tokenizer *t = r->t;
  if (!(t->head->flags & TN_TK_BYTE_FALLBACK)) return false;
  for (uint32_t i = start; i < end; i++)
    if (t->bytes[(uint8_t)r->text.s[i]] == TN_TK_NONE) return false;
  for (uint32_t i = start; i < end; i++) tn_tk_token_push(r, t->bytes[(uint8_t)r->text.s[i]], start, end);
  return true;
}

/* Neighbouring unknown characters are one unknown token. */
static void put_tokens(tn_tk_run *r, uint32_t start) {
  uint32_t unknown = TN_TK_NONE, end = start;
  for (uint32_t i = 0; i < r->symbols.count && !r->status; i++) {
    const tn_tk_symbol *s = &r->symbols.items[i];
    if (!s->len) continue;
    end = s->id + s->len;
    uint32_t id = tn_tk_lookup(r->t, r->text.s + s->id, s->len);
    bool known = id != TN_TK_NONE && r->t->ranks[id] != TN_TK_NONE;
    if (!known && !(r->t->head->flags & TN_TK_BYTE_FALLBACK)) {
      if (unknown == TN_TK_NONE) unknown = s->id;
      continue;
    }
    if (unknown != TN_TK_NONE) tn_tk_push_unknown(r, unknown, s->id);
    unknown = TN_TK_NONE;
    if (known)
      tn_tk_token_push(r, id, s->id, end);
    else if (!put_bytes(r, s->id, end))
      tn_tk_push_unknown(r, s->id, end);
  }
  if (unknown != TN_TK_NONE) tn_tk_push_unknown(r, unknown, end);
}

void tn_tk_model_spm(tn_tk_run *r, uint32_t start, uint32_t end) {
  put_characters(r, start, end);
  if (!r->status) merge_all(r);
  if (!r->status) put_tokens(r, start);
}
