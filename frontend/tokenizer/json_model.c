/* json_model.c - the model of a tokenizer.json (vocabulary, merges, scores) and its added tokens. */
#include "frontend/tokenizer/json.h"
#include <math.h>

enum {
#define TN_TK_MODEL(name, type) MODEL_##name,
#include "frontend/tokenizer/parts.def"
  MODELS
};
static const char *const model_types[] = {
#define TN_TK_MODEL(name, type) type,
#include "frontend/tokenizer/parts.def"
};

#define SHOWN(s) (int)((s).len > 64 ? 64 : (s).len), (s).ptr

/* An id may leave holes, but a table of mostly holes is an attack or a mistake. */
static uint32_t id_limit(uint32_t count) { return count > 10 * 1000 * 1000 ? count : 4 * count + 65536; }

static tn_status vocabulary_add(tn_tk_reader *r, const char *where, tn_str text, uint32_t id) {
  if (id < r->build.tokens.count && r->build.tokens.items[id].ptr)
    return tn_tk_bad(r, where, "'%.*s' and '%.*s' both have id %u", SHOWN(r->build.tokens.items[id]),
                     SHOWN(text), id);
  tn_tk_build_token(&r->build, id, text);
  return r->build.failed || tn_map_put(&r->vocabulary, text, id, NULL) ? tn_tk_oom(r) : TN_OK;
}

tn_status tn_tk_read_vocabulary(tn_tk_reader *r, const tn_json *vocab, const char *where) {
  for (uint32_t i = 0; i < vocab->count; i++) {
    const tn_json *item = &vocab->u.items[i];
    uint32_t id, limit = id_limit(vocab->count);
    if (item->kind != TN_JSON_INT || item->u.i < 0 || item->u.i > limit)
      return tn_tk_number(r, item, tn_tk_at(r, where, item->key), limit, &id);
    TN_TRY(vocabulary_add(r, where, tn_str_of(item->key), (uint32_t)item->u.i));
  }
  r->vocabulary_count = vocab->count;
  return TN_OK;
}

static tn_status read_object(tn_tk_reader *r, const tn_json *model) {
  const tn_json *vocab;
  TN_TRY(tn_tk_need(r, model, "model", "vocab", TN_JSON_OBJECT, &vocab));
  return tn_tk_read_vocabulary(r, vocab, "model.vocab");
}

static void set_unknown(tn_tk_reader *r, tn_str name) {
  uint64_t id;
  if (!name.ptr)
    r->build.head.unk = TN_TK_UNK_NONE;
  else
    r->build.head.unk = tn_map_get(&r->vocabulary, name, &id) ? (int32_t)id : TN_TK_UNK_MISSING;
}

static tn_status read_affix(tn_tk_reader *r, const tn_json *model, const char *key, tn_tk_str *out) {
  tn_str s;
  TN_TRY(tn_tk_optional(r, model, "model", key, &s));
  if (s.len > TN_TK_AFFIX_MAX)
    return tn_tk_bad(r, tn_tk_at(r, "model", key), "%llu bytes, at most %d are supported",
                     (unsigned long long)s.len, TN_TK_AFFIX_MAX);
  *out = tn_tk_build_str(&r->build, s);
  return TN_OK;
}

/* ---- BPE ------------------------------------------------------------------------------------- */
static tn_status merge_part(tn_tk_reader *r, const char *where, tn_str s, uint32_t *id) {
  uint64_t found;
  if (!tn_map_get(&r->vocabulary, s, &found))
    return tn_tk_bad(r, where, "'%.*s' is not in the vocabulary", SHOWN(s));
  *id = (uint32_t)found;
  return TN_OK;
}

