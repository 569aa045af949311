/* added.c - finds added tokens: first those that want the raw text, in it; then, in what is left and
 * normalised, those that want it so. At each place the longest wins. */
#include "frontend/tokenizer/engine.h"

static bool word_before(const char *s, uint32_t at) { return at && tn_tk_is_word(tn_tk_char_before(s, &at)); }
static bool word_after(const char *s, uint32_t n, uint32_t at) {
  return at < n && tn_tk_is_word(tn_tk_char(s, &at));
}

static uint32_t spaces_before(const char *s, uint32_t at) {
  for (uint32_t i = at; i && tn_tk_is_space(tn_tk_char_before(s, &i));) at = i;
  return at;
}
static uint32_t spaces_after(const char *s, uint32_t n, uint32_t at) {
  for (uint32_t i = at; i < n && tn_tk_is_space(tn_tk_char(s, &i));) at = i;
  return at;
}

typedef struct found {
  uint32_t start, end;
  int32_t added;
} found;

/* The longest key that begins at `at`; added -1: none. */
static found longest_at(const tn_tk_trie *trie, const char *s, uint32_t n, uint32_t at) {
  found best = {at, at, -1};
  for (uint32_t i = at, node = 0; i < n;) {
    node = tn_tk_trie_child(trie, node, (uint8_t)s[i]);
    if (!node) break;
    i++;
    if (trie->nodes[node].value) best = (found){at, i, (int32_t)trie->nodes[node].value - 1};
  }
  return best;
}

/* Widens a match by the spaces that its token takes, unless it must not stand within a word. `taken`: end of
 * the match before. */
static bool accept(const tn_tokenizer *t, const char *s, uint32_t n, uint32_t taken, found *f) {
  uint32_t flags = t->added[f->added].flags;
  if (flags & TN_TK_ADDED_SINGLE_WORD && (word_before(s, f->start) || word_after(s, n, f->end))) return false;
  if (flags & TN_TK_ADDED_LSTRIP) {
    uint32_t start = spaces_before(s, f->start);
    f->start = start > taken ? start : taken;
  }
  if (flags & TN_TK_ADDED_RSTRIP) f->end = spaces_after(s, n, f->end);
  return true;
}

/* The next token in s[*from ..]; `search` is where matching goes on (a token's spaces are still searched, as
 * in the reference). added -1: none. */
static found next_token(const tn_tokenizer *t, const tn_tk_trie *trie, const char *s, uint32_t n,
                        uint32_t *search, uint32_t taken) {
  if (!trie->nodes) return (found){n, n, -1};
  while (*search < n) {
    if (!trie->root[(uint8_t)s[*search]]) {
      ++*search;
      continue;
    }
    found f = longest_at(trie, s, n, *search);
    *search = f.added < 0 ? *search + 1 : f.end;
    if (f.added >= 0 && accept(t, s, n, taken, &f)) return f;
  }
  return (found){n, n, -1};
}

static void push_split(tn_tk_run *r, uint32_t start, int32_t added) {
  if (r->text.len > start && !tn_vec_push(&r->splits, ((tn_tk_split){start, r->text.len, added})))
    tn_tk_fail(r, TN_OOM);
}

/* The normalised segment, cut at the tokens in it. */
static void put_segment(tn_tk_run *r) {
  const tn_tk_text *in = &r->segment;
  uint32_t taken = 0, search = 0;
  while (!r->status) {
    found f = next_token(r->t, &r->t->normal, in->s, in->len, &search, taken);
    uint32_t start = r->text.len;
    if (f.start > taken) {
      tn_tk_put_part(&r->text, in, taken, f.start);
      push_split(r, start, -1);
      start = r->text.len;
    }
    if (f.added < 0) return;
    tn_tk_put_part(&r->text, in, f.start, f.end);
    push_split(r, start, f.added);
    taken = f.end;
  }
}

static void put_between(tn_tk_run *r, uint32_t start, uint32_t end, const tn_tk_text *raw) {
  if (start >= end) return;
  r->segment.len = 0;
  r->base = raw->at[start].start;
  tn_tk_put_part(&r->segment, raw, start, end);
  if (r->segment.failed)
    tn_tk_fail(r, TN_OOM);
  else
    tn_tk_normalize(r);
  if (!r->status) put_segment(r);
}

void tn_tk_extract(tn_tk_run *r, tn_str text) {
  tn_tk_text raw = {0};
  tn_tk_put_original(&raw, text, 0);
  uint32_t taken = 0, search = 0;
  if (raw.failed) tn_tk_fail(r, TN_OOM);
  while (!r->status) {
    found f = next_token(r->t, &r->t->raw, raw.s, raw.len, &search, taken);
    put_between(r, taken, f.start, &raw);
    if (f.added < 0 || r->status) break;
    uint32_t start = r->text.len;
    tn_tk_put_part(&r->text, &raw, f.start, f.end);
    push_split(r, start, f.added);
    taken = f.end;
  }
  if (r->text.failed) tn_tk_fail(r, TN_OOM);
  tn_tk_text_fini(&raw);
}
