/* encode_fit.h - least squares for one scale, and for a scale and a minimum, of some numbers of every block
 * of a tile. Codes are tried at many scales around the one that just reaches the largest number; every set of
 * codes has its best scale in closed form, and the best of all is kept. */
#ifndef TN_ENCODE_FIT_H
#define TN_ENCODE_FIT_H
#include "ir/quant/encode_lanes.h"

/* What a code may stand for. */
typedef enum tn_snap { TN_SNAP_INT, TN_SNAP_E2M1, TN_SNAP_TABLE, TN_SNAP_SIGN } tn_snap;
typedef struct tn_levels {
  tn_snap kind;
  float lo, hi; /* the outermost */
  int n;        /* of a table, in rising order; between[i]: halfway from sorted[i] to sorted[i + 1] */
  float sorted[16], between[15];
  uint8_t code[16]; /* of sorted[i] */
} tn_levels;

/* Multiples of the outermost level that the largest number is brought to. */
typedef struct tn_tries {
  float first, step;
  int count;
  bool both; /* signs: the scale may be negative */
} tn_tries;

TN_INLINE tn_lanes tn_snap_to(const tn_levels *s, tn_snap kind, tn_lanes v) {
  if (kind == TN_SNAP_INT) return tn_clamp(tn_nearest(v), s->lo, s->hi);
  tn_lanes zero = {0}, a = tn_size(v), r;
  if (kind == TN_SNAP_SIGN) return tn_if_less(v, zero, tn_all(-1), tn_all(1));
  if (kind == TN_SNAP_E2M1) { /* 0 1 2 3 4 6 8 12 */
    r = tn_if_less(a, tn_all(4), tn_nearest(a), 2 * tn_nearest(0.5f * a));
    r = tn_if_less(a, tn_all(8), r, 4 * tn_nearest(tn_least(0.25f * a, tn_all(3))));
    return tn_if_less(v, zero, -r, r);
  }
  r = tn_all(s->sorted[0]);
  for (int i = 1; i < s->n; i++) r = tn_if_less(tn_all(s->between[i - 1]), v, tn_all(s->sorted[i]), r);
  return r;
}

/* The number of largest magnitude, with its sign. */
TN_INLINE tn_lanes tn_largest(const tn_tile *t, int at, int n) {
  tn_lanes most = t->x[at];
  for (int i = at + 1; i < at + n; i++) most = tn_if_less(tn_size(most), tn_size(t->x[i]), t->x[i], most);
  return most;
}

TN_INLINE tn_lanes tn_scale_error(const tn_tile *t, int at, int n, const tn_levels *s, tn_snap kind,
                                  tn_lanes d) {
  tn_lanes inv = tn_ratio(tn_all(1), d), sum = {0};
  for (int i = at; i < at + n; i++) {
    tn_lanes e = t->x[i] - d * tn_snap_to(s, kind, t->x[i] * inv);
    sum += t->w[i] * (e * e);
  }
  return sum;
}

/* The best scale for the codes that 1 / inv gives; what it takes off the error is put into *gain. */
TN_INLINE tn_lanes tn_scale_step(const tn_tile *t, int at, int n, const tn_levels *s, tn_snap kind,
                                 tn_lanes inv, tn_lanes *gain) {
  tn_lanes xl = {0}, ll = {0};
  for (int i = at; i < at + n; i++) {
    tn_lanes l = tn_snap_to(s, kind, t->x[i] * inv), wl = t->w[i] * l;
    xl += wl * t->x[i];
    ll += wl * l;
  }
  tn_lanes d = tn_ratio(xl, ll);
  *gain = d * xl;
  return d;
}

