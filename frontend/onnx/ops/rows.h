/* rows.h - numbers of rows, for ops whose indices come in tuples: a sum of indices times strides, and whether
 * all of them are inside their axes. */
#ifndef TN_ONNX_ROWS_H
#define TN_ONNX_ROWS_H
#include "frontend/onnx/lower.h"

typedef struct tn_ox_rows {
  tn_value flat, inside; /* 0: nothing added; all inside */
} tn_ox_rows;

/* An index into an axis of n, negative ones from the end; rows `stride` apart. */
void tn_ox_rows_index(tn_ox *x, tn_ox_rows *r, tn_value index, tn_dim n, tn_dim stride);
/* The coordinate along `axis` of a tensor of these dims. */
void tn_ox_rows_count(tn_ox *x, tn_ox_rows *r, const tn_dim *dims, uint32_t rank, uint32_t axis,
                      tn_dim stride);
/* The numbers; `all` for those outside. */
tn_value tn_ox_rows_flat(tn_ox *x, const tn_ox_rows *r, tn_dim all);
/* v reshaped to these constant sizes; a weight stays one. */
tn_value tn_ox_weight_as(tn_ox *x, tn_value v, const tn_dim *dims, uint32_t rank);

#endif
