/* body.c - the evaluator's core: dims, index arithmetic, memory access, memo and dispatch. */
#include "backends/llvm/body.h"
#include "backends/llvm/convert.h"

void tn_ll_body_init(tn_ll_body *b, tn_ll *e, const tn_ir *ir, tn_module *m, tn_op kernel) {
  memset(b, 0, sizeof *b);
  b->e = e;
  b->ir = ir;
  b->m = m;
  b->kernel = kernel;
}
void tn_ll_body_fini(tn_ll_body *b) {
  tn_vec_fini(&b->memo);
  tn_vec_fini(&b->constants);
}
void tn_ll_body_forget(tn_ll_body *b) { b->memo.count = 0; }
void tn_ll_body_give(tn_ll_body *b, tn_value v, ll_val (*get)(void *, const tn_ll_index *), void *ctx) {
  if (b->ngiven == TN_LL_MAX_GIVEN) {
    tn_ll_fail(b->e, "a kernel supplies more than %d values", TN_LL_MAX_GIVEN);
    return;
  }
  b->given[b->ngiven++] = (tn_ll_given){v, get, ctx};
}

/* ---- attributes and types ---- */
tn_attr tn_ll_attr(tn_ll_body *b, tn_op op, const char *name) {
  tn_attr a = {0};
  if (!b->ir->op_attr(b->m, op, name, &a)) tn_ll_fail(b->e, "an op has no attribute '%s'", name);
  return a;
}
int64_t tn_ll_attr_int(tn_ll_body *b, tn_op op, const char *name) { return tn_ll_attr(b, op, name).u.i; }
double tn_ll_attr_float(tn_ll_body *b, tn_op op, const char *name) { return tn_ll_attr(b, op, name).u.f; }
const char *tn_ll_attr_str(tn_ll_body *b, tn_op op, const char *name) {
  tn_attr a = tn_ll_attr(b, op, name);
  return a.kind == TN_ATTR_STR && a.u.s ? a.u.s : "";
}
uint32_t tn_ll_axis(int64_t axis, uint32_t rank) { return (uint32_t)(axis < 0 ? axis + rank : axis); }

/* A body argument has its operand's type: there the layout of a packed weight shows. */
tn_type_info tn_ll_type(tn_ll_body *b, tn_value v) {
  tn_value_info i;
  tn_type_info t;
  b->ir->value_get(b->m, v, &i);
  if (i.kind == TN_VALUE_ARG && i.op && i.op == b->kernel)
    b->ir->value_get(b->m, b->ir->op_operand(b->m, i.op, i.index), &i);
  b->ir->type_get(b->m, i.type, &t);
  return t;
}
bool tn_ll_dim_const(tn_ll_body *b, tn_dim d, int64_t *v) { return b->ir->dim_is_const(b->m, d, v); }
bool tn_ll_dim_multiple(tn_ll_body *b, tn_dim d, int64_t n) {
  int64_t v;
  return tn_ll_dim_const(b, d, &v) && v % n == 0;
}

ll_val tn_ll_dim(tn_ll_body *b, tn_dim d) {
  tn_ll *e = b->e;
  tn_dim_info i;
  b->ir->dim_get(b->m, d, &i);
  if (i.kind == TN_DIM_CONST) return ll_k(e, i.value);
  if (i.kind == TN_DIM_SYM) {
    for (uint32_t k = 0; k < b->nsyms; k++)
      if (b->syms[k] == d) return b->sym_values[k];
  }
  if (i.kind == TN_DIM_SYM || i.kind == TN_DIM_UNKNOWN) {
    tn_ll_fail(e, "the size '%s' is not known when the kernel starts", i.symbol ? i.symbol : "?");
    return ll_k(e, 1);
  }
  ll_val x = tn_ll_dim(b, i.a), y = tn_ll_dim(b, i.b);
  switch (i.kind) {
  case TN_DIM_ADD: return ll_iadd(e, x, y);
  case TN_DIM_MUL: return ll_imul(e, x, y);
  case TN_DIM_MIN: return ll_imin(e, x, y);
  case TN_DIM_MAX: return ll_imax(e, x, y);
  default: break;
  }
  /* floor division and its remainder; the divisor is positive */
  ll_val r = ll_srem(e, x, y), minus = ll_icmp(e, LLVMIntSLT, r, ll_k(e, 0));
  if (i.kind == TN_DIM_MOD) return ll_select(e, minus, ll_add(e, r, y), r);
  ll_val q = ll_sdiv(e, x, y);
  return ll_select(e, minus, ll_sub(e, q, ll_k(e, 1)), q);
}
ll_val tn_ll_dims(tn_ll_body *b, const tn_dim *d, uint32_t first, uint32_t last) {
  ll_val r = ll_k(b->e, 1);
  for (uint32_t i = first; i < last; i++) r = ll_imul(b->e, r, tn_ll_dim(b, d[i]));
  return r;
}

