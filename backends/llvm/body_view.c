/* body_view.c - ops that move elements: each one maps the result's index to an operand's. Where only some
 * indices belong to an operand (concat, pad, gather), the operand is read under a predicate, never out of
 * bounds. */
#include "backends/llvm/body.h"
#include "backends/llvm/convert.h"

static tn_value operand(tn_ll_body *b, tn_op op, uint32_t i) { return b->ir->op_operand(b->m, op, i); }
static bool dim_is_one(tn_ll_body *b, tn_dim d) {
  int64_t n;
  return tn_ll_dim_const(b, d, &n) && n == 1;
}
/* An index into another shape, with the same predicate. */
static tn_ll_index mapped(const tn_ll_index *ix, uint32_t rank) {
  tn_ll_index r = {.rank = rank, .pred = ix->pred, .mask = ix->mask};
  return r;
}
static ll_val eval_mapped(tn_ll_body *b, tn_value v, tn_ll_index *ix) {
  if (!tn_ll_index_vec(ix)) ix->mask = NULL;
  return tn_ll_eval(b, v, ix);
}

/* ---- reshape ---- */
/* A run of dims whose product is the same on both sides. */
typedef struct run {
  uint32_t in0, in1, out0, out1;
} run;

static tn_dim product(tn_ll_body *b, const tn_dim *d, uint32_t first, uint32_t last) {
  tn_dim r = b->ir->dim_const(b->m, 1);
  for (uint32_t i = first; i < last; i++) r = b->ir->dim_make(b->m, TN_DIM_MUL, r, d[i]);
  return r;
}

/* The shortest run that starts at (in, out); everything that is left if no products agree. */
static run next_run(tn_ll_body *b, const tn_type_info *from, const tn_type_info *to, uint32_t in,
                    uint32_t out) {
  for (uint32_t sum = 2; sum <= from->rank - in + to->rank - out; sum++)
    for (uint32_t i = 1; i < sum; i++) {
      uint32_t j = sum - i;
      if (in + i > from->rank || out + j > to->rank) continue;
      if (product(b, from->dims, in, in + i) == product(b, to->dims, out, out + j))
        return (run){in, in + i, out, out + j};
    }
  return (run){in, from->rank, out, to->rank};
}

static tn_ll_ix join_run(tn_ll_body *b, const tn_type_info *to, const tn_ll_index *ix, run r) {
  tn_ll_place p = {ll_k(b->e, 0), NULL, NULL};
  ll_val stride = ll_k(b->e, 1);
  bool aligned = true;
  for (uint32_t i = r.out1; i-- > r.out0;) {
    int64_t k;
    tn_ll_place_add(b, &p, ix->at[i], stride);
    bool whole = ll_const(stride, &k) && k % b->e->lanes == 0;
    bool nothing = ll_const(ix->at[i].v, &k) && k == 0;
    aligned &= ix->at[i].kind == TN_IX_LANES ? ix->at[i].aligned : whole || nothing;
    stride = ll_imul(b->e, stride, tn_ll_dim(b, to->dims[i]));
  }
  return tn_ll_place_ix(b, &p, aligned);
}

static void split_run(tn_ll_body *b, const tn_type_info *from, tn_ll_ix line, run r, tn_ll_index *out) {
  for (uint32_t i = r.in1; i-- > r.in0 + 1;) {
    if (dim_is_one(b, from->dims[i]))
      out->at[i] = tn_ll_ix_scalar(ll_k(b->e, 0));
    else
      line = tn_ll_ix_div(b, line, tn_ll_dim(b, from->dims[i]), &out->at[i]);
  }
  out->at[r.in0] = line;
}

