/* skel_reduce.c - reductions over any axes, argmax, argmin, and softmax along an axis other than the last.
 * The results are walked; for each, the reduced axes are looped over. If the last axis stays, lanes lie along
 * it and every lane has its own result; if it is reduced, lanes share one result and are folded at the end.
 * Order depends on shapes only. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

typedef struct red {
  tn_cpu_kernel *k;
  tn_value x, out;
  tn_type_info tx, to;
  const char *name;
  bool reduced[TN_MAX_RANK], keep, fold; /* fold: the last axis is among the reduced ones */
  bool arg, last;                        /* argmax or argmin; of equals the highest index */
  tn_dtype acc_type; /* f32 or f64; of integers 64 bits, or the type itself where only order counts */
  tn_cpu_rows rows;
  tn_ll_ix outer[TN_MAX_RANK]; /* coordinates of x: of the kept axes; filled in for the reduced ones */
  ll_val result, result_index;
  ll_val mask; /* of the columns of the result being made */
} red;

/* ---- what is accumulated ---- */
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
  if (!is_float(r)) return ll_select(e, better(r, x, y), x, y);
  /* the same with as little as possible that waits for y: it stays where it is NaN, since then nothing is
   * larger */
  ll_val more = ll_fcmp(e, is(r, "reduce_min") ? LLVMRealOLT : LLVMRealOGT, x, y);
  return ll_select(e, ll_fcmp(e, LLVMRealUNO, x, x), x, ll_select(e, more, x, y));
}

/* Neither is before the other: equal, or both NaN. */
static ll_val tied(red *r, ll_val x, ll_val y) {
  return ll_not(r->k->e, ll_or(r->k->e, better(r, x, y), better(r, y, x)));
}

/* ---- the loops over reduced axes ---- */
static tn_ll_index x_index(red *r, ll_val mask) {
  tn_ll_index ix = {.rank = r->tx.rank, .mask = mask};
  memcpy(ix.at, r->outer, sizeof r->outer);
  return ix;
}
static ll_val x_value(red *r, const tn_ll_index *ix) {
  return tn_ll_convert(r->k->e, r->tx.dtype, r->acc_type, tn_ll_eval(&r->k->body, r->x, ix));
}
static ll_val ix_as(red *r, tn_ll_ix ix, bool vec) { return vec ? tn_ll_ix_vector(&r->k->body, ix) : ix.v; }

/* One step: acc[0] the value so far, acc[1] (argmax, argmin) its index along the axis. */
static void step(red *r, ll_val mask, ll_val *acc) {
  tn_ll *e = r->k->e;
  tn_ll_index ix = x_index(r, mask);
  bool vec = ll_is_vec(acc[0]);
  ll_val x = ll_wide(e, x_value(r, &ix), vec);
  if (mask && r->fold) x = ll_select(e, mask, x, neutral(r, LLVMTypeOf(x)));
  if (!r->arg) {
    acc[0] = combine(r, acc[0], x);
    return;
  }
  uint32_t axis = tn_ll_axis(tn_ll_attr_int(&r->k->body, r->k->root, "axis"), r->tx.rank);
  ll_val at = ll_wide(e, ix_as(r, r->outer[axis], r->outer[axis].kind != TN_IX_SCALAR), vec);
  /* index -1: nothing yet, so even the lowest value is taken once */
  ll_val take = ll_or(e, better(r, x, acc[0]), ll_icmp(e, LLVMIntSLT, acc[1], ll_i(e, acc[1], 0)));
  if (r->last) take = ll_or(e, take, tied(r, x, acc[0]));
  if (mask && r->fold) take = ll_and(e, take, mask);
  acc[0] = ll_select(e, take, x, acc[0]);
  acc[1] = ll_select(e, take, at, acc[1]);
}
static void fold_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  red *r = ctx;
  (void)k;
  r->outer[r->tx.rank - 1] = j;
  step(r, mask, acc);
}

