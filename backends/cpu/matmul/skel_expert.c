/* skel_expert.c - expert_matmul: every token with matrices of its own. A slot is a token with one of its
 * experts; each thread sorts the slots by expert (a counting sort in its scratch), so that the rows of one
 * expert meet its panels together: few rows stream the panels once, many rows are gathered in blocks that fit
 * the cache and go through the micro-kernel, for which panels of a block format are unpacked. Slots whose
 * expert does not exist come last and give zeros.
 *
 * Work is the panels of all experts in a row, each as heavy as its expert has rows; a thread takes a
 * contiguous part. An element is one chain of multiply-adds in the order of k wherever it is computed. */
#include "backends/cpu/ukernel/ukernel_amx.h"
#include "backends/cpu/ukernel/ukernel_few.h"
#include "backends/llvm/block.h"
#include "backends/llvm/convert.h"

#define BLOCK_BYTES (448 * 1024) /* of gathered rows that should stay in the second-level cache */
#define PANEL_COST 4             /* of fetching a panel, in rows multiplied by it */

typedef struct experts {
  tn_cpu_kernel *k;
  tn_value x, w, ids, out;
  tn_type_info tx, tw, ti, to;
  bool packed, dot; /* dot: rows are gathered as bf16, to be multiplied by pairs */
  bool amx, tiles;  /* many rows of an expert meet in tile registers; they do, on the path being written */
  tn_dtype pdt;     /* of what packed panels hold */
  ll_val used, slots, count, n, depth, all; /* experts per token; slots; experts; panels of one */
  ll_val starts,
      order; /* scratch, i64 [count + 3] and [slots]: expert e has order[starts[e] .. starts[e + 1]) */
  ll_val a_stage, a_stride, b_stage, tile;
  tn_dtype dt; /* of the panels, on the path being written; a block format: rows of x are prepared for it */
  uint32_t panels, max_rows;
  bool few; /* the micro-kernels are those of few rows */
  /* of the place being written */
  ll_val lo, hi, base, expert, first, end, n0, group_end, tile_row0;
  bool zero; /* the product is 0 */
} experts;

static ll_val word(experts *x, ll_val base, ll_val i) {
  return ll_at(x->k->e, base, ll_mul(x->k->e, i, ll_k(x->k->e, 8)));
}
static ll_val get(experts *x, ll_val base, ll_val i) {
  return ll_load(x->k->e, x->k->e->i64, word(x, base, i), 8);
}
static void put(experts *x, ll_val base, ll_val i, ll_val v) { ll_store(x->k->e, v, word(x, base, i), 8); }

/* ---- slots by expert ---- */
static ll_val expert_of(experts *x, ll_val slot) {
  tn_ll *e = x->k->e;
  tn_ll_index ix = {.rank = 2};
  ix.at[0] = tn_ll_ix_scalar(ll_udiv(e, slot, ll_imax(e, x->used, ll_k(e, 1))));
  ix.at[1] = tn_ll_ix_scalar(ll_urem(e, slot, ll_imax(e, x->used, ll_k(e, 1))));
  ll_val id = tn_ll_convert(e, x->ti.dtype, TN_DT_i64, tn_ll_eval(&x->k->body, x->ids, &ix));
  return ll_select(e, ll_icmp(e, LLVMIntULT, id, x->count), id, x->count);
}

enum { CLEAR, COUNT, SUM, PLACE };
/* One loop of the sort. Counts and cursors stand one place further, so that in the end starts[0] is 0. */
static void sort_loop(experts *x, int what, ll_val end) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_val one = ll_k(e, 1);
  ll_loop_begin(e, &l, ll_k(e, 0), end, one, NULL, 0);
  tn_ll_body_forget(&x->k->body);
  ll_val next = ll_add(e, l.iv, one);
  if (what == CLEAR) put(x, x->starts, l.iv, ll_k(e, 0));
  if (what == SUM) put(x, x->starts, next, ll_add(e, get(x, x->starts, next), get(x, x->starts, l.iv)));
  if (what == COUNT || what == PLACE) {
    ll_val at = ll_add(e, expert_of(x, l.iv), ll_k(e, what == COUNT ? 2 : 1)), n = get(x, x->starts, at);
    if (what == PLACE) put(x, x->order, n, l.iv);
    put(x, x->starts, at, ll_add(e, n, one));
  }
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

