/* matmul_tile.c - the work of a product: cut into units of (block of rows) x (group of panels), each thread
 * taking a contiguous run of units, so that a weight panel is read once per block of rows and a thread mostly
 * reads its own panels. A unit's tiles go through a small buffer, where the epilogue is evaluated row by row.
 */
#include "backends/cpu/matmul/matmul.h"

#define BLOCK_BYTES (448 * 1024) /* of lhs that should stay in the second-level cache */
#define UNITS 8                  /* per thread, where they do not go round */
#define TAKEN 4                  /* times what a unit may be: a thread's share of them at a time */

/* ---- tiles ---- */
ll_val tn_cpu_mm_product(void *ctx, const tn_ll_index *ix) {
  tn_cpu_mm *x = ctx;
  tn_ll *e = x->k->e;
  ll_val row = ll_imul(e, x->tile_row0, ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4));
  ll_val col = ll_sub(e, ix->at[ix->rank - 1].v, x->n0);
  if (x->half) col = ll_iadd(e, ll_sub(e, col, x->n), ll_k(e, tn_cpu_mm_width(x)));
  col = ll_imul(e, col, ll_k(e, 4));
  bool whole = tn_cpu_mm_whole(x);
  ll_val v = ll_load(e, ll_vec(e, whole ? e->i32 : e->f32), ll_at(e, x->tile, ll_iadd(e, row, col)), 4);
  return whole ? v : tn_ll_convert(e, TN_DT_f32, x->to.dtype, v);
}

/* ---- pairs ---- */
static ll_val give_part(void *ctx, const tn_ll_index *ix) {
  const tn_cpu_mm_part *p = ctx;
  tn_cpu_mm *x = p->x;
  tn_ll_index at = *ix;
  tn_ll_ix *column = &at.at[at.rank - 1];
  uint32_t before = x->half;
  at.shape = x->to.dims;
  if (p->half) *column = tn_ll_ix_add(&x->k->body, *column, x->n);
  x->half = p->half;
  ll_val v = tn_ll_eval(&x->k->body, p->whole, &at);
  x->half = before;
  return v;
}

/* Is v made of the root's value? */
static bool from_product(tn_cpu_mm *x, tn_value v) {
  const tn_ir *ir = x->k->u->ir;
  tn_module *m = x->k->u->m;
  tn_value_info i;
  if (!v || v == x->out) return v;
  ir->value_get(m, v, &i);
  for (uint32_t o = 0; i.kind == TN_VALUE_RESULT && o < ir->op_noperands(m, i.op); o++)
    if (from_product(x, ir->op_operand(m, i.op, o))) return true;
  return false;
}

void tn_cpu_mm_find_pair(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  const tn_ir *ir = k->u->ir;
  tn_module *m = k->u->m;
  for (tn_op op = ir->first_op(m, 0, k->op); op && !x->pair; op = ir->next_op(m, op)) {
    tn_value whole = ir->op_operand(m, op, 0);
    if (strcmp(ir->opcode_name(ir->opcode(m, op)), "split") || !from_product(x, whole)) continue;
    x->pair = true;
    for (uint32_t h = 0; h < 2; h++) {
      x->parts_of[h] = (tn_cpu_mm_part){x, whole, h};
      tn_ll_body_give(&k->body, ir->op_result(m, op, h), give_part, &x->parts_of[h]);
    }
  }
}

uint32_t tn_cpu_mm_width(const tn_cpu_mm *x) { return x->panels / (x->pair ? 2 : 1) * TN_CPU_PANEL; }

ll_val tn_cpu_mm_panel(tn_cpu_mm *x, uint32_t j) {
  tn_ll *e = x->k->e;
  ll_val size = ll_k(e, TN_CPU_PANEL), all = ll_ceildiv(e, x->n, size);
  uint32_t half = x->panels / 2;
  bool partner = x->pair && j >= half;
  ll_val at = ll_iadd(e, ll_udiv(e, x->n0, size), ll_k(e, partner ? j - half : j));
  at = ll_imin(e, at, ll_sub(e, all, ll_k(e, 1)));
  return partner ? ll_iadd(e, at, all) : at;
}