tn_status tn_tk_add_merge(tn_tk_reader *r, const char *where, tn_str left, tn_str right) {
  tn_tk_merge m;
  uint32_t prefix = r->build.head.prefix.len;
  TN_TRY(merge_part(r, where, left, &m.left));
  TN_TRY(merge_part(r, where, right, &m.right));
  if (right.len < prefix) return tn_tk_bad(r, where, "'%.*s' is shorter than the prefix", SHOWN(right));
  tn_buf made = {0};
  tn_buf_put(&made, left.ptr, left.len);
  tn_buf_put(&made, right.ptr + prefix, right.len - prefix);
  tn_status status =
      made.failed ? tn_tk_oom(r) : merge_part(r, where, (tn_str){made.text, made.len}, &m.made);
  tn_buf_fini(&made);
  if (!status && !tn_vec_push(&r->build.merges, m)) status = tn_tk_oom(r);
  return status;
}

/* "a b", or ["a", "b"]. */
static tn_status read_merge(tn_tk_reader *r, const tn_json *item, uint32_t i) {
  char where[40];
  snprintf(where, sizeof where, "model.merges[%u]", i);
  if (item->kind == TN_JSON_LIST && item->count == 2 && item->u.items[0].kind == TN_JSON_STRING &&
      item->u.items[1].kind == TN_JSON_STRING)
    return tn_tk_add_merge(r, where, item->u.items[0].u.s, item->u.items[1].u.s);
  if (item->kind != TN_JSON_STRING) return tn_tk_bad(r, where, "is neither a string nor two strings");
  tn_str s = item->u.s;
  const char *space = memchr(s.ptr, ' ', s.len);
  if (tn_str_starts(s, "#version")) return TN_OK;
  uint64_t at = space ? (uint64_t)(space - s.ptr) : 0;
  if (!space || memchr(space + 1, ' ', s.len - at - 1))
    return tn_tk_bad(r, where, "'%.*s' is not two tokens with a space between", SHOWN(s));
  return tn_tk_add_merge(r, where, (tn_str){s.ptr, at}, (tn_str){space + 1, s.len - at - 1});
}

static tn_status read_flag(tn_tk_reader *r, const tn_json *model, const char *key, uint32_t flag) {
  bool on = false;
  TN_TRY(tn_tk_bool(r, model, "model", key, &on));
  if (on) r->build.head.flags |= flag;
  return TN_OK;
}

static tn_status read_bpe(tn_tk_reader *r, const tn_json *model) {
  const tn_json *merges, *dropout = tn_json_get(model, "dropout");
  tn_str unk;
  if (dropout && dropout->kind != TN_JSON_NULL && !(dropout->kind == TN_JSON_INT && dropout->u.i == 0) &&
      !(dropout->kind == TN_JSON_REAL && dropout->u.r == 0))
    return tn_tk_unsupported(r, "model.dropout", "tokens drawn by chance are not supported, only null or 0");
  TN_TRY(read_object(r, model));
  TN_TRY(tn_tk_optional(r, model, "model", "unk_token", &unk));
  set_unknown(r, unk);
  TN_TRY(read_affix(r, model, "continuing_subword_prefix", &r->build.head.prefix));
  TN_TRY(read_affix(r, model, "end_of_word_suffix", &r->build.head.suffix));
  TN_TRY(read_flag(r, model, "fuse_unk", TN_TK_FUSE_UNK));
  TN_TRY(read_flag(r, model, "byte_fallback", TN_TK_BYTE_FALLBACK));
  TN_TRY(read_flag(r, model, "ignore_merges", TN_TK_IGNORE_MERGES));
  TN_TRY(tn_tk_need(r, model, "model", "merges", TN_JSON_LIST, &merges));
  for (uint32_t i = 0; i < merges->count; i++) TN_TRY(read_merge(r, &merges->u.items[i], i));
  return TN_OK;
}

/* ---- the other models ------------------------------------------------------------------------ */
static tn_status read_wordpiece(tn_tk_reader *r, const tn_json *model) {
  tn_str unk, prefix;
  TN_TRY(read_object(r, model));
  TN_TRY(tn_tk_string(r, model, "model", "unk_token", &unk));
  set_unknown(r, unk);
  TN_TRY(tn_tk_string(r, model, "model", "continuing_subword_prefix", &prefix));
  TN_TRY(read_affix(r, model, "continuing_subword_prefix", &r->build.head.prefix));
  r->build.vocabulary_trie = true;
  return tn_tk_number(r, tn_json_get(model, "max_input_chars_per_word"), "model.max_input_chars_per_word",
                      INT32_MAX, &r->build.head.max_chars);
}

