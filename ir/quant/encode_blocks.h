/* encode_blocks.h - formats with one scale, a scale and a minimum, or a scale and a whole zero per run: from
 * a tile to encoded blocks. */
#ifndef TN_ENCODE_BLOCKS_H
#define TN_ENCODE_BLOCKS_H
#include "ir/quant/encode_fit.h"
#include <math.h>

enum { TN_RUNS = 16 }; /* of a block, at most */

/* The blocks of a tile on their way out. */
typedef struct tn_batch {
  const tn_quant *q;
  tn_levels levels;
  tn_tile t;
  tn_encoded out[TN_LANES];
} tn_batch;

TN_INLINE int tn_run(const tn_quant *q) { return q->sub ? q->sub : (int)q->values; }

/* Codes of the levels `l` of value i, for all lanes. */
TN_INLINE void tn_put_codes(tn_batch *b, int i, tn_lanes l, int bias) {
  tn_ints code = __builtin_convertvector(l, tn_ints) + bias;
  for (int k = 0; k < TN_LANES; k++) b->out[k].code[i] = (uint8_t)code[k];
}

/* The number of the table's entry that v snaps to. */
TN_INLINE void tn_put_entries(tn_batch *b, int i, tn_lanes v) {
  tn_lanes rank = {0};
  for (int j = 1; j < b->levels.n; j++)
    rank = tn_if_less(tn_all(b->levels.between[j - 1]), v, tn_all((float)j), rank);
  tn_ints at = __builtin_convertvector(rank, tn_ints);
  for (int k = 0; k < TN_LANES; k++) b->out[k].code[i] = b->levels.code[at[k]];
}

/* Codes of values at .. at + n for a scale in the tile's unit. */
TN_INLINE void tn_put_scaled(tn_batch *b, int at, int n, tn_lanes scale) {
  tn_lanes inv = tn_ratio(tn_all(1), scale);
  for (int i = at; i < at + n; i++) {
    tn_lanes v = b->t.x[i] * inv;
    if (b->levels.kind == TN_SNAP_INT)
      tn_put_codes(b, i, tn_snap_to(&b->levels, TN_SNAP_INT, v), b->q->bias);
    else
      tn_put_entries(b, i, v);
  }
}

/* Of a stored scale and its neighbours, the best: coarse scales (bf16, powers of two) move the codes. */
TN_INLINE tn_lanes tn_stored_best(const tn_batch *b, tn_snap kind, uint8_t number, tn_lanes scale) {
  const tn_tile *t = &b->t;
  float step = number == TN_QN_E8M0_HALF ? 0.5f : number == TN_QN_BF16 ? 0x1p-8f : 0x1p-11f;
  tn_lanes best = {0}, least = tn_all(INFINITY);
  for (int k = -1; k < 2; k++) {
    tn_lanes d = tn_stored(t, number, scale * (k < 0 ? 1 - step : k ? 1 + 2 * step : 1));
    tn_lanes e = tn_scale_error(t, 0, (int)b->q->values, &b->levels, kind, d);
    best = tn_if_less(e, least, d, best);
    least = tn_least(e, least);
  }
  return best;
}

TN_INLINE void tn_encode_scale(tn_batch *b, tn_snap kind, const tn_tries *tries) {
  int n = (int)b->q->values;
  tn_lanes d = tn_fit_scale(&b->t, 0, n, &b->levels, kind, tries);
  d = b->q->d == TN_QN_F32 ? tn_stored(&b->t, b->q->d, d) : tn_stored_best(b, kind, b->q->d, d);
  tn_put_scaled(b, 0, n, d);
  for (int l = 0; l < TN_LANES; l++) b->out[l].d = d[l] * b->t.unit[l];
}

/* To nearest, halves away from zero; |x| below 2^22. */
TN_INLINE tn_lanes tn_nearest_away(tn_lanes x) {
  tn_lanes a = tn_size(x), r = tn_nearest(a), zero = {0};
  r += tn_if_less(tn_all(0.49999997f), a - r, tn_all(1), zero);
  return tn_if_less(x, zero, -r, r);
}

/* Bytes: the largest number becomes +-127, with the bytes that every writer of q8_0 makes: codes from the
 * scale before it is rounded to f16, and after it where that is coarser. */
TN_INLINE void tn_encode_whole(tn_batch *b) {
  int n = (int)b->q->values;
  tn_lanes d = tn_size(tn_largest(&b->t, 0, n)) / 127, stored = tn_stored(&b->t, b->q->d, d);
  tn_lanes inv = tn_ratio(tn_all(1), b->q->d == TN_QN_BF16 ? stored : d);
  for (int i = 0; i < n; i++) tn_put_codes(b, i, tn_clamp(tn_nearest_away(b->t.x[i] * inv), -127, 127), 0);
  for (int l = 0; l < TN_LANES; l++) b->out[l].d = stored[l] * b->t.unit[l];
}

