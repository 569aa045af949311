/* norm.c - normalisation. Everything becomes layer_norm or rms_norm of the IR over a last dim that a reshape
 * makes; f64, which those have not, is written out. */
#include "frontend/onnx/ops/transformer.h"

static bool is_f64(tn_ox *x, tn_value v) { return v && tn_ox_dtype(x, v) == TN_DT_f64; }

static tn_value mean(tn_ox *x, tn_value v, const int64_t *axes, uint32_t n) {
  return tn_ox_reduce(x, "reduce_mean", v, axes, n, true);
}

static tn_value root(tn_ox *x, tn_value variance, double eps) {
  return tn_ox_unary(x, "rsqrt", tn_ox_binary(x, "add", variance, tn_ox_scalar_like(x, variance, eps)));
}

/* v less its mean, and 1 / sqrt(variance + eps), written out. */
static tn_value deviation(tn_ox *x, tn_value v, const int64_t *axes, uint32_t n, double eps,
                          tn_value *inverse) {
  tn_value d = tn_ox_binary(x, "sub", v, mean(x, v, axes, n));
  *inverse = root(x, mean(x, tn_ox_binary(x, "mul", d, d), axes, n), eps);
  return d;
}

tn_value tn_ox_layer_norm(tn_ox *x, tn_value v, tn_value scale, tn_value bias, double eps) {
  static const int64_t last[] = {-1};
  if (!v) return 0;
  if (!is_f64(x, v))
    return tn_ox_make(x, "layer_norm", (tn_value[]){v, scale, bias}, 3, TN_OX_ATTRS(TN_OX_FLOAT("eps", eps)));
  tn_value inverse, d = deviation(x, v, last, 1, eps, &inverse);
  tn_value y = tn_ox_binary(x, "mul", d, inverse);
  if (scale) y = tn_ox_binary(x, "mul", y, scale);
  return bias ? tn_ox_binary(x, "add", y, bias) : y;
}

tn_value tn_ox_standard(tn_ox *x, tn_value v, double eps) { return tn_ox_layer_norm(x, v, 0, 0, eps); }

tn_value tn_ox_rms_norm(tn_ox *x, tn_value v, tn_value scale, double eps) {
  static const int64_t last[] = {-1};
  if (!v) return 0;
  if (!is_f64(x, v))
    return tn_ox_make(x, "rms_norm", (tn_value[]){v, scale}, 2, TN_OX_ATTRS(TN_OX_FLOAT("eps", eps)));
  tn_value y = tn_ox_binary(x, "mul", v, root(x, mean(x, tn_ox_binary(x, "mul", v, v), last, 1), eps));
  return scale ? tn_ox_binary(x, "mul", y, scale) : y;
}

/* ---- LayerNormalization, RMSNormalization ---- */

/* Dims from `axis` on as one. */
static tn_value flat(tn_ox *x, tn_value v, uint32_t axis) {
  tn_dim dims[TN_MAX_RANK], d;
  if (!v) return 0;
  uint32_t rank = tn_ox_rank(x, v);
  if (axis + 1 == rank) return v;
  tn_ox_dims(x, v, dims);
  d = tn_ox_d(x, 1);
  for (uint32_t i = axis; i < rank; i++) d = tn_ox_dmul(x, d, dims[i]);
  dims[axis] = d;
  return tn_ox_reshape(x, v, dims, axis + 1);
}

static tn_value unflat(tn_ox *x, tn_value v, tn_value like) {
  tn_dim dims[TN_MAX_RANK];
  if (!v || !like) return 0;
  tn_ox_dims(x, like, dims);
  return tn_ox_rank(x, v) == tn_ox_rank(x, like) ? v : tn_ox_reshape(x, v, dims, tn_ox_rank(x, like));
}

/* Whether v has exactly the dims of `like` from axis on: it can go into the norm. */
static bool covers(tn_ox *x, tn_value v, tn_value like, uint32_t axis) {
  uint32_t rank = tn_ox_rank(x, like);
  if (tn_ox_rank(x, v) != rank - axis) return false;
  for (uint32_t i = axis; i < rank; i++)
    if (tn_ox_dim(x, v, i - axis) != tn_ox_dim(x, like, i)) return false;
  return true;
}

/* A scale or bias in a type that the norm takes beside v, in one dim. */
static tn_value vector(tn_ox *x, tn_value v, tn_value like) {
  return v ? flat(x, tn_ox_cast(x, v, tn_ox_dtype(x, like)), 0) : 0;
}

