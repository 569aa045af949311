/* gguf.c - the tokenizer that a GGUF file carries, as the same blob that a tokenizer.json gives: the
 * vocabulary and the types of its tokens, what the kind adds (gguf_bpe.c, gguf_pieces.c), then the tokens
 * that are found in text as they stand, and those put around it. Where the original tokenizer and what other
 * readers of GGUF make of the file differ, the original counts. */
#include "frontend/tokenizer/gguf.h"
#include "frontend/tokenizer/regex.h"

#define KEY(name) "tokenizer.ggml." name
static const tn_str none = {NULL, 0};

/* bos, eos, sep, unk: ids where the file names none (-1: none). */
static const struct kind {
  const char *name;
  tn_status (*read)(tn_tk_gguf *t);
  int bos, eos, sep, unk;
  bool add_bos, add_eos, add_sep;
} kinds[] = {{"llama", tn_tk_gguf_spm, 1, 2, -1, 0, true, false, false},
             {"gpt2", tn_tk_gguf_bpe, -1, -1, -1, -1, false, false, false},
             {"gemma4", tn_tk_gguf_raw_bpe, -1, -1, -1, -1, true, false, false},
             {"bert", tn_tk_gguf_wordpiece, 101, 102, 102, 100, true, false, true},
             {"t5", tn_tk_gguf_unigram, -1, 1, -1, 2, false, true, false}};

/* ---- values ---------------------------------------------------------------------------------- */
tn_status tn_tk_gguf_bool(tn_tk_gguf *t, const char *key, bool *out) {
  const tn_gguf_kv *kv = tn_gguf_find(t->g, key);
  return !kv || tn_gguf_bool(kv, out) ? TN_OK : tn_tk_bad(&t->r, key, "is not true or false");
}

tn_status tn_tk_gguf_str(tn_tk_gguf *t, const char *key, tn_str *out) {
  const tn_gguf_kv *kv = tn_gguf_find(t->g, key);
  uint64_t bad;
  if (!kv) return TN_OK;
  if (kv->type != TN_GGUF_STRING || !tn_gguf_string(kv, 0, out) || !tn_utf8_valid(*out, &bad))
    return tn_tk_bad(&t->r, key, "is not a text");
  return TN_OK;
}

tn_status tn_tk_gguf_list(tn_tk_gguf *t, const char *key, tn_gguf_type item, const tn_gguf_kv **out) {
  *out = tn_gguf_find(t->g, key);
  if (!*out || ((*out)->type == TN_GGUF_ARRAY && (*out)->item == item)) return TN_OK;
  return tn_tk_bad(&t->r, key, "is not an array of the kind it should be");
}

/* A token's id. */
static tn_status read_id(tn_tk_gguf *t, const char *key, int64_t *out) {
  const tn_gguf_kv *kv = tn_gguf_find(t->g, key);
  int64_t id = *out;
  if (kv && !tn_gguf_int(kv, 0, &id)) return tn_tk_bad(&t->r, key, "is not a number");
  if (kv && (id < -1 || id >= (int64_t)t->count) && id != UINT32_MAX)
    return tn_tk_bad(&t->r, key, "is %lld, there are %u tokens", (long long)id, t->count);
  *out = id >= (int64_t)t->count ? -1 : id;
  return TN_OK;
}

/* ---- parts ----------------------------------------------------------------------------------- */
tn_status tn_tk_gguf_part(tn_tk_gguf *t, uint32_t stage, tn_tk_part p, tn_str s, tn_str more) {
  p.s = tn_tk_build_str(&t->r.build, s);
  p.t = tn_tk_build_str(&t->r.build, more);
  if (stage == TN_TK_STAGE_DECODE) t->r.build.head.flags |= TN_TK_HAS_DECODER;
  return tn_vec_push(&t->r.build.parts[stage], p) ? TN_OK : tn_tk_oom(&t->r);
}

