/* math.c - arithmetic, comparisons, logic and bits. Where ONNX and the IR mean the same a table says so; what
 * is composed of several ops is composed in f32 at least. */
#include "frontend/onnx/ops/math.h"
#include <math.h>

tn_value tn_ox_widen(tn_ox *x, tn_value v) {
  if (!v || !tn_ox_is_float(x, v) || tn_ox_dtype(x, v) == TN_DT_f64) return v;
  return tn_ox_cast(x, v, TN_DT_f32);
}

tn_value tn_ox_required(tn_ox *x, tn_ox_node *n, uint32_t i) {
  tn_value v = i < tn_ox_nin(n) ? tn_ox_in(x, n, i) : 0;
  if (!v && !tn_ox_failed(x)) tn_ox_fail(x, n, "operand %u is missing", i);
  return v;
}

tn_value tn_ox_in_scalar(tn_ox *x, tn_ox_node *n, uint32_t i) {
  tn_value v = i < tn_ox_nin(n) ? tn_ox_in(x, n, i) : 0;
  return v && tn_ox_rank(x, v) ? tn_ox_reshape(x, v, NULL, 0) : v;
}

/* Operand 1 of a pair. Before opset 7 its dims stand, where attribute axis says so, at an axis of operand 0
 * and not at the end. */
static tn_value second(tn_ox *x, tn_ox_node *n, tn_value a) {
  tn_value b = tn_ox_required(x, n, 1);
  tn_dim dims[TN_MAX_RANK];
  if (!a || !b || tn_ox_version(n) >= 7 || !tn_ox_int(n, "broadcast", 0) || !tn_ox_has_attr(n, "axis"))
    return b;
  uint32_t ra = tn_ox_rank(x, a), rb = tn_ox_rank(x, b),
           at = tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), ra + 1);
  if (at + rb > ra) {
    tn_ox_fail(x, n, "operand 1 of rank %u does not fit into rank %u at axis %u", rb, ra, at);
    return 0;
  }
  tn_ox_dims(x, b, dims);
  for (uint32_t i = rb; i < ra - at; i++) dims[i] = tn_ox_d(x, 1);
  return tn_ox_reshape(x, b, dims, ra - at);
}

static const char *renamed(const char *const (*names)[2], size_t count, const char *op) {
  for (size_t i = 0; i < count; i++)
    if (!strcmp(names[i][0], op)) return names[i][1];
  return NULL;
}

/* ---- one IR op
 * ---------------------------------------------------------------------------------------------- */

tn_status tn_ox_lower_unary(tn_ox *x, tn_ox_node *n) {
  static const char *const names[][2] = {
      {"Abs", "abs"},       {"Acos", "acos"},   {"Acosh", "acosh"}, {"Asin", "asin"}, {"Asinh", "asinh"},
      {"Atan", "atan"},     {"Atanh", "atanh"}, {"Ceil", "ceil"},   {"Cos", "cos"},   {"Cosh", "cosh"},
      {"Erf", "erf"},       {"Exp", "exp"},     {"Floor", "floor"}, {"Log", "log"},   {"Neg", "neg"},
      {"Not", "not"},       {"Relu", "relu"},   {"Round", "round"}, {"Sign", "sign"}, {"Sigmoid", "sigmoid"},
      {"Sin", "sin"},       {"Sinh", "sinh"},   {"Sqrt", "sqrt"},   {"Tan", "tan"},   {"Tanh", "tanh"},
      {"BitwiseNot", "not"}};
  tn_value v = tn_ox_required(x, n, 0);
  return tn_ox_out(x, n, 0, tn_ox_unary(x, renamed(names, TN_COUNT(names), tn_ox_op(n)), v));
}

