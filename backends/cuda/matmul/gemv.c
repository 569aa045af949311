/* gemv.c - see gemv.h: the matmul op over stream.h. One launch for one row, another for up to `most` rows,
 * which takes several at a time. */
#include "backends/cuda/matmul/gemv.h"
#include "backends/cuda/matmul/stream.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"

enum { SEVERAL = 4 };

/* One half of the product's columns, as the results of a split. */
typedef struct half {
  struct gemv *g;
  tn_value whole;
  uint32_t which;
} half;

typedef struct gemv {
  tn_cuda_stream s;
  tn_cuda_kernel *k;
  tn_value lhs, out;
  tn_type_info tl, to, ty; /* ty: of what the kernel yields */
  bool trans_a, flat;      /* flat: rhs is one matrix, lhs's leading dims are rows */
  tn_dim rows_dim;
  half halves[2];
  /* norm before the product */
  tn_op norm;
  tn_ll_ix norm_j;
  ll_val norm_mask, mean, factor;
  /* of the block */
  ll_val rows, row0, batch;     /* rows of the batch; first row; i64 */
  ll_val batch_at[TN_MAX_RANK]; /* coordinates of the batch in the result's leading dims */
  /* of the element that is being finished */
  ll_val t, c; /* i32 */
  uint32_t half;
} gemv;

/* ---- dims ---------------------------------------------------------------------------------------------- */

tn_dim tn_cuda_few(tn_cuda_kernel *k, tn_dim rows, uint32_t most) {
  tn_dim left =
      tn_cuda_dim_add(k, tn_cuda_dim_k(k, (int64_t)most + 1), tn_cuda_dim_mul(k, rows, tn_cuda_dim_k(k, -1)));
  tn_dim some = tn_cuda_dim_min(k, rows, tn_cuda_dim_k(k, 1));
  return tn_cuda_dim_min(k, some, tn_cuda_dim_max(k, left, tn_cuda_dim_k(k, 0)));
}
tn_dim tn_cuda_many(tn_cuda_kernel *k, tn_dim rows, uint32_t most) {
  tn_dim over = tn_cuda_dim_add(k, rows, tn_cuda_dim_k(k, -(int64_t)most));
  return tn_cuda_dim_min(k, tn_cuda_dim_k(k, 1), tn_cuda_dim_max(k, over, tn_cuda_dim_k(k, 0)));
}
bool tn_cuda_never(tn_cuda_kernel *k, tn_dim d) {
  int64_t n;
  return tn_ll_dim_const(&k->body, d, &n) && n == 0;
}

static bool is_flat(const tn_type_info *rhs, bool trans_a) { return rhs->rank == 2 && !trans_a; }
tn_dim tn_cuda_gemv_rows(tn_cuda_kernel *k) {
  tn_type_info to = tn_cuda_type(k, tn_cuda_result(k, 0)), tr = tn_cuda_type(k, tn_cuda_operand(k, 1));
  uint32_t last = to.rank - 2;
  bool flat = is_flat(&tr, tn_ll_attr_int(&k->body, k->root, "trans_a"));
  return flat ? tn_cuda_dim_count(k, &to, 0, last + 1) : to.dims[last];
}

/* ---- claim --------------------------------------------------------------------------------------------- */

bool tn_cuda_gemv_takes(const tn_cuda_ask *a) {
  tn_type_info l = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, 0)),
               r = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, 1));
  bool known = tn_ll_dtype_of(r.dtype).known || tn_quant_of(r.dtype);
  return known && tn_ll_dtype_of(l.dtype).known && !r.layout && l.dtype != TN_DT_f64 && r.dtype != TN_DT_f64;
}

static bool one_row(const tn_cuda_ask *a, const tn_type_info *l) {
  int64_t n;
  for (uint32_t i = 0; i + 1 < l->rank; i++)
    if (!a->ir->dim_is_const(a->m, l->dims[i], &n) || n != 1) return false;
  return true;
}
bool tn_cuda_gemv_takes_norm(const tn_cuda_ask *a) {
  tn_value lhs = a->ir->op_operand(a->m, a->root, 0), rhs = a->ir->op_operand(a->m, a->root, 1);
  tn_type_info l = tn_cuda_type_of(a, lhs), r = tn_cuda_type_of(a, rhs),
               n = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 0));
  bool products = is_flat(&r, tn_cuda_attr_int(a, a->root, "trans_a", 0)) && n.dtype != TN_DT_f64 && n.rank;
  return products && TN_LL_ONE_OF(a->name, "rms_norm", "layer_norm") && one_row(a, &l) &&
         tn_ll_made_by(a->ir, a->m, lhs, a->op) && !tn_ll_made_by(a->ir, a->m, rhs, a->op) &&
         n.dims[n.rank - 1] == l.dims[l.rank - 1];
}