/* ---- index arithmetic ---- */
bool tn_ll_index_vec(const tn_ll_index *ix) {
  if (ix->collapsed) return ix->line.kind != TN_IX_SCALAR;
  for (uint32_t i = 0; i < ix->rank; i++)
    if (ix->at[i].kind != TN_IX_SCALAR) return true;
  return false;
}
ll_val tn_ll_ix_vector(tn_ll_body *b, tn_ll_ix ix) {
  if (ix.kind == TN_IX_VECTOR) return ix.v;
  ll_val s = ll_splat(b->e, ix.v);
  return ix.kind == TN_IX_SCALAR ? s : ll_iadd(b->e, s, ll_steps(b->e, b->e->i64));
}
tn_ll_ix tn_ll_ix_add(tn_ll_body *b, tn_ll_ix ix, ll_val n) {
  int64_t k;
  bool keeps = ll_const(n, &k) && k % b->e->lanes == 0;
  ix.v = ll_iadd(b->e, ix.v, ix.kind == TN_IX_VECTOR ? ll_splat(b->e, n) : n);
  ix.aligned = ix.aligned && keeps;
  return ix;
}
ll_val tn_ll_ix_compare(tn_ll_body *b, LLVMIntPredicate p, tn_ll_ix ix, ll_val n) {
  if (ix.kind == TN_IX_SCALAR) return ll_icmp(b->e, p, ix.v, n);
  return ll_icmp(b->e, p, tn_ll_ix_vector(b, ix), ll_splat(b->e, n));
}

void tn_ll_broadcast_index(tn_ll_body *b, const tn_type_info *from, const tn_type_info *to,
                           const tn_ll_index *ix, tn_ll_index *out) {
  *out = *ix;
  bool same =
      from->rank == to->rank && (!from->rank || !memcmp(from->dims, to->dims, from->rank * sizeof(tn_dim)));
  if (same) return;
  out->flat = NULL;
  out->rank = from->rank;
  if (ix->collapsed) { /* only one-element tensors remain here: the skeleton has checked */
    out->collapsed = 0;
    out->mask = NULL;
    for (uint32_t i = 0; i < from->rank; i++) out->at[i] = tn_ll_ix_scalar(ll_k(b->e, 0));
    return;
  }
  for (uint32_t i = 0; i < from->rank; i++) {
    uint32_t j = i + to->rank - from->rank;
    int64_t n;
    bool one = tn_ll_dim_const(b, from->dims[i], &n) && n == 1;
    out->at[i] = one ? tn_ll_ix_scalar(ll_k(b->e, 0)) : ix->at[j];
  }
  if (!tn_ll_index_vec(out)) out->mask = NULL;
}

/* ---- memory ---- */
void tn_ll_place_add(tn_ll_body *b, tn_ll_place *p, tn_ll_ix ix, ll_val stride) {
  tn_ll *e = b->e;
  if (ix.kind == TN_IX_VECTOR) {
    ll_val v = ll_imul(e, ix.v, ll_splat(e, stride));
    p->vector = p->vector ? ll_iadd(e, p->vector, v) : v;
    return;
  }
  p->scalar = ll_iadd(e, p->scalar, ll_imul(e, ix.v, stride));
  if (ix.kind == TN_IX_LANES) p->step = p->step ? ll_iadd(e, p->step, stride) : stride;
}