static ll_val eval_reshape(tn_ll_body *b, tn_op op, const tn_type_info *to, const tn_ll_index *ix) {
  tn_type_info from = tn_ll_type(b, operand(b, op, 0));
  tn_ll_index at = mapped(ix, from.rank);
  uint32_t i = 0, j = 0;
  for (;;) {
    while (i < from.rank && dim_is_one(b, from.dims[i])) at.at[i++] = tn_ll_ix_scalar(ll_k(b->e, 0));
    while (j < to->rank && dim_is_one(b, to->dims[j])) j++;
    if (i == from.rank || j == to->rank) break;
    run r = next_run(b, &from, to, i, j);
    bool plain = r.in1 - r.in0 == 1 && r.out1 - r.out0 == 1;
    if (plain)
      at.at[i] = ix->at[j];
    else
      split_run(b, &from, join_run(b, to, ix, r), r, &at);
    i = r.in1;
    j = r.out1;
  }
  while (i < from.rank) at.at[i++] = tn_ll_ix_scalar(ll_k(b->e, 0));
  return eval_mapped(b, operand(b, op, 0), &at);
}

/* ---- the other views ---- */
/* Does only the run show whether an operand's dim is repeated? */
static bool at_run_time(tn_ll_body *b, tn_dim from, tn_dim to) {
  int64_t n;
  return from != to && !tn_ll_dim_const(b, from, &n);
}
static tn_ll_ix zero_if_one(tn_ll_body *b, tn_ll_ix ix, tn_dim d) {
  tn_ll *e = b->e;
  ll_val one = ll_icmp(e, LLVMIntEQ, tn_ll_dim(b, d), ll_k(e, 1));
  if (ix.kind == TN_IX_SCALAR) return tn_ll_ix_scalar(ll_select(e, one, ll_k(e, 0), ix.v));
  ll_val v = tn_ll_ix_vector(b, ix);
  return (tn_ll_ix){ll_select(e, one, ll_zero(LLVMTypeOf(v)), v), TN_IX_VECTOR, 0};
}
static ll_val eval_broadcast(tn_ll_body *b, tn_op op, const tn_type_info *to, const tn_ll_index *ix) {
  tn_type_info from = tn_ll_type(b, operand(b, op, 0));
  tn_ll_index at;
  tn_ll_broadcast_index(b, &from, to, ix, &at);
  at.flat = NULL;
  for (uint32_t i = 0; i < from.rank; i++)
    if (at_run_time(b, from.dims[i], to->dims[i + to->rank - from.rank]))
      at.at[i] = zero_if_one(b, at.at[i], from.dims[i]);
  return eval_mapped(b, operand(b, op, 0), &at);
}

static ll_val eval_transpose(tn_ll_body *b, tn_op op, const tn_ll_index *ix) {
  tn_attr perm = tn_ll_attr(b, op, "perm");
  tn_ll_index at = mapped(ix, ix->rank);
  for (uint32_t i = 0; i < ix->rank && i < perm.count; i++)
    at.at[tn_ll_axis(perm.u.ints[i], ix->rank)] = ix->at[i];
  return eval_mapped(b, operand(b, op, 0), &at);
}

static tn_ll_ix ix_times(tn_ll_body *b, tn_ll_ix ix, int64_t step) {
  if (step == 1) return ix;
  if (ix.kind == TN_IX_SCALAR) return tn_ll_ix_scalar(ll_imul(b->e, ix.v, ll_k(b->e, step)));
  ll_val v = tn_ll_ix_vector(b, ix);
  return (tn_ll_ix){ll_imul(b->e, v, ll_i(b->e, v, step)), TN_IX_VECTOR, 0};
}

static ll_val eval_slice(tn_ll_body *b, tn_op op, const tn_ll_index *ix) {
  uint32_t axis = tn_ll_axis(tn_ll_attr_int(b, op, "axis"), ix->rank);
  tn_ll_index at = mapped(ix, ix->rank);
  memcpy(at.at, ix->at, sizeof at.at);
  tn_ll_ix scaled = ix_times(b, ix->at[axis], tn_ll_attr_int(b, op, "step"));
  at.at[axis] = tn_ll_ix_add(b, scaled, tn_ll_dim(b, tn_ll_attr(b, op, "start").u.dim));
  return eval_mapped(b, operand(b, op, 0), &at);
}