typedef struct norm {
  tn_value v, scale, bias;
  uint32_t axis;
  double eps;
  bool rms;
} norm;

static tn_value apply(tn_ox *x, const norm *a) {
  bool inside =
      (!a->scale || covers(x, a->scale, a->v, a->axis)) && (!a->bias || covers(x, a->bias, a->v, a->axis));
  tn_value v = flat(x, a->v, a->axis);
  tn_value scale = inside ? vector(x, a->scale, a->v) : 0, bias = inside ? vector(x, a->bias, a->v) : 0;
  tn_value y = unflat(
      x, a->rms ? tn_ox_rms_norm(x, v, scale, a->eps) : tn_ox_layer_norm(x, v, scale, bias, a->eps), a->v);
  if (!inside && a->scale) y = tn_ox_binary(x, "mul", tn_ox_cast(x, y, tn_ox_dtype(x, a->scale)), a->scale);
  if (!inside && a->bias) y = tn_ox_binary(x, "add", y, tn_ox_cast(x, a->bias, tn_ox_dtype(x, y)));
  return y;
}

/* Results 1 and 2, mean and inverse deviation, in the type of the statistics. */
static tn_status statistics(tn_ox *x, tn_ox_node *n, const norm *a, uint32_t mean_at, uint32_t inverse_at) {
  int64_t axes[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, a->v), count = rank - a->axis;
  bool wants_mean = mean_at && tn_ox_wants(n, mean_at);
  if (!wants_mean && !tn_ox_wants(n, inverse_at)) return TN_OK;
  for (uint32_t i = 0; i < count; i++) axes[i] = a->axis + i;
  tn_value v = is_f64(x, a->v) ? a->v : tn_ox_cast(x, a->v, TN_DT_f32), inverse;
  if (a->rms)
    inverse = root(x, mean(x, tn_ox_binary(x, "mul", v, v), axes, count), a->eps);
  else
    deviation(x, v, axes, count, a->eps, &inverse);
  if (wants_mean) TN_TRY(tn_ox_out(x, n, mean_at, mean(x, v, axes, count)));
  return tn_ox_wants(n, inverse_at) ? tn_ox_out(x, n, inverse_at, inverse) : TN_OK;
}

static bool read_norm(tn_ox *x, tn_ox_node *n, bool rms, norm *a) {
  *a = (norm){
      .v = tn_ox_in(x, n, 0), .scale = tn_ox_in(x, n, 1), .bias = rms ? 0 : tn_ox_in(x, n, 2), .rms = rms};
  a->eps = tn_ox_float(n, "epsilon", 1e-5f);
  if (!a->v) return false;
  a->axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", -1), tn_ox_rank(x, a->v));
  return !tn_ox_failed(x);
}

tn_status tn_ox_lower_layer_normalization(tn_ox *x, tn_ox_node *n) {
  norm a;
  if (!read_norm(x, n, false, &a)) return tn_ox_out(x, n, 0, 0);
  TN_TRY(tn_ox_out(x, n, 0, apply(x, &a)));
  return statistics(x, n, &a, 1, 2);
}

tn_status tn_ox_lower_rms_normalization(tn_ox *x, tn_ox_node *n) {
  norm a;
  if (!read_norm(x, n, true, &a)) return tn_ox_out(x, n, 0, 0);
  TN_TRY(tn_ox_out(x, n, 0, apply(x, &a)));
  return statistics(x, n, &a, 0, 1);
}

/* ---- groups of channels ---- */

/* [n, c, ...] as [n, groups, all else]. */
static tn_value grouped(tn_ox *x, tn_ox_node *n, tn_value v, int64_t groups) {
  tn_dim dims[TN_MAX_RANK];
  int64_t channels;
  if (!v) return 0;
  uint32_t rank = tn_ox_rank(x, v);
  if (rank < 2 || groups < 1) {
    tn_ox_fail(x, n, "%lld groups of channels of a tensor of rank %u", (long long)groups, rank);
    return 0;
  }
  tn_ox_dims(x, v, dims);
  if (tn_ox_dconst(x, dims[1], &channels) && channels % groups) {
    tn_ox_fail(x, n, "%lld channels are not %lld groups", (long long)channels, (long long)groups);
    return 0;
  }
  tn_dim d = tn_ox_ddiv(x, dims[1], tn_ox_d(x, groups));
  for (uint32_t i = 2; i < rank; i++) d = tn_ox_dmul(x, d, dims[i]);
  return tn_ox_reshape(x, v, (tn_dim[]){dims[0], tn_ox_d(x, groups), d}, 3);
}

