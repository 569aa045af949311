/* classes.c - what each tensor is to the schemes: its class, the how-manieth of it, and the facts of the
 * model that rules ask for. Classes come from the roles of the model page; GGUF files also have tensors that
 * llama-quantize never touches, known by their names. */
#include "tools/quantize/quantize.h"
#include <stdlib.h>
#include <strings.h>

/* Parts of names of small tensors that GGUF files keep, whatever their shape. */
static const char *const kept[] = {"_norm.weight",
                                   "ffn_gate_inp.weight",
                                   "ffn_gate_tid2eid.weight",
                                   "altup",
                                   "laurel",
                                   "per_layer_model_proj",
                                   "position_embd.weight",
                                   "token_types.weight",
                                   "ssm_conv1d",
                                   "shortconv.conv.weight",
                                   "indexer.k_proj.weight",
                                   "indexer.q_proj.weight",
                                   "time_mix_first.weight",
                                   "time_mix_w0.weight",
                                   "time_mix_w1.weight",
                                   "time_mix_w2.weight",
                                   "time_mix_v0.weight",
                                   "time_mix_v1.weight",
                                   "time_mix_v2.weight",
                                   "time_mix_a0.weight",
                                   "time_mix_a1.weight",
                                   "time_mix_a2.weight",
                                   "time_mix_g1.weight",
                                   "time_mix_g2.weight",
                                   "time_mix_decay_w1.weight",
                                   "time_mix_decay_w2.weight",
                                   "time_mix_lerp_fused.weight",
                                   "attn_rel_b.weight",
                                   ".position_embd",
                                   ".rel_pos",
                                   ".patch_embd",
                                   ".patch_merger"};

/* Classes of tensors that have names of GGUF files, by a part of the name; the first that fits. */
static const struct {
  const char *part;
  tn_scheme_class cls;
} named[] = {{"attn_qkv.weight", TN_SC_VALUE},
             {"attn_kv_b.weight", TN_SC_VALUE},
             {"attn_v.weight", TN_SC_VALUE},
             {"attn_k.weight", TN_SC_KEY},
             {"attn_q.weight", TN_SC_QUERY},
             {"attn_output.weight", TN_SC_ATTN_OUT},
             {"per_layer_token_embd.weight", TN_SC_EMBEDDING},
             {"ffn_up", TN_SC_UP},
             {"ffn_gate", TN_SC_GATE},
             {"ffn_down", TN_SC_DOWN}};

static tn_scheme_class class_of_role(tn_ck_role r) {
  switch (r) {
  case TN_CK_EMBEDDING: return TN_SC_EMBEDDING;
  case TN_CK_OUTPUT: return TN_SC_OUTPUT;
  case TN_CK_QUERY: return TN_SC_QUERY;
  case TN_CK_KEY: return TN_SC_KEY;
  case TN_CK_VALUE:
  case TN_CK_QKV: return TN_SC_VALUE;
  case TN_CK_ATTN_OUT: return TN_SC_ATTN_OUT;
  case TN_CK_GATE:
  case TN_CK_GATE_UP: return TN_SC_GATE;
  case TN_CK_UP: return TN_SC_UP;
  case TN_CK_DOWN: return TN_SC_DOWN;
  case TN_CK_MATRIX: return TN_SC_MATRIX;
  default: return TN_SC_KEEP;
  }
}

/* llama-quantize asks the name, not the model, so that files of the same scheme have the same types. */
static tn_scheme_class class_of_name(const char *name) {
  if (!tn_str_ends(tn_str_of(name), "weight")) return TN_SC_KEEP;
  for (size_t i = 0; i < TN_COUNT(kept); i++)
    if (strstr(name, kept[i])) return TN_SC_KEEP;
  if (!strcmp(name, "token_embd.weight")) return TN_SC_EMBEDDING;
  if (!strcmp(name, "output.weight")) return TN_SC_OUTPUT;
  for (size_t i = 0; i < TN_COUNT(named); i++)
    if (strstr(name, named[i].part)) return named[i].cls;
  return TN_SC_MATRIX;
}

static tn_scheme_class class_of(const tn_quantize *q, const tn_ck_tensor *t) {
  const tn_dtype_info *i = tn_ir_dtype_info(t->dtype);
  bool numbers = i && (i->cls == TN_CLASS_FLOAT || i->cls == TN_CLASS_BLOCK);
  if (t->rank < 2 || !numbers) return TN_SC_KEEP;
  return q->format == TN_CK_GGUF ? class_of_name(t->name) : class_of_role(t->role);
}

/* ---- facts of the model -------------------------------------------------------------------------------- */

static int64_t config_int(const tn_json *config, const char *const *keys, uint32_t n) {
  const tn_json *text = tn_json_peek(config, "text_config");
  for (uint32_t i = 0; i < n; i++) {
    const tn_json *v = tn_json_peek(config, keys[i]);
    if (!v && text) v = tn_json_peek(text, keys[i]);
    if (v && v->kind == TN_JSON_INT) return v->u.i;
  }
  return 0;
}

