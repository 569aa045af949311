/* encode_inner.h - formats whose scales (and minima) are small numbers times a scale of the block: every run
 * of values is fitted alone, then the block's scale and the runs' numbers are settled together, each step by
 * least squares. */
#ifndef TN_ENCODE_INNER_H
#define TN_ENCODE_INNER_H
#include "ir/quant/encode_blocks.h"

/* Inner scales are whole numbers lo .. hi. */
typedef struct tn_inner {
  float lo, hi;
} tn_inner;

/* The best of scale - 1, scale, scale + 1 for run j, by the error of the codes that follow. */
TN_INLINE tn_lanes tn_scale_beside(const tn_batch *b, tn_snap kind, int j, tn_inner in, tn_lanes d,
                                   tn_lanes scale) {
  int n = tn_run(b->q);
  tn_lanes best = scale, least = tn_all(INFINITY);
  for (int k = -1; k < 2; k++) {
    tn_lanes s = tn_clamp(scale + (float)k, in.lo, in.hi);
    tn_lanes e = tn_scale_error(&b->t, j * n, n, &b->levels, kind, d * s);
    best = tn_if_less(e, least, s, best);
    least = tn_least(e, least);
  }
  return best;
}

/* The block's scale for the codes that d and the inner scales give. */
TN_INLINE tn_lanes tn_outer_step(const tn_batch *b, tn_snap kind, const tn_lanes *scale, tn_lanes d) {
  const tn_tile *t = &b->t;
  int n = tn_run(b->q);
  tn_lanes xl = {0}, ll = {0};
  for (int j = 0; j < (int)b->q->values / n; j++) {
    tn_lanes inv = tn_ratio(tn_all(1), d * scale[j]);
    for (int i = j * n; i < (j + 1) * n; i++) {
      tn_lanes l = scale[j] * tn_snap_to(&b->levels, kind, t->x[i] * inv), wl = t->w[i] * l;
      xl += wl * t->x[i];
      ll += wl * l;
    }
  }
  return tn_ratio(xl, ll);
}

TN_INLINE void tn_encode_scales(tn_batch *b, tn_snap kind, const tn_tries *tries, tn_inner in) {
  int n = tn_run(b->q), runs = (int)b->q->values / n;
  tn_lanes scale[TN_RUNS], ideal[TN_RUNS], most = {0}, zero = {0};
  for (int j = 0; j < runs; j++) {
    ideal[j] = tn_fit_scale(&b->t, j * n, n, &b->levels, kind, tries);
    most = tn_if_less(tn_size(most), tn_size(ideal[j]), ideal[j], most);
  }
  tn_lanes d = tn_stored(&b->t, b->q->d, most / in.lo); /* the largest one becomes the outermost, lo */
  for (int again = 0; again < 3; again++) {
    tn_lanes inv = tn_ratio(tn_all(1), d);
    for (int j = 0; j < runs; j++) {
      if (!again) scale[j] = tn_clamp(tn_nearest(ideal[j] * inv), in.lo, in.hi);
      scale[j] = tn_scale_beside(b, kind, j, in, d, scale[j]);
    }
    if (again < 2) d = tn_stored(&b->t, b->q->d, tn_outer_step(b, kind, scale, d));
  }
  for (int j = 0; j < runs; j++) {
    tn_lanes s = d * scale[j];
    tn_put_scaled(b, j * n, n, tn_if_less(zero, tn_size(s), s, zero));
    for (int l = 0; l < TN_LANES; l++) b->out[l].scale[j] = scale[j][l];
  }
  for (int l = 0; l < TN_LANES; l++) b->out[l].d = d[l] * b->t.unit[l];
}

/* Inner scales that are narrow floats, without a scale of the block. */
TN_INLINE void tn_encode_floats(tn_batch *b, tn_snap kind, const tn_tries *tries) {
  int n = tn_run(b->q);
  for (int j = 0; j < (int)b->q->values / n; j++) {
    tn_lanes ideal = tn_fit_scale(&b->t, j * n, n, &b->levels, kind, tries), best = ideal,
             least = tn_all(INFINITY);
    for (int k = -1; k < 2; k++) {
      tn_lanes s = ideal * (k < 0 ? 1 - 0x1p-4f : k ? 1 + 0x1p-3f : 1);
      for (int l = 0; l < TN_LANES; l++)
        s[l] = tn_encode_inner(b->q->inner, s[l] * b->t.unit[l]) / b->t.unit[l];
      tn_lanes e = tn_scale_error(&b->t, j * n, n, &b->levels, kind, s);
      best = tn_if_less(e, least, s, best);
      least = tn_least(e, least);
    }
    tn_put_scaled(b, j * n, n, best);
    for (int l = 0; l < TN_LANES; l++) b->out[l].scale[j] = best[l] * b->t.unit[l];
  }
}

/* Run j with scale S: the minimum is settled twice by least squares, rounded to whole multiples of dmin;
 * returns the error of the codes. */
