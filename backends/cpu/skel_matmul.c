/* skel_matmul.c - matrix product with an epilogue. Work is cut into units of (block of rows) x (group of
 * panels); each thread takes a contiguous run of units, so a weight panel is read once per block of rows and
 * a thread mostly reads its own panels. A unit's tiles go through a small buffer, where the epilogue is
 * evaluated row by row.
 *
 * rhs is either a weight in panels already (layout panel16, panel16k or panelq), or anything else: then the
 * unit packs its panels into scratch first. So do panels of a block format, but for a few rows: those take
 * the codes as they come. lhs is read in place if it is an f32 buffer, else rows are evaluated
 * into scratch; so are rows a multiple of a page apart, which would all fall into the same set of the
 * first-level cache. */
#include "backends/cpu/ukernel.h"
#include "backends/llvm/block.h"
#include "backends/llvm/convert.h"

#define BLOCK_BYTES (448 * 1024) /* of lhs that should stay in the second-level cache */
#define PAGE_ELEMENTS 1024       /* f32 values in a page */
#define CHUNK 512                /* of k at a time, where panels would leave that cache: beyond WHOLE; of a */
#define WHOLE 2048               /* block format always, so that more rows use what has been unpacked */

typedef struct mm {
  tn_cpu_kernel *k;
  tn_value lhs, rhs, out;
  tn_type_info tl, tr, to;
  bool trans_a, trans_b, packed, flat; /* flat: rhs is one matrix, lhs's leading dims are rows */
  bool readable, direct;               /* lhs can be read in place; it is, on the path being written */
  bool blocks, prepared; /* rhs is in a block format; it is read as it is, by prepared rows, on that path */
  tn_dtype dt;           /* of the panels */
  tn_dim n_dim, k_dim;
  ll_val m, n, depth, batches; /* m: rows per batch */
  ll_val a_stride;             /* bytes between rows of lhs as the micro-kernel sees it */
  ll_val a_stage, b_stage, tile;
  ll_val parts;  /* results of a unit of many rows while k is taken in chunks; NULL: k is taken whole */
  ll_val k0, kc; /* the chunk: first k, and how many */
  uint32_t panels, max_rows; /* of the path being written */
  /* of the unit being written */
  ll_val batch, batch_at[TN_MAX_RANK], m0, m1, n0, group_end;
  ll_val tile_row0; /* first row of the tile */
} mm;

/* ---- indices ---- */
/* Leading coordinates of an operand for the current batch; operands broadcast from the right. */
static void leading(mm *x, const tn_type_info *t, tn_ll_index *ix) {
  for (uint32_t i = 0; i + 2 < t->rank; i++) {
    int64_t one;
    bool fixed = tn_ll_dim_const(&x->k->body, t->dims[i], &one) && one == 1;
    ix->at[i] = tn_ll_ix_scalar(fixed ? ll_k(x->k->e, 0) : x->batch_at[i + x->to.rank - t->rank]);
  }
}
/* Coordinates of row r of the result (flat: of all leading dims). */
static void row_coordinates(mm *x, ll_val r, tn_ll_index *ix) {
  tn_ll *e = x->k->e;
  uint32_t last = x->to.rank - 2;
  if (!x->flat) {
    leading(x, &x->to, ix);
    ix->at[last] = tn_ll_ix_scalar(r);
    return;
  }
  for (uint32_t i = last + 1; i-- > 0;) {
    ll_val size = tn_ll_dim(&x->k->body, x->to.dims[i]);
    ix->at[i] = tn_ll_ix_scalar(i ? ll_imod(e, r, size) : r);
    r = i ? ll_idiv(e, r, size) : r;
  }
}

/* ---- operands ---- */
typedef struct staged_row {
  mm *x;
  ll_val row, to;
} staged_row; /* a row of lhs, and where it goes */

