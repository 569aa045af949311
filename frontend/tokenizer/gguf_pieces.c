/* gguf_pieces.c - the kinds without merges: SentencePiece's BPE by score (llama), its Unigram (t5), and
 * WordPiece (bert). */
#include "frontend/tokenizer/gguf.h"
#include "frontend/tokenizer/part_ids.h"
#include <math.h>
#include <stdlib.h>

#define MARK "\xe2\x96\x81" /* U+2581, a space in a piece */
enum { MARK_BYTES = 3 };
#define WORDS MARK "*+[^" MARK "]++|" MARK "++" /* marks in front, no way back: long ones need no stack */
static const tn_str none = {NULL, 0};

/* Scores as doubles in the arena. */
static tn_status read_scores(tn_tk_gguf *t, double **out) {
  const char *key = "tokenizer.ggml.scores";
  const tn_gguf_kv *list = tn_gguf_find(t->g, key);
  if (list && list->item != TN_GGUF_I32) TN_TRY(tn_tk_gguf_list(t, key, TN_GGUF_F32, &list));
  if (!list) return tn_tk_bad(&t->r, key, "is missing");
  if (list->type != TN_GGUF_ARRAY || list->count < t->count)
    return tn_tk_bad(&t->r, key, "has %llu items, there are %u tokens",
                     list->type == TN_GGUF_ARRAY ? (unsigned long long)list->count : 1ull, t->count);
  *out = tn_arena_alloc(&t->r.arena, ((size_t)t->count + 1) * sizeof **out);
  if (!*out) return tn_tk_oom(&t->r);
  for (uint32_t i = 0; i < t->count; i++) {
    if (!tn_gguf_real(list, i, &(*out)[i]) || isnan((*out)[i]))
      return tn_tk_bad(&t->r, tn_tk_nth(&t->r, key, i), "is not a number");
  }
  return TN_OK;
}

static void use_bytes(tn_tk_gguf *t) {
  for (uint32_t i = 0; i < t->count; i++)
    if (t->types[i] == TN_TK_TYPE_BYTE) t->r.build.head.flags |= TN_TK_BYTE_FALLBACK;
}

/* ---- SentencePiece's BPE --------------------------------------------------------------------- */
typedef struct scored {
  double score;
  uint32_t id;
} scored;

static int best_first(const void *left, const void *right) {
  const scored *a = left, *b = right;
  return a->score > b->score ? -1 : a->score < b->score;
}

/* Equal scores have one rank. Only pieces of text are made by merges: neither bytes nor control tokens. */
static tn_status put_ranks(tn_tk_gguf *t, const double *scores) {
  scored *order = tn_arena_alloc(&t->r.arena, ((size_t)t->count + 1) * sizeof *order);
  if (!order || !tn_vec_reserve(&t->r.build.ranks, t->count)) return tn_tk_oom(&t->r);
  for (uint32_t i = 0; i < t->count; i++) order[i] = (scored){scores[i], i};
  qsort(order, t->count, sizeof *order, best_first);
  t->r.build.ranks.count = t->count;
  for (uint32_t i = 0, rank = 0; i < t->count; i++) {
    if (i && order[i].score != order[i - 1].score) rank++;
    uint8_t type = t->types[order[i].id];
    bool text = type != TN_TK_TYPE_BYTE && type != TN_TK_TYPE_CONTROL && type != TN_TK_TYPE_UNKNOWN;
    t->r.build.ranks.items[order[i].id] = text ? rank : TN_TK_NONE;
  }
  return TN_OK;
}

/* Whether a mark stands in some piece behind another character: then pieces go beyond words. */
static bool crosses_words(const tn_tk_gguf *t) {
  for (uint32_t i = 0; i < t->count; i++) {
    tn_str s = t->r.build.tokens.items[i];
    uint64_t at = 0;
    bool made =
        !t->r.build.ranks.count || t->r.build.ranks.items[i] != TN_TK_NONE; /* unigrams have no ranks */
    if (!s.ptr || !made) continue;
    while (s.len - at >= MARK_BYTES && !memcmp(s.ptr + at, MARK, MARK_BYTES)) at += MARK_BYTES;
    if (memmem(s.ptr + at, s.len - at, MARK, MARK_BYTES)) return true;
  }
  return false;
}

