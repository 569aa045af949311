/* encode.c - one or two texts to tokens: extract, normalise, cut, tokenize, then the template. */
#include "frontend/tokenizer/engine.h"

/* ---- trimming of offsets, which the reference counts in characters --------------------------- */
static bool is_space_at(const char *s, uint32_t at) {
  uint32_t c = tn_tk_char(s, &at);
  return c == 0x120 || tn_tk_is_space(c); /* U+0120 stands for a space */
}

static uint32_t leading(tn_str s) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < s.len && is_space_at(s.ptr, i); n++) i += tn_tk_char_bytes(s.ptr[i]);
  return n;
}

static uint32_t trailing(tn_str s) {
  uint32_t n = 0;
  for (uint32_t i = (uint32_t)s.len; i; n++) {
    tn_tk_char_before(s.ptr, &i);
    if (!is_space_at(s.ptr, i)) break;
  }
  return n;
}

/* Some characters on in the original, which may be broken. */
static uint64_t forward(tn_str text, uint64_t at, uint64_t end, uint32_t chars) {
  for (; chars && at < end; chars--) {
    int n = tn_tk_char_check(text.ptr + at, text.len - at);
    at += (uint64_t)(n < 0 ? -n : n);
  }
  return at < end ? at : end;
}

/* Some characters back, but not before `start`; where there are not so many in the text, none. */
static uint64_t backward(tn_str text, uint64_t at, uint64_t start, uint32_t chars) {
  uint64_t end = at;
  for (; chars && at; chars--) {
    do at--;
    while (at && (text.ptr[at] & 0xc0) == 0x80);
  }
  if (chars) return end;
  return at > start ? at : start;
}

/* Takes the spaces out of the place of a token; of a first one that only has the space put in front, not
 * that. */
static void trim(tn_token *x, tn_str token, tn_str text, bool first, bool prefix_space) {
  uint32_t before = leading(token), after = trailing(token);
  if ((first || !x->start) && prefix_space && before == 1) before = 0;
  x->start = forward(text, x->start, x->end, before);
  x->end = backward(text, x->end, x->start, after);
}

/* Where tokens stand in the original, after trimming. */
static void place(const tn_tk_run *r, tn_str original, tn_tokens *out) {
  for (uint32_t i = 0; i < r->tokens.count; i++) {
    const tn_tk_token *k = &r->tokens.items[i];
    tn_token x = {.id = (int32_t)k->id};
    if (k->end > k->start) x.start = r->text.at[k->start].start, x.end = r->text.at[k->end - 1].end;
    tn_str text = k->added >= 0 ? (tn_str){r->text.s + k->start, k->end - k->start}
                                : tn_tk_text_of(r->t, r->t->tokens[k->id]);
    for (uint32_t j = 0; j < r->t->ntrims; j++) trim(&x, text, original, i == 0, r->t->trims[j]);
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
  if (!r.status) place(&r, text, out);
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

static tn_status assemble(const tn_tokenizer *t, const tn_tokens *a, const tn_tokens *b, bool special,
                          tn_tokens *out) {
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

tn_status tn_tokenizer_encode(const tn_tokenizer *t, tn_str text, tn_str pair, uint32_t flags,
                              tn_tokens *out) {
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