/* ---- a norm before the product ------------------------------------------------------------------------- */

static tn_value norm_operand(gemv *g, uint32_t i) {
  const tn_ir *ir = g->k->u->ir;
  return i < ir->op_noperands(g->k->u->m, g->norm) ? ir->op_operand(g->k->u->m, g->norm, i) : 0;
}
static bool norm_centred(gemv *g) {
  const tn_ir *ir = g->k->u->ir;
  return !strcmp(ir->opcode_name(ir->opcode(g->k->u->m, g->norm)), "layer_norm");
}

/* Values j .. of the only row before the norm. */
static ll_val norm_x(gemv *g, tn_ll_ix j, ll_val mask) {
  tn_ll *e = g->k->e;
  tn_value x = norm_operand(g, 0);
  tn_type_info t = tn_cuda_type(g->k, x);
  tn_ll_index ix = {.rank = t.rank, .shape = t.dims, .mask = mask};
  for (uint32_t i = 0; i + 1 < t.rank; i++) ix.at[i] = tn_ll_ix_scalar(ll_k(e, 0));
  ix.at[t.rank - 1] = j;
  return ll_wide(e, tn_ll_eval_f32(&g->k->body, x, &ix), true);
}
static ll_val norm_feature(gemv *g, uint32_t operand) {
  tn_ll_index ix = {.rank = 1, .at = {g->norm_j}, .mask = g->norm_mask};
  return ll_wide(g->k->e, tn_ll_eval_f32(&g->k->body, norm_operand(g, operand), &ix), true);
}

static ll_val norm_value(void *ctx, const tn_ll_index *ix) {
  gemv *g = ctx;
  tn_ll *e = g->k->e;
  (void)ix; /* of the same element, maybe seen through a reshape */
  bool centred = norm_centred(g);
  ll_val x = norm_x(g, g->norm_j, g->norm_mask), scale = NULL, bias = NULL;
  double offset = centred ? 0 : tn_ll_attr_float(&g->k->body, g->norm, "offset");
  if (centred) x = ll_fsub(e, x, ll_splat(e, g->mean));
  x = ll_fmul(e, x, ll_splat(e, g->factor));
  if (norm_operand(g, 1)) scale = norm_feature(g, 1);
  if (centred && norm_operand(g, 2)) bias = norm_feature(g, 2);
  if (scale && offset != 0) scale = ll_fadd(e, scale, ll_f(e, scale, offset));
  if (!scale && offset != 0) scale = ll_f(e, x, offset);
  if (scale && bias)
    x = ll_fma(e, x, scale, bias);
  else if (scale)
    x = ll_fmul(e, x, scale);
  else if (bias)
    x = ll_fadd(e, x, bias);
  tn_type_info t = tn_cuda_type(g->k, g->k->u->ir->op_result(g->k->u->m, g->norm, 0));
  return tn_ll_convert(e, TN_DT_f32, t.dtype, x);
}

/* Sum over the row of x, or of (x - mean)^2; all threads get it. */
static ll_val norm_total(gemv *g, bool squares, ll_val room) {
  tn_ll *e = g->k->e;
  ll_loop l;
  tn_type_info t = tn_cuda_type(g->k, norm_operand(g, 0));
  ll_val n = tn_ll_dim(&g->k->body, t.dims[t.rank - 1]), sum = ll_zero(ll_vec(e, e->f32));
  ll_val first = tn_cuda_i64(g->k, ll_shl(e, tn_cuda_thread(g->k), LLVMConstInt(e->i32, 2, 0)));
  bool whole = tn_ll_dim_multiple(&g->k->body, t.dims[t.rank - 1], 4);
  ll_loop_begin(e, &l, first, n, ll_k(e, 4 * TN_CUDA_STREAM_THREADS), &sum, 1);
  tn_ll_body_forget(&g->k->body);
  ll_val mask = whole ? NULL : ll_mask_below(e, ll_sub(e, n, l.iv));
  ll_val x = norm_x(g, tn_ll_ix_lanes(l.iv, true), mask);
  if (squares && g->mean) x = ll_fsub(e, x, ll_splat(e, g->mean));
  if (mask) x = ll_select(e, mask, x, ll_zero(LLVMTypeOf(x)));
  sum = squares ? ll_fma(e, x, x, l.phi[0]) : ll_fadd(e, x, l.phi[0]);
  ll_loop_end(e, &l, &sum);
  tn_ll_body_forget(&g->k->body);
  return tn_cuda_block_reduce(g->k, ll_reduce_fadd(e, l.out[0]), TN_CUDA_STREAM_THREADS, room, tn_cuda_fadd);
}

