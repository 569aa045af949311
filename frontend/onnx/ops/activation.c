/* activation.c - activation functions and Dropout. They are composed in f32 at least and rounded once. */
#include "frontend/onnx/ops/math.h"

tn_value tn_ox_softplus(tn_ox *x, tn_value v) {
  tn_value far = tn_ox_unary(x, "exp", tn_ox_unary(x, "neg", tn_ox_unary(x, "abs", v)));
  return tn_ox_binary(x, "add", tn_ox_unary(x, "relu", v), tn_ox_unary(x, "log1p", far));
}

static tn_value scaled(tn_ox *x, tn_value v, double by) {
  return by == 1 ? v : tn_ox_binary(x, "mul", v, tn_ox_scalar_like(x, v, by));
}
static tn_value below_zero(tn_ox *x, tn_value v) {
  return tn_ox_compare(x, "lt", v, tn_ox_scalar_like(x, v, 0));
}

/* gamma (v, or alpha (e^(v / bend) - 1) below 0). */
static tn_value exponential(tn_ox *x, tn_value v, double alpha, double bend, double gamma) {
  tn_value arg = bend == 1 ? v : tn_ox_binary(x, "div", v, tn_ox_scalar_like(x, v, bend));
  tn_value low = scaled(x, tn_ox_expm1(x, arg), alpha);
  return scaled(x, tn_ox_select(x, below_zero(x, v), low, v), gamma);
}

/* Between 0 and 1. */
static tn_value hard(tn_ox *x, tn_value v, double alpha, double beta) {
  v = tn_ox_binary(x, "add", scaled(x, v, alpha), tn_ox_scalar_like(x, v, beta));
  return tn_ox_binary(x, "min", tn_ox_unary(x, "relu", v), tn_ox_scalar_like(x, v, 1));
}

static tn_value swish(tn_ox *x, tn_value v, double alpha) {
  if (alpha == 1) return tn_ox_unary(x, "silu", v);
  return tn_ox_binary(x, "mul", v, tn_ox_unary(x, "sigmoid", scaled(x, v, alpha)));
}

static tn_value shrink(tn_ox *x, tn_value v, double lambd, double bias) {
  tn_value by = tn_ox_scalar_like(x, v, bias), zero = tn_ox_scalar_like(x, v, 0);
  tn_value high = tn_ox_compare(x, "gt", v, tn_ox_scalar_like(x, v, lambd));
  tn_value low = tn_ox_compare(x, "lt", v, tn_ox_scalar_like(x, v, -lambd));
  tn_value rest = tn_ox_select(x, low, tn_ox_binary(x, "add", v, by), zero);
  return tn_ox_select(x, high, tn_ox_binary(x, "sub", v, by), rest);
}

static tn_value activate(tn_ox *x, tn_ox_node *n, const char *op, tn_value v) {
  if (!strcmp(op, "Elu")) return exponential(x, v, tn_ox_float(n, "alpha", 1), 1, 1);
  if (!strcmp(op, "Selu"))
    return exponential(x, v, tn_ox_float(n, "alpha", 1.67326319217681884765625), 1,
                       tn_ox_float(n, "gamma", 1.05070102214813232421875));
  if (!strcmp(op, "Celu")) {
    double alpha = tn_ox_float(n, "alpha", 1);
    return exponential(x, v, alpha, alpha, 1);
  }
  if (!strcmp(op, "LeakyRelu"))
    return tn_ox_select(x, below_zero(x, v), scaled(x, v, tn_ox_float(n, "alpha", 0.01)), v);
  if (!strcmp(op, "ThresholdedRelu")) {
    tn_value limit = tn_ox_scalar_like(x, v, tn_ox_float(n, "alpha", 1));
    return tn_ox_select(x, tn_ox_compare(x, "gt", v, limit), v, tn_ox_scalar_like(x, v, 0));
  }
  if (!strcmp(op, "HardSigmoid"))
    return hard(x, v, tn_ox_float(n, "alpha", 0.2), tn_ox_float(n, "beta", 0.5));
  if (!strcmp(op, "HardSwish")) return tn_ox_binary(x, "mul", v, hard(x, v, 1.0 / 6, 0.5));
  if (!strcmp(op, "Mish")) return tn_ox_binary(x, "mul", v, tn_ox_unary(x, "tanh", tn_ox_softplus(x, v)));
  if (!strcmp(op, "Softplus")) return tn_ox_softplus(x, v);
  if (!strcmp(op, "Softsign")) {
    tn_value size = tn_ox_binary(x, "add", tn_ox_unary(x, "abs", v), tn_ox_scalar_like(x, v, 1));
    return tn_ox_binary(x, "div", v, size);
  }
  if (!strcmp(op, "Swish")) return swish(x, v, tn_ox_float(n, "alpha", 1));
  return shrink(x, v, tn_ox_float(n, "lambd", 0.5), tn_ox_float(n, "bias", 0));
}

