/* training.c - the optimisers of ai.onnx.preview.training: plain arithmetic on a rate, an update count and
 * groups of tensors. Operands come as all tensors, then all gradients, then the states; results likewise. */
#include "frontend/onnx/ops/math.h"

static tn_value plus(tn_ox *x, tn_value a, tn_value b) { return tn_ox_binary(x, "add", a, b); }
static tn_value times(tn_ox *x, tn_value a, tn_value b) { return tn_ox_binary(x, "mul", a, b); }
static tn_value scaled(tn_ox *x, tn_value v, double by) { return times(x, v, tn_ox_scalar_like(x, v, by)); }

/* The gradient with the regularisation's: norm v + g. */
static tn_value regularized(tn_ox *x, tn_ox_node *n, tn_value v, tn_value g) {
  return plus(x, scaled(x, v, tn_ox_float(n, "norm_coefficient", 0)), g);
}
/* The update count as a number of v's type. */
static tn_value count_like(tn_ox *x, tn_ox_node *n, tn_value v) {
  return v ? tn_ox_cast(x, tn_ox_in_scalar(x, n, 1), tn_ox_dtype(x, v)) : 0;
}
static tn_value root(tn_ox *x, tn_ox_node *n, tn_value v) {
  return plus(x, tn_ox_unary(x, "sqrt", v), tn_ox_scalar_like(x, v, tn_ox_float(n, "epsilon", 1e-6)));
}
static tn_value later(tn_ox *x, tn_value t) { return tn_ox_compare(x, "gt", t, tn_ox_scalar_like(x, t, 0)); }

/* How many tensors there are; `states`: operands of each, itself and its gradient included. */
static bool groups(tn_ox *x, tn_ox_node *n, uint32_t states, uint32_t *count) {
  uint32_t rest = tn_ox_nin(n) < 2 ? 1 : tn_ox_nin(n) - 2;
  *count = rest / states;
  if (rest % states == 0 && *count) return true;
  tn_ox_fail(x, n, "%u operands, wants a rate, a count and %u for each tensor", tn_ox_nin(n), states);
  return false;
}

tn_status tn_ox_lower_adagrad(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  if (!groups(x, n, 3, &count)) return TN_INVALID;
  for (uint32_t i = 0; i < count; i++) {
    tn_value v = tn_ox_required(x, n, 2 + i), h = tn_ox_required(x, n, 2 + 2 * count + i),
             t = count_like(x, n, v);
    tn_value g = regularized(x, n, v, tn_ox_required(x, n, 2 + count + i)), rate = tn_ox_in_scalar(x, n, 0);
    tn_value decay = plus(x, scaled(x, t, tn_ox_float(n, "decay_factor", 0)), tn_ox_scalar_like(x, t, 1));
    rate = tn_ox_binary(x, "div", rate, decay);
    h = plus(x, h, times(x, g, g));
    tn_value step = tn_ox_binary(x, "div", times(x, rate, g), root(x, n, h));
    TN_TRY(tn_ox_out(x, n, i, tn_ox_binary(x, "sub", v, step)));
    TN_TRY(tn_ox_out(x, n, count + i, h));
  }
  return TN_OK;
}

/* 1 - base^t */
static tn_value correction(tn_ox *x, tn_value t, double base) {
  tn_value one = tn_ox_scalar_like(x, t, 1);
  return tn_ox_binary(x, "sub", one, tn_ox_binary(x, "pow", tn_ox_scalar_like(x, t, base), t));
}

tn_status tn_ox_lower_adam(tn_ox *x, tn_ox_node *n) {
  double alpha = tn_ox_float(n, "alpha", 0.9f), beta = tn_ox_float(n, "beta", 0.999f);
  uint32_t count;
  if (!groups(x, n, 4, &count)) return TN_INVALID;
  for (uint32_t i = 0; i < count; i++) {
    tn_value v = tn_ox_required(x, n, 2 + i), m = tn_ox_required(x, n, 2 + 2 * count + i),
             h = tn_ox_required(x, n, 2 + 3 * count + i);
    tn_value g = regularized(x, n, v, tn_ox_required(x, n, 2 + count + i)), t = count_like(x, n, v);
    tn_value rate = tn_ox_in_scalar(x, n, 0);
    m = plus(x, scaled(x, m, alpha), scaled(x, g, 1 - alpha));
    h = plus(x, scaled(x, h, beta), scaled(x, times(x, g, g), 1 - beta));
    tn_value unbiased =
        tn_ox_binary(x, "div", tn_ox_unary(x, "sqrt", correction(x, t, beta)), correction(x, t, alpha));
    rate = tn_ox_select(x, later(x, t), times(x, rate, unbiased), rate);
    v = tn_ox_binary(x, "sub", v, times(x, rate, tn_ox_binary(x, "div", m, root(x, n, h))));
    v = scaled(x, v, 1 - tn_ox_float(n, "norm_coefficient_post", 0));
    TN_TRY(tn_ox_out(x, n, i, v));
    TN_TRY(tn_ox_out(x, n, count + i, m));
    TN_TRY(tn_ox_out(x, n, 2 * count + i, h));
  }
  return TN_OK;
}

tn_status tn_ox_lower_momentum(tn_ox *x, tn_ox_node *n) {
  double alpha = tn_ox_float(n, "alpha", 0), beta = tn_ox_float(n, "beta", 0);
  const char *mode = tn_ox_str(n, "mode", "");
  bool nesterov = !strcmp(mode, "nesterov");
  uint32_t count;
  if (!nesterov && strcmp(mode, "standard"))
    return tn_ox_fail(x, n, "attribute 'mode' is '%s', wants standard or nesterov", mode);
  if (!groups(x, n, 3, &count)) return TN_INVALID;
  for (uint32_t i = 0; i < count; i++) {
    tn_value v = tn_ox_required(x, n, 2 + i), m = tn_ox_required(x, n, 2 + 2 * count + i),
             t = count_like(x, n, v);
    tn_value g = regularized(x, n, v, tn_ox_required(x, n, 2 + count + i));
    tn_value weight = tn_ox_select(x, later(x, t), tn_ox_scalar_like(x, t, beta), tn_ox_scalar_like(x, t, 1));
    m = plus(x, scaled(x, m, alpha), times(x, weight, g));
    tn_value step = nesterov ? plus(x, g, scaled(x, m, alpha)) : m;
    TN_TRY(tn_ox_out(x, n, i, tn_ox_binary(x, "sub", v, times(x, tn_ox_in_scalar(x, n, 0), step))));
    TN_TRY(tn_ox_out(x, n, count + i, m));
  }
  return TN_OK;
}
