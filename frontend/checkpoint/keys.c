/* keys.c - the keys of a GGUF file that is made of a folder: what the page says of the model, in the types
 * that llama.cpp reads, rotary parameters and the tokenizer. */
#include "frontend/checkpoint/ck.h"
#include "frontend/tokenizer/gguf_convert.h"

static const struct {
  const char *key;
  tn_gguf_type type;
} keys[] = {
#define TN_KEY(key, type) {#key, TN_GGUF_##type},
#include "frontend/checkpoint/keys.def"
#undef TN_KEY
};

static tn_status fail(const tn_checkpoint *v, const char *key, const char *what, tn_diags *diags) {
  tn_buf where = {0};
  tn_buf_printf(&where, "key '%s'", key);
  tn_fail(diags, TN_UNSUPPORTED, v->path, tn_buf_cstr(&where), "%s", what);
  tn_buf_fini(&where);
  return TN_UNSUPPORTED;
}

static tn_status put_value(const tn_checkpoint *v, tn_gguf_writer *w, const char *key, tn_gguf_type type,
                           const tn_json *value, tn_diags *diags) {
  bool whole = value->kind == TN_JSON_INT ||
               (value->kind == TN_JSON_REAL && value->u.r == (double)(int64_t)value->u.r);
  int64_t i = value->kind == TN_JSON_INT ? value->u.i : whole ? (int64_t)value->u.r : 0;
  if (type == TN_GGUF_BOOL && value->kind == TN_JSON_BOOL)
    tn_gguf_put_bool(w, key, value->u.b);
  else if (type == TN_GGUF_F32 && value->kind == TN_JSON_REAL)
    tn_gguf_put_f32(w, key, (float)value->u.r);
  else if (type == TN_GGUF_F32 && value->kind == TN_JSON_INT)
    tn_gguf_put_f32(w, key, (float)value->u.i);
  else if (type == TN_GGUF_U32 && whole && i >= 0 && i <= UINT32_MAX)
    tn_gguf_put_u32(w, key, (uint32_t)i);
  else
    return fail(v, key, "has a value that GGUF files have no place for", diags);
  return TN_OK;
}

static tn_status put_facts(tn_checkpoint *v, tn_gguf_writer *w, const char *arch, tn_diags *diags) {
  const tn_json *all = v->behind->facts.keys;
  for (size_t i = 0; i < TN_COUNT(keys); i++) {
    const tn_json *value = tn_json_peek(all, keys[i].key);
    bool bare = !strncmp(keys[i].key, "tokenizer.", 10);
    const char *key = tn_arena_printf(&v->arena, "%s%s%s", bare ? "" : arch, bare ? "" : ".", keys[i].key);
    if (!key) return TN_OOM;
    if (value && value->kind != TN_JSON_NULL && !tn_gguf_has_key(w, key))
      TN_TRY(put_value(v, w, key, keys[i].type, value, diags));
  }
  return TN_OK;
}

/* The last part of a path, whatever slashes it ends with. */
static tn_str base_name(const char *path) {
  size_t end = strlen(path);
  while (end > 1 && path[end - 1] == '/') end--;
  size_t first = end;
  while (first && path[first - 1] != '/') first--;
  return (tn_str){path + first, end - first};
}

static tn_status put_tokenizer(const tn_checkpoint *v, const char *pre, tn_gguf_writer *w, tn_diags *diags) {
  const tn_json *vocab = tn_json_peek(v->behind->hf.config, "vocab_size");
  uint32_t rows = vocab && vocab->kind == TN_JSON_INT && vocab->u.i > 0 ? (uint32_t)vocab->u.i : 0;
  const tn_ck_tensor *table = tn_checkpoint_find(v, "token_embd.weight");
  if (table && table->rank == 2) rows = (uint32_t)table->shape[0];
  tn_status s = tn_tokenizer_to_gguf(v->behind->path, rows, pre, w, diags);
  if (s == TN_NOT_FOUND && !tn_gguf_has_key(w, "tokenizer.ggml.model"))
    tn_gguf_put_string(w, "tokenizer.ggml.model", TN_STR("none"));
  return s == TN_NOT_FOUND ? TN_OK : s;
}

const char *ck_gguf_architecture(const tn_checkpoint *v) {
  const tn_json *own = tn_json_peek(v->behind->facts.keys, "general.architecture");
  return own && own->kind == TN_JSON_STRING ? own->u.s.ptr : v->behind->facts.gguf;
}

tn_status ck_put_keys(tn_checkpoint *v, const char *pre, tn_gguf_writer *w, tn_diags *diags) {
  const char *arch = ck_gguf_architecture(v);
  if (!arch) return fail(v, "general.architecture", "the page of this model has none", diags);
  if (!tn_gguf_has_key(w, "general.architecture"))
    tn_gguf_put_string(w, "general.architecture", tn_str_of(arch));
  if (!tn_gguf_has_key(w, "general.type")) tn_gguf_put_string(w, "general.type", TN_STR("model"));
  if (!tn_gguf_has_key(w, "general.name")) tn_gguf_put_string(w, "general.name", base_name(v->behind->path));
  if (!tn_gguf_has_key(w, "general.quantization_version"))
    tn_gguf_put_u32(w, "general.quantization_version", 2);
  TN_TRY(put_tokenizer(v, pre, w, diags));
  TN_TRY(ck_put_rope(v, w, arch, diags)); /* first: a key of the page may say less */
  return put_facts(v, w, arch, diags);
}
