/* matmul_whole.c - products of whole numbers, exact in i32 at every precision and on every target: rows of
 * lhs are staged once per block of rows, a unit's panels once per chunk of k. */
#include "backends/cpu/matmul/matmul.h"
#include "backends/cpu/ukernel/ukernel_whole.h"

#define ROWS_BYTES (400 * 1024) /* of staged rows that should stay in the second-level cache */
#define MOST_ROWS 192           /* of a unit */
#define UNIT_PANELS 4

typedef struct whole_path {
  tn_cpu_whole w;
  tn_cpu_whole_rows rows;
  ll_val low, high, panels, parts;
  ll_val wide; /* i32 in memory: 1 if some row's values need their high bytes */
} whole_path;

static int64_t rows_limit(tn_cpu_mm *x, const tn_cpu_whole *w) {
  int64_t depth, most = w->rows, limit = 4;
  if (tn_ll_dim_const(&x->k->body, x->k_dim, &depth) && depth > 0) limit = ROWS_BYTES / depth / most;
  return most * (limit < 4 ? 4 : limit > MOST_ROWS / most ? MOST_ROWS / most : limit);
}

/* ---- stages ---- */
static void stage_rows(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  whole_path *p = x->own;
  ll_val none = LLVMConstInt(e->i32, 0, 0);
  ll_loop l;
  ll_loop_begin(e, &l, x->m0, x->m1, ll_k(e, 1), &none, 1);
  ll_val at = ll_mul(e, ll_sub(e, l.iv, x->m0), p->rows.bytes), wide = l.phi[0];
  tn_cpu_mm_row c = {x, l.iv, ll_at(e, p->low, at)};
  tn_cpu_mm_row_open(&c);
  ll_val high = p->w.bytes ? ll_at(e, p->high, at) : NULL;
  high = tn_cpu_whole_row(x->k, &p->w, &p->rows, x->depth, c.to, high, tn_cpu_mm_lhs_fn, &c);
  if (high) wide = ll_or(e, wide, LLVMBuildZExt(e->b, high, e->i32, ""));
  ll_loop_end(e, &l, &wide);
  ll_store(e, l.out[0], p->wide, 4);
  tn_ll_body_forget(&x->k->body);
}

/* Column `column` of a rhs that nobody packed, as words of a panel's lane. */
static void stage_column(tn_cpu_mm *x, ll_val column, ll_val to) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), x->kc, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  tn_ll_index ix = {.rank = x->tr.rank};
  tn_ll_ix at_k = tn_ll_ix_lanes(ll_iadd(e, x->k0, l.iv), true), at_n = tn_ll_ix_scalar(column);
  tn_cpu_mm_leading(x, &x->tr, &ix);
  ix.at[x->tr.rank - 2] = x->trans_b ? at_n : at_k;
  ix.at[x->tr.rank - 1] = x->trans_b ? at_k : at_n;
  ll_val v = ll_wide(e, tn_ll_eval_f32(&x->k->body, x->rhs, &ix), true);
  v = LLVMBuildFPToSI(e->b, v, ll_vec(e, e->i16), "");
  ll_val first = ll_at(e, to, ll_mul(e, l.iv, ll_k(e, TN_CPU_PANEL * 2)));
  for (uint32_t i = 0; i < e->lanes; i++)
    ll_store(e, ll_lane(e, v, i), ll_at(e, first, ll_k(e, i / 2 * TN_CPU_PANEL * 4 + i % 2 * 2)), 2);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}
static void stage_columns(tn_cpu_mm *x, uint32_t j, ll_val to) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, TN_CPU_PANEL), ll_k(e, 1), NULL, 0);
  ll_val column = ll_iadd(e, ll_mul(e, tn_cpu_mm_panel(x, j), ll_k(e, TN_CPU_PANEL)), l.iv);
  ll_val all = x->pair ? ll_mul(e, x->n, ll_k(e, 2)) : x->n;
  column = ll_imin(e, column, ll_sub(e, all, ll_k(e, 1)));
  stage_column(x, column, ll_at(e, to, ll_mul(e, l.iv, ll_k(e, 4))));
  ll_loop_end(e, &l, NULL);
}

/* The unit's panels, the chunk's part of k. */
static void stage_panels(tn_cpu_mm *x, ll_val size) {
  tn_ll *e = x->k->e;
  whole_path *p = x->own;
  for (uint32_t j = 0; j < x->panels; j++) {
    ll_val to = ll_at(e, p->panels, ll_imul(e, size, ll_k(e, j)));
    if (!p->w.q) {
      stage_columns(x, j, to);
      continue;
    }
    ll_val from = ll_mul(e, tn_cpu_mm_panel(x, j), tn_cpu_panel_bytes(x->k, x->tr.dtype, x->depth));
    from = ll_iadd(e, from, tn_cpu_panel_bytes(x->k, x->tr.dtype, x->k0));
    tn_cpu_whole_unpack(x->k, &p->w, ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs), from), x->kc, to);
  }
}