static ll_val lhs_column(const staged_row *c, tn_ll_ix j, ll_val mask) {
  mm *x = c->x;
  tn_cpu_kernel *k = x->k;
  tn_ll_index ix = {.rank = x->tl.rank, .mask = mask};
  if (x->flat)
    row_coordinates(x, c->row, &ix);
  else
    leading(x, &x->tl, &ix);
  ix.at[x->tl.rank - 2] = x->trans_a ? j : x->flat ? ix.at[x->tl.rank - 2] : tn_ll_ix_scalar(c->row);
  ix.at[x->tl.rank - 1] = x->trans_a ? tn_ll_ix_scalar(c->row) : j;
  return ll_wide(k->e, tn_ll_eval_f32(&k->body, x->lhs, &ix), true);
}
static void stage_a_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const staged_row *c = ctx;
  (void)acc;
  ll_val to = ll_at(k->e, c->to, ll_imul(k->e, j.v, ll_k(k->e, 4)));
  ll_store_masked(k->e, lhs_column(c, j, mask), to, mask, 4);
}
static ll_val prepare_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j) {
  const staged_row *c = ctx;
  (void)k;
  return lhs_column(c, j, NULL);
}
/* Rows m0..m1 of lhs as f32 [rows, depth] in scratch. */
static void stage_a(mm *x) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, x->m0, x->m1, ll_k(e, 1), NULL, 0);
  staged_row c = {x, l.iv, ll_at(e, x->a_stage, ll_mul(e, ll_sub(e, l.iv, x->m0), x->a_stride))};
  if (x->prepared)
    tn_cpu_block_prepare(x->k, x->tr.dtype, x->depth, c.to, prepare_column, &c);
  else
    tn_cpu_columns(x->k, ll_k(e, 0), x->depth, stage_a_column, &c, NULL, 0);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

static ll_val panel_address(mm *x, uint32_t vector, ll_val at_k) {
  tn_ll *e = x->k->e;
  uint32_t per = TN_CPU_PANEL / e->lanes;
  ll_val panel = ll_imul(e, x->depth, ll_k(e, (int64_t)(vector / per) * TN_CPU_PANEL * 4));
  ll_val off =
      ll_iadd(e, ll_mul(e, at_k, ll_k(e, TN_CPU_PANEL * 4)), ll_k(e, (int64_t)(vector % per) * e->lanes * 4));
  return ll_at(e, x->b_stage, ll_iadd(e, panel, off));
}

/* Columns lie side by side in rhs: a vector of them per step of k. */
static void stage_b_columns(mm *x) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), x->depth, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  for (uint32_t v = 0; v < x->panels * TN_CPU_PANEL / e->lanes; v++) {
    ll_val j = ll_iadd(e, x->n0, ll_k(e, (int64_t)v * e->lanes));
    tn_ll_index ix = {.rank = x->tr.rank};
    leading(x, &x->tr, &ix);
    if (!tn_ll_dim_multiple(&x->k->body, x->n_dim, (int64_t)x->panels * TN_CPU_PANEL))
      ix.mask = ll_mask_below(e, ll_sub(e, x->n, j));
    ix.at[x->tr.rank - 2] = tn_ll_ix_scalar(l.iv);
    ix.at[x->tr.rank - 1] = tn_ll_ix_lanes(j, true);
    ll_store(e, ll_wide(e, tn_ll_eval_f32(&x->k->body, x->rhs, &ix), true), panel_address(x, v, l.iv), 4);
  }
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* Columns are rows of rhs: squares are turned in registers. */
static void stage_b_square(tn_cpu_kernel *k, void *ctx, tn_ll_ix at_k, ll_val mask, ll_val *acc) {
  mm *x = ctx;
  tn_ll *e = k->e;
  (void)acc;
  for (uint32_t v = 0; v < x->panels * TN_CPU_PANEL / e->lanes; v++) {
    ll_val rows[64];
    for (uint32_t i = 0; i < e->lanes; i++) {
      ll_val j = ll_iadd(e, x->n0, ll_k(e, (int64_t)v * e->lanes + i));
      tn_ll_index ix = {.rank = x->tr.rank, .mask = mask};
      leading(x, &x->tr, &ix);
      ix.at[x->tr.rank - 2] = tn_ll_ix_scalar(ll_imin(e, j, ll_sub(e, x->n, ll_k(e, 1))));
      ix.at[x->tr.rank - 1] = at_k;
      rows[i] = ll_wide(e, tn_ll_eval_f32(&k->body, x->rhs, &ix), true);
    }
    ll_transpose(e, rows);
    for (uint32_t i = 0; i < e->lanes; i++) {
      ll_val step = ll_iadd(e, at_k.v, ll_k(e, i));
      if (!mask) {
        ll_store(e, rows[i], panel_address(x, v, step), 4);
        continue;
      }
      ll_val in = ll_icmp(e, LLVMIntSLT, step, x->depth);
      ll_val p =
          ll_select(e, in, panel_address(x, v, step), x->tile); /* behind the end: nowhere that counts */
      ll_store(e, rows[i], p, 4);
    }
  }
}
/* Blocks nobody packed: a column of rhs at a time, since rebuilding a value is a lot of code. */
static ll_val column_value(tn_cpu_kernel *k, void *ctx, ll_val column, tn_ll_ix at_k, ll_val mask) {
  mm *x = ctx;
  tn_ll_index ix = {.rank = x->tr.rank, .mask = mask};
  leading(x, &x->tr, &ix);
  ix.at[x->tr.rank - 2] = tn_ll_ix_scalar(column);
  ix.at[x->tr.rank - 1] = at_k;
  return tn_ll_eval_f32(&k->body, x->rhs, &ix);
}
static void stage_b_values(mm *x) {
  tn_cpu_stage s = {column_value, x, x->panels, x->n0, x->n, x->depth, x->b_stage, x->tile};
  tn_cpu_stage_columns(x->k, &s);
}