static void norm_statistics(gemv *g) {
  tn_ll *e = g->k->e;
  tn_type_info t = tn_cuda_type(g->k, norm_operand(g, 0));
  ll_val n = LLVMBuildSIToFP(e->b, tn_ll_dim(&g->k->body, t.dims[t.rank - 1]), e->f32, "");
  ll_val room = tn_cuda_shared(g->k, TN_CUDA_STREAM_THREADS / 32 * 8, 8);
  e->lanes = 4;
  g->mean = NULL;
  if (norm_centred(g)) g->mean = ll_fdiv(e, norm_total(g, false, room), n);
  ll_val var = ll_fdiv(e, norm_total(g, true, room), n);
  var = ll_fadd(e, var, ll_f(e, var, tn_ll_attr_float(&g->k->body, g->norm, "eps")));
  g->factor = ll_fdiv(e, ll_f(e, var, 1), ll_call1(e, "llvm.sqrt", var));
}

static void find_norm(gemv *g) {
  const tn_ir *ir = g->k->u->ir;
  for (tn_op op = ir->first_op(g->k->u->m, 0, g->k->op); op; op = ir->next_op(g->k->u->m, op)) {
    if (!TN_LL_ONE_OF(ir->opcode_name(ir->opcode(g->k->u->m, op)), "rms_norm", "layer_norm")) continue;
    g->norm = op;
    tn_ll_body_give(&g->k->body, ir->op_result(g->k->u->m, op, 0), norm_value, g);
  }
}

/* ---- the result's halves ------------------------------------------------------------------------------- */

static ll_val product(void *ctx, const tn_ll_index *ix) {
  gemv *g = ctx;
  (void)ix; /* the element that is being finished */
  ll_val v = tn_cuda_stream_sum(&g->s, g->t, g->c, g->half);
  return g->s.whole ? v : tn_ll_convert(g->k->e, TN_DT_f32, g->to.dtype, v);
}

static ll_val give_half(void *ctx, const tn_ll_index *ix) {
  const half *h = ctx;
  gemv *g = h->g;
  tn_ll_index at = *ix;
  tn_ll_ix *column = &at.at[at.rank - 1];
  uint32_t before = g->half;
  at.shape = g->to.dims;
  at.flat = NULL;
  if (h->which) *column = tn_ll_ix_add(&g->k->body, *column, tn_ll_dim(&g->k->body, g->s.n));
  g->half = h->which;
  ll_val v = tn_ll_eval(&g->k->body, h->whole, &at);
  g->half = before;
  return v;
}

/* Is v made of the root's value? */
static bool from_product(gemv *g, tn_value v) {
  const tn_ir *ir = g->k->u->ir;
  tn_value_info i;
  if (!v || v == g->out) return v;
  ir->value_get(g->k->u->m, v, &i);
  for (uint32_t o = 0; i.kind == TN_VALUE_RESULT && o < ir->op_noperands(g->k->u->m, i.op); o++)
    if (from_product(g, ir->op_operand(g->k->u->m, i.op, o))) return true;
  return false;
}

static void find_halves(gemv *g) {
  const tn_ir *ir = g->k->u->ir;
  tn_module *m = g->k->u->m;
  for (tn_op op = ir->first_op(m, 0, g->k->op); op && !g->s.pair; op = ir->next_op(m, op)) {
    if (strcmp(ir->opcode_name(ir->opcode(m, op)), "split")) continue;
    tn_value whole = ir->op_operand(m, op, 0);
    if (!from_product(g, whole)) continue;
    g->s.pair = true;
    for (uint32_t h = 0; h < 2; h++) {
      g->halves[h] = (half){g, whole, h};
      tn_ll_body_give(&g->k->body, ir->op_result(m, op, h), give_half, &g->halves[h]);
    }
  }
}

