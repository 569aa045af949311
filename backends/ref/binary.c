/* binary.c - elementwise kernels of two and three operands. Integers wrap; unsigned ones have bodies of their
 * own where signs matter, because u64 travels as its bit pattern. */
#include "elementwise.h"
#include <math.h>

#define BODY(name, field, type, expr)                                                                        \
  static void name(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {                  \
    (void)ctx;                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      type a = (type)in[0].field[i], b = (type)in[1].field[i];                                               \
      out->field[i] = (expr);                                                                                \
    }                                                                                                        \
  }
#define NUMBER_OP(op, fexpr, sexpr, uexpr)                                                                   \
  BODY(op##_floats, f, double, fexpr)                                                                        \
  BODY(op##_signed, i, int64_t, sexpr)                                                                       \
  BODY(op##_unsigned, i, uint64_t, (int64_t)(uexpr))                                                         \
  tn_status tn_ref_op_##op(tn_ref_call *c) { return run(c, op##_floats, op##_signed, op##_unsigned); }

static tn_status run(tn_ref_call *c, tn_ref_body floats, tn_ref_body sints, tn_ref_body uints) {
  uint32_t cls = tn_ref_class(c->in[0].dtype);
  return tn_ref_elementwise(c, cls == TN_CLASS_FLOAT ? floats : cls == TN_CLASS_INT ? sints : uints, NULL);
}

/* The most negative number over -1 wraps like negation. */
static int64_t divide(int64_t a, int64_t b) { return !b ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; }

static int64_t python_mod(int64_t a, int64_t b) {
  if (!b || b == -1) return 0;
  int64_t r = a % b;
  return r && (r < 0) != (b < 0) ? r + b : r;
}

static int64_t c_mod(int64_t a, int64_t b) { return !b || b == -1 ? 0 : a % b; }

static double python_fmod(double a, double b) {
  if (b == 0) return isnan(a) ? a : 0;
  double r = fmod(a, b);
  return r == 0 ? copysign(0, b) : (r < 0) != (b < 0) ? r + b : r;
}

static uint64_t power(uint64_t a, uint64_t b) {
  uint64_t r = 1;
  for (; b; b >>= 1, a *= a)
    if (b & 1) r *= a;
  return r;
}

/* a to a negative power is 0 between -1 and 1, so that only the powers of 1 and -1 remain. */
static int64_t signed_power(int64_t a, int64_t b) {
  if (b >= 0) return (int64_t)power((uint64_t)a, (uint64_t)b);
  return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
}

NUMBER_OP(add, a + b, (int64_t)((uint64_t)a + (uint64_t)b), a + b)
NUMBER_OP(sub, a - b, (int64_t)((uint64_t)a - (uint64_t)b), a - b)
NUMBER_OP(mul, a *b, (int64_t)((uint64_t)a * (uint64_t)b), a *b)
NUMBER_OP(div, a / b, divide(a, b), b ? a / b : 0)
NUMBER_OP(fmod, fmod(a, b), c_mod(a, b), b ? a % b : 0)
NUMBER_OP(pow, pow(a, b), signed_power(a, b), power(a, b))
NUMBER_OP(min, isnan(a) || a < b ? a : b, a < b ? a : b, a < b ? a : b)
NUMBER_OP(max, isnan(a) || a > b ? a : b, a > b ? a : b, a > b ? a : b)
NUMBER_OP(mod, python_fmod(a, b), python_mod(a, b), b ? a % b : 0)

/* Bools are 0 and 1, so that bitwise is logical. */
#define LOGIC_OP(op, expr)                                                                                   \
  BODY(op##_bits, i, int64_t, expr)                                                                          \
  tn_status tn_ref_op_##op(tn_ref_call *c) { return tn_ref_elementwise(c, op##_bits, NULL); }
LOGIC_OP(and, a &b)
LOGIC_OP(or, a | b)
LOGIC_OP(xor, a ^ b)

#define COMPARE(op, expr)                                                                                    \
  static void op##_floats(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {           \
    (void)ctx;                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      double a = in[0].f[i], b = in[1].f[i];                                                                 \
      out->i[i] = (expr);                                                                                    \
    }                                                                                                        \
  }                                                                                                          \
  BODY(op##_signed, i, int64_t, expr)                                                                        \
  BODY(op##_unsigned, i, uint64_t, (int64_t)(expr))
COMPARE(eq, a == b)
COMPARE(ne, a != b)
COMPARE(lt, a < b)
COMPARE(le, a <= b)
COMPARE(gt, a > b)
COMPARE(ge, a >= b)

tn_status tn_ref_op_compare(tn_ref_call *c) {
#define ROW(op)                                                                                              \
  { #op, op##_floats, op##_signed, op##_unsigned }
  static const struct {
    const char *cmp;
    tn_ref_body floats, sints, uints;
  } rows[] = {ROW(eq), ROW(ne), ROW(lt), ROW(le), ROW(gt), ROW(ge)};
#undef ROW
  const char *cmp = tn_ref_attr(c, "cmp").u.s;
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(cmp, rows[i].cmp)) return run(c, rows[i].floats, rows[i].sints, rows[i].uints);
  return tn_ref_fail(c, TN_INVALID, "no comparison '%s'", cmp);
}

/* Bits beyond the type's own were cut off when the operand was loaded, but for the sign's, which shr masks.
 */
static void shl_bits(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {
  uint64_t width = *(const uint32_t *)ctx;
  for (int64_t i = 0; i < n; i++) {
    uint64_t a = (uint64_t)in[0].i[i], b = (uint64_t)in[1].i[i];
    out->i[i] = b < width ? (int64_t)(a << b) : 0;
  }
}
static void shr_bits(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {
  uint64_t width = *(const uint32_t *)ctx, mask = UINT64_MAX >> (64 - width);
  for (int64_t i = 0; i < n; i++) {
    uint64_t a = (uint64_t)in[0].i[i] & mask, b = (uint64_t)in[1].i[i];
    out->i[i] = b < width ? (int64_t)(a >> b) : 0;
  }
}
tn_status tn_ref_op_shl(tn_ref_call *c) {
  uint32_t width = tn_ref_bits(c->in[0].dtype);
  return tn_ref_elementwise(c, shl_bits, &width);
}
tn_status tn_ref_op_shr(tn_ref_call *c) {
  uint32_t width = tn_ref_bits(c->in[0].dtype);
  return tn_ref_elementwise(c, shr_bits, &width);
}

/* Copies 64-bit patterns: a double's or an integer's. */
static void select_any(const void *ctx, const tn_ref_chunk *in, tn_ref_chunk *out, int64_t n) {
  (void)ctx;
  for (int64_t i = 0; i < n; i++) out->i[i] = in[0].i[i] ? in[1].i[i] : in[2].i[i];
}
tn_status tn_ref_op_select(tn_ref_call *c) { return tn_ref_elementwise(c, select_any, NULL); }
