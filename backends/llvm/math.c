/* math.c - elementary functions. f32 coefficients are minimax fits (Lawson-weighted least squares on
 * Chebyshev nodes in 40-digit arithmetic) on the reduced ranges stated beside them; f64 ones are the series
 * themselves. */
#include "backends/llvm/math.h"

#define LOG2E 1.4426950408889634074
#define LN2 0.69314718055994530942

static bool wide(tn_ll *e, ll_val x) { return ll_elem(x) == e->f64; }

/* x * 2^n for a float n that is a whole number, |n| < 300 (f32) or 2100 (f64): two factors, so that results
 * in the denormal range and beyond the largest exponent come out right. */
static ll_val scale_by(tn_ll *e, ll_val x, ll_val n) {
  bool d = wide(e, x);
  if (e->scalef && !d && ll_is_vec(x) && e->lanes == 16) {
    ll_val args[] = {x, n, x, LLVMConstInt(e->i16, 0xffff, 0), LLVMConstInt(e->i32, 4, 0)};
    return ll_call(e, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0, args, 5);
  }
  ll_type ti = ll_like(e, x, d ? e->i64 : e->i32);
  int64_t shift = d ? 52 : 23, bias = d ? 1023 : 127;
  ll_val i = LLVMBuildFPToSI(e->b, n, ti, "");
  ll_val lo = ll_ashr(e, i, ll_int(e, ti, 1)), hi = ll_sub(e, i, lo);
  ll_val part[] = {lo, hi};
  for (int k = 0; k < 2; k++) {
    ll_val bits = ll_shl(e, ll_add(e, part[k], ll_int(e, ti, bias)), ll_int(e, ti, shift));
    x = ll_fmul(e, x, ll_cast_bits(e, bits, LLVMTypeOf(x)));
  }
  return x;
}

/* Keeps lo <= x <= hi, and NaN. */
static ll_val clamp(tn_ll *e, ll_val x, double lo, double hi) {
  x = ll_select(e, ll_fcmp(e, LLVMRealOLT, x, ll_f(e, x, lo)), ll_f(e, x, lo), x);
  return ll_select(e, ll_fcmp(e, LLVMRealOGT, x, ll_f(e, x, hi)), ll_f(e, x, hi), x);
}

/* (e^r - 1 - r) / r^2 on |r| <= ln2 / 2 */
static const double exp32[] = {4.999999404e-01, 1.666652113e-01, 4.166838899e-02, 8.368710056e-03,
                               1.381461276e-03};
static const double exp64[] = {1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,
                               1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                               1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};

/* n = round(x / ln2), and e^(x - n ln2) - 1. */
static ll_val expm1_reduced(tn_ll *e, ll_val x, ll_val *n) {
  bool d = wide(e, x);
  *n = ll_call1(e, "llvm.rint", ll_fmul(e, x, ll_f(e, x, LOG2E)));
  double hi = d ? 6.93147180369123816490e-01 : 0.693359375, lo = LN2 - hi;
  ll_val r = ll_fma(e, *n, ll_f(e, x, -hi), x);
  r = ll_fma(e, *n, ll_f(e, x, -lo), r);
  ll_val q = d ? ll_poly(e, r, exp64, TN_COUNT(exp64)) : ll_poly(e, r, exp32, TN_COUNT(exp32));
  return ll_fma(e, ll_fmul(e, r, r), q, r);
}
static ll_val exp_reduced(tn_ll *e, ll_val x, ll_val *n) {
  return ll_fadd(e, expm1_reduced(e, x, n), ll_f(e, x, 1));
}

ll_val tn_ll_exp(tn_ll *e, ll_val x) {
  bool d = wide(e, x);
  x = clamp(e, x, d ? -760 : -105, d ? 710 : 89);
  ll_val n, p = exp_reduced(e, x, &n);
  ll_val r = scale_by(e, p, n);
  return ll_select(e, ll_fcmp(e, LLVMRealUNO, x, x), x, r);
}

/* Within half an octave of 1 the part without the 1; elsewhere subtracting it loses at most a bit. */
ll_val tn_ll_expm1(tn_ll *e, ll_val x) {
  ll_val n, near = expm1_reduced(e, x, &n), one = ll_f(e, x, 1);
  return ll_select(e, ll_fcmp(e, LLVMRealOEQ, n, ll_f(e, x, 0)), near, ll_fsub(e, tn_ll_exp(e, x), one));
}

