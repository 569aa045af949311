/* body_leaf.c - ops whose elements are made, not moved: constants, counters, masks, random numbers, the
 * rotation of rope. */
#include "backends/llvm/body.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"
#include <math.h>

/* ---- constants ---- */
static ll_val scalar_constant(tn_ll_body *b, tn_dtype t, const void *bytes) {
  tn_ll *e = b->e;
  uint64_t bits = 0;
  memcpy(&bits, bytes, tn_ll_dtype_of(t).bytes);
  ll_type as[] = {e->i8, e->i16, e->i32, e->i64};
  ll_val v = LLVMConstInt(as[__builtin_ctz(tn_ll_dtype_of(t).bytes)], bits, 0);
  return tn_ll_from_memory(e, t, LLVMConstBitCast(v, tn_ll_memory_type(e, t)));
}

static ll_val eval_constant(tn_ll_body *b, tn_op op, tn_value v, const tn_ll_index *ix) {
  tn_type_info t = tn_ll_type(b, v);
  tn_bytes data = tn_ll_attr(b, op, "value").u.data;
  tn_ll_dtype d = tn_ll_dtype_of(t.dtype);
  if (data.len == d.bytes && !d.packed) return scalar_constant(b, t.dtype, data.ptr);
  ll_val g = NULL;
  for (uint32_t i = 0; i < b->constants.count; i++)
    if (b->constants.items[i].v == v) g = b->constants.items[i].r;
  if (!g) {
    tn_ll_memo row = {.v = v};
    row.r = g = ll_global(b->e, "const", data.ptr, data.len);
    if (!tn_vec_push(&b->constants, row)) tn_ll_fail(b->e, "out of memory");
  }
  return tn_ll_load_buffer(b, &t, g, ix);
}

/* ---- counters and masks ---- */
static ll_val ix_value(tn_ll_body *b, tn_ll_ix ix) {
  return ix.kind == TN_IX_SCALAR ? ix.v : tn_ll_ix_vector(b, ix);
}

static ll_val eval_iota(tn_ll_body *b, tn_op op, const tn_type_info *t, const tn_ll_index *ix) {
  ll_val start = tn_ll_dim(b, tn_ll_attr(b, op, "start").u.dim);
  tn_ll_ix at = tn_ll_ix_scalar(start);
  if (ix->collapsed)
    at = tn_ll_ix_add(b, ix->line, start);
  else if (t->rank)
    at = tn_ll_ix_add(b, ix->at[tn_ll_axis(tn_ll_attr_int(b, op, "axis"), t->rank)], start);
  return tn_ll_convert(b->e, TN_DT_i64, t->dtype, ix_value(b, at));
}

static ll_val eval_causal_mask(tn_ll_body *b, tn_op op, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  ll_val q = tn_ll_dim(b, tn_ll_attr(b, op, "q").u.dim), k = tn_ll_dim(b, tn_ll_attr(b, op, "k").u.dim);
  bool vec = tn_ll_index_vec(ix);
  ll_val i = ll_wide(e, ix_value(b, ix->at[0]), vec), j = ll_wide(e, ix_value(b, ix->at[1]), vec);
  ll_val back = ll_sub(e, ll_add(e, i, ll_wide(e, ll_sub(e, k, q), vec)), j);
  ll_val sees = ll_icmp(e, LLVMIntSGE, back, ll_i(e, back, 0));
  int64_t window = tn_ll_attr_int(b, op, "window");
  if (!window) return sees;
  return ll_and(e, sees, ll_icmp(e, LLVMIntSLT, back, ll_i(e, back, window)));
}

/* Slopes of Press et al. 2021: powers of 2^(-8/n), n the power of two not above `heads`; the heads above n
 * take every other power of the next finer sequence. */
static float alibi_slope(int64_t heads, int64_t h) {
  int64_t n = 1;
  while (n * 2 <= heads) n *= 2;
  double power = h < n ? -8.0 * (double)(h + 1) / (double)n : -4.0 * (double)(2 * (h - n) + 1) / (double)n;
  return (float)exp2(power);
}