/* A scale and a minimum of any sign, both stored. */
TN_INLINE void tn_encode_affine(tn_batch *b, float top, const tn_tries *tries) {
  int n = (int)b->q->values;
  tn_affine a = tn_fit_affine(&b->t, 0, n, top, false, tries);
  tn_lanes d = tn_stored(&b->t, b->q->d, a.scale), inv = tn_ratio(tn_all(1), d), sum = {0}, w = {0};
  for (int i = 0; i < n; i++) { /* the minimum that suits the rounded scale */
    tn_lanes l = tn_clamp(tn_nearest((b->t.x[i] - a.min) * inv), 0, top);
    sum += b->t.w[i] * (b->t.x[i] - d * l);
    w += b->t.w[i];
  }
  tn_lanes m = tn_stored(&b->t, b->q->m, tn_ratio(sum, w));
  for (int i = 0; i < n; i++) tn_put_codes(b, i, tn_clamp(tn_nearest((b->t.x[i] - m) * inv), 0, top), 0);
  for (int l = 0; l < TN_LANES; l++) {
    b->out[l].d = d[l] * b->t.unit[l];
    b->out[l].m = m[l] * b->t.unit[l];
  }
}

/* The best scale for codes round(x inv) + zero within 0 .. top. */
TN_INLINE tn_lanes tn_zero_step(const tn_tile *t, int at, int n, float top, tn_lanes zero, tn_lanes inv,
                                tn_lanes *gain) {
  tn_lanes xl = {0}, ll = {0};
  for (int i = at; i < at + n; i++) {
    tn_lanes l = tn_clamp(tn_nearest(t->x[i] * inv) + zero, 0, top) - zero, wl = t->w[i] * l;
    xl += wl * t->x[i];
    ll += wl * l;
  }
  tn_lanes d = tn_ratio(xl, ll);
  *gain = d * xl;
  return d;
}

/* A run whose codes have a whole zero: the range, shrunk and grown by the tries, with the two nearest zeros.
 */
TN_INLINE void tn_encode_zero(tn_batch *b, int at, int n, float top, const tn_tries *tries) {
  const tn_tile *t = &b->t;
  tn_lanes lo = {0}, hi = {0}, best = {0}, best_zero = {0}, most = {0}, gain;
  for (int i = at; i < at + n; i++) {
    lo = tn_least(lo, t->x[i]);
    hi = tn_most(hi, t->x[i]);
  }
  tn_lanes unit = tn_ratio(tn_all(1), hi - lo);
  for (int k = 0; k < tries->count; k++) {
    tn_lanes inv = unit * (top + tries->first + tries->step * (float)k);
    tn_lanes middle = (0.5f * top - 0.5f * (hi + lo) * inv), base = tn_nearest(middle - 0.5f);
    for (int up = 0; up < 2; up++) {
      tn_lanes zero = tn_clamp(base + (float)up, 0, top);
      tn_lanes d = tn_zero_step(t, at, n, top, zero, inv, &gain);
      best = tn_if_less(most, gain, d, best);
      best_zero = tn_if_less(most, gain, zero, best_zero);
      most = tn_most(most, gain);
    }
  }
  for (int again = 0; again < 2; again++) {
    tn_lanes d = tn_zero_step(t, at, n, top, best_zero, tn_ratio(tn_all(1), best), &gain);
    best = tn_if_less(most, gain, d, best);
    most = tn_most(most, gain);
  }
  int j = at / n;
  for (int l = 0; l < TN_LANES; l++) {
    float d = best[l] * t->unit[l];
    d = b->q->inner ? tn_encode_inner(b->q->inner, d) : tn_encode_number(b->q->d, d);
    *(b->q->inner ? &b->out[l].scale[j] : &b->out[l].d) = d;
    b->out[l].zero[j] = (uint8_t)best_zero[l];
    best[l] = d / t->unit[l];
  }
  tn_lanes inv = tn_ratio(tn_all(1), best);
  for (int i = at; i < at + n; i++) {
    tn_lanes code = tn_clamp(tn_nearest(t->x[i] * inv) + best_zero, 0, top);
    for (int l = 0; l < TN_LANES; l++) b->out[l].code[i] = (uint8_t)code[l];
  }
}

/* Scales are outside the block: numbers are rounded as they are. */
TN_INLINE void tn_encode_round(tn_batch *b, float top) {
  int n = (int)b->q->values;
  for (int l = 0; l < TN_LANES; l++) {
    tn_encoded *e = &b->out[l];
    float lo = 0;
    for (int i = 0; i < n; i++) lo = fminf(lo, b->t.x[i][l] * b->t.unit[l]);
    float zero = b->q->zero_bits ? fminf(rintf(-lo), top) : b->q->bias;
    for (int i = 0; i < n; i++) {
      float x = b->t.x[i][l] * b->t.unit[l];
      if (b->q->level == TN_QL_F8E4M3)
        e->code[i] = tn_f32_to_f8e4m3(x);
      else if (b->q->level == TN_QL_SIGNED)
        e->code[i] = (uint8_t)(int8_t)fminf(fmaxf(rintf(x), -128), 127);
      else
        e->code[i] = (uint8_t)fminf(fmaxf(rintf(x) + zero, 0), top);
    }
    e->zero[0] = (uint8_t)zero;
  }
}

/* One scale, codes f8e4m3: the largest number becomes 448. */
TN_INLINE void tn_encode_f8(tn_batch *b) {
  int n = (int)b->q->values;
  tn_lanes d = tn_size(tn_largest(&b->t, 0, n)) / 448;
  for (int l = 0; l < TN_LANES; l++) {
    tn_encoded *e = &b->out[l];
    e->d = tn_encode_number(b->q->d, d[l] * b->t.unit[l]);
    float s = e->d / b->t.unit[l], inv = s > 0 ? 1 / s : 0;
    for (int i = 0; i < n; i++) e->code[i] = tn_f32_to_f8e4m3(b->t.x[i][l] * inv);
  }
}

#endif
