/* emit.h - writing LLVM IR through the C API: one context record, and functions named like the instructions
 * they append. Every function works on a scalar and on a vector alike; two operands of one instruction have
 * the same shape. What is written is final: vectors are explicit, alignments are stated, nothing waits for a
 * vectoriser. */
#ifndef TN_LLVM_EMIT_H
#define TN_LLVM_EMIT_H
#include "ir/base/base.h"
#include "tenon/ir.h"
#include <llvm-c/Core.h>

typedef LLVMValueRef ll_val;
typedef LLVMTypeRef ll_type;

typedef struct tn_ll {
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMBuilderRef b;
  ll_val fn;      /* the function being written */
  uint32_t lanes; /* elements of a vector; the same for every element type */
  bool scalef;    /* the target has AVX-512's scalef */
  bool coarse; /* activations may be off by 2^-13 of 1: products round them to 8 bits of mantissa or fewer */
  ll_type tvoid, i1, i8, i16, i32, i64, f16, f32, f64, ptr;
  char error[200]; /* the first thing that could not be written; "" while all is well */
} tn_ll;

/* Makes a context with one empty module. TN_OOM when LLVM gives none. */
tn_status tn_ll_init(tn_ll *e, const char *module, uint32_t lanes);
void tn_ll_fini(tn_ll *e);
/* Keeps the first message; emission goes on with poison values and the caller asks at the end. */
void tn_ll_fail(tn_ll *e, const char *fmt, ...) TN_PRINTF(2, 3);

/* ---- types and constants ---- */
static inline bool ll_is_vec(ll_val v) { return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind; }
ll_type ll_vec(tn_ll *e, ll_type elem);            /* of e->lanes elements */
ll_type ll_like(tn_ll *e, ll_val v, ll_type elem); /* elem in the shape of v: scalar or vector */
ll_type ll_elem(ll_val v);                         /* element type of a vector, or the type itself */
ll_val ll_int(tn_ll *e, ll_type t, int64_t x);     /* t: scalar or vector, integer */
ll_val ll_real(tn_ll *e, ll_type t, double x);     /* t: scalar or vector, float */
ll_val ll_f(tn_ll *e, ll_val like, double x);      /* float constant of like's type */
ll_val ll_i(tn_ll *e, ll_val like, int64_t x);     /* integer constant of like's type */
ll_val ll_bits(tn_ll *e, ll_val like, uint64_t x); /* float constant given by its bits */
ll_val ll_k(tn_ll *e, int64_t x);                  /* i64 */
bool ll_const(ll_val v, int64_t *x);               /* a scalar integer constant? */
ll_val ll_zero(ll_type t);
ll_val ll_steps(tn_ll *e, ll_type elem); /* <0, 1, 2, ...> */

/* ---- instructions ---- */
ll_val ll_call(tn_ll *e, const char *intrinsic, const ll_type *overloads, unsigned n, ll_val *args,
               unsigned nargs);
ll_val ll_call1(tn_ll *e, const char *intrinsic, ll_val a); /* overloaded on a's type */
ll_val ll_call2(tn_ll *e, const char *intrinsic, ll_val a, ll_val b);
ll_val ll_fma(tn_ll *e, ll_val a, ll_val b, ll_val c);
ll_val ll_poly(tn_ll *e, ll_val x, const double *c, unsigned n); /* c[0] + c[1] x + ..., by Horner */
ll_val ll_splat(tn_ll *e, ll_val scalar);
ll_val ll_wide(tn_ll *e, ll_val v, bool vec); /* a splat if vec asks for one */
ll_val ll_lane(tn_ll *e, ll_val v, uint32_t i);
ll_val ll_put(tn_ll *e, ll_val v, ll_val x, uint32_t i);
ll_val ll_shuffle(tn_ll *e, ll_val a, ll_val b, const int *mask, unsigned n);
ll_val ll_at(tn_ll *e, ll_val base, ll_val bytes); /* base + bytes */
ll_val ll_load(tn_ll *e, ll_type t, ll_val p, unsigned align);
void ll_store(tn_ll *e, ll_val v, ll_val p, unsigned align);
ll_val ll_load_masked(tn_ll *e, ll_type t, ll_val p, ll_val mask,
                      unsigned align); /* mask NULL: all; others zero */
void ll_store_masked(tn_ll *e, ll_val v, ll_val p, ll_val mask, unsigned align);
ll_val ll_mask_below(tn_ll *e, ll_val n);             /* lane < n; n: i64 */
void ll_prefetch(tn_ll *e, ll_val p, uint32_t level); /* 3: first-level cache, 2: second */
ll_val ll_alloca(tn_ll *e, uint64_t bytes);           /* 64-byte aligned, in the entry block */
ll_val ll_global(tn_ll *e, const char *name, const void *bytes, uint64_t n); /* private constant data */

#define LL_BINARY(name, build)                                                                               \
  static inline ll_val ll_##name(tn_ll *e, ll_val x, ll_val y) { return build(e->b, x, y, ""); }