ll_val tn_ll_exp_neg(tn_ll *e, ll_val x) {
  if (wide(e, x)) return tn_ll_exp(e, x);
  ll_val in = ll_fcmp(e, LLVMRealUGE, x, ll_f(e, x, -87.0)); /* NaN is in, and stays */
  ll_val n, p = exp_reduced(e, ll_select(e, in, x, ll_f(e, x, -87.0)), &n);
  ll_type ti = ll_like(e, x, e->i32);
  ll_val k = ll_shl(e, LLVMBuildFPToSI(e->b, n, ti, ""), ll_int(e, ti, 23));
  ll_val r = ll_cast_bits(e, ll_add(e, ll_cast_bits(e, p, ti), k), LLVMTypeOf(x));
  return ll_select(e, in, r, ll_f(e, x, 0));
}

/* (2^r - 1) / r on 0 <= r < 1, to 8.2e-8 and 8.6e-5 of 2^r */
static const double exp2_fine[] = {6.931513118e-01, 2.401644501e-01, 5.579991315e-02, 9.017030275e-03,
                                   1.867130087e-03};
static const double exp2_coarse[] = {6.951167871e-01, 2.276449897e-01, 7.706704289e-02};

ll_val tn_ll_exp2_neg(tn_ll *e, ll_val x, bool coarse) {
  const double *c = coarse ? exp2_coarse : exp2_fine;
  unsigned n = coarse ? TN_COUNT(exp2_coarse) : TN_COUNT(exp2_fine);
  ll_val one = ll_f(e, x, 1);
  if (e->scalef && ll_is_vec(x) && e->lanes == 16) { /* its exponent is the floor of what it is given */
    ll_val full = LLVMConstInt(e->i16, 0xffff, 0), current = LLVMConstInt(e->i32, 4, 0);
    x = ll_select(e, ll_fcmp(e, LLVMRealOLT, x, ll_f(e, x, -160)), ll_f(e, x, -160), x);
    ll_val floor[] = {x, LLVMConstInt(e->i32, 9, 0), x, full, current};
    ll_val r = ll_call(e, "llvm.x86.avx512.mask.reduce.ps.512", NULL, 0, floor, 5);
    ll_val scale[] = {ll_fma(e, ll_poly(e, r, c, n), r, one), x, x, full, current};
    return ll_call(e, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0, scale, 5);
  }
  ll_val in = ll_fcmp(e, LLVMRealUGE, x, ll_f(e, x, -126)); /* NaN is in, and stays */
  x = ll_select(e, in, x, ll_f(e, x, -126));
  ll_val whole = ll_call1(e, "llvm.floor", x), r = ll_fsub(e, x, whole);
  ll_type ti = ll_like(e, x, e->i32);
  ll_val p = ll_fma(e, ll_poly(e, r, c, n), r, one);
  ll_val k = ll_shl(e, LLVMBuildFPToSI(e->b, whole, ti, ""), ll_int(e, ti, 23));
  p = ll_cast_bits(e, ll_add(e, ll_cast_bits(e, p, ti), k), LLVMTypeOf(x));
  return ll_select(e, in, p, ll_f(e, x, 0));
}

/* (log(1 + f) - f + f^2 / 2) / f^3 on sqrt(1/2) - 1 <= f < sqrt(2) - 1 */
static const double log32[] = {3.333331347e-01,  -2.500000894e-01, 2.000211924e-01,
                               -1.666799635e-01, 1.421955228e-01,  -1.240558922e-01,
                               1.188816205e-01,  -1.167565212e-01, 6.746640801e-02};
/* log((1 + s) / (1 - s)) = 2 s (1 + s^2 / 3 + ...) */
static const double log64[] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11,
                               1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23};

static ll_val log_of_mantissa(tn_ll *e, ll_val m) { /* m in [sqrt(1/2), sqrt(2)) */
  ll_val f = ll_fsub(e, m, ll_f(e, m, 1));
  if (wide(e, m)) {
    ll_val s = ll_fdiv(e, f, ll_fadd(e, m, ll_f(e, m, 1)));
    ll_val p = ll_poly(e, ll_fmul(e, s, s), log64, TN_COUNT(log64));
    return ll_fmul(e, ll_fadd(e, s, s), p);
  }
  ll_val s = ll_fmul(e, f, f), p = ll_poly(e, f, log32, TN_COUNT(log32));
  return ll_fma(e, ll_fma(e, f, p, ll_f(e, m, -0.5)), s, f);
}

