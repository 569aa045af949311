/* warp.c - see warp.h. */
#include "backends/cuda/warp.h"

enum { EVERY = -1 }; /* the mask of all lanes */

/* ---- calls --------------------------------------------------------------------------------------------- */

static ll_val convergent(tn_cuda_kernel *k, ll_val call) {
  unsigned kind = LLVMGetEnumAttributeKindForName("convergent", 10);
  if (LLVMIsACallInst(call))
    LLVMAddCallSiteAttribute(call, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                             LLVMCreateEnumAttribute(k->e->ctx, kind, 0));
  return call;
}

ll_val tn_cuda_call(tn_cuda_kernel *k, const char *intrinsic, const ll_type *overloads, unsigned n,
                    ll_val *args, unsigned nargs) {
  return convergent(k, ll_call(k->e, intrinsic, overloads, n, args, nargs));
}

static ll_val assembly(tn_cuda_kernel *k, ll_type ret, const char *text, const char *constraints,
                       ll_val *args, unsigned nargs, bool effects) {
  ll_type types[160];
  if (nargs > TN_COUNT(types)) {
    tn_ll_fail(k->e, "inline code has %u operands, at most %zu", nargs, TN_COUNT(types));
    nargs = 0;
  }
  for (unsigned i = 0; i < nargs; i++) types[i] = LLVMTypeOf(args[i]);
  ll_type fn = LLVMFunctionType(ret, types, nargs, 0);
  ll_val code = LLVMGetInlineAsm(fn, text, strlen(text), constraints, strlen(constraints), effects, 0,
                                 LLVMInlineAsmDialectATT, 0);
  return LLVMBuildCall2(k->e->b, fn, code, args, nargs, "");
}
ll_val tn_cuda_asm(tn_cuda_kernel *k, ll_type ret, const char *text, const char *constraints, ll_val *args,
                   unsigned nargs) {
  return convergent(k, assembly(k, ret, text, constraints, args, nargs, true));
}
ll_val tn_cuda_asm_pure(tn_cuda_kernel *k, ll_type ret, const char *text, const char *constraints,
                        ll_val *args, unsigned nargs) {
  return assembly(k, ret, text, constraints, args, nargs, false);
}

/* ---- who ----------------------------------------------------------------------------------------------- */

static ll_val i32(tn_cuda_kernel *k, int64_t x) { return LLVMConstInt(k->e->i32, (unsigned long long)x, 1); }

ll_val tn_cuda_thread(tn_cuda_kernel *k) {
  return ll_call(k->e, "llvm.nvvm.read.ptx.sreg.tid.x", NULL, 0, NULL, 0);
}
ll_val tn_cuda_lane(tn_cuda_kernel *k) { return ll_and(k->e, tn_cuda_thread(k), i32(k, 31)); }
ll_val tn_cuda_warp(tn_cuda_kernel *k) {
  return tn_cuda_shuffle(k, ll_lshr(k->e, tn_cuda_thread(k), i32(k, 5)), i32(k, 0));
}
ll_val tn_cuda_block(tn_cuda_kernel *k, uint32_t axis) {
  static const char *const names[] = {"llvm.nvvm.read.ptx.sreg.ctaid.x", "llvm.nvvm.read.ptx.sreg.ctaid.y",
                                      "llvm.nvvm.read.ptx.sreg.ctaid.z"};
  return ll_call(k->e, names[axis], NULL, 0, NULL, 0);
}
ll_val tn_cuda_i64(tn_cuda_kernel *k, ll_val v) {
  ll_val wide = LLVMBuildZExt(k->e->b, v, k->e->i64, "");
  if (LLVMIsAZExtInst(wide)) LLVMSetNNeg(wide, 1);
  return wide;
}
ll_val tn_cuda_position(tn_cuda_kernel *k, uint32_t threads) {
  ll_val block = ll_mul(k->e, tn_cuda_i64(k, tn_cuda_block(k, 0)), ll_k(k->e, threads));
  return ll_add(k->e, block, tn_cuda_i64(k, tn_cuda_thread(k)));
}