static ll_val eval_split(tn_ll_body *b, tn_op op, tn_value v, const tn_ll_index *ix) {
  uint32_t axis = tn_ll_axis(tn_ll_attr_int(b, op, "axis"), ix->rank);
  tn_value_info info;
  b->ir->value_get(b->m, v, &info);
  ll_val start = ll_k(b->e, 0);
  for (uint32_t i = 0; i < info.index; i++) {
    tn_type_info part = tn_ll_type(b, b->ir->op_result(b->m, op, i));
    start = ll_iadd(b->e, start, tn_ll_dim(b, part.dims[axis]));
  }
  tn_ll_index at = mapped(ix, ix->rank);
  memcpy(at.at, ix->at, sizeof at.at);
  at.at[axis] = tn_ll_ix_add(b, ix->at[axis], start);
  return eval_mapped(b, operand(b, op, 0), &at);
}

/* If ix lies on lanes that never straddle the boundary `at`, one compare speaks for all lanes. */
static ll_val ix_below(tn_ll_body *b, tn_ll_ix ix, ll_val at) {
  int64_t k;
  if (ix.kind == TN_IX_LANES && ix.aligned && ll_const(at, &k) && k % b->e->lanes == 0)
    return ll_icmp(b->e, LLVMIntSLT, ix.v, at);
  return tn_ll_ix_compare(b, LLVMIntSLT, ix, at);
}

static ll_val pick(tn_ll_body *b, ll_val cond, ll_val x, ll_val y) {
  bool vec = ll_is_vec(cond) || ll_is_vec(x) || ll_is_vec(y);
  return ll_select(b->e, cond, ll_wide(b->e, x, vec), ll_wide(b->e, y, vec));
}

static ll_val eval_concat(tn_ll_body *b, tn_op op, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  uint32_t axis = tn_ll_axis(tn_ll_attr_int(b, op, "axis"), ix->rank), n = b->ir->op_noperands(b->m, op);
  ll_val start = ll_k(e, 0), r = NULL;
  for (uint32_t i = 0; i < n; i++) {
    tn_type_info part = tn_ll_type(b, operand(b, op, i));
    ll_val stop = ll_iadd(e, start, tn_ll_dim(b, part.dims[axis]));
    ll_val from = ll_not(e, ix_below(b, ix->at[axis], start)), below = ix_below(b, ix->at[axis], stop);
    bool vec = ll_is_vec(from) || ll_is_vec(below);
    ll_val in = ll_and(e, ll_wide(e, from, vec), ll_wide(e, below, vec));
    tn_ll_index at = mapped(ix, ix->rank);
    memcpy(at.at, ix->at, sizeof at.at);
    at.at[axis] = tn_ll_ix_add(b, ix->at[axis], ll_sub(e, ll_k(e, 0), start));
    if (n > 1) tn_ll_index_where(b, &at, in);
    ll_val x = eval_mapped(b, operand(b, op, i), &at);
    r = r ? pick(b, in, x, r) : x;
    start = stop;
  }
  return r;
}

static ll_val scalar_of(tn_ll_body *b, tn_dtype t, double x) {
  tn_ll *e = b->e;
  if (tn_ll_dtype_of(t).cls == TN_CLASS_FLOAT)
    return tn_ll_convert(e, TN_DT_f64, t, LLVMConstReal(e->f64, x));
  return ll_int(e, tn_ll_register_type(e, t), (int64_t)x);
}