ll_val tn_ll_log(tn_ll *e, ll_val x) {
  bool d = wide(e, x);
  ll_type t = LLVMTypeOf(x), ti = ll_like(e, x, d ? e->i64 : e->i32);
  int shift = d ? 52 : 23;
  double least = d ? 2.2250738585072014e-308 : 1.17549435e-38;
  ll_val tiny = ll_fcmp(e, LLVMRealOLT, x, ll_real(e, t, least));
  ll_val y = ll_select(e, tiny, ll_fmul(e, x, ll_real(e, t, d ? 0x1p60 : 0x1p30)), x);
  ll_val i = ll_cast_bits(e, y, ti);
  /* subtracting sqrt(1/2)'s bits makes the exponent field that of the nearest power of two */
  ll_val half = ll_int(e, ti, d ? 0x3fe6a09e667f3bcdLL : 0x3f3504f3);
  ll_val k = ll_ashr(e, ll_sub(e, i, half), ll_int(e, ti, shift));
  ll_val m = ll_cast_bits(e, ll_sub(e, i, ll_shl(e, k, ll_int(e, ti, shift))), t);
  ll_val n = LLVMBuildSIToFP(e->b, k, t, "");
  n = ll_fsub(e, n, ll_select(e, tiny, ll_real(e, t, d ? 60 : 30), ll_real(e, t, 0)));
  double hi = d ? 6.93147180369123816490e-01 : 0.693359375;
  ll_val r = ll_fma(e, n, ll_real(e, t, LN2 - hi), log_of_mantissa(e, m));
  r = ll_fma(e, n, ll_real(e, t, hi), r);
  ll_val inf = ll_real(e, t, __builtin_inf()), nan = ll_real(e, t, __builtin_nan(""));
  r = ll_select(e, ll_fcmp(e, LLVMRealOLT, x, inf), r, x); /* +inf and NaN stay */
  r = ll_select(e, ll_fcmp(e, LLVMRealOLT, x, ll_real(e, t, 0)), nan, r);
  return ll_select(e, ll_fcmp(e, LLVMRealOEQ, x, ll_real(e, t, 0)), ll_real(e, t, -__builtin_inf()), r);
}

/* The logarithm of 1 + x as it was rounded, and what the rounding cut off, to first order. */
ll_val tn_ll_log1p(tn_ll *e, ll_val x) {
  ll_val one = ll_f(e, x, 1), u = ll_fadd(e, x, one), zero = ll_f(e, x, 0);
  ll_val lost = ll_fdiv(e, ll_fsub(e, x, ll_fsub(e, u, one)), u);
  ll_val there =
      ll_and(e, ll_fcmp(e, LLVMRealOGT, u, zero), ll_fcmp(e, LLVMRealOLT, u, ll_f(e, x, __builtin_inf())));
  return ll_fadd(e, tn_ll_log(e, u), ll_select(e, there, lost, zero));
}

/* (tanh(x) - x) / x^3 in x^2, |x| < 0.63 */
static const double tanh32[] = {-3.333333135e-01, 1.333319545e-01,  -5.394537747e-02,
                                2.169260755e-02,  -8.156280033e-03, 2.122745616e-03};
static const double tanh64[] = {
    -1.0 / 3,         2.0 / 15,          -17.0 / 315,           62.0 / 2835,
    -1382.0 / 155925, 21844.0 / 6081075, -929569.0 / 638512875, 6404582.0 / 10854718875.0};

ll_val tn_ll_tanh(tn_ll *e, ll_val x) {
  bool d = wide(e, x);
  ll_val a = ll_call1(e, "llvm.fabs", x), one = ll_f(e, x, 1);
  ll_val far = ll_fadd(e, tn_ll_exp(e, ll_fadd(e, a, a)), one);
  far = ll_fsub(e, one, ll_fdiv(e, ll_f(e, x, 2), far));
  far = ll_call2(e, "llvm.copysign", far, x);
  ll_val s = ll_fmul(e, x, x);
  ll_val p = d ? ll_poly(e, s, tanh64, TN_COUNT(tanh64)) : ll_poly(e, s, tanh32, TN_COUNT(tanh32));
  ll_val near = ll_fma(e, ll_fmul(e, p, s), x, x);
  return ll_select(e, ll_fcmp(e, LLVMRealOLT, a, ll_f(e, x, d ? 0.1 : 0.63)), near, far);
}

