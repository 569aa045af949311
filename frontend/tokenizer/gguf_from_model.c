/* gguf_from_model.c - the model of a tokenizer.json from a GGUF file. Where the file has scores instead of
 * merges, every pair of pieces that makes a third is a merge, in the order of the third's score. */
#include "frontend/tokenizer/gguf_from.h"
#include "frontend/tokenizer/part_ids.h"
#include <stdlib.h>

static tn_str token(const tn_tk_from *c, uint32_t id) {
  return id < c->t->ntokens ? tn_tk_text_of(c->t, c->t->tokens[id]) : (tn_str){NULL, 0};
}

static const char *truth(bool b) { return b ? "true" : "false"; }

static void put_vocabulary(const tn_tk_from *c, tn_buf *out) {
  bool first = true;
  tn_buf_puts(out, "\"vocab\": {");
  for (uint32_t i = 0; i < c->count; i++) {
    tn_str s = token(c, i);
    if (!s.ptr) continue;
    tn_buf_puts(out, first ? "" : ", ");
    tn_buf_json(out, s);
    tn_buf_printf(out, ": %u", i);
    first = false;
  }
  tn_buf_puts(out, "}");
}

static void put_unknown(const tn_tk_from *c, tn_buf *out) {
  tn_str unk = {NULL, 0};
  if (c->t->head->unk >= 0) unk = token(c, (uint32_t)c->t->head->unk);
  tn_buf_puts(out, ", \"unk_token\": ");
  if (unk.ptr)
    tn_buf_json(out, unk);
  else
    tn_buf_puts(out, "null");
}

/* ---- BPE ------------------------------------------------------------------------------------- */
static void put_merge(tn_buf *out, bool *first, tn_str left, tn_str right) {
  tn_buf_puts(out, *first ? "[" : ", [");
  tn_buf_json(out, left);
  tn_buf_puts(out, ", ");
  tn_buf_json(out, right);
  tn_buf_puts(out, "]");
  *first = false;
}

static void put_merges(const tn_tk_from *c, tn_buf *out) {
  const tn_tokenizer *t = c->t;
  bool first = true;
  for (uint32_t i = 0; i < t->nmerges; i++)
    put_merge(out, &first, token(c, t->merges[i].left), token(c, t->merges[i].right));
}

typedef struct ranked {
  uint32_t rank, id;
} ranked;

static int best_first(const void *left, const void *right) {
  const ranked *a = left, *b = right;
  if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
  return a->id < b->id ? -1 : a->id > b->id;
}

/* Of two ways to make one piece that of the shorter left part comes first: it is also the leftmost. */
static void put_ways(const tn_tk_from *c, tn_buf *out, bool *first, tn_str s) {
  for (uint32_t at = tn_tk_char_bytes(s.ptr[0]); at < s.len; at += tn_tk_char_bytes(s.ptr[at])) {
    tn_str left = {s.ptr, at}, right = {s.ptr + at, s.len - at};
    uint32_t a = tn_tk_lookup(c->t, left.ptr, left.len), b = tn_tk_lookup(c->t, right.ptr, right.len);
    if (a != TN_TK_NONE && b != TN_TK_NONE && c->t->ranks[a] != TN_TK_NONE && c->t->ranks[b] != TN_TK_NONE)
      put_merge(out, first, left, right);
  }
}

/* Spaces are marks when pieces come to be merged. */
static bool is_made(const tn_tk_from *c, uint32_t id) {
  tn_str s = token(c, id);
  return c->t->ranks[id] != TN_TK_NONE && s.len && !memchr(s.ptr, ' ', s.len);
}

static tn_status put_scored(tn_tk_from *c, tn_buf *out) {
  ranked *order = tn_arena_alloc(&c->arena, ((size_t)c->count + 1) * sizeof *order);
  uint32_t n = 0;
  bool first = true;
  if (!order) return tn_tk_from_oom(c);
  for (uint32_t i = 0; i < c->count; i++)
    if (is_made(c, i)) order[n++] = (ranked){c->t->ranks[i], i};
  qsort(order, n, sizeof *order, best_first);
  for (uint32_t i = 0; i < n; i++) put_ways(c, out, &first, token(c, order[i].id));
  return TN_OK;
}