tn_value tn_ox_group_standard(tn_ox *x, tn_ox_node *n, tn_value v, int64_t groups, double eps) {
  tn_dim dims[TN_MAX_RANK];
  tn_value y = tn_ox_standard(x, grouped(x, n, v, groups), eps);
  if (!y) return 0;
  tn_ox_dims(x, v, dims);
  return tn_ox_reshape(x, y, dims, tn_ox_rank(x, v));
}

/* y scale + bias, vectors of channels. */
static tn_value affine(tn_ox *x, tn_value y, tn_value scale, tn_value bias) {
  if (!y || !scale || !bias) return 0;
  uint32_t rank = tn_ox_rank(x, y) - 1;
  tn_dtype t = tn_ox_dtype(x, y);
  y = tn_ox_binary(x, "mul", y, tn_ox_rank_back(x, tn_ox_cast(x, scale, t), rank));
  return tn_ox_binary(x, "add", y, tn_ox_rank_back(x, tn_ox_cast(x, bias, t), rank));
}

/* Up to opset 20 scale and bias belong to groups, since then to channels. */
tn_status tn_ox_lower_group_normalization(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), scale = tn_ox_in(x, n, 1), bias = tn_ox_in(x, n, 2);
  int64_t groups = tn_ox_int(n, "num_groups", 0);
  double eps = tn_ox_float(n, "epsilon", 1e-5f);
  if (!v) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_version(n) >= 21)
    return tn_ox_out(x, n, 0, affine(x, tn_ox_group_standard(x, n, v, groups, eps), scale, bias));
  tn_ox_dims(x, v, dims);
  tn_value y = affine(x, tn_ox_standard(x, grouped(x, n, v, groups), eps), scale, bias);
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, y, dims, tn_ox_rank(x, v)));
}

tn_status tn_ox_lower_instance_normalization(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), scale = tn_ox_in(x, n, 1), bias = tn_ox_in(x, n, 2);
  if (!v) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, v) < 3)
    return tn_ox_fail(x, n, "the input has rank %u, wants at least 3", tn_ox_rank(x, v));
  tn_ox_dims(x, v, dims);
  tn_value y = tn_ox_standard(x, flat(x, v, 2), tn_ox_float(n, "epsilon", 1e-5f));
  return tn_ox_out(x, n, 0, affine(x, tn_ox_reshape(x, y, dims, tn_ox_rank(x, v)), scale, bias));
}

/* ---- BatchNormalization ---- */

typedef struct batch {
  tn_value v, scale, bias, mean, variance;
  tn_dtype wide; /* of the statistics' arithmetic */
} batch;

/* v a + b, where a and b, which do not depend on v, are computed once. */
static tn_value batch_apply(tn_ox *x, const batch *a, double eps) {
  uint32_t rank = tn_ox_rank(x, a->v);
  tn_value by = tn_ox_binary(x, "mul", tn_ox_cast(x, a->scale, a->wide),
                             root(x, tn_ox_cast(x, a->variance, a->wide), eps));
  tn_value shift = tn_ox_binary(x, "mul", tn_ox_cast(x, a->mean, a->wide), by);
  shift = tn_ox_binary(x, "sub", tn_ox_cast(x, a->bias, a->wide), shift);
  tn_value y = tn_ox_binary(x, "mul", tn_ox_cast(x, a->v, a->wide), tn_ox_rank_back(x, by, rank - 1));
  return tn_ox_cast(x, tn_ox_binary(x, "add", y, tn_ox_rank_back(x, shift, rank - 1)), tn_ox_dtype(x, a->v));
}

static tn_value running(tn_ox *x, tn_value old, tn_value now, double momentum, tn_dtype wide) {
  tn_value a = tn_ox_binary(x, "mul", tn_ox_cast(x, old, wide), tn_ox_scalar(x, wide, momentum));
  tn_value b = tn_ox_binary(x, "mul", now, tn_ox_scalar(x, wide, 1 - momentum));
  return tn_ox_cast(x, tn_ox_binary(x, "add", a, b), tn_ox_dtype(x, old));
}

