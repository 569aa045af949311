/* reduce.c - reductions over any axes, argmax and argmin. If the last axis is reduced, a team of threads
 * makes a result and reads neighbours; if it stays, neighbouring lanes make neighbouring results and the
 * warps of a block share the terms. Few long reductions are cut into parts, which a second launch puts
 * together. What is added to what depends on sizes only. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"

enum { LANES = 32, SLICES = 8, MOST_PARTS = 64, BLOCKS = 512, PART = 4096, SECOND = 128 };

typedef struct red {
  tn_cuda_kernel *k;
  tn_cuda_team team; /* if the last axis is reduced */
  tn_value x, out;
  tn_type_info tx, to;
  const char *name;
  bool reduced[TN_MAX_RANK], keep, fold; /* fold: the last axis is among the reduced ones */
  bool line;                             /* x is read by position: what is reduced lies together */
  bool arg, last;                        /* argmax or argmin; of equals the highest index */
  uint32_t axis;                         /* of arg */
  tn_dtype acc_type; /* f32 or f64; of integers 64 bits, or the type itself where only order counts */
  uint32_t n, wide, slices, threads, width; /* n: values carried */
  tn_dim results, terms, parts;             /* terms: steps of `wide` elements of a result */
  tn_dim room;                              /* scratch for parts */
  ll_val result, mine, value;               /* mine: NULL, or i1: there is such a result */
} red;

/* ---- what is accumulated ------------------------------------------------------------------------------- */

static bool is_float(const red *r) { return tn_ll_dtype_of(r->acc_type).cls == TN_CLASS_FLOAT; }
static bool is(const red *r, const char *name) { return !strcmp(r->name, name); }

static ll_val neutral(red *r, ll_type t) {
  tn_ll *e = r->k->e;
  bool low = is(r, "reduce_max") || is(r, "argmax"), high = is(r, "reduce_min") || is(r, "argmin");
  if (is_float(r)) {
    double inf = __builtin_inf();
    return ll_real(e, t, low ? -inf : high ? inf : is(r, "reduce_prod") ? 1 : 0);
  }
  tn_ll_dtype d = tn_ll_dtype_of(r->acc_type);
  bool sign = d.cls == TN_CLASS_INT;
  uint64_t top = d.bytes == 8 ? UINT64_MAX : (1ull << (8 * d.bytes)) - 1;
  if (r->acc_type == TN_DT_bool) top = 1;
  if (low) return ll_int(e, t, sign ? (int64_t)-(top / 2) - 1 : 0);
  if (high) return ll_int(e, t, (int64_t)(sign ? top / 2 : top));
  return ll_int(e, t, is(r, "reduce_prod"));
}

/* Is x before y: strictly larger (max) or smaller (min), with NaN before everything. */
static ll_val better(red *r, ll_val x, ll_val y) {
  tn_ll *e = r->k->e;
  bool min = is(r, "reduce_min") || is(r, "argmin");
  if (is_float(r)) {
    ll_val nan = ll_and(e, ll_fcmp(e, LLVMRealUNO, x, x), ll_fcmp(e, LLVMRealORD, y, y));
    return ll_or(e, nan, ll_fcmp(e, min ? LLVMRealOLT : LLVMRealOGT, x, y));
  }
  bool sign = tn_ll_dtype_of(r->acc_type).cls == TN_CLASS_INT;
  return ll_icmp(e, min ? (sign ? LLVMIntSLT : LLVMIntULT) : (sign ? LLVMIntSGT : LLVMIntUGT), x, y);
}

static ll_val combine(red *r, ll_val x, ll_val y) {
  tn_ll *e = r->k->e;
  if (is(r, "reduce_sum") || is(r, "reduce_mean")) return is_float(r) ? ll_fadd(e, x, y) : ll_add(e, x, y);
  if (is(r, "reduce_prod")) return is_float(r) ? ll_fmul(e, x, y) : ll_mul(e, x, y);
  return ll_select(e, better(r, x, y), x, y);
}