void tn_cpu_mm_finish(tn_cpu_mm *x, ll_val r0, ll_val r1) {
  tn_ll *e = x->k->e;
  ll_loop rows, cols;
  ll_loop_begin(e, &rows, r0, r1, ll_k(e, 1), NULL, 0);
  ll_loop_begin(e, &cols, x->n0, x->group_end, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->tile_row0 = ll_sub(e, rows.iv, r0);
  tn_ll_index ix = {.rank = x->to.rank, .shape = x->ty.dims};
  tn_cpu_mm_coordinates(x, rows.iv, &ix);
  ix.flat = x->flat ? rows.iv : ll_iadd(e, ll_imul(e, x->batch, x->m), rows.iv);
  ix.at[x->to.rank - 1] = tn_ll_ix_lanes(cols.iv, true);
  if (!tn_ll_dim_multiple(&x->k->body, x->n_dim, e->lanes))
    ix.mask = ll_mask_below(e, ll_sub(e, x->n, cols.iv));
  tn_cpu_store_yields(x->k, &ix);
  ll_loop_end(e, &cols, NULL);
  ll_loop_end(e, &rows, NULL);
  tn_ll_body_forget(&x->k->body);
}

bool tn_cpu_mm_staged(const tn_cpu_mm *x) { return !x->packed || (x->blocks && !x->prepared); }

ll_val tn_cpu_mm_lhs_row(tn_cpu_mm *x, ll_val r0) {
  tn_ll *e = x->k->e;
  ll_val chunk = ll_imul(e, x->k0, ll_k(e, tn_cpu_mm_lhs_bytes(x))), row;
  if (!x->direct) {
    row = ll_at(e, x->a_stage, ll_imul(e, ll_sub(e, r0, x->m0), x->a_stride));
  } else if (!x->flat) {
    tn_ll_index ix = {.rank = x->tl.rank};
    tn_cpu_mm_leading(x, &x->tl, &ix);
    ix.at[x->tl.rank - 2] = tn_ll_ix_scalar(r0);
    ix.at[x->tl.rank - 1] = tn_ll_ix_scalar(ll_k(e, 0));
    row = tn_ll_address(&x->k->body, x->lhs, tn_cpu_arg_buffer(x->k, x->lhs), &ix);
  } else {
    row = ll_at(e, tn_cpu_arg_buffer(x->k, x->lhs), ll_imul(e, r0, x->a_stride));
  }
  return ll_at(e, row, chunk);
}

static tn_cpu_tile tile_of(tn_cpu_mm *x, ll_val r0) {
  tn_ll *e = x->k->e;
  ll_val panel = ll_udiv(e, x->n0, ll_k(e, TN_CPU_PANEL));
  tn_cpu_tile t = {
      .depth = x->kc, .a = tn_cpu_mm_lhs_row(x, r0), .a_stride = x->a_stride, .c = x->tile, .dot = x->dot};
  t.c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4);
  t.panel_stride = tn_cpu_panel_bytes(x->k, x->dt, tn_cpu_mm_staged(x) ? x->kc : x->depth);
  ll_val left = ll_ceildiv(e, ll_sub(e, x->n, x->n0), ll_k(e, TN_CPU_PANEL));
  t.np = x->packed ? left : ll_k(e, x->pair ? x->panels / 2 : x->panels);
  t.b = x->b_stage;
  if (x->pair) {
    ll_val apart = tn_cpu_mm_staged(x) ? ll_k(e, x->panels / 2) : ll_udiv(e, x->n, ll_k(e, TN_CPU_PANEL));
    t.pair = ll_mul(e, apart, t.panel_stride);
  }
  if (!tn_cpu_mm_staged(x)) {
    ll_val at = ll_iadd(e, ll_imul(e, panel, t.panel_stride), tn_cpu_panel_bytes(x->k, x->dt, x->k0));
    t.b = ll_at(e, tn_cpu_arg_buffer(x->k, x->rhs), at);
  }
  return t;
}

ll_val tn_cpu_mm_blocks(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  return ll_ceildiv(e, ll_sub(e, x->m1, x->m0), ll_k(e, x->max_rows));
}
void tn_cpu_mm_block(tn_cpu_mm *x, ll_val blocks, ll_val i, ll_val *r0, ll_val *r1) {
  tn_ll *e = x->k->e;
  ll_val rows = ll_sub(e, x->m1, x->m0);
  if (x->tiles) {
    *r0 = ll_add(e, x->m0, ll_mul(e, i, ll_k(e, x->max_rows)));
    *r1 = ll_imin(e, ll_add(e, *r0, ll_k(e, x->max_rows)), x->m1);
    return;
  }
  *r0 = ll_add(e, x->m0, ll_udiv(e, ll_mul(e, rows, i), blocks));
  *r1 = ll_add(e, x->m0, ll_udiv(e, ll_mul(e, rows, ll_add(e, i, ll_k(e, 1))), blocks));
}