/* Packed blocks: panel by panel; those behind the last are not touched. */
static void stage_b_blocks(mm *x) {
  tn_ll *e = x->k->e;
  ll_val size = tn_cpu_panel_bytes(x->k, x->tr.dtype, x->depth);
  ll_val within = tn_cpu_panel_bytes(x->k, x->tr.dtype, x->k0);
  ll_val first = ll_udiv(e, x->n0, ll_k(e, TN_CPU_PANEL)),
         last = ll_ceildiv(e, x->group_end, ll_k(e, TN_CPU_PANEL));
  ll_loop l;
  ll_loop_begin(e, &l, first, last, ll_k(e, 1), NULL, 0);
  ll_val to = ll_mul(e, ll_sub(e, l.iv, first), ll_imul(e, x->kc, ll_k(e, TN_CPU_PANEL * 4)));
  ll_val from = ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs), ll_iadd(e, ll_mul(e, l.iv, size), within));
  tn_cpu_block_unpack(x->k, x->tr.dtype, from, x->kc, ll_at(e, x->b_stage, to));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}
static void stage_b(mm *x) {
  if (x->blocks)
    stage_b_blocks(x);
  else if (x->trans_b && x->tr.dtype >= TN_DT_BLOCK)
    stage_b_values(x);
  else if (x->trans_b)
    tn_cpu_columns(x->k, ll_k(x->k->e, 0), x->depth, stage_b_square, x, NULL, 0);
  else
    stage_b_columns(x);
}

/* ---- tiles ---- */
/* The root's value in the epilogue: from the tile. */
static ll_val give_product(void *ctx, const tn_ll_index *ix) {
  mm *x = ctx;
  tn_ll *e = x->k->e;
  ll_val row = ll_imul(e, x->tile_row0, ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4));
  ll_val col = ll_imul(e, ll_sub(e, ix->at[ix->rank - 1].v, x->n0), ll_k(e, 4));
  ll_val v = ll_load(e, ll_vec(e, e->f32), ll_at(e, x->tile, ll_iadd(e, row, col)), 4);
  return tn_ll_convert(e, TN_DT_f32, x->to.dtype, v);
}

