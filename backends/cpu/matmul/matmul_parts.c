/* matmul_parts.c - products of many rows in tile registers where the panels of a packed weight are not bf16
 * yet: a unit makes them so, chunk by chunk of k, and all its rows pass by.
 *
 * At precision "high" both factors are sums of bf16 - three parts of an f32, so that nothing is lost, two of
 * an f16 - and the products of parts are added in f32: six for two f32, three for an f32 and a bf16. That is
 * closer to the exact sum than a chain of f32; with fewer parts it would not be within four times of one.
 * An infinite factor may give NaN where f32 gives infinity. At "fast" there is one part of each. */
#include "backends/cpu/matmul/matmul.h"

#define CHUNK 256            /* of k: three parts of two panels are 48 KB */
#define ROWS_BYTES (1 << 20) /* of parts of rows, about */
#define MOST_TILES 8         /* blocks of rows of a unit */
#define LEAST_TILES 3

typedef struct parts_path {
  tn_cpu_amx_parts parts;
  ll_val part; /* i64: bytes of one part of a row */
  ll_val rows_at, panels_at, sums;
  ll_val wide; /* a panel of a block format as f32; NULL: none */
} parts_path;

static uint32_t parts_of(const tn_cpu_mm *x) {
  tn_dtype dt = x->tr.dtype;
  if (x->k->u->precision == TN_CPU_FAST || dt == TN_DT_bf16 || dt == TN_DT_f8e4m3) return 1;
  return dt == TN_DT_f16 ? 2 : TN_CPU_AMX_PARTS;
}
static int64_t rows_limit(tn_cpu_mm *x, uint32_t parts) {
  int64_t depth, tiles = LEAST_TILES;
  if (tn_ll_dim_const(&x->k->body, x->k_dim, &depth) && depth > 0)
    tiles = ROWS_BYTES / (2 * parts * depth) / TN_CPU_AMX_ROWS;
  tiles = tiles < LEAST_TILES ? LEAST_TILES : tiles > MOST_TILES ? MOST_TILES : tiles;
  return tiles * TN_CPU_AMX_ROWS;
}