static ll_val eval_alibi(tn_ll_body *b, tn_op op, tn_value v, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  int64_t heads = tn_ll_attr_int(b, op, "heads");
  ll_val table = NULL;
  for (uint32_t i = 0; i < b->constants.count; i++)
    if (b->constants.items[i].v == v) table = b->constants.items[i].r;
  if (!table) {
    float *slopes = tn_mem_alloc((size_t)heads * sizeof *slopes);
    if (!slopes) {
      tn_ll_fail(e, "out of memory");
      return LLVMGetPoison(e->f32);
    }
    for (int64_t h = 0; h < heads; h++) slopes[h] = alibi_slope(heads, h);
    tn_ll_memo row = {.v = v};
    row.r = table = ll_global(e, "slopes", slopes, (uint64_t)heads * sizeof *slopes);
    tn_mem_free(slopes);
    if (!tn_vec_push(&b->constants, row)) tn_ll_fail(e, "out of memory");
  }
  tn_type_info t = tn_ll_type(b, v), row = {.dtype = TN_DT_f32, .rank = 1, .dims = t.dims + 1};
  tn_ll_index at = {.rank = 1, .at = {ix->at[1]}, .pred = ix->pred, .mask = ix->mask};
  bool vec = tn_ll_index_vec(ix);
  if (!tn_ll_index_vec(&at)) at.mask = NULL;
  ll_val slope = ll_wide(e, tn_ll_load_buffer(b, &row, table, &at), vec);
  ll_val key = ll_wide(e, tn_ll_convert(e, TN_DT_i64, TN_DT_f32, ix_value(b, ix->at[3])), vec);
  return ll_fmul(e, slope, key);
}

/* ---- random_uniform: Philox 4x32-10 (Salmon et al. 2011) ---- */
static ll_val philox_word0(tn_ll *e, ll_val counter, uint64_t key) {
  ll_type t = ll_like(e, counter, e->i32);
  ll_val c[4] = {LLVMBuildTrunc(e->b, counter, t, ""),
                 LLVMBuildTrunc(e->b, ll_lshr(e, counter, ll_i(e, counter, 32)), t, ""), ll_zero(t),
                 ll_zero(t)};
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int round = 0; round < 10; round++) {
    ll_type w = LLVMTypeOf(counter);
    ll_val a = ll_mul(e, LLVMBuildZExt(e->b, c[0], w, ""), ll_int(e, w, 0xd2511f53LL));
    ll_val d = ll_mul(e, LLVMBuildZExt(e->b, c[2], w, ""), ll_int(e, w, 0xcd9e8d57LL));
    ll_val hi_a = LLVMBuildTrunc(e->b, ll_lshr(e, a, ll_i(e, a, 32)), t, "");
    ll_val hi_d = LLVMBuildTrunc(e->b, ll_lshr(e, d, ll_i(e, d, 32)), t, "");
    c[0] = ll_xor(e, ll_xor(e, hi_d, c[1]), ll_int(e, t, k0));
    c[1] = LLVMBuildTrunc(e->b, d, t, "");
    c[2] = ll_xor(e, ll_xor(e, hi_a, c[3]), ll_int(e, t, k1));
    c[3] = LLVMBuildTrunc(e->b, a, t, "");
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return c[0];
}