static tn_status batch_train(tn_ox *x, tn_ox_node *n, batch *a, double eps) {
  int64_t axes[TN_MAX_RANK] = {0};
  uint32_t rank = tn_ox_rank(x, a->v);
  double momentum = tn_ox_float(n, "momentum", 0.9f);
  for (uint32_t i = 1; i + 1 < rank; i++) axes[i] = i + 1;
  tn_value v = tn_ox_cast(x, a->v, a->wide), centre = mean(x, v, axes, rank - 1);
  tn_value d = tn_ox_binary(x, "sub", v, centre);
  tn_value var = tn_ox_reduce(x, "reduce_mean", tn_ox_binary(x, "mul", d, d), axes, rank - 1, false);
  tn_value now = tn_ox_reduce(x, "reduce_mean", v, axes, rank - 1, false);
  if (tn_ox_wants(n, 1)) TN_TRY(tn_ox_out(x, n, 1, running(x, a->mean, now, momentum, a->wide)));
  if (tn_ox_wants(n, 2)) TN_TRY(tn_ox_out(x, n, 2, running(x, a->variance, var, momentum, a->wide)));
  a->mean = now, a->variance = var;
  return tn_ox_out(x, n, 0, batch_apply(x, a, eps));
}

tn_status tn_ox_lower_batch_normalization(tn_ox *x, tn_ox_node *n) {
  batch a = {tn_ox_in(x, n, 0), tn_ox_in(x, n, 1), tn_ox_in(x, n, 2),
             tn_ox_in(x, n, 3), tn_ox_in(x, n, 4), 0};
  double eps = tn_ox_float(n, "epsilon", 1e-5f);
  if (!a.v) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, a.v) < 2)
    return tn_ox_fail(x, n, "the input has rank %u, wants at least 2", tn_ox_rank(x, a.v));
  a.wide = is_f64(x, a.v) ? TN_DT_f64 : TN_DT_f32;
  bool trains = tn_ox_version(n) < 7 ? !tn_ox_int(n, "is_test", 0) && tn_ox_wants(n, 1)
                                     : tn_ox_int(n, "training_mode", 0);
  if (trains) return batch_train(x, n, &a, eps);
  for (uint32_t i = 1; i < tn_ox_nout(n); i++)
    if (tn_ox_wants(n, i))
      return tn_ox_refuse(x, n, "export the model in inference mode", "output %u is one of training only", i);
  return tn_ox_out(x, n, 0, batch_apply(x, &a, eps));
}

/* ---- others ---- */

tn_status tn_ox_lower_lp_normalization(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  int64_t axis = tn_ox_int(n, "axis", -1), p = tn_ox_int(n, "p", 2);
  if (!v) return tn_ox_out(x, n, 0, 0);
  if (p != 1 && p != 2) return tn_ox_fail(x, n, "p is %lld, wants 1 or 2", (long long)p);
  axis = tn_ox_axis(x, n, axis, tn_ox_rank(x, v));
  tn_value size = p == 1 ? tn_ox_unary(x, "abs", v) : tn_ox_binary(x, "mul", v, v);
  size = tn_ox_reduce(x, "reduce_sum", size, &axis, 1, true);
  if (p == 2) size = tn_ox_unary(x, "sqrt", size);
  tn_value zero = tn_ox_scalar_like(x, size, 0);
  tn_value y = tn_ox_select(x, tn_ox_compare(x, "eq", size, zero), zero, tn_ox_binary(x, "div", v, size));
  return tn_ox_out(x, n, 0, y);
}

tn_status tn_ox_lower_mean_variance_normalization(tn_ox *x, tn_ox_node *n) {
  static const int64_t usual[] = {0, 2, 3};
  uint32_t count;
  tn_value v = tn_ox_in(x, n, 0);
  const int64_t *axes = tn_ox_ints(n, "axes", &count);
  if (!count) axes = usual, count = 3;
  tn_value d = tn_ox_binary(x, "sub", v, mean(x, v, axes, count));
  tn_value deviation = tn_ox_unary(x, "sqrt", mean(x, tn_ox_binary(x, "mul", d, d), axes, count));
  tn_value below = tn_ox_binary(x, "add", deviation, tn_ox_scalar_like(x, deviation, 1e-9));
  return tn_ox_out(x, n, 0, tn_ox_binary(x, "div", d, below));
}
