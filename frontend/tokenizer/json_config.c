/* json_config.c - what tokenizer_config.json changes, as transformers 5 does when it opens a folder: BERT's
 * normalizer, further added tokens, the clean-up of decoded text, and, where there is no tokenizer.json to
 * say it, bos and eos around the text. */
#include "frontend/tokenizer/json.h"
#include "frontend/tokenizer/part_ids.h"

static const tn_json *given(const tn_json *o, const char *key) {
  const tn_json *node = o ? tn_json_get(o, key) : NULL;
  return node && node->kind != TN_JSON_NULL ? node : NULL;
}

bool tn_tk_class_is(const tn_json *config, const char *const *prefixes, uint32_t n) {
  const tn_json *node = given(config, "tokenizer_class");
  for (uint32_t i = 0; node && node->kind == TN_JSON_STRING && i < n; i++) {
    if (tn_str_starts(node->u.s, prefixes[i])) return true;
  }
  return false;
}

/* "<s>", or {"content": "<s>", ...} */
static tn_str content_of(const tn_json *node) {
  if (node && node->kind == TN_JSON_OBJECT) node = tn_json_get(node, "content");
  return node && node->kind == TN_JSON_STRING ? node->u.s : (tn_str){NULL, 0};
}

tn_str tn_tk_named_token(const tn_json *config, const char *key, const char *fallback) {
  tn_str s = content_of(given(config, key));
  return s.ptr || !fallback ? s : tn_str_of(fallback);
}

/* ---- BERT's normalizer ----------------------------------------------------------------------- */
/* The classes that open tokenizer.json as it is. */
static const char *const plain_classes[] = {"PreTrainedTokenizer", "TokenizersBackend"};

static tn_status change_bert(tn_tk_reader *r, const tn_json *config) {
  if (!r->build.parts[TN_TK_STAGE_NORMALIZE].count) return TN_OK;
  tn_tk_part *p = &r->build.parts[TN_TK_STAGE_NORMALIZE].items[0];
  if (p->kind != NORMALIZER_bert || tn_tk_class_is(config, plain_classes, TN_COUNT(plain_classes)))
    return TN_OK;
  bool lower = p->flags & TN_TK_LOWER, accents = p->flags & TN_TK_ACCENTS, chinese = p->flags & TN_TK_CHINESE;
  TN_TRY(tn_tk_bool(r, config, "", "do_lower_case", &lower));
  if (given(config, "do_lower_case")) accents = lower;
  TN_TRY(tn_tk_bool(r, config, "", "strip_accents", &accents));
  TN_TRY(tn_tk_bool(r, config, "", "tokenize_chinese_chars", &chinese));
  p->flags &= ~(uint32_t)(TN_TK_LOWER | TN_TK_ACCENTS | TN_TK_CHINESE);
  p->flags |= (lower ? TN_TK_LOWER : 0) | (accents ? TN_TK_ACCENTS : 0) | (chinese ? TN_TK_CHINESE : 0);
  return TN_OK;
}

/* ---- added tokens ---------------------------------------------------------------------------- */
static tn_status add_listed(tn_tk_reader *r, const tn_json *config) {
  const tn_json *list = given(config, "added_tokens_decoder");
  if (!list) return TN_OK;
  TN_TRY(tn_tk_need(r, config, "", "added_tokens_decoder", TN_JSON_OBJECT, &list));
  for (uint32_t i = 0; i < list->count; i++) {
    const tn_json *item = &list->u.items[i];
    const char *where = tn_tk_at(r, "added_tokens_decoder", item->key);
    uint32_t flags = TN_TK_ADDED_NORMALIZED, id;
    tn_str content;
    TN_TRY(tn_tk_string(r, item, where, "content", &content));
    TN_TRY(tn_tk_read_flags(r, item, where, &flags));
    TN_TRY(tn_tk_add_token(r, content, flags, &id));
  }
  return TN_OK;
}

static tn_status add_special(tn_tk_reader *r, const tn_json *node, const char *where) {
  uint32_t flags = 0, id;
  uint64_t index;
  tn_str content = content_of(node);
  if (!content.ptr || tn_map_get(&r->added, content, &index)) return TN_OK;
  if (node->kind == TN_JSON_OBJECT) TN_TRY(tn_tk_read_flags(r, node, where, &flags));
  return tn_tk_add_token(r, content, flags | TN_TK_ADDED_SPECIAL, &id);
}

