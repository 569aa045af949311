/* skel_attention.c - attention with an online softmax (Milakov and Gimelshein 2018, Dao 2023): operands, rows
 * of queries and results, and the choice between many rows and few (attention.h).
 *
 * Keys go by their position; where they stand in a ring only tn_cpu_att_key_row knows. Operands may be views
 * or narrow types: they come through the evaluator, or as rows of a cache, which may be q8_0. Blocks of keys
 * and rows depend on shapes only, so results do not depend on the number of threads. */
#include "backends/cpu/attention/attention.h"
#include "backends/llvm/convert.h"

#define LINE 64 /* bytes of a cache line */

/* ---- rows ---- */
ll_val tn_cpu_att_elem(tn_cpu_att *a, ll_val base, ll_val i) {
  return ll_at(a->k->e, base, ll_imul(a->k->e, i, ll_k(a->k->e, 4)));
}
void tn_cpu_att_row(tn_cpu_att *a, ll_val i, ll_val *query, ll_val *head) {
  tn_ll *e = a->k->e;
  ll_val r = ll_iadd(e, a->r0, i);
  if (a->single) {
    *query = ll_k(e, 0);
    *head = ll_iadd(e, ll_imul(e, a->hk, a->g), r);
    return;
  }
  *query = ll_idiv(e, r, a->g);
  *head = ll_iadd(e, ll_imul(e, a->hk, a->g), ll_imod(e, r, a->g));
}
static void rows_begin(tn_cpu_att *a, ll_loop *l) {
  tn_ll *e = a->k->e;
  ll_loop_begin(e, l, ll_k(e, 0), a->nrows, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
}
static void rows_end(tn_cpu_att *a, ll_loop *l) {
  ll_loop_end(a->k->e, l, NULL);
  tn_ll_body_forget(&a->k->body);
}

tn_dim tn_cpu_att_width(tn_cpu_att *a, tn_dim d, uint32_t granule) {
  return tn_cpu_dim_mul(a->k, tn_cpu_dim_ceildiv(a->k, d, granule), tn_cpu_dim_k(a->k, granule));
}

void tn_cpu_att_take_rows(tn_cpu_att *a, tn_dim rows, uint32_t granule) {
  tn_cpu_kernel *k = a->k;
  uint32_t bytes = a->narrow ? 2 : 4;
  tn_dim d = tn_cpu_att_width(a, a->tq.dims[3], granule), dv = tn_cpu_att_width(a, a->tv.dims[3], granule);
  a->q_stride = ll_imul(k->e, tn_ll_dim(&k->body, d), ll_k(k->e, bytes));
  a->acc_stride = ll_imul(k->e, tn_ll_dim(&k->body, dv), ll_k(k->e, 4));
  a->qs = tn_cpu_scratch(k, tn_cpu_dim_mul(k, rows, d), bytes);
  a->acc = tn_cpu_scratch(k, tn_cpu_dim_mul(k, rows, dv), 4);
  a->top = tn_cpu_scratch(k, rows, 4);
  a->sum = tn_cpu_scratch(k, rows, 4);
}

typedef struct staged {
  tn_cpu_att *a;
  ll_val row, query, head; /* row: bytes into qs, or the row of the result */
} staged;

/* Rows have room for whole vectors; what is behind d is 0. */
static void stage_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  staged *c = ctx;
  tn_cpu_att *a = c->a;
  tn_ll *e = k->e;
  (void)none;
  tn_ll_index ix = {.rank = 4,
                    .mask = mask,
                    .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(c->query), tn_ll_ix_scalar(c->head), j}};
  ll_val x = ll_wide(e, tn_ll_eval_f32(&k->body, a->q, &ix), true);
  x = ll_fmul(e, x, ll_f(e, x, a->scale));
  if (mask) x = ll_select(e, mask, x, ll_f(e, x, 0));
  ll_val to = ll_at(e, a->qs, c->row);
  if (a->narrow)
    ll_store(e, LLVMBuildFPTrunc(e->b, x, ll_vec(e, LLVMBFloatTypeInContext(e->ctx)), ""),
             ll_at(e, to, ll_imul(e, j.v, ll_k(e, 2))), 2);
  else
    ll_store(e, x, tn_cpu_att_elem(a, to, j.v), 4);
}
void tn_cpu_att_stage_queries(tn_cpu_att *a) {
  ll_loop l;
  rows_begin(a, &l);
  staged c = {.a = a, .row = ll_imul(a->k->e, l.iv, a->q_stride)};
  tn_cpu_att_row(a, l.iv, &c.query, &c.head);
  tn_cpu_columns(a->k, ll_k(a->k->e, 0), a->d, stage_column, &c, NULL, 0);
  rows_end(a, &l);
}

