/* skel_window.c - pool, argpool, and convolutions with one channel per group: results row by row, lanes along
 * the last spatial dim, and for each vector of results the taps of the window in order. Most vectors lie
 * where every tap is inside and are read without masks. Where windows are two apart, every other element of
 * two vectors is taken; further apart, lanes are gathered. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"

#define AXES 3    /* spatial dims; of fewer the first ones have size 1 */
#define UNROLL 32 /* taps up to which they are written one by one */

typedef struct window {
  tn_cpu_kernel *k;
  tn_value x, w, bias, out; /* w: of a convolution */
  tn_type_info tx, to;
  uint32_t spatial;
  bool arg, max, mean, count_pad;
  tn_dtype acc_type;
  int64_t size[AXES], stride[AXES], dilation[AXES], taps, outputs; /* outputs: of a channel */
  ll_val in[AXES], low[AXES], high[AXES];
  /* of the row of results being made */
  tn_ll_ix at[TN_MAX_RANK];
  ll_val weights[UNROLL], rows_inside; /* rows_inside: of all taps */
  /* of the vector being made */
  tn_ll_ix column;
  bool inside; /* all taps are */
  ll_val tap[AXES], row_inside, column_mask, result;
} window;

static bool is_float(const window *p) { return tn_ll_dtype_of(p->acc_type).cls == TN_CLASS_FLOAT; }

/* ---- elements of x ---- */
/* The coordinate of axis i that tap t of the window at `at` reads. */
static ll_val source_of(window *p, uint32_t i, ll_val at, ll_val t) {
  tn_ll *e = p->k->e;
  at = ll_add(e, ll_mul(e, at, ll_k(e, p->stride[i])), ll_mul(e, t, ll_k(e, p->dilation[i])));
  return ll_sub(e, at, p->low[i]);
}
/* The same of the current window; of x for lane 0. */
static ll_val source(window *p, uint32_t i, ll_val t) {
  if (i == AXES - 1) return source_of(p, i, p->column.v, t);
  return source_of(p, i, i < AXES - p->spatial ? ll_k(p->k->e, 0) : p->at[2 + i + p->spatial - AXES].v, t);
}
/* Lanes of from, from + step, ... in [lo, hi). */
static ll_val lanes_within(tn_ll *e, ll_val from, int64_t step, ll_val lo, ll_val hi) {
  ll_val t = ll_splat(e, LLVMBuildTrunc(e->b, ll_sub(e, from, lo), e->i32, ""));
  ll_val at = ll_add(e, t, ll_mul(e, ll_steps(e, e->i32), ll_int(e, ll_vec(e, e->i32), step)));
  return ll_icmp(e, LLVMIntULT, at, ll_splat(e, LLVMBuildTrunc(e->b, ll_sub(e, hi, lo), e->i32, "")));
}
static ll_val load(window *p, tn_ll_ix x, ll_val mask) {
  tn_ll *e = p->k->e;
  tn_ll_index ix = {
      .rank = p->tx.rank, .pred = p->inside ? NULL : p->row_inside, .mask = p->inside ? NULL : mask};
  ix.at[0] = p->at[0];
  ix.at[1] = tn_ll_ix_scalar(ll_idiv(e, p->at[1].v, ll_k(e, p->outputs)));
  for (uint32_t i = 0; i + 1 < p->spatial; i++) {
    uint32_t axis = AXES - p->spatial + i;
    ix.at[2 + i] = tn_ll_ix_scalar(source(p, axis, p->tap[axis]));
  }
  ix.at[p->tx.rank - 1] = x;
  tn_ll_body_forget(&p->k->body);
  return ll_wide(e, tn_ll_eval(&p->k->body, p->x, &ix), true);
}

/* x under the tap for every lane. `mask`: lanes that have one. */
static ll_val tap_value(window *p, ll_val from, ll_val mask) {
  tn_ll *e = p->k->e;
  int64_t step = p->stride[AXES - 1];
  if (step == 1) return load(p, tn_ll_ix_lanes(from, false), mask);
  if (step == 2) {
    int even[64]; /* of 2 lanes - 1 elements, the last of the first vector being the first of the second */
    for (uint32_t i = 0; i < e->lanes; i++) even[i] = (int)(2 * i < e->lanes ? 2 * i : 2 * i + 1);
    ll_val next = ll_add(e, from, ll_k(e, e->lanes - 1)), n = p->in[AXES - 1], zero = ll_k(e, 0);
    ll_val a = load(p, tn_ll_ix_lanes(from, false), p->inside ? NULL : lanes_within(e, from, 1, zero, n));
    ll_val b = load(p, tn_ll_ix_lanes(next, false), p->inside ? NULL : lanes_within(e, next, 1, zero, n));
    return ll_shuffle(e, a, b, even, e->lanes);
  }
  ll_val lanes = ll_mul(e, ll_steps(e, e->i64), ll_int(e, ll_vec(e, e->i64), step));
  return load(p, (tn_ll_ix){ll_add(e, ll_splat(e, from), lanes), TN_IX_VECTOR, 0}, mask);
}