/* What differs between lanes, as a vector; NULL: nothing. */
static ll_val place_lanes(tn_ll_body *b, const tn_ll_place *p) {
  tn_ll *e = b->e;
  if (!p->step) return p->vector;
  ll_val s = ll_imul(e, ll_steps(e, e->i64), ll_splat(e, p->step));
  return p->vector ? ll_iadd(e, p->vector, s) : s;
}
static bool place_contiguous(const tn_ll_place *p) {
  int64_t step;
  return !p->vector && p->step && ll_const(p->step, &step) && step == 1;
}
tn_ll_ix tn_ll_place_ix(tn_ll_body *b, const tn_ll_place *p, bool aligned) {
  if (place_contiguous(p)) return tn_ll_ix_lanes(p->scalar, aligned);
  ll_val v = place_lanes(b, p);
  if (!v) return tn_ll_ix_scalar(p->scalar);
  return (tn_ll_ix){ll_iadd(b->e, v, ll_splat(b->e, p->scalar)), TN_IX_VECTOR, 0};
}

/* Lane numbers past a small remainder are divided in 32 bits, where a vector division by a constant is cheap.
 */
static tn_ll_ix div_lanes(tn_ll_body *b, tn_ll_ix ix, ll_val n, tn_ll_ix *rest) {
  tn_ll *e = b->e;
  ll_val q = ll_idiv(e, ix.v, n), r = ll_imod(e, ix.v, n);
  ll_type t64 = ll_vec(e, e->i64);
  ll_val lane = ll_iadd(e, ll_splat(e, LLVMBuildTrunc(e->b, r, e->i32, "")), ll_steps(e, e->i32));
  ll_val d = ll_splat(e, LLVMConstTrunc(n, e->i32));
  *rest = (tn_ll_ix){LLVMBuildZExt(e->b, ll_urem(e, lane, d), t64, ""), TN_IX_VECTOR, 0};
  ll_val carry = LLVMBuildZExt(e->b, ll_udiv(e, lane, d), t64, "");
  return (tn_ll_ix){ll_iadd(e, ll_splat(e, q), carry), TN_IX_VECTOR, 0};
}

tn_ll_ix tn_ll_ix_div(tn_ll_body *b, tn_ll_ix ix, ll_val n, tn_ll_ix *rest) {
  tn_ll *e = b->e;
  int64_t k;
  bool known = ll_const(n, &k) && k < 1 << 30;
  if (ix.kind == TN_IX_SCALAR || (ix.kind == TN_IX_LANES && ix.aligned && known && k % e->lanes == 0)) {
    *rest = (tn_ll_ix){ll_imod(e, ix.v, n), ix.kind, ix.aligned};
    return tn_ll_ix_scalar(ll_idiv(e, ix.v, n));
  }
  if (ix.kind == TN_IX_LANES && known) return div_lanes(b, ix, n, rest);
  ll_val v = tn_ll_ix_vector(b, ix), d = ll_splat(e, n);
  *rest = (tn_ll_ix){ll_urem(e, v, d), TN_IX_VECTOR, 0};
  return (tn_ll_ix){ll_udiv(e, v, d), TN_IX_VECTOR, 0};
}

void tn_ll_index_where(tn_ll_body *b, tn_ll_index *ix, ll_val cond) {
  ll_val *to = ll_is_vec(cond) ? &ix->mask : &ix->pred;
  *to = *to ? ll_and(b->e, *to, cond) : cond;
}

bool tn_ll_layout_pairs(const char *layout) {
  size_t n = strlen(layout);
  return n > 2 && !strcmp(layout + n - 2, "p2");
}

/* panel16 keeps an [n, k] matrix as [n / 16][k][16], panel16k a [k, n] one as the same; panel16p2 and
 * panel16kp2 keep them as [n / 16][k / 2][16][2]. */
