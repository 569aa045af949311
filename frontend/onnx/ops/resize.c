/* resize.c - Resize and Upsample: which axes change, their sizes and scales, and the gathers axis by axis. */
#include "frontend/onnx/ops/resize.h"
#include "ir/base/base.h"
#include <math.h>

typedef struct sizes {
  uint32_t count;
  tn_ox_resize_axis axis[TN_MAX_RANK];
} sizes;

/* ---- attributes ---- */
static bool one_of(const char *s, const char *const *names, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (!strcmp(s, names[i])) return true;
  return false;
}
#define ONE_OF(s, ...)                                                                                       \
  one_of(s, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static bool read_modes(tn_ox *x, tn_ox_node *n, bool old, tn_ox_resize *r) {
  const char *mode = tn_ox_str(n, "mode", "nearest");
  r->coordinate = old ? "asymmetric" : tn_ox_str(n, "coordinate_transformation_mode", "half_pixel");
  r->nearest = old ? "floor" : tn_ox_str(n, "nearest_mode", "round_prefer_floor");
  r->cubic_a = tn_ox_float(n, "cubic_coeff_a", -0.75);
  r->extrapolation = tn_ox_float(n, "extrapolation_value", 0);
  r->exclude_outside = tn_ox_int(n, "exclude_outside", 0);
  r->antialias = tn_ox_int(n, "antialias", 0);
  r->crop = !strcmp(r->coordinate, "tf_crop_and_resize");
  if (!ONE_OF(mode, "nearest", "linear", "cubic", "bilinear"))
    return tn_ox_fail(x, n, "mode is '%s', wants nearest, linear or cubic", mode) == TN_OK;
  if (!ONE_OF(r->coordinate, "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
              "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn"))
    return tn_ox_fail(x, n, "coordinate_transformation_mode is '%s'", r->coordinate) == TN_OK;
  if (!ONE_OF(r->nearest, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    return tn_ox_fail(x, n, "nearest_mode is '%s'", r->nearest) == TN_OK;
  r->mode = !strcmp(mode, "nearest") ? TN_RESIZE_NEAREST
            : !strcmp(mode, "cubic") ? TN_RESIZE_CUBIC
                                     : TN_RESIZE_LINEAR;
  return true;
}

static bool read_axes(tn_ox *x, tn_ox_node *n, tn_value v, sizes *s) {
  uint32_t count, rank = tn_ox_rank(x, v), seen = 0;
  const int64_t *axes = tn_ox_ints(n, "axes", &count);
  s->count = axes ? count : rank;
  if (s->count > rank) return tn_ox_fail(x, n, "axes has %u entries, the rank is %u", count, rank) == TN_OK;
  for (uint32_t i = 0; i < s->count; i++) {
    uint32_t axis = axes ? tn_ox_axis(x, n, axes[i], rank) : i;
    if (tn_ox_failed(x)) return false;
    if (seen & 1u << axis) return tn_ox_fail(x, n, "axes names axis %u twice", axis) == TN_OK;
    seen |= 1u << axis;
    s->axis[i] = (tn_ox_resize_axis){.axis = axis, .in = tn_ox_dim(x, v, axis)};
  }
  return true;
}

/* Entry i of a vector as an f64 scalar. */
static tn_value entry(tn_ox *x, tn_value vector, uint32_t i) {
  tn_value v = tn_ox_slice(x, vector, 0, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1);
  return tn_ox_cast(x, tn_ox_squeeze(x, v, 0), TN_DT_f64);
}

static bool has_entries(tn_ox *x, tn_ox_node *n, const char *what, tn_value v, uint32_t want) {
  if (tn_ox_rank(x, v) == 1) return tn_ox_same(x, n, tn_ox_dim(x, v, 0), tn_ox_d(x, want)) != 0;
  return tn_ox_fail(x, n, "%s does not have one entry for each of %u axes", what, want) == TN_OK;
}
static bool is_empty(tn_ox *x, tn_value v) {
  int64_t size;
  return !v || (tn_ox_rank(x, v) == 1 && tn_ox_dconst(x, tn_ox_dim(x, v, 0), &size) && !size);
}

/* ---- scales and sizes ---- */
/* floor(in * scale): of a symbolic size if the scale is a simple fraction, else the run finds out. */
static tn_dim scaled_size(tn_ox *x, tn_dim in, double scale, tn_value scale_value) {
  int64_t size;
  if (!scale_value && tn_ox_dconst(x, in, &size)) return tn_ox_d(x, (int64_t)floor((double)size * scale));
  for (int64_t q = 1; !scale_value && q <= 64; q++) {
    double p = scale * (double)q;
    if (p == floor(p) && p < 1e9)
      return tn_ox_ddiv(x, tn_ox_dmul(x, in, tn_ox_d(x, (int64_t)p)), tn_ox_d(x, q));
  }
  if (!scale_value) scale_value = tn_ox_scalar(x, TN_DT_f64, scale);
  tn_value wide = tn_ox_cast(x, tn_ox_dim_value(x, in), TN_DT_f64);
  tn_value out = tn_ox_unary(x, "floor", tn_ox_binary(x, "mul", wide, scale_value));
  return tn_ox_let_dim(x, tn_ox_cast(x, out, TN_DT_i64), 0, "resized");
}

static bool from_scales(tn_ox *x, tn_ox_node *n, tn_value scales, const float *listed, sizes *s) {
  double known[TN_MAX_RANK];
  uint32_t count;
  bool constant = listed || tn_ox_known_floats(x, scales, known, TN_MAX_RANK, &count);
  if (!listed && !has_entries(x, n, "scales", scales, s->count)) return false;
  for (uint32_t i = 0; i < s->count; i++) {
    tn_ox_resize_axis *a = &s->axis[i];
    if (constant) a->scale = listed ? (double)listed[i] : known[i];
    if (constant && !(a->scale > 0 && a->scale < 1e9))
      return tn_ox_fail(x, n, "scales[%u] is %g, wants more than 0", i, a->scale) == TN_OK;
    a->scaled = true;
    if (!constant) a->scale_value = entry(x, scales, i);
    a->out = scaled_size(x, a->in, a->scale, a->scale_value);
    a->known = constant && tn_ox_dconst(x, a->in, &a->in_size) && tn_ox_dconst(x, a->out, &a->out_size);
    if (!a->scale_value && !a->known) a->scale_value = tn_ox_scalar(x, TN_DT_f64, a->scale);
  }
  return !tn_ox_failed(x);
}

/* One scale for all axes, such that none becomes larger (or smaller) than asked for. */
static bool keep_aspect(tn_ox *x, bool larger, sizes *s) {
  bool known = true;
  double scale = 0;
  tn_value value = 0, half = tn_ox_scalar(x, TN_DT_f64, 0.5);
  for (uint32_t i = 0; i < s->count; i++) known &= s->axis[i].known;
  for (uint32_t i = 0; i < s->count; i++) {
    const tn_ox_resize_axis *a = &s->axis[i];
    if (!i || (larger ? a->scale > scale : a->scale < scale)) scale = a->scale;
    if (known) continue;
    tn_value one = a->scale_value ? a->scale_value : tn_ox_scalar(x, TN_DT_f64, a->scale);
    value = value ? tn_ox_binary(x, larger ? "max" : "min", value, one) : one;
  }
  for (uint32_t i = 0; i < s->count; i++) {
    tn_ox_resize_axis *a = &s->axis[i];
    a->scaled = true;
    a->known = known;
    a->scale = known ? scale : 0;
    a->scale_value = value;
    if (known) {
      a->out_size = (int64_t)floor(scale * (double)a->in_size + 0.5);
      a->out = tn_ox_d(x, a->out_size);
      continue;
    }
    tn_value size = tn_ox_binary(x, "mul", tn_ox_cast(x, tn_ox_dim_value(x, a->in), TN_DT_f64), value);
    size = tn_ox_cast(x, tn_ox_unary(x, "floor", tn_ox_binary(x, "add", size, half)), TN_DT_i64);
    a->out = tn_ox_let_dim(x, size, 0, "resized");
  }
  return !tn_ox_failed(x);
}

static bool from_sizes(tn_ox *x, tn_ox_node *n, tn_value wanted, sizes *s) {
  tn_dim out[TN_MAX_RANK];
  uint32_t count;
  const char *policy = tn_ox_str(n, "keep_aspect_ratio_policy", "stretch");
  if (!tn_ox_now_dims(x, wanted, out, TN_MAX_RANK, &count)) return false;
  if (count != s->count)
    return tn_ox_fail(x, n, "sizes has %u entries for %u axes", count, s->count) == TN_OK;
  for (uint32_t i = 0; i < s->count; i++) {
    tn_ox_resize_axis *a = &s->axis[i];
    a->out = out[i];
    a->known = tn_ox_dconst(x, a->in, &a->in_size) && tn_ox_dconst(x, a->out, &a->out_size);
    if (a->known) {
      if (a->out_size < 0) return tn_ox_fail(x, n, "sizes[%u] is %lld", i, (long long)a->out_size) == TN_OK;
      a->scale = a->in_size ? (double)a->out_size / (double)a->in_size : 1;
    } else if (a->in == a->out) {
      a->scale = 1;
    } else {
      tn_value in = tn_ox_cast(x, tn_ox_dim_value(x, a->in), TN_DT_f64);
      a->scale_value = tn_ox_binary(x, "div", tn_ox_cast(x, tn_ox_dim_value(x, a->out), TN_DT_f64), in);
    }
  }
  if (!strcmp(policy, "stretch")) return true;
  if (!ONE_OF(policy, "not_larger", "not_smaller"))
    return tn_ox_fail(x, n, "keep_aspect_ratio_policy is '%s'", policy) == TN_OK;
  return keep_aspect(x, !strcmp(policy, "not_smaller"), s);
}

/* The region of a crop: all starts, then all ends, as shares of the axes. */
static bool read_region(tn_ox *x, tn_ox_node *n, tn_value roi, sizes *s) {
  double known[2 * TN_MAX_RANK];
  uint32_t count;
  if (is_empty(x, roi)) return tn_ox_fail(x, n, "tf_crop_and_resize needs the input roi") == TN_OK;
  if (!has_entries(x, n, "roi", roi, 2 * s->count)) return false;
  bool constant = tn_ox_known_floats(x, roi, known, 2 * TN_MAX_RANK, &count);
  for (uint32_t i = 0; i < s->count; i++) {
    tn_ox_resize_axis *a = &s->axis[i];
    a->known = a->known && constant;
    a->start = constant ? known[i] : 0;
    a->stop = constant ? known[s->count + i] : 1;
    if (a->known) continue;
    a->start_value = entry(x, roi, i);
    a->stop_value = entry(x, roi, s->count + i);
    if (!a->scale_value) a->scale_value = tn_ox_scalar(x, TN_DT_f64, a->scale);
  }
  return true;
}

/* ---- the gathers ---- */
/* A vector along an axis of a tensor of that rank. */
static tn_value along(tn_ox *x, tn_value v, uint32_t axis, uint32_t rank) {
  tn_dim dims[TN_MAX_RANK];
  if (!v) return 0;
  for (uint32_t i = 0; i < rank; i++) dims[i] = tn_ox_d(x, 1);
  for (uint32_t i = 0; i < tn_ox_rank(x, v); i++) dims[axis + i] = tn_ox_dim(x, v, i);
  return tn_ox_reshape(x, v, dims, rank);
}

static tn_value apply(tn_ox *x, tn_value v, uint32_t axis, const tn_ox_taps *t, bool weighted) {
  uint32_t rank = tn_ox_rank(x, v);
  tn_value sum = 0;
  if (!weighted) return tn_ox_gather(x, v, t->index[0], axis);
  if (t->count > TN_OX_FEW_TAPS) {
    tn_value all = tn_ox_gather(x, v, t->index[0], axis), w = along(x, t->weight[0], axis, rank + 1);
    return tn_ox_reduce(x, "reduce_sum", tn_ox_binary(x, "mul", all, w), (int64_t[]){axis + 1}, 1, false);
  }
  for (uint32_t j = 0; j < t->count; j++) {
    tn_value one = tn_ox_gather(x, v, t->index[j], axis);
    one = tn_ox_binary(x, "mul", one, along(x, t->weight[j], axis, rank));
    sum = sum ? tn_ox_binary(x, "add", sum, one) : one;
  }
  return sum;
}

/* Does the axis stay as it is? */
static bool unchanged(const tn_ox_resize *r, const tn_ox_resize_axis *a) {
  bool shifts = r->crop || !strcmp(r->coordinate, "tf_half_pixel_for_nn");
  return a->in == a->out && !shifts && (a->known ? a->scale == 1 : !a->scale_value || a->scale == 1);
}

static tn_value resized(tn_ox *x, tn_ox_node *n, tn_value v, const tn_ox_resize *r, sizes *s) {
  tn_dtype type = tn_ox_dtype(x, v), t = type == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
  bool weighted = r->mode != TN_RESIZE_NEAREST;
  tn_value outside = 0;
  if (weighted) v = tn_ox_cast(x, v, t);
  for (uint32_t i = 0; i < s->count && !tn_ox_failed(x); i++) {
    tn_ox_resize_axis *a = &s->axis[i];
    tn_ox_taps taps;
    if (unchanged(r, a)) continue;
    if (weighted && r->antialias && !a->known) {
      tn_ox_refuse(x, n, "state the sizes", "antialias with sizes that only the run knows");
      return 0;
    }
    if (!tn_ox_resize_taps(x, n, r, a, t, &taps)) return 0;
    v = apply(x, v, a->axis, &taps, weighted);
    if (!taps.outside) continue;
    tn_value mine = along(x, taps.outside, a->axis, tn_ox_rank(x, v));
    outside = outside ? tn_ox_binary(x, "or", outside, mine) : mine;
  }
  if (outside) v = tn_ox_select(x, outside, tn_ox_scalar(x, weighted ? t : type, r->extrapolation), v);
  return tn_ox_cast(x, v, type);
}

tn_status tn_ox_lower_resize(tn_ox *x, tn_ox_node *n) {
  bool old = tn_ox_version(n) < 11;
  tn_ox_resize r = {0};
  sizes s = {0};
  tn_value v = tn_ox_in(x, n, 0), roi = old ? 0 : tn_ox_in(x, n, 1), scales = tn_ox_in(x, n, old ? 1 : 2);
  tn_value wanted = old ? 0 : tn_ox_in(x, n, 3);
  if (!v || !read_modes(x, n, old, &r) || !read_axes(x, n, v, &s)) return tn_ox_out(x, n, 0, 0);
  bool by_size = is_empty(x, scales);
  if (by_size && is_empty(x, wanted)) return tn_ox_fail(x, n, "neither scales nor sizes are given");
  if (!(by_size ? from_sizes(x, n, wanted, &s) : from_scales(x, n, scales, NULL, &s)))
    return tn_ox_out(x, n, 0, 0);
  if (r.crop && !read_region(x, n, roi, &s)) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, resized(x, n, v, &r, &s));
}

tn_status tn_ox_lower_upsample(tn_ox *x, tn_ox_node *n) {
  tn_ox_resize r = {0};
  sizes s = {0};
  uint32_t count = 0;
  bool listed = tn_ox_version(n) < 9;
  tn_value v = tn_ox_in(x, n, 0), scales = listed ? 0 : tn_ox_in(x, n, 1);
  const float *list = tn_ox_floats(n, "scales", &count);
  if (!v || !read_modes(x, n, true, &r) || !read_axes(x, n, v, &s)) return tn_ox_out(x, n, 0, 0);
  if (listed && (!list || count != s.count))
    return tn_ox_fail(x, n, "scales has %u entries, the rank is %u", count, s.count);
  if (!listed && !scales) return tn_ox_fail(x, n, "the input scales is missing");
  if (!from_scales(x, n, scales, listed ? list : NULL, &s)) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, resized(x, n, v, &r, &s));
}
