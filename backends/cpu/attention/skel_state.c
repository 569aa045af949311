/* skel_state.c - kv_update: rows of x are converted, or packed as q8_0, into a state, which is the result's
 * buffer; and cumsum and cumprod along one axis (in f64 for floats, so long sums keep their precision). */
#include "backends/cpu/attention/attention.h"
#include "backends/llvm/convert.h"

/* ---- kv_update ---- */
typedef struct update {
  tn_value x, out;
  tn_type_info tx, to;
  const tn_cpu_rows *rows;
  ll_val pos, capacity; /* capacity: of a ring, else NULL; pos is below it */
} update;

/* The row of the state where row `at` of x goes. */
static tn_ll_ix state_row(tn_cpu_kernel *k, const update *u, tn_ll_ix at) {
  tn_ll *e = k->e;
  tn_ll_ix row = tn_ll_ix_add(&k->body, at, u->pos);
  if (!u->capacity) return row;
  ll_val wrapped = ll_sub(e, row.v, u->capacity);
  row.v = ll_select(e, ll_icmp(e, LLVMIntSLT, wrapped, ll_k(e, 0)), row.v, wrapped);
  return row;
}

static void update_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const update *u = ctx;
  (void)acc;
  tn_ll_index from = tn_cpu_row_index(u->rows, &u->tx, j, mask), to = from;
  to.flat = NULL;
  to.at[1] = state_row(k, u, from.at[1]);
  ll_val x = tn_ll_convert(k->e, u->tx.dtype, u->to.dtype, tn_ll_eval(&k->body, u->x, &from));
  tn_ll_store_at(&k->body, u->out, k->outs[0], &to, x);
}

/* The largest value becomes 127, the others are rounded to nearest. */
void tn_cpu_pack_q8(tn_cpu_kernel *k, const ll_val *x, ll_val p) {
  tn_ll *e = k->e;
  ll_val top = NULL;
  uint32_t n = 32 / e->lanes;
  for (uint32_t v = 0; v < n; v++) {
    ll_val size = ll_call1(e, "llvm.fabs", x[v]);
    top = top ? ll_fmax(e, size, top) : size;
  }
  top = ll_reduce_with(e, top, ll_fmax);
  ll_val scale = ll_fdiv(e, top, ll_f(e, top, 127)), zero = ll_f(e, top, 0);
  ll_val inverse =
      ll_select(e, ll_fcmp(e, LLVMRealOGT, scale, zero), ll_fdiv(e, ll_f(e, top, 1), scale), zero);
  ll_store(e, tn_ll_to_memory(e, TN_DT_f16, tn_ll_from_compute(e, TN_DT_f16, scale)), p, 2);
  for (uint32_t v = 0; v < n; v++) {
    ll_val q = ll_call1(e, "llvm.rint", ll_fmul(e, x[v], ll_splat(e, inverse)));
    q = LLVMBuildTrunc(e->b, LLVMBuildFPToSI(e->b, q, ll_vec(e, e->i32), ""), ll_vec(e, e->i8), "");
    ll_store(e, q, ll_at(e, p, ll_k(e, 2 + (int64_t)v * e->lanes)), 1);
  }
}

static void pack_block(tn_cpu_kernel *k, const update *u, ll_val block, ll_val p) {
  tn_ll *e = k->e;
  ll_val x[32];
  for (uint32_t v = 0; v < 32 / e->lanes; v++) {
    ll_val j = ll_iadd(e, ll_imul(e, block, ll_k(e, 32)), ll_k(e, (int64_t)v * e->lanes));
    tn_ll_index from = tn_cpu_row_index(u->rows, &u->tx, tn_ll_ix_lanes(j, true), NULL);
    x[v] = ll_wide(e, tn_ll_eval_f32(&k->body, u->x, &from), true);
  }
  tn_cpu_pack_q8(k, x, p);
}

static void pack_row(tn_cpu_kernel *k, const update *u) {
  tn_ll *e = k->e;
  ll_val blocks = ll_lshr(e, tn_ll_dim(&k->body, u->tx.dims[3]), ll_k(e, 5));
  ll_val row = ll_iadd(e, ll_imul(e, u->rows->at[0].v, tn_ll_dim(&k->body, u->to.dims[1])),
                       state_row(k, u, u->rows->at[1]).v);
  row = ll_iadd(e, ll_imul(e, row, tn_ll_dim(&k->body, u->tx.dims[2])), u->rows->at[2].v);
  ll_val base = ll_at(e, k->outs[0], ll_imul(e, ll_imul(e, row, blocks), ll_k(e, TN_CPU_Q8_BYTES)));
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&k->body);
  pack_block(k, u, l.iv, ll_at(e, base, ll_imul(e, l.iv, ll_k(e, TN_CPU_Q8_BYTES))));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}