static tn_ll_place place_in_panels(tn_ll_body *b, const tn_type_info *t, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  bool k_first = !strncmp(t->layout, "panel16k", 8), pairs = tn_ll_layout_pairs(t->layout);
  ll_val depth = tn_ll_dim(b, t->dims[k_first ? 0 : 1]);
  tn_ll_ix at_k = ix->at[k_first ? 0 : 1], half = tn_ll_ix_scalar(ll_k(e, 0));
  if (pairs) {
    depth = ll_and(e, ll_iadd(e, depth, ll_k(e, 1)), ll_k(e, -2));
    at_k = tn_ll_ix_div(b, at_k, ll_k(e, 2), &half);
    if (t->dtype != TN_DT_bf16) tn_ll_fail(e, "elements of layout '%s' are not read one by one", t->layout);
  }
  tn_ll_place p = {ll_k(e, 0), NULL, NULL};
  tn_ll_ix within, panel = tn_ll_ix_div(b, ix->at[k_first ? 1 : 0], ll_k(e, 16), &within);
  tn_ll_place_add(b, &p, panel, ll_imul(e, depth, ll_k(e, 16)));
  tn_ll_place_add(b, &p, within, ll_k(e, pairs ? 2 : 1));
  tn_ll_place_add(b, &p, at_k, ll_k(e, pairs ? 32 : 16));
  if (pairs) tn_ll_place_add(b, &p, half, ll_k(e, 1));
  return p;
}

static bool shape_is(const tn_type_info *t, const tn_ll_index *ix) {
  return ix->shape && t->rank == ix->rank && !memcmp(t->dims, ix->shape, t->rank * sizeof(tn_dim));
}

static tn_ll_place place_of(tn_ll_body *b, const tn_type_info *t, const tn_ll_index *ix) {
  tn_ll_place p = {ll_k(b->e, 0), NULL, NULL};
  if (t->layout) return place_in_panels(b, t, ix);
  if (ix->collapsed) {
    tn_ll_place_add(b, &p, ix->line, ll_k(b->e, 1));
    return p;
  }
  ll_val stride = ll_k(b->e, 1);
  if (ix->flat && t->rank && shape_is(t, ix)) {
    tn_ll_place_add(b, &p, ix->at[t->rank - 1], stride);
    tn_ll_place_add(b, &p, tn_ll_ix_scalar(ix->flat), tn_ll_dim(b, t->dims[t->rank - 1]));
    return p;
  }
  for (uint32_t i = t->rank; i-- > 0;) {
    tn_ll_place_add(b, &p, ix->at[i], stride);
    stride = ll_imul(b->e, stride, tn_ll_dim(b, t->dims[i]));
  }
  return p;
}

ll_val tn_ll_load_guarded(tn_ll_body *b, ll_type t, ll_val p, const tn_ll_index *ix, unsigned align) {
  bool vec = LLVMGetTypeKind(t) == LLVMVectorTypeKind;
  if (ix->pred) p = ll_select(b->e, ix->pred, p, b->zeros);
  return vec ? ll_load_masked(b->e, t, p, ix->mask, align) : ll_load(b->e, t, p, align);
}

/* One load per lane; lanes outside read the zeros. */
static ll_val load_scattered(tn_ll_body *b, ll_type t, ll_val buffer, ll_val at, const tn_ll_index *ix,
                             uint32_t bytes) {
  tn_ll *e = b->e;
  ll_val r = LLVMGetPoison(ll_vec(e, t)), byte = ll_imul(e, at, ll_int(e, LLVMTypeOf(at), bytes));
  for (uint32_t i = 0; i < e->lanes; i++) {
    ll_val p = ll_at(e, buffer, ll_lane(e, byte, i));
    if (ix->mask) p = ll_select(e, ll_lane(e, ix->mask, i), p, b->zeros);
    if (ix->pred) p = ll_select(e, ix->pred, p, b->zeros);
    r = ll_put(e, r, ll_load(e, t, p, bytes), i);
  }
  return r;
}