/* ---- indices ------------------------------------------------------------------------------------------- */

/* Leading coordinates of an operand in this batch; operands broadcast from the right. */
static void leading(gemv *g, const tn_type_info *t, tn_ll_index *ix) {
  for (uint32_t i = 0; i + 2 < t->rank; i++) {
    int64_t n;
    bool one = tn_ll_dim_const(&g->k->body, t->dims[i], &n) && n == 1;
    ix->at[i] = tn_ll_ix_scalar(one ? ll_k(g->k->e, 0) : g->batch_at[i + g->to.rank - t->rank]);
  }
}

/* Coordinates of row r of the result (flat: of all leading dims), but the last. */
static void coordinates(gemv *g, ll_val r, tn_ll_index *ix) {
  tn_ll *e = g->k->e;
  uint32_t last = g->to.rank - 2;
  if (!g->flat) {
    leading(g, &g->to, ix);
    ix->at[last] = tn_ll_ix_scalar(r);
    return;
  }
  for (uint32_t i = last + 1; i-- > 0;) {
    ll_val size = tn_ll_dim(&g->k->body, g->to.dims[i]);
    ix->at[i] = tn_ll_ix_scalar(i ? ll_imod(e, r, size) : r);
    r = i ? ll_idiv(e, r, size) : r;
  }
}

/* Values of the left operand for stream.h; rows behind the last one are read as the last one. */
static ll_val left_value(void *ctx, uint32_t t, tn_ll_ix j, ll_val mask) {
  gemv *g = ctx;
  tn_ll *e = g->k->e;
  tn_ll_index ix = {.rank = g->tl.rank, .mask = mask};
  ll_val row = ll_imin(e, ll_iadd(e, g->row0, ll_k(e, t)), ll_sub(e, g->rows, ll_k(e, 1)));
  if (g->flat)
    coordinates(g, row, &ix);
  else
    leading(g, &g->tl, &ix);
  tn_ll_ix at = g->flat ? ix.at[g->tl.rank - 2] : tn_ll_ix_scalar(row);
  ix.at[g->tl.rank - 2] = g->trans_a ? j : at;
  ix.at[g->tl.rank - 1] = g->trans_a ? at : j;
  g->norm_j = j;
  g->norm_mask = mask;
  ll_val v = tn_ll_eval(&g->k->body, g->lhs, &ix);
  return ll_wide(e, tn_ll_convert(e, g->tl.dtype, g->s.whole ? TN_DT_i32 : TN_DT_f32, v), true);
}

/* ---- a launch ------------------------------------------------------------------------------------------ */

static void read_operands(gemv *g) {
  tn_cuda_kernel *k = g->k;
  tn_cuda_stream *s = &g->s;
  g->lhs = tn_cuda_operand(k, 0);
  g->out = tn_cuda_result(k, 0);
  s->k = k;
  s->w = tn_cuda_operand(k, 1);
  g->tl = tn_cuda_type(k, g->lhs);
  s->tw = tn_cuda_type(k, s->w);
  g->to = tn_cuda_type(k, g->out);
  g->ty = k->nyields ? tn_cuda_type(k, k->yields[0]) : g->to;
  g->trans_a = tn_ll_attr_int(&k->body, k->root, "trans_a");
  s->by_columns = !tn_ll_attr_int(&k->body, k->root, "trans_b");
  g->flat = is_flat(&s->tw, g->trans_a);
  g->rows_dim = tn_cuda_gemv_rows(k);
  s->whole = g->to.dtype == TN_DT_i32;
  s->n = g->ty.dims[g->to.rank - 1];
  s->depth = g->tl.dims[g->tl.rank - (g->trans_a ? 2 : 1)];
  s->x = left_value;
  s->ctx = g;
}

/* Which columns, rows and batch this block has. Neighbouring blocks have the same columns: their weights come
 * from memory once. */