static tn_status read_wordlevel(tn_tk_reader *r, const tn_json *model) {
  tn_str unk;
  TN_TRY(read_object(r, model));
  TN_TRY(tn_tk_string(r, model, "model", "unk_token", &unk));
  set_unknown(r, unk);
  return TN_OK;
}

static tn_status read_scored(tn_tk_reader *r, const tn_json *item, uint32_t i) {
  const tn_json *pair = item->kind == TN_JSON_LIST && item->count == 2 ? item->u.items : NULL;
  if (!pair || pair[0].kind != TN_JSON_STRING ||
      (pair[1].kind != TN_JSON_REAL && pair[1].kind != TN_JSON_INT))
    return tn_tk_bad(r, tn_tk_nth(r, "model.vocab", i), "is not a string and a number");
  double score = pair[1].kind == TN_JSON_REAL ? pair[1].u.r : (double)pair[1].u.i;
  if (isnan(score)) return tn_tk_bad(r, tn_tk_nth(r, "model.vocab", i), "the score is not a number");
  if (score < r->build.head.min_score) r->build.head.min_score = score;
  tn_tk_build_token(&r->build, i, pair[0].u.s);
  if (r->build.failed || !tn_vec_push(&r->build.scores, score)) return tn_tk_oom(r);
  return tn_map_put(&r->vocabulary, pair[0].u.s, i, NULL) ? tn_tk_oom(r) : TN_OK; /* of equal ones the last */
}

static tn_status read_unigram(tn_tk_reader *r, const tn_json *model) {
  const tn_json *vocab, *unk = tn_json_get(model, "unk_id");
  TN_TRY(tn_tk_need(r, model, "model", "vocab", TN_JSON_LIST, &vocab));
  r->build.head.min_score = INFINITY;
  for (uint32_t i = 0; i < vocab->count; i++) TN_TRY(read_scored(r, &vocab->u.items[i], i));
  r->vocabulary_count = vocab->count;
  r->build.vocabulary_trie = true;
  if (unk && unk->kind != TN_JSON_NULL) {
    uint32_t id;
    if (!vocab->count) return tn_tk_bad(r, "model.vocab", "is empty, but there is an unk_id");
    TN_TRY(tn_tk_number(r, unk, "model.unk_id", vocab->count - 1, &id));
    r->build.head.unk = (int32_t)id;
  }
  return read_flag(r, model, "byte_fallback", TN_TK_BYTE_FALLBACK);
}

/* A tokenizer.json has merges instead. */
static tn_status read_spm(tn_tk_reader *r, const tn_json *model) {
  (void)model;
  return tn_tk_unsupported(r, "model.type", "is of GGUF files only");
}

/* Files of before there was a "type". */
static int guess_model(const tn_json *model) {
  const tn_json *vocab = tn_json_get(model, "vocab");
  if (tn_json_get(model, "merges")) return MODEL_bpe;
  if (vocab && vocab->kind == TN_JSON_LIST) return MODEL_unigram;
  return tn_json_get(model, "max_input_chars_per_word") ? MODEL_wordpiece : MODEL_wordlevel;
}

static tn_status model_kind(tn_tk_reader *r, const tn_json *model, int *kind) {
  tn_str type;
  TN_TRY(tn_tk_optional(r, model, "model", "type", &type));
  *kind = type.ptr ? MODELS : guess_model(model);
  for (int i = 0; i < MODELS && type.ptr; i++) {
    if (tn_str_is(type, model_types[i])) *kind = i;
  }
  return *kind < MODELS ? TN_OK : tn_tk_unsupported(r, "model.type", "'%.*s' is not known", SHOWN(type));
}

