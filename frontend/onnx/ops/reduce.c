/* reduce.c - reductions, and what runs along one axis: ArgMax, ArgMin, CumSum, CumProd, Softmax, LogSoftmax,
 * Hardmax. Before opset 13 the last three saw a matrix: the dims before the axis, and those from it on. */
#include "frontend/onnx/ops/math.h"
#include <math.h>

/* ---- Reduce*
 * ------------------------------------------------------------------------------------------------ */

typedef struct axes {
  int64_t at[TN_MAX_RANK];
  uint32_t n;
  bool keep, none; /* none: nothing is reduced, the operand is only mapped */
} axes;

static bool read_axes(tn_ox *x, tn_ox_node *n, tn_value v, axes *a) {
  bool sum = !strcmp(tn_ox_op(n), "ReduceSum"), input = tn_ox_version(n) >= (sum ? 13 : 18);
  a->keep = tn_ox_int(n, "keepdims", 1);
  tn_value given = input && tn_ox_nin(n) > 1 ? tn_ox_in(x, n, 1) : 0;
  if (given && !tn_ox_known_ints(x, given, a->at, TN_MAX_RANK, &a->n)) {
    tn_ox_refuse(x, n, "make the axes a constant", "the axes depend on the model's inputs");
    return false;
  }
  if (!input) {
    const int64_t *list = tn_ox_ints(n, "axes", &a->n);
    if (a->n > TN_MAX_RANK) {
      tn_ox_fail(x, n, "attribute 'axes' has %u entries, at most %d are possible", a->n, TN_MAX_RANK);
      return false;
    }
    for (uint32_t i = 0; i < a->n; i++) a->at[i] = list[i];
  }
  for (uint32_t i = 0; i < a->n; i++) a->at[i] = tn_ox_axis(x, n, a->at[i], tn_ox_rank(x, v));
  a->none = !a->n && tn_ox_int(n, "noop_with_empty_axes", 0);
  return !tn_ox_failed(x);
}

static tn_value over(tn_ox *x, const char *op, tn_value v, const axes *a) {
  return a->none ? v : tn_ox_reduce(x, op, v, a->at, a->n, a->keep);
}
static tn_value square(tn_ox *x, tn_value v) { return tn_ox_binary(x, "mul", v, v); }

/* log of the sum of e^v, the largest taken out of it unless it is infinite. */
static tn_value log_sum_exp(tn_ox *x, tn_value v, const axes *a) {
  axes keep = *a;
  keep.keep = true;
  tn_value top = over(x, "reduce_max", v, &keep), inf = tn_ox_scalar_like(x, v, INFINITY);
  tn_value infinite = tn_ox_compare(x, "eq", tn_ox_unary(x, "abs", top), inf);
  top = tn_ox_select(x, infinite, tn_ox_scalar_like(x, v, 0), top);
  tn_value sum = over(x, "reduce_sum", tn_ox_unary(x, "exp", tn_ox_binary(x, "sub", v, top)), &keep);
  tn_value y = tn_ox_binary(x, "add", tn_ox_unary(x, "log", sum), top);
  if (a->keep || a->none || !y) return y;
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank = 0;
  for (uint32_t i = 0; i < tn_ox_rank(x, v); i++) {
    bool gone = !a->n;
    for (uint32_t j = 0; j < a->n; j++) gone |= a->at[j] == (int64_t)i;
    if (!gone) dims[rank++] = tn_ox_dim(x, v, i);
  }
  return tn_ox_reshape(x, y, dims, rank);
}

/* Reductions that are one op of the IR; bools are numbers of u8 for it. */
static tn_value plain(tn_ox *x, const char *op, tn_value v, const axes *a) {
  bool logic = v && tn_ox_dtype(x, v) == TN_DT_bool;
  tn_value y = over(x, op, logic ? tn_ox_cast(x, v, TN_DT_u8) : v, a);
  return logic ? tn_ox_cast(x, y, TN_DT_bool) : y;
}

static tn_value composed(tn_ox *x, const char *op, tn_value v, const axes *a) {
  if (!strcmp(op, "ReduceL1")) return over(x, "reduce_sum", tn_ox_unary(x, "abs", v), a);
  if (!strcmp(op, "ReduceL2")) return tn_ox_unary(x, "sqrt", over(x, "reduce_sum", square(x, v), a));
  if (!strcmp(op, "ReduceSumSquare")) return over(x, "reduce_sum", square(x, v), a);
  if (!strcmp(op, "ReduceLogSum")) return tn_ox_unary(x, "log", over(x, "reduce_sum", v, a));
  return log_sum_exp(x, v, a);
}

tn_status tn_ox_lower_reduce(tn_ox *x, tn_ox_node *n) {
  static const char *const names[][2] = {{"ReduceMax", "reduce_max"},
                                         {"ReduceMin", "reduce_min"},
                                         {"ReduceSum", "reduce_sum"},
                                         {"ReduceMean", "reduce_mean"},
                                         {"ReduceProd", "reduce_prod"}};
  const char *op = tn_ox_op(n);
  tn_value v = tn_ox_required(x, n, 0);
  axes a = {.n = 0};
  if (!v || !read_axes(x, n, v, &a)) return tn_ox_out(x, n, 0, 0);
  for (size_t i = 0; i < TN_COUNT(names); i++)
    if (!strcmp(op, names[i][0])) return tn_ox_out(x, n, 0, plain(x, names[i][1], v, &a));
  bool whole = !strcmp(op, "ReduceL1") || !strcmp(op, "ReduceSumSquare");
  tn_value wide = tn_ox_is_float(x, v) || whole ? tn_ox_widen(x, v) : tn_ox_cast(x, v, TN_DT_f64);
  return tn_ox_out(x, n, 0, tn_ox_cast(x, composed(x, op, wide, &a), tn_ox_dtype(x, v)));
}