/* ---- rows ---- */
static void stage_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const tn_cpu_mm_row *c = ctx;
  const parts_path *p = c->x->own;
  tn_ll *e = k->e;
  ll_val part[TN_CPU_AMX_PARTS], at = ll_at(e, c->to, ll_imul(e, j.v, ll_k(e, 2)));
  (void)acc;
  tn_cpu_amx_split(e, tn_cpu_mm_lhs(c, j, mask), p->parts.lhs, part);
  for (uint32_t i = 0; i < p->parts.lhs; i++)
    ll_store_masked(e, part[i], ll_at(e, at, ll_imul(e, p->part, ll_k(e, i))), mask, 2);
}
static void stage_rows(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  const parts_path *p = x->own;
  ll_val zeros = ll_zero(LLVMVectorType(e->i8, TN_CPU_AMX_LINE));
  ll_loop l;
  ll_loop_begin(e, &l, x->m0, x->m1, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_row c = {x, l.iv, ll_at(e, p->rows_at, ll_mul(e, ll_sub(e, l.iv, x->m0), x->a_stride))};
  tn_cpu_mm_row_open(&c);
  tn_cpu_columns(x->k, ll_k(e, 0), x->depth, stage_column, &c, NULL, 0);
  ll_val end = ll_at(e, c.to, ll_imul(e, x->depth, ll_k(e, 2)));
  for (uint32_t i = 0; i < p->parts.lhs; i++)
    ll_store(e, zeros, ll_at(e, end, ll_imul(e, p->part, ll_k(e, i))), 2);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* ---- panels ---- */
/* Bytes of one part of a panel's chunk. */
static ll_val panel_part(tn_cpu_mm *x) {
  return ll_mul(x->k->e, tn_cpu_amx_row(x->k, x->kc, 2), ll_k(x->k->e, TN_CPU_PANEL));
}

/* Vector v of the panel's row at_k, f32; a row behind the chunk's end is zeros. */
static ll_val row_of(tn_cpu_mm *x, ll_val from, ll_val at_k, uint32_t v) {
  const parts_path *p = x->own;
  tn_ll *e = x->k->e;
  tn_dtype dt = p->wide ? TN_DT_f32 : x->tr.dtype;
  uint32_t bytes = tn_ll_dtype_of(dt).bytes;
  ll_val in = ll_icmp(e, LLVMIntSLT, at_k, x->kc), row = ll_imin(e, at_k, ll_sub(e, x->kc, ll_k(e, 1)));
  ll_val at = ll_iadd(e, ll_mul(e, row, ll_k(e, (int64_t)TN_CPU_PANEL * bytes)),
                      ll_k(e, (int64_t)v * e->lanes * bytes));
  ll_val x0 = ll_load(e, ll_vec(e, tn_ll_memory_type(e, dt)), ll_at(e, from, at), bytes);
  x0 = tn_ll_to_compute(e, dt, x0);
  return ll_select(e, in, x0, ll_zero(LLVMTypeOf(x0)));
}

/* Pairs of rows of a panel's chunk at `from`, as parts at `to`. */
static void split_panel(tn_cpu_mm *x, ll_val from, ll_val to) {
  const parts_path *p = x->own;
  tn_ll *e = x->k->e;
  ll_val size = panel_part(x), low[TN_CPU_AMX_PARTS], high[TN_CPU_AMX_PARTS];
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_udiv(e, size, ll_k(e, TN_CPU_AMX_LINE)), ll_k(e, 1), NULL, 0);
  ll_val at_k = ll_mul(e, l.iv, ll_k(e, 2)), line = ll_at(e, to, ll_mul(e, l.iv, ll_k(e, TN_CPU_AMX_LINE)));
  for (uint32_t v = 0; v < TN_CPU_PANEL / e->lanes; v++) {
    tn_cpu_amx_split(e, row_of(x, from, at_k, v), p->parts.rhs, low);
    tn_cpu_amx_split(e, row_of(x, from, ll_add(e, at_k, ll_k(e, 1)), v), p->parts.rhs, high);
    for (uint32_t i = 0; i < p->parts.rhs; i++) {
      ll_type wide = ll_vec(e, e->i32);
      ll_val a = LLVMBuildZExt(e->b, low[i], wide, ""), b = LLVMBuildZExt(e->b, high[i], wide, "");
      ll_val at = ll_iadd(e, ll_imul(e, size, ll_k(e, i)), ll_k(e, (int64_t)v * e->lanes * 4));
      ll_store(e, ll_or(e, a, ll_shl(e, b, ll_i(e, b, 16))), ll_at(e, line, at), 4);
    }
  }
  ll_loop_end(e, &l, NULL);
}

/* A chunk that is pairs of bf16 already: copied, with zeros up to the end of its last step. */
static void copy_panel(tn_cpu_mm *x, ll_val from, ll_val to) {
  tn_ll *e = x->k->e;
  ll_type line = LLVMVectorType(e->i32, TN_CPU_AMX_LINE / 4);
  ll_val size = panel_part(x), all = tn_cpu_panel_bytes(x->k, TN_DT_bf16, x->kc);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), size, ll_k(e, TN_CPU_AMX_LINE), NULL, 0);
  ll_val last = ll_sub(e, all, ll_k(e, TN_CPU_AMX_LINE));
  ll_val v = ll_load(e, line, ll_at(e, from, ll_imin(e, l.iv, last)), 4);
  v = ll_select(e, ll_icmp(e, LLVMIntSLT, l.iv, all), v, ll_zero(line));
  ll_store(e, v, ll_at(e, to, l.iv), TN_CPU_AMX_LINE);
  ll_loop_end(e, &l, NULL);
}

