/* packed_config.c - quantization_config: the methods, and the settings that decide how tensors are stored.
 * Settings of calibration and of kernels are left alone; a setting below must have one of its values. */
#include "frontend/hf/packed.h"

typedef struct setting {
  const char *method, *key;
  const char *values; /* '|' between; "null" and "empty" (list or object) are values too. NULL: any */
} setting;
static const setting settings[] = {
    {"gptq", "bits", "2|3|4|8"},
    {"gptq", "group_size", "32|64|128|-1"},
    {"gptq", "checkpoint_format", "gptq|gptq_v2|null"},
    {"gptq", "format", "gptq|gptq_v2|null"},
    {"gptq", "pack_dtype", "int32|null"},
    {"gptq", "is_marlin_format", "false|null"},
    {"awq", "bits", "4"},
    {"awq", "w_bit", "4"},
    {"awq", "group_size", "32|64|128|-1"},
    {"awq", "q_group_size", "32|64|128|-1"},
    {"awq", "version", "gemm|GEMM|null"},
    {"awq", "format", "gemm|GEMM|null"},
    {"awq", "zero_point", "true"},
    {"awq", "modules_to_fuse", "null|empty"},
    {"compressed-tensors", "format",
     "pack-quantized|int-quantized|float-quantized|naive-quantized|nvfp4-pack-quantized|mxfp4-pack-quantized|"
     "mixed-precision"},
    {"compressed-tensors", "quantization_status", "compressed|null"},
    {"compressed-tensors", "sparsity_config", "null|empty"},
    {"compressed-tensors", "transform_config", "null|empty"},
    {"bitsandbytes", "bnb_4bit_quant_storage", "uint8|null"},
    {"fp8", "weight_block_size", "[128, 128]|null"},
    {"fp8", "fmt", "e4m3|null"},
};

/* Keys of any value, by method. */
static const struct {
  const char *method, *keys;
} ignored[] = {
    {"gptq", "desc_act|sym|damp_percent|damp_auto_increment|true_sequential|static_groups|lm_head|meta|"
             "dataset|tokenizer|model_seqlen|block_name_to_quantize|module_name_preceding_first_block|"
             "batch_size|pad_token_id|use_exllama|max_input_length|exllama_config|cache_block_outputs|"
             "modules_in_block_to_quantize|backend|use_cuda_fp16|disable_exllama|model_name_or_path|"
             "model_file_base_name|quant_method|mse|adapter|act_group_aware|hyb_act"},
    {"awq", "modules_to_not_convert|backend|do_fuse|exllama_config|fuse_max_seq_len|sym|desc_act|lm_head|"
            "meta|quant_method"},
    {"compressed-tensors",
     "config_groups|ignore|kv_cache_scheme|global_compression_ratio|version|quant_method"},
    {"bitsandbytes", "load_in_4bit|load_in_8bit|_load_in_4bit|_load_in_8bit|bnb_4bit_compute_dtype|"
                     "bnb_4bit_quant_type|bnb_4bit_use_double_quant|llm_int8_enable_fp32_cpu_offload|"
                     "llm_int8_has_fp16_weight|llm_int8_skip_modules|llm_int8_threshold|quant_method"},
    {"fp8", "activation_scheme|modules_to_not_convert|ignored_layers|scale_fmt|quant_method"},
    {"fbgemm_fp8", "activation_scale_ub|modules_to_not_convert|quant_method"},
    {"mxfp4", "modules_to_not_convert|dequantize|quant_method"},
};

/* How a value of the config is written in the table. */
static void show(const tn_json *v, tn_buf *out) {
  bool holder = v->kind == TN_JSON_LIST || v->kind == TN_JSON_OBJECT;
  if (holder && !v->count)
    tn_buf_puts(out, "empty");
  else if (v->kind == TN_JSON_STRING)
    tn_buf_put(out, v->u.s.ptr, v->u.s.len);
  else
    tn_json_write(out, v);
}

static bool listed(const char *values, tn_str value) {
  for (const char *s = values; *s;) {
    size_t n = strcspn(s, "|");
    if (n == value.len && !memcmp(s, value.ptr, n)) return true;
    s += n + (s[n] == '|');
  }
  return false;
}

static tn_status check_setting(tn_hf *h, const setting *s) {
  const tn_json *v = tn_json_get(h->packed->config, s->key);
  if (!v) return TN_OK;
  tn_buf text = {0};
  show(v, &text);
  bool ok = listed(s->values, (tn_str){tn_buf_cstr(&text), text.len});
  if (!ok)
    tn_hf_fail_key(h, TN_UNSUPPORTED, h->packed->file, s->key, "of method '%s' is %.60s; supported are %s",
                   s->method, tn_buf_cstr(&text), s->values);
  tn_buf_fini(&text);
  return ok ? TN_OK : TN_UNSUPPORTED;
}