static void sort_slots(experts *x) {
  tn_ll *e = x->k->e;
  sort_loop(x, CLEAR, ll_add(e, x->count, ll_k(e, 3)));
  sort_loop(x, COUNT, x->slots);
  sort_loop(x, SUM, ll_add(e, x->count, ll_k(e, 2)));
  sort_loop(x, PLACE, x->slots);
}

/* ---- operands ---- */
typedef struct gathered {
  experts *x;
  ll_val slot, to;
} gathered; /* a slot whose row of x is copied, and where it goes */

static ll_val x_column(const gathered *g, tn_ll_ix j, ll_val mask) {
  experts *x = g->x;
  tn_ll *e = x->k->e;
  tn_ll_index ix = {.rank = x->tx.rank, .mask = mask};
  ix.at[0] = tn_ll_ix_scalar(ll_udiv(e, g->slot, x->used));
  if (x->tx.rank == 3) ix.at[1] = tn_ll_ix_scalar(ll_urem(e, g->slot, x->used));
  ix.at[x->tx.rank - 1] = j;
  return ll_wide(e, tn_ll_eval_f32(&x->k->body, x->x, &ix), true);
}
static void gather_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const gathered *g = ctx;
  (void)acc;
  int64_t bytes = g->x->dot ? 2 : 4;
  ll_val to = ll_at(k->e, g->to, ll_imul(k->e, j.v, ll_k(k->e, bytes))), v = x_column(g, j, mask);
  if (g->x->dot) v = tn_ll_round_bf16(k->e, v);
  ll_store_masked(k->e, v, to, mask, (uint32_t)bytes);
}
static ll_val prepare_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j) {
  (void)k;
  return x_column(ctx, j, NULL);
}
/* The rows of order[first .. end) in scratch: f32 [rows, depth], or prepared for blocks. */
static void gather_rows(experts *x) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, x->first, x->end, ll_k(e, 1), NULL, 0);
  gathered g = {x, get(x, x->order, l.iv),
                ll_at(e, x->a_stage, ll_mul(e, ll_sub(e, l.iv, x->first), x->a_stride))};
  tn_ll_body_forget(&x->k->body);
  if (x->dt >= TN_DT_BLOCK && x->few)
    tn_cpu_few_prepare(x->k, x->dt, x->depth, g.to, prepare_column, &g);
  else if (x->dt >= TN_DT_BLOCK)
    tn_cpu_block_prepare(x->k, x->dt, x->depth, g.to, prepare_column, &g);
  else
    tn_cpu_columns(x->k, ll_k(e, 0), x->depth, gather_column, &g, NULL, 0);
  if (x->tiles)
    ll_store(e, ll_zero(LLVMVectorType(e->i8, TN_CPU_AMX_LINE)),
             ll_at(e, g.to, ll_imul(e, x->depth, ll_k(e, 2))), 2);
  else if (x->packed && x->pdt == TN_DT_bf16) /* pairs: a zero behind an odd depth */
    ll_store(e, ll_zero(e->i32), ll_at(e, g.to, ll_imul(e, x->depth, ll_k(e, x->dot ? 2 : 4))), 2);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* A weight that nobody packed: a column of a panel at a time. */
static ll_val column_value(tn_cpu_kernel *k, void *ctx, ll_val column, tn_ll_ix at_k, ll_val mask) {
  experts *x = ctx;
  tn_ll_index ix = {.rank = 3, .mask = mask};
  ix.at[0] = tn_ll_ix_scalar(x->expert);
  ix.at[1] = tn_ll_ix_scalar(column);
  ix.at[2] = at_k;
  return tn_ll_eval_f32(&k->body, x->w, &ix);
}

static void stage_columns(experts *x) {
  tn_cpu_stage s = {column_value, x, x->panels, x->n0, x->n, x->depth, x->b_stage, x->tile};
  tn_cpu_stage_columns(x->k, &s);
}

/* A panel of this expert's packed weight. */
static ll_val packed_panel(experts *x, ll_val panel) {
  tn_ll *e = x->k->e;
  ll_val at = ll_iadd(e, ll_mul(e, x->expert, x->all), panel);
  return ll_at(e, tn_cpu_arg_buffer(x->k, x->w), ll_mul(e, at, tn_cpu_panel_bytes(x->k, x->pdt, x->depth)));
}