/* The unit's panels, the chunk's part of k. */
static void stage_panels(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  const parts_path *p = x->own;
  tn_dtype dt = tn_cpu_mm_pairs(x) ? TN_DT_bf16 : x->tr.dtype;
  ll_val size = tn_cpu_panel_bytes(x->k, dt, x->depth), within = tn_cpu_panel_bytes(x->k, dt, x->k0);
  for (uint32_t j = 0; j < x->panels; j++) {
    ll_val from = ll_iadd(e, ll_mul(e, tn_cpu_mm_panel(x, j), size), within);
    ll_val to = ll_at(e, p->panels_at, ll_imul(e, panel_part(x), ll_k(e, j * p->parts.rhs)));
    from = ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs), from);
    if (p->wide) tn_cpu_block_unpack(x->k, dt, from, x->kc, false, p->wide);
    if (tn_cpu_mm_pairs(x))
      copy_panel(x, from, to);
    else
      split_panel(x, p->wide ? p->wide : from, to);
  }
}

/* ---- units ---- */
static void multiply(tn_cpu_mm *x, ll_val i, ll_val blocks, ll_val r0, ll_val r1) {
  tn_ll *e = x->k->e;
  (void)i;
  (void)blocks;
  const parts_path *p = x->own;
  ll_val at = ll_sub(e, r0, x->m0), steps = tn_cpu_amx_row(x->k, x->kc, 2);
  tn_cpu_tile t = {.depth = ll_udiv(e, steps, ll_k(e, 2)),
                   .a_stride = x->a_stride,
                   .b = p->panels_at,
                   .panel_stride = ll_mul(e, panel_part(x), ll_k(e, p->parts.rhs)),
                   .np = ll_k(e, x->panels),
                   .c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4)};
  ll_val row = ll_iadd(e, ll_mul(e, at, x->a_stride), ll_imul(e, x->k0, ll_k(e, 2)));
  t.a = ll_at(e, p->rows_at, row);
  t.c = ll_at(e, p->sums, ll_mul(e, at, t.c_stride));
  t.more = ll_icmp(e, LLVMIntNE, x->k0, ll_k(e, 0));
  tn_cpu_amx_parts_call(x->k, p->parts, ll_sub(e, r1, r0), &t);
}

static void add_chunk(tn_cpu_mm *x) {
  stage_panels(x);
  tn_cpu_mm_each_block(x, multiply);
}
static void unit(tn_cpu_mm *x) {
  const parts_path *p = x->own;
  tn_cpu_mm_by_chunks(x, CHUNK, p->sums, add_chunk);
}

bool tn_cpu_matmul_parts(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  tn_ll *e = k->e;
  if (!x->split) return false;
  parts_path p = {.parts = {k->u->precision == TN_CPU_FAST ? 1 : TN_CPU_AMX_PARTS, parts_of(x)}};
  int64_t limit = rows_limit(x, p.parts.lhs), part = CHUNK * TN_CPU_PANEL * 2;
  tn_dim row = tn_cpu_dim_add(k, tn_cpu_amx_row_dim(k, x->k_dim, 2), tn_cpu_dim_k(k, TN_CPU_AMX_LINE));
  p.part = ll_iadd(e, tn_cpu_amx_row(k, x->depth, 2), ll_k(e, TN_CPU_AMX_LINE));
  p.rows_at = tn_cpu_scratch(k, tn_cpu_dim_mul(k, row, tn_cpu_dim_k(k, limit * p.parts.lhs)), 1);
  p.panels_at = tn_cpu_scratch(k, tn_cpu_dim_k(k, part * p.parts.rhs * TN_CPU_AMX_PANELS), 1);
  if (x->blocks) p.wide = tn_cpu_scratch(k, tn_cpu_dim_k(k, CHUNK * TN_CPU_PANEL), 4);
  p.sums = tn_cpu_scratch(k, tn_cpu_dim_k(k, limit * TN_CPU_AMX_PANELS * TN_CPU_PANEL), 4);
  x->own = &p;
  tn_cpu_mm_path path = {.panels = TN_CPU_AMX_PANELS,
                         .max_rows = TN_CPU_AMX_ROWS,
                         .a_stride = ll_imul(e, p.part, ll_k(e, p.parts.lhs)),
                         .stage = stage_rows,
                         .unit = unit,
                         .rows = limit,
                         .tiles = true};
  tn_cpu_amx_begin(k);
  tn_cpu_mm_walk(x, &path);
  tn_cpu_amx_end(k);
  x->own = NULL;
  return true;
}