tn_status tn_tk_gguf_split(tn_tk_gguf *t, const char *pattern) {
  enum {
#define TN_TK_PRE_TOKENIZER(name, type, needs) SPLIT_##name,
#include "frontend/tokenizer/parts.def"
  };
  tn_buf text = {0};
  uint64_t at;
  const char *why;
  tn_status status = tn_tk_regex_translate(tn_str_of(pattern), &text, &at, &why);
  if (status) tn_tk_bad(&t->r, KEY("pre"), "a pattern is not understood: %s", why);
  tn_tk_part p = {.kind = SPLIT_split, .flags = TN_TK_REGEX, .a = TN_TK_ISOLATED};
  if (!status) status = tn_tk_gguf_part(t, TN_TK_STAGE_SPLIT, p, (tn_str){text.text, text.len}, none);
  tn_buf_fini(&text);
  return status;
}

/* ---- vocabulary ------------------------------------------------------------------------------ */
static tn_status read_tokens(tn_tk_gguf *t) {
  const char *key = KEY("tokens");
  const tn_gguf_kv *list;
  uint64_t bad;
  TN_TRY(tn_tk_gguf_list(t, key, TN_GGUF_STRING, &list));
  if (!list || !list->count || list->count > INT32_MAX)
    return tn_tk_bad(&t->r, key, "has %llu tokens", list ? (unsigned long long)list->count : 0ull);
  t->count = (uint32_t)list->count;
  if (!tn_vec_reserve(&t->r.build.tokens, t->count)) return tn_tk_oom(&t->r);
  for (uint32_t i = 0; i < t->count; i++) {
    tn_str s = none;
    tn_gguf_string(list, i, &s);
    if (!tn_utf8_valid(s, &bad)) return tn_tk_bad(&t->r, tn_tk_nth(&t->r, key, i), "is not UTF-8");
    tn_tk_build_token(&t->r.build, i, s.len ? s : none);
  }
  return t->r.build.failed ? tn_tk_oom(&t->r) : TN_OK;
}

/* Ends of turns that some files have as ordinary tokens. */
static const char *const ends[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",   "<|endoftext|>",     "<|eom_id|>",
    "<EOT>",      "_<EOT>",     "[EOT]",   "<|end_of_text|>", "<end_of_utterance>"};

bool tn_tk_is_end(tn_str s) {
  if (s.len < 5 || (s.ptr[0] != '<' && s.ptr[0] != '[' && s.ptr[0] != '_')) return false;
  for (size_t i = 0; i < TN_COUNT(ends); i++)
    if (tn_str_is(s, ends[i])) return true;
  return false;
}

static tn_status read_types(tn_tk_gguf *t) {
  const char *key = KEY("token_type");
  const tn_gguf_kv *list;
  TN_TRY(tn_tk_gguf_list(t, key, TN_GGUF_I32, &list));
  if (list && list->count < t->count)
    return tn_tk_bad(&t->r, key, "has %llu items, there are %u tokens", (unsigned long long)list->count,
                     t->count);
  t->types = tn_arena_alloc(&t->r.arena, t->count);
  if (!t->types) return tn_tk_oom(&t->r);
  for (uint32_t i = 0; i < t->count; i++) {
    int64_t type = TN_TK_TYPE_NORMAL;
    if (list) tn_gguf_int(list, i, &type);
    t->types[i] = type > 0 && type < TN_TK_TYPES ? (uint8_t)type : TN_TK_TYPE_NORMAL;
    tn_str s = t->r.build.tokens.items[i];
    if (t->types[i] == TN_TK_TYPE_NORMAL && s.ptr && tn_tk_is_end(s)) t->types[i] = TN_TK_TYPE_CONTROL;
  }
  return TN_OK;
}

/* For the merges, which name their tokens. */
static tn_status map_tokens(tn_tk_gguf *t) {
  for (uint32_t i = 0; i < t->count; i++) {
    tn_str s = t->r.build.tokens.items[i];
    if (s.ptr && tn_map_put(&t->r.vocabulary, s, i, NULL)) return tn_tk_oom(&t->r);
  }
  t->r.vocabulary_count = t->r.next_id = t->count;
  return TN_OK;
}

