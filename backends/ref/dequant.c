/* dequant.c - block formats (ir/quant/quant.def) as numbers. */
#include "ir/quant/quant.h"
#include "kernels.h"

tn_status tn_ref_dequant(tn_dtype format, const void *blocks, float *out, int64_t n) {
  const tn_quant *q = tn_quant_of(format);
  if (!q) return TN_UNSUPPORTED;
  for (int64_t i = 0; i < n / q->values; i++)
    tn_quant_unpack(q, (const uint8_t *)blocks + i * q->bytes, out + i * q->values);
  return TN_OK;
}

tn_status tn_ref_op_dequant(tn_ref_call *c) {
  int64_t n = tn_ref_count(&c->out[0]), step = 4096;
  double *row = tn_ref_scratch(c, step, sizeof *row);
  if (!row) return TN_OOM;
  for (int64_t i = 0; i < n; i += step) {
    int64_t take = n - i < step ? n - i : step;
    tn_ref_load(&c->in[0], i, take, row);
    tn_ref_store(&c->out[0], i, take, row);
  }
  return TN_OK;
}