static ll_val eval_random(tn_ll_body *b, tn_op op, const tn_type_info *t, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  tn_ll_place p = {ll_k(e, 0), NULL, NULL};
  ll_val stride = ll_k(e, 1);
  if (ix->collapsed) tn_ll_place_add(b, &p, ix->line, stride);
  for (uint32_t i = t->rank; !ix->collapsed && i-- > 0;) {
    tn_ll_place_add(b, &p, ix->at[i], stride);
    stride = ll_imul(e, stride, tn_ll_dim(b, t->dims[i]));
  }
  ll_val word =
      philox_word0(e, ix_value(b, tn_ll_place_ix(b, &p, false)), (uint64_t)tn_ll_attr_int(b, op, "seed"));
  ll_val top = ll_lshr(e, word, ll_i(e, word, 8));
  ll_val f = LLVMBuildUIToFP(e->b, top, ll_like(e, top, e->f32), "");
  return tn_ll_convert(e, TN_DT_f32, t->dtype, ll_fmul(e, f, ll_f(e, f, 0x1p-24)));
}

/* ---- rope ---- */
/* For feature d: the other one of its pair, which frequency turns them, whether d is the first of the pair,
 * and whether it turns at all (conditions are i1, scalar or vector). */
typedef struct turn {
  tn_ll_ix partner, freq;
  ll_val first, turns;
  bool swap;
} turn;

static turn turn_halves(tn_ll_body *b, tn_ll_ix d, ll_val f) {
  tn_ll *e = b->e;
  int64_t k;
  ll_val two = ll_iadd(e, f, f);
  bool whole = d.kind == TN_IX_LANES && d.aligned && ll_const(f, &k) && k % e->lanes == 0;
  tn_ll_ix x = whole ? tn_ll_ix_scalar(d.v) : d;
  ll_val v = ix_value(b, x), fv = ll_wide(e, f, ll_is_vec(v)), twov = ll_wide(e, two, ll_is_vec(v));
  turn t = {.first = ll_icmp(e, LLVMIntSLT, v, fv), .turns = ll_icmp(e, LLVMIntSLT, v, twov)};
  ll_val other = ll_select(e, t.first, ll_add(e, v, fv), ll_sub(e, v, fv));
  ll_val freq = ll_select(e, t.first, v, ll_sub(e, v, fv)), zero = ll_i(e, v, 0);
  uint32_t kind = whole ? TN_IX_LANES : x.kind == TN_IX_SCALAR ? TN_IX_SCALAR : TN_IX_VECTOR;
  t.partner = (tn_ll_ix){ll_select(e, t.turns, other, v), kind, whole};
  t.freq = (tn_ll_ix){ll_select(e, t.turns, freq, zero), kind, whole};
  return t;
}

static turn turn_pairs(tn_ll_body *b, tn_ll_ix d, ll_val f) {
  tn_ll *e = b->e;
  ll_val v = ix_value(b, d), two = ll_wide(e, ll_iadd(e, f, f), ll_is_vec(v));
  ll_val one = ll_i(e, v, 1), zero = ll_i(e, v, 0);
  turn t = {.first = ll_icmp(e, LLVMIntEQ, ll_and(e, v, one), zero), .turns = ll_icmp(e, LLVMIntSLT, v, two)};
  uint32_t kind = d.kind == TN_IX_SCALAR ? TN_IX_SCALAR : TN_IX_VECTOR;
  t.swap = d.kind == TN_IX_LANES && d.aligned;
  t.partner = (tn_ll_ix){ll_select(e, t.turns, ll_xor(e, v, one), v), kind, 0};
  t.freq = (tn_ll_ix){ll_select(e, t.turns, ll_lshr(e, v, one), zero), kind, 0};
  return t;
}

static ll_val swap_neighbours(tn_ll *e, ll_val v) {
  int mask[64];
  for (uint32_t i = 0; i < e->lanes; i++) mask[i] = (int)(i ^ 1);
  return ll_shuffle(e, v, v, mask, e->lanes);
}

/* The first of a pair takes its partner times -sin, the second times +sin. */
static ll_val signed_sine(tn_ll *e, ll_val first, ll_val s) { return ll_select(e, first, ll_neg(e, s), s); }