static ll_val load_gathered(tn_ll_body *b, ll_type t, ll_val buffer, ll_val at, const tn_ll_index *ix,
                            uint32_t bytes) {
  tn_ll *e = b->e;
  ll_val byte = ll_imul(e, at, ll_int(e, LLVMTypeOf(at), bytes));
  ll_val p = LLVMBuildGEP2(e->b, e->i8, buffer, &byte, 1, "");
  ll_val mask = ix->mask;
  if (ix->pred) {
    ll_val all = ll_splat(e, ix->pred);
    mask = mask ? ll_and(e, mask, all) : all;
  }
  if (!mask) mask = LLVMConstAllOnes(ll_vec(e, e->i1));
  ll_type over[] = {ll_vec(e, t), LLVMTypeOf(p)};
  ll_val args[] = {p, mask, LLVMConstNull(ll_vec(e, t))};
  ll_val v = ll_call(e, "llvm.masked.gather", over, 2, args, 3);
  LLVMSetInstrParamAlignment(v, 1, bytes);
  return v;
}

/* Elements of 4 or 2 bits: the byte, then the bits in it, low ones first. */
static ll_val load_packed(tn_ll_body *b, const tn_type_info *t, ll_val buffer, const tn_ll_place *p,
                          const tn_ll_index *ix) {
  tn_ll *e = b->e;
  uint32_t bits = tn_ll_dtype_of(t->dtype).packed, shift = bits == 4 ? 1 : 2;
  ll_val at = place_lanes(b, p), byte;
  at = at ? ll_iadd(e, at, ll_splat(e, p->scalar)) : p->scalar;
  ll_val where = ll_lshr(e, at, ll_i(e, at, shift)), within = ll_and(e, at, ll_i(e, at, (1 << shift) - 1));
  if (ll_is_vec(at))
    byte = load_scattered(b, e->i8, buffer, where, ix, 1);
  else
    byte = tn_ll_load_guarded(b, e->i8, ll_at(e, buffer, where), ix, 1);
  within = LLVMBuildTrunc(e->b, ll_mul(e, within, ll_i(e, at, bits)), LLVMTypeOf(byte), "");
  return tn_ll_wrap(e, t->dtype, ll_lshr(e, byte, within));
}

/* Of e->lanes neighbours that begin at ix. */
static unsigned alignment_of(tn_ll_body *b, const tn_type_info *t, const tn_ll_index *ix, uint32_t bytes) {
  uint32_t whole = b->e->lanes * bytes;
  const tn_ll_ix *last = ix->collapsed ? &ix->line : t->rank ? &ix->at[t->rank - 1] : NULL;
  bool lined = last && last->kind == TN_IX_LANES && last->aligned &&
               (ix->collapsed || t->rank == 1 || tn_ll_dim_multiple(b, t->dims[t->rank - 1], b->e->lanes));
  if (!lined || t->layout || !b->buffer_align || (whole & (whole - 1))) return bytes;
  return whole < b->buffer_align ? whole : b->buffer_align;
}

ll_val tn_ll_load_buffer(tn_ll_body *b, const tn_type_info *t, ll_val buffer, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  tn_ll_dtype d = tn_ll_dtype_of(t->dtype);
  ll_type mt = tn_ll_memory_type(e, t->dtype);
  if (t->dtype >= TN_DT_BLOCK) return tn_ll_load_block(b, t, buffer, ix);
  if (!d.known) {
    tn_ll_fail(e, "elements of this type are not read one by one");
    return LLVMGetPoison(mt);
  }
  tn_ll_place p = place_of(b, t, ix);
  if (d.packed) return load_packed(b, t, buffer, &p, ix);
  ll_val base = ll_at(e, buffer, ll_imul(e, p.scalar, ll_k(e, d.bytes))), v;
  if (!p.step && !p.vector) {
    v = tn_ll_load_guarded(b, mt, base, ix, d.bytes);
  } else if (place_contiguous(&p)) {
    v = tn_ll_load_guarded(b, ll_vec(e, mt), base, ix, alignment_of(b, t, ix, d.bytes));
  } else {
    ll_val at = place_lanes(b, &p);
    bool gathers = d.bytes >= 4 && e->lanes == 16;
    v = gathers ? load_gathered(b, mt, base, at, ix, d.bytes) : load_scattered(b, mt, base, at, ix, d.bytes);
  }
  return tn_ll_from_memory(e, t->dtype, v);
}

