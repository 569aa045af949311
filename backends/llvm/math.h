/* math.h - elementary functions as straight-line IR: range reduction and a polynomial, no branches, no
 * library call. f32 results are within 2 units in the last place (pow 1, since it works in f64), NaN and
 * infinities are as in C, denormal results are kept. f64 operands get the same functions to about 1e-15. */
#ifndef TN_LLVM_MATH_H
#define TN_LLVM_MATH_H
#include "backends/llvm/emit.h"

ll_val tn_ll_exp(tn_ll *e, ll_val x);
/* For x <= 0 only: e^x, in f32 0 below e^-87. What softmax needs. */
ll_val tn_ll_exp_neg(tn_ll *e, ll_val x);
/* For x <= 0 only, f32: 2^x, 0 for -infinity and far below; coarse: to 1e-4 of its size. */
ll_val tn_ll_exp2_neg(tn_ll *e, ll_val x, bool coarse);
ll_val tn_ll_log(tn_ll *e, ll_val x);
ll_val tn_ll_tanh(tn_ll *e, ll_val x);
ll_val tn_ll_sigmoid(tn_ll *e, ll_val x);
ll_val tn_ll_erf(tn_ll *e, ll_val x);
ll_val tn_ll_silu(tn_ll *e, ll_val x);
ll_val tn_ll_gelu(tn_ll *e, ll_val x, const char *form); /* erf, tanh or quick */
/* math_coarse.c: the two where e->coarse allows it; NULL: there is no coarse form of it */
ll_val tn_ll_silu_coarse(tn_ll *e, ll_val x);
ll_val tn_ll_gelu_coarse(tn_ll *e, ll_val x, const char *form);
ll_val tn_ll_expm1(tn_ll *e, ll_val x);
ll_val tn_ll_log1p(tn_ll *e, ll_val x);
ll_val tn_ll_pow(tn_ll *e, ll_val x, ll_val y);
/* Of an angle in f64 (any shape), rounded to f32. Exact reduction up to |angle| < 2^50. */
void tn_ll_sincos(tn_ll *e, ll_val angle, ll_val *sine, ll_val *cosine);
/* Of f32 or f64, in the operand's type. */
ll_val tn_ll_sin(tn_ll *e, ll_val x);
ll_val tn_ll_cos(tn_ll *e, ll_val x);
/* math_trig.c */
ll_val tn_ll_tan(tn_ll *e, ll_val x);
ll_val tn_ll_asin(tn_ll *e, ll_val x);
ll_val tn_ll_acos(tn_ll *e, ll_val x);
ll_val tn_ll_atan(tn_ll *e, ll_val x);
ll_val tn_ll_sinh(tn_ll *e, ll_val x);
ll_val tn_ll_cosh(tn_ll *e, ll_val x);
ll_val tn_ll_asinh(tn_ll *e, ll_val x);
ll_val tn_ll_acosh(tn_ll *e, ll_val x);
ll_val tn_ll_atanh(tn_ll *e, ll_val x);

#endif