void tn_cpu_att_clear(tn_cpu_att *a) {
  tn_ll *e = a->k->e;
  ll_loop rows, cols;
  rows_begin(a, &rows);
  ll_store(e, ll_real(e, e->f32, -__builtin_inf()), tn_cpu_att_elem(a, a->top, rows.iv), 4);
  ll_store(e, ll_real(e, e->f32, 0), tn_cpu_att_elem(a, a->sum, rows.iv), 4);
  ll_val row = ll_at(e, a->acc, ll_imul(e, rows.iv, a->acc_stride));
  ll_loop_begin(e, &cols, ll_k(e, 0), a->acc_stride, ll_k(e, 4 * (int64_t)e->lanes), NULL, 0);
  ll_store(e, ll_zero(ll_vec(e, e->f32)), ll_at(e, row, cols.iv), 4);
  ll_loop_end(e, &cols, NULL);
  rows_end(a, &rows);
}

static ll_val give_attention(void *ctx, const tn_ll_index *ix) {
  tn_cpu_att *a = ctx;
  tn_ll *e = a->k->e;
  ll_val at = tn_cpu_att_elem(a, a->acc_row, ix->at[3].v);
  ll_val x = ll_load_masked(e, ll_vec(e, e->f32), at, ix->mask, 4);
  return tn_ll_convert(e, TN_DT_f32, a->to.dtype, ll_fmul(e, x, ll_splat(e, a->inverse)));
}
static void out_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  staged *c = ctx;
  tn_cpu_att *a = c->a;
  (void)none;
  tn_ll_index ix = {.rank = 4, .mask = mask, .shape = a->to.dims, .flat = c->row};
  ix.at[0] = tn_ll_ix_scalar(a->b);
  ix.at[1] = tn_ll_ix_scalar(c->query);
  ix.at[2] = tn_ll_ix_scalar(c->head);
  ix.at[3] = j;
  tn_cpu_store_yields(k, &ix);
}
void tn_cpu_att_finish(tn_cpu_att *a) {
  tn_ll *e = a->k->e;
  ll_loop l;
  rows_begin(a, &l);
  ll_val sum = ll_load(e, e->f32, tn_cpu_att_elem(a, a->sum, l.iv), 4), zero = ll_f(e, sum, 0);
  a->inverse = ll_select(e, ll_fcmp(e, LLVMRealOEQ, sum, zero), zero, ll_fdiv(e, ll_f(e, sum, 1), sum));
  a->acc_row = ll_at(e, a->acc, ll_imul(e, l.iv, a->acc_stride));
  staged c = {.a = a};
  tn_cpu_att_row(a, l.iv, &c.query, &c.head);
  c.row = ll_iadd(e, ll_imul(e, ll_iadd(e, ll_imul(e, a->b, a->s), c.query), a->h), c.head);
  tn_cpu_columns(a->k, ll_k(e, 0), a->dv, out_column, &c, NULL, 0);
  rows_end(a, &l);
}

/* ---- keys and values ---- */
ll_val tn_cpu_att_key_row(tn_cpu_att *a, ll_val key) {
  tn_ll *e = a->k->e;
  if (!a->ring) return key;
  ll_val row = ll_sub(e, ll_imax(e, key, a->oldest), a->lap);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, row, ll_k(e, 0)), ll_add(e, row, a->rows), row);
}