ll_val tn_ll_address(tn_ll_body *b, tn_value v, ll_val buffer, const tn_ll_index *ix) {
  tn_type_info t = tn_ll_type(b, v);
  tn_ll_place p = place_of(b, &t, ix);
  return ll_at(b->e, buffer, ll_imul(b->e, p.scalar, ll_k(b->e, tn_ll_dtype_of(t.dtype).bytes)));
}

void tn_ll_store_at(tn_ll_body *b, tn_value v, ll_val buffer, const tn_ll_index *ix, ll_val x) {
  tn_type_info t = tn_ll_type(b, v);
  x = tn_ll_to_memory(b->e, t.dtype, ll_wide(b->e, x, tn_ll_index_vec(ix)));
  ll_store_masked(b->e, x, tn_ll_address(b, v, buffer, ix), ll_is_vec(x) ? ix->mask : NULL,
                  alignment_of(b, &t, ix, tn_ll_dtype_of(t.dtype).bytes));
}

/* ---- dispatch ---- */
static bool same_ix(tn_ll_ix a, tn_ll_ix b) { return a.v == b.v && a.kind == b.kind; }
static bool same_index(const tn_ll_index *a, const tn_ll_index *b) {
  if (a->rank != b->rank || a->collapsed != b->collapsed || a->pred != b->pred || a->mask != b->mask)
    return false;
  if (a->collapsed) return same_ix(a->line, b->line);
  for (uint32_t i = 0; i < a->rank; i++)
    if (!same_ix(a->at[i], b->at[i])) return false;
  return true;
}

static ll_val eval_op(tn_ll_body *b, tn_op op, tn_value v, const tn_ll_index *ix) {
  const char *name = b->ir->opcode_name(b->ir->opcode(b->m, op));
  ll_val r;
  if (tn_ll_eval_elementwise(b, op, name, v, ix, &r)) return r;
  if (tn_ll_eval_view(b, op, name, v, ix, &r)) return r;
  if (tn_ll_eval_leaf(b, op, name, v, ix, &r)) return r;
  tn_ll_fail(b->e, "op '%s' cannot be evaluated inside a kernel", name);
  ll_type t = tn_ll_register_type(b->e, tn_ll_type(b, v).dtype);
  return LLVMGetPoison(tn_ll_index_vec(ix) ? ll_vec(b->e, t) : t);
}

static ll_val eval_new(tn_ll_body *b, tn_value v, const tn_ll_index *ix) {
  tn_value_info i;
  b->ir->value_get(b->m, v, &i);
  if (i.kind == TN_VALUE_RESULT) return eval_op(b, i.op, v, ix);
  tn_type_info t = tn_ll_type(b, v);
  if (i.kind == TN_VALUE_ARG && i.op == b->kernel && i.index < TN_COUNT(b->args))
    return tn_ll_load_buffer(b, &t, b->args[i.index], ix);
  tn_ll_fail(b->e, "a kernel's body uses a value from outside");
  ll_type rt = tn_ll_register_type(b->e, t.dtype);
  return LLVMGetPoison(tn_ll_index_vec(ix) ? ll_vec(b->e, rt) : rt);
}

ll_val tn_ll_eval(tn_ll_body *b, tn_value v, const tn_ll_index *ix) {
  for (uint32_t i = 0; i < b->ngiven; i++)
    if (b->given[i].v == v) return b->given[i].get(b->given[i].ctx, ix);
  for (uint32_t i = 0; i < b->memo.count; i++)
    if (b->memo.items[i].v == v && same_index(&b->memo.items[i].ix, ix)) return b->memo.items[i].r;
  tn_ll_memo m = {.v = v, .ix = *ix};
  m.r = eval_new(b, v, ix);
  if (!tn_vec_push(&b->memo, m)) tn_ll_fail(b->e, "out of memory");
  return m.r;
}

ll_val tn_ll_eval_f32(tn_ll_body *b, tn_value v, const tn_ll_index *ix) {
  return tn_ll_to_f32(b->e, tn_ll_type(b, v).dtype, tn_ll_eval(b, v, ix));
}