/* acc and other: a value and, of arg, its index, -1: none yet. Of equal values the lowest (or highest) index
 * stays, so the order of operands does not matter. */
static void fold(void *ctx, ll_val *acc, const ll_val *other) {
  red *r = ctx;
  tn_ll *e = r->k->e;
  if (!r->arg) {
    acc[0] = combine(r, acc[0], other[0]);
    return;
  }
  ll_val zero = ll_i(e, acc[1], 0), none = ll_icmp(e, LLVMIntSLT, acc[1], zero);
  ll_val there = ll_icmp(e, LLVMIntSGE, other[1], zero);
  ll_val first = better(r, other[0], acc[0]);
  ll_val tied = ll_not(e, ll_or(e, first, better(r, acc[0], other[0])));
  ll_val nearer = ll_icmp(e, r->last ? LLVMIntSGT : LLVMIntSLT, other[1], acc[1]);
  ll_val take = ll_or(e, none, ll_or(e, first, ll_and(e, tied, nearer)));
  take = ll_and(e, there, take);
  acc[0] = ll_select(e, take, other[0], acc[0]);
  acc[1] = ll_select(e, take, other[1], acc[1]);
}

/* ---- one result's terms -------------------------------------------------------------------------------- */

/* Coordinates of the kept axes, from the number of the result. */
static void place_kept(red *r, tn_ll_index *ix) {
  tn_ll *e = r->k->e;
  ll_val at = r->result;
  int first = -1;
  for (uint32_t i = 0; i < r->tx.rank && first < 0; i++)
    if (!r->reduced[i]) first = (int)i;
  for (uint32_t i = r->tx.rank; i-- > 0;) {
    if (r->reduced[i]) continue;
    ll_val n = tn_ll_dim(&r->k->body, r->tx.dims[i]);
    ix->at[i] = tn_ll_ix_scalar((int)i == first ? at : ll_imod(e, at, n));
    at = ll_idiv(e, at, n);
  }
}
/* Coordinates of the reduced axes, from the number of the term. */
static void place_reduced(red *r, ll_val term, tn_ll_index *ix) {
  tn_ll *e = r->k->e;
  int first = -1;
  for (uint32_t i = 0; i < r->tx.rank && first < 0; i++)
    if (r->reduced[i]) first = (int)i;
  for (uint32_t i = r->tx.rank; i-- > 0;) {
    if (!r->reduced[i]) continue;
    bool lanes = i == r->tx.rank - 1 && r->wide > 1;
    ll_val n = tn_ll_dim(&r->k->body, r->tx.dims[i]);
    if (lanes) n = ll_idiv(e, n, ll_k(e, r->wide));
    ll_val at = (int)i == first ? term : ll_imod(e, term, n);
    ix->at[i] = lanes ? tn_ll_ix_lanes(ll_imul(e, at, ll_k(e, r->wide)), true) : tn_ll_ix_scalar(at);
    term = ll_idiv(e, term, n);
  }
}

static void take_term(red *r, ll_val term, ll_val *acc) {
  tn_ll *e = r->k->e;
  tn_ll_index ix = {.rank = r->tx.rank, .shape = r->tx.dims};
  if (r->line) {
    ll_val at = ll_iadd(e, ll_imul(e, r->result, tn_ll_dim(&r->k->body, r->terms)), term);
    at = ll_imul(e, at, ll_k(e, r->wide));
    ix.collapsed = 1;
    ix.line = r->wide > 1 ? tn_ll_ix_lanes(at, true) : tn_ll_ix_scalar(at);
  } else {
    place_kept(r, &ix);
    place_reduced(r, term, &ix);
  }
  ll_val x = tn_ll_eval(&r->k->body, r->x, &ix);
  ll_val next[] = {ll_wide(e, tn_ll_convert(e, r->tx.dtype, r->acc_type, x), r->wide > 1), NULL};
  if (r->arg) {
    tn_ll_ix at = ix.at[r->axis];
    next[1] = at.kind == TN_IX_SCALAR ? at.v : tn_ll_ix_vector(&r->k->body, at);
  }
  fold(r, acc, next);
}