/* Loops over reduced axes from `axis` on. */
static void reduce_from(red *r, uint32_t axis, ll_val *acc, uint32_t n) {
  tn_ll *e = r->k->e;
  while (axis < r->tx.rank && !r->reduced[axis]) axis++;
  if (axis == r->tx.rank) {
    tn_ll_body_forget(&r->k->body);
    step(r, r->mask, acc);
    return;
  }
  ll_val size = tn_ll_dim(&r->k->body, r->tx.dims[axis]);
  if (axis == r->tx.rank - 1) {
    tn_cpu_columns(r->k, ll_k(e, 0), size, fold_column, r, acc, n);
    return;
  }
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), size, ll_k(e, 1), acc, n);
  for (uint32_t i = 0; i < n; i++) acc[i] = l.phi[i];
  r->outer[axis] = tn_ll_ix_scalar(l.iv);
  reduce_from(r, axis + 1, acc, n);
  ll_loop_end(e, &l, acc);
  for (uint32_t i = 0; i < n; i++) acc[i] = l.out[i];
  tn_ll_body_forget(&r->k->body);
}

/* Lanes to one: of equal values the lowest index counts, or the highest. */
static void fold_lanes(red *r, ll_val *acc, uint32_t n) {
  tn_ll *e = r->k->e;
  ll_val v = ll_lane(e, acc[0], 0), at = n > 1 ? ll_lane(e, acc[1], 0) : NULL;
  if (n == 1) {
    for (uint32_t half = e->lanes / 2; half; half /= 2) {
      int hi[64];
      for (uint32_t i = 0; i < e->lanes; i++) hi[i] = (int)((i + half) % e->lanes);
      acc[0] = combine(r, acc[0], ll_shuffle(e, acc[0], acc[0], hi, e->lanes));
    }
    acc[0] = ll_lane(e, acc[0], 0);
    return;
  }
  for (uint32_t i = 1; i < e->lanes; i++) {
    ll_val x = ll_lane(e, acc[0], i), j = ll_lane(e, acc[1], i), zero = ll_k(e, 0);
    ll_val there = ll_icmp(e, LLVMIntSGE, j, zero), none = ll_icmp(e, LLVMIntSLT, at, zero);
    ll_val before = ll_icmp(e, r->last ? LLVMIntSGT : LLVMIntSLT, j, at);
    ll_val take = ll_or(e, better(r, x, v), ll_and(e, tied(r, x, v), before));
    take = ll_and(e, there, ll_or(e, none, take));
    v = ll_select(e, take, x, v);
    at = ll_select(e, take, j, at);
  }
  acc[0] = v;
  acc[1] = at;
}

static ll_val reduced_count(red *r) {
  ll_val n = ll_k(r->k->e, 1);
  for (uint32_t i = 0; i < r->tx.rank; i++)
    if (r->reduced[i]) n = ll_imul(r->k->e, n, tn_ll_dim(&r->k->body, r->tx.dims[i]));
  return n;
}

/* The result(s) at the current coordinates, in r->result. */
static void reduce_here(red *r) {
  tn_ll *e = r->k->e;
  bool arg = r->arg, vec = r->fold || r->outer[r->tx.rank - 1].kind != TN_IX_SCALAR;
  ll_type t = tn_ll_register_type(e, r->acc_type);
  if (vec) t = ll_vec(e, t);
  ll_val acc[2] = {neutral(r, t), ll_int(e, vec ? ll_vec(e, e->i64) : e->i64, -1)};
  reduce_from(r, 0, acc, arg ? 2 : 1);
  if (r->fold) fold_lanes(r, acc, arg ? 2 : 1);
  if (is(r, "reduce_mean")) {
    ll_val n = reduced_count(r);
    if (is_float(r))
      n = LLVMBuildSIToFP(e->b, n, ll_elem(acc[0]), "");
    else
      n = ll_imax(e, n, ll_k(e, 1)); /* integers accumulate in 64 bits; an empty sum is 0 */
    n = ll_wide(e, n, ll_is_vec(acc[0]));
    acc[0] = is_float(r)                ? ll_fdiv(e, acc[0], n)
             : r->acc_type == TN_DT_u64 ? ll_udiv(e, acc[0], n)
                                        : ll_sdiv(e, acc[0], n);
  }
  r->result =
      arg ? ll_select(e, ll_icmp(e, LLVMIntSLT, acc[1], ll_i(e, acc[1], 0)), ll_i(e, acc[1], 0), acc[1])
          : tn_ll_convert(e, r->acc_type, r->tx.dtype, acc[0]);
}

