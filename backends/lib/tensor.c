/* tensor.c - elements of plain types, one by one or in rows. What computes converts to float or double on the
 * way in, and back, rounded to nearest, on the way out. */
#include "backends/lib/lib.h"
#include <math.h>

uint32_t tn_lib_bytes(uint32_t dtype) {
  static const uint8_t bits[] = {0,
#define TN_X(name, b, c) b,
                                 TN_DTYPES(TN_X)
#undef TN_X
  };
  return dtype < TN_COUNT(bits) ? bits[dtype] / 8 : 0;
}

int64_t tn_lib_int(const tn_lib_tensor *t, int64_t i) {
  switch (t->dtype) {
  case TN_DT_i64:
  case TN_DT_u64: return ((const int64_t *)t->data)[i];
  case TN_DT_i32: return ((const int32_t *)t->data)[i];
  case TN_DT_u32: return ((const uint32_t *)t->data)[i];
  case TN_DT_i16: return ((const int16_t *)t->data)[i];
  case TN_DT_u16: return ((const uint16_t *)t->data)[i];
  case TN_DT_i8: return ((const int8_t *)t->data)[i];
  default: return ((const uint8_t *)t->data)[i];
  }
}

static double get(const tn_lib_tensor *t, int64_t i) {
  switch (t->dtype) {
  case TN_DT_f64: return ((const double *)t->data)[i];
  case TN_DT_f32: return (double)((const float *)t->data)[i];
  case TN_DT_f16: return (double)tn_f16_to_f32(((const uint16_t *)t->data)[i]);
  case TN_DT_bf16: return (double)tn_bf16_to_f32(((const uint16_t *)t->data)[i]);
  case TN_DT_u64: return (double)((const uint64_t *)t->data)[i];
  default: return (double)tn_lib_int(t, i);
  }
}

int64_t tn_lib_key(const tn_lib_tensor *x, int64_t i) {
  union {
    double f;
    int64_t i;
  } v;
  switch (x->dtype) {
  case TN_DT_f64:
  case TN_DT_f32:
  case TN_DT_f16:
  case TN_DT_bf16: break;
  case TN_DT_u64: return (int64_t)((uint64_t)tn_lib_int(x, i) ^ (uint64_t)1 << 63);
  default: return tn_lib_int(x, i);
  }
  v.f = get(x, i);
  if (isnan(v.f)) return INT64_MAX;
  return v.f == 0 ? 0 : v.i < 0 ? -(v.i & INT64_MAX) : v.i;
}

void tn_lib_load(const tn_lib_tensor *t, int64_t first, int64_t n, double *out) {
  for (int64_t i = 0; i < n; i++) out[i] = get(t, first + i);
}

void tn_lib_load_f32(const tn_lib_tensor *t, int64_t first, int64_t n, float *out) {
  if (t->dtype == TN_DT_f32)
    memcpy(out, (const float *)t->data + first, (size_t)n * sizeof *out);
  else
    for (int64_t i = 0; i < n; i++) out[i] = (float)get(t, first + i);
}

void tn_lib_store_f32(const tn_lib_tensor *t, int64_t first, int64_t n, const float *in) {
  switch (t->dtype) {
  case TN_DT_f32: memcpy((float *)t->data + first, in, (size_t)n * sizeof *in); return;
  case TN_DT_f64:
    for (int64_t i = 0; i < n; i++) ((double *)t->data)[first + i] = (double)in[i];
    return;
  case TN_DT_f16:
    for (int64_t i = 0; i < n; i++) ((uint16_t *)t->data)[first + i] = tn_f32_to_f16(in[i]);
    return;
  case TN_DT_bf16:
    for (int64_t i = 0; i < n; i++) ((uint16_t *)t->data)[first + i] = tn_f32_to_bf16(in[i]);
    return;
  default: return;
  }
}

void tn_lib_store(const tn_lib_tensor *t, int64_t first, int64_t n, const double *in) {
  for (int64_t i = 0; i < n; i++) {
    float f = (float)in[i];
    if (t->dtype == TN_DT_f64)
      ((double *)t->data)[first + i] = in[i];
    else
      tn_lib_store_f32(t, first + i, 1, &f);
  }
}