/* ---- together ------------------------------------------------------------------------------------------ */

void tn_cuda_barrier(tn_cuda_kernel *k) {
  ll_val id = i32(k, 0);
  tn_cuda_call(k, "llvm.nvvm.barrier.cta.sync.aligned.all", NULL, 0, &id, 1);
}
void tn_cuda_barrier_of(tn_cuda_kernel *k, uint32_t id, uint32_t threads) {
  ll_val args[] = {i32(k, id), i32(k, threads)};
  tn_cuda_call(k, "llvm.nvvm.barrier.cta.sync.aligned.count", NULL, 0, args, 2);
}
void tn_cuda_warp_sync(tn_cuda_kernel *k) {
  ll_val mask = i32(k, EVERY);
  tn_cuda_call(k, "llvm.nvvm.bar.warp.sync", NULL, 0, &mask, 1);
}

void tn_cuda_await(tn_cuda_kernel *k, ll_val barrier, ll_val parity) {
  tn_ll *e = k->e;
  LLVMBasicBlockRef again = ll_block(e, "wait"), done = ll_block(e, "ready");
  LLVMBuildBr(e->b, again);
  LLVMPositionBuilderAtEnd(e->b, again);
  ll_val args[] = {barrier, parity};
  ll_val ready = tn_cuda_call(k, "llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta", NULL, 0, args, 2);
  LLVMBuildCondBr(e->b, ready, done, again);
  LLVMPositionBuilderAtEnd(e->b, done);
}

static ll_val shuffle_word(tn_cuda_kernel *k, const char *name, ll_val v, ll_val lane, int64_t clamp) {
  ll_val args[] = {i32(k, EVERY), v, lane, i32(k, clamp)};
  return tn_cuda_call(k, name, NULL, 0, args, 4);
}

/* Any scalar as one or two words of 32 bits, and back. */
static ll_val shuffle(tn_cuda_kernel *k, const char *name, ll_val v, ll_val lane, int64_t clamp) {
  tn_ll *e = k->e;
  ll_type t = LLVMTypeOf(v), as = t == e->f64 ? e->i64 : t == e->f32 ? e->i32 : t == e->f16 ? e->i16 : t;
  ll_val bits = as == t ? v : ll_cast_bits(e, v, as);
  if (as == e->i64) {
    ll_val lo = LLVMBuildTrunc(e->b, bits, e->i32, "");
    ll_val hi = LLVMBuildTrunc(e->b, ll_lshr(e, bits, ll_k(e, 32)), e->i32, "");
    lo = LLVMBuildZExt(e->b, shuffle_word(k, name, lo, lane, clamp), e->i64, "");
    hi = LLVMBuildZExt(e->b, shuffle_word(k, name, hi, lane, clamp), e->i64, "");
    bits = ll_or(e, lo, ll_shl(e, hi, ll_k(e, 32)));
  } else if (as == e->i32) {
    bits = shuffle_word(k, name, bits, lane, clamp);
  } else {
    bits = shuffle_word(k, name, LLVMBuildZExt(e->b, bits, e->i32, ""), lane, clamp);
    bits = LLVMBuildTrunc(e->b, bits, as, "");
  }
  return as == t ? bits : ll_cast_bits(e, bits, t);
}
ll_val tn_cuda_shuffle_xor(tn_cuda_kernel *k, ll_val v, uint32_t mask) {
  return shuffle(k, "llvm.nvvm.shfl.sync.bfly.i32", v, i32(k, mask), 31);
}
ll_val tn_cuda_shuffle(tn_cuda_kernel *k, ll_val v, ll_val lane) {
  return shuffle(k, "llvm.nvvm.shfl.sync.idx.i32", v, lane, 31);
}
ll_val tn_cuda_shuffle_up(tn_cuda_kernel *k, ll_val v, uint32_t by) {
  return shuffle(k, "llvm.nvvm.shfl.sync.up.i32", v, i32(k, by), 0);
}
ll_val tn_cuda_ballot(tn_cuda_kernel *k, ll_val i1) {
  ll_val args[] = {i32(k, EVERY), i1};
  return tn_cuda_call(k, "llvm.nvvm.vote.ballot.sync", NULL, 0, args, 2);
}
ll_val tn_cuda_any(tn_cuda_kernel *k, ll_val i1) {
  ll_val args[] = {i32(k, EVERY), i1};
  return tn_cuda_call(k, "llvm.nvvm.vote.any.sync", NULL, 0, args, 2);
}

