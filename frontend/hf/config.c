/* config.c - config.json of a Hugging Face folder and what stands beside it; what it says about the
 * architecture. */
#include "frontend/hf/packed.h"
#include <float.h>

static const char config_name[] = "config.json", generation_name[] = "generation_config.json";

tn_status tn_hf_fail_key(tn_hf *h, tn_status status, const char *file, const char *key, const char *fmt,
                         ...) {
  tn_buf where = {0}, text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_buf_printf(&where, "key '%s'", key);
  tn_fail(&h->diags, status, file, tn_buf_cstr(&where), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&where);
  tn_buf_fini(&text);
  return status;
}

const char *tn_hf_string(tn_hf *h, const char *file, const tn_json *object, const char *key) {
  const tn_json *s = tn_json_get(object, key);
  if (!s || s->kind == TN_JSON_NULL) return NULL;
  if (s->kind == TN_JSON_STRING && strlen(s->u.s.ptr) == s->u.s.len) return s->u.s.ptr;
  tn_hf_fail_key(h, TN_INVALID, file, key, "is %s, not a plain string", tn_json_kind_name(s->kind));
  return NULL;
}

static tn_status no_config(tn_hf *h) {
  if (tn_folder_has(h->folder, "adapter_config.json"))
    return tn_fail(
        &h->diags, TN_UNSUPPORTED, "adapter_config.json", NULL,
        "the folder holds only an adapter: merge it into its base model (merge_and_unload in peft) and "
        "save that");
  if (tn_folder_has(h->folder, "model_index.json"))
    return tn_fail(&h->diags, TN_UNSUPPORTED, "model_index.json", NULL,
                   "the folder holds a diffusers pipeline, which is not supported");
  return tn_fail(&h->diags, TN_NOT_FOUND, config_name, NULL, "no such file in the model folder");
}

static tn_status read_architecture(tn_hf *h) {
  const char *type = tn_hf_string(h, config_name, h->config, "model_type");
  const tn_json *list = tn_json_get(h->config, "architectures");
  if (h->diags.errors) return TN_INVALID;
  h->model_type = type ? type : "";
  h->architecture = type;
  if (!list || list->kind == TN_JSON_NULL) {
    if (type) return TN_OK;
    return tn_fail(&h->diags, TN_INVALID, config_name, "key 'architectures'",
                   "is missing, and so is 'model_type'");
  }
  if (list->kind != TN_JSON_LIST || !list->count || list->u.items[0].kind != TN_JSON_STRING)
    return tn_fail(&h->diags, TN_INVALID, config_name, "key 'architectures'", "is not a list of class names");
  h->architecture = list->u.items[0].u.s.ptr;
  return TN_OK;
}

static tn_status check_size(tn_hf *h, const char *key, const tn_json *n) {
  if (n->kind != TN_JSON_INT)
    return tn_hf_fail_key(h, TN_INVALID, config_name, key, "is %s, not an integer",
                          tn_json_kind_name(n->kind));
  if (n->u.i >= 1 && n->u.i <= INT32_MAX) return TN_OK;
  return tn_hf_fail_key(h, TN_INVALID, config_name, key, "is %lld; it must be from 1 to %d",
                        (long long)n->u.i, INT32_MAX);
}

static tn_status check_positive(tn_hf *h, const char *key, const tn_json *n) {
  if (n->kind != TN_JSON_INT && n->kind != TN_JSON_REAL)
    return tn_hf_fail_key(h, TN_INVALID, config_name, key, "is %s, not a number", tn_json_kind_name(n->kind));
  double value = n->kind == TN_JSON_INT ? (double)n->u.i : n->u.r;
  if (value > 0 && value <= DBL_MAX) return TN_OK;
  return tn_hf_fail_key(h, TN_INVALID, config_name, key, "is %g; it must be positive and finite", value);
}

static tn_status check_name(tn_hf *h, const char *key, const tn_json *n) {
  if (n->kind == TN_JSON_STRING) return TN_OK;
  return tn_hf_fail_key(h, TN_INVALID, config_name, key, "is %s, not a string", tn_json_kind_name(n->kind));
}

typedef struct checked_key {
  const char *key;
  tn_status (*check)(tn_hf *h, const char *key, const tn_json *n);
} checked_key;
/* What every graph divides by, multiplies or allocates: no page needs to check it again. Null means not
 * given. */
static const checked_key checked[] = {
    {"hidden_size", check_size},
    {"num_hidden_layers", check_size},
    {"num_attention_heads", check_size},
    {"intermediate_size", check_size},
    {"vocab_size", check_size},
    {"max_position_embeddings", check_size},
    {"head_dim", check_size},
    {"num_key_value_heads", check_size},
    {"num_labels", check_size},
    {"layer_norm_eps", check_positive},
    {"rms_norm_eps", check_positive},
    {"rope_theta", check_positive},
    {"hidden_act", check_name},
};

static tn_status check_numbers(tn_hf *h) {
  tn_status status = TN_OK;
  for (size_t i = 0; i < TN_COUNT(checked); i++) {
    const tn_json *n = tn_json_peek(h->config, checked[i].key);
    tn_status s = n && n->kind != TN_JSON_NULL ? checked[i].check(h, checked[i].key, n) : TN_OK;
    if (s != TN_OK) status = s;
  }
  return status;
}

/* Models of text and images keep the keys of their language model in an object: they are read as if they
 * stood beside it, but for those that do. */
static tn_status lift_text_config(tn_hf *h) {
  const tn_json *text = tn_json_get(h->config, "text_config");
  if (!text || text->kind != TN_JSON_OBJECT) return TN_OK;
  const tn_json *items = text->u.items;
  uint32_t count = text->count;
  for (uint32_t i = 0; i < count; i++) {
    if (tn_json_peek(h->config, items[i].key)) continue;
    tn_json *to = tn_json_add(&h->arena, h->config, items[i].key);
    if (!to) return tn_fail(&h->diags, TN_OOM, config_name, NULL, "no memory for its keys");
    *to = items[i];
  }
  return TN_OK;
}

tn_status tn_hf_read_config(tn_hf *h) {
  if (!tn_folder_has(h->folder, config_name)) return no_config(h);
  TN_TRY(tn_folder_json(&h->arena, h->folder, config_name, TN_JSON_OBJECT, &h->diags, &h->config));
  TN_TRY(lift_text_config(h));
  TN_TRY(tn_config_canonical(&h->arena, h->config, config_name, &h->diags));
  TN_TRY(read_architecture(h));
  TN_TRY(tn_packed_read_config(h));
  TN_TRY(check_numbers(h));
  if (tn_folder_has(h->folder, generation_name))
    TN_TRY(tn_folder_json(&h->arena, h->folder, generation_name, TN_JSON_OBJECT, &h->diags, &h->generation));
  return tn_hf_read_sentence(h);
}
