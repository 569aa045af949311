/* unary.c - elementwise kernels of one operand. */
#include "elementwise.h"
#include <math.h>

/* A kernel of floats: `expr` of x. */
#define FLOATS(op, expr)                                                                                     \
  static void op##_floats(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {           \
    (void)ctx;                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      double x = in->f[i];                                                                                   \
      out->f[i] = (expr);                                                                                    \
    }                                                                                                        \
  }
#define INTS(op, expr)                                                                                       \
  static void op##_ints(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {             \
    (void)ctx;                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      int64_t x = in->i[i];                                                                                  \
      out->i[i] = (expr);                                                                                    \
    }                                                                                                        \
  }
#define FLOAT_OP(op, expr)                                                                                   \
  FLOATS(op, expr)                                                                                           \
  tn_status tn_ref_op_##op(tn_ref_call *c) { return tn_ref_elementwise(c, op##_floats, NULL); }
#define NUMBER_OP(op, fexpr, iexpr)                                                                          \
  FLOATS(op, fexpr)                                                                                          \
  INTS(op, iexpr)                                                                                            \
  tn_status tn_ref_op_##op(tn_ref_call *c) {                                                                 \
    return tn_ref_elementwise(c, tn_ref_is_float(c->in[0].dtype) ? op##_floats : op##_ints, NULL);           \
  }

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static int64_t negated(int64_t x) { return (int64_t)(0 - (uint64_t)x); }

FLOAT_OP(exp, exp(x))
FLOAT_OP(log, log(x))
FLOAT_OP(sqrt, sqrt(x))
FLOAT_OP(rsqrt, 1 / sqrt(x))
FLOAT_OP(tanh, tanh(x))
FLOAT_OP(sigmoid, sigmoid(x))
FLOAT_OP(erf, erf(x))
FLOAT_OP(sin, sin(x))
FLOAT_OP(cos, cos(x))
FLOAT_OP(tan, tan(x))
FLOAT_OP(asin, asin(x))
FLOAT_OP(acos, acos(x))
FLOAT_OP(atan, atan(x))
FLOAT_OP(sinh, sinh(x))
FLOAT_OP(cosh, cosh(x))
FLOAT_OP(asinh, asinh(x))
FLOAT_OP(acosh, acosh(x))
FLOAT_OP(atanh, atanh(x))
FLOAT_OP(expm1, expm1(x))
FLOAT_OP(log1p, log1p(x))
FLOAT_OP(floor, floor(x))
FLOAT_OP(ceil, ceil(x))
FLOAT_OP(round, nearbyint(x))
FLOAT_OP(silu, x / (1 + exp(-x)))
NUMBER_OP(neg, -x, negated(x))

/* abs, sign and relu of u64: the bit pattern is never negative. */
#define SIGNED_OP(op, fexpr, iexpr, uexpr)                                                                   \
  FLOATS(op, fexpr)                                                                                          \
  INTS(op, iexpr)                                                                                            \
  static void op##_unsigned(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {         \
    (void)ctx;                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      int64_t x = in->i[i];                                                                                  \
      out->i[i] = (uexpr);                                                                                   \
    }                                                                                                        \
  }                                                                                                          \
  tn_status tn_ref_op_##op(tn_ref_call *c) {                                                                 \
    uint32_t cls = tn_ref_class(c->in[0].dtype);                                                             \
    return tn_ref_elementwise(c,                                                                             \
                              cls == TN_CLASS_FLOAT  ? op##_floats                                           \
                              : cls == TN_CLASS_UINT ? op##_unsigned                                         \
                                                     : op##_ints,                                            \
                              NULL);                                                                         \
  }
SIGNED_OP(abs, fabs(x), x < 0 ? negated(x) : x, x)
SIGNED_OP(sign, isnan(x) ? x : (double)((x > 0) - (x < 0)), (x > 0) - (x < 0), x != 0)
SIGNED_OP(relu, isnan(x) || x > 0 ? x : 0, x > 0 ? x : 0, x)

INTS(not_bool, !x)
INTS(not_bits, ~x)
tn_status tn_ref_op_not(tn_ref_call *c) {
  return tn_ref_elementwise(c, c->in[0].dtype == TN_DT_bool ? not_bool_ints : not_bits_ints, NULL);
}

/* erfc keeps the small values of the lower tail. */
FLOATS(gelu_erf, 0.5 * x * erfc(-x * 0.70710678118654752440))
FLOATS(gelu_tanh, 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))))
FLOATS(gelu_quick, x *sigmoid(1.702 * x))
tn_status tn_ref_op_gelu(tn_ref_call *c) {
  static const struct {
    const char *form;
    tn_ref_body body;
  } forms[] = {{"erf", gelu_erf_floats}, {"tanh", gelu_tanh_floats}, {"quick", gelu_quick_floats}};
  const char *form = tn_ref_attr(c, "form").u.s;
  for (size_t i = 0; i < TN_COUNT(forms); i++)
    if (!strcmp(form, forms[i].form)) return tn_ref_elementwise(c, forms[i].body, NULL);
  return tn_ref_fail(c, TN_INVALID, "no form '%s' of gelu", form);
}

/* To floats of 8 bits, when an attribute says what is beyond their numbers or how f8e8m0 rounds. */
static tn_status cast_narrow(tn_ref_call *c, const char *overflow, const char *round) {
  const tn_ref_tensor *x = &c->in[0];
  int up = !strcmp(round, "up") ? 1 : !strcmp(round, "down") ? -1 : 0;
  int64_t n = tn_ref_count(x);
  for (int64_t i = 0; i < n; i++)
    tn_ref_set_narrow(&c->out[0], i, tn_ref_get(x, i), !strcmp(overflow, "largest"), up);
  return TN_OK;
}

/* Integers among themselves wrap; everything else goes through a double. */
tn_status tn_ref_op_cast(tn_ref_call *c) {
  const tn_ref_tensor *x = &c->in[0];
  const char *overflow = tn_ref_attr(c, "overflow").u.s, *round = tn_ref_attr(c, "round").u.s;
  bool narrow = tn_ref_is_float(c->out[0].dtype) && tn_ref_bits(c->out[0].dtype) == 8;
  if (narrow && (strcmp(overflow, "type") || strcmp(round, "nearest")))
    return cast_narrow(c, overflow, round);
  int64_t n = tn_ref_count(x);
  bool u64_to_float = x->dtype == TN_DT_u64 && tn_ref_is_float(c->out[0].dtype);
  if (tn_ref_is_float(x->dtype) || u64_to_float)
    for (int64_t i = 0; i < n; i++) tn_ref_set(&c->out[0], i, tn_ref_get(x, i));
  else
    for (int64_t i = 0; i < n; i++) tn_ref_set_int(&c->out[0], i, tn_ref_get_int(x, i));
  return TN_OK;
}

tn_status tn_ref_op_bitcast(tn_ref_call *c) {
  uint64_t bytes = tn_ref_bytes(c->ir, &c->out[0]);
  if (bytes) memcpy(c->out[0].data, c->in[0].data, bytes);
  return TN_OK;
}