ll_val tn_cuda_fadd(tn_ll *e, ll_val a, ll_val b) { return ll_fadd(e, a, b); }
ll_val tn_cuda_fmax(tn_ll *e, ll_val a, ll_val b) { return ll_fmax(e, a, b); }

ll_val tn_cuda_warp_reduce(tn_cuda_kernel *k, ll_val v, uint32_t width, tn_cuda_combine fn) {
  for (uint32_t by = width / 2; by; by /= 2) v = fn(k->e, v, tn_cuda_shuffle_xor(k, v, by));
  return v;
}

/* Each warp leaves its part in `room`; then every warp takes the parts together, in the same order. */
ll_val tn_cuda_block_reduce(tn_cuda_kernel *k, ll_val v, uint32_t threads, ll_val room, tn_cuda_combine fn) {
  tn_ll *e = k->e;
  uint32_t warps = threads / 32;
  v = tn_cuda_warp_reduce(k, v, 32, fn);
  if (warps == 1) return v;
  ll_type t = LLVMTypeOf(v);
  unsigned size = t == e->f64 || t == e->i64 ? 8 : t == e->f32 || t == e->i32 ? 4 : 2; /* side by side */
  ll_val warp = ll_lshr(e, tn_cuda_thread(k), i32(k, 5)), first = v;
  ll_if one;
  tn_cuda_barrier(k);
  ll_if_begin(e, &one, ll_icmp(e, LLVMIntEQ, tn_cuda_lane(k), i32(k, 0)));
  ll_store(e, v, LLVMBuildGEP2(e->b, t, room, &warp, 1, ""), size);
  ll_if_end(e, &one);
  tn_cuda_barrier(k);
  for (uint32_t i = 0; i < warps; i++) {
    ll_val at = i32(k, i), part = ll_load(e, t, LLVMBuildGEP2(e->b, t, room, &at, 1, ""), size);
    first = i ? fn(e, first, part) : part;
  }
  tn_cuda_barrier(k);
  return first;
}

/* ---- functions ----------------------------------------------------------------------------------------- */