static int64_t gguf_int(const tn_checkpoint *ck, const char *key) {
  const tn_gguf *g = tn_checkpoint_gguf(ck);
  const tn_gguf_kv *arch = tn_gguf_find(g, "general.architecture");
  tn_str name;
  char full[256];
  int64_t v = 0;
  if (!arch || !tn_gguf_string(arch, 0, &name)) return 0;
  snprintf(full, sizeof full, "%.*s.%s", (int)name.len, name.ptr, key);
  const tn_gguf_kv *kv = tn_gguf_find(g, full);
  return kv && tn_gguf_int(kv, 0, &v) ? v : 0;
}

/* Query heads to a key, from the shapes of the first layer that has both. */
static uint32_t shared_by_shape(const tn_quantize *q) {
  for (uint32_t i = 0; i < q->count; i++) {
    if (q->tensors[i].cls != TN_SC_QUERY) continue;
    for (uint32_t k = 0; k < q->count; k++) {
      const tn_qtensor *a = &q->tensors[i], *b = &q->tensors[k];
      if (b->cls != TN_SC_KEY || a->t->layer != b->t->layer || !b->rows) continue;
      return (uint32_t)(a->rows / b->rows);
    }
  }
  return 1;
}

static uint32_t heads_per_kv(const tn_quantize *q) {
  static const char *const heads[] = {"num_attention_heads", "n_head", "num_heads", "n_heads"};
  static const char *const kvs[] = {"num_key_value_heads", "num_kv_heads", "n_head_kv"};
  const tn_json *config = tn_checkpoint_config(q->source);
  int64_t h = 0, kv = 0;
  if (config) {
    h = config_int(config, heads, TN_COUNT(heads));
    kv = config_int(config, kvs, TN_COUNT(kvs));
  } else if (tn_checkpoint_gguf(q->source)) {
    h = gguf_int(q->source, "attention.head_count");
    kv = gguf_int(q->source, "attention.head_count_kv");
  }
  return h > 0 && kv > 0 ? (uint32_t)(h / kv) : shared_by_shape(q);
}

static void model_facts(const tn_quantize *q, tn_scheme_model *m) {
  const char *arch = tn_checkpoint_architecture(q->source);
  *m = (tn_scheme_model){.layers = tn_checkpoint_layers(q->source),
                         .experts = tn_checkpoint_experts(q->source),
                         .heads_per_kv = heads_per_kv(q),
                         .falcon = arch && !strncasecmp(arch, "falcon", 6) && strncasecmp(arch, "falconh", 7),
                         .importance = q->args->given[OPT_imatrix] > 0,
                         .tied = true};
  m->wide = m->layers == 80 && m->heads_per_kv > 1;
  for (uint32_t i = 0; i < q->count; i++) {
    m->values += q->tensors[i].cls == TN_SC_VALUE;
    if (q->tensors[i].cls == TN_SC_OUTPUT) m->tied = false;
  }
}

/* ---- order --------------------------------------------------------------------------------------------- */

static int32_t layer_of(const tn_quantize *q, const tn_qtensor *t) {
  int layer;
  if (q->format != TN_CK_GGUF) return t->t->layer;
  return sscanf(t->t->name, "blk.%d.", &layer) == 1 ? layer : -1;
}

typedef struct place {
  int32_t layer;
  const char *name;
  uint32_t index;
} place;

static int compare(const void *x, const void *y) {
  const place *a = x, *b = y;
  return a->layer != b->layer ? (a->layer > b->layer) - (a->layer < b->layer) : strcmp(a->name, b->name);
}

/* Numbers the tensors of each class by layer, then by name. */
static tn_status count_classes(tn_quantize *q) {
  place *order = tn_mem_alloc((q->count + 1) * sizeof *order);
  uint32_t next[TN_SC_COUNT] = {0};
  if (!order) return TN_OOM;
  for (uint32_t i = 0; i < q->count; i++)
    order[i] = (place){layer_of(q, &q->tensors[i]), q->tensors[i].t->name, i};
  qsort(order, q->count, sizeof *order, compare);
  for (uint32_t i = 0; i < q->count; i++) {
    tn_qtensor *t = &q->tensors[order[i].index];
    t->ordinal = next[t->cls]++;
  }
  tn_mem_free(order);
  return TN_OK;
}

tn_status tn_quantize_classify(tn_quantize *q, tn_scheme_model *m) {
  for (uint32_t i = 0; i < q->count; i++) {
    tn_qtensor *t = &q->tensors[i];
    t->t = tn_checkpoint_at(q->view, i);
    t->columns = t->t->rank ? (uint64_t)t->t->shape[t->t->rank - 1] : 1;
    t->rows = 1;
    for (uint32_t k = 0; k + 1 < t->t->rank; k++)
      t->rows *= (uint64_t)t->t->shape[k]; /* checked on opening */
    t->cls = class_of(q, t->t);
    t->to = t->t->dtype;
  }
  model_facts(q, m);
  return count_classes(q);
}