/* ---- along one axis
 * ----------------------------------------------------------------------------------------- */

tn_status tn_ox_lower_arg(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  if (!v) return tn_ox_out(x, n, 0, 0);
  const char *op = !strcmp(tn_ox_op(n), "ArgMax") ? "argmax" : "argmin";
  uint32_t axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), tn_ox_rank(x, v));
  bool keep = tn_ox_int(n, "keepdims", 1), last = tn_ox_int(n, "select_last_index", 0);
  return tn_ox_out(
      x, n, 0,
      tn_ox_make(x, op, &v, 1,
                 TN_OX_ATTRS(TN_OX_INT("axis", axis), TN_OX_BOOL("keep", keep), TN_OX_BOOL("last", last))));
}

tn_status tn_ox_lower_running(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0), which = tn_ox_required(x, n, 1);
  int64_t axis;
  uint32_t count;
  if (!v || !which) return tn_ox_out(x, n, 0, 0);
  if (!tn_ox_known_ints(x, which, &axis, 1, &count) || count != 1)
    return tn_ox_refuse(x, n, "make the axis a constant", "the axis depends on the model's inputs");
  axis = tn_ox_axis(x, n, axis, tn_ox_rank(x, v));
  const char *op = !strcmp(tn_ox_op(n), "CumSum") ? "cumsum" : "cumprod";
  bool exclusive = tn_ox_int(n, "exclusive", 0), reverse = tn_ox_int(n, "reverse", 0);
  return tn_ox_out(x, n, 0,
                   tn_ox_make(x, op, &v, 1,
                              TN_OX_ATTRS(TN_OX_INT("axis", axis), TN_OX_BOOL("exclusive", exclusive),
                                          TN_OX_BOOL("reverse", reverse))));
}

tn_value tn_ox_log_softmax(tn_ox *x, tn_value v, int64_t axis) {
  tn_value wide = tn_ox_widen(x, v), top = tn_ox_reduce(x, "reduce_max", wide, &axis, 1, true);
  tn_value rest = tn_ox_binary(x, "sub", wide, top);
  tn_value sum = tn_ox_reduce(x, "reduce_sum", tn_ox_unary(x, "exp", rest), &axis, 1, true);
  return v ? tn_ox_cast(x, tn_ox_binary(x, "sub", rest, tn_ox_unary(x, "log", sum)), tn_ox_dtype(x, v)) : 0;
}

tn_value tn_ox_one_hot(tn_ox *x, tn_value v, tn_value indices, int64_t axis) {
  tn_dim dims[TN_MAX_RANK];
  if (!v || !indices) return 0;
  uint32_t rank = tn_ox_rank(x, v);
  for (uint32_t i = 0; i < rank; i++) dims[i] = i == (uint32_t)axis ? tn_ox_dim(x, v, i) : tn_ox_d(x, 1);
  return tn_ox_compare(x, "eq", tn_ox_iota(x, TN_DT_i64, dims, rank, axis), indices);
}

static tn_value hardmax(tn_ox *x, tn_value v, int64_t axis) {
  tn_value at =
      tn_ox_make(x, "argmax", &v, 1, TN_OX_ATTRS(TN_OX_INT("axis", axis), TN_OX_BOOL("keep", true)));
  return tn_ox_cast(x, tn_ox_one_hot(x, v, at, axis), tn_ox_dtype(x, v));
}

tn_status tn_ox_lower_softmax(tn_ox *x, tn_ox_node *n) {
  const char *op = tn_ox_op(n);
  bool matrix = tn_ox_version(n) < 13;
  tn_value v = tn_ox_required(x, n, 0), y = v;
  tn_dim dims[TN_MAX_RANK], two[2];
  if (!v) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, v);
  tn_ox_dims(x, v, dims);
  int64_t stated = tn_ox_int(n, "axis", matrix ? 1 : -1);
  uint32_t axis = matrix && stated == (int64_t)rank ? rank : tn_ox_axis(x, n, stated, rank);
  if (matrix) {
    two[0] = two[1] = tn_ox_d(x, 1);
    for (uint32_t i = 0; i < rank; i++) two[i >= axis] = tn_ox_dmul(x, two[i >= axis], dims[i]);
    y = tn_ox_reshape(x, v, two, 2);
    axis = 1;
  }
  y = !strcmp(op, "Softmax")   ? tn_ox_softmax(x, y, axis)
      : !strcmp(op, "Hardmax") ? (y ? hardmax(x, y, axis) : 0)
                               : tn_ox_log_softmax(x, y, axis);
  return tn_ox_out(x, n, 0, matrix ? tn_ox_reshape(x, y, dims, rank) : y);
}
