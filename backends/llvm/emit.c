/* emit.c - constants, memory access, shuffles and control flow of emit.h. */
#include "backends/llvm/emit.h"
#include <stdio.h>

tn_status tn_ll_init(tn_ll *e, const char *module, uint32_t lanes) {
  memset(e, 0, sizeof *e);
  e->ctx = LLVMContextCreate();
  if (!e->ctx) return TN_OOM;
  e->mod = LLVMModuleCreateWithNameInContext(module, e->ctx);
  e->b = LLVMCreateBuilderInContext(e->ctx);
  e->lanes = lanes;
  e->tvoid = LLVMVoidTypeInContext(e->ctx);
  e->i1 = LLVMInt1TypeInContext(e->ctx);
  e->i8 = LLVMInt8TypeInContext(e->ctx);
  e->i16 = LLVMInt16TypeInContext(e->ctx);
  e->i32 = LLVMInt32TypeInContext(e->ctx);
  e->i64 = LLVMInt64TypeInContext(e->ctx);
  e->f16 = LLVMHalfTypeInContext(e->ctx);
  e->f32 = LLVMFloatTypeInContext(e->ctx);
  e->f64 = LLVMDoubleTypeInContext(e->ctx);
  e->ptr = LLVMPointerTypeInContext(e->ctx, 0);
  return TN_OK;
}

void tn_ll_fini(tn_ll *e) {
  if (e->b) LLVMDisposeBuilder(e->b);
  if (e->mod) LLVMDisposeModule(e->mod);
  if (e->ctx) LLVMContextDispose(e->ctx);
  memset(e, 0, sizeof *e);
}

void tn_ll_fail(tn_ll *e, const char *fmt, ...) {
  if (e->error[0]) return;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(e->error, sizeof e->error, fmt, ap);
  va_end(ap);
}

/* ---- types and constants ---- */
ll_type ll_vec(tn_ll *e, ll_type elem) { return LLVMVectorType(elem, e->lanes); }
ll_type ll_like(tn_ll *e, ll_val v, ll_type elem) {
  (void)e;
  ll_type t = LLVMTypeOf(v);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMVectorType(elem, LLVMGetVectorSize(t)) : elem;
}
static ll_type elem_of(ll_type t) {
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetElementType(t) : t;
}
ll_type ll_elem(ll_val v) { return elem_of(LLVMTypeOf(v)); }

static ll_val fill(ll_type t, ll_val scalar) {
  if (LLVMGetTypeKind(t) != LLVMVectorTypeKind) return scalar;
  ll_val items[64];
  unsigned n = LLVMGetVectorSize(t);
  for (unsigned i = 0; i < n && i < TN_COUNT(items); i++) items[i] = scalar;
  return LLVMConstVector(items, n);
}
ll_val ll_int(tn_ll *e, ll_type t, int64_t x) {
  (void)e;
  return fill(t, LLVMConstInt(elem_of(t), (unsigned long long)x, 1));
}
ll_val ll_real(tn_ll *e, ll_type t, double x) {
  (void)e;
  return fill(t, LLVMConstReal(elem_of(t), x));
}
ll_val ll_f(tn_ll *e, ll_val like, double x) { return ll_real(e, LLVMTypeOf(like), x); }
ll_val ll_i(tn_ll *e, ll_val like, int64_t x) { return ll_int(e, LLVMTypeOf(like), x); }
ll_val ll_bits(tn_ll *e, ll_val like, uint64_t x) {
  ll_type t = ll_elem(like);
  ll_type as = t == e->f64 ? e->i64 : t == e->f32 ? e->i32 : e->i16;
  ll_val bits = ll_int(e, ll_like(e, like, as), (int64_t)x);
  return LLVMConstBitCast(bits, LLVMTypeOf(like));
}
ll_val ll_k(tn_ll *e, int64_t x) { return LLVMConstInt(e->i64, (unsigned long long)x, 1); }
bool ll_const(ll_val v, int64_t *x) {
  if (!LLVMIsAConstantInt(v)) return false;
  *x = LLVMConstIntGetSExtValue(v);
  return true;
}
ll_val ll_zero(ll_type t) { return LLVMConstNull(t); }
ll_val ll_steps(tn_ll *e, ll_type elem) {
  ll_val items[64];
  for (uint32_t i = 0; i < e->lanes; i++) items[i] = LLVMConstInt(elem, i, 0);
  return LLVMConstVector(items, e->lanes);
}