static tn_status put_bpe(tn_tk_from *c, tn_buf *out) {
  const tn_tk_header *head = c->t->head;
  bool scored = head->model == MODEL_spm, bytes = head->flags & TN_TK_BYTE_FALLBACK;
  tn_buf_puts(out, "{\"type\": \"BPE\", \"dropout\": null");
  put_unknown(c, out);
  tn_buf_printf(out,
                ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": %s, "
                "\"byte_fallback\": %s, \"ignore_merges\": %s, ",
                truth(scored || head->flags & TN_TK_FUSE_UNK), truth(bytes),
                truth(head->flags & TN_TK_IGNORE_MERGES));
  put_vocabulary(c, out);
  tn_buf_puts(out, ", \"merges\": [");
  if (scored)
    TN_TRY(put_scored(c, out));
  else
    put_merges(c, out);
  tn_buf_puts(out, "]}");
  return TN_OK;
}

/* ---- the others ------------------------------------------------------------------------------ */
static tn_status put_unigram(tn_tk_from *c, tn_buf *out) {
  const tn_tk_header *head = c->t->head;
  tn_buf_puts(out, "{\"type\": \"Unigram\", \"unk_id\": ");
  if (head->unk >= 0)
    tn_buf_printf(out, "%d", head->unk);
  else
    tn_buf_puts(out, "null");
  tn_buf_puts(out, ", \"vocab\": [");
  for (uint32_t i = 0; i < c->count; i++) {
    tn_str s = token(c, i);
    tn_buf_puts(out, i ? ", [" : "[");
    tn_buf_json(out, s.ptr ? s : TN_STR(""));
    tn_buf_printf(out, ", %.17g]", c->t->scores[i]);
  }
  tn_buf_printf(out, "], \"byte_fallback\": %s}", truth(head->flags & TN_TK_BYTE_FALLBACK));
  return TN_OK;
}

static tn_status put_wordpiece(tn_tk_from *c, tn_buf *out) {
  tn_buf_puts(out, "{\"type\": \"WordPiece\"");
  put_unknown(c, out);
  tn_buf_puts(out, ", \"continuing_subword_prefix\": ");
  tn_buf_json(out, tn_tk_text_of(c->t, c->t->head->prefix));
  tn_buf_printf(out, ", \"max_input_chars_per_word\": %u, ", c->t->head->max_chars);
  put_vocabulary(c, out);
  tn_buf_puts(out, "}");
  return TN_OK;
}

tn_status tn_tk_from_model(tn_tk_from *c, tn_buf *out) {
  switch (c->t->head->model) {
  case MODEL_unigram: return put_unigram(c, out);
  case MODEL_wordpiece: return put_wordpiece(c, out);
  default: return put_bpe(c, out);
  }
}

/* ---- added tokens ---------------------------------------------------------------------------- */
void tn_tk_from_added(tn_tk_from *c, tn_buf *out) {
  bool first = true;
  tn_buf_puts(out, "[");
  for (uint32_t i = 0; i < c->t->nadded; i++) {
    const tn_tk_added *a = &c->t->added[i];
    if (a->id >= c->count) continue;
    tn_buf_printf(out, "%s{\"id\": %u, \"content\": ", first ? "" : ", ", a->id);
    tn_buf_json(out, tn_tk_text_of(c->t, a->text));
    tn_buf_printf(
        out, ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, \"special\": %s}",
        truth(a->flags & TN_TK_ADDED_SINGLE_WORD), truth(a->flags & TN_TK_ADDED_LSTRIP),
        truth(a->flags & TN_TK_ADDED_RSTRIP), truth(a->flags & TN_TK_ADDED_NORMALIZED),
        truth(a->flags & TN_TK_ADDED_SPECIAL));
    first = false;
  }
  tn_buf_puts(out, "]");
}
