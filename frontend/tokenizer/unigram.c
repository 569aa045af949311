/* unigram.c - the most probable segmentation of a word by a unigram language model (Kudo 2018), by Viterbi
 * over the bytes: steps[i] is the last piece of the best path to byte i. Scores are log probabilities in
 * double precision, added in the reference's order, so that ties fall the same way. Neighbouring unknown
 * characters become one piece. */
#include "frontend/tokenizer/engine.h"

static const double unknown_penalty = 10.0;

static void better(tn_tk_step *step, double score, uint32_t start, uint32_t id) {
  if (step->start != TN_TK_NONE && score <= step->score) return;
  *step = (tn_tk_step){score, start, id};
}

static void search(tn_tk_run *r, const char *s, uint32_t n) {
  const tn_tokenizer *t = r->t;
  tn_tk_step *steps = r->steps.items;
  for (uint32_t i = 0; i <= n; i++) steps[i] = (tn_tk_step){0, TN_TK_NONE, 0};
  for (uint32_t i = 0, next; i < n; i = next) {
    bool single = false;
    next = i + tn_tk_char_bytes(s[i]);
    for (uint32_t at = i, node = 0; at < n && (node = tn_tk_trie_child(&t->vocab, node, (uint8_t)s[at]));) {
      at++;
      uint32_t id = t->vocab.nodes[node].value;
      if (!id--) continue;
      better(&steps[at], t->scores[id] + steps[i].score, i, id);
      single |= at == next;
    }
    if (single) continue;
    if (t->head->unk < 0) {
      tn_tk_fail(r, TN_INVALID);
      return;
    }
    better(&steps[next], t->head->min_score - unknown_penalty + steps[i].score, i, (uint32_t)t->head->unk);
  }
}

/* A piece of unknown characters, which together may still be a token. Bytes go out last first. */
static void put_unknown(tn_tk_run *r, uint32_t start, uint32_t end) {
  const char *s = r->text.s;
  uint32_t id = tn_tk_lookup(r->t, s + start, end - start);
  bool bytes = id == TN_TK_NONE && r->t->head->flags & TN_TK_BYTE_FALLBACK;
  for (uint32_t i = start; bytes && i < end; i++) bytes = r->t->bytes[(uint8_t)s[i]] != TN_TK_NONE;
  for (uint32_t i = end; bytes && i-- > start;) tn_tk_token_push(r, r->t->bytes[(uint8_t)s[i]], start, end);
  if (!bytes) tn_tk_token_push(r, id == TN_TK_NONE ? (uint32_t)r->t->head->unk : id, start, end);
}

static void reverse(tn_tk_token *first, tn_tk_token *last) {
  for (; first < last; first++, last--) {
    tn_tk_token swap = *first;
    *first = *last, *last = swap;
  }
}

void tn_tk_model_unigram(tn_tk_run *r, uint32_t start, uint32_t end) {
  uint32_t n = end - start, first = r->tokens.count, unknown = 0; /* end of a run of unknown characters */
  if (!tn_vec_reserve(&r->steps, n + 1)) tn_tk_fail(r, TN_OOM);
  if (!r->status) search(r, r->text.s + start, n);
  if (r->status) return;
  for (uint32_t at = n; at; at = r->steps.items[at].start) {
    const tn_tk_step *step = &r->steps.items[at];
    if ((int64_t)step->id == r->t->head->unk) {
      if (!unknown) unknown = at;
      continue;
    }
    if (unknown) put_unknown(r, start + at, start + unknown);
    unknown = 0;
    tn_tk_token_push(r, step->id, start + step->start, start + at);
  }
  if (unknown) put_unknown(r, start, start + unknown);
  if (r->tokens.count > first) reverse(r->tokens.items + first, r->tokens.items + r->tokens.count - 1);
}