/* ---- instructions ---- */
ll_val ll_call(tn_ll *e, const char *name, const ll_type *overloads, unsigned n, ll_val *args,
               unsigned nargs) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  if (!id) {
    tn_ll_fail(e, "LLVM has no intrinsic '%s'", name);
    return LLVMGetPoison(nargs ? LLVMTypeOf(args[0]) : e->i64);
  }
  ll_val fn = LLVMGetIntrinsicDeclaration(e->mod, id, (ll_type *)overloads, n);
  return LLVMBuildCall2(e->b, LLVMIntrinsicGetType(e->ctx, id, (ll_type *)overloads, n), fn, args, nargs, "");
}
ll_val ll_call1(tn_ll *e, const char *name, ll_val a) {
  ll_type t = LLVMTypeOf(a);
  return ll_call(e, name, &t, 1, &a, 1);
}
ll_val ll_call2(tn_ll *e, const char *name, ll_val a, ll_val b) {
  ll_type t = LLVMTypeOf(a);
  ll_val args[] = {a, b};
  return ll_call(e, name, &t, 1, args, 2);
}
ll_val ll_fma(tn_ll *e, ll_val a, ll_val b, ll_val c) {
  bool vec = ll_is_vec(a) || ll_is_vec(b) || ll_is_vec(c);
  ll_val args[] = {ll_wide(e, a, vec), ll_wide(e, b, vec), ll_wide(e, c, vec)};
  ll_type t = LLVMTypeOf(args[0]);
  return ll_call(e, "llvm.fma", &t, 1, args, 3);
}
ll_val ll_poly(tn_ll *e, ll_val x, const double *c, unsigned n) {
  ll_val r = ll_f(e, x, c[n - 1]);
  for (unsigned i = n - 1; i-- > 0;) r = ll_fma(e, r, x, ll_f(e, x, c[i]));
  return r;
}
ll_val ll_splat(tn_ll *e, ll_val scalar) {
  if (LLVMIsConstant(scalar) && !LLVMIsAGlobalVariable(scalar))
    return fill(ll_vec(e, LLVMTypeOf(scalar)), scalar);
  ll_type t = ll_vec(e, LLVMTypeOf(scalar));
  ll_val one = LLVMBuildInsertElement(e->b, LLVMGetPoison(t), scalar, LLVMConstInt(e->i32, 0, 0), "");
  return LLVMBuildShuffleVector(e->b, one, LLVMGetPoison(t), LLVMConstNull(ll_vec(e, e->i32)), "");
}
ll_val ll_wide(tn_ll *e, ll_val v, bool vec) { return vec && !ll_is_vec(v) ? ll_splat(e, v) : v; }
ll_val ll_lane(tn_ll *e, ll_val v, uint32_t i) {
  return LLVMBuildExtractElement(e->b, v, LLVMConstInt(e->i32, i, 0), "");
}
ll_val ll_put(tn_ll *e, ll_val v, ll_val x, uint32_t i) {
  return LLVMBuildInsertElement(e->b, v, x, LLVMConstInt(e->i32, i, 0), "");
}
ll_val ll_shuffle(tn_ll *e, ll_val a, ll_val b, const int *mask, unsigned n) {
  ll_val items[64];
  for (unsigned i = 0; i < n; i++)
    items[i] = mask[i] < 0 ? LLVMGetPoison(e->i32) : LLVMConstInt(e->i32, (unsigned)mask[i], 0);
  return LLVMBuildShuffleVector(e->b, a, b, LLVMConstVector(items, n), "");
}
ll_val ll_at(tn_ll *e, ll_val base, ll_val bytes) { return LLVMBuildGEP2(e->b, e->i8, base, &bytes, 1, ""); }
ll_val ll_load(tn_ll *e, ll_type t, ll_val p, unsigned align) {
  ll_val v = LLVMBuildLoad2(e->b, t, p, "");
  LLVMSetAlignment(v, align);
  return v;
}
void ll_store(tn_ll *e, ll_val v, ll_val p, unsigned align) {
  LLVMSetAlignment(LLVMBuildStore(e->b, v, p), align);
}