TN_INLINE tn_lanes tn_fit_scale(const tn_tile *t, int at, int n, const tn_levels *s, tn_snap kind,
                                const tn_tries *tries) {
  tn_lanes most = tn_largest(t, at, n), best = {0}, top = {0}, gain, zero = {0};
  for (int sign = 0; sign < (tries->both ? 2 : 1); sign++) {
    tn_lanes end;
    if (tries->both)
      end = tn_all(sign ? s->hi : s->lo);
    else
      end = tn_if_less(most, zero, tn_all(s->lo), tn_all(s->hi));
    tn_lanes inv = tn_ratio(end, most);
    for (int k = 0; k < tries->count; k++) {
      tn_lanes d = tn_scale_step(t, at, n, s, kind, inv * (tries->first + tries->step * (float)k), &gain);
      best = tn_if_less(top, gain, d, best);
      top = tn_most(top, gain);
    }
  }
  for (int again = 0; again < 2; again++) {
    tn_lanes d = tn_scale_step(t, at, n, s, kind, tn_ratio(tn_all(1), best), &gain);
    best = tn_if_less(top, gain, d, best);
    top = tn_most(top, gain);
  }
  return best;
}

/* x = scale * code + min, codes 0 to top */
typedef struct tn_affine {
  tn_lanes scale, min;
} tn_affine;

/* The sums of least squares that do not depend on codes. */
typedef struct tn_moments {
  tn_lanes w, x, xx;
} tn_moments;
TN_INLINE tn_moments tn_moments_of(const tn_tile *t, int at, int n) {
  tn_moments s = {{0}, {0}, {0}};
  for (int i = at; i < at + n; i++) {
    tn_lanes wx = t->w[i] * t->x[i];
    s.w += t->w[i];
    s.x += wx;
    s.xx += wx * t->x[i];
  }
  return s;
}

/* The best line for the codes that (inv, min) gives, and its error. below: the minimum is at most 0. */
TN_INLINE tn_affine tn_affine_step(const tn_tile *t, int at, int n, float top, bool below,
                                   const tn_moments *s, tn_lanes inv, tn_lanes min, tn_lanes *error) {
  tn_lanes l1 = {0}, l2 = {0}, xl = {0}, zero = {0};
  for (int i = at; i < at + n; i++) {
    tn_lanes l = tn_clamp(tn_nearest((t->x[i] - min) * inv), 0, top), wl = t->w[i] * l;
    l1 += wl;
    l2 += wl * l;
    xl += wl * t->x[i];
  }
  tn_lanes det = s->w * l2 - l1 * l1, tiny = 1e-6f * s->w * l2;
  tn_lanes scale = tn_ratio(s->w * xl - s->x * l1, det), m = tn_ratio(l2 * s->x - l1 * xl, det);
  scale = tn_if_less(tiny, det, scale, tn_ratio(xl, l2));
  m = tn_if_less(tiny, det, m, zero);
  if (below) {
    scale = tn_if_less(zero, m, tn_ratio(xl, l2), scale);
    m = tn_least(m, zero);
  }
  *error = s->xx - 2 * (scale * xl + m * s->x) + scale * scale * l2 + 2 * scale * m * l1 + m * m * s->w;
  return (tn_affine){scale, m};
}

/* tries: steps of code that the range is cut into, less top */
TN_INLINE tn_affine tn_fit_affine(const tn_tile *t, int at, int n, float top, bool below,
                                  const tn_tries *tries) {
  tn_moments s = tn_moments_of(t, at, n);
  tn_lanes lo = t->x[at], hi = lo, zero = {0}, error, least;
  for (int i = at + 1; i < at + n; i++) {
    lo = tn_least(lo, t->x[i]);
    hi = tn_most(hi, t->x[i]);
  }
  if (below) lo = tn_least(lo, zero);
  tn_affine best = {zero, lo}, one;
  least = s.xx - 2 * lo * s.x + lo * lo * s.w;
  tn_lanes unit = tn_ratio(tn_all(1), hi - lo);
  for (int k = 0; k < tries->count; k++) {
    tn_lanes inv = unit * (top + tries->first + tries->step * (float)k);
    one = tn_affine_step(t, at, n, top, below, &s, inv, lo, &error);
    best.scale = tn_if_less(error, least, one.scale, best.scale);
    best.min = tn_if_less(error, least, one.min, best.min);
    least = tn_least(error, least);
  }
  for (int again = 0; again < 2; again++) {
    one = tn_affine_step(t, at, n, top, below, &s, tn_ratio(tn_all(1), best.scale), best.min, &error);
    best.scale = tn_if_less(error, least, one.scale, best.scale);
    best.min = tn_if_less(error, least, one.min, best.min);
    least = tn_least(error, least);
  }
  return best;
}

#endif
