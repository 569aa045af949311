/* encode_lanes.h - vectors for the encoders. A lane holds one block: number i of TN_LANES blocks is one
 * vector, so that sums over a block run in the same order whatever the width, and every width gives the same
 * bits. Included by the files that set TN_LANES and the target of their functions. */
#ifndef TN_ENCODE_LANES_H
#define TN_ENCODE_LANES_H
#include "ir/base/base.h"
#include "ir/quant/encode_isa.h"
#if TN_LANES > 4
#include <immintrin.h>
#endif

#define TN_INLINE static inline __attribute__((always_inline))
typedef float tn_lanes __attribute__((vector_size(TN_LANES * 4)));
typedef int32_t tn_ints __attribute__((vector_size(TN_LANES * 4)));

TN_INLINE tn_lanes tn_all(float x) {
  tn_lanes v = {0};
  return v + x;
}

/* a < b ? yes : no */
#if TN_LANES == 16
TN_INLINE tn_lanes tn_if_less(tn_lanes a, tn_lanes b, tn_lanes yes, tn_lanes no) {
  return (tn_lanes)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ), (__m512)no,
                                        (__m512)yes);
}
/* p[at] of each lane */
TN_INLINE tn_lanes tn_pick(const float *p, tn_ints at) {
  return (tn_lanes)_mm512_i32gather_ps((__m512i)at, p, 4);
}
TN_INLINE tn_lanes tn_least(tn_lanes a, tn_lanes b) { return (tn_lanes)_mm512_min_ps((__m512)a, (__m512)b); }
TN_INLINE tn_lanes tn_most(tn_lanes a, tn_lanes b) { return (tn_lanes)_mm512_max_ps((__m512)a, (__m512)b); }
#elif TN_LANES == 8
TN_INLINE tn_lanes tn_if_less(tn_lanes a, tn_lanes b, tn_lanes yes, tn_lanes no) {
  return (tn_lanes)_mm256_blendv_ps((__m256)no, (__m256)yes, _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ));
}
TN_INLINE tn_lanes tn_pick(const float *p, tn_ints at) {
  return (tn_lanes)_mm256_i32gather_ps(p, (__m256i)at, 4);
}
TN_INLINE tn_lanes tn_least(tn_lanes a, tn_lanes b) { return (tn_lanes)_mm256_min_ps((__m256)a, (__m256)b); }
TN_INLINE tn_lanes tn_most(tn_lanes a, tn_lanes b) { return (tn_lanes)_mm256_max_ps((__m256)a, (__m256)b); }
#else
TN_INLINE tn_lanes tn_if_less(tn_lanes a, tn_lanes b, tn_lanes yes, tn_lanes no) {
  tn_ints m = a < b;
  return (tn_lanes)((m & (tn_ints)yes) | (~m & (tn_ints)no));
}
TN_INLINE tn_lanes tn_pick(const float *p, tn_ints at) {
  tn_lanes v;
  for (int l = 0; l < TN_LANES; l++) v[l] = p[at[l]];
  return v;
}
TN_INLINE tn_lanes tn_least(tn_lanes a, tn_lanes b) { return tn_if_less(a, b, a, b); }
TN_INLINE tn_lanes tn_most(tn_lanes a, tn_lanes b) { return tn_if_less(b, a, a, b); }
#endif

TN_INLINE tn_lanes tn_size(tn_lanes a) {
  tn_ints mask = (tn_ints){0} + 0x7fffffff;
  return (tn_lanes)((tn_ints)a & mask);
}
/* To nearest even; |x| below 2^22. */
TN_INLINE tn_lanes tn_nearest(tn_lanes x) { return (x + 12582912.0f) - 12582912.0f; }
TN_INLINE tn_lanes tn_clamp(tn_lanes x, float lo, float hi) {
  return tn_most(tn_least(x, tn_all(hi)), tn_all(lo));
}
/* a / b; 0 where b is no more than a rounding error of the sums that we divide by */
TN_INLINE tn_lanes tn_ratio(tn_lanes a, tn_lanes b) {
  tn_lanes tiny = tn_all(1e-30f), zero = {0};
  tn_lanes safe = tn_if_less(tiny, tn_size(b), b, tn_all(1));
  return tn_if_less(tiny, tn_size(b), a / safe, zero);
}

/* TN_LANES blocks: number i of lane l is x[i][l], divided by the lane's unit, a power of two that brings the
 * largest number into [1/2, 1). Lanes past the last block are zeros. */
typedef struct tn_tile {
  tn_lanes x[256], w[256], unit;
} tn_tile;

/* The stored number nearest to each lane's scale, in the lane's unit. */
TN_INLINE tn_lanes tn_stored(const tn_tile *t, uint8_t kind, tn_lanes scale) {
  for (int l = 0; l < TN_LANES; l++) scale[l] = tn_encode_number(kind, scale[l] * t->unit[l]) / t->unit[l];
  return scale;
}

#endif
