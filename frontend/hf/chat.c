/* chat.c - the folder's chat template: a file of its own (chat_template.jinja, or .json around it), or a key
 * of tokenizer_config.json, where it may be a list of named ones. Only its text is kept; frontend/chat runs
 * it. */
#include "frontend/hf/hf.h"

/* The one named "default" of a list, else the first; ptr NULL: none. */
static tn_str listed(const tn_json *list) {
  tn_str first = {NULL, 0};
  for (uint32_t i = 0; i < list->count; i++) {
    const tn_json *name = tn_json_peek(&list->u.items[i], "name");
    const tn_json *text = tn_json_peek(&list->u.items[i], "template");
    if (!text || text->kind != TN_JSON_STRING) continue;
    if (name && name->kind == TN_JSON_STRING && tn_str_is(name->u.s, "default")) return text->u.s;
    if (!first.ptr) first = text->u.s;
  }
  return first;
}

static tn_status from_json(tn_hf *h, const char *file, tn_str *out) {
  tn_json *root;
  if (out->ptr || !tn_folder_has(h->folder, file)) return TN_OK;
  TN_TRY(tn_folder_json(&h->arena, h->folder, file, TN_JSON_OBJECT, &h->diags, &root));
  const tn_json *text = tn_json_peek(root, "chat_template");
  if (!text || text->kind == TN_JSON_NULL) return TN_OK;
  if (text->kind != TN_JSON_STRING && text->kind != TN_JSON_LIST)
    return tn_hf_fail_key(h, TN_INVALID, file, "chat_template", "is neither a text nor a list of them");
  *out = text->kind == TN_JSON_STRING ? text->u.s : listed(text);
  return TN_OK;
}

static tn_status from_text(tn_hf *h, const char *file, tn_str *out) {
  tn_file f;
  uint64_t bad;
  if (!tn_folder_has(h->folder, file)) return TN_OK;
  TN_TRY(tn_folder_map(h->folder, file, &h->diags, &f));
  tn_str text = {(const char *)f.data, f.size};
  tn_status status = TN_OK;
  if (!tn_utf8_valid(text, &bad))
    status = tn_fail(&h->diags, TN_INVALID, file, NULL, "byte %llu is not UTF-8", (unsigned long long)bad);
  else if (!(out->ptr = tn_arena_str(&h->arena, text)))
    status = TN_OOM;
  out->len = text.len;
  tn_file_unmap(&f);
  return status;
}

/* "<s>", or {"content": "<s>", ...} */
static tn_status set_token_text(tn_hf *h, const tn_json *config, const char *key) {
  const tn_json *text = tn_json_peek(config, key);
  if (text && text->kind == TN_JSON_OBJECT) text = tn_json_peek(text, "content");
  if (!text || text->kind != TN_JSON_STRING || h->ir->meta_get(h->m, key)) return TN_OK;
  return h->ir->meta_set(h->m, key, text->u.s.ptr);
}

static tn_status set_token_texts(tn_hf *h) {
  tn_json *config;
  if (!tn_folder_has(h->folder, "tokenizer_config.json")) return TN_OK;
  TN_TRY(tn_folder_json(&h->arena, h->folder, "tokenizer_config.json", TN_JSON_OBJECT, &h->diags, &config));
  TN_TRY(set_token_text(h, config, "bos_token"));
  return set_token_text(h, config, "eos_token");
}

tn_status tn_hf_set_chat_template(tn_hf *h) {
  tn_str text = {NULL, 0};
  if (h->ir->meta_get(h->m, "chat_template")) return TN_OK;
  TN_TRY(from_text(h, "chat_template.jinja", &text));
  TN_TRY(from_json(h, "chat_template.json", &text));
  TN_TRY(from_json(h, "tokenizer_config.json", &text));
  if (!text.len || memchr(text.ptr, 0, text.len)) return TN_OK;
  char *value = tn_arena_str(&h->arena, text);
  if (!value) return TN_OOM;
  TN_TRY(set_token_texts(h));
  return h->ir->meta_set(h->m, "chat_template", value);
}
