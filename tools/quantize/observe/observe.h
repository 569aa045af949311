/* observe.h - runs a model over text and shows what meets each of its weights: for importance matrices, GPTQ,
 * AWQ, SmoothQuant, ranges of static int8. */
#ifndef TN_OBSERVE_H
#define TN_OBSERVE_H
#include "tools/tool.h"

typedef struct tn_observed {
  const char *weight; /* name of the tensor in the model's files; ONNX: of the initializer. NULL: no weight, a
                         value */
  const char *value; /* name or place of the value that is observed, the same for all weights that it meets */
  const float *rows; /* [nrows, columns], row-major: the left operand of the product, as f32 */
  uint64_t nrows;
  uint64_t run; /* which call of the model, from 0 */
  uint32_t columns;
  uint32_t expert;      /* of stacked experts: which one these rows met; else 0 */
  uint32_t experts;     /* how many the weight has; else 1 */
  uint32_t id;          /* of the value in the module as it was imported */
  const tn_part *parts; /* the weight's bytes in its files; NULL: no weight */
  uint32_t nparts;
} tn_observed;
/* Not TN_OK ends the run. */
typedef tn_status (*tn_observer)(void *ctx, const tn_observed *o);

typedef struct tn_observe_options {
  const char *text;          /* file: causal models read it in chunks, others line by line */
  const char *const *inputs; /* or stored inputs (tools/verify/stored.h), one file or folder per run */
  uint32_t ninputs;
  uint32_t chunk_tokens, chunks; /* 0: 512; 0: all */
  bool values;                   /* also every other float value of the graph, with weight NULL */
  const char *const *only;       /* weights of interest; NULL: all */
  uint32_t nonly;
  uint32_t threads;
  bool progress;
} tn_observe_options;
typedef struct tn_observe_result {
  uint64_t tokens, runs;
  uint32_t chunk_tokens; /* of a causal model; else 0 */
} tn_observe_result;
tn_status tn_observe(const tn_driver_options *driver, const char *model, const tn_observe_options *o,
                     tn_observer observer, void *ctx, tn_diags *diags, tn_observe_result *out);
#endif