tn_status tn_ox_lower_binary(tn_ox *x, tn_ox_node *n) {
  static const char *const names[][2] = {
      {"Add", "add"}, {"Sub", "sub"}, {"Mul", "mul"},        {"Div", "div"},      {"And", "and"},
      {"Or", "or"},   {"Xor", "xor"}, {"BitwiseAnd", "and"}, {"BitwiseOr", "or"}, {"BitwiseXor", "xor"}};
  tn_value a = tn_ox_required(x, n, 0), b = second(x, n, a);
  return tn_ox_out(x, n, 0, tn_ox_binary(x, renamed(names, TN_COUNT(names), tn_ox_op(n)), a, b));
}

tn_status tn_ox_lower_compare(tn_ox *x, tn_ox_node *n) {
  static const char *const names[][2] = {
      {"Equal", "eq"}, {"Greater", "gt"}, {"Less", "lt"}, {"GreaterOrEqual", "ge"}, {"LessOrEqual", "le"}};
  if (!strcmp(tn_ox_op(n), "Equal") && tn_ox_is_text(x, n, 0))
    return tn_ox_out(x, n, 0, tn_ox_text_equal(x, n, 0, 1));
  tn_value a = tn_ox_required(x, n, 0), b = second(x, n, a);
  return tn_ox_out(x, n, 0, tn_ox_compare(x, renamed(names, TN_COUNT(names), tn_ox_op(n)), a, b));
}

tn_status tn_ox_lower_where(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(
      x, n, 0, tn_ox_select(x, tn_ox_required(x, n, 0), tn_ox_required(x, n, 1), tn_ox_required(x, n, 2)));
}

/* Max, Min, Sum and Mean of any number of tensors. */
tn_status tn_ox_lower_variadic(tn_ox *x, tn_ox_node *n) {
  static const char *const names[][2] = {{"Max", "max"}, {"Min", "min"}, {"Sum", "add"}, {"Mean", "add"}};
  const char *op = renamed(names, TN_COUNT(names), tn_ox_op(n));
  bool mean = !strcmp(tn_ox_op(n), "Mean");
  tn_value first = tn_ox_required(x, n, 0), sum = mean ? tn_ox_widen(x, first) : first;
  for (uint32_t i = 1; i < tn_ox_nin(n); i++) {
    tn_value v = tn_ox_required(x, n, i);
    sum = tn_ox_binary(x, op, sum, mean ? tn_ox_widen(x, v) : v);
  }
  if (mean && first) {
    sum = tn_ox_binary(x, "div", sum, tn_ox_scalar_like(x, sum, tn_ox_nin(n)));
    sum = tn_ox_cast(x, sum, tn_ox_dtype(x, first));
  }
  return tn_ox_out(x, n, 0, sum);
}

/* ---- bits and remainders
 * ------------------------------------------------------------------------------------ */

/* Signed numbers shift right arithmetically: the complement of a negative one has zeros to shift in. */
tn_status tn_ox_lower_bit_shift(tn_ox *x, tn_ox_node *n) {
  const char *direction = tn_ox_str(n, "direction", "");
  tn_value a = tn_ox_required(x, n, 0), b = tn_ox_required(x, n, 1);
  bool left = !strcmp(direction, "LEFT");
  if (!left && strcmp(direction, "RIGHT"))
    return tn_ox_fail(x, n, "attribute 'direction' is '%s', wants LEFT or RIGHT", direction);
  if (!a || !b || left) return tn_ox_out(x, n, 0, tn_ox_binary(x, "shl", a, b));
  tn_dtype t = tn_ox_dtype(x, a);
  tn_value logical = tn_ox_binary(x, "shr", a, b);
  if (t != TN_DT_i8 && t != TN_DT_i16 && t != TN_DT_i32 && t != TN_DT_i64) return tn_ox_out(x, n, 0, logical);
  tn_value below = tn_ox_unary(x, "not", tn_ox_binary(x, "shr", tn_ox_unary(x, "not", a), b));
  tn_value minus = tn_ox_compare(x, "lt", a, tn_ox_scalar_int(x, t, 0));
  return tn_ox_out(x, n, 0, tn_ox_select(x, minus, below, logical));
}

