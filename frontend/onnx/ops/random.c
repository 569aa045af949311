/* random.c - random numbers: functions of the node's seed and of the position, the same in every run. A node
 * that states no seed has its number in the model for one. */
#include "frontend/onnx/ops/math.h"

tn_value tn_ox_uniform(tn_ox *x, tn_ox_node *n, const tn_dim *dims, uint32_t rank, uint32_t stream) {
  union {
    float f;
    uint32_t u;
  } seed = {.u = tn_ox_number(n)};
  bool whole = !strcmp(tn_ox_op(n), "Dropout");
  if (tn_ox_has_attr(n, "seed") && whole)
    seed.u = (uint32_t)tn_ox_int(n, "seed", 0);
  else if (tn_ox_has_attr(n, "seed"))
    seed.f = (float)tn_ox_float(n, "seed", 0);
  int64_t key = (int64_t)((uint64_t)seed.u << 8 | stream);
  return tn_ox_make(x, "random_uniform", NULL, 0,
                    TN_OX_ATTRS(TN_OX_DIMS("shape", dims, rank), TN_OX_INT("seed", key)));
}

static tn_value scaled(tn_ox *x, tn_value v, double by) {
  return tn_ox_binary(x, "mul", v, tn_ox_scalar_like(x, v, by));
}

/* sqrt(-2 log(1 - u)) cos(2 pi w) of two uniform numbers (Box and Muller 1958). */
static tn_value normal(tn_ox *x, tn_ox_node *n, const tn_dim *dims, uint32_t rank) {
  tn_value u = tn_ox_uniform(x, n, dims, rank, 0), w = tn_ox_uniform(x, n, dims, rank, 1);
  tn_value radius = tn_ox_unary(x, "sqrt", scaled(x, tn_ox_unary(x, "log1p", tn_ox_unary(x, "neg", u)), -2));
  return tn_ox_binary(x, "mul", radius, tn_ox_unary(x, "cos", scaled(x, w, 6.28318530717958647692)));
}

static tn_value spread(tn_ox *x, tn_value v, double scale, double offset) {
  return tn_ox_binary(x, "add", scaled(x, v, scale), tn_ox_scalar_like(x, v, offset));
}

static tn_status fill(tn_ox *x, tn_ox_node *n, const tn_dim *dims, uint32_t rank, tn_dtype t) {
  tn_value v;
  if (!strncmp(tn_ox_op(n), "RandomNormal", 12)) {
    v = spread(x, normal(x, n, dims, rank), tn_ox_float(n, "scale", 1), tn_ox_float(n, "mean", 0));
  } else {
    double low = tn_ox_float(n, "low", 0), high = tn_ox_float(n, "high", 1);
    v = spread(x, tn_ox_uniform(x, n, dims, rank, 0), high - low, low);
  }
  return tn_ox_out(x, n, 0, t ? tn_ox_cast(x, v, t) : 0);
}

tn_status tn_ox_lower_random(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank;
  const int64_t *shape = tn_ox_ints(n, "shape", &rank);
  if (rank > TN_MAX_RANK)
    return tn_ox_refuse(x, n, NULL, "a tensor of rank %u; the most is %d", rank, TN_MAX_RANK);
  for (uint32_t i = 0; i < rank; i++) {
    if (shape[i] < 0) return tn_ox_fail(x, n, "attribute 'shape' has the size %lld", (long long)shape[i]);
    dims[i] = tn_ox_d(x, shape[i]);
  }
  return fill(x, n, dims, rank, tn_ox_dtype_of(x, n, tn_ox_int(n, "dtype", 1)));
}

/* The type that attribute dtype states, else that of v. */
static tn_dtype stated(tn_ox *x, tn_ox_node *n, tn_value v) {
  return tn_ox_has_attr(n, "dtype") ? tn_ox_dtype_of(x, n, tn_ox_int(n, "dtype", 0)) : tn_ox_dtype(x, v);
}

tn_status tn_ox_lower_random_like(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  tn_dim dims[TN_MAX_RANK];
  if (!v) return tn_ox_out(x, n, 0, 0);
  tn_ox_dims(x, v, dims);
  return fill(x, n, dims, tn_ox_rank(x, v), stated(x, n, v));
}

tn_status tn_ox_lower_bernoulli(tn_ox *x, tn_ox_node *n) {
  tn_value p = tn_ox_required(x, n, 0);
  tn_dim dims[TN_MAX_RANK];
  if (!p) return tn_ox_out(x, n, 0, 0);
  tn_ox_dims(x, p, dims);
  tn_value u = tn_ox_uniform(x, n, dims, tn_ox_rank(x, p), 0),
           hit = tn_ox_compare(x, "lt", u, tn_ox_cast(x, p, TN_DT_f32));
  tn_dtype t = stated(x, n, p);
  return tn_ox_out(x, n, 0, t ? tn_ox_cast(x, hit, t) : 0);
}

/* How many of the running sums of the probabilities a uniform number has passed. */
tn_status tn_ox_lower_multinomial(tn_ox *x, tn_ox_node *n) {
  static const int64_t last[] = {2};
  tn_value v = tn_ox_widen(x, tn_ox_required(x, n, 0));
  tn_dtype t = tn_ox_dtype_of(x, n, tn_ox_int(n, "dtype", 6));
  int64_t samples = tn_ox_int(n, "sample_size", 1);
  if (!v || !t) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, v) != 2) return tn_ox_fail(x, n, "the operand has rank %u, wants 2", tn_ox_rank(x, v));
  if (samples < 0) return tn_ox_fail(x, n, "attribute 'sample_size' is %lld", (long long)samples);
  tn_dim dims[2] = {tn_ox_dim(x, v, 0), tn_ox_d(x, samples)};
  tn_value p = tn_ox_softmax(x, v, 1), u = tn_ox_uniform(x, n, dims, 2, 0);
  p = tn_ox_make(x, "cumsum", &p, 1, TN_OX_ATTRS(TN_OX_INT("axis", 1)));
  tn_value passed = tn_ox_compare(x, "ge", tn_ox_unsqueeze(x, tn_ox_cast(x, u, tn_ox_dtype(x, v)), 2),
                                  tn_ox_unsqueeze(x, p, 1));
  tn_value at = tn_ox_reduce(x, "reduce_sum", tn_ox_cast(x, passed, TN_DT_i64), last, 1, false);
  tn_dim top = tn_ox_dsub(x, tn_ox_dim(x, v, 1), tn_ox_d(x, 1));
  at = tn_ox_binary(x, "min", at, tn_ox_dim_value(x, top)); /* the sums may end a little below 1 */
  return tn_ox_out(x, n, 0, tn_ox_cast(x, at, t));
}
