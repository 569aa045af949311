/* matmul_int.c - products of many rows through integer products, at precision "fast". Rows of lhs become
 * 8-bit integers once per block of rows. A unit takes k in chunks: its panels become codes, unless they lie
 * as such, which stay in the first-level cache while all rows pass by. */
#include "backends/cpu/matmul/matmul.h"
#include "backends/cpu/ukernel/ukernel_int.h"

#define ROWS_BYTES (448 * 1024) /* of prepared rows that should stay in the second-level cache */
#define MOST_BLOCKS 18          /* of rows of a unit */
#define LONG_CHUNK 768          /* of k at a time where few scales come with it */
#define UNIT_PANELS 2

/* What a product with a packed weight needs besides. */
typedef struct blocks_path {
  tn_cpu_int_form form;
  tn_cpu_int_rows rows;
  ll_val rows_at, panels_at, parts;
} blocks_path;

static int64_t rows_limit(tn_cpu_mm *x) {
  int64_t depth, most = tn_cpu_int_rows_max(x->k->u->isa), limit = 4;
  if (tn_ll_dim_const(&x->k->body, x->k_dim, &depth) && depth > 0)
    limit = ROWS_BYTES / (depth + depth / 8 + depth / 2) / most;
  return most * (limit < 4 ? 4 : limit > MOST_BLOCKS ? MOST_BLOCKS : limit);
}

/* Of k at a time: whole blocks. */
static int64_t chunk_of(const tn_cpu_int_form *f) {
  int64_t most = f->plain ? LONG_CHUNK : TN_CPU_MM_CHUNK;
  return most / f->block * f->block;
}

/* ---- stages ---- */
static void stage_rows(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  blocks_path *b = x->own;
  ll_loop l;
  ll_loop_begin(e, &l, x->m0, x->m1, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_row c = {x, l.iv, ll_at(e, b->rows_at, ll_mul(e, ll_sub(e, l.iv, x->m0), b->rows.bytes))};
  tn_cpu_mm_row_open(&c);
  tn_cpu_int_prepare(x->k, &b->rows, x->depth, c.to, tn_cpu_mm_lhs_fn, &c);
  tn_cpu_codes_arrange(x->k, &b->form.codes, c.to, x->depth);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

static ll_val codes_bytes(tn_cpu_mm *x, ll_val depth) {
  const blocks_path *b = x->own;
  ll_val blocks = ll_udiv(x->k->e, depth, ll_k(x->k->e, b->form.block));
  return ll_imul(x->k->e, blocks, ll_k(x->k->e, tn_cpu_int_block_bytes(&b->form)));
}

ll_val tn_cpu_mm_packed_panel(tn_cpu_mm *x, uint32_t j) {
  tn_ll *e = x->k->e;
  ll_val size = tn_cpu_panel_bytes(x->k, x->tr.dtype, x->depth);
  ll_val within = tn_cpu_panel_bytes(x->k, x->tr.dtype, x->k0);
  return ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs),
               ll_iadd(e, ll_mul(e, tn_cpu_mm_panel(x, j), size), within));
}

/* The unit's panels, the chunk's part of k. */
static void stage_panels(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  blocks_path *b = x->own;
  for (uint32_t j = 0; j < x->panels; j++) {
    ll_val to = ll_at(e, b->panels_at, ll_imul(e, codes_bytes(x, x->kc), ll_k(e, j)));
    tn_cpu_int_unpack(x->k, x->tr.dtype, &b->form, tn_cpu_mm_packed_panel(x, j), x->kc, to);
  }
}

void tn_cpu_mm_fetch_packed(tn_cpu_mm *x, ll_val i, ll_val blocks) {
  tn_ll *e = x->k->e;
  ll_val size = tn_cpu_panel_bytes(x->k, x->tr.dtype, x->depth), line = ll_k(e, 64);
  ll_val next = ll_imul(e, size, ll_k(e, tn_cpu_mm_width(x) / TN_CPU_PANEL));
  ll_val lines = ll_ceildiv(e, ll_ceildiv(e, tn_cpu_panel_bytes(x->k, x->tr.dtype, x->kc), line), blocks);
  ll_val at = ll_iadd(e, next, ll_mul(e, ll_mul(e, i, lines), line));
  for (uint32_t j = 0; j < x->panels; j++) {
    ll_val from = ll_at(e, tn_cpu_mm_packed_panel(x, j), at);
    ll_loop l;
    ll_loop_begin(e, &l, ll_k(e, 0), lines, ll_k(e, 1), NULL, 0);
    ll_prefetch(e, ll_at(e, from, ll_mul(e, l.iv, line)), 2);
    ll_loop_end(e, &l, NULL);
  }
}

