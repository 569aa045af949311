/* matmul_few.c - products of a few rows with a packed weight: every weight is read once (ukernel_few.h).
 * Where registers are few, a single row has a walk of its own, with more panels at once. */
#include "backends/cpu/matmul/matmul.h"
#include "backends/cpu/ukernel/ukernel_few.h"

uint32_t tn_cpu_matmul_few_rows(const tn_cpu_mm *x) {
  return x->blocks ? TN_CPU_BLOCK_FEW : x->k->u->isa->stream_rows;
}

/* Of what the packed panels hold. */
static tn_dtype type_of(const tn_cpu_mm *x) { return x->blocks ? x->tr.dtype : x->dt; }

static void stage_rows(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, x->m0, x->m1, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  tn_cpu_mm_row c = {x, l.iv, ll_at(e, x->a_stage, ll_mul(e, ll_sub(e, l.iv, x->m0), x->a_stride))};
  tn_cpu_mm_row_open(&c);
  tn_cpu_few_prepare(x->k, x->tr.dtype, x->depth, c.to, tn_cpu_mm_lhs_fn, &c);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* The tile of rows from r0 on. */
static tn_cpu_tile tile_of(tn_cpu_mm *x, ll_val r0) {
  tn_ll *e = x->k->e;
  x->k0 = ll_k(e, 0);
  tn_cpu_tile t = {
      .depth = x->depth, .a = tn_cpu_mm_lhs_row(x, r0), .a_stride = x->a_stride, .c = x->tile, .dot = x->dot};
  ll_val panel = ll_udiv(e, x->n0, ll_k(e, TN_CPU_PANEL));
  if (tn_cpu_mm_pairs(x)) t.depth = ll_and(e, ll_iadd(e, x->depth, ll_k(e, 1)), ll_k(e, -2));
  t.c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4);
  t.panel_stride = tn_cpu_panel_bytes(x->k, type_of(x), x->depth);
  t.np = ll_ceildiv(e, ll_sub(e, x->n, x->n0), ll_k(e, TN_CPU_PANEL));
  t.b = ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs), ll_imul(e, panel, t.panel_stride));
  if (x->pair) t.pair = ll_mul(e, ll_udiv(e, x->n, ll_k(e, TN_CPU_PANEL)), t.panel_stride);
  return t;
}

static void unit(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  ll_val blocks = tn_cpu_mm_blocks(x), r0, r1;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  tn_cpu_mm_block(x, blocks, l.iv, &r0, &r1);
  tn_cpu_tile t = tile_of(x, r0);
  tn_cpu_few_call(x->k, type_of(x), (tn_cpu_few_shape){x->max_rows, x->panels}, ll_sub(e, r1, r0), &t);
  tn_cpu_mm_finish(x, r0, r1);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

bool tn_cpu_matmul_few(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  tn_dtype dt = type_of(x);
  ll_val tile = x->tile;
  if (!tn_cpu_few_handled(x->k->u, dt)) return false;
  tn_cpu_few_shape s = tn_cpu_few_shape_of(x->k, dt);
  tn_cpu_mm_path p = {s.panels, s.rows, .unit = unit, .rows = TN_CPU_BLOCK_FEW};
  if (x->blocks) {
    p.a_stride = tn_cpu_few_row_bytes(x->k, dt, x->depth);
    p.stage = stage_rows;
  } else if (!x->readable) {
    p.stage = tn_cpu_mm_stage_lhs;
  }
  x->tile = ll_alloca(e, (uint64_t)s.rows * s.panels * TN_CPU_PANEL * 4);
  tn_cpu_mm_walk(x, &p);
  x->tile = tile;
  return true;
}
