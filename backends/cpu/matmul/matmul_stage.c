/* matmul_stage.c - operands of a product that cannot be read as they are: rows of lhs and panels of rhs go
 * into scratch. */
#include "backends/cpu/matmul/matmul.h"

/* ---- indices ---- */
void tn_cpu_mm_leading(tn_cpu_mm *x, const tn_type_info *t, tn_ll_index *ix) {
  for (uint32_t i = 0; i + 2 < t->rank; i++) {
    int64_t one;
    bool fixed = tn_ll_dim_const(&x->k->body, t->dims[i], &one) && one == 1;
    ix->at[i] = tn_ll_ix_scalar(fixed ? ll_k(x->k->e, 0) : x->batch_at[i + x->to.rank - t->rank]);
  }
}
void tn_cpu_mm_coordinates(tn_cpu_mm *x, ll_val r, tn_ll_index *ix) {
  tn_ll *e = x->k->e;
  uint32_t last = x->to.rank - 2;
  if (!x->flat) {
    tn_cpu_mm_leading(x, &x->to, ix);
    ix->at[last] = tn_ll_ix_scalar(r);
    return;
  }
  for (uint32_t i = last + 1; i-- > 0;) {
    ll_val size = tn_ll_dim(&x->k->body, x->to.dims[i]);
    ix->at[i] = tn_ll_ix_scalar(i ? ll_imod(e, r, size) : r);
    r = i ? ll_idiv(e, r, size) : r;
  }
}

/* ---- a norm before the product ---- */
static ll_val give_norm(void *ctx, const tn_ll_index *ix) {
  tn_cpu_mm *x = ctx;
  tn_ll_index at = tn_cpu_norm_index(&x->norm, x->norm_j, x->norm_mask);
  (void)ix; /* of the same element, maybe seen through a reshape */
  return tn_cpu_norm_value(&x->norm, &at);
}
void tn_cpu_mm_find_norm(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  const tn_ir *ir = k->u->ir;
  for (tn_op op = ir->first_op(k->u->m, 0, k->op); op; op = ir->next_op(k->u->m, op)) {
    const char *name = ir->opcode_name(ir->opcode(k->u->m, op));
    if (strcmp(name, "rms_norm") && strcmp(name, "layer_norm")) continue;
    tn_cpu_norm_init(&x->norm, k, op, false);
    tn_ll_body_give(&k->body, x->norm.out, give_norm, x);
  }
}
void tn_cpu_mm_row_open(const tn_cpu_mm_row *c) {
  tn_cpu_mm *x = c->x;
  tn_ll *e = x->k->e;
  tn_ll_index row = {.flat = c->row};
  ll_val r = c->row;
  tn_ll_index at = {.rank = x->tl.rank};
  if (x->flat)
    tn_cpu_mm_coordinates(x, c->row, &at);
  else
    tn_cpu_mm_leading(x, &x->tl, &at);
  memcpy(x->row_at, at.at, sizeof at.at);
  if (!x->norm.op) return;
  for (uint32_t i = x->norm.t.rank - 1; i-- > 0;) {
    ll_val size = tn_ll_dim(&x->k->body, x->norm.t.dims[i]);
    row.at[i] = tn_ll_ix_scalar(i ? ll_imod(e, r, size) : r);
    r = i ? ll_idiv(e, r, size) : r;
  }
  tn_cpu_norm_row(&x->norm, &row);
}

