/* leaf.c - ops without operands. */
#include "kernels.h"
#include <math.h>

tn_status tn_ref_op_constant(tn_ref_call *c) {
  tn_bytes value = tn_ref_attr(c, "value").u.data;
  uint64_t bytes = tn_ref_bytes(c->ir, &c->out[0]);
  if (value.len != bytes)
    return tn_ref_fail(c, TN_INVALID, "a constant of %llu bytes has %llu", (unsigned long long)bytes,
                       (unsigned long long)value.len);
  if (bytes) memcpy(c->out[0].data, value.ptr, bytes);
  return TN_OK;
}

tn_status tn_ref_op_iota(tn_ref_call *c) {
  tn_ref_tensor *out = &c->out[0];
  int64_t start = tn_ref_attr_dim(c, "start"), axis = tn_ref_attr_int(c, "axis");
  if (!out->rank) {
    tn_ref_set_int(out, 0, start);
    return TN_OK;
  }
  tn_ref_axis a = tn_ref_around(out, (uint32_t)(axis < 0 ? axis + out->rank : axis));
  for (int64_t i = 0; i < a.outer * a.n * a.inner; i++) tn_ref_set_int(out, i, start + i / a.inner % a.n);
  return TN_OK;
}

/* The first word of Philox for each index; its upper 24 bits, so that every value is exact and below 1. */
tn_status tn_ref_op_random_uniform(tn_ref_call *c) {
  uint64_t seed = (uint64_t)tn_ref_attr_int(c, "seed");
  int64_t n = tn_ref_count(&c->out[0]);
  for (int64_t i = 0; i < n; i++) {
    uint32_t words[4];
    tn_philox((uint64_t)i, seed, words);
    tn_ref_set(&c->out[0], i, ldexp(words[0] >> 8, -24));
  }
  return TN_OK;
}

tn_status tn_ref_op_causal_mask(tn_ref_call *c) {
  tn_ref_tensor *out = &c->out[0];
  int64_t q = out->dims[0], k = out->dims[1], window = tn_ref_attr_int(c, "window");
  for (int64_t i = 0; i < q; i++)
    for (int64_t j = 0; j < k; j++) {
      int64_t back = i + k - q - j;
      tn_ref_set_int(out, i * k + j, back >= 0 && (!window || back < window));
    }
  return TN_OK;
}

/* Slopes are 2^(-8 i / n) for i = 1..n, n the power of two not above the number of heads; the heads above n
 * take every other slope of 2n. */
static double alibi_slope(int64_t heads, int64_t h) {
  int64_t n = 1;
  while (n * 2 <= heads) n *= 2;
  if (h < n) return exp2(-8.0 * (double)(h + 1) / (double)n);
  return exp2(-4.0 * (double)(2 * (h - n) + 1) / (double)n);
}

tn_status tn_ref_op_alibi(tn_ref_call *c) {
  int64_t heads = c->out[0].dims[1], k = c->out[0].dims[3];
  for (int64_t h = 0; h < heads; h++) {
    double slope = alibi_slope(heads, h);
    for (int64_t j = 0; j < k; j++) tn_ref_set(&c->out[0], h * k + j, slope * (double)j);
  }
  return TN_OK;
}
