/* gguf_to_pieces.c - SentencePiece's kinds and WordPiece as keys of GGUF files. SentencePiece's BPE has no
 * merges: two neighbours merge when the two together are a piece, the one of the best score first. Merges say
 * the same where they are all the ways to make each piece, and those of one piece stand together. */
#include "frontend/config/folder.h"
#include "frontend/tokenizer/gguf_to.h"
#include "frontend/tokenizer/part_ids.h"

#define KEY(name) "tokenizer.ggml." name
#define MARK "\xe2\x96\x81"

enum { PREFIX = 1, TIDY = 2 }; /* add_space_prefix, remove_extra_whitespaces */

static tn_status push_way(tn_tk_to *c, tn_tk_ways *out, uint32_t number) {
  return tn_vec_push(out, ((tn_tk_way){.number = number})) ? TN_OK : tn_tk_to_oom(c);
}

static void put_scores(tn_gguf_writer *w, const float *scores, uint32_t count) {
  tn_gguf_put_array(w, KEY("scores"), TN_GGUF_F32, scores, count);
}

/* ---- SentencePiece's BPE ---------------------------------------------------------------------- */
static bool has_space(tn_str s) { return s.len && memchr(s.ptr, ' ', s.len); }

/* What merges may make. Spaces are marks when they come to be merged: a token with one is only found as it
 * stands. */
static bool is_text(const tn_tk_to *c, uint32_t id) {
  int32_t type = c->types[id];
  return (type == TN_TK_TYPE_NORMAL || type == TN_TK_TYPE_USER) && !has_space(c->tokens[id]);
}

static bool one_char(tn_str s) { return s.len && s.len == tn_tk_char_bytes(s.ptr[0]); }

/* Rank of the merges that make a token (the same for all of them), TN_TK_NONE: no merge makes it. NULL: no
 * memory; *apart: the merges of one piece are not together. */
static uint32_t *rank_pieces(tn_tk_to *c, bool *apart) {
  const tn_tokenizer *t = c->t;
  uint32_t *rank = tn_arena_alloc(&c->arena, ((size_t)c->count + 1) * sizeof *rank), next = 0;
  *apart = false;
  if (!rank) return NULL;
  for (uint32_t i = 0; i < c->count; i++) rank[i] = TN_TK_NONE;
  for (uint32_t i = 0; i < t->nmerges; i++) {
    uint32_t made = t->merges[i].made;
    if (i && made == t->merges[i - 1].made) continue;
    if (rank[made] != TN_TK_NONE) *apart = true;
    rank[made] = next++;
  }
  return rank;
}

/* In how many ways two pieces that may stand side by side make this one. */
static uint32_t count_ways(const tn_tk_to *c, const uint32_t *rank, tn_str s) {
  uint32_t n = 0;
  for (uint32_t at = tn_tk_char_bytes(s.ptr[0]); at < s.len; at += tn_tk_char_bytes(s.ptr[at])) {
    tn_str part[2] = {{s.ptr, at}, {s.ptr + at, s.len - at}};
    bool both = true;
    for (int k = 0; k < 2 && both; k++) {
      uint32_t id = tn_tk_lookup(c->t, part[k].ptr, part[k].len);
      both = one_char(part[k]) || (id != TN_TK_NONE && is_text(c, id) && rank[id] != TN_TK_NONE);
    }
    n += both;
  }
  return n;
}

/* Merges whose parts can come to stand side by side. */
static uint64_t count_merges(const tn_tk_to *c, const uint32_t *rank) {
  const tn_tokenizer *t = c->t;
  uint64_t n = 0;
  for (uint32_t i = 0; i < t->nmerges; i++) {
    uint32_t ids[2] = {t->merges[i].left, t->merges[i].right};
    bool both = true;
    for (int k = 0; k < 2; k++)
      both = both && !has_space(c->tokens[ids[k]]) &&
             (one_char(c->tokens[ids[k]]) || (is_text(c, ids[k]) && rank[ids[k]] != TN_TK_NONE));
    n += both;
  }
  return n;
}

/* Why scores cannot say the merges; NULL: they can. */
static const char *why_not_scores(const tn_tk_to *c, const uint32_t *rank, bool apart) {
  uint64_t ways = 0;
  if (apart) return "the merges that make one token are not in one place";
  for (uint32_t i = 0; i < c->size; i++) {
    bool made = rank[i] != TN_TK_NONE;
    if (made && !is_text(c, i) && !has_space(c->tokens[i])) return "merges make a special token";
    if (is_text(c, i) && c->tokens[i].len && c->tokens[i].ptr) ways += count_ways(c, rank, c->tokens[i]);
  }
  if (ways != count_merges(c, rank)) return "the merges are not all pairs of tokens that make another";
  return NULL;
}

static tn_status spm_ways(tn_tk_to *c, tn_tk_ways *out) {
  bool apart;
  uint32_t *rank = rank_pieces(c, &apart);
  if (!rank) return tn_tk_to_oom(c);
  c->about = why_not_scores(c, rank, apart);
  if (c->about) return TN_OK;
  TN_TRY(push_way(c, out, PREFIX));
  return push_way(c, out, 0);
}

/* Made tokens in the order of their merges, all others behind them: no pair makes those. */
static tn_status put_spm(tn_tk_to *c, tn_tk_way way, tn_gguf_writer *w) {
  bool apart;
  uint32_t *rank = rank_pieces(c, &apart), behind = 0;
  float *scores = tn_arena_alloc(&c->arena, ((size_t)c->count + 1) * sizeof *scores);
  if (!rank || !scores) return tn_tk_to_oom(c);
  for (uint32_t i = 0; i < c->count; i++)
    if (rank[i] != TN_TK_NONE && rank[i] >= behind) behind = rank[i] + 1;
  for (uint32_t i = 0; i < c->count; i++) {
    if (c->types[i] != TN_TK_TYPE_NORMAL && c->types[i] != TN_TK_TYPE_USER) continue;
    scores[i] = -(float)(rank[i] != TN_TK_NONE ? rank[i] : behind++);
  }
  tn_gguf_put_string(w, KEY("pre"), TN_STR("default"));
  put_scores(w, scores, c->count);
  tn_gguf_put_bool(w, KEY("add_space_prefix"), way.number & PREFIX);
  return TN_OK;
}

