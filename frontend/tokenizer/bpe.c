/* bpe.c - byte pair encoding (Sennrich et al. 2016): the pair of neighbours with the lowest rank merges
 * first, the leftmost of equals, until none is in the table. A heap holds the pairs, so a word of n
 * characters takes O(n log n); entries whose pair has changed since are found by their rank and dropped. */
#include "frontend/tokenizer/engine.h"

static uint32_t rank_of(const tn_tokenizer *t, uint32_t left, uint32_t right) {
  if (!t->nmerges) return TN_TK_NONE;
  for (uint32_t at = tn_tk_pair_hash(left, right) & t->merge_mask;; at = (at + 1) & t->merge_mask) {
    uint32_t rank = t->merge_index[at];
    if (!rank--) return TN_TK_NONE;
    if (t->merges[rank].left == left && t->merges[rank].right == right) return rank;
  }
}

bool tn_tk_heap_push(tn_tk_run *r, uint64_t key) {
  if (!tn_vec_push(&r->heap, key)) return false;
  uint64_t *h = r->heap.items;
  uint32_t i = r->heap.count - 1;
  for (; i && h[(i - 1) / 2] > key; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
  h[i] = key;
  return true;
}

uint64_t tn_tk_heap_pop(tn_tk_run *r) {
  uint64_t *h = r->heap.items, top = h[0], key = h[--r->heap.count];
  uint32_t n = r->heap.count, i = 0;
  for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && h[child + 1] < h[child]) child++;
    if (h[child] >= key) break;
    h[i] = h[child];
  }
  h[i] = key;
  return top;
}

static void rank_symbol(tn_tk_run *r, uint32_t pos) {
  tn_tk_symbol *s = &r->symbols.items[pos];
  s->rank = s->next < 0 ? TN_TK_NONE : rank_of(r->t, s->id, r->symbols.items[s->next].id);
  if (s->rank != TN_TK_NONE && !tn_tk_heap_push(r, (uint64_t)s->rank << 32 | pos)) tn_tk_fail(r, TN_OOM);
}

static void merge_all(tn_tk_run *r) {
  tn_tk_symbol *s = r->symbols.items;
  r->heap.count = 0;
  for (uint32_t i = 0; i < r->symbols.count; i++) rank_symbol(r, i);
  while (r->heap.count && !r->status) {
    uint64_t top = tn_tk_heap_pop(r);
    uint32_t pos = (uint32_t)top, rank = (uint32_t)(top >> 32);
    if (!s[pos].len || s[pos].rank != rank) continue;
    tn_tk_symbol *right = &s[s[pos].next];
    s[pos].id = r->t->merges[rank].made;
    s[pos].len += right->len;
    s[pos].next = right->next;
    right->len = 0;
    if (right->next >= 0) s[right->next].prev = (int32_t)pos;
    if (s[pos].prev >= 0) rank_symbol(r, (uint32_t)s[pos].prev);
    rank_symbol(r, pos);
  }
}

static void symbol_push(tn_tk_run *r, uint32_t id, uint32_t len) {
  int32_t at = (int32_t)r->symbols.count;
  if (at) r->symbols.items[at - 1].next = at;
  if (!tn_vec_push(&r->symbols, ((tn_tk_symbol){id, len, TN_TK_NONE, at - 1, -1}))) tn_tk_fail(r, TN_OOM);
}

/* A character with what the model wants around it: prefix unless first, suffix if last. Returns the length.
 */
static uint32_t affixed(const tn_tokenizer *t, const char *s, uint32_t n, bool first, bool last, char *out) {
  tn_str prefix = tn_tk_text_of(t, t->head->prefix), suffix = tn_tk_text_of(t, t->head->suffix);
  uint32_t len = 0;
  if (!first && prefix.len) memcpy(out, prefix.ptr, prefix.len), len = (uint32_t)prefix.len;
  memcpy(out + len, s, n);
  len += n;
  if (last && suffix.len) memcpy(out + len, suffix.ptr, suffix.len), len += (uint32_t)suffix.len;
  return len;
}

static bool push_bytes(tn_tk_run *r, const char *s, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    if (r->t->bytes[(uint8_t)s[i]] == TN_TK_NONE) return false;
  }
  for (uint32_t i = 0; i < n; i++) symbol_push(r, r->t->bytes[(uint8_t)s[i]], 1);
  return true;
}

/* Unknown characters that still have to be put as one or more unknown tokens. */
typedef struct unknown {
  uint32_t bytes;
} unknown;
static void flush(tn_tk_run *r, unknown *u) {
  if (u->bytes) symbol_push(r, (uint32_t)r->t->head->unk, u->bytes);
  u->bytes = 0;
}

static void not_in_vocabulary(tn_tk_run *r, uint32_t n, unknown *u) {
  int32_t unk = r->t->head->unk;
  if (unk == TN_TK_UNK_NONE) return; /* as the reference: the character is lost */
  if (unk == TN_TK_UNK_MISSING) {
    tn_tk_fail(r, TN_INVALID);
    return;
  }
  if (!(r->t->head->flags & TN_TK_FUSE_UNK)) flush(r, u);
  u->bytes += n;
}

static void put_symbols(tn_tk_run *r, const char *s, uint32_t n) {
  const tn_tokenizer *t = r->t;
  bool affixes = t->head->prefix.len || t->head->suffix.len;
  unknown u = {0};
  for (uint32_t i = 0, next; i < n && !r->status; i = next) {
    char with[4 + 2 * TN_TK_AFFIX_MAX];
    const char *text = s + i;
    next = i + tn_tk_char_bytes(s[i]);
    uint32_t len = next - i, from = i, id;
    if (affixes) len = affixed(t, text, len, i == 0, next == n, with), text = with;
    uint32_t c = tn_tk_char(s, &from);
    id = !affixes && c < TN_COUNT(t->characters) ? t->characters[c] : tn_tk_lookup(t, text, len);
    if (id != TN_TK_NONE) {
      flush(r, &u);
      symbol_push(r, id, next - i);
    } else if (!(t->head->flags & TN_TK_BYTE_FALLBACK && push_bytes(r, text, len))) {
      not_in_vocabulary(r, next - i, &u);
    }
  }
  flush(r, &u);
}

void tn_tk_model_bpe(tn_tk_run *r, uint32_t start, uint32_t end) {
  const char *s = r->text.s + start;
  if (r->t->head->flags & TN_TK_IGNORE_MERGES) {
    uint32_t id = tn_tk_lookup(r->t, s, end - start);
    if (id != TN_TK_NONE) {
      tn_tk_token_push(r, id, start, end);
      return;
    }
  }
  r->symbols.count = 0;
  put_symbols(r, s, end - start);
  if (!r->status) merge_all(r);
  for (uint32_t i = 0, at = start; i < r->symbols.count && !r->status; i++) {
    tn_tk_symbol *x = &r->symbols.items[i];
    if (!x->len) continue;
    uint32_t to = at + x->len;
    tn_tk_token_push(r, x->id, at < end ? at : end - 1, to < end ? to : end);
    at = to;
  }
}
