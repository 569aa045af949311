/* meta.c - what a program that runs the model wants to know beyond its graphs, from the metadata of a GGUF
 * file. */
#include "frontend/gguf/import.h"
#include "frontend/import.h"

enum { ENDS_MAX = 16, CONTROL_TOKEN = 3 }; /* of tokenizer.ggml.token_type */

static tn_status set(tn_gguf_import *g, const char *key, const char *value) {
  return tn_import_meta(g->ir, g->m, key, value);
}

static tn_status set_int(tn_gguf_import *g, const char *key, int64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long)value);
  return set(g, key, text);
}

/* ---- tokens
 * ---------------------------------------------------------------------------------------------------- */

/* The id under a key; -1: none. One that is no token is left out, with a warning, as llama.cpp does. */
static int64_t token_id(tn_gguf_import *g, const char *key) {
  const tn_gguf_kv *kv = tn_gguf_find(g->file, key), *tokens = tn_gguf_find(g->file, "tokenizer.ggml.tokens");
  int64_t id;
  uint64_t n = tokens ? tokens->count : 0;
  tn_buf where = {0};
  if (!kv || !n) return -1;
  if (tn_gguf_int(kv, 0, &id) && id >= 0 && (uint64_t)id < n) return id;
  tn_buf_printf(&where, "key '%s'", key);
  tn_diags_add(&g->diags, TN_WARNING, g->name, 0, 0, tn_buf_cstr(&where),
               "is none of the %llu tokens and has no effect", (unsigned long long)n);
  tn_buf_fini(&where);
  return -1;
}

typedef struct id_list {
  int64_t ids[ENDS_MAX];
  uint32_t count;
} id_list;

static void add_id(id_list *l, int64_t id) {
  for (uint32_t i = 0; i < l->count; i++)
    if (l->ids[i] == id) return;
  if (id >= 0 && l->count < ENDS_MAX) l->ids[l->count++] = id;
}

/* Control tokens that end a turn or a text in the chat formats of today. Files rarely say so (their eos is
 * that of the base model), and a chat would not stop. */
static bool ends_turn(tn_str token) {
  static const char *const names[] = {
      "<|eot_id|>",    "<|im_end|>",
      "<|end|>",       "<end_of_turn>",
      "<|endoftext|>", "<|end_of_text|>",
      "<EOT>",         "_<EOT>",
      "<|eom_id|>",    "<|end_of_turn|>",
      "<|return|>",    "<turn|>",
      "<|call|>",      "<\357\275\234end\342\226\201of\342\226\201sentence\357\275\234>"};
  for (size_t i = 0; i < TN_COUNT(names); i++)
    if (tn_str_is(token, names[i])) return true;
  return false;
}

static void find_ends(tn_gguf_import *g, id_list *l) {
  const tn_gguf_kv *tokens = tn_gguf_find(g->file, "tokenizer.ggml.tokens"),
                   *types = tn_gguf_find(g->file, "tokenizer.ggml.token_type");
  for (uint64_t i = 0; tokens && i < tokens->count; i++) {
    int64_t type = 0;
    tn_str s;
    if (tn_gguf_int(types, i, &type) && type == CONTROL_TOKEN && tn_gguf_string(tokens, i, &s) &&
        ends_turn(s))
      add_id(l, (int64_t)i);
  }
}

static tn_status set_ends(tn_gguf_import *g) {
  static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"};
  id_list l = {0};
  tn_buf text = {0};
  for (size_t i = 0; i < TN_COUNT(keys); i++) add_id(&l, token_id(g, keys[i]));
  find_ends(g, &l);
  for (uint32_t i = 0; i < l.count; i++) tn_buf_printf(&text, "%s%lld", i ? "," : "", (long long)l.ids[i]);
  tn_status s = text.failed ? TN_OOM : l.count ? set(g, "eos", tn_buf_cstr(&text)) : TN_OK;
  tn_buf_fini(&text);
  return s;
}

static tn_status set_token(tn_gguf_import *g, const char *meta, const char *key) {
  int64_t id = token_id(g, key);
  return id >= 0 ? set_int(g, meta, id) : TN_OK;
}

static tn_status set_tokenizer(tn_gguf_import *g) {
  const char *kind = tn_gguf_text(g, "tokenizer.ggml.model");
  if (kind && strcmp(kind, "none") != 0) TN_TRY(set(g, "tokenizer", "gguf"));
  TN_TRY(set(g, "chat_template", tn_gguf_text(g, "tokenizer.chat_template")));
  TN_TRY(set_ends(g));
  TN_TRY(set_token(g, "bos", "tokenizer.ggml.bos_token_id"));
  TN_TRY(set_token(g, "pad", "tokenizer.ggml.padding_token_id"));
  return g->diags.errors ? TN_INVALID : TN_OK;
}

/* ---- the rest
 * -------------------------------------------------------------------------------------------------- */

/* The file's name without ".gguf" and without the number of its part. */
static tn_status set_source(tn_gguf_import *g) {
  static const char part[] = "-00001-of-";
  char *source = tn_arena_str(&g->arena, tn_str_of(g->name));
  if (!source) return TN_OOM;
  size_t n = strlen(source);
  if (tn_str_ends(tn_str_of(source), ".gguf")) source[n -= 5] = 0;
  if (n > sizeof part + 4 && !memcmp(source + n - (sizeof part + 4), part, sizeof part - 1))
    source[n - (sizeof part + 4)] = 0;
  TN_TRY(set(g, "source", source));
  return tn_import_name(g->ir, g->m, source);
}

static tn_status set_positive(tn_gguf_import *g, const char *meta, const char *key) {
  const tn_json *n = tn_json_peek(g->config, key);
  return n && n->kind == TN_JSON_INT && n->u.i > 0 ? set_int(g, meta, n->u.i) : TN_OK;
}

tn_status tn_gguf_set_meta(tn_gguf_import *g, const tn_page_info *page, const char *architecture) {
  const char *task = g->host->option(g->options, "task");
  const tn_json *pooling = tn_json_peek(g->config, "pooling");
  TN_TRY(set_source(g));
  TN_TRY(set(g, "architecture", architecture));
  TN_TRY(set(g, "model_type", g->type));
  TN_TRY(set(g, "task", task ? task : *page->tasks ? page->tasks : "feature-extraction"));
  TN_TRY(set_positive(g, "max_positions", "context_length"));
  TN_TRY(set_positive(g, "vocab", "vocab_size"));
  TN_TRY(set_tokenizer(g));
  if (g->ir->state_count(g->m)) {
    TN_TRY(set(g, "dim.position", "P"));
    TN_TRY(set(g, "dim.capacity", "C"));
  }
  return pooling && pooling->kind == TN_JSON_STRING ? set(g, "pooling", pooling->u.s.ptr) : TN_OK;
}