ll_val tn_ll_sigmoid(tn_ll *e, ll_val x) {
  /* e^-|x| never overflows, so both halves keep their precision */
  ll_val a = tn_ll_exp(e, ll_neg(e, ll_call1(e, "llvm.fabs", x)));
  ll_val below = ll_fcmp(e, LLVMRealOLT, x, ll_f(e, x, 0));
  return ll_fdiv(e, ll_select(e, below, a, ll_f(e, x, 1)), ll_fadd(e, a, ll_f(e, x, 1)));
}

/* erf(x) / x - 1 in x^2, |x| < 1 */
static const double erf_near[] = {1.283791661e-01, -3.761262596e-01, 1.128360033e-01, -2.685444430e-02,
                                  5.189535674e-03, -8.020842215e-04, 7.889122935e-05};
/* log(erfc(x)), 0.95 < x < 4.1 */
static const double erf_far[] = {1.781231840e-04,  -1.129527330e+00, -6.333328485e-01,
                                 -1.082784683e-01, 2.510174736e-02,  -4.153769463e-03,
                                 4.265033640e-04,  -1.926238838e-05, -1.697712406e-07};

/* Below 3 the series 2 / sqrt(pi) x e^(-x^2) (1 + 2 x^2 / 3 + (2 x^2)^2 / 15 + ...), whose terms are all
 * positive; above, the continued fraction of erfc (Abramowitz and Stegun 7.1.14). */
static ll_val erf64(tn_ll *e, ll_val x) {
  double c[48] = {1};
  for (int i = 1; i < 48; i++) c[i] = c[i - 1] * 2 / (2 * i + 1);
  ll_val a = ll_call1(e, "llvm.fabs", x), s = ll_fmul(e, a, a), bell = tn_ll_exp(e, ll_neg(e, s));
  ll_val near = ll_fmul(e, ll_fmul(e, bell, ll_fmul(e, a, ll_f(e, x, 1.12837916709551257390))),
                        ll_poly(e, s, c, TN_COUNT(c)));
  ll_val f = a;
  for (int i = 16; i; i--) f = ll_fadd(e, a, ll_fdiv(e, ll_f(e, x, i * 0.5), f));
  ll_val far = ll_fdiv(e, ll_fmul(e, bell, ll_f(e, x, 0.56418958354775628695)), f);
  far = ll_fsub(e, ll_f(e, x, 1), far);
  ll_val r = ll_select(e, ll_fcmp(e, LLVMRealULT, a, ll_f(e, x, 3)), near, far); /* NaN stays */
  return ll_call2(e, "llvm.copysign", r, x);
}

ll_val tn_ll_erf(tn_ll *e, ll_val x) {
  if (wide(e, x)) return erf64(e, x);
  ll_val a = ll_call1(e, "llvm.fabs", x);
  ll_val s = ll_fmul(e, x, x);
  ll_val near = ll_fma(e, x, ll_poly(e, s, erf_near, TN_COUNT(erf_near)), x);
  ll_val t = clamp(e, a, 0, 4.1);
  ll_val far = ll_fsub(e, ll_f(e, x, 1), tn_ll_exp_neg(e, ll_poly(e, t, erf_far, TN_COUNT(erf_far))));
  far = ll_call2(e, "llvm.copysign", far, x);
  ll_val r = ll_select(e, ll_fcmp(e, LLVMRealOLT, a, ll_f(e, x, 1)), near, far);
  return ll_select(e, ll_fcmp(e, LLVMRealUNO, x, x), x, r);
}

/* log2(erfc(x / sqrt(2)) / 2) on 0 <= x < 6.5, to 6e-8 of the gelu that it makes. */
static const double gelu_tail[] = {-1.0,
                                   -1.151107073,
                                   -4.591914713e-01,
                                   -5.254396796e-02,
                                   7.120814174e-03,
                                   -1.643187570e-04,
                                   -1.874392765e-04,
                                   4.522315430e-05,
                                   -4.758734576e-06,
                                   1.981610467e-07};