tn_status tn_tk_gguf_decoders(tn_tk_gguf *t, bool prefix) {
  TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_DECODE, (tn_tk_part){.kind = DECODER_replace}, TN_STR(MARK),
                         TN_STR(" ")));
  TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_DECODE, (tn_tk_part){.kind = DECODER_byte_fallback}, none, none));
  TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_DECODE, (tn_tk_part){.kind = DECODER_fuse}, none, none));
  tn_tk_part strip = {.kind = DECODER_strip, .a = 1};
  return prefix ? tn_tk_gguf_part(t, TN_TK_STAGE_DECODE, strip, TN_STR(" "), none) : TN_OK;
}

tn_status tn_tk_gguf_spm(tn_tk_gguf *t) {
  double *scores;
  bool prefix = true;
  t->r.build.head.model = MODEL_spm;
  use_bytes(t);
  TN_TRY(tn_tk_gguf_bool(t, "tokenizer.ggml.add_space_prefix", &prefix));
  TN_TRY(read_scores(t, &scores));
  TN_TRY(put_ranks(t, scores));
  if (prefix)
    TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_NORMALIZE, (tn_tk_part){.kind = NORMALIZER_prepend}, TN_STR(MARK),
                           none));
  TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_NORMALIZE, (tn_tk_part){.kind = NORMALIZER_replace}, TN_STR(" "),
                         TN_STR(MARK)));
  /* No merge goes over a cut in front of a mark: the result is the same, and short words are remembered. */
  if (!crosses_words(t)) TN_TRY(tn_tk_gguf_split(t, WORDS));
  return tn_tk_gguf_decoders(t, prefix);
}

/* ---- Unigram --------------------------------------------------------------------------------- */
static tn_status put_scores(tn_tk_gguf *t, const double *scores) {
  t->r.build.head.min_score = INFINITY;
  for (uint32_t i = 0; i < t->count; i++) {
    if (t->types[i] == TN_TK_TYPE_NORMAL && scores[i] < t->r.build.head.min_score)
      t->r.build.head.min_score = scores[i];
    if (!tn_vec_push(&t->r.build.scores, scores[i])) return tn_tk_oom(&t->r);
  }
  return TN_OK;
}

static tn_status put_charsmap(tn_tk_gguf *t) {
  const char *key = "tokenizer.ggml.precompiled_charsmap";
  const tn_gguf_kv *map = tn_gguf_find(t->g, key);
  if (map && map->item != TN_GGUF_I8) TN_TRY(tn_tk_gguf_list(t, key, TN_GGUF_U8, &map));
  if (!map || !map->count) return TN_OK;
  tn_tk_part p = {.kind = NORMALIZER_precompiled, .t = {TN_TK_NONE, 0}};
  TN_TRY(tn_tk_put_charsmap(&t->r, key, (tn_str){map->data, map->count}, &p));
  return tn_vec_push(&t->r.build.parts[TN_TK_STAGE_NORMALIZE], p) ? TN_OK : tn_tk_oom(&t->r);
}

static tn_status put_replace(tn_tk_gguf *t, uint32_t flags, tn_str what, tn_str by) {
  tn_tk_part p = {.kind = NORMALIZER_replace, .flags = flags};
  return tn_tk_gguf_part(t, TN_TK_STAGE_NORMALIZE, p, what, by);
}

/* Spaces as SentencePiece's normalizer treats them: those at the ends go, others become one, then marks; a
 * mark that was in the text counts as a space at its end only. */
