/* sentence.c - a sentence-transformers folder: modules.json lists what follows the transformer. A chain of
 * Transformer, Pooling and Normalize becomes three keys of the config, which the pages read; any other is
 * refused. */
#include "frontend/hf/hf.h"

static const char modules_name[] = "modules.json";

typedef struct pooling_mode {
  const char *flag, *name;
} pooling_mode;
static const pooling_mode modes[] = {{"pooling_mode_cls_token", "cls"},
                                     {"pooling_mode_mean_tokens", "mean"},
                                     {"pooling_mode_max_tokens", "max"},
                                     {"pooling_mode_lasttoken", "lasttoken"}};
static const char *const other_modes[] = {"pooling_mode_mean_sqrt_len_tokens",
                                          "pooling_mode_weightedmean_tokens"};

static tn_status add_key(tn_hf *h, const char *key, tn_json value) {
  tn_json *n = tn_json_add(&h->arena, h->config, key);
  if (!n) return tn_fail(&h->diags, TN_OOM, modules_name, NULL, "out of memory");
  value.key = n->key;
  value.made = true;
  *n = value;
  return TN_OK;
}

static tn_status add_bool(tn_hf *h, const char *key, bool b) {
  return add_key(h, key, (tn_json){.kind = TN_JSON_BOOL, .u.b = b});
}

static bool is_set(const tn_json *config, const char *flag) {
  const tn_json *f = tn_json_get(config, flag);
  return f && f->kind == TN_JSON_BOOL && f->u.b;
}

/* Newer files say "pooling_mode": "mean"; older ones have one flag per mode. */
static tn_status pooling_of(tn_hf *h, const char *file, const tn_json *config, const char **mode) {
  const char *word = tn_hf_string(h, file, config, "pooling_mode");
  uint32_t chosen = 0;
  for (size_t i = 0; i < TN_COUNT(modes); i++) {
    if (word ? strcmp(word, modes[i].name) : !is_set(config, modes[i].flag)) continue;
    *mode = modes[i].name;
    chosen++;
  }
  for (size_t i = 0; i < TN_COUNT(other_modes); i++)
    if (is_set(config, other_modes[i]))
      return tn_hf_fail_key(h, TN_UNSUPPORTED, file, other_modes[i], "this pooling is not supported");
  if (chosen == 1) return TN_OK;
  if (word)
    return tn_hf_fail_key(h, TN_UNSUPPORTED, file, "pooling_mode", "pooling '%s' is not supported", word);
  return tn_fail(&h->diags, chosen ? TN_UNSUPPORTED : TN_INVALID, file, NULL,
                 "%u pooling modes are chosen; one is supported", chosen);
}

static tn_status add_pooling(tn_hf *h, const char *path) {
  tn_json *config;
  const char *mode = NULL, *file = tn_arena_printf(&h->arena, "%s%sconfig.json", path, *path ? "/" : "");
  if (!file) return tn_fail(&h->diags, TN_OOM, modules_name, NULL, "out of memory");
  TN_TRY(tn_folder_json(&h->arena, h->folder, file, TN_JSON_OBJECT, &h->diags, &config));
  TN_TRY(pooling_of(h, file, config, &mode));
  return add_key(h, "pooling", (tn_json){.kind = TN_JSON_STRING, .u.s = tn_str_of(mode)});
}

static tn_status add_transformer(tn_hf *h, const char *path) {
  if (!*path) return TN_OK;
  return tn_fail(&h->diags, TN_UNSUPPORTED, modules_name, "module 'Transformer'",
                 "lies in the folder '%s'; only models that lie beside modules.json are supported", path);
}

static tn_status add_normalize(tn_hf *h, const char *path) {
  (void)path;
  return add_bool(h, "normalize", true);
}

typedef struct module_kind {
  const char *name;
  tn_status (*add)(tn_hf *h, const char *path);
} module_kind;
/* In the order in which they may follow each other. */
static const module_kind kinds[] = {
    {"Transformer", add_transformer}, {"Pooling", add_pooling}, {"Normalize", add_normalize}};

static tn_status add_module(tn_hf *h, const tn_json *module, uint32_t *next) {
  const char *type = tn_hf_string(h, modules_name, module, "type");
  const char *path = tn_hf_string(h, modules_name, module, "path");
  if (!type) return tn_fail(&h->diags, TN_INVALID, modules_name, NULL, "a module has no 'type'");
  const char *dot = strrchr(type, '.'), *name = dot ? dot + 1 : type;
  for (uint32_t i = *next; i < TN_COUNT(kinds); i++) {
    if (strcmp(kinds[i].name, name)) continue;
    if (i > *next) break;
    *next = i + 1;
    return kinds[i].add(h, path ? path : "");
  }
  return tn_fail(&h->diags, TN_UNSUPPORTED, modules_name, NULL,
                 "module '%s' is not supported here: known is the chain Transformer, Pooling, Normalize",
                 type);
}

/* The Transformer module's own settings, under one of the names that sentence-transformers has used. */
static tn_status read_limits(tn_hf *h) {
  static const char *const names[] = {"sentence_bert_config.json", "sentence_roberta_config.json",
                                      "sentence_distilbert_config.json", "sentence_xlm-roberta_config.json"};
  for (size_t i = 0; i < TN_COUNT(names); i++) {
    tn_json *config;
    if (!tn_folder_has(h->folder, names[i])) continue;
    TN_TRY(tn_folder_json(&h->arena, h->folder, names[i], TN_JSON_OBJECT, &h->diags, &config));
    const tn_json *n = tn_json_get(config, "max_seq_length");
    if (!n || n->kind == TN_JSON_NULL) continue;
    if (n->kind != TN_JSON_INT || n->u.i < 1)
      return tn_hf_fail_key(h, TN_INVALID, names[i], "max_seq_length", "is not a positive integer");
    return add_key(h, "max_seq_length", (tn_json){.kind = TN_JSON_INT, .u.i = n->u.i});
  }
  return TN_OK;
}

tn_status tn_hf_read_sentence(tn_hf *h) {
  tn_json *list;
  uint32_t next = 0;
  if (!tn_folder_has(h->folder, modules_name)) return add_bool(h, "sentence_transformers", false);
  TN_TRY(tn_folder_json(&h->arena, h->folder, modules_name, TN_JSON_LIST, &h->diags, &list));
  h->sentence = true;
  TN_TRY(add_bool(h, "sentence_transformers", true));
  TN_TRY(add_bool(h, "normalize", false));
  for (uint32_t i = 0; i < list->count; i++) TN_TRY(add_module(h, &list->u.items[i], &next));
  if (next < 2)
    return tn_fail(&h->diags, TN_UNSUPPORTED, modules_name, NULL,
                   "has no Transformer with a Pooling behind it");
  return read_limits(h);
}