static ll_val rope_angle(tn_ll_body *b, tn_op op, const turn *t, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  tn_value positions = b->ir->op_operand(b->m, op, 1), freqs = b->ir->op_operand(b->m, op, 2);
  tn_type_info tp = tn_ll_type(b, positions);
  tn_ll_index at = {.rank = tp.rank, .pred = ix->pred, .mask = ix->mask};
  if (tp.rank == 2) at.at[0] = ix->at[0];
  at.at[tp.rank - 1] = ix->at[1];
  if (!tn_ll_index_vec(&at)) at.mask = NULL;
  ll_val p = tn_ll_convert(e, tp.dtype, TN_DT_f64, tn_ll_eval(b, positions, &at));
  tn_ll_index fx = {.rank = 1, .at = {t->freq}, .pred = ix->pred, .mask = ix->mask};
  if (!tn_ll_index_vec(&fx)) fx.mask = NULL;
  ll_val f = tn_ll_convert(e, tn_ll_type(b, freqs).dtype, TN_DT_f64, tn_ll_eval(b, freqs, &fx));
  bool vec = ll_is_vec(p) || ll_is_vec(f);
  return ll_fmul(e, ll_wide(e, p, vec), ll_wide(e, f, vec));
}

static ll_val eval_rope(tn_ll_body *b, tn_op op, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  tn_value x = b->ir->op_operand(b->m, op, 0), freqs = b->ir->op_operand(b->m, op, 2);
  ll_val f = tn_ll_dim(b, tn_ll_type(b, freqs).dims[0]);
  tn_dtype dt = tn_ll_type(b, x).dtype;
  turn t = tn_ll_attr_int(b, op, "interleaved") ? turn_pairs(b, ix->at[3], f) : turn_halves(b, ix->at[3], f);
  ll_val own = tn_ll_eval_f32(b, x, ix), other;
  if (t.swap) {
    other = swap_neighbours(e, own);
  } else {
    tn_ll_index at = *ix;
    at.at[3] = t.partner;
    other = tn_ll_eval_f32(b, x, &at);
  }
  ll_val s, c;
  tn_ll_sincos(e, rope_angle(b, op, &t, ix), &s, &c);
  bool vec = ll_is_vec(own);
  double factor = tn_ll_attr_float(b, op, "factor");
  s = ll_wide(e, s, vec);
  c = ll_wide(e, c, vec);
  if (factor != 1) {
    s = ll_fmul(e, s, ll_f(e, s, factor));
    c = ll_fmul(e, c, ll_f(e, c, factor));
  }
  ll_val r = ll_fma(e, other, signed_sine(e, t.first, s), ll_fmul(e, own, c));
  r = ll_select(e, t.turns, r, own);
  return tn_ll_convert(e, TN_DT_f32, dt, r);
}

/* A block element is its value in f32 in registers (body_block.c). */
static ll_val eval_dequant(tn_ll_body *b, tn_op op, const tn_type_info *to, const tn_ll_index *ix) {
  return tn_ll_convert(b->e, TN_DT_f32, to->dtype, tn_ll_eval(b, b->ir->op_operand(b->m, op, 0), ix));
}

bool tn_ll_eval_leaf(tn_ll_body *b, tn_op op, const char *name, tn_value v, const tn_ll_index *ix,
                     ll_val *r) {
  tn_type_info t = tn_ll_type(b, v);
  if (!strcmp(name, "constant"))
    *r = eval_constant(b, op, v, ix);
  else if (!strcmp(name, "iota"))
    *r = eval_iota(b, op, &t, ix);
  else if (!strcmp(name, "causal_mask"))
    *r = eval_causal_mask(b, op, ix);
  else if (!strcmp(name, "alibi"))
    *r = eval_alibi(b, op, v, ix);
  else if (!strcmp(name, "random_uniform"))
    *r = eval_random(b, op, &t, ix);
  else if (!strcmp(name, "rope"))
    *r = eval_rope(b, op, ix);
  else if (!strcmp(name, "dequant"))
    *r = eval_dequant(b, op, &t, ix);
  else
    return false;
  return true;
}