/* Epilogue of rows [r0, r1) of the tile. */
static void finish_tile(mm *x, ll_val r0, ll_val r1) {
  tn_ll *e = x->k->e;
  ll_loop rows, cols;
  ll_loop_begin(e, &rows, r0, r1, ll_k(e, 1), NULL, 0);
  ll_loop_begin(e, &cols, x->n0, x->group_end, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->tile_row0 = ll_sub(e, rows.iv, r0);
  tn_ll_index ix = {.rank = x->to.rank, .shape = x->to.dims};
  row_coordinates(x, rows.iv, &ix);
  ix.flat = x->flat ? rows.iv : ll_iadd(e, ll_imul(e, x->batch, x->m), rows.iv);
  ix.at[x->to.rank - 1] = tn_ll_ix_lanes(cols.iv, true);
  if (!tn_ll_dim_multiple(&x->k->body, x->n_dim, e->lanes))
    ix.mask = ll_mask_below(e, ll_sub(e, x->n, cols.iv));
  tn_cpu_store_yields(x->k, &ix);
  ll_loop_end(e, &cols, NULL);
  ll_loop_end(e, &rows, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* Do panels go through scratch? */
static bool staged(const mm *x) { return !x->packed || (x->blocks && !x->prepared); }

/* Row r0 of lhs at the chunk's first k, as the micro-kernel reads it. */
static ll_val lhs_row(mm *x, ll_val r0) {
  tn_ll *e = x->k->e;
  ll_val chunk = ll_imul(e, x->k0, ll_k(e, 4)), row;
  if (!x->direct) {
    row = ll_at(e, x->a_stage, ll_imul(e, ll_sub(e, r0, x->m0), x->a_stride));
  } else if (!x->flat) {
    tn_ll_index ix = {.rank = x->tl.rank};
    leading(x, &x->tl, &ix);
    ix.at[x->tl.rank - 2] = tn_ll_ix_scalar(r0);
    ix.at[x->tl.rank - 1] = tn_ll_ix_scalar(ll_k(e, 0));
    row = tn_ll_address(&x->k->body, x->lhs, tn_cpu_arg_buffer(x->k, x->lhs), &ix);
  } else {
    row = ll_at(e, tn_cpu_arg_buffer(x->k, x->lhs), ll_imul(e, r0, x->a_stride));
  }
  return ll_at(e, row, chunk);
}

static tn_cpu_tile tile_of(mm *x, ll_val r0) {
  tn_ll *e = x->k->e;
  ll_val panel = ll_udiv(e, x->n0, ll_k(e, TN_CPU_PANEL));
  tn_cpu_tile t = {.depth = x->kc, .a = lhs_row(x, r0), .a_stride = x->a_stride, .c = x->tile};
  t.c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4);
  t.panel_stride = tn_cpu_panel_bytes(x->k, x->dt, staged(x) ? x->kc : x->depth);
  ll_val left = ll_ceildiv(e, ll_sub(e, x->n, x->n0), ll_k(e, TN_CPU_PANEL));
  t.np = x->packed ? left : ll_k(e, x->panels);
  t.b = x->b_stage;
  if (!staged(x)) {
    ll_val at = ll_iadd(e, ll_imul(e, panel, t.panel_stride), tn_cpu_panel_bytes(x->k, x->dt, x->k0));
    t.b = ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs), at);
  }
  return t;
}

/* Blocks of nearly equal height of the unit's rows; block i is [*r0, *r1). */
static ll_val row_blocks(mm *x) {
  tn_ll *e = x->k->e;
  return ll_ceildiv(e, ll_sub(e, x->m1, x->m0), ll_k(e, x->max_rows));
}
static void row_block(mm *x, ll_val blocks, ll_val i, ll_val *r0, ll_val *r1) {
  tn_ll *e = x->k->e;
  ll_val rows = ll_sub(e, x->m1, x->m0);
  *r0 = ll_add(e, x->m0, ll_udiv(e, ll_mul(e, rows, i), blocks));
  *r1 = ll_add(e, x->m0, ll_udiv(e, ll_mul(e, rows, ll_add(e, i, ll_k(e, 1))), blocks));
}

/* The chunk of k for all rows of the unit, added to `parts`. */
static void add_chunk(mm *x) {
  tn_ll *e = x->k->e;
  if (staged(x)) stage_b(x);
  ll_val blocks = row_blocks(x), r0, r1;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  row_block(x, blocks, l.iv, &r0, &r1);
  tn_cpu_tile t = tile_of(x, r0);
  t.c = ll_at(e, x->parts, ll_mul(e, ll_sub(e, r0, x->m0), t.c_stride));
  t.more = ll_icmp(e, LLVMIntNE, x->k0, ll_k(e, 0));
  tn_cpu_tile_call(x->k, x->dt, x->panels, x->max_rows, ll_sub(e, r1, r0), &t);
  ll_loop_end(e, &l, NULL);
}
/* Rows m0..m1 against panels from n0, by chunks of k. */
static void unit_by_chunks(mm *x) {
  tn_ll *e = x->k->e;
  ll_val whole = x->depth, tile = x->tile;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), whole, ll_k(e, CHUNK), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->k0 = l.iv;
  x->kc = ll_imin(e, ll_k(e, CHUNK), ll_sub(e, whole, l.iv));
  add_chunk(x);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
  x->tile = x->parts;
  finish_tile(x, x->m0, x->m1);
  x->tile = tile;
}