static ll_val give_result(void *ctx, const tn_ll_index *ix) {
  (void)ix;
  return ((red *)ctx)->result;
}

/* ---- the walk over results ---- */
/* Coordinates of x from those of the result. */
static void place(red *r, const tn_ll_index *ix) {
  uint32_t j = 0;
  for (uint32_t i = 0; i < r->tx.rank; i++) {
    r->outer[i] = r->reduced[i] ? tn_ll_ix_scalar(ll_k(r->k->e, 0)) : ix->at[j];
    if (!r->reduced[i] || r->keep) j++;
  }
}
static void result_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  red *r = ctx;
  (void)acc;
  tn_ll_index ix = tn_cpu_row_index(&r->rows, &r->to, j, mask);
  r->mask = mask;
  place(r, &ix);
  reduce_here(r);
  r->mask = NULL;
  tn_cpu_store_yields(k, &ix);
}
static void result_scalar(red *r) {
  tn_ll_index ix = {.rank = r->to.rank, .shape = r->to.dims};
  for (uint32_t i = 0; i < r->to.rank; i++) ix.at[i] = r->rows.at[i];
  place(r, &ix);
  reduce_here(r);
  tn_ll_body_forget(&r->k->body);
  tn_cpu_store_yields(r->k, &ix);
}

static void walk(red *r) {
  tn_cpu_kernel *k = r->k;
  ll_val sizes[TN_MAX_RANK], lo, hi;
  uint32_t rank = r->to.rank, outer = r->fold ? rank : rank - 1;
  for (uint32_t i = 0; i < rank; i++) sizes[i] = tn_ll_dim(&k->body, r->to.dims[i]);
  tn_cpu_share(k, tn_ll_dims(&k->body, r->to.dims, 0, outer), &lo, &hi);
  tn_cpu_rows_begin(k, &r->rows, sizes, outer, lo, hi);
  if (r->fold)
    result_scalar(r);
  else
    tn_cpu_columns(k, ll_k(k->e, 0), sizes[rank - 1], result_column, r, NULL, 0);
  tn_cpu_rows_end(k, &r->rows);
}

/* ---- softmax along an inner axis ---- */
typedef struct inner {
  red r;
  uint32_t axis;
  ll_val top, scale;
} inner;