tn_status tn_ox_lower_activation(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  if (!v) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, tn_ox_cast(x, activate(x, n, tn_ox_op(n), tn_ox_widen(x, v)), tn_ox_dtype(x, v)));
}

tn_status tn_ox_lower_gelu(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  const char *how = tn_ox_str(n, "approximate", "none");
  bool tanh = !strcmp(how, "tanh");
  if (!tanh && strcmp(how, "none"))
    return tn_ox_fail(x, n, "attribute 'approximate' is '%s', wants none or tanh", how);
  if (v) v = tn_ox_make(x, "gelu", &v, 1, TN_OX_ATTRS(TN_OX_STR("form", tanh ? "tanh" : "erf")));
  return tn_ox_out(x, n, 0, v);
}

tn_status tn_ox_lower_swiglu(tn_ox *x, tn_ox_node *n) {
  tn_value a = tn_ox_required(x, n, 0), b = tn_ox_required(x, n, 1);
  if (!a || !b) return tn_ox_out(x, n, 0, 0);
  tn_value y = swish(x, tn_ox_widen(x, a), tn_ox_float(n, "alpha", 1));
  y = tn_ox_binary(x, "mul", y, tn_ox_widen(x, b));
  return tn_ox_out(x, n, 0, tn_ox_cast(x, y, tn_ox_dtype(x, a)));
}

tn_status tn_ox_lower_prelu(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0), slope = tn_ox_required(x, n, 1);
  uint32_t rank = v ? tn_ox_rank(x, v) : 0;
  if (slope && tn_ox_version(n) < 7 && tn_ox_rank(x, slope) == 1 && rank > 2) { /* of each channel */
    tn_dim dims[TN_MAX_RANK] = {tn_ox_dim(x, slope, 0)};
    for (uint32_t i = 1; i + 1 < rank; i++) dims[i] = tn_ox_d(x, 1);
    slope = tn_ox_reshape(x, slope, dims, rank - 1);
  }
  return tn_ox_out(x, n, 0, tn_ox_select(x, below_zero(x, v), tn_ox_binary(x, "mul", v, slope), v));
}

/* ---- Dropout
 * ------------------------------------------------------------------------------------------------ */

/* How much is dropped: nothing but in training, which has to be known. */
static bool dropped(tn_ox *x, tn_ox_node *n, double *ratio) {
  double training = 0;
  uint32_t count;
  *ratio = 0.5;
  if (tn_ox_version(n) < 12) return false;
  tn_value r = tn_ox_in(x, n, 1), t = tn_ox_in(x, n, 2);
  if (!t) return false;
  if (!tn_ox_known_floats(x, t, &training, 1, &count) || (r && !tn_ox_known_floats(x, r, ratio, 1, &count))) {
    tn_ox_refuse(x, n, "make training_mode and ratio constants", "dropout is decided by the model's inputs");
    return false;
  }
  return training != 0 && *ratio > 0;
}

tn_status tn_ox_lower_dropout(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0), mask, y = v;
  tn_dim dims[TN_MAX_RANK];
  double ratio;
  if (!v) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, v);
  tn_ox_dims(x, v, dims);
  if (dropped(x, n, &ratio)) {
    tn_value u = tn_ox_uniform(x, n, dims, rank, 0);
    mask = tn_ox_compare(x, "ge", u, tn_ox_scalar_like(x, u, ratio));
    tn_value kept = scaled(x, tn_ox_widen(x, v), ratio < 1 ? 1 / (1 - ratio) : 0);
    y = tn_ox_cast(x, tn_ox_select(x, mask, kept, tn_ox_scalar_like(x, kept, 0)), tn_ox_dtype(x, v));
  } else {
    mask = tn_ox_full(x, tn_ox_scalar_int(x, TN_DT_bool, 1), dims, rank);
  }
  if (tn_ox_version(n) < 10) mask = tn_ox_cast(x, mask, tn_ox_dtype(x, v));
  if (tn_ox_wants(n, 1)) TN_TRY(tn_ox_out(x, n, 1, mask));
  return tn_ox_out(x, n, 0, y);
}
