/* tensors.c - the checkpoint as the pages see it, with a note of what they used. */
#include "frontend/hf/hf.h"

typedef struct other_format {
  const char *file, *advice;
} other_format;
static const other_format others[] = {
    {"pytorch_model.bin", "pickled weights can run code when they are read"},
    {"pytorch_model.bin.index.json", "pickled weights can run code when they are read"},
    {"tf_model.h5", "TensorFlow weights are not supported"},
    {"flax_model.msgpack", "Flax weights are not supported"},
};

static tn_status no_tensors(tn_hf *h) {
  if (tn_folder_has(h->folder, "adapter_model.safetensors"))
    return tn_fail(
        &h->diags, TN_UNSUPPORTED, "adapter_model.safetensors", NULL,
        "the folder holds only an adapter: merge it into its base model (merge_and_unload in peft) and "
        "save that");
  for (size_t i = 0; i < TN_COUNT(others); i++)
    if (tn_folder_has(h->folder, others[i].file))
      return tn_fail(&h->diags, TN_UNSUPPORTED, others[i].file, NULL,
                     "%s: load the model with transformers and save it again, which writes model.safetensors",
                     others[i].advice);
  return tn_st_open_folder(&h->files, h->folder, &h->diags);
}

tn_status tn_hf_open_tensors(tn_hf *h) {
  if (!tn_folder_has(h->folder, "model.safetensors") &&
      !tn_folder_has(h->folder, "model.safetensors.index.json"))
    return no_tensors(h);
  TN_TRY(tn_st_open_folder(&h->files, h->folder, &h->diags));
  h->tensor_used = tn_arena_alloc(&h->arena, h->files.tensors.count + 1);
  if (!h->tensor_used) return tn_fail(&h->diags, TN_OOM, h->folder, NULL, "out of memory");
  return tn_hf_open_packed(h);
}

/* What LayerNorm's parameters were called in checkpoints of 2018 and 2019. */
static const tn_st_tensor *find_old_name(tn_hf *h, const char *name) {
  static const char *const renamed[][2] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                           {"LayerNorm.bias", "LayerNorm.beta"}};
  for (size_t i = 0; i < TN_COUNT(renamed); i++) {
    if (!tn_str_ends(tn_str_of(name), renamed[i][0])) continue;
    int kept = (int)(strlen(name) - strlen(renamed[i][0]));
    const char *old = tn_arena_printf(&h->arena, "%.*s%s", kept, name, renamed[i][1]);
    return old ? tn_st_find(&h->files, old) : NULL;
  }
  return NULL;
}

/* "a.b.*", which only `ignore` says: all tensors whose names begin so are used. */
static bool use_all(tn_hf *h, const char *name) {
  size_t n = strlen(name);
  if (n < 2 || strcmp(name + n - 2, ".*") != 0) return false;
  for (uint32_t i = 0; i < h->files.tensors.count; i++)
    if (!strncmp(h->files.tensors.items[i].name, name, n - 1)) h->tensor_used[i] = true;
  return true;
}

static bool find(void *ctx, const char *name, tn_tensor_ref *out) {
  tn_hf *h = ctx;
  if (use_all(h, name)) return false;
  if (tn_hf_find_packed(h, name, out)) return true;
  const tn_st_tensor *t = tn_st_find(&h->files, name);
  if (!t) t = find_old_name(h, name);
  if (!t) return false;
  h->tensor_used[t - h->files.tensors.items] = true;
  *out = (tn_tensor_ref){t->dtype, t->rank, t->shape, t->file, t->offset, t->bytes};
  return true;
}

tn_tensor_source tn_hf_tensor_source(tn_hf *h) { return (tn_tensor_source){h, find, false}; }

/* Constants that old versions of PyTorch models stored with the weights; the graph makes its own. A name must
 * end so, behind a dot or as a whole. */
static const char *const buffers[] = {
    "attn.bias",           "attn.masked_bias",         "masked_bias", "rotary_emb.inv_freq", "position_ids",
    "num_batches_tracked", "embeddings.token_type_ids"};

static bool is_buffer(const char *name) {
  size_t len = strlen(name);
  for (size_t i = 0; i < TN_COUNT(buffers); i++) {
    size_t n = strlen(buffers[i]);
    if (len >= n && !strcmp(name + len - n, buffers[i]) && (len == n || name[len - n - 1] == '.'))
      return true;
  }
  return false;
}

enum { NAMED = 4 }; /* unused tensors that the warning names */

void tn_hf_report_unused(tn_hf *h) {
  tn_buf names = {0};
  uint32_t n = 0;
  const char *file = NULL; /* of the first */
  for (uint32_t i = 0; i < h->files.tensors.count; i++) {
    const tn_st_tensor *t = &h->files.tensors.items[i];
    if (h->tensor_used[i] || is_buffer(t->name)) continue;
    if (!n) file = t->file;
    if (n < NAMED) tn_buf_printf(&names, "%s%s", n ? ", " : "", t->name);
    n++;
  }
  const char *what = n == 1 ? "tensor is" : "tensors are", *more = n > NAMED ? ", ..." : "";
  if (n)
    tn_diags_add(&h->diags, TN_WARNING, file, 0, 0, NULL, "%u %s not used: %s%s", n, what,
                 tn_buf_cstr(&names), more);
  tn_buf_fini(&names);
}