LL_BINARY(add, LLVMBuildAdd)
LL_BINARY(sub, LLVMBuildSub)
LL_BINARY(mul, LLVMBuildMul)
LL_BINARY(and, LLVMBuildAnd)
LL_BINARY(or, LLVMBuildOr)
LL_BINARY(xor, LLVMBuildXor)
LL_BINARY(shl, LLVMBuildShl)
LL_BINARY(lshr, LLVMBuildLShr)
LL_BINARY(ashr, LLVMBuildAShr)
LL_BINARY(sdiv, LLVMBuildSDiv)
LL_BINARY(udiv, LLVMBuildUDiv)
LL_BINARY(srem, LLVMBuildSRem)
LL_BINARY(urem, LLVMBuildURem)
LL_BINARY(fadd, LLVMBuildFAdd)
LL_BINARY(fsub, LLVMBuildFSub)
LL_BINARY(fmul, LLVMBuildFMul)
LL_BINARY(fdiv, LLVMBuildFDiv)
#undef LL_BINARY
static inline ll_val ll_neg(tn_ll *e, ll_val x) { return LLVMBuildFNeg(e->b, x, ""); }
static inline ll_val ll_not(tn_ll *e, ll_val x) { return LLVMBuildNot(e->b, x, ""); }
static inline ll_val ll_cast_bits(tn_ll *e, ll_val x, ll_type t) { return LLVMBuildBitCast(e->b, x, t, ""); }
static inline ll_val ll_icmp(tn_ll *e, LLVMIntPredicate p, ll_val x, ll_val y) {
  return LLVMBuildICmp(e->b, p, x, y, "");
}
static inline ll_val ll_fcmp(tn_ll *e, LLVMRealPredicate p, ll_val x, ll_val y) {
  return LLVMBuildFCmp(e->b, p, x, y, "");
}
static inline ll_val ll_select(tn_ll *e, ll_val c, ll_val x, ll_val y) {
  return LLVMBuildSelect(e->b, c, x, y, "");
}
static inline ll_val ll_imin(tn_ll *e, ll_val x, ll_val y) {
  return ll_select(e, ll_icmp(e, LLVMIntSLT, x, y), x, y);
}
static inline ll_val ll_imax(tn_ll *e, ll_val x, ll_val y) {
  return ll_select(e, ll_icmp(e, LLVMIntSGT, x, y), x, y);
}
static inline ll_val ll_ceildiv(tn_ll *e, ll_val x, ll_val y) { /* x >= 0, y > 0 */
  return ll_udiv(e, ll_add(e, x, ll_sub(e, y, ll_i(e, y, 1))), y);
}
/* The x86 maximum: the second operand when either is NaN. Cheap; for values known to be numbers. */
static inline ll_val ll_fmax(tn_ll *e, ll_val x, ll_val y) {
  return ll_select(e, ll_fcmp(e, LLVMRealOGT, x, y), x, y);
}
/* Index arithmetic: as add, mul, sdiv and srem of numbers >= 0, but 0 and 1 vanish. */
ll_val ll_iadd(tn_ll *e, ll_val x, ll_val y);
ll_val ll_imul(tn_ll *e, ll_val x, ll_val y);
ll_val ll_idiv(tn_ll *e, ll_val x, ll_val y);
ll_val ll_imod(tn_ll *e, ll_val x, ll_val y);
ll_val ll_reduce_fadd(tn_ll *e, ll_val v); /* of a vector, pairwise: a fixed tree */
ll_val ll_reduce_with(tn_ll *e, ll_val v, ll_val (*op)(tn_ll *, ll_val, ll_val)); /* tree of any operation */

/* ---- control flow ---- */
#define LL_LOOP_PHIS 64
/* for (iv = lo; iv < hi; iv += step), with values carried around; zero trips are fine. Between begin and end
 * the builder stands in the body; phi[] are the carried values there, and out[] after the end. */
typedef struct ll_loop {
  LLVMBasicBlockRef skip, body, exit;
  ll_val iv, hi, step, phi[LL_LOOP_PHIS], out[LL_LOOP_PHIS], init[LL_LOOP_PHIS];
  uint32_t n;
} ll_loop;
void ll_loop_begin(tn_ll *e, ll_loop *l, ll_val lo, ll_val hi, ll_val step, const ll_val *init, uint32_t n);
void ll_loop_end(tn_ll *e, ll_loop *l, const ll_val *next);

typedef struct ll_if {
  LLVMBasicBlockRef other, end;
} ll_if;
void ll_if_begin(tn_ll *e, ll_if *i, ll_val cond);
void ll_if_else(tn_ll *e, ll_if *i);
void ll_if_end(tn_ll *e, ll_if *i);
LLVMBasicBlockRef ll_block(tn_ll *e, const char *name);

/* Starts a function of this name; pointers are noalias when asked. The builder stands in its entry block. */
ll_val ll_func(tn_ll *e, const char *name, ll_type ret, ll_type *args, uint32_t n, bool noalias,
               bool internal);
void ll_func_attr(tn_ll *e, ll_val fn, const char *key, const char *value);

/* Transposes a square of e->lanes rows held in registers. */
void ll_transpose(tn_ll *e, ll_val *rows);

#endif