/* Terms first, first + step, ...: of a vector of lanes, their own sums. */
static void take_terms(red *r, ll_val first, ll_val step, ll_val *acc) {
  tn_ll *e = r->k->e;
  ll_type t = tn_ll_register_type(e, r->acc_type);
  bool vec = r->wide > 1;
  ll_loop l;
  acc[0] = neutral(r, vec ? ll_vec(e, t) : t);
  acc[1] = ll_int(e, vec ? ll_vec(e, e->i64) : e->i64, -1);
  ll_loop_begin(e, &l, first, tn_ll_dim(&r->k->body, r->terms), step, acc, r->n);
  tn_ll_body_forget(&r->k->body);
  for (uint32_t i = 0; i < r->n; i++) acc[i] = l.phi[i];
  take_term(r, l.iv, acc);
  ll_loop_end(e, &l, acc);
  tn_ll_body_forget(&r->k->body);
  for (uint32_t i = 0; i < r->n; i++) acc[i] = l.out[i];
}

/* ---- results ------------------------------------------------------------------------------------------- */

static ll_val mean_of(red *r, ll_val sum) {
  tn_ll *e = r->k->e;
  ll_val n = ll_k(e, 1);
  for (uint32_t i = 0; i < r->tx.rank; i++)
    if (r->reduced[i]) n = ll_imul(e, n, tn_ll_dim(&r->k->body, r->tx.dims[i]));
  if (is_float(r)) return ll_fdiv(e, sum, LLVMBuildSIToFP(e->b, n, LLVMTypeOf(sum), ""));
  n = ll_imax(e, n, ll_k(e, 1)); /* an empty sum is 0 */
  return r->acc_type == TN_DT_u64 ? ll_udiv(e, sum, n) : ll_sdiv(e, sum, n);
}
static ll_val give_value(void *ctx, const tn_ll_index *ix) {
  (void)ix;
  return ((red *)ctx)->value;
}
/* Stores the yields for this result. */
static void finish(red *r, const ll_val *acc) {
  tn_ll *e = r->k->e;
  tn_ll_body_forget(&r->k->body);
  if (r->arg)
    r->value = ll_imax(e, acc[1], ll_k(e, 0));
  else
    r->value = tn_ll_convert(e, r->acc_type, r->tx.dtype, is(r, "reduce_mean") ? mean_of(r, acc[0]) : acc[0]);
  tn_ll_index ix = tn_cuda_index(r->k, &r->to, r->result);
  tn_cuda_store_yields(r->k, &ix);
  tn_ll_body_forget(&r->k->body);
}

/* Scratch holds [values][parts][results]. */
static ll_val part_slot(red *r, ll_val part, uint32_t value) {
  tn_ll *e = r->k->e;
  ll_val at = ll_iadd(e, ll_imul(e, ll_k(e, value), tn_ll_dim(&r->k->body, r->parts)), part);
  return ll_iadd(e, ll_imul(e, at, tn_ll_dim(&r->k->body, r->results)), r->result);
}
static bool one_part(red *r) {
  int64_t parts;
  return tn_ll_dim_const(&r->k->body, r->parts, &parts) && parts == 1;
}
/* By one thread per result: the result itself, or its part. */
static void leave(red *r, const ll_val *acc) {
  tn_ll *e = r->k->e;
  ll_if whole;
  if (one_part(r)) {
    finish(r, acc);
    return;
  }
  ll_if_begin(e, &whole, ll_icmp(e, LLVMIntEQ, tn_ll_dim(&r->k->body, r->parts), ll_k(e, 1)));
  finish(r, acc);
  ll_if_else(e, &whole);
  ll_val room = tn_cuda_scratch_at(r->k, r->room), part = tn_cuda_i64(r->k, tn_cuda_block(r->k, 1));
  for (uint32_t i = 0; i < r->n; i++) tn_cuda_slot_put(r->k, room, part_slot(r, part, i), acc[i]);
  ll_if_end(e, &whole);
}

