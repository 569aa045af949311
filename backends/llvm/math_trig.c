/* math_trig.c - tangent, and the inverse and hyperbolic functions. All of them are series in f64, also for
 * f32 operands: they are rare, and one rounding at the end costs less than a second set of coefficients.
 * Range reductions keep every series below 2^-53 of its first term. */
#include "backends/llvm/math.h"

#define PI_2 1.57079632679489661923
#define PI_4 0.78539816339744830962
#define LN2 0.69314718055994530942

typedef ll_val (*in_f64)(tn_ll *e, ll_val x);
static ll_val through_f64(tn_ll *e, ll_val x, in_f64 fn) {
  if (ll_elem(x) == e->f64) return fn(e, x);
  ll_val r = fn(e, LLVMBuildFPExt(e->b, x, ll_like(e, x, e->f64), ""));
  return LLVMBuildFPTrunc(e->b, r, LLVMTypeOf(x), "");
}
static ll_val size_of(tn_ll *e, ll_val x) { return ll_call1(e, "llvm.fabs", x); }
static ll_val signed_as(tn_ll *e, ll_val size, ll_val x) { return ll_call2(e, "llvm.copysign", size, x); }
static ll_val above(tn_ll *e, ll_val x, double limit) {
  return ll_fcmp(e, LLVMRealOGT, x, ll_f(e, x, limit));
}
static ll_val scaled(tn_ll *e, ll_val x, double by) { return ll_fmul(e, x, ll_f(e, x, by)); }

static ll_val tan64(tn_ll *e, ll_val x) { return ll_fdiv(e, tn_ll_sin(e, x), tn_ll_cos(e, x)); }

/* ---- inverse trigonometric functions ---- */
/* |x| <= tan(pi / 8): x - x^3 / 3 + ... */
static ll_val atan_near(tn_ll *e, ll_val x) {
  double c[22];
  for (int i = 0; i < 22; i++) c[i] = (i % 2 ? 1.0 : -1.0) / (2 * i + 3);
  ll_val s = ll_fmul(e, x, x);
  return ll_fma(e, ll_fmul(e, ll_poly(e, s, c, TN_COUNT(c)), s), x, x);
}
/* Above 1 the complement of the reciprocal; above tan(pi / 8) what is more than a quarter of a right angle.
 */
static ll_val atan64(tn_ll *e, ll_val x) {
  ll_val a = size_of(e, x), one = ll_f(e, x, 1), large = above(e, a, 1);
  ll_val t = ll_select(e, large, ll_fdiv(e, one, a), a), far = above(e, t, 0.41421356237309504880);
  ll_val turned = ll_fdiv(e, ll_fsub(e, t, one), ll_fadd(e, t, one));
  ll_val r = atan_near(e, ll_select(e, far, turned, t));
  r = ll_select(e, far, ll_fadd(e, r, ll_f(e, x, PI_4)), r);
  return signed_as(e, ll_select(e, large, ll_fsub(e, ll_f(e, x, PI_2), r), r), x);
}

/* 0 <= x <= 1 / 2: x + x^3 / 6 + ... */
static ll_val asin_near(tn_ll *e, ll_val x) {
  double c[26], t = 1;
  for (int i = 0; i < 26; i++) {
    t *= (2.0 * i + 1) / (2.0 * i + 2);
    c[i] = t / (2 * i + 3);
  }
  ll_val s = ll_fmul(e, x, x);
  return ll_fma(e, ll_fmul(e, ll_poly(e, s, c, TN_COUNT(c)), s), x, x);
}
/* asin of a >= 0 below 1 / 2; else asin of sqrt((1 - a) / 2), which is half of acos(a). NaN above 1. */
static ll_val asin_part(tn_ll *e, ll_val a, ll_val far) {
  ll_val half = ll_call1(e, "llvm.sqrt", scaled(e, ll_fsub(e, ll_f(e, a, 1), a), 0.5));
  return asin_near(e, ll_select(e, far, half, a));
}
static ll_val asin64(tn_ll *e, ll_val x) {
  ll_val a = size_of(e, x), far = above(e, a, 0.5), r = asin_part(e, a, far);
  ll_val rest = ll_fsub(e, ll_f(e, x, PI_2), scaled(e, r, 2));
  return signed_as(e, ll_select(e, far, rest, r), x);
}
static ll_val acos64(tn_ll *e, ll_val x) {
  ll_val a = size_of(e, x), far = above(e, a, 0.5), r = asin_part(e, a, far), twice = scaled(e, r, 2);
  ll_val minus = ll_fcmp(e, LLVMRealOLT, x, ll_f(e, x, 0));
  ll_val there = ll_select(e, minus, ll_fsub(e, ll_f(e, x, 2 * PI_2), twice), twice);
  return ll_select(e, far, there, ll_fsub(e, ll_f(e, x, PI_2), signed_as(e, r, x)));
}

