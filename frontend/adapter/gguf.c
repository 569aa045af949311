/* gguf.c - adapters as GGUF files: general.type adapter, adapter.type lora, tensors X.lora_a and X.lora_b. */
#include "frontend/adapter/adapter.h"
#include "frontend/gguf/gguf.h"

static bool says(const tn_gguf *g, const char *key, const char *value) {
  tn_str s;
  const tn_gguf_kv *kv = tn_gguf_find(g, key);
  return kv && tn_gguf_string(kv, 0, &s) && tn_str_is(s, value);
}

static tn_tensor_ref ref_of(const tn_gguf_tensor *t) {
  return (tn_tensor_ref){
      .dtype = t->dtype, .rank = t->rank, .shape = t->shape, .offset = t->offset, .bytes = t->bytes};
}

static tn_status add_pair(tn_adapters *all, tn_adapter *a, const tn_gguf *g, const tn_gguf_tensor *t,
                          double alpha, tn_diags *diags) {
  size_t n = strlen(t->name) - strlen(".lora_a");
  char *weight = tn_arena_printf(&all->arena, "%.*s", (int)n, t->name);
  char *other = tn_arena_printf(&all->arena, "%.*s.lora_b", (int)n, t->name);
  if (!weight || !other) return TN_OOM;
  const tn_gguf_tensor *b = tn_gguf_tensor_find(g, other);
  if (!b) return tn_fail(diags, TN_INVALID, a->path, other, "the tensor is missing");
  tn_lora l = {.weight = weight, .a = ref_of(t), .b = ref_of(b)};
  l.scale = t->rank == 2 && t->shape[0] > 0 ? alpha / (double)t->shape[0] : 1;
  return tn_adapter_add(all, a, &l, diags);
}

static tn_status read_file(tn_adapters *all, tn_adapter *a, const tn_gguf *g, tn_diags *diags) {
  double alpha;
  const tn_gguf_kv *kv = tn_gguf_find(g, "adapter.lora.alpha");
  if (!says(g, "general.type", "adapter") || !says(g, "adapter.type", "lora"))
    return tn_fail(diags, TN_UNSUPPORTED, a->path, "general.type", "the file is no LoRA adapter");
  if (!kv || !tn_gguf_real(kv, 0, &alpha))
    return tn_fail(diags, TN_INVALID, a->path, "adapter.lora.alpha", "expected a number");
  for (uint32_t i = 0; i < tn_gguf_tensor_count(g); i++) {
    const tn_gguf_tensor *t = tn_gguf_tensor_at(g, i);
    if (tn_str_ends(tn_str_of(t->name), ".lora_b")) continue; /* taken with its a */
    if (!tn_str_ends(tn_str_of(t->name), ".lora_a"))
      return tn_fail(diags, TN_UNSUPPORTED, a->path, t->name,
                     "the adapter holds a tensor that is no lora_a or lora_b");
    TN_TRY(add_pair(all, a, g, t, alpha, diags));
  }
  return tn_adapter_complete(a, tn_gguf_tensor_count(g), diags);
}

tn_status tn_adapter_read_gguf(tn_adapters *all, tn_adapter *a, tn_diags *diags) {
  tn_gguf *g;
  TN_TRY(tn_gguf_open(a->path, diags, &g));
  tn_status s = read_file(all, a, g, diags);
  tn_gguf_close(g);
  return s;
}