/* Packed blocks: panel by panel; those behind the last are not touched. */
static void stage_blocks(experts *x) {
  tn_ll *e = x->k->e;
  ll_val width = ll_k(e, TN_CPU_PANEL), first = ll_udiv(e, x->n0, width);
  ll_loop l;
  ll_loop_begin(e, &l, first, ll_ceildiv(e, x->group_end, width), ll_k(e, 1), NULL, 0);
  ll_val to = ll_mul(e, ll_sub(e, l.iv, first), tn_cpu_panel_bytes(x->k, x->dt, x->depth));
  tn_cpu_block_unpack(x->k, x->tw.dtype, packed_panel(x, l.iv), x->depth, x->tiles, ll_at(e, x->b_stage, to));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* ---- tiles ---- */
/* The root's value in the epilogue: from the tile. */
static ll_val give_product(void *ctx, const tn_ll_index *ix) {
  experts *x = ctx;
  tn_ll *e = x->k->e;
  if (x->zero) return ll_zero(ll_vec(e, e->f32));
  ll_val row = ll_imul(e, x->tile_row0, ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4));
  ll_val col = ll_imul(e, ll_sub(e, ix->at[2].v, x->n0), ll_k(e, 4));
  return ll_load(e, ll_vec(e, e->f32), ll_at(e, x->tile, ll_iadd(e, row, col)), 4);
}

