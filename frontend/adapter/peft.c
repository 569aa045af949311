/* peft.c - adapters as the peft package writes them: adapter_config.json and adapter_model.safetensors. */
#include "frontend/adapter/adapter.h"
#include "frontend/config/folder.h"
#include "frontend/safetensors/safetensors.h"
#include <math.h>

static const char config_name[] = "adapter_config.json", tensors_name[] = "adapter_model.safetensors";

typedef struct peft {
  tn_adapters *all;
  tn_adapter *a;
  tn_diags *diags;
  tn_json *config;
  double alpha;
  bool root;       /* use_rslora */
  bool transposed; /* fan_in_fan_out */
} peft;

static tn_status refuse(peft *p, const char *key, const char *why) {
  tn_buf b = {0};
  tn_buf_printf(&b, "key '%s'", key);
  tn_status s = tn_fail(p->diags, TN_UNSUPPORTED, config_name, tn_buf_cstr(&b), "%s", why);
  tn_buf_fini(&b);
  return s;
}

static bool is_empty(const tn_json *j) {
  return !j || j->kind == TN_JSON_NULL || (j->kind == TN_JSON_BOOL && !j->u.b) ||
         ((j->kind == TN_JSON_OBJECT || j->kind == TN_JSON_LIST) && !j->count) ||
         (j->kind == TN_JSON_STRING && (!j->u.s.len || tn_str_is(j->u.s, "none")));
}

/* Keys that change what the adapter computes, and must be empty or false. */
static tn_status check_keys(peft *p) {
  static const char *const keys[][2] = {
      {"use_dora", "DoRA's magnitudes are not supported"},
      {"lora_bias", "adapters with a bias are not supported"},
      {"bias", "adapters that change biases are not supported"},
      {"modules_to_save", "whole modules in an adapter are not supported"},
      {"trainable_token_indices", "trained tokens in an adapter are not supported"},
      {"layer_replication", "replicated layers are not supported"},
      {"alora_invocation_tokens", "activated adapters are not supported"},
      {"use_qalora", "QALoRA is not supported"},
      {"use_bdlora", "block-diagonal LoRA is not supported"},
      {"velora_config", "VeLoRA is not supported"},
      {"arrow_config", "Arrow routing is not supported"},
      {"monteclora_config", "MonteCLoRA is not supported"},
      {"target_parameters", "adapters of bare parameters are not supported"},
  };
  const tn_json *type = tn_json_get(p->config, "peft_type");
  if (!type || type->kind != TN_JSON_STRING || !tn_str_is(type->u.s, "LORA"))
    return refuse(p, "peft_type", "only LORA adapters are supported");
  for (size_t i = 0; i < TN_COUNT(keys); i++)
    if (!is_empty(tn_json_get(p->config, keys[i][0]))) return refuse(p, keys[i][0], keys[i][1]);
  return TN_OK;
}

static bool number(const tn_json *j, double *out) {
  if (!j || (j->kind != TN_JSON_INT && j->kind != TN_JSON_REAL)) return false;
  *out = j->kind == TN_JSON_INT ? (double)j->u.i : j->u.r;
  return true;
}

/* alpha_pattern: {"q_proj": 32, "layers.0.k_proj": 16}; a key is the module's name or its end. Regular
 * expressions, which peft allows too, are refused. */
static tn_status alpha_of(peft *p, const char *module, double *alpha) {
  const tn_json *pattern = tn_json_get(p->config, "alpha_pattern");
  *alpha = p->alpha;
  for (uint32_t i = 0; pattern && pattern->kind == TN_JSON_OBJECT && i < pattern->count; i++) {
    const char *key = pattern->u.items[i].key;
    size_t n = strlen(key), have = strlen(module);
    if (strpbrk(key, "^$*+?()[]{}|\\"))
      return refuse(p, "alpha_pattern", "regular expressions are not supported");
    if (n > have || strcmp(module + have - n, key) || (n < have && module[have - n - 1] != '.')) continue;
    return number(&pattern->u.items[i], alpha) ? TN_OK
                                               : refuse(p, "alpha_pattern", "a value is not a number");
  }
  return TN_OK;
}

