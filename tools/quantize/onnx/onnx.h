/* onnx.h - what the files of int8 ONNX share: `tenon quantize IN OUT.onnx int8-static|int8-dynamic`.
 *
 *   import -> products and tables with weights -> (ranges of what they meet) -> scales -> ONNX writer
 *
 * The graph itself does not change: the writer is told which ops to write in 8 bits (tn_ow_int8), and asks
 * for codes while it streams. */
#ifndef TN_QUANTIZE_ONNX_H
#define TN_QUANTIZE_ONNX_H
#include "frontend/onnx/write.h"
#include "passes/quantize/range.h"
#include "tools/export/beside.h"
#include "tools/quantize/observe/observe_graph.h"
#include "tools/tool.h"

/* A weight that is quantized for one use. */
typedef struct tn_int8_weight {
  tn_weight weight;
  const char *name;
  tn_dtype dtype;
  uint64_t rows, columns; /* as it lies */
  bool turned;            /* the codes lie the other way */
  bool table;
  float *scales; /* one for each of the product's columns or the table's rows; or one for all */
  uint32_t nscales;
  uint32_t range;        /* of its left operand: index into ranges + 1; 0: not observed */
  double error, squares; /* of what the codes stand for, and of the numbers; once they were made */
} tn_int8_weight;

/* A left operand, met by several weights. */
typedef struct tn_int8_range {
  tn_range range;
  uint32_t id, columns; /* of the value as imported */
  const char *first;    /* the weight that it was seen with first */
  /* [columns], of each: the least and largest number, the sum of squares; filled where factors are wanted */
  float *low, *high;
  double *squares;
  uint64_t rows;
  float *factors; /* [columns]: what it is multiplied by; NULL: nothing */
} tn_int8_range;

typedef struct tn_int8 {
  const tn_args *args;
  tn_driver *d;
  tn_module *m;
  tn_arena arena;
  /* what is asked */
  uint32_t how; /* TN_OW_INT8_STATIC, DYNAMIC or TOKEN */
  tn_range_choice choice;
  bool per_tensor, tables, smooth;
  bool smoothed; /* factors are there: what is observed now are ranges */
  const char *in, *out;
  /* what was found */
  TN_VEC(tn_ow_int8) rows;    /* as the writer takes them */
  TN_VEC(uint32_t) weight_of; /* of each row: index into weights */
  TN_VEC(tn_int8_weight) weights;
  TN_VEC(tn_int8_range *) ranges;
  uint32_t plain; /* products with weights that stay */
  uint64_t tokens;
  /* what is being written: plain weights, and the codes of a row */
  tn_export_weights bytes;
  uint32_t open; /* index of its weight + 1 */
  int8_t *codes;
} tn_int8;

/* onnx_find.c: the products and tables, without what --exclude names. */
tn_status tn_int8_find(tn_int8 *x);
/* onnx_observe.c: runs the model over --calibration and keeps what meets each weight: ranges; or, where x is
 * to be smoothed and has no factors yet, the numbers of each input. */
tn_status tn_int8_observe(tn_int8 *x);
/* onnx_smooth.c: factors. */
tn_status tn_int8_smooth(tn_int8 *x);
/* onnx_scale.c: scales of weights and steps of activations; then the rows are complete. */
tn_status tn_int8_scale(tn_int8 *x);
/* Rows of a weight as f32, in bands. */
typedef tn_status (*tn_int8_band)(void *ctx, uint64_t first, uint64_t rows, const float *x);
tn_status tn_int8_each_band(tn_int8 *x, const tn_int8_weight *w, tn_int8_band band, void *ctx);
/* Outputs and inputs of its product, and the largest numbers of each (either may be NULL) where an input's
 * numbers are divided by its factor (NULL: 1). */
uint64_t tn_int8_outputs(const tn_int8_weight *w);
uint64_t tn_int8_inputs(const tn_int8_weight *w);
typedef struct tn_int8_largest {
  const tn_int8_weight *w;
  const float *factors;
  float *outputs, *inputs;
  double *squares; /* of each input's numbers; NULL: not wanted */
} tn_int8_largest;
tn_status tn_int8_find_largest(tn_int8 *x, tn_int8_largest *l);
/* For the writer: tn_ow_source.codes with the tn_int8 as context. */
tn_status tn_int8_codes(void *ctx, uint32_t row, uint64_t offset, void *dst, uint64_t len);

#endif