/* ---- units ---- */
/* Rows [r0, r1), their low bytes (part 0) or their high ones, times the unit's panels from j on. */
static void multiply(tn_cpu_mm *x, ll_val part, ll_val r0, ll_val r1, uint32_t j, ll_val size) {
  tn_ll *e = x->k->e;
  whole_path *p = x->own;
  ll_val at = ll_sub(e, r0, x->m0), first = ll_icmp(e, LLVMIntEQ, part, ll_k(e, 0)), rows = p->low;
  if (p->w.bytes) rows = ll_select(e, first, p->low, p->high);
  ll_val row = ll_at(e, rows, ll_mul(e, at, p->rows.bytes));
  ll_val sum = ll_mul(e, ll_udiv(e, x->k0, ll_k(e, p->w.chunk)), ll_k(e, 4));
  tn_cpu_whole_tile t = {.depth = x->kc,
                         .a = ll_at(e, row, p->w.bytes ? x->k0 : ll_mul(e, x->k0, ll_k(e, 2))),
                         .least = ll_at(e, row, p->rows.least),
                         .sums = ll_at(e, row, ll_iadd(e, p->rows.sums, sum)),
                         .a_stride = p->rows.bytes,
                         .b = ll_at(e, p->panels, ll_imul(e, size, ll_k(e, j))),
                         .panel_stride = size,
                         .c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4)};
  t.c = ll_at(e, p->parts, ll_iadd(e, ll_mul(e, at, t.c_stride), ll_k(e, (int64_t)j * TN_CPU_PANEL * 4)));
  t.more = ll_or(e, ll_icmp(e, LLVMIntNE, x->k0, ll_k(e, 0)), ll_not(e, first));
  t.shift = LLVMBuildTrunc(e->b, ll_mul(e, part, ll_k(e, 8)), e->i32, "");
  tn_cpu_whole_tile_call(x->k, &p->w, ll_sub(e, r1, r0), &t);
}

static void add_chunk(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  const whole_path *p = x->own;
  ll_loop parts, rows;
  ll_val size = tn_cpu_whole_panel_bytes(x->k, &p->w, x->kc), r0, r1;
  stage_panels(x, size);
  ll_val wide = LLVMBuildZExt(e->b, ll_load(e, e->i32, p->wide, 4), e->i64, "");
  ll_val blocks = tn_cpu_mm_blocks(x);
  ll_loop_begin(e, &parts, ll_k(e, 0), ll_add(e, wide, ll_k(e, 1)), ll_k(e, 1), NULL, 0);
  ll_loop_begin(e, &rows, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_block(x, blocks, rows.iv, &r0, &r1);
  for (uint32_t j = 0; j < x->panels; j += p->w.panels) multiply(x, parts.iv, r0, r1, j, size);
  ll_loop_end(e, &rows, NULL);
  ll_loop_end(e, &parts, NULL);
}
static void unit(tn_cpu_mm *x) {
  const whole_path *p = x->own;
  tn_cpu_mm_by_chunks(x, p->w.chunk, p->parts, add_chunk);
}

bool tn_cpu_matmul_whole(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  if (!tn_cpu_mm_whole(x)) return false;
  whole_path p = {.w = tn_cpu_whole_of(k->u->isa, x->blocks ? tn_quant_of(x->tr.dtype) : NULL)};
  int64_t limit = rows_limit(x, &p.w), panel = (int64_t)p.w.chunk * TN_CPU_PANEL * 2 + 2 * TN_CPU_PANEL * 4;
  tn_dim rows = tn_cpu_dim_mul(k, tn_cpu_whole_row_dim(k, x->k_dim), tn_cpu_dim_k(k, limit));
  p.rows = tn_cpu_whole_rows_of(k, &p.w, x->depth);
  p.low = tn_cpu_scratch(k, rows, 1);
  if (p.w.bytes) p.high = tn_cpu_scratch(k, rows, 1);
  p.panels = tn_cpu_scratch(k, tn_cpu_dim_k(k, UNIT_PANELS * panel), 1);
  p.parts = tn_cpu_scratch(k, tn_cpu_dim_k(k, limit * UNIT_PANELS * TN_CPU_PANEL), 4);
  p.wide = ll_alloca(k->e, 4);
  tn_ll_body_give(&k->body, x->out, tn_cpu_mm_product, x);
  x->own = &p;
  tn_cpu_mm_path path = {.panels = UNIT_PANELS,
                         .max_rows = p.w.rows,
                         .a_stride = p.rows.bytes,
                         .stage = stage_rows,
                         .unit = unit,
                         .rows = limit,
                         .tiles = p.w.tiles};
  if (p.w.tiles) tn_cpu_amx_begin(k);
  tn_cpu_mm_walk(x, &path);
  if (p.w.tiles) tn_cpu_amx_end(k);
  x->own = NULL;
  return true;
}