TN_INLINE tn_lanes tn_minimum_step(const tn_batch *b, int j, float top, float inner, tn_lanes s,
                                   tn_lanes dmin, tn_lanes *minimum) {
  const tn_tile *t = &b->t;
  int n = tn_run(b->q);
  tn_lanes inv = tn_ratio(tn_all(1), s), m = dmin * *minimum, sum = {0}, w = {0}, error = {0};
  for (int i = j * n; i < (j + 1) * n; i++) {
    tn_lanes l = tn_clamp(tn_nearest((t->x[i] + m) * inv), 0, top);
    sum += t->w[i] * (s * l - t->x[i]);
    w += t->w[i];
  }
  *minimum = tn_clamp(tn_nearest(tn_ratio(tn_ratio(sum, w), dmin)), 0, inner);
  m = dmin * *minimum;
  for (int i = j * n; i < (j + 1) * n; i++) {
    tn_lanes e = t->x[i] + m - s * tn_clamp(tn_nearest((t->x[i] + m) * inv), 0, top);
    error += t->w[i] * (e * e);
  }
  return error;
}

/* A block of K4 or nibbles: what is being settled. */
typedef struct tn_minima {
  tn_lanes d, dmin, scale[TN_RUNS], minimum[TN_RUNS];
} tn_minima;

/* Both scales of the block by least squares for the codes that they give now. */
TN_INLINE void tn_minima_outer(const tn_batch *b, float top, tn_minima *s) {
  const tn_tile *t = &b->t;
  int n = tn_run(b->q);
  tn_lanes aa = {0}, ab = {0}, bb = {0}, xa = {0}, xb = {0}, zero = {0};
  for (int j = 0; j < (int)b->q->values / n; j++) {
    tn_lanes inv = tn_ratio(tn_all(1), s->d * s->scale[j]), m = s->dmin * s->minimum[j], l1 = {0}, l2 = {0},
             xl = {0}, w = {0}, x1 = {0};
    for (int i = j * n; i < (j + 1) * n; i++) {
      tn_lanes l = tn_clamp(tn_nearest((t->x[i] + m) * inv), 0, top), wl = t->w[i] * l;
      l1 += wl;
      l2 += wl * l;
      xl += wl * t->x[i];
      w += t->w[i];
      x1 += t->w[i] * t->x[i];
    }
    aa += s->scale[j] * s->scale[j] * l2;
    ab += s->scale[j] * s->minimum[j] * l1;
    bb += s->minimum[j] * s->minimum[j] * w;
    xa += s->scale[j] * xl;
    xb += s->minimum[j] * x1;
  }
  tn_lanes det = aa * bb - ab * ab, sure = 1e-6f * aa * bb;
  tn_lanes d = tn_ratio(bb * xa - ab * xb, det), dmin = tn_ratio(ab * xa - aa * xb, det);
  s->d = tn_if_less(sure, det, tn_most(d, zero), tn_if_less(zero, bb, s->d, tn_ratio(xa, aa)));
  s->dmin = tn_if_less(sure, det, tn_most(dmin, zero), s->dmin);
}

/* Run j: the best of three scales, each with its minimum. */
TN_INLINE void tn_minima_run(const tn_batch *b, float top, float inner, int j, tn_minima *s) {
  tn_lanes least = tn_all(INFINITY), scale = s->scale[j], minimum = s->minimum[j];
  for (int k = -1; k < 2; k++) {
    tn_lanes one = tn_clamp(scale + (float)k, 0, inner), m = minimum;
    tn_lanes e = tn_minimum_step(b, j, top, inner, s->d * one, s->dmin, &m);
    s->scale[j] = tn_if_less(e, least, one, s->scale[j]);
    s->minimum[j] = tn_if_less(e, least, m, s->minimum[j]);
    least = tn_least(e, least);
  }
}

TN_INLINE void tn_encode_minima(tn_batch *b, float top, float inner, const tn_tries *tries) {
  const tn_quant *q = b->q;
  int n = tn_run(q), runs = (int)q->values / n;
  tn_minima s;
  tn_affine ideal[TN_RUNS];
  tn_lanes most = {0}, least = {0};
  for (int j = 0; j < runs; j++) {
    ideal[j] = tn_fit_affine(&b->t, j * n, n, top, true, tries);
    most = tn_most(most, ideal[j].scale);
    least = tn_least(least, ideal[j].min);
  }
  s.d = tn_stored(&b->t, q->d, most / inner);
  s.dmin = tn_stored(&b->t, q->m, -least / inner);
  for (int j = 0; j < runs; j++) {
    s.scale[j] = tn_clamp(tn_nearest(tn_ratio(ideal[j].scale, s.d)), 0, inner);
    s.minimum[j] = tn_clamp(tn_nearest(tn_ratio(-ideal[j].min, s.dmin)), 0, inner);
  }
  for (int again = 0; again < 3; again++) {
    for (int j = 0; j < runs; j++) tn_minima_run(b, top, inner, j, &s);
    if (again == 2) break;
    tn_minima_outer(b, top, &s);
    s.d = tn_stored(&b->t, q->d, s.d);
    s.dmin = tn_stored(&b->t, q->m, s.dmin);
  }
  for (int j = 0; j < runs; j++) {
    tn_lanes inv = tn_ratio(tn_all(1), s.d * s.scale[j]), m = s.dmin * s.minimum[j];
    for (int i = j * n; i < (j + 1) * n; i++)
      tn_put_codes(b, i, tn_clamp(tn_nearest((b->t.x[i] + m) * inv), 0, top), 0);
    for (int l = 0; l < TN_LANES; l++) {
      b->out[l].scale[j] = s.scale[j][l];
      b->out[l].minimum[j] = s.minimum[j][l];
    }
  }
  for (int l = 0; l < TN_LANES; l++) {
    b->out[l].d = s.d[l] * b->t.unit[l];
    b->out[l].m = s.dmin[l] * b->t.unit[l];
  }
}

#endif