/* ---- added tokens ---------------------------------------------------------------------------- */
bool tn_tk_find_token(const tn_tk_reader *r, tn_str content, uint32_t *id) {
  uint64_t found;
  if (tn_map_get(&r->added, content, &found)) return *id = r->build.added.items[found].id, true;
  if (!tn_map_get(&r->vocabulary, content, &found)) return false;
  *id = (uint32_t)found;
  return true;
}

tn_status tn_tk_add_token(tn_tk_reader *r, tn_str content, uint32_t flags, uint32_t *id) {
  uint64_t index = r->build.added.count;
  if (!content.len) return *id = TN_TK_NONE, TN_OK;
  /* As the reference: a token that the model lacks gets the next free id, whatever the file says. */
  if (!tn_tk_find_token(r, content, id)) *id = r->next_id++;
  tn_str id_key = {(const char *)id, sizeof *id};
  tn_map_get(&r->added_ids, id_key, &index);
  tn_tk_build_added a = {*id, flags, content, {NULL, 0}};
  bool ok = index < r->build.added.count || tn_vec_push(&r->build.added, a);
  if (!ok || tn_map_put(&r->added_ids, id_key, index, NULL) || tn_map_put(&r->added, content, index, NULL))
    return tn_tk_oom(r);
  r->build.added.items[index] = a;
  return TN_OK;
}

tn_status tn_tk_read_flags(tn_tk_reader *r, const tn_json *item, const char *where, uint32_t *flags) {
  static const struct {
    const char *key;
    uint32_t flag;
  } known[] = {{"single_word", TN_TK_ADDED_SINGLE_WORD},
               {"lstrip", TN_TK_ADDED_LSTRIP},
               {"rstrip", TN_TK_ADDED_RSTRIP},
               {"normalized", TN_TK_ADDED_NORMALIZED},
               {"special", TN_TK_ADDED_SPECIAL}};
  for (size_t i = 0; i < TN_COUNT(known); i++) {
    bool on = *flags & known[i].flag;
    TN_TRY(tn_tk_bool(r, item, where, known[i].key, &on));
    *flags = on ? *flags | known[i].flag : *flags & ~known[i].flag;
  }
  return TN_OK;
}

static tn_status read_added(tn_tk_reader *r, const tn_json *item, const char *where) {
  uint32_t said, flags = 0, id;
  tn_str content;
  if (item->kind != TN_JSON_OBJECT)
    return tn_tk_bad(r, where, "should be an object, is %s", tn_json_kind_name(item->kind));
  TN_TRY(tn_tk_number(r, tn_json_get(item, "id"), tn_tk_at(r, where, "id"), INT32_MAX - 1, &said));
  TN_TRY(tn_tk_string(r, item, where, "content", &content));
  TN_TRY(tn_tk_read_flags(r, item, where, &flags));
  TN_TRY(tn_tk_add_token(r, content, flags, &id));
  if (id != said && id != TN_TK_NONE)
    tn_diags_add(r->diags, TN_WARNING, r->file, 0, 0, where, "'%.*s' says id %u, but gets %u", SHOWN(content),
                 said, id);
  return TN_OK;
}

tn_status tn_tk_read_model(tn_tk_reader *r, const tn_json *root) {
  static tn_status (*const readers[])(tn_tk_reader *, const tn_json *) = {
#define TN_TK_MODEL(name, type) read_##name,
#include "frontend/tokenizer/parts.def"
  };
  const tn_json *model, *added = tn_json_get(root, "added_tokens");
  int kind;
  TN_TRY(tn_tk_need(r, root, "", "model", TN_JSON_OBJECT, &model));
  TN_TRY(model_kind(r, model, &kind));
  r->build.head.model = (uint32_t)kind;
  TN_TRY(readers[kind](r, model));
  r->next_id = r->vocabulary_count;
  if (!added || added->kind == TN_JSON_NULL) return TN_OK;
  TN_TRY(tn_tk_need(r, root, "", "added_tokens", TN_JSON_LIST, &added));
  for (uint32_t i = 0; i < added->count; i++)
    TN_TRY(read_added(r, &added->u.items[i], tn_tk_nth(r, "added_tokens", i)));
  return TN_OK;
}