/* ---- launches ------------------------------------------------------------------------------------------ */

/* The part of this block, and how many steps apart its threads' terms lie. */
static ll_val first_term(red *r, ll_val member, uint32_t members, ll_val *step) {
  tn_ll *e = r->k->e;
  ll_val part = one_part(r) ? ll_k(e, 0) : tn_cuda_i64(r->k, tn_cuda_block(r->k, 1));
  *step = ll_imul(e, tn_ll_dim(&r->k->body, r->parts), ll_k(e, members));
  return ll_iadd(e, ll_imul(e, part, ll_k(e, members)), member);
}
static void when(red *r, ll_val cond, const ll_val *acc) {
  ll_if here;
  if (r->mine) cond = cond ? ll_and(r->k->e, cond, r->mine) : r->mine;
  if (cond) ll_if_begin(r->k->e, &here, cond);
  leave(r, acc);
  if (cond) ll_if_end(r->k->e, &here);
}
/* Results behind the last one are made again as the last one, and not stored. */
static void take_result(red *r, ll_val number) {
  tn_ll *e = r->k->e;
  ll_val all = tn_ll_dim(&r->k->body, r->results);
  r->mine = ll_icmp(e, LLVMIntSLT, number, all);
  r->result = ll_imin(e, number, ll_sub(e, all, ll_k(e, 1)));
}

static void by_teams(red *r) {
  tn_cuda_kernel *k = r->k;
  tn_ll *e = k->e;
  ll_val acc[2], step;
  tn_cuda_team_begin(&r->team, k, r->threads, r->width);
  if (r->width == r->threads)
    r->result = r->team.number;
  else
    take_result(r, r->team.number);
  ll_val first = first_term(r, r->team.member, r->width, &step);
  take_terms(r, first, step, acc);
  tn_cuda_lanes_fold(k, acc, r->n, fold, r);
  tn_cuda_team_fold(&r->team, acc, r->n, fold, r);
  when(r, r->width > 1 ? ll_icmp(e, LLVMIntEQ, r->team.member, ll_k(e, 0)) : NULL, acc);
}

/* Lanes along results; the warps of a block take terms in turn. */
static void by_columns(red *r) {
  tn_cuda_kernel *k = r->k;
  tn_ll *e = k->e;
  ll_val acc[2], other[2], step;
  if (r->slices == 1) {
    take_result(r, tn_cuda_position(k, r->threads));
    ll_val first = first_term(r, ll_k(e, 0), 1, &step);
    take_terms(r, first, step, acc);
    when(r, NULL, acc);
    return;
  }
  ll_val room = tn_cuda_shared(k, SLICES * LANES * 8 * r->n, 8), lane = tn_cuda_i64(k, tn_cuda_lane(k));
  ll_val slice = tn_cuda_i64(k, tn_cuda_warp(k)), block = tn_cuda_i64(k, tn_cuda_block(k, 0));
  take_result(r, ll_iadd(e, ll_imul(e, block, ll_k(e, LANES)), lane));
  ll_val first = first_term(r, slice, SLICES, &step);
  take_terms(r, first, step, acc);
  for (uint32_t i = 0; i < r->n; i++) {
    ll_val at = ll_iadd(e, ll_imul(e, ll_iadd(e, slice, ll_k(e, i * SLICES)), ll_k(e, LANES)), lane);
    tn_cuda_slot_put(k, room, at, acc[i]);
  }
  tn_cuda_barrier(k);
  for (uint32_t s = 0; s < SLICES; s++) {
    for (uint32_t i = 0; i < r->n; i++) {
      ll_val at = ll_iadd(e, ll_k(e, (int64_t)(s + i * SLICES) * LANES), lane);
      other[i] = tn_cuda_slot_get(k, LLVMTypeOf(acc[i]), room, at);
    }
    if (s)
      fold(r, acc, other);
    else
      memcpy(acc, other, sizeof acc);
  }
  when(r, ll_icmp(e, LLVMIntEQ, slice, ll_k(e, 0)), acc);
}

