/* config.c - config.json of a folder that is made of a GGUF file, and, for models that embed texts, what
 * sentence-transformers wants beside it. */
#include "frontend/checkpoint/ck.h"
#include <errno.h>
#include <sys/stat.h>

static bool set_text(tn_checkpoint *v, const char *key, const char *s) {
  return ck_json_set(&v->arena, v->config, key, (tn_json){.kind = TN_JSON_STRING, .u.s = tn_str_of(s)});
}

static bool set_head(tn_checkpoint *v) {
  const tn_page_facts *f = &v->behind->facts;
  tn_json *one = tn_arena_alloc(&v->arena, sizeof *one);
  if (!one) return false;
  *one = (tn_json){.kind = TN_JSON_STRING, .u.s = tn_str_of(v->architecture)};
  return ck_json_set(&v->arena, v->config, "architectures",
                     (tn_json){.kind = TN_JSON_LIST, .count = 1, .u.items = one}) &&
         set_text(v, "model_type", f->type ? f->type : "");
}

/* What stands for nothing in a folder: the importer made it. */
static bool is_ours(const char *key) { return !strcmp(key, "pooling") || !strcmp(key, "normalize"); }

static bool set_keys(tn_checkpoint *v) {
  const tn_json *all = v->behind->facts.keys;
  for (uint32_t i = 0; i < all->count; i++) {
    const tn_json *k = &all->u.items[i];
    if (k->made || is_ours(k->key)) continue; /* made: left out */
    tn_json value = *k;
    if (value.kind == TN_JSON_REAL) value.u.r = ck_short(value.u.r);
    if (!ck_json_set(&v->arena, v->config, k->key, value)) return false;
  }
  return true;
}

/* Without a key there is no such token, whatever number the class of the config has for it. */
static bool set_tokens(tn_checkpoint *v) {
  static const char *const ids[][2] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                       {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                       {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
  for (size_t i = 0; i < TN_COUNT(ids); i++) {
    const tn_gguf_kv *kv = tn_gguf_find(v->behind->gguf.file, ids[i][1]);
    tn_json id = {.kind = TN_JSON_INT};
    if (!kv || !tn_gguf_int(kv, 0, &id.u.i)) id.kind = TN_JSON_NULL;
    if (!ck_json_set(&v->arena, v->config, ids[i][0], id)) return false;
  }
  return true;
}

tn_status ck_make_config(tn_checkpoint *v, tn_diags *diags) {
  v->config = tn_arena_alloc(&v->arena, sizeof *v->config);
  if (v->config) v->config->kind = TN_JSON_OBJECT;
  if (!v->config || !set_head(v) || !set_keys(v) || !set_tokens(v))
    return tn_fail(diags, TN_OOM, v->path, NULL, "out of memory");
  return ck_rope_config(v, v->config, diags);
}

/* ---- sentence-transformers ---- */

static const tn_json *fact(const tn_checkpoint *v, const char *key) {
  return tn_json_peek(v->behind->gguf.config, key);
}

static tn_status write_pooling(const char *mode, int64_t d, const char *to, tn_diags *diags) {
  tn_arena arena;
  tn_buf text = {0};
  tn_arena_init(&arena);
  const char *folder = tn_path_join(&arena, to, "1_Pooling");
  tn_status s = TN_OK;
  if (!folder || (mkdir(folder, 0777) && errno != EEXIST))
    s = tn_fail(diags, TN_UNAVAILABLE, to, NULL, "cannot make the folder 1_Pooling");
  tn_buf_printf(&text,
                "{\n  \"word_embedding_dimension\": %lld,\n  \"pooling_mode_cls_token\": %s,\n"
                "  \"pooling_mode_mean_tokens\": %s,\n  \"pooling_mode_max_tokens\": false,\n"
                "  \"pooling_mode_mean_sqrt_len_tokens\": false,\n  \"pooling_mode_lasttoken\": %s\n}\n",
                (long long)d, !strcmp(mode, "cls") ? "true" : "false",
                !strcmp(mode, "mean") ? "true" : "false", !strcmp(mode, "lasttoken") ? "true" : "false");
  if (s == TN_OK)
    s = ck_write_text(folder, "config.json", &text, diags);
  else
    tn_buf_fini(&text);
  tn_arena_fini(&arena);
  return s;
}

tn_status ck_write_sentence(const tn_checkpoint *v, const char *to, tn_diags *diags) {
  static const char modules[] = "[\n  {\"idx\": 0, \"name\": \"0\", \"path\": \"\", \"type\": "
                                "\"sentence_transformers.models.Transformer\"},\n"
                                "  {\"idx\": 1, \"name\": \"1\", \"path\": \"1_Pooling\", \"type\": "
                                "\"sentence_transformers.models.Pooling\"},\n"
                                "  {\"idx\": 2, \"name\": \"2\", \"path\": \"2_Normalize\", \"type\": "
                                "\"sentence_transformers.models.Normalize\"}\n]\n";
  static const char last[] = ",\n  {\"idx\": 2";
  const tn_json *normalize = fact(v, "normalize"), *mode = fact(v, "pooling"),
                *d = fact(v, "embedding_length"), *most = fact(v, "context_length");
  tn_buf text = {0};
  if (!v->behind || !mode || mode->kind != TN_JSON_STRING || !d || d->kind != TN_JSON_INT) return TN_OK;
  bool unit = !normalize || normalize->kind != TN_JSON_BOOL || normalize->u.b;
  tn_buf_put(&text, modules, unit ? strlen(modules) : (uint64_t)(strstr(modules, last) - modules));
  if (!unit) tn_buf_puts(&text, "\n]\n");
  TN_TRY(ck_write_text(to, "modules.json", &text, diags));
  text = (tn_buf){0};
  tn_buf_printf(&text, "{\n  \"max_seq_length\": %lld,\n  \"do_lower_case\": false\n}\n",
                (long long)(most && most->kind == TN_JSON_INT ? most->u.i : 512));
  TN_TRY(ck_write_text(to, "sentence_bert_config.json", &text, diags));
  return write_pooling(mode->u.s.ptr, d->u.i, to, diags);
}