/* x times the normal distribution's share below x, as max(x, 0) - |x| times the share beyond |x|: nothing
 * cancels where x is negative. NaN stays; below -6.5 it is -2.6e-10. */
static ll_val gelu_erf(tn_ll *e, ll_val x) {
  ll_val zero = ll_f(e, x, 0), most = ll_f(e, x, 6.5), a = ll_call1(e, "llvm.fabs", x);
  ll_val t = ll_select(e, ll_fcmp(e, LLVMRealOLT, a, most), a, most);
  ll_val share = tn_ll_exp2_neg(e, ll_poly(e, t, gelu_tail, TN_COUNT(gelu_tail)), false);
  ll_val above = ll_select(e, ll_fcmp(e, LLVMRealOLT, x, zero), zero, x);
  return ll_fma(e, ll_neg(e, t), share, above);
}

ll_val tn_ll_silu(tn_ll *e, ll_val x) {
  ll_val coarse = e->coarse ? tn_ll_silu_coarse(e, x) : NULL;
  return coarse ? coarse : ll_fmul(e, x, tn_ll_sigmoid(e, x));
}

ll_val tn_ll_gelu(tn_ll *e, ll_val x, const char *form) {
  ll_val coarse = e->coarse ? tn_ll_gelu_coarse(e, x, form) : NULL;
  if (coarse) return coarse;
  if (!strcmp(form, "quick")) return ll_fmul(e, x, tn_ll_sigmoid(e, ll_fmul(e, x, ll_f(e, x, 1.702))));
  if (!strcmp(form, "tanh")) { /* (1 + tanh(u)) / 2 is the sigmoid of 2 u */
    ll_val u = ll_fma(e, ll_fmul(e, x, x), ll_f(e, x, 0.044715), ll_f(e, x, 1));
    return ll_fmul(e, x, tn_ll_sigmoid(e, ll_fmul(e, ll_fmul(e, x, ll_f(e, x, 1.59576912160573071176)), u)));
  }
  if (!wide(e, x)) return gelu_erf(e, x);
  ll_val half = ll_fmul(e, x, ll_f(e, x, 0.5));
  return ll_fma(e, half, tn_ll_erf(e, ll_fmul(e, x, ll_f(e, x, 0.70710678118654752440))), half);
}

static ll_val pow64(tn_ll *e, ll_val x, ll_val y) {
  ll_val one = ll_f(e, x, 1), zero = ll_f(e, x, 0);
  ll_val r = tn_ll_exp(e, ll_fmul(e, y, tn_ll_log(e, ll_call1(e, "llvm.fabs", x))));
  ll_val half = ll_fmul(e, y, ll_f(e, y, 0.5));
  ll_val whole = ll_fcmp(e, LLVMRealOEQ, ll_call1(e, "llvm.rint", y), y);
  ll_val odd = ll_and(e, whole, ll_fcmp(e, LLVMRealUNE, ll_call1(e, "llvm.rint", half), half));
  ll_val minus = ll_fcmp(e, LLVMRealOLT, ll_call2(e, "llvm.copysign", one, x), zero);
  r = ll_select(e, ll_and(e, minus, odd), ll_neg(e, r), r);
  ll_val bad = ll_and(e, ll_fcmp(e, LLVMRealOLT, x, zero), ll_not(e, whole));
  ll_val finite = ll_fcmp(e, LLVMRealOGT, x, ll_f(e, x, -__builtin_inf()));
  r = ll_select(e, ll_and(e, bad, finite), ll_f(e, x, __builtin_nan("")), r);
  ll_val is_one = ll_or(e, ll_fcmp(e, LLVMRealOEQ, x, one), ll_fcmp(e, LLVMRealOEQ, y, zero));
  return ll_select(e, is_one, one, r);
}

ll_val tn_ll_pow(tn_ll *e, ll_val x, ll_val y) {
  if (wide(e, x)) return pow64(e, x, y);
  ll_type t = LLVMTypeOf(x), d = ll_like(e, x, e->f64);
  ll_val r = pow64(e, LLVMBuildFPExt(e->b, x, d, ""), LLVMBuildFPExt(e->b, y, d, ""));
  return LLVMBuildFPTrunc(e->b, r, t, "");
}