static void sum_exp(red *r, inner *s, ll_val *acc) {
  tn_ll *e = r->k->e;
  tn_ll_index ix = x_index(r, r->mask);
  acc[0] = ll_fadd(e, acc[0], tn_ll_exp_neg(e, ll_fsub(e, ll_wide(e, x_value(r, &ix), true), s->top)));
}
static ll_val give_share(void *ctx, const tn_ll_index *ix) {
  inner *s = ctx;
  tn_ll *e = s->r.k->e;
  ll_val x = ll_wide(e, x_value(&s->r, ix), true);
  x = ll_fmul(e, tn_ll_exp_neg(e, ll_fsub(e, x, s->top)), s->scale);
  return tn_ll_convert(e, s->r.acc_type, s->r.tx.dtype, x);
}
static void softmax_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  inner *s = ctx;
  red *r = &s->r;
  tn_ll *e = k->e;
  (void)none;
  ll_type t = ll_vec(e, tn_ll_register_type(e, r->acc_type));
  ll_val size = tn_ll_dim(&k->body, r->tx.dims[s->axis]), inf = ll_real(e, t, __builtin_inf());
  for (uint32_t i = 0, at = 0; i + 1 < r->tx.rank; i++)
    if (i != s->axis) r->outer[i] = r->rows.at[at++];
  r->outer[r->tx.rank - 1] = j;
  r->mask = mask;
  ll_loop l;
  for (int pass = 0; pass < 3; pass++) {
    ll_val acc = pass ? ll_zero(t) : ll_neg(e, inf);
    ll_loop_begin(e, &l, ll_k(e, 0), size, ll_k(e, 1), &acc, 1);
    tn_ll_body_forget(&k->body);
    acc = l.phi[0];
    r->outer[s->axis] = tn_ll_ix_scalar(l.iv);
    tn_ll_index ix = x_index(r, mask);
    if (pass == 0)
      acc = ll_fmax(e, ll_wide(e, x_value(r, &ix), true), acc);
    else if (pass == 1)
      sum_exp(r, s, &acc);
    else
      tn_cpu_store_yields(k, &ix);
    ll_loop_end(e, &l, &acc);
    tn_ll_body_forget(&k->body);
    ll_val v = l.out[0], zero = ll_f(e, v, 0);
    if (pass == 0) s->top = ll_select(e, ll_fcmp(e, LLVMRealOEQ, v, ll_neg(e, inf)), zero, v);
    if (pass == 1)
      s->scale = ll_select(e, ll_fcmp(e, LLVMRealOEQ, v, zero), zero, ll_fdiv(e, ll_f(e, v, 1), v));
  }
}
static void walk_softmax(inner *s) {
  red *r = &s->r;
  tn_cpu_kernel *k = r->k;
  ll_val sizes[TN_MAX_RANK], outer = ll_k(k->e, 1), lo, hi;
  uint32_t n = 0;
  for (uint32_t i = 0; i + 1 < r->tx.rank; i++)
    if (i != s->axis) {
      sizes[n] = tn_ll_dim(&k->body, r->tx.dims[i]);
      outer = ll_imul(k->e, outer, sizes[n++]);
    }
  tn_cpu_share(k, outer, &lo, &hi);
  tn_cpu_rows_begin(k, &r->rows, sizes, n, lo, hi);
  tn_cpu_columns(k, ll_k(k->e, 0), tn_ll_dim(&k->body, r->tx.dims[r->tx.rank - 1]), softmax_column, s, NULL,
                 0);
  tn_cpu_rows_end(k, &r->rows);
}

/* ---- the kernel ---- */
static void read_axes(red *r) {
  tn_ll_body *b = &r->k->body;
  if (r->arg) {
    r->last = tn_ll_attr_int(b, r->k->root, "last");
    r->reduced[tn_ll_axis(tn_ll_attr_int(b, r->k->root, "axis"), r->tx.rank)] = true;
  } else {
    tn_attr axes = tn_ll_attr(b, r->k->root, "axes");
    for (uint32_t i = 0; i < axes.count; i++) r->reduced[tn_ll_axis(axes.u.ints[i], r->tx.rank)] = true;
  }
  r->keep = tn_ll_attr_int(b, r->k->root, "keep");
  r->fold = !r->tx.rank || r->reduced[r->tx.rank - 1];
}

void tn_cpu_emit_reduce(tn_cpu_kernel *k) {
  inner s = {.r = {.k = k, .x = tn_cpu_operand(k, 0), .out = tn_cpu_result(k, 0), .name = k->root_name}};
  red *r = &s.r;
  r->tx = tn_cpu_type(k, r->x);
  r->to = tn_cpu_type(k, r->out);
  r->acc_type = r->tx.dtype;
  if (is_float(r) && r->acc_type != TN_DT_f64) r->acc_type = TN_DT_f32;
  if (!strcmp(k->root_name, "softmax")) {
    s.axis = tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), r->tx.rank);
    tn_ll_body_give(&k->body, r->out, give_share, &s);
    walk_softmax(&s);
    return;
  }
  r->arg = is(r, "argmax") || is(r, "argmin");
  read_axes(r);
  bool ordered = r->arg || is(r, "reduce_max") || is(r, "reduce_min");
  if (!is_float(r) && !ordered)
    r->acc_type = tn_ll_dtype_of(r->acc_type).cls == TN_CLASS_INT ? TN_DT_i64 : TN_DT_u64;
  tn_ll_body_give(&k->body, r->out, give_result, r);
  walk(r);
}