/* Masked access takes its alignment as an attribute of the pointer argument. */
static void set_align(tn_ll *e, ll_val call, unsigned arg, unsigned align) {
  LLVMSetInstrParamAlignment(call, arg + 1, align);
  (void)e;
}
ll_val ll_load_masked(tn_ll *e, ll_type t, ll_val p, ll_val mask, unsigned align) {
  if (!mask) return ll_load(e, t, p, align);
  ll_type over[] = {t, e->ptr};
  ll_val args[] = {p, mask, LLVMConstNull(t)};
  ll_val v = ll_call(e, "llvm.masked.load", over, 2, args, 3);
  set_align(e, v, 0, align);
  return v;
}
void ll_store_masked(tn_ll *e, ll_val v, ll_val p, ll_val mask, unsigned align) {
  if (!mask) {
    ll_store(e, v, p, align);
    return;
  }
  ll_type over[] = {LLVMTypeOf(v), e->ptr};
  ll_val args[] = {v, p, mask};
  set_align(e, ll_call(e, "llvm.masked.store", over, 2, args, 3), 1, align);
}
ll_val ll_mask_below(tn_ll *e, ll_val n) {
  ll_val n32 = LLVMBuildTrunc(e->b, ll_imin(e, n, ll_k(e, e->lanes)), e->i32, "");
  return ll_icmp(e, LLVMIntSLT, ll_steps(e, e->i32), ll_splat(e, n32));
}
void ll_prefetch(tn_ll *e, ll_val p, uint32_t level) {
  ll_val args[] = {p, LLVMConstInt(e->i32, 0, 0), LLVMConstInt(e->i32, level, 0), LLVMConstInt(e->i32, 1, 0)};
  ll_call(e, "llvm.prefetch", &e->ptr, 1, args, 4);
}
ll_val ll_alloca(tn_ll *e, uint64_t bytes) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b), entry = LLVMGetEntryBasicBlock(e->fn);
  ll_val first = LLVMGetFirstInstruction(entry);
  if (first)
    LLVMPositionBuilderBefore(e->b, first);
  else
    LLVMPositionBuilderAtEnd(e->b, entry);
  ll_val p = LLVMBuildAlloca(e->b, LLVMArrayType2(e->i8, bytes), "");
  LLVMSetAlignment(p, 64);
  LLVMPositionBuilderAtEnd(e->b, here);
  return p;
}
ll_val ll_global(tn_ll *e, const char *name, const void *bytes, uint64_t n) {
  ll_val init = LLVMConstStringInContext2(e->ctx, bytes, n, 1);
  ll_val g = LLVMAddGlobal(e->mod, LLVMTypeOf(init), name);
  LLVMSetInitializer(g, init);
  LLVMSetGlobalConstant(g, 1);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetAlignment(g, 64);
  return g;
}

static bool is_const(ll_val v, int64_t x) {
  int64_t k;
  if (ll_is_vec(v)) return x == 0 && LLVMIsConstant(v) && LLVMIsNull(v);
  return ll_const(v, &k) && k == x;
}
ll_val ll_iadd(tn_ll *e, ll_val x, ll_val y) {
  if (is_const(x, 0)) return y;
  return is_const(y, 0) ? x : LLVMBuildNSWAdd(e->b, x, y, "");
}
ll_val ll_imul(tn_ll *e, ll_val x, ll_val y) {
  if (is_const(x, 1) || is_const(y, 0)) return y;
  return is_const(y, 1) || is_const(x, 0) ? x : LLVMBuildNSWMul(e->b, x, y, "");
}
ll_val ll_idiv(tn_ll *e, ll_val x, ll_val y) { return is_const(y, 1) ? x : ll_udiv(e, x, y); }
ll_val ll_imod(tn_ll *e, ll_val x, ll_val y) { return is_const(y, 1) ? ll_i(e, x, 0) : ll_urem(e, x, y); }

ll_val ll_reduce_with(tn_ll *e, ll_val v, ll_val (*op)(tn_ll *, ll_val, ll_val)) {
  for (unsigned n = LLVMGetVectorSize(LLVMTypeOf(v)); n > 1; n /= 2) {
    int lo[64], hi[64];
    for (unsigned i = 0; i < n / 2; i++) {
      lo[i] = (int)i;
      hi[i] = (int)(i + n / 2);
    }
    v = op(e, ll_shuffle(e, v, v, lo, n / 2), ll_shuffle(e, v, v, hi, n / 2));
  }
  return ll_lane(e, v, 0);
}
ll_val ll_reduce_fadd(tn_ll *e, ll_val v) { return ll_reduce_with(e, v, ll_fadd); }

/* ---- control flow ---- */
LLVMBasicBlockRef ll_block(tn_ll *e, const char *name) {
  return LLVMAppendBasicBlockInContext(e->ctx, e->fn, name);
}