/* ---- units ---- */
/* Rows [r0, r1) times the panels from the unit's j on that the micro-kernel takes at once. */
static void multiply(tn_cpu_mm *x, ll_val r0, ll_val r1, uint32_t j) {
  tn_ll *e = x->k->e;
  blocks_path *b = x->own;
  ll_val at = ll_sub(e, r0, x->m0), row = ll_at(e, b->rows_at, ll_mul(e, at, b->rows.bytes));
  ll_val sums = ll_udiv(e, x->k0, ll_k(e, b->rows.run / 4));
  ll_val scales = ll_udiv(e, x->k0, ll_k(e, b->form.block / 4));
  tn_cpu_int_tile t = {.depth = x->kc,
                       .q = ll_at(e, row, x->k0),
                       .d = ll_at(e, row, ll_iadd(e, b->rows.d, scales)),
                       .isum = ll_at(e, row, ll_iadd(e, b->rows.isum, sums)),
                       .fsum = ll_at(e, row, ll_iadd(e, b->rows.fsum, sums)),
                       .a_stride = b->rows.bytes,
                       .panel_stride = codes_bytes(x, x->kc),
                       .c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4)};
  if (b->form.plain) {
    ll_val apart = ll_sub(e, tn_cpu_mm_panel(x, j + 1), tn_cpu_mm_panel(x, j));
    t.b = tn_cpu_mm_packed_panel(x, j);
    t.panel_stride = ll_mul(e, apart, tn_cpu_panel_bytes(x->k, x->tr.dtype, x->depth));
  } else {
    t.b = ll_at(e, b->panels_at, ll_imul(e, t.panel_stride, ll_k(e, j)));
  }
  t.c = ll_at(e, b->parts, ll_iadd(e, ll_mul(e, at, t.c_stride), ll_k(e, (int64_t)j * TN_CPU_PANEL * 4)));
  t.more = ll_icmp(e, LLVMIntNE, x->k0, ll_k(e, 0));
  tn_cpu_int_tile_call(x->k, &b->form, ll_sub(e, r1, r0), &t);
}

static void multiply_block(tn_cpu_mm *x, ll_val i, ll_val blocks, ll_val r0, ll_val r1) {
  tn_cpu_mm_fetch_packed(x, i, blocks);
  for (uint32_t j = 0; j < x->panels; j += tn_cpu_int_panels(x->k->u->isa)) multiply(x, r0, r1, j);
}
static void add_chunk(tn_cpu_mm *x) {
  const blocks_path *b = x->own;
  if (!b->form.plain) stage_panels(x);
  tn_cpu_mm_each_block(x, multiply_block);
}
static void unit(tn_cpu_mm *x) {
  const blocks_path *b = x->own;
  tn_cpu_mm_by_chunks(x, chunk_of(&b->form), b->parts, add_chunk);
}

bool tn_cpu_matmul_int(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  const tn_cpu_isa *isa = k->u->isa;
  blocks_path b = {0};
  if (k->u->precision != TN_CPU_FAST || !x->blocks ||
      !tn_cpu_int_form_of(k, tn_quant_of(x->tr.dtype), x->k_dim, &b.form) || !tn_cpu_int_fits(isa, &b.form))
    return false;
  uint32_t taken = tn_cpu_int_panels(isa);
  int64_t limit = rows_limit(x), panels = tn_cpu_mm_panels(x, taken),
          blocks = chunk_of(&b.form) / b.form.block;
  tn_dim rows = tn_cpu_dim_mul(k, tn_cpu_int_row_dim(k, x->k_dim), tn_cpu_dim_k(k, limit));
  b.rows = tn_cpu_int_rows_of(k, x->depth, b.form.block, b.form.run, tn_cpu_int_times(isa, &b.form));
  b.rows_at = tn_cpu_scratch(k, rows, 1);
  if (!b.form.plain)
    b.panels_at = tn_cpu_scratch(k, tn_cpu_dim_k(k, blocks * panels * tn_cpu_int_block_bytes(&b.form)), 1);
  b.parts = tn_cpu_scratch(k, tn_cpu_dim_k(k, limit * panels * TN_CPU_PANEL), 4);
  x->own = &b;
  tn_cpu_mm_path p = {.panels = taken,
                      .max_rows = tn_cpu_int_rows_max(isa),
                      .a_stride = b.rows.bytes,
                      .stage = stage_rows,
                      .unit = unit,
                      .rows = limit};
  tn_cpu_mm_walk(x, &p);
  x->own = NULL;
  return true;
}