/* ---- accumulators ---- */
static ll_val lowest(window *p, ll_type t) {
  tn_ll *e = p->k->e;
  tn_ll_dtype d = tn_ll_dtype_of(p->acc_type);
  if (is_float(p)) return ll_real(e, t, -__builtin_inf());
  if (d.cls != TN_CLASS_INT) return ll_int(e, t, 0);
  return ll_int(e, t, INT64_MIN >> (64 - 8 * d.bytes));
}
/* Is x before y: larger, or the first NaN? */
static ll_val better(window *p, ll_val x, ll_val y) {
  tn_ll *e = p->k->e;
  if (is_float(p)) return ll_and(e, ll_fcmp(e, LLVMRealUGT, x, y), ll_fcmp(e, LLVMRealORD, y, y));
  bool sign = tn_ll_dtype_of(p->acc_type).cls == TN_CLASS_INT;
  return ll_icmp(e, sign ? LLVMIntSGT : LLVMIntUGT, x, y);
}
static ll_val narrowed(tn_ll *e, ll_val take, ll_val mask) { return mask ? ll_and(e, take, mask) : take; }

static void add_max(window *p, ll_val x, ll_val from, ll_val mask, ll_val *acc) {
  tn_ll *e = p->k->e;
  if (!p->arg && is_float(p)) { /* ll_fmax keeps a NaN in acc */
    if (mask) x = ll_select(e, mask, x, lowest(p, LLVMTypeOf(x)));
    acc[0] = ll_select(e, ll_fcmp(e, LLVMRealUNO, x, x), x, ll_fmax(e, x, acc[0]));
    return;
  }
  ll_val take = better(p, x, acc[0]);
  if (p->arg) take = ll_or(e, take, ll_icmp(e, LLVMIntSLT, acc[1], ll_i(e, acc[1], 0))); /* the first one */
  take = narrowed(e, take, mask);
  acc[0] = ll_select(e, take, x, acc[0]);
  if (!p->arg) return;
  ll_val step = ll_int(e, ll_vec(e, e->i64), p->stride[AXES - 1]), flat = ll_k(e, 0);
  for (uint32_t i = 0; i + 1 < AXES; i++)
    flat = ll_mul(e, ll_add(e, flat, source(p, i, p->tap[i])), p->in[i + 1]);
  ll_val at = ll_add(e, ll_splat(e, ll_add(e, flat, from)), ll_mul(e, ll_steps(e, e->i64), step));
  acc[1] = ll_select(e, take, at, acc[1]);
}

/* The weight under the current tap. */
static ll_val weight(window *p) {
  tn_ll *e = p->k->e;
  int64_t z, y, x;
  if (ll_const(p->tap[0], &z) && ll_const(p->tap[1], &y) && ll_const(p->tap[2], &x) && p->taps <= UNROLL)
    return p->weights[(z * p->size[1] + y) * p->size[2] + x];
  tn_ll_index ix = {.rank = p->tx.rank, .at = {p->at[1], tn_ll_ix_scalar(ll_k(e, 0))}};
  for (uint32_t i = 0; i < p->spatial; i++) ix.at[2 + i] = tn_ll_ix_scalar(p->tap[AXES - p->spatial + i]);
  tn_ll_body_forget(&p->k->body);
  return ll_wide(e, tn_ll_eval_f32(&p->k->body, p->w, &ix), true);
}

