/* elementwise.h - the walk that all elementwise kernels share: rows of the result in chunks, operands
 * broadcast, floats as doubles, integers and bools as 64-bit integers. Private to backends/ref. */
#ifndef TN_REF_ELEMENTWISE_H
#define TN_REF_ELEMENTWISE_H
#include "kernels.h"

enum { TN_REF_CHUNK = 256 };
typedef union tn_ref_chunk {
  double f[TN_REF_CHUNK];
  int64_t i[TN_REF_CHUNK];
} tn_ref_chunk;

/* in[k] holds operand k's chunk in its own class; out in the result's class. */
typedef void (*tn_ref_body)(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n);
tn_status tn_ref_elementwise(tn_ref_call *c, tn_ref_body body, const void *ctx);

#endif
