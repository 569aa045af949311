/* encode.c - which formats can be written, and rows handed to the widest encoders that the machine runs. */
#include "ir/quant/encode.h"
#include "ir/base/base.h"
#include "ir/quant/encode_isa.h"
#include <float.h>
#include <math.h>

tn_encode_family tn_encode_family_of(const tn_quant *q) {
  if (q->level == TN_QL_GRID) return TN_EF_GRID;
  if (q->inner == TN_QI_K4 || q->inner == TN_QI_NIBBLES) return TN_EF_MINIMA;
  if (q->d == TN_QN_ONE && q->inner == TN_QI_NONE) return TN_EF_ROUND;
  if (q->zero_bits) return TN_EF_ZERO;
  if (q->inner != TN_QI_NONE) return TN_EF_SCALES;
  return q->m_sign ? TN_EF_AFFINE : TN_EF_SCALE;
}

static bool is_cast(tn_dtype t) {
  return t == TN_DT_f32 || t == TN_DT_f16 || t == TN_DT_bf16 || t == TN_DT_f8e4m3 || t == TN_DT_f8e5m2;
}

bool tn_encode_can(tn_dtype t) { return tn_quant_of(t) || is_cast(t); }

bool tn_encode_wants_importance(tn_dtype t) {
  const tn_quant *q = tn_quant_of(t);
  return q && tn_encode_family_of(q) == TN_EF_GRID && q->bytes * 8 < q->values * 5 / 2;
}

static uint32_t cast_bytes(tn_dtype t) {
  return t == TN_DT_f32 ? 4 : t == TN_DT_f16 || t == TN_DT_bf16 ? 2 : 1;
}

uint64_t tn_encode_row_bytes(tn_dtype t, uint64_t columns) {
  const tn_quant *q = tn_quant_of(t);
  uint64_t n = 0;
  if (!q) return is_cast(t) && tn_mul_u64(columns, cast_bytes(t), &n) ? n : 0;
  return columns % q->values || !tn_mul_u64(columns / q->values, q->bytes, &n) ? 0 : n;
}

tn_encode_fn tn_encode_build(uint32_t i, const char **name) {
  static const char *const names[] = {"plain", "avx2", "avx512"};
  static const tn_encode_fn builds[] = {tn_encode_plain,
#if defined(__x86_64__)
                                        tn_encode_avx2, tn_encode_avx512
#endif
  };
  uint32_t n = 1;
#if defined(__x86_64__)
  __builtin_cpu_init();
  n += __builtin_cpu_supports("avx2") != 0;
  n += n == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  if (i >= n) return NULL;
  if (name) *name = names[i];
  return builds[i];
}

static void cast_all(tn_dtype t, const float *x, uint64_t n, uint8_t *out) {
  for (uint64_t i = 0; i < n; i++) {
    uint16_t h;
    switch (t) {
    case TN_DT_f16:
      h = tn_f32_to_f16(x[i]);
      memcpy(out + 2 * i, &h, 2);
      break;
    case TN_DT_bf16:
      h = tn_f32_to_bf16(x[i]);
      memcpy(out + 2 * i, &h, 2);
      break;
    case TN_DT_f8e4m3: out[i] = tn_f32_to_f8e4m3(x[i]); break;
    default: out[i] = tn_f32_to_f8e5m2(x[i]); break;
    }
  }
  if (t == TN_DT_f32) memcpy(out, x, n * sizeof *x);
}

static bool all_finite(const float *x, uint64_t n, uint64_t *bad) {
  for (uint64_t at = 0; at < n; at += 4096) {
    uint64_t end = n - at < 4096 ? n : at + 4096;
    int wrong = 0;
    for (uint64_t i = at; i < end; i++) wrong |= !(fabsf(x[i]) <= FLT_MAX);
    for (uint64_t i = at; wrong && i < end; i++)
      if (!(fabsf(x[i]) <= FLT_MAX)) {
        if (bad) *bad = i;
        return false;
      }
  }
  return true;
}

/* What even a column without importance counts, of the mean: enough that the plain error stays within a few
 * percent of what it could be. One scale for positive and negative numbers in few bits suffers most. */
static double floor_of(const tn_quant *q) {
  tn_encode_family family = tn_encode_family_of(q);
  if (family == TN_EF_MINIMA || family == TN_EF_AFFINE) return 0.08;
  return 0.25;
}

/* Importance with mean 1 before the least; nothing counts so much that sums overflow. NULL: no memory. */
static float *weights_of(const float *importance, uint64_t columns, double least) {
  float *w = tn_mem_alloc(columns * sizeof *w);
  double sum = 0;
  for (uint64_t i = 0; w && i < columns; i++) {
    w[i] = importance[i] > 0 && importance[i] <= FLT_MAX ? importance[i] : 0;
    sum += (double)w[i];
  }
  for (uint64_t i = 0; w && i < columns; i++) {
    double one = sum > 0 ? (double)w[i] * (double)columns / sum : 1;
    w[i] = (float)(one > 1e6 ? 1e6 : one + least);
  }
  return w;
}

tn_status tn_encode_rows(tn_dtype t, const float *x, uint64_t rows, uint64_t columns, const float *importance,
                         uint8_t *out, uint64_t *bad) {
  uint64_t n, bytes = tn_encode_row_bytes(t, columns), wrong = 0;
  const tn_quant *q = tn_quant_of(t);
  if (!tn_encode_can(t) || (columns && !bytes) || columns > INT32_MAX || !tn_mul_u64(rows, columns, &n))
    return TN_UNSUPPORTED;
  if (!all_finite(x, n, bad ? bad : &wrong)) return TN_INVALID;
  if (!q) {
    cast_all(t, x, n, out);
    return TN_OK;
  }
  float *weights = importance && columns ? weights_of(importance, columns, floor_of(q)) : NULL;
  if (importance && columns && !weights) return TN_OOM;
  tn_encode_job job = {q, x, weights, columns, 0, n / q->values, out};
  tn_encode_fn fn = tn_encode_plain;
  for (uint32_t i = 0; tn_encode_build(i, NULL); i++) fn = tn_encode_build(i, NULL);
  fn(&job);
  tn_mem_free(weights);
  return TN_OK;
}