/* All of k; with pairs a zero follows an odd one. */
static ll_val whole_depth(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  if (!tn_cpu_mm_pairs(x) || tn_ll_dim_multiple(&x->k->body, x->k_dim, 2)) return x->depth;
  return ll_and(e, ll_iadd(e, x->depth, ll_k(e, 1)), ll_k(e, -2));
}

/* One tile of rows r0..r1, at once or half by half. */
static void multiply(tn_cpu_mm *x, ll_val rows, tn_cpu_tile *t) {
  tn_ll *e = x->k->e;
  if (x->tiles) {
    tn_cpu_amx_call(x->k, rows, t);
    return;
  }
  if (!x->apart) {
    tn_cpu_tile_call(x->k, x->dt, x->panels, x->max_rows, rows, t);
    return;
  }
  tn_cpu_tile first = *t, second = *t;
  uint32_t panels = x->panels / 2;
  first.pair = second.pair = NULL;
  second.b = ll_at(e, t->b, t->pair);
  second.c = ll_at(e, t->c, ll_k(e, (int64_t)panels * TN_CPU_PANEL * 4));
  if (t->ahead) second.ahead = ll_at(e, t->ahead, t->pair);
  tn_cpu_tile_call(x->k, x->dt, panels, x->max_rows, rows, &first);
  tn_cpu_tile_call(x->k, x->dt, panels, x->max_rows, rows, &second);
}

/* Call i of `calls` brings in its part of what follows: panels of `depth` from `next` on. */
static void fetch_ahead(tn_cpu_mm *x, ll_val next, ll_val depth, ll_val i, ll_val calls, tn_cpu_tile *t) {
  tn_ll *e = x->k->e;
  ll_val part = tn_cpu_ahead_step(x->k, x->dt, depth, calls, &t->ahead_step);
  t->ahead = ll_at(e, next, ll_mul(e, part, i));
}
/* The panels `groups` behind this one's, from the first k on. */
static ll_val next_group(tn_cpu_mm *x, const tn_cpu_tile *t, uint32_t groups) {
  tn_ll *e = x->k->e;
  ll_val group = ll_mul(e, t->panel_stride, ll_k(e, groups * tn_cpu_mm_width(x) / TN_CPU_PANEL));
  return ll_at(e, t->b, ll_sub(e, group, tn_cpu_panel_bytes(x->k, x->dt, x->k0)));
}

/* The chunk of k for all rows of the unit, added to `parts`. */
static void add_chunk(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  if (tn_cpu_mm_staged(x)) tn_cpu_mm_stage_rhs(x);
  ll_val blocks = tn_cpu_mm_blocks(x), r0, r1;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_block(x, blocks, l.iv, &r0, &r1);
  tn_cpu_tile t = tile_of(x, r0);
  t.c = ll_at(e, x->parts, ll_mul(e, ll_sub(e, r0, x->m0), t.c_stride));
  t.more = ll_icmp(e, LLVMIntNE, x->k0, ll_k(e, 0));
  if (!tn_cpu_mm_staged(x)) {
    ll_val last = ll_icmp(e, LLVMIntSGE, ll_add(e, x->k0, x->kc), whole_depth(x));
    ll_val chunk = ll_at(e, t.b, tn_cpu_panel_bytes(x->k, x->dt, x->kc));
    fetch_ahead(x, ll_select(e, last, next_group(x, &t, TN_CPU_MM_GROUPS), chunk), x->kc, l.iv, blocks, &t);
  }
  multiply(x, ll_sub(e, r1, r0), &t);
  ll_loop_end(e, &l, NULL);
}
/* Calls fn for each group of panels of the unit, with its part of `parts`. */
static void each_group(tn_cpu_mm *x, void (*fn)(tn_cpu_mm *x)) {
  tn_ll *e = x->k->e;
  ll_val first = x->n0, end = x->group_end, parts = x->parts;
  int64_t width = tn_cpu_mm_width(x), part = tn_cpu_mm_rows_limit(x) * x->panels * TN_CPU_PANEL * 4;
  ll_loop l;
  ll_loop_begin(e, &l, first, end, ll_k(e, width), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->n0 = l.iv;
  x->group_end = ll_imin(e, ll_add(e, l.iv, ll_k(e, width)), end);
  ll_val at = ll_udiv(e, ll_sub(e, l.iv, first), ll_k(e, width));
  x->parts = ll_at(e, parts, ll_mul(e, at, ll_k(e, part)));
  fn(x);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
  x->n0 = first, x->group_end = end, x->parts = parts;
}
static void finish_sums(tn_cpu_mm *x, ll_val sums) {
  ll_val tile = x->tile;
  x->tile = sums;
  tn_cpu_mm_finish(x, x->m0, x->m1);
  x->tile = tile;
}
static void finish_parts(tn_cpu_mm *x) { finish_sums(x, x->parts); }

void tn_cpu_mm_by_chunks(tn_cpu_mm *x, int64_t chunk, ll_val sums, void (*add)(tn_cpu_mm *x)) {
  tn_ll *e = x->k->e;
  ll_val most = ll_k(e, chunk);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), x->depth, most, NULL, 0);
  x->k0 = l.iv;
  x->kc = ll_imin(e, most, ll_sub(e, x->depth, l.iv));
  add(x);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
  finish_sums(x, sums);
}