static ll_val head_bytes(tn_cpu_att *a, tn_value v) {
  tn_ll *e = a->k->e;
  tn_type_info t = tn_cpu_type(a->k, v);
  const tn_dtype_info *info = a->k->u->ir->dtype_info(t.dtype);
  ll_val width = ll_imul(e, tn_ll_dim(&a->k->body, t.dims[3]), ll_k(e, info->block_bytes));
  return info->block_values > 1 ? ll_udiv(e, width, ll_k(e, info->block_values)) : width;
}
ll_val tn_cpu_att_row_step(tn_cpu_att *a, tn_value v) { return ll_imul(a->k->e, a->hkv, head_bytes(a, v)); }
ll_val tn_cpu_att_row_bytes(tn_cpu_att *a, tn_value v, ll_val row) {
  tn_ll *e = a->k->e;
  tn_type_info t = tn_cpu_type(a->k, v);
  ll_val at = ll_iadd(e, ll_imul(e, a->b, tn_ll_dim(&a->k->body, t.dims[1])), row);
  return ll_iadd(e, ll_imul(e, at, tn_cpu_att_row_step(a, v)), ll_imul(e, a->hk, head_bytes(a, v)));
}

/* Features of a row in q8_0: lanes from j on, which lie in one block of 32. */
static ll_val load_q8(tn_ll *e, ll_val row, ll_val j) {
  ll_val p = ll_at(e, row, ll_imul(e, ll_lshr(e, j, ll_k(e, 5)), ll_k(e, TN_CPU_Q8_BYTES)));
  ll_val codes = ll_at(e, p, ll_add(e, ll_and(e, j, ll_k(e, 31)), ll_k(e, 2)));
  ll_val x = LLVMBuildSExt(e->b, ll_load(e, ll_vec(e, e->i8), codes, 1), ll_vec(e, e->i32), "");
  ll_val scale = tn_ll_to_compute(e, TN_DT_f16, ll_load(e, e->f16, p, 2));
  return ll_fmul(e, LLVMBuildSIToFP(e->b, x, ll_vec(e, e->f32), ""), ll_splat(e, scale));
}

ll_val tn_cpu_att_load_at(tn_cpu_att *a, tn_dtype t, ll_val at, ll_val j, ll_val mask) {
  tn_ll *e = a->k->e;
  if (t >= TN_DT_BLOCK) return load_q8(e, at, j);
  uint32_t bytes = tn_ll_dtype_of(t).bytes;
  ll_val p = ll_at(e, at, ll_imul(e, j, ll_k(e, bytes)));
  ll_val x = ll_load_masked(e, ll_vec(e, tn_ll_memory_type(e, t)), p, mask, bytes);
  return tn_ll_to_f32(e, t, tn_ll_from_memory(e, t, x));
}

ll_val tn_cpu_att_load(tn_cpu_att *a, tn_value v, ll_val key, tn_ll_ix j, ll_val mask) {
  ll_val row = tn_cpu_att_key_row(a, key), buffer = tn_cpu_arg_buffer(a->k, v);
  tn_dtype t = tn_cpu_type(a->k, v).dtype;
  if (buffer)
    return tn_cpu_att_load_at(a, t, ll_at(a->k->e, buffer, tn_cpu_att_row_bytes(a, v, row)), j.v, mask);
  tn_ll_index ix = {.rank = 4,
                    .mask = mask,
                    .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(row), tn_ll_ix_scalar(a->hk), j}};
  ll_val x = ll_wide(a->k->e, tn_ll_eval_f32(&a->k->body, v, &ix), true);
  return mask ? ll_select(a->k->e, mask, x, ll_f(a->k->e, x, 0)) : x;
}