static ll_val eval_pad(tn_ll_body *b, tn_op op, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  tn_value x = operand(b, op, 0);
  tn_type_info from = tn_ll_type(b, x);
  tn_attr low = tn_ll_attr(b, op, "low"), high = tn_ll_attr(b, op, "high");
  tn_ll_index at = mapped(ix, ix->rank);
  ll_val in = NULL;
  for (uint32_t i = 0; i < ix->rank; i++) {
    at.at[i] = ix->at[i];
    if (!low.u.ints[i] && !high.u.ints[i]) continue;
    ll_val first = ll_k(e, low.u.ints[i]), last = ll_iadd(e, first, tn_ll_dim(b, from.dims[i]));
    ll_val from_low = ll_not(e, ix_below(b, ix->at[i], first)), below = ix_below(b, ix->at[i], last);
    at.at[i] = tn_ll_ix_add(b, ix->at[i], ll_k(e, -low.u.ints[i]));
    tn_ll_index_where(b, &at, from_low);
    tn_ll_index_where(b, &at, below);
    ll_val parts[] = {from_low, below};
    for (int k = 0; k < 2; k++) {
      bool vec = in && (ll_is_vec(in) || ll_is_vec(parts[k]));
      in = in ? ll_and(e, ll_wide(e, in, vec), ll_wide(e, parts[k], vec)) : parts[k];
    }
  }
  ll_val r = eval_mapped(b, x, &at);
  if (!in) return r;
  return pick(b, in, r, scalar_of(b, from.dtype, tn_ll_attr_float(b, op, "value")));
}

static ll_val eval_gather(tn_ll_body *b, tn_op op, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  tn_value data = operand(b, op, 0), indices = operand(b, op, 1);
  tn_type_info td = tn_ll_type(b, data), ti = tn_ll_type(b, indices);
  uint32_t axis = tn_ll_axis(tn_ll_attr_int(b, op, "axis"), td.rank);
  tn_ll_index at = mapped(ix, ti.rank);
  for (uint32_t i = 0; i < ti.rank; i++) at.at[i] = ix->at[axis + i];
  ll_val n = tn_ll_dim(b, td.dims[axis]);
  ll_val k = tn_ll_convert(e, ti.dtype, TN_DT_i64, eval_mapped(b, indices, &at));
  n = ll_wide(e, n, ll_is_vec(k));
  k = ll_select(e, ll_icmp(e, LLVMIntSLT, k, ll_i(e, k, 0)), ll_add(e, k, n), k);
  ll_val in = ll_icmp(e, LLVMIntULT, k, n);
  tn_ll_index to = mapped(ix, td.rank);
  for (uint32_t i = 0; i < td.rank; i++) to.at[i] = i < axis ? ix->at[i] : ix->at[i + ti.rank - (i > axis)];
  to.at[axis] = (tn_ll_ix){k, ll_is_vec(k) ? TN_IX_VECTOR : TN_IX_SCALAR, 0};
  if (!ll_is_vec(k) && !tn_ll_index_vec(&to)) to.mask = NULL;
  tn_ll_index_where(b, &to, in);
  ll_val r = tn_ll_eval(b, data, &to);
  if (td.dtype >= TN_DT_BLOCK) return r; /* already the value of a block of zero bytes */
  return pick(b, in, r, ll_zero(ll_elem(r)));
}

bool tn_ll_eval_view(tn_ll_body *b, tn_op op, const char *name, tn_value v, const tn_ll_index *ix,
                     ll_val *r) {
  tn_type_info to = tn_ll_type(b, v);
  if (!strcmp(name, "reshape"))
    *r = eval_reshape(b, op, &to, ix);
  else if (!strcmp(name, "broadcast"))
    *r = eval_broadcast(b, op, &to, ix);
  else if (!strcmp(name, "transpose"))
    *r = eval_transpose(b, op, ix);
  else if (!strcmp(name, "slice"))
    *r = eval_slice(b, op, ix);
  else if (!strcmp(name, "split"))
    *r = eval_split(b, op, v, ix);
  else if (!strcmp(name, "concat"))
    *r = eval_concat(b, op, ix);
  else if (!strcmp(name, "pad"))
    *r = eval_pad(b, op, ix);
  else if (!strcmp(name, "gather"))
    *r = eval_gather(b, op, ix);
  else
    return false;
  return true;
}