ll_val tn_cuda_ex2(tn_cuda_kernel *k, ll_val x) {
  return tn_cuda_asm_pure(k, k->e->f32, "ex2.approx.ftz.f32 $0, $1;", "=f,f", &x, 1);
}
ll_val tn_cuda_rcp(tn_cuda_kernel *k, ll_val x) {
  return ll_call(k->e, "llvm.nvvm.rcp.approx.ftz.f", NULL, 0, &x, 1);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

ll_type tn_cuda_ptr(tn_cuda_kernel *k, unsigned space) { return LLVMPointerTypeInContext(k->e->ctx, space); }
ll_val tn_cuda_global(tn_cuda_kernel *k, ll_val p) {
  return LLVMBuildAddrSpaceCast(k->e->b, p, tn_cuda_ptr(k, 1), "");
}

void tn_cuda_copy_async(tn_cuda_kernel *k, ll_val shared, ll_val global, uint32_t bytes, ll_val valid) {
  static const char *const plain[] = {"llvm.nvvm.cp.async.ca.shared.global.4",
                                      "llvm.nvvm.cp.async.ca.shared.global.8",
                                      "llvm.nvvm.cp.async.cg.shared.global.16"};
  static const char *const sized[] = {"llvm.nvvm.cp.async.ca.shared.global.4.s",
                                      "llvm.nvvm.cp.async.ca.shared.global.8.s",
                                      "llvm.nvvm.cp.async.cg.shared.global.16.s"};
  unsigned which = bytes == 16 ? 2 : bytes == 8;
  ll_val args[] = {shared, global, NULL};
  if (valid) args[2] = ll_select(k->e, valid, i32(k, bytes), i32(k, 0));
  ll_call(k->e, valid ? sized[which] : plain[which], NULL, 0, args, valid ? 3 : 2);
}
void tn_cuda_copy_commit(tn_cuda_kernel *k) {
  ll_call(k->e, "llvm.nvvm.cp.async.commit.group", NULL, 0, NULL, 0);
}
void tn_cuda_copy_wait(tn_cuda_kernel *k, uint32_t pending) {
  ll_val n = i32(k, pending);
  ll_call(k->e, "llvm.nvvm.cp.async.wait.group", NULL, 0, &n, 1);
}

void tn_cuda_ldmatrix(tn_cuda_kernel *k, ll_val row, uint32_t count, bool transposed, ll_val *out) {
  static const char *const names[2][3] = {{"llvm.nvvm.ldmatrix.sync.aligned.m8n8.x1.b16",
                                           "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.b16",
                                           "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16"},
                                          {"llvm.nvvm.ldmatrix.sync.aligned.m8n8.x1.trans.b16",
                                           "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.trans.b16",
                                           "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.trans.b16"}};
  ll_type space = tn_cuda_ptr(k, 3);
  ll_val r = tn_cuda_call(k, names[transposed][count / 2], &space, 1, &row, 1);
  for (uint32_t i = 0; i < count; i++) out[i] = count == 1 ? r : LLVMBuildExtractValue(k->e->b, r, i, "");
}

/* ---- mma.sync ------------------------------------------------------------------------------------------ */

static const struct {
  const char *name;
  bool halves; /* fragments are <2 x half>, not i32 */
} products[] = {[TN_CUDA_MMA_F16] = {"llvm.nvvm.mma.m16n8k16.row.col.f32.f32", true},
                [TN_CUDA_MMA_BF16] = {"llvm.nvvm.mma.m16n8k16.row.col.bf16", false},
                [TN_CUDA_MMA_TF32] = {"llvm.nvvm.mma.m16n8k8.row.col.tf32", false},
                [TN_CUDA_MMA_S8] = {"llvm.nvvm.mma.m16n8k32.row.col.s8", false}};

void tn_cuda_mma_sync(tn_cuda_kernel *k, tn_cuda_mma kind, const ll_val *a, const ll_val *b, const ll_val *c,
                      ll_val *d) {
  ll_val args[10];
  ll_type pair = LLVMVectorType(k->e->f16, 2);
  for (uint32_t i = 0; i < 6; i++) {
    ll_val v = i < 4 ? a[i] : b[i - 4];
    args[i] = products[kind].halves ? ll_cast_bits(k->e, v, pair) : v;
  }
  for (uint32_t i = 0; i < 4; i++) args[6 + i] = c[i];
  ll_val r = tn_cuda_call(k, products[kind].name, NULL, 0, args, 10);
  for (uint32_t i = 0; i < 4; i++) d[i] = LLVMBuildExtractValue(k->e->b, r, i, "");
}

ll_val tn_cuda_pack_bf16(tn_cuda_kernel *k, ll_val lo, ll_val hi) {
  ll_val args[] = {hi, lo};
  return ll_cast_bits(k->e, ll_call(k->e, "llvm.nvvm.ff2bf16x2.rn", NULL, 0, args, 2), k->e->i32);
}
ll_val tn_cuda_pack_f16(tn_cuda_kernel *k, ll_val lo, ll_val hi) {
  ll_val args[] = {hi, lo};
  return ll_cast_bits(k->e, ll_call(k->e, "llvm.nvvm.ff2f16x2.rn", NULL, 0, args, 2), k->e->i32);
}
ll_val tn_cuda_tf32(tn_cuda_kernel *k, ll_val f32) {
  return ll_call(k->e, "llvm.nvvm.f2tf32.rna", NULL, 0, &f32, 1);
}