/* (sin(x) - x) / x^3 and (cos(x) - 1 + x^2 / 2) / x^4 in x^2, |x| <= pi / 4 */
static const double sin32[] = {-1.666666716e-01, 8.333329111e-03, -1.983929542e-04, 2.717939878e-06};
static const double cos32[] = {4.166666791e-02, -1.388888340e-03, 2.479947943e-05, -2.720678935e-07};
static const double sin64[] = {-1.0 / 6,
                               1.0 / 120,
                               -1.0 / 5040,
                               1.0 / 362880,
                               -1.0 / 39916800,
                               1.0 / 6227020800.0,
                               -1.0 / 1307674368000.0,
                               1.0 / 355687428096000.0};
static const double cos64[] = {1.0 / 24,        -1.0 / 720,           1.0 / 40320,           -1.0 / 3628800,
                               1.0 / 479001600, -1.0 / 87178291200.0, 1.0 / 20922789888000.0};

/* The angle less the nearest multiple of pi / 2, and the two low bits of that multiple. */
static ll_val reduce_angle(tn_ll *e, ll_val a, ll_val *quadrant) {
  ll_val n = ll_call1(e, "llvm.rint", ll_fmul(e, a, ll_f(e, a, 0.63661977236758134308)));
  ll_val r = ll_fma(e, n, ll_f(e, a, -1.57079632679489655800), a);
  r = ll_fma(e, n, ll_f(e, a, -6.12323399573676603587e-17), r);
  /* adding 1.5 * 2^52 leaves the whole number in the low bits */
  ll_val bits = ll_cast_bits(e, ll_fadd(e, n, ll_f(e, a, 6755399441055744.0)), ll_like(e, a, e->i64));
  *quadrant = LLVMBuildTrunc(e->b, bits, ll_like(e, a, e->i32), "");
  return r;
}

/* Picks and signs: sin needs the cosine in odd quadrants; cos is sin a quarter further. */
static ll_val by_quadrant(tn_ll *e, ll_val q, ll_val sine, ll_val cosine) {
  ll_val odd = ll_icmp(e, LLVMIntNE, ll_and(e, q, ll_i(e, q, 1)), ll_i(e, q, 0));
  ll_val minus = ll_icmp(e, LLVMIntNE, ll_and(e, q, ll_i(e, q, 2)), ll_i(e, q, 0));
  ll_val v = ll_select(e, odd, cosine, sine);
  return ll_select(e, minus, ll_neg(e, v), v);
}

static void sincos_poly(tn_ll *e, ll_val r, ll_val *sine, ll_val *cosine) {
  bool d = wide(e, r);
  ll_val s = ll_fmul(e, r, r);
  ll_val ps = d ? ll_poly(e, s, sin64, TN_COUNT(sin64)) : ll_poly(e, s, sin32, TN_COUNT(sin32));
  ll_val pc = d ? ll_poly(e, s, cos64, TN_COUNT(cos64)) : ll_poly(e, s, cos32, TN_COUNT(cos32));
  *sine = ll_fma(e, ll_fmul(e, ps, s), r, r);
  *cosine = ll_fma(e, ll_fmul(e, s, s), pc, ll_fma(e, s, ll_f(e, s, -0.5), ll_f(e, s, 1)));
}

static void sincos_as(tn_ll *e, ll_val angle, bool narrow, ll_val *sine, ll_val *cosine) {
  ll_val q, r = reduce_angle(e, angle, &q), s, c;
  if (narrow) r = LLVMBuildFPTrunc(e->b, r, ll_like(e, r, e->f32), "");
  sincos_poly(e, r, &s, &c);
  if (sine) *sine = by_quadrant(e, q, s, c);
  if (cosine) *cosine = by_quadrant(e, ll_add(e, q, ll_i(e, q, 1)), s, c);
}

void tn_ll_sincos(tn_ll *e, ll_val angle, ll_val *sine, ll_val *cosine) {
  sincos_as(e, angle, true, sine, cosine);
}
static ll_val as_angle(tn_ll *e, ll_val x) {
  return wide(e, x) ? x : LLVMBuildFPExt(e->b, x, ll_like(e, x, e->f64), "");
}
ll_val tn_ll_sin(tn_ll *e, ll_val x) {
  ll_val r;
  sincos_as(e, as_angle(e, x), !wide(e, x), &r, NULL);
  return r;
}
ll_val tn_ll_cos(tn_ll *e, ll_val x) {
  ll_val r;
  sincos_as(e, as_angle(e, x), !wide(e, x), NULL, &r);
  return r;
}