void ll_loop_begin(tn_ll *e, ll_loop *l, ll_val lo, ll_val hi, ll_val step, const ll_val *init, uint32_t n) {
  if (n > LL_LOOP_PHIS) {
    tn_ll_fail(e, "a loop carries %u values, %u fit", n, LL_LOOP_PHIS);
    n = 0;
  }
  l->hi = hi;
  l->step = step;
  l->n = n;
  l->skip = LLVMGetInsertBlock(e->b);
  LLVMBasicBlockRef pre = ll_block(e, "pre");
  l->body = ll_block(e, "loop");
  l->exit = ll_block(e, "done");
  LLVMBuildCondBr(e->b, ll_icmp(e, LLVMIntSLT, lo, hi), pre, l->exit);
  LLVMPositionBuilderAtEnd(e->b, pre);
  LLVMBuildBr(e->b, l->body);
  LLVMPositionBuilderAtEnd(e->b, l->body);
  l->iv = LLVMBuildPhi(e->b, LLVMTypeOf(lo), "");
  LLVMAddIncoming(l->iv, &lo, &pre, 1);
  for (uint32_t i = 0; i < n; i++) {
    l->init[i] = init[i];
    l->phi[i] = LLVMBuildPhi(e->b, LLVMTypeOf(init[i]), "");
    LLVMAddIncoming(l->phi[i], &l->init[i], &pre, 1);
  }
}

void ll_loop_end(tn_ll *e, ll_loop *l, const ll_val *next) {
  ll_val iv = LLVMBuildNSWAdd(e->b, l->iv, l->step, "");
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->b);
  LLVMAddIncoming(l->iv, &iv, &latch, 1);
  LLVMBuildCondBr(e->b, ll_icmp(e, LLVMIntSLT, iv, l->hi), l->body, l->exit);
  LLVMPositionBuilderAtEnd(e->b, l->exit);
  for (uint32_t i = 0; i < l->n; i++) {
    ll_val v = next[i];
    LLVMAddIncoming(l->phi[i], &v, &latch, 1);
    l->out[i] = LLVMBuildPhi(e->b, LLVMTypeOf(v), "");
    LLVMAddIncoming(l->out[i], &v, &latch, 1);
    LLVMAddIncoming(l->out[i], &l->init[i], &l->skip, 1);
  }
}

void ll_if_begin(tn_ll *e, ll_if *i, ll_val cond) {
  LLVMBasicBlockRef then = ll_block(e, "then");
  i->other = ll_block(e, "else");
  i->end = ll_block(e, "end");
  LLVMBuildCondBr(e->b, cond, then, i->other);
  LLVMPositionBuilderAtEnd(e->b, then);
}
void ll_if_else(tn_ll *e, ll_if *i) {
  LLVMBuildBr(e->b, i->end);
  LLVMPositionBuilderAtEnd(e->b, i->other);
  i->other = NULL;
}
void ll_if_end(tn_ll *e, ll_if *i) {
  LLVMBuildBr(e->b, i->end);
  if (i->other) {
    LLVMPositionBuilderAtEnd(e->b, i->other);
    LLVMBuildBr(e->b, i->end);
  }
  LLVMPositionBuilderAtEnd(e->b, i->end);
}

static void enum_attr(tn_ll *e, ll_val fn, LLVMAttributeIndex at, const char *name) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  LLVMAddAttributeAtIndex(fn, at, LLVMCreateEnumAttribute(e->ctx, kind, 0));
}
void ll_func_attr(tn_ll *e, ll_val fn, const char *key, const char *value) {
  LLVMAttributeRef a =
      LLVMCreateStringAttribute(e->ctx, key, (unsigned)strlen(key), value, (unsigned)strlen(value));
  LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, a);
}
ll_val ll_func(tn_ll *e, const char *name, ll_type ret, ll_type *args, uint32_t n, bool noalias,
               bool internal) {
  ll_val fn = LLVMAddFunction(e->mod, name, LLVMFunctionType(ret, args, n, 0));
  if (internal) LLVMSetLinkage(fn, LLVMInternalLinkage);
  enum_attr(e, fn, LLVMAttributeFunctionIndex, "nounwind");
  if (internal) enum_attr(e, fn, LLVMAttributeFunctionIndex, "noinline");
  for (uint32_t i = 0; i < n && noalias; i++)
    if (args[i] == e->ptr) enum_attr(e, fn, i + 1, "noalias");
  e->fn = fn;
  LLVMPositionBuilderAtEnd(e->b, ll_block(e, "entry"));
  return fn;
}

/* Round s exchanges bit s of the row number with bit s of the lane number. */
void ll_transpose(tn_ll *e, ll_val *rows) {
  for (uint32_t s = 1; s < e->lanes; s *= 2) {
    int low[64], high[64];
    for (uint32_t i = 0; i < e->lanes; i++) {
      low[i] = (int)(i & s ? i - s + e->lanes : i);
      high[i] = (int)(i & s ? i + e->lanes : i + s);
    }
    for (uint32_t r = 0; r < e->lanes; r++) {
      if (r & s) continue;
      ll_val a = rows[r], b = rows[r + s];
      rows[r] = ll_shuffle(e, a, b, low, e->lanes);
      rows[r + s] = ll_shuffle(e, a, b, high, e->lanes);
    }
  }
}