/* ---- tokens that stand in text ---------------------------------------------------------------- */
/* Spaces that special tokens take, of models whose files do not say it. `name`: in general.name or
 * tokenizer.ggml.pre, in small letters; token NULL: every special one, later rows change single ones. */
static const struct taker {
  const char *name, *token;
  uint32_t set, clear;
} takers[] = {{"phi-3", NULL, TN_TK_ADDED_RSTRIP, 0},
              {"phi-3", "<unk>", 0, TN_TK_ADDED_RSTRIP},
              {"phi-3", "<s>", 0, TN_TK_ADDED_RSTRIP},
              {"phi-3", "<|endoftext|>", 0, TN_TK_ADDED_RSTRIP},
              {"phi3", NULL, TN_TK_ADDED_RSTRIP, 0},
              {"phi3", "<unk>", 0, TN_TK_ADDED_RSTRIP},
              {"phi3", "<s>", 0, TN_TK_ADDED_RSTRIP},
              {"phi3", "<|endoftext|>", 0, TN_TK_ADDED_RSTRIP},
              {"jina-v2", "<mask>", TN_TK_ADDED_LSTRIP, 0},
              {"roberta", "<mask>", TN_TK_ADDED_LSTRIP, 0},
              {"modern-bert", "[MASK]", TN_TK_ADDED_LSTRIP, 0},
              {"modernbert", "[MASK]", TN_TK_ADDED_LSTRIP, 0}};

uint32_t tn_tk_taken(tn_str names, tn_str token) {
  uint32_t flags = TN_TK_ADDED_SPECIAL;
  for (size_t i = 0; i < TN_COUNT(takers) && names.len; i++) {
    const struct taker *k = &takers[i];
    if (!memmem(names.ptr, names.len, k->name, strlen(k->name))) continue;
    if (!k->token || tn_str_is(token, k->token)) flags = (flags | k->set) & ~k->clear;
  }
  return flags;
}

static tn_status model_names(tn_tk_gguf *t, tn_buf *out) {
  tn_str name = none, pre = none;
  TN_TRY(tn_tk_gguf_str(t, "general.name", &name));
  TN_TRY(tn_tk_gguf_str(t, KEY("pre"), &pre));
  tn_buf_put(out, name.ptr, name.len);
  tn_buf_puts(out, " ");
  tn_buf_put(out, pre.ptr, pre.len);
  for (uint64_t i = 0; i < out->len; i++)
    if (out->text[i] >= 'A' && out->text[i] <= 'Z') out->text[i] += 'a' - 'A';
  return out->failed ? tn_tk_oom(&t->r) : TN_OK;
}

static tn_status put_added(tn_tk_gguf *t) {
  tn_buf names = {0};
  tn_status status = model_names(t, &names);
  for (uint32_t i = 0; i < t->count && !status; i++) {
    uint8_t type = t->types[i];
    bool special = type == TN_TK_TYPE_CONTROL || type == TN_TK_TYPE_UNKNOWN;
    tn_str s = t->r.build.tokens.items[i];
    if (!s.ptr || (!special && type != TN_TK_TYPE_USER)) continue;
    tn_tk_build_added a = {i, special ? TN_TK_ADDED_SPECIAL : 0, s, none};
    if (special) a.flags = tn_tk_taken((tn_str){names.text, names.len}, s);
    if (!tn_vec_push(&t->r.build.added, a)) status = tn_tk_oom(&t->r);
  }
  tn_buf_fini(&names);
  return status;
}

/* ---- tokens around the text ------------------------------------------------------------------ */
static tn_status read_ids(tn_tk_gguf *t) {
  TN_TRY(read_id(t, KEY("bos_token_id"), &t->bos));
  if (t->bos < 0 || !tn_gguf_find(t->g, KEY("bos_token_id")))
    TN_TRY(read_id(t, KEY("cls_token_id"), &t->bos));
  TN_TRY(read_id(t, KEY("eos_token_id"), &t->eos));
  TN_TRY(read_id(t, KEY("seperator_token_id"), &t->sep)); /* so it is spelt */
  TN_TRY(read_id(t, KEY("unknown_token_id"), &t->unk));
  t->r.build.head.unk = t->no_unknown ? TN_TK_UNK_NONE : (int32_t)t->unk;
  return TN_OK;
}

