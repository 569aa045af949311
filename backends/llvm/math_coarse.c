/* math_coarse.c - activations between products that round what they read to bf16 or to 8 bits: a dozen
 * instructions instead of two. Both gelus are x times a polynomial for the share of the distribution below x,
 * which is clamped where it reaches 0 and 1. */
#include "backends/llvm/math.h"

#define LOG2E 1.4426950408889634074

/* The share below x less one half, over x, in x^2: minimax on |x| <= edge, exact there. The gelu is off by
 * 1.3e-4 at most, and above 0 by 5e-5 of itself. */
typedef struct share {
  double edge, c[8];
} share;
static const share share_erf = {4.1,
                                {3.988077569e-01, -6.606991155e-02, 9.585747503e-03, -1.022472376e-03,
                                 7.642832683e-05, -3.730807500e-06, 1.054001514e-07, -1.295250068e-09}};
static const share share_tanh = {4.0,
                                 {3.988162963e-01, -6.641489904e-02, 9.823147881e-03, -1.085767949e-03,
                                  8.510556783e-05, -4.382085406e-06, 1.308300917e-07, -1.699074592e-09}};

ll_val tn_ll_gelu_coarse(tn_ll *e, ll_val x, const char *form) {
  const share *s = !strcmp(form, "erf") ? &share_erf : !strcmp(form, "tanh") ? &share_tanh : NULL;
  if (!s || ll_elem(x) != e->f32) return NULL;
  ll_val low = ll_f(e, x, -s->edge), high = ll_f(e, x, s->edge);
  ll_val t = ll_select(e, ll_fcmp(e, LLVMRealOLT, x, high), x, high);
  t = ll_fmax(e, t, low);
  ll_val below = ll_fma(e, t, ll_poly(e, ll_fmul(e, t, t), s->c, TN_COUNT(s->c)), ll_f(e, x, 0.5));
  return ll_fmul(e, x, below);
}

/* x / (1 + 2^(-x log2 e)) by the processor's reciprocal, to 2^-14. */
ll_val tn_ll_silu_coarse(tn_ll *e, ll_val x) {
  if (!e->scalef || ll_elem(x) != e->f32 || !ll_is_vec(x) || e->lanes != 16) return NULL;
  ll_val power = tn_ll_exp2_neg(e, ll_fmul(e, x, ll_f(e, x, -LOG2E)), true);
  ll_val all = LLVMConstInt(e->i16, 0xffff, 0), args[] = {ll_fadd(e, power, ll_f(e, x, 1)), x, all};
  return ll_fmul(e, x, ll_call(e, "llvm.x86.avx512.rcp14.ps.512", NULL, 0, args, 3));
}