/* An object whose every key is known. */
static void use_all(tn_json *v) {
  for (uint32_t i = 0; i < v->count; i++) {
    v->u.items[i].used = true;
    if (v->u.items[i].kind == TN_JSON_LIST || v->u.items[i].kind == TN_JSON_OBJECT) use_all(&v->u.items[i]);
  }
}

static void ignore_keys(const tn_json *config, const char *keys) {
  for (uint32_t i = 0; i < config->count; i++) {
    tn_json *v = &config->u.items[i];
    if (!listed(keys, tn_str_of(v->key))) continue;
    v->used = true;
    if (v->kind == TN_JSON_LIST || v->kind == TN_JSON_OBJECT) use_all(v);
  }
}

/* Rules for single modules: "-:REGEX" leaves some plain, which their tensors say too; others change bits. */
static tn_status check_dynamic(tn_hf *h) {
  tn_json *v = tn_json_get(h->packed->config, "dynamic");
  if (!v || v->kind == TN_JSON_NULL) return TN_OK;
  for (uint32_t i = 0; v->kind == TN_JSON_OBJECT && i < v->count; i++)
    if (strncmp(v->u.items[i].key, "-:", 2))
      return tn_hf_fail_key(h, TN_UNSUPPORTED, h->packed->file, "dynamic",
                            "of method '%s' has the rule '%s'; supported are rules that leave modules out, "
                            "'-:...'",
                            h->packed->method, v->u.items[i].key);
  if (v->kind == TN_JSON_OBJECT) use_all(v);
  return v->kind == TN_JSON_OBJECT
             ? TN_OK
             : tn_hf_fail_key(h, TN_INVALID, h->packed->file, "dynamic", "is not an object");
}

static tn_status check_settings(tn_hf *h) {
  bool known = false;
  for (size_t i = 0; i < TN_COUNT(ignored); i++) {
    if (strcmp(ignored[i].method, h->packed->method)) continue;
    known = true;
    ignore_keys(h->packed->config, ignored[i].keys);
  }
  for (size_t i = 0; i < TN_COUNT(settings); i++)
    if (!strcmp(settings[i].method, h->packed->method)) TN_TRY(check_setting(h, &settings[i]));
  if (known) return strcmp(h->packed->method, "gptq") ? TN_OK : check_dynamic(h);
  return tn_hf_fail_key(
      h, TN_UNSUPPORTED, h->packed->file, "quant_method",
      "checkpoints packed by '%s' are not supported; use one by gptq, awq, compressed-tensors, "
      "bitsandbytes, fp8, fbgemm_fp8 or mxfp4, or the unpacked model",
      h->packed->method);
}

static int64_t number(const tn_json *config, const char *key, int64_t otherwise) {
  const tn_json *v = tn_json_get(config, key);
  return v && v->kind == TN_JSON_INT ? v->u.i : otherwise;
}

static bool is_v2(tn_hf *h, const char *key) {
  const tn_json *v = tn_json_peek(h->packed->config, key);
  return v && v->kind == TN_JSON_STRING && tn_str_is(v->u.s, "gptq_v2");
}

static tn_status find_config(tn_hf *h, const tn_json **out, const char **file) {
  static const char old[] = "quantize_config.json";
  *file = "config.json";
  *out = tn_json_get(h->config, "quantization_config");
  if (*out && (*out)->kind != TN_JSON_NULL) return TN_OK;
  *out = NULL;
  if (!tn_folder_has(h->folder, old)) return TN_OK;
  *file = old;
  return tn_folder_json(&h->arena, h->folder, old, TN_JSON_OBJECT, &h->diags, (tn_json **)(uintptr_t)out);
}

tn_status tn_packed_read_config(tn_hf *h) {
  const tn_json *config;
  const char *file;
  TN_TRY(find_config(h, &config, &file));
  if (!config) return TN_OK;
  struct tn_hf_packed *p = tn_arena_alloc(&h->arena, sizeof *p);
  if (!p) return tn_fail(&h->diags, TN_OOM, h->folder, NULL, "out of memory");
  if (config->kind != TN_JSON_OBJECT)
    return tn_hf_fail_key(h, TN_INVALID, file, "quantization_config", "is %s, not an object",
                          tn_json_kind_name(config->kind));
  p->config = config;
  p->file = file;
  tn_map_init(&p->by_name);
  h->packed = p;
  p->method = tn_hf_string(h, file, config, "quant_method");
  if (h->diags.errors) return TN_INVALID;
  if (!p->method) p->method = "gptq"; /* what wrote quantize_config.json did not say */
  TN_TRY(check_settings(h));
  p->bits = (uint32_t)number(config, "bits", number(config, "w_bit", 4));
  p->group = number(config, "group_size", number(config, "q_group_size", 128));
  p->v1 = !is_v2(h, "checkpoint_format") && !is_v2(h, "format");
  return TN_OK;
}