static tn_status put_template(tn_tk_gguf *t) {
  static const char *const single[2][2] = {{"0A", "0A0S"}, {"0C0A", "0C0A0S"}};
  static const char *const pair[2][2] = {{"0A1B", "0A0S1B1S"}, {"0C0A1C1B", "0C0A0S1C1B1S"}};
  TN_TRY(tn_tk_gguf_bool(t, KEY("add_bos_token"), &t->add_bos));
  TN_TRY(tn_tk_gguf_bool(t, KEY("add_eos_token"), &t->add_eos));
  TN_TRY(tn_tk_gguf_bool(t, KEY("add_sep_token"), &t->add_sep));
  bool wordpiece = t->r.build.vocabulary_trie && !t->r.build.scores.count;
  bool bos = t->add_bos && t->bos >= 0;
  bool eos = (t->add_eos || wordpiece) && (wordpiece ? t->sep : t->eos) >= 0;
  uint32_t first = (uint32_t)t->bos, last = (uint32_t)(wordpiece ? t->sep : t->eos);
  if (bos && eos && wordpiece) return tn_tk_put_template(&t->r, "0C0A0S", "0C0A0S1B1S", first, last);
  if (bos && eos && t->add_sep) return tn_tk_put_template(&t->r, "0C0A0S", "0C0A0S0S0B0S", first, last);
  return tn_tk_put_template(&t->r, single[bos][eos], pair[bos][eos], first, last);
}

/* ---- the whole ------------------------------------------------------------------------------- */
static tn_status read_all(tn_tk_gguf *t, const struct kind *kind, tn_buf *blob) {
  t->bos = kind->bos, t->eos = kind->eos, t->sep = kind->sep, t->unk = kind->unk;
  t->add_bos = kind->add_bos, t->add_eos = kind->add_eos, t->add_sep = kind->add_sep;
  TN_TRY(read_tokens(t));
  TN_TRY(read_types(t));
  TN_TRY(map_tokens(t));
  TN_TRY(kind->read(t));
  TN_TRY(read_ids(t));
  TN_TRY(put_added(t));
  TN_TRY(put_template(t));
  uint64_t before = blob->len;
  tn_status status = tn_tk_build_write(&t->r.build, blob);
  if (status) blob->len = before;
  if (status == TN_INVALID) return tn_tk_bad(&t->r, NULL, "is larger than 4 GiB");
  return status ? tn_tk_oom(&t->r) : TN_OK;
}

static tn_status find_kind(tn_tk_gguf *t, const struct kind **out) {
  const char *names[TN_COUNT(kinds)];
  tn_str name = none;
  TN_TRY(tn_tk_gguf_str(t, KEY("model"), &name));
  if (!name.ptr || tn_str_is(name, "none") || tn_str_is(name, "no_vocab")) return TN_NOT_FOUND;
  for (size_t i = 0; i < TN_COUNT(kinds); i++) {
    names[i] = kinds[i].name;
    if (tn_str_is(name, kinds[i].name)) return *out = &kinds[i], TN_OK;
  }
  tn_buf list = {0};
  for (size_t i = 0; i < TN_COUNT(names); i++) tn_buf_printf(&list, "%s%s", i ? ", " : "", names[i]);
  tn_status status = tn_tk_unsupported(&t->r, KEY("model"), "'%.*s' is not known, these are: %s",
                                       (int)(name.len > 64 ? 64 : name.len), name.ptr, tn_buf_cstr(&list));
  tn_buf_fini(&list);
  return status;
}

tn_status tn_tokenizer_from_gguf(const tn_gguf *g, tn_buf *blob, tn_diags *diags) {
  tn_tk_gguf t = {.g = g};
  const struct kind *kind = NULL;
  tn_tk_reader_init(&t.r, NULL, diags);
  tn_status status = find_kind(&t, &kind);
  if (!status) status = read_all(&t, kind, blob);
  tn_tk_reader_fini(&t.r);
  return status;
}