static void find_block(gemv *g, tn_dim column_blocks, tn_dim tiles) {
  tn_cuda_kernel *k = g->k;
  tn_ll *e = k->e;
  ll_val block = tn_cuda_i64(k, tn_cuda_block(k, 0)), across = tn_ll_dim(&k->body, column_blocks),
         down = tn_ll_dim(&k->body, tiles);
  g->row0 = ll_imul(e, ll_imod(e, block, down), ll_k(e, g->s.tile));
  block = ll_idiv(e, block, down);
  g->s.n0 = ll_imul(e, ll_imod(e, block, across), ll_k(e, g->s.columns));
  g->batch = ll_idiv(e, block, across);
  g->rows = tn_ll_dim(&k->body, g->rows_dim);
  ll_val b = g->batch;
  for (uint32_t i = g->to.rank - 2; i-- > 0 && !g->flat;) {
    ll_val size = tn_ll_dim(&k->body, g->to.dims[i]);
    g->batch_at[i] = i ? ll_imod(e, b, size) : b;
    b = i ? ll_idiv(e, b, size) : b;
  }
}

/* The epilogue of the block's elements. */
static void finish(gemv *g) {
  tn_ll *e = g->k->e;
  ll_loop l;
  ll_if inside;
  ll_val columns = LLVMConstInt(e->i32, g->s.columns, 0),
         all = LLVMConstInt(e->i32, g->s.columns * g->s.tile, 0);
  ll_loop_begin(e, &l, tn_cuda_thread(g->k), all, LLVMConstInt(e->i32, TN_CUDA_STREAM_THREADS, 0), NULL, 0);
  g->t = ll_udiv(e, l.iv, columns);
  g->c = ll_urem(e, l.iv, columns);
  ll_val row = ll_iadd(e, g->row0, tn_cuda_i64(g->k, g->t)),
         column = ll_iadd(e, g->s.n0, tn_cuda_i64(g->k, g->c));
  ll_val in = ll_icmp(e, LLVMIntSLT, column, tn_ll_dim(&g->k->body, g->s.n));
  ll_if_begin(e, &inside, ll_and(e, in, ll_icmp(e, LLVMIntSLT, row, g->rows)));
  tn_ll_body_forget(&g->k->body);
  tn_ll_index ix = {.rank = g->to.rank, .shape = g->ty.dims};
  coordinates(g, row, &ix);
  ix.at[g->to.rank - 1] = tn_ll_ix_scalar(column);
  tn_cuda_store_yields(g->k, &ix);
  ll_if_end(e, &inside);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&g->k->body);
}

/* `tile` rows at a time, in blocks that are there if `when` is 1. */
static void write_launch(gemv *g, uint32_t tile, tn_dim when) {
  tn_cuda_kernel *k = g->k;
  if (tn_cuda_never(k, when)) return;
  g->s.tile = tile;
  tn_cuda_stream_plan(&g->s);
  tn_dim across = tn_cuda_dim_ceildiv(k, g->s.n, g->s.columns),
         down = tn_cuda_dim_ceildiv(k, g->rows_dim, tile);
  tn_dim batches = g->flat ? tn_cuda_dim_k(k, 1) : tn_cuda_dim_count(k, &g->to, 0, g->to.rank - 2);
  tn_dim grid = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, across, down), tn_cuda_dim_mul(k, batches, when));
  tn_cuda_shape shape = {.threads = TN_CUDA_STREAM_THREADS, .min_blocks = 1, .grid = {grid}};
  tn_cuda_launch_begin(k, &shape);
  find_block(g, across, down);
  g->s.at = (tn_ll_index){.rank = g->s.tw.rank};
  if (!g->flat) leading(g, &g->s.tw, &g->s.at);
  g->s.k_end = tn_ll_dim(&k->body, g->s.depth);
  if (g->norm) norm_statistics(g);
  tn_cuda_stream_run(&g->s);
  finish(g);
  tn_cuda_launch_end(k);
}

void tn_cuda_emit_gemv(tn_cuda_kernel *k, uint32_t most) {
  gemv g = {.k = k};
  int64_t rows;
  read_operands(&g);
  k->body.ngiven = 0; /* launches of other kinds give values of their own */
  find_halves(&g);
  find_norm(&g);
  tn_ll_body_give(&k->body, g.out, product, &g);
  if (tn_ll_dim_const(&k->body, g.rows_dim, &rows)) {
    if (rows <= most) write_launch(&g, rows == 1 ? 1 : SEVERAL, tn_cuda_dim_k(k, rows > 0));
  } else {
    write_launch(&g, 1, tn_cuda_few(k, g.rows_dim, 1));
    tn_dim several = tn_cuda_dim_mul(k, tn_cuda_many(k, g.rows_dim, 1), tn_cuda_few(k, g.rows_dim, most));
    if (most > 1) write_launch(&g, SEVERAL, several);
  }
}