void tn_cpu_att_fetch(tn_cpu_att *a, tn_value v, ll_val buffer, ll_val key, ll_val n) {
  tn_ll *e = a->k->e;
  ll_val zero = ll_k(e, 0), one = ll_k(e, 1);
  if (!buffer) return;
  ll_val width = head_bytes(a, v);
  ll_loop keys, line;
  ll_loop_begin(e, &keys, zero, n, one, NULL, 0);
  ll_val at = ll_at(e, buffer, tn_cpu_att_row_bytes(a, v, tn_cpu_att_key_row(a, ll_add(e, key, keys.iv))));
  ll_loop_begin(e, &line, zero, width, ll_k(e, LINE), NULL, 0);
  ll_prefetch(e, ll_at(e, at, line.iv), 2);
  ll_loop_end(e, &line, NULL);
  ll_loop_end(e, &keys, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- operands ---- */
static void read_ring(tn_cpu_att *a) {
  tn_ll *e = a->k->e;
  ll_val one = ll_k(e, 1), zero = ll_k(e, 0);
  a->rows = tn_ll_dim(&a->k->body, a->tk.dims[1]);
  ll_val newest = ll_imax(e, ll_sub(e, a->t, one), zero), rows = ll_imax(e, a->rows, one);
  a->lap = ll_sub(e, newest, ll_urem(e, newest, rows));
  a->oldest = ll_imax(e, ll_sub(e, a->t, a->rows), zero);
}

static void read_shape(tn_cpu_att *a) {
  tn_cpu_kernel *k = a->k;
  tn_ll_body *b = &k->body;
  a->s = tn_ll_dim(b, a->tq.dims[1]);
  a->h = tn_ll_dim(b, a->tq.dims[2]);
  a->d = tn_ll_dim(b, a->tq.dims[3]);
  a->hkv = tn_ll_dim(b, a->tk.dims[2]);
  a->dv = tn_ll_dim(b, a->tv.dims[3]);
  tn_dim keys = tn_ll_attr(b, k->root, "keys").u.dim;
  int64_t n, kv;
  bool all = !keys || (tn_ll_dim_const(b, keys, &n) && !n);
  a->t = tn_ll_dim(b, all ? a->tk.dims[1] : keys);
  if (ll_const(a->h, &n) && ll_const(a->hkv, &kv) && kv > 0)
    a->g = ll_k(k->e, n / kv);
  else
    a->g = ll_idiv(k->e, a->h, ll_imax(k->e, a->hkv, ll_k(k->e, 1)));
  a->last = ll_sub(k->e, a->t, a->s);
  if (a->ring) read_ring(a);
}

static void read_operands(tn_cpu_att *a) {
  tn_cpu_kernel *k = a->k;
  tn_ll_body *b = &k->body;
  a->q = tn_cpu_operand(k, 0);
  a->key = tn_cpu_operand(k, 1);
  a->v = tn_cpu_operand(k, 2);
  a->mask = tn_cpu_operand(k, 3);
  a->bias = tn_cpu_operand(k, 4);
  a->first = tn_cpu_operand(k, 5);
  a->out = tn_cpu_result(k, 0);
  a->tq = tn_cpu_type(k, a->q);
  a->tk = tn_cpu_type(k, a->key);
  a->tv = tn_cpu_type(k, a->v);
  a->to = tn_cpu_type(k, a->out);
  a->scale = tn_ll_attr_float(b, k->root, "scale");
  a->softcap = tn_ll_attr_float(b, k->root, "softcap");
  a->window = tn_ll_attr_int(b, k->root, "window");
  a->causal = tn_ll_attr_int(b, k->root, "causal");
  a->ring = tn_ll_attr_int(b, k->root, "ring");
  read_shape(a);
}

void tn_cpu_emit_attention(tn_cpu_kernel *k) {
  tn_cpu_att a = {.k = k};
  uint32_t nyields = k->nyields;
  read_operands(&a);
  tn_cpu_att_step_read(&a);
  tn_ll_body_give(&k->body, a.out, give_attention, &a);
  if (tn_cpu_att_is_few(&a))
    tn_cpu_att_few(&a);
  else
    tn_cpu_att_many(&a);
  k->nyields = nyields;
}
