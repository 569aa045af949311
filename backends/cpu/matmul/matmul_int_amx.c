/* matmul_int_amx.c - products of many rows with 8-bit weights in tile registers, at precision "fast". Rows
 * become bytes as in matmul_int.c, and panels are read where they lie, a chunk of k at a time, which stays in
 * the first-level cache while all rows of a unit pass by.
 *
 * Only weights without scales inside a row (W8A8) come here. A step of tiles covers 64 values, so blocks of
 * 32 with scales of their own would leave half of it empty and want their sums back after each: those become
 * bf16 (skel_matmul.c), which is faster and keeps more of the rows' digits. */
#include "backends/cpu/matmul/matmul.h"
#include "backends/cpu/ukernel/ukernel_int.h"

#define ROWS_BYTES (1 << 20) /* of prepared rows that should stay in the second-level cache, about */
#define CHUNK 1024           /* of k, at most: two panels are 32 KB */
#define MOST_TILES 16        /* blocks of rows of a unit */
#define LEAST_TILES 3

typedef struct bytes_path {
  tn_cpu_int_form form;
  tn_cpu_int_rows rows;
  ll_val rows_at, sums;
} bytes_path;

bool tn_cpu_mm_in_bytes(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  tn_cpu_int_form f;
  return k->u->precision == TN_CPU_FAST && x->blocks &&
         tn_cpu_int_form_of(k, tn_quant_of(x->tr.dtype), x->k_dim, &f) && tn_cpu_int_amx_fits(k->u->isa, &f);
}

static int64_t rows_limit(tn_cpu_mm *x) {
  int64_t depth, tiles = LEAST_TILES;
  if (tn_ll_dim_const(&x->k->body, x->k_dim, &depth) && depth > 0)
    tiles = ROWS_BYTES / depth / TN_CPU_AMX_ROWS;
  tiles = tiles < LEAST_TILES ? LEAST_TILES : tiles > MOST_TILES ? MOST_TILES : tiles;
  return tiles * TN_CPU_AMX_ROWS;
}

static void stage_rows(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  const bytes_path *b = x->own;
  ll_loop l;
  ll_loop_begin(e, &l, x->m0, x->m1, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_row c = {x, l.iv, ll_at(e, b->rows_at, ll_mul(e, ll_sub(e, l.iv, x->m0), b->rows.bytes))};
  tn_cpu_mm_row_open(&c);
  tn_cpu_int_prepare(x->k, &b->rows, x->depth, c.to, tn_cpu_mm_lhs_fn, &c);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

static void multiply(tn_cpu_mm *x, ll_val i, ll_val blocks, ll_val r0, ll_val r1) {
  tn_ll *e = x->k->e;
  const bytes_path *b = x->own;
  ll_val at = ll_sub(e, r0, x->m0), row = ll_at(e, b->rows_at, ll_mul(e, at, b->rows.bytes));
  ll_val scales = ll_udiv(e, x->k0, ll_k(e, b->form.block / 4));
  ll_val apart = ll_sub(e, tn_cpu_mm_panel(x, 1), tn_cpu_mm_panel(x, 0));
  tn_cpu_int_tile t = {.depth = x->kc,
                       .q = ll_at(e, row, x->k0),
                       .d = ll_at(e, row, ll_iadd(e, b->rows.d, scales)),
                       .a_stride = b->rows.bytes,
                       .b = tn_cpu_mm_packed_panel(x, 0),
                       .panel_stride = ll_mul(e, apart, tn_cpu_panel_bytes(x->k, x->tr.dtype, x->depth)),
                       .c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4),
                       .more = ll_icmp(e, LLVMIntNE, x->k0, ll_k(e, 0))};
  t.c = ll_at(e, b->sums, ll_mul(e, at, t.c_stride));
  tn_cpu_mm_fetch_packed(x, i, blocks);
  tn_cpu_int_amx_call(x->k, &b->form, ll_sub(e, r1, r0), &t);
}

static void add_chunk(tn_cpu_mm *x) { tn_cpu_mm_each_block(x, multiply); }
static void unit(tn_cpu_mm *x) {
  const bytes_path *b = x->own;
  tn_cpu_mm_by_chunks(x, CHUNK / b->form.block * b->form.block, b->sums, add_chunk);
}

bool tn_cpu_matmul_int_amx(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  bytes_path b = {0};
  if (!x->bytes || !tn_cpu_int_form_of(k, tn_quant_of(x->tr.dtype), x->k_dim, &b.form)) return false;
  int64_t limit = rows_limit(x);
  b.rows = tn_cpu_int_rows_of(k, x->depth, b.form.block, b.form.run, 0);
  b.rows_at =
      tn_cpu_scratch(k, tn_cpu_dim_mul(k, tn_cpu_int_row_dim(k, x->k_dim), tn_cpu_dim_k(k, limit)), 1);
  b.sums = tn_cpu_scratch(k, tn_cpu_dim_k(k, limit * TN_CPU_AMX_PANELS * TN_CPU_PANEL), 4);
  x->own = &b;
  tn_cpu_mm_path p = {.panels = TN_CPU_AMX_PANELS,
                      .max_rows = TN_CPU_AMX_ROWS,
                      .a_stride = b.rows.bytes,
                      .stage = stage_rows,
                      .unit = unit,
                      .rows = limit,
                      .tiles = true};
  tn_cpu_amx_begin(k);
  tn_cpu_mm_walk(x, &p);
  tn_cpu_amx_end(k);
  x->own = NULL;
  return true;
}