/* ---- operands ---- */
ll_val tn_cpu_mm_lhs(const tn_cpu_mm_row *c, tn_ll_ix j, ll_val mask) {
  tn_cpu_mm *x = c->x;
  tn_cpu_kernel *k = x->k;
  tn_ll_index ix = {.rank = x->tl.rank, .mask = mask};
  x->norm_j = j;
  x->norm_mask = mask;
  memcpy(ix.at, x->row_at, sizeof ix.at);
  ix.at[x->tl.rank - 2] = x->trans_a ? j : x->flat ? ix.at[x->tl.rank - 2] : tn_ll_ix_scalar(c->row);
  ix.at[x->tl.rank - 1] = x->trans_a ? tn_ll_ix_scalar(c->row) : j;
  return ll_wide(k->e, tn_ll_eval_f32(&k->body, x->lhs, &ix), true);
}
static void stage_a_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const tn_cpu_mm_row *c = ctx;
  (void)acc;
  int64_t bytes = tn_cpu_mm_lhs_bytes(c->x);
  ll_val to = ll_at(k->e, c->to, ll_imul(k->e, j.v, ll_k(k->e, bytes))), v = tn_cpu_mm_lhs(c, j, mask);
  if (c->x->dot) v = tn_ll_round_bf16(k->e, v);
  ll_store_masked(k->e, v, to, mask, (uint32_t)bytes);
}
ll_val tn_cpu_mm_lhs_fn(tn_cpu_kernel *k, void *ctx, tn_ll_ix j) {
  const tn_cpu_mm_row *c = ctx;
  (void)k;
  return tn_cpu_mm_lhs(c, j, NULL);
}
void tn_cpu_mm_stage_lhs(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, x->m0, x->m1, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_row c = {x, l.iv, ll_at(e, x->a_stage, ll_mul(e, ll_sub(e, l.iv, x->m0), x->a_stride))};
  tn_cpu_mm_row_open(&c);
  if (x->prepared)
    tn_cpu_block_prepare(x->k, x->tr.dtype, x->depth, c.to, tn_cpu_mm_lhs_fn, &c);
  else
    tn_cpu_columns(x->k, ll_k(e, 0), x->depth, stage_a_column, &c, NULL, 0);
  if (x->tiles)
    ll_store(e, ll_zero(LLVMVectorType(e->i32, TN_CPU_AMX_LINE / 4)),
             ll_at(e, c.to, ll_imul(e, x->depth, ll_k(e, 2))), 2);
  else if (tn_cpu_mm_pairs(x) && !tn_ll_dim_multiple(&x->k->body, x->k_dim, 2))
    ll_store(e, ll_zero(x->dot ? e->i16 : e->f32),
             ll_at(e, c.to, ll_imul(e, x->depth, ll_k(e, tn_cpu_mm_lhs_bytes(x)))), 2);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* Vector `vector` of the unit's panels in scratch at k; with pairs at_k is even. */
static ll_val panel_address(tn_cpu_mm *x, uint32_t vector, ll_val at_k) {
  tn_ll *e = x->k->e;
  uint32_t per = TN_CPU_PANEL / e->lanes;
  ll_val panel = ll_imul(e, tn_cpu_panel_bytes(x->k, x->dt, x->depth), ll_k(e, vector / per));
  int64_t line = TN_CPU_PANEL * (tn_cpu_mm_pairs(x) ? 2 : 4);
  ll_val off = ll_iadd(e, ll_mul(e, at_k, ll_k(e, line)), ll_k(e, (int64_t)(vector % per) * e->lanes * 4));
  return ll_at(e, x->b_stage, ll_iadd(e, panel, off));
}

/* What a step of the panels holds: a row of f32, or two rows, at k and k + 1, as pairs of bf16; what is
 * behind the end is 0. */
static ll_val step_values(tn_cpu_mm *x, ll_val at_k, ll_val first, ll_val second) {
  tn_ll *e = x->k->e;
  ll_type wide = ll_vec(e, e->i32);
  if (!tn_cpu_mm_pairs(x)) return first;
  if (!tn_ll_dim_multiple(&x->k->body, x->k_dim, 2)) {
    ll_val in = ll_icmp(e, LLVMIntSLT, ll_iadd(e, at_k, ll_k(e, 1)), x->depth);
    second = ll_select(e, in, second, ll_zero(LLVMTypeOf(second)));
  }
  ll_val low = LLVMBuildZExt(e->b, tn_ll_round_bf16(e, first), wide, "");
  ll_val high = LLVMBuildZExt(e->b, tn_ll_round_bf16(e, second), wide, "");
  return ll_or(e, low, ll_shl(e, high, ll_i(e, high, 16)));
}

/* The first column of vector v of the unit, and the end of the columns there. */
static ll_val column_of(tn_cpu_mm *x, uint32_t v, ll_val *end) {
  tn_ll *e = x->k->e;
  uint32_t half = x->panels / 2 * (TN_CPU_PANEL / e->lanes);
  bool partner = x->pair && v >= half;
  ll_val j = ll_iadd(e, x->n0, ll_k(e, (int64_t)(partner ? v - half : v) * e->lanes));
  *end = partner ? ll_iadd(e, x->n, x->n) : x->n;
  return partner ? ll_iadd(e, j, x->n) : j;
}

/* Vector v of the unit's columns at k. */
static ll_val columns_at(tn_cpu_mm *x, uint32_t v, ll_val at_k) {
  tn_ll *e = x->k->e;
  ll_val end, j = column_of(x, v, &end);
  tn_ll_index ix = {.rank = x->tr.rank};
  tn_cpu_mm_leading(x, &x->tr, &ix);
  if (!tn_ll_dim_multiple(&x->k->body, x->n_dim, tn_cpu_mm_width(x)))
    ix.mask = ll_mask_below(e, ll_sub(e, end, j));
  ix.at[x->tr.rank - 2] = tn_ll_ix_scalar(at_k);
  ix.at[x->tr.rank - 1] = tn_ll_ix_lanes(j, true);
  return ll_wide(e, tn_ll_eval_f32(&x->k->body, x->rhs, &ix), true);
}
/* Columns lie side by side in rhs: a vector of them per k. */
static void stage_b_columns(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  bool pairs = tn_cpu_mm_pairs(x);
  ll_val last = ll_sub(e, x->depth, ll_k(e, 1));
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), x->depth, ll_k(e, pairs ? 2 : 1), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  for (uint32_t v = 0; v < x->panels * TN_CPU_PANEL / e->lanes; v++) {
    ll_val first = columns_at(x, v, l.iv), second = NULL;
    if (pairs) second = columns_at(x, v, ll_imin(e, ll_add(e, l.iv, ll_k(e, 1)), last));
    ll_store(e, step_values(x, l.iv, first, second), panel_address(x, v, l.iv), 4);
  }
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* Columns are rows of rhs: squares are turned in registers. */
static void stage_b_square(tn_cpu_kernel *k, void *ctx, tn_ll_ix at_k, ll_val mask, ll_val *acc) {
  tn_cpu_mm *x = ctx;
  tn_ll *e = k->e;
  (void)acc;
  for (uint32_t v = 0; v < x->panels * TN_CPU_PANEL / e->lanes; v++) {
    ll_val rows[65] = {0}, end, first = column_of(x, v, &end);
    for (uint32_t i = 0; i < e->lanes; i++) {
      ll_val j = ll_iadd(e, first, ll_k(e, i));
      tn_ll_index ix = {.rank = x->tr.rank, .mask = mask};
      tn_cpu_mm_leading(x, &x->tr, &ix);
      ix.at[x->tr.rank - 2] = tn_ll_ix_scalar(ll_imin(e, j, ll_sub(e, end, ll_k(e, 1))));
      ix.at[x->tr.rank - 1] = at_k;
      rows[i] = ll_wide(e, tn_ll_eval_f32(&k->body, x->rhs, &ix), true);
    }
    ll_transpose(e, rows);
    for (uint32_t i = 0; i < e->lanes; i += tn_cpu_mm_pairs(x) ? 2 : 1) {
      ll_val step = ll_iadd(e, at_k.v, ll_k(e, i)), p = panel_address(x, v, step);
      if (mask) /* behind the end: nowhere that counts */
        p = ll_select(e, ll_icmp(e, LLVMIntSLT, step, x->depth), p, x->tile);
      ll_store(e, step_values(x, step, rows[i], rows[i + 1]), p, 4);
    }
  }
}
/* Blocks nobody packed: a column of rhs at a time, since rebuilding a value is a lot of code. */
static ll_val column_value(tn_cpu_kernel *k, void *ctx, ll_val column, tn_ll_ix at_k, ll_val mask) {
  tn_cpu_mm *x = ctx;
  tn_ll_index ix = {.rank = x->tr.rank, .mask = mask};
  tn_cpu_mm_leading(x, &x->tr, &ix);
  ix.at[x->tr.rank - 2] = tn_ll_ix_scalar(column);
  ix.at[x->tr.rank - 1] = at_k;
  return tn_ll_eval_f32(&k->body, x->rhs, &ix);
}
static void stage_b_values(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  uint32_t halves = x->pair ? 2 : 1, panels = x->panels / halves;
  ll_val size = ll_imul(e, x->depth, ll_k(e, (int64_t)panels * TN_CPU_PANEL * 4));
  for (uint32_t h = 0; h < halves; h++) {
    ll_val n0 = h ? ll_iadd(e, x->n0, x->n) : x->n0, n = h ? ll_iadd(e, x->n, x->n) : x->n;
    ll_val to = ll_at(e, x->b_stage, ll_imul(e, size, ll_k(e, h)));
    tn_cpu_stage s = {column_value, x, panels, n0, n, x->depth, to, x->tile};
    tn_cpu_stage_columns(x->k, &s);
  }
}

/* Packed blocks: panel by panel; those behind the last are not touched. */
static void stage_half(tn_cpu_mm *x, uint32_t half) {
  tn_ll *e = x->k->e;
  ll_val size = tn_cpu_panel_bytes(x->k, x->tr.dtype, x->depth);
  ll_val within = tn_cpu_panel_bytes(x->k, x->tr.dtype, x->k0);
  ll_val first = ll_udiv(e, x->n0, ll_k(e, TN_CPU_PANEL)),
         last = ll_ceildiv(e, x->group_end, ll_k(e, TN_CPU_PANEL));
  ll_val slot = ll_k(e, (int64_t)half * x->panels / 2);
  ll_loop l;
  ll_loop_begin(e, &l, first, last, ll_k(e, 1), NULL, 0);
  ll_val at = ll_iadd(e, ll_sub(e, l.iv, first), slot), panel = l.iv;
  if (half) panel = ll_iadd(e, panel, ll_udiv(e, x->n, ll_k(e, TN_CPU_PANEL)));
  ll_val to = ll_at(e, x->b_stage, ll_mul(e, at, tn_cpu_panel_bytes(x->k, x->dt, x->kc)));
  ll_val from = ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs), ll_iadd(e, ll_mul(e, panel, size), within));
  tn_cpu_block_unpack(x->k, x->tr.dtype, from, x->kc, tn_cpu_mm_pairs(x), to);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}
static void stage_b_blocks(tn_cpu_mm *x) {
  stage_half(x, 0);
  if (x->pair) stage_half(x, 1);
}
void tn_cpu_mm_stage_rhs(tn_cpu_mm *x) {
  if (x->blocks)
    stage_b_blocks(x);
  else if (x->trans_b && x->tr.dtype >= TN_DT_BLOCK)
    stage_b_values(x);
  else if (x->trans_b)
    tn_cpu_columns(x->k, ll_k(x->k->e, 0), x->depth, stage_b_square, x, NULL, 0);
  else
    stage_b_columns(x);
}
