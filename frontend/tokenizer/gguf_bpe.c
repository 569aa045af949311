/* gguf_bpe.c - byte pair encoding with the merges of the file. Most of these tokenizers work on bytes written
 * as letters (GPT-2), and differ in how text is cut first: pre.def has a row per name. */
#include "frontend/tokenizer/gguf.h"
#include "frontend/tokenizer/part_ids.h"

enum { WHOLE = TN_TK_PRE_WHOLE, BOS = TN_TK_PRE_BOS, SEP = TN_TK_PRE_SEP, RAW = TN_TK_PRE_RAW };
static const tn_tk_pre rows[] = {
#define TN_TK_PRE(name, flags, normalizer, ...) {name, flags, normalizer, {__VA_ARGS__}},
#include "frontend/tokenizer/pre.def"
};

const tn_tk_pre *tn_tk_pre_rows(uint32_t *count) {
  *count = TN_COUNT(rows);
  return rows;
}

static const tn_str none = {NULL, 0};

static tn_status find_row(tn_tk_gguf *t, const char *fallback, const tn_tk_pre **out) {
  const char *names[TN_COUNT(rows)];
  tn_str name = tn_str_of(fallback);
  TN_TRY(tn_tk_gguf_str(t, "tokenizer.ggml.pre", &name));
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    names[i] = rows[i].name;
    if (tn_str_is(name, rows[i].name)) return *out = &rows[i], TN_OK;
  }
  char *word = tn_arena_str(&t->r.arena, name);
  if (!word) return tn_tk_oom(&t->r);
  int near = tn_str_nearest(word, names, (int)TN_COUNT(rows));
  return tn_tk_unsupported(&t->r, "tokenizer.ggml.pre", "'%.64s' is not known%s%s", word,
                           near < 0 ? "" : "; the nearest is ", near < 0 ? "" : names[near]);
}

static tn_status read_merges(tn_tk_gguf *t) {
  const tn_gguf_kv *list;
  TN_TRY(tn_tk_gguf_list(t, "tokenizer.ggml.merges", TN_GGUF_STRING, &list));
  if (!list) return tn_tk_bad(&t->r, "tokenizer.ggml.merges", "is missing");
  if (list->count > INT32_MAX) return tn_tk_bad(&t->r, "tokenizer.ggml.merges", "has too many items");
  if (list->count && !tn_vec_reserve(&t->r.build.merges, (uint32_t)list->count)) return tn_tk_oom(&t->r);
  for (uint64_t i = 0; i < list->count; i++) {
    char where[64];
    tn_str s;
    tn_gguf_string(list, i, &s);
    const char *space = s.len > 1 ? memchr(s.ptr + 1, ' ', s.len - 1) : NULL;
    snprintf(where, sizeof where, "tokenizer.ggml.merges[%llu]", (unsigned long long)i);
    if (!space)
      return tn_tk_bad(&t->r, where, "'%.*s' is not two tokens with a space between",
                       (int)(s.len > 64 ? 64 : s.len), s.ptr);
    uint64_t at = (uint64_t)(space - s.ptr);
    TN_TRY(tn_tk_add_merge(&t->r, where, (tn_str){s.ptr, at}, (tn_str){space + 1, s.len - at - 1}));
  }
  return TN_OK;
}

static tn_status put_parts(tn_tk_gguf *t, const tn_tk_pre *row) {
  bool raw = row->flags & RAW;
  if (row->normalizer)
    TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_NORMALIZE, (tn_tk_part){.kind = NORMALIZER_nfc}, none, none));
  if (raw)
    TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_NORMALIZE, (tn_tk_part){.kind = NORMALIZER_replace}, TN_STR(" "),
                           TN_STR("\xe2\x96\x81")));
  for (size_t i = 0; i < TN_TK_PATTERNS && row->patterns[i]; i++)
    TN_TRY(tn_tk_gguf_split(t, row->patterns[i]));
  if (raw) return tn_tk_gguf_decoders(t, false);
  bool prefix = false;
  TN_TRY(tn_tk_gguf_bool(t, "tokenizer.ggml.add_space_prefix", &prefix));
  if (prefix && t->r.build.parts[TN_TK_STAGE_SPLIT].count == 1) {
    tn_tk_part *only = t->r.build.parts[TN_TK_STAGE_SPLIT].items; /* the space comes before the cut */
    only->kind = SPLIT_byte_level, only->flags |= TN_TK_PREFIX_SPACE, only->a = 0;
  } else {
    tn_tk_part bytes = {.kind = SPLIT_byte_level, .flags = prefix ? TN_TK_PREFIX_SPACE : 0};
    TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_SPLIT, bytes, none, none));
  }
  return tn_tk_gguf_part(t, TN_TK_STAGE_DECODE, (tn_tk_part){.kind = DECODER_byte_level}, none, none);
}

static tn_status read_row(tn_tk_gguf *t, const char *fallback) {
  const tn_tk_pre *row;
  TN_TRY(find_row(t, fallback, &row));
  tn_tk_header *head = &t->r.build.head;
  head->model = MODEL_bpe;
  if (row->flags & WHOLE) head->flags |= TN_TK_IGNORE_MERGES;
  if (row->flags & RAW) head->flags |= TN_TK_BYTE_FALLBACK | TN_TK_FUSE_UNK;
  t->add_bos = row->flags & BOS;
  t->add_sep = row->flags & SEP;
  TN_TRY(put_parts(t, row));
  return read_merges(t);
}

tn_status tn_tk_gguf_bpe(tn_tk_gguf *t) {
  t->no_unknown = true;
  return read_row(t, "default");
}
tn_status tn_tk_gguf_raw_bpe(tn_tk_gguf *t) { return read_row(t, "gemma4"); }
