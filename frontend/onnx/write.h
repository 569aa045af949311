/* write.h - a module of the IR as an ONNX file that others run.
 *
 * The file holds one graph: one function of the module, or for tasks with several outputs the functions that
 * make them. Weights are streamed from where they lie; nothing but the graph is in memory. The file appears
 * whole or not at all, and not before all that could be refused has been checked. */
#ifndef TN_ONNX_WRITE_H
#define TN_ONNX_WRITE_H
#include "ir/base/diag.h"
#include "tenon/ir.h"

enum { TN_OW_OPSET_MIN = 14, TN_OW_OPSET_DEFAULT = 18, TN_OW_OPSET_MAX = 26 };

/* What becomes of weights in block formats. */
enum {
  TN_OW_FLOAT,      /* f32 values */
  TN_OW_DEQUANTIZE, /* codes and scales in front of DequantizeLinear, where scales and zeros are all there is
                     */
  TN_OW_NBITS       /* com.microsoft MatMulNBits where 4-bit codes meet a product; else as TN_OW_DEQUANTIZE */
};

/* A product with a weight, or a look-up of a weight's rows, that is written in 8 bits. Codes are i8 with one
 * scale for each column of the product, or row of the table, and no zeros. */
enum {
  TN_OW_INT8_STATIC,  /* QuantizeLinear and DequantizeLinear around the left operand */
  TN_OW_INT8_DYNAMIC, /* DynamicQuantizeLinear, MatMulInteger */
  TN_OW_INT8_TOKEN,   /* the same with a scale for each row of the left operand: exact sums of i8 codes */
  TN_OW_INT8_ROWS     /* a gather */
};
typedef struct tn_ow_int8 {
  tn_op op; /* matmul or gather */
  tn_weight weight;
  uint32_t how;     /* TN_OW_INT8_* */
  int64_t k, n;     /* of the product [.., k] x [k, n]; of the table [n, k] */
  uint32_t nscales; /* 1 or n */
  const float *scales;
  const float *factors; /* [k]: what the left operand is multiplied by first; NULL: nothing */
  /* STATIC: of the left operand */
  tn_dtype codes; /* u8 or i8 */
  float scale;
  int32_t zero;
} tn_ow_int8;

typedef struct tn_ow_options {
  uint32_t opset;     /* 0: TN_OW_OPSET_DEFAULT */
  uint32_t quantized; /* TN_OW_FLOAT .. */
  bool contrib;       /* com.microsoft ops may be used */
  bool external;      /* weights in a file beside the model, also below 2 GB */
  const char *task;   /* as Optimum names them; NULL: what the module says */
  const char *entry;  /* the function to write, under its own names; NULL: by the task */
  const tn_ow_int8 *int8;
  uint32_t nint8;
} tn_ow_options;

/* Where weights come from: bytes of the weight's type, row-major. */
typedef struct tn_ow_source {
  void *ctx;
  tn_status (*read)(void *ctx, tn_weight w, uint64_t offset, void *dst, uint64_t len);
  /* Codes of row `row` of options.int8: i8 [k, n] of products, [n, k] of tables; in order. NULL: there are
   * none. */
  tn_status (*codes)(void *ctx, uint32_t row, uint64_t offset, void *dst, uint64_t len);
} tn_ow_source;

typedef struct tn_ow_report {
  uint32_t opset, nodes, initializers;
  uint64_t model_bytes, data_bytes; /* data_bytes 0: weights are inside the model */
} tn_ow_report;

/* Writes `path`, and with external data `path`.data. Errors go to diags. */
tn_status tn_ow_write(const tn_ir *ir, tn_module *m, const tn_ow_options *o, const tn_ow_source *source,
                      const char *path, tn_diags *diags, tn_ow_report *report);

#endif
