/* words.c - WordPiece (the longest piece first, again and again; Wu et al. 2016), WordLevel, and the loop
 * that gives words to the model, which remembers the short ones of a long text. */
#include "frontend/tokenizer/engine.h"

static tn_tk_model *const models[] = {
#define TN_TK_MODEL(name, type) tn_tk_model_##name,
#include "frontend/tokenizer/parts.def"
};

void tn_tk_push_unknown(tn_tk_run *r, uint32_t start, uint32_t end) {
  if (r->t->head->unk < 0)
    tn_tk_fail(r, TN_INVALID);
  else
    tn_tk_token_push(r, (uint32_t)r->t->head->unk, start, end);
}

/* The longest piece at s[*at], from a node of the trie; moves *at. TN_TK_NONE: none. */
static uint32_t longest(const tn_tk_trie *trie, uint32_t node, const char *s, uint32_t end, uint32_t *at) {
  uint32_t id = TN_TK_NONE, i = *at;
  while (i < end && (node = tn_tk_trie_child(trie, node, (uint8_t)s[i]))) {
    i++;
    if (trie->nodes[node].value) id = trie->nodes[node].value - 1, *at = i;
  }
  return id;
}

void tn_tk_model_wordpiece(tn_tk_run *r, uint32_t start, uint32_t end) {
  const tn_tokenizer *t = r->t;
  const char *s = r->text.s;
  uint32_t chars = 0, first = r->tokens.count;
  for (uint32_t i = start; i < end; i++) chars += (s[i] & 0xc0) != 0x80;
  bool ok = chars <= t->head->max_chars;
  for (uint32_t at = start, from; ok && at < end;) {
    from = at;
    uint32_t node = at == start ? 0 : t->continuing;
    uint32_t id = node == TN_TK_NONE ? TN_TK_NONE : longest(&t->vocab, node, s, end, &at);
    ok = id != TN_TK_NONE;
    if (ok) tn_tk_token_push(r, id, from, at);
  }
  if (ok) return;
  r->tokens.count = first;
  tn_tk_push_unknown(r, start, end);
}

void tn_tk_model_wordlevel(tn_tk_run *r, uint32_t start, uint32_t end) {
  uint32_t id = tn_tk_lookup(r->t, r->text.s + start, end - start);
  if (id == TN_TK_NONE)
    tn_tk_push_unknown(r, start, end);
  else
    tn_tk_token_push(r, id, start, end);
}

/* The slot of a word, or NULL: too long to remember. */
static tn_tk_cached *slot_of(tn_tk_run *r, uint32_t start, uint32_t end) {
  if (!r->cache || end - start > TN_TK_CACHE_WORD) return NULL;
  return &r->cache[tn_hash_bytes(r->text.s + start, end - start, 0) % TN_TK_CACHE];
}

static bool recall(tn_tk_run *r, const tn_tk_cached *c, uint32_t start, uint32_t end) {
  if (!c->count || c->len != end - start || memcmp(r->text.s + c->word, r->text.s + start, c->len))
    return false;
  for (uint32_t i = 0; i < c->count; i++) {
    tn_tk_token k = r->tokens.items[c->tokens + i];
    tn_tk_token_push(r, k.id, k.start - c->word + start, k.end - c->word + start);
  }
  return true;
}

void tn_tk_tokenize(tn_tk_run *r) {
  tn_tk_model *model = models[r->t->head->model];
  bool costly = r->t->merges || r->t->scores || r->t->ranks;
  if (costly && r->splits.count > 256)
    r->cache = tn_mem_alloc(TN_TK_CACHE * sizeof *r->cache); /* NULL: without */
  for (uint32_t i = 0; i < r->splits.count && !r->status; i++) {
    tn_tk_split s = r->splits.items[i];
    if (s.added >= 0) {
      tn_tk_token_push(r, r->t->added[s.added].id, s.start, s.end);
      if (!r->status) r->tokens.items[r->tokens.count - 1].added = s.added;
      continue;
    }
    tn_tk_cached *c = slot_of(r, s.start, s.end);
    if (c && recall(r, c, s.start, s.end)) continue;
    uint32_t first = r->tokens.count;
    model(r, s.start, s.end);
    if (c) *c = (tn_tk_cached){s.start, s.end - s.start, first, r->tokens.count - first};
  }
}
