/* adapter.h - LoRA adapters (Hu et al. 2021): y = W x + weight * scale * B A x, from a PEFT folder or a GGUF
 * file. An adapter is found by the name of the weight it adds to, as the base checkpoint has it. */
#ifndef TN_ADAPTER_H
#define TN_ADAPTER_H
#include "frontend/describe/describe.h"
#include "tenon/plugin.h"

/* One low-rank matrix of an adapter: a [r, in], b [out, r]. */
typedef struct tn_lora {
  const char *weight; /* "model.layers.0.self_attn.q_proj.weight", as far as the adapter says it */
  tn_tensor_ref a, b;
  double scale;    /* alpha / r, or alpha / sqrt(r) */
  bool transposed; /* the weight is stored [in, out] */
  bool used;
} tn_lora;

typedef struct tn_adapter {
  const char *name; /* the last part of its path */
  const char *path; /* canonical: weights are read from here */
  double weight;    /* how much of it is added, unless a session says otherwise */
  TN_VEC(tn_lora) loras;
} tn_adapter;

struct tn_adapters {
  tn_arena arena;
  TN_VEC(tn_adapter) items;
  bool merge; /* into the weights while they stream; else beside them, with weights that a session may change
               */
};

/* Reads the adapters of the frontend options "adapters" ("PATH[=WEIGHT]", ':' between) and "adapter-mode"
 * (switch, the default, or merge). *out NULL: none are asked for. Everything that would change the result and
 * is not supported is an error. The caller closes it. */
tn_status tn_adapters_open(const tn_host *host, const tn_options *options, tn_diags *diags,
                           tn_adapters **out);
void tn_adapters_close(tn_adapters *a);
/* The matrices of adapter i for a weight of the base; NULL: none. Marks them used. */
const tn_lora *tn_adapters_find(tn_adapters *a, uint32_t i, const char *weight);
/* Sets the metadata "adapters" (names) and "adapter_weights", comma separated, and reports matrices that met
 * no weight as errors: the adapter was made for another model. */
tn_status tn_adapters_finish(tn_adapters *a, const tn_ir *ir, tn_module *m, tn_diags *diags);

/* ---- inside this room ---- */
tn_status tn_adapter_read_peft(tn_adapters *all, tn_adapter *a, tn_diags *diags);
tn_status tn_adapter_read_gguf(tn_adapters *all, tn_adapter *a, tn_diags *diags);
/* Adds one matrix pair after checking its shapes; copies what it needs, the files are a->path. */
tn_status tn_adapter_add(tn_adapters *all, tn_adapter *a, const tn_lora *l, tn_diags *diags);
/* Refuses an adapter without matrices, and one some of whose `tensors` are a B that has no A. */
tn_status tn_adapter_complete(const tn_adapter *a, uint32_t tensors, tn_diags *diags);
#endif