static tn_status put_spaces(tn_tk_gguf *t) {
  bool tidy = false, prefix = true;
  TN_TRY(tn_tk_gguf_bool(t, "tokenizer.ggml.remove_extra_whitespaces", &tidy));
  TN_TRY(tn_tk_gguf_bool(t, "tokenizer.ggml.add_space_prefix", &prefix));
  if (tidy) TN_TRY(put_replace(t, TN_TK_REGEX, TN_STR("\\A +| +(?= )"), TN_STR("")));
  TN_TRY(put_replace(t, 0, TN_STR(" "), TN_STR(MARK)));
  if (tidy) TN_TRY(put_replace(t, TN_TK_REGEX, TN_STR(MARK "++\\z"), TN_STR("")));
  if (prefix)
    TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_NORMALIZE, (tn_tk_part){.kind = NORMALIZER_prepend}, TN_STR(MARK),
                           none));
  if (!crosses_words(t)) TN_TRY(tn_tk_gguf_split(t, WORDS));
  if (t->r.build.head.flags & TN_TK_BYTE_FALLBACK) return tn_tk_gguf_decoders(t, prefix);
  tn_tk_part mark = {.kind = DECODER_metaspace, .a = prefix ? TN_TK_PREPEND_ALWAYS : TN_TK_PREPEND_NEVER};
  return tn_tk_gguf_part(t, TN_TK_STAGE_DECODE, mark, TN_STR(MARK), none);
}

tn_status tn_tk_gguf_unigram(tn_tk_gguf *t) {
  double *scores;
  t->r.build.head.model = MODEL_unigram;
  t->r.build.vocabulary_trie = true;
  use_bytes(t);
  TN_TRY(read_scores(t, &scores));
  TN_TRY(put_scores(t, scores));
  TN_TRY(put_charsmap(t));
  return put_spaces(t);
}

/* ---- WordPiece ------------------------------------------------------------------------------- */
/* In the file a piece that begins a word has a mark in front and one that goes on has nothing; older files
 * leave "[unused5]" as it is. In a blob it is the other way round: nothing, and "##". */
static tn_status rename_piece(tn_tk_gguf *t, uint32_t id) {
  tn_str s = t->r.build.tokens.items[id];
  bool starts = tn_str_starts(s, MARK) && s.len > MARK_BYTES; /* a mark alone goes on: "##" and it */
  bool bracketed = s.len > 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']';
  if (!s.ptr || t->types[id] == TN_TK_TYPE_CONTROL || t->types[id] == TN_TK_TYPE_UNKNOWN ||
      (bracketed && !starts))
    return TN_OK;
  if (!starts && t->types[id] == TN_TK_TYPE_USER) return TN_OK; /* found in the text as it stands */
  if (starts) {
    s = (tn_str){s.ptr + MARK_BYTES, s.len - MARK_BYTES};
  } else {
    char *text = tn_arena_printf(&t->r.arena, "##%.*s", (int)s.len, s.ptr);
    s = tn_str_of(text);
    if (!text) return tn_tk_oom(&t->r);
  }
  t->r.build.tokens.items[id] = s;
  return TN_OK;
}

tn_status tn_tk_gguf_wordpiece(tn_tk_gguf *t) {
  bool lower = true;
  tn_tk_header *head = &t->r.build.head;
  head->model = MODEL_wordpiece;
  head->max_chars = 100;
  head->prefix = tn_tk_build_str(&t->r.build, TN_STR("##"));
  t->r.build.vocabulary_trie = true;
  TN_TRY(tn_tk_gguf_bool(t, "tokenizer.ggml.normalizer.lowercase", &lower));
  bool accents = lower;
  TN_TRY(tn_tk_gguf_bool(t, "tokenizer.ggml.normalizer.strip_accents", &accents));
  for (uint32_t i = 0; i < t->count; i++) TN_TRY(rename_piece(t, i));
  tn_tk_part bert = {.kind = NORMALIZER_bert, .flags = TN_TK_CLEAN | TN_TK_CHINESE};
  bert.flags |= (lower ? TN_TK_LOWER : 0) | (accents ? TN_TK_ACCENTS : 0);
  TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_NORMALIZE, bert, none, none));
  TN_TRY(tn_tk_gguf_part(t, TN_TK_STAGE_SPLIT, (tn_tk_part){.kind = SPLIT_bert}, none, none));
  tn_tk_part decoder = {.kind = DECODER_wordpiece, .flags = TN_TK_CLEAN};
  return tn_tk_gguf_part(t, TN_TK_STAGE_DECODE, decoder, TN_STR("##"), none);
}