static const char *const named[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

static tn_status add_all_special(tn_tk_reader *r, const tn_json *from) {
  for (size_t i = 0; i < TN_COUNT(named); i++) TN_TRY(add_special(r, given(from, named[i]), named[i]));
  for (uint32_t i = 0; from && i < from->count; i++) { /* "image_token" and the like */
    const tn_json *item = &from->u.items[i];
    if (item->kind == TN_JSON_STRING && tn_str_ends(tn_str_of(item->key), "_token"))
      TN_TRY(add_special(r, item, item->key));
  }
  const tn_json *more = given(from, "extra_special_tokens");
  if (!more) more = given(from, "additional_special_tokens");
  bool many = more && (more->kind == TN_JSON_LIST || more->kind == TN_JSON_OBJECT);
  for (uint32_t i = 0; many && i < more->count; i++)
    TN_TRY(add_special(r, &more->u.items[i], "additional_special_tokens"));
  return TN_OK;
}

/* ---- bos and eos ----------------------------------------------------------------------------- */
static tn_status edge_token(tn_tk_reader *r, const tn_json *config, const char *flag, const char *key,
                            const char *fallback, bool *on, uint32_t *id) {
  *on = false;
  if (config) TN_TRY(tn_tk_bool(r, config, "", flag, on));
  tn_str s = tn_tk_named_token(config, key, fallback);
  *on = *on && s.ptr;
  if (*on && !tn_tk_find_token(r, s, id))
    return tn_tk_bad(r, key, "'%.*s' is not in the vocabulary", (int)(s.len > 64 ? 64 : s.len), s.ptr);
  return TN_OK;
}

tn_status tn_tk_set_edges(tn_tk_reader *r, const tn_json *config, const char *bos_default,
                          const char *eos_default) {
  static const char *const templates[2][2][2] = {{{"0A", "0A1B"}, {"0A0S", "0A0S1B1S"}},
                                                 {{"0C0A", "0C0A1C1B"}, {"0C0A0S", "0C0A0S1C1B1S"}}};
  bool bos, eos;
  uint32_t bos_id = 0, eos_id = 0;
  TN_TRY(edge_token(r, config, "add_bos_token", "bos_token", bos_default, &bos, &bos_id));
  TN_TRY(edge_token(r, config, "add_eos_token", "eos_token", eos_default, &eos, &eos_id));
  return tn_tk_put_template(r, templates[bos][eos][0], templates[bos][eos][1], bos_id, eos_id);
}

/* ---- the rest -------------------------------------------------------------------------------- */
static tn_status set_clean_up(tn_tk_reader *r, const tn_json *config) {
  bool on = false;
  TN_TRY(tn_tk_bool(r, config, "", "clean_up_tokenization_spaces", &on));
  if (!on || r->build.head.model == MODEL_bpe) return TN_OK;
  tn_tk_part p = {.kind = DECODER_clean_up - DECODER_byte_level, .s = {TN_TK_NONE, 0}, .t = {TN_TK_NONE, 0}};
  return tn_vec_push(&r->build.parts[TN_TK_STAGE_DECODE], p) ? TN_OK : tn_tk_oom(r);
}

/* What stands there when nothing is known is 1e30. */
static void set_max_length(tn_tk_reader *r, const tn_json *config) {
  const tn_json *node = given(config, "model_max_length");
  if (!r->build.head.max_length && node && node->kind == TN_JSON_INT && node->u.i > 0 &&
      node->u.i < INT32_MAX)
    r->build.head.max_length = (uint32_t)node->u.i;
}

tn_status tn_tk_read_config(tn_tk_reader *r, const tn_json *config, const tn_json *special) {
  if (config) {
    TN_TRY(change_bert(r, config));
    TN_TRY(add_listed(r, config));
    TN_TRY(add_all_special(r, config));
  }
  if (special && !given(config, "added_tokens_decoder")) TN_TRY(add_all_special(r, special));
  if (!config) return TN_OK;
  TN_TRY(set_clean_up(r, config));
  set_max_length(r, config);
  return TN_OK;
}