void tn_cpu_mm_each_block(tn_cpu_mm *x, tn_cpu_mm_block_fn fn) {
  tn_ll *e = x->k->e;
  ll_val blocks = tn_cpu_mm_blocks(x), r0, r1;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_block(x, blocks, l.iv, &r0, &r1);
  fn(x, l.iv, blocks, r0, r1);
  ll_loop_end(e, &l, NULL);
}

/* Rows m0..m1 against a few groups of panels from n0: by chunks of k, whose part of the rows stays in the
 * second-level cache while the groups pass by. */
static void unit_by_chunks(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  ll_val whole = whole_depth(x);
  ll_loop l;
  ll_val chunk = ll_k(e, tn_cpu_mm_chunk(x));
  ll_loop_begin(e, &l, ll_k(e, 0), whole, chunk, NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->k0 = l.iv;
  x->kc = ll_imin(e, chunk, ll_sub(e, whole, l.iv));
  each_group(x, add_chunk);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
  each_group(x, finish_parts);
}

void tn_cpu_mm_unit(tn_cpu_mm *x) {
  tn_ll *e = x->k->e;
  x->k0 = ll_k(e, 0);
  x->kc = whole_depth(x);
  if (x->parts && !x->prepared && x->max_rows > x->k->u->isa->stream_rows) {
    unit_by_chunks(x);
    return;
  }
  if (tn_cpu_mm_staged(x)) tn_cpu_mm_stage_rhs(x);
  ll_val blocks = tn_cpu_mm_blocks(x), r0, r1;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  tn_cpu_mm_block(x, blocks, l.iv, &r0, &r1);
  tn_cpu_tile t = tile_of(x, r0);
  if (x->packed && !x->blocks) fetch_ahead(x, next_group(x, &t, 1), x->kc, l.iv, blocks, &t);
  multiply(x, ll_sub(e, r1, r0), &t);
  tn_cpu_mm_finish(x, r0, r1);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* ---- the walk over units ---- */
bool tn_cpu_mm_in_chunks(tn_cpu_mm *x) {
  int64_t depth;
  return x->packed && tn_ll_dim_const(&x->k->body, x->k_dim, &depth) &&
         depth > (x->blocks || x->amx || x->k->choice.depth ? tn_cpu_mm_chunk(x) : TN_CPU_MM_WHOLE);
}
int64_t tn_cpu_mm_rows_limit(tn_cpu_mm *x) {
  int64_t depth, mr = x->amx ? TN_CPU_AMX_ROWS : x->k->u->isa->mr, limit = 4 * mr, most = x->amx ? 8 : 16;
  int64_t bytes = x->amx ? 2 : tn_cpu_mm_lhs_bytes(x);
  if (x->k->choice.rows) return (x->k->choice.rows + mr - 1) / mr * mr;
  if (tn_ll_dim_const(&x->k->body, x->k_dim, &depth) && depth > 0)
    limit = BLOCK_BYTES / (bytes * (tn_cpu_mm_in_chunks(x) ? tn_cpu_mm_chunk(x) : depth)) / mr * mr;
  return limit < 2 * mr ? 2 * mr : limit > most * mr ? most * mr : limit;
}
/* Blocks of rows, of nearly equal height: as many as the limit asks for, or as the threads do where groups do
 * not go round among them. */
static ll_val count_blocks(tn_cpu_mm *x, ll_val groups, int64_t limit) {
  tn_ll *e = x->k->e;
  ll_val others = ll_imax(e, ll_mul(e, groups, x->batches), ll_k(e, 1)), threads = x->k->nthreads;
  ll_val even = ll_icmp(e, LLVMIntEQ, ll_urem(e, others, threads), ll_k(e, 0));
  ll_val want = ll_ceildiv(e, ll_mul(e, threads, ll_k(e, UNITS)), others);
  want = ll_imin(e, ll_select(e, even, ll_k(e, 1), want), ll_ceildiv(e, x->m, ll_k(e, x->max_rows)));
  return ll_imax(e, ll_ceildiv(e, x->m, ll_k(e, limit)), want);
}

static void batch_coordinates(tn_cpu_mm *x, ll_val batch) {
  tn_ll *e = x->k->e;
  x->batch = batch;
  for (uint32_t i = x->flat ? 0 : x->to.rank - 2; i-- > 0;) {
    ll_val size = ll_imax(e, tn_ll_dim(&x->k->body, x->to.dims[i]), ll_k(e, 1));
    x->batch_at[i] = i ? ll_imod(e, batch, size) : batch;
    batch = i ? ll_idiv(e, batch, size) : batch;
  }
}

/* Where block `i` of `blocks` of all rows begins. */
static ll_val block_start(tn_cpu_mm *x, ll_val i, ll_val blocks) {
  tn_ll *e = x->k->e;
  if (!x->tiles) return ll_udiv(e, ll_mul(e, x->m, i), blocks);
  ll_val size = ll_k(e, x->max_rows), full = ll_ceildiv(e, x->m, size);
  return ll_imin(e, ll_mul(e, ll_udiv(e, ll_mul(e, full, i), blocks), size), x->m);
}

/* Rows of block `row` of all batches' are at hand: staged, where the thread did not do that last. */
static void open_rows(tn_cpu_mm *x, const tn_cpu_mm_path *p, ll_val row, ll_val blocks, ll_val staged) {
  tn_ll *e = x->k->e;
  ll_val per_batch = ll_imax(e, blocks, ll_k(e, 1)), block = ll_urem(e, row, per_batch);
  batch_coordinates(x, ll_udiv(e, row, per_batch));
  x->m0 = block_start(x, block, per_batch);
  x->m1 = block_start(x, ll_add(e, block, ll_k(e, 1)), per_batch);
  tn_ll_body_forget(&x->k->body);
  if (!p->stage) return;
  ll_if other;
  ll_if_begin(e, &other, ll_icmp(e, LLVMIntNE, row, ll_load(e, e->i64, staged, 8)));
  p->stage(x);
  ll_store(e, row, staged, 8);
  ll_if_end(e, &other);
  tn_ll_body_forget(&x->k->body);
}

void tn_cpu_mm_walk(tn_cpu_mm *x, const tn_cpu_mm_path *p) {
  tn_ll *e = x->k->e;
  ll_val row = ll_imul(e, x->depth, ll_k(e, tn_cpu_mm_lhs_bytes(x)));
  x->direct = !p->stage;
  x->a_stride = p->a_stride ? p->a_stride : x->direct ? row : ll_iadd(e, row, ll_k(e, 64));
  x->apart = x->pair && p->panels % 2;
  x->panels = tn_cpu_mm_panels(x, p->panels);
  x->max_rows = p->max_rows;
  x->tiles = p->tiles;
  ll_val width = ll_k(e, tn_cpu_mm_width(x)), groups = ll_imax(e, ll_ceildiv(e, x->n, width), ll_k(e, 1));
  ll_val blocks = count_blocks(x, groups, p->rows ? p->rows : tn_cpu_mm_rows_limit(x));
  ll_val units = ll_mul(e, ll_mul(e, blocks, groups), x->batches), staged = ll_alloca(e, 8);
  int64_t together = p->groups ? p->groups : 1;
  tn_cpu_taking t;
  ll_loop l;
  ll_store(e, ll_k(e, -1), staged, 8);
  tn_cpu_take_begin(x->k, &t, units, groups, ll_k(e, TAKEN * together));
  ll_val at = ll_udiv(e, t.first, groups), first = ll_mul(e, at, groups), end = ll_sub(e, t.end, first);
  open_rows(x, p, at, blocks, staged);
  ll_loop_begin(e, &l, ll_sub(e, t.first, first), end, ll_k(e, together), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->n0 = ll_mul(e, l.iv, width);
  ll_val next = ll_imin(e, ll_iadd(e, l.iv, ll_k(e, together)), end);
  x->group_end = ll_imin(e, ll_mul(e, next, width), x->n);
  p->unit(x);
  ll_loop_end(e, &l, NULL);
  tn_cpu_take_end(x->k, &t);
  x->tiles = false;
}