/* Rows m0..m1 against panels from n0. */
static void unit(mm *x) {
  tn_ll *e = x->k->e;
  x->k0 = ll_k(e, 0);
  x->kc = x->depth;
  if (x->parts && x->max_rows == x->k->u->isa->mr) {
    unit_by_chunks(x);
    return;
  }
  if (staged(x)) stage_b(x);
  ll_val blocks = row_blocks(x), r0, r1;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  row_block(x, blocks, l.iv, &r0, &r1);
  tn_cpu_tile t = tile_of(x, r0);
  if (x->packed && !x->blocks) { /* the blocks together bring in the panels that follow this group's */
    ll_val line = ll_k(e, (int64_t)TN_CPU_PANEL * tn_ll_dtype_of(x->dt).bytes);
    t.ahead_step = ll_ceildiv(e, line, blocks);
    ll_val from = ll_mul(e, ll_mul(e, t.ahead_step, x->depth), l.iv);
    t.ahead = ll_at(e, t.b, ll_add(e, ll_mul(e, t.panel_stride, ll_k(e, x->panels)), from));
  }
  tn_cpu_tile_call(x->k, x->dt, x->panels, x->max_rows, ll_sub(e, r1, r0), &t);
  finish_tile(x, r0, r1);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* ---- the walk over units ---- */
/* Is k taken in chunks, where there are many rows? */
static bool in_chunks(mm *x) {
  int64_t depth;
  return x->packed && tn_ll_dim_const(&x->k->body, x->k_dim, &depth) && depth > (x->blocks ? CHUNK : WHOLE);
}
/* The most rows of a unit: what fits the cache. */
static int64_t rows_limit(mm *x) {
  int64_t depth, mr = x->k->u->isa->mr, limit = 4 * mr;
  if (tn_ll_dim_const(&x->k->body, x->k_dim, &depth) && depth > 0)
    limit = BLOCK_BYTES / (4 * (in_chunks(x) ? CHUNK : depth)) / mr * mr;
  return limit < 2 * mr ? 2 * mr : limit > 16 * mr ? 16 * mr : limit;
}
/* Rows per unit: less than the most when there would not be enough units for the threads. */
static ll_val block_rows(mm *x, ll_val groups) {
  tn_ll *e = x->k->e;
  ll_val mr = ll_k(e, x->max_rows), others = ll_imax(e, ll_mul(e, groups, x->batches), ll_k(e, 1));
  ll_val want = ll_ceildiv(e, ll_mul(e, x->k->nthreads, ll_k(e, 4)), others);
  ll_val tall = ll_mul(e, ll_ceildiv(e, ll_ceildiv(e, x->m, want), mr), mr);
  tall = ll_imax(e, ll_imin(e, tall, ll_k(e, rows_limit(x))), mr);
  ll_val blocks = ll_imax(e, ll_ceildiv(e, x->m, tall), ll_k(e, 1)); /* all nearly as tall as the last one */
  return ll_imax(e, ll_mul(e, ll_ceildiv(e, ll_ceildiv(e, x->m, blocks), mr), mr), mr);
}

static void batch_coordinates(mm *x, ll_val batch) {
  tn_ll *e = x->k->e;
  x->batch = batch;
  for (uint32_t i = x->flat ? 0 : x->to.rank - 2; i-- > 0;) {
    ll_val size = ll_imax(e, tn_ll_dim(&x->k->body, x->to.dims[i]), ll_k(e, 1));
    x->batch_at[i] = i ? ll_imod(e, batch, size) : batch;
    batch = i ? ll_idiv(e, batch, size) : batch;
  }
}

static void walk(mm *x, uint32_t panels, uint32_t max_rows, bool direct) {
  tn_ll *e = x->k->e;
  ll_val row = ll_imul(e, x->depth, ll_k(e, 4));
  x->direct = direct;
  x->a_stride = x->prepared ? tn_cpu_block_row_bytes(x->k, x->dt, x->depth)
                : direct    ? row
                            : ll_iadd(e, row, ll_k(e, 64));
  x->panels = panels;
  x->max_rows = max_rows;
  ll_val width = ll_k(e, (int64_t)panels * TN_CPU_PANEL),
         groups = ll_imax(e, ll_ceildiv(e, x->n, width), ll_k(e, 1));
  ll_val tall = block_rows(x, groups), blocks = ll_ceildiv(e, x->m, tall), lo, hi;
  ll_val units = ll_mul(e, ll_mul(e, blocks, groups), x->batches);
  tn_cpu_share(x->k, units, &lo, &hi);
  ll_loop outer, inner;
  ll_loop_begin(e, &outer, ll_udiv(e, lo, groups), ll_ceildiv(e, hi, groups), ll_k(e, 1), NULL, 0);
  ll_val per_batch = ll_imax(e, blocks, ll_k(e, 1)), block = ll_urem(e, outer.iv, per_batch);
  batch_coordinates(x, ll_udiv(e, outer.iv, per_batch));
  x->m0 = ll_mul(e, block, tall);
  x->m1 = ll_imin(e, ll_add(e, x->m0, tall), x->m);
  tn_ll_body_forget(&x->k->body);
  if (!x->direct) stage_a(x);
  ll_val first = ll_mul(e, outer.iv, groups);
  ll_loop_begin(e, &inner, ll_imax(e, ll_sub(e, lo, first), ll_k(e, 0)),
                ll_imin(e, ll_sub(e, hi, first), groups), ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->n0 = ll_mul(e, inner.iv, width);
  x->group_end = ll_imin(e, ll_add(e, x->n0, width), x->n);
  unit(x);
  ll_loop_end(e, &inner, NULL);
  ll_loop_end(e, &outer, NULL);
  tn_ll_body_forget(&x->k->body);
}

static void read_operands(mm *x) {
  tn_cpu_kernel *k = x->k;
  x->lhs = tn_cpu_operand(k, 0);
  x->rhs = tn_cpu_operand(k, 1);
  x->out = tn_cpu_result(k, 0);
  x->tl = tn_cpu_type(k, x->lhs);
  x->tr = tn_cpu_type(k, x->rhs);
  x->to = tn_cpu_type(k, x->out);
  x->trans_a = tn_ll_attr_int(&k->body, k->root, "trans_a");
  x->trans_b = tn_ll_attr_int(&k->body, k->root, "trans_b");
  x->packed = x->tr.layout && tn_cpu_arg_buffer(k, x->rhs);
  x->blocks = x->packed && x->tr.dtype >= TN_DT_BLOCK;
  const char *wants = x->blocks ? TN_BLOCK_LAYOUT : x->trans_b ? "panel16" : "panel16k";
  if (x->tr.layout && strcmp(x->tr.layout, wants))
    tn_ll_fail(k->e, "matmul does not read layout '%s'", x->tr.layout);
  x->flat = x->tr.rank == 2 && !x->trans_a;
  x->readable = x->tl.dtype == TN_DT_f32 && !x->trans_a && tn_cpu_arg_buffer(k, x->lhs);
  x->dt = x->packed && !x->blocks ? x->tr.dtype : TN_DT_f32;
  x->k_dim = x->tl.dims[x->tl.rank - (x->trans_a ? 2 : 1)];
  x->n_dim = x->to.dims[x->to.rank - 1];
  x->depth = tn_ll_dim(&k->body, x->k_dim);
  x->n = tn_ll_dim(&k->body, x->n_dim);
  uint32_t last = x->to.rank - 2;
  x->m = x->flat ? tn_ll_dims(&k->body, x->to.dims, 0, last + 1) : tn_ll_dim(&k->body, x->to.dims[last]);
  x->batches = x->flat ? ll_k(k->e, 1) : tn_ll_dims(&k->body, x->to.dims, 0, last);
}

/* Scratch for rows of lhs, and for panels of rhs. */
static void ask_scratch(mm *x, bool direct) {
  tn_cpu_kernel *k = x->k;
  tn_dim limit = tn_cpu_dim_k(k, rows_limit(x));
  tn_dim row = tn_cpu_dim_add(k, x->k_dim, tn_cpu_dim_k(k, 16));
  tn_dim few = tn_cpu_dim_add(k, tn_cpu_dim_mul(k, x->k_dim, tn_cpu_dim_k(k, 2)), tn_cpu_dim_k(k, 32));
  tn_dim width = tn_cpu_dim_k(k, (int64_t)k->u->isa->panels * TN_CPU_PANEL);
  tn_dim rows = direct ? 0 : tn_cpu_dim_mul(k, row, limit);
  if (x->blocks) {
    few = tn_cpu_dim_mul(k, few, tn_cpu_dim_k(k, TN_CPU_BLOCK_FEW));
    rows = rows ? k->u->ir->dim_make(k->u->m, TN_DIM_MAX, rows, few) : few;
  }
  if (rows) x->a_stage = tn_cpu_scratch(k, rows, 4);
  if (!x->packed || x->blocks) {
    tn_dim depth = in_chunks(x) ? tn_cpu_dim_k(k, CHUNK) : x->k_dim;
    x->b_stage = tn_cpu_scratch(k, tn_cpu_dim_mul(k, depth, width), 4);
  }
  if (in_chunks(x)) x->parts = tn_cpu_scratch(k, tn_cpu_dim_mul(k, limit, width), 4);
}

static void walk_packed(mm *x, bool direct) {
  tn_ll *e = x->k->e;
  const tn_cpu_isa *isa = x->k->u->isa;
  ll_if few;
  ll_if_begin(e, &few, ll_icmp(e, LLVMIntSLE, x->m, ll_k(e, isa->stream_rows)));
  walk(x, isa->stream_panels, isa->stream_rows, x->readable);
  ll_if_else(e, &few);
  tn_ll_body_forget(&x->k->body);
  walk(x, isa->panels, isa->mr, direct);
  ll_if_end(e, &few);
}

static void walk_blocks(mm *x, bool direct) {
  tn_ll *e = x->k->e;
  const tn_cpu_isa *isa = x->k->u->isa;
  ll_if few;
  ll_if_begin(e, &few, ll_icmp(e, LLVMIntSLE, x->m, ll_k(e, TN_CPU_BLOCK_FEW)));
  x->prepared = true;
  x->dt = x->tr.dtype;
  walk(x, tn_cpu_block_panels(isa, x->dt), isa->block_rows, false);
  ll_if_else(e, &few);
  tn_ll_body_forget(&x->k->body);
  x->prepared = false;
  x->dt = TN_DT_f32;
  walk(x, isa->panels, isa->mr, direct);
  ll_if_end(e, &few);
}

void tn_cpu_emit_matmul(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  const tn_cpu_isa *isa = k->u->isa;
  mm x = {.k = k};
  if (tn_cpu_type(k, tn_cpu_operand(k, 0)).dtype == TN_DT_f64 ||
      tn_cpu_type(k, tn_cpu_operand(k, 1)).dtype == TN_DT_f64) {
    tn_cpu_emit_matmul64(k);
    return;
  }
  read_operands(&x);
  bool direct = x.readable && !tn_ll_dim_multiple(&k->body, x.k_dim, PAGE_ELEMENTS);
  ask_scratch(&x, direct);
  uint32_t cells = isa->mr * isa->panels, stream = isa->stream_rows * isa->stream_panels;
  uint32_t few = isa->block_rows * isa->block_panels;
  if (stream > cells) cells = stream;
  if (few > cells) cells = few;
  x.tile = ll_alloca(e, cells * TN_CPU_PANEL * 4);
  tn_ll_body_give(&k->body, x.out, give_product, &x);
  if (x.blocks)
    walk_blocks(&x, direct);
  else if (x.packed)
    walk_packed(&x, direct);
  else
    walk(&x, isa->panels, isa->mr, direct);
}