/* Columns n0 .. group_end of the results of order[r0 .. r1). */
static void finish_tile(experts *x, ll_val r0, ll_val r1) {
  tn_ll *e = x->k->e;
  ll_loop rows, cols;
  ll_loop_begin(e, &rows, r0, r1, ll_k(e, 1), NULL, 0);
  ll_val slot = get(x, x->order, rows.iv), token = ll_udiv(e, slot, x->used),
         which = ll_urem(e, slot, x->used);
  ll_loop_begin(e, &cols, x->n0, x->group_end, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->tile_row0 = ll_sub(e, rows.iv, r0);
  tn_ll_index ix = {.rank = 3, .shape = x->to.dims, .flat = slot};
  ix.at[0] = tn_ll_ix_scalar(token);
  ix.at[1] = tn_ll_ix_scalar(which);
  ix.at[2] = tn_ll_ix_lanes(cols.iv, true);
  if (!tn_ll_dim_multiple(&x->k->body, x->to.dims[2], e->lanes))
    ix.mask = ll_mask_below(e, ll_sub(e, x->n, cols.iv));
  tn_cpu_store_yields(x->k, &ix);
  ll_loop_end(e, &cols, NULL);
  ll_loop_end(e, &rows, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* Do panels go through scratch? */
static bool staged(const experts *x) { return !x->packed || x->dt != x->pdt; }

/* Block `i` of `blocks` of the gathered rows, [r0, r1), against the panels from n0. */
static void multiply(experts *x, ll_val i, ll_val blocks, ll_val r0, ll_val r1) {
  tn_ll *e = x->k->e;
  ll_val panel = ll_udiv(e, x->n0, ll_k(e, TN_CPU_PANEL));
  tn_cpu_tile t = {.depth = x->depth, .a_stride = x->a_stride, .c = x->tile, .dot = x->dot};
  if (x->packed && x->pdt == TN_DT_bf16) t.depth = ll_and(e, ll_iadd(e, x->depth, ll_k(e, 1)), ll_k(e, -2));
  t.a = ll_at(e, x->a_stage, ll_imul(e, ll_sub(e, r0, x->first), x->a_stride));
  t.c_stride = ll_k(e, (int64_t)x->panels * TN_CPU_PANEL * 4);
  t.panel_stride = tn_cpu_panel_bytes(x->k, x->dt, x->depth);
  t.np = x->packed ? ll_sub(e, x->all, panel) : ll_k(e, x->panels);
  t.b = staged(x) ? x->b_stage : packed_panel(x, panel);
  if (!staged(x) && x->panels == x->k->u->isa->panels) { /* together they bring in the panels that follow */
    ll_val from = ll_mul(e, tn_cpu_ahead_step(x->k, x->dt, x->depth, blocks, &t.ahead_step), i);
    t.ahead = ll_at(e, t.b, ll_add(e, ll_mul(e, t.panel_stride, ll_k(e, x->panels)), from));
  }
  tn_cpu_few_shape s = {x->max_rows, x->panels};
  if (x->tiles)
    tn_cpu_amx_call(x->k, ll_sub(e, r1, r0), &t);
  else if (x->few)
    tn_cpu_few_call(x->k, x->dt, s, ll_sub(e, r1, r0), &t);
  else
    tn_cpu_tile_call(x->k, x->dt, x->panels, x->max_rows, ll_sub(e, r1, r0), &t);
  finish_tile(x, r0, r1);
}

/* Where block i of the gathered rows begins: blocks of nearly equal height, or whole tiles. */
static ll_val block_start(experts *x, ll_val rows, ll_val i, ll_val blocks) {
  tn_ll *e = x->k->e;
  if (!x->tiles) return ll_add(e, x->first, ll_udiv(e, ll_mul(e, rows, i), blocks));
  return ll_imin(e, ll_add(e, x->first, ll_mul(e, i, ll_k(e, x->max_rows))), x->end);
}

/* The gathered rows against the panels from n0. */
static void group(experts *x) {
  tn_ll *e = x->k->e;
  ll_val rows = ll_sub(e, x->end, x->first), blocks = ll_ceildiv(e, rows, ll_k(e, x->max_rows));
  if (!x->packed)
    stage_columns(x);
  else if (staged(x))
    stage_blocks(x);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  ll_val next = ll_add(e, l.iv, ll_k(e, 1));
  multiply(x, l.iv, blocks, block_start(x, rows, l.iv, blocks), block_start(x, rows, next, blocks));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* ---- the walk over experts ---- */
/* The most rows gathered at a time: what fits the cache. */
static int64_t rows_limit(experts *x) {
  int64_t depth, mr = x->amx ? TN_CPU_AMX_ROWS : x->k->u->isa->mr, limit = 4 * mr, most = x->amx ? 8 : 16;
  if (tn_ll_dim_const(&x->k->body, x->tw.dims[2], &depth) && depth > 0)
    limit = BLOCK_BYTES / ((x->amx ? 2 : 4) * depth) / mr * mr;
  return limit < 2 * mr ? 2 * mr : limit > most * mr ? most * mr : limit;
}

/* How an expert's rows meet its panels: read as this type, so many rows and panels at a time. */
typedef struct path {
  tn_dtype dt;
  uint32_t panels, max_rows;
  bool few, tiles;
} path;

static ll_val row_stride(experts *x, const path *p) {
  tn_ll *e = x->k->e;
  if (p->tiles) return ll_iadd(e, tn_cpu_amx_row(x->k, x->depth, 2), ll_k(e, TN_CPU_AMX_LINE));
  if (p->dt < TN_DT_BLOCK) return ll_mul(e, ll_iadd(e, x->depth, ll_k(e, 16)), ll_k(e, 4));
  return p->few ? tn_cpu_few_row_bytes(x->k, p->dt, x->depth) : tn_cpu_block_row_bytes(x->k, p->dt, x->depth);
}

/* This thread's groups of panels of the expert whose slots are order[begin .. end). */
static void expert_groups(experts *x, ll_val begin, ll_val end, ll_val cost, path p) {
  tn_ll *e = x->k->e;
  ll_loop rows, groups;
  bool dot = x->dot;
  x->dt = p.dt;
  x->panels = p.panels;
  x->max_rows = p.max_rows;
  x->few = p.few;
  x->tiles = p.tiles;
  x->dot = p.tiles || dot;
  x->a_stride = row_stride(x, &p);
  ll_val width = ll_k(e, (int64_t)p.panels * TN_CPU_PANEL), none = ll_k(e, 0);
  ll_val all = ll_ceildiv(e, x->n, width), weight = ll_mul(e, cost, ll_k(e, p.panels));
  ll_val from = ll_ceildiv(e, ll_imax(e, ll_sub(e, x->lo, x->base), none), weight);
  ll_val to = ll_imin(e, ll_ceildiv(e, ll_imax(e, ll_sub(e, x->hi, x->base), none), weight), all);
  end = ll_select(e, ll_icmp(e, LLVMIntSLT, from, to), end, begin); /* nothing of it is ours */
  ll_val step = ll_k(e, p.dt >= TN_DT_BLOCK ? TN_CPU_BLOCK_FEW : rows_limit(x));
  ll_loop_begin(e, &rows, begin, end, step, NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->first = rows.iv;
  x->end = ll_imin(e, ll_add(e, rows.iv, step), end);
  gather_rows(x);
  ll_loop_begin(e, &groups, from, to, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  x->n0 = ll_mul(e, groups.iv, width);
  x->group_end = ll_imin(e, ll_add(e, x->n0, width), x->n);
  group(x);
  ll_loop_end(e, &groups, NULL);
  ll_loop_end(e, &rows, NULL);
  x->dot = dot;
  tn_ll_body_forget(&x->k->body);
}

static ll_val cost_of(experts *x, ll_val rows) {
  tn_ll *e = x->k->e;
  ll_val some = ll_icmp(e, LLVMIntSGT, rows, ll_k(e, 0));
  return ll_select(e, some, ll_add(e, rows, ll_k(e, PANEL_COST)), ll_k(e, 0));
}

/* The weight of all panels of all experts: rows that exist, and PANEL_COST for each expert that has some. */
static ll_val total_cost(experts *x) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_val sum = ll_k(e, 0);
  ll_loop_begin(e, &l, ll_k(e, 0), x->count, ll_k(e, 1), &sum, 1);
  ll_val end = get(x, x->starts, ll_add(e, l.iv, ll_k(e, 1)));
  sum = ll_add(e, l.phi[0], cost_of(x, ll_sub(e, end, get(x, x->starts, l.iv))));
  ll_loop_end(e, &l, &sum);
  return ll_mul(e, l.out[0], x->all);
}

static void walk(experts *x) {
  tn_ll *e = x->k->e;
  const tn_cpu_isa *isa = x->k->u->isa;
  tn_cpu_share(x->k, total_cost(x), &x->lo, &x->hi);
  ll_loop l;
  ll_if few;
  ll_val base = ll_k(e, 0);
  ll_loop_begin(e, &l, ll_k(e, 0), x->count, ll_k(e, 1), &base, 1);
  tn_ll_body_forget(&x->k->body);
  x->expert = l.iv;
  x->base = l.phi[0];
  ll_val begin = get(x, x->starts, l.iv), end = get(x, x->starts, ll_add(e, l.iv, ll_k(e, 1)));
  ll_val rows = ll_sub(e, end, begin), cost = cost_of(x, rows);
  ll_val one = ll_imax(e, cost, ll_k(e, 1)); /* no rows: no groups, but no division by 0 either */
  tn_dtype dt = x->pdt;
  bool blocks = dt >= TN_DT_BLOCK;
  path many = {x->packed && !blocks ? dt : TN_DT_f32, isa->panels, isa->mr, false, false}, through = many;
  if (x->amx) many = (path){TN_DT_bf16, TN_CPU_AMX_PANELS, TN_CPU_AMX_ROWS, false, true};
  if (x->packed && tn_cpu_few_handled(x->k->u, dt)) {
    tn_cpu_few_shape s = tn_cpu_few_shape_of(x->k, dt);
    through = (path){dt, s.panels, s.rows, true, false};
  } else if (blocks && x->packed) {
    through = (path){dt, tn_cpu_block_panels(isa, dt), isa->block_rows, false, false};
  }
  if (!x->packed) {
    expert_groups(x, begin, end, one, many);
  } else {
    ll_val limit = ll_k(e, blocks ? TN_CPU_BLOCK_FEW : isa->stream_rows);
    ll_if_begin(e, &few, ll_icmp(e, LLVMIntSLE, rows, limit));
    expert_groups(x, begin, end, one, through);
    ll_if_else(e, &few);
    tn_ll_body_forget(&x->k->body);
    expert_groups(x, begin, end, one, many);
    ll_if_end(e, &few);
  }
  tn_ll_body_forget(&x->k->body);
  base = ll_add(e, x->base, ll_mul(e, cost, x->all));
  ll_loop_end(e, &l, &base);
  tn_ll_body_forget(&x->k->body);
}

/* Slots whose expert does not exist. */
static void write_zeros(experts *x) {
  tn_ll *e = x->k->e;
  ll_val begin = get(x, x->starts, x->count), lo, hi;
  tn_cpu_share(x->k, ll_sub(e, x->slots, begin), &lo, &hi);
  x->n0 = ll_k(e, 0);
  x->group_end = x->n;
  x->zero = true;
  finish_tile(x, ll_add(e, begin, lo), ll_add(e, begin, hi));
  x->zero = false;
}

static void read_operands(experts *x) {
  tn_cpu_kernel *k = x->k;
  x->x = tn_cpu_operand(k, 0);
  x->w = tn_cpu_operand(k, 1);
  x->ids = tn_cpu_operand(k, 2);
  x->out = tn_cpu_result(k, 0);
  x->tx = tn_cpu_type(k, x->x);
  x->tw = tn_cpu_type(k, x->w);
  x->ti = tn_cpu_type(k, x->ids);
  x->to = tn_cpu_type(k, x->out);
  x->packed = x->tw.layout && tn_cpu_arg_buffer(k, x->w);
  x->pdt = x->packed && tn_ll_layout_pairs(x->tw.layout) ? TN_DT_bf16 : x->tw.dtype;
  bool fast = x->packed && k->u->isa->bf16 && k->u->precision == TN_CPU_FAST;
  x->dot = fast && x->pdt == TN_DT_bf16;
  x->amx = fast && k->u->isa->amx && (x->dot || x->tw.dtype >= TN_DT_BLOCK);
  const char *wants = x->tw.dtype >= TN_DT_BLOCK ? TN_BLOCK_LAYOUT
                      : x->pdt == TN_DT_bf16     ? "panel16p2"
                                                 : "panel16";
  if (x->tw.layout && strcmp(x->tw.layout, wants))
    tn_ll_fail(k->e, "expert_matmul does not read layout '%s'", x->tw.layout);
  x->used = tn_ll_dim(&k->body, x->ti.dims[1]);
  x->slots = tn_ll_dims(&k->body, x->ti.dims, 0, 2);
  x->count = tn_ll_dim(&k->body, x->tw.dims[0]);
  x->n = tn_ll_dim(&k->body, x->tw.dims[1]);
  x->depth = tn_ll_dim(&k->body, x->tw.dims[2]);
  x->all = ll_ceildiv(k->e, x->n, ll_k(k->e, TN_CPU_PANEL));
}

/* Scratch for the order, for rows of x and for panels. */
static void ask_scratch(experts *x) {
  tn_cpu_kernel *k = x->k;
  tn_dim depth = x->tw.dims[2], panels = tn_cpu_dim_k(k, (int64_t)k->u->isa->panels * TN_CPU_PANEL);
  tn_dim row = tn_cpu_dim_add(k, depth, tn_cpu_dim_k(k, 32));
  tn_dim few = tn_cpu_dim_add(k, tn_cpu_dim_mul(k, depth, tn_cpu_dim_k(k, 2)), tn_cpu_dim_k(k, 32));
  tn_dim rows = tn_cpu_dim_mul(k, row, tn_cpu_dim_k(k, rows_limit(x)));
  few = tn_cpu_dim_mul(k, few, tn_cpu_dim_k(k, TN_CPU_BLOCK_FEW));
  bool blocks = x->tw.dtype >= TN_DT_BLOCK;
  if (blocks) rows = k->u->ir->dim_make(k->u->m, TN_DIM_MAX, rows, few);
  x->a_stage = tn_cpu_scratch(k, rows, 4);
  x->starts = tn_cpu_scratch(k, tn_cpu_dim_add(k, x->tw.dims[0], tn_cpu_dim_k(k, 3)), 8);
  x->order = tn_cpu_scratch(k, tn_cpu_dim_mul(k, x->ti.dims[0], x->ti.dims[1]), 8);
  if (!x->packed || blocks) x->b_stage = tn_cpu_scratch(k, tn_cpu_dim_mul(k, depth, panels), 4);
}

void tn_cpu_emit_expert_matmul(tn_cpu_kernel *k) {
  const tn_cpu_isa *isa = k->u->isa;
  experts x = {.k = k};
  read_operands(&x);
  ask_scratch(&x);
  uint32_t cells = isa->mr * isa->panels;
  uint32_t blocks = isa->block_rows * isa->block_panels;
  tn_cpu_few_shape few = tn_cpu_few_shape_of(k, x.pdt);
  if (blocks > cells) cells = blocks;
  if (few.rows * few.panels > cells) cells = few.rows * few.panels;
  if (x.amx && TN_CPU_AMX_ROWS * TN_CPU_AMX_PANELS > cells) cells = TN_CPU_AMX_ROWS * TN_CPU_AMX_PANELS;
  x.tile = ll_alloca(k->e, cells * TN_CPU_PANEL * 4);
  tn_ll_body_give(&k->body, x.out, give_product, &x);
  sort_slots(&x);
  if (x.amx) tn_cpu_amx_begin(k);
  walk(&x);
  if (x.amx) tn_cpu_amx_end(k);
  write_zeros(&x);
}