static void join_parts(red *r) {
  tn_cuda_kernel *k = r->k;
  tn_ll *e = k->e;
  tn_dim none = tn_cuda_dim_k(k, -1), one = tn_cuda_dim_k(k, 1),
         blocks = tn_cuda_dim_ceildiv(k, r->results, SECOND);
  tn_dim more = tn_cuda_dim_min(k, tn_cuda_dim_add(k, r->parts, none), one);
  tn_cuda_shape shape = {.threads = SECOND, .grid = {tn_cuda_dim_mul(k, blocks, more)}};
  ll_type t = tn_ll_register_type(e, r->acc_type);
  ll_val acc[] = {neutral(r, t), ll_k(e, -1)}, other[2];
  ll_loop l;
  ll_if here;
  tn_cuda_launch_begin(k, &shape);
  take_result(r, tn_cuda_position(k, SECOND));
  ll_if_begin(e, &here, r->mine);
  ll_val room = tn_cuda_scratch_at(k, r->room);
  ll_loop_begin(e, &l, ll_k(e, 0), tn_ll_dim(&k->body, r->parts), ll_k(e, 1), acc, r->n);
  for (uint32_t i = 0; i < r->n; i++) {
    acc[i] = l.phi[i];
    other[i] = tn_cuda_slot_get(k, LLVMTypeOf(acc[i]), room, part_slot(r, l.iv, i));
  }
  fold(r, acc, other);
  ll_loop_end(e, &l, acc);
  finish(r, l.out);
  ll_if_end(e, &here);
  tn_cuda_launch_end(k);
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static void read_op(red *r) {
  tn_ll_body *b = &r->k->body;
  r->tx = tn_cuda_type(r->k, r->x);
  r->to = tn_cuda_type(r->k, r->out);
  r->arg = is(r, "argmax") || is(r, "argmin");
  r->n = r->arg ? 2 : 1;
  if (r->arg) {
    r->last = tn_ll_attr_int(b, r->k->root, "last");
    r->axis = tn_ll_axis(tn_ll_attr_int(b, r->k->root, "axis"), r->tx.rank);
    r->reduced[r->axis] = true;
  } else {
    tn_attr axes = tn_ll_attr(b, r->k->root, "axes");
    for (uint32_t i = 0; i < axes.count; i++) r->reduced[tn_ll_axis(axes.u.ints[i], r->tx.rank)] = true;
  }
  r->fold = !r->tx.rank || r->reduced[r->tx.rank - 1];
  r->acc_type = r->tx.dtype;
  if (is_float(r) && r->acc_type != TN_DT_f64) r->acc_type = TN_DT_f32;
  bool ordered = r->arg || is(r, "reduce_max") || is(r, "reduce_min");
  if (!is_float(r) && !ordered)
    r->acc_type = tn_ll_dtype_of(r->acc_type).cls == TN_CLASS_INT ? TN_DT_i64 : TN_DT_u64;
}

/* Are the reduced axes the last ones? */
static bool together(const red *r) {
  bool seen = false;
  for (uint32_t i = 0; i < r->tx.rank; i++) {
    if (seen && !r->reduced[i]) return false;
    seen |= r->reduced[i];
  }
  return true;
}

/* So many parts that there is work for all of a device, and each part is worth a block. */
static tn_dim parts_of(red *r, tn_dim blocks, int64_t most_terms) {
  tn_cuda_kernel *k = r->k;
  tn_dim one = tn_cuda_dim_k(k, 1), enough = tn_cuda_dim_k(k, BLOCKS);
  int64_t terms;
  if (tn_ll_dim_const(&k->body, r->terms, &terms) && terms <= most_terms) return one;
  tn_dim wanted = k->u->ir->dim_make(k->u->m, TN_DIM_FLOORDIV, enough, tn_cuda_dim_max(k, blocks, one));
  tn_dim parts = tn_cuda_dim_min(k, wanted, tn_cuda_dim_ceildiv(k, r->terms, most_terms));
  return tn_cuda_dim_max(k, one, tn_cuda_dim_min(k, parts, tn_cuda_dim_k(k, MOST_PARTS)));
}

static tn_dim plan(red *r) {
  tn_cuda_kernel *k = r->k;
  int64_t n = 0;
  r->wide = 1;
  r->results = r->terms = tn_cuda_dim_k(k, 1);
  if (r->fold && r->tx.rank) r->wide = tn_cuda_wide(k, r->tx.dims[r->tx.rank - 1]);
  for (uint32_t i = 0; i < r->tx.rank; i++) {
    tn_dim d = r->tx.dims[i], *to = r->reduced[i] ? &r->terms : &r->results;
    if (i == r->tx.rank - 1 && r->wide > 1) d = tn_cuda_dim_ceildiv(k, d, r->wide);
    *to = tn_cuda_dim_mul(k, *to, d);
  }
  r->line = !r->arg && together(r) && tn_ll_is_line(&k->body, r->x, &r->tx);
  bool known = tn_ll_dim_const(&k->body, r->terms, &n);
  if (r->fold) {
    r->width = tn_cuda_team_width(known ? n ? n : 1 : 0, &r->threads);
    tn_dim blocks = tn_cuda_dim_ceildiv(k, r->results, r->threads / r->width);
    r->parts = parts_of(r, blocks, PART);
    return blocks;
  }
  r->threads = LANES * SLICES;
  r->slices = known && n <= SLICES ? 1 : SLICES;
  tn_dim blocks = tn_cuda_dim_ceildiv(k, r->results, r->threads / r->slices);
  r->parts = parts_of(r, blocks, PART / LANES);
  return blocks;
}

static void emit(tn_cuda_kernel *k) {
  red r = {.k = k, .x = tn_cuda_operand(k, 0), .out = tn_cuda_result(k, 0), .name = k->root_name};
  read_op(&r);
  tn_cuda_shape shape = {.grid = {plan(&r)}};
  shape.threads = r.threads;
  shape.grid[1] = r.parts;
  if (!one_part(&r)) {
    tn_dim slots = tn_cuda_dim_mul(k, r.results, tn_cuda_dim_mul(k, r.parts, tn_cuda_dim_k(k, r.n)));
    r.room = tn_cuda_scratch(k, tn_cuda_dim_mul(k, slots, tn_cuda_dim_k(k, 8)));
  }
  tn_ll_body_give(&k->body, r.out, give_value, &r);
  tn_cuda_launch_begin(k, &shape);
  if (r.fold)
    by_teams(&r);
  else
    by_columns(&r);
  tn_cuda_launch_end(k);
  if (!one_part(&r)) join_parts(&r);
}

static bool prologue(const tn_cuda_ask *a) {
  tn_type_info x = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->root, 0)),
               y = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 0));
  return tn_ll_is_cheap(a->name) || (tn_ll_is_elementwise(a->name) && tn_ll_same_dims(&x, &y));
}

static const char *const roots[] = {"reduce_sum",  "reduce_mean", "reduce_max", "reduce_min",
                                    "reduce_prod", "argmax",      "argmin",     NULL};
const tn_cuda_skeleton tn_cuda_skeleton_reduce = {.roots = roots,
                                                  .claim = tn_cuda_plain,
                                                  .prologue = prologue,
                                                  .epilogue = tn_cuda_takes_elementwise,
                                                  .emit = emit};