/* acc[0]: the value so far; acc[1]: argpool its position. */
static void add_tap(window *p, ll_val *acc) {
  tn_ll *e = p->k->e;
  ll_val from = source(p, AXES - 1, p->tap[AXES - 1]), n = p->in[AXES - 1], mask = NULL;
  int64_t step = p->stride[AXES - 1];
  if (!p->inside) {
    ll_val in = lanes_within(e, from, step, ll_k(e, 0), n);
    mask = narrowed(e, ll_and(e, in, ll_splat(e, p->row_inside)), p->column_mask);
  }
  ll_val x = tn_ll_convert(e, p->tx.dtype, p->acc_type, tap_value(p, from, mask));
  if (p->max) {
    add_max(p, x, from, mask, acc);
    return;
  }
  if (mask && step != 1)
    x = ll_select(e, mask, x, ll_zero(LLVMTypeOf(x))); /* else the load has put zeros there */
  acc[0] = p->w ? ll_fma(e, weight(p), x, acc[0]) : ll_fadd(e, acc[0], x);
}

/* How many taps along axis i count for a mean, as i32; of x for every lane. */
static ll_val count_along(window *p, uint32_t i) {
  tn_ll *e = p->k->e;
  bool lanes = i == AXES - 1;
  ll_type t = lanes ? ll_vec(e, e->i32) : e->i32;
  ll_val zero = ll_int(e, t, 0), one = ll_int(e, t, 1), n = zero, pad = ll_k(e, 0);
  ll_val lo = p->count_pad ? ll_sub(e, pad, p->low[i]) : pad;
  ll_val hi = p->count_pad ? ll_add(e, p->in[i], p->high[i]) : p->in[i];
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, p->size[i]), ll_k(e, 1), &n, 1);
  ll_val at = source(p, i, l.iv), in;
  if (lanes)
    in = lanes_within(e, at, p->stride[i], lo, hi);
  else
    in = ll_and(e, ll_icmp(e, LLVMIntSGE, at, lo), ll_icmp(e, LLVMIntSLT, at, hi));
  n = ll_add(e, l.phi[0], ll_select(e, in, one, zero));
  ll_loop_end(e, &l, &n);
  return l.out[0];
}
static ll_val count_taps(window *p) {
  tn_ll *e = p->k->e;
  ll_val rows = ll_mul(e, count_along(p, 0), count_along(p, 1)), n = count_along(p, 2);
  n = ll_mul(e, n, ll_splat(e, rows));
  return LLVMBuildUIToFP(e->b, n, ll_vec(e, tn_ll_register_type(e, p->acc_type)), "");
}

/* Narrows row_inside to where tap[i] lies; x has masks of its own. */
static void enter_tap(window *p, uint32_t i) {
  tn_ll *e = p->k->e;
  if (i == AXES - 1 || p->inside) return;
  p->row_inside = ll_and(e, p->row_inside, ll_icmp(e, LLVMIntULT, source(p, i, p->tap[i]), p->in[i]));
}

/* Taps from axis i on: written out, or as loops. */
static void taps_from(window *p, uint32_t i, ll_val *acc, uint32_t nacc) {
  tn_ll *e = p->k->e;
  ll_val inside = p->row_inside;
  bool loops = p->taps > UNROLL;
  ll_loop l;
  if (i == AXES) {
    add_tap(p, acc);
    return;
  }
  if (loops) ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, p->size[i]), ll_k(e, 1), acc, nacc);
  for (uint32_t n = 0; loops && n < nacc; n++) acc[n] = l.phi[n];
  for (int64_t t = 0; t < (loops ? 1 : p->size[i]); t++) {
    p->tap[i] = loops ? l.iv : ll_k(e, t);
    enter_tap(p, i);
    taps_from(p, i + 1, acc, nacc);
    p->row_inside = inside;
  }
  if (!loops) return;
  ll_loop_end(e, &l, acc);
  for (uint32_t n = 0; n < nacc; n++) acc[n] = l.out[n];
  tn_ll_body_forget(&p->k->body);
}

/* ---- results ---- */
static ll_val give_result(void *ctx, const tn_ll_index *ix) {
  (void)ix;
  return ((window *)ctx)->result;
}