static tn_tensor_ref ref_of(const tn_st_tensor *t) {
  return (tn_tensor_ref){
      .dtype = t->dtype, .rank = t->rank, .shape = t->shape, .offset = t->offset, .bytes = t->bytes};
}

/* "base_model.model.M.lora_A.weight" and its B become the matrices of the weight "M.weight". */
static tn_status add_pair(peft *p, const tn_st_files *files, const tn_st_tensor *t, const char *tail) {
  static const char before[] = "base_model.model.";
  const char *start = t->name + (strncmp(t->name, before, sizeof before - 1) ? 0 : sizeof before - 1);
  int n = (int)(tail - start);
  char *module = tn_arena_printf(&p->all->arena, "%.*s", n, start);
  char *weight = tn_arena_printf(&p->all->arena, "%.*s.weight", n, start);
  char *other = tn_arena_printf(&p->all->arena, "%.*s.lora_B.weight", (int)(tail - t->name), t->name);
  if (!module || !weight || !other) return TN_OOM;
  const tn_st_tensor *b = tn_st_find(files, other);
  if (!b) return tn_fail(p->diags, TN_INVALID, tensors_name, other, "the tensor is missing");
  tn_lora l = {.weight = weight, .a = ref_of(t), .b = ref_of(b)};
  double alpha, r = t->rank == 2 && t->shape[0] > 0 ? (double)t->shape[0] : 1;
  TN_TRY(alpha_of(p, module, &alpha));
  l.scale = alpha / (p->root ? sqrt(r) : r);
  l.transposed = p->transposed;
  return tn_adapter_add(p->all, p->a, &l, p->diags);
}

static tn_status add_tensors(peft *p, const tn_st_files *files) {
  for (uint32_t i = 0; i < files->tensors.count; i++) {
    const tn_st_tensor *t = &files->tensors.items[i];
    tn_str name = tn_str_of(t->name);
    if (tn_str_ends(name, ".lora_B.weight")) continue; /* taken with its A */
    if (!tn_str_ends(name, ".lora_A.weight"))
      return tn_fail(p->diags, TN_UNSUPPORTED, tensors_name, t->name,
                     "the adapter holds a tensor that is no lora_A or lora_B of a linear layer");
    TN_TRY(add_pair(p, files, t, t->name + name.len - strlen(".lora_A.weight")));
  }
  return tn_adapter_complete(p->a, files->tensors.count, p->diags);
}

static bool flag(peft *p, const char *key) {
  const tn_json *j = tn_json_get(p->config, key);
  return j && j->kind == TN_JSON_BOOL && j->u.b;
}

static tn_status read_all(peft *p, tn_st_files *files) {
  const char *folder = p->a->path;
  TN_TRY(tn_folder_json(&p->all->arena, folder, config_name, TN_JSON_OBJECT, p->diags, &p->config));
  TN_TRY(check_keys(p));
  p->root = flag(p, "use_rslora");
  p->transposed = flag(p, "fan_in_fan_out");
  if (!number(tn_json_get(p->config, "lora_alpha"), &p->alpha))
    return refuse(p, "lora_alpha", "expected a number");
  tn_file f;
  TN_TRY(tn_folder_map(folder, tensors_name, p->diags, &f));
  tn_status s = tn_st_read(files, tensors_name, (tn_bytes){f.data, f.size}, p->diags);
  tn_file_unmap(&f);
  TN_TRY(s);
  p->a->path = tn_path_join(&p->all->arena, folder, tensors_name);
  return p->a->path ? add_tensors(p, files) : TN_OOM;
}

tn_status tn_adapter_read_peft(tn_adapters *all, tn_adapter *a, tn_diags *diags) {
  peft p = {.all = all, .a = a, .diags = diags};
  tn_st_files files;
  tn_st_init(&files);
  tn_status s = read_all(&p, &files);
  tn_st_fini(&files);
  return s;
}
