/* skel_state.c - kv_update: rows of x are converted and copied into a state, which is the result's buffer;
 * and cumsum, a running sum along one axis (in f64 for floats, so long sums keep their precision). */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"

/* ---- kv_update ---- */
typedef struct update {
  tn_value x, out;
  tn_type_info tx, to;
  const tn_cpu_rows *rows;
  ll_val pos;
} update;

static void update_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const update *u = ctx;
  (void)acc;
  tn_ll_index from = tn_cpu_row_index(u->rows, &u->tx, j, mask), to = from;
  to.flat = NULL;
  to.at[1] = tn_ll_ix_add(&k->body, from.at[1], u->pos);
  ll_val x = tn_ll_convert(k->e, u->tx.dtype, u->to.dtype, tn_ll_eval(&k->body, u->x, &from));
  tn_ll_store_at(&k->body, u->out, k->outs[0], &to, x);
}

void tn_cpu_emit_kv_update(tn_cpu_kernel *k) {
  update u = {.x = tn_cpu_operand(k, 1), .out = tn_cpu_result(k, 0)};
  u.tx = tn_cpu_type(k, u.x);
  u.to = tn_cpu_type(k, u.out);
  u.pos = tn_ll_dim(&k->body, tn_ll_attr(&k->body, k->root, "pos").u.dim);
  if (k->nyields != 1 || k->yields[0] != u.out)
    tn_ll_fail(k->e, "kv_update shares a kernel with other results");
  ll_val sizes[TN_MAX_RANK], lo, hi;
  uint32_t outer = u.tx.rank - 1;
  for (uint32_t i = 0; i < outer; i++) sizes[i] = tn_ll_dim(&k->body, u.tx.dims[i]);
  tn_cpu_share(k, tn_ll_dims(&k->body, u.tx.dims, 0, outer), &lo, &hi);
  tn_cpu_rows rows;
  tn_cpu_rows_begin(k, &rows, sizes, outer, lo, hi);
  u.rows = &rows;
  tn_cpu_columns(k, ll_k(k->e, 0), tn_ll_dim(&k->body, u.tx.dims[outer]), update_column, &u, NULL, 0);
  tn_cpu_rows_end(k, &rows);
}

/* ---- cumsum ---- */
typedef struct scan {
  tn_value x;
  tn_type_info t;
  uint32_t axis;
  bool exclusive, reverse;
  tn_dtype acc_type;
  const tn_cpu_rows *rows; /* over all axes but the scanned one and, unless that is the last, the last */
} scan;

static tn_ll_index line_index(const scan *s, tn_ll_ix at, tn_ll_ix j, ll_val mask) {
  tn_ll_index ix = {.rank = s->t.rank, .mask = mask};
  for (uint32_t i = 0, n = 0; i < s->t.rank; i++) {
    if (i == s->axis)
      ix.at[i] = at;
    else if (i == s->t.rank - 1)
      ix.at[i] = j;
    else
      ix.at[i] = s->rows->at[n++];
  }
  return ix;
}

static void scan_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  const scan *s = ctx;
  tn_ll *e = k->e;
  (void)none;
  bool vec = s->axis != s->t.rank - 1, f = tn_ll_dtype_of(s->acc_type).cls == TN_CLASS_FLOAT;
  ll_type t = tn_ll_register_type(e, s->acc_type);
  ll_val acc = ll_zero(vec ? ll_vec(e, t) : t), n = tn_ll_dim(&k->body, s->t.dims[s->axis]);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), n, ll_k(e, 1), &acc, 1);
  tn_ll_body_forget(&k->body);
  ll_val at = s->reverse ? ll_sub(e, ll_sub(e, n, ll_k(e, 1)), l.iv) : l.iv;
  tn_ll_index ix = line_index(s, tn_ll_ix_scalar(at), j, mask);
  ll_val x = tn_ll_convert(e, s->t.dtype, s->acc_type, ll_wide(e, tn_ll_eval(&k->body, s->x, &ix), vec));
  ll_val sum = f ? ll_fadd(e, l.phi[0], x) : ll_add(e, l.phi[0], x);
  ll_val out = tn_ll_convert(e, s->acc_type, s->t.dtype, s->exclusive ? l.phi[0] : sum);
  tn_ll_store_at(&k->body, k->yields[0], k->outs[0], &ix, out);
  ll_loop_end(e, &l, &sum);
  tn_ll_body_forget(&k->body);
}

void tn_cpu_emit_cumsum(tn_cpu_kernel *k) {
  scan s = {.x = tn_cpu_operand(k, 0)};
  s.t = tn_cpu_type(k, s.x);
  s.axis = tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), s.t.rank);
  s.exclusive = tn_ll_attr_int(&k->body, k->root, "exclusive");
  s.reverse = tn_ll_attr_int(&k->body, k->root, "reverse");
  uint32_t cls = tn_ll_dtype_of(s.t.dtype).cls, n = 0;
  s.acc_type = cls == TN_CLASS_FLOAT ? TN_DT_f64 : cls == TN_CLASS_INT ? TN_DT_i64 : TN_DT_u64;
  if (k->nyields != 1 || k->yields[0] != tn_cpu_result(k, 0))
    tn_ll_fail(k->e, "cumsum shares a kernel with other results");
  ll_val sizes[TN_MAX_RANK], outer = ll_k(k->e, 1), lo, hi;
  bool last = s.axis == s.t.rank - 1;
  for (uint32_t i = 0; i + 1 < s.t.rank; i++) {
    if (i == s.axis) continue;
    sizes[n] = tn_ll_dim(&k->body, s.t.dims[i]);
    outer = ll_imul(k->e, outer, sizes[n++]);
  }
  tn_cpu_share(k, outer, &lo, &hi);
  tn_cpu_rows rows;
  tn_cpu_rows_begin(k, &rows, sizes, n, lo, hi);
  s.rows = &rows;
  if (last)
    scan_column(k, &s, tn_ll_ix_scalar(ll_k(k->e, 0)), NULL, NULL);
  else
    tn_cpu_columns(k, ll_k(k->e, 0), tn_ll_dim(&k->body, s.t.dims[s.t.rank - 1]), scan_column, &s, NULL, 0);
  tn_cpu_rows_end(k, &rows);
}