/* One vector of results; `inside`: every tap of every lane is. */
static void results(window *p, ll_val j, ll_val mask, bool inside) {
  tn_cpu_kernel *k = p->k;
  tn_ll *e = k->e;
  ll_type t = ll_vec(e, tn_ll_register_type(e, p->acc_type));
  ll_val acc[2] = {p->max ? lowest(p, t) : ll_zero(t)};
  acc[1] = p->arg ? ll_int(e, ll_vec(e, e->i64), -1) : ll_zero(t);
  p->column = tn_ll_ix_lanes(j, false);
  p->column_mask = mask;
  p->inside = inside;
  p->row_inside = LLVMConstInt(e->i1, 1, 0);
  tn_ll_body_forget(&k->body);
  if (p->bias) {
    tn_ll_index at = {.rank = 1, .at = {p->at[1]}};
    acc[0] = ll_wide(e, tn_ll_eval_f32(&k->body, p->bias, &at), true);
  }
  taps_from(p, 0, acc, p->arg ? 2 : 1);
  if (p->mean) acc[0] = ll_fdiv(e, acc[0], inside ? ll_f(e, acc[0], (double)p->taps) : count_taps(p));
  p->result = p->arg ? acc[1] : tn_ll_convert(e, p->acc_type, p->to.dtype, acc[0]);
  tn_ll_index ix = {.rank = p->to.rank, .mask = mask, .shape = p->to.dims};
  for (uint32_t i = 0; i + 1 < p->to.rank; i++) ix.at[i] = p->at[i];
  ix.at[p->to.rank - 1] = p->column;
  tn_cpu_store_yields(k, &ix);
  tn_ll_body_forget(&k->body);
}

/* Are all taps of the vector at j inside? */
static ll_val vector_inside(window *p, ll_val j) {
  tn_ll *e = p->k->e;
  uint32_t x = AXES - 1;
  ll_val first = source_of(p, x, j, ll_k(e, 0));
  ll_val end = source_of(p, x, ll_add(e, j, ll_k(e, e->lanes - 1)), ll_k(e, p->size[x] - 1));
  ll_val in = ll_and(e, ll_icmp(e, LLVMIntSGE, first, ll_k(e, 0)), ll_icmp(e, LLVMIntSLT, end, p->in[x]));
  return ll_and(e, in, p->rows_inside);
}

/* A row of at least one vector: the last one overlaps the one before. */
static void wide_row(window *p, ll_val n) {
  tn_ll *e = p->k->e;
  ll_val lanes = ll_k(e, e->lanes), last = ll_sub(e, n, lanes);
  ll_loop l;
  ll_if in;
  ll_loop_begin(e, &l, ll_k(e, 0), n, lanes, NULL, 0);
  ll_val j = ll_imin(e, l.iv, last);
  ll_if_begin(e, &in, vector_inside(p, j));
  results(p, j, NULL, true);
  ll_if_else(e, &in);
  results(p, j, NULL, false);
  ll_if_end(e, &in);
  ll_loop_end(e, &l, NULL);
}

static void row(window *p) {
  tn_ll *e = p->k->e;
  ll_val n = tn_ll_dim(&p->k->body, p->to.dims[p->to.rank - 1]);
  int64_t known;
  bool fixed = ll_const(n, &known);
  ll_if wide;
  p->rows_inside = LLVMConstInt(e->i1, 1, 0);
  for (uint32_t i = AXES - p->spatial; i + 1 < AXES; i++) {
    ll_val first = source(p, i, ll_k(e, 0)), end = source(p, i, ll_k(e, p->size[i] - 1));
    ll_val in = ll_and(e, ll_icmp(e, LLVMIntSGE, first, ll_k(e, 0)), ll_icmp(e, LLVMIntSLT, end, p->in[i]));
    p->rows_inside = ll_and(e, p->rows_inside, in);
  }
  for (int64_t t = 0; p->w && p->taps <= UNROLL && t < p->taps; t++) {
    tn_ll_index ix = {.rank = p->tx.rank, .at = {p->at[1], tn_ll_ix_scalar(ll_k(e, 0))}};
    int64_t rest = t;
    for (uint32_t i = AXES; i-- > AXES - p->spatial; rest /= p->size[i])
      ix.at[2 + i + p->spatial - AXES] = tn_ll_ix_scalar(ll_k(e, rest % p->size[i]));
    p->weights[t] = ll_wide(e, tn_ll_eval_f32(&p->k->body, p->w, &ix), true);
  }
  if (!fixed) ll_if_begin(e, &wide, ll_icmp(e, LLVMIntSGE, n, ll_k(e, e->lanes)));
  if (!fixed || known >= e->lanes) wide_row(p, n);
  if (!fixed) ll_if_else(e, &wide);
  if (!fixed || known < e->lanes) results(p, ll_k(e, 0), ll_mask_below(e, n), false);
  if (!fixed) ll_if_end(e, &wide);
  tn_ll_body_forget(&p->k->body);
}