const tn_tk_to_kind tn_tk_to_spm = {"llama", spm_ways, put_spm};

/* ---- Unigram --------------------------------------------------------------------------------- */
static tn_status unigram_ways(tn_tk_to *c, tn_tk_ways *out) {
  TN_TRY(push_way(c, out, PREFIX | TIDY));
  TN_TRY(push_way(c, out, PREFIX));
  TN_TRY(push_way(c, out, TIDY));
  return push_way(c, out, 0);
}

/* The first precompiled_charsmap in a normalizer or a list of them. */
static const tn_json *find_charsmap(const tn_json *node) {
  const tn_json *list = node ? tn_json_peek(node, "normalizers") : NULL, *found = NULL;
  if (!node || node->kind != TN_JSON_OBJECT) return NULL;
  const tn_json *map = tn_json_peek(node, "precompiled_charsmap");
  if (map && map->kind == TN_JSON_STRING) return map;
  for (uint32_t i = 0; list && list->kind == TN_JSON_LIST && i < list->count && !found; i++)
    found = find_charsmap(&list->u.items[i]);
  return found;
}

static tn_status put_charsmap(tn_tk_to *c, tn_gguf_writer *w) {
  const tn_json *map = find_charsmap(c->root ? tn_json_peek(c->root, "normalizer") : NULL);
  tn_tk_reader r;
  tn_buf bytes = {0};
  if (!map) return TN_OK;
  tn_tk_reader_init(&r, "tokenizer.json", c->diags);
  tn_status s = tn_tk_base64(&r, "normalizer.precompiled_charsmap", map->u.s, &bytes);
  if (s == TN_OK) tn_gguf_put_array(w, KEY("precompiled_charsmap"), TN_GGUF_U8, bytes.text, bytes.len);
  tn_buf_fini(&bytes);
  tn_tk_reader_fini(&r);
  return s;
}

static tn_status put_unigram(tn_tk_to *c, tn_tk_way way, tn_gguf_writer *w) {
  float *scores = tn_arena_alloc(&c->arena, ((size_t)c->count + 1) * sizeof *scores);
  if (!scores) return tn_tk_to_oom(c);
  for (uint32_t i = 0; i < c->t->ntokens && i < c->count; i++) scores[i] = (float)c->t->scores[i];
  put_scores(w, scores, c->count);
  tn_gguf_put_string(w, KEY("pre"), TN_STR("default"));
  tn_gguf_put_bool(w, KEY("add_space_prefix"), way.number & PREFIX);
  tn_gguf_put_bool(w, KEY("remove_extra_whitespaces"), way.number & TIDY);
  return put_charsmap(c, w);
}

const tn_tk_to_kind tn_tk_to_unigram = {"t5", unigram_ways, put_unigram};

/* ---- WordPiece ------------------------------------------------------------------------------- */
static tn_status wordpiece_ways(tn_tk_to *c, tn_tk_ways *out) { return push_way(c, out, 0); }

/* In the file a piece that begins a word has a mark in front, and one that goes on has nothing. */
static tn_status rename_pieces(tn_tk_to *c) {
  tn_str prefix = tn_tk_text_of(c->t, c->t->head->prefix);
  for (uint32_t i = 0; i < c->size; i++) {
    tn_str s = tn_tokenizer_token(c->t, (int32_t)i);
    if (c->types[i] != TN_TK_TYPE_NORMAL && c->types[i] != TN_TK_TYPE_USER) continue;
    if (s.len > prefix.len && prefix.len && !memcmp(s.ptr, prefix.ptr, prefix.len)) {
      c->tokens[i] = (tn_str){s.ptr + prefix.len, s.len - prefix.len};
      continue;
    }
    char *text = tn_arena_alloc(&c->arena, sizeof MARK + s.len);
    if (!text) return tn_tk_to_oom(c);
    memcpy(text, MARK, sizeof MARK - 1);
    memcpy(text + sizeof MARK - 1, s.ptr, s.len);
    c->tokens[i] = (tn_str){text, sizeof MARK - 1 + s.len};
  }
  return TN_OK;
}

static tn_status put_wordpiece(tn_tk_to *c, tn_tk_way way, tn_gguf_writer *w) {
  (void)way;
  uint32_t flags = TN_TK_LOWER | TN_TK_ACCENTS;
  const uint32_t *stage = c->t->head->stage;
  for (uint32_t i = stage[TN_TK_STAGE_NORMALIZE]; i < stage[TN_TK_STAGE_NORMALIZE + 1]; i++)
    if (c->t->parts[i].kind == NORMALIZER_bert) flags = c->t->parts[i].flags;
  bool lower = flags & TN_TK_LOWER, accents = flags & TN_TK_ACCENTS;
  TN_TRY(rename_pieces(c));
  tn_gguf_put_string(w, KEY("pre"), TN_STR("default"));
  if (!lower) tn_gguf_put_bool(w, KEY("normalizer.lowercase"), false);
  if (accents != lower) tn_gguf_put_bool(w, KEY("normalizer.strip_accents"), accents);
  return TN_OK;
}

const tn_tk_to_kind tn_tk_to_wordpiece = {"bert", wordpiece_ways, put_wordpiece};