tn_status tn_ox_lower_mod(tn_ox *x, tn_ox_node *n) {
  int64_t fmod = tn_ox_int(n, "fmod", 0);
  tn_value a = tn_ox_required(x, n, 0), b = tn_ox_required(x, n, 1);
  if (fmod != 0 && fmod != 1)
    return tn_ox_fail(x, n, "attribute 'fmod' is %lld, wants 0 or 1", (long long)fmod);
  bool real = a && tn_ox_is_float(x, a);
  if (real && !fmod && tn_ox_version(n) < 28)
    return tn_ox_fail(x, n, "attribute 'fmod' is 0 for floats; before opset 28 they want 1");
  tn_value r = tn_ox_binary(x, fmod ? "fmod" : "mod", a, b);
  if (real && !fmod) { /* mod by zero gives 0 in the IR */
    tn_value none = tn_ox_compare(x, "eq", b, tn_ox_scalar_like(x, b, 0));
    r = tn_ox_select(x, none, tn_ox_scalar_like(x, a, (double)NAN), r);
  }
  return tn_ox_out(x, n, 0, r);
}

/* The result has the type of the base; an exponent of another type is converted. With a float above an
 * integer both become f64, where a whole power of a whole number is the whole number next to what comes out.
 */
tn_status tn_ox_lower_pow(tn_ox *x, tn_ox_node *n) {
  tn_value a = tn_ox_required(x, n, 0), b = second(x, n, a);
  if (!a || !b) return tn_ox_out(x, n, 0, 0);
  tn_dtype t = tn_ox_dtype(x, a);
  bool mixed = !tn_ox_is_float(x, a) && tn_ox_is_float(x, b);
  if (!mixed) return tn_ox_out(x, n, 0, tn_ox_binary(x, "pow", a, tn_ox_cast(x, b, t)));
  b = tn_ox_cast(x, b, TN_DT_f64);
  tn_value r = tn_ox_binary(x, "pow", tn_ox_cast(x, a, TN_DT_f64), b);
  tn_value whole = tn_ox_compare(x, "eq", tn_ox_unary(x, "floor", b), b);
  r = tn_ox_select(x, whole, tn_ox_unary(x, "round", r), r);
  return tn_ox_out(x, n, 0, tn_ox_cast(x, r, t));
}

tn_status tn_ox_lower_reciprocal(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  return tn_ox_out(x, n, 0, tn_ox_binary(x, "div", tn_ox_scalar_like(x, v, 1), v));
}

/* ---- tests of floats
 * ---------------------------------------------------------------------------------------- */

tn_status tn_ox_lower_is_nan(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  return tn_ox_out(x, n, 0, tn_ox_compare(x, "ne", v, v));
}

/* Most of the narrow floats have no infinity to compare with. */
tn_status tn_ox_lower_is_inf(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_widen(x, tn_ox_required(x, n, 0));
  bool minus = tn_ox_int(n, "detect_negative", 1), plus = tn_ox_int(n, "detect_positive", 1);
  if (plus && minus) v = tn_ox_unary(x, "abs", v);
  tn_value limit = tn_ox_scalar_like(x, v, plus ? INFINITY : -INFINITY);
  if (!plus && !minus) return tn_ox_out(x, n, 0, tn_ox_compare(x, "lt", v, v));
  return tn_ox_out(x, n, 0, tn_ox_compare(x, "eq", v, limit));
}

/* ---- Clip
 * --------------------------------------------------------------------------------------------------- */

static tn_value limit_of(tn_ox *x, tn_ox_node *n, tn_value v, uint32_t i, const char *attribute) {
  if (tn_ox_version(n) >= 11) return tn_ox_in_scalar(x, n, i);
  return tn_ox_has_attr(n, attribute) ? tn_ox_scalar_like(x, v, tn_ox_float(n, attribute, 0)) : 0;
}

tn_status tn_ox_lower_clip(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0), low = limit_of(x, n, v, 1, "min"), high = limit_of(x, n, v, 2, "max");
  if (low) v = tn_ox_binary(x, "max", v, low);
  if (high) v = tn_ox_binary(x, "min", v, high);
  return tn_ox_out(x, n, 0, v);
}
