/* encode.c - one or two texts to tokens: extract, normalise, cut, tokenize, then the template. */
#include "frontend/tokenizer/engine.h"

/* Spaces at one end of a token's text, as characters and as bytes of the original. */
typedef struct spaces {
  uint32_t chars;
  uint64_t bytes;
} spaces;

static bool space_at(const char *s, uint32_t at, spaces *found) {
  uint32_t from = at, c = tn_tk_char(s, &at);
  if (c != 0x120 && !tn_tk_is_space(c)) return false; /* U+0120 stands for a space */
  found->chars++;
  found->bytes += c == 0x120 ? 1 : at - from;
  return true;
}

static spaces leading(tn_str s) {
  spaces found = {0};
  for (uint32_t i = 0; i < s.len && space_at(s.ptr, i, &found);) i += tn_tk_char_bytes(s.ptr[i]);
  return found;
}

static spaces trailing(tn_str s) {
  spaces found = {0};
  for (uint32_t i = (uint32_t)s.len; i;) {
    tn_tk_char_before(s.ptr, &i);
    if (!space_at(s.ptr, i, &found)) break;
  }
  return found;
}

static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Takes the spaces out of the place of a token; of a first one that only has the space put in front, none. */
static void trim(tn_token *x, tn_str text, bool first, bool prefix_space) {
  spaces before = leading(text), after = trailing(text);
  if ((first || !x->start) && prefix_space && before.chars == 1) before.bytes = 0;
  x->start = min64(x->start + before.bytes, x->end);
  if (after.bytes && x->end >= after.bytes)
    x->end = x->end - after.bytes > x->start ? x->end - after.bytes : x->start;
}

/* Where tokens stand in the original, after trimming. */
static void place(const tn_tk_run *r, tn_tokens *out) {
  for (uint32_t i = 0; i < r->tokens.count; i++) {
    const tn_tk_token *k = &r->tokens.items[i];
    tn_token x = {.id = (int32_t)k->id};
    if (k->end > k->start) x.start = r->text.at[k->start].start, x.end = r->text.at[k->end - 1].end;
    tn_str text = k->added >= 0 ? (tn_str){r->text.s + k->start, k->end - k->start}
                                : tn_tk_text_of(r->t, r->t->tokens[k->id]);
    for (uint32_t j = 0; j < r->t->ntrims; j++) trim(&x, text, i == 0, r->t->trims[j]);
    out->items[out->count++] = x;
  }
}

static tn_status encode_one(const tn_tokenizer *t, tn_str text, tn_tokens *out) {
  if (text.len > TN_TK_TEXT_MAX) return TN_INVALID;
  tn_tk_run r;
  tn_tk_run_init(&r, t);
  tn_tk_extract(&r, text);
  if (!r.status) tn_tk_pre_tokenize(&r);
  if (!r.status) tn_tk_tokenize(&r);
  if (!r.status && r.tokens.count && !tn_vec_reserve(out, r.tokens.count)) r.status = TN_OOM;
  if (!r.status) place(&r, out);
  tn_tk_run_fini(&r);
  return r.status;
}

static tn_status append(tn_tokens *out, const tn_tokens *in, uint32_t type) {
  for (uint32_t i = 0; i < in->count; i++) {
    tn_token x = in->items[i];
    x.type = type;
    if (!tn_vec_push(out, x)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status assemble(const tn_tokenizer *t, const tn_tokens *a, const tn_tokens *b, bool special, tn_tokens *out) {
  uint32_t single = t->head->single, first = b ? single : 0, last = b ? t->npieces : single;
  for (uint32_t i = first; i < last; i++) {
    tn_tk_piece p = t->pieces[i];
    if (p.id < 0)
      TN_TRY(append(out, p.id == TN_TK_PIECE_B && b ? b : a, p.type));
    else if (special && !tn_vec_push(out, ((tn_token){p.id, p.type, 0, 0, true})))
      return TN_OOM;
  }
  return TN_OK;
}

tn_status tn_tokenizer_encode(const tn_tokenizer *t, tn_str text, tn_str pair, uint32_t flags, tn_tokens *out) {
  tn_tokens a = {0}, b = {0};
  uint32_t before = out->count;
  tn_status status = encode_one(t, text, &a);
  if (!status && pair.ptr) status = encode_one(t, pair, &b);
  if (!status) status = assemble(t, &a, pair.ptr ? &b : NULL, !(flags & TN_TOKENIZE_NO_SPECIAL), out);
  if (status) out->count = before;
  tn_vec_fini(&a);
  tn_vec_fini(&b);
  return status;
}