static void read_place(tn_cpu_kernel *k, update *u) {
  u->pos = tn_ll_dim(&k->body, tn_ll_attr(&k->body, k->root, "pos").u.dim);
  if (!tn_ll_attr_int(&k->body, k->root, "ring")) return;
  u->capacity = tn_ll_dim(&k->body, u->to.dims[1]);
  u->pos = ll_urem(k->e, u->pos, ll_imax(k->e, u->capacity, ll_k(k->e, 1)));
}

void tn_cpu_emit_kv_update(tn_cpu_kernel *k) {
  update u = {.x = tn_cpu_operand(k, 1), .out = tn_cpu_result(k, 0)};
  u.tx = tn_cpu_type(k, u.x);
  u.to = tn_cpu_type(k, u.out);
  read_place(k, &u);
  if (k->nyields != 1 || k->yields[0] != u.out)
    tn_ll_fail(k->e, "kv_update shares a kernel with other results");
  ll_val sizes[TN_MAX_RANK], lo, hi;
  uint32_t outer = u.tx.rank - 1;
  for (uint32_t i = 0; i < outer; i++) sizes[i] = tn_ll_dim(&k->body, u.tx.dims[i]);
  tn_cpu_share(k, tn_ll_dims(&k->body, u.tx.dims, 0, outer), &lo, &hi);
  tn_cpu_rows rows;
  tn_cpu_rows_begin(k, &rows, sizes, outer, lo, hi);
  u.rows = &rows;
  if (u.to.dtype >= TN_DT_BLOCK)
    pack_row(k, &u);
  else
    tn_cpu_columns(k, ll_k(k->e, 0), tn_ll_dim(&k->body, u.tx.dims[outer]), update_column, &u, NULL, 0);
  tn_cpu_rows_end(k, &rows);
}

/* ---- cumsum, cumprod ---- */
typedef struct scan {
  tn_value x;
  tn_type_info t;
  uint32_t axis;
  bool exclusive, reverse, product;
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
  if (vec) t = ll_vec(e, t);
  ll_val acc = f ? ll_real(e, t, s->product) : ll_int(e, t, s->product),
         n = tn_ll_dim(&k->body, s->t.dims[s->axis]);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), n, ll_k(e, 1), &acc, 1);
  tn_ll_body_forget(&k->body);
  ll_val at = s->reverse ? ll_sub(e, ll_sub(e, n, ll_k(e, 1)), l.iv) : l.iv;
  tn_ll_index ix = line_index(s, tn_ll_ix_scalar(at), j, mask);
  ll_val x = tn_ll_convert(e, s->t.dtype, s->acc_type, ll_wide(e, tn_ll_eval(&k->body, s->x, &ix), vec));
  ll_val sum = s->product ? (f ? ll_fmul : ll_mul)(e, l.phi[0], x) : (f ? ll_fadd : ll_add)(e, l.phi[0], x);
  ll_val out = tn_ll_convert(e, s->acc_type, s->t.dtype, s->exclusive ? l.phi[0] : sum);
  tn_ll_store_at(&k->body, k->yields[0], k->outs[0], &ix, out);
  ll_loop_end(e, &l, &sum);
  tn_ll_body_forget(&k->body);
}

void tn_cpu_emit_running(tn_cpu_kernel *k) {
  scan s = {.x = tn_cpu_operand(k, 0)};
  s.t = tn_cpu_type(k, s.x);
  s.axis = tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), s.t.rank);
  s.exclusive = tn_ll_attr_int(&k->body, k->root, "exclusive");
  s.reverse = tn_ll_attr_int(&k->body, k->root, "reverse");
  s.product = !strcmp(k->root_name, "cumprod");
  uint32_t cls = tn_ll_dtype_of(s.t.dtype).cls, n = 0;
  s.acc_type = cls == TN_CLASS_FLOAT ? TN_DT_f64 : cls == TN_CLASS_INT ? TN_DT_i64 : TN_DT_u64;
  if (k->nyields != 1 || k->yields[0] != tn_cpu_result(k, 0))
    tn_ll_fail(k->e, "a running sum shares a kernel with other results");
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
