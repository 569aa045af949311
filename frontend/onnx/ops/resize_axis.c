/* resize_axis.c - the places and weights of one axis of a Resize: as numbers if the sizes are, else as ops on
 * counters. Both in f64, as the operator's definition computes them. */
#include "frontend/onnx/ops/resize.h"
#include <math.h>

#define MAX_TAPS 4096

int64_t tn_ox_resize_support(const tn_ox_resize *r, double scale) {
  int64_t half = r->mode == TN_RESIZE_CUBIC ? 2 : 1;
  if (!r->antialias || !(scale < 1)) return 2 * half;
  double start = floor(-(double)half / scale) + 1;
  return start < -MAX_TAPS ? MAX_TAPS + 1 : 2 - 2 * (int64_t)start;
}

/* Weight of an element at distance d. */
static double kernel(const tn_ox_resize *r, double d) {
  double a = r->cubic_a;
  d = fabs(d);
  if (r->mode == TN_RESIZE_LINEAR) return d < 1 ? 1 - d : 0;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/* ---- numbers ---- */
static double place_of(const tn_ox_resize *r, const tn_ox_resize_axis *a, double o) {
  double in = (double)a->in_size, out = a->scaled ? a->scale * in : (double)a->out_size;
  const char *mode = r->coordinate;
  if (!strcmp(mode, "asymmetric")) return o / a->scale;
  if (!strcmp(mode, "align_corners")) return out == 1 ? 0 : o * (in - 1) / (out - 1);
  if (!strcmp(mode, "pytorch_half_pixel") && out == 1) return 0;
  if (!strcmp(mode, "tf_half_pixel_for_nn")) return (o + 0.5) / a->scale;
  if (r->crop) {
    double wide = (a->stop - a->start) * (in - 1);
    return a->start * (in - 1) + (out == 1 ? wide / 2 : o * wide / (out - 1));
  }
  double shift = 0;
  if (!strcmp(mode, "half_pixel_symmetric")) shift = in / 2 * (1 - (double)a->out_size / (a->scale * in));
  return shift + (o + 0.5) / a->scale - 0.5;
}

static double nearest_of(const tn_ox_resize *r, double place) {
  if (!strcmp(r->nearest, "floor")) return floor(place);
  if (!strcmp(r->nearest, "ceil")) return ceil(place);
  return strcmp(r->nearest, "round_prefer_ceil") ? ceil(place - 0.5) : floor(place + 0.5);
}

static int64_t clamp(double i, int64_t size) {
  return !(i > 0) ? 0 : i > (double)(size - 1) ? size - 1 : (int64_t)i;
}

/* Weights of n elements around `place`, and the first one. */
static void weigh(const tn_ox_resize *r, const tn_ox_resize_axis *a, double place, int64_t n, double *first,
                  double *w) {
  double left = ceil(place) - 1, sum = 0, squeeze = r->antialias && a->scale < 1 ? a->scale : 1;
  *first = left - (double)(n / 2 - 1);
  for (int64_t j = 0; j < n; j++) {
    double at = *first + (double)j;
    bool outside = at < 0 || at > (double)(a->in_size - 1);
    w[j] = r->exclude_outside && outside ? 0 : kernel(r, (at - place) * squeeze);
    sum += w[j];
  }
  bool share = r->exclude_outside || squeeze < 1;
  for (int64_t j = 0; j < n && share && sum != 0; j++) w[j] /= sum;
}

/* Tables [taps][out], or [out][taps] of many. */
static bool known_taps(tn_ox *x, tn_ox_node *n, const tn_ox_resize *r, const tn_ox_resize_axis *a, tn_dtype t,
                       tn_ox_taps *out) {
  int64_t taps = r->mode == TN_RESIZE_NEAREST ? 1 : tn_ox_resize_support(r, a->scale), size = a->out_size;
  uint64_t count;
  if (taps > MAX_TAPS || !tn_mul_u64((uint64_t)taps, (uint64_t)size, &count) || count > 1u << 26)
    return tn_ox_refuse(x, n, NULL, "resizing reads %lld elements for each of %lld", (long long)taps,
                        (long long)size) == TN_OK;
  bool many = taps > TN_OX_FEW_TAPS;
  int64_t *index = tn_mem_alloc((count + 1) * sizeof *index),
          *outside = tn_mem_alloc((size_t)(size + 1) * sizeof *outside);
  double *weight = tn_mem_alloc((count + 1) * sizeof *weight), *w = tn_mem_alloc((size_t)taps * sizeof *w);
  bool ok = index && outside && weight && w;
  for (int64_t o = 0; ok && o < size; o++) {
    double place = place_of(r, a, (double)o), first = nearest_of(r, place);
    if (r->mode == TN_RESIZE_NEAREST)
      w[0] = 1;
    else
      weigh(r, a, place, taps, &first, w);
    outside[o] = place < 0 || place > (double)(a->in_size - 1);
    for (int64_t j = 0; j < taps; j++) {
      int64_t at = many ? o * taps + j : j * size + o;
      index[at] = clamp(first + (double)j, a->in_size);
      weight[at] = w[j];
    }
  }
  out->count = (uint32_t)taps;
  if (!ok) {
    tn_ox_fail(x, n, "no memory for the places of a resize");
  } else if (many) {
    tn_dim dims[] = {a->out, tn_ox_d(x, taps)};
    out->index[0] = tn_ox_reshape(x, tn_ox_ints_1d(x, index, (uint32_t)count), dims, 2);
    out->weight[0] = tn_ox_reshape(x, tn_ox_floats_1d(x, t, weight, (uint32_t)count), dims, 2);
  } else {
    for (int64_t j = 0; j < taps; j++) {
      out->index[j] = tn_ox_ints_1d(x, index + j * size, (uint32_t)size);
      out->weight[j] = tn_ox_floats_1d(x, t, weight + j * size, (uint32_t)size);
    }
  }
  if (ok && r->crop) out->outside = tn_ox_cast(x, tn_ox_ints_1d(x, outside, (uint32_t)size), TN_DT_bool);
  tn_mem_free(index);
  tn_mem_free(outside);
  tn_mem_free(weight);
  tn_mem_free(w);
  return ok;
}

/* ---- the same as ops ---- */
static tn_value num(tn_ox *x, double k) { return tn_ox_scalar(x, TN_DT_f64, k); }
static tn_value op(tn_ox *x, const char *name, tn_value a, tn_value b) { return tn_ox_binary(x, name, a, b); }
static tn_value size_value(tn_ox *x, tn_dim d) { return tn_ox_cast(x, tn_ox_dim_value(x, d), TN_DT_f64); }

static tn_value place_ops(tn_ox *x, const tn_ox_resize *r, const tn_ox_resize_axis *a) {
  const char *mode = r->coordinate;
  tn_value in = size_value(x, a->in), whole_out = size_value(x, a->out), one = num(x, 1);
  tn_value out = a->scaled ? op(x, "mul", in, a->scale_value) : whole_out;
  tn_value o = tn_ox_cast(x, tn_ox_iota(x, TN_DT_i64, &a->out, 1, 0), TN_DT_f64), scale = a->scale_value;
  if (!strcmp(mode, "asymmetric")) return op(x, "div", o, scale);
  tn_value last_in = op(x, "sub", in, one), single = tn_ox_compare(x, "eq", out, one);
  tn_value last_out = tn_ox_select(x, single, one, op(x, "sub", out, one));
  if (!strcmp(mode, "align_corners")) /* a single one is the first: o is 0 */
    return op(x, "div", op(x, "mul", o, last_in), last_out);
  tn_value half = op(x, "div", op(x, "add", o, num(x, 0.5)), scale);
  if (!strcmp(mode, "tf_half_pixel_for_nn")) return half;
  half = op(x, "sub", half, num(x, 0.5));
  if (!strcmp(mode, "pytorch_half_pixel")) return tn_ox_select(x, single, num(x, 0), half);
  if (r->crop) {
    tn_value wide = op(x, "mul", op(x, "sub", a->stop_value, a->start_value), last_in);
    tn_value step = op(x, "div", op(x, "mul", o, wide), last_out);
    step = tn_ox_select(x, single, op(x, "mul", wide, num(x, 0.5)), step);
    return op(x, "add", op(x, "mul", a->start_value, last_in), step);
  }
  if (strcmp(mode, "half_pixel_symmetric")) return half;
  tn_value whole = op(x, "sub", one, op(x, "div", whole_out, op(x, "mul", scale, in)));
  return op(x, "add", op(x, "mul", op(x, "mul", in, num(x, 0.5)), whole), half);
}

static tn_value nearest_ops(tn_ox *x, const tn_ox_resize *r, tn_value place) {
  if (!strcmp(r->nearest, "floor")) return tn_ox_unary(x, "floor", place);
  if (!strcmp(r->nearest, "ceil")) return tn_ox_unary(x, "ceil", place);
  if (!strcmp(r->nearest, "round_prefer_ceil"))
    return tn_ox_unary(x, "floor", op(x, "add", place, num(x, 0.5)));
  return tn_ox_unary(x, "ceil", op(x, "sub", place, num(x, 0.5)));
}

/* kernel() for d of a known piece: within 1, or beyond. */
static tn_value kernel_ops(tn_ox *x, const tn_ox_resize *r, tn_value d, bool within) {
  double a = r->cubic_a;
  if (r->mode == TN_RESIZE_LINEAR) return op(x, "sub", num(x, 1), d);
  if (within) {
    tn_value p = op(x, "sub", op(x, "mul", num(x, a + 2), d), num(x, a + 3));
    return op(x, "add", op(x, "mul", op(x, "mul", p, d), d), num(x, 1));
  }
  tn_value p = op(x, "sub", op(x, "mul", num(x, a), d), num(x, 5 * a));
  p = op(x, "add", op(x, "mul", p, d), num(x, 8 * a));
  return op(x, "sub", op(x, "mul", p, d), num(x, 4 * a));
}

static void taps_ops(tn_ox *x, const tn_ox_resize *r, const tn_ox_resize_axis *a, tn_dtype t,
                     tn_ox_taps *out) {
  tn_value place = place_ops(x, r, a), zero = num(x, 0), last = op(x, "sub", size_value(x, a->in), num(x, 1));
  tn_value left, sum = 0, weight[TN_OX_FEW_TAPS];
  if (r->crop)
    out->outside = op(x, "or", tn_ox_compare(x, "lt", place, zero), tn_ox_compare(x, "gt", place, last));
  if (r->mode == TN_RESIZE_NEAREST) {
    out->count = 1;
    out->index[0] = tn_ox_cast(x, tn_ox_clamp(x, nearest_ops(x, r, place), zero, last), TN_DT_i64);
    return;
  }
  out->count = r->mode == TN_RESIZE_CUBIC ? 4 : 2;
  left = op(x, "sub", tn_ox_unary(x, "ceil", place), num(x, 1));
  for (uint32_t j = 0; j < out->count; j++) {
    int step = (int)j - (int)(out->count / 2 - 1);
    tn_value at = op(x, "add", left, num(x, step)), within = tn_ox_clamp(x, at, zero, last);
    tn_value d = tn_ox_unary(x, "abs", op(x, "sub", at, place));
    weight[j] = kernel_ops(x, r, d, step == 0 || step == 1);
    if (r->exclude_outside) weight[j] = tn_ox_select(x, tn_ox_compare(x, "eq", at, within), weight[j], zero);
    sum = sum ? op(x, "add", sum, weight[j]) : weight[j];
    out->index[j] = tn_ox_cast(x, within, TN_DT_i64);
  }
  for (uint32_t j = 0; j < out->count; j++) {
    if (r->exclude_outside) weight[j] = op(x, "div", weight[j], sum);
    out->weight[j] = tn_ox_cast(x, weight[j], t);
  }
}

bool tn_ox_resize_taps(tn_ox *x, tn_ox_node *n, const tn_ox_resize *r, const tn_ox_resize_axis *a, tn_dtype t,
                       tn_ox_taps *out) {
  *out = (tn_ox_taps){0};
  if (a->known) return known_taps(x, n, r, a, t, out);
  taps_ops(x, r, a, t, out);
  return !tn_ox_failed(x);
}