/* ---- the kernel ---- */
static int64_t list_at(window *p, const char *name, uint32_t i) {
  tn_attr a = tn_ll_attr(&p->k->body, p->k->root, name);
  return i < a.count ? a.u.ints[i] : 1;
}
static ll_val pad_at(window *p, const char *name, uint32_t i) {
  tn_attr a = tn_ll_attr(&p->k->body, p->k->root, name);
  return i < a.count ? tn_ll_dim(&p->k->body, a.u.dims[i]) : ll_k(p->k->e, 0);
}

static void read_window(window *p) {
  tn_type_info tw = {0};
  if (p->w) tw = tn_cpu_type(p->k, p->w);
  p->taps = 1;
  for (uint32_t i = 0; i < AXES; i++) {
    p->size[i] = p->stride[i] = p->dilation[i] = 1;
    p->in[i] = ll_k(p->k->e, 1);
    p->low[i] = p->high[i] = ll_k(p->k->e, 0);
    if (i < AXES - p->spatial) continue;
    uint32_t s = i + p->spatial - AXES;
    if (p->w)
      tn_ll_dim_const(&p->k->body, tw.dims[2 + s], &p->size[i]);
    else
      p->size[i] = list_at(p, "size", s);
    p->stride[i] = list_at(p, "strides", s);
    p->dilation[i] = list_at(p, "dilations", s);
    p->in[i] = tn_ll_dim(&p->k->body, p->tx.dims[2 + s]);
    p->low[i] = pad_at(p, "low", s);
    p->high[i] = pad_at(p, "high", s);
    p->taps *= p->size[i];
  }
}

static void walk(window *p) {
  tn_cpu_kernel *k = p->k;
  ll_val sizes[TN_MAX_RANK], lo, hi;
  uint32_t outer = p->to.rank - 1;
  tn_cpu_rows rows;
  p->acc_type = p->tx.dtype;
  if (tn_ll_dtype_of(p->acc_type).cls == TN_CLASS_FLOAT && p->acc_type != TN_DT_f64) p->acc_type = TN_DT_f32;
  read_window(p);
  tn_ll_body_give(&k->body, p->out, give_result, p);
  for (uint32_t i = 0; i < outer; i++) sizes[i] = tn_ll_dim(&k->body, p->to.dims[i]);
  tn_cpu_share(k, tn_ll_dims(&k->body, p->to.dims, 0, outer), &lo, &hi);
  tn_cpu_rows_begin(k, &rows, sizes, outer, lo, hi);
  for (uint32_t i = 0; i < outer; i++) p->at[i] = rows.at[i];
  row(p);
  tn_cpu_rows_end(k, &rows);
}

static window window_of(tn_cpu_kernel *k) {
  window p = {.k = k, .x = tn_cpu_operand(k, 0), .out = tn_cpu_result(k, 0), .outputs = 1};
  p.tx = tn_cpu_type(k, p.x);
  p.to = tn_cpu_type(k, p.out);
  p.spatial = p.tx.rank - 2;
  return p;
}

void tn_cpu_emit_pool(tn_cpu_kernel *k) {
  window p = window_of(k);
  p.arg = !strcmp(k->root_name, "argpool");
  const char *kind = p.arg ? "max" : tn_ll_attr_str(&k->body, k->root, "kind");
  p.max = !strcmp(kind, "max");
  p.mean = !strcmp(kind, "mean");
  p.count_pad = p.mean && tn_ll_attr_int(&k->body, k->root, "count_pad");
  walk(&p);
}

bool tn_cpu_emit_depthwise(tn_cpu_kernel *k) {
  window p = window_of(k);
  p.w = tn_cpu_operand(k, 1);
  p.bias = tn_cpu_operand(k, 2);
  tn_type_info t = tn_cpu_type(k, p.w);
  int64_t one, outputs, width, groups = tn_ll_attr_int(&k->body, k->root, "groups");
  bool each = tn_ll_dim_const(&k->body, t.dims[1], &one) && one == 1;
  if (!each || t.layout || !tn_ll_dim_const(&k->body, t.dims[0], &outputs) || groups < 2 ||
      outputs > 2 * groups)
    return false;
  if (tn_ll_dim_const(&k->body, p.to.dims[p.to.rank - 1], &width) && width < (int64_t)k->e->lanes)
    return false; /* rows shorter than a vector are better taken together */
  p.outputs = outputs / groups;
  walk(&p);
  return true;
}