/* ---- hyperbolic functions ---- */
/* e^a / 2 for a that e^a may overflow for. */
static ll_val half_exp(tn_ll *e, ll_val a) {
  ll_val h = tn_ll_exp(e, scaled(e, a, 0.5));
  return ll_fmul(e, scaled(e, h, 0.5), h);
}
static ll_val sinh64(tn_ll *e, ll_val x) {
  ll_val a = size_of(e, x), m = tn_ll_expm1(e, a);
  ll_val near = scaled(e, ll_fadd(e, m, ll_fdiv(e, m, ll_fadd(e, m, ll_f(e, x, 1)))), 0.5);
  return signed_as(e, ll_select(e, above(e, a, 40), half_exp(e, a), near), x);
}
static ll_val cosh64(tn_ll *e, ll_val x) {
  ll_val h = half_exp(e, size_of(e, x));
  return ll_fadd(e, h, ll_fdiv(e, ll_f(e, x, 0.25), h));
}
/* log(x) + log(2) where squares would overflow. */
static ll_val log_twice(tn_ll *e, ll_val x) { return ll_fadd(e, tn_ll_log(e, x), ll_f(e, x, LN2)); }

static ll_val asinh64(tn_ll *e, ll_val x) {
  ll_val a = size_of(e, x), s = ll_fmul(e, a, a), one = ll_f(e, x, 1);
  ll_val root = ll_call1(e, "llvm.sqrt", ll_fadd(e, s, one));
  ll_val near = tn_ll_log1p(e, ll_fadd(e, a, ll_fdiv(e, s, ll_fadd(e, root, one))));
  return signed_as(e, ll_select(e, above(e, a, 0x1p30), log_twice(e, a), near), x);
}
static ll_val acosh64(tn_ll *e, ll_val x) {
  ll_val t = ll_fsub(e, x, ll_f(e, x, 1));
  ll_val root = ll_call1(e, "llvm.sqrt", ll_fadd(e, ll_fmul(e, t, t), ll_fadd(e, t, t)));
  return ll_select(e, above(e, x, 0x1p30), log_twice(e, x), tn_ll_log1p(e, ll_fadd(e, t, root)));
}
static ll_val atanh64(tn_ll *e, ll_val x) {
  ll_val a = size_of(e, x), q = ll_fdiv(e, ll_fadd(e, a, a), ll_fsub(e, ll_f(e, x, 1), a));
  return signed_as(e, scaled(e, tn_ll_log1p(e, q), 0.5), x);
}

ll_val tn_ll_tan(tn_ll *e, ll_val x) { return through_f64(e, x, tan64); }
ll_val tn_ll_asin(tn_ll *e, ll_val x) { return through_f64(e, x, asin64); }
ll_val tn_ll_acos(tn_ll *e, ll_val x) { return through_f64(e, x, acos64); }
ll_val tn_ll_atan(tn_ll *e, ll_val x) { return through_f64(e, x, atan64); }
ll_val tn_ll_sinh(tn_ll *e, ll_val x) { return through_f64(e, x, sinh64); }
ll_val tn_ll_cosh(tn_ll *e, ll_val x) { return through_f64(e, x, cosh64); }
ll_val tn_ll_asinh(tn_ll *e, ll_val x) { return through_f64(e, x, asinh64); }
ll_val tn_ll_acosh(tn_ll *e, ll_val x) { return through_f64(e, x, acosh64); }
ll_val tn_ll_atanh(tn_ll *e, ll_val x) { return through_f64(e, x, atanh64); }
